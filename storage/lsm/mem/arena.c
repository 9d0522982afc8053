/*
 * The arena: a list of heap chunks and a pointer that moves through the newest one.
 *
 *   chunks -> [ header | used ........ next ->| free ... end ]     the chunk that is being filled
 *             [ header | one large allocation                ]     chunks of their own and full ones
 *             [ header | used ................. | lost tail  ]
 *   spares -> [ header | free ...                            ]     reserved: filled next, in order
 *   larges -> [ header | free ...                            ]     reserved: for one allocation each
 *
 * A memtable of the default 1 MiB takes six chunks (64 + 128 + 4 x 256 KiB), so that a small one
 * costs little, and what the last chunk has to spare is a small part of a large one. Chunks are
 * large pieces (os/large.h): a memtable that was flushed leaves nothing behind in the heap. What
 * does not fit any more into the rest of the newest chunk starts the next one; the rest is lost,
 * less than 16 KiB because larger allocations always get a chunk of their own, which leaves the
 * newest one as it is.
 *
 * Reserving takes chunks before they are needed and changes nothing else: the chunk
 * that is being filled is filled to its end first, however pessimistic the caller's sum was. What
 * may be lost at the end of every chunk but the last is part of the calculation.
 *
 * The kernel takes 1 us to find and clear a page, 70 us for those of a chunk. So they come a few at
 * a time, right before they are filled: once in 200 entries of 100 bytes one waits 9 us, where once
 * in 1,500 it would be 70.
 *
 * `bytes` counts whole chunks, used or not, reserved ones too; `used` what was handed out. They
 * have one writer, so a plain load and a store do for the addition; relaxed, because readers of
 * them want a number and nothing that comes with it.
 *
 * The arena neither gives single allocations back nor clears memory, and nothing but its owner's
 * rule of one allocating thread at a time protects it.
 */
#include "lsm/mem/arena.h"

#include "os/large.h"

enum {
    FIRST_CHUNK = 64 << 10,
    LARGEST_CHUNK = 256 << 10,
    LARGEST_ALIGN = 64,
    POPULATED = 32 << 10, /* at a time */
    FREED = 1 << 20,      /* with one call: some 50 us */
};

_Static_assert((int)FIRST_CHUNK >= (int)SDB_LARGE && POPULATED % SDB_PAGE == 0,
               "chunks that are filled are whole pages");

struct sdb_arena_chunk {
    struct sdb_arena_chunk *next;
    size_t size; /* this header included */
};

void sdb_arena_init(struct sdb_arena *arena, struct sdb_account *account)
{
    arena->account = account;
    arena->chunks = NULL;
    arena->spares = NULL;
    arena->larges = NULL;
    arena->next = NULL;
    arena->end = NULL;
    arena->populated = NULL;
    arena->chunk_size = FIRST_CHUNK;
    atomic_init(&arena->bytes, 0);
    atomic_init(&arena->used, 0);
}

static void count(_Atomic size_t *counter, size_t size)
{
    size_t bytes = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, bytes + size, memory_order_relaxed);
}

/*
 * Free a list of chunks. The kernel puts each piece right below the one before it, so what was
 * taken one after the other lies in a row, and goes in few calls: each interrupts every processor
 * that runs this process, the writer's too. Not in one call, which would keep the writer from
 * taking memory meanwhile.
 */
static void free_chunks(struct sdb_arena *arena, struct sdb_arena_chunk *chunk)
{
    uint8_t *row = NULL;
    size_t row_bytes = 0;
    while (chunk != NULL) {
        struct sdb_arena_chunk *next = chunk->next;
        size_t size = chunk->size;
        size_t bytes = sdb_large_bytes(chunk, size);
        count(&arena->bytes, 0 - size);
        sdb_account_sub(arena->account, SDB_FOR_MEMTABLES, bytes);
        if (size < SDB_LARGE) {
            sdb_large_free(chunk, size);
        } else if (row != NULL && (uint8_t *)chunk == row + row_bytes && row_bytes < FREED) {
            row_bytes += bytes;
        } else {
            sdb_large_free(row, row_bytes);
            row = (uint8_t *)chunk;
            row_bytes = bytes;
        }
        chunk = next;
    }
    sdb_large_free(row, row_bytes);
}

void sdb_arena_fini(struct sdb_arena *arena)
{
    free_chunks(arena, arena->chunks);
    free_chunks(arena, arena->spares);
    free_chunks(arena, arena->larges);
    sdb_arena_init(arena, arena->account);
}

/* Count a chunk of `size` bytes, header included; NULL (out of memory) is returned as it is. */
static struct sdb_arena_chunk *new_chunk(struct sdb_arena *arena, void *memory, size_t size)
{
    struct sdb_arena_chunk *chunk = memory;
    if (chunk == NULL)
        return NULL;
    *chunk = (struct sdb_arena_chunk){.size = size};
    sdb_account_add(arena->account, SDB_FOR_MEMTABLES, sdb_large_bytes(chunk, size));
    count(&arena->bytes, size);
    return chunk;
}

/* The next chunk to be filled, in no list. */
static struct sdb_arena_chunk *new_small_chunk(struct sdb_arena *arena)
{
    size_t size = arena->chunk_size;
    struct sdb_arena_chunk *chunk = new_chunk(arena, sdb_large_alloc_bare(size), size);
    if (chunk != NULL && arena->chunk_size < LARGEST_CHUNK)
        arena->chunk_size *= 2;
    return chunk;
}

/* A chunk for one allocation of `size` bytes, in no list. */
static struct sdb_arena_chunk *new_large_chunk(struct sdb_arena *arena, size_t size)
{
    size_t extra = sizeof(struct sdb_arena_chunk) + LARGEST_ALIGN;
    if (size > SIZE_MAX - extra)
        return NULL;
    return new_chunk(arena, sdb_large_alloc(size + extra), size + extra);
}

/* How many bytes to skip from `at` to the next multiple of `align`. */
static size_t padding(const uint8_t *at, size_t align)
{
    return -(uintptr_t)at & (align - 1);
}

/* ---- Reserving ------------------------------------------------------------------------------- */

static struct sdb_arena_chunk **end_of(struct sdb_arena_chunk **list)
{
    while (*list != NULL)
        list = &(*list)->next;
    return list;
}

/* Of `room` bytes in a row, those that are used for certain before an allocation does not fit. */
static size_t certain(size_t room)
{
    size_t tail = SDB_ARENA_LARGE + LARGEST_ALIGN;
    return room > tail ? room - tail : 0;
}

bool sdb_arena_reserve(struct sdb_arena *arena, size_t bytes)
{
    size_t room = (size_t)(arena->end - arena->next);
    if (bytes <= room)
        return true;
    size_t found = certain(room);
    struct sdb_arena_chunk **end = &arena->spares;
    while (found < bytes) {
        if (*end == NULL)
            *end = new_small_chunk(arena);
        if (*end == NULL)
            return false;
        found += certain((*end)->size - sizeof(struct sdb_arena_chunk));
        end = &(*end)->next;
    }
    return true;
}

bool sdb_arena_reserve_large(struct sdb_arena *arena, size_t size)
{
    struct sdb_arena_chunk **end = end_of(&arena->larges);
    *end = new_large_chunk(arena, size);
    return *end != NULL;
}

void sdb_arena_unreserve(struct sdb_arena *arena, size_t keep)
{
    struct sdb_arena_chunk **end = &arena->spares;
    for (; *end != NULL && keep > 0; keep--)
        end = &(*end)->next;
    if (*end != NULL) {
        arena->chunk_size = (*end)->size; /* they are made in order of size */
        free_chunks(arena, *end);
        *end = NULL;
    }
    free_chunks(arena, arena->larges);
    arena->larges = NULL;
}

/* ---- Allocating ------------------------------------------------------------------------------ */

/* Put `chunk` among those in use; where its memory begins. */
static uint8_t *use_chunk(struct sdb_arena *arena, struct sdb_arena_chunk *chunk)
{
    chunk->next = arena->chunks;
    arena->chunks = chunk;
    return (uint8_t *)chunk + sizeof(struct sdb_arena_chunk);
}

static void *alloc_large(struct sdb_arena *arena, size_t size, size_t align)
{
    struct sdb_arena_chunk *chunk = arena->larges;
    if (chunk != NULL && size <= chunk->size - sizeof(struct sdb_arena_chunk) - LARGEST_ALIGN)
        arena->larges = chunk->next;
    else
        chunk = new_large_chunk(arena, size);
    if (chunk == NULL)
        return NULL;
    count(&arena->used, chunk->size);
    uint8_t *at = use_chunk(arena, chunk);
    return at + padding(at, align);
}

/* Go on in the next chunk. */
static bool next_chunk(struct sdb_arena *arena)
{
    struct sdb_arena_chunk *chunk = arena->spares;
    if (chunk != NULL)
        arena->spares = chunk->next;
    else
        chunk = new_small_chunk(arena);
    if (chunk == NULL)
        return false;
    arena->next = use_chunk(arena, chunk);
    arena->end = (uint8_t *)chunk + chunk->size;
    arena->populated = (uint8_t *)chunk;
    return true;
}

/* The pages up to `next`, and a few more. They are multiples of what is populated at a time. */
static void populate(struct sdb_arena *arena)
{
    size_t wanted = (size_t)(arena->next - arena->populated);
    wanted = (wanted + POPULATED - 1) / POPULATED * POPULATED;
    sdb_large_populate(arena->populated, wanted);
    arena->populated += wanted;
}

void *sdb_arena_alloc(struct sdb_arena *arena, size_t size, size_t align)
{
    if (size > SDB_ARENA_LARGE)
        return alloc_large(arena, size, align);
    size_t room = (size_t)(arena->end - arena->next);
    size_t pad = padding(arena->next, align);
    if (arena->next == NULL || pad + size > room) {
        if (!next_chunk(arena))
            return NULL;
        pad = padding(arena->next, align);
    }
    count(&arena->used, pad + size);
    uint8_t *at = arena->next + pad;
    arena->next = at + size;
    if (arena->next > arena->populated)
        populate(arena);
    return at;
}
