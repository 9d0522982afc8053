/* A fast 64-bit hash of bytes for filters, cache shards and hash tables. Stable over releases and
 * machines: filters on disk depend on it. Not for untrusted-collision resistance. */
#ifndef SDB_UTIL_HASH_H
#define SDB_UTIL_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t sdb_hash64(const void *data, size_t size, uint64_t seed);

/* A bijective mix of one word. */
static inline uint64_t sdb_mix64(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    return x;
}

#endif
