# Debian packages that building and testing need: `ensure_packages NAME...`, sourced by run.sh here
# and by tests/run.sh. Asks dpkg first, so that nothing is fetched, and no root needed, when all
# packages are there.
# shellcheck shell=bash

# The names that dpkg does not have installed, one on each line. A name may be provided by another
# package (as zlib1g-dev is by zlib-ng builds), so this asks for what is provided as well.
missing_packages() {
    local name installed
    installed=$(dpkg-query --show --showformat='${db:Status-Status} ${Package} ${Provides}\n' |
        sed -n 's/^installed //p' | tr -d ',' | tr ' ' '\n')
    for name in "$@"; do
        grep -qxF -- "$name" <<<"$installed" || echo "$name"
    done
}

# Runs a command as root, directly or with sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -- "$@"
    fi
}

ensure_packages() {
    local missing=()
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        echo "This script installs what it needs on Debian and its relatives. Elsewhere, install" >&2
        echo "the counterparts of these packages and build with cmake: $*" >&2
        return 1
    fi
    mapfile -t missing < <(missing_packages "$@")
    if [ "${#missing[@]}" -eq 0 ]; then
        return 0
    fi
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        echo "These packages are missing, and installing them takes root or sudo:" >&2
        echo "    apt-get install ${missing[*]}" >&2
        return 1
    fi
    echo "Installing: ${missing[*]}" >&2
    as_root apt-get -qq update
    # Quiet, but for what went wrong.
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "${missing[@]}" >/dev/null
}
