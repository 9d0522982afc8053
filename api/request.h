/*
 * One request, from its first line to the end of its answer, and the connection it came on.
 *
 *   LINE ----> HEADERS ----> BODY ----> READY ----> ANSWERED
 *              checks,       bytes      |  ^
 *              route, key    arrive     v  |
 *                                     WAITING (suspended)
 *
 * A route that takes its body in pieces (request->take) may wait in the middle of it, and goes back
 * from WAITING to BODY.
 *
 * An answer that is decided before READY is held until the body has been read and dropped:
 * libmicrohttpd 0.9.75 closes the connection after an earlier one. Where closing is right (broken
 * framing, a client that asked with Expect: 100-continue, a body too long to drop) it goes out at
 * once.
 *
 * Threads: a request belongs to the HTTP thread of its connection; while WAITING it belongs to
 * whoever was handed it (async.c). Fields marked atomic are shared with the watcher of slow
 * clients.
 */
#ifndef STORM_API_REQUEST_H
#define STORM_API_REQUEST_H

#include <microhttpd.h>
#include <stdatomic.h>

#include "auth.h"
#include "fields.h"
#include "server.h"
#include "target.h"

/* The header fields that anything here looks at. */
enum api_header {
    API_HEADER_HOST,
    API_HEADER_CONTENT_LENGTH,
    API_HEADER_TRANSFER_ENCODING,
    API_HEADER_CONTENT_TYPE,
    API_HEADER_CONTENT_ENCODING,
    API_HEADER_EXPECT,
    API_HEADER_ACCEPT,
    API_HEADER_PREFER,
    API_HEADER_IF_MATCH,
    API_HEADER_IF_NONE_MATCH,
    API_HEADER_IF_MODIFIED_SINCE,
    API_HEADER_IF_UNMODIFIED_SINCE,
    API_HEADER_REQUEST_ID,
    API_HEADER_ACCEPT_ENCODING,
    API_HEADER_ORIGIN,
    API_HEADER_REQUEST_METHOD,
    API_HEADER_AUTHORIZATION,
    API_HEADER_LAST_EVENT_ID,
    API_HEADER_COUNT,
};

enum api_stage {
    API_STAGE_LINE,
    API_STAGE_HEADERS,
    API_STAGE_BODY,
    API_STAGE_READY,
    API_STAGE_WAITING,
    API_STAGE_ANSWERED,
};

/* Where the two halves of an asynchronous step meet; see async.c. */
enum api_meeting { API_MEETING_RUNNING, API_MEETING_PARKED, API_MEETING_DONE };

enum api_surplus { API_SURPLUS_NONE, API_SURPLUS_SERVER, API_SURPLUS_CLIENT };

struct api_request;
typedef enum MHD_Result (*api_handler)(struct api_request *request);

enum {
    API_REQUEST_ID_MAX = 128,
    /* Longer targets get memory of their own: an idle connection shall cost little. */
    API_TARGET_INLINE = 256,
    /* A refused body is read and dropped up to here, so that the client sees the answer. */
    API_DISCARD_MAX = 64 << 20,
    /* Bodies of requests that take none. */
    API_STRAY_BODY_MAX = 64 << 10,
};

struct api_request {
    struct api_server *server;
    struct MHD_Connection *connection;
    enum api_stage stage;
    unsigned retry_after_s; /* of a 503; 0 = the usual second */
    bool must_close;        /* Connection: close, and do not wait for the body */
    bool is_target_lost;    /* no memory for it */
    bool is_counted;        /* in metrics.in_flight */
    bool is_http_1_0;
    bool is_head;
    bool is_stream; /* how long it takes says nothing about the server */
    /* The connection is one more than there may be: what comes on it is answered so, and it
     * ends. */
    enum api_surplus surplus;
    struct api_client_id client; /* of the connection's address; only with limits for clients */
    struct {
        uint8_t bytes[47];
        uint8_t size;
    } known_host; /* a Host field that was fine on this connection; clients do not change it */
    uint64_t started_ns;
    unsigned status; /* of the answer; 0 = none yet */

    uint8_t *target; /* raw; `inline_target` or allocated. Key and query are decoded in it */
    size_t target_size;
    uint8_t inline_target[API_TARGET_INLINE];

    struct storm_slice
        headers[API_HEADER_COUNT]; /* data NULL = not sent; borrowed from the library */
    const char *framing_fault;     /* why the request is not well framed; NULL = it is */
    char id[API_REQUEST_ID_MAX + 1];

    const struct api_route *route;
    struct storm_slice key; /* for routes with a key: decoded, of legal length */
    struct api_query query; /* checked against the route's parameters */
    struct api_grant grant; /* what it may do */
    struct api_keys *keys;  /* the table that says so; NULL = without keys, or not asked yet */

    bool has_body;           /* Content-Length above 0, or chunked */
    uint64_t content_length; /* 0 when chunked */
    size_t body_limit;       /* set by the route's begin */
    uint8_t *body;
    size_t body_size;
    size_t body_room;
    uint64_t body_seen; /* all that arrived, dropped bytes included */
    bool is_body_too_large;
    struct api_gunzip *gunzip; /* the body comes compressed; NULL = it does not */

    /* Set by a begin that wants the body in pieces: takes what it can, and leaves in *size how much
     * it has not taken, which is only allowed when it has suspended the connection. */
    enum MHD_Result (*take)(struct api_request *request, const uint8_t *data, size_t *size);

    struct MHD_Response *held; /* an answer that waits for the end of the body */

    /* What handlers keep from one step to the next. */
    struct api_tags if_match;
    struct api_tags if_none_match;
    enum api_prefer prefer;
    enum api_media media;
    struct storm_meta meta;
    bool keeps_ttl;
    unsigned attempts;
    struct storm_value value;
    struct storm_flush_result flushed;
    /* What only one kind of handler keeps: it allocates it and says how it goes away, which happens
     * when the request is over, whatever became of it. */
    void *own;
    void (*free_own)(void *own);

    /* The asynchronous step under way. */
    storm_batch *batch;
    _Atomic int meeting; /* enum api_meeting */
    storm_status outcome;
    uint64_t revision;
    api_handler then;                          /* runs on the HTTP thread once the step is over */
    void (*work)(struct api_request *request); /* runs on the worker's thread */
    struct api_request *next_work;
};

/* What the watcher of slow clients looks at. SENDING: the answer, or what there is of it so far,
 * has been handed to the library. */
enum api_phase {
    API_PHASE_BETWEEN,
    API_PHASE_HEADERS,
    API_PHASE_BODY,
    API_PHASE_ANSWER,
    API_PHASE_SENDING,
};

struct api_connection {
    struct api_connection *previous, *next; /* server->mu */
    int socket;                             /* const */
    bool is_counted;                        /* const: among its client's connections */
    _Atomic int phase;                      /* enum api_phase */
    _Atomic uint64_t phase_since_ns;
    _Atomic uint64_t phase_bytes; /* of body received */
    uint64_t acked;          /* watcher: bytes that the client had when it began to be sent to */
    uint64_t acked_since_ns; /* watcher: the phase that this is of */
    struct api_request request;
};

/* The request's connection is in this phase from now on. Its HTTP thread. */
void api_enter_phase(struct api_request *request, enum api_phase phase);

/* A fresh connection's request; and its end, whatever state it is in. */
void api_request_init(struct api_request *request, struct api_server *server);
void api_request_fini(struct api_request *request);

/* The first line has come: take a copy of the target. */
void api_request_line(struct api_request *request, struct MHD_Connection *connection,
                      const char *target);
/* The header fields are complete: check, route, let the route look. */
enum MHD_Result api_request_headers(struct api_request *request, const char *method,
                                    const char *version);
/* Some of the body has come; *size becomes what was not taken (see request->take). */
enum MHD_Result api_request_body(struct api_request *request, const void *data, size_t *size);
/* Make room for `size` more bytes at the end of request->body. False when there is no memory. */
bool api_request_reserve_body(struct api_request *request, size_t size);
/* All of the request has come. */
enum MHD_Result api_request_ready(struct api_request *request);
/* The answer is out, or never will be: be as after init. */
void api_request_over(struct api_request *request);

/* The value of a header field; empty when it was not sent. */
static inline struct storm_slice api_header(const struct api_request *request, enum api_header name)
{
    return request->headers[name];
}
static inline bool api_has_header(const struct api_request *request, enum api_header name)
{
    return request->headers[name].data != NULL;
}

/*
 * Called by the begin of a route with a body: read Content-Encoding. A gzip body is decompressed
 * while it arrives, and body_limit then counts what comes out. False, with an answer on its way in
 * *result, when it is none that is taken here.
 */
bool api_body_encoding(struct api_request *request, enum MHD_Result *result);

/* Read a true/false parameter; false (and an answer on its way in *result) when it is neither. */
bool api_flag(struct api_request *request, const char *name, bool *value, enum MHD_Result *result);

#endif
