/*
 * Answers that are made while they are sent: NDJSON of a whole range, server-sent events, exports.
 *
 *   begin --> [ sending ] ---- produce: WAIT ----> [ suspended ]
 *                  ^                                     |
 *                  +--------- api_stream_wake() ---------+
 *
 *   produce: MORE   is called again when the socket has taken the piece; if nothing was added, when
 *                   the other connections of the thread have had their turn
 *            END    last chunk, the connection is kept
 *            CUT    the connection is closed without the last chunk
 *
 * One stream holds one piece of about API_STREAM_PIECE bytes, however long the answer: the next is
 * asked for when the socket has taken the last. With gzip (`is_gzip`) pieces go through a deflate
 * window of some 256 KiB, flushed before each WAIT so that an event is not held back.
 *
 * A suspended connection has no time-out, and its end is not noticed until something is written to
 * it: whoever waits wakes the stream from time to time and writes a heartbeat. A client that does
 * not take what is written is cut off in time (watch.c). Streams count as requests in flight,
 * without a latency. While the server drains every stream is woken, once, and produces with
 * api_stream_is_ending(): it says its good-bye and ends, so that the drain does; a WAIT is an END
 * then. After HEAD `produce` is never called, and the connection is closed.
 *
 * Threads: `produce` and `end` run on the HTTP thread of the connection, one at a time, and may
 * read from the store, but must not wait for anything else. api_stream_wake() may be called by any
 * thread, inside callbacks of the store too, as long as the stream has not ended; a wake that comes
 * while `produce` runs is not lost: produce is called again.
 */
#ifndef STORM_API_STREAM_H
#define STORM_API_STREAM_H

#include "request.h"
#include "response.h"

enum { API_STREAM_PIECE = 64 << 10 };

enum api_stream_next {
    API_STREAM_MORE, /* there is more right now, or will be after a short turn of others */
    API_STREAM_WAIT, /* nothing more until api_stream_wake() */
    API_STREAM_END,  /* that was all; the answer is complete */
    API_STREAM_CUT,  /* it cannot be completed: close the connection without the last chunk */
};

struct api_stream;

struct api_stream_source {
    /* Add what comes next to `piece`, up to about API_STREAM_PIECE bytes (a single entry may be
     * longer; the text grows up to limits.value_bytes * 2 + 1 MiB). A text that failed is a CUT. */
    enum api_stream_next (*produce)(void *state, struct api_stream *stream, struct api_text *piece);
    /* The stream is over, whatever the reason; `state` is not used again. After it returns nobody
     * may wake the stream, so what could is stopped in here first. */
    void (*end)(void *state);
};

/*
 * Begin an answer: 200 with `type`, chunked (until the connection closes for HTTP/1.0, where a cut
 * cannot be told from an end). `state` belongs to the stream from now on, also when this fails. The
 * caller may add header fields to the answer (Vary, if gzip is by choice) and sends it with
 * api_send() as any other. Without memory the answer has failed, and `end` has been called or will
 * be when it is dropped.
 */
struct api_answer api_answer_stream(struct api_request *request, const char *type, bool is_gzip,
                                    const struct api_stream_source *source, void *state);

/* Have `produce` called again. Any thread; locks of the library are taken inside. */
void api_stream_wake(struct api_stream *stream);

/* Whether the server drains: say good-bye and END. */
bool api_stream_is_ending(const struct api_stream *stream);

/* Used by server.c: wake every stream, because the server drains. */
void api_stream_end_all(struct api_server *server);

#endif
