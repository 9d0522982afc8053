/* The disk in memory: what it keeps, what it forgets, and how it fails when told to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/sim.h"

enum { SECTOR = 512, PAGE = 4096 };

struct fixture {
    struct sim_disk *disk;
    struct sdb_errors errors;
    struct sdb_os os;
};

static void fixture_init(struct fixture *f, uint64_t seed)
{
    f->disk = sim_disk_create(seed);
    sdb_errors_init(&f->errors, NULL, NULL);
    sim_os_init(&f->os, f->disk, &f->errors);
}

static void fixture_fini(struct fixture *f)
{
    sdb_errors_fini(&f->errors);
    sim_disk_destroy(f->disk);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    fixture_init(f, 1);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture_fini(*state);
    free(*state);
    return 0;
}

static struct sdb_file *open_ok(struct fixture *f, const char *path, enum sdb_open_mode mode)
{
    struct sdb_file *file;

    assert_int_equal(sdb_open(&f->os, path, mode, &file), STORM_OK);
    assert_non_null(file);
    return file;
}

static bool is_there(struct fixture *f, const char *path)
{
    uint64_t size;

    return sim_file_size(f->disk, path, &size) == STORM_OK;
}

static void write_ok(struct sdb_file *file, uint64_t offset, const char *text)
{
    assert_int_equal(sdb_pwrite(file, offset, text, strlen(text)), STORM_OK);
}

/* A new file in a directory that is synced or not, its bytes synced or not. */
static void make_file(struct fixture *f, const char *path, const char *text, bool is_synced)
{
    struct sdb_file *file = open_ok(f, path, SDB_OPEN_CREATE);

    write_ok(file, 0, text);
    if (is_synced)
        assert_int_equal(sdb_sync(file), STORM_OK);
    sdb_close(file);
}

static void assert_holds(struct fixture *f, const char *path, const char *text)
{
    char back[128];
    size_t got;
    struct sdb_file *file = open_ok(f, path, SDB_OPEN_READ);

    assert_int_equal(sdb_pread(file, 0, back, sizeof(back), &got), STORM_OK);
    assert_int_equal(got, strlen(text));
    assert_memory_equal(back, text, got);
    sdb_close(file);
}

static void assert_said(struct fixture *f, const char *call, const char *path, const char *reason)
{
    char text[SDB_ERROR_TEXT];

    sdb_errors_newest(&f->errors, text, sizeof(text));
    if (strstr(text, call) != text || strstr(text, path) == NULL || strstr(text, reason) == NULL)
        fail_msg("'%s' does not say %s, %s, %s", text, call, path, reason);
}

static uint64_t recorded(struct fixture *f)
{
    uint64_t total;
    uint64_t corruptions;

    sdb_errors_count(&f->errors, &total, &corruptions);
    return total;
}

static void plan(struct fixture *f, enum sim_call call, uint64_t nth, storm_status status)
{
    sim_plan_set(f->disk, (struct sim_plan){.call = call, .nth = nth, .status = status});
}

/* ---- As the process sees it ------------------------------------------------------------------- */

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
    assert_int_equal(sdb_map(file, PAGE, false, &address), STORM_UNSUPPORTED);
    assert_null(address);
    assert_int_equal(sdb_pwrite(file, UINT64_MAX - 1, "abc", 3), STORM_IO);
    sdb_close(file);
    file = open_ok(f, "a", SDB_OPEN_READ); /* a leading slash means nothing */
    assert_int_equal(sdb_pwrite(file, 0, "x", 1), STORM_IO);
    assert_int_equal(sdb_truncate(file, 0), STORM_IO);
    sdb_close(file);
}

static storm_status count_names(void *ctx, const char *name)
{
    unsigned *count = ctx;

    (void)name;
    ++*count;
    return *count == 100 ? STORM_CLOSED : STORM_OK;
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

/* ---- Power loss: names ------------------------------------------------------------------------ */

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

/* ---- Power loss: bytes ------------------------------------------------------------------------ */

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

/* A file of 64 synced sectors of 'o', all written over with 'n' and 64 more added, after the loss. */
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

/* ---- Plans and cuts --------------------------------------------------------------------------- */

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

/* The trap of a failed fsync: the bytes are gone, the file's size is not, and the next sync says OK. */
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
    /* link before rename before unlink: each leaves what the next needs */
    static const enum sim_call order[] = {
        SIM_ANY,   SIM_CHANGES,  SIM_OPEN,     SIM_READ, SIM_WRITE,  SIM_SYNC,
        SIM_SIZE,  SIM_ALLOCATE, SIM_TRUNCATE, SIM_LINK, SIM_RENAME, SIM_UNLINK,
        SIM_MKDIR, SIM_SYNC_DIR, SIM_LIST,     SIM_LOCK, SIM_THREAD};
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

/* ---- Space ------------------------------------------------------------------------------------ */

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

/* ---- Damage, clocks, threads ------------------------------------------------------------------ */

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

static void one_seed_gives_one_outcome(void **state)
{
    struct sector_tally first = {0};
    struct sector_tally second = {0};

    (void)state;
    tally(7, SIM_KEEP_TORN, &first);
    tally(7, SIM_KEEP_TORN, &second);
    assert_memory_equal(&first, &second, sizeof(first));
}

/* ---- Threads, and sweeps at the size they will have ------------------------------------------- */

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

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(files_behave_like_the_real_ones),
        CASE(names_give_the_errors_of_the_real_ones),
        CASE(a_removed_file_can_be_used_until_it_is_closed),
        CASE(a_lock_excludes_other_handles_until_closed_or_rebooted),
        CASE(a_synced_file_without_its_directory_synced_is_gone),
        CASE(a_new_directory_is_lost_with_all_in_it_unless_its_parent_is_synced),
        CASE(a_rename_that_was_not_synced_leaves_the_old_names),
        CASE(removals_and_links_need_the_directory_synced_too),
        CASE(some_names_survive_and_renames_are_whole),
        CASE(bytes_are_lost_back_to_the_last_sync),
        CASE(a_handle_from_before_the_reboot_holds_nothing),
        CASE(a_cut_that_was_not_synced_comes_back),
        CASE(whole_pages_cut_off_come_back_too),
        CASE(nothing_is_left_behind_the_end_of_a_file),
        CASE(a_lost_cut_leaves_what_was_behind_it),
        CASE(kill_nine_keeps_all_but_does_not_sync_it),
        CASE(each_dirty_sector_survives_by_a_coin),
        CASE(the_last_kept_sector_is_torn),
        CASE(synced_bytes_survive_every_kind_of_loss),
        CASE(a_plan_fails_the_nth_call_of_its_kind_once),
        CASE(a_plan_for_ever_ends_with_the_plan),
        CASE(a_half_done_write_stores_a_part),
        CASE(a_failing_sync_loses_the_dirty_bytes),
        CASE(every_kind_of_call_can_be_planned_and_is_counted),
        CASE(a_cut_stops_everything_until_the_reboot),
        CASE(a_reboot_clears_the_plan_and_the_cut),
        CASE(the_capacity_ends_in_no_space_and_cutting_helps),
        CASE(what_is_reserved_cannot_meet_a_full_disk),
        CASE(damage_is_in_both_states),
        CASE(damage_outlives_pending_changes),
        CASE(a_flip_leaves_unsynced_bytes_unsynced),
        CASE(clocks_move_as_told_and_with_the_calls),
        CASE(one_seed_gives_one_outcome),
        CASE(threads_work_at_once_while_the_power_goes),
        CASE(a_large_reservation_costs_nothing_until_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
