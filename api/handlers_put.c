/*
 * PUT /kv/{key}: the body is the value and is stored byte for byte.
 *
 * All that the header fields decide is decided before the body is read: type, encoding,
 * preconditions, time to live, length. Then JSON is checked (json.c), and the commit is submitted;
 * the connection is suspended until it is as durable as configured, or as `sync=true` demands.
 *
 * ttl=keep reads the old expiry and writes on the condition that nobody wrote since; if somebody
 * did, it starts over. The client's own preconditions are then judged on what was read.
 */
#include <stdio.h>

#include "async.h"
#include "entry.h"
#include "json.h"
#include "kv.h"
#include "moment.h"
#include "response.h"
#include "router.h"

/* ---- Before the body ---- */

static bool read_type(struct api_request *request, enum MHD_Result *result)
{
    struct storm_slice type = api_header(request, API_HEADER_CONTENT_TYPE);
    request->media = api_media_parse(type);
    if (request->media == API_MEDIA_REFUSED) {
        *result = api_fail_code(request, API_ERROR_unsupported_media_type,
                                "Content-Type %.*s cannot be stored.",
                                (int)(type.size < 128 ? type.size : 128), (const char *)type.data);
        return false;
    }
    struct storm_slice encoding = api_trim(api_header(request, API_HEADER_CONTENT_ENCODING));
    if (encoding.size != 0 && !api_equals_nocase(encoding, "identity")) {
        *result = api_fail_code(
            request, API_ERROR_unsupported_encoding, "Content-Encoding %.*s is not supported.",
            (int)(encoding.size < 64 ? encoding.size : 64), (const char *)encoding.data);
        return false;
    }
    request->meta.type = request->media == API_MEDIA_JSON ? storm_bytes(NULL, 0) : api_trim(type);
    return true;
}

static enum MHD_Result refuse_parameter(struct api_request *request, const char *hint,
                                        const char *sentence)
{
    struct api_failure failure = {.code = API_ERROR_invalid_parameter, .hint = hint};
    return api_fail(request, &failure, "%s", sentence);
}

/* A PUT without either clears what was there before. */
static bool read_expiry(struct api_request *request, enum MHD_Result *result)
{
    const struct api_parameter *ttl = api_query_find(&request->query, "ttl");
    const struct api_parameter *at = api_query_find(&request->query, "expires_at");
    uint64_t now = api_now_ms();
    request->meta.modified_ms = now;
    request->meta.expires_ms = 0;
    request->keeps_ttl = false;
    if (ttl != NULL && at != NULL) {
        *result = refuse_parameter(request, "Send one of them.",
                                   "The parameters ttl and expires_at exclude each other.");
        return false;
    }
    if (at != NULL) {
        if (api_parse_rfc3339(at->value, &request->meta.expires_ms) &&
            request->meta.expires_ms > now)
            return true;
        *result = refuse_parameter(request,
                                   "Write a time to come as RFC 3339 has it: 2030-01-31T12:00:00Z.",
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
    *result = refuse_parameter(request,
                               "Write 90s, 15m, 24h or 7d, none, or keep; at most a hundred years.",
                               "The parameter ttl is not a time to live.");
    return false;
}

enum MHD_Result api_kv_put_begin(struct api_request *request)
{
    enum MHD_Result result;
    if (!read_type(request, &result) || !api_kv_conditions(request, true, &result) ||
        !read_expiry(request, &result))
        return result;
    const struct storm_config *config = request->server->config;
    uint64_t limit = config->limits_value_bytes;
    if (request->media != API_MEDIA_BYTES && config->limits_json_bytes < limit)
        limit = config->limits_json_bytes;
    request->body_limit = (size_t)limit;
    if (request->content_length > limit)
        return api_fail_too_large(request, request->content_length);
    return MHD_YES;
}

/* ---- After the body ---- */

static enum MHD_Result fail_json(struct api_request *request, const struct api_json_error *error)
{
    if (error->is_memory)
        return api_fail_store(request, STORM_NO_MEMORY);
    char extras[64];
    snprintf(extras, sizeof extras, ",\"line\":%d,\"column\":%d", error->line, error->column);
    struct api_failure failure = {.code = API_ERROR_invalid_json, .extras = extras};
    return api_fail(request, &failure, "The body is not JSON: line %d, column %d: %s.", error->line,
                    error->column, error->text);
}

static enum MHD_Result stored(struct api_request *request)
{
    if (request->outcome == STORM_CONFLICT) {
        struct storm_op_result met = storm_batch_result(request->batch, 0);
        return api_kv_fail_precondition(request, met.existed, met.previous_revision);
    }
    if (request->outcome != STORM_OK)
        return api_fail_store(request, request->outcome);

    struct api_answer answer;
    if (request->prefer == API_PREFER_MINIMAL) {
        answer = api_answer_empty(MHD_HTTP_NO_CONTENT);
    } else {
        bool is_new = !storm_batch_result(request->batch, 0).existed;
        struct api_text text;
        api_text_init(&text, request->key.size * 6 + 128);
        api_text_adds(&text, "{");
        api_add_key(&text, request->key);
        api_text_addf(&text, ",\"revision\":%llu,\"created\":%s}\n",
                      (unsigned long long)request->revision, is_new ? "true" : "false");
        answer =
            api_answer_text(is_new ? MHD_HTTP_CREATED : MHD_HTTP_OK, &text, "application/json");
    }
    api_answer_revision(&answer, request->revision);
    if (request->meta.expires_ms != 0)
        api_answer_date(&answer, "Storm-Expires-At", request->meta.expires_ms);
    return api_send(request, &answer);
}

static enum MHD_Result put_keeping_ttl(struct api_request *request);

static enum MHD_Result stored_keeping_ttl(struct api_request *request)
{
    return request->outcome == STORM_CONFLICT ? put_keeping_ttl(request) : stored(request);
}

static enum MHD_Result submit(struct api_request *request, enum api_tie tie, api_handler then)
{
    enum MHD_Result result;
    bool is_synced;
    if (!api_flag(request, "sync", &is_synced, &result))
        return result;
    storm_status status =
        api_kv_make_batch(request, STORM_PUT, storm_bytes(request->body, request->body_size), tie,
                          request->prefer != API_PREFER_MINIMAL);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    return api_commit(request, is_synced ? STORM_SYNC_FULL : STORM_SYNC_DEFAULT, then);
}

static enum MHD_Result put_keeping_ttl(struct api_request *request)
{
    storm_value_release(&request->value);
    if (request->attempts++ == API_KV_ATTEMPTS)
        return api_fail_code(request, API_ERROR_overloaded,
                             "Others write this key too often to keep its time to live.");
    storm_status status = storm_get(api_kv_store(request), NULL, request->key, &request->value);
    if (status != STORM_OK && status != STORM_NOT_FOUND)
        return api_fail_store(request, status);
    bool exists = status == STORM_OK;
    if (!api_kv_holds(request, exists, request->value.revision))
        return api_kv_fail_precondition(request, exists, request->value.revision);
    request->meta.expires_ms = request->value.meta.expires_ms;
    return submit(request, API_TIE_READ, stored_keeping_ttl);
}

enum MHD_Result api_kv_put(struct api_request *request)
{
    struct api_json_error error;
    if (request->media != API_MEDIA_BYTES &&
        !api_json_check(storm_bytes(request->body, request->body_size), &error))
        return fail_json(request, &error);
    return request->keeps_ttl ? put_keeping_ttl(request) : submit(request, API_TIE_CLIENT, stored);
}
