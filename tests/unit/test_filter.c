/*
 * The Bloom filter: never "no" for a key that is there, "yes" for fewer than 1 in 100 others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "alloc_fail.h"
#include "lsm/table/filter.h"
#include "lsm/table/format.h"
#include "random.h"

static uint64_t seed;

static uint64_t hash_of(uint64_t number)
{
    char key[32];
    int size = snprintf(key, sizeof key, "user:%012" PRIu64, number);
    return sdb_hash64(key, (size_t)size, 0);
}

static void build(uint64_t count, double bits, struct sdb_buffer *out)
{
    struct sdb_filter_keys keys = {NULL, 0, 0};
    sdb_buffer_init(out, SDB_TABLE_BLOCK_MAX);
    for (uint64_t i = 0; i < count; i++)
        assert_true(sdb_filter_keys_add(&keys, hash_of(i)));
    assert_int_equal(sdb_filter_build(&keys, bits, out), STORM_OK);
    sdb_filter_keys_fini(&keys);
}

/* Per cent of 200,000 keys that are not there and pass. */
static double false_positives(const struct sdb_filter *filter)
{
    enum { TRIES = 200000 };
    unsigned passed = 0;
    for (uint64_t i = 0; i < TRIES; i++)
        passed += sdb_filter_may_contain(filter, hash_of(UINT64_C(1000000000) + i));
    return 100.0 * passed / TRIES;
}

static void check_rate(uint64_t count, double bits, double most)
{
    struct sdb_buffer contents;
    struct sdb_filter filter;
    build(count, bits, &contents);
    assert_int_equal(sdb_filter_parse(sdb_buffer_slice(&contents), &filter), STORM_OK);
    for (uint64_t i = 0; i < count; i++)
        assert_true(sdb_filter_may_contain(&filter, hash_of(i)));
    double rate = false_positives(&filter);
    printf("%" PRIu64 " keys, %.1f bits: %.2f %% false positives, %.2f bits used\n", count, bits,
           rate, 8.0 * (double)contents.size / (double)count);
    assert_true(rate <= most);
    sdb_buffer_fini(&contents);
}

static void default_filters_let_fewer_than_one_in_a_hundred_pass(void **unused)
{
    (void)unused;
    check_rate(20000, 10.5, 1.0);
    check_rate(1000000, 10.5, 1.0);
}

static void more_bits_let_fewer_pass(void **unused)
{
    (void)unused;
    check_rate(1, 10.5, 1.0);
    check_rate(100, 10.5, 1.5);
    check_rate(20000, 4, 17.0);
    check_rate(20000, 8, 2.8);
    check_rate(20000, 12, 0.6);
    check_rate(20000, 16, 0.2);
    check_rate(20000, 32, 0.02);
    check_rate(1000, 64, 0.01);
}

static void versions_of_one_key_count_once(void **unused)
{
    (void)unused;
    struct sdb_filter_keys keys = {NULL, 0, 0};
    for (int i = 0; i < 5000; i++)
        assert_true(sdb_filter_keys_add(&keys, hash_of((uint64_t)i / 1000)));
    assert_int_equal(keys.count, 5);
    sdb_filter_keys_fini(&keys);
}

/* The bits of version 1 may never change: files rely on them. */
static void the_bits_are_those_of_version_1(void **unused)
{
    (void)unused;
    struct sdb_buffer contents;
    build(1000, 10.5, &contents);
    assert_int_equal(contents.size, 21 * SDB_FILTER_LINE + SDB_FILTER_TAIL_SIZE);
    assert_int_equal(contents.data[contents.size - 3], 6);
    uint64_t hash = sdb_hash64(contents.data, contents.size, 0);
    assert_int_equal(hash, UINT64_C(0x7b293504efa13f92));
    sdb_buffer_fini(&contents);
}

static void damaged_contents_are_refused(void **unused)
{
    (void)unused;
    struct sdb_buffer contents;
    struct sdb_filter filter;
    build(1000, 10.5, &contents);
    struct storm_slice good = sdb_buffer_slice(&contents);
    uint8_t *tail = contents.data + contents.size - SDB_FILTER_TAIL_SIZE;
    for (size_t size = 0; size < good.size; size++) {
        storm_status status = sdb_filter_parse(storm_bytes(good.data, size), &filter);
        assert_true(status == STORM_CORRUPT || filter.line_count == 0);
    }
    assert_int_equal(sdb_filter_parse(storm_bytes(tail, SDB_FILTER_TAIL_SIZE), &filter),
                     STORM_CORRUPT);
    tail[1] = 0;
    assert_int_equal(sdb_filter_parse(good, &filter), STORM_CORRUPT);
    tail[1] = 25;
    assert_int_equal(sdb_filter_parse(good, &filter), STORM_CORRUPT);
    tail[1] = 6;
    tail[3] = 1;
    assert_int_equal(sdb_filter_parse(good, &filter), STORM_CORRUPT);
    sdb_buffer_fini(&contents);
}

static void a_kind_of_a_later_release_is_not_used(void **unused)
{
    (void)unused;
    static const uint8_t contents[] = {1, 2, 3, 2, 0, 0, 0};
    struct sdb_filter filter;
    assert_int_equal(sdb_filter_parse(storm_bytes(contents, sizeof contents), &filter), STORM_OK);
    assert_int_equal(filter.line_count, 0);
    assert_true(sdb_filter_may_contain(&filter, 1));
}

static void memory_failures_are_reported(void **unused)
{
    (void)unused;
    struct sdb_filter_keys keys = {NULL, 0, 0};
    struct sdb_buffer out;
    alloc_fail_at(1, false);
    assert_false(sdb_filter_keys_add(&keys, 1));
    alloc_fail_at(0, false);
    assert_true(sdb_filter_keys_add(&keys, 1));
    sdb_buffer_init(&out, SDB_TABLE_BLOCK_MAX);
    alloc_fail_at(1, false);
    assert_int_equal(sdb_filter_build(&keys, 10, &out), STORM_NO_MEMORY);
    alloc_fail_at(0, false);
    sdb_filter_keys_fini(&keys);
    sdb_buffer_fini(&out);
}

int main(void)
{
    seed = random_seed(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_filters_let_fewer_than_one_in_a_hundred_pass),
        cmocka_unit_test(more_bits_let_fewer_pass),
        cmocka_unit_test(versions_of_one_key_count_once),
        cmocka_unit_test(the_bits_are_those_of_version_1),
        cmocka_unit_test(damaged_contents_are_refused),
        cmocka_unit_test(a_kind_of_a_later_release_is_not_used),
        cmocka_unit_test(memory_failures_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
