#!/usr/bin/env bash
# gzip both ways: what is compressed and for whom, its tag, its HEAD; bodies that come compressed, bombs,
# and streams that are broken.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start --limits.json_bytes=300000 --limits.value_bytes=500000
GZIP='Accept-Encoding: gzip'

# A JSON text of so many bytes.
text() { printf '"%0*d"' $(($1 - 2)) 7; }

echo "values of text from 1 KiB on, for those who take it"
text 1024 >"$WORK/1k"
text 200000 >"$WORK/200k"
for size in 1k 200k; do
    req PUT "/kv/$size" --data-binary "@$WORK/$size"
    tag=$(header ETag)
    req GET "/kv/$size"
    expect_header ETag "$tag"
    expect_no_header Content-Encoding
    expect_header Vary Accept-Encoding
    check "unasked it comes as it is" cmp "$WORK/$size" "$WORK/body"
    req GET "/kv/$size" -H "$GZIP"
    expect_status 200
    expect_header Content-Encoding gzip
    expect_header Content-Type application/json
    expect_header ETag "${tag%\"}-gz\""
    expect_header Vary Accept-Encoding
    gzip -dc <"$WORK/body" >"$WORK/plain"
    check "it decompresses to the value" cmp "$WORK/$size" "$WORK/plain"
    check "it is smaller" test "$(wc -c <"$WORK/body")" -lt 1000
    cp "$WORK/body" "$WORK/once"
    length=$(header Content-Length)
    req GET "/kv/$size" -H "$GZIP"
    check "the same tag means the same bytes" cmp "$WORK/once" "$WORK/body"
    req HEAD "/kv/$size" -H "$GZIP"
    expect_status 200
    expect_header Content-Encoding gzip
    expect_header ETag "${tag%\"}-gz\""
    expect_header Vary Accept-Encoding
    check_equal "HEAD has the length of GET" "$(header Content-Length)" "$length"
done
for accept in 'gzip;q=0' 'identity' 'br, deflate' 'gzip;q=0.5, identity' '*;q=0' 'gzip; q=0.000' \
    'gzip;q=0, *' ''; do
    req GET /kv/1k -H "Accept-Encoding: $accept"
    expect_no_header Content-Encoding
done
for accept in 'GZip' 'br;q=1.0, gzip;q=0.8, *;q=0.1' '*' 'x-gzip' 'gzip;q=0.5, identity;q=0.5' \
    'deflate,gzip' 'gzip ; q=1'; do
    req GET /kv/1k -H "Accept-Encoding: $accept"
    expect_header Content-Encoding gzip
done
text 1023 >"$WORK/short"
req PUT /kv/short --data-binary "@$WORK/short"
req GET /kv/short -H "$GZIP"
expect_no_header Content-Encoding
expect_no_header Vary
for type in 'text/plain; charset=utf-8' application/vnd.a+json image/svg+xml application/xml; do
    req PUT /kv/typed -H "Content-Type: $type" --data-binary "@$WORK/1k"
    req GET /kv/typed -H "$GZIP"
    expect_header Content-Encoding gzip
done
for type in image/png application/octet-stream application/gzip; do
    req PUT /kv/typed -H "Content-Type: $type" --data-binary "@$WORK/1k"
    req GET /kv/typed -H "$GZIP"
    expect_no_header Content-Encoding
    expect_no_header Vary
done
head -c 60000 /dev/urandom | base64 -w0 >"$WORK/random"
req PUT /kv/random -H 'Content-Type: text/plain' --data-binary "@$WORK/random"
req GET /kv/random -H "$GZIP"
gzip -dc <"$WORK/body" >"$WORK/plain"
check "what hardly shrinks is whole as well" cmp "$WORK/random" "$WORK/plain"

echo "conditions take either tag"
req GET /kv/1k -H "$GZIP"
tag=$(header ETag)
plain="${tag%-gz\"}\""
for size in 1k 200k; do
    req GET "/kv/$size"
    plain=$(header ETag)
    tag="${plain%\"}-gz\""
    req GET "/kv/$size" -H "$GZIP" -H "If-None-Match: $tag"
    expect_status 304
    expect_header ETag "$tag"
    expect_header Vary Accept-Encoding
    req GET "/kv/$size" -H "If-None-Match: $plain"
    expect_status 304
    expect_header ETag "$plain"
    # The tag of a 304 is that of what the client holds.
    req GET "/kv/$size" -H "$GZIP" -H "If-None-Match: $plain"
    expect_status 304
    expect_header ETag "$plain"
    req GET "/kv/$size" -H "$GZIP"
    expect_status 200
done
req GET /kv/1k
tag="$(header ETag)"
tag="${tag%\"}-gz\""
req PUT /kv/1k -H "If-Match: $tag" --data-binary "@$WORK/1k"
expect_status 200
req PUT /kv/1k -H "If-Match: $tag" -d 1
expect_problem 412 precondition_failed
expect_header ETag '"[0-9]+"'

echo "the envelope and the numbers too"
req GET '/kv/1k?meta=true' -H "$GZIP"
expect_header Content-Encoding gzip
gzip -dc <"$WORK/body" >"$WORK/plain"
check "the envelope is whole" jq -e '.value | length == 1022' "$WORK/plain" >"$WORK/out"
req GET /stats -H "$GZIP"
expect_header Content-Encoding gzip
expect_header Vary Accept-Encoding
gzip -dc <"$WORK/body" >"$WORK/plain"
check "the numbers are whole" jq -e .sstable_count "$WORK/plain" >"$WORK/out"

echo "bodies that come compressed"
gzip -c "$WORK/200k" >"$WORK/200k.gz"
for coding in gzip GZIP x-gzip; do
    req PUT /kv/in -H "Content-Encoding: $coding" --data-binary "@$WORK/200k.gz"
    req GET /kv/in
    check "it is stored decompressed" cmp "$WORK/200k" "$WORK/body"
    req DELETE /kv/in
done
req PUT /kv/in -H 'Content-Encoding: gzip' -H 'Transfer-Encoding: chunked' --data-binary "@$WORK/200k.gz"
expect_status 201
printf '[1,' | gzip >"$WORK/two.gz"
printf '2]' | gzip >>"$WORK/two.gz"
req PUT /kv/in -H 'Content-Encoding: gzip' --data-binary "@$WORK/two.gz"
expect_status 200
req GET /kv/in
expect_body '[1,2]'
printf '{"a":' | gzip >"$WORK/bad.gz"
req PUT /kv/in -H 'Content-Encoding: gzip' --data-binary "@$WORK/bad.gz"
expect_problem 400 invalid_json
req PUT /kv/in -H 'Content-Encoding: identity' -d 7
expect_status 200

echo "what expands past the limit"
text 300001 | gzip >"$WORK/over.gz"
req PUT /kv/in -H 'Content-Encoding: gzip' --data-binary "@$WORK/over.gz"
expect_problem 413 value_too_large
expect_json '.limit_bytes == 300000 and (.hint | test("limits.json_bytes"))'
head -c 300000000 /dev/zero | gzip -1 >"$WORK/bomb.gz"
req PUT /kv/in -H 'Content-Encoding: gzip' -H 'Content-Type: text/plain' --data-binary "@$WORK/bomb.gz"
expect_problem 413 value_too_large
req PUT /kv/in -H 'Content-Encoding: gzip' -H 'Content-Type: text/plain' -H 'Transfer-Encoding: chunked' \
    --data-binary "@$WORK/bomb.gz"
expect_problem 413 value_too_large
# Streams that hold nothing, one after another.
gzip </dev/null >"$WORK/nothing.gz"
for ((i = 0; i < 15; i++)); do
    cat "$WORK/nothing.gz" "$WORK/nothing.gz" >"$WORK/more.gz"
    mv "$WORK/more.gz" "$WORK/nothing.gz"
done
req PUT /kv/in -H 'Content-Encoding: gzip' -H 'Transfer-Encoding: chunked' --data-binary "@$WORK/nothing.gz"
expect_problem 413 value_too_large

echo "what is broken"
for cut in 1 9 15 100; do
    head -c "$cut" "$WORK/200k.gz" >"$WORK/cut.gz"
    req PUT /kv/in -H 'Content-Encoding: gzip' --data-binary "@$WORK/cut.gz"
    expect_problem 400 invalid_encoding
done
head -c -1 "$WORK/200k.gz" >"$WORK/cut.gz"
req PUT /kv/in -H 'Content-Encoding: gzip' --data-binary "@$WORK/cut.gz"
expect_problem 400 invalid_encoding
(head -c -8 "$WORK/200k.gz" && printf '\1\2\3\4' && tail -c 4 "$WORK/200k.gz") >"$WORK/sum.gz"
req PUT /kv/in -H 'Content-Encoding: gzip' --data-binary "@$WORK/sum.gz"
expect_problem 400 invalid_encoding
(cat "$WORK/200k.gz" && echo rest) >"$WORK/rest.gz"
req PUT /kv/in -H 'Content-Encoding: gzip' --data-binary "@$WORK/rest.gz"
expect_problem 400 invalid_encoding
req PUT /kv/in -H 'Content-Encoding: gzip' -d '{"plain":1}'
expect_problem 400 invalid_encoding
: >"$WORK/empty"
req PUT /kv/in -H 'Content-Encoding: gzip' --data-binary "@$WORK/empty"
expect_problem 400 invalid_encoding
for coding in br deflate zstd 'gzip, gzip'; do
    req PUT /kv/in -H "Content-Encoding: $coding" -d 1
    expect_problem 415 unsupported_encoding
    expect_header Accept-Encoding gzip
    expect_json '.detail | test("gzip")'
done
req GET /kv/in
expect_body 7
finish
