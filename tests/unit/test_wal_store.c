/*
 * Appends that nobody waits to see synced, which go through a mapping of the segment: which ones
 * do, that they are the kernel's at once, and what is left of them where there is no mapping, after
 * kill -9 and after a power cut. And what the log takes of the disk: segments that grow, and what a
 * clean close gives back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lsm/wal/format.h"
#include "random.h"
#include "test_dir.h"
#include "util/coding.h"
#include "wal_fixture.h"

enum { SEGMENT = 256 * 1024, SEED = 77 };

/* ---- Which way an append takes --------------------------------------------------------------- */

static struct {
    unsigned stores, writes;
    struct sdb_os_ops real;
} counting;

static storm_status count_store(struct sdb_file *file, uint64_t offset, const struct iovec *parts,
                                int count)
{
    counting.stores++;
    return counting.real.store(file, offset, parts, count);
}

static storm_status count_write(struct sdb_file *file, uint64_t offset, const struct iovec *parts,
                                int count)
{
    counting.writes++;
    return counting.real.pwritev(file, offset, parts, count);
}

/* A log whose calls are counted from here on. */
static struct wal_fixture *counted_log(void)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED);
    struct sdb_os_ops *ops = (struct sdb_os_ops *)(uintptr_t)f->os.ops; /* the disk's own */

    counting.real = *ops;
    ops->store = count_store;
    ops->pwritev = count_write;
    wal_fixture_reopen(f);
    counting.stores = 0;
    counting.writes = 0;
    return f;
}

static void appends_behind_unsynced_ones_are_stored(void **state)
{
    struct wal_fixture *f = counted_log();

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(wal_fixture_append(f, 1, 100), STORM_OK);
    assert_int_equal(counting.stores, 9);
    assert_int_equal(counting.writes, 1);
    assert_int_equal(wal_fixture_append(f, 1, 5000), STORM_OK); /* large ones are not */
    assert_int_equal(counting.stores, 9);
    assert_int_equal(wal_fixture_sync(f), STORM_OK);
    counting.writes = 0;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(wal_fixture_append(f, 1, 100), STORM_OK);
        assert_int_equal(wal_fixture_sync(f), STORM_OK);
    }
    assert_int_equal(counting.stores, 9);
    assert_int_equal(counting.writes, 10);
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, 21);
    wal_fixture_destroy(f);
}

static void where_nothing_can_be_mapped_the_log_writes(void **state)
{
    struct wal_fixture *f = counted_log();

    (void)state;
    sim_refuse_stores(f->disk);
    for (int i = 0; i < 10; i++)
        assert_int_equal(wal_fixture_append(f, 2, 100), STORM_OK);
    assert_int_equal(counting.stores, 1); /* asked once for each segment */
    assert_true(counting.writes >= 10);
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, 20);
    wal_fixture_destroy(f);
}

/* ---- Power cuts ------------------------------------------------------------------------------ */

/* Hardly a sync: nearly all is stored, over ends of segments too. */
static void run_unsynced(struct wal_fixture *f)
{
    if (wal_fixture_try_reopen(f) != STORM_OK)
        return;
    for (int i = 0; i < 150; i++) {
        if (wal_fixture_append(f, 1 + (size_t)i % 3, 20 + (size_t)i * 7 % 900) != STORM_OK)
            return;
        if (i % 31 == 30 && wal_fixture_sync(f) != STORM_OK)
            return;
        if (i % 50 == 40)
            wal_fixture_release(f);
    }
}

static void a_power_cut_keeps_a_prefix_of_what_was_stored(void **state)
{
    static const enum sim_loss losses[] = {SIM_LOSE_ALL, SIM_KEEP_SOME, SIM_KEEP_TORN,
                                           SIM_KEEP_ALL};

    (void)state;
    for (size_t l = 0; l < sizeof(losses) / sizeof(losses[0]); l++) {
        bool was_cut = true;
        for (uint64_t nth = 1; was_cut; nth++) {
            struct wal_fixture *f = wal_fixture_create(32 * 1024, SEED + nth);
            sim_cut_at(f->disk, nth);
            run_unsynced(f);
            was_cut = sim_is_cut(f->disk);
            wal_fixture_close(f);
            sim_reboot(f->disk, losses[l]);
            wal_fixture_reopen(f);
            if (losses[l] == SIM_KEEP_ALL)
                assert_true(f->replayed == f->appended);
            assert_int_equal(wal_fixture_append(f, 1, 100), STORM_OK);
            assert_int_equal(wal_fixture_append(f, 1, 100), STORM_OK);
            wal_fixture_reopen(f);
            wal_fixture_destroy(f);
        }
    }
}

/* ---- What a segment takes of the disk -------------------------------------------------------- */

enum { LARGE_SEGMENT = 8 << 20, MIB = 1 << 20 };

static uint64_t file_size(struct wal_fixture *f)
{
    uint64_t size;

    assert_int_equal(sim_file_size(f->disk, wal_fixture_path(f->segment), &size), STORM_OK);
    return size;
}

static void a_segment_grows_as_it_fills(void **state)
{
    struct wal_fixture *f = wal_fixture_create(LARGE_SEGMENT, SEED);
    uint64_t first, used = SDB_WAL_HEADER, size, times = 0;

    (void)state;
    wal_fixture_reopen(f);
    first = f->segment;
    size = file_size(f);
    assert_true(size <= MIB + MIB / 8);
    while (f->segment == first) {
        assert_int_equal(wal_fixture_append(f, 1, 100000), STORM_OK);
        if (f->segment != first)
            break;
        used += 100000 + 36;
        assert_true(file_size(f) >= used && file_size(f) <= LARGE_SEGMENT);
        assert_true(file_size(f) <= 2 * used + MIB + MIB / 8);
        times += file_size(f) != size;
        size = file_size(f);
    }
    assert_in_range(times, 2, 5);
    assert_true(used > LARGE_SEGMENT - 110000);
    assert_true(file_size(f) <= MIB + MIB / 8);
    wal_fixture_reopen(f);
    assert_true(f->replayed == f->appended);
    wal_fixture_destroy(f);
}

static void a_clean_close_leaves_what_is_used_and_no_spare(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED);
    uint64_t segment, size;

    (void)state;
    wal_fixture_reopen(f);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(wal_fixture_append(f, 1, 30000), STORM_OK);
        wal_fixture_release(f);
    }
    assert_true(wal_fixture_files(f, ".spare") > 0);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(wal_fixture_append(f, 1, 100), STORM_OK);
        assert_int_equal(sdb_wal_finish(f->wal), STORM_OK);
        f->synced = f->appended;
        assert_int_equal(wal_fixture_files(f, ".spare"), 0);
        wal_fixture_close(f);
        sim_reboot(f->disk, round == 0 ? SIM_LOSE_ALL : SIM_KEEP_SOME);
        segment = f->segment;
        size = file_size(f);
        assert_true(size < SEGMENT);
        wal_fixture_reopen(f);
        assert_int_equal(f->report.torn_bytes, 0);
        assert_true(f->segment == segment && file_size(f) == size);
    }
    /* It is as large as any other again, and becomes a spare. */
    while (f->segment == segment)
        assert_int_equal(wal_fixture_append(f, 1, 1000), STORM_OK);
    assert_int_equal(sim_file_size(f->disk, wal_fixture_path(segment), &size), STORM_OK);
    assert_true(size == SEGMENT);
    wal_fixture_release(f);
    assert_int_equal(wal_fixture_files(f, ".spare"), 1);
    wal_fixture_destroy(f);
}

static void a_disk_that_is_full_ends_the_growth_and_nothing_else(void **state)
{
    struct wal_fixture *f = wal_fixture_create(LARGE_SEGMENT, SEED);
    storm_status status = STORM_OK;
    int fitted = 0;

    (void)state;
    wal_fixture_reopen(f);
    sim_capacity_set(f->disk, sim_used_bytes(f->disk) + MIB);
    for (; fitted < 100 && status == STORM_OK; fitted++)
        status = wal_fixture_append(f, 1, 50000);
    assert_int_equal(status, STORM_NO_SPACE);
    assert_in_range(fitted, 40, 45); /* all that was free: 2 MiB with what it began with */
    assert_int_equal(wal_fixture_sync(f), STORM_OK);
    sim_capacity_set(f->disk, 0);
    assert_int_equal(wal_fixture_append(f, 1, 50000), STORM_OK);
    assert_false(sdb_wal_is_broken(f->wal));
    wal_fixture_reopen(f);
    assert_true(f->replayed == f->appended);
    wal_fixture_destroy(f);
}

/* Growth, clean closes and goings on, until the first failure. */
static void run_growing(struct wal_fixture *f)
{
    storm_status status = wal_fixture_try_reopen(f);

    for (int i = 0; i < 24 && status == STORM_OK; i++) {
        status = wal_fixture_append(f, 1, i % 2 == 0 ? 600 : 300000);
        if (status == STORM_OK && i % 5 == 4)
            status = wal_fixture_sync(f);
        if (status == STORM_OK && i % 7 == 6) {
            status = sdb_wal_finish(f->wal);
            if (status == STORM_OK && !sim_is_cut(f->disk))
                f->synced = f->appended;
        }
        if (status == STORM_OK && i % 14 == 13)
            status = wal_fixture_try_reopen(f);
    }
}

static void growth_and_clean_closes_lose_nothing(void **state)
{
    static const enum sim_loss losses[] = {SIM_LOSE_ALL, SIM_KEEP_SOME, SIM_KEEP_TORN,
                                           SIM_KEEP_ALL};

    (void)state;
    for (unsigned kind = 0; kind < 6; kind++) {
        bool has_fired = true;
        for (uint64_t nth = 1; has_fired; nth++) {
            struct wal_fixture *f = wal_fixture_create(2 * MIB, SEED + nth);
            if (kind < 4)
                sim_cut_at(f->disk, nth);
            else
                sim_plan_set(f->disk, (struct sim_plan){kind == 4 ? SIM_ALLOCATE : SIM_TRUNCATE,
                                                        nth, false, STORM_IO, true});
            run_growing(f);
            has_fired = kind < 4 ? sim_is_cut(f->disk) : sim_plan_fired(f->disk);
            assert_true(kind < 4 || f->wal == NULL || !sdb_wal_is_broken(f->wal));
            wal_fixture_close(f);
            sim_reboot(f->disk, losses[kind % 4]);
            wal_fixture_reopen(f);
            assert_int_equal(wal_fixture_append(f, 1, 100), STORM_OK);
            wal_fixture_reopen(f);
            assert_true(f->replayed == f->appended);
            wal_fixture_destroy(f);
        }
    }
}

/* ---- What nobody syncs ----------------------------------------------------------------------- */

static struct {
    struct sdb_os_ops real;
    uint64_t asked; /* of the segment, to be written out */
    uint64_t synced;
} watching;

static void watch_writeback(struct sdb_file *file, uint64_t offset, uint64_t size)
{
    assert_true(offset == (watching.asked > watching.synced ? watching.asked : watching.synced));
    watching.asked = offset + size;
    watching.real.start_writeback(file, offset, size);
}

static void a_segments_end_has_little_left_to_sync(void **state)
{
    enum { LARGE = 32 * MIB, STEP = 100000 };
    struct wal_fixture *f = wal_fixture_create(LARGE, SEED);
    struct sdb_os_ops *ops = (struct sdb_os_ops *)(uintptr_t)f->os.ops; /* the disk's own */
    uint64_t first, syncs, used = SDB_WAL_HEADER, synced = used, written_out = 0;

    (void)state;
    watching.real = *ops;
    ops->start_writeback = watch_writeback;
    wal_fixture_reopen(f);
    first = f->segment;
    watching.asked = 0;
    watching.synced = used;
    for (;;) {
        assert_int_equal(wal_fixture_append(f, 1, STEP), STORM_OK);
        if (f->segment != first)
            break;
        used += STEP + 36;
        if (!sdb_wal_is_behind(f->wal))
            continue;
        syncs = sim_calls(f->disk, SIM_SYNC);
        assert_int_equal(sdb_wal_catch_up(f->wal), STORM_OK);
        assert_false(sdb_wal_is_behind(f->wal));
        if (sim_calls(f->disk, SIM_SYNC) != syncs) {
            synced = used;
            watching.synced = used;
        } else { /* all but the newest MiB */
            assert_true(watching.asked >= used - MIB - 8 && watching.asked < used);
            written_out = watching.asked;
        }
    }
    assert_in_range(written_out, LARGE - 12 * MIB, LARGE - 8 * MIB);
    assert_true(used - synced < MIB + 2 * STEP);
    assert_true(f->appended * STEP > LARGE - 2 * MIB);
    wal_fixture_destroy(f);
}

static void a_failed_sync_while_catching_up_breaks_the_log(void **state)
{
    struct wal_fixture *f = wal_fixture_create(32 * MIB, SEED);

    (void)state;
    wal_fixture_reopen(f);
    for (int i = 0; i < 31; i++)
        assert_int_equal(wal_fixture_append(f, 1, 900000), STORM_OK);
    sim_plan_set(f->disk, (struct sim_plan){SIM_SYNC, 1, false, STORM_IO, true});
    assert_true(sdb_wal_is_behind(f->wal));
    assert_int_equal(sdb_wal_catch_up(f->wal), STORM_IO);
    assert_true(sdb_wal_is_broken(f->wal));
    assert_int_equal(sdb_wal_catch_up(f->wal), STORM_IO);
    wal_fixture_destroy(f);
}

/* ---- kill -9, on a real disk ----------------------------------------------------------------- */

static uint64_t give_number(void *ctx)
{
    uint64_t *number = ctx;
    return ++*number;
}

/* Batches are their revision, then so many bytes of it. */
static size_t size_of(uint64_t revision)
{
    return 8 + (size_t)(revision * 7919 % 300);
}

static storm_status check_batch(void *ctx, uint64_t revision, struct storm_slice ops)
{
    uint64_t *last = ctx;

    if (revision != *last + 1 || ops.size != size_of(revision) || sdb_get_u64(ops.data) != revision)
        return STORM_CORRUPT;
    for (size_t i = 8; i < ops.size; i++) {
        if (ops.data[i] != (uint8_t)revision)
            return STORM_CORRUPT;
    }
    *last = revision;
    return STORM_OK;
}

/* Append without a sync until killed; *done is the last revision whose append returned. */
static void append_for_ever(struct sdb_wal_options *options, _Atomic uint64_t *done)
{
    struct sdb_wal_report report;
    struct sdb_wal *wal;
    uint64_t number = 0, last = 0;
    uint8_t bytes[400];

    if (sdb_wal_open(options, 0, check_batch, &last, give_number, &number, &wal, &report) !=
        STORM_OK)
        _exit(1);
    for (uint64_t revision = 1;; revision++) {
        struct storm_slice batch = {bytes, size_of(revision)};
        memset(bytes, (uint8_t)revision, sizeof(bytes));
        sdb_put_u64(bytes, revision);
        if (sdb_wal_append(wal, revision, &batch, 1) != STORM_OK)
            _exit(2);
        atomic_store(done, revision);
    }
}

static void a_killed_process_loses_nothing_that_was_appended(void **state)
{
    uint64_t random = random_seed(5);
    _Atomic uint64_t *done =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_true(done != MAP_FAILED);
    for (int round = 0; round < 5; round++) {
        struct test_dir dir;
        struct sdb_errors errors;
        struct sdb_os os;
        struct sdb_wal_report report;
        uint64_t last = 0, goal = 1 + random_below(&random, 30000);
        struct sdb_wal_options options = {
            .os = &os, .store_id = 9, .epoch = 1, .segment_bytes = 1 << 20};
        int status;
        pid_t child;

        test_dir_init(&dir);
        options.dir = dir.path;
        sdb_errors_init(&errors, NULL, NULL);
        sdb_os_posix_init(&os, &errors);
        atomic_store(done, 0);
        child = fork();
        assert_true(child >= 0);
        if (child == 0)
            append_for_ever(&options, done);
        while (atomic_load(done) < goal && waitpid(child, &status, WNOHANG) == 0)
            usleep(100);
        assert_true(atomic_load(done) >= goal);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(sdb_wal_replay(&options, 0, check_batch, &last, &report), STORM_OK);
        assert_true(last >= atomic_load(done));
        sdb_errors_fini(&errors);
        test_dir_fini(&dir);
    }
    (void)munmap((void *)done, 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_behind_unsynced_ones_are_stored),
        cmocka_unit_test(where_nothing_can_be_mapped_the_log_writes),
        cmocka_unit_test(a_power_cut_keeps_a_prefix_of_what_was_stored),
        cmocka_unit_test(a_segment_grows_as_it_fills),
        cmocka_unit_test(a_clean_close_leaves_what_is_used_and_no_spare),
        cmocka_unit_test(a_disk_that_is_full_ends_the_growth_and_nothing_else),
        cmocka_unit_test(growth_and_clean_closes_lose_nothing),
        cmocka_unit_test(a_segments_end_has_little_left_to_sync),
        cmocka_unit_test(a_failed_sync_while_catching_up_breaks_the_log),
        cmocka_unit_test(a_killed_process_loses_nothing_that_was_appended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
