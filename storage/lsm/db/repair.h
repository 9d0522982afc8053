/*
 * The parts of storm_repair, which work on one struct sdb_repair in turn; repair.c tells the story.
 * One thread. Sentences of failures stand in db->os->errors.
 */
#ifndef SDB_LSM_DB_REPAIR_H
#define SDB_LSM_DB_REPAIR_H

#include "lsm/db/db.h"
#include "lsm/db/names.h"
#include "lsm/db/range_write.h"

/* A file of the store in the directory, as it was found. */
struct sdb_repair_name {
    char name[SDB_NAME_MAX];
    enum sdb_file_kind kind; /* CURRENT: SDB_FILE_TEMP */
    uint64_t number;
    bool is_kept;    /* part of the repaired store as it is */
    unsigned copies; /* 1 + the suffix of its second name in lost/; 0 = it has none */
};

enum sdb_repair_fate {
    SDB_REPAIR_UNREAD,   /* not named by a manifest that is trusted: nobody needs it */
    SDB_REPAIR_WHOLE,    /* every byte verified */
    SDB_REPAIR_SALVAGED, /* what could be read of it is in a new table */
    SDB_REPAIR_LOST,     /* missing, or nothing of it could be read */
};

struct sdb_repair_table {
    uint64_t number;
    bool is_present;
    struct sdb_table_file
        *named; /* as the manifest says; one reference; NULL: it does not name it */
    enum sdb_repair_fate fate;
    struct sdb_table_file *file; /* the table itself or the new one, one reference; NULL: lost */
    bool has_props;              /* of one that is unread: its properties could be read */
    uint64_t min_revision, max_revision;
};

/* Tables that the repair made, one reference each; they are durable and open. */
struct sdb_repair_files {
    struct sdb_table_file **list;
    size_t count, room;
};

struct sdb_repair {
    struct sdb_lsm *db; /* never opened: it lends os, lock, cache, options and file numbers */
    storm_report_fn report;
    void *ctx;
    struct storm_repair_result *result;

    struct sdb_repair_name *names;
    size_t name_count, name_room;

    bool has_state;  /* a manifest could be read */
    bool is_trusted; /* and the tables are those that it describes */
    struct sdb_state state;
    struct sdb_version *version; /* what it says; NULL without */

    struct sdb_repair_table *tables; /* in the directory, or named */
    size_t table_count, table_room;

    struct sdb_memtable *memtable;   /* of log records that are in no table yet */
    struct sdb_range_replay ranges;  /* range deletes of all log records */
    struct sdb_repair_files logged;  /* tables made of log records, oldest first */
    struct sdb_repair_files written; /* the merge's output */
    uint64_t log_problems;
    uint64_t log_segment_batches; /* taken from the segment at hand */
    bool has_old;                 /* log records that tables should have had */

    uint64_t revision;  /* the newest seen anywhere */
    uint32_t epoch;     /* likewise */
    uint64_t first_new; /* file numbers from here on are the repair's own */
};

/* ---- repair.c ---- */

/* Tell the caller: `line` begins with a path below the directory, or a file's name. */
void sdb_repair_tell(struct sdb_repair *repair, storm_status status, const char *line);
/* The sentence recorded last, as a report; for use as a callback. */
void sdb_repair_tell_newest(void *repair, storm_status status);
bool sdb_repair_add_file(struct sdb_repair_files *files, struct sdb_table_file *file);
/* Entries of `source`, all of them, into new tables of `level` that are at the end of *files. */
storm_status sdb_repair_write(struct sdb_repair *repair, struct sdb_source *source, unsigned level,
                              struct sdb_repair_files *files);
/* "dir/name" of table `number`; NULL when out of memory. */
char *sdb_repair_table_path(const struct sdb_repair *repair, uint64_t number);

/* ---- repair_scan.c: what is there, and what the manifest says of it ---- */

/* List the directory. STORM_NOT_FOUND when it holds no file of a store. */
storm_status sdb_repair_scan(struct sdb_repair *repair);
/* Read the manifest, if one can be, and find out whether to trust it: reads all that it names. */
storm_status sdb_repair_judge(struct sdb_repair *repair);

/* ---- repair_tables.c ---- */

/* Read the whole table: its fate and file. Damaged ones are salvaged. */
storm_status sdb_repair_read_table(struct sdb_repair *repair, struct sdb_repair_table *table);
/* Only open it, for its revisions. */
storm_status sdb_repair_peek_table(struct sdb_repair *repair, struct sdb_repair_table *table);

/* ---- repair_log.c ---- */

/* Read all segments; what the tables do not have becomes tables of level 0. */
storm_status sdb_repair_read_log(struct sdb_repair *repair);

/* ---- repair_merge.c ---- */

/* All tables' entries and the log's, merged into tables of the last level (repair->written). */
storm_status sdb_repair_merge(struct sdb_repair *repair);

#endif
