/*
 * What the parts of the real os layer share: posix.c (open files, clocks, threads), posix_store.c
 * (stores through a mapping) and posix_names.c (names, directories, the lock). Nobody else includes
 * this.
 *
 * Every function of the operations table is documented in os.h and keeps that contract.
 */
#ifndef SDB_OS_POSIX_H
#define SDB_OS_POSIX_H

#include "os/os.h"

/* The part of a file that is mapped for stores (posix_store.c). One thread at a time. */
struct sdb_posix_window {
    uint8_t *at;         /* NULL = none */
    uint64_t begin, end; /* of the file */
    uint64_t populated;  /* pages before this are present, or were */
};

/* An open file. `path` is only for sentences: the file may have been renamed since. */
struct sdb_posix_file {
    struct sdb_file base;
    int fd;                         /* const */
    struct sdb_posix_window window; /* whoever stores */
    char path[];                    /* const; terminated */
};

/* Record "call path: reason, hint" and return the status that `error` (an errno) maps to. */
storm_status sdb_posix_fail(struct sdb_os *os, const char *call, const char *path, int error);

/* The status of an errno, as the table at the top of os.h has it. */
storm_status sdb_posix_status(int error);

/* open(2) with O_CLOEXEC, mode 0600 and EINTR dealt with: a descriptor, or -1 and errno. */
int sdb_posix_open_fd(const char *path, int flags);

/* Wrap a descriptor; takes it over, and closes it when memory is short. */
storm_status sdb_posix_file_create(struct sdb_os *os, const char *path, int fd,
                                   struct sdb_file **file);

storm_status sdb_posix_store(struct sdb_file *file, uint64_t offset, const struct iovec *parts,
                             int count);
void sdb_posix_window_drop(struct sdb_posix_window *window);

storm_status sdb_posix_rename(struct sdb_os *os, const char *from, const char *to);
storm_status sdb_posix_unlink(struct sdb_os *os, const char *path);
storm_status sdb_posix_link(struct sdb_os *os, const char *from, const char *to);
storm_status sdb_posix_mkdir(struct sdb_os *os, const char *path);
storm_status sdb_posix_rmdir(struct sdb_os *os, const char *path);
storm_status sdb_posix_list(struct sdb_os *os, const char *dir, sdb_list_fn each, void *ctx);
storm_status sdb_posix_sync_dir(struct sdb_os *os, const char *dir);
storm_status sdb_posix_lock(struct sdb_os *os, const char *path, struct sdb_file **lock);
storm_status sdb_posix_free_bytes(struct sdb_os *os, const char *dir, uint64_t *bytes);

#endif
