/* The growable buffer: what goes in comes out, the maximum holds, the first failure sticks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "alloc_fail.h"
#include "random.h"
#include "util/buffer.h"
#include "util/coding.h"

static void appended_bytes_come_back_in_order(void **state)
{
    (void)state;
    struct sdb_buffer buffer;
    struct storm_slice slice;
    uint64_t wide;
    uint32_t narrow;
    sdb_buffer_init(&buffer, 1 << 20);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_true(sdb_buffer_add_u32(&buffer, i));
        assert_true(sdb_buffer_add_u64(&buffer, UINT64_MAX - i));
        assert_true(sdb_buffer_add_varint(&buffer, (uint64_t)i << i % 50));
        assert_true(sdb_buffer_add_prefixed(&buffer, storm_text("key")));
        assert_true(sdb_buffer_add_u8(&buffer, (uint8_t)i));
        assert_true(sdb_buffer_add(&buffer, NULL, 0));
    }
    struct sdb_cursor cursor = sdb_cursor(sdb_buffer_slice(&buffer));
    for (uint32_t i = 0; i < 1000; i++) {
        assert_true(sdb_read_u32(&cursor, &narrow) && narrow == i);
        assert_true(sdb_read_u64(&cursor, &wide) && wide == UINT64_MAX - i);
        assert_true(sdb_read_varint(&cursor, &wide) && wide == (uint64_t)i << i % 50);
        assert_true(sdb_read_prefixed(&cursor, &slice) && slice.size == 3);
        assert_true(sdb_read_bytes(&cursor, 1, &slice) && slice.data[0] == (uint8_t)i);
    }
    assert_int_equal(sdb_cursor_left(&cursor), 0);
    sdb_buffer_fini(&buffer);
    assert_null(buffer.data);
}

static void the_maximum_is_exact_and_sticks(void **state)
{
    (void)state;
    static const uint8_t zeroes[1000];
    for (size_t max = 0; max < 300; max += 7) {
        struct sdb_buffer buffer;
        sdb_buffer_init(&buffer, max);
        for (size_t i = 0; i < max; i++)
            assert_true(sdb_buffer_add_u8(&buffer, (uint8_t)i));
        assert_non_null(sdb_buffer_reserve(&buffer, 0));
        assert_false(sdb_buffer_add(&buffer, zeroes, 1));
        assert_int_equal(buffer.status, STORM_TOO_LARGE);
        assert_int_equal(buffer.size, max);
        assert_true(buffer.room <= (max > 0 ? max : 1));
        /* Sticky: not even nothing can be added. */
        assert_false(sdb_buffer_add(&buffer, NULL, 0));
        assert_null(sdb_buffer_reserve(&buffer, 0));
        sdb_buffer_clear(&buffer);
        assert_int_equal(buffer.status, STORM_OK);
        assert_int_equal(buffer.size, 0);
        assert_int_equal(sdb_buffer_add(&buffer, zeroes, max), true);
        sdb_buffer_fini(&buffer);
    }
}

static void absurd_sizes_do_not_wrap_around(void **state)
{
    (void)state;
    struct sdb_buffer buffer;
    sdb_buffer_init(&buffer, SIZE_MAX);
    assert_true(sdb_buffer_add_u8(&buffer, 1));
    assert_null(sdb_buffer_reserve(&buffer, SIZE_MAX));
    assert_int_equal(buffer.status, STORM_TOO_LARGE);
    assert_int_equal(buffer.size, 1);
    sdb_buffer_fini(&buffer);
}

static void reserve_gives_room_without_advancing(void **state)
{
    (void)state;
    struct sdb_buffer buffer;
    sdb_buffer_init(&buffer, 10000);
    uint8_t *room = sdb_buffer_reserve(&buffer, 5000);
    assert_non_null(room);
    assert_int_equal(buffer.size, 0);
    memset(room, 7, 5000);
    buffer.size += 5000;
    assert_true(sdb_buffer_add_u8(&buffer, 8));
    assert_true(buffer.data[4999] == 7 && buffer.data[5000] == 8);
    sdb_buffer_fini(&buffer);
}

static void lost_memory_keeps_what_was_there(void **state)
{
    (void)state;
    uint64_t nth = 0;
    do {
        struct sdb_buffer buffer;
        uint32_t added = 0;
        sdb_buffer_init(&buffer, 1 << 16);
        alloc_fail_at(++nth, false);
        while (added < 1000 && sdb_buffer_add_u32(&buffer, added))
            added++;
        alloc_fail_at(0, false);
        assert_int_equal(buffer.status, added == 1000 ? STORM_OK : STORM_NO_MEMORY);
        assert_int_equal(added == 1000, alloc_failures() == 0);
        assert_int_equal(buffer.size, 4 * (size_t)added);
        for (uint32_t i = 0; i < added; i++)
            assert_int_equal(sdb_get_u32(buffer.data + (size_t)4 * i), i);
        assert_int_equal(sdb_buffer_add_u8(&buffer, 1), added == 1000);
        sdb_buffer_clear(&buffer);
        assert_true(sdb_buffer_add_u8(&buffer, 1));
        sdb_buffer_fini(&buffer);
    } while (alloc_failures() > 0);
    assert_true(nth > 3);
}

static void clear_keeps_the_memory(void **state)
{
    (void)state;
    struct sdb_buffer buffer;
    sdb_buffer_init(&buffer, 1 << 16);
    assert_non_null(sdb_buffer_reserve(&buffer, 1 << 15));
    sdb_buffer_clear(&buffer);
    uint64_t before = alloc_count();
    assert_non_null(sdb_buffer_reserve(&buffer, 1 << 15));
    assert_true(alloc_count() == before);
    sdb_buffer_fini(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appended_bytes_come_back_in_order),
        cmocka_unit_test(the_maximum_is_exact_and_sticks),
        cmocka_unit_test(absurd_sizes_do_not_wrap_around),
        cmocka_unit_test(reserve_gives_room_without_advancing),
        cmocka_unit_test(lost_memory_keeps_what_was_there),
        cmocka_unit_test(clear_keeps_the_memory),
    };
    return cmocka_run_group_tests_name("buffer", tests, NULL, NULL);
}
