#!/usr/bin/env bash
# What the tests that ran in a build with -DSTORM_COVERAGE=ON have reached of storage/.
#
#   coverage.sh BUILD PERCENT               one line for lines, one for branches, the ten files with
#                                           the most uncovered lines; fails below PERCENT of lines
#   coverage.sh BUILD --show storage/FILE   the uncovered lines of one file
#
# gcov and awk, no other tool: gcov comes with gcc. What counts is everything that ran since the
# counters, the build's .gcda files, were removed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2
build=$1
least=$2
show=
if [ "$2" = --show ]; then
    least=0
    show=$3
fi

# Not those that an older build has left of sources that are gone.
notes() {
    local objects=$build/storage/CMakeFiles/storm_objects.dir note source
    while IFS= read -r -d '' note; do
        source=${note#"$objects"/}
        [ ! -f "storage/${source%.gcno}" ] || printf '%s\0' "$note"
    done < <(find "$objects" -name '*.gcno' -print0)
}

notes | xargs -0 gcov --stdout --branch-probabilities --branch-counts 2>/dev/null |
    awk -v root="$PWD/" -v most=10 -v show="$show" -f tests/support/coverage.awk |
    awk -v least="$least" '
        { print }
        /^line coverage/ { found = 1; low = $5 < least + 0 }
        END {
            if (low)
                print "too little: at least " least " % of the lines are asked for"
            exit least + 0 > 0 && (low || !found)
        }'
