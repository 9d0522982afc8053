/*
 * One pass over JSON. See json_scan.h.
 *
 * The text is walked by two loops that never recurse: value() reads one value up to its first
 * nested one, after_value() closes what ends there. Which of the open containers are objects is
 * one bit each. Inside strings, eight bytes are looked at together for the three kinds that end a
 * plain run: a quote, a backslash, and what is no printable ASCII.
 *
 * Why there is an "unsure": jansson reads numbers with strtod() and refuses those past a double's
 * range, and nesting past 2,048. A number of at most DIGITS_MAX digits before the point and an
 * exponent of at most two is far inside; anything else is rare enough to be read by jansson itself.
 */
#include "json_scan.h"

#include <endian.h>
#include <string.h>

#include "text.h"

enum {
    DIGITS_MAX = 200, /* 10^200 * 10^99 is still a double */
    EXPONENT_DIGITS_MAX = 2,
    DEPTH_MAX = 2040,
};

struct scan {
    const uint8_t *at, *end;
    size_t depth;
    bool is_unsure;
    uint64_t objects[(DEPTH_MAX + 63) / 64]; /* a bit for each open container: it is an object */
};

static uint8_t peek(const struct scan *scan)
{
    return scan->at < scan->end ? *scan->at : 0; /* a zero byte is refused wherever it stands */
}

static void skip_blanks(struct scan *scan)
{
    while (scan->at < scan->end &&
           (*scan->at == ' ' || *scan->at == '\n' || *scan->at == '\r' || *scan->at == '\t'))
        scan->at++;
}

static bool take(struct scan *scan, uint8_t byte)
{
    if (scan->at == scan->end || *scan->at != byte)
        return false;
    scan->at++;
    return true;
}

static bool take_word(struct scan *scan, const char *word, size_t size)
{
    if ((size_t)(scan->end - scan->at) < size || memcmp(scan->at, word, size) != 0)
        return false;
    scan->at += size;
    return true;
}

/* ---- Numbers ---- */

static size_t skip_digits(struct scan *scan)
{
    const uint8_t *from = scan->at;
    while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9')
        scan->at++;
    return (size_t)(scan->at - from);
}

static bool number(struct scan *scan)
{
    take(scan, '-');
    bool is_zero = peek(scan) == '0';
    size_t digits = skip_digits(scan);
    if (digits == 0 || (is_zero && digits > 1))
        return false;
    if (take(scan, '.') && skip_digits(scan) == 0)
        return false;
    size_t exponent = 0;
    if (take(scan, 'e') || take(scan, 'E')) {
        if (!take(scan, '+'))
            take(scan, '-');
        exponent = skip_digits(scan);
        if (exponent == 0)
            return false;
    }
    scan->is_unsure |= digits > DIGITS_MAX || exponent > EXPONENT_DIGITS_MAX;
    return true;
}

/* ---- Strings ---- */

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Skip printable ASCII that is neither quote nor backslash. */
static void skip_plain(struct scan *scan)
{
    while (scan->end - scan->at >= 8) {
        uint64_t word;
        memcpy(&word, scan->at, sizeof word);
        word = le64toh(word);
        uint64_t quote = word ^ EACH('"');
        uint64_t backslash = word ^ EACH('\\');
        /* The lowest bit that is set in each of the four is exact: a borrow only goes upwards. */
        uint64_t hits = (word | ((word - EACH(' ')) & ~word) | ((quote - EACH(1)) & ~quote) |
                         ((backslash - EACH(1)) & ~backslash)) &
                        EACH(0x80);
        if (hits != 0) {
            scan->at += __builtin_ctzll(hits) / 8;
            return;
        }
        scan->at += 8;
    }
    while (scan->at < scan->end && *scan->at >= ' ' && *scan->at < 0x80 && *scan->at != '"' &&
           *scan->at != '\\')
        scan->at++;
}

/* Four hex digits; -1 when they are not there. */
static int hex4(struct scan *scan)
{
    int code = 0;
    for (int i = 0; i < 4; i++) {
        int digit = api_hex_digit(peek(scan));
        if (digit < 0)
            return -1;
        code = code * 16 + digit;
        scan->at++;
    }
    return code;
}

/* What follows a backslash. jansson takes \u0000 in values, but not in the names of members. */
static bool escape(struct scan *scan, bool is_name)
{
    uint8_t byte = peek(scan);
    scan->at++;
    if (byte != 'u')
        return byte != 0 && strchr("\"\\/bfnrt", byte) != NULL;
    int code = hex4(scan);
    if (code < 0 || (code == 0 && is_name))
        return false;
    if (code < 0xd800 || code > 0xdfff)
        return true;
    if (code > 0xdbff || !take(scan, '\\') || !take(scan, 'u'))
        return false;
    int low = hex4(scan);
    return low >= 0xdc00 && low <= 0xdfff;
}

/* One character of more than one byte (RFC 3629: no surrogates, no overlong forms). */
static bool multibyte(struct scan *scan)
{
    const uint8_t *at = scan->at;
    size_t left = (size_t)(scan->end - at);
    size_t size = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (at[0] < 0xc2 || at[0] > 0xf4 || left < size)
        return false;
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return false;
    }
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
        return false;
    scan->at += size;
    return true;
}

static bool string(struct scan *scan, bool is_name)
{
    if (!take(scan, '"'))
        return false;
    for (;;) {
        skip_plain(scan);
        if (scan->at == scan->end || *scan->at < ' ')
            return false;
        if (take(scan, '"'))
            return true;
        if (take(scan, '\\') ? scan->at == scan->end || !escape(scan, is_name) : !multibyte(scan))
            return false;
    }
}

/* ---- Values ---- */

static bool is_in_object(const struct scan *scan)
{
    size_t at = scan->depth - 1;
    return (scan->objects[at / 64] >> at % 64 & 1) != 0;
}

static bool open_container(struct scan *scan, bool is_object)
{
    if (scan->depth == DEPTH_MAX) {
        scan->is_unsure = true;
        return false;
    }
    uint64_t bit = UINT64_C(1) << scan->depth % 64;
    uint64_t *word = &scan->objects[scan->depth / 64];
    *word = is_object ? *word | bit : *word & ~bit;
    scan->depth++;
    return true;
}

/* The name of a member and its colon. */
static bool name(struct scan *scan)
{
    skip_blanks(scan);
    if (!string(scan, true))
        return false;
    skip_blanks(scan);
    return take(scan, ':');
}

/* Read a value, or the beginning of one up to where the next value is to be read; *is_open says
 * which. */
static bool value(struct scan *scan, bool *is_open)
{
    *is_open = false;
    skip_blanks(scan);
    switch (peek(scan)) {
    case '{':
        scan->at++;
        skip_blanks(scan);
        if (take(scan, '}'))
            return true;
        *is_open = true;
        return open_container(scan, true) && name(scan);
    case '[':
        scan->at++;
        skip_blanks(scan);
        if (take(scan, ']'))
            return true;
        *is_open = true;
        return open_container(scan, false);
    case '"':
        return string(scan, false);
    case 't':
        return take_word(scan, "true", 4);
    case 'f':
        return take_word(scan, "false", 5);
    case 'n':
        return take_word(scan, "null", 4);
    default:
        return number(scan);
    }
}

/* Close what ends behind a value, up to where the next is to be read; at depth 0 there is none. */
static bool after_value(struct scan *scan)
{
    while (scan->depth > 0) {
        bool is_object = is_in_object(scan);
        skip_blanks(scan);
        if (take(scan, ','))
            return !is_object || name(scan);
        if (!take(scan, is_object ? '}' : ']'))
            return false;
        scan->depth--;
    }
    return true;
}

enum api_json_verdict api_json_scan(struct storm_slice bytes)
{
    if (bytes.size == 0)
        return API_JSON_REFUSED; /* and no sums with what may be NULL */
    struct scan scan = {.at = bytes.data, .end = bytes.data + bytes.size};
    bool is_fine, is_open;
    do {
        is_fine = value(&scan, &is_open) && (is_open || after_value(&scan));
    } while (is_fine && scan.depth > 0);
    skip_blanks(&scan);
    if (scan.is_unsure)
        return API_JSON_UNSURE;
    return is_fine && scan.at == scan.end ? API_JSON_FINE : API_JSON_REFUSED;
}
