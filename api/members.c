/*
 * Members of objects. See members.h.
 *
 * The text is known to be JSON, so a value ends where its brackets or its quotes do, and nothing is
 * checked but that reading stays inside.
 */
#include "members.h"

#include <string.h>

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

static void skip(struct storm_slice *rest, size_t size)
{
    rest->data += size;
    rest->size -= size;
}

static void skip_blanks(struct storm_slice *rest)
{
    while (rest->size > 0 && is_blank(rest->data[0]))
        skip(rest, 1);
}

/* The length of the string at the start of `text`, quotes included. */
static size_t string_length(struct storm_slice text)
{
    size_t at = 1;
    while (at < text.size && text.data[at] != '"')
        at += text.data[at] == '\\' ? 2 : 1;
    return at < text.size ? at + 1 : text.size;
}

static size_t bracket_length(struct storm_slice text)
{
    size_t depth = 0, at = 0;
    while (at < text.size) {
        uint8_t byte = text.data[at];
        if (byte == '"') {
            at += string_length(storm_bytes(text.data + at, text.size - at));
            continue;
        }
        at++;
        if (byte == '{' || byte == '[')
            depth++;
        else if ((byte == '}' || byte == ']') && --depth == 0)
            break;
    }
    return at;
}

static size_t value_length(struct storm_slice text)
{
    if (text.size == 0)
        return 0;
    if (text.data[0] == '"')
        return string_length(text);
    if (text.data[0] == '{' || text.data[0] == '[')
        return bracket_length(text);
    size_t at = 0;
    while (at < text.size && !is_blank(text.data[at]) && text.data[at] != ',' &&
           text.data[at] != '}' && text.data[at] != ']')
        at++;
    return at;
}

bool api_members_begin(struct storm_slice text, struct storm_slice *rest)
{
    *rest = text;
    skip_blanks(rest);
    if (rest->size == 0 || rest->data[0] != '{')
        return false;
    skip(rest, 1);
    return true;
}

bool api_members_next(struct storm_slice *rest, struct api_member *member)
{
    skip_blanks(rest);
    if (rest->size > 0 && rest->data[0] == ',') {
        skip(rest, 1);
        skip_blanks(rest);
    }
    if (rest->size < 2 || rest->data[0] != '"')
        return false;
    size_t length = string_length(*rest);
    member->name = storm_bytes(rest->data + 1, length - 2);
    skip(rest, length);
    skip_blanks(rest);
    if (rest->size > 0)
        skip(rest, 1); /* the colon */
    skip_blanks(rest);
    length = value_length(*rest);
    member->value = storm_bytes(rest->data, length);
    skip(rest, length);
    return true;
}

bool api_member_string(struct storm_slice value, struct storm_slice *inner)
{
    *inner = storm_bytes(NULL, 0);
    if (value.size < 2 || value.data[0] != '"')
        return false;
    *inner = storm_bytes(value.data + 1, value.size - 2);
    return true;
}

/* The four hex digits at `at`. */
static uint32_t code_unit(const uint8_t *at)
{
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t byte = at[i];
        uint32_t digit = byte <= '9' ? byte - (uint32_t)'0' : (byte | 0x20) - (uint32_t)'a' + 10;
        unit = unit << 4 | (digit & 15);
    }
    return unit;
}

/* Write a code point as UTF-8; returns its length, which is below that of its escape. */
static size_t put_utf8(uint8_t *to, uint32_t point)
{
    if (point < 0x80) {
        to[0] = (uint8_t)point;
        return 1;
    }
    size_t length = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        to[i] = (uint8_t)(0x80 | (point & 0x3f));
        point >>= 6;
    }
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    to[0] = (uint8_t)(leads[length] | point);
    return length;
}

static uint8_t simple_escape(uint8_t byte)
{
    switch (byte) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return byte; /* a quote or a slash of either kind */
    }
}

void api_json_unescape(uint8_t *bytes, size_t *size)
{
    uint8_t *first = *size == 0 ? NULL : memchr(bytes, '\\', *size);
    if (first == NULL)
        return;
    size_t out = (size_t)(first - bytes);
    for (size_t in = out; in < *size;) {
        if (bytes[in] != '\\' || in + 1 == *size) {
            bytes[out++] = bytes[in++];
            continue;
        }
        if (bytes[in + 1] != 'u' || *size - in < 6) {
            bytes[out++] = simple_escape(bytes[in + 1]);
            in += 2;
            continue;
        }
        uint32_t point = code_unit(bytes + in + 2);
        in += 6;
        bool is_high = point >= 0xd800 && point < 0xdc00;
        if (is_high && *size - in >= 6) {
            point = 0x10000 + ((point & 0x3ff) << 10) + (code_unit(bytes + in + 2) & 0x3ff);
            in += 6;
        }
        out += put_utf8(bytes + out, point);
    }
    *size = out;
}
