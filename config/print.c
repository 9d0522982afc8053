/*
 * The configuration as text: --print-config and --help.
 *
 * Both walk the table in its order and begin a section whenever the part of the name before the dot
 * changes, which is why the options of a section stand together in options.def.
 */
#include "config.h"

#include "option.h"

#include <string.h>

#define COLUMNS 80

void config_wrap(FILE *stream, const char *prefix, const char *words)
{
    size_t column = 0;

    while (*words != '\0') {
        size_t length = strcspn(words, " ");

        if (column > 0 && column + 1 + length > COLUMNS) {
            fputc('\n', stream);
            column = 0;
        }
        fprintf(stream, "%s%.*s", column == 0 ? prefix : " ", (int)length, words);
        column += length + (column == 0 ? strlen(prefix) : 1);
        words += length + strspn(words + length, " ");
    }
    fputc('\n', stream);
}

bool config_begins_section(enum config_id id, int *length)
{
    const char *name = config_options[id].name;
    const char *before = id == 0 ? "" : config_options[id - 1].name;
    const char *dot = strchr(name, '.');

    *length = dot == NULL ? 0 : (int)(dot - name);
    return dot != NULL && strncmp(name, before, (size_t)(dot - name) + 1) != 0;
}

const char *config_key(enum config_id id)
{
    const char *dot = strchr(config_options[id].name, '.');

    return dot == NULL ? config_options[id].name : dot + 1;
}

void config_print(const struct storm_config *config, FILE *stream)
{
    char value[CONFIG_TEXT_MAX], origin[CONFIG_TEXT_MAX + 16];

    fprintf(stream, "# Every option of stormd, its value and where that comes from.\n");
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        enum config_id id = (enum config_id)i;
        int length;

        if (config_begins_section(id, &length))
            fprintf(stream, "\n[%.*s]\n", length, config_options[i].name);
        config_value_text(config, id, value, sizeof(value));
        config_origin_text(config, id, origin, sizeof(origin));
        length = (int)(strlen(config_key(id)) + strlen(value));
        fprintf(stream, "%s =%s%s%*s # %s\n", config_key(id), value[0] == '\0' ? "" : " ", value,
                length < 32 ? 32 - length : 0, "", origin);
    }
}

void config_help(FILE *stream)
{
    char allowed[CONFIG_ALLOWED_MAX];

    fprintf(
        stream,
        "Storm DB: a key-value store served over HTTP.\n"
        "\n"
        "Usage: stormd [--config FILE] [--KEY=VALUE ...]   serve until SIGTERM or SIGINT\n"
        "       stormd check-config     say whether the configuration is valid\n"
        "       stormd --print-config   print it, with where each value comes from\n"
        "       stormd healthcheck      ask the server at `listen` whether it is ready\n"
        "       stormd --version\n"
        "       stormd --help\n"
        "\n"
        "Every option has one name in all places: the flag --wal.sync=always, the variable\n"
        "STORM_WAL_SYNC=always, and \"sync = always\" under [wal] in the file. A flag beats the\n"
        "environment, the environment beats the file. STORM_CONFIG names a file like --config.\n"
        "\n"
        "Options, with their defaults:\n");
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        fprintf(stream, "\n  --%s=%s\n", config_options[i].name, config_options[i].fallback);
        config_wrap(stream, "      ", config_options[i].help);
        fprintf(stream, "      Takes %s.\n", config_allowed((enum config_id)i, allowed));
    }
}
