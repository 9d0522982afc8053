/*
 * Compaction in a whole store on the simulated disk: what readers see never changes, space comes
 * back, and no fault at any point loses or revives anything.
 */
#include "store.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "alloc_fail.h"
#include "lsm/db/names.h"
#include "random.h"

/* A tree so small that some thousand entries fill three levels. */
static const struct sdb_tuning small = {
    .table_bytes = 4 << 10,
    .base_bytes = 16 << 10,
    .multiplier = 4,
    .level0_files = 3,
    .level0_stall = 12,
    .settle_ns = 2000000,
    .retry_ns = 1000000,
};

static struct sdb_tuning by_hand(void)
{
    struct sdb_tuning tuning = small;
    tuning.is_by_hand = true;
    return tuning;
}

static struct storm_stats stats_of(struct store *store)
{
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(store->db, &stats), STORM_OK);
    return stats;
}

/* Whether an idle store would find anything to compact. */
static bool is_settled(struct sdb_lsm *db)
{
    struct sdb_buffer cursors[STORM_MAX_LEVELS] = {0};
    struct sdb_pick pick;
    struct sdb_view *view = sdb_view_acquire(db);
    struct sdb_pick_input input = {
        .version = view->version,
        .tuning = &db->tuning,
        .cursors = cursors,
        .now_ms = sdb_now_ms(db->os),
        .is_idle = true,
    };
    bool is_found = sdb_pick(&input, &pick);
    sdb_view_release(view);
    return !is_found;
}

/* Flush, and let the store settle; there are no snapshots. */
static void settle(struct store *store)
{
    assert_int_equal(storm_flush(store->db, NULL), STORM_OK);
    for (int i = 0; !is_settled(sdb_lsm(store->db)) || stats_of(store).compaction_running; i++) {
        assert_true(i < 20000);
        usleep(1000);
    }
}

static uint64_t count_tables_on_disk(struct store *store);

static storm_status count_table(void *ctx, const char *name)
{
    uint64_t number;
    *(uint64_t *)ctx += sdb_name_parse(name, &number) == SDB_FILE_TABLE;
    return STORM_OK;
}

static uint64_t count_tables_on_disk(struct store *store)
{
    uint64_t count = 0;
    assert_int_equal(sim_each_file(store->disk, "/db", count_table, &count), STORM_OK);
    return count;
}

/* No table is on the disk but those of the version, as soon as what runs beside us has ended: a
 * job's outputs are there before it, and its inputs as long as anybody's view has them. */
static void wait_for_live_tables_only(struct store *store)
{
    for (int i = 0;; i++) {
        sdb_garbage_collect(sdb_lsm(store->db)); /* what a view of ours was the last to have */
        if (count_tables_on_disk(store) == stats_of(store).sstable_count)
            return;
        assert_true(i < 20000);
        usleep(1000);
    }
}

static storm_status compact_all(struct store *store)
{
    struct storm_slice all = {NULL, 0};
    return storm_compact(store->db, all, all, NULL, NULL);
}

static struct storm_slice key_at(char room[16], unsigned k)
{
    return storm_bytes(room, (size_t)snprintf(room, 16, "key%06u", k));
}

/* A value that names its write; 60 to 100 bytes. */
static struct storm_slice value_at(char room[128], unsigned k, unsigned number)
{
    int size = snprintf(room, 128, "%u of key %u", number, k);
    memset(room + size, '.', 128 - (size_t)size);
    return storm_bytes(room, 60 + number % 40);
}

static void put_at(struct store *store, unsigned k, unsigned number)
{
    char key[16], value[128];
    assert_int_equal(storm_put(store->db, key_at(key, k), value_at(value, k, number)), STORM_OK);
}

/* ---- Against a model ---- */

enum { MODEL_KEYS = 300, MODEL_VERSIONS = 64, MODEL_SNAPSHOTS = 4 };

struct model_version {
    uint64_t revision;
    uint64_t expires_ms; /* 0 = never */
    unsigned number;     /* 0 = a delete */
};

struct model {
    struct store store;
    uint64_t random;
    uint64_t now_ms;
    unsigned written;
    struct model_version versions[MODEL_KEYS][MODEL_VERSIONS]; /* newest at count - 1 */
    size_t counts[MODEL_KEYS];
    storm_snapshot *snapshots[MODEL_SNAPSHOTS];
};

/* The number of the write that a reader at `revision` sees; 0 = none. */
static unsigned expected(const struct model *model, unsigned k, uint64_t revision)
{
    for (size_t i = model->counts[k]; i-- > 0;) {
        const struct model_version *version = &model->versions[k][i];
        if (version->revision > revision)
            continue;
        bool is_expired = version->expires_ms != 0 && version->expires_ms <= model->now_ms;
        return is_expired ? 0 : version->number;
    }
    return 0;
}

static void write_model(struct model *model)
{
    char key[16], value[128];
    unsigned k = (unsigned)random_below(&model->random, MODEL_KEYS);
    unsigned number = ++model->written;
    bool is_delete = random_below(&model->random, 4) == 0;
    bool expires = random_below(&model->random, 4) == 0;
    struct storm_op op = {
        .kind = is_delete ? STORM_DELETE : STORM_PUT,
        .key = key_at(key, k),
        .value = value_at(value, k, number),
        .meta.expires_ms =
            !is_delete && expires ? model->now_ms + 1 + random_below(&model->random, 500) : 0,
    };
    uint64_t revision;
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    assert_int_equal(storm_write(model->store.db, batch, NULL, &revision), STORM_OK);
    storm_batch_destroy(batch);
    if (model->counts[k] == MODEL_VERSIONS) {
        /* Snapshots are younger than this many writes of one key, nearly always; else they go. */
        for (size_t s = 0; s < MODEL_SNAPSHOTS; s++) {
            storm_snapshot_release(model->snapshots[s]);
            model->snapshots[s] = NULL;
        }
        memmove(model->versions[k], model->versions[k] + MODEL_VERSIONS / 2,
                sizeof model->versions[k] / 2);
        model->counts[k] = MODEL_VERSIONS / 2;
    }
    model->versions[k][model->counts[k]++] = (struct model_version){
        .revision = revision,
        .expires_ms = op.meta.expires_ms,
        .number = is_delete ? 0 : number,
    };
}

static void check_model_at(struct model *model, const storm_snapshot *snapshot)
{
    char key[16], value[128];
    uint64_t revision = snapshot != NULL ? storm_snapshot_revision(snapshot) : UINT64_MAX;
    struct storm_iter_options options = {.snapshot = snapshot};
    storm_iter *iter;
    assert_int_equal(storm_iter_create(model->store.db, &options, &iter), STORM_OK);
    storm_iter_first(iter);
    for (unsigned k = 0; k < MODEL_KEYS; k++) {
        struct storm_value found;
        unsigned number = expected(model, k, revision);
        storm_status status = storm_get(model->store.db, snapshot, key_at(key, k), &found);
        if (status != (number == 0 ? STORM_NOT_FOUND : STORM_OK))
            fail_msg("key %u: status %d, expected write %u", k, status, number);
        if (number != 0) {
            struct storm_slice wanted = value_at(value, k, number);
            assert_int_equal(found.bytes.size, wanted.size);
            assert_memory_equal(found.bytes.data, wanted.data, wanted.size);
            assert_true(storm_iter_valid(iter));
            assert_int_equal(sdb_key_compare(storm_iter_key(iter), key_at(key, k)), 0);
            storm_iter_next(iter);
        }
        storm_value_release(&found);
    }
    assert_false(storm_iter_valid(iter));
    assert_int_equal(storm_iter_status(iter), STORM_OK);
    storm_iter_destroy(iter);
}

static void check_model(struct model *model)
{
    check_model_at(model, NULL);
    for (size_t s = 0; s < MODEL_SNAPSHOTS; s++) {
        if (model->snapshots[s] != NULL)
            check_model_at(model, model->snapshots[s]);
    }
}

static void drop_snapshots(struct model *model)
{
    for (size_t s = 0; s < MODEL_SNAPSHOTS; s++) {
        storm_snapshot_release(model->snapshots[s]);
        model->snapshots[s] = NULL;
    }
}

static void reopen(struct store *store)
{
    store_close(store);
    store_open(store);
}

static void act(struct model *model)
{
    uint64_t choice = random_below(&model->random, 400);
    size_t slot = (size_t)random_below(&model->random, MODEL_SNAPSHOTS);
    if (choice < 6) {
        assert_int_equal(storm_flush(model->store.db, NULL), STORM_OK);
    } else if (choice < 10) {
        storm_snapshot_release(model->snapshots[slot]);
        model->snapshots[slot] = storm_snapshot_create(model->store.db);
    } else if (choice < 12) {
        storm_snapshot_release(model->snapshots[slot]);
        model->snapshots[slot] = NULL;
    } else if (choice == 12) {
        model->now_ms += random_below(&model->random, 300);
        sim_clock_set(model->store.disk, model->now_ms);
    } else if (choice == 13) {
        check_model(model);
    } else if (choice == 14) {
        assert_int_equal(compact_all(&model->store), STORM_OK);
        check_model(model);
    } else if (choice == 15 && slot == 0) {
        drop_snapshots(model);
        reopen(&model->store);
        check_model(model);
    } else {
        write_model(model);
    }
}

/* Live bytes, as a store loaded once would hold them. */
static uint64_t live_bytes(struct model *model)
{
    struct store once;
    char key[16], value[128];
    store_init(&once, 1);
    once.tuning = model->store.tuning;
    once.options.codec = model->store.options.codec;
    store_open(&once);
    for (unsigned k = 0; k < MODEL_KEYS; k++) {
        unsigned number = expected(model, k, UINT64_MAX);
        if (number != 0)
            assert_int_equal(storm_put(once.db, key_at(key, k), value_at(value, k, number)),
                             STORM_OK);
    }
    assert_int_equal(compact_all(&once), STORM_OK);
    uint64_t bytes = stats_of(&once).sstable_bytes;
    store_fini(&once);
    return bytes;
}

static void run_model(uint64_t seed, int steps)
{
    static struct model model;
    model = (struct model){.random = seed, .now_ms = 1000000};
    store_init(&model.store, seed);
    model.store.tuning = &small;
    model.store.options.codec = seed % 2 == 0 ? STORM_CODEC_NONE : STORM_CODEC_DEFLATE;
    sim_clock_set(model.store.disk, model.now_ms);
    store_open(&model.store);
    for (int i = 0; i < steps; i++)
        act(&model);
    check_model(&model);
    drop_snapshots(&model);
    settle(&model.store);
    check_model(&model);
    uint64_t space = stats_of(&model.store).sstable_bytes;
    uint64_t live = live_bytes(&model);
    if (space * 2 > live * 3)
        fail_msg("seed %llu: %llu bytes for %llu of live data", (unsigned long long)seed,
                 (unsigned long long)space, (unsigned long long)live);
    store_fini(&model.store);
}

static void random_histories_read_as_the_model_says_and_settle_to_their_live_size(void **state)
{
    uint64_t seed = random_seed(1);
    (void)state;
    for (uint64_t i = 0; i < 8; i++)
        run_model(seed + i, 2500);
}

/* ---- Space and shape ---- */

static void overwritten_and_deleted_data_gives_its_space_back(void **state)
{
    struct store store;
    (void)state;
    store_init(&store, 1);
    store.tuning = &small;
    store_open(&store);
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned k = 0; k < 1500; k++)
            put_at(&store, k, round);
    }
    settle(&store);
    uint64_t full = stats_of(&store).sstable_bytes;
    assert_true(stats_of(&store).compactions > 0);
    char key[16];
    for (unsigned k = 0; k < 1500; k++) {
        if (k % 10 != 0)
            assert_int_equal(storm_delete(store.db, key_at(key, k)), STORM_OK);
    }
    settle(&store);
    assert_true(stats_of(&store).sstable_bytes * 10 < full * 2);
    for (unsigned k = 0; k < 1500; k += 10)
        assert_int_equal(storm_delete(store.db, key_at(key, k)), STORM_OK);
    settle(&store);
    reopen(&store);
    settle(&store);
    assert_int_equal(stats_of(&store).sstable_count, 0);
    store_fini(&store);
}

static void expired_data_goes_by_itself(void **state)
{
    struct store store;
    char key[16], value[128];
    (void)state;
    store_init(&store, 1);
    struct sdb_tuning tuning = small;
    store.tuning = &tuning;
    sim_clock_set(store.disk, 1000);
    store_open(&store);
    for (unsigned k = 0; k < 1000; k++) {
        struct storm_op op = {
            .kind = STORM_PUT, .key = key_at(key, k), .value = value_at(value, k, 1)};
        op.meta.expires_ms = k % 2 == 0 ? 5000 : 0;
        storm_batch *batch = storm_batch_create();
        assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
        assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
        storm_batch_destroy(batch);
    }
    settle(&store);
    uint64_t before = stats_of(&store).sstable_bytes;
    sim_clock_set(store.disk, 7000);
    put_at(&store, 2000, 1); /* wakes compaction, which waits for the real clock */
    settle(&store);
    assert_true(stats_of(&store).sstable_bytes * 10 < before * 6);
    store_fini(&store);
}

static void an_expired_value_never_uncovers_the_one_before(void **state)
{
    struct sdb_tuning tuning = by_hand();
    struct store store;
    (void)state;
    store_init(&store, 1);
    store.tuning = &tuning;
    sim_clock_set(store.disk, 1000);
    store_open(&store);
    assert_int_equal(put_text(store.db, "b", "old"), STORM_OK);
    assert_int_equal(compact_all(&store), STORM_OK);
    storm_snapshot *snapshot = storm_snapshot_create(store.db);
    struct storm_op op = {.kind = STORM_PUT, .key = storm_text("b"), .value = storm_text("new")};
    op.meta.expires_ms = 2000;
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    storm_batch_destroy(batch);
    assert_string_equal(get_text(store.db, NULL, "b"), "new");
    sim_clock_set(store.disk, 3000);
    for (int i = 0; i < 3;
         i++) { /* in the memtable; as a delete above "old"; beside it, for the snapshot */
        assert_string_equal(get_text(store.db, NULL, "b"), "(none)");
        assert_string_equal(get_text(store.db, snapshot, "b"), "old");
        assert_int_equal(i == 0 ? storm_flush(store.db, NULL) : compact_all(&store), STORM_OK);
    }
    storm_snapshot_release(snapshot);
    assert_int_equal(compact_all(&store), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "b"), "(none)");
    assert_int_equal(stats_of(&store).sstable_count, 0);
    store_fini(&store);
}

static void a_snapshot_holds_what_it_sees_and_no_more(void **state)
{
    struct sdb_tuning tuning = by_hand();
    struct store store;
    (void)state;
    store_init(&store, 1);
    store.tuning = &tuning;
    store_open(&store);
    assert_int_equal(put_text(store.db, "a", "1"), STORM_OK);
    assert_int_equal(put_text(store.db, "a", "2"), STORM_OK);
    storm_snapshot *snapshot = storm_snapshot_create(store.db);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(put_text(store.db, "a", "3"), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(storm_delete(store.db, storm_text("a")), STORM_OK);
    assert_int_equal(compact_all(&store), STORM_OK);
    assert_string_equal(get_text(store.db, snapshot, "a"), "2");
    assert_string_equal(get_text(store.db, NULL, "a"), "(none)");
    struct sdb_view *view = sdb_view_acquire(sdb_lsm(store.db));
    const struct sdb_level *last = &view->version->levels[SDB_LAST_LEVEL];
    assert_int_equal(last->count, 1);
    assert_int_equal(last->files[0]->entries, 2); /* the delete and "2" */
    sdb_view_release(view);
    storm_snapshot_release(snapshot);
    assert_int_equal(compact_all(&store), STORM_OK);
    assert_int_equal(stats_of(&store).sstable_count, 0);
    store_fini(&store);
}

static void what_a_released_snapshot_held_goes_by_itself(void **state)
{
    struct store store;
    (void)state;
    store_init(&store, 1);
    store.tuning = &small;
    store_open(&store);
    for (unsigned k = 0; k < 800; k++)
        put_at(&store, k, 1);
    storm_snapshot *snapshot = storm_snapshot_create(store.db);
    for (unsigned k = 0; k < 800; k++)
        put_at(&store, k, 2);
    assert_int_equal(compact_all(&store), STORM_OK);
    uint64_t held = stats_of(&store).sstable_bytes;
    usleep(20000); /* the compaction thread goes to rest */
    storm_snapshot_release(snapshot);
    settle(&store);
    assert_true(stats_of(&store).sstable_bytes * 10 < held * 7);
    store_fini(&store);
}

static void restarts_with_a_few_writes_leave_few_tables(void **state)
{
    struct store store;
    (void)state;
    store_init(&store, 1);
    store.tuning = &small;
    for (unsigned i = 0; i < 60; i++) {
        store_open(&store);
        put_at(&store, i * 2, 1); /* beyond all others: nothing to merge with but neighbours */
        put_at(&store, i * 2 + 1, 1);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        if (i % 3 == 0)
            settle(&store);
        store_close(&store);
    }
    store_open(&store);
    settle(&store);
    assert_true(stats_of(&store).sstable_count <= 4);
    assert_int_equal(stats_of(&store).entries_estimate, 120);
    store_fini(&store);
}

static void files_of_an_iterator_stay_until_it_is_destroyed(void **state)
{
    struct sdb_tuning tuning = by_hand();
    struct store store;
    storm_iter *iter;
    (void)state;
    store_init(&store, 1);
    store.tuning = &tuning;
    store_open(&store);
    for (unsigned k = 0; k < 200; k++)
        put_at(&store, k, 1);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(storm_iter_create(store.db, NULL, &iter), STORM_OK);
    for (unsigned k = 0; k < 200; k++)
        put_at(&store, k, 2);
    assert_int_equal(compact_all(&store), STORM_OK);
    assert_true(count_tables_on_disk(&store) > stats_of(&store).sstable_count);
    char value[128];
    unsigned k = 0;
    for (storm_iter_first(iter); storm_iter_valid(iter); storm_iter_next(iter), k++) {
        struct storm_slice wanted = value_at(value, k, 1);
        assert_int_equal(sdb_key_compare(storm_iter_value(iter), wanted), 0);
    }
    assert_int_equal(k, 200);
    storm_iter_destroy(iter);
    assert_int_equal(compact_all(&store), STORM_OK);
    store_close(&store);
    store_open(&store);
    assert_int_equal(count_tables_on_disk(&store), stats_of(&store).sstable_count);
    store_fini(&store);
}

/* ---- By hand ---- */

struct told {
    unsigned calls;
    unsigned most; /* calls until it says stop */
    bool is_sane;
};

static bool tell(void *ctx, uint64_t done, uint64_t total)
{
    struct told *told = ctx;
    told->is_sane = told->is_sane && done <= total;
    return ++told->calls < told->most;
}

static void compacting_by_hand_tells_how_far_it_is_and_can_be_stopped(void **state)
{
    struct sdb_tuning tuning = by_hand();
    struct storm_slice all = {NULL, 0};
    struct store store;
    struct told told = {.most = 1, .is_sane = true};
    (void)state;
    store_init(&store, 1);
    store.tuning = &tuning;
    store_open(&store);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned k = 0; k < 2000; k++)
            put_at(&store, k, round);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    }
    uint64_t full = stats_of(&store).sstable_bytes;
    storm_status status = storm_compact(store.db, all, all, tell, &told);
    assert_true(status == STORM_CANCELLED || status == STORM_OK);
    told = (struct told){.most = UINT32_MAX, .is_sane = true};
    assert_int_equal(storm_compact(store.db, all, all, tell, &told), STORM_OK);
    assert_true(told.calls > 0);
    assert_true(told.is_sane);
    assert_true(stats_of(&store).sstable_bytes * 2 < full);
    assert_int_equal(stats_of(&store).level_files[0], 0);
    for (unsigned k = 0; k < 2000; k++) {
        char key[16], value[128];
        struct storm_value found;
        assert_int_equal(storm_get(store.db, NULL, key_at(key, k), &found), STORM_OK);
        assert_int_equal(sdb_key_compare(found.bytes, value_at(value, k, 2)), 0);
        storm_value_release(&found);
    }
    store_fini(&store);
}

static void compacting_a_range_leaves_the_rest_alone(void **state)
{
    struct sdb_tuning tuning = by_hand();
    struct store store;
    char start[16], end[16], key[16];
    (void)state;
    store_init(&store, 1);
    store.tuning = &tuning;
    store.options.codec = STORM_CODEC_NONE;
    store_open(&store);
    for (unsigned k = 0; k < 1000; k++)
        put_at(&store, k, 1);
    assert_int_equal(compact_all(&store), STORM_OK);
    uint64_t full = stats_of(&store).sstable_bytes;
    for (unsigned k = 300; k < 600; k++)
        assert_int_equal(storm_delete(store.db, key_at(key, k)), STORM_OK);
    uint64_t written = stats_of(&store).bytes_written_tables;
    assert_int_equal(storm_compact(store.db, key_at(start, 300), key_at(end, 600), NULL, NULL),
                     STORM_OK);
    assert_true(stats_of(&store).sstable_bytes * 10 < full * 8);
    assert_true(stats_of(&store).bytes_written_tables - written < full / 2);
    store_fini(&store);
}

static void closing_ends_a_compaction_in_the_middle(void **state)
{
    struct sdb_tuning tuning = by_hand();
    bool has_ended = false;
    (void)state;
    /* A job of some 10 ms; should the machine not let us close before its end, once more. */
    for (int attempt = 0; attempt < 20 && !has_ended; attempt++) {
        struct store store;
        store_init(&store, 1);
        store.options.memtable_bytes = 8 << 20;
        store.options.write_buffer_bytes = 16 << 20;
        store.options.sync = STORM_SYNC_NONE;
        store.tuning = &tuning;
        store_open(&store);
        for (unsigned round = 0; round < 4; round++) {
            for (unsigned k = 0; k < 5000; k++)
                put_at(&store, k, round);
            assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        }
        store_close(&store);
        store.tuning = &small;
        store_open(&store);
        while (!stats_of(&store).compaction_running && stats_of(&store).compactions == 0)
            usleep(50);
        store_close(&store);
        store.tuning = &tuning;
        store_open(&store);
        has_ended = stats_of(&store).level_files[0] == 4;
        assert_int_equal(count_tables_on_disk(&store), stats_of(&store).sstable_count);
        store_fini(&store);
    }
    assert_true(has_ended);
}

static void a_store_closed_at_any_time_goes_on_compacting_when_opened(void **state)
{
    struct store store;
    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        store_init(&store, round);
        store.tuning = &small;
        store_open(&store);
        for (unsigned k = 0; k < 1500 + round * 50; k++)
            put_at(&store, k * 7919 % 1000, k);
        store_close(&store);
        store_open(&store);
        settle(&store);
        for (unsigned k = 0; k < 1000; k++) {
            char key[16], value[128];
            struct storm_value found;
            unsigned number = k * 679 % 1000; /* 7919 * 679 is 1 modulo 1000 */
            while (number + 1000 < 1500 + round * 50)
                number += 1000;
            assert_int_equal(storm_get(store.db, NULL, key_at(key, k), &found), STORM_OK);
            assert_int_equal(sdb_key_compare(found.bytes, value_at(value, k, number)), 0);
            storm_value_release(&found);
        }
        store_fini(&store);
    }
}

/* ---- Faults ---- */

enum { FAULT_KEYS = 60 };

/* Every key holds the newest acknowledged write, or a later one that was in doubt. */
static unsigned acknowledged[FAULT_KEYS], attempted[FAULT_KEYS];

static void fault_put(struct store *store, unsigned k, unsigned number)
{
    char key[16], value[128];
    attempted[k] = number;
    bool is_delete = number % 5 == 4;
    storm_status status = is_delete
                              ? storm_delete(store->db, key_at(key, k))
                              : storm_put(store->db, key_at(key, k), value_at(value, k, number));
    if (status == STORM_OK)
        acknowledged[k] = number;
}

static void check_fault_keys(struct store *store, const char *what, uint64_t n)
{
    for (unsigned k = 0; k < FAULT_KEYS; k++) {
        char key[16], value[128];
        struct storm_value found;
        storm_status status = storm_get(store->db, NULL, key_at(key, k), &found);
        bool is_right = false;
        for (unsigned number = acknowledged[k]; number <= attempted[k] && !is_right; number++) {
            bool is_absent = number == 0 || number % 5 == 4;
            is_right = is_absent
                           ? status == STORM_NOT_FOUND
                           : status == STORM_OK &&
                                 sdb_key_compare(found.bytes, value_at(value, k, number)) == 0;
        }
        if (!is_right)
            fail_msg("%s %llu: key %u: status %d, acknowledged %u, attempted %u", what,
                     (unsigned long long)n, k, status, acknowledged[k], attempted[k]);
        storm_value_release(&found);
    }
}

/* Three tables in level 0, compacted, twice over the same keys, with deletes. */
static void fault_workload(struct store *store)
{
    unsigned number = 0;
    memset(acknowledged, 0, sizeof acknowledged);
    memset(attempted, 0, sizeof attempted);
    if (store_try_open(store) != STORM_OK)
        return;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned table = 0; table < 3; table++) {
            for (unsigned k = table; k < FAULT_KEYS; k += 2)
                fault_put(store, k, ++number);
            if (storm_flush(store->db, NULL) != STORM_OK)
                continue; /* the fault; what follows from it is checked at the end */
        }
        if (compact_all(store) != STORM_OK)
            continue;
    }
}

/* From one point of a sweep to the next. TEST_EVERY in the environment visits them all. */
static uint64_t stride(uint64_t usual)
{
    return getenv("TEST_EVERY") != NULL ? 1 : usual;
}

static void init_fault_store(struct store *store, const struct sdb_tuning *tuning, uint64_t seed)
{
    store_init(store, seed);
    store->tuning = tuning;
    store->options.sync = STORM_SYNC_FULL;
}

static void a_power_cut_at_any_change_of_a_compaction_loses_nothing(void **state)
{
    static const enum sim_loss losses[] = {SIM_LOSE_ALL, SIM_KEEP_SOME, SIM_KEEP_ALL};
    struct sdb_tuning tuning = by_hand();
    uint64_t points = 0;
    (void)state;
    for (size_t l = 0; l < sizeof losses / sizeof losses[0]; l++) {
        bool was_cut = true;
        for (uint64_t n = stride(1 + l); was_cut; n += stride(11)) {
            struct store store;
            init_fault_store(&store, &tuning, n);
            sim_cut_at(store.disk, n);
            fault_workload(&store);
            was_cut = sim_is_cut(store.disk);
            store_drop(&store);
            sim_reboot(store.disk, losses[l]);
            store_open(&store);
            check_fault_keys(&store, "cut", n);
            assert_int_equal(count_tables_on_disk(&store), stats_of(&store).sstable_count);
            assert_int_equal(compact_all(&store), STORM_OK);
            check_fault_keys(&store, "cut, compacted", n);
            store_fini(&store);
            points++;
        }
    }
    print_message("%llu power cuts survived\n", (unsigned long long)points);
}

static void any_call_may_fail_during_a_compaction(void **state)
{
    static const struct sim_plan plans[] = {
        {.call = SIM_ANY, .status = STORM_IO},
        {.call = SIM_CHANGES, .status = STORM_NO_SPACE, .half_done = true},
        {.call = SIM_SYNC, .status = STORM_IO, .half_done = true},
        {.call = SIM_READ, .status = STORM_IO},
    };
    struct sdb_tuning tuning = by_hand();
    uint64_t points = 0;
    (void)state;
    for (size_t p = 0; p < sizeof plans / sizeof plans[0]; p++) {
        bool has_fired = true;
        for (uint64_t n = 1; has_fired; n += stride(plans[p].call == SIM_SYNC ? 3 : 17)) {
            struct store store;
            struct sim_plan plan = plans[p];
            plan.nth = n;
            init_fault_store(&store, &tuning, n);
            sim_plan_set(store.disk, plan);
            fault_workload(&store);
            has_fired = sim_plan_fired(store.disk);
            sim_plan_set(store.disk, (struct sim_plan){0});
            if (store.db != NULL)
                check_fault_keys(&store, "failed call", n);
            store_drop(&store);
            store_open(&store);
            check_fault_keys(&store, "failed call, reopened", n);
            assert_int_equal(compact_all(&store), STORM_OK);
            check_fault_keys(&store, "failed call, compacted", n);
            store_drop(&store);
            store_open(&store);
            assert_int_equal(count_tables_on_disk(&store), stats_of(&store).sstable_count);
            store_fini(&store);
            points++;
        }
    }
    print_message("%llu failed calls survived\n", (unsigned long long)points);
}

static void memory_may_run_out_during_a_compaction(void **state)
{
    struct sdb_tuning tuning = by_hand();
    uint64_t failures = 1;
    uint64_t points = 0;
    (void)state;
    for (uint64_t n = 1; failures != 0; n += 1) {
        struct store store;
        char key[16];
        init_fault_store(&store, &tuning, n);
        memset(acknowledged, 0, sizeof acknowledged);
        memset(attempted, 0, sizeof attempted);
        store_open(&store);
        for (unsigned number = 1; number <= 3; number++) {
            for (unsigned k = 0; k < FAULT_KEYS; k++)
                fault_put(&store, k, number);
            assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        }
        assert_int_equal(storm_delete(store.db, key_at(key, 3)), STORM_OK);
        acknowledged[3] = attempted[3] = 4;
        alloc_fail_at(n, false);
        storm_status status = compact_all(&store);
        failures = alloc_failures();
        alloc_fail_at(0, false);
        assert_true(status == STORM_OK || status == STORM_NO_MEMORY || status == STORM_READ_ONLY);
        check_fault_keys(&store, "no memory", n);
        if (status == STORM_NO_MEMORY) {
            assert_int_equal(compact_all(&store), STORM_OK);
            check_fault_keys(&store, "no memory, then compacted", n);
        }
        store_fini(&store);
        points++;
    }
    print_message("%llu failed allocations survived\n", (unsigned long long)points);
}

static void a_full_disk_stops_compaction_and_it_goes_on_by_itself(void **state)
{
    struct store store;
    (void)state;
    store_init(&store, 1);
    store.tuning = &small;
    store_open(&store);
    for (unsigned k = 0; k < 1000; k++)
        put_at(&store, k, 1);
    settle(&store);
    sim_plan_set(
        store.disk,
        (struct sim_plan){.call = SIM_OPEN, .nth = 1, .for_ever = true, .status = STORM_NO_SPACE});
    storm_status status = compact_all(&store);
    assert_int_equal(status, STORM_NO_SPACE);
    put_at(&store, 5, 2); /* reads and writes go on */
    assert_string_not_equal(get_text(store.db, NULL, "key000005"), "(error)");
    sim_plan_set(store.disk, (struct sim_plan){0});
    settle(&store);
    static const enum sim_call calls[] = {SIM_WRITE, SIM_SYNC, SIM_SYNC_DIR};
    for (size_t c = 0; c < 3; c++) { /* in the middle: what was written is removed again */
        sim_plan_set(store.disk,
                     (struct sim_plan){
                         .call = calls[c], .nth = 1, .for_ever = true, .status = STORM_NO_SPACE});
        assert_int_equal(compact_all(&store), STORM_NO_SPACE);
        wait_for_live_tables_only(&store);
    }
    for (uint64_t nth = 1; nth < 10; nth++) { /* once; a table in doubt goes with the next edit */
        sim_plan_set(store.disk,
                     (struct sim_plan){.call = SIM_WRITE, .nth = nth, .status = STORM_NO_SPACE});
        status = compact_all(&store);
        assert_true(status == STORM_OK || status == STORM_NO_SPACE);
        sim_plan_set(store.disk, (struct sim_plan){0});
        assert_int_equal(compact_all(&store), STORM_OK);
        wait_for_live_tables_only(&store);
    }
    for (unsigned k = 0; k < 1000; k++)
        put_at(&store, k, 3);
    settle(&store);
    wait_for_live_tables_only(&store);
    store_fini(&store);
}

static void a_damaged_table_is_quarantined_and_the_rest_goes_on(void **state)
{
    struct store store;
    char name[SDB_NAME_MAX], path[64], key[16], value[128];
    (void)state;
    store_init(&store, 1);
    store.tuning = &small;
    store.options.codec = STORM_CODEC_NONE;
    store.options.cache_bytes = 0;
    store_open(&store);
    for (unsigned k = 0; k < 1000; k++)
        put_at(&store, k, 1);
    assert_int_equal(compact_all(&store), STORM_OK);
    struct sdb_view *view = sdb_view_acquire(sdb_lsm(store.db));
    const struct sdb_level *last = &view->version->levels[SDB_LAST_LEVEL];
    assert_true(last->count > 3);
    sdb_table_name(name, last->files[1]->number);
    sdb_view_release(view);
    snprintf(path, sizeof path, "/db/%s", name);
    assert_int_equal(sim_flip(store.disk, path, 100, 1), STORM_OK);

    assert_int_equal(compact_all(&store), STORM_CORRUPT);
    assert_int_equal(compact_all(&store),
                     STORM_CORRUPT); /* the others are rewritten all the same */
    uint64_t errors = stats_of(&store).errors;
    for (unsigned round = 2; round < 30; round++) { /* far more than level 0 may hold */
        for (unsigned k = 0; k < 1000; k += 2)
            put_at(&store, k, round);
    }
    for (int i = 0; i < 50; i++)
        usleep(1000);
    assert_true(stats_of(&store).errors < errors + 100); /* not tried again and again */
    unsigned damaged = 0;
    for (unsigned k = 0; k < 1000; k++) {
        struct storm_value found;
        storm_status status = storm_get(store.db, NULL, key_at(key, k), &found);
        if (status == STORM_OK)
            assert_int_equal(sdb_key_compare(found.bytes, value_at(value, k, k % 2 == 0 ? 29 : 1)),
                             0);
        else
            assert_int_equal(status, STORM_CORRUPT);
        damaged += status != STORM_OK;
        storm_value_release(&found);
    }
    assert_in_range(damaged, 1, 100);
    store_fini(&store);
}

static void writers_do_not_wait_for_a_level_0_that_damage_keeps_full(void **state)
{
    struct sdb_tuning tuning = by_hand();
    struct store store;
    char name[SDB_NAME_MAX], path[64];
    (void)state;
    store_init(&store, 1);
    store.tuning = &tuning;
    store_open(&store);
    for (unsigned k = 0; k < 300; k++)
        put_at(&store, k, 1);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    struct sdb_view *view = sdb_view_acquire(sdb_lsm(store.db));
    sdb_table_name(name, view->version->levels[0].files[0]->number);
    sdb_view_release(view);
    store_close(&store);
    snprintf(path, sizeof path, "/db/%s", name);
    assert_int_equal(sim_flip(store.disk, path, 100, 1), STORM_OK);
    store.tuning = &small;
    store_open(&store);
    for (unsigned round = 2; stats_of(&store).level_files[0] < small.level0_stall + 5; round++) {
        for (unsigned k = 0; k < 300; k++)
            put_at(&store, k, round); /* would wait for ever */
    }
    store_fini(&store);
}

/* ---- Threads ---- */

struct shared {
    struct store store;
    _Atomic bool is_over;
    _Atomic unsigned number; /* every key holds this write or the one after it */
};

enum { SHARED_KEYS = 400 };

static void check_number(const struct shared *shared, unsigned low, unsigned k,
                         struct storm_slice bytes)
{
    char value[128];
    unsigned high = atomic_load(&shared->number) + 1;
    for (unsigned number = low; number <= high; number++) {
        if (sdb_key_compare(bytes, value_at(value, k, number)) == 0)
            return;
    }
    fail_msg("key %u holds none of the writes %u to %u", k, low, high);
}

static void *read_always(void *arg)
{
    struct shared *shared = arg;
    uint64_t random = 5;
    char key[16];
    while (!atomic_load(&shared->is_over)) {
        unsigned low = atomic_load(&shared->number);
        unsigned k = (unsigned)random_below(&random, SHARED_KEYS);
        struct storm_value found;
        assert_int_equal(storm_get(shared->store.db, NULL, key_at(key, k), &found), STORM_OK);
        check_number(shared, low, k, found.bytes);
        storm_value_release(&found);
    }
    return NULL;
}

static void *scan_always(void *arg)
{
    struct shared *shared = arg;
    while (!atomic_load(&shared->is_over)) {
        unsigned low = atomic_load(&shared->number);
        storm_snapshot *snapshot = storm_snapshot_create(shared->store.db);
        struct storm_iter_options options = {.snapshot = snapshot};
        storm_iter *iter;
        unsigned count = 0;
        assert_int_equal(storm_iter_create(shared->store.db, &options, &iter), STORM_OK);
        for (storm_iter_first(iter); storm_iter_valid(iter); storm_iter_next(iter))
            check_number(shared, low, count++, storm_iter_value(iter));
        assert_int_equal(storm_iter_status(iter), STORM_OK);
        assert_int_equal(count, SHARED_KEYS);
        storm_iter_destroy(iter);
        storm_snapshot_release(snapshot);
    }
    return NULL;
}

static void readers_and_iterators_run_beside_compaction(void **state)
{
    static struct shared shared;
    pthread_t reader, scanner;
    (void)state;
    store_init(&shared.store, 1);
    shared.store.tuning = &small;
    shared.store.options.sync = STORM_SYNC_NONE;
    store_open(&shared.store);
    for (unsigned k = 0; k < SHARED_KEYS; k++)
        put_at(&shared.store, k, 0);
    assert_int_equal(pthread_create(&reader, NULL, read_always, &shared), 0);
    assert_int_equal(pthread_create(&scanner, NULL, scan_always, &shared), 0);
    for (unsigned number = 1; number <= 25; number++) {
        for (unsigned k = 0; k < SHARED_KEYS; k++)
            put_at(&shared.store, k, number);
        atomic_store(&shared.number, number);
        if (number % 10 == 0)
            assert_int_equal(compact_all(&shared.store), STORM_OK);
    }
    atomic_store(&shared.is_over, true);
    assert_int_equal(pthread_join(reader, NULL), 0);
    assert_int_equal(pthread_join(scanner, NULL), 0);
    assert_true(stats_of(&shared.store).compactions > 5);
    store_fini(&shared.store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_histories_read_as_the_model_says_and_settle_to_their_live_size),
        cmocka_unit_test(overwritten_and_deleted_data_gives_its_space_back),
        cmocka_unit_test(expired_data_goes_by_itself),
        cmocka_unit_test(an_expired_value_never_uncovers_the_one_before),
        cmocka_unit_test(a_snapshot_holds_what_it_sees_and_no_more),
        cmocka_unit_test(what_a_released_snapshot_held_goes_by_itself),
        cmocka_unit_test(restarts_with_a_few_writes_leave_few_tables),
        cmocka_unit_test(files_of_an_iterator_stay_until_it_is_destroyed),
        cmocka_unit_test(compacting_by_hand_tells_how_far_it_is_and_can_be_stopped),
        cmocka_unit_test(compacting_a_range_leaves_the_rest_alone),
        cmocka_unit_test(closing_ends_a_compaction_in_the_middle),
        cmocka_unit_test(a_store_closed_at_any_time_goes_on_compacting_when_opened),
        cmocka_unit_test(a_power_cut_at_any_change_of_a_compaction_loses_nothing),
        cmocka_unit_test(any_call_may_fail_during_a_compaction),
        cmocka_unit_test(memory_may_run_out_during_a_compaction),
        cmocka_unit_test(a_full_disk_stops_compaction_and_it_goes_on_by_itself),
        cmocka_unit_test(a_damaged_table_is_quarantined_and_the_rest_goes_on),
        cmocka_unit_test(writers_do_not_wait_for_a_level_0_that_damage_keeps_full),
        cmocka_unit_test(readers_and_iterators_run_beside_compaction),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
