/*
 * Messages for operators, one line each, on standard error: as text or, for machines, as JSON.
 * Never one per request. Threads: any, at once; each line is written by one call.
 */
#ifndef STORM_API_LOG_H
#define STORM_API_LOG_H

#include <stdbool.h>

#include "storm/storm.h"

/* Once, before there are threads. */
void api_log_init(enum storm_log_level least, bool as_json);

void api_log(enum storm_log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The log function of storm_options; `ctx` is not used. */
void api_log_line(void *ctx, enum storm_log_level level, const char *line);

#endif
