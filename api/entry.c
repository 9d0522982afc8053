/*
 * Entries as JSON. See entry.h.
 *
 * Lists write a million of these in a second, so what all entries have is put together without
 * printf: two numbers and two times are 30 ns instead of 600.
 */
#include "entry.h"

#include <string.h>

#include "fields.h"
#include "json.h"
#include "moment.h"

/* All but the key, with room to spare: three numbers, and 127 bytes of type, six for each at
 * worst. */
enum { FIXED_ROOM = 1024 };

/* Revision, two times and the brace: 114 bytes at most. */
enum { REST_ROOM = 128 };

size_t api_entry_room(size_t key_size)
{
    /* A control character takes six bytes. */
    return key_size * 6 + FIXED_ROOM;
}

void api_add_key(struct api_text *text, struct storm_slice key)
{
    if (api_is_utf8(key)) {
        api_text_adds(text, "\"key\":");
        api_text_add_json(text, key);
        return;
    }
    api_text_adds(text, "\"key_b64\":\"");
    api_text_add_base64(text, key);
    api_text_adds(text, "\"");
}

bool api_entry_is_json(struct storm_slice value, struct storm_slice type, size_t json_limit)
{
    struct api_json_error error;
    return api_media_is_json(type) && value.size <= json_limit && api_json_check(value, &error);
}

void api_entry_begin(struct api_text *text, struct storm_slice key, bool is_json)
{
    api_text_adds(text, "{");
    api_add_key(text, key);
    api_text_adds(text, is_json ? ",\"value\":" : ",\"value_b64\":\"");
}

static char *put(char *at, const char *word, size_t size)
{
    memcpy(at, word, size);
    return at + size;
}

#define PUT(at, word) put(at, word, sizeof(word) - 1)

static char *put_time(char *at, uint64_t ms)
{
    if (ms == 0)
        return PUT(at, "null");
    *at++ = '"';
    api_format_rfc3339(at, ms);
    at += API_RFC3339_MAX - 1;
    *at++ = '"';
    return at;
}

/* Everything behind the value, up to the brace. */
static void add_rest(struct api_text *text, const struct storm_meta *meta, uint64_t revision,
                     bool is_json)
{
    if (!is_json)
        api_text_add(text, "\"", 1);
    if (meta->type.size != 0 || !is_json) {
        api_text_adds(text, ",\"content_type\":");
        api_text_add_json(text, meta->type.size != 0 ? meta->type : storm_text("application/json"));
    }
    if (!api_text_reserve(text, REST_ROOM))
        return;
    char *start = text->data + text->size;
    char *at = PUT(start, ",\"revision\":");
    at += api_format_number(at, revision);
    at = put_time(PUT(at, ",\"modified_at\":"), meta->modified_ms);
    at = put_time(PUT(at, ",\"expires_at\":"), meta->expires_ms);
    *at++ = '}';
    text->size += (size_t)(at - start);
}

void api_entry_end(struct api_text *text, const struct storm_meta *meta, uint64_t revision,
                   bool is_json)
{
    add_rest(text, meta, revision, is_json);
    api_text_add(text, "\n", 1);
}

static bool has_line_break(struct storm_slice value)
{
    return value.size != 0 && (memchr(value.data, '\n', value.size) != NULL ||
                               memchr(value.data, '\r', value.size) != NULL);
}

static void add_in_one_line(struct api_text *text, struct storm_slice value)
{
    size_t start = text->size;
    api_text_add(text, value.data, value.size);
    for (size_t at = start; at < text->size; at++) {
        if (text->data[at] == '\n' || text->data[at] == '\r')
            text->data[at] = ' ';
    }
}

void api_entry_add(struct api_text *text, const struct api_entry *entry, enum api_entry_style style,
                   size_t json_limit)
{
    bool is_json = api_entry_is_json(entry->value, entry->meta.type, json_limit);
    bool is_broken = is_json && style != API_ENTRY_PLAIN && has_line_break(entry->value);
    if (is_broken && style == API_ENTRY_EXACT)
        is_json = false;
    api_entry_begin(text, entry->key, is_json);
    if (!is_json)
        api_text_add_base64(text, entry->value);
    else if (is_broken)
        add_in_one_line(text, entry->value);
    else
        api_text_add(text, entry->value.data, entry->value.size);
    add_rest(text, &entry->meta, entry->revision, is_json);
}
