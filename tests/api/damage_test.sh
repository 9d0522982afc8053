#!/usr/bin/env bash
# Files that have changed under the server: flipped and missing bytes in tables and logs. Whatever
# happens, no key reads as absent that was written, none with another value: there is the right value
# or an error, from the request or already from the start, and a refused start changes nothing.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"

KEYS=400

value_of() { printf '{"n":%d,"text":"%0200d"}' "$1" "$(($1 * 7919))"; }

# Put all keys with one curl.
fill() {
    local i
    for ((i = 0; i < KEYS; i++)); do
        [ "$i" -gt 0 ] && echo next
        printf 'url = "%s/kv/k%d"\nrequest = PUT\nsilent\noutput = /dev/null\n' "$URL" "$i"
        printf 'write-out = "%%{http_code}\\n"\ndata-binary = "@%s"\n' "$WORK/values/$i"
    done >"$WORK/puts"
    check_equal "writes" "$(curl -K "$WORK/puts" | sort | uniq -c | xargs)" "$KEYS 201"
}

# Read all keys; sets RIGHT, ERRORS and BAD (absent, wrong, or any other answer).
verify() {
    local i status
    RIGHT=0 ERRORS=0 BAD=0
    for ((i = 0; i < KEYS; i++)); do
        [ "$i" -gt 0 ] && echo next
        printf 'url = "%s/kv/k%d"\nsilent\noutput = "%s"\n' "$URL" "$i" "$WORK/got.$i"
        printf 'write-out = "%%{http_code}\\n"\n'
    done >"$WORK/gets"
    i=0
    while IFS= read -r status; do
        if [ "$status" = 200 ] && cmp -s "$WORK/values/$i" "$WORK/got.$i"; then
            RIGHT=$((RIGHT + 1))
        elif [ "$status" = 500 ] && grep -q '"corruption_detected"' "$WORK/got.$i"; then
            ERRORS=$((ERRORS + 1))
        else
            BAD=$((BAD + 1))
            echo "  k$i: $status $(head -c 200 "$WORK/got.$i")"
        fi
        i=$((i + 1))
    done < <(curl -K "$WORK/gets")
    BAD=$((BAD + KEYS - i))
}

# flip FILE OFFSET: invert one byte.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    # shellcheck disable=SC2059 # the format is the byte itself
    printf "\\x$(printf %02x $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

sums() { (cd "$DATA" && find . -type f ! -name 'LOCK*' -exec cksum {} + | sort); }

# starts_or_refuses 'what' FILE: if it starts, no answer may be bad; if it does not, the message
# names the file and nothing has changed. Sets STARTED.
starts_or_refuses() {
    local before
    before=$(sums)
    : >"$WORK/log"
    storm_spawn
    STARTED=false
    if storm_wait; then
        STARTED=true
        verify
        check_equal "$1: absent or wrong" "$BAD" 0
        storm_kill
    else
        wait "$PID"
        CHECKS=$((CHECKS + 1))
        [ $? -lt 128 ] || fail "$1: it died of a signal"
        check "$1: the message names the file" grep -q "${2##*/}" "$WORK/log"
        check_equal "$1: a refusal changes nothing" "$(sums)" "$before"
    fi
}

mkdir "$WORK/values"
for ((k = 0; k < KEYS; k++)); do value_of "$k" >"$WORK/values/$k"; done

echo "a store with one table, and one with a log only"
storm_start --table.codec=none
fill
req POST /admin/flush
expect_json .flushed
storm_stop
mv "$DATA" "$WORK/table"
storm_start
fill
storm_kill
mv "$DATA" "$WORK/log-only"

again() {
    rm -rf "$DATA"
    cp -a "$WORK/$1" "$DATA"
}

again table
table=$(find "$DATA" -type f ! -name '*.log' -size +40k | head -n 1)
[ -n "$table" ] || die "no table found in $(ls -l "$DATA")"
size=$(stat -c %s "$table")

echo "a flipped byte in a table (${table##*/}, $size bytes)"
for percent in 1 25 50 75; do
    again table
    flip "$table" $((size * percent / 100))
    starts_or_refuses "byte at $percent %" "$table"
    check "byte at $percent %: the start is not refused" "$STARTED"
    check "byte at $percent %: it is noticed" test "$ERRORS" -gt 0
    check "byte at $percent %: other keys are served" test "$RIGHT" -gt $((KEYS / 2))
done
for back in 1 5 20 40 60 100 200 400 800 1600; do
    again table
    flip "$table" $((size - back))
    starts_or_refuses "byte $back from the end" "$table"
done

echo "a table that is too short"
for length in 0 2 100 $((size / 2)) $((size - 1)); do
    again table
    truncate -s "$length" "$table"
    starts_or_refuses "cut to $length bytes" "$table"
    $STARTED && check "cut to $length bytes: it is noticed" test "$ERRORS" -gt 0
done
again table
rm "$table"
starts_or_refuses "no table" "$table"
$STARTED && check "no table: it is noticed" test "$ERRORS" -gt 0

echo "a flipped byte in a log"
again log-only
log=$(find "$DATA" -type f -name '*.log' | sort | tail -n 1)
used=$(grep -abo '"n":399,' "$log" | head -n 1 | cut -d: -f1)
[ -n "$used" ] || die "the last value is not in ${log##*/}"
for percent in 2 30 60 90; do
    again log-only
    flip "$log" $((used * percent / 100))
    starts_or_refuses "log byte at $percent %" "$log"
    check "log byte at $percent %: the start is refused" test "$STARTED" = false
done

echo "a log that lost its end"
again log-only
truncate -s $((used - 4000)) "$log"
: >"$WORK/log"
storm_spawn
if storm_wait; then
    # A torn tail looks the same; what is there must be right, and be a prefix.
    req GET /kv/k0
    expect_body "$(value_of 0)"
    req GET /kv/k399
    expect_problem 404 key_not_found
    storm_kill
else
    check "the message names the log" grep -q "${log##*/}" "$WORK/log"
fi

echo "a store of a newer release"
# The manifest's header: format version at 8, at 32 a CRC-32C of the 32 bytes before it.
crc32c() { # FILE SIZE: of its first bytes, as the four bytes it is stored as
    local byte crc=$((0xffffffff))
    for byte in $(od -An -v -tu1 -N "$2" "$1"); do
        crc=$((crc ^ byte))
        for _ in 1 2 3 4 5 6 7 8; do
            crc=$(((crc >> 1) ^ (crc & 1 ? 0x82f63b78 : 0)))
        done
    done
    crc=$((crc ^ 0xffffffff))
    printf '\\x%02x' $((crc & 255)) $((crc >> 8 & 255)) $((crc >> 16 & 255)) $((crc >> 24))
}
again table
manifest=$DATA/$(cut -d' ' -f1 "$DATA/CURRENT")
# shellcheck disable=SC2059 # the format is the bytes
check_equal "the checksum is where this test takes it to be" \
    "$(od -An -tx1 -j 32 -N 4 "$manifest")" "$(printf "$(crc32c "$manifest" 32)" | od -An -tx1)"
printf '\x09' | dd of="$manifest" bs=1 seek=8 conv=notrunc status=none
# shellcheck disable=SC2059
printf "$(crc32c "$manifest" 32)" | dd of="$manifest" bs=1 seek=32 conv=notrunc status=none
starts_or_refuses "a newer manifest" "$manifest"
check "a newer manifest: the start is refused" test "$STARTED" = false
check "a newer manifest: the message says so" grep -qE 'version 9|newer' "$WORK/log"

echo "untouched, both are whole"
for store in table log-only; do
    again "$store"
    storm_start
    verify
    check_equal "$store: right" "$RIGHT" "$KEYS"
    storm_kill
done
finish
