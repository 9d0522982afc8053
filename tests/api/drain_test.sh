#!/usr/bin/env bash
# SIGTERM under load: requests in flight are answered, what was acknowledged is kept, and the server
# ends with 0 within 10 s. A second signal ends it at once.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start

# writer N: puts keys one after the other, noting each that was acknowledged, until one is not.
writer() {
    local i=0 status
    while :; do
        i=$((i + 1))
        status=$(curl -s -o /dev/null -w '%{http_code}' --max-time 20 -X PUT \
            "$URL/kv/w$1-$i" -d "$i" 2>/dev/null)
        case $status in
        201) echo "$i" >>"$WORK/acked.$1" ;;
        *)
            echo "$status" >"$WORK/last.$1"
            return
            ;;
        esac
    done
}

# acked: how many writes were acknowledged so far, by all writers.
acked() {
    cat "$WORK"/acked.? | wc -l
}

# wait_until COMMAND...: until it succeeds, a minute at most.
wait_until() {
    local i
    for ((i = 0; i < 1200; i++)); do
        "$@" && return 0
        sleep 0.05
    done
    return 1
}

has_acked_more_than() { [ "$(acked)" -gt "$1" ]; }

echo "drain under load"
writers=()
for w in 1 2 3 4 5 6; do
    : >"$WORK/acked.$w"
    writer "$w" &
    writers+=($!)
    CHILDREN+=($!)
done
# An upload that is under way when the signal comes: half the body before it, half after.
mkfifo "$WORK/slow"
{
    printf '"half'
    wait_until test -e "$WORK/signalled"
    sleep 0.5
    printf ' and half"'
} >"$WORK/slow" &
CHILDREN+=($!)
curl -s -v -o /dev/null -w '%{http_code}' --max-time 90 -X PUT -H 'Content-Type: application/json' \
    -H 'Expect:' -T - "$URL/kv/slow" <"$WORK/slow" >"$WORK/slow.status" 2>"$WORK/slow.trace" &
upload=$!
CHILDREN+=("$upload")
check "the upload has begun" wait_until grep -q '^> PUT' "$WORK/slow.trace"
# What is acknowledged from now on came to the server after it.
check "there is load" wait_until has_acked_more_than $(($(acked) + 20))
start=$EPOCHREALTIME
kill -TERM "$PID"
: >"$WORK/signalled"
wait "$PID"
check_equal "SIGTERM under load ends it with" $? 0
took=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
check "it took $took ms, not 10 s" test "$took" -lt 10000
wait "${writers[@]}" "$upload"
check_equal "the upload that was under way is answered" "$(cat "$WORK/slow.status")" 201
for w in 1 2 3 4 5 6; do
    # 000: the connection was refused or closed before an answer began; 503: shutting down.
    case $(cat "$WORK/last.$w") in
    000 | 503) ;;
    *) fail "writer $w ended with status $(cat "$WORK/last.$w")" ;;
    esac
done

echo "what was acknowledged is there"
storm_start
for w in 1 2 3 4 5 6; do
    while IFS= read -r i; do
        printf 'next\nurl = "%s/kv/w%s-%s"\nsilent\nfail\nwrite-out = "\\n"\n' "$URL" "$w" "$i"
    done <"$WORK/acked.$w" | sed 1d >"$WORK/gets"
    curl -K "$WORK/gets" >"$WORK/got" 2>/dev/null
    check "what writer $w wrote is there" cmp "$WORK/acked.$w" "$WORK/got"
done
req GET /kv/slow
expect_body '"half and half"'

echo "a second signal ends it at once"
# A request that never ends keeps the drain waiting.
(
    exec 3<>"/dev/tcp/127.0.0.1/$PORT"
    printf 'PUT /kv/stuck HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx' >&3
    sleep 20
) &
CHILDREN+=($!)
sleep 0.3
kill -TERM "$PID"
sleep 0.5
start=$EPOCHREALTIME
kill -TERM "$PID" 2>/dev/null
wait "$PID"
took=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
check "the second signal took $took ms" test "$took" -lt 2000
storm_start
req GET /kv/slow
expect_body '"half and half"'
req GET /kv/stuck
expect_problem 404 key_not_found

echo "SIGINT does the same"
kill -INT "$PID"
wait "$PID"
check_equal "SIGINT ends it with" $? 0
finish
