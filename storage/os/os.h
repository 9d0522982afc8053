/*
 * The only way to the operating system. Everything above calls these functions, never open(2),
 * fsync(2) or clock_gettime(2) themselves, so that a twin (sim.h) can stand in for the disk: one in
 * memory that forgets what was not synced, fails the n-th call, or tears a write.
 *
 * Errors: failures come back as a storm_status (ENOSPC and EDQUOT as STORM_NO_SPACE, ENOENT as
 * STORM_NOT_FOUND, EEXIST as STORM_EXISTS, EACCES, EPERM and EROFS as STORM_DENIED, ENOMEM as
 * STORM_NO_MEMORY, anything else as STORM_IO) and are recorded, with the call, the path and errno
 * in words, in os->errors. STORM_NOT_FOUND of open, size, list, unlink and rmdir and STORM_EXISTS
 * of mkdir are not recorded: callers ask. EINTR and short transfers are dealt with inside.
 *
 * Threads: all functions, at once, except that a file is closed once, by its last user.
 * Paths are borrowed; directories are not created on the way.
 */
#ifndef SDB_OS_OS_H
#define SDB_OS_OS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "storm/storm.h"
#include "util/errors.h"

struct sdb_os_ops;

/* One store's access to the system. The posix one is stateless but for `errors`. */
struct sdb_os {
    const struct sdb_os_ops *ops; /* const */
    struct sdb_errors *errors;    /* const; borrowed for the life of the os */
};

struct sdb_file {
    const struct sdb_os_ops *ops; /* const */
    struct sdb_os *os;            /* const */
    /* the implementation's own members follow */
};

enum sdb_open_mode {
    SDB_OPEN_READ,   /* an existing file, for pread and map */
    SDB_OPEN_CREATE, /* a new file for writing and reading; STORM_EXISTS if it is there */
    SDB_OPEN_WRITE,  /* an existing file for writing and reading, contents kept */
};

typedef storm_status (*sdb_list_fn)(void *ctx, const char *name);

struct sdb_os_ops {
    storm_status (*open)(struct sdb_os *os, const char *path, enum sdb_open_mode mode,
                         struct sdb_file **file);
    void (*close)(struct sdb_file *file);
    storm_status (*pread)(struct sdb_file *file, uint64_t offset, void *buffer, size_t size,
                          size_t *got);
    storm_status (*pwritev)(struct sdb_file *file, uint64_t offset, const struct iovec *parts,
                            int count);
    storm_status (*store)(struct sdb_file *file, uint64_t offset, const struct iovec *parts,
                          int count);
    storm_status (*sync)(struct sdb_file *file);
    void (*start_writeback)(struct sdb_file *file, uint64_t offset, uint64_t size);
    void (*start_read)(struct sdb_file *file, uint64_t offset, uint64_t size);
    storm_status (*allocate)(struct sdb_file *file, uint64_t size);
    storm_status (*truncate)(struct sdb_file *file, uint64_t size);
    storm_status (*size)(struct sdb_file *file, uint64_t *size);
    storm_status (*map)(struct sdb_file *file, uint64_t size, bool writable, void **address);
    void (*unmap)(struct sdb_file *file, void *address, uint64_t size);

    storm_status (*rename)(struct sdb_os *os, const char *from, const char *to);
    storm_status (*unlink)(struct sdb_os *os, const char *path);
    storm_status (*link)(struct sdb_os *os, const char *from, const char *to);
    storm_status (*mkdir)(struct sdb_os *os, const char *path);
    storm_status (*rmdir)(struct sdb_os *os, const char *path);
    storm_status (*list)(struct sdb_os *os, const char *dir, sdb_list_fn each, void *ctx);
    storm_status (*sync_dir)(struct sdb_os *os, const char *dir);
    storm_status (*lock)(struct sdb_os *os, const char *path, struct sdb_file **lock);
    storm_status (*free_bytes)(struct sdb_os *os, const char *dir, uint64_t *bytes);
    uint64_t (*now_ms)(struct sdb_os *os);
    uint64_t (*now_ns)(struct sdb_os *os);
    storm_status (*thread_start)(struct sdb_os *os, const char *name, void *(*run)(void *),
                                 void *arg, pthread_t *thread);
};

/* The real thing. `errors` is borrowed for the life of `os`. */
void sdb_os_posix_init(struct sdb_os *os, struct sdb_errors *errors);

/* New files are readable by their owner only (mode 0600). *file is NULL on failure. */
static inline storm_status sdb_open(struct sdb_os *os, const char *path, enum sdb_open_mode mode,
                                    struct sdb_file **file)
{
    return os->ops->open(os, path, mode, file);
}

/* Close and free; NULL is ignored. Says nothing about durability: sync first. */
static inline void sdb_close(struct sdb_file *file)
{
    if (file != NULL)
        file->ops->close(file);
}

/* Read up to `size` bytes; *got is smaller only at the end of the file. */
static inline storm_status sdb_pread(struct sdb_file *file, uint64_t offset, void *buffer,
                                     size_t size, size_t *got)
{
    return file->ops->pread(file, offset, buffer, size, got);
}

/* Write all parts at `offset`. After a failure any part of the range may have been written. */
static inline storm_status sdb_pwritev(struct sdb_file *file, uint64_t offset,
                                       const struct iovec *parts, int count)
{
    return file->ops->pwritev(file, offset, parts, count);
}

static inline storm_status sdb_pwrite(struct sdb_file *file, uint64_t offset, const void *data,
                                      size_t size)
{
    struct iovec part = {(void *)(uintptr_t)data, size};
    return file->ops->pwritev(file, offset, &part, 1);
}

/*
 * The same through a mapping of the file, without a system call for most stores: for many small
 * pieces one behind the other, below what sdb_allocate() has reserved, by one thread at a time.
 * Other calls see what was stored as if it had been written, and sdb_sync makes it durable; whoever
 * stores may cut the file too, nobody else. STORM_UNSUPPORTED, with nothing stored and nothing
 * recorded, where it can not be done safely: write instead.
 */
static inline storm_status sdb_store(struct sdb_file *file, uint64_t offset,
                                     const struct iovec *parts, int count)
{
    return file->ops->store(file, offset, parts, count);
}

/* fdatasync. A failure is final for this file: never call it again and believe the answer. */
static inline storm_status sdb_sync(struct sdb_file *file)
{
    return file->ops->sync(file);
}

/* A hint to start writing dirty pages out; cannot fail and promises nothing. */
static inline void sdb_start_writeback(struct sdb_file *file, uint64_t offset, uint64_t size)
{
    file->ops->start_writeback(file, offset, size);
}

/* A hint to read bytes into the page cache, without waiting for them; cannot fail. */
static inline void sdb_start_read(struct sdb_file *file, uint64_t offset, uint64_t size)
{
    file->ops->start_read(file, offset, size);
}

/* Reserve `size` bytes from 0 so that later writes below cannot meet a full disk; new bytes are
 * 0. */
static inline storm_status sdb_allocate(struct sdb_file *file, uint64_t size)
{
    return file->ops->allocate(file, size);
}

static inline storm_status sdb_truncate(struct sdb_file *file, uint64_t size)
{
    return file->ops->truncate(file, size);
}

static inline storm_status sdb_size(struct sdb_file *file, uint64_t *size)
{
    return file->ops->size(file, size);
}

/* Map the first `size` bytes, shared. STORM_UNSUPPORTED where files cannot be mapped; in the twin
 * only files without unsynced bytes can, for reading, and what is written later is not seen. */
static inline storm_status sdb_map(struct sdb_file *file, uint64_t size, bool writable,
                                   void **address)
{
    return file->ops->map(file, size, writable, address);
}

static inline void sdb_unmap(struct sdb_file *file, void *address, uint64_t size)
{
    file->ops->unmap(file, address, size);
}

/* Atomic replacement; durable after sdb_sync_dir on the directory. */
static inline storm_status sdb_rename(struct sdb_os *os, const char *from, const char *to)
{
    return os->ops->rename(os, from, to);
}

static inline storm_status sdb_unlink(struct sdb_os *os, const char *path)
{
    return os->ops->unlink(os, path);
}

/* A second name for the same file (checkpoints, repair). STORM_EXISTS when there is something under
 * the name; STORM_UNSUPPORTED when the names are on different file systems. */
static inline storm_status sdb_link(struct sdb_os *os, const char *from, const char *to)
{
    return os->ops->link(os, from, to);
}

/* Mode 0700. STORM_EXISTS when there is a directory already; STORM_IO when it is something else. */
static inline storm_status sdb_mkdir(struct sdb_os *os, const char *path)
{
    return os->ops->mkdir(os, path);
}

/* Remove an empty directory. */
static inline storm_status sdb_rmdir(struct sdb_os *os, const char *path)
{
    return os->ops->rmdir(os, path);
}

/* Call `each` for every name but . and .., in no order; a status other than STORM_OK ends it. */
static inline storm_status sdb_list(struct sdb_os *os, const char *dir, sdb_list_fn each, void *ctx)
{
    return os->ops->list(os, dir, each, ctx);
}

/* Make creations, renames and removals in `dir` durable. */
static inline storm_status sdb_sync_dir(struct sdb_os *os, const char *dir)
{
    return os->ops->sync_dir(os, dir);
}

/*
 * Take the exclusive lock at `path` (created if need be) for this handle; STORM_LOCKED when some
 * other open handle has it, in this process or another, with the holder's process id in the
 * recorded sentence where it is known. sdb_close() releases it, and so does the process's death:
 * a left-over file is no lock.
 */
static inline storm_status sdb_lock(struct sdb_os *os, const char *path, struct sdb_file **lock)
{
    return os->ops->lock(os, path, lock);
}

static inline storm_status sdb_free_bytes(struct sdb_os *os, const char *dir, uint64_t *bytes)
{
    return os->ops->free_bytes(os, dir, bytes);
}

/* Wall clock, Unix ms: for expiry and logs only. It may jump. */
static inline uint64_t sdb_now_ms(struct sdb_os *os)
{
    return os->ops->now_ms(os);
}

/* Monotonic clock, ns: for durations and deadlines. */
static inline uint64_t sdb_now_ns(struct sdb_os *os)
{
    return os->ops->now_ns(os);
}

/* Start a joinable thread, all signals blocked. `name` at most 15 bytes. */
static inline storm_status sdb_thread_start(struct sdb_os *os, const char *name,
                                            void *(*run)(void *), void *arg, pthread_t *thread)
{
    return os->ops->thread_start(os, name, run, arg, thread);
}

#endif
