#!/usr/bin/env bash
# Every error that a client can cause has its status, its code and the one shape; nothing is written;
# the next request is answered.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start --limits.value_bytes=200000 --limits.json_bytes=100000
req PUT /kv/kept -d '"kept"'

echo "invalid JSON"
while IFS= read -r body; do
    req PUT /kv/kept --data-binary "$body"
    expect_problem 400 invalid_json
done <<'BODIES'
{
{"a":}
{'a':1}
[1,]
hello
nul
01
1.
"unfinished
"\x"
"\ud800"
1 2
{"a":1}}
BODIES
req PUT /kv/kept --data-binary ''
expect_problem 400 invalid_json
printf '\xff' >"$WORK/bad"
req PUT /kv/kept --data-binary "@$WORK/bad"
expect_problem 400 invalid_json
req PUT /kv/kept --data-binary '{"name": Ada}'
expect_json '(.detail | test("line 1")) and (.hint | test("text/plain"))'
head -c 5000 /dev/zero | tr '\0' '[' >"$WORK/deep"
req PUT /kv/kept --data-binary "@$WORK/deep"
expect_problem 400 invalid_json

echo "parameters"
req PUT '/kv/kept?tll=1s' -d 1
expect_problem 400 unknown_parameter
expect_json '.did_you_mean == "ttl"'
req GET '/kv/kept?mata=true'
expect_problem 400 unknown_parameter
expect_json '.did_you_mean == "meta"'
req GET '/kv/kept?completely_different=1'
expect_problem 400 unknown_parameter
req GET '/stats?verbose=1'
expect_problem 400 unknown_parameter
req POST '/admin/flush?force=1'
expect_problem 400 unknown_parameter
req GET '/kv/kept?meta=perhaps'
expect_problem 400 invalid_parameter
req PUT '/kv/kept?ttl=1s&expires_at=2099-01-01T00:00:00Z' -d 1
expect_problem 400 invalid_parameter

echo "types and encodings"
req PUT /kv/kept -H 'Content-Type: multipart/form-data; boundary=x' -d 1
expect_problem 415 unsupported_media_type
req PUT /kv/kept -H "Content-Type: text/$(head -c 200 /dev/zero | tr '\0' x)" -d 1
expect_problem 415 unsupported_media_type
req PUT /kv/kept -H 'Content-Encoding: br' -d 1
expect_problem 415 unsupported_encoding

echo "limits"
{
    printf '"'
    head -c 99998 /dev/zero | tr '\0' x
    printf '"'
} >"$WORK/json"
req PUT /kv/fits --data-binary "@$WORK/json"
expect_status 201
printf ' ' >>"$WORK/json"
req PUT /kv/kept --data-binary "@$WORK/json"
expect_problem 413 value_too_large
expect_json '.limit_bytes == 100000 and (.hint | test("limits.json_bytes"))'
head -c 200000 /dev/zero >"$WORK/bytes"
req PUT /kv/fits -H 'Content-Type: application/octet-stream' --data-binary "@$WORK/bytes"
expect_status 200
printf x >>"$WORK/bytes"
req PUT /kv/kept -H 'Content-Type: application/octet-stream' --data-binary "@$WORK/bytes"
expect_problem 413 value_too_large
expect_json '.limit_bytes == 200000'
req PUT /kv/kept -H 'Content-Type: application/octet-stream' -H 'Transfer-Encoding: chunked' \
    --data-binary "@$WORK/bytes"
expect_problem 413 value_too_large
# Nothing of a body that is too large is read: a client that asks first is refused at once.
answer=$(raw 'PUT /kv/kept HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n' 3)
check "413 comes before the upload" grep -q '^HTTP/1.1 413 ' <<<"$answer"
CHECKS=$((CHECKS + 1))
grep -q '100 Continue' <<<"$answer" && fail "100 Continue was sent before 413"

echo "routes and methods"
for path in /nothing /KV /kvx /admin /admin/flush/ /Stats //stats /stats/ /openapi /admin/../stats; do
    req GET "$path"
    expect_problem 404 route_not_found
done
req GET /admin/flush
expect_problem 405 method_not_allowed
expect_header Allow POST
for method in CONNECTX LINK TRACE BREW; do
    req "$method" /kv/kept
    expect_problem 405 method_not_allowed
    expect_header Allow '.*GET.*'
    expect_header Allow '.*HEAD.*'
    expect_header Allow '.*PUT.*'
    expect_header Allow '.*DELETE.*'
done
for path in /stats /healthz /readyz /openapi.yaml /version /; do
    req DELETE "$path"
    expect_problem 405 method_not_allowed
    expect_header Allow '(GET, ?HEAD|HEAD, ?GET)'
done

echo "after all of that nothing has changed"
req GET /kv/kept
expect_status 200
expect_body '"kept"'
finish
