#!/usr/bin/env bash
# What is beside the values: flush, stats, health, readiness, version, the contract and the root.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start
# /readyz answers 503 until the store is open; those count.
req GET /stats
unready=$(jq .http.errors_5xx "$WORK/body")

echo "health, version, root"
req GET /healthz
expect_status 200
req HEAD /healthz
expect_status 200
req GET /readyz
expect_status 200
check "readiness is readable" grep -qF '[+]' "$WORK/body"
req GET /readyz -H 'Accept: application/json'
expect_status 200
expect_header Content-Type 'application/json.*'
expect_json 'type == "object"'
req GET /version
expect_json '(.version | test("^[0-9]+[.][0-9]+[.][0-9]+")) and .api == 1'
version=$(jq -r .version "$WORK/body")
req GET /
expect_status 200
expect_json ".name == \"storm\" and .version == \"$version\" and .openapi == \"/openapi.yaml\""
check_equal "the program says the same version" \
    "$("$STORMD" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)" "$version"

echo "the contract is served as it is in the tree"
req GET /openapi.yaml
expect_status 200
expect_header Content-Type '(application|text)/.*yaml.*'
check "openapi.yaml is the same" cmp "$SOURCE_DIR/openapi.yaml" "$WORK/body"
check "the contract has this version" grep -qx "  version: $version" "$WORK/body"
length=$(wc -c <"$WORK/body")
req HEAD /openapi.yaml
expect_header Content-Length "$length"

echo "flush and stats"
req POST /admin/flush
expect_status 200
expect_json '.flushed == false'
for ((i = 0; i < 20; i++)); do
    req PUT "/kv/k$i" -d "$i"
done
req GET /stats
expect_status 200
expect_json '.memtable_size > 0 and (.memtable_size | floor) == .memtable_size and .sstable_count == 0'
expect_json '.revision == 20 and .read_only == false and .uptime_seconds >= 0'
expect_json '(.started_at | test("^[0-9-]{10}T[0-9:]{8}[.][0-9]{3}Z$"))'
expect_json "keys_unsorted[0:3] == [\"memtable_size\", \"sstable_count\", \"bloom_hits\"] and .version == \"$version\""
req POST /admin/flush
expect_status 200
expect_json '.flushed == true and .flushed_entries == 20 and .flushed_bytes > 0 and
    .duration_ms >= 0 and .sstable_count == 1 and .memtable_size == 0 and
    (.bloom_hits | type) == "number"'
for ((i = 0; i < 20; i++)); do
    req GET "/kv/k$i"
    expect_body "$i"
    req GET "/kv/k1-missing$i"
    expect_status 404
done
req GET /stats
expect_json '.sstable_count == 1 and .memtable.entries == 0 and .sstables.count == 1 and
    .sstables.bytes > 0 and .flush.completed == 1 and .flush.last_at != null'
# 20 absent keys at a false-positive rate of 1 % leave at least 15 hits but for bad luck of 10^-8.
expect_json '.bloom_hits == .bloom.hits and .bloom.hits >= 15 and
    .bloom.checks == .bloom.hits + .bloom.passes'
expect_json ".http.requests > 60 and .http.errors_4xx >= 20 and .http.errors_5xx == $unready and
    .http.in_flight >= 1"
expect_json '.wal.syncs > 0 and .disk.free_bytes > 0 and .disk.kept_bytes > 128 * 1024 * 1024'
req POST /admin/flush
expect_json '.flushed == false and .sstable_count == 1'

echo "every field that the contract has is there, and none that it has not"
req GET /stats
jq -r 'paths(scalars or . == []) | map(select(type == "string")) | join(".")' "$WORK/body" |
    sort -u >"$WORK/fields"
# The schema is indented by four at "Stats:", by eight at its first properties; from there every
# level of objects adds four.
awk '
    /^    Stats:$/ { on = 1; next }
    on && /^    [A-Za-z]/ { exit }
    on { print }' "$SOURCE_DIR/openapi.yaml" >"$WORK/schema"
while IFS= read -r field; do
    check "stats field $field is in the contract" grep -qE "^ +${field##*.}:" "$WORK/schema"
done <"$WORK/fields"
while IFS= read -r field; do
    expect_json "has(\"$field\")"
done < <(sed -n 's/^        \([a-z_]*\):$/\1/p' "$WORK/schema")

echo "an expiry and a flush go together"
req PUT '/kv/short?ttl=1s' -d 1
req POST /admin/flush
sleep 1.05
req GET /kv/short
expect_problem 404 key_not_found
storm_stop
check_equal "SIGTERM ends it with" $? 0
finish
