/*
 * A batch as the engine sees it: the operations encoded once, as they go to the log and from there
 * to the memtable, and beside them what is known only to the commit: conditions and their outcome.
 *
 *   operation: kind u8 | key length varint | key | [value length varint | stored value]
 *
 * The value part belongs to puts; a range delete has its start for key (empty = the first) and its
 * end for value (empty = past the last). Checks are not encoded; they live in `checks` only.
 * Touches become puts when the batch is written (touch.c): a second run of operations is made then,
 * `touched`.
 *
 * The last operation on a key wins. All of a batch has one revision, and a range delete hides only
 * what is older, so one that is added turns the puts and touches before it that it covers into
 * deletes: entries and range deletes of a batch may then take effect in any order.
 */
#ifndef SDB_LSM_DB_BATCH_H
#define SDB_LSM_DB_BATCH_H

#include <pthread.h>

#include "lsm/entry.h"
#include "util/buffer.h"
#include "util/coding.h"

struct sdb_block;
struct sdb_view;

/* One operation that has a condition, or whose previous state is wanted. */
struct sdb_check {
    size_t index;  /* of the operation in the batch */
    size_t key_at; /* into batch->check_keys */
    size_t key_size;
    enum storm_condition condition;
    size_t revisions_at; /* into batch->check_revisions, as u64 */
    size_t revision_count;
    size_t touch; /* its place in batch->touches, from 1; 0 = not a touch */

    /* Read before the commit turn, at batch->commit.read_revision. */
    bool prior_exists;
    uint64_t prior_revision;
    uint64_t prior_expires_ms;

    struct storm_op_result result;
};

struct sdb_touch {
    size_t check;  /* in batch->checks: its key, its condition, what it met */
    size_t ops_at; /* in batch->ops: where the put belongs that it becomes */
    uint64_t expires_ms;
    uint64_t modified_ms; /* 0 = as it was */
    bool is_deleted;      /* by a range delete behind it: it becomes a delete instead */

    /* While the batch is written. */
    struct storm_slice value; /* stored form, of the revision in the check; empty = absent */
    struct sdb_block *block;  /* pins it when it is from a table, else NULL */
};

enum sdb_commit_state { SDB_COMMIT_IDLE, SDB_COMMIT_QUEUED, SDB_COMMIT_DONE };

/* A batch's place in the commit queue (commit.c). All of it is guarded by the db's mutex while
 * queued. */
struct sdb_commit {
    struct sdb_commit *next;
    storm_batch *batch; /* NULL: a request to seal the memtable (flush) */
    bool needs_sync;
    bool needs_interval;
    storm_write_fn done; /* NULL: a thread waits on `wake` */
    void *done_ctx;
    pthread_cond_t *wake;
    enum sdb_commit_state state;
    uint64_t held_ns, due_ns; /* since when, and until when, it is held (admit.c) */
    enum storm_wait_cause held_for;
    bool must_retry; /* what was read for the checks is too old; read again and queue again */
    storm_status status;
    uint64_t revision;
    struct sdb_view
        *read_view; /* pins the memtables the checks were read from; NULL without checks */
    uint64_t read_revision;
    size_t max_bytes; /* of keys and values in a batch of several; set with touches only */
};

struct storm_batch {
    struct sdb_buffer ops;
    size_t count;       /* operations added, checks included */
    size_t writes;      /* of them to be written: all but the checks */
    size_t range_count; /* of them range deletes */
    size_t largest_key;
    size_t largest_value; /* the caller's bytes */
    size_t user_bytes;    /* keys and values of all operations; of touches only the keys */
    struct sdb_check *checks;
    size_t check_count;
    size_t check_room;
    struct sdb_buffer check_keys;
    struct sdb_buffer check_revisions;
    struct sdb_touch *touches; /* in order of ops_at */
    size_t touch_count;
    size_t touch_room;
    struct sdb_buffer touched; /* ops with a put for each touch */
    bool is_touched;           /* `touched` holds what the checks have met */
    struct sdb_commit commit;
};

/* The operations to be written: for the commit, once checks and touches have been read. */
static inline struct storm_slice sdb_batch_ops(const storm_batch *batch)
{
    return sdb_buffer_slice(batch->touch_count == 0 ? &batch->ops : &batch->touched);
}

static inline struct storm_slice sdb_check_key(const storm_batch *batch,
                                               const struct sdb_check *check)
{
    return storm_bytes(batch->check_keys.data + check->key_at, check->key_size);
}

/* Append one put; the buffer's status tells. */
void sdb_batch_encode_put(struct sdb_buffer *ops, struct storm_slice key,
                          const struct storm_meta *meta, struct storm_slice value);

/* Whether the condition holds for a key in this state. */
bool sdb_check_holds(const storm_batch *batch, const struct sdb_check *check, bool exists,
                     uint64_t revision);

/* One encoded operation. */
struct sdb_batch_op {
    enum sdb_kind kind;
    struct storm_slice key;
    struct storm_slice value; /* stored form, with its header; of a range delete its end */
};

/* The next operation of an encoded run. False at the end (cursor empty) or when malformed (at
 * NULL). */
bool sdb_batch_next(struct sdb_cursor *cursor, struct sdb_batch_op *op);

#endif
