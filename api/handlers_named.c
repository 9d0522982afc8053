/*
 * GET /kv?key=a&key=b: several keys by name, in the order of the request, all of one state.
 *
 *   {"entries":[
 *   {"key":"a",...}
 *   ],"missing":["b"],"revision":58}
 */
#include <stdlib.h>

#include "kv.h"
#include "list.h"
#include "response.h"

/* All values together; without a bound a few names could ask for more memory than there is. */
enum { NAMED_BYTES = 64 << 20 };

struct named {
    size_t count;
    struct storm_lookup lookups[];
};

static void free_named(void *own)
{
    struct named *named = own;
    for (size_t i = 0; i < named->count; i++)
        storm_value_release(&named->lookups[i].value);
    free(named);
}

/* Look at the keys themselves. False with an answer on its way in *result. */
static bool check_keys(struct api_request *request, enum MHD_Result *result)
{
    uint64_t limit = request->server->config->limits_key_bytes;
    for (size_t i = 0; i < request->query.repeat_count; i++) {
        size_t size = request->query.repeats[i].size;
        if (size == 0) {
            *result = api_fail_code(request, API_ERROR_invalid_key, "A parameter key is empty.");
            return false;
        }
        if (size > limit) {
            *result = api_fail_code(request, API_ERROR_key_too_long,
                                    "A key is %zu bytes; the limit is %llu.", size,
                                    (unsigned long long)limit);
            return false;
        }
    }
    return true;
}

static void add_key(struct api_text *text, struct storm_slice key)
{
    if (api_is_utf8(key)) {
        api_text_add_json(text, key);
        return;
    }
    api_text_adds(text, "{");
    api_add_key(text, key);
    api_text_adds(text, "}");
}

static enum MHD_Result send_named(struct api_request *request, const struct named *named,
                                  uint64_t revision)
{
    struct api_text text, missing;
    /* An entry is its value, as base64 at worst, and what api_entry_room says: NAMED_BYTES and the
     * length of the target bound both. */
    api_text_init(&text, SIZE_MAX / 4);
    api_text_init(&missing, SIZE_MAX / 4);
    api_text_adds(&text, "{\"entries\":[");
    const char *separator = "\n";
    for (size_t i = 0; i < named->count; i++) {
        const struct storm_lookup *lookup = &named->lookups[i];
        if (lookup->status == STORM_NOT_FOUND) {
            api_text_adds(&missing, missing.size == 0 ? "" : ",");
            add_key(&missing, lookup->key);
            continue;
        }
        struct api_entry entry = {
            .key = lookup->key,
            .value = lookup->value.bytes,
            .meta = lookup->value.meta,
            .revision = lookup->value.revision,
        };
        api_text_adds(&text, separator);
        api_entry_add(&text, &entry, API_ENTRY_PLAIN, request->server->config->limits_json_bytes);
        separator = ",\n";
    }
    api_text_adds(&text, "\n],\"missing\":[");
    api_text_add(&text, missing.data, missing.size);
    api_text_addf(&text, "],\"revision\":%llu}\n", (unsigned long long)revision);
    text.has_failed = text.has_failed || missing.has_failed;
    api_text_fini(&missing);
    return api_send_json(request, MHD_HTTP_OK, &text);
}

enum MHD_Result api_kv_list_named(struct api_request *request)
{
    enum MHD_Result result;
    if (!check_keys(request, &result))
        return result;
    size_t count = request->query.repeat_count;
    struct named *named = calloc(1, sizeof *named + count * sizeof named->lookups[0]);
    if (named == NULL)
        return api_fail_store(request, STORM_NO_MEMORY);
    named->count = count;
    for (size_t i = 0; i < count; i++)
        named->lookups[i].key = request->query.repeats[i];
    request->own = named;
    request->free_own = free_named;
    uint64_t revision;
    storm_status status =
        storm_get_many(api_kv_store(request), NULL, named->lookups, count, &revision);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += named->lookups[i].value.bytes.size;
    if (bytes > NAMED_BYTES) {
        struct api_failure failure = {.code = API_ERROR_value_too_large,
                                      .hint = "Ask for fewer keys at once."};
        return api_fail(request, &failure,
                        "The values of these keys are %llu bytes together; the limit is %d.",
                        (unsigned long long)bytes, NAMED_BYTES);
    }
    return send_named(request, named, revision);
}
