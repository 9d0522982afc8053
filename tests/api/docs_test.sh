#!/usr/bin/env bash
# The documentation that the server carries: it loads nothing from elsewhere, explains every error
# code, and problem documents point into it.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start

echo "/docs"
req GET /docs
expect_status 200
check "it is a page" grep -qi '^content-type: text/html' "$WORK/headers"
check "it may load nothing from elsewhere" grep -qi "^content-security-policy: default-src 'none'" \
    "$WORK/headers"
check_not "it names no other host" grep -E '(src|href)="(https?:)?//' "$WORK/body"
viewer=$(grep -c 'rapi-doc' "$WORK/body")
req GET /docs/rapidoc.js
if [ "$viewer" -gt 0 ]; then
    expect_status 200
    check "the viewer inflates" test "$(gzip -dc "$WORK/body" | wc -c)" -gt 500000
else
    expect_status 404
fi
req GET /docs/page.css
expect_status 200
req GET /docs/
expect_status 404

echo "/docs/errors"
req GET /docs/errors
expect_status 200
cp "$WORK/body" "$WORK/page"
check_not "it names no other host" grep -E '(src|href)="(https?:)?//' "$WORK/page"
codes=$(printf '%s\n' '#define API_ERROR(code, ...) CODE code' '#include "errors.def"' |
    cc -E -P -x c -I"$SOURCE_DIR/api" - | awk '$1 == "CODE" { print $2 }')
check "there are codes" test "$(wc -w <<<"$codes")" -gt 20
for code in $codes; do
    check "$code has a section" grep -q "<h2 id=\"$code\">" "$WORK/page"
    check "$code is in openapi.yaml" grep -q "\b$code\b" "$SOURCE_DIR/openapi.yaml"
done
check_not "no section is empty" grep -q '<p></p>' "$WORK/page"

echo "a problem points to its section"
req GET /kv/nobody
expect_status 404
type=$(jq -r .type "$WORK/body")
check "its type is on the page" test "$type" = /docs/errors#key_not_found
finish
