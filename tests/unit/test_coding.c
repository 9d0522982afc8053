/* Fixed-width numbers, varints and cursors, with the edges and the lies that a damaged file
 * tells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "random.h"
#include "util/coding.h"

static void fixed_width_is_little_endian(void **state)
{
    (void)state;
    uint8_t bytes[8];
    sdb_put_u64(bytes, UINT64_C(0x0102030405060708));
    const uint8_t expected[8] = {8, 7, 6, 5, 4, 3, 2, 1};
    assert_memory_equal(bytes, expected, 8);
    assert_true(sdb_get_u64(bytes) == UINT64_C(0x0102030405060708));
    sdb_put_u32(bytes, 0xfeedbeef);
    assert_true(sdb_get_u32(bytes) == 0xfeedbeef);
    assert_true(bytes[0] == 0xef && bytes[3] == 0xfe);
}

static void check_varint(uint64_t x)
{
    uint8_t bytes[SDB_VARINT_MAX];
    size_t size = (size_t)(sdb_put_varint(bytes, x) - bytes);
    assert_true(size <= SDB_VARINT_MAX);
    assert_int_equal(size, sdb_varint_size(x));
    uint64_t back = 0;
    struct sdb_cursor cursor = sdb_cursor(storm_bytes(bytes, size));
    assert_true(sdb_read_varint(&cursor, &back));
    assert_true(back == x);
    assert_int_equal(sdb_cursor_left(&cursor), 0);
    for (size_t cut = 0; cut < size; cut++) {
        cursor = sdb_cursor(storm_bytes(bytes, cut));
        assert_false(sdb_read_varint(&cursor, &back));
        assert_null(cursor.at);
        assert_true(back == 0);
    }
    uint32_t narrow;
    cursor = sdb_cursor(storm_bytes(bytes, size));
    assert_true(sdb_read_varint32(&cursor, &narrow) == (x <= UINT32_MAX));
    assert_true(narrow == (x <= UINT32_MAX ? x : 0));
}

static void varints_come_back_and_short_ones_are_refused(void **state)
{
    (void)state;
    uint64_t seed = random_seed(1);
    for (unsigned bit = 0; bit < 64; bit++) {
        check_varint(UINT64_C(1) << bit);
        check_varint((UINT64_C(1) << bit) - 1);
        check_varint(UINT64_MAX >> bit);
    }
    for (int i = 0; i < 2000; i++)
        check_varint(random_u64(&seed) >> random_below(&seed, 64));
}

static void over_long_varints_are_refused(void **state)
{
    (void)state;
    uint64_t x;
    /* 2^64: the tenth byte may hold one bit only. */
    const uint8_t too_big[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02};
    struct sdb_cursor cursor = sdb_cursor(storm_bytes(too_big, sizeof too_big));
    assert_false(sdb_read_varint(&cursor, &x));
    /* Eleven bytes, whatever their value. */
    const uint8_t too_long[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
    cursor = sdb_cursor(storm_bytes(too_long, sizeof too_long));
    assert_false(sdb_read_varint(&cursor, &x));
    const uint8_t most[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    cursor = sdb_cursor(storm_bytes(most, sizeof most));
    assert_true(sdb_read_varint(&cursor, &x));
    assert_true(x == UINT64_MAX);
}

static void readers_stop_at_the_end(void **state)
{
    (void)state;
    const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7};
    struct storm_slice slice;
    uint64_t wide;
    uint32_t narrow;

    struct sdb_cursor cursor = sdb_cursor(storm_bytes(bytes, 7));
    assert_false(sdb_read_u64(&cursor, &wide));
    assert_int_equal(sdb_cursor_left(&cursor), 0);

    cursor = sdb_cursor(storm_bytes(bytes, 7));
    assert_true(sdb_read_u32(&cursor, &narrow));
    assert_true(narrow == 0x04030201);
    assert_int_equal(sdb_cursor_left(&cursor), 3);
    assert_false(sdb_read_u32(&cursor, &narrow));
    assert_true(narrow == 0);

    cursor = sdb_cursor(storm_bytes(bytes, 7));
    assert_false(sdb_read_bytes(&cursor, UINT64_MAX, &slice));
    assert_null(slice.data);
    assert_int_equal(slice.size, 0);

    cursor = sdb_cursor(storm_bytes(NULL, 0));
    assert_false(sdb_read_varint(&cursor, &wide));
    assert_false(sdb_read_bytes(&cursor, 0, &slice));
}

static void a_failed_cursor_stays_spent(void **state)
{
    (void)state;
    const uint8_t bytes[] = {9, 'a', 'b'};
    struct storm_slice slice;
    uint64_t x;
    struct sdb_cursor cursor = sdb_cursor(storm_bytes(bytes, sizeof bytes));
    assert_false(sdb_read_prefixed(&cursor, &slice));
    assert_false(sdb_read_varint(&cursor, &x));
    assert_false(sdb_read_u64(&cursor, &x));
    assert_false(sdb_read_prefixed(&cursor, &slice));
    assert_int_equal(sdb_cursor_left(&cursor), 0);
}

static void prefixed_bytes_come_back(void **state)
{
    (void)state;
    const uint8_t bytes[] = {3, 'a', 'b', 'c', 0, 1};
    struct storm_slice slice;
    struct sdb_cursor cursor = sdb_cursor(storm_bytes(bytes, sizeof bytes));
    assert_true(sdb_read_prefixed(&cursor, &slice));
    assert_int_equal(slice.size, 3);
    assert_memory_equal(slice.data, "abc", 3);
    assert_true(sdb_read_prefixed(&cursor, &slice));
    assert_int_equal(slice.size, 0);
    assert_false(sdb_read_prefixed(&cursor, &slice));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixed_width_is_little_endian),
        cmocka_unit_test(varints_come_back_and_short_ones_are_refused),
        cmocka_unit_test(over_long_varints_are_refused),
        cmocka_unit_test(readers_stop_at_the_end),
        cmocka_unit_test(a_failed_cursor_stays_spent),
        cmocka_unit_test(prefixed_bytes_come_back),
    };
    return cmocka_run_group_tests_name("coding", tests, NULL, NULL);
}
