/* The hash: golden values (filters on disk hold them), avalanche, collisions, even spread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "random.h"
#include "util/hash.h"

/* Bytes 0, 1, 2 ... of so many lengths, with two seeds. A difference here makes every filter on
 * disk unreadable: it needs a new format version, not new numbers in this table. */
static void golden_values_never_change(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        uint64_t seed;
        uint64_t hash;
    } golden[] = {
        {0, UINT64_C(0x0), UINT64_C(0x59b250d7acf65433)},
        {0, UINT64_C(0x1234567890abcdef), UINT64_C(0x7636287ad613d241)},
        {1, UINT64_C(0x0), UINT64_C(0x6db09d1a13b45164)},
        {1, UINT64_C(0x1234567890abcdef), UINT64_C(0xe03d19e12feac0a3)},
        {2, UINT64_C(0x0), UINT64_C(0x9c3d37d47170825b)},
        {2, UINT64_C(0x1234567890abcdef), UINT64_C(0x430ac13450a500b8)},
        {3, UINT64_C(0x0), UINT64_C(0x777a748afa5527ae)},
        {3, UINT64_C(0x1234567890abcdef), UINT64_C(0x3f32a3a0906c6b8a)},
        {4, UINT64_C(0x0), UINT64_C(0x9c5310ac6c01b13a)},
        {4, UINT64_C(0x1234567890abcdef), UINT64_C(0xa6bd97e198dc24da)},
        {7, UINT64_C(0x0), UINT64_C(0xd26cd52cec4fccc9)},
        {7, UINT64_C(0x1234567890abcdef), UINT64_C(0xd8691377d25a173e)},
        {8, UINT64_C(0x0), UINT64_C(0x375dc2bdf265b2f6)},
        {8, UINT64_C(0x1234567890abcdef), UINT64_C(0x89e9f323562d8fe4)},
        {9, UINT64_C(0x0), UINT64_C(0x851f86f52ff6a007)},
        {9, UINT64_C(0x1234567890abcdef), UINT64_C(0xa665f334948d9d55)},
        {15, UINT64_C(0x0), UINT64_C(0x56cc2345eba6bcb2)},
        {15, UINT64_C(0x1234567890abcdef), UINT64_C(0x5164b5478265524d)},
        {16, UINT64_C(0x0), UINT64_C(0xf9c979e97a6a635a)},
        {16, UINT64_C(0x1234567890abcdef), UINT64_C(0x7630946fc2a83143)},
        {17, UINT64_C(0x0), UINT64_C(0x2c11ac4c2df5514e)},
        {17, UINT64_C(0x1234567890abcdef), UINT64_C(0x54627bd9dfc8844c)},
        {31, UINT64_C(0x0), UINT64_C(0x2bc84aac885e2dd0)},
        {31, UINT64_C(0x1234567890abcdef), UINT64_C(0x4d8bfda52e2a59c8)},
        {32, UINT64_C(0x0), UINT64_C(0xac0f37ea4ffc50e7)},
        {32, UINT64_C(0x1234567890abcdef), UINT64_C(0xa39dd27a3ba7dcb8)},
        {33, UINT64_C(0x0), UINT64_C(0x642b425766d2487d)},
        {33, UINT64_C(0x1234567890abcdef), UINT64_C(0x6215707f6bc0b7ba)},
        {48, UINT64_C(0x0), UINT64_C(0xde532d4758443fc4)},
        {48, UINT64_C(0x1234567890abcdef), UINT64_C(0xe171d411feb97ad3)},
        {64, UINT64_C(0x0), UINT64_C(0x4b3ef6862321e97d)},
        {64, UINT64_C(0x1234567890abcdef), UINT64_C(0x694fd22fc42ae0a7)},
        {65, UINT64_C(0x0), UINT64_C(0xe846b0c7377cef36)},
        {65, UINT64_C(0x1234567890abcdef), UINT64_C(0x8fd26e1ea25771f0)},
        {80, UINT64_C(0x0), UINT64_C(0x8af90b5558d0bed2)},
        {80, UINT64_C(0x1234567890abcdef), UINT64_C(0xbd8fb4502fd88043)},
        {96, UINT64_C(0x0), UINT64_C(0x243dd479bc11979c)},
        {96, UINT64_C(0x1234567890abcdef), UINT64_C(0x4d1126e3d7d39b13)},
        {97, UINT64_C(0x0), UINT64_C(0xfe77b215961ea8a5)},
        {97, UINT64_C(0x1234567890abcdef), UINT64_C(0x3a05b7574c7f4197)},
        {128, UINT64_C(0x0), UINT64_C(0x029f669052c8e696)},
        {128, UINT64_C(0x1234567890abcdef), UINT64_C(0xa92b8b5ec36e0337)},
        {300, UINT64_C(0x0), UINT64_C(0xd5f21010b1dc11f5)},
        {300, UINT64_C(0x1234567890abcdef), UINT64_C(0x7dceeeaa78f80b66)},
    };
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++)
        assert_true(sdb_hash64(bytes, golden[i].size, golden[i].seed) == golden[i].hash);
    assert_true(sdb_hash64(NULL, 0, 0) == golden[0].hash);
    assert_true(sdb_mix64(1) == UINT64_C(0x4179b061e0c0e0d0));
}

static void alignment_does_not_matter(void **state)
{
    (void)state;
    uint64_t seed = random_seed(1);
    uint8_t bytes[400];
    uint8_t copy[420];
    random_bytes(&seed, bytes, sizeof bytes);
    for (size_t size = 0; size <= 300; size++) {
        uint64_t hash = sdb_hash64(bytes, size, 5);
        for (size_t align = 1; align < 8; align++) {
            memcpy(copy + align, bytes, size);
            assert_true(sdb_hash64(copy + align, size, 5) == hash);
        }
    }
}

/* Flip one bit: each of the 64 bits of the hash turns in half of the cases. Over 400 trials the
 * share has a deviation of 2.5 %; 15 % is six of them. */
static void every_input_bit_reaches_every_output_bit(void **state)
{
    (void)state;
    enum { TRIALS = 400 };
    static const size_t sizes[] = {1, 3, 4, 7, 8, 12, 16, 17, 31, 33, 48, 65, 100};
    uint64_t seed = random_seed(2);
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t bits = 8 * sizes[s];
        for (size_t bit = 0; bit<bits; bit += bits> 200 ? 7 : 1) {
            unsigned turned[64] = {0};
            for (unsigned trial = 0; trial < TRIALS; trial++) {
                uint8_t bytes[100];
                random_bytes(&seed, bytes, sizes[s]);
                uint64_t before = sdb_hash64(bytes, sizes[s], trial);
                bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
                uint64_t changed = before ^ sdb_hash64(bytes, sizes[s], trial);
                for (unsigned out = 0; out < 64; out++)
                    turned[out] += (unsigned)(changed >> out & 1);
            }
            for (unsigned out = 0; out < 64; out++)
                assert_in_range(turned[out], TRIALS * 35 / 100, TRIALS * 65 / 100);
        }
    }
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void assert_distinct(uint64_t *hashes, size_t count)
{
    qsort(hashes, count, sizeof hashes[0], compare_u64);
    for (size_t i = 1; i < count; i++)
        assert_true(hashes[i] != hashes[i - 1]);
}

/* Keys as people make them: counters in text and binary, zeroes of all lengths, sparse bits. Among
 * 300,000 hashes of 64 bits a collision has a chance of 1 in 400 million. */
static void keys_that_look_alike_do_not_collide(void **state)
{
    (void)state;
    enum { KEYS = 100000, ZEROES = 1000 };
    size_t count = 0;
    uint64_t *hashes = malloc((3 * (size_t)KEYS + ZEROES) * sizeof *hashes);
    static uint8_t bytes[ZEROES];
    char text[40];
    assert_non_null(hashes);
    for (size_t size = 0; size < ZEROES; size++)
        hashes[count++] = sdb_hash64(bytes, size, 0);
    for (unsigned i = 0; i < KEYS; i++) {
        int size = snprintf(text, sizeof text, "%016u", i);
        hashes[count++] = sdb_hash64(text, (size_t)size, 0);
        size = snprintf(text, sizeof text, "user/%u/settings", i);
        hashes[count++] = sdb_hash64(text, (size_t)size, 0);
        uint64_t word = (uint64_t)i << 40 | 1;
        hashes[count++] = sdb_hash64(&word, sizeof word, 0);
    }
    assert_distinct(hashes, count);
    free(hashes);
}

/* Words equal to the hash's own constants must not make it forget the rest of the key. */
static void no_word_swallows_its_neighbour(void **state)
{
    (void)state;
    static const uint64_t constants[] = {UINT64_C(0x6a09e667f3bcc909),
                                         UINT64_C(0xbb67ae8584caa73b),
                                         UINT64_C(0x3c6ef372fe94f82b),
                                         UINT64_C(0xa54ff53a5f1d36f1),
                                         UINT64_C(0x510e527fade682d1),
                                         0,
                                         UINT64_MAX};
    enum { CONSTANTS = sizeof constants / sizeof constants[0], OTHERS = 500 };
    for (size_t words = 2; words <= 12; words += 2) {
        for (size_t c = 0; c < CONSTANTS; c++) {
            for (size_t at = 0; at < words; at++) {
                uint64_t hashes[OTHERS];
                for (uint64_t other = 0; other < OTHERS; other++) {
                    uint64_t key[12] = {0};
                    for (size_t i = 0; i < words; i++)
                        key[i] = constants[c];
                    key[at] = other + 1;
                    hashes[other] = sdb_hash64(key, 8 * words, 0);
                }
                assert_distinct(hashes, OTHERS);
            }
        }
    }
}

/* Sequential keys into 256 bins by the low and by the high byte: chi-squared with 255 degrees of
 * freedom is 255 +- 23; beyond 400 is out of any chance. */
static void sequential_keys_spread_evenly(void **state)
{
    (void)state;
    enum { KEYS = 65536 };
    unsigned low[256] = {0};
    unsigned high[256] = {0};
    for (uint32_t i = 0; i < KEYS; i++) {
        char text[20];
        int size = snprintf(text, sizeof text, "key%08u", i);
        uint64_t hash = sdb_hash64(text, (size_t)size, 0);
        low[hash & 0xff]++;
        high[hash >> 56]++;
    }
    double chi_low = 0;
    double chi_high = 0;
    for (size_t bin = 0; bin < 256; bin++) {
        double off_low = (double)low[bin] - KEYS / 256;
        double off_high = (double)high[bin] - KEYS / 256;
        chi_low += off_low * off_low / (KEYS / 256);
        chi_high += off_high * off_high / (KEYS / 256);
    }
    assert_true(chi_low < 400);
    assert_true(chi_high < 400);
}

static void the_seed_counts(void **state)
{
    (void)state;
    enum { SEEDS = 1000 };
    uint64_t hashes[SEEDS];
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        hashes[seed] = sdb_hash64("storm", 5, seed);
    assert_distinct(hashes, SEEDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_values_never_change),
        cmocka_unit_test(alignment_does_not_matter),
        cmocka_unit_test(every_input_bit_reaches_every_output_bit),
        cmocka_unit_test(keys_that_look_alike_do_not_collide),
        cmocka_unit_test(no_word_swallows_its_neighbour),
        cmocka_unit_test(sequential_keys_spread_evenly),
        cmocka_unit_test(the_seed_counts),
    };
    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
