/*
 * Preconditions, and how they become conditions of the store. See kv.h.
 *
 *   If-Match: *          exists            If-None-Match: *        absent
 *   If-Match: "3", "5"   exists at 3 or 5  If-None-Match: "3"      absent, or not at 3
 *
 * The store checks them in the same step as it writes, so nothing can come in between. One
 * operation takes one condition; further ones become checks on the same key in the same batch.
 */
#include "kv.h"

#include <stdio.h>

#include "entry.h"
#include "moment.h"
#include "response.h"
#include "router.h"

storm_db *api_kv_store(const struct api_request *request)
{
    return atomic_load_explicit(&request->server->db, memory_order_acquire);
}

static bool read_tags(struct api_request *request, enum api_header name, bool is_strong,
                      struct api_tags *tags, enum MHD_Result *result)
{
    tags->is_present = false;
    if (!api_has_header(request, name) ||
        api_tags_parse(api_header(request, name), is_strong, tags))
        return true;
    struct api_failure failure = {
        .code = API_ERROR_unsupported_precondition,
        .hint = "Tags stand in double quotes, such as \"42\", at most 64 of them, with commas in "
                "between; or the field is *."};
    *result = api_fail(request, &failure, "%s is not a list of entity tags.",
                       name == API_HEADER_IF_MATCH ? "If-Match" : "If-None-Match");
    return false;
}

bool api_kv_conditions(struct api_request *request, bool is_write, enum MHD_Result *result)
{
    if (is_write && (api_has_header(request, API_HEADER_IF_UNMODIFIED_SINCE) ||
                     api_has_header(request, API_HEADER_IF_MODIFIED_SINCE))) {
        *result = api_fail_code(request, API_ERROR_unsupported_precondition,
                                "Preconditions by date cannot be kept on writes: two writes may "
                                "share a second.");
        return false;
    }
    request->prefer = api_has_header(request, API_HEADER_PREFER)
                          ? api_prefer_parse(api_header(request, API_HEADER_PREFER))
                          : API_PREFER_NONE;
    return read_tags(request, API_HEADER_IF_MATCH, true, &request->if_match, result) &&
           read_tags(request, API_HEADER_IF_NONE_MATCH, false, &request->if_none_match, result);
}

bool api_kv_holds(const struct api_request *request, bool exists, uint64_t revision)
{
    if (request->if_match.is_present && !(exists && api_tags_match(&request->if_match, revision)))
        return false;
    return !(request->if_none_match.is_present && exists &&
             api_tags_match(&request->if_none_match, revision));
}

enum MHD_Result api_kv_fail_precondition(struct api_request *request, bool exists,
                                         uint64_t revision)
{
    char key[API_KEY_TEXT_MAX];
    api_key_text(request, key);
    if (!exists) {
        struct api_failure failure = {.code = API_ERROR_precondition_failed,
                                      .extras = ",\"current_etag\":null"};
        return api_fail(request, &failure, "Key %s does not exist, request required that it does.",
                        key);
    }
    char tag[API_NUMBER_MAX + 2];
    char extras[64];
    snprintf(tag, sizeof tag, "\"%llu\"", (unsigned long long)revision);
    snprintf(extras, sizeof extras, ",\"current_etag\":\"\\\"%llu\\\"\"",
             (unsigned long long)revision);
    struct api_failure failure = {
        .code = API_ERROR_precondition_failed,
        .extras = extras,
        .header = "ETag",
        .header_value = tag,
    };
    const struct api_tags *wanted = &request->if_match;
    if (!wanted->is_present || api_tags_match(wanted, revision))
        return api_fail(request, &failure,
                        "Key %s is at revision %llu, which If-None-Match rules out.", key,
                        (unsigned long long)revision);
    if (wanted->count == 1)
        return api_fail(request, &failure, "Key %s is at revision %llu, request required %llu.",
                        key, (unsigned long long)revision,
                        (unsigned long long)wanted->revisions[0]);
    return api_fail(request, &failure,
                    "Key %s is at revision %llu, which is not among those of If-Match.", key,
                    (unsigned long long)revision);
}

struct rule {
    enum storm_condition condition;
    const uint64_t *revisions;
    size_t count;
};

/* If-Match, If-None-Match and existence: three at most. */
enum { RULES_MAX = 3 };

static size_t client_rules(const struct api_request *request, enum api_tie tie,
                           struct rule rules[RULES_MAX])
{
    const struct api_tags *match = &request->if_match;
    const struct api_tags *none = &request->if_none_match;
    size_t count = 0;
    if (match->is_present)
        rules[count++] = match->is_any
                             ? (struct rule){.condition = STORM_IF_PRESENT}
                             : (struct rule){STORM_IF_MATCH, match->revisions, match->count};
    else if (tie == API_TIE_EXISTS)
        rules[count++] = (struct rule){.condition = STORM_IF_PRESENT};
    if (none->is_present && none->is_any)
        rules[count++] = (struct rule){.condition = STORM_IF_ABSENT};
    else if (none->is_present && none->count > 0)
        rules[count++] = (struct rule){STORM_IF_NONE_MATCH, none->revisions, none->count};
    return count;
}

enum MHD_Result api_kv_fail_existing(struct api_request *request)
{
    if (request->outcome != STORM_CONFLICT)
        return api_fail_store(request, request->outcome);
    struct storm_op_result met = storm_batch_result(request->batch, 0);
    if (met.existed || request->if_match.is_present)
        return api_kv_fail_precondition(request, met.existed, met.previous_revision);
    return api_fail_not_found(request);
}

bool api_kv_fresh_batch(struct api_request *request)
{
    if (request->batch == NULL)
        request->batch = storm_batch_create();
    else
        storm_batch_clear(request->batch);
    return request->batch != NULL;
}

storm_status api_kv_make_batch(struct api_request *request, enum storm_op_kind kind,
                               struct storm_slice value, enum api_tie tie, bool want_previous)
{
    struct rule rules[RULES_MAX] = {{.condition = STORM_ALWAYS}};
    size_t count;
    if (tie == API_TIE_READ) {
        bool exists = request->value.revision != 0;
        rules[0] = exists ? (struct rule){STORM_IF_MATCH, &request->value.revision, 1}
                          : (struct rule){.condition = STORM_IF_ABSENT};
        count = 1;
    } else {
        count = client_rules(request, tie, rules);
    }
    if (!api_kv_fresh_batch(request))
        return STORM_NO_MEMORY;
    for (size_t i = 0; i == 0 || i < count; i++) {
        struct storm_op op = {
            .kind = i == 0 ? kind : STORM_CHECK,
            .condition = rules[i].condition,
            .key = request->key,
            .revisions = rules[i].revisions,
            .revision_count = rules[i].count,
            .want_previous = want_previous,
        };
        if (i == 0 && (kind == STORM_PUT || kind == STORM_TOUCH)) {
            op.value = value;
            op.meta = request->meta;
        }
        storm_status status = storm_batch_add(request->batch, &op);
        if (status != STORM_OK)
            return status;
    }
    return STORM_OK;
}

/* ---- What requests say ---- */

bool api_kv_expiry(struct api_request *request, bool keeps_by_default, enum MHD_Result *result)
{
    const struct api_parameter *ttl = api_query_find(&request->query, "ttl");
    const struct api_parameter *at = api_query_find(&request->query, "expires_at");
    uint64_t now = api_now_ms();
    request->meta.modified_ms = now;
    request->meta.expires_ms = 0;
    request->keeps_ttl = ttl == NULL && at == NULL && keeps_by_default;
    if (ttl != NULL && at != NULL) {
        *result = api_fail_parameter(request, "Send one of them.",
                                     "The parameters ttl and expires_at exclude each other.");
        return false;
    }
    if (at != NULL) {
        if (api_parse_rfc3339(at->value, &request->meta.expires_ms) &&
            request->meta.expires_ms > now)
            return true;
        *result = api_fail_parameter(
            request, "Write a time to come as RFC 3339 has it: 2030-01-31T12:00:00Z.",
            "The parameter expires_at is not a time in the future.");
        return false;
    }
    if (ttl == NULL || api_equals(ttl->value, "none"))
        return true;
    request->keeps_ttl = api_equals(ttl->value, "keep");
    uint64_t span_ms;
    if (request->keeps_ttl)
        return true;
    if (api_parse_duration(ttl->value, &span_ms)) {
        request->meta.expires_ms = now + span_ms;
        return true;
    }
    *result = api_fail_parameter(
        request, "Write 90s, 15m, 24h or 7d, none, or keep; at most a hundred years.",
        "The parameter ttl is not a time to live.");
    return false;
}

/* ---- Answers ---- */

enum MHD_Result api_kv_send_written(struct api_request *request, bool is_new)
{
    struct api_answer answer;
    if (request->prefer == API_PREFER_MINIMAL) {
        answer = api_answer_empty(MHD_HTTP_NO_CONTENT);
    } else {
        struct api_text text;
        api_text_init(&text, request->key.size * 6 + 128);
        api_text_adds(&text, "{");
        api_add_key(&text, request->key);
        char revision[API_NUMBER_MAX];
        size_t digits = api_format_number(revision, request->revision);
        api_text_adds(&text, ",\"revision\":");
        api_text_add(&text, revision, digits);
        api_text_adds(&text, is_new ? ",\"created\":true}\n" : ",\"created\":false}\n");
        answer =
            api_answer_text(is_new ? MHD_HTTP_CREATED : MHD_HTTP_OK, &text, "application/json");
    }
    api_kv_written_headers(request, &answer);
    return api_send(request, &answer);
}

void api_kv_written_headers(struct api_request *request, struct api_answer *answer)
{
    api_answer_revision(answer, request->revision);
    if (request->meta.expires_ms != 0)
        api_answer_date(answer, "Storm-Expires-At", request->meta.expires_ms);
}

enum MHD_Result api_fail_not_found(struct api_request *request)
{
    char key[API_KEY_TEXT_MAX];
    return api_fail_code(request, API_ERROR_key_not_found, "There is no key %s.",
                         api_key_text(request, key));
}

enum MHD_Result api_fail_json(struct api_request *request, const struct api_json_error *error)
{
    if (error->is_memory)
        return api_fail_store(request, STORM_NO_MEMORY);
    char extras[64];
    snprintf(extras, sizeof extras, ",\"line\":%d,\"column\":%d", error->line, error->column);
    struct api_failure failure = {.code = API_ERROR_invalid_json, .extras = extras};
    return api_fail(request, &failure, "The body is not JSON: line %d, column %d: %s.", error->line,
                    error->column, error->text);
}

/* How much of what, and what to do about it. */
static struct api_failure too_large(const struct api_request *request)
{
    if ((request->route->flags & API_ROUTE_BATCH) != 0)
        return (struct api_failure){
            .code = API_ERROR_batch_too_large,
            .hint = "Raise limits.batch_bytes (env STORM_LIMITS_BATCH_BYTES) or split the batch."};
    bool is_json = request->media == API_MEDIA_JSON || request->media == API_MEDIA_JSON_AS;
    return (struct api_failure){
        .code = API_ERROR_value_too_large,
        .hint = is_json ? "Raise limits.json_bytes (env STORM_LIMITS_JSON_BYTES), split the value, "
                          "or store it as application/octet-stream."
                        : "Raise limits.value_bytes (env STORM_LIMITS_VALUE_BYTES) or split the "
                          "value."};
}

enum MHD_Result api_fail_too_large(struct api_request *request, uint64_t size)
{
    char extras[64];
    snprintf(extras, sizeof extras, ",\"limit_bytes\":%zu", request->body_limit);
    struct api_failure failure = too_large(request);
    failure.extras = extras;
    if (request->gunzip != NULL && request->body_seen <= request->body_limit &&
        request->content_length <= request->body_limit)
        return api_fail(request, &failure, "The body decompresses to more than %zu bytes.",
                        request->body_limit);
    if (request->content_length != 0)
        return api_fail(request, &failure, "The body is %llu bytes; the limit is %zu.",
                        (unsigned long long)request->content_length, request->body_limit);
    return api_fail(request, &failure, "The body is at least %llu bytes; the limit is %zu.",
                    (unsigned long long)size, request->body_limit);
}
