#!/usr/bin/env bash
# What one client may use, and what slow and too many clients get: 429 and 503 with Retry-After, closed
# connections, and a server that goes on.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
STORMCTL=${STORMCTL:-$SOURCE_DIR/build/api/stormctl}

# hold N [bytes]: N connections that stay open in a process of their own; what was sent on each comes
# first. Sets HOLDER.
hold() {
    # shellcheck disable=SC2016 # the inner shell expands it
    bash -c 'for ((i = 0; i < $1; i++)); do
        exec {fd}<>"/dev/tcp/127.0.0.1/$0" || exit 1
        printf "$2" >&$fd 2>/dev/null
    done; echo held; read -r _' "$PORT" "$1" "${2:-}" <>"$WORK/hold.in" >"$WORK/hold.out" 2>/dev/null &
    HOLDER=$!
    CHILDREN+=("$HOLDER")
    local i
    for ((i = 0; i < 500; i++)); do
        [ -s "$WORK/hold.out" ] && return
        sleep 0.02
    done
    die "cannot open $1 connections"
}
let_go() {
    kill -9 "$HOLDER" 2>/dev/null
    wait "$HOLDER" 2>/dev/null
    : >"$WORK/hold.out"
}
mkfifo "$WORK/hold.in"
connections() { req GET /stats && jq .http.connections "$WORK/body"; }
# until_connections 'test' NUMBER: waits for the server to see them come or go.
until_connections() {
    local i
    for ((i = 0; i < 1000; i++)); do
        test "$(connections)" "$1" "$2" && return 0
        sleep 0.02
    done
    return 1
}

echo "a rate for each address"
storm_start --http.client_requests_per_s=1 --http.client_burst=20
limited=0
for ((i = 0; i < 40; i++)); do
    req GET /kv/a
    case $STATUS in
    404) ;;
    429)
        limited=$((limited + 1))
        expect_problem 429 rate_limited
        expect_header Retry-After '[1-9][0-9]*'
        ;;
    *) fail_answer "neither 404 nor 429" ;;
    esac
done
check "most beyond the burst are refused ($limited)" test "$limited" -ge 10
req GET /healthz
expect_status 200
for ((i = 0; i < 200; i++)); do
    sleep 0.05
    req GET /kv/a
    [ "$STATUS" = 404 ] && break
done
expect_status 404
storm_stop

echo "a rate for each key"
for name in one two; do "$STORMCTL" key --file "$WORK/keys" >"$WORK/$name"; done
storm_start --http.client_requests_per_s=1 --http.client_burst=10 "--auth.keys_file=$WORK/keys"
statuses() {
    local i
    for ((i = 0; i < 20; i++)); do
        req GET /kv/a -H "Authorization: Bearer $1"
        echo "$STATUS"
    done | sort | uniq -c | tr -s ' \n' ' '
}
check "the first key is limited" grep -q ' 404 .* 429 ' <<<" $(statuses "$(cat "$WORK/one")")"
check "the second is not, by that" grep -q '404' <<<"$(statuses "$(cat "$WORK/two")" | head -c 8)"
check "guesses are, by their address" grep -q ' 401 .* 429 ' <<<" $(statuses guess)"
storm_stop

echo "connections of one address"
storm_start --http.client_connections=4 --http.header_timeout_s=60
hold 4
req GET /healthz
expect_problem 429 rate_limited
expect_header Retry-After 1
expect_header Connection close
let_go
expect_service
hold 40
sockets=$(find "/proc/$PID/fd" -lname 'socket:*' 2>/dev/null | wc -l)
check "the server holds no more than a few beyond it ($sockets sockets)" test "$sockets" -le 20
let_go
expect_service
storm_stop

echo "connections of all"
storm_start --http.max_connections=8
hold 8
req GET /healthz
expect_problem 503 overloaded
expect_header Retry-After 1
expect_header Connection close
let_go
check "they are given back" until_connections -le 1
hold 300
rss=$(awk '/VmRSS/ { print $2 }' "/proc/$PID/status")
check "300 cost no more than 64 MB ($rss KB)" test "$rss" -lt 65536
let_go
expect_service
storm_stop

echo "slow clients"
storm_start --http.header_timeout_s=1 --http.body_timeout_s=1 --http.idle_timeout_s=2
# drip 'first' 'piece': sends a byte 20 times a second, and prints the ms until the server hangs up.
drip() {
    local begun=${EPOCHREALTIME/./} i
    exec 4<>"/dev/tcp/127.0.0.1/$PORT"
    # shellcheck disable=SC2059
    printf "$1" >&4
    for ((i = 0; i < 400; i++)); do
        # shellcheck disable=SC2059
        printf "$2" >&4 2>/dev/null || break
        # What is to be read is the end, or an answer and then the end.
        read -r -t 0.05 -u 4 _
        [ $? -gt 128 ] || break
    done
    exec 4>&-
    echo $(((${EPOCHREALTIME/./} - begun) / 1000))
}
trap '' PIPE
for case in 'GET /kv/a HTTP/1.1\r\nHost: localhost\r\nX-Slow: |a' 'GET /kv/|a' \
    'PUT /kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n|a' \
    'PUT /kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n|1\r\na\r\n'; do
    took=$(drip "${case%%|*}" "${case#*|}" 2>/dev/null)
    check "a client that drips '${case%%|*}' is gone after $took ms" test "$took" -ge 900 -a "$took" -lt 9000
    req GET /readyz
    expect_status 200
done
hold 50 'GET /kv/a HTTP/1.1\r\nHost: loc'
check "50 silent ones are seen" until_connections -ge 50
check "and closed" until_connections -le 2
let_go
storm_stop
check_equal "SIGTERM ends it with" $? 0
finish
