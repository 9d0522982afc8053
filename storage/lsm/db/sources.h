/*
 * Sources made of sources: a level's tables one after the other, and a merge of several runs. Both
 * are struct sdb_source (lsm/entry.h) and go both ways.
 */
#ifndef SDB_LSM_DB_SOURCES_H
#define SDB_LSM_DB_SOURCES_H

#include "lsm/db/version.h"
#include "lsm/table/prefix.h"

/*
 * The tables of a sorted level, opened one at a time as the source gets to them. The version is
 * borrowed and outlives the source. NULL when out of memory.
 */
struct sdb_source *sdb_level_source(const struct sdb_level *level, bool fill_cache,
                                    size_t readahead);

/* One table; a source that fails with the table's status when it is damaged. */
struct sdb_source *sdb_table_file_source(const struct sdb_table_file *file, bool fill_cache,
                                         size_t readahead);

/* A source in a merge, with what it is compared by first. */
struct sdb_contender {
    struct sdb_key_prefix rank; /* prefix of its key; its complement going back */
    struct sdb_source *source;
};

/*
 * A merge. Its owner may move it without a call, along the row of the source that is in front: see
 * sdb_merge_is_ahead(). The fields are merge.c's own.
 */
struct sdb_merge {
    struct sdb_source base; /* has no row itself */
    bool is_forward;
    bool is_behind;    /* the front's `at` was moved without base, front and heap */
    bool is_row_clear; /* what is left of the front's row is ahead of all other sources */
    size_t count;
    size_t live; /* valid sources, heap[0..live) */
    const struct sdb_contender
        *second;                 /* the better of heap[1] and heap[2]; NULL = there is none */
    struct sdb_source **sources; /* all */
    struct sdb_contender *heap;
};

/*
 * The entries of all `sources` in order, which it owns from the call on, also when it returns NULL
 * for want of memory: its own, or that of a source, which is NULL in the list then. Equal (key,
 * tag) pairs come once from each; the earlier source first.
 */
struct sdb_merge *sdb_merge_create(struct sdb_source **sources, size_t count);

/* The same as a source; of one source that source itself. */
struct sdb_source *sdb_merge_source(struct sdb_source **sources, size_t count);

/* Bring the whole merge to where its front has been moved, before anybody looks at its base. Only
 * if merge->is_behind. A move in the same direction does without. */
void sdb_merge_catch_up(struct sdb_merge *merge);

static inline struct sdb_key_prefix sdb_merge_rank(bool is_forward, struct storm_slice key)
{
    struct sdb_key_prefix rank = sdb_key_prefix(key, 0);
    uint64_t flip = is_forward ? 0 : UINT64_MAX;
    return (struct sdb_key_prefix){rank.high ^ flip, rank.low ^ flip};
}

/* Whether a key of the front's, not before the current one in the merge's direction, comes before
 * all keys that other sources stand on. */
static inline bool sdb_merge_is_ahead(const struct sdb_merge *merge, struct storm_slice key)
{
    if (merge->is_row_clear || merge->second == NULL)
        return true;
    struct sdb_key_prefix rank = sdb_merge_rank(merge->is_forward, key);
    int order = sdb_key_prefix_compare(rank, merge->second->rank);
    if (__builtin_expect(order == 0, 0))
        order = merge->is_forward ? sdb_key_compare(key, merge->second->source->key)
                                  : sdb_key_compare(merge->second->source->key, key);
    return order < 0;
}

/* A valid merge's front. */
static inline struct sdb_source *sdb_merge_front(const struct sdb_merge *merge)
{
    return merge->heap[0].source;
}

/* Move the front within its row, from an entry that is ahead of the other sources'. */
static inline void sdb_merge_move(struct sdb_merge *merge, const struct sdb_entry *to)
{
    merge->heap[0].source->at = to;
    merge->is_behind = true;
}

#endif
