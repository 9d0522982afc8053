/*
 * An open table, as the modules that read it see it (reader.c, source.c, verify.c).
 */
#ifndef SDB_LSM_TABLE_READER_H
#define SDB_LSM_TABLE_READER_H

#include "lsm/table/block.h"
#include "lsm/table/filter.h"
#include "lsm/table/index.h"
#include "lsm/table/mapping.h"
#include "lsm/table/table.h"

/* What is read around the first block wanted there: as much as a disk delivers in about the time
 * that it takes to find it, and what the kernel reads around a page fault. */
#define SDB_READ_WINDOW ((uint64_t)128 << 10)

/* All const after open (and sdb_table_map) but the bits. */
struct sdb_table {
    struct sdb_os *os;
    struct sdb_file *file;
    struct sdb_mapping *mapping; /* has taken the file over; NULL = not mapped */
    char *path;
    uint64_t number;
    uint64_t size;
    struct sdb_cache *cache;
    uint64_t cache_id;
    struct sdb_table_props props;
    struct sdb_index index;
    struct sdb_filter filter;
    uint8_t *filter_memory; /* aligned to a line */
    size_t filter_room;
    _Atomic uint64_t *windows; /* a bit for each that has been read, or will be soon */
    size_t memory;             /* counted in the cache's account; 0 until the open has succeeded */
};

/* Where a data block is; `block` is below index.count. */
static inline struct sdb_handle sdb_table_handle(const struct sdb_table *table, uint32_t block)
{
    const struct sdb_index_slot *slot = &table->index.slots[block];
    return (struct sdb_handle){slot->offset, slot->size};
}

/* Read, verify and decode one block from the file. A block that does not verify is read once more,
 * for the fault may have been on the way. Records its failures. */
storm_status sdb_table_load(const struct sdb_table *table, struct sdb_handle handle,
                            struct sdb_block **block);

/* The contents of a data block, by the shortest way: the mapping, the cache, the file. A reference
 * to what pins them is the caller's. */
storm_status sdb_table_block(const struct sdb_table *table, uint32_t index, bool fill_cache,
                             struct storm_slice *contents, struct sdb_block **pin);

/* Whether stored bytes (contents and trailer) are those of the block at `handle`. */
bool sdb_table_verifies(const struct sdb_table *table, struct sdb_handle handle,
                        const uint8_t *stored);

/* Decode verified bytes of a codec other than none into a new block. Records. */
storm_status sdb_table_decode(const struct sdb_table *table, struct sdb_handle handle,
                              const uint8_t *stored, struct sdb_block **block);

/* Check the tail of a data block; records under the block's place. */
storm_status sdb_table_parse(const struct sdb_table *table, uint64_t offset,
                             struct storm_slice contents, struct sdb_block_view *view);

/* Record what a block's reader found (STORM_CORRUPT or STORM_NO_MEMORY) and return it. */
storm_status sdb_table_fail(const struct sdb_table *table, uint64_t offset, storm_status status);

#endif
