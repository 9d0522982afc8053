/*
 * The server. See server.h.
 *
 * libmicrohttpd runs a pool of threads, each with its own epoll set; suspending needs at least two
 * of them (with none, more than 128 suspended connections stall it). Its callbacks come here and
 * are handed to request.c:
 *
 *   connection opened     struct api_connection, once; it holds the request, which is used again
 *   first line            api_request_line, with the raw target
 *   header fields         api_request_headers
 *   body, in pieces       api_request_body
 *   complete / resumed    api_request_ready / api_resumed
 *   answer sent, or lost  api_request_over
 *   connection closed     freed
 *
 * Draining, in the only order that cuts nobody off: stop accepting and close the listening socket;
 * put Connection: close on every answer and have the streams end; wait until nothing is in flight;
 * stop the library's threads, which would cut off whatever still was.
 */
#include "server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "async.h"
#include "hub.h"
#include "json.h"
#include "log.h"
#include "moment.h"
#include "response.h"
#include "stream.h"
#include "tls.h"

enum {
    /* The library clears this much and half as much again after each request, which is why it is
     * not larger: a target with a key of the default limit, all of it escaped, is 12 KiB, and 8 KiB
     * are left for the header fields. Shorter keys leave more. */
    POOL_MIN = 20 << 10,
    POOL_FOR_FIELDS = 8 << 10,
    ESCAPED_BYTE = 3,
    /* Connections beyond the limit that are told so, on a short time-out, before any are just
     * closed; the second number is for those beyond the limit of their address. */
    SURPLUS_MAX = 128,
    CLIENT_SURPLUS_MAX = 8,
    /* What 0.9.75 would refuse when told to be strict, request.c refuses with a better answer. */
    STRICTNESS = MHD_VERSION >= 0x01000000 ? 1 : 0,
};

/* ---- Connections ---- */

static struct api_connection *connection_of(struct api_request *request)
{
    return (struct api_connection *)((char *)request - offsetof(struct api_connection, request));
}

static void enter_phase(struct api_connection *connection, enum api_phase phase)
{
    atomic_store_explicit(&connection->phase_bytes, 0, memory_order_relaxed);
    atomic_store_explicit(&connection->phase_since_ns, api_coarse_ns(), memory_order_relaxed);
    atomic_store_explicit(&connection->phase, (int)phase, memory_order_relaxed);
}

void api_enter_phase(struct api_request *request, enum api_phase phase)
{
    enter_phase(connection_of(request), phase);
}

/* Whose connection it is, when clients have limits. */
static void count_client(struct api_connection *connection, struct MHD_Connection *handle)
{
    struct api_request *request = &connection->request;
    struct api_clients *clients = &request->server->clients;
    if (clients->table == NULL)
        return;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(handle, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    request->client = api_client_of_address(info == NULL ? NULL : info->client_addr);
    if (clients->connections == 0)
        return;
    uint64_t count = api_clients_enter(clients, request->client);
    connection->is_counted = count != 0;
    if (count > clients->connections)
        request->surplus = API_SURPLUS_CLIENT;
}

static void open_connection(struct api_server *server, struct MHD_Connection *handle,
                            void **context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(handle, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct api_connection *connection = calloc(1, sizeof *connection);
    *context = connection; /* NULL: its requests are refused in on_request */
    uint64_t open =
        atomic_fetch_add_explicit(&server->metrics.connections, 1, memory_order_relaxed);
    if (connection == NULL)
        return;
    connection->socket = info == NULL ? -1 : info->connect_fd;
    api_request_init(&connection->request, server);
    count_client(connection, handle);
    if (open >= server->config->http_max_connections)
        connection->request.surplus = API_SURPLUS_SERVER;
    enter_phase(connection, API_PHASE_BETWEEN);
    pthread_mutex_lock(&server->mu);
    connection->next = server->connections;
    if (connection->next != NULL)
        connection->next->previous = connection;
    server->connections = connection;
    pthread_mutex_unlock(&server->mu);
}

static void close_connection(struct api_server *server, struct api_connection *connection)
{
    pthread_mutex_lock(&server->mu);
    atomic_fetch_sub_explicit(&server->metrics.connections, 1, memory_order_relaxed);
    if (connection != NULL) {
        if (connection->previous == NULL)
            server->connections = connection->next;
        else
            connection->previous->next = connection->next;
        if (connection->next != NULL)
            connection->next->previous = connection->previous;
    }
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->mu);
    if (connection != NULL) {
        if (connection->is_counted)
            api_clients_leave(&server->clients, connection->request.client);
        api_request_fini(&connection->request);
        free(connection);
    }
}

static void on_connection(void *cls, struct MHD_Connection *handle, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        open_connection(cls, handle, context);
    else
        close_connection(cls, *context);
}

/* Connections far over the limit are closed at once: the library would let them wait in silence. */
static enum MHD_Result on_accept(void *cls, const struct sockaddr *address, socklen_t length)
{
    struct api_server *server = cls;
    (void)length;
    uint64_t open = atomic_load_explicit(&server->metrics.connections, memory_order_relaxed);
    if (open >= server->config->http_max_connections + SURPLUS_MAX)
        return MHD_NO;
    struct api_clients *clients = &server->clients;
    if (clients->connections == 0)
        return MHD_YES;
    uint64_t theirs = api_clients_connections(clients, api_client_of_address(address));
    return theirs < clients->connections + CLIENT_SURPLUS_MAX ? MHD_YES : MHD_NO;
}

/* ---- Requests ---- */

static void *on_first_line(void *cls, const char *target, struct MHD_Connection *handle)
{
    (void)cls;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(handle, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct api_connection *connection = info == NULL ? NULL : info->socket_context;
    if (connection == NULL)
        return NULL;
    enter_phase(connection, API_PHASE_HEADERS);
    api_request_line(&connection->request, handle, target);
    /* The library is about to parse the query into its pool, a node for each parameter; when they
     * are too many its own 431 gets lost and the connection hangs. We have a copy, so the query is
     * emptied: the buffer is the library's and not really constant. */
    char *query = strchr((char *)target, '?');
    if (query != NULL)
        query[1] = '\0';
    return &connection->request;
}

/* The body, in pieces, and then its end. */
static enum MHD_Result on_body(struct api_connection *connection, const char *upload,
                               size_t *upload_size)
{
    struct api_request *request = &connection->request;
    if (*upload_size == 0) {
        enter_phase(connection, API_PHASE_ANSWER);
        return api_request_ready(request);
    }
    size_t size = *upload_size;
    enum MHD_Result result = api_request_body(request, upload, upload_size);
    atomic_fetch_add_explicit(&connection->phase_bytes, size - *upload_size, memory_order_relaxed);
    /* While the server works on what it has, the client is not slow. */
    if (request->stage == API_STAGE_WAITING)
        enter_phase(connection, API_PHASE_ANSWER);
    return result;
}

static enum MHD_Result on_resumed(struct api_connection *connection, const char *upload,
                                  size_t *upload_size)
{
    struct api_request *request = &connection->request;
    enum MHD_Result result = api_resumed(request);
    if (result != MHD_YES || request->stage != API_STAGE_BODY)
        return result;
    enter_phase(connection, API_PHASE_BODY);
    return on_body(connection, upload, upload_size);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *handle, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **context)
{
    (void)cls;
    (void)handle;
    (void)url;
    struct api_request *request = *context;
    if (request == NULL)
        return MHD_NO;
    struct api_connection *connection = connection_of(request);
    switch (request->stage) {
    case API_STAGE_LINE:
        enter_phase(connection, API_PHASE_BODY);
        return api_request_headers(request, method, version);
    case API_STAGE_BODY:
        return on_body(connection, upload, upload_size);
    case API_STAGE_WAITING:
        return on_resumed(connection, upload, upload_size);
    default:
        return MHD_YES;
    }
}

static void on_over(void *cls, struct MHD_Connection *handle, void **context,
                    enum MHD_RequestTerminationCode code)
{
    struct api_server *server = cls;
    struct api_request *request = *context;
    (void)handle;
    (void)code;
    if (request == NULL)
        return;
    api_request_over(request);
    enter_phase(connection_of(request), API_PHASE_BETWEEN);
    *context = NULL;
    if (atomic_load(&server->state) == API_DRAINING) { /* seq_cst: see api_metrics_end */
        pthread_mutex_lock(&server->mu);
        pthread_cond_broadcast(&server->changed);
        pthread_mutex_unlock(&server->mu);
    }
}

static void on_library_message(void *cls, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void on_library_message(void *cls, const char *format, va_list arguments)
{
    char line[512];
    (void)cls;
    vsnprintf(line, sizeof line, format, arguments);
    line[strcspn(line, "\n")] = '\0';
    api_log(STORM_LOG_DEBUG, "http: %s", line);
}

/* ---- Start ---- */

static int start_daemon(struct api_server *server, char *error, size_t error_size)
{
    const struct storm_config *config = server->config;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    server->threads = (unsigned)config->http_threads;
    if (server->threads == 0)
        server->threads = cores > 2 ? (unsigned)cores : 2;
    if (server->threads < 2)
        server->threads = 2;
    uint64_t pool = config->limits_key_bytes * ESCAPED_BYTE + POOL_FOR_FIELDS;
    /* The library shares its limit out among the threads, whichever of them accepts; ours is kept
     * in on_accept, so each thread may have them all. */
    uint64_t limit = (config->http_max_connections + SURPLUS_MAX + 1) * server->threads;
    if (limit > INT32_MAX)
        limit = INT32_MAX;
    unsigned flags =
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)API_TLS_PRIORITIES},
        {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(uintptr_t)api_tls_choose},
        {MHD_OPTION_END, 0, NULL},
    };
    server->daemon = MHD_start_daemon(
        server->has_tls ? flags | MHD_USE_TLS : flags, 0, on_accept, server, on_request, server,
        MHD_OPTION_EXTERNAL_LOGGER, on_library_message, NULL, MHD_OPTION_LISTEN_SOCKET,
        server->listen_socket, MHD_OPTION_THREAD_POOL_SIZE, server->threads,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)limit, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)config->http_idle_timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)(pool > POOL_MIN ? pool : POOL_MIN), MHD_OPTION_STRICT_FOR_CLIENT, STRICTNESS,
        MHD_OPTION_URI_LOG_CALLBACK, on_first_line, server, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, server, MHD_OPTION_NOTIFY_COMPLETED, on_over, server, MHD_OPTION_ARRAY,
        server->has_tls ? tls : tls + 2, MHD_OPTION_END);
    if (server->daemon == NULL)
        snprintf(error, error_size, "cannot start the HTTP threads: %s", strerror(errno));
    return server->daemon == NULL ? -1 : 0;
}

static int make_no_memory_answer(struct api_server *server)
{
    struct api_text text;
    api_text_init(&text, 1024);
    struct api_error error = {.code = API_ERROR_overloaded,
                              .detail = storm_text("The server is out of memory.")};
    api_error_write(&error, &text);
    struct api_answer answer =
        api_answer_text(MHD_HTTP_SERVICE_UNAVAILABLE, &text, "application/problem+json");
    api_answer_header(&answer, "Retry-After", "1");
    server->no_memory = answer.response;
    return answer.has_failed ? -1 : 0;
}

/* What is read from files, once at the start and again by api_server_reload(). */
static int load_keys(struct api_server *server, char *error, size_t error_size)
{
    struct api_keys *keys = api_keys_load(server->config->auth_keys_file, error, error_size);
    if (keys == NULL)
        return -1;
    pthread_mutex_lock(&server->keys_mu);
    struct api_keys *before = server->keys;
    server->keys = keys;
    pthread_mutex_unlock(&server->keys_mu);
    api_keys_unref(before);
    return 0;
}

static int load_files(struct api_server *server, char *error, size_t error_size)
{
    const struct storm_config *config = server->config;
    if (server->has_keys && load_keys(server, error, error_size) != 0)
        return -1;
    if (!server->has_tls)
        return 0;
    if (MHD_is_feature_supported(MHD_FEATURE_HTTPS_CERT_CALLBACK) != MHD_YES) {
        snprintf(error, error_size,
                 "tls.cert is set, and this libmicrohttpd was built without TLS");
        return -1;
    }
    return api_tls_load(config->tls_cert, config->tls_key, error, error_size);
}

void api_server_reload(struct api_server *server)
{
    const struct storm_config *config = server->config;
    char error[CONFIG_TEXT_MAX + 256];
    if (!server->has_keys && !server->has_tls)
        api_log(STORM_LOG_INFO, "there is nothing to read again: neither keys nor a certificate");
    if (server->has_keys && load_keys(server, error, sizeof error) == 0)
        api_log(STORM_LOG_INFO, "read %zu keys from %s", server->keys->count,
                config->auth_keys_file);
    else if (server->has_keys)
        api_log(STORM_LOG_ERROR, "%s; the keys from before go on being used", error);
    if (server->has_tls &&
        api_tls_load(config->tls_cert, config->tls_key, error, sizeof error) == 0)
        api_log(STORM_LOG_INFO, "read the certificate %s: it is used for new connections",
                config->tls_cert);
    else if (server->has_tls)
        api_log(STORM_LOG_ERROR, "%s; the certificate from before goes on being used", error);
}

static int start_threads(struct api_server *server, char *error, size_t error_size)
{
    if (api_worker_start(&server->worker, server) != 0) {
        snprintf(error, error_size, "cannot start a thread: %s", strerror(EAGAIN));
        return -1;
    }
    server->hub = api_hub_create(server);
    if (server->hub == NULL) {
        snprintf(error, error_size, "cannot start a thread: %s", strerror(EAGAIN));
        return -1;
    }
    server->has_watcher = pthread_create(&server->watcher, NULL, api_watch, server) == 0;
    if (!server->has_watcher) {
        snprintf(error, error_size, "cannot start a thread: %s", strerror(EAGAIN));
        return -1;
    }
    return start_daemon(server, error, error_size);
}

int api_server_start(struct api_server *server, const struct storm_config *config, char *error,
                     size_t error_size)
{
    memset(server, 0, sizeof *server);
    server->config = config;
    server->has_tls = config->tls_cert[0] != '\0';
    server->has_keys = config->auth_keys_file[0] != '\0';
    api_guard_init(&server->guard, config);
    server->started_ms = api_now_ms();
    server->id_seed = server->started_ms;
    if (getrandom(&server->id_seed, sizeof server->id_seed, GRND_NONBLOCK) < 0)
        server->id_seed = api_monotonic_ns();
    server->listen_socket = api_listen(config->listen, server->has_tls ? "https" : "http",
                                       server->url, sizeof server->url, error, error_size);
    if (server->listen_socket < 0)
        return -1;
    api_json_init();
    pthread_mutex_init(&server->mu, NULL);
    api_lines_init(&server->lines);
    pthread_mutex_init(&server->keys_mu, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &attributes);
    pthread_cond_init(&server->watcher_stop, &attributes);
    pthread_condattr_destroy(&attributes);
    int result =
        api_clients_init(&server->clients, config->http_client_connections,
                         config->http_client_requests, config->http_client_burst, server->id_seed);
    if (result != 0 || make_no_memory_answer(server) != 0) {
        snprintf(error, error_size, "out of memory");
        result = -1;
    } else if ((result = load_files(server, error, error_size)) == 0) {
        result = start_threads(server, error, error_size);
    }
    if (result != 0)
        api_server_stop(server);
    return result;
}

void api_server_serve(struct api_server *server, storm_db *db)
{
    atomic_store_explicit(&server->db, db, memory_order_release);
    atomic_store_explicit(&server->state, API_SERVING, memory_order_release);
}

/* ---- Drain and stop ---- */

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000),
                             .tv_nsec = (long)(ns % 1000000000)};
}

/*
 * Wait for the end of everything in flight. Connections that are open without a request may have
 * one on the way: each gets its answer as long as it begins within QUIET_NS of the last, which is
 * more than the thousandth part of a second that a busy client takes.
 */
static bool wait_until_quiet(struct api_server *server, uint64_t grace_ms)
{
    const uint64_t quiet_ns = UINT64_C(200) * 1000000;
    uint64_t now = api_monotonic_ns();
    uint64_t deadline = now + grace_ms * 1000000;
    uint64_t quiet_since = now;
    uint64_t seen = UINT64_MAX;
    for (;;) {
        uint64_t open = atomic_load_explicit(&server->metrics.connections, memory_order_acquire);
        uint64_t busy = atomic_load(&server->metrics.in_flight);
        uint64_t done = atomic_load_explicit(&server->metrics.requests, memory_order_acquire);
        now = api_monotonic_ns();
        if (busy != 0 || done != seen)
            quiet_since = now;
        seen = done;
        if (busy == 0 && (open == 0 || now - quiet_since >= quiet_ns))
            return true;
        if (now >= deadline)
            return busy == 0;
        uint64_t until_ns = busy == 0 ? quiet_since + quiet_ns : deadline;
        struct timespec until = timespec_of(until_ns < deadline ? until_ns : deadline);
        pthread_cond_timedwait(&server->changed, &server->mu, &until);
    }
}

/* Those who have all of their answers, or could have, and do not take them. */
static void cut_readers(struct api_server *server)
{
    for (struct api_connection *at = server->connections; at != NULL; at = at->next) {
        if (atomic_load_explicit(&at->phase, memory_order_relaxed) == API_PHASE_SENDING)
            shutdown(at->socket, SHUT_RDWR);
    }
}

bool api_server_drain(struct api_server *server, uint64_t grace_ms)
{
    MHD_socket listening = MHD_quiesce_daemon(server->daemon);
    if (listening != MHD_INVALID_SOCKET)
        close(listening);
    server->listen_socket = -1;
    atomic_store(&server->state, API_DRAINING); /* seq_cst: see api_metrics_end */
    api_stream_end_all(server);
    pthread_mutex_lock(&server->mu);
    bool is_quiet = wait_until_quiet(server, grace_ms - grace_ms / 4);
    if (!is_quiet) {
        cut_readers(server);
        is_quiet = wait_until_quiet(server, grace_ms / 4);
    }
    pthread_mutex_unlock(&server->mu);
    return is_quiet;
}

void api_server_stop(struct api_server *server)
{
    bool owns_socket = server->daemon == NULL;
    if (server->daemon != NULL)
        MHD_stop_daemon(server->daemon);
    server->daemon = NULL;
    if (server->listen_socket >= 0 && owns_socket)
        close(server->listen_socket);
    api_worker_stop(&server->worker);
    api_hub_destroy(server->hub);
    if (server->has_watcher) {
        pthread_mutex_lock(&server->mu);
        server->is_watcher_stopping = true;
        pthread_cond_signal(&server->watcher_stop);
        pthread_mutex_unlock(&server->mu);
        pthread_join(server->watcher, NULL);
    }
    if (server->no_memory != NULL)
        MHD_destroy_response(server->no_memory);
    api_keys_unref(server->keys);
    api_tls_free();
    api_clients_fini(&server->clients);
    pthread_mutex_destroy(&server->keys_mu);
    pthread_cond_destroy(&server->watcher_stop);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->mu);
    api_lines_fini(&server->lines);
}
