/*
 * Views: what a reader searches. Taking one is a lock, a load and a count, some 20 ns; nothing is
 * searched or read under that lock. A view keeps its memtables and its version alive, so a reader
 * is never disturbed by a flush or compaction; a forgotten view keeps their memory and files.
 *
 * Threads that write one line of memory in turn wait for each other, locked or not: eight of them
 * read less through one lock than a single one. So there are SDB_DOORS doors to the current view,
 * each with a lock and a copy of the view with a count of its own, and a thread goes by its own
 * door. The copies share one reference to memtables, version and range deletes, which the last of
 * them gives back.
 *
 *   install, under db->mu:   door 0 | door 1 | ... | door 15     then `visible` may move on
 *
 * A reader takes its view and loads `visible` under one lock. Loaded after it, `visible` could name
 * writes that the view lacks: those to the next memtable, and range deletes, whose sets are
 * immutable (of a batch {delete a range, put a key} it would see half). Nothing becomes visible
 * before a view that has it is current at every door. So whoever loads a revision at a door whose
 * view lacks it would have to do so before that door got the view that has it, which is before the
 * revision was stored: the lock of the door orders the two. While an install is under way, doors
 * show different views, but of one state: `visible` does not move, since db->mu is held, and what
 * differs is where things are (a flush, a compaction) or not visible yet (a new memtable, a range
 * delete). The other way round, a view may lack what was shadowed by something visible when a flush
 * or compaction looked; that was before the install, so what a reader loads at a door that has the
 * view is no older.
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
    struct sdb_door *door = sdb_door(db);
    pthread_mutex_lock(&door->mu);
    *view = door->view;
    atomic_fetch_add_explicit(&(*view)->refs, 1, memory_order_relaxed);
    uint64_t revision = atomic_load_explicit(&db->visible, memory_order_acquire);
    pthread_mutex_unlock(&door->mu);
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
    view = view->first;
    if (atomic_fetch_sub_explicit(&view->shares, 1, memory_order_acq_rel) != 1)
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
    return calloc(SDB_DOORS, sizeof(struct sdb_view));
}

static void add_ranges(struct sdb_view *view, struct sdb_ranges *ranges)
{
    if (ranges != NULL)
        view->ranges[view->ranges_count++] = sdb_ranges_ref(ranges);
}

/* One view for each door; the first has the references. */
static void fill(const struct sdb_lsm *db, struct sdb_view *views)
{
    struct sdb_view *first = &views[0];
    first->first = first;
    first->active = sdb_memtable_ref(db->active.table);
    first->sealed_count = db->sealed_count;
    for (size_t i = 0; i < db->sealed_count; i++)
        first->sealed[i] = sdb_memtable_ref(db->sealed[db->sealed_count - 1 - i].table);
    first->version = sdb_version_ref(db->version);
    add_ranges(first, db->active.ranges);
    for (size_t i = 0; i < db->sealed_count; i++)
        add_ranges(first, db->sealed[i].ranges);
    add_ranges(first, db->version->ranges);
    atomic_init(&first->refs, 1);
    for (size_t i = 1; i < SDB_DOORS; i++)
        memcpy(&views[i], first, sizeof *first);
    atomic_init(&first->shares, SDB_DOORS);
}

void sdb_view_install(struct sdb_lsm *db, struct sdb_view *view)
{
    fill(db, view);
    for (size_t i = 0; i < SDB_DOORS; i++) {
        struct sdb_door *door = &db->doors[i];
        pthread_mutex_lock(&door->mu);
        struct sdb_view *old = door->view;
        struct lsm_iter *spares = door->spares; /* they keep the old view */
        door->view = &view[i];
        door->spares = NULL;
        door->spare_count = 0;
        pthread_mutex_unlock(&door->mu);
        sdb_lsm_iter_discard(spares);
        sdb_view_release(old);
    }
}

struct sdb_door *sdb_view_door(struct sdb_lsm *db, const struct sdb_view *view)
{
    return &db->doors[view - view->first];
}

void sdb_doors_init(struct sdb_lsm *db)
{
    for (size_t i = 0; i < SDB_DOORS; i++)
        pthread_mutex_init(&db->doors[i].mu, NULL);
}

void sdb_doors_fini(struct sdb_lsm *db)
{
    for (size_t i = 0; i < SDB_DOORS; i++) {
        sdb_lsm_iter_discard(db->doors[i].spares);
        sdb_view_release(db->doors[i].view);
        pthread_mutex_destroy(&db->doors[i].mu);
    }
}
