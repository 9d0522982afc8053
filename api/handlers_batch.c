/*
 * POST /batch: up to limits.batch_ops operations that take effect together, or not at all, under
 * one revision.
 *
 * Gets see the store as it was just before the writes of the same batch: when there are both, each
 * key that was read becomes a condition of the write, and if somebody wrote it meanwhile the batch
 * is read and written once more. So a get and a put of one key are an exchange. Of several writes
 * to one key the last one wins; conditions see what was there before the batch.
 *
 *   operations      put a   get b   check c   put d with two conditions
 *   store's batch   put a           check c   put d, check d               check b (what was read)
 *   slots           0               1         2                            behind them
 */
#include <stdio.h>
#include <stdlib.h>

#include "async.h"
#include "batch_body.h"
#include "entry.h"
#include "kv.h"
#include "moment.h"
#include "response.h"
#include "router.h"

struct exchange {
    struct api_batch_body body;
    struct storm_lookup *lookups; /* one for each get, in order */
    size_t get_count;
    size_t write_count; /* puts and deletes */
    size_t rule_count;  /* conditions of the client */
    uint64_t revision;  /* of what was read */
    bool is_looking;    /* answers say what was there before */
};

static void release_lookups(struct exchange *exchange)
{
    for (size_t i = 0; i < exchange->get_count; i++) {
        if (exchange->lookups[i].status == STORM_OK)
            storm_value_release(&exchange->lookups[i].value);
        exchange->lookups[i].status = STORM_NOT_FOUND;
    }
}

static void free_exchange(void *own)
{
    struct exchange *exchange = own;
    if (exchange->lookups != NULL)
        release_lookups(exchange);
    free(exchange->lookups);
    api_batch_body_fini(&exchange->body);
    free(exchange);
}

/* ---- Before the body ---- */

enum MHD_Result api_batch_begin(struct api_request *request)
{
    enum MHD_Result result;
    struct storm_slice type = api_header(request, API_HEADER_CONTENT_TYPE);
    if (api_media_parse(type) != API_MEDIA_JSON) {
        struct api_failure failure = {.code = API_ERROR_unsupported_media_type,
                                      .hint = "Send the batch as application/json."};
        return api_fail(request, &failure, "A batch of type %.*s is not understood.",
                        (int)(type.size < 128 ? type.size : 128), (const char *)type.data);
    }
    request->media = API_MEDIA_JSON;
    if (!api_body_encoding(request, &result) || !api_kv_conditions(request, true, &result))
        return result;
    if (request->if_match.is_present || request->if_none_match.is_present) {
        struct api_failure failure = {
            .code = API_ERROR_unsupported_precondition,
            .hint = "Give operations if_match and if_none_match of their own."};
        return api_fail(request, &failure,
                        "If-Match and If-None-Match are about one key; a batch has many.");
    }
    request->body_limit = (size_t)request->server->config->limits_batch_bytes;
    if (request->content_length > request->body_limit)
        return api_fail_too_large(request, request->content_length);
    return MHD_YES;
}

/* ---- What is wrong with it ---- */

static enum MHD_Result fail_body(struct api_request *request, const struct api_batch_fault *fault)
{
    enum { EXTRAS_MAX = 256 };
    char extras[EXTRAS_MAX] = "";
    char place[64] = "";
    char hint[64];
    size_t used = 0;
    size_t said = 0;
    if (fault->is_memory)
        return api_fail_store(request, STORM_NO_MEMORY);
    struct api_failure failure = {.code = fault->code, .hint = fault->hint, .extras = extras};
    if (fault->index >= 0) {
        used += (size_t)snprintf(extras, sizeof extras, ",\"index\":%lld", fault->index);
        said += (size_t)snprintf(place, sizeof place, "Operation %lld: ", fault->index);
    }
    if (fault->field != NULL) {
        used += (size_t)snprintf(extras + used, sizeof extras - used, ",\"field\":\"%s\"",
                                 fault->field);
        snprintf(place + said, sizeof place - said, "%s: ", fault->field);
    }
    if (fault->did_you_mean != NULL) {
        used += (size_t)snprintf(extras + used, sizeof extras - used, ",\"did_you_mean\":\"%s\"",
                                 fault->did_you_mean);
        snprintf(hint, sizeof hint, "Did you mean %s?", fault->did_you_mean);
        failure.hint = hint;
    }
    if (fault->limit_bytes != 0)
        snprintf(extras + used, sizeof extras - used, ",\"limit_bytes\":%zu", fault->limit_bytes);
    return api_fail(request, &failure, "%s%s", place, fault->detail);
}

/* ---- Reading ---- */

static enum MHD_Result fail_gets(struct api_request *request)
{
    char extras[64];
    size_t limit = request->body_limit;
    snprintf(extras, sizeof extras, ",\"limit_bytes\":%zu", limit);
    struct api_failure failure = {
        .code = API_ERROR_batch_too_large,
        .hint = "Raise limits.batch_bytes (env STORM_LIMITS_BATCH_BYTES) or read fewer keys.",
        .extras = extras};
    return api_fail(request, &failure, "The values that the batch reads are more than %zu bytes.",
                    limit);
}

/* Read all gets from one state; false when that has been answered. */
static bool read_gets(struct api_request *request, enum MHD_Result *result)
{
    struct exchange *exchange = request->own;
    release_lookups(exchange);
    storm_status status = storm_get_many(api_kv_store(request), NULL, exchange->lookups,
                                         exchange->get_count, &exchange->revision);
    size_t bytes = 0;
    for (size_t i = 0; i < exchange->get_count; i++) {
        if (exchange->lookups[i].status == STORM_OK)
            bytes += exchange->lookups[i].value.bytes.size;
    }
    if (status != STORM_OK)
        *result = api_fail_store(request, status);
    else if (bytes > request->body_limit)
        *result = fail_gets(request);
    return status == STORM_OK && bytes <= request->body_limit;
}

/* ---- Writing ---- */

/* One operation of the store for each condition; the first one does the work. */
static storm_status add_op(storm_batch *batch, const struct api_batch_op *from, uint64_t now_ms,
                           bool is_looking)
{
    static const enum storm_op_kind kinds[] = {
        [API_BATCH_PUT] = STORM_PUT,
        [API_BATCH_DELETE] = STORM_DELETE,
        [API_BATCH_CHECK] = STORM_CHECK,
        [API_BATCH_GET] = STORM_CHECK,
    };
    struct api_tags tags;
    struct storm_op op = {.kind = kinds[from->kind], .key = from->key, .want_previous = is_looking};
    if (from->kind == API_BATCH_PUT) {
        op.value = from->value;
        op.meta = (struct storm_meta){from->expires_ms, now_ms, from->type};
    }
    if (from->has_if_match) {
        api_batch_tags(from->if_match, true, &tags);
        op.condition = tags.is_any ? STORM_IF_PRESENT : STORM_IF_MATCH;
        op.revisions = tags.revisions;
        op.revision_count = tags.is_any ? 0 : tags.count;
        storm_status status = storm_batch_add(batch, &op);
        if (status != STORM_OK || !from->has_if_none_match)
            return status;
        op = (struct storm_op){.kind = STORM_CHECK, .key = from->key};
    }
    if (from->has_if_none_match) {
        api_batch_tags(from->if_none_match, false, &tags);
        op.condition = tags.is_any ? STORM_IF_ABSENT : STORM_IF_NONE_MATCH;
        op.revisions = tags.revisions;
        op.revision_count = tags.is_any ? 0 : tags.count;
    }
    return storm_batch_add(batch, &op);
}

/* How many operations of the store one is: a get without a condition is none. */
static size_t slots_of(const struct api_batch_op *op)
{
    size_t conditions = (size_t)op->has_if_match + op->has_if_none_match;
    return op->kind == API_BATCH_GET || conditions > 1 ? conditions : 1;
}

/* What was read must still be so. */
static storm_status add_tie(storm_batch *batch, const struct storm_lookup *lookup)
{
    bool exists = lookup->status == STORM_OK;
    struct storm_op op = {
        .kind = STORM_CHECK,
        .condition = exists ? STORM_IF_MATCH : STORM_IF_ABSENT,
        .key = lookup->key,
        .revisions = exists ? &lookup->value.revision : NULL,
        .revision_count = exists ? 1 : 0,
    };
    return storm_batch_add(batch, &op);
}

static storm_status make_batch(struct api_request *request)
{
    struct exchange *exchange = request->own;
    if (!api_kv_fresh_batch(request))
        return STORM_NO_MEMORY;
    storm_status status = STORM_OK;
    for (size_t i = 0; i < exchange->body.count && status == STORM_OK; i++) {
        const struct api_batch_op *op = &exchange->body.ops[i];
        bool is_write = op->kind == API_BATCH_PUT || op->kind == API_BATCH_DELETE;
        if (slots_of(op) > 0)
            status = add_op(request->batch, op, request->meta.modified_ms,
                            is_write && exchange->is_looking);
    }
    for (size_t i = 0; i < exchange->get_count && status == STORM_OK; i++)
        status = add_tie(request->batch, &exchange->lookups[i]);
    return status;
}

/* ---- Answers ---- */

static void add_get(struct api_request *request, const struct storm_lookup *lookup,
                    struct api_text *text)
{
    const struct storm_value *value = &lookup->value;
    if (lookup->status != STORM_OK) {
        api_text_adds(text, "{\"missing\":true}");
        return;
    }
    bool is_json = api_entry_is_json(value->bytes, value->meta.type,
                                     request->server->config->limits_json_bytes);
    if (is_json) {
        api_text_adds(text, "{\"value\":");
        api_text_add(text, value->bytes.data, value->bytes.size);
    } else {
        api_text_adds(text, "{\"value_b64\":\"");
        api_text_add_base64(text, value->bytes);
        api_text_adds(text, "\"");
    }
    if (value->meta.type.size != 0) {
        api_text_adds(text, ",\"content_type\":");
        api_text_add_json(text, value->meta.type);
    }
    api_text_addf(text, ",\"revision\":%llu", (unsigned long long)value->revision);
    api_text_add_time(text, "modified_at", value->meta.modified_ms);
    api_text_add_time(text, "expires_at", value->meta.expires_ms);
    api_text_adds(text, "}");
}

static void add_result(struct api_text *text, const struct exchange *exchange,
                       enum api_batch_kind kind, struct storm_op_result met)
{
    if (kind == API_BATCH_CHECK || !exchange->is_looking)
        api_text_adds(text, "{\"ok\":true}");
    else if (kind == API_BATCH_PUT)
        api_text_adds(text, met.existed ? "{\"created\":false}" : "{\"created\":true}");
    else
        api_text_adds(text, met.existed ? "{\"deleted\":true}" : "{\"deleted\":false}");
}

/* Room for all results: a value takes at most 4/3 of its bytes, what stands around it 1 KiB. */
static size_t answer_room(const struct exchange *exchange, size_t value_bytes)
{
    enum { AROUND = 1024 };
    return exchange->body.count * AROUND + value_bytes / 3 * 4 + AROUND;
}

static enum MHD_Result send_results(struct api_request *request, uint64_t revision)
{
    const struct exchange *exchange = request->own;
    char number[API_NUMBER_MAX];
    struct api_text text;
    api_text_init(&text, answer_room(exchange, request->body_limit));
    api_text_addf(&text, "{\"revision\":%llu,\"results\":[", (unsigned long long)revision);
    size_t slot = 0;
    size_t get = 0;
    for (size_t i = 0; i < exchange->body.count; i++) {
        const struct api_batch_op *op = &exchange->body.ops[i];
        if (i > 0)
            api_text_add(&text, ",", 1);
        if (op->kind == API_BATCH_GET) {
            add_get(request, &exchange->lookups[get++], &text);
        } else {
            bool is_write = op->kind != API_BATCH_CHECK && exchange->is_looking;
            struct storm_op_result met =
                is_write ? storm_batch_result(request->batch, slot) : (struct storm_op_result){0};
            add_result(&text, exchange, op->kind, met);
        }
        slot += slots_of(op);
    }
    api_text_adds(&text, "]}\n");
    api_format_number(number, revision);
    return api_send_json_at(request, MHD_HTTP_OK, &text, number);
}

static enum MHD_Result send_done(struct api_request *request, uint64_t revision)
{
    const struct exchange *exchange = request->own;
    char number[API_NUMBER_MAX];
    if (request->prefer != API_PREFER_MINIMAL || exchange->get_count > 0)
        return send_results(request, revision);
    struct api_answer answer = api_answer_empty(MHD_HTTP_NO_CONTENT);
    api_format_number(number, revision);
    api_answer_header(&answer, "Storm-Revision", number);
    return api_send(request, &answer);
}

static void add_failed(struct api_text *text, size_t index, const struct api_batch_op *op,
                       struct storm_op_result met)
{
    api_text_addf(text, "%s{\"index\":%zu,", text->data[text->size - 1] == '[' ? "" : ",", index);
    api_add_key(text, op->key);
    if (met.existed)
        api_text_addf(text, ",\"current_revision\":%llu}",
                      (unsigned long long)met.previous_revision);
    else
        api_text_adds(text, ",\"current_revision\":null}");
}

/* Name every operation whose condition failed. How many did. */
static size_t add_all_failed(struct api_request *request, struct api_text *text)
{
    const struct exchange *exchange = request->own;
    size_t count = 0;
    size_t slot = 0;
    for (size_t i = 0; i < exchange->body.count; i++) {
        const struct api_batch_op *op = &exchange->body.ops[i];
        size_t end = slot + slots_of(op);
        bool has_failed = false;
        for (; slot < end; slot++) {
            struct storm_op_result met = storm_batch_result(request->batch, slot);
            bool is_conditional = op->has_if_match || op->has_if_none_match;
            if (is_conditional && !met.holds && !has_failed) {
                add_failed(text, i, op, met);
                has_failed = true;
            }
        }
        count += has_failed;
    }
    return count;
}

static enum MHD_Result submit(struct api_request *request);

static enum MHD_Result conflicted(struct api_request *request)
{
    const struct exchange *exchange = request->own;
    struct api_text extras;
    api_text_init(&extras, exchange->body.count * 64 + request->body_limit * 6);
    api_text_adds(&extras, ",\"failed\":[");
    size_t count = add_all_failed(request, &extras);
    api_text_add(&extras, "]", sizeof "]");
    if (count == 0 && !extras.has_failed) {
        /* Only what was read has changed. */
        api_text_fini(&extras);
        return submit(request);
    }
    char detail[96];
    snprintf(detail, sizeof detail, "%zu of %zu operations did not meet their conditions.", count,
             exchange->body.count);
    struct api_text text;
    api_text_init(&text, extras.size + 4096);
    struct api_error error = {
        .code = API_ERROR_precondition_failed,
        .detail = storm_text(detail),
        .hint = "Nothing was written. Read these keys again, decide anew, and send the batch with "
                "their current revisions.",
        .extras = extras.data,
        .request_id = request->id,
    };
    if (extras.has_failed)
        text.has_failed = true;
    else
        api_error_write(&error, &text);
    api_text_fini(&extras);
    struct api_answer answer =
        api_answer_text(MHD_HTTP_PRECONDITION_FAILED, &text, "application/problem+json");
    return api_send(request, &answer);
}

/* ---- Doing it ---- */

static enum MHD_Result committed(struct api_request *request)
{
    switch (request->outcome) {
    case STORM_OK:
        return send_done(request, request->revision);
    case STORM_CONFLICT:
        return conflicted(request);
    case STORM_TOO_LARGE:
        return api_fail_too_large(request, request->body_seen);
    default:
        return api_fail_store(request, request->outcome);
    }
}

static enum MHD_Result submit(struct api_request *request)
{
    struct exchange *exchange = request->own;
    enum MHD_Result result = MHD_YES;
    bool is_synced;
    if (!api_flag(request, "sync", &is_synced, &result))
        return result;
    if (request->attempts++ == API_KV_ATTEMPTS)
        return api_fail_code(request, API_ERROR_overloaded,
                             "Others write the keys that this batch reads too often.");
    if (exchange->get_count > 0 && !read_gets(request, &result))
        return result;
    if (exchange->write_count + exchange->rule_count == 0 && exchange->get_count > 0)
        return send_done(request, exchange->revision);
    storm_status status = make_batch(request);
    if (status != STORM_OK)
        return status == STORM_TOO_LARGE ? api_fail_too_large(request, request->body_seen)
                                         : api_fail_store(request, status);
    return api_commit(request, is_synced ? STORM_SYNC_FULL : STORM_SYNC_DEFAULT, committed);
}

/* Count what is in the body, and make a lookup for each get. */
static bool plan(struct exchange *exchange)
{
    for (size_t i = 0; i < exchange->body.count; i++) {
        const struct api_batch_op *op = &exchange->body.ops[i];
        exchange->get_count += op->kind == API_BATCH_GET;
        exchange->write_count += op->kind == API_BATCH_PUT || op->kind == API_BATCH_DELETE;
        exchange->rule_count += (size_t)op->has_if_match + op->has_if_none_match;
    }
    if (exchange->get_count == 0)
        return true;
    exchange->lookups = calloc(exchange->get_count, sizeof *exchange->lookups);
    if (exchange->lookups == NULL)
        return false;
    size_t get = 0;
    for (size_t i = 0; i < exchange->body.count; i++) {
        if (exchange->body.ops[i].kind == API_BATCH_GET)
            exchange->lookups[get++] =
                (struct storm_lookup){.key = exchange->body.ops[i].key, .status = STORM_NOT_FOUND};
    }
    return true;
}

/* Whether the request may do all of it; a check shows as much as a read. */
static bool may_do_all(struct api_request *request, enum MHD_Result *result)
{
    const struct exchange *exchange = request->own;
    for (size_t i = 0; i < exchange->body.count; i++) {
        const struct api_batch_op *op = &exchange->body.ops[i];
        bool is_write = op->kind == API_BATCH_PUT || op->kind == API_BATCH_DELETE;
        struct api_reach reach = api_reach_key(op->key);
        if (!api_may(request, is_write ? API_SCOPE_WRITE : API_SCOPE_READ, &reach, result))
            return false;
    }
    return true;
}

enum MHD_Result api_batch(struct api_request *request)
{
    enum MHD_Result result = MHD_YES;
    const struct storm_config *config = request->server->config;
    struct api_json_error error;
    if (!api_json_check(storm_bytes(request->body, request->body_size), &error))
        return api_fail_json(request, &error);
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL)
        return api_fail_store(request, STORM_NO_MEMORY);
    request->own = exchange;
    request->free_own = free_exchange;
    request->meta.modified_ms = api_now_ms();
    struct api_batch_limits limits = {
        .ops = (size_t)config->limits_batch_ops,
        .key_bytes = (size_t)config->limits_key_bytes,
        .value_bytes = (size_t)config->limits_value_bytes,
        .json_bytes = (size_t)config->limits_json_bytes,
        .now_ms = request->meta.modified_ms,
    };
    struct api_batch_fault fault;
    if (!api_batch_decode(request->body, request->body_size, &limits, &exchange->body, &fault))
        return fail_body(request, &fault);
    if (!may_do_all(request, &result))
        return result;
    exchange->is_looking = request->prefer != API_PREFER_MINIMAL;
    if (!plan(exchange))
        return api_fail_store(request, STORM_NO_MEMORY);
    return submit(request);
}
