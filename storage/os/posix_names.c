/*
 * The real os layer, second half: names, directories, and the lock of a store.
 *
 * The lock is flock(2) on a file that stays behind. The kernel ties it to the open file
 * description, so a second handle in the same process is refused like another process (fcntl's
 * classic record locks would let it in, and drop the lock at the first close), and the death of the
 * holder releases it whatever the file says. The file's text, the holder's process id and a
 * newline, is only for the sentence of the one who is refused:
 *
 *     open, O_CREAT --> flock LOCK_NB --+-- got it --> cut to 0, write "4711\n"
 *                                       +-- refused --> read "4711\n", report STORM_LOCKED
 *
 * Between flock and the write a refused second opener may read an empty file and name nobody.
 * A disk too full for the five bytes does not cost the lock.
 */
#include "os/posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* A sentence about two names: "rename a to b: reason". */
static storm_status fail_two(struct sdb_os *os, const char *call, const char *from, const char *to,
                             int error)
{
    char text[128];
    const char *reason = strerror_r(error, text, sizeof(text));

    return sdb_fail(os->errors, sdb_posix_status(error), "%s %s to %s: %s", call, from, to, reason);
}

storm_status sdb_posix_rename(struct sdb_os *os, const char *from, const char *to)
{
    return rename(from, to) == 0 ? STORM_OK : fail_two(os, "rename", from, to, errno);
}

storm_status sdb_posix_link(struct sdb_os *os, const char *from, const char *to)
{
    if (link(from, to) == 0)
        return STORM_OK;
    if (errno == EXDEV)
        return sdb_fail(os->errors, STORM_UNSUPPORTED,
                        "link %s to %s: they are on different file systems, and a hard link needs "
                        "one",
                        from, to);
    return fail_two(os, "link", from, to, errno);
}

storm_status sdb_posix_unlink(struct sdb_os *os, const char *path)
{
    if (unlink(path) == 0)
        return STORM_OK;
    return errno == ENOENT ? STORM_NOT_FOUND : sdb_posix_fail(os, "unlink", path, errno);
}

storm_status sdb_posix_rmdir(struct sdb_os *os, const char *path)
{
    if (rmdir(path) == 0)
        return STORM_OK;
    return errno == ENOENT ? STORM_NOT_FOUND : sdb_posix_fail(os, "rmdir", path, errno);
}

storm_status sdb_posix_mkdir(struct sdb_os *os, const char *path)
{
    struct stat st;
    int error;

    if (mkdir(path, 0700) == 0)
        return STORM_OK;
    error = errno;
    if (error == ENOENT)
        return sdb_fail(os->errors, STORM_NOT_FOUND,
                        "mkdir %s: No such file or directory (make the directory above it first)",
                        path);
    if (error != EEXIST)
        return sdb_posix_fail(os, "mkdir", path, error);
    /* stat follows a symbolic link: one that leads to a directory serves as well as that. */
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return STORM_EXISTS;
    return sdb_fail(os->errors, STORM_IO,
                    "mkdir %s: something that is not a directory is in its place", path);
}

storm_status sdb_posix_list(struct sdb_os *os, const char *dir, sdb_list_fn each, void *ctx)
{
    storm_status status = STORM_OK;
    DIR *stream = opendir(dir);

    if (stream == NULL)
        return errno == ENOENT ? STORM_NOT_FOUND : sdb_posix_fail(os, "opendir", dir, errno);
    while (status == STORM_OK) {
        const struct dirent *entry;

        errno = 0; /* the end and a failure both come back as NULL */
        entry = readdir(stream);
        if (entry == NULL) {
            if (errno != 0)
                status = sdb_posix_fail(os, "readdir", dir, errno);
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = each(ctx, entry->d_name);
    }
    (void)closedir(stream);
    return status;
}

storm_status sdb_posix_sync_dir(struct sdb_os *os, const char *dir)
{
    storm_status status = STORM_OK;
    int fd = sdb_posix_open_fd(dir, O_RDONLY | O_DIRECTORY);
    int rc;

    if (fd < 0)
        return sdb_posix_fail(os, "open", dir, errno);
    do {
        rc = fsync(fd);
    } while (rc != 0 && errno == EINTR);
    if (rc != 0)
        status = sdb_posix_fail(os, "fsync", dir, errno);
    (void)close(fd);
    return status;
}

storm_status sdb_posix_free_bytes(struct sdb_os *os, const char *dir, uint64_t *bytes)
{
    struct statvfs vfs;
    int rc;

    *bytes = 0;
    do {
        rc = statvfs(dir, &vfs);
    } while (rc != 0 && errno == EINTR);
    if (rc != 0)
        return sdb_posix_fail(os, "statvfs", dir, errno);
    /* f_bavail, not f_bfree: the blocks reserved for root are not ours to count on. */
    *bytes = (uint64_t)vfs.f_bavail * (uint64_t)vfs.f_frsize;
    return STORM_OK;
}

/* ---- The lock -------------------------------------------------------------------------------- */

/* Best effort, see above. A stale id of a longer text must not shine through: cut first. */
static void write_holder(int fd)
{
    char text[32];
    int size = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)size, 0) != size)
        (void)!ftruncate(fd, 0);
}

/* The process id in the lock file, or 0 when it is not to be had. */
static long read_holder(int fd)
{
    char text[32];
    ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
    long pid;

    if (n <= 0)
        return 0;
    text[n] = '\0';
    pid = strtol(text, NULL, 10);
    return pid > 0 ? pid : 0;
}

static storm_status fail_locked(struct sdb_os *os, const char *path, long holder)
{
    if (holder == 0)
        return sdb_fail(os->errors, STORM_LOCKED, "lock %s: held by another process", path);
    if (holder == (long)getpid())
        return sdb_fail(os->errors, STORM_LOCKED,
                        "lock %s: held by another handle of this process (%ld)", path, holder);
    return sdb_fail(os->errors, STORM_LOCKED, "lock %s: held by process %ld", path, holder);
}

storm_status sdb_posix_lock(struct sdb_os *os, const char *path, struct sdb_file **lock)
{
    storm_status status;
    int fd;
    int rc;

    *lock = NULL;
    fd = sdb_posix_open_fd(path, O_RDWR | O_CREAT);
    if (fd < 0)
        return sdb_posix_fail(os, "open", path, errno);
    do {
        rc = flock(fd, LOCK_EX | LOCK_NB);
    } while (rc != 0 && errno == EINTR);
    if (rc != 0) {
        if (errno == EWOULDBLOCK)
            status = fail_locked(os, path, read_holder(fd));
        else
            status = sdb_posix_fail(os, "flock", path, errno);
        (void)close(fd);
        return status;
    }
    write_holder(fd);
    return sdb_posix_file_create(os, path, fd, lock);
}
