/*
 * What one store holds of memory, by what for: the figures behind storm_stats.memory_*.
 *
 * An account is a handful of numbers that is handed down to whoever allocates what lasts. It is
 * changed where memory is taken and where it is given back, once for a chunk of an arena, a block,
 * a table; never for an entry, and never found out by walking. What is counted is what the
 * allocator really takes: its own header and what it rounds up by included. So the sum can be held
 * against the process's resident size (tests/memory does), and is 0 when all has been given back.
 *
 * Not counted: what lasts no longer than one call, flush or compaction (buffers of builders and
 * codecs), iterators (some kilobytes for each run of the tree) and snapshots, batches, which are
 * the caller's.
 *
 * Threads: any. Relaxed order: the numbers bring nothing with them. A NULL account counts nothing.
 */
#ifndef SDB_UTIL_ACCOUNT_H
#define SDB_UTIL_ACCOUNT_H

#include <malloc.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

enum sdb_account_for {
    SDB_FOR_MEMTABLES, /* chunks of arenas */
    SDB_FOR_CACHE,  /* blocks, kept by the cache or only by who reads them, also ahead; its slots */
    SDB_FOR_TABLES, /* open tables: index, filter, file, description */
    SDB_FOR_LOG,    /* the writer and its buffers, what a commit group is decided with */
    SDB_FOR_COUNT,
};

struct sdb_account {
    _Atomic size_t bytes[SDB_FOR_COUNT];
};

/* What the heap has taken for `p`: the usable size and one word of header; 0 for NULL. */
static inline size_t sdb_heap_bytes(const void *p)
{
    return p == NULL ? 0 : malloc_usable_size((void *)(size_t)p) + sizeof(size_t);
}

static inline void sdb_account_add(struct sdb_account *account, enum sdb_account_for what,
                                   size_t bytes)
{
    if (account != NULL)
        atomic_fetch_add_explicit(&account->bytes[what], bytes, memory_order_relaxed);
}

static inline void sdb_account_sub(struct sdb_account *account, enum sdb_account_for what,
                                   size_t bytes)
{
    if (account != NULL)
        atomic_fetch_sub_explicit(&account->bytes[what], bytes, memory_order_relaxed);
}

/* Count what was just allocated; NULL is ignored. Returns `p`. */
static inline void *sdb_account_took(struct sdb_account *account, enum sdb_account_for what,
                                     void *p)
{
    sdb_account_add(account, what, sdb_heap_bytes(p));
    return p;
}

/* Free what sdb_account_took() has counted; NULL is ignored. */
static inline void sdb_account_free(struct sdb_account *account, enum sdb_account_for what, void *p)
{
    sdb_account_sub(account, what, sdb_heap_bytes(p));
    free(p);
}

static inline size_t sdb_account_bytes(const struct sdb_account *account, enum sdb_account_for what)
{
    return atomic_load_explicit(&account->bytes[what], memory_order_relaxed);
}

#endif
