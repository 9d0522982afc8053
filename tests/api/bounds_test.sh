#!/usr/bin/env bash
# What the request's framing and its preconditions leave to the server: bodies over the limit whose length
# nobody told, early refusals, lists of tags on writes, connections that end with the draining.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start --limits.value_bytes=100000

answers() {
    grep -oE 'HTTP/1\.[01] [0-9]{3}' <<<"$answer" | tr '\n' ' '
}

echo "a chunked body over the limit is refused, and the connection goes on"
big=$(head -c 32768 /dev/zero | tr '\0' y)
req PUT /kv/a -H 'Content-Type: text/plain' -d small
chunks=
for _ in 1 2 3 4; do chunks+="8000\r\n$big\r\n"; done
head='PUT /kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n'
last='GET /kv/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
answer=$(raw "${head}Transfer-Encoding: chunked\r\n\r\n${chunks}0\r\n\r\n$last")
check_equal "statuses" "$(answers)" "HTTP/1.1 413 HTTP/1.1 200 "
check "the old value stays" grep -q 'small$' <<<"$answer"

echo "a body whose length is over the limit is refused before it is sent"
answer=$(raw "${head}Content-Length: 100001\r\nExpect: 100-continue\r\n\r\n" 1)
check_equal "statuses" "$(answers)" "HTTP/1.1 413 "
check "the connection is closed" grep -qi '^connection: close' <<<"$answer"
answer=$(raw "${head}Content-Length: 5\r\nExpect: 100-continue\r\n\r\nfive!$last")
check_equal "statuses" "$(answers)" "HTTP/1.1 100 HTTP/1.1 200 HTTP/1.1 200 "
answer=$(raw "${head}Content-Length: 99999999999\r\n\r\n" 1)
check_equal "no body is too long for an answer" "$(answers)" "HTTP/1.1 413 "

echo "a body where none belongs is dropped"
answer=$(raw "GET /kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nxyz$last")
check_equal "statuses" "$(answers)" "HTTP/1.1 200 HTTP/1.1 200 "

echo "If-None-Match with tags on writes"
req PUT /kv/n -d 1
tag=$(header ETag)
req PUT /kv/n -H "If-None-Match: \"999\", $tag" -d 2
expect_problem 412 precondition_failed
expect_header ETag "$tag"
req PUT /kv/n -H "If-None-Match: W/$tag" -d 2
expect_problem 412 precondition_failed
req PUT /kv/n -H 'If-None-Match: "999"' -d 2
expect_status 200
req DELETE /kv/n -H "If-None-Match: $(header ETag)"
expect_problem 412 precondition_failed
req DELETE /kv/n -H "If-None-Match: $tag"
expect_status 204
req PUT /kv/n -H 'If-Match: "1"' -H 'If-None-Match: "2"' -d 3
expect_problem 412 precondition_failed
expect_json '.current_etag == null'
req DELETE /kv/n -H 'If-Match: *'
expect_problem 412 precondition_failed

echo "JSON ends where the body ends"
printf '1\0' >"$WORK/zero"
req PUT /kv/z --data-binary "@$WORK/zero"
expect_problem 400 invalid_json

echo "every answer while draining ends its connection"
exec 4<>"/dev/tcp/127.0.0.1/$PORT"
# shellcheck disable=SC2059
printf "${head}Content-Length: 5\r\n\r\nab" >&4
sleep 0.3
kill -TERM "$PID"
sleep 0.3
printf 'cde' >&4
answer=$(timeout 3 cat <&4)
exec 4>&-
check_equal "statuses" "$(answers)" "HTTP/1.1 200 "
check "it says so" grep -qi '^connection: close' <<<"$answer"
wait "$PID"
check_equal "the server ends with" $? 0
finish
