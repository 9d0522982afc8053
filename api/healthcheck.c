/*
 * A client for one request: GET /healthz with plain sockets. A server that listens on all addresses
 * is asked on the loopback one. One deadline of three seconds holds for all of it, because a
 * supervisor that waits for this waits for a verdict. With TLS the certificate is not checked: it
 * is for names that clients use, and this only asks whether the server answers.
 */
#include "healthcheck.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config.h"
#include "moment.h"

enum { DEADLINE_MS = 3000 };

/* Wait until the socket is ready for `events`; false at the deadline. */
static bool wait_for(int fd, short events, uint64_t deadline_ns)
{
    for (;;) {
        uint64_t now = api_monotonic_ns();
        if (now >= deadline_ns)
            return false;
        struct pollfd poll_fd = {.fd = fd, .events = events};
        int ready = poll(&poll_fd, 1, (int)((deadline_ns - now) / 1000000) + 1);
        if (ready > 0)
            return true;
        if (ready < 0 && errno != EINTR)
            return false;
    }
}

static const char *loopback_of(const char *host)
{
    if (host[0] == '\0' || strcmp(host, "0.0.0.0") == 0)
        return "127.0.0.1";
    return strcmp(host, "::") == 0 ? "::1" : host;
}

static int connect_to(const char *host, const char *port, uint64_t deadline_ns, const char **fault)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int status = getaddrinfo(host, port, &hints, &found);
    if (status != 0) {
        *fault = gai_strerror(status);
        return -1;
    }
    int fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    found->ai_protocol);
    int failed = fd < 0 ? errno : 0;
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        failed = errno;
        socklen_t size = sizeof failed;
        if (failed == EINPROGRESS && wait_for(fd, POLLOUT, deadline_ns))
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size);
    }
    freeaddrinfo(found);
    if (failed == 0)
        return fd;
    *fault = failed == EINPROGRESS ? "no answer in time" : strerror(failed);
    if (fd >= 0)
        close(fd);
    return -1;
}

/* A connected socket, and TLS on it when the server has it. */
struct link {
    int fd;
    uint64_t deadline_ns;
    gnutls_session_t tls; /* NULL = without */
    gnutls_certificate_credentials_t credentials;
};

/* What TLS waits for before it can go on; false at the deadline, or when it cannot. */
static bool can_go_on(const struct link *link, ssize_t status)
{
    if (status == GNUTLS_E_INTERRUPTED)
        return true;
    if (status != GNUTLS_E_AGAIN)
        return false;
    bool is_sending = gnutls_record_get_direction(link->tls) == 1;
    return wait_for(link->fd, is_sending ? POLLOUT : POLLIN, link->deadline_ns);
}

/* NULL when TLS is up, or not asked for. */
static const char *begin_tls(struct link *link, bool has_tls)
{
    if (!has_tls)
        return NULL;
    if (gnutls_certificate_allocate_credentials(&link->credentials) != 0 ||
        gnutls_init(&link->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK) != 0)
        return "out of memory";
    gnutls_set_default_priority(link->tls);
    gnutls_credentials_set(link->tls, GNUTLS_CRD_CERTIFICATE, link->credentials);
    gnutls_transport_set_int(link->tls, link->fd);
    int status;
    do
        status = gnutls_handshake(link->tls);
    while (status != 0 && (can_go_on(link, status) || status == GNUTLS_E_WARNING_ALERT_RECEIVED));
    return status == 0                ? NULL
           : status == GNUTLS_E_AGAIN ? "no answer in time"
                                      : gnutls_strerror(status);
}

static void end(struct link *link)
{
    if (link->tls != NULL)
        gnutls_deinit(link->tls);
    if (link->credentials != NULL)
        gnutls_certificate_free_credentials(link->credentials);
    close(link->fd);
}

static bool send_all(struct link *link, const char *data, size_t size)
{
    if (link->tls == NULL)
        return send(link->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
    ssize_t sent;
    do
        sent = gnutls_record_send(link->tls, data, size);
    while (sent < 0 && can_go_on(link, sent));
    return sent == (ssize_t)size;
}

/* Some bytes; 0 at the end of the connection, -1 at the deadline. */
static ssize_t receive(struct link *link, char *data, size_t size)
{
    ssize_t count;
    if (link->tls != NULL) {
        do
            count = gnutls_record_recv(link->tls, data, size);
        while (count < 0 && can_go_on(link, count));
        return count == GNUTLS_E_AGAIN ? -1 : count < 0 ? 0 : count;
    }
    do {
        if (!wait_for(link->fd, POLLIN, link->deadline_ns))
            return -1;
        count = recv(link->fd, data, size, 0);
    } while (count < 0 && (errno == EAGAIN || errno == EINTR));
    return count < 0 ? 0 : count;
}

/* Send the request and read the status line; NULL when it says 200. */
static const char *ask(struct link *link)
{
    static const char request[] =
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    static const char wanted[] = "HTTP/1.1 200 ";
    if (!send_all(link, request, sizeof request - 1))
        return "the request could not be sent";
    char line[sizeof wanted - 1];
    size_t used = 0;
    while (used < sizeof line) {
        ssize_t count = receive(link, line + used, sizeof line - used);
        if (count < 0)
            return "no answer in time";
        if (count == 0)
            return "the connection was closed without an answer";
        used += (size_t)count;
    }
    return memcmp(line, wanted, sizeof line) == 0 ? NULL : "it does not answer 200";
}

int api_healthcheck(const char *address, bool has_tls)
{
    char host[CONFIG_TEXT_MAX];
    char port[8];
    uint16_t number;
    const char *fault = "it is not HOST:PORT";
    uint64_t deadline_ns = api_monotonic_ns() + UINT64_C(1000000) * DEADLINE_MS;
    if (config_split_address(address, host, sizeof host, &number) == 0) {
        snprintf(port, sizeof port, "%u", number);
        int fd = connect_to(loopback_of(host), port, deadline_ns, &fault);
        if (fd >= 0) {
            struct link link = {.fd = fd, .deadline_ns = deadline_ns};
            fault = begin_tls(&link, has_tls);
            if (fault == NULL)
                fault = ask(&link);
            end(&link);
        }
    }
    if (fault == NULL)
        return 0;
    fprintf(stderr, "stormd healthcheck: %s://%s/healthz: %s\n", has_tls ? "https" : "http",
            address, fault);
    return 1;
}
