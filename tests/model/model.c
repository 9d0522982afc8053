/*
 * The model test: random operations on a store and on a plain array, which must always agree.
 *
 *   model [operations [seed]]
 *
 * The store lives on the simulated disk with memtables of 64 KiB, so that flushes, tables and
 * recoveries happen all the time, and half of the time with tables so small that compaction does,
 * too. Operations: put, delete, touch, range delete, batches of those with conditions and expiry,
 * get, many gets at once, walks of iterators in both directions within bounds and prefixes, with
 * and without values, with and without a limit to what a move may skip, snapshots (each keeps a
 * copy of the array), flush, clock steps, reopening after a clean close, after kill -9 and after a
 * power loss that drops everything unsynced (every write is synced, so nothing may be missing). A
 * change feed must show what was committed (feed.h). The seed is printed; with it a failure comes
 * again. Any disagreement ends the program with 1.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "feed.h"
#include "lsm/db/db.h"
#include "os/sim.h"
#include "random.h"

enum { KEYS = 1500, SNAPSHOTS = 4, BATCH_MAX = 24, VALUE_MAX = 9000 };

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: operation %" PRIu64 ": %s does not hold\n", __FILE__,          \
                    __LINE__, operation, #condition);                                              \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* What the model knows of a key. The value follows from the revision that put it there. */
struct entry {
    bool exists;
    uint64_t revision;
    uint64_t put_revision; /* the same, unless it was touched since */
    uint64_t expires_ms;
    uint32_t size;
};

struct view {
    struct entry entries[KEYS];
    storm_snapshot *snapshot;
};

static uint64_t operation;
static uint64_t random_state;
static struct sim_disk *disk;
static struct sdb_errors errors;
static struct sdb_os os;
static struct storm_options options;
static storm_db *db;
static struct entry now[KEYS];
static struct view snapshots[SNAPSHOTS];
static uint64_t revision;
static uint64_t clock_ms = 1000000;
static uint64_t reopens, losses, conflicts, walked, stopped;
static struct feed_model *feed;

static uint64_t below(uint64_t bound)
{
    return random_below(&random_state, bound);
}

/* Keys in order of their number: shared prefixes, different lengths, bytes 0 and 255. */
static struct storm_slice key_of(size_t number)
{
    static char keys[8][40];
    static unsigned turn;
    char *key = keys[turn++ % 8];
    int size = snprintf(key, 40, "k%04zu", number);
    for (size_t i = 0; i < number % 9; i++)
        key[size++] = (char)(number % 2 == 0 ? 0 : 255);
    return storm_bytes(key, (size_t)size);
}

static void fill_value(uint8_t *to, uint64_t of_revision, size_t key, size_t size)
{
    uint64_t state = of_revision * KEYS + key;
    for (size_t i = 0; i < size; i++)
        to[i] = (uint8_t)(i % 3 == 0 ? random_u64(&state) : 'v');
}

static bool is_live(const struct entry *entry)
{
    return entry->exists && (entry->expires_ms == 0 || entry->expires_ms > clock_ms);
}

static void check_value(const struct entry *entry, size_t key, struct storm_slice bytes,
                        const struct storm_meta *meta, uint64_t found_revision)
{
    static uint8_t expected[VALUE_MAX];
    CHECK(found_revision == entry->revision);
    CHECK(meta->expires_ms == entry->expires_ms);
    CHECK(bytes.size == entry->size);
    fill_value(expected, entry->put_revision, key, entry->size);
    CHECK(bytes.size == 0 || memcmp(bytes.data, expected, bytes.size) == 0);
}

static void check_get(const struct entry *entries, const storm_snapshot *snapshot, size_t key)
{
    struct storm_value value;
    storm_status status = storm_get(db, snapshot, key_of(key), &value);
    if (is_live(&entries[key])) {
        CHECK(status == STORM_OK);
        check_value(&entries[key], key, value.bytes, &value.meta, value.revision);
    } else {
        CHECK(status == STORM_NOT_FOUND);
    }
    storm_value_release(&value);
}

static void check_get_many(const struct entry *entries, const storm_snapshot *snapshot)
{
    enum { MANY = 160 };
    static struct storm_lookup lookups[MANY];
    static char rooms[MANY][40];
    size_t numbers[MANY];
    size_t count = below(MANY + 1);
    size_t first = below(KEYS);
    bool is_run = below(2) == 0;
    uint64_t of = 0;
    for (size_t i = 0; i < count; i++) {
        numbers[i] = is_run ? (first + i) % KEYS : below(KEYS);
        struct storm_slice key = key_of(numbers[i]);
        memcpy(rooms[i], key.data, key.size);
        lookups[i].key = storm_bytes(rooms[i], key.size);
    }
    CHECK(storm_get_many(db, snapshot, lookups, count, &of) == STORM_OK);
    CHECK(of == (snapshot != NULL ? storm_snapshot_revision(snapshot) : revision));
    for (size_t i = 0; i < count; i++) {
        const struct entry *entry = &entries[numbers[i]];
        struct storm_value *value = &lookups[i].value;
        CHECK(lookups[i].status == (is_live(entry) ? STORM_OK : STORM_NOT_FOUND));
        if (is_live(entry) && below(4) == 0)
            CHECK(storm_value_detach(value) == STORM_OK);
        if (is_live(entry))
            check_value(entry, numbers[i], value->bytes, &value->meta, value->revision);
        storm_value_release(value);
    }
}

/* ---- Writing ---- */

static size_t value_size(void)
{
    uint64_t kind = below(100);
    return kind < 5 ? 0 : kind < 95 ? below(200) : kind < 99 ? below(3000) : below(VALUE_MAX);
}

/* A condition on `entry`, and whether it holds. */
static bool choose_condition(struct storm_op *op, const struct entry *entry, uint64_t *listed)
{
    bool exists = is_live(entry);
    op->condition = (enum storm_condition)below(5);
    listed[0] = revision + 1000;
    listed[1] = below(2) == 0 ? entry->revision : below(revision + 1);
    op->revisions = listed;
    op->revision_count = 2;
    bool is_listed = exists && listed[1] == entry->revision;
    switch (op->condition) {
    case STORM_IF_ABSENT:
        return !exists;
    case STORM_IF_PRESENT:
        return exists;
    case STORM_IF_MATCH:
        return is_listed;
    case STORM_IF_NONE_MATCH:
        return !is_listed;
    default:
        return true;
    }
}

/* A range delete from key `first`, mostly of few keys. What it makes of the model: `end`. */
static struct storm_op choose_range(size_t first, size_t *end)
{
    uint64_t kind = below(40);
    *end = first + (kind == 0 ? below(KEYS) : below(20));
    struct storm_op op = {.kind = STORM_DELETE_RANGE, .key = key_of(first)};
    if (*end < KEYS)
        op.end = key_of(*end);
    else
        *end = KEYS;
    if (first == 0 && kind % 2 == 0)
        op.key.size = 0;
    return op;
}

enum { ONE_KEY, FROM_A_KEY, FROM_THE_FIRST };

/* Whether a later range delete of the batch covers operation `i`: then it was written as a
 * delete. */
static bool is_covered(const size_t *keys, const size_t *ends, const int *is_range, size_t i,
                       size_t count)
{
    for (size_t j = i + 1; j < count; j++) {
        if (is_range[j] && keys[i] >= keys[j] && keys[i] < ends[j])
            return true;
    }
    return false;
}

static void write_batch(storm_batch *batch, size_t count)
{
    static uint8_t value[VALUE_MAX];
    struct entry after[BATCH_MAX];
    size_t keys[BATCH_MAX];
    int is_range[BATCH_MAX];
    size_t ends[BATCH_MAX]; /* what is removed or written: keys[i] up to before ends[i] */
    bool holds[BATCH_MAX];
    bool all_hold = true;
    bool has_writes = false;
    uint64_t got;
    storm_batch_clear(batch);
    for (size_t i = 0; i < count; i++) {
        uint64_t listed[2];
        size_t key = keys[i] = below(KEYS);
        uint64_t kind = below(12);
        struct storm_op op = {.kind = kind < 6    ? STORM_PUT
                                      : kind < 9  ? STORM_DELETE
                                      : kind < 11 ? STORM_TOUCH
                                                  : STORM_CHECK,
                              .key = key_of(key)};
        holds[i] = true;
        ends[i] = key + 1;
        if (below(30) == 0)
            op = choose_range(key, &ends[i]);
        else if (below(4) == 0)
            holds[i] = choose_condition(&op, &now[key], listed);
        else
            op.want_previous = below(2) == 0;
        is_range[i] = op.kind != STORM_DELETE_RANGE ? ONE_KEY
                      : op.key.size != 0            ? FROM_A_KEY
                                                    : FROM_THE_FIRST;
        if (op.kind == STORM_TOUCH)
            holds[i] = holds[i] && is_live(&now[key]);
        all_hold = all_hold && holds[i];
        after[i] = (struct entry){0};
        if (op.kind == STORM_PUT) {
            after[i] = (struct entry){.exists = true,
                                      .revision = revision + 1,
                                      .put_revision = revision + 1,
                                      .size = (uint32_t)value_size()};
            if (below(10) == 0)
                after[i].expires_ms = clock_ms + below(2000);
            op.meta.expires_ms = after[i].expires_ms;
            fill_value(value, revision + 1, key, after[i].size);
            op.value = storm_bytes(value, after[i].size);
        }
        if (op.kind == STORM_TOUCH) {
            after[i] = now[key];
            after[i].revision = revision + 1;
            after[i].expires_ms = below(2) == 0 ? 0 : clock_ms + below(2000);
            op.meta.expires_ms = after[i].expires_ms;
        }
        has_writes = has_writes || op.kind != STORM_CHECK;
        if (op.kind == STORM_CHECK)
            after[i] = (struct entry){.revision = UINT64_MAX};
        CHECK(storm_batch_add(batch, &op) == STORM_OK);
    }
    storm_status status = storm_write(db, batch, NULL, &got);
    CHECK(status == (all_hold ? STORM_OK : STORM_CONFLICT));
    for (size_t i = 0; i < count; i++) {
        struct storm_op_result result = storm_batch_result(batch, i);
        if (!holds[i]) {
            CHECK(!result.holds);
            CHECK(result.existed == is_live(&now[keys[i]]));
            CHECK(!result.existed || result.previous_revision == now[keys[i]].revision);
        }
    }
    if (!all_hold) {
        conflicts++;
        return;
    }
    if (got != revision + has_writes)
        fprintf(stderr, "got %lu revision %lu writes %d reopens %lu losses %lu\n", got, revision,
                has_writes, reopens, losses);
    CHECK(got == revision + has_writes);
    revision = got;
    for (size_t i = 0; i < count; i++) {
        if (after[i].revision == UINT64_MAX)
            continue;
        for (size_t k = keys[i]; k < ends[i]; k++)
            now[k] = after[i];
        if (is_range[i])
            feed_model_range(feed, revision, is_range[i] == FROM_THE_FIRST ? SIZE_MAX : keys[i],
                             ends[i] == KEYS ? SIZE_MAX : ends[i]);
        else if (after[i].exists && !is_covered(keys, ends, is_range, i, count))
            feed_model_put(feed, revision, after[i].put_revision, keys[i], after[i].size,
                           after[i].expires_ms);
        else
            feed_model_delete(feed, revision, keys[i]);
    }
}

/* ---- Walking ---- */

/* The nearest live key at or after `at` (step 1), or at or before it (step -1), within [low,
 * high). */
static int64_t nearest(const struct entry *entries, int64_t at, int64_t step, int64_t low,
                       int64_t high)
{
    while (at >= low && at < high && !is_live(&entries[at]))
        at += step;
    return at >= low && at < high ? at : -1;
}

/* What a walk is about: the entries of its view, and the part of them that its options let
 * through. */
struct walk {
    const struct entry *entries;
    storm_iter *iter;
    struct storm_iter_options options;
    int64_t low, high;
};

static int64_t expected_from(const struct walk *walk, int64_t at, int64_t step)
{
    return nearest(walk->entries, at, step, walk->low, walk->high);
}

static void check_at(const struct walk *walk, int64_t at)
{
    storm_iter *iter = walk->iter;
    CHECK(storm_iter_status(iter) == STORM_OK);
    CHECK(storm_iter_valid(iter) == (at >= 0));
    if (at < 0)
        return;
    struct storm_slice key = storm_iter_key(iter);
    struct storm_slice expected = key_of((size_t)at);
    struct storm_meta meta = storm_iter_meta(iter);
    CHECK(key.size == expected.size && memcmp(key.data, expected.data, key.size) == 0);
    if (walk->options.keys_only) {
        CHECK(storm_iter_value(iter).size == 0);
        CHECK(storm_iter_revision(iter) == walk->entries[at].revision);
    } else {
        check_value(&walk->entries[at], (size_t)at, storm_iter_value(iter), &meta,
                    storm_iter_revision(iter));
    }
}

/* Go on from every stop, by resume or by a seek to the key, and see that it ends at `at`. */
static void check_move(const struct walk *walk, int64_t at, int64_t step)
{
    for (int stops = 0; storm_iter_status(walk->iter) == STORM_MORE; stops++) {
        CHECK(walk->options.max_skipped != 0 && stops < KEYS);
        CHECK(!storm_iter_valid(walk->iter));
        stopped++;
        if (below(2) == 0)
            storm_iter_resume(walk->iter);
        else if (step > 0)
            storm_iter_seek(walk->iter, storm_iter_key(walk->iter));
        else
            storm_iter_seek_back(walk->iter, storm_iter_key(walk->iter));
    }
    check_at(walk, at);
}

/* Bounds, a prefix that ten or a hundred keys have, and the rest, each now and then. */
static void choose_options(struct walk *walk)
{
    static char prefix[5];
    walk->low = 0;
    walk->high = KEYS;
    if (below(2) == 0) {
        walk->low = (int64_t)below(KEYS);
        walk->options.start = key_of((size_t)walk->low);
    }
    if (below(2) == 0) {
        walk->high = (int64_t)below(KEYS);
        walk->options.end = key_of((size_t)walk->high);
    }
    if (below(3) == 0) {
        int64_t width = below(2) == 0 ? 10 : 100;
        int64_t first = (int64_t)below(KEYS) / width * width;
        memcpy(prefix, key_of((size_t)first).data, 5);
        walk->options.prefix = storm_bytes(prefix, width == 10 ? 4 : 3);
        walk->low = walk->low > first ? walk->low : first;
        walk->high = walk->high < first + width ? walk->high : first + width;
    }
    walk->options.keys_only = below(3) == 0;
    walk->options.max_skipped = below(2) == 0 ? 0 : 1 + below(8);
}

/* To somewhere; where that is. */
static int64_t begin_walk(const struct walk *walk)
{
    int64_t to = (int64_t)below(KEYS);
    uint64_t kind = below(4);
    int64_t step = kind % 2 == 0 ? 1 : -1;
    int64_t from = kind == 0 ? walk->low : kind == 1 ? walk->high - 1 : to;
    if (kind == 0)
        storm_iter_first(walk->iter);
    else if (kind == 1)
        storm_iter_last(walk->iter);
    else if (kind == 2)
        storm_iter_seek(walk->iter, key_of((size_t)to));
    else
        storm_iter_seek_back(walk->iter, key_of((size_t)to));
    if (step > 0 && from < walk->low)
        from = walk->low;
    if (step < 0 && from >= walk->high)
        from = walk->high - 1;
    int64_t at = expected_from(walk, from, step);
    check_move(walk, at, step);
    return at;
}

static void walk(const struct entry *entries, const storm_snapshot *snapshot)
{
    struct walk walk = {.entries = entries, .options = {.snapshot = snapshot}};
    choose_options(&walk);
    CHECK(storm_iter_create(db, &walk.options, &walk.iter) == STORM_OK);
    int64_t at = begin_walk(&walk);
    bool is_wild = below(2) == 0;
    bool forward = below(2) == 0;
    for (uint64_t steps = below(200); steps > 0 && at >= 0; steps--) {
        if (is_wild)
            forward = below(2) == 0;
        if (forward)
            storm_iter_next(walk.iter);
        else
            storm_iter_prev(walk.iter);
        int64_t step = forward ? 1 : -1;
        at = expected_from(&walk, at + step, step);
        check_move(&walk, at, step);
        walked++;
    }
    storm_iter_destroy(walk.iter);
}

/* ---- Snapshots, reopening ---- */

static void change_snapshot(void)
{
    struct view *view = &snapshots[below(SNAPSHOTS)];
    if (view->snapshot != NULL) {
        storm_snapshot_release(view->snapshot);
        view->snapshot = NULL;
    } else {
        view->snapshot = storm_snapshot_create(db);
        CHECK(view->snapshot != NULL);
        CHECK(storm_snapshot_revision(view->snapshot) == revision);
        memcpy(view->entries, now, sizeof now);
    }
}

static void open_store(void)
{
    static const struct sdb_tuning small = {
        .table_bytes = 16 << 10,
        .base_bytes = 64 << 10,
        .multiplier = 4,
        .level0_files = 3,
        .level0_stall = 12,
        .settle_ns = 2000000,
        .retry_ns = 1000000,
    };
    struct storm_error error;
    const struct sdb_tuning *tuning = below(2) == 0 ? &small : NULL;
    if (sdb_lsm_open_tuned(&os, "/db", &options, tuning, &db, &error) != STORM_OK) {
        fprintf(stderr, "operation %" PRIu64 ": open: %s\n", operation, error.message);
        exit(1);
    }
}

static void reopen(void)
{
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        storm_snapshot_release(snapshots[i].snapshot);
        snapshots[i].snapshot = NULL;
    }
    uint64_t kind = below(4);
    if (kind != 0) {
        /* The power goes first; what the dying process does to the disk afterwards is lost on
         * it. */
        sim_cut_at(disk, 1);
        losses++;
    }
    feed_model_close(feed);
    storm_status status = storm_close(db);
    CHECK(kind != 0 || status == STORM_OK);
    if (kind != 0)
        sim_reboot(disk, kind == 1 ? SIM_KEEP_ALL : kind == 2 ? SIM_LOSE_ALL : SIM_KEEP_SOME);
    options.codec = (enum storm_codec)below(4);
    options.block_bytes = 1024u << below(4);
    options.log_retention_bytes = below(2) == 0 ? 64u << 20 : (uint64_t)below(4) << 20;
    open_store();
    reopens++;
}

static void one_operation(storm_batch *batch)
{
    uint64_t kind = below(1000);
    if (kind < 420)
        write_batch(batch, 1);
    else if (kind < 500)
        write_batch(batch, 1 + below(BATCH_MAX));
    else if (kind < 900)
        check_get(now, NULL, below(KEYS));
    else if (kind < 930)
        walk(now, NULL);
    else if (kind < 940)
        check_get_many(now, NULL);
    else if (kind < 985) {
        const struct view *view = &snapshots[below(SNAPSHOTS)];
        if (view->snapshot == NULL)
            return;
        uint64_t what = below(8);
        if (what < 2)
            walk(view->entries, view->snapshot);
        else if (what == 2)
            check_get_many(view->entries, view->snapshot);
        else
            check_get(view->entries, view->snapshot, below(KEYS));
    } else if (kind < 989)
        change_snapshot();
    else if (kind < 993)
        feed_model_read(feed, db);
    else if (kind < 997) {
        clock_ms += below(500);
        sim_clock_set(disk, clock_ms);
    } else if (kind < 999)
        CHECK(storm_flush(db, NULL) == STORM_OK);
    else
        reopen();
}

int main(int argc, char **argv)
{
    uint64_t operations = argc > 1 ? strtoull(argv[1], NULL, 0) : 200000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : random_seed(20260101);
    random_state = seed;
    disk = sim_disk_create(seed);
    sdb_errors_init(&errors, NULL, NULL);
    sim_os_init(&os, disk, &errors);
    sim_clock_set(disk, clock_ms);
    storm_options_init(&options);
    options.memtable_bytes = 64 << 10;
    options.write_buffer_bytes = 1 << 20;
    options.cache_bytes = 256 << 10;
    open_store();
    feed = feed_model_create((struct feed_model_kit){key_of, fill_value}, seed);
    storm_batch *batch = storm_batch_create();
    for (operation = 0; operation < operations; operation++)
        one_operation(batch);
    for (size_t key = 0; key < KEYS; key++)
        check_get(now, NULL, key);
    reopen();
    for (size_t key = 0; key < KEYS; key++)
        check_get(now, NULL, key);
    storm_batch_destroy(batch);
    feed_model_close(feed);
    CHECK(storm_close(db) == STORM_OK);
    sim_disk_destroy(disk);
    sdb_errors_fini(&errors);
    uint64_t shown, gone;
    feed_model_counts(feed, &shown, &gone);
    feed_model_destroy(feed);
    printf("seed %" PRIu64 ": %" PRIu64 " operations, %" PRIu64 " reopens (%" PRIu64
           " after a crash), %" PRIu64 " conflicts, %" PRIu64 " steps of iterators, %" PRIu64
           " stops at the limit, %" PRIu64 " changes by a feed that was overtaken %" PRIu64
           " times, revision %" PRIu64 ": all as the model says\n",
           seed, operations, reopens, losses, conflicts, walked, stopped, shown, gone, revision);
    return 0;
}
