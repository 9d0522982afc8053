/*
 * Reading committed records of the log in order, while it is written: what change feeds stand on.
 *
 * A tail holds nothing back. It reads up to what sdb_wal_publish() has let out, through a buffer of
 * 256 KiB at most (more for a larger record), and keeps none while it rests: thousands of them cost
 * little. The file is shared among all tails that stand in the same segment.
 *
 * Threads: a tail belongs to one thread at a time; any number of tails may read beside the writer,
 * releases and each other.
 */
#ifndef SDB_LSM_WAL_TAIL_H
#define SDB_LSM_WAL_TAIL_H

#include "lsm/wal/history.h"

struct sdb_wal_tail {
    struct sdb_wal_history *history; /* borrowed */
    uint64_t next;                   /* the revision that is wanted */
    struct sdb_wal_place place;      /* segment 0: it has to be looked for */
    struct sdb_wal_place record;     /* the last one handed out: for messages */
    struct sdb_wal_shared *shared;
    uint8_t *buffer; /* owned: bytes [base, base + have) of the place's segment */
    uint64_t base;
    size_t have;
};

/* A record that holds the wanted revision; the payload is borrowed until the next call. */
struct sdb_wal_batches {
    uint64_t first_revision;
    uint32_t count;
    struct storm_slice payload; /* count times: u32 length | operations */
};

/*
 * Begin at `next`. `end` (may be NULL) is the place of revision `next` when the caller knows it, as
 * it does for the next one that is yet to come.
 */
void sdb_wal_tail_init(struct sdb_wal_tail *tail, struct sdb_wal_history *history, uint64_t next,
                       const struct sdb_wal_place *end);
void sdb_wal_tail_fini(struct sdb_wal_tail *tail);

/*
 * The record with revision tail->next, which must have been published; tail->next is then the first
 * revision behind it. STORM_GONE: no longer kept. STORM_CORRUPT, once, with file and offset
 * recorded: then STORM_GONE, because what is below the damage is history no more. STORM_IO,
 * STORM_NO_MEMORY and others: the tail stays where it was.
 */
storm_status sdb_wal_tail_record(struct sdb_wal_tail *tail, struct sdb_wal_batches *batches);

/* The record handed out last makes no sense although its checksum is right: STORM_CORRUPT. */
storm_status sdb_wal_tail_refuse(struct sdb_wal_tail *tail, const char *what);

/* Nothing to read for now: let the buffer go. What was handed out is no longer valid. */
void sdb_wal_tail_rest(struct sdb_wal_tail *tail);

#endif
