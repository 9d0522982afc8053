/*
 * Many keys at once, and values that are taken out of the store: the same answers as one by one, of
 * one state, whatever goes on beside.
 */
#include "store.h"

#include <pthread.h>
#include <stdlib.h>

#include "alloc_fail.h"
#include "lsm/db/names.h"
#include "random.h"

enum { KEYS = 400, MOST = 320 };

/* A tree so small that some thousand entries fill three levels. Only the test itself compacts, for
 * other threads' allocations would meet the failures meant for the reads. */
static struct sdb_tuning small = {.table_bytes = 4 << 10,
                                  .base_bytes = 16 << 10,
                                  .multiplier = 4,
                                  .level0_files = 3,
                                  .level0_stall = 12,
                                  .settle_ns = 1000000000,
                                  .retry_ns = 1000000};

static struct store store;
static uint64_t seed_state;

static int set_up(void **state)
{
    (void)state;
    store_init(&store, 1);
    small.is_by_hand = true;
    store.tuning = &small;
    store.options.block_bytes = 1024;
    store.options.codec = STORM_CODEC_NONE;
    sim_clock_set(store.disk, 5000);
    store_open(&store);
    seed_state = 1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_fini(&store);
    return 0;
}

static uint64_t below(uint64_t bound)
{
    return random_below(&seed_state, bound);
}

/* Of three families that share much or nothing with each other. */
static struct storm_slice key_at(char room[48], uint64_t k)
{
    static const char *const heads[] = {"", "a family with a long name: ", "b"};
    return storm_bytes(room,
                       (size_t)snprintf(room, 48, "%s%04llu", heads[k % 3], (unsigned long long)k));
}

static void write_some(size_t count)
{
    char key[48], value[128];
    storm_batch *batch = storm_batch_create();
    for (size_t i = 0; i < count; i++) {
        uint64_t kind = below(8);
        struct storm_op op = {.kind = kind == 0 ? STORM_DELETE : STORM_PUT,
                              .key = key_at(key, below(KEYS / 2) * 2)};
        if (op.kind == STORM_PUT) {
            memset(value, 'a' + (int)below(26), sizeof value);
            op.value = storm_bytes(value, below(sizeof value));
            op.meta.expires_ms = kind == 1 ? 4000 + below(2) * 2000 : 0;
        }
        storm_batch_clear(batch);
        assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
        assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    }
    storm_batch_destroy(batch);
}

/* Tables in several levels, two memtables' worth in memory; a snapshot in the middle. */
static storm_snapshot *fill(void)
{
    struct storm_slice all = {NULL, 0};
    write_some(600);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(storm_compact(store.db, all, all, NULL, NULL), STORM_OK);
    write_some(200);
    storm_snapshot *snapshot = storm_snapshot_create(store.db);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    for (int i = 0; i < 4; i++) {
        write_some(60);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    }
    write_some(60);
    return snapshot;
}

struct request {
    char rooms[MOST][48];
    struct storm_lookup lookups[MOST];
    size_t count;
};

static void choose(struct request *request, size_t count)
{
    uint64_t first = below(KEYS);
    uint64_t shape = below(3); /* at random, ascending, descending */
    request->count = count;
    for (size_t i = 0; i < count; i++) {
        uint64_t k = shape == 0 ? below(KEYS) : shape == 1 ? first + i : first + count - i;
        request->lookups[i].key = key_at(request->rooms[i], k % KEYS);
    }
}

static void release(struct request *request)
{
    for (size_t i = 0; i < request->count; i++)
        storm_value_release(&request->lookups[i].value);
}

/* Whether a lookup says what storm_get says. */
static void check_against_get(const struct storm_lookup *lookup, const storm_snapshot *snapshot)
{
    struct storm_value value;
    storm_status status = storm_get(store.db, snapshot, lookup->key, &value);
    assert_int_equal(lookup->status, status);
    assert_int_equal(lookup->value.revision, value.revision);
    assert_int_equal(lookup->value.bytes.size, value.bytes.size);
    assert_int_equal(lookup->value.meta.expires_ms, value.meta.expires_ms);
    if (value.bytes.size != 0)
        assert_memory_equal(lookup->value.bytes.data, value.bytes.data, value.bytes.size);
    assert_int_equal(lookup->value.unpin != NULL, status == STORM_OK);
    storm_value_release(&value);
}

static void many_keys_read_as_one_by_one(void **state)
{
    static struct request request;
    static const size_t counts[] = {0, 1, 2, 31, 32, 33, 127, 128, 129, MOST};
    (void)state;
    seed_state = random_seed(1);
    storm_snapshot *snapshot = fill();
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(store.db, &stats), STORM_OK);
    assert_true(stats.level_files[0] > 0 && stats.level_files[6] > 1);
    assert_true(stats.memtable_entries > 0);
    for (int round = 0; round < 200; round++) {
        const storm_snapshot *at = round % 2 == 0 ? NULL : snapshot;
        uint64_t revision = 0;
        choose(&request, counts[round % 10]);
        assert_int_equal(storm_get_many(store.db, at, request.lookups, request.count, &revision),
                         STORM_OK);
        assert_int_equal(revision, at == NULL ? stats.revision : storm_snapshot_revision(at));
        for (size_t i = 0; i < request.count; i++) {
            assert_ptr_equal(request.lookups[i].key.data, request.rooms[i]);
            check_against_get(&request.lookups[i], at);
        }
        release(&request);
    }
    storm_snapshot_release(snapshot);
}

static void an_empty_key_is_refused_alone(void **state)
{
    (void)state;
    assert_int_equal(put_text(store.db, "a", "1"), STORM_OK);
    struct storm_lookup lookups[] = {
        {.key = storm_text("a")}, {.key = storm_text("")}, {.key = storm_text("none")}};
    assert_int_equal(storm_get_many(store.db, NULL, lookups, 3, NULL), STORM_INVALID);
    assert_int_equal(lookups[0].status, STORM_OK);
    assert_int_equal(lookups[1].status, STORM_INVALID);
    assert_int_equal(lookups[2].status, STORM_NOT_FOUND);
    for (size_t i = 0; i < 3; i++)
        storm_value_release(&lookups[i].value);
}

static void filters_count_many_keys_as_they_count_one(void **state)
{
    static struct request request;
    struct storm_stats before, between, after;
    (void)state;
    storm_snapshot_release(fill());
    choose(&request, MOST);
    assert_int_equal(storm_stats_read(store.db, &before), STORM_OK);
    for (size_t i = 0; i < request.count; i++) {
        struct storm_value value;
        storm_status status = storm_get(store.db, NULL, request.lookups[i].key, &value);
        assert_true(status == STORM_OK || status == STORM_NOT_FOUND);
        storm_value_release(&value);
    }
    assert_int_equal(storm_stats_read(store.db, &between), STORM_OK);
    assert_int_equal(storm_get_many(store.db, NULL, request.lookups, request.count, NULL),
                     STORM_OK);
    release(&request);
    assert_int_equal(storm_stats_read(store.db, &after), STORM_OK);
    assert_true(between.bloom_hits > before.bloom_hits);
    assert_true(between.bloom_passes > before.bloom_passes);
    assert_int_equal(after.bloom_hits - between.bloom_hits, between.bloom_hits - before.bloom_hits);
    assert_int_equal(after.bloom_passes - between.bloom_passes,
                     between.bloom_passes - before.bloom_passes);
    assert_int_equal(after.bloom_false_positives - between.bloom_false_positives,
                     between.bloom_false_positives - before.bloom_false_positives);
}

/* Whichever allocation fails: some keys say so, the others are right, the first failure is the
 * sum. */
static void missing_memory_fails_some_keys_and_spoils_none(void **state)
{
    static struct request request;
    (void)state;
    store_close(&store);
    store.options.cache_bytes = 0; /* every block is read, every time */
    store.options.map_tables = false;
    store_open(&store);
    storm_snapshot *snapshot = fill();
    uint64_t nth = 0, failing = 0, whole = 0;
    bool has_failed;
    choose(&request, MOST);
    do {
        alloc_fail_at(++nth, false);
        storm_status status =
            storm_get_many(store.db, snapshot, request.lookups, request.count, NULL);
        has_failed = alloc_failures() > 0;
        alloc_fail_at(0, false);
        storm_status first = STORM_OK;
        size_t failed = 0;
        for (size_t i = 0; i < request.count; i++) {
            struct storm_lookup *lookup = &request.lookups[i];
            failed += lookup->status == STORM_NO_MEMORY;
            if (first == STORM_OK && lookup->status == STORM_NO_MEMORY)
                first = STORM_NO_MEMORY;
            if (lookup->status != STORM_NO_MEMORY)
                check_against_get(lookup, snapshot);
            else
                assert_null(lookup->value.unpin);
        }
        release(&request);
        assert_int_equal(status, first);
        /* The store's threads may meet the failure instead. */
        assert_true(failed == 0 || has_failed);
        failing += failed != 0;
        whole += failed == request.count;
    } while (has_failed);
    assert_true(failing > 20);
    assert_true(whole <= 1); /* when the keys cannot be put in order */
    storm_snapshot_release(snapshot);
}

static storm_status damage_table(void *ctx, const char *name)
{
    char path[64];
    uint64_t number, size;
    unsigned *left = ctx;
    if (sdb_name_parse(name, &number) != SDB_FILE_TABLE || *left == 0)
        return STORM_OK;
    (*left)--;
    snprintf(path, sizeof path, "/db/%s", name);
    assert_int_equal(sim_file_size(store.disk, path, &size), STORM_OK);
    assert_int_equal(sim_flip(store.disk, path, size - 1, 1), STORM_OK);
    return STORM_OK;
}

static void a_damaged_table_spoils_only_the_keys_in_its_range(void **state)
{
    static struct request request;
    unsigned left = 2;
    size_t bad = 0, good = 0;
    (void)state;
    storm_snapshot_release(fill());
    store_close(&store);
    assert_int_equal(sim_each_file(store.disk, "/db", damage_table, &left), STORM_OK);
    store_open(&store);
    choose(&request, MOST);
    assert_int_equal(storm_get_many(store.db, NULL, request.lookups, request.count, NULL),
                     STORM_CORRUPT);
    for (size_t i = 0; i < request.count; i++) {
        check_against_get(&request.lookups[i], NULL);
        bad += request.lookups[i].status == STORM_CORRUPT;
        good += request.lookups[i].status == STORM_OK;
    }
    release(&request);
    assert_true(bad > 0 && good > 0);
}

/* ---- One state ---- */

enum { GROUP = 40, WRITES = 3000 };

static _Atomic bool is_over;

/* In threads of our own, where cmocka's way of failing would lead nowhere. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void *write_groups(void *ctx)
{
    char key[48], value[300];
    storm_batch *batch = storm_batch_create();
    (void)ctx;
    memset(value, '.', sizeof value);
    for (int i = 1; i <= WRITES; i++) {
        int size = snprintf(value, sizeof value, "%d", i);
        value[size] = ' ';
        storm_batch_clear(batch);
        for (uint64_t k = 0; k < GROUP; k++)
            MUST(storm_batch_put(batch, key_at(key, k), storm_bytes(value, 20 + (size_t)i % 200)) ==
                 STORM_OK);
        MUST(storm_write(store.db, batch, NULL, NULL) == STORM_OK);
    }
    storm_batch_destroy(batch);
    atomic_store(&is_over, true);
    return NULL;
}

static void *disturb(void *ctx)
{
    struct storm_slice all = {NULL, 0};
    (void)ctx;
    for (int i = 0; !atomic_load(&is_over); i++) {
        MUST(storm_flush(store.db, NULL) == STORM_OK);
        if (i % 8 == 0)
            MUST(storm_compact(store.db, all, all, NULL, NULL) == STORM_OK);
    }
    return NULL;
}

/* Every batch writes all keys, so all keys show one batch: its number and its revision. */
static void *read_groups(void *ctx)
{
    struct storm_lookup lookups[GROUP];
    char rooms[GROUP][48];
    uint64_t last = 0;
    uint64_t *reads = ctx;
    for (uint64_t k = 0; k < GROUP; k++)
        lookups[k].key = key_at(rooms[k], (k * 7) % GROUP);
    while (!atomic_load(&is_over)) {
        uint64_t revision;
        MUST(storm_get_many(store.db, NULL, lookups, GROUP, &revision) == STORM_OK);
        MUST(revision >= last);
        last = revision;
        for (size_t i = 0; i < GROUP; i++) {
            MUST(lookups[i].status == (revision == 0 ? STORM_NOT_FOUND : STORM_OK));
            if (revision == 0)
                continue;
            MUST(lookups[i].value.revision == revision);
            MUST(atoi((const char *)lookups[i].value.bytes.data) == (int)revision);
            storm_value_release(&lookups[i].value);
        }
        (*reads)++;
    }
    return NULL;
}

static void many_keys_are_of_one_state_beside_writers_flush_and_compaction(void **state)
{
    pthread_t threads[4];
    uint64_t reads[2] = {0};
    (void)state;
    store_close(&store);
    small.is_by_hand = false;
    store_open(&store);
    atomic_store(&is_over, false);
    pthread_create(&threads[0], NULL, read_groups, &reads[0]);
    pthread_create(&threads[1], NULL, read_groups, &reads[1]);
    pthread_create(&threads[2], NULL, disturb, NULL);
    pthread_create(&threads[3], NULL, write_groups, NULL);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    printf("%llu groups of keys read\n", (unsigned long long)(reads[0] + reads[1]));
    assert_true(reads[0] > 10 && reads[1] > 10);
}

/* ---- Values of one's own ---- */

static void put_typed(const char *key, const char *value)
{
    storm_batch *batch = storm_batch_create();
    struct storm_op op = {.kind = STORM_PUT,
                          .key = storm_text(key),
                          .value = storm_text(value),
                          .meta = {.modified_ms = 77, .type = storm_text("text/plain")}};
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    storm_batch_destroy(batch);
}

static void a_detached_value_outlives_the_store(void **state)
{
    struct storm_value values[4];
    (void)state;
    put_typed("table", "in a table");
    put_typed("empty", "");
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    put_typed("memory", "in memory");
    assert_int_equal(put_text(store.db, "nothing", ""), STORM_OK);
    static const char *const keys[] = {"table", "empty", "memory", "nothing"};
    static const char *const texts[] = {"in a table", "", "in memory", ""};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(storm_get(store.db, NULL, storm_text(keys[i]), &values[i]), STORM_OK);
        const uint8_t *pinned = values[i].bytes.data;
        assert_int_equal(storm_value_detach(&values[i]), STORM_OK);
        const uint8_t *copy = values[i].bytes.data;
        assert_ptr_not_equal(copy, pinned);
        assert_int_equal(storm_value_detach(&values[i]), STORM_OK);
        assert_ptr_equal(values[i].bytes.data, copy);
    }
    store_fini(&store);
    store = (struct store){0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(values[i].bytes.size, strlen(texts[i]));
        assert_memory_equal(values[i].bytes.data, texts[i], strlen(texts[i]));
        assert_int_equal(values[i].meta.modified_ms, i < 3 ? 77 : 0);
        assert_int_equal(values[i].meta.type.size, i < 3 ? 10 : 0);
        assert_memory_equal(values[i].meta.type.data, "text/plain", values[i].meta.type.size);
        assert_int_equal(values[i].revision, i + 1);
        storm_value_release(&values[i]);
        storm_value_release(&values[i]);
    }
    store_init(&store, 2);
}

static void detaching_gives_the_pin_back_or_keeps_it_without_memory(void **state)
{
    struct storm_value value;
    (void)state;
    put_typed("k", "value");
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(storm_get(store.db, NULL, storm_text("k"), &value), STORM_OK);
    struct sdb_block *block = value.pin;
    uint32_t refs = atomic_load(&block->refs);
    alloc_fail_at(1, true);
    assert_int_equal(storm_value_detach(&value), STORM_NO_MEMORY);
    alloc_fail_at(0, false);
    assert_ptr_equal(value.pin, block);
    assert_int_equal(atomic_load(&block->refs), refs);
    assert_memory_equal(value.bytes.data, "value", 5);
    sdb_block_ref(block);
    assert_int_equal(storm_value_detach(&value), STORM_OK);
    assert_int_equal(atomic_load(&block->refs), refs);
    sdb_block_unref(block);
    storm_value_release(&value);
    assert_int_equal(storm_value_detach(&value), STORM_OK); /* an empty one has nothing to do */
    assert_null(value.pin);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(many_keys_read_as_one_by_one),
        TEST(an_empty_key_is_refused_alone),
        TEST(filters_count_many_keys_as_they_count_one),
        TEST(missing_memory_fails_some_keys_and_spoils_none),
        TEST(a_damaged_table_spoils_only_the_keys_in_its_range),
        TEST(many_keys_are_of_one_state_beside_writers_flush_and_compaction),
        TEST(a_detached_value_outlives_the_store),
        TEST(detaching_gives_the_pin_back_or_keeps_it_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
