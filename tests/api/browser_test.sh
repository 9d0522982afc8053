#!/usr/bin/env bash
# What a page in a browser may do: foreign names for this machine, foreign origins, and CORS.
# shellcheck source=tests/api/lib.sh
. "$(dirname "$0")/lib.sh"
storm_start

echo "the names of this machine"
for host in localhost "localhost:$PORT" LocalHost 127.0.0.1 127.1.2.3:80 '[::1]' '[::1]:99'; do
    req GET /healthz -H "Host: $host"
    expect_status 200
done
for host in evil.example "evil.example:$PORT" 127.0.0.1.evil.example localhost.evil.example 0.0.0.0 \
    192.168.1.1 '[::2]' '[::1' '::1' 127.0.0.1:8o 'localhost:80:80' 127.1 2130706433 a@localhost; do
    req GET /kv/a -H "Host: $host"
    expect_problem 403 forbidden_host
    req GET /readyz -H "Host: $host"
    expect_problem 403 forbidden_host
done
answer=$(raw 'GET /healthz HTTP/1.0\r\n\r\n')
check "HTTP/1.0 needs no Host" grep -q '^HTTP/1.[01] 200' <<<"$answer"

echo "origins without CORS"
req PUT /kv/a -H "Origin: http://127.0.0.1:$PORT" -d 1
expect_status 201
for origin in https://evil.example null '' "http://127.0.0.1" "https://127.0.0.1:$PORT.evil" \
    "http://127.0.0.1:$((PORT + 1))" "ftp://127.0.0.1:$PORT" "127.0.0.1:$PORT" "http://127.0.0.1:$PORT/" \
    "http://localhost:$PORT"; do
    for method in PUT DELETE POST PATCH; do
        # An empty field is written with a semicolon.
        req "$method" /kv/a -H "Origin${origin:+: }${origin:-;}" -d 2
        expect_problem 403 forbidden_origin
    done
    req GET /kv/a -H "Origin${origin:+: }${origin:-;}"
    expect_body 1
    expect_no_header Access-Control-Allow-Origin
done
req OPTIONS /kv/a -H 'Origin: https://app.example' -H 'Access-Control-Request-Method: PUT'
expect_problem 403 forbidden_origin
req OPTIONS /kv/a
expect_problem 405 method_not_allowed
req GET /kv/a
expect_no_header Vary
storm_stop

echo "CORS for some"
storm_start '--http.cors_origins=https://app.example,http://localhost:3000'
cors() {
    expect_header Access-Control-Allow-Origin "$1"
    expect_header Vary 'Origin'
    expect_header Access-Control-Expose-Headers \
        'ETag, Storm-Revision, Storm-Expires-At, Link, Location, Retry-After, X-Request-Id'
    expect_no_header Access-Control-Allow-Credentials
}
for path in /kv/a /kv/none /stats /admin/flush /healthz /nothing /; do
    req OPTIONS "$path" -H 'Origin: https://app.example' -H 'Access-Control-Request-Method: PUT' \
        -H 'Access-Control-Request-Headers: authorization'
    expect_status 204
    cors https://app.example
    expect_header Access-Control-Allow-Methods 'GET, HEAD, PUT, PATCH, POST, DELETE'
    expect_header Access-Control-Allow-Headers 'Authorization, Content-Type, If-Match, If-None-Match, Prefer, Last-Event-ID, X-Request-Id, traceparent'
    expect_header Access-Control-Max-Age 86400
    req GET "$path" -H 'Origin: http://localhost:3000'
    cors http://localhost:3000
done
req PUT /kv/a -H 'Origin: https://app.example' -d 3
expect_status 200
cors https://app.example
req PUT /kv/a -H 'Origin: https://app.example' -d '{'
expect_problem 400 invalid_json
cors https://app.example
for origin in https://evil.example http://app.example https://app.example:444 https://app.example.evil \
    'https://app.example,http://localhost:3000' null '*'; do
    req GET /kv/a -H "Origin: $origin"
    expect_status 200
    expect_no_header Access-Control-Allow-Origin
    expect_header Vary Origin
    req PUT /kv/a -H "Origin: $origin" -d 4
    expect_problem 403 forbidden_origin
    req OPTIONS /kv/a -H "Origin: $origin" -H 'Access-Control-Request-Method: PUT'
    expect_problem 403 forbidden_origin
    expect_no_header Access-Control-Allow-Origin
done
req GET /kv/a
expect_header Vary Origin
expect_no_header Access-Control-Allow-Origin
storm_stop

echo "CORS for all, and names"
storm_start '--http.cors_origins=*' --http.hosts=db.example,other.example
req PUT /kv/a -H 'Origin: https://any.example' -d 5
expect_status 200
cors '\*'
for host in db.example DB.example:443 other.example localhost 127.0.0.1; do
    req GET /kv/a -H "Host: $host"
    expect_status 200
done
for host in example db.example.evil 'db.example,other.example' '*' 192.168.1.1; do
    req GET /kv/a -H "Host: $host"
    expect_problem 403 forbidden_host
done
storm_stop
storm_start '--http.hosts=*'
req GET /kv/a -H 'Host: any.example'
expect_status 200
storm_stop
for bad in '--http.cors_origins=app.example' '--http.cors_origins=https://app.example/' \
    '--http.cors_origins=https://App.example' '--http.cors_origins=https://a,*' \
    '--http.cors_origins=https://a,' '--http.cors_origins=https://a, https://b' \
    '--http.cors_origins=https://a:' '--http.hosts=a:80' '--http.hosts=a,,b'; do
    check_not "$bad" "$STORMD" check-config "$bad" 2>"$WORK/err"
    check "$bad: the message" grep -q 'is not understood: it takes' "$WORK/err"
done
finish
