/*
 * What repair finds: the files, the manifest, and whether the two belong together.
 *
 * Which manifest. The one that CURRENT names; when CURRENT is missing or damaged, or what it names
 * is, the one with the largest number, unless CURRENT names a larger one: manifests are numbered in
 * the order in which they were begun, each begins with the whole state, and none is written to any
 * more once a later one has been begun.
 *
 * Whether to trust it. A manifest can be whole and yet not that of these tables: an old copy of
 * CURRENT, say, put back by somebody. Then to follow it would drop what is newer. So it is trusted
 * only as long as nothing speaks against it:
 *   - a table that it names is whole, and is another one (entries, size, first or last key, revisions);
 *   - a table that it names is missing, while there are others that it does not name;
 *   - a table that it does not name has revisions below its flushed revision and above: no flush
 *     that a crash cut short, nor a compaction, leaves such a one.
 * A manifest that is not trusted still gives the store's id, counters and range deletes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lsm/db/repair.h"

/* ---- Files ---- */

static storm_status add_name(void *ctx, const char *name)
{
    struct sdb_repair *repair = ctx;
    uint64_t number;
    enum sdb_file_kind kind = sdb_name_parse(name, &number);
    if (kind == SDB_FILE_FOREIGN && strcmp(name, SDB_CURRENT) != 0)
        return STORM_OK;
    if (repair->name_count == repair->name_room) {
        size_t room = repair->name_room == 0 ? 64 : repair->name_room * 2;
        struct sdb_repair_name *names = realloc(repair->names, room * sizeof *names);
        if (names == NULL)
            return STORM_NO_MEMORY;
        repair->names = names;
        repair->name_room = room;
    }
    struct sdb_repair_name *entry = &repair->names[repair->name_count++];
    *entry = (struct sdb_repair_name){.kind = kind, .number = number};
    snprintf(entry->name, sizeof entry->name, "%s", name);
    if (number >= repair->db->next_file)
        repair->db->next_file = number + 1;
    return STORM_OK;
}

storm_status sdb_repair_scan(struct sdb_repair *repair)
{
    struct sdb_lsm *db = repair->db;
    repair->name_count = 0;
    storm_status status = sdb_list(db->os, db->dir, add_name, repair);
    bool is_store = false;
    for (size_t i = 0; i < repair->name_count; i++)
        is_store = is_store || repair->names[i].kind != SDB_FILE_SPARE;
    if (status == STORM_NOT_FOUND)
        return sdb_fail(db->os->errors, status, "%s: there is no such directory", db->dir);
    if (status == STORM_OK && !is_store)
        return sdb_fail(db->os->errors, STORM_NOT_FOUND,
                        "%s: the directory holds no store: no file in it is one of a store's",
                        db->dir);
    return status;
}

/* ---- The manifest ---- */

static bool is_damage(storm_status status)
{
    return status == STORM_CORRUPT || status == STORM_IO;
}

static uint64_t largest_manifest(const struct sdb_repair *repair)
{
    uint64_t largest = 0;
    for (size_t i = 0; i < repair->name_count; i++) {
        const struct sdb_repair_name *name = &repair->names[i];
        if (name->kind == SDB_FILE_MANIFEST && name->number > largest)
            largest = name->number;
    }
    return largest;
}

/* Read the manifest that counts: repair->has_state. */
static storm_status read_manifest(struct sdb_repair *repair)
{
    struct sdb_lsm *db = repair->db;
    uint64_t named = 0;
    uint64_t largest = largest_manifest(repair);
    storm_status status = sdb_current_read(db->os, db->dir, &named);
    if (status == STORM_NOT_FOUND)
        sdb_repair_tell(repair, STORM_CORRUPT, SDB_CURRENT ": missing; a new one is made");
    else if (is_damage(status))
        sdb_repair_tell_newest(repair, status);
    else if (status != STORM_OK)
        return status;
    if (status != STORM_OK)
        named = 0;
    uint64_t tries[2] = {named, largest >= named ? largest : 0};
    for (size_t i = 0; i < 2 && !repair->has_state; i++) {
        if (tries[i] == 0 || (i == 1 && tries[1] == tries[0]))
            continue;
        status = sdb_manifest_read_number(db->os, db->dir, tries[i], &db->garbage, &repair->state,
                                          &repair->version);
        repair->has_state = status == STORM_OK;
        if (is_damage(status))
            sdb_repair_tell_newest(repair, status);
        else if (status != STORM_OK)
            return status;
    }
    if (!repair->has_state) {
        repair->state = (struct sdb_state){0};
        sdb_repair_tell(repair, STORM_CORRUPT,
                        "MANIFEST: none can be read; every table and log record counts");
    }
    return STORM_OK;
}

/* ---- Tables: those in the directory and those that are named ---- */

static struct sdb_repair_table *add_table(struct sdb_repair *repair, uint64_t number)
{
    for (size_t i = 0; i < repair->table_count; i++) {
        if (repair->tables[i].number == number)
            return &repair->tables[i];
    }
    if (repair->table_count == repair->table_room) {
        size_t room = repair->table_room == 0 ? 64 : repair->table_room * 2;
        struct sdb_repair_table *tables = realloc(repair->tables, room * sizeof *tables);
        if (tables == NULL)
            return NULL;
        repair->tables = tables;
        repair->table_room = room;
    }
    struct sdb_repair_table *table = &repair->tables[repair->table_count++];
    *table = (struct sdb_repair_table){.number = number};
    return table;
}

static storm_status list_tables(struct sdb_repair *repair)
{
    for (size_t i = 0; i < repair->name_count; i++) {
        if (repair->names[i].kind != SDB_FILE_TABLE)
            continue;
        struct sdb_repair_table *table = add_table(repair, repair->names[i].number);
        if (table == NULL)
            return STORM_NO_MEMORY;
        table->is_present = true;
    }
    for (size_t l = 0; l < STORM_MAX_LEVELS && repair->has_state; l++) {
        const struct sdb_level *level = &repair->version->levels[l];
        for (size_t i = 0; i < level->count; i++) {
            struct sdb_repair_table *table = add_table(repair, level->files[i]->number);
            if (table == NULL)
                return STORM_NO_MEMORY;
            table->named = sdb_table_file_ref(level->files[i]);
        }
    }
    return STORM_OK;
}

/* ---- Trust ---- */

/* Whether a table that could be read can be the one that the manifest describes. */
static bool is_described(const struct sdb_repair_table *table)
{
    const struct sdb_table_file *said = table->named;
    const struct sdb_table_file *found = table->file;
    if (found == NULL)
        return true;
    if (table->fate == SDB_REPAIR_WHOLE)
        return said->size == found->size && said->entries == found->entries &&
               said->min_revision == found->min_revision &&
               said->max_revision == found->max_revision &&
               sdb_key_compare(said->smallest, found->smallest) == 0 &&
               sdb_key_compare(said->largest, found->largest) == 0;
    return said->min_revision <= found->min_revision && said->max_revision >= found->max_revision &&
           sdb_key_compare(said->smallest, found->smallest) <= 0 &&
           sdb_key_compare(said->largest, found->largest) >= 0;
}

static bool is_trusted(const struct sdb_repair *repair)
{
    bool is_missing = false;
    bool has_others = false;
    for (size_t i = 0; i < repair->table_count; i++) {
        const struct sdb_repair_table *table = &repair->tables[i];
        uint64_t flushed = repair->state.flushed_revision;
        if (table->named == NULL) {
            has_others = true;
            if (table->has_props && table->min_revision <= flushed && table->max_revision > flushed)
                return false;
        } else {
            is_missing = is_missing || !table->is_present;
            if (!is_described(table))
                return false;
        }
    }
    return !(is_missing && has_others);
}

storm_status sdb_repair_judge(struct sdb_repair *repair)
{
    storm_status status = read_manifest(repair);
    if (status == STORM_OK)
        status = list_tables(repair);
    if (repair->state.next_file > repair->db->next_file)
        repair->db->next_file = repair->state.next_file;
    repair->first_new = repair->db->next_file;
    repair->revision = repair->state.flushed_revision;
    repair->epoch = repair->state.epoch;
    for (size_t i = 0; i < repair->table_count && status == STORM_OK; i++) {
        struct sdb_repair_table *table = &repair->tables[i];
        if (table->named != NULL && table->named->max_revision > repair->revision)
            repair->revision = table->named->max_revision;
        status = table->named != NULL || !repair->has_state ? sdb_repair_read_table(repair, table)
                                                            : sdb_repair_peek_table(repair, table);
    }
    repair->is_trusted = status == STORM_OK && repair->has_state && is_trusted(repair);
    if (status == STORM_OK && repair->has_state && !repair->is_trusted)
        sdb_repair_tell(repair, STORM_CORRUPT,
                        "MANIFEST: not that of these tables; every table and log record counts");
    for (size_t i = 0; i < repair->table_count && status == STORM_OK; i++) {
        struct sdb_repair_table *table = &repair->tables[i];
        if (!repair->is_trusted && table->fate == SDB_REPAIR_UNREAD)
            status = sdb_repair_read_table(repair, table);
    }
    return status;
}
