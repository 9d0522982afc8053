#!/usr/bin/env bash
# The Dockerfile without an engine to build it: what it copies exists, what it installs exists in
# Debian, its build commands work on exactly what it copies, the program it starts finds its libraries
# in the packages it names, and it follows the rules for images (no root, exec form, health check).
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"

# One instruction a line: comments dropped, continued lines joined.
sed '/^[[:space:]]*#/d' "$SOURCE_DIR/Dockerfile" |
    sed -e ':a' -e '/\\$/{N;s/\\\n[[:space:]]*/ /;ba' -e '}' | sed '/^[[:space:]]*$/d' \
    >"$WORK/instructions"
awk '/^FROM / { n++ } n == 1' "$WORK/instructions" >"$WORK/build"
awk '/^FROM / { n++ } n == 2' "$WORK/instructions" >"$WORK/run"

# value FILE INSTRUCTION: what the last such instruction of a stage says.
value() { sed -n "s/^$2 //p" "$1" | tail -n 1; }
has_package() { [ -n "$(apt-cache show --no-all-versions "$1" 2>/dev/null)" ]; }
packages() {
    sed -n 's/^RUN //p' "$1" | sed 's/&&/\n/g' | sed -n 's/.*apt-get install//p' | tr ' ' '\n' |
        grep -E '^[a-z0-9]'
}
is_exec_form() { jq -e 'type == "array" and length > 0 and all(type == "string")' >/dev/null 2>&1 <<<"$1"; }

echo "images and packages"
check_equal "stages" "$(grep -c '^FROM ' "$WORK/instructions")" 2
check "the build image names a release" grep -qE '^FROM debian:[0-9]+ AS build$' "$WORK/build"
check "the other is slim, of the same release" \
    grep -qx "$(sed -n '1s/\(FROM debian:[0-9]*\).*/\1-slim/p' "$WORK/build")" "$WORK/run"
for stage in build run; do
    check "the $stage stage installs packages" test -n "$(packages "$WORK/$stage")"
    for package in $(packages "$WORK/$stage"); do
        check "package $package exists" has_package "$package"
    done
done

echo "the rules for images"
user=$(value "$WORK/run" USER)
check "it does not run as root ($user)" grep -qE '^[1-9][0-9]{4,}(:[1-9][0-9]*)?$' <<<"$user"
check "the user is made with that number" grep -q "useradd.*--uid ${user%%:*} " "$WORK/run"
check "ENTRYPOINT is in exec form" is_exec_form "$(value "$WORK/run" ENTRYPOINT)"
check "CMD is in exec form" is_exec_form "$(value "$WORK/run" CMD)"
health=$(value "$WORK/run" HEALTHCHECK)
check "the health check is stormd's own, in exec form" \
    test "$(jq -c . <<<"${health#*CMD }")" = '["stormd","healthcheck"]'
check_equal "STOPSIGNAL" "$(value "$WORK/run" STOPSIGNAL)" SIGTERM
check_equal "EXPOSE" "$(value "$WORK/run" EXPOSE)" 8080
check_equal "VOLUME" "$(value "$WORK/run" VOLUME)" /var/lib/stormdb
check "it does so without keys, and says so" grep -q 'STORM_AUTH_OPEN=anywhere' "$WORK/run"
check "it listens on all addresses" grep -q '^ENV.*STORM_LISTEN=0.0.0.0:8080' "$WORK/run"
check "the data is in the volume" grep -q '^ENV.*STORM_DATA_DIR=/var/lib/stormdb' "$WORK/run"
for label in title description version licenses; do
    check "label $label" grep -q "^LABEL.*org.opencontainers.image.$label=" "$WORK/run"
done
version=$(sed -n 's/^project(stormdb VERSION \([0-9.]*\).*/\1/p' "$SOURCE_DIR/CMakeLists.txt")
check "the label has the version of the project" grep -q "image.version=\"$version\"" "$WORK/run"
check_not "no secret, no ADD, no moving tag" \
    grep -iE '^ADD |:latest|password|secret' "$WORK/instructions"

echo "what it copies exists, and is enough to build"
mkdir "$WORK/src"
while read -r line; do
    [[ $line == --from=* ]] && continue
    read -ra words <<<"$line"
    target=${words[-1]}
    unset 'words[-1]'
    for path in "${words[@]}"; do
        check "COPY $path" test -e "$SOURCE_DIR/$path"
        check_not "$path is not kept out by .dockerignore" \
            grep -xF "$path" "$SOURCE_DIR/.dockerignore"
        if [ "$target" = ./ ]; then
            cp -a "$SOURCE_DIR/$path" "$WORK/src/"
        else
            cp -a "$SOURCE_DIR/$path" "$WORK/src/$target"
        fi
    done
done < <(sed -n 's/^COPY //p' "$WORK/build")
# The build stage's commands but for the packages, with the image's paths below $WORK.
sed -n 's/^RUN //p' "$WORK/build" | grep -v '^apt-get' | sed "s#/image#$WORK/image#g" >"$WORK/commands"
check "there are build commands" test -s "$WORK/commands"
if ! (cd "$WORK/src" && env -u DESTDIR -u CC -u CFLAGS bash -eu "$WORK/commands") \
    >"$WORK/build.log" 2>&1; then
    fail "the build commands fail"
    tail -n 40 "$WORK/build.log"
fi
while read -r from _; do
    check "the build makes ${from#/image}" test -e "$WORK$from"
done < <(sed -n 's/^COPY --from=build //p' "$WORK/run")

echo "installed below /usr, everything is where Debian expects it"
multiarch=$(gcc -print-multiarch 2>/dev/null)
libdir=/usr/lib${multiarch:+/$multiarch}
for path in /usr/bin/stormd /usr/bin/stormctl "$libdir/libstorm.so" "$libdir/libstorm.a" "$libdir/pkgconfig/storm.pc" \
    /usr/include/storm/storm.h /usr/include/storm/key.h /usr/share/man/man8/stormd.8 \
    /usr/share/man/man5/storm.conf.5 /usr/share/man/man1/stormctl.1 /etc/stormdb/storm.conf; do
    check "$path is installed" test -s "$WORK/image$path"
done

echo "the programs find their libraries in the packages that are named"
packages "$WORK/run" >"$WORK/runtime"
echo libc6 >>"$WORK/runtime"
while read -r library; do
    path=$(ldconfig -p | awk -v name="$library" '$1 == name { print $NF; exit }')
    path=$(readlink -f "$path")
    # dpkg may know the file from before /lib became a link to /usr/lib.
    package=$(dpkg -S "$path" "${path#/usr}" 2>/dev/null | head -n 1 | cut -d: -f1)
    check "$library ($package) is installed there" grep -qxF "$package" "$WORK/runtime"
done < <(objdump -p "$WORK/image/usr/bin/stormd" "$WORK/image/usr/bin/stormctl" 2>/dev/null |
    awk '$1 == "NEEDED" { print $2 }' | sort -u)

echo "what the build made runs as the image would run it"
STORMD=$WORK/image/usr/bin/stormd
if [ -x "$STORMD" ]; then
    export STORM_DATA_DIR=$WORK/volume
    PORT=$(free_port)
    export STORM_LISTEN=0.0.0.0:$PORT STORM_AUTH_OPEN=anywhere
    URL=http://127.0.0.1:$PORT
    "$STORMD" "--config=$WORK/image/etc/stormdb/storm.conf" 2>"$WORK/log" &
    PID=$!
    CHILDREN+=("$PID")
    storm_wait || die "the installed program does not start"
    check "the log warns that nobody is asked for a key" grep -q 'warn.*no key is asked for' "$WORK/log"
    check "the health check passes" "$STORMD" healthcheck
    req PUT /kv/a -H 'Host: stormdb.example:8080' -d 1
    expect_status 201
    storm_stop
    check_equal "SIGTERM ends it with" $? 0
    check "stormctl shows what it stored" test \
        "$("$WORK/image/usr/bin/stormctl" dump "$STORM_DATA_DIR" --format=text)" = $'a\t1'
    check_not "the health check sees that" "$STORMD" healthcheck 2>"$WORK/err"
fi
finish
