/* The arena: alignment, chunk sizes, accounting, running out of memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "alloc_fail.h"
#include "lsm/mem/arena.h"
#include "os/large.h"
#include "random.h"

enum { KIB = 1 << 10, BLOCKS = 4000 };

static void an_empty_arena_has_taken_nothing(void **state)
{
    (void)state;
    struct sdb_arena arena;
    sdb_arena_init(&arena, NULL);
    assert_int_equal(atomic_load(&arena.bytes), 0);
    sdb_arena_fini(&arena);
    sdb_arena_fini(&arena);
}

static void allocations_are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    static struct {
        uint8_t *at;
        size_t size;
    } blocks[BLOCKS];
    uint64_t random = random_seed(11);
    struct sdb_arena arena;
    sdb_arena_init(&arena, NULL);
    size_t total = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t align = (size_t)1 << random_below(&random, 7);
        blocks[i].size = random_below(&random, random_below(&random, 100) == 0 ? 300 * KIB : 400);
        blocks[i].at = sdb_arena_alloc(&arena, blocks[i].size, align);
        assert_non_null(blocks[i].at);
        assert_int_equal((uintptr_t)blocks[i].at % align, 0);
        memset(blocks[i].at, (int)(i % 251), blocks[i].size);
        total += blocks[i].size;
        assert_true(atomic_load(&arena.used) >= total);
        assert_true(atomic_load(&arena.bytes) >= atomic_load(&arena.used));
    }
    for (size_t i = 0; i < BLOCKS; i++)
        for (size_t j = 0; j < blocks[i].size; j++)
            assert_int_equal(blocks[i].at[j], i % 251);
    sdb_arena_fini(&arena);
    assert_int_equal(atomic_load(&arena.bytes), 0);
}

static void chunks_double_from_64_to_256_kib(void **state)
{
    (void)state;
    static const size_t sizes[] = {64, 128, 256, 256, 256, 256, 256};
    struct sdb_arena arena;
    sdb_arena_init(&arena, NULL);
    size_t total = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t before = atomic_load(&arena.bytes);
        while (atomic_load(&arena.bytes) == before)
            assert_non_null(sdb_arena_alloc(&arena, 1000, 8));
        total += sizes[i] * KIB;
        assert_int_equal(atomic_load(&arena.bytes), total);
    }
    sdb_arena_fini(&arena);
}

static void a_large_allocation_gets_its_own_chunk_and_wastes_no_other(void **state)
{
    (void)state;
    struct sdb_arena arena;
    sdb_arena_init(&arena, NULL);
    uint8_t *first = sdb_arena_alloc(&arena, 100, 1);
    size_t before = atomic_load(&arena.bytes);
    uint8_t *large = sdb_arena_alloc(&arena, 3000 * KIB, 64);
    assert_non_null(large);
    memset(large, 1, 3000 * KIB);
    size_t taken = atomic_load(&arena.bytes) - before;
    assert_in_range(taken, 3000 * KIB, 3000 * KIB + 128);
    /* The chunk that was being filled goes on where it was. */
    assert_ptr_equal(sdb_arena_alloc(&arena, 1, 1), first + 100);
    sdb_arena_fini(&arena);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    struct sdb_arena arena;
    sdb_arena_init(&arena, NULL);
    assert_null(sdb_arena_alloc(&arena, SIZE_MAX, 64));
    assert_null(sdb_arena_alloc(&arena, SIZE_MAX - 32, 1));
    uint8_t *at = sdb_arena_alloc(&arena, 1, 1);
    assert_non_null(at);
    assert_null(sdb_arena_alloc(&arena, SIZE_MAX, 1));
    assert_null(sdb_arena_alloc(&arena, SIZE_MAX - 64, 64));
    assert_ptr_equal(sdb_arena_alloc(&arena, 1, 1), at + 1);
    sdb_arena_fini(&arena);
}

static void a_failed_allocation_changes_nothing(void **state)
{
    (void)state;
    struct sdb_arena arena;
    sdb_arena_init(&arena, NULL);
    alloc_fail_at(1, true);
    void *small = sdb_arena_alloc(&arena, 8, 8);
    void *large = sdb_arena_alloc(&arena, 1000 * KIB, 8);
    alloc_fail_at(0, false);
    assert_null(small);
    assert_null(large);
    assert_int_equal(atomic_load(&arena.bytes), 0);

    assert_non_null(sdb_arena_alloc(&arena, 8, 8));
    assert_int_equal(atomic_load(&arena.bytes), 64 * KIB);
    sdb_arena_fini(&arena);
}

/* Any run of allocations within what was reserved, with no memory to be had meanwhile. */
static void what_was_reserved_is_there_when_memory_is_not(void **state)
{
    (void)state;
    uint64_t random = random_seed(12);
    for (unsigned round = 0; round < 300; round++) {
        struct sdb_arena arena;
        sdb_arena_init(&arena, NULL);
        for (unsigned group = 0; group < 12; group++) {
            size_t left =
                random_below(&random, random_below(&random, 8) == 0 ? 3000 * KIB : 60 * KIB);
            size_t large = random_below(&random, 3) == 0 ? 1 + random_below(&random, 300 * KIB) : 0;
            assert_true(sdb_arena_reserve(&arena, left));
            for (size_t i = 1; i <= 2 && large != 0; i++)
                assert_true(sdb_arena_reserve_large(&arena, SDB_ARENA_LARGE + i * large));
            size_t bytes = atomic_load(&arena.bytes);
            alloc_fail_at(1, true);
            for (size_t i = 1; i <= 2 && large != 0; i++)
                assert_non_null(sdb_arena_alloc(&arena, SDB_ARENA_LARGE + i * large, 8));
            for (;;) {
                size_t align = (size_t)1 << random_below(&random, 7);
                size_t most = random_below(&random, 4) == 0 ? SDB_ARENA_LARGE : 600;
                size_t size = 1 + random_below(&random, most);
                if (size + align - 1 > left)
                    break;
                left -= size + align - 1;
                assert_non_null(sdb_arena_alloc(&arena, size, align));
            }
            assert_int_equal(alloc_failures(), 0);
            alloc_fail_at(0, false);
            assert_int_equal(atomic_load(&arena.bytes), bytes);
        }
        sdb_arena_fini(&arena);
        assert_int_equal(atomic_load(&arena.bytes), 0);
    }
}

static void reserving_neither_wastes_the_chunk_in_use_nor_adds_up(void **state)
{
    (void)state;
    struct sdb_arena arena;
    sdb_arena_init(&arena, NULL);
    uint8_t *first = sdb_arena_alloc(&arena, 100, 1);
    assert_true(sdb_arena_reserve(&arena, 100 * KIB));
    size_t bytes = atomic_load(&arena.bytes);
    assert_int_equal(bytes, (64 + 128) * KIB);
    for (int i = 0; i < 10; i++)
        assert_true(sdb_arena_reserve(&arena, 100 * KIB));
    assert_int_equal(atomic_load(&arena.bytes), bytes);
    assert_ptr_equal(sdb_arena_alloc(&arena, 1, 1), first + 100);
    sdb_arena_fini(&arena);
}

static void what_is_not_used_can_be_given_back(void **state)
{
    (void)state;
    struct sdb_arena arena;
    sdb_arena_init(&arena, NULL);
    assert_non_null(sdb_arena_alloc(&arena, 100, 1));
    for (int i = 0; i < 3; i++) {
        assert_true(sdb_arena_reserve(&arena, 1000 * KIB));
        assert_true(sdb_arena_reserve_large(&arena, 1000 * KIB));
        sdb_arena_unreserve(&arena, 1);
        assert_int_equal(atomic_load(&arena.bytes), (64 + 128) * KIB);
    }
    sdb_arena_unreserve(&arena, 0);
    assert_int_equal(atomic_load(&arena.bytes), 64 * KIB);
    /* Chunks go on doubling from there. */
    assert_true(sdb_arena_reserve(&arena, 100 * KIB));
    assert_int_equal(atomic_load(&arena.bytes), (64 + 128) * KIB);
    sdb_arena_fini(&arena);
}

static void reserving_without_memory_says_so(void **state)
{
    (void)state;
    struct sdb_arena arena;
    sdb_arena_init(&arena, NULL);
    assert_non_null(sdb_arena_alloc(&arena, 100, 1));
    alloc_fail_at(3, true);
    assert_false(sdb_arena_reserve(&arena, 1000 * KIB));
    assert_false(sdb_arena_reserve_large(&arena, 1000 * KIB));
    alloc_fail_at(0, false);
    assert_false(sdb_arena_reserve_large(&arena, SIZE_MAX - 32));
    assert_int_equal(atomic_load(&arena.bytes), (64 + 128 + 256) * KIB);
    assert_true(sdb_arena_reserve(&arena, 60 * KIB));
    sdb_arena_unreserve(&arena, 0);
    assert_int_equal(atomic_load(&arena.bytes), 64 * KIB);
    sdb_arena_fini(&arena);
}

/* Whether the page that `at` lies in is there. */
static bool has_page(const void *at)
{
    unsigned char is_there = 0;
    void *page = (void *)((uintptr_t)at / SDB_PAGE * SDB_PAGE);
    assert_int_equal(mincore(page, 1, &is_there), 0);
    return is_there & 1;
}

/* Kernels before 5.14 do not populate when asked to: there the pages come when touched. */
static bool can_populate(void)
{
    uint8_t *piece = sdb_large_alloc_bare(SDB_LARGE);
    assert_non_null(piece);
    sdb_large_populate(piece, SDB_LARGE);
    bool has_last = has_page(piece + SDB_LARGE - 1);
    sdb_large_free(piece, SDB_LARGE);
    return has_last;
}

static void pages_are_there_before_they_are_filled(void **state)
{
    (void)state;
    if (!can_populate())
        skip();
    struct sdb_arena arena;
    uint64_t random = random_seed(12);
    sdb_arena_init(&arena, NULL);
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = 1 + random_below(&random, SDB_ARENA_LARGE);
        uint8_t *at = sdb_arena_alloc(&arena, size, 1);
        assert_non_null(at);
        for (size_t j = 0; j < size; j += SDB_PAGE)
            assert_true(has_page(at + j));
        assert_true(has_page(at + size - 1));
    }
    sdb_arena_fini(&arena);
}

static void a_chunk_begins_without_most_of_its_pages(void **state)
{
    (void)state;
    struct sdb_arena arena;
    sdb_arena_init(&arena, NULL);
    assert_true(sdb_arena_reserve(&arena, 1000 * KIB));
    size_t missing = 0;
    for (size_t taken = 0; taken < 1000 * KIB; taken += 256) {
        uint8_t *at = sdb_arena_alloc(&arena, 256, 1);
        assert_non_null(at);
        uint8_t *last = arena.end - 1;
        missing += !has_page(last);
    }
    sdb_arena_fini(&arena);
    /* A kernel that is set to huge pages may have them all at once where pieces lie in a row. */
    assert_true(missing > 0);
}

static void chunks_in_a_row_go_together_and_others_stay(void **state)
{
    (void)state;
    static const size_t large = 68 * KIB; /* has pages of its own, unlike 20 KiB */
    struct sdb_arena arena;
    struct sdb_arena other;
    uint8_t *kept[64];
    struct sdb_account account = {0};
    sdb_arena_init(&arena, &account);
    sdb_arena_init(&other, NULL);
    for (size_t i = 0; i < 640; i++) {
        size_t size = i % 3 == 0 ? 20 * KIB : large;
        assert_non_null(sdb_arena_alloc(&arena, size, 64));
        if (i % 10 == 0) { /* comes to lie between them */
            kept[i / 10] = sdb_arena_alloc(&other, large, 64);
            assert_non_null(kept[i / 10]);
            memset(kept[i / 10], (int)i, large);
        }
    }
    sdb_arena_fini(&arena);
    assert_int_equal(atomic_load(&arena.bytes), 0);
    assert_int_equal(sdb_account_bytes(&account, SDB_FOR_MEMTABLES), 0);
    for (size_t i = 0; i < 64; i++) {
        for (size_t j = 0; j < large; j += 512)
            assert_int_equal(kept[i][j], (uint8_t)(i * 10));
    }
    sdb_arena_fini(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_arena_has_taken_nothing),
        cmocka_unit_test(allocations_are_aligned_and_do_not_overlap),
        cmocka_unit_test(chunks_double_from_64_to_256_kib),
        cmocka_unit_test(a_large_allocation_gets_its_own_chunk_and_wastes_no_other),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(a_failed_allocation_changes_nothing),
        cmocka_unit_test(what_was_reserved_is_there_when_memory_is_not),
        cmocka_unit_test(reserving_neither_wastes_the_chunk_in_use_nor_adds_up),
        cmocka_unit_test(what_is_not_used_can_be_given_back),
        cmocka_unit_test(reserving_without_memory_says_so),
        cmocka_unit_test(pages_are_there_before_they_are_filled),
        cmocka_unit_test(a_chunk_begins_without_most_of_its_pages),
        cmocka_unit_test(chunks_in_a_row_go_together_and_others_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
