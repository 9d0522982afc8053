/*
 * stormctl repair: ask, let libstorm do it, tell what has become of everything. It is the one
 * command that can make matters worse (a key may come back whose delete is lost), so it never goes
 * ahead without a yes.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "store.h"

const struct ctl_option ctl_repair_options[] = {
    {"yes", NULL, "do not ask"},
    {"json", NULL, "write one JSON object: counts, and the report as an array"},
    {NULL, NULL, NULL},
};

/* A storm_report_fn: ctx is the array of the report, NULL as text. */
static void take_line(void *ctx, storm_status status, const char *line)
{
    if (ctx == NULL) {
        printf("%s: %s\n", ctl_status_word(status), line);
        fflush(stdout);
        return;
    }
    (void)json_array_append_new(ctx, json_pack("{s:s, s:o}", "kind", ctl_status_word(status),
                                               "message", ctl_json_text(line)));
}

static enum ctl_exit ask(const struct ctl_call *call)
{
    char answer[16];
    if (ctl_flag(call, "yes"))
        return CTL_OK;
    if (isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1)
        return ctl_misuse(call->command,
                          "a repair may bring deleted keys back, so it asks first, and here is no "
                          "terminal to ask on: give --yes");
    fprintf(stderr,
            "Repair %s? Originals that are not used as they are move to %s/lost; deleted keys may "
            "come back.\nType yes to go on: ",
            call->operands[0], call->operands[0]);
    fflush(stderr);
    if (fgets(answer, sizeof answer, stdin) != NULL && strcmp(answer, "yes\n") == 0)
        return CTL_OK;
    ctl_say("nothing was changed");
    return CTL_USAGE;
}

static void put_text(const char *dir, const struct storm_repair_result *result)
{
    char text[CTL_NUMBER_MAX];
    printf("tables kept       %s\n", ctl_count_text(text, result->tables_kept));
    printf("tables salvaged   %s\n", ctl_count_text(text, result->tables_salvaged));
    printf("tables lost       %s\n", ctl_count_text(text, result->tables_lost));
    printf("log records       %s\n", ctl_count_text(text, result->log_records));
    printf("entries           %s\n", ctl_count_text(text, result->entries));
    printf("revision          %s\n", ctl_count_text(text, result->revision));
    printf("originals         %s/lost, those that are not used as they are\n", dir);
}

static json_t *make_json(const char *dir, const struct storm_repair_result *result, json_t *report)
{
    char lost[4096];
    snprintf(lost, sizeof lost, "%s/lost", dir);
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O}", "tables_kept",
        ctl_json_number(result->tables_kept), "tables_salvaged",
        ctl_json_number(result->tables_salvaged), "tables_lost",
        ctl_json_number(result->tables_lost), "log_records", ctl_json_number(result->log_records),
        "entries", ctl_json_number(result->entries), "revision", ctl_json_number(result->revision),
        "originals", ctl_json_text(lost), "report", report);
}

enum ctl_exit ctl_repair(const struct ctl_call *call)
{
    struct storm_repair_result result;
    struct storm_error error = {0};
    const char *dir = call->operands[0];
    enum ctl_exit code = ctl_look(call);
    if (code == CTL_OK)
        code = ask(call);
    if (code != CTL_OK)
        return code;
    json_t *report = ctl_flag(call, "json") ? json_array() : NULL;
    if (report == NULL && ctl_flag(call, "json"))
        return ctl_put_json(NULL, CTL_FAILED);
    storm_status status = storm_repair(dir, take_line, report, &result, &error);
    if (status != STORM_OK) {
        const char *advice = status == STORM_CORRUPT ? "" : api_store_advice(status);
        ctl_say("cannot repair %s: %s%s", dir,
                error.message[0] == '\0' ? storm_status_text(status) : error.message, advice);
        code = ctl_exit_of(status);
    } else if (report != NULL) {
        code = ctl_put_json(make_json(dir, &result, report), CTL_OK);
    } else {
        put_text(dir, &result);
    }
    json_decref(report);
    return code;
}
