/*
 * Compressed answers. See response.h.
 *
 *   up to 64 KiB    compressed at once; Content-Length is known
 *   longer values   compressed while they are sent, chunked: the value stays pinned in the store, and
 *                   a piece of it at a time goes through zlib, so that neither memory nor the time
 *                   between two other requests grows with the value
 *
 * HEAD gets the same header fields as GET, since the library leaves the body out of the same
 * answer.
 */
#include <stdlib.h>

#include "gzip.h"
#include "response.h"

enum {
    AT_ONCE_MAX = 64 << 10,
    SLACK = 1024,
    BLOCK = 32 << 10,
};

/* The most that `size` bytes become: 5 bytes for each 16 KiB that cannot be compressed, and the
 * header. */
static size_t room_for(size_t size)
{
    return size + size / 1024 + SLACK;
}

struct deflating {
    struct api_gzip_pieces *pieces;
    struct storm_slice left;
    void *pin;
    void (*unpin)(void *pin);
};

static ssize_t read_piece(void *cls, uint64_t position, char *buffer, size_t room)
{
    struct deflating *deflating = cls;
    (void)position;
    ssize_t size = api_gzip_next(deflating->pieces, &deflating->left, buffer, room);
    return size > 0 ? size : MHD_CONTENT_READER_END_OF_STREAM;
}

static void end_deflating(void *cls)
{
    struct deflating *deflating = cls;
    api_gzip_pieces_destroy(deflating->pieces);
    if (deflating->unpin != NULL)
        deflating->unpin(deflating->pin);
    free(deflating);
}

static struct api_answer deflate_while_sending(unsigned status, struct api_request *request)
{
    struct api_answer failed = {NULL, status, true};
    struct storm_value *value = &request->value;
    struct deflating *deflating = calloc(1, sizeof *deflating);
    if (deflating == NULL)
        return failed;
    deflating->left = value->bytes;
    deflating->pieces = api_gzip_pieces_create();
    if (deflating->pieces == NULL) {
        free(deflating);
        return failed;
    }
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, BLOCK, read_piece, deflating, end_deflating);
    if (response == NULL) {
        end_deflating(deflating);
        return failed;
    }
    deflating->pin = value->pin;
    deflating->unpin = value->unpin;
    value->unpin = NULL;
    return (struct api_answer){response, status, false};
}

static struct api_answer deflate_at_once(unsigned status, struct storm_slice bytes)
{
    struct api_text text;
    api_text_init(&text, room_for(bytes.size));
    api_gzip(bytes, &text);
    struct MHD_Response *response =
        text.has_failed
            ? NULL
            : MHD_create_response_from_buffer(text.size, text.data, MHD_RESPMEM_MUST_FREE);
    if (response == NULL)
        api_text_fini(&text);
    return (struct api_answer){response, status, response == NULL};
}

struct api_answer api_answer_value_gzip(unsigned status, struct api_request *request)
{
    struct storm_slice bytes = request->value.bytes;
    struct api_answer answer = bytes.size <= AT_ONCE_MAX ? deflate_at_once(status, bytes)
                                                         : deflate_while_sending(status, request);
    api_answer_type(&answer, request->value.meta.type);
    return answer;
}

bool api_compress_text(const struct api_request *request, struct api_text *text)
{
    if (text->has_failed || text->size < API_GZIP_MIN ||
        !api_accepts_gzip(api_header(request, API_HEADER_ACCEPT_ENCODING)))
        return false;
    struct api_text packed;
    api_text_init(&packed, room_for(text->size));
    api_gzip(storm_bytes(text->data, text->size), &packed);
    api_text_fini(text);
    *text = packed;
    return true;
}
