# Sums what gcov says of the library, object by object, into one result.
#
#   gcov --stdout --branch-counts --branch-probabilities ... | awk -f coverage.awk -v root=/src/ -v most=10
#
# Reads gcov's text: "count:line:source" for each line, after it "branch N taken COUNT" for each way
# out of it. A line or branch of a header stands in several objects and is covered when it is in one
# of them. Sources outside root and the fault-injecting twin, storage/os/sim*, do not count.
#
# Prints one line each for lines and branches, then the `most` files with the most uncovered lines,
# or with -v show=PATH the uncovered lines of that file.

function is_ours(path)
{
    return index(path, root "storage/") == 1 && path !~ /storage\/os\/sim[^\/]*$/
}

/^ *-: *0:Source:/ {
    source = substr($0, index($0, "Source:") + 7)
    ours = is_ours(source)
    file = ours ? substr(source, length(root) + 1) : ""
    next
}

!ours { next }

/^branch/ {
    place = file ":" number ":" $2
    if (!(place in ways))
        ways[place] = 0
    if ($3 == "taken" && $4 + 0 > 0)
        ways[place] = 1
    next
}

/^ *[0-9#=-]+\*?: *[0-9]+:/ {
    split($0, part, ":")
    count = part[1]
    number = part[2] + 0
    gsub(/[ *]/, "", count)
    if (count == "-" || number == 0)
        next
    place = file ":" number
    if (!(place in lines))
        lines[place] = 0
    if (count + 0 > 0)
        lines[place] = 1
    text[place] = substr($0, length(part[1]) + length(part[2]) + 3)
}

END {
    for (place in lines) {
        split(place, part, ":")
        all[part[1]]++
        total++
        hit += lines[place]
        missed[part[1]] += !lines[place]
        if (!lines[place] && part[1] == show)
            printf "%6d:%s\n", part[2], text[place] | "sort -n"
    }
    for (place in ways) {
        all_ways++
        taken += ways[place]
    }
    if (show != "")
        exit 0
    if (total == 0)
        exit 1
    printf "line coverage of storage/: %.1f %% (%d of %d lines)\n", 100 * hit / total, hit, total
    printf "branch coverage of storage/: %.1f %% (%d of %d branches)\n",
        100 * taken / all_ways, taken, all_ways
    fflush()
    worst = "sort -rn | head -n " most
    for (f in missed)
        if (missed[f] > 0)
            printf "%6d of %d lines not covered: %s\n", missed[f], all[f], f | worst
}
