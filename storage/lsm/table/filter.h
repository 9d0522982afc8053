/*
 * The filter of a table: a Bloom filter in which all bits of a key fall in one 64-byte line, so
 * that a question costs one cache miss. Split in lines after Putze, Sanders and Singler, "Cache-,
 * Hash- and Space-Efficient Bloom Filters" (2007).
 */
#ifndef SDB_LSM_TABLE_FILTER_H
#define SDB_LSM_TABLE_FILTER_H

#include "lsm/table/format.h"
#include "storm/storm.h"
#include "util/buffer.h"

/* Hashes of the user keys of a table being built. One thread. */
struct sdb_filter_keys {
    uint64_t *hashes;
    size_t count;
    size_t room;
};

/* Add a key's hash; the same as the last one is not counted twice. False when out of memory. */
bool sdb_filter_keys_add(struct sdb_filter_keys *keys, uint64_t hash);
void sdb_filter_keys_fini(struct sdb_filter_keys *keys);

/* Append the contents of a filter block over `keys` (at least one) with `bits` a key, 1 to 64. */
storm_status sdb_filter_build(const struct sdb_filter_keys *keys, double bits,
                              struct sdb_buffer *out);

/* A filter in memory: borrows the contents, whose data should be aligned to 64 bytes. */
struct sdb_filter {
    const uint8_t *lines;
    uint32_t line_count; /* 0 = no filter: everything may be there */
    unsigned probes;
};

/* STORM_CORRUPT when the contents are no filter. One of a kind made by a later release is no
 * error: it is not used. */
storm_status sdb_filter_parse(struct storm_slice contents, struct sdb_filter *filter);

/* False: no key with this hash was added. Any thread. */
bool sdb_filter_may_contain(const struct sdb_filter *filter, uint64_t hash);

/* Where the line of a key begins among `line_count` lines. */
static inline size_t sdb_filter_line_at(uint64_t hash, uint32_t line_count)
{
    return (size_t)((hash >> 32) * line_count >> 32) * SDB_FILTER_LINE;
}

/* Ask for the line ahead of the question: of several filters all at once. */
static inline void sdb_filter_prefetch(const struct sdb_filter *filter, uint64_t hash)
{
    if (filter->line_count != 0)
        __builtin_prefetch(filter->lines + sdb_filter_line_at(hash, filter->line_count));
}

#endif
