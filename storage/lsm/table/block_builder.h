/*
 * Builds the contents of one data block after another (format.h draws them). One thread.
 */
#ifndef SDB_LSM_TABLE_BLOCK_BUILDER_H
#define SDB_LSM_TABLE_BLOCK_BUILDER_H

#include "lsm/entry.h"
#include "util/buffer.h"

struct sdb_block_builder {
    struct sdb_buffer out;      /* entries; after finish all of it */
    struct sdb_buffer restarts; /* u32 each */
    struct sdb_buffer last_key;
    uint64_t last_revision;
    uint32_t entries;
    uint32_t interval;
    uint32_t since_restart;
};

/* `interval` entries from one restart to the next, 1 to SDB_RESTART_MAX. */
void sdb_block_builder_init(struct sdb_block_builder *builder, uint32_t interval);
void sdb_block_builder_fini(struct sdb_block_builder *builder);
void sdb_block_builder_clear(struct sdb_block_builder *builder);

/* Entries come in strictly increasing order: the caller's duty. Key at most SDB_TABLE_KEY_MAX
 * bytes. STORM_NO_MEMORY; STORM_TOO_LARGE beyond SDB_TABLE_BLOCK_MAX. */
storm_status sdb_block_builder_add(struct sdb_block_builder *builder, struct storm_slice key,
                                   uint64_t tag, struct storm_slice value);

/* Bytes that finish would give now. */
size_t sdb_block_builder_size(const struct sdb_block_builder *builder);

/* The whole block, borrowed until clear; nothing may be added. NULL data when out of memory. */
struct storm_slice sdb_block_builder_finish(struct sdb_block_builder *builder);

/* Leading bytes that a and b have in common. */
size_t sdb_shared_prefix(struct storm_slice a, struct storm_slice b);

#endif
