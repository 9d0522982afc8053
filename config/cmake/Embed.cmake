# Turn a file into a C array at build time:
#   cmake -DINPUT=openapi.yaml -DOUTPUT=openapi.c -DNAME=api_openapi_yaml -DHEADER=openapi.h -P Embed.cmake
file(READ "${INPUT}" bytes HEX)
string(LENGTH "${bytes}" size)
math(EXPR size "${size} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
# 16 bytes on a line keep the file readable for those who open it.
string(REGEX REPLACE "((0x..,){16})" "\\1\n    " bytes "${bytes}")
file(WRITE "${OUTPUT}" "#include \"${HEADER}\"\n
const uint8_t ${NAME}[] = {
    ${bytes}0x00};
const size_t ${NAME}_size = ${size};
")
