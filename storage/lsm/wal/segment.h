/*
 * Segment files: names, what lies in the directory, headers, and how a new one comes to be.
 * Internal to the log. Threads: everything works on its arguments alone.
 */
#ifndef SDB_LSM_WAL_SEGMENT_H
#define SDB_LSM_WAL_SEGMENT_H

#include "lsm/wal/format.h"
#include "lsm/wal/wal.h"

/* A directory's path of 4 KiB (PATH_MAX) and a name. sdb_wal_open() refuses longer ones. */
enum { SDB_WAL_DIR_MAX = 4096, SDB_WAL_PATH = SDB_WAL_DIR_MAX + SDB_WAL_NAME };

void sdb_wal_segment_path(char path[SDB_WAL_PATH], const char *dir, uint64_t number);
/* A spare is a file that belongs to nobody, named after its last (or future) segment number. */
void sdb_wal_spare_path(char path[SDB_WAL_PATH], const char *dir, uint64_t number);

struct sdb_wal_numbers {
    uint64_t *list; /* ascending once sdb_wal_list() is back */
    size_t count;
    size_t room;
};

/* The segments and the spares in the directory. Free both with sdb_wal_numbers_fini(). */
storm_status sdb_wal_list(struct sdb_os *os, const char *dir, struct sdb_wal_numbers *segments,
                          struct sdb_wal_numbers *spares);
void sdb_wal_numbers_fini(struct sdb_wal_numbers *numbers);

/* How far sdb_wal_segment_create() got when it failed. */
struct sdb_wal_created {
    struct sdb_file *file; /* NULL on failure; the caller closes it */
    bool may_exist;        /* the segment's name may be in the directory */
    bool sync_failed;      /* a sync of file or directory failed: the disk is not to be trusted */
};

/*
 * Make the segment that `header` describes, `size` bytes large, durable with its name, out of the
 * spare numbered `spare` (0 = a new file). A spare is used up, whatever the outcome.
 */
storm_status sdb_wal_segment_create(struct sdb_os *os, const char *dir,
                                    const struct sdb_wal_header *header, uint64_t size,
                                    uint64_t spare, struct sdb_wal_created *created);

#endif
