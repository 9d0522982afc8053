/*
 * Snapshots: a revision in a ring under mu, oldest first, so that flush and compaction know which
 * versions of a key somebody can still see.
 */
#include <stdlib.h>

#include "lsm/db/db.h"

storm_snapshot *sdb_lsm_snapshot_create(storm_db *base)
{
    struct sdb_lsm *db = sdb_lsm(base);
    struct sdb_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (snapshot == NULL)
        return NULL;
    snapshot->base.db = base;
    snapshot->created_ns = sdb_now_ns(db->os);
    pthread_mutex_lock(&db->mu);
    /* Under mu revisions only grow, so the newest snapshot belongs at the end of the ring. */
    snapshot->base.revision = atomic_load_explicit(&db->visible, memory_order_acquire);
    snapshot->prev = db->snapshots.prev;
    snapshot->next = &db->snapshots;
    snapshot->prev->next = snapshot;
    snapshot->next->prev = snapshot;
    db->snapshot_count++;
    pthread_mutex_unlock(&db->mu);
    return &snapshot->base;
}

void sdb_lsm_snapshot_release(storm_snapshot *base)
{
    struct sdb_snapshot *snapshot = (struct sdb_snapshot *)base;
    struct sdb_lsm *db = sdb_lsm(base->db);
    pthread_mutex_lock(&db->mu);
    snapshot->prev->next = snapshot->next;
    snapshot->next->prev = snapshot->prev;
    db->snapshot_count--;
    if (db->holds_old_versions)
        sdb_compact_wake(db);
    pthread_mutex_unlock(&db->mu);
    free(snapshot);
}

storm_status sdb_snapshots_list(struct sdb_lsm *db, uint64_t **revisions, size_t *count)
{
    *count = 0;
    *revisions = malloc((size_t)(db->snapshot_count + 1) * sizeof(uint64_t));
    if (*revisions == NULL)
        return STORM_NO_MEMORY;
    for (struct sdb_snapshot *s = db->snapshots.next; s != &db->snapshots; s = s->next)
        (*revisions)[(*count)++] = s->base.revision;
    (*revisions)[*count] = atomic_load_explicit(&db->visible, memory_order_acquire);
    return STORM_OK;
}
