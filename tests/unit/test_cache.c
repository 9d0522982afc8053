/* The block cache: its bound, what it keeps, who owns what, and threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>

#include "alloc_fail.h"
#include "lsm/table/cache.h"
#include "random.h"

/* A block that says where it is from, so that a mix-up of keys shows. */
static struct sdb_block *make_block(uint64_t id, uint64_t offset, size_t size)
{
    struct sdb_block *block = sdb_block_create(NULL, size);
    if (block == NULL)
        return NULL;
    for (size_t i = 0; i < size; i++)
        block->data[i] = (uint8_t)(id * 31 + offset + i);
    return block;
}

static bool is_block(const struct sdb_block *block, uint64_t id, uint64_t offset)
{
    return block->size == 0 ||
           (block->data[0] == (uint8_t)(id * 31 + offset) &&
            block->data[block->size - 1] == (uint8_t)(id * 31 + offset + block->size - 1));
}

static void put(struct sdb_cache *cache, uint64_t id, uint64_t offset, size_t size)
{
    struct sdb_block *block = make_block(id, offset, size);
    assert_non_null(block);
    sdb_cache_put(cache, id, offset, block);
    sdb_block_unref(block);
}

/* Whether it is there; a hit counts as one. */
static bool touch(struct sdb_cache *cache, uint64_t id, uint64_t offset)
{
    struct sdb_block *block = sdb_cache_get(cache, id, offset);
    if (block == NULL)
        return false;
    assert_true(is_block(block, id, offset));
    sdb_block_unref(block);
    return true;
}

static size_t bytes_used(struct sdb_cache *cache)
{
    struct sdb_cache_stats stats;
    sdb_cache_stats(cache, &stats);
    assert_true(stats.bytes <= stats.capacity);
    return stats.bytes;
}

static void what_was_put_is_found(void **state)
{
    (void)state;
    struct sdb_cache *cache = sdb_cache_create(8 << 20, NULL);
    assert_non_null(cache);
    uint64_t a = sdb_cache_new_id(cache);
    uint64_t b = sdb_cache_new_id(cache);
    assert_true(a != b);
    for (uint64_t i = 0; i < 400; i++) {
        put(cache, a, i * 4096, 4096);
        put(cache, b, i * 4096, 100);
    }
    for (uint64_t i = 0; i < 400; i++) {
        assert_true(touch(cache, a, i * 4096));
        assert_true(touch(cache, b, i * 4096));
        assert_false(touch(cache, a, i * 4096 + 1));
    }
    struct sdb_cache_stats stats;
    sdb_cache_stats(cache, &stats);
    assert_true(stats.hits == 800 && stats.misses == 400);
    assert_true(stats.capacity == 8 << 20);
    assert_true(stats.bytes > 400 * 4196);
    sdb_cache_destroy(cache);
}

static void the_bound_holds_at_every_step(void **state)
{
    (void)state;
    static const size_t capacities[] = {0, 100, 1000, 5000, 64 << 10, 700 << 10, 3 << 20};
    uint64_t seed = random_seed(1);
    for (size_t c = 0; c < sizeof capacities / sizeof capacities[0]; c++) {
        struct sdb_cache *cache = sdb_cache_create(capacities[c], NULL);
        assert_non_null(cache);
        for (uint64_t i = 0; i < 3000; i++) {
            size_t size = random_below(&seed, random_below(&seed, 10) == 0 ? 65536 : 3000);
            put(cache, random_below(&seed, 3), random_below(&seed, 2000), size);
            touch(cache, random_below(&seed, 3), random_below(&seed, 2000));
            if (i % 16 == 0)
                assert_true(bytes_used(cache) <= capacities[c]);
        }
        /* And it is used: a full cache has less than an eighth to spare, beside one block. */
        if (capacities[c] >= 700 << 10)
            assert_true(bytes_used(cache) > capacities[c] * 7 / 8 - 65536);
        sdb_cache_destroy(cache);
    }
}

static void a_small_cache_still_works(void **state)
{
    (void)state;
    struct sdb_cache *cache = sdb_cache_create(64 << 10, NULL);
    assert_non_null(cache);
    unsigned kept = 0;
    for (uint64_t i = 0; i < 100; i++) {
        put(cache, 1, i, 4096);
        assert_true(touch(cache, 1, i));
    }
    for (uint64_t i = 0; i < 100; i++)
        kept += touch(cache, 1, i);
    assert_in_range(kept, 14, 16);
    sdb_cache_destroy(cache);
}

static void no_capacity_keeps_nothing(void **state)
{
    (void)state;
    struct sdb_cache *cache = sdb_cache_create(0, NULL);
    assert_non_null(cache);
    put(cache, 1, 0, 10);
    assert_false(touch(cache, 1, 0));
    assert_int_equal(bytes_used(cache), 0);
    sdb_cache_erase(cache, 1);
    sdb_cache_destroy(cache);
}

/* 50 blocks of 150 that fit are read again and again while 20,000 others pass by once each. */
static void a_hot_set_survives_a_scan(void **state)
{
    (void)state;
    enum { HOT = 50, SCANNED = 20000 };
    struct sdb_cache *cache = sdb_cache_create(150 * 4096, NULL);
    assert_non_null(cache);
    for (uint64_t i = 0; i < HOT; i++) {
        put(cache, 1, i, 4000);
        for (int k = 0; k < 3; k++)
            assert_true(touch(cache, 1, i));
    }
    unsigned lost = 0;
    for (uint64_t i = 0; i < SCANNED; i++) {
        if (!touch(cache, 2, i))
            put(cache, 2, i, 4000);
        lost += !touch(cache, 1, i % HOT);
    }
    assert_int_equal(lost, 0);
    sdb_cache_destroy(cache);
}

/* Even when nobody reads the hot blocks meanwhile, they outlive a scan twice as large as the
 * cache. */
static void a_hot_set_survives_a_scan_in_silence(void **state)
{
    (void)state;
    enum { HOT = 50, ROOM = 150 };
    struct sdb_cache *cache = sdb_cache_create(ROOM * 4096, NULL);
    assert_non_null(cache);
    for (uint64_t i = 0; i < HOT; i++) {
        put(cache, 1, i, 4000);
        for (int k = 0; k < 3; k++)
            assert_true(touch(cache, 1, i));
    }
    for (uint64_t i = 0; i < (uint64_t)2 * ROOM; i++)
        put(cache, 2, i, 4000);
    for (uint64_t i = 0; i < HOT; i++)
        assert_true(touch(cache, 1, i));
    sdb_cache_destroy(cache);
}

/* A cache full of blocks that were hot once must not stay so for ever. */
static void what_is_hot_no_more_makes_way(void **state)
{
    (void)state;
    struct sdb_cache *cache = sdb_cache_create(150 * 4096, NULL);
    assert_non_null(cache);
    for (uint64_t i = 0; i < 300; i++) {
        put(cache, 1, i, 4000);
        for (int k = 0; k < 3; k++)
            touch(cache, 1, i);
    }
    unsigned hits = 0;
    for (uint64_t i = 0; i < 2000; i++) {
        if (touch(cache, 2, i % 100))
            hits++;
        else
            put(cache, 2, i % 100, 4000);
    }
    assert_true(hits > 1500);
    sdb_cache_destroy(cache);
}

/* Many slots stay behind when small blocks go: they must not keep the hand from finding victims. */
static void large_blocks_take_over_from_small_ones(void **state)
{
    (void)state;
    struct sdb_cache *cache = sdb_cache_create(512 << 10, NULL);
    assert_non_null(cache);
    for (uint64_t i = 0; i < 10000; i++)
        put(cache, 1, i, 40);
    for (uint64_t i = 0; i < 200; i++)
        put(cache, 2, i, 60000);
    unsigned kept = 0;
    for (uint64_t i = 0; i < 200; i++)
        kept += touch(cache, 2, i);
    assert_in_range(kept, 5, 8);
    for (uint64_t i = 1000; i < 1040; i++) {
        for (int round = 0; round < 20 && !touch(cache, 2, i); round++)
            put(cache, 2, i, 60000);
        assert_true(touch(cache, 2, i));
    }
    sdb_cache_destroy(cache);
}

static void the_block_that_is_there_stays(void **state)
{
    (void)state;
    struct sdb_cache *cache = sdb_cache_create(1 << 20, NULL);
    struct sdb_block *first = make_block(1, 2, 100);
    struct sdb_block *second = make_block(1, 2, 100);
    sdb_cache_put(cache, 1, 2, first);
    size_t bytes = bytes_used(cache);
    sdb_cache_put(cache, 1, 2, second);
    assert_int_equal(bytes_used(cache), bytes);
    struct sdb_block *got = sdb_cache_get(cache, 1, 2);
    assert_ptr_equal(got, first);
    assert_int_equal(atomic_load(&second->refs), 1);
    assert_int_equal(atomic_load(&first->refs), 3);
    sdb_block_unref(got);
    sdb_block_unref(first);
    sdb_block_unref(second);
    sdb_block_unref(NULL);
    sdb_cache_destroy(cache);
}

static void erase_drops_one_table_only(void **state)
{
    (void)state;
    struct sdb_cache *cache = sdb_cache_create(4 << 20, NULL);
    assert_non_null(cache);
    for (uint64_t i = 0; i < 200; i++)
        for (uint64_t id = 1; id <= 3; id++)
            put(cache, id, i, 1000);
    size_t before = bytes_used(cache);
    sdb_cache_erase(cache, 2);
    assert_in_range(before - bytes_used(cache), 200 * (sizeof(struct sdb_block) + 1000),
                    200 * (sizeof(struct sdb_block) + 1000 + 40));
    for (uint64_t i = 0; i < 200; i++) {
        assert_true(touch(cache, 1, i));
        assert_false(touch(cache, 2, i));
        assert_true(touch(cache, 3, i));
    }
    for (uint64_t i = 0; i < 200; i++)
        put(cache, 2, i, 1000);
    assert_int_equal(bytes_used(cache), before);
    sdb_cache_destroy(cache);
}

static void a_reference_outlives_the_cache(void **state)
{
    (void)state;
    struct sdb_cache *cache = sdb_cache_create(64 << 10, NULL);
    struct sdb_block *held[3];
    for (uint64_t i = 0; i < 3; i++) {
        put(cache, 7, i, 2000);
        held[i] = sdb_cache_get(cache, 7, i);
        assert_non_null(held[i]);
    }
    for (uint64_t i = 0; i < 500; i++)
        put(cache, 8, i, 2000);
    assert_false(touch(cache, 7, 0));
    assert_true(is_block(held[0], 7, 0));
    assert_int_equal(atomic_load(&held[0]->refs), 1);
    put(cache, 7, 1, 2000);
    sdb_cache_erase(cache, 7);
    assert_true(is_block(held[1], 7, 1));
    sdb_cache_destroy(cache);
    assert_true(is_block(held[2], 7, 2));
    for (size_t i = 0; i < 3; i++)
        sdb_block_unref(held[i]);
}

static void a_hit_allocates_nothing(void **state)
{
    (void)state;
    struct sdb_cache *cache = sdb_cache_create(1 << 20, NULL);
    put(cache, 1, 1, 4096);
    uint64_t before = alloc_count();
    for (int i = 0; i < 100; i++)
        assert_true(touch(cache, 1, 1));
    assert_true(alloc_count() == before);
    sdb_cache_destroy(cache);
}

/* With each allocation in turn failing, and with all from one on: less is kept, nothing breaks. */
static void lost_memory_only_means_less_is_kept(void **state)
{
    (void)state;
    for (unsigned for_ever = 0; for_ever < 2; for_ever++) {
        uint64_t nth = 0;
        do {
            alloc_fail_at(++nth, for_ever == 1);
            struct sdb_cache *cache = sdb_cache_create(2 << 20, NULL);
            for (uint64_t i = 0; cache != NULL && i < 60; i++) {
                struct sdb_block *block = make_block(1, i, 500);
                if (block != NULL) {
                    sdb_cache_put(cache, 1, i, block);
                    sdb_block_unref(block);
                }
                bytes_used(cache);
                touch(cache, 1, i);
            }
            alloc_fail_at(0, false);
            assert_int_equal(cache == NULL, alloc_failures() > 0 && nth == 1);
            if (cache != NULL) {
                put(cache, 1, 1000, 500);
                assert_true(touch(cache, 1, 1000));
            }
            sdb_cache_destroy(cache);
        } while (alloc_failures() > 0);
        assert_true(nth > 60);
    }
    if (SIZE_MAX > UINT32_MAX)
        assert_null(sdb_block_create(NULL, (size_t)UINT32_MAX + 1));
}

enum { THREADS = 4, STEPS = 3000 };

struct crowd {
    struct sdb_cache *cache;
    uint64_t offsets; /* keys of each of four tables */
};

static void *use_the_cache(void *arg)
{
    struct crowd *crowd = arg;
    struct sdb_cache *cache = crowd->cache;
    uint64_t seed = sdb_cache_new_id(cache);
    void *wrong = NULL;
    for (int i = 0; i < STEPS; i++) {
        uint64_t id = 100 + random_below(&seed, 4);
        uint64_t offset = random_below(&seed, crowd->offsets);
        struct sdb_block *block = sdb_cache_get(cache, id, offset);
        if (block == NULL) {
            block = make_block(id, offset, 1 + random_below(&seed, 2000));
            if (block == NULL)
                return crowd;
            sdb_cache_put(cache, id, offset, block);
        }
        if (!is_block(block, id, offset))
            wrong = crowd;
        sdb_block_unref(block);
        if (i % 500 == 0)
            sdb_cache_erase(cache, id);
    }
    return wrong;
}

static void run_crowd(size_t capacity, uint64_t offsets)
{
    struct crowd crowd = {sdb_cache_create(capacity, NULL), offsets};
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_the_cache, &crowd), 0);
    for (int i = 0; i < 20; i++)
        bytes_used(crowd.cache);
    for (size_t i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    struct sdb_cache_stats stats;
    sdb_cache_stats(crowd.cache, &stats);
    assert_true(stats.hits + stats.misses == THREADS * STEPS);
    assert_true(stats.hits > 0 && stats.misses > 0);
    sdb_cache_destroy(crowd.cache);
}

/* In several shards; and in one that is so small that what one thread just found is what another is
 * about to push out. */
static void threads_never_see_a_foreign_block(void **state)
{
    (void)state;
    run_crowd(1 << 20, 400);
    run_crowd(20 << 10, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_found),
        cmocka_unit_test(the_bound_holds_at_every_step),
        cmocka_unit_test(a_small_cache_still_works),
        cmocka_unit_test(no_capacity_keeps_nothing),
        cmocka_unit_test(a_hot_set_survives_a_scan),
        cmocka_unit_test(a_hot_set_survives_a_scan_in_silence),
        cmocka_unit_test(what_is_hot_no_more_makes_way),
        cmocka_unit_test(large_blocks_take_over_from_small_ones),
        cmocka_unit_test(the_block_that_is_there_stays),
        cmocka_unit_test(erase_drops_one_table_only),
        cmocka_unit_test(a_reference_outlives_the_cache),
        cmocka_unit_test(a_hit_allocates_nothing),
        cmocka_unit_test(lost_memory_only_means_less_is_kept),
        cmocka_unit_test(threads_never_see_a_foreign_block),
    };
    return cmocka_run_group_tests_name("cache", tests, NULL, NULL);
}
