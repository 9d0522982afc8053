# Shell support of the HTTP tests: starts stormd in a directory of its own, sends requests with curl,
# compares answers, and leaves nothing behind. Sourced, never run. bash.
#
#   STORMD   the server under test (ctest sets it)
#   WORK     a temporary directory, removed at the end
#   PORT     of the server that storm_start started; URL is http://127.0.0.1:$PORT
#   STATUS, $WORK/body, $WORK/headers   the last answer
#   CONTRACT_RECORD   a file: what is sent to URL goes through contract_proxy.js, which holds it against
#            openapi.yaml and records it there; a violation fails. PORT stays the server's own.
#
# A check that fails prints where it stands, the request and the answer; the script goes on, and
# `finish` makes it exit with 1. What cannot be gone on from ends it at once with `die`.
# shellcheck shell=bash

set -u
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy
export LC_ALL=C

SOURCE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
STORMD=${STORMD:-$SOURCE_DIR/build/api/stormd}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/storm-test.XXXXXX")
DATA=$WORK/data
PORT=
URL=
PID=
STATUS=
REQUEST=
CHECKS=0
FAILURES=0
CHILDREN=()

cleanup() {
    local pid
    trap - EXIT
    for pid in "${CHILDREN[@]+"${CHILDREN[@]}"}"; do
        kill -9 "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    # A directory that a test has made read-only can be removed again.
    chmod -R u+rwX "$WORK" 2>/dev/null
    rm -rf "$WORK"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

die() {
    echo "cannot go on: $*"
    [ -s "$WORK/log" ] && sed 's/^/  stormd: /' "$WORK/log"
    exit 1
}

fail() {
    local frame=1
    FAILURES=$((FAILURES + 1))
    # The caller outside this file is where the reader has to look.
    while [[ ${BASH_SOURCE[$frame]:-} == *"/lib.sh" ]]; do frame=$((frame + 1)); done
    echo "FAILED ${BASH_SOURCE[$frame]##*/}:${BASH_LINENO[$((frame - 1))]}: $*"
}

fail_answer() {
    fail "$@"
    echo "  request: $REQUEST"
    head -c 1200 "$WORK/headers" 2>/dev/null | sed 's/^/  < /'
    head -c 800 "$WORK/body" 2>/dev/null | sed 's/^/  < /'
    echo
}

finish() {
    echo "$CHECKS checks, $FAILURES failed"
    [ "$FAILURES" -eq 0 ] && exit 0
    cat "$WORK/log.before" "$WORK/log" 2>/dev/null | tail -n 60 | sed 's/^/  stormd: /'
    exit 1
}

# check 'sentence' command...: the command must succeed.
check() {
    local what=$1
    shift
    CHECKS=$((CHECKS + 1))
    "$@" || fail "$what: $*"
}

# check_not 'sentence' command...: the command must fail.
check_not() {
    local what=$1
    shift
    CHECKS=$((CHECKS + 1))
    if "$@"; then fail "$what: $*"; fi
}

# check_equal 'sentence' got wanted
check_equal() {
    CHECKS=$((CHECKS + 1))
    [ "$2" = "$3" ] || fail "$1: got '$2', wanted '$3'"
}

# A port that nobody listens on, below the range that the kernel hands out to clients.
free_port() {
    local port
    while :; do
        port=$((10000 + (RANDOM << 1 ^ RANDOM) % 20000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}

# storm_spawn [options]: start without waiting. Sets PORT, URL and PID.
storm_spawn() {
    PORT=${STORM_TEST_PORT:-$(free_port)}
    URL=http://127.0.0.1:$PORT
    env -u STORM_CONFIG "$STORMD" "--listen=127.0.0.1:$PORT" "--data_dir=$DATA" "$@" \
        2>>"$WORK/log" >>"$WORK/out" &
    PID=$!
    CHILDREN+=("$PID")
}

# storm_wait: until /readyz answers 200; false when the process ends first or 30 s have passed.
storm_wait() {
    local i
    for ((i = 0; i < 1500; i++)); do
        kill -0 "$PID" 2>/dev/null || return 1
        [ "$(curl -s -o /dev/null -w '%{http_code}' "$URL/readyz" 2>/dev/null)" = 200 ] && return 0
        sleep 0.02
    done
    return 1
}

# contract_front: the validating proxy stands before the server that has been started; one proxy for
# all the servers of a test. Sets URL.
PROXY_PORT=
contract_front() {
    local i
    echo "$PORT" >"$WORK/proxy.upstream"
    if [ -z "$PROXY_PORT" ]; then
        : >"$WORK/proxy.port"
        node "$SOURCE_DIR/tests/api/contract_proxy.js" "$SOURCE_DIR/openapi.yaml" \
            "$WORK/proxy.upstream" "$CONTRACT_RECORD" >"$WORK/proxy.port" 2>"$WORK/proxy.log" &
        CHILDREN+=("$!")
        for ((i = 0; i < 1500; i++)); do
            read -r PROXY_PORT <"$WORK/proxy.port" && break
            kill -0 "${CHILDREN[-1]}" 2>/dev/null || break
            sleep 0.02
        done
        [ -n "$PROXY_PORT" ] || die "the validating proxy did not start: $(cat "$WORK/proxy.log")"
    fi
    URL=http://127.0.0.1:$PROXY_PORT
}

# storm_start [options]: start and wait. Another process may have taken the port meanwhile.
storm_start() {
    local try
    for try in 1 2 3 4 5; do
        cat "$WORK/log" >>"$WORK/log.before" 2>/dev/null
        : >"$WORK/log"
        storm_spawn "$@"
        if storm_wait; then
            [ -z "${CONTRACT_RECORD:-}" ] || contract_front
            return 0
        fi
        kill -9 "$PID" 2>/dev/null
        wait "$PID" 2>/dev/null
        grep -qi 'in use' "$WORK/log" || break
    done
    die "stormd did not become ready (try $try)"
}

# storm_stop: SIGTERM; returns the exit status.
storm_stop() {
    kill -TERM "$PID" 2>/dev/null
    wait "$PID"
}

storm_kill() {
    kill -9 "$PID" 2>/dev/null
    wait "$PID" 2>/dev/null
    return 0
}

# req METHOD TARGET [curl options]: sends the target exactly as written.
req() {
    local method=$1 target=$2
    shift 2
    local how=(-X "$method" -o "$WORK/body")
    # curl writes the headers of a HEAD where the body would go, and never a body.
    [ "$method" = HEAD ] && how=(--head -o /dev/null)
    REQUEST="$method $target $*"
    : >"$WORK/body"
    : >"$WORK/headers"
    STATUS=$(curl -sS -g --path-as-is --max-time 30 -D "$WORK/headers" \
        -w '%{http_code}' "${how[@]}" "$@" "$URL$target" 2>"$WORK/curl") ||
        REQUEST="$REQUEST ($(cat "$WORK/curl"))"
    if grep -qi '^sl-violations:' "$WORK/headers"; then fail_answer "openapi.yaml says otherwise"; fi
}

# header NAME: its value in the last answer (the last of several answers).
header() {
    tr -d '\r' <"$WORK/headers" | awk -v want="$1" '
        { name = $0; sub(/:.*/, "", name) }
        tolower(name) == tolower(want) { value = $0; sub(/^[^:]*:[ \t]*/, "", value); found = value }
        END { print found }'
}

expect_status() {
    CHECKS=$((CHECKS + 1))
    [ "$STATUS" = "$1" ] || fail_answer "status $STATUS, wanted $1"
}

# expect_header NAME 'extended regular expression for all of the value'
expect_header() {
    local got
    got=$(header "$1")
    CHECKS=$((CHECKS + 1))
    [[ $got =~ ^($2)$ ]] || fail_answer "header $1 is '$got', wanted $2"
}

expect_no_header() {
    CHECKS=$((CHECKS + 1))
    [ -z "$(header "$1")" ] || fail_answer "header $1 is there: '$(header "$1")'"
}

# expect_body 'bytes' (no NUL; a trailing newline counts)
expect_body() {
    CHECKS=$((CHECKS + 1))
    printf %s "$1" | cmp -s - "$WORK/body" || fail_answer "body differs, wanted '$1'"
}

# expect_json 'jq expression that must be true'
expect_json() {
    CHECKS=$((CHECKS + 1))
    jq -e "$1" "$WORK/body" >/dev/null 2>&1 || fail_answer "not true of the body: $1"
}

# expect_problem STATUS CODE: an error in the one shape that all errors have.
expect_problem() {
    expect_status "$1"
    expect_header Content-Type 'application/problem\+json.*'
    expect_header X-Request-Id '.+'
    expect_json ".status == $1 and .code == \"$2\" and .type == \"/docs/errors#$2\" and
        (.title | type == \"string\" and length > 0) and
        (.detail | type == \"string\" and length > 0) and
        (.request_id | type == \"string\" and length > 0)"
}

# hang_up 'pattern': SIGHUP, and wait until the server logs what it made of it.
log_has() {
    local i
    for ((i = 0; i < 500; i++)); do
        grep -q "$1" "$WORK/log" && return 0
        sleep 0.01
    done
    return 1
}
hang_up() {
    : >"$WORK/log"
    kill -HUP "$PID"
    check "the log says '$1'" log_has "$1"
}

# Wait until the server takes requests again.
expect_service() {
    local i
    for ((i = 0; i < 500; i++)); do
        req GET /healthz
        [ "$STATUS" = 200 ] && break
        sleep 0.02
    done
    expect_status 200
}

# raw 'printf format of the request' [seconds]: send bytes to the server, print what comes back
# until it closes, at most for that long (2 s). The caller's request should end the connection.
raw() {
    # shellcheck disable=SC2059 # the request is a format so that it can hold \r\n and \000
    printf "$1" >"$WORK/raw"
    # shellcheck disable=SC2016 # the inner shell expands it
    timeout "${2:-2}" bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0"; cat "$1" >&3; cat <&3' \
        "$PORT" "$WORK/raw" 2>/dev/null | tr -d '\000'
}
