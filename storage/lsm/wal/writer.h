/*
 * The writer's beginning, between recover.c, which knows where the log ends, and writer.c.
 * Internal to the log.
 */
#ifndef SDB_LSM_WAL_WRITER_H
#define SDB_LSM_WAL_WRITER_H

#include "lsm/wal/segment.h"

/* A live segment. */
struct sdb_wal_live {
    uint64_t number;
    uint64_t size;    /* of the file */
    uint64_t records; /* bytes of records in it */
};

/* Where to go on. */
struct sdb_wal_resume {
    const struct sdb_wal_live *live; /* ascending, the last is the one to append to; may be none */
    size_t live_count;
    uint64_t last_revision; /* 0 = unknown */
};

/*
 * A writer that goes on behind the live segments' records, or in a new segment when there are none.
 * The last segment and the directory are synced first: what was replayed is durable after this.
 */
storm_status sdb_wal_writer_create(const struct sdb_wal_options *options,
                                   uint64_t (*next_number)(void *ctx), void *number_ctx,
                                   const struct sdb_wal_resume *resume, struct sdb_wal **wal);

#endif
