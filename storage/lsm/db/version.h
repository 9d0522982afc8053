/*
 * A version: which tables make up the store, level by level. Immutable and reference counted; a new
 * one is made from an old one and an edit. Level 0 holds flushed tables, newest first, which may
 * overlap; deeper levels are sorted by key and do not.
 *
 * A table's struct sdb_table_file is shared by all versions that hold it. When the last one lets go
 * the file is garbage: it is handed to the `garbage` list, which a background thread empties (a
 * reader that drops the last reference must not wait for unlink).
 *
 * Threads: references are atomic; making versions is serialised by the db's manifest turn.
 */
#ifndef SDB_LSM_DB_VERSION_H
#define SDB_LSM_DB_VERSION_H

#include <pthread.h>
#include <stdatomic.h>

#include "lsm/db/guide.h"
#include "lsm/db/ranges.h"
#include "lsm/table/table.h"

/*
 * One table of the store. Const once it is part of a version, but for the atomics, next_garbage
 * and what belongs to the compaction thread.
 *
 * A table that moves to another level without being rewritten gets a second description, which
 * shares the open table with the first and holds a reference to it (moved_from).
 */
struct sdb_table_file {
    _Atomic uint32_t refs;
    uint64_t number;
    uint64_t size;
    unsigned level;
    uint64_t entries;
    uint64_t deletes;
    uint64_t min_revision;
    uint64_t max_revision;
    /* Range deletes up to it have been applied: what they hide is not in here any more
     * (sweep.h). */
    uint64_t swept_revision;
    /* From the table's properties, so known only while it is readable; 0 otherwise. */
    uint64_t keys;     /* distinct ones: entries - keys are older versions, kept for snapshots */
    uint64_t stale_ms; /* from then on a fifth of it has expired; 0 = never */
    uint32_t codec;
    /* Snapshots between its revisions when it was written; of an earlier process: UINT32_MAX. */
    uint32_t snapshots;
    bool is_quarantined;         /* compaction thread: damaged, so never an input again */
    struct storm_slice smallest; /* user keys, owned; both inclusive */
    struct storm_slice largest;
    struct sdb_table *table; /* NULL: damaged, see open_status */
    storm_status open_status;
    struct sdb_garbage *garbage; /* where to go when the last reference is dropped */
    struct sdb_table_file *next_garbage;
    struct sdb_table_file *moved_from; /* owns `table`; NULL = this one does */
    _Atomic bool is_deleted;           /* no longer part of the store: its file may be removed */
};

/* Tables whose last reference is gone. */
struct sdb_garbage {
    pthread_mutex_t mu;
    struct sdb_table_file *head; /* mu */
    struct sdb_account
        *account; /* const: the descriptions of tables are counted there; may be NULL */
};

struct sdb_level {
    size_t count;
    struct sdb_table_file **files;
    uint64_t bytes;
    struct sdb_guide *guide; /* of a version's own level unless it is empty; NULL otherwise */
};

struct sdb_version {
    _Atomic uint32_t refs;
    struct sdb_level levels[STORM_MAX_LEVELS];
    struct sdb_ranges *ranges; /* range deletes that some table still needs; NULL = none */
};

/* A change to the store's state, as the manifest records it. Slices and files are borrowed. */
struct sdb_edit {
    bool has_log_number; /* replay begins at this segment */
    uint64_t log_number;
    uint64_t newest_log;       /* and this one exists */
    bool has_flushed_revision; /* all revisions up to it are in tables */
    uint64_t flushed_revision;
    struct sdb_table_file **added; /* with their level */
    size_t added_count;
    struct sdb_table_file **removed;
    size_t removed_count;
    bool is_move; /* what is removed is added again at another level: its file stays */
    const struct sdb_range *ranges_added;
    size_t ranges_added_count;
    const struct sdb_range *ranges_removed;
    size_t ranges_removed_count;
};

/* A file description with one reference, keys copied, table not open; NULL when out of memory. */
struct sdb_table_file *sdb_table_file_create(uint64_t number, uint64_t size, unsigned level,
                                             struct storm_slice smallest,
                                             struct storm_slice largest,
                                             struct sdb_garbage *garbage);
struct sdb_table_file *sdb_table_file_ref(struct sdb_table_file *file);
void sdb_table_file_unref(struct sdb_table_file *file); /* NULL is ignored */

/* Close the table and free the description of one that has no reference any more. */
void sdb_table_file_destroy(struct sdb_table_file *file);

/* Take over what the open table `file->table` says of itself. */
void sdb_table_file_adopt(struct sdb_table_file *file);

/* A second description of the same table for `level`, with one reference; NULL when out of
 * memory. */
struct sdb_table_file *sdb_table_file_move(struct sdb_table_file *file, unsigned level);

/* An empty version with one reference; NULL when out of memory. */
struct sdb_version *sdb_version_create(void);

/* `base` with the edit applied; NULL when out of memory. */
struct sdb_version *sdb_version_apply(const struct sdb_version *base, const struct sdb_edit *edit);

struct sdb_version *sdb_version_ref(struct sdb_version *version);
void sdb_version_unref(struct sdb_version *version); /* NULL is ignored */

/* In a sorted level (1 and deeper): index of the first file whose largest key is >= key. */
size_t sdb_level_find(const struct sdb_level *level, struct storm_slice key);

/* Whether `key` lies within the file's bounds. */
static inline bool sdb_table_file_covers(const struct sdb_table_file *file, struct storm_slice key)
{
    return sdb_key_compare(key, file->smallest) >= 0 && sdb_key_compare(key, file->largest) <= 0;
}

uint64_t sdb_version_file_count(const struct sdb_version *version);

#endif
