/* The disk in memory: plans, cuts, space, damage, clocks and threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>

#include "sim_fixture.h"

enum { PAGE = 4096 };

static void plan(struct fixture *f, enum sim_call call, uint64_t nth, storm_status status)
{
    sim_plan_set(f->disk, (struct sim_plan){.call = call, .nth = nth, .status = status});
}

/* ---- Plans and cuts -------------------------------------------------------------------------- */

static void a_plan_fails_the_nth_call_of_its_kind_once(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    uint64_t size;

    plan(f, SIM_WRITE, 2, STORM_NO_SPACE);
    write_ok(file, 0, "one");
    assert_int_equal(sdb_sync(file), STORM_OK);
    assert_false(sim_plan_fired(f->disk));
    assert_int_equal(sdb_pwrite(file, 3, "two", 3), STORM_NO_SPACE);
    assert_true(sim_plan_fired(f->disk));
    assert_said(f, "write", "a", "no space");
    assert_int_equal(sdb_size(file, &size), STORM_OK);
    assert_int_equal(size, 3); /* not half done: nothing happened */
    write_ok(file, 3, "two");
    sdb_close(file);
    assert_holds(f, "a", "onetwo");
}

static void a_plan_for_ever_ends_with_the_plan(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    int i;

    sim_plan_set(f->disk, (struct sim_plan){SIM_WRITE, 2, true, STORM_IO, false});
    write_ok(file, 0, "x");
    for (i = 0; i < 3; i++)
        assert_int_equal(sdb_pwrite(file, 0, "y", 1), STORM_IO);
    plan(f, SIM_WRITE, 0, STORM_OK);
    assert_false(sim_plan_fired(f->disk));
    write_ok(file, 0, "z");
    sdb_close(file);
}

static void a_half_done_write_stores_a_part(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    struct iovec parts[2] = {{"012", 3}, {"34567", 5}};

    sim_plan_set(f->disk, (struct sim_plan){SIM_WRITE, 1, false, STORM_IO, true});
    assert_int_equal(sdb_pwritev(file, 0, parts, 2), STORM_IO);
    sdb_close(file);
    assert_holds(f, "a", "0123");
}

/* Stored bytes are lost, kept and torn like written ones; only a missing page is their own
 * trouble. */
static void a_store_is_a_write_that_needs_its_page(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    struct iovec parts[2] = {{"012", 3}, {"34567", 5}};

    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    assert_int_equal(sdb_store(file, 0, parts, 2), STORM_INVALID);
    assert_said(f, "write", "a", "SIGBUS");
    assert_int_equal(sdb_allocate(file, 8), STORM_OK);
    assert_int_equal(sdb_store(file, 0, parts, 2), STORM_OK);
    assert_int_equal(sdb_sync(file), STORM_OK);
    assert_int_equal(sdb_store(file, 1, parts, 1), STORM_OK);
    assert_int_equal(sdb_store(file, 1, parts, 2), STORM_INVALID);
    assert_holds(f, "a", "00124567");
    sim_plan_set(f->disk, (struct sim_plan){SIM_WRITE, 1, false, STORM_IO, true});
    assert_int_equal(sdb_store(file, 0, &parts[1], 1), STORM_IO);
    sdb_close(file);
    assert_holds(f, "a", "34124567");
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_holds(f, "a", "01234567");
    sim_refuse_stores(f->disk);
    file = open_ok(f, "a", SDB_OPEN_WRITE);
    assert_int_equal(sdb_store(file, 0, parts, 2), STORM_UNSUPPORTED);
    sdb_close(file);
}

/* The trap of a failed fsync: the bytes are gone, the file's size is not, and the next sync says
 * OK. */
static void a_failing_sync_loses_the_dirty_bytes(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    char back[8];
    size_t got;

    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    write_ok(file, 0, "0123");
    assert_int_equal(sdb_sync(file), STORM_OK);
    write_ok(file, 2, "abcd");
    sim_plan_set(f->disk, (struct sim_plan){SIM_SYNC, 1, false, STORM_IO, true});
    assert_int_equal(sdb_sync(file), STORM_IO);
    assert_int_equal(sdb_pread(file, 0, back, 8, &got), STORM_OK);
    assert_int_equal(got, 6);
    assert_memory_equal(back, "0123\0\0", 6);
    assert_int_equal(sdb_sync(file), STORM_OK);
    /* Without half_done the bytes stay dirty. */
    write_ok(file, 0, "x");
    plan(f, SIM_SYNC, 1, STORM_IO);
    assert_int_equal(sdb_sync(file), STORM_IO);
    assert_int_equal(sdb_pread(file, 0, back, 1, &got), STORM_OK);
    assert_int_equal(back[0], 'x');
    /* A file that had been cut: the old bytes stay out of sight. */
    assert_int_equal(sdb_truncate(file, 1), STORM_OK);
    sim_plan_set(f->disk, (struct sim_plan){SIM_SYNC, 1, false, STORM_IO, true});
    assert_int_equal(sdb_sync(file), STORM_IO);
    assert_int_equal(sdb_truncate(file, 3), STORM_OK);
    assert_int_equal(sdb_pread(file, 0, back, 8, &got), STORM_OK);
    assert_int_equal(got, 3);
    assert_memory_equal(back, "0\0\0", 3);
    sdb_close(file);
}

static void *run_nothing(void *arg)
{
    return arg;
}

/* Make call number `call` once, with everything it needs in place. */
static storm_status make_call(struct fixture *f, struct sdb_file *file, enum sim_call call)
{
    struct sdb_file *other = NULL;
    storm_status status = STORM_INVALID;
    unsigned names = 0;
    void *address;
    uint64_t size;
    size_t got;
    char byte;
    pthread_t thread;

    switch (call) {
    case SIM_OPEN:
        status = sdb_open(&f->os, "a", SDB_OPEN_READ, &other);
        break;
    case SIM_READ:
        return sdb_pread(file, 0, &byte, 1, &got);
    case SIM_WRITE:
        return sdb_pwrite(file, 0, "x", 1);
    case SIM_SYNC:
        return sdb_sync(file);
    case SIM_ALLOCATE:
        return sdb_allocate(file, 10);
    case SIM_TRUNCATE:
        return sdb_truncate(file, 10);
    case SIM_RENAME:
        return sdb_rename(&f->os, "b", "c");
    case SIM_UNLINK:
        return sdb_unlink(&f->os, "c");
    case SIM_LINK:
        return sdb_link(&f->os, "a", "b");
    case SIM_MKDIR:
        return sdb_mkdir(&f->os, "d");
    case SIM_LIST:
        return sdb_list(&f->os, "/", count_names, &names);
    case SIM_SYNC_DIR:
        return sdb_sync_dir(&f->os, "/");
    case SIM_LOCK:
        status = sdb_lock(&f->os, "LOCK", &other);
        break;
    case SIM_SIZE:
        return sdb_size(file, &size);
    case SIM_MAP:
        status = sdb_map(file, 1, false, &address);
        if (status == STORM_OK)
            sdb_unmap(file, address, 1);
        return status;
    case SIM_THREAD:
        status = sdb_thread_start(&f->os, "storm-test", run_nothing, NULL, &thread);
        if (status == STORM_OK)
            assert_int_equal(pthread_join(thread, NULL), 0);
        break;
    case SIM_ANY:
        return sdb_free_bytes(&f->os, "/", &size);
    case SIM_CHANGES:
        status = sdb_open(&f->os, "new", SDB_OPEN_CREATE, &other);
        break;
    case SIM_CALL_KINDS:
        break;
    }
    sdb_close(other);
    return status;
}

static void every_kind_of_call_can_be_planned_and_is_counted(void **state)
{
    /* sync before map, link before rename before unlink: each leaves what the next needs */
    static const enum sim_call order[] = {
        SIM_ANY,    SIM_CHANGES, SIM_OPEN,     SIM_READ,     SIM_WRITE, SIM_SYNC,
        SIM_MAP,    SIM_SIZE,    SIM_ALLOCATE, SIM_TRUNCATE, SIM_LINK,  SIM_RENAME,
        SIM_UNLINK, SIM_MKDIR,   SIM_SYNC_DIR, SIM_LIST,     SIM_LOCK,  SIM_THREAD};
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    size_t i;

    assert_int_equal(sizeof(order) / sizeof(order[0]), SIM_CALL_KINDS);
    for (i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        uint64_t before = sim_calls(f->disk, order[i]);
        uint64_t all = sim_calls(f->disk, SIM_ANY);
        uint64_t failures = recorded(f);

        plan(f, order[i], 1, STORM_NO_MEMORY);
        assert_int_equal(make_call(f, file, order[i]), STORM_NO_MEMORY);
        assert_int_equal(recorded(f), failures + 1);
        assert_true(sim_plan_fired(f->disk));
        assert_int_equal(make_call(f, file, order[i]), STORM_OK);
        assert_int_equal(sim_calls(f->disk, order[i]), before + 2);
        assert_int_equal(sim_calls(f->disk, SIM_ANY), all + 2);
    }
    /* Reads and lists are no changes; both tries of the lock met no LOCK file yet. */
    assert_int_equal(sim_calls(f->disk, SIM_CHANGES), 1 + 2 * 11);
    sdb_close(file);
}

static void a_cut_stops_everything_until_the_reboot(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    enum sim_call call;

    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    sim_cut_at(f->disk, 3);
    write_ok(file, 0, "0123");
    assert_int_equal(make_call(f, file, SIM_READ), STORM_OK); /* no change: does not count */
    assert_int_equal(sdb_sync(file), STORM_OK);
    assert_false(sim_is_cut(f->disk));
    assert_int_equal(sdb_pwrite(file, 4, "4567", 4), STORM_IO);
    assert_said(f, "write", "a", "power");
    assert_true(sim_is_cut(f->disk));
    for (call = SIM_ANY; call < SIM_CALL_KINDS; call++)
        assert_int_equal(make_call(f, file, call), STORM_IO);
    sim_reboot(f->disk, SIM_KEEP_ALL);
    sdb_close(file);
    assert_false(sim_is_cut(f->disk));
    assert_holds(f, "a", "012345"); /* the cut write was on its way */
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_holds(f, "a", "0123");
}

static void a_reboot_clears_the_plan_and_the_cut(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file;

    sim_plan_set(f->disk, (struct sim_plan){SIM_ANY, 1, true, STORM_IO, false});
    assert_int_equal(sdb_open(&f->os, "a", SDB_OPEN_CREATE, &file), STORM_IO);
    sim_cut_at(f->disk, 1);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_true(sim_plan_fired(f->disk)); /* until the next plan: sweeps ask after the reboot */
    file = open_ok(f, "a", SDB_OPEN_CREATE);
    write_ok(file, 0, "x");
    sdb_close(file);
}

/* ---- Space ----------------------------------------------------------------------------------- */

static void the_capacity_ends_in_no_space_and_cutting_helps(void **state)
{
    static const uint8_t bytes[8 * PAGE];
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    uint64_t free_bytes;
    uint64_t size;

    sim_capacity_set(f->disk, 4 * PAGE);
    assert_int_equal(sdb_pwrite(file, 0, bytes, PAGE), STORM_OK);
    assert_int_equal(sdb_free_bytes(&f->os, "/", &free_bytes), STORM_OK);
    assert_int_equal(free_bytes, 3 * PAGE);
    assert_int_equal(sdb_pwrite(file, PAGE, bytes, 4 * PAGE), STORM_NO_SPACE);
    assert_said(f, "write", "a", "full");
    assert_int_equal(sdb_size(file, &size), STORM_OK);
    assert_int_equal(size, 4 * PAGE);                                 /* what fitted was stored */
    assert_int_equal(sdb_pwrite(file, 0, bytes, 4 * PAGE), STORM_OK); /* in place needs no space */
    assert_int_equal(sdb_truncate(file, PAGE), STORM_OK);
    assert_int_equal(sim_used_bytes(f->disk), PAGE);
    assert_int_equal(sdb_pwrite(file, PAGE, bytes, 3 * PAGE), STORM_OK);
    sim_capacity_set(f->disk, 0);
    assert_int_equal(sdb_pwrite(file, 0, bytes, 8 * PAGE), STORM_OK);
    sdb_close(file);
}

static void what_is_reserved_cannot_meet_a_full_disk(void **state)
{
    static const uint8_t bytes[4 * PAGE];
    struct fixture *f = *state;
    struct sdb_file *reserved = open_ok(f, "a", SDB_OPEN_CREATE);
    struct sdb_file *hole = open_ok(f, "b", SDB_OPEN_CREATE);

    sim_capacity_set(f->disk, 5 * PAGE);
    assert_int_equal(sdb_pwrite(reserved, PAGE, "x", 1), STORM_OK);
    assert_int_equal(sdb_truncate(hole, 4 * PAGE), STORM_OK); /* a hole takes nothing */
    assert_int_equal(sim_used_bytes(f->disk), PAGE);
    assert_int_equal(sdb_allocate(reserved, 6 * PAGE), STORM_NO_SPACE);
    assert_said(f, "allocate", "a", "full");
    assert_int_equal(sim_used_bytes(f->disk), PAGE);
    assert_int_equal(sdb_allocate(reserved, 4 * PAGE), STORM_OK);
    assert_int_equal(sim_used_bytes(f->disk), 4 * PAGE);
    assert_int_equal(sdb_pwrite(hole, 0, bytes, 4 * PAGE), STORM_NO_SPACE);
    assert_int_equal(sdb_pwrite(reserved, 0, bytes, 4 * PAGE), STORM_OK);
    assert_int_equal(sim_used_bytes(f->disk), 5 * PAGE);
    assert_int_equal(sdb_truncate(reserved, PAGE), STORM_OK); /* and gives its reservation back */
    assert_int_equal(sim_used_bytes(f->disk), 2 * PAGE);
    sdb_close(hole);
    sdb_close(reserved);
}

/* ---- Damage, clocks, threads ----------------------------------------------------------------- */

static void damage_is_in_both_states(void **state)
{
    struct fixture *f = *state;
    uint64_t size;
    unsigned count = 0;

    assert_int_equal(sdb_mkdir(&f->os, "d"), STORM_OK);
    assert_int_equal(sdb_mkdir(&f->os, "d/e"), STORM_OK);
    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    assert_int_equal(sim_write_file(f->disk, "d/a", "0123", 4), STORM_OK);
    assert_int_equal(sim_write_file(f->disk, "d/b", "bbbb", 4), STORM_OK);
    assert_int_equal(sim_write_file(f->disk, "x/b", "bbbb", 4), STORM_NOT_FOUND);
    assert_int_equal(sim_flip(f->disk, "d/a", 1, 0x40), STORM_OK);
    assert_int_equal(sim_flip(f->disk, "d/a", 4, 0x40), STORM_INVALID);
    assert_int_equal(sim_flip(f->disk, "d/x", 0, 1), STORM_NOT_FOUND);
    assert_holds(f, "d/a", "0q23");
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_holds(f, "d/a", "0q23");
    assert_holds(f, "d/b", "bbbb");
    assert_int_equal(sim_resize(f->disk, "d/a", 2), STORM_OK);
    assert_int_equal(sim_remove(f->disk, "d/b"), STORM_OK);
    assert_int_equal(sim_remove(f->disk, "d/b"), STORM_NOT_FOUND);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_holds(f, "d/a", "0q");
    assert_false(is_there(f, "d/b"));
    assert_int_equal(sim_write_file(f->disk, "d/a", "new contents", 12), STORM_OK);
    sim_reboot(f->disk, SIM_KEEP_SOME);
    assert_holds(f, "d/a", "new contents");
    assert_int_equal(sim_file_size(f->disk, "d/a", &size), STORM_OK);
    assert_int_equal(size, 12);
    assert_int_equal(sim_each_file(f->disk, "d", count_names, &count), STORM_OK);
    assert_int_equal(count, 1); /* files only */
    assert_int_equal(sim_each_file(f->disk, "x", count_names, &count), STORM_NOT_FOUND);
}

/* What was pending for the name before is played by coins; what the test did is not. */
static void damage_outlives_pending_changes(void **state)
{
    uint64_t seed;

    (void)state;
    for (seed = 0; seed < 20; seed++) {
        struct fixture f;

        fixture_init(&f, seed);
        make_file(&f, "a", "old", true);
        make_file(&f, "b", "old", true);
        assert_int_equal(sdb_sync_dir(&f.os, "/"), STORM_OK);
        assert_int_equal(sdb_unlink(&f.os, "a"), STORM_OK);
        assert_int_equal(sim_write_file(f.disk, "a", "new", 3), STORM_OK);
        assert_int_equal(sdb_unlink(&f.os, "b"), STORM_OK);
        make_file(&f, "b", "next", true);
        assert_int_equal(sim_remove(f.disk, "b"), STORM_OK);
        sim_reboot(f.disk, SIM_KEEP_SOME);
        assert_holds(&f, "a", "new");
        assert_false(is_there(&f, "b"));
        fixture_fini(&f);
    }
}

static void a_flip_leaves_unsynced_bytes_unsynced(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);

    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    write_ok(file, 0, "0123");
    assert_int_equal(sdb_sync(file), STORM_OK);
    write_ok(file, 2, "xy");
    assert_int_equal(sim_flip(f->disk, "a", 0, 0x40), STORM_OK);
    sdb_close(file);
    assert_holds(f, "a", "p1xy");
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_holds(f, "a", "p123");
}

static void clocks_move_as_told_and_with_the_calls(void **state)
{
    struct fixture *f = *state;
    uint64_t ms = sdb_now_ms(&f->os);
    uint64_t ns = sdb_now_ns(&f->os);
    unsigned count = 0;

    assert_int_equal(sdb_list(&f->os, "/", count_names, &count), STORM_OK);
    assert_int_equal(sdb_now_ms(&f->os), ms);
    assert_int_equal(sdb_now_ns(&f->os), ns + 2000); /* the list and the reading itself */
    sim_clock_set(f->disk, 12345);
    assert_int_equal(sdb_now_ms(&f->os), 12345);
}

/* ---- Threads, and sweeps at the size they will have ------------------------------------------ */

struct worker {
    struct fixture *f;
    struct sdb_file *file;
    char path[16];
    unsigned rounds; /* until the first failure */
};

static void *write_until_it_fails(void *arg)
{
    struct worker *w = arg;
    uint64_t offset = 0;

    while (sdb_pwrite(w->file, offset, w->path, sizeof(w->path)) == STORM_OK &&
           sdb_sync(w->file) == STORM_OK && sdb_sync_dir(&w->f->os, "/") == STORM_OK) {
        (void)sdb_now_ns(&w->f->os);
        offset += 100;
        w->rounds++;
    }
    return NULL;
}

static void threads_work_at_once_while_the_power_goes(void **state)
{
    enum { THREADS = 4, CHANGES = 3000 };
    struct fixture *f = *state;
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    unsigned rounds = 0;
    int i;

    for (i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.f = f};
        (void)snprintf(workers[i].path, sizeof(workers[i].path), "file%d", i);
        workers[i].file = open_ok(f, workers[i].path, SDB_OPEN_CREATE);
    }
    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    for (i = 0; i < THREADS; i++)
        assert_int_equal(
            sdb_thread_start(&f->os, "storm-test", write_until_it_fails, &workers[i], &threads[i]),
            STORM_OK);
    sim_cut_at(f->disk, CHANGES); /* from now on; a thread starts only while there is power */
    while (!sim_is_cut(f->disk))
        (void)sdb_now_ms(&f->os);
    sim_reboot(f->disk, SIM_KEEP_SOME); /* while they still hold their files */
    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        sdb_close(workers[i].file);
        rounds += workers[i].rounds;
        assert_true(is_there(f, workers[i].path));
    }
    assert_true(rounds >= CHANGES / 3 - THREADS);
}

/* 64 MiB reserved, 1,000 synced appends, power cut: a run of a sweep, and cheap enough for many. */
static void a_large_reservation_costs_nothing_until_written(void **state)
{
    static const uint8_t record[300];
    uint64_t seed;

    (void)state;
    for (seed = 0; seed < 20; seed++) {
        struct fixture f;
        struct sdb_file *file;
        unsigned i;

        fixture_init(&f, seed);
        file = open_ok(&f, "log", SDB_OPEN_CREATE);
        assert_int_equal(sdb_allocate(file, 64 << 20), STORM_OK);
        assert_int_equal(sim_used_bytes(f.disk), 64 << 20);
        assert_int_equal(sdb_sync_dir(&f.os, "/"), STORM_OK);
        for (i = 0; i < 1000; i++) {
            assert_int_equal(sdb_pwrite(file, i * sizeof(record), record, sizeof(record)),
                             STORM_OK);
            assert_int_equal(sdb_sync(file), STORM_OK);
        }
        sim_reboot(f.disk, SIM_KEEP_TORN);
        sdb_close(file);
        fixture_fini(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SIM_CASE(a_plan_fails_the_nth_call_of_its_kind_once),
        SIM_CASE(a_plan_for_ever_ends_with_the_plan),
        SIM_CASE(a_half_done_write_stores_a_part),
        SIM_CASE(a_store_is_a_write_that_needs_its_page),
        SIM_CASE(a_failing_sync_loses_the_dirty_bytes),
        SIM_CASE(every_kind_of_call_can_be_planned_and_is_counted),
        SIM_CASE(a_cut_stops_everything_until_the_reboot),
        SIM_CASE(a_reboot_clears_the_plan_and_the_cut),
        SIM_CASE(the_capacity_ends_in_no_space_and_cutting_helps),
        SIM_CASE(what_is_reserved_cannot_meet_a_full_disk),
        SIM_CASE(damage_is_in_both_states),
        SIM_CASE(damage_outlives_pending_changes),
        SIM_CASE(a_flip_leaves_unsynced_bytes_unsynced),
        SIM_CASE(clocks_move_as_told_and_with_the_calls),
        SIM_CASE(threads_work_at_once_while_the_power_goes),
        SIM_CASE(a_large_reservation_costs_nothing_until_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
