/*
 * Sixteen bytes of a key as a number of two words, zeroes behind a shorter one: what binary
 * searches compare before they look at whole keys. Different prefixes are ordered as the keys are;
 * equal ones say nothing.
 */
#ifndef SDB_LSM_TABLE_PREFIX_H
#define SDB_LSM_TABLE_PREFIX_H

#include "storm/storm.h"
#include "util/coding.h"

struct sdb_key_prefix {
    uint64_t high, low;
};

static inline uint64_t sdb_get_big_u64(const uint8_t *from)
{
    return __builtin_bswap64(sdb_get_u64(from));
}

/*
 * Eight bytes of a key from `from` on as a number. Near the end the last eight bytes are loaded and
 * the first of them shifted out: copying the few that are left would cost more than a search.
 */
static inline uint64_t sdb_key_word(struct storm_slice key, size_t from)
{
    if (from >= key.size)
        return 0;
    size_t left = key.size - from;
    if (left >= 8)
        return sdb_get_big_u64(key.data + from);
    if (key.size >= 8)
        return sdb_get_big_u64(key.data + key.size - 8) << (8 - left) * 8;
    uint64_t word = 0;
    for (size_t i = 0; i < left; i++)
        word |= (uint64_t)key.data[from + i] << (56 - 8 * i);
    return word;
}

/* Of the key's bytes from `from` on. */
static inline struct sdb_key_prefix sdb_key_prefix(struct storm_slice key, size_t from)
{
    return (struct sdb_key_prefix){sdb_key_word(key, from), sdb_key_word(key, from + 8)};
}

/* Without a branch. */
static inline bool sdb_key_prefix_is_less(struct sdb_key_prefix a, struct sdb_key_prefix b)
{
    return (a.high < b.high) | ((a.high == b.high) & (a.low < b.low));
}

/* Below 0, 0 or above it. */
static inline int sdb_key_prefix_compare(struct sdb_key_prefix a, struct sdb_key_prefix b)
{
    if (a.high != b.high)
        return a.high < b.high ? -1 : 1;
    return a.low < b.low ? -1 : a.low > b.low;
}

#endif
