/*
 * The log when nothing goes wrong: what is appended comes back, segments roll, are released and
 * used again. Damage is in test_wal_damage.c, failing disks and power cuts in test_wal_faults.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "lsm/wal/format.h"
#include "test_dir.h"
#include "wal_fixture.h"

enum { SEGMENT = 64 * 1024 };

static void names_are_ten_digits_and_parse_back(void **state)
{
    static const char *const wrong[] = {
        "",
        "42.log",
        "000000042.log",
        "00000000042.log",
        "0000000000.log",
        "0000000042.log2",
        "0000000042.LOG",
        "0000000042.spare",
        " 000000042.log",
        "000000004x.log",
        "18446744073709551616.log",
        "99999999999999999999.log",
        "184467440737095516150.log",
    };
    static const uint64_t numbers[] = {1, 42, 9999999999, 10000000000, UINT64_MAX};
    char name[SDB_WAL_NAME];
    uint64_t number;

    (void)state;
    sdb_wal_name(name, 42);
    assert_string_equal(name, "0000000042.log");
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        sdb_wal_name(name, numbers[i]);
        assert_true(sdb_wal_parse_name(name, &number));
        assert_true(number == numbers[i]);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(sdb_wal_parse_name(wrong[i], &number));
}

static void an_empty_directory_becomes_an_empty_log(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 1);

    (void)state;
    wal_fixture_reopen(f);
    assert_int_equal(f->report.segments, 0);
    assert_int_equal(f->report.last_revision, 0);
    assert_int_equal(sdb_wal_segment(f->wal), 1);
    wal_fixture_reopen(f);
    assert_int_equal(f->report.segments, 1);
    assert_int_equal(f->report.batches, 0);
    assert_int_equal(f->report.torn_bytes, 0);
    assert_int_equal(sdb_wal_segment(f->wal), 1);
    wal_fixture_destroy(f);
}

static void batches_of_every_size_come_back(void **state)
{
    static const size_t sizes[] = {8,    9,    15,    16,    17,     100,     4064,
                                   4096, 4097, 60000, 65536, 300000, 1048576, 3145728};
    struct wal_fixture *f = wal_fixture_create(1024 * 1024, 2);

    (void)state;
    wal_fixture_reopen(f);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
            assert_int_equal(wal_fixture_append(f, 1 + i % 3, sizes[i]), STORM_OK);
        wal_fixture_reopen(f);
        assert_int_equal(f->replayed, f->appended);
        assert_int_equal(f->report.torn_bytes, 0);
    }
    wal_fixture_destroy(f);
}

struct collected {
    size_t count;
    size_t sizes[8];
    uint8_t first[8];
};

static storm_status collect(void *ctx, uint64_t revision, struct storm_slice ops)
{
    struct collected *collected = ctx;

    assert_int_equal(revision, 7 + collected->count);
    collected->sizes[collected->count] = ops.size;
    collected->first[collected->count++] = ops.size > 0 ? ops.data[0] : 0;
    return STORM_OK;
}

static void tiny_and_empty_batches_come_back(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 3);
    struct collected collected = {0};
    struct storm_slice batches[5] = {storm_text("a"), storm_text(""), storm_bytes(NULL, 0),
                                     storm_text("bc"), storm_text("d")};

    (void)state;
    wal_fixture_reopen(f);
    assert_int_equal(sdb_wal_append(f->wal, 7, batches, 5), STORM_OK);
    assert_int_equal(sdb_wal_append(f->wal, 12, batches + 1, 1), STORM_OK);
    assert_int_equal(sdb_wal_append(f->wal, 13, batches, 0), STORM_OK);
    assert_int_equal(sdb_wal_replay(&f->options, 1, collect, &collected, &f->report), STORM_OK);
    assert_int_equal(collected.count, 6);
    assert_int_equal(collected.sizes[0], 1);
    assert_int_equal(collected.first[0], 'a');
    assert_int_equal(collected.sizes[1] + collected.sizes[2] + collected.sizes[5], 0);
    assert_int_equal(collected.sizes[3], 2);
    assert_int_equal(collected.first[4], 'd');
    assert_int_equal(f->report.last_revision, 12);
    wal_fixture_destroy(f);
}

static void thousands_of_batches_fit_one_group(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 4);

    (void)state;
    wal_fixture_reopen(f);
    assert_int_equal(wal_fixture_append(f, 16, 33), STORM_OK);
    assert_int_equal(wal_fixture_append(f, 17, 33), STORM_OK);
    assert_int_equal(wal_fixture_append(f, 5000, 11), STORM_OK);
    assert_int_equal(wal_fixture_append(f, 3000, 24), STORM_OK);
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, 8033);
    wal_fixture_destroy(f);
}

static void revisions_must_grow_but_may_leave_gaps(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 5);
    struct storm_slice batch = storm_text("batch");
    struct collected collected = {0};

    (void)state;
    wal_fixture_reopen(f);
    assert_int_equal(sdb_wal_append(f->wal, 0, &batch, 1), STORM_INVALID);
    assert_int_equal(sdb_wal_append(f->wal, 7, &batch, 1), STORM_OK);
    assert_int_equal(sdb_wal_append(f->wal, 7, &batch, 1), STORM_INVALID);
    assert_int_equal(sdb_wal_append(f->wal, 3, &batch, 1), STORM_INVALID);
    assert_int_equal(sdb_wal_append(f->wal, UINT64_MAX, &batch, 1), STORM_INVALID);
    assert_int_equal(sdb_wal_replay(&f->options, 1, collect, &collected, &f->report), STORM_OK);
    assert_int_equal(collected.count, 1);
    assert_int_equal(sdb_wal_append(f->wal, 1000, &batch, 1), STORM_OK);
    wal_fixture_destroy(f);
}

static void a_group_beyond_four_gibibytes_is_refused(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 5);
    static const uint8_t byte;
    struct storm_slice batches[3] = {
        {&byte, UINT32_MAX}, {&byte, UINT32_MAX / 2}, {&byte, UINT32_MAX / 2}};

    (void)state;
    wal_fixture_reopen(f);
    /* None of these bytes exist: a log that looked at them would crash. */
    assert_int_equal(sdb_wal_append(f->wal, 1, batches, 1), STORM_TOO_LARGE);
    assert_int_equal(sdb_wal_append(f->wal, 1, batches + 1, 2), STORM_TOO_LARGE);
    assert_int_equal(sdb_wal_append(f->wal, 1, batches, 3), STORM_TOO_LARGE);
    assert_false(sdb_wal_is_broken(f->wal));
    wal_fixture_destroy(f);
}

static void options_out_of_range_are_refused(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 6);
    char *dir = malloc(5000);

    (void)state;
    f->options.segment_bytes = 4096;
    assert_int_equal(wal_fixture_open(f), STORM_INVALID);
    f->options.segment_bytes = UINT64_C(1) << 40;
    assert_int_equal(wal_fixture_open(f), STORM_INVALID);
    f->options.segment_bytes = SEGMENT;
    assert_non_null(dir);
    memset(dir, 'x', 4999);
    dir[4999] = 0;
    f->options.dir = dir;
    assert_int_equal(wal_fixture_open(f), STORM_INVALID);
    f->options.dir = "nowhere";
    assert_int_equal(wal_fixture_open(f), STORM_NOT_FOUND);
    free(dir);
    wal_fixture_destroy(f);
}

static void full_segments_roll_and_all_come_back(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 7);
    struct sdb_wal_stats stats;

    (void)state;
    wal_fixture_reopen(f);
    for (int i = 0; i < 400; i++)
        assert_int_equal(wal_fixture_append(f, 1 + (size_t)i % 2, 1000), STORM_OK);
    sdb_wal_stats(f->wal, &stats);
    assert_true(stats.segments >= 10 && stats.segments <= 12);
    assert_int_equal(stats.segments, wal_fixture_files(f, ".log"));
    assert_true(stats.bytes >= 600000 && stats.bytes < 660000);
    assert_int_equal(stats.bytes, stats.appended_bytes);
    assert_int_equal(stats.syncs, stats.segments - 1); /* each was synced when it was left */
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, 600);
    assert_int_equal(f->report.segments, stats.segments);
    assert_int_equal(f->report.bytes, stats.bytes);
    sdb_wal_stats(f->wal, &stats);
    assert_int_equal(stats.bytes, f->report.bytes);
    assert_int_equal(stats.segments, f->report.segments);
    wal_fixture_destroy(f);
}

static void a_group_larger_than_a_segment_gets_its_own(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 8);
    uint64_t size;

    (void)state;
    wal_fixture_reopen(f);
    assert_int_equal(wal_fixture_append(f, 1, 100), STORM_OK);
    assert_int_equal(wal_fixture_append(f, 3, 100000), STORM_OK);
    assert_int_equal(f->segment, 2);
    assert_int_equal(sim_file_size(f->disk, wal_fixture_path(2), &size), STORM_OK);
    assert_true(size >= 304000 && size < 304000 + 2 * 65536);
    assert_int_equal(wal_fixture_append(f, 1, 60000), STORM_OK);
    wal_fixture_release(f);
    assert_int_equal(sim_file_size(f->disk, wal_fixture_path(f->segment), &size), STORM_OK);
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, 5);
    wal_fixture_destroy(f);
}

static void the_largest_group_that_fits_does_not_roll(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 9);

    (void)state;
    wal_fixture_reopen(f);
    assert_int_equal(wal_fixture_append(f, 1, SEGMENT - SDB_WAL_HEADER - SDB_WAL_RECORD - 4),
                     STORM_OK);
    assert_int_equal(sdb_wal_segment(f->wal), 1);
    wal_fixture_reopen(f); /* a segment without one byte left */
    assert_int_equal(f->replayed, 1);
    assert_int_equal(wal_fixture_append(f, 1, 8), STORM_OK);
    assert_int_equal(sdb_wal_segment(f->wal), 2);
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, 2);
    wal_fixture_destroy(f);
}

static void reopening_fifty_times_stays_in_one_segment(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 10);

    (void)state;
    for (int i = 0; i < 50; i++) {
        wal_fixture_reopen(f);
        assert_int_equal(f->replayed, i);
        assert_int_equal(f->report.torn_bytes, 0);
        assert_int_equal(wal_fixture_append(f, 1, 200), STORM_OK);
    }
    assert_int_equal(sdb_wal_segment(f->wal), 1);
    assert_int_equal(wal_fixture_files(f, ""), 1);
    wal_fixture_destroy(f);
}

static void released_segments_are_used_again_and_two_kept_at_most(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 11);
    struct sdb_wal_stats stats;
    uint64_t opens;

    (void)state;
    wal_fixture_reopen(f);
    while (f->segment < 6)
        assert_int_equal(wal_fixture_append(f, 1, 5000), STORM_OK);
    wal_fixture_release(f);
    assert_int_equal(wal_fixture_files(f, ".spare"), 2);
    assert_int_equal(wal_fixture_files(f, ".log"), 1);
    sdb_wal_stats(f->wal, &stats);
    assert_int_equal(stats.segments, 1);
    assert_true(stats.bytes < SEGMENT);
    opens = sim_used_bytes(f->disk);
    /* Rolling and releasing for ever takes no more room than three files. */
    while (f->segment < 40) {
        assert_int_equal(wal_fixture_append(f, 1, 5000), STORM_OK);
        wal_fixture_release(f);
        assert_true(wal_fixture_files(f, "") <= 3);
        assert_true(sim_used_bytes(f->disk) <= opens);
    }
    wal_fixture_reopen(f);
    assert_int_equal(f->report.torn_bytes, 0);
    assert_int_equal(wal_fixture_files(f, ".spare"), 0);
    assert_int_equal(wal_fixture_files(f, ".log"), 1);
    wal_fixture_destroy(f);
}

static void an_earlier_life_never_comes_back(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 12);

    (void)state;
    /* All records of one size and epoch: in a recycled file they stand where the next one is
     * due. */
    wal_fixture_reopen(f);
    while (f->segment < 5) {
        assert_int_equal(wal_fixture_append(f, 1, 1000), STORM_OK);
        if (f->appended % 7 == 0)
            assert_int_equal(wal_fixture_sync(f), STORM_OK);
        wal_fixture_release(f);
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(wal_fixture_append(f, 1, 1000), STORM_OK);
        assert_int_equal(wal_fixture_replay(f), STORM_OK);
        assert_int_equal(f->replayed, f->appended);
        assert_int_equal(f->report.torn_bytes, 0);
    }
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, f->appended);
    assert_int_equal(f->report.torn_bytes, 0);
    wal_fixture_destroy(f);
}

static void replay_alone_changes_nothing(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 13);
    uint64_t changes;

    (void)state;
    wal_fixture_reopen(f);
    for (int i = 0; i < 100; i++)
        assert_int_equal(wal_fixture_append(f, 1, 1500), STORM_OK);
    wal_fixture_close(f);
    changes = sim_calls(f->disk, SIM_CHANGES);
    assert_int_equal(wal_fixture_replay(f), STORM_OK);
    assert_int_equal(f->replayed, 100);
    assert_int_equal(sim_calls(f->disk, SIM_CHANGES), changes);
    wal_fixture_destroy(f);
}

static storm_status stop_at_third(void *ctx, uint64_t revision, struct storm_slice ops)
{
    (void)ctx;
    (void)ops;
    return revision == 3 ? STORM_CLOSED : STORM_OK;
}

static uint64_t no_number(void *ctx)
{
    (void)ctx;
    fail();
    return 0;
}

static void a_status_of_the_callback_ends_the_open(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 14);

    (void)state;
    wal_fixture_reopen(f);
    assert_int_equal(wal_fixture_append(f, 5, 50), STORM_OK);
    wal_fixture_close(f);
    f->options.epoch++;
    assert_int_equal(
        sdb_wal_open(&f->options, 1, stop_at_third, NULL, no_number, NULL, &f->wal, &f->report),
        STORM_CLOSED);
    assert_null(f->wal);
    assert_int_equal(sdb_wal_replay(&f->options, 1, stop_at_third, NULL, &f->report), STORM_CLOSED);
    wal_fixture_destroy(f);
}

static void a_sync_with_nothing_new_costs_nothing(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 15);
    uint64_t syncs;

    (void)state;
    wal_fixture_reopen(f);
    syncs = sim_calls(f->disk, SIM_SYNC);
    assert_int_equal(wal_fixture_sync(f), STORM_OK);
    assert_int_equal(sim_calls(f->disk, SIM_SYNC), syncs);
    assert_int_equal(wal_fixture_append(f, 1, 50), STORM_OK);
    sdb_wal_start_writeback(f->wal);
    sdb_wal_start_writeback(f->wal);
    assert_int_equal(wal_fixture_sync(f), STORM_OK);
    assert_int_equal(wal_fixture_sync(f), STORM_OK);
    assert_int_equal(sim_calls(f->disk, SIM_SYNC), syncs + 1);
    wal_fixture_destroy(f);
}

static void what_was_replayed_is_synced_before_open_is_back(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 16);

    (void)state;
    wal_fixture_reopen(f);
    assert_int_equal(wal_fixture_append(f, 3, 500), STORM_OK);
    wal_fixture_close(f);
    sim_reboot(f->disk, SIM_KEEP_ALL); /* kill -9: it was in the page cache only */
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, 3);
    wal_fixture_close(f);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, 3);
    wal_fixture_destroy(f);
}

struct helper {
    struct wal_fixture *f;
    _Atomic uint64_t first_needed;
    _Atomic bool is_done;
};

static void *release_and_look(void *arg)
{
    struct helper *helper = arg;
    struct sdb_wal_stats stats;

    while (!atomic_load(&helper->is_done)) {
        sdb_wal_release(helper->f->wal, atomic_load(&helper->first_needed));
        sdb_wal_stats(helper->f->wal, &stats);
        if (stats.segments == 0 || sdb_wal_is_broken(helper->f->wal))
            return helper;
    }
    return NULL;
}

static void release_and_stats_work_beside_the_writer(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 17);
    struct helper helper = {.f = f};
    pthread_t threads[2];
    void *result;

    (void)state;
    wal_fixture_reopen(f);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, release_and_look, &helper), 0);
    while (f->segment < 60) {
        assert_int_equal(wal_fixture_append(f, 1, 6000), STORM_OK);
        if (f->appended % 5 == 0)
            assert_int_equal(wal_fixture_sync(f), STORM_OK);
        f->first_segment = f->segment;
        f->floor = f->segment_floor;
        atomic_store(&helper.first_needed, f->first_segment);
    }
    atomic_store(&helper.is_done, true);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    assert_true(wal_fixture_files(f, ".spare") <= 2);
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, f->appended);
    wal_fixture_destroy(f);
}

static void *sync_often(void *arg)
{
    struct helper *helper = arg;

    while (!atomic_load(&helper->is_done)) {
        if (sdb_wal_sync(helper->f->wal) != STORM_OK)
            return helper;
    }
    return NULL;
}

static void syncs_work_beside_the_writer(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, 18);
    struct helper helper = {.f = f};
    pthread_t threads[2];
    void *result;

    (void)state;
    wal_fixture_reopen(f);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sync_often, &helper), 0);
    while (f->segment < 60) {
        assert_int_equal(wal_fixture_append(f, 1, 6000), STORM_OK);
        if (f->appended % 50 == 0)
            assert_int_equal(wal_fixture_sync(f), STORM_OK);
    }
    atomic_store(&helper.is_done, true);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    /* No sync was told of the last appends; one more covers them. */
    assert_int_equal(wal_fixture_append(f, 1, 100), STORM_OK);
    assert_int_equal(sdb_wal_sync(f->wal), STORM_OK);
    wal_fixture_close(f);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, f->appended);
    wal_fixture_destroy(f);
}

static uint64_t next_of(void *ctx)
{
    return ++*(uint64_t *)ctx;
}

static storm_status count_batch(void *ctx, uint64_t revision, struct storm_slice ops)
{
    uint64_t *seen = ctx;
    return ops.size == 1000 && revision == ++*seen ? STORM_OK : STORM_CORRUPT;
}

static void it_works_on_the_real_file_system_too(void **state)
{
    static const uint8_t bytes[1000] = "batch";
    struct storm_slice batches[3] = {{bytes, 1000}, {bytes, 1000}, {bytes, 1000}};
    struct sdb_wal_options options = {.store_id = 5, .segment_bytes = SEGMENT};
    uint64_t number = 0, first = 1, revision = 0, seen = 0;
    struct sdb_wal_report report;
    struct sdb_errors errors;
    struct test_dir dir;
    struct sdb_wal *wal;
    struct sdb_os os;

    (void)state;
    test_dir_init(&dir);
    sdb_errors_init(&errors, NULL, NULL);
    sdb_os_posix_init(&os, &errors);
    options.os = &os;
    options.dir = dir.path;
    for (int round = 0; round < 3; round++) {
        options.epoch++;
        assert_int_equal(
            sdb_wal_open(&options, first, count_batch, &seen, next_of, &number, &wal, &report),
            STORM_OK);
        assert_true(seen == revision && report.torn_bytes == 0);
        for (int i = 0; i < 100; i++, revision += 3)
            assert_int_equal(sdb_wal_append(wal, revision + 1, batches, 3), STORM_OK);
        sdb_wal_start_writeback(wal);
        assert_int_equal(sdb_wal_sync(wal), STORM_OK);
        if (round == 1) {
            /* A segment that nothing but the next append will be in. */
            do {
                first = sdb_wal_segment(wal);
                assert_int_equal(sdb_wal_append(wal, revision + 1, batches, 1), STORM_OK);
                revision++;
            } while (sdb_wal_segment(wal) == first);
            seen = revision - 1;
            first = sdb_wal_segment(wal);
            sdb_wal_release(wal, first);
        } else {
            seen = 0;
        }
        sdb_wal_close(wal);
    }
    sdb_errors_fini(&errors);
    test_dir_fini(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_ten_digits_and_parse_back),
        cmocka_unit_test(an_empty_directory_becomes_an_empty_log),
        cmocka_unit_test(batches_of_every_size_come_back),
        cmocka_unit_test(tiny_and_empty_batches_come_back),
        cmocka_unit_test(thousands_of_batches_fit_one_group),
        cmocka_unit_test(revisions_must_grow_but_may_leave_gaps),
        cmocka_unit_test(a_group_beyond_four_gibibytes_is_refused),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(full_segments_roll_and_all_come_back),
        cmocka_unit_test(a_group_larger_than_a_segment_gets_its_own),
        cmocka_unit_test(the_largest_group_that_fits_does_not_roll),
        cmocka_unit_test(reopening_fifty_times_stays_in_one_segment),
        cmocka_unit_test(released_segments_are_used_again_and_two_kept_at_most),
        cmocka_unit_test(an_earlier_life_never_comes_back),
        cmocka_unit_test(replay_alone_changes_nothing),
        cmocka_unit_test(a_status_of_the_callback_ends_the_open),
        cmocka_unit_test(a_sync_with_nothing_new_costs_nothing),
        cmocka_unit_test(what_was_replayed_is_synced_before_open_is_back),
        cmocka_unit_test(release_and_stats_work_beside_the_writer),
        cmocka_unit_test(syncs_work_beside_the_writer),
        cmocka_unit_test(it_works_on_the_real_file_system_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
