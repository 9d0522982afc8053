/*
 * The listening socket. It is made here and handed to the library, for the sake of messages that
 * name the address and say what to do, and of port 0, which takes any free one.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server.h"

/* The URL that reaches the socket; a wildcard address is shown as the loopback one. */
static void show_url(int fd, const char *scheme, const char *host, char *url, size_t size)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char port[8] = "?";
    if (getsockname(fd, (struct sockaddr *)&address, &length) == 0)
        getnameinfo((struct sockaddr *)&address, length, NULL, 0, port, sizeof port,
                    NI_NUMERICSERV);
    bool is_ipv6 = strchr(host, ':') != NULL;
    snprintf(url, size, is_ipv6 ? "%s://[%s]:%s" : "%s://%s:%s", scheme, host, port);
}

static int open_socket(const struct addrinfo *info, char *error, size_t error_size,
                       const char *address)
{
    const char *step = "socket";
    int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK,
                    info->ai_protocol);
    if (fd >= 0) {
        int yes = 1;
        /* A server that is started again must not wait for the last one's closed connections. */
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        step = "bind";
        if (bind(fd, info->ai_addr, info->ai_addrlen) == 0) {
            step = "listen";
            if (listen(fd, SOMAXCONN) == 0)
                return fd;
        }
    }
    int failed = errno;
    if (fd >= 0)
        close(fd);
    const char *advice = "";
    if (failed == EADDRINUSE)
        advice = "; another process uses this port: stop it, or choose another with --listen";
    else if (failed == EACCES)
        advice = "; ports below 1024 need privileges: choose another with --listen";
    else if (failed == EADDRNOTAVAIL)
        advice = "; no network interface has this address: see --listen";
    snprintf(error, error_size, "cannot listen on %s: %s: %s%s", address, step, strerror(failed),
             advice);
    return -1;
}

int api_listen(const char *address, const char *scheme, char *url, size_t url_size, char *error,
               size_t error_size)
{
    char host[CONFIG_TEXT_MAX];
    char service[8];
    uint16_t port;
    if (config_split_address(address, host, sizeof host, &port) != 0) {
        snprintf(error, error_size, "cannot listen on %s: it is not HOST:PORT", address);
        return -1;
    }
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found;
    int status = getaddrinfo(host[0] == '\0' ? NULL : host, service, &hints, &found);
    if (status != 0) {
        snprintf(error, error_size, "cannot listen on %s: %s", address, gai_strerror(status));
        return -1;
    }
    int fd = open_socket(found, error, error_size, address);
    if (fd >= 0)
        show_url(fd, scheme, host[0] == '\0' ? "0.0.0.0" : host, url, url_size);
    freeaddrinfo(found);
    return fd;
}
