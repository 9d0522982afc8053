/*
 * The table reader: open, lookups, and the one way a block comes from the disk into memory.
 *
 *   pread of exactly the stored block -> crc (else once more) -> decode -> sdb_block -> cache
 *
 * In a table that is mapped this is a block's first way, past the cache; from then on it is read
 * where it lies. The first block wanted of each 128 KiB has the kernel read all of them, once: a
 * cold store gets warm in as many reads as it has such windows, and one that is larger than memory
 * pays for it once, not with every read.
 *
 * Nothing is believed before its checksum is: sizes come from the index, which was verified at open
 * against the footer, and no memory is taken for a decoded size before the block that claims it
 * verified. A raw block is read into the sdb_block itself; a compressed one through a buffer on the
 * stack, unless it is larger than that.
 *
 * The parts must tile the file: data blocks from 0, then filter, index, properties, footer. So
 * there is no byte that no checksum covers, and a flip anywhere is noticed.
 *
 * Open reads four things: footer, properties, index, filter. Nothing of a table changes after that,
 * so lookups take no lock but the cache's.
 */
#include "lsm/table/reader.h"

#include <inttypes.h>
#include <stdlib.h>

#include "lsm/table/codec.h"
#include "lsm/table/format.h"
#include "lsm/table/props.h"
#include "util/coding.h"
#include "util/crc32c.h"
#include "os/large.h"

/* Stored blocks up to this are read on the stack: four blocks of the default size. */
enum { SCRATCH_BYTES = 16 << 10 };

static storm_status no_memory(const struct sdb_table *table)
{
    return sdb_fail(table->os->errors, STORM_NO_MEMORY, "%s: no memory to read the table",
                    table->path);
}

storm_status sdb_table_fail(const struct sdb_table *table, uint64_t offset, storm_status status)
{
    if (status == STORM_NO_MEMORY)
        return no_memory(table);
    return sdb_fail(table->os->errors, status,
                    "%s: block at %" PRIu64 ": the checksum is right but the contents are not",
                    table->path, offset);
}

/* ---- Blocks ---------------------------------------------------------------------------------- */

bool sdb_table_verifies(const struct sdb_table *table, struct sdb_handle handle,
                        const uint8_t *stored)
{
    uint32_t crc = sdb_crc32c(0, stored, (size_t)handle.size + 1);
    uint32_t kept = sdb_get_u32(stored + handle.size + 1);
    return (crc ^ sdb_block_mask(table->number, handle.offset)) == kept;
}

static storm_status read_verified(const struct sdb_table *table, struct sdb_handle handle,
                                  uint8_t *to)
{
    size_t size = (size_t)handle.size + SDB_TRAILER_SIZE;
    for (int attempt = 0; attempt < 2; attempt++) {
        size_t got;
        storm_status status = sdb_pread(table->file, handle.offset, to, size, &got);
        if (status != STORM_OK)
            return status;
        if (got == size && sdb_table_verifies(table, handle, to))
            return STORM_OK;
    }
    return sdb_fail(table->os->errors, STORM_CORRUPT,
                    "%s: block at %" PRIu64 ": checksum mismatch, also when read again",
                    table->path, handle.offset);
}

static struct sdb_block *new_block(const struct sdb_table *table, size_t size)
{
    return sdb_block_create(sdb_cache_account(table->cache), size);
}

storm_status sdb_table_decode(const struct sdb_table *table, struct sdb_handle handle,
                              const uint8_t *stored, struct sdb_block **block)
{
    struct sdb_cursor cursor = sdb_cursor(storm_bytes(stored, handle.size));
    unsigned codec = stored[handle.size];
    uint64_t size = 0;
    *block = NULL;
    if (sdb_codec_name(codec) == NULL)
        return sdb_fail(table->os->errors, STORM_UNSUPPORTED,
                        "%s: block at %" PRIu64 ": codec %u is not in this build", table->path,
                        handle.offset, codec);
    bool good = sdb_read_varint(&cursor, &size) && size <= SDB_TABLE_BLOCK_MAX;
    struct storm_slice in = storm_bytes(cursor.at, sdb_cursor_left(&cursor));
    if (!good || in.size == 0 || !sdb_codec_plausible(codec, in, (size_t)size))
        return sdb_table_fail(table, handle.offset, STORM_CORRUPT);
    struct sdb_block *decoded = new_block(table, (size_t)size);
    if (decoded == NULL)
        return no_memory(table);
    storm_status status = sdb_codec_decode(codec, in, decoded->data, (size_t)size);
    if (status != STORM_OK) {
        sdb_block_unref(decoded);
        return sdb_table_fail(table, handle.offset, status);
    }
    *block = decoded;
    return STORM_OK;
}

/* Small and probably compressed: through the stack. */
static storm_status load_small(const struct sdb_table *table, struct sdb_handle handle,
                               struct sdb_block **block)
{
    uint8_t scratch[SCRATCH_BYTES];
    storm_status status = read_verified(table, handle, scratch);
    if (status != STORM_OK)
        return status;
    if (scratch[handle.size] != STORM_CODEC_NONE)
        return sdb_table_decode(table, handle, scratch, block);
    *block = new_block(table, handle.size);
    if (*block == NULL)
        return no_memory(table);
    memcpy((*block)->data, scratch, handle.size);
    return STORM_OK;
}

storm_status sdb_table_load(const struct sdb_table *table, struct sdb_handle handle,
                            struct sdb_block **block)
{
    size_t stored = (size_t)handle.size + SDB_TRAILER_SIZE;
    *block = NULL;
    if (table->props.codec != STORM_CODEC_NONE && stored <= SCRATCH_BYTES)
        return load_small(table, handle, block);
    struct sdb_block *raw = new_block(table, stored);
    if (raw == NULL)
        return no_memory(table);
    storm_status status = read_verified(table, handle, raw->data);
    if (status == STORM_OK && raw->data[handle.size] == STORM_CODEC_NONE) {
        raw->size = handle.size;
        *block = raw;
        return STORM_OK;
    }
    if (status == STORM_OK)
        status = sdb_table_decode(table, handle, raw->data, block);
    sdb_block_unref(raw);
    return status;
}

/* The first time that anything of a window is wanted, have the kernel read all of it. */
static void start_around(const struct sdb_table *table, uint64_t offset)
{
    uint64_t window = offset / SDB_READ_WINDOW;
    uint64_t bit = UINT64_C(1) << window % 64;
    _Atomic uint64_t *word = &table->windows[window / 64];
    if ((atomic_load_explicit(word, memory_order_relaxed) & bit) == 0 &&
        (atomic_fetch_or_explicit(word, bit, memory_order_relaxed) & bit) == 0)
        sdb_start_read(table->file, window * SDB_READ_WINDOW, SDB_READ_WINDOW);
}

/* Read a block for the first time, or for the first time since the cache has dropped it. */
static storm_status block_from_file(const struct sdb_table *table, uint32_t index, bool fill_cache,
                                    struct sdb_block **block)
{
    struct sdb_handle handle = sdb_table_handle(table, index);
    start_around(table, handle.offset);
    storm_status status = sdb_table_load(table, handle, block);
    if (status != STORM_OK)
        return status;
    const struct sdb_mapping *mapping = table->mapping;
    if (mapping != NULL && mapping->data[handle.offset + handle.size] == STORM_CODEC_NONE)
        sdb_mapping_add(table->mapping, index); /* from now on it is not looked for in the cache */
    else if (fill_cache)
        sdb_cache_put(table->cache, table->cache_id, handle.offset, *block);
    return STORM_OK;
}

storm_status sdb_table_block(const struct sdb_table *table, uint32_t index, bool fill_cache,
                             struct storm_slice *contents, struct sdb_block **pin)
{
    struct sdb_handle handle = sdb_table_handle(table, index);
    if (table->mapping != NULL && sdb_mapping_has(table->mapping, index)) {
        /* Its end is what is looked at first. */
        __builtin_prefetch(table->mapping->data + handle.offset + handle.size - 1);
        *contents = storm_bytes(table->mapping->data + handle.offset, handle.size);
        *pin = sdb_mapping_pin(table->mapping);
        return STORM_OK;
    }
    *pin = NULL;
    if (table->mapping == NULL)
        *pin = sdb_cache_get(table->cache, table->cache_id, handle.offset);
    storm_status status = STORM_OK;
    if (*pin == NULL)
        status = block_from_file(table, index, fill_cache, pin);
    if (status == STORM_OK)
        *contents = storm_bytes((*pin)->data, (*pin)->size);
    return status;
}

storm_status sdb_table_parse(const struct sdb_table *table, uint64_t offset,
                             struct storm_slice contents, struct sdb_block_view *view)
{
    storm_status status = sdb_block_parse(contents, view);
    if (status == STORM_NEWER_FORMAT)
        return sdb_fail(table->os->errors, status,
                        "%s: block at %" PRIu64 ": written by a newer release", table->path,
                        offset);
    return status == STORM_OK ? STORM_OK : sdb_table_fail(table, offset, status);
}

/* ---- Opening --------------------------------------------------------------------------------- */

struct footer {
    struct sdb_handle filter, index, props;
};

static struct sdb_handle get_handle(const uint8_t *from)
{
    return (struct sdb_handle){sdb_get_u64(from), sdb_get_u32(from + 8)};
}

static storm_status corrupt(const struct sdb_table *table, const char *what)
{
    return sdb_fail(table->os->errors, STORM_CORRUPT, "%s: %s", table->path, what);
}

static bool footer_verifies(const uint8_t *bytes)
{
    return memcmp(bytes + SDB_FOOTER_MAGIC, SDB_TABLE_MAGIC, SDB_FOOTER_MAGIC_SIZE) == 0 &&
           sdb_crc32c(0, bytes, SDB_FOOTER_CRC) == sdb_get_u32(bytes + SDB_FOOTER_CRC);
}

static storm_status read_footer(struct sdb_table *table, uint8_t bytes[SDB_FOOTER_SIZE])
{
    if (table->size < SDB_FOOTER_SIZE)
        return corrupt(table, "too short for a table");
    for (int attempt = 0; attempt < 2; attempt++) {
        size_t got;
        storm_status status =
            sdb_pread(table->file, table->size - SDB_FOOTER_SIZE, bytes, SDB_FOOTER_SIZE, &got);
        if (status != STORM_OK)
            return status;
        if (got == SDB_FOOTER_SIZE && footer_verifies(bytes))
            return STORM_OK;
    }
    return corrupt(table, "no footer of a table at its end: cut short, damaged or another file");
}

static bool is_before(struct sdb_handle handle, uint64_t end)
{
    return handle.size <= SDB_TABLE_BLOCK_MAX && handle.offset <= end &&
           end - handle.offset == (uint64_t)handle.size + SDB_TRAILER_SIZE;
}

static storm_status parse_footer(struct sdb_table *table, const uint8_t *bytes,
                                 struct footer *footer)
{
    uint32_t version = sdb_get_u32(bytes + SDB_FOOTER_VERSION);
    uint32_t flags = sdb_get_u32(bytes + SDB_FOOTER_FLAGS);
    if (version > SDB_TABLE_VERSION || flags != 0)
        return sdb_fail(table->os->errors, STORM_NEWER_FORMAT,
                        "%s: table format %" PRIu32 " (flags %" PRIu32
                        ") was written by a newer release; this one reads format %d",
                        table->path, version, flags, SDB_TABLE_VERSION);
    uint64_t number = sdb_get_u64(bytes + SDB_FOOTER_NUMBER);
    if (number != table->number)
        return sdb_fail(table->os->errors, STORM_CORRUPT,
                        "%s: this is table %" PRIu64 ", not table %" PRIu64, table->path, number,
                        table->number);
    footer->filter = get_handle(bytes + SDB_FOOTER_FILTER);
    footer->index = get_handle(bytes + SDB_FOOTER_INDEX);
    footer->props = get_handle(bytes + SDB_FOOTER_PROPS);
    bool tiles = version == SDB_TABLE_VERSION &&
                 is_before(footer->props, table->size - SDB_FOOTER_SIZE) &&
                 is_before(footer->index, footer->props.offset);
    if (tiles && footer->filter.size != 0)
        tiles = is_before(footer->filter, footer->index.offset);
    return tiles ? STORM_OK : corrupt(table, "the footer's parts do not make a file");
}

static storm_status read_index(struct sdb_table *table, const struct footer *footer)
{
    struct sdb_block *block;
    storm_status status = sdb_table_load(table, footer->index, &block);
    if (status != STORM_OK)
        return status;
    status = sdb_index_parse(storm_bytes(block->data, block->size), &table->index);
    sdb_block_unref(block);
    if (status != STORM_OK)
        return sdb_table_fail(table, footer->index.offset, status);
    uint64_t end = footer->filter.size != 0 ? footer->filter.offset : footer->index.offset;
    bool tiles = sdb_index_data_end(&table->index) == end && table->props.data_bytes == end &&
                 table->props.data_blocks == table->index.count;
    return tiles ? STORM_OK : corrupt(table, "index, properties and file size do not agree");
}

static storm_status read_props(struct sdb_table *table, const struct footer *footer)
{
    struct sdb_block *block;
    storm_status status = sdb_table_load(table, footer->props, &block);
    if (status != STORM_OK)
        return status;
    status = sdb_props_parse(storm_bytes(block->data, block->size), &table->props);
    sdb_block_unref(block);
    return status == STORM_OK ? STORM_OK : sdb_table_fail(table, footer->props.offset, status);
}

static storm_status read_filter(struct sdb_table *table, const struct footer *footer)
{
    struct sdb_block *block;
    if (footer->filter.size == 0)
        return STORM_OK;
    storm_status status = sdb_table_load(table, footer->filter, &block);
    if (status != STORM_OK)
        return status;
    /* One more: an empty filter has an address too. */
    table->filter_room = (size_t)block->size + 1;
    table->filter_memory = sdb_large_alloc(table->filter_room);
    if (table->filter_memory == NULL) {
        status = no_memory(table);
    } else {
        memcpy(table->filter_memory, block->data, block->size);
        status = sdb_filter_parse(storm_bytes(table->filter_memory, block->size), &table->filter);
        if (status != STORM_OK)
            status = sdb_table_fail(table, footer->filter.offset, status);
    }
    sdb_block_unref(block);
    return status;
}

static storm_status open_file(struct sdb_table *table, uint64_t size)
{
    storm_status status = sdb_open(table->os, table->path, SDB_OPEN_READ, &table->file);
    if (status == STORM_NOT_FOUND)
        return sdb_fail(table->os->errors, status, "%s: the table is missing", table->path);
    if (status == STORM_OK)
        status = sdb_size(table->file, &table->size);
    if (status == STORM_OK && size != 0 && size != table->size)
        status = sdb_fail(table->os->errors, STORM_CORRUPT,
                          "%s: the table has %" PRIu64 " bytes and should have %" PRIu64,
                          table->path, table->size, size);
    return status;
}

static storm_status create_windows(struct sdb_table *table)
{
    table->windows =
        calloc((size_t)(table->size / SDB_READ_WINDOW / 64) + 1, sizeof *table->windows);
    return table->windows != NULL ? STORM_OK : no_memory(table);
}

storm_status sdb_table_open(struct sdb_os *os, const char *path, uint64_t number, uint64_t size,
                            struct sdb_cache *cache, struct sdb_table **out)
{
    uint8_t bytes[SDB_FOOTER_SIZE];
    struct footer footer;
    *out = NULL;
    struct sdb_table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return sdb_fail(os->errors, STORM_NO_MEMORY, "%s: no memory to open the table", path);
    table->os = os;
    table->number = number;
    table->cache = cache;
    table->cache_id = sdb_cache_new_id(cache);
    table->path = strdup(path);
    storm_status status = table->path != NULL ? open_file(table, size)
                                              : sdb_fail(os->errors, STORM_NO_MEMORY,
                                                         "%s: no memory to open the table", path);
    if (status == STORM_OK)
        status = read_footer(table, bytes);
    if (status == STORM_OK)
        status = parse_footer(table, bytes, &footer);
    if (status == STORM_OK)
        status = read_props(table, &footer);
    if (status == STORM_OK)
        status = read_index(table, &footer);
    if (status == STORM_OK)
        status = read_filter(table, &footer);
    if (status == STORM_OK)
        status = create_windows(table);
    if (status != STORM_OK) {
        sdb_table_close(table);
        return status;
    }
    table->memory = sdb_heap_bytes(table) + sdb_heap_bytes(table->path) +
                    sdb_heap_bytes(table->file) + sdb_heap_bytes(table->windows) +
                    sdb_large_bytes(table->index.prefixes, table->index.memory) +
                    sdb_large_bytes(table->filter_memory, table->filter_room);
    sdb_account_add(sdb_cache_account(cache), SDB_FOR_TABLES, table->memory);
    *out = table;
    return STORM_OK;
}

void sdb_table_map(struct sdb_table *table)
{
    /* The mapped part of a file counts in a process's resident size, beside the cache: compressed
     * blocks are needed decoded anyway. */
    if (table->props.codec != STORM_CODEC_NONE)
        return;
    table->mapping = sdb_mapping_create(table->file, table->size, table->index.count);
    size_t memory = sdb_mapping_memory(table->mapping);
    table->memory += memory;
    sdb_account_add(sdb_cache_account(table->cache), SDB_FOR_TABLES, memory);
}

void sdb_table_close(struct sdb_table *table)
{
    if (table == NULL)
        return;
    sdb_cache_erase(table->cache, table->cache_id);
    sdb_account_sub(sdb_cache_account(table->cache), SDB_FOR_TABLES, table->memory);
    if (table->mapping != NULL)
        sdb_mapping_release(table->mapping);
    else
        sdb_close(table->file);
    sdb_index_fini(&table->index);
    sdb_large_free(table->filter_memory, table->filter_room);
    free(table->windows);
    free(table->path);
    free(table);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

const struct sdb_table_props *sdb_table_props(const struct sdb_table *table)
{
    return &table->props;
}

size_t sdb_table_memory(const struct sdb_table *table)
{
    return table->memory;
}

bool sdb_table_has_filter(const struct sdb_table *table)
{
    return table->filter.line_count != 0;
}

bool sdb_table_may_contain(const struct sdb_table *table, uint64_t hash)
{
    return sdb_filter_may_contain(&table->filter, hash);
}

struct sdb_filter sdb_table_filter(const struct sdb_table *table)
{
    return table->filter;
}

bool sdb_table_find(const struct sdb_table *table, struct storm_slice key, uint64_t revision,
                    uint32_t *number)
{
    *number = sdb_index_find(&table->index, key, sdb_tag(revision, SDB_KIND_SEEK));
    return *number != table->index.count;
}

storm_status sdb_table_read(struct sdb_table *table, uint32_t number, struct storm_slice *contents,
                            struct sdb_block **pin)
{
    *contents = (struct storm_slice){NULL, 0};
    return sdb_table_block(table, number, true, contents, pin);
}

storm_status sdb_table_get_in(struct sdb_table *table, uint32_t number, struct storm_slice contents,
                              struct storm_slice key, uint64_t revision, uint64_t *tag,
                              struct storm_slice *value)
{
    struct sdb_block_view view;
    uint64_t offset = table->index.slots[number].offset;
    storm_status status = sdb_table_parse(table, offset, contents, &view);
    if (status != STORM_OK)
        return status;
    status = sdb_block_get(&view, key, sdb_tag(revision, SDB_KIND_SEEK), tag, value);
    if (status != STORM_OK && status != STORM_NOT_FOUND)
        sdb_table_fail(table, offset, status);
    return status;
}

storm_status sdb_table_get(struct sdb_table *table, struct storm_slice key, uint64_t revision,
                           uint64_t *tag, struct storm_slice *value, struct sdb_block **pin)
{
    uint32_t number;
    struct storm_slice contents;
    *pin = NULL;
    *tag = 0;
    *value = (struct storm_slice){NULL, 0};
    if (!sdb_table_find(table, key, revision, &number))
        return STORM_NOT_FOUND;
    storm_status status = sdb_table_read(table, number, &contents, pin);
    if (status != STORM_OK)
        return status;
    status = sdb_table_get_in(table, number, contents, key, revision, tag, value);
    if (status != STORM_OK) {
        sdb_block_unref(*pin);
        *pin = NULL;
    }
    return status;
}
