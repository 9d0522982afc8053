/*
 * Deterministic random numbers for tests: splitmix64 (Steele, Lea and Flood, 2014). A test prints
 * its seed at the start; RANDOM_SEED in the environment replaces it, to look for more or to see one
 * again.
 */
#ifndef TEST_RANDOM_H
#define TEST_RANDOM_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline uint64_t random_seed(uint64_t usual)
{
    const char *wanted = getenv("RANDOM_SEED");
    uint64_t seed = wanted != NULL ? strtoull(wanted, NULL, 0) : usual;
    printf("seed %" PRIu64 "\n", seed);
    return seed;
}

static inline uint64_t random_u64(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Below `bound`, which is not 0; bounds far below 2^64 are served evenly enough for a test. */
static inline uint64_t random_below(uint64_t *state, uint64_t bound)
{
    return random_u64(state) % bound;
}

static inline void random_bytes(uint64_t *state, uint8_t *to, size_t size)
{
    for (size_t i = 0; i < size; i++)
        to[i] = (uint8_t)random_u64(state);
}

#endif
