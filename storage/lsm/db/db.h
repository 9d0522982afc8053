/*
 * One open store of the embedded engine, and who may touch what.
 *
 * Locks, in the order in which they are taken (never one to the left while holding one to the
 * right):
 *
 *   manifest_mu > mu > a door's mu, garbage.mu, errors.mu, feeds.mu, the log's list, a cache shard
 *
 *   mu           guards the engine's mutable state: the commit queue, the choice of active memtable, the sealed
 *                list, the current version, snapshots, background scheduling. It is never held across a
 *                read, a write, an fsync or compression.
 *   manifest_mu  serialises manifest edits and with them new versions; held across their I/O.
 *   door.mu      guards a door's pointer to the current view for as long as a reader takes to count
 *                itself in. Readers go by one door or another, each thread by its own (view.c).
 *
 * The write turn (`turn_taken`, under mu) belongs to one thread at a time: the leader of a commit
 * group. Only its holder touches the log's writer, inserts into the active memtable, assigns
 * revisions or seals the memtable, and it does so without holding mu.
 *
 * Readers: take a view (counted reference to memtables and version) together with `visible`
 * (sdb_view_read), then search without any lock. All that is visible is in the view, and what a
 * flush dropped as shadowed was shadowed by something visible.
 */
#ifndef SDB_LSM_DB_DB_H
#define SDB_LSM_DB_DB_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine.h"
#include "lsm/db/batch.h"
#include "lsm/db/feed.h"
#include "lsm/db/manifest.h"
#include "lsm/db/picker.h"
#include "lsm/db/pressure.h"
#include "lsm/db/version.h"
#include "lsm/mem/memtable.h"
#include "lsm/wal/wal.h"
#include "os/thread.h"

enum {
    /* A read looks into each sealed memtable, so there are few; past them the active one grows. */
    SDB_SEALED_MAX = 8,
    /* Members of one commit group; beyond it the next group takes over. */
    SDB_GROUP_MAX = 1024,
    /* Range deletes of one memtable: each that is added copies the others. */
    SDB_MEM_RANGES_MAX = 256,
};

/* A memtable and where in the log its first record is. */
struct sdb_mem {
    struct sdb_memtable *table;
    uint64_t first_segment; /* 0 = nothing logged for it yet */
    uint64_t max_revision;
    struct sdb_ranges *ranges; /* range deletes written with it; NULL = none */
    uint64_t ranges_logged;    /* bytes of log that these took, those that left nothing too */
    bool frees_tables;         /* once they are flushed, tables may go: flush soon */
    uint64_t user_end;         /* db->user_bytes when it was sealed */
};

/* What a reader searches. Immutable but for the counts. One of SDB_DOORS alike, made together. */
enum { SDB_DOORS = 16 };
struct sdb_view {
    _Atomic uint32_t refs;   /* readers, and the door whose view it is */
    _Atomic uint32_t shares; /* the first one's: how many of them all have refs */
    struct sdb_view *first;
    struct sdb_memtable *active;
    size_t sealed_count;
    struct sdb_memtable *sealed[SDB_SEALED_MAX]; /* newest first */
    struct sdb_version *version;
    size_t ranges_count;
    struct sdb_ranges *ranges[SDB_SEALED_MAX + 2]; /* of all those, where there are any */
    uint64_t padding[8]; /* a cache line, between this and the next one's count */
};

/* Where readers take a view: the current one, when no other is just being installed. */
struct sdb_door {
    pthread_mutex_t mu;
    struct sdb_view *view;   /* mu; replaced only while db->mu is held too */
    struct lsm_iter *spares; /* mu: iterators that rest, all of them over `view` (iter.c) */
    size_t spare_count;      /* mu */
    uint64_t padding[8];     /* a cache line, between this door and the next */
};

struct sdb_snapshot {
    struct storm_snapshot base;
    uint64_t created_ns;
    struct sdb_snapshot *prev; /* mu: ring, oldest revision first */
    struct sdb_snapshot *next;
};

/* A table of an edit that failed and may yet be found on the disk (install.c). */
struct sdb_doubtful {
    struct sdb_doubtful *next;
    struct sdb_table_file *file;
};

/*
 * What lookups have counted. One of several, by thread: an addition to a line of memory that other
 * processors write too costs as much as a lookup's filter.
 */
enum { SDB_TALLIES = 16 };
struct sdb_tally {
    _Atomic uint64_t bloom_hits, bloom_passes, bloom_false_positives; /* relaxed */
    uint64_t padding[5];                                              /* to a cache line */
};

/* What lets writes in (admit.c). All: mu. */
struct sdb_admission {
    struct sdb_sensors sensors;   /* as of the last group, version and look at the disk */
    struct sdb_pressure pressure; /* which follows from them */
    double ns_per_byte;           /* that a write takes at least; 0 = free */
    struct sdb_pacer pacer;
    struct sdb_drain flush, compact;
    double user_per_table;   /* the users' bytes for each byte of a flushed table */
    uint64_t compact_ns;     /* that compaction has worked since level 0 was last merged down */
    uint64_t user_flushed;   /* of db->user_bytes */
    uint64_t flush_ns;       /* the longest flush lately: no write is slowed down for longer */
    bool is_disk_full;       /* and this has been said */
    struct sdb_commit *held; /* asynchronous writes that are not due yet, in order */
    struct sdb_commit **held_end;
    uint64_t waits[STORM_WAIT_CAUSES], wait_us[STORM_WAIT_CAUSES], longest_us, refused;
};

struct sdb_overlay;
struct sdb_manual;
struct lsm_iter;

struct sdb_lsm {
    struct storm_db base;

    /* const after open */
    struct sdb_os *os;
    struct sdb_os own_os;
    struct sdb_errors own_errors;
    char *dir;
    struct storm_options options;
    struct sdb_account account; /* memory held: atomic */
    struct sdb_cache *cache;
    struct sdb_file *lock;
    struct sdb_wal *wal; /* its writer: write turn; syncing it, its statistics: anyone */
    struct sdb_wal_history *history; /* the log's; our own in a read-only store */
    pthread_t commit_thread, flush_thread, compact_thread, sync_thread;
    bool has_commit_thread, has_flush_thread, has_compact_thread, has_sync_thread;
    struct sdb_tuning tuning;

    _Atomic uint64_t visible; /* newest revision that readers may see; stored by the turn's holder
                                 (seq_cst, for feeds that wait), loaded with acquire by readers */
    _Atomic bool is_broken;   /* set under mu, never cleared: no more commits or flushes */
    _Atomic bool is_stopping; /* set by close: a compaction ends at its next batch of entries */
    struct sdb_garbage garbage;
    struct sdb_feeds feeds;

    struct sdb_door doors[SDB_DOORS];

    pthread_mutex_t manifest_mu;
    struct sdb_manifest *manifest; /* manifest_mu */
    struct sdb_doubtful *doubtful; /* manifest_mu */

    pthread_mutex_t mu;
    /* All below: mu, unless said otherwise. */
    bool is_closing;
    struct sdb_mem active;
    struct sdb_mem sealed[SDB_SEALED_MAX]; /* oldest first */
    size_t sealed_count;
    struct sdb_version *version;
    uint64_t next_file;
    struct sdb_snapshot snapshots; /* ring's head */
    uint64_t snapshot_count;

    /* The commit queue. */
    struct sdb_commit *head, *tail;
    size_t queued;
    bool turn_taken;
    struct sdb_commit *retry; /* asynchronous members whose checks must be read again */
    pthread_cond_t
        commit_cond; /* wakes the commit thread: an asynchronous head, a retry, closing */
    pthread_cond_t window_cond; /* wakes a leader in its re-join window: enough have queued */
    size_t window_wanted;       /* 0 = no leader waits */
    pthread_cond_t room_cond;   /* wakes writers that are held back: a flush or a compaction ended,
                                 the disk has room again, the store breaks or closes */
    size_t last_group;          /* members of the last group that synced */
    uint64_t sync_ns;           /* moving average of fdatasync */
    uint64_t unsynced_since_ns; /* 0 = the log has nothing unsynced (interval mode) */
    bool log_is_behind;         /* with being written out, which the sync thread sees to */
    pthread_cond_t sync_cond;   /* wakes the sync thread: either of these is set, closing */

    /* Write turn. */
    uint64_t last_revision; /* newest assigned */
    struct sdb_overlay *overlay;
    struct storm_slice group_ops[SDB_GROUP_MAX];
    struct sdb_commit *group[SDB_GROUP_MAX];

    struct sdb_admission admission;

    /* Flush. */
    pthread_cond_t flush_cond;     /* wakes the flush thread: something sealed, a compaction
                                      that ended, closing */
    pthread_cond_t flushed_cond;   /* wakes storm_flush: a flush ended, well or not */
    uint64_t seals, seals_flushed; /* memtables sealed; of them flushed */
    uint64_t flush_entries, flush_freed_bytes; /* by those flushes */
    uint64_t flush_goal;                       /* of seals: somebody waits for these */
    uint64_t flush_failures;                   /* attempts that failed */
    storm_status flush_status;                 /* of the last attempt */

    /* Compaction (compact.c). */
    pthread_cond_t compact_cond; /* wakes the compaction thread: compact_wanted, manual, closing */
    bool compact_wanted;         /* a flush was installed, or a snapshot released that mattered */
    bool is_compacting;          /* a job runs */
    bool level0_stuck; /* compaction cannot make level 0 smaller at present: do not wait for it */
    bool
        compact_rests; /* it found nothing to do when it last looked: whatever debt there is stays */
    bool
        is_range_watched; /* range deletes in the active memtable: the thread will look at them once
                              the store is idle */
    bool holds_old_versions;    /* the last level has some that are there for snapshots */
    struct sdb_manual *manuals; /* requests of storm_compact, first come first served */

    /* Counters. */
    uint64_t writes, groups, user_bytes;
    uint64_t flushes, flush_last_ms, flush_last_us, table_bytes;
    uint64_t compactions;
    struct sdb_tally tallies[SDB_TALLIES];
};

static inline struct sdb_lsm *sdb_lsm(storm_db *db)
{
    return (struct sdb_lsm *)db;
}

static inline void sdb_mem_fini(struct sdb_mem *mem)
{
    sdb_memtable_unref(mem->table);
    sdb_ranges_unref(mem->ranges);
}

/* Whether there is nothing to flush in it. */
static inline bool sdb_mem_is_empty(const struct sdb_mem *mem)
{
    return sdb_memtable_entries(mem->table) == 0 && mem->ranges == NULL;
}

/* The size of a log segment: as large as all memtables together, since that is what it protects,
 * but not above 64 MiB: that takes some 500,000 small writes, and a few segments live or spare cost
 * little disk. */
static inline uint64_t sdb_segment_bytes(const struct sdb_lsm *db)
{
    uint64_t most = UINT64_C(64) << 20;
    if (db->tuning.segment_bytes != 0)
        return db->tuning.segment_bytes;
    return db->options.write_buffer_bytes < most ? db->options.write_buffer_bytes : most;
}

/* Memory of the sealed memtables. mu is held. */
static inline size_t sdb_sealed_bytes(const struct sdb_lsm *db)
{
    size_t bytes = 0;
    for (size_t i = 0; i < db->sealed_count; i++)
        bytes += sdb_memtable_bytes(db->sealed[i].table);
    return bytes;
}

/* ---- open.c ---- */

/* sdb_lsm_engine.open on a given os (NULL = the real one), which is borrowed until close. */
storm_status sdb_lsm_open_on(struct sdb_os *os, const char *dir,
                             const struct storm_options *options, storm_db **db,
                             struct storm_error *error);
/* The same with other sizes of the tree (NULL = those that follow from the options). */
storm_status sdb_lsm_open_tuned(struct sdb_os *os, const char *dir,
                                const struct storm_options *options,
                                const struct sdb_tuning *tuning, storm_db **db,
                                struct storm_error *error);
storm_status sdb_lsm_close(storm_db *db);

/* A handle that is not open: os, directory, locks, options; also for repair. NULL: no memory; dir
 * in it is NULL when that could not be copied. */
struct sdb_lsm *sdb_lsm_create(struct sdb_os *os, const char *dir,
                               const struct storm_options *options);
/* Give back all that is in it. No thread of its own runs any more. */
void sdb_lsm_destroy(struct sdb_lsm *db);
/* Fill *error (may be NULL) with the newest sentence of `errors`, or (NULL, none) the status. */
void sdb_open_error(struct sdb_errors *errors, storm_status status, const char *dir,
                    struct storm_error *error);

/* An id for a store, by which its log records are told from another's; never 0. */
uint64_t sdb_new_store_id(struct sdb_os *os);

/* A fresh file number; takes mu. `ctx` is the struct sdb_lsm. */
uint64_t sdb_lsm_next_file(void *ctx);

/* This thread's door. */
static inline struct sdb_door *sdb_door(struct sdb_lsm *db)
{
    return &db->doors[sdb_thread_slot() % SDB_DOORS];
}

/* ---- iter.c ---- */

/* Destroy iterators that were db->spares. */
void sdb_lsm_iter_discard(struct lsm_iter *spares);

/* ---- view.c ---- */

/*
 * A view to read, and the revision to read it at: the snapshot's, or (NULL) what is visible now.
 * What was committed at or below that revision, range deletes too, is in the view.
 */
uint64_t sdb_view_read(struct sdb_lsm *db, const storm_snapshot *snapshot, struct sdb_view **view);
struct sdb_view *sdb_view_acquire(struct sdb_lsm *db);
void sdb_view_release(struct sdb_view *view); /* NULL is ignored */
/* Room for a view (for all doors), to be filled by install or freed; NULL when out of memory. */
struct sdb_view *sdb_view_alloc(void);
/* Fill `view` from active, sealed and version, and make it the current one. mu is held. */
void sdb_view_install(struct sdb_lsm *db, struct sdb_view *view);
/* The door by which `view` was taken. */
struct sdb_door *sdb_view_door(struct sdb_lsm *db, const struct sdb_view *view);
void sdb_doors_init(struct sdb_lsm *db);
void sdb_doors_fini(struct sdb_lsm *db); /* the view and the spares go with them */

/*
 * The revision of the newest range delete at or below `revision` that covers `key`, 0 = none:
 * versions below it are deleted for who reads at `revision`.
 */
uint64_t sdb_view_search_floor(const struct sdb_view *view, struct storm_slice key,
                               uint64_t revision);
static inline uint64_t sdb_view_floor(const struct sdb_view *view, struct storm_slice key,
                                      uint64_t revision)
{
    return view->ranges_count == 0 ? 0 : sdb_view_search_floor(view, key, revision);
}

/* ---- commit.c ---- */

storm_status sdb_lsm_write(storm_db *db, storm_batch *batch,
                           const struct storm_write_options *options, uint64_t *revision);
storm_status sdb_lsm_write_async(storm_db *db, storm_batch *batch,
                                 const struct storm_write_options *options, storm_write_fn done,
                                 void *ctx, uint64_t *revision);
/* Queue up to have the active memtable sealed, and wait until it is (at once when it is empty). */
storm_status sdb_commit_seal(struct sdb_lsm *db);
/* Seal the active memtable if nobody commits right now and there is a place for it; whether it
 * could be done. mu is held. */
bool sdb_commit_seal_if_free(struct sdb_lsm *db);
/* The thread that leads groups which begin with an asynchronous write. */
void *sdb_commit_thread(void *db);
/* No more commits: the reason is recorded already. mu is held. */
void sdb_lsm_break(struct sdb_lsm *db);

/* With room for nothing and nothing to flush: seal the active memtable, if nobody leads who
 * will. */
storm_status sdb_commit_make_room(struct sdb_lsm *db);

/* ---- admit.c: letting writes in, by pressure (pressure.h). mu is held for all but the last two. */

/* Once options and tuning are known; mu need not be held yet. */
void sdb_admission_init(struct sdb_lsm *db);
/* Work out the pressure anew, after a group; after a change of the version or of level0_stuck. */
void sdb_admission_update(struct sdb_lsm *db);
void sdb_admission_tree_changed(struct sdb_lsm *db);
/* Let a writer in that may be held back: sleeps, without mu, for as long as the pressure asks
 * for. */
storm_status sdb_admit(struct sdb_lsm *db, struct sdb_commit *commit);
/*
 * The same for one that may not. STORM_OK: queue it now. STORM_PENDING: it is held and belongs to
 * the commit thread, which takes it back by sdb_admission_next() when it is due.
 */
storm_status sdb_admit_async(struct sdb_lsm *db, struct sdb_commit *commit);
/* The next held write that is due, at once when the store closes or is broken; NULL: none. */
struct sdb_commit *sdb_admission_next(struct sdb_lsm *db);
/* How long until then; UINT64_MAX: none is held. */
uint64_t sdb_admission_next_ns(const struct sdb_lsm *db);
/* A flush ended well; `user_end` is its newest memtable's. */
void sdb_admission_flushed(struct sdb_lsm *db, uint64_t user_end, uint64_t table_bytes,
                           uint64_t took_ns);
/* A compaction ended well that took so many bytes out of level 0. */
void sdb_admission_compacted(struct sdb_lsm *db, uint64_t level0_bytes, uint64_t took_ns);
/* Whether the disk is so full that pressure depends on it: then somebody has to look again. */
bool sdb_admission_watches_disk(const struct sdb_lsm *db);
/* Bytes on the disk that compaction may use: free, and not kept so that what has been acknowledged
 * can always be flushed. */
uint64_t sdb_admission_room(const struct sdb_lsm *db);
void sdb_admission_stats(const struct sdb_lsm *db, struct storm_stats *stats);
/* Look at how much is free on the disk. mu is not held. */
void sdb_admission_look_at_disk(struct sdb_lsm *db);
unsigned sdb_lsm_busy_ms(storm_db *db);

/* ---- sync.c ---- */

/* The thread that syncs the log by interval. */
void *sdb_sync_thread(void *db);

/* ---- check.c: conditions ---- */

/* Read what the batch's checks need to know, before the turn. Takes a view into
 * commit->read_view. */
storm_status sdb_checks_read(struct sdb_lsm *db, storm_batch *batch);
void sdb_checks_release(storm_batch *batch);
/*
 * Decide the batch's checks at the turn: STORM_OK or STORM_CONFLICT, results filled; must_retry is
 * set in the commit when what was read is too old to decide by memory alone.
 */
storm_status sdb_checks_decide(const struct sdb_view *view, const struct sdb_overlay *overlay,
                               storm_batch *batch, uint64_t now_ms);
/* What earlier members of the same group did to keys. */
struct sdb_overlay *sdb_overlay_create(struct sdb_account *account);
void sdb_overlay_destroy(struct sdb_overlay *overlay);
void sdb_overlay_clear(struct sdb_overlay *overlay);
storm_status sdb_overlay_add(struct sdb_overlay *overlay, const storm_batch *batch,
                             uint64_t revision);

/* ---- touch.c: touches (called by the above, but for the last one) ---- */

struct sdb_found;
/* Keep what was found for a touch's check; takes over the reference to the block. */
void sdb_touch_pin(storm_batch *batch, const struct sdb_check *check,
                   const struct sdb_found *found);
/* Encode the puts from what was found. STORM_TOO_LARGE: the batch is, with the values it keeps. */
storm_status sdb_touches_read(struct sdb_lsm *db, storm_batch *batch);
void sdb_touches_release(storm_batch *batch);
/* At the turn: the check has met a newer value, borrowed from the view or the overlay. */
void sdb_touch_change(storm_batch *batch, const struct sdb_check *check, struct storm_slice value);
/*
 * At the turn, once all conditions hold: see to it that sdb_batch_ops() is up to date. `before` are
 * the bytes of operations of the group's earlier members. When it would be too much to copy after
 * them must_retry is set, as for checks. STORM_NO_MEMORY, STORM_TOO_LARGE.
 */
storm_status sdb_touches_decide(storm_batch *batch, size_t before);

/* ---- read.c ---- */

/* A version found by a lookup, pinned by one of the two. */
struct sdb_found {
    uint64_t tag;
    struct storm_slice value;
    struct sdb_block *block;
    struct sdb_memtable *memtable; /* borrowed from the view */
};

/* What one read has asked filters, to be added to the store's counters at its end. */
struct sdb_asked {
    uint64_t ruled_out, passed, passed_wrongly;
};

void sdb_tally_add(struct sdb_lsm *db, const struct sdb_asked *asked);
/* Fill in the bloom_ numbers, which are zero. */
void sdb_tally_sum(struct sdb_lsm *db, struct storm_stats *stats);

/* Record that a damaged table is in the way of a read: STORM_CORRUPT. */
storm_status sdb_damaged_table(struct sdb_lsm *db, const struct sdb_table_file *file);

/* The newest version of `key` at or below `revision` in the view, deletes included; STORM_NOT_FOUND
 * also when a range delete hides it. */
storm_status sdb_lookup(struct sdb_lsm *db, const struct sdb_view *view, struct storm_slice key,
                        uint64_t revision, struct sdb_found *found);
/* Hand a version to the caller, pinned; STORM_NOT_FOUND for a delete and for what expired by
 * now_ms.
 * *value is empty unless STORM_OK; then it has taken over the reference to the block. */
storm_status sdb_found_value(struct sdb_lsm *db, struct sdb_found *found, uint64_t now_ms,
                             struct storm_value *value);
storm_status sdb_lsm_get(storm_db *db, const storm_snapshot *snapshot, struct storm_slice key,
                         struct storm_value *value);

/* ---- get_many.c ---- */

storm_status sdb_lsm_get_many(storm_db *db, const storm_snapshot *snapshot,
                              struct storm_lookup *lookups, size_t count, uint64_t *revision);

/* ---- iter.c, snapshot.c, flush.c, stats.c ---- */

storm_status sdb_lsm_iter_create(storm_db *db, const struct storm_iter_options *options,
                                 storm_iter **iter);
void sdb_lsm_iter_destroy(storm_iter *iter);
void sdb_lsm_iter_first(storm_iter *iter);
void sdb_lsm_iter_last(storm_iter *iter);
void sdb_lsm_iter_seek(storm_iter *iter, struct storm_slice key);
void sdb_lsm_iter_seek_back(storm_iter *iter, struct storm_slice key);
void sdb_lsm_iter_next(storm_iter *iter);
void sdb_lsm_iter_prev(storm_iter *iter);
void sdb_lsm_iter_resume(storm_iter *iter);

storm_snapshot *sdb_lsm_snapshot_create(storm_db *db);
void sdb_lsm_snapshot_release(storm_snapshot *snapshot);
/*
 * Copy the revisions of all snapshots, ascending, into fresh memory. Behind them, not counted,
 * stands what is visible now: with it they are all at which anybody may read. mu is held by the
 * caller.
 */
storm_status sdb_snapshots_list(struct sdb_lsm *db, uint64_t **revisions, size_t *count);

storm_status sdb_lsm_flush(storm_db *db, struct storm_flush_result *result);
void *sdb_flush_thread(void *db);
/* Remove the files of tables that no version holds any more. */
void sdb_garbage_collect(struct sdb_lsm *db);

/* ---- compact.c ---- */

void *sdb_compact_thread(void *db);
/* Something has changed that may be worth a compaction. mu is held. */
void sdb_compact_wake(struct sdb_lsm *db);
storm_status sdb_lsm_compact(storm_db *db, struct storm_slice start, struct storm_slice end,
                             storm_progress_fn progress, void *ctx);

storm_status sdb_lsm_stats(storm_db *db, struct storm_stats *stats);

/* ---- checkpoint.c, verify.c, repair.c ---- */

storm_status sdb_lsm_repair(const char *dir, storm_report_fn report, void *ctx,
                            struct storm_repair_result *result, struct storm_error *error);
/* The same on a given os (NULL = the real one). */
storm_status sdb_lsm_repair_on(struct sdb_os *os, const char *dir, storm_report_fn report,
                               void *ctx, struct storm_repair_result *result,
                               struct storm_error *error);
storm_status sdb_lsm_checkpoint(storm_db *db, const char *dir, uint64_t *revision);

storm_status sdb_lsm_verify(storm_db *db, storm_progress_fn progress, storm_report_fn report,
                            void *ctx, struct storm_verify_result *result);

#endif
