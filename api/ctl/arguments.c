/*
 * A subcommand's command line, by its row of the table. See ctl.h.
 *
 * Operands are given to the row as words ("DIR NEWDIR"): the same text serves usage, the count, and
 * the message that names the one that is missing.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "option.h"
#include "suggest.h"

enum ctl_exit ctl_misuse(const struct ctl_command *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("stormctl", stderr);
    if (command != NULL)
        fprintf(stderr, " %s", command->name);
    fputs(": ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    if (command != NULL) {
        fputs("Usage: ", stderr);
        ctl_put_usage(stderr, command);
        fputc('\n', stderr);
    } else {
        fputs("`stormctl help` lists the commands.\n", stderr);
    }
    return CTL_USAGE;
}

void ctl_put_usage(FILE *stream, const struct ctl_command *command)
{
    fprintf(stream, "stormctl %s %s", command->name, command->operands);
    for (const struct ctl_option *option = command->options; option->name != NULL; option++)
        fprintf(stream, " [--%s%s%s]", option->name, option->argument == NULL ? "" : " ",
                option->argument == NULL ? "" : option->argument);
}

/* Word `index` of the operands' names; *length is 0 when there is none. */
static const char *operand_name(const struct ctl_command *command, int index, int *length)
{
    const char *at = command->operands;
    for (; index > 0 && *at != '\0'; index--) {
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
    *length = (int)strcspn(at, " ");
    return at;
}

static enum ctl_exit refuse_option(const struct ctl_command *command, const char *name)
{
    const char *names[CTL_OPTIONS_MAX + 1];
    char quoted[CONFIG_QUOTE_MAX], spelling[CONFIG_QUOTE_MAX], hint[CONFIG_QUOTE_MAX];
    size_t count = 0;
    for (const struct ctl_option *option = command->options; option->name != NULL; option++)
        names[count++] = option->name;
    names[count++] = "help";
    const char *nearest = config_suggest(name, names, count);
    if (nearest != NULL)
        snprintf(spelling, sizeof spelling, "--%s", nearest);
    return ctl_misuse(command, "unknown option --%s%s", config_quote(name, quoted),
                      config_did_you_mean(nearest == NULL ? NULL : spelling, hint));
}

/* The number of the option in a word that begins with dashes, and what follows its '='; -1 for
 * none. */
static int find_option(const struct ctl_command *command, const char *word, const char **value)
{
    const char *name = word + 2;
    size_t length = strcspn(name, "=");
    *value = name[length] == '=' ? name + length + 1 : NULL;
    for (int i = 0; command->options[i].name != NULL; i++) {
        if (strlen(command->options[i].name) == length &&
            memcmp(command->options[i].name, name, length) == 0)
            return i;
    }
    return -1;
}

/* Take the option that begins at argv[*at]. */
static enum ctl_exit take_option(struct ctl_call *call, int argc, char **argv, int *at)
{
    const struct ctl_command *command = call->command;
    const char *word = argv[*at];
    const char *value;
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        call->wants_help = true;
        return CTL_OK;
    }
    if (word[1] != '-')
        return ctl_misuse(command, "unknown option %s", word);
    int number = find_option(command, word, &value);
    if (number < 0) {
        char name[CONFIG_QUOTE_MAX];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
        return refuse_option(command, name);
    }
    const struct ctl_option *option = &command->options[number];
    if (option->argument == NULL && value != NULL)
        return ctl_misuse(command, "--%s takes no value", option->name);
    if (option->argument != NULL && value == NULL) {
        if (*at + 1 >= argc)
            return ctl_misuse(command, "--%s: %s is missing", option->name, option->argument);
        value = argv[++*at];
    }
    call->values[number] = value == NULL ? "" : value;
    return CTL_OK;
}

static enum ctl_exit take_operand(struct ctl_call *call, const char *word, int count)
{
    char quoted[CONFIG_QUOTE_MAX];
    int length;
    operand_name(call->command, count, &length);
    if (length == 0 || count >= CTL_OPERANDS_MAX)
        return ctl_misuse(call->command, "there is an argument too many: \"%s\"",
                          config_quote(word, quoted));
    if (word[0] == '\0') {
        const char *name = operand_name(call->command, count, &length);
        return ctl_misuse(call->command, "%.*s is empty", length, name);
    }
    call->operands[count] = word;
    return CTL_OK;
}

enum ctl_exit ctl_read_arguments(const struct ctl_command *command, int argc, char **argv,
                                 struct ctl_call *call)
{
    bool are_options_over = false;
    int count = 0;
    *call = (struct ctl_call){.command = command};
    for (int at = 0; at < argc; at++) {
        const char *word = argv[at];
        enum ctl_exit code;
        if (!are_options_over && strcmp(word, "--") == 0) {
            are_options_over = true;
            continue;
        }
        if (!are_options_over && word[0] == '-' && word[1] != '\0')
            code = take_option(call, argc, argv, &at);
        else
            code = take_operand(call, word, count++);
        if (code != CTL_OK || call->wants_help)
            return code;
    }
    int length;
    const char *missing = operand_name(command, count, &length);
    return length == 0 ? CTL_OK : ctl_misuse(command, "%.*s is missing", length, missing);
}

const char *ctl_text(const struct ctl_call *call, const char *name)
{
    for (size_t i = 0; call->command->options[i].name != NULL; i++) {
        if (strcmp(call->command->options[i].name, name) == 0)
            return call->values[i];
    }
    assert(false && "the command's table has no such option");
    return NULL;
}

bool ctl_flag(const struct ctl_call *call, const char *name)
{
    return ctl_text(call, name) != NULL;
}

struct storm_slice ctl_bytes(const struct ctl_call *call, const char *name)
{
    const char *text = ctl_text(call, name);
    return text == NULL ? (struct storm_slice){0} : storm_text(text);
}
