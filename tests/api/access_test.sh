#!/usr/bin/env bash
# Keys: who may do what, on every route; how they are made, read again, refused; and that none of them
# is ever in the log.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
STORMCTL=${STORMCTL:-$SOURCE_DIR/build/api/stormctl}
KEYS=$WORK/keys

# key NAME [options of stormctl key]: makes a key, leaves it in $WORK/NAME.
key() {
    local name=$1
    shift
    "$STORMCTL" key --file "$KEYS" --note "$name" "$@" >"$WORK/$name" || die "stormctl key"
}
# as NAME METHOD TARGET [curl options]
as() {
    local name=$1 method=$2 target=$3
    shift 3
    req "$method" "$target" -H "Authorization: Bearer $(cat "$WORK/$name")" "$@"
}

echo "making keys"
key all --scopes=read,write,admin
key reader --scopes=read
key writer --scopes=write
key admin --scopes=admin
key user --scopes=read,write --prefix='user:'
key odd --scopes=read,write --prefix='% #"ü'
check_equal "the file is its owner's alone" "$(stat -c %a "$KEYS")" 600
check_equal "there is a line for each key" "$(wc -l <"$KEYS")" 6
check "a key is 256 bits and easy to spot" grep -qxE 'storm_[A-Za-z0-9_-]{43}' "$WORK/all"
check_not "no key is in the file" grep -qF "$(cat "$WORK/all")" "$KEYS"
check "its digest is" grep -q "^sha256:$(head -c 49 "$WORK/all" | sha256sum | cut -d' ' -f1) read,write,admin # all$" "$KEYS"
"$STORMCTL" key --json >"$WORK/body"
expect_json '.scopes == "read,write" and (.line | startswith("sha256:")) and (.key | length == 49)'
for bad in --scopes=root --scopes= '--scopes=read,' '--scopes=admin --prefix=a' "--file=$WORK" "--note=$(printf 'a\nb')"; do
    # shellcheck disable=SC2086 # two options in one word are two words
    check_not "stormctl key $bad" "$STORMCTL" key $bad >"$WORK/out" 2>"$WORK/err"
    check "it says why" test -s "$WORK/err" -a ! -s "$WORK/out"
done

echo "without a key"
storm_start "--auth.keys_file=$KEYS"
check "the banner says so" grep -q 'access *with a key' "$WORK/log"
for path in /healthz /readyz /openapi.yaml /; do
    req GET "$path"
    expect_status 200
done
req GET /kv/a
expect_problem 401 unauthorized
expect_header WWW-Authenticate 'Bearer realm="Storm DB"'
for field in 'Bearer' 'Bearer ' 'Bearer x' "Basic $(cat "$WORK/all")" "Bearer$(cat "$WORK/all")" \
    "Bearer $(cat "$WORK/all")x" "Bearer $(head -c 48 "$WORK/all")" "$(cat "$WORK/all")" \
    "Bearer $(tr 'a-zA-Z' 'A-Za-z' <"$WORK/all")" "Bearer $(cat "$WORK/all") $(cat "$WORK/all")" \
    "Bearer $(head -c 9000 /dev/zero | tr '\0' x)" "Bearer $(sed -n 1p "$KEYS" | cut -c8-71)"; do
    req GET /kv/a -H "Authorization: $field"
    expect_problem 401 unauthorized
    expect_header WWW-Authenticate 'Bearer realm="Storm DB", error="invalid_token"'
done
req GET /kv/a -H "Authorization: Bearer $(cat "$WORK/all")" -H "Authorization: Bearer x"
expect_problem 400 invalid_request
req PUT /kv/a -T - -H 'Expect: 100-continue' -H 'Content-Type: text/plain' </dev/zero
expect_problem 401 unauthorized
req GET /kv/a -H "Authorization: bEARER   $(cat "$WORK/all")"
expect_problem 404 key_not_found

# send METHOD TARGET [curl options]: with a body where one may be.
send() {
    local method=$1 target=$2
    shift 2
    if [ "$method" = HEAD ]; then req HEAD "$target" "$@"; else req "$method" "$target" -d 1 "$@"; fi
}

echo "every route, every method, every key: nothing that its scope does not allow"
printf '%s\n' '#define ROUTE(method, path, scope, ...) ROUTE method path scope' \
    '#include "routes.def"' | cc -E -P -x c -I"$SOURCE_DIR/api" - | tr -d '",' |
    awk '$1 == "ROUTE" { print $2, $3, $4; if ($2 == "GET") print "HEAD", $3, $4 }' >"$WORK/routes"
check "there are routes" test "$(wc -l <"$WORK/routes")" -ge 10
tried=0
while read -r method path scope; do
    path=${path/\{key\}/user:1}
    for trick in '' '?' '/' '//' '/.' '%2F' '%00'; do
        send "$method" "$path$trick"
        tried=$((tried + 1))
        case $scope:$STATUS in
        OPEN:* | *:4[0-9][0-9]) ;;
        *) fail_answer "$method $path$trick without a key is answered $STATUS" ;;
        esac
    done
    [ "$scope" = OPEN ] && continue
    send "$method" "$path"
    expect_status 401
    for name in reader writer admin; do
        send "$method" "$path" -H "Authorization: Bearer $(cat "$WORK/$name")"
        tried=$((tried + 1))
        case $scope:$name in
        READ:reader | WRITE:writer | ADMIN:admin | ANY:*)
            case $STATUS in 401 | 403) [ "$scope" = ANY ] || fail_answer "$name may not $method $path" ;; esac ;;
        *)
            expect_status 403
            [ "$method" = HEAD ] || expect_json ".code == \"forbidden_scope\" and .missing_scope == \"${scope,,}\""
            ;;
        esac
    done
done <"$WORK/routes"
for path in /admin/flush /ADMIN/flush //admin/flush /admin//flush /./admin/flush '/kv/../admin/flush' '/admin/flush?wait=false' /admin/flush%20; do
    for method in GET HEAD POST PUT PATCH DELETE OPTIONS TRACE; do
        req "$method" "$path"
        tried=$((tried + 1))
        case $STATUS in 2*) fail_answer "$method $path without a key is answered $STATUS" ;; esac
    done
done
echo "$tried requests tried"

echo "prefixes"
as user PUT /kv/user:1 -d 1
expect_status 201
as user GET /kv/user%3A1
expect_body 1
as user DELETE /kv/user:1 -H 'Prefer: return=representation'
expect_status 200
for key in user user%3B User:1 a user%3; do
    as user PUT "/kv/$key" -d 1
    case $STATUS:$key in 403:* | 400:user%3) ;; *) fail_answer "a key outside the prefix is let through" ;; esac
done
as user PUT /kv/other -d 1
expect_problem 403 forbidden_prefix
expect_json '.allowed_prefix == "user:"'
as user GET /stats
expect_problem 403 forbidden_prefix
as user GET /version
expect_status 200
as odd PUT '/kv/%25%20%23%22%C3%BCx' -d 1
expect_status 201
as odd PUT '/kv/%25%20%23%22x' -d 1
expect_problem 403 forbidden_prefix
as writer PUT /kv/w -d 1
expect_status 201
as writer DELETE /kv/w -H 'Prefer: return=representation'
expect_problem 403 forbidden_scope
expect_json '.missing_scope == "read"'
as writer DELETE /kv/w
expect_status 204

echo "reading the file again"
cp "$KEYS" "$WORK/before"
# Requests all the while: none may be lost.
(
    code=0
    for ((i = 0; i < 400; i++)); do
        got=$(curl -s -o /dev/null -w '%{http_code}' -H "Authorization: Bearer $(cat "$WORK/all")" "$URL/kv/odd")
        [ "$got" = 404 ] || code=1
    done
    exit $code
) &
busy=$!
key late --scopes=read
as late GET /kv/a
expect_status 401
hang_up 'read 7 keys'
as late GET /kv/a
expect_status 404
grep -v '# reader$' "$KEYS" >"$WORK/fewer"
cat "$WORK/fewer" >"$KEYS"
hang_up 'read 6 keys'
as reader GET /kv/a
expect_status 401
for ((round = 0; round < 20; round++)); do kill -HUP "$PID"; done
bad() {
    hang_up "$1.*the keys from before go on being used"
    as late GET /kv/a
    expect_status 404
}
: >"$KEYS" && bad 'no key in it'
cat "$WORK/all" >"$KEYS" && bad "$KEYS:1: it does not begin with sha256"
{ cat "$WORK/before" && head -n 1 "$WORK/before"; } >"$KEYS" && bad "$KEYS:7: the same key is already on line 1"
echo "$(head -n 1 "$WORK/before" | cut -d' ' -f1) root" >"$KEYS" && bad 'of read, write and admin'
echo "$(head -n 1 "$WORK/before" | cut -d' ' -f1) read,admin prefix=a" >"$KEYS" && bad 'cannot have a prefix'
cp "$WORK/before" "$KEYS" && chmod 620 "$KEYS" && bad 'others than its owner'
chmod 602 "$KEYS" && bad 'others than its owner'
rm "$KEYS" && bad 'No such file'
mkdir "$KEYS" && bad 'no file'
rmdir "$KEYS" && mkfifo "$KEYS" && bad 'no file'
rm "$KEYS"
cp "$WORK/before" "$KEYS"
chmod 644 "$KEYS"
hang_up 'read 6 keys'
as late GET /kv/a
expect_status 401
wait "$busy"
check_equal "requests meanwhile that were lost" $? 0

echo "what is refused at the start"
storm_stop
check_equal "SIGTERM ends it with" $? 0
cat "$WORK/log.before" "$WORK/log" "$WORK/out" >"$WORK/said"
for name in all reader writer admin user odd late; do
    check_not "the key $name is in the log" grep -qF "$(cat "$WORK/$name")" "$WORK/said"
done
check_not "a digest is in the log" grep -qE '[0-9a-f]{64}' "$WORK/said"
refuses() {
    local what=$1 message=$2
    shift 2
    check_not "$what" timeout 10 "$STORMD" "--data_dir=$WORK/other" "$@" 2>"$WORK/err"
    check "$what: the message" grep -qE "$message" "$WORK/err"
    check_not "$what: a directory was made" test -e "$WORK/other"
}
port=$(free_port)
refuses "all addresses without keys" 'listen = 0.0.0.0.*auth.keys_file.*auth.open' "--listen=0.0.0.0:$port"
refuses "a name that is not localhost" 'auth.keys_file' "--listen=example.org:$port"
refuses "all IPv6 addresses" 'auth.keys_file' "--listen=[::]:$port"
refuses "no file" "cannot read auth.keys_file $WORK/none: No such file" "--listen=127.0.0.1:$port" "--auth.keys_file=$WORK/none"
chmod 666 "$KEYS"
refuses "a file that everybody can write to" "auth.keys_file $KEYS is refused.*chmod go-w" "--listen=127.0.0.1:$port" "--auth.keys_file=$KEYS"
chmod 600 "$KEYS"
check_not "check-config sees it" "$STORMD" check-config "--listen=0.0.0.0:$port" 2>"$WORK/err"
check "check-config is content with keys" "$STORMD" check-config "--listen=0.0.0.0:$port" "--auth.keys_file=$KEYS" >"$WORK/out"
check "and with 127.0.0.2" "$STORMD" check-config "--listen=127.0.0.2:$port" >"$WORK/out"
finish
