/*
 * The block cache: decoded blocks of all tables of one store, bounded in bytes.
 *
 * A block is reference counted: whoever holds it may read it after the cache has dropped it.
 * Sharded by key; each shard is one small mutex, a hash table and a CLOCK hand: an entry enters at
 * 0 and rises with each hit, so that one scan does not wipe what is used often. Threads: any.
 */
#ifndef SDB_LSM_TABLE_CACHE_H
#define SDB_LSM_TABLE_CACHE_H

#include <stdatomic.h>

#include "storm/storm.h"
#include "util/account.h"

/* One decoded block, its data behind the header in the same allocation; or what pins bytes that lie
 * elsewhere, without data. */
struct sdb_block {
    _Atomic uint32_t refs;
    uint32_t size;
    uint8_t *data;
    struct sdb_account *account;           /* const */
    void (*gone)(struct sdb_block *block); /* const: what to do at the end; NULL = free it */
};

/* One reference, contents undefined; NULL when out of memory. `account` (may be NULL) is borrowed
 * for the life of the block, which may be longer than the cache's. */
struct sdb_block *sdb_block_create(struct sdb_account *account, size_t size);
void sdb_block_ref(struct sdb_block *block);
void sdb_block_unref(struct sdb_block *block); /* NULL is ignored */

struct sdb_cache;

/*
 * `capacity` in bytes of the heap, for blocks, what the allocator adds to them, and slots; 0 gives
 * a cache that keeps nothing. `account` (may be NULL) is borrowed for the life of the cache and of
 * the tables that are opened over it. NULL = no memory.
 */
struct sdb_cache *sdb_cache_create(size_t capacity, struct sdb_account *account);
void sdb_cache_destroy(struct sdb_cache *cache);

/* The account it was created with. */
struct sdb_account *sdb_cache_account(const struct sdb_cache *cache);

/* A fresh id for a table: keys are (id, offset), ids are never used twice in one cache. */
uint64_t sdb_cache_new_id(struct sdb_cache *cache);

/* The block with a reference for the caller, or NULL. */
struct sdb_block *sdb_cache_get(struct sdb_cache *cache, uint64_t id, uint64_t offset);

/* Keep `block` (takes a reference of its own) if there is room or something colder to drop. If the
 * key is there already, the block that is there stays. Never fails visibly. */
void sdb_cache_put(struct sdb_cache *cache, uint64_t id, uint64_t offset, struct sdb_block *block);

/* Drop all blocks of a table that is gone. */
void sdb_cache_erase(struct sdb_cache *cache, uint64_t id);

struct sdb_cache_stats {
    uint64_t bytes, capacity, hits, misses;
};
void sdb_cache_stats(struct sdb_cache *cache, struct sdb_cache_stats *stats);

#endif
