/*
 * Base64. See base64.h.
 *
 * Four characters are three bytes; the last group may be two characters for one byte or three for
 * two. Only the one spelling that an encoder writes is read, so that two cursors or keys that
 * differ never decode to the same bytes.
 */
#include "base64.h"

#include <string.h>

static int digit_of(uint8_t byte, bool is_url)
{
    if (byte >= 'A' && byte <= 'Z')
        return byte - 'A';
    if (byte >= 'a' && byte <= 'z')
        return byte - 'a' + 26;
    if (byte >= '0' && byte <= '9')
        return byte - '0' + 52;
    if (byte == (is_url ? '-' : '+'))
        return 62;
    if (byte == (is_url ? '_' : '/'))
        return 63;
    return -1;
}

/* Decode a group of 2 to 4 characters into one byte less; false when it is none. */
static bool decode_group(const uint8_t *in, size_t count, bool is_url, uint8_t *out)
{
    uint32_t group = 0;
    for (size_t i = 0; i < 4; i++) {
        int digit = i < count ? digit_of(in[i], is_url) : 0;
        if (digit < 0)
            return false;
        group = group << 6 | (uint32_t)digit;
    }
    uint8_t bytes[3] = {(uint8_t)(group >> 16), (uint8_t)(group >> 8), (uint8_t)group};
    for (size_t i = count - 1; i < 3; i++) {
        if (bytes[i] != 0)
            return false;
    }
    memcpy(out, bytes, count - 1);
    return true;
}

static bool decode(uint8_t *bytes, size_t *size, bool is_url)
{
    size_t left = *size;
    if (left % 4 == 1)
        return false;
    size_t out = 0;
    for (size_t in = 0; left > 0;) {
        size_t count = left < 4 ? left : 4;
        if (!decode_group(bytes + in, count, is_url, bytes + out))
            return false;
        in += count;
        left -= count;
        out += count - 1;
    }
    *size = out;
    return true;
}

bool api_base64_decode(uint8_t *bytes, size_t *size)
{
    if (*size % 4 != 0)
        return false;
    for (int i = 0; i < 2 && *size > 0 && bytes[*size - 1] == '='; i++)
        --*size;
    return decode(bytes, size, false);
}

void api_base64url_add(struct api_text *text, struct storm_slice bytes)
{
    size_t start = text->size;
    api_text_add_base64(text, bytes);
    for (size_t i = start; i < text->size; i++) {
        char *at = &text->data[i];
        *at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
    }
    while (text->size > start && text->data[text->size - 1] == '=')
        text->size--;
}

bool api_base64url_decode(uint8_t *bytes, size_t *size)
{
    return decode(bytes, size, true);
}
