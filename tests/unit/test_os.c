/* The real os layer, on a directory of its own: every call, and what it says when it fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "alloc_fail.h"
#include "os/os.h"
#include "test_dir.h"

/* One directory and one os; set up afresh for every test. */
struct fixture {
    struct test_dir dir;
    struct sdb_errors errors;
    struct sdb_os os;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    test_dir_init(&f->dir);
    sdb_errors_init(&f->errors, NULL, NULL);
    sdb_os_posix_init(&f->os, &f->errors);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    sdb_errors_fini(&f->errors);
    test_dir_fini(&f->dir);
    free(f);
    return 0;
}

/* "DIR/name"; valid for four more calls. */
static const char *at(struct fixture *f, const char *name)
{
    static char paths[4][PATH_MAX + 64];
    static unsigned next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", f->dir.path, name);
    return path;
}

static struct sdb_file *open_ok(struct fixture *f, const char *name, enum sdb_open_mode mode)
{
    struct sdb_file *file;

    assert_int_equal(sdb_open(&f->os, at(f, name), mode, &file), STORM_OK);
    assert_non_null(file);
    return file;
}

static void make_file(struct fixture *f, const char *name, const char *text)
{
    struct sdb_file *file = open_ok(f, name, SDB_OPEN_CREATE);

    assert_int_equal(sdb_pwrite(file, 0, text, strlen(text)), STORM_OK);
    sdb_close(file);
}

static void assert_holds(struct fixture *f, const char *name, const char *text)
{
    char got_text[64];
    size_t got;
    struct sdb_file *file = open_ok(f, name, SDB_OPEN_READ);

    assert_int_equal(sdb_pread(file, 0, got_text, sizeof(got_text), &got), STORM_OK);
    assert_int_equal(got, strlen(text));
    assert_memory_equal(got_text, text, got);
    sdb_close(file);
}

static uint64_t recorded(struct fixture *f)
{
    uint64_t total;
    uint64_t corruptions;

    sdb_errors_count(&f->errors, &total, &corruptions);
    return total;
}

/* The newest sentence names the call, the path and the reason. */
static void assert_said(struct fixture *f, const char *call, const char *path, const char *reason)
{
    char text[SDB_ERROR_TEXT];

    sdb_errors_newest(&f->errors, text, sizeof(text));
    if (strstr(text, call) != text || strstr(text, path) == NULL || strstr(text, reason) == NULL)
        fail_msg("'%s' does not say %s, %s, %s", text, call, path, reason);
}

/* ---- Files ----------------------------------------------------------------------------------- */

static void a_new_file_is_there_once_and_for_its_owner_only(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    struct stat st;

    sdb_close(file);
    assert_int_equal(stat(at(f, "a"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(sdb_open(&f->os, at(f, "a"), SDB_OPEN_CREATE, &file), STORM_EXISTS);
    assert_null(file);
    assert_said(f, "open", at(f, "a"), "File exists");
    sdb_close(NULL);
}

static void a_missing_file_is_not_found_and_not_recorded(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = (struct sdb_file *)f;

    assert_int_equal(sdb_open(&f->os, at(f, "a"), SDB_OPEN_READ, &file), STORM_NOT_FOUND);
    assert_null(file);
    assert_int_equal(sdb_open(&f->os, at(f, "a"), SDB_OPEN_WRITE, &file), STORM_NOT_FOUND);
    assert_null(file);
    assert_int_equal(recorded(f), 0);
    /* A new file in a missing directory is a failure of its caller, and told. */
    assert_int_equal(sdb_open(&f->os, at(f, "d/a"), SDB_OPEN_CREATE, &file), STORM_NOT_FOUND);
    assert_said(f, "open", at(f, "d/a"), "No such file or directory");
}

static void descriptors_do_not_pass_through_exec(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    struct sdb_file *lock;
    int fd;

    assert_int_equal(sdb_lock(&f->os, at(f, "LOCK"), &lock), STORM_OK);
    for (fd = 3; fd < 64; fd++) {
        char link[64];
        char target[PATH_MAX];
        ssize_t n;

        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, target, sizeof(target) - 1);
        if (n > 0 && strncmp(target, f->dir.path, strlen(f->dir.path)) == 0)
            assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    }
    sdb_close(lock);
    sdb_close(file);
}

static void written_bytes_are_read_back_and_the_end_is_short(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    struct iovec parts[4] = {{"one ", 4}, {NULL, 0}, {"two ", 4}, {"three", 5}};
    char text[32];
    uint64_t size;
    size_t got;

    assert_int_equal(sdb_pwritev(file, 3, parts, 4), STORM_OK);
    assert_int_equal(sdb_pwritev(file, 0, parts, 0), STORM_OK);
    sdb_start_writeback(file, 0, 0);
    sdb_start_writeback(file, 0, 4096);
    sdb_start_read(file, 0, 4096);
    assert_int_equal(sdb_sync(file), STORM_OK);
    assert_int_equal(sdb_size(file, &size), STORM_OK);
    assert_int_equal(size, 16);
    assert_int_equal(sdb_pread(file, 0, text, 5, &got), STORM_OK);
    assert_int_equal(got, 5);
    assert_memory_equal(text, "\0\0\0on", 5);
    assert_int_equal(sdb_pread(file, 7, text, sizeof(text), &got), STORM_OK);
    assert_int_equal(got, 9);
    assert_memory_equal(text, "two three", 9);
    assert_int_equal(sdb_pread(file, 16, text, sizeof(text), &got), STORM_OK);
    assert_int_equal(got, 0);
    sdb_close(file);

    file = open_ok(f, "a", SDB_OPEN_WRITE);
    assert_int_equal(sdb_pwrite(file, 0, "NOW", 3), STORM_OK);
    sdb_close(file);
    assert_holds(f, "a", "NOWone two three");
}

static void more_parts_than_the_kernel_takes_at_once_are_written(void **state)
{
    enum { COUNT = 2 * IOV_MAX + 7, SIZE = 3 };
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    struct iovec *parts = calloc(COUNT, sizeof(*parts));
    char *bytes = malloc((size_t)COUNT * SIZE);
    char *back = malloc((size_t)COUNT * SIZE + 1);
    size_t got;
    int i;

    assert_true(parts != NULL && bytes != NULL && back != NULL);
    for (i = 0; i < COUNT * SIZE; i++)
        bytes[i] = (char)(i * 7);
    for (i = 0; i < COUNT; i++)
        parts[i] = (struct iovec){bytes + (size_t)i * SIZE, SIZE};
    assert_int_equal(sdb_pwritev(file, 0, parts, COUNT), STORM_OK);
    assert_int_equal(sdb_pread(file, 0, back, (size_t)COUNT * SIZE + 1, &got), STORM_OK);
    assert_int_equal(got, COUNT * SIZE);
    assert_memory_equal(back, bytes, got);
    free(parts);
    free(bytes);
    free(back);
    sdb_close(file);
}

/* With a limit on the file's size the kernel stores what fits and says so; the next call fails.
 * Without the loop over short writes this would pass for success. */
static void a_short_write_goes_on_and_its_failure_is_told(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    struct iovec parts[2] = {{"0123456789", 10}, {"abcdefghij", 10}};
    struct rlimit before;
    struct rlimit small;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    storm_status status;
    uint64_t size;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 14;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    status = sdb_pwritev(file, 0, parts, 2);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(status, STORM_IO);
    assert_said(f, "pwritev", at(f, "a"), "File too large (");
    assert_int_equal(sdb_size(file, &size), STORM_OK);
    assert_int_equal(size, 14);
    sdb_close(file);
    assert_holds(f, "a", "0123456789abcd");
}

static void a_full_disk_is_no_space(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file;

    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_int_equal(sdb_open(&f->os, "/dev/full", SDB_OPEN_WRITE, &file), STORM_OK);
    assert_int_equal(sdb_pwrite(file, 0, "x", 1), STORM_NO_SPACE);
    assert_said(f, "pwritev", "/dev/full", "No space left on device");
    sdb_close(file);
}

static void every_call_on_a_file_tells_its_failure(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file;
    char byte;
    size_t got = 9;
    void *address = &byte;

    make_file(f, "a", "text");
    file = open_ok(f, "a", SDB_OPEN_READ);
    assert_int_equal(sdb_pwrite(file, 0, "x", 1), STORM_IO);
    assert_said(f, "pwritev", at(f, "a"), "Bad file descriptor");
    assert_true(sdb_truncate(file, 1) != STORM_OK);
    assert_said(f, "ftruncate", at(f, "a"), "");
    assert_int_equal(sdb_allocate(file, 4096), STORM_IO);
    assert_said(f, "fallocate", at(f, "a"), "Bad file descriptor");
    assert_int_equal(sdb_pread(file, UINT64_MAX, &byte, 1, &got), STORM_IO);
    assert_said(f, "pread", at(f, "a"), "Invalid argument");
    assert_int_equal(got, 0);
    assert_int_equal(sdb_map(file, 0, false, &address), STORM_IO);
    assert_said(f, "mmap", at(f, "a"), "Invalid argument");
    assert_null(address);
    assert_int_equal(sdb_map(file, 4, true, &address), STORM_DENIED);
    assert_said(f, "mmap", at(f, "a"), "Permission denied");
    sdb_close(file);
    assert_holds(f, "a", "text");

    /* fdatasync has nothing to sync a character device to. */
    assert_int_equal(sdb_open(&f->os, "/dev/null", SDB_OPEN_WRITE, &file), STORM_OK);
    assert_int_equal(sdb_sync(file), STORM_IO);
    assert_said(f, "fdatasync", "/dev/null", "Invalid argument");
    assert_int_equal(sdb_map(file, 4096, false, &address), STORM_UNSUPPORTED);
    sdb_close(file);
}

static void allocated_bytes_are_zero_and_there(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file = open_ok(f, "a", SDB_OPEN_CREATE);
    struct stat st;
    char back[8];
    uint64_t size;
    size_t got;

    assert_int_equal(sdb_pwrite(file, 0, "abc", 3), STORM_OK);
    assert_int_equal(sdb_allocate(file, 0), STORM_OK);
    assert_int_equal(sdb_allocate(file, 1 << 20), STORM_OK);
    assert_int_equal(sdb_size(file, &size), STORM_OK);
    assert_int_equal(size, 1 << 20);
    assert_int_equal(stat(at(f, "a"), &st), 0);
    assert_true(st.st_blocks * 512 >= 1 << 20); /* reserved, not a hole */
    assert_int_equal(sdb_pread(file, 0, back, sizeof(back), &got), STORM_OK);
    assert_memory_equal(back, "abc\0\0\0\0\0", 8);
    /* Less than there is changes nothing. */
    assert_int_equal(sdb_allocate(file, 4096), STORM_OK);
    assert_int_equal(sdb_size(file, &size), STORM_OK);
    assert_int_equal(size, 1 << 20);
    assert_int_equal(sdb_truncate(file, 2), STORM_OK);
    assert_int_equal(sdb_size(file, &size), STORM_OK);
    assert_int_equal(size, 2);
    sdb_close(file);
    assert_holds(f, "a", "ab");
}

/* From here on this process lives on a file system without fallocate(2). */
static bool forbid_fallocate(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* In a child that cannot fallocate: 0, or the number of the step that went wrong; 77 = no
 * seccomp. */
static int allocate_without_fallocate(struct sdb_os *os, const char *path)
{
    enum { SIZE = 300 * 1000 }; /* not a multiple of the chunk of zeroes */
    struct rlimit limit = {400 * 1000, RLIM_INFINITY};
    struct sdb_file *file;
    struct stat st;
    char back[8];
    size_t got;

    if (!forbid_fallocate())
        return 77;
    if (sdb_open(os, path, SDB_OPEN_CREATE, &file) != STORM_OK ||
        sdb_pwrite(file, 0, "abc", 3) != STORM_OK)
        return 1;
    if (sdb_allocate(file, SIZE) != STORM_OK || stat(path, &st) != 0)
        return 2;
    if (st.st_size != SIZE || st.st_blocks * 512 < SIZE)
        return 3;
    if (sdb_pread(file, 0, back, sizeof(back), &got) != STORM_OK ||
        memcmp(back, "abc\0\0\0\0\0", 8) != 0)
        return 4;
    /* What cannot be reserved in full is given back. */
    (void)signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || sdb_allocate(file, 1 << 20) != STORM_IO)
        return 5;
    if (stat(path, &st) != 0 || st.st_size != SIZE)
        return 6;
    sdb_close(file);
    return 0;
}

static void without_fallocate_the_reservation_is_written_out(void **state)
{
    struct fixture *f = *state;
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0)
        _exit(allocate_without_fallocate(&f->os, at(f, "a")));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_mapping_shows_and_stores_the_file(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file;
    void *address;

    make_file(f, "a", "0123");
    file = open_ok(f, "a", SDB_OPEN_READ);
    assert_int_equal(sdb_map(file, 4, false, &address), STORM_OK);
    assert_memory_equal(address, "0123", 4);
    sdb_unmap(file, address, 4);
    sdb_close(file);
    file = open_ok(f, "a", SDB_OPEN_WRITE);
    assert_int_equal(sdb_map(file, 4, true, &address), STORM_OK);
    ((char *)address)[1] = 'x';
    sdb_unmap(file, address, 4);
    sdb_close(file);
    assert_holds(f, "a", "0x23");
}

static void stores_are_seen_like_writes(void **state)
{
    enum { SIZE = 3 << 20, BIG = 2 << 20 };
    struct fixture *f = *state;
    struct sdb_file *file = NULL;
    char *big = malloc(BIG);
    char *back = malloc(BIG);
    struct iovec parts[3] = {{"one ", 4}, {NULL, 0}, {"two", 3}};
    struct iovec bigs[1] = {{big, BIG}};
    storm_status status;
    size_t got;

    assert_true(big != NULL && back != NULL);
    memset(big, 'b', BIG);
    assert_int_equal(sdb_open(&f->os, at(f, "a"), SDB_OPEN_CREATE, &file), STORM_OK);
    assert_int_equal(sdb_store(file, 0, parts, 3), STORM_UNSUPPORTED); /* there is no page */
    assert_int_equal(sdb_allocate(file, SIZE), STORM_OK);
    status = sdb_store(file, 4090, parts, 3);
    if (status == STORM_UNSUPPORTED) { /* this file system or kernel has no safe mapping */
        free(big);
        free(back);
        sdb_close(file);
        skip();
    }
    assert_int_equal(status, STORM_OK);
    assert_int_equal(sdb_pread(file, 4089, back, 9, &got), STORM_OK);
    assert_memory_equal(back, "\0one two\0", 9);
    assert_int_equal(sdb_pwrite(file, 4094, "2 ", 2), STORM_OK); /* and writes by stores */
    assert_int_equal(sdb_store(file, 4096, &parts[2], 1), STORM_OK);
    assert_int_equal(sdb_pread(file, 4090, back, 9, &got), STORM_OK);
    assert_memory_equal(back, "one 2 two", 9);
    assert_int_equal(sdb_store(file, 700000, bigs, 1), STORM_OK); /* larger than a window */
    assert_int_equal(sdb_store(file, SIZE - 4, parts, 1), STORM_OK);
    assert_int_equal(sdb_store(file, SIZE - 3, parts, 1), STORM_UNSUPPORTED);
    assert_int_equal(sdb_store(file, 10, parts, 1), STORM_OK); /* backwards too */
    assert_int_equal(sdb_sync(file), STORM_OK);
    sdb_close(file);
    file = open_ok(f, "a", SDB_OPEN_READ);
    assert_int_equal(sdb_pread(file, 700000, back, BIG, &got), STORM_OK);
    assert_memory_equal(back, big, BIG);
    assert_int_equal(sdb_pread(file, SIZE - 4, back, 9, &got), STORM_OK);
    assert_int_equal(got, 4);
    assert_memory_equal(back, "one ", 4);
    assert_int_equal(sdb_store(file, 0, parts, 1), STORM_UNSUPPORTED); /* opened for reading */
    sdb_close(file);
    free(big);
    free(back);
}

static void no_memory_for_a_handle_leaks_nothing(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file;
    const char *path = at(f, "LOCK");
    int fd_before = dup(0);
    int fd_after;

    close(fd_before);
    make_file(f, "a", "");
    alloc_fail_at(1, true);
    assert_int_equal(sdb_open(&f->os, at(f, "a"), SDB_OPEN_READ, &file), STORM_NO_MEMORY);
    assert_null(file);
    assert_int_equal(sdb_lock(&f->os, path, &file), STORM_NO_MEMORY);
    assert_null(file);
    alloc_fail_at(0, false);
    fd_after = dup(0);
    close(fd_after);
    assert_int_equal(fd_before, fd_after);
    /* The lock went with its descriptor. */
    assert_int_equal(sdb_lock(&f->os, path, &file), STORM_OK);
    sdb_close(file);
}

static void out_of_descriptors_comes_with_advice(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file;
    struct rlimit before;
    struct rlimit small;
    storm_status status;

    make_file(f, "a", "");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    small = before;
    small.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
    status = sdb_open(&f->os, at(f, "a"), SDB_OPEN_READ, &file);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(status, STORM_IO);
    assert_said(f, "open", at(f, "a"), "Too many open files (raise");
}

/* ---- Names ----------------------------------------------------------------------------------- */

static void directories_go_when_they_are_empty(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(sdb_mkdir(&f->os, at(f, "d")), STORM_OK);
    make_file(f, "d/a", "x");
    assert_int_equal(sdb_rmdir(&f->os, at(f, "d")), STORM_IO);
    assert_said(f, "rmdir", at(f, "d"), "not empty");
    assert_int_equal(sdb_unlink(&f->os, at(f, "d/a")), STORM_OK);
    assert_int_equal(sdb_rmdir(&f->os, at(f, "d")), STORM_OK);
    assert_int_equal(sdb_rmdir(&f->os, at(f, "d")), STORM_NOT_FOUND);
}

static void names_move_link_and_go(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file;

    make_file(f, "a", "first");
    make_file(f, "b", "second");
    assert_int_equal(sdb_link(&f->os, at(f, "a"), at(f, "c")), STORM_OK);
    assert_int_equal(sdb_rename(&f->os, at(f, "b"), at(f, "a")), STORM_OK);
    assert_int_equal(sdb_sync_dir(&f->os, f->dir.path), STORM_OK);
    assert_holds(f, "a", "second");
    assert_holds(f, "c", "first");
    assert_int_equal(sdb_open(&f->os, at(f, "b"), SDB_OPEN_READ, &file), STORM_NOT_FOUND);
    assert_int_equal(sdb_unlink(&f->os, at(f, "a")), STORM_OK);
    assert_int_equal(sdb_open(&f->os, at(f, "a"), SDB_OPEN_READ, &file), STORM_NOT_FOUND);
    assert_int_equal(recorded(f), 0);
}

static void every_call_on_a_name_tells_its_failure(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file;
    uint64_t bytes = 9;

    make_file(f, "a", "");
    make_file(f, "b", "");
    assert_int_equal(sdb_rename(&f->os, at(f, "x"), at(f, "y")), STORM_NOT_FOUND);
    assert_said(f, "rename", at(f, "x"), "No such file or directory");
    assert_said(f, "rename", at(f, "y"), "No such file or directory");
    /* Asking is no failure. */
    uint64_t failures = recorded(f);
    assert_int_equal(sdb_unlink(&f->os, at(f, "x")), STORM_NOT_FOUND);
    assert_int_equal(recorded(f), failures);
    assert_int_equal(sdb_link(&f->os, at(f, "a"), at(f, "b")), STORM_EXISTS);
    assert_said(f, "link", at(f, "b"), "File exists");
    assert_int_equal(sdb_mkdir(&f->os, at(f, "x/y")), STORM_NOT_FOUND);
    assert_said(f, "mkdir", at(f, "x/y"), "No such file or directory");
    assert_int_equal(sdb_sync_dir(&f->os, at(f, "x")), STORM_NOT_FOUND);
    assert_said(f, "open", at(f, "x"), "No such file or directory");
    assert_int_equal(sdb_sync_dir(&f->os, at(f, "a")), STORM_IO);
    assert_said(f, "open", at(f, "a"), "Not a directory");
    assert_int_equal(sdb_open(&f->os, at(f, "a/b"), SDB_OPEN_READ, &file), STORM_IO);
    assert_said(f, "open", at(f, "a/b"), "Not a directory");
    assert_int_equal(sdb_free_bytes(&f->os, at(f, "x"), &bytes), STORM_NOT_FOUND);
    assert_said(f, "statvfs", at(f, "x"), "No such file or directory");
    assert_int_equal(bytes, 0);
    assert_int_equal(sdb_lock(&f->os, at(f, "x/LOCK"), &file), STORM_NOT_FOUND);
    assert_said(f, "open", at(f, "x/LOCK"), "No such file or directory");
}

static void what_permissions_forbid_is_denied(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *file;

    /* unlink(2) of a directory is EISDIR or EPERM by system; link(2) of one is EPERM even for
     * root. */
    assert_int_equal(sdb_link(&f->os, f->dir.path, at(f, "x")), STORM_DENIED);
    assert_said(f, "link", f->dir.path, "Operation not permitted");
    if (geteuid() == 0)
        return;
    make_file(f, "a", "");
    assert_int_equal(chmod(at(f, "a"), 0), 0);
    assert_int_equal(sdb_open(&f->os, at(f, "a"), SDB_OPEN_READ, &file), STORM_DENIED);
    assert_said(f, "open", at(f, "a"), "Permission denied");
}

static void mkdir_tells_a_directory_from_a_file_in_its_place(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    assert_int_equal(sdb_mkdir(&f->os, at(f, "d")), STORM_OK);
    assert_int_equal(stat(at(f, "d"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_int_equal(sdb_mkdir(&f->os, at(f, "d")), STORM_EXISTS);
    assert_int_equal(symlink("d", at(f, "l")), 0);
    assert_int_equal(sdb_mkdir(&f->os, at(f, "l")), STORM_EXISTS);
    assert_int_equal(recorded(f), 0);
    make_file(f, "a", "");
    assert_int_equal(sdb_mkdir(&f->os, at(f, "a")), STORM_IO);
    assert_said(f, "mkdir", at(f, "a"), "not a directory");
}

struct names {
    unsigned count;
    unsigned mask; /* bit n: the name 'a' + n was there */
    unsigned stop_after;
};

static storm_status take_name(void *ctx, const char *name)
{
    struct names *names = ctx;

    assert_int_equal(strlen(name), 1);
    names->count++;
    names->mask |= 1U << (name[0] - 'a');
    return names->count == names->stop_after ? STORM_CLOSED : STORM_OK;
}

static void list_gives_every_name_once_until_told_to_stop(void **state)
{
    struct fixture *f = *state;
    struct names names = {0};

    make_file(f, "a", "");
    make_file(f, "c", "");
    assert_int_equal(sdb_mkdir(&f->os, at(f, "d")), STORM_OK);
    assert_int_equal(sdb_list(&f->os, f->dir.path, take_name, &names), STORM_OK);
    assert_int_equal(names.count, 3);
    assert_int_equal(names.mask, 1 + 4 + 8);
    names = (struct names){.stop_after = 2};
    assert_int_equal(sdb_list(&f->os, f->dir.path, take_name, &names), STORM_CLOSED);
    assert_int_equal(names.count, 2);
    assert_int_equal(sdb_list(&f->os, at(f, "x"), take_name, &names), STORM_NOT_FOUND);
    assert_int_equal(recorded(f), 0);
    assert_int_equal(sdb_list(&f->os, at(f, "a"), take_name, &names), STORM_IO);
    assert_said(f, "opendir", at(f, "a"), "Not a directory");
}

/* ---- The lock -------------------------------------------------------------------------------- */

static void a_lock_excludes_a_second_handle(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *lock;
    struct sdb_file *second;
    char pid[32];

    assert_int_equal(sdb_lock(&f->os, at(f, "LOCK"), &lock), STORM_OK);
    (void)snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    assert_holds(f, "LOCK", pid); /* opening and closing it elsewhere does not free the lock */
    assert_int_equal(sdb_lock(&f->os, at(f, "LOCK"), &second), STORM_LOCKED);
    assert_null(second);
    (void)snprintf(pid, sizeof(pid), "(%ld)", (long)getpid());
    assert_said(f, "lock", at(f, "LOCK"), pid);
    sdb_close(lock);
    assert_int_equal(sdb_lock(&f->os, at(f, "LOCK"), &second), STORM_OK);
    sdb_close(second);
}

static void a_lock_excludes_another_process_and_dies_with_it(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *lock;
    const char *path = at(f, "LOCK");
    char reason[64];
    int ready[2];
    char byte;
    pid_t child;
    int status;

    assert_int_equal(pipe(ready), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* not to outlive a parent whose test failed */
        (void)!write(ready[1], sdb_lock(&f->os, path, &lock) == STORM_OK ? "y" : "n", 1);
        for (;;)
            pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    assert_int_equal(sdb_lock(&f->os, path, &lock), STORM_LOCKED);
    (void)snprintf(reason, sizeof(reason), "held by process %ld", (long)child);
    assert_said(f, "lock", path, reason);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(sdb_lock(&f->os, path, &lock), STORM_OK);
    sdb_close(lock);
    close(ready[0]);
    close(ready[1]);
}

static void a_left_over_lock_file_is_no_lock(void **state)
{
    struct fixture *f = *state;
    struct sdb_file *lock;
    struct sdb_file *second;
    char pid[32];

    make_file(f, "LOCK", "999999999999 and more text than any process id\n");
    assert_int_equal(sdb_lock(&f->os, at(f, "LOCK"), &lock), STORM_OK);
    (void)snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    assert_holds(f, "LOCK", pid);
    /* Without a readable number in it the sentence names nobody. */
    assert_int_equal(truncate(at(f, "LOCK"), 0), 0);
    assert_int_equal(sdb_lock(&f->os, at(f, "LOCK"), &second), STORM_LOCKED);
    assert_said(f, "lock", at(f, "LOCK"), "held by another process");
    sdb_close(lock);
}

/* ---- Space, clocks, threads ------------------------------------------------------------------ */

static void free_space_and_clocks_make_sense(void **state)
{
    struct fixture *f = *state;
    uint64_t bytes;
    uint64_t ms = sdb_now_ms(&f->os);
    uint64_t ns = sdb_now_ns(&f->os);

    assert_int_equal(sdb_free_bytes(&f->os, f->dir.path, &bytes), STORM_OK);
    assert_true(bytes > 0);
    assert_true(ms > UINT64_C(1577836800000)); /* 2020: ms, not s, and not ns */
    assert_true(ms < UINT64_C(4102444800000)); /* 2100 */
    assert_int_equal(usleep(2000), 0);
    assert_true(sdb_now_ns(&f->os) - ns >= 2000000);
}

struct seen_by_thread {
    char name[32];
    int signals_open;
};

static void *look_around(void *arg)
{
    struct seen_by_thread *seen = arg;
    const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE, SIGALRM, SIGCHLD};
    sigset_t mask;
    size_t i;

    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        seen->signals_open += sigismember(&mask, signals[i]) == 0;
    /* The name is given by the creator, right after the start: wait for it. */
    do {
        (void)pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
    } while (strncmp(seen->name, "storm-", 6) != 0);
    return seen;
}

static void threads_have_a_name_and_no_signals(void **state)
{
    struct fixture *f = *state;
    struct seen_by_thread seen = {{0}, 0};
    sigset_t before;
    sigset_t after;
    pthread_t thread;
    void *result;

    (void)pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(sdb_thread_start(&f->os, "storm-flush-and-more", look_around, &seen, &thread),
                     STORM_OK);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, &seen);
    assert_string_equal(seen.name, "storm-flush-and");
    assert_int_equal(seen.signals_open, 0);
    assert_int_equal(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_new_file_is_there_once_and_for_its_owner_only),
        CASE(a_missing_file_is_not_found_and_not_recorded),
        CASE(descriptors_do_not_pass_through_exec),
        CASE(written_bytes_are_read_back_and_the_end_is_short),
        CASE(more_parts_than_the_kernel_takes_at_once_are_written),
        CASE(a_short_write_goes_on_and_its_failure_is_told),
        CASE(a_full_disk_is_no_space),
        CASE(every_call_on_a_file_tells_its_failure),
        CASE(allocated_bytes_are_zero_and_there),
        CASE(without_fallocate_the_reservation_is_written_out),
        CASE(a_mapping_shows_and_stores_the_file),
        CASE(stores_are_seen_like_writes),
        CASE(no_memory_for_a_handle_leaks_nothing),
        CASE(out_of_descriptors_comes_with_advice),
        CASE(directories_go_when_they_are_empty),
        CASE(names_move_link_and_go),
        CASE(every_call_on_a_name_tells_its_failure),
        CASE(what_permissions_forbid_is_denied),
        CASE(mkdir_tells_a_directory_from_a_file_in_its_place),
        CASE(list_gives_every_name_once_until_told_to_stop),
        CASE(a_lock_excludes_a_second_handle),
        CASE(a_lock_excludes_another_process_and_dies_with_it),
        CASE(a_left_over_lock_file_is_no_lock),
        CASE(free_space_and_clocks_make_sense),
        CASE(threads_have_a_name_and_no_signals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
