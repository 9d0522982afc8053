/*
 * The posix os layer where the kernel is at its least obliging: calls that a signal interrupts,
 * that transfer nothing, that fail though the descriptor is good. The functions are the C library's
 * but for the answers that a test asks for (linked with --wrap=pread --wrap=pwrite --wrap=pwritev
 * --wrap=fdatasync --wrap=ftruncate --wrap=fallocate --wrap=fstat --wrap=pthread_create).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "os/os.h"
#include "os/posix.h"
#include "test_dir.h"

enum call { PREAD, PWRITE, PWRITEV, FDATASYNC, FTRUNCATE, FALLOCATE, FSTAT, PTHREAD_CREATE, CALLS };

/* After `skip` good ones, `times` calls answer -1 with `error`, or 0 when that is 0. */
static struct answer {
    unsigned skip, times, seen;
    int error;
} answers[CALLS];

static bool is_answered(enum call call, int *result)
{
    struct answer *answer = &answers[call];
    answer->seen++;
    if (answer->skip > 0) {
        answer->skip--;
        return false;
    }
    if (answer->times == 0)
        return false;
    answer->times--;
    errno = answer->error;
    *result = answer->error == 0 ? 0 : -1;
    return true;
}

static void answer(enum call call, unsigned skip, unsigned times, int error)
{
    answers[call] = (struct answer){.skip = skip, .times = times, .error = error};
}

ssize_t __real_pread(int fd, void *to, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t size, off_t at)
{
    int result;
    return is_answered(PREAD, &result) ? result : __real_pread(fd, to, size, at);
}

ssize_t __real_pwrite(int fd, const void *from, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *from, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *from, size_t size, off_t at)
{
    int result;
    return is_answered(PWRITE, &result) ? result : __real_pwrite(fd, from, size, at);
}

/* Writes all but the last byte, so that the rest goes through pwrite. */
ssize_t __real_pwritev(int fd, const struct iovec *parts, int count, off_t at);
ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int count, off_t at);
ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    int result;
    if (is_answered(PWRITEV, &result))
        return result;
    if (count == 1 && parts[0].iov_len > 1)
        return __real_pwrite(fd, parts[0].iov_base, parts[0].iov_len - 1, at);
    return __real_pwritev(fd, parts, count, at);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    int result;
    return is_answered(FDATASYNC, &result) ? result : __real_fdatasync(fd);
}

int __real_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size);
int __wrap_ftruncate(int fd, off_t size)
{
    int result;
    return is_answered(FTRUNCATE, &result) ? result : __real_ftruncate(fd, size);
}

int __real_fallocate(int fd, int mode, off_t at, off_t size);
int __wrap_fallocate(int fd, int mode, off_t at, off_t size);
int __wrap_fallocate(int fd, int mode, off_t at, off_t size)
{
    int result;
    return is_answered(FALLOCATE, &result) ? result : __real_fallocate(fd, mode, at, size);
}

int __real_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st);
int __wrap_fstat(int fd, struct stat *st)
{
    int result;
    return is_answered(FSTAT, &result) ? result : __real_fstat(fd, st);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg)
{
    int result;
    if (is_answered(PTHREAD_CREATE, &result))
        return errno;
    return __real_pthread_create(thread, attributes, run, arg);
}

/* ---- The tests ------------------------------------------------------------------------------- */

static struct test_dir dir;
static struct sdb_errors errors;
static struct sdb_os os;
static struct sdb_file *file;

static int set_up(void **state)
{
    char path[PATH_MAX + 8];
    (void)state;
    test_dir_init(&dir);
    sdb_errors_init(&errors, NULL, NULL);
    sdb_os_posix_init(&os, &errors);
    snprintf(path, sizeof path, "%s/a", dir.path);
    assert_int_equal(sdb_open(&os, path, SDB_OPEN_CREATE, &file), STORM_OK);
    assert_int_equal(sdb_pwrite(file, 0, "hello", 5), STORM_OK);
    memset(answers, 0, sizeof answers);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    memset(answers, 0, sizeof answers);
    sdb_close(file);
    sdb_errors_fini(&errors);
    test_dir_fini(&dir);
    return 0;
}

static void assert_said(const char *call, const char *reason)
{
    char text[SDB_ERROR_TEXT];
    sdb_errors_newest(&errors, text, sizeof text);
    if (strncmp(text, call, strlen(call)) != 0 || strstr(text, reason) == NULL)
        fail_msg("'%s' does not say %s and %s", text, call, reason);
}

static void assert_holds(const char *text)
{
    char back[32];
    size_t got;
    assert_int_equal(sdb_pread(file, 0, back, sizeof back, &got), STORM_OK);
    assert_int_equal(got, strlen(text));
    assert_memory_equal(back, text, got);
}

static void interrupted_calls_are_made_again(void **state)
{
    (void)state;
    for (unsigned call = PREAD; call <= FALLOCATE; call++)
        answer(call, 0, 3, EINTR);
    assert_int_equal(sdb_pwrite(file, 0, "HELLO", 5), STORM_OK);
    assert_int_equal(sdb_sync(file), STORM_OK);
    assert_int_equal(sdb_truncate(file, 4), STORM_OK);
    assert_int_equal(sdb_allocate(file, 4), STORM_OK);
    assert_holds("HELL");
    for (unsigned call = PREAD; call <= FALLOCATE; call++)
        assert_true(answers[call].seen >= 4);
    uint64_t total;
    uint64_t corruptions;
    sdb_errors_count(&errors, &total, &corruptions);
    assert_int_equal(total, 0);
}

static void a_write_that_writes_nothing_is_no_endless_loop(void **state)
{
    (void)state;
    answer(PWRITEV, 0, 1000, 0);
    assert_int_equal(sdb_pwrite(file, 0, "other", 5), STORM_IO);
    assert_said("pwritev", "/a: Input/output error");
    assert_int_equal(answers[PWRITEV].seen, 1);
    answer(PWRITEV, 0, 0, 0);
    assert_holds("hello");
}

static void a_write_that_fails_half_way_tells_why(void **state)
{
    (void)state;
    answer(PWRITE, 0, 1, EDQUOT);
    assert_int_equal(sdb_pwrite(file, 0, "other", 5), STORM_NO_SPACE);
    assert_said("pwritev", "(the owner's quota is used up)");
    assert_holds("otheo");
}

static void a_size_that_cannot_be_asked_for_is_a_failure(void **state)
{
    uint64_t size = 1;
    (void)state;
    answer(FSTAT, 0, 1, EIO);
    assert_int_equal(sdb_size(file, &size), STORM_IO);
    assert_int_equal(size, 0);
    assert_said("fstat", "/a: Input/output error");
}

static void without_fallocate_zeroes_are_written(void **state)
{
    enum { SIZE = 200 * 1000 }; /* three chunks of zeroes and a part of one */
    static const int reasons[] = {EOPNOTSUPP, ENOSYS};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint64_t size;
        char back[16];
        size_t got;
        assert_int_equal(sdb_truncate(file, 5), STORM_OK);
        answer(FALLOCATE, 0, 1, reasons[i]);
        assert_int_equal(sdb_allocate(file, SIZE), STORM_OK);
        assert_int_equal(sdb_size(file, &size), STORM_OK);
        assert_int_equal(size, SIZE);
        assert_int_equal(sdb_pread(file, 0, back, sizeof back, &got), STORM_OK);
        assert_memory_equal(back, "hello\0\0\0\0\0\0\0\0\0\0\0", 16);
        assert_int_equal(sdb_pread(file, SIZE - 16, back, sizeof back, &got), STORM_OK);
        assert_memory_equal(back, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    }
}

static void zeroes_that_do_not_fit_are_taken_back(void **state)
{
    (void)state;
    answer(FALLOCATE, 0, 1, EOPNOTSUPP);
    answer(PWRITEV, 2, 1, ENOSPC);
    assert_int_equal(sdb_allocate(file, 1 << 20), STORM_NO_SPACE);
    assert_said("pwritev", "No space left");
    assert_holds("hello");
    answer(FALLOCATE, 0, 1, EOPNOTSUPP);
    answer(FSTAT, 0, 1, EIO);
    assert_int_equal(sdb_allocate(file, 1 << 20), STORM_IO);
    assert_holds("hello");
    answer(FALLOCATE, 0, 1, ENOSPC);
    assert_int_equal(sdb_allocate(file, 1 << 20), STORM_NO_SPACE);
    assert_said("fallocate", "No space left");
}

static void a_limit_comes_with_the_way_to_raise_it(void **state)
{
    static const struct {
        int error;
        storm_status status;
        const char *hint;
    } limits[] = {
        {ENFILE, STORM_IO, "sysctl fs.file-max"},
        {EMFILE, STORM_IO, "ulimit -n"},
        {EDQUOT, STORM_NO_SPACE, "quota"},
        {EFBIG, STORM_IO, "ulimit -f"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        assert_int_equal(sdb_posix_fail(&os, "open", "/x", limits[i].error), limits[i].status);
        assert_said("open /x", limits[i].hint);
    }
}

static void *do_nothing(void *arg)
{
    return arg;
}

static void a_thread_that_cannot_be_started_is_a_failure(void **state)
{
    pthread_t thread;
    (void)state;
    answer(PTHREAD_CREATE, 0, 1, EAGAIN);
    assert_int_equal(
        sdb_thread_start(&os, "a-name-that-is-longer-than-15", do_nothing, NULL, &thread),
        STORM_IO);
    assert_said("pthread_create a-name-that-is-", "temporarily unavailable");
    assert_int_equal(sdb_thread_start(&os, "next", do_nothing, NULL, &thread), STORM_OK);
    pthread_join(thread, NULL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(interrupted_calls_are_made_again),
        CASE(a_write_that_writes_nothing_is_no_endless_loop),
        CASE(a_write_that_fails_half_way_tells_why),
        CASE(a_size_that_cannot_be_asked_for_is_a_failure),
        CASE(without_fallocate_zeroes_are_written),
        CASE(zeroes_that_do_not_fit_are_taken_back),
        CASE(a_limit_comes_with_the_way_to_raise_it),
        CASE(a_thread_that_cannot_be_started_is_a_failure),
    };
    return cmocka_run_group_tests_name("os paths", tests, NULL, NULL);
}
