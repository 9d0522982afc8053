/*
 * Tables made of any bytes. Checksums would keep a fuzzer out, so one is put right here:
 *
 *   | 0 | a file as it is, but for the footer's crc |
 *   | 1 | u16 index size | index | u16 props size | props | u16 filter size | filter | data |
 *
 * The second form becomes a file whose parts tile it and verify: the index says how large the blocks
 * are, data gives their contents (each preceded by its codec byte) until it is used up, zeroes after
 * that; the true counts of blocks follow the properties. Then everything a reader does is done.
 */
#include <stdlib.h>

#include "lsm/table/format.h"
#include "lsm/table/index.h"
#include "lsm/table/props.h"
#include "lsm/table/reader.h"
#include "table_kit.h"
#include "util/coding.h"
#include "util/crc32c.h"

enum { MOST_FILE = 1 << 18, MOST_STEPS = 20000 };

static void walk(struct sdb_table *table, bool fill_cache, size_t readahead, bool backward)
{
    struct sdb_source *source = sdb_table_source(table, fill_cache, readahead);
    unsigned steps = 0;
    if (source == NULL)
        return;
    if (backward)
        source->ops->last(source);
    else
        source->ops->first(source);
    while (source->valid && steps++ < MOST_STEPS) {
        if (backward)
            source->ops->prev(source);
        else
            source->ops->next(source);
    }
    source->ops->seek(source, storm_text("m"), sdb_tag(7, SDB_KIND_SEEK));
    source->ops->seek_before(source, storm_text("golden/1"), 0);
    sdb_source_destroy(source);
}

static void read_all(struct kit *kit)
{
    struct sdb_table *table;
    struct storm_slice value;
    struct sdb_block *block;
    uint64_t tag;
    if (sdb_table_open(&kit->os, KIT_PATH, KIT_NUMBER, 0, kit->cache, &table) != STORM_OK)
        return;
    (void)sdb_table_verify(table);
    (void)sdb_table_get(table, storm_text("golden/014"), SDB_MAX_REVISION, &tag, &value, &block);
    sdb_block_unref(block);
    (void)sdb_table_get(table, storm_text("a"), 5, &tag, &value, &block);
    sdb_block_unref(block);
    (void)sdb_table_may_contain(table, sdb_key_hash(storm_text("a")));
    walk(table, true, 0, false);
    walk(table, true, 0, true);
    walk(table, false, 3000, false);
    walk(table, false, 3000, true);
    sdb_table_close(table);
}

static void add_stored(struct sdb_buffer *file, struct storm_slice contents, size_t size,
                       uint8_t codec)
{
    uint64_t offset = file->size;
    uint8_t *to = sdb_buffer_reserve(file, size + SDB_TRAILER_SIZE);
    if (to == NULL)
        return;
    memset(to, 0, size + SDB_TRAILER_SIZE);
    if (contents.size != 0)
        memcpy(to, contents.data, contents.size < size ? contents.size : size);
    to[size] = codec;
    uint32_t crc = sdb_crc32c(0, to, size + 1);
    sdb_put_u32(to + size + 1, crc ^ sdb_block_mask(KIT_NUMBER, offset));
    file->size += size + SDB_TRAILER_SIZE;
}

static void add_data(struct sdb_buffer *file, const struct sdb_index *index,
                     struct sdb_cursor *cursor)
{
    for (uint32_t i = 0; i < index->count; i++) {
        size_t size = index->slots[i].size;
        uint8_t codec = 0;
        struct storm_slice contents = {NULL, 0};
        if (sdb_cursor_left(cursor) != 0)
            codec = *cursor->at++;
        size_t left = sdb_cursor_left(cursor);
        (void)sdb_read_bytes(cursor, left < size ? left : size, &contents);
        add_stored(file, contents, size, codec);
    }
}

static bool read_part(struct sdb_cursor *cursor, struct storm_slice *part)
{
    struct storm_slice size;
    *part = (struct storm_slice){NULL, 0};
    return sdb_read_bytes(cursor, 2, &size) &&
           sdb_read_bytes(cursor, (uint64_t)size.data[0] | (uint64_t)size.data[1] << 8, part);
}

static void put_part(uint8_t *footer, size_t at, uint64_t offset, size_t size)
{
    sdb_put_u64(footer + at, offset);
    sdb_put_u32(footer + at + 8, (uint32_t)size);
}

static bool assemble(struct storm_slice input, struct sdb_buffer *file)
{
    struct sdb_cursor cursor = sdb_cursor(input);
    struct storm_slice index_bytes;
    struct storm_slice props_bytes;
    struct storm_slice filter_bytes;
    struct sdb_index index;
    struct sdb_buffer props;
    uint8_t footer[SDB_FOOTER_SIZE] = {0};
    if (!read_part(&cursor, &index_bytes) || !read_part(&cursor, &props_bytes) ||
        !read_part(&cursor, &filter_bytes) || sdb_index_parse(index_bytes, &index) != STORM_OK)
        return false;
    uint64_t end = sdb_index_data_end(&index);
    uint32_t blocks = index.count;
    if (end < MOST_FILE)
        add_data(file, &index, &cursor);
    sdb_index_fini(&index);
    if (end >= MOST_FILE)
        return false;
    if (filter_bytes.size != 0) {
        put_part(footer, SDB_FOOTER_FILTER, file->size, filter_bytes.size);
        add_stored(file, filter_bytes, filter_bytes.size, 0);
    }
    put_part(footer, SDB_FOOTER_INDEX, file->size, index_bytes.size);
    add_stored(file, index_bytes, index_bytes.size, 0);
    sdb_buffer_init(&props, 1 << 20);
    sdb_buffer_add(&props, props_bytes.data, props_bytes.size);
    struct sdb_table_props truth = {.data_bytes = end, .data_blocks = blocks};
    sdb_props_encode(&truth, &props);
    put_part(footer, SDB_FOOTER_PROPS, file->size, props.size);
    add_stored(file, sdb_buffer_slice(&props), props.size, 0);
    sdb_buffer_fini(&props);
    sdb_put_u64(footer + SDB_FOOTER_NUMBER, KIT_NUMBER);
    sdb_put_u32(footer + SDB_FOOTER_VERSION, SDB_TABLE_VERSION);
    memcpy(footer + SDB_FOOTER_MAGIC, SDB_TABLE_MAGIC, SDB_FOOTER_MAGIC_SIZE);
    sdb_buffer_add(file, footer, sizeof footer);
    return file->status == STORM_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kit kit;
    struct sdb_buffer file;
    if (size < 2)
        return 0;
    sdb_buffer_init(&file, MOST_FILE * 2);
    struct storm_slice input = storm_bytes(data + 1, size - 1);
    bool is_made =
        data[0] % 2 == 1 ? assemble(input, &file) : sdb_buffer_add(&file, input.data, input.size);
    if (is_made && file.size >= SDB_FOOTER_SIZE) {
        uint8_t *footer = file.data + file.size - SDB_FOOTER_SIZE;
        sdb_put_u32(footer + SDB_FOOTER_CRC, sdb_crc32c(0, footer, SDB_FOOTER_CRC));
    }
    if (is_made) {
        kit_init(&kit, 1 << 16);
        if (sim_write_file(kit.disk, KIT_PATH, file.data, file.size) == STORM_OK)
            read_all(&kit);
        kit_fini(&kit);
    }
    sdb_buffer_fini(&file);
    return 0;
}
