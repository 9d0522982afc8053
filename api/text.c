/*
 * Bounded text. See text.h.
 *
 * A text that has failed keeps what it had; callers look at has_failed once, when they turn it into
 * an answer. JSON strings are written with the fewest escapes RFC 8259 allows, so that keys stay
 * readable in a terminal.
 */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Most answers are below this; it keeps the common case at one allocation. */
enum { FIRST_ROOM = 256 };

void api_text_init(struct api_text *text, size_t max)
{
    *text = (struct api_text){.max = max};
}

void api_text_fini(struct api_text *text)
{
    free(text->data);
    api_text_init(text, text->max);
}

bool api_text_reserve(struct api_text *text, size_t size)
{
    if (text->has_failed || size > text->max - text->size) {
        text->has_failed = true;
        return false;
    }
    size_t needed = text->size + size;
    if (needed <= text->room)
        return true;
    size_t room = text->room < FIRST_ROOM / 2 ? FIRST_ROOM : text->room * 2;
    if (room < needed)
        room = needed;
    char *data = realloc(text->data, room);
    if (data == NULL) {
        text->has_failed = true;
        return false;
    }
    text->data = data;
    text->room = room;
    return true;
}

void api_text_add(struct api_text *text, const void *data, size_t size)
{
    if (size == 0 || !api_text_reserve(text, size))
        return;
    memcpy(text->data + text->size, data, size);
    text->size += size;
}

void api_text_adds(struct api_text *text, const char *word)
{
    api_text_add(text, word, strlen(word));
}

void api_text_addf(struct api_text *text, const char *format, ...)
{
    /* Numbers and short sentences; a longer text would be cut, so it counts as a failure. */
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof line) {
        text->has_failed = true;
        return;
    }
    api_text_add(text, line, (size_t)length);
}

/* The length of the well-formed UTF-8 sequence at the start of `bytes`; 0 when there is none. */
static size_t utf8_length(struct storm_slice bytes)
{
    const uint8_t *at = bytes.data;
    uint8_t lead = at[0];
    if (lead < 0x80)
        return 1;
    size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (lead < 0xc2 || lead > 0xf4 || bytes.size < length)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    }
    bool is_overlong = (lead == 0xe0 && at[1] < 0xa0) || (lead == 0xf0 && at[1] < 0x90);
    bool is_surrogate = lead == 0xed && at[1] > 0x9f;
    bool is_too_high = lead == 0xf4 && at[1] > 0x8f;
    return is_overlong || is_surrogate || is_too_high ? 0 : length;
}

bool api_is_utf8(struct storm_slice bytes)
{
    size_t at = 0;
    while (at < bytes.size) {
        size_t length = utf8_length(storm_bytes(bytes.data + at, bytes.size - at));
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}

static void add_escaped(struct api_text *text, uint8_t byte)
{
    switch (byte) {
    case '"':
        api_text_add(text, "\\\"", 2);
        break;
    case '\\':
        api_text_add(text, "\\\\", 2);
        break;
    case '\n':
        api_text_add(text, "\\n", 2);
        break;
    case '\r':
        api_text_add(text, "\\r", 2);
        break;
    case '\t':
        api_text_add(text, "\\t", 2);
        break;
    default:
        api_text_addf(text, "\\u%04x", byte);
    }
}

void api_text_add_json(struct api_text *text, struct storm_slice bytes)
{
    api_text_add(text, "\"", 1);
    size_t start = 0;
    size_t at = 0;
    while (at < bytes.size) {
        uint8_t byte = bytes.data[at];
        size_t length = utf8_length(storm_bytes(bytes.data + at, bytes.size - at));
        bool is_plain = length != 0 && byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7f;
        if (is_plain) {
            at += length;
            continue;
        }
        if (at > start)
            api_text_add(text, bytes.data + start, at - start);
        if (length == 0)
            api_text_adds(text, "\xef\xbf\xbd");
        else
            add_escaped(text, byte);
        at++;
        start = at;
    }
    if (at > start)
        api_text_add(text, bytes.data + start, at - start);
    api_text_add(text, "\"", 1);
}

static bool is_unreserved(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_' || byte == '~';
}

void api_text_add_percent(struct api_text *text, struct storm_slice bytes)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t byte = bytes.data[i];
        char escaped[3] = {'%', digits[byte >> 4], digits[byte & 15]};
        if (is_unreserved(byte))
            api_text_add(text, &byte, 1);
        else
            api_text_add(text, escaped, sizeof escaped);
    }
}

void api_text_add_base64(struct api_text *text, struct storm_slice bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t groups = bytes.size / 3 + (bytes.size % 3 != 0);
    if (bytes.size == 0 || !api_text_reserve(text, groups * 4))
        return;
    char *out = text->data + text->size;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        uint32_t group = (uint32_t)bytes.data[i] << 16;
        if (left > 1)
            group |= (uint32_t)bytes.data[i + 1] << 8;
        if (left > 2)
            group |= bytes.data[i + 2];
        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = (char)(left > 1 ? digits[group >> 6 & 63] : '=');
        *out++ = (char)(left > 2 ? digits[group & 63] : '=');
    }
    text->size += groups * 4;
}

size_t api_format_number(char text[API_NUMBER_MAX], uint64_t number)
{
    char reversed[API_NUMBER_MAX];
    size_t length = 0;
    do {
        reversed[length++] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    for (size_t i = 0; i < length; i++)
        text[i] = reversed[length - 1 - i];
    text[length] = '\0';
    return length;
}

bool api_parse_number(struct storm_slice digits, uint64_t *number)
{
    *number = 0;
    if (digits.size == 0)
        return false;
    uint64_t sum = 0;
    for (size_t i = 0; i < digits.size; i++) {
        uint8_t byte = digits.data[i];
        if (byte < '0' || byte > '9' || sum > (UINT64_MAX - (uint64_t)(byte - '0')) / 10)
            return false;
        sum = sum * 10 + (uint64_t)(byte - '0');
    }
    *number = sum;
    return true;
}

bool api_equals(struct storm_slice bytes, const char *word)
{
    return bytes.size == strlen(word) && memcmp(bytes.data, word, bytes.size) == 0;
}

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
}

bool api_equals_nocase(struct storm_slice bytes, const char *word)
{
    if (bytes.size != strlen(word))
        return false;
    for (size_t i = 0; i < bytes.size; i++) {
        if (lower(bytes.data[i]) != lower((uint8_t)word[i]))
            return false;
    }
    return true;
}

struct storm_slice api_trim(struct storm_slice bytes)
{
    while (bytes.size > 0 && (bytes.data[0] == ' ' || bytes.data[0] == '\t'))
        bytes = storm_bytes(bytes.data + 1, bytes.size - 1);
    while (bytes.size > 0 &&
           (bytes.data[bytes.size - 1] == ' ' || bytes.data[bytes.size - 1] == '\t'))
        bytes.size--;
    return bytes;
}

struct storm_slice api_take_until(struct storm_slice *rest, uint8_t mark)
{
    const uint8_t *end = rest->size == 0 ? NULL : memchr(rest->data, mark, rest->size);
    size_t size = end == NULL ? rest->size : (size_t)(end - rest->data);
    struct storm_slice part = storm_bytes(rest->data, size);
    *rest = end == NULL ? storm_bytes(NULL, 0)
                        : storm_bytes(rest->data + size + 1, rest->size - size - 1);
    return api_trim(part);
}

int api_slice_compare(struct storm_slice left, struct storm_slice right)
{
    size_t size = left.size < right.size ? left.size : right.size;
    int order = size == 0 ? 0 : memcmp(left.data, right.data, size);
    return order != 0 ? order : (left.size > right.size) - (left.size < right.size);
}

bool api_begins_with(struct storm_slice bytes, struct storm_slice prefix)
{
    return prefix.size == 0 ||
           (bytes.size >= prefix.size && memcmp(bytes.data, prefix.data, prefix.size) == 0);
}

int api_hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Bit c % 64 of word c / 64 is set when the ASCII character c may stand in a token. */
#define RANGE(first, last) ((~UINT64_C(0) >> (63 - ((last) - (first)))) << ((first) % 64))
#define ONE(c)             RANGE(c, c)
static const uint64_t token_bits[2] = {
    ONE('!') | RANGE('#', '\'') | ONE('*') | ONE('+') | ONE('-') | ONE('.') | RANGE('0', '9'),
    RANGE('A', 'Z') | RANGE('^', 'z') | ONE('|') | ONE('~'),
};

bool api_is_token(struct storm_slice bytes)
{
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t byte = bytes.data[i];
        if (byte >= 0x80 || (token_bits[byte / 64] >> byte % 64 & 1) == 0)
            return false;
    }
    return bytes.size > 0;
}
