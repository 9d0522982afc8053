/*
 * libstorm: an ordered, durable key-value store as a C library.
 *
 * Terms
 *   key        1 to 65,535 bytes, any byte values, ordered as memcmp orders them, shorter first.
 *   value      0 bytes to the store's limit (1 GiB at most); the engine never looks inside.
 *   revision   one 64-bit counter for the whole store, below 2^53. Every committed write or batch
 *              takes the next one; a key's revision is that of the last write to it.
 *   batch      operations that take effect together, or not at all, under one revision.
 *   snapshot   the store as it was at one revision, readable for as long as it is held.
 *   memtable   the sorted writes that are still in memory (and in the log). Full ones are sealed.
 *   SSTable    an immutable sorted file; a flush turns sealed memtables into one.
 *   log        the write-ahead log; a commit is in it before it is in the memtable.
 *   feed       committed operations in order of revision, read from the log.
 *
 * What a successful write means is the caller's choice, per store or per write (enum storm_sync):
 * STORM_SYNC_FULL returns after fdatasync, so the write survives power loss; STORM_SYNC_NONE
 * returns when the operating system has it, so it survives the death of the process but not of the
 * machine. A write becomes visible to readers only once it is as durable as its writer asked for.
 *
 * Threads: a storm_db may be used by any number of threads at once. One mutex guards the engine's
 * mutable state (commit queue, revisions, choice of memtable, version list, background work);
 * readers take a counted reference to an immutable view and search without it. Batches, values,
 * iterators and snapshots belong to one thread at a time.
 *
 * Errors: every function that can fail returns a storm_status; output parameters are set to an
 * empty value first, so they are safe to release after a failure. storm_last_error() has the
 * sentence.
 *
 * Ownership: what a _create or _open function hands out is given back with the matching _destroy or
 * _close. Slices passed in are borrowed until the call returns, unless a function says otherwise.
 *
 * Caveats
 *   - A held snapshot, iterator or pinned value keeps old data alive: disk and memory grow while
 *     writes go on. storm_stats says how old the oldest snapshot is.
 *   - After a failed fsync the store turns read-only until it is opened again: the kernel may have
 *     dropped the very pages that failed, so trying again could acknowledge what is lost.
 *   - One process per directory, enforced by a lock file that the kernel releases with the process.
 *   - Do not open a store on a network file system whose fdatasync or flock are not honest.
 *   - After fork() the child must not use the parent's handles.
 */
#ifndef STORM_STORM_H
#define STORM_STORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define STORM_API        __attribute__((visibility("default")))
#define STORM_MUST_CHECK __attribute__((warn_unused_result))
#else
#define STORM_API
#define STORM_MUST_CHECK
#endif

/* 0 is success, below 0 an error, above 0 a success with something to add. */
typedef int storm_status;
enum {
    STORM_MORE = 2,        /* stopped at a limit of its own; there is more to be had */
    STORM_PENDING = 1,     /* accepted; the callback will be called exactly once */
    STORM_OK = 0,          /* done */
    STORM_NOT_FOUND = -1,  /* no such key (or file) */
    STORM_CONFLICT = -2,   /* a condition did not hold; nothing was written */
    STORM_INVALID = -3,    /* an argument or option is out of its range */
    STORM_TOO_LARGE = -4,  /* key, value or batch over its limit */
    STORM_BUSY = -5,       /* over the write budget; try again after storm_busy_ms() */
    STORM_NO_SPACE = -6,   /* disk full or quota used up; reads go on, writing resumes by itself */
    STORM_IO = -7,         /* the operating system reported a failure */
    STORM_CORRUPT = -8,    /* a checksum or a structure is wrong; other keys stay readable */
    STORM_READ_ONLY = -9,  /* opened read-only, or turned read-only by an earlier failure */
    STORM_LOCKED = -10,    /* another process (or handle) has the directory open */
    STORM_NO_MEMORY = -11, /* an allocation failed; nothing was changed */
    STORM_UNSUPPORTED = -12, /* this engine or this build cannot do that */
    STORM_COMMIT_UNKNOWN =
        -13,            /* the disk failed in the middle: the write may be there after reopening */
    STORM_EXISTS = -14, /* already there where absence was demanded */
    STORM_CLOSED = -15, /* the store is closing */
    STORM_NEWER_FORMAT = -16, /* written by a newer release; this one leaves it untouched */
    STORM_DENIED = -17,       /* permission denied by the operating system */
    STORM_CANCELLED = -18,    /* the caller's own callback asked to stop */
    STORM_GONE = -19,         /* history that is no longer kept */
    STORM_TIMED_OUT = -20,    /* the time allowed has passed */
};

/* The status in a few lower-case words, such as "not found". Static; never NULL. */
STORM_API const char *storm_status_text(storm_status status);

/* The library's version, such as "1.2.0". Static. */
STORM_API const char *storm_version(void);

/* Bytes that somebody else owns. `data` may be NULL when `size` is 0. */
struct storm_slice {
    const uint8_t *data;
    size_t size;
};

static inline struct storm_slice storm_bytes(const void *data, size_t size)
{
    return (struct storm_slice){(const uint8_t *)data, size};
}

static inline struct storm_slice storm_text(const char *text)
{
    return storm_bytes(text, strlen(text));
}

/* ---- Opening --------------------------------------------------------------------------------- */

enum storm_sync {
    STORM_SYNC_DEFAULT = 0, /* in a write: what the store was opened with; in options: FULL */
    STORM_SYNC_FULL,        /* acknowledged after fdatasync: survives power loss */
    STORM_SYNC_INTERVAL,    /* as NONE, and the log is synced every sync_interval_ms */
    STORM_SYNC_NONE,        /* acknowledged when the kernel has it: survives kill -9 */
};

enum storm_codec {
    STORM_CODEC_NONE = 0,
    STORM_CODEC_DEFLATE = 1,
    STORM_CODEC_LZ4 = 2,
    STORM_CODEC_ZSTD = 3
};

enum storm_log_level { STORM_LOG_ERROR, STORM_LOG_WARN, STORM_LOG_INFO, STORM_LOG_DEBUG };

/*
 * Fill with storm_options_init(), then change what you need. Everything is checked once, by
 * storm_open(), which names the field and its range. Opening an existing store may change any of
 * them: tables say for themselves how they were written.
 */
struct storm_options {
    /* Rotation size of one memtable: 64 KiB to 1 GiB; 0 (default) = three eighths of the write
     * buffer, 64 MiB at most. Smaller ones make for smaller tables, which are merged more often. */
    size_t memtable_bytes;
    size_t memtable_entries;   /* rotation by count as well; 0 (default) = by bytes only */
    size_t write_buffer_bytes; /* all memtables together; 1 MiB to 16 GiB, default 64 MiB */
    size_t cache_bytes;        /* block cache, uncompressed; 0 = none, default 64 MiB */
    enum storm_sync sync;      /* default STORM_SYNC_FULL */
    unsigned sync_interval_ms; /* for STORM_SYNC_INTERVAL: 1 to 60,000, default 100 */
    enum storm_codec codec;    /* of new tables, default STORM_CODEC_DEFLATE */
    int codec_level;        /* 0 (default) = its own; deflate 1 to 9, LZ4 to 12, Zstandard to 19 */
    size_t block_bytes;     /* uncompressed size of a table's block; 1 to 64 KiB, default 4 KiB */
    double bloom_bits;      /* filter bits per key; 0 = no filter, 4 to 32, default 10.5 (0.8 %) */
    bool map_tables;        /* read raw tables through mappings of their files; default true */
    size_t max_key_bytes;   /* 1 to 65,535, default 4,096 */
    size_t max_value_bytes; /* up to 1 GiB, default 32 MiB */
    size_t max_batch_bytes; /* keys and values of a batch of several; up to 1 GiB, default 64 MiB */
    /* How much of the log is kept for change feeds beyond what recovery needs: so many bytes (0 =
     * none, default 64 MiB, up to 1 TiB), none of it older than so many ms (0, default = any
     * age). */
    uint64_t log_retention_bytes;
    uint64_t log_retention_ms;
    bool must_exist;  /* refuse (STORM_NOT_FOUND) to create a new store */
    bool must_be_new; /* refuse (STORM_EXISTS) to open an existing one */
    bool read_only;   /* no file is written, created or removed; no lock is taken for writing */

    /* One line of log, without newline, for operators: starts, recoveries, flushes, compactions,
     * failures; never one per write. May be called from any thread; must not call the store. */
    void (*log)(void *ctx, enum storm_log_level level, const char *line);
    void *log_ctx;
};

STORM_API void storm_options_init(struct storm_options *options);

/*
 * Where a failing storm_open() or storm_repair() puts its sentence: what is wrong, and where. What
 * to do about STORM_CORRUPT is always the same: restore the directory from a backup as a whole,
 * never single files of it, or storm_repair().
 */
struct storm_error {
    storm_status status;
    char message[512];
};

typedef struct storm_db storm_db;

/*
 * Open a store, creating it when it is not there. `target` is a directory, or a URL of an engine
 * this build has. Recovers what a crash left. On failure *db is NULL and *error (which may be
 * NULL) says why. `options` may be NULL for the defaults.
 */
STORM_API STORM_MUST_CHECK storm_status storm_open(const char *target,
                                                   const struct storm_options *options,
                                                   storm_db **db, struct storm_error *error);

/*
 * Finish every pending commit, make the log durable, stop the threads, release the directory.
 * No other call on `db` may be running or follow; iterators, snapshots and values must have been
 * given back. The handle is gone afterwards even when an error is returned, which then says that
 * acknowledged STORM_SYNC_NONE writes may not be on the disk yet.
 */
STORM_API storm_status storm_close(storm_db *db);

/* Copy the newest recorded failure of this store into `text` (always terminated; empty if none). */
STORM_API void storm_last_error(storm_db *db, char *text, size_t size);

/* ---- Writing --------------------------------------------------------------------------------- */

/* What is stored beside a value. All zero is the common case and costs one byte. */
struct storm_meta {
    uint64_t expires_ms;     /* Unix time in ms from which the key reads as absent; 0 = never */
    uint64_t modified_ms;    /* Unix time in ms the caller wants kept; 0 = none */
    struct storm_slice type; /* content type, at most 127 bytes; empty = none */
};

enum storm_op_kind {
    STORM_PUT,    /* store `value` and `meta` under `key` */
    STORM_DELETE, /* remove `key`; not an error when absent, unless conditioned */
    STORM_CHECK,  /* only the condition */
    /* Give `key` another expiry (meta.expires_ms, 0 = never; and meta.modified_ms unless 0) and a
     * new revision, keeping the value and type it had before the batch, whatever else the batch
     * does to the key; `value` and meta.type are not looked at. An absent or expired key is a
     * failed condition; one that the operation has must hold as well. Values that are kept count in
     * max_batch_bytes, but max_value_bytes is not asked again. */
    STORM_TOUCH,
    /* Remove all keys from `key` (empty = the first) up to, not including, `end` (empty = past the
     * last). Costs the same for any number of keys. Takes no condition. With an `end` at or before
     * `key` the range is empty: nothing is removed, but it counts as a write. At most 256 in a
     * batch (STORM_TOO_LARGE). */
    STORM_DELETE_RANGE,
};

enum storm_condition {
    STORM_ALWAYS = 0,
    STORM_IF_ABSENT,     /* the key does not exist */
    STORM_IF_PRESENT,    /* the key exists */
    STORM_IF_MATCH,      /* the key exists at one of `revisions` */
    STORM_IF_NONE_MATCH, /* the key is absent, or at none of `revisions` */
};

/* Conditions see the store just before the batch: not the batch's own other operations. */
struct storm_op {
    enum storm_op_kind kind;
    enum storm_condition condition;
    struct storm_slice key;
    struct storm_slice end; /* of DELETE_RANGE only */
    struct storm_slice value;
    struct storm_meta meta;
    const uint64_t *revisions; /* for IF_MATCH and IF_NONE_MATCH */
    size_t revision_count;     /* at most 64 */
    bool want_previous;        /* find out what was there before even without a condition */
};

/* What an operation met. Known for operations with a condition or `want_previous`. */
struct storm_op_result {
    bool holds;                 /* the condition held */
    bool existed;               /* the key existed before */
    uint64_t previous_revision; /* its revision then; 0 when it did not exist */
};

typedef struct storm_batch storm_batch;

/* An empty batch; NULL when out of memory. A batch may be used again after storm_batch_clear(). */
STORM_API storm_batch *storm_batch_create(void);
STORM_API void storm_batch_destroy(storm_batch *batch);
STORM_API void storm_batch_clear(storm_batch *batch);

/*
 * Add one operation. Everything is copied. The last operation on a key wins. STORM_INVALID for an
 * empty key or an over-long type; STORM_TOO_LARGE beyond 1 GiB; the store's own limits are checked
 * by storm_write().
 */
STORM_API STORM_MUST_CHECK storm_status storm_batch_add(storm_batch *batch,
                                                        const struct storm_op *op);
STORM_API STORM_MUST_CHECK storm_status storm_batch_put(storm_batch *batch, struct storm_slice key,
                                                        struct storm_slice value);
STORM_API STORM_MUST_CHECK storm_status storm_batch_delete(storm_batch *batch,
                                                           struct storm_slice key);
STORM_API STORM_MUST_CHECK storm_status storm_batch_delete_range(storm_batch *batch,
                                                                 struct storm_slice start,
                                                                 struct storm_slice end);
STORM_API size_t storm_batch_count(const storm_batch *batch);

/* What operation `index` met, after the write is over. Zeroes where it was not asked for. */
STORM_API struct storm_op_result storm_batch_result(const storm_batch *batch, size_t index);

struct storm_write_options {
    enum storm_sync sync; /* STORM_SYNC_DEFAULT = the store's */
};

/*
 * Commit a batch. Blocks until it is as durable as asked and visible; *revision (may be NULL) is
 * its revision. STORM_CONFLICT when any condition failed (storm_batch_result tells which), and
 * then nothing is written. A batch of only checks commits nothing and reports the newest revision.
 * Any error but STORM_COMMIT_UNKNOWN means that nothing happened.
 */
STORM_API STORM_MUST_CHECK storm_status storm_write(storm_db *db, storm_batch *batch,
                                                    const struct storm_write_options *options,
                                                    uint64_t *revision);

/*
 * The outcome of an asynchronous commit. Called on a thread of the store that other commits wait
 * for: hand the news over and return; do not block and do not call the store.
 */
typedef void (*storm_write_fn)(void *ctx, storm_status status, uint64_t revision);

/*
 * The same without waiting for the disk. STORM_PENDING: `done` will be called exactly once, perhaps
 * before this returns, and `batch` belongs to the store until then. Anything else is the outcome
 * itself (*revision set as by storm_write) and `done` is never called: writes that need no sync
 * usually end so. STORM_BUSY instead of blocking when the store is over its write budget:
 * storm_busy_ms() says when to try again.
 */
STORM_API STORM_MUST_CHECK storm_status storm_write_async(storm_db *db, storm_batch *batch,
                                                          const struct storm_write_options *options,
                                                          storm_write_fn done, void *ctx,
                                                          uint64_t *revision);

/* About how long, in ms, until a write that was told STORM_BUSY now would be taken; at least 1. */
STORM_API unsigned storm_busy_ms(storm_db *db);

/* One operation without a batch of one's own. */
STORM_API STORM_MUST_CHECK storm_status storm_put(storm_db *db, struct storm_slice key,
                                                  struct storm_slice value);
STORM_API STORM_MUST_CHECK storm_status storm_delete(storm_db *db, struct storm_slice key);
STORM_API STORM_MUST_CHECK storm_status storm_delete_range(storm_db *db, struct storm_slice start,
                                                           struct storm_slice end);

/* ---- Reading --------------------------------------------------------------------------------- */

typedef struct storm_snapshot storm_snapshot;

/* The store as it is now; NULL when out of memory. Release it before storm_close(). */
STORM_API storm_snapshot *storm_snapshot_create(storm_db *db);
STORM_API void storm_snapshot_release(storm_snapshot *snapshot);
STORM_API uint64_t storm_snapshot_revision(const storm_snapshot *snapshot);

/* A value and what is stored beside it. Pins memory of the store until storm_value_release(). */
struct storm_value {
    struct storm_slice bytes;
    struct storm_meta meta;
    uint64_t revision; /* of the write that put it there */
    void *pin;         /* the store's own */
    void (*unpin)(void *pin);
};

/* Read one key, at `snapshot` or (NULL) now. STORM_NOT_FOUND when absent, deleted or expired. */
STORM_API STORM_MUST_CHECK storm_status storm_get(storm_db *db, const storm_snapshot *snapshot,
                                                  struct storm_slice key,
                                                  struct storm_value *value);

/* Give the pinned memory back. Harmless on a value that storm_get did not fill, and twice. */
static inline void storm_value_release(struct storm_value *value)
{
    if (value->unpin != NULL)
        value->unpin(value->pin);
    memset(value, 0, sizeof *value);
}

/*
 * Turn a pinned value into a copy with memory of its own, which holds nothing of the store and may
 * outlive it; released in the same way. STORM_NO_MEMORY leaves it pinned. Once is enough: a second
 * call does nothing.
 */
STORM_API STORM_MUST_CHECK storm_status storm_value_detach(struct storm_value *value);

/* One of several keys that are read together. */
struct storm_lookup {
    struct storm_slice key;
    storm_status status;      /* out: as storm_get would have said */
    struct storm_value value; /* out: to be released when the status is STORM_OK */
};

/*
 * Read `count` keys, in any order, all of one state: the snapshot's, or now; *revision (may be
 * NULL) is that state's. STORM_OK when each was found or is absent; otherwise the first other
 * failure, and then too every lookup has its own status.
 */
STORM_API STORM_MUST_CHECK storm_status storm_get_many(storm_db *db, const storm_snapshot *snapshot,
                                                       struct storm_lookup *lookups, size_t count,
                                                       uint64_t *revision);

typedef struct storm_iter storm_iter;

struct storm_iter_options {
    const storm_snapshot *snapshot; /* NULL = the store as it is when the iterator is created */
    struct storm_slice start;       /* first key to see (inclusive); empty = the first of all */
    struct storm_slice end;         /* first key not to see (exclusive); empty = no bound */
    struct storm_slice prefix;      /* only keys that begin with it, within the bounds */
    /* Values are not looked at: storm_iter_value() and storm_iter_meta() are empty. */
    bool keys_only;
    /* The most entries that one move may pass over because they are deleted, expired, overwritten
     * or newer than the snapshot; 0 = any number. A move that meets more stops: not valid, its
     * status is STORM_MORE, storm_iter_key() is where it stopped, a key that it has not dealt with,
     * and storm_iter_resume() goes on from there. It stops between keys only, and deals with one at
     * least: what it searches past among the versions of one key does not count. */
    uint64_t max_skipped;
};

/*
 * An iterator over live keys in order, of one consistent state. It stands nowhere until it is
 * moved. `options` may be NULL; its slices are copied. NULL *iter on failure.
 */
STORM_API STORM_MUST_CHECK storm_status storm_iter_create(storm_db *db,
                                                          const struct storm_iter_options *options,
                                                          storm_iter **iter);
STORM_API void storm_iter_destroy(storm_iter *iter);

STORM_API void storm_iter_first(storm_iter *iter);
STORM_API void storm_iter_last(storm_iter *iter);
/* To the first key >= `key` within the bounds. */
STORM_API void storm_iter_seek(storm_iter *iter, struct storm_slice key);
/* To the last key <= `key` within the bounds. */
STORM_API void storm_iter_seek_back(storm_iter *iter, struct storm_slice key);
/* Forward and back; only on a valid iterator. */
STORM_API void storm_iter_next(storm_iter *iter);
STORM_API void storm_iter_prev(storm_iter *iter);
/*
 * Only when the status is STORM_MORE: go on in the direction in which the iterator was moving. The
 * same with another iterator, perhaps much later: seek (going forward) or seek_back to the key
 * where this one stopped.
 */
STORM_API void storm_iter_resume(storm_iter *iter);

/* Whether it stands on an entry. False at either end, at STORM_MORE, and after an error. */
STORM_API bool storm_iter_valid(const storm_iter *iter);
STORM_API STORM_MUST_CHECK storm_status storm_iter_status(const storm_iter *iter);

/* The entry it stands on; borrowed until the iterator moves. The revision is the entry's. */
STORM_API struct storm_slice storm_iter_key(const storm_iter *iter);
STORM_API struct storm_slice storm_iter_value(const storm_iter *iter);
STORM_API struct storm_meta storm_iter_meta(const storm_iter *iter);
STORM_API uint64_t storm_iter_revision(const storm_iter *iter);

/* ---- Change feed ----------------------------------------------------------------------------- */

/*
 * Committed operations in order of revision, none left out, read from the log: from any revision
 * that is still kept (options.log_retention_bytes and _ms), across restarts too. A feed sees what
 * readers see, no earlier and no later. It holds no log back: one that falls behind what is kept is
 * told STORM_GONE. Expiry is no operation: it shows in the put's meta.
 */
typedef struct storm_feed storm_feed;

struct storm_change {
    uint64_t revision;
    size_t index;            /* of the operation within its batch, from 0; checks do not count */
    bool is_last;            /* of its revision */
    enum storm_op_kind kind; /* STORM_PUT (touches too), STORM_DELETE or STORM_DELETE_RANGE */
    struct storm_slice key;
    struct storm_slice end;   /* of DELETE_RANGE */
    struct storm_slice value; /* of PUT */
    struct storm_meta meta;   /* of PUT */
};

/*
 * Begin at the first operation of revision `from` (0 = the oldest kept); it may lie in the future.
 * STORM_GONE when the log no longer has it: storm_stats.feed_oldest_revision says what it has.
 * Close feeds before the store.
 */
STORM_API STORM_MUST_CHECK storm_status storm_feed_open(storm_db *db, uint64_t from,
                                                        storm_feed **feed);
STORM_API void storm_feed_close(storm_feed *feed);

/*
 * The next operation; its slices are borrowed until the next call on the feed. STORM_NOT_FOUND:
 * none yet. STORM_GONE: overtaken; close the feed, read the store anew. Other errors leave the feed
 * where it was.
 */
STORM_API STORM_MUST_CHECK storm_status storm_feed_next(storm_feed *feed,
                                                        struct storm_change *change);

/*
 * Wait until storm_feed_next() has something (STORM_OK), for so long at most (STORM_TIMED_OUT), or
 * until storm_feed_interrupt() is called (STORM_CANCELLED), which may come from any thread; all
 * other calls on one feed belong to one thread at a time.
 */
STORM_API STORM_MUST_CHECK storm_status storm_feed_wait(storm_feed *feed, unsigned timeout_ms);
STORM_API void storm_feed_interrupt(storm_feed *feed);

/*
 * The same without a thread that waits. STORM_PENDING: `ready` will be called once, as soon as
 * there is something, on a thread that commits wait for: hand the news over and return, do not call
 * the store. STORM_OK: there is something already, and it is not called. `ready` = NULL takes an
 * earlier request back, and when that returns, it is not running and will not be called any more;
 * so does closing the feed.
 */
STORM_API STORM_MUST_CHECK storm_status storm_feed_notify(storm_feed *feed,
                                                          void (*ready)(void *ctx), void *ctx);

/* ---- Maintenance ----------------------------------------------------------------------------- */

/*
 * What became durable in SSTables between the beginning and the end of the call: by a flush that it
 * began, and by those that were running or that others began meanwhile. So what was in memory at
 * the beginning is always counted, and calls that overlap may count the same.
 */
struct storm_flush_result {
    uint64_t entries; /* 0 = nothing was in memory, or nothing that was still worth keeping */
    uint64_t bytes;   /* of memtable that became free */
    uint64_t duration_us;
};

/* Turn all that is in memory now into SSTables and wait until they are durable. */
STORM_API STORM_MUST_CHECK storm_status storm_flush(storm_db *db,
                                                    struct storm_flush_result *result);

/*
 * How far a long operation is, from time to time, on the thread that called it: bytes read, and all
 * there are to read (which may grow a little on the way). False = stop. Must not call the store.
 */
typedef bool (*storm_progress_fn)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);

/*
 * Rewrite all keys in [start, end) (empty = unbounded) that were written before this call, and
 * wait: they end up in the last level, in the store's present codec, without deleted, expired and
 * overwritten entries but for those that a snapshot holds. The store compacts by itself in the
 * background; this is for what cannot wait, such as giving back space after deleting much. Reads
 * and writes go on meanwhile. `progress` may be NULL. STORM_CANCELLED when it returned false: what
 * was done by then stays done. STORM_CORRUPT when damaged tables had to be left as they are;
 * STORM_NO_SPACE and others as they come, with the store as good as before.
 */
STORM_API STORM_MUST_CHECK storm_status storm_compact(storm_db *db, struct storm_slice start,
                                                      struct storm_slice end,
                                                      storm_progress_fn progress, void *ctx);

/*
 * Make a second store, of what is visible now, in the directory `dir`, which must not exist
 * (STORM_EXISTS) and whose parent must be on the same file system: the tables are hard links, so it
 * costs a flush and little space. Durable on return; *revision (may be NULL) is its newest. Reads
 * and writes go on meanwhile. A failure leaves no `dir` behind, as far as the file system allows.
 * STORM_UNSUPPORTED on another file system; STORM_READ_ONLY when the store takes no writes, for
 * what is in memory cannot be flushed then.
 */
STORM_API STORM_MUST_CHECK storm_status storm_checkpoint(storm_db *db, const char *dir,
                                                         uint64_t *revision);

/* What verification and repair have to say, one line each, without newline: a file's name first. */
typedef void (*storm_report_fn)(void *ctx, storm_status status, const char *line);

struct storm_verify_result {
    uint64_t tables, blocks, entries, bytes; /* looked at */
    uint64_t problems;                       /* reported */
};

/*
 * Read all of the store and check it: manifest, every block's checksum, order and bounds of keys,
 * filters (no key may be ruled out), properties, and that tables of a level do not overlap. Works
 * on the tables of now, beside reads and writes; the log was checked when it was opened.
 * STORM_CORRUPT when there are problems, each of them reported; STORM_CANCELLED when `progress`
 * returned false. `report` and `progress` may be NULL; neither may call the store. Lines under
 * STORM_OK are information: files that are not part of the store.
 */
STORM_API STORM_MUST_CHECK storm_status storm_verify(storm_db *db, storm_progress_fn progress,
                                                     storm_report_fn report, void *ctx,
                                                     struct storm_verify_result *result);

struct storm_repair_result {
    uint64_t tables_kept;     /* whole, used as they are */
    uint64_t tables_salvaged; /* what could be read, if not all, is in new ones */
    uint64_t tables_lost;     /* nothing of them could be read */
    uint64_t log_records;     /* found in log segments and written to new tables */
    uint64_t entries;         /* in the repaired store, versions counted */
    uint64_t revision;        /* its newest */
};

/*
 * Make a store out of what is left in a directory that does not open, or that storm_verify()
 * complains of: every readable block of every table, every whole record of the log, in a new
 * manifest. Originals that are not used as they are move to `lost/` below the directory; nothing is
 * removed. Deleted keys may come back when the delete itself was lost, and so may older values.
 * Nobody may have the store open (STORM_LOCKED). A crash on the way leaves a directory that can be
 * repaired again. STORM_OK also when much was lost: the report and *result say what.
 */
STORM_API STORM_MUST_CHECK storm_status storm_repair(const char *dir, storm_report_fn report,
                                                     void *ctx, struct storm_repair_result *result,
                                                     struct storm_error *error);

#define STORM_MAX_LEVELS 7

/* Why writes have waited. */
enum storm_wait_cause {
    STORM_WAIT_MEMORY,     /* memtables fill the write buffer faster than they are flushed */
    STORM_WAIT_LEVEL0,     /* tables in level 0 gather faster than they are merged down */
    STORM_WAIT_COMPACTION, /* the deeper levels are over their targets by much */
    STORM_WAIT_DISK,       /* the disk is nearly full */
    STORM_WAIT_CAUSES
};

/* A consistent set of numbers. Counters start at zero with each open; bytes are bytes. */
struct storm_stats {
    uint64_t revision; /* newest visible */
    bool read_only;    /* opened so, or turned so: see storm_last_error */

    uint64_t memtable_bytes; /* in use by active and sealed ones; 0 when all is flushed */
    uint64_t memtable_entries;
    uint64_t memtable_limit_bytes; /* options.write_buffer_bytes */
    uint64_t memtables_sealed;

    uint64_t sstable_count;
    uint64_t sstable_bytes;
    uint64_t level_files[STORM_MAX_LEVELS];
    uint64_t level_bytes[STORM_MAX_LEVELS];
    uint64_t entries_estimate; /* live keys, counting shadowed versions too */

    /* A filter is asked before a table is read. hits: it ruled the table out, so no block was
     * read. passes: it said "maybe". false_positives: it passed and the key was not there. */
    uint64_t bloom_hits;
    uint64_t bloom_passes;
    uint64_t bloom_false_positives;

    uint64_t cache_bytes, cache_limit_bytes, cache_hits, cache_misses;

    uint64_t log_bytes; /* live log */
    uint64_t log_segments;
    uint64_t log_syncs;
    uint64_t log_last_sync_us;
    uint64_t log_group_commits; /* commit groups; writes / groups is the group size */
    uint64_t writes;            /* committed batches */

    uint64_t flushes;
    uint64_t flush_last_ms; /* Unix time in ms; 0 = none yet */
    uint64_t flush_last_duration_us;
    uint64_t bytes_written_user; /* keys and values committed */
    uint64_t bytes_written_log;
    uint64_t bytes_written_tables; /* by flush and compaction */

    uint64_t compactions;
    uint64_t compaction_pending_bytes; /* estimate of what must be rewritten to be settled */
    bool compaction_running;

    /* Writes that were held back, and for how long together; the same by cause. */
    uint64_t write_waits, write_wait_us;
    uint64_t write_waits_by[STORM_WAIT_CAUSES];
    uint64_t write_wait_us_by[STORM_WAIT_CAUSES];
    uint64_t write_wait_longest_us; /* of one write */
    uint64_t writes_refused;        /* told STORM_BUSY */
    double write_pressure;          /* 0 = none; from 1 on writes stand still */

    /* Memory held by the store, by what for; the sum is memory_bytes. */
    uint64_t memory_bytes;
    uint64_t memory_memtables; /* whole arenas, those that only readers still hold included */
    uint64_t memory_cache;     /* blocks and their bookkeeping */
    uint64_t memory_tables;    /* indexes, filters and descriptions of open tables */
    uint64_t memory_log;       /* buffers */

    uint64_t range_deletes;        /* in force: not yet applied to every table */
    uint64_t feed_oldest_revision; /* the log holds it and everything since; 0 = nothing */
    uint64_t feeds;                /* open */

    uint64_t snapshots;
    uint64_t snapshot_oldest_ms; /* age of the oldest; 0 = none */
    uint64_t errors;             /* failures recorded, see storm_last_error */
    uint64_t corruptions;        /* of them checksum and structure errors */
    uint64_t disk_free_bytes;
    uint64_t disk_kept_bytes; /* for flushes: writes are told STORM_NO_SPACE when no more is free */
};

STORM_API STORM_MUST_CHECK storm_status storm_stats_read(storm_db *db, struct storm_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
