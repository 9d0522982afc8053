/*
 * Sync by interval: a thread that makes the log durable once it has been unsynced for
 * options.sync_interval_ms, for writes that asked for that.
 *
 *   publish: unsynced_since_ns = now -> so long later: set to 0, sync -> publish sets it anew
 *
 * It takes no turn: writers go on appending while the disk works, and what they append meanwhile is
 * the next interval's. Only a group that needs a sync of its own, and one for which a new log
 * segment must begin, wait for the end of the sync under way (wal/writer.c).
 *
 * A write that is published just after `unsynced_since_ns` was cleared may be covered already; the
 * sync that follows an interval later finds nothing to do then. One cleared before its record was
 * appended is never missed, because it is published, and the time set, afterwards.
 *
 * The same thread has the kernel write out what nobody syncs, in pieces of a MiB (wal/writer.c): so
 * the end of a segment, which must be synced, finds little left to do.
 *
 * A failed sync breaks the store like that of a group: what is published stays readable, and
 * nothing more is taken. Closing syncs what is left (sdb_wal_finish).
 */
#include "lsm/db/db.h"
#include "os/thread.h"

/* mu is held on entry and return, not meanwhile. */
static void sync_log(struct sdb_lsm *db)
{
    db->unsynced_since_ns = 0;
    pthread_mutex_unlock(&db->mu);
    storm_status status = sdb_wal_sync(db->wal);
    pthread_mutex_lock(&db->mu);
    if (status != STORM_OK)
        sdb_lsm_break(db);
}

/* mu is held on entry and return, not meanwhile. */
static void catch_up(struct sdb_lsm *db)
{
    pthread_mutex_unlock(&db->mu);
    storm_status status = sdb_wal_catch_up(db->wal);
    pthread_mutex_lock(&db->mu);
    db->log_is_behind = false;
    if (status != STORM_OK)
        sdb_lsm_break(db);
}

void *sdb_sync_thread(void *arg)
{
    struct sdb_lsm *db = arg;
    pthread_mutex_lock(&db->mu);
    while (!db->is_closing) {
        bool is_broken = atomic_load_explicit(&db->is_broken, memory_order_relaxed);
        if (db->log_is_behind && !is_broken) {
            catch_up(db);
            continue;
        }
        if (is_broken || db->unsynced_since_ns == 0) {
            pthread_cond_wait(&db->sync_cond, &db->mu);
            continue;
        }
        uint64_t now = sdb_now_ns(db->os);
        uint64_t due = db->unsynced_since_ns + (uint64_t)db->options.sync_interval_ms * 1000000;
        if (now >= due)
            sync_log(db);
        else
            (void)sdb_cond_wait_ns(&db->sync_cond, &db->mu, due - now);
    }
    pthread_mutex_unlock(&db->mu);
    return NULL;
}
