#!/usr/bin/env bash
# openapi.yaml holds: the HTTP tests run a second time through a proxy that validates every request and
# every answer against it (contract_proxy.js, with Prism). Needs ./tests/run.sh tools.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
[ -d "$SOURCE_DIR/tests/node_modules/@stoplight/prism-http" ] ||
    die "the validator is missing: run ./tests/run.sh tools"
RECORD=$WORK/record
: >"$RECORD"

# skipped TEST: prints why a test cannot run through the proxy; false for one that can.
skipped() {
    case $1 in
    contract) echo "is this one" ;;
    openapi) echo "uses the proxy by itself" ;;
    bounds | drain) echo "looks at the connection: Expect, refusals before the body, Connection: close" ;;
    errors) echo "sends methods that no HTTP library passes on" ;;
    battery | framing) echo "sends bytes that are no HTTP" ;;
    access) echo "sends Expect, and every method with every key: thousands of refusals" ;;
    browser) echo "compares Origin and Host with the server's own port" ;;
    limits) echo "counts connections and requests of one client" ;;
    ctl | damage | large | start) echo "is about programs and disks; the requests are those of other tests" ;;
    changes) echo "reads answers while they go on, which the proxy passes on whole" ;;
    tls) echo "speaks TLS" ;;
    *)
        grep -q '^ *req ' "$SOURCE_DIR/tests/api/$1_test.sh" && return 1
        echo "sends bytes of its own, or nothing, to the server"
        ;;
    esac
}

# run NAME: its output and its exit status are files.
run() {
    local started=$SECONDS
    CONTRACT_RECORD=$WORK/$1.record "$SOURCE_DIR/tests/api/$1_test.sh" >"$WORK/$1.out" 2>&1
    echo "$? $((SECONDS - started))" >"$WORK/$1.end"
}

# Two at a time: each waits for its server and its proxy more than it works.
names=()
for script in "$SOURCE_DIR"/tests/api/*_test.sh; do
    name=$(basename "$script" _test.sh)
    if reason=$(skipped "$name"); then
        echo "- $name: $reason"
        continue
    fi
    [ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n
    : >"$WORK/$name.record"
    run "$name" &
    names+=("$name")
done
wait
for name in "${names[@]}"; do
    read -r status seconds <"$WORK/$name.end"
    CHECKS=$((CHECKS + 1))
    if [ "$status" -ne 0 ]; then
        fail "$name does not pass through the proxy"
        sed 's/^/  /' "$WORK/$name.out"
    fi
    echo "+ $name: $(wc -l <"$WORK/$name.record") exchanges, $seconds s"
    cat "$WORK/$name.record" >>"$RECORD"
done

# Lines of "operation status violations"; "none" is a request for which there is no operation.
exchanges=$(grep -cv '^none ' "$RECORD")
operations=$(cut -d' ' -f1 "$RECORD" | grep -vx none | sort -u | wc -l)
violations=$(awk '{ sum += $3 } END { print sum + 0 }' "$RECORD")
check "the tests went through the proxy" test "$exchanges" -gt 1000
check_equal "violations" "$violations" 0
echo "$exchanges operations ($operations different ones), $violations violations"
finish
