/*
 * stormctl: what its subcommands share.
 *
 * A subcommand is one row of ctl_commands (main.c) and one function, in a file of its own. Usage,
 * help, near names for misspelt words, and the check of a command line all come from that row.
 *
 * Output. Results go to standard output, everything else to standard error: messages that begin
 * with "stormctl: ", and progress when it is a terminal. With --json the result is one JSON object
 * on several lines. A reader that goes away (`| head`) ends the output quietly.
 *
 * Threads: one, beside those of the store.
 */
#ifndef STORM_CTL_H
#define STORM_CTL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storm/storm.h"

/* How the program ends; scripts rely on the numbers, stormctl(1) lists them. */
enum ctl_exit {
    CTL_OK = 0,
    CTL_FAILED = 1,   /* the operation failed, or verify has found problems */
    CTL_USAGE = 2,    /* the command line makes no sense; nothing was done */
    CTL_NO_STORE = 3, /* the directory does not exist or holds no store */
    CTL_IN_USE = 4,   /* another process has the store open, and the command needs it alone */
    CTL_DENIED = 5,   /* the operating system denied it */
};

/* ---- The table of subcommands ---- */

struct ctl_call;

struct ctl_option {
    const char *name;     /* without dashes; NULL ends the list */
    const char *argument; /* what its argument is called; NULL when it takes none */
    const char *help;     /* one line */
};

struct ctl_command {
    const char *name;
    const char *operands; /* names with blanks between, such as "DIR NEWDIR"; all must be given */
    const char *help;     /* one line, without a full stop */
    const char *more;     /* the rest of its help: sentences, a newline between paragraphs */
    const struct ctl_option *options;
    enum ctl_exit (*run)(const struct ctl_call *call);
};

extern const struct ctl_command ctl_commands[];
extern const size_t ctl_command_count;

/* ---- The command line (arguments.c) ---- */

enum { CTL_OPTIONS_MAX = 12, CTL_OPERANDS_MAX = 4 };

/* One subcommand with its arguments, which are borrowed from argv. */
struct ctl_call {
    const struct ctl_command *command;
    const char *operands[CTL_OPERANDS_MAX];
    const char *values[CTL_OPTIONS_MAX]; /* of command->options; "" for one without argument */
    bool wants_help;
};

/*
 * Read the arguments behind the subcommand's name. Options are --NAME, --NAME=VALUE or --NAME
 * VALUE, before or behind operands; after -- everything is an operand; one given twice counts the
 * last time. CTL_USAGE after saying on standard error what is wrong.
 */
enum ctl_exit ctl_read_arguments(const struct ctl_command *command, int argc, char **argv,
                                 struct ctl_call *call);

/* Whether an option was given, and its argument (NULL when not). `name` must be in the table. */
bool ctl_flag(const struct ctl_call *call, const char *name);
const char *ctl_text(const struct ctl_call *call, const char *name);

/* The same as bytes, empty when not given. */
struct storm_slice ctl_bytes(const struct ctl_call *call, const char *name);

/* Say that the command line makes no sense, and where help is; `command` may be NULL. CTL_USAGE. */
enum ctl_exit ctl_misuse(const struct ctl_command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Write "stormctl NAME [--flag] [--option ARGUMENT] OPERANDS". */
void ctl_put_usage(FILE *stream, const struct ctl_command *command);

/* ---- Stores (store.c) ---- */

struct ctl_store {
    const char *dir; /* borrowed */
    storm_db *db;
    uint64_t errors; /* failures that it had recorded when it was open */
};

/* How to open. The options of the configuration (--config, STORM_CONFIG, STORM_…) matter to those
 * commands that write tables. */
enum ctl_access {
    CTL_READ,  /* read-only: works beside a server, of what was committed up to now */
    CTL_ALONE, /* for writing; nobody else may have it open */
};

/*
 * Open operand 0, which must be a store: nothing is ever created. On failure *store is closed and
 * the reason has been said; with `damage` not NULL, the sentence for a damaged store goes there
 * instead (`size` bytes) and CTL_FAILED comes back with it not empty.
 */
enum ctl_exit ctl_open(const struct ctl_call *call, enum ctl_access access, struct ctl_store *store,
                       char *damage, size_t size);

/* Whether operand 0 is a store, in whatever state: CTL_OK, or CTL_NO_STORE or CTL_DENIED after
 * saying so. */
enum ctl_exit ctl_look(const struct ctl_call *call);

/* Close; a failure is said and turns CTL_OK into CTL_FAILED. */
enum ctl_exit ctl_close(struct ctl_store *store, enum ctl_exit so_far);

/* Say that an operation on an open store failed, in the store's own words if it has recorded any
 * since it was opened. `what` is a verb with its object: "read the store". */
enum ctl_exit ctl_fail(const struct ctl_store *store, storm_status status, const char *what);

/* The exit code for a status. */
enum ctl_exit ctl_exit_of(storm_status status);

/* One word for what a report says of a file, for people and for programs: "corrupt", "missing" … */
const char *ctl_status_word(storm_status status);

/* Sum of the sizes of the files in a directory, not below it; what cannot be read counts 0. */
uint64_t ctl_directory_bytes(const char *dir);

/* ---- What people and programs see (show.c) ---- */

/* A message: one line on standard error. */
void ctl_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "12,345"; "1.2 MiB" (1024s, one decimal place from KiB on, whole bytes below). Return `text`. */
enum { CTL_NUMBER_MAX = 32 };
char *ctl_count_text(char text[CTL_NUMBER_MAX], uint64_t number);
char *ctl_size_text(char text[CTL_NUMBER_MAX], uint64_t bytes);

/* "s" unless the number is 1. */
const char *ctl_plural(uint64_t number);

/* Parts of a JSON object; NULL when out of memory, which json_pack() passes on and ctl_put_json()
 * notices. In a text, bytes that are no UTF-8 (of a directory's name) become '?'. */
json_t *ctl_json_number(uint64_t number);
json_t *ctl_json_text(const char *text);

/* Write an object, whose reference is taken over, to standard output. NULL (out of memory while it
 * was made) is said. */
enum ctl_exit ctl_put_json(json_t *object, enum ctl_exit so_far);

/* Progress on a terminal's standard error, rewritten in place a few times a second. */
struct ctl_progress {
    const char *what; /* "verifying" */
    bool is_wanted;
    bool is_drawn;
    uint64_t drawn_ns; /* monotonic */
};

struct ctl_progress ctl_progress_begin(const char *what, bool is_wanted);
/* A storm_progress_fn; ctx is a struct ctl_progress. Always true. */
bool ctl_progress_show(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
/* Take the line away, before anything else is written. */
void ctl_progress_clear(struct ctl_progress *progress);

/* Write bytes to standard output; false when that has failed, now or earlier. */
bool ctl_put(const void *data, size_t size);
/* Flush standard output at the very end: a failure is said and turns CTL_OK into CTL_FAILED, unless
 * the reader has gone away. */
enum ctl_exit ctl_put_end(enum ctl_exit so_far);

/* ---- The subcommands ---- */

enum ctl_exit ctl_verify(const struct ctl_call *call);
enum ctl_exit ctl_repair(const struct ctl_call *call);
enum ctl_exit ctl_dump(const struct ctl_call *call);
enum ctl_exit ctl_checkpoint(const struct ctl_call *call);
enum ctl_exit ctl_compact(const struct ctl_call *call);
enum ctl_exit ctl_stats(const struct ctl_call *call);
enum ctl_exit ctl_key(const struct ctl_call *call);

extern const struct ctl_option ctl_verify_options[];
extern const struct ctl_option ctl_repair_options[];
extern const struct ctl_option ctl_dump_options[];
extern const struct ctl_option ctl_checkpoint_options[];
extern const struct ctl_option ctl_compact_options[];
extern const struct ctl_option ctl_stats_options[];
extern const struct ctl_option ctl_key_options[];

#endif
