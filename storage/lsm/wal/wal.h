/*
 * The write-ahead log: every committed batch, in order of revision, in numbered segment files.
 *
 * A segment is NNNNNNNNNN.log (file number, ten digits), allocated as it fills, and begins with a
 * header that names the store, its own number, the segment before it and where that one ended. Then
 * come records, 8-byte aligned, one for each commit group:
 *
 *   crc32c | length | epoch | batches | first revision | durable offset | header crc32c |
 *   payload, zero-padded
 *
 * The checksum covers the segment number and the record's offset too, so a record that lies in the
 * wrong place, or is left over from the file's earlier life, never verifies. The epoch grows with
 * every open of the store and never falls within a segment: so a store that is opened again goes on
 * in its last segment, and what a torn tail left behind it can not come back to life. The durable
 * offset is the end of what the writer knew to be synced: a bad record below the durable offset of
 * any later valid record, or in any segment but the last, is corruption; a bad record above is the
 * torn tail of writes that were never acknowledged as durable, and is dropped.
 *
 * The payload is a run of batches; batch i has revision first + i:
 *   u32 length of what follows | operations (opaque here)
 *
 * Threads: the writer is used by one thread at a time (the commit leader), except where noted.
 */
#ifndef SDB_LSM_WAL_WAL_H
#define SDB_LSM_WAL_WAL_H

#include "os/os.h"
#include "util/account.h"

struct sdb_wal;
struct sdb_wal_history;

struct sdb_wal_options {
    struct sdb_os *os;
    struct sdb_account
        *account;            /* the writer is counted there; borrowed for its life, may be NULL */
    const char *dir;         /* copied */
    uint64_t store_id;       /* random, from the manifest: another store's segment is refused */
    uint32_t epoch;          /* of this open; larger than that of any record before */
    uint64_t newest_segment; /* known to exist: it, or a later one, must be whole; 0 = none known */
    uint64_t segment_bytes;  /* of a full one, such as 64 MiB; a larger group gets a larger one */
    /* What is kept of released segments for readers of the log (history.h): 0 bytes = none, 0 ms =
     * of any age. */
    uint64_t retention_bytes;
    uint64_t retention_ms;
    uint64_t flushed_revision; /* the newest in tables: the log may have lost some of them */
};

/*
 * Replay, then a writer that goes on after it.
 *
 * Reads every segment numbered `first_segment` or above, in order, and calls `each` for every batch
 * (revision, encoded operations; borrowed for the call). A status other than STORM_OK from `each`
 * ends the open with it. STORM_CORRUPT names file and offset for: a bad record that had been
 * synced, a missing segment in the chain, a revision out of order, another store's segment. A torn
 * tail is dropped: counted in
 * *report, zeroed or overwritten later, never an error. A last segment whose header never became
 * durable (torn or zero header) counts as absent. A newer format version is STORM_NEWER_FORMAT.
 *
 * On success what was replayed is durable (synced again, so that reading it may be believed), and
 * *wal appends to the last segment, or, when there is none, to a new one numbered by next_number().
 * `next_number` gives fresh store-wide file numbers, larger than any on disk.
 */
typedef storm_status (*sdb_wal_batch_fn)(void *ctx, uint64_t revision, struct storm_slice ops);

struct sdb_wal_report {
    uint64_t segments, batches, bytes;
    /* 0 = a clean end; else what was dropped: from the log's end to the end of the last record
     * behind it of which at least the header is whole. Remains of earlier lives do not count. */
    uint64_t torn_bytes;
    uint64_t last_revision; /* 0 = no batch */
    uint64_t kept;          /* released segments that are kept as history */
};

storm_status sdb_wal_open(const struct sdb_wal_options *options, uint64_t first_segment,
                          sdb_wal_batch_fn each, void *each_ctx, uint64_t (*next_number)(void *ctx),
                          void *number_ctx, struct sdb_wal **wal, struct sdb_wal_report *report);

/* The same reading for a read-only store: nothing is written, no writer made. */
storm_status sdb_wal_replay(const struct sdb_wal_options *options, uint64_t first_segment,
                            sdb_wal_batch_fn each, void *each_ctx, struct sdb_wal_report *report);
/* And with what was found as a history to be read by tails (tail.h), which the caller destroys. */
storm_status sdb_wal_replay_kept(const struct sdb_wal_options *options, uint64_t first_segment,
                                 sdb_wal_batch_fn each, void *each_ctx,
                                 struct sdb_wal_report *report, struct sdb_wal_history **history);

/*
 * What whole records the segments of a damaged log still hold, for repair (salvage.c). Nothing is
 * written.
 */
struct sdb_wal_salvage {
    struct sdb_os *os;
    const char *dir;
    uint64_t store_id;     /* 0 = not known: that of the newest whole header */
    uint32_t judged_epoch; /* of the last open, which dropped its torn tail; 0 = not known */
    sdb_wal_batch_fn each; /* every batch of every whole record, in order of revision */
    /* After each segment's records have been handed out. */
    storm_status (*segment)(void *ctx, uint64_t number, uint64_t records);
    /* What was passed by; the sentence is the newest of the os's. */
    void (*problem)(void *ctx, storm_status status);
    void *ctx;

    uint64_t records; /* whole ones, end marks not counted */
    uint64_t problems;
    uint64_t revision;  /* the newest that any record's header named, whole or not */
    uint32_t max_epoch; /* of all headers */
};

/* STORM_OK also when there is nothing. STORM_NEWER_FORMAT; what `each` returned;
 * STORM_NO_MEMORY. */
storm_status sdb_wal_salvage(struct sdb_wal_salvage *salvage);

/*
 * Make everything durable and write the end mark that vouches for it, so that the next open can
 * tell any damage from a torn tail; and give back the disk that is not used: what is allocated
 * behind the mark, and the spares. Appending may go on afterwards. Fails as sdb_wal_sync does; a
 * disk too full for the mark is no failure.
 */
storm_status sdb_wal_finish(struct sdb_wal *wal);

/* Close the files. Does not sync. */
void sdb_wal_close(struct sdb_wal *wal);

/*
 * Append one record with `count` batches of revisions first_revision, +1, ... Batches are written
 * from where they lie. Rolls to a new segment when this one is full (the old one is synced first,
 * so that only the last segment can have a torn tail). No batches (count 0): nothing is written.
 * STORM_INVALID: first_revision is not above all before. On failure nothing of the group will ever
 * be replayed: the partial record is cut off (overwritten or the writer moved back before it); when
 * even that fails, or a sync failed on the way, the wal is broken: sdb_wal_is_broken().
 */
storm_status sdb_wal_append(struct sdb_wal *wal, uint64_t first_revision,
                            const struct storm_slice *batches, size_t count);

/* Whether one batch of `size` bytes goes into the present segment, so that no sync and no new file
 * stand between append and return. */
bool sdb_wal_fits(const struct sdb_wal *wal, size_t size);

/* Hint: begin writing out what was appended, before work that overlaps with the disk's. */
void sdb_wal_start_writeback(struct sdb_wal *wal);

/* Whether so much was appended and not written out that another thread should catch up. The
 * writer. */
bool sdb_wal_is_behind(const struct sdb_wal *wal);
/* Have it written, so that the sync at the segment's end, or anybody's, has little left to do.
 * Fails as sdb_wal_sync does. Any thread, beside the writer. */
storm_status sdb_wal_catch_up(struct sdb_wal *wal);

/*
 * Make durable what was appended before the call. A failure breaks the wal for good. Any thread,
 * beside the writer, which may go on appending; one that needs a sync itself waits for this one to
 * end, and so does the end of a segment.
 */
storm_status sdb_wal_sync(struct sdb_wal *wal);

/* True after a failed sync or an append that could not be undone: only closing is left. Any
 * thread. */
bool sdb_wal_is_broken(const struct sdb_wal *wal);

/* The number of the segment that the next append goes to (it may still roll: then a larger one). */
uint64_t sdb_wal_segment(const struct sdb_wal *wal);

/*
 * What was appended so far may be seen by readers of the log. The writer.
 */
void sdb_wal_publish(struct sdb_wal *wal);

/* The segments and what they hold; borrowed from the wal. */
struct sdb_wal_history *sdb_wal_history(struct sdb_wal *wal);

/*
 * Segments numbered below `first_needed` hold only flushed data: keep them as history as far as the
 * options say; recycle what is over (at most two spares, NNNNNNNNNN.spare, to be renamed to a new
 * number when a segment is needed) or delete it. The
 * manifest must already say durably that replay begins at `first_needed`. Any thread, beside the
 * writer. The next open removes spares, and what a crash in here left of segments below its
 * `first_segment`. A broken wal keeps its files.
 */
void sdb_wal_release(struct sdb_wal *wal, uint64_t first_needed);

/* The disk is full: remove the oldest segment that is only kept as history. False: there is none.
 * Any thread. An append does the same by itself before it fails with STORM_NO_SPACE. */
bool sdb_wal_give_way(struct sdb_wal *wal);

/* Milliseconds until history is too old, so that a release (of nothing) would drop some; 0 = now,
 * UINT64_MAX = never. Any thread. */
uint64_t sdb_wal_keep_ms(struct sdb_wal *wal);

/* Any thread. */
struct sdb_wal_stats {
    uint64_t bytes;    /* live records in live segments */
    uint64_t segments; /* live segments */
    uint64_t kept;     /* segments that are kept as history */
    uint64_t syncs, last_sync_us, appended_bytes;
};
void sdb_wal_stats(const struct sdb_wal *wal, struct sdb_wal_stats *stats);

/* The file's name for a number: "0000000042.log". `name` has SDB_WAL_NAME bytes. */
enum { SDB_WAL_NAME = 32 };
void sdb_wal_name(char name[SDB_WAL_NAME], uint64_t number);
/* Whether `name` is a segment's, and its number. */
bool sdb_wal_parse_name(const char *name, uint64_t *number);

#endif
