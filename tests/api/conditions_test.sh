#!/usr/bin/env bash
# Preconditions in every method that takes them: GET, HEAD, PUT, PATCH, POST, DELETE and each operation of a
# batch; each form of a tag; 304; and the 412 that says what the tag is now. Races are in race.c.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start

# Each write is sent with a condition that fails, then with one that holds.
fresh() {
    req PUT /kv/k -d '{"a":1}'
    TAG=$(header ETag)
}
unchanged() {
    req GET /kv/k
    expect_body '{"a":1}'
    expect_header ETag "$TAG"
}
# fails METHOD 'target' 'condition' [curl options]: 412 with the tag that the key has, and no change.
fails() {
    local method=$1 target=$2 condition=$3
    shift 3
    req "$method" "$target" -H "$condition" "$@"
    expect_problem 412 precondition_failed
    expect_header ETag "$TAG"
    expect_json ".current_etag == \"\\\"${TAG//\"/}\\\"\" and (.detail | length > 0)"
    unchanged
}
holds() {
    local method=$1 target=$2 condition=$3
    shift 3
    fresh
    req "$method" "$target" -H "${condition//TAG/$TAG}" "$@"
    CHECKS=$((CHECKS + 1))
    [[ $STATUS =~ ^20[0-4]$ ]] || fail_answer "status $STATUS for a condition that holds"
}
STALE='"9007199254740000"'

echo "writes"
fresh
writes=('PUT /kv/k' 'PUT /kv/k?ttl=keep' 'PATCH /kv/k' 'DELETE /kv/k' 'PATCH /kv/k?ttl=1h'
    'POST /kv/k?op=touch&ttl=1h')
for write in "${writes[@]}"; do
    read -r method target <<<"$write"
    body=(-d '{"b":2}')
    [[ $method = DELETE || $target = *1h ]] && body=()
    fails "$method" "$target" "If-Match: $STALE" "${body[@]+"${body[@]}"}"
    fails "$method" "$target" "If-Match: W/$TAG" "${body[@]+"${body[@]}"}"
    fails "$method" "$target" "If-Match: \"x\", $STALE" "${body[@]+"${body[@]}"}"
    fails "$method" "$target" "If-None-Match: *" "${body[@]+"${body[@]}"}"
    fails "$method" "$target" "If-None-Match: $STALE, $TAG" "${body[@]+"${body[@]}"}"
    fails "$method" "$target" "If-None-Match: W/$TAG" "${body[@]+"${body[@]}"}"
    holds "$method" "$target" "If-Match: TAG" "${body[@]+"${body[@]}"}"
    holds "$method" "$target" "If-Match: $STALE, TAG" "${body[@]+"${body[@]}"}"
    holds "$method" "$target" "If-Match: *" "${body[@]+"${body[@]}"}"
    holds "$method" "$target" "If-None-Match: $STALE" "${body[@]+"${body[@]}"}"
    fresh
    req "$method" "$target" -H "If-Match: ${TAG%\"}-gz\"" "${body[@]+"${body[@]}"}"
    check_not "a tag with -gz holds" test "$STATUS" = 412
    for bad in 'If-Match: 42' 'If-None-Match: "42' 'If-Match: "1" "2"' \
        'If-Unmodified-Since: Tue, 01 Jan 2030 00:00:00 GMT'; do
        req "$method" "$target" -H "$bad" "${body[@]+"${body[@]}"}"
        expect_problem 400 unsupported_precondition
    done
    fresh
done
req DELETE /kv/k -H "If-Match: $STALE" -H 'Prefer: return=representation'
expect_problem 412 precondition_failed
unchanged

echo "writes to a key that is not there"
for write in 'PUT /kv/none' 'PATCH /kv/none' 'DELETE /kv/none' 'PATCH /kv/none?ttl=1h' \
    'POST /kv/none?op=incr' 'PUT /kv/none?ttl=keep'; do
    read -r method target <<<"$write"
    for condition in 'If-Match: *' "If-Match: $STALE"; do
        req "$method" "$target" -H "$condition" -d '{}'
        expect_problem 412 precondition_failed
        expect_no_header ETag
        expect_json '.current_etag == null'
    done
done
req POST '/kv/counter?op=incr' -H 'If-None-Match: *'
expect_status 201
req PUT /kv/created -H 'If-None-Match: *' -d 1
expect_status 201
req PUT '/kv/created2?ttl=keep' -H 'If-None-Match: *' -d 1
expect_status 201

echo "reads"
for method in GET HEAD; do
    for condition in "If-None-Match: $TAG" "If-None-Match: W/$TAG" "If-None-Match: *" \
        "If-None-Match: $STALE, $TAG"; do
        req "$method" /kv/k -H "$condition"
        expect_status 304
        expect_header ETag "$TAG"
        expect_header Cache-Control no-cache
        check "304 has no body" test ! -s "$WORK/body"
    done
    req "$method" /kv/k -H "If-None-Match: $STALE"
    expect_status 200
    req "$method" /kv/k -H "If-Match: $TAG"
    expect_status 200
    req "$method" /kv/k -H "If-Match: $STALE"
    expect_status 412
    expect_header ETag "$TAG"
    req "$method" /kv/none -H 'If-None-Match: *'
    expect_status 404
    req "$method" /kv/none -H 'If-Match: *'
    expect_status 412
done
# Both at once: both have to hold.
req GET /kv/k -H "If-Match: $TAG" -H "If-None-Match: $TAG"
expect_status 304
req PUT /kv/k -H "If-Match: $TAG" -H "If-None-Match: $TAG" -d 1
expect_problem 412 precondition_failed
unchanged

echo "the operations of a batch"
number=${TAG//\"/}
for op in '"op":"put","value":1' '"op":"delete"' '"op":"check"' '"op":"get"'; do
    for condition in '"if_match":"1"' '"if_none_match":"*"' "\"if_none_match\":\"$number\"" \
        "\"if_match\":\"$number\",\"if_none_match\":$number"; do
        req POST /batch -d "{\"ops\":[{$op,\"key\":\"k\",$condition}]}"
        expect_problem 412 precondition_failed
        expect_json ".failed == [{\"index\":0,\"key\":\"k\",\"current_revision\":$number}]"
        unchanged
    done
done
for op in '"op":"check"' '"op":"get"' '"op":"put","value":{"a":1}'; do
    req POST /batch -d "{\"ops\":[{$op,\"key\":\"k\",\"if_match\":$TAG,\"if_none_match\":\"1\"}]}"
    expect_status 200
done
finish
