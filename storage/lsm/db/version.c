/*
 * Versions and the tables they hold; version.h has the rules.
 *
 * Applying an edit copies the arrays of file pointers (a few KiB even for thousands of tables) and
 * takes a reference on each file. It happens once a flush or compaction, so nothing cleverer pays.
 */
#include "lsm/db/version.h"

#include <stdlib.h>

/* A description that never belongs to a store has no garbage list, and is not counted. */
static struct sdb_account *account_of(const struct sdb_table_file *file)
{
    return file->garbage == NULL ? NULL : file->garbage->account;
}

struct sdb_table_file *sdb_table_file_create(uint64_t number, uint64_t size, unsigned level,
                                             struct storm_slice smallest,
                                             struct storm_slice largest,
                                             struct sdb_garbage *garbage)
{
    struct sdb_table_file *file = calloc(1, sizeof *file + smallest.size + largest.size);
    if (file == NULL)
        return NULL;
    uint8_t *keys = (uint8_t *)(file + 1);
    if (smallest.size != 0)
        memcpy(keys, smallest.data, smallest.size);
    if (largest.size != 0)
        memcpy(keys + smallest.size, largest.data, largest.size);
    atomic_init(&file->refs, 1);
    file->number = number;
    file->size = size;
    file->level = level;
    file->smallest = storm_bytes(keys, smallest.size);
    file->largest = storm_bytes(keys + smallest.size, largest.size);
    file->garbage = garbage;
    file->snapshots = UINT32_MAX;
    sdb_account_took(account_of(file), SDB_FOR_TABLES, file);
    return file;
}

struct sdb_table_file *sdb_table_file_ref(struct sdb_table_file *file)
{
    atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
    return file;
}

void sdb_table_file_destroy(struct sdb_table_file *file)
{
    sdb_table_close(file->table);
    sdb_account_free(account_of(file), SDB_FOR_TABLES, file);
}

void sdb_table_file_adopt(struct sdb_table_file *file)
{
    const struct sdb_table_props *props = sdb_table_props(file->table);
    file->entries = props->entries;
    file->deletes = props->deletes;
    file->min_revision = props->min_revision;
    file->max_revision = props->max_revision;
    file->keys = props->keys;
    file->stale_ms = props->stale_ms;
    file->codec = props->codec;
}

struct sdb_table_file *sdb_table_file_move(struct sdb_table_file *file, unsigned level)
{
    struct sdb_table_file *moved = sdb_table_file_create(
        file->number, file->size, level, file->smallest, file->largest, file->garbage);
    if (moved == NULL)
        return NULL;
    moved->entries = file->entries;
    moved->deletes = file->deletes;
    moved->min_revision = file->min_revision;
    moved->max_revision = file->max_revision;
    moved->swept_revision = file->swept_revision;
    moved->keys = file->keys;
    moved->stale_ms = file->stale_ms;
    moved->codec = file->codec;
    moved->snapshots = file->snapshots;
    moved->table = file->table;
    moved->moved_from = sdb_table_file_ref(file);
    return moved;
}

void sdb_table_file_unref(struct sdb_table_file *file)
{
    /* acq_rel: whoever frees must see all that other holders did with the file. */
    if (file == NULL || atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (file->moved_from != NULL) {
        /* The table, and its removal, are the first description's. */
        struct sdb_table_file *first = file->moved_from;
        if (atomic_load_explicit(&file->is_deleted, memory_order_relaxed))
            atomic_store_explicit(&first->is_deleted, true, memory_order_relaxed);
        file->table = NULL;
        sdb_table_file_destroy(file);
        sdb_table_file_unref(first);
        return;
    }
    if (!atomic_load_explicit(&file->is_deleted, memory_order_relaxed)) {
        sdb_table_file_destroy(file);
        return;
    }
    pthread_mutex_lock(&file->garbage->mu);
    file->next_garbage = file->garbage->head;
    file->garbage->head = file;
    pthread_mutex_unlock(&file->garbage->mu);
}

static void free_version(struct sdb_version *version)
{
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        struct sdb_level *level = &version->levels[l];
        for (size_t i = 0; i < level->count; i++)
            sdb_table_file_unref(level->files[i]);
        free(level->files);
        sdb_guide_destroy(level->guide);
    }
    sdb_ranges_unref(version->ranges);
    free(version);
}

struct sdb_version *sdb_version_create(void)
{
    struct sdb_version *version = calloc(1, sizeof *version);
    if (version != NULL)
        atomic_init(&version->refs, 1);
    return version;
}

static bool is_listed(const struct sdb_table_file *file, struct sdb_table_file *const *list,
                      size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i]->number == file->number && list[i]->level == file->level)
            return true;
    }
    return false;
}

/* Level 0 newest first: flushes come in order of revision. Deeper levels by key. */
static int compare_level0(const void *a, const void *b)
{
    const struct sdb_table_file *x = *(struct sdb_table_file *const *)a;
    const struct sdb_table_file *y = *(struct sdb_table_file *const *)b;
    if (x->max_revision != y->max_revision)
        return x->max_revision > y->max_revision ? -1 : 1;
    return x->number > y->number ? -1 : x->number < y->number;
}

static int compare_sorted(const void *a, const void *b)
{
    const struct sdb_table_file *x = *(struct sdb_table_file *const *)a;
    const struct sdb_table_file *y = *(struct sdb_table_file *const *)b;
    return sdb_key_compare(x->smallest, y->smallest);
}

static bool apply_level(struct sdb_level *to, const struct sdb_level *from, size_t number,
                        const struct sdb_edit *edit)
{
    size_t room = from->count;
    for (size_t i = 0; i < edit->added_count; i++)
        room += edit->added[i]->level == number;
    if (room == 0)
        return true;
    to->files = malloc(room * sizeof(struct sdb_table_file *));
    if (to->files == NULL)
        return false;
    for (size_t i = 0; i < from->count; i++) {
        if (!is_listed(from->files[i], edit->removed, edit->removed_count))
            to->files[to->count++] = from->files[i];
    }
    for (size_t i = 0; i < edit->added_count; i++) {
        if (edit->added[i]->level == number)
            to->files[to->count++] = edit->added[i];
    }
    qsort(to->files, to->count, sizeof(struct sdb_table_file *),
          number == 0 ? compare_level0 : compare_sorted);
    for (size_t i = 0; i < to->count; i++) {
        sdb_table_file_ref(to->files[i]);
        to->bytes += to->files[i]->size;
    }
    if (to->count != 0)
        to->guide = sdb_guide_create(to->files, to->count);
    return to->count == 0 || to->guide != NULL;
}

static bool is_removed_range(const struct sdb_edit *edit, const struct sdb_range *range)
{
    for (size_t i = 0; i < edit->ranges_removed_count; i++) {
        if (sdb_range_compare(&edit->ranges_removed[i], range) == 0)
            return true;
    }
    return false;
}

static bool apply_ranges(struct sdb_version *to, const struct sdb_version *from,
                         const struct sdb_edit *edit)
{
    size_t count = sdb_ranges_count(from->ranges) + edit->ranges_added_count;
    if (edit->ranges_added_count == 0 && edit->ranges_removed_count == 0) {
        to->ranges = sdb_ranges_ref(from->ranges);
        return true;
    }
    struct sdb_range *list = malloc((count + 1) * sizeof *list);
    if (list == NULL)
        return false;
    count = 0;
    for (size_t i = 0; i < sdb_ranges_count(from->ranges); i++) {
        if (!is_removed_range(edit, &from->ranges->list[i]))
            list[count++] = from->ranges->list[i];
    }
    for (size_t i = 0; i < edit->ranges_added_count; i++)
        list[count++] = edit->ranges_added[i];
    storm_status status = sdb_ranges_create(NULL, 0, list, count, NULL, 0, &to->ranges);
    free(list);
    return status == STORM_OK;
}

struct sdb_version *sdb_version_apply(const struct sdb_version *base, const struct sdb_edit *edit)
{
    struct sdb_version *version = sdb_version_create();
    if (version == NULL)
        return NULL;
    bool is_whole = apply_ranges(version, base, edit);
    for (size_t l = 0; l < STORM_MAX_LEVELS && is_whole; l++)
        is_whole = apply_level(&version->levels[l], &base->levels[l], l, edit);
    if (!is_whole) {
        free_version(version);
        return NULL;
    }
    return version;
}

struct sdb_version *sdb_version_ref(struct sdb_version *version)
{
    atomic_fetch_add_explicit(&version->refs, 1, memory_order_relaxed);
    return version;
}

void sdb_version_unref(struct sdb_version *version)
{
    if (version == NULL)
        return;
    if (atomic_fetch_sub_explicit(&version->refs, 1, memory_order_acq_rel) != 1)
        return;
    free_version(version);
}

size_t sdb_level_find(const struct sdb_level *level, struct storm_slice key)
{
    size_t low = 0;
    size_t high = level->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sdb_key_compare(level->files[middle]->largest, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t sdb_version_file_count(const struct sdb_version *version)
{
    uint64_t count = 0;
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++)
        count += version->levels[l].count;
    return count;
}
