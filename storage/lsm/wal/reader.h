/*
 * Reading one segment: its header, its records one after the other, and the search behind a bad
 * one. Internal to the log. One thread per reader.
 */
#ifndef SDB_LSM_WAL_READER_H
#define SDB_LSM_WAL_READER_H

#include "lsm/wal/format.h"
#include "lsm/wal/segment.h"

struct sdb_wal_reader {
    struct sdb_os *os;     /* borrowed */
    struct sdb_file *file; /* owned */
    uint64_t size;         /* of the file */
    uint32_t seed;         /* sdb_wal_record_seed() */
    uint8_t *buffer;       /* owned: the bytes [base, base + have) of the file */
    size_t room;
    uint64_t base;
    size_t have;
    char path[SDB_WAL_PATH];
};

/* Open segment `number`. STORM_NOT_FOUND is not recorded. Close with sdb_wal_reader_close(). */
storm_status sdb_wal_reader_open(struct sdb_wal_reader *reader, struct sdb_os *os, const char *dir,
                                 uint64_t store_id, uint64_t number);
void sdb_wal_reader_close(struct sdb_wal_reader *reader); /* also one that is all zero */

/* The segment's header; see sdb_wal_header_decode(). */
storm_status sdb_wal_reader_header(struct sdb_wal_reader *reader, enum sdb_wal_header_kind *kind,
                                   struct sdb_wal_header *header, uint32_t *version);

/*
 * The record at `offset`, which may end at `limit` at the latest. *is_valid says whether there is
 * one (both checksums verify). The payload is borrowed until the next call on the reader. *record
 * is the header whenever that verifies, whatever the payload does; otherwise all zero.
 */
storm_status sdb_wal_reader_record(struct sdb_wal_reader *reader, uint64_t offset, uint64_t limit,
                                   struct sdb_wal_record *record, struct storm_slice *payload,
                                   bool *is_valid);

/* What the record headers that verify say, those of an epoch below `epoch` left out. */
struct sdb_wal_remains {
    uint64_t headers;   /* how many there are */
    uint64_t durable;   /* the largest durable offset */
    uint64_t end;       /* where the last of their records ends */
    uint32_t max_epoch; /* the largest epoch */
};

/* Look for record headers at every eighth byte from `from` to the end of the file. */
storm_status sdb_wal_reader_scan(struct sdb_wal_reader *reader, uint64_t from, uint32_t epoch,
                                 struct sdb_wal_remains *remains);

#endif
