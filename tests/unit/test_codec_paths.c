/*
 * Codecs when zlib and Zstandard have no memory or do not want: their functions are the libraries'
 * but for the answers that a test asks for (linked with --wrap=deflateInit2_ --wrap=deflateReset
 * --wrap=inflateInit2_ --wrap=inflateReset --wrap=inflate --wrap=ZSTD_createCCtx
 * --wrap=ZSTD_createDCtx). What they allocate inside cannot be made to fail otherwise.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "alloc_fail.h"
#include "lsm/table/codec.h"

/* The next call of it fails; 0 = none. */
static enum {
    NONE,
    DEFLATE_INIT,
    DEFLATE_RESET,
    INFLATE_INIT,
    INFLATE_RESET,
    INFLATE,
    CCTX,
    DCTX
} failing;

static bool fails(unsigned call)
{
    bool is_it = failing == call;
    if (is_it)
        failing = NONE;
    return is_it;
}

int __real_deflateInit2_(z_streamp stream, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size);
int __wrap_deflateInit2_(z_streamp stream, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size);
int __wrap_deflateInit2_(z_streamp stream, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size)
{
    return fails(DEFLATE_INIT)
               ? Z_MEM_ERROR
               : __real_deflateInit2_(stream, level, method, bits, memory, strategy, version, size);
}

int __real_deflateReset(z_streamp stream);
int __wrap_deflateReset(z_streamp stream);
int __wrap_deflateReset(z_streamp stream)
{
    return fails(DEFLATE_RESET) ? Z_STREAM_ERROR : __real_deflateReset(stream);
}

int __real_inflateInit2_(z_streamp stream, int bits, const char *version, int size);
int __wrap_inflateInit2_(z_streamp stream, int bits, const char *version, int size);
int __wrap_inflateInit2_(z_streamp stream, int bits, const char *version, int size)
{
    return fails(INFLATE_INIT) ? Z_MEM_ERROR : __real_inflateInit2_(stream, bits, version, size);
}

int __real_inflateReset(z_streamp stream);
int __wrap_inflateReset(z_streamp stream);
int __wrap_inflateReset(z_streamp stream)
{
    return fails(INFLATE_RESET) ? Z_STREAM_ERROR : __real_inflateReset(stream);
}

int __real_inflate(z_streamp stream, int flush);
int __wrap_inflate(z_streamp stream, int flush);
int __wrap_inflate(z_streamp stream, int flush)
{
    return fails(INFLATE) ? Z_MEM_ERROR : __real_inflate(stream, flush);
}

ZSTD_CCtx *__real_ZSTD_createCCtx(void);
ZSTD_CCtx *__wrap_ZSTD_createCCtx(void);
ZSTD_CCtx *__wrap_ZSTD_createCCtx(void)
{
    return fails(CCTX) ? NULL : __real_ZSTD_createCCtx();
}

ZSTD_DCtx *__real_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void)
{
    return fails(DCTX) ? NULL : __real_ZSTD_createDCtx();
}

/* ---- The tests ------------------------------------------------------------------------------- */

static const uint8_t text[400] = "the same words, and the same words, and the same words again";
static uint8_t packed[400];

static size_t encode(enum storm_codec codec)
{
    struct sdb_encoder *encoder = sdb_encoder_create(codec, 0);
    assert_non_null(encoder);
    size_t size = sdb_encoder_run(encoder, storm_bytes(text, sizeof text), packed, sizeof packed);
    sdb_encoder_destroy(encoder);
    return size;
}

static storm_status decode(enum storm_codec codec, size_t size)
{
    uint8_t back[sizeof text];
    storm_status status = sdb_codec_decode(codec, storm_bytes(packed, size), back, sizeof back);
    if (status == STORM_OK)
        assert_memory_equal(back, text, sizeof text);
    return status;
}

static void an_encoder_without_memory_is_none(void **state)
{
    (void)state;
    failing = DEFLATE_INIT;
    assert_null(sdb_encoder_create(STORM_CODEC_DEFLATE, 0));
    failing = CCTX;
    assert_null(sdb_encoder_create(STORM_CODEC_ZSTD, 0));
    assert_null(sdb_encoder_create(STORM_CODEC_NONE, 0));
}

static void a_block_that_cannot_be_compressed_is_stored_raw(void **state)
{
    (void)state;
    failing = DEFLATE_RESET;
    assert_int_equal(encode(STORM_CODEC_DEFLATE), 0);
    assert_true(encode(STORM_CODEC_DEFLATE) > 0);
}

/* Decoders are kept for the next one who needs one: what a failure leaves must be as good as
 * new. */
static void a_decoder_that_failed_works_the_next_time(void **state)
{
    static const struct {
        enum storm_codec codec;
        unsigned call;
        storm_status status;
    } cases[] = {
        {STORM_CODEC_DEFLATE, INFLATE, STORM_NO_MEMORY},
        {STORM_CODEC_DEFLATE, INFLATE_RESET, STORM_CORRUPT},
        {STORM_CODEC_ZSTD, DCTX, STORM_NO_MEMORY},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size = encode(cases[i].codec);
        failing = cases[i].call;
        assert_int_equal(decode(cases[i].codec, size), cases[i].status);
        assert_int_equal(failing, NONE);
        assert_int_equal(decode(cases[i].codec, size), STORM_OK);
    }
}

/* No test before this one has left an idle decoder behind. */
static void no_memory_for_a_decoder_is_told(void **state)
{
    (void)state;
    size_t size = encode(STORM_CODEC_DEFLATE);
    alloc_fail_at(1, false);
    assert_int_equal(decode(STORM_CODEC_DEFLATE, size), STORM_NO_MEMORY);
    alloc_fail_at(0, false);
    failing = INFLATE_INIT;
    assert_int_equal(decode(STORM_CODEC_DEFLATE, size), STORM_NO_MEMORY);
    assert_int_equal(failing, NONE);
    assert_int_equal(decode(STORM_CODEC_DEFLATE, size), STORM_OK);
}

static void a_codec_of_a_later_release_may_be_as_good_as_it_likes(void **state)
{
    (void)state;
    assert_true(sdb_codec_plausible(200, storm_bytes(text, 1), (size_t)1 << 29));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_memory_for_a_decoder_is_told),
        cmocka_unit_test(an_encoder_without_memory_is_none),
        cmocka_unit_test(a_block_that_cannot_be_compressed_is_stored_raw),
        cmocka_unit_test(a_decoder_that_failed_works_the_next_time),
        cmocka_unit_test(a_codec_of_a_later_release_may_be_as_good_as_it_likes),
    };
    return cmocka_run_group_tests_name("codec paths", tests, NULL, NULL);
}
