/*
 * PATCH /kv/{key}: a JSON Merge Patch (RFC 7396) on what is stored, or, without a body, another
 * expiry.
 *
 * The key must exist, and keeps its type; it keeps its expiry too unless the request names one, for
 * a patch changes what it names. What it does not name stays byte for byte (merge.h). `curl -d`
 * sends a form's content type and most libraries application/json; what else could a PATCH with
 * JSON be? So these are taken as well, but no other kind of patch is.
 */
#include <string.h>

#include "async.h"
#include "entry.h"
#include "kv.h"
#include "merge.h"
#include "response.h"
#include "rewrite.h"
#include "router.h"

/* ---- Before the body ---- */

static bool is_merge_patch(struct storm_slice type)
{
    const uint8_t *end = type.size == 0 ? NULL : memchr(type.data, ';', type.size);
    struct storm_slice essence =
        end == NULL ? type : storm_bytes(type.data, (size_t)(end - type.data));
    return api_equals_nocase(api_trim(essence), "application/merge-patch+json");
}

enum MHD_Result api_kv_patch_begin(struct api_request *request)
{
    enum MHD_Result result;
    struct storm_slice type = api_header(request, API_HEADER_CONTENT_TYPE);
    if (api_media_parse(type) != API_MEDIA_JSON && !is_merge_patch(type)) {
        struct api_failure failure = {
            .code = API_ERROR_unsupported_media_type,
            .hint = "Send a JSON Merge Patch (RFC 7396) as application/merge-patch+json.",
            .header = "Accept-Patch",
            .header_value = "application/merge-patch+json"};
        return api_fail(request, &failure, "A patch of type %.*s is not understood.",
                        (int)(type.size < 128 ? type.size : 128), (const char *)type.data);
    }
    request->media = API_MEDIA_JSON;
    if (!api_body_encoding(request, &result) || !api_kv_conditions(request, true, &result) ||
        !api_kv_expiry(request, true, &result))
        return result;
    struct api_reach reach = api_reach_key(request->key);
    if (request->prefer == API_PREFER_REPRESENTATION &&
        !api_may(request, API_SCOPE_READ, &reach, &result))
        return result;
    request->body_limit = (size_t)request->server->config->limits_json_bytes;
    if (request->content_length > request->body_limit)
        return api_fail_too_large(request, request->content_length);
    return MHD_YES;
}

/* ---- A patch ---- */

static bool patch(struct api_request *request, struct api_text *value, enum MHD_Result *result)
{
    const struct storm_value *old = &request->value;
    char key[API_KEY_TEXT_MAX];
    if (old->revision == 0) {
        *result = api_fail_not_found(request);
        return false;
    }
    size_t limit = (size_t)request->server->config->limits_json_bytes;
    if (!api_entry_is_json(old->bytes, old->meta.type, limit)) {
        *result = api_fail_code(request, API_ERROR_not_json, "The value of key %s is not JSON.",
                                api_key_text(request, key));
        return false;
    }
    api_text_init(value, limit);
    storm_status status =
        api_merge(old->bytes, storm_bytes(request->body, request->body_size), value);
    if (status == STORM_INVALID) {
        *result = api_fail_code(request, API_ERROR_invalid_json,
                                "The objects of the patch are nested more than %d deep.",
                                API_MERGE_DEPTH_MAX);
        return false;
    }
    /* Indentation may be repeated for each new member, so the result has no simple bound. */
    if (status == STORM_OK && value->has_failed && value->size + request->body_size > limit / 2) {
        struct api_failure failure = {
            .code = API_ERROR_value_too_large,
            .hint = "Raise limits.json_bytes (env STORM_LIMITS_JSON_BYTES) or split the value."};
        *result =
            api_fail(request, &failure, "The patched value would be more than %zu bytes.", limit);
        return false;
    }
    if (status != STORM_OK)
        *result = api_fail_store(request, status);
    return status == STORM_OK;
}

static enum MHD_Result patched(struct api_request *request)
{
    if (request->prefer != API_PREFER_REPRESENTATION)
        return api_kv_send_written(request, false);
    struct api_answer answer =
        api_answer_text(MHD_HTTP_OK, api_rewritten(request), "application/json");
    api_kv_written_headers(request, &answer);
    return api_send(request, &answer);
}

/* ---- Without a body ---- */

static enum MHD_Result touched(struct api_request *request)
{
    if (request->outcome != STORM_OK)
        return api_kv_fail_existing(request);
    return api_kv_send_written(request, false);
}

enum MHD_Result api_kv_touch(struct api_request *request)
{
    enum MHD_Result result;
    bool is_synced;
    if (request->keeps_ttl)
        return api_fail_parameter(request,
                                  "Send ttl=90s, ttl=none or expires_at=2030-01-31T12:00:00Z.",
                                  "There is nothing to change: no new time to live.");
    if (!api_flag(request, "sync", &is_synced, &result))
        return result;
    storm_status status =
        api_kv_make_batch(request, STORM_TOUCH, storm_bytes(NULL, 0), API_TIE_CLIENT, false);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    return api_commit(request, is_synced ? STORM_SYNC_FULL : STORM_SYNC_DEFAULT, touched);
}

enum MHD_Result api_kv_patch(struct api_request *request)
{
    struct api_json_error error;
    if (request->body_size == 0) {
        struct api_failure failure = {
            .code = API_ERROR_invalid_json,
            .hint = "Send a merge patch such as {\"name\":\"Ada\"}, or ?ttl=90s to change only the "
                    "time to live."};
        return request->keeps_ttl ? api_fail(request, &failure, "The body is empty.")
                                  : api_kv_touch(request);
    }
    if (!api_json_check(storm_bytes(request->body, request->body_size), &error))
        return api_fail_json(request, &error);
    return api_rewrite(request, patch, patched);
}
