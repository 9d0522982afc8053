#!/usr/bin/env bash
# Requests per second of stormd beside a bare libmicrohttpd responder in the same run, at 64
# keep-alive connections, measured with wrk (Debian package wrk).
#
#   tests/bench/http.sh [BUILD_DIR]     build/test unless told otherwise
#
#   ROUNDS=5 SECONDS_EACH=5 CONNECTIONS=64 THREADS=0 WRK_THREADS=2 DIR=/var/tmp
#
# In every round each measurement is made once, in turn, so that a machine that grows slower meets
# all of them alike; printed are the medians and their ratios. DIR must be on a real disk: on tmpfs
# an fdatasync costs nothing.
set -eu
cd "$(dirname "$0")/../.."
BUILD=${1:-build/test}
ROUNDS=${ROUNDS:-5}
SECONDS_EACH=${SECONDS_EACH:-5}
CONNECTIONS=${CONNECTIONS:-64}
# 0: as stormd chooses by itself, one for each core and at least 2.
THREADS=${THREADS:-0}
[ "$THREADS" -gt 0 ] || THREADS=$(($(nproc) > 2 ? $(nproc) : 2))
WRK_THREADS=${WRK_THREADS:-2}
KEYS=10000

command -v wrk >/dev/null || {
    echo "wrk is missing: apt-get install wrk" >&2
    exit 1
}
stormd=$(find "$BUILD" -name stormd -type f -perm -u+x -print -quit)
bare=$(find "$BUILD" -name bare -type f -perm -u+x -print -quit)
if [ ! -x "$stormd" ] || [ ! -x "$bare" ]; then
    echo "no stormd or bare in $BUILD; build with tests first" >&2
    exit 1
fi
work=$(mktemp -d "${DIR:-/var/tmp}/storm-bench.XXXXXX")
pids=()
cleanup() {
    # The shell would report each server that ends by a signal.
    exec 2>/dev/null
    [ "${#pids[@]}" -eq 0 ] || kill -9 "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# 16-byte keys and 100-byte JSON values.
cat >"$work/get.lua" <<LUA
local id = 0
function setup(thread) thread:set("id", id); id = id + 1 end
function init(args) math.randomseed(os.time() + id) end
function request()
    return wrk.format("GET", string.format("/kv/key-%012d", math.random(0, $KEYS - 1)))
end
LUA
cat >"$work/put.lua" <<LUA
local id = 0
local headers = { ["Content-Type"] = "application/json" }
local body = '{"text":"' .. string.rep("x", 89) .. '"}'
function setup(thread) thread:set("id", id); id = id + 1 end
function init(args) math.randomseed(os.time() + id) end
function request()
    return wrk.format("PUT", string.format("/kv/key-%012d", math.random(0, $KEYS - 1)), headers, body)
end
function done(summary, latency, requests)
    io.write(string.format("errors %d\n", summary.errors.status + summary.errors.read
        + summary.errors.write + summary.errors.timeout))
end
LUA

base=$((20000 + RANDOM % 10000))
serve() { # NAME PORT command...
    local name=$1 port=$2 i
    shift 2
    "$@" >"$work/$name.log" 2>&1 &
    pids+=($!)
    for ((i = 0; i < 500; i++)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return
        sleep 0.02
    done
    echo "$name does not listen:" >&2
    cat "$work/$name.log" >&2
    exit 1
}
serve bare "$base" "$bare" "$base" "$THREADS" answer
serve bare-sync $((base + 1)) "$bare" $((base + 1)) "$THREADS" sync "$work/bare.file"
for sync in always off; do
    port=$((base + (${#sync} == 6 ? 2 : 3)))
    serve "storm-$sync" "$port" env -u STORM_CONFIG "$stormd" "--listen=127.0.0.1:$port" \
        "--data_dir=$work/data-$sync" "--wal.sync=$sync" "--http.threads=$THREADS"
done

# Every key is there before it is read.
for ((i = 0; i < KEYS; i++)); do
    [ "$i" -gt 0 ] && echo next
    printf 'url = "http://127.0.0.1:%d/kv/key-%012d"\nrequest = PUT\nsilent\noutput = /dev/null\n' \
        $((base + 3)) "$i"
    printf 'data = "{\\"text\\":\\"%089d\\"}"\n' "$i"
done >"$work/fill"
curl --parallel-max 1 -K "$work/fill"

# rate PORT SCRIPT: requests per second.
rate() {
    local out
    out=$(wrk -t "$WRK_THREADS" -c "$CONNECTIONS" -d "${SECONDS_EACH}s" -s "$work/$2.lua" \
        "http://127.0.0.1:$1/")
    grep -E 'Non-2xx|Socket errors' <<<"$out" >&2 || true
    awk '/^Requests\/sec/ { printf "%.0f\n", $2 }' <<<"$out"
}
median() { sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

names=(bare-get storm-get bare-put-sync storm-put-always bare-put storm-put-off)
echo "$(nproc) cores, $THREADS server threads, $WRK_THREADS wrk threads, $CONNECTIONS connections," \
    "$ROUNDS rounds of $SECONDS_EACH s"
for ((round = 1; round <= ROUNDS; round++)); do
    rate "$base" get >>"$work/bare-get"
    rate $((base + 3)) get >>"$work/storm-get"
    rate $((base + 1)) put >>"$work/bare-put-sync"
    rate $((base + 2)) put >>"$work/storm-put-always"
    rate "$base" put >>"$work/bare-put"
    rate $((base + 3)) put >>"$work/storm-put-off"
    line="round $round:"
    for name in "${names[@]}"; do
        line+=" $name $(tail -n 1 "$work/$name")"
    done
    echo "$line"
done
ratio() { awk -v a="$(median "$work/$1")" -v b="$(median "$work/$2")" 'BEGIN { printf "%.2f", a / b }'; }
echo "median requests/s"
for name in "${names[@]}"; do
    printf '  %-18s %s\n' "$name" "$(median "$work/$name")"
done
echo "ratios"
echo "  GET               stormd / bare        $(ratio storm-get bare-get)"
echo "  PUT sync=always   stormd / bare sync   $(ratio storm-put-always bare-put-sync)"
echo "  PUT sync=off      stormd / bare        $(ratio storm-put-off bare-put)"
