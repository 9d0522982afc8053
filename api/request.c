/*
 * Requests from the first line to the handler. See request.h for the stages.
 *
 * Framing. libmicrohttpd 0.9.75 lets Transfer-Encoding win over Content-Length and keeps the
 * connection, reads only the first Content-Length, and takes an unknown Transfer-Encoding for
 * "until the end": each of them lets a second request be smuggled past a proxy. So one pass over
 * the header fields looks for all that RFC 9112 section 6 calls unrecoverable, and answers 400 with
 * Connection: close. Blanks in the target and a missing Host are refused here too and not by the
 * library (MHD_OPTION_STRICT_FOR_CLIENT), which in that version writes the header of its own error
 * answers twice.
 *
 * Bodies are bounded before they are read, by Content-Length, and again while they are read,
 * because a chunked one does not say how long it is. Memory for bodies has a budget over all
 * requests.
 */
#include "request.h"

#include <stdlib.h>
#include <string.h>

#include "async.h"
#include "gzip.h"
#include "kv.h"
#include "moment.h"
#include "response.h"
#include "router.h"
#include "suggest.h"

enum {
    /* A connection keeps a body buffer of this size; bigger ones are given back after the
     * request. */
    KEPT_BODY_MAX = 2048,
    FIRST_BODY_ROOM = 64 << 10,
};

/* All bodies together; one of the largest size allowed always fits twice. */
#define BODY_BUDGET (UINT64_C(128) << 20)

void api_request_init(struct api_request *request, struct api_server *server)
{
    memset(request, 0, sizeof *request);
    request->server = server;
    if (!server->has_keys)
        request->grant = api_grant_everything();
    request->target = request->inline_target;
}

static void drop_body(struct api_request *request)
{
    free(request->body);
    atomic_fetch_sub_explicit(&request->server->body_bytes, request->body_room,
                              memory_order_relaxed);
    request->body = NULL;
    request->body_size = 0;
    request->body_room = 0;
}

void api_request_over(struct api_request *request)
{
    struct api_server *server = request->server;
    if (request->is_counted) {
        /* A probe that finds the server not ready has not met an error. */
        bool is_probe = request->route != NULL && (request->route->flags & API_ROUTE_PROBE) != 0;
        uint64_t latency_ns = api_monotonic_ns() - request->started_ns;
        api_metrics_end(&server->metrics, is_probe ? 0 : request->status,
                        request->is_stream ? API_NO_LATENCY : latency_ns);
    }
    if (request->held != NULL && request->held != server->no_memory)
        MHD_destroy_response(request->held);
    storm_value_release(&request->value);
    storm_batch_destroy(request->batch);
    request->batch = NULL;
    if (request->own != NULL)
        request->free_own(request->own);
    request->own = NULL;
    api_gunzip_destroy(request->gunzip);
    request->gunzip = NULL;
    api_query_fini(&request->query);
    if (request->body_room > KEPT_BODY_MAX)
        drop_body(request);
    if (request->keys != NULL) {
        api_keys_unref(request->keys);
        request->keys = NULL;
        request->grant = (struct api_grant){0};
    }
    if (request->target != request->inline_target) {
        free(request->target);
        request->target = request->inline_target;
    }
    request->held = NULL;
    request->is_counted = false;
    request->stage = API_STAGE_LINE;
}

void api_request_fini(struct api_request *request)
{
    api_request_over(request);
    drop_body(request);
}

void api_request_line(struct api_request *request, struct MHD_Connection *connection,
                      const char *target)
{
    request->connection = connection;
    request->stage = API_STAGE_LINE;
    request->must_close = false;
    request->is_target_lost = false;
    request->is_stream = false;
    request->status = 0;
    request->route = NULL;
    request->framing_fault = NULL;
    request->has_body = false;
    request->take = NULL;
    request->content_length = 0;
    request->body_limit = 0;
    request->body_size = 0;
    request->body_seen = 0;
    request->is_body_too_large = false;
    request->attempts = 0;
    request->keeps_ttl = false;
    request->grant.has_asked = false;
    request->key = storm_bytes(NULL, 0);
    memset(request->headers, 0, sizeof request->headers);

    size_t size = strlen(target);
    request->target_size = size;
    if (size > sizeof request->inline_target) {
        request->target = malloc(size);
        if (request->target == NULL) {
            request->target = request->inline_target;
            request->target_size = 0;
            request->is_target_lost = true;
            return;
        }
    }
    memcpy(request->target, target, size);
}

/* ---- Header fields ---- */

#define FIELD(name)                                                                                \
    {                                                                                              \
        name, sizeof(name) - 1                                                                     \
    }
static const struct {
    const char *name;
    size_t size; /* most fields are ruled out by it */
} header_names[API_HEADER_COUNT] = {
    [API_HEADER_HOST] = FIELD("Host"),
    [API_HEADER_CONTENT_LENGTH] = FIELD("Content-Length"),
    [API_HEADER_TRANSFER_ENCODING] = FIELD("Transfer-Encoding"),
    [API_HEADER_CONTENT_TYPE] = FIELD("Content-Type"),
    [API_HEADER_CONTENT_ENCODING] = FIELD("Content-Encoding"),
    [API_HEADER_EXPECT] = FIELD("Expect"),
    [API_HEADER_ACCEPT] = FIELD("Accept"),
    [API_HEADER_PREFER] = FIELD("Prefer"),
    [API_HEADER_IF_MATCH] = FIELD("If-Match"),
    [API_HEADER_IF_NONE_MATCH] = FIELD("If-None-Match"),
    [API_HEADER_IF_MODIFIED_SINCE] = FIELD("If-Modified-Since"),
    [API_HEADER_IF_UNMODIFIED_SINCE] = FIELD("If-Unmodified-Since"),
    [API_HEADER_REQUEST_ID] = FIELD("X-Request-Id"),
    [API_HEADER_ACCEPT_ENCODING] = FIELD("Accept-Encoding"),
    [API_HEADER_ORIGIN] = FIELD("Origin"),
    [API_HEADER_REQUEST_METHOD] = FIELD("Access-Control-Request-Method"),
    [API_HEADER_AUTHORIZATION] = FIELD("Authorization"),
    [API_HEADER_LAST_EVENT_ID] = FIELD("Last-Event-ID"),
};

/* A field that may be sent twice without harm: the first one counts. */
static bool may_repeat(enum api_header name)
{
    return name == API_HEADER_ACCEPT || name == API_HEADER_PREFER || name == API_HEADER_EXPECT ||
           name == API_HEADER_REQUEST_ID || name == API_HEADER_ACCEPT_ENCODING;
}

static enum MHD_Result take_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                   size_t key_size, const char *value, size_t value_size)
{
    struct api_request *request = cls;
    (void)kind;
    struct storm_slice name = storm_bytes(key, key_size);
    if (!api_is_token(name))
        request->framing_fault = "The name of a header field is not a token.";
    for (int i = 0; i < API_HEADER_COUNT; i++) {
        if (key_size != header_names[i].size || !api_equals_nocase(name, header_names[i].name))
            continue;
        if (request->headers[i].data == NULL)
            request->headers[i] = storm_bytes(value == NULL ? "" : value, value_size);
        else if (!may_repeat((enum api_header)i))
            request->framing_fault = "A header field that must stand once stands twice.";
        break;
    }
    return MHD_YES;
}

/* What is wrong with the request's framing, in a sentence; NULL when nothing is. */
static const char *find_framing_fault(struct api_request *request, const char *version)
{
    if (request->framing_fault != NULL)
        return request->framing_fault;
    if (request->target_size > 0 && memchr(request->target, ' ', request->target_size) != NULL)
        return "There is a blank in the request target.";
    if (!api_has_header(request, API_HEADER_HOST) && strcmp(version, "HTTP/1.1") == 0)
        return "HTTP/1.1 demands a Host field.";
    struct storm_slice length = api_header(request, API_HEADER_CONTENT_LENGTH);
    bool has_length = api_has_header(request, API_HEADER_CONTENT_LENGTH);
    if (has_length && !api_parse_number(length, &request->content_length))
        return "Content-Length is not a number.";
    request->has_body = request->content_length > 0;
    if (!api_has_header(request, API_HEADER_TRANSFER_ENCODING))
        return NULL;
    if (has_length)
        return "Transfer-Encoding and Content-Length were both sent.";
    if (strcmp(version, "HTTP/1.1") != 0)
        return "Transfer-Encoding was sent with an older version than HTTP/1.1.";
    if (!api_equals_nocase(api_header(request, API_HEADER_TRANSFER_ENCODING), "chunked"))
        return "The only Transfer-Encoding known here is chunked.";
    request->has_body = true;
    return NULL;
}

/* The client's id, or one of ours: 16 hex digits that no other request of this process has. */
static void set_id(struct api_request *request)
{
    struct storm_slice sent = api_header(request, API_HEADER_REQUEST_ID);
    bool is_usable = sent.size > 0 && sent.size <= API_REQUEST_ID_MAX;
    for (size_t i = 0; is_usable && i < sent.size; i++)
        is_usable = sent.data[i] > ' ' && sent.data[i] < 0x7f;
    if (is_usable) {
        memcpy(request->id, sent.data, sent.size);
        request->id[sent.size] = '\0';
        return;
    }
    /* A counter put through the finaliser of SplitMix64, which is one to one. */
    uint64_t id = request->server->id_seed +
                  atomic_fetch_add_explicit(&request->server->next_id, 1, memory_order_relaxed) *
                      UINT64_C(0x9e3779b97f4a7c15);
    id = (id ^ id >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    id = (id ^ id >> 27) * UINT64_C(0x94d049bb133111eb);
    id ^= id >> 31;
    for (int i = 15; i >= 0; i--) {
        request->id[i] = "0123456789abcdef"[id & 15];
        id >>= 4;
    }
    request->id[16] = '\0';
}

/* ---- Route, key, query ---- */

static bool is_parameter_known(const struct api_route *route, struct storm_slice name)
{
    for (size_t i = 0; route->parameters[i] != NULL; i++) {
        if (api_equals(name, route->parameters[i]))
            return true;
    }
    return false;
}

static enum MHD_Result refuse_parameter(struct api_request *request, struct storm_slice name)
{
    char word[64];
    size_t size = name.size < sizeof word - 1 ? name.size : sizeof word - 1;
    memcpy(word, name.data, size);
    word[size] = '\0';
    const struct api_route *route = request->route;
    size_t count = 0;
    while (route->parameters[count] != NULL)
        count++;
    const char *near_name = count == 0 ? NULL : config_suggest(word, route->parameters, count);
    char extras[96] = "";
    char hint[128] = "This route takes no parameters.";
    if (near_name != NULL) {
        snprintf(extras, sizeof extras, ",\"did_you_mean\":\"%s\"", near_name);
        snprintf(hint, sizeof hint, "Did you mean %s?", near_name);
    } else if (count > 0) {
        size_t used = (size_t)snprintf(hint, sizeof hint, "This route takes");
        for (size_t i = 0; i < count && used < sizeof hint; i++)
            used += (size_t)snprintf(hint + used, sizeof hint - used, "%s %s", i == 0 ? "" : ",",
                                     route->parameters[i]);
    }
    struct api_failure failure = {
        .code = API_ERROR_unknown_parameter, .hint = hint, .extras = extras};
    return api_fail(request, &failure, "There is no parameter \"%s\" here.", word);
}

/* Take key and query from the target; true when there is nothing to complain about. */
static bool read_target(struct api_request *request, struct storm_slice raw_key,
                        struct storm_slice raw_query, enum MHD_Result *result)
{
    const struct api_route *route = request->route;
    if (route->has_key) {
        /* Both slices point into request->target, which is ours to change. */
        size_t size = raw_key.size;
        uint8_t *bytes = request->target + (raw_key.data - request->target);
        uint64_t limit = request->server->config->limits_key_bytes;
        if (!api_percent_decode(bytes, &size, false)) {
            *result = api_fail_code(request, API_ERROR_invalid_escape,
                                    "The key has a '%%' that two hex digits do not follow.");
            return false;
        }
        if (size == 0) {
            *result = api_fail_code(request, API_ERROR_invalid_key, "The key is empty.");
            return false;
        }
        if (size > limit) {
            char extras[64];
            snprintf(extras, sizeof extras, ",\"limit_bytes\":%llu", (unsigned long long)limit);
            struct api_failure failure = {.code = API_ERROR_key_too_long, .extras = extras};
            *result = api_fail(request, &failure, "The key is %zu bytes; the limit is %llu.", size,
                               (unsigned long long)limit);
            return false;
        }
        request->key = storm_bytes(bytes, size);
        struct api_reach reach = api_reach_key(request->key);
        if (!api_may(request, route->scope, &reach, result))
            return false;
    }
    if (raw_query.size == 0)
        return true;
    uint8_t *bytes = request->target + (raw_query.data - request->target);
    const struct api_parameter *culprit;
    const char *repeatable = (route->flags & API_ROUTE_REPEATS) != 0 ? route->parameters[0] : NULL;
    switch (api_query_parse(bytes, raw_query.size, repeatable, &request->query, &culprit)) {
    case API_QUERY_ESCAPE:
        *result = api_fail_code(request, API_ERROR_invalid_escape,
                                "The query has a '%%' that two hex digits do not follow.");
        return false;
    case API_QUERY_TWICE:
        *result = api_fail_code(request, API_ERROR_invalid_parameter,
                                "The parameter \"%.*s\" stands twice.",
                                (int)(culprit->name.size < 64 ? culprit->name.size : 64),
                                (const char *)culprit->name.data);
        return false;
    case API_QUERY_TOO_MANY:
        *result = api_fail_code(request, API_ERROR_invalid_parameter,
                                "There are more than %d parameters.", API_PARAMETERS_MAX);
        return false;
    case API_QUERY_NO_MEMORY:
        *result = api_fail_store(request, STORM_NO_MEMORY);
        return false;
    case API_QUERY_FINE:
        break;
    }
    for (size_t i = 0; i < request->query.count; i++) {
        if (!is_parameter_known(route, request->query.parameters[i].name)) {
            *result = refuse_parameter(request, request->query.parameters[i].name);
            return false;
        }
    }
    return true;
}

static enum MHD_Result route_request(struct api_request *request, const char *method)
{
    struct api_target target = api_target_split(storm_bytes(request->target, request->target_size));
    struct storm_slice raw_key;
    char allow[API_ALLOW_MAX];
    request->route = api_route_find(method, target.path, &raw_key, allow);
    if (request->route == NULL && allow[0] != '\0') {
        struct api_failure failure = {
            .code = API_ERROR_method_not_allowed, .header = "Allow", .header_value = allow};
        return api_fail(request, &failure, "%.16s is not allowed here; allowed are %s.", method,
                        allow);
    }
    if (request->route == NULL)
        return api_fail_code(request, API_ERROR_route_not_found, "There is no %.16s %.*s.", method,
                             (int)(target.path.size < 128 ? target.path.size : 128),
                             target.path.size == 0 ? "" : (const char *)target.path.data);
    enum MHD_Result result = MHD_YES;
    if (!api_admit(request, &result) || !read_target(request, raw_key, target.query, &result))
        return result;
    bool has_store = atomic_load_explicit(&request->server->db, memory_order_acquire) != NULL;
    if ((request->route->flags & API_ROUTE_STORE) != 0 && !has_store)
        return api_fail_code(request, API_ERROR_starting,
                             "The store is being opened and its log replayed.");
    return request->route->begin == NULL ? MHD_YES : request->route->begin(request);
}

/* Further connections than there may be are told so, as long as there are not too many of them. */
static enum MHD_Result fail_surplus(struct api_request *request)
{
    request->must_close = true;
    if (request->surplus == API_SURPLUS_SERVER)
        return api_fail_code(request, API_ERROR_overloaded,
                             "There are as many connections as http.max_connections allows.");
    return api_fail_code(request, API_ERROR_rate_limited,
                         "Your address has as many connections as http.client_connections allows.");
}

enum MHD_Result api_request_headers(struct api_request *request, const char *method,
                                    const char *version)
{
    request->started_ns = api_monotonic_ns();
    request->stage = API_STAGE_HEADERS;
    request->is_counted = true;
    request->is_http_1_0 = strcmp(version, "HTTP/1.0") == 0;
    request->is_head = strcmp(method, "HEAD") == 0;
    api_metrics_begin(&request->server->metrics);
    MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, take_header, request);
    set_id(request);

    enum MHD_Result result;
    const char *fault = find_framing_fault(request, version);
    if (fault != NULL) {
        request->must_close = true;
        result = api_fail_code(request, API_ERROR_invalid_request, "%s", fault);
    } else if (request->is_target_lost) {
        result = api_fail_store(request, STORM_NO_MEMORY);
    } else if (request->surplus != API_SURPLUS_NONE) {
        result = fail_surplus(request);
    } else if (api_guard_admits(request, method, &result)) {
        result = route_request(request, method);
    }
    if (request->stage == API_STAGE_HEADERS)
        request->stage = API_STAGE_BODY;
    return result;
}

/* ---- Body ---- */

bool api_request_reserve_body(struct api_request *request, size_t size)
{
    size_t needed = request->body_size + size;
    if (needed <= request->body_room)
        return true;
    size_t room = request->body_room * 2;
    if (room < FIRST_BODY_ROOM)
        room = request->content_length != 0 && request->content_length < FIRST_BODY_ROOM &&
                       request->gunzip == NULL
                   ? (size_t)request->content_length
                   : FIRST_BODY_ROOM;
    if (room > request->body_limit)
        room = request->body_limit;
    if (room < needed)
        room = needed;
    const struct storm_config *config = request->server->config;
    uint64_t largest = config->limits_value_bytes > config->limits_batch_bytes
                           ? config->limits_value_bytes
                           : config->limits_batch_bytes;
    uint64_t budget = largest * 2;
    if (budget < BODY_BUDGET)
        budget = BODY_BUDGET;
    _Atomic uint64_t *used = &request->server->body_bytes;
    size_t growth = room - request->body_room;
    if (atomic_fetch_add_explicit(used, growth, memory_order_relaxed) + growth > budget) {
        atomic_fetch_sub_explicit(used, growth, memory_order_relaxed);
        return false;
    }
    uint8_t *body = realloc(request->body, room);
    if (body == NULL) {
        atomic_fetch_sub_explicit(used, growth, memory_order_relaxed);
        return false;
    }
    request->body = body;
    request->body_room = room;
    return true;
}

bool api_body_encoding(struct api_request *request, enum MHD_Result *result)
{
    struct storm_slice encoding = api_trim(api_header(request, API_HEADER_CONTENT_ENCODING));
    if (encoding.size == 0 || api_equals_nocase(encoding, "identity"))
        return true;
    if (!api_equals_nocase(encoding, "gzip") && !api_equals_nocase(encoding, "x-gzip")) {
        struct api_failure failure = {.code = API_ERROR_unsupported_encoding,
                                      .header = "Accept-Encoding",
                                      .header_value = "gzip"};
        *result = api_fail(
            request, &failure, "Content-Encoding %.*s is not supported; gzip and identity are.",
            (int)(encoding.size < 64 ? encoding.size : 64), (const char *)encoding.data);
        return false;
    }
    request->gunzip = api_gunzip_create();
    if (request->gunzip == NULL)
        *result = api_fail_store(request, STORM_NO_MEMORY);
    return request->gunzip != NULL;
}

static bool has_body_room(const struct api_request *request, size_t size)
{
    return size <= request->body_limit - request->body_size;
}

static bool append_body(void *cls, const void *data, size_t size)
{
    struct api_request *request = cls;
    if (!has_body_room(request, size)) {
        request->is_body_too_large = true;
        return false;
    }
    if (!api_request_reserve_body(request, size))
        return false;
    memcpy(request->body + request->body_size, data, size);
    request->body_size += size;
    return true;
}

static enum MHD_Result fail_body(struct api_request *request, enum api_gunzip_status status)
{
    drop_body(request);
    if (status == API_GUNZIP_CORRUPT)
        return api_fail_code(request, API_ERROR_invalid_encoding,
                             "The body is not the gzip that Content-Encoding says.");
    if (request->is_body_too_large)
        return api_fail_too_large(request, request->body_seen);
    return api_fail_code(request, API_ERROR_overloaded, "There is no memory for this body now.");
}

/* Keep a piece of the body. */
static enum MHD_Result keep_body(struct api_request *request, const void *data, size_t size)
{
    if (request->gunzip == NULL)
        return append_body(request, data, size) ? MHD_YES : fail_body(request, API_GUNZIP_STOPPED);
    /* What arrives has the same bound as what comes out: a stream may be long and hold nothing. */
    request->is_body_too_large = request->body_seen > request->body_limit;
    enum api_gunzip_status status =
        request->is_body_too_large
            ? API_GUNZIP_STOPPED
            : api_gunzip_feed(request->gunzip, storm_bytes(data, size), append_body, request);
    return status == API_GUNZIP_OK ? MHD_YES : fail_body(request, status);
}

enum MHD_Result api_request_body(struct api_request *request, const void *data, size_t *size)
{
    size_t given = *size;
    if (request->held == NULL && request->take != NULL) {
        enum MHD_Result result = request->take(request, data, size);
        if (request->held != NULL)
            *size = 0;
        return result;
    }
    *size = 0;
    request->body_seen += given;
    if (request->held == NULL && (request->route->flags & API_ROUTE_BODY) != 0)
        return keep_body(request, data, given);
    /* Dropped. Past the bound there is nothing left but to cut the connection. */
    uint64_t bound = request->held != NULL ? API_DISCARD_MAX : API_STRAY_BODY_MAX;
    return request->body_seen > bound ? MHD_NO : MHD_YES;
}

enum MHD_Result api_request_ready(struct api_request *request)
{
    request->stage = API_STAGE_READY;
    if (request->held != NULL)
        return api_send_held(request);
    if (request->gunzip != NULL && !api_gunzip_is_whole(request->gunzip))
        return api_fail_code(request, API_ERROR_invalid_encoding,
                             "The gzip stream of the body ends too early.");
    return request->route->run(request);
}

bool api_flag(struct api_request *request, const char *name, bool *value, enum MHD_Result *result)
{
    *value = false;
    const struct api_parameter *parameter = api_query_find(&request->query, name);
    if (parameter == NULL)
        return true;
    *value = api_equals(parameter->value, "true");
    if (*value || api_equals(parameter->value, "false"))
        return true;
    struct api_failure failure = {.code = API_ERROR_invalid_parameter,
                                  .hint = "Write true or false."};
    *result = api_fail(request, &failure, "The parameter %s is neither true nor false.", name);
    return false;
}
