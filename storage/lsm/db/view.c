/*
 * Views: what a reader searches. Taking one is a lock, a load and a count, some 20 ns; nothing is
 * searched or read under that lock. A view keeps its memtables and its version alive, so a reader
 * is never disturbed by a flush or compaction; a forgotten view keeps their memory and files.
 *
 * A reader takes its view and loads `visible` under one lock. Loaded after it, `visible` could name
 * writes that the view lacks: those to the next memtable, and range deletes, whose sets are
 * immutable (of a batch {delete a range, put a key} it would see half). Under the lock the view
 * stays the current one until `visible` is loaded; and nothing becomes visible before a view that
 * has it is current.
 */
#include <stdlib.h>

#include "lsm/db/db.h"

struct sdb_view *sdb_view_acquire(struct sdb_lsm *db)
{
    struct sdb_view *view;
    (void)sdb_view_read(db, NULL, &view);
    return view;
}

uint64_t sdb_view_read(struct sdb_lsm *db, const storm_snapshot *snapshot, struct sdb_view **view)
{
    pthread_mutex_lock(&db->view_mu);
    *view = db->view;
    atomic_fetch_add_explicit(&(*view)->refs, 1, memory_order_relaxed);
    uint64_t revision = atomic_load_explicit(&db->visible, memory_order_acquire);
    pthread_mutex_unlock(&db->view_mu);
    return snapshot != NULL ? snapshot->revision : revision;
}

uint64_t sdb_view_search_floor(const struct sdb_view *view, struct storm_slice key,
                               uint64_t revision)
{
    uint64_t floor = 0;
    for (size_t i = 0; i < view->ranges_count; i++) {
        uint64_t newest = sdb_ranges_newest(view->ranges[i], key, revision);
        floor = newest > floor ? newest : floor;
    }
    return floor;
}

void sdb_view_release(struct sdb_view *view)
{
    if (view == NULL || atomic_fetch_sub_explicit(&view->refs, 1, memory_order_acq_rel) != 1)
        return;
    sdb_memtable_unref(view->active);
    for (size_t i = 0; i < view->sealed_count; i++)
        sdb_memtable_unref(view->sealed[i]);
    for (size_t i = 0; i < view->ranges_count; i++)
        sdb_ranges_unref(view->ranges[i]);
    sdb_version_unref(view->version);
    free(view);
}

struct sdb_view *sdb_view_alloc(void)
{
    return calloc(1, sizeof(struct sdb_view));
}

static void add_ranges(struct sdb_view *view, struct sdb_ranges *ranges)
{
    if (ranges != NULL)
        view->ranges[view->ranges_count++] = sdb_ranges_ref(ranges);
}

void sdb_view_install(struct sdb_lsm *db, struct sdb_view *view)
{
    atomic_init(&view->refs, 1);
    view->active = sdb_memtable_ref(db->active.table);
    view->sealed_count = db->sealed_count;
    for (size_t i = 0; i < db->sealed_count; i++)
        view->sealed[i] = sdb_memtable_ref(db->sealed[db->sealed_count - 1 - i].table);
    view->version = sdb_version_ref(db->version);
    add_ranges(view, db->active.ranges);
    for (size_t i = 0; i < db->sealed_count; i++)
        add_ranges(view, db->sealed[i].ranges);
    add_ranges(view, db->version->ranges);

    pthread_mutex_lock(&db->view_mu);
    struct sdb_view *old = db->view;
    struct lsm_iter *spares = db->spares; /* they keep the old view */
    db->view = view;
    db->spares = NULL;
    db->spare_count = 0;
    pthread_mutex_unlock(&db->view_mu);
    sdb_lsm_iter_discard(spares);
    sdb_view_release(old);
}
