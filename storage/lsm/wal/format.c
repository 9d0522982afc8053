/*
 * Segment headers and record headers as bytes; format.h draws them.
 *
 * Nothing here reads a file or trusts a number: a decoder takes exactly the bytes of one header and
 * says whether they verify. Whether what they say makes sense where they were found (whose store,
 * which order, does the payload fit the file) is asked by those who know the place: reader.c and
 * recover.c.
 */
#include "lsm/wal/format.h"

#include <string.h>

#include "util/coding.h"
#include "util/crc32c.h"

enum {
    HEADER_MAGIC = 0,
    HEADER_VERSION = 8,
    HEADER_CRC = 12,
    HEADER_STORE = 16,
    HEADER_NUMBER = 24,
    HEADER_PREVIOUS = 32,
    HEADER_PREVIOUS_END = 40,
    HEADER_LAST_REVISION = 48,
    HEADER_EPOCH = 56,
    HEADER_FLAGS = 60,
    HEADER_CREATED = 64,
    HEADER_USED = 72,

    RECORD_CRC = 0,
    RECORD_LENGTH = 4,
    RECORD_EPOCH = 8,
    RECORD_BATCHES = 12,
    RECORD_REVISION = 16,
    RECORD_DURABLE = 24,
    RECORD_HEADER_CRC = 28,
};

_Static_assert(HEADER_USED <= 512, "a segment header's fields lie in one sector");
_Static_assert(RECORD_HEADER_CRC + 4 == SDB_WAL_RECORD, "a record's fields fill its header");

static uint32_t header_crc(const uint8_t *page)
{
    uint32_t crc = sdb_crc32c(0, page, HEADER_CRC);
    return sdb_crc32c(crc, page + HEADER_STORE, SDB_WAL_HEADER - HEADER_STORE);
}

void sdb_wal_header_encode(uint8_t *page, const struct sdb_wal_header *header)
{
    memset(page, 0, SDB_WAL_HEADER);
    sdb_put_u64(page + HEADER_MAGIC, SDB_WAL_MAGIC);
    sdb_put_u32(page + HEADER_VERSION, SDB_WAL_VERSION);
    sdb_put_u64(page + HEADER_STORE, header->store_id);
    sdb_put_u64(page + HEADER_NUMBER, header->number);
    sdb_put_u64(page + HEADER_PREVIOUS, header->previous);
    sdb_put_u64(page + HEADER_PREVIOUS_END, header->previous_end);
    sdb_put_u64(page + HEADER_LAST_REVISION, header->last_revision);
    sdb_put_u32(page + HEADER_EPOCH, header->epoch);
    sdb_put_u32(page + HEADER_FLAGS, header->flags);
    sdb_put_u64(page + HEADER_CREATED, header->created_ms);
    sdb_put_u32(page + HEADER_CRC, header_crc(page));
}

enum sdb_wal_header_kind sdb_wal_header_decode(struct storm_slice page,
                                               struct sdb_wal_header *header, uint32_t *version)
{
    const uint8_t *at = page.data;

    *version = 0;
    if (page.size < SDB_WAL_HEADER || sdb_get_u64(at + HEADER_MAGIC) != SDB_WAL_MAGIC ||
        sdb_get_u32(at + HEADER_CRC) != header_crc(at))
        return SDB_WAL_HEADER_BAD;
    *version = sdb_get_u32(at + HEADER_VERSION);
    if (*version > SDB_WAL_VERSION)
        return SDB_WAL_HEADER_NEWER;
    *header = (struct sdb_wal_header){
        .store_id = sdb_get_u64(at + HEADER_STORE),
        .number = sdb_get_u64(at + HEADER_NUMBER),
        .previous = sdb_get_u64(at + HEADER_PREVIOUS),
        .previous_end = sdb_get_u64(at + HEADER_PREVIOUS_END),
        .last_revision = sdb_get_u64(at + HEADER_LAST_REVISION),
        .epoch = sdb_get_u32(at + HEADER_EPOCH),
        .flags = sdb_get_u32(at + HEADER_FLAGS),
        .created_ms = sdb_get_u64(at + HEADER_CREATED),
    };
    return SDB_WAL_HEADER_VALID;
}

uint32_t sdb_wal_record_seed(uint64_t store_id, uint64_t number)
{
    uint8_t bytes[16];

    sdb_put_u64(bytes, store_id);
    sdb_put_u64(bytes + 8, number);
    return sdb_crc32c(0, bytes, sizeof(bytes));
}

static uint32_t record_header_crc(const uint8_t *from, uint32_t seed, uint64_t offset)
{
    uint8_t bytes[8];

    sdb_put_u64(bytes, offset);
    return sdb_crc32c(sdb_crc32c(seed, bytes, sizeof(bytes)), from + RECORD_LENGTH,
                      RECORD_HEADER_CRC - RECORD_LENGTH);
}

void sdb_wal_record_encode(uint8_t *to, struct sdb_wal_record *record, uint32_t seed,
                           uint64_t offset)
{
    sdb_put_u32(to + RECORD_LENGTH, record->length);
    sdb_put_u32(to + RECORD_EPOCH, record->epoch);
    sdb_put_u32(to + RECORD_BATCHES, record->batches);
    sdb_put_u64(to + RECORD_REVISION, record->first_revision);
    sdb_put_u32(to + RECORD_DURABLE, (uint32_t)(record->durable / SDB_WAL_ALIGN));
    record->header_crc = record_header_crc(to, seed, offset);
    sdb_put_u32(to + RECORD_HEADER_CRC, record->header_crc);
}

bool sdb_wal_record_decode(const uint8_t *from, uint32_t seed, uint64_t offset,
                           struct sdb_wal_record *record)
{
    *record = (struct sdb_wal_record){
        .crc = sdb_get_u32(from + RECORD_CRC),
        .length = sdb_get_u32(from + RECORD_LENGTH),
        .epoch = sdb_get_u32(from + RECORD_EPOCH),
        .batches = sdb_get_u32(from + RECORD_BATCHES),
        .first_revision = sdb_get_u64(from + RECORD_REVISION),
        .durable = (uint64_t)sdb_get_u32(from + RECORD_DURABLE) * SDB_WAL_ALIGN,
        .header_crc = sdb_get_u32(from + RECORD_HEADER_CRC),
    };
    /* What can be said without a checksum first: behind a bad record this is asked of every
     * word. */
    return record->durable >= SDB_WAL_HEADER && record->durable <= offset &&
           record->length / SDB_WAL_LENGTH >= record->batches &&
           (record->batches > 0 || record->length == 0) && record->length <= SDB_WAL_PAYLOAD_MAX &&
           record->header_crc == record_header_crc(from, seed, offset);
}
