/*
 * A bump allocator for things that die together. Chunks double from 64 to 256 KiB; an allocation
 * beyond 16 KiB gets its own. Freed as a whole by fini. One thread allocates at a time; what it
 * handed out may be read by any.
 *
 * Who must not fail later reserves first: what was reserved is there until it is used or
 * unreserved.
 */
#ifndef SDB_LSM_MEM_ARENA_H
#define SDB_LSM_MEM_ARENA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/account.h"

/* Above it an allocation gets a chunk of its own: a quarter of the smallest chunk. */
enum { SDB_ARENA_LARGE = 16 << 10 };

struct sdb_arena_chunk;

struct sdb_arena {
    struct sdb_account *account;    /* const: the chunks are counted there; may be NULL */
    struct sdb_arena_chunk *chunks; /* in use, the one that is being filled among them */
    struct sdb_arena_chunk *spares; /* reserved, to be filled in this order */
    struct sdb_arena_chunk *larges; /* reserved for one allocation each, in this order */
    uint8_t *next;
    uint8_t *end;
    uint8_t *populated;   /* what lies before it of the chunk that is being filled has its pages */
    size_t chunk_size;    /* of the next chunk */
    _Atomic size_t bytes; /* taken, slack included; any thread may read it */
    _Atomic size_t used;  /* handed out, alignment included; likewise */
};

/* `account` (may be NULL) is borrowed until fini. */
void sdb_arena_init(struct sdb_arena *arena, struct sdb_account *account);
void sdb_arena_fini(struct sdb_arena *arena);

/* `size` bytes aligned to `align` (a power of two, at most 64); NULL when out of memory. */
void *sdb_arena_alloc(struct sdb_arena *arena, size_t size, size_t align);

/*
 * See to it that allocations of at most SDB_ARENA_LARGE bytes each, `bytes` together, their
 * alignment included, will not fail. Calls do not add up: the next one is again about all that is
 * to come. False when out of memory; what was reserved until then stays so.
 */
bool sdb_arena_reserve(struct sdb_arena *arena, size_t bytes);

/* The same for one allocation of more than SDB_ARENA_LARGE. These do add up, and must be made in
 * the order in which they were reserved. */
bool sdb_arena_reserve_large(struct sdb_arena *arena, size_t size);

/* Give back what was reserved and not used, but for `keep` chunks that would be filled next. */
void sdb_arena_unreserve(struct sdb_arena *arena, size_t keep);

#endif
