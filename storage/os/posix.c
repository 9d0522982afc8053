/*
 * The real os layer, first part: open files, clocks and threads. posix_store.c and posix_names.c
 * have the rest.
 *
 * What os.h promises and the system does not give by itself:
 *
 *   short writes    pwritev(2) may store a part, and takes at most IOV_MAX parts (1,024 on Linux).
 *                   write_parts() goes on behind what was stored. It never copies the caller's
 *                   vector: the rest of a half-written part goes out by a plain pwrite(2).
 *   EINTR           every call that may be interrupted is begun again. fdatasync too: EINTR says
 *                   nothing was decided. Any other failure of fdatasync is never tried again.
 *   reservation     fallocate(2) where the file system has it; else zeroes are written, because
 *                   ftruncate alone would leave a hole, and a hole meets a full disk later.
 *   signals         threads are born with every signal blocked, so that a handler of the program
 *                   around us never runs on a thread it does not know.
 *
 * Errors are recorded where they happen (sdb_posix_fail), once, with the name of the system call,
 * the path and the reason, so that an operator can look them up.
 *
 * Locks: none. A file's members are constant after open and the kernel orders the calls.
 *
 * Not done here: O_DIRECT (the page cache serves the block cache's misses), and retries of I/O
 * errors (a failed fdatasync may already have dropped the pages it could not write).
 */
#include "os/posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef IOV_MAX
#define IOV_MAX 1024
#endif

/* Zeroes for allocate() without fallocate(2): 64 KiB a call keeps a 64 MiB log at 1,024 calls. */
enum { ZERO_CHUNK = 64 * 1024, THREAD_NAME_MAX = 16 };

static struct sdb_posix_file *posix_file(struct sdb_file *file)
{
    return (struct sdb_posix_file *)file;
}

/* ---- Errors ---------------------------------------------------------------------------------- */

storm_status sdb_posix_status(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return STORM_NO_SPACE;
    case ENOENT:
        return STORM_NOT_FOUND;
    case EEXIST:
        return STORM_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return STORM_DENIED;
    case ENOMEM:
        return STORM_NO_MEMORY;
    default:
        return STORM_IO;
    }
}

/* What the operator can do about it, where the reason alone does not say. */
static const char *hint(int error)
{
    switch (error) {
    case EMFILE:
        return " (raise the process's limit: ulimit -n, or LimitNOFILE= of the service)";
    case ENFILE:
        return " (raise the system's limit: sysctl fs.file-max)";
    case EDQUOT:
        return " (the owner's quota is used up)";
    case EFBIG:
        return " (the file system or ulimit -f allows no larger file)";
    default:
        return "";
    }
}

storm_status sdb_posix_fail(struct sdb_os *os, const char *call, const char *path, int error)
{
    char text[128];
    const char *reason = strerror_r(error, text, sizeof(text));

    return sdb_fail(os->errors, sdb_posix_status(error), "%s %s: %s%s", call, path, reason,
                    hint(error));
}

static storm_status file_fail(struct sdb_posix_file *file, const char *call, int error)
{
    return sdb_posix_fail(file->base.os, call, file->path, error);
}

/* ---- Open and close -------------------------------------------------------------------------- */

int sdb_posix_open_fd(const char *path, int flags)
{
    int fd;

    do {
        fd = open(path, flags | O_CLOEXEC, 0600);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

storm_status sdb_posix_file_create(struct sdb_os *os, const char *path, int fd,
                                   struct sdb_file **file)
{
    size_t path_size = strlen(path) + 1;
    struct sdb_posix_file *created = malloc(sizeof(*created) + path_size);

    *file = NULL;
    if (created == NULL) {
        (void)close(fd);
        return sdb_posix_fail(os, "open", path, ENOMEM);
    }
    created->base.ops = os->ops;
    created->base.os = os;
    created->fd = fd;
    created->window = (struct sdb_posix_window){0};
    memcpy(created->path, path, path_size);
    *file = &created->base;
    return STORM_OK;
}

static storm_status posix_open(struct sdb_os *os, const char *path, enum sdb_open_mode mode,
                               struct sdb_file **file)
{
    int flags = O_RDONLY;
    int fd;

    *file = NULL;
    if (mode == SDB_OPEN_CREATE)
        flags = O_RDWR | O_CREAT | O_EXCL;
    else if (mode == SDB_OPEN_WRITE)
        flags = O_RDWR;
    fd = sdb_posix_open_fd(path, flags);
    if (fd < 0) {
        /* Callers open to find out whether a file is there; creating is another matter. */
        if (errno == ENOENT && mode != SDB_OPEN_CREATE)
            return STORM_NOT_FOUND;
        return sdb_posix_fail(os, "open", path, errno);
    }
    return sdb_posix_file_create(os, path, fd, file);
}

static void posix_close(struct sdb_file *file)
{
    struct sdb_posix_file *self = posix_file(file);

    /* Linux frees the descriptor even when close(2) reports an error: never call it twice. */
    sdb_posix_window_drop(&self->window);
    (void)close(self->fd);
    free(self);
}

/* ---- Reading and writing --------------------------------------------------------------------- */

static storm_status posix_pread(struct sdb_file *file, uint64_t offset, void *buffer, size_t size,
                                size_t *got)
{
    struct sdb_posix_file *self = posix_file(file);
    size_t done = 0;

    *got = 0;
    while (done < size) {
        ssize_t n = pread(self->fd, (char *)buffer + done, size - done, (off_t)(offset + done));

        if (n == 0)
            break;
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return file_fail(self, "pread", errno);
        }
        done += (size_t)n;
    }
    *got = done;
    return STORM_OK;
}

/*
 * Write all parts, or return the errno of the call that stopped it. `at` and `skip` say where the
 * next byte comes from: part number and the bytes of it that are already out.
 */
static int write_parts(int fd, uint64_t offset, const struct iovec *parts, int count)
{
    int at = 0;
    size_t skip = 0;

    for (;;) {
        ssize_t n;

        while (at < count && skip >= parts[at].iov_len) {
            skip -= parts[at].iov_len;
            at++;
        }
        if (at == count)
            return 0;
        if (skip > 0) {
            n = pwrite(fd, (const char *)parts[at].iov_base + skip, parts[at].iov_len - skip,
                       (off_t)offset);
        } else {
            int batch = count - at < IOV_MAX ? count - at : IOV_MAX;
            n = pwritev(fd, parts + at, batch, (off_t)offset);
        }
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return errno;
        }
        if (n == 0) /* no regular file does this; trying for ever would hang the store */
            return EIO;
        skip += (size_t)n;
        offset += (uint64_t)n;
    }
}

static storm_status posix_pwritev(struct sdb_file *file, uint64_t offset, const struct iovec *parts,
                                  int count)
{
    struct sdb_posix_file *self = posix_file(file);
    int error = write_parts(self->fd, offset, parts, count);

    return error == 0 ? STORM_OK : file_fail(self, "pwritev", error);
}

static storm_status posix_sync(struct sdb_file *file)
{
    struct sdb_posix_file *self = posix_file(file);
    int rc;

    do {
        rc = fdatasync(self->fd);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? STORM_OK : file_fail(self, "fdatasync", errno);
}

static void posix_start_writeback(struct sdb_file *file, uint64_t offset, uint64_t size)
{
    /* For sync_file_range(2) a size of 0 means "to the end", which nobody asked for. */
    if (size > 0)
        (void)sync_file_range(posix_file(file)->fd, (off_t)offset, (off_t)size,
                              SYNC_FILE_RANGE_WRITE);
}

static void posix_start_read(struct sdb_file *file, uint64_t offset, uint64_t size)
{
    (void)posix_fadvise(posix_file(file)->fd, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);
}

/* ---- Size ------------------------------------------------------------------------------------ */

static storm_status posix_size(struct sdb_file *file, uint64_t *size)
{
    struct sdb_posix_file *self = posix_file(file);
    struct stat st;

    *size = 0;
    if (fstat(self->fd, &st) != 0)
        return file_fail(self, "fstat", errno);
    *size = (uint64_t)st.st_size;
    return STORM_OK;
}

static storm_status posix_truncate(struct sdb_file *file, uint64_t size)
{
    struct sdb_posix_file *self = posix_file(file);
    int rc;

    sdb_posix_window_drop(&self->window);
    do {
        rc = ftruncate(self->fd, (off_t)size);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? STORM_OK : file_fail(self, "ftruncate", errno);
}

/*
 * allocate() for file systems without fallocate(2): zeroes from the end of the file to `size`. It
 * leaves holes below the old end as they are; the engine allocates new files only, which have none.
 */
static storm_status fill_with_zeroes(struct sdb_posix_file *self, uint64_t size)
{
    static const char zeroes[ZERO_CHUNK];
    uint64_t old_size;
    uint64_t at;
    storm_status status = posix_size(&self->base, &old_size);

    if (status != STORM_OK)
        return status;
    for (at = old_size; at < size;) {
        uint64_t left = size - at;
        struct iovec part = {(void *)(uintptr_t)zeroes,
                             left < ZERO_CHUNK ? (size_t)left : ZERO_CHUNK};
        int error = write_parts(self->fd, at, &part, 1);

        if (error != 0) {
            status = file_fail(self, "pwritev", error);
            (void)!ftruncate(self->fd, (off_t)old_size); /* give back what cannot be used */
            return status;
        }
        at += part.iov_len;
    }
    return STORM_OK;
}

static storm_status posix_allocate(struct sdb_file *file, uint64_t size)
{
    struct sdb_posix_file *self = posix_file(file);
    int rc;

    if (size == 0)
        return STORM_OK;
    do {
        rc = fallocate(self->fd, 0, 0, (off_t)size);
    } while (rc != 0 && errno == EINTR);
    if (rc == 0)
        return STORM_OK;
    if (errno == EOPNOTSUPP || errno == ENOSYS)
        return fill_with_zeroes(self, size);
    return file_fail(self, "fallocate", errno);
}

/* ---- Mapping --------------------------------------------------------------------------------- */

static storm_status posix_map(struct sdb_file *file, uint64_t size, bool writable, void **address)
{
    struct sdb_posix_file *self = posix_file(file);
    void *mapped;

    *address = NULL;
    if (size > SIZE_MAX)
        return file_fail(self, "mmap", ENOMEM);
    mapped = mmap(NULL, (size_t)size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                  self->fd, 0);
    if (mapped == MAP_FAILED)
        return errno == ENODEV ? STORM_UNSUPPORTED : file_fail(self, "mmap", errno);
    /* Who reads here and there wants one page at a fault; who wants more says so (start_read). */
    if (!writable)
        (void)madvise(mapped, (size_t)size, MADV_RANDOM);
    *address = mapped;
    return STORM_OK;
}

static void posix_unmap(struct sdb_file *file, void *address, uint64_t size)
{
    (void)file;
    (void)munmap(address, (size_t)size);
}

/* ---- Clocks and threads ---------------------------------------------------------------------- */

static uint64_t posix_now_ms(struct sdb_os *os)
{
    struct timespec now;

    (void)os;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t posix_now_ns(struct sdb_os *os)
{
    struct timespec now;

    (void)os;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static storm_status posix_thread_start(struct sdb_os *os, const char *name, void *(*run)(void *),
                                       void *arg, pthread_t *thread)
{
    char short_name[THREAD_NAME_MAX];
    sigset_t all;
    sigset_t before;
    int error;

    (void)snprintf(short_name, sizeof(short_name), "%s", name);
    (void)sigfillset(&all);
    /* A thread inherits its creator's mask: block here, create, restore. */
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(thread, NULL, run, arg);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return sdb_posix_fail(os, "pthread_create", short_name, error);
    (void)pthread_setname_np(*thread, short_name);
    return STORM_OK;
}

static const struct sdb_os_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .pread = posix_pread,
    .pwritev = posix_pwritev,
    .store = sdb_posix_store,
    .sync = posix_sync,
    .start_writeback = posix_start_writeback,
    .start_read = posix_start_read,
    .allocate = posix_allocate,
    .truncate = posix_truncate,
    .size = posix_size,
    .map = posix_map,
    .unmap = posix_unmap,
    .rename = sdb_posix_rename,
    .unlink = sdb_posix_unlink,
    .link = sdb_posix_link,
    .mkdir = sdb_posix_mkdir,
    .rmdir = sdb_posix_rmdir,
    .list = sdb_posix_list,
    .sync_dir = sdb_posix_sync_dir,
    .lock = sdb_posix_lock,
    .free_bytes = sdb_posix_free_bytes,
    .now_ms = posix_now_ms,
    .now_ns = posix_now_ns,
    .thread_start = posix_thread_start,
};

void sdb_os_posix_init(struct sdb_os *os, struct sdb_errors *errors)
{
    os->ops = &posix_ops;
    os->errors = errors;
}
