/*
 * stormd as a child process, for tests that talk to it over HTTP: on a free port of 127.0.0.1, with
 * a temporary directory of its own for data and log.
 *
 * Threads: one thread starts and stops; any thread may read `port` in between.
 */
#ifndef TEST_SUPPORT_HTTP_SERVER_H
#define TEST_SUPPORT_HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { SERVER_OPTIONS_MAX = 8 };

struct server {
    const char *program;                         /* borrowed */
    const char *options[SERVER_OPTIONS_MAX + 1]; /* further ones, ended by NULL; borrowed */
    char dir[512];
    unsigned port;
    pid_t pid; /* 0 = not running */
};

/* Choose a port and create the directory. Also calls curl_global_init(). Ends the program with a
 * message when that fails, as everything here does that no test can go on without. */
void server_init(struct server *server, const char *program);

/* Kill the process if it runs and remove the directory. */
void server_fini(struct server *server);

/* Start without waiting. */
void server_spawn(struct server *server);

/* Wait until /readyz answers 200. False when the process ended before or 60 s have passed; the log
 * is shown then, and the process is gone. */
bool server_wait(struct server *server);

/* End it with SIGKILL and wait for its end. */
void server_kill(struct server *server);

/* End it with SIGTERM; returns its exit status, or -1 when a signal ended it. */
int server_stop(struct server *server);

/* Print the end of its log to standard error. */
void server_show_log(const struct server *server);

/* Monotonic milliseconds, and a sleep of so many. */
uint64_t server_now_ms(void);
void server_sleep_ms(uint64_t ms);

#endif
