/* Guides against the files themselves: keys that tie in sixteen bytes, keys shorter than what all
 * bounds share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "alloc_fail.h"
#include "lsm/db/guide.h"
#include "lsm/db/version.h"
#include "random.h"

enum { FILES = 24, KEY_MAX = 64 };

static struct sdb_garbage garbage = {.mu = PTHREAD_MUTEX_INITIALIZER};

/* `head`, then up to two bytes of few values, a long middle or none, and as many again. */
static struct storm_slice some_key(uint64_t *random, const char *head, bool is_cut, uint8_t *room)
{
    static const uint8_t bytes[] = {0, 'a', 'b', 255};
    size_t size = strlen(head);
    memcpy(room, head, size);
    for (uint64_t i = random_below(random, 3); i > 0; i--)
        room[size++] = bytes[random_below(random, 4)];
    if (random_below(random, 2) == 0) {
        memset(room + size, 'm', 17);
        size += 17;
        for (uint64_t i = random_below(random, 3); i > 0; i--)
            room[size++] = bytes[random_below(random, 4)];
    }
    if (is_cut && random_below(random, 4) == 0)
        size = random_below(random, size + 1);
    if (size == 0)
        room[size++] = 'a';
    return storm_bytes(room, size);
}

static int compare(const void *a, const void *b)
{
    const struct storm_slice *x = a, *y = b;
    return sdb_key_compare(*x, *y);
}

/* Up to FILES files between sorted keys; overlapping ones when asked for. */
static size_t make_files(uint64_t *random, const char *head, bool overlap,
                         struct sdb_table_file *files[FILES])
{
    static uint8_t rooms[2 * FILES][KEY_MAX];
    struct storm_slice keys[2 * FILES];
    size_t wanted = 1 + random_below(random, FILES);
    size_t count = 0;
    for (size_t i = 0; i < 2 * wanted; i++)
        keys[i] = some_key(random, head, false, rooms[i]);
    if (!overlap)
        qsort(keys, 2 * wanted, sizeof keys[0], compare);
    for (size_t i = 0; i < wanted; i++) {
        struct storm_slice a = keys[2 * i], b = keys[2 * i + 1];
        if (sdb_key_compare(a, b) > 0) {
            struct storm_slice swapped = a;
            a = b;
            b = swapped;
        }
        if (!overlap && count != 0 && sdb_key_compare(files[count - 1]->largest, a) >= 0)
            continue;
        files[count++] = sdb_table_file_create(i, 1, overlap ? 0 : 1, a, b, &garbage);
    }
    return count;
}

static size_t first_that_covers(struct sdb_table_file *const *files, size_t from, size_t count,
                                struct storm_slice key)
{
    while (from < count && !sdb_table_file_covers(files[from], key))
        from++;
    return from;
}

static void a_guide_says_what_the_files_bounds_say(void **state)
{
    (void)state;
    static const char *const heads[] = {"", "k", "a rather long head of all keys"};
    uint64_t random = random_seed(1);
    size_t covered = 0;
    for (int round = 0; round < 600; round++) {
        struct sdb_table_file *files[FILES];
        const char *head = heads[round % 3];
        bool overlap = round % 2 == 0;
        size_t count = make_files(&random, head, overlap, files);
        struct sdb_guide *guide = sdb_guide_create(files, count);
        assert_non_null(guide);
        for (int i = 0; i < 100; i++) {
            uint8_t room[KEY_MAX];
            struct storm_slice key = some_key(&random, head, true, room);
            size_t from = random_below(&random, count + 1);
            size_t expected = first_that_covers(files, 0, count, key);
            if (!overlap)
                assert_int_equal(sdb_guide_find(guide, key), expected);
            assert_int_equal(sdb_guide_next(guide, from, key),
                             first_that_covers(files, from, count, key));
            covered += expected != count;
        }
        for (size_t i = 0; i < count; i++) {
            if (!overlap) {
                assert_int_equal(sdb_guide_find(guide, files[i]->smallest), i);
                assert_int_equal(sdb_guide_find(guide, files[i]->largest), i);
            }
            assert_int_equal(guide->filters[i].line_count, 0); /* the tables are not open */
        }
        sdb_guide_destroy(guide);
        for (size_t i = 0; i < count; i++)
            sdb_table_file_unref(files[i]);
    }
    assert_true(covered > 5000);
    sdb_guide_destroy(NULL);
}

static void a_key_word_is_eight_bytes_of_the_key_or_zeroes(void **state)
{
    (void)state;
    uint8_t bytes[40];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(200 + i);
    for (size_t size = 0; size <= sizeof bytes; size++) {
        for (size_t from = 0; from <= size + 9; from++) {
            uint64_t expected = 0;
            for (size_t i = 0; i < 8; i++)
                expected = expected << 8 | (from + i < size ? bytes[from + i] : 0u);
            assert_true(sdb_key_word(storm_bytes(bytes, size), from) == expected);
        }
    }
}

static void a_guide_without_memory_is_none(void **state)
{
    (void)state;
    struct sdb_table_file *file =
        sdb_table_file_create(1, 1, 1, storm_text("a"), storm_text("b"), &garbage);
    alloc_fail_at(1, false);
    assert_null(sdb_guide_create(&file, 1));
    alloc_fail_at(0, false);
    sdb_table_file_unref(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guide_says_what_the_files_bounds_say),
        cmocka_unit_test(a_key_word_is_eight_bytes_of_the_key_or_zeroes),
        cmocka_unit_test(a_guide_without_memory_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
