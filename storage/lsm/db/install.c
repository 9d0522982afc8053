/*
 * Making an edit current: the one way in which a flush or a compaction changes the store.
 *
 *   manifest record durable -> version and view replaced -> removed tables marked is_deleted
 *
 * in this order, all under manifest_mu. The files of removed tables go when the last version that
 * holds them does, and never before the edit is durable.
 *
 * A failed append leaves the edit in doubt: half a record may be on the disk, or all of one. Tables
 * that it would add therefore stay on the disk (`doubtful`) although nothing refers to them. The
 * manifest begins a new file with the next edit; once that has succeeded the doubt is gone, and so
 * are they.
 */
#include <stdlib.h>

#include "lsm/db/output.h"
#include "lsm/db/sweep.h"

/* The first segment that memtables beyond the `flushed` oldest need. mu is held. */
static uint64_t first_needed_segment(const struct sdb_lsm *db, size_t flushed)
{
    for (size_t i = flushed; i < db->sealed_count; i++) {
        if (db->sealed[i].first_segment != 0)
            return db->sealed[i].first_segment;
    }
    if (db->active.first_segment != 0)
        return db->active.first_segment;
    return sdb_wal_segment(db->wal);
}

/* manifest_mu is held. What cannot be remembered for want of memory stays until the next open. */
static void doubt(struct sdb_lsm *db, const struct sdb_edit *edit)
{
    for (size_t i = 0; i < edit->added_count; i++) {
        if (edit->added[i]->moved_from != NULL)
            continue;
        struct sdb_doubtful *doubtful = malloc(sizeof *doubtful);
        if (doubtful == NULL)
            return;
        doubtful->file = sdb_table_file_ref(edit->added[i]);
        doubtful->next = db->doubtful;
        db->doubtful = doubtful;
    }
}

static void drop_doubtful(struct sdb_lsm *db, bool is_deleted)
{
    while (db->doubtful != NULL) {
        struct sdb_doubtful *doubtful = db->doubtful;
        db->doubtful = doubtful->next;
        atomic_store_explicit(&doubtful->file->is_deleted, is_deleted, memory_order_relaxed);
        sdb_table_file_unref(doubtful->file);
        free(doubtful);
    }
}

void sdb_install_fini(struct sdb_lsm *db)
{
    drop_doubtful(db, false);
}

/* Version, view, memtables. mu is held; `view` is used up. The version before is returned. */
static struct sdb_version *replace(struct sdb_lsm *db, const struct sdb_edit *edit,
                                   struct sdb_version *after, struct sdb_view *view,
                                   uint64_t next_file, size_t flushed)
{
    struct sdb_version *before = db->version;
    if (db->next_file < next_file)
        db->next_file = next_file;
    db->version = after;
    for (size_t i = 0; i < flushed; i++) {
        db->flush_freed_bytes += sdb_memtable_bytes(db->sealed[i].table);
        sdb_mem_fini(&db->sealed[i]);
    }
    memmove(db->sealed, db->sealed + flushed, (db->sealed_count - flushed) * sizeof db->sealed[0]);
    db->sealed_count -= flushed;
    db->seals_flushed += flushed;
    /* With the above, or who waits for it may not see what it came to. */
    for (size_t i = 0; flushed != 0 && i < edit->added_count; i++)
        db->flush_entries += edit->added[i]->entries;
    sdb_view_install(db, view);
    sdb_admission_tree_changed(db);
    return before;
}

/*
 * The version behind the edit, without the range deletes that no table needs any more: the edit
 * says so too then, in arrays of *diff. manifest_mu is held; `readers` as sdb_snapshots_list() has
 * them.
 */
static storm_status make_version(const struct sdb_version *before, struct sdb_edit *edit,
                                 const uint64_t *readers, size_t snapshot_count,
                                 struct sdb_sweep_diff *diff, struct sdb_version **after)
{
    *after = sdb_version_apply(before, edit);
    if (*after == NULL)
        return STORM_NO_MEMORY;
    if ((*after)->ranges == NULL && before->ranges == NULL)
        return STORM_OK;
    storm_status status = sdb_sweep_settle(before, *after, readers, snapshot_count + 1, diff);
    edit->ranges_added = diff->added;
    edit->ranges_added_count = diff->added_count;
    edit->ranges_removed = diff->removed;
    edit->ranges_removed_count = diff->removed_count;
    return status;
}

storm_status sdb_install(struct sdb_lsm *db, struct sdb_edit *edit, size_t flushed)
{
    struct sdb_view *view = sdb_view_alloc();
    struct sdb_version *after = NULL;
    struct sdb_sweep_diff diff = {0};
    uint64_t *readers = NULL;
    size_t snapshot_count = 0;
    if (view == NULL)
        return STORM_NO_MEMORY;
    pthread_mutex_lock(&db->manifest_mu);
    pthread_mutex_lock(&db->mu);
    if (flushed != 0) {
        edit->has_log_number = true;
        edit->log_number = first_needed_segment(db, flushed);
        edit->newest_log = sdb_wal_segment(db->wal);
    }
    uint64_t next_file = db->next_file++; /* a number in hand, should a new manifest be begun */
    storm_status status = sdb_snapshots_list(db, &readers, &snapshot_count);
    /* After a failed sync of the log nothing is written any more. */
    if (atomic_load_explicit(&db->is_broken, memory_order_relaxed))
        status = STORM_READ_ONLY;
    pthread_mutex_unlock(&db->mu);

    if (status == STORM_OK)
        status = make_version(db->version, edit, readers, snapshot_count, &diff, &after);
    if (status == STORM_OK)
        status = sdb_manifest_append(db->manifest, edit, after, &next_file);
    if (status == STORM_OK) {
        pthread_mutex_lock(&db->mu);
        struct sdb_version *before = replace(db, edit, after, view, next_file, flushed);
        view = NULL;
        pthread_mutex_unlock(&db->mu);
        /* Our own references keep them until the caller lets go. */
        for (size_t i = 0; i < edit->removed_count; i++)
            atomic_store_explicit(&edit->removed[i]->is_deleted, !edit->is_move,
                                  memory_order_relaxed);
        drop_doubtful(db, true);
        sdb_version_unref(before);
    } else {
        doubt(db, edit);
        sdb_version_unref(after);
    }
    bool is_broken = sdb_manifest_is_broken(db->manifest);
    pthread_mutex_unlock(&db->manifest_mu);
    sdb_sweep_diff_fini(&diff);
    free(readers);
    free(view);
    if (is_broken) {
        pthread_mutex_lock(&db->mu);
        sdb_lsm_break(db);
        pthread_mutex_unlock(&db->mu);
    }
    return status;
}
