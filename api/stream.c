/*
 * Answers that are made while they are sent. See stream.h.
 *
 *   produce --> piece --> (deflate --> packed) --> the library's buffer --> socket
 *
 * The library asks for bytes (read_stream) whenever the socket has taken the last ones. It gets
 * what is left of the piece at hand; when nothing is, the step that came with the piece is taken:
 * ask the producer again, wait, end, or cut.
 *
 * Waiting. The HTTP thread, which suspends the connection, and those who wake it meet over `wake`:
 *
 *   HTTP thread                              who wakes
 *   wake = AWAKE
 *   produce says WAIT
 *   suspend the connection
 *   AWAKE -> PARKED, or else                 was = exchange(WOKEN)
 *   it is WOKEN: resume it ourselves         was PARKED? resume it
 *
 * Only the one that changes PARKED into WOKEN resumes, and while it is on its way to do so the
 * connection stays suspended, so it cannot go away. The compare-and-exchange (and not an exchange,
 * which would show PARKED to a second waker for a moment) keeps it at one. acq_rel on both makes
 * what was done before the wake visible to `produce`.
 *
 * What is handed out is watched: a client that does not take it in time is cut off (watch.c).
 *
 * Lock rule: server->mu guards the list of streams, in which one stands from its begin until it is
 * freed. It is held while api_stream_end_all wakes them, which takes a lock of the library inside.
 */
#include "stream.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "moment.h"

enum { WAKE_AWAKE, WAKE_PARKED, WAKE_WOKEN };

enum {
    /* Chunks are made in the library's own buffer; HTTP/1.0 has none and needs one that is ours. */
    CHUNKED_BLOCK = 16,
    PLAIN_BLOCK = 16 << 10,
    /* A buffer that grew for a long entry is not kept. */
    KEPT_ROOM_MAX = 2 * API_STREAM_PIECE,
    TEXT_SLACK = 1 << 20,
    GZIP_WINDOW = 15 + 16, /* 32 KiB, with the header of gzip */
    GZIP_MEMORY = 8,
};

struct api_stream {
    struct api_server *server;
    struct api_request *request;        /* may be gone when the stream is freed */
    struct MHD_Connection *connection;  /* const */
    struct api_stream *previous, *next; /* server->mu */
    const struct api_stream_source *source;
    void *state;
    _Atomic int wake;

    enum api_stream_next step; /* what comes when `out` has gone */
    struct api_text piece;
    struct api_text packed;
    z_stream *gzip; /* NULL = not compressed */
    size_t sent;    /* of what goes out: packed, or piece */
};

static struct api_text *going_out(struct api_stream *stream)
{
    return stream->gzip != NULL ? &stream->packed : &stream->piece;
}

/* ---- The list, and waking ---- */

static void enlist(struct api_stream *stream)
{
    struct api_server *server = stream->server;
    pthread_mutex_lock(&server->mu);
    stream->next = server->streams;
    if (stream->next != NULL)
        stream->next->previous = stream;
    server->streams = stream;
    pthread_mutex_unlock(&server->mu);
}

static void delist(struct api_stream *stream)
{
    struct api_server *server = stream->server;
    pthread_mutex_lock(&server->mu);
    if (stream->previous != NULL)
        stream->previous->next = stream->next;
    else
        server->streams = stream->next;
    if (stream->next != NULL)
        stream->next->previous = stream->previous;
    pthread_mutex_unlock(&server->mu);
}

void api_stream_wake(struct api_stream *stream)
{
    struct MHD_Connection *connection = stream->connection;
    if (atomic_exchange_explicit(&stream->wake, WAKE_WOKEN, memory_order_acq_rel) == WAKE_PARKED)
        MHD_resume_connection(connection);
}

bool api_stream_is_ending(const struct api_stream *stream)
{
    return atomic_load(&stream->server->state) == API_DRAINING;
}

void api_stream_end_all(struct api_server *server)
{
    pthread_mutex_lock(&server->mu);
    for (struct api_stream *stream = server->streams; stream != NULL; stream = stream->next)
        api_stream_wake(stream);
    pthread_mutex_unlock(&server->mu);
}

/* Suspend the connection until somebody wakes the stream. Always 0: no bytes now. */
static ssize_t park(struct api_stream *stream)
{
    int awake = WAKE_AWAKE;
    api_enter_phase(stream->request, API_PHASE_ANSWER);
    MHD_suspend_connection(stream->connection);
    if (!atomic_compare_exchange_strong_explicit(&stream->wake, &awake, WAKE_PARKED,
                                                 memory_order_acq_rel, memory_order_acquire))
        MHD_resume_connection(stream->connection);
    return 0;
}

/* ---- Pieces ---- */

static bool begin_gzip(struct api_stream *stream)
{
    stream->gzip = calloc(1, sizeof *stream->gzip);
    if (stream->gzip == NULL)
        return false;
    if (deflateInit2(stream->gzip, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY,
                     Z_DEFAULT_STRATEGY) == Z_OK)
        return true;
    free(stream->gzip);
    stream->gzip = NULL;
    return false;
}

static void end_gzip(struct api_stream *stream)
{
    if (stream->gzip != NULL)
        deflateEnd(stream->gzip);
    free(stream->gzip);
    stream->gzip = NULL;
}

/* Move the piece, compressed, to `packed`. */
static void pack(struct api_stream *stream)
{
    z_stream *gzip = stream->gzip;
    Bytef room[16 << 10];
    int flush = Z_NO_FLUSH;
    if (stream->step == API_STREAM_WAIT || stream->step == API_STREAM_CUT)
        flush = Z_SYNC_FLUSH;
    else if (stream->step == API_STREAM_END)
        flush = Z_FINISH;
    gzip->next_in = (Bytef *)stream->piece.data;
    /* Values are 1 GiB at most, so a piece is below 4 GiB. */
    gzip->avail_in = (uInt)stream->piece.size;
    do {
        gzip->next_out = room;
        gzip->avail_out = sizeof room;
        /* Z_BUF_ERROR says that there was nothing to do, which is no error. */
        (void)deflate(gzip, flush);
        api_text_add(&stream->packed, room, sizeof room - gzip->avail_out);
    } while (gzip->avail_out == 0);
    if (stream->packed.has_failed)
        stream->step = API_STREAM_CUT;
}

/* Empty a text; its memory is kept only while more is to come. */
static void rewind_text(struct api_text *text, bool keeps)
{
    if (keeps && text->room <= KEPT_ROOM_MAX)
        text->size = 0;
    else
        api_text_fini(text);
}

static void next_piece(struct api_stream *stream)
{
    bool keeps = stream->step == API_STREAM_MORE;
    rewind_text(&stream->piece, keeps);
    rewind_text(&stream->packed, keeps);
    stream->sent = 0;
    /* From here on a wake means that produce is called again. */
    atomic_exchange_explicit(&stream->wake, WAKE_AWAKE, memory_order_acq_rel);
    bool is_ending = api_stream_is_ending(stream);
    stream->step = stream->source->produce(stream->state, stream, &stream->piece);
    if (stream->piece.has_failed) {
        /* Nobody can tell where it ends. */
        api_text_fini(&stream->piece);
        stream->step = API_STREAM_CUT;
    }
    if (is_ending && stream->step == API_STREAM_WAIT)
        stream->step = API_STREAM_END;
    if (stream->gzip != NULL)
        pack(stream);
}

/* The library's callback: up to `room` bytes, 0 after a suspension, or one of its two ends. */
static ssize_t read_stream(void *cls, uint64_t position, char *buffer, size_t room)
{
    struct api_stream *stream = cls;
    (void)position;
    if (stream->sent == going_out(stream)->size && stream->step == API_STREAM_MORE)
        next_piece(stream);
    size_t left = going_out(stream)->size - stream->sent;
    if (left > 0) {
        size_t size = left < room ? left : room;
        memcpy(buffer, going_out(stream)->data + stream->sent, size);
        stream->sent += size;
        api_enter_phase(stream->request, API_PHASE_SENDING);
        return (ssize_t)size;
    }
    switch (stream->step) {
    case API_STREAM_END:
        return MHD_CONTENT_READER_END_OF_STREAM;
    case API_STREAM_CUT:
        return MHD_CONTENT_READER_END_WITH_ERROR;
    case API_STREAM_MORE:
        /* Nothing was added: let the other connections of this thread have their turn. */
        api_stream_wake(stream);
        return park(stream);
    case API_STREAM_WAIT:
        break;
    }
    /* While nothing happens nothing is kept. */
    rewind_text(&stream->piece, false);
    rewind_text(&stream->packed, false);
    stream->sent = 0;
    stream->step = API_STREAM_MORE;
    return park(stream);
}

/* ---- Begin and end ---- */

static void free_stream(void *cls)
{
    struct api_stream *stream = cls;
    stream->source->end(stream->state);
    delist(stream);
    end_gzip(stream);
    api_text_fini(&stream->piece);
    api_text_fini(&stream->packed);
    free(stream);
}

static struct api_stream *make_stream(struct api_request *request, bool is_gzip,
                                      const struct api_stream_source *source, void *state)
{
    struct api_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL || (is_gzip && !begin_gzip(stream))) {
        free(stream);
        return NULL;
    }
    size_t max = (size_t)request->server->config->limits_value_bytes * 2 + TEXT_SLACK;
    api_text_init(&stream->piece, max);
    /* What does not compress grows by 5 bytes in 16 KiB. */
    api_text_init(&stream->packed, max + max / 1024 + TEXT_SLACK);
    stream->server = request->server;
    stream->request = request;
    stream->connection = request->connection;
    stream->source = source;
    stream->state = state;
    stream->step = API_STREAM_MORE;
    request->is_stream = true;
    enlist(stream);
    return stream;
}

struct api_answer api_answer_stream(struct api_request *request, const char *type, bool is_gzip,
                                    const struct api_stream_source *source, void *state)
{
    struct api_answer answer = {.status = MHD_HTTP_OK, .has_failed = true};
    struct api_stream *stream = make_stream(request, is_gzip, source, state);
    if (stream == NULL) {
        source->end(state);
        return answer;
    }
    answer.response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, request->is_http_1_0 ? PLAIN_BLOCK : CHUNKED_BLOCK, read_stream, stream,
        free_stream);
    if (answer.response == NULL) {
        free_stream(stream);
        return answer;
    }
    answer.has_failed = false;
    /* 0.9.75 sends the last chunk after HEAD too, where the client expects the next answer. */
    if (request->is_head)
        MHD_set_response_options(answer.response, MHD_RF_HTTP_1_0_COMPATIBLE_STRICT, MHD_RO_END);
    api_answer_header(&answer, "Content-Type", type);
    if (is_gzip)
        api_answer_header(&answer, "Content-Encoding", "gzip");
    return answer;
}
