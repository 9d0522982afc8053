#!/usr/bin/env bash
# openapi.yaml: the linters are content with it, its operations are the routes that the server has, in
# both directions, and its examples are executed; every request here goes through the validating proxy,
# so every answer is what the document says. Needs the tools of tests/package.json (./tests/run.sh tools).
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
export REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true NO_COLOR=1 CI=true
REDOCLY=$SOURCE_DIR/tests/node_modules/.bin/redocly
[ -x "$REDOCLY" ] || die "the linter is missing: run ./tests/run.sh tools"
SPECTRAL=$SOURCE_DIR/tests/node_modules/.bin/spectral
[ -x "$SPECTRAL" ] || die "the other linter is missing: run ./tests/run.sh tools"
CONTRACT_RECORD=$WORK/record
cd "$SOURCE_DIR/tests/api" || die "no tests/api"

echo "the linter"
if ! "$REDOCLY" lint --config redocly.yaml ../../openapi.yaml >"$WORK/lint" 2>&1; then
    fail "the linter complains"
    cat "$WORK/lint"
fi
check "nothing is ignored" test ! -e .redocly.lint-ignore.yaml
check_not "there is no warning" grep -i warning "$WORK/lint"
if ! "$SPECTRAL" lint --quiet --fail-severity hint -r spectral.yaml ../../openapi.yaml >"$WORK/lint" 2>&1; then
    fail "the other linter complains"
    cat "$WORK/lint"
fi
"$REDOCLY" bundle --config redocly.yaml --dereferenced --ext json \
    -o "$WORK/openapi.json" ../../openapi.yaml >"$WORK/bundle" 2>&1 || die "$(cat "$WORK/bundle")"

echo "its operations and query parameters are those of the routes"
jq -r '.paths | to_entries[] | .key as $path | .value | (.parameters // []) as $common |
    to_entries[] | select(.key != "parameters") | (.key | ascii_upcase) + " " + $path + " " +
    ([$common[], .value.parameters[]?] | map(select(.in == "query").name) | sort | join(","))' \
    "$WORK/openapi.json" | sed 's/ $//' | sort >"$WORK/documented"
# The table of routes as the compiler sees it, not as a pattern would guess it; HEAD is wherever GET is.
printf '%s\n' '#define ROUTE(method, path, scope, begin, run, flags, ...) ROUTE method path __VA_ARGS__' \
    '#include "routes.def"' | cc -E -P -x c -I"$SOURCE_DIR/api" - | tr -d '",' | awk '
    $1 == "ROUTE" {
        names = ""
        n = 0
        for (i = 4; i <= NF && $i != "NULL"; i++) name[n++] = $i
        # A handful at most: sorted by insertion.
        for (i = 1; i < n; i++)
            for (j = i; j > 0 && name[j] < name[j - 1]; j--) {
                t = name[j]; name[j] = name[j - 1]; name[j - 1] = t
            }
        for (i = 0; i < n; i++) names = names (i ? "," : " ") name[i]
        print $2 " " $3 names
        if ($2 == "GET") print "HEAD " $3 names
    }' | sort >"$WORK/routes"
check "there are routes" test -s "$WORK/routes"
check "documented operations and routes are the same" diff "$WORK/documented" "$WORK/routes"

echo "every operation that takes a key says what happens without one"
printf '%s\n' '#define ROUTE(method, path, scope, ...) ROUTE method path scope' \
    '#include "routes.def"' | cc -E -P -x c -I"$SOURCE_DIR/api" - | tr -d '",' |
    awk '$1 == "ROUTE" { print tolower($2), $3, $4; if ($2 == "GET") print "head", $3, $4 }' >"$WORK/scopes"
while read -r method path scope; do
    if [ "$scope" = OPEN ]; then
        wanted='.security == [] and (.responses | has("403"))'
    else
        wanted='.security == null and (.responses | has("401") and has("403") and has("429"))'
    fi
    check "$method $path: $wanted" jq -e ".paths[\"$path\"].$method | $wanted" "$WORK/openapi.json" >"$WORK/out"
done <"$WORK/scopes"

echo "the server answers each of them"
storm_start
req PUT /kv/x -d 1
while read -r method path _; do
    req "$method" "${path/\{key\}/x}"
    # Whatever a bare request gets, it is no "no such route" or "no such method"; and the status is one
    # that the document has.
    case $STATUS in 000 | 404 | 405) fail_answer "status $STATUS" ;; esac
    check "status $STATUS of $method $path is documented" jq -e \
        ".paths[\"$path\"].${method,,}.responses | has(\"$STATUS\")" "$WORK/openapi.json" \
        >"$WORK/out"
    [ "$method" = DELETE ] && req PUT /kv/x -d 1
done <"$WORK/documented"

echo "what it answers is what the document says"
jq '.paths."/stats".get.responses."200".content."application/json".schema.required' \
    "$WORK/openapi.json" >"$WORK/required"
req GET /stats
expect_json "keys as \$have | $(tr -d '\n' <"$WORK/required") - \$have == []"
jq '.paths."/kv/{key}".put.responses."400".content."application/problem+json".schema.properties.code.enum' \
    "$WORK/openapi.json" | tr -d '\n' >"$WORK/codes"
req GET /kv/none
expect_json ".code | IN($(cat "$WORK/codes")[])"
echo "the examples of requests, executed"
# One line for each: method, path, required query parameters with their examples, media type, body.
jq -c '.paths | to_entries[] | .key as $path | .value | (.parameters // []) as $common |
    to_entries[] | select(.key != "parameters") | .key as $method | .value as $operation |
    ([$common[], $operation.parameters[]?] | map(select(.in == "query" and .required)) |
        map(.name + "=" + (.example | tostring)) | join("&")) as $query |
    $operation.requestBody.content // {} | to_entries[] | .key as $type | .value |
    (.examples // {} | [.[].value]) + (if has("example") then [.example] else [] end) | .[] |
    [($method | ascii_upcase), $path, $query, $type, if type == "string" then . else tojson end]' \
    "$WORK/openapi.json" >"$WORK/requests"
check "there are examples of requests" test "$(wc -l <"$WORK/requests")" -ge 2
while read -r example; do
    IFS=$'\t' read -r method path query type < <(jq -r '.[0:4] | map(if . == "" then "=" else . end) | @tsv' <<<"$example")
    [ "$query" = "=" ] && query=
    jq -j '.[4]' <<<"$example" >"$WORK/example"
    req "$method" "${path/\{key\}/user:1}${query:+?$query}" -H "Content-Type: $type" \
        --data-binary "@$WORK/example"
    case $STATUS in 2??) ;; *) fail_answer "the example is answered $STATUS" ;; esac
done <"$WORK/requests"

echo "the examples of lists and imports, executed, answer what they say"
jq -j '.paths."/import".post.requestBody.content."application/x-ndjson".example' \
    "$WORK/openapi.json" >"$WORK/import"
req POST /import --data-binary "@$WORK/import"
expect_json '.imported == 2 and .failed == 0'
jq '.paths."/import".post.responses."200".content."application/json".example | keys' \
    "$WORK/openapi.json" | tr -d '\n' >"$WORK/members"
expect_json "keys == $(cat "$WORK/members")"
jq -r '.paths."/kv".get.responses."200".content."application/json".examples[] |
    .summary + " " + (.value | keys | tojson)' "$WORK/openapi.json" >"$WORK/examples"
check "there are examples" test -s "$WORK/examples"
while read -r method target members; do
    req "$method" "$target"
    expect_status 200
    expect_json "keys == $members"
done <"$WORK/examples"
req GET '/kv?prefix=user:' -H 'Accept: application/x-ndjson'
jq -r '.paths."/kv".get.responses."200".content."application/x-ndjson".example' \
    "$WORK/openapi.json" | jq -sc '[.[] | keys]' >"$WORK/members"
check_equal "lines have the members of the example" "$(jq -sc '[.[] | keys]' "$WORK/body")" \
    "$(cat "$WORK/members")"

# Every problem code in the server's table is documented, and the other way round.
printf '%s\n' '#define API_ERROR(code, ...) ERROR code' '#include "errors.def"' |
    cc -E -P -x c -I"$SOURCE_DIR/api" - | sed -n 's/^ *ERROR \([a-z_]*\)$/\1/p' | sort >"$WORK/errors"
check "there are errors" test -s "$WORK/errors"
check "documented codes and the server's are the same" \
    diff <(jq -r '.[]' "$WORK/codes" | sort) "$WORK/errors"
finish
