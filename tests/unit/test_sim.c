/* The disk in memory: how its files behave, and what a power loss leaves of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "sim_fixture.h"

enum { SECTOR = 512, PAGE = 4096 };

/* ---- As the process sees it ------------------------------------------------------------------ */

static void files_behave_like_the_real_ones(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "/a", SDB_OPEN_CREATE);
    struct iovec parts[3] = {{"one ", 4}, {NULL, 0}, {"two", 3}};
    void *address = parts;
    char back[16];
    uint64_t size;
    size_t got;

    assert_int_equal(sdb_pwritev(file, PAGE - 2, parts, 3), STORM_OK); /* over the page's end */
    assert_int_equal(sdb_size(file, &size), STORM_OK);
    assert_int_equal(size, PAGE + 5);
    assert_int_equal(sdb_pread(file, PAGE - 4, back, sizeof(back), &got), STORM_OK);
    assert_int_equal(got, 9);
    assert_memory_equal(back, "\0\0one two", 9);
    assert_int_equal(sdb_pread(file, size, back, 1, &got), STORM_OK);
    assert_int_equal(got, 0);
    /* What is cut off is gone when the file grows again. */
    assert_int_equal(sdb_truncate(file, PAGE - 1), STORM_OK);
    assert_int_equal(sdb_truncate(file, 2 * PAGE), STORM_OK);
    assert_int_equal(sdb_pread(file, PAGE - 3, back, 5, &got), STORM_OK);
    assert_memory_equal(back, "\0o\0\0\0", 5);
    sdb_start_writeback(file, 0, PAGE);
    sdb_start_read(file, 0, PAGE);
    assert_int_equal(sdb_map(file, PAGE, false, &address), STORM_UNSUPPORTED); /* not synced */
    assert_null(address);
    assert_int_equal(sdb_sync(file), STORM_OK);
    assert_int_equal(sdb_map(file, PAGE, true, &address), STORM_UNSUPPORTED);
    assert_int_equal(sdb_map(file, PAGE, false, &address), STORM_OK);
    assert_memory_equal((char *)address + PAGE - 3, "\0o\0", 3);
    sdb_unmap(file, address, PAGE);
    assert_int_equal(sdb_pwrite(file, UINT64_MAX - 1, "abc", 3), STORM_IO);
    sdb_close(file);
    file = open_ok(f, "a", SDB_OPEN_READ); /* a leading slash means nothing */
    assert_int_equal(sdb_pwrite(file, 0, "x", 1), STORM_IO);
    assert_int_equal(sdb_truncate(file, 0), STORM_IO);
    sdb_close(file);
}

static void names_give_the_errors_of_the_real_ones(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file;
    unsigned count = 0;

    assert_int_equal(sdb_mkdir(&f->os, "d"), STORM_OK);
    assert_int_equal(sdb_mkdir(&f->os, "d"), STORM_EXISTS);
    assert_int_equal(sdb_open(&f->os, "x", SDB_OPEN_READ, &file), STORM_NOT_FOUND);
    assert_int_equal(sdb_open(&f->os, "x/y", SDB_OPEN_WRITE, &file), STORM_NOT_FOUND);
    assert_int_equal(sdb_list(&f->os, "x", count_names, &count), STORM_NOT_FOUND);
    assert_int_equal(recorded(f), 0); /* callers ask */
    make_file(f, "d/a", "first", false);
    make_file(f, "d/b", "second", false);
    assert_int_equal(sdb_open(&f->os, "d/a", SDB_OPEN_CREATE, &file), STORM_EXISTS);
    assert_null(file);
    assert_said(f, "open", "d/a", "file exists");
    assert_int_equal(sdb_open(&f->os, "x/y", SDB_OPEN_CREATE, &file), STORM_NOT_FOUND);
    assert_said(f, "open", "x/y", "no such directory");
    assert_int_equal(sdb_open(&f->os, "d", SDB_OPEN_READ, &file), STORM_IO);
    assert_int_equal(sdb_open(&f->os, "d/a/z", SDB_OPEN_READ, &file), STORM_IO);
    assert_int_equal(sdb_mkdir(&f->os, "d/a"), STORM_IO);
    assert_int_equal(sdb_mkdir(&f->os, "x/y"), STORM_NOT_FOUND);
    assert_int_equal(sdb_unlink(&f->os, "d/x"), STORM_NOT_FOUND);
    assert_int_equal(sdb_unlink(&f->os, "d"), STORM_IO);
    assert_int_equal(sdb_rename(&f->os, "d/x", "d/y"), STORM_NOT_FOUND);
    assert_int_equal(sdb_rename(&f->os, "d/a", "d"), STORM_IO);
    assert_int_equal(sdb_link(&f->os, "d/a", "d/b"), STORM_EXISTS);
    assert_int_equal(sdb_link(&f->os, "d", "e"), STORM_DENIED);
    assert_int_equal(sdb_sync_dir(&f->os, "x"), STORM_NOT_FOUND);
    assert_int_equal(sdb_sync_dir(&f->os, "d/a"), STORM_IO);

    assert_int_equal(sdb_link(&f->os, "d/a", "d/c"), STORM_OK);
    assert_int_equal(sdb_rename(&f->os, "d/a", "d/c"), STORM_OK); /* one file: both names stay */
    assert_holds(f, "d/a", "first");
    assert_int_equal(sdb_rename(&f->os, "d/b", "d/a"), STORM_OK);
    assert_holds(f, "d/a", "second");
    assert_holds(f, "d/c", "first");
    assert_false(is_there(f, "d/b"));
    assert_int_equal(sdb_list(&f->os, "d/", count_names, &count), STORM_OK);
    assert_int_equal(count, 2);
    count = 99;
    assert_int_equal(sdb_list(&f->os, "/./d", count_names, &count), STORM_CLOSED);
}

static void a_removed_file_can_be_used_until_it_is_closed(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    char back[4];
    size_t got;

    write_ok(file, 0, "text");
    assert_int_equal(sdb_unlink(&f->os, "a"), STORM_OK);
    assert_int_equal(sdb_pread(file, 0, back, 4, &got), STORM_OK);
    assert_memory_equal(back, "text", 4);
    assert_int_equal(sim_used_bytes(f->disk), PAGE);
    sdb_close(file);
    assert_int_equal(sim_used_bytes(f->disk), 0);
}

static void a_lock_excludes_other_handles_until_closed_or_rebooted(void **state)
{
    struct fixture *f = *state;
    struct sdb_os second_process;
    struct sdb_file *lock;
    struct sdb_file *other;

    sim_os_init(&second_process, f->disk, NULL);
    assert_int_equal(sdb_lock(&f->os, "LOCK", &lock), STORM_OK);
    assert_int_equal(sdb_lock(&f->os, "LOCK", &other), STORM_LOCKED);
    assert_null(other);
    assert_said(f, "lock", "LOCK", "held");
    assert_int_equal(sdb_lock(&second_process, "LOCK", &other), STORM_LOCKED);
    other = open_ok(f, "LOCK", SDB_OPEN_READ);
    sdb_close(other); /* looking at the file does not free it */
    assert_int_equal(sdb_lock(&f->os, "LOCK", &other), STORM_LOCKED);
    sdb_close(lock);
    assert_int_equal(sdb_lock(&second_process, "LOCK", &lock), STORM_OK);
    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_int_equal(sdb_lock(&f->os, "LOCK", &other), STORM_OK);
    sdb_close(lock); /* a dead holder's close does not free the new lock */
    assert_int_equal(sdb_lock(&second_process, "LOCK", &lock), STORM_LOCKED);
    sdb_close(other);
}

/* ---- Power loss: names ----------------------------------------------------------------------- */

static void a_synced_file_without_its_directory_synced_is_gone(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(sdb_mkdir(&f->os, "d"), STORM_OK);
    assert_int_equal(sdb_sync_dir(&f->os, "."), STORM_OK);
    make_file(f, "d/kept", "text", true);
    assert_int_equal(sdb_sync_dir(&f->os, "d"), STORM_OK);
    make_file(f, "d/lost", "text", true);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_holds(f, "d/kept", "text");
    assert_false(is_there(f, "d/lost"));
}

static void a_new_directory_is_lost_with_all_in_it_unless_its_parent_is_synced(void **state)
{
    struct fixture *f = *state;
    unsigned count = 0;

    assert_int_equal(sdb_mkdir(&f->os, "d"), STORM_OK);
    make_file(f, "d/a", "text", true);
    assert_int_equal(sdb_sync_dir(&f->os, "d"), STORM_OK);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_int_equal(sdb_list(&f->os, "d", count_names, &count), STORM_NOT_FOUND);
    assert_int_equal(sim_used_bytes(f->disk), 0);
}

static void a_rename_that_was_not_synced_leaves_the_old_names(void **state)
{
    struct fixture *f = *state;

    make_file(f, "CURRENT", "old", true);
    make_file(f, "tmp", "new", true);
    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    assert_int_equal(sdb_rename(&f->os, "tmp", "CURRENT"), STORM_OK);
    assert_holds(f, "CURRENT", "new");
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_holds(f, "CURRENT", "old");
    assert_holds(f, "tmp", "new");
    assert_int_equal(sdb_rename(&f->os, "tmp", "CURRENT"), STORM_OK);
    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_holds(f, "CURRENT", "new");
    assert_false(is_there(f, "tmp"));
}

static void removals_and_links_need_the_directory_synced_too(void **state)
{
    struct fixture *f = *state;

    make_file(f, "a", "text", true);
    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    assert_int_equal(sdb_link(&f->os, "a", "b"), STORM_OK);
    assert_int_equal(sdb_unlink(&f->os, "a"), STORM_OK);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_holds(f, "a", "text");
    assert_false(is_there(f, "b"));
    assert_int_equal(sdb_link(&f->os, "a", "b"), STORM_OK);
    assert_int_equal(sdb_unlink(&f->os, "a"), STORM_OK);
    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_holds(f, "b", "text");
    assert_false(is_there(f, "a"));
}

/* Over many seeds each of two changes is kept without the other, both and neither; a rename is
 * never half done: the file has one of its names, and not both. */
static void some_names_survive_and_renames_are_whole(void **state)
{
    unsigned outcomes = 0;
    uint64_t seed;

    (void)state;
    for (seed = 0; seed < 100; seed++) {
        struct fixture f;

        fixture_init(&f, seed);
        make_file(&f, "from", "text", true);
        make_file(&f, "old", "text", true);
        assert_int_equal(sdb_sync_dir(&f.os, "/"), STORM_OK);
        assert_int_equal(sdb_rename(&f.os, "from", "to"), STORM_OK);
        assert_int_equal(sdb_unlink(&f.os, "old"), STORM_OK);
        sim_reboot(f.disk, SIM_KEEP_SOME);
        assert_true(is_there(&f, "from") != is_there(&f, "to"));
        outcomes |= 1U << (2 * is_there(&f, "to") + is_there(&f, "old"));
        fixture_fini(&f);
    }
    assert_int_equal(outcomes, 15);
}

/* ---- Power loss: bytes ----------------------------------------------------------------------- */

static void bytes_are_lost_back_to_the_last_sync(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);

    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    write_ok(file, 0, "0123");
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_holds(f, "a", ""); /* the name without the bytes */
    assert_int_equal(sdb_pwrite(file, 0, "x", 1), STORM_IO);
    assert_said(f, "write", "a", "before the power");
    sdb_close(file);

    file = open_ok(f, "a", SDB_OPEN_WRITE);
    write_ok(file, 0, "0123");
    assert_int_equal(sdb_sync(file), STORM_OK);
    write_ok(file, 2, "abcdef");
    assert_holds(f, "a", "01abcdef");
    sim_reboot(f->disk, SIM_LOSE_ALL);
    sdb_close(file);
    assert_holds(f, "a", "0123");
}

static void a_handle_from_before_the_reboot_holds_nothing(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);

    write_ok(file, 0, "text");
    assert_int_equal(sdb_sync(file), STORM_OK);
    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_int_equal(sdb_unlink(&f->os, "a"), STORM_OK);
    assert_int_equal(sim_used_bytes(f->disk), 0);
    sdb_close(file);
    assert_int_equal(sim_used_bytes(f->disk), 0);
}

static void whole_pages_cut_off_come_back_too(void **state)
{
    static const uint8_t zeroes[PAGE];
    static uint8_t back[3 * PAGE];
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    size_t got;

    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    write_ok(file, 2 * PAGE, "0123");
    assert_int_equal(sdb_sync(file), STORM_OK);
    assert_int_equal(sdb_truncate(file, 0), STORM_OK);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    sdb_close(file);
    file = open_ok(f, "a", SDB_OPEN_READ);
    assert_int_equal(sdb_pread(file, 0, back, sizeof(back), &got), STORM_OK);
    assert_int_equal(got, 2 * PAGE + 4);
    assert_memory_equal(back, zeroes, PAGE);
    assert_memory_equal(back + 2 * PAGE, "0123", 4);
    sdb_close(file);
}

/* A kept sector reaches over the end of a file whose growth was lost; a lost cut may keep sectors
 * of what was written behind it. Neither may show bytes behind the end when the file grows. */
static void nothing_is_left_behind_the_end_of_a_file(void **state)
{
    unsigned short_files = 0;
    uint64_t seed;

    (void)state;
    for (seed = 0; seed < 40; seed++) {
        struct fixture f;
        struct sdb_file *file;
        uint64_t size;
        char back[8];
        size_t got;

        fixture_init(&f, seed);
        make_file(&f, "a", "0123", true);
        assert_int_equal(sdb_sync_dir(&f.os, "/"), STORM_OK);
        file = open_ok(&f, "a", SDB_OPEN_WRITE);
        write_ok(file, 4, "4567");
        sim_reboot(f.disk, SIM_KEEP_SOME);
        sdb_close(file);
        file = open_ok(&f, "a", SDB_OPEN_WRITE);
        assert_int_equal(sdb_size(file, &size), STORM_OK);
        if (size == 4) {
            assert_int_equal(sdb_truncate(file, 8), STORM_OK);
            assert_int_equal(sdb_pread(file, 0, back, 8, &got), STORM_OK);
            assert_memory_equal(back, "0123\0\0\0\0", 8);
            short_files++;
        }
        sdb_close(file);
        fixture_fini(&f);
    }
    assert_true(short_files > 0 && short_files < 40);
}

/* Sectors of the file behind a cut that is lost are those of the medium, not zeroes of the cut. */
static void a_lost_cut_leaves_what_was_behind_it(void **state)
{
    static uint8_t old_bytes[4 * PAGE];
    static uint8_t back[4 * PAGE];
    unsigned lost = 0;
    uint64_t seed;

    (void)state;
    memset(old_bytes, 'o', sizeof(old_bytes));
    for (seed = 0; seed < 20; seed++) {
        struct fixture f;
        struct sdb_file *file;
        size_t got;

        fixture_init(&f, seed);
        assert_int_equal(sim_write_file(f.disk, "a", old_bytes, sizeof(old_bytes)), STORM_OK);
        file = open_ok(&f, "a", SDB_OPEN_WRITE);
        assert_int_equal(sdb_truncate(file, PAGE), STORM_OK);
        sim_reboot(f.disk, SIM_KEEP_SOME);
        sdb_close(file);
        file = open_ok(&f, "a", SDB_OPEN_READ);
        assert_int_equal(sdb_pread(file, 0, back, sizeof(back), &got), STORM_OK);
        assert_true(got == PAGE || got == sizeof(back));
        assert_memory_equal(back, old_bytes, got);
        lost += got == sizeof(back);
        sdb_close(file);
        fixture_fini(&f);
    }
    assert_true(lost > 0 && lost < 20);
}

static void a_cut_that_was_not_synced_comes_back(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);

    assert_int_equal(sdb_sync_dir(&f->os, "/"), STORM_OK);
    write_ok(file, 0, "0123");
    assert_int_equal(sdb_sync(file), STORM_OK);
    assert_int_equal(sdb_truncate(file, 1), STORM_OK);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    sdb_close(file);
    assert_holds(f, "a", "0123");
    /* And cut, grown and synced it is zeroes, on the medium as in sight. */
    file = open_ok(f, "a", SDB_OPEN_WRITE);
    assert_int_equal(sdb_truncate(file, 0), STORM_OK);
    assert_int_equal(sdb_truncate(file, 3), STORM_OK);
    assert_int_equal(sdb_sync(file), STORM_OK);
    sim_reboot(f->disk, SIM_LOSE_ALL);
    sdb_close(file);
    file = open_ok(f, "a", SDB_OPEN_READ);
    char back[4] = "xxxx";
    size_t got;
    assert_int_equal(sdb_pread(file, 0, back, 4, &got), STORM_OK);
    assert_int_equal(got, 3);
    assert_memory_equal(back, "\0\0\0x", 4);
    sdb_close(file);
}

static void kill_nine_keeps_all_but_does_not_sync_it(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);

    write_ok(file, 0, "0123");
    sim_reboot(f->disk, SIM_KEEP_ALL);
    assert_int_equal(sdb_sync(file), STORM_IO);
    sdb_close(file);
    assert_holds(f, "a", "0123");
    sim_reboot(f->disk, SIM_LOSE_ALL);
    assert_false(is_there(f, "a"));
}

struct sector_tally {
    unsigned old, new, torn, short_files;
};

/* A file of 64 synced sectors of 'o', all written over with 'n' and 64 more added, after the
 * loss. */
static void tally(uint64_t seed, enum sim_loss loss, struct sector_tally *tally)
{
    enum { OLD_SIZE = 64 * SECTOR, NEW_SIZE = 2 * OLD_SIZE };
    static uint8_t bytes[NEW_SIZE];
    struct fixture f;
    struct sdb_file *file;
    unsigned torn = 0;
    size_t last_new = 0;
    size_t torn_at = 0;
    size_t got;
    size_t i;

    fixture_init(&f, seed);
    file = open_ok(&f, "a", SDB_OPEN_CREATE);
    assert_int_equal(sdb_sync_dir(&f.os, "/"), STORM_OK);
    memset(bytes, 'o', OLD_SIZE);
    assert_int_equal(sdb_pwrite(file, 0, bytes, OLD_SIZE), STORM_OK);
    assert_int_equal(sdb_sync(file), STORM_OK);
    memset(bytes, 'n', NEW_SIZE);
    assert_int_equal(sdb_pwrite(file, 0, bytes, NEW_SIZE), STORM_OK);
    sim_reboot(f.disk, loss);
    sdb_close(file);

    file = open_ok(&f, "a", SDB_OPEN_READ);
    assert_int_equal(sdb_pread(file, 0, bytes, NEW_SIZE, &got), STORM_OK);
    assert_true(got >= OLD_SIZE && got % SECTOR == 0);
    tally->short_files += got > OLD_SIZE && got < NEW_SIZE;
    for (i = 0; i < got; i += SECTOR) {
        const uint8_t *sector = bytes + i;
        uint8_t before = i < OLD_SIZE ? 'o' : 0;
        size_t n = 0;
        size_t k;

        while (n < SECTOR && sector[n] == 'n')
            n++;
        for (k = n; k < SECTOR; k++)
            assert_int_equal(sector[k], before);
        tally->old += n == 0;
        tally->new += n == SECTOR;
        if (n > 0)
            last_new = i;
        if (n > 0 && n < SECTOR) {
            torn++;
            torn_at = i;
        }
    }
    assert_true(torn <= 1);
    if (torn == 1)
        assert_int_equal(torn_at, last_new);
    tally->torn += torn;
    sdb_close(file);
    fixture_fini(&f);
}

static void each_dirty_sector_survives_by_a_coin(void **state)
{
    struct sector_tally sum = {0};
    uint64_t seed;

    (void)state;
    for (seed = 0; seed < 50; seed++)
        tally(seed, SIM_KEEP_SOME, &sum);
    assert_int_equal(sum.torn, 0);
    assert_true(sum.old > sum.new / 2 && sum.new > sum.old / 2);
    assert_true(sum.short_files > 0); /* the size is a coin's as well */
}

static void the_last_kept_sector_is_torn(void **state)
{
    struct sector_tally sum = {0};
    uint64_t seed;

    (void)state;
    for (seed = 0; seed < 50; seed++)
        tally(seed, SIM_KEEP_TORN, &sum);
    assert_int_equal(sum.torn, 50);
}

static void synced_bytes_survive_every_kind_of_loss(void **state)
{
    uint64_t seed;

    (void)state;
    for (seed = 0; seed < 40; seed++) {
        struct fixture f;
        struct sdb_file *file;

        fixture_init(&f, seed);
        file = open_ok(&f, "a", SDB_OPEN_CREATE);
        assert_int_equal(sdb_allocate(file, 100 * PAGE), STORM_OK);
        write_ok(file, 5 * PAGE - 2, "0123");
        assert_int_equal(sdb_truncate(file, 5 * PAGE + 2), STORM_OK);
        assert_int_equal(sdb_sync(file), STORM_OK);
        assert_int_equal(sdb_sync_dir(&f.os, "/"), STORM_OK);
        write_ok(file, 5 * PAGE + 2 * SECTOR, "later");
        sim_reboot(f.disk, (enum sim_loss)(seed % 4));
        sdb_close(file);
        file = open_ok(&f, "a", SDB_OPEN_READ);
        char back[4];
        size_t got;
        assert_int_equal(sdb_pread(file, 5 * PAGE - 2, back, 4, &got), STORM_OK);
        assert_int_equal(got, 4);
        assert_memory_equal(back, "0123", 4);
        sdb_close(file);
        fixture_fini(&f);
    }
}

static void one_seed_gives_one_outcome(void **state)
{
    struct sector_tally first = {0};
    struct sector_tally second = {0};

    (void)state;
    tally(7, SIM_KEEP_TORN, &first);
    tally(7, SIM_KEEP_TORN, &second);
    assert_memory_equal(&first, &second, sizeof(first));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SIM_CASE(files_behave_like_the_real_ones),
        SIM_CASE(names_give_the_errors_of_the_real_ones),
        SIM_CASE(a_removed_file_can_be_used_until_it_is_closed),
        SIM_CASE(a_lock_excludes_other_handles_until_closed_or_rebooted),
        SIM_CASE(a_synced_file_without_its_directory_synced_is_gone),
        SIM_CASE(a_new_directory_is_lost_with_all_in_it_unless_its_parent_is_synced),
        SIM_CASE(a_rename_that_was_not_synced_leaves_the_old_names),
        SIM_CASE(removals_and_links_need_the_directory_synced_too),
        SIM_CASE(some_names_survive_and_renames_are_whole),
        SIM_CASE(bytes_are_lost_back_to_the_last_sync),
        SIM_CASE(a_handle_from_before_the_reboot_holds_nothing),
        SIM_CASE(a_cut_that_was_not_synced_comes_back),
        SIM_CASE(whole_pages_cut_off_come_back_too),
        SIM_CASE(nothing_is_left_behind_the_end_of_a_file),
        SIM_CASE(a_lost_cut_leaves_what_was_behind_it),
        SIM_CASE(kill_nine_keeps_all_but_does_not_sync_it),
        SIM_CASE(each_dirty_sector_survives_by_a_coin),
        SIM_CASE(the_last_kept_sector_is_torn),
        SIM_CASE(synced_bytes_survive_every_kind_of_loss),
        SIM_CASE(one_seed_gives_one_outcome),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
