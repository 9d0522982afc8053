#!/usr/bin/env bash
# Requests per second of stormd beside a bare libmicrohttpd responder with as many threads, in the
# same run, measured with wrk (Debian package wrk).
#
#   tests/bench/http.sh [BUILD_DIR]     build/test unless told otherwise
#
#   ROUNDS=5 SECONDS_EACH=5 CONNECTIONS="64 1024" THREADS=0 WRK_THREADS=2 DIR=/var/tmp
#   PEERS=1     webdis with Redis, and etcd, on the same work (Debian packages webdis, redis-server,
#               etcd-server)
#
# In every round each measurement is made once, in turn, so that a machine that grows slower meets
# all of them alike; printed are the medians, their ratios, and the median of each round's p99. DIR
# must be on a real disk: on tmpfs an fdatasync costs nothing.
#
# The responder answers 100 bytes and, for PUT always, suspends, writes 4 KiB, syncs and resumes, in
# groups (bare.c). A batch is 1,000 puts of 100 bytes; a list is all 10,000 entries as NDJSON; both
# are counted in entries. Redis keeps an append-only file: synced always, or left to the kernel.
set -eu
cd "$(dirname "$0")/../.."
BUILD=${1:-build/test}
ROUNDS=${ROUNDS:-5}
SECONDS_EACH=${SECONDS_EACH:-5}
CONNECTIONS=${CONNECTIONS:-64 1024}
# 0: as stormd chooses by itself, one for each core and at least 2.
THREADS=${THREADS:-0}
[ "$THREADS" -gt 0 ] || THREADS=$(($(nproc) > 2 ? $(nproc) : 2))
WRK_THREADS=${WRK_THREADS:-2}
KEYS=10000
BATCH=1000

need=(wrk)
[ -z "${PEERS:-}" ] || need+=(webdis redis-server etcd)
for program in "${need[@]}"; do
    command -v "$program" >/dev/null || {
        echo "$program is missing: apt-get install" \
            "wrk${PEERS:+ webdis redis-server etcd-server}" >&2
        exit 1
    }
done
stormd=$(find "$BUILD" -name stormd -type f -perm -u+x -print -quit)
bare=$(find "$BUILD" -name bare -type f -perm -u+x -print -quit)
if [ ! -x "$stormd" ] || [ ! -x "$bare" ]; then
    echo "no stormd or bare in $BUILD; build with tests first" >&2
    exit 1
fi
ulimit -n 8192 2>/dev/null || true
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

# ---- The requests, as wrk's scripts: 16-byte keys and 100-byte JSON values ----

common='local id = 0
local value = "{\"text\":\"" .. string.rep("x", 89) .. "\"}"
local headers = { ["Content-Type"] = "application/json" }
function setup(thread) thread:set("id", id); id = id + 1 end
function init(args) math.randomseed(os.time() + id) end
local function key() return string.format("key-%012d", math.random(0, '$((KEYS - 1))')) end
local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local function base64(s)
    return ((s:gsub(".", function(x)
        local bits, b = "", x:byte()
        for i = 8, 1, -1 do bits = bits .. (b % 2 ^ i - b % 2 ^ (i - 1) > 0 and "1" or "0") end
        return bits
    end) .. "0000"):gsub("%d%d%d?%d?%d?%d?", function(x)
        if #x < 6 then return "" end
        return digits:sub(tonumber(x, 2) + 1, tonumber(x, 2) + 1)
    end) .. ({ "", "==", "=" })[#s % 3 + 1])
end
'
script() { # NAME BODY: a script whose request() is BODY
    printf '%s\nfunction request()\n%s\nend\n' "$common" "$2" >"$work/$1.lua"
}
script get 'return wrk.format("GET", "/kv/" .. key())'
script miss 'return wrk.format("GET", "/kv/no" .. key())'
script put 'return wrk.format("PUT", "/kv/" .. key(), headers, value)'
script list 'return wrk.format("GET", "/kv?limit='$KEYS'", { Accept = "application/x-ndjson" })'
script webdis-get 'return wrk.format("GET", "/GET/" .. key())'
script webdis-put 'return wrk.format("PUT", "/SET/" .. key(), headers, value)'
script etcd-get 'return wrk.format("POST", "/v3/kv/range", headers,
    "{\"key\":\"" .. base64(key()) .. "\"}")'
script etcd-put 'return wrk.format("POST", "/v3/kv/put", headers,
    "{\"key\":\"" .. base64(key()) .. "\",\"value\":\"" .. base64(value) .. "\"}")'
# One of a hundred batches made beforehand: lua would take longer than the server.
script batch 'if batches == nil then
    batches = {}
    for b = 1, 100 do
        local ops = {}
        for i = 1, '$BATCH' do
            ops[i] = "{\"op\":\"put\",\"key\":\"" .. key() .. "\",\"value\":" .. value .. "}"
        end
        batches[b] = "{\"ops\":[" .. table.concat(ops, ",") .. "]}"
    end
end
return wrk.format("POST", "/batch", headers, batches[math.random(1, 100)])'

# ---- The servers ----

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
declare -A port=([bare]=$base [bare-sync]=$((base + 1)) [always]=$((base + 2)) [off]=$((base + 3))
    [webdis-always]=$((base + 4)) [webdis-off]=$((base + 5)) [etcd]=$((base + 6)))
serve bare "${port[bare]}" "$bare" "${port[bare]}" "$THREADS" answer
serve bare-sync "${port[bare-sync]}" "$bare" "${port[bare-sync]}" "$THREADS" sync "$work/bare.file"
for sync in always off; do
    serve "storm-$sync" "${port[$sync]}" env -u STORM_CONFIG "$stormd" \
        "--listen=127.0.0.1:${port[$sync]}" "--data_dir=$work/data-$sync" "--wal.sync=$sync" \
        "--http.threads=$THREADS" --http.max_connections=4096
done
serve_webdis() { # always|off fsync-policy redis-port
    mkdir "$work/redis-$1"
    serve "redis-$1" "$3" redis-server --port "$3" --bind 127.0.0.1 --save '' --appendonly yes \
        --appendfsync "$2" --dir "$work/redis-$1"
    printf '{"redis_host":"127.0.0.1","redis_port":%d,"http_host":"127.0.0.1","http_port":%d,
"threads":%d,"pool_size":20,"daemonize":false,"websockets":false,"verbosity":0,
"logfile":"/dev/null"}' "$3" "${port[webdis-$1]}" "$THREADS" >"$work/webdis-$1.json"
    serve "webdis-$1" "${port[webdis-$1]}" webdis "$work/webdis-$1.json"
}
if [ -n "${PEERS:-}" ]; then
    serve_webdis always always $((base + 7))
    serve_webdis off no $((base + 8))
    serve etcd "${port[etcd]}" etcd --data-dir "$work/etcd" \
        --listen-client-urls "http://127.0.0.1:${port[etcd]}" \
        --advertise-client-urls "http://127.0.0.1:${port[etcd]}" \
        --listen-peer-urls "http://127.0.0.1:$((base + 9))" --log-level error
fi

# Every key is there before it is read.
fill() { # PORT PATH-PREFIX
    for ((i = 0; i < KEYS; i++)); do
        [ "$i" -gt 0 ] && echo next
        printf 'url = "http://127.0.0.1:%d%skey-%012d"\nrequest = PUT\n' "$1" "$2" "$i"
        printf 'silent\noutput = /dev/null\ndata = "{\\"text\\":\\"%089d\\"}"\n' "$i"
    done >"$work/fill"
    curl --parallel-max 1 -K "$work/fill"
}
fill "${port[off]}" /kv/
[ -z "${PEERS:-}" ] || fill "${port[webdis-off]}" /SET/

# ---- Measuring ----

# row NAME SERVER SCRIPT CONNECTIONS UNITS EXPECTED: a line "requests p99_ms" to the row's file.
row() {
    local out
    out=$(wrk --latency -t "$WRK_THREADS" -c "$4" -d "${SECONDS_EACH}s" -s "$work/$3.lua" \
        "http://127.0.0.1:${port[$2]}/")
    if [ "$6" = 2xx ]; then
        grep -E 'Non-2xx|Socket errors' <<<"$out" | sed "s/^/$1: /" >&2 || true
    fi
    awk -v units="$5" '
        /^Requests\/sec/ { rate = $2 * units }
        $1 == "99%" {
            p99 = $2 + 0
            if ($2 ~ /us$/) p99 /= 1000
            else if ($2 !~ /ms$/) p99 *= 1000
        }
        END { printf "%.0f %.3f\n", rate, p99 }' <<<"$out" >>"$work/row.$1"
}
column() { # ROW FIELD: the median
    awk -v f="$2" '{ print $f }' "$work/row.$1" | sort -n |
        awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

echo "$(nproc) cores, $THREADS server threads, $WRK_THREADS wrk threads," \
    "$ROUNDS rounds of $SECONDS_EACH s"
for ((round = 1; round <= ROUNDS; round++)); do
    for c in $CONNECTIONS; do
        row "bare-get-$c" bare get "$c" 1 2xx
        row "get-$c" off get "$c" 1 2xx
        row "miss-$c" off miss "$c" 1 any
        row "bare-put-$c" bare put "$c" 1 2xx
        row "put-off-$c" off put "$c" 1 2xx
        row "bare-put-always-$c" bare-sync put "$c" 1 2xx
        row "put-always-$c" always put "$c" 1 2xx
        if [ -n "${PEERS:-}" ]; then
            row "webdis-get-$c" webdis-off webdis-get "$c" 1 2xx
            row "webdis-put-off-$c" webdis-off webdis-put "$c" 1 2xx
            row "webdis-put-always-$c" webdis-always webdis-put "$c" 1 2xx
            row "etcd-put-always-$c" etcd etcd-put "$c" 1 2xx
            row "etcd-get-$c" etcd etcd-get "$c" 1 2xx
        fi
    done
    row batch off batch 8 "$BATCH" 2xx
    row list off list 4 "$KEYS" 2xx
    echo "round $round of $ROUNDS" >&2
done

# line TEXT ROW YARDSTICK BAR
line() {
    awk -v text="$1" -v rate="$(column "$2" 1)" -v p99="$(column "$2" 2)" \
        -v other="$([ -z "$3" ] || column "$3" 1)" -v name="$3" -v bar="$4" 'BEGIN {
        printf "%-28s %10d/s  p99 %9.3f ms", text, rate, p99
        if (other > 0) printf "  %5.2f of %s (%d/s)", rate / other, name, other
        if (bar != "") printf "  bar %s%s", bar, (other > 0 ? rate / other : rate) < bar ? " !" : ""
        printf "\n"
    }'
}
echo "median requests per second, at so many connections"
for c in $CONNECTIONS; do
    line "GET, $c" "get-$c" "bare-get-$c" 0.92
    line "GET miss, $c" "miss-$c" "bare-get-$c" 0.85
    line "PUT off, $c" "put-off-$c" "bare-put-$c" 0.85
    line "PUT always, $c" "put-always-$c" "bare-put-always-$c" 0.9
    if [ -n "${PEERS:-}" ]; then
        line "GET, $c" "get-$c" "webdis-get-$c" 1
        line "PUT off, $c" "put-off-$c" "webdis-put-off-$c" 1
        line "PUT always, $c" "put-always-$c" "webdis-put-always-$c" 1
        line "GET, $c" "get-$c" "etcd-get-$c" 1
        line "PUT always, $c" "put-always-$c" "etcd-put-always-$c" 1
    fi
done
line "batches of $BATCH, entries" batch "" 500000
line "NDJSON list, entries" list "" 1000000
