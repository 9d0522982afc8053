/*
 * Where in a level a key may be, told without touching the files.
 *
 * A lookup that went through file descriptions would wait for the memory of several of them, and of
 * their tables, for each level. A guide has side by side what it wants to know of all files of a
 * level: sixteen bytes of their bounds (behind what all bounds share) and where their filters are.
 * Only ties of sixteen bytes go to the whole keys.
 *
 * Immutable once the tables are open, part of a version's level, and so of no level that is only a
 * run of another's files.
 */
#ifndef SDB_LSM_DB_GUIDE_H
#define SDB_LSM_DB_GUIDE_H

#include "lsm/entry.h"
#include "lsm/table/filter.h"
#include "lsm/table/prefix.h"

struct sdb_table_file;

struct sdb_guide_bounds {
    struct sdb_key_prefix smallest, largest;
};

struct sdb_guide {
    size_t count;
    struct sdb_table_file *const *files; /* the level's own */
    size_t common;                       /* leading bytes that all bounds share: in no prefix */
    const uint8_t *head;                 /* they themselves */
    struct sdb_guide_bounds *bounds;
    struct sdb_filter *filters; /* without lines: none, or the table is damaged or not open yet */
};

/* A guide to `count` files, at least one, whose order and bounds stay as they are. The array is
 * borrowed. NULL when out of memory. */
struct sdb_guide *sdb_guide_create(struct sdb_table_file *const *files, size_t count);
void sdb_guide_destroy(struct sdb_guide *guide); /* NULL is ignored */

/* Take the filters of tables that have been opened since. Before anyone else uses the guide. */
void sdb_guide_update(struct sdb_guide *guide);

/* In a sorted level: the one file that may hold `key`; `count` if none does. */
size_t sdb_guide_find(const struct sdb_guide *guide, struct storm_slice key);

/* In any level: the first file from `from` on whose bounds enclose `key`; `count` if none does. */
size_t sdb_guide_next(const struct sdb_guide *guide, size_t from, struct storm_slice key);

#endif
