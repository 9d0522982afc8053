/*
 * Tables against a sorted array: building, lookups at every revision, walks, refusals by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>

#include "lsm/table/codec.h"
#include "lsm/table/index.h"
#include "lsm/table/props.h"
#include "lsm/table/reader.h"
#include "random.h"
#include "table_kit.h"
#include "util/coding.h"
#include "util/crc32c.h"

static uint64_t seed;
static struct kit kit;

static int set_up(void **unused)
{
    (void)unused;
    kit_init(&kit, 1 << 20);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    kit_fini(&kit);
    return 0;
}

static void build(const struct kit_model *model, const struct sdb_table_options *options,
                  struct sdb_table_props *props)
{
    assert_int_equal(kit_build(&kit, &kit.os, KIT_PATH, KIT_NUMBER, model, options, props),
                     STORM_OK);
}

static struct sdb_table *open_table(void)
{
    struct sdb_table *table;
    assert_int_equal(sdb_table_open(&kit.os, KIT_PATH, KIT_NUMBER, 0, kit.cache, &table), STORM_OK);
    return table;
}

static void assert_newest_error(const char *words)
{
    char text[SDB_ERROR_TEXT];
    sdb_errors_newest(&kit.errors, text, sizeof text);
    if (strstr(text, words) == NULL || strstr(text, KIT_PATH) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", text, words);
}

/* ---- Lookups and walks ----------------------------------------------------------------------- */

static void check_get(struct sdb_table *table, const struct kit_model *model,
                      struct storm_slice key, uint64_t revision)
{
    uint64_t tag;
    struct storm_slice value;
    struct sdb_block *block;
    size_t at = kit_model_find(model, key, sdb_tag(revision, SDB_KIND_SEEK));
    bool is_there = at < model->count && sdb_key_compare(model->entries[at].key, key) == 0;
    storm_status status = sdb_table_get(table, key, revision, &tag, &value, &block);
    assert_int_equal(status, is_there ? STORM_OK : STORM_NOT_FOUND);
    assert_int_equal(block != NULL, is_there);
    if (!is_there)
        return;
    const struct kit_entry *entry = &model->entries[at];
    assert_true(tag == entry->tag);
    assert_int_equal(value.size, entry->value.size);
    if (value.size != 0)
        assert_memory_equal(value.data, entry->value.data, value.size);
    sdb_block_unref(block);
}

static void check_gets(struct sdb_table *table, const struct kit_model *model)
{
    for (size_t i = 0; i < model->count; i++) {
        const struct kit_entry *entry = &model->entries[i];
        uint64_t revision = sdb_tag_revision(entry->tag);
        check_get(table, model, entry->key, revision);
        check_get(table, model, entry->key, revision - 1);
        check_get(table, model, entry->key, revision + 1);
        check_get(table, model, entry->key, SDB_MAX_REVISION);
        check_get(table, model, entry->key, 0);
        uint8_t near[300];
        size_t size = entry->key.size < 299 ? entry->key.size : 299;
        memcpy(near, entry->key.data, size);
        near[size] = 0;
        check_get(table, model, storm_bytes(near, size + 1), SDB_MAX_REVISION);
        check_get(table, model, storm_bytes(near, size - 1), SDB_MAX_REVISION);
        near[size - 1]++;
        check_get(table, model, storm_bytes(near, size), SDB_MAX_REVISION);
    }
    check_get(table, model, storm_bytes("\0", 1), SDB_MAX_REVISION);
    check_get(table, model, storm_text("\xff\xff\xff\xff\xff\xff\xff\xff"), SDB_MAX_REVISION);
}

static void check_source(struct sdb_source *source, const struct kit_model *model)
{
    size_t at;
    source->ops->first(source);
    for (at = 0; at < model->count; at++) {
        assert_true(kit_stands_at(source, model, at));
        source->ops->next(source);
    }
    assert_true(kit_stands_at(source, model, model->count));
    source->ops->last(source);
    for (at = model->count; at-- > 0;) {
        assert_true(kit_stands_at(source, model, at));
        source->ops->prev(source);
    }
    assert_true(kit_stands_at(source, model, model->count));
    int rounds = model->count < 10 ? 3 : 48;
    for (int round = 0; round < rounds && model->count != 0; round++) {
        const struct kit_entry *entry = &model->entries[random_below(&seed, model->count)];
        uint64_t tag = round % 2 == 0 ? entry->tag : random_u64(&seed) >> 3;
        at = kit_model_find(model, entry->key, tag);
        if (round % 4 < 2) {
            source->ops->seek(source, entry->key, tag);
        } else {
            source->ops->seek_before(source, entry->key, tag);
            at--;
        }
        for (int step = 0; step < 40; step++) {
            assert_true(kit_stands_at(source, model, at));
            if (!source->valid)
                break;
            if (random_below(&seed, 3) == (uint64_t)(round % 3)) {
                source->ops->prev(source);
                at--;
            } else {
                source->ops->next(source);
                at++;
            }
        }
    }
    source->ops->seek(source, storm_text("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), 0);
    assert_true(kit_stands_at(source, model, model->count));
    source->ops->seek_before(source, storm_bytes("", 0), UINT64_MAX);
    assert_true(kit_stands_at(source, model, model->count));
}

static void check_sources(struct sdb_table *table, const struct kit_model *model)
{
    static const size_t readaheads[] = {0, 1, 5000, 1 << 20};
    for (int way = 0; way < 5; way++) {
        struct sdb_source *source =
            sdb_table_source(table, way == 4, way == 4 ? 0 : readaheads[way]);
        assert_non_null(source);
        check_source(source, model);
        sdb_source_destroy(source);
    }
}

static void a_table_answers_as_a_sorted_array_does(void **unused)
{
    (void)unused;
    static const size_t counts[] = {0, 1, 2, 40, 400};
    for (unsigned codec = 0; codec <= 3; codec++) {
        for (size_t c = 0; c < 5; c++) {
            struct kit_model model;
            struct sdb_table_props props;
            size_t block_bytes = c == 3 ? 1 : 200 + 1000 * codec;
            struct sdb_table_options options = kit_options(block_bytes, codec);
            kit_model_random(&model, &seed, counts[c], 20, c == 2 ? 30000 : 200, 9);
            build(&model, &options, &props);
            struct sdb_table *table = open_table();
            assert_int_equal(sdb_table_verify(table), STORM_OK);
            assert_memory_equal(sdb_table_props(table), &props, sizeof props);
            check_gets(table, &model);
            check_sources(table, &model);
            sdb_table_close(table);
            kit_model_fini(&model);
        }
    }
}

static void versions_of_one_key_may_fill_many_blocks(void **unused)
{
    (void)unused;
    struct kit_model model;
    struct sdb_table_props props;
    struct sdb_table_options options = kit_options(300, STORM_CODEC_NONE);
    kit_model_random(&model, &seed, 600, 2, 60, 200);
    build(&model, &options, &props);
    struct sdb_table *table = open_table();
    unsigned tagged = 0;
    for (uint32_t i = 0; i < table->index.count; i++)
        tagged += table->index.slots[i].tag != 0;
    assert_true(tagged > 20);
    assert_int_equal(sdb_table_verify(table), STORM_OK);
    check_gets(table, &model);
    check_sources(table, &model);
    sdb_table_close(table);
    kit_model_fini(&model);
}

static void long_keys_and_large_values_come_back(void **unused)
{
    (void)unused;
    static struct kit_entry entries[6];
    struct kit_model model = {entries, 6};
    struct sdb_table_props props;
    uint8_t *bytes = malloc(1 << 20);
    uint8_t *key = malloc(65535);
    memset(key, 'k', 65535);
    random_bytes(&seed, bytes, 1 << 20);
    for (size_t i = 0; i < 6; i++) {
        entries[i].key = storm_bytes(key, 65530 + i);
        entries[i].tag = sdb_tag(5 + i, SDB_KIND_PUT);
        entries[i].value = storm_bytes(bytes, i % 2 == 0 ? (size_t)1 << 20 : i);
    }
    for (unsigned codec = 0; codec <= 3; codec++) {
        struct sdb_table_options options = kit_options(4096, codec);
        build(&model, &options, &props);
        struct sdb_table *table = open_table();
        assert_int_equal(sdb_table_verify(table), STORM_OK);
        check_gets(table, &model);
        check_sources(table, &model);
        sdb_table_close(table);
    }
    free(bytes);
    free(key);
}

static void properties_count_what_was_added(void **unused)
{
    (void)unused;
    static struct kit_entry entries[4];
    struct kit_model model = {entries, 4};
    struct sdb_table_props props;
    struct sdb_table_options options = kit_options(4096, STORM_CODEC_LZ4);
    entries[0] = (struct kit_entry){storm_text("a"), storm_text("123"), sdb_tag(9, SDB_KIND_PUT)};
    entries[1] = (struct kit_entry){storm_text("a"), storm_text(""), sdb_tag(4, SDB_KIND_DELETE)};
    entries[2] = (struct kit_entry){storm_text("b"), storm_text("1"), sdb_tag(70, SDB_KIND_PUT)};
    entries[3] = (struct kit_entry){storm_text("cc"), storm_text(""), sdb_tag(8, SDB_KIND_DELETE)};
    build(&model, &options, &props);
    assert_int_equal(props.entries, 4);
    assert_int_equal(props.deletes, 2);
    assert_int_equal(props.keys, 3);
    assert_int_equal(props.raw_bytes, 9);
    assert_int_equal(props.data_blocks, 1);
    assert_int_equal(props.min_revision, 4);
    assert_int_equal(props.max_revision, 70);
    assert_int_equal(props.created_ms, KIT_NOW_MS);
    assert_int_equal(props.codec, STORM_CODEC_LZ4);
}

static void properties_of_a_later_release_are_skipped(void **unused)
{
    (void)unused;
    static const uint8_t contents[] = {1, 1, 42, 99, 3, 'n', 'e', 'w', 9, 2, 0x80, 1, 100, 0};
    struct sdb_table_props props;
    assert_int_equal(sdb_props_parse(storm_bytes(contents, sizeof contents), &props), STORM_OK);
    assert_int_equal(props.entries, 42);
    assert_int_equal(props.created_ms, 128);
    assert_int_equal(sdb_props_parse(storm_bytes(contents, 6), &props), STORM_CORRUPT);
    assert_int_equal(sdb_props_parse(storm_bytes("\1\2\1\1", 4), &props), STORM_CORRUPT);
}

static void separators_are_short_and_between(void **unused)
{
    (void)unused;
    static const char *const cases[][3] = {
        {"abc", "abz", "abd"},      {"abc", "abd", "abc"},
        {"abcxyz", "abd", "abcy"},  {"abc", "abcd", "abc"},
        {"abcdef", "abdef", "abd"}, {"a\xff\xff\xff", "b", "a\xff\xff\xff"},
        {"azzz", "b", "a{"},        {"a", "c", "b"},
        {"abcde", "b", "ac"},
    };
    struct sdb_buffer out;
    sdb_buffer_init(&out, 1000);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sdb_shortest_separator(storm_text(cases[i][0]), storm_text(cases[i][1]), &out);
        struct storm_slice wanted = storm_text(cases[i][2]);
        assert_int_equal(sdb_key_compare(sdb_buffer_slice(&out), wanted), 0);
    }
    for (int round = 0; round < 20000; round++) {
        uint8_t a[8];
        uint8_t b[8];
        struct storm_slice x = storm_bytes(a, random_below(&seed, 6));
        struct storm_slice y = storm_bytes(b, 1 + random_below(&seed, 6));
        for (size_t i = 0; i < 8; i++) {
            a[i] = (uint8_t) "\0\1a\xfe\xff"[random_below(&seed, 5)];
            b[i] = (uint8_t) "\0\1a\xfe\xff"[random_below(&seed, 5)];
        }
        if (sdb_key_compare(x, y) >= 0)
            continue;
        sdb_shortest_separator(x, y, &out);
        assert_true(sdb_key_compare(x, sdb_buffer_slice(&out)) <= 0);
        assert_true(sdb_key_compare(sdb_buffer_slice(&out), y) < 0);
        assert_true(out.size <= x.size || x.size == 0);
    }
    sdb_buffer_fini(&out);
}

static void entries_out_of_order_or_range_are_refused(void **unused)
{
    (void)unused;
    struct storm_slice value = storm_text("v");
    struct sdb_table_options options = kit_options(4096, STORM_CODEC_NONE);
    static const struct {
        const char *key;
        uint64_t tag;
        storm_status status;
    } second[] = {
        {"a", 5 << 8 | 1, STORM_INVALID}, {"b", 5 << 8 | 1, STORM_INVALID},
        {"b", 6 << 8 | 1, STORM_INVALID}, {"b", 4 << 8 | 1, STORM_OK},
        {"c", 9 << 8 | 1, STORM_OK},      {"", 1 << 8 | 1, STORM_INVALID},
        {"c", UINT64_MAX, STORM_INVALID},
    };
    for (size_t i = 0; i < sizeof second / sizeof second[0]; i++) {
        struct sdb_table_builder *builder;
        struct sdb_table_props props;
        uint64_t bytes;
        (void)sim_remove(kit.disk, KIT_PATH);
        assert_int_equal(sdb_table_builder_open(&kit.os, KIT_PATH, 7, &options, &builder),
                         STORM_OK);
        assert_int_equal(sdb_table_builder_add(builder, storm_text("b"), 5 << 8 | 1, value),
                         STORM_OK);
        assert_int_equal(
            sdb_table_builder_add(builder, storm_text(second[i].key), second[i].tag, value),
            second[i].status);
        /* A failure sticks. */
        assert_int_equal(sdb_table_builder_finish(builder, 1, &props, &bytes), second[i].status);
        assert_int_equal(sdb_table_builder_add(builder, storm_text("z"), 1, value), STORM_INVALID);
        sdb_table_builder_close(builder);
    }
}

static void a_finished_table_takes_nothing_more(void **unused)
{
    (void)unused;
    struct sdb_table_builder *builder;
    struct sdb_table_props props;
    struct sdb_table_options options = kit_options(4096, STORM_CODEC_NONE);
    uint64_t bytes;
    uint8_t *key = calloc(1, 65536);
    assert_int_equal(sdb_table_builder_open(&kit.os, KIT_PATH, 7, &options, &builder), STORM_OK);
    assert_int_equal(sdb_table_builder_finish(builder, 1, &props, &bytes), STORM_OK);
    assert_int_equal(sdb_table_builder_finish(builder, 1, &props, &bytes), STORM_INVALID);
    assert_int_equal(sdb_table_builder_add(builder, storm_text("a"), sdb_tag(1, 1), storm_text("")),
                     STORM_INVALID);
    sdb_table_builder_close(builder);
    assert_int_equal(sim_remove(kit.disk, KIT_PATH), STORM_OK);
    assert_int_equal(sdb_table_builder_open(&kit.os, KIT_PATH, 7, &options, &builder), STORM_OK);
    assert_int_equal(
        sdb_table_builder_add(builder, storm_bytes(key, 65536), sdb_tag(1, 1), storm_text("")),
        STORM_TOO_LARGE);
    sdb_table_builder_close(builder);
    free(key);
}

static void options_out_of_range_are_refused(void **unused)
{
    (void)unused;
    static const struct sdb_table_options bad[] = {
        {0, 10, STORM_CODEC_NONE, 0},       {(1 << 20) + 1, 10, STORM_CODEC_NONE, 0},
        {4096, 0.5, STORM_CODEC_NONE, 0},   {4096, 65, STORM_CODEC_NONE, 0},
        {4096, 10, (enum storm_codec)4, 0}, {4096, 10, STORM_CODEC_DEFLATE, 10},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct sdb_table_builder *builder;
        assert_int_equal(sdb_table_builder_open(&kit.os, KIT_PATH, 7, &bad[i], &builder),
                         STORM_INVALID);
        assert_null(builder);
    }
}

static void an_existing_file_is_not_overwritten(void **unused)
{
    (void)unused;
    struct sdb_table_builder *builder;
    struct sdb_table_options options = kit_options(4096, STORM_CODEC_NONE);
    assert_int_equal(sim_write_file(kit.disk, KIT_PATH, "x", 1), STORM_OK);
    assert_int_equal(sdb_table_builder_open(&kit.os, KIT_PATH, 7, &options, &builder),
                     STORM_EXISTS);
    assert_null(builder);
}

static void the_size_estimate_is_near_the_file(void **unused)
{
    (void)unused;
    struct sdb_table_builder *builder;
    struct sdb_table_props props;
    struct sdb_table_options options = kit_options(4096, STORM_CODEC_NONE);
    uint8_t value[100] = {0};
    uint64_t bytes;
    assert_int_equal(sdb_table_builder_open(&kit.os, KIT_PATH, 7, &options, &builder), STORM_OK);
    assert_int_equal(sdb_table_builder_size(builder), 0);
    for (unsigned i = 0; i < 20000; i++) {
        char key[20];
        snprintf(key, sizeof key, "%08u", i);
        assert_int_equal(sdb_table_builder_add(builder, storm_text(key), sdb_tag(i, 1),
                                               storm_bytes(value, sizeof value)),
                         STORM_OK);
    }
    uint64_t estimate = sdb_table_builder_size(builder);
    assert_int_equal(sdb_table_builder_finish(builder, 1, &props, &bytes), STORM_OK);
    uint64_t size;
    assert_int_equal(sim_file_size(kit.disk, KIT_PATH, &size), STORM_OK);
    assert_int_equal(size, bytes);
    assert_true(estimate < bytes && bytes - estimate < bytes / 20);
    sdb_table_builder_close(builder);
}

static void without_bits_there_is_no_filter(void **unused)
{
    (void)unused;
    struct kit_model model;
    struct sdb_table_props props;
    struct sdb_table_options options = kit_options(4096, STORM_CODEC_NONE);
    kit_model_random(&model, &seed, 50, 20, 20, 1);
    build(&model, &options, &props);
    struct sdb_table *table = open_table();
    assert_true(sdb_table_has_filter(table));
    assert_true(sdb_table_memory(table) > 64);
    sdb_table_close(table);
    options.bloom_bits = 0;
    build(&model, &options, &props);
    table = open_table();
    assert_false(sdb_table_has_filter(table));
    assert_true(sdb_table_may_contain(table, 1));
    check_gets(table, &model);
    assert_int_equal(sdb_table_verify(table), STORM_OK);
    sdb_table_close(table);
    kit_model_fini(&model);
}

static void gets_are_served_from_the_cache(void **unused)
{
    (void)unused;
    struct kit_model model;
    struct sdb_table_props props;
    struct sdb_table_options options = kit_options(4096, STORM_CODEC_DEFLATE);
    kit_model_random(&model, &seed, 300, 20, 100, 1);
    build(&model, &options, &props);
    struct sdb_table *table = open_table();
    check_gets(table, &model);
    uint64_t reads = sim_calls(kit.disk, SIM_READ);
    check_gets(table, &model);
    assert_int_equal(sim_calls(kit.disk, SIM_READ), reads);
    /* A scan for compaction reads in large pieces, and leaves the cache as it is. */
    struct sdb_cache_stats before;
    struct sdb_cache_stats after;
    sdb_cache_stats(kit.cache, &before);
    struct sdb_source *source = sdb_table_source(table, false, 1 << 20);
    source->ops->first(source);
    while (source->valid)
        source->ops->next(source);
    sdb_source_destroy(source);
    sdb_cache_stats(kit.cache, &after);
    assert_true(before.bytes == after.bytes && before.hits == after.hits);
    assert_true(sim_calls(kit.disk, SIM_READ) - reads < 4);
    sdb_table_close(table);
    sdb_cache_stats(kit.cache, &after);
    assert_true(after.bytes < before.bytes);
    kit_model_fini(&model);
}

/* Walk the whole table; how often that went to the disk. */
static uint64_t walk_reads(struct sdb_source *source, bool forward)
{
    uint64_t before = sim_calls(kit.disk, SIM_READ);
    if (forward)
        source->ops->first(source);
    else
        source->ops->last(source);
    while (source->valid) {
        if (forward)
            source->ops->next(source);
        else
            source->ops->prev(source);
    }
    assert_int_equal(source->status, STORM_OK);
    return sim_calls(kit.disk, SIM_READ) - before;
}

/* 64 blocks from where a scan jumped to, in either direction; a step to the next table is no
 * jump. */
static void a_long_scan_fills_the_cache_with_its_beginning_only(void **unused)
{
    (void)unused;
    enum { LONG = 64 };
    struct kit_model model;
    struct sdb_table_props props;
    struct sdb_table_options options = kit_options(512, STORM_CODEC_DEFLATE);
    kit_model_random(&model, &seed, 1500, 20, 100, 1);
    build(&model, &options, &props);
    uint64_t blocks = props.data_blocks;
    assert_true(blocks > 3 * LONG);
    struct sdb_table *table = open_table();
    struct sdb_table *other = open_table();
    struct sdb_source *source = sdb_table_source(table, true, 0);
    assert_int_equal(walk_reads(source, true), blocks);
    assert_int_equal(walk_reads(source, true), blocks - LONG);
    sdb_source_rest(source); /* it would begin the way back in the block where it stands */
    assert_int_equal(walk_reads(source, false), blocks - LONG);
    assert_int_equal(walk_reads(source, false), blocks - 2 * LONG);
    sdb_table_source_move(source, other, true);
    assert_int_equal(walk_reads(source, true), blocks);
    sdb_source_rest(source);
    assert_int_equal(walk_reads(source, false), blocks);
    assert_int_equal(walk_reads(source, false), blocks - LONG);
    const struct kit_entry *entry = &model.entries[model.count / 2];
    source->ops->seek(source, entry->key, entry->tag);
    sdb_source_rest(source);
    uint64_t reads = sim_calls(kit.disk, SIM_READ);
    source->ops->seek(source, entry->key, entry->tag);
    assert_true(kit_stands_at(source, &model, model.count / 2));
    assert_int_equal(sim_calls(kit.disk, SIM_READ), reads);
    sdb_source_destroy(source);
    sdb_table_close(other);
    sdb_table_close(table);
    kit_model_fini(&model);
}

/* ---- Threads --------------------------------------------------------------------------------- */

struct reader {
    pthread_t thread;
    struct sdb_table *table;
    const struct kit_model *model;
    uint64_t state;
    unsigned wrong;
};

static void *read_at_random(void *arg)
{
    struct reader *reader = arg;
    struct sdb_source *source = sdb_table_source(reader->table, true, 0);
    for (int i = 0; i < 2000; i++) {
        size_t at = (size_t)random_below(&reader->state, reader->model->count);
        const struct kit_entry *entry = &reader->model->entries[at];
        uint64_t tag;
        struct storm_slice value;
        struct sdb_block *block;
        storm_status status = sdb_table_get(reader->table, entry->key, sdb_tag_revision(entry->tag),
                                            &tag, &value, &block);
        reader->wrong += status != STORM_OK || tag >> 8 != entry->tag >> 8;
        sdb_block_unref(block);
        source->ops->seek(source, entry->key, entry->tag);
        reader->wrong += !kit_stands_at(source, reader->model, at);
    }
    sdb_source_destroy(source);
    return NULL;
}

/* More threads than cores, and a cache that holds a part of the table only. */
static void threads_share_a_table(void **unused)
{
    (void)unused;
    struct kit_model model;
    struct sdb_table_props props;
    struct reader readers[4];
    kit_model_random(&model, &seed, 3000, 20, 600, 1);
    for (unsigned codec = STORM_CODEC_DEFLATE; codec <= STORM_CODEC_ZSTD; codec += 2) {
        struct sdb_table_options options = kit_options(2000, codec);
        build(&model, &options, &props);
        struct sdb_table *table = open_table();
        for (unsigned i = 0; i < 4; i++) {
            readers[i] = (struct reader){.table = table, .model = &model, .state = seed + i};
            assert_int_equal(pthread_create(&readers[i].thread, NULL, read_at_random, &readers[i]),
                             0);
        }
        for (unsigned i = 0; i < 4; i++) {
            pthread_join(readers[i].thread, NULL);
            assert_int_equal(readers[i].wrong, 0);
        }
        sdb_table_close(table);
    }
    kit_model_fini(&model);
}

/* ---- Refusals -------------------------------------------------------------------------------- */

static void small_table(struct kit_model *model)
{
    struct sdb_table_props props;
    struct sdb_table_options options = kit_options(300, STORM_CODEC_LZ4);
    kit_model_random(model, &seed, 30, 10, 40, 2);
    build(model, &options, &props);
}

static void expect_refusal(uint64_t number, uint64_t size, storm_status status, const char *words)
{
    struct sdb_table *table;
    assert_int_equal(sdb_table_open(&kit.os, KIT_PATH, number, size, kit.cache, &table), status);
    assert_null(table);
    assert_newest_error(words);
}

/* Change the file's footer by hand, with a good checksum. */
static void forge_footer(size_t at, uint8_t mask)
{
    uint8_t footer[64];
    uint64_t size;
    size_t got;
    struct sdb_file *file;
    assert_int_equal(sim_file_size(kit.disk, KIT_PATH, &size), STORM_OK);
    assert_int_equal(sdb_open(&kit.os, KIT_PATH, SDB_OPEN_WRITE, &file), STORM_OK);
    assert_int_equal(sdb_pread(file, size - 64, footer, 64, &got), STORM_OK);
    footer[at] ^= mask;
    sdb_put_u32(footer + SDB_FOOTER_CRC, sdb_crc32c(0, footer, SDB_FOOTER_CRC));
    assert_int_equal(sdb_pwrite(file, size - 64, footer, 64), STORM_OK);
    sdb_close(file);
}

static void what_cannot_be_this_table_is_refused_by_name(void **unused)
{
    (void)unused;
    struct kit_model model;
    uint64_t size;
    expect_refusal(7, 0, STORM_NOT_FOUND, "missing");
    small_table(&model);
    assert_int_equal(sim_file_size(kit.disk, KIT_PATH, &size), STORM_OK);
    expect_refusal(8, 0, STORM_CORRUPT, "this is table 7, not table 8");
    expect_refusal(7, size + 1, STORM_CORRUPT, "should have");
    assert_int_equal(sim_write_file(kit.disk, KIT_PATH, "short", 5), STORM_OK);
    expect_refusal(7, 0, STORM_CORRUPT, "too short");
    kit_model_fini(&model);
}

static void a_newer_format_is_refused_by_name(void **unused)
{
    (void)unused;
    struct kit_model model;
    small_table(&model);
    forge_footer(SDB_FOOTER_VERSION, 1 ^ 2);
    expect_refusal(7, 0, STORM_NEWER_FORMAT, "table format 2");
    forge_footer(SDB_FOOTER_VERSION, 1 ^ 2);
    forge_footer(SDB_FOOTER_FLAGS, 1);
    expect_refusal(7, 0, STORM_NEWER_FORMAT, "newer release");
    forge_footer(SDB_FOOTER_FLAGS, 1);
    forge_footer(SDB_FOOTER_VERSION, 1);
    expect_refusal(7, 0, STORM_CORRUPT, "footer");
    forge_footer(SDB_FOOTER_VERSION, 1);
    sdb_table_close(open_table());
    /* A table under another number, even if its footer is made to match: blocks do not verify. */
    forge_footer(SDB_FOOTER_NUMBER, 7 ^ 9);
    expect_refusal(9, 0, STORM_CORRUPT, "checksum");
    kit_model_fini(&model);
}

static void an_unknown_codec_is_refused_by_name(void **unused)
{
    (void)unused;
    struct kit_model model;
    uint8_t bytes[5000];
    size_t got;
    small_table(&model);
    struct sdb_table *table = open_table();
    struct sdb_file *file;
    struct sdb_handle handle = sdb_table_handle(table, 0);
    assert_int_equal(sdb_open(&kit.os, KIT_PATH, SDB_OPEN_WRITE, &file), STORM_OK);
    assert_int_equal(sdb_pread(file, 0, bytes, handle.size, &got), STORM_OK);
    bytes[handle.size] = 9;
    uint32_t crc = sdb_crc32c(0, bytes, handle.size + 1);
    sdb_put_u32(bytes + handle.size + 1, crc ^ sdb_block_mask(7, 0));
    assert_int_equal(sdb_pwrite(file, 0, bytes, handle.size + 5), STORM_OK);
    sdb_close(file);
    uint64_t tag;
    struct storm_slice value;
    struct sdb_block *block;
    assert_int_equal(
        sdb_table_get(table, model.entries[0].key, SDB_MAX_REVISION, &tag, &value, &block),
        STORM_UNSUPPORTED);
    assert_newest_error("codec 9");
    struct sdb_source *source = sdb_table_source(table, false, 4096);
    source->ops->first(source);
    assert_false(source->valid);
    assert_int_equal(source->status, STORM_UNSUPPORTED);
    /* Other blocks stay readable. */
    source->ops->last(source);
    assert_true(kit_stands_at(source, &model, model.count - 1));
    sdb_source_destroy(source);
    sdb_table_close(table);
    kit_model_fini(&model);
}

/* ---- The golden file ------------------------------------------------------------------------- */

static void golden_model(struct kit_model *model)
{
    static struct kit_entry entries[60];
    static char keys[60][24];
    static char values[60][120];
    *model = (struct kit_model){entries, 60};
    for (unsigned i = 0; i < 60; i++) {
        int key = snprintf(keys[i], sizeof keys[i], "golden/%03u", i / 3 * 7);
        int value = snprintf(values[i], sizeof values[i], "{\"number\":%u,\"text\":\"%0*u\"}", i,
                             (int)(i % 60), i);
        bool is_delete = i % 10 == 9;
        entries[i].key = storm_bytes(keys[i], (size_t)key);
        entries[i].value = storm_bytes(values[i], is_delete ? 0 : (size_t)value);
        entries[i].tag =
            sdb_tag(1000 * (3 - i % 3) + i, is_delete ? SDB_KIND_DELETE : SDB_KIND_PUT);
    }
}

/* Reads golden/table-v1-CODEC.sst beside this source; with GOLDEN_WRITE set, writes it first. */
static size_t golden_file(unsigned codec, uint8_t *bytes, size_t room)
{
    char path[1000];
    snprintf(path, sizeof path, "%s", __FILE__);
    char *name = strrchr(path, '/') + 1;
    snprintf(name, sizeof path - (size_t)(name - path), "golden/table-v1-%s.sst",
             sdb_codec_name(codec));
    if (getenv("GOLDEN_WRITE") != NULL) {
        struct sdb_file *file;
        size_t size;
        assert_int_equal(sdb_open(&kit.os, KIT_PATH, SDB_OPEN_READ, &file), STORM_OK);
        assert_int_equal(sdb_pread(file, 0, bytes, room, &size), STORM_OK);
        sdb_close(file);
        FILE *out = fopen(path, "wb");
        assert_int_equal(fwrite(bytes, 1, size, out), size);
        fclose(out);
    }
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    size_t size = fread(bytes, 1, room, in);
    fclose(in);
    return size;
}

static void golden_tables_of_version_1_still_read(void **unused)
{
    (void)unused;
    static uint8_t golden[20000];
    static uint8_t built[20000];
    struct kit_model model;
    struct sdb_table_props props;
    golden_model(&model);
    for (unsigned codec = 0; codec <= 3; codec++) {
        struct sdb_table_options options = kit_options(500, codec);
        build(&model, &options, &props);
        size_t size = golden_file(codec, golden, sizeof golden);
        /* What codecs write may change with their libraries; what we write may not. */
        if (codec == STORM_CODEC_NONE) {
            struct sdb_file *file;
            size_t got;
            assert_int_equal(sdb_open(&kit.os, KIT_PATH, SDB_OPEN_READ, &file), STORM_OK);
            assert_int_equal(sdb_pread(file, 0, built, sizeof built, &got), STORM_OK);
            sdb_close(file);
            assert_int_equal(got, size);
            assert_memory_equal(built, golden, size);
        }
        assert_int_equal(sim_write_file(kit.disk, KIT_PATH, golden, size), STORM_OK);
        struct sdb_table *table = open_table();
        assert_int_equal(table->props.codec, codec);
        assert_int_equal(sdb_table_verify(table), STORM_OK);
        check_gets(table, &model);
        check_sources(table, &model);
        sdb_table_close(table);
    }
}

int main(void)
{
    seed = random_seed(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_table_answers_as_a_sorted_array_does, set_up, tear_down),
        cmocka_unit_test_setup_teardown(versions_of_one_key_may_fill_many_blocks, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(long_keys_and_large_values_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(properties_count_what_was_added, set_up, tear_down),
        cmocka_unit_test(properties_of_a_later_release_are_skipped),
        cmocka_unit_test(separators_are_short_and_between),
        cmocka_unit_test_setup_teardown(entries_out_of_order_or_range_are_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_finished_table_takes_nothing_more, set_up, tear_down),
        cmocka_unit_test_setup_teardown(options_out_of_range_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_existing_file_is_not_overwritten, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_size_estimate_is_near_the_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_bits_there_is_no_filter, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gets_are_served_from_the_cache, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_long_scan_fills_the_cache_with_its_beginning_only, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(threads_share_a_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_this_table_is_refused_by_name, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_newer_format_is_refused_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_unknown_codec_is_refused_by_name, set_up, tear_down),
        cmocka_unit_test_setup_teardown(golden_tables_of_version_1_still_read, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
