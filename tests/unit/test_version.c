/* Versions: edits, order, reference counts, the garbage list; and the names of a store's files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "alloc_fail.h"
#include "lsm/db/names.h"
#include "lsm/db/version.h"
#include "lsm/wal/wal.h"
#include "random.h"

static struct sdb_garbage garbage = {.mu = PTHREAD_MUTEX_INITIALIZER};

static struct sdb_table_file *file_of(uint64_t number, unsigned level, const char *smallest,
                                      const char *largest)
{
    struct sdb_table_file *file = sdb_table_file_create(
        number, number * 100, level, storm_text(smallest), storm_text(largest), &garbage);
    assert_non_null(file);
    file->max_revision = number;
    return file;
}

static struct sdb_version *apply(struct sdb_version *base, struct sdb_table_file **added,
                                 size_t added_count, struct sdb_table_file **removed,
                                 size_t removed_count)
{
    struct sdb_edit edit = {.added = added,
                            .added_count = added_count,
                            .removed = removed,
                            .removed_count = removed_count};
    struct sdb_version *version = sdb_version_apply(base, &edit);
    assert_non_null(version);
    return version;
}

/* Numbers of a level's files, as "3 1 2 ". */
static const char *listed(const struct sdb_version *version, size_t level)
{
    static char text[256];
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < version->levels[level].count; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%llu ",
                               (unsigned long long)version->levels[level].files[i]->number);
    return text;
}

static void edits_add_and_remove_in_every_level(void **state)
{
    struct sdb_table_file *files[] = {file_of(1, 0, "a", "z"), file_of(2, 0, "b", "c"),
                                      file_of(3, 1, "m", "p"), file_of(4, 1, "a", "c"),
                                      file_of(5, 6, "a", "z"), file_of(6, 1, "d", "l")};
    struct sdb_version *empty = sdb_version_create();
    (void)state;
    assert_int_equal(sdb_version_file_count(empty), 0);
    struct sdb_version *all = apply(empty, files, 6, NULL, 0);
    /* Level 0 newest first, the others by key. */
    assert_string_equal(listed(all, 0), "2 1 ");
    assert_string_equal(listed(all, 1), "4 6 3 ");
    assert_string_equal(listed(all, 6), "5 ");
    assert_int_equal(all->levels[1].bytes, 1300);
    assert_int_equal(sdb_version_file_count(all), 6);

    struct sdb_table_file *gone[] = {files[0], files[5], files[4]};
    struct sdb_version *fewer = apply(all, NULL, 0, gone, 3);
    assert_string_equal(listed(fewer, 0), "2 ");
    assert_string_equal(listed(fewer, 1), "4 3 ");
    assert_string_equal(listed(fewer, 6), "");
    assert_int_equal(fewer->levels[1].bytes, 700);
    assert_int_equal(fewer->levels[6].bytes, 0);
    /* The old one is as it was. */
    assert_int_equal(sdb_version_file_count(all), 6);
    assert_int_equal(sdb_version_file_count(empty), 0);

    /* In and out with one edit; the same number in another level is another file. */
    struct sdb_table_file *moved = file_of(3, 2, "m", "p");
    struct sdb_version *after = apply(fewer, &moved, 1, &files[2], 1);
    assert_string_equal(listed(after, 1), "4 ");
    assert_string_equal(listed(after, 2), "3 ");
    struct sdb_version *not_there = apply(after, NULL, 0, &files[2], 1);
    assert_string_equal(listed(not_there, 2), "3 ");

    struct sdb_version *versions[] = {empty, all, fewer, after, not_there};
    for (size_t i = 0; i < 5; i++)
        sdb_version_unref(versions[i]);
    for (size_t i = 0; i < 6; i++)
        sdb_table_file_unref(files[i]);
    sdb_table_file_unref(moved);
    sdb_version_unref(NULL);
}

static void level_zero_goes_by_revision_and_then_by_number(void **state)
{
    struct sdb_table_file *files[] = {file_of(7, 0, "a", "z"), file_of(8, 0, "a", "z"),
                                      file_of(9, 0, "a", "z"), file_of(10, 0, "a", "z")};
    struct sdb_version *empty = sdb_version_create();
    (void)state;
    /* A higher number with older data, and two that end alike. */
    files[0]->max_revision = 50;
    files[1]->max_revision = 40;
    files[2]->max_revision = 60;
    files[3]->max_revision = 50;
    struct sdb_version *version = apply(empty, files, 4, NULL, 0);
    assert_string_equal(listed(version, 0), "9 10 7 8 ");
    sdb_version_unref(version);
    sdb_version_unref(empty);
    for (size_t i = 0; i < 4; i++)
        sdb_table_file_unref(files[i]);
}

static void a_file_lives_as_long_as_a_version_holds_it(void **state)
{
    struct sdb_table_file *file = file_of(11, 0, "a", "b");
    struct sdb_version *empty = sdb_version_create();
    struct sdb_version *first = apply(empty, &file, 1, NULL, 0);
    struct sdb_version *second = apply(first, NULL, 0, NULL, 0);
    struct sdb_version *third = apply(second, NULL, 0, &file, 1);
    (void)state;
    assert_int_equal(atomic_load(&file->refs), 3);
    sdb_version_unref(first);
    assert_int_equal(atomic_load(&file->refs), 2);
    /* A second reference to the version keeps it, and what it holds. */
    assert_ptr_equal(sdb_version_ref(second), second);
    sdb_version_unref(second);
    assert_int_equal(atomic_load(&file->refs), 2);
    atomic_store(&file->is_deleted, true);
    sdb_table_file_unref(file); /* ours */
    assert_null(garbage.head);
    sdb_version_unref(second);
    /* Now nobody has it, and the store does not want it: somebody may remove it. */
    assert_ptr_equal(garbage.head, file);
    assert_null(file->next_garbage);
    garbage.head = NULL;
    free(file);
    sdb_version_unref(third);
    sdb_version_unref(empty);
}

static void garbage_is_a_list_and_live_tables_do_not_join_it(void **state)
{
    struct sdb_table_file *gone = file_of(12, 1, "a", "b"), *also = file_of(13, 1, "c", "d");
    struct sdb_table_file *stays = file_of(14, 1, "e", "f");
    (void)state;
    atomic_store(&gone->is_deleted, true);
    atomic_store(&also->is_deleted, true);
    sdb_table_file_unref(gone);
    sdb_table_file_unref(stays); /* as at closing: freed, its file left alone */
    sdb_table_file_unref(also);
    assert_ptr_equal(garbage.head, also);
    assert_ptr_equal(also->next_garbage, gone);
    assert_null(gone->next_garbage);
    garbage.head = NULL;
    free(gone);
    free(also);
}

static void a_file_copies_its_keys(void **state)
{
    char key[] = "key";
    struct sdb_table_file *file =
        sdb_table_file_create(1, 2, 3, storm_text(key), storm_bytes(NULL, 0), &garbage);
    (void)state;
    key[0] = '#';
    assert_int_equal(file->smallest.size, 3);
    assert_memory_equal(file->smallest.data, "key", 3);
    assert_int_equal(file->largest.size, 0);
    assert_int_equal(file->number + file->size + file->level, 6);
    assert_int_equal(atomic_load(&file->refs), 1);
    sdb_table_file_unref(file);
}

static void an_edit_without_memory_changes_no_count(void **state)
{
    struct sdb_table_file *files[] = {file_of(1, 0, "a", "z"), file_of(2, 3, "b", "c"),
                                      file_of(3, 6, "m", "p")};
    struct sdb_version *empty = sdb_version_create();
    struct sdb_version *base = apply(empty, files, 2, NULL, 0);
    struct sdb_edit edit = {.added = &files[2], .added_count = 1};
    struct sdb_version *made = NULL;
    uint64_t points = 0;
    (void)state;
    for (uint64_t nth = 1; made == NULL; nth++) {
        alloc_fail_at(nth, false);
        made = sdb_version_apply(base, &edit);
        points += alloc_failures();
        alloc_fail_at(0, false);
        for (size_t i = 0; made == NULL && i < 3; i++)
            assert_int_equal(atomic_load(&files[i]->refs), i < 2 ? 2 : 1);
    }
    assert_int_equal(points, 7); /* the version, its three levels, a guide to each */
    alloc_fail_at(1, false);
    assert_null(sdb_table_file_create(1, 1, 1, storm_text("a"), storm_text("b"), &garbage));
    alloc_fail_at(0, false);
    sdb_version_unref(made);
    sdb_version_unref(base);
    sdb_version_unref(empty);
    for (size_t i = 0; i < 3; i++)
        sdb_table_file_unref(files[i]);
}

static void a_key_is_found_in_the_one_file_that_may_have_it(void **state)
{
    struct sdb_table_file *files[] = {file_of(1, 1, "b", "d"), file_of(2, 1, "f", "f"),
                                      file_of(3, 1, "h", "hz")};
    struct sdb_level level = {.count = 3, .files = files};
    struct sdb_level none = {0};
    static const struct {
        const char *key;
        size_t at;
        bool is_covered;
    } cases[] = {
        {"", 0, false},   {"a", 0, false}, {"b", 0, true},    {"c", 0, true},   {"d", 0, true},
        {"d0", 1, false}, {"e", 1, false}, {"f", 1, true},    {"f0", 2, false}, {"h", 2, true},
        {"hy", 2, true},  {"hz", 2, true}, {"hz0", 3, false}, {"i", 3, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t at = sdb_level_find(&level, storm_text(cases[i].key));
        assert_int_equal(at, cases[i].at);
        if (at < 3)
            assert_int_equal(sdb_table_file_covers(files[at], storm_text(cases[i].key)),
                             cases[i].is_covered);
        assert_int_equal(sdb_level_find(&none, storm_text(cases[i].key)), 0);
    }
    for (size_t i = 0; i < 3; i++)
        sdb_table_file_unref(files[i]);
}

static void random_edits_agree_with_a_list(void **state)
{
    enum { FILES = 40 };
    struct sdb_table_file *files[FILES];
    bool is_in[FILES] = {false};
    uint64_t seed = random_seed(31);
    struct sdb_version *version = sdb_version_create();
    (void)state;
    for (size_t i = 0; i < FILES; i++) {
        char smallest[8], largest[8];
        snprintf(smallest, sizeof smallest, "%02zua", i);
        snprintf(largest, sizeof largest, "%02zuz", i);
        files[i] = file_of(i + 1, (unsigned)(i % STORM_MAX_LEVELS), smallest, largest);
    }
    for (int round = 0; round < 500; round++) {
        struct sdb_table_file *added[FILES], *removed[FILES];
        size_t added_count = 0, removed_count = 0, expected = 0;
        for (size_t i = 0; i < FILES; i++) {
            if (random_below(&seed, 8) == 0) {
                if (is_in[i])
                    removed[removed_count++] = files[i];
                else
                    added[added_count++] = files[i];
                is_in[i] = !is_in[i];
            }
            expected += is_in[i];
        }
        struct sdb_version *next = apply(version, added, added_count, removed, removed_count);
        sdb_version_unref(version);
        version = next;
        assert_int_equal(sdb_version_file_count(version), expected);
        for (size_t i = 0; i < FILES; i++)
            assert_int_equal(atomic_load(&files[i]->refs), is_in[i] ? 2 : 1);
        for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
            const struct sdb_level *level = &version->levels[l];
            uint64_t bytes = 0;
            for (size_t i = 0; i < level->count; i++) {
                bytes += level->files[i]->size;
                assert_int_equal(level->files[i]->level, l);
                if (i == 0)
                    continue;
                bool is_later = level->files[i - 1]->number < level->files[i]->number;
                assert_int_equal(is_later, l != 0);
            }
            assert_int_equal(level->bytes, bytes);
        }
    }
    sdb_version_unref(version);
    for (size_t i = 0; i < FILES; i++)
        sdb_table_file_unref(files[i]);
}

/* ---- Names ---- */

static void names_are_parsed_to_kind_and_number(void **state)
{
    static const struct {
        const char *name;
        enum sdb_file_kind kind;
        uint64_t number;
    } cases[] = {
        {"0000000042.sst", SDB_FILE_TABLE, 42},
        {"0000000042.log", SDB_FILE_LOG, 42},
        {"0000000042.spare", SDB_FILE_SPARE, 42},
        {"MANIFEST-0000000042", SDB_FILE_MANIFEST, 42},
        {"CURRENT.tmp", SDB_FILE_TEMP, 0},
        {"12345678901.sst", SDB_FILE_TABLE, 12345678901},
        {"9999999999999999999.sst", SDB_FILE_TABLE, UINT64_C(9999999999999999999)},
        {"CURRENT", SDB_FILE_FOREIGN, 0},
        {"LOCK", SDB_FILE_FOREIGN, 0},
        {"", SDB_FILE_FOREIGN, 0},
        {".", SDB_FILE_FOREIGN, 0},
        {"notes.txt", SDB_FILE_FOREIGN, 0},
        {"000000042.sst", SDB_FILE_FOREIGN, 0}, /* nine digits */
        {"42.sst", SDB_FILE_FOREIGN, 0},
        {"00000000042.sst", SDB_FILE_FOREIGN, 0}, /* a number has one name */
        {"MANIFEST-00000000042", SDB_FILE_FOREIGN, 0},
        {"10000000000000000000.sst", SDB_FILE_FOREIGN, 0}, /* twenty digits */
        {"99999999999999999999999.sst", SDB_FILE_FOREIGN, 0},
        {"99999999999999999999999.log", SDB_FILE_FOREIGN, 0},
        {"+000000042.sst", SDB_FILE_FOREIGN, 0},
        {" 0000000042.sst", SDB_FILE_FOREIGN, 0},
        {"-0000000042.log", SDB_FILE_FOREIGN, 0},
        {"0x00000042.sst", SDB_FILE_FOREIGN, 0},
        {"0000000042", SDB_FILE_FOREIGN, 0},
        {"0000000042.", SDB_FILE_FOREIGN, 0},
        {"0000000042.ss", SDB_FILE_FOREIGN, 0},
        {"0000000042.sst ", SDB_FILE_FOREIGN, 0},
        {"0000000042.sst.bak", SDB_FILE_FOREIGN, 0},
        {"0000000042.log~", SDB_FILE_FOREIGN, 0},
        {"0000000042.SST", SDB_FILE_FOREIGN, 0},
        {"MANIFEST-", SDB_FILE_FOREIGN, 0},
        {"MANIFEST-42", SDB_FILE_FOREIGN, 0},
        {"MANIFEST-0000000042.tmp", SDB_FILE_FOREIGN, 0},
        {"manifest-0000000042", SDB_FILE_FOREIGN, 0},
        {"CURRENT.tmp2", SDB_FILE_FOREIGN, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t number = 7;
        enum sdb_file_kind kind = sdb_name_parse(cases[i].name, &number);
        if (kind != cases[i].kind || number != cases[i].number)
            fail_msg("'%s' is of kind %d, number %llu", cases[i].name, (int)kind,
                     (unsigned long long)number);
    }
}

static void names_come_back_from_their_numbers(void **state)
{
    static const uint64_t numbers[] = {1, 42, 9999999999, 10000000000, 9007199254740991};
    char name[SDB_NAME_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uint64_t back;
        sdb_table_name(name, numbers[i]);
        assert_int_equal(sdb_name_parse(name, &back), SDB_FILE_TABLE);
        assert_int_equal(back, numbers[i]);
        sdb_manifest_name(name, numbers[i]);
        assert_int_equal(sdb_name_parse(name, &back), SDB_FILE_MANIFEST);
        assert_int_equal(back, numbers[i]);
        sdb_wal_name(name, numbers[i]);
        assert_int_equal(sdb_name_parse(name, &back), SDB_FILE_LOG);
        assert_int_equal(back, numbers[i]);
    }
    /* The largest number there is still fits. */
    sdb_manifest_name(name, UINT64_MAX);
    assert_string_equal(name, "MANIFEST-18446744073709551615");
    char *path = sdb_path("/some/dir", "CURRENT");
    assert_string_equal(path, "/some/dir/CURRENT");
    free(path);
}

static void a_table_that_moves_stays_swept(void **state)
{
    struct sdb_table_file *file = file_of(1, 2, "a", "b");
    (void)state;
    file->swept_revision = 77;
    struct sdb_table_file *moved = sdb_table_file_move(file, 3);
    assert_non_null(moved);
    assert_int_equal(moved->swept_revision, 77);
    sdb_table_file_unref(moved);
    sdb_table_file_unref(file);
}

static void an_edit_adds_and_removes_range_deletes(void **state)
{
    struct sdb_range ranges[] = {{storm_text("a"), storm_text("c"), 5},
                                 {storm_text("b"), storm_text(""), 7}};
    struct sdb_edit add = {.ranges_added = ranges, .ranges_added_count = 2};
    struct sdb_edit nothing = {0};
    struct sdb_edit remove = {.ranges_removed = ranges, .ranges_removed_count = 1};
    (void)state;
    struct sdb_version *empty = sdb_version_create();
    struct sdb_version *both = sdb_version_apply(empty, &add);
    struct sdb_version *same = sdb_version_apply(both, &nothing);
    struct sdb_version *one = sdb_version_apply(same, &remove);
    assert_int_equal(sdb_ranges_count(both->ranges), 2);
    assert_ptr_equal(same->ranges, both->ranges);
    assert_int_equal(sdb_ranges_count(one->ranges), 1);
    assert_int_equal(sdb_ranges_newest(one->ranges, storm_text("b"), 9), 7);
    assert_int_equal(sdb_ranges_newest(one->ranges, storm_text("a"), 9), 0);
    sdb_version_unref(empty);
    sdb_version_unref(both);
    sdb_version_unref(same);
    sdb_version_unref(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(edits_add_and_remove_in_every_level),
        cmocka_unit_test(level_zero_goes_by_revision_and_then_by_number),
        cmocka_unit_test(a_file_lives_as_long_as_a_version_holds_it),
        cmocka_unit_test(garbage_is_a_list_and_live_tables_do_not_join_it),
        cmocka_unit_test(a_file_copies_its_keys),
        cmocka_unit_test(an_edit_without_memory_changes_no_count),
        cmocka_unit_test(a_key_is_found_in_the_one_file_that_may_have_it),
        cmocka_unit_test(random_edits_agree_with_a_list),
        cmocka_unit_test(names_are_parsed_to_kind_and_number),
        cmocka_unit_test(names_come_back_from_their_numbers),
        cmocka_unit_test(a_table_that_moves_stays_swept),
        cmocka_unit_test(an_edit_adds_and_removes_range_deletes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
