/*
 * Tuples as keys. After the tuple layer of FoundationDB, with one difference (see strings).
 *
 *      bytes    0x01  contents, each 0x00 as 0x00 0xff  0x00 0x01
 *      text     0x02  the same
 *      integer  0x14 - n  n bytes, big-endian, ~magnitude     negative, n = 1 to 8
 *               0x14                                          zero
 *               0x14 + n  n bytes, big-endian, magnitude      positive, n = 1 to 8
 *      double   0x21  8 bytes, big-endian; negative: all bits turned, else the sign bit
 *      bool     0x26 false, 0x27 true
 *
 * Why this sorts right. Integers: the tag grows with the size of positive numbers and shrinks with
 * that of negative ones, so it decides unless sizes are equal; then the bytes do. Strings: where
 * one ends and the other goes on, the terminator's 0x00 meets a byte that is larger, or an escaped
 * zero, and then 0x01 meets 0xff. No encoded element is the beginning of another one, hence a tuple
 * is a prefix, in bytes, of exactly the tuples that begin with it. (FoundationDB ends strings with
 * a single 0x00, and there ("a") is a prefix of ("a\0") too; one byte more is worth that clarity.)
 *
 * A value has one encoding. The reader refuses every other: integers with leading zero bytes or
 * below
 * -2^63, a 0x00 in a string followed by anything but 0xff or 0x01. So two keys that read alike are
 * alike, and what the reader accepts the writer would have written; the fuzzer holds it to that.
 */
#include "storm/key.h"

enum {
    TAG_BYTES = 0x01,
    TAG_TEXT = 0x02,
    TAG_ZERO = 0x14,
    TAG_LEAST = TAG_ZERO - 8, /* integers of 8 bytes, negative and positive */
    TAG_MOST = TAG_ZERO + 8,
    TAG_DOUBLE = 0x21,
    TAG_FALSE = 0x26,
    TAG_TRUE = 0x27,

    ESCAPE = 0x00,
    ESCAPED_ZERO = 0xff,
    TERMINATOR = 0x01,
};

/* ---- Writing --------------------------------------------------------------------------------- */

static void add(struct storm_key_writer *writer, const void *data, size_t size)
{
    /* Once something did not fit nothing more is written, and the count cannot wrap around. */
    if (writer->size <= writer->room && size <= writer->room - writer->size && size > 0)
        memcpy(writer->data + writer->size, data, size);
    writer->size = size <= SIZE_MAX - writer->size ? writer->size + size : SIZE_MAX;
}

static void add_string(struct storm_key_writer *writer, uint8_t tag, struct storm_slice x)
{
    static const uint8_t zero[2] = {ESCAPE, ESCAPED_ZERO};
    static const uint8_t end[2] = {ESCAPE, TERMINATOR};
    add(writer, &tag, 1);
    while (x.size > 0) {
        const uint8_t *found = memchr(x.data, 0, x.size);
        size_t plain = found != NULL ? (size_t)(found - x.data) : x.size;
        add(writer, x.data, plain);
        if (found != NULL) {
            add(writer, zero, sizeof zero);
            plain++;
        }
        x = storm_bytes(x.data + plain, x.size - plain);
    }
    add(writer, end, sizeof end);
}

void storm_key_add_bytes(struct storm_key_writer *writer, struct storm_slice x)
{
    add_string(writer, TAG_BYTES, x);
}

void storm_key_add_text(struct storm_key_writer *writer, struct storm_slice x)
{
    add_string(writer, TAG_TEXT, x);
}

static void add_integer(struct storm_key_writer *writer, uint64_t magnitude, bool is_negative)
{
    uint8_t bytes[9];
    unsigned size = 0;
    for (uint64_t rest = magnitude; rest != 0; rest >>= 8)
        size++;
    bytes[0] = (uint8_t)(is_negative ? TAG_ZERO - size : TAG_ZERO + size);
    storm_key_store_(bytes + 1, size, is_negative ? ~magnitude : magnitude);
    add(writer, bytes, 1 + size);
}

void storm_key_add_i64(struct storm_key_writer *writer, int64_t x)
{
    add_integer(writer, x < 0 ? 0 - (uint64_t)x : (uint64_t)x, x < 0);
}

void storm_key_add_u64(struct storm_key_writer *writer, uint64_t x)
{
    add_integer(writer, x, false);
}

void storm_key_add_double(struct storm_key_writer *writer, double x)
{
    uint8_t bytes[9] = {TAG_DOUBLE};
    storm_key_double(bytes + 1, x);
    add(writer, bytes, sizeof bytes);
}

void storm_key_add_bool(struct storm_key_writer *writer, bool x)
{
    uint8_t tag = x ? TAG_TRUE : TAG_FALSE;
    add(writer, &tag, 1);
}

struct storm_slice storm_key_prefix_end(uint8_t *room, struct storm_slice prefix)
{
    size_t size = prefix.size;
    while (size > 0 && prefix.data[size - 1] == 0xff)
        size--;
    if (size == 0)
        return storm_bytes(NULL, 0);
    memmove(room, prefix.data, size);
    room[size - 1]++;
    return storm_bytes(room, size);
}

/* ---- Reading --------------------------------------------------------------------------------- */

enum storm_key_type storm_key_next_type(const struct storm_key_reader *reader)
{
    if (reader->left == 0)
        return STORM_KEY_END;
    switch (reader->at[0]) {
    case TAG_BYTES:
        return STORM_KEY_BYTES;
    case TAG_TEXT:
        return STORM_KEY_TEXT;
    case TAG_DOUBLE:
        return STORM_KEY_DOUBLE;
    case TAG_FALSE:
    case TAG_TRUE:
        return STORM_KEY_BOOL;
    default:
        return reader->at[0] >= TAG_LEAST && reader->at[0] <= TAG_MOST ? STORM_KEY_INTEGER
                                                                       : STORM_KEY_UNKNOWN;
    }
}

static void advance(struct storm_key_reader *reader, size_t size)
{
    reader->at += size;
    reader->left -= size;
}

/* An integer as sign and magnitude; *size is what it takes. Does not move the reader. */
static storm_status peek_integer(const struct storm_key_reader *reader, uint64_t *magnitude,
                                 bool *is_negative, size_t *size)
{
    if (storm_key_next_type(reader) != STORM_KEY_INTEGER)
        return STORM_INVALID;
    int width = reader->at[0] - TAG_ZERO;
    *is_negative = width < 0;
    unsigned bytes = (unsigned)(width < 0 ? -width : width);
    if (bytes > reader->left - 1)
        return STORM_INVALID;

    uint64_t x = storm_key_load_(reader->at + 1, bytes);
    if (*is_negative)
        x = ~x & UINT64_MAX >> (64 - 8 * bytes);
    if (bytes > 0 && x >> (8 * (bytes - 1)) == 0)
        return STORM_INVALID; /* a leading zero byte */
    if (*is_negative && x > UINT64_C(1) << 63)
        return STORM_INVALID;
    *magnitude = x;
    *size = 1 + bytes;
    return STORM_OK;
}

static storm_status next_signed(struct storm_key_reader *reader, uint64_t most, int64_t *x)
{
    uint64_t magnitude;
    bool is_negative;
    size_t size;
    *x = 0;
    if (peek_integer(reader, &magnitude, &is_negative, &size) != STORM_OK ||
        magnitude > most + is_negative)
        return STORM_INVALID;
    /* By way of magnitude - 1: that of the least number has no positive twin. */
    *x = is_negative ? -(int64_t)(magnitude - 1) - 1 : (int64_t)magnitude;
    advance(reader, size);
    return STORM_OK;
}

static storm_status next_unsigned(struct storm_key_reader *reader, uint64_t most, uint64_t *x)
{
    uint64_t magnitude;
    bool is_negative;
    size_t size;
    *x = 0;
    if (peek_integer(reader, &magnitude, &is_negative, &size) != STORM_OK || is_negative ||
        magnitude > most)
        return STORM_INVALID;
    *x = magnitude;
    advance(reader, size);
    return STORM_OK;
}

storm_status storm_key_next_i32(struct storm_key_reader *reader, int32_t *x)
{
    int64_t wide;
    storm_status status = next_signed(reader, INT32_MAX, &wide);
    *x = (int32_t)wide;
    return status;
}

storm_status storm_key_next_i64(struct storm_key_reader *reader, int64_t *x)
{
    return next_signed(reader, INT64_MAX, x);
}

storm_status storm_key_next_u32(struct storm_key_reader *reader, uint32_t *x)
{
    uint64_t wide;
    storm_status status = next_unsigned(reader, UINT32_MAX, &wide);
    *x = (uint32_t)wide;
    return status;
}

storm_status storm_key_next_u64(struct storm_key_reader *reader, uint64_t *x)
{
    return next_unsigned(reader, UINT64_MAX, x);
}

storm_status storm_key_next_double(struct storm_key_reader *reader, double *x)
{
    *x = 0;
    if (storm_key_next_type(reader) != STORM_KEY_DOUBLE || reader->left < 9)
        return STORM_INVALID;
    *x = storm_key_bits_double_(storm_key_load_(reader->at + 1, 8));
    advance(reader, 9);
    return STORM_OK;
}

storm_status storm_key_next_bool(struct storm_key_reader *reader, bool *x)
{
    *x = false;
    if (storm_key_next_type(reader) != STORM_KEY_BOOL)
        return STORM_INVALID;
    *x = reader->at[0] == TAG_TRUE;
    advance(reader, 1);
    return STORM_OK;
}

/* The escaped contents of the string that comes next, and the zero bytes in it. */
static storm_status peek_string(const struct storm_key_reader *reader, struct storm_slice *inside,
                                size_t *zeroes)
{
    *zeroes = 0;
    for (size_t i = 1; i < reader->left;) {
        const uint8_t *found = memchr(reader->at + i, ESCAPE, reader->left - i);
        if (found == NULL)
            return STORM_INVALID;
        i = (size_t)(found - reader->at);
        if (reader->left - i < 2)
            return STORM_INVALID;
        if (found[1] == TERMINATOR) {
            *inside = storm_bytes(reader->at + 1, i - 1);
            return STORM_OK;
        }
        if (found[1] != ESCAPED_ZERO)
            return STORM_INVALID;
        ++*zeroes;
        i += 2;
    }
    return STORM_INVALID;
}

static storm_status next_string(struct storm_key_reader *reader, enum storm_key_type type,
                                uint8_t *scratch, size_t room, struct storm_slice *x)
{
    struct storm_slice inside;
    size_t zeroes;
    *x = storm_bytes(NULL, 0);
    if (storm_key_next_type(reader) != type || peek_string(reader, &inside, &zeroes) != STORM_OK)
        return STORM_INVALID;
    if (zeroes == 0) {
        *x = inside;
    } else if (inside.size - zeroes > room) {
        return STORM_TOO_LARGE;
    } else {
        size_t size = 0;
        for (size_t i = 0; i < inside.size; i++) {
            scratch[size++] = inside.data[i];
            i += inside.data[i] == ESCAPE; /* and pass over ESCAPED_ZERO */
        }
        *x = storm_bytes(scratch, size);
    }
    advance(reader, 1 + inside.size + 2);
    return STORM_OK;
}

storm_status storm_key_next_bytes(struct storm_key_reader *reader, void *scratch, size_t room,
                                  struct storm_slice *x)
{
    return next_string(reader, STORM_KEY_BYTES, scratch, room, x);
}

storm_status storm_key_next_text(struct storm_key_reader *reader, void *scratch, size_t room,
                                 struct storm_slice *x)
{
    return next_string(reader, STORM_KEY_TEXT, scratch, room, x);
}

storm_status storm_key_skip(struct storm_key_reader *reader)
{
    struct storm_slice inside;
    uint64_t magnitude;
    size_t size;
    bool flag;
    double number;
    switch (storm_key_next_type(reader)) {
    case STORM_KEY_BYTES:
    case STORM_KEY_TEXT:
        if (peek_string(reader, &inside, &size) != STORM_OK)
            return STORM_INVALID;
        advance(reader, 1 + inside.size + 2);
        return STORM_OK;
    case STORM_KEY_INTEGER:
        if (peek_integer(reader, &magnitude, &flag, &size) != STORM_OK)
            return STORM_INVALID;
        advance(reader, size);
        return STORM_OK;
    case STORM_KEY_DOUBLE:
        return storm_key_next_double(reader, &number);
    case STORM_KEY_BOOL:
        return storm_key_next_bool(reader, &flag);
    default:
        return STORM_INVALID;
    }
}
