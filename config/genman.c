/*
 * genman: fills the table of options into the manual pages and the sample configuration file, while
 * Storm DB is being built. It is not installed.
 *
 *     genman TEMPLATE VERSION DATA_DIR >OUTPUT
 *
 * copies TEMPLATE, replacing whole lines:
 *
 *     %title NAME SECTION     the .TH line of a manual page, with the version
 *     %manual                 every option as a paragraph of a manual page
 *     %sample                 every option as a comment and "#key = default"
 *
 * In the sample, data_dir is set to DATA_DIR unless that is the default: the installed file names
 * the system's directory. All else stays commented out, so that a file from an old release does not
 * pin the defaults of that release.
 */
#include "option.h"

#include <string.h>

/* A hyphen would become a typographic one, a dot or quote at the start of a line a request. */
static void put_roff(const char *text)
{
    if (text[0] == '.' || text[0] == '\'')
        fputs("\\&", stdout);
    for (; *text != '\0'; text++) {
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else
            putchar(*text);
    }
}

static void put_manual(void)
{
    char allowed[CONFIG_ALLOWED_MAX], variable[CONFIG_VARIABLE_MAX];

    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        enum config_id id = (enum config_id)i;
        int length;

        if (config_begins_section(id, &length))
            printf(".SS [%.*s]\n", length, config_options[i].name);
        printf(".TP\n.BR %s \" = \\fI", config_key(id));
        put_roff(config_options[i].fallback);
        printf("\\fR\"\n");
        put_roff(config_options[i].help);
        printf("\nTakes ");
        put_roff(config_allowed(id, allowed));
        printf(".\nFlag\n.BR \\-\\-%s ,\nvariable\n.BR %s .\n", config_options[i].name,
               config_variable(id, variable));
    }
}

static void put_sample(const char *data_dir)
{
    char allowed[CONFIG_ALLOWED_MAX], line[CONFIG_ALLOWED_MAX + 16];

    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        enum config_id id = (enum config_id)i;
        const char *fallback = config_options[i].fallback;
        bool changed = id == CONFIG_data_dir && strcmp(data_dir, fallback) != 0;
        int length;

        printf("\n");
        if (config_begins_section(id, &length))
            printf("[%.*s]\n", length, config_options[i].name);
        config_wrap(stdout, "# ", config_options[i].help);
        snprintf(line, sizeof(line), "Takes %s.", config_allowed(id, allowed));
        config_wrap(stdout, "# ", line);
        const char *value = changed ? data_dir : fallback;
        printf("%s%s =%s%s\n", changed ? "" : "#", config_key(id), value[0] == '\0' ? "" : " ",
               value);
    }
}

static void put_title(const char *words, const char *version)
{
    printf(".TH %.*s \"\" \"Storm DB %s\" \"Storm DB Manual\"\n", (int)strcspn(words, "\n"), words,
           version);
}

int main(int argc, char **argv)
{
    char line[512];
    FILE *template = argc == 4 ? fopen(argv[1], "r") : NULL;

    if (template == NULL) {
        fprintf(stderr, "usage: genman TEMPLATE VERSION DATA_DIR (and TEMPLATE has to exist)\n");
        return 1;
    }
    while (fgets(line, sizeof(line), template) != NULL) {
        if (strncmp(line, "%title ", 7) == 0)
            put_title(line + 7, argv[2]);
        else if (strcmp(line, "%manual\n") == 0)
            put_manual();
        else if (strcmp(line, "%sample\n") == 0)
            put_sample(argv[3]);
        else
            fputs(line, stdout);
    }
    fclose(template);
    return fflush(stdout) == 0 ? 0 : 1;
}
