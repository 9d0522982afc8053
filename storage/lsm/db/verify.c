/*
 * storm_verify: is all of the store on the disk what it should be?
 *
 *   under manifest_mu    CURRENT and the manifest are read again, the version and the state in
 *                        memory taken: no edit can come between them. Takes as long as reading 4 MiB.
 *   with the version     the two are compared, and each table is opened once more, apart from the
 *   pinned, no lock      store's own: footer, index, filter, properties and every block are read
 *                        from the disk, and what the manifest says of the table is held against
 *                        what is in it.
 *
 * Neither trusts the block cache nor fills it. Flushes, compactions, reads and writes go on; what
 * they replace meanwhile stays on the disk as long as the version is held.
 *
 * A store that was opened read-only may have a writer in another process, which holds no lock of
 * ours: the manifest on the disk may name other tables by now. There the version in memory is
 * checked without it, for it was read from the manifest when the store was opened; a table that is
 * gone and that the manifest of now does not name either was replaced, and is no problem.
 *
 * A sentence names its file first. Failures are recorded in a ring of this call's own, so that no
 * other thread's can come between; of each file that has any, the first goes into the store's too
 * and counts there. Files that are not part of the store are reported under STORM_OK and are no
 * problem: a flush or a compaction may just be writing one, a reader may still hold it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lsm/db/db.h"
#include "lsm/db/names.h"

/* Bytes between two reports of progress. */
#define PROGRESS_BYTES (UINT64_C(1) << 20)

struct verify {
    struct sdb_lsm *db;
    struct sdb_os os; /* the store's, with errors of our own */
    struct sdb_errors errors;
    struct sdb_cache *cache; /* of no size */
    storm_progress_fn progress;
    storm_report_fn report;
    void *ctx;
    struct storm_verify_result *result;

    struct sdb_version *version; /* in memory */
    struct sdb_version *on_disk; /* as the manifest says; NULL: it cannot be read */
    uint64_t manifest_number;
    bool is_in_doubt; /* the last edit of the manifest failed */
    uint64_t total_bytes, done_bytes, told_bytes;
    bool is_recorded; /* the file at hand has a failure in the store's ring */
};

/* ---- Saying ---- */

static void say(struct verify *verify, storm_status status, const char *line)
{
    if (verify->report != NULL)
        verify->report(verify->ctx, status, sdb_name_within(verify->db->dir, line));
}

/* A problem, whose sentence was recorded last. */
static void tell_problem(void *ctx, storm_status status)
{
    struct verify *verify = ctx;
    char line[SDB_ERROR_TEXT];
    sdb_errors_newest(&verify->errors, line, sizeof line);
    verify->result->problems++;
    say(verify, status, line);
    if (!verify->is_recorded)
        (void)sdb_fail(verify->db->os->errors, status, "%s", line);
    verify->is_recorded = true;
}

/* ---- The manifest ---- */

static storm_status differ(struct verify *verify, const char *what)
{
    return sdb_fail(&verify->errors, STORM_CORRUPT,
                    "MANIFEST-%010" PRIu64 ": %s differs from the store in memory",
                    verify->manifest_number, what);
}

static storm_status compare_state(struct verify *verify, const struct sdb_state *disk,
                                  const struct sdb_state *memory)
{
    if (disk->manifest_number != memory->manifest_number)
        return sdb_fail(&verify->errors, STORM_CORRUPT,
                        "CURRENT: names manifest %" PRIu64 ", the store writes manifest %" PRIu64,
                        disk->manifest_number, memory->manifest_number);
    if (disk->store_id != memory->store_id || disk->epoch != memory->epoch)
        return differ(verify, "the store's id or epoch");
    if (disk->log_number != memory->log_number || disk->newest_log != memory->newest_log)
        return differ(verify, "where the log begins");
    if (disk->flushed_revision != memory->flushed_revision || disk->next_file != memory->next_file)
        return differ(verify, "a counter");
    return STORM_OK;
}

static storm_status compare_tables(struct verify *verify)
{
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *disk = &verify->on_disk->levels[l];
        const struct sdb_level *memory = &verify->version->levels[l];
        bool is_same = disk->count == memory->count;
        for (size_t i = 0; is_same && i < disk->count; i++)
            is_same = disk->files[i]->number == memory->files[i]->number;
        if (!is_same)
            return sdb_fail(&verify->errors, STORM_CORRUPT,
                            "MANIFEST-%010" PRIu64 ": names other tables in level %zu than the "
                            "store in memory has",
                            verify->manifest_number, l);
    }
    return STORM_OK;
}

static storm_status compare_ranges(struct verify *verify)
{
    const struct sdb_ranges *disk = verify->on_disk->ranges;
    const struct sdb_ranges *memory = verify->version->ranges;
    bool is_same = sdb_ranges_count(disk) == sdb_ranges_count(memory);
    for (size_t i = 0; is_same && i < sdb_ranges_count(disk); i++)
        is_same = sdb_range_compare(&disk->list[i], &memory->list[i]) == 0;
    return is_same ? STORM_OK : differ(verify, "the set of range deletes");
}

/* STORM_OK also when it cannot be read or says something else: a problem is no failure. */
static storm_status check_manifest(struct verify *verify, storm_status status,
                                   const struct sdb_state *disk, const struct sdb_state *memory)
{
    verify->is_recorded = false;
    verify->manifest_number = disk->manifest_number;
    if (status == STORM_NO_MEMORY)
        return status;
    if (status == STORM_NOT_FOUND)
        status = sdb_fail(&verify->errors, STORM_CORRUPT,
                          "%s: the file that names the manifest is missing", SDB_CURRENT);
    if (status == STORM_OK && verify->is_in_doubt) {
        /* What a failed append left is not ours to judge; the next edit begins a new file. */
        sdb_version_unref(verify->on_disk);
        verify->on_disk = NULL;
        say(verify, STORM_OK, "CURRENT: not compared, for an edit of the manifest has just failed");
        return STORM_OK;
    }
    if (status == STORM_OK && memory != NULL)
        status = compare_state(verify, disk, memory);
    if (status == STORM_OK)
        status = compare_tables(verify);
    if (status == STORM_OK)
        status = compare_ranges(verify);
    if (status != STORM_OK)
        tell_problem(verify, status);
    return STORM_OK;
}

/* What the manifest on the disk says of a table; NULL when it does not name it. */
static const struct sdb_table_file *described(const struct verify *verify, size_t l, size_t i)
{
    if (verify->on_disk == NULL || i >= verify->on_disk->levels[l].count)
        return NULL;
    const struct sdb_table_file *file = verify->on_disk->levels[l].files[i];
    return file->number == verify->version->levels[l].files[i]->number ? file : NULL;
}

/* ---- Levels ---- */

static void check_levels(struct verify *verify)
{
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &verify->version->levels[l];
        for (size_t i = 1; i < level->count; i++) {
            const struct sdb_table_file *a = level->files[i - 1];
            const struct sdb_table_file *b = level->files[i];
            bool is_right = l == 0 ? a->max_revision >= b->max_revision
                                   : sdb_key_compare(a->largest, b->smallest) < 0;
            if (is_right)
                continue;
            verify->is_recorded = false;
            tell_problem(verify, sdb_fail(&verify->errors, STORM_CORRUPT,
                                          "%010" PRIu64 ".sst: overlaps %010" PRIu64
                                          ".sst in level %zu, or is out of order",
                                          b->number, a->number, l));
        }
    }
}

/* ---- Tables ---- */

static storm_status tell_progress(struct verify *verify, uint64_t done_bytes)
{
    bool is_due = done_bytes >= verify->told_bytes + PROGRESS_BYTES ||
                  (done_bytes == verify->total_bytes && done_bytes != verify->told_bytes);
    verify->done_bytes = done_bytes;
    if (verify->progress == NULL || !is_due)
        return STORM_OK;
    verify->told_bytes = done_bytes;
    bool goes_on = verify->progress(verify->ctx, done_bytes, verify->total_bytes);
    return goes_on ? STORM_OK : STORM_CANCELLED;
}

static storm_status step(void *ctx, uint64_t bytes)
{
    struct verify *verify = ctx;
    return tell_progress(verify, verify->done_bytes + bytes);
}

static storm_status disagree(struct verify *verify, const struct sdb_table_file *file,
                             const char *what)
{
    return sdb_fail(&verify->errors, STORM_CORRUPT,
                    "%010" PRIu64 ".sst: the manifest says another %s of it", file->number, what);
}

/* What the manifest says of a whole table against what is in it. */
static storm_status compare_description(struct verify *verify, const struct sdb_table_file *said,
                                        const struct sdb_table *table,
                                        const struct sdb_table_check *check)
{
    const struct sdb_table_props *props = sdb_table_props(table);
    if (said->entries != props->entries || said->deletes != props->deletes)
        return disagree(verify, said, "number of entries");
    if (said->min_revision != props->min_revision || said->max_revision != props->max_revision)
        return disagree(verify, said, "range of revisions");
    if (sdb_key_compare(said->smallest, sdb_buffer_slice(&check->first_key)) != 0 ||
        sdb_key_compare(said->largest, sdb_buffer_slice(&check->last_key)) != 0)
        return disagree(verify, said, "first or last key");
    return STORM_OK;
}

/* The table under its own eyes. `said` may be NULL. */
static storm_status check_open_table(struct verify *verify, struct sdb_table *table,
                                     const struct sdb_table_file *file,
                                     const struct sdb_table_file *said)
{
    struct sdb_table_check check;
    sdb_table_check_init(&check);
    check.step = step;
    check.problem = tell_problem;
    check.ctx = verify;
    storm_status status = sdb_table_check(table, &check);
    verify->result->blocks += check.blocks;
    verify->result->entries += check.entries;
    bool is_over = status == STORM_NO_MEMORY || status == STORM_CANCELLED;
    if (check.problems == 0 && status == STORM_OK && said != NULL) {
        status = compare_description(verify, said, table, &check);
        if (status != STORM_OK)
            tell_problem(verify, status);
    }
    if (check.problems == 0 && status == STORM_OK && file->table == NULL)
        tell_problem(verify, sdb_fail(&verify->errors, file->open_status,
                                      "%010" PRIu64 ".sst: whole now, but it was not when the "
                                      "store was opened: its keys answer with an error until the "
                                      "store is opened again",
                                      file->number));
    sdb_table_check_fini(&check);
    return is_over ? status : STORM_OK;
}

static bool is_in(const struct sdb_version *version, uint64_t number)
{
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        for (size_t i = 0; i < version->levels[l].count; i++) {
            if (version->levels[l].files[i]->number == number)
                return true;
        }
    }
    return false;
}

/* Whether a table that is gone was replaced by a writer in another process. */
static bool was_replaced(struct verify *verify, uint64_t number)
{
    struct sdb_state state;
    struct sdb_version *version = NULL;
    if (!verify->db->options.read_only)
        return false;
    storm_status status =
        sdb_manifest_read(&verify->os, verify->db->dir, &verify->db->garbage, &state, &version);
    bool is_gone = status == STORM_OK && !is_in(version, number);
    sdb_version_unref(version);
    return is_gone;
}

static storm_status check_table(struct verify *verify, const struct sdb_table_file *file,
                                const struct sdb_table_file *said)
{
    char name[SDB_NAME_MAX];
    struct sdb_table *table;
    uint64_t end = verify->done_bytes + file->size;
    sdb_table_name(name, file->number);
    char *path = sdb_path(verify->db->dir, name);
    if (path == NULL)
        return STORM_NO_MEMORY;
    verify->is_recorded = false;
    verify->result->tables++;
    storm_status status =
        sdb_table_open(&verify->os, path, file->number, file->size, verify->cache, &table);
    free(path);
    if (status == STORM_OK) {
        status = check_open_table(verify, table, file, said);
        sdb_table_close(table);
    } else if (status == STORM_NOT_FOUND && was_replaced(verify, file->number)) {
        verify->result->tables--;
        status = STORM_OK;
    } else if (status != STORM_NO_MEMORY) {
        tell_problem(verify, status);
        status = STORM_OK;
    }
    verify->result->bytes += file->size;
    return status == STORM_OK ? tell_progress(verify, end) : status;
}

static storm_status check_tables(struct verify *verify)
{
    storm_status status = STORM_OK;
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++)
        verify->total_bytes += verify->version->levels[l].bytes;
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &verify->version->levels[l];
        for (size_t i = 0; i < level->count && status == STORM_OK; i++)
            status = check_table(verify, level->files[i], described(verify, l, i));
    }
    return status;
}

/* ---- Strays ---- */

static bool is_part(const struct verify *verify, enum sdb_file_kind kind, uint64_t number,
                    const char *name)
{
    switch (kind) {
    case SDB_FILE_MANIFEST:
        return number == verify->manifest_number;
    case SDB_FILE_TABLE:
        return is_in(verify->version, number);
    case SDB_FILE_LOG:
    case SDB_FILE_SPARE:
        return true;
    case SDB_FILE_TEMP:
        return false;
    case SDB_FILE_FOREIGN:
        break;
    }
    return strcmp(name, SDB_CURRENT) == 0 || strcmp(name, SDB_LOCK) == 0;
}

static storm_status tell_stray(void *ctx, const char *name)
{
    struct verify *verify = ctx;
    char line[SDB_ERROR_TEXT];
    uint64_t number;
    enum sdb_file_kind kind = sdb_name_parse(name, &number);
    if (is_part(verify, kind, number, name))
        return STORM_OK;
    snprintf(line, sizeof line, "%s: %s", name,
             kind == SDB_FILE_FOREIGN
                 ? "not a file of the store; it is left alone"
                 : "not part of the store now: being written, still read, or left over until the "
                   "next open removes it");
    say(verify, STORM_OK, line);
    return STORM_OK;
}

/* ---- The whole ---- */

/* Version and manifest of one moment: no edit is made while manifest_mu is held. */
static storm_status check_state(struct verify *verify)
{
    struct sdb_lsm *db = verify->db;
    struct sdb_state disk, memory = {0};
    pthread_mutex_lock(&db->manifest_mu);
    pthread_mutex_lock(&db->mu);
    verify->version = sdb_version_ref(db->version);
    pthread_mutex_unlock(&db->mu);
    if (!db->options.read_only) {
        memory = *sdb_manifest_state(db->manifest);
        verify->is_in_doubt = sdb_manifest_is_in_doubt(db->manifest);
    }
    storm_status status =
        sdb_manifest_read(&verify->os, db->dir, &db->garbage, &disk, &verify->on_disk);
    pthread_mutex_unlock(&db->manifest_mu);
    if (db->options.read_only) /* it serves to say more about tables that it still names */
        return status == STORM_NO_MEMORY ? status : STORM_OK;
    return check_manifest(verify, status, &disk, &memory);
}

storm_status sdb_lsm_verify(storm_db *base, storm_progress_fn progress, storm_report_fn report,
                            void *ctx, struct storm_verify_result *result)
{
    struct sdb_lsm *db = sdb_lsm(base);
    struct verify verify = {
        .db = db,
        .progress = progress,
        .report = report,
        .ctx = ctx,
        .result = result,
    };
    verify.os = (struct sdb_os){db->os->ops, &verify.errors};
    verify.cache = sdb_cache_create(0, NULL);
    if (verify.cache == NULL)
        return STORM_NO_MEMORY;
    sdb_errors_init(&verify.errors, NULL, NULL);
    storm_status status = check_state(&verify);
    /* Beside a writer everything is in flux. */
    if (status == STORM_OK && !db->options.read_only)
        status = sdb_list(&verify.os, db->dir, tell_stray, &verify);
    if (status == STORM_OK) {
        check_levels(&verify);
        status = check_tables(&verify);
    }
    sdb_version_unref(verify.on_disk);
    sdb_version_unref(verify.version);
    sdb_garbage_collect(db); /* of what was replaced while the version was held */
    sdb_cache_destroy(verify.cache);
    sdb_errors_fini(&verify.errors);
    if (status == STORM_OK && result->problems != 0)
        status = STORM_CORRUPT;
    return status;
}
