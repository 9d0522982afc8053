/*
 * Codecs: what goes in comes out, what does not fit says so, and nonsense is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "alloc_fail.h"
#include "lsm/table/codec.h"
#include "random.h"

static uint64_t seed;

static const struct {
    enum storm_codec codec;
    int level;
} all[] = {
    {STORM_CODEC_DEFLATE, 0}, {STORM_CODEC_DEFLATE, 1}, {STORM_CODEC_DEFLATE, 9},
    {STORM_CODEC_LZ4, 0},     {STORM_CODEC_LZ4, 9},     {STORM_CODEC_ZSTD, 0},
    {STORM_CODEC_ZSTD, 1},    {STORM_CODEC_ZSTD, 9},
};
enum { ALL = sizeof all / sizeof all[0], LARGEST = 1 << 20 };

/* Text-like bytes: runs of repeated pieces between random ones. */
static void fill_half(uint64_t *state, uint8_t *to, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bool repeats = i >= 64 && i / 64 % 2 == 1;
        to[i] = repeats ? to[i - 64] : (uint8_t)random_u64(state);
    }
}

static void what_is_compressed_comes_back(void **unused)
{
    (void)unused;
    static const size_t sizes[] = {1, 2, 15, 100, 4096, 4101, 65536, LARGEST};
    uint8_t *in = malloc(LARGEST);
    uint8_t *packed = malloc(LARGEST);
    uint8_t *out = malloc(LARGEST);
    fill_half(&seed, in, LARGEST);
    for (size_t c = 0; c < ALL; c++) {
        struct sdb_encoder *encoder = sdb_encoder_create(all[c].codec, all[c].level);
        assert_non_null(encoder);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct storm_slice bytes = storm_bytes(in, sizes[i]);
            size_t size = sdb_encoder_run(encoder, bytes, packed, sizes[i]);
            if (sizes[i] >= 4096)
                assert_true(size > 0 && size < sizes[i]);
            if (size == 0)
                continue;
            struct storm_slice got = storm_bytes(packed, size);
            assert_true(sdb_codec_plausible(all[c].codec, got, sizes[i]));
            assert_int_equal(sdb_codec_decode(all[c].codec, got, out, sizes[i]), STORM_OK);
            assert_memory_equal(in, out, sizes[i]);
            assert_int_equal(sdb_codec_decode(all[c].codec, got, out, sizes[i] - 1), STORM_CORRUPT);
            assert_int_equal(sdb_codec_decode(all[c].codec, got, out, sizes[i] + 1), STORM_CORRUPT);
        }
        sdb_encoder_destroy(encoder);
    }
    free(in);
    free(packed);
    free(out);
}

static void incompressible_bytes_do_not_fit_into_seven_eighths(void **unused)
{
    (void)unused;
    uint8_t in[4096];
    uint8_t out[4096];
    random_bytes(&seed, in, sizeof in);
    for (size_t c = 0; c < ALL; c++) {
        struct sdb_encoder *encoder = sdb_encoder_create(all[c].codec, all[c].level);
        assert_int_equal(sdb_encoder_run(encoder, storm_bytes(in, sizeof in), out, 4096 * 7 / 8),
                         0);
        /* and the state is good for the next block */
        memset(out, 'x', sizeof out);
        uint8_t packed[4096];
        size_t size = sdb_encoder_run(encoder, storm_bytes(out, sizeof out), packed, 3584);
        assert_true(size > 0 && size < 200);
        sdb_encoder_destroy(encoder);
    }
}

static void nonsense_is_corrupt(void **unused)
{
    (void)unused;
    uint8_t junk[300];
    uint8_t out[1000];
    for (int round = 0; round < 2000; round++) {
        random_bytes(&seed, junk, sizeof junk);
        size_t size = (size_t)random_below(&seed, sizeof junk);
        for (unsigned codec = 1; codec <= 3; codec++) {
            storm_status status = sdb_codec_decode(codec, storm_bytes(junk, size), out, sizeof out);
            assert_int_equal(status, STORM_CORRUPT);
        }
    }
}

static void sizes_that_no_stream_can_yield_are_not_plausible(void **unused)
{
    (void)unused;
    uint8_t in[100] = {0};
    struct storm_slice bytes = storm_bytes(in, sizeof in);
    for (unsigned codec = 0; codec <= 3; codec++)
        assert_false(sdb_codec_plausible(codec, bytes, (size_t)1 << 30));
    assert_false(sdb_codec_plausible(STORM_CODEC_NONE, bytes, 99));
    assert_true(sdb_codec_plausible(STORM_CODEC_NONE, bytes, 100));
}

static void codecs_and_levels_have_their_ranges(void **unused)
{
    (void)unused;
    assert_string_equal(sdb_codec_name(0), "none");
    assert_string_equal(sdb_codec_name(1), "deflate");
    assert_string_equal(sdb_codec_name(2), "lz4");
    assert_string_equal(sdb_codec_name(3), "zstd");
    assert_null(sdb_codec_name(4));
    assert_true(sdb_codec_level_ok(1, 9));
    assert_false(sdb_codec_level_ok(1, 10));
    assert_false(sdb_codec_level_ok(1, -1));
    assert_false(sdb_codec_level_ok(0, 1));
    assert_true(sdb_codec_level_ok(2, 12));
    assert_false(sdb_codec_level_ok(2, 13));
    assert_true(sdb_codec_level_ok(3, 19));
    assert_false(sdb_codec_level_ok(3, 20));
    uint8_t byte = 0;
    assert_int_equal(sdb_codec_decode(4, storm_bytes(&byte, 1), &byte, 1), STORM_UNSUPPORTED);
    assert_int_equal(sdb_codec_decode(0, storm_bytes(&byte, 1), &byte, 1), STORM_OK);
    assert_int_equal(sdb_codec_decode(0, storm_bytes(&byte, 1), &byte, 2), STORM_CORRUPT);
}

static void memory_failures_are_reported(void **unused)
{
    (void)unused;
    for (size_t c = 0; c < ALL; c++) {
        uint64_t nth = 0;
        do {
            alloc_fail_at(++nth, false);
            struct sdb_encoder *encoder = sdb_encoder_create(all[c].codec, all[c].level);
            alloc_fail_at(0, false);
            assert_int_equal(encoder == NULL, alloc_failures() > 0);
            sdb_encoder_destroy(encoder);
        } while (alloc_failures() > 0);
    }
}

int main(void)
{
    seed = random_seed(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_compressed_comes_back),
        cmocka_unit_test(incompressible_bytes_do_not_fit_into_seven_eighths),
        cmocka_unit_test(nonsense_is_corrupt),
        cmocka_unit_test(sizes_that_no_stream_can_yield_are_not_plausible),
        cmocka_unit_test(codecs_and_levels_have_their_ranges),
        cmocka_unit_test(memory_failures_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
