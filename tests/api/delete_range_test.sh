#!/usr/bin/env bash
# DELETE /kv: a prefix or a range at once, counted; a guard against wiping the store.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start

fill() { # keys below these prefixes, three each
    local prefix i
    for prefix in "$@"; do
        for i in 1 2 3; do printf 'url = "%s/kv/%s%s"\nupload-file = "%s"\nsilent\noutput = /dev/null\nnext\n' \
            "$URL" "$prefix" "$i" "$WORK/one"; done
    done | sed '$d' >"$WORK/puts"
    curl -K "$WORK/puts" || die "cannot write"
}
count() { # query, wanted
    req GET "/kv?select=count&$1"
    expect_json ".count == $2"
}
printf 1 >"$WORK/one"
fill a b c

echo "dry runs count and delete nothing"
req DELETE '/kv?prefix=a&dry_run=true'
expect_status 200
expect_json '. == {deleted: 3, revision: 9, counted_at: 9, dry_run: true}'
req DELETE '/kv?dry_run=true'
expect_json '.deleted == 9'
count '' 9

echo "no bound, or an empty one, needs all=true"
for query in '' '?prefix=' '?start=&end=' '?all=false' '?prefix=&dry_run=false'; do
    req DELETE "/kv$query"
    expect_problem 400 unbounded_delete
    expect_json '.hint | contains("all=true")'
done
req DELETE '/kv?all=true&prefix=a'
expect_problem 400 invalid_parameter
count '' 9

echo "a prefix"
req DELETE '/kv?prefix=a'
expect_status 200
expect_json '. == {deleted: 3, revision: 10, counted_at: 9}'
count prefix=a 0
count '' 6
req GET /kv/a1
expect_problem 404 key_not_found

echo "a range that has no keys is no write"
req DELETE '/kv?prefix=a'
expect_json '. == {deleted: 0, revision: 10, counted_at: 10}'
req DELETE '/kv?start=z&end=a'
expect_json '.deleted == 0 and .revision == 10'

echo "start is included, end is not; both meet the prefix"
req DELETE '/kv?start=b2&end=c1'
expect_json '.deleted == 2'
count '' 4
req DELETE '/kv?prefix=c&start=c3'
expect_json '.deleted == 1'
req DELETE '/kv?prefix=c&end=c2'
expect_json '.deleted == 1'
req GET '/kv?select=keys'
expect_json '.keys == ["b1","c2"]'
fill a b c
req DELETE '/kv?prefix=b&start=a&end=z'
expect_json '.deleted == 3'
req DELETE '/kv?end=b'
expect_json '.deleted == 3'
req DELETE '/kv?start=c'
expect_json '.deleted == 3'
count '' 0

echo "prefixes that end in the last byte"
fill %FF %FF%FF a
req DELETE '/kv?prefix=%FF%FF'
expect_json '.deleted == 3'
count '' 6
req DELETE '/kv?prefix=%FF'
expect_json '.deleted == 3'
count '' 3

echo "without a count"
fill d
req DELETE '/kv?prefix=d' -H 'Prefer: return=minimal'
expect_status 204
expect_header Storm-Revision '[0-9]+'
count prefix=d 0

echo "everything"
fill a b
req DELETE '/kv?all=true'
expect_json '.deleted == 6'
count '' 0

echo "what cannot be kept is refused, not ignored"
req DELETE '/kv?prefix=a' -H 'If-Match: "1"'
expect_problem 400 unsupported_precondition
req DELETE '/kv?prefix=a' -H 'If-None-Match: *'
expect_problem 400 unsupported_precondition
req DELETE '/kv?prefix=a' -H 'If-Unmodified-Since: Sun, 22 Nov 2026 18:21:48 GMT'
expect_problem 400 unsupported_precondition
req DELETE '/kv?prefix=a&dry_run=maybe'
expect_problem 400 invalid_parameter
req DELETE '/kv?prefx=a'
expect_problem 400 unknown_parameter

echo "it is there after kill -9, and so is what was written since"
fill a b
req DELETE '/kv?prefix=a'
req PUT /kv/a9 -d 9
storm_kill
storm_start
req GET '/kv?select=keys'
expect_json '.keys == ["a9","b1","b2","b3"]'

echo "beside writers: when nothing came in between, the number is exact"
for _ in 1 2 3 4 5; do
    # shellcheck disable=SC2016 # the inner shell expands it
    timeout 60 bash -c 'for i in $(seq 30); do
        curl -s -o "$1" -X PUT "$0/kv/race:$i" -d 1; done' "$URL" "$WORK/race" &
    writer=$!
    while kill -0 "$writer" 2>/dev/null; do
        req DELETE '/kv?prefix=race:'
        expect_status 200
        jq -c . "$WORK/body" >>"$WORK/races"
    done
    wait "$writer"
    req DELETE '/kv?prefix=race:'
    jq -c . "$WORK/body" >>"$WORK/races"
    count prefix=race: 0
done
check "no count is more than was written, and none is of the future" jq -se \
    '([.[].deleted] | add) <= 150 and all(.[]; .counted_at <= .revision and .deleted >= 0)' \
    "$WORK/races" >"$WORK/out"
finish
