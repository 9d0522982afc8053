/*
 * A client for one request: GET /healthz with plain sockets. A server that listens on all addresses
 * is asked on the loopback one. One deadline of three seconds holds for all of it, because a
 * supervisor that waits for this waits for a verdict.
 */
#include "healthcheck.h"

#include <errno.h>
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

/* Send the request and read the status line; NULL when it says 200. */
static const char *ask(int fd, uint64_t deadline_ns)
{
    static const char request[] =
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    static const char wanted[] = "HTTP/1.1 200 ";
    if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) != (ssize_t)(sizeof request - 1))
        return "the request could not be sent";
    char line[sizeof wanted - 1];
    size_t used = 0;
    while (used < sizeof line) {
        if (!wait_for(fd, POLLIN, deadline_ns))
            return "no answer in time";
        ssize_t count = recv(fd, line + used, sizeof line - used, 0);
        if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
            return "the connection was closed without an answer";
        used += count < 0 ? 0 : (size_t)count;
    }
    return memcmp(line, wanted, sizeof line) == 0 ? NULL : "it does not answer 200";
}

int api_healthcheck(const char *address)
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
            fault = ask(fd, deadline_ns);
            close(fd);
        }
    }
    if (fault == NULL)
        return 0;
    fprintf(stderr, "stormd healthcheck: http://%s/healthz: %s\n", address, fault);
    return 1;
}
