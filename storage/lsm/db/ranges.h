/*
 * Sets of range deletes: for any key, which of them cover it?
 *
 * A range delete {start, end, revision} hides every version of the keys in [start, end) whose
 * revision is below its own. It is never an entry of a memtable or a table: sets of them stand
 * beside the memtable that was active when they were written, and, once that is flushed, in the
 * version. sweep.h tells how they get there and when they leave.
 *
 * A set is immutable and reference counted, and holds its range deletes twice: as they were written
 * (`list`), and cut into fragments that do not overlap, so that a lookup is one binary search:
 *
 *   written       [a ........ m) @5        fragments   [a .. f) @5
 *                      [f ........ s) @9               [f .. m) @9 @5
 *                                                      [m .. s) @9
 *
 * NULL is the set without any, which is nearly always the one there is.
 *
 * Threads: any, as long as a reference is held. Errors: STORM_NO_MEMORY is all that can happen.
 */
#ifndef SDB_LSM_DB_RANGES_H
#define SDB_LSM_DB_RANGES_H

#include <stdatomic.h>

#include "lsm/entry.h"

/* The keys from `start` (empty = the first) up to, not including, `end` (empty = past the last). */
struct sdb_range {
    struct storm_slice start, end;
    uint64_t revision;
};

struct sdb_fragment {
    struct storm_slice start, end; /* as in a range delete; of the set's own memory */
    const uint64_t *revisions;     /* newest first */
    size_t count;                  /* at least 1 */
};

struct sdb_ranges {
    _Atomic uint32_t refs;
    uint64_t newest;              /* the newest revision in it */
    size_t count;                 /* at least 1 */
    const struct sdb_range *list; /* in the order of sdb_range_compare */
    size_t fragment_count;
    const struct sdb_fragment *fragments; /* by key */
};

/*
 * All range deletes of `sets` (NULL ones allowed) and `more` as one set with one reference; *ranges
 * is NULL when nothing is left of them. Everything is copied. Of equal ones one is kept, empty ones
 * (end at or before start) are left out.
 *
 * `seen` are the revisions, ascending, at which somebody may read: all snapshots, and last what is
 * visible now. A range delete that newer ones hide from each of those, and from whoever reads
 * later, is left out: so a range that is deleted again and again is there once. `seen` NULL: all
 * are kept.
 */
storm_status sdb_ranges_create(struct sdb_ranges *const *sets, size_t set_count,
                               const struct sdb_range *more, size_t more_count,
                               const uint64_t *seen, size_t seen_count, struct sdb_ranges **ranges);

struct sdb_ranges *sdb_ranges_ref(struct sdb_ranges *ranges); /* NULL stays NULL */
void sdb_ranges_unref(struct sdb_ranges *ranges);             /* NULL is ignored */

/* By revision, then start, then end. 0 = equal in all three. */
int sdb_range_compare(const struct sdb_range *a, const struct sdb_range *b);

/* The fragment that covers `key`; NULL = none. */
const struct sdb_fragment *sdb_ranges_find(const struct sdb_ranges *ranges, struct storm_slice key);

/* The newest range delete at or below `revision` that covers `key`; 0 = none. */
static inline uint64_t sdb_ranges_newest(const struct sdb_ranges *ranges, struct storm_slice key,
                                         uint64_t revision)
{
    const struct sdb_fragment *fragment = ranges == NULL ? NULL : sdb_ranges_find(ranges, key);
    for (size_t i = 0; fragment != NULL && i < fragment->count; i++) {
        if (fragment->revisions[i] <= revision)
            return fragment->revisions[i];
    }
    return 0;
}

/* The oldest one above `revision` that covers `key`: it ends the life of that version. 0 = none. */
uint64_t sdb_ranges_next(const struct sdb_ranges *ranges, struct storm_slice key,
                         uint64_t revision);

/*
 * From which revision on no version at or below `revision` of any key in [smallest, largest], both
 * inclusive, is visible: the newest of the range deletes that together cover all of it. 0 = some
 * key is not covered.
 */
uint64_t sdb_ranges_cover(const struct sdb_ranges *ranges, struct storm_slice smallest,
                          struct storm_slice largest, uint64_t revision);

static inline size_t sdb_ranges_count(const struct sdb_ranges *ranges)
{
    return ranges == NULL ? 0 : ranges->count;
}

static inline bool sdb_range_is_empty(const struct sdb_range *range)
{
    return range->end.size != 0 && sdb_key_compare(range->end, range->start) <= 0;
}

/* Whether the range holds any key of [smallest, largest], both inclusive. */
static inline bool sdb_range_overlaps(const struct sdb_range *range, struct storm_slice smallest,
                                      struct storm_slice largest)
{
    return sdb_key_compare(range->start, largest) <= 0 &&
           (range->end.size == 0 || sdb_key_compare(smallest, range->end) < 0);
}

static inline bool sdb_range_covers(const struct sdb_range *range, struct storm_slice key)
{
    return sdb_range_overlaps(range, key, key);
}

#endif
