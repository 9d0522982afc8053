/*
 * Writing tables out of sorted entries: what flush and compaction share.
 *
 *   begin -> add ... add -> finish -> (the edit becomes durable) -> end
 *
 * Tables are opened as they are needed and cut at a target size, never between versions of one
 * key, and rather where a table of the level below ends: a table that lies across few of those
 * makes for a small job later. After finish all tables and their names are durable and open for
 * reading, but no manifest knows them.
 *
 * One thread; mu is not held.
 */
#ifndef SDB_LSM_DB_OUTPUT_H
#define SDB_LSM_DB_OUTPUT_H

#include "lsm/db/db.h"
#include "lsm/db/keep.h"

/* 64 powers of two of remaining life in ms, each in quarters. */
enum { SDB_LIFE_BUCKETS = 256 };

struct sdb_output_plan {
    unsigned level;
    uint64_t table_bytes;         /* target; UINT64_MAX: one table whatever its size */
    const struct sdb_level *next; /* the level below; NULL: none */
    uint64_t overlap_max;         /* bytes of `next` that one table may lie across */
    const uint64_t *snapshots;    /* ascending; borrowed, as `next` is */
    size_t snapshot_count;
    uint64_t now_ms;
    uint64_t swept_revision; /* range deletes up to it are applied to what is added */
};

struct sdb_output {
    struct sdb_lsm *db;
    struct sdb_output_plan plan;
    struct sdb_table_options options;

    struct sdb_table_file **files; /* those that are finished, one reference each */
    size_t count, room;
    uint64_t bytes, entries;

    /* The table being written. */
    struct sdb_table_builder *builder; /* NULL: none */
    char *path;
    uint64_t number;
    struct sdb_buffer smallest, largest;
    size_t next_at;      /* first table of `next` that does not end before the last key */
    uint64_t next_bytes; /* of tables of `next` that this one has passed */
    uint64_t raw_bytes;  /* of entries added */
    uint64_t lives[SDB_LIFE_BUCKETS]; /* bytes by remaining life */
};

void sdb_output_begin(struct sdb_output *output, struct sdb_lsm *db,
                      const struct sdb_output_plan *plan);
storm_status sdb_output_add(struct sdb_output *output, struct storm_slice key, uint64_t tag,
                            struct storm_slice value);
storm_status sdb_output_finish(struct sdb_output *output);
/* Let go of everything. Unless `is_kept` the files are removed: nobody may know of them then. */
void sdb_output_end(struct sdb_output *output, bool is_kept);

/* Called now and then while entries are poured, with how many since the last call; a status other
 * than STORM_OK ends it. */
typedef storm_status (*sdb_pour_fn)(void *ctx, unsigned entries);

/* Pour all entries of `source` that `keep` keeps into `output`, and finish it. */
storm_status sdb_pour(struct sdb_source *source, struct sdb_keep *keep, struct sdb_output *output,
                      sdb_pour_fn step, void *ctx);

/* What tables of a level are written with. */
enum storm_codec sdb_level_codec(const struct sdb_lsm *db, unsigned level);

/* ---- install.c ---- */

/*
 * Make an edit durable and what it says current: manifest, version, view. With it the `flushed`
 * oldest sealed memtables go (then the edit's log number is filled in). Removed tables are marked
 * for deletion. After a failure the added tables' files must stay, for a crash may yet bring the
 * edit back: they are kept until a later edit has superseded it.
 */
storm_status sdb_install(struct sdb_lsm *db, struct sdb_edit *edit, size_t flushed);

/* Forget tables kept by failed installs, files and all left in place. At close. */
void sdb_install_fini(struct sdb_lsm *db);

#endif
