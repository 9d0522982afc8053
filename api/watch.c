/*
 * The watcher of slow clients.
 *
 * The library's time-out is one of inactivity: a client that sends a byte each second keeps a
 * connection, and the memory behind it, for ever. So once a second this thread looks at every
 * connection and shuts down the socket of those that take too long over the header fields or the
 * body; the library then notices the end and cleans up. Answers are left to the library's time-out,
 * as slow readers are often only far away.
 *
 * Lock rule: server->mu guards the list. A connection leaves it, under mu, before its socket is
 * closed, so a descriptor seen here is never somebody else's.
 */
#include <sys/socket.h>
#include <time.h>

#include "moment.h"
#include "request.h"

enum {
    HEADER_SECONDS = 20,
    BODY_SECONDS = 30,
    /* After these, a body must keep up this rate on average: 8 MiB may take two and a half minutes. */
    BODY_BYTES_PER_SECOND = 64 << 10,
};

#define SECOND_NS UINT64_C(1000000000)

static bool is_too_slow(const struct api_connection *connection, uint64_t now_ns,
                        uint64_t idle_seconds)
{
    uint64_t since = atomic_load_explicit(&connection->phase_since_ns, memory_order_relaxed);
    uint64_t seconds = now_ns > since ? (now_ns - since) / SECOND_NS : 0;
    uint64_t bytes = atomic_load_explicit(&connection->phase_bytes, memory_order_relaxed);
    switch (atomic_load_explicit(&connection->phase, memory_order_relaxed)) {
    case API_PHASE_BETWEEN:
        /* A silent one has been closed by the library after idle_seconds; this one drips. */
        return seconds > idle_seconds + HEADER_SECONDS;
    case API_PHASE_HEADERS:
        return seconds > HEADER_SECONDS;
    case API_PHASE_BODY:
        return seconds > BODY_SECONDS + bytes / BODY_BYTES_PER_SECOND;
    default:
        return false;
    }
}

void *api_watch(void *argument)
{
    struct api_server *server = argument;
    pthread_mutex_lock(&server->mu);
    while (!server->is_watcher_stopping) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += 1;
        pthread_cond_timedwait(&server->watcher_stop, &server->mu, &until);
        uint64_t now_ns = api_coarse_ns();
        for (struct api_connection *at = server->connections; at != NULL; at = at->next) {
            if (is_too_slow(at, now_ns, server->config->http_idle_timeout_s))
                shutdown(at->socket, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&server->mu);
    return NULL;
}
