/*
 * Which versions a rewrite of entries keeps: a version is dropped when a newer one of the same key
 * hides it from everybody, that is, when no snapshot lies between the two. Fed in order (key, then
 * newest first) by flush and compaction.
 */
#ifndef SDB_LSM_DB_KEEP_H
#define SDB_LSM_DB_KEEP_H

#include "lsm/entry.h"
#include "util/buffer.h"

struct sdb_keep {
    const uint64_t *snapshots; /* ascending; borrowed */
    size_t snapshot_count;
    struct sdb_buffer key;   /* of the last entry; empty before the first */
    uint64_t newer_revision; /* of the last entry */
};

void sdb_keep_init(struct sdb_keep *keep, const uint64_t *snapshots, size_t snapshot_count);
void sdb_keep_fini(struct sdb_keep *keep);

/* Decide about the next entry: *kept. STORM_NO_MEMORY when the key cannot be remembered. */
storm_status sdb_keep_next(struct sdb_keep *keep, struct storm_slice key, uint64_t tag, bool *kept);

/* Whether a snapshot sees revision `older` of a key whose next version is `newer`. */
bool sdb_keep_is_seen(const uint64_t *snapshots, size_t count, uint64_t older, uint64_t newer);

#endif
