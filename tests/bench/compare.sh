#!/usr/bin/env bash
# Storm beside LevelDB, RocksDB and LMDB: the same work, the same settings, in turn, and at the end
# one table of medians and ratios.
#
#   tests/bench/compare.sh [WORKLOAD[:THREADS]...]      all of them unless told; see --list
#
#   KEYS=1000000      keys of 16 bytes             ROUNDS=3      medians are over these
#   CODEC=none        or deflate, lz4, zstd        VALUE=100     bytes of a value, half compressible
#   CACHE_MIB=64      block cache of each          BUFFER_MIB=64 write buffer of each
#   PRODUCTS="..."    storm leveldb rocksdb rocksdb_release lmdb, as far as they are there
#   DIR=/var/tmp      on a real disk: on tmpfs an fdatasync costs nothing
#   BUILD=build/bench where the programs are built
#   ROCKSDB_RELEASE=librocksdb.a                   RocksDB built Release, when there is one
#   ROCKSDB_BUILD=1   make one: apt-get source, cmake; takes 15 minutes on two cores
#   LENGTH=600        each workload goes on for as many seconds: "compare.sh overwrite"
#
# It installs Debian's leveldb, rocksdb and lmdb when they are missing. Within a round every workload
# is run by each product in turn before the next workload begins, so that a machine that grows
# slower, or is shared, meets all of them alike. The ratio is Storm to the better of LevelDB and
# RocksDB (the Release build where it is there, else Debian's); LMDB is for reference: it has neither
# a log, nor checksums. "bar" is what the ratio shall be at least; a "!" marks a row that falls short.
# "written" and "disk" are bytes over the user's own: of what the row wrote, of what is stored.
# What each product is set to is in tests/bench/compare/store.h and its adapter.
# Every line that a program printed is kept in $OUT (default: $BUILD/compare.tsv).
set -eu
cd "$(dirname "$0")/../.."
# shellcheck source=config/packages.sh
. config/packages.sh
export LC_ALL=C.UTF-8
KEYS=${KEYS:-1000000}
ROUNDS=${ROUNDS:-3}
CODEC=${CODEC:-none}
VALUE=${VALUE:-100}
CACHE_MIB=${CACHE_MIB:-64}
BUFFER_MIB=${BUFFER_MIB:-64}
BUILD=${BUILD:-build/bench}
OUT=${OUT:-$BUILD/compare.tsv}
ROCKSDB_RELEASE=${ROCKSDB_RELEASE:-}
[ -n "$ROCKSDB_RELEASE" ] || [ ! -e "$BUILD/rocksdb/librocksdb.a" ] ||
    ROCKSDB_RELEASE=$PWD/$BUILD/rocksdb/librocksdb.a

# fresh: into an empty directory that goes away afterwards. Others share the store that `load` made;
# those that change it come after those that only read it, deletes last. Rows of 64 KiB values have a
# store of their own, whatever KEYS and VALUE are.
FRESH="fillseq fillbatch fillrandom fillrandom:4 fillsync:1 fillsync:8 fillsync:32"
LOADED="load readrandom readrandom:2 readrandom:4 readrandom:8 readrandom:32 readmissing readseq
 readreverse seekrandom readcold readwhilewriting overwrite ycsb-a ycsb-a:8 ycsb-b ycsb-c ycsb-d
 ycsb-e ycsb-f crash recover open deleterandom"
LARGE="fill64k read64k"

# The bars, by the name of the row; with a codec, the second line.
BARS="fillseq=1.5 fillbatch=1.5 fillrandom=2 overwrite=2 deleterandom=1.5 fillsync=1.3 readrandom=2.5
 readmissing=3 readcold=1 seekrandom=2 readseq=1.5 readreverse=2 readwhilewriting=2.5 ycsb-a=1.5
 ycsb-b=1.5 ycsb-c=1.5 ycsb-d=1.5 ycsb-e=2.5 ycsb-f=1.5 fill64k=1.5 read64k=1.5 recover=1 open=1"
BAR_CODEC=1.3

if [ "${1:-}" = --list ]; then
    echo "$FRESH $LOADED $LARGE" | tr -s ' \n' '\n'
    exit 0
fi

build_rocksdb() {
    local source=$BUILD/rocksdb-source
    ensure_packages g++ liblz4-dev libzstd-dev zlib1g-dev dpkg-dev
    mkdir -p "$source"
    (cd "$source" && apt-get source --quiet rocksdb)
    cmake -S "$source"/rocksdb-*/ -B "$BUILD/rocksdb" -DCMAKE_BUILD_TYPE=Release \
        -DWITH_TESTS=OFF -DWITH_BENCHMARK_TOOLS=OFF -DWITH_TOOLS=OFF -DWITH_CORE_TOOLS=OFF \
        -DWITH_GFLAGS=OFF -DWITH_LZ4=ON -DWITH_ZLIB=ON -DWITH_ZSTD=ON -DWITH_LIBURING=OFF \
        -DROCKSDB_BUILD_SHARED=OFF -DFAIL_ON_WARNINGS=OFF -DCMAKE_CXX_FLAGS="-include cstdint"
    cmake --build "$BUILD/rocksdb" --target rocksdb --parallel "$(nproc)"
    ROCKSDB_RELEASE=$PWD/$BUILD/rocksdb/librocksdb.a
}

ensure_packages gcc cmake make pkg-config libleveldb-dev librocksdb-dev liblmdb-dev
[ -z "${ROCKSDB_BUILD:-}" ] || [ -n "$ROCKSDB_RELEASE" ] || build_rocksdb >&2
mkdir -p "$BUILD"
wanted="storm leveldb rocksdb lmdb"
[ -z "$ROCKSDB_RELEASE" ] || wanted="storm leveldb rocksdb_release lmdb"
PRODUCTS=${PRODUCTS:-$wanted}
targets=()
for product in $PRODUCTS; do targets+=("compare_$product"); done
cmake -S . -B "$BUILD" "-DSTORM_ROCKSDB_RELEASE=$ROCKSDB_RELEASE" >"$BUILD/cmake.log"
cmake --build "$BUILD" --parallel "$(nproc)" --target "${targets[@]}" >>"$BUILD/cmake.log"

work=$(mktemp -d "${DIR:-/var/tmp}/storm-compare.XXXXXX")
child=
cleanup() {
    [ -z "$child" ] || kill "$child" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# run PRODUCT WORK THREADS DIRECTORY: one line to $OUT.
run() {
    local product=$1 name=$2 threads=$3 directory=$4
    mkdir -p "$directory"
    "$BUILD/tests/compare_$product" "--dir=$directory" "--work=$name" "--threads=$threads" \
        "--keys=$KEYS" "--value=$VALUE" "--codec=$CODEC" "--cache=$CACHE_MIB" \
        "--buffer=$BUFFER_MIB" "--seconds=${LENGTH:-0}" >"$work/line" &
    child=$!
    wait "$child"
    child=
    sed "s/^/$product\t/" "$work/line" >>"$OUT"
}

items="$FRESH $LOADED $LARGE"
[ "$#" -eq 0 ] || items=$*
: >"$OUT"
products=()
for product in $PRODUCTS; do
    if "$BUILD/tests/compare_$product" --dir=- --work=codec "--codec=$CODEC"; then
        products+=("$product")
    fi
done
for ((round = 1; round <= ROUNDS; round++)); do
    for item in $items; do
        name=${item%%:*}
        threads=1
        [ "$name" = "$item" ] || threads=${item#*:}
        echo "round $round of $ROUNDS: $name, $threads thread(s)" >&2
        for product in "${products[@]}"; do
            case " $FRESH / $LARGE " in
            *" $name "*/* | *" $name:"*/*)
                run "$product" "$name" "$threads" "$work/fresh"
                rm -rf "$work/fresh"
                ;;
            */*" $name "*)
                large=$work/$product.large
                [ -d "$large" ] || [ "$name" = fill64k ] || run "$product" fill64k 1 "$large"
                run "$product" "$name" "$threads" "$large"
                ;;
            *)
                loaded=$work/$product
                [ "$name" != load ] || rm -rf "$loaded"
                [ -d "$loaded" ] || [ "$name" = load ] || LENGTH=0 run "$product" load 1 "$loaded"
                run "$product" "$name" "$threads" "$loaded"
                ;;
            esac
            sync
        done
    done
    rm -rf "${work:?}"/*
done

echo "$KEYS keys of 16 bytes, values of $VALUE, codec $CODEC, cache and write buffer $CACHE_MIB and" \
    "$BUFFER_MIB MiB, medians of $ROUNDS rounds, $(nproc) cores"
for product in "${products[@]}"; do
    echo "  $product = $("$BUILD/tests/compare_$product" --dir=- --work=name)"
done
awk -F '\t' -v products="${products[*]}" -v bars="$BARS" -v entry=$((VALUE + 16)) -v keys="$KEYS" \
    -v bar_codec="$([ "$CODEC" = none ] || echo "$BAR_CODEC")" '
function median(list, count,   i, j, hold) {
    for (i = 2; i <= count; i++)
        for (j = i; j > 1 && list[j] < list[j - 1]; j--) {
            hold = list[j]; list[j] = list[j - 1]; list[j - 1] = hold
        }
    return count % 2 ? list[(count + 1) / 2] : (list[count / 2] + list[count / 2 + 1]) / 2
}
function cell(row, product, field,   i, list) {
    for (i = 1; i <= count[row, product]; i++) list[i] = value[row, product, i, field]
    return median(list, count[row, product])
}
{
    row = $2 (($3 > 1) ? ":" $3 : "")
    if (!(row in seen)) { seen[row] = 1; rows[++row_count] = row }
    n = ++count[row, $1]
    for (i = 5; i <= NF; i++) value[row, $1, n, i] = $i
    value[row, $1, n, 4] = $4
}
END {
    product_count = split(products, names, " ")
    bar_count = split(bars, pairs, " ")
    for (i = 1; i <= bar_count; i++) {
        split(pairs[i], pair, "=")
        bar[pair[1]] = bar_codec != "" && pair[2] > bar_codec ? bar_codec : pair[2]
    }
    printf "\n%-18s %-16s %10s %6s %5s %9s %9s %9s %10s %8s %8s %6s %9s\n", "workload", "product",
        "ops/s", "ratio", "bar", "p50 us", "p99 us", "p99.9 us", "max us", "cpu s", "written", "disk",
        "MB memory"
    for (r = 1; r <= row_count; r++) {
        row = rows[r]
        peer = 0
        for (p = 1; p <= product_count; p++)
            if (names[p] != "storm" && names[p] != "lmdb" && count[row, names[p]] > 0) {
                speed = cell(row, names[p], 6)
                if (speed > peer) peer = speed
            }
        for (p = 1; p <= product_count; p++) {
            if (count[row, names[p]] == 0) continue
            speed = cell(row, names[p], 6)
            ratio = names[p] == "storm" && peer > 0 ? speed / peer : 0
            work = row
            sub(/:.*/, "", work)
            is_short = ratio > 0 && ratio < bar[work]
            is_large = work ~ /64k/
            size = is_large ? 65536 + 16 : entry
            ops = cell(row, names[p], 4)
            stored = work ~ /^fill/ || is_large ? ops : keys
            if (work == "read64k") stored = 5000
            printf "%-18s %-16s %10.0f %6s %5s %9.2f %9.2f %9.2f %10.1f %8.2f %8s %6.2f %9.1f\n",
                (p == 1 ? row : ""), names[p], speed, (ratio > 0 ? sprintf("%.2f", ratio) : ""),
                (ratio > 0 && work in bar ? bar[work] (is_short ? "!" : "") : ""),
                cell(row, names[p], 7), cell(row, names[p], 8), cell(row, names[p], 9),
                cell(row, names[p], 10), cell(row, names[p], 11),
                (ops > 0 ? sprintf("%.2f", cell(row, names[p], 12) / (ops * size)) : ""),
                cell(row, names[p], 13) / (stored * size), cell(row, names[p], 14) / 1e6
        }
    }
}' "$OUT"
