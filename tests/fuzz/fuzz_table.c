/*
 * Tables made of any bytes. Checksums would keep a fuzzer out, so they are put right here:
 *
 *   | 0 | a file as it is, but for the footer's crc |
 *   | 1 | parts, out of which kit_assemble() makes a file that verifies |
 *
 * Then everything a reader does is done, and what repair does: whatever it finds is in order.
 */
#include <stdlib.h>

#include "lsm/table/format.h"
#include "table_kit.h"
#include "util/coding.h"
#include "util/crc32c.h"

enum { MOST_STEPS = 20000 };

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

struct found {
    struct sdb_buffer key;
    uint64_t tag;
};

static storm_status follow(void *ctx, struct storm_slice key, uint64_t tag,
                           struct storm_slice value)
{
    struct found *last = ctx;
    (void)value;
    if (last->key.size != 0 &&
        sdb_entry_compare(sdb_buffer_slice(&last->key), last->tag, key, tag) >= 0)
        abort();
    sdb_buffer_clear(&last->key);
    last->tag = tag;
    return sdb_buffer_add(&last->key, key.data, key.size) ? STORM_OK : last->key.status;
}

static void pass_by(void *ctx, storm_status status)
{
    (void)ctx;
    (void)status;
}

static void salvage_all(struct kit *kit)
{
    struct found last = {.tag = 0};
    struct sdb_salvage salvage = {.each = follow, .problem = pass_by, .ctx = &last};
    sdb_buffer_init(&last.key, 1 << 16);
    (void)sdb_table_salvage(&kit->os, KIT_PATH, KIT_NUMBER, &salvage);
    sdb_buffer_fini(&last.key);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kit kit;
    struct sdb_buffer file;
    if (size < 2)
        return 0;
    sdb_buffer_init(&file, KIT_ASSEMBLE_MAX);
    struct storm_slice input = storm_bytes(data + 1, size - 1);
    bool is_made = data[0] % 2 == 1 ? kit_assemble(input, &file)
                                    : sdb_buffer_add(&file, input.data, input.size);
    if (is_made && file.size >= SDB_FOOTER_SIZE) {
        uint8_t *footer = file.data + file.size - SDB_FOOTER_SIZE;
        sdb_put_u32(footer + SDB_FOOTER_CRC, sdb_crc32c(0, footer, SDB_FOOTER_CRC));
    }
    if (is_made) {
        kit_init(&kit, 1 << 16);
        if (sim_write_file(kit.disk, KIT_PATH, file.data, file.size) == STORM_OK) {
            if (data[0] / 2 % 8 == 1) /* looking for blocks takes its time */
                salvage_all(&kit);
            read_all(&kit);
        }
        kit_fini(&kit);
    }
    sdb_buffer_fini(&file);
    return 0;
}
