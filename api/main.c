/*
 * stormd: from the command line to a served store and back to a closed one.
 *
 *   configuration -> listening socket, HTTP threads (503 starting) -> store opened -> serving
 *   signal -> draining -> HTTP stopped -> store closed -> exit 0
 *
 * Signals. SIGTERM and SIGINT are blocked in every thread and taken by one that waits for them. The
 * first asks for the drain, or ends the process at once while the store is still being opened,
 * which loses nothing: recovery may be cut at any point. The second exits at once with 128 + its
 * number. Ten seconds after the first the process is gone in any case; what was acknowledged is in
 * the log.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "config.h"
#include "healthcheck.h"
#include "log.h"
#include "moment.h"
#include "secret.h"
#include "server.h"
#include "store.h"

extern char **environ;

enum {
    EXIT_USAGE = 2,
    /* From the first signal to the end at the latest. */
    LAST_SECONDS = 9,
    /* Descriptors beside connections: tables, log, epoll. */
    OTHER_FILES = 4096,
};

/* ---- Signals ---- */

struct stop {
    pthread_mutex_t mu;
    pthread_cond_t asked;
    bool is_asked;             /* mu */
    bool is_serving;           /* mu: there is something to drain */
    struct api_server *server; /* mu: what SIGHUP is for; NULL while it starts */
    bool is_reload_missed;     /* mu: SIGHUP came before that */
    sigset_t signals;
};

static void block_signals(struct stop *stop)
{
    sigemptyset(&stop->signals);
    sigaddset(&stop->signals, SIGTERM);
    sigaddset(&stop->signals, SIGINT);
    sigaddset(&stop->signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &stop->signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The second signal, or the end of patience. */
static void wait_for_more(const struct stop *stop)
{
    uint64_t deadline_ns = api_monotonic_ns() + LAST_SECONDS * UINT64_C(1000000000);
    for (uint64_t now = api_monotonic_ns(); now < deadline_ns; now = api_monotonic_ns()) {
        uint64_t left_ns = deadline_ns - now;
        struct timespec left = {.tv_sec = (time_t)(left_ns / 1000000000),
                                .tv_nsec = (long)(left_ns % 1000000000)};
        /* It fails early when a debugger or a leak checker stops the threads. */
        int number = sigtimedwait(&stop->signals, NULL, &left);
        if (number > 0 && number != SIGHUP)
            _exit(128 + number);
    }
    api_log(STORM_LOG_ERROR,
            "could not finish within %d seconds; what was acknowledged is in the log and will be "
            "recovered",
            LAST_SECONDS);
    _exit(EXIT_FAILURE);
}

static void reload(struct stop *stop)
{
    pthread_mutex_lock(&stop->mu);
    stop->is_reload_missed = stop->server == NULL;
    if (stop->server != NULL)
        api_server_reload(stop->server);
    pthread_mutex_unlock(&stop->mu);
}

static void *take_signals(void *argument)
{
    struct stop *stop = argument;
    int number = 0;
    while (sigwait(&stop->signals, &number) != 0 || number == SIGHUP) {
        if (number == SIGHUP)
            reload(stop);
    }
    api_log(STORM_LOG_INFO, "received %s: stopping", number == SIGINT ? "SIGINT" : "SIGTERM");
    pthread_mutex_lock(&stop->mu);
    if (!stop->is_serving)
        _exit(EXIT_SUCCESS);
    stop->is_asked = true;
    pthread_cond_signal(&stop->asked);
    pthread_mutex_unlock(&stop->mu);
    wait_for_more(stop);
    return NULL;
}

static void wait_for_signal(struct stop *stop)
{
    pthread_mutex_lock(&stop->mu);
    while (!stop->is_asked)
        pthread_cond_wait(&stop->asked, &stop->mu);
    pthread_mutex_unlock(&stop->mu);
}

/* From now on SIGHUP reaches the server, or none with NULL. One that came while the server was
 * reading its files may be about what it did not see. */
static void accept_reloads(struct stop *stop, struct api_server *server)
{
    pthread_mutex_lock(&stop->mu);
    if (stop->is_reload_missed && server != NULL)
        api_server_reload(server);
    stop->server = server;
    pthread_mutex_unlock(&stop->mu);
}

static void begin_serving(struct stop *stop)
{
    pthread_mutex_lock(&stop->mu);
    stop->is_serving = true;
    pthread_mutex_unlock(&stop->mu);
}

/* As many descriptors as connections may need, as far as the hard limit goes. */
static void raise_file_limit(const struct storm_config *config)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)config->http_max_connections + OTHER_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < wanted)
        api_log(STORM_LOG_WARN,
                "at most %llu files may be open; http.max_connections would need %llu",
                (unsigned long long)limit.rlim_cur, (unsigned long long)wanted);
}

/* ---- Banner ---- */

static const char *durability(const struct storm_config *config, char *text, size_t size)
{
    switch (config->wal_sync) {
    case CONFIG_WAL_SYNC_INTERVAL:
        snprintf(text, size,
                 "a 2xx survives a crash of the server; power loss may take the last %llu ms",
                 (unsigned long long)config->wal_interval_ms);
        return text;
    case CONFIG_WAL_SYNC_OFF:
        return "a 2xx survives a crash of the server, but not power loss";
    default:
        return "a 2xx is on the disk and survives power loss";
    }
}

/* Who may do what, in a line. */
static const char *access_of(const struct api_server *server)
{
    if (server->has_keys)
        return server->has_tls || server->guard.is_loopback
                   ? "with a key"
                   : "with a key, which is readable on the way here: see tls.cert";
    return server->guard.is_loopback
               ? "everybody on this machine may do everything; see auth.keys_file"
               : "EVERYBODY WHO REACHES THIS ADDRESS MAY DO EVERYTHING";
}

/* A key that is ready to be used, for whoever is looking. Logs are kept, so it does not go
 * there. */
static void suggest_key(const struct api_server *server)
{
    char secret[API_SECRET_TEXT], text[API_DIGEST_TEXT];
    uint8_t digest[API_DIGEST_SIZE];
    if (server->has_keys || !isatty(STDERR_FILENO) || !api_secret_make(secret) ||
        !api_secret_digest(storm_text(secret), digest))
        return;
    fprintf(stderr, "  a key       %s, once auth.keys_file has: sha256:%s read,write,admin\n",
            secret, api_digest_write(digest, text));
    explicit_bzero(secret, sizeof secret);
}

/* What should not pass unseen in a log. */
static void warn_of_access(const struct api_server *server)
{
    if (server->guard.is_loopback)
        return;
    if (!server->has_keys)
        api_log(
            STORM_LOG_WARN,
            "no key is asked for: everybody who reaches %s may read, change and delete everything; "
            "make a key with `stormctl key` and set auth.keys_file",
            server->config->listen);
    else if (!server->has_tls)
        api_log(
            STORM_LOG_WARN,
            "keys cross the network in the clear unless a proxy in front of this server has TLS; "
            "see tls.cert and tls.key");
}

static void show_banner(const struct api_server *server, storm_db *db)
{
    const struct storm_config *config = server->config;
    char words[160];
    struct storm_stats stats;
    if (storm_stats_read(db, &stats) != STORM_OK)
        memset(&stats, 0, sizeof stats);
    warn_of_access(server);
    const char *promise = durability(config, words, sizeof words);
    if (config->log_format == CONFIG_LOG_FORMAT_JSON) {
        api_log(STORM_LOG_INFO, "serving %s on %s at revision %llu: %s", config->data_dir,
                server->url, (unsigned long long)stats.revision, promise);
        return;
    }
    fprintf(stderr,
            "Storm DB %s serves %s\n"
            "  data        %s, at revision %llu, %llu tables, %llu recovered entries in memory\n"
            "  durability  %s\n"
            "  limits      key %llu, JSON %llu, other values %llu bytes\n"
            "  threads     %u for up to %llu connections\n"
            "  access      %s\n"
            "  try         curl%s -X PUT %s/kv/hello -d '\"world\"'\n",
            storm_version(), server->url, config->data_dir, (unsigned long long)stats.revision,
            (unsigned long long)stats.sstable_count, (unsigned long long)stats.memtable_entries,
            promise, (unsigned long long)config->limits_key_bytes,
            (unsigned long long)config->limits_json_bytes,
            (unsigned long long)config->limits_value_bytes, server->threads,
            (unsigned long long)config->http_max_connections, access_of(server),
            server->has_keys ? " -H 'Authorization: Bearer KEY'" : "", server->url);
    suggest_key(server);
}

/* ---- Serving ---- */

static int stop_serving(struct api_server *server, storm_db *db)
{
    if (!api_server_drain(server, server->config->shutdown_grace_ms)) {
        api_log(STORM_LOG_ERROR,
                "requests were still waiting after %llu ms; what was acknowledged "
                "is in the log and will be recovered",
                (unsigned long long)server->config->shutdown_grace_ms);
        _exit(EXIT_FAILURE);
    }
    unsigned long long requests = atomic_load(&server->metrics.requests);
    api_server_stop(server);
    storm_status status = storm_close(db);
    if (status != STORM_OK) {
        api_log(STORM_LOG_ERROR, "closing the store failed: %s", storm_status_text(status));
        return EXIT_FAILURE;
    }
    api_log(STORM_LOG_INFO, "stopped after %llu requests", requests);
    return EXIT_SUCCESS;
}

static int serve(const struct storm_config *config)
{
    /* The thread that takes signals goes on to the very end of the process, and so does this. */
    static struct stop stop = {.mu = PTHREAD_MUTEX_INITIALIZER, .asked = PTHREAD_COND_INITIALIZER};
    struct api_server server;
    char problem[CONFIG_TEXT_MAX + 256];
    pthread_t signals;
    block_signals(&stop);
    raise_file_limit(config);
    if (pthread_create(&signals, NULL, take_signals, &stop) != 0) {
        fprintf(stderr, "stormd: cannot start a thread\n");
        return EXIT_FAILURE;
    }
    pthread_detach(signals);
    if (api_server_start(&server, config, problem, sizeof problem) != 0) {
        fprintf(stderr, "stormd: %s\n", problem);
        return EXIT_FAILURE;
    }
    accept_reloads(&stop, &server);
    struct storm_options options;
    struct storm_error error;
    storm_db *db;
    api_store_options(config, &options);
    options.log = api_log_line;
    storm_status status = storm_open(config->data_dir, &options, &db, &error);
    if (status != STORM_OK) {
        accept_reloads(&stop, NULL);
        api_server_drain(&server, 1000);
        api_server_stop(&server);
        bool is_place = status == STORM_LOCKED || status == STORM_DENIED;
        fprintf(stderr, "stormd: cannot open %s: %s%s%s\n", config->data_dir,
                api_store_reason(config->data_dir, error.message), api_store_advice(status),
                is_place ? ", or choose another directory with --data_dir" : "");
        return EXIT_FAILURE;
    }
    begin_serving(&stop);
    api_server_serve(&server, db);
    show_banner(&server, db);
    wait_for_signal(&stop);
    return stop_serving(&server, db);
}

int main(int argc, char **argv)
{
    /* Each holds texts of configuration: too much for the stack of a debugger's patience. */
    static struct storm_config config;
    static struct config_error error;
    enum config_action action;
    if (config_parse(argc, argv, environ, &config, &action, &error) != 0) {
        fputs(error.text, stderr);
        return EXIT_USAGE;
    }
    if ((action == CONFIG_RUN || action == CONFIG_CHECK) &&
        config_check_start(&config, &error) != 0) {
        fputs(error.text, stderr);
        return EXIT_USAGE;
    }
    static const enum storm_log_level levels[] = {
        [CONFIG_LOG_LEVEL_ERROR] = STORM_LOG_ERROR,
        [CONFIG_LOG_LEVEL_WARN] = STORM_LOG_WARN,
        [CONFIG_LOG_LEVEL_INFO] = STORM_LOG_INFO,
        [CONFIG_LOG_LEVEL_DEBUG] = STORM_LOG_DEBUG,
    };
    api_log_init(levels[config.log_level], config.log_format == CONFIG_LOG_FORMAT_JSON);
    switch (action) {
    case CONFIG_CHECK:
        printf("The configuration is valid.\n");
        return EXIT_SUCCESS;
    case CONFIG_PRINT:
        config_print(&config, stdout);
        return EXIT_SUCCESS;
    case CONFIG_VERSION:
        printf("stormd %s\n", storm_version());
        return EXIT_SUCCESS;
    case CONFIG_HELP:
        config_help(stdout);
        return EXIT_SUCCESS;
    case CONFIG_HEALTHCHECK:
        return api_healthcheck(config.listen, config.tls_cert[0] != '\0');
    case CONFIG_RUN:
        break;
    }
    return serve(&config);
}
