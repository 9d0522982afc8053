/* The header of stored values: every combination of parts, and bytes that are not a header. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lsm/db/value.h"
#include "random.h"

enum { ROOM = SDB_VALUE_HEADER_MAX + 16 };

/* The stored form of `meta` and `text` in `room`. */
static struct storm_slice store_value(uint8_t *room, const struct storm_meta *meta,
                                      const char *text)
{
    size_t size = sdb_value_write_header(room, meta);
    assert_true(size <= SDB_VALUE_HEADER_MAX);
    memcpy(room + size, text, strlen(text));
    return storm_bytes(room, size + strlen(text));
}

static void assert_comes_back(struct storm_slice stored, const struct storm_meta *meta,
                              const char *text)
{
    struct storm_meta back;
    struct storm_slice bytes;
    assert_true(sdb_value_parse(stored, &back, &bytes));
    assert_int_equal(back.expires_ms, meta->expires_ms);
    assert_int_equal(back.modified_ms, meta->modified_ms);
    assert_int_equal(back.type.size, meta->type.size);
    if (meta->type.size != 0)
        assert_memory_equal(back.type.data, meta->type.data, meta->type.size);
    assert_int_equal(bytes.size, strlen(text));
    if (bytes.size != 0)
        assert_memory_equal(bytes.data, text, bytes.size);
    assert_int_equal(sdb_value_expires_ms(stored), meta->expires_ms);
}

static void every_combination_of_parts_comes_back(void **state)
{
    static const uint64_t times[] = {0, 1, 127, 128, UINT64_C(1) << 53, UINT64_MAX};
    static const size_t types[] = {0, 1, 9, SDB_TYPE_MAX};
    static const char *texts[] = {"", "x", "some bytes"};
    uint8_t type[SDB_TYPE_MAX], room[ROOM];
    size_t largest = 0;
    (void)state;
    memset(type, 't', sizeof type);
    for (size_t e = 0; e < 6; e++)
        for (size_t m = 0; m < 6; m++)
            for (size_t t = 0; t < 4; t++)
                for (size_t x = 0; x < 3; x++) {
                    struct storm_meta meta = {times[e], times[m], storm_bytes(type, types[t])};
                    struct storm_slice stored = store_value(room, &meta, texts[x]);
                    assert_comes_back(stored, &meta, texts[x]);
                    if (stored.size - strlen(texts[x]) > largest)
                        largest = stored.size - strlen(texts[x]);
                }
    /* The constant is exact, so room reckoned by it is neither short nor wasted. */
    assert_int_equal(largest, SDB_VALUE_HEADER_MAX);
}

static void a_value_without_meta_costs_one_byte(void **state)
{
    uint8_t room[ROOM];
    struct storm_meta none = {0};
    (void)state;
    assert_int_equal(sdb_value_write_header(room, &none), 1);
    assert_int_equal(room[0], 0);
}

static void a_header_cut_anywhere_is_refused(void **state)
{
    uint8_t room[ROOM];
    struct storm_meta meta = {1234567890123, 1234567890456, storm_text("image/png")}, back;
    struct storm_slice bytes;
    size_t size = sdb_value_write_header(room, &meta);
    (void)state;
    for (size_t cut = 0; cut < size; cut++)
        assert_false(sdb_value_parse(storm_bytes(room, cut), &back, &bytes));
    assert_true(sdb_value_parse(storm_bytes(room, size), &back, &bytes));
    assert_int_equal(bytes.size, 0);
    assert_false(sdb_value_parse(storm_bytes(NULL, 0), &back, &bytes));
}

static void unknown_flags_and_long_types_are_refused(void **state)
{
    uint8_t room[200] = {0};
    struct storm_meta meta;
    struct storm_slice bytes;
    (void)state;
    for (unsigned flags = 8; flags < 256; flags++) {
        room[0] = (uint8_t)flags;
        assert_false(sdb_value_parse(storm_bytes(room, sizeof room), &meta, &bytes));
    }
    room[0] = SDB_VALUE_TYPE;
    room[1] = SDB_TYPE_MAX;
    assert_true(sdb_value_parse(storm_bytes(room, sizeof room), &meta, &bytes));
    assert_int_equal(meta.type.size, SDB_TYPE_MAX);
    room[1] = SDB_TYPE_MAX + 1;
    assert_false(sdb_value_parse(storm_bytes(room, sizeof room), &meta, &bytes));
    /* A varint that never ends. */
    memset(room, 0xff, sizeof room);
    room[0] = SDB_VALUE_EXPIRES;
    assert_false(sdb_value_parse(storm_bytes(room, sizeof room), &meta, &bytes));
    assert_int_equal(sdb_value_expires_ms(storm_bytes(room, sizeof room)), 0);
    room[0] = SDB_VALUE_MODIFIED;
    assert_false(sdb_value_parse(storm_bytes(room, sizeof room), &meta, &bytes));
}

static void random_bytes_are_refused_or_lie_within(void **state)
{
    uint64_t seed = random_seed(11);
    (void)state;
    for (int i = 0; i < 100000; i++) {
        uint8_t room[24];
        size_t size = (size_t)random_below(&seed, sizeof room + 1);
        struct storm_meta meta;
        struct storm_slice bytes;
        random_bytes(&seed, room, size);
        if (size != 0)
            room[0] &= 15;
        if (!sdb_value_parse(storm_bytes(room, size), &meta, &bytes))
            continue;
        assert_true(bytes.data >= room && bytes.data + bytes.size == room + size);
        if (meta.type.size != 0)
            assert_true(meta.type.data > room && meta.type.data + meta.type.size <= bytes.data);
        assert_int_equal(sdb_value_expires_ms(storm_bytes(room, size)), meta.expires_ms);
    }
}

static void a_value_expires_at_its_time_and_not_before(void **state)
{
    uint8_t room[ROOM];
    struct storm_meta meta = {.expires_ms = 1000};
    struct storm_slice stored = store_value(room, &meta, "v");
    (void)state;
    assert_false(sdb_value_is_expired(stored, 999));
    assert_true(sdb_value_is_expired(stored, 1000));
    assert_true(sdb_value_is_expired(stored, 1001));
    meta = (struct storm_meta){.modified_ms = 1};
    assert_false(sdb_value_is_expired(store_value(room, &meta, "v"), UINT64_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination_of_parts_comes_back),
        cmocka_unit_test(a_value_without_meta_costs_one_byte),
        cmocka_unit_test(a_header_cut_anywhere_is_refused),
        cmocka_unit_test(unknown_flags_and_long_types_are_refused),
        cmocka_unit_test(random_bytes_are_refused_or_lie_within),
        cmocka_unit_test(a_value_expires_at_its_time_and_not_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
