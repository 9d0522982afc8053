/*
 * Running out of memory on purpose. Every allocation that the library and the tests make is counted
 * (malloc, calloc, realloc, aligned_alloc, posix_memalign, strdup, strndup, and of mmap and mremap
 * what is anonymous; through the linker's --wrap, so it works with the sanitizers too); the one of
 * your choice fails as the real one would.
 * What other libraries allocate inside themselves is neither counted nor failed.
 *
 * To walk through all failures of one operation:
 *
 *     uint64_t nth = 0;
 *     do {
 *         alloc_fail_at(++nth, false);
 *         status = operation();
 *         alloc_fail_at(0, false);
 *         ... status is STORM_OK or STORM_NO_MEMORY, nothing leaked, nothing changed ...
 *     } while (alloc_failures() > 0);
 *
 * Threads: the counters are atomic and belong to the process: with several threads allocating,
 * which of them meets the failure is up to the scheduler.
 */
#ifndef TEST_ALLOC_FAIL_H
#define TEST_ALLOC_FAIL_H

#include <stdbool.h>
#include <stdint.h>

/* The `nth` allocation from now (1 = the next one) fails, and with `for_ever` all that follow it.
 * 0 = no failures any more. */
void alloc_fail_at(uint64_t nth, bool for_ever);

/* Allocations made since the process began, failed ones included. */
uint64_t alloc_count(void);

/* Allocations failed since the last alloc_fail_at() with nth > 0. */
uint64_t alloc_failures(void);

#endif
