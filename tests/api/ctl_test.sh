#!/usr/bin/env bash
# stormctl on data directories: every subcommand, every exit status, beside a running server and
# without one, on stores that are whole, damaged, locked, missing or none.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
STORMCTL=${STORMCTL:-$SOURCE_DIR/build/api/stormctl}
BUILD_DIR=${BUILD_DIR:-$SOURCE_DIR/build}
COMMANDS=(verify repair dump checkpoint compact stats)
MANUAL=$BUILD_DIR/config/man/stormctl.1

# ctl STATUS arguments...: run it; the exit status must be that one. What it printed is in $WORK/out
# and $WORK/err.
ctl() {
    local wanted=$1 status
    shift
    REQUEST="stormctl $*"
    timeout 60 "$STORMCTL" "$@" >"$WORK/out" 2>"$WORK/err" </dev/null
    status=$?
    CHECKS=$((CHECKS + 1))
    [ "$status" = "$wanted" ] || fail_run "status $status, wanted $wanted"
}

fail_run() {
    # The line that called what has called this.
    FAILURES=$((FAILURES + 1))
    echo "FAILED ctl_test.sh:${BASH_LINENO[1]}: $*"
    echo "  $REQUEST"
    head -c 800 "$WORK/out" | sed 's/^/  out: /'
    head -c 800 "$WORK/err" | sed 's/^/  err: /'
}

# says out|err 'extended regular expression'
says() {
    CHECKS=$((CHECKS + 1))
    grep -qE -- "$2" "$WORK/$1" || fail_run "no /$2/ in $1"
}

# silent out|err
silent() {
    CHECKS=$((CHECKS + 1))
    [ ! -s "$WORK/$1" ] || fail_run "$1 is not empty"
}

# holds 'jq expression that must be true of what it printed'
holds() {
    CHECKS=$((CHECKS + 1))
    jq -e "$1" "$WORK/out" >/dev/null 2>&1 || fail_run "not true of the output: $1"
}

sums() { (cd "$1" && find . -type f ! -name 'LOCK*' -exec cksum {} + | sort); }

# entries DIR: what a dump says the store holds, without its end.
entries() { "$STORMCTL" dump "$1" 2>/dev/null | grep -v '^{"end":true'; }

flip() { # FILE OFFSET: invert one byte
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    # shellcheck disable=SC2059 # the format is the byte itself
    printf "\\x$(printf %02x $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# on_terminal 'answer' command...: with a terminal for all three streams; its status.
on_terminal() {
    local answer=$1
    shift
    # What is typed too early is echoed, and read all the same.
    (sleep 0.3 && printf '%s\n' "$answer" && sleep 0.3) |
        timeout 60 script -qec "$*" /dev/null >"$WORK/out" 2>&1
}
# A root without /dev/pts has no terminals to give away.
has_terminals=yes
on_terminal no true || has_terminals=no

echo "the command line"
ctl 2
silent out
says err '^Usage: stormctl COMMAND'
for word in --help -h help; do
    ctl 0 "$word"
    silent err
    for command in "${COMMANDS[@]}"; do says out "^  $command "; done
done
ctl 0 --version
says out "^stormctl $(sed -n 's/^project(stormdb VERSION \([0-9.]*\).*/\1/p' "$SOURCE_DIR/CMakeLists.txt")$"
ctl 2 verfy "$DATA"
says err 'unknown command "verfy".*did you mean verify\?'
ctl 2 help dmup
says err 'did you mean dump\?'
ctl 2 --verison
says err 'did you mean --version\?'
ctl 2 frobnicate
says err 'unknown command "frobnicate"$'
ctl 2 help dump verify
for command in "${COMMANDS[@]}"; do
    ctl 0 help "$command"
    cp "$WORK/out" "$WORK/help"
    ctl 0 "$command" --help
    check "$command: help and --help agree" cmp -s "$WORK/out" "$WORK/help"
    says out "^Usage: stormctl $command DIR"
    ctl 2 "$command"
    says err "^stormctl $command: DIR is missing$"
    silent out
    ctl 2 "$command" --jsno "$DATA"
    says err 'unknown option --jsno'
    ctl 2 "$command" "$DATA" "$DATA.2" extra
    says err "argument too many"
    ctl 2 "$command" "" "$DATA.2"
    says err "DIR is empty"
    check "$command is in the manual" grep -q "^.B $command$" "$MANUAL"
    while read -r option; do
        check "$command $option is in the manual" grep -qF -- "${option//-/\\-}" "$MANUAL"
    done < <(grep -oE '^  --[a-z-]+' "$WORK/help")
done
ctl 2 dump --limt 3 "$DATA"
says err 'unknown option --limt.*did you mean --limit\?'
ctl 2 dump "$DATA" --limit
says err -- '--limit: N is missing'
for limit in 0 -1 many 1x 99999999999999999999; do
    ctl 2 dump "$DATA" "--limit=$limit"
    says err -- '--limit takes a number from 1 on'
done
ctl 2 dump "$DATA" --format=csv
says err -- '--format takes ndjson or text'
ctl 2 dump "$DATA" --keys-only=yes
says err -- '--keys-only takes no value'
ctl 2 dump -x "$DATA"
ctl 2 checkpoint "$DATA"
says err 'NEWDIR is missing'
check "the manual has no directive of its template left" test -z "$(grep '^%' "$MANUAL")"

echo "no store"
mkdir "$WORK/empty"
echo something >"$WORK/file"
for command in "${COMMANDS[@]}"; do
    arguments=()
    [ "$command" = checkpoint ] && arguments=("$WORK/new")
    [ "$command" = repair ] && arguments=(--yes)
    for dir in "$WORK/none" "$WORK/empty"; do
        ctl 3 "$command" "$dir" "${arguments[@]+"${arguments[@]}"}"
        silent out
        says err "^stormctl: cannot open $dir: (there is no such directory|the directory holds no store)"
    done
    ctl 3 "$command" "$WORK/file" "${arguments[@]+"${arguments[@]}"}"
    says err "^stormctl: cannot open $WORK/file: it is not a directory$"
done
check "nothing was made" test ! -e "$WORK/none" -a ! -e "$WORK/new" -a -z "$(ls -A "$WORK/empty")"

echo "a dump is what was put over HTTP"
storm_start
keys=(a%22quote%5C a%00nul a%FFbytes %C3%BCber json/array json/big json/number json/object json/text
    json/typed plain plain/empty ttl)
req PUT /kv/a%22quote%5C -d true
req PUT /kv/a%00nul -d null
req PUT /kv/a%FFbytes -d '"bytes in the key"'
req PUT /kv/%C3%BCber -d '"für"'
req PUT /kv/json/array --data-binary $'[\n  1,\r\n\t2.50,\n  "a\\nb"\n]\n'
req PUT /kv/json/big -d 123456789012345678901234567890.10
req PUT /kv/json/number -d 0.1
req PUT /kv/json/object -d '{"b":1,"a":{"c":[]},"b":2}'
req PUT /kv/json/text -d '"tab\t \u0000 \ud83d\ude00"'
req PUT /kv/json/typed -H 'Content-Type: application/merge-patch+json' -d '{"x":null}'
head -c 100000 /dev/urandom >"$WORK/random"
req PUT /kv/plain -H 'Content-Type: image/png' --data-binary "@$WORK/random"
expect_status 201
req PUT /kv/plain/empty -H 'Content-Type: text/plain' --data-binary ''
expect_status 201
req PUT '/kv/ttl?ttl=1h' -d '[]'
expect_status 201
req PUT /kv/gone -d 1
req DELETE /kv/gone
expect_status 204
for key in "${keys[@]}"; do
    req GET "/kv/$key?meta=true"
    tr -d '\r\n' <"$WORK/body" && echo
done >"$WORK/served"
ctl 0 dump "$DATA"
silent err
check_equal "lines" "$(wc -l <"$WORK/out")" $((${#keys[@]} + 1))
check "every line is JSON" jq -e . "$WORK/out" >/dev/null
req GET /stats
check_equal "the last line" "$(tail -n 1 "$WORK/out")" \
    "{\"end\":true,\"count\":${#keys[@]},\"revision\":$(jq .revision "$WORK/body")}"
check_equal "entries as the server shows them" "$(head -n -1 "$WORK/out" | jq -cS . | sort)" \
    "$(jq -cS . "$WORK/served" | sort)"
check "numbers, doubled members and escapes keep their bytes" \
    grep -qF '"value":123456789012345678901234567890.10,' "$WORK/out"
says out '"key":"json/number","value":0\.1,'
says out '"value":\{"b":1,"a":\{"c":\[\]\},"b":2\},'
says out '"value":"tab\\t \\u0000 \\ud83d\\ude00",'
says out '^\{"key_b64":"Yf9ieXRlcw==","value":"bytes in the key",'
jq -j 'select(.key == "plain") | .value_b64' "$WORK/out" | base64 -d >"$WORK/decoded"
check "base64 in pieces is base64 of the whole" cmp -s "$WORK/decoded" "$WORK/random"
check_equal "times" "$(jq -c 'select(.key == "ttl") | .expires_at > .modified_at' "$WORK/out")" true
check_equal "keys come in the order of their bytes" \
    "$(jq -c 'select(.end | not) | .key // .key_b64' "$WORK/out" | tr -d '\n')" \
    '"a\u0000nul""a\"quote\\""Yf9ieXRlcw==""json/array""json/big""json/number""json/object""json/text""json/typed""plain""plain/empty""ttl""über"'

echo "parts of a dump"
ctl 0 dump "$DATA" --prefix json/
check_equal "--prefix" "$(jq -r '.key // empty' "$WORK/out" | tr '\n\000' ' ?')" \
    "json/array json/big json/number json/object json/text json/typed "
ctl 0 dump "$DATA" --start json/number --end=json/typed
check_equal "--start and --end" "$(jq -r '.key // empty' "$WORK/out" | tr '\n' ' ')" \
    "json/number json/object json/text "
ctl 0 dump --limit 2 --prefix=json/ --start json/b "$DATA"
check_equal "--limit" "$(jq -r '.key // "end \(.count)"' "$WORK/out" | tr '\n' ' ')" \
    "json/big json/number end 2 "
ctl 0 dump "$DATA" --prefix nothing
check_equal "an empty range has its end" "$(jq -c '[.end,.count]' "$WORK/out")" '[true,0]'
ctl 0 dump "$DATA" --keys-only --prefix json/t
check_equal "--keys-only" "$(jq -c 'keys' "$WORK/out" | head -n 1)" '["key","revision"]'
ctl 0 dump "$DATA" --format text --prefix json/a
check_equal "text" "$(head -c 300 "$WORK/out")" $'json/array\t[\\n  1,\\r\\n\\t2.50,\\n  "a\\\\nb"\\n]\\n'
ctl 0 dump "$DATA" --format=text --keys-only --start a --end b
check_equal "text of keys" "$(cat "$WORK/out")" $'a\\x00nul\na"quote\\\\\na\\xffbytes'
ctl 0 dump "$DATA" --format text --prefix ü
check_equal "text that is UTF-8" "$(tail -c 300 "$WORK/out")" $'über\t"für"'
ctl 0 dump -- "$DATA"

echo "readers that go away, disks that are full"
for _ in 1 2 3; do
    set -o pipefail
    "$STORMCTL" dump "$DATA" 2>"$WORK/err" | head -n 1 >"$WORK/out"
    check_equal "a reader that goes away: status" $? 0
    set +o pipefail
    silent err
done
"$STORMCTL" dump "$DATA" >/dev/full 2>"$WORK/err"
check_equal "a full disk: status" $? 1
says err 'cannot write to standard output: No space left'
"$STORMCTL" stats "$DATA" --json >/dev/full 2>"$WORK/err"
check_equal "a full disk, JSON: status" $? 1

echo "beside a server"
ctl 0 stats "$DATA"
silent err
says out "^store +$DATA, [0-9.]+ [KMG]iB$"
says out '^keys +about [0-9]+$'
ctl 0 verify "$DATA"
silent err
says out '^No problems in 0 tables, .* entries, .*; revision [0-9,]+$'
for command in compact "checkpoint" repair; do
    arguments=()
    [ "$command" = checkpoint ] && arguments=("$WORK/new")
    [ "$command" = repair ] && arguments=(--yes)
    ctl 4 "$command" "$DATA" "${arguments[@]+"${arguments[@]}"}"
    silent out
    says err "^stormctl: cannot [a-z]+ $DATA: .*(held|process).*stop that one first$"
done
check "no checkpoint was made" test ! -e "$WORK/new"
req PUT /kv/more -d 1
expect_status 201

echo "beside a server that writes, flushes and compacts"
storm_stop
storm_start --memtable.bytes=65536 --wal.sync=off --write_buffer.bytes=1048576
for ((i = 0; i < 400; i++)); do
    [ "$i" -gt 0 ] && echo next
    printf 'url = "%s/kv/busy%03d"\nrequest = PUT\nsilent\noutput = /dev/null\n' "$URL" "$i"
    printf 'header = "Content-Type: text/plain"\ndata = "%04000d"\n' "$i"
done >"$WORK/puts"
(while [ ! -e "$WORK/enough" ] && curl -K "$WORK/puts"; do :; done) 2>/dev/null &
writer=$!
CHILDREN+=("$writer")
bad=0
for ((i = 0; i < 15; i++)); do
    if ! { "$STORMCTL" dump "$DATA" >"$WORK/out" 2>"$WORK/err" &&
        tail -n 1 "$WORK/out" | grep -q '^{"end":true' &&
        "$STORMCTL" verify "$DATA" --quiet >"$WORK/out" 2>"$WORK/err" && [ ! -s "$WORK/out" ]; }; then
        bad=$((bad + 1))
        head -c 300 "$WORK/err" "$WORK/out" | cut -c 1-120
    fi
done
check_equal "dumps and verifications that failed" "$bad" 0
: >"$WORK/enough"
wait "$writer"
check_equal "the writer ended with" $? 0
req POST /admin/flush
expect_status 200
storm_stop
entries "$DATA" >"$WORK/before"

echo "stats"
ctl 0 stats "$DATA" --json
silent err
holds '.revision > 0 and .keys_estimate > 400 and .memtable.entries == 0 and .sstables.count > 0
    and .sstables.bytes > 0 and (.sstables.levels | map(.files) | add) == .sstables.count
    and .disk.data_bytes >= .sstables.bytes and .disk.free_bytes > 0 and .errors.count == 0'
ctl 0 stats "$DATA"
says out '^level +tables +size$'
says out '^[0-6] +[0-9]+ +[0-9.]+ (B|KiB|MiB)$'

echo "compact"
ctl 0 compact "$DATA" --json
silent err
holds '.before.tables > 0 and .after.tables > 0 and .after.bytes > 0 and .seconds >= 0'
check_equal "no entry is lost by it" "$(entries "$DATA" | cksum)" "$(cksum <"$WORK/before")"
ctl 0 compact "$DATA" --start busy --end busy2
says out '^[0-9.]+ [KM]?i?B in [0-9]+ tables? before, [0-9.]+ [KM]?i?B in [0-9]+ tables? after; [0-9.]+ s$'
printf '[table]\ncodec = none\n' >"$WORK/storm.conf"
ctl 0 compact "$DATA" --json --config "$WORK/storm.conf"
holds '.after.bytes > .before.bytes * 2'
REQUEST=environment
STORM_TABLE_CODEC=zstd "$STORMCTL" compact "$DATA" --json >"$WORK/out" 2>"$WORK/err"
holds '.after.bytes * 2 < .before.bytes'
ctl 2 compact "$DATA" --config "$WORK/none.conf"
says err "$WORK/none.conf"
printf '[table]\ncodek = none\n' >"$WORK/storm.conf"
ctl 2 compact "$DATA" --config="$WORK/storm.conf"
says err "$WORK/storm.conf:2.*codec"
check_equal "nothing has changed" "$(entries "$DATA" | cksum)" "$(cksum <"$WORK/before")"

echo "checkpoint"
ctl 0 checkpoint "$DATA" "$WORK/copy"
silent err
says out "^$WORK/copy: revision [0-9,]+, [0-9.]+ [KM]?i?B$"
check_equal "it has the same entries" "$(entries "$WORK/copy" | cksum)" "$(cksum <"$WORK/before")"
ctl 0 verify "$WORK/copy"
ctl 1 checkpoint "$DATA" "$WORK/copy"
says err "$WORK/copy exists already"
ctl 1 checkpoint "$DATA" "$WORK/none/copy"
silent out
says err 'cannot make a checkpoint: '
ctl 0 checkpoint "$DATA" "$WORK/copy2" --json
holds '.revision > 0 and .bytes > 0'

echo "permission denied"
user=()
if [ "$(id -u)" -eq 0 ]; then
    cp "$STORMCTL" "$WORK/stormctl"
    chmod 711 "$WORK"
    user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
else
    ln -s "$STORMCTL" "$WORK/stormctl"
fi
chmod 0 "$WORK/copy2"
for command in verify stats compact; do
    REQUEST="$command without permission"
    "${user[@]+"${user[@]}"}" "$WORK/stormctl" "$command" "$WORK/copy2" >"$WORK/out" 2>"$WORK/err"
    check_equal "$command: status" $? 5
    silent out
    says err "^stormctl: cannot open $WORK/copy2: .*ermission denied; run as the owner of the directory$"
done

table=$(find "$DATA" -type f -name '*.sst' -size +20k | head -n 1)
[ -n "$table" ] || die "no table found in $(ls -l "$DATA")"

echo "what looks like damage for a moment only"
mv "$table" "$WORK/aside"
(sleep 0.1 && mv "$WORK/aside" "$table") &
ctl 0 stats "$DATA"
silent err
wait $!

echo "damage"
cp -a "$DATA" "$WORK/whole" # a checkpoint would share the damaged file
flip "$table" 12345
ctl 1 verify "$DATA"
says err 'restore the directory from a backup, or .*stormctl repair'
says out "^corrupt: .*${table##*/}"
says out '^1 problem in [0-9]+ tables?, '
ctl 1 verify "$DATA" --quiet
check_equal "--quiet prints the problem only" "$(wc -l <"$WORK/out")" 1
ctl 1 verify "$DATA" --json
holds ".ok == false and (.problems | length) == 1 and .problems[0].kind == \"corrupt\" and
    (.problems[0].message | contains(\"${table##*/}\")) and .tables > 0 and .blocks > 0 and .entries > 0"
ctl 0 verify "$WORK/whole" --json
holds '.ok == true and .problems == [] and .entries > 0 and .bytes > 0 and .revision > 0'
ctl 1 dump "$DATA"
says err 'the dump ends at damaged data'
check_not "a dump that was cut has no end" grep -q '"end":true' "$WORK/out"

echo "repair"
before=$(sums "$DATA")
ctl 2 repair "$DATA"
silent out
says err 'give --yes'
if [ "$has_terminals" = yes ]; then
    on_terminal no "$STORMCTL" repair "$DATA"
    check_equal "an answer that is not yes: status" $? 2
    says out 'Type yes to go on'
    says out 'nothing was changed'
else
    echo "no terminals here: repair's question is not tried"
fi
check_equal "nothing was changed" "$(sums "$DATA")" "$before"
cp -a "$DATA" "$WORK/damaged"
ctl 0 repair --yes "$DATA"
silent err
says out '^tables salvaged +1$'
says out "^originals +$DATA/lost"
check "the damaged table is kept" test -s "$DATA/lost/${table##*/}"
ctl 0 verify "$DATA"
entries "$DATA" >"$WORK/after"
check "nothing that was not there" test -z "$(comm -13 <(sort "$WORK/before") <(sort "$WORK/after"))"
check "most of it is left" test "$(wc -l <"$WORK/after")" -gt $(($(wc -l <"$WORK/before") / 2))
storm_start
req GET /kv/json/number
expect_body 0.1
storm_stop
if [ "$has_terminals" = yes ]; then
    on_terminal yes "$STORMCTL" repair "$WORK/damaged"
    check_equal "yes: status" $? 0
    check_equal "asked or told, the same comes of it" "$(entries "$WORK/damaged" | cksum)" "$(cksum <"$WORK/after")"
fi

echo "a lost CURRENT"
rm "$WORK/whole/CURRENT"
ctl 1 verify "$WORK/whole"
says out '^corrupt: .*CURRENT is missing'
says out '^1 problem: the store does not open'
says err 'restore the directory from a backup, or .*stormctl repair'
ctl 1 verify "$WORK/whole" --quiet
silent err
ctl 1 verify "$WORK/whole" --json
holds '.ok == false and (.problems[0].message | contains("CURRENT"))'
ctl 1 stats "$WORK/whole"
silent out
says err 'CURRENT is missing.*stormctl repair'
ctl 0 repair "$WORK/whole" --yes --json
holds '.tables_kept > 0 and .tables_salvaged == 0 and .tables_lost == 0 and .entries > 0 and .revision > 0
    and (.report | type) == "array" and (.originals | endswith("/lost"))'
check_equal "everything is back" "$(entries "$WORK/whole" | cksum)" "$(cksum <"$WORK/before")"
finish
