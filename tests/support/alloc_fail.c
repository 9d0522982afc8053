/*
 * The linker turns every call of malloc into one of __wrap_malloc, and __real_malloc into the real
 * one: see the link options in tests/CMakeLists.txt, which must name each function wrapped here.
 *
 * `fail_from` and `fail_to` bound the numbers of the allocations to fail: none while fail_from is
 * 0. Relaxed order is enough: a test arms before it starts threads and reads after it joined them.
 */
#include "alloc_fail.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__real_mremap(void *old, size_t old_size, size_t size, int flags);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **to, size_t alignment, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);

void *__wrap_malloc(size_t size);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mremap(void *old, size_t old_size, size_t size, int flags);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **to, size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);

static _Atomic uint64_t made;
static _Atomic uint64_t failed;
static _Atomic uint64_t fail_from;
static _Atomic uint64_t fail_to;

void alloc_fail_at(uint64_t nth, bool for_ever)
{
    uint64_t from = nth == 0 ? 0 : alloc_count() + nth;
    if (nth > 0)
        atomic_store_explicit(&failed, 0, memory_order_relaxed);
    atomic_store_explicit(&fail_to, for_ever ? UINT64_MAX : from, memory_order_relaxed);
    atomic_store_explicit(&fail_from, from, memory_order_relaxed);
}

uint64_t alloc_count(void)
{
    return atomic_load_explicit(&made, memory_order_relaxed);
}

uint64_t alloc_failures(void)
{
    return atomic_load_explicit(&failed, memory_order_relaxed);
}

/* Count one allocation; whether it is to fail. */
static bool fails(void)
{
    uint64_t number = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) + 1;
    uint64_t from = atomic_load_explicit(&fail_from, memory_order_relaxed);
    if (from == 0 || number < from || number > atomic_load_explicit(&fail_to, memory_order_relaxed))
        return false;
    atomic_fetch_add_explicit(&failed, 1, memory_order_relaxed);
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

/* Memory when no file is behind it (os/large.h). */
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if ((flags & MAP_ANONYMOUS) != 0 && fails())
        return MAP_FAILED;
    return __real_mmap(at, size, protection, flags, fd, offset);
}

/* Pages that grow always may move here, so there is no fifth argument. */
void *__wrap_mremap(void *old, size_t old_size, size_t size, int flags)
{
    return fails() ? MAP_FAILED : __real_mremap(old, old_size, size, flags);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **to, size_t alignment, size_t size)
{
    return fails() ? ENOMEM : __real_posix_memalign(to, alignment, size);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t size)
{
    return fails() ? NULL : __real_strndup(text, size);
}
