/* The numbers of storm_stats, gathered from their owners. */
#include "lsm/db/db.h"

/* In force: in the memtables and in the version. mu is held. */
static uint64_t count_ranges(const struct sdb_lsm *db)
{
    uint64_t count = sdb_ranges_count(db->active.ranges) + sdb_ranges_count(db->version->ranges);
    for (size_t i = 0; i < db->sealed_count; i++)
        count += sdb_ranges_count(db->sealed[i].ranges);
    return count;
}

static void read_queue(struct sdb_lsm *db, struct storm_stats *stats)
{
    pthread_mutex_lock(&db->mu);
    stats->memtable_bytes = sdb_memtable_used(db->active.table);
    stats->memtable_entries = sdb_memtable_entries(db->active.table);
    for (size_t i = 0; i < db->sealed_count; i++) {
        stats->memtable_bytes += sdb_memtable_used(db->sealed[i].table);
        stats->memtable_entries += sdb_memtable_entries(db->sealed[i].table);
    }
    stats->memtables_sealed = db->sealed_count;
    stats->writes = db->writes;
    stats->log_group_commits = db->groups;
    stats->bytes_written_user = db->user_bytes;
    stats->flushes = db->flushes;
    stats->flush_last_ms = db->flush_last_ms;
    stats->flush_last_duration_us = db->flush_last_us;
    stats->bytes_written_tables = db->table_bytes;
    stats->compactions = db->compactions;
    stats->compaction_running = db->is_compacting;
    sdb_admission_stats(db, stats);
    stats->range_deletes = count_ranges(db);
    stats->snapshots = db->snapshot_count;
    if (db->snapshot_count != 0) {
        uint64_t age_ns = sdb_now_ns(db->os) - db->snapshots.next->created_ns;
        stats->snapshot_oldest_ms = age_ns / 1000000 + 1;
    }
    pthread_mutex_unlock(&db->mu);
}

static void read_memory(const struct sdb_account *account, struct storm_stats *stats)
{
    stats->memory_memtables = sdb_account_bytes(account, SDB_FOR_MEMTABLES);
    stats->memory_cache = sdb_account_bytes(account, SDB_FOR_CACHE);
    stats->memory_tables = sdb_account_bytes(account, SDB_FOR_TABLES);
    stats->memory_log = sdb_account_bytes(account, SDB_FOR_LOG);
    stats->memory_bytes =
        stats->memory_memtables + stats->memory_cache + stats->memory_tables + stats->memory_log;
}

static void read_tables(const struct sdb_version *version, struct storm_stats *stats)
{
    uint64_t entries = 0;
    uint64_t deletes = 0;
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &version->levels[l];
        stats->level_files[l] = level->count;
        stats->level_bytes[l] = level->bytes;
        stats->sstable_count += level->count;
        stats->sstable_bytes += level->bytes;
        for (size_t i = 0; i < level->count; i++) {
            entries += level->files[i]->entries;
            deletes += level->files[i]->deletes;
        }
    }
    /* Each delete hides one entry and is one itself, if it hides anything at all. */
    stats->entries_estimate = entries > 2 * deletes ? entries - 2 * deletes : 0;
}

storm_status sdb_lsm_stats(storm_db *base, struct storm_stats *stats)
{
    struct sdb_lsm *db = sdb_lsm(base);
    struct sdb_cache_stats cache;
    stats->revision = atomic_load_explicit(&db->visible, memory_order_acquire);
    stats->read_only =
        db->options.read_only || atomic_load_explicit(&db->is_broken, memory_order_acquire);
    stats->memtable_limit_bytes = db->options.write_buffer_bytes;
    read_queue(db, stats);

    struct sdb_view *view = sdb_view_acquire(db);
    read_tables(view->version, stats);
    stats->compaction_pending_bytes = sdb_pending_bytes(view->version, &db->tuning);
    sdb_view_release(view);
    stats->entries_estimate += stats->memtable_entries;
    read_memory(&db->account, stats);

    sdb_tally_sum(db, stats);

    sdb_cache_stats(db->cache, &cache);
    stats->cache_bytes = cache.bytes;
    stats->cache_limit_bytes = cache.capacity;
    stats->cache_hits = cache.hits;
    stats->cache_misses = cache.misses;

    if (db->wal != NULL) {
        struct sdb_wal_stats wal;
        sdb_wal_stats(db->wal, &wal);
        stats->log_bytes = wal.bytes;
        stats->log_segments = wal.segments;
        stats->log_syncs = wal.syncs;
        stats->log_last_sync_us = wal.last_sync_us;
        stats->bytes_written_log = wal.appended_bytes;
    }
    sdb_feeds_stats(db, stats);
    sdb_errors_count(db->os->errors, &stats->errors, &stats->corruptions);
    /* A failure is recorded like any other and must not hide the rest. */
    (void)sdb_free_bytes(db->os, db->dir, &stats->disk_free_bytes);
    return STORM_OK;
}
