/*
 * Request targets. See target.h.
 *
 * libmicrohttpd decodes paths in place and ends them at the first %00, so the handlers never look
 * at its url: the raw text is caught before it is touched and taken apart here, with lengths.
 */
#include "target.h"

#include <stdlib.h>
#include <string.h>

#include "text.h"

struct api_target api_target_split(struct storm_slice raw)
{
    struct api_target target = {.path = storm_bytes(NULL, 0), .query = storm_bytes(NULL, 0)};
    if (raw.size > 0 && raw.data[0] != '/') {
        /* Absolute form, which a server must accept (RFC 9112 section 3.2.2). */
        const uint8_t *scheme_end = memmem(raw.data, raw.size, "://", 3);
        if (scheme_end == NULL)
            return target;
        const uint8_t *authority = scheme_end + 3;
        const uint8_t *end = raw.data + raw.size;
        const uint8_t *path = memchr(authority, '/', (size_t)(end - authority));
        if (path == NULL)
            return target;
        raw = storm_bytes(path, (size_t)(end - path));
    }
    const uint8_t *mark = raw.size == 0 ? NULL : memchr(raw.data, '?', raw.size);
    if (mark == NULL) {
        target.path = raw;
        return target;
    }
    size_t path_size = (size_t)(mark - raw.data);
    target.path = storm_bytes(raw.data, path_size);
    target.query = storm_bytes(mark + 1, raw.size - path_size - 1);
    return target;
}

bool api_percent_decode(uint8_t *bytes, size_t *size, bool plus_is_blank)
{
    /* Most keys have no escape at all. */
    if (*size == 0 || (memchr(bytes, '%', *size) == NULL &&
                       (!plus_is_blank || memchr(bytes, '+', *size) == NULL)))
        return true;
    size_t out = 0;
    for (size_t in = 0; in < *size; in++) {
        uint8_t byte = bytes[in];
        if (byte == '%') {
            int high = in + 2 < *size ? api_hex_digit(bytes[in + 1]) : -1;
            int low = in + 2 < *size ? api_hex_digit(bytes[in + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            byte = (uint8_t)(high << 4 | low);
            in += 2;
        } else if (byte == '+' && plus_is_blank) {
            byte = ' ';
        }
        bytes[out++] = byte;
    }
    *size = out;
    return true;
}

static bool same(struct storm_slice left, struct storm_slice right)
{
    return left.size == right.size &&
           (left.size == 0 || memcmp(left.data, right.data, left.size) == 0);
}

/* Decode one name=value of `size` bytes. */
static bool decode_parameter(uint8_t *bytes, size_t size, struct api_parameter *parameter)
{
    uint8_t *equals = memchr(bytes, '=', size);
    size_t name_size = equals == NULL ? size : (size_t)(equals - bytes);
    size_t value_size = equals == NULL ? 0 : size - name_size - 1;
    uint8_t *value = equals == NULL ? bytes + size : equals + 1;
    bool is_fine =
        api_percent_decode(bytes, &name_size, true) && api_percent_decode(value, &value_size, true);
    *parameter =
        (struct api_parameter){storm_bytes(bytes, name_size), storm_bytes(value, value_size)};
    return is_fine;
}

/* Keep one more value of the repeatable parameter. `left` bytes of query are still to be read: each
 * further one takes its name at least, and a '&' between them, so the first room is room enough. */
static bool add_repeat(struct api_query *query, struct storm_slice value, size_t name_size,
                       size_t left)
{
    if (query->repeats == NULL) {
        size_t room = 1 + (left + 1) / (name_size + 1);
        query->repeats = malloc(room * sizeof *query->repeats);
        if (query->repeats == NULL)
            return false;
    }
    query->repeats[query->repeat_count++] = value;
    return true;
}

static enum api_query_fault add_parameter(struct api_query *query,
                                          const struct api_parameter *parameter, bool may_repeat)
{
    for (size_t i = 0; i < query->count; i++) {
        if (same(query->parameters[i].name, parameter->name))
            return may_repeat ? API_QUERY_FINE : API_QUERY_TWICE;
    }
    if (query->count == API_PARAMETERS_MAX)
        return API_QUERY_TOO_MANY;
    query->parameters[query->count++] = *parameter;
    return API_QUERY_FINE;
}

enum api_query_fault api_query_parse(uint8_t *bytes, size_t size, const char *repeatable,
                                     struct api_query *query, const struct api_parameter **culprit)
{
    struct storm_slice many = storm_text(repeatable == NULL ? "" : repeatable);
    query->count = 0;
    query->repeat_count = 0;
    query->repeats = NULL;
    while (size > 0) {
        uint8_t *end = memchr(bytes, '&', size);
        size_t piece = end == NULL ? size : (size_t)(end - bytes);
        size_t step = end == NULL ? size : piece + 1;
        if (piece > 0) {
            struct api_parameter *parameter = &query->met;
            *culprit = parameter;
            if (!decode_parameter(bytes, piece, parameter))
                return API_QUERY_ESCAPE;
            bool may_repeat = many.size != 0 && same(parameter->name, many);
            enum api_query_fault fault = add_parameter(query, parameter, may_repeat);
            if (fault != API_QUERY_FINE)
                return fault;
            if (may_repeat && !add_repeat(query, parameter->value, many.size, size - step))
                return API_QUERY_NO_MEMORY;
        }
        bytes += step;
        size -= step;
    }
    *culprit = NULL;
    return API_QUERY_FINE;
}

void api_query_fini(struct api_query *query)
{
    free(query->repeats);
    query->repeats = NULL;
    query->repeat_count = 0;
    query->count = 0;
}

const struct api_parameter *api_query_find(const struct api_query *query, const char *name)
{
    size_t size = strlen(name);
    for (size_t i = 0; i < query->count; i++) {
        const struct api_parameter *parameter = &query->parameters[i];
        if (parameter->name.size == size && memcmp(parameter->name.data, name, size) == 0)
            return parameter;
    }
    return NULL;
}
