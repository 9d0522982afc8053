/*
 * Reads the contents of a data block (format.h draws them): a lookup and an iterator in both
 * directions. The bytes may be hostile: every function answers STORM_CORRUPT rather than read
 * outside of them. Nothing is recorded here: the caller knows the file and the offset.
 */
#ifndef SDB_LSM_TABLE_BLOCK_H
#define SDB_LSM_TABLE_BLOCK_H

#include "lsm/entry.h"

/* A block whose tail was checked. Borrows the bytes. */
struct sdb_block_view {
    const uint8_t *data;
    uint32_t limit;    /* where entries end and restarts begin */
    uint32_t restarts; /* 0 only in a block without entries */
};

/* STORM_CORRUPT; STORM_NEWER_FORMAT for flags that this release does not know. */
storm_status sdb_block_parse(struct storm_slice contents, struct sdb_block_view *view);

/* The first entry at or after (key, tag) if it has this very key: STORM_OK with *found and *value,
 * which points into the block. STORM_NOT_FOUND, STORM_CORRUPT. */
storm_status sdb_block_get(const struct sdb_block_view *view, struct storm_slice key, uint64_t tag,
                           uint64_t *found, struct storm_slice *value);

/* Walk the whole block and check what lookups rely on: entries fill it, strictly in order and
 * sharing all they can, and every restart is an entry. STORM_CORRUPT, STORM_NO_MEMORY. */
storm_status sdb_block_check(const struct sdb_block_view *view);

/*
 * One thread. The current entry stands in the struct. It is one of a row of neighbours that have
 * been decoded together: row[current] of `count`. All their keys are valid until a move leaves the
 * row, their values as long as the block. A failure makes it invalid with status set; the next move
 * clears that.
 */
struct sdb_block_iter {
    bool valid;
    storm_status status; /* STORM_OK, STORM_CORRUPT, STORM_NO_MEMORY */
    struct storm_slice key;
    uint64_t tag;
    struct storm_slice value;

    struct sdb_entry *row; /* place: offset in the block */
    uint32_t count;
    uint32_t current; /* may be set by the iterator's owner: next and prev start there */

    /* Its own. */
    uint32_t row_room;
    uint32_t next; /* offset after the row */
    uint32_t step; /* entries of the next row forwards */
    struct sdb_block_view view;
    uint8_t *keys; /* of the row */
    size_t keys_used, keys_room;
};

void sdb_block_iter_init(struct sdb_block_iter *iter);
void sdb_block_iter_fini(struct sdb_block_iter *iter);
/* Give back the memory of a row that was large. Not positioned; a block must be set. */
void sdb_block_iter_rest(struct sdb_block_iter *iter);
/* Read another block from now on; not positioned. The view's bytes are borrowed. */
void sdb_block_iter_set(struct sdb_block_iter *iter, const struct sdb_block_view *view);

void sdb_block_iter_first(struct sdb_block_iter *iter);
void sdb_block_iter_last(struct sdb_block_iter *iter);
void sdb_block_iter_seek(struct sdb_block_iter *iter, struct storm_slice key, uint64_t tag);
void sdb_block_iter_seek_before(struct sdb_block_iter *iter, struct storm_slice key, uint64_t tag);
void sdb_block_iter_next(struct sdb_block_iter *iter); /* only when valid */
void sdb_block_iter_prev(struct sdb_block_iter *iter); /* only when valid */

#endif
