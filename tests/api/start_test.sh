#!/usr/bin/env bash
# Starts that cannot work: each ends soon with a status other than 0 and a sentence that names what
# is wrong, and changes nothing.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"

# refuses 'what' 'extended regular expression for the message' command...
refuses() {
    local what=$1 message=$2 status
    shift 2
    CHECKS=$((CHECKS + 1))
    timeout 10 "$@" >"$WORK/out" 2>"$WORK/err" </dev/null
    status=$?
    case $status in
    0) fail "$what: it started and ended with 0" ;;
    124) fail "$what: it ran until it was ended" ;;
    1[3-9][0-9]) fail "$what: it died of signal $((status - 128))" ;;
    esac
    grep -qiE "$message" "$WORK/err" || fail "$what: no /$message/ in: $(cat "$WORK/err")"
}
port=$(free_port)
here=--listen=127.0.0.1:$port

echo "data directories"
: >"$WORK/file"
refuses "a file where the directory should be" "$WORK/file.*" \
    "$STORMD" "$here" "--data_dir=$WORK/file"
refuses "a directory below a file" "$WORK/file/data" "$STORMD" "$here" "--data_dir=$WORK/file/data"
refuses "a directory that nobody can make" "/proc/storm" "$STORMD" "$here" --data_dir=/proc/storm
storm_start
req PUT /kv/a -d 1
refuses "a second process" "$DATA.*(locked|in use|another|held)|(locked|in use|another|held).*$DATA" \
    "$STORMD" "$here" "--data_dir=$DATA"
req GET /kv/a
expect_body 1

echo "addresses"
refuses "a port in use" "127.0.0.1:$PORT.*in use|in use.*127.0.0.1:$PORT" \
    "$STORMD" "--listen=127.0.0.1:$PORT" "--data_dir=$WORK/other"
refuses "an address of another machine" "192.0.2.1" \
    "$STORMD" --listen=192.0.2.1:8080 "--data_dir=$WORK/other"
refuses "no port" "listen" "$STORMD" --listen=127.0.0.1 "--data_dir=$WORK/other"
refuses "a port beyond 65535" "listen" "$STORMD" --listen=127.0.0.1:65536 "--data_dir=$WORK/other"

echo "options"
refuses "an unknown option" "wal\.sinc.*wal\.sync" "$STORMD" "$here" --wal.sinc=always
refuses "an unknown word" "wal\.sync.*always.*interval.*off" "$STORMD" "$here" --wal.sync=sometimes
refuses "a size that is too small" "memtable\.bytes.*65536|memtable\.bytes.*64 ?KiB" \
    "$STORMD" "$here" --memtable.bytes=1
refuses "a number that is none" "http\.threads" "$STORMD" "$here" --http.threads=many
refuses "an unknown command" "serve" "$STORMD" serve
refuses "a variable out of range" "STORM_WAL_SYNC" env STORM_WAL_SYNC=never "$STORMD" "$here"
refuses "a file that is not there" "$WORK/none.conf" "$STORMD" "$here" "--config=$WORK/none.conf"
printf '[wal]\nsync = always\nsinc = always\n' >"$WORK/bad.conf"
refuses "an unknown name in a file" "$WORK/bad.conf:3" "$STORMD" "$here" "--config=$WORK/bad.conf"
check "no refused start has left a directory" test ! -e "$WORK/other/CURRENT" -a ! -e ./data

echo "what is printed and no server"
check "check-config is content" "$STORMD" check-config --wal.sync=off
for option in --help --version --print-config; do
    "$STORMD" "$option" >"$WORK/out" 2>"$WORK/err"
    check_equal "$option ends with" $? 0
    check "$option prints to standard output" test -s "$WORK/out"
done
check "healthcheck sees the server" "$STORMD" healthcheck "--listen=127.0.0.1:$PORT"
storm_kill
refuses "healthcheck without a server" "." "$STORMD" healthcheck "--listen=127.0.0.1:$PORT"

echo "a lock whose owner is dead is no lock"
storm_start
req GET /kv/a
expect_body 1
storm_stop
check_equal "SIGTERM ends it with" $? 0
finish
