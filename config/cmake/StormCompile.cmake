# Compiler and linker flags of every target: warnings, hardening, sanitizers, coverage.
# Targets take them by linking storm_flags.
include(CheckCCompilerFlag)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)

add_library(storm_flags INTERFACE)
target_compile_definitions(storm_flags INTERFACE _GNU_SOURCE)
target_compile_options(storm_flags INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wvla
  -Wformat=2 -Werror=format-security -fno-omit-frame-pointer)
if(STORM_WERROR)
  target_compile_options(storm_flags INTERFACE -Werror)
endif()

# Hardening after the OpenSSF compiler options guide. Fortify needs an optimised build and
# hides reports from the sanitizers, so it is off there.
target_compile_options(storm_flags INTERFACE -fstack-protector-strong)
target_link_options(storm_flags INTERFACE -Wl,-z,relro,-z,now -Wl,-z,noexecstack)
foreach(flag -fstack-clash-protection -fcf-protection=full)
  string(MAKE_C_IDENTIFIER "HAVE${flag}" have)
  check_c_compiler_flag(${flag} ${have})
  if(${have})
    target_compile_options(storm_flags INTERFACE ${flag})
  endif()
endforeach()
if(NOT STORM_SANITIZE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
  target_compile_options(storm_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
endif()

if(STORM_SANITIZE STREQUAL "address")
  target_compile_options(storm_flags INTERFACE
    -fsanitize=address,undefined -fno-sanitize-recover=all)
  target_link_options(storm_flags INTERFACE -fsanitize=address,undefined)
elseif(STORM_SANITIZE STREQUAL "thread")
  target_compile_options(storm_flags INTERFACE -fsanitize=thread)
  target_link_options(storm_flags INTERFACE -fsanitize=thread)
elseif(STORM_SANITIZE)
  message(FATAL_ERROR "STORM_SANITIZE is '${STORM_SANITIZE}'; it takes address, thread, or nothing.")
endif()

if(STORM_COVERAGE)
  target_compile_options(storm_flags INTERFACE --coverage -O0)
  target_link_options(storm_flags INTERFACE --coverage)
endif()

# libFuzzer steers by the coverage of what it tests: the library needs its counters too.
if(STORM_BUILD_FUZZERS)
  target_compile_options(storm_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
