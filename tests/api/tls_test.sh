#!/usr/bin/env bash
# HTTPS: which versions are spoken, certificates that are renewed under load, files that are refused.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"

# certificate NAME CN [type]: NAME.pem and NAME.key in $WORK.
certificate() {
    openssl req -x509 -newkey "${3:-rsa:2048}" ${4:+-pkeyopt "$4"} -nodes -days 2 -subj "/CN=$2" \
        -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -keyout "$WORK/$1.key" \
        -out "$WORK/$1.pem" 2>"$WORK/openssl" || die "openssl: $(cat "$WORK/openssl")"
}
certificate one first
certificate two second ec ec_paramgen_curve:P-256
cp "$WORK/one.pem" "$WORK/server.pem"
cp -p "$WORK/one.key" "$WORK/server.key"
tls=("--tls.cert=$WORK/server.pem" "--tls.key=$WORK/server.key")

# As storm_start, over HTTPS.
start() {
    local i
    cat "$WORK/log" >>"$WORK/log.before" 2>/dev/null
    : >"$WORK/log"
    storm_spawn "${tls[@]}"
    URL=https://127.0.0.1:$PORT
    for ((i = 0; i < 1500; i++)); do
        kill -0 "$PID" 2>/dev/null || die "it ended"
        [ "$(curl -sk -o /dev/null -w '%{http_code}' "$URL/readyz")" = 200 ] && return
        sleep 0.02
    done
    die "it does not become ready"
}
start
check "the banner has https" grep -q "serves https://127.0.0.1:$PORT" "$WORK/log"
trust=(--cacert "$WORK/server.pem")
req PUT /kv/a "${trust[@]}" -d '{"a":1}'
expect_status 201
req GET /kv/a "${trust[@]}"
expect_body '{"a":1}'
head -c 20000000 /dev/urandom >"$WORK/large"
req PUT /kv/large "${trust[@]}" -H 'Content-Type: application/octet-stream' --data-binary "@$WORK/large"
expect_status 201
req GET /kv/large "${trust[@]}"
check "20 MB come back as they went" cmp -s "$WORK/large" "$WORK/body"
req GET /kv/a --cacert "$WORK/two.pem"
check_equal "a client that trusts another certificate is answered" "$STATUS" 000

echo "versions"
for version in 1.0 1.1; do
    req GET /kv/a "${trust[@]}" --tlsv$version --tls-max $version --ciphers DEFAULT@SECLEVEL=0
    check_equal "TLS $version is answered" "$STATUS" 000
done
for version in 1.2 1.3; do
    req GET /kv/a "${trust[@]}" --tlsv$version --tls-max $version
    expect_status 200
done
answer=$(raw 'GET /kv/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' 3)
check_not "plain HTTP is answered" grep -q '"a"' <<<"$answer"
check "the health check passes" "$STORMD" healthcheck "--listen=127.0.0.1:$PORT" "${tls[@]}"
check_not "without TLS it does not" "$STORMD" healthcheck "--listen=127.0.0.1:$PORT" 2>"$WORK/err"

echo "renewed under load"
subject() {
    openssl s_client -connect "127.0.0.1:$PORT" </dev/null 2>/dev/null |
        openssl x509 -noout -subject 2>/dev/null | sed 's/.*= *//'
}
check_equal "the certificate is" "$(subject)" first
(
    code=0
    for ((i = 0; i < 150; i++)); do
        got=$(curl -sk -w '%{http_code}' "$URL/kv/a" "$URL/kv/a")
        [ "$got" = '{"a":1}200{"a":1}200' ] || code=1
    done
    exit $code
) &
busy=$!
# One connection from before to after: its two requests are 2 s apart.
{
    printf 'GET /kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n'
    sleep 2
    printf 'GET /kv/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
} | timeout 20 openssl s_client -quiet -connect "127.0.0.1:$PORT" >"$WORK/long" 2>"$WORK/err" &
long=$!
sleep 0.5
cat "$WORK/two.pem" >"$WORK/server.pem"
hang_up "cannot use tls.key $WORK/server.key: it is not the key of the certificate.*from before"
check_equal "the certificate still is" "$(subject)" first
cat "$WORK/two.key" >"$WORK/server.key"
hang_up "read the certificate $WORK/server.pem"
check_equal "the certificate then is" "$(subject)" second
for ((round = 0; round < 10; round++)); do
    cat "$WORK/one.pem" >"$WORK/server.pem"
    cat "$WORK/one.key" >"$WORK/server.key"
    kill -HUP "$PID"
done
wait "$busy"
check_equal "requests meanwhile that were lost" $? 0
wait "$long"
check_equal "the old connection has its answers" "$(grep -o 'HTTP/1.1 200' "$WORK/long" | wc -l)" 2

# On a loaded machine the last signal may still be on its way.
hang_up "read the certificate $WORK/server.pem"
check_equal "the certificate in the end is" "$(subject)" first
chmod o+r "$WORK/server.key"
hang_up "tls.key $WORK/server.key: everybody on this machine can read it"
chmod o-r "$WORK/server.key"
echo broken >"$WORK/server.pem"
hang_up "cannot use tls.cert $WORK/server.pem: "
cp "$WORK/one.pem" "$WORK/server.pem"
req GET /kv/a "${trust[@]}"
expect_status 200
storm_stop
check_equal "SIGTERM ends it with" $? 0

echo "what is refused at the start"
refuses() {
    local what=$1 message=$2
    shift 2
    check_not "$what" timeout 10 "$STORMD" "--listen=127.0.0.1:$PORT" "--data_dir=$WORK/other" "$@" 2>"$WORK/err"
    check "$what: the message" grep -qE "$message" "$WORK/err"
}
refuses "a certificate that is not there" "tls.cert $WORK/none: No such file" "--tls.cert=$WORK/none" "--tls.key=$WORK/one.key"
refuses "a key that is not there" "tls.key $WORK/none: No such file" "--tls.cert=$WORK/one.pem" "--tls.key=$WORK/none"
refuses "half of it" "tls.key is missing" "--tls.cert=$WORK/one.pem"
refuses "the other half" "tls.cert is missing" "--tls.key=$WORK/one.key"
refuses "the two exchanged" "tls.cert $WORK/one.key: " "--tls.cert=$WORK/one.key" "--tls.key=$WORK/one.pem"
refuses "another's key" "tls.key $WORK/two.key: it is not the key" "--tls.cert=$WORK/one.pem" "--tls.key=$WORK/two.key"
chmod 644 "$WORK/one.key"
refuses "a key that everybody can read" "tls.key $WORK/one.key: everybody" "--tls.cert=$WORK/one.pem" "--tls.key=$WORK/one.key"
chmod 640 "$WORK/one.key"
check "its group may read it" "$STORMD" check-config "--tls.cert=$WORK/one.pem" "--tls.key=$WORK/one.key" >"$WORK/out"
check_not "a key is in the log" grep -q 'PRIVATE KEY' "$WORK/log" "$WORK/log.before"
finish
