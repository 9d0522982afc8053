/*
 * The memtable: the newest writes, sorted, in memory.
 *
 * One writer at a time inserts (the commit leader); any number of readers search and iterate
 * meanwhile without a lock and without waiting. An entry is found by every reader that starts after
 * its insert returned and synchronised with it (the engine publishes revisions with a release
 * store); a reader that runs beside the insert sees it whole or not at all.
 *
 * Keys and values are copied into the memtable's arena and stay where they are until the last
 * reference goes, so slices handed out live as long as the memtable.
 */
#ifndef SDB_LSM_MEM_MEMTABLE_H
#define SDB_LSM_MEM_MEMTABLE_H

#include "lsm/entry.h"
#include "util/account.h"

struct sdb_memtable;

/* A new one with one reference; NULL when out of memory. `account` (may be NULL) is borrowed for
 * its life. */
struct sdb_memtable *sdb_memtable_create(struct sdb_account *account);
struct sdb_memtable *sdb_memtable_ref(struct sdb_memtable *memtable);
void sdb_memtable_unref(struct sdb_memtable *memtable); /* NULL is ignored */

/*
 * Insert one version. An entry with the same key and tag revision is replaced, kind and value (the
 * last operation of a batch wins); that one must not be visible to readers yet.
 * STORM_NO_MEMORY: nothing was inserted. STORM_TOO_LARGE: the same, for sizes from 4 GiB.
 */
storm_status sdb_memtable_insert(struct sdb_memtable *memtable, struct storm_slice key,
                                 uint64_t tag, struct storm_slice value);

/*
 * Reserve memory for inserts to come, so that they cannot fail: `entries` of them, of which those
 * with at most SDB_MEMTABLE_LARGE bytes of key and value have `bytes` together; each larger one is
 * reserved by a call of its own, in the order of inserting. False when out of memory. A pessimistic
 * sum does no harm: memory is taken from the heap early, not lost.
 */
enum { SDB_MEMTABLE_LARGE = (16 << 10) - 16 };
bool sdb_memtable_reserve(struct sdb_memtable *memtable, size_t entries, size_t bytes);
bool sdb_memtable_reserve_large(struct sdb_memtable *memtable, size_t key_size, size_t value_size);

/* Give back what was reserved and not used; `keep_next` = but for the chunk that is filled next. */
void sdb_memtable_unreserve(struct sdb_memtable *memtable, bool keep_next);

/*
 * The newest version of `key` at or below `revision`: true and *tag, *value (kind in the tag, a
 * delete has an empty value); false when the memtable has none.
 */
bool sdb_memtable_get(const struct sdb_memtable *memtable, struct storm_slice key,
                      uint64_t revision, uint64_t *tag, struct storm_slice *value);

/* One of several lookups. */
struct sdb_memtable_query {
    struct storm_slice key;
    bool is_found; /* out, and so is the rest: as from sdb_memtable_get */
    uint64_t tag;
    struct storm_slice value;
};

/* The same for up to SDB_MEMTABLE_TOGETHER keys, whose waits for memory overlap. */
enum { SDB_MEMTABLE_TOGETHER = 32 };
void sdb_memtable_get_many(const struct sdb_memtable *memtable, uint64_t revision,
                           struct sdb_memtable_query *queries, size_t count);

/* Bytes in use by entries and nodes, 0 without entries: what rotation goes by. Any thread. */
size_t sdb_memtable_used(const struct sdb_memtable *memtable);

/*
 * Accounted bytes: whole chunks of the arena, so slack is included and the number goes up in steps
 * of
 * 64 KiB (an empty memtable) to 256 KiB. And entries (versions). Any thread.
 */
size_t sdb_memtable_bytes(const struct sdb_memtable *memtable);
size_t sdb_memtable_entries(const struct sdb_memtable *memtable);

/* A source over it, holding a reference; NULL when out of memory. */
struct sdb_source *sdb_memtable_source(struct sdb_memtable *memtable);

#endif
