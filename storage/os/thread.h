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

/* 0 = none yet. In the part of a thread's memory that is at hand without a call, in a shared
 * library too. */
extern _Thread_local unsigned sdb_thread_number __attribute__((tls_model("initial-exec")));
unsigned sdb_thread_number_take(void);

/*
 * A number of this thread's own, for what there are several of so that threads do not write the
 * same line of memory. Threads are numbered in the order in which they first ask, so with n of a
 * kind (slot % n) any n threads that began one after another share none.
 */
static inline unsigned sdb_thread_slot(void)
{
    return sdb_thread_number != 0 ? sdb_thread_number : sdb_thread_number_take();
}

#endif
