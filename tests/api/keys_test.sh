#!/usr/bin/env bash
# Keys: every byte value, and every spelling that clients and libraries like to rewrite. No two keys
# meet, none is cut or split.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start

echo "each of the 256 byte values is a key of its own"
# One curl does all of it: a process for each of 512 requests would take longer than the requests.
transfers() { # METHOD
    local b hex
    for ((b = 0; b < 256; b++)); do
        hex=$(printf %02x "$b")
        [ "$b" -gt 0 ] && echo next
        echo "url = \"$URL/kv/x%${hex}y\""
        echo "request = $1"
        echo 'path-as-is'
        echo 'silent'
        echo "output = \"$WORK/out.$b\""
        printf 'write-out = "%%{http_code}\\n"\n'
        [ "$1" = PUT ] && echo "data = $b"
    done
}
transfers PUT >"$WORK/puts"
check_equal "256 keys are created" "$(curl -K "$WORK/puts" | sort | uniq -c | xargs)" "256 201"
transfers GET >"$WORK/gets"
check_equal "256 keys are there" "$(curl -K "$WORK/gets" | sort | uniq -c | xargs)" "256 200"
for ((b = 0; b < 256; b++)); do
    [ "$(cat "$WORK/out.$b")" = "$b" ] || fail "key x%$(printf %02x "$b")y holds $(cat "$WORK/out.$b")"
done
req GET /kv/x
expect_problem 404 key_not_found

echo "spellings that are the same key"
same() { # one spelling, another
    req PUT "$1" -d '"same"'
    [ "$STATUS" = 201 ] || expect_status 200
    req GET "$2"
    expect_body '"same"'
    req DELETE "$2"
    expect_status 204
}
same /kv/a/b /kv/a%2Fb
same /kv/a%2fb /kv/a/b
same /kv/%41 /kv/A
same /kv/a:b@c /kv/a%3ab%40c
same /kv/a+b /kv/a%2Bb
same /kv/. /kv/%2E
same /kv/~ /kv/%7e

echo "spellings that are different keys"
n=0
keys=(a / // a/ /a a// a//b a/b ../a a/../b a/./b . .. ./ ../ %2e%2e%2fb a+b a%20b a%25 a%2525
    'a%3fb' 'a%23b' a%00 a%00b %00 A 'a&b' 'a=b' 'a;b' %c3%a9 e%cc%81 %ff %80 %f0%9f%98%80
    kv /kv/a admin/flush stats)
for key in "${keys[@]}"; do
    n=$((n + 1))
    req PUT "/kv/$key" -d "$n"
    expect_status 201
done
n=0
for key in "${keys[@]}"; do
    n=$((n + 1))
    req GET "/kv/$key"
    expect_body "$n"
done
req DELETE /kv/a%00b
expect_status 204
req GET /kv/a%00
expect_status 200
req GET /kv/a
expect_status 200

echo "the answer names the key as it was understood"
req PUT /kv/caf%C3%A9%2F%22x%22 -d 1
expect_json '.key == "café/\"x\""'
req PUT /kv/a%00z -d 1
expect_json '.key == "a\u0000z"'

echo "limits and mistakes"
req PUT /kv/ -d 1
expect_problem 400 invalid_key
req GET /kv/
expect_problem 400 invalid_key
req DELETE /kv/
expect_problem 400 invalid_key
for bad in % %4 %zz %4g 'a%' %%41 a%0 '%-1'; do
    req GET "/kv/$bad"
    expect_problem 400 invalid_escape
    req PUT "/kv/$bad" -d 1
    expect_problem 400 invalid_escape
done
long=$(head -c 4096 /dev/zero | tr '\0' k)
req PUT "/kv/$long" -d '"longest"'
expect_status 201
req GET "/kv/$long"
expect_body '"longest"'
req PUT "/kv/${long}k" -d 1
expect_problem 413 key_too_long
req GET "/kv/${long}k"
expect_problem 413 key_too_long
# The limit counts bytes of the key, not of its spelling.
encoded=$(head -c 4096 /dev/zero | sed 's/\x00/%01/g')
req PUT "/kv/$encoded" -d 1
expect_status 201

echo "all of it is there after kill -9"
storm_kill
storm_start
transfers GET >"$WORK/gets"
check_equal "256 keys are there" "$(curl -K "$WORK/gets" | sort | uniq -c | xargs)" "256 200"
for ((b = 0; b < 256; b++)); do
    [ "$(cat "$WORK/out.$b")" = "$b" ] || fail "key x%$(printf %02x "$b")y holds $(cat "$WORK/out.$b")"
done
req GET "/kv/$long"
expect_body '"longest"'
finish
