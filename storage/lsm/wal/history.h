/*
 * The log's segments in order: which revisions each holds, how long it is kept, and where the part
 * that readers may see ends. Internal to the log, but for what wal.h and tail.h hand on.
 *
 *     kept for feeds            live: recovery needs them        current
 *   +--------+--------+      +--------+--------+--------+      +- - - - -+
 *   |   12   |   15   |      |   16   |   19   |   20   |      |   23    |       spares: 2 at most
 *   +--------+--------+      +--------+--------+--------+      +- - - - -+
 *   ^ floor: the oldest revision of which everything since is here    ^ published
 *
 * A released segment is kept while the bytes used of all that are kept are within retention_bytes,
 * and none was left longer than retention_ms ago. The current segment and the live ones do not
 * count: recovery needs them anyway. What is over becomes a spare or is removed, oldest first. When
 * the disk is full the kept ones give way.
 *
 * Damage that a reader meets raises the floor above it: what is below is history no more, and goes
 * with the next release.
 *
 * Threads: any, at once, but for the functions that say "writer". `mu` guards what is marked so; it
 * is a leaf in the lock order and no file is touched under it.
 */
#ifndef SDB_LSM_WAL_HISTORY_H
#define SDB_LSM_WAL_HISTORY_H

#include <pthread.h>
#include <stdatomic.h>

#include "lsm/wal/segment.h"

/* Bytes of a segment for which one place is remembered. */
#define SDB_WAL_PLACE_STEP (UINT64_C(1) << 20)

/* A record's beginning, and the revision that comes with it or next. */
struct sdb_wal_place {
    uint64_t segment;
    uint64_t offset;
    uint64_t revision;
};

/* A file that readers share: thousands of feeds stand in the same segment. */
struct sdb_wal_shared {
    struct sdb_file *file;
    uint64_t number;
    size_t users; /* mu */
};

/* A segment and the revisions that it spans. */
struct sdb_wal_span {
    uint64_t number;
    uint64_t size;           /* of the file; of the current one, to which it may grow */
    uint64_t records;        /* bytes of records in it; of the current one those that were found */
    uint64_t first_revision; /* of what is in it, or will be */
    uint64_t left_ms;        /* Unix time when it was left; of the current one nothing */
    /* One place for each MiB, all zero where none is known yet: a feed that begins in the middle
     * reads a MiB and not all before it. Owned by the history once it has the span. */
    struct sdb_wal_place *places;
    struct sdb_wal_shared *shared; /* while readers have it open */
};

struct sdb_wal_history {
    struct sdb_os *os;        /* const; borrowed */
    char *dir;                /* const */
    uint64_t store_id;        /* const */
    uint64_t segment_bytes;   /* const */
    uint64_t retention_bytes; /* const */
    uint64_t retention_ms;    /* const; 0 = any age */

    /* What may be seen of the current segment, and the revision that comes after it. The writer
     * stores `next` first and `published` with release; readers load `published` first, with
     * acquire: so `next` is never below what belongs to the end that they have. */
    _Atomic uint64_t published, next;
    uint64_t next_place; /* writer: where the current segment's next place is due */

    pthread_mutex_t mu;
    struct sdb_wal_span *spans;      /* mu: ascending, the last is the current one */
    size_t count, room;              /* mu */
    size_t kept;                     /* mu: so many of the first are released */
    uint64_t kept_bytes;             /* mu: used bytes of these */
    struct sdb_wal_place floor;      /* mu */
    uint64_t spares[SDB_WAL_SPARES]; /* mu: numbers in their names */
    size_t spare_count;              /* mu */
    size_t spares_coming;            /* mu: places taken by releases under way */
};

storm_status sdb_wal_history_create(const struct sdb_wal_options *options,
                                    struct sdb_wal_history **history);
void sdb_wal_history_destroy(struct sdb_wal_history *history); /* NULL is ignored */

/* ---- The writer, and recovery before it ---- */

/* Room for `span`, so that adding it cannot fail: span->places is allocated, and the caller's to be
 * freed if the span is not added. */
storm_status sdb_wal_history_reserve(struct sdb_wal_history *history, struct sdb_wal_span *span);
/* Go on in `span`, which is durable; room was reserved. */
void sdb_wal_history_add(struct sdb_wal_history *history, const struct sdb_wal_span *span);
/* The current segment ends at `end` and is left for another one. */
void sdb_wal_history_leave(struct sdb_wal_history *history, uint64_t end);
/* What precedes `end` in the current segment may be seen; `next` is the revision after it. */
void sdb_wal_history_publish(struct sdb_wal_history *history, uint64_t end, uint64_t next);
/* Nothing below this place is history. Never lowers the floor. */
void sdb_wal_history_raise(struct sdb_wal_history *history, struct sdb_wal_place floor);
/* A spare for a segment of `size` bytes, taken out of the list; 0 = none. */
uint64_t sdb_wal_history_take_spare(struct sdb_wal_history *history, uint64_t size);

/* Remove all spares. */
void sdb_wal_history_drop_spares(struct sdb_wal_history *history);

/* ---- Release ---- */

/* Segments below `first_needed` are released; the bytes of records in those that were live. */
uint64_t sdb_wal_history_release(struct sdb_wal_history *history, uint64_t first_needed);
/* Recycle or remove the oldest kept segment if it is over what is to be kept; whether it was. */
bool sdb_wal_history_trim(struct sdb_wal_history *history);
/* The disk is full: give up the oldest kept segment, as a spare or to be removed. False: none. */
bool sdb_wal_history_give_way(struct sdb_wal_history *history, bool as_spare);
/* Milliseconds until the oldest kept segment is too old; UINT64_MAX = none will be. */
uint64_t sdb_wal_history_due_ms(struct sdb_wal_history *history);
bool sdb_wal_history_has(struct sdb_wal_history *history, uint64_t number);
/* The current segment; false when there is none yet. */
bool sdb_wal_history_last(struct sdb_wal_history *history, struct sdb_wal_span *span);
void sdb_wal_history_count(struct sdb_wal_history *history, size_t *kept, size_t *live);

/* ---- Readers (tail.c) ---- */

/* Where the newest published record ends. Its revision may be too high, if one is published now. */
struct sdb_wal_place sdb_wal_history_end(struct sdb_wal_history *history);
/* The oldest revision of which everything since is here, or will be. */
uint64_t sdb_wal_history_oldest(struct sdb_wal_history *history);
/* A place to look for `revision` from: it does not lie before. STORM_GONE: it is below the
 * floor. */
storm_status sdb_wal_history_seek(struct sdb_wal_history *history, uint64_t revision,
                                  struct sdb_wal_place *place);
/* A record begins at `place`: worth to be remembered when none is known near it. */
void sdb_wal_history_note(struct sdb_wal_history *history, const struct sdb_wal_place *place);
/*
 * Where the published records of the place's segment end, and the file open for reading, borrowed
 * until it is given back. At the end of a segment that was left *place moves on to the next one.
 * *shared, which may come from an earlier call, is exchanged when the segment is another one.
 * STORM_GONE: no longer there, or below the floor. Other errors as sdb_open().
 */
storm_status sdb_wal_history_borrow(struct sdb_wal_history *history, struct sdb_wal_place *place,
                                    struct sdb_wal_shared **shared, uint64_t *end);
void sdb_wal_history_give_back(struct sdb_wal_history *history, struct sdb_wal_shared *shared);
/* Whether the place is still history: what was read there before this call is the log's. */
bool sdb_wal_history_holds(struct sdb_wal_history *history, const struct sdb_wal_place *place);
/* The segment is damaged at `place`: raise the floor above it, to the next one or, in the current
 * one, to the published end. */
void sdb_wal_history_damaged(struct sdb_wal_history *history, const struct sdb_wal_place *place);

#endif
