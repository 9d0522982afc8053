/*
 * The 64-bit hash of filters, cache shards and hash tables.
 *
 * The idea is that of wyhash (Wang Yi) and xxh3 (Yann Collet): multiply two 64-bit words to 128
 * bits and fold the halves together. One multiplication mixes 16 bytes and costs 3 to 4 cycles.
 *
 *      fold(a, b) = a ^ b ^ low(a * b) ^ high(a * b)
 *
 * The plain fold, low ^ high, is 0 whenever either factor is 0, and then forgets the other one;
 * keys that hit a constant would collide in bulk. With a ^ b in it, a zero factor passes the other
 * through.
 *
 * Up to 16 bytes are read as two words that may overlap; the size goes into the last fold, so that
 * overlapping reads of different lengths differ. Longer input runs in two lanes of 16 bytes so that
 * the multiplications overlap in time, then 16 bytes at a time, then the last 16 bytes once more.
 *
 * Words are read little-endian on every machine. Filters on disk hold these values: a change of
 * anything here is a change of the table format (tests/unit/test_hash.c keeps golden values).
 * It does not resist somebody who looks for collisions.
 */
#include "util/hash.h"

#include "util/coding.h"

/* Fractions of the square roots of 2, 3, 5, 7 and 11, made odd: nothing up the sleeve. */
#define K0 UINT64_C(0x6a09e667f3bcc909)
#define K1 UINT64_C(0xbb67ae8584caa73b)
#define K2 UINT64_C(0x3c6ef372fe94f82b)
#define K3 UINT64_C(0xa54ff53a5f1d36f1)
#define K4 UINT64_C(0x510e527fade682d1)

static inline uint64_t fold(uint64_t a, uint64_t b)
{
#ifdef __SIZEOF_INT128__
    unsigned __int128 product = (unsigned __int128)a * b;
    uint64_t low = (uint64_t)product;
    uint64_t high = (uint64_t)(product >> 64);
#else
    /* Schoolbook, in 32-bit digits: no partial sum exceeds 64 bits. */
    uint64_t ll = (a & 0xffffffff) * (b & 0xffffffff);
    uint64_t lh = (a & 0xffffffff) * (b >> 32);
    uint64_t hl = (a >> 32) * (b & 0xffffffff);
    uint64_t middle = (ll >> 32) + (lh & 0xffffffff) + (hl & 0xffffffff);
    uint64_t low = middle << 32 | (ll & 0xffffffff);
    uint64_t high = (a >> 32) * (b >> 32) + (lh >> 32) + (hl >> 32) + (middle >> 32);
#endif
    return a ^ b ^ low ^ high;
}

static inline uint64_t fold16(uint64_t state, const uint8_t *at)
{
    return fold(sdb_get_u64(at) ^ K1, sdb_get_u64(at + 8) ^ state);
}

uint64_t sdb_hash64(const void *data, size_t size, uint64_t seed)
{
    const uint8_t *at = data;
    uint64_t state = seed ^ K0;
    uint64_t a = 0;
    uint64_t b = 0;

    if (size > 16) {
        const uint8_t *end = at + size;
        if (size > 64) {
            uint64_t other = state ^ K4;
            for (; end - at > 32; at += 32) {
                state = fold16(state, at);
                other = fold16(other, at + 16);
            }
            state = fold(state ^ K2, other);
        }
        for (; end - at > 16; at += 16)
            state = fold16(state, at);
        a = sdb_get_u64(end - 16);
        b = sdb_get_u64(end - 8);
    } else if (size >= 8) {
        a = sdb_get_u64(at);
        b = sdb_get_u64(at + size - 8);
    } else if (size >= 4) {
        a = sdb_get_u32(at);
        b = sdb_get_u32(at + size - 4);
    } else if (size > 0) {
        a = (uint64_t)at[0] << 16 | (uint64_t)at[size / 2] << 8 | at[size - 1];
    }
    state = fold(a ^ K1, b ^ state);
    return fold(state ^ K2, (uint64_t)size ^ K3);
}
