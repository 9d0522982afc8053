/*
 * Iterators that go along rows of decoded entries, and iterators that rest between two users: long
 * walks over tables, memtables and what lies between them, with changes of direction anywhere,
 * against all that was ever written. Keys share more than the sixteen bytes that a merge compares
 * first, or fewer; a row ends at a block's border, at a restart, at a version, a delete, a range
 * delete, a bound.
 */
#include "store.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "random.h"

enum { KEYS = 400, KEY_ROOM = 40, WRITES = 8000, SNAPSHOTS = 4 };

/* One write of the key `from`, or a range delete of the keys from `from` up to, not with, `to`. */
struct write {
    uint64_t revision, expires_ms;
    int from, to;
    bool is_put;
};

struct history {
    struct store store;
    struct sdb_tuning tuning;
    uint64_t random, now_ms, revision;
    const char *head; /* of all keys */
    struct write writes[WRITES];
    size_t count;
    storm_snapshot *snapshots[SNAPSHOTS];
};

static uint64_t below(struct history *history, uint64_t bound)
{
    return random_below(&history->random, bound);
}

static struct storm_slice key_at(const struct history *history, char room[KEY_ROOM], int k)
{
    return storm_bytes(room, (size_t)snprintf(room, KEY_ROOM, "%s%04d", history->head, k));
}

static void remember(struct history *history, struct write write)
{
    assert_true(history->count < WRITES);
    write.revision = history->revision;
    history->writes[history->count++] = write;
}

static void put(struct history *history, int k, uint64_t expires_ms)
{
    char room[KEY_ROOM], value[64];
    struct storm_op op = {.kind = STORM_PUT, .key = key_at(history, room, k)};
    unsigned long long next = (unsigned long long)history->revision + 1;
    op.value = storm_bytes(value, (size_t)snprintf(value, sizeof value, "value %llu", next));
    op.meta.expires_ms = expires_ms;
    op.meta.modified_ms = k % 5 == 0 ? next : 0;
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    assert_int_equal(storm_write(history->store.db, batch, NULL, &history->revision), STORM_OK);
    storm_batch_destroy(batch);
    remember(history, (struct write){.from = k, .expires_ms = expires_ms, .is_put = true});
}

static void delete_range(struct history *history, int from, int to)
{
    char rooms[2][KEY_ROOM];
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_delete_range(batch, key_at(history, rooms[0], from),
                                              key_at(history, rooms[1], to)),
                     STORM_OK);
    assert_int_equal(storm_write(history->store.db, batch, NULL, &history->revision), STORM_OK);
    storm_batch_destroy(batch);
    remember(history, (struct write){.from = from, .to = to});
}

static void write_some(struct history *history, int count)
{
    for (int i = 0; i < count; i++) {
        char room[KEY_ROOM];
        int k = (int)below(history, KEYS);
        uint64_t way = below(history, 40);
        if (way == 0) {
            delete_range(history, k, k + 1 + (int)below(history, 30));
        } else if (way < 6) {
            storm_batch *batch = storm_batch_create();
            assert_int_equal(storm_batch_delete(batch, key_at(history, room, k)), STORM_OK);
            assert_int_equal(storm_write(history->store.db, batch, NULL, &history->revision),
                             STORM_OK);
            storm_batch_destroy(batch);
            remember(history, (struct write){.from = k});
        } else {
            put(history, k, way == 6 ? history->now_ms + below(history, 3) * 1000 : 0);
        }
    }
}

/* What a reader at `revision` sees of key k, or NULL. */
static const struct write *seen(const struct history *history, int k, uint64_t revision)
{
    for (size_t i = history->count; i-- > 0;) {
        const struct write *write = &history->writes[i];
        bool is_range = write->to != 0;
        bool hits = is_range ? write->from <= k && k < write->to : write->from == k;
        if (write->revision > revision || !hits)
            continue;
        bool is_over = write->expires_ms != 0 && write->expires_ms <= history->now_ms;
        return write->is_put && !is_over ? write : NULL;
    }
    return NULL;
}

/* ---- Walks ---- */

struct walk {
    const struct write *shown[KEYS]; /* NULL: not to be seen, or out of bounds */
    storm_iter *iter;
    bool keys_only;
};

static int nearest(const struct walk *walk, int k, int step)
{
    while (k >= 0 && k < KEYS && walk->shown[k] == NULL)
        k += step;
    return k >= 0 && k < KEYS ? k : -1;
}

static void check_at(const struct history *history, const struct walk *walk, int k)
{
    const storm_iter *iter = walk->iter;
    char room[KEY_ROOM], value[64];
    assert_int_equal(storm_iter_status(iter), STORM_OK);
    assert_int_equal(storm_iter_valid(iter), k >= 0);
    if (k < 0)
        return;
    const struct write *write = walk->shown[k];
    struct storm_slice key = storm_iter_key(iter);
    assert_int_equal(sdb_key_compare(key, key_at(history, room, k)), 0);
    assert_int_equal(storm_iter_revision(iter), write->revision);
    if (walk->keys_only)
        return;
    size_t size =
        (size_t)snprintf(value, sizeof value, "value %llu", (unsigned long long)write->revision);
    assert_int_equal(storm_iter_value(iter).size, size);
    assert_memory_equal(storm_iter_value(iter).data, value, size);
    assert_int_equal(storm_iter_meta(iter).modified_ms, k % 5 == 0 ? write->revision : 0);
    assert_int_equal(storm_iter_meta(iter).expires_ms, write->expires_ms);
}

static int start_somewhere(struct history *history, struct walk *walk)
{
    char room[KEY_ROOM];
    int k = (int)below(history, KEYS);
    switch (below(history, 6)) {
    case 0:
        storm_iter_first(walk->iter);
        return nearest(walk, 0, 1);
    case 1:
        storm_iter_last(walk->iter);
        return nearest(walk, KEYS - 1, -1);
    case 2:
    case 3:
        storm_iter_seek(walk->iter, key_at(history, room, k));
        return nearest(walk, k, 1);
    default:
        storm_iter_seek_back(walk->iter, key_at(history, room, k));
        return nearest(walk, k, -1);
    }
}

/* Stretches of up to 60 steps one way, between them a turn, another start, or some writes. */
static void go(struct history *history, struct walk *walk)
{
    for (int stretch = 0; stretch < 12; stretch++) {
        int at = start_somewhere(history, walk);
        for (int turns = 0; turns < 6 && at >= 0; turns++) {
            int step = below(history, 2) == 0 ? 1 : -1;
            uint64_t steps = below(history, turns % 2 == 0 ? 60 : 3);
            check_at(history, walk, at);
            while (steps-- > 0 && at >= 0) {
                if (step > 0)
                    storm_iter_next(walk->iter);
                else
                    storm_iter_prev(walk->iter);
                at = nearest(walk, at + step, step);
                check_at(history, walk, at);
            }
        }
        if (stretch % 4 == 3) /* they change nothing of what the iterator sees */
            write_some(history, 5);
    }
}

static void walk_with(struct history *history, const storm_snapshot *snapshot, bool has_bounds)
{
    struct walk walk = {.keys_only = below(history, 4) == 0};
    char rooms[2][KEY_ROOM];
    int start = has_bounds ? (int)below(history, KEYS) : 0;
    int end = has_bounds ? start + 1 + (int)below(history, 100) : KEYS;
    struct storm_iter_options options = {.snapshot = snapshot, .keys_only = walk.keys_only};
    if (has_bounds) {
        options.start = key_at(history, rooms[0], start);
        options.end = key_at(history, rooms[1], end);
    }
    uint64_t revision = snapshot != NULL ? storm_snapshot_revision(snapshot) : history->revision;
    for (int k = start; k < end && k < KEYS; k++)
        walk.shown[k] = seen(history, k, revision);
    assert_int_equal(storm_iter_create(history->store.db, &options, &walk.iter), STORM_OK);
    assert_false(storm_iter_valid(walk.iter));
    assert_int_equal(storm_iter_key(walk.iter).size, 0);
    go(history, &walk);
    storm_iter_destroy(walk.iter);
}

static void walk_everywhere(const char *head, uint64_t seed)
{
    struct history *history = calloc(1, sizeof *history);
    history->head = head;
    history->random = seed;
    history->now_ms = 1000000;
    history->tuning = (struct sdb_tuning){.table_bytes = 4 << 10,
                                          .base_bytes = 8 << 10,
                                          .multiplier = 2,
                                          .level0_files = 3,
                                          .level0_stall = 12,
                                          .settle_ns = 1000000000,
                                          .retry_ns = 1000000};
    store_init(&history->store, seed);
    history->store.tuning = &history->tuning;
    history->store.options.block_bytes = 2048;
    sim_clock_set(history->store.disk, history->now_ms);
    store_open(&history->store);
    for (int k = 0; k < KEYS; k++)
        put(history, k, 0);
    for (int phase = 0; phase < 7; phase++) {
        write_some(history, phase == 0 ? 5 : 60);
        if (phase < SNAPSHOTS)
            history->snapshots[phase] = storm_snapshot_create(history->store.db);
        if (phase != 5)
            assert_int_equal(storm_flush(history->store.db, NULL), STORM_OK);
        if (phase == 0 || phase == 6) {
            struct storm_slice all = {NULL, 0};
            assert_int_equal(storm_compact(history->store.db, all, all, NULL, NULL), STORM_OK);
        }
        for (int i = 0; i < 8; i++)
            walk_with(history, i % 2 == 0 ? NULL : history->snapshots[below(history, SNAPSHOTS)],
                      i % 4 >= 2);
        history->now_ms += 500;
        sim_clock_set(history->store.disk, history->now_ms);
    }
    for (size_t i = 0; i < SNAPSHOTS; i++)
        storm_snapshot_release(history->snapshots[i]);
    store_fini(&history->store);
    free(history);
}

static void walks_along_rows_agree_with_all_that_was_written(void **state)
{
    (void)state;
    uint64_t seed = random_seed(1);
    walk_everywhere("", seed);
    walk_everywhere("all of these keys share this: ", seed + 1);
}

/* ---- At rest ---- */

static struct storm_stats figures(storm_db *db)
{
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(db, &stats), STORM_OK);
    return stats;
}

static void scan_a_little(storm_db *db, const char *from)
{
    storm_iter *iter;
    assert_int_equal(storm_iter_create(db, NULL, &iter), STORM_OK);
    storm_iter_seek(iter, storm_text(from));
    assert_true(storm_iter_valid(iter));
    storm_iter_destroy(iter);
}

static void an_iterator_at_rest_keeps_neither_blocks_nor_what_the_store_is_done_with(void **state)
{
    (void)state;
    struct store store;
    store_init(&store, random_seed(3));
    store.options.cache_bytes = 0;
    store.options.memtable_bytes = 4 << 20;
    store.options.write_buffer_bytes = 16 << 20;
    store_open(&store);
    char *value = calloc(1, 300001);
    memset(value, 'v', 300000);
    assert_int_equal(put_text(store.db, "a", value), STORM_OK);
    assert_int_equal(put_text(store.db, "b", value), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);

    uint64_t before = figures(store.db).memory_cache;
    scan_a_little(store.db, "b");
    assert_int_equal(figures(store.db).memory_cache, before);

    for (int i = 0; i < 4; i++)
        assert_int_equal(put_text(store.db, "d", value), STORM_OK);
    scan_a_little(store.db, "d");
    assert_true(figures(store.db).memory_memtables > 4 * 300000);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    /* The flush is said to be done before the memtable is let go: up to ten seconds for that. */
    const struct timespec pause = {0, 1000000};
    for (int i = 0; i < 10000 && figures(store.db).memory_memtables > 4 * 300000; i++)
        nanosleep(&pause, NULL);
    assert_true(figures(store.db).memory_memtables < 4 * 300000);
    free(value);
    store_fini(&store);
}

/* More at once than rest afterwards; each has positions and options of its own. */
static void many_iterators_rest_and_begin_anew(void **state)
{
    enum { MANY = 12 };
    (void)state;
    struct store store;
    store_init(&store, random_seed(4));
    store_open(&store);
    assert_int_equal(put_text(store.db, "a", "1"), STORM_OK);
    assert_int_equal(put_text(store.db, "b", "2"), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    storm_snapshot *snapshot = storm_snapshot_create(store.db);
    for (int round = 0; round < 3; round++) {
        storm_iter *iters[MANY];
        assert_int_equal(put_text(store.db, "c", "3"), STORM_OK);
        for (size_t i = 0; i < MANY; i++) {
            struct storm_iter_options options = {.keys_only = i % 2 == 0,
                                                 .max_skipped = i % 4 == 1 ? 1 : 0,
                                                 .snapshot = i % 3 == 0 ? snapshot : NULL,
                                                 .prefix = storm_text(i % 5 == 0 ? "b" : "")};
            assert_int_equal(storm_iter_create(store.db, &options, &iters[i]), STORM_OK);
            assert_false(storm_iter_valid(iters[i]));
            storm_iter_last(iters[i]);
        }
        for (size_t i = 0; i < MANY; i++) {
            const char *expected = i % 5 == 0 || i % 3 == 0 ? "b" : "c";
            assert_memory_equal(storm_iter_key(iters[i]).data, expected, 1);
            assert_int_equal(storm_iter_value(iters[i]).size, i % 2 == 0 ? 0 : 1);
            storm_iter_prev(iters[i]);
            assert_int_equal(storm_iter_valid(iters[i]), i % 5 != 0);
            storm_iter_destroy(iters[i]);
        }
    }
    storm_snapshot_release(snapshot);
    store_fini(&store);
}

struct scanner {
    pthread_t thread;
    storm_db *db;
    unsigned wrong;
};

static void *scan_again_and_again(void *arg)
{
    struct scanner *scanner = arg;
    for (int i = 0; i < 300; i++) {
        storm_iter *iter;
        if (storm_iter_create(scanner->db, NULL, &iter) != STORM_OK) {
            scanner->wrong++;
            continue;
        }
        storm_iter_seek(iter, storm_text("a"));
        for (int k = 0; k < 3; k++, storm_iter_next(iter))
            scanner->wrong +=
                !storm_iter_valid(iter) || storm_iter_key(iter).data[0] != (uint8_t)('a' + k);
        storm_iter_destroy(iter);
    }
    return NULL;
}

/* Iterators rest and are taken while new views discard them. */
static void threads_share_the_iterators_that_rest(void **state)
{
    (void)state;
    struct store store;
    struct scanner scanners[3];
    store_init(&store, random_seed(5));
    store_open(&store);
    for (char key[2] = "a"; key[0] <= 'c'; key[0]++)
        assert_int_equal(put_text(store.db, key, "1"), STORM_OK);
    for (size_t i = 0; i < 3; i++) {
        scanners[i] = (struct scanner){.db = store.db};
        assert_int_equal(
            pthread_create(&scanners[i].thread, NULL, scan_again_and_again, &scanners[i]), 0);
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(put_text(store.db, i % 2 == 0 ? "a" : "c", "2"), STORM_OK);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    }
    for (size_t i = 0; i < 3; i++) {
        pthread_join(scanners[i].thread, NULL);
        assert_int_equal(scanners[i].wrong, 0);
    }
    store_fini(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walks_along_rows_agree_with_all_that_was_written),
        cmocka_unit_test(an_iterator_at_rest_keeps_neither_blocks_nor_what_the_store_is_done_with),
        cmocka_unit_test(many_iterators_rest_and_begin_anew),
        cmocka_unit_test(threads_share_the_iterators_that_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
