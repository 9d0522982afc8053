/* Hosts, origins, CORS. See guard.h. */
#include "guard.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "response.h"
#include "text.h"

void api_guard_init(struct api_guard *guard, const struct storm_config *config)
{
    char host[CONFIG_TEXT_MAX];
    uint16_t port;
    guard->is_loopback = config_split_address(config->listen, host, sizeof host, &port) == 0 &&
                         config_is_loopback(host);
    bool is_any = strcmp(config->http_hosts, "*") == 0;
    bool is_checked = !is_any && (guard->is_loopback || config->http_hosts[0] != '\0');
    guard->hosts = is_checked ? config->http_hosts : NULL;
    guard->origins = config->http_cors_origins[0] != '\0' ? config->http_cors_origins : NULL;
}

/* ---- Names ---- */

/* Cut "name:8080" or "[::1]:8080" in two; the port has no colon and may be empty. */
static bool split_host(struct storm_slice field, struct storm_slice *name, struct storm_slice *port)
{
    size_t end = 0;
    if (field.size > 0 && field.data[0] == '[') {
        while (end < field.size && field.data[end] != ']')
            end++;
        if (end++ == field.size)
            return false;
    } else {
        while (end < field.size && field.data[end] != ':')
            end++;
    }
    *name = storm_bytes(field.data, end);
    *port = storm_bytes(NULL, 0);
    if (end == field.size)
        return end > 0;
    if (field.data[end] != ':')
        return false;
    *port = storm_bytes(field.data + end + 1, field.size - end - 1);
    for (size_t i = 0; i < port->size; i++) {
        if (port->data[i] < '0' || port->data[i] > '9')
            return false;
    }
    return end > 0;
}

/* An IPv4 address, or an IPv6 one in brackets. */
static bool is_address(struct storm_slice name, bool *is_loopback)
{
    char text[INET6_ADDRSTRLEN + 2];
    uint8_t bytes[16];
    bool is_v6 = name.size > 2 && name.data[0] == '[';
    if (name.size >= sizeof text)
        return false;
    memcpy(text, name.data, name.size);
    text[name.size] = '\0';
    if (is_v6)
        text[name.size - 1] = '\0';
    if (inet_pton(is_v6 ? AF_INET6 : AF_INET, text + is_v6, bytes) != 1)
        return false;
    static const uint8_t v6_loopback[16] = {[15] = 1};
    *is_loopback = is_v6 ? memcmp(bytes, v6_loopback, 16) == 0 : bytes[0] == 127;
    return true;
}

/* Whether the word is one of a list with commas, or the list is "*". */
static bool is_in_list(struct storm_slice word, const char *list)
{
    if (strcmp(list, "*") == 0)
        return true;
    while (*list != '\0') {
        size_t length = strcspn(list, ",");
        if (length == word.size) {
            char item[CONFIG_TEXT_MAX];
            memcpy(item, list, length);
            item[length] = '\0';
            if (api_equals_nocase(word, item))
                return true;
        }
        list += length + (list[length] == ',');
    }
    return false;
}

bool api_host_is_known(struct storm_slice field, const char *list, bool is_loopback)
{
    struct storm_slice name, port;
    if (!split_host(field, &name, &port))
        return false;
    if (api_equals_nocase(name, "localhost"))
        return true;
    bool is_this_machine;
    if (is_address(name, &is_this_machine) && (is_this_machine || !is_loopback))
        return true;
    return is_in_list(name, list);
}

bool api_origin_is_listed(struct storm_slice field, const char *list)
{
    return is_in_list(field, list);
}

bool api_origin_is_own(struct storm_slice field, struct storm_slice host)
{
    static const struct {
        const char *scheme, *port;
    } known[] = {{"http://", "80"}, {"https://", "443"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t skipped = strlen(known[i].scheme);
        if (field.size <= skipped || memcmp(field.data, known[i].scheme, skipped) != 0)
            continue;
        struct storm_slice name, port, own_name, own_port;
        if (!split_host(storm_bytes(field.data + skipped, field.size - skipped), &name, &port) ||
            !split_host(host, &own_name, &own_port))
            return false;
        struct storm_slice usual = storm_text(known[i].port);
        port = port.size == 0 ? usual : port;
        own_port = own_port.size == 0 ? usual : own_port;
        char text[CONFIG_TEXT_MAX];
        if (name.size >= sizeof text || port.size != own_port.size ||
            memcmp(port.data, own_port.data, port.size) != 0)
            return false;
        memcpy(text, name.data, name.size);
        text[name.size] = '\0';
        return memchr(text, '\0', name.size) == NULL && api_equals_nocase(own_name, text);
    }
    return false;
}

/* ---- Requests ---- */

static enum MHD_Result fail_host(struct api_request *request, struct storm_slice host)
{
    return api_fail_code(request, API_ERROR_forbidden_host,
                         "This server does not answer to the name \"%.*s\".",
                         (int)(host.size < 128 ? host.size : 128), (const char *)host.data);
}

static enum MHD_Result fail_origin(struct api_request *request, struct storm_slice origin)
{
    return api_fail_code(request, API_ERROR_forbidden_origin,
                         "Pages of the origin \"%.*s\" may not use this server.",
                         (int)(origin.size < 128 ? origin.size : 128), (const char *)origin.data);
}

/* A browser asks before it sends: the same answer for every path, so that what is then sent gets an
 * answer that the page can read. */
static enum MHD_Result answer_preflight(struct api_request *request)
{
    struct api_answer answer = api_answer_empty(MHD_HTTP_NO_CONTENT);
    api_answer_header(&answer, "Access-Control-Allow-Methods",
                      "GET, HEAD, PUT, PATCH, POST, DELETE");
    api_answer_header(&answer, "Access-Control-Allow-Headers",
                      "Authorization, Content-Type, If-Match, If-None-Match, Prefer, "
                      "Last-Event-ID, X-Request-Id, traceparent");
    api_answer_header(&answer, "Access-Control-Max-Age", "86400");
    return api_send(request, &answer);
}

/* Reading a Host field takes 500 instructions, comparing it with the last one 20. */
static bool is_host_known(struct api_request *request, struct storm_slice host)
{
    const struct api_guard *guard = &request->server->guard;
    if (host.size > 0 && host.size == request->known_host.size &&
        memcmp(host.data, request->known_host.bytes, host.size) == 0)
        return true;
    if (!api_host_is_known(host, guard->hosts, guard->is_loopback))
        return false;
    if (host.size <= sizeof request->known_host.bytes) {
        memcpy(request->known_host.bytes, host.data, host.size);
        request->known_host.size = (uint8_t)host.size;
    }
    return true;
}

static bool is_safe(const char *method)
{
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 ||
           strcmp(method, "OPTIONS") == 0;
}

bool api_guard_admits(struct api_request *request, const char *method, enum MHD_Result *result)
{
    const struct api_guard *guard = &request->server->guard;
    struct storm_slice host = api_header(request, API_HEADER_HOST);
    /* HTTP/1.0 may leave it out; no browser does. */
    if (guard->hosts != NULL && host.data != NULL && !is_host_known(request, host)) {
        *result = fail_host(request, host);
        return false;
    }
    struct storm_slice origin = api_header(request, API_HEADER_ORIGIN);
    if (origin.data == NULL)
        return true;
    bool is_listed = guard->origins != NULL && api_origin_is_listed(origin, guard->origins);
    bool is_preflight =
        strcmp(method, "OPTIONS") == 0 && api_has_header(request, API_HEADER_REQUEST_METHOD);
    if (is_preflight && is_listed) {
        *result = answer_preflight(request);
        return false;
    }
    if ((is_safe(method) && !is_preflight) || is_listed || api_origin_is_own(origin, host))
        return true;
    *result = fail_origin(request, origin);
    return false;
}

void api_guard_answer(const struct api_request *request, struct api_answer *answer)
{
    const char *origins = request->server->guard.origins;
    struct storm_slice origin = api_header(request, API_HEADER_ORIGIN);
    /* On answers to other requests too: a cache must not give them to a page. */
    api_answer_header(answer, "Vary", "Origin");
    if (origin.data == NULL || !api_origin_is_listed(origin, origins))
        return;
    char text[CONFIG_TEXT_MAX] = "*";
    if (strcmp(origins, "*") != 0) { /* listed, so it is not longer than the list */
        memcpy(text, origin.data, origin.size);
        text[origin.size] = '\0';
    }
    api_answer_header(answer, "Access-Control-Allow-Origin", text);
    api_answer_header(answer, "Access-Control-Expose-Headers",
                      "ETag, Storm-Revision, Storm-Expires-At, Link, Location, Retry-After, "
                      "X-Request-Id");
}
