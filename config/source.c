/*
 * Two of the sources of values: the configuration file and the environment.
 *
 * The file is INI, parsed by libinih:
 *
 *     listen = 127.0.0.1:8080      options without a dot stand before the first section
 *     [wal]
 *     sync = always                # a comment may also follow a value, after a blank
 *
 * libinih has traits that would make a typing mistake pass unseen: it cuts lines at a length fixed
 * when it was built (200 bytes), takes an indented line for more of the value above, ignores what
 * follows "[section]", ends a line at a NUL byte, and knows only ";" as a comment after a value.
 * So it reads lines from read_line() here, which trims them, removes comments and refuses what
 * libinih would misread. Debian's build lets us raise the length; whatever it is, a longer line is
 * a mistake with a message, never a value cut short.
 *
 * The file is parsed twice: once for its form, and only if that is right for its values. A broken
 * section line would otherwise make every line below it look like an unknown option.
 *
 * In the environment, every variable that begins with STORM_ is ours, and one that is no option is
 * a mistake: a misspelt STORM_WAL_SYNC must not pass as the default. Left alone are the variables
 * of the client and of the tests, and those that Kubernetes sets in every pod when somebody names a
 * service "storm" or "storm-something".
 */
#include "option.h"

#include "suggest.h"

#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>

/* No honest configuration is near this; /dev/zero and a data file given by mistake are over it. */
#define FILE_MAX ((size_t)1024 * 1024)

/* The longest line that libinih is asked for, where its build has a choice: the longest text value,
 * its name, and the "\r\n" and NUL that libinih counts in. */
#define LINE_MAX_BYTES (CONFIG_TEXT_MAX + 128)

struct file_parse {
    const char *text; /* the whole file */
    size_t size;
    size_t at;       /* the next byte */
    unsigned line;   /* of the line read last, from 1 */
    char fault[160]; /* what is wrong with that line; empty while all is well */

    struct storm_config *out;
    struct config_error *error;
};

/* ---- The file -------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Shrink [*start, *end) to what is neither blank at an end nor comment. */
static void trim(const char **start, const char **end)
{
    while (*start < *end && is_blank(**start))
        ++*start;
    for (const char *c = *start; c < *end; c++) {
        if ((*c == '#' || *c == ';') && (c == *start || is_blank(c[-1]))) {
            *end = c;
            break;
        }
    }
    while (*end > *start && (is_blank((*end)[-1]) || (*end)[-1] == '\r'))
        --*end;
}

/* A line that libinih would misread; returns false and fills parse->fault. */
static bool check_line(struct file_parse *parse, const char *start, const char *end, size_t room)
{
    size_t length = (size_t)(end - start);
    const char *fault = NULL;

    if (memchr(start, '\0', length) != NULL)
        fault = "there is a NUL byte; the file has to be plain text (ASCII or UTF-8)";
    else if (length > 0 && *start == '[' && end[-1] != ']')
        fault = "a section is [name], alone on its line";
    else if (length > 0 && (*start == '=' || *start == ':'))
        fault = "there is no name before the value";
    if (fault != NULL)
        snprintf(parse->fault, sizeof(parse->fault), "%s", fault);
    else if (length > room)
        snprintf(parse->fault, sizeof(parse->fault),
                 "the line is longer than %zu bytes; give a longer value as a flag or in the "
                 "environment",
                 room);
    return parse->fault[0] == '\0';
}

/* libinih's source of lines, shaped like fgets(). Returns NULL at the end and after a fault. */
static char *read_line(char *text, int size, void *stream)
{
    struct file_parse *parse = stream;
    const char *start = parse->text + parse->at;
    const char *end, *newline;

    if (parse->at == parse->size || parse->fault[0] != '\0')
        return NULL;
    newline = memchr(start, '\n', parse->size - parse->at);
    end = newline != NULL ? newline : parse->text + parse->size;
    parse->at = newline != NULL ? (size_t)(newline + 1 - parse->text) : parse->size;
    parse->line++;

    trim(&start, &end);
    if (size < 4 || !check_line(parse, start, end, (size_t)size - 3))
        return NULL;
    memcpy(text, start, (size_t)(end - start));
    memcpy(text + (end - start), "\n", 2);
    return text;
}

static void apply(struct file_parse *parse, const char *section, const char *key, const char *value)
{
    char name[CONFIG_TEXT_MAX * 2], quoted[CONFIG_QUOTE_MAX], hint[CONFIG_QUOTE_MAX];
    struct config_place place = {.origin = {CONFIG_FILE, parse->line}};
    const struct config_origin *earlier;
    int id;

    snprintf(place.text, sizeof(place.text), "%s:%u", parse->out->file, parse->line);
    snprintf(name, sizeof(name), "%s%s%s", section, section[0] != '\0' ? "." : "", key);
    id = config_find(name);
    if (id < 0 && section[0] != '\0' && config_find(key) >= 0) {
        config_fail(parse->error, "%s: unknown option %s; %s has to stand before the first section",
                    place.text, config_quote(name, quoted), key);
        return;
    }
    if (id < 0) {
        config_fail(parse->error, "%s: unknown option %s%s", place.text, config_quote(name, quoted),
                    config_did_you_mean(config_near_option(name), hint));
        return;
    }
    earlier = &parse->out->origins[id];
    if (earlier->source == CONFIG_FILE) {
        config_fail(parse->error, "%s: %s is already set on line %u", place.text, name,
                    earlier->line);
        return;
    }
    config_set(parse->out, (enum config_id)id, value, &place, parse->error);
}

/* Some builds of libinih pass the line as well; read_line() has counted it already. */
#if INI_HANDLER_LINENO
static int on_value(void *user, const char *section, const char *key, const char *value, int line)
{
    (void)line;
#else
static int on_value(void *user, const char *section, const char *key, const char *value)
{
#endif
    struct file_parse *parse = user;

    if (parse->out != NULL)
        apply(parse, section, key, value);
    return 1;
}

static void parse_file(const char *text, size_t size, struct storm_config *out,
                       struct config_error *error)
{
    struct file_parse form = {.text = text, .size = size};
    struct file_parse values = {.text = text, .size = size, .out = out, .error = error};
    int bad_line;

    bad_line = ini_parse_stream(read_line, &form, on_value, &form);
    if (bad_line > 0)
        config_fail(error, "%s:%d: this is neither \"name = value\" nor [section] nor a comment",
                    out->file, bad_line);
    else if (form.fault[0] != '\0')
        config_fail(error, "%s:%u: %s", out->file, form.line, form.fault);
    else if (bad_line < 0 || ini_parse_stream(read_line, &values, on_value, &values) != 0)
        config_fail(error, "%s: out of memory", out->file);
}

/* Read all of a file. Returns NULL, or what kept it from being read. */
static const char *read_file(const char *path, char *text, size_t *size)
{
    FILE *file = fopen(path, "rb");
    const char *fault = NULL;

    if (file == NULL)
        return strerror(errno);
    *size = fread(text, 1, FILE_MAX + 1, file);
    if (ferror(file))
        fault = strerror(errno);
    else if (*size > FILE_MAX)
        fault = "it is larger than 1 MiB, which no configuration file is";
    fclose(file);
    return fault;
}

void config_load_file(struct storm_config *out, const char *path, const char *named_by,
                      struct config_error *error)
{
    char quoted[CONFIG_QUOTE_MAX];
    const char *fault = config_text_fault(path);
    char *text = NULL;
    size_t size = 0;

    if (fault != NULL) {
        config_fail(error, "%s: the name of the configuration file %s", named_by, fault);
        return;
    }
    snprintf(out->file, sizeof(out->file), "%s", path);
    text = malloc(FILE_MAX + 1);
    fault = text == NULL ? "out of memory" : read_file(path, text, &size);
    if (fault != NULL) {
        config_fail(error, "%s: cannot read configuration file %s: %s", named_by,
                    config_quote(path, quoted), fault);
        goto out;
    }
#ifdef STORM_INI_MAX_LINE
    int max_line = ini_max_line;

    ini_max_line = LINE_MAX_BYTES;
    parse_file(text, size, out, error);
    ini_max_line = max_line;
#else
    parse_file(text, size, out, error);
#endif
out:
    free(text);
}

/* ---- The environment ------------------------------------------------------------------------- */

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Variables of stormctl and of the tests, and --config's own, which config_parse() has read. */
static bool is_for_others(const char *name)
{
    static const char *const names[] = {"STORM_CONFIG", "STORM_URL", "STORM_TOKEN",
                                        "STORM_TIMEOUT"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return begins_with(name, "STORM_TEST_");
}

/* STORM_SERVICE_HOST, STORM_DB_SERVICE_PORT_HTTP, STORM_PORT=tcp://...,
 * STORM_PORT_8080_TCP_ADDR. */
static bool is_kubernetes(const char *name, const char *value)
{
    const char *port = strstr(name, "_PORT");

    if (strstr(name, "_SERVICE_HOST") != NULL || strstr(name, "_SERVICE_PORT") != NULL)
        return true;
    if (port == NULL)
        return false;
    if (port[5] == '\0')
        return begins_with(value, "tcp://") || begins_with(value, "udp://") ||
               begins_with(value, "sctp://");
    return port[5] == '_' && port[6] >= '0' && port[6] <= '9';
}

static void apply_variable(struct storm_config *out, const char *name, const char *value,
                           struct config_error *error)
{
    char variables[CONFIG_OPTION_COUNT][CONFIG_VARIABLE_MAX];
    const char *names[CONFIG_OPTION_COUNT];
    char quoted[CONFIG_QUOTE_MAX], hint[CONFIG_QUOTE_MAX];
    struct config_place place = {.origin = {CONFIG_ENVIRONMENT, 0}};

    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        names[i] = config_variable((enum config_id)i, variables[i]);
        if (strcmp(names[i], name) == 0) {
            snprintf(place.text, sizeof(place.text), "%s", name);
            config_set(out, (enum config_id)i, value, &place, error);
            return;
        }
    }
    config_fail(error, "%s: no option has this environment variable%s", config_quote(name, quoted),
                config_did_you_mean(config_suggest(name, names, CONFIG_OPTION_COUNT), hint));
}

void config_load_environment(struct storm_config *out, char **envp, struct config_error *error)
{
    char name[CONFIG_TEXT_MAX];

    for (; *envp != NULL; envp++) {
        const char *equals = strchr(*envp, '=');

        if (!begins_with(*envp, "STORM_") || equals == NULL)
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)(equals - *envp), *envp);
        if (!is_for_others(name) && !is_kubernetes(name, equals + 1))
            apply_variable(out, name, equals + 1, error);
    }
}
