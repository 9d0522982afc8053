/*
 * The range of keys that an iterator may show: start, end and prefix of its options, made one.
 *
 * The keys with a prefix are those from the prefix itself up to, not including, its successor: the
 * last byte that is not 0xff raised by one, and what follows it cut off. A prefix of nothing but
 * 0xff has no successor, and needs none: no key without it comes behind the keys with it.
 */
#ifndef SDB_LSM_DB_BOUNDS_H
#define SDB_LSM_DB_BOUNDS_H

#include "lsm/entry.h"
#include "util/buffer.h"

struct sdb_bounds {
    struct sdb_buffer start; /* inclusive; empty = none */
    struct sdb_buffer end;   /* exclusive; empty = none */
};

/* Copies what it needs. To be finished also after STORM_NO_MEMORY. An empty range is legal. */
storm_status sdb_bounds_init(struct sdb_bounds *bounds, const struct storm_iter_options *options);
void sdb_bounds_fini(struct sdb_bounds *bounds);

/* Whether `key` comes before the range. */
static inline bool sdb_bounds_is_before(const struct sdb_bounds *bounds, struct storm_slice key)
{
    return bounds->start.size != 0 && sdb_key_compare(key, sdb_buffer_slice(&bounds->start)) < 0;
}

/* Whether `key` comes behind the range. */
static inline bool sdb_bounds_is_behind(const struct sdb_bounds *bounds, struct storm_slice key)
{
    return bounds->end.size != 0 && sdb_key_compare(key, sdb_buffer_slice(&bounds->end)) >= 0;
}

#endif
