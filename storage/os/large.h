/*
 * Memory in large pieces that is to be gone when it is given back.
 *
 * The heap keeps what is freed between things that live on, and with each large piece that is freed
 * it raises the size from which it asks the kernel itself (glibc: up to 32 MiB). A store that once
 * had 64 MiB of memtables would stay that large, and its figures would say nothing of the process.
 * So pieces from SDB_LARGE on are pages of the kernel's own and go back to it at once. Whoever
 * takes one is about to fill it, so the pages come with it: 0.2 us each, where a fault would cost
 * 0.5 us. Smaller pieces come from the heap.
 *
 * Whoever frees says the size. All pieces are aligned to a cache line. Threads: any.
 */
#ifndef SDB_OS_LARGE_H
#define SDB_OS_LARGE_H

#include <stddef.h>

enum { SDB_LARGE = 64 << 10, SDB_LARGE_ALIGN = 64, SDB_PAGE = 4096 };

/* Contents undefined; NULL when out of memory. `size` is not 0 and at most SIZE_MAX / 2. */
void *sdb_large_alloc(size_t size);
/* NULL is ignored. Pieces of SDB_LARGE and more that lie in a row may go as one, whose size is the
 * sum of what sdb_large_bytes() says of each. */
void sdb_large_free(void *p, size_t size);

/*
 * The same for what is filled bit by bit: from SDB_LARGE on its pages come when they are touched,
 * so that nobody waits for all of them at once, or with sdb_large_populate(): those of [p, p +
 * size), whole pages, which are about to be filled. That cannot fail, it only saves faults.
 */
void *sdb_large_alloc_bare(size_t size);
void sdb_large_populate(void *p, size_t size);

/* A larger piece (`size` > `old_size`) with the contents of `p`, which is gone (NULL: nothing was
 * there); NULL when out of memory, and then `p` is as it was. */
void *sdb_large_grow(void *p, size_t old_size, size_t size);

/* What it takes, for an account (util/account.h); 0 for NULL. */
size_t sdb_large_bytes(const void *p, size_t size);

#endif
