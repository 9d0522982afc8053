/*
 * Change feeds when nothing goes wrong: order, completeness, retention, reopening, waiting. Damage
 * and failing disks are in test_feed_faults.c, races in test_feed_threads.c.
 */
#include "feed_kit.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "alloc_fail.h"

enum { SEGMENT = 32 << 10 };

struct kit {
    struct store store;
    struct journal journal;
};

static void kit_open(struct kit *kit, uint64_t seed, uint64_t retention_bytes)
{
    store_init(&kit->store, seed);
    journal_init(&kit->journal, seed);
    kit->store.tuning = feed_tuning(SEGMENT);
    kit->store.options.log_retention_bytes = retention_bytes;
    store_open(&kit->store);
}

static void kit_close(struct kit *kit)
{
    store_fini(&kit->store);
    journal_fini(&kit->journal);
}

static void write_some(struct kit *kit, size_t count, uint32_t size_max)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(journal_write(&kit->journal, kit->store.db, size_max, STORM_SYNC_NONE),
                         STORM_OK);
}

struct file_count {
    size_t logs, spares;
};

static storm_status count_log(void *ctx, const char *name)
{
    struct file_count *count = ctx;
    size_t size = strlen(name);
    count->logs += size > 4 && strcmp(name + size - 4, ".log") == 0;
    count->spares += size > 6 && strcmp(name + size - 6, ".spare") == 0;
    return STORM_OK;
}

static struct file_count files_of(struct kit *kit)
{
    struct file_count count = {0};
    assert_int_equal(sim_each_file(kit->store.disk, "/db", count_log, &count), STORM_OK);
    return count;
}

static void a_feed_shows_all_that_was_committed_in_order(void **state)
{
    struct kit kit;
    uint64_t seed = random_seed(7);
    (void)state;
    for (uint64_t round = 0; round < 6; round++) {
        kit_open(&kit, seed + round, 1 << 30);
        storm_feed *feed = NULL;
        size_t at = 0;
        for (int step = 0; step < 120; step++) {
            write_some(&kit, random_below(&kit.journal.random, 20), 600);
            if (random_below(&kit.journal.random, 10) == 0)
                assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
            if (feed == NULL)
                assert_int_equal(storm_feed_open(kit.store.db,
                                                 at < kit.journal.count
                                                     ? kit.journal.entries[at].revision
                                                     : kit.journal.revision + 1,
                                                 &feed),
                                 STORM_OK);
            storm_status status =
                journal_follow(&kit.journal, feed, &at, random_below(&kit.journal.random, 60));
            assert_true(status == STORM_OK || status == STORM_NOT_FOUND);
            if (random_below(&kit.journal.random, 15) == 0) {
                storm_feed_close(feed);
                feed = NULL;
                /* Not in the middle of a batch: a feed begins with a whole one. */
                while (at > 0 && at < kit.journal.count && kit.journal.entries[at].index != 0)
                    at--;
                store_close(&kit.store);
                store_open(&kit.store);
            }
        }
        storm_feed_close(feed);
        assert_int_equal(feed_oldest(kit.store.db), 1);
        for (uint64_t from = 1; from <= kit.journal.revision; from += 97)
            journal_check(&kit.journal, kit.store.db, from);
        assert_true(files_of(&kit).logs > 5);
        kit_close(&kit);
    }
}

static void a_feed_begins_at_zero_in_the_present_or_in_the_future(void **state)
{
    struct kit kit;
    storm_feed *empty, *present, *future;
    struct storm_change change;
    size_t at = 0, from_present, from_future;
    (void)state;
    kit_open(&kit, 1, 1 << 30);
    assert_int_equal(feed_oldest(kit.store.db), 0);
    assert_int_equal(storm_feed_open(kit.store.db, 0, &empty), STORM_OK);
    assert_int_equal(storm_feed_next(empty, &change), STORM_NOT_FOUND);
    write_some(&kit, 50, 100);
    assert_int_equal(feed_oldest(kit.store.db), 1);
    assert_int_equal(storm_feed_open(kit.store.db, 51, &present), STORM_OK);
    assert_int_equal(storm_feed_open(kit.store.db, 100, &future), STORM_OK);
    assert_int_equal(storm_feed_next(present, &change), STORM_NOT_FOUND);
    assert_int_equal(storm_feed_next(future, &change), STORM_NOT_FOUND);
    assert_int_equal(storm_feed_wait(future, 1), STORM_TIMED_OUT);
    from_present = kit.journal.count;
    write_some(&kit, 49, 2000); /* over a segment's end */
    assert_int_equal(storm_feed_next(future, &change), STORM_NOT_FOUND);
    assert_int_equal(storm_feed_wait(future, 1), STORM_TIMED_OUT);
    assert_int_equal(storm_feed_wait(present, 0), STORM_OK);
    from_future = kit.journal.count;
    write_some(&kit, 10, 100);
    assert_int_equal(storm_feed_wait(future, 0), STORM_OK);
    assert_int_equal(journal_follow(&kit.journal, empty, &at, SIZE_MAX), STORM_NOT_FOUND);
    assert_int_equal(journal_follow(&kit.journal, present, &from_present, SIZE_MAX),
                     STORM_NOT_FOUND);
    assert_int_equal(journal_follow(&kit.journal, future, &from_future, SIZE_MAX), STORM_NOT_FOUND);
    assert_int_equal(at, kit.journal.count);
    assert_int_equal(from_present, at);
    assert_int_equal(from_future, at);
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(kit.store.db, &stats), STORM_OK);
    assert_int_equal(stats.feeds, 3);
    storm_feed_close(empty);
    storm_feed_close(present);
    storm_feed_close(future);
    assert_int_equal(storm_stats_read(kit.store.db, &stats), STORM_OK);
    assert_int_equal(stats.feeds, 0);
    kit_close(&kit);
}

static void a_touch_shows_as_a_put_with_its_value(void **state)
{
    struct kit kit;
    storm_feed *feed;
    struct storm_change change;
    (void)state;
    kit_open(&kit, 2, 1 << 30);
    assert_int_equal(put_text(kit.store.db, "key", "value"), STORM_OK);
    assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
    storm_batch *batch = storm_batch_create();
    struct storm_op op = {.kind = STORM_TOUCH,
                          .key = storm_text("key"),
                          .meta = {.expires_ms = UINT64_C(9000000000000)}};
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    assert_int_equal(storm_write(kit.store.db, batch, NULL, NULL), STORM_OK);
    storm_batch_destroy(batch);
    assert_int_equal(storm_feed_open(kit.store.db, 2, &feed), STORM_OK);
    assert_int_equal(storm_feed_next(feed, &change), STORM_OK);
    assert_int_equal(change.revision, 2);
    assert_int_equal(change.kind, STORM_PUT);
    assert_int_equal(change.meta.expires_ms, UINT64_C(9000000000000));
    assert_int_equal(change.value.size, 5);
    assert_memory_equal(change.value.data, "value", 5);
    storm_feed_close(feed);
    kit_close(&kit);
}

static void large_segments_are_entered_in_the_middle(void **state)
{
    struct kit kit;
    (void)state;
    store_init(&kit.store, 3);
    journal_init(&kit.journal, 3);
    kit.store.tuning = feed_tuning(6 << 20);
    store_open(&kit.store);
    write_some(&kit, 6000, 2900);
    for (int life = 0; life < 2; life++) {
        for (uint64_t from = kit.journal.revision; from > 500; from -= 613)
            journal_check(&kit.journal, kit.store.db, from);
        /* A place in the middle was noted, or found by looking: few reads are needed. */
        uint64_t reads = sim_calls(kit.store.disk, SIM_READ);
        journal_check(&kit.journal, kit.store.db, kit.journal.revision - 5);
        assert_true(sim_calls(kit.store.disk, SIM_READ) - reads <= 6);
        store_close(&kit.store);
        store_open(&kit.store);
    }
    kit_close(&kit);
}

static void retention_is_by_bytes_and_oldest_first(void **state)
{
    struct kit kit;
    storm_feed *feed;
    (void)state;
    kit_open(&kit, 4, 4 * SEGMENT);
    for (int round = 0; round < 60; round++) {
        write_some(&kit, 40, 600);
        assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
        struct file_count files = files_of(&kit);
        /* Kept ones, the current one, one that is needed while the flush goes on. */
        assert_true(files.logs <= 4 + 3 && files.spares <= 2);
        uint64_t oldest = journal_check_oldest(&kit.journal, kit.store.db);
        if (oldest > 1) {
            assert_int_equal(storm_feed_open(kit.store.db, oldest - 1, &feed), STORM_GONE);
            assert_null(feed);
        }
        if (round == 45) {
            assert_true(files.logs >= 4);
            store_close(&kit.store);
            store_open(&kit.store);
            assert_true(feed_oldest(kit.store.db) >= oldest);
        }
    }
    assert_true(feed_oldest(kit.store.db) > kit.journal.revision / 2);
    /* Less at the next open, then none, then more again: what is gone is gone. */
    uint64_t before = feed_oldest(kit.store.db);
    store_close(&kit.store);
    kit.store.options.log_retention_bytes = SEGMENT;
    store_open(&kit.store);
    uint64_t after = feed_oldest(kit.store.db);
    assert_true(after > before);
    journal_check(&kit.journal, kit.store.db, after);
    store_close(&kit.store);
    kit.store.options.log_retention_bytes = 0;
    store_open(&kit.store);
    assert_int_equal(files_of(&kit).logs, 1);
    uint64_t none = feed_oldest(kit.store.db);
    assert_true(none == 0 || none > after);
    store_close(&kit.store);
    kit.store.options.log_retention_bytes = 1 << 30;
    store_open(&kit.store);
    assert_true(feed_oldest(kit.store.db) == none);
    write_some(&kit, 200, 600);
    assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
    journal_check(&kit.journal, kit.store.db, none != 0 ? none : kit.journal.revision - 199);
    kit_close(&kit);
}

static void segments_are_recycled_in_the_steady_state(void **state)
{
    struct kit kit;
    (void)state;
    kit_open(&kit, 5, 3 * SEGMENT);
    for (int round = 0; round < 20; round++) {
        write_some(&kit, 20, 600);
        assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
    }
    /* A file that is made anew is removed again some time; a recycled one never is. */
    uint64_t removed = sim_calls(kit.store.disk, SIM_UNLINK);
    uint64_t oldest = feed_oldest(kit.store.db);
    struct file_count files = files_of(&kit);
    for (int round = 0; round < 20; round++) {
        write_some(&kit, 20, 600);
        assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
        struct file_count now = files_of(&kit);
        assert_true(now.logs + now.spares <= files.logs + files.spares + 1);
    }
    assert_true(feed_oldest(kit.store.db) > oldest);
    assert_int_equal(sim_calls(kit.store.disk, SIM_UNLINK), removed);
    kit_close(&kit);
}

static void retention_is_by_age_too_and_the_clock_may_jump(void **state)
{
    struct kit kit;
    const uint64_t hour = 3600000;
    uint64_t now = UINT64_C(1700000000000);
    (void)state;
    store_init(&kit.store, 6);
    journal_init(&kit.journal, 6);
    kit.store.tuning = feed_tuning(SEGMENT);
    kit.store.options.log_retention_bytes = 1 << 30;
    kit.store.options.log_retention_ms = 10 * hour;
    sim_clock_set(kit.store.disk, now);
    store_open(&kit.store);
    uint64_t at_hour[40];
    for (int i = 0; i < 40; i++) {
        at_hour[i] = kit.journal.revision + 1;
        write_some(&kit, 60, 1500); /* more than a segment */
        now += hour;
        sim_clock_set(kit.store.disk, now);
        assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
        uint64_t oldest = journal_check_oldest(&kit.journal, kit.store.db);
        if (i < 9)
            assert_int_equal(oldest, 1);
        if (i > 12) {
            assert_true(oldest > at_hour[i - 12]);
            /* While the clock was ahead, more looked too old. */
            assert_true(oldest <= at_hour[i - 9] || (i >= 25 && i < 36));
        }
        if (i % 7 == 6) {
            store_close(&kit.store);
            store_open(&kit.store);
            assert_true(feed_oldest(kit.store.db) >= oldest);
        }
        if (i == 25) { /* ahead while segments are left, and back */
            sim_clock_set(kit.store.disk, now - hour / 2 + 5 * hour);
            write_some(&kit, 60, 1500);
            sim_clock_set(kit.store.disk, now);
        }
    }
    /* Across a restart after a long pause. */
    store_close(&kit.store);
    sim_clock_set(kit.store.disk, now + 9 * hour);
    store_open(&kit.store);
    assert_true(journal_check_oldest(&kit.journal, kit.store.db) > at_hour[37]);
    kit_close(&kit);
}

static void times_from_a_clock_that_was_ahead_are_corrected(void **state)
{
    struct kit kit;
    const uint64_t hour = 3600000;
    uint64_t now = UINT64_C(1700000000000);
    (void)state;
    for (int reopens = 0; reopens < 2; reopens++) {
        store_init(&kit.store, 6);
        journal_init(&kit.journal, 6);
        kit.store.tuning = feed_tuning(SEGMENT);
        kit.store.options.log_retention_ms = 1000 * hour;
        sim_clock_set(kit.store.disk, now + 500 * hour);
        store_open(&kit.store);
        write_some(&kit, 200, 1500);
        assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
        sim_clock_set(kit.store.disk, now);
        write_some(&kit, 100, 1500);
        assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
        if (reopens != 0) {
            store_close(&kit.store);
            store_open(&kit.store);
        }
        assert_int_equal(journal_check_oldest(&kit.journal, kit.store.db), 1);
        sim_clock_set(kit.store.disk, now + 1001 * hour);
        write_some(&kit, 1, 100);
        assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
        assert_true(journal_check_oldest(&kit.journal, kit.store.db) > 200);
        kit_close(&kit);
    }
}

static void an_idle_store_lets_old_history_go(void **state)
{
    struct kit kit;
    uint64_t now = UINT64_C(1700000000000);
    (void)state;
    store_init(&kit.store, 6);
    journal_init(&kit.journal, 6);
    kit.store.tuning = feed_tuning(SEGMENT);
    kit.store.options.log_retention_ms = 30;
    sim_clock_set(kit.store.disk, now);
    store_open(&kit.store);
    write_some(&kit, 100, 1500);
    assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
    assert_int_equal(feed_oldest(kit.store.db), 1);
    sim_clock_set(kit.store.disk, now + 31);
    for (int i = 0; i < 5000 && feed_oldest(kit.store.db) == 1; i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    assert_true(feed_oldest(kit.store.db) != 1);
    kit_close(&kit);
}

static void who_falls_behind_is_told_gone(void **state)
{
    struct kit kit;
    uint64_t gone = 0, kept = 0;
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        kit_open(&kit, seed, 2 * SEGMENT);
        write_some(&kit, 20 + random_below(&kit.journal.random, 40), 1500);
        storm_feed *feed;
        size_t at = 0;
        assert_int_equal(storm_feed_open(kit.store.db, 1, &feed), STORM_OK);
        storm_status status = STORM_OK;
        for (int i = 0; i < 30 && status != STORM_GONE; i++) {
            uint64_t pace = seed % 2 == 0 ? 40 : 120;
            status =
                journal_follow(&kit.journal, feed, &at, random_below(&kit.journal.random, pace));
            assert_true(status == STORM_OK || status == STORM_NOT_FOUND || status == STORM_GONE);
            write_some(&kit, random_below(&kit.journal.random, 40), 1500);
            if (random_below(&kit.journal.random, 3) != 0)
                assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
        }
        if (status == STORM_GONE) {
            struct storm_change change;
            gone++;
            assert_int_equal(storm_feed_next(feed, &change), STORM_GONE);
            assert_int_equal(storm_feed_wait(feed, 0), STORM_OK);
            assert_true(kit.journal.entries[at].revision < feed_oldest(kit.store.db));
        } else {
            kept++;
        }
        storm_feed_close(feed);
        kit_close(&kit);
    }
    print_message("%llu feeds overtaken, %llu not\n", (unsigned long long)gone,
                  (unsigned long long)kept);
    assert_true(gone > 20 && kept > 0);
}

static void who_has_seen_all_is_not_gone_when_its_segment_goes(void **state)
{
    struct kit kit;
    storm_feed *feed, *future;
    size_t at = 0, from_future;
    (void)state;
    kit_open(&kit, 8, 0);
    write_some(&kit, 10, 1000);
    assert_int_equal(storm_feed_open(kit.store.db, 1, &feed), STORM_OK);
    for (int i = 0; i < 30; i++) {
        assert_int_equal(journal_follow(&kit.journal, feed, &at, SIZE_MAX), STORM_NOT_FOUND);
        /* One write that does not fit any more: it begins a segment, and the one before goes. */
        assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
        uint64_t segment = sdb_wal_segment(sdb_lsm(kit.store.db)->wal);
        while (sdb_wal_segment(sdb_lsm(kit.store.db)->wal) == segment) {
            assert_int_equal(journal_follow(&kit.journal, feed, &at, SIZE_MAX), STORM_NOT_FOUND);
            assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
            write_some(&kit, 1, 2900);
        }
        assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
        assert_int_equal(files_of(&kit).logs, 1);
    }
    /* One that waits for the future passes by what goes meanwhile. */
    uint64_t from = kit.journal.revision + 300;
    assert_int_equal(storm_feed_open(kit.store.db, from, &future), STORM_OK);
    write_some(&kit, 299, 1500);
    assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
    from_future = kit.journal.count;
    write_some(&kit, 5, 1500);
    assert_int_equal(journal_follow(&kit.journal, future, &from_future, SIZE_MAX), STORM_NOT_FOUND);
    assert_int_equal(from_future, kit.journal.count);
    storm_feed_close(feed);
    storm_feed_close(future);
    kit_close(&kit);
}

static void a_read_only_store_has_its_history_too(void **state)
{
    struct kit kit;
    storm_feed *feed;
    (void)state;
    kit_open(&kit, 9, 1 << 30);
    write_some(&kit, 300, 1000);
    assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
    write_some(&kit, 3, 1000);
    store_close(&kit.store);
    kit.store.options.read_only = true;
    kit.store.options.log_retention_ms = 1;
    size_t logs = files_of(&kit).logs;
    uint64_t changes = sim_calls(kit.store.disk, SIM_CHANGES);
    kit.store.options.log_retention_ms = 0;
    store_open(&kit.store);
    journal_check(&kit.journal, kit.store.db, 1);
    assert_int_equal(feed_oldest(kit.store.db), 1);
    assert_int_equal(storm_feed_open(kit.store.db, 304, &feed), STORM_OK);
    assert_int_equal(storm_feed_wait(feed, 1), STORM_TIMED_OUT);
    storm_feed_close(feed);
    store_close(&kit.store);
    kit.store.options.log_retention_bytes = 0;
    store_open(&kit.store);
    assert_true(feed_oldest(kit.store.db) > 1);
    store_close(&kit.store);
    assert_int_equal(files_of(&kit).logs, logs);
    assert_int_equal(sim_calls(kit.store.disk, SIM_CHANGES), changes);
    kit_close(&kit);
}

/* ---- Waiting ---- */

struct ready {
    int calls;
};

static void count_ready(void *ctx)
{
    ((struct ready *)ctx)->calls++;
}

static void a_callback_comes_once_and_never_when_taken_back(void **state)
{
    struct kit kit;
    struct ready first = {0}, second = {0};
    storm_feed *feed;
    size_t at = 0;
    (void)state;
    kit_open(&kit, 10, 1 << 30);
    assert_int_equal(storm_feed_open(kit.store.db, 0, &feed), STORM_OK);
    assert_int_equal(storm_feed_notify(feed, count_ready, &first), STORM_PENDING);
    assert_int_equal(storm_feed_notify(feed, count_ready, &second), STORM_PENDING);
    write_some(&kit, 3, 100);
    assert_int_equal(first.calls, 0);
    assert_int_equal(second.calls, 1);
    assert_int_equal(storm_feed_notify(feed, count_ready, &first), STORM_OK);
    assert_int_equal(journal_follow(&kit.journal, feed, &at, 1), STORM_OK);
    assert_int_equal(storm_feed_notify(feed, count_ready, &first), STORM_OK);
    assert_int_equal(journal_follow(&kit.journal, feed, &at, SIZE_MAX), STORM_NOT_FOUND);
    assert_int_equal(storm_feed_notify(feed, count_ready, &first), STORM_PENDING);
    assert_int_equal(storm_feed_notify(feed, NULL, NULL), STORM_OK);
    write_some(&kit, 3, 100);
    assert_int_equal(first.calls, 0);
    assert_int_equal(journal_follow(&kit.journal, feed, &at, SIZE_MAX), STORM_NOT_FOUND);
    assert_int_equal(storm_feed_notify(feed, count_ready, &first), STORM_PENDING);
    storm_feed_close(feed);
    write_some(&kit, 3, 100);
    assert_int_equal(first.calls, 0);
    assert_int_equal(second.calls, 1);
    kit_close(&kit);
}

static void only_whose_revision_has_come_is_called(void **state)
{
    enum { FEEDS = 40 };
    struct kit kit;
    struct ready ready[FEEDS] = {{0}};
    storm_feed *feeds[FEEDS];
    (void)state;
    kit_open(&kit, 11, 1 << 30);
    for (uint64_t i = 0; i < FEEDS; i++) {
        assert_int_equal(storm_feed_open(kit.store.db, i + 1, &feeds[i]), STORM_OK);
        assert_int_equal(storm_feed_notify(feeds[i], count_ready, &ready[i]), STORM_PENDING);
    }
    for (int written = 0; written < FEEDS; written++) {
        for (int i = 0; i < FEEDS; i++)
            assert_int_equal(ready[i].calls, i < written ? 1 : 0);
        write_some(&kit, 1, 10);
    }
    for (int i = 0; i < FEEDS; i++)
        storm_feed_close(feeds[i]);
    kit_close(&kit);
}

static void an_interrupt_is_remembered_once(void **state)
{
    struct kit kit;
    storm_feed *feed;
    (void)state;
    kit_open(&kit, 12, 1 << 30);
    assert_int_equal(storm_feed_open(kit.store.db, 0, &feed), STORM_OK);
    storm_feed_interrupt(feed);
    storm_feed_interrupt(feed);
    assert_int_equal(storm_feed_wait(feed, 1000000), STORM_CANCELLED);
    assert_int_equal(storm_feed_wait(feed, 1), STORM_TIMED_OUT);
    write_some(&kit, 1, 10);
    assert_int_equal(storm_feed_wait(feed, 1000000), STORM_OK);
    storm_feed_close(feed);
    kit_close(&kit);
}

static void memory_may_run_out_in_a_feed(void **state)
{
    struct kit kit;
    uint64_t failures = 1, points = 0;
    (void)state;
    kit_open(&kit, 13, 1 << 30);
    write_some(&kit, 300, 1000);
    assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
    for (uint64_t nth = 1; failures != 0; nth++) {
        storm_feed *feed;
        size_t at = 0;
        alloc_fail_at(nth, false);
        storm_status status = storm_feed_open(kit.store.db, 1, &feed);
        for (int tries = 0; status != STORM_NOT_FOUND && tries < 3; tries++) {
            if (feed == NULL)
                assert_int_equal(status, STORM_NO_MEMORY);
            if (feed == NULL)
                status = storm_feed_open(kit.store.db, 1, &feed);
            if (status == STORM_OK || status == STORM_NO_MEMORY)
                status = journal_follow(&kit.journal, feed, &at, SIZE_MAX);
            assert_true(status == STORM_NO_MEMORY || status == STORM_NOT_FOUND);
        }
        failures = alloc_failures();
        alloc_fail_at(0, false);
        assert_int_equal(status, STORM_NOT_FOUND);
        assert_int_equal(at, kit.journal.count);
        storm_feed_close(feed);
        points++;
    }
    assert_true(points > 4);
    kit_close(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_feed_shows_all_that_was_committed_in_order),
        cmocka_unit_test(a_feed_begins_at_zero_in_the_present_or_in_the_future),
        cmocka_unit_test(a_touch_shows_as_a_put_with_its_value),
        cmocka_unit_test(large_segments_are_entered_in_the_middle),
        cmocka_unit_test(retention_is_by_bytes_and_oldest_first),
        cmocka_unit_test(segments_are_recycled_in_the_steady_state),
        cmocka_unit_test(retention_is_by_age_too_and_the_clock_may_jump),
        cmocka_unit_test(times_from_a_clock_that_was_ahead_are_corrected),
        cmocka_unit_test(an_idle_store_lets_old_history_go),
        cmocka_unit_test(who_falls_behind_is_told_gone),
        cmocka_unit_test(who_has_seen_all_is_not_gone_when_its_segment_goes),
        cmocka_unit_test(a_read_only_store_has_its_history_too),
        cmocka_unit_test(a_callback_comes_once_and_never_when_taken_back),
        cmocka_unit_test(only_whose_revision_has_come_is_called),
        cmocka_unit_test(an_interrupt_is_remembered_once),
        cmocka_unit_test(memory_may_run_out_in_a_feed),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
