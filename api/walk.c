/* Walking over checked JSON. See walk.h. */
#include "walk.h"

#include <string.h>

#include "text.h"

/* Blanks, and commas: the text has been checked, so they are where they have to be. */
static bool is_between(uint8_t byte)
{
    return byte == ' ' || byte == ',' || byte == '\n' || byte == '\r' || byte == '\t';
}

static void skip_between(struct api_walk *walk)
{
    while (walk->at < walk->end && is_between(*walk->at))
        walk->at++;
}

struct api_walk api_walk_begin(struct storm_slice text)
{
    struct api_walk walk = {text.data, text.data + text.size};
    skip_between(&walk);
    return walk;
}

uint8_t api_walk_kind(const struct api_walk *walk)
{
    return walk->at < walk->end ? *walk->at : 0;
}

bool api_walk_enter(struct api_walk *walk, uint8_t kind)
{
    if (api_walk_kind(walk) != kind)
        return false;
    walk->at++;
    return true;
}

bool api_walk_element(struct api_walk *walk)
{
    skip_between(walk);
    if (walk->at < walk->end && *walk->at != ']' && *walk->at != '}')
        return true;
    if (walk->at < walk->end)
        walk->at++;
    return false;
}

/* Behind the string that begins at `at`: its end is the first quote after an even number of
 * backslashes. */
static const uint8_t *string_end(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *from = at + 1;
    while (from < end) {
        const uint8_t *quote = memchr(from, '"', (size_t)(end - from));
        if (quote == NULL)
            return end;
        const uint8_t *before = quote;
        while (before > from && before[-1] == '\\')
            before--;
        /* `from` stands behind an escape, so no backslash before it counts. */
        if ((quote - before) % 2 == 0)
            return quote + 1;
        from = quote + 1;
    }
    return end;
}

bool api_walk_member(struct api_walk *walk, struct storm_slice *name)
{
    if (!api_walk_element(walk))
        return false;
    const uint8_t *start = walk->at;
    walk->at = string_end(start, walk->end);
    *name = storm_bytes(start, (size_t)(walk->at - start));
    while (walk->at < walk->end && (*walk->at == ':' || is_between(*walk->at)))
        walk->at++;
    return true;
}

static const uint8_t *container_end(const uint8_t *at, const uint8_t *end)
{
    size_t depth = 0;
    while (at < end) {
        switch (*at) {
        case '"':
            at = string_end(at, end);
            continue;
        case '{':
        case '[':
            depth++;
            break;
        case '}':
        case ']':
            depth--;
            break;
        default:
            break;
        }
        at++;
        if (depth == 0)
            break;
    }
    return at;
}

struct storm_slice api_walk_value(struct api_walk *walk)
{
    const uint8_t *start = walk->at;
    const uint8_t *at = start;
    switch (api_walk_kind(walk)) {
    case '"':
        at = string_end(at, walk->end);
        break;
    case '{':
    case '[':
        at = container_end(at, walk->end);
        break;
    default:
        while (at < walk->end && !is_between(*at) && *at != '}' && *at != ']')
            at++;
    }
    walk->at = at;
    return storm_bytes(start, (size_t)(at - start));
}

/* ---- Strings ---- */

static unsigned hex4(const uint8_t *at)
{
    unsigned code = 0;
    for (int i = 0; i < 4; i++)
        code = code << 4 | ((unsigned)api_hex_digit(at[i]) & 15);
    return code;
}

static size_t put_utf8(uint8_t *out, unsigned code)
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xc0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 63));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xe0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 63));
        out[2] = (uint8_t)(0x80 | (code & 63));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 63));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 63));
    out[3] = (uint8_t)(0x80 | (code & 63));
    return 4;
}

enum { ESCAPED_MAX = 4 };

/* Decode the escape at `at`, a backslash; *size bytes of it go to `out`. Behind it, or `end`. */
static const uint8_t *take_escape(const uint8_t *at, const uint8_t *end, uint8_t *out, size_t *size)
{
    static const char names[] = "bfnrt";
    static const char bytes[] = "\b\f\n\r\t";
    *size = 0;
    if (end - at < 2)
        return end;
    uint8_t kind = at[1];
    if (kind != 'u') {
        const char *found = strchr(names, kind);
        out[0] = found == NULL || kind == 0 ? kind : (uint8_t)bytes[found - names];
        *size = 1;
        return at + 2;
    }
    if (end - at < 6)
        return end;
    unsigned code = hex4(at + 2);
    at += 6;
    bool is_high = code >= 0xd800 && code < 0xdc00;
    if (is_high && end - at >= 6 && at[0] == '\\' && at[1] == 'u') {
        code = 0x10000 + ((code - 0xd800) << 10) + ((hex4(at + 2) - 0xdc00) & 0x3ff);
        at += 6;
    }
    *size = put_utf8(out, code);
    return at;
}

static struct storm_slice inside(struct storm_slice quoted)
{
    return quoted.size < 2 ? storm_bytes(quoted.data, 0)
                           : storm_bytes(quoted.data + 1, quoted.size - 2);
}

struct storm_slice api_walk_text(struct storm_slice quoted, uint8_t *out)
{
    struct storm_slice text = inside(quoted);
    if (text.size == 0 || memchr(text.data, '\\', text.size) == NULL)
        return text;
    const uint8_t *at = text.data;
    const uint8_t *end = at + text.size;
    size_t used = 0;
    while (at < end) {
        if (*at != '\\') {
            out[used++] = *at++;
            continue;
        }
        uint8_t bytes[ESCAPED_MAX];
        size_t size;
        at = take_escape(at, end, bytes, &size);
        memcpy(out + used, bytes, size);
        used += size;
    }
    return storm_bytes(out, used);
}

/* The bytes of a string, one by one. */
struct bytes_of {
    const uint8_t *at, *end;
    uint8_t escaped[ESCAPED_MAX];
    size_t escaped_at, escaped_size;
};

static int next_byte(struct bytes_of *text)
{
    if (text->escaped_at < text->escaped_size)
        return text->escaped[text->escaped_at++];
    if (text->at == text->end)
        return -1;
    if (*text->at != '\\')
        return *text->at++;
    text->at = take_escape(text->at, text->end, text->escaped, &text->escaped_size);
    text->escaped_at = 0;
    return next_byte(text);
}

int api_walk_compare(struct storm_slice left, struct storm_slice right)
{
    struct storm_slice a = inside(left);
    struct storm_slice b = inside(right);
    struct bytes_of left_bytes = {.at = a.data, .end = a.data + a.size};
    struct bytes_of right_bytes = {.at = b.data, .end = b.data + b.size};
    for (;;) {
        int byte = next_byte(&left_bytes);
        int difference = byte - next_byte(&right_bytes);
        if (difference != 0 || byte < 0)
            return difference;
    }
}
