/*
 * Damaged tables, failing disks, missing memory: an error or the truth, never anything else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "alloc_fail.h"
#include "lsm/table/format.h"
#include "lsm/table/reader.h"
#include "random.h"
#include "table_kit.h"
#include "util/coding.h"
#include "util/crc32c.h"

static uint64_t seed;
static struct kit kit;
static struct kit_model model;
static uint64_t size;

/* A table of some blocks, with values that a wrong answer would show in. */
static void make_table(size_t count, enum storm_codec codec)
{
    struct sdb_table_props props;
    struct sdb_table_options options = kit_options(400, codec);
    kit_model_random(&model, &seed, count, 10, 60, 3);
    assert_int_equal(kit_build(&kit, &kit.os, KIT_PATH, KIT_NUMBER, &model, &options, &props),
                     STORM_OK);
    assert_int_equal(sim_file_size(kit.disk, KIT_PATH, &size), STORM_OK);
}

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

static void expect_damage_noticed(uint64_t known_size, const char *what, uint64_t at)
{
    struct kit_verdict verdict = kit_examine(&kit, &kit.os, known_size, &model);
    if (verdict.is_wrong)
        fail_msg("%s %" PRIu64 ": a wrong answer", what, at);
    if (verdict.first_error == STORM_OK)
        fail_msg("%s %" PRIu64 ": not noticed", what, at);
}

/* ---- Damage ---------------------------------------------------------------------------------- */

static void every_flipped_bit_is_noticed(void **unused)
{
    (void)unused;
    for (unsigned codec = 0; codec <= 3; codec++) {
        make_table(20, codec);
        for (uint64_t at = 0; at < size; at++) {
            /* All bits where it matters most, one of each byte for the other codecs. */
            for (unsigned bit = codec == 0 ? 0 : 7; bit < 8; bit++) {
                uint8_t mask = (uint8_t)(1u << (bit + at) % 8);
                assert_int_equal(sim_flip(kit.disk, KIT_PATH, at, mask), STORM_OK);
                expect_damage_noticed(0, "flip at", at);
                assert_int_equal(sim_flip(kit.disk, KIT_PATH, at, mask), STORM_OK);
            }
        }
        struct kit_verdict verdict = kit_examine(&kit, &kit.os, size, &model);
        assert_int_equal(verdict.first_error, STORM_OK);
        assert_false(verdict.is_wrong);
        kit_model_fini(&model);
    }
}

static void every_truncation_is_noticed(void **unused)
{
    (void)unused;
    make_table(40, STORM_CODEC_DEFLATE);
    for (uint64_t left = size; left-- > 0;) {
        assert_int_equal(sim_resize(kit.disk, KIT_PATH, left), STORM_OK);
        expect_damage_noticed(0, "cut to", left);
        expect_damage_noticed(size, "cut to", left);
    }
    kit_model_fini(&model);
}

static void bytes_appended_are_noticed(void **unused)
{
    (void)unused;
    make_table(40, STORM_CODEC_DEFLATE);
    for (uint64_t more = 1; more < 70; more++) {
        assert_int_equal(sim_resize(kit.disk, KIT_PATH, size + more), STORM_OK);
        expect_damage_noticed(0, "grown by", more);
    }
    kit_model_fini(&model);
}

/* Entries of one size, so that blocks are, and could be taken for each other. */
static void swapped_blocks_are_noticed(void **unused)
{
    (void)unused;
    static struct kit_entry entries[60];
    static char keys[60][8];
    struct sdb_table_props props;
    struct sdb_table_options options = kit_options(256, STORM_CODEC_NONE);
    model = (struct kit_model){entries, 60};
    for (unsigned i = 0; i < 60; i++) {
        snprintf(keys[i], sizeof keys[i], "k%03u", i);
        entries[i] = (struct kit_entry){storm_text(keys[i]), storm_text("0123456789012345"),
                                        sdb_tag(100, SDB_KIND_PUT)};
    }
    assert_int_equal(kit_build(&kit, &kit.os, KIT_PATH, KIT_NUMBER, &model, &options, &props),
                     STORM_OK);
    struct sdb_table *table;
    assert_int_equal(sdb_table_open(&kit.os, KIT_PATH, KIT_NUMBER, 0, kit.cache, &table), STORM_OK);
    struct sdb_handle a = sdb_table_handle(table, 0);
    struct sdb_handle b = sdb_table_handle(table, 1);
    assert_int_equal(a.size, b.size);
    sdb_table_close(table);
    static uint8_t bytes[2][1000];
    size_t stored = a.size + SDB_TRAILER_SIZE;
    size_t got;
    struct sdb_file *file;
    assert_int_equal(sdb_open(&kit.os, KIT_PATH, SDB_OPEN_WRITE, &file), STORM_OK);
    assert_int_equal(sdb_pread(file, a.offset, bytes[0], stored, &got), STORM_OK);
    assert_int_equal(sdb_pread(file, b.offset, bytes[1], stored, &got), STORM_OK);
    assert_int_equal(sdb_pwrite(file, a.offset, bytes[1], stored), STORM_OK);
    assert_int_equal(sdb_pwrite(file, b.offset, bytes[0], stored), STORM_OK);
    sdb_close(file);
    expect_damage_noticed(0, "blocks swapped", 0);
}

static void a_damaged_block_leaves_the_others_readable(void **unused)
{
    (void)unused;
    make_table(200, STORM_CODEC_LZ4);
    assert_int_equal(sim_flip(kit.disk, KIT_PATH, 3, 1), STORM_OK);
    struct sdb_table *table;
    assert_int_equal(sdb_table_open(&kit.os, KIT_PATH, KIT_NUMBER, size, kit.cache, &table),
                     STORM_OK);
    unsigned served = 0;
    for (size_t i = 0; i < model.count; i++) {
        uint64_t tag;
        struct storm_slice value;
        struct sdb_block *block;
        storm_status status =
            sdb_table_get(table, model.entries[i].key, SDB_MAX_REVISION, &tag, &value, &block);
        assert_true(status == STORM_OK || status == STORM_CORRUPT);
        served += status == STORM_OK;
        sdb_block_unref(block);
    }
    assert_true(served > model.count / 2 && served < model.count);
    char text[SDB_ERROR_TEXT];
    sdb_errors_newest(&kit.errors, text, sizeof text);
    assert_non_null(strstr(text, KIT_PATH ": block at 0: checksum"));
    sdb_table_close(table);
    kit_model_fini(&model);
}

/* ---- Lies under a good checksum -------------------------------------------------------------- */

struct parts {
    struct storm_slice index, props, filter, data;
};

#define BYTES(text)                                                                                \
    {                                                                                              \
        (const uint8_t *)(text), sizeof(text) - 1                                                  \
    }

static void add_part(struct sdb_buffer *parts, struct storm_slice part)
{
    sdb_buffer_add_u8(parts, (uint8_t)part.size);
    sdb_buffer_add_u8(parts, (uint8_t)(part.size >> 8));
    sdb_buffer_add(parts, part.data, part.size);
}

/* Put a table of these parts on the disk and open it. */
static storm_status open_crafted(const struct parts *parts, struct sdb_table **table)
{
    struct sdb_buffer bytes;
    struct sdb_buffer file;
    sdb_buffer_init(&bytes, 10000);
    sdb_buffer_init(&file, KIT_ASSEMBLE_MAX);
    add_part(&bytes, parts->index);
    add_part(&bytes, parts->props);
    add_part(&bytes, parts->filter);
    sdb_buffer_add(&bytes, parts->data.data, parts->data.size);
    assert_true(kit_assemble(sdb_buffer_slice(&bytes), &file));
    assert_int_equal(sim_write_file(kit.disk, KIT_PATH, file.data, file.size), STORM_OK);
    sdb_buffer_fini(&bytes);
    sdb_buffer_fini(&file);
    return sdb_table_open(&kit.os, KIT_PATH, KIT_NUMBER, 0, kit.cache, table);
}

/* One block of 14 bytes: key "a" at revision 1 without a value; then its restart and tail. */
#define BLOCK     "\0\1\0\2a\0\0\0\0\1\0\0\0\0"
#define INDEX_Z   "\0\2\16z"
#define PROPS_ONE "\1\1\1\3\1\1\4\1\1\7\1\1\10\1\1" /* entries, keys, bytes, revisions */

static void crafted_contents_are_refused(void **unused)
{
    (void)unused;
    static const struct {
        struct parts parts;
        storm_status verify;
        storm_status get;
    } cases[] = {
        {{BYTES(INDEX_Z), BYTES(PROPS_ONE), BYTES(""), BYTES("\0" BLOCK)}, STORM_OK, STORM_OK},
        /* other counts */
        {{BYTES(INDEX_Z), BYTES("\1\1\2"), BYTES(""), BYTES("\0" BLOCK)}, STORM_CORRUPT, STORM_OK},
        /* a separator below the block's last key */
        {{BYTES("\0\2\16A"), BYTES(PROPS_ONE), BYTES(""), BYTES("\0" BLOCK)},
         STORM_CORRUPT,
         STORM_NOT_FOUND},
        /* two blocks with the same key */
        {{BYTES("\0\2\16a\0\2\16b"), BYTES(PROPS_ONE), BYTES(""), BYTES("\0" BLOCK "\0" BLOCK)},
         STORM_CORRUPT,
         STORM_OK},
        /* a block without entries, one with nothing, a newer one */
        {{BYTES("\0\2\5z"), BYTES(PROPS_ONE), BYTES(""), BYTES("")},
         STORM_CORRUPT,
         STORM_NOT_FOUND},
        {{BYTES("\0\2\4z"), BYTES(PROPS_ONE), BYTES(""), BYTES("")}, STORM_CORRUPT, STORM_CORRUPT},
        {{BYTES("\0\2\5z"), BYTES(PROPS_ONE), BYTES(""), BYTES("\0\0\0\0\0\1")},
         STORM_NEWER_FORMAT,
         STORM_NEWER_FORMAT},
        /* an empty key; a value cut short */
        {{BYTES("\0\2\15z"), BYTES(PROPS_ONE), BYTES(""), BYTES("\0\0\0\0\2\0\0\0\0\1\0\0\0\0")},
         STORM_CORRUPT,
         STORM_NOT_FOUND},
        {{BYTES(INDEX_Z), BYTES(PROPS_ONE), BYTES(""), BYTES("\0\0\1\1\2a\0\0\0\0\1\0\0\0\0")},
         STORM_CORRUPT,
         STORM_CORRUPT},
        /* nonsense in each codec; a size no stream can yield; one that is not there at all */
        {{BYTES(INDEX_Z), BYTES(PROPS_ONE), BYTES(""), BYTES("\1\24" BLOCK)},
         STORM_CORRUPT,
         STORM_CORRUPT},
        {{BYTES(INDEX_Z), BYTES(PROPS_ONE), BYTES(""), BYTES("\2\24" BLOCK)},
         STORM_CORRUPT,
         STORM_CORRUPT},
        {{BYTES(INDEX_Z), BYTES(PROPS_ONE), BYTES(""), BYTES("\3\24" BLOCK)},
         STORM_CORRUPT,
         STORM_CORRUPT},
        {{BYTES(INDEX_Z), BYTES(PROPS_ONE), BYTES(""), BYTES("\1\xff\xff\xff\3")},
         STORM_CORRUPT,
         STORM_CORRUPT},
        {{BYTES("\0\2\1z"), BYTES(PROPS_ONE), BYTES(""), BYTES("\1\5")},
         STORM_CORRUPT,
         STORM_CORRUPT},
        {{BYTES(INDEX_Z), BYTES("\12\1\1" PROPS_ONE), BYTES(""), BYTES("\4" BLOCK)},
         STORM_UNSUPPORTED,
         STORM_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sdb_table *table;
        uint64_t tag;
        struct storm_slice value;
        struct sdb_block *block;
        assert_int_equal(open_crafted(&cases[i].parts, &table), STORM_OK);
        storm_status verify = sdb_table_verify(table);
        storm_status get = sdb_table_get(table, storm_text("a"), 9, &tag, &value, &block);
        if (verify != cases[i].verify || get != cases[i].get)
            fail_msg("case %zu: verify %d, get %d", i, verify, get);
        sdb_block_unref(block);
        sdb_table_close(table);
    }
}

static void a_filter_without_the_keys_is_noticed(void **unused)
{
    (void)unused;
    static const uint8_t zeroes[SDB_FILTER_LINE + SDB_FILTER_TAIL_SIZE] = {
        [SDB_FILTER_LINE] = SDB_FILTER_BLOCKED_BLOOM, [SDB_FILTER_LINE + 1] = 6};
    struct parts parts = {
        BYTES(INDEX_Z), BYTES(PROPS_ONE), {zeroes, sizeof zeroes}, BYTES("\0" BLOCK)};
    struct sdb_table *table;
    assert_int_equal(open_crafted(&parts, &table), STORM_OK);
    assert_int_equal(sdb_table_verify(table), STORM_CORRUPT);
    sdb_table_close(table);
    parts.filter.size--;
    assert_int_equal(open_crafted(&parts, &table), STORM_OK); /* of another kind: not used */
    assert_false(sdb_table_has_filter(table));
    sdb_table_close(table);
    parts.filter = storm_bytes("\1\6\0\0", 4);
    assert_int_equal(open_crafted(&parts, &table), STORM_CORRUPT);
}

/* Change one byte of the properties of the table on the disk, and make the block verify again. */
static void forge_props(size_t at, uint8_t from, uint8_t to)
{
    uint8_t footer[SDB_FOOTER_SIZE];
    uint8_t bytes[200];
    struct sdb_file *file;
    size_t got;
    assert_int_equal(sim_file_size(kit.disk, KIT_PATH, &size), STORM_OK);
    assert_int_equal(sdb_open(&kit.os, KIT_PATH, SDB_OPEN_WRITE, &file), STORM_OK);
    assert_int_equal(sdb_pread(file, size - sizeof footer, footer, sizeof footer, &got), STORM_OK);
    uint64_t offset = sdb_get_u64(footer + SDB_FOOTER_PROPS);
    uint32_t stored = sdb_get_u32(footer + SDB_FOOTER_PROPS + 8);
    assert_int_equal(sdb_pread(file, offset, bytes, stored + SDB_TRAILER_SIZE, &got), STORM_OK);
    assert_int_equal(bytes[stored - at], from);
    bytes[stored - at] = to;
    uint32_t crc = sdb_crc32c(0, bytes, stored + 1) ^ sdb_block_mask(KIT_NUMBER, offset);
    sdb_put_u32(bytes + stored + 1, crc);
    assert_int_equal(sdb_pwrite(file, offset, bytes, stored + SDB_TRAILER_SIZE), STORM_OK);
    sdb_close(file);
}

static void index_and_properties_must_agree(void **unused)
{
    (void)unused;
    struct parts parts = {BYTES(INDEX_Z), BYTES(PROPS_ONE), BYTES(""), BYTES("\0" BLOCK)};
    struct sdb_table *table;
    assert_int_equal(open_crafted(&parts, &table), STORM_OK);
    sdb_table_close(table);
    /* The last two properties: | 5 1 19 | 6 1 1 |, bytes and number of data blocks. */
    forge_props(1, 1, 2);
    assert_int_equal(sdb_table_open(&kit.os, KIT_PATH, KIT_NUMBER, 0, kit.cache, &table),
                     STORM_CORRUPT);
    forge_props(1, 2, 1);
    forge_props(4, 19, 18);
    assert_int_equal(sdb_table_open(&kit.os, KIT_PATH, KIT_NUMBER, 0, kit.cache, &table),
                     STORM_CORRUPT);
}

static void a_crafted_index_is_refused(void **unused)
{
    (void)unused;
    static const struct storm_slice bad[] = {
        BYTES("\0"), /* cut short */
        BYTES("\0\2"),
        BYTES("\0\2\5"),
        BYTES("\0\3\5"),
        BYTES("\1\2\5a"),                 /* shares with nothing */
        BYTES("\0\2\0a"),                 /* an empty block */
        BYTES("\0\2\5b\0\2\5a"),          /* out of order */
        BYTES("\0\2\5a\0\2\5a"),          /* twice the same */
        BYTES("\0\2\xff\xff\xff\xff\7a"), /* a block of 2 GiB */
    };
    struct sdb_index index;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(sdb_index_parse(bad[i], &index), STORM_CORRUPT);
    /* keys that grow beyond the longest there may be */
    struct sdb_buffer long_keys;
    sdb_buffer_init(&long_keys, 200000);
    uint8_t *to = sdb_buffer_reserve(&long_keys, 70000);
    memset(to, 'k', 70000);
    memcpy(to, "\0\200\211\10\5", 5); /* 66,688 bytes of key */
    long_keys.size = 70000;
    assert_int_equal(sdb_index_parse(sdb_buffer_slice(&long_keys), &index), STORM_CORRUPT);
    sdb_buffer_fini(&long_keys);
}

/* ---- Reads that fail or lie ------------------------------------------------------------------ */

static void every_failing_read_is_reported(void **unused)
{
    (void)unused;
    make_table(60, STORM_CODEC_DEFLATE);
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        for (uint64_t nth = 1;; nth++) {
            sim_plan_set(kit.disk, (struct sim_plan){.call = SIM_READ,
                                                     .nth = nth,
                                                     .for_ever = for_ever != 0,
                                                     .status = STORM_IO});
            struct kit_verdict verdict = kit_examine(&kit, &kit.os, 0, &model);
            bool fired = sim_plan_fired(kit.disk);
            assert_false(verdict.is_wrong);
            assert_int_equal(verdict.first_error, fired ? STORM_IO : STORM_OK);
            if (!fired)
                break;
        }
    }
    sim_plan_set(kit.disk, (struct sim_plan){.nth = 0});
    kit_model_fini(&model);
}

static void a_bit_flipped_on_the_way_in_is_read_again(void **unused)
{
    (void)unused;
    struct sdb_os liar;
    make_table(60, STORM_CODEC_DEFLATE);
    kit_liar_init(&liar, &kit.os);
    for (uint64_t nth = 1;; nth++) {
        kit_lie_at(nth, false, random_u64(&seed));
        struct kit_verdict verdict = kit_examine(&kit, &liar, 0, &model);
        assert_false(verdict.is_wrong);
        assert_int_equal(verdict.first_error, STORM_OK);
        if (kit_lies() == 0)
            break;
        assert_true(nth < 1000);
    }
    kit_model_fini(&model);
}

static void reads_that_always_lie_are_caught_and_not_cached(void **unused)
{
    (void)unused;
    struct sdb_os liar;
    struct sdb_table *table;
    uint64_t tag;
    struct storm_slice value;
    struct sdb_block *block;
    make_table(60, STORM_CODEC_NONE);
    kit_liar_init(&liar, &kit.os);
    assert_int_equal(sdb_table_open(&liar, KIT_PATH, KIT_NUMBER, 0, kit.cache, &table), STORM_OK);
    kit_lie_at(1, true, 20);
    struct storm_slice key = model.entries[0].key;
    assert_int_equal(sdb_table_get(table, key, SDB_MAX_REVISION, &tag, &value, &block),
                     STORM_CORRUPT);
    assert_int_equal(kit_lies(), 2);
    assert_null(block);
    kit_lie_at(0, false, 0);
    assert_int_equal(sdb_table_get(table, key, SDB_MAX_REVISION, &tag, &value, &block), STORM_OK);
    assert_true(tag == model.entries[0].tag);
    sdb_block_unref(block);
    sdb_table_close(table);
    kit_lie_at(1, true, 20);
    struct kit_verdict verdict = kit_examine(&kit, &liar, 0, &model);
    assert_int_equal(verdict.first_error, STORM_CORRUPT);
    kit_lie_at(0, false, 0);
    kit_model_fini(&model);
}

static void a_source_goes_on_after_a_failed_read(void **unused)
{
    (void)unused;
    struct sdb_table *table;
    make_table(60, STORM_CODEC_LZ4);
    assert_int_equal(sdb_table_open(&kit.os, KIT_PATH, KIT_NUMBER, 0, kit.cache, &table), STORM_OK);
    for (int way = 0; way < 2; way++) {
        struct sdb_source *source = sdb_table_source(table, false, way == 0 ? 0 : 500);
        source->ops->first(source);
        sim_plan_set(kit.disk, (struct sim_plan){.call = SIM_READ, .nth = 1, .status = STORM_IO});
        size_t at = 0;
        while (source->valid) {
            assert_true(kit_stands_at(source, &model, at++));
            source->ops->next(source);
        }
        assert_int_equal(source->status, STORM_IO);
        source->ops->seek(source, model.entries[at].key, model.entries[at].tag);
        assert_true(kit_stands_at(source, &model, at));
        source->ops->prev(source);
        assert_true(kit_stands_at(source, &model, at - 1));
        sdb_source_destroy(source);
    }
    sdb_table_close(table);
    kit_model_fini(&model);
}

/* ---- Writes that fail ------------------------------------------------------------------------ */

/* Entries enough for several writes, and a value that is one by itself. */
static void large_model(void)
{
    static struct kit_entry entries[3000];
    static char keys[3000][8];
    static uint8_t bytes[300 << 10];
    random_bytes(&seed, bytes, sizeof bytes);
    model = (struct kit_model){entries, 3000};
    for (unsigned i = 0; i < 3000; i++) {
        snprintf(keys[i], sizeof keys[i], "k%05u", i);
        entries[i] = (struct kit_entry){storm_text(keys[i]),
                                        storm_bytes(bytes, i == 2000 ? sizeof bytes : 300),
                                        sdb_tag(100, SDB_KIND_PUT)};
    }
}

static void every_failing_write_and_sync_is_reported(void **unused)
{
    (void)unused;
    static const enum sim_call kinds[] = {SIM_OPEN, SIM_WRITE, SIM_SYNC, SIM_ANY};
    static const storm_status statuses[] = {STORM_IO, STORM_NO_SPACE};
    struct sdb_table_options options = kit_options(4096, STORM_CODEC_LZ4);
    unsigned faults = 0;
    large_model();
    for (size_t kind = 0; kind < 4; kind++) {
        for (int half = 0; half < 2; half++) {
            for (uint64_t nth = 1;; nth++) {
                struct sdb_table_props props;
                (void)sim_remove(kit.disk, KIT_PATH);
                sim_plan_set(kit.disk, (struct sim_plan){.call = kinds[kind],
                                                         .nth = nth,
                                                         .status = statuses[nth % 2],
                                                         .half_done = half != 0});
                storm_status status =
                    kit_build(&kit, &kit.os, KIT_PATH, KIT_NUMBER, &model, &options, &props);
                bool fired = sim_plan_fired(kit.disk);
                sim_plan_set(kit.disk, (struct sim_plan){.nth = 0});
                assert_int_equal(status, fired ? statuses[nth % 2] : STORM_OK);
                if (!fired)
                    break;
                faults++;
            }
        }
    }
    assert_true(faults > 12);
    struct kit_verdict verdict = kit_examine(&kit, &kit.os, 0, &model);
    assert_false(verdict.is_wrong);
    assert_int_equal(verdict.first_error, STORM_OK);
}

static void a_finished_table_survives_power_loss(void **unused)
{
    (void)unused;
    make_table(300, STORM_CODEC_ZSTD);
    assert_int_equal(sdb_sync_dir(&kit.os, "/"), STORM_OK);
    sim_reboot(kit.disk, SIM_LOSE_ALL);
    struct kit_verdict verdict = kit_examine(&kit, &kit.os, size, &model);
    assert_false(verdict.is_wrong);
    assert_int_equal(verdict.first_error, STORM_OK);
    kit_model_fini(&model);
}

static void a_table_cut_off_in_building_is_no_table(void **unused)
{
    (void)unused;
    struct sdb_table_builder *builder;
    struct sdb_table *table;
    struct sdb_table_options options = kit_options(4096, STORM_CODEC_NONE);
    large_model();
    assert_int_equal(sdb_table_builder_open(&kit.os, KIT_PATH, KIT_NUMBER, &options, &builder),
                     STORM_OK);
    for (size_t i = 0; i < model.count; i++)
        assert_int_equal(sdb_table_builder_add(builder, model.entries[i].key, model.entries[i].tag,
                                               model.entries[i].value),
                         STORM_OK);
    sdb_table_builder_close(builder);
    assert_int_equal(sdb_table_open(&kit.os, KIT_PATH, KIT_NUMBER, 0, kit.cache, &table),
                     STORM_CORRUPT);
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static void every_failed_allocation_in_building_is_reported(void **unused)
{
    (void)unused;
    kit_model_random(&model, &seed, 150, 30, 300, 2);
    for (unsigned codec = 0; codec <= 3; codec++) {
        struct sdb_table_options options = kit_options(1000, codec);
        uint64_t nth = 0;
        do {
            struct sdb_table_props props;
            alloc_fail_at(++nth, false);
            storm_status status =
                kit_build(&kit, &kit.os, KIT_PATH, KIT_NUMBER, &model, &options, &props);
            alloc_fail_at(0, false);
            if (alloc_failures() == 0)
                assert_int_equal(status, STORM_OK);
            else if (status != STORM_OK) /* the disk in memory may have been the one that failed */
                assert_true(status == STORM_NO_MEMORY || status == STORM_IO ||
                            status == STORM_NO_SPACE);
        } while (alloc_failures() > 0);
        assert_true(nth > 10);
    }
    kit_model_fini(&model);
}

static void every_failed_allocation_in_reading_is_reported(void **unused)
{
    (void)unused;
    for (unsigned codec = 0; codec <= 3; codec++) {
        make_table(60, codec);
        uint64_t nth = 0;
        do {
            alloc_fail_at(++nth, false);
            struct kit_verdict verdict = kit_examine(&kit, &kit.os, 0, &model);
            alloc_fail_at(0, false);
            assert_false(verdict.is_wrong);
            /* What only the cache missed is no error. */
            assert_true(verdict.first_error == STORM_OK ||
                        (alloc_failures() > 0 && verdict.first_error == STORM_NO_MEMORY));
        } while (alloc_failures() > 0);
        assert_true(nth > 20);
        kit_model_fini(&model);
    }
}

int main(void)
{
    seed = random_seed(1);
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(every_flipped_bit_is_noticed),
        TEST(every_truncation_is_noticed),
        TEST(bytes_appended_are_noticed),
        TEST(swapped_blocks_are_noticed),
        TEST(a_damaged_block_leaves_the_others_readable),
        TEST(crafted_contents_are_refused),
        TEST(a_filter_without_the_keys_is_noticed),
        TEST(a_crafted_index_is_refused),
        TEST(index_and_properties_must_agree),
        TEST(every_failing_read_is_reported),
        TEST(a_bit_flipped_on_the_way_in_is_read_again),
        TEST(reads_that_always_lie_are_caught_and_not_cached),
        TEST(a_source_goes_on_after_a_failed_read),
        TEST(every_failing_write_and_sync_is_reported),
        TEST(a_finished_table_survives_power_loss),
        TEST(a_table_cut_off_in_building_is_no_table),
        TEST(every_failed_allocation_in_building_is_reported),
        TEST(every_failed_allocation_in_reading_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
