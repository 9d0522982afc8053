/*
 * GET, HEAD and DELETE of /kv/{key}.
 *
 * A read hands the store's own memory to the library: the value's pin is released when the last
 * byte is on the socket, and nothing is copied. A read may wait for the disk; a delete waits
 * suspended.
 *
 * DELETE answers truthfully by default: it demands that the key exists, which costs a lookup. With
 * Prefer: return=minimal it does not look. With return=representation it reads, and deletes on the
 * condition that nobody wrote since, again and again if somebody did.
 */
#include <stdio.h>
#include <string.h>

#include "async.h"
#include "entry.h"
#include "gzip.h"
#include "kv.h"
#include "moment.h"
#include "response.h"
#include "router.h"

/* What every answer that shows a value says about it. */
static void add_value_headers(struct api_answer *answer, const struct storm_value *value,
                              bool is_gzip)
{
    if (is_gzip)
        api_answer_revision_gzip(answer, value->revision);
    else
        api_answer_revision(answer, value->revision);
    /* Caches may keep it but have to ask each time. */
    api_answer_header(answer, "Cache-Control", "no-cache");
    if (value->meta.modified_ms != 0) {
        char date[API_HTTP_DATE_MAX];
        api_answer_header(answer, "Last-Modified",
                          api_format_http_date(date, value->meta.modified_ms));
    }
    if (value->meta.expires_ms != 0)
        api_answer_date(answer, "Storm-Expires-At", value->meta.expires_ms);
}

/* What an answer of that length says when it is compressed, and when it might have been. */
static void add_encoding(struct api_answer *answer, bool may_be_gzip, bool is_gzip)
{
    if (may_be_gzip)
        api_answer_header(answer, "Vary", "Accept-Encoding");
    if (is_gzip)
        api_answer_header(answer, "Content-Encoding", "gzip");
}

static enum MHD_Result send_entry(struct api_request *request)
{
    const struct storm_value *value = &request->value;
    struct api_text text;
    bool is_json = api_entry_is_json(value->bytes, value->meta.type,
                                     request->server->config->limits_json_bytes);
    /* Base64 makes 4 bytes of 3. */
    api_text_init(&text, value->bytes.size / 3 * 4 + api_entry_room(request->key.size));
    api_entry_begin(&text, request->key, is_json);
    if (is_json)
        api_text_add(&text, value->bytes.data, value->bytes.size);
    else
        api_text_add_base64(&text, value->bytes);
    api_entry_end(&text, &value->meta, value->revision, is_json);
    bool is_long = text.size >= API_GZIP_MIN;
    bool is_gzip = api_compress_text(request, &text);
    struct api_answer answer = api_answer_text(MHD_HTTP_OK, &text, "application/json");
    add_value_headers(&answer, value, is_gzip);
    add_encoding(&answer, is_long, is_gzip);
    return api_send(request, &answer);
}

/*
 * A 304 has to carry the tag of what the client holds (RFC 9111 section 4.3.4), whichever of the
 * two it has; a 200, that of what it gets.
 */
static bool is_gzip_wanted(const struct api_request *request, unsigned status)
{
    if (status == MHD_HTTP_NOT_MODIFIED && !request->if_none_match.is_any) {
        char tag[API_NUMBER_MAX + 8];
        snprintf(tag, sizeof tag, "\"%llu-gz\"", (unsigned long long)request->value.revision);
        struct storm_slice sent = api_header(request, API_HEADER_IF_NONE_MATCH);
        return memmem(sent.data, sent.size, tag, strlen(tag)) != NULL;
    }
    return api_accepts_gzip(api_header(request, API_HEADER_ACCEPT_ENCODING));
}

/* A 304 is made of the value as well: it has no body, but the length in it must be that of the
 * 200. */
static enum MHD_Result send_value(struct api_request *request, unsigned status)
{
    const struct storm_value *value = &request->value;
    bool is_text = value->bytes.size >= API_GZIP_MIN && api_is_compressible(value->meta.type);
    bool is_gzip = is_text && is_gzip_wanted(request, status);
    struct api_answer answer =
        is_gzip ? api_answer_value_gzip(status, request) : api_answer_value(status, request);
    add_value_headers(&answer, value, is_gzip);
    add_encoding(&answer, is_text, is_gzip);
    return api_send(request, &answer);
}

enum MHD_Result api_kv_get(struct api_request *request)
{
    enum MHD_Result result;
    bool wants_entry;
    if (!api_kv_conditions(request, false, &result) ||
        !api_flag(request, "meta", &wants_entry, &result))
        return result;
    storm_status status = storm_get(api_kv_store(request), NULL, request->key, &request->value);
    if (status == STORM_NOT_FOUND)
        return request->if_match.is_present ? api_kv_fail_precondition(request, false, 0)
                                            : api_fail_not_found(request);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    uint64_t revision = request->value.revision;
    if (request->if_match.is_present && !api_tags_match(&request->if_match, revision))
        return api_kv_fail_precondition(request, true, revision);
    if (request->if_none_match.is_present && api_tags_match(&request->if_none_match, revision))
        return send_value(request, MHD_HTTP_NOT_MODIFIED);
    return wants_entry ? send_entry(request) : send_value(request, MHD_HTTP_OK);
}

/* ---- DELETE ---- */

static enum MHD_Result delete_value(struct api_request *request);

static enum MHD_Result deleted(struct api_request *request)
{
    if (request->outcome != STORM_OK)
        return api_kv_fail_existing(request);
    struct api_answer answer = api_answer_empty(MHD_HTTP_NO_CONTENT);
    char revision[API_NUMBER_MAX];
    api_format_number(revision, request->revision);
    api_answer_header(&answer, "Storm-Revision", revision);
    return api_send(request, &answer);
}

/* The value that was read and then deleted; its ETag is its own, Storm-Revision the deletion's. */
static enum MHD_Result value_deleted(struct api_request *request)
{
    if (request->outcome == STORM_CONFLICT)
        return delete_value(request);
    if (request->outcome != STORM_OK)
        return api_fail_store(request, request->outcome);
    struct api_answer answer = api_answer_value(MHD_HTTP_OK, request);
    api_answer_revisions(&answer, request->value.revision, request->revision);
    return api_send(request, &answer);
}

static enum MHD_Result delete_value(struct api_request *request)
{
    storm_value_release(&request->value);
    if (request->attempts++ == API_KV_ATTEMPTS)
        return api_fail_code(request, API_ERROR_overloaded,
                             "Others write this key too often to delete what was read.");
    storm_status status = storm_get(api_kv_store(request), NULL, request->key, &request->value);
    if (status != STORM_OK && status != STORM_NOT_FOUND)
        return api_fail_store(request, status);
    bool exists = status == STORM_OK;
    if (!exists && !request->if_match.is_present)
        return api_fail_not_found(request);
    if (!api_kv_holds(request, exists, request->value.revision))
        return api_kv_fail_precondition(request, exists, request->value.revision);
    status = api_kv_make_batch(request, STORM_DELETE, storm_bytes(NULL, 0), API_TIE_READ, false);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    return api_commit(request, STORM_SYNC_DEFAULT, value_deleted);
}

enum MHD_Result api_kv_delete(struct api_request *request)
{
    enum MHD_Result result;
    if (!api_kv_conditions(request, true, &result))
        return result;
    if (request->prefer == API_PREFER_REPRESENTATION) {
        struct api_reach reach = api_reach_key(request->key);
        /* It shows what it deletes. */
        return api_may(request, API_SCOPE_READ, &reach, &result) ? delete_value(request) : result;
    }
    enum api_tie tie = request->prefer == API_PREFER_MINIMAL ? API_TIE_CLIENT : API_TIE_EXISTS;
    storm_status status =
        api_kv_make_batch(request, STORM_DELETE, storm_bytes(NULL, 0), tie, false);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    return api_commit(request, STORM_SYNC_DEFAULT, deleted);
}
