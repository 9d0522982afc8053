/*
 * The command line, and the order of the sources.
 *
 * config_parse() goes over the arguments twice. The first pass looks for what decides about the
 * rest: the command, and --config. Then the sources are applied from the weakest to the strongest,
 * each overwriting the one before: defaults, file, environment, and the flags in the second pass.
 * A value that a stronger source overrides is still checked, for a mistake in a file does not
 * become right because today's command line hides it.
 *
 * A flag given twice counts the last time, as command lines do: a container's entry point sets
 * defaults that its arguments then replace. In a file, where both lines are in front of the same
 * reader, it is a mistake (see source.c).
 */
#include "config.h"

#include "option.h"
#include "suggest.h"

#include <string.h>

struct command {
    const char *spelling;
    enum config_action action;
};

static const struct command commands[] = {
    {"check-config", CONFIG_CHECK},
    {"--print-config", CONFIG_PRINT},
    {"--version", CONFIG_VERSION},
    {"--help", CONFIG_HELP},
    {"-h", CONFIG_HELP},
    {"healthcheck", CONFIG_HEALTHCHECK},
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

struct command_line {
    int argc;
    char **argv;
    const char *file;    /* named by --config; NULL when not given */
    const char *command; /* as spelled; NULL when none was given */
    enum config_action action;
    struct config_error *error;
};

static const char *skip_dashes(const char *text)
{
    return text + strspn(text, "-");
}

/* The near spelling of an unknown argument among options, commands and --config. */
static char *near_argument(const char *name, char hint[CONFIG_QUOTE_MAX])
{
    const char *names[CONFIG_OPTION_COUNT + COMMAND_COUNT + 1];
    char spelling[CONFIG_QUOTE_MAX];
    size_t count = 0;
    const char *nearest;

    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        names[count++] = config_options[i].name;
    names[count++] = "config";
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[count++] = skip_dashes(commands[i].spelling);

    nearest = config_suggest(skip_dashes(name), names, count);
    if (nearest == NULL)
        return config_did_you_mean(NULL, hint);
    snprintf(spelling, sizeof(spelling), "--%s", nearest);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (nearest == skip_dashes(commands[i].spelling))
            snprintf(spelling, sizeof(spelling), "%s", commands[i].spelling);
    }
    return config_did_you_mean(spelling, hint);
}

static const struct command *find_command(const char *argument)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(argument, commands[i].spelling) == 0)
            return &commands[i];
    }
    return NULL;
}

static void take_command(struct command_line *line, const struct command *command)
{
    if (line->command != NULL && line->action != command->action)
        config_fail(line->error, "%s and %s cannot be given together", line->command,
                    command->spelling);
    line->command = command->spelling;
    line->action = command->action;
}

/* "--config FILE" takes two arguments. Returns true when argument *i is --config in either form. */
static bool take_file(struct command_line *line, int *i)
{
    const char *argument = line->argv[*i];

    if (strncmp(argument, "--config=", 9) == 0) {
        line->file = argument + 9;
        return true;
    }
    if (strcmp(argument, "--config") != 0)
        return false;
    if (*i + 1 < line->argc)
        line->file = line->argv[++*i];
    else
        config_fail(line->error, "--config: the name of the file is missing: --config FILE");
    return true;
}

/* First pass: the command and the file. Returns true for --help and --version. */
static bool scan(struct command_line *line)
{
    char quoted[CONFIG_QUOTE_MAX], hint[CONFIG_QUOTE_MAX];

    for (int i = 1; i < line->argc; i++) {
        const char *argument = line->argv[i];
        const struct command *command = find_command(argument);

        if (command != NULL &&
            (command->action == CONFIG_HELP || command->action == CONFIG_VERSION)) {
            line->action = command->action;
            return true;
        }
        if (command != NULL)
            take_command(line, command);
        else if (!take_file(line, &i) && strncmp(argument, "--", 2) != 0)
            config_fail(line->error, "unknown command \"%s\"%s", config_quote(argument, quoted),
                        near_argument(argument, hint));
    }
    return false;
}

static void apply_flag(struct storm_config *out, const char *argument, struct config_error *error)
{
    char name[CONFIG_VARIABLE_MAX], quoted[CONFIG_QUOTE_MAX], hint[CONFIG_QUOTE_MAX];
    struct config_place place = {.origin = {CONFIG_FLAG, 0}};
    size_t length = strcspn(argument + 2, "=");
    const char *value = argument + 2 + length;
    int id;

    snprintf(name, sizeof(name), "%.*s", (int)(length < sizeof(name) ? length : sizeof(name) - 1),
             argument + 2);
    id = length < sizeof(name) ? config_find(name) : -1;
    if (id < 0) {
        config_fail(error, "unknown option --%s%s", config_quote(name, quoted),
                    near_argument(name, hint));
    } else if (*value != '=') {
        config_fail(error, "--%s: the value is missing; it belongs to the same word: --%s=%s", name,
                    name, config_options[id].fallback);
    } else {
        snprintf(place.text, sizeof(place.text), "--%s", name);
        config_set(out, (enum config_id)id, value + 1, &place, error);
    }
}

/* Second pass: the flags. scan() has dealt with everything else. */
static void apply_flags(struct storm_config *out, struct command_line *line)
{
    struct command_line rest = *line;

    for (int i = 1; i < rest.argc; i++) {
        const char *argument = rest.argv[i];

        /* At a --config without a file, which scan() has reported, there is no argument left. */
        if (strcmp(argument, "--config") == 0)
            i++;
        else if (strncmp(argument, "--", 2) == 0 && strncmp(argument, "--config=", 9) != 0 &&
                 find_command(argument) == NULL)
            apply_flag(out, argument, rest.error);
    }
}

/* What no option can check by itself. */
static void check_together(const struct storm_config *config, struct config_error *error)
{
    static const unsigned highest[] = {
        [CONFIG_TABLE_CODEC_NONE] = 0,
        [CONFIG_TABLE_CODEC_DEFLATE] = 9,
        [CONFIG_TABLE_CODEC_LZ4] = 12,
        [CONFIG_TABLE_CODEC_ZSTD] = 19,
    };
    char origin[CONFIG_TEXT_MAX], codec[16], memtable[32], buffer[32];

    if (config->memtable_bytes > config->write_buffer_bytes)
        config_fail(error,
                    "%s: memtable.bytes = %s is more than write_buffer.bytes = %s, of which it is "
                    "a part: lower the one or raise the other",
                    config_origin_text(config, CONFIG_memtable_bytes, origin, sizeof(origin)),
                    config_value_text(config, CONFIG_memtable_bytes, memtable, sizeof(memtable)),
                    config_value_text(config, CONFIG_write_buffer_bytes, buffer, sizeof(buffer)));
    if (config->table_codec_level > highest[config->table_codec])
        config_fail(error,
                    "%s: table.codec_level = %u is out of range: the highest with "
                    "table.codec = %s is %u",
                    config_origin_text(config, CONFIG_table_codec_level, origin, sizeof(origin)),
                    (unsigned)config->table_codec_level,
                    config_value_text(config, CONFIG_table_codec, codec, sizeof(codec)),
                    highest[config->table_codec]);
}

int config_check_start(const struct storm_config *config, struct config_error *error)
{
    char origin[CONFIG_TEXT_MAX], host[CONFIG_TEXT_MAX];
    uint16_t port;

    if ((config->tls_cert[0] == '\0') != (config->tls_key[0] == '\0'))
        config_fail(error, "tls.cert and tls.key belong together: %s is missing",
                    config->tls_cert[0] == '\0' ? "tls.cert" : "tls.key");
    if (config->auth_keys_file[0] != '\0' || config->auth_open == CONFIG_AUTH_OPEN_ANYWHERE ||
        config_split_address(config->listen, host, sizeof(host), &port) != 0 ||
        config_is_loopback(host))
        return error->count == 0 ? 0 : -1;
    config_fail(
        error,
        "%s: listen = %s can be reached from other machines, and without keys everybody there "
        "may do everything: make a key with `stormctl key` and set auth.keys_file, or set "
        "auth.open = anywhere if the network is yours alone",
        config_origin_text(config, CONFIG_listen, origin, sizeof(origin)), config->listen);
    return -1;
}

static const char *find_variable(char **envp, const char *name)
{
    size_t length = strlen(name);

    for (; envp != NULL && *envp != NULL; envp++) {
        if (strncmp(*envp, name, length) == 0 && (*envp)[length] == '=')
            return *envp + length + 1;
    }
    return NULL;
}

int config_parse(int argc, char **argv, char **envp, struct storm_config *out,
                 enum config_action *action, struct config_error *error)
{
    struct command_line line = {.argc = argc, .argv = argv, .action = CONFIG_RUN, .error = error};
    const char *named_by = "--config";
    bool only_talk;

    config_init(out);
    memset(error, 0, sizeof(*error));
    only_talk = scan(&line);
    *action = line.action;
    if (only_talk) {
        memset(error, 0, sizeof(*error));
        return 0;
    }
    if (line.file == NULL) {
        line.file = find_variable(envp, "STORM_CONFIG");
        named_by = "STORM_CONFIG";
    }
    if (line.file != NULL)
        config_load_file(out, line.file, named_by, error);
    if (envp != NULL)
        config_load_environment(out, envp, error);
    apply_flags(out, &line);
    check_together(out, error);
    return error->count == 0 ? 0 : -1;
}
