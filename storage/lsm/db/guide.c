/* Guides to the files of a level; guide.h tells what for. */
#include "lsm/db/guide.h"

#include <stdlib.h>

#include "lsm/db/version.h"
#include "lsm/table/block_builder.h"

struct sdb_guide *sdb_guide_create(struct sdb_table_file *const *files, size_t count)
{
    struct storm_slice first = files[0]->smallest;
    size_t common = first.size;
    for (size_t i = 0; i < count; i++) {
        common = sdb_shared_prefix(storm_bytes(first.data, common), files[i]->smallest);
        common = sdb_shared_prefix(storm_bytes(first.data, common), files[i]->largest);
    }
    size_t each = sizeof(struct sdb_guide_bounds) + sizeof(struct sdb_filter);
    struct sdb_guide *guide = malloc(sizeof *guide + count * each + common);
    if (guide == NULL)
        return NULL;
    guide->count = count;
    guide->files = files;
    guide->bounds = (struct sdb_guide_bounds *)(guide + 1);
    guide->filters = (struct sdb_filter *)(guide->bounds + count);
    uint8_t *head = (uint8_t *)(guide->filters + count);
    guide->common = common;
    guide->head = head;
    if (common != 0)
        memcpy(head, first.data, common);
    for (size_t i = 0; i < count; i++) {
        guide->bounds[i].smallest = sdb_key_prefix(files[i]->smallest, common);
        guide->bounds[i].largest = sdb_key_prefix(files[i]->largest, common);
    }
    sdb_guide_update(guide);
    return guide;
}

void sdb_guide_destroy(struct sdb_guide *guide)
{
    free(guide);
}

void sdb_guide_update(struct sdb_guide *guide)
{
    for (size_t i = 0; i < guide->count; i++) {
        const struct sdb_table *table = guide->files[i]->table;
        guide->filters[i] = table != NULL ? sdb_table_filter(table) : (struct sdb_filter){0};
    }
}

/* How a key lies to all bounds together: 0 when it begins as they all do. */
static inline int compare_head(const struct sdb_guide *guide, struct storm_slice key)
{
    size_t size = key.size < guide->common ? key.size : guide->common;
    int order = size != 0 ? memcmp(key.data, guide->head, size) : 0;
    return order != 0 ? order : -(key.size < guide->common);
}

/* How a file's bounds lie to `key`, whose prefix is `wanted`. */
static inline int compare_smallest(const struct sdb_guide *guide, size_t i,
                                   struct sdb_key_prefix wanted, struct storm_slice key)
{
    int order = sdb_key_prefix_compare(guide->bounds[i].smallest, wanted);
    return order != 0 ? order : sdb_key_compare(guide->files[i]->smallest, key);
}

static inline int compare_largest(const struct sdb_guide *guide, size_t i,
                                  struct sdb_key_prefix wanted, struct storm_slice key)
{
    int order = sdb_key_prefix_compare(guide->bounds[i].largest, wanted);
    return order != 0 ? order : sdb_key_compare(guide->files[i]->largest, key);
}

/* Among files from `low` on, whose prefixes may be the key's own: the first that ends at or behind
 * it. */
static size_t find_tied(const struct sdb_guide *guide, size_t low, struct sdb_key_prefix wanted,
                        struct storm_slice key)
{
    size_t high = guide->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_largest(guide, middle, wanted, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t sdb_guide_find(const struct sdb_guide *guide, struct storm_slice key)
{
    if (compare_head(guide, key) != 0)
        return guide->count;
    struct sdb_key_prefix wanted = sdb_key_prefix(key, guide->common);
    const struct sdb_guide_bounds *bounds = guide->bounds;
    /* Which way the search goes at each step is a coin's toss, so it takes no branch. */
    size_t low = 0;
    for (size_t left = guide->count; left > 1;) {
        size_t half = left / 2;
        low += half & (0 - (size_t)sdb_key_prefix_is_less(bounds[low + half - 1].largest, wanted));
        left -= half;
    }
    low += sdb_key_prefix_is_less(bounds[low].largest, wanted);
    if (low < guide->count && sdb_key_prefix_compare(bounds[low].largest, wanted) == 0)
        low = find_tied(guide, low, wanted, key);
    if (low == guide->count || compare_smallest(guide, low, wanted, key) > 0)
        return guide->count;
    return low;
}

size_t sdb_guide_next(const struct sdb_guide *guide, size_t from, struct storm_slice key)
{
    if (compare_head(guide, key) != 0)
        return guide->count;
    struct sdb_key_prefix wanted = sdb_key_prefix(key, guide->common);
    for (size_t i = from; i < guide->count; i++) {
        if (compare_smallest(guide, i, wanted, key) <= 0 &&
            compare_largest(guide, i, wanted, key) >= 0)
            return i;
    }
    return guide->count;
}
