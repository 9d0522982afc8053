#!/usr/bin/env bash
# One key, one value: create, replace, read, delete; the headers that go with them; bytes that come
# back exactly as they went in; conditions; expiry; the entry envelope.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start

echo "create, read, replace, delete"
req PUT /kv/user:1 -d '{"name":"Ada"}'
expect_status 201
expect_header Content-Type 'application/json.*'
expect_json '.key == "user:1" and .created == true and (.revision | type) == "number"'
first=$(jq .revision "$WORK/body")
expect_header ETag "\"$first\""
expect_header Storm-Revision "$first"
expect_no_header Storm-Expires-At

req GET /kv/user:1
expect_status 200
expect_body '{"name":"Ada"}'
expect_header Content-Type application/json
expect_header Content-Length 14
expect_header ETag "\"$first\""
expect_header Storm-Revision "$first"
expect_header Last-Modified '(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT'
expect_header Cache-Control no-cache
expect_header X-Content-Type-Options nosniff
expect_header Content-Security-Policy "sandbox; default-src 'none'"
expect_header X-Request-Id '.+'

req HEAD /kv/user:1
expect_status 200
expect_header Content-Length 14
expect_header Content-Type application/json
expect_header ETag "\"$first\""

req PUT /kv/user:1 -d '[]'
expect_status 200
expect_json '.key == "user:1" and .created == false'
second=$(jq .revision "$WORK/body")
check "a write takes a higher revision" test "$second" -gt "$first"
req GET /kv/user:1
expect_body '[]'
expect_header ETag "\"$second\""

req DELETE /kv/user:1
expect_status 204
expect_header Storm-Revision '[0-9]+'
check "a deletion takes a revision too" test "$(header Storm-Revision)" -gt "$second"
req GET /kv/user:1
expect_problem 404 key_not_found
req HEAD /kv/user:1
expect_status 404
req DELETE /kv/user:1
expect_problem 404 key_not_found

echo "values come back byte for byte"
n=0
while IFS= read -r value; do
    n=$((n + 1))
    req PUT "/kv/bytes/$n" --data-binary "$value"
    expect_status 201
    req GET "/kv/bytes/$n"
    expect_status 200
    expect_body "$value"
done <<'VALUES'
1.10
1e2
1E+02
-0
-0.0
0.1
12345678901234567890
123456789012345678901234567890.5
1e-400
"\u00e9"
"é"
"\u0000"
"\ud83d\ude00"
"\/"
""
"a\tb"
null
true
false
{}
[]
 [ 1 , 2 ]  
{"a":1,"a":2}
{"b":1,"a":2}
{ "z" : { } , "a" : [ ] }
VALUES
printf '\n{\r\n\t"a": 1\n}\n\n' >"$WORK/white"
req PUT /kv/white --data-binary "@$WORK/white"
expect_status 201
req GET /kv/white
check "white space is kept" cmp "$WORK/white" "$WORK/body"

echo "other types are bytes"
head -c 100000 /dev/urandom >"$WORK/random"
req PUT /kv/random -H 'Content-Type: image/png' --data-binary "@$WORK/random"
expect_status 201
req GET /kv/random
expect_header Content-Type image/png
check "random bytes are kept" cmp "$WORK/random" "$WORK/body"
req PUT /kv/text -H 'Content-Type: text/plain; charset=utf-8' -d 'hello, not JSON'
expect_status 201
req GET /kv/text
expect_header Content-Type 'text/plain; charset=utf-8'
expect_body 'hello, not JSON'
: >"$WORK/empty"
req PUT /kv/empty -H 'Content-Type: application/octet-stream' --data-binary "@$WORK/empty"
expect_status 201
req GET /kv/empty
expect_status 200
expect_header Content-Length 0
expect_body ''
for type in application/json 'application/json; charset=utf-8' application/x-www-form-urlencoded ''; do
    req PUT /kv/json -H "Content-Type: $type" -d '{"n":1}'
    expect_header ETag '.+'
    req GET /kv/json
    expect_header Content-Type 'application/json.*'
done
req PUT /kv/json -H 'Content-Type: application/vnd.api+json' -d '{"n":1}'
req GET /kv/json
expect_header Content-Type 'application/vnd\.api\+json'

echo "conditions"
req PUT /kv/c -d 1
etag=$(header ETag)
req GET /kv/c -H "If-None-Match: $etag"
expect_status 304
expect_header ETag "$etag"
check "304 has no body" test ! -s "$WORK/body"
req GET /kv/c -H "If-None-Match: \"0\", $etag"
expect_status 304
req GET /kv/c -H 'If-None-Match: *'
expect_status 304
req GET /kv/c -H 'If-None-Match: "999999999"'
expect_status 200
req HEAD /kv/c -H "If-None-Match: $etag"
expect_status 304
req PUT /kv/c -H 'If-None-Match: *' -d 2
expect_problem 412 precondition_failed
expect_header ETag "$etag"
expect_json ".current_etag == \"\\\"${etag//\"/}\\\"\""
req PUT /kv/c -H 'If-Match: "999999999"' -d 2
expect_problem 412 precondition_failed
req DELETE /kv/c -H 'If-Match: "999999999"'
expect_problem 412 precondition_failed
req GET /kv/c
expect_body 1
req PUT /kv/c -H "If-Match: \"7777777\", $etag" -d 3
expect_status 200
req PUT /kv/c -H 'If-Match: *' -d 4
expect_status 200
req PUT /kv/absent -H 'If-Match: *' -d 4
expect_problem 412 precondition_failed
req PUT /kv/fresh -H 'If-None-Match: *' -d 4
expect_status 201
req GET /kv/c
req DELETE /kv/c -H "If-Match: $(header ETag)"
expect_status 204
for name in If-Unmodified-Since If-Modified-Since; do
    req PUT /kv/c -H "$name: Tue, 01 Jan 2030 00:00:00 GMT" -d 4
    expect_problem 400 unsupported_precondition
done

echo "Prefer"
req PUT /kv/p -H 'Prefer: return=minimal' -d 1
expect_status 204
expect_header ETag '"[0-9]+"'
check "204 has no body" test ! -s "$WORK/body"
req DELETE /kv/p -H 'Prefer: return=representation'
expect_status 200
expect_body 1
req DELETE /kv/p -H 'Prefer: return=minimal'
expect_status 204

echo "expiry"
req PUT '/kv/t1?ttl=1s' -d '"soon gone"'
expect_status 201
expect_header Storm-Expires-At '[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z'
req PUT '/kv/t2?ttl=1s' -d 1
req PUT '/kv/t2' -d 2
expect_no_header Storm-Expires-At
req PUT '/kv/t3?ttl=1h' -d 1
until=$(header Storm-Expires-At)
req PUT '/kv/t3?ttl=keep' -d 2
expect_header Storm-Expires-At "$until"
req GET '/kv/t3'
expect_header Storm-Expires-At "$until"
req PUT '/kv/t3?ttl=none' -d 3
expect_no_header Storm-Expires-At
req PUT '/kv/t4?expires_at=2099-01-02T03:04:05.678Z' -d 1
expect_header Storm-Expires-At '2099-01-02T03:04:05\.678Z'
for ttl in 15m 24h 7d; do
    req PUT "/kv/t5?ttl=$ttl" -d 1
    expect_header Storm-Expires-At '.+'
done
for query in ttl=soon ttl= ttl=-1s ttl=1y expires_at=tomorrow sync=maybe; do
    req PUT "/kv/t5?$query" -d 1
    expect_problem 400 invalid_parameter
done
req PUT '/kv/t6?sync=true' -d 1
expect_status 201

echo "the entry envelope"
req PUT /kv/e -d '{"n": 1.10}'
req GET '/kv/e?meta=true'
expect_status 200
expect_header Content-Type 'application/json.*'
expect_json '.key == "e" and .value == {"n": 1.1} and .expires_at == null and
    (.revision | type) == "number" and (.modified_at | test("^[0-9-]{10}T[0-9:]{8}[.][0-9]{3}Z$"))'
check "the value inside is as it was sent" grep -qF '{"n": 1.10}' "$WORK/body"
req PUT /kv/raw -H 'Content-Type: text/plain' -d 'not JSON'
req GET '/kv/raw?meta=true'
expect_json '(.value_b64 | @base64d) == "not JSON" and .content_type == "text/plain" and
    (has("value") | not)'
req PUT /kv/%ff%fe -d 1
expect_status 201
expect_json '.key_b64 == "//4=" and (has("key") | not)'
req GET '/kv/%ff%fe?meta=true'
expect_json '.key_b64 == "//4=" and .value == 1'

sleep 0.5
for ((i = 0; i < 50; i++)); do
    req GET /kv/t1
    [ "$STATUS" = 404 ] && break
    sleep 0.05
done
expect_problem 404 key_not_found
req GET /kv/t2
expect_status 200

echo "a request id of the client's own"
req GET /kv/nothing -H 'X-Request-Id: my-id-7'
expect_header X-Request-Id my-id-7
expect_json '.request_id == "my-id-7"'

echo "what was written is there after a restart"
storm_stop
check_equal "SIGTERM ends it with" $? 0
storm_start
req GET /kv/e
expect_body '{"n": 1.10}'
req GET /kv/random
expect_header Content-Type image/png
check "random bytes are kept over a restart" cmp "$WORK/random" "$WORK/body"
req GET /kv/t4
expect_header Storm-Expires-At '2099-01-02T03:04:05\.678Z'
req GET /kv/user:1
expect_status 404
finish
