/* Which versions survive a rewrite; the rules are in keep.h. */
#include "lsm/db/keep.h"

#include "lsm/db/value.h"

void sdb_keep_init(struct sdb_keep *keep, const uint64_t *snapshots, size_t snapshot_count,
                   uint64_t now_ms, const struct sdb_version *version, unsigned below)
{
    *keep = (struct sdb_keep){
        .snapshots = snapshots,
        .snapshot_count = snapshot_count,
        .now_ms = now_ms,
        .version = version,
        .below = below,
    };
    sdb_buffer_init(&keep->key, 1 << 16);
}

void sdb_keep_fini(struct sdb_keep *keep)
{
    sdb_buffer_fini(&keep->key);
}

bool sdb_keep_is_seen(const uint64_t *snapshots, size_t count, uint64_t older, uint64_t newer)
{
    /* The first snapshot at or after `older`: does it come before `newer`? */
    size_t low = 0;
    size_t high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (snapshots[middle] < older)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && snapshots[low] < newer;
}

/* Whether a table below the output may hold the key. Keys come in order, so `at` only moves on. */
static bool may_hide(struct sdb_keep *keep, struct storm_slice key)
{
    for (unsigned l = keep->below; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &keep->version->levels[l];
        if (l == 0) {
            for (size_t i = 0; i < level->count; i++) {
                if (sdb_table_file_covers(level->files[i], key))
                    return true;
            }
            continue;
        }
        size_t *at = &keep->at[l];
        while (*at < level->count && sdb_key_compare(level->files[*at]->largest, key) < 0)
            (*at)++;
        if (*at < level->count && sdb_key_compare(level->files[*at]->smallest, key) <= 0)
            return true;
    }
    return false;
}

storm_status sdb_keep_next(struct sdb_keep *keep, struct storm_slice key, uint64_t tag,
                           struct storm_slice value, struct sdb_kept *kept)
{
    uint64_t revision = sdb_tag_revision(tag);
    /* Until when it is visible; 0 = it still is. */
    uint64_t end = sdb_ranges_next(keep->ranges, key, revision);
    *kept = (struct sdb_kept){.tag = tag};
    if (sdb_key_compare(key, sdb_buffer_slice(&keep->key)) == 0) {
        if (end == 0 || keep->newer_revision < end)
            end = keep->newer_revision;
    } else {
        /* A delete that was waiting has met the end of its key: it hides nothing. */
        keep->is_waiting = false;
        sdb_buffer_clear(&keep->key);
        if (!sdb_buffer_add(&keep->key, key.data, key.size))
            return keep->key.status;
    }
    keep->newer_revision = revision;
    if (end != 0 && !sdb_keep_is_seen(keep->snapshots, keep->snapshot_count, revision, end))
        return STORM_OK;
    if (sdb_tag_kind(tag) == SDB_KIND_PUT && sdb_value_is_expired(value, keep->now_ms))
        kept->tag = sdb_tag(revision, SDB_KIND_DELETE);
    if (sdb_tag_kind(kept->tag) == SDB_KIND_DELETE && !may_hide(keep, key)) {
        keep->is_waiting = true;
        keep->waiting_tag = kept->tag;
        return STORM_OK;
    }
    kept->has_entry = true;
    kept->has_delete = keep->is_waiting;
    kept->delete_tag = keep->waiting_tag;
    keep->is_waiting = false;
    return STORM_OK;
}
