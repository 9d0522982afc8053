/*
 * Answers. See response.h.
 *
 * Header fields are copied by the library, three allocations each, so an answer carries what
 * clients use and no more. What every answer has (X-Request-Id, Connection: close while draining,
 * Retry-After with 503) is added in one place, api_send.
 */
#include "response.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gzip.h"
#include "moment.h"
#include "router.h"

static struct api_answer made(unsigned status, struct MHD_Response *response)
{
    return (struct api_answer){response, status, response == NULL};
}

struct api_answer api_answer_empty(unsigned status)
{
    return made(status, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT));
}

struct api_answer api_answer_text(unsigned status, struct api_text *text, const char *type)
{
    if (text->has_failed) {
        api_text_fini(text);
        return made(status, NULL);
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(text->size, text->data, MHD_RESPMEM_MUST_FREE);
    if (response == NULL)
        free(text->data);
    api_text_init(text, text->max);
    struct api_answer answer = made(status, response);
    api_answer_header(&answer, "Content-Type", type);
    return answer;
}

struct api_answer api_answer_static(unsigned status, struct storm_slice bytes, const char *type)
{
    /* The library wants a pointer to non-const; it does not write to persistent memory. */
    struct api_answer answer =
        made(status, MHD_create_response_from_buffer(bytes.size, (void *)bytes.data,
                                                     MHD_RESPMEM_PERSISTENT));
    api_answer_header(&answer, "Content-Type", type);
    return answer;
}

struct api_answer api_answer_value(unsigned status, struct api_request *request)
{
    struct storm_value *value = &request->value;
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        value->bytes.size, (void *)value->bytes.data, value->unpin, value->pin);
    if (response != NULL)
        value->unpin = NULL;
    struct api_answer answer = made(status, response);
    api_answer_type(&answer, value->meta.type);
    return answer;
}

void api_answer_type(struct api_answer *answer, struct storm_slice type)
{
    char text[API_MEDIA_TYPE_MAX + 1] = "application/json";
    if (type.size != 0 && type.size <= API_MEDIA_TYPE_MAX) {
        memcpy(text, type.data, type.size);
        text[type.size] = '\0';
    }
    api_answer_header(answer, "Content-Type", text);
}

void api_answer_header(struct api_answer *answer, const char *name, const char *value)
{
    if (answer->response != NULL &&
        MHD_add_response_header(answer->response, name, value) != MHD_YES)
        answer->has_failed = true;
}

static void add_tag(struct api_answer *answer, uint64_t value, const char *suffix)
{
    char tag[API_NUMBER_MAX + 8] = "\"";
    size_t length = 1 + api_format_number(tag + 1, value);
    memcpy(tag + length, suffix, strlen(suffix) + 1);
    api_answer_header(answer, "ETag", tag);
}

static void add_revision(struct api_answer *answer, uint64_t write)
{
    char number[API_NUMBER_MAX];
    api_format_number(number, write);
    api_answer_header(answer, "Storm-Revision", number);
}

void api_answer_revisions(struct api_answer *answer, uint64_t value, uint64_t write)
{
    add_revision(answer, write);
    add_tag(answer, value, "\"");
}

void api_answer_revision(struct api_answer *answer, uint64_t revision)
{
    api_answer_revisions(answer, revision, revision);
}

void api_answer_revision_gzip(struct api_answer *answer, uint64_t revision)
{
    add_revision(answer, revision);
    add_tag(answer, revision, "-gz\"");
}

void api_answer_date(struct api_answer *answer, const char *name, uint64_t ms)
{
    char text[API_RFC3339_MAX];
    api_answer_header(answer, name, api_format_rfc3339(text, ms));
}

static void add_common(struct api_request *request, struct api_answer *answer)
{
    api_answer_header(answer, "X-Request-Id", request->id);
    if (request->route != NULL && request->route->has_key) {
        /* Values come from anyone and are served from the console's origin: never run them. */
        api_answer_header(answer, "X-Content-Type-Options", "nosniff");
        api_answer_header(answer, "Content-Security-Policy", "sandbox; default-src 'none'");
    }
    if (request->server->guard.origins != NULL)
        api_guard_answer(request, answer);
    if (answer->status == MHD_HTTP_SERVICE_UNAVAILABLE ||
        answer->status == MHD_HTTP_TOO_MANY_REQUESTS) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%u",
                 request->retry_after_s == 0 ? 1 : request->retry_after_s);
        api_answer_header(answer, "Retry-After", seconds);
    }
    if (request->must_close || api_is_draining(request->server))
        api_answer_header(answer, "Connection", "close");
}

/* Queue and let go; the answer that every request shares when memory is out is kept. */
static enum MHD_Result queue(struct api_request *request, struct MHD_Response *response)
{
    enum MHD_Result result = MHD_queue_response(request->connection, request->status, response);
    if (response != request->server->no_memory)
        MHD_destroy_response(response);
    request->stage = API_STAGE_ANSWERED;
    api_enter_phase(request, API_PHASE_SENDING);
    return result;
}

/* A handler that was to ask what the key may touch, and has not: its answer must not leave. */
static bool has_not_asked(const struct api_request *request, const struct api_answer *answer)
{
    return request->grant.prefix.size != 0 && !request->grant.has_asked && answer->status < 400 &&
           request->route != NULL && (request->route->flags & API_ROUTE_ASKS) != 0;
}

enum MHD_Result api_send(struct api_request *request, struct api_answer *answer)
{
    if (has_not_asked(request, answer)) {
        if (answer->response != NULL)
            MHD_destroy_response(answer->response);
        return api_fail_code(request, API_ERROR_internal,
                             "This route does not know keys that are limited to a prefix.");
    }
    bool is_early = request->stage == API_STAGE_HEADERS;
    if (is_early && request->has_body &&
        (api_has_header(request, API_HEADER_EXPECT) || request->content_length > API_DISCARD_MAX))
        request->must_close = true;
    add_common(request, answer);
    struct MHD_Response *response = answer->response;
    request->status = answer->status;
    if (answer->has_failed) {
        if (response != NULL)
            MHD_destroy_response(response);
        response = request->server->no_memory;
        request->status = MHD_HTTP_SERVICE_UNAVAILABLE;
    }
    if (request->stage == API_STAGE_BODY || (is_early && !request->must_close)) {
        request->held = response;
        return MHD_YES;
    }
    return queue(request, response);
}

enum MHD_Result api_send_held(struct api_request *request)
{
    struct MHD_Response *response = request->held;
    request->held = NULL;
    return queue(request, response);
}

enum MHD_Result api_send_json(struct api_request *request, unsigned status, struct api_text *text)
{
    return api_send_json_at(request, status, text, NULL);
}

enum MHD_Result api_send_json_at(struct api_request *request, unsigned status,
                                 struct api_text *text, const char *revision)
{
    bool is_long = text->size >= API_GZIP_MIN;
    bool is_gzip = api_compress_text(request, text);
    struct api_answer answer = api_answer_text(status, text, "application/json");
    if (is_long)
        api_answer_header(&answer, "Vary", "Accept-Encoding");
    if (is_gzip)
        api_answer_header(&answer, "Content-Encoding", "gzip");
    if (revision != NULL)
        api_answer_header(&answer, "Storm-Revision", revision);
    return api_send(request, &answer);
}

static enum MHD_Result fail(struct api_request *request, const struct api_failure *failure,
                            const char *detail)
{
    enum { PROBLEM_MAX = 16384 };
    struct api_text text;
    api_text_init(&text, PROBLEM_MAX);
    struct api_error error = {
        .code = failure->code,
        .detail = storm_text(detail),
        .hint = failure->hint,
        .extras = failure->extras,
        .request_id = request->id,
    };
    api_error_write(&error, &text);
    struct api_answer answer =
        api_answer_text(api_error_kinds[failure->code].status, &text, "application/problem+json");
    if (failure->header != NULL)
        api_answer_header(&answer, failure->header, failure->header_value);
    return api_send(request, &answer);
}

enum { DETAIL_MAX = 640 };

enum MHD_Result api_fail(struct api_request *request, const struct api_failure *failure,
                         const char *format, ...)
{
    char detail[DETAIL_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    return fail(request, failure, detail);
}

enum MHD_Result api_fail_code(struct api_request *request, enum api_error_code code,
                              const char *format, ...)
{
    char detail[DETAIL_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    struct api_failure failure = {.code = code};
    return fail(request, &failure, detail);
}

enum MHD_Result api_fail_parameter(struct api_request *request, const char *hint,
                                   const char *sentence)
{
    struct api_failure failure = {.code = API_ERROR_invalid_parameter, .hint = hint};
    return api_fail(request, &failure, "%s", sentence);
}

enum MHD_Result api_fail_store(struct api_request *request, storm_status status)
{
    char last[512] = "";
    enum api_error_code code = api_error_of(status);
    storm_db *db = atomic_load_explicit(&request->server->db, memory_order_acquire);
    bool has_sentence = code == API_ERROR_corruption_detected || code == API_ERROR_read_only ||
                        code == API_ERROR_commit_unknown || code == API_ERROR_disk_full ||
                        code == API_ERROR_internal;
    if (db != NULL && has_sentence)
        storm_last_error(db, last, sizeof last);
    if (status == STORM_BUSY && db != NULL)
        request->retry_after_s = (storm_busy_ms(db) + 999) / 1000;
    if (last[0] != '\0')
        return api_fail_code(request, code, "%s", last);
    return api_fail_code(request, code, "The store says: %s.", storm_status_text(status));
}

char *api_key_text(const struct api_request *request, char text[API_KEY_TEXT_MAX])
{
    static const char dots[] = "...";
    enum { SHOWN_MAX = API_KEY_TEXT_MAX - sizeof dots };
    size_t size = request->key.size;
    size_t shown = size < SHOWN_MAX ? size : SHOWN_MAX;
    for (size_t i = 0; i < shown; i++) {
        uint8_t byte = request->key.data[i];
        bool is_control = byte < ' ' || byte == 0x7f;
        text[i] = (char)(is_control ? '?' : byte);
    }
    text[shown] = '\0';
    if (size > shown)
        memcpy(text + shown, dots, sizeof dots);
    return text;
}
