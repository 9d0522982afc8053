/* stormctl verify: every problem as a line, and a summary. See main.c for what it promises. */
#include <stdio.h>

#include "ctl.h"

const struct ctl_option ctl_verify_options[] = {
    {"quiet", NULL, "write nothing but problems, and show no progress"},
    {"json", NULL, "write one JSON object: counts, and problems as an array"},
    {NULL, NULL, NULL},
};

struct verification {
    struct ctl_progress progress;
    struct storm_verify_result result;
    uint64_t revision;
    json_t *problems; /* an array; NULL as text */
    bool is_quiet;
    bool is_closed; /* it did not even open */
};

/* A storm_progress_fn. */
static bool show_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    struct verification *verification = ctx;
    return ctl_progress_show(&verification->progress, done_bytes, total_bytes);
}

/* Something worth a word that is no problem, such as a file that does not belong to the store. */
static void take_note(struct verification *verification, const char *line)
{
    ctl_progress_clear(&verification->progress);
    if (!verification->is_quiet)
        ctl_say("%s", line);
}

/* A storm_report_fn. */
static void take_problem(void *ctx, storm_status status, const char *line)
{
    struct verification *verification = ctx;
    if (status == STORM_OK) {
        take_note(verification, line);
        return;
    }
    if (verification->problems != NULL) {
        /* Memory that runs out shows as a count that is larger than the array. */
        (void)json_array_append_new(verification->problems,
                                    json_pack("{s:s, s:o}", "kind", ctl_status_word(status),
                                              "message", ctl_json_text(line)));
        return;
    }
    ctl_progress_clear(&verification->progress);
    printf("%s: %s\n", ctl_status_word(status), line);
    fflush(stdout);
}

static void put_summary(const struct verification *verification)
{
    const struct storm_verify_result *result = &verification->result;
    char problems[CTL_NUMBER_MAX], tables[CTL_NUMBER_MAX], blocks[CTL_NUMBER_MAX];
    char entries[CTL_NUMBER_MAX], bytes[CTL_NUMBER_MAX], revision[CTL_NUMBER_MAX];
    printf("%s problem%s in %s table%s, %s block%s, %s entries, %s; revision %s\n",
           result->problems == 0 ? "No" : ctl_count_text(problems, result->problems),
           result->problems == 1 ? "" : "s", ctl_count_text(tables, result->tables),
           ctl_plural(result->tables), ctl_count_text(blocks, result->blocks),
           ctl_plural(result->blocks), ctl_count_text(entries, result->entries),
           ctl_size_text(bytes, result->bytes), ctl_count_text(revision, verification->revision));
}

static enum ctl_exit put_result(struct verification *verification, enum ctl_exit code)
{
    const struct storm_verify_result *result = &verification->result;
    if (verification->problems == NULL) {
        if (!verification->is_quiet && verification->is_closed)
            printf("1 problem: the store does not open, so nothing else could be checked\n");
        else if (!verification->is_quiet)
            put_summary(verification);
        if (!verification->is_quiet && result->problems != 0)
            ctl_say("restore the directory from a backup, or save what can be read with "
                    "`stormctl repair`");
        return code;
    }
    json_t *object = json_pack(
        "{s:b, s:o, s:o, s:o, s:o, s:o, s:O}", "ok", result->problems == 0, "revision",
        ctl_json_number(verification->revision), "tables", ctl_json_number(result->tables),
        "blocks", ctl_json_number(result->blocks), "entries", ctl_json_number(result->entries),
        "bytes", ctl_json_number(result->bytes), "problems", verification->problems);
    return ctl_put_json(object, code);
}

static enum ctl_exit verify(struct ctl_store *store, struct verification *verification)
{
    struct storm_stats stats;
    storm_status status = storm_stats_read(store->db, &stats);
    if (status == STORM_OK) {
        verification->revision = stats.revision;
        status = storm_verify(store->db, show_progress, take_problem, verification,
                              &verification->result);
    }
    ctl_progress_clear(&verification->progress);
    if (status == STORM_OK || (status == STORM_CORRUPT && verification->result.problems != 0))
        return put_result(verification, status == STORM_OK ? CTL_OK : CTL_FAILED);
    return ctl_fail(store, status, "verify the store");
}

enum ctl_exit ctl_verify(const struct ctl_call *call)
{
    struct ctl_store store;
    char damage[512] = "";
    struct verification verification = {.is_quiet = ctl_flag(call, "quiet")};
    if (ctl_flag(call, "json")) {
        verification.problems = json_array();
        if (verification.problems == NULL)
            return ctl_put_json(NULL, CTL_FAILED);
    }
    verification.progress = ctl_progress_begin("verifying", !verification.is_quiet);
    enum ctl_exit code = ctl_open(call, CTL_READ, &store, damage, sizeof damage);
    if (code == CTL_OK) {
        code = ctl_close(&store, verify(&store, &verification));
    } else if (damage[0] != '\0') {
        /* What keeps a store from being opened is one problem, and hides all others. */
        verification.result.problems = 1;
        verification.is_closed = true;
        take_problem(&verification, STORM_CORRUPT, damage);
        code = put_result(&verification, code);
    }
    json_decref(verification.problems);
    return code;
}
