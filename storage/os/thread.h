/*
 * Waiting with a time limit, on the monotonic clock. Other uses of mutexes and condition variables
 * are plain pthreads. And a number that tells threads apart.
 */
#ifndef SDB_OS_THREAD_H
#define SDB_OS_THREAD_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "util/hash.h"

/* A condition variable for sdb_cond_wait_ns. Returns 0 or an errno value. */
static inline int sdb_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    int error = pthread_condattr_init(&attributes);
    if (error != 0)
        return error;
    error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (error == 0)
        error = pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
    return error;
}

static inline uint64_t sdb_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Wait at most `ns`; false when the time is over. `cond` was set up by sdb_cond_init. */
static inline bool sdb_cond_wait_ns(pthread_cond_t *cond, pthread_mutex_t *mu, uint64_t ns)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t nanoseconds = (uint64_t)until.tv_nsec + ns;
    until.tv_sec += (time_t)(nanoseconds / 1000000000);
    until.tv_nsec = (long)(nanoseconds % 1000000000);
    return pthread_cond_timedwait(cond, mu, &until) != ETIMEDOUT;
}

/*
 * A number of this thread's own, well spread: for counters of which there are several so that threads
 * do not write the same line of memory. Two threads may have the same.
 */
static inline unsigned sdb_thread_slot(void)
{
    return (unsigned)(sdb_mix64((uint64_t)pthread_self()) >> 32);
}

#endif
