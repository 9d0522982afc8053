/*
 * Decoding batches. See batch_body.h.
 *
 * One walk over the text; each operation is read field by field into a list of spans, and then made
 * sense of. Nothing is copied but the list of operations.
 */
#include "batch_body.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base64.h"
#include "json.h"
#include "moment.h"
#include "suggest.h"
#include "walk.h"

enum field {
    FIELD_OP,
    FIELD_KEY,
    FIELD_KEY_B64,
    FIELD_VALUE,
    FIELD_VALUE_B64,
    FIELD_CONTENT_TYPE,
    FIELD_TTL,
    FIELD_EXPIRES_AT,
    FIELD_IF_MATCH,
    FIELD_IF_NONE_MATCH,
    FIELD_COUNT
};

static const char *const field_names[FIELD_COUNT] = {
    "op",           "key", "key_b64",    "value",    "value_b64",
    "content_type", "ttl", "expires_at", "if_match", "if_none_match"};

/* Only the two conditions and the key mean something in every operation. */
static bool is_for_puts(enum field field)
{
    return field >= FIELD_VALUE && field <= FIELD_EXPIRES_AT;
}

static const char *const op_names[] = {
    [API_BATCH_PUT] = "put",
    [API_BATCH_DELETE] = "delete",
    [API_BATCH_CHECK] = "check",
    [API_BATCH_GET] = "get",
};
enum { OP_COUNT = sizeof op_names / sizeof op_names[0] };

struct decoder {
    const struct api_batch_limits *limits;
    struct api_batch_body *body;
    struct api_batch_fault *fault;
    uint8_t *text; /* what is found in it comes as const, and is ours to change */
    size_t room;
};

/* One operation as it stands in the text. */
struct raw_op {
    struct storm_slice fields[FIELD_COUNT]; /* data NULL = not there */
};

static bool fail(struct decoder *decoder, enum api_error_code code, const char *field,
                 const char *hint, const char *format, ...) __attribute__((format(printf, 5, 6)));

static bool fail(struct decoder *decoder, enum api_error_code code, const char *field,
                 const char *hint, const char *format, ...)
{
    struct api_batch_fault *fault = decoder->fault;
    fault->code = code;
    fault->field = field;
    fault->hint = hint;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault->detail, sizeof fault->detail, format, arguments);
    va_end(arguments);
    return false;
}

static bool fail_field(struct decoder *decoder, enum field field, const char *hint,
                       const char *sentence)
{
    return fail(decoder, API_ERROR_invalid_field, field_names[field], hint, "%s", sentence);
}

/* Where a span lies in the text that we may change. */
static uint8_t *writable(const struct decoder *decoder, struct storm_slice span)
{
    return decoder->text + (span.data - decoder->text);
}

/* ---- Fields ---- */

static bool is_string(struct storm_slice span)
{
    return span.size >= 2 && span.data[0] == '"';
}

static bool read_text(struct decoder *decoder, const struct raw_op *raw, enum field field,
                      struct storm_slice *text)
{
    struct storm_slice span = raw->fields[field];
    if (!is_string(span))
        return fail_field(decoder, field, "Write it in double quotes.", "It has to be a string.");
    *text = api_walk_text(span, writable(decoder, span));
    return true;
}

static bool read_base64(struct decoder *decoder, const struct raw_op *raw, enum field field,
                        struct storm_slice *bytes)
{
    struct storm_slice text;
    if (!read_text(decoder, raw, field, &text))
        return false;
    uint8_t *out = writable(decoder, text);
    size_t size = text.size;
    if (!api_base64_decode(out, &size))
        return fail_field(decoder, field,
                          "Use the alphabet with + and /, and = at the end (RFC 4648 section 4).",
                          "It is not Base64.");
    *bytes = storm_bytes(out, size);
    return true;
}

static bool read_kind(struct decoder *decoder, const struct raw_op *raw, struct api_batch_op *op)
{
    struct storm_slice name;
    if (raw->fields[FIELD_OP].data == NULL)
        return fail_field(decoder, FIELD_OP, "It is put, delete, check or get.",
                          "The operation does not say what it is.");
    if (!read_text(decoder, raw, FIELD_OP, &name))
        return false;
    for (size_t i = 0; i < OP_COUNT; i++) {
        if (api_equals(name, op_names[i])) {
            op->kind = (enum api_batch_kind)i;
            return true;
        }
    }
    return fail_field(decoder, FIELD_OP, "It is put, delete, check or get.",
                      "There is no such operation.");
}

static bool read_key(struct decoder *decoder, const struct raw_op *raw, struct api_batch_op *op)
{
    bool is_text = raw->fields[FIELD_KEY].data != NULL;
    if (is_text == (raw->fields[FIELD_KEY_B64].data != NULL))
        return fail_field(decoder, FIELD_KEY, "Send key, or key_b64 for bytes that are no text.",
                          is_text ? "The operation has two keys." : "The operation has no key.");
    bool is_read = is_text ? read_text(decoder, raw, FIELD_KEY, &op->key)
                           : read_base64(decoder, raw, FIELD_KEY_B64, &op->key);
    if (!is_read)
        return false;
    if (op->key.size == 0)
        return fail(decoder, API_ERROR_invalid_key, field_names[FIELD_KEY],
                    "A key is 1 or more bytes.", "The key is empty.");
    if (op->key.size <= decoder->limits->key_bytes)
        return true;
    decoder->fault->limit_bytes = decoder->limits->key_bytes;
    return fail(decoder, API_ERROR_key_too_long, field_names[FIELD_KEY], NULL,
                "The key is %zu bytes; the limit is %zu.", op->key.size,
                decoder->limits->key_bytes);
}

static bool check_size(struct decoder *decoder, enum field field, const struct api_batch_op *op,
                       bool is_json)
{
    size_t limit = decoder->limits->value_bytes;
    bool is_json_limit = is_json && decoder->limits->json_bytes <= limit;
    if (is_json_limit)
        limit = decoder->limits->json_bytes;
    if (op->value.size <= limit)
        return true;
    decoder->fault->limit_bytes = limit;
    return fail(decoder, API_ERROR_value_too_large, field_names[field],
                is_json_limit ? "Raise limits.json_bytes (env STORM_LIMITS_JSON_BYTES) or split "
                                "the value."
                              : "Raise limits.value_bytes (env STORM_LIMITS_VALUE_BYTES) or split "
                                "the value.",
                "The value is %zu bytes; the limit is %zu.", op->value.size, limit);
}

static bool read_type(struct decoder *decoder, const struct raw_op *raw, bool is_json_value,
                      enum api_media *media, struct storm_slice *type)
{
    *media = is_json_value ? API_MEDIA_JSON : API_MEDIA_BYTES;
    *type = is_json_value ? storm_bytes(NULL, 0) : storm_text("application/octet-stream");
    if (raw->fields[FIELD_CONTENT_TYPE].data == NULL)
        return true;
    if (!read_text(decoder, raw, FIELD_CONTENT_TYPE, type))
        return false;
    *type = api_trim(*type);
    *media = api_media_parse(*type);
    if (*media == API_MEDIA_REFUSED)
        return fail(decoder, API_ERROR_unsupported_media_type, field_names[FIELD_CONTENT_TYPE],
                    "Use a type of at most 127 characters that is not multipart.",
                    "This content_type cannot be stored.");
    if (*media == API_MEDIA_JSON)
        *type = storm_bytes(NULL, 0);
    if (is_json_value && *media == API_MEDIA_BYTES)
        return fail_field(decoder, FIELD_CONTENT_TYPE,
                          "Send value_b64 to store bytes of another type than JSON.",
                          "A value that stands as JSON has a JSON type.");
    return true;
}

static bool read_value(struct decoder *decoder, const struct raw_op *raw, struct api_batch_op *op)
{
    bool is_inline = raw->fields[FIELD_VALUE].data != NULL;
    enum field field = is_inline ? FIELD_VALUE : FIELD_VALUE_B64;
    if (is_inline == (raw->fields[FIELD_VALUE_B64].data != NULL))
        return fail_field(decoder, FIELD_VALUE,
                          "Send value for JSON, or value_b64 for anything else.",
                          is_inline ? "The put has two values." : "The put has no value.");
    enum api_media media;
    if (!read_type(decoder, raw, is_inline, &media, &op->type))
        return false;
    op->value = raw->fields[FIELD_VALUE];
    if (!is_inline && !read_base64(decoder, raw, FIELD_VALUE_B64, &op->value))
        return false;
    bool is_json = media != API_MEDIA_BYTES;
    if (!check_size(decoder, field, op, is_json))
        return false;
    struct api_json_error error;
    if (is_inline || !is_json || api_json_check(op->value, &error))
        return true;
    decoder->fault->is_memory = error.is_memory;
    return fail(decoder, API_ERROR_invalid_json, field_names[field], NULL,
                "The value is not JSON, as its content_type says: line %d, column %d: %s.",
                error.line, error.column, error.text);
}

static bool read_expiry(struct decoder *decoder, const struct raw_op *raw, struct api_batch_op *op)
{
    bool has_ttl = raw->fields[FIELD_TTL].data != NULL;
    bool has_time = raw->fields[FIELD_EXPIRES_AT].data != NULL;
    struct storm_slice text;
    uint64_t ms;
    if (has_ttl && has_time)
        return fail_field(decoder, FIELD_TTL, "Send one of them.",
                          "ttl and expires_at exclude each other.");
    if (has_time) {
        if (!read_text(decoder, raw, FIELD_EXPIRES_AT, &text))
            return false;
        if (!api_parse_rfc3339(text, &op->expires_ms) || op->expires_ms <= decoder->limits->now_ms)
            return fail_field(decoder, FIELD_EXPIRES_AT,
                              "Write a time to come as RFC 3339 has it: 2030-01-31T12:00:00Z.",
                              "expires_at is not a time in the future.");
        return true;
    }
    if (!has_ttl)
        return true;
    if (!read_text(decoder, raw, FIELD_TTL, &text))
        return false;
    if (api_equals(text, "none"))
        return true;
    if (!api_parse_duration(text, &ms))
        return fail_field(decoder, FIELD_TTL,
                          "Write 90s, 15m, 24h, 7d or none; keep is for single keys only.",
                          "ttl is not a time to live.");
    op->expires_ms = decoder->limits->now_ms + ms;
    return true;
}

bool api_batch_tags(struct storm_slice text, bool is_strong, struct api_tags *tags)
{
    struct storm_slice trimmed = api_trim(text);
    uint64_t revision;
    if (!api_parse_number(trimmed, &revision))
        return api_tags_parse(text, is_strong, tags);
    tags->is_present = true;
    tags->is_any = false;
    tags->count = revision == 0 ? 0 : 1;
    tags->revisions[0] = revision;
    return true;
}

static bool read_condition(struct decoder *decoder, const struct raw_op *raw, enum field field,
                           bool *is_there, struct storm_slice *text)
{
    struct api_tags tags;
    *text = raw->fields[field];
    *is_there = text->data != NULL;
    if (!*is_there)
        return true;
    if (is_string(*text) && !read_text(decoder, raw, field, text))
        return false;
    if (api_batch_tags(*text, field == FIELD_IF_MATCH, &tags))
        return true;
    return fail_field(decoder, field, "Write a revision such as \"17\", or \"*\".",
                      "The condition is not a revision.");
}

static bool read_op(struct decoder *decoder, const struct raw_op *raw, struct api_batch_op *op)
{
    *op = (struct api_batch_op){0};
    if (!read_kind(decoder, raw, op))
        return false;
    for (int i = 0; i < FIELD_COUNT && op->kind != API_BATCH_PUT; i++) {
        if (raw->fields[i].data != NULL && is_for_puts((enum field)i))
            return fail_field(decoder, (enum field)i, "Only a put has it.",
                              "It has no meaning for this operation.");
    }
    if (!read_key(decoder, raw, op) ||
        !read_condition(decoder, raw, FIELD_IF_MATCH, &op->has_if_match, &op->if_match) ||
        !read_condition(decoder, raw, FIELD_IF_NONE_MATCH, &op->has_if_none_match,
                        &op->if_none_match))
        return false;
    if (op->kind == API_BATCH_CHECK && !op->has_if_match && !op->has_if_none_match)
        return fail_field(decoder, FIELD_IF_MATCH, "Send if_match or if_none_match.",
                          "The check has no condition.");
    return op->kind != API_BATCH_PUT ||
           (read_value(decoder, raw, op) && read_expiry(decoder, raw, op));
}

/* ---- The walk ---- */

static bool fail_unknown(struct decoder *decoder, struct storm_slice name, const char *const *names,
                         size_t count, const char *hint)
{
    char word[64];
    size_t size = name.size < sizeof word - 1 ? name.size : sizeof word - 1;
    for (size_t i = 0; i < size; i++)
        word[i] = (char)(name.data[i] < ' ' || name.data[i] == 0x7f ? '?' : name.data[i]);
    word[size] = '\0';
    decoder->fault->did_you_mean = config_suggest(word, names, count);
    return fail(decoder, API_ERROR_unknown_field, NULL, hint, "There is no field \"%s\" here.",
                word);
}

static bool find_field(struct storm_slice name, enum field *field)
{
    for (int i = 0; i < FIELD_COUNT; i++) {
        if (api_equals(name, field_names[i])) {
            *field = (enum field)i;
            return true;
        }
    }
    return false;
}

static bool walk_op(struct decoder *decoder, struct api_walk *walk, struct raw_op *raw)
{
    struct storm_slice quoted;
    *raw = (struct raw_op){0};
    if (!api_walk_enter(walk, '{'))
        return fail(decoder, API_ERROR_invalid_field, NULL,
                    "Write {\"op\":\"put\",\"key\":\"a\",\"value\":1}.",
                    "The operation is not an object.");
    while (api_walk_member(walk, &quoted)) {
        struct storm_slice name = api_walk_text(quoted, writable(decoder, quoted));
        enum field field;
        if (!find_field(name, &field))
            return fail_unknown(decoder, name, field_names, FIELD_COUNT,
                                "An operation has op, key or key_b64, value or value_b64, "
                                "content_type, ttl or expires_at, if_match, if_none_match.");
        if (raw->fields[field].data != NULL)
            return fail_field(decoder, field, "Send it once.", "It stands twice.");
        raw->fields[field] = api_walk_value(walk);
    }
    return true;
}

static struct api_batch_op *add_op(struct decoder *decoder)
{
    struct api_batch_body *body = decoder->body;
    if (body->count == decoder->room) {
        size_t room = decoder->room == 0 ? 64 : decoder->room * 2;
        struct api_batch_op *ops = realloc(body->ops, room * sizeof *ops);
        if (ops == NULL) {
            decoder->fault->is_memory = true;
            return NULL;
        }
        body->ops = ops;
        decoder->room = room;
    }
    return &body->ops[body->count];
}

static bool walk_ops(struct decoder *decoder, struct api_walk *walk)
{
    if (!api_walk_enter(walk, '['))
        return fail(decoder, API_ERROR_invalid_field, "ops", "Write {\"ops\":[...]}.",
                    "It is not an array.");
    while (api_walk_element(walk)) {
        struct raw_op raw;
        if (decoder->body->count == decoder->limits->ops) {
            decoder->fault->index = API_BATCH_NO_INDEX;
            return fail(decoder, API_ERROR_batch_too_large, "ops",
                        "Raise limits.batch_ops (env STORM_LIMITS_BATCH_OPS) or split the batch.",
                        "The batch has more than %zu operations.", decoder->limits->ops);
        }
        decoder->fault->index = (long long)decoder->body->count;
        struct api_batch_op *op = add_op(decoder);
        if (op == NULL || !walk_op(decoder, walk, &raw) || !read_op(decoder, &raw, op))
            return false;
        decoder->body->count++;
    }
    decoder->fault->index = API_BATCH_NO_INDEX;
    return true;
}

bool api_batch_decode(uint8_t *text, size_t size, const struct api_batch_limits *limits,
                      struct api_batch_body *body, struct api_batch_fault *fault)
{
    static const char *const names[] = {"ops"};
    *body = (struct api_batch_body){0};
    *fault = (struct api_batch_fault){.index = API_BATCH_NO_INDEX};
    struct decoder decoder = {.limits = limits, .body = body, .fault = fault, .text = text};
    struct api_walk walk = api_walk_begin(storm_bytes(text, size));
    struct storm_slice quoted;
    bool has_ops = false;
    if (!api_walk_enter(&walk, '{'))
        return fail(&decoder, API_ERROR_invalid_field, NULL, "Write {\"ops\":[...]}.",
                    "The body is not an object.");
    while (api_walk_member(&walk, &quoted)) {
        struct storm_slice name = api_walk_text(quoted, writable(&decoder, quoted));
        if (!api_equals(name, names[0]))
            return fail_unknown(&decoder, name, names, 1, "A batch has the field ops.");
        if (has_ops)
            return fail(&decoder, API_ERROR_invalid_field, "ops", "Send it once.",
                        "It stands twice.");
        has_ops = true;
        if (!walk_ops(&decoder, &walk))
            return false;
    }
    if (has_ops && body->count == 0)
        return fail(&decoder, API_ERROR_invalid_field, "ops", "Send one operation at least.",
                    "There are none.");
    return has_ops || fail(&decoder, API_ERROR_invalid_field, "ops", "Write {\"ops\":[...]}.",
                           "The body has no ops.");
}

void api_batch_body_fini(struct api_batch_body *body)
{
    free(body->ops);
    *body = (struct api_batch_body){0};
}
