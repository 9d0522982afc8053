/*
 * A bump allocator for things that die together. Chunks double from 64 KiB to 1 MiB; an allocation
 * larger than a quarter of a chunk gets its own. Freed as a whole by fini. One thread allocates at
 * a time; what it handed out may be read by any.
 */
#ifndef SDB_LSM_MEM_ARENA_H
#define SDB_LSM_MEM_ARENA_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct sdb_arena_chunk;

struct sdb_arena {
    struct sdb_arena_chunk *chunks;
    uint8_t *next;
    uint8_t *end;
    size_t chunk_size;
    _Atomic size_t bytes; /* taken from the heap, slack included; any thread may read it */
    _Atomic size_t used;  /* handed out, alignment included; likewise */
};

void sdb_arena_init(struct sdb_arena *arena);
void sdb_arena_fini(struct sdb_arena *arena);

/* `size` bytes aligned to `align` (a power of two, at most 64); NULL when out of memory. */
void *sdb_arena_alloc(struct sdb_arena *arena, size_t size, size_t align);

#endif
