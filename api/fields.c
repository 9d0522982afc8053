/* Header fields with a grammar. See fields.h. */
#include "fields.h"

#include <string.h>

#include "text.h"

static struct storm_slice from(struct storm_slice bytes, size_t start)
{
    return storm_bytes(bytes.data + start, bytes.size - start);
}

/* Between the quotes of an entity tag stand visible characters and bytes past ASCII. */
static bool is_tag_byte(uint8_t byte)
{
    return byte > ' ' && byte != '"' && byte != 0x7f;
}

/* The revision a tag's text stands for; 0, which no write has, for any other text. */
static uint64_t tag_revision(struct storm_slice text)
{
    if (text.size > 3 && memcmp(text.data + text.size - 3, "-gz", 3) == 0)
        text.size -= 3;
    uint64_t revision;
    bool is_canonical = text.size > 0 && text.data[0] != '0';
    return is_canonical && api_parse_number(text, &revision) ? revision : 0;
}

/* Take one entity tag off the front; false when there is none. */
static bool take_tag(struct storm_slice *rest, bool *is_weak, uint64_t *revision)
{
    *is_weak = rest->size >= 2 && memcmp(rest->data, "W/", 2) == 0;
    if (*is_weak)
        *rest = from(*rest, 2);
    if (rest->size == 0 || rest->data[0] != '"')
        return false;
    size_t end = 1;
    while (end < rest->size && is_tag_byte(rest->data[end]))
        end++;
    if (end == rest->size || rest->data[end] != '"')
        return false;
    *revision = tag_revision(storm_bytes(rest->data + 1, end - 1));
    *rest = from(*rest, end + 1);
    return true;
}

bool api_tags_parse(struct storm_slice field, bool is_strong, struct api_tags *tags)
{
    tags->is_present = true;
    tags->is_any = false;
    tags->count = 0;
    struct storm_slice rest = api_trim(field);
    if (api_equals(rest, "*")) {
        tags->is_any = true;
        return true;
    }
    size_t seen = 0;
    while (rest.size > 0) {
        if (rest.data[0] == ',') { /* RFC 9110 section 5.6.1: empty elements are ignored */
            rest = api_trim(from(rest, 1));
            continue;
        }
        bool is_weak;
        uint64_t revision;
        if (!take_tag(&rest, &is_weak, &revision) || ++seen > API_TAGS_MAX)
            return false;
        if (revision != 0 && !(is_weak && is_strong))
            tags->revisions[tags->count++] = revision;
        rest = api_trim(rest);
        if (rest.size > 0 && rest.data[0] != ',')
            return false;
    }
    return seen > 0;
}

bool api_tags_match(const struct api_tags *tags, uint64_t revision)
{
    if (tags->is_any)
        return true;
    for (size_t i = 0; i < tags->count; i++) {
        if (tags->revisions[i] == revision)
            return true;
    }
    return false;
}

enum api_prefer api_prefer_parse(struct storm_slice field)
{
    struct storm_slice rest = field;
    while (rest.size > 0) {
        struct storm_slice preference = api_take_until(&rest, ',');
        struct storm_slice word = api_take_until(&preference, ';');
        struct storm_slice name = api_take_until(&word, '=');
        struct storm_slice value = api_trim(word);
        if (!api_equals_nocase(name, "return"))
            continue;
        if (api_equals(value, "minimal") || api_equals(value, "\"minimal\""))
            return API_PREFER_MINIMAL;
        if (api_equals(value, "representation") || api_equals(value, "\"representation\""))
            return API_PREFER_REPRESENTATION;
    }
    return API_PREFER_NONE;
}

static bool ends_with_json(struct storm_slice type)
{
    struct storm_slice end = type.size < 5 ? type : from(type, type.size - 5);
    return api_equals_nocase(end, "+json");
}

enum api_media api_media_parse(struct storm_slice field)
{
    field = api_trim(field);
    if (field.size == 0)
        return API_MEDIA_JSON;
    struct storm_slice rest = field;
    struct storm_slice type = api_take_until(&rest, ';');
    if (api_equals_nocase(type, "application/json") ||
        api_equals_nocase(type, "application/x-www-form-urlencoded"))
        return API_MEDIA_JSON;
    struct storm_slice subtype = type;
    struct storm_slice top = api_take_until(&subtype, '/');
    if (!api_is_token(top) || !api_is_token(subtype) || api_equals_nocase(top, "multipart") ||
        field.size > API_MEDIA_TYPE_MAX)
        return API_MEDIA_REFUSED;
    for (size_t i = 0; i < field.size; i++) {
        if (field.data[i] < ' ' || field.data[i] > '~')
            return API_MEDIA_REFUSED;
    }
    return ends_with_json(type) ? API_MEDIA_JSON_AS : API_MEDIA_BYTES;
}

bool api_media_is_json(struct storm_slice type)
{
    struct storm_slice rest = type;
    struct storm_slice essence = api_take_until(&rest, ';');
    return essence.size == 0 || api_equals_nocase(essence, "application/json") ||
           ends_with_json(essence);
}

bool api_accept_names(struct storm_slice field, const char *type)
{
    struct storm_slice rest = field;
    while (rest.size > 0) {
        struct storm_slice range = api_take_until(&rest, ',');
        struct storm_slice essence = api_take_until(&range, ';');
        if (api_equals_nocase(essence, type))
            return true;
    }
    return false;
}
