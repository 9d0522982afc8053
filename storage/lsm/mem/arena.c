/*
 * The arena: a list of heap chunks and a pointer that moves through the newest one.
 *
 *   chunks -> [ header | used ........ next ->| free ... end ]     the chunk that is being filled
 *             [ header | one large allocation                ]     chunks of their own and full ones
 *             [ header | used ................. | lost tail  ]
 *
 * A memtable of the default 1 MiB takes four chunks (64 + 128 + 256 + 512 KiB), so that a small
 * one costs little and a large one few calls of malloc. What does not fit any more into the rest of
 * the newest chunk starts the next one; the rest is lost, less than a quarter of a chunk because
 * larger allocations get a chunk of their own, which leaves the newest one as it is.
 *
 * `bytes` counts whole chunks, used or not; `used` what was handed out. They have one writer, so a
 * plain load and a store do for the addition; relaxed, because readers of them want a number and
 * nothing that comes with it.
 *
 * The arena neither gives single allocations back nor clears memory, and nothing but its owner's
 * rule of one allocating thread at a time protects it.
 */
#include "lsm/mem/arena.h"

#include <stdlib.h>

enum { FIRST_CHUNK = 64 << 10, LARGEST_CHUNK = 1 << 20, LARGEST_ALIGN = 64 };

struct sdb_arena_chunk {
    struct sdb_arena_chunk *older;
};

void sdb_arena_init(struct sdb_arena *arena)
{
    arena->chunks = NULL;
    arena->next = NULL;
    arena->end = NULL;
    arena->chunk_size = FIRST_CHUNK;
    atomic_init(&arena->bytes, 0);
    atomic_init(&arena->used, 0);
}

void sdb_arena_fini(struct sdb_arena *arena)
{
    for (struct sdb_arena_chunk *chunk = arena->chunks; chunk != NULL;) {
        struct sdb_arena_chunk *older = chunk->older;
        free(chunk);
        chunk = older;
    }
    sdb_arena_init(arena);
}

static void count(_Atomic size_t *counter, size_t size)
{
    size_t bytes = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, bytes + size, memory_order_relaxed);
}

/* A chunk of `size` bytes, header included, at the head of the list; NULL when out of memory. */
static uint8_t *add_chunk(struct sdb_arena *arena, size_t size)
{
    struct sdb_arena_chunk *chunk = malloc(size);
    if (chunk == NULL)
        return NULL;
    chunk->older = arena->chunks;
    arena->chunks = chunk;
    count(&arena->bytes, size);
    return (uint8_t *)chunk;
}

/* How many bytes to skip from `at` to the next multiple of `align`. */
static size_t padding(const uint8_t *at, size_t align)
{
    return -(uintptr_t)at & (align - 1);
}

static void *alloc_own_chunk(struct sdb_arena *arena, size_t size, size_t align)
{
    size_t extra = sizeof(struct sdb_arena_chunk) + LARGEST_ALIGN;
    if (size > SIZE_MAX - extra)
        return NULL;
    uint8_t *chunk = add_chunk(arena, size + extra);
    if (chunk == NULL)
        return NULL;
    count(&arena->used, size + extra);
    uint8_t *at = chunk + sizeof(struct sdb_arena_chunk);
    return at + padding(at, align);
}

void *sdb_arena_alloc(struct sdb_arena *arena, size_t size, size_t align)
{
    size_t room = (size_t)(arena->end - arena->next);
    size_t pad = padding(arena->next, align);
    if (arena->next == NULL || pad > room || size > room - pad) {
        if (size > arena->chunk_size / 4)
            return alloc_own_chunk(arena, size, align);
        uint8_t *chunk = add_chunk(arena, arena->chunk_size);
        if (chunk == NULL)
            return NULL;
        arena->next = chunk + sizeof(struct sdb_arena_chunk);
        arena->end = chunk + arena->chunk_size;
        if (arena->chunk_size < LARGEST_CHUNK)
            arena->chunk_size *= 2;
        pad = padding(arena->next, align);
    }
    count(&arena->used, pad + size);
    uint8_t *at = arena->next + pad;
    arena->next = at + size;
    return at;
}
