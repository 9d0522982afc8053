/*
 * Helpers of table tests: see the header. They use assert only for what the tests take for granted.
 */
#include "table_kit.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "lsm/table/format.h"
#include "lsm/table/index.h"
#include "lsm/table/props.h"
#include "random.h"
#include "util/coding.h"
#include "util/crc32c.h"

void kit_init(struct kit *kit, size_t cache_bytes)
{
    sdb_errors_init(&kit->errors, NULL, NULL);
    kit->disk = sim_disk_create(1);
    sim_os_init(&kit->os, kit->disk, &kit->errors);
    kit->cache = sdb_cache_create(cache_bytes, NULL);
    assert(kit->disk != NULL && kit->cache != NULL);
}

void kit_fini(struct kit *kit)
{
    sdb_cache_destroy(kit->cache);
    sim_disk_destroy(kit->disk);
    sdb_errors_fini(&kit->errors);
}

/* ---- The model ------------------------------------------------------------------------------- */

static int by_order(const void *a, const void *b)
{
    const struct kit_entry *x = a;
    const struct kit_entry *y = b;
    return sdb_entry_compare(x->key, x->tag, y->key, y->tag);
}

static struct storm_slice random_key(uint64_t *state, size_t largest)
{
    size_t size = 1 + (size_t)random_below(state, largest);
    uint8_t *bytes = malloc(size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t) "user:\xff\0m"[i < 5 && size > 6 ? i : random_below(state, 8)];
    return storm_bytes(bytes, size);
}

static struct storm_slice random_value(uint64_t *state, size_t largest)
{
    size_t size = (size_t)random_below(state, largest + 1);
    uint8_t *bytes = malloc(size + 1);
    bool is_random = random_below(state, 2) == 0;
    for (size_t i = 0; i < size; i++)
        bytes[i] = is_random ? (uint8_t)random_u64(state) : (uint8_t)('a' + i % 7);
    return storm_bytes(bytes, size);
}

static void free_entry(struct kit_entry *entry)
{
    free((void *)(uintptr_t)entry->key.data);
    free((void *)(uintptr_t)entry->value.data);
}

void kit_model_random(struct kit_model *model, uint64_t *state, size_t count, size_t key_bytes,
                      size_t value_bytes, unsigned versions)
{
    model->entries = calloc(count + 1, sizeof *model->entries);
    assert(model->entries != NULL);
    struct storm_slice key = {NULL, 0};
    for (size_t i = 0, left = 0; i < count; i++, left--) {
        struct kit_entry *entry = &model->entries[i];
        if (left == 0) {
            left = 1 + (size_t)random_below(state, versions);
            entry->key = key = random_key(state, key_bytes);
        } else {
            uint8_t *copy = malloc(key.size);
            memcpy(copy, key.data, key.size);
            entry->key = storm_bytes(copy, key.size);
        }
        entry->tag = sdb_tag(1 + random_below(state, 1000000),
                             random_below(state, 8) == 0 ? SDB_KIND_DELETE : SDB_KIND_PUT);
        entry->value = random_value(state, value_bytes);
    }
    qsort(model->entries, count, sizeof *model->entries, by_order);
    model->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct kit_entry *entry = &model->entries[i];
        if (model->count > 0 && by_order(&model->entries[model->count - 1], entry) == 0)
            free_entry(entry);
        else
            model->entries[model->count++] = *entry;
    }
}

void kit_model_fini(struct kit_model *model)
{
    for (size_t i = 0; i < model->count; i++)
        free_entry(&model->entries[i]);
    free(model->entries);
}

size_t kit_model_find(const struct kit_model *model, struct storm_slice key, uint64_t tag)
{
    size_t low = 0;
    size_t high = model->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct kit_entry *entry = &model->entries[middle];
        if (sdb_entry_compare(entry->key, entry->tag, key, tag) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- Tables ---------------------------------------------------------------------------------- */

struct sdb_table_options kit_options(size_t block_bytes, enum storm_codec codec)
{
    return (struct sdb_table_options){
        .block_bytes = block_bytes, .bloom_bits = 10.5, .codec = codec, .codec_level = 0};
}

storm_status kit_build(struct kit *kit, struct sdb_os *os, const char *path, uint64_t number,
                       const struct kit_model *model, const struct sdb_table_options *options,
                       struct sdb_table_props *props)
{
    struct sdb_table_builder *builder;
    uint64_t bytes = 0;
    (void)sim_remove(kit->disk, path);
    storm_status status = sdb_table_builder_open(os, path, number, options, &builder);
    for (size_t i = 0; i < model->count && status == STORM_OK; i++) {
        const struct kit_entry *entry = &model->entries[i];
        status = sdb_table_builder_add(builder, entry->key, entry->tag, entry->value);
    }
    if (status == STORM_OK)
        status = sdb_table_builder_finish(builder, KIT_NOW_MS, props, &bytes);
    sdb_table_builder_close(builder);
    return status;
}

static bool same(struct storm_slice a, struct storm_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

bool kit_stands_at(const struct sdb_source *source, const struct kit_model *model, size_t at)
{
    if (source->status != STORM_OK || source->valid != (at < model->count))
        return false;
    if (!source->valid)
        return true;
    const struct kit_entry *entry = &model->entries[at];
    return same(source->key, entry->key) && source->tag == entry->tag &&
           same(source->value, entry->value);
}

/* ---- Examining ------------------------------------------------------------------------------- */

static void note(struct kit_verdict *verdict, storm_status status)
{
    if (verdict->first_error == STORM_OK)
        verdict->first_error = status;
}

static void examine_gets(struct sdb_table *table, const struct kit_model *model,
                         struct kit_verdict *verdict)
{
    for (size_t i = 0; i < model->count; i++) {
        const struct kit_entry *entry = &model->entries[i];
        uint64_t revision = sdb_tag_revision(entry->tag);
        struct storm_slice value;
        struct sdb_block *block;
        uint64_t tag;
        if (!sdb_table_may_contain(table, sdb_key_hash(entry->key)))
            verdict->is_wrong = true;
        storm_status status = sdb_table_get(table, entry->key, revision, &tag, &value, &block);
        /* A put and a delete may share a revision here; the put comes first. */
        size_t at = kit_model_find(model, entry->key, sdb_tag(revision, SDB_KIND_SEEK));
        const struct kit_entry *wanted = &model->entries[at];
        if (status == STORM_OK)
            verdict->is_wrong |= tag != wanted->tag || !same(value, wanted->value);
        else if (status == STORM_NOT_FOUND)
            verdict->is_wrong = true;
        else
            note(verdict, status);
        sdb_block_unref(block);
    }
}

/* Entries seen must be the model's up to an error. */
static void examine_walk(struct sdb_source *source, const struct kit_model *model, bool backward,
                         struct kit_verdict *verdict)
{
    size_t seen = 0;
    if (backward)
        source->ops->last(source);
    else
        source->ops->first(source);
    while (source->valid) {
        size_t at = backward ? model->count - 1 - seen : seen;
        if (!kit_stands_at(source, model, at))
            verdict->is_wrong = true;
        seen++;
        if (backward)
            source->ops->prev(source);
        else
            source->ops->next(source);
    }
    if (source->status != STORM_OK)
        note(verdict, source->status);
    else if (seen != model->count)
        verdict->is_wrong = true;
}

struct kit_verdict kit_examine(struct kit *kit, struct sdb_os *os, uint64_t size,
                               const struct kit_model *model)
{
    struct kit_verdict verdict = {STORM_OK, false};
    struct sdb_table *table;
    note(&verdict, sdb_table_open(os, KIT_PATH, KIT_NUMBER, size, kit->cache, &table));
    if (table == NULL)
        return verdict;
    note(&verdict, sdb_table_verify(table));
    examine_gets(table, model, &verdict);
    for (int way = 0; way < 4; way++) {
        struct sdb_source *source = sdb_table_source(table, way < 2, way < 2 ? 0 : 10000);
        if (source == NULL) {
            note(&verdict, STORM_NO_MEMORY);
            continue;
        }
        examine_walk(source, model, way % 2 == 1, &verdict);
        sdb_source_destroy(source);
    }
    sdb_table_close(table);
    return verdict;
}

/* ---- Lies ------------------------------------------------------------------------------------ */

static struct {
    struct sdb_os *honest;
    const struct sdb_os_ops *true_ops;
    struct sdb_os_ops os_ops, file_ops;
    uint64_t reads, nth, byte, lies;
    bool for_ever;
} liar_state;

static storm_status lying_pread(struct sdb_file *file, uint64_t offset, void *buffer, size_t size,
                                size_t *got)
{
    storm_status status = liar_state.true_ops->pread(file, offset, buffer, size, got);
    uint64_t read = ++liar_state.reads;
    bool lies = liar_state.nth != 0 &&
                (read == liar_state.nth || (liar_state.for_ever && read > liar_state.nth));
    if (status == STORM_OK && lies && *got != 0) {
        ((uint8_t *)buffer)[liar_state.byte % *got] ^= 0x10;
        liar_state.lies++;
    }
    return status;
}

static storm_status lying_open(struct sdb_os *os, const char *path, enum sdb_open_mode mode,
                               struct sdb_file **file)
{
    (void)os;
    storm_status status = sdb_open(liar_state.honest, path, mode, file);
    if (*file != NULL) {
        liar_state.true_ops = (*file)->ops;
        liar_state.file_ops = *(*file)->ops;
        liar_state.file_ops.pread = lying_pread;
        (*file)->ops = &liar_state.file_ops;
    }
    return status;
}

void kit_liar_init(struct sdb_os *liar, struct sdb_os *honest)
{
    memset(&liar_state, 0, sizeof liar_state);
    liar_state.honest = honest;
    liar_state.os_ops.open = lying_open;
    *liar = (struct sdb_os){.ops = &liar_state.os_ops, .errors = honest->errors};
}

void kit_lie_at(uint64_t nth, bool for_ever, uint64_t byte)
{
    liar_state.reads = 0;
    liar_state.lies = 0;
    liar_state.nth = nth;
    liar_state.for_ever = for_ever;
    liar_state.byte = byte;
}

uint64_t kit_lies(void)
{
    return liar_state.lies;
}

/* ---- Tables out of parts --------------------------------------------------------------------- */

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

bool kit_assemble(struct storm_slice input, struct sdb_buffer *file)
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
    if (end < KIT_ASSEMBLE_MAX / 2)
        add_data(file, &index, &cursor);
    sdb_index_fini(&index);
    if (end >= KIT_ASSEMBLE_MAX / 2)
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
    sdb_put_u32(footer + SDB_FOOTER_CRC, sdb_crc32c(0, footer, SDB_FOOTER_CRC));
    sdb_buffer_add(file, footer, sizeof footer);
    return file->status == STORM_OK;
}
