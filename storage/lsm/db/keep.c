/* Which versions survive a rewrite; the rule is in keep.h. */
#include "lsm/db/keep.h"

void sdb_keep_init(struct sdb_keep *keep, const uint64_t *snapshots, size_t snapshot_count)
{
    keep->snapshots = snapshots;
    keep->snapshot_count = snapshot_count;
    keep->newer_revision = 0;
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

storm_status sdb_keep_next(struct sdb_keep *keep, struct storm_slice key, uint64_t tag, bool *kept)
{
    uint64_t revision = sdb_tag_revision(tag);
    if (sdb_key_compare(key, sdb_buffer_slice(&keep->key)) == 0) {
        *kept =
            sdb_keep_is_seen(keep->snapshots, keep->snapshot_count, revision, keep->newer_revision);
    } else {
        *kept = true;
        sdb_buffer_clear(&keep->key);
        if (!sdb_buffer_add(&keep->key, key.data, key.size))
            return keep->key.status;
    }
    keep->newer_revision = revision;
    return STORM_OK;
}
