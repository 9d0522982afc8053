/*
 * Repair's view of one table: whole, damaged or lost.
 *
 * A whole one verifies in every byte (table/verify.c). Of a damaged one every whole block is copied
 * into one new table, versions, deletes and all (table/salvage.c): what it holds is a part of what
 * the original held, so it can take the original's place in its level.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lsm/db/output.h"
#include "lsm/db/repair.h"

char *sdb_repair_table_path(const struct sdb_repair *repair, uint64_t number)
{
    char name[SDB_NAME_MAX];
    sdb_table_name(name, number);
    return sdb_path(repair->db->dir, name);
}

static bool is_damage(storm_status status)
{
    return status == STORM_CORRUPT || status == STORM_IO;
}

/* ---- Whole ones ---- */

/* Check an open table; when it is whole, *file describes it, not open. */
static storm_status check_table(struct sdb_repair *repair, const struct sdb_repair_table *table,
                                struct sdb_table *open, uint64_t size, struct sdb_table_file **file)
{
    struct sdb_table_check check;
    sdb_table_check_init(&check);
    storm_status status = sdb_table_check(open, &check);
    if (status == STORM_OK && check.entries == 0)
        status = sdb_fail(repair->db->os->errors, STORM_CORRUPT,
                          "%010" PRIu64 ".sst: a table without entries", table->number);
    if (status == STORM_OK) {
        unsigned level = table->named != NULL ? table->named->level : 0;
        *file =
            sdb_table_file_create(table->number, size, level, sdb_buffer_slice(&check.first_key),
                                  sdb_buffer_slice(&check.last_key), &repair->db->garbage);
        status = *file == NULL ? STORM_NO_MEMORY : STORM_OK;
    }
    if (status == STORM_OK) {
        (*file)->table = open;
        sdb_table_file_adopt(*file);
        (*file)->table = NULL;
    }
    sdb_table_check_fini(&check);
    return status;
}

/* The size of the file at `path`. */
static storm_status size_of(struct sdb_os *os, const char *path, uint64_t *size)
{
    struct sdb_file *file;
    storm_status status = sdb_open(os, path, SDB_OPEN_READ, &file);
    if (status == STORM_OK)
        status = sdb_size(file, size);
    sdb_close(file);
    return status;
}

/* ---- Damaged ones ---- */

struct copy {
    struct sdb_repair *repair;
    struct sdb_output output;
};

static storm_status copy_entry(void *ctx, struct storm_slice key, uint64_t tag,
                               struct storm_slice value)
{
    struct copy *copy = ctx;
    return sdb_output_add(&copy->output, key, tag, value);
}

static void tell_problem(void *ctx, storm_status status)
{
    struct copy *copy = ctx;
    sdb_repair_tell_newest(copy->repair, status);
}

static storm_status salvage_table(struct sdb_repair *repair, struct sdb_repair_table *table,
                                  const char *path)
{
    struct copy copy = {.repair = repair};
    struct sdb_output_plan plan = {
        .level = table->named != NULL ? table->named->level : 0,
        .table_bytes = UINT64_MAX,
        .overlap_max = UINT64_MAX,
        .now_ms = sdb_now_ms(repair->db->os),
        .swept_revision = table->named != NULL ? table->named->swept_revision : 0,
    };
    struct sdb_salvage salvage = {.each = copy_entry, .problem = tell_problem, .ctx = &copy};
    char line[SDB_ERROR_TEXT];
    sdb_output_begin(&copy.output, repair->db, &plan);
    storm_status status = sdb_table_salvage(repair->db->os, path, table->number, &salvage);
    if (status == STORM_OK)
        status = sdb_output_finish(&copy.output);
    if (status == STORM_OK && copy.output.count != 0) {
        table->file = sdb_table_file_ref(copy.output.files[0]);
        table->fate = SDB_REPAIR_SALVAGED;
        snprintf(line, sizeof line,
                 "%010" PRIu64 ".sst: damaged; %" PRIu64 " entries of %" PRIu64
                 " blocks could be read and are in a new one",
                 table->number, salvage.entries, salvage.blocks);
        sdb_repair_tell(repair, STORM_CORRUPT, line);
    } else if (status == STORM_OK) {
        table->fate = SDB_REPAIR_LOST;
        snprintf(line, sizeof line, "%010" PRIu64 ".sst: damaged; nothing of it could be read",
                 table->number);
        sdb_repair_tell(repair, STORM_CORRUPT, line);
    }
    sdb_output_end(&copy.output, status == STORM_OK);
    return status;
}

/* ---- Either ---- */

storm_status sdb_repair_read_table(struct sdb_repair *repair, struct sdb_repair_table *table)
{
    struct sdb_lsm *db = repair->db;
    struct sdb_table *open = NULL;
    uint64_t size = 0;
    if (!table->is_present) {
        char line[64];
        table->fate = SDB_REPAIR_LOST;
        snprintf(line, sizeof line, "%010" PRIu64 ".sst: missing", table->number);
        sdb_repair_tell(repair, STORM_CORRUPT, line);
        return STORM_OK;
    }
    char *path = sdb_repair_table_path(repair, table->number);
    if (path == NULL)
        return STORM_NO_MEMORY;
    storm_status status = sdb_table_open(db->os, path, table->number, 0, db->cache, &open);
    if (status == STORM_OK)
        status = size_of(db->os, path, &size);
    if (status == STORM_OK)
        status = check_table(repair, table, open, size, &table->file);
    if (status == STORM_OK)
        table->fate = SDB_REPAIR_WHOLE;
    sdb_table_close(open);
    if (is_damage(status))
        status = salvage_table(repair, table, path);
    free(path);
    if (status == STORM_OK && table->file != NULL) {
        table->min_revision = table->file->min_revision;
        table->max_revision = table->file->max_revision;
        if (table->max_revision > repair->revision)
            repair->revision = table->max_revision;
    }
    return status;
}

storm_status sdb_repair_peek_table(struct sdb_repair *repair, struct sdb_repair_table *table)
{
    struct sdb_table *open;
    char *path = sdb_repair_table_path(repair, table->number);
    if (path == NULL)
        return STORM_NO_MEMORY;
    storm_status status =
        sdb_table_open(repair->db->os, path, table->number, 0, repair->db->cache, &open);
    free(path);
    if (status == STORM_OK) {
        table->has_props = true;
        table->min_revision = sdb_table_props(open)->min_revision;
        table->max_revision = sdb_table_props(open)->max_revision;
        sdb_table_close(open);
    }
    return is_damage(status) ? STORM_OK : status;
}
