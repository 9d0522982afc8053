/*
 * stormctl stats: a store's size and shape. Names in the JSON are those of the server's /stats; the
 * counters there begin with the server's start, and a tool that has just opened the store has none.
 */
#include <stdio.h>

#include "ctl.h"

const struct ctl_option ctl_stats_options[] = {
    {"json", NULL, "write one JSON object, with the names of the server's /stats"},
    {NULL, NULL, NULL},
};

static json_t *levels_json(const struct storm_stats *stats)
{
    json_t *levels = json_array();
    for (unsigned i = 0; i < STORM_MAX_LEVELS; i++) {
        if (stats->level_files[i] != 0 &&
            json_array_append_new(levels, json_pack("{s:i, s:o, s:o}", "level", (int)i, "files",
                                                    ctl_json_number(stats->level_files[i]), "bytes",
                                                    ctl_json_number(stats->level_bytes[i]))) != 0) {
            json_decref(levels);
            return NULL;
        }
    }
    return levels;
}

static json_t *make_json(const struct storm_stats *stats, uint64_t data_bytes)
{
    return json_pack(
        "{s:s, s:o, s:o, s:{s:o, s:o}, s:{s:o, s:o, s:o}, s:{s:o}, s:{s:o, s:o}, s:{s:o, s:o}}",
        "version", storm_version(), "revision", ctl_json_number(stats->revision), "keys_estimate",
        ctl_json_number(stats->entries_estimate), "memtable", "bytes",
        ctl_json_number(stats->memtable_bytes), "entries", ctl_json_number(stats->memtable_entries),
        "sstables", "count", ctl_json_number(stats->sstable_count), "bytes",
        ctl_json_number(stats->sstable_bytes), "levels", levels_json(stats), "compaction",
        "pending_bytes", ctl_json_number(stats->compaction_pending_bytes), "disk", "data_bytes",
        ctl_json_number(data_bytes), "free_bytes", ctl_json_number(stats->disk_free_bytes),
        "errors", "count", ctl_json_number(stats->errors), "corruptions",
        ctl_json_number(stats->corruptions));
}

static void put_levels(const struct storm_stats *stats)
{
    char files[CTL_NUMBER_MAX], bytes[CTL_NUMBER_MAX];
    if (stats->sstable_count == 0)
        return;
    printf("\n%-9s %10s %12s\n", "level", "tables", "size");
    for (unsigned i = 0; i < STORM_MAX_LEVELS; i++) {
        if (stats->level_files[i] != 0)
            printf("%-9u %10s %12s\n", i, ctl_count_text(files, stats->level_files[i]),
                   ctl_size_text(bytes, stats->level_bytes[i]));
    }
}

static void put_text(const char *dir, const struct storm_stats *stats, uint64_t data_bytes)
{
    char count[CTL_NUMBER_MAX], bytes[CTL_NUMBER_MAX];
    printf("store       %s, %s\n", dir, ctl_size_text(bytes, data_bytes));
    printf("revision    %s\n", ctl_count_text(count, stats->revision));
    printf("keys        about %s\n", ctl_count_text(count, stats->entries_estimate));
    printf("tables      %s, %s\n", ctl_count_text(count, stats->sstable_count),
           ctl_size_text(bytes, stats->sstable_bytes));
    printf("log         %s entries that are in no table yet, %s of memory\n",
           ctl_count_text(count, stats->memtable_entries),
           ctl_size_text(bytes, stats->memtable_bytes));
    printf("pending     %s to compact\n", ctl_size_text(bytes, stats->compaction_pending_bytes));
    printf("disk free   %s\n", ctl_size_text(bytes, stats->disk_free_bytes));
    if (stats->corruptions != 0)
        printf("damage      met %s time%s on opening; `stormctl verify %s` lists all of it\n",
               ctl_count_text(count, stats->corruptions), ctl_plural(stats->corruptions), dir);
    put_levels(stats);
}

enum ctl_exit ctl_stats(const struct ctl_call *call)
{
    struct ctl_store store;
    struct storm_stats stats;
    enum ctl_exit code = ctl_open(call, CTL_READ, &store, NULL, 0);
    if (code != CTL_OK)
        return code;
    uint64_t data_bytes = ctl_directory_bytes(store.dir);
    storm_status status = storm_stats_read(store.db, &stats);
    if (status != STORM_OK)
        code = ctl_fail(&store, status, "read the statistics");
    else if (ctl_flag(call, "json"))
        code = ctl_put_json(make_json(&stats, data_bytes), CTL_OK);
    else
        put_text(store.dir, &stats, data_bytes);
    return ctl_close(&store, code);
}
