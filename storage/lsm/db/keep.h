/*
 * Which versions a rewrite of entries keeps. Flush and compaction feed entries in order (key, then
 * newest first) and write what comes back.
 *
 *   hidden     a version goes when a newer one of the same key hides it from everybody, that is, when no
 *              snapshot lies between the two;
 *   deleted    likewise one that a range delete hides;
 *   expired    a put whose time is over reads as absent from now on at every revision, so it is a
 *              delete in all but name and becomes one: it goes on hiding what is older;
 *   deletes    a delete goes when it has nothing left to hide: no table below the output may hold its
 *              key, and no older version of it is kept here (a snapshot may need one). Which of the two it
 *              is shows only at the next entry, so such a delete waits (`waiting`) until then.
 *
 * Of several deletes in a row of one key the oldest is enough.
 */
#ifndef SDB_LSM_DB_KEEP_H
#define SDB_LSM_DB_KEEP_H

#include "lsm/db/version.h"
#include "util/buffer.h"

struct sdb_keep {
    const uint64_t *snapshots; /* ascending; borrowed */
    size_t snapshot_count;
    uint64_t now_ms;
    /* Tables of this version from level `below` on may hold older versions; borrowed. */
    const struct sdb_version *version;
    unsigned below;
    const struct sdb_ranges *ranges; /* borrowed; NULL after init */
    size_t at
        [STORM_MAX_LEVELS]; /* in each sorted level: the first table that does not end before the key */

    struct sdb_buffer key;   /* of the last entry; empty before the first */
    uint64_t newer_revision; /* of the last entry */
    bool is_waiting;         /* a delete of `key` that goes unless an older version is kept */
    uint64_t waiting_tag;
};

/* What to write for an entry: nothing, or up to two entries of its key in this order. */
struct sdb_kept {
    bool has_delete; /* one that has waited */
    uint64_t delete_tag;
    bool has_entry; /* the entry itself, under this tag; as a delete it has no value */
    uint64_t tag;
};

void sdb_keep_init(struct sdb_keep *keep, const uint64_t *snapshots, size_t snapshot_count,
                   uint64_t now_ms, const struct sdb_version *version, unsigned below);
void sdb_keep_fini(struct sdb_keep *keep);

/* Decide about the next entry. STORM_NO_MEMORY when the key cannot be remembered. */
storm_status sdb_keep_next(struct sdb_keep *keep, struct storm_slice key, uint64_t tag,
                           struct storm_slice value, struct sdb_kept *kept);

/* Whether a snapshot sees revision `older` of a key whose next version is `newer`. */
bool sdb_keep_is_seen(const uint64_t *snapshots, size_t count, uint64_t older, uint64_t newer);

#endif
