/*
 * PUT /kv/{key}: the body is the value and is stored byte for byte.
 *
 * All that the header fields decide is decided before the body is read: type, encoding,
 * preconditions, time to live, length. Then JSON is checked (json.c), and the commit is submitted;
 * the connection is suspended until it is as durable as configured, or as `sync=true` demands.
 *
 * ttl=keep reads the old expiry and writes on the condition that nobody wrote since (rewrite.h).
 */
#include "async.h"
#include "json.h"
#include "kv.h"
#include "response.h"
#include "rewrite.h"
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
    if (!api_body_encoding(request, result))
        return false;
    request->meta.type = request->media == API_MEDIA_JSON ? storm_bytes(NULL, 0) : api_trim(type);
    return true;
}

enum MHD_Result api_kv_put_begin(struct api_request *request)
{
    enum MHD_Result result;
    if (!read_type(request, &result) || !api_kv_conditions(request, true, &result) ||
        !api_kv_expiry(request, false, &result))
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

static enum MHD_Result stored(struct api_request *request)
{
    if (request->outcome == STORM_CONFLICT) {
        struct storm_op_result met = storm_batch_result(request->batch, 0);
        return api_kv_fail_precondition(request, met.existed, met.previous_revision);
    }
    if (request->outcome != STORM_OK)
        return api_fail_store(request, request->outcome);
    bool is_new = !storm_batch_result(request->batch, 0).existed;
    return api_kv_send_written(request, is_new);
}

/* What is stored gives its expiry only; the type is the new one. */
static bool replace(struct api_request *request, struct api_text *value, enum MHD_Result *result)
{
    struct storm_slice type = api_header(request, API_HEADER_CONTENT_TYPE);
    request->meta.type = request->media == API_MEDIA_JSON ? storm_bytes(NULL, 0) : api_trim(type);
    (void)result;
    api_text_init(value, request->body_size);
    api_text_add(value, request->body, request->body_size);
    return true;
}

static enum MHD_Result replaced(struct api_request *request)
{
    return api_kv_send_written(request, request->value.revision == 0);
}

static enum MHD_Result submit(struct api_request *request)
{
    enum MHD_Result result;
    bool is_synced;
    if (!api_flag(request, "sync", &is_synced, &result))
        return result;
    storm_status status =
        api_kv_make_batch(request, STORM_PUT, storm_bytes(request->body, request->body_size),
                          API_TIE_CLIENT, request->prefer != API_PREFER_MINIMAL);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    return api_commit(request, is_synced ? STORM_SYNC_FULL : STORM_SYNC_DEFAULT, stored);
}

enum MHD_Result api_kv_put(struct api_request *request)
{
    struct api_json_error error;
    if (request->media != API_MEDIA_BYTES &&
        !api_json_check(storm_bytes(request->body, request->body_size), &error))
        return api_fail_json(request, &error);
    return request->keeps_ttl ? api_rewrite(request, replace, replaced) : submit(request);
}
