/*
 * The files of a store's directory:
 *
 *   LOCK                  held by the process that has the store open
 *   CURRENT               one line: the name of the manifest that counts
 *   CURRENT.tmp           its next version, until it is renamed
 *   MANIFEST-NNNNNNNNNN   which tables and logs make up the store (manifest.h)
 *   NNNNNNNNNN.sst        tables (table/table.h)
 *   NNNNNNNNNN.log        log segments (wal/wal.h)
 *   NNNNNNNNNN.spare      flushed segments, to be used again
 *
 * Numbers come from one counter for all kinds. Files by other names are somebody else's and stay.
 */
#ifndef SDB_LSM_DB_NAMES_H
#define SDB_LSM_DB_NAMES_H

#include "storm/storm.h"

enum { SDB_NAME_MAX = 32 };

enum sdb_file_kind {
    SDB_FILE_FOREIGN,
    SDB_FILE_MANIFEST,
    SDB_FILE_TABLE,
    SDB_FILE_LOG,
    SDB_FILE_SPARE,
    SDB_FILE_TEMP
};

#define SDB_CURRENT      "CURRENT"
#define SDB_CURRENT_TEMP "CURRENT.tmp"
#define SDB_LOCK         "LOCK"

/* Write the name for `number` into `name` (SDB_NAME_MAX bytes). */
void sdb_table_name(char *name, uint64_t number);
void sdb_manifest_name(char *name, uint64_t number);

/* What kind of file a name is of, and its number (0 without one). */
enum sdb_file_kind sdb_name_parse(const char *name, uint64_t *number);

/* "dir/name" in fresh memory; NULL when out of memory. */
char *sdb_path(const char *dir, const char *name);

/* The directory that holds `path`, in fresh memory; NULL when out of memory. */
char *sdb_parent_path(const char *path);

/* `line` without "dir/" at its beginning, where it has that. */
const char *sdb_name_within(const char *dir, const char *line);

#endif
