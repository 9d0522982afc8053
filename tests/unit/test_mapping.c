/*
 * Tables read through a mapping: what is read by a call and what is not, that nothing is believed
 * unverified and no failure ends the process, and who keeps a mapping for how long.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lsm/table/reader.h"
#include "random.h"
#include "store.h"
#include "table_kit.h"

enum { THREADS = 4, ROUNDS = 20 };

static uint64_t seed;
static struct kit kit;
static struct kit_model model;
static struct sdb_table *table;

static int set_up(void **unused)
{
    (void)unused;
    kit_init(&kit, 0); /* what the cache keeps would need no read either */
    kit_model_random(&model, &seed, 1000, 20, 100, 1);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    sdb_table_close(table);
    table = NULL;
    kit_model_fini(&model);
    kit_fini(&kit);
    return 0;
}

static void build(enum storm_codec codec)
{
    struct sdb_table_options options = kit_options(1024, codec);
    struct sdb_table_props props;
    assert_int_equal(kit_build(&kit, &kit.os, KIT_PATH, KIT_NUMBER, &model, &options, &props),
                     STORM_OK);
}

static void open_table(bool is_mapped)
{
    assert_int_equal(sdb_table_open(&kit.os, KIT_PATH, KIT_NUMBER, 0, kit.cache, &table), STORM_OK);
    sdb_table_map(table);
    assert_int_equal(table->mapping != NULL, is_mapped);
    assert_true(table->index.count > 10);
}

static storm_status get(size_t i, struct storm_slice *value, struct sdb_block **pin)
{
    uint64_t tag;
    storm_status status = sdb_table_get(table, model.entries[i].key,
                                        sdb_tag_revision(model.entries[i].tag), &tag, value, pin);
    assert_true(status != STORM_OK || tag == model.entries[i].tag);
    return status;
}

static void assert_value(size_t i, struct storm_slice value)
{
    assert_int_equal(value.size, model.entries[i].value.size);
    if (value.size != 0)
        assert_memory_equal(value.data, model.entries[i].value.data, value.size);
}

static void get_all(void)
{
    for (size_t i = 0; i < model.count; i++) {
        struct storm_slice value;
        struct sdb_block *pin;
        assert_int_equal(get(i, &value, &pin), STORM_OK);
        assert_value(i, value);
        sdb_block_unref(pin);
    }
}

static void walk(void)
{
    struct sdb_source *source = sdb_table_source(table, true, 0);
    assert_non_null(source);
    source->ops->first(source);
    for (size_t i = 0; i < model.count; i++, source->ops->next(source))
        assert_true(kit_stands_at(source, &model, i));
    source->ops->last(source);
    for (size_t i = model.count; i > 0; i--, source->ops->prev(source))
        assert_true(kit_stands_at(source, &model, i - 1));
    sdb_source_destroy(source);
}

static uint64_t reads(void)
{
    return sim_calls(kit.disk, SIM_READ);
}

static void a_block_is_read_by_a_call_once(void **unused)
{
    (void)unused;
    build(STORM_CODEC_NONE);
    open_table(true);
    uint64_t before = reads();
    get_all();
    assert_int_equal(reads() - before, table->index.count);
    before = reads();
    get_all();
    walk();
    assert_int_equal(reads(), before);
    /* And what was read by a walk first. */
    sdb_table_close(table);
    open_table(true);
    walk();
    before = reads();
    get_all();
    assert_int_equal(reads(), before);
}

static void compressed_tables_are_not_mapped(void **unused)
{
    (void)unused;
    build(STORM_CODEC_LZ4);
    open_table(false);
    get_all();
    walk();
}

static void a_damaged_block_is_told_every_time(void **unused)
{
    (void)unused;
    build(STORM_CODEC_NONE);
    assert_int_equal(sim_flip(kit.disk, KIT_PATH, 3, 1), STORM_OK);
    open_table(true);
    for (int i = 0; i < 3; i++) {
        struct storm_slice value;
        struct sdb_block *pin;
        assert_int_equal(get(0, &value, &pin), STORM_CORRUPT);
        assert_null(pin);
    }
}

static void a_failing_read_fails_alone(void **unused)
{
    (void)unused;
    struct storm_slice value;
    struct sdb_block *pin;
    build(STORM_CODEC_NONE);
    open_table(true);
    sim_plan_set(kit.disk, (struct sim_plan){SIM_READ, 1, false, STORM_IO, false});
    assert_int_equal(get(0, &value, &pin), STORM_IO);
    get_all();
}

static void without_a_mapping_blocks_are_read(void **unused)
{
    (void)unused;
    build(STORM_CODEC_NONE);
    sim_plan_set(kit.disk, (struct sim_plan){SIM_MAP, 1, false, STORM_NO_MEMORY, false});
    open_table(false);
    get_all();
    uint64_t before = reads();
    get_all();
    assert_int_equal(reads() - before, model.count);
}

static void a_pin_outlives_the_table(void **unused)
{
    (void)unused;
    struct storm_slice value;
    struct sdb_block *pins[2];
    build(STORM_CODEC_NONE);
    open_table(true);
    assert_int_equal(get(5, &value, &pins[0]), STORM_OK); /* read by a call */
    assert_value(5, value);
    struct storm_slice mapped;
    assert_int_equal(get(5, &mapped, &pins[1]), STORM_OK);
    const uint8_t *from = table->mapping->data;
    assert_true(mapped.data >= from && mapped.data < from + table->size);
    sdb_block_unref(pins[0]);
    sdb_table_close(table);
    table = NULL;
    assert_value(5, mapped);
    sdb_block_unref(pins[1]);
}

/* What the kernel would answer by SIGBUS if it were asked through the mapping. */
static void a_file_cut_short_is_damage(void **unused)
{
    (void)unused;
    char path[] = "/tmp/storm-mapping-XXXXXX";
    struct sdb_table_options options = kit_options(1024, STORM_CODEC_NONE);
    struct sdb_table_props props;
    struct storm_slice value;
    struct sdb_block *pin;
    struct sdb_os os;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(path), 0);
    sdb_os_posix_init(&os, &kit.errors);
    assert_int_equal(kit_build(&kit, &os, path, KIT_NUMBER, &model, &options, &props), STORM_OK);
    assert_int_equal(sdb_table_open(&os, path, KIT_NUMBER, 0, kit.cache, &table), STORM_OK);
    sdb_table_map(table);
    assert_non_null(table->mapping);
    get_all();
    sdb_table_close(table);
    assert_int_equal(sdb_table_open(&os, path, KIT_NUMBER, 0, kit.cache, &table), STORM_OK);
    sdb_table_map(table);
    assert_int_equal(truncate(path, 100), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(get(model.count - 1, &value, &pin), STORM_CORRUPT);
    assert_int_equal(unlink(path), 0);
}

static void *get_all_often(void *arg)
{
    for (int i = 0; i < ROUNDS; i++)
        get_all();
    return arg;
}

static void many_threads_share_a_mapping(void **unused)
{
    (void)unused;
    pthread_t threads[THREADS];
    build(STORM_CODEC_NONE);
    open_table(true);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, get_all_often, NULL), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < SDB_MAPPING_PINS; i++)
        assert_int_equal(atomic_load(&table->mapping->pins[i].block.refs), 1);
}

/* Tables are mapped when a flush has written them and when a store is opened, unless told
 * otherwise. */
static void a_store_maps_its_tables_if_it_may(void **unused)
{
    (void)unused;
    for (int may = 0; may < 2; may++) {
        struct store store;
        store_init(&store, 1);
        store.options.codec = STORM_CODEC_NONE;
        assert_true(store.options.map_tables); /* the default */
        store.options.map_tables = may != 0;
        store_open(&store);
        assert_int_equal(put_text(store.db, "key", "value"), STORM_OK);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        assert_int_equal(sim_calls(store.disk, SIM_MAP) > 0, may);
        store_close(&store);
        uint64_t before = sim_calls(store.disk, SIM_MAP);
        store_open(&store);
        assert_int_equal(sim_calls(store.disk, SIM_MAP) > before, may);
        assert_string_equal(get_text(store.db, NULL, "key"), "value");
        assert_string_equal(get_text(store.db, NULL, "key"), "value");
        store_fini(&store);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_block_is_read_by_a_call_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(compressed_tables_are_not_mapped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_block_is_told_every_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failing_read_fails_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_mapping_blocks_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pin_outlives_the_table, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_cut_short_is_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_threads_share_a_mapping, set_up, tear_down),
        cmocka_unit_test(a_store_maps_its_tables_if_it_may),
    };
    seed = random_seed(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
