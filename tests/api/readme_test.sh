#!/usr/bin/env bash
# Runs the documentation: the commands in README.md and in the doc/ folders, in a copy of the tree.
#
# How a document is written so that it can be run:
#
#   ```console   is run. Lines that begin with "$ " are commands (a \ at the end goes on in the next
#                line, without "$ "); the lines under a command are its output. "..." or "…" in the
#                output stands for any text, of several lines too. Standard error counts as output.
#                A command without output under it may print anything but must succeed; one with
#                output under it must print that, whatever its exit status is.
#   ```sh        is checked for syntax only: what needs Docker, another machine, root or a real clone.
#   ```c         must compile; when its first line is a comment with a file's name, as in
#                /* example.c */, it is put under that name beside README.md before the commands run.
#   anything else is left alone.
#
# The commands of one document run in order in one shell whose directory is the copy. 8080 is
# replaced by a free port in commands (through STORM_LISTEN for programs) and put back in output.
# `./config/run.sh` is really run, in the background, until /readyz answers; in a document without it a server is
# there from the start. `./tests/run.sh` would end up here again: that it can be run is all that is
# checked. stormd, libstorm's header and its pkg-config file are installed for the commands; curl
# shows no progress meter.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
BUILD_DIR=${BUILD_DIR:-$SOURCE_DIR/build/test}
CLONE=$WORK/clone

# Into $WORK/doc/: N.command, N.expect (only when there is output), N.line, N.kind for each piece.
split_document() {
    awk -v dir="$WORK/doc" '
        function piece(kind) { n++; print kind >(dir "/" n ".kind"); print NR >(dir "/" n ".line") }
        /^[ ]*```/ && !inside {
            inside = 1; language = $0; sub(/^[ ]*```/, "", language)
            indent = match($0, /`/) - 1
            going_on = 0
            if (language == "sh" || language == "bash" || language == "c") {
                piece(language); printf "" >(dir "/" n ".command")
            }
            next
        }
        /^[ ]*```[ ]*$/ && inside { inside = 0; next }
        !inside { next }
        { line = $0; if (indent > 0) sub("^ {0," indent "}", "", line) }
        language == "sh" || language == "bash" || language == "c" {
            print line >(dir "/" n ".command"); next
        }
        language != "console" { next }
        going_on { print line >(dir "/" n ".command"); going_on = (line ~ /\\$/); next }
        line ~ /^\$ / {
            piece("console"); print substr(line, 3) >(dir "/" n ".command")
            going_on = (line ~ /\\$/); next
        }
        { print line >(dir "/" n ".expect") }
        END { print n + 0 >(dir "/count") }' "$1"
}

# The shell that runs a document's commands, as a script: each command's output in N.out, its status
# in N.status.
write_session() { # COUNT
    local n command
    cat <<'SESSION'
curl() { command curl -sS "$@"; }
wait_ready() {
    local i
    for ((i = 0; i < 3000; i++)); do
        [ "$(command curl -s -o /dev/null -w '%{http_code}' "http://$STORM_LISTEN/readyz")" = 200 ] && return 0
        kill -0 "$1" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}
SESSION
    for ((n = 1; n <= $1; n++)); do
        [ "$(cat "$WORK/doc/$n.kind")" = console ] || continue
        command=$(sed "s/\b8080\b/$PORT/g" "$WORK/doc/$n.command")
        case $command in
        ./config/run.sh*)
            # shellcheck disable=SC2016 # the session expands it
            printf '%s >"%s" 2>&1 </dev/null &\nserver=$!\necho $server >"%s"\n' "$command" \
                "$WORK/doc/$n.out" "$WORK/server.pid"
            # shellcheck disable=SC2016
            printf 'wait_ready $server\n'
            ;;
        ./tests/run.sh*) printf 'test -x ./tests/run.sh >"%s" 2>&1\n' "$WORK/doc/$n.out" ;;
        *) printf '{\n%s\n} >"%s" 2>&1 </dev/null\n' "$command" "$WORK/doc/$n.out" ;;
        esac
        printf 'echo $? >"%s"\n' "$WORK/doc/$n.status"
    done
}

# Whether the text in $1 is what the pattern in $2 says, "..." being any text.
matches() {
    local pattern=$2
    pattern=${pattern//…/...}
    pattern=$(printf %sx "$pattern" | sed 's/[][*?\\]/\\&/g; s/\.\.\./*/g')
    # shellcheck disable=SC2053 # a pattern, on purpose
    [[ $1 == ${pattern%x} ]]
}

check_piece() { # N DOCUMENT
    local kind command out status where
    kind=$(cat "$WORK/doc/$1.kind")
    where="$2:$(cat "$WORK/doc/$1.line")"
    command=$(cat "$WORK/doc/$1.command")
    CHECKS=$((CHECKS + 1))
    case $kind in
    sh | bash) bash -n "$WORK/doc/$1.command" || fail "$where: no shell" ;;
    c)
        cc -std=c17 -D_GNU_SOURCE -Wall -Wextra -Werror -fsyntax-only -x c \
            -I"$SOURCE_DIR/storage/include" "$WORK/doc/$1.command" || fail "$where: does not compile"
        ;;
    console)
        status=$(cat "$WORK/doc/$1.status" 2>/dev/null || echo none)
        out=$(tr -d '\r\000' <"$WORK/doc/$1.out" | sed "s/\b$PORT\b/8080/g")
        if [ "$status" = none ]; then
            fail "$where: was not reached: $command"
        elif [ -e "$WORK/doc/$1.expect" ] && [[ $command != ./tests/run.sh* ]]; then
            matches "$out" "$(cat "$WORK/doc/$1.expect")" || {
                fail "$where: $command"
                diff -u --label documented --label printed "$WORK/doc/$1.expect" - <<<"$out" | sed 's/^/    /'
            }
        elif [ "$status" != 0 ]; then
            fail "$where: status $status: $command: $out"
        fi
        ;;
    esac
}

stop_server() {
    local pid
    storm_kill
    if [ -s "$WORK/server.pid" ]; then
        pid=$(cat "$WORK/server.pid")
        kill -TERM "$pid" 2>/dev/null
        for ((i = 0; i < 100; i++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null
        rm -f "$WORK/server.pid"
    fi
}

run_document() { # PATH, relative to the tree
    local count n name
    rm -rf "$WORK/doc" "$CLONE" "$DATA"
    mkdir -p "$WORK/doc" "$CLONE" "$WORK/home"
    (cd "$SOURCE_DIR" && tar -cf - --exclude=./build --exclude='./build-*' --exclude=./.git \
        --exclude=./data --exclude=node_modules .) | tar -xf - -C "$CLONE"
    split_document "$SOURCE_DIR/$1"
    count=$(cat "$WORK/doc/count")
    for ((n = 1; n <= count; n++)); do
        name=$(sed -n '1s|^/\* \([A-Za-z0-9_.-]*\.c\) \*/$|\1|p' "$WORK/doc/$n.command")
        [ -n "$name" ] && cp "$WORK/doc/$n.command" "$CLONE/$name"
    done
    PORT=$(free_port)
    if grep -qs '^console$' "$WORK"/doc/*.kind && ! grep -qs '^\./config/run.sh' "$WORK"/doc/*.command; then
        STORM_TEST_PORT=$PORT storm_start
    fi
    write_session "$count" >"$WORK/session"
    (
        cd "$CLONE" || exit 1
        export HOME=$WORK/home STORM_LISTEN=127.0.0.1:$PORT PATH="$WORK/installed/bin:$PATH"
        export PKG_CONFIG_PATH=$WORK/installed/lib/pkgconfig LD_LIBRARY_PATH=$WORK/installed/lib
        exec bash "$WORK/session"
    )
    for ((n = 1; n <= count; n++)); do
        check_piece "$n" "$1"
    done
    stop_server
    echo "$1: $count pieces"
}

trap 'stop_server; cleanup' EXIT
cmake --install "$BUILD_DIR" --prefix "$WORK/installed" >"$WORK/install.log" 2>&1 ||
    die "the build cannot be installed: $(tail -n 5 "$WORK/install.log")"
# The pkg-config file names the place that the build was configured for.
prefix=$(sed -n 's/^CMAKE_INSTALL_PREFIX:PATH=//p' "$BUILD_DIR/CMakeCache.txt")
find "$WORK/installed" -name '*.pc' -exec sed -i "s|$prefix|$WORK/installed|g" {} +
# Debian's multiarch folder, or none.
for directory in "$WORK"/installed/lib/*-linux-gnu*; do
    [ -d "$directory" ] && cp -a "$directory/." "$WORK/installed/lib/"
done

if [ $# -gt 0 ]; then
    documents=("$@")
else
    mapfile -t documents < <(cd "$SOURCE_DIR" && ls README.md ./*/doc/*.md 2>/dev/null)
fi
check "there is a README" test -s "$SOURCE_DIR/README.md"
for document in "${documents[@]}"; do
    run_document "$document"
done
finish
