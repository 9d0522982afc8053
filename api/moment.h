/*
 * Points in time and spans of it, as HTTP and JSON write them. Times are Unix time in ms, years
 * 1970 to 9999; no time zone data base, no locale. No state; any thread.
 */
#ifndef STORM_API_MOMENT_H
#define STORM_API_MOMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "storm/storm.h"

uint64_t api_now_ms(void);       /* wall clock, for what is stored and shown */
uint64_t api_monotonic_ns(void); /* for spans; never jumps */
uint64_t api_coarse_ns(void);    /* the same to a few ms, at a quarter of the cost */

/* 9999-12-31T23:59:59.999Z, the last moment that both forms can write. */
#define API_LAST_MS 253402300799999

/* "2026-11-22T18:21:48.123Z"; what lies past API_LAST_MS is written as that. */
#define API_RFC3339_MAX 25
char *api_format_rfc3339(char text[API_RFC3339_MAX], uint64_t ms);

/* A member of a JSON object: `,"name":"2026-..."`, or null for 0, which is no time. */
struct api_text;
void api_text_add_time(struct api_text *text, const char *name, uint64_t ms);

/* "Sun, 22 Nov 2026 18:21:48 GMT". */
#define API_HTTP_DATE_MAX 30
char *api_format_http_date(char text[API_HTTP_DATE_MAX], uint64_t ms);

/* RFC 3339 with an offset or Z, second fractions cut to ms, from 1970 on. A blank stands for the
 * '+' of an offset too, because that is what an unescaped plus in a query means. */
bool api_parse_rfc3339(struct storm_slice text, uint64_t *ms);

/* "90s", "15m", "24h", "7d": at least one second, at most a hundred years. */
bool api_parse_duration(struct storm_slice text, uint64_t *ms);

#endif
