/*
 * Repair's view of the log: every whole record whose operations are not in the tables goes, sorted
 * through a memtable, into tables of level 0.
 *
 * With a manifest to trust, that is what lies above its flushed revision. Older records are in the
 * tables already; should one of those be damaged, what the log still has of the keys between its
 * first and its last is taken as well, and all is merged then (repair.c), for those are older than
 * what else may be there under the same keys. Without a manifest every record is taken.
 *
 * Range deletes are taken from every record: they hide nothing but what is older than they, and old
 * puts that are taken again may be in need of them.
 */
#include <inttypes.h>
#include <stdio.h>

#include "lsm/db/output.h"
#include "lsm/db/repair.h"

/* What is gathered in memory before it becomes a table. */
enum { CHUNK_BYTES = 64 << 20 };

/* Whether a damaged table that the manifest names may have had this key. */
static bool was_damaged(const struct sdb_repair *repair, struct storm_slice key)
{
    for (size_t i = 0; i < repair->table_count; i++) {
        const struct sdb_repair_table *table = &repair->tables[i];
        if (table->named != NULL && table->fate != SDB_REPAIR_WHOLE &&
            sdb_table_file_covers(table->named, key))
            return true;
    }
    return false;
}

/* Turn what is in the memtable into a table. */
static storm_status write_chunk(struct sdb_repair *repair)
{
    if (sdb_memtable_entries(repair->memtable) == 0)
        return STORM_OK;
    struct sdb_source *source = sdb_memtable_source(repair->memtable);
    if (source == NULL)
        return STORM_NO_MEMORY;
    storm_status status = sdb_repair_write(repair, source, 0, &repair->logged);
    sdb_source_destroy(source);
    sdb_memtable_unref(repair->memtable);
    repair->memtable = sdb_memtable_create(&repair->db->account);
    return status == STORM_OK && repair->memtable == NULL ? STORM_NO_MEMORY : status;
}

/* One operation of the log into memory. */
static storm_status take_op(struct sdb_repair *repair, uint64_t revision,
                            const struct sdb_batch_op *op)
{
    if (op->kind == SDB_KIND_DELETE_RANGE)
        return sdb_range_replay_add(&repair->ranges, op, revision);
    return sdb_memtable_insert(repair->memtable, op->key, sdb_tag(revision, op->kind), op->value);
}

static storm_status take_batch(void *ctx, uint64_t revision, struct storm_slice ops)
{
    struct sdb_repair *repair = ctx;
    bool is_new = !repair->is_trusted || revision > repair->state.flushed_revision;
    bool is_taken = is_new;
    struct sdb_cursor cursor = sdb_cursor(ops);
    struct sdb_batch_op op;
    storm_status status = STORM_OK;
    while (status == STORM_OK && sdb_batch_next(&cursor, &op)) {
        /* A range delete hides what is older wherever that is, so it is right at any time; and it
         * may have left the manifest, while old records bring back what it hid. */
        bool is_range = op.kind == SDB_KIND_DELETE_RANGE;
        bool is_old = !is_new && !is_range && was_damaged(repair, op.key);
        if (is_new || is_old || is_range)
            status = take_op(repair, revision, &op);
        repair->has_old = repair->has_old || is_old;
        is_taken = is_taken || is_old;
    }
    if (cursor.at == NULL && ops.size != 0) {
        (void)sdb_fail(repair->db->os->errors, STORM_CORRUPT,
                       "%s/log: the batch of revision %" PRIu64 " makes no sense", repair->db->dir,
                       revision);
        sdb_repair_tell_newest(repair, STORM_CORRUPT);
        repair->log_problems++;
    }
    repair->log_segment_batches += is_taken;
    if (status == STORM_OK && sdb_memtable_bytes(repair->memtable) >= CHUNK_BYTES)
        status = write_chunk(repair);
    return status;
}

static storm_status end_segment(void *ctx, uint64_t number, uint64_t records)
{
    struct sdb_repair *repair = ctx;
    char name[SDB_WAL_NAME];
    char line[SDB_ERROR_TEXT];
    sdb_wal_name(name, number);
    snprintf(line, sizeof line,
             "%s: %" PRIu64 " whole records; %" PRIu64 " batches of them are in new tables", name,
             records, repair->log_segment_batches);
    sdb_repair_tell(repair, STORM_OK, line);
    repair->result->log_records += repair->log_segment_batches;
    repair->log_segment_batches = 0;
    return STORM_OK;
}

/* The manifest knows of a segment that nothing else would say is missing. */
static void tell_missing(struct sdb_repair *repair)
{
    char name[SDB_WAL_NAME];
    char line[SDB_WAL_NAME + 16];
    bool is_there = repair->state.newest_log == 0;
    sdb_wal_name(name, repair->state.newest_log);
    for (size_t i = 0; i < repair->name_count && !is_there; i++)
        is_there = strcmp(repair->names[i].name, name) == 0;
    if (is_there)
        return;
    snprintf(line, sizeof line, "%s: missing", name);
    sdb_repair_tell(repair, STORM_CORRUPT, line);
    repair->log_problems++;
}

storm_status sdb_repair_read_log(struct sdb_repair *repair)
{
    struct sdb_wal_salvage salvage = {
        .os = repair->db->os,
        .dir = repair->db->dir,
        .store_id = repair->state.store_id,
        .judged_epoch = repair->has_state ? repair->state.epoch : 0,
        .each = take_batch,
        .segment = end_segment,
        .problem = sdb_repair_tell_newest,
        .ctx = repair,
    };
    if (repair->is_trusted)
        tell_missing(repair);
    storm_status status = sdb_wal_salvage(&salvage);
    if (status == STORM_OK)
        status = write_chunk(repair);
    repair->state.store_id = salvage.store_id;
    repair->log_problems += salvage.problems;
    if (salvage.revision > repair->revision)
        repair->revision = salvage.revision;
    if (salvage.max_epoch > repair->epoch)
        repair->epoch = salvage.max_epoch;
    return status;
}
