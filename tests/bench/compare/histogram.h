/*
 * A latency histogram of fixed size: 64 steps to each power of two, so that a quantile is right to
 * within 1.6 %. Nanoseconds up to 2^40 (18 minutes). One thread each; merged afterwards.
 */
#ifndef STORM_BENCH_HISTOGRAM_H
#define STORM_BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_STEPS = 64, HISTOGRAM_BUCKETS = HISTOGRAM_STEPS * 36 };

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total, max_ns;
};

static inline unsigned histogram_bucket(uint64_t ns)
{
    if (ns < HISTOGRAM_STEPS)
        return (unsigned)ns;
    unsigned power = 63u - (unsigned)__builtin_clzll(ns) - 6u;
    unsigned bucket = (power + 1) * HISTOGRAM_STEPS + (unsigned)(ns >> power) - HISTOGRAM_STEPS;
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static inline void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->counts[histogram_bucket(ns)]++;
    histogram->total++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->counts[i] += from->counts[i];
    into->total += from->total;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
}

/* The latency that the given share of operations stayed within, in ns; 0 when there were none. */
static inline double histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)((double)histogram->total * share);
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen > wanted) {
            unsigned power = i / HISTOGRAM_STEPS;
            double low = i % HISTOGRAM_STEPS;
            if (power == 0)
                return low;
            return (low + HISTOGRAM_STEPS + 0.5) * (double)(UINT64_C(1) << (power - 1));
        }
    }
    return (double)histogram->max_ns;
}

#endif
