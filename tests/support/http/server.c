/*
 * Starting and ending stormd for tests.
 *
 * The port is one that the kernel has just given out and taken back: it hands ports out in turns,
 * so it is unlikely to give the same one to somebody else before the server has it. The same port
 * is used for every start, as after a real crash.
 *
 * The child's output goes to DIR/log and is shown only when something goes wrong.
 */
#include "http/server.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { START_MS_MAX = 60000 };

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(2);
}

uint64_t server_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void server_sleep_ms(uint64_t ms)
{
    struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        die("no free port");
    close(fd);
    return ntohs(address.sin_port);
}

void server_init(struct server *server, const char *program)
{
    memset(server, 0, sizeof *server);
    server->program = program;
    const char *parent = getenv("TMPDIR");
    snprintf(server->dir, sizeof server->dir, "%s/storm-test.XXXXXX", parent ? parent : "/tmp");
    signal(SIGPIPE, SIG_IGN);
    if (mkdtemp(server->dir) == NULL)
        die(server->dir);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        die("curl_global_init");
    server->port = free_port();
}

void server_fini(struct server *server)
{
    char command[600];
    server_kill(server);
    snprintf(command, sizeof command, "rm -rf '%s'", server->dir);
    if (system(command) != 0)
        fprintf(stderr, "%s is left behind\n", server->dir);
    curl_global_cleanup();
}

/* In the child: only what is safe between fork and exec. */
static void become_server(const struct server *server, char *const *argv, const char *log_path)
{
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log >= 0) {
        dup2(log, STDOUT_FILENO);
        dup2(log, STDERR_FILENO);
    }
    /* A test that is killed takes its server with it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execv(server->program, argv);
    _exit(127);
}

void server_spawn(struct server *server)
{
    char listen_at[64], directory[600], log_path[600];
    char *argv[4 + SERVER_OPTIONS_MAX] = {(char *)server->program, listen_at, directory};
    snprintf(listen_at, sizeof listen_at, "--listen=127.0.0.1:%u", server->port);
    snprintf(directory, sizeof directory, "--data_dir=%s/data", server->dir);
    snprintf(log_path, sizeof log_path, "%s/log", server->dir);
    for (unsigned i = 0; i < SERVER_OPTIONS_MAX && server->options[i] != NULL; i++)
        argv[3 + i] = (char *)server->options[i];
    server->pid = fork();
    if (server->pid < 0)
        die("fork");
    if (server->pid == 0)
        become_server(server, argv, log_path);
}

bool server_wait(struct server *server)
{
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/readyz", server->port);
    uint64_t deadline = server_now_ms() + START_MS_MAX;
    bool ready = false;
    CURL *curl = curl_easy_init();
    if (curl == NULL)
        die("curl_easy_init");
    while (!ready && server_now_ms() < deadline) {
        if (waitpid(server->pid, NULL, WNOHANG) != 0) {
            server->pid = 0;
            break;
        }
        long status = 0;
        curl_easy_setopt(curl, CURLOPT_URL, url);
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, 5L);
        if (curl_easy_perform(curl) == CURLE_OK)
            curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        ready = status == 200;
        if (!ready)
            server_sleep_ms(5);
    }
    curl_easy_cleanup(curl);
    if (!ready) {
        fprintf(stderr, "stormd did not become ready\n");
        server_show_log(server);
        server_kill(server);
    }
    return ready;
}

void server_kill(struct server *server)
{
    if (server->pid <= 0)
        return;
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
}

int server_stop(struct server *server)
{
    int status = -1;
    if (server->pid <= 0)
        return -1;
    kill(server->pid, SIGTERM);
    waitpid(server->pid, &status, 0);
    server->pid = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void server_show_log(const struct server *server)
{
    char command[600];
    snprintf(command, sizeof command, "tail -n 30 '%s/log' >&2", server->dir);
    if (system(command) != 0)
        fputs("its log cannot be shown\n", stderr);
}
