/*
 * CRC-32C, reflected, polynomial 0x1EDC6F41, as iSCSI uses it (RFC 3720). Every block, log record
 * and manifest record is checked with it, so it runs over all that is read and written.
 *
 * The instruction (crc32 on x86-64, crc32cx on ARMv8) takes 8 bytes, has a latency of 3 cycles and
 * can start every cycle. One stream of it therefore idles two thirds of the time; three independent
 * streams over neighbouring lanes keep it busy:
 *
 *      | lane 0: LANE bytes | lane 1: LANE bytes | lane 2: LANE bytes | next round or tail ...
 *        crc goes in here     starts at 0          starts at 0
 *
 * CRC is linear, so crc(A B) = shift(crc(A)) ^ crc(B), where shift() carries a register over the
 * length of B in zero bytes. LANE is fixed, hence shift() is one 32x32 bit matrix, kept as four
 * tables of 256 words (4 KiB) and applied with four look-ups. (The technique is Mark Adler's and
 * Intel's.)
 *
 * The portable version is slicing-by-8 (Kounavis and Berry, Intel 2005): eight tables, so that
 * eight bytes cost eight independent look-ups instead of eight dependent ones.
 *
 * Invariants: every function here works on the inverted register; only the public ones invert.
 * `chosen` starts as choose(), which builds the tables once and replaces itself. Whoever loads a
 * hardware version from it with acquire also sees the tables.
 */
#include "util/crc32c.h"

#include <pthread.h>
#include <stdatomic.h>

#include "util/coding.h"

#if defined(__x86_64__)
#define HAVE_INSTRUCTION 1
#define WITH_INSTRUCTION __attribute__((target("sse4.2")))
#include <nmmintrin.h>
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
#define HAVE_INSTRUCTION 1
#define WITH_INSTRUCTION
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#else
#define HAVE_INSTRUCTION 0
#endif

#define POLYNOMIAL UINT32_C(0x82f63b78) /* 0x1EDC6F41, bits reversed */

typedef uint32_t crc_fn(uint32_t crc, const uint8_t *at, size_t size);

static pthread_once_t tables_once = PTHREAD_ONCE_INIT;
static uint32_t slices[8]
                      [256]; /* slices[k][b]: byte b followed by k zero bytes; const after once */

/* ---- Portable -------------------------------------------------------------------------------- */

static void build_slices(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        slices[0][byte] = crc;
    }
    for (size_t k = 1; k < 8; k++) {
        for (size_t byte = 0; byte < 256; byte++) {
            uint32_t before = slices[k - 1][byte];
            slices[k][byte] = before >> 8 ^ slices[0][before & 0xff];
        }
    }
}

static uint32_t run_portable(uint32_t crc, const uint8_t *at, size_t size)
{
    for (; size >= 8; at += 8, size -= 8) {
        uint32_t low = sdb_get_u32(at) ^ crc;
        uint32_t high = sdb_get_u32(at + 4);
        crc = slices[7][low & 0xff] ^ slices[6][low >> 8 & 0xff] ^ slices[5][low >> 16 & 0xff] ^
              slices[4][low >> 24] ^ slices[3][high & 0xff] ^ slices[2][high >> 8 & 0xff] ^
              slices[1][high >> 16 & 0xff] ^ slices[0][high >> 24];
    }
    for (; size > 0; at++, size--)
        crc = crc >> 8 ^ slices[0][(crc ^ *at) & 0xff];
    return crc;
}

/* ---- With the instruction -------------------------------------------------------------------- */

#if HAVE_INSTRUCTION

/* Four rounds of three lanes are 4,032 bytes: nearly all of a 4 KiB block runs three wide. */
enum { LANE = 336 };

static uint32_t shifts[4]
                      [256]; /* a register's bytes carried over LANE zero bytes; const after once */

static void build_shifts(void)
{
    for (size_t k = 0; k < 4; k++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t crc = byte << (8 * k);
            for (int i = 0; i < LANE; i++)
                crc = crc >> 8 ^ slices[0][crc & 0xff];
            shifts[k][byte] = crc;
        }
    }
}

static inline uint32_t shift(uint32_t crc)
{
    return shifts[0][crc & 0xff] ^ shifts[1][crc >> 8 & 0xff] ^ shifts[2][crc >> 16 & 0xff] ^
           shifts[3][crc >> 24];
}

#if defined(__x86_64__)

static bool has_instruction(void)
{
    return __builtin_cpu_supports("sse4.2");
}

WITH_INSTRUCTION static inline uint32_t step8(uint32_t crc, const uint8_t *at)
{
    return (uint32_t)_mm_crc32_u64(crc, sdb_get_u64(at));
}

WITH_INSTRUCTION static inline uint32_t step1(uint32_t crc, const uint8_t *at)
{
    return _mm_crc32_u8(crc, *at);
}

#else

static bool has_instruction(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}

/* Written as assembly because gcc and clang name the built-in differently and disagree on whether a
 * function may use it when the whole program was not compiled for it. */
static inline uint32_t step8(uint32_t crc, const uint8_t *at)
{
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(sdb_get_u64(at)));
    return crc;
}

static inline uint32_t step1(uint32_t crc, const uint8_t *at)
{
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)*at));
    return crc;
}

#endif

WITH_INSTRUCTION static uint32_t run_instruction(uint32_t crc, const uint8_t *at, size_t size)
{
    for (; size >= 3 * (size_t)LANE; at += 3 * LANE, size -= 3 * (size_t)LANE) {
        uint32_t crc1 = 0;
        uint32_t crc2 = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            crc = step8(crc, at + i);
            crc1 = step8(crc1, at + LANE + i);
            crc2 = step8(crc2, at + (size_t)2 * LANE + i);
        }
        crc = shift(shift(crc) ^ crc1) ^ crc2;
    }
    for (; size >= 8; at += 8, size -= 8)
        crc = step8(crc, at);
    for (; size > 0; at++, size--)
        crc = step1(crc, at);
    return crc;
}

#endif

/* ---- The choice ------------------------------------------------------------------------------ */

static void build_tables(void)
{
    build_slices();
#if HAVE_INSTRUCTION
    build_shifts();
#endif
}

static crc_fn choose;
static crc_fn *_Atomic chosen = choose;

static uint32_t choose(uint32_t crc, const uint8_t *at, size_t size)
{
    crc_fn *best = run_portable;
    pthread_once(&tables_once, build_tables);
#if HAVE_INSTRUCTION
    if (has_instruction())
        best = run_instruction;
#endif
    /* Release: publishes the tables to the acquire in sdb_crc32c. */
    atomic_store_explicit(&chosen, best, memory_order_release);
    return best(crc, at, size);
}

uint32_t sdb_crc32c(uint32_t crc, const void *data, size_t size)
{
    /* Acquire: pairs with the release in choose(). */
    crc_fn *run = atomic_load_explicit(&chosen, memory_order_acquire);
    return ~run(~crc, data, size);
}

uint32_t sdb_crc32c_portable(uint32_t crc, const void *data, size_t size)
{
    pthread_once(&tables_once, build_tables);
    return ~run_portable(~crc, data, size);
}
