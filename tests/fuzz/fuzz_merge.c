/*
 * Two JSON texts, with a zero byte between them: document and merge patch. The patched text must be
 * JSON and say what RFC 7396's own algorithm makes of the two parsed; a patch with no member must
 * change not one byte of an object.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "merge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* The algorithm of section 2, on trees; gives a new reference. */
static json_t *merge(json_t *target, json_t *patch)
{
    if (!json_is_object(patch))
        return json_incref(patch);
    json_t *result = json_object();
    const char *name;
    json_t *value;
    if (json_is_object(target))
        require(json_object_update(result, target) == 0);
    json_object_foreach(patch, name, value)
    {
        if (json_is_null(value))
            json_object_del(result, name);
        else
            json_object_set_new(result, name, merge(json_object_get(result, name), value));
    }
    return result;
}

static json_t *parse(struct storm_slice text)
{
    struct api_json_error error;
    if (!api_json_check(text, &error))
        return NULL;
    return json_loadb((const char *)text.data, text.size,
                      JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
}

static void compare(struct storm_slice document, struct storm_slice patch, json_t *wanted)
{
    struct api_text text;
    api_text_init(&text, 1 << 20);
    storm_status status = api_merge(document, patch, &text);
    require(status == STORM_OK || status == STORM_INVALID);
    if (status == STORM_OK && !text.has_failed) {
        json_t *found = parse(storm_bytes(text.data, text.size));
        require(found != NULL && json_equal(found, wanted));
        json_decref(found);
    }
    api_text_fini(&text);
}

static void change_nothing(struct storm_slice document)
{
    struct api_text text;
    api_text_init(&text, document.size);
    require(api_merge(document, storm_text("{}"), &text) == STORM_OK);
    require(!text.has_failed && text.size <= document.size);
    /* Only the blanks of an object without members go away. */
    require(text.size != document.size || memcmp(text.data, document.data, text.size) == 0);
    api_text_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size == 0 ? NULL : memchr(data, 0, size);
    if (zero == NULL)
        return 0;
    size_t before = (size_t)(zero - data);
    size_t behind = size - before - 1;
    /* Each in memory of exactly its size. */
    uint8_t *left = malloc(before + 1);
    uint8_t *right = malloc(behind + 1);
    require(left != NULL && right != NULL);
    uint8_t *document = left + 1;
    uint8_t *patch = right + 1;
    memcpy(document, data, before);
    memcpy(patch, zero + 1, behind);
    json_t *target = parse(storm_bytes(document, before));
    json_t *change = parse(storm_bytes(patch, behind));
    if (target != NULL && change != NULL) {
        json_t *wanted = merge(target, change);
        compare(storm_bytes(document, before), storm_bytes(patch, behind), wanted);
        json_decref(wanted);
        if (json_is_object(target))
            change_nothing(storm_bytes(document, before));
    }
    json_decref(target);
    json_decref(change);
    free(left);
    free(right);
    return 0;
}
