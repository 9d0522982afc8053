/*
 * Change feeds.
 *
 *   log record      | batch of revision 7 | batch 8 | batch 9 |       one for each commit group
 *   batch           | op 0 | op 1 | op 2 |                            one change each
 *
 * A feed takes records from the log's tail as soon as readers may see them (`visible`), and takes
 * them apart op by op; slices point into the tail's buffer. It holds no log back and no memory
 * while there is nothing to read.
 *
 * Waiting. A feed that waits, as a thread or with a callback, is linked into db->feeds.waiters with
 * the revision that it waits for. Who publishes looks at the number of waiters only; if there are
 * any it walks the list, after it has passed the write turn on and without db->mu. No wake-up is
 * lost: the waiter counts itself in before it looks at `visible`, the publisher stores `visible`
 * before it looks at the count, and all four are seq_cst, so at least one of them sees the other.
 *
 *   idle -> waiters -> (due -> called) -> idle
 *
 * Callbacks run without feeds.mu, because they hand over to threads that may be about to register
 * other feeds. Taking a request back therefore waits until none of the feed's callbacks runs.
 */
#include "lsm/db/feed.h"

#include <stdlib.h>

#include "lsm/db/db.h"
#include "lsm/db/value.h"
#include "lsm/wal/tail.h"
#include "os/thread.h"

struct sdb_feed {
    struct storm_feed base;
    struct sdb_wal_tail tail;
    uint64_t from;    /* what comes before was not asked for */
    uint64_t visible; /* as last seen */

    /* What is left of the record at hand. */
    struct sdb_cursor batches;
    uint32_t batch_count;
    uint64_t next_revision; /* of the next batch */
    struct sdb_cursor ops;
    uint64_t revision; /* of ops */
    size_t index;      /* of the next op */

    /* All below: feeds.mu. */
    struct sdb_feed_link link; /* prev NULL = in no ring */
    bool is_due;               /* in the ring of those that are about to be called */
    uint64_t wanted;
    void (*ready)(void *ctx); /* NULL: a thread waits */
    void *ready_ctx;
    unsigned calls; /* of ready that are running */
    bool is_interrupted;
    pthread_cond_t woken; /* wakes the thread: something to read, or an interrupt */
};

static struct sdb_feed *sdb_feed(storm_feed *feed)
{
    return (struct sdb_feed *)feed;
}

static struct sdb_feeds *feeds_of(struct sdb_feed *feed)
{
    return &sdb_lsm(feed->base.db)->feeds;
}

/* ---- The rings; mu is held ---- */

static void ring_init(struct sdb_feed_link *head)
{
    *head = (struct sdb_feed_link){head, head, NULL};
}

static void link_last(struct sdb_feed_link *head, struct sdb_feed_link *link)
{
    link->prev = head->prev;
    link->next = head;
    head->prev->next = link;
    head->prev = link;
}

static void unlink_feed(struct sdb_feed_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = NULL;
}

void sdb_feeds_init(struct sdb_feeds *feeds)
{
    pthread_mutex_init(&feeds->mu, NULL);
    pthread_cond_init(&feeds->called, NULL);
    ring_init(&feeds->waiters);
    ring_init(&feeds->due);
}

void sdb_feeds_fini(struct sdb_feeds *feeds)
{
    pthread_mutex_destroy(&feeds->mu);
    pthread_cond_destroy(&feeds->called);
}

/* ---- Opening ---- */

storm_status sdb_lsm_feed_open(storm_db *base, uint64_t from, storm_feed **out)
{
    struct sdb_lsm *db = sdb_lsm(base);
    struct sdb_wal_place end;
    struct sdb_feed *feed;
    /* Under mu nothing is published, so the log's end and `visible` belong together. */
    pthread_mutex_lock(&db->mu);
    uint64_t visible = atomic_load_explicit(&db->visible, memory_order_acquire);
    end = sdb_wal_history_end(db->history);
    pthread_mutex_unlock(&db->mu);
    uint64_t oldest = sdb_wal_history_oldest(db->history);
    if (from == 0)
        from = oldest != 0 && oldest <= visible ? oldest : visible + 1;
    if (from <= visible && (oldest == 0 || from < oldest))
        return STORM_GONE;
    feed = calloc(1, sizeof *feed);
    if (feed == NULL)
        return STORM_NO_MEMORY;
    if (sdb_cond_init(&feed->woken) != 0) {
        free(feed);
        return STORM_NO_MEMORY;
    }
    feed->base.db = base;
    feed->link.feed = feed;
    feed->from = from;
    feed->visible = visible;
    sdb_wal_tail_init(&feed->tail, db->history, from, from == visible + 1 ? &end : NULL);
    pthread_mutex_lock(&db->feeds.mu);
    db->feeds.open++;
    pthread_mutex_unlock(&db->feeds.mu);
    *out = &feed->base;
    return STORM_OK;
}

/* ---- Reading ---- */

static storm_status refuse(struct sdb_feed *feed, const char *what)
{
    feed->ops = (struct sdb_cursor){0};
    feed->batch_count = 0;
    return sdb_wal_tail_refuse(&feed->tail, what);
}

static storm_status next_op(struct sdb_feed *feed, struct storm_change *change)
{
    struct sdb_batch_op op;
    bool is_sound = sdb_batch_next(&feed->ops, &op);
    if (is_sound) {
        change->revision = feed->revision;
        change->index = feed->index++;
        change->is_last = sdb_cursor_left(&feed->ops) == 0;
        change->key = op.key;
        /* The one place where kinds in the log become kinds of changes. */
        switch (op.kind) {
        case SDB_KIND_PUT:
            change->kind = STORM_PUT;
            is_sound = sdb_value_parse(op.value, &change->meta, &change->value);
            break;
        case SDB_KIND_DELETE:
            change->kind = STORM_DELETE;
            break;
        case SDB_KIND_DELETE_RANGE:
            change->kind = STORM_DELETE_RANGE;
            change->end = op.value;
            break;
        }
    }
    if (is_sound)
        return STORM_OK;
    *change = (struct storm_change){0};
    return refuse(feed, "an operation makes no sense");
}

/* Take the next batch of the record; those before `from` are passed by. */
static storm_status next_batch(struct sdb_feed *feed)
{
    struct storm_slice ops;
    uint32_t size;
    if (!sdb_read_u32(&feed->batches, &size) || !sdb_read_bytes(&feed->batches, size, &ops))
        return refuse(feed, "a batch is longer than its record");
    feed->batch_count--;
    feed->revision = feed->next_revision++;
    feed->index = 0;
    if (feed->revision >= feed->from)
        feed->ops = sdb_cursor(ops);
    return STORM_OK;
}

/* Take the next record, if readers may see it. */
static storm_status next_record(struct sdb_feed *feed)
{
    struct sdb_lsm *db = sdb_lsm(feed->base.db);
    struct sdb_wal_batches batches;
    if (feed->visible < feed->tail.next)
        feed->visible = atomic_load_explicit(&db->visible, memory_order_acquire);
    if (feed->visible < feed->tail.next) {
        sdb_wal_tail_rest(&feed->tail);
        return STORM_NOT_FOUND;
    }
    storm_status status = sdb_wal_tail_record(&feed->tail, &batches);
    if (status != STORM_OK)
        return status;
    feed->batches = sdb_cursor(batches.payload);
    feed->batch_count = batches.count;
    feed->next_revision = batches.first_revision;
    return STORM_OK;
}

storm_status sdb_lsm_feed_next(storm_feed *base, struct storm_change *change)
{
    struct sdb_feed *feed = sdb_feed(base);
    for (;;) {
        if (sdb_cursor_left(&feed->ops) != 0)
            return next_op(feed, change);
        storm_status status = feed->batch_count != 0 ? next_batch(feed) : next_record(feed);
        if (status != STORM_OK)
            return status;
    }
}

/* ---- Waiting ---- */

/*
 * Register the feed for what it has not yet shown, unless there is something already: false.
 * mu is held.
 */
static bool wait_for(struct sdb_lsm *db, struct sdb_feed *feed, void (*ready)(void *ctx), void *ctx)
{
    if (sdb_cursor_left(&feed->ops) != 0 || feed->batch_count != 0)
        return false;
    feed->wanted = feed->tail.next;
    feed->ready = ready;
    feed->ready_ctx = ctx;
    atomic_fetch_add_explicit(&db->feeds.waiting, 1, memory_order_seq_cst);
    /* Either this sees what is being published, or the publisher sees the count just raised. */
    if (atomic_load_explicit(&db->visible, memory_order_seq_cst) >= feed->wanted) {
        atomic_fetch_sub_explicit(&db->feeds.waiting, 1, memory_order_relaxed);
        return false;
    }
    link_last(&db->feeds.waiters, &feed->link);
    return true;
}

/* Take the feed out of the list of waiters, or of those that are about to be called. mu is held. */
static void withdraw(struct sdb_lsm *db, struct sdb_feed *feed)
{
    unlink_feed(&feed->link);
    if (!feed->is_due)
        atomic_fetch_sub_explicit(&db->feeds.waiting, 1, memory_order_relaxed);
    feed->is_due = false;
}

/* Call what is due. mu is held, not during the calls. */
static void call_due(struct sdb_feeds *feeds)
{
    while (feeds->due.next != &feeds->due) {
        struct sdb_feed *feed = feeds->due.next->feed;
        void (*ready)(void *ctx) = feed->ready;
        void *ctx = feed->ready_ctx;
        unlink_feed(&feed->link);
        feed->is_due = false;
        feed->calls++;
        pthread_mutex_unlock(&feeds->mu);
        ready(ctx);
        pthread_mutex_lock(&feeds->mu);
        /* The feed cannot be closed before this. */
        feed->calls--;
        pthread_cond_broadcast(&feeds->called);
    }
}

void sdb_feeds_wake_due(struct sdb_lsm *db)
{
    struct sdb_feeds *feeds = &db->feeds;
    uint64_t visible = atomic_load_explicit(&db->visible, memory_order_acquire);
    pthread_mutex_lock(&feeds->mu);
    struct sdb_feed_link *next;
    for (struct sdb_feed_link *link = feeds->waiters.next; link != &feeds->waiters; link = next) {
        struct sdb_feed *feed = link->feed;
        next = link->next;
        if (feed->wanted > visible)
            continue;
        withdraw(db, feed);
        feed->is_due = feed->ready != NULL;
        if (feed->is_due)
            link_last(&feeds->due, link);
        else
            pthread_cond_signal(&feed->woken);
    }
    call_due(feeds);
    pthread_mutex_unlock(&feeds->mu);
}

storm_status sdb_lsm_feed_wait(storm_feed *base, unsigned timeout_ms)
{
    struct sdb_feed *feed = sdb_feed(base);
    struct sdb_lsm *db = sdb_lsm(base->db);
    struct sdb_feeds *feeds = &db->feeds;
    uint64_t end = sdb_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
    storm_status status = STORM_OK;
    pthread_mutex_lock(&feeds->mu);
    if (!feed->is_interrupted && wait_for(db, feed, NULL, NULL)) {
        bool is_over = false;
        while (feed->link.prev != NULL && !feed->is_interrupted && !is_over) {
            uint64_t now = sdb_monotonic_ns();
            is_over = now >= end || !sdb_cond_wait_ns(&feed->woken, &feeds->mu, end - now);
        }
        if (feed->link.prev != NULL) {
            withdraw(db, feed);
            status = STORM_TIMED_OUT;
        }
    }
    if (feed->is_interrupted)
        status = STORM_CANCELLED;
    feed->is_interrupted = false;
    pthread_mutex_unlock(&feeds->mu);
    return status;
}

void sdb_lsm_feed_interrupt(storm_feed *base)
{
    struct sdb_feed *feed = sdb_feed(base);
    struct sdb_feeds *feeds = feeds_of(feed);
    pthread_mutex_lock(&feeds->mu);
    feed->is_interrupted = true;
    pthread_cond_signal(&feed->woken);
    pthread_mutex_unlock(&feeds->mu);
}

storm_status sdb_lsm_feed_notify(storm_feed *base, void (*ready)(void *ctx), void *ctx)
{
    struct sdb_feed *feed = sdb_feed(base);
    struct sdb_lsm *db = sdb_lsm(base->db);
    struct sdb_feeds *feeds = &db->feeds;
    storm_status status = STORM_OK;
    pthread_mutex_lock(&feeds->mu);
    if (feed->link.prev != NULL)
        withdraw(db, feed);
    if (ready == NULL) {
        while (feed->calls != 0)
            pthread_cond_wait(&feeds->called, &feeds->mu);
    } else if (wait_for(db, feed, ready, ctx)) {
        status = STORM_PENDING;
    }
    pthread_mutex_unlock(&feeds->mu);
    return status;
}

/* ---- Closing, figures ---- */

void sdb_lsm_feed_close(storm_feed *base)
{
    struct sdb_feed *feed = sdb_feed(base);
    struct sdb_feeds *feeds = feeds_of(feed);
    (void)sdb_lsm_feed_notify(base, NULL, NULL);
    pthread_mutex_lock(&feeds->mu);
    feeds->open--;
    pthread_mutex_unlock(&feeds->mu);
    sdb_wal_tail_fini(&feed->tail);
    pthread_cond_destroy(&feed->woken);
    free(feed);
}

void sdb_feeds_stats(struct sdb_lsm *db, struct storm_stats *stats)
{
    uint64_t oldest = sdb_wal_history_oldest(db->history);
    stats->feed_oldest_revision = oldest <= stats->revision ? oldest : 0;
    pthread_mutex_lock(&db->feeds.mu);
    stats->feeds = db->feeds.open;
    pthread_mutex_unlock(&db->feeds.mu);
}
