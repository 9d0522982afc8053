/*
 * How a value is stored: a header for storm_meta, then the caller's bytes.
 *
 *   flags u8 | [expires_ms varint] | [modified_ms varint] | [type length u8, type] | bytes
 *
 * Each part is there when its flag is set; a value without any of them costs one byte. Unknown
 * flags are corruption to this release. Deletes store nothing at all.
 */
#ifndef SDB_LSM_DB_VALUE_H
#define SDB_LSM_DB_VALUE_H

#include "util/coding.h"

enum {
    SDB_VALUE_EXPIRES = 1,
    SDB_VALUE_MODIFIED = 2,
    SDB_VALUE_TYPE = 4,
    SDB_VALUE_FLAGS = 7,
    SDB_TYPE_MAX = 127,
    SDB_VALUE_HEADER_MAX = 1 + 2 * SDB_VARINT_MAX + 1 + SDB_TYPE_MAX,
};

/* Write the header at `to` (SDB_VALUE_HEADER_MAX bytes of room); its size. */
size_t sdb_value_write_header(uint8_t *to, const struct storm_meta *meta);

/* Take a stored value apart; slices point into it. False when it is malformed. */
bool sdb_value_parse(struct storm_slice stored, struct storm_meta *meta, struct storm_slice *bytes);

/* The same, in line for a value without any of the parts. */
static inline bool sdb_value_take(struct storm_slice stored, struct storm_meta *meta,
                                  struct storm_slice *bytes)
{
    if (stored.size == 0 || stored.data[0] != 0)
        return sdb_value_parse(stored, meta, bytes);
    *meta = (struct storm_meta){0};
    *bytes = storm_bytes(stored.data + 1, stored.size - 1);
    return true;
}

/* When a stored value expires, 0 for never; cheaper than parsing all. */
static inline uint64_t sdb_value_expires_ms(struct storm_slice stored)
{
    uint64_t expires_ms = 0;
    if (stored.size > 1 && (stored.data[0] & SDB_VALUE_EXPIRES) != 0) {
        struct sdb_cursor cursor = {stored.data + 1, stored.data + stored.size};
        if (!sdb_read_varint(&cursor, &expires_ms))
            return 0;
    }
    return expires_ms;
}

static inline bool sdb_value_is_expired(struct storm_slice stored, uint64_t now_ms)
{
    uint64_t expires_ms = sdb_value_expires_ms(stored);
    return expires_ms != 0 && expires_ms <= now_ms;
}

#endif
