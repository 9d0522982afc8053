/*
 * Codecs, each behind the same two functions.
 *
 * Setting up a deflate state costs 268 KB of memory and a Zstandard one more, against 50 us to
 * compress a block of 4 KB, so states are reused: an encoder belongs to one table builder. Decoding
 * happens on any thread of the host program, and a thread-local state would have to be given back
 * when a thread of somebody else ends. Idle decoders therefore wait in a few global slots. A thread
 * takes one with an atomic exchange, which makes it the owner, and puts it back the same way;
 * if all slots are full it is freed. The exchange is acquire on taking and release on putting, so
 * that the state written by the last owner is seen by the next.
 *
 * Levels: 0 is zlib's 6, LZ4's fast mode, Zstandard's 3. LZ4 from 3 up is its high-compression
 * mode.
 */
#include "lsm/table/codec.h"

#include <lz4.h>
#include <lz4hc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

/* zlib and LZ4 take int and unsigned sizes; blocks are below 2^30 + 2^20. */
#define INPUT_MAX ((size_t)INT32_MAX / 2 + (1u << 21))

static const char *const names[] = {"none", "deflate", "lz4", "zstd"};
enum { CODECS = sizeof names / sizeof names[0] };

const char *sdb_codec_name(unsigned codec)
{
    return codec < CODECS ? names[codec] : NULL;
}

bool sdb_codec_level_ok(unsigned codec, int level)
{
    static const int highest[CODECS] = {0, 9, LZ4HC_CLEVEL_MAX, 19};
    return level == 0 || (codec < CODECS && level > 0 && level <= highest[codec]);
}

/* ---- Encoding -------------------------------------------------------------------------------- */

struct sdb_encoder {
    enum storm_codec codec;
    int level;
    z_stream deflate;
    bool has_deflate;
    ZSTD_CCtx *zstd;
    void *lz4;
};

static bool encoder_init(struct sdb_encoder *encoder)
{
    switch (encoder->codec) {
    case STORM_CODEC_DEFLATE: {
        int level = encoder->level == 0 ? 6 : encoder->level;
        encoder->has_deflate = deflateInit2(&encoder->deflate, level, Z_DEFLATED, -MAX_WBITS, 8,
                                            Z_DEFAULT_STRATEGY) == Z_OK;
        return encoder->has_deflate;
    }
    case STORM_CODEC_LZ4: {
        int size = encoder->level >= LZ4HC_CLEVEL_MIN ? LZ4_sizeofStateHC() : LZ4_sizeofState();
        encoder->lz4 = malloc((size_t)size);
        return encoder->lz4 != NULL;
    }
    case STORM_CODEC_ZSTD:
        encoder->zstd = ZSTD_createCCtx();
        return encoder->zstd != NULL;
    case STORM_CODEC_NONE:
        break;
    }
    return false;
}

struct sdb_encoder *sdb_encoder_create(enum storm_codec codec, int level)
{
    struct sdb_encoder *encoder = calloc(1, sizeof *encoder);
    if (encoder == NULL)
        return NULL;
    encoder->codec = codec;
    encoder->level = level;
    if (!encoder_init(encoder)) {
        sdb_encoder_destroy(encoder);
        return NULL;
    }
    return encoder;
}

void sdb_encoder_destroy(struct sdb_encoder *encoder)
{
    if (encoder == NULL)
        return;
    if (encoder->has_deflate)
        deflateEnd(&encoder->deflate);
    ZSTD_freeCCtx(encoder->zstd);
    free(encoder->lz4);
    free(encoder);
}

static size_t run_deflate(z_stream *stream, struct storm_slice in, uint8_t *out, size_t room)
{
    if (deflateReset(stream) != Z_OK)
        return 0;
    stream->next_in = (Bytef *)(uintptr_t)in.data;
    stream->avail_in = (uInt)in.size;
    stream->next_out = out;
    stream->avail_out = (uInt)room;
    if (deflate(stream, Z_FINISH) != Z_STREAM_END)
        return 0;
    return room - stream->avail_out;
}

static size_t run_lz4(struct sdb_encoder *encoder, struct storm_slice in, uint8_t *out, size_t room)
{
    const char *from = (const char *)in.data;
    int size;
    if (encoder->level >= LZ4HC_CLEVEL_MIN)
        size = LZ4_compress_HC_extStateHC(encoder->lz4, from, (char *)out, (int)in.size, (int)room,
                                          encoder->level);
    else
        size =
            LZ4_compress_fast_extState(encoder->lz4, from, (char *)out, (int)in.size, (int)room, 1);
    return size > 0 ? (size_t)size : 0;
}

size_t sdb_encoder_run(struct sdb_encoder *encoder, struct storm_slice in, uint8_t *out,
                       size_t room)
{
    if (in.size == 0 || in.size > INPUT_MAX || room == 0)
        return 0;
    if (room > in.size)
        room = in.size;
    if (encoder->codec == STORM_CODEC_DEFLATE)
        return run_deflate(&encoder->deflate, in, out, room);
    if (encoder->codec == STORM_CODEC_LZ4)
        return run_lz4(encoder, in, out, room);
    int level = encoder->level == 0 ? ZSTD_CLEVEL_DEFAULT : encoder->level;
    size_t size = ZSTD_compressCCtx(encoder->zstd, out, room, in.data, in.size, level);
    return ZSTD_isError(size) ? 0 : size;
}

/* ---- Decoding -------------------------------------------------------------------------------- */

struct decoder {
    z_stream inflate;
    bool has_inflate;
    ZSTD_DCtx *zstd;
};

enum { IDLE_DECODERS = 16 };
static _Atomic(struct decoder *) idle[IDLE_DECODERS];

static void decoder_free(struct decoder *decoder)
{
    if (decoder == NULL)
        return;
    if (decoder->has_inflate)
        inflateEnd(&decoder->inflate);
    ZSTD_freeDCtx(decoder->zstd);
    free(decoder);
}

static struct decoder *decoder_take(void)
{
    for (unsigned i = 0; i < IDLE_DECODERS; i++) {
        if (atomic_load_explicit(&idle[i], memory_order_relaxed) == NULL)
            continue;
        struct decoder *decoder = atomic_exchange_explicit(&idle[i], NULL, memory_order_acquire);
        if (decoder != NULL)
            return decoder;
    }
    return calloc(1, sizeof(struct decoder));
}

static void decoder_put(struct decoder *decoder)
{
    for (unsigned i = 0; i < IDLE_DECODERS; i++) {
        struct decoder *none = NULL;
        if (atomic_compare_exchange_strong_explicit(&idle[i], &none, decoder, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    decoder_free(decoder);
}

/* When the library is unloaded, or the process ends. */
__attribute__((destructor)) static void free_idle_decoders(void)
{
    for (unsigned i = 0; i < IDLE_DECODERS; i++)
        decoder_free(atomic_exchange_explicit(&idle[i], NULL, memory_order_acquire));
}

static storm_status decode_deflate(struct decoder *decoder, struct storm_slice in, uint8_t *out,
                                   size_t size)
{
    z_stream *stream = &decoder->inflate;
    if (!decoder->has_inflate) {
        decoder->has_inflate = inflateInit2(stream, -MAX_WBITS) == Z_OK;
        if (!decoder->has_inflate)
            return STORM_NO_MEMORY;
    } else if (inflateReset(stream) != Z_OK) {
        return STORM_CORRUPT;
    }
    stream->next_in = (Bytef *)(uintptr_t)in.data;
    stream->avail_in = (uInt)in.size;
    stream->next_out = out;
    stream->avail_out = (uInt)size;
    int result = inflate(stream, Z_FINISH);
    if (result == Z_MEM_ERROR)
        return STORM_NO_MEMORY;
    bool exact = result == Z_STREAM_END && stream->avail_in == 0 && stream->avail_out == 0;
    return exact ? STORM_OK : STORM_CORRUPT;
}

static storm_status decode_zstd(struct decoder *decoder, struct storm_slice in, uint8_t *out,
                                size_t size)
{
    if (decoder->zstd == NULL) {
        decoder->zstd = ZSTD_createDCtx();
        if (decoder->zstd == NULL)
            return STORM_NO_MEMORY;
    }
    size_t got = ZSTD_decompressDCtx(decoder->zstd, out, size, in.data, in.size);
    return got == size ? STORM_OK : STORM_CORRUPT;
}

bool sdb_codec_plausible(unsigned codec, struct storm_slice in, size_t size)
{
    switch (codec) {
    case STORM_CODEC_NONE:
        return size == in.size;
    case STORM_CODEC_DEFLATE: /* two bits give 258 bytes at best */
        return size / 1032 <= in.size;
    case STORM_CODEC_LZ4: /* one byte of a length gives 255 bytes at best */
        return size / 255 <= in.size;
    case STORM_CODEC_ZSTD: /* a block of four bytes gives 128 KiB at best */
        return size / 32768 <= in.size && ZSTD_getFrameContentSize(in.data, in.size) == size;
    default:
        return true;
    }
}

storm_status sdb_codec_decode(unsigned codec, struct storm_slice in, uint8_t *out, size_t size)
{
    if (codec >= CODECS)
        return STORM_UNSUPPORTED;
    if (in.size == 0 || in.size > INPUT_MAX || size > INPUT_MAX)
        return STORM_CORRUPT;
    if (codec == STORM_CODEC_NONE) {
        if (in.size != size)
            return STORM_CORRUPT;
        memcpy(out, in.data, size);
        return STORM_OK;
    }
    if (codec == STORM_CODEC_LZ4) {
        int got = LZ4_decompress_safe((const char *)in.data, (char *)out, (int)in.size, (int)size);
        return got >= 0 && (size_t)got == size ? STORM_OK : STORM_CORRUPT;
    }
    struct decoder *decoder = decoder_take();
    if (decoder == NULL)
        return STORM_NO_MEMORY;
    storm_status status = codec == STORM_CODEC_DEFLATE ? decode_deflate(decoder, in, out, size)
                                                       : decode_zstd(decoder, in, out, size);
    decoder_put(decoder);
    return status;
}
