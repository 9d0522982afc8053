/*
 * Any bytes as a compressed body: how they are cut into pieces must not matter, and no more comes
 * out than is wanted. The same bytes compressed and decompressed must be themselves; and as
 * Accept-Encoding they must do no harm. The first byte says how long the pieces are.
 */
#include <stdlib.h>
#include <string.h>

#include "gzip.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WANTED_MAX = 1 << 18 };

static void require(bool holds)
{
    if (!holds)
        abort();
}

struct output {
    uint8_t *bytes;
    size_t size;
};

static bool take(void *ctx, const void *data, size_t size)
{
    struct output *output = ctx;
    require(size > 0);
    if (size > WANTED_MAX - output->size)
        return false;
    memcpy(output->bytes + output->size, data, size);
    output->size += size;
    return true;
}

/* Decompress in pieces of that size. */
static enum api_gunzip_status gunzip(struct storm_slice bytes, size_t piece, struct output *output,
                                     bool *is_whole)
{
    enum api_gunzip_status status = API_GUNZIP_OK;
    struct api_gunzip *gunzip = api_gunzip_create();
    require(gunzip != NULL);
    output->bytes = malloc(WANTED_MAX);
    output->size = 0;
    require(output->bytes != NULL);
    while (bytes.size > 0 && status == API_GUNZIP_OK) {
        size_t part = piece < bytes.size ? piece : bytes.size;
        status = api_gunzip_feed(gunzip, storm_bytes(bytes.data, part), take, output);
        bytes = storm_bytes(bytes.data + part, bytes.size - part);
    }
    *is_whole = api_gunzip_is_whole(gunzip);
    api_gunzip_destroy(gunzip);
    return status;
}

static void both_ways(struct storm_slice bytes)
{
    struct api_text packed;
    struct output output;
    bool is_whole;
    api_text_init(&packed, bytes.size + bytes.size / 1024 + 1024);
    api_gzip(bytes, &packed);
    require(!packed.has_failed);
    enum api_gunzip_status status =
        gunzip(storm_bytes(packed.data, packed.size), packed.size, &output, &is_whole);
    require(status == API_GUNZIP_STOPPED ||
            (status == API_GUNZIP_OK && is_whole && output.size == bytes.size &&
             (bytes.size == 0 || memcmp(output.bytes, bytes.data, bytes.size) == 0)));
    free(output.bytes);
    api_text_fini(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct storm_slice bytes = storm_bytes(data + 1, size - 1);
    struct output whole;
    struct output cut;
    bool is_whole;
    bool is_cut_whole;
    enum api_gunzip_status status = gunzip(bytes, size, &whole, &is_whole);
    enum api_gunzip_status cut_status = gunzip(bytes, data[0] % 16 + 1, &cut, &is_cut_whole);
    require(status == cut_status && is_whole == is_cut_whole);
    require(status != API_GUNZIP_OK ||
            (whole.size == cut.size && memcmp(whole.bytes, cut.bytes, cut.size) == 0));
    free(whole.bytes);
    free(cut.bytes);
    both_ways(bytes);
    (void)api_accepts_gzip(bytes);
    (void)api_is_compressible(bytes);
    return 0;
}
