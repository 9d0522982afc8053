/*
 * The check of a whole table: what operators and tests ask, and what lookups take for granted.
 *
 * Each block is read from the disk past the cache and checked alone (sdb_block_check). Then its
 * entries are held against what is around them: the order over block borders, the separators, the
 * filter, and in the end the counts in the properties. A block with a problem is left at the first
 * one; the counts say nothing then and are not compared.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "lsm/table/format.h"
#include "lsm/table/reader.h"

struct walk {
    const struct sdb_table *table;
    struct sdb_table_check *check;
    uint64_t last_tag;
    struct sdb_table_props seen;
};

void sdb_table_check_init(struct sdb_table_check *check)
{
    *check = (struct sdb_table_check){.step = NULL};
    sdb_buffer_init(&check->first_key, SDB_TABLE_KEY_MAX);
    sdb_buffer_init(&check->last_key, SDB_TABLE_KEY_MAX);
}

void sdb_table_check_fini(struct sdb_table_check *check)
{
    sdb_buffer_fini(&check->first_key);
    sdb_buffer_fini(&check->last_key);
}

static storm_status wrong(const struct walk *walk, uint32_t block, const char *what)
{
    return sdb_fail(walk->table->os->errors, STORM_CORRUPT, "%s: block at %" PRIu64 ": %s",
                    walk->table->path, walk->table->index.slots[block].offset, what);
}

static void count(struct walk *walk, const struct sdb_block_iter *iter, bool is_new_key)
{
    struct sdb_table_props *seen = &walk->seen;
    uint64_t revision = sdb_tag_revision(iter->tag);
    if (seen->entries == 0 || revision < seen->min_revision)
        seen->min_revision = revision;
    if (revision > seen->max_revision)
        seen->max_revision = revision;
    seen->entries++;
    seen->deletes += sdb_tag_kind(iter->tag) == SDB_KIND_DELETE;
    seen->keys += is_new_key;
    seen->raw_bytes += iter->key.size + iter->value.size;
}

static storm_status check_entry(struct walk *walk, uint32_t block,
                                const struct sdb_block_iter *iter)
{
    struct sdb_buffer *last_key = &walk->check->last_key;
    struct storm_slice last = sdb_buffer_slice(last_key);
    bool is_first = walk->seen.entries == 0;
    int order = is_first ? -1 : sdb_key_compare(last, iter->key);
    if (order > 0 || (order == 0 && walk->last_tag <= iter->tag))
        return wrong(walk, block, "entries out of order");
    if (iter->key.size == 0)
        return wrong(walk, block, "an empty key");
    if (!sdb_table_may_contain(walk->table, sdb_key_hash(iter->key)))
        return wrong(walk, block, "a key that the filter does not have");
    if (sdb_index_find(&walk->table->index, iter->key, iter->tag) != block)
        return wrong(walk, block, "a key that the index puts into another block");
    count(walk, iter, is_first || order != 0);
    walk->last_tag = iter->tag;
    sdb_buffer_clear(last_key);
    bool is_kept = sdb_buffer_add(last_key, iter->key.data, iter->key.size);
    if (is_kept && is_first)
        is_kept = sdb_buffer_add(&walk->check->first_key, iter->key.data, iter->key.size);
    return is_kept ? STORM_OK : sdb_table_fail(walk->table, 0, STORM_NO_MEMORY);
}

static storm_status check_block(struct walk *walk, uint32_t block, struct storm_slice contents,
                                struct sdb_block_iter *iter)
{
    struct sdb_block_view view;
    uint64_t offset = walk->table->index.slots[block].offset;
    storm_status status = sdb_table_parse(walk->table, offset, contents, &view);
    if (status != STORM_OK)
        return status;
    status = view.restarts == 0 ? STORM_CORRUPT : sdb_block_check(&view);
    if (status != STORM_OK)
        return sdb_table_fail(walk->table, offset, status);
    sdb_block_iter_set(iter, &view);
    sdb_block_iter_first(iter);
    while (iter->valid) {
        status = check_entry(walk, block, iter);
        if (status != STORM_OK)
            return status;
        sdb_block_iter_next(iter);
    }
    if (iter->status != STORM_OK)
        return sdb_table_fail(walk->table, offset, iter->status);
    return STORM_OK;
}

static storm_status check_counts(const struct walk *walk)
{
    const struct sdb_table_props *seen = &walk->seen;
    const struct sdb_table_props *said = &walk->table->props;
    bool same = seen->entries == said->entries && seen->deletes == said->deletes &&
                seen->keys == said->keys && seen->raw_bytes == said->raw_bytes &&
                seen->min_revision == said->min_revision &&
                seen->max_revision == said->max_revision;
    if (same)
        return STORM_OK;
    return sdb_fail(walk->table->os->errors, STORM_CORRUPT,
                    "%s: the properties count other entries than there are", walk->table->path);
}

/* One block from the disk, alone and in its place. */
static storm_status walk_block(struct walk *walk, uint32_t i, struct sdb_block_iter *iter)
{
    struct sdb_block *block;
    storm_status status = sdb_table_load(walk->table, sdb_table_handle(walk->table, i), &block);
    if (status == STORM_OK)
        status = check_block(walk, i, storm_bytes(block->data, block->size), iter);
    sdb_block_unref(block);
    walk->check->blocks++;
    return status;
}

/* Whether the check goes on after `status`; *first keeps the first problem's. */
static bool goes_on(struct sdb_table_check *check, storm_status status, storm_status *first)
{
    if (status == STORM_OK)
        return true;
    if (*first == STORM_OK)
        *first = status;
    if (status == STORM_NO_MEMORY) {
        *first = status;
        return false;
    }
    check->problems++;
    if (check->problem == NULL)
        return false;
    check->problem(check->ctx, status);
    return true;
}

storm_status sdb_table_check(struct sdb_table *table, struct sdb_table_check *check)
{
    struct walk walk = {.table = table, .check = check};
    struct sdb_block_iter iter;
    storm_status first = STORM_OK;
    storm_status stop = STORM_OK;
    bool goes = true;
    sdb_block_iter_init(&iter);
    for (uint32_t i = 0; i < table->index.count && goes && stop == STORM_OK; i++) {
        goes = goes_on(check, walk_block(&walk, i, &iter), &first);
        if (goes && check->step != NULL)
            stop = check->step(check->ctx, (uint64_t)table->index.slots[i].size + SDB_TRAILER_SIZE);
    }
    if (first == STORM_OK && stop == STORM_OK)
        (void)goes_on(check, check_counts(&walk), &first);
    check->entries = walk.seen.entries;
    sdb_block_iter_fini(&iter);
    return stop != STORM_OK ? stop : first;
}

storm_status sdb_table_verify(struct sdb_table *table)
{
    struct sdb_table_check check;
    sdb_table_check_init(&check);
    storm_status status = sdb_table_check(table, &check);
    sdb_table_check_fini(&check);
    return status;
}
