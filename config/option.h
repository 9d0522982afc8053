/* The table of options at run time, and what the files of config/ share. Not for other folders,
 * except for tests and genman, which print the table. */
#ifndef STORM_CONFIG_OPTION_H
#define STORM_CONFIG_OPTION_H

#include "config.h"

enum config_kind {
    CONFIG_KIND_ADDRESS,      /* HOST:PORT */
    CONFIG_KIND_PATH,         /* any text that a configuration file can hold */
    CONFIG_KIND_ORIGINS,      /* https://app.example, with commas between; or * */
    CONFIG_KIND_HOSTS,        /* db.example, with commas between; or * */
    CONFIG_KIND_BYTES,        /* 4096, 64KiB, 1GiB; uint64_t */
    CONFIG_KIND_COUNT,        /* whole number; uint64_t */
    CONFIG_KIND_NUMBER,       /* decimal fraction; double */
    CONFIG_KIND_MILLISECONDS, /* 100, 10ms, 2s; uint64_t in ms */
    CONFIG_KIND_SECONDS,      /* 60, 90s, 5m; uint64_t in s */
    CONFIG_KIND_CHOICE,       /* one of `words`; an enum */
};

struct config_option {
    const char *name;
    size_t offset; /* of its field in struct storm_config */
    const char *fallback;
    uint64_t low, high;
    const char *const *words; /* of a CHOICE, ended by NULL; else NULL */
    const char *help;
    enum config_kind kind;
    bool zero_ok;
    bool empty_ok;
};

extern const struct config_option config_options[CONFIG_OPTION_COUNT];

/* The option of that exact name, or -1. */
int config_find(const char *name);

/* The near name of an unknown option, or NULL. */
const char *config_near_option(const char *name);

/* Room for STORM_ and the longest option name, and for a sentence about a value. */
#define CONFIG_VARIABLE_MAX 64
#define CONFIG_ALLOWED_MAX  256

/* Write the name of an option's environment variable; returns `text`. */
char *config_variable(enum config_id id, char text[CONFIG_VARIABLE_MAX]);

/* Write what an option takes, such as "1 to 60000 milliseconds"; returns `text`. */
char *config_allowed(enum config_id id, char text[CONFIG_ALLOWED_MAX]);

/* Where a value stands, for messages: FILE:LINE, a variable or a flag, and an origin to keep. */
struct config_place {
    char text[CONFIG_TEXT_MAX + 16];
    struct config_origin origin;
};

/* Set one option from its text. A value that is refused leaves the field alone and adds a line to
 * *error. */
void config_set(struct storm_config *out, enum config_id id, const char *value,
                const struct config_place *place, struct config_error *error);

/* What keeps a text from being a value in a configuration file, such as "is empty"; NULL when
 * nothing does. Static. */
const char *config_text_fault(const char *text);

/* Read a file, which `named_by` (a flag or a variable) asked for. Every mistake is added to
 * *error. */
void config_load_file(struct storm_config *out, const char *path, const char *named_by,
                      struct config_error *error);

/* Read the STORM_ variables of an environment. */
void config_load_environment(struct storm_config *out, char **envp, struct config_error *error);

/* Add one mistake: a line without newline. */
void config_fail(struct config_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Copy for a message: control characters become '?', what is too long ends in "...". Returns
 * `text`. */
#define CONFIG_QUOTE_MAX 100
char *config_quote(const char *value, char text[CONFIG_QUOTE_MAX]);

/* ", did you mean X?" or nothing; returns `text`. */
char *config_did_you_mean(const char *near_name, char text[CONFIG_QUOTE_MAX]);

/* The name of an option without its section: "sync". Static. */
const char *config_key(enum config_id id);

/* Whether the option is the first of its section in the table; *length is that of the section's
 * name at the start of the option's, 0 without a section. */
bool config_begins_section(enum config_id id, int *length);

/* Write words in lines of at most 80 columns, each line beginning with `prefix`. */
void config_wrap(FILE *stream, const char *prefix, const char *words);

#endif
