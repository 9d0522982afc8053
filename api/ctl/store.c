/*
 * Opening a store for a command, and saying why something failed.
 *
 * Reading. A read-only open takes no lock, so that it works beside a server. The server may
 * meanwhile remove a table or a segment of the log that this open has just read the name of; that
 * looks like damage, but is gone at the next attempt, and real damage is not. So damage is believed
 * only after a few attempts. Once open, everything that is read is held open, and what the server
 * does no longer matters.
 *
 * Writing. An open for writing leaves a lock file in any directory it is given, even one without a
 * store, and so may a repair. A read-only one goes first, and a directory that is none is left as
 * it is.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "ctl.h"
#include "store.h"

extern char **environ;

/* 20, 80 and 320 ms between them: a server needs less to go from one manifest to the next. */
enum { READ_ATTEMPTS = 4, FIRST_PAUSE_MS = 20, PAUSE_FACTOR = 4 };

/* A scan has no use for more. */
#define READ_CACHE_BYTES ((size_t)8 << 20)

enum ctl_exit ctl_exit_of(storm_status status)
{
    switch (status) {
    case STORM_OK:
        return CTL_OK;
    case STORM_NOT_FOUND:
        return CTL_NO_STORE;
    case STORM_LOCKED:
        return CTL_IN_USE;
    case STORM_DENIED:
        return CTL_DENIED;
    default:
        return CTL_FAILED;
    }
}

const char *ctl_status_word(storm_status status)
{
    switch (status) {
    case STORM_OK:
        return "ok";
    case STORM_NOT_FOUND:
        return "missing";
    case STORM_IO:
        return "unreadable";
    case STORM_CORRUPT:
        return "corrupt";
    case STORM_NEWER_FORMAT:
        return "newer";
    case STORM_DENIED:
        return "denied";
    default:
        return "failed";
    }
}

static void pause_ms(unsigned ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&time, &time) != 0 && errno == EINTR)
        ;
}

static struct storm_options read_only_options(void)
{
    struct storm_options options;
    storm_options_init(&options);
    options.read_only = true;
    options.must_exist = true;
    options.cache_bytes = READ_CACHE_BYTES;
    return options;
}

static storm_status open_read_only(const char *dir, storm_db **db, struct storm_error *error)
{
    struct storm_options options = read_only_options();
    storm_status status = storm_open(dir, &options, db, error);
    unsigned ms = FIRST_PAUSE_MS;
    for (int attempt = 1; status == STORM_CORRUPT && attempt < READ_ATTEMPTS; attempt++) {
        pause_ms(ms);
        ms *= PAUSE_FACTOR;
        status = storm_open(dir, &options, db, error);
    }
    return status;
}

/* What stormd would open the store with. */
static enum ctl_exit read_configuration(const struct ctl_call *call, struct storm_options *options)
{
    /* Each holds texts of configuration: too much for a stack. */
    static struct storm_config config;
    static struct config_error error;
    enum config_action action;
    const char *file = ctl_text(call, "config");
    char name[] = "stormctl", flag[] = "--config", value[CONFIG_TEXT_MAX] = "";
    char *argv[] = {name, flag, value, NULL};
    if (file != NULL && (size_t)snprintf(value, sizeof value, "%s", file) >= sizeof value)
        return ctl_misuse(call->command, "--config: the name of the file is too long");
    if (config_parse(file == NULL ? 1 : 3, argv, environ, &config, &action, &error) != 0) {
        fputs(error.text, stderr);
        return CTL_USAGE;
    }
    api_store_options(&config, options);
    return CTL_OK;
}

static enum ctl_exit refuse(const char *dir, const struct storm_error *error)
{
    struct stat about;
    if (stat(dir, &about) == 0 && !S_ISDIR(about.st_mode)) {
        ctl_say("cannot open %s: it is not a directory", dir);
        return CTL_NO_STORE;
    }
    ctl_say("cannot open %s: %s%s", dir, api_store_reason(dir, error->message),
            api_store_advice(error->status));
    return ctl_exit_of(error->status);
}

static enum ctl_exit open_alone(const struct ctl_call *call, struct ctl_store *store)
{
    struct storm_options options;
    struct storm_error error;
    enum ctl_exit code = read_configuration(call, &options);
    if (code != CTL_OK)
        return code;
    options.must_exist = true;
    if (storm_open(store->dir, &options, &store->db, &error) != STORM_OK)
        return refuse(store->dir, &error);
    return CTL_OK;
}

enum ctl_exit ctl_open(const struct ctl_call *call, enum ctl_access access, struct ctl_store *store,
                       char *damage, size_t size)
{
    struct storm_error error;
    struct storm_stats stats;
    *store = (struct ctl_store){.dir = call->operands[0]};
    storm_status status = open_read_only(store->dir, &store->db, &error);
    if (status == STORM_CORRUPT && damage != NULL) {
        snprintf(damage, size, "%s", error.message);
        return CTL_FAILED;
    }
    if (status != STORM_OK)
        return refuse(store->dir, &error);
    if (access == CTL_ALONE) {
        (void)storm_close(store->db);
        store->db = NULL;
        enum ctl_exit code = open_alone(call, store);
        if (code != CTL_OK)
            return code;
    }
    if (storm_stats_read(store->db, &stats) == STORM_OK)
        store->errors = stats.errors;
    if (access == CTL_ALONE && stats.corruptions != 0)
        ctl_say("%s has damaged tables; `stormctl verify` lists what is wrong", store->dir);
    return CTL_OK;
}

enum ctl_exit ctl_look(const struct ctl_call *call)
{
    const char *dir = call->operands[0];
    struct storm_options options = read_only_options();
    struct storm_error error;
    storm_db *db;
    storm_status status = storm_open(dir, &options, &db, &error);
    (void)storm_close(db);
    struct stat about;
    bool is_file = stat(dir, &about) == 0 && !S_ISDIR(about.st_mode);
    bool is_none = status == STORM_NOT_FOUND || status == STORM_DENIED || is_file;
    return is_none ? refuse(dir, &error) : CTL_OK;
}

enum ctl_exit ctl_close(struct ctl_store *store, enum ctl_exit so_far)
{
    storm_status status = storm_close(store->db);
    store->db = NULL;
    if (status == STORM_OK)
        return so_far;
    ctl_say("closing %s failed: %s", store->dir, storm_status_text(status));
    return so_far == CTL_OK ? CTL_FAILED : so_far;
}

enum ctl_exit ctl_fail(const struct ctl_store *store, storm_status status, const char *what)
{
    struct storm_stats stats;
    char text[512] = "";
    if (storm_stats_read(store->db, &stats) == STORM_OK && stats.errors != store->errors)
        storm_last_error(store->db, text, sizeof text);
    ctl_say("cannot %s: %s%s", what, text[0] == '\0' ? storm_status_text(status) : text,
            status == STORM_NO_SPACE ? api_store_advice(status) : "");
    /* The store itself is there: what is not found now is something else. */
    return status == STORM_NOT_FOUND ? CTL_FAILED : ctl_exit_of(status);
}

uint64_t ctl_directory_bytes(const char *dir)
{
    uint64_t bytes = 0;
    DIR *stream = opendir(dir);
    if (stream == NULL)
        return 0;
    for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        struct stat about;
        if (fstatat(dirfd(stream), entry->d_name, &about, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(about.st_mode))
            bytes += (uint64_t)about.st_size;
    }
    closedir(stream);
    return bytes;
}
