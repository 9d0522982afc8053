/*
 * Any bytes as the contents of a data block: read both ways, sought and checked. What comes out
 * must agree with itself: backwards is forwards reversed, if the whole block passes the check.
 */
#include <stdlib.h>

#include "lsm/table/block.h"
#include "lsm/table/format.h"

enum { MAX_STEPS = 100000 };

static void demand(bool fact)
{
    if (!fact)
        abort();
}

static uint32_t forwards(struct sdb_block_iter *iter)
{
    uint32_t count = 0;
    for (sdb_block_iter_first(iter); iter->valid && count < MAX_STEPS; count++)
        sdb_block_iter_next(iter);
    return count;
}

static uint32_t backwards(struct sdb_block_iter *iter)
{
    uint32_t count = 0;
    for (sdb_block_iter_last(iter); iter->valid && count < MAX_STEPS; count++)
        sdb_block_iter_prev(iter);
    return count;
}

static void look_up(const struct sdb_block_view *view, struct sdb_block_iter *iter,
                    struct storm_slice key, uint64_t tag, bool is_good)
{
    uint64_t found;
    struct storm_slice value;
    storm_status status = sdb_block_get(view, key, tag, &found, &value);
    sdb_block_iter_seek(iter, key, tag);
    if (is_good) {
        bool has = iter->valid && sdb_key_compare(iter->key, key) == 0;
        demand(status == (has ? STORM_OK : STORM_NOT_FOUND));
        demand(!has || (found == iter->tag && value.data == iter->value.data));
    }
    sdb_block_iter_seek_before(iter, key, tag);
    if (iter->valid && is_good)
        demand(sdb_entry_compare(iter->key, iter->tag, key, tag) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sdb_block_view view;
    struct sdb_block_iter iter;
    if (sdb_block_parse(storm_bytes(data, size), &view) != STORM_OK)
        return 0;
    sdb_block_iter_init(&iter);
    sdb_block_iter_set(&iter, &view);
    bool is_good = sdb_block_check(&view) == STORM_OK;
    uint32_t there = forwards(&iter);
    uint32_t back = backwards(&iter);
    demand(!is_good || there == back);
    size_t piece = size < 20 ? size : 20;
    for (size_t cut = 1; cut <= piece; cut += 3)
        look_up(&view, &iter, storm_bytes(data + size - cut, cut), sdb_tag(cut, SDB_KIND_SEEK),
                is_good);
    for (size_t at = 4; at + 4 < size && at < 200; at += 5)
        look_up(&view, &iter, storm_bytes(data + at, 4), sdb_tag(at, SDB_KIND_SEEK), is_good);
    sdb_block_iter_fini(&iter);
    return 0;
}
