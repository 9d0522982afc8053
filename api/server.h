/*
 * The HTTP server: listening socket, libmicrohttpd's threads, the list of connections, draining.
 *
 * It starts without a store and answers 503 `starting` (but for /healthz and what needs none) until
 * api_server_serve() hands it one.
 */
#ifndef STORM_API_SERVER_H
#define STORM_API_SERVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "clients.h"
#include "config.h"
#include "guard.h"
#include "keys.h"
#include "line.h"
#include "metrics.h"
#include "storm/storm.h"

enum api_state { API_STARTING, API_SERVING, API_DRAINING };

struct api_connection;
struct api_hub;
struct api_request;
struct api_stream;
struct MHD_Daemon;
struct MHD_Response;

/* One thread for what blocks for long: flushes. */
struct api_worker {
    pthread_t thread;
    bool is_running;
    pthread_mutex_t mu;
    pthread_cond_t has_work;
    struct api_request *first, *last; /* mu */
    bool wants_flush;                 /* mu: a flush that nobody waits for */
    bool is_stopping;                 /* mu */
};

struct api_server {
    const struct storm_config *config; /* const */
    uint64_t started_ms;               /* const */
    char url[CONFIG_TEXT_MAX + 32];    /* const: http://HOST:PORT, or https:// */
    bool has_tls;                      /* const */
    bool has_keys;                     /* const: requests must carry one */
    struct api_guard guard;            /* const */
    unsigned threads;                  /* const */
    int listen_socket;
    struct MHD_Daemon *daemon;
    struct MHD_Response *no_memory; /* const: the answer when there is no memory for another */

    _Atomic(storm_db *) db; /* atomic: NULL while starting; release in api_server_serve */
    _Atomic int state;      /* atomic: enum api_state */
    struct api_metrics metrics;
    _Atomic uint64_t body_bytes; /* atomic: memory for bodies, all requests together */
    _Atomic uint64_t next_id;    /* atomic */
    uint64_t id_seed;            /* const */

    struct api_worker worker;
    struct api_lines lines;
    struct api_clients clients;

    pthread_mutex_t keys_mu;
    struct api_keys *keys; /* keys_mu */
    struct api_hub *hub;   /* const: of those who watch the store */

    pthread_mutex_t mu;
    pthread_cond_t changed;             /* a connection ended, or a request while draining */
    pthread_cond_t watcher_stop;        /* is_watcher_stopping */
    struct api_connection *connections; /* mu */
    struct api_stream *streams;         /* mu */
    bool is_watcher_stopping;           /* mu */
    pthread_t watcher;
    bool has_watcher;
};

/* Bind, listen, start the threads. 0, or -1 with a sentence in `error`. `config` is borrowed until
 * api_server_stop(). */
int api_server_start(struct api_server *server, const struct storm_config *config, char *error,
                     size_t error_size);

/*
 * Read keys and certificate again (SIGHUP), and log what came of it. Requests and connections go
 * on; a file that cannot be used changes nothing. One thread at a time.
 */
void api_server_reload(struct api_server *server);

/* From now on requests reach the store. It is borrowed until api_server_stop(). */
void api_server_serve(struct api_server *server, storm_db *db);

/*
 * Take no new connections, answer what is in flight, each answer with Connection: close; streams
 * are told to end. Clients that have not taken their answers after three quarters of `grace_ms` are
 * cut off. Returns true when nothing is left within `grace_ms`, false when something is still
 * waiting; the server must then not be stopped (its store is in use), and only leaving the process
 * is left.
 */
bool api_server_drain(struct api_server *server, uint64_t grace_ms);

/* Whether the server is on its way out, as a hint: nothing that the drain wrote comes with it. */
static inline bool api_is_draining(struct api_server *server)
{
    return atomic_load_explicit(&server->state, memory_order_relaxed) == API_DRAINING;
}

/* Stop the threads and free everything. Nothing may be in flight. */
void api_server_stop(struct api_server *server);

/* Used by the files of this folder. */
int api_listen(const char *address, const char *scheme, char *url, size_t url_size, char *error,
               size_t error_size);
void *api_watch(void *server);
int api_worker_start(struct api_worker *worker, struct api_server *server);
void api_worker_stop(struct api_worker *worker);

#endif
