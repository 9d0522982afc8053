/*
 * Change feeds: committed operations in order of revision, read from the log (wal/tail.h), and the
 * waiting for more of them.
 *
 * Threads: a feed belongs to one thread at a time, but for its part in the list of those that wait,
 * which `mu` guards. `mu` is a leaf in the lock order; callbacks are called without it.
 */
#ifndef SDB_LSM_DB_FEED_H
#define SDB_LSM_DB_FEED_H

#include <pthread.h>
#include <stdatomic.h>

#include "storm/storm.h"

struct sdb_lsm;
struct sdb_feed;

/* A place in a ring of feeds. */
struct sdb_feed_link {
    struct sdb_feed_link *prev, *next;
    struct sdb_feed *feed; /* NULL in the ring's head */
};

struct sdb_feeds {
    /* Feeds in `waiters`. Written under mu; the two seq_cst pairs are explained in feed.c. */
    _Atomic size_t waiting;
    pthread_mutex_t mu;
    pthread_cond_t called;        /* wakes who takes a request back: a callback has returned */
    struct sdb_feed_link waiters; /* mu: registered, in no order */
    struct sdb_feed_link due;     /* mu: their callbacks are about to be called */
    size_t open;                  /* mu */
};

void sdb_feeds_init(struct sdb_feeds *feeds);
void sdb_feeds_fini(struct sdb_feeds *feeds);

/* Something was published: wake the feeds that waited for it and call their callbacks. No lock is
 * held. */
void sdb_feeds_wake_due(struct sdb_lsm *db);

/* The same, for one atomic load when nobody waits. */
static inline void sdb_feeds_wake(struct sdb_lsm *db, struct sdb_feeds *feeds)
{
    /* seq_cst: after the publication of `visible`, which is seq_cst too; see wait_for() in
     * feed.c. */
    if (atomic_load_explicit(&feeds->waiting, memory_order_seq_cst) != 0)
        sdb_feeds_wake_due(db);
}

storm_status sdb_lsm_feed_open(storm_db *db, uint64_t from, storm_feed **feed);
void sdb_lsm_feed_close(storm_feed *feed);
storm_status sdb_lsm_feed_next(storm_feed *feed, struct storm_change *change);
storm_status sdb_lsm_feed_wait(storm_feed *feed, unsigned timeout_ms);
void sdb_lsm_feed_interrupt(storm_feed *feed);
storm_status sdb_lsm_feed_notify(storm_feed *feed, void (*ready)(void *ctx), void *ctx);

/* storm_stats.feed_oldest_revision and .feeds. */
void sdb_feeds_stats(struct sdb_lsm *db, struct storm_stats *stats);

#endif
