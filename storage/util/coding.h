/*
 * Numbers as bytes: little-endian fixed width, and varints (seven bits a byte, low bits first, at
 * most 10 bytes). Readers take a cursor and never read past its end: they return false, and the
 * cursor is spent, when bytes are missing or a varint is over-long or too large for its type.
 */
#ifndef SDB_UTIL_CODING_H
#define SDB_UTIL_CODING_H

#include "storm/storm.h"

enum { SDB_VARINT_MAX = 10 };

static inline void sdb_put_u32(uint8_t *to, uint32_t x)
{
    to[0] = (uint8_t)x;
    to[1] = (uint8_t)(x >> 8);
    to[2] = (uint8_t)(x >> 16);
    to[3] = (uint8_t)(x >> 24);
}

static inline void sdb_put_u64(uint8_t *to, uint64_t x)
{
    sdb_put_u32(to, (uint32_t)x);
    sdb_put_u32(to + 4, (uint32_t)(x >> 32));
}

static inline uint32_t sdb_get_u32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

static inline uint64_t sdb_get_u64(const uint8_t *from)
{
    return (uint64_t)sdb_get_u32(from) | (uint64_t)sdb_get_u32(from + 4) << 32;
}

/* Write a varint at `to` (SDB_VARINT_MAX bytes of room); the position after it. */
static inline uint8_t *sdb_put_varint(uint8_t *to, uint64_t x)
{
    while (x >= 0x80) {
        *to++ = (uint8_t)(x | 0x80);
        x >>= 7;
    }
    *to++ = (uint8_t)x;
    return to;
}

static inline size_t sdb_varint_size(uint64_t x)
{
    size_t size = 1;
    while (x >= 0x80) {
        x >>= 7;
        size++;
    }
    return size;
}

/* What is left to read. `at` is NULL once a read failed. */
struct sdb_cursor {
    const uint8_t *at;
    const uint8_t *end;
};

static inline struct sdb_cursor sdb_cursor(struct storm_slice bytes)
{
    return (struct sdb_cursor){bytes.data, bytes.data == NULL ? NULL : bytes.data + bytes.size};
}

static inline size_t sdb_cursor_left(const struct sdb_cursor *cursor)
{
    return cursor->at == NULL ? 0 : (size_t)(cursor->end - cursor->at);
}

static inline bool sdb_read_varint(struct sdb_cursor *cursor, uint64_t *x)
{
    uint64_t value = 0;
    const uint8_t *at = cursor->at;
    for (unsigned shift = 0; at != NULL && at < cursor->end && shift < 64; shift += 7) {
        uint64_t byte = *at++;
        if (shift == 63 && byte > 1)
            break;
        value |= (byte & 0x7f) << shift;
        if (byte < 0x80) {
            cursor->at = at;
            *x = value;
            return true;
        }
    }
    cursor->at = NULL;
    *x = 0;
    return false;
}

static inline bool sdb_read_varint32(struct sdb_cursor *cursor, uint32_t *x)
{
    uint64_t wide;
    *x = 0;
    if (!sdb_read_varint(cursor, &wide))
        return false;
    if (wide > UINT32_MAX) {
        cursor->at = NULL;
        return false;
    }
    *x = (uint32_t)wide;
    return true;
}

static inline bool sdb_read_bytes(struct sdb_cursor *cursor, uint64_t size,
                                  struct storm_slice *bytes)
{
    if (cursor->at == NULL || size > sdb_cursor_left(cursor)) {
        cursor->at = NULL;
        *bytes = (struct storm_slice){NULL, 0};
        return false;
    }
    *bytes = storm_bytes(cursor->at, (size_t)size);
    cursor->at += size;
    return true;
}

static inline bool sdb_read_u32(struct sdb_cursor *cursor, uint32_t *x)
{
    struct storm_slice bytes;
    *x = 0;
    if (!sdb_read_bytes(cursor, 4, &bytes))
        return false;
    *x = sdb_get_u32(bytes.data);
    return true;
}

static inline bool sdb_read_u64(struct sdb_cursor *cursor, uint64_t *x)
{
    struct storm_slice bytes;
    *x = 0;
    if (!sdb_read_bytes(cursor, 8, &bytes))
        return false;
    *x = sdb_get_u64(bytes.data);
    return true;
}

/* A varint length, then so many bytes. */
static inline bool sdb_read_prefixed(struct sdb_cursor *cursor, struct storm_slice *bytes)
{
    uint64_t size;
    *bytes = (struct storm_slice){NULL, 0};
    return sdb_read_varint(cursor, &size) && sdb_read_bytes(cursor, size, bytes);
}

#endif
