/*
 * Lines of imports. See import_line.h.
 *
 * The line is checked as JSON once, as a whole; after that its members are known to be well formed
 * and are taken from where they stand. Strings are decoded in place. What says `value_b64` with a
 * JSON type is not checked for being JSON: it is how an export writes what it could not write
 * inline, and has to come back as it was.
 */
#include "import_line.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base64.h"
#include "fields.h"
#include "json.h"
#include "moment.h"
#include "suggest.h"
#include "walk.h"

enum field {
    FIELD_KEY,
    FIELD_KEY_B64,
    FIELD_VALUE,
    FIELD_VALUE_B64,
    FIELD_CONTENT_TYPE,
    FIELD_EXPIRES_AT,
    FIELD_MODIFIED_AT,
    FIELD_REVISION,
    FIELD_END,
    FIELD_COUNT,
    FIELD_TOTAL
};

static const char *const field_names[FIELD_TOTAL] = {
    "key",        "key_b64",     "value",    "value_b64", "content_type",
    "expires_at", "modified_at", "revision", "end",       "count",
};

struct reading {
    uint8_t *bytes; /* of the line */
    const struct api_import_limits *limits;
    struct storm_slice fields[FIELD_TOTAL]; /* data NULL = not there */
    struct api_import_fault *fault;
};

static bool fail(struct reading *reading, enum api_error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool fail(struct reading *reading, enum api_error_code code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reading->fault->detail, sizeof reading->fault->detail, format, arguments);
    va_end(arguments);
    reading->fault->code = code;
    return false;
}

/* ---- Members ---- */

static bool take_member(struct reading *reading, struct storm_slice quoted,
                        struct storm_slice value)
{
    char name[64];
    struct storm_slice plain = storm_bytes(quoted.data + 1, quoted.size - 2);
    size_t size = plain.size < sizeof name - 1 ? plain.size : sizeof name - 1;
    memcpy(name, plain.data, size);
    name[size] = '\0';
    for (size_t i = 0; i < FIELD_TOTAL; i++) {
        if (!api_equals(plain, field_names[i]))
            continue;
        if (reading->fields[i].data != NULL)
            return fail(reading, API_ERROR_invalid_field, "The field \"%s\" stands twice.", name);
        reading->fields[i] = value;
        return true;
    }
    /* The closing line is nothing that people write. */
    reading->fault->did_you_mean = config_suggest(name, field_names, FIELD_END);
    return fail(reading, API_ERROR_unknown_field, "There is no field \"%s\" here.", name);
}

static bool take_members(struct reading *reading, size_t size)
{
    struct api_json_error error;
    struct storm_slice text = storm_bytes(reading->bytes, size);
    struct storm_slice name;
    if (!api_json_check(text, &error))
        return fail(reading, API_ERROR_invalid_json, "Not JSON: column %d: %s.", error.column,
                    error.text);
    struct api_walk walk = api_walk_begin(text);
    if (!api_walk_enter(&walk, '{'))
        return fail(reading, API_ERROR_invalid_json, "An entry is an object.");
    while (api_walk_member(&walk, &name)) {
        if (!take_member(reading, name, api_walk_value(&walk)))
            return false;
    }
    return true;
}

static bool has(const struct reading *reading, enum field field)
{
    return reading->fields[field].data != NULL;
}

static bool has_null(const struct reading *reading, enum field field)
{
    return api_equals(reading->fields[field], "null");
}

/* A string, decoded where it stands. */
static bool take_string(struct reading *reading, enum field field, struct storm_slice *string)
{
    struct storm_slice quoted = reading->fields[field];
    if (quoted.size < 2 || quoted.data[0] != '"')
        return fail(reading, API_ERROR_invalid_field, "The field \"%s\" is not a string.",
                    field_names[field]);
    *string = api_walk_text(quoted, reading->bytes + (quoted.data - reading->bytes));
    return true;
}

static bool take_base64(struct reading *reading, enum field field, struct storm_slice *bytes)
{
    if (!take_string(reading, field, bytes))
        return false;
    size_t size = bytes->size;
    if (!api_base64_decode(reading->bytes + (bytes->data - reading->bytes), &size))
        return fail(reading, API_ERROR_invalid_field, "The field \"%s\" is not base64.",
                    field_names[field]);
    bytes->size = size;
    return true;
}

static bool take_time(struct reading *reading, enum field field, uint64_t *ms)
{
    struct storm_slice text;
    if (!has(reading, field))
        return true;
    *ms = 0;
    if (has_null(reading, field))
        return true;
    if (!take_string(reading, field, &text))
        return false;
    return (api_parse_rfc3339(text, ms) && *ms != 0) ||
           fail(reading, API_ERROR_invalid_field,
                "The field \"%s\" is no time such as 2030-01-31T12:00:00Z.", field_names[field]);
}

/* ---- What they mean ---- */

/* One of two fields, which say the same in two ways. */
static bool has_one(struct reading *reading, enum field plain, enum field base64)
{
    if (has(reading, plain) != has(reading, base64))
        return true;
    return fail(reading, API_ERROR_invalid_field, "An entry has either \"%s\" or \"%s\".",
                field_names[plain], field_names[base64]);
}

static bool take_key(struct reading *reading, struct storm_slice *key)
{
    if (!has_one(reading, FIELD_KEY, FIELD_KEY_B64))
        return false;
    bool is_taken = has(reading, FIELD_KEY) ? take_string(reading, FIELD_KEY, key)
                                            : take_base64(reading, FIELD_KEY_B64, key);
    if (!is_taken)
        return false;
    if (key->size == 0)
        return fail(reading, API_ERROR_invalid_key, "The key is empty.");
    return key->size <= reading->limits->key_bytes ||
           fail(reading, API_ERROR_key_too_long, "The key is %zu bytes; the limit is %llu.",
                key->size, (unsigned long long)reading->limits->key_bytes);
}

static bool take_value(struct reading *reading, struct storm_slice *value)
{
    if (!has_one(reading, FIELD_VALUE, FIELD_VALUE_B64))
        return false;
    bool is_json = has(reading, FIELD_VALUE);
    uint64_t limit = reading->limits->value_bytes;
    if (is_json)
        *value = reading->fields[FIELD_VALUE];
    else if (!take_base64(reading, FIELD_VALUE_B64, value))
        return false;
    if (is_json && reading->limits->json_bytes < limit)
        limit = reading->limits->json_bytes;
    return value->size <= limit ||
           fail(reading, API_ERROR_value_too_large, "The value is %zu bytes; the limit is %llu.",
                value->size, (unsigned long long)limit);
}

static bool take_type(struct reading *reading, struct storm_slice *type)
{
    bool is_json = has(reading, FIELD_VALUE);
    *type = is_json ? storm_bytes(NULL, 0) : storm_text("application/octet-stream");
    if (!has(reading, FIELD_CONTENT_TYPE) || has_null(reading, FIELD_CONTENT_TYPE))
        return true;
    if (!take_string(reading, FIELD_CONTENT_TYPE, type))
        return false;
    enum api_media media = api_media_parse(*type);
    if (media == API_MEDIA_REFUSED)
        return fail(reading, API_ERROR_unsupported_media_type,
                    "The content_type cannot be stored.");
    if (is_json && media == API_MEDIA_BYTES)
        return fail(reading, API_ERROR_invalid_field,
                    "A value with another content_type than JSON is given as value_b64.");
    *type = media == API_MEDIA_JSON ? storm_bytes(NULL, 0) : api_trim(*type);
    return true;
}

static bool take_end(struct reading *reading, struct api_import_line *line)
{
    line->is_end = api_equals(reading->fields[FIELD_END], "true") &&
                   api_parse_number(reading->fields[FIELD_COUNT], &line->count);
    for (size_t i = 0; i < FIELD_REVISION; i++)
        line->is_end = line->is_end && !has(reading, (enum field)i);
    return line->is_end ||
           fail(reading, API_ERROR_invalid_field,
                "The fields \"end\" and \"count\" belong to the closing line of an export.");
}

bool api_import_line_read(uint8_t *bytes, size_t size, const struct api_import_limits *limits,
                          struct api_import_line *line, struct api_import_fault *fault)
{
    struct reading reading = {.bytes = bytes, .limits = limits, .fault = fault};
    *line = (struct api_import_line){.meta = {.modified_ms = limits->now_ms}};
    *fault = (struct api_import_fault){.code = API_ERROR_COUNT};
    if (!take_members(&reading, size))
        return false;
    if (has(&reading, FIELD_END) || has(&reading, FIELD_COUNT))
        return take_end(&reading, line);
    return take_key(&reading, &line->key) && take_value(&reading, &line->value) &&
           take_type(&reading, &line->meta.type) &&
           take_time(&reading, FIELD_EXPIRES_AT, &line->meta.expires_ms) &&
           take_time(&reading, FIELD_MODIFIED_AT, &line->meta.modified_ms);
}
