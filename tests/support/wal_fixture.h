/*
 * A log on the disk in memory, with a model of what it must say when it is opened again.
 *
 * A batch's bytes follow from its revision and the number of the append that wrote it, so a batch
 * that comes back is compared byte by byte, and one that failed or was dropped and then written
 * anew under the same revision is told from its dead predecessor. The model stands in for the
 * manifest too: epoch, first needed segment and fresh numbers live here and survive every power
 * loss.
 *
 * wal_fixture_reopen() asserts the log's promise: the replay begins at the first needed revision,
 * has no gap, holds what was synced, and nothing that is not the last successful append of its
 * revision.
 */
#ifndef TEST_WAL_FIXTURE_H
#define TEST_WAL_FIXTURE_H

#include "lsm/wal/wal.h"
#include "os/sim.h"

enum { WAL_FIXTURE_REVISIONS = 20000 };

struct wal_fixture {
    struct sim_disk *disk;
    struct sdb_errors errors;
    struct sdb_os os;
    struct sdb_wal_options options;
    struct sdb_wal *wal;
    struct sdb_wal_report report;
    uint64_t number;        /* last one given out */
    uint64_t first_segment; /* needed */
    uint64_t floor;         /* first revision that has to be there */
    uint64_t segment_floor; /* first revision in the current segment */
    uint64_t segment;       /* the current one, as last seen */
    uint64_t appended;      /* last revision that was appended with success; 0 = none */
    uint64_t synced;        /* last revision that was acknowledged as durable */
    uint64_t replayed;      /* last revision of the replay under way or last done */
    bool is_wrong;          /* the replay under way met something that must not be */
    uint32_t appends;       /* calls so far, failed ones too */
    uint32_t writer[WAL_FIXTURE_REVISIONS]; /* which of them wrote each revision */
    size_t size[WAL_FIXTURE_REVISIONS];     /* and the batch's size */
};

struct wal_fixture *wal_fixture_create(uint64_t segment_bytes, uint64_t seed);
void wal_fixture_destroy(struct wal_fixture *f);

/* Open under a new epoch and check the replay, if it succeeds. The wal must be closed. */
storm_status wal_fixture_open(struct wal_fixture *f);
/* Close, open and, if that works, assert the promise and go on from what came back. */
storm_status wal_fixture_try_reopen(struct wal_fixture *f);
/* The same, and it must work. */
void wal_fixture_reopen(struct wal_fixture *f);
void wal_fixture_close(struct wal_fixture *f);
/* The same reading without a writer. */
storm_status wal_fixture_replay(struct wal_fixture *f);
/* After damage on purpose: forget what came after `last`, as a caller does who accepts the loss. */
void wal_fixture_accept(struct wal_fixture *f, uint64_t last);

/* One group of `count` batches of `size` bytes each (8 at least). */
storm_status wal_fixture_append(struct wal_fixture *f, size_t count, size_t size);
storm_status wal_fixture_sync(struct wal_fixture *f);
/* Everything before the current segment was flushed. */
void wal_fixture_release(struct wal_fixture *f);

/* Files with this suffix in the directory. */
size_t wal_fixture_files(struct wal_fixture *f, const char *suffix);
/* A segment's path; static storage. */
const char *wal_fixture_path(uint64_t number);
/* The bytes of a file; the caller frees. */
uint8_t *wal_fixture_read(struct wal_fixture *f, const char *path, size_t *size);

#endif
