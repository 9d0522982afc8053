/*
 * A simulated disk with an os on it, as a cmocka fixture, and the few steps that tests of the disk
 * repeat. Failures end the test.
 */
#ifndef TEST_SIM_FIXTURE_H
#define TEST_SIM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "os/sim.h"

struct fixture {
    struct sim_disk *disk;
    struct sdb_errors errors;
    struct sdb_os os;
};

static inline void fixture_init(struct fixture *f, uint64_t seed)
{
    f->disk = sim_disk_create(seed);
    sdb_errors_init(&f->errors, NULL, NULL);
    sim_os_init(&f->os, f->disk, &f->errors);
}

static inline void fixture_fini(struct fixture *f)
{
    sdb_errors_fini(&f->errors);
    sim_disk_destroy(f->disk);
}

static inline int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    fixture_init(f, 1);
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    fixture_fini(*state);
    free(*state);
    return 0;
}

static inline struct sdb_file *open_ok(struct fixture *f, const char *path, enum sdb_open_mode mode)
{
    struct sdb_file *file;

    assert_int_equal(sdb_open(&f->os, path, mode, &file), STORM_OK);
    assert_non_null(file);
    return file;
}

static inline bool is_there(struct fixture *f, const char *path)
{
    uint64_t size;

    return sim_file_size(f->disk, path, &size) == STORM_OK;
}

static inline void write_ok(struct sdb_file *file, uint64_t offset, const char *text)
{
    assert_int_equal(sdb_pwrite(file, offset, text, strlen(text)), STORM_OK);
}

/* A new file in a directory that is synced or not, its bytes synced or not. */
static inline void make_file(struct fixture *f, const char *path, const char *text, bool is_synced)
{
    struct sdb_file *file = open_ok(f, path, SDB_OPEN_CREATE);

    write_ok(file, 0, text);
    if (is_synced)
        assert_int_equal(sdb_sync(file), STORM_OK);
    sdb_close(file);
}

static inline void assert_holds(struct fixture *f, const char *path, const char *text)
{
    char back[128];
    size_t got;
    struct sdb_file *file = open_ok(f, path, SDB_OPEN_READ);

    assert_int_equal(sdb_pread(file, 0, back, sizeof(back), &got), STORM_OK);
    assert_int_equal(got, strlen(text));
    assert_memory_equal(back, text, got);
    sdb_close(file);
}

static inline void assert_said(struct fixture *f, const char *call, const char *path,
                               const char *reason)
{
    char text[SDB_ERROR_TEXT];

    sdb_errors_newest(&f->errors, text, sizeof(text));
    if (strstr(text, call) != text || strstr(text, path) == NULL || strstr(text, reason) == NULL)
        fail_msg("'%s' does not say %s, %s, %s", text, call, path, reason);
}

static inline uint64_t recorded(struct fixture *f)
{
    uint64_t total;
    uint64_t corruptions;

    sdb_errors_count(&f->errors, &total, &corruptions);
    return total;
}

/* For list: counts, and stops at 100. */
static inline storm_status count_names(void *ctx, const char *name)
{
    unsigned *count = ctx;

    (void)name;
    ++*count;
    return *count == 100 ? STORM_CLOSED : STORM_OK;
}

/* cmocka's set-up and tear-down around one test. */
#define SIM_CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
