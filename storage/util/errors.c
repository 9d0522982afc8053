/*
 * The ring of failures. Sentences are written into the caller's stack first and copied under the
 * mutex, so that the mutex is held for one memcpy; the log function runs outside of it, because it
 * is the user's code and may block on a slow terminal.
 *
 * The slot of failure number n (counted from 0) is n % SDB_ERRORS_KEPT; the newest is total - 1.
 * It does not aggregate or limit: a caller that fails over and over decides itself how often to say
 * so.
 */
#include "util/errors.h"

#include <stdarg.h>
#include <stdio.h>

void sdb_errors_init(struct sdb_errors *errors,
                     void (*log)(void *ctx, enum storm_log_level level, const char *line),
                     void *log_ctx)
{
    memset(errors, 0, sizeof *errors);
    pthread_mutex_init(&errors->mu, NULL);
    errors->log = log;
    errors->log_ctx = log_ctx;
}

void sdb_errors_fini(struct sdb_errors *errors)
{
    pthread_mutex_destroy(&errors->mu);
}

storm_status sdb_fail(struct sdb_errors *errors, storm_status status, const char *format, ...)
{
    char text[SDB_ERROR_TEXT];
    va_list arguments;
    if (errors == NULL)
        return status;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);

    pthread_mutex_lock(&errors->mu);
    memcpy(errors->text[errors->total % SDB_ERRORS_KEPT], text, strlen(text) + 1);
    errors->total++;
    if (status == STORM_CORRUPT)
        errors->corruptions++;
    pthread_mutex_unlock(&errors->mu);

    if (errors->log != NULL)
        errors->log(errors->log_ctx, STORM_LOG_ERROR, text);
    return status;
}

void sdb_errors_newest(struct sdb_errors *errors, char *text, size_t size)
{
    if (size == 0)
        return;
    text[0] = '\0';
    pthread_mutex_lock(&errors->mu);
    if (errors->total > 0)
        snprintf(text, size, "%s", errors->text[(errors->total - 1) % SDB_ERRORS_KEPT]);
    pthread_mutex_unlock(&errors->mu);
}

void sdb_errors_count(struct sdb_errors *errors, uint64_t *total, uint64_t *corruptions)
{
    pthread_mutex_lock(&errors->mu);
    *total = errors->total;
    *corruptions = errors->corruptions;
    pthread_mutex_unlock(&errors->mu);
}

void sdb_log(struct sdb_errors *errors, enum storm_log_level level, const char *format, ...)
{
    char line[SDB_ERROR_TEXT];
    va_list arguments;
    if (errors == NULL || errors->log == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    errors->log(errors->log_ctx, level, line);
}
