/*
 * The watcher of slow clients.
 *
 * The library's time-out is one of inactivity: a client that sends a byte each second keeps a
 * connection, and the memory behind it, for ever. So once a second this thread looks at every
 * connection and shuts down the socket of those that take too long over the header fields, the
 * body, or the reading of the answer; the library then notices the end and cleans up. How much of
 * an answer the client has taken the kernel knows, so a slow reader who is only far away is left in
 * peace.
 *
 * Lock rule: server->mu guards the list. A connection leaves it, under mu, before its socket is
 * closed, so a descriptor seen here is never somebody else's.
 */
#include <linux/tcp.h> /* that of the C library has no tcpi_bytes_acked */
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "moment.h"
#include "request.h"

enum {
    /* After http.body_timeout_s a body must keep up this rate on average: 8 MiB may take two and a
     * half minutes. */
    BODY_BYTES_PER_SECOND = 64 << 10,
    /* The same for an answer, or a part of one: less than the slowest modem. */
    READ_SECONDS = 30,
    READ_BYTES_PER_SECOND = 1 << 10,
    /* For a connection that is one too many. */
    SURPLUS_SECONDS = 5,
};

#define SECOND_NS UINT64_C(1000000000)

/* Bytes that the client has acknowledged since the connection was opened. */
static uint64_t acked_bytes(int socket)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return 0;
    return info.tcpi_bytes_acked;
}

/* Whether the client takes less of the answer than it has to. The count begins with the first look,
 * which is at most a second after the phase. */
static bool reads_too_slowly(struct api_connection *connection, uint64_t since, uint64_t seconds)
{
    if (connection->acked_since_ns != since) {
        connection->acked_since_ns = since;
        connection->acked = acked_bytes(connection->socket);
    }
    return seconds > READ_SECONDS && acked_bytes(connection->socket) - connection->acked <
                                         (seconds - READ_SECONDS) * READ_BYTES_PER_SECOND;
}

static bool is_too_slow(struct api_connection *connection, uint64_t now_ns,
                        const struct storm_config *config)
{
    uint64_t since = atomic_load_explicit(&connection->phase_since_ns, memory_order_relaxed);
    uint64_t seconds = now_ns > since ? (now_ns - since) / SECOND_NS : 0;
    uint64_t bytes = atomic_load_explicit(&connection->phase_bytes, memory_order_relaxed);
    switch (atomic_load_explicit(&connection->phase, memory_order_relaxed)) {
    case API_PHASE_BETWEEN:
        if (connection->request.surplus != API_SURPLUS_NONE)
            return seconds >= SURPLUS_SECONDS;
        /* A silent one has been closed by the library after the first of them; this one drips. */
        return seconds > config->http_idle_timeout_s + config->http_header_timeout_s;
    case API_PHASE_HEADERS:
        return seconds > config->http_header_timeout_s;
    case API_PHASE_BODY:
        return seconds > config->http_body_timeout_s + bytes / BODY_BYTES_PER_SECOND;
    case API_PHASE_SENDING:
        return seconds > 0 && reads_too_slowly(connection, since, seconds);
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
            if (is_too_slow(at, now_ns, server->config))
                shutdown(at->socket, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&server->mu);
    return NULL;
}
