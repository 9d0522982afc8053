/*
 * Forcing the order of commits: a test takes the write turn itself, lets writers queue up behind it
 * one by one, and gives it back; they are one group then.
 */
#ifndef TEST_TURN_H
#define TEST_TURN_H

#include <time.h>

#include "lsm/db/db.h"

static inline void pause_us(long us)
{
    struct timespec moment = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    nanosleep(&moment, NULL);
}

static inline void turn_take(struct sdb_lsm *db)
{
    pthread_mutex_lock(&db->mu);
    while (db->turn_taken) {
        pthread_mutex_unlock(&db->mu);
        pause_us(100);
        pthread_mutex_lock(&db->mu);
    }
    db->turn_taken = true;
    pthread_mutex_unlock(&db->mu);
}

static inline void turn_give(struct sdb_lsm *db)
{
    pthread_mutex_lock(&db->mu);
    db->turn_taken = false;
    if (db->head != NULL)
        pthread_cond_signal(db->head->wake != NULL ? db->head->wake : &db->commit_cond);
    pthread_mutex_unlock(&db->mu);
}

static inline void wait_queued(struct sdb_lsm *db, size_t count)
{
    for (size_t queued = 0; queued != count;) {
        pthread_mutex_lock(&db->mu);
        queued = db->queued;
        pthread_mutex_unlock(&db->mu);
        if (queued != count)
            pause_us(100);
    }
}

#endif
