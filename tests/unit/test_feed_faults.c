/*
 * Change feeds under faults: rotten bytes in the history, power cuts before every change to the
 * disk, every call failing in turn, a full disk. The rule: a feed shows what was committed and
 * nothing else, without gaps, and never stops the store from opening; where history is missing it
 * says so.
 */
#include "feed_kit.h"

#include <stdlib.h>
#include <string.h>

enum { SEGMENT = 8 << 10 };

/* Under a sanitizer an open costs ten times as much: it gets every eleventh byte. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FLIP_STEP 11
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FLIP_STEP 11
#endif
#ifndef FLIP_STEP
#define FLIP_STEP 1
#endif

struct kit {
    struct store store;
    struct journal journal;
    uint64_t synced; /* newest revision that must survive a power cut */
    bool is_open;    /* the last write may or may not be found after a restart */
};

static void kit_init(struct kit *kit, uint64_t seed, uint64_t retention_bytes)
{
    *kit = (struct kit){0};
    store_init(&kit->store, seed);
    journal_init(&kit->journal, seed);
    kit->store.tuning = feed_tuning(SEGMENT);
    kit->store.options.log_retention_bytes = retention_bytes;
}

static void kit_fini(struct kit *kit)
{
    store_fini(&kit->store);
    journal_fini(&kit->journal);
}

/* ---- Rotten bytes ---- */

static void make_history(struct kit *kit)
{
    kit_init(kit, 1, 1 << 20);
    store_open(&kit->store);
    for (int i = 0; i < 24; i++)
        assert_int_equal(journal_write(&kit->journal, kit->store.db, 900, STORM_SYNC_NONE),
                         STORM_OK);
    assert_int_equal(storm_flush(kit->store.db, NULL), STORM_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(journal_write(&kit->journal, kit->store.db, 900, STORM_SYNC_NONE),
                         STORM_OK);
    store_close(&kit->store);
}

/* Read all there is, from the oldest on; how often damage was reported. */
static unsigned read_history(struct kit *kit, const char *what, uint64_t offset)
{
    unsigned reported = 0;
    for (int feeds = 0; feeds < 3; feeds++) {
        storm_feed *feed;
        uint64_t oldest = feed_oldest(kit->store.db);
        size_t at = journal_find(&kit->journal, oldest);
        assert_true(oldest != 0);
        assert_int_equal(storm_feed_open(kit->store.db, oldest, &feed), STORM_OK);
        storm_status status = journal_follow(&kit->journal, feed, &at, SIZE_MAX);
        if (status == STORM_NOT_FOUND) {
            if (at != kit->journal.count)
                fail_msg("%s, byte %llu: a feed ends early", what, (unsigned long long)offset);
            storm_feed_close(feed);
            return reported;
        }
        assert_int_equal(status, STORM_CORRUPT);
        reported++;
        char text[512];
        storm_last_error(kit->store.db, text, sizeof text);
        if (strstr(text, what) == NULL || strstr(text, "offset") == NULL)
            fail_msg("'%s' does not name %s and an offset", text, what);
        struct storm_change change;
        assert_int_equal(storm_feed_next(feed, &change), STORM_GONE);
        assert_int_equal(storm_feed_wait(feed, 0), STORM_OK);
        assert_true(feed_oldest(kit->store.db) > oldest);
        storm_feed_close(feed);
    }
    fail_msg("%s, byte %llu: damage without end", what, (unsigned long long)offset);
    return reported;
}

static void check_store(struct kit *kit);

/* Open with a byte flipped in history: it must work, and all reads be right. Whether it was
 * noticed. */
static bool survives_flip(struct kit *kit, const char *path, uint64_t offset)
{
    uint64_t errors, before, after;
    sdb_errors_count(&kit->store.errors, &errors, &before);
    if (store_try_open(&kit->store) != STORM_OK)
        fail_msg("%s, byte %llu: open: %s", path, (unsigned long long)offset,
                 kit->store.error.message);
    sdb_errors_count(&kit->store.errors, &errors, &after);
    bool is_noticed = feed_oldest(kit->store.db) > 1;
    assert_true(is_noticed == (after > before));
    is_noticed = read_history(kit, path + strlen("/db/"), offset) != 0 || is_noticed;
    check_store(kit);
    return is_noticed;
}

struct oldest_log {
    char path[3][64];
    size_t count;
};

static storm_status find_logs(void *ctx, const char *name)
{
    struct oldest_log *logs = ctx;
    if (strstr(name, ".log") != NULL && logs->count < 3)
        snprintf(logs->path[logs->count++], 64, "/db/%s", name);
    return STORM_OK;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void a_rotten_byte_ends_history_and_nothing_else(void **state)
{
    struct kit kit;
    struct oldest_log logs = {0};
    uint64_t flips = 0, noticed = 0;
    (void)state;
    make_history(&kit);
    assert_int_equal(sim_each_file(kit.store.disk, "/db", find_logs, &logs), STORM_OK);
    qsort(logs.path, logs.count, sizeof logs.path[0], compare_paths);
    assert_true(logs.count == 3);
    for (size_t f = 0; f < 2; f++) {
        uint64_t last_noticed = 0;
        for (uint64_t at = 0; at < SEGMENT; at += FLIP_STEP) {
            uint8_t mask = (uint8_t)(1 << at % 8);
            /* A read-only open leaves the disk as it is, so that the next flip finds it whole. */
            kit.store.options.read_only = true;
            assert_int_equal(sim_flip(kit.store.disk, logs.path[f], at, mask), STORM_OK);
            bool is_noticed = survives_flip(&kit, logs.path[f], at);
            store_close(&kit.store);
            assert_int_equal(sim_flip(kit.store.disk, logs.path[f], at, mask), STORM_OK);
            flips++;
            noticed += is_noticed;
            if (is_noticed)
                last_noticed = at;
            if (at % 32 == 0) {
                struct kit fresh;
                make_history(&fresh);
                assert_int_equal(sim_flip(fresh.store.disk, logs.path[f], at, mask), STORM_OK);
                assert_true(survives_flip(&fresh, logs.path[f], at) == is_noticed);
                /* The damage goes with what is below it, and writing goes on. */
                assert_int_equal(
                    journal_write(&fresh.journal, fresh.store.db, 900, STORM_SYNC_FULL), STORM_OK);
                assert_int_equal(storm_flush(fresh.store.db, NULL), STORM_OK);
                uint64_t size;
                if (is_noticed)
                    assert_int_equal(sim_file_size(fresh.store.disk, logs.path[f], &size),
                                     STORM_NOT_FOUND);
                store_close(&fresh.store);
                store_open(&fresh.store);
                assert_int_equal(read_history(&fresh, "", at), 0);
                kit_fini(&fresh);
            }
        }
        /* Every byte from the first to the end of the last record. */
        if (FLIP_STEP == 1)
            assert_true(last_noticed > SEGMENT / 2);
        if (FLIP_STEP == 1)
            assert_int_equal(noticed, last_noticed + 1);
        noticed = 0;
    }
    print_message("%llu bytes of history flipped: 0 wrong changes, 0 refused opens\n",
                  (unsigned long long)flips);
    kit_fini(&kit);
}

static void a_missing_or_shortened_file_ends_history_too(void **state)
{
    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        struct kit kit;
        struct oldest_log logs = {0};
        make_history(&kit);
        assert_int_equal(sim_each_file(kit.store.disk, "/db", find_logs, &logs), STORM_OK);
        qsort(logs.path, logs.count, sizeof logs.path[0], compare_paths);
        const char *path = logs.path[1];
        if (kind >= 2) /* while it is open */
            store_open(&kit.store);
        if (kind % 2 == 0)
            assert_int_equal(sim_remove(kit.store.disk, path), STORM_OK);
        else
            assert_int_equal(sim_resize(kit.store.disk, path, kind == 1 ? 5000 : 4096), STORM_OK);
        if (kind < 2)
            store_open(&kit.store);
        unsigned reported = read_history(&kit, kind < 2 ? "" : path + 4, 0);
        assert_int_equal(reported, kind < 2 ? 0 : 1);
        assert_true(feed_oldest(kit.store.db) > 1);
        store_close(&kit.store);
        store_open(&kit.store);
        assert_int_equal(read_history(&kit, "", 0), 0);
        check_store(&kit);
        kit_fini(&kit);
    }
}

/* ---- Agreement after a crash ---- */

/* The store holds what the journal says, key by key. */
static void check_store(struct kit *kit)
{
    const struct journal_entry *newest[FEED_KEYS] = {NULL};
    uint8_t value[FEED_VALUE_MAX];
    for (size_t i = 0; i < kit->journal.count; i++)
        newest[kit->journal.entries[i].key] = &kit->journal.entries[i];
    for (uint32_t k = 0; k < FEED_KEYS; k++) {
        struct storm_value found;
        char key[16];
        /* The clock stands in 2023, where no expiry of the journal has come. */
        storm_status status = storm_get(kit->store.db, NULL, feed_key(k, key), &found);
        bool is_there =
            newest[k] != NULL && !newest[k]->is_delete &&
            (newest[k]->expires == 0 || newest[k]->expires > sdb_now_ms(&kit->store.os));
        assert_int_equal(status, is_there ? STORM_OK : STORM_NOT_FOUND);
        if (is_there) {
            struct storm_slice bytes =
                feed_value(newest[k]->revision, newest[k]->index, newest[k]->size, value);
            assert_int_equal(found.revision, newest[k]->revision);
            assert_int_equal(found.bytes.size, bytes.size);
            assert_memory_equal(found.bytes.data, bytes.data, bytes.size);
        }
        storm_value_release(&found);
    }
}

/*
 * What came back is a prefix of what was written, no shorter than what was synced; store and feed
 * say the same. The journal is cut to it.
 */
static void agree(struct kit *kit, const char *where, uint64_t n)
{
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(kit->store.db, &stats), STORM_OK);
    struct journal *journal = &kit->journal;
    if (stats.revision == journal->revision + 1 && kit->is_open)
        journal_note(journal, journal->planned, journal->planned_count);
    if (stats.revision < kit->synced || stats.revision > journal->revision)
        fail_msg("%s %llu: revision %llu, of %llu written and %llu synced", where,
                 (unsigned long long)n, (unsigned long long)stats.revision,
                 (unsigned long long)journal->revision, (unsigned long long)kit->synced);
    journal->revision = stats.revision;
    journal->count = journal_find(journal, stats.revision + 1);
    kit->synced = stats.revision;
    kit->is_open = false;
    check_store(kit);
    if (stats.feed_oldest_revision != 0)
        (void)journal_check_oldest(journal, kit->store.db);
}

/* Writes of both kinds, flushes, segments that come and go, a reopen; a feed follows all of it. */
static void run_workload(struct kit *kit, bool stops_at_failure)
{
    storm_feed *feed = NULL;
    size_t at = 0;
    if (store_try_open(&kit->store) != STORM_OK)
        return;
    for (int i = 0; i < 75; i++) {
        enum storm_sync sync = i % 5 == 4 ? STORM_SYNC_FULL : STORM_SYNC_NONE;
        if (feed == NULL) {
            at = kit->journal.count;
            if (storm_feed_open(kit->store.db, kit->journal.revision + 1, &feed) != STORM_OK)
                feed = NULL; /* the fault at work */
        }
        storm_status status = journal_write(&kit->journal, kit->store.db, 1500, sync);
        if (status == STORM_OK && sync == STORM_SYNC_FULL)
            kit->synced = kit->journal.revision;
        if (status == STORM_COMMIT_UNKNOWN || (status != STORM_OK && stops_at_failure))
            kit->is_open = true;
        if (kit->is_open)
            break;
        if (feed != NULL) /* only what was acknowledged is in the journal */
            status = journal_follow(&kit->journal, feed, &at, SIZE_MAX);
        assert_true(status != STORM_CORRUPT || sim_plan_fired(kit->store.disk));
        if (feed != NULL && status == STORM_GONE) {
            storm_feed_close(feed);
            feed = NULL;
        }
        if (i % 15 == 11)
            (void)!storm_flush(kit->store.db, NULL); /* judged by what is found in the end */
        if (i == 40) {
            storm_feed_close(feed);
            feed = NULL;
            storm_status closed = storm_close(kit->store.db);
            kit->store.db = NULL;
            if (closed == STORM_OK)
                kit->synced = kit->journal.revision;
            if (store_try_open(&kit->store) != STORM_OK)
                return;
        }
    }
    storm_feed_close(feed);
    store_drop(&kit->store);
}

static void power_cuts_leave_feed_and_store_in_agreement(void **state)
{
    static const enum sim_loss losses[] = {SIM_LOSE_ALL, SIM_KEEP_SOME, SIM_KEEP_TORN,
                                           SIM_KEEP_ALL};
    static const uint64_t retentions[] = {1 << 20, 3 * SEGMENT};
    uint64_t points = 0;
    (void)state;
    for (size_t v = 0; v < 8; v++) {
        bool was_cut = true;
        for (uint64_t n = 1; was_cut; n++) {
            struct kit kit;
            kit_init(&kit, n, retentions[v % 2]);
            sim_cut_at(kit.store.disk, n);
            run_workload(&kit, true);
            was_cut = sim_is_cut(kit.store.disk);
            sim_reboot(kit.store.disk, losses[v / 2]);
            store_open(&kit.store);
            agree(&kit, "cut", n);
            for (int i = 0; i < 12; i++)
                assert_int_equal(journal_write(&kit.journal, kit.store.db, 1500, STORM_SYNC_FULL),
                                 STORM_OK);
            kit.synced = kit.journal.revision;
            agree(&kit, "after cut", n);
            store_drop(&kit.store);
            sim_reboot(kit.store.disk, SIM_LOSE_ALL);
            store_open(&kit.store);
            agree(&kit, "second look after cut", n);
            kit_fini(&kit);
            points++;
        }
    }
    print_message("%llu power cuts survived\n", (unsigned long long)points);
}

static void any_call_may_fail_under_a_feed(void **state)
{
    static const enum sim_call calls[] = {SIM_OPEN,     SIM_READ,   SIM_WRITE,  SIM_SYNC,
                                          SIM_ALLOCATE, SIM_RENAME, SIM_UNLINK, SIM_LIST,
                                          SIM_SYNC_DIR, SIM_SIZE};
    static const storm_status statuses[] = {STORM_IO, STORM_NO_SPACE};
    uint64_t points = 0;
    (void)state;
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        for (int variant = 0; variant < 4; variant++) {
            bool has_fired = true;
            for (uint64_t nth = 1; has_fired; nth++) {
                struct kit kit;
                kit_init(&kit, nth, 3 * SEGMENT);
                sim_plan_set(kit.store.disk, (struct sim_plan){.call = calls[c],
                                                               .nth = nth,
                                                               .status = statuses[variant & 1],
                                                               .for_ever = (variant & 2) != 0});
                run_workload(&kit, false);
                has_fired = sim_plan_fired(kit.store.disk);
                sim_plan_set(kit.store.disk, (struct sim_plan){0});
                store_open(&kit.store);
                kit.synced = kit.is_open ? kit.synced : kit.journal.revision;
                agree(&kit, "fault", (uint64_t)calls[c] * 100000 + nth);
                kit_fini(&kit);
                points++;
            }
        }
    }
    print_message("%llu injected failures survived\n", (unsigned long long)points);
}

/* ---- A full disk ---- */

static void a_full_disk_takes_history_before_it_refuses_writes(void **state)
{
    struct kit kit;
    (void)state;
    kit_init(&kit, 5, 1 << 30);
    kit.store.tuning = feed_tuning(256 << 10);
    kit.store.options.memtable_bytes = 64 << 10;
    store_open(&kit.store);
    /* Few keys, so that tables stay small while the log's history grows. */
    for (int i = 0; i < 4000; i++)
        assert_int_equal(journal_write(&kit.journal, kit.store.db, 900, STORM_SYNC_NONE), STORM_OK);
    assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
    assert_int_equal(storm_compact(kit.store.db, storm_text(""), storm_text(""), NULL, NULL),
                     STORM_OK);
    assert_int_equal(feed_oldest(kit.store.db), 1);
    uint64_t full = sim_used_bytes(kit.store.disk);
    /* What is kept for flushes: all memtables, a segment and a mebibyte. Writes are slowed down
     * from 1.4 times that on, and history goes before. */
    uint64_t kept = kit.store.options.write_buffer_bytes + (256 << 10) + (1 << 20);
    sim_capacity_set(kit.store.disk, full + kept * 7 / 5 + (300 << 10));
    for (int i = 0; i < 1500; i++)
        assert_int_equal(journal_write(&kit.journal, kit.store.db, 900, STORM_SYNC_NONE), STORM_OK);
    assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
    uint64_t oldest = feed_oldest(kit.store.db);
    assert_true(oldest > 1);
    /* No more of it than was needed. */
    assert_true(oldest < kit.journal.revision - 1500);
    agree(&kit, "full disk", 0);
    store_close(&kit.store);
    store_open(&kit.store);
    assert_int_equal(feed_oldest(kit.store.db), oldest);
    agree(&kit, "full disk, reopened", 0);
    kit_fini(&kit);
}

/* ---- What must never be shown ---- */

static void a_group_that_failed_is_never_shown(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct kit kit;
        storm_feed *feed;
        size_t at = 0;
        unsigned failed = 0;
        kit_init(&kit, seed, 1 << 20);
        store_open(&kit.store);
        assert_int_equal(storm_feed_open(kit.store.db, 0, &feed), STORM_OK);
        for (int i = 0; i < 40; i++) {
            bool is_to_fail = random_below(&kit.journal.random, 3) == 0;
            if (is_to_fail)
                sim_plan_set(kit.store.disk, (struct sim_plan){.call = SIM_WRITE,
                                                               .nth = 1,
                                                               .status = STORM_IO,
                                                               .half_done = true});
            storm_status status = journal_write(&kit.journal, kit.store.db, 800, STORM_SYNC_NONE);
            sim_plan_set(kit.store.disk, (struct sim_plan){0});
            failed += status != STORM_OK;
            assert_int_equal(journal_follow(&kit.journal, feed, &at, SIZE_MAX), STORM_NOT_FOUND);
            assert_int_equal(at, kit.journal.count);
        }
        assert_true(failed > 3);
        /* A failed sync: not shown, whatever the disk has. */
        sim_plan_set(kit.store.disk,
                     (struct sim_plan){.call = SIM_SYNC, .nth = 1, .status = STORM_IO});
        assert_int_equal(journal_write(&kit.journal, kit.store.db, 800, STORM_SYNC_FULL),
                         STORM_COMMIT_UNKNOWN);
        kit.is_open = true;
        assert_int_equal(journal_follow(&kit.journal, feed, &at, SIZE_MAX), STORM_NOT_FOUND);
        storm_feed_close(feed);
        store_drop(&kit.store);
        sim_reboot(kit.store.disk, seed % 2 == 0 ? SIM_KEEP_SOME : SIM_KEEP_ALL);
        store_open(&kit.store);
        agree(&kit, "failed sync", seed);
        kit_fini(&kit);
    }
}

static void unsynced_writes_that_only_tables_kept_are_no_history(void **state)
{
    struct kit kit;
    storm_feed *feed;
    (void)state;
    kit_init(&kit, 6, 1 << 20);
    kit.store.tuning = feed_tuning(64 << 10);
    store_open(&kit.store);
    for (int life = 0; life < 4; life++) {
        for (int i = 0; i < 20; i++)
            assert_int_equal(journal_write(&kit.journal, kit.store.db, 500, STORM_SYNC_NONE),
                             STORM_OK);
        assert_int_equal(storm_flush(kit.store.db, NULL), STORM_OK);
        uint64_t revision = kit.journal.revision;
        kit.synced = revision; /* in a table */
        sim_cut_at(kit.store.disk, 1);
        store_drop(&kit.store);
        sim_reboot(kit.store.disk, SIM_LOSE_ALL);
        kit.store.options.read_only = true;
        store_open(&kit.store);
        assert_int_equal(feed_oldest(kit.store.db), 0);
        store_close(&kit.store);
        kit.store.options.read_only = false;
        for (int opens = 0; opens < 3; opens++) {
            store_open(&kit.store);
            agree(&kit, "life", (uint64_t)life);
            assert_int_equal(feed_oldest(kit.store.db), 0);
            assert_int_equal(storm_feed_open(kit.store.db, revision, &feed), STORM_GONE);
            if (opens < 2)
                store_close(&kit.store);
        }
        assert_int_equal(journal_write(&kit.journal, kit.store.db, 500, STORM_SYNC_FULL), STORM_OK);
        for (int opens = 0; opens < 2; opens++) {
            assert_int_equal(feed_oldest(kit.store.db), revision + 1);
            journal_check(&kit.journal, kit.store.db, revision + 1);
            store_close(&kit.store);
            store_open(&kit.store);
        }
    }
    kit_fini(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rotten_byte_ends_history_and_nothing_else),
        cmocka_unit_test(a_missing_or_shortened_file_ends_history_too),
        cmocka_unit_test(power_cuts_leave_feed_and_store_in_agreement),
        cmocka_unit_test(any_call_may_fail_under_a_feed),
        cmocka_unit_test(a_full_disk_takes_history_before_it_refuses_writes),
        cmocka_unit_test(a_group_that_failed_is_never_shown),
        cmocka_unit_test(unsynced_writes_that_only_tables_kept_are_no_history),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
