/*
 * A sorted level as one source: its tables do not overlap, so it stands in one of them at a time
 * and steps to the neighbour when that one ends. A table is opened for reading only when the source
 * gets to it, so a short scan touches one table whatever the level holds; one source serves them
 * all.
 */
#include <stdlib.h>

#include "lsm/db/sources.h"

struct level_source {
    struct sdb_source base;
    const struct sdb_level *level;
    bool fill_cache;
    size_t readahead;
    size_t at;                /* index of the open table; level->count = none */
    struct sdb_source *table; /* of that table, or at rest; NULL before the first */
    bool is_sound;            /* it is not one that fails */
};

/* ---- A damaged table: every move fails ---- */

struct failed_source {
    struct sdb_source base;
    storm_status status;
};

static void fail(struct sdb_source *source)
{
    source->valid = false;
    source->status = ((struct failed_source *)source)->status;
}

static void fail_seek(struct sdb_source *source, struct storm_slice key, uint64_t tag)
{
    (void)key;
    (void)tag;
    fail(source);
}

static void fail_destroy(struct sdb_source *source)
{
    free(source);
}

static const struct sdb_source_ops failed_ops = {fail, fail, fail_seek, fail_seek,
                                                 fail, fail, NULL,      fail_destroy};

struct sdb_source *sdb_table_file_source(const struct sdb_table_file *file, bool fill_cache,
                                         size_t readahead)
{
    if (file->table != NULL)
        return sdb_table_source(file->table, fill_cache, readahead);
    struct failed_source *failed = calloc(1, sizeof *failed);
    if (failed == NULL)
        return NULL;
    failed->base.ops = &failed_ops;
    failed->status = file->open_status == STORM_OK ? STORM_CORRUPT : file->open_status;
    return &failed->base;
}

/* ---- The level ---- */

/* Open table `at`, where a walk `goes_on` or a jump leads. False when there is none, or no memory
 * (status set). */
static bool open_table(struct level_source *source, size_t at, bool goes_on)
{
    bool is_open = source->table != NULL && source->at == at;
    source->at = at;
    if (at >= source->level->count) {
        if (source->table != NULL)
            sdb_source_rest(source->table);
        return false;
    }
    const struct sdb_table_file *file = source->level->files[at];
    if (is_open)
        return true;
    if (source->table != NULL && source->is_sound && file->table != NULL) {
        sdb_table_source_move(source->table, file->table, goes_on);
        return true;
    }
    sdb_source_destroy(source->table);
    source->table = sdb_table_file_source(file, source->fill_cache, source->readahead);
    source->is_sound = file->table != NULL;
    if (source->table == NULL)
        source->base.status = STORM_NO_MEMORY;
    return source->table != NULL;
}

/* Take over the table's entry; pass over tables that ended, in the direction of travel. */
static void settle(struct level_source *source, bool forward)
{
    while (source->table != NULL && !source->table->valid && source->table->status == STORM_OK) {
        bool is_edge = forward ? source->at + 1 >= source->level->count : source->at == 0;
        if (is_edge)
            break;
        if (!open_table(source, forward ? source->at + 1 : source->at - 1, true))
            break;
        if (forward)
            source->table->ops->first(source->table);
        else
            source->table->ops->last(source->table);
    }
    const struct sdb_source *table = source->table;
    source->base.valid = table != NULL && table->valid;
    if (table != NULL && table->status != STORM_OK)
        source->base.status = table->status;
    if (source->base.valid) {
        source->base.key = table->key;
        source->base.tag = table->tag;
        source->base.value = table->value;
        source->base.at = table->at;
        source->base.first = table->first;
        source->base.last = table->last;
    }
}

/* The table follows where the source has been moved to in their common row. */
static struct sdb_source *follow(const struct level_source *source)
{
    if (source->base.at != NULL)
        sdb_source_stand(source->table, source->base.at);
    return source->table;
}

static struct level_source *begin_move(struct sdb_source *source)
{
    source->valid = false;
    source->status = STORM_OK;
    return (struct level_source *)source;
}

static void level_first(struct sdb_source *base)
{
    struct level_source *source = begin_move(base);
    if (open_table(source, 0, false))
        source->table->ops->first(source->table);
    settle(source, true);
}

static void level_last(struct sdb_source *base)
{
    struct level_source *source = begin_move(base);
    if (source->level->count != 0 && open_table(source, source->level->count - 1, false))
        source->table->ops->last(source->table);
    settle(source, false);
}

static void level_seek(struct sdb_source *base, struct storm_slice key, uint64_t tag)
{
    struct level_source *source = begin_move(base);
    if (open_table(source, sdb_level_find(source->level, key), false))
        source->table->ops->seek(source->table, key, tag);
    settle(source, true);
}

static void level_seek_before(struct sdb_source *base, struct storm_slice key, uint64_t tag)
{
    struct level_source *source = begin_move(base);
    size_t at = sdb_level_find(source->level, key);
    if (at == source->level->count) {
        level_last(base);
        return;
    }
    if (open_table(source, at, false))
        source->table->ops->seek_before(source->table, key, tag);
    settle(source, false);
}

static void level_next(struct sdb_source *base)
{
    if (base->at != base->last) {
        sdb_source_stand(base, base->at + 1);
        return;
    }
    struct level_source *source = begin_move(base);
    struct sdb_source *table = follow(source);
    table->ops->next(table);
    settle(source, true);
}

static void level_prev(struct sdb_source *base)
{
    if (base->at != base->first) {
        sdb_source_stand(base, base->at - 1);
        return;
    }
    struct level_source *source = begin_move(base);
    struct sdb_source *table = follow(source);
    table->ops->prev(table);
    settle(source, false);
}

static void level_rest(struct sdb_source *base)
{
    struct sdb_source *table = ((struct level_source *)base)->table;
    if (table != NULL)
        sdb_source_rest(table);
}

static void level_destroy(struct sdb_source *base)
{
    sdb_source_destroy(((struct level_source *)base)->table);
    free(base);
}

static const struct sdb_source_ops level_ops = {
    .first = level_first,
    .last = level_last,
    .seek = level_seek,
    .seek_before = level_seek_before,
    .next = level_next,
    .prev = level_prev,
    .rest = level_rest,
    .destroy = level_destroy,
};

struct sdb_source *sdb_level_source(const struct sdb_level *level, bool fill_cache,
                                    size_t readahead)
{
    struct level_source *source = calloc(1, sizeof *source);
    if (source == NULL)
        return NULL;
    source->base.ops = &level_ops;
    source->level = level;
    source->fill_cache = fill_cache;
    source->readahead = readahead;
    return &source->base;
}
