/*
 * bare: libmicrohttpd with nothing behind it, the yardstick for tests/bench/http.sh.
 *
 *   bare PORT THREADS answer           every request gets 100 bytes of JSON at once
 *   bare PORT THREADS sync FILE        a request with a body is suspended until 4 KiB of it are on
 *                                      the disk, then answered; others as above
 *
 * The daemon has the flags that stormd has (epoll, a pool of threads, suspend and resume), so that
 * the difference is what stormd does for a request, not how it is served.
 *
 * In the second mode one thread takes whatever requests have come since it last looked, writes
 * 4 KiB for each of them at the next place of a preallocated file, calls fdatasync once for all of
 * them, and resumes them: group commit in its simplest form. The file is used in a circle. While it
 * syncs, the next group gathers in `waiting`; `mutex` guards that list.
 *
 * Runs until it is killed.
 */
#include <fcntl.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    RECORD_BYTES = 4096,
    FILE_BYTES = 64 << 20, /* as one segment of the log */
};

/* One request, from its first call to its end. */
struct job {
    struct MHD_Connection *connection;
    struct job *next;
    bool synced;
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct job *waiting; /* mutex */
    int fd;              /* const after start; -1 = answer at once */
} disk = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, -1};

static const char answer_text[] =
    "{\"key\":\"0123456789012345678901234567890123456789\",\"revision\":1234567890,"
    "\"created\":false,\"padding\":1}\n";
_Static_assert(sizeof answer_text - 1 >= 95 && sizeof answer_text - 1 <= 105, "about 100 bytes");

static enum MHD_Result answer(struct MHD_Connection *connection)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        sizeof answer_text - 1, (void *)answer_text, MHD_RESPMEM_PERSISTENT);
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", "application/json");
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

static void *sync_groups(void *unused)
{
    static const char record[RECORD_BYTES] = {1};
    off_t at = 0;
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&disk.mutex);
        while (disk.waiting == NULL)
            pthread_cond_wait(&disk.wake, &disk.mutex);
        struct job *group = disk.waiting;
        disk.waiting = NULL;
        pthread_mutex_unlock(&disk.mutex);

        for (struct job *job = group; job != NULL; job = job->next) {
            if (pwrite(disk.fd, record, sizeof record, at) != (ssize_t)sizeof record)
                abort();
            at = (at + RECORD_BYTES) % FILE_BYTES;
        }
        if (fdatasync(disk.fd) != 0)
            abort();
        while (group != NULL) {
            struct job *job = group;
            /* Once resumed, the job may be gone. */
            group = job->next;
            job->synced = true;
            MHD_resume_connection(job->connection);
        }
    }
    return NULL;
}

static enum MHD_Result handle(void *unused, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *body,
                              size_t *body_size, void **context)
{
    struct job *job = *context;
    (void)unused, (void)url, (void)method, (void)version, (void)body;
    if (job == NULL) {
        *context = job = calloc(1, sizeof *job);
        if (job != NULL)
            job->connection = connection;
        return job != NULL ? MHD_YES : MHD_NO;
    }
    if (*body_size > 0) {
        *body_size = 0;
        return MHD_YES;
    }
    if (disk.fd < 0 || strcmp(method, "PUT") != 0 || job->synced)
        return answer(connection);
    MHD_suspend_connection(connection);
    pthread_mutex_lock(&disk.mutex);
    job->next = disk.waiting;
    disk.waiting = job;
    pthread_cond_signal(&disk.wake);
    pthread_mutex_unlock(&disk.mutex);
    return MHD_YES;
}

static void finish(void *unused, struct MHD_Connection *connection, void **context,
                   enum MHD_RequestTerminationCode code)
{
    (void)unused, (void)connection, (void)code;
    free(*context);
    *context = NULL;
}

/* Create the file with all its blocks written, so that fdatasync has no metadata to write. */
static void open_disk(const char *path)
{
    static char zeros[1 << 20];
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (off_t at = 0; fd >= 0 && at < FILE_BYTES; at += (off_t)sizeof zeros)
        if (pwrite(fd, zeros, sizeof zeros, at) != (ssize_t)sizeof zeros)
            abort();
    if (fd < 0 || fsync(fd) != 0) {
        perror(path);
        exit(1);
    }
    disk.fd = fd;
    pthread_t thread;
    if (pthread_create(&thread, NULL, sync_groups, NULL) != 0)
        abort();
}

int main(int argc, char **argv)
{
    if (argc < 4 || (strcmp(argv[3], "sync") == 0 && argc < 5)) {
        fprintf(stderr, "usage: bare PORT THREADS answer | bare PORT THREADS sync FILE\n");
        return 2;
    }
    if (strcmp(argv[3], "sync") == 0)
        open_disk(argv[4]);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG,
        (uint16_t)strtoul(argv[1], NULL, 10), NULL, NULL, handle, NULL, MHD_OPTION_THREAD_POOL_SIZE,
        (unsigned)strtoul(argv[2], NULL, 10), MHD_OPTION_CONNECTION_LIMIT, 10000u,
        MHD_OPTION_CONNECTION_TIMEOUT, 60u, MHD_OPTION_NOTIFY_COMPLETED, finish, NULL,
        MHD_OPTION_END);
    if (daemon == NULL)
        return 1;
    for (;;)
        pause();
}
