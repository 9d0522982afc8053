/*
 * Counters of the HTTP side, as GET /stats shows them. Since the start of the process.
 * Threads: any, at once; every field is atomic, and a reading is not one consistent moment.
 */
#ifndef STORM_API_METRICS_H
#define STORM_API_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

/* Four buckets to each doubling, from 1 us to over an hour: a quantile is off by 19 % at most. */
enum { API_LATENCY_BUCKETS = 4 * 34 };

struct api_metrics {
    _Atomic uint64_t requests;
    _Atomic uint64_t errors_4xx;
    _Atomic uint64_t errors_5xx;
    _Atomic uint64_t in_flight;   /* handed to a handler and not yet answered in full */
    _Atomic uint64_t connections; /* open */
    _Atomic uint64_t latency[API_LATENCY_BUCKETS];
};

void api_metrics_begin(struct api_metrics *metrics);
/* One request is over; status 0 = it ended without an answer. */
#define API_NO_LATENCY UINT64_MAX /* one that waits as long as its client wants */
void api_metrics_end(struct api_metrics *metrics, unsigned status, uint64_t latency_ns);

/* The latency in microseconds that the fraction `rank` (0 to 1) of requests stays within; 0 before
 * the first. */
uint64_t api_metrics_quantile_us(const struct api_metrics *metrics, double rank);

#endif
