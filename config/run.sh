#!/usr/bin/env bash
# From a fresh clone to a running Storm DB: installs the Debian packages that are missing, builds a
# release in build/release, and serves on http://127.0.0.1:8080 with the data in ./data of the
# clone. It talks on standard error; the standard output is stormd's alone. Arguments go to stormd:
#     ./config/run.sh --listen=127.0.0.1:9090 --wal.sync=interval
set -euo pipefail

here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
top=$PWD
build=$top/build/release
# shellcheck source=config/packages.sh
. config/packages.sh

ensure_packages gcc libc6-dev make cmake pkg-config libmicrohttpd-dev libgnutls28-dev libjansson-dev zlib1g-dev \
    liblz4-dev libzstd-dev libinih-dev

echo "Building in build/release" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DSTORM_BUILD_TESTS=OFF &&
    cmake --build "$build" --parallel "$(nproc)"; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "The build failed; its output is above." >&2
    exit 1
fi
rm -f "$log"
trap - EXIT

stormd=$(find "$build" -name stormd -type f -perm -u+x -print -quit)
if [ -z "$stormd" ]; then
    echo "The build made no stormd in $build." >&2
    exit 1
fi

# The clone's ./data, unless the caller chose a place. A flag would beat the caller's variable and
# file, so it is left out when there is one.
default=(--data_dir="$top/data")
if [ -n "${STORM_DATA_DIR+set}" ] || [ -n "${STORM_CONFIG+set}" ]; then
    default=()
fi
for argument in "$@"; do
    case $argument in
        --data_dir=* | --config | --config=*) default=() ;;
    esac
done

# Paths in the arguments are relative to where the caller is.
cd "$here"
echo "Starting ${stormd#"$top"/}" >&2
exec "$stormd" "${default[@]}" "$@"
