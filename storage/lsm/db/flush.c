/*
 * Flush: sealed memtables become one level-0 table, on a thread of its own.
 *
 * All memtables that are sealed when a flush begins go into one table, so a burst of writes does not leave
 * a litter of small ones. Order, each step durable before the next:
 *
 *   table written and synced -> directory synced -> manifest edit (table added, replay begins at the
 *   log of the oldest memtable left, revisions up to R are in tables) -> version and view replaced
 *   -> log segments released
 *
 * A crash before the edit leaves an orphan table, which the next open removes, and a log that is still
 * replayed. After a failure (disk full, say) the memtables stay where they are, readable; the flush is tried
 * again when something new is sealed, when storm_flush asks, or after a second. A store that is broken flushes no more:
 * what a failed group left in the memtable must never reach a table.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "lsm/db/db.h"
#include "lsm/db/keep.h"
#include "lsm/db/names.h"
#include "lsm/db/sources.h"
#include "os/thread.h"

/* Pause before a failed flush is tried again on its own. */
#define RETRY_NS UINT64_C(1000000000)

struct flush_job {
    size_t count; /* of the oldest sealed memtables */
    struct sdb_memtable *memtables[SDB_SEALED_MAX];
    uint64_t max_revision;
    uint64_t *snapshots;
    size_t snapshot_count;
    uint64_t number; /* of the table */
    struct sdb_table_file *file;
    struct sdb_table_props props;
    uint64_t freed_bytes;
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
        job->freed_bytes += sdb_memtable_bytes(db->sealed[i].table);
    }
    job->max_revision = db->sealed[job->count - 1].max_revision;
    job->number = db->next_file++;
    return STORM_OK;
}

static void end_job(struct flush_job *job)
{
    for (size_t i = 0; i < job->count; i++)
        sdb_memtable_unref(job->memtables[i]);
    if (job->file != NULL)
        sdb_table_file_unref(job->file);
    free(job->snapshots);
}

static struct sdb_source *job_source(const struct flush_job *job)
{
    struct sdb_source *sources[SDB_SEALED_MAX];
    bool is_whole = true;
    /* Newest first; revisions differ between memtables, so no ties arise. */
    for (size_t i = 0; i < job->count; i++) {
        sources[i] = sdb_memtable_source(job->memtables[job->count - 1 - i]);
        is_whole = is_whole && sources[i] != NULL;
    }
    if (is_whole)
        return sdb_merge_source(sources, job->count);
    for (size_t i = 0; i < job->count; i++)
        sdb_source_destroy(sources[i]);
    return NULL;
}

/* Pour the memtables into the builder; the first and last key go to the buffers. */
static storm_status pour(const struct flush_job *job, struct sdb_table_builder *builder,
                         struct sdb_buffer *smallest, struct sdb_buffer *largest)
{
    struct sdb_keep keep;
    struct sdb_source *source = job_source(job);
    if (source == NULL)
        return STORM_NO_MEMORY;
    sdb_keep_init(&keep, job->snapshots, job->snapshot_count);
    storm_status status = STORM_OK;
    source->ops->first(source);
    if (source->valid && !sdb_buffer_add(smallest, source->key.data, source->key.size))
        status = smallest->status;
    while (source->valid && status == STORM_OK) {
        bool is_kept;
        status = sdb_keep_next(&keep, source->key, source->tag, &is_kept);
        if (status == STORM_OK && is_kept)
            status = sdb_table_builder_add(builder, source->key, source->tag, source->value);
        source->ops->next(source);
    }
    if (status == STORM_OK)
        status = source->status;
    struct storm_slice last = sdb_buffer_slice(&keep.key);
    if (status == STORM_OK && !sdb_buffer_add(largest, last.data, last.size))
        status = largest->status;
    sdb_keep_fini(&keep);
    sdb_source_destroy(source);
    return status;
}

/* The options of tables in level 0. */
static struct sdb_table_options table_options(const struct sdb_lsm *db)
{
    return (struct sdb_table_options){
        .block_bytes = db->options.block_bytes,
        .bloom_bits = db->options.bloom_bits,
        .codec = db->options.codec,
        .codec_level = db->options.codec_level,
    };
}

/* Write the table, make it and its name durable, open it. */
static storm_status write_table(struct sdb_lsm *db, struct flush_job *job)
{
    char name[SDB_NAME_MAX];
    struct sdb_table_builder *builder = NULL;
    struct sdb_table_options options = table_options(db);
    struct sdb_buffer smallest, largest;
    uint64_t size = 0;
    sdb_buffer_init(&smallest, SIZE_MAX / 2);
    sdb_buffer_init(&largest, SIZE_MAX / 2);
    sdb_table_name(name, job->number);
    char *path = sdb_path(db->dir, name);
    storm_status status = path == NULL ? STORM_NO_MEMORY : STORM_OK;
    if (status == STORM_OK)
        status = sdb_table_builder_open(db->os, path, job->number, &options, &builder);
    bool is_created = status == STORM_OK;
    if (status == STORM_OK)
        status = pour(job, builder, &smallest, &largest);
    if (status == STORM_OK)
        status = sdb_table_builder_finish(builder, sdb_now_ms(db->os), &job->props, &size);
    if (status == STORM_OK)
        status = sdb_sync_dir(db->os, db->dir);
    if (builder != NULL)
        sdb_table_builder_close(builder);
    if (status == STORM_OK) {
        job->file = sdb_table_file_create(job->number, size, 0, sdb_buffer_slice(&smallest),
                                          sdb_buffer_slice(&largest), &db->garbage);
        status = job->file == NULL ? STORM_NO_MEMORY : STORM_OK;
    }
    if (status == STORM_OK) {
        job->file->entries = job->props.entries;
        job->file->deletes = job->props.deletes;
        job->file->min_revision = job->props.min_revision;
        job->file->max_revision = job->props.max_revision;
        status = sdb_table_open(db->os, path, job->number, size, db->cache, &job->file->table);
    }
    /* No manifest has heard of it. Should this fail too, the next open removes it. */
    if (status != STORM_OK && is_created)
        (void)sdb_unlink(db->os, path);
    sdb_buffer_fini(&smallest);
    sdb_buffer_fini(&largest);
    free(path);
    return status;
}

/* The first segment that memtables other than the job's need. mu is held. */
static uint64_t first_needed_segment(const struct sdb_lsm *db, size_t flushed)
{
    for (size_t i = flushed; i < db->sealed_count; i++) {
        if (db->sealed[i].first_segment != 0)
            return db->sealed[i].first_segment;
    }
    if (db->active.first_segment != 0)
        return db->active.first_segment;
    return sdb_wal_segment(db->wal);
}

/* Manifest, version, view. On success *first_segment is where replay begins from now on. */
static storm_status install(struct sdb_lsm *db, struct flush_job *job, uint64_t *first_segment)
{
    struct sdb_edit edit = {
        .has_log_number = true,
        .has_flushed_revision = true,
        .flushed_revision = job->max_revision,
        .added = &job->file,
        .added_count = 1,
    };
    struct sdb_version *after = NULL;
    struct sdb_view *view = sdb_view_alloc();
    if (view == NULL)
        return STORM_NO_MEMORY;

    pthread_mutex_lock(&db->manifest_mu);
    pthread_mutex_lock(&db->mu);
    edit.log_number = first_needed_segment(db, job->count);
    edit.newest_log = sdb_wal_segment(db->wal);
    uint64_t next_file = db->next_file++; /* a number in hand, should a new manifest be begun */
    pthread_mutex_unlock(&db->mu);

    storm_status status = STORM_NO_MEMORY;
    after = sdb_version_apply(db->version, &edit);
    if (after != NULL)
        status = sdb_manifest_append(db->manifest, &edit, after, &next_file);
    if (status == STORM_OK) {
        pthread_mutex_lock(&db->mu);
        struct sdb_version *before = db->version;
        if (db->next_file < next_file)
            db->next_file = next_file;
        db->version = after;
        for (size_t i = 0; i < job->count; i++)
            sdb_memtable_unref(db->sealed[i].table);
        memmove(db->sealed, db->sealed + job->count,
                (db->sealed_count - job->count) * sizeof db->sealed[0]);
        db->sealed_count -= job->count;
        db->seals_flushed += job->count;
        sdb_view_install(db, view);
        view = NULL;
        pthread_mutex_unlock(&db->mu);
        sdb_version_unref(before);
        *first_segment = edit.log_number;
    } else {
        sdb_version_unref(after);
    }
    bool is_broken = sdb_manifest_is_broken(db->manifest);
    pthread_mutex_unlock(&db->manifest_mu);
    free(view);
    if (is_broken) {
        pthread_mutex_lock(&db->mu);
        sdb_lsm_break(db);
        pthread_mutex_unlock(&db->mu);
    }
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
    status = write_table(db, &job);
    if (status == STORM_OK)
        status = install(db, &job, &first_segment);
    uint64_t took_us = (sdb_now_ns(db->os) - start) / 1000;
    if (status == STORM_OK) {
        sdb_wal_release(db->wal, first_segment);
        sdb_log(db->os->errors, STORM_LOG_INFO,
                "event=flush table=%010" PRIu64 " entries=%" PRIu64 " bytes=%" PRIu64
                " duration_ms=%" PRIu64,
                job.number, job.props.entries, job.file->size, took_us / 1000);
    } else {
        sdb_log(db->os->errors, STORM_LOG_ERROR, "event=flush_failed reason=\"%s\"",
                storm_status_text(status));
    }
    pthread_mutex_lock(&db->mu);
    if (status == STORM_OK) {
        db->flushes++;
        db->flush_last_ms = sdb_now_ms(db->os);
        db->flush_last_us = took_us;
        db->flush_entries += job.props.entries;
        db->flush_freed_bytes += job.freed_bytes;
        db->table_bytes += job.file->size;
    }
    pthread_mutex_unlock(&db->mu);
    end_job(&job);
    sdb_garbage_collect(db);
    pthread_mutex_lock(&db->mu);
    return status;
}

void *sdb_flush_thread(void *arg)
{
    struct sdb_lsm *db = arg;
    pthread_mutex_lock(&db->mu);
    while (!db->is_closing) {
        bool is_broken = atomic_load_explicit(&db->is_broken, memory_order_relaxed);
        if (is_broken || db->sealed_count == 0) {
            pthread_cond_wait(&db->flush_cond, &db->mu);
            continue;
        }
        db->flush_status = flush_once(db);
        if (db->flush_status != STORM_OK)
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
        sdb_table_close(file->table);
        /* After a failed sync nothing is removed; what stays is removed by the next open. */
        if (path != NULL && !atomic_load_explicit(&db->is_broken, memory_order_acquire))
            (void)sdb_unlink(db->os, path);
        free(path);
        free(file);
        file = next;
    }
}
