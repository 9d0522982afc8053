/* What verification and repair report, kept for a test to look at; and a store with a tree to look
 * into. */
#ifndef TEST_REPORTS_H
#define TEST_REPORTS_H

#include "store.h"

#include <string.h>

enum { REPORTS_MAX = 400, REPORT_TEXT = 400 };

struct reports {
    size_t count;
    size_t problems; /* lines with a status other than STORM_OK */
    storm_status statuses[REPORTS_MAX];
    char lines[REPORTS_MAX][REPORT_TEXT];
    uint64_t progress_calls, done_bytes, total_bytes;
    uint64_t cancel_at; /* the progress call that says stop; 0 = none */
};

static inline void collect_report(void *ctx, storm_status status, const char *line)
{
    struct reports *reports = ctx;
    assert_null(strchr(line, '\n'));
    reports->problems += status != STORM_OK;
    if (reports->count == REPORTS_MAX)
        return;
    reports->statuses[reports->count] = status;
    snprintf(reports->lines[reports->count++], REPORT_TEXT, "%s", line);
}

static inline bool collect_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    struct reports *reports = ctx;
    assert_true(done_bytes >= reports->done_bytes && done_bytes <= total_bytes);
    reports->done_bytes = done_bytes;
    reports->total_bytes = total_bytes;
    return ++reports->progress_calls != reports->cancel_at;
}

/* A line that begins with `file` and holds `text`; its index, or fails. */
static inline size_t find_report(const struct reports *reports, const char *file, const char *text)
{
    for (size_t i = 0; i < reports->count; i++) {
        if (strncmp(reports->lines[i], file, strlen(file)) == 0 &&
            strstr(reports->lines[i], text) != NULL)
            return i;
    }
    for (size_t i = 0; i < reports->count; i++)
        print_message("  %d %s\n", reports->statuses[i], reports->lines[i]);
    fail_msg("no report on %s says \"%s\"", file, text);
    return 0;
}

/* Names of a directory's files. */
struct file_names {
    size_t count;
    char names[200][64];
};

static inline storm_status add_file_name(void *ctx, const char *name)
{
    struct file_names *files = ctx;
    assert_true(files->count < 200 && strlen(name) < 64);
    snprintf(files->names[files->count++], 64, "%s", name);
    return STORM_OK;
}

static inline void list_files(struct sim_disk *disk, const char *dir, struct file_names *files)
{
    files->count = 0;
    assert_int_equal(sim_each_file(disk, dir, add_file_name, files), STORM_OK);
}

/* A tree so small that some hundred entries fill three levels; only storm_compact compacts. */
static const struct sdb_tuning tuning_by_hand = {
    .table_bytes = 4 << 10,
    .base_bytes = 16 << 10,
    .multiplier = 4,
    .level0_files = 3,
    .level0_stall = 100,
    .settle_ns = 1000000000,
    .retry_ns = 1000000000,
    .is_by_hand = true,
};

#endif
