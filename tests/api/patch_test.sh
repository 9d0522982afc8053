#!/usr/bin/env bash
# PATCH /kv/{key}: merge patches that leave everything else byte for byte, and expiry alone;
# POST /kv/{key}?op=: counters and touch.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start --limits.json_bytes=10000
TYPE='Content-Type: application/merge-patch+json'

# patched 'stored' 'patch' 'result'
patched() {
    req PUT /kv/m --data-binary "$1"
    req PATCH /kv/m -H "$TYPE" --data-binary "$2"
    expect_status 200
    req GET /kv/m
    expect_body "$3"
}
echo "the examples of RFC 7396, appendix A"
patched '{"a":"b"}' '{"a":"c"}' '{"a":"c"}'
patched '{"a":"b"}' '{"b":"c"}' '{"a":"b","b":"c"}'
patched '{"a":"b"}' '{"a":null}' '{}'
patched '{"a":"b","b":"c"}' '{"a":null}' '{"b":"c"}'
patched '{"a":["b"]}' '{"a":"c"}' '{"a":"c"}'
patched '{"a":"c"}' '{"a":["b"]}' '{"a":["b"]}'
patched '{"a":{"b":"c"}}' '{"a":{"b":"d","c":null}}' '{"a":{"b":"d"}}'
patched '{"a":[{"b":"c"}]}' '{"a":[1]}' '{"a":[1]}'
patched '["a","b"]' '["c","d"]' '["c","d"]'
patched '{"a":"b"}' '["c"]' '["c"]'
patched '{"a":"foo"}' 'null' 'null'
patched '{"a":"foo"}' '"bar"' '"bar"'
patched '{"e":null}' '{"a":1}' '{"e":null,"a":1}'
patched '[1,2]' '{"a":"b","c":null}' '{"a":"b"}'
patched '{}' '{"a":{"bb":{"ccc":null}}}' '{"a":{"bb":{}}}'

echo "what is not named stays byte for byte"
patched ' { "n" : 1.10,  "big": 12345678901234567890, "s":"\u00e9\/", "x":1 } ' '{"x":2.50}' \
    ' { "n" : 1.10,  "big": 12345678901234567890, "s":"\u00e9\/", "x":2.50 } '
patched $'{\n  "a": 1,\n  "b": {\n    "c": 0.1\n  }\n}\n' '{"b":{"d":[1 ,2]},"e":true}' \
    $'{\n  "a": 1,\n  "b": {\n    "c": 0.1,\n    "d":[1 ,2]\n  },\n  "e":true\n}\n'
patched '{"b":1,"a":1,"b":2}' '{"c":1}' '{"b":1,"a":1,"b":2,"c":1}'
patched '{"b":1,"a":1,"b":2}' '{"b":3}' '{"a":1,"b":3}'
patched '{"b":1,"a":1,"b":2}' '{"b":null}' '{"a":1}'
patched '{"a":1}' '{"b":1,"b":2,"a":null}' '{"b":2}'
patched '{"\u0061":1,"b\"}":2}' '{"a":3,"\u0062\u0022}":null}' '{"\u0061":3}'
patched '{"a":1}' '{"n":[null,{"x":null}]}' '{"a":1,"n":[null,{"x":null}]}'

echo "the answer, the type, the expiry"
req PUT '/kv/p?ttl=1h' -H 'Content-Type: application/vnd.a+json' -d '{"a":1}'
until=$(header Storm-Expires-At)
req PATCH /kv/p -H "$TYPE" -d '{"b":2}'
expect_status 200
expect_json '.key == "p" and .created == false'
expect_header ETag "\"$(jq .revision "$WORK/body")\""
expect_header Storm-Expires-At "$until"
req GET /kv/p
expect_header Content-Type 'application/vnd\.a\+json'
expect_header Storm-Expires-At "$until"
req PATCH '/kv/p?ttl=none' -d '{"b":3}'
expect_no_header Storm-Expires-At
req PATCH '/kv/p?sync=true&ttl=2h' -H 'Content-Type: application/json' -H 'Prefer: return=representation' \
    -d '{"b":null}'
expect_status 200
expect_body '{"a":1}'
expect_header Storm-Expires-At '.+'
req PATCH /kv/p -H "$TYPE" -H 'Prefer: return=minimal' -d '{"b":4}'
expect_status 204
expect_header ETag '"[0-9]+"'
printf '{"c":5}' | gzip >"$WORK/patch.gz"
req PATCH /kv/p -H "$TYPE" -H 'Content-Encoding: gzip' --data-binary "@$WORK/patch.gz"
expect_status 200
req GET /kv/p
expect_body '{"a":1,"b":4,"c":5}'

echo "without a body only the expiry changes"
req PUT /kv/touched -H 'Content-Type: text/plain' -d 'not JSON'
before=$(header ETag)
req PATCH '/kv/touched?ttl=1h'
expect_status 200
expect_header Storm-Expires-At '.+'
check_not "a touch is a write" test "$(header ETag)" = "$before"
req GET /kv/touched
expect_body 'not JSON'
expect_header Content-Type text/plain
expect_header Storm-Expires-At '.+'
req PATCH '/kv/touched?ttl=none'
expect_no_header Storm-Expires-At
req POST '/kv/touched?op=touch&expires_at=2099-01-02T03:04:05.678Z'
expect_status 200
expect_header Storm-Expires-At '2099-01-02T03:04:05\.678Z'
req PATCH '/kv/touched?ttl=1h' -H 'If-Match: "1"'
expect_problem 412 precondition_failed
req PATCH '/kv/nothing?ttl=1h'
expect_problem 404 key_not_found
req PATCH '/kv/nothing?ttl=1h' -H 'If-Match: *'
expect_problem 412 precondition_failed
req PATCH '/kv/touched'
expect_problem 400 invalid_json
req POST '/kv/touched?op=touch'
expect_problem 400 invalid_parameter
req POST '/kv/touched?op=touch&ttl=keep'
expect_problem 400 invalid_parameter

echo "what is refused"
req PATCH /kv/touched -H "$TYPE" -d '{"a":1}'
expect_problem 409 not_json
req PATCH /kv/nothing -H "$TYPE" -d '{"a":1}'
expect_problem 404 key_not_found
req PATCH /kv/p -H "$TYPE" -d '{"a":1'
expect_problem 400 invalid_json
req PATCH /kv/p -H 'Content-Type: application/json-patch+json' -d '[]'
expect_problem 415 unsupported_media_type
expect_header Accept-Patch 'application/merge-patch\+json'
req PATCH /kv/p -H "$TYPE" -d "$(printf '{"a":%.0s' {1..33})1$(printf '}%.0s' {1..33})"
expect_problem 400 invalid_json
req PATCH /kv/p -H "$TYPE" -d "$(printf '{"a":%.0s' {1..32})1$(printf '}%.0s' {1..32})"
expect_status 200
req PUT /kv/large --data-binary "{\"a\":\"$(printf '%06000d' 0)\"}"
req PATCH /kv/large -H "$TYPE" --data-binary "{\"b\":\"$(printf '%06000d' 0)\"}"
expect_problem 413 value_too_large
req PATCH /kv/large -H "$TYPE" --data-binary "{\"b\":\"$(printf '%010000d' 0)\"}"
expect_problem 413 value_too_large
req GET /kv/large
check_equal "a patch that is refused changes nothing" "$(wc -c <"$WORK/body")" 6008

echo "counters"
req POST '/kv/n?op=incr&by=5'
expect_status 201
expect_body 5
expect_header Content-Type application/json
expect_header ETag '"[0-9]+"'
req POST '/kv/n?op=incr'
expect_status 200
expect_body 6
req GET /kv/n
expect_body 6
req POST '/kv/n?op=incr&by=-10'
expect_body -4
req POST '/kv/n?op=incr&by=0'
expect_body -4
req PUT '/kv/n?ttl=1h' -d $' 41\n'
until=$(header Storm-Expires-At)
req POST '/kv/n?op=incr' -H 'Prefer: return=minimal'
expect_status 204
req GET /kv/n
expect_body 42
expect_header Storm-Expires-At "$until"
req POST '/kv/n?op=incr&ttl=none'
expect_no_header Storm-Expires-At
expect_body 43
tag=$(header ETag)
req POST '/kv/n?op=incr' -H 'If-Match: "1"'
expect_problem 412 precondition_failed
expect_header ETag "$tag"
req POST '/kv/n?op=incr' -H "If-Match: $tag"
expect_body 44
req POST '/kv/n?op=incr' -H 'If-None-Match: *'
expect_problem 412 precondition_failed
for value in 1.0 1e2 '"1"' '[1]' null true; do
    req PUT /kv/bad -d "$value"
    req POST '/kv/bad?op=incr'
    expect_problem 409 not_an_integer
done
req PUT /kv/bad -H 'Content-Type: text/plain' -d 1
req POST '/kv/bad?op=incr'
expect_problem 409 not_an_integer
req PUT /kv/edge -d 9007199254740990
req POST '/kv/edge?op=incr'
expect_body 9007199254740991
req POST '/kv/edge?op=incr'
expect_problem 409 integer_overflow
req POST '/kv/edge?op=incr&by=-9007199254740991'
expect_body 0
req POST '/kv/edge?op=incr&by=-9007199254740991'
expect_body -9007199254740991
req POST '/kv/edge?op=incr&by=-1'
expect_problem 409 integer_overflow
req PUT /kv/edge -d 123456789012345678901234567890
req POST '/kv/edge?op=incr&by=-1'
expect_problem 409 integer_overflow
for query in op=incr\&by= op=incr\&by=1.5 op=incr\&by=01 op=incr\&by=9007199254740992 op=incr\&by=x \
    op=touch\&by=1\&ttl=1h op=add op= by=1; do
    req POST "/kv/n?$query"
    expect_problem 400 invalid_parameter
done
req POST '/kv/n?op=incr&bye=1'
expect_problem 400 unknown_parameter
req GET /kv/n
expect_body 44
finish
