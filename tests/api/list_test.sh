#!/usr/bin/env bash
# GET /kv: ranges, pages, cursors, keys, counts, several keys by name, lines.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start --limits.key_bytes=4096

NDJSON='Accept: application/x-ndjson'

echo "an empty store"
req GET /kv
expect_status 200
expect_json '. == {entries: [], next_cursor: null, revision: 0}'
req GET '/kv?select=keys'
expect_json '. == {keys: [], next_cursor: null, revision: 0}'
req GET '/kv?select=count'
expect_json '. == {count: 0, revision: 0}'

# put_all KEY...: one curl for all of them.
put_all() {
    local key first=1
    for key in "$@"; do
        [ "$first" = 1 ] || echo next
        first=0
        printf 'url = "%s/kv/%s"\nrequest = PUT\ndata = {"is":"%s"}\nsilent\noutput = /dev/null\n' \
            "$URL" "$key" "$key"
    done | sed 's/data = {"is":"\(.*\)"}/data = "{\\"is\\":\\"\1\\"}"/' >"$WORK/puts"
    curl -K "$WORK/puts" || die "cannot write"
}
names=()
for i in $(seq -w 0 249); do names+=("n:$i"); done
put_all "${names[@]}" a b ba bb c user:1 user:2 user:3

echo "entries are in order, with everything that is known of them"
req GET '/kv?prefix=user:'
expect_status 200
expect_header Content-Type 'application/json'
expect_no_header Link
expect_json '.entries | length == 3'
expect_json '.entries[0] | keys == ["expires_at","key","modified_at","revision","value"]'
expect_json '.entries[0] | .key == "user:1" and .value == {is: "user:1"} and .expires_at == null'
expect_json '[.entries[].key] == ["user:1","user:2","user:3"] and .revision == 258'
req HEAD '/kv?prefix=user:'
expect_status 200

echo "ranges: start is included, end is not, prefix and bounds meet"
keys() { # query, wanted array
    req GET "/kv?select=keys&$1"
    expect_status 200
    expect_json ".keys == $2"
    req GET "/kv?$1"
    expect_json "[.entries[].key] == $2"
    req GET "/kv?select=keys&$1" -H "$NDJSON"
    CHECKS=$((CHECKS + 1))
    [ "$(jq -sc '[.[] | select(.end | not) | .key]' "$WORK/body")" = "$(jq -nc "$2")" ] ||
        fail_answer "the lines differ from $2"
}
keys 'start=a&end=c' '["a","b","ba","bb"]'
keys 'start=a&end=c&reverse=true' '["bb","ba","b","a"]'
keys 'start=ba&end=bb' '["ba"]'
keys 'prefix=b' '["b","ba","bb"]'
keys 'prefix=b&reverse=true' '["bb","ba","b"]'
keys 'prefix=b&start=ba' '["ba","bb"]'
keys 'prefix=b&end=ba' '["b"]'
keys 'prefix=b&start=c' '[]'
keys 'start=c&end=a' '[]'
keys 'start=user:' '["user:1","user:2","user:3"]'
keys 'end=b' '["a"]'
keys 'prefix=zzz' '[]'
keys 'prefix=&start=&end=b' '["a"]'

echo "pages end at the limit, follow each other, and the last has no cursor"
walk() { # query, number of keys wanted, [curl option]
    local cursor='' pages=0 link
    : >"$WORK/all"
    while :; do
        req GET "/kv?$1${cursor:+&cursor=$cursor}"
        [ "$STATUS" = 200 ] || { expect_status 200; return; }
        jq -r '(.keys // [.entries[].key])[]' "$WORK/body" >"$WORK/page"
        cat "$WORK/page" >>"$WORK/all"
        cursor=$(jq -r '.next_cursor // ""' "$WORK/body")
        link=$(header Link)
        pages=$((pages + 1))
        if [ -z "$cursor" ]; then
            check_equal "the last page has no link" "$link" ''
            break
        fi
        [ -s "$WORK/page" ] || fail_answer "a page with a cursor is empty"
        [[ $link == "</kv?"*"cursor=$cursor>; rel=\"next\"" ]] || fail_answer "link is '$link'"
        [ "$pages" -lt 1000 ] || { fail "the pages have no end"; return; }
    done
    check_equal "keys of $1" "$(wc -l <"$WORK/all")" "$2"
    check_equal "keys of $1 without repetition" "$(sort -u "$WORK/all" | wc -l)" "$2"
}
for limit in 37 100 249 250 251 10000; do
    walk "prefix=n:&limit=$limit" 250
    check "in order" sort -c "$WORK/all"
    walk "prefix=n:&limit=$limit&select=keys&reverse=true" 250
    check "in reverse order" sort -rc "$WORK/all"
done
walk 'start=n:100&end=n:110&limit=1' 10
req GET '/kv'
expect_json '.entries | length == 100'
expect_json '.next_cursor != null'

echo "the link is the next page as it stands"
req GET '/kv?prefix=n%3A&limit=2&select=keys'
link=$(header Link)
req GET "$(printf %s "$link" | sed 's/^<\([^>]*\)>.*/\1/')"
expect_status 200
expect_json '.keys == ["n:002","n:003"]'

echo "what is written between two pages is seen, what was listed is not listed again"
req GET '/kv?prefix=w:&limit=1'
put_all w:1 w:2 w:4
req GET '/kv?prefix=w:&limit=2&select=keys'
cursor=$(jq -r .next_cursor "$WORK/body")
put_all w:0 w:2 w:3
req DELETE /kv/w:2
req GET "/kv?prefix=w:&limit=2&select=keys&cursor=$cursor"
expect_json '.keys == ["w:3","w:4"] and .next_cursor == null'

echo "a cursor belongs to its list"
req GET '/kv?prefix=n:&limit=5'
cursor=$(jq -r .next_cursor "$WORK/body")
for other in 'prefix=n' 'prefix=n:&start=n:' 'prefix=n:&end=z' 'prefix=n:&reverse=true' \
    'prefix=n:&select=keys' 'start=n:'; do
    req GET "/kv?$other&limit=5&cursor=$cursor"
    expect_problem 400 invalid_cursor
done
req GET "/kv?prefix=n:&limit=99&cursor=$cursor"
expect_status 200
expect_json '.entries[0].key == "n:005"'
# One character is another one; the cursor is cut; it grows; it is none.
at=$((${#cursor} / 2))
letter=${cursor:$at:1}
[ "$letter" = A ] && letter=B || letter=A
for bad in "${cursor:0:$at}$letter${cursor:$((at + 1))}" "${cursor:0:$at}" "${cursor}AAAA" '' x AAAA \
    "$cursor=" "%00" "$(printf 'A%.0s' {1..60})"; do
    req GET "/kv?prefix=n:&limit=5&cursor=$bad"
    expect_problem 400 invalid_cursor
done

echo "a page is at most 4 MiB, and one value larger than that is a page of its own"
head -c 1500000 /dev/zero | tr '\0' x | sed 's/^/"/; s/$/"/' >"$WORK/large"
head -c 5000000 /dev/zero | tr '\0' y | sed 's/^/"/; s/$/"/' >"$WORK/larger"
for key in big:1 big:2 big:3 big:5; do req PUT "/kv/$key" --data-binary "@$WORK/large"; done
req PUT /kv/big:4 --data-binary "@$WORK/larger"
pages=
cursor=
while :; do
    req GET "/kv?prefix=big:${cursor:+&cursor=$cursor}"
    expect_status 200
    pages="$pages $(jq '.entries | length' "$WORK/body")"
    cursor=$(jq -r '.next_cursor // ""' "$WORK/body")
    [ -n "$cursor" ] || break
    [ "$(jq '.entries | length' "$WORK/body")" = 1 ] ||
        check "a page of several has at most 4 MiB" test "$(wc -c <"$WORK/body")" -le 4195000
done
check_equal "entries of each page" "$pages" " 2 1 1 1"
req GET '/kv?prefix=big:&select=keys'
expect_json '.keys | length == 5'

echo "count is exact"
req GET '/kv?select=count'
total=$(jq .count "$WORK/body")
check_equal "all of them" "$total" $((258 + 4 + 5))
req GET '/kv?select=count&prefix=n:1'
expect_json '.count == 100'
req GET '/kv?select=count&start=b&end=c'
expect_json '.count == 8'

echo "several keys by name, in the order of the request"
req GET '/kv?key=user:2&key=none&key=a&key=user:2&key=%00'
expect_status 200
expect_json '[.entries[].key] == ["user:2","a","user:2"] and .missing == ["none","\u0000"]'
expect_json '.entries[0].value == {is: "user:2"} and .revision > 0'
many=$(printf 'key=n:%03d&' $(seq 0 999))
req GET "/kv?$many"
expect_status 200
expect_json '(.entries | length) == 250 and (.missing | length) == 750'
req GET '/kv?key='
expect_problem 400 invalid_key
req GET "/kv?key=$(head -c 4097 /dev/zero | tr '\0' k)"
expect_problem 413 key_too_long
req GET '/kv?key=a&prefix=b'
expect_problem 400 invalid_parameter
for i in $(seq 1 14); do put_all "m:$i" && req PUT "/kv/m:$i" --data-binary "@$WORK/larger"; done
many=$(printf 'key=m:%d&' $(seq 1 14))
req GET "/kv?$many"
expect_problem 413 value_too_large

echo "values of every kind"
printf '\000\377' >"$WORK/bytes"
req PUT /kv/k:bytes --data-binary "@$WORK/bytes" -H 'Content-Type: application/octet-stream'
req PUT /kv/k:lines --data-binary $'{\n"a":\r\n 1 }'
req PUT /kv/k:number --data-binary 1.10
req PUT /kv/k:text -d 'a text' -H 'Content-Type: text/plain'
req PUT '/kv/k:ttl?expires_at=2099-01-02T03:04:05.678Z' -d null
req PUT /kv/k:%FF -d 1
req GET '/kv?prefix=k:'
expect_json '[.entries[] | .key // .key_b64] == ["k:bytes","k:lines","k:number","k:text","k:ttl","azr/"]'
expect_json '.entries[0] | .value_b64 == "AP8=" and .content_type == "application/octet-stream"'
expect_json '.entries[1].value == {a: 1} and (.entries[3].value_b64 | @base64d) == "a text"'
expect_json '.entries[4] | .value == null and .expires_at == "2099-01-02T03:04:05.678Z"'
check "a number is as it was sent" grep -q '"value":1.10,' "$WORK/body"
check "and so is a value with line breaks" grep -q '"value":{$' "$WORK/body"
req GET '/kv?prefix=k:&select=keys'
expect_json '.keys[5] == {key_b64: "azr/"}'
req GET '/kv?prefix=k:%FF'
expect_json '.entries | length == 1'

echo "what cannot be asked for"
for query in limit=0 limit=10001 limit=-1 limit=x limit= reverse=maybe select=values \
    'select=count&limit=5' 'select=count&reverse=true'; do
    req GET "/kv?$query"
    expect_problem 400 invalid_parameter
done
req GET '/kv?prefx=a'
expect_problem 400 unknown_parameter
expect_json '.did_you_mean == "prefix"'
req GET '/kv?prefix=a&prefix=b'
expect_problem 400 invalid_parameter
req GET '/kv?prefix=%zz'
expect_problem 400 invalid_escape
req POST /kv
expect_problem 405 method_not_allowed
expect_header Allow 'GET, HEAD, DELETE'

echo "keys of the greatest length and of any bytes: the link is left out, the cursor works"
long=$(head -c 4090 /dev/zero | tr '\0' L)
for i in 1 2 3; do req PUT "/kv/$long$i" -d "$i"; done
walk_cursor=
for i in 1 2 3; do
    req GET "/kv?prefix=LLLL&limit=1${walk_cursor:+&cursor=$walk_cursor}"
    expect_status 200
    expect_json ".entries[0].value == $i"
    expect_no_header Link
    walk_cursor=$(jq -r .next_cursor "$WORK/body")
done

echo "a long stretch of deleted keys is passed over without an empty page"
req DELETE '/kv?prefix=n:'
for i in 000 249; do put_all "n:$i"; done
walk 'prefix=n:&limit=1' 2
finish
