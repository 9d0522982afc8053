/*
 * The writer's beginning, between recover.c, which knows where the log ends, and writer.c.
 * Internal to the log.
 */
#ifndef SDB_LSM_WAL_WRITER_H
#define SDB_LSM_WAL_WRITER_H

#include "lsm/wal/history.h"

/* Where to go on. */
struct sdb_wal_resume {
    struct sdb_wal_history *history; /* the writer's from here on, whatever comes of it */
    uint64_t live_bytes;             /* of records in live segments */
    uint64_t last_revision;          /* in the log; 0 = unknown */
};

/*
 * A writer that goes on behind the records of the history's last segment, or in a new segment when
 * there is none, or when tables have revisions that the log has lost: history must not run on over
 * a gap. The last segment and the directory are synced first: what was replayed is durable after
 * this.
 */
storm_status sdb_wal_writer_create(const struct sdb_wal_options *options,
                                   uint64_t (*next_number)(void *ctx), void *number_ctx,
                                   const struct sdb_wal_resume *resume, struct sdb_wal **wal);

#endif
