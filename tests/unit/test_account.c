/* The account of a store's memory: each part goes up and down with what it is for, and ends at
 * 0. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "alloc_fail.h"
#include "lsm/table/cache.h"
#include "store.h"
#include "os/large.h"

enum { KIB = 1 << 10, VALUE = 200 };

static _Atomic unsigned held_lines; /* several threads of a store log */

static void look_for_held(void *ctx, enum storm_log_level level, const char *line)
{
    (void)ctx;
    (void)level;
    held_lines += strstr(line, "event=memory_held") != NULL;
}

static void init(struct store *store)
{
    held_lines = 0;
    store_init(store, 1);
    sdb_errors_fini(&store->errors);
    sdb_errors_init(&store->errors, look_for_held, NULL);
}

static struct storm_stats stats_of(struct store *store)
{
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(store->db, &stats), STORM_OK);
    assert_true(stats.memory_bytes == stats.memory_memtables + stats.memory_cache +
                                          stats.memory_tables + stats.memory_log);
    return stats;
}

/*
 * Whether a figure comes to lie between the two: the background threads let go of what they worked
 * on a moment after the caller has been told.
 */
static bool comes_within(struct store *store, size_t figure, uint64_t low, uint64_t high)
{
    uint64_t now = 0;
    for (unsigned i = 0; i < 5000; i++) {
        struct storm_stats stats = stats_of(store);
        memcpy(&now, (const uint8_t *)&stats + figure, sizeof now);
        if (now >= low && now <= high)
            return true;
        struct timespec moment = {.tv_nsec = 1000000};
        nanosleep(&moment, NULL);
    }
    printf("%llu, and not between %llu and %llu\n", (unsigned long long)now,
           (unsigned long long)low, (unsigned long long)high);
    return false;
}

#define COMES_WITHIN(store, figure, low, high)                                                     \
    comes_within(store, offsetof(struct storm_stats, figure), low, high)

static storm_status put_number(storm_db *db, unsigned number)
{
    char key[24];
    uint8_t value[VALUE];
    snprintf(key, sizeof key, "key%06u", number);
    memset(value, (int)number, sizeof value);
    return storm_put(db, storm_text(key), storm_bytes(value, sizeof value));
}

static void put_numbers(storm_db *db, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(put_number(db, i), STORM_OK);
}

static void memtables_count_until_the_last_reader_lets_go(void **state)
{
    (void)state;
    struct store store;
    struct storm_value value;
    storm_iter *iter;
    init(&store);
    store.options.memtable_bytes = 1 << 20;
    store.options.cache_bytes = 0;
    store_open(&store);
    uint64_t empty = stats_of(&store).memory_memtables;
    assert_in_range(empty, 64 * KIB, 70 * KIB);
    put_numbers(store.db, 2000);
    uint64_t full = stats_of(&store).memory_memtables;
    assert_in_range(full, (uint64_t)2000 * VALUE, (uint64_t)3 * 2000 * VALUE);

    assert_int_equal(storm_get(store.db, NULL, storm_text("key000007"), &value), STORM_OK);
    assert_int_equal(storm_iter_create(store.db, NULL, &iter), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_true(stats_of(&store).memory_memtables == full + empty);
    storm_iter_destroy(iter);
    assert_true(stats_of(&store).memory_memtables == full + empty);
    storm_value_release(&value);
    assert_true(COMES_WITHIN(&store, memory_memtables, empty, empty));

    store_close(&store);
    assert_int_equal(held_lines, 0);
    store_fini(&store);
}

static void blocks_count_when_they_are_pinned_and_not_in_the_cache(void **state)
{
    (void)state;
    struct store store;
    struct storm_value value;
    struct sdb_tuning by_hand; /* a compaction would have blocks of its own */
    init(&store);
    store.options.cache_bytes = 0;
    sdb_tuning_init(&by_hand, &store.options);
    by_hand.is_by_hand = true;
    store.tuning = &by_hand;
    store_open(&store);
    put_numbers(store.db, 500);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_true(COMES_WITHIN(&store, memory_cache, 0, 1 * KIB)); /* the empty shard */
    uint64_t before = stats_of(&store).memory_cache;
    assert_int_equal(storm_get(store.db, NULL, storm_text("key000007"), &value), STORM_OK);
    assert_true(COMES_WITHIN(&store, memory_cache, before + 3 * KIB, before + 5 * KIB));
    storm_value_release(&value);
    assert_true(COMES_WITHIN(&store, memory_cache, before, before));
    store_close(&store);
    assert_int_equal(held_lines, 0);
    store_fini(&store);
}

static void open_tables_count_until_their_last_version_goes(void **state)
{
    (void)state;
    struct store store;
    struct storm_slice all = {NULL, 0};
    storm_iter *iter;
    init(&store);
    store_open(&store);
    uint64_t none = stats_of(&store).memory_tables;
    assert_int_equal(none, 0);
    put_numbers(store.db, 1000);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(storm_compact(store.db, all, all, NULL, NULL), STORM_OK);
    /* The filter, the 16 + 32 bytes and a key that the index has for each of 50 blocks, and 1 KiB
     * for the rest: less than twice of that, so one table and not two. */
    uint64_t least = 1000 * 10 / 8 + 50 * 48;
    assert_true(COMES_WITHIN(&store, memory_tables, least, least * 2));
    uint64_t one = stats_of(&store).memory_tables;
    assert_int_equal(storm_iter_create(store.db, NULL, &iter), STORM_OK);
    put_numbers(store.db, 1000);
    assert_int_equal(storm_compact(store.db, all, all, NULL, NULL), STORM_OK);
    assert_true(COMES_WITHIN(&store, memory_tables, one * 19 / 10, one * 21 / 10));
    storm_iter_destroy(iter);
    /* Tables without a holder are collected by the next flush. */
    put_numbers(store.db, 1);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(storm_compact(store.db, all, all, NULL, NULL), STORM_OK);
    assert_true(COMES_WITHIN(&store, memory_tables, least, one + one / 2));
    store_close(&store);

    /* Opened again: the same tables, counted as they are opened. */
    store_open(&store);
    assert_true(COMES_WITHIN(&store, memory_tables, least, one + one / 2));
    store_close(&store);
    assert_int_equal(held_lines, 0);
    store_fini(&store);
}

static void the_log_counts_the_buffers_of_large_groups(void **state)
{
    (void)state;
    struct sdb_account account = {0};
    struct store store;
    struct sdb_wal *wal;
    struct sdb_wal_report report;
    struct storm_slice batches[300];
    struct sdb_lsm numbers = {.next_file = 1};
    pthread_mutex_init(&numbers.mu, NULL);
    init(&store);
    assert_int_equal(sdb_mkdir(&store.os, "/log"), STORM_OK);
    struct sdb_wal_options options = {.os = &store.os,
                                      .account = &account,
                                      .dir = "/log",
                                      .store_id = 1,
                                      .epoch = 1,
                                      .segment_bytes = 1 << 20};
    assert_int_equal(
        sdb_wal_open(&options, 0, NULL, NULL, sdb_lsm_next_file, &numbers, &wal, &report),
        STORM_OK);
    size_t before = sdb_account_bytes(&account, SDB_FOR_LOG);
    assert_true(before > 0);
    for (size_t i = 0; i < 300; i++)
        batches[i] = storm_text("x");
    assert_int_equal(sdb_wal_append(wal, 1, batches, 300), STORM_OK);
    assert_true(sdb_account_bytes(&account, SDB_FOR_LOG) > before + 600 * sizeof(struct iovec));
    sdb_wal_close(wal);
    assert_int_equal(sdb_account_bytes(&account, SDB_FOR_LOG), 0);
    pthread_mutex_destroy(&numbers.mu);
    store_fini(&store);
}

/* The bound is on what the heap gives, not on what was asked for: tiny blocks show the
 * difference. */
static void the_caches_bound_holds_for_what_the_heap_really_takes(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 30, 500, 4000, 70000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        enum { CAPACITY = 2 << 20 };
        struct sdb_account account = {0};
        struct sdb_cache *cache = sdb_cache_create(CAPACITY, &account);
        size_t empty = sdb_account_bytes(&account, SDB_FOR_CACHE);
        for (uint64_t i = 0; i < 100000; i++) {
            struct sdb_block *block = sdb_block_create(&account, sizes[s]);
            assert_non_null(block);
            sdb_cache_put(cache, 1, i, block);
            sdb_block_unref(block);
        }
        struct sdb_cache_stats stats;
        sdb_cache_stats(cache, &stats);
        size_t taken = sdb_account_bytes(&account, SDB_FOR_CACHE);
        assert_int_equal(taken - empty, stats.bytes);
        /* Of tiny blocks there are as many as a quarter of the cache has slots for. */
        size_t least = sizes[s] < 500 ? CAPACITY / 5 : CAPACITY * 3 / 4;
        assert_in_range(taken, least, CAPACITY + empty);
        sdb_cache_destroy(cache);
        assert_int_equal(sdb_account_bytes(&account, SDB_FOR_CACHE), 0);
    }
}

static void a_value_that_is_never_given_back_is_told_of_at_close(void **state)
{
    (void)state;
    struct store store;
    struct storm_value value;
    init(&store);
    store_open(&store);
    put_numbers(store.db, 100);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(storm_get(store.db, NULL, storm_text("key000007"), &value), STORM_OK);
    store_close(&store);
    assert_int_equal(held_lines, 1);
    free(value.pin); /* the block itself; unpinning it would touch the store that is gone */
    store_fini(&store);
}

/* Two stores in one process do not know of each other. */
static void each_store_has_its_own_account(void **state)
{
    (void)state;
    struct store a;
    struct store b;
    init(&a);
    init(&b);
    store_open(&a);
    store_open(&b);
    put_numbers(a.db, 200);
    assert_int_equal(stats_of(&b).memory_tables, 0);
    assert_int_equal(storm_flush(a.db, NULL), STORM_OK);
    assert_true(stats_of(&a).memory_tables > 0);
    assert_int_equal(stats_of(&b).memory_tables, 0);
    store_close(&a);
    store_close(&b);
    assert_int_equal(held_lines, 0);
    store_fini(&a);
    store_fini(&b);
}

/* Some of everything, as far as it goes. */
static void live_a_little(struct store *store)
{
    struct storm_slice all = {NULL, 0};
    struct storm_value value = {0};
    storm_iter *iter = NULL;
    storm_status status = store_try_open(store);
    for (unsigned i = 0; i < 60 && status == STORM_OK; i++)
        status = put_number(store->db, i * 7 % 20);
    if (status == STORM_OK)
        status = storm_iter_create(store->db, NULL, &iter);
    if (status == STORM_OK)
        status = storm_flush(store->db, NULL);
    if (status == STORM_OK)
        status = storm_get(store->db, NULL, storm_text("key000007"), &value);
    if (status == STORM_OK)
        status = storm_compact(store->db, all, all, NULL, NULL);
    (void)status; /* whatever it was */
    storm_value_release(&value);
    if (iter != NULL)
        storm_iter_destroy(iter);
    store_drop(store);
}

static void the_account_ends_at_0_whatever_allocation_fails(void **state)
{
    (void)state;
    uint64_t nth = 0;
    uint64_t failures;
    do {
        struct store store;
        init(&store);
        alloc_fail_at(++nth, false);
        live_a_little(&store);
        alloc_fail_at(0, false);
        failures = alloc_failures();
        if (held_lines != 0)
            fail_msg("allocation %u: the account does not come out", (unsigned)nth);
        store_fini(&store);
    } while (failures > 0);
    assert_true(nth > 50);
}

static void the_account_ends_at_0_whatever_call_fails(void **state)
{
    (void)state;
    uint64_t nth = 0;
    bool fired;
    do {
        struct store store;
        init(&store);
        sim_plan_set(store.disk,
                     (struct sim_plan){.call = SIM_ANY, .nth = ++nth, .status = STORM_IO});
        live_a_little(&store);
        fired = sim_plan_fired(store.disk);
        if (held_lines != 0)
            fail_msg("call %u: the account does not come out", (unsigned)nth);
        store_fini(&store);
    } while (fired);
    assert_true(nth > 20);
}

static void large_pieces_grow_and_keep_their_contents(void **state)
{
    (void)state;
    static const size_t sizes[] = {100, SDB_LARGE - 1, SDB_LARGE, SDB_LARGE + 1, 1 << 20};
    for (size_t from = 0; from < 5; from++) {
        for (size_t to = from + 1; to < 5; to++) {
            uint8_t *p = sdb_large_alloc(sizes[from]);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % SDB_LARGE_ALIGN, 0);
            assert_in_range(sdb_large_bytes(p, sizes[from]), sizes[from], sizes[from] + SDB_PAGE);
            memset(p, (int)from + 1, sizes[from]);
            alloc_fail_at(1, false);
            assert_null(sdb_large_grow(p, sizes[from], sizes[to]));
            alloc_fail_at(0, false);
            p = sdb_large_grow(p, sizes[from], sizes[to]);
            assert_non_null(p);
            for (size_t i = 0; i < sizes[from]; i++)
                assert_int_equal(p[i], from + 1);
            memset(p, 0, sizes[to]);
            sdb_large_free(p, sizes[to]);
        }
    }
    uint8_t *fresh = sdb_large_grow(NULL, 0, 10);
    assert_non_null(fresh);
    sdb_large_free(fresh, 10);
    sdb_large_free(NULL, 0);
    sdb_large_free(NULL, SDB_LARGE);
    assert_int_equal(sdb_large_bytes(NULL, 0), 0);
    assert_int_equal(sdb_large_bytes(NULL, SDB_LARGE), 0);
    assert_null(sdb_large_alloc(SIZE_MAX / 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memtables_count_until_the_last_reader_lets_go),
        cmocka_unit_test(blocks_count_when_they_are_pinned_and_not_in_the_cache),
        cmocka_unit_test(open_tables_count_until_their_last_version_goes),
        cmocka_unit_test(the_log_counts_the_buffers_of_large_groups),
        cmocka_unit_test(the_caches_bound_holds_for_what_the_heap_really_takes),
        cmocka_unit_test(a_value_that_is_never_given_back_is_told_of_at_close),
        cmocka_unit_test(each_store_has_its_own_account),
        cmocka_unit_test(the_account_ends_at_0_whatever_allocation_fails),
        cmocka_unit_test(the_account_ends_at_0_whatever_call_fails),
        cmocka_unit_test(large_pieces_grow_and_keep_their_contents),
    };
    return cmocka_run_group_tests_name("account", tests, NULL, NULL);
}
