/*
 * stormctl: the tool for a Storm DB data directory.
 *
 *   stormctl COMMAND [OPTIONS] ARGUMENTS
 *
 * The table below is all that has to be extended for another subcommand. It sees stores through
 * storm/storm.h alone, as any other program would.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "json.h"
#include "option.h"
#include "suggest.h"

const struct ctl_command ctl_commands[] = {
    {
        .name = "verify",
        .operands = "DIR",
        .help = "read all of a store and check it",
        .more = "Checks every block of every table, the order of keys, filters and the manifest; "
                "the log is "
                "checked by opening it. Each problem is one line.\n"
                "Changes nothing and works beside a running server, on what was committed when it "
                "began. "
                "Exit status 1 when there are problems.",
        .options = ctl_verify_options,
        .run = ctl_verify,
    },
    {
        .name = "repair",
        .operands = "DIR",
        .help = "make a store out of what can still be read",
        .more = "For a store that does not open, or that verify complains of, when there is no "
                "backup. Every "
                "readable block and every whole record of the log goes into the repaired store; "
                "originals "
                "that are not used as they are move to DIR/lost, and nothing is removed. Keys "
                "whose delete "
                "was lost may come back, and so may older values.\n"
                "Asks first on a terminal; elsewhere it takes --yes. No server may have the store "
                "open.",
        .options = ctl_repair_options,
        .run = ctl_repair,
    },
    {
        .name = "dump",
        .operands = "DIR",
        .help = "write all entries, or a range of them, to standard output",
        .more = "As NDJSON, one entry in a line as the server shows it, and at the end "
                "{\"end\":true,\"count\":N,\"revision\":R}, without which a dump is not complete. "
                "A JSON value "
                "stands inline, with line breaks in it turned into blanks; others are base64.\n"
                "As text, a line is the key, a tab, and the value; a tab, a line break, a "
                "backslash and "
                "whatever is no text are written \\t, \\n, \\\\ and \\xHH.\n"
                "Changes nothing and works beside a running server: it shows one state of the "
                "store, that of "
                "its beginning.",
        .options = ctl_dump_options,
        .run = ctl_dump,
    },
    {
        .name = "checkpoint",
        .operands = "DIR NEWDIR",
        .help = "make a second store out of hard links",
        .more = "NEWDIR must not exist and must lie on the same file system as DIR; it takes "
                "little space. No "
                "server may have the store open.\n"
                "Tables are written as the configuration says: --config, or the variables that "
                "stormd reads.",
        .options = ctl_checkpoint_options,
        .run = ctl_checkpoint,
    },
    {
        .name = "compact",
        .operands = "DIR",
        .help = "rewrite a store without what is deleted, expired or overwritten",
        .more = "Gives space back at once, which the server does by and by. Needs as much free "
                "space as the "
                "range that is rewritten. No server may have the store open.\n"
                "Tables are written as the configuration says: --config, or the variables that "
                "stormd reads.",
        .options = ctl_compact_options,
        .run = ctl_compact,
    },
    {
        .name = "stats",
        .operands = "DIR",
        .help = "say how large a store is and how it is laid out",
        .more = "Changes nothing and works beside a running server; what the server has counted "
                "since its "
                "start is at its /stats.",
        .options = ctl_stats_options,
        .run = ctl_stats,
    },
    {
        .name = "key",
        .operands = "",
        .help = "make a key for requests to a server",
        .more =
            "Prints the key, which is shown this once and kept nowhere, and the line that lets it "
            "in: that goes into the file that auth.keys_file of the server names, by hand or with "
            "--file, and counts once the server has been sent SIGHUP. The line has only a digest "
            "of the key.",
        .options = ctl_key_options,
        .run = ctl_key,
    },
};
const size_t ctl_command_count = sizeof ctl_commands / sizeof ctl_commands[0];

/* What does not come from the table, for near names. */
static const char *const other_words[] = {"help", "version"};
enum {
    OTHER_WORDS = sizeof other_words / sizeof other_words[0],
    COMMANDS = sizeof ctl_commands / sizeof ctl_commands[0],
};

static void put_overview(FILE *stream)
{
    fputs("Usage: stormctl COMMAND [OPTIONS] ARGUMENTS\n\n"
          "Commands on a data directory, without a server or, but for those that change it, beside "
          "one:\n",
          stream);
    for (size_t i = 0; i < COMMANDS; i++) {
        const struct ctl_command *command = &ctl_commands[i];
        char head[64];
        snprintf(head, sizeof head, "%s %s", command->name, command->operands);
        fprintf(stream, "  %-22s %s\n", head, command->help);
    }
    fputs("\n"
          "  help [COMMAND]         this, or all about one command; so does --help\n"
          "  --version              the version\n"
          "\n"
          "Exit status: 0 fine, 1 failed or problems found, 2 wrong usage, 3 no store there, 4 in "
          "use by\n"
          "another process, 5 permission denied. stormctl(1) has the rest.\n",
          stream);
}

/* Paragraphs end at newlines. */
static void put_paragraphs(const char *text)
{
    while (*text != '\0') {
        char paragraph[1024];
        int length = (int)strcspn(text, "\n");
        snprintf(paragraph, sizeof paragraph, "%.*s", length, text);
        putchar('\n');
        config_wrap(stdout, "  ", paragraph);
        text += length;
        text += strspn(text, "\n");
    }
}

static void put_help(const struct ctl_command *command)
{
    printf("stormctl %s: %s\n\nUsage: ", command->name, command->help);
    ctl_put_usage(stdout, command);
    printf("\n");
    put_paragraphs(command->more);
    if (command->options[0].name != NULL)
        printf("\n");
    for (const struct ctl_option *option = command->options; option->name != NULL; option++) {
        char head[64];
        snprintf(head, sizeof head, "--%s%s%s", option->name, option->argument == NULL ? "" : " ",
                 option->argument == NULL ? "" : option->argument);
        printf("  %-22s %s\n", head, option->help);
    }
}

static const struct ctl_command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(ctl_commands[i].name, name) == 0)
            return &ctl_commands[i];
    }
    return NULL;
}

static enum ctl_exit refuse_command(const char *name)
{
    const char *names[COMMANDS + OTHER_WORDS];
    char quoted[CONFIG_QUOTE_MAX], hint[CONFIG_QUOTE_MAX];
    for (size_t i = 0; i < COMMANDS; i++)
        names[i] = ctl_commands[i].name;
    memcpy(names + COMMANDS, other_words, sizeof other_words);
    const char *near_name = config_suggest(name + strspn(name, "-"), names, COMMANDS + OTHER_WORDS);
    if (near_name != NULL && strcmp(near_name, "version") == 0)
        near_name = "--version";
    return ctl_misuse(NULL, "unknown command \"%s\"%s", config_quote(name, quoted),
                      config_did_you_mean(near_name, hint));
}

static enum ctl_exit help(int argc, char **argv)
{
    if (argc > 1)
        return ctl_misuse(NULL, "help takes one command");
    if (argc == 0) {
        put_overview(stdout);
        return CTL_OK;
    }
    const struct ctl_command *command = find_command(argv[0]);
    if (command == NULL)
        return refuse_command(argv[0]);
    put_help(command);
    return CTL_OK;
}

static enum ctl_exit run(int argc, char **argv)
{
    struct ctl_call call;
    if (argc < 2) {
        put_overview(stderr);
        return CTL_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return help(argc - 2, argv + 2);
    if (strcmp(argv[1], "--version") == 0) {
        printf("stormctl %s\n", storm_version());
        return CTL_OK;
    }
    const struct ctl_command *command = find_command(argv[1]);
    if (command == NULL)
        return refuse_command(argv[1]);
    enum ctl_exit code = ctl_read_arguments(command, argc - 2, argv + 2, &call);
    if (code != CTL_OK)
        return code;
    if (call.wants_help) {
        put_help(command);
        return CTL_OK;
    }
    return command->run(&call);
}

int main(int argc, char **argv)
{
    /* A reader that goes away must not end a command that is changing a store. */
    signal(SIGPIPE, SIG_IGN);
    api_json_init();
    return (int)ctl_put_end(run(argc, argv));
}
