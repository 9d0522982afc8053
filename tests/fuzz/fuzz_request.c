/*
 * Everything that is read from a request before its body: target, query, entity tags, Prefer, media
 * types, times. The input is split at newlines: target, If-Match, Prefer, Content-Type, Accept. All
 * of it lies in memory of exactly its size, so that a byte read past the end is a report.
 */
#include <stdlib.h>
#include <string.h>

#include "fields.h"
#include "moment.h"
#include "router.h"
#include "target.h"
#include "text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* The next line in memory of its own. */
static struct storm_slice take_line(const uint8_t **data, size_t *size, uint8_t **owned)
{
    const uint8_t *end = *size == 0 ? NULL : memchr(*data, '\n', *size);
    size_t length = end == NULL ? *size : (size_t)(end - *data);
    *owned = malloc(length == 0 ? 1 : length);
    require(*owned != NULL);
    if (length > 0)
        memcpy(*owned, *data, length);
    size_t step = end == NULL ? length : length + 1;
    *data += step;
    *size -= step;
    return storm_bytes(*owned, length);
}

static void read_target(struct storm_slice raw, uint8_t *owned)
{
    struct api_target target = api_target_split(raw);
    struct storm_slice key;
    char allow[API_ALLOW_MAX];
    const struct api_route *route = api_route_find("GET", target.path, &key, allow);
    require(route == NULL || !route->has_key || key.size <= raw.size);
    if (route != NULL && route->has_key && key.size > 0) {
        size_t size = key.size;
        bool is_fine = api_percent_decode(owned + (key.data - owned), &size, false);
        require(!is_fine || size <= key.size);
    }
    if (target.query.size == 0)
        return;
    struct api_query query;
    const struct api_parameter *culprit;
    uint8_t *bytes = owned + (target.query.data - owned);
    if (api_query_parse(bytes, target.query.size, "key", &query, &culprit) != API_QUERY_FINE) {
        api_query_fini(&query);
        return;
    }
    for (size_t i = 0; i < query.count; i++) {
        uint64_t ms;
        if (api_parse_rfc3339(query.parameters[i].value, &ms)) {
            char text[API_RFC3339_MAX];
            uint64_t back;
            bool is_read = api_parse_rfc3339(storm_text(api_format_rfc3339(text, ms)), &back);
            require(is_read && (back == ms || ms > API_LAST_MS));
        }
        if (api_parse_duration(query.parameters[i].value, &ms))
            require(ms >= 1000);
    }
    api_query_fini(&query);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *owned;
    struct storm_slice line = take_line(&data, &size, &owned);
    read_target(line, owned);
    struct api_text text;
    api_text_init(&text, 1 << 16);
    api_text_add_json(&text, line);
    require(text.has_failed || api_is_utf8(storm_bytes(text.data, text.size)));
    api_text_fini(&text);
    free(owned);

    line = take_line(&data, &size, &owned);
    struct api_tags tags;
    for (int is_strong = 0; is_strong < 2; is_strong++) {
        bool is_fine = api_tags_parse(line, is_strong == 1, &tags);
        require(tags.count <= API_TAGS_MAX &&
                (!is_fine || !api_tags_match(&tags, 0) || tags.is_any));
    }
    free(owned);

    line = take_line(&data, &size, &owned);
    (void)api_prefer_parse(line);
    free(owned);

    line = take_line(&data, &size, &owned);
    enum api_media media = api_media_parse(line);
    require(media == API_MEDIA_REFUSED || media == API_MEDIA_JSON ||
            api_trim(line).size <= API_MEDIA_TYPE_MAX);
    require(media != API_MEDIA_JSON_AS || api_media_is_json(api_trim(line)));
    free(owned);

    line = take_line(&data, &size, &owned);
    (void)api_accept_names(line, "application/json");
    free(owned);
    return 0;
}
