/*
 * The sparse index of a table: one separator for each data block (format.h draws it).
 */
#ifndef SDB_LSM_TABLE_INDEX_H
#define SDB_LSM_TABLE_INDEX_H

#include "lsm/entry.h"
#include "lsm/table/format.h"
#include "lsm/table/prefix.h"
#include "util/buffer.h"

/* ---- Building: one thread ---- */

struct sdb_index_builder {
    struct sdb_buffer out;
    struct sdb_buffer last;      /* separator before */
    struct sdb_buffer separator; /* scratch */
};

void sdb_index_builder_init(struct sdb_index_builder *builder);
void sdb_index_builder_fini(struct sdb_index_builder *builder);

/* Add the block of `size` stored bytes that ends in (last, tag); `next` is the key that begins the
 * block after it, with data NULL when there is none. */
storm_status sdb_index_builder_add(struct sdb_index_builder *builder, struct storm_slice last,
                                   uint64_t tag, struct storm_slice next, uint32_t size);

/* Put the shortest key s with a <= s < b into `out`; a < b. A failure sticks in `out`. */
void sdb_shortest_separator(struct storm_slice a, struct storm_slice b, struct sdb_buffer *out);

/* ---- In memory: any thread ---- */

struct sdb_index_slot {
    uint64_t offset; /* of the block */
    uint64_t tag;
    uint64_t key_at; /* in keys */
    uint32_t size;   /* of the block, without the trailer */
    uint32_t key_size;
};

struct sdb_index {
    uint32_t count;
    size_t common; /* leading bytes that all separators share: not in the prefixes */
    struct sdb_key_prefix *prefixes; /* owns the one allocation of all three arrays */
    struct sdb_index_slot *slots;
    uint8_t *keys;
    size_t memory; /* of the allocation */
};

/* Decode index contents. STORM_CORRUPT, STORM_NO_MEMORY. */
storm_status sdb_index_parse(struct storm_slice contents, struct sdb_index *index);
void sdb_index_fini(struct sdb_index *index);

/* The only block that can hold the first entry at or after (key, tag), or begins behind where it
 * would be; index->count when all are before it. */
uint32_t sdb_index_find(const struct sdb_index *index, struct storm_slice key, uint64_t tag);

static inline struct storm_slice sdb_index_key(const struct sdb_index *index, uint32_t block)
{
    const struct sdb_index_slot *slot = &index->slots[block];
    return storm_bytes(index->keys + slot->key_at, slot->key_size);
}

/* Where the data blocks end. */
static inline uint64_t sdb_index_data_end(const struct sdb_index *index)
{
    if (index->count == 0)
        return 0;
    const struct sdb_index_slot *slot = &index->slots[index->count - 1];
    return slot->offset + slot->size + SDB_TRAILER_SIZE;
}

#endif
