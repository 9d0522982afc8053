/* Batches: what is added comes out of the encoding, limits, conditions, results, missing memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "alloc_fail.h"
#include "lsm/db/batch.h"
#include "lsm/db/value.h"
#include "random.h"

static storm_batch *batch;

static int set_up(void **state)
{
    (void)state;
    batch = storm_batch_create();
    return batch == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    storm_batch_destroy(batch);
    return 0;
}

static struct sdb_cursor encoded(void)
{
    return sdb_cursor(sdb_buffer_slice(&batch->ops));
}

static void assert_text(struct storm_slice bytes, const char *text)
{
    assert_int_equal(bytes.size, strlen(text));
    if (bytes.size != 0)
        assert_memory_equal(bytes.data, text, bytes.size);
}

static struct storm_op put_of(const char *key, const char *value)
{
    return (struct storm_op){.kind = STORM_PUT, .key = storm_text(key), .value = storm_text(value)};
}

static void operations_come_out_in_order_and_whole(void **state)
{
    struct sdb_batch_op op;
    struct storm_meta meta;
    struct storm_slice bytes;
    struct storm_op put = put_of("b", "");
    struct storm_op check = {
        .kind = STORM_CHECK, .condition = STORM_IF_PRESENT, .key = storm_text("only-checked")};
    (void)state;
    put.meta = (struct storm_meta){7, 8, storm_text("text/plain")};
    assert_int_equal(storm_batch_put(batch, storm_text("a"), storm_text("one")), STORM_OK);
    assert_int_equal(storm_batch_add(batch, &check), STORM_OK);
    assert_int_equal(storm_batch_delete(batch, storm_text("a")), STORM_OK);
    assert_int_equal(storm_batch_add(batch, &put), STORM_OK);
    assert_int_equal(storm_batch_count(batch), 4);
    assert_int_equal(batch->writes, 3);
    assert_int_equal(batch->largest_key, strlen("only-checked"));
    assert_int_equal(batch->largest_value, 3);

    struct sdb_cursor cursor = encoded();
    assert_true(sdb_batch_next(&cursor, &op));
    assert_int_equal(op.kind, SDB_KIND_PUT);
    assert_text(op.key, "a");
    assert_true(sdb_value_parse(op.value, &meta, &bytes));
    assert_text(bytes, "one");
    assert_int_equal(meta.expires_ms + meta.modified_ms + meta.type.size, 0);
    assert_true(sdb_batch_next(&cursor, &op));
    assert_int_equal(op.kind, SDB_KIND_DELETE);
    assert_text(op.key, "a");
    assert_int_equal(op.value.size, 0);
    assert_true(sdb_batch_next(&cursor, &op));
    assert_text(op.key, "b");
    assert_true(sdb_value_parse(op.value, &meta, &bytes));
    assert_text(bytes, "");
    assert_int_equal(meta.expires_ms, 7);
    assert_int_equal(meta.modified_ms, 8);
    assert_text(meta.type, "text/plain");
    assert_false(sdb_batch_next(&cursor, &op));
    assert_non_null(cursor.at); /* the end, not a malformed operation */
}

static void what_is_added_is_copied(void **state)
{
    char key[] = "key", value[] = "value";
    uint64_t revisions[] = {5, 6};
    struct storm_op op = put_of(key, value);
    struct sdb_batch_op back;
    (void)state;
    op.condition = STORM_IF_MATCH;
    op.revisions = revisions;
    op.revision_count = 2;
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    memset(key, '#', sizeof key);
    memset(value, '#', sizeof value);
    memset(revisions, 0, sizeof revisions);
    struct sdb_cursor cursor = encoded();
    assert_true(sdb_batch_next(&cursor, &back));
    assert_text(back.key, "key");
    assert_memory_equal(back.value.data + 1, "value", 5);
    assert_text(sdb_check_key(batch, &batch->checks[0]), "key");
    assert_true(sdb_check_holds(batch, &batch->checks[0], true, 6));
}

static void operations_out_of_range_are_refused_and_leave_no_trace(void **state)
{
    uint8_t *large = calloc(1, 65536);
    uint64_t revisions[65] = {0};
    struct storm_op good = put_of("k", "v"), op = good;
    (void)state;
    op.key.size = 0;
    assert_int_equal(storm_batch_add(batch, &op), STORM_INVALID);
    op = good;
    op.kind = (enum storm_op_kind)(STORM_DELETE_RANGE + 1);
    assert_int_equal(storm_batch_add(batch, &op), STORM_INVALID);
    op = good;
    op.condition = (enum storm_condition)(STORM_IF_NONE_MATCH + 1);
    assert_int_equal(storm_batch_add(batch, &op), STORM_INVALID);
    op = good;
    op.meta.type = storm_bytes(large, SDB_TYPE_MAX + 1);
    assert_int_equal(storm_batch_add(batch, &op), STORM_INVALID);
    op = good;
    op.condition = STORM_IF_MATCH;
    op.revisions = revisions;
    op.revision_count = 65;
    assert_int_equal(storm_batch_add(batch, &op), STORM_INVALID);
    op = good;
    op.key = storm_bytes(large, 65536);
    assert_int_equal(storm_batch_add(batch, &op), STORM_TOO_LARGE);
    op = good;
    /* Never read: the size alone refuses it. */
    op.value = storm_bytes(large, ((size_t)1 << 30) + 1);
    assert_int_equal(storm_batch_add(batch, &op), STORM_TOO_LARGE);
    assert_int_equal(storm_batch_count(batch), 0);
    assert_int_equal(batch->ops.size + batch->check_count, 0);

    op = good;
    op.key = storm_bytes(large, 65535);
    op.meta.type = storm_bytes("tttt", 4);
    op.condition = STORM_IF_NONE_MATCH;
    op.revisions = revisions;
    op.revision_count = 64;
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    /* With something in the batch already, a gigabyte is one byte too many. */
    op = good;
    op.value = storm_bytes(large, (size_t)1 << 30);
    assert_int_equal(storm_batch_add(batch, &op), STORM_TOO_LARGE);
    assert_int_equal(storm_batch_count(batch), 1);
    free(large);
}

static void every_condition_holds_exactly_when_it_should(void **state)
{
    static const uint64_t listed[] = {3, 9};
    /* In the order absent, exists at a listed revision, exists at another one. */
    static const bool expected[][3] = {
        [STORM_ALWAYS] = {true, true, true},         [STORM_IF_ABSENT] = {true, false, false},
        [STORM_IF_PRESENT] = {false, true, true},    [STORM_IF_MATCH] = {false, true, false},
        [STORM_IF_NONE_MATCH] = {true, false, true},
    };
    (void)state;
    /* A first check with revisions of its own, so that the second one's do not begin at 0. */
    struct storm_op op = {.kind = STORM_CHECK,
                          .condition = STORM_IF_MATCH,
                          .key = storm_text("k"),
                          .revisions = (const uint64_t[]){100, 4},
                          .revision_count = 2};
    for (int c = STORM_ALWAYS; c <= STORM_IF_NONE_MATCH; c++) {
        storm_batch_clear(batch);
        op.condition = STORM_IF_MATCH;
        assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
        struct storm_op second = op;
        second.condition = (enum storm_condition)c;
        second.revisions = listed;
        assert_int_equal(storm_batch_add(batch, &second), STORM_OK);
        const struct sdb_check *check = &batch->checks[1];
        assert_int_equal(sdb_check_holds(batch, check, false, 0), expected[c][0]);
        assert_int_equal(sdb_check_holds(batch, check, true, 3), expected[c][1]);
        assert_int_equal(sdb_check_holds(batch, check, true, 9), expected[c][1]);
        assert_int_equal(sdb_check_holds(batch, check, true, 4), expected[c][2]);
        /* The revision of an absent key is nobody's. */
        assert_int_equal(sdb_check_holds(batch, check, false, 3), expected[c][0]);
        /* Without a list nothing is listed. */
        second.revision_count = 0;
        assert_int_equal(storm_batch_add(batch, &second), STORM_OK);
        assert_int_equal(sdb_check_holds(batch, &batch->checks[2], true, 3), expected[c][2]);
    }
}

static void results_are_found_by_the_operations_index(void **state)
{
    (void)state;
    /* Every third operation has a check. */
    for (size_t i = 0; i < 100; i++) {
        struct storm_op op = put_of("k", "v");
        op.want_previous = i % 3 == 0;
        assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    }
    assert_int_equal(batch->check_count, 34);
    for (size_t i = 0; i < batch->check_count; i++)
        batch->checks[i].result = (struct storm_op_result){true, true, 1000 + i};
    for (size_t i = 0; i < 102; i++) {
        struct storm_op_result result = storm_batch_result(batch, i);
        bool is_asked = i % 3 == 0 && i < 100;
        assert_int_equal(result.holds, is_asked);
        assert_int_equal(result.existed, is_asked);
        assert_int_equal(result.previous_revision, is_asked ? 1000 + i / 3 : 0);
    }
}

static void a_cleared_batch_is_as_new(void **state)
{
    struct storm_op op = put_of("a-longer-key", "and its value");
    struct sdb_batch_op back;
    (void)state;
    op.condition = STORM_IF_ABSENT;
    for (int round = 0; round < 3; round++) {
        assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
        assert_int_equal(batch->check_count, 1);
        batch->checks[0].result.holds = true;
        storm_batch_clear(batch);
        assert_int_equal(storm_batch_count(batch), 0);
        assert_int_equal(batch->writes + batch->largest_key + batch->largest_value, 0);
        assert_int_equal(batch->check_count + batch->check_keys.size, 0);
        assert_int_equal(batch->check_revisions.size, 0);
        assert_false(storm_batch_result(batch, 0).holds);
        struct sdb_cursor cursor = encoded();
        assert_false(sdb_batch_next(&cursor, &back));
    }
    storm_batch_destroy(NULL);
}

/* Add 20 operations, some with checks; one that fails for want of memory is added again. */
static void fill_with_failures(uint64_t nth)
{
    char key[600];
    uint64_t revisions[4] = {1, 2, 3, 4};
    memset(key, 'k', sizeof key);
    alloc_fail_at(nth, false);
    for (size_t i = 0; i < 20; i++) {
        struct storm_op op = {.kind = i % 5 == 4 ? STORM_CHECK : STORM_PUT,
                              .condition = i % 3 == 0 ? STORM_IF_NONE_MATCH : STORM_ALWAYS,
                              .key = storm_bytes(key, 30 * (i + 1)),
                              .value = storm_bytes(key, 20 * i),
                              .revisions = revisions,
                              .revision_count = i % 5};
        size_t writes = batch->writes, size = batch->ops.size, checks = batch->check_count;
        storm_status status = storm_batch_add(batch, &op);
        if (status == STORM_OK)
            continue;
        assert_int_equal(status, STORM_NO_MEMORY);
        assert_int_equal(storm_batch_count(batch), i);
        assert_int_equal(batch->writes, writes);
        assert_int_equal(batch->ops.size, size);
        assert_int_equal(batch->check_count, checks);
        /* The memory is back: so is the batch. */
        assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    }
}

static void a_batch_stays_usable_when_memory_runs_out(void **state)
{
    uint64_t failures = 1;
    uint64_t points = 0;
    (void)state;
    for (uint64_t nth = 1; failures != 0; nth++) {
        storm_batch_destroy(batch);
        batch = storm_batch_create();
        assert_non_null(batch);
        fill_with_failures(nth);
        failures = alloc_failures();
        alloc_fail_at(0, false);
        points += failures;
        struct sdb_cursor cursor = encoded();
        struct sdb_batch_op op;
        size_t check = 0;
        for (size_t i = 0; i < 20; i++) {
            bool is_checked = i % 3 == 0 || i % 5 == 4;
            if (i % 5 != 4) {
                assert_true(sdb_batch_next(&cursor, &op));
                assert_int_equal(op.key.size, 30 * (i + 1));
                assert_int_equal(op.value.size, 1 + 20 * i);
            }
            if (!is_checked)
                continue;
            assert_int_equal(batch->checks[check].index, i);
            assert_int_equal(sdb_check_key(batch, &batch->checks[check]).size, 30 * (i + 1));
            bool is_listed = i % 5 >= 2;
            bool expected = batch->checks[check].condition == STORM_ALWAYS || !is_listed;
            assert_int_equal(sdb_check_holds(batch, &batch->checks[check], true, 2), expected);
            check++;
        }
        assert_false(sdb_batch_next(&cursor, &op));
        assert_int_equal(batch->check_count, check);
    }
    assert_true(points > 5);
    alloc_fail_at(1, false);
    assert_null(storm_batch_create());
    alloc_fail_at(0, false);
}

static void a_range_delete_is_encoded_and_turns_covered_puts_into_deletes(void **state)
{
    static const struct {
        enum sdb_kind kind;
        const char *key, *value;
    } expected[] = {
        {SDB_KIND_PUT, "a", "1"},         {SDB_KIND_DELETE, "b", NULL},
        {SDB_KIND_DELETE, "c", NULL},     {SDB_KIND_DELETE_RANGE, "b", "d"},
        {SDB_KIND_PUT, "c", "4"},         {SDB_KIND_DELETE, "z", NULL},
        {SDB_KIND_DELETE_RANGE, "x", ""}, {SDB_KIND_DELETE_RANGE, "d", "d"},
    };
    (void)state;
    struct sdb_batch_op op;
    assert_int_equal(storm_batch_put(batch, storm_text("a"), storm_text("1")), STORM_OK);
    assert_int_equal(storm_batch_put(batch, storm_text("b"), storm_text("2")), STORM_OK);
    assert_int_equal(storm_batch_put(batch, storm_text("c"), storm_text("3")), STORM_OK);
    assert_int_equal(storm_batch_delete_range(batch, storm_text("b"), storm_text("d")), STORM_OK);
    assert_int_equal(storm_batch_put(batch, storm_text("c"), storm_text("4")), STORM_OK);
    assert_int_equal(storm_batch_put(batch, storm_text("z"), storm_text("5")), STORM_OK);
    assert_int_equal(storm_batch_delete_range(batch, storm_text("x"), storm_text("")), STORM_OK);
    assert_int_equal(storm_batch_delete_range(batch, storm_text("d"), storm_text("d")), STORM_OK);
    assert_int_equal(storm_batch_count(batch), 8);
    assert_int_equal(batch->writes, 8);
    assert_int_equal(batch->range_count, 3);
    struct sdb_cursor cursor = sdb_cursor(sdb_buffer_slice(&batch->ops));
    for (size_t i = 0; i < 8; i++) {
        assert_true(sdb_batch_next(&cursor, &op));
        assert_int_equal(op.kind, expected[i].kind);
        assert_int_equal(sdb_key_compare(op.key, storm_text(expected[i].key)), 0);
        if (op.kind == SDB_KIND_DELETE_RANGE)
            assert_int_equal(sdb_key_compare(op.value, storm_text(expected[i].value)), 0);
        else if (op.kind == SDB_KIND_PUT)
            assert_memory_equal(op.value.data + 1, expected[i].value, 1);
    }
    assert_false(sdb_batch_next(&cursor, &op));
    assert_non_null(cursor.at);
    storm_batch_clear(batch);
    assert_int_equal(batch->range_count, 0);
}

static void a_range_delete_without_memory_leaves_the_batch_as_it_was(void **state)
{
    static uint8_t large[60000];
    (void)state;
    assert_int_equal(storm_batch_put(batch, storm_text("b"), storm_text("2")), STORM_OK);
    alloc_fail_at(1, false);
    assert_int_equal(
        storm_batch_delete_range(batch, storm_text(""), storm_bytes(large, sizeof large)),
        STORM_NO_MEMORY);
    alloc_fail_at(0, false);
    struct sdb_cursor cursor = sdb_cursor(sdb_buffer_slice(&batch->ops));
    struct sdb_batch_op op;
    assert_true(sdb_batch_next(&cursor, &op));
    assert_int_equal(op.kind, SDB_KIND_PUT);
    assert_false(sdb_batch_next(&cursor, &op));
    assert_int_equal(storm_batch_count(batch), 1);
    assert_int_equal(batch->range_count, 0);
}

static void malformed_operations_end_the_run(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
    } cases[] = {
        {"\1", 1},           /* no key */
        {"\0\0", 2},         /* an empty key */
        {"\0\5abc", 5},      /* a key that is cut */
        {"\3\1k", 3},        /* a kind that is not known */
        {"\2\1k", 3},        /* a range delete without its end */
        {"\2\1k\2x", 5},     /* an end that is cut */
        {"\2\2k", 3},        /* a start that is cut */
        {"\377\1k\1\0", 5},  /* the same */
        {"\1\1k", 3},        /* a put without a value */
        {"\1\1k\0", 4},      /* a stored value has at least its flags */
        {"\1\1k\5abc", 7},   /* a value that is cut */
        {"\0\200\200\4", 4}, /* a key longer than any */
        {"\0\377\377\377\377\377\377\377\377\377\1k", 12},     /* a length near 2^64 */
        {"\0\200\200\200\200\200\200\200\200\200\200\1k", 13}, /* a varint over-long */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *exact = malloc(cases[i].size); /* so that a sanitizer sees a read behind it */
        struct sdb_batch_op op;
        memcpy(exact, cases[i].bytes, cases[i].size);
        struct sdb_cursor cursor = sdb_cursor(storm_bytes(exact, cases[i].size));
        if (sdb_batch_next(&cursor, &op) || cursor.at != NULL)
            fail_msg("case %zu was taken for an operation or an end", i);
        assert_false(sdb_batch_next(&cursor, &op));
        free(exact);
    }
    /* A key of 65,536 bytes that are there. */
    static uint8_t large[65536 + 4];
    struct sdb_batch_op op;
    memcpy(large + 1, "\200\200\4", 3);
    struct sdb_cursor cursor = sdb_cursor(storm_bytes(large, 65536 + 4));
    assert_false(sdb_batch_next(&cursor, &op));
    assert_null(cursor.at);
    large[0] = SDB_KIND_DELETE_RANGE;
    cursor = sdb_cursor(storm_bytes(large, 65536 + 4));
    assert_false(sdb_batch_next(&cursor, &op));
    assert_null(cursor.at);
    large[0] = SDB_KIND_DELETE;
    memcpy(large + 1, "\377\377\3", 3);
    cursor = sdb_cursor(storm_bytes(large, 65535 + 4));
    assert_true(sdb_batch_next(&cursor, &op));
}

static void a_batch_cut_anywhere_ends_at_a_whole_operation(void **state)
{
    (void)state;
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(storm_batch_put(batch, storm_text("key"), storm_text("value")), STORM_OK);
    size_t one = batch->ops.size / 5;
    for (size_t cut = 0; cut <= batch->ops.size; cut++) {
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact + 1, batch->ops.data, cut);
        struct sdb_cursor cursor = sdb_cursor(storm_bytes(exact + 1, cut));
        struct sdb_batch_op op;
        size_t whole = 0;
        while (sdb_batch_next(&cursor, &op))
            whole++;
        assert_int_equal(whole, cut / one);
        assert_int_equal(cursor.at == NULL, cut % one != 0);
        free(exact);
    }
}

static void a_batch_takes_a_bounded_number_of_range_deletes(void **state)
{
    (void)state;
    for (int i = 0; i < 256; i++)
        assert_int_equal(storm_batch_delete_range(batch, storm_text("a"), storm_text("b")),
                         STORM_OK);
    assert_int_equal(storm_batch_delete_range(batch, storm_text("a"), storm_text("b")),
                     STORM_TOO_LARGE);
    assert_int_equal(storm_batch_count(batch), 256);
    assert_int_equal(storm_batch_put(batch, storm_text("a"), storm_text("b")), STORM_OK);
    storm_batch_clear(batch);
    assert_int_equal(storm_batch_delete_range(batch, storm_text("a"), storm_text("b")), STORM_OK);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_batch_takes_a_bounded_number_of_range_deletes),
        TEST(operations_come_out_in_order_and_whole),
        TEST(what_is_added_is_copied),
        TEST(operations_out_of_range_are_refused_and_leave_no_trace),
        TEST(every_condition_holds_exactly_when_it_should),
        TEST(results_are_found_by_the_operations_index),
        TEST(a_cleared_batch_is_as_new),
        TEST(a_batch_stays_usable_when_memory_runs_out),
        TEST(a_range_delete_is_encoded_and_turns_covered_puts_into_deletes),
        TEST(a_range_delete_without_memory_leaves_the_batch_as_it_was),
        TEST(malformed_operations_end_the_run),
        TEST(a_batch_cut_anywhere_ends_at_a_whole_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
