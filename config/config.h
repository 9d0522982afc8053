/*
 * Configuration of stormd: command line, environment and file, read into one plain structure.
 *
 * Terms
 *   option     one row of options.def, with one dotted name such as wal.sync in all sources.
 *   source     where a value was given. A flag beats the environment, which beats the file, which
 *              beats the default.
 *   origin     the source that won, kept for every option.
 *
 * Threads: everything here runs before the server starts its threads; a filled storm_config may be
 * read by any number of threads as long as nobody writes to it. Nothing here prints or exits, and
 * nothing allocates memory that outlives a call.
 */
#ifndef STORM_CONFIG_H
#define STORM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Room for a text value with its terminator: a path, an address. */
#define CONFIG_TEXT_MAX 1024

/* enum config_wal_sync, enum config_table_codec and so on, from the choices of options.def. */
#define CONFIG_ENUMERATOR(id, word) id,
#define OPTION(kind, field, name, fallback, low, high, flags, help)
#define CHOICE(field, name, fallback, help)                                                        \
    enum config_##field{CONFIG_CHOICES_##field(CONFIG_ENUMERATOR)};
#include "options.def"
#undef OPTION
#undef CHOICE
#undef CONFIG_ENUMERATOR

/* CONFIG_wal_sync and so on: the number of each option. */
#define OPTION(kind, field, name, fallback, low, high, flags, help) CONFIG_##field,
#define CHOICE(field, name, fallback, help)                         CONFIG_##field,
enum config_id {
#include "options.def"
    CONFIG_OPTION_COUNT
};
#undef OPTION
#undef CHOICE

enum config_source { CONFIG_DEFAULT, CONFIG_FILE, CONFIG_ENVIRONMENT, CONFIG_FLAG };

struct config_origin {
    enum config_source source;
    unsigned line; /* in the file, from 1; 0 for the other sources */
};

#define CONFIG_TYPE_ADDRESS(field)      char field[CONFIG_TEXT_MAX];
#define CONFIG_TYPE_PATH(field)         char field[CONFIG_TEXT_MAX];
#define CONFIG_TYPE_ORIGINS(field)      char field[CONFIG_TEXT_MAX];
#define CONFIG_TYPE_HOSTS(field)        char field[CONFIG_TEXT_MAX];
#define CONFIG_TYPE_BYTES(field)        uint64_t field;
#define CONFIG_TYPE_COUNT(field)        uint64_t field;
#define CONFIG_TYPE_NUMBER(field)       double field;
#define CONFIG_TYPE_MILLISECONDS(field) uint64_t field;
#define CONFIG_TYPE_SECONDS(field)      uint64_t field;

/* One field for each option, all of them valid once config_parse() has returned 0. */
struct storm_config {
#define OPTION(kind, field, name, fallback, low, high, flags, help) CONFIG_TYPE_##kind(field)
#define CHOICE(field, name, fallback, help)                         enum config_##field field;
#include "options.def"
#undef OPTION
#undef CHOICE
    char file[CONFIG_TEXT_MAX]; /* the configuration file that was read; empty when none was */
    struct config_origin origins[CONFIG_OPTION_COUNT];
};

/* What the command line asks stormd to do. */
enum config_action {
    CONFIG_RUN,         /* no command: serve */
    CONFIG_CHECK,       /* check-config: say that the configuration is valid, and exit */
    CONFIG_PRINT,       /* --print-config: print it with every value's origin, and exit */
    CONFIG_VERSION,     /* --version */
    CONFIG_HELP,        /* --help or -h */
    CONFIG_HEALTHCHECK, /* healthcheck: ask the server at `listen` whether it is ready */
};

/* Everything that is wrong, one line for each mistake, each ended by a newline. Mistakes that no
 * longer fit are counted but not written. User input in it has its control characters replaced. */
struct config_error {
    unsigned count;
    size_t used;
    char text[8192];
};

/*
 * Read the command line (argv[0] is skipped), the environment (`envp` as in environ; NULL for none)
 * and the configuration file that --config or STORM_CONFIG names. Returns 0 with *out and *action
 * filled. Returns -1 with every mistake in *error; *out is then still safe to read but holds
 * whatever was valid. After --help and --version nothing else is looked at and *out has the
 * defaults.
 */
int config_parse(int argc, char **argv, char **envp, struct storm_config *out,
                 enum config_action *action, struct config_error *error);

/*
 * Whether a server may be started like this: not on an address that others reach without keys, and
 * not with half of what TLS takes. 0, or -1 with what is wrong added to *error, which
 * config_parse() has left.
 */
int config_check_start(const struct storm_config *config, struct config_error *error);

/* Fill with the defaults. */
void config_init(struct storm_config *out);

/* Write every option with its value and, in a comment, its origin. The output is itself a valid
 * configuration file that yields the same values. */
void config_print(const struct storm_config *config, FILE *stream);

/* Write the text of --help. */
void config_help(FILE *stream);

/* The dotted name of an option. Static. */
const char *config_name(enum config_id id);

/* Write an option's value as a user would write it, and where it came from ("default",
 * "storm.conf:12", "STORM_WAL_SYNC" or "--wal.sync"). Both return `text`, always terminated; a text
 * that does not fit in `size` is cut. */
char *config_value_text(const struct storm_config *config, enum config_id id, char *text,
                        size_t size);
char *config_origin_text(const struct storm_config *config, enum config_id id, char *text,
                         size_t size);

/* Split HOST:PORT or [IPV6]:PORT; brackets are dropped. Returns 0, or -1 when it has neither form,
 * the host does not fit or the port is above 65535. The host is not looked up. */
int config_split_address(const char *address, char *host, size_t size, uint16_t *port);

/* Whether a host as written in `listen` is this machine and nobody else can reach it: localhost,
 * 127.0.0.0/8, ::1. */
bool config_is_loopback(const char *host);

#endif
