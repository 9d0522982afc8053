/* Which tables still need which range deletes; the rules are in sweep.h. */
#include "lsm/db/sweep.h"

#include <stdlib.h>

#include "lsm/db/keep.h"

bool sdb_sweep_concerns(const struct sdb_table_file *file, const struct sdb_range *range)
{
    return file->min_revision < range->revision && file->swept_revision < range->revision &&
           sdb_range_overlaps(range, file->smallest, file->largest);
}

size_t sdb_sweep_find(const struct sdb_version *version, unsigned level, size_t at,
                      const struct sdb_range *range)
{
    const struct sdb_level *tables = &version->levels[level];
    if (level != 0 && at == 0 && tables->count != 0)
        at = sdb_level_find(tables, range->start);
    for (; at < tables->count; at++) {
        const struct sdb_table_file *file = tables->files[at];
        if (sdb_sweep_concerns(file, range))
            return at;
        bool is_behind =
            level != 0 && range->end.size != 0 && sdb_key_compare(file->smallest, range->end) >= 0;
        if (is_behind)
            break;
    }
    return tables->count;
}

uint64_t sdb_sweep_reach(const struct sdb_ranges *ranges, const uint64_t *snapshots, size_t count)
{
    uint64_t newest = ranges == NULL ? 0 : ranges->newest;
    return count != 0 && snapshots[0] < newest ? snapshots[0] : newest;
}

bool sdb_sweep_is_dead(const struct sdb_ranges *ranges, const struct sdb_table_file *file,
                       const uint64_t *snapshots, size_t count)
{
    uint64_t end = sdb_ranges_cover(ranges, file->smallest, file->largest, file->max_revision);
    return end != 0 && !sdb_keep_is_seen(snapshots, count, file->min_revision, end);
}

static bool is_needed(const struct sdb_version *version, const struct sdb_range *range)
{
    for (unsigned l = 0; l < STORM_MAX_LEVELS; l++) {
        if (sdb_sweep_find(version, l, 0, range) < version->levels[l].count)
            return true;
    }
    return false;
}

/* Both lists are in order: walk them side by side. */
static storm_status find_diff(const struct sdb_ranges *before, const struct sdb_ranges *after,
                              struct sdb_sweep_diff *diff)
{
    size_t old_count = sdb_ranges_count(before);
    size_t new_count = sdb_ranges_count(after);
    diff->added = malloc((new_count + 1) * sizeof *diff->added);
    diff->removed = malloc((old_count + 1) * sizeof *diff->removed);
    if (diff->added == NULL || diff->removed == NULL) {
        sdb_sweep_diff_fini(diff);
        return STORM_NO_MEMORY;
    }
    size_t o = 0;
    size_t n = 0;
    while (o < old_count || n < new_count) {
        int order = o == old_count   ? 1
                    : n == new_count ? -1
                                     : sdb_range_compare(&before->list[o], &after->list[n]);
        if (order < 0)
            diff->removed[diff->removed_count++] = before->list[o];
        else if (order > 0)
            diff->added[diff->added_count++] = after->list[n];
        o += order <= 0;
        n += order >= 0;
    }
    return STORM_OK;
}

storm_status sdb_sweep_settle(const struct sdb_version *before, struct sdb_version *after,
                              const uint64_t *seen, size_t seen_count, struct sdb_sweep_diff *diff)
{
    *diff = (struct sdb_sweep_diff){0};
    size_t count = sdb_ranges_count(after->ranges);
    if (count == 0)
        return find_diff(before->ranges, NULL, diff);
    struct sdb_range *needed = malloc(count * sizeof *needed);
    struct sdb_ranges *left = NULL;
    size_t needed_count = 0;
    if (needed == NULL)
        return STORM_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        if (is_needed(after, &after->ranges->list[i]))
            needed[needed_count++] = after->ranges->list[i];
    }
    storm_status status = sdb_ranges_create(NULL, 0, needed, needed_count, seen, seen_count, &left);
    free(needed);
    if (status == STORM_OK)
        status = find_diff(before->ranges, left, diff);
    if (status != STORM_OK) {
        sdb_ranges_unref(left);
        return status;
    }
    sdb_ranges_unref(after->ranges);
    after->ranges = left;
    return STORM_OK;
}

void sdb_sweep_diff_fini(struct sdb_sweep_diff *diff)
{
    free(diff->added);
    free(diff->removed);
    *diff = (struct sdb_sweep_diff){0};
}
