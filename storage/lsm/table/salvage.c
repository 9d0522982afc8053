/*
 * What a damaged table still holds.
 *
 * With its index: footer, index, filter and properties are whole, so every block's place is known,
 * and those that do not verify are passed by.
 *
 * Without: blocks stand back to back from 0, and each ends in a codec and a checksum that covers
 * where it begins. So from a known beginning its end is where the running checksum is the one that
 * stands there, and what was found must also be a data block in itself, in order behind the one
 * before. (A match by chance: one place in 2^32, and then it would have to make sense.) Behind a
 * damaged block the next beginning is not known, and each byte may be one: that search is bounded
 * to blocks of SEARCH_BLOCK_BYTES stored and to SEARCH_STEPS checksum steps a table. What is not
 * found within them is lost.
 *
 * Where the data ends: the footer says it, or the properties, which end where the footer begins, or
 * neither: then the filter, the index and the properties are passed by as blocks that hold no data.
 *
 * The file is read into memory whole, in pieces, so that a bad sector costs the blocks on it only.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "lsm/table/codec.h"
#include "lsm/table/format.h"
#include "lsm/table/props.h"
#include "lsm/table/reader.h"
#include "util/coding.h"
#include "util/crc32c.h"

enum { PIECE_BYTES = 64 << 10, SEARCH_BLOCK_BYTES = 66 << 10, PROPS_BYTES_MAX = 4 << 10 };
#define SEARCH_STEPS (UINT64_C(1) << 28)

struct walk {
    struct sdb_salvage *salvage;
    struct sdb_table *table;
    struct sdb_block_iter iter;
    struct sdb_buffer last_key; /* of what was handed out; empty before the first */
    uint64_t last_tag;
    storm_status status; /* what ends the walk */

    /* Without an index. */
    const uint8_t *data;
    uint64_t size;
    uint64_t data_end;
    bool is_end_known;
    uint64_t steps_left;
};

/* Statuses that a block's damage can have; others end the walk. */
static bool is_damage(storm_status status)
{
    return status == STORM_CORRUPT || status == STORM_IO;
}

/* ---- One block's contents ---- */

/* Whether the entries can stand behind those handed out before. */
static storm_status check_entries(struct walk *walk, const struct sdb_block_view *view)
{
    struct sdb_block_iter *iter = &walk->iter;
    storm_status status = view->restarts == 0 ? STORM_CORRUPT : sdb_block_check(view);
    if (status != STORM_OK)
        return status;
    sdb_block_iter_set(iter, view);
    sdb_block_iter_first(iter);
    struct storm_slice last = sdb_buffer_slice(&walk->last_key);
    if (iter->valid && last.size != 0 &&
        sdb_entry_compare(last, walk->last_tag, iter->key, iter->tag) >= 0)
        return STORM_CORRUPT;
    while (iter->valid) {
        if (iter->key.size == 0 || sdb_tag_revision(iter->tag) == 0 ||
            sdb_tag_revision(iter->tag) > SDB_MAX_REVISION ||
            sdb_tag_kind(iter->tag) > SDB_KIND_PUT)
            return STORM_CORRUPT;
        sdb_block_iter_next(iter);
    }
    return iter->status;
}

static storm_status hand_out(struct walk *walk)
{
    struct sdb_block_iter *iter = &walk->iter;
    storm_status status = STORM_OK;
    sdb_block_iter_first(iter);
    while (iter->valid && status == STORM_OK) {
        status = walk->salvage->each(walk->salvage->ctx, iter->key, iter->tag, iter->value);
        walk->salvage->entries++;
        walk->last_tag = iter->tag;
        sdb_buffer_clear(&walk->last_key);
        if (status == STORM_OK && !sdb_buffer_add(&walk->last_key, iter->key.data, iter->key.size))
            status = STORM_NO_MEMORY;
        if (status == STORM_OK)
            sdb_block_iter_next(iter);
    }
    walk->salvage->blocks++;
    return status == STORM_OK ? iter->status : status;
}

/* Hand out the entries of these contents if they are those of a block that may come next. */
static storm_status take_contents(struct walk *walk, struct storm_slice contents)
{
    struct sdb_block_view view;
    storm_status status = sdb_block_parse(contents, &view);
    if (status == STORM_OK)
        status = check_entries(walk, &view);
    if (status != STORM_OK)
        return status;
    walk->status = hand_out(walk);
    return walk->status;
}

static void tell(struct walk *walk, uint64_t from, uint64_t to, const char *what)
{
    (void)sdb_fail(walk->table->os->errors, STORM_CORRUPT,
                   "%s: bytes %" PRIu64 " to %" PRIu64 ": %s", walk->table->path, from, to, what);
    walk->salvage->problem(walk->salvage->ctx, STORM_CORRUPT);
}

/* ---- With an index ---- */

static storm_status take_block(struct walk *walk, uint32_t i)
{
    struct sdb_block *block;
    struct sdb_handle handle = sdb_table_handle(walk->table, i);
    storm_status status = sdb_table_load(walk->table, handle, &block);
    bool is_recorded = status != STORM_OK;
    if (status == STORM_OK)
        status = take_contents(walk, storm_bytes(block->data, block->size));
    sdb_block_unref(block);
    if (status == STORM_NEWER_FORMAT)
        return sdb_fail(walk->table->os->errors, status,
                        "%s: block at %" PRIu64 ": written by a newer release", walk->table->path,
                        handle.offset);
    if (!is_damage(status) || walk->status != STORM_OK)
        return status;
    if (!is_recorded)
        (void)sdb_table_fail(walk->table, handle.offset, status);
    walk->salvage->problem(walk->salvage->ctx, status);
    return STORM_OK;
}

/* ---- Without ---- */

/* Where the contents that begin at `from` end, at `limit` at most; 0 = nowhere. */
static uint64_t find_end(struct walk *walk, uint64_t from, uint64_t limit)
{
    uint32_t mask = sdb_block_mask(walk->table->number, from);
    uint32_t crc = 0;
    for (uint64_t at = from; at + SDB_TRAILER_SIZE <= limit && walk->steps_left > 0; at++) {
        crc = sdb_crc32c(crc, walk->data + at, 1);
        walk->steps_left--;
        if ((crc ^ mask) == sdb_get_u32(walk->data + at + 1))
            return at;
    }
    return 0;
}

/* The block [from, end) with its trailer behind it. */
static storm_status take_found(struct walk *walk, uint64_t from, uint64_t end)
{
    struct sdb_handle handle = {from, (uint32_t)(end - from)};
    struct sdb_block *block;
    if (walk->data[end] == STORM_CODEC_NONE)
        return take_contents(walk, storm_bytes(walk->data + from, handle.size));
    storm_status status = sdb_table_decode(walk->table, handle, walk->data + from, &block);
    if (status == STORM_OK)
        status = take_contents(walk, storm_bytes(block->data, block->size));
    sdb_block_unref(block);
    return status;
}

/* Look behind `from` for the next block; where it ends, or the data's end. */
static uint64_t search(struct walk *walk, uint64_t from)
{
    for (uint64_t at = from + 1; at < walk->data_end && walk->steps_left > 0; at++) {
        uint64_t limit =
            walk->data_end - at > SEARCH_BLOCK_BYTES ? at + SEARCH_BLOCK_BYTES : walk->data_end;
        uint64_t end = find_end(walk, at, limit);
        if (end == 0)
            continue;
        storm_status status = take_found(walk, at, end);
        if (status == STORM_OK || walk->status != STORM_OK) {
            tell(walk, from, at, "no block that verifies");
            return end + SDB_TRAILER_SIZE;
        }
    }
    tell(walk, from, walk->data_end, "no block that verifies");
    return walk->data_end;
}

static void scan_blocks(struct walk *walk)
{
    uint64_t at = 0;
    while (at < walk->data_end && walk->status == STORM_OK) {
        walk->steps_left = UINT64_MAX;
        uint64_t end = find_end(walk, at, walk->data_end);
        walk->steps_left = SEARCH_STEPS;
        storm_status status = end == 0 ? STORM_CORRUPT : take_found(walk, at, end);
        if (walk->status != STORM_OK)
            return;
        /* A filter's last byte, taken for a block's flags, says nothing about releases. */
        bool is_newer = status == STORM_NEWER_FORMAT && walk->is_end_known;
        if (is_newer || status == STORM_UNSUPPORTED || status == STORM_NO_MEMORY)
            walk->status = status;
        else if (status == STORM_OK || (end != 0 && !walk->is_end_known))
            at = end + SDB_TRAILER_SIZE; /* data, or one of the parts behind it */
        else
            at = search(walk, at);
    }
}

/* The end of the data, from the footer or else from the properties before it. */
static void find_data_end(struct walk *walk)
{
    walk->data_end = walk->size;
    if (walk->size < SDB_FOOTER_SIZE)
        return;
    uint64_t footer_at = walk->size - SDB_FOOTER_SIZE;
    const uint8_t *footer = walk->data + footer_at;
    uint64_t end = 0;
    if (memcmp(footer + SDB_FOOTER_MAGIC, SDB_TABLE_MAGIC, SDB_FOOTER_MAGIC_SIZE) == 0 &&
        sdb_crc32c(0, footer, SDB_FOOTER_CRC) == sdb_get_u32(footer + SDB_FOOTER_CRC)) {
        bool has_filter = sdb_get_u32(footer + SDB_FOOTER_FILTER + 8) != 0;
        end = sdb_get_u64(footer + (has_filter ? SDB_FOOTER_FILTER : SDB_FOOTER_INDEX));
        walk->is_end_known = end <= footer_at;
    }
    for (uint64_t size = 1; !walk->is_end_known && size <= PROPS_BYTES_MAX; size++) {
        struct sdb_table_props props;
        if (size + SDB_TRAILER_SIZE > footer_at)
            break;
        struct sdb_handle handle = {footer_at - SDB_TRAILER_SIZE - size, (uint32_t)size};
        const uint8_t *stored = walk->data + handle.offset;
        if (sdb_table_verifies(walk->table, handle, stored) &&
            sdb_props_parse(storm_bytes(stored, size), &props) == STORM_OK) {
            end = props.data_bytes;
            walk->is_end_known = end <= handle.offset;
        }
    }
    if (walk->is_end_known)
        walk->data_end = end;
}

/* The whole file; pieces that cannot be read are zeroes, which no checksum takes for a block. */
static storm_status read_pieces(struct walk *walk, uint8_t *to)
{
    for (uint64_t at = 0; at < walk->size; at += PIECE_BYTES) {
        uint64_t left = walk->size - at;
        size_t size = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES;
        size_t got;
        storm_status status = sdb_pread(walk->table->file, at, to + at, size, &got);
        if (status != STORM_OK && !is_damage(status))
            return status;
        if (status != STORM_OK)
            memset(to + at, 0, size);
    }
    return STORM_OK;
}

static storm_status scan_file(struct walk *walk, struct sdb_os *os, const char *path,
                              uint64_t number, struct sdb_cache *cache)
{
    struct sdb_table table = {
        .os = os, .path = (char *)(uintptr_t)path, .number = number, .cache = cache};
    uint8_t *data = NULL;
    walk->table = &table;
    storm_status status = sdb_open(os, path, SDB_OPEN_READ, &table.file);
    if (status == STORM_OK)
        status = sdb_size(table.file, &walk->size);
    if (status == STORM_OK && walk->size != 0) {
        data = calloc(1, (size_t)walk->size);
        status = data == NULL ? STORM_NO_MEMORY : read_pieces(walk, data);
    }
    if (status == STORM_OK) {
        walk->data = data;
        find_data_end(walk);
        scan_blocks(walk);
        status = walk->status;
    }
    free(data);
    sdb_close(table.file);
    walk->table = NULL;
    return is_damage(status) && walk->status == STORM_OK ? STORM_OK : status;
}

storm_status sdb_table_salvage(struct sdb_os *os, const char *path, uint64_t number,
                               struct sdb_salvage *salvage)
{
    struct walk walk = {.salvage = salvage};
    struct sdb_cache *cache = sdb_cache_create(0, NULL);
    if (cache == NULL)
        return STORM_NO_MEMORY;
    sdb_buffer_init(&walk.last_key, SDB_TABLE_KEY_MAX);
    sdb_block_iter_init(&walk.iter);
    struct sdb_table *table;
    storm_status status = sdb_table_open(os, path, number, 0, cache, &table);
    salvage->has_index = status == STORM_OK;
    if (status == STORM_OK) {
        walk.table = table;
        for (uint32_t i = 0; i < table->index.count && status == STORM_OK; i++)
            status = take_block(&walk, i);
        sdb_table_close(table);
    } else if (is_damage(status)) {
        salvage->problem(salvage->ctx, status);
        status = scan_file(&walk, os, path, number, cache);
    }
    sdb_block_iter_fini(&walk.iter);
    sdb_buffer_fini(&walk.last_key);
    sdb_cache_destroy(cache);
    return status;
}
