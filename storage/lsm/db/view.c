/*
 * Views: what a reader searches. Taking one is a lock, a load and a count, some 20 ns; nothing is
 * searched or read under that lock. A view keeps its memtables and its version alive, so a reader
 * is never disturbed by a flush or compaction; a forgotten view keeps their memory and files.
 *
 * Entries of a memtable show up in a view that is older than they; range deletes do not, for their
 * sets are immutable. A reader that took its view just before a batch {delete a range, put a key} and
 * loads `visible` just after it would see half of the batch. So a commit with a range delete
 * installs a view of its own, then says so in `newest_range`, then moves `visible`; and a reader
 * that finds `newest_range` ahead of its view takes the view again.
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

uint64_t sdb_view_read(struct sdb_lsm *db, const storm_snapshot *snapshot, struct sdb_view **view)
{
    for (;;) {
        *view = sdb_view_acquire(db);
        /* Its range deletes were installed before the snapshot was taken. */
        if (snapshot != NULL)
            return snapshot->revision;
        uint64_t revision = atomic_load_explicit(&db->visible, memory_order_acquire);
        /* At least the newest range delete at or below `revision`: stored before that was. */
        if (atomic_load_explicit(&db->newest_range, memory_order_relaxed) <= (*view)->newest_range)
            return revision;
        sdb_view_release(*view);
    }
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
    if (ranges == NULL)
        return;
    view->ranges[view->ranges_count++] = sdb_ranges_ref(ranges);
    if (ranges->newest > view->newest_range)
        view->newest_range = ranges->newest;
}

void sdb_view_install(struct sdb_lsm *db, struct sdb_view *view)
{
    atomic_init(&view->refs, 1);
    view->active = sdb_memtable_ref(db->active.table);
    view->sealed_count = db->sealed_count;
    for (size_t i = 0; i < db->sealed_count; i++)
        view->sealed[i] = sdb_memtable_ref(db->sealed[db->sealed_count - 1 - i].table);
    view->version = sdb_version_ref(db->version);
    view->newest_range = db->view == NULL ? 0 : db->view->newest_range;
    add_ranges(view, db->active.ranges);
    for (size_t i = 0; i < db->sealed_count; i++)
        add_ranges(view, db->sealed[i].ranges);
    add_ranges(view, db->version->ranges);

    pthread_mutex_lock(&db->view_mu);
    struct sdb_view *old = db->view;
    db->view = view;
    pthread_mutex_unlock(&db->view_mu);
    sdb_view_release(old);
}
