/*
 * When it cannot be told which of two tables is the newer: one pass over the entries of all of
 * them.
 *
 * Reads of a store believe in levels: the first version found from above is the newest. Tables
 * whose levels are not known, and entries out of the log that belong below what is there, would
 * break that. A merge of everything never does, whatever is in it twice: entries are compared by
 * key and revision, the newest version of each key is kept, and since nothing is left below them,
 * deletes and what they hide go.
 *
 * Tables that do not overlap are read one after the other as one run, so that there are as many
 * sources, and read-ahead buffers, as tables overlap at most.
 */
#include <stdlib.h>

#include "lsm/db/output.h"
#include "lsm/db/repair.h"
#include "lsm/db/sources.h"

enum { READAHEAD = 256 << 10 };

struct runs {
    struct sdb_level *list; /* each with files in order */
    size_t count;
};

static int compare_smallest(const void *a, const void *b)
{
    const struct sdb_table_file *x = *(struct sdb_table_file *const *)a;
    const struct sdb_table_file *y = *(struct sdb_table_file *const *)b;
    return sdb_key_compare(x->smallest, y->smallest);
}

static void free_runs(struct runs *runs)
{
    for (size_t i = 0; i < runs->count; i++)
        free(runs->list[i].files);
    free(runs->list);
}

/* Each file to the first run that ends before it begins. Files come by their smallest keys. */
static storm_status make_runs(struct sdb_table_file **files, size_t count, struct runs *runs)
{
    runs->list = calloc(count, sizeof *runs->list);
    if (runs->list == NULL)
        return STORM_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        size_t r = 0;
        while (r < runs->count &&
               sdb_key_compare(runs->list[r].files[runs->list[r].count - 1]->largest,
                               files[i]->smallest) >= 0)
            r++;
        struct sdb_level *run = &runs->list[r];
        if (r == runs->count) {
            run->files = malloc(count * sizeof(struct sdb_table_file *));
            if (run->files == NULL)
                return STORM_NO_MEMORY;
            runs->count++;
        }
        run->files[run->count++] = files[i];
        run->bytes += files[i]->size;
    }
    return STORM_OK;
}

static storm_status open_file(struct sdb_repair *repair, struct sdb_table_file *file)
{
    if (file->table != NULL)
        return STORM_OK;
    char *path = sdb_repair_table_path(repair, file->number);
    if (path == NULL)
        return STORM_NO_MEMORY;
    storm_status status = sdb_table_open(repair->db->os, path, file->number, file->size,
                                         repair->db->cache, &file->table);
    free(path);
    return status;
}

/* All tables with something in them, open, by their smallest keys. */
static storm_status collect(struct sdb_repair *repair, struct sdb_table_file ***out, size_t *count)
{
    size_t room = repair->table_count + repair->logged.count;
    storm_status status = STORM_OK;
    struct sdb_table_file **files = malloc((room + 1) * sizeof(struct sdb_table_file *));
    *out = files;
    *count = 0;
    if (files == NULL)
        return STORM_NO_MEMORY;
    for (size_t i = 0; i < repair->table_count; i++) {
        if (repair->tables[i].file != NULL)
            files[(*count)++] = repair->tables[i].file;
    }
    for (size_t i = 0; i < repair->logged.count; i++)
        files[(*count)++] = repair->logged.list[i];
    for (size_t i = 0; i < *count && status == STORM_OK; i++)
        status = open_file(repair, files[i]);
    if (*count > 1)
        qsort(files, *count, sizeof(struct sdb_table_file *), compare_smallest);
    return status;
}

static struct sdb_source *merge_of(const struct runs *runs)
{
    struct sdb_source **sources = malloc(runs->count * sizeof(struct sdb_source *));
    if (sources == NULL)
        return NULL;
    for (size_t i = 0; i < runs->count; i++)
        sources[i] = sdb_level_source(&runs->list[i], false, READAHEAD);
    struct sdb_source *merged = sdb_merge_source(sources, runs->count);
    free(sources);
    return merged;
}

static storm_status pour_all(struct sdb_repair *repair, struct sdb_source *source)
{
    struct sdb_lsm *db = repair->db;
    struct sdb_output output;
    struct sdb_keep keep;
    struct sdb_output_plan plan = {
        .level = SDB_LAST_LEVEL,
        .table_bytes = 2 * db->tuning.table_bytes,
        .overlap_max = UINT64_MAX,
        .now_ms = sdb_now_ms(db->os),
    };
    struct sdb_version *nothing = sdb_version_create();
    if (nothing == NULL)
        return STORM_NO_MEMORY;
    sdb_output_begin(&output, db, &plan);
    sdb_keep_init(&keep, NULL, 0, plan.now_ms, nothing, STORM_MAX_LEVELS);
    storm_status status = sdb_pour(source, &keep, &output, NULL, NULL);
    for (size_t i = 0; i < output.count && status == STORM_OK; i++) {
        if (!sdb_repair_add_file(&repair->written, output.files[i]))
            status = STORM_NO_MEMORY;
    }
    sdb_keep_fini(&keep);
    sdb_output_end(&output, status == STORM_OK);
    sdb_version_unref(nothing);
    return status;
}

storm_status sdb_repair_merge(struct sdb_repair *repair)
{
    struct runs runs = {.count = 0};
    struct sdb_table_file **files;
    size_t count;
    storm_status status = collect(repair, &files, &count);
    if (status == STORM_OK && count != 0) {
        status = make_runs(files, count, &runs);
        if (status == STORM_OK) {
            struct sdb_source *source = merge_of(&runs);
            status = source == NULL ? STORM_NO_MEMORY : pour_all(repair, source);
            sdb_source_destroy(source);
        }
        free_runs(&runs);
    }
    free(files);
    return status;
}
