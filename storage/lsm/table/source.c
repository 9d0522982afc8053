/*
 * A source over one table: a walk over the index, and in the block where it stands a walk over
 * entries.
 *
 * Blocks come from one of two places.
 *   Through the mapping or the cache (readahead 0): block by block, pinned while the source is in it.
 *   By chunks (readahead > 0): many neighbouring blocks in one read, past the cache, which a scan of
 *   the whole table would only empty. The chunk starts at two blocks after a jump and doubles up to
 *   `readahead` as long as the walk goes on in one direction, so that a short scan reads little and a
 *   compaction reads large. Raw blocks are walked where they lie in the chunk; compressed ones are
 *   decoded into a block of their own. One that does not verify is read alone once more.
 *
 * The source's public entry and row mirror the block iterator's. Leaving a block at either end
 * loads the neighbour; running off the table leaves the source invalid with STORM_OK.
 */
#include <stdlib.h>

#include "lsm/table/format.h"
#include "lsm/table/reader.h"
#include "os/large.h"

/* A scan that has come through LONG_SCAN blocks keeps no more of them in the cache: it would push
 * out what is used often, and will hardly be back before it has pushed out its own. */
enum { NO_BLOCK = UINT32_MAX, FIRST_CHUNK = 8 << 10, LONG_SCAN = 64 };

struct table_source {
    struct sdb_source base;
    struct sdb_table *table;
    bool fill_cache;
    size_t readahead;

    struct sdb_block_iter iter;
    uint32_t current;        /* the block the iterator reads, or NO_BLOCK */
    struct sdb_block *block; /* holds its bytes, unless they are in the chunk */
    uint32_t walked;         /* blocks since the last jump, those of tables before included */
    bool has_moved;          /* to another table, where the walk goes on */

    uint8_t *chunk;
    size_t chunk_room;
    uint64_t chunk_at; /* what of the file is in it */
    size_t chunk_size;
    size_t chunk_next; /* how much to read next */
    bool is_backward;  /* the direction of the last step from block to block */
};

static void show(struct table_source *source)
{
    const struct sdb_block_iter *iter = &source->iter;
    source->base.valid = true;
    source->base.first = iter->row;
    source->base.last = iter->row + iter->count - 1;
    sdb_source_stand(&source->base, iter->row + iter->current);
}

static void stop(struct table_source *source, storm_status status)
{
    source->base.valid = false;
    source->base.status = status;
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

static void drop_block(struct table_source *source)
{
    source->current = NO_BLOCK;
    sdb_block_unref(source->block);
    source->block = NULL;
}

static bool in_chunk(const struct table_source *source, struct sdb_handle handle)
{
    return handle.offset >= source->chunk_at &&
           handle.offset + handle.size + SDB_TRAILER_SIZE <= source->chunk_at + source->chunk_size;
}

static void drop_chunk(struct table_source *source)
{
    if (source->chunk == NULL)
        return;
    sdb_account_sub(sdb_cache_account(source->table->cache), SDB_FOR_CACHE,
                    sdb_large_bytes(source->chunk, source->chunk_room));
    sdb_large_free(source->chunk, source->chunk_room);
    source->chunk = NULL;
    source->chunk_room = 0;
    source->chunk_size = 0;
}

/* Read a chunk with the whole block in it, and more of what lies ahead. */
static storm_status read_chunk(struct table_source *source, struct sdb_handle handle)
{
    size_t stored = (size_t)handle.size + SDB_TRAILER_SIZE;
    size_t wanted = source->chunk_next > stored ? source->chunk_next : stored;
    uint64_t start = handle.offset;
    uint64_t end = sdb_index_data_end(&source->table->index);
    if (source->is_backward) {
        end = handle.offset + stored;
        start = end > wanted ? end - wanted : 0;
    }
    size_t size = end - start < wanted ? (size_t)(end - start) : wanted;
    source->chunk_size = 0;
    if (size > source->chunk_room) {
        drop_chunk(source);
        source->chunk = sdb_large_alloc(size);
        if (source->chunk == NULL)
            return sdb_table_fail(source->table, handle.offset, STORM_NO_MEMORY);
        source->chunk_room = size;
        sdb_account_add(sdb_cache_account(source->table->cache), SDB_FOR_CACHE,
                        sdb_large_bytes(source->chunk, size));
    }
    storm_status status =
        sdb_pread(source->table->file, start, source->chunk, size, &source->chunk_size);
    source->chunk_at = start;
    size_t doubled = source->chunk_next * 2;
    source->chunk_next = doubled < source->readahead ? doubled : source->readahead;
    if (status != STORM_OK)
        source->chunk_size = 0;
    return status;
}

/* The block's contents out of a chunk. */
static storm_status load_from_chunk(struct table_source *source, struct sdb_handle handle,
                                    struct storm_slice *contents)
{
    if (!in_chunk(source, handle)) {
        storm_status status = read_chunk(source, handle);
        if (status != STORM_OK)
            return status;
    }
    storm_status status;
    const uint8_t *stored = source->chunk + (handle.offset - source->chunk_at);
    if (!in_chunk(source, handle) || !sdb_table_verifies(source->table, handle, stored)) {
        status = sdb_table_load(source->table, handle, &source->block);
    } else if (stored[handle.size] != STORM_CODEC_NONE) {
        status = sdb_table_decode(source->table, handle, stored, &source->block);
    } else {
        *contents = storm_bytes(stored, handle.size);
        return STORM_OK;
    }
    if (status == STORM_OK)
        *contents = storm_bytes(source->block->data, source->block->size);
    return status;
}

/* Stand in a block, anywhere. False, and stopped, when it cannot be read. */
static bool enter_block(struct table_source *source, uint32_t index)
{
    struct sdb_block_view view;
    struct storm_slice contents = {NULL, 0};
    storm_status status;
    if (index == source->current)
        return true;
    bool is_neighbour = source->current != NO_BLOCK &&
                        (index == source->current + 1 || index + 1 == source->current);
    source->walked = is_neighbour || source->has_moved ? source->walked + 1 : 0;
    source->has_moved = false;
    source->is_backward = is_neighbour && index < source->current;
    if (!is_neighbour)
        source->chunk_next = source->readahead < FIRST_CHUNK ? source->readahead : FIRST_CHUNK;
    drop_block(source);
    struct sdb_handle handle = sdb_table_handle(source->table, index);
    if (source->readahead != 0) {
        status = load_from_chunk(source, handle, &contents);
    } else {
        bool is_kept = source->fill_cache && source->walked < LONG_SCAN;
        status = sdb_table_block(source->table, index, is_kept, &contents, &source->block);
    }
    if (status == STORM_OK)
        status = sdb_table_parse(source->table, handle.offset, contents, &view);
    if (status == STORM_OK && view.restarts == 0)
        status = sdb_table_fail(source->table, handle.offset, STORM_CORRUPT);
    if (status != STORM_OK) {
        drop_block(source);
        stop(source, status);
        return false;
    }
    sdb_block_iter_set(&source->iter, &view);
    source->current = index;
    return true;
}

/* The block iterator failed, or the source stands on what it found. False if it ran off the
 * block. */
static bool settle(struct table_source *source)
{
    if (source->iter.valid) {
        source->base.status = STORM_OK;
        show(source);
        return true;
    }
    if (source->iter.status == STORM_OK)
        return false;
    uint64_t offset = source->table->index.slots[source->current].offset;
    stop(source, sdb_table_fail(source->table, offset, source->iter.status));
    return true;
}

static void first_of(struct table_source *source, uint32_t index)
{
    if (index >= source->table->index.count) {
        stop(source, STORM_OK);
        return;
    }
    if (!enter_block(source, index))
        return;
    sdb_block_iter_first(&source->iter);
    if (!settle(source))
        stop(source, STORM_OK);
}

/* `index` is one more than the block's, so that 0 is "before the table". */
static void last_of(struct table_source *source, uint32_t index)
{
    if (index == 0) {
        stop(source, STORM_OK);
        return;
    }
    if (!enter_block(source, index - 1))
        return;
    sdb_block_iter_last(&source->iter);
    if (!settle(source))
        stop(source, STORM_OK);
}

/* ---- Moves ----------------------------------------------------------------------------------- */

/* A move that goes to where it wants, unless a walk goes on from the table before. */
static void jump(struct table_source *source)
{
    if (!source->has_moved)
        source->walked = 0;
}

static void move_first(struct sdb_source *base)
{
    struct table_source *source = (struct table_source *)base;
    jump(source);
    first_of(source, 0);
}

static void move_last(struct sdb_source *base)
{
    struct table_source *source = (struct table_source *)base;
    jump(source);
    last_of(source, source->table->index.count);
}

static void move_seek(struct sdb_source *base, struct storm_slice key, uint64_t tag)
{
    struct table_source *source = (struct table_source *)base;
    uint32_t index = sdb_index_find(&source->table->index, key, tag);
    jump(source);
    if (index == source->table->index.count) {
        stop(source, STORM_OK);
        return;
    }
    if (!enter_block(source, index))
        return;
    sdb_block_iter_seek(&source->iter, key, tag);
    if (!settle(source))
        first_of(source, index + 1);
}

static void move_seek_before(struct sdb_source *base, struct storm_slice key, uint64_t tag)
{
    struct table_source *source = (struct table_source *)base;
    uint32_t index = sdb_index_find(&source->table->index, key, tag);
    jump(source);
    if (index == source->table->index.count) {
        last_of(source, index);
        return;
    }
    if (!enter_block(source, index))
        return;
    sdb_block_iter_seek_before(&source->iter, key, tag);
    if (!settle(source))
        last_of(source, index);
}

/* The iterator follows where the source has been moved to in the row. */
static void follow(struct table_source *source)
{
    source->iter.current = (uint32_t)(source->base.at - source->iter.row);
}

static void move_next(struct sdb_source *base)
{
    struct table_source *source = (struct table_source *)base;
    if (base->at < base->last) {
        sdb_source_stand(base, base->at + 1);
        return;
    }
    follow(source);
    sdb_block_iter_next(&source->iter);
    if (!settle(source))
        first_of(source, source->current + 1);
}

static void move_prev(struct sdb_source *base)
{
    struct table_source *source = (struct table_source *)base;
    if (base->at > base->first) {
        sdb_source_stand(base, base->at - 1);
        return;
    }
    follow(source);
    sdb_block_iter_prev(&source->iter);
    if (!settle(source))
        last_of(source, source->current);
}

static void rest(struct sdb_source *base)
{
    struct table_source *source = (struct table_source *)base;
    drop_block(source);
    drop_chunk(source);
    source->walked = 0;
    sdb_block_iter_rest(&source->iter);
}

static void destroy(struct sdb_source *base)
{
    struct table_source *source = (struct table_source *)base;
    rest(base);
    sdb_block_iter_fini(&source->iter);
    free(source);
}

static const struct sdb_source_ops table_source_ops = {
    .first = move_first,
    .last = move_last,
    .seek = move_seek,
    .seek_before = move_seek_before,
    .next = move_next,
    .prev = move_prev,
    .rest = rest,
    .destroy = destroy,
};

struct sdb_source *sdb_table_source(struct sdb_table *table, bool fill_cache, size_t readahead)
{
    struct table_source *source = calloc(1, sizeof *source);
    if (source == NULL)
        return NULL;
    source->base.ops = &table_source_ops;
    source->table = table;
    source->fill_cache = fill_cache;
    source->readahead = fill_cache ? 0 : readahead;
    source->current = NO_BLOCK;
    sdb_block_iter_init(&source->iter);
    return &source->base;
}

void sdb_table_source_move(struct sdb_source *base, struct sdb_table *table, bool goes_on)
{
    struct table_source *source = (struct table_source *)base;
    drop_block(source);
    source->chunk_size = 0;
    source->table = table;
    source->has_moved = goes_on;
    stop(source, STORM_OK);
}
