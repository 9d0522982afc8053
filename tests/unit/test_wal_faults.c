/*
 * The log on a disk that fails: power cuts before every change, failing calls of every kind, memory
 * that runs out. The promise is checked by the fixture at every open: what was acknowledged by a
 * sync is there, in order, without a gap, and nothing is there that was not appended with success.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <stdio.h>

#include "alloc_fail.h"
#include "lsm/wal/format.h"
#include "random.h"
#include "wal_fixture.h"

enum { SEGMENT = 16 * 1024, SEED = 31 };

static const enum sim_loss losses[] = {SIM_LOSE_ALL, SIM_KEEP_SOME, SIM_KEEP_TORN, SIM_KEEP_ALL};
enum { LOSSES = sizeof(losses) / sizeof(losses[0]) };

/* Opens, appends of many sizes, syncs, rolls, a group with its own segment, releases. Ends with the
 * first failure. */
static storm_status run_workload(struct wal_fixture *f)
{
    storm_status status = wal_fixture_try_reopen(f);

    for (int i = 0; i < 40 && status == STORM_OK; i++) {
        status = wal_fixture_append(f, 1 + (size_t)i % 4, i == 23 ? 9000 : 50 + (size_t)i * 41);
        if (status == STORM_OK && i % 3 == 1)
            status = wal_fixture_sync(f);
        if (status == STORM_OK && i % 11 == 8)
            wal_fixture_release(f);
        if (status == STORM_OK && i % 17 == 12)
            status = wal_fixture_try_reopen(f);
    }
    return status;
}

/* The log works, and works again after that. */
static void assert_alive(struct wal_fixture *f)
{
    wal_fixture_reopen(f);
    assert_int_equal(wal_fixture_append(f, 2, 333), STORM_OK);
    assert_int_equal(wal_fixture_sync(f), STORM_OK);
    assert_int_equal(wal_fixture_append(f, 1, 333), STORM_OK);
    wal_fixture_reopen(f);
    assert_true(f->replayed == f->appended);
}

static void power_lost_before_any_change_loses_nothing_acknowledged(void **state)
{
    (void)state;
    for (size_t l = 0; l < LOSSES; l++) {
        uint64_t cuts = 0;
        for (uint64_t nth = 1;; nth++) {
            struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED + nth);
            bool was_cut;

            sim_cut_at(f->disk, nth);
            (void)run_workload(f);
            was_cut = sim_is_cut(f->disk);
            wal_fixture_close(f);
            sim_reboot(f->disk, losses[l]);
            assert_alive(f);
            wal_fixture_destroy(f);
            if (!was_cut)
                break;
            cuts++;
        }
        printf("loss model %zu: %d cuts\n", l, (int)cuts);
        assert_true(cuts > 60);
    }
}

static void power_lost_again_and_again_in_one_life(void **state)
{
    uint64_t random = random_seed(4711);

    (void)state;
    for (size_t l = 0; l < LOSSES; l++) {
        struct wal_fixture *f = wal_fixture_create(SEGMENT, random_u64(&random));
        for (int round = 0; round < 100; round++) {
            sim_cut_at(f->disk, 1 + random_below(&random, 60));
            (void)run_workload(f);
            wal_fixture_close(f);
            sim_reboot(f->disk, losses[(l + random_below(&random, 2)) % LOSSES]);
        }
        assert_alive(f);
        wal_fixture_destroy(f);
    }
}

static void power_lost_inside_recovery_loses_nothing(void **state)
{
    (void)state;
    for (size_t l = 0; l < LOSSES; l++) {
        for (uint64_t nth = 5; nth < 110; nth += 13) {
            for (uint64_t inner = 1; inner < 1000; inner++) {
                struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED + nth + inner);
                bool was_cut;

                sim_cut_at(f->disk, nth);
                (void)run_workload(f);
                wal_fixture_close(f);
                sim_reboot(f->disk, losses[l]);
                sim_cut_at(f->disk, inner);
                if (wal_fixture_try_reopen(f) == STORM_OK)
                    (void)wal_fixture_append(f, 1, 100);
                was_cut = sim_is_cut(f->disk);
                wal_fixture_close(f);
                sim_reboot(f->disk, losses[(l + nth) % LOSSES]);
                assert_alive(f);
                wal_fixture_destroy(f);
                if (!was_cut)
                    break;
            }
        }
    }
}

/* ---- Failing calls --------------------------------------------------------------------------- */

struct fault {
    struct sim_plan plan;
    bool breaks; /* may break the log */
};

/*
 * As run_workload, but goes on after failures as a store does: a failed append is tried again by
 * the next round under the same revision, a broken log is opened again.
 */
static void run_stubborn(struct wal_fixture *f, const struct fault *fault)
{
    for (int i = 0; i < 40; i++) {
        if (f->wal == NULL) {
            if (wal_fixture_try_reopen(f) != STORM_OK)
                continue;
        }
        (void)wal_fixture_append(f, 1 + (size_t)i % 4, i == 23 ? 9000 : 50 + (size_t)i * 41);
        if (i % 3 == 1)
            (void)wal_fixture_sync(f);
        if (i % 11 == 8)
            wal_fixture_release(f);
        if (sdb_wal_is_broken(f->wal)) {
            if (!fault->breaks)
                fail_msg("call kind %d, number %d broke the log", (int)fault->plan.call,
                         (int)fault->plan.nth);
            assert_int_equal(wal_fixture_append(f, 1, 100), STORM_IO);
            assert_int_equal(sdb_wal_sync(f->wal), STORM_IO);
            wal_fixture_close(f);
        } else if (i % 17 == 12) {
            wal_fixture_close(f);
        }
    }
}

static uint64_t sweep(struct fault fault, enum sim_loss loss)
{
    uint64_t fired = 0;

    for (uint64_t nth = 1;; nth++) {
        struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED);

        fault.plan.nth = nth;
        sim_plan_set(f->disk, fault.plan);
        run_stubborn(f, &fault);
        if (!sim_plan_fired(f->disk)) {
            wal_fixture_destroy(f);
            return fired;
        }
        fired++;
        sim_plan_set(f->disk, (struct sim_plan){0});
        if (f->wal != NULL) { /* the disk is well again: no restart needed */
            assert_int_equal(wal_fixture_append(f, 1, 77), STORM_OK);
            assert_int_equal(wal_fixture_sync(f), STORM_OK);
        }
        wal_fixture_close(f);
        sim_reboot(f->disk, loss);
        assert_alive(f);
        wal_fixture_destroy(f);
    }
}

static void any_failing_call_is_an_error_and_costs_nothing_acknowledged(void **state)
{
    static const struct {
        enum sim_call call;
        const char *name;
        bool breaks, is_write;
        uint64_t least;
    } kinds[] = {
        {SIM_OPEN, "open", false, false, 4},         {SIM_READ, "read", false, false, 3},
        {SIM_WRITE, "write", false, true, 30},       {SIM_SYNC, "sync", true, true, 5},
        {SIM_ALLOCATE, "allocate", false, false, 4}, {SIM_RENAME, "rename", false, false, 4},
        {SIM_UNLINK, "unlink", false, false, 1},     {SIM_LIST, "list", false, false, 2},
        {SIM_SYNC_DIR, "sync_dir", true, false, 4},  {SIM_SIZE, "size", false, false, 4},
    };
    static const storm_status statuses[] = {STORM_IO, STORM_NO_SPACE};

    (void)state;
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        uint64_t fired = 0;
        for (int variant = 0; variant < 8; variant++) {
            struct fault fault = {{.call = kinds[k].call,
                                   .for_ever = variant & 1,
                                   .status = statuses[variant >> 1 & 1],
                                   .half_done = variant >> 2 & 1},
                                  .breaks = kinds[k].breaks};
            if (fault.plan.half_done && !kinds[k].is_write)
                continue;
            fired = sweep(fault, losses[(k + (size_t)variant) % LOSSES]);
            assert_true(fired >= kinds[k].least);
        }
        printf("%s: %d failures each\n", kinds[k].name, (int)fired);
    }
}

static void every_read_of_a_large_log_may_fail(void **state)
{
    struct wal_fixture *f = wal_fixture_create(4 * 1024 * 1024, SEED);
    uint64_t nth = 0;
    storm_status status;
    bool fired;

    (void)state;
    /* Larger than the reader's window of 1 MiB, and a tail that takes more than one. */
    wal_fixture_reopen(f);
    assert_int_equal(wal_fixture_append(f, 1, 1500000), STORM_OK);
    assert_int_equal(wal_fixture_append(f, 1, 100), STORM_OK);
    do {
        sim_plan_set(f->disk,
                     (struct sim_plan){.call = SIM_READ, .nth = ++nth, .status = STORM_IO});
        status = wal_fixture_replay(f);
        fired = sim_plan_fired(f->disk);
        assert_int_equal(status, fired ? STORM_IO : STORM_OK);
        sim_plan_set(f->disk, (struct sim_plan){0});
    } while (fired);
    assert_true(nth > 5);
    assert_int_equal(f->replayed, 2);
    wal_fixture_destroy(f);
}

static void a_segment_number_that_does_not_follow_is_refused(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED);

    (void)state;
    wal_fixture_reopen(f);
    assert_int_equal(wal_fixture_append(f, 1, 11000), STORM_OK);
    f->number = 0;
    assert_int_equal(wal_fixture_append(f, 1, 5000), STORM_INVALID);
    assert_int_equal(wal_fixture_append(f, 1, 5000), STORM_OK);
    wal_fixture_reopen(f);
    assert_int_equal(f->replayed, 2);
    wal_fixture_destroy(f);
}

static void a_failed_sync_is_final(void **state)
{
    (void)state;
    for (int half_done = 0; half_done < 2; half_done++) {
        struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED);

        wal_fixture_reopen(f);
        assert_int_equal(wal_fixture_append(f, 1, 100), STORM_OK);
        assert_int_equal(wal_fixture_sync(f), STORM_OK);
        assert_int_equal(wal_fixture_append(f, 1, 100), STORM_OK);
        sim_plan_set(f->disk, (struct sim_plan){.call = SIM_SYNC,
                                                .nth = 1,
                                                .status = STORM_IO,
                                                .half_done = half_done != 0});
        assert_int_equal(wal_fixture_sync(f), STORM_IO);
        assert_true(sdb_wal_is_broken(f->wal));
        sim_plan_set(f->disk, (struct sim_plan){0});
        for (int i = 0; i < 3; i++) {
            assert_int_equal(wal_fixture_sync(f), STORM_IO);
            assert_int_equal(wal_fixture_append(f, 1, 100), STORM_IO);
        }
        assert_int_equal(f->synced, 1);
        wal_fixture_close(f);
        sim_reboot(f->disk, SIM_LOSE_ALL);
        assert_alive(f);
        wal_fixture_destroy(f);
    }
}

static void a_failed_sync_of_a_new_segment_is_final_too(void **state)
{
    static const enum sim_call calls[] = {SIM_SYNC, SIM_SYNC_DIR};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED);

        wal_fixture_reopen(f);
        assert_int_equal(wal_fixture_append(f, 1, 11000), STORM_OK);
        assert_int_equal(wal_fixture_sync(f), STORM_OK);
        sim_plan_set(f->disk, (struct sim_plan){.call = calls[i], .nth = 1, .status = STORM_IO});
        assert_int_equal(wal_fixture_append(f, 1, 5000), STORM_IO);
        assert_true(sdb_wal_is_broken(f->wal));
        assert_int_equal(wal_fixture_append(f, 1, 10), STORM_IO);
        wal_fixture_close(f);
        sim_reboot(f->disk, SIM_LOSE_ALL);
        assert_alive(f);
        wal_fixture_destroy(f);
    }
}

static void a_broken_log_keeps_its_files(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED);
    size_t files;

    (void)state;
    wal_fixture_reopen(f);
    while (f->segment < 4)
        assert_int_equal(wal_fixture_append(f, 1, 3000), STORM_OK);
    sim_plan_set(f->disk, (struct sim_plan){.call = SIM_SYNC, .nth = 1, .status = STORM_IO});
    assert_int_equal(wal_fixture_sync(f), STORM_IO);
    files = wal_fixture_files(f, ".log");
    sdb_wal_release(f->wal, f->segment);
    assert_int_equal(wal_fixture_files(f, ".log"), files);
    wal_fixture_destroy(f);
}

/*
 * A write that reports a failure after all of it was stored. The disk in memory stores the first
 * half of a half-done write, so the second half here is what the fresh segment already holds:
 * zeroes.
 */
static storm_status append_stored_but_failed(struct wal_fixture *f)
{
    static const uint8_t zeroes[2000];
    struct storm_slice batch = storm_bytes(zeroes, sizeof(zeroes));

    sim_plan_set(f->disk, (struct sim_plan){
                              .call = SIM_WRITE, .nth = 1, .status = STORM_IO, .half_done = true});
    return sdb_wal_append(f->wal, f->appended + 1, &batch, 1);
}

static void a_failed_write_that_was_stored_is_taken_back(void **state)
{
    (void)state;
    for (size_t l = 0; l < LOSSES; l++) {
        for (int again = 0; again < 2; again++) {
            struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED);
            uint64_t syncs;

            wal_fixture_reopen(f);
            assert_int_equal(wal_fixture_append(f, 2, 100), STORM_OK);
            syncs = sim_calls(f->disk, SIM_SYNC);
            assert_int_equal(append_stored_but_failed(f), STORM_IO);
            assert_false(sdb_wal_is_broken(f->wal));
            /* A real disk may have the record already, and lose the zeroes that took it back; the
             * disk in memory remembers only the latest bytes. So the sync is counted. */
            assert_int_equal(sim_calls(f->disk, SIM_SYNC), syncs + 1);
            if (again) {
                assert_int_equal(wal_fixture_append(f, 1, 10), STORM_OK);
                assert_int_equal(wal_fixture_replay(f), STORM_OK);
                assert_int_equal(f->replayed, 3);
            }
            wal_fixture_close(f);
            sim_reboot(f->disk, losses[l]);
            assert_alive(f); /* the fixture knows that batch nothing of: it would be wrong */
            wal_fixture_destroy(f);
        }
    }
}

static void a_failed_write_that_can_not_be_taken_back_breaks_the_log(void **state)
{
    static const enum sim_call later[] = {SIM_WRITE, SIM_SYNC};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED);
        static const uint8_t zeroes[2000];
        struct storm_slice batch = storm_bytes(zeroes, sizeof(zeroes));

        wal_fixture_reopen(f);
        assert_int_equal(wal_fixture_append(f, 2, 100), STORM_OK);
        if (later[i] == SIM_WRITE) {
            sim_plan_set(f->disk, (struct sim_plan){.call = SIM_WRITE,
                                                    .nth = 1,
                                                    .for_ever = true,
                                                    .status = STORM_NO_SPACE,
                                                    .half_done = true});
            assert_int_equal(sdb_wal_append(f->wal, 3, &batch, 1), STORM_NO_SPACE);
        } else {
            /* Write, read twice, write, sync: the fifth call and all later ones fail. A read that
             * fails is no proof that the record is not there. */
            sim_plan_set(f->disk, (struct sim_plan){.call = SIM_ANY,
                                                    .nth = 1,
                                                    .for_ever = true,
                                                    .status = STORM_IO,
                                                    .half_done = true});
            assert_int_equal(sdb_wal_append(f->wal, 3, &batch, 1), STORM_IO);
        }
        assert_true(sdb_wal_is_broken(f->wal));
        sim_plan_set(f->disk, (struct sim_plan){0});
        assert_int_equal(wal_fixture_append(f, 1, 100), STORM_IO);
        wal_fixture_destroy(f);
    }
}

static void writes_resume_on_a_disk_that_was_full(void **state)
{
    struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED);
    uint64_t appended;

    (void)state;
    wal_fixture_reopen(f);
    sim_capacity_set(f->disk, sim_used_bytes(f->disk) + 2 * SEGMENT);
    while (wal_fixture_append(f, 1, 1000) == STORM_OK)
        continue;
    assert_int_equal(f->segment, 3);
    appended = f->appended;
    for (int i = 0; i < 5; i++)
        assert_int_equal(wal_fixture_append(f, 1, 1000), STORM_NO_SPACE);
    assert_false(sdb_wal_is_broken(f->wal));
    assert_int_equal(f->appended, appended);
    /* What is flushed makes room, without a restart. */
    wal_fixture_release(f);
    assert_int_equal(wal_fixture_append(f, 1, 1000), STORM_OK);
    assert_int_equal(wal_fixture_sync(f), STORM_OK);
    wal_fixture_close(f);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    wal_fixture_reopen(f);
    assert_true(f->replayed == f->appended);
    wal_fixture_destroy(f);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static storm_status remember_last(void *ctx, uint64_t revision, struct storm_slice ops)
{
    (void)ops;
    *(uint64_t *)ctx = revision;
    return STORM_OK;
}

static uint64_t count_up(void *ctx)
{
    return ++((struct wal_fixture *)ctx)->number;
}

/* A few appends in a log of three segments; every allocation in here is the log's. */
static storm_status use_memory(struct wal_fixture *f, uint64_t *last)
{
    struct storm_slice batches[20];
    struct sdb_wal_report report;
    struct sdb_wal *wal;
    storm_status status;

    for (size_t i = 0; i < 20; i++)
        batches[i] = storm_text("twenty batches do not fit the stack");
    *last = 0;
    f->options.epoch++;
    status = sdb_wal_open(&f->options, 1, remember_last, last, count_up, f, &wal, &report);
    for (int i = 0; i < 30 && status == STORM_OK; i++) {
        status = sdb_wal_append(wal, *last + 1, batches, 20);
        if (status == STORM_OK)
            *last += 20;
    }
    if (status == STORM_OK)
        status = sdb_wal_sync(wal);
    assert_true(wal == NULL || !sdb_wal_is_broken(wal));
    sdb_wal_close(wal);
    return status;
}

static void every_allocation_may_fail(void **state)
{
    uint64_t failures = 0, nth = 0;

    (void)state;
    do {
        struct wal_fixture *f = wal_fixture_create(SEGMENT, SEED);
        uint64_t first, last;
        storm_status status;

        assert_int_equal(use_memory(f, &first), STORM_OK);
        alloc_fail_at(++nth, false);
        status = use_memory(f, &last);
        alloc_fail_at(0, false);
        failures = alloc_failures();
        assert_int_equal(status, failures > 0 ? STORM_NO_MEMORY : STORM_OK);
        /* Nothing was lost, and what was appended before the failure is there. */
        assert_true(last <= first + 600);
        if (last > first)
            first = last;
        assert_int_equal(use_memory(f, &last), STORM_OK);
        assert_true(last == first + 600);
        wal_fixture_destroy(f);
    } while (failures > 0);
    printf("%d allocations failed\n", (int)nth - 1);
    assert_true(nth > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_lost_before_any_change_loses_nothing_acknowledged),
        cmocka_unit_test(power_lost_again_and_again_in_one_life),
        cmocka_unit_test(power_lost_inside_recovery_loses_nothing),
        cmocka_unit_test(any_failing_call_is_an_error_and_costs_nothing_acknowledged),
        cmocka_unit_test(every_read_of_a_large_log_may_fail),
        cmocka_unit_test(a_segment_number_that_does_not_follow_is_refused),
        cmocka_unit_test(a_failed_sync_is_final),
        cmocka_unit_test(a_failed_sync_of_a_new_segment_is_final_too),
        cmocka_unit_test(a_broken_log_keeps_its_files),
        cmocka_unit_test(a_failed_write_that_was_stored_is_taken_back),
        cmocka_unit_test(a_failed_write_that_can_not_be_taken_back_breaks_the_log),
        cmocka_unit_test(writes_resume_on_a_disk_that_was_full),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
