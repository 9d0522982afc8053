/*
 * Iterators of the whole store against brute force: every combination of bounds, prefix, snapshot,
 * keys_only and max_skipped, over memtables and several levels, in both directions, with changes of
 * direction wherever a move may end.
 */
#include "store.h"

#include <stdlib.h>

#include "alloc_fail.h"
#include "lsm/db/bounds.h"
#include "random.h"

/* ---- The model: all that was ever written ---- */

enum { KEYS = 54, KEY_ROOM = 8, VERSIONS = 512, SNAPSHOTS = 3, HOT = 20 };

struct version {
    uint64_t revision;
    uint64_t expires_ms;
    bool is_put;
};

struct model {
    struct store store;
    struct sdb_tuning tuning;
    uint64_t random;
    uint64_t now_ms;
    uint64_t revision;
    struct storm_slice keys[KEYS]; /* in order */
    uint8_t rooms[KEYS][KEY_ROOM];
    struct version versions[KEYS][VERSIONS]; /* oldest first */
    size_t counts[KEYS];
    storm_snapshot *snapshots[SNAPSHOTS];
    uint64_t stops; /* at STORM_MORE */
};

static uint64_t below(struct model *model, uint64_t bound)
{
    return random_below(&model->random, bound);
}

static int compare_keys(const void *a, const void *b)
{
    return sdb_key_compare(*(const struct storm_slice *)a, *(const struct storm_slice *)b);
}

/* Prefixes of one another, and tails of 0 and 255. */
static void make_keys(struct model *model)
{
    static const char *const heads[] = {"a", "a\xff", "b", "\xfe\xff", "\xff", "\xff\xff"};
    static const char tails[] = {0, 1, '1', '2', '3', '\xfe', '\xff', 'x'};
    size_t count = 0;
    for (size_t h = 0; h < 6; h++) {
        for (size_t t = 0; t < 9; t++) {
            size_t size = strlen(heads[h]);
            uint8_t *room = model->rooms[count];
            memcpy(room, heads[h], size);
            if (t < 8)
                room[size++] = (uint8_t)tails[t];
            if (t < 3)
                room[size++] = 'q';
            model->keys[count++] = storm_bytes(room, size);
        }
    }
    qsort(model->keys, KEYS, sizeof model->keys[0], compare_keys);
    /* "a\xff" is one of "a"'s and a head itself; a twin gets a tail of its own. */
    for (size_t k = 1; k < KEYS; k++) {
        if (sdb_key_compare(model->keys[k - 1], model->keys[k]) == 0) {
            uint8_t *room = (uint8_t *)(uintptr_t)model->keys[k].data;
            memcpy(room + model->keys[k].size, "\0\0", 2);
            model->keys[k].size += 2;
        }
    }
    for (size_t k = 1; k < KEYS; k++)
        assert_true(sdb_key_compare(model->keys[k - 1], model->keys[k]) < 0);
}

static const struct version *seen(const struct model *model, size_t k, uint64_t revision)
{
    for (size_t i = model->counts[k]; i-- > 0;) {
        const struct version *version = &model->versions[k][i];
        if (version->revision > revision)
            continue;
        bool is_over = version->expires_ms != 0 && version->expires_ms <= model->now_ms;
        return version->is_put && !is_over ? version : NULL;
    }
    return NULL;
}

static void write_key(struct model *model, size_t k)
{
    char value[32];
    uint64_t kind = below(model, 10);
    struct storm_op op = {.kind = kind < 6 ? STORM_PUT : STORM_DELETE, .key = model->keys[k]};
    if (op.kind == STORM_PUT) {
        int size = snprintf(value, sizeof value, "%llu", (unsigned long long)model->revision + 1);
        op.value = storm_bytes(value, (size_t)size);
        op.meta.modified_ms = model->revision + 1;
        if (kind == 0)
            op.meta.expires_ms = model->now_ms + below(model, 3) * 1000;
    }
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    assert_int_equal(storm_write(model->store.db, batch, NULL, &model->revision), STORM_OK);
    storm_batch_destroy(batch);
    assert_true(model->counts[k] < VERSIONS);
    model->versions[k][model->counts[k]++] =
        (struct version){model->revision, op.meta.expires_ms, op.kind == STORM_PUT};
}

/* ---- One walk ---- */

struct walk {
    struct model *model;
    struct storm_iter_options options;
    uint64_t revision;
    storm_iter *iter;
};

static bool is_in_range(const struct walk *walk, size_t k)
{
    struct storm_slice key = walk->model->keys[k];
    const struct storm_iter_options *o = &walk->options;
    return (o->start.size == 0 || sdb_key_compare(key, o->start) >= 0) &&
           (o->end.size == 0 || sdb_key_compare(key, o->end) < 0) && key.size >= o->prefix.size &&
           (o->prefix.size == 0 || memcmp(key.data, o->prefix.data, o->prefix.size) == 0);
}

/* The nearest key that is to be shown, from `k` on in the direction; -1 = none. */
static int nearest(const struct walk *walk, int k, int step)
{
    for (; k >= 0 && k < KEYS; k += step) {
        if (is_in_range(walk, (size_t)k) && seen(walk->model, (size_t)k, walk->revision) != NULL)
            return k;
    }
    return -1;
}

static int number_of(const struct model *model, struct storm_slice key)
{
    for (int k = 0; k < KEYS; k++) {
        if (sdb_key_compare(model->keys[k], key) == 0)
            return k;
    }
    fail_msg("a key that was never written");
    return -1;
}

static void create(struct walk *walk)
{
    storm_iter_destroy(walk->iter);
    assert_int_equal(storm_iter_create(walk->model->store.db, &walk->options, &walk->iter),
                     STORM_OK);
}

static void check_at(const struct walk *walk, int expected)
{
    const storm_iter *iter = walk->iter;
    assert_int_equal(storm_iter_status(iter), STORM_OK);
    assert_int_equal(storm_iter_valid(iter), expected >= 0);
    if (expected < 0) {
        assert_int_equal(storm_iter_key(iter).size, 0);
        assert_int_equal(storm_iter_value(iter).size, 0);
        return;
    }
    char value[32];
    const struct version *version = seen(walk->model, (size_t)expected, walk->revision);
    assert_int_equal(number_of(walk->model, storm_iter_key(iter)), expected);
    assert_int_equal(storm_iter_revision(iter), version->revision);
    size_t size =
        (size_t)snprintf(value, sizeof value, "%llu", (unsigned long long)version->revision);
    if (walk->options.keys_only) {
        assert_int_equal(storm_iter_value(iter).size, 0);
        assert_int_equal(storm_iter_meta(iter).modified_ms, 0);
    } else {
        assert_int_equal(storm_iter_value(iter).size, size);
        assert_memory_equal(storm_iter_value(iter).data, value, size);
        assert_int_equal(storm_iter_meta(iter).modified_ms, version->revision);
    }
}

/*
 * A move has ended that was to find the nearest key from `from` on. Go on from every stop, now with
 * the same iterator, now with another, now the other way. The key where it ends up, or -1.
 */
static int finish(struct walk *walk, int from, int step)
{
    struct model *model = walk->model;
    int last = -1; /* where it stopped before, in this direction */
    while (storm_iter_status(walk->iter) == STORM_MORE) {
        uint8_t room[KEY_ROOM];
        int expected = nearest(walk, from, step);
        struct storm_slice key = storm_iter_key(walk->iter);
        int at = number_of(model, key);
        assert_false(storm_iter_valid(walk->iter));
        assert_true(walk->options.max_skipped != 0);
        assert_true(is_in_range(walk, (size_t)at));
        assert_true((at - from) * step >= 0);
        assert_true(expected < 0 || (expected - at) * step >= 0);
        assert_true(last < 0 || (at - last) * step > 0);
        last = at;
        model->stops++;
        uint64_t way = below(model, 8);
        if (way < 4) {
            storm_iter_resume(walk->iter);
            continue;
        }
        if (way == 7) {
            step = -step;
            from = at;
            last = -1;
        }
        if (way >= 6) {
            memcpy(room, key.data, key.size);
            key = storm_bytes(room, key.size);
            create(walk);
        }
        if (step > 0)
            storm_iter_seek(walk->iter, key);
        else
            storm_iter_seek_back(walk->iter, key);
    }
    int expected = nearest(walk, from, step);
    check_at(walk, expected);
    return expected;
}

static int begin(struct walk *walk, uint64_t way)
{
    struct model *model = walk->model;
    int k = (int)below(model, KEYS);
    switch (way) {
    case 0:
        storm_iter_first(walk->iter);
        return finish(walk, 0, 1);
    case 1:
        storm_iter_last(walk->iter);
        return finish(walk, KEYS - 1, -1);
    case 2:
        storm_iter_seek(walk->iter, model->keys[k]);
        return finish(walk, k, 1);
    default:
        storm_iter_seek_back(walk->iter, model->keys[k]);
        return finish(walk, k, -1);
    }
}

static void check_walks(struct walk *walk)
{
    static const int wills[] = {0, 100, 30, 70}; /* forward, in percent */
    create(walk);
    for (uint64_t way = 0; way < 4; way++) {
        int at = begin(walk, way);
        int will = wills[below(walk->model, 4)];
        will = way == 0 ? 100 : way == 1 ? 0 : will;
        for (int steps = 0; at >= 0 && steps < KEYS; steps++) {
            int step = (int)below(walk->model, 100) < will ? 1 : -1;
            if (step > 0)
                storm_iter_next(walk->iter);
            else
                storm_iter_prev(walk->iter);
            at = finish(walk, at + step, step);
        }
    }
    storm_iter_destroy(walk->iter);
    walk->iter = NULL;
}

static struct storm_slice some_key(struct model *model)
{
    return below(model, 2) == 0 ? storm_bytes(NULL, 0) : model->keys[below(model, KEYS)];
}

static void check_combinations(struct model *model)
{
    static const uint64_t limits[] = {0, 1, 2, 3, 7, 100};
    static const char *const prefixes[] = {"",         "a",    "a\xff",    "b",
                                           "\xfe\xff", "\xff", "\xff\xff", "c"};
    for (size_t l = 0; l < 6; l++) {
        for (size_t p = 0; p < 8; p++) {
            storm_snapshot *snapshot = model->snapshots[below(model, SNAPSHOTS)];
            struct walk walk = {.model = model,
                                .options = {.snapshot = snapshot,
                                            .start = some_key(model),
                                            .end = some_key(model),
                                            .prefix = storm_text(prefixes[p]),
                                            .keys_only = below(model, 2) == 0,
                                            .max_skipped = limits[l]},
                                .revision = model->revision};
            if (snapshot != NULL)
                walk.revision = storm_snapshot_revision(snapshot);
            check_walks(&walk);
        }
    }
}

/* A tree so small that some hundred entries fill three levels; versions stay for the snapshots. */
static struct model *create_model(uint64_t seed)
{
    struct model *model = calloc(1, sizeof *model);
    model->random = seed;
    model->now_ms = 1000000;
    model->tuning = (struct sdb_tuning){.table_bytes = 1 << 10,
                                        .base_bytes = 2 << 10,
                                        .multiplier = 2,
                                        .level0_files = 3,
                                        .level0_stall = 12,
                                        .settle_ns = 1000000000,
                                        .retry_ns = 1000000};
    make_keys(model);
    store_init(&model->store, seed);
    model->store.tuning = &model->tuning;
    model->store.options.block_bytes = 1024;
    sim_clock_set(model->store.disk, model->now_ms);
    store_open(&model->store);
    return model;
}

static void destroy_model(struct model *model)
{
    for (size_t i = 0; i < SNAPSHOTS; i++)
        storm_snapshot_release(model->snapshots[i]);
    store_fini(&model->store);
    free(model);
}

static void iterators_agree_with_brute_force_in_all_combinations(void **state)
{
    (void)state;
    uint64_t seed = random_seed(1);
    uint64_t stops = 0;
    for (uint64_t round = 0; round < 4; round++) {
        struct model *model = create_model(seed + round);
        for (int phase = 0; phase < 8; phase++) {
            for (int i = 0; i < 80; i++)
                write_key(model, below(model, 3) == 0 ? HOT : below(model, KEYS));
            for (int i = 0; phase == 7 && i < 200; i++)
                write_key(model, HOT);
            if (phase % 3 != 2 && model->snapshots[phase % SNAPSHOTS] == NULL)
                model->snapshots[phase % SNAPSHOTS] = storm_snapshot_create(model->store.db);
            if (phase < 7)
                assert_int_equal(storm_flush(model->store.db, NULL), STORM_OK);
            if (phase == 2) {
                struct storm_slice all = {NULL, 0};
                assert_int_equal(storm_compact(model->store.db, all, all, NULL, NULL), STORM_OK);
            }
            model->now_ms += 500;
            sim_clock_set(model->store.disk, model->now_ms);
            for (int i = 0; phase > 3 && i < 8; i++)
                check_combinations(model);
        }
        stops += model->stops;
        destroy_model(model);
    }
    printf("stopped %llu times at the limit\n", (unsigned long long)stops);
    assert_true(stops > 5000);
}

/* ---- Single promises ---- */

static struct store store;

static int set_up(void **state)
{
    (void)state;
    store_init(&store, 1);
    store_open(&store);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_fini(&store);
    return 0;
}

static storm_iter *create_iter(const struct storm_iter_options *options)
{
    storm_iter *iter;
    assert_int_equal(storm_iter_create(store.db, options, &iter), STORM_OK);
    return iter;
}

static void assert_at(const storm_iter *iter, storm_status status, const char *key)
{
    assert_int_equal(storm_iter_status(iter), status);
    assert_int_equal(storm_iter_valid(iter), status == STORM_OK && key[0] != '\0');
    assert_int_equal(storm_iter_key(iter).size, strlen(key));
    assert_memory_equal(storm_iter_key(iter).data, key, strlen(key));
}

/* "a" and "z" live, ten keys between them that are not: "d0" to "d9". */
static void put_frame(void)
{
    assert_int_equal(put_text(store.db, "a", "1"), STORM_OK);
    assert_int_equal(put_text(store.db, "z", "1"), STORM_OK);
}

/* Ten entries are in the way, each way, and the limit tells them from nine. */
static void check_ten(const storm_snapshot *snapshot)
{
    for (uint64_t limit = 9; limit <= 11; limit++) {
        struct storm_iter_options options = {.snapshot = snapshot, .max_skipped = limit};
        storm_iter *iter = create_iter(&options);
        storm_iter_first(iter);
        assert_at(iter, STORM_OK, "a");
        storm_iter_next(iter);
        if (limit == 9) {
            assert_at(iter, STORM_MORE, "d9");
            assert_int_equal(storm_iter_value(iter).size, 0);
            storm_iter_next(iter); /* not valid, so nothing happens */
            assert_at(iter, STORM_MORE, "d9");
            storm_iter_resume(iter);
        }
        assert_at(iter, STORM_OK, "z");
        storm_iter_resume(iter); /* has not stopped, so nothing happens */
        assert_at(iter, STORM_OK, "z");
        storm_iter_prev(iter);
        if (limit == 9) {
            assert_at(iter, STORM_MORE, "d0");
            storm_iter_resume(iter);
        }
        assert_at(iter, STORM_OK, "a");
        storm_iter_destroy(iter);
    }
}

static void max_skipped_counts_deletes(void **state)
{
    (void)state;
    char key[8];
    put_frame();
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "d%d", i);
        assert_int_equal(storm_delete(store.db, storm_text(key)), STORM_OK);
    }
    check_ten(NULL);
}

static void put_expiring(const char *key, uint64_t expires_ms)
{
    storm_batch *batch = storm_batch_create();
    struct storm_op op = {.kind = STORM_PUT,
                          .key = storm_text(key),
                          .value = storm_text("v"),
                          .meta = {.expires_ms = expires_ms}};
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    storm_batch_destroy(batch);
}

static void max_skipped_counts_what_has_expired(void **state)
{
    (void)state;
    char key[8];
    sim_clock_set(store.disk, 5000);
    put_frame();
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "d%d", i);
        put_expiring(key, 5000);
    }
    put_expiring("y", 5001);
    sim_clock_set(store.disk, 5001);
    assert_int_equal(storm_delete(store.db, storm_text("y")), STORM_OK);
    /* "y" is two entries more, so eleven do and ten do not. */
    struct storm_iter_options options = {.max_skipped = 10};
    storm_iter *iter = create_iter(&options);
    storm_iter_seek(iter, storm_text("b"));
    assert_at(iter, STORM_MORE, "y");
    storm_iter_destroy(iter);
    options.max_skipped = 12;
    iter = create_iter(&options);
    storm_iter_seek(iter, storm_text("b"));
    assert_at(iter, STORM_OK, "z");
    storm_iter_destroy(iter);
}

static void max_skipped_counts_what_a_snapshot_does_not_see(void **state)
{
    (void)state;
    char key[8];
    put_frame();
    storm_snapshot *snapshot = storm_snapshot_create(store.db);
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "d%d", i);
        assert_int_equal(put_text(store.db, key, "new"), STORM_OK);
    }
    check_ten(snapshot);
    storm_snapshot_release(snapshot);
}

static void a_move_gets_through_any_number_of_versions_of_one_key(void **state)
{
    (void)state;
    put_frame();
    for (int i = 0; i < 500; i++)
        assert_int_equal(put_text(store.db, "m", i % 3 == 0 ? "x" : "y"), STORM_OK);
    storm_snapshot *snapshot = storm_snapshot_create(store.db);
    for (int i = 0; i < 500; i++)
        assert_int_equal(storm_delete(store.db, storm_text("m")), STORM_OK);
    struct storm_iter_options options = {.snapshot = snapshot, .max_skipped = 1};
    storm_iter *iter = create_iter(&options);
    storm_iter_first(iter);
    storm_iter_next(iter);
    assert_at(iter, STORM_OK, "m");
    storm_iter_next(iter);
    assert_at(iter, STORM_OK, "z");
    storm_iter_prev(iter);
    assert_at(iter, STORM_OK, "m");
    storm_iter_prev(iter);
    assert_at(iter, STORM_OK, "a");
    storm_iter_destroy(iter);
    storm_snapshot_release(snapshot);
}

static void a_prefix_of_0xff_has_no_end_and_others_are_raised_before_their_tail(void **state)
{
    (void)state;
    static const struct {
        const char *prefix, *end, *expected;
    } cases[] = {
        {"\xff", "", ""},        {"\xff\xff", "", ""},      {"a\xff\xff", "", "b"},
        {"a\xff\xff", "b", "b"}, {"a\xff\xff", "aa", "aa"}, {"a\xff\xff", "c", "b"},
        {"abc", "", "abd"},      {"abc", "abcd", "abcd"},   {"\xff", "\xff\x01", "\xff\x01"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sdb_bounds bounds;
        struct storm_iter_options options = {.prefix = storm_text(cases[i].prefix),
                                             .end = storm_text(cases[i].end)};
        assert_int_equal(sdb_bounds_init(&bounds, &options), STORM_OK);
        assert_int_equal(bounds.end.size, strlen(cases[i].expected));
        assert_memory_equal(bounds.end.data, cases[i].expected, bounds.end.size);
        assert_int_equal(bounds.start.size, strlen(cases[i].prefix));
        sdb_bounds_fini(&bounds);
    }
}

static void a_seek_may_borrow_the_iterators_own_key(void **state)
{
    (void)state;
    char key[64];
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "%d a rather long key of several words", i % 100);
        assert_int_equal(put_text(store.db, key, "v"), STORM_OK);
        if (i % 20 == 19)
            assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    }
    storm_iter *iter = create_iter(NULL);
    for (storm_iter_first(iter); storm_iter_valid(iter); storm_iter_next(iter)) {
        snprintf(key, sizeof key, "%.*s", (int)storm_iter_key(iter).size,
                 (const char *)storm_iter_key(iter).data);
        storm_iter_seek(iter, storm_iter_key(iter));
        assert_at(iter, STORM_OK, key);
        storm_iter_seek_back(iter, storm_iter_key(iter));
        assert_at(iter, STORM_OK, key);
    }
    storm_iter_destroy(iter);
}

static void a_scan_of_keys_alone_does_not_mind_malformed_values(void **state)
{
    (void)state;
    struct sdb_lsm *db = sdb_lsm(store.db);
    assert_int_equal(put_text(store.db, "a", "1"), STORM_OK);
    /* Past the API, which would not write one: a value whose flags no release knows. */
    assert_int_equal(sdb_memtable_insert(db->active.table, storm_text("b"),
                                         sdb_tag(1, SDB_KIND_PUT), storm_text("\x80")),
                     STORM_OK);
    struct storm_iter_options options = {.keys_only = true};
    storm_iter *iter = create_iter(&options);
    storm_iter_last(iter);
    assert_at(iter, STORM_OK, "b");
    storm_iter_destroy(iter);
    iter = create_iter(NULL);
    storm_iter_last(iter);
    assert_at(iter, STORM_CORRUPT, "");
    storm_iter_destroy(iter);
}

/* Whichever allocation fails, a move says so or is right, and the next try is right. */
static void missing_memory_fails_one_move_not_the_iterator(void **state)
{
    (void)state;
    for (int i = 0; i < 60; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%02d", i);
        assert_int_equal(i % 3 == 0 ? storm_delete(store.db, storm_text(key))
                                    : put_text(store.db, key, "value"),
                         STORM_OK);
        if (i % 20 == 19)
            assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    }
    uint64_t nth = 0;
    bool has_failed;
    do {
        struct storm_iter_options options = {
            .start = storm_text("k00"), .prefix = storm_text("k"), .max_skipped = 2};
        storm_iter *iter, *others[8];
        for (size_t i = 0; i < 8; i++) /* so that none that rests saves the next its memory */
            assert_int_equal(storm_iter_create(store.db, NULL, &others[i]), STORM_OK);
        alloc_fail_at(++nth, false);
        storm_status status = storm_iter_create(store.db, &options, &iter);
        if (status == STORM_OK) {
            int moves = 0;
            for (storm_iter_last(iter); storm_iter_valid(iter); storm_iter_prev(iter))
                moves++;
            status = storm_iter_status(iter);
            assert_true(moves == 40 || status == STORM_NO_MEMORY);
        }
        has_failed = alloc_failures() > 0;
        alloc_fail_at(0, false);
        assert_true(status == STORM_OK || status == STORM_NO_MEMORY);
        assert_true(status == STORM_OK || has_failed);
        if (iter != NULL) {
            storm_iter_seek(iter, storm_text("k31"));
            assert_at(iter, STORM_OK, "k31");
            storm_iter_destroy(iter);
        }
        for (size_t i = 0; i < 8; i++)
            storm_iter_destroy(others[i]);
    } while (has_failed);
    assert_true(nth > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(iterators_agree_with_brute_force_in_all_combinations),
        cmocka_unit_test_setup_teardown(max_skipped_counts_deletes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(max_skipped_counts_what_has_expired, set_up, tear_down),
        cmocka_unit_test_setup_teardown(max_skipped_counts_what_a_snapshot_does_not_see, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_move_gets_through_any_number_of_versions_of_one_key,
                                        set_up, tear_down),
        cmocka_unit_test(a_prefix_of_0xff_has_no_end_and_others_are_raised_before_their_tail),
        cmocka_unit_test_setup_teardown(a_seek_may_borrow_the_iterators_own_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_scan_of_keys_alone_does_not_mind_malformed_values, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(missing_memory_fails_one_move_not_the_iterator, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
