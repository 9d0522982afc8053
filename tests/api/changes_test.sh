#!/usr/bin/env bash
# GET /changes: gap-free under concurrent writers and over a restart, in all three forms; what is gone;
# prefixes; limits; slow readers; the drain with watchers.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start --wal.sync=off --wal.retention_bytes=1GiB

# watch NAME TARGET [curl options]: a stream into $WORK/NAME, in the background; its pid in WATCHER.
watch() {
    local name=$1 target=$2
    shift 2
    : >"$WORK/$name"
    : >"$WORK/$name.head"
    curl -sN -g --max-time 100 -D "$WORK/$name.head" "$@" "$URL$target" >"$WORK/$name" &
    WATCHER=$!
    CHILDREN+=("$WATCHER")
}

# wait_for 'sentence' command...: until it succeeds, at most 20 s.
wait_for() {
    local what=$1 i
    shift
    CHECKS=$((CHECKS + 1))
    for ((i = 0; i < 1000; i++)); do
        "$@" && return
        sleep 0.02
    done
    fail "$what: $*"
}

# The JSON objects of a stream of events.
data() { sed -n 's/^data: //p' "$WORK/$1"; }
# The revisions of what was put in it.
revisions() { jq -c 'select(.op == "put" or .op == "delete") | .revision'; }
newest() { curl -s "$URL/changes" | jq .next; }

SSE='Accept: text/event-stream'
LINES='Accept: application/x-ndjson'

echo "pages"
req PUT /kv/a -d '{"n":
1}'
req PUT /kv/b -d 2
req PUT /kv/%ff%00 -H 'Content-Type: text/plain' -d text
req DELETE /kv/b
req GET '/changes?since=0'
expect_status 200
expect_header Content-Type application/json
expect_header Cache-Control no-store
expect_json '.next == 4 and [.events[].op] == ["put","put","put","delete"]'
expect_json '.events[0] | .key == "a" and .value == {"n":1} and .revision == 1 and .expires_at == null'
expect_json '.events[2] | .key_b64 == "/wA=" and .value_b64 == "dGV4dA==" and .content_type == "text/plain"'
expect_json '.events[3] == {"op":"delete","key":"b","revision":4}'
req GET '/changes'
expect_body $'{"events":[],"next":4}\n'
req GET '/changes?since=1&limit=2'
expect_json '.next == 3 and [.events[].revision] == [2,3]'
req GET '/changes?since=0&prefix=b&values=false'
expect_json '.next == 4 and [.events[] | [.op, has("value")]] == [["put",false],["delete",false]]'
req GET '/changes?since=0&prefix=%ff'
expect_json '[.events[].revision] == [3]'
req GET '/changes?since=0' -H 'Last-Event-ID: 3'
expect_json '[.events[].revision] == [4]'
req HEAD '/changes?since=0'
expect_status 200

echo "what is refused"
for query in since=x since=-1 limit=0 limit=10001 wait=301s wait=0s values=maybe; do
    req GET "/changes?$query"
    expect_problem 400 invalid_parameter
done
req GET '/changes?wait=1s' -H "$SSE"
expect_problem 400 invalid_parameter
req GET '/changes?sinse=1'
expect_problem 400 unknown_parameter
req GET '/changes' -H 'Last-Event-ID: next'
expect_problem 400 invalid_parameter
req GET '/changes?since=99'
expect_problem 410 history_gone
expect_json '.oldest_revision == 1 and .revision == 4'
req POST /changes
expect_problem 405 method_not_allowed

echo "a long poll waits for its prefix"
req GET '/changes?since=4&prefix=p&wait=1s'
expect_body $'{"events":[],"next":4}\n'
watch poll '/changes?since=4&prefix=p&wait=60s'
poll=$WATCHER
wait_for "it is answered with 200 before there is an event" grep -q '200 OK' "$WORK/poll.head"
req PUT /kv/o -d 1
req PUT /kv/q -d 1
sleep 0.3
check "what does not match does not end it" kill -0 "$poll"
req PUT /kv/p1 -d 1
wait "$poll"
check_equal "it has the event" "$(jq -c '[[.events[].key], .next]' "$WORK/poll")" '[["p1"],7]'

echo "no gaps under concurrent writers"
since=$(newest)
watch events "/changes?since=$since&prefix=w" -H "$SSE"
events=$WATCHER
watch lines "/changes?since=$since&prefix=w" -H "$LINES"
lines=$WATCHER
watch other "/changes?since=$since&prefix=none" -H "$SSE"
other=$WATCHER
wait_for "they watch" grep -q 200 "$WORK/other.head"
WRITERS=4 EACH=250
writers=()
for ((w = 0; w < WRITERS; w++)); do
    # One curl for all of a writer's puts: it prints the revision of each that was acknowledged.
    for ((i = 1; i <= EACH; i++)); do
        printf 'url = "%s/kv/w%d-%d"\nrequest = PUT\ndata = %d\nnext\n' "$URL" "$w" "$i" "$i"
    done | sed '$d' >"$WORK/put.$w"
    curl -sS -K "$WORK/put.$w" >"$WORK/acked.$w" &
    writers+=($!)
done
wait "${writers[@]}"
cat "$WORK"/acked.[0-9] | jq .revision | sort -n >"$WORK/acked"
check_equal "every put was acknowledged" "$(wc -l <"$WORK/acked")" $((WRITERS * EACH))
last=$(tail -n 1 "$WORK/acked")
wait_for "the events come" grep -q "^id: $last\$" "$WORK/events"
wait_for "the lines come" grep -q "\"next\":$last}" "$WORK/lines"
data events | revisions | diff - "$WORK/acked" >"$WORK/diff"
check_equal "events are what was acknowledged, in order" $? 0
revisions <"$WORK/lines" | diff - "$WORK/acked" >"$WORK/diff"
check_equal "so are the lines" $? 0
since=$((last - WRITERS * EACH))
: >"$WORK/pages"
while :; do
    req GET "/changes?since=$since&limit=97&prefix=w"
    jq -e '.events == []' "$WORK/body" >/dev/null && break
    jq -c '.events[]' "$WORK/body" >>"$WORK/pages"
    since=$(jq .next "$WORK/body")
done
revisions <"$WORK/pages" | diff - "$WORK/acked" >"$WORK/diff"
check_equal "so are the pages" $? 0
check_equal "who watches another prefix has seen none of it" "$(data other | wc -l)" 1
check_equal "every event has its id" "$(grep -c '^id: ' "$WORK/events")" $((WRITERS * EACH + 1))

echo "draining ends streams at once, with a point to resume from"
start=$EPOCHREALTIME
storm_stop
check_equal "it ends with" $? 0
took=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
check "it took $took ms, not 3 s" test "$took" -lt 3000
wait "$events"
check_equal "the client sees a whole answer" $? 0
wait "$lines" "$other"
check_equal "the good-bye says when to come back" "$(tail -n 2 "$WORK/events" | head -n 1)" 'retry: 2000'
point=$(sed -n 's/^id: //p' "$WORK/other" | tail -n 1)
check_equal "and who saw nothing has a point as well" "$point" "$last"

echo "a watcher resumes over a restart"
storm_start --wal.sync=off --wal.retention_bytes=1GiB
middle=$((last - 500))
watch again '/changes?since=0&prefix=w' -H "$SSE" -H "Last-Event-ID: $middle"
req PUT /kv/w-new -d 1
wait_for "the new event comes" grep -q '"w-new"' "$WORK/again"
{ tail -n 500 "$WORK/acked" && echo $((last + 1)); } >"$WORK/wanted"
data again | revisions | diff - "$WORK/wanted" >"$WORK/diff"
check_equal "it has all that came after its id" $? 0
req GET '/changes?since=0&limit=1'
expect_json '.events[0].revision == 1'
storm_stop
check_equal "it ends with" $? 0

echo "a slow reader is told so and resumes without a gap"
storm_start --wal.sync=off --wal.retention_bytes=1GiB
since=$(newest)
head -c 200000 /dev/zero | tr '\0' x >"$WORK/large"
mkfifo "$WORK/tap"
curl -sN --max-time 100 -H "$SSE" "$URL/changes?since=$since" >"$WORK/tap" &
CHILDREN+=($!)
exec 4<"$WORK/tap"
for ((i = 1; i <= 150; i++)); do
    printf 'url = "%s/kv/s%d"\nrequest = PUT\nheader = "Content-Type: text/plain"\ndata = "@%s"\nnext\n' \
        "$URL" "$i" "$WORK/large"
done | sed '$d' >"$WORK/put"
curl -sS -K "$WORK/put" >"$WORK/acked"
check_equal "all puts were acknowledged" "$(wc -l <"$WORK/acked")" 150
sleep 11
cat <&4 >"$WORK/slow"
exec 4<&-
check "it is told" grep -q '^event: lagging' "$WORK/slow"
seen=$(sed -n 's/^id: //p' "$WORK/slow" | tail -n 1)
check "after some of the events, up to $seen" test "$seen" -gt "$since"
check "but not all of them" test "$seen" -lt $((since + 150))
req GET "/changes?since=$seen&limit=1000&values=false"
{ data slow && jq -c '.events[]' "$WORK/body"; } | revisions >"$WORK/got"
seq $((since + 1)) $((since + 150)) | diff - "$WORK/got" >"$WORK/diff"
check_equal "with what comes after its id there is no gap" $? 0
storm_stop
check_equal "it ends with" $? 0

echo "what the log has lost is 410"
# A store of its own, whose segments are small from the beginning.
DATA=$WORK/small
storm_start --wal.sync=off --wal.retention_bytes=0 --write_buffer.bytes=1MiB
for ((i = 0; i < 100; i++)); do
    req PUT "/kv/z$i" -H 'Content-Type: text/plain' --data-binary "@$WORK/large"
    [ "$STATUS" = 503 ] || req POST /admin/flush
    req GET '/changes?since=0'
    [ "$STATUS" = 410 ] && break
done
expect_problem 410 history_gone
expect_json '.oldest_revision == 0 or .oldest_revision > 1'
req GET '/changes?since=0' -H "$SSE"
expect_problem 410 history_gone
finish
