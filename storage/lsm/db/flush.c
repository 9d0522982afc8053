/*
 * Flush: sealed memtables become one level-0 table, on a thread of its own.
 *
 * All memtables that are sealed when a flush begins go into one table, so a burst of writes does
 * not leave a litter of small ones. Order, each step durable before the next:
 *
 *   table written and synced -> directory synced -> manifest edit (table added, replay begins at the
 *   log of the oldest memtable left, revisions up to R are in tables) -> version and view replaced
 *   -> log segments released
 *
 * The memtables' range deletes go into the version with the same edit; memtables that hold nothing
 * else leave no table. What is written is decided by keep.h: a key that was put and deleted within
 * these memtables and is in no table leaves nothing behind, and when nothing is left there is no
 * table.
 *
 * A crash before the edit leaves an orphan table, which the next open removes, and a log that is
 * still replayed. After a failure (disk full, say) the memtables stay where they are, readable; the
 * flush is tried again when something new is sealed, when storm_flush asks, or after a second. A
 * store that is broken flushes no more: what a failed group left in the memtable must never reach a
 * table.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "lsm/db/db.h"
#include "lsm/db/names.h"
#include "lsm/db/output.h"
#include "lsm/db/sources.h"
#include "lsm/db/sweep.h"
#include "os/thread.h"

/* Pause before a failed flush is tried again on its own. */
#define RETRY_NS UINT64_C(1000000000)
/* The wall clock may jump: how long log that is to be kept for so long is left alone is asked
 * anew. */
#define KEEP_WAIT_MAX_MS UINT64_C(3600000)

struct flush_job {
    size_t count; /* of the oldest sealed memtables */
    struct sdb_memtable *memtables[SDB_SEALED_MAX];
    uint64_t max_revision;
    uint64_t user_end;
    uint64_t *snapshots; /* and what is visible behind them */
    size_t snapshot_count;
    struct sdb_version *version;                /* whose tables may hold what deletes hide */
    struct sdb_ranges *written[SDB_SEALED_MAX]; /* with the memtables */
    struct sdb_ranges *fresh;                   /* the same as one set, for the version */
    struct sdb_ranges *ranges;                  /* those and the version's: to be applied */
    struct sdb_output output;
};

/* What is to be flushed now. mu is held. */
static storm_status plan_job(struct sdb_lsm *db, struct flush_job *job)
{
    *job = (struct flush_job){.count = db->sealed_count};
    storm_status status = sdb_snapshots_list(db, &job->snapshots, &job->snapshot_count);
    if (status != STORM_OK)
        return status;
    for (size_t i = 0; i < job->count; i++) {
        job->memtables[i] = sdb_memtable_ref(db->sealed[i].table);
        job->written[i] = sdb_ranges_ref(db->sealed[i].ranges);
    }
    job->max_revision = db->sealed[job->count - 1].max_revision;
    job->user_end = db->sealed[job->count - 1].user_end;
    job->version = sdb_version_ref(db->version);
    return STORM_OK;
}

static void end_job(struct flush_job *job)
{
    for (size_t i = 0; i < job->count; i++) {
        sdb_memtable_unref(job->memtables[i]);
        sdb_ranges_unref(job->written[i]);
    }
    sdb_ranges_unref(job->fresh);
    sdb_ranges_unref(job->ranges);
    sdb_version_unref(job->version);
    free(job->snapshots);
}

static struct sdb_source *job_source(const struct flush_job *job)
{
    struct sdb_source *sources[SDB_SEALED_MAX];
    /* Newest first; revisions differ between memtables, so no ties arise. */
    for (size_t i = 0; i < job->count; i++)
        sources[i] = sdb_memtable_source(job->memtables[job->count - 1 - i]);
    return sdb_merge_source(sources, job->count);
}

/* Only range deletes that become durable with this flush or are in the manifest already may be
 * applied: one in a younger memtable may yet be lost with the end of the log. */
static storm_status gather_ranges(struct flush_job *job)
{
    storm_status status = sdb_ranges_create(job->written, job->count, NULL, 0, job->snapshots,
                                            job->snapshot_count + 1, &job->fresh);
    struct sdb_ranges *both[] = {job->version->ranges, job->fresh};
    if (status == STORM_OK)
        status = sdb_ranges_create(both, 2, NULL, 0, job->snapshots, job->snapshot_count + 1,
                                   &job->ranges);
    return status;
}

/* The memtables' entries as one durable table of level 0; none when nothing is left of them. */
static storm_status write_table(struct sdb_lsm *db, struct flush_job *job)
{
    struct sdb_keep keep;
    struct sdb_output_plan plan = {
        .level = 0,
        .table_bytes = UINT64_MAX,
        .overlap_max = UINT64_MAX,
        .snapshots = job->snapshots,
        .snapshot_count = job->snapshot_count,
        .now_ms = sdb_now_ms(db->os),
        .swept_revision = sdb_sweep_reach(job->ranges, job->snapshots, job->snapshot_count),
    };
    sdb_output_begin(&job->output, db, &plan);
    struct sdb_source *source = job_source(job);
    if (source == NULL)
        return STORM_NO_MEMORY;
    /* Tables only ever lose keys to deeper levels until the next flush, which comes after this one:
     * what this version does not hold no later one will. */
    sdb_keep_init(&keep, job->snapshots, job->snapshot_count, plan.now_ms, job->version, 0);
    keep.ranges = job->ranges;
    storm_status status = sdb_pour(source, &keep, &job->output, NULL, NULL);
    sdb_keep_fini(&keep);
    sdb_source_destroy(source);
    return status;
}

static storm_status install(struct sdb_lsm *db, struct flush_job *job, uint64_t *first_segment)
{
    struct sdb_edit edit = {
        .has_flushed_revision = true,
        .flushed_revision = job->max_revision,
        .added = job->output.files,
        .added_count = job->output.count,
        .ranges_added = job->fresh == NULL ? NULL : job->fresh->list,
        .ranges_added_count = sdb_ranges_count(job->fresh),
    };
    storm_status status = sdb_install(db, &edit, job->count);
    *first_segment = edit.log_number;
    return status;
}

/* One flush. mu is held on entry and return, not meanwhile. */
static storm_status flush_once(struct sdb_lsm *db)
{
    struct flush_job job;
    uint64_t first_segment = 0;
    uint64_t start = sdb_now_ns(db->os);
    storm_status status = plan_job(db, &job);
    if (status != STORM_OK)
        return status;
    pthread_mutex_unlock(&db->mu);
    status = gather_ranges(&job);
    if (status == STORM_OK)
        status = write_table(db, &job);
    bool is_written = status == STORM_OK;
    if (is_written)
        status = install(db, &job, &first_segment);
    uint64_t took_us = (sdb_now_ns(db->os) - start) / 1000;
    if (status == STORM_OK) {
        sdb_wal_release(db->wal, first_segment);
        sdb_log(db->os->errors, STORM_LOG_INFO,
                "event=flush table=%010" PRIu64 " entries=%" PRIu64 " bytes=%" PRIu64
                " duration_ms=%" PRIu64,
                job.output.number, job.output.entries, job.output.bytes, took_us / 1000);
    } else {
        sdb_log(db->os->errors, STORM_LOG_ERROR, "event=flush_failed reason=\"%s\"",
                storm_status_text(status));
    }
    pthread_mutex_lock(&db->mu);
    if (status == STORM_OK) {
        db->flushes++;
        db->flush_last_ms = sdb_now_ms(db->os);
        db->flush_last_us = took_us;
        db->table_bytes += job.output.bytes;
        sdb_admission_flushed(db, job.user_end, job.output.bytes, took_us * 1000);
        sdb_compact_wake(db);
    }
    pthread_mutex_unlock(&db->mu);
    sdb_output_end(&job.output, is_written);
    end_job(&job);
    sdb_garbage_collect(db);
    sdb_admission_look_at_disk(db);
    pthread_mutex_lock(&db->mu);
    return status;
}

/*
 * While compaction has work in level 0, fewer and larger tables help it, and whoever reads, more
 * than early ones: the more tables there are, the more memtables gather first, up to three quarters
 * of their places and a quarter of the write buffer. The last table before writes stop is not
 * written while memory can take its place. Nobody who waits for a flush is made to wait longer. mu
 * is held.
 */
static bool is_better_later(const struct sdb_lsm *db)
{
    size_t tables = db->version->levels[0].count;
    size_t stall = db->tuning.level0_stall;
    if (tables < db->tuning.level0_files || db->level0_stuck || db->seals_flushed < db->flush_goal)
        return false;
    if (tables + 1 == stall)
        return db->admission.pressure.by[STORM_WAIT_MEMORY] < SDB_PRESSURE_EVEN;
    size_t most = SDB_SEALED_MAX * 3 / 4;
    size_t wanted = tables < stall / 2 ? most * tables / (stall / 2) : most;
    return db->sealed_count < wanted && sdb_sealed_bytes(db) < db->options.write_buffer_bytes / 4;
}

/*
 * Wait for a memtable to flush, or until a segment of log is kept no longer. While the disk is
 * nearly full, look at it every second. mu is held.
 */
static void wait_for_work(struct sdb_lsm *db, bool is_broken)
{
    uint64_t due_ms = is_broken ? UINT64_MAX : sdb_wal_keep_ms(db->wal);
    if (due_ms == 0) {
        pthread_mutex_unlock(&db->mu);
        sdb_wal_release(db->wal, 0); /* nothing new, only what is too old */
        pthread_mutex_lock(&db->mu);
        return;
    }
    bool is_watching = !is_broken && sdb_admission_watches_disk(db);
    uint64_t wait_ms = due_ms < KEEP_WAIT_MAX_MS ? due_ms : KEEP_WAIT_MAX_MS;
    uint64_t wait_ns = wait_ms * 1000000;
    if (is_watching && wait_ns > RETRY_NS)
        wait_ns = RETRY_NS;
    if (due_ms == UINT64_MAX && !is_watching) {
        pthread_cond_wait(&db->flush_cond, &db->mu);
    } else if (!sdb_cond_wait_ns(&db->flush_cond, &db->mu, wait_ns) && is_watching) {
        pthread_mutex_unlock(&db->mu);
        sdb_admission_look_at_disk(db);
        pthread_mutex_lock(&db->mu);
    }
}

/* The disk is full: history of the log goes first. mu is held, not meanwhile. */
static bool history_gives_way(struct sdb_lsm *db)
{
    pthread_mutex_unlock(&db->mu);
    bool has_given = sdb_wal_give_way(db->wal);
    pthread_mutex_lock(&db->mu);
    return has_given;
}

void *sdb_flush_thread(void *arg)
{
    struct sdb_lsm *db = arg;
    pthread_mutex_lock(&db->mu);
    while (!db->is_closing) {
        bool is_broken = atomic_load_explicit(&db->is_broken, memory_order_relaxed);
        if (is_broken || db->sealed_count == 0 || is_better_later(db)) {
            wait_for_work(db, is_broken);
            continue;
        }
        storm_status status = flush_once(db);
        if (status == STORM_NO_SPACE && history_gives_way(db))
            continue; /* nobody has heard of it yet */
        db->flush_status = status;
        if (status != STORM_OK)
            db->flush_failures++;
        pthread_cond_broadcast(&db->flushed_cond);
        pthread_cond_broadcast(&db->room_cond);
        if (db->flush_status != STORM_OK && !db->is_closing)
            (void)sdb_cond_wait_ns(&db->flush_cond, &db->mu, RETRY_NS);
    }
    pthread_mutex_unlock(&db->mu);
    return NULL;
}

storm_status sdb_lsm_flush(storm_db *base, struct storm_flush_result *result)
{
    struct sdb_lsm *db = sdb_lsm(base);
    if (db->options.read_only)
        return STORM_READ_ONLY;
    uint64_t start = sdb_now_ns(db->os);
    pthread_mutex_lock(&db->mu);
    uint64_t entries = db->flush_entries;
    uint64_t freed = db->flush_freed_bytes;
    pthread_mutex_unlock(&db->mu);

    storm_status status = sdb_commit_seal(db);
    if (status != STORM_OK)
        return status;
    pthread_mutex_lock(&db->mu);
    uint64_t goal = db->seals;
    db->flush_goal = goal;
    uint64_t failures = db->flush_failures;
    pthread_cond_signal(&db->flush_cond);
    while (status == STORM_OK && db->seals_flushed < goal) {
        if (atomic_load_explicit(&db->is_broken, memory_order_relaxed))
            status = STORM_READ_ONLY;
        else if (db->flush_failures != failures)
            status = db->flush_status == STORM_OK ? STORM_BUSY : db->flush_status;
        else
            pthread_cond_wait(&db->flushed_cond, &db->mu);
    }
    if (status == STORM_OK) {
        result->entries = db->flush_entries - entries;
        result->bytes = db->flush_freed_bytes - freed;
        result->duration_us = (sdb_now_ns(db->os) - start) / 1000;
    }
    pthread_mutex_unlock(&db->mu);
    return status;
}

void sdb_garbage_collect(struct sdb_lsm *db)
{
    pthread_mutex_lock(&db->garbage.mu);
    struct sdb_table_file *file = db->garbage.head;
    db->garbage.head = NULL;
    pthread_mutex_unlock(&db->garbage.mu);
    while (file != NULL) {
        struct sdb_table_file *next = file->next_garbage;
        char name[SDB_NAME_MAX];
        sdb_table_name(name, file->number);
        char *path = sdb_path(db->dir, name);
        sdb_table_file_destroy(file);
        /* After a failed sync nothing is removed; what stays is removed by the next open. */
        if (path != NULL && !atomic_load_explicit(&db->is_broken, memory_order_acquire))
            (void)sdb_unlink(db->os, path);
        free(path);
        file = next;
    }
}
