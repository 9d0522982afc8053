/*
 * Every constant of the log's files, on one page. All numbers are little-endian.
 *
 * Segment NNNNNNNNNN.log
 *
 *   0                4096                                       size of the file, allocated
 *   +----------------+--------+--------+------- - - - ---+--------------------+
 *   | segment header | record | record | ...             | zeroes, or remains |
 *   +----------------+--------+--------+------- - - - ---+--------------------+
 *
 * Segment header, 4096 bytes so that no record shares a page with it:
 *
 *    0  u64  magic "STORMWAL"
 *    8  u32  format version. Every version keeps these 16 bytes and what the checksum covers, so
 *            that an older release can tell a newer log from a damaged one.
 *   12  u32  crc32c of all other bytes of the header, the zeroes included
 *   16  u64  store id
 *   24  u64  number of this segment, 1 or above
 *   32  u64  number of the segment before it, 0 = none: it is the first of the store
 *   40  u64  where the records of that one ended, 0 = there is none
 *   48  u64  the last revision written before this segment, 0 = unknown; all in it are larger
 *   56  u32  epoch of the open that made it; no record in it has a smaller one
 *   60  u32  flags: 1 = revisions before this segment are missing from the log. A power cut took
 *            them before they were synced, and tables have them: a feed can begin here, not before
 *   64  u64  Unix time in ms when it was made, and the one before it left; 0 = unknown
 *   72       zeroes up to 4096
 *
 * Record, at a multiple of 8, one for each commit group:
 *
 *    0  u32  crc32c that goes on from the header checksum at 28, over payload and padding
 *    4  u32  length of the payload without padding
 *    8  u32  epoch of the open that wrote it
 *   12  u32  batches in the payload; 0 in the end mark of a clean close, which has no payload
 *   16  u64  revision of the first batch; in an end mark, of the one that would have come
 *   24  u32  durable offset / 8: this segment was synced up to there when the record was written
 *   28  u32  crc32c of store id, segment number, this record's offset (u64 each) and bytes 4 to 28
 *   32       payload: for each batch  u32 length of what follows | operations
 *            zeroes up to the next multiple of 8
 *
 * Two checksums, because recovery has to look for records at every eighth byte behind a bad one:
 * with one over everything, 64 MiB of hostile values that look like headers would cost a checksum
 * of megabytes each, which is hours. And since the store id is random and secret to clients, none
 * of them can put bytes into a value that verify as a record if recovery ever comes to look at
 * them.
 */
#ifndef SDB_LSM_WAL_FORMAT_H
#define SDB_LSM_WAL_FORMAT_H

#include "storm/storm.h"

#define SDB_WAL_MAGIC UINT64_C(0x4c41574d524f5453) /* "STORMWAL", first letter in the first byte */

enum {
    SDB_WAL_VERSION = 1,
    SDB_WAL_HEADER = 4096, /* bytes of a segment header: the offset of the first record */
    SDB_WAL_RECORD = 32,   /* bytes of a record before its payload */
    SDB_WAL_ALIGN = 8,     /* records begin at multiples of it */
    SDB_WAL_LENGTH = 4,    /* bytes of the length before each batch */
    SDB_WAL_SPARES = 2,    /* flushed segments kept to be used again */
};

/* Padded to SDB_WAL_ALIGN it still fits a u32: just below 4 GiB. */
#define SDB_WAL_PAYLOAD_MAX (UINT32_MAX - SDB_WAL_ALIGN)
/* With a largest payload on top a segment stays below the 32 GiB that a durable offset can say. */
#define SDB_WAL_SEGMENT_MAX (UINT64_C(16) << 30)
#define SDB_WAL_SEGMENT_MIN (UINT64_C(2) * SDB_WAL_HEADER)

_Static_assert(SDB_WAL_HEADER % SDB_WAL_ALIGN == 0, "the first record is aligned");
_Static_assert(SDB_WAL_RECORD % SDB_WAL_ALIGN == 0, "a payload is aligned");
_Static_assert(SDB_WAL_SEGMENT_MAX + SDB_WAL_HEADER + SDB_WAL_RECORD + UINT32_MAX <
                   (uint64_t)UINT32_MAX * SDB_WAL_ALIGN,
               "every offset fits the durable offset's field");

struct sdb_wal_header {
    uint64_t store_id;
    uint64_t number;
    uint64_t previous;
    uint64_t previous_end;
    uint64_t last_revision;
    uint32_t epoch;
    uint32_t flags; /* enum sdb_wal_header_flag */
    uint64_t created_ms;
};

enum sdb_wal_header_flag { SDB_WAL_AFTER_GAP = 1 };

enum sdb_wal_header_kind {
    SDB_WAL_HEADER_BAD,   /* zero, torn or damaged */
    SDB_WAL_HEADER_VALID, /* whole; whose it is remains to be checked */
    SDB_WAL_HEADER_NEWER, /* whole, of a newer format version */
};

/* Fill the SDB_WAL_HEADER bytes at `page`. */
void sdb_wal_header_encode(uint8_t *page, const struct sdb_wal_header *header);
/* `header` is filled for SDB_WAL_HEADER_VALID; *version for both whole kinds. */
enum sdb_wal_header_kind sdb_wal_header_decode(struct storm_slice page,
                                               struct sdb_wal_header *header, uint32_t *version);

struct sdb_wal_record {
    uint32_t crc;
    uint32_t length; /* of the payload */
    uint32_t epoch;
    uint32_t batches;
    uint64_t first_revision;
    uint64_t durable;    /* bytes of the segment */
    uint32_t header_crc; /* where the crc goes on from */
};

/* What the checksums of one segment's records begin with. */
uint32_t sdb_wal_record_seed(uint64_t store_id, uint64_t number);
/* Fill SDB_WAL_RECORD bytes, but for the crc in the first four; set record->header_crc. */
void sdb_wal_record_encode(uint8_t *to, struct sdb_wal_record *record, uint32_t seed,
                           uint64_t offset);
/* Whether the SDB_WAL_RECORD bytes at `from` are a record's header for this place. */
bool sdb_wal_record_decode(const uint8_t *from, uint32_t seed, uint64_t offset,
                           struct sdb_wal_record *record);

/* Bytes that a payload takes with its padding. */
static inline uint64_t sdb_wal_padded(uint64_t length)
{
    return (length + SDB_WAL_ALIGN - 1) / SDB_WAL_ALIGN * SDB_WAL_ALIGN;
}

/* Bytes that a record takes: header, payload and padding. */
static inline uint64_t sdb_wal_record_size(uint64_t length)
{
    return SDB_WAL_RECORD + sdb_wal_padded(length);
}

#endif
