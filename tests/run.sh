#!/usr/bin/env bash
# From a fresh clone to tested: installs the packages that are missing, builds with gcc, clang and the
# sanitizers, runs every test, and ends with one line, "N passed, N failed". Exits with 1 if anything
# failed. Needs Debian 12 or later, as root or with sudo only while something is missing.
#
#   ./tests/run.sh              everything
#   ./tests/run.sh STAGE...     only these: style tools gcc clang coverage asan tsan fuzz
#
#   STORM_FUZZ_SECONDS=6        for each fuzz target
#   STORM_JOBS=2                parallel compilers and tests; the number of cores unless told
#
# Everything it makes is below build/: build/test, build/clang, build/coverage, build/asan, build/tsan,
# build/fuzz; what each step printed is in build/logs. What fails is printed as well.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
# shellcheck source=config/packages.sh
. config/packages.sh

FUZZ_SECONDS=${STORM_FUZZ_SECONDS:-6}
LEAST_COVERED=90
JOBS=${STORM_JOBS:-$(nproc)}
LOGS=build/logs
PASSED=0
FAILED=0
SECONDS=0
export LC_ALL=C.UTF-8
# A proxy for the outside must not get the requests to 127.0.0.1.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }

passed() { PASSED=$((PASSED + ${1:-1})); }

# failed 'what' [LOG]: count it and show the end of its log.
failed() {
    FAILED=$((FAILED + 1))
    say "FAILED: $1"
    if [ -n "${2:-}" ]; then
        tail -n 60 "$2" | sed 's/^/    /'
        echo "    (all of it: $2)"
    fi
}

# gate 'what' LOG command...: one thing that passes or fails, counted as one.
gate() {
    local what=$1 log=$LOGS/$2.log
    shift 2
    if "$@" >"$log" 2>&1 </dev/null; then
        passed
        say "ok: $what"
    else
        failed "$what" "$log"
        return 1
    fi
}

# build DIRECTORY 'compiler' [cmake arguments]: configure and compile, warnings being errors.
build() {
    local directory=$1 compiler=$2
    shift 2
    gate "build/$directory compiles with $compiler without a warning" "build-$directory" \
        compile "$directory" "$compiler" "$@"
}

compile() {
    local directory=$1 compiler=$2
    shift 2
    CC=$compiler cmake -S . -B "build/$directory" -DSTORM_WERROR=ON "$@" &&
        cmake --build "build/$directory" --parallel "$JOBS" ${TARGET:+--target "$TARGET"}
}

# run_ctest DIRECTORY [ctest arguments]: count each entry; show the output of those that fail.
run_ctest() {
    local directory=$1 log=$LOGS/ctest-$1.log total bad
    shift
    [ -f "build/$directory/CTestTestfile.cmake" ] || return 0
    ctest --test-dir "build/$directory" --output-on-failure --parallel "$JOBS" "$@" \
        >"$log" 2>&1 </dev/null
    # "98% tests passed, 1 tests failed out of 57"
    bad=$(sed -n 's/.*passed, \([0-9]*\) tests failed out of.*/\1/p' "$log")
    total=$(sed -n 's/.*tests failed out of \([0-9]*\)$/\1/p' "$log")
    if [ -z "$total" ]; then
        failed "ctest in build/$directory ran nothing" "$log"
        return
    fi
    passed $((total - bad))
    FAILED=$((FAILED + bad))
    if [ "$bad" -eq 0 ]; then
        say "ok: build/$directory: all $total entries of ctest"
    else
        say "FAILED: build/$directory: $bad of $total entries of ctest"
        sed -n '/^ *[0-9]*\/[0-9]* Test .*\*\*\*/,/^ *\(Start\|[0-9]*\/[0-9]* Test\)/p' "$log" |
            tail -n 300 | sed 's/^/    /'
        sed -n '/^The following tests FAILED/,$p' "$log" | sed 's/^/    /'
        echo "    (all of it: $log)"
    fi
}

# ---- Stages ---------------------------------------------------------------------------------------

stage_packages() {
    local names=(ca-certificates gcc libc6-dev make cmake pkg-config clang clang-format
        libclang-rt-dev libmicrohttpd-dev libgnutls28-dev libjansson-dev zlib1g-dev liblz4-dev libzstd-dev
        libinih-dev libcmocka-dev libcurl4-openssl-dev curl jq openssl
        shellcheck)
    # Node.js may have come from elsewhere, npm with it.
    command -v node >/dev/null && command -v npm >/dev/null || names+=(nodejs npm)
    ensure_packages "${names[@]}" || {
        echo "0 passed, 1 failed"
        exit 1
    }
    # The real input is what apt knows of; a machine that was never updated knows of nothing.
    if [ "$(apt-cache dumpavail 2>/dev/null | grep -c '^Package:')" -lt 1000 ]; then
        say "apt knows of too few packages for the test with real input: apt-get update"
        as_root apt-get -qq update
    fi
    say "packages: nothing is missing"
}

# The linter of openapi.yaml, at the versions that tests/package-lock.json has.
stage_tools() {
    local stamp=tests/node_modules/.storm-lock
    if cmp -s tests/package-lock.json "$stamp"; then
        return
    fi
    say "npm ci in tests/"
    gate "npm ci" npm npm ci --prefix tests --ignore-scripts --no-audit --no-fund --loglevel=error &&
        cp tests/package-lock.json "$stamp"
}

stage_style() {
    gate "clang-format" clang-format check_format
    gate "direction of includes" direction tests/support/direction.sh
    gate "shellcheck" shellcheck check_shell
}

sources() { git ls-files --cached --others --exclude-standard "$@" 2>/dev/null || find_sources "$@"; }

# Without git, or in a clone that is somebody else's: the same by name.
find_sources() {
    local pattern
    for pattern in "$@"; do
        find api config storage tests -name node_modules -prune -o -type f -name "$pattern" -print
    done
}

check_format() {
    sources '*.c' '*.h' | xargs clang-format --dry-run -Werror
}

# SC2119: storm_start takes options but rarely gets some. SC2317: a function given to check is reached.
check_shell() {
    sources '*.sh' | xargs shellcheck -x -e SC2119,SC2317 .ci/run
}

stage_gcc() {
    build test gcc || return
    run_ctest test
}

stage_clang() {
    build clang clang
}

# How much of the engine the units and the model reach. Counting costs time, so the model is short.
stage_coverage() {
    build coverage gcc -DCMAKE_BUILD_TYPE=Debug -DSTORM_COVERAGE=ON || return
    find build/coverage -name '*.gcda' -delete
    run_ctest coverage --label-regex unit
    gate "model with 100,000 operations" coverage-model build/coverage/tests/model 100000
    gate "at least $LEAST_COVERED % of the lines of storage/ are covered" coverage \
        tests/support/coverage.sh build/coverage "$LEAST_COVERED" &&
        sed 's/^/    /' "$LOGS/coverage.log"
}

# Memory errors and undefined behaviour: units, model, and the server under a part of the HTTP tests.
stage_asan() {
    build asan clang -DCMAKE_BUILD_TYPE=Debug -DSTORM_SANITIZE=address || return
    ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 \
        run_ctest asan --label-regex 'unit|model|sanitize'
}

# Data races: what has threads in it, and the server under load.
stage_tsan() {
    build tsan clang -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSTORM_SANITIZE=thread || return
    TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 \
        run_ctest tsan --label-regex threads
}

# A short run of each decoder's fuzzer from the corpus in the tree; what it finds stays in build/.
stage_fuzz() {
    local source name
    compgen -G 'tests/fuzz/fuzz_*.c' >/dev/null || return
    TARGET=fuzzers build fuzz clang -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSTORM_SANITIZE=address \
        -DSTORM_BUILD_FUZZERS=ON || return
    for source in tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        gate "$name for $FUZZ_SECONDS s" "$name" fuzz "${name#fuzz_}"
    done
}

fuzz() {
    local corpus=build/fuzz/corpus/$1 seeds=()
    mkdir -p "$corpus" build/fuzz/findings
    [ -d "tests/fuzz/corpus/$1" ] && seeds=("tests/fuzz/corpus/$1")
    "build/fuzz/tests/fuzz_$1" "-max_total_time=$FUZZ_SECONDS" -timeout=10 -rss_limit_mb=2048 \
        -print_final_stats=1 "-artifact_prefix=build/fuzz/findings/" "$corpus" \
        "${seeds[@]+"${seeds[@]}"}"
}

# ---- All of them ----------------------------------------------------------------------------------

stages=("$@")
[ $# -gt 0 ] || stages=(tools style gcc clang coverage asan tsan fuzz)
for stage in "${stages[@]}"; do
    case $stage in
    tools | style | gcc | clang | coverage | asan | tsan | fuzz) ;;
    *)
        echo "There is no stage '$stage': tools style gcc clang coverage asan tsan fuzz" >&2
        exit 2
        ;;
    esac
done
mkdir -p "$LOGS"
stage_packages
for stage in "${stages[@]}"; do
    "stage_$stage"
done
say "done"
echo "$PASSED passed, $FAILED failed"
[ "$FAILED" -eq 0 ]
