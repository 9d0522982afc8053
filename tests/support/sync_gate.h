/*
 * A gate in front of every sync of a simulated disk: while it is shut they wait, so that a test can
 * do what it likes while the disk is slow. One for the program.
 */
#ifndef TEST_SYNC_GATE_H
#define TEST_SYNC_GATE_H

#include <pthread.h>

#include "os/os.h"

static struct {
    pthread_mutex_t mu;
    pthread_cond_t cond;
    bool is_shut; /* for threads that are `gated` */
    bool for_all; /* for every thread */
    bool for_one; /* of those, for the first that comes only */
    bool is_late; /* it stands behind the disk, not before it */
    unsigned waiting;
    storm_status (*sync)(struct sdb_file *file);
} gate = {.mu = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

static _Thread_local bool is_gated;

static inline storm_status gated_sync(struct sdb_file *file)
{
    pthread_mutex_lock(&gate.mu);
    bool is_late = gate.is_late;
    pthread_mutex_unlock(&gate.mu);
    storm_status status = is_late ? gate.sync(file) : STORM_OK;
    pthread_mutex_lock(&gate.mu);
    bool passes = gate.for_one && gate.waiting != 0;
    gate.waiting++;
    pthread_cond_broadcast(&gate.cond);
    while (gate.is_shut && !passes && (is_gated || gate.for_all))
        pthread_cond_wait(&gate.cond, &gate.mu);
    gate.waiting--;
    pthread_mutex_unlock(&gate.mu);
    return is_late ? status : gate.sync(file);
}

static inline void gate_set(bool is_shut, bool for_all)
{
    pthread_mutex_lock(&gate.mu);
    gate.is_shut = is_shut;
    gate.for_one = false;
    gate.is_late = false;
    gate.for_all = for_all;
    pthread_cond_broadcast(&gate.cond);
    pthread_mutex_unlock(&gate.mu);
}

/* Shut for all, behind the disk: what is written while a sync waits is not covered by it. */
static inline void gate_shut_late(void)
{
    gate_set(true, true);
    pthread_mutex_lock(&gate.mu);
    gate.is_late = true;
    pthread_mutex_unlock(&gate.mu);
}

/* Shut for the next sync, whoever makes it; those that come meanwhile pass. */
static inline void gate_shut_for_one(void)
{
    gate_set(true, true);
    pthread_mutex_lock(&gate.mu);
    gate.for_one = true;
    pthread_mutex_unlock(&gate.mu);
}

static inline void gate_wait(void)
{
    pthread_mutex_lock(&gate.mu);
    while (gate.waiting == 0)
        pthread_cond_wait(&gate.cond, &gate.mu);
    pthread_mutex_unlock(&gate.mu);
}

/* Put the gate, open, before the disk of `os`: every disk has a table of calls of its own. */
static inline void gate_init(struct sdb_os *os)
{
    struct sdb_os_ops *ops = (struct sdb_os_ops *)(uintptr_t)os->ops;
    gate.sync = ops->sync;
    ops->sync = gated_sync;
    gate_set(false, false);
}

#endif
