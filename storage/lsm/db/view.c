/*
 * Views: what a reader searches. Taking one is a lock, a load and a count, some 20 ns; nothing is
 * searched or read under that lock. A view keeps its memtables and its version alive, so a reader
 * is never disturbed by a flush or compaction; a forgotten view keeps their memory and files.
 */
#include <stdlib.h>

#include "lsm/db/db.h"

struct sdb_view *sdb_view_acquire(struct sdb_lsm *db)
{
    pthread_mutex_lock(&db->view_mu);
    struct sdb_view *view = db->view;
    atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&db->view_mu);
    return view;
}

void sdb_view_release(struct sdb_view *view)
{
    if (view == NULL || atomic_fetch_sub_explicit(&view->refs, 1, memory_order_acq_rel) != 1)
        return;
    sdb_memtable_unref(view->active);
    for (size_t i = 0; i < view->sealed_count; i++)
        sdb_memtable_unref(view->sealed[i]);
    sdb_version_unref(view->version);
    free(view);
}

struct sdb_view *sdb_view_alloc(void)
{
    return calloc(1, sizeof(struct sdb_view));
}

void sdb_view_install(struct sdb_lsm *db, struct sdb_view *view)
{
    atomic_init(&view->refs, 1);
    view->active = sdb_memtable_ref(db->active.table);
    view->sealed_count = db->sealed_count;
    for (size_t i = 0; i < db->sealed_count; i++)
        view->sealed[i] = sdb_memtable_ref(db->sealed[db->sealed_count - 1 - i].table);
    view->version = sdb_version_ref(db->version);

    pthread_mutex_lock(&db->view_mu);
    struct sdb_view *old = db->view;
    db->view = view;
    pthread_mutex_unlock(&db->view_mu);
    sdb_view_release(old);
}
