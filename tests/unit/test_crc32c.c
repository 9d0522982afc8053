/* CRC-32C: the vectors of RFC 3720, and both implementations against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "random.h"
#include "util/crc32c.h"

static void check(const void *data, size_t size, uint32_t expected)
{
    assert_int_equal(sdb_crc32c(0, data, size), expected);
    assert_int_equal(sdb_crc32c_portable(0, data, size), expected);
}

static void rfc_3720_vectors_hold(void **state)
{
    (void)state;
    uint8_t bytes[32] = {0};
    check(bytes, 32, 0x8a9136aa);
    for (size_t i = 0; i < 32; i++)
        bytes[i] = 0xff;
    check(bytes, 32, 0x62a8ab43);
    for (size_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    check(bytes, 32, 0x46dd794e);
    for (size_t i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    check(bytes, 32, 0x113fdb5c);

    static const uint8_t pdu[48] = {0x01, 0xc0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00,
                                    0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00,
                                    0x00, 0x18, 0x28, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                    0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
    check(pdu, sizeof pdu, 0xd9963a56);
    check("123456789", 9, 0xe3069283);
    check(NULL, 0, 0);
}

static void every_length_and_alignment_agrees(void **state)
{
    (void)state;
    uint64_t seed = random_seed(1);
    static uint8_t bytes[320];
    random_bytes(&seed, bytes, sizeof bytes);
    for (size_t align = 0; align < 16; align++) {
        for (size_t size = 0; size <= 300; size++) {
            uint32_t before = (uint32_t)random_u64(&seed);
            assert_int_equal(sdb_crc32c(before, bytes + align, size),
                             sdb_crc32c_portable(before, bytes + align, size));
        }
    }
}

/* The three-lane path begins at 1,008 bytes: all lengths around one, two and four rounds of it. */
static void long_input_agrees(void **state)
{
    (void)state;
    uint64_t seed = random_seed(2);
    static uint8_t bytes[5000];
    random_bytes(&seed, bytes, sizeof bytes);
    static const size_t sizes[] = {1000, 2010, 4030, 4090};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t size = sizes[i]; size < sizes[i] + 20; size++) {
            for (size_t align = 0; align < 9; align++) {
                uint32_t before = (uint32_t)random_u64(&seed);
                assert_int_equal(sdb_crc32c(before, bytes + align, size),
                                 sdb_crc32c_portable(before, bytes + align, size));
            }
        }
    }
}

static void parts_add_up_to_the_whole(void **state)
{
    (void)state;
    uint64_t seed = random_seed(3);
    static uint8_t bytes[3000];
    random_bytes(&seed, bytes, sizeof bytes);
    uint32_t whole = sdb_crc32c(0, bytes, sizeof bytes);
    for (int i = 0; i < 500; i++) {
        size_t cut = random_below(&seed, sizeof bytes + 1);
        uint32_t first = sdb_crc32c(0, bytes, cut);
        assert_int_equal(sdb_crc32c(first, bytes + cut, sizeof bytes - cut), whole);
    }
}

static void every_single_bit_counts(void **state)
{
    (void)state;
    static uint8_t bytes[1100];
    uint32_t clean = sdb_crc32c(0, bytes, sizeof bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(sdb_crc32c(0, bytes, sizeof bytes), clean);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc_3720_vectors_hold),
        cmocka_unit_test(every_length_and_alignment_agrees),
        cmocka_unit_test(long_input_agrees),
        cmocka_unit_test(parts_add_up_to_the_whole),
        cmocka_unit_test(every_single_bit_counts),
    };
    return cmocka_run_group_tests_name("crc32c", tests, NULL, NULL);
}
