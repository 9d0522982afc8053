/*
 * Range deletes on their way in: from batches into the set of the active memtable, at a commit and
 * when the log is replayed.
 *
 * A commit with range deletes makes ready before the log append what it will need behind it: the
 * new set and the view that shows it. So it fails for want of memory while nothing has happened,
 * and once its record is durable nothing can fail any more.
 */
#ifndef SDB_LSM_DB_RANGE_WRITE_H
#define SDB_LSM_DB_RANGE_WRITE_H

#include "lsm/db/db.h"

/* What a range delete costs the log besides its encoded bytes: the record around it. */
enum { SDB_RANGE_LOGGED = 40 };

/* ---- At a commit ---- */

struct sdb_range_commit {
    struct sdb_ranges *ranges; /* the active memtable's, the group's included */
    struct sdb_view *view;     /* room for it; NULL = there is nothing to install */
    bool frees_tables;         /* tables will go as soon as this is flushed */
};

/* Make ready the range deletes of the group's accepted members, db->group[0..count); `view` is the
 * present one. By the holder of the turn, without mu. */
storm_status sdb_range_commit_prepare(struct sdb_lsm *db, size_t count, const struct sdb_view *view,
                                      struct sdb_range_commit *commit);
/* Show them to readers, just before `visible` moves. Does nothing when none are ready. mu is
 * held. */
void sdb_range_commit_install(struct sdb_lsm *db, struct sdb_range_commit *commit);
/* Let go of what has not been installed. */
void sdb_range_commit_fini(struct sdb_range_commit *commit);

/* ---- At a replay ---- */

struct sdb_range_replay {
    struct sdb_range *list; /* keys owned */
    size_t count, room;
};

storm_status sdb_range_replay_add(struct sdb_range_replay *replay, const struct sdb_batch_op *op,
                                  uint64_t revision);
/* All of them as the active memtable's set; readers begin at `visible`. */
storm_status sdb_range_replay_finish(struct sdb_range_replay *replay, uint64_t visible,
                                     struct sdb_ranges **ranges);
void sdb_range_replay_fini(struct sdb_range_replay *replay);

#endif
