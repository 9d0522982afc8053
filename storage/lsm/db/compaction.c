/*
 * One compaction job.
 *
 *   inputs, read past the cache a mebibyte at a time
 *     -> merge -> keep.h -> output.h: new tables, durable
 *     -> install.c: one edit removes the inputs and adds the outputs
 *
 * Order makes it safe: the edit is durable only after the outputs are, and the inputs' files are
 * removed only after the edit is and nobody reads them any more. A crash before the edit leaves
 * orphans, one behind it leaves the inputs as orphans; the next open removes either.
 *
 * What may be dropped (keep.h) rests on this: everything older than an input, for any key in its
 * range, is an input too or lies deeper than the output. The picker sees to it, and flushes only
 * ever add what is newer. Snapshots taken after the job began see the newest version of each key,
 * which is kept.
 *
 * When a job fails for corruption or a read error, its inputs are verified block by block to find
 * the damaged ones; those are quarantined until the store is opened again. Writes and other jobs go
 * on: one bad block must not stop a store (as rocksdb issue 6838 tells of).
 */
#include "lsm/db/compaction.h"

#include <inttypes.h>
#include <stdlib.h>

#include "lsm/db/sources.h"
#include "lsm/db/sweep.h"

/* What one read of an input takes in; larger ones gained nothing on the disks measured. */
enum { READAHEAD = 1 << 20 };

/* ---- Sources ---- */

/* Sources for tables: one each for level 0, one for a run of a sorted level. *count grows. */
static void add_sources(struct sdb_level *files, unsigned level, struct sdb_source **sources,
                        size_t *count)
{
    if (level != 0 && files->count > 1) {
        sources[(*count)++] = sdb_level_source(files, false, READAHEAD);
        return;
    }
    for (size_t i = 0; i < files->count; i++)
        sources[(*count)++] = sdb_table_file_source(files->files[i], false, READAHEAD);
}

static struct sdb_source *job_source(struct sdb_compaction *job)
{
    size_t count = 0;
    struct sdb_source **sources =
        malloc((job->pick.from.count + job->pick.into.count) * sizeof(struct sdb_source *));
    if (sources == NULL)
        return NULL;
    add_sources(&job->pick.from, job->pick.level, sources, &count);
    add_sources(&job->pick.into, job->pick.output, sources, &count);
    struct sdb_source *merged = sdb_merge_source(sources, count);
    free(sources);
    return merged;
}

/* ---- Merging ---- */

static storm_status step(void *ctx, unsigned entries)
{
    struct sdb_compaction *job = ctx;
    struct sdb_lsm *db = job->db;
    if (atomic_load_explicit(&db->is_stopping, memory_order_relaxed) ||
        atomic_load_explicit(&db->is_broken, memory_order_relaxed))
        return STORM_CLOSED;
    job->entries_read += entries;
    if (job->progress == NULL)
        return STORM_OK;
    double part = (double)job->entries_read / (double)(job->entries_total + 1);
    return job->progress(job->progress_ctx, (uint64_t)(part * (double)job->input_bytes));
}

static storm_status merge(struct sdb_compaction *job, struct sdb_output *output)
{
    struct sdb_keep keep;
    struct sdb_source *source = job_source(job);
    if (source == NULL)
        return STORM_NO_MEMORY;
    sdb_keep_init(&keep, job->snapshots, job->snapshot_count, output->plan.now_ms, job->version,
                  job->pick.output + 1);
    keep.ranges = job->version->ranges;
    storm_status status = sdb_pour(source, &keep, output, step, job);
    sdb_keep_fini(&keep);
    sdb_source_destroy(source);
    return status;
}

static void plan_output(const struct sdb_compaction *job, struct sdb_output_plan *plan)
{
    const struct sdb_lsm *db = job->db;
    unsigned level = job->pick.output;
    struct sdb_shape shape;
    sdb_shape_compute(job->version, &db->tuning, &shape);
    *plan = (struct sdb_output_plan){
        .level = level,
        .table_bytes = sdb_shape_table_bytes(&shape, &db->tuning, level),
        .next = level == SDB_LAST_LEVEL ? NULL : &job->version->levels[level + 1],
        .snapshots = job->snapshots,
        .snapshot_count = job->snapshot_count,
        .now_ms = sdb_now_ms(db->os),
        .swept_revision =
            sdb_sweep_reach(job->version->ranges, job->snapshots, job->snapshot_count),
    };
    /* Twice what one table of the level below the output has under it on average. */
    plan->overlap_max = 2 * db->tuning.multiplier * plan->table_bytes;
}

/* All inputs in one array of the caller's to free; NULL when out of memory. */
static struct sdb_table_file **all_inputs(const struct sdb_pick *pick)
{
    size_t count = pick->from.count + pick->into.count;
    struct sdb_table_file **inputs = malloc(count * sizeof(struct sdb_table_file *));
    if (inputs == NULL)
        return NULL;
    for (size_t i = 0; i < pick->from.count; i++)
        inputs[i] = pick->from.files[i];
    for (size_t i = 0; i < pick->into.count; i++)
        inputs[pick->from.count + i] = pick->into.files[i];
    return inputs;
}

static storm_status rewrite(struct sdb_compaction *job)
{
    struct sdb_output output;
    struct sdb_output_plan plan;
    struct sdb_table_file **inputs = all_inputs(&job->pick);
    if (inputs == NULL)
        return STORM_NO_MEMORY;
    plan_output(job, &plan);
    sdb_output_begin(&output, job->db, &plan);
    storm_status status = merge(job, &output);
    bool is_written = status == STORM_OK;
    if (is_written) {
        struct sdb_edit edit = {
            .added = output.files,
            .added_count = output.count,
            .removed = inputs,
            .removed_count = job->pick.from.count + job->pick.into.count,
        };
        status = sdb_install(job->db, &edit, 0);
    }
    job->output_bytes = output.bytes;
    job->output_tables = output.count;
    sdb_output_end(&output, is_written);
    free(inputs);
    return status;
}

static storm_status move(struct sdb_compaction *job)
{
    struct sdb_table_file *file = job->pick.from.files[0];
    struct sdb_table_file *moved = sdb_table_file_move(file, job->pick.output);
    if (moved == NULL)
        return STORM_NO_MEMORY;
    struct sdb_edit edit = {
        .added = &moved,
        .added_count = 1,
        .removed = &file,
        .removed_count = 1,
        .is_move = true,
    };
    storm_status status = sdb_install(job->db, &edit, 0);
    sdb_table_file_unref(moved);
    return status;
}

/* Tables in which nothing is visible any more go without being read. */
static storm_status drop(struct sdb_compaction *job)
{
    struct sdb_edit edit = {
        .removed = job->pick.from.files,
        .removed_count = job->pick.from.count,
    };
    return sdb_install(job->db, &edit, 0);
}

/* ---- Failures ---- */

static void find_damaged(struct sdb_compaction *job, struct sdb_level *files)
{
    for (size_t i = 0; i < files->count; i++) {
        struct sdb_table_file *file = files->files[i];
        storm_status status = file->table == NULL ? STORM_CORRUPT : sdb_table_verify(file->table);
        if (status != STORM_CORRUPT && status != STORM_IO)
            continue;
        file->is_quarantined = true;
        job->has_quarantined = true;
        sdb_log(job->db->os->errors, STORM_LOG_ERROR,
                "event=quarantine table=%010" PRIu64 " level=%u reason=\"%s; it is left as it is: "
                "restore the store from a backup, or repair it\"",
                file->number, file->level, storm_status_text(status));
    }
}

storm_status sdb_compaction_run(struct sdb_compaction *job)
{
    struct sdb_level *parts[] = {&job->pick.from, &job->pick.into};
    if (job->pick.is_drop)
        return drop(job);
    for (size_t p = 0; p < 2; p++) {
        job->input_bytes += parts[p]->bytes;
        for (size_t i = 0; i < parts[p]->count; i++)
            job->entries_total += parts[p]->files[i]->entries;
    }
    storm_status status = job->pick.is_move ? move(job) : rewrite(job);
    bool is_stopping = atomic_load_explicit(&job->db->is_stopping, memory_order_relaxed);
    if ((status == STORM_CORRUPT || status == STORM_IO) && !is_stopping) {
        find_damaged(job, &job->pick.from);
        find_damaged(job, &job->pick.into);
    }
    return status;
}

void sdb_compaction_fini(struct sdb_compaction *job)
{
    free(job->snapshots);
    sdb_version_unref(job->version);
}
