/* stormctl compact: rewrite a range of a store, or all of it, and say what that has brought. */
#include <stdio.h>

#include "ctl.h"
#include "moment.h"

const struct ctl_option ctl_compact_options[] = {
    {"start", "KEY", "only from this key on"},
    {"end", "KEY", "only up to this key, which is not included"},
    {"config", "FILE", "the server's configuration file, for how tables are written"},
    {"json", NULL, "write one JSON object: tables and bytes before and after"},
    {NULL, NULL, NULL},
};

static json_t *size_json(const struct storm_stats *stats)
{
    return json_pack("{s:o, s:o}", "tables", ctl_json_number(stats->sstable_count), "bytes",
                     ctl_json_number(stats->sstable_bytes));
}

static enum ctl_exit put_result(const struct ctl_call *call, const struct storm_stats *before,
                                const struct storm_stats *after, double seconds, enum ctl_exit code)
{
    char tables[2][CTL_NUMBER_MAX], bytes[2][CTL_NUMBER_MAX];
    if (ctl_flag(call, "json"))
        return ctl_put_json(json_pack("{s:o, s:o, s:f}", "before", size_json(before), "after",
                                      size_json(after), "seconds", seconds),
                            code);
    printf("%s in %s table%s before, %s in %s table%s after; %.1f s\n",
           ctl_size_text(bytes[0], before->sstable_bytes),
           ctl_count_text(tables[0], before->sstable_count), ctl_plural(before->sstable_count),
           ctl_size_text(bytes[1], after->sstable_bytes),
           ctl_count_text(tables[1], after->sstable_count), ctl_plural(after->sstable_count),
           seconds);
    return code;
}

static enum ctl_exit compact(const struct ctl_call *call, struct ctl_store *store)
{
    struct storm_stats before, after;
    struct ctl_progress progress = ctl_progress_begin("compacting", true);
    uint64_t start_ns = api_monotonic_ns();
    /* What is in the log only is part of the store, and of what it weighs. */
    storm_status status = storm_flush(store->db, NULL);
    if (status == STORM_OK)
        status = storm_stats_read(store->db, &before);
    if (status == STORM_OK)
        status = storm_compact(store->db, ctl_bytes(call, "start"), ctl_bytes(call, "end"),
                               ctl_progress_show, &progress);
    ctl_progress_clear(&progress);
    if (status == STORM_OK)
        status = storm_stats_read(store->db, &after);
    if (status == STORM_CORRUPT)
        ctl_say("damaged tables were left as they are");
    if (status != STORM_OK)
        return ctl_fail(store, status, "compact the store");
    double seconds = (double)(api_monotonic_ns() - start_ns) / 1e9;
    return put_result(call, &before, &after, seconds, CTL_OK);
}

enum ctl_exit ctl_compact(const struct ctl_call *call)
{
    struct ctl_store store;
    enum ctl_exit code = ctl_open(call, CTL_ALONE, &store, NULL, 0);
    return code == CTL_OK ? ctl_close(&store, compact(call, &store)) : code;
}
