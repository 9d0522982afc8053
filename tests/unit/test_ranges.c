/* Sets of range deletes against a plain list of them, and the corners by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "alloc_fail.h"
#include "lsm/db/keep.h"
#include "lsm/db/ranges.h"
#include "random.h"

static struct sdb_range range(const char *start, const char *end, uint64_t revision)
{
    return (struct sdb_range){storm_text(start), storm_text(end), revision};
}

static struct sdb_ranges *make(const struct sdb_range *list, size_t count, const uint64_t *seen,
                               size_t seen_count)
{
    struct sdb_ranges *ranges;
    assert_int_equal(sdb_ranges_create(NULL, 0, list, count, seen, seen_count, &ranges), STORM_OK);
    return ranges;
}

static void no_set_covers_nothing(void **state)
{
    struct sdb_range empty[] = {range("b", "b", 5), range("c", "a", 6)};
    (void)state;
    assert_int_equal(sdb_ranges_newest(NULL, storm_text("a"), 100), 0);
    assert_int_equal(sdb_ranges_next(NULL, storm_text("a"), 0), 0);
    assert_int_equal(sdb_ranges_cover(NULL, storm_text("a"), storm_text("b"), 0), 0);
    assert_null(make(NULL, 0, NULL, 0));
    assert_null(make(empty, 2, NULL, 0));
    sdb_ranges_unref(NULL);
    assert_null(sdb_ranges_ref(NULL));
}

static void the_start_belongs_to_the_range_and_the_end_does_not(void **state)
{
    struct sdb_range list[] = {range("b", "d", 7)};
    struct sdb_ranges *ranges = make(list, 1, NULL, 0);
    (void)state;
    assert_int_equal(sdb_ranges_newest(ranges, storm_text("a\xff"), 9), 0);
    assert_int_equal(sdb_ranges_newest(ranges, storm_text("b"), 9), 7);
    assert_int_equal(sdb_ranges_newest(ranges, storm_text("c\xff\xff"), 7), 7);
    assert_int_equal(sdb_ranges_newest(ranges, storm_text("c"), 6), 0);
    assert_int_equal(sdb_ranges_newest(ranges, storm_text("d"), 9), 0);
    sdb_ranges_unref(ranges);
}

static void empty_bounds_are_no_bounds(void **state)
{
    struct sdb_range list[] = {range("", "c", 3), range("x", "", 4)};
    struct sdb_ranges *ranges = make(list, 2, NULL, 0);
    (void)state;
    assert_int_equal(sdb_ranges_newest(ranges, storm_bytes("\0", 1), 9), 3);
    assert_int_equal(sdb_ranges_newest(ranges, storm_text("c"), 9), 0);
    assert_int_equal(sdb_ranges_newest(ranges, storm_text("\xff\xff\xff"), 9), 4);
    sdb_ranges_unref(ranges);
    list[0] = range("", "", 5);
    ranges = make(list, 1, NULL, 0);
    assert_int_equal(sdb_ranges_newest(ranges, storm_text("anything"), 9), 5);
    assert_int_equal(sdb_ranges_cover(ranges, storm_text("a"), storm_text("zz"), 4), 5);
    assert_int_equal(sdb_ranges_cover(ranges, storm_text("a"), storm_text("zz"), 5), 0);
    sdb_ranges_unref(ranges);
}

static void several_together_cover_what_none_does_alone(void **state)
{
    struct sdb_range list[] = {range("a", "f", 5), range("f", "m", 8), range("n", "z", 9)};
    struct sdb_ranges *ranges = make(list, 3, NULL, 0);
    (void)state;
    assert_int_equal(sdb_ranges_cover(ranges, storm_text("b"), storm_text("k"), 4), 8);
    assert_int_equal(sdb_ranges_cover(ranges, storm_text("b"), storm_text("k"), 5), 0);
    assert_int_equal(sdb_ranges_cover(ranges, storm_text("b"), storm_text("e"), 4), 5);
    assert_int_equal(sdb_ranges_cover(ranges, storm_text("b"), storm_text("o"), 4), 0);
    assert_int_equal(sdb_ranges_cover(ranges, storm_text("n"), storm_text("z"), 4), 0);
    sdb_ranges_unref(ranges);
}

static void what_newer_ones_hide_from_everybody_is_left_out(void **state)
{
    struct sdb_range list[] = {range("b", "d", 5), range("a", "m", 7), range("a", "z", 9)};
    uint64_t visible = 20;
    uint64_t with_snapshot[] = {6, 20};
    struct sdb_ranges *ranges = make(list, 3, &visible, 1);
    (void)state;
    assert_int_equal(ranges->count, 1);
    assert_int_equal(ranges->fragment_count, 1);
    assert_int_equal(ranges->list[0].revision, 9);
    sdb_ranges_unref(ranges);
    /* The snapshot at 6 sees 5, and nobody sees 7. */
    ranges = make(list, 3, with_snapshot, 2);
    assert_int_equal(ranges->count, 2);
    assert_int_equal(sdb_ranges_newest(ranges, storm_text("c"), 6), 5);
    assert_int_equal(sdb_ranges_newest(ranges, storm_text("c"), 20), 9);
    sdb_ranges_unref(ranges);
    /* What is not visible yet does not hide what is. */
    visible = 8;
    ranges = make(list, 3, &visible, 1);
    assert_int_equal(ranges->count, 2);
    assert_int_equal(sdb_ranges_newest(ranges, storm_text("c"), 8), 7);
    sdb_ranges_unref(ranges);
}

/* ---- Against a list ---- */

enum { RANGES = 14, LETTERS = 12 };

static struct storm_slice random_key(uint64_t *state, char *room)
{
    size_t size = 1 + (size_t)random_below(state, 2);
    for (size_t i = 0; i < size; i++)
        room[i] = (char)('a' + random_below(state, LETTERS));
    return storm_bytes(room, size);
}

struct model {
    struct sdb_range list[RANGES];
    char keys[RANGES][2][2];
    size_t count;
    uint64_t seen[4];
    size_t seen_count;
};

static void model_fill(struct model *model, uint64_t *random)
{
    uint64_t revision = 0;
    model->count = 1 + (size_t)random_below(random, RANGES);
    for (size_t i = 0; i < model->count; i++) {
        struct sdb_range *made = &model->list[i];
        revision += random_below(random, 3);
        made->revision = revision + 1;
        made->start = random_key(random, model->keys[i][0]);
        made->end = random_key(random, model->keys[i][1]);
        made->start.size *= random_below(random, 8) != 0;
        made->end.size *= random_below(random, 8) != 0;
    }
    model->seen_count = 1 + (size_t)random_below(random, 4);
    uint64_t at = 0;
    for (size_t i = 0; i < model->seen_count; i++)
        model->seen[i] = at += random_below(random, revision / 2 + 2);
}

static uint64_t model_newest(const struct model *model, struct storm_slice key, uint64_t revision)
{
    uint64_t newest = 0;
    for (size_t i = 0; i < model->count; i++) {
        const struct sdb_range *one = &model->list[i];
        bool is_covered = sdb_key_compare(key, one->start) >= 0 &&
                          (one->end.size == 0 || sdb_key_compare(key, one->end) < 0);
        if (is_covered && one->revision <= revision && one->revision > newest)
            newest = one->revision;
    }
    return newest;
}

static uint64_t model_next(const struct model *model, struct storm_slice key, uint64_t revision)
{
    uint64_t next = 0;
    for (uint64_t r = model_newest(model, key, UINT64_MAX); r > revision;
         r = model_newest(model, key, r - 1))
        next = r;
    return next;
}

static void check_shape(const struct sdb_ranges *ranges)
{
    for (size_t i = 0; i < ranges->fragment_count; i++) {
        const struct sdb_fragment *fragment = &ranges->fragments[i];
        assert_true(fragment->count > 0);
        assert_true(fragment->end.size == 0 || sdb_key_compare(fragment->start, fragment->end) < 0);
        for (size_t j = 1; j < fragment->count; j++)
            assert_true(fragment->revisions[j] < fragment->revisions[j - 1]);
        if (i + 1 < ranges->fragment_count) {
            assert_true(fragment->end.size != 0);
            assert_true(sdb_key_compare(fragment->end, fragment[1].start) <= 0);
        }
    }
    for (size_t i = 1; i < ranges->count; i++)
        assert_true(sdb_range_compare(&ranges->list[i - 1], &ranges->list[i]) < 0);
}

static void every_key_meets_what_a_list_would_say(void **state)
{
    uint64_t random = random_seed(1);
    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct model model;
        struct sdb_ranges *half[2], *ranges;
        char room[2];
        model_fill(&model, &random);
        size_t middle = model.count / 2;
        bool is_pruned = round % 2 == 0;
        const uint64_t *seen = is_pruned ? model.seen : NULL;
        half[0] = make(model.list, middle, NULL, 0);
        half[1] = make(model.list + middle, model.count - middle, NULL, 0);
        assert_int_equal(sdb_ranges_create(half, 2, NULL, 0, seen, model.seen_count, &ranges),
                         STORM_OK);
        if (ranges != NULL)
            check_shape(ranges);
        for (int i = 0; i < 60; i++) {
            struct storm_slice key = random_key(&random, room);
            uint64_t newest = ranges == NULL ? 0 : ranges->newest;
            uint64_t visible = model.seen[model.seen_count - 1];
            uint64_t at = random_below(&random, newest + 3);
            if (is_pruned && at < visible)
                at = model.seen[random_below(&random, model.seen_count)];
            /* Whoever reads in between reads at a whole group: there is none behind `visible`
             * yet. */
            if (is_pruned && at > visible)
                at = SDB_MAX_REVISION;
            assert_int_equal(sdb_ranges_newest(ranges, key, at), model_newest(&model, key, at));
            if (!is_pruned)
                assert_int_equal(sdb_ranges_next(ranges, key, at), model_next(&model, key, at));
        }
        sdb_ranges_unref(half[0]);
        sdb_ranges_unref(half[1]);
        sdb_ranges_unref(ranges);
    }
}

/* What flush and compaction ask, is a version seen by a snapshot, has one answer with and
 * without. */
static void leaving_out_changes_no_answer_about_versions(void **state)
{
    uint64_t random = random_seed(2);
    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct model model;
        char room[2];
        model_fill(&model, &random);
        struct sdb_ranges *whole = make(model.list, model.count, NULL, 0);
        struct sdb_ranges *pruned = make(model.list, model.count, model.seen, model.seen_count);
        for (int i = 0; i < 40; i++) {
            struct storm_slice key = random_key(&random, room);
            uint64_t at = random_below(&random, 20);
            uint64_t next = sdb_ranges_next(whole, key, at);
            uint64_t left = sdb_ranges_next(pruned, key, at);
            assert_int_equal(next == 0, left == 0);
            assert_int_equal(sdb_keep_is_seen(model.seen, model.seen_count, at, next),
                             sdb_keep_is_seen(model.seen, model.seen_count, at, left));
        }
        sdb_ranges_unref(whole);
        sdb_ranges_unref(pruned);
    }
}

static void a_key_range_is_covered_when_each_of_its_keys_is(void **state)
{
    uint64_t random = random_seed(3);
    (void)state;
    for (int round = 0; round < 2000; round++) {
        struct model model;
        char rooms[2][2];
        model_fill(&model, &random);
        struct storm_slice low = random_key(&random, rooms[0]);
        struct storm_slice high = random_key(&random, rooms[1]);
        uint64_t at = random_below(&random, 8);
        if (sdb_key_compare(low, high) > 0)
            continue;
        struct sdb_ranges *ranges = make(model.list, model.count, NULL, 0);
        /* Every key of two letters, and some behind each that no bound tells apart. */
        uint64_t expected = 0;
        bool is_covered = true;
        for (int i = 0; i <= LETTERS * (LETTERS + 2); i++) {
            char text[3] = {(char)('a' + i / (LETTERS + 2)), (char)('a' - 1 + i % (LETTERS + 2)),
                            '\x01'};
            struct storm_slice key = storm_bytes(text, i % (LETTERS + 2) == 0 ? 1 : 2);
            if (sdb_key_compare(key, low) < 0 || sdb_key_compare(key, high) > 0)
                continue;
            uint64_t next = model_next(&model, key, at);
            is_covered = is_covered && next != 0;
            expected = next > expected ? next : expected;
        }
        uint64_t got = sdb_ranges_cover(ranges, low, high, at);
        assert_int_equal(got, is_covered ? expected : 0);
        sdb_ranges_unref(ranges);
    }
}

static void a_thousand_of_the_same_range_are_one(void **state)
{
    struct sdb_ranges *ranges = NULL;
    (void)state;
    for (uint64_t revision = 1; revision <= 1000; revision++) {
        struct sdb_range one = range("a", "z", revision);
        uint64_t visible = revision - 1;
        struct sdb_ranges *next;
        assert_int_equal(sdb_ranges_create(&ranges, 1, &one, 1, &visible, 1, &next), STORM_OK);
        sdb_ranges_unref(ranges);
        ranges = next;
        assert_true(ranges->count <= 2); /* the new one, and the one that is visible until then */
    }
    sdb_ranges_unref(ranges);
}

static void without_memory_there_is_no_set(void **state)
{
    struct sdb_range list[20];
    char keys[20][4];
    uint64_t nth = 0;
    (void)state;
    for (size_t i = 0; i < 20; i++) {
        snprintf(keys[i], sizeof keys[i], "k%02zu", i);
        list[i] = (struct sdb_range){storm_text(keys[i]), {NULL, 0}, i + 1};
    }
    do {
        struct sdb_ranges *ranges;
        alloc_fail_at(++nth, false);
        storm_status status = sdb_ranges_create(NULL, 0, list, 20, NULL, 0, &ranges);
        alloc_fail_at(0, false);
        assert_int_equal(status, alloc_failures() == 0 ? STORM_OK : STORM_NO_MEMORY);
        assert_int_equal(ranges == NULL, status != STORM_OK);
        sdb_ranges_unref(ranges);
    } while (alloc_failures() > 0);
    assert_true(nth > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_set_covers_nothing),
        cmocka_unit_test(the_start_belongs_to_the_range_and_the_end_does_not),
        cmocka_unit_test(empty_bounds_are_no_bounds),
        cmocka_unit_test(several_together_cover_what_none_does_alone),
        cmocka_unit_test(what_newer_ones_hide_from_everybody_is_left_out),
        cmocka_unit_test(every_key_meets_what_a_list_would_say),
        cmocka_unit_test(leaving_out_changes_no_answer_about_versions),
        cmocka_unit_test(a_key_range_is_covered_when_each_of_its_keys_is),
        cmocka_unit_test(a_thousand_of_the_same_range_are_one),
        cmocka_unit_test(without_memory_there_is_no_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
