/*
 * Change feeds beside writers, flushes and each other: nothing is missed, nothing is wrong, nobody
 * polls, and a callback that was taken back does not come.
 */
#include "store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "feed_kit.h"

/* On other threads than the test's own cmocka's assertions only end the program. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: %s does not hold\n", __LINE__, #condition);                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { SEGMENT = 32 << 10, WRITERS = 3, VALUE = 300, REVISIONS = 20000 };

struct shared {
    struct store store;
    unsigned writes; /* of each writer */
    unsigned pause_us;
    _Atomic unsigned writing; /* writers that have not ended */
    _Atomic uint64_t wrote[REVISIONS];
    _Atomic uint64_t gone, changes;
};

static void shared_init(struct shared *shared, uint64_t retention_bytes, unsigned writes)
{
    memset(shared, 0, sizeof *shared);
    store_init(&shared->store, 1);
    shared->store.tuning = feed_tuning(SEGMENT);
    shared->store.options.log_retention_bytes = retention_bytes;
    store_open(&shared->store);
    shared->writes = writes;
    shared->writing = WRITERS;
}

struct writer {
    struct shared *shared;
    uint32_t number;
    pthread_t thread;
};

/* All of a value follows from its first eight bytes: the writer's number and its count of
 * writes. */
static void fill(uint8_t *value, uint64_t stamp)
{
    uint64_t state = stamp;
    memcpy(value, &stamp, 8);
    for (size_t i = 8; i < VALUE; i++)
        value[i] = (uint8_t)(i % 16 == 8 ? random_u64(&state) : value[i - 1] + 3u);
}

static void *write_all(void *arg)
{
    struct writer *writer = arg;
    struct shared *shared = writer->shared;
    uint8_t value[VALUE];
    char key[16];
    for (unsigned i = 0; i < shared->writes; i++) {
        uint64_t revision, stamp = (uint64_t)writer->number << 32 | (i + 1);
        struct storm_write_options options = {.sync =
                                                  i % 16 == 0 ? STORM_SYNC_FULL : STORM_SYNC_NONE};
        storm_batch *batch = storm_batch_create();
        fill(value, stamp);
        MUST(storm_batch_put(batch, feed_key(i % 50, key), storm_bytes(value, VALUE)) == STORM_OK);
        MUST(storm_batch_delete(batch, feed_key(i % 50 + 100, key)) == STORM_OK);
        MUST(storm_write(shared->store.db, batch, &options, &revision) == STORM_OK);
        MUST(revision < REVISIONS);
        atomic_store(&shared->wrote[revision], stamp);
        storm_batch_destroy(batch);
        if (shared->pause_us != 0)
            nanosleep(&(struct timespec){.tv_nsec = shared->pause_us * 1000L}, NULL);
    }
    atomic_fetch_sub(&shared->writing, 1);
    return NULL;
}

static void start_writers(struct shared *shared, struct writer writers[WRITERS])
{
    for (uint32_t i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){shared, i + 1, 0};
        assert_int_equal(pthread_create(&writers[i].thread, NULL, write_all, &writers[i]), 0);
    }
}

static void join_writers(struct writer writers[WRITERS])
{
    for (uint32_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_join(writers[i].thread, NULL), 0);
}

struct reader {
    struct shared *shared;
    unsigned slowness; /* sleeps after every so many changes; 0 = never */
    bool may_be_gone;
    uint64_t waits, vain_waits;
    uint64_t *seen; /* stamps by revision */
    pthread_t thread;
};

/* One change: what is expected next, whole. */
static void check_change(struct reader *reader, const struct storm_change *change, uint64_t *next,
                         size_t *index)
{
    uint8_t value[VALUE];
    MUST(change->revision == *next);
    MUST(change->index == *index);
    MUST(change->is_last == (*index == 1));
    MUST(change->kind == (*index == 0 ? STORM_PUT : STORM_DELETE));
    if (*index == 0) {
        uint64_t stamp;
        MUST(change->value.size == VALUE);
        memcpy(&stamp, change->value.data, 8);
        fill(value, stamp);
        MUST(memcmp(change->value.data, value, VALUE) == 0);
        reader->seen[change->revision] = stamp;
    }
    *index = 1 - *index;
    *next += *index == 0;
}

static void *read_all(void *arg)
{
    struct reader *reader = arg;
    struct shared *shared = reader->shared;
    uint64_t last = WRITERS * (uint64_t)shared->writes, next = 1, count = 0;
    size_t index = 0;
    storm_feed *feed;
    bool has_waited = false;
    bool is_lost = reader->may_be_gone; /* where it begins is found out by reading */
    MUST(storm_feed_open(shared->store.db, is_lost ? 0 : 1, &feed) == STORM_OK);
    while (next <= last) {
        struct storm_change change;
        storm_status status = storm_feed_next(feed, &change);
        if (status == STORM_NOT_FOUND) {
            reader->vain_waits += has_waited;
            status = storm_feed_wait(feed, is_lost ? 500 : 60000);
            if (is_lost && status == STORM_TIMED_OUT)
                break; /* it begins behind the last write */
            MUST(status == STORM_OK);
            reader->waits++;
            has_waited = true;
            continue;
        }
        has_waited = false;
        if (status == STORM_GONE && reader->may_be_gone) {
            atomic_fetch_add(&shared->gone, 1);
            storm_feed_close(feed);
            MUST(storm_feed_open(shared->store.db, 0, &feed) == STORM_OK);
            is_lost = true;
            continue;
        }
        MUST(status == STORM_OK);
        if (is_lost) {
            MUST(change.revision >= next);
            next = change.revision;
            index = 0;
            is_lost = false;
        }
        check_change(reader, &change, &next, &index);
        atomic_fetch_add(&shared->changes, 1);
        if (reader->slowness != 0 && ++count % reader->slowness == 0)
            nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
    }
    storm_feed_close(feed);
    return NULL;
}

static void read_beside_writers(struct shared *shared, struct reader *readers, size_t count)
{
    struct writer writers[WRITERS];
    for (size_t i = 0; i < count; i++) {
        readers[i].shared = shared;
        readers[i].seen = calloc(REVISIONS, sizeof *readers[i].seen);
        assert_non_null(readers[i].seen);
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_all, &readers[i]), 0);
    }
    start_writers(shared, writers);
    while (atomic_load(&shared->writing) != 0)
        assert_int_equal(storm_flush(shared->store.db, NULL), STORM_OK);
    join_writers(writers);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
        for (uint64_t r = 1; r < REVISIONS; r++) {
            uint64_t wrote = atomic_load(&shared->wrote[r]);
            if (readers[i].may_be_gone && readers[i].seen[r] == 0)
                continue;
            assert_int_equal(readers[i].seen[r], wrote);
        }
        free(readers[i].seen);
    }
}

static struct shared shared;

static void every_feed_sees_all_and_none_wakes_in_vain(void **state)
{
    struct reader readers[3] = {0};
    (void)state;
    shared_init(&shared, 1 << 30, 1500);
    read_beside_writers(&shared, readers, 3);
    assert_int_equal(atomic_load(&shared.changes), 3 * 2 * WRITERS * 1500);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(readers[i].vain_waits, 0);
        assert_true(readers[i].waits <= WRITERS * 1500);
    }
    store_fini(&shared.store);
}

static void a_feed_that_is_recycled_under_its_reader_is_gone_not_wrong(void **state)
{
    (void)state;
    uint64_t gone = 0;
    for (int round = 0; round < 4; round++) {
        struct reader readers[3] = {{.slowness = 7, .may_be_gone = true},
                                    {.slowness = 60, .may_be_gone = true},
                                    {.may_be_gone = true}};
        shared_init(&shared, round % 2 == 0 ? 0 : SEGMENT, 1500);
        read_beside_writers(&shared, readers, 3);
        gone += atomic_load(&shared.gone);
        store_fini(&shared.store);
    }
    print_message("%llu times overtaken\n", (unsigned long long)gone);
    assert_true(gone > 0);
}

/* ---- Callbacks ---- */

enum { WATCHERS = 100 };

struct watcher {
    pthread_mutex_t mu;
    storm_feed *feed;
    bool may_be_called; /* mu */
    uint64_t calls;     /* mu */
    uint64_t changes, next;
};

static void on_ready(void *ctx)
{
    struct watcher *watcher = ctx;
    pthread_mutex_lock(&watcher->mu);
    MUST(watcher->may_be_called);
    watcher->may_be_called = false; /* once */
    watcher->calls++;
    pthread_mutex_unlock(&watcher->mu);
}

static void set_callable(struct watcher *watcher, bool is)
{
    pthread_mutex_lock(&watcher->mu);
    watcher->may_be_called = is;
    pthread_mutex_unlock(&watcher->mu);
}

static void drain(struct watcher *watcher)
{
    struct storm_change change;
    storm_status status;
    while ((status = storm_feed_next(watcher->feed, &change)) == STORM_OK) {
        MUST(change.revision == watcher->next);
        watcher->next += change.is_last;
        watcher->changes++;
    }
    MUST(status == STORM_NOT_FOUND);
}

static void *watch(void *arg)
{
    struct watcher *watchers = arg;
    uint64_t random = (uintptr_t)arg;
    while (atomic_load(&shared.writing) != 0) {
        struct watcher *watcher = &watchers[random_below(&random, WATCHERS)];
        switch (random_below(&random, 5)) {
        case 0: /* close and open again where it was */
            storm_feed_close(watcher->feed);
            set_callable(watcher, false);
            MUST(storm_feed_open(shared.store.db, watcher->next, &watcher->feed) == STORM_OK);
            break;
        case 1: /* take back */
            MUST(storm_feed_notify(watcher->feed, NULL, NULL) == STORM_OK);
            set_callable(watcher, false);
            break;
        case 2:
            drain(watcher);
            break;
        default:
            MUST(storm_feed_notify(watcher->feed, NULL, NULL) == STORM_OK);
            set_callable(watcher, true);
            if (storm_feed_notify(watcher->feed, on_ready, watcher) == STORM_OK)
                set_callable(watcher, false);
            break;
        }
    }
    return NULL;
}

static void callbacks_come_once_whatever_races_with_them(void **state)
{
    static struct watcher watchers[2][WATCHERS];
    pthread_t threads[2];
    struct writer writers[WRITERS];
    uint64_t calls = 0;
    (void)state;
    shared_init(&shared, 1 << 30, 1500);
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < WATCHERS; i++) {
            watchers[t][i] = (struct watcher){.next = 1};
            pthread_mutex_init(&watchers[t][i].mu, NULL);
            assert_int_equal(storm_feed_open(shared.store.db, 1, &watchers[t][i].feed), STORM_OK);
        }
        assert_int_equal(pthread_create(&threads[t], NULL, watch, watchers[t]), 0);
    }
    start_writers(&shared, writers);
    join_writers(writers);
    for (int t = 0; t < 2; t++)
        assert_int_equal(pthread_join(threads[t], NULL), 0);
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < WATCHERS; i++) {
            struct watcher *watcher = &watchers[t][i];
            drain(watcher);
            assert_int_equal(watcher->next, WRITERS * 1500 + 1);
            /* A last request, which the last write answers. */
            assert_int_equal(storm_feed_notify(watcher->feed, NULL, NULL), STORM_OK);
            set_callable(watcher, true);
            assert_int_equal(storm_feed_notify(watcher->feed, on_ready, watcher), STORM_PENDING);
            calls += watcher->calls;
            watcher->calls = 0;
        }
    }
    print_message("%llu callbacks\n", (unsigned long long)calls);
    assert_true(calls > 0);
    assert_int_equal(put_text(shared.store.db, "the last", "write"), STORM_OK);
    for (int t = 0; t < 2; t++) {
        for (int i = 0; i < WATCHERS; i++) {
            storm_feed_close(watchers[t][i].feed);
            assert_int_equal(watchers[t][i].calls, 1);
            pthread_mutex_destroy(&watchers[t][i].mu);
        }
    }
    store_fini(&shared.store);
}

struct slow_call {
    _Atomic bool has_begun, has_ended;
};

static void take_time(void *ctx)
{
    struct slow_call *call = ctx;
    atomic_store(&call->has_begun, true);
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    atomic_store(&call->has_ended, true);
}

static void taking_back_waits_for_a_callback_that_runs(void **state)
{
    (void)state;
    for (int closes = 0; closes < 2; closes++) {
        struct slow_call call = {0};
        struct writer writers[WRITERS];
        storm_feed *feed;
        shared_init(&shared, 1 << 20, 1);
        assert_int_equal(storm_feed_open(shared.store.db, 0, &feed), STORM_OK);
        assert_int_equal(storm_feed_notify(feed, take_time, &call), STORM_PENDING);
        start_writers(&shared, writers);
        while (!atomic_load(&call.has_begun))
            sched_yield();
        if (closes == 0)
            assert_int_equal(storm_feed_notify(feed, NULL, NULL), STORM_OK);
        else
            storm_feed_close(feed);
        assert_true(atomic_load(&call.has_ended));
        if (closes == 0)
            storm_feed_close(feed);
        join_writers(writers);
        store_fini(&shared.store);
    }
}

/* ---- A thread that waits ---- */

static void *wait_long(void *arg)
{
    struct rusage before, after;
    getrusage(RUSAGE_THREAD, &before);
    storm_status status = storm_feed_wait(arg, 60000);
    getrusage(RUSAGE_THREAD, &after);
    MUST(after.ru_nvcsw - before.ru_nvcsw <= 20);
    return (void *)(intptr_t)-status;
}

static void a_waiting_thread_sleeps_until_it_is_interrupted(void **state)
{
    storm_feed *feed;
    pthread_t thread;
    void *result;
    (void)state;
    shared_init(&shared, 1 << 20, 1);
    assert_int_equal(storm_feed_open(shared.store.db, 0, &feed), STORM_OK);
    assert_int_equal(pthread_create(&thread, NULL, wait_long, feed), 0);
    nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    storm_feed_interrupt(feed);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, -STORM_CANCELLED);
    assert_int_equal(pthread_create(&thread, NULL, wait_long, feed), 0);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    assert_int_equal(put_text(shared.store.db, "wake", "up"), STORM_OK);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, STORM_OK);
    storm_feed_close(feed);
    store_fini(&shared.store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_feed_sees_all_and_none_wakes_in_vain),
        cmocka_unit_test(a_feed_that_is_recycled_under_its_reader_is_gone_not_wrong),
        cmocka_unit_test(callbacks_come_once_whatever_races_with_them),
        cmocka_unit_test(taking_back_waits_for_a_callback_that_runs),
        cmocka_unit_test(a_waiting_thread_sleeps_until_it_is_interrupted),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
