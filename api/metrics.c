/*
 * Counters. See metrics.h.
 *
 * Bucket b = 4 * e + q holds the latencies of 2^e * (1 + q/4) us up to the next bucket's.
 * Everything is counted with relaxed atomics, but for in_flight, which draining waits for.
 */
#include "metrics.h"

#include <stddef.h>

static size_t bucket_of(uint64_t latency_us)
{
    if (latency_us == 0)
        return 0;
    unsigned exponent = 63U - (unsigned)__builtin_clzll(latency_us);
    uint64_t quarter =
        exponent >= 2 ? (latency_us >> (exponent - 2)) & 3 : (latency_us << (2 - exponent)) & 3;
    size_t bucket = (size_t)exponent * 4 + (size_t)quarter;
    return bucket < API_LATENCY_BUCKETS ? bucket : API_LATENCY_BUCKETS - 1;
}

static uint64_t bucket_end_us(size_t bucket)
{
    uint64_t base = UINT64_C(1) << (bucket / 4);
    return base + (base * (bucket % 4 + 1) + 3) / 4;
}

static void count(_Atomic uint64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

void api_metrics_begin(struct api_metrics *metrics)
{
    count(&metrics->in_flight);
}

void api_metrics_end(struct api_metrics *metrics, unsigned status, uint64_t latency_ns)
{
    count(&metrics->requests);
    if (status >= 400 && status < 500)
        count(&metrics->errors_4xx);
    else if (status >= 500)
        count(&metrics->errors_5xx);
    if (latency_ns != API_NO_LATENCY)
        count(&metrics->latency[bucket_of(latency_ns / 1000)]);
    /* seq_cst, with that of on_over and api_server_drain in server.c: either the end of the last
     * request sees the draining, or the draining sees the end. */
    atomic_fetch_sub(&metrics->in_flight, 1);
}

uint64_t api_metrics_quantile_us(const struct api_metrics *metrics, double rank)
{
    uint64_t counts[API_LATENCY_BUCKETS];
    uint64_t total = 0;
    for (size_t i = 0; i < API_LATENCY_BUCKETS; i++) {
        counts[i] = atomic_load_explicit(&metrics->latency[i], memory_order_relaxed);
        total += counts[i];
    }
    uint64_t wanted = (uint64_t)((double)total * rank);
    uint64_t seen = 0;
    for (size_t i = 0; i < API_LATENCY_BUCKETS; i++) {
        seen += counts[i];
        if (counts[i] != 0 && seen >= wanted)
            return bucket_end_us(i);
    }
    return 0;
}
