/*
 * The properties block: | varint tag | varint size | varint value | for each property, tags below.
 * A reader skips tags that it does not know, and a property that is not there reads as 0; so later
 * releases may add some without a new format version.
 */
#ifndef SDB_LSM_TABLE_PROPS_H
#define SDB_LSM_TABLE_PROPS_H

#include "lsm/table/table.h"
#include "util/buffer.h"

enum sdb_prop {
    SDB_PROP_ENTRIES = 1,
    SDB_PROP_DELETES = 2,
    SDB_PROP_KEYS = 3,
    SDB_PROP_RAW_BYTES = 4,
    SDB_PROP_DATA_BYTES = 5,
    SDB_PROP_DATA_BLOCKS = 6,
    SDB_PROP_MIN_REVISION = 7,
    SDB_PROP_MAX_REVISION = 8,
    SDB_PROP_CREATED_MS = 9,
    SDB_PROP_CODEC = 10,
    SDB_PROP_STALE_MS = 11,
};

/* Append; a failure sticks in `out`. */
void sdb_props_encode(const struct sdb_table_props *props, struct sdb_buffer *out);
/* STORM_CORRUPT. */
storm_status sdb_props_parse(struct storm_slice contents, struct sdb_table_props *props);

#endif
