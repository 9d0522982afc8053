/*
 * gzip by zlib. See gzip.h.
 *
 * Answers are compressed at level 1: on JSON it makes nearly what level 6 does of it at three times
 * the speed, and an HTTP thread waits for it. The header that zlib writes has no time and no name,
 * so the same value is always the same bytes, as its strong ETag "42-gz" promises.
 *
 * A body is decompressed piece by piece as it arrives, so a bomb costs no more than the limit that
 * it hits. Bytes behind the end of a stream begin another one.
 */
#include "gzip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "fields.h"

enum {
    LEVEL = 1,
    /* 15 bits of window, and 16 for the gzip header. */
    WINDOW_BITS = 15 + 16,
    MEMORY_LEVEL = 8,
    PIECE = 16 << 10,
    PIECE_MAX = 1 << 30,
};

/* ---- What to compress ---- */

/* A weight in thousandths: "0.25" is 250. What is no weight counts as 1000, as if it were not
 * there. */
static unsigned weight_of(struct storm_slice text)
{
    unsigned weight = 0;
    if (text.size == 0 || text.size > 5 || (text.data[0] != '0' && text.data[0] != '1') ||
        (text.size > 1 && text.data[1] != '.'))
        return 1000;
    if (text.data[0] == '1')
        return 1000;
    for (size_t i = 2; i < 5; i++) {
        uint8_t byte = i < text.size ? text.data[i] : '0';
        if (byte < '0' || byte > '9')
            return 1000;
        weight = weight * 10 + (unsigned)(byte - '0');
    }
    return weight;
}

bool api_accepts_gzip(struct storm_slice field)
{
    enum { UNSET = 2000 };
    unsigned gzip = UNSET;
    unsigned any = UNSET;
    unsigned identity = UNSET;
    while (field.size > 0) {
        struct storm_slice rest = api_take_until(&field, ',');
        struct storm_slice coding = api_take_until(&rest, ';');
        unsigned weight = 1000;
        rest = api_trim(rest);
        if (rest.size >= 2 && (rest.data[0] | 0x20) == 'q' && rest.data[1] == '=')
            weight = weight_of(storm_bytes(rest.data + 2, rest.size - 2));
        if (api_equals_nocase(coding, "gzip") || api_equals_nocase(coding, "x-gzip"))
            gzip = weight;
        else if (api_equals(coding, "*"))
            any = weight;
        else if (api_equals_nocase(coding, "identity"))
            identity = weight;
    }
    if (gzip == UNSET)
        gzip = any == UNSET ? 0 : any;
    /* Not named, the bytes as they are do for anyone but are not asked for. */
    return gzip > 0 && (identity == UNSET || gzip >= identity);
}

bool api_is_compressible(struct storm_slice type)
{
    if (api_media_is_json(type))
        return true;
    struct storm_slice rest = type;
    struct storm_slice essence = api_take_until(&rest, ';');
    struct storm_slice top = essence;
    if (api_equals_nocase(api_take_until(&top, '/'), "text"))
        return true;
    static const char *const names[] = {"application/xml", "application/javascript",
                                        "application/yaml", "application/x-ndjson",
                                        "image/svg+xml"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (api_equals_nocase(essence, names[i]))
            return true;
    }
    return essence.size > 4 &&
           api_equals_nocase(storm_bytes(essence.data + essence.size - 4, 4), "+xml");
}

/* ---- Out ---- */

struct api_gzip_pieces {
    z_stream stream;
    bool is_over;
};

static bool begin(struct api_gzip_pieces *pieces)
{
    *pieces = (struct api_gzip_pieces){.is_over = false};
    return deflateInit2(&pieces->stream, LEVEL, Z_DEFLATED, WINDOW_BITS, MEMORY_LEVEL,
                        Z_DEFAULT_STRATEGY) == Z_OK;
}

struct api_gzip_pieces *api_gzip_pieces_create(void)
{
    struct api_gzip_pieces *pieces = malloc(sizeof *pieces);
    if (pieces != NULL && !begin(pieces)) {
        free(pieces);
        return NULL;
    }
    return pieces;
}

void api_gzip_pieces_destroy(struct api_gzip_pieces *pieces)
{
    deflateEnd(&pieces->stream);
    free(pieces);
}

ssize_t api_gzip_next(struct api_gzip_pieces *pieces, struct storm_slice *left, void *out,
                      size_t room)
{
    z_stream *stream = &pieces->stream;
    /* zlib counts in 32 bits; and it swallows much before the first byte comes out. */
    size_t wanted = room < PIECE_MAX ? room : PIECE_MAX;
    stream->next_out = out;
    stream->avail_out = (uInt)wanted;
    while (stream->avail_out > 0 && !pieces->is_over) {
        size_t part = left->size < PIECE_MAX ? left->size : PIECE_MAX;
        stream->next_in = (Bytef *)left->data;
        stream->avail_in = (uInt)part;
        pieces->is_over =
            deflate(stream, part == left->size ? Z_FINISH : Z_NO_FLUSH) == Z_STREAM_END;
        size_t taken = part - stream->avail_in;
        *left = storm_bytes(left->data + taken, left->size - taken);
    }
    return (ssize_t)(wanted - stream->avail_out);
}

void api_gzip(struct storm_slice bytes, struct api_text *text)
{
    struct api_gzip_pieces pieces;
    if (!begin(&pieces)) {
        text->has_failed = true;
        return;
    }
    uint8_t piece[PIECE];
    while (!pieces.is_over && !text->has_failed) {
        ssize_t size = api_gzip_next(&pieces, &bytes, piece, sizeof piece);
        api_text_add(text, piece, (size_t)size);
    }
    deflateEnd(&pieces.stream);
}

/* ---- In ---- */

struct api_gunzip {
    z_stream stream;
    bool is_at_end; /* of a stream */
    uint8_t piece[PIECE];
};

struct api_gunzip *api_gunzip_create(void)
{
    struct api_gunzip *gunzip = calloc(1, sizeof *gunzip);
    if (gunzip != NULL && inflateInit2(&gunzip->stream, WINDOW_BITS) != Z_OK) {
        free(gunzip);
        return NULL;
    }
    return gunzip;
}

void api_gunzip_destroy(struct api_gunzip *gunzip)
{
    if (gunzip == NULL)
        return;
    inflateEnd(&gunzip->stream);
    free(gunzip);
}

bool api_gunzip_is_whole(const struct api_gunzip *gunzip)
{
    return gunzip->is_at_end;
}

/* One call of zlib and what came out of it. */
static enum api_gunzip_status inflate_piece(struct api_gunzip *gunzip,
                                            bool (*take)(void *ctx, const void *data, size_t size),
                                            void *ctx)
{
    z_stream *stream = &gunzip->stream;
    if (gunzip->is_at_end && inflateReset(stream) != Z_OK)
        return API_GUNZIP_CORRUPT;
    gunzip->is_at_end = false;
    stream->next_out = gunzip->piece;
    stream->avail_out = PIECE;
    int result = inflate(stream, Z_NO_FLUSH);
    size_t size = PIECE - stream->avail_out;
    if (size > 0 && !take(ctx, gunzip->piece, size))
        return API_GUNZIP_STOPPED;
    gunzip->is_at_end = result == Z_STREAM_END;
    if (result == Z_MEM_ERROR)
        return API_GUNZIP_NO_MEMORY;
    /* Z_BUF_ERROR: it needs more input, and there is none just now. */
    return result == Z_OK || result == Z_STREAM_END || result == Z_BUF_ERROR ? API_GUNZIP_OK
                                                                             : API_GUNZIP_CORRUPT;
}

enum api_gunzip_status api_gunzip_feed(struct api_gunzip *gunzip, struct storm_slice bytes,
                                       bool (*take)(void *ctx, const void *data, size_t size),
                                       void *ctx)
{
    z_stream *stream = &gunzip->stream;
    enum api_gunzip_status status = API_GUNZIP_OK;
    stream->next_in = (Bytef *)bytes.data;
    stream->avail_in = (uInt)bytes.size;
    /* Output may be left inside zlib as long as it fills the whole piece. */
    bool is_full = false;
    while (status == API_GUNZIP_OK && (stream->avail_in > 0 || is_full)) {
        status = inflate_piece(gunzip, take, ctx);
        is_full = stream->avail_out == 0 && !gunzip->is_at_end;
    }
    return status;
}
