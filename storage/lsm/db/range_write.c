/* How range deletes get from batches to readers; range_write.h has the order of it. */
#include "lsm/db/range_write.h"

#include <stdlib.h>

#include "lsm/db/sweep.h"

/* ---- At a commit ---- */

/* The group's range deletes, borrowed from its batches; NULL when out of memory. */
static struct sdb_range *list_group(const struct sdb_lsm *db, size_t group_count, size_t *count)
{
    size_t most = 0;
    *count = 0;
    for (size_t i = 0; i < group_count; i++)
        most += db->group[i]->batch->range_count;
    struct sdb_range *list = malloc((most + 1) * sizeof *list);
    if (list == NULL)
        return NULL;
    for (size_t i = 0; i < group_count; i++) {
        const struct sdb_commit *member = db->group[i];
        if (member->status != STORM_OK || member->batch->range_count == 0)
            continue;
        struct sdb_cursor cursor = sdb_cursor(sdb_buffer_slice(&member->batch->ops));
        struct sdb_batch_op op;
        while (sdb_batch_next(&cursor, &op)) {
            if (op.kind == SDB_KIND_DELETE_RANGE)
                list[(*count)++] = (struct sdb_range){op.key, op.value, member->revision};
        }
    }
    return list;
}

/* Whether a table lies wholly in the range, and in none of the range deletes so far. */
static bool frees_table(const struct sdb_view *view, const struct sdb_range *range)
{
    const struct sdb_version *version = view->version;
    for (unsigned l = 0; l < STORM_MAX_LEVELS; l++) {
        size_t count = version->levels[l].count;
        for (size_t i = sdb_sweep_find(version, l, 0, range); i < count;
             i = sdb_sweep_find(version, l, i + 1, range)) {
            const struct sdb_table_file *file = version->levels[l].files[i];
            bool is_new =
                sdb_range_covers(range, file->smallest) && sdb_range_covers(range, file->largest);
            for (size_t s = 0; s < view->ranges_count && is_new; s++)
                is_new = !sdb_sweep_is_dead(view->ranges[s], file, NULL, 0);
            if (is_new)
                return true;
        }
    }
    return false;
}

storm_status sdb_range_commit_prepare(struct sdb_lsm *db, size_t count, const struct sdb_view *view,
                                      struct sdb_range_commit *commit)
{
    uint64_t *seen = NULL;
    size_t snapshots = 0;
    size_t range_count;
    *commit = (struct sdb_range_commit){0};
    struct sdb_range *list = list_group(db, count, &range_count);
    if (list == NULL)
        return STORM_NO_MEMORY;
    pthread_mutex_lock(&db->mu);
    storm_status status = sdb_snapshots_list(db, &seen, &snapshots);
    bool is_ready_to_flush = db->active.frees_tables;
    pthread_mutex_unlock(&db->mu);
    /* The active memtable's set is replaced by the turn's holder only: by nobody meanwhile. */
    struct sdb_ranges *active = db->active.ranges;
    if (status == STORM_OK)
        status =
            sdb_ranges_create(&active, 1, list, range_count, seen, snapshots + 1, &commit->ranges);
    if (status == STORM_OK && (commit->view = sdb_view_alloc()) == NULL)
        status = STORM_NO_MEMORY;
    commit->frees_tables = is_ready_to_flush;
    /* A snapshot would keep the tables: there is no hurry then. */
    bool may_free = snapshots == 0 && !db->tuning.is_by_hand;
    for (size_t i = 0; i < range_count && may_free && !commit->frees_tables; i++)
        commit->frees_tables = frees_table(view, &list[i]);
    free(list);
    free(seen);
    if (status != STORM_OK)
        sdb_range_commit_fini(commit);
    return status;
}

void sdb_range_commit_install(struct sdb_lsm *db, struct sdb_range_commit *commit)
{
    if (commit->view == NULL)
        return;
    sdb_ranges_unref(db->active.ranges);
    db->active.ranges = commit->ranges;
    db->active.frees_tables = commit->frees_tables;
    sdb_view_install(db, commit->view);
    *commit = (struct sdb_range_commit){0};
    if (!db->is_range_watched) {
        db->is_range_watched = true;
        sdb_compact_wake(db);
    }
}

void sdb_range_commit_fini(struct sdb_range_commit *commit)
{
    sdb_ranges_unref(commit->ranges);
    free(commit->view);
    *commit = (struct sdb_range_commit){0};
}

/* ---- At a replay ---- */

storm_status sdb_range_replay_add(struct sdb_range_replay *replay, const struct sdb_batch_op *op,
                                  uint64_t revision)
{
    if (replay->count == replay->room) {
        size_t room = replay->room == 0 ? 16 : 2 * replay->room;
        struct sdb_range *list = realloc(replay->list, room * sizeof *list);
        if (list == NULL)
            return STORM_NO_MEMORY;
        replay->list = list;
        replay->room = room;
    }
    uint8_t *keys = malloc(op->key.size + op->value.size + 1);
    if (keys == NULL)
        return STORM_NO_MEMORY;
    if (op->key.size != 0)
        memcpy(keys, op->key.data, op->key.size);
    if (op->value.size != 0)
        memcpy(keys + op->key.size, op->value.data, op->value.size);
    replay->list[replay->count++] =
        (struct sdb_range){storm_bytes(keys, op->key.size),
                           storm_bytes(keys + op->key.size, op->value.size), revision};
    return STORM_OK;
}

storm_status sdb_range_replay_finish(struct sdb_range_replay *replay, uint64_t visible,
                                     struct sdb_ranges **ranges)
{
    return sdb_ranges_create(NULL, 0, replay->list, replay->count, &visible, 1, ranges);
}

void sdb_range_replay_fini(struct sdb_range_replay *replay)
{
    for (size_t i = 0; i < replay->count; i++)
        free((void *)(uintptr_t)replay->list[i].start.data);
    free(replay->list);
    *replay = (struct sdb_range_replay){0};
}
