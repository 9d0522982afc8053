/*
 * One compaction job: the tables of a pick (picker.h) merged into new ones, or moved, or dropped.
 *
 * The compaction thread alone runs jobs, one at a time; mu is not held.
 */
#ifndef SDB_LSM_DB_COMPACTION_H
#define SDB_LSM_DB_COMPACTION_H

#include "lsm/db/output.h"
#include "lsm/db/picker.h"

struct sdb_compaction {
    struct sdb_lsm *db;
    struct sdb_version *version; /* one reference: what the pick points into */
    struct sdb_pick pick;
    uint64_t *snapshots; /* ascending; owned */
    size_t snapshot_count;

    /* Called while it runs, with how many of its input bytes are read; may end it. NULL = nobody
     * asks. */
    storm_status (*progress)(void *ctx, uint64_t done_bytes);
    void *progress_ctx;

    /* Results. */
    uint64_t input_bytes;
    uint64_t output_bytes;
    size_t output_tables;
    bool has_quarantined; /* it failed, and an input was the cause: that one is not picked again */

    uint64_t entries_read, entries_total;
};

/*
 * Run it. STORM_CLOSED when the store is closing or broken, the progress function's status when
 * that ended it; otherwise whatever failed. After a failure nothing has changed but is_quarantined
 * of damaged inputs.
 */
storm_status sdb_compaction_run(struct sdb_compaction *job);

void sdb_compaction_fini(struct sdb_compaction *job);

#endif
