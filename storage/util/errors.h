/*
 * The failures of one store, recorded once where they are first met: what, where, errno in words.
 * The newest SDB_ERRORS_KEPT sentences are kept in a ring for storm_last_error() and the log.
 *
 * Idiom: `return sdb_fail(errors, STORM_CORRUPT, "%s: block at %" PRIu64 ": checksum mismatch",
 * path, offset);`. Callers up the stack pass the status on and do not record again.
 * Threads: any, at once (own small mutex, a leaf in the lock order).
 */
#ifndef SDB_UTIL_ERRORS_H
#define SDB_UTIL_ERRORS_H

#include <pthread.h>

#include "storm/storm.h"

enum { SDB_ERRORS_KEPT = 16, SDB_ERROR_TEXT = 384 };

struct sdb_errors {
    pthread_mutex_t mu;
    uint64_t total;                             /* mu: recorded since init */
    uint64_t corruptions;                       /* mu: of them STORM_CORRUPT */
    char text[SDB_ERRORS_KEPT][SDB_ERROR_TEXT]; /* mu: ring, slot = number % kept */
    void (*log)(void *ctx, enum storm_log_level level, const char *line); /* const; may be NULL */
    void *log_ctx;                                                        /* const */
};

void sdb_errors_init(struct sdb_errors *errors,
                     void (*log)(void *ctx, enum storm_log_level level, const char *line),
                     void *log_ctx);
void sdb_errors_fini(struct sdb_errors *errors);

/* Record a sentence under `status` and return `status`. `errors` may be NULL: then only return. */
storm_status sdb_fail(struct sdb_errors *errors, storm_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Newest sentence, terminated, cut to `size`; empty when nothing failed yet. */
void sdb_errors_newest(struct sdb_errors *errors, char *text, size_t size);
void sdb_errors_count(struct sdb_errors *errors, uint64_t *total, uint64_t *corruptions);

/* One line for operators through the store's log function, if it has one. */
void sdb_log(struct sdb_errors *errors, enum storm_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
