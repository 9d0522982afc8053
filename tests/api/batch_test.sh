#!/usr/bin/env bash
# POST /batch: all or nothing under one revision, conditions with every failure named, gets from before
# the writes, values byte for byte, and what is refused.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start --limits.batch_ops=20 --limits.batch_bytes=20000 --limits.value_bytes=10000 \
    --limits.json_bytes=10000 --limits.key_bytes=100

batch() {
    printf %s "$1" >"$WORK/batch"
    shift
    req POST /batch --data-binary "@$WORK/batch" "$@"
}
# stored KEY 'bytes': what the key holds.
stored() {
    req GET "/kv/$1"
    expect_status 200
    expect_body "$2"
}

echo "the example of the documentation"
batch '{"ops":[{"op":"put","key":"a","value":{"n":1},"ttl":"60s","if_none_match":"*"},
    {"op":"put","key_b64":"/w==","value_b64":"AAE=","content_type":"image/png"},
    {"op":"delete","key":"b"},{"op":"get","key":"d"}]}' -H 'Content-Type: application/json'
expect_status 200
expect_json '.results == [{"created":true},{"created":true},{"deleted":false},{"missing":true}]'
first=$(jq .revision "$WORK/body")
expect_header Storm-Revision "$first"
req GET /kv/a
expect_header ETag "\"$first\""
expect_header Storm-Expires-At '.+'
req GET /kv/%ff
expect_header ETag "\"$first\""
expect_header Content-Type image/png
check "Base64 is decoded" cmp <(printf '\000\001') "$WORK/body"

echo "one revision for all, and the next one for the next"
batch '{"ops":[{"op":"put","key":"a","value":2},{"op":"delete","key_b64":"/w=="}]}'
expect_json ".revision == $((first + 1)) and .results == [{\"created\":false},{\"deleted\":true}]"
req GET /kv/%ff
expect_status 404

echo "values are stored as they stand in the request"
values=(0.1 1.10 1e2 -0 12345678901234567890 1e-400 '"\u00e9\/"' '"\u0000"' '[ 1 ,  2]'
    '{ "a" : 1, "a":2 , "q":"}]\"" }' null true)
n=0
ops=
for value in "${values[@]}"; do
    ops+="${ops:+ , }{ \"op\" : \"put\" , \"value\" :  $value , \"key\":\"v$n\" }"
    n=$((n + 1))
done
batch "{ \"ops\" : [ $ops ] }"
expect_status 200
for ((i = 0; i < n; i++)); do stored "v$i" "${values[$i]}"; done

echo "keys as JSON strings have them"
batch '{"ops":[{"op":"put","key":"\u0061\ud83d\ude00\n\"\\\u0000é/","value":7}]}'
expect_status 200
stored '%61%F0%9F%98%80%0A%22%5C%00%C3%A9/' 7

echo "conditions: nothing happens, and each that failed is named"
req PUT /kv/c1 -d 1
c1=$(jq .revision "$WORK/body")
batch '{"ops":[{"op":"put","key":"new","value":1},{"op":"put","key":"c1","value":2,"if_none_match":"*"},
    {"op":"check","key":"none","if_match":"9"},{"op":"get","key":"c1"},
    {"op":"delete","key":"c1","if_match":"999999"},{"op":"get","key":"none","if_match":"*"}]}'
expect_problem 412 precondition_failed
expect_json ".failed == [{\"index\":1,\"key\":\"c1\",\"current_revision\":$c1},
    {\"index\":2,\"key\":\"none\",\"current_revision\":null},
    {\"index\":4,\"key\":\"c1\",\"current_revision\":$c1},
    {\"index\":5,\"key\":\"none\",\"current_revision\":null}]"
req GET /kv/new
expect_status 404
stored c1 1
for tag in "\"$c1\"" "$c1" "\"\\\"$c1\\\"\"" "\"\\\"$c1-gz\\\", \\\"7\\\"\"" '"*"'; do
    batch "{\"ops\":[{\"op\":\"check\",\"key\":\"c1\",\"if_match\":$tag,\"if_none_match\":\"7777\"}]}"
    expect_status 200
    expect_json '.results == [{"ok":true}]'
done
batch "{\"ops\":[{\"op\":\"check\",\"key\":\"c1\",\"if_match\":\"*\",\"if_none_match\":\"$c1\"}]}"
expect_problem 412 precondition_failed
expect_json '.failed | length == 1'
check "a batch of checks takes no revision" test "$(
    batch "{\"ops\":[{\"op\":\"check\",\"key\":\"c1\",\"if_match\":\"*\"}]}"
    jq .revision "$WORK/body"
)" -eq "$c1"

echo "gets see what was there before; of several writes the last one wins"
batch '{"ops":[{"op":"put","key":"c1","value":2},{"op":"get","key":"c1"},{"op":"put","key":"c1","value":3},
    {"op":"delete","key":"x1"},{"op":"put","key":"x1","value":1},{"op":"put","key":"x2","value":1},
    {"op":"delete","key":"x2"},{"op":"get","key_b64":"YQ=="}]}'
expect_status 200
expect_json ".results[1].value == 1 and .results[1].revision == $c1 and .results[7].value == 2 and
    (.results[1].modified_at | type) == \"string\" and .results[1].expires_at == null"
stored c1 3
stored x1 1
req GET /kv/x2
expect_status 404
req PUT /kv/t -H 'Content-Type: text/plain' -d 'a text'
batch '{"ops":[{"op":"get","key":"t"},{"op":"get","key":"v1"}]}'
expect_json '(.results[0].value_b64 | @base64d) == "a text" and .results[0].content_type == "text/plain"'
check "what is read is as it was stored" grep -qF '{"value":1.10,' "$WORK/body"

echo "return=minimal does not look"
batch '{"ops":[{"op":"put","key":"m","value":1},{"op":"delete","key":"m2"}]}' -H 'Prefer: return=minimal'
expect_status 204
expect_header Storm-Revision '[0-9]+'
batch '{"ops":[{"op":"put","key":"m","value":1},{"op":"get","key":"m"}]}' -H 'Prefer: return=minimal'
expect_status 200
expect_json '.results[0] == {"ok":true} and .results[1].value == 1'
req POST '/batch?sync=true' -d '{"ops":[{"op":"put","key":"m","value":2}]}'
expect_status 200

echo "expiry"
batch '{"ops":[{"op":"put","key":"e1","value":1,"expires_at":"2099-01-02T03:04:05.678Z"},
    {"op":"put","key":"e2","value":1,"ttl":"1h"},{"op":"put","key":"a","value":1,"ttl":"none"}]}'
expect_status 200
req GET /kv/e1
expect_header Storm-Expires-At '2099-01-02T03:04:05\.678Z'
req GET /kv/e2
expect_header Storm-Expires-At '.+'
req GET /kv/a
expect_no_header Storm-Expires-At

echo "content types"
batch '{"ops":[{"op":"put","key":"ct1","value":{"a":1},"content_type":"application/vnd.a+json"},
    {"op":"put","key":"ct2","value_b64":"eyJhIjoxfQ==","content_type":"application/json"},
    {"op":"put","key":"ct3","value_b64":""}]}'
expect_status 200
req GET /kv/ct1
expect_header Content-Type 'application/vnd\.a\+json'
req GET /kv/ct2
expect_header Content-Type application/json
req GET /kv/ct3
expect_header Content-Type application/octet-stream
expect_header Content-Length 0

# refused STATUS CODE 'operation' 'jq': as the second one, behind a put that must then not happen.
refused() {
    batch "{\"ops\":[{\"op\":\"put\",\"key\":\"r\",\"value\":1},$3]}"
    expect_problem "$1" "$2"
    expect_json "${4:-.index == 1}"
}
echo "what is refused, with the place of it"
refused 400 unknown_field '{"op":"put","key":"a","valu":1}' '.index == 1 and .did_you_mean == "value"'
refused 400 invalid_field '{"op":"put","key":"a"}' '.field == "value"'
refused 400 invalid_field '{"op":"put","key":"a","value":1,"value_b64":""}'
refused 400 invalid_field '{"op":"put","key":"a","key_b64":"YQ==","value":1}' '.field == "key"'
refused 400 invalid_field '{"op":"put","value":1}'
refused 400 invalid_field '{"op":"get","key":"a","ttl":"5s"}' '.index == 1 and .field == "ttl"'
refused 400 invalid_field '{"op":"check","key":"a"}' '.field == "if_match"'
refused 400 invalid_field '{"op":"get","key":"a","key":"b"}'
refused 400 invalid_field '{"op":"puts","key":"a","value":1}' '.field == "op"'
refused 400 invalid_field '{"key":"a","value":1}' '.field == "op"'
refused 400 invalid_field '{"op":"get","key":1}'
refused 400 invalid_field '{"op":"get","key_b64":"YQ"}' '.field == "key_b64"'
refused 400 invalid_field '{"op":"get","key_b64":"Y!=="}'
refused 400 invalid_field '{"op":"put","key":"a","value":1,"ttl":"soon"}' '.field == "ttl"'
refused 400 invalid_field '{"op":"put","key":"a","value":1,"ttl":"keep"}'
refused 400 invalid_field '{"op":"put","key":"a","value":1,"expires_at":"1999-01-01T00:00:00Z"}'
refused 400 invalid_field '{"op":"put","key":"a","value":1,"ttl":"1s","expires_at":"2099-01-01T00:00:00Z"}'
refused 400 invalid_field '{"op":"put","key":"a","value":1,"if_match":"x"}' '.field == "if_match"'
refused 400 invalid_field '{"op":"put","key":"a","value":1,"if_match":true}'
refused 400 invalid_field '{"op":"put","key":"a","value":1,"if_match":[1]}'
refused 400 invalid_field '{"op":"put","key":"a","value":1,"content_type":"text/plain"}'
refused 400 invalid_field '7'
refused 400 invalid_key '{"op":"get","key":""}'
refused 400 invalid_json '{"op":"put","key":"a","value_b64":"eyJh","content_type":"application/json"}'
refused 415 unsupported_media_type '{"op":"put","key":"a","value_b64":"","content_type":"multipart/x"}'
refused 413 key_too_long "{\"op\":\"get\",\"key\":\"$(printf '%0101d' 0)\"}" '.index == 1 and .limit_bytes == 100'
refused 413 value_too_large "{\"op\":\"put\",\"key\":\"a\",\"value\":\"$(printf '%010001d' 0)\"}" \
    '.index == 1 and .limit_bytes == 10000 and (.hint | test("limits.json_bytes"))'
req GET /kv/r
expect_status 404
for body in '[]' '{}' '{"ops":{}}' '{"ops":[]}' '{"ops":[{"op":"get","key":"a"}],"ops":[]}' '1'; do
    batch "$body"
    expect_problem 400 invalid_field
done
batch '{"ops":[{"op":"get","key":"a"}],"syn":1}'
expect_problem 400 unknown_field
batch '{"ops":[{"op":"get","key":"a"}]'
expect_problem 400 invalid_json
batch ''
expect_problem 400 invalid_json
batch '{"ops":[]}' -H 'Content-Type: text/plain'
expect_problem 415 unsupported_media_type
batch '{"ops":[]}' -H 'If-Match: "1"'
expect_problem 400 unsupported_precondition
req POST '/batch?synk=true' -d '{"ops":[]}'
expect_problem 400 unknown_parameter

echo "limits"
many=$(printf '{"op":"put","key":"l","value":1},%.0s' {1..19})
batch "{\"ops\":[$many{\"op\":\"put\",\"key\":\"l20\",\"value\":1}]}"
expect_status 200
batch "{\"ops\":[$many$many{\"op\":\"put\",\"key\":\"l39\",\"value\":1}]}"
expect_problem 413 batch_too_large
expect_json '(.hint | test("limits.batch_ops")) and (.detail | test("20 operations"))'
req GET /kv/l39
expect_status 404
batch "{\"ops\":[{\"op\":\"put\",\"key\":\"l\",\"value\":\"$(printf '%020000d' 0)\"}]}"
expect_problem 413 batch_too_large
expect_json '.limit_bytes == 20000 and (.hint | test("STORM_LIMITS_BATCH_BYTES"))'
batch "{\"ops\":[{\"op\":\"put\",\"key\":\"l\",\"value\":\"$(printf '%020000d' 0)\"}]}" \
    -H 'Transfer-Encoding: chunked'
expect_problem 413 batch_too_large
req PUT /kv/large --data-binary "\"$(printf '%09000d' 0)\""
batch '{"ops":[{"op":"get","key":"large"},{"op":"get","key":"large"}]}'
expect_status 200
batch '{"ops":[{"op":"get","key":"large"},{"op":"get","key":"large"},{"op":"get","key":"large"}]}'
expect_problem 413 batch_too_large

echo "compressed in, compressed out"
printf '{"ops":[{"op":"put","key":"z","value":[ 1.10 ]}]}' | gzip >"$WORK/batch.gz"
req POST /batch -H 'Content-Encoding: gzip' --data-binary "@$WORK/batch.gz"
expect_status 200
stored z '[ 1.10 ]'
batch '{"ops":[{"op":"get","key":"large"}]}' -H 'Accept-Encoding: gzip'
expect_header Content-Encoding gzip
expect_header Vary Accept-Encoding
gzip -dc <"$WORK/body" >"$WORK/plain"
check "it decompresses to the results" jq -e '.results[0].value | length == 9000' "$WORK/plain" \
    >"$WORK/out"

echo "all of it is there after kill -9"
storm_kill
storm_start
stored c1 3
stored v1 1.10
stored z '[ 1.10 ]'
finish
