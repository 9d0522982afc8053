#!/usr/bin/env bash
# Bad input, written to the socket as it is: broken request lines and header fields, bodies that do not
# end where they say, endless ones, JSON that is none, every method on every route. After each the
# server answers a good request, and none may be answered with 500 or have stored anything. Prints how
# many cases there were and how many misbehaved. What smuggles requests is in framing_test.sh.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
CASES=0
MISBEHAVED=0
storm_start --limits.value_bytes=100000 --limits.json_bytes=50000 --http.body_timeout_s=2 \
    --http.header_timeout_s=2
req PUT /kv/good -d '"good"'
req GET /stats
unready=$(jq .http.errors_5xx "$WORK/body")

# One connection for all the good requests would hide a server that takes no new ones.
verdict() {
    local what=$1 answer=$2 wanted=$3 status
    CASES=$((CASES + 1))
    CHECKS=$((CHECKS + 1))
    status=$(sed -n '1s|^HTTP/1.[01] \([0-9]*\).*|\1|p' <<<"$answer")
    status=${status:-none}
    req GET /kv/good
    if [[ ! $status =~ ^($wanted)$ ]] || [ "$STATUS" != 200 ] || [ "$(cat "$WORK/body")" != '"good"' ]; then
        MISBEHAVED=$((MISBEHAVED + 1))
        fail "$what: answered $status, wanted $wanted; a good request after it $STATUS"
        kill -0 "$PID" || die "the server is gone"
    fi
}
# sent 'what' 'request as a format' ['statuses'] [seconds]: 4xx or nothing, unless told. Where there must
# be an answer it is waited for; a busy machine takes its time.
sent() {
    local wanted=${3:-none|4[0-9][0-9]|505} seconds=10
    [[ $wanted != *none* ]] || seconds=1
    verdict "$1" "$(raw "$2" "${4:-$seconds}")" "$wanted"
}
# sent_bytes 'what' FILE ['statuses']: the bytes of a file.
sent_bytes() {
    local answer
    # shellcheck disable=SC2016 # the inner shell expands it
    answer=$(timeout "${4:-4}" bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0"; cat "$1" >&3; cat <&3' \
        "$PORT" "$2" 2>/dev/null | tr -d '\000')
    verdict "$1" "$answer" "${3:-none|4[0-9][0-9]|505}"
}
host='Host: localhost\r\n'
close='Connection: close\r\n'
end="$host$close\r\n"
text="PUT /kv/bad HTTP/1.1\r\n$host${close}Content-Type: text/plain\r\n"
json="PUT /kv/bad HTTP/1.1\r\n$host$close"

echo "request lines"
for line in 'GET' 'GET ' 'GET  /kv/good HTTP/1.1x' ' GET /kv/good HTTP/1.1' 'GET\t/kv/good\tHTTP/1.1' \
    'GET /kv/good HTTP/1.1 ' 'GET /kv/good HTTP/1.1\x00' 'GET /kv/good  HTTP/1.1' 'GET /kv/good HTTP/0.9' \
    'GET /kv/good HTTP/2.0' 'GET /kv/good HTTP/1.10' 'GET /kv/good http/1.1' 'GET /kv/good HTTP/1' \
    'GET /kv/good FTP/1.1' 'GET kv/good HTTP/1.1' 'GET * HTTP/1.1' 'GET localhost:80 HTTP/1.1' \
    'GET //kv/good HTTP/1.1' 'GET /kv/go od HTTP/1.1' 'GET /kv/\x01 HTTP/1.1' 'G\x00T /kv/good HTTP/1.1' \
    'get /kv/good HTTP/1.1' 'G@T /kv/good HTTP/1.1' '\x80\xff /kv/good HTTP/1.1' 'CONNECT localhost:80 HTTP/1.1' \
    'PRI * HTTP/2.0' '\x16\x03\x01\x00\xa5' '{"json":1}' 'GET /kv/%%zz HTTP/1.1' 'GET /kv/%% HTTP/1.1' \
    'GET /kv/%%4 HTTP/1.1' 'GET /kv/ HTTP/1.1' 'GET /kv HTTP/1.1' 'GET /kv/good?meta=%%zz HTTP/1.1' \
    'GET /kv/good?x HTTP/1.1' 'GET /kv/good?meta=true&meta=true HTTP/1.1' 'GET /kv/good?meta=maybe HTTP/1.1' \
    'GET /kv/good#fragment HTTP/1.1' 'GET http:/kv/good HTTP/1.1' 'GET http://localhost HTTP/1.1'; do
    # Lenient readers of the library take a few of them for what they probably mean.
    sent "the line '$line'" "$line\r\n$end" 'none|2[0-9][0-9]|4[0-9][0-9]|505'
done
sent "nothing" ''
sent "blank lines" '\r\n\r\n\r\n\r\n'
sent "a bare LF in the line" 'GET /kv/none\nHTTP/1.1\r\n\r\n'
sent "a bare CR in the line" 'GET /kv/none\rHTTP/1.1\r\n\r\n'
for size in 300 4000 8000 40000 300000; do
    head -c "$size" /dev/zero | tr '\0' m >"$WORK/many"
    { printf 'GET /kv/'; cat "$WORK/many"; printf ' HTTP/1.1\r\n%b' "$end"; } >"$WORK/bytes"
    sent_bytes "a target of $size bytes" "$WORK/bytes" 'none|4[0-9][0-9]'
    { cat "$WORK/many"; printf ' /kv/good HTTP/1.1\r\n%b' "$end"; } >"$WORK/bytes"
    sent_bytes "a method of $size bytes" "$WORK/bytes"
    { printf 'GET /kv/good HTTP/1.1\r\nX: '; cat "$WORK/many"; printf '\r\n%b' "$end"; } >"$WORK/bytes"
    sent_bytes "a field of $size bytes" "$WORK/bytes" 'none|200|4[0-9][0-9]'
    { printf 'GET /kv/good HTTP/1.1\r\n'; cat "$WORK/many"; printf ': x\r\n%b' "$end"; } >"$WORK/bytes"
    sent_bytes "a field's name of $size bytes" "$WORK/bytes" 'none|200|4[0-9][0-9]'
    { printf 'GET /kv/none?'; sed 's/m/a\&/g' "$WORK/many"; printf ' HTTP/1.1\r\n%b' "$end"; } >"$WORK/bytes"
    sent_bytes "$size parameters" "$WORK/bytes"
    { printf 'GET /kv/good HTTP/1.1\r\n'; sed 's/m/a:b\r\n/g' "$WORK/many"; printf '%b' "$end"; } >"$WORK/bytes"
    sent_bytes "$size fields" "$WORK/bytes" 'none|200|4[0-9][0-9]'
    { cat "$WORK/many"; } >"$WORK/bytes"
    sent_bytes "$size letters and nothing else" "$WORK/bytes" '' 4
done

echo "header fields"
for field in ':' ': x' 'X' 'X Y: 1' ' X: 1' '\tX: 1' 'X\x00Y: 1' 'X: a\x00b' 'X: \x01\x02' 'X: \xff\xfe' \
    '(): x' 'X\xc3\xa4: 1' 'X: 1\n Y: 2' 'X: 1\rY: 2' 'Content-Length: 99999999999999999999' \
    'Content-Length: 1e3' 'Content-Length: 0x10' 'Content-Length: -5' 'Content-Length: 5 5' \
    'Content-Length: 5,5' 'Content-Length: ' 'Content-Length: 18446744073709551616' \
    'Transfer-Encoding: chunked, chunked' 'Transfer-Encoding: gzip' 'Transfer-Encoding: \x0bchunked' \
    'Transfer-Encoding: chunked\r\nContent-Length: 3' 'Host: localhost' 'Host: evil.example' 'Host:' \
    'Content-Type: \x00' 'Content-Type: x' 'Content-Encoding: br' 'Expect: 200-maybe' 'If-Match: "' \
    'If-Match: x' 'If-Match: *, "1"' 'If-None-Match: W/' 'If-Modified-Since: x' 'Prefer: \x80' \
    'Authorization: Bearer \xff' 'Origin: \x00' 'X-Request-Id: \x01'; do
    sent "the field '$field'" "PUT /kv/bad HTTP/1.1\r\n$host$close$field\r\n\r\n" \
        'none|4[0-9][0-9]|200|201'
done

echo "bodies"
for chunks in '' '\r\n' 'x\r\n' '-1\r\n' '0x3\r\nabc\r\n0\r\n\r\n' '3\r\nab' '3\r\nabcd\r\n0\r\n\r\n' '3abc\r\n' \
    '3\nabc\n0\n\n' '3;\r\n' 'fffffffffffffffff\r\na' '7fffffffffffffff\r\na' 'ffffffffffffffff\r\na' \
    '3 \r\nabc\r\n0\r\n\r\n' '+3\r\nabc\r\n0\r\n\r\n' '00000000000000000000000000000003\r\nabc\r\n0\r\n\r\n' \
    '3;x="\r\nabc\r\n0\r\n\r\n' '0\r\nX: y' '0\r\nbad trailer\r\n\r\n' '\x00\r\n' '3\r\nabc0\r\n\r\n'; do
    sent "the chunks '$chunks'" "${text}Transfer-Encoding: chunked\r\n\r\n$chunks" 'none|4[0-9][0-9]|20[01]'
done
{ printf '%b' "${text}Transfer-Encoding: chunked\r\n\r\n"; yes $'400\r\n'"$(head -c 1024 /dev/zero | tr '\0' c)"$'\r' | head -c 2000000; } >"$WORK/bytes"
sent_bytes "chunks without an end" "$WORK/bytes" 'none|413' 6
{ printf '%b' "${text}Transfer-Encoding: chunked\r\n\r\n"; yes $'1\r\nc\r' | head -c 400000; } >"$WORK/bytes"
sent_bytes "small chunks without an end" "$WORK/bytes" 'none|413' 6
{ printf '%b' "${text}Transfer-Encoding: chunked\r\n\r\n1;"; head -c 300000 /dev/zero | tr '\0' e; } >"$WORK/bytes"
# The library gives up on this one by itself, with an error page of its own.
sent_bytes "a chunk extension without an end" "$WORK/bytes" 'none|4[0-9][0-9]|500' 6
{ printf '%b' "${text}Transfer-Encoding: chunked\r\n\r\n0\r\n"; yes $'X: y\r' | head -c 300000; } >"$WORK/bytes"
sent_bytes "trailers without an end" "$WORK/bytes" 'none|4[0-9][0-9]' 6
sent "a body that stops" "${text}Content-Length: 1000\r\n\r\nabc" 'none|408' 5
sent "a body over the limit" "${text}Content-Length: 100001\r\n\r\n" 'none|413' 5
sent "a body for GET" "GET /kv/good HTTP/1.1\r\n$host${close}Content-Length: 3\r\n\r\nabc" '200|4[0-9][0-9]'
sent "half a request" "GET /kv/good HT" none 4
sent "half the fields" "GET /kv/good HTTP/1.1\r\nHost: local" none 4

echo "JSON"
# value 'what' FILE ['statuses']: a PUT of JSON.
value() {
    { printf '%b' "${json}Content-Length: $(wc -c <"$2")\r\n\r\n"; cat "$2"; } >"$WORK/bytes"
    sent_bytes "$1" "$WORK/bytes" "${3:-400}"
}
for body in '' ' ' '{' '[' '"' '{"a"' '{"a":' '{"a":1' '{"a":1,}' '[1,]' '[,1]' '{,}' 'nul' 'True' 'NaN' 'Infinity' \
    '-' '01' '+1' '.5' '1.' '1e' '1e+' '0x1' '1 2' '[1}' '{1:2}' "{'a':1}" '// c' '/**/1' '"\x01"' '"\t"' '"a\nb"' \
    '"\\x41"' '"\\u12"' '"\\u12G4"' '"\\uD800"' '"\\uDC00"' '"\\uD800\\uD800"' '"\\uD800x"' '"\\uDBFF\\u0041"' \
    '"\xff"' '"\xc0\x80"' '"\xed\xa0\x80"' '"\xf4\x90\x80\x80"' '"\xf8\x88\x80\x80\x80"' '"\xe2\x82"' '\xef\xbb\xbf1' \
    '\x00' '1\x00' '"\x00"' '{"a":1}\x00' '{"a":1}}' '\xfe\xff\x00\x31' '1e400' '-1e999'; do
    printf '%b' "$body" >"$WORK/value"
    value "the JSON '$body'" "$WORK/value"
done
for depth in 2049 10000 24000; do
    head -c "$depth" /dev/zero | tr '\0' '[' >"$WORK/value"
    value "$depth open brackets" "$WORK/value"
    { head -c "$depth" /dev/zero | tr '\0' '['; head -c "$depth" /dev/zero | tr '\0' ']'; } >"$WORK/value"
    value "arrays $depth deep" "$WORK/value"
    yes '{"a":' | head -n "$((depth / 5))" | tr -d '\n' >"$WORK/value"
    value "objects $((depth / 5)) deep without an end" "$WORK/value"
done
{ printf '['; yes '{},' | head -n 16000 | tr -d '\n'; printf '1]'; } >"$WORK/value"
value "16,000 empty objects" "$WORK/value" '20[01]'
head -c 60000 /dev/zero | tr '\0' 1 >"$WORK/value"
value "JSON over the limit" "$WORK/value" '413'
head -c 49000 /dev/zero | tr '\0' 9 >"$WORK/value"
value "a number of 49,000 digits" "$WORK/value" '400|20[01]'

echo "every method on every route"
printf '%s\n' '#define ROUTE(method, path, ...) ROUTE path' '#include "routes.def"' |
    cc -E -P -x c -I"$SOURCE_DIR/api" - | tr -d '",' | sed -n 's|^ROUTE ||p' | sort -u >"$WORK/paths"
check "there are routes" test "$(wc -l <"$WORK/paths")" -ge 8
while read -r path; do
    # The good key stays out of reach.
    path=${path/\{key\}/other}
    for method in GET HEAD PUT POST DELETE PATCH OPTIONS TRACE CONNECT PROPFIND get X A-LONGER-ONE-THAN-ANY; do
        sent "$method $path" "$method $path HTTP/1.1\r\n$end" '20[0-9]|4[0-9][0-9]'
        sent "$method $path with a body" \
            "$method $path HTTP/1.1\r\n$host${close}Content-Length: 2\r\n\r\n{}" '20[0-9]|4[0-9][0-9]'
    done
done < <(grep -v '^/changes' "$WORK/paths")

echo "bytes of chance"
for ((i = 0; i < 40; i++)); do
    head -c $((RANDOM % 3000 + 1)) /dev/urandom >"$WORK/bytes"
    sent_bytes "random bytes $i" "$WORK/bytes" 'none|4[0-9][0-9]|505' 1
done

req GET /stats
expect_json ".http.errors_5xx == $unready"
expect_json '.http.connections < 20'
echo "$CASES cases, $MISBEHAVED misbehaved"
storm_stop
check_equal "SIGTERM ends it with" $? 0
finish
