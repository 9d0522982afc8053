/*
 * storm_repair: a store out of what is left in a directory.
 *
 *   scan      list the files, take the lock                                    repair_scan.c
 *   judge     read the manifest and the tables, each whole, damaged or lost;   repair_scan.c,
 *             whole blocks of damaged ones are copied into new tables          repair_tables.c
 *   log       whole records that are in no table become new tables             repair_log.c
 *   assemble  keep   the manifest's levels, with each damaged table's copy in its place and the
 *                    log's tables on top in level 0: all above the flushed revision, so newer
 *             merge  everything into the last level in one pass                repair_merge.c
 *   commit    see below
 *
 * It keeps when it can: when the manifest is trusted and all that the log adds is newer than what
 * is in the tables. Else only a merge gives each key its newest version, whatever is there twice
 * and in whatever order it was made. With a manifest, tables that it does not name are left out:
 * they are old inputs of compactions, whose deletes may be gone. The exception is what a flush
 * wrote and the manifest did not come to name, if the log, which has it too, is damaged.
 *
 * Commit. Until CURRENT is replaced nothing changes but that new tables lie about and that
 * originals have a second name in lost/:
 *
 *   new tables synced -> originals linked into lost/ -> lost/ and directory synced
 *   -> manifest and CURRENT, the one moment -> first names of originals removed
 *
 * A crash before that moment leaves the store as damaged as it was, and one behind it leaves the
 * repaired one: the names that were not removed yet are orphans to the next open, and their files
 * are in lost/ all the same. A name that is taken in lost/ gets a suffix.
 *
 * What a newer release wrote, or a codec that is not in this build, ends the repair before anything
 * was changed: what cannot be understood is not damage.
 */
#include "lsm/db/repair.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lsm/db/output.h"

#define LOST "lost"

/* Names that one original may find taken in lost/. */
enum { COPIES_MAX = 1000 };

/* ---- Saying ---- */

void sdb_repair_tell(struct sdb_repair *repair, storm_status status, const char *line)
{
    if (repair->report != NULL)
        repair->report(repair->ctx, status, sdb_name_within(repair->db->dir, line));
}

void sdb_repair_tell_newest(void *ctx, storm_status status)
{
    struct sdb_repair *repair = ctx;
    char line[SDB_ERROR_TEXT];
    sdb_errors_newest(repair->db->os->errors, line, sizeof line);
    sdb_repair_tell(repair, status, line);
}

/* ---- New tables ---- */

bool sdb_repair_add_file(struct sdb_repair_files *files, struct sdb_table_file *file)
{
    if (files->count == files->room) {
        size_t room = files->room == 0 ? 8 : files->room * 2;
        struct sdb_table_file **list = realloc(files->list, room * sizeof(struct sdb_table_file *));
        if (list == NULL)
            return false;
        files->list = list;
        files->room = room;
    }
    files->list[files->count++] = sdb_table_file_ref(file);
    return true;
}

storm_status sdb_repair_write(struct sdb_repair *repair, struct sdb_source *source, unsigned level,
                              struct sdb_repair_files *files)
{
    struct sdb_output output;
    struct sdb_output_plan plan = {
        .level = level,
        .table_bytes = UINT64_MAX,
        .overlap_max = UINT64_MAX,
        .now_ms = sdb_now_ms(repair->db->os),
    };
    storm_status status = STORM_OK;
    sdb_output_begin(&output, repair->db, &plan);
    source->ops->first(source);
    while (source->valid && status == STORM_OK) {
        status = sdb_output_add(&output, source->key, source->tag, source->value);
        if (status == STORM_OK)
            source->ops->next(source);
    }
    if (status == STORM_OK)
        status = source->status;
    if (status == STORM_OK)
        status = sdb_output_finish(&output);
    for (size_t i = 0; i < output.count && status == STORM_OK; i++) {
        if (!sdb_repair_add_file(files, output.files[i]))
            status = STORM_NO_MEMORY;
    }
    sdb_output_end(&output, status == STORM_OK);
    return status;
}

static void free_files(struct sdb_repair_files *files)
{
    for (size_t i = 0; i < files->count; i++)
        sdb_table_file_unref(files->list[i]);
    free(files->list);
}

/* ---- Assembling ---- */

/* Tables of a flush that the manifest never came to name: needed when the log has lost records. */
static storm_status read_newer_tables(struct sdb_repair *repair, bool *is_found)
{
    storm_status status = STORM_OK;
    *is_found = false;
    for (size_t i = 0; i < repair->table_count && status == STORM_OK; i++) {
        struct sdb_repair_table *table = &repair->tables[i];
        bool is_newer = table->fate == SDB_REPAIR_UNREAD && table->has_props &&
                        table->min_revision > repair->state.flushed_revision;
        if (!is_newer)
            continue;
        status = sdb_repair_read_table(repair, table);
        *is_found = *is_found || table->file != NULL;
    }
    return status;
}

/* The tables of the repaired store, in their levels. The list is freed, the files are borrowed. */
static storm_status keep_levels(struct sdb_repair *repair, struct sdb_repair_files *files)
{
    for (size_t i = 0; i < repair->table_count; i++) {
        struct sdb_repair_table *table = &repair->tables[i];
        if (table->named == NULL || table->file == NULL)
            continue;
        bool is_whole = table->fate == SDB_REPAIR_WHOLE;
        if (!sdb_repair_add_file(files, is_whole ? table->named : table->file))
            return STORM_NO_MEMORY;
    }
    for (size_t i = 0; i < repair->logged.count; i++) {
        if (!sdb_repair_add_file(files, repair->logged.list[i]))
            return STORM_NO_MEMORY;
    }
    return STORM_OK;
}

static storm_status assemble(struct sdb_repair *repair, struct sdb_repair_files *files)
{
    bool has_newer = false;
    storm_status status = STORM_OK;
    if (repair->is_trusted && repair->log_problems != 0)
        status = read_newer_tables(repair, &has_newer);
    if (status != STORM_OK)
        return status;
    if (repair->is_trusted && !repair->has_old && !has_newer)
        return keep_levels(repair, files);
    status = sdb_repair_merge(repair);
    for (size_t i = 0; i < repair->written.count && status == STORM_OK; i++) {
        if (!sdb_repair_add_file(files, repair->written.list[i]))
            status = STORM_NO_MEMORY;
    }
    return status;
}

/* The tables, with all range deletes that the manifest and the log know of; those that no table
 * needs leave with the first edit. */
static storm_status make_version(const struct sdb_repair *repair,
                                 const struct sdb_repair_files *files, struct sdb_version **version)
{
    struct sdb_edit edit = {
        .added = files->list,
        .added_count = files->count,
        .ranges_added = repair->ranges.list,
        .ranges_added_count = repair->ranges.count,
    };
    struct sdb_version *base = sdb_version_create();
    *version = NULL;
    if (base != NULL) {
        if (repair->version != NULL)
            base->ranges = sdb_ranges_ref(repair->version->ranges);
        *version = sdb_version_apply(base, &edit);
    }
    sdb_version_unref(base);
    return *version == NULL ? STORM_NO_MEMORY : STORM_OK;
}

static bool is_in(const struct sdb_repair_files *files, uint64_t number)
{
    for (size_t i = 0; i < files->count; i++) {
        if (files->list[i]->number == number)
            return true;
    }
    return false;
}

/* What became of each original: marks the names that stay, counts, and tells. */
static void count_outcome(struct sdb_repair *repair, const struct sdb_repair_files *files)
{
    char line[SDB_ERROR_TEXT];
    struct storm_repair_result *result = repair->result;
    for (size_t i = 0; i < repair->name_count; i++) {
        struct sdb_repair_name *name = &repair->names[i];
        name->is_kept = name->kind == SDB_FILE_TABLE && is_in(files, name->number);
    }
    for (size_t i = 0; i < repair->table_count; i++) {
        const struct sdb_repair_table *table = &repair->tables[i];
        bool is_kept = table->fate == SDB_REPAIR_WHOLE && is_in(files, table->number);
        bool is_merged = table->fate == SDB_REPAIR_WHOLE && !is_kept;
        result->tables_kept += is_kept;
        result->tables_salvaged += is_merged || table->fate == SDB_REPAIR_SALVAGED;
        result->tables_lost += table->fate == SDB_REPAIR_LOST;
        if (!is_merged && table->fate != SDB_REPAIR_UNREAD)
            continue;
        snprintf(line, sizeof line, "%010" PRIu64 ".sst: %s", table->number,
                 is_merged ? "whole; its entries are in new tables"
                           : "not named by the manifest; left out");
        sdb_repair_tell(repair, STORM_OK, line);
    }
    for (size_t i = 0; i < files->count; i++)
        result->entries += files->list[i]->entries;
    result->revision = repair->revision;
}

/* ---- Second names in lost/ ---- */

static bool moves(const struct sdb_repair_name *name)
{
    bool is_scratch = name->kind == SDB_FILE_SPARE || strcmp(name->name, SDB_CURRENT_TEMP) == 0;
    return !name->is_kept && !is_scratch;
}

/* "dir/lost/name", with a suffix for all copies but the first. */
static char *lost_path(const struct sdb_repair *repair, const char *name, unsigned copy)
{
    char within[sizeof LOST + SDB_NAME_MAX + 16];
    if (copy == 0)
        snprintf(within, sizeof within, LOST "/%s", name);
    else
        snprintf(within, sizeof within, LOST "/%s.%u", name, copy);
    return sdb_path(repair->db->dir, within);
}

static storm_status link_original(struct sdb_repair *repair, struct sdb_repair_name *name)
{
    char *from = sdb_path(repair->db->dir, name->name);
    storm_status status = from == NULL ? STORM_NO_MEMORY : STORM_EXISTS;
    for (unsigned copy = 0; copy < COPIES_MAX && status == STORM_EXISTS; copy++) {
        char *to = lost_path(repair, name->name, copy);
        status = to == NULL ? STORM_NO_MEMORY : sdb_link(repair->db->os, from, to);
        if (status == STORM_OK)
            name->copies = copy + 1;
        free(to);
    }
    free(from);
    return status;
}

static storm_status link_originals(struct sdb_repair *repair)
{
    struct sdb_lsm *db = repair->db;
    char *lost = sdb_path(db->dir, LOST);
    if (lost == NULL)
        return STORM_NO_MEMORY;
    storm_status status = sdb_mkdir(db->os, lost);
    if (status == STORM_EXISTS)
        status = STORM_OK;
    for (size_t i = 0; i < repair->name_count && status == STORM_OK; i++) {
        if (moves(&repair->names[i]))
            status = link_original(repair, &repair->names[i]);
    }
    if (status == STORM_OK)
        status = sdb_sync_dir(db->os, lost);
    if (status == STORM_OK)
        status = sdb_sync_dir(db->os, db->dir);
    free(lost);
    return status;
}

/* The repair failed before it changed anything: take the second names back. */
static void unlink_copies(struct sdb_repair *repair)
{
    for (size_t i = 0; i < repair->name_count; i++) {
        const struct sdb_repair_name *name = &repair->names[i];
        char *path = name->copies == 0 ? NULL : lost_path(repair, name->name, name->copies - 1);
        if (path != NULL)
            (void)sdb_unlink(repair->db->os, path);
        free(path);
    }
}

/* The repaired store is current: originals keep their names in lost/ only. What fails here the next
 * open does. CURRENT is the new one by now. */
static void unlink_originals(struct sdb_repair *repair)
{
    for (size_t i = 0; i < repair->name_count; i++) {
        const struct sdb_repair_name *name = &repair->names[i];
        bool is_going = name->copies != 0 && strcmp(name->name, SDB_CURRENT) != 0;
        char *path = is_going ? sdb_path(repair->db->dir, name->name) : NULL;
        if (path != NULL)
            (void)sdb_unlink(repair->db->os, path);
        free(path);
    }
}

/* Remove the repair's own tables that are not in `files` (NULL: all of them). */
static void unlink_new(struct sdb_repair *repair, const struct sdb_repair_files *files)
{
    for (uint64_t number = repair->first_new; number < repair->db->next_file; number++) {
        char *path =
            files != NULL && is_in(files, number) ? NULL : sdb_repair_table_path(repair, number);
        if (path != NULL)
            (void)sdb_unlink(repair->db->os, path);
        free(path);
    }
}

/* ---- Commit ---- */

static storm_status write_manifest(struct sdb_repair *repair, const struct sdb_version *version)
{
    struct sdb_lsm *db = repair->db;
    struct sdb_state state = {
        .store_id = repair->state.store_id,
        .epoch = repair->epoch + 1,
        .manifest_number = db->next_file,
        .next_file = db->next_file + 1,
        .log_number = db->next_file + 1,
        .flushed_revision = repair->revision,
    };
    if (state.store_id == 0)
        state.store_id = sdb_new_store_id(db->os);
    return sdb_manifest_create(db->os, db->dir, &state, version, &db->manifest);
}

static storm_status commit(struct sdb_repair *repair, const struct sdb_repair_files *files,
                           bool *may_be_current)
{
    struct sdb_version *version;
    storm_status status = make_version(repair, files, &version);
    if (status == STORM_OK)
        status = link_originals(repair);
    if (status == STORM_OK) {
        *may_be_current = true;
        status = write_manifest(repair, version);
    }
    if (status == STORM_OK) {
        unlink_originals(repair);
        unlink_new(repair, files);
        (void)sdb_sync_dir(repair->db->os, repair->db->dir);
    }
    sdb_version_unref(version);
    return status;
}

/* ---- The whole ---- */

static storm_status take_lock(struct sdb_repair *repair)
{
    struct sdb_lsm *db = repair->db;
    char *path = sdb_path(db->dir, SDB_LOCK);
    if (path == NULL)
        return STORM_NO_MEMORY;
    storm_status status = sdb_lock(db->os, path, &db->lock);
    free(path);
    return status;
}

static storm_status run(struct sdb_repair *repair, struct sdb_repair_files *files,
                        bool *may_be_current)
{
    storm_status status = sdb_repair_scan(repair);
    if (status == STORM_OK)
        status = take_lock(repair);
    if (status == STORM_OK)
        status = sdb_repair_scan(repair); /* again, for somebody may have been at work till now */
    if (status == STORM_OK)
        status = sdb_repair_judge(repair);
    if (status == STORM_OK)
        status = sdb_repair_read_log(repair);
    if (status == STORM_OK)
        status = assemble(repair, files);
    if (status == STORM_OK) {
        count_outcome(repair, files);
        status = commit(repair, files, may_be_current);
    }
    return status;
}

static void fini(struct sdb_repair *repair)
{
    for (size_t i = 0; i < repair->table_count; i++) {
        sdb_table_file_unref(repair->tables[i].named);
        sdb_table_file_unref(repair->tables[i].file);
    }
    free_files(&repair->logged);
    free_files(&repair->written);
    sdb_memtable_unref(repair->memtable);
    sdb_range_replay_fini(&repair->ranges);
    sdb_version_unref(repair->version);
    free(repair->tables);
    free(repair->names);
    sdb_lsm_destroy(repair->db);
}

storm_status sdb_lsm_repair_on(struct sdb_os *os, const char *dir, storm_report_fn report,
                               void *ctx, struct storm_repair_result *result,
                               struct storm_error *error)
{
    struct storm_options options;
    struct sdb_repair_files files = {.list = NULL};
    bool may_be_current = false;
    storm_options_init(&options);
    struct sdb_repair repair = {.report = report, .ctx = ctx, .result = result};
    repair.db = sdb_lsm_create(os, dir, &options);
    if (repair.db == NULL) {
        sdb_open_error(NULL, STORM_NO_MEMORY, dir, error);
        return STORM_NO_MEMORY;
    }
    storm_status status = STORM_NO_MEMORY;
    repair.db->next_file = 1;
    repair.first_new = UINT64_MAX; /* none yet: what is unlinked must be our own */
    repair.db->cache = sdb_cache_create(0, &repair.db->account);
    repair.memtable = sdb_memtable_create(&repair.db->account);
    if (repair.db->dir != NULL && repair.db->cache != NULL && repair.memtable != NULL)
        status = run(&repair, &files, &may_be_current);
    if (status != STORM_OK) {
        sdb_open_error(status == STORM_NO_MEMORY ? NULL : repair.db->os->errors, status, dir,
                       error);
        *result = (struct storm_repair_result){0};
    }
    free_files(&files);
    if (status != STORM_OK && !may_be_current) {
        unlink_copies(&repair);
        unlink_new(&repair, NULL);
    }
    fini(&repair);
    return status;
}

storm_status sdb_lsm_repair(const char *dir, storm_report_fn report, void *ctx,
                            struct storm_repair_result *result, struct storm_error *error)
{
    return sdb_lsm_repair_on(NULL, dir, report, ctx, result, error);
}
