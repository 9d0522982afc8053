/*
 * The compaction thread: what runs next, and when.
 *
 *   loop: broken?                 wait for the close
 *         level 0 half full?      the picker's job first, a request by hand waits
 *         a request by hand?      its next job
 *         the picker has a job?   that
 *         nothing                 wait: for a flush, a request, a snapshot's release (compact_wanted);
 *                                 until the store has been idle for settle_ns (range deletes that
 *                                 are still in memory are flushed then); until a table becomes
 *                                 stale by expiry
 *
 * A job for whose outputs the disk has no room is not begun: writing half of it would take what
 * flushes need. Smaller ones are, if there are any; without one this is said once and looked at
 * again every second.
 *
 * A job that failed is tried again after a pause that doubles from a second to a minute, unless it
 * was a damaged input's fault, which is not picked again. Flushes have a thread of their own and
 * never wait for this one. Closing ends a job at its next batch of entries; its outputs are
 * removed.
 *
 * Writers are slowed down, and wait in the end (admit.c), as level 0 grows towards `level0_stall`
 * tables, but only as long as compaction can do something about it (`level0_stuck` is false):
 * neither a damaged table nor a full disk here may stop writes. Every end of a job wakes them.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "lsm/db/compaction.h"
#include "lsm/db/sweep.h"
#include "os/thread.h"

#define RETRY_MAX_NS UINT64_C(60000000000)
/* The wall clock may jump, so a wait for expiry is cut into hours. */
#define EXPIRY_WAIT_MAX_MS UINT64_C(3600000)
/* Bytes of input between two reports of progress. */
#define PROGRESS_BYTES (UINT64_C(1) << 20)

/* A call of storm_compact, on its caller's stack. All but the first three: mu. */
struct sdb_manual {
    struct storm_slice start, end; /* const */
    uint64_t before;               /* const: numbers below it belong to the call */
    pthread_cond_t wake;           /* wakes the caller: progress, or done */
    struct sdb_manual *next;
    uint64_t done_bytes, total_bytes;
    bool is_cancelled;
    bool is_done;
    bool lacks_room; /* the reason for STORM_NO_SPACE, with nothing written */
    storm_status status;
};

/* The thread's own state; nobody else sees it. */
struct compactor {
    struct sdb_lsm *db;
    struct sdb_buffer cursors[STORM_MAX_LEVELS];
    uint64_t retry_ns; /* pause before the next attempt; 0 = the last job did not fail */
    bool is_idle;
    bool lacks_room;           /* said already */
    struct sdb_manual *manual; /* whose job runs */
    uint64_t reported;
};

void sdb_compact_wake(struct sdb_lsm *db)
{
    db->compact_wanted = true;
    pthread_cond_signal(&db->compact_cond);
}

/* ---- Requests by hand ---- */

/* mu is held. */
static void end_manual(struct sdb_lsm *db, struct sdb_manual *manual, storm_status status)
{
    struct sdb_manual **at = &db->manuals;
    while (*at != manual)
        at = &(*at)->next;
    *at = manual->next;
    manual->status = status;
    manual->is_done = true;
    pthread_cond_signal(&manual->wake);
}

static bool holds_quarantined(const struct sdb_version *version, const struct sdb_manual *manual)
{
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        for (size_t i = 0; i < version->levels[l].count; i++) {
            const struct sdb_table_file *file = version->levels[l].files[i];
            if (file->is_quarantined && sdb_is_in_range(file, manual->start, manual->end))
                return true;
        }
    }
    return false;
}

static storm_status report_progress(void *ctx, uint64_t done_bytes)
{
    struct compactor *compactor = ctx;
    struct sdb_lsm *db = compactor->db;
    struct sdb_manual *manual = compactor->manual;
    if (done_bytes < compactor->reported + PROGRESS_BYTES)
        return STORM_OK;
    pthread_mutex_lock(&db->mu);
    manual->done_bytes += done_bytes - compactor->reported;
    bool is_cancelled = manual->is_cancelled;
    pthread_cond_signal(&manual->wake);
    pthread_mutex_unlock(&db->mu);
    compactor->reported = done_bytes;
    return is_cancelled ? STORM_CANCELLED : STORM_OK;
}

/* Tell the caller of a progress function. mu is held, not meanwhile. */
static void tell_progress(struct sdb_lsm *db, struct sdb_manual *manual, storm_progress_fn progress,
                          void *ctx)
{
    uint64_t done = manual->done_bytes;
    uint64_t total = manual->total_bytes > done ? manual->total_bytes : done;
    pthread_mutex_unlock(&db->mu);
    bool goes_on = progress(ctx, done, total);
    pthread_mutex_lock(&db->mu);
    if (!goes_on)
        manual->is_cancelled = true;
}

storm_status sdb_lsm_compact(storm_db *base, struct storm_slice start, struct storm_slice end,
                             storm_progress_fn progress, void *ctx)
{
    struct sdb_lsm *db = sdb_lsm(base);
    struct storm_flush_result flushed;
    storm_status status = sdb_lsm_flush(base, &flushed);
    if (status != STORM_OK)
        return status;
    struct sdb_manual manual = {.start = start, .end = end};
    if (sdb_cond_init(&manual.wake) != 0)
        return STORM_NO_MEMORY;
    pthread_mutex_lock(&db->mu);
    manual.before = db->next_file;
    struct sdb_manual **last = &db->manuals;
    while (*last != NULL)
        last = &(*last)->next;
    *last = &manual;
    pthread_cond_signal(&db->compact_cond);
    uint64_t told = 0;
    while (!manual.is_done) {
        if (progress != NULL && manual.done_bytes != told) {
            told = manual.done_bytes;
            tell_progress(db, &manual, progress, ctx);
        } else {
            pthread_cond_wait(&manual.wake, &db->mu);
        }
    }
    if (progress != NULL && manual.status == STORM_OK)
        tell_progress(db, &manual, progress, ctx);
    pthread_mutex_unlock(&db->mu);
    pthread_cond_destroy(&manual.wake);
    if (manual.lacks_room)
        return sdb_fail(db->os->errors, manual.status,
                        "%s: the disk has no room for what compaction would write beside what is "
                        "kept for flushes",
                        db->dir);
    return manual.status;
}

/* ---- Choosing ---- */

static bool choose(struct compactor *compactor, struct sdb_compaction *job, uint64_t room_bytes)
{
    struct sdb_lsm *db = compactor->db;
    struct sdb_manual *manual = compactor->manual;
    struct sdb_pick_input input = {
        .version = job->version,
        .tuning = &db->tuning,
        .snapshots = job->snapshots,
        .snapshot_count = job->snapshot_count,
        .cursors = compactor->cursors,
        .now_ms = sdb_now_ms(db->os),
        .is_idle = compactor->is_idle,
        .room_bytes = room_bytes,
    };
    for (unsigned l = 0; l < STORM_MAX_LEVELS; l++)
        input.codecs[l] = sdb_level_codec(db, l);
    if (manual == NULL)
        return sdb_pick(&input, &job->pick);
    return sdb_pick_dead(&input, &job->pick) ||
           sdb_pick_manual(&input, manual->start, manual->end, manual->before, &job->pick);
}

/* A job for which there is room. *lacks_room: none was found, but one that is too large. */
static bool choose_with_room(struct compactor *compactor, struct sdb_compaction *job,
                             bool *lacks_room)
{
    struct sdb_lsm *db = compactor->db;
    uint64_t room;
    bool is_found;
    do {
        sdb_admission_look_at_disk(db);
        pthread_mutex_lock(&db->mu);
        room = sdb_admission_room(db);
        pthread_mutex_unlock(&db->mu);
        is_found = choose(compactor, job, room == 0 ? 1 : room);
        *lacks_room = !is_found && choose(compactor, job, 0);
    } while (*lacks_room && sdb_wal_give_way(db->wal)); /* history of the log goes first */
    if (*lacks_room && !compactor->lacks_room)
        sdb_log(db->os->errors, STORM_LOG_WARN,
                "event=compaction_waits reason=\"no room on the disk for its outputs\" level=%u "
                "bytes_in=%" PRIu64 " room_bytes=%" PRIu64,
                job->pick.level, job->pick.from.bytes + job->pick.into.bytes, room);
    compactor->lacks_room = *lacks_room;
    return is_found;
}

/* The request whose turn it is; NULL while the writers need level 0 more. mu is held. */
static struct sdb_manual *next_manual(struct sdb_lsm *db)
{
    bool is_pressed =
        db->version->levels[0].count >= db->tuning.level0_stall / 2 && !db->level0_stuck;
    return is_pressed ? NULL : db->manuals;
}

/* ---- Running ---- */

static void log_job(const struct compactor *compactor, const struct sdb_compaction *job,
                    storm_status status, uint64_t took_ns)
{
    struct sdb_errors *errors = compactor->db->os->errors;
    const struct sdb_pick *pick = &job->pick;
    if (status == STORM_OK)
        sdb_log(errors, STORM_LOG_INFO,
                "event=compaction reason=%s level=%u output=%u moved=%d tables_in=%zu "
                "tables_out=%zu bytes_in=%" PRIu64 " bytes_out=%" PRIu64 " duration_ms=%" PRIu64,
                sdb_reason_name(pick->reason), pick->level, pick->output, pick->is_move,
                pick->from.count + pick->into.count, job->output_tables, job->input_bytes,
                job->output_bytes, took_ns / 1000000);
    else if (status != STORM_CLOSED && status != STORM_CANCELLED)
        sdb_log(errors, STORM_LOG_ERROR,
                "event=compaction_failed reason=\"%s\" level=%u output=%u retry_ms=%" PRIu64,
                storm_status_text(status), pick->level, pick->output,
                compactor->retry_ns / 1000000);
}

/* Where the level's next turn begins. Without memory: at its beginning. */
static void set_cursor(struct compactor *compactor, const struct sdb_pick *pick)
{
    if (pick->level == 0 || pick->level == SDB_LAST_LEVEL)
        return;
    struct sdb_buffer *cursor = &compactor->cursors[pick->level];
    struct storm_slice key = pick->from.files[pick->from.count - 1]->largest;
    sdb_buffer_clear(cursor);
    if (!sdb_buffer_add(cursor, key.data, key.size))
        sdb_buffer_clear(cursor);
}

static void run(struct compactor *compactor, struct sdb_compaction *job)
{
    struct sdb_lsm *db = compactor->db;
    uint64_t start = sdb_now_ns(db->os);
    compactor->reported = 0;
    if (compactor->manual != NULL) {
        job->progress = report_progress;
        job->progress_ctx = compactor;
    }
    storm_status status = sdb_compaction_run(job);
    bool is_failure = status != STORM_OK && status != STORM_CLOSED && status != STORM_CANCELLED;
    if (!is_failure || job->has_quarantined)
        compactor->retry_ns = 0;
    else if (compactor->retry_ns == 0)
        compactor->retry_ns = db->tuning.retry_ns;
    else if (compactor->retry_ns < RETRY_MAX_NS / 2)
        compactor->retry_ns *= 2;
    uint64_t took_ns = sdb_now_ns(db->os) - start;
    log_job(compactor, job, status, took_ns);
    if (status == STORM_NO_SPACE) /* history of the log makes room for the next attempt */
        (void)sdb_wal_give_way(db->wal);
    if (status == STORM_OK)
        set_cursor(compactor, &job->pick);

    pthread_mutex_lock(&db->mu);
    if (status == STORM_OK) {
        db->compactions++;
        db->table_bytes += job->output_bytes;
        sdb_admission_compacted(db, job->pick.level == 0 ? job->pick.from.bytes : 0, took_ns);
    }
    db->level0_stuck = compactor->retry_ns != 0;
    sdb_admission_tree_changed(db);
    if (compactor->manual != NULL) {
        struct sdb_manual *manual = compactor->manual;
        if (status == STORM_OK)
            manual->done_bytes += job->input_bytes - compactor->reported;
        else if (!job->has_quarantined)
            end_manual(db, manual, status);
        pthread_cond_signal(&manual->wake);
    }
    pthread_cond_broadcast(&db->room_cond);
    pthread_cond_signal(&db->flush_cond);
    pthread_mutex_unlock(&db->mu);
}

/* There is nothing to run: say so to whom it concerns. mu is held. */
static void rest(struct compactor *compactor, const struct sdb_version *version)
{
    struct sdb_lsm *db = compactor->db;
    if (compactor->manual != NULL) {
        bool is_whole = !holds_quarantined(version, compactor->manual);
        end_manual(db, compactor->manual, is_whole ? STORM_OK : STORM_CORRUPT);
        return;
    }
    db->holds_old_versions = sdb_holds_old_versions(version) || version->ranges != NULL;
    /* Full, and yet nothing can be picked: something damaged is in the way. */
    db->level0_stuck = version->levels[0].count >= db->tuning.level0_files;
    db->compact_rests = true;
    sdb_admission_tree_changed(db);
    pthread_cond_broadcast(&db->room_cond);
    pthread_cond_signal(&db->flush_cond);
}

/* What there is to do does not fit the disk: look again in a while. mu is held. */
static void wait_for_room(struct compactor *compactor)
{
    struct sdb_lsm *db = compactor->db;
    if (compactor->manual != NULL) {
        compactor->manual->lacks_room = true;
        end_manual(db, compactor->manual, STORM_NO_SPACE);
    }
    compactor->retry_ns = db->tuning.retry_ns;
    db->level0_stuck = true;
    sdb_admission_tree_changed(db);
    pthread_cond_broadcast(&db->room_cond);
    pthread_cond_signal(&db->flush_cond);
}

/* Choose a job and run it. False: there was none. mu is held on entry and return. */
static bool run_next(struct compactor *compactor)
{
    struct sdb_lsm *db = compactor->db;
    struct sdb_compaction job = {.db = db};
    compactor->manual = next_manual(db);
    if (compactor->manual != NULL && compactor->manual->is_cancelled) {
        end_manual(db, compactor->manual, STORM_CANCELLED);
        return true;
    }
    db->compact_wanted = false;
    bool has_list = sdb_snapshots_list(db, &job.snapshots, &job.snapshot_count) == STORM_OK;
    job.version = sdb_version_ref(db->version);
    if (compactor->manual != NULL) {
        struct sdb_manual *manual = compactor->manual;
        manual->total_bytes = manual->done_bytes + sdb_manual_bytes(db->version, manual->start,
                                                                    manual->end, manual->before);
    }
    pthread_mutex_unlock(&db->mu);

    bool lacks_room = false;
    bool is_found = has_list && choose_with_room(compactor, &job, &lacks_room);
    if (is_found) {
        pthread_mutex_lock(&db->mu);
        db->is_compacting = true;
        db->compact_rests = false;
        sdb_admission_tree_changed(db);
        pthread_mutex_unlock(&db->mu);
        run(compactor, &job);
    }
    pthread_mutex_lock(&db->mu);
    if (lacks_room)
        wait_for_room(compactor);
    else if (!is_found && has_list)
        rest(compactor, job.version);
    bool was_manual = compactor->manual != NULL;
    compactor->manual = NULL;
    pthread_mutex_unlock(&db->mu);
    sdb_compaction_fini(&job);
    sdb_garbage_collect(db);
    pthread_mutex_lock(&db->mu);
    db->is_compacting = false; /* its inputs, too, are off the disk */
    if (!has_list) {
        compactor->retry_ns = db->tuning.retry_ns;
        while (db->manuals != NULL)
            end_manual(db, db->manuals, STORM_NO_MEMORY);
    }
    return is_found || was_manual || lacks_room || !has_list;
}

/* ---- Waiting ---- */

/* How long until there may be work without anybody's doing; 0 = never. mu is held. */
static uint64_t next_event_ns(const struct compactor *compactor)
{
    struct sdb_lsm *db = compactor->db;
    if (!compactor->is_idle || db->is_range_watched)
        return db->tuning.settle_ns;
    uint64_t stale_ms = sdb_next_stale_ms(db->version);
    if (stale_ms == 0)
        return 0;
    uint64_t now_ms = sdb_now_ms(db->os);
    uint64_t wait_ms = stale_ms > now_ms ? stale_ms - now_ms : 1;
    return (wait_ms < EXPIRY_WAIT_MAX_MS ? wait_ms : EXPIRY_WAIT_MAX_MS) * 1000000;
}

/* After a failure: only the pause's end, a request or the close end it. mu is held. */
static void wait_to_retry(struct compactor *compactor)
{
    struct sdb_lsm *db = compactor->db;
    uint64_t end = sdb_monotonic_ns() + compactor->retry_ns;
    while (!db->is_closing && db->manuals == NULL) {
        uint64_t now = sdb_monotonic_ns();
        if (now >= end || !sdb_cond_wait_ns(&db->compact_cond, &db->mu, end - now))
            break;
    }
}

/* Whether tables lie across range deletes that are still in memory. mu is held. */
static bool has_ranges_to_flush(const struct sdb_lsm *db)
{
    const struct sdb_ranges *ranges = db->active.ranges;
    for (size_t r = 0; r < sdb_ranges_count(ranges) && !db->tuning.is_by_hand; r++) {
        for (unsigned l = 0; l < STORM_MAX_LEVELS; l++) {
            if (sdb_sweep_find(db->version, l, 0, &ranges->list[r]) < db->version->levels[l].count)
                return true;
        }
    }
    return false;
}

/*
 * The store has been idle for a while: what range deletes leave to be given back comes back now,
 * though nobody fills the memtable. If somebody commits just then it is not idle yet. mu is held.
 */
static void begin_idleness(struct compactor *compactor)
{
    struct sdb_lsm *db = compactor->db;
    compactor->is_idle = true;
    if (db->is_range_watched && has_ranges_to_flush(db) && !sdb_commit_seal_if_free(db))
        compactor->is_idle = false;
    else
        db->is_range_watched = false;
}

static void wait_for_work(struct compactor *compactor)
{
    struct sdb_lsm *db = compactor->db;
    bool is_over = false;
    uint64_t wait_ns = next_event_ns(compactor);
    while (!db->compact_wanted && db->manuals == NULL && !db->is_closing && !is_over) {
        if (wait_ns == 0)
            pthread_cond_wait(&db->compact_cond, &db->mu);
        else
            is_over = !sdb_cond_wait_ns(&db->compact_cond, &db->mu, wait_ns);
    }
    /* A flush ends idleness; the request of a user who compacts by hand does not. */
    if (db->compact_wanted)
        compactor->is_idle = false;
    else if (is_over)
        begin_idleness(compactor);
}

void *sdb_compact_thread(void *arg)
{
    struct compactor compactor = {.db = arg};
    struct sdb_lsm *db = arg;
    for (unsigned l = 0; l < STORM_MAX_LEVELS; l++)
        sdb_buffer_init(&compactor.cursors[l], 1 << 16);
    pthread_mutex_lock(&db->mu);
    while (!db->is_closing) {
        if (atomic_load_explicit(&db->is_broken, memory_order_relaxed)) {
            while (db->manuals != NULL)
                end_manual(db, db->manuals, STORM_READ_ONLY);
            pthread_cond_wait(&db->compact_cond, &db->mu);
            continue;
        }
        bool has_run = run_next(&compactor);
        if (!has_run)
            wait_for_work(&compactor);
        else if (compactor.retry_ns != 0)
            wait_to_retry(&compactor);
    }
    while (db->manuals != NULL)
        end_manual(db, db->manuals, STORM_CLOSED);
    pthread_mutex_unlock(&db->mu);
    for (unsigned l = 0; l < STORM_MAX_LEVELS; l++)
        sdb_buffer_fini(&compactor.cursors[l]);
    return NULL;
}
