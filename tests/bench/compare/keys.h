/*
 * Keys, values and the choice of keys, the same for every product.
 *
 * A key is a number in 16 decimal digits. A value begins with the key's number and a generation, so
 * that every read can be checked; half of the rest is random, half constant, which compresses to
 * about a half. The zipfian choice is that of Gray et al., "Quickly Generating Billion-Record
 * Synthetic Databases" (SIGMOD 1994), with YCSB's constant 0.99 and its scattering by a hash.
 */
#ifndef STORM_BENCH_KEYS_H
#define STORM_BENCH_KEYS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "store.h"

enum { KEY_SIZE = 16, VALUE_LEAST = 24 };

static inline uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
    return mix(random->state++);
}

static inline uint64_t random_below(struct random *random, uint64_t bound)
{
    return (uint64_t)((unsigned __int128)random_next(random) * bound >> 64);
}

static inline double random_unit(struct random *random)
{
    return (double)(random_next(random) >> 11) * 0x1p-53;
}

static inline struct bytes key_of(char *room, uint64_t number)
{
    for (int i = KEY_SIZE; i-- > 0; number /= 10)
        room[i] = (char)('0' + number % 10);
    return (struct bytes){room, KEY_SIZE};
}

static inline uint64_t number_of(struct bytes key)
{
    uint64_t number = 0;
    const char *digits = key.data;
    for (size_t i = 0; i < key.size; i++)
        number = number * 10 + (uint64_t)(digits[i] - '0');
    return number;
}

static inline struct bytes value_of(char *room, size_t size, uint64_t number, uint64_t generation)
{
    size_t random_end = VALUE_LEAST + (size - VALUE_LEAST) / 2;
    uint64_t seed = mix(number ^ generation << 32);
    memcpy(room, &number, 8);
    memcpy(room + 8, &generation, 8);
    memcpy(room + 16, &seed, 8);
    for (size_t i = VALUE_LEAST; i < random_end; i += 8) {
        uint64_t word = mix(seed + i);
        memcpy(room + i, &word, random_end - i < 8 ? random_end - i : 8);
    }
    memset(room + random_end, 'v', size - random_end);
    return (struct bytes){room, size};
}

static inline bool is_value_right(struct bytes value, size_t size, uint64_t number)
{
    uint64_t words[3];
    if (value.size != size)
        return false;
    memcpy(words, value.data, sizeof words);
    return words[0] == number && words[2] == mix(number ^ words[1] << 32) &&
           ((const char *)value.data)[size - 1] == 'v';
}

struct zipf {
    uint64_t count;
    double theta, alpha, eta, zeta, half;
};

static inline void zipf_init(struct zipf *zipf, uint64_t count)
{
    zipf->count = count;
    zipf->theta = 0.99;
    zipf->zeta = 0;
    for (uint64_t i = 1; i <= count; i++)
        zipf->zeta += 1.0 / pow((double)i, zipf->theta);
    double zeta2 = 1.0 + pow(0.5, zipf->theta);
    zipf->half = pow(0.5, zipf->theta);
    zipf->alpha = 1.0 / (1.0 - zipf->theta);
    zipf->eta = (1.0 - pow(2.0 / (double)count, 1.0 - zipf->theta)) / (1.0 - zeta2 / zipf->zeta);
}

/* A rank: 0 is the most popular. */
static inline uint64_t zipf_rank(const struct zipf *zipf, struct random *random)
{
    double u = random_unit(random);
    double uz = u * zipf->zeta;
    if (uz < 1.0)
        return 0;
    if (uz < 1.0 + zipf->half)
        return 1;
    uint64_t rank =
        (uint64_t)((double)zipf->count * pow(zipf->eta * u - zipf->eta + 1.0, zipf->alpha));
    return rank < zipf->count ? rank : zipf->count - 1;
}

/* The same, the popular ones scattered over all keys. */
static inline uint64_t zipf_key(const struct zipf *zipf, struct random *random)
{
    return mix(zipf_rank(zipf, random)) % zipf->count;
}

#endif
