#!/usr/bin/env bash
# GET /export and POST /import: what is taken out can be brought back, byte for byte; what is no entry
# is named by its line; and memory does not grow with either.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start --wal.sync=off

import() { # query, [curl options]: the body is $WORK/in
    req POST "/import$1" --data-binary "@$WORK/in" "${@:2}"
}
lines() { printf '%s\n' "$@" >"$WORK/in"; }

echo "entries as people write them"
lines '{"key":"a","value":{"n": 1}}' '' '{"value":[1,  2],"key":"b"}' \
    '{"key":"c","value_b64":"aGVsbG8=","content_type":"text/plain"}' \
    '{"key_b64":"/w==","value":1.10,"expires_at":"2099-01-02T03:04:05Z","modified_at":"2001-02-03T04:05:06.789Z"}' \
    '{"key":"e","value_b64":""}' '{"key":"f","value":"x","content_type":"application/problem+json"}'
import ''
expect_status 200
expect_json '.imported == 6 and .failed == 0 and .errors == [] and .complete == false and .revision == 1'
req GET /kv/a
expect_body '{"n": 1}'
req GET /kv/b
expect_body '[1,  2]'
req GET /kv/c
expect_body hello
expect_header Content-Type text/plain
req GET '/kv/%FF?meta=true'
expect_json '.key_b64 == "/w==" and .expires_at == "2099-01-02T03:04:05.000Z" and
    .modified_at == "2001-02-03T04:05:06.789Z"'
check "a number is as it was sent" grep -q '"value":1.10,' "$WORK/body"
req GET /kv/e
expect_header Content-Type application/octet-stream
expect_header Content-Length 0
req GET /kv/f
expect_header Content-Type 'application/problem\+json'

echo "what is no entry is named by its line, the others are imported"
lines '{"key":"ok1","value":1}' '{"key":"x","value":' 'null' '{"key":"x","vlaue":1}' \
    '{"value":1}' '{"key":"x"}' '{"key":"","value":1}' '{"key":"x","value":1,"value_b64":""}' \
    '{"key":"x","key_b64":"eA==","value":1}' '{"key":1,"value":1}' '{"key_b64":"/","value":1}' \
    '{"key":"x","value":1,"key":"y"}' '{"key":"x","value":1,"content_type":"text/plain"}' \
    '{"key":"x","value_b64":"","content_type":"multipart/mixed"}' \
    '{"key":"x","value":1,"expires_at":"tomorrow"}' '{"key":"x","value":1,"modified_at":5}' \
    '{"end":true,"count":1,"key":"x"}' '{"end":true}' "$(printf '{"key":"%4097s","value":1}' x)" \
    '{"key":"x\ud800","value":1}' '{"key":"ok2","value":2}'
import ''
expect_status 200
expect_json '.imported == 2 and .failed == 19 and ([.errors[].line] == [range(2; 21)])'
expect_json '[.errors[].code] == ["invalid_json","invalid_json","unknown_field","invalid_field",
    "invalid_field","invalid_key","invalid_field","invalid_field","invalid_field","invalid_field",
    "invalid_field","invalid_field","unsupported_media_type","invalid_field","invalid_field",
    "invalid_field","invalid_field","key_too_long","invalid_json"]'
expect_json '.errors[2] | .did_you_mean == "value" and (.detail | contains("vlaue"))'
req GET /kv/ok2
expect_body 2
req GET /kv/x
expect_problem 404 key_not_found
yes '{"key":' | head -n 5000 >"$WORK/in"
import ''
expect_json '.imported == 0 and .failed == 5000 and (.errors | length) == 100'
: >"$WORK/in"
import ''
expect_json '.imported == 0 and .failed == 0'
printf '{"key":"last","value":"without a line break at the end"}' >"$WORK/in"
import ''
expect_json '.imported == 1'
printf '{"key":"crlf","value":1}\r\n{"key":"crlf2","value":2}\r\n' >"$WORK/in"
import ''
expect_json '.imported == 2'
req GET /kv/crlf2
expect_body 2

echo "insert leaves alone what is there, upsert replaces it"
lines '{"key":"a","value":"new"}' '{"key":"i1","value":1}' '{"key":"i1","value":2}' '{"key":"i2","value":1}'
import '?mode=insert'
expect_json '.imported == 2 and .failed == 2 and [.errors[] | .line, .code] ==
    [1, "precondition_failed", 3, "precondition_failed"]'
req GET /kv/a
expect_body '{"n": 1}'
req GET /kv/i1
expect_body 1
import '?mode=insert'
expect_json '.imported == 0 and .failed == 4'
import '?mode=upsert'
expect_json '.imported == 4 and .failed == 0'
req GET /kv/i1
expect_body 2
import '?mode=update'
expect_problem 400 invalid_parameter

echo "what cannot be kept is refused"
import '' -H 'Content-Encoding: br'
expect_problem 415 unsupported_encoding
import '' -H 'If-Match: "1"'
expect_problem 400 unsupported_precondition
req GET /import
expect_problem 405 method_not_allowed
import '' -H 'Content-Encoding: gzip'
expect_problem 400 invalid_encoding
expect_json '.imported == 0'

echo "a store full of everything: keys of all bytes, in every position of three; values of all kinds"
req DELETE '/kv?all=true'
all_keys() {
    local b hex
    for ((b = 0; b < 256; b++)); do
        hex=$(printf %02x "$b")
        printf '%s\n' "%${hex}xy" "x%${hex}y" "xy%${hex}"
    done
}
# The same key in path, query, list, export and import.
all_keys >"$WORK/keys"
while read -r key; do
    printf 'url = "%s/kv/%s"\nrequest = PUT\ndata = "\\"%s\\""\npath-as-is\nsilent\noutput = /dev/null\nnext\n' \
        "$URL" "$key" "$key"
done <"$WORK/keys" | sed '$d' >"$WORK/puts"
curl -K "$WORK/puts"
req GET '/kv?select=count'
# "xyxy" forms that meet: x%78y is xxy, %78xy is xxy; and so on.
distinct=$(jq .count "$WORK/body")
check "$distinct keys are told apart" test "$distinct" -gt 760
req PUT /kv/v:bytes --data-binary "@$STORMD" -H 'Content-Type: application/x-executable'
head -c 4000000 /dev/urandom >"$WORK/random"
req PUT /kv/v:random --data-binary "@$WORK/random" -H 'Content-Type: image/png'
req PUT /kv/v:lines --data-binary $'{\r\n\t"a": [1,\n2] }\n'
req PUT '/kv/v:ttl?ttl=7d' -d '{"ttl":true}'
req PUT /kv/v:number -d 1E400 -H 'Content-Type: text/plain; charset=utf-8'
req PUT /kv/v:json -d '{"a":0.10,"a":2}' -H 'Content-Type: application/geo+json'
req PUT /kv/v:empty --data-binary '' -H 'Content-Type: text/css'

# Each key by query, in one request a byte; the answer names the same key.
curl -s -g "$URL/kv?$(sed 's/^/key=/' "$WORK/keys" | paste -sd '&' | cut -c1-20000 | sed 's/&[^&]*$//')" \
    >"$WORK/body"
expect_json '(.missing == []) and (.entries | length > 700)'
expect_json 'all(.entries[]; .value | type == "string")'

# Listed, page by page: each key as often as it is there.
cursor=
: >"$WORK/listed"
while :; do
    req GET "/kv?select=keys&limit=100${cursor:+&cursor=$cursor}"
    jq -c '.keys[]' "$WORK/body" >>"$WORK/listed"
    cursor=$(jq -r '.next_cursor // ""' "$WORK/body")
    [ -n "$cursor" ] || break
done
check_equal "keys listed" "$(sort -u "$WORK/listed" | wc -l)" $((distinct + 7))

REQUEST='GET /export'
curl -s -D "$WORK/headers" "$URL/export" >"$WORK/export"
expect_header Content-Type application/x-ndjson
expect_header Content-Disposition 'attachment; filename="storm.ndjson"'
check_equal "the closing line counts" "$(tail -n 1 "$WORK/export" | jq -c '[.end, .count]')" \
    "[true,$((distinct + 7))]"
check "each line is JSON" jq -e . "$WORK/export" >"$WORK/out"
curl -s --compressed -D "$WORK/headers" "$URL/export" >"$WORK/export2"
expect_header Content-Encoding gzip
check "compressed it is the same" cmp -s "$WORK/export" "$WORK/export2"
check_equal "a prefix of it" "$(curl -s "$URL/export?prefix=v:" | tail -n 1 | jq .count)" 7
req GET '/export?limit=1'
expect_problem 400 unknown_parameter

# without_revision FILE: what has to be the same in another store.
without_revision() {
    jq -c 'del(.revision)' "$1"
}
gzip -k "$WORK/export"
head -c 20000 "$WORK/export" | gzip >"$WORK/head.gz"
tail -c +20001 "$WORK/export" | gzip >>"$WORK/head.gz"
round=0
first=$DATA
for how in plain gzip members chunked; do
    round=$((round + 1))
    storm_stop
    DATA=$first.$round
    storm_start --wal.sync=off
    case $how in
        plain) req POST /import -T "$WORK/export" ;;
        gzip) req POST /import -T "$WORK/export.gz" -H 'Content-Encoding: gzip' ;;
        members) req POST /import -T "$WORK/head.gz" -H 'Content-Encoding: gzip' ;;
        chunked) req POST /import -T - -H 'Transfer-Encoding: chunked' <"$WORK/export" ;;
    esac
    expect_status 200
    expect_json ".imported == $((distinct + 7)) and .failed == 0 and .complete == true"
    curl -s "$URL/export" >"$WORK/again"
    check "$how: the same keys, bytes, types and times" \
        cmp -s <(without_revision "$WORK/export") <(without_revision "$WORK/again")
done
req GET /kv/v:random
check "the same bytes" cmp -s "$WORK/random" "$WORK/body"
expect_header Content-Type image/png
req GET /kv/v:lines
expect_body $'{\r\n\t"a": [1,\n2] }\n'
expect_header Content-Type application/json
req GET /kv/v:json
expect_body '{"a":0.10,"a":2}'
# Each key by path, in the store that was imported. Spellings that are one key hold what was written
# last, so they are compared with what the path got before.
while read -r key; do
    printf 'url = "%s/kv/%s"\npath-as-is\nsilent\nwrite-out = "\\n"\nnext\n' "$URL" "$key"
done <"$WORK/keys" | sed '$d' >"$WORK/gets"
check_equal "each key is found by its path" "$(curl -K "$WORK/gets" | grep -c '^"[%x].*"$')" 768
check_equal "and holds what was written under it" \
    "$(curl -K "$WORK/gets" | paste - <(sed 's/.*/"&"/' "$WORK/keys") | awk -F'\t' '$1 == $2' | wc -l)" \
    "$distinct"

echo "a cut export is told from a whole one"
head -n 50 "$WORK/export" >"$WORK/in"
import ''
expect_json '.imported == 50 and .complete == false'
(head -n 49 "$WORK/export"; tail -n 1 "$WORK/export") >"$WORK/in"
import ''
expect_json '.imported == 49 and .complete == false'
head -c 3000 "$WORK/export.gz" >"$WORK/in"
import '' -H 'Content-Encoding: gzip'
expect_problem 400 invalid_encoding

echo "lines longer than any entry are dropped without being kept"
storm_stop
DATA=$first.limits
storm_start --wal.sync=off --limits.value_bytes=100000 --limits.json_bytes=50000
{
    echo '{"key":"before","value":1}'
    printf '{"key":"long","value":"%s"}\n' "$(head -c 60000 /dev/zero | tr '\0' x)"
    printf '{"key":"endless","value":"'
    head -c 20000000 /dev/zero | tr '\0' x
    printf '"}\n{"key":"after","value":2}\n'
} >"$WORK/in"
import ''
expect_status 200
expect_json '.imported == 2 and ([.errors[] | .line, .code] == [2,"value_too_large",3,"value_too_large"])'
req GET /kv/after
expect_body 2

echo "what inflates without end is refused"
head -c 200000000 /dev/zero | gzip -9 >"$WORK/in"
import '' -H 'Content-Encoding: gzip'
expect_problem 413 value_too_large

echo "commits that are waited for in the middle of the body, and a store that wants time"
storm_stop
DATA=$first.waits
storm_start --wal.sync=always --memtable.bytes=64KiB --write_buffer.bytes=1MiB
awk 'BEGIN { for (i = 0; i < 30000; i++)
    printf "{\"key\":\"w%06d\",\"value\":\"%0150d\"}\n", i * 7919 % 30000, i }' >"$WORK/in"
gzip -kf "$WORK/in"
req POST /import -T "$WORK/in"
expect_status 200
expect_json '.imported == 30000 and .failed == 0 and .revision == 30'
req POST /import -T "$WORK/in.gz" -H 'Content-Encoding: gzip'
expect_json '.imported == 30000 and .failed == 0'
req DELETE '/kv?start=w010000&end=w020000'
expect_json '.deleted == 10000'
req POST '/import?mode=insert' -T - -H 'Transfer-Encoding: chunked' <"$WORK/in"
expect_json '.imported == 10000 and .failed == 20000 and (.errors | length) == 100'
req GET '/kv?select=count'
expect_json '.count == 30000'
req GET /kv/w007919
expect_body "$(printf '"%0150d"' 1)"

echo "a client that goes away in the middle leaves what was committed, and nothing behind"
raw 'POST /import HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"key":"gone","value":1}\n' 0.3 >"$WORK/out"
req GET /kv/w000001
expect_status 200
storm_stop
check_equal "the server ends well" "$?" 0
finish
