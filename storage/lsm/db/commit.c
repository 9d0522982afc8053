/*
 * Commits: a queue, a turn, groups.
 *
 * A writer encodes its batch without any lock, takes mu and joins the queue. The writer at the
 * front leads when the turn is free: it takes a group of the writers behind it (to 1 MiB), and
 * without holding mu decides their conditions, gives each its revision, appends one log record for
 * all, inserts into the memtable while the disk writes, syncs if any of them asked for it; then it
 * publishes the group's last revision (`visible`), wakes the others and passes the turn on. Nothing
 * is visible before it is as durable as its writer asked for: an unsynced write behind a synced one
 * in the same group waits with it.
 *
 *   queue:   [A B C D] E F        A leads A..D; E leads next
 *   states:  IDLE -> QUEUED -> DONE
 *
 * A thread that waits leads itself: no hand-over to another thread, which would cost 10 us and
 * more. A group that begins with an asynchronous write is led by the commit thread, so that its
 * submitter never waits for the disk; only an asynchronous write that needs no sync, finds the
 * queue empty and fits the present segment is committed by its submitter on the spot.
 *
 * The re-join window: writers that were just woken need a moment to come back with their next
 * write. A leader that synced for n > 1 last time waits until n have queued, at most half a sync or
 * 150 us. Without it half the writers always miss the sync (measured on the prototype: 1.7 times
 * the commits at 2 to 4 writers, 1.3 times at 8).
 *
 * Failures: the memtable's memory for the whole group is reserved before the append, so that
 * running out of it is met while nothing has happened yet; an append that failed leaves no trace
 * and its revisions are given out again. A failed sync leaves it open whether the group will be
 * found after a restart: its members get STORM_COMMIT_UNKNOWN, nothing of it becomes visible, and
 * the store takes no more writes until it is opened again (sdb_lsm_break).
 */
#include <stdlib.h>

#include "lsm/db/db.h"
#include "lsm/db/range_write.h"
#include "os/thread.h"

/* A group's bytes: one write of 1 MiB takes about as long as the sync behind it. */
#define GROUP_BYTES ((size_t)1 << 20)
/* The longest re-join window. */
#define WINDOW_NS UINT64_C(150000)

/* ---- Queue ---- */

static void enqueue(struct sdb_lsm *db, struct sdb_commit *commit)
{
    commit->state = SDB_COMMIT_QUEUED;
    commit->next = NULL;
    commit->must_retry = false;
    if (db->tail == NULL)
        db->head = commit;
    else
        db->tail->next = commit;
    db->tail = commit;
    db->queued++;
    if (db->window_wanted != 0 && db->queued >= db->window_wanted)
        pthread_cond_signal(&db->window_cond);
}

/* Let whoever is at the front lead. The turn is free. */
static void wake_front(struct sdb_lsm *db)
{
    if (db->head != NULL) {
        pthread_cond_t *cond = db->head->wake;
        pthread_cond_signal(cond != NULL ? cond : &db->commit_cond);
    } else if (db->sealed_count == 0) {
        /* No flush will end: a writer that found no room while the turn was taken has to seal. */
        pthread_cond_broadcast(&db->room_cond);
    }
}

void sdb_lsm_break(struct sdb_lsm *db)
{
    atomic_store_explicit(&db->is_broken, true, memory_order_release);
    sdb_log(db->os->errors, STORM_LOG_ERROR,
            "event=read_only reason=\"a write to the disk failed; reopen the store once the cause "
            "is mended\"");
    pthread_cond_broadcast(&db->room_cond);
    pthread_cond_broadcast(&db->flushed_cond);
    pthread_cond_signal(&db->flush_cond);
    pthread_cond_signal(&db->commit_cond);
    pthread_cond_signal(&db->compact_cond);
}

/* ---- Sealing the memtable ---- */

/* Seal the active memtable and begin a new one. The turn and mu are held; mu is let go
 * meanwhile. */
static storm_status seal(struct sdb_lsm *db)
{
    pthread_mutex_unlock(&db->mu);
    struct sdb_memtable *fresh = sdb_memtable_create(&db->account);
    struct sdb_view *view = sdb_view_alloc();
    pthread_mutex_lock(&db->mu);
    if (fresh == NULL || view == NULL) {
        sdb_memtable_unref(fresh);
        free(view);
        return STORM_NO_MEMORY;
    }
    sdb_memtable_unreserve(db->active.table, false);
    db->active.max_revision = db->last_revision;
    db->active.user_end = db->user_bytes;
    db->sealed[db->sealed_count++] = db->active;
    db->seals++;
    db->active = (struct sdb_mem){.table = fresh};
    sdb_view_install(db, view);
    pthread_cond_signal(&db->flush_cond);
    return STORM_OK;
}

/* Of range deletes nothing may be left in memory, where a newer one hides them or they are empty;
 * and yet the log that they took comes back with a flush only. */
static bool is_full(const struct sdb_lsm *db)
{
    return sdb_memtable_used(db->active.table) >= db->options.memtable_bytes ||
           (db->options.memtable_entries != 0 &&
            sdb_memtable_entries(db->active.table) >= db->options.memtable_entries) ||
           db->active.frees_tables || sdb_ranges_count(db->active.ranges) >= SDB_MEM_RANGES_MAX ||
           db->active.ranges_logged >= db->options.memtable_bytes;
}

/* ---- Leading a group ---- */

struct group {
    size_t count;    /* of db->group */
    size_t appended; /* of them in db->group_ops */
    size_t entries;  /* operations in those */
    size_t user_bytes;
    bool needs_sync;
    bool needs_interval; /* a write in it wants to be synced by interval */
    uint64_t first_revision;
    struct sdb_view *view;
    size_t range_deletes;
    struct sdb_range_commit ranges; /* made ready for them */
};

/* Wait a moment for writers that have just been served. mu and the turn are held. */
static void wait_for_rejoin(struct sdb_lsm *db)
{
    if (db->last_group < 2 || !db->head->needs_sync || db->queued >= db->last_group)
        return;
    uint64_t window = db->sync_ns / 2 < WINDOW_NS ? db->sync_ns / 2 : WINDOW_NS;
    uint64_t end = sdb_now_ns(db->os) + window;
    db->window_wanted = db->last_group;
    while (db->queued < db->window_wanted && !db->is_closing) {
        uint64_t now = sdb_now_ns(db->os);
        if (now >= end || !sdb_cond_wait_ns(&db->window_cond, &db->mu, end - now))
            break;
    }
    db->window_wanted = 0;
}

/* Take members off the queue. mu and the turn are held. */
static void take_group(struct sdb_lsm *db, size_t most, struct group *group)
{
    size_t bytes = 0;
    *group = (struct group){.needs_sync = db->head->needs_sync};
    while (db->head != NULL && group->count < most) {
        struct sdb_commit *commit = db->head;
        size_t size = commit->batch == NULL ? 0 : sdb_batch_ops(commit->batch).size;
        if (group->count != 0) {
            /* A seal stands alone; an unsynced group does not take in those who wait for the
             * disk. */
            bool is_other_kind =
                commit->batch == NULL || (commit->needs_sync && !group->needs_sync);
            if (is_other_kind || bytes + size > GROUP_BYTES)
                break;
        }
        bytes += size;
        db->head = commit->next;
        if (db->head == NULL)
            db->tail = NULL;
        db->queued--;
        db->group[group->count++] = commit;
        if (commit->batch == NULL)
            break;
    }
    group->view = sdb_view_acquire(db);
    if (db->active.first_segment == 0)
        db->active.first_segment = sdb_wal_segment(db->wal);
}

/* Decide conditions and give revisions; accepted members' operations go to db->group_ops. */
static void decide_group(struct sdb_lsm *db, struct group *group)
{
    bool has_checks = false;
    for (size_t i = 0; i < group->count; i++)
        has_checks = has_checks || db->group[i]->batch->check_count != 0;
    bool needs_overlay = has_checks && group->count > 1;
    uint64_t now_ms = has_checks ? sdb_now_ms(db->os) : 0;
    group->first_revision = db->last_revision + 1;
    group->needs_sync = false;
    sdb_overlay_clear(db->overlay);
    for (size_t i = 0; i < group->count; i++) {
        struct sdb_commit *commit = db->group[i];
        commit->status = sdb_checks_decide(group->view, db->overlay, commit->batch, now_ms);
        if (commit->status == STORM_OK && commit->batch->touch_count != 0)
            commit->status = sdb_touches_decide(commit->batch, group->user_bytes);
        if (commit->status == STORM_OK && commit->batch->writes != 0) {
            uint64_t revision = group->first_revision + group->appended;
            if (needs_overlay)
                commit->status = sdb_overlay_add(db->overlay, commit->batch, revision);
            if (revision > SDB_MAX_REVISION)
                commit->status = STORM_UNSUPPORTED;
        }
        if (commit->status != STORM_OK)
            continue;
        if (commit->batch->writes != 0) {
            struct storm_slice ops = sdb_batch_ops(commit->batch);
            db->group_ops[group->appended++] = ops;
            group->entries += commit->batch->writes - commit->batch->range_count;
            group->user_bytes += ops.size;
            group->range_deletes += commit->batch->range_count;
            group->needs_sync = group->needs_sync || commit->needs_sync;
            group->needs_interval = group->needs_interval || commit->needs_interval;
        }
        commit->revision = group->first_revision + group->appended - 1;
    }
}

/* Reserve what the large entries of one batch need; *bytes loses their keys and values. */
static bool reserve_large(struct sdb_memtable *memtable, struct storm_slice ops, size_t *bytes)
{
    if (ops.size <= SDB_MEMTABLE_LARGE)
        return true;
    struct sdb_cursor cursor = sdb_cursor(ops);
    struct sdb_batch_op op;
    while (sdb_batch_next(&cursor, &op)) {
        if (op.kind == SDB_KIND_DELETE_RANGE || op.key.size + op.value.size <= SDB_MEMTABLE_LARGE)
            continue;
        if (!sdb_memtable_reserve_large(memtable, op.key.size, op.value.size))
            return false;
        *bytes -= op.key.size + op.value.size;
    }
    return true;
}

/* Memory for all that the group will insert: what is encoded is more than its keys and values. */
static storm_status reserve_group(struct sdb_lsm *db, const struct group *group)
{
    struct sdb_memtable *memtable = db->active.table;
    size_t bytes = group->user_bytes;
    bool is_reserved = true;
    if (bytes > SDB_MEMTABLE_LARGE) {
        for (size_t i = 0; i < group->appended && is_reserved; i++)
            is_reserved = reserve_large(memtable, db->group_ops[i], &bytes);
    }
    if (is_reserved && sdb_memtable_reserve(memtable, group->entries, bytes))
        return STORM_OK;
    sdb_memtable_unreserve(memtable, true);
    return sdb_fail(db->os->errors, STORM_NO_MEMORY,
                    "no memory for %zu writes: nothing of them was written", group->appended);
}

/* Cannot fail: reserve_group() has seen to it. */
static storm_status insert_group(struct sdb_lsm *db, const struct group *group)
{
    storm_status status = STORM_OK;
    for (size_t i = 0; i < group->appended && status == STORM_OK; i++) {
        struct sdb_cursor cursor = sdb_cursor(db->group_ops[i]);
        struct sdb_batch_op op;
        while (status == STORM_OK && sdb_batch_next(&cursor, &op)) {
            if (op.kind != SDB_KIND_DELETE_RANGE)
                status = sdb_memtable_insert(db->active.table, op.key,
                                             sdb_tag(group->first_revision + i, op.kind), op.value);
        }
    }
    return status;
}

/* Sync the log and keep the average that the re-join window goes by. */
static storm_status sync_log(struct sdb_lsm *db)
{
    uint64_t start = sdb_now_ns(db->os);
    storm_status status = sdb_wal_sync(db->wal);
    uint64_t took = sdb_now_ns(db->os) - start;
    db->sync_ns = db->sync_ns == 0 ? took : (db->sync_ns * 7 + took) / 8;
    return status;
}

/* Log, insert, sync. Without mu. *is_open is set when the outcome will only be known at
 * reopening. */
static storm_status write_group(struct sdb_lsm *db, struct group *group, bool *is_open)
{
    storm_status status = STORM_OK;
    *is_open = false;
    if (group->range_deletes != 0)
        status = sdb_range_commit_prepare(db, group->count, group->view, &group->ranges);
    if (status == STORM_OK)
        status = reserve_group(db, group);
    if (status != STORM_OK)
        return status;
    status = sdb_wal_append(db->wal, group->first_revision, db->group_ops, group->appended);
    if (status != STORM_OK) {
        sdb_memtable_unreserve(db->active.table, true);
        *is_open = sdb_wal_is_broken(db->wal);
        return status;
    }
    if (group->needs_sync)
        sdb_wal_start_writeback(db->wal);
    status = insert_group(db, group);
    if (group->entries != 1) /* for one entry nothing is reserved beyond the next chunk */
        sdb_memtable_unreserve(db->active.table, true);
    if (status == STORM_OK && group->needs_sync)
        status = sync_log(db);
    *is_open = status != STORM_OK;
    return status;
}

/* Tell the members. mu is held; asynchronous members are linked into the list that is returned. */
static struct sdb_commit *finish_group(struct sdb_lsm *db, const struct group *group,
                                       storm_status status)
{
    struct sdb_commit *calls = NULL;
    struct sdb_commit **end = &calls;
    for (size_t i = 0; i < group->count; i++) {
        struct sdb_commit *commit = db->group[i];
        commit->next = NULL;
        /* What was decided may stand on members whose write failed: all share the failure. */
        if (status != STORM_OK)
            commit->status = status;
        if (commit->wake != NULL) {
            commit->state = SDB_COMMIT_DONE;
            pthread_cond_signal(commit->wake);
        } else if (commit->must_retry) {
            commit->next = db->retry;
            db->retry = commit;
            pthread_cond_signal(&db->commit_cond);
        } else {
            *end = commit;
            end = &commit->next;
        }
    }
    return calls;
}

static void publish(struct sdb_lsm *db, struct group *group)
{
    sdb_range_commit_install(db, &group->ranges);
    db->last_revision += group->appended;
    sdb_wal_publish(db->wal);
    /* Readers that load this revision see the entries inserted before. seq_cst: feeds.waiting,
     * which sdb_feeds_wake() loads after this, must not be read earlier. */
    atomic_store_explicit(&db->visible, db->last_revision, memory_order_seq_cst);
    db->writes += group->appended;
    db->groups++;
    db->user_bytes += group->user_bytes;
    if (group->range_deletes != 0)
        db->active.ranges_logged += group->user_bytes + group->appended * SDB_RANGE_LOGGED;
    if (group->needs_sync) {
        db->last_group = group->count;
        db->unsynced_since_ns = 0;
    } else if (db->unsynced_since_ns == 0 && group->needs_interval) {
        db->unsynced_since_ns = sdb_now_ns(db->os);
        pthread_cond_signal(&db->sync_cond);
    }
    if (!db->log_is_behind && sdb_wal_is_behind(db->wal)) {
        db->log_is_behind = true;
        pthread_cond_signal(&db->sync_cond);
    }
}

/* Serve a seal request: the group's only member. mu and the turn are held. */
static void lead_seal(struct sdb_lsm *db, struct sdb_commit *request)
{
    request->status = STORM_OK;
    while (request->status == STORM_OK && !sdb_mem_is_empty(&db->active)) {
        if (db->sealed_count < SDB_SEALED_MAX) {
            request->status = seal(db);
            break;
        }
        if (atomic_load_explicit(&db->is_broken, memory_order_relaxed)) {
            request->status = STORM_READ_ONLY;
            break;
        }
        /* The flush thread makes room, or says why it cannot; it may be pausing after a failure. */
        uint64_t failures = db->flush_failures;
        db->flush_goal = db->seals;
        pthread_cond_signal(&db->flush_cond);
        pthread_cond_wait(&db->flushed_cond, &db->mu);
        if (db->flush_failures != failures)
            request->status = db->flush_status;
    }
    request->state = SDB_COMMIT_DONE;
    pthread_cond_signal(request->wake);
}

/*
 * Take the turn, commit one group of at most `most` members, pass the turn on. mu is held, the turn
 * is free, the queue is not empty. Returns the asynchronous members to be called, with mu held.
 */
static struct sdb_commit *lead(struct sdb_lsm *db, size_t most)
{
    struct group group;
    struct sdb_commit *calls = NULL;
    db->turn_taken = true;
    wait_for_rejoin(db);
    take_group(db, most, &group);
    if (db->group[0]->batch == NULL) {
        lead_seal(db, db->group[0]);
        goto out;
    }
    bool is_broken = atomic_load_explicit(&db->is_broken, memory_order_relaxed);
    pthread_mutex_unlock(&db->mu);

    storm_status status = STORM_READ_ONLY;
    bool is_open = false;
    if (!is_broken) {
        decide_group(db, &group);
        status = group.appended == 0 ? STORM_OK : write_group(db, &group, &is_open);
    }

    pthread_mutex_lock(&db->mu);
    if (status == STORM_OK && group.appended != 0)
        publish(db, &group);
    if (is_open) {
        sdb_lsm_break(db);
        status = STORM_COMMIT_UNKNOWN;
    }
    calls = finish_group(db, &group, status);
out:
    /* Without memory for a new memtable this one grows on; who waits for room tries again. */
    if (is_full(db) && db->sealed_count < SDB_SEALED_MAX && seal(db) != STORM_OK)
        pthread_cond_broadcast(&db->room_cond);
    sdb_admission_update(db);
    db->turn_taken = false;
    wake_front(db);
    pthread_mutex_unlock(&db->mu);
    sdb_range_commit_fini(&group.ranges);
    sdb_view_release(group.view);
    sdb_feeds_wake(db, &db->feeds);
    pthread_mutex_lock(&db->mu);
    return calls;
}

static void call_back(struct sdb_commit *calls)
{
    while (calls != NULL) {
        /* The batch may be gone once its owner has heard. */
        struct sdb_commit *commit = calls;
        calls = commit->next;
        storm_write_fn done = commit->done;
        storm_status status = commit->status;
        sdb_checks_release(commit->batch);
        done(commit->done_ctx, status, commit->revision);
    }
}

/* ---- Entering ---- */

static storm_status check_limits(const struct sdb_lsm *db, const storm_batch *batch)
{
    if (batch->largest_key > db->options.max_key_bytes ||
        batch->largest_value > db->options.max_value_bytes)
        return STORM_TOO_LARGE;
    /* One operation alone has the limits of its key and value. */
    if (batch->count > 1 && batch->user_bytes > db->options.max_batch_bytes)
        return STORM_TOO_LARGE;
    return db->options.read_only ? STORM_READ_ONLY : STORM_OK;
}

storm_status sdb_commit_make_room(struct sdb_lsm *db)
{
    if (db->sealed_count != 0 || db->turn_taken || db->head != NULL)
        return STORM_OK;
    db->turn_taken = true;
    storm_status status = seal(db);
    db->turn_taken = false;
    wake_front(db);
    return status;
}

static void init_commit(struct sdb_lsm *db, storm_batch *batch,
                        const struct storm_write_options *options)
{
    enum storm_sync sync = options == NULL ? STORM_SYNC_DEFAULT : options->sync;
    if (sync == STORM_SYNC_DEFAULT)
        sync = db->options.sync;
    batch->commit = (struct sdb_commit){.batch = batch,
                                        .needs_sync = sync == STORM_SYNC_FULL,
                                        .needs_interval = sync == STORM_SYNC_INTERVAL};
}

/* Queue up and wait until served, leading when it is our turn. mu is held. */
static void wait_in_queue(struct sdb_lsm *db, struct sdb_commit *commit)
{
    enqueue(db, commit);
    while (commit->state != SDB_COMMIT_DONE) {
        if (db->head == commit && !db->turn_taken) {
            struct sdb_commit *calls = lead(db, SDB_GROUP_MAX);
            pthread_mutex_unlock(&db->mu);
            call_back(calls);
            pthread_mutex_lock(&db->mu);
        } else {
            pthread_cond_wait(commit->wake, &db->mu);
        }
    }
}

storm_status sdb_lsm_write(storm_db *base, storm_batch *batch,
                           const struct storm_write_options *options, uint64_t *revision)
{
    struct sdb_lsm *db = sdb_lsm(base);
    storm_status status = check_limits(db, batch);
    if (status != STORM_OK)
        return status;
    pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
    init_commit(db, batch, options);
    struct sdb_commit *commit = &batch->commit;
    commit->wake = &wake;
    do {
        commit->must_retry = false;
        status = sdb_checks_read(db, batch);
        if (status != STORM_OK)
            break;
        pthread_mutex_lock(&db->mu);
        status = sdb_admit(db, commit);
        if (status == STORM_OK) {
            wait_in_queue(db, commit);
            status = commit->status;
        }
        pthread_mutex_unlock(&db->mu);
        sdb_checks_release(batch);
    } while (commit->must_retry);
    pthread_cond_destroy(&wake);
    if (status == STORM_OK && revision != NULL)
        *revision = commit->revision;
    return status;
}

storm_status sdb_lsm_write_async(storm_db *base, storm_batch *batch,
                                 const struct storm_write_options *options, storm_write_fn done,
                                 void *ctx, uint64_t *revision)
{
    struct sdb_lsm *db = sdb_lsm(base);
    storm_status status = check_limits(db, batch);
    if (status != STORM_OK)
        return status;
    init_commit(db, batch, options);
    struct sdb_commit *commit = &batch->commit;
    commit->done = done;
    commit->done_ctx = ctx;
    status = sdb_checks_read(db, batch);
    if (status != STORM_OK)
        return status;
    pthread_mutex_lock(&db->mu);
    status = sdb_admit_async(db, commit);
    if (status != STORM_OK) {
        pthread_mutex_unlock(&db->mu);
        if (status != STORM_PENDING)
            sdb_checks_release(batch);
        return status;
    }
    enqueue(db, commit);
    bool is_alone = db->head == commit && !db->turn_taken;
    if (is_alone && !commit->needs_sync && sdb_wal_fits(db->wal, sdb_batch_ops(batch).size)) {
        struct sdb_commit *calls = lead(db, 1);
        pthread_mutex_unlock(&db->mu);
        if (calls == NULL)
            return STORM_PENDING; /* its checks must be read again: the commit thread has it now */
        sdb_checks_release(batch);
        if (commit->status == STORM_OK && revision != NULL)
            *revision = commit->revision;
        return commit->status;
    }
    if (is_alone)
        pthread_cond_signal(&db->commit_cond);
    pthread_mutex_unlock(&db->mu);
    return STORM_PENDING;
}

storm_status sdb_commit_seal(struct sdb_lsm *db)
{
    pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
    struct sdb_commit request = {.wake = &wake};
    pthread_mutex_lock(&db->mu);
    wait_in_queue(db, &request);
    pthread_mutex_unlock(&db->mu);
    pthread_cond_destroy(&wake);
    return request.status;
}

bool sdb_commit_seal_if_free(struct sdb_lsm *db)
{
    if (db->turn_taken || db->head != NULL || db->sealed_count == SDB_SEALED_MAX)
        return false;
    db->turn_taken = true;
    storm_status status = seal(db);
    db->turn_taken = false;
    wake_front(db);
    return status == STORM_OK;
}

/* ---- The commit thread ---- */

/* Read the checks of one member again and queue it again, or tell it that this failed. mu is
 * held. */
static void retry_one(struct sdb_lsm *db)
{
    struct sdb_commit *commit = db->retry;
    db->retry = commit->next;
    pthread_mutex_unlock(&db->mu);
    sdb_checks_release(commit->batch);
    storm_status status = sdb_checks_read(db, commit->batch);
    commit->status = status;
    commit->next = NULL;
    if (status != STORM_OK)
        call_back(commit); /* which may free it */
    pthread_mutex_lock(&db->mu);
    if (status == STORM_OK)
        enqueue(db, commit);
}

/* Wait for work, or until a held write is due. mu is held. */
static void wait_for_work(struct sdb_lsm *db)
{
    uint64_t wait_ns = sdb_admission_next_ns(db);
    if (wait_ns == UINT64_MAX)
        pthread_cond_wait(&db->commit_cond, &db->mu);
    else
        (void)sdb_cond_wait_ns(&db->commit_cond, &db->mu, wait_ns);
}

void *sdb_commit_thread(void *arg)
{
    struct sdb_lsm *db = arg;
    pthread_mutex_lock(&db->mu);
    for (;;) {
        struct sdb_commit *due = sdb_admission_next(db);
        if (due != NULL) {
            enqueue(db, due);
        } else if (db->retry != NULL) {
            retry_one(db);
        } else if (db->head != NULL && db->head->wake == NULL && !db->turn_taken) {
            struct sdb_commit *calls = lead(db, SDB_GROUP_MAX);
            pthread_mutex_unlock(&db->mu);
            call_back(calls);
            pthread_mutex_lock(&db->mu);
        } else if (db->is_closing && db->head == NULL && !db->turn_taken) {
            break;
        } else {
            wait_for_work(db);
        }
    }
    pthread_mutex_unlock(&db->mu);
    return NULL;
}
