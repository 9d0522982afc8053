/*
 * Large pieces of memory: mmap and munmap from SDB_LARGE on, the heap below. The size that everyone
 * passes tells which of the two it was, so that a piece has no header.
 */
#include "os/large.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "util/account.h"

/* linux/mman.h; the C library of the oldest systems that we build on does not have it. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static size_t round_up(size_t size, size_t to)
{
    return (size + to - 1) / to * to;
}

static void *alloc_with(size_t size, int more_flags)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | more_flags;
    if (size < SDB_LARGE)
        return aligned_alloc(SDB_LARGE_ALIGN, round_up(size, SDB_LARGE_ALIGN));
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *sdb_large_alloc(size_t size)
{
    return alloc_with(size, MAP_POPULATE);
}

void *sdb_large_alloc_bare(size_t size)
{
    return alloc_with(size, 0);
}

void sdb_large_populate(void *p, size_t size)
{
    (void)madvise(p, size, MADV_POPULATE_WRITE);
}

void sdb_large_free(void *p, size_t size)
{
    if (size < SDB_LARGE)
        free(p);
    else if (p != NULL)
        (void)munmap(p, size);
}

void *sdb_large_grow(void *p, size_t old_size, size_t size)
{
    if (p != NULL && old_size >= SDB_LARGE) {
        void *moved = mremap(p, old_size, size, MREMAP_MAYMOVE);
        return moved == MAP_FAILED ? NULL : moved;
    }
    void *grown = sdb_large_alloc(size);
    if (grown != NULL && p != NULL) {
        memcpy(grown, p, old_size);
        free(p);
    }
    return grown;
}

size_t sdb_large_bytes(const void *p, size_t size)
{
    if (p == NULL || size < SDB_LARGE)
        return sdb_heap_bytes(p);
    return round_up(size, SDB_PAGE);
}
