/*
 * Data blocks against a sorted array: lookups, both directions, and hostile bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "alloc_fail.h"
#include "lsm/table/block.h"
#include "lsm/table/block_builder.h"
#include "lsm/table/format.h"
#include "random.h"
#include "util/coding.h"

static uint64_t seed;

struct entry {
    uint8_t *key;
    size_t key_size;
    uint64_t tag;
    uint8_t *value;
    size_t value_size;
};

struct array {
    struct entry *entries;
    size_t count;
};

static int by_order(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;
    return sdb_entry_compare(storm_bytes(x->key, x->key_size), x->tag,
                             storm_bytes(y->key, y->key_size), y->tag);
}

static struct storm_slice key_of(const struct entry *entry)
{
    return storm_bytes(entry->key, entry->key_size);
}

/* Keys from a small alphabet, so that they share prefixes and repeat in several versions. */
static struct array random_array(size_t count, size_t largest_key, size_t largest_value)
{
    struct array array = {calloc(count + 1, sizeof(struct entry)), count};
    for (size_t i = 0; i < count; i++) {
        struct entry *entry = &array.entries[i];
        entry->key_size = 1 + (size_t)random_below(&seed, largest_key);
        entry->key = malloc(entry->key_size);
        for (size_t k = 0; k < entry->key_size; k++)
            entry->key[k] = (uint8_t)("abc\xff"[random_below(&seed, 4)]);
        uint64_t bits = random_below(&seed, 54);
        entry->tag = sdb_tag(random_u64(&seed) & ((UINT64_C(1) << bits) - 1) & SDB_MAX_REVISION,
                             random_below(&seed, 8) == 0 ? SDB_KIND_DELETE : SDB_KIND_PUT);
        entry->value_size = (size_t)random_below(&seed, largest_value + 1);
        entry->value = malloc(entry->value_size + 1);
        random_bytes(&seed, entry->value, entry->value_size);
    }
    qsort(array.entries, count, sizeof(struct entry), by_order);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && by_order(&array.entries[kept - 1], &array.entries[i]) == 0) {
            free(array.entries[i].key);
            free(array.entries[i].value);
            continue;
        }
        array.entries[kept++] = array.entries[i];
    }
    array.count = kept;
    return array;
}

static void free_array(struct array *array)
{
    for (size_t i = 0; i < array->count; i++) {
        free(array->entries[i].key);
        free(array->entries[i].value);
    }
    free(array->entries);
}

static struct storm_slice build(const struct array *array, uint32_t interval,
                                struct sdb_block_builder *builder)
{
    sdb_block_builder_init(builder, interval);
    for (size_t i = 0; i < array->count; i++) {
        const struct entry *entry = &array->entries[i];
        assert_int_equal(sdb_block_builder_add(builder, key_of(entry), entry->tag,
                                               storm_bytes(entry->value, entry->value_size)),
                         STORM_OK);
    }
    size_t size = sdb_block_builder_size(builder);
    struct storm_slice contents = sdb_block_builder_finish(builder);
    assert_int_equal(contents.size, size);
    return contents;
}

/* The iterator stands where the array does, or nowhere when `at` is outside. */
static void expect(const struct sdb_block_iter *iter, const struct array *array, size_t at)
{
    assert_int_equal(iter->status, STORM_OK);
    assert_int_equal(iter->valid, at < array->count);
    if (at >= array->count)
        return;
    const struct entry *entry = &array->entries[at];
    assert_int_equal(iter->key.size, entry->key_size);
    assert_memory_equal(iter->key.data, entry->key, entry->key_size);
    assert_true(iter->tag == entry->tag);
    assert_int_equal(iter->value.size, entry->value_size);
    if (entry->value_size != 0)
        assert_memory_equal(iter->value.data, entry->value, entry->value_size);
}

static size_t lower_bound(const struct array *array, struct storm_slice key, uint64_t tag)
{
    size_t i = 0;
    while (i < array->count &&
           sdb_entry_compare(key_of(&array->entries[i]), array->entries[i].tag, key, tag) < 0)
        i++;
    return i;
}

static void check_walks(const struct array *array, struct sdb_block_iter *iter)
{
    sdb_block_iter_first(iter);
    for (size_t i = 0; i < array->count; i++) {
        expect(iter, array, i);
        sdb_block_iter_next(iter);
    }
    expect(iter, array, array->count);
    sdb_block_iter_last(iter);
    for (size_t i = array->count; i-- > 0;) {
        expect(iter, array, i);
        sdb_block_iter_prev(iter);
    }
    expect(iter, array, array->count);
}

static void check_seeks(const struct array *array, const struct sdb_block_view *view,
                        struct sdb_block_iter *iter)
{
    for (int round = 0; round < 60; round++) {
        struct array probe = random_array(1, 8, 0);
        struct storm_slice key = key_of(&probe.entries[0]);
        uint64_t tag = probe.entries[0].tag;
        if (array->count != 0 && round % 3 != 0) {
            const struct entry *entry = &array->entries[random_below(&seed, array->count)];
            key = key_of(entry);
            tag = round % 3 == 1 ? entry->tag : tag;
        }
        size_t at = lower_bound(array, key, tag);
        sdb_block_iter_seek(iter, key, tag);
        expect(iter, array, at);
        if (iter->valid && round % 2 == 0) {
            sdb_block_iter_prev(iter);
            expect(iter, array, at - 1);
        }
        sdb_block_iter_seek_before(iter, key, tag);
        expect(iter, array, at - 1);
        uint64_t found;
        struct storm_slice value;
        storm_status status = sdb_block_get(view, key, tag, &found, &value);
        bool is_there = at < array->count && sdb_key_compare(key_of(&array->entries[at]), key) == 0;
        assert_int_equal(status, is_there ? STORM_OK : STORM_NOT_FOUND);
        if (is_there) {
            assert_true(found == array->entries[at].tag);
            assert_int_equal(value.size, array->entries[at].value_size);
        }
        free_array(&probe);
    }
}

static void check_turns(const struct array *array, struct sdb_block_iter *iter)
{
    if (array->count == 0)
        return;
    size_t at = (size_t)random_below(&seed, array->count);
    sdb_block_iter_seek(iter, key_of(&array->entries[at]), array->entries[at].tag);
    for (int step = 0; step < 200; step++) {
        expect(iter, array, at);
        if (!iter->valid)
            break;
        if (random_below(&seed, 3) == 0) {
            sdb_block_iter_prev(iter);
            at--;
        } else {
            sdb_block_iter_next(iter);
            at++;
        }
    }
}

static void a_block_answers_as_a_sorted_array_does(void **unused)
{
    (void)unused;
    static const size_t counts[] = {0, 1, 2, 15, 16, 17, 33, 200};
    struct sdb_block_iter iter;
    sdb_block_iter_init(&iter);
    for (uint32_t interval = 1; interval <= 16; interval++) {
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            struct array array =
                random_array(counts[c], 1 + random_below(&seed, 12), random_below(&seed, 3) * 100);
            struct sdb_block_builder builder;
            struct sdb_block_view view;
            struct storm_slice contents = build(&array, interval, &builder);
            assert_int_equal(sdb_block_parse(contents, &view), STORM_OK);
            assert_int_equal(view.restarts, (array.count + interval - 1) / interval);
            assert_int_equal(sdb_block_check(&view), STORM_OK);
            sdb_block_iter_set(&iter, &view);
            check_walks(&array, &iter);
            check_seeks(&array, &view, &iter);
            for (int i = 0; i < 5; i++)
                check_turns(&array, &iter);
            sdb_block_builder_fini(&builder);
            free_array(&array);
        }
    }
    sdb_block_iter_fini(&iter);
}

static void the_longest_keys_and_large_values_come_back(void **unused)
{
    (void)unused;
    struct array array = {calloc(40, sizeof(struct entry)), 40};
    for (size_t i = 0; i < array.count; i++) {
        struct entry *entry = &array.entries[i];
        entry->key_size = SDB_TABLE_KEY_MAX - (i % 3) * 30000;
        entry->key = malloc(entry->key_size);
        memset(entry->key, 'k', entry->key_size);
        entry->key[entry->key_size - 1] = (uint8_t)(i + 1);
        entry->tag = sdb_tag(SDB_MAX_REVISION - i, SDB_KIND_PUT);
        entry->value_size = i == 7 ? 1 << 20 : i;
        entry->value = malloc(entry->value_size + 1);
        random_bytes(&seed, entry->value, entry->value_size);
    }
    qsort(array.entries, array.count, sizeof(struct entry), by_order);
    struct sdb_block_builder builder;
    struct sdb_block_view view;
    struct sdb_block_iter iter;
    sdb_block_iter_init(&iter);
    assert_int_equal(sdb_block_parse(build(&array, 16, &builder), &view), STORM_OK);
    assert_int_equal(sdb_block_check(&view), STORM_OK);
    sdb_block_iter_set(&iter, &view);
    /* From a walk backwards to one forwards, before there is room for such a key. */
    sdb_block_iter_last(&iter);
    sdb_block_iter_prev(&iter);
    sdb_block_iter_next(&iter);
    expect(&iter, &array, array.count - 1);
    check_walks(&array, &iter);
    check_seeks(&array, &view, &iter);
    check_turns(&array, &iter);
    sdb_block_iter_fini(&iter);
    sdb_block_builder_fini(&builder);
    free_array(&array);
}

static void unknown_flags_are_refused_as_newer(void **unused)
{
    (void)unused;
    struct array array = random_array(10, 5, 5);
    struct sdb_block_builder builder;
    struct sdb_block_view view;
    struct storm_slice contents = build(&array, 16, &builder);
    builder.out.data[contents.size - 1] = 1;
    assert_int_equal(sdb_block_parse(contents, &view), STORM_NEWER_FORMAT);
    sdb_block_builder_fini(&builder);
    free_array(&array);
}

/* Everything a reader can do with a block; what it answers does not matter, how it behaves does. */
static void use(const struct sdb_block_view *view, struct sdb_block_iter *iter)
{
    uint64_t found;
    struct storm_slice value;
    uint64_t tag = sdb_tag(100, SDB_KIND_SEEK);
    (void)sdb_block_check(view);
    (void)sdb_block_get(view, storm_text("abba"), tag, &found, &value);
    sdb_block_iter_set(iter, view);
    for (sdb_block_iter_first(iter); iter->valid;)
        sdb_block_iter_next(iter);
    int steps = 0;
    for (sdb_block_iter_last(iter); iter->valid && steps++ < 2000;)
        sdb_block_iter_prev(iter);
    sdb_block_iter_seek(iter, storm_text("abba"), tag);
    if (iter->valid)
        sdb_block_iter_prev(iter);
    sdb_block_iter_seek_before(iter, storm_text("b"), tag);
    if (iter->valid)
        sdb_block_iter_next(iter);
}

static void hostile_bytes_never_lead_out_of_the_block(void **unused)
{
    (void)unused;
    struct array array = random_array(40, 6, 20);
    struct sdb_block_builder builder;
    struct sdb_block_iter iter;
    struct storm_slice contents = build(&array, 8, &builder);
    sdb_block_iter_init(&iter);
    for (int round = 0; round < 20000; round++) {
        /* An exact copy on the heap, so that the sanitizer sees one byte too many. */
        size_t size =
            round % 4 == 0 ? (size_t)random_below(&seed, contents.size + 1) : contents.size;
        uint8_t *copy = malloc(size + (size == 0));
        memcpy(copy, contents.data, size);
        for (uint64_t flips = random_below(&seed, 4); flips > 0 && size > 0; flips--) {
            size_t at = round % 2 == 0
                            ? (size_t)random_below(&seed, size)
                            : size - 1 - (size_t)random_below(&seed, size < 40 ? size : 40);
            copy[at] = (uint8_t)random_u64(&seed);
        }
        if (size > 0)
            copy[size - 1] = 0;
        struct sdb_block_view view;
        if (sdb_block_parse(storm_bytes(copy, size), &view) == STORM_OK)
            use(&view, &iter);
        free(copy);
    }
    sdb_block_iter_fini(&iter);
    sdb_block_builder_fini(&builder);
    free_array(&array);
}

/* One crafted entry in a block with one restart. */
static storm_status check_crafted(const uint8_t *entries, size_t size)
{
    uint8_t *block = malloc(size + 9);
    struct sdb_block_view view;
    memcpy(block, entries, size);
    memcpy(block + size, "\0\0\0\0\1\0\0\0\0", 9);
    assert_int_equal(sdb_block_parse(storm_bytes(block, size + 9), &view), STORM_OK);
    storm_status status = sdb_block_check(&view);
    free(block);
    return status;
}

#define CRAFTED(text) check_crafted((const uint8_t *)(text), sizeof(text) - 1)

static void what_a_builder_never_writes_is_corrupt(void **unused)
{
    (void)unused;
    assert_int_equal(CRAFTED("\0\1\0\2a"), STORM_OK);
    assert_int_equal(CRAFTED("\0\1\0\2a\1\1\0\2b"), STORM_OK);       /* a, ab */
    assert_int_equal(CRAFTED("\1\1\0\2a"), STORM_CORRUPT);           /* shares with nothing */
    assert_int_equal(CRAFTED("\0\1\0\2a\0\1\0\2a"), STORM_CORRUPT);  /* twice the same */
    assert_int_equal(CRAFTED("\0\1\0\2b\0\1\0\2a"), STORM_CORRUPT);  /* out of order */
    assert_int_equal(CRAFTED("\0\1\0\2a\0\2\0\2ab"), STORM_CORRUPT); /* shares less than it can */
    assert_int_equal(CRAFTED("\0\1\0\2a\2\1\0\2b"), STORM_CORRUPT);  /* more than there is */
    assert_int_equal(CRAFTED("\0\2\0\2a"), STORM_CORRUPT);           /* a key cut short */
    assert_int_equal(CRAFTED("\0\1\2\2a-"), STORM_CORRUPT);          /* a value cut short */
    assert_int_equal(CRAFTED("\0\1\0\3"), STORM_CORRUPT);            /* no kind */
    assert_int_equal(CRAFTED("\0\1\0"), STORM_CORRUPT);              /* no token */
    assert_int_equal(CRAFTED("\0\1"), STORM_CORRUPT);
    /* a revision of 2^53, and one below zero */
    assert_int_equal(CRAFTED("\0\1\0\x80\x80\x80\x80\x80\x80\x80\x20"
                             "a"),
                     STORM_CORRUPT);
    assert_int_equal(CRAFTED("\0\1\0\2a\1\1\0\x0e"
                             "b"),
                     STORM_CORRUPT);
}

static void every_failed_allocation_is_reported(void **unused)
{
    (void)unused;
    struct array array = random_array(60, 300, 10);
    uint64_t nth = 0;
    do {
        struct sdb_block_builder builder;
        struct sdb_block_view view;
        struct sdb_block_iter iter;
        storm_status status = STORM_OK;
        alloc_fail_at(++nth, false);
        sdb_block_builder_init(&builder, 16);
        for (size_t i = 0; i < array.count && status == STORM_OK; i++)
            status = sdb_block_builder_add(&builder, key_of(&array.entries[i]),
                                           array.entries[i].tag, storm_text("v"));
        struct storm_slice contents = sdb_block_builder_finish(&builder);
        if (contents.data == NULL)
            status = STORM_NO_MEMORY;
        sdb_block_iter_init(&iter);
        if (status == STORM_OK) {
            status = sdb_block_parse(contents, &view);
            sdb_block_iter_set(&iter, &view);
            for (sdb_block_iter_first(&iter); iter.valid;)
                sdb_block_iter_next(&iter);
            if (iter.status == STORM_OK)
                for (sdb_block_iter_last(&iter); iter.valid;)
                    sdb_block_iter_prev(&iter);
            status = iter.status != STORM_OK ? iter.status : sdb_block_check(&view);
        }
        alloc_fail_at(0, false);
        assert_int_equal(status, alloc_failures() > 0 ? STORM_NO_MEMORY : STORM_OK);
        sdb_block_iter_fini(&iter);
        sdb_block_builder_fini(&builder);
    } while (alloc_failures() > 0);
    assert_true(nth > 10);
    free_array(&array);
}

int main(void)
{
    seed = random_seed(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_answers_as_a_sorted_array_does),
        cmocka_unit_test(the_longest_keys_and_large_values_come_back),
        cmocka_unit_test(unknown_flags_are_refused_as_newer),
        cmocka_unit_test(hostile_bytes_never_lead_out_of_the_block),
        cmocka_unit_test(what_a_builder_never_writes_is_corrupt),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
