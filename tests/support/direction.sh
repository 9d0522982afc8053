#!/usr/bin/env bash
# Checks the direction of every #include: api sees the public headers and config, config sees neither,
# storage sees only itself, and inside storage each layer sees only those below it.
#
#   direction.sh [SOURCE_DIR]
#
# Prints one line for each include that goes the wrong way; exits with 1 if there is one.
set -u
cd "${1:-$(dirname "$0")/../..}" || exit 2

# layer DIRECTORY-OR-HEADER: the layer it belongs to. Headers are written from the root of their
# part: "lsm/wal/wal.h", "storm/storm.h", "config.h"; a bare name is of the file's own directory.
layer() {
    case $1 in
    storm/* | storage/include/*) echo public ;;
    lsm/db/* | storage/lsm/db/*) echo db ;;
    lsm/table/* | storage/lsm/table/*) echo table ;;
    lsm/wal/* | storage/lsm/wal/*) echo wal ;;
    lsm/mem/* | storage/lsm/mem/*) echo mem ;;
    lsm/* | storage/lsm/*) echo entry ;;
    util/* | storage/util/*) echo util ;;
    os/* | storage/os/*) echo os ;;
    postgres/* | storage/postgres/*) echo postgres ;;
    engine.h | storage/*) echo engine ;;
    config.h | config/*) echo config ;;
    *) echo api ;;
    esac
}

# What each layer may include beside itself.
below() {
    case $1 in
    public) ;;
    util) echo public ;;
    os) echo public util ;;
    engine) echo public util os ;;
    entry) echo public util ;;
    mem | wal | table) echo public util os entry ;;
    db) echo public util os entry mem wal table engine ;;
    postgres) echo public util engine ;;
    config) ;;
    api) echo public config ;;
    esac
}

# The file that chooses between the engines is the one place of storage/ that knows them by name.
is_exception() {
    [[ $1 == storage/*.c && $1 != storage/*/* && ($2 == db || $2 == postgres) ]]
}

wrong=0 seen=0
while IFS=: read -r file line text; do
    header=${text#*[\"<]}
    header=${header%%[\">]*}
    directory=$(dirname "$file")
    from=$(layer "$file")
    # Files of the directory itself, and what the build generates into it.
    if [ -e "$directory/$header" ] && [[ $header != */* ]]; then
        to=$from
    elif [[ $text == *'<'* && $header != storm/* ]]; then
        continue
    elif [[ $from == config && $header != storm/* ]]; then
        [ -e "config/$header" ] || [[ $header == */* ]] && to=$(layer "config/$header") || to=$from
        [ -e "storage/$header" ] && to=$(layer "$header")
        [ -e "api/$header" ] && to=api
    else
        to=$(layer "$header")
    fi
    seen=$((seen + 1))
    if [ "$from" != "$to" ] && [[ " $(below "$from") " != *" $to "* ]] &&
        ! is_exception "$file" "$to"; then
        echo "$file:$line: $from may not include $header ($to)"
        wrong=$((wrong + 1))
    fi
done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]' api config storage --include='*.[ch]')

# The seam of the operating system: nothing else in storage opens, reads, writes or syncs files.
while IFS=: read -r file line text; do
    echo "$file:$line: only storage/os talks to the file system: $text"
    wrong=$((wrong + 1))
done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*<(fcntl|unistd|sys/file|sys/mman|sys/stat|dirent)\.h>' \
    storage --include='*.[ch]' | grep -v '^storage/os/')

# Libraries stay on their side: HTTP and JSON in api, INI in config; zlib packs answers as well as blocks.
while IFS=: read -r file line text; do
    echo "$file:$line: this library is not used here: $text"
    wrong=$((wrong + 1))
done < <(
    grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*<(microhttpd|jansson|ini)\.h>' storage
    grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*<(microhttpd|jansson)\.h>' config
    grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*<(lz4|zstd|ini)\.h>' api
)

echo "$seen includes, $wrong wrong"
[ "$wrong" -eq 0 ]
