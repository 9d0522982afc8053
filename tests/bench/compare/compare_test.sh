#!/usr/bin/env bash
# Every workload of the comparison, small, on Storm alone: that each still runs, finds what it expects
# and prints a whole line. What the figures say is compare.sh's business.
#
#   compare_test.sh PROGRAM
set -eu
program=$1
work=$(mktemp -d "${TMPDIR:-/tmp}/storm-compare-test.XXXXXX")
trap 'rm -rf "$work"' EXIT

check() { # WORK THREADS DIRECTORY OPERATIONS, 0 = its own
    "$program" "--dir=$3" "--work=$1" "--threads=$2" --keys=3000 --ops="$4" >"$work/line"
    if ! awk -F '\t' -v work="$1" -v threads="$2" '
        NF != 13 || $1 != work || $2 != threads || $4 <= 0 || $5 <= 0 { bad = 1 }
        END { exit bad || NR != 1 }' "$work/line"; then
        echo "$1 with $2 threads printed: $(cat "$work/line")" >&2
        exit 1
    fi
    echo "ok: $(cut -f 1-5 "$work/line" | tr '\t' ' ')"
}

mkdir "$work/loaded"
for name in fillseq fillbatch fillrandom fillsync; do
    for threads in 1 4; do
        mkdir "$work/fresh"
        check "$name" "$threads" "$work/fresh" 28
        rm -rf "$work/fresh"
    done
done
check load 1 "$work/loaded" 0
for name in readrandom readmissing readcold readseq readreverse seekrandom readwhilewriting \
    overwrite ycsb-a ycsb-b ycsb-c ycsb-d ycsb-e ycsb-f crash recover open deleterandom; do
    check "$name" 1 "$work/loaded" 0
done
mkdir "$work/large"
check fill64k 1 "$work/large" 0
check read64k 2 "$work/large" 300
