#!/usr/bin/env bash
# Whole ranges in bounded memory: 300,000 entries are imported, listed, exported and counted, and the
# server's own memory (what no file is behind) stays under a fixed bound.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
ENTRIES=300000
# Of cache and memtables, and of what one list or import may take beside them.
BOUND_KIB=$((32 << 10))
storm_start --wal.sync=off --cache.bytes=4MiB --memtable.bytes=1MiB --write_buffer.bytes=4MiB

# check_memory 'when': growth of anonymous memory since the start.
own_memory() { awk '/^RssAnon/ { print $2 }' "/proc/$PID/status"; }
before=$(own_memory)
check_memory() {
    local grown=$(($(own_memory) - before))
    echo "  $grown KiB more after $1"
    check "memory is bounded after $1" test "$grown" -lt "$BOUND_KIB"
}
# peak_during PID: the most that the server has while the process runs.
peak_during() {
    local now peak=0
    while kill -0 "$1" 2>/dev/null; do
        now=$(own_memory)
        [ "$now" -gt "$peak" ] && peak=$now
        sleep 0.02
    done
    wait "$1"
    echo "  at most $((peak - before)) KiB more meanwhile"
    check "memory is bounded meanwhile" test $((peak - before)) -lt "$BOUND_KIB"
}

echo "import, gzip'd"
awk -v n="$ENTRIES" 'BEGIN { for (i = 0; i < n; i++)
    printf "{\"key\":\"key-%09d\",\"value\":{\"n\":%d,\"text\":\"%0200d\"}}\n", i, i, i * 7919 }' |
    gzip -1 >"$WORK/in.gz"
curl -sS -T "$WORK/in.gz" -X POST -H 'Content-Encoding: gzip' -o "$WORK/body" "$URL/import" &
peak_during $!
expect_json ".imported == $ENTRIES and .failed == 0"
check_memory import

echo "a list of everything"
curl -sS -H 'Accept: application/x-ndjson' -o "$WORK/list" "$URL/kv" &
peak_during $!
check_equal "lines" "$(wc -l <"$WORK/list")" $((ENTRIES + 1))
check_equal "the closing line" "$(tail -n 1 "$WORK/list" | jq -c '[.end, .count]')" "[true,$ENTRIES]"
check "in order, each once" sh -c "head -n $ENTRIES '$WORK/list' | cut -c1-24 | sort -cu"
check_memory list

echo "an export of everything, gzip'd, to a reader that takes its time"
curl -sS --limit-rate 8M -H 'Accept-Encoding: gzip' -o "$WORK/export.gz" "$URL/export" &
peak_during $!
check_equal "lines" "$(gzip -dc "$WORK/export.gz" | wc -l)" $((ENTRIES + 1))
check_memory export

echo "while all of it is counted, others are answered"
counters=()
for i in 1 2 3; do
    curl -s -o "$WORK/count.$i" "$URL/kv?select=count" &
    counters+=("$!")
done
# No waiting for what a quick machine has done already: all that counts is that each gets its answer.
req GET /kv/key-000000001
expect_status 200
wait "${counters[@]}"
check_equal "counts" "$(jq .count "$WORK"/count.? | xargs)" "$ENTRIES $ENTRIES $ENTRIES"

echo "a page behind many deleted keys"
req DELETE '/kv?start=key-000000001&end=key-000299999'
expect_json ".deleted == $ENTRIES - 2"
req GET '/kv?limit=1&start=key-000000001'
expect_json '[.entries[].key] == ["key-000299999"] and .next_cursor == null'
req GET '/kv?select=count'
expect_json '.count == 2'
check_memory delete

echo "one that is listing when the server stops is told by what is missing, or gets all"
curl -sS -T "$WORK/in.gz" -X POST -H 'Content-Encoding: gzip' -o "$WORK/body" "$URL/import"
curl -sS --limit-rate 1M -H 'Accept: application/x-ndjson' -o "$WORK/cut" "$URL/kv" 2>"$WORK/curl" &
reader=$!
sleep 0.5
storm_stop
check_equal "the server ends well" "$?" 0
wait "$reader"
status=$?
if [ "$status" -eq 0 ]; then
    check "it is whole" test "$(tail -n 1 "$WORK/cut" | jq .end)" = true
else
    check_not "it does not look whole" grep -q '"end":true' "$WORK/cut"
fi
finish
