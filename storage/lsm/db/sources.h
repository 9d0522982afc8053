/*
 * Sources made of sources: a level's tables one after the other, and a merge of several runs. Both
 * are struct sdb_source (lsm/entry.h) and go both ways.
 */
#ifndef SDB_LSM_DB_SOURCES_H
#define SDB_LSM_DB_SOURCES_H

#include "lsm/db/version.h"

/*
 * The tables of a sorted level, opened one at a time as the source gets to them. The version is
 * borrowed and outlives the source. NULL when out of memory.
 */
struct sdb_source *sdb_level_source(const struct sdb_level *level, bool fill_cache,
                                    size_t readahead);

/* One table; a source that fails with the table's status when it is damaged. */
struct sdb_source *sdb_table_file_source(const struct sdb_table_file *file, bool fill_cache,
                                         size_t readahead);

/*
 * The entries of all `sources` in order, which it owns from the call on, also when it returns NULL
 * for want of memory: its own, or that of a source, which is NULL in the list then. Equal (key,
 * tag) pairs come once from each; the earlier source first.
 */
struct sdb_source *sdb_merge_source(struct sdb_source **sources, size_t count);

#endif
