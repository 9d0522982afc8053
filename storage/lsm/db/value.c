/* The header of stored values; the layout is drawn in value.h. */
#include "lsm/db/value.h"

size_t sdb_value_write_header(uint8_t *to, const struct storm_meta *meta)
{
    uint8_t *at = to + 1;
    uint8_t flags = 0;
    if (meta->expires_ms != 0) {
        flags |= SDB_VALUE_EXPIRES;
        at = sdb_put_varint(at, meta->expires_ms);
    }
    if (meta->modified_ms != 0) {
        flags |= SDB_VALUE_MODIFIED;
        at = sdb_put_varint(at, meta->modified_ms);
    }
    if (meta->type.size != 0) {
        flags |= SDB_VALUE_TYPE;
        *at++ = (uint8_t)meta->type.size;
        memcpy(at, meta->type.data, meta->type.size);
        at += meta->type.size;
    }
    to[0] = flags;
    return (size_t)(at - to);
}

bool sdb_value_parse(struct storm_slice stored, struct storm_meta *meta, struct storm_slice *bytes)
{
    struct sdb_cursor cursor = sdb_cursor(stored);
    struct storm_slice part;
    memset(meta, 0, sizeof *meta);
    *bytes = (struct storm_slice){NULL, 0};
    if (!sdb_read_bytes(&cursor, 1, &part) || (part.data[0] & ~SDB_VALUE_FLAGS) != 0)
        return false;
    uint8_t flags = part.data[0];
    if ((flags & SDB_VALUE_EXPIRES) != 0 && !sdb_read_varint(&cursor, &meta->expires_ms))
        return false;
    if ((flags & SDB_VALUE_MODIFIED) != 0 && !sdb_read_varint(&cursor, &meta->modified_ms))
        return false;
    if ((flags & SDB_VALUE_TYPE) != 0) {
        if (!sdb_read_bytes(&cursor, 1, &part) || part.data[0] > SDB_TYPE_MAX ||
            !sdb_read_bytes(&cursor, part.data[0], &meta->type))
            return false;
    }
    *bytes = storm_bytes(cursor.at, sdb_cursor_left(&cursor));
    return true;
}
