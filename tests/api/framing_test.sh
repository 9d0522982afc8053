#!/usr/bin/env bash
# Requests that say two things about where they end, or are no HTTP at all, written to the socket as
# they are. Each gets one 400 and a closed connection, so that nothing behind it is taken for a
# request of its own; after each, a good request is answered.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start --limits.value_bytes=200000
# /readyz answers 503 until the store is open; those count.
req GET /stats
unready=$(jq .http.errors_5xx "$WORK/body")
req PUT /kv/good -d '"good"'

still_good() {
    req GET /kv/good
    if [ "$STATUS" != 200 ] || [ "$(cat "$WORK/body")" != '"good"' ]; then
        fail_answer "after: $1"
    fi
}

# How many answers there are in $answer; a body without a newline is right before the next one.
answers() {
    grep -oE 'HTTP/1\.[01] [0-9]{3}' <<<"$answer" | wc -l
}

# refused 'what' 'request' ['statuses']: it is answered with that status ("none": closed without a word),
# nothing in it is taken for a good request, and the connection ends. libmicrohttpd 0.9.75 sends the
# head of its own refusals twice, so it is not the number of answers that counts.
refused() {
    local answer status start=$EPOCHREALTIME
    answer=$(raw "$2" 3)
    CHECKS=$((CHECKS + 1))
    status=$(sed -n '1s|^HTTP/1.[01] \([0-9]*\).*|\1|p' <<<"$answer")
    status=${status:-none}
    case " ${3:-400} " in
    *" $status "*) ;;
    *) fail "$1: status '$status', wanted ${3:-400}: $(head -c 300 <<<"$answer")" ;;
    esac
    check_not "$1: a second request is answered" grep -q '^HTTP/1.[01] 2\|"good"' <<<"$answer"
    [ $((${EPOCHREALTIME/./} - ${start/./})) -lt 2500000 ] || fail "$1: the connection stayed open"
    still_good "$1"
}

head='PUT /kv/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n'
hidden='GET /kv/good HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
get='GET /kv/good HTTP/1.1\r\n'

echo "two lengths"
refused "both lengths" "${head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n$hidden"
refused "both lengths, other order" "${head}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n$hidden"
refused "two lengths that differ" "${head}Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy$hidden"
refused "two lengths that agree" "${head}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx$hidden"
refused "a list of lengths" "${head}Content-Length: 1, 1\r\n\r\nx$hidden"
refused "a signed length" "${head}Content-Length: +1\r\n\r\nx$hidden"
refused "a negative length" "${head}Content-Length: -1\r\n\r\nx$hidden"
refused "a hexadecimal length" "${head}Content-Length: 0x1\r\n\r\nx$hidden"
refused "no length" "${head}Content-Length:\r\n\r\n$hidden"
refused "a length beyond 64 bits" "${head}Content-Length: 99999999999999999999999\r\n\r\nx" "400 413"

echo "transfer encodings"
for encoding in identity gzip 'gzip, chunked' 'chunked, chunked' 'chunked, identity' xchunked \
    '"chunked"' 'chunked;x=1' ''; do
    refused "Transfer-Encoding: $encoding" "${head}Transfer-Encoding: $encoding\r\n\r\n0\r\n\r\n$hidden" "400 501"
done
refused "Transfer-Encoding twice" "${head}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n$hidden"
refused "space before the colon" "${head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n$hidden"
refused "Transfer-Encoding in HTTP/1.0" "PUT /kv/x HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n$hidden"
answer=$(raw "${head}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
check "a proper chunked body is taken" grep -q '^HTTP/1.1 20[01]' <<<"$answer"
req GET /kv/x
expect_body abc
refused "a chunk size that is none" "${head}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"
refused "a chunk size beyond 64 bits" "${head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n0\r\n\r\n" "400 413"

echo "hosts"
refused "two hosts" "${get}Host: localhost\r\nHost: localhost:1\r\n\r\n$hidden"
refused "no host in HTTP/1.1" "${get}\r\n"

echo "lines"
refused "a header name with a space" "${get}Host: localhost\r\nX Y: 1\r\n\r\n"
refused "a header without a colon" "${get}Host: localhost\r\nnonsense\r\n\r\n"
refused "no request at all" "\r\nnonsense\r\n\r\n" "400 none"
refused "an unknown version" "GET /kv/good HTTP/3.7\r\nHost: localhost\r\n\r\n" "400 505"
# A line may end with a bare LF (RFC 9112, 2.2): it is taken or refused, but ends one request.
answer=$(raw 'GET /kv/good HTTP/1.1\nHost: localhost\nConnection: close\n\n')
check "bare LF is one answer" test "$(answers)" -le 1
still_good "bare LF"
answer=$(raw '\026\003\001\002\000\001\000\001\374\003\003' 1)
still_good "the first bytes of TLS"
answer=$(raw "GET /kv/good\000hidden HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" 1)
still_good "NUL in the request line"

echo "too much"
flood=$(head -c 40000 /dev/zero | tr '\0' q)
answer=$(raw "GET /kv/good?x=$flood HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" 3)
check "a target of 40 KB is refused" grep -qE '^HTTP/1.1 (400|414|431) ' <<<"$answer"
still_good "a target of 40 KB"
flood=$(head -c 3000 /dev/zero | sed 's/\x00/X-a: b\\r\\n/g')
answer=$(raw "${get}Host: localhost\r\nConnection: close\r\n$flood\r\n" 3)
check "3,000 headers are answered or refused" grep -qE '^HTTP/1.1 (200|400|413|431) ' <<<"$answer"
still_good "3,000 headers"
flood=$(head -c 3000 /dev/zero | sed 's/\x00/a=b\&/g')
answer=$(raw "GET /kv/good?$flood HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" 3)
still_good "3,000 parameters"

echo "bodies that break off"
answer=$(raw "${head}Content-Length: 100\r\n\r\nshort" 1)
still_good "a body that breaks off"
req GET /kv/x
expect_body abc
answer=$(raw 'HEAD /kv/good HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
check_equal "HEAD ends after the headers" "$(tr -d '\r' <<<"$answer" | sed '1,/^$/d' | wc -c)" 0
answer=$(raw "GET /kv/good HTTP/1.1\r\nHost: localhost\r\n\r\nGET /kv/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
check_equal "two requests in one packet are answered" "$(answers)" 2

req GET /stats
expect_json ".http.errors_5xx == $unready"
storm_stop
check_equal "SIGTERM ends it with" $? 0
finish
