/*
 * The life of a range delete once it has been flushed.
 *
 *   committed   in the set of the memtable that was active (range_write.h), and in the log
 *   flushed     with that memtable it goes into the version and the manifest; tables stay as they
 *               are. From then on the picker lets go of tables that lie wholly within it, and has
 *               the others rewritten; a rewrite drops what it hides (keep.h)
 *   gone        it leaves the version with the edit after which no table needs it any more
 *
 * A table needs a range delete if it lies across it, holds revisions below its own, and has not
 * been swept of it: a rewrite leaves its outputs swept up to the newest range delete of its
 * version, but not past the oldest snapshot, for which something hidden may have been kept.
 * Memtables need none that has been flushed: whatever is below it was flushed before it or with it.
 */
#ifndef SDB_LSM_DB_SWEEP_H
#define SDB_LSM_DB_SWEEP_H

#include "lsm/db/version.h"

/* Whether the table may hold versions that the range delete hides. */
bool sdb_sweep_concerns(const struct sdb_table_file *file, const struct sdb_range *range);

/* The first table of `level` at or behind index `at` that the range delete concerns; count:
 * none. */
size_t sdb_sweep_find(const struct sdb_version *version, unsigned level, size_t at,
                      const struct sdb_range *range);

/* Up to where a rewrite that applies `ranges` sweeps, with these snapshots (ascending) to keep. */
uint64_t sdb_sweep_reach(const struct sdb_ranges *ranges, const uint64_t *snapshots, size_t count);

/* Whether nobody can see anything of the table: it may go as it is. */
bool sdb_sweep_is_dead(const struct sdb_ranges *ranges, const struct sdb_table_file *file,
                       const uint64_t *snapshots, size_t count);

/* What an edit does to the range deletes in force. Arrays owned, slices borrowed from the
 * versions. */
struct sdb_sweep_diff {
    struct sdb_range *added, *removed;
    size_t added_count, removed_count;
};

/*
 * Take out of `after`, a version that nobody else has yet, the range deletes that none of its
 * tables needs and those that nobody can tell from newer ones (`seen` as for sdb_ranges_create),
 * and say how what is left differs from `before`. STORM_NO_MEMORY leaves *diff empty.
 */
storm_status sdb_sweep_settle(const struct sdb_version *before, struct sdb_version *after,
                              const uint64_t *seen, size_t seen_count, struct sdb_sweep_diff *diff);
void sdb_sweep_diff_fini(struct sdb_sweep_diff *diff);

#endif
