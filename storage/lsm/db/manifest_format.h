/* On-disk constants that the manifest's writer and reader share; the file is drawn in
 * manifest.h. */
#ifndef SDB_LSM_DB_MANIFEST_FORMAT_H
#define SDB_LSM_DB_MANIFEST_FORMAT_H

#include "util/coding.h"
#include "util/crc32c.h"

#define SDB_MANIFEST_MAGIC "STORMMAN"

enum {
    SDB_MANIFEST_HEADER = 40,
    SDB_MANIFEST_FRAME = 8, /* crc32c and size before a payload */
};

enum {
    SDB_FIELD_EPOCH = 1,
    SDB_FIELD_NEXT_FILE = 2,
    SDB_FIELD_LOG_NUMBER = 3,
    SDB_FIELD_FLUSHED = 4,
    SDB_FIELD_ADD = 5,
    SDB_FIELD_REMOVE = 6,
    SDB_FIELD_NEWEST_LOG = 7,
    SDB_FIELD_ADD_RANGE = 8,
    SDB_FIELD_REMOVE_RANGE = 9,
};

/* Of the size field and the payload behind it, in this place of this manifest. */
static inline uint32_t sdb_manifest_crc(uint64_t number, uint64_t offset, const uint8_t *size_field,
                                        size_t size)
{
    uint8_t place[16];
    sdb_put_u64(place, number);
    sdb_put_u64(place + 8, offset);
    return sdb_crc32c(sdb_crc32c(0, place, sizeof place), size_field, size);
}

#endif
