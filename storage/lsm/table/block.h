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

struct sdb_block_run;

/*
 * One thread. The current entry stands in the struct; its key is valid until the next move, its
 * value as long as the block. A failure makes it invalid with status set; the next move clears
 * that.
 */
struct sdb_block_iter {
    bool valid;
    storm_status status; /* STORM_OK, STORM_CORRUPT, STORM_NO_MEMORY */
    struct storm_slice key;
    uint64_t tag;
    struct storm_slice value;

    /* Its own. */
    struct sdb_block_view view;
    uint32_t at;   /* offset of the current entry */
    uint32_t next; /* offset after it */
    uint8_t *key_buffer;
    size_t key_room;
    struct sdb_block_run *run; /* entries decoded for a walk backwards */
    bool in_run;               /* the current entry is one of them */
};

void sdb_block_iter_init(struct sdb_block_iter *iter);
void sdb_block_iter_fini(struct sdb_block_iter *iter);
/* Read another block from now on; not positioned. The view's bytes are borrowed. */
void sdb_block_iter_set(struct sdb_block_iter *iter, const struct sdb_block_view *view);

void sdb_block_iter_first(struct sdb_block_iter *iter);
void sdb_block_iter_last(struct sdb_block_iter *iter);
void sdb_block_iter_seek(struct sdb_block_iter *iter, struct storm_slice key, uint64_t tag);
void sdb_block_iter_seek_before(struct sdb_block_iter *iter, struct storm_slice key, uint64_t tag);
void sdb_block_iter_next(struct sdb_block_iter *iter); /* only when valid */
void sdb_block_iter_prev(struct sdb_block_iter *iter); /* only when valid */

#endif
