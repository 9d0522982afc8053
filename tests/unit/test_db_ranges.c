/*
 * Range deletes in a whole store on the simulated disk: what readers see in every state of
 * memtables and tables, what a batch means, what compaction gives back, and when a range delete is
 * gone.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloc_fail.h"
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
static struct sdb_tuning by_hand;

static struct store store;

static int set_up(void **state)
{
    (void)state;
    by_hand = small;
    by_hand.is_by_hand = true;
    store_init(&store, 1);
    store.tuning = &by_hand;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_fini(&store);
    return 0;
}

static struct storm_stats stats(void)
{
    struct storm_stats now;
    assert_int_equal(storm_stats_read(store.db, &now), STORM_OK);
    return now;
}

static void flush(void)
{
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
}

static void compact(void)
{
    struct storm_slice all = {NULL, 0};
    assert_int_equal(storm_compact(store.db, all, all, NULL, NULL), STORM_OK);
}

static void reopen(void)
{
    store_close(&store);
    store_open(&store);
}

static void delete_range(const char *start, const char *end)
{
    assert_int_equal(storm_delete_range(store.db, storm_text(start), storm_text(end)), STORM_OK);
}

static void put(const char *key, const char *value)
{
    assert_int_equal(put_text(store.db, key, value), STORM_OK);
}

/* "key=value " for all that an iterator meets, and the same going back must be the mirror image. */
static const char *all_of(const storm_snapshot *snapshot)
{
    static char text[4096];
    char mirror[4096];
    storm_iter *iter;
    struct storm_iter_options options = {.snapshot = snapshot};
    size_t size = 0;
    size_t begin = sizeof mirror - 1;
    assert_int_equal(storm_iter_create(store.db, &options, &iter), STORM_OK);
    text[0] = '\0';
    mirror[begin] = '\0';
    for (storm_iter_first(iter); storm_iter_valid(iter); storm_iter_next(iter)) {
        struct storm_slice key = storm_iter_key(iter);
        struct storm_slice value = storm_iter_value(iter);
        size += (size_t)snprintf(text + size, sizeof text - size, "%.*s=%.*s ", (int)key.size,
                                 (const char *)key.data, (int)value.size,
                                 value.size == 0 ? "" : (const char *)value.data);
    }
    assert_int_equal(storm_iter_status(iter), STORM_OK);
    for (storm_iter_last(iter); storm_iter_valid(iter); storm_iter_prev(iter)) {
        char one[256];
        struct storm_slice key = storm_iter_key(iter);
        struct storm_slice value = storm_iter_value(iter);
        int length = snprintf(one, sizeof one, "%.*s=%.*s ", (int)key.size, (const char *)key.data,
                              (int)value.size, value.size == 0 ? "" : (const char *)value.data);
        begin -= (size_t)length;
        memcpy(mirror + begin, one, (size_t)length);
    }
    assert_int_equal(storm_iter_status(iter), STORM_OK);
    assert_string_equal(text, mirror + begin);
    storm_iter_destroy(iter);
    return text;
}

/* ---- What readers see ---- */

static void do_nothing(void)
{
}

/* All that may happen to memtables, tables and range deletes between a write and a read. */
static void (*const events[])(void) = {do_nothing, flush, reopen, compact};
enum { EVENTS = sizeof events / sizeof events[0] };

static void a_range_is_gone_in_every_state_of_the_store(void **state)
{
    (void)state;
    for (size_t i = 0; i < EVENTS * EVENTS * EVENTS; i++) {
        set_up(state);
        store_open(&store);
        put("a", "1");
        put("b", "1");
        put("c", "1");
        put("d", "1");
        events[i % EVENTS]();
        put("c", "2");
        delete_range("b", "d");
        events[i / EVENTS % EVENTS]();
        assert_string_equal(all_of(NULL), "a=1 d=1 ");
        assert_string_equal(get_text(store.db, NULL, "b"), "(none)");
        assert_string_equal(get_text(store.db, NULL, "c"), "(none)");
        assert_string_equal(get_text(store.db, NULL, "d"), "1");
        put("c", "3");
        events[i / EVENTS / EVENTS]();
        assert_string_equal(all_of(NULL), "a=1 c=3 d=1 ");
        assert_string_equal(get_text(store.db, NULL, "b"), "(none)");
        assert_string_equal(get_text(store.db, NULL, "c"), "3");
        tear_down(state);
    }
}

static void snapshots_see_what_was_there_before_and_after(void **state)
{
    static void (*const calm[])(void) = {do_nothing, flush, compact};
    (void)state;
    for (size_t i = 0; i < 27; i++) {
        set_up(state);
        store_open(&store);
        put("a", "1");
        put("b", "1");
        calm[i % 3]();
        put("c", "1");
        storm_snapshot *before = storm_snapshot_create(store.db);
        delete_range("", "c");
        storm_snapshot *between = storm_snapshot_create(store.db);
        put("b", "2");
        calm[i / 3 % 3]();
        delete_range("b", "");
        storm_snapshot *after = storm_snapshot_create(store.db);
        put("c", "3");
        calm[i / 9]();
        assert_string_equal(all_of(before), "a=1 b=1 c=1 ");
        assert_string_equal(all_of(between), "c=1 ");
        assert_string_equal(all_of(after), "");
        assert_string_equal(all_of(NULL), "c=3 ");
        assert_string_equal(get_text(store.db, before, "b"), "1");
        assert_string_equal(get_text(store.db, between, "b"), "(none)");
        assert_string_equal(get_text(store.db, between, "c"), "1");
        storm_snapshot_release(between);
        compact();
        assert_string_equal(all_of(before), "a=1 b=1 c=1 ");
        assert_string_equal(all_of(after), "");
        storm_snapshot_release(before);
        storm_snapshot_release(after);
        compact();
        assert_string_equal(all_of(NULL), "c=3 ");
        assert_int_equal(stats().range_deletes, 0);
        assert_int_equal(stats().entries_estimate, 1);
        tear_down(state);
    }
}

static void an_open_iterator_goes_on_seeing_its_state(void **state)
{
    storm_iter *iter;
    (void)state;
    store_open(&store);
    put("a", "1");
    put("b", "1");
    put("c", "1");
    assert_int_equal(storm_iter_create(store.db, NULL, &iter), STORM_OK);
    storm_iter_first(iter);
    delete_range("", "");
    compact();
    for (int seen = 1; seen < 3; seen++) {
        storm_iter_next(iter);
        assert_true(storm_iter_valid(iter));
    }
    storm_iter_next(iter);
    assert_false(storm_iter_valid(iter));
    storm_iter_destroy(iter);
    assert_string_equal(all_of(NULL), "");
}

/* ---- Batches ---- */

enum { STEPS = 6 };

static void add_step(storm_batch *batch, int step, char *a, char *b)
{
    struct storm_slice key_a = storm_text("a");
    struct storm_slice key_b = storm_text("b");
    storm_status status = STORM_OK;
    if (step == 0)
        status = storm_batch_put(batch, key_a, storm_text("x"));
    else if (step == 1)
        status = storm_batch_delete_range(batch, key_a, key_b);
    else if (step == 2)
        status = storm_batch_put(batch, key_b, storm_text("y"));
    else if (step == 3)
        status = storm_batch_delete_range(batch, storm_text(""), storm_text(""));
    else if (step == 4)
        status = storm_batch_put(batch, key_a, storm_text("z"));
    else
        status = storm_batch_delete(batch, key_b);
    assert_int_equal(status, STORM_OK);
    if (step == 0 || step == 4)
        *a = step == 0 ? 'x' : 'z';
    if (step == 1 || step == 3)
        *a = 0;
    if (step == 2)
        *b = 'y';
    if (step == 3 || step == 5)
        *b = 0;
}

static void the_last_operation_on_a_key_wins_in_every_order(void **state)
{
    int orders = 0;
    (void)state;
    store_open(&store);
    storm_batch *batch = storm_batch_create();
    /* All sequences of up to four of the six steps, on keys that exist. */
    for (int code = 0; code < 7 * 7 * 7 * 7; code++) {
        char a = '0';
        char b = '0';
        char expected[32];
        storm_batch_clear(batch);
        for (int left = code; left != 0; left /= 7) {
            if (left % 7 != 0)
                add_step(batch, left % 7 - 1, &a, &b);
        }
        if (storm_batch_count(batch) == 0)
            continue;
        put("a", "0");
        put("b", "0");
        assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
        snprintf(expected, sizeof expected, "%s%.*s%s%s%.*s%s", a == 0 ? "" : "a=", a != 0, &a,
                 a == 0 ? "" : " ", b == 0 ? "" : "b=", b != 0, &b, b == 0 ? "" : " ");
        assert_string_equal(all_of(NULL), expected);
        if (++orders % 64 == 0)
            (orders % 128 == 0 ? flush : reopen)();
        assert_string_equal(all_of(NULL), expected);
    }
    storm_batch_destroy(batch);
    assert_true(orders > 2000);
}

static void earlier_operations_of_the_batch_keep_their_conditions_and_results(void **state)
{
    uint64_t revision;
    (void)state;
    store_open(&store);
    put("a", "1");
    storm_batch *batch = storm_batch_create();
    struct storm_op absent = {.kind = STORM_PUT,
                              .condition = STORM_IF_ABSENT,
                              .key = storm_text("b"),
                              .value = storm_text("2")};
    struct storm_op known = {
        .kind = STORM_PUT, .key = storm_text("a"), .value = storm_text("2"), .want_previous = true};
    assert_int_equal(storm_batch_add(batch, &absent), STORM_OK);
    assert_int_equal(storm_batch_add(batch, &known), STORM_OK);
    assert_int_equal(storm_batch_delete_range(batch, storm_text("a"), storm_text("c")), STORM_OK);
    assert_int_equal(storm_batch_put(batch, storm_text("z"), storm_text("2")), STORM_OK);
    assert_int_equal(storm_batch_count(batch), 4);
    assert_int_equal(storm_write(store.db, batch, NULL, &revision), STORM_OK);
    assert_int_equal(revision, 2);
    assert_true(storm_batch_result(batch, 0).holds);
    assert_false(storm_batch_result(batch, 0).existed);
    assert_true(storm_batch_result(batch, 1).existed);
    assert_int_equal(storm_batch_result(batch, 1).previous_revision, 1);
    assert_string_equal(all_of(NULL), "z=2 ");
    /* And a condition that fails stops the range delete too. */
    storm_batch_clear(batch);
    known.condition = STORM_IF_PRESENT;
    assert_int_equal(storm_batch_delete_range(batch, storm_text(""), storm_text("")), STORM_OK);
    assert_int_equal(storm_batch_add(batch, &known), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, &revision), STORM_CONFLICT);
    assert_string_equal(all_of(NULL), "z=2 ");
    assert_int_equal(stats().revision, 2);
    storm_batch_destroy(batch);
}

static void
a_touch_before_a_range_delete_is_a_delete_and_one_behind_it_keeps_the_value(void **state)
{
    struct storm_op touch_a = {
        .kind = STORM_TOUCH, .key = storm_text("a"), .meta.expires_ms = UINT64_MAX};
    struct storm_op touch_b = touch_a, touch_z = touch_a;
    (void)state;
    touch_b.key = storm_text("b");
    touch_z.key = storm_text("z");
    store_open(&store);
    put("a", "1");
    put("b", "2");
    put("z", "3");
    storm_batch *batch = storm_batch_create();
    /* Puts before, between and behind, so that the places of the touches move. */
    assert_int_equal(storm_batch_put(batch, storm_text("c"), storm_text("long enough")), STORM_OK);
    assert_int_equal(storm_batch_add(batch, &touch_a), STORM_OK);
    assert_int_equal(storm_batch_put(batch, storm_text("d"), storm_text("long enough")), STORM_OK);
    assert_int_equal(storm_batch_add(batch, &touch_z), STORM_OK);
    assert_int_equal(storm_batch_delete_range(batch, storm_text("a"), storm_text("e")), STORM_OK);
    assert_int_equal(storm_batch_add(batch, &touch_b), STORM_OK);
    assert_int_equal(storm_batch_put(batch, storm_text("x"), storm_text("4")), STORM_OK);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
        assert_string_equal(all_of(NULL), "b=2 x=4 z=3 ");
        reopen();
        assert_string_equal(all_of(NULL), "b=2 x=4 z=3 ");
        put("a", "5");
    }
    /* A touch of what a range delete has removed is a failed condition. */
    storm_batch_clear(batch);
    delete_range("a", "c");
    assert_int_equal(storm_batch_add(batch, &touch_b), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_CONFLICT);
    storm_batch_destroy(batch);
}

static void a_feed_shows_range_deletes(void **state)
{
    storm_feed *feed;
    struct storm_change change;
    (void)state;
    store_open(&store);
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_put(batch, storm_text("a"), storm_text("1")), STORM_OK);
    assert_int_equal(storm_batch_delete_range(batch, storm_text("a"), storm_text("c")), STORM_OK);
    assert_int_equal(storm_batch_delete_range(batch, storm_text(""), storm_text("")), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    assert_int_equal(storm_feed_open(store.db, 1, &feed), STORM_OK);
    assert_int_equal(storm_feed_next(feed, &change), STORM_OK);
    assert_int_equal(change.kind, STORM_DELETE);
    assert_int_equal(storm_feed_next(feed, &change), STORM_OK);
    assert_int_equal(change.kind, STORM_DELETE_RANGE);
    assert_int_equal(sdb_key_compare(change.key, storm_text("a")), 0);
    assert_int_equal(sdb_key_compare(change.end, storm_text("c")), 0);
    assert_false(change.is_last);
    assert_int_equal(storm_feed_next(feed, &change), STORM_OK);
    assert_int_equal(change.key.size + change.end.size, 0);
    assert_true(change.is_last);
    storm_feed_close(feed);
    storm_batch_destroy(batch);
}

/* Range deletes in the manifest, and in the log only; and put behind them. */
static void repair_brings_nothing_back_that_a_range_delete_removed(void **state)
{
    struct storm_repair_result result;
    struct storm_error error;
    char name[64] = "";
    (void)state;
    for (int damage = 0; damage < 3; damage++) {
        set_up(state);
        /* Without a manifest only history knows of what was flushed. */
        if (damage != 2)
            store.options.log_retention_bytes = 0;
        by_hand.segment_bytes = 8 << 10;
        store_open(&store);
        put("a", "1");
        put("b", "1");
        put("c", "1");
        flush();
        delete_range("a", "b");
        /* Segments are small, so the one that has it is gone with the flush. */
        for (int n = 0; n < 200 && damage != 2; n++)
            put("f", "1");
        flush();
        delete_range("b", "c");
        put("d", "2");
        pthread_mutex_lock(&sdb_lsm(store.db)->manifest_mu);
        uint64_t manifest = sdb_manifest_state(sdb_lsm(store.db)->manifest)->manifest_number;
        pthread_mutex_unlock(&sdb_lsm(store.db)->manifest_mu);
        store_close(&store);
        if (damage == 1)
            assert_int_equal(sim_remove(store.disk, "/db/CURRENT"), STORM_OK);
        if (damage == 2) {
            snprintf(name, sizeof name, "/db/MANIFEST-%010llu", (unsigned long long)manifest);
            assert_int_equal(sim_remove(store.disk, name), STORM_OK);
        }
        assert_int_equal(sdb_lsm_repair_on(&store.os, "/db", NULL, NULL, &result, &error),
                         STORM_OK);
        store_open(&store);
        assert_string_equal(all_of(NULL), damage == 2 ? "c=1 d=2 " : "c=1 d=2 f=1 ");
        reopen();
        compact();
        assert_string_equal(all_of(NULL), damage == 2 ? "c=1 d=2 " : "c=1 d=2 f=1 ");
        assert_int_equal(stats().range_deletes, 0);
        tear_down(state);
    }
}

static void conditions_see_range_deletes(void **state)
{
    (void)state;
    for (size_t i = 0; i < EVENTS; i++) {
        set_up(state);
        store_open(&store);
        put("a", "1");
        delete_range("a", "b");
        events[i]();
        storm_batch *batch = storm_batch_create();
        struct storm_op op = {.kind = STORM_PUT,
                              .condition = STORM_IF_PRESENT,
                              .key = storm_text("a"),
                              .value = storm_text("2")};
        assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
        assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_CONFLICT);
        assert_false(storm_batch_result(batch, 0).existed);
        storm_batch_clear(batch);
        op.condition = STORM_IF_ABSENT;
        assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
        assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
        assert_string_equal(get_text(store.db, NULL, "a"), "2");
        storm_batch_destroy(batch);
        tear_down(state);
    }
}

/* A batch whose checks have been read, as if its writer were on its way to the queue. */
static storm_batch *checked(struct storm_op op)
{
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    assert_int_equal(sdb_checks_read(sdb_lsm(store.db), batch), STORM_OK);
    return batch;
}

static void a_range_delete_between_read_and_turn_is_seen(void **state)
{
    struct storm_op op = {
        .kind = STORM_CHECK, .condition = STORM_IF_PRESENT, .key = storm_text("b")};
    (void)state;
    for (int is_flushed = 0; is_flushed < 2; is_flushed++) {
        set_up(state);
        store_open(&store);
        put("b", "1");
        if (is_flushed)
            flush();
        storm_batch *batch = checked(op);
        delete_range("a", "c");
        struct sdb_overlay *overlay = sdb_overlay_create(NULL);
        struct sdb_view *view = sdb_view_acquire(sdb_lsm(store.db));
        assert_int_equal(sdb_checks_decide(view, overlay, batch, 0), STORM_CONFLICT);
        assert_false(batch->commit.must_retry);
        assert_false(storm_batch_result(batch, 0).existed);
        sdb_view_release(view);
        sdb_overlay_destroy(overlay);
        sdb_checks_release(batch);
        storm_batch_destroy(batch);
        tear_down(state);
    }
}

static void members_of_a_group_see_the_range_deletes_before_them(void **state)
{
    struct storm_op op = {.kind = STORM_CHECK, .want_previous = true, .key = storm_text("b")};
    (void)state;
    store_open(&store);
    put("b", "1");
    storm_batch *batch = checked(op);
    struct sdb_overlay *overlay = sdb_overlay_create(NULL);
    struct sdb_view *view = sdb_view_acquire(sdb_lsm(store.db));
    storm_batch *member = storm_batch_create();

    assert_int_equal(storm_batch_delete_range(member, storm_text("a"), storm_text("b")), STORM_OK);
    assert_int_equal(sdb_overlay_add(overlay, member, 10), STORM_OK);
    assert_int_equal(sdb_checks_decide(view, overlay, batch, 0), STORM_OK);
    assert_int_equal(storm_batch_result(batch, 0).previous_revision, 1);

    storm_batch_clear(member);
    assert_int_equal(storm_batch_delete_range(member, storm_text("b"), storm_text("")), STORM_OK);
    assert_int_equal(sdb_overlay_add(overlay, member, 11), STORM_OK);
    assert_int_equal(sdb_checks_decide(view, overlay, batch, 0), STORM_OK);
    assert_false(storm_batch_result(batch, 0).existed);

    /* A put in the same batch behind its range delete, and one of a later member, are there
     * again. */
    storm_batch *later = storm_batch_create();
    assert_int_equal(storm_batch_delete_range(later, storm_text(""), storm_text("")), STORM_OK);
    assert_int_equal(storm_batch_put(later, storm_text("b"), storm_text("2")), STORM_OK);
    assert_int_equal(sdb_overlay_add(overlay, later, 12), STORM_OK);
    assert_int_equal(sdb_checks_decide(view, overlay, batch, 0), STORM_OK);
    assert_int_equal(storm_batch_result(batch, 0).previous_revision, 12);

    /* The next group begins with nothing. */
    sdb_overlay_clear(overlay);
    sdb_checks_release(batch);
    assert_int_equal(sdb_checks_read(sdb_lsm(store.db), batch), STORM_OK);
    assert_int_equal(sdb_checks_decide(view, overlay, batch, 0), STORM_OK);
    assert_int_equal(storm_batch_result(batch, 0).previous_revision, 1);

    storm_batch_destroy(later);
    storm_batch_destroy(member);
    sdb_view_release(view);
    sdb_overlay_destroy(overlay);
    sdb_checks_release(batch);
    storm_batch_destroy(batch);
}

static void arguments_are_checked(void **state)
{
    static char long_key[65536];
    char key[101];
    storm_batch *batch = storm_batch_create();
    (void)state;
    memset(long_key, 'x', sizeof long_key);
    memset(key, 'k', sizeof key);
    struct storm_op op = {.kind = STORM_DELETE_RANGE, .condition = STORM_IF_PRESENT};
    assert_int_equal(storm_batch_add(batch, &op), STORM_INVALID);
    op = (struct storm_op){.kind = STORM_DELETE_RANGE, .want_previous = true};
    assert_int_equal(storm_batch_add(batch, &op), STORM_INVALID);
    op = (struct storm_op){.kind = STORM_DELETE_RANGE, .value = storm_text("v")};
    assert_int_equal(storm_batch_add(batch, &op), STORM_INVALID);
    op = (struct storm_op){.kind = STORM_DELETE_RANGE, .key = storm_bytes(long_key, 65536)};
    assert_int_equal(storm_batch_add(batch, &op), STORM_TOO_LARGE);
    op = (struct storm_op){.kind = STORM_DELETE_RANGE, .end = storm_bytes(long_key, 65536)};
    assert_int_equal(storm_batch_add(batch, &op), STORM_TOO_LARGE);
    assert_int_equal(storm_batch_count(batch), 0);
    storm_batch_destroy(batch);

    store.options.max_key_bytes = 100;
    store_open(&store);
    put("a", "1");
    assert_int_equal(storm_delete_range(store.db, storm_bytes(key, 101), storm_text("")),
                     STORM_TOO_LARGE);
    assert_int_equal(storm_delete_range(store.db, storm_text(""), storm_bytes(key, 101)),
                     STORM_TOO_LARGE);
    /* An empty range removes nothing and is a write all the same. */
    delete_range("b", "a");
    delete_range("a", "a");
    assert_int_equal(stats().revision, 3);
    assert_int_equal(stats().range_deletes, 0);
    assert_string_equal(all_of(NULL), "a=1 ");
    reopen();
    assert_int_equal(stats().revision, 3);
    assert_string_equal(all_of(NULL), "a=1 ");
}

/* ---- Flush, reopening ---- */

static void a_memtable_of_range_deletes_only_is_flushed_without_a_table(void **state)
{
    struct storm_flush_result result;
    (void)state;
    store_open(&store);
    put("a", "1");
    put("b", "1");
    flush();
    delete_range("a", "b");
    uint64_t tables = stats().sstable_count;
    uint64_t flushes = stats().flushes;
    assert_int_equal(storm_flush(store.db, &result), STORM_OK);
    assert_int_equal(result.entries, 0);
    assert_int_equal(stats().flushes, flushes + 1);
    assert_int_equal(stats().sstable_count, tables);
    assert_int_equal(stats().range_deletes, 1);
    /* It is in the manifest now: the log may be lost. */
    pthread_mutex_lock(&sdb_lsm(store.db)->mu);
    assert_int_equal(sdb_ranges_count(sdb_lsm(store.db)->version->ranges), 1);
    assert_null(sdb_lsm(store.db)->active.ranges);
    pthread_mutex_unlock(&sdb_lsm(store.db)->mu);
    assert_string_equal(all_of(NULL), "b=1 ");
    reopen();
    assert_int_equal(stats().range_deletes, 1);
    assert_string_equal(all_of(NULL), "b=1 ");
}

static void what_no_table_needs_is_not_kept(void **state)
{
    (void)state;
    store_open(&store);
    delete_range("a", "m");
    assert_int_equal(stats().range_deletes, 1);
    flush();
    assert_int_equal(stats().range_deletes, 0);
    /* With a table beside it, and with its keys in the same flush, neither. */
    put("x", "1");
    flush();
    put("b", "1");
    delete_range("a", "m");
    put("c", "2");
    flush();
    assert_int_equal(stats().range_deletes, 0);
    assert_int_equal(stats().entries_estimate, 2);
    assert_string_equal(all_of(NULL), "c=2 x=1 ");
}

static void reads_ask_no_table_that_only_holds_what_is_deleted(void **state)
{
    (void)state;
    store.options.cache_bytes = 0;
    store_open(&store);
    put("a", "1");
    put("b", "1");
    flush();
    delete_range("", "");
    sim_plan_set(store.disk, (struct sim_plan){
                                 .call = SIM_READ, .nth = 1, .for_ever = true, .status = STORM_IO});
    assert_string_equal(get_text(store.db, NULL, "a"), "(none)");
    sim_plan_set(store.disk, (struct sim_plan){0});
}

/* ---- Giving space back ---- */

enum { MANY = 4000 };

static void fill(const char *prefix)
{
    storm_batch *batch = storm_batch_create();
    struct storm_write_options unsynced = {.sync = STORM_SYNC_NONE};
    uint64_t random = 7;
    for (int i = 0; i < MANY; i++) {
        char key[32];
        uint8_t value[40];
        random_bytes(&random, value, sizeof value);
        snprintf(key, sizeof key, "%s%05d", prefix, i);
        storm_batch_clear(batch);
        assert_int_equal(storm_batch_put(batch, storm_text(key), storm_bytes(value, sizeof value)),
                         STORM_OK);
        assert_int_equal(storm_write(store.db, batch, &unsynced, NULL), STORM_OK);
    }
    storm_batch_destroy(batch);
}

static uint64_t count_all(void)
{
    storm_iter *iter;
    uint64_t count = 0;
    assert_int_equal(storm_iter_create(store.db, NULL, &iter), STORM_OK);
    for (storm_iter_first(iter); storm_iter_valid(iter); storm_iter_next(iter))
        count++;
    assert_int_equal(storm_iter_status(iter), STORM_OK);
    storm_iter_destroy(iter);
    return count;
}

/* Wait, but not for ever, until the store has applied all range deletes. */
static void wait_applied(void)
{
    for (int i = 0; stats().range_deletes != 0; i++) {
        assert_true(i < 5000);
        usleep(1000);
    }
}

static void whole_tables_go_without_being_read(void **state)
{
    (void)state;
    store_open(&store);
    fill("k");
    compact();
    assert_true(stats().sstable_count > 10);
    uint64_t bytes = stats().sstable_bytes;
    reopen(); /* nothing is cached */
    delete_range("k00100", "k03900");
    sim_plan_set(store.disk, (struct sim_plan){
                                 .call = SIM_READ, .nth = 1, .for_ever = true, .status = STORM_IO});
    flush();

    struct storm_slice all = {NULL, 0};
    /* What lies partly in the range must be read, which fails; by then the rest is gone. */
    assert_int_equal(storm_compact(store.db, all, all, NULL, NULL), STORM_CORRUPT);
    assert_true(sim_plan_fired(store.disk));
    sim_plan_set(store.disk, (struct sim_plan){0});
    assert_true(stats().sstable_bytes < bytes / 5);
    assert_int_equal(stats().range_deletes, 1);
    assert_int_equal(count_all(), 200);
    reopen();
    assert_int_equal(count_all(), 200);
    compact();
    assert_int_equal(stats().range_deletes, 0);
    assert_int_equal(stats().entries_estimate, 200);
    assert_int_equal(count_all(), 200);
}

static void space_comes_back_without_anybody_asking(void **state)
{
    (void)state;
    store.tuning = &small;
    store_open(&store);
    fill("k");
    flush();
    uint64_t bytes = stats().sstable_bytes;
    /* Whole tables: at once. Tables at its ends: when the store is idle. */
    delete_range("k00100", "k03900");
    wait_applied();
    assert_true(stats().sstable_bytes < bytes / 5);
    assert_int_equal(stats().entries_estimate, 200);
    assert_int_equal(count_all(), 200);
    /* Too little for a whole table, and never flushed by a write. */
    delete_range("k00010", "k00012");
    assert_int_equal(stats().range_deletes, 1);
    wait_applied();
    assert_int_equal(stats().entries_estimate, 198);
    assert_int_equal(count_all(), 198);
}

static void whole_tables_go_at_once_while_the_store_is_busy(void **state)
{
    static struct sdb_tuning busy;
    (void)state;
    store_open(&store);
    fill("k");
    compact();
    store_close(&store);
    busy = small;
    busy.settle_ns = UINT64_C(3600000000000);
    store.tuning = &busy;
    store_open(&store);
    uint64_t bytes = stats().sstable_bytes;
    delete_range("k00100", "k03900");
    for (int i = 0; stats().sstable_bytes > bytes / 5; i++) {
        assert_true(i < 5000);
        usleep(1000);
    }
    assert_int_equal(count_all(), 200);
}

static void a_replayed_range_delete_gives_space_back_too(void **state)
{
    (void)state;
    store_open(&store);
    fill("k");
    compact();
    delete_range("k00010", "k00012");
    store_close(&store);
    store.tuning = &small;
    store_open(&store);
    assert_int_equal(count_all(), MANY - 2);
    wait_applied();
    assert_int_equal(stats().entries_estimate, MANY - 2);
    assert_int_equal(count_all(), MANY - 2);
}

static void a_snapshot_keeps_its_tables_and_nothing_runs_in_vain(void **state)
{
    (void)state;
    store.tuning = &small;
    store_open(&store);
    fill("k");
    flush();
    storm_snapshot *snapshot = storm_snapshot_create(store.db);
    delete_range("", "");
    put("z", "1");
    flush();
    /* It comes to rest, for some 25 times settle_ns; on a busy machine not at once. */
    uint64_t compactions;
    int looks = 0;
    do {
        assert_true(++looks < 40);
        compactions = stats().compactions;
        usleep(50000);
    } while (stats().compactions != compactions);
    assert_int_equal(stats().range_deletes, 1);
    assert_string_equal(all_of(NULL), "z=1 ");
    assert_true(strcmp(get_text(store.db, snapshot, "k00000"), "(none)") != 0);
    storm_snapshot_release(snapshot);
    wait_applied();
    assert_int_equal(stats().entries_estimate, 1);
    assert_string_equal(all_of(NULL), "z=1 ");
}

static void a_damaged_table_goes_with_its_keys(void **state)
{
    char text[64];
    (void)state;
    store_open(&store);
    put("a", "1");
    put("b", "1");
    flush();
    struct sdb_view *view = sdb_view_acquire(sdb_lsm(store.db));
    snprintf(text, sizeof text, "/db/%010llu.sst",
             (unsigned long long)view->version->levels[0].files[0]->number);
    sdb_view_release(view);
    store_close(&store);
    uint64_t size;
    assert_int_equal(sim_file_size(store.disk, text, &size), STORM_OK);
    assert_int_equal(sim_flip(store.disk, text, size - 1, 1), STORM_OK);
    store_open(&store);
    assert_string_equal(get_text(store.db, NULL, "a"), "(error)");
    delete_range("a", "b");
    assert_string_equal(get_text(store.db, NULL, "a"), "(none)");
    assert_string_equal(get_text(store.db, NULL, "b"), "(error)");
    delete_range("b", "c");
    compact();
    assert_int_equal(stats().sstable_count, 0);
    assert_int_equal(stats().range_deletes, 0);
    assert_string_equal(all_of(NULL), "");
}

static void many_range_deletes_do_not_gather_in_memory(void **state)
{
    size_t most = 0;
    (void)state;
    store.tuning = &small;
    store.options.sync = STORM_SYNC_NONE;
    store_open(&store);
    fill("k");
    flush();
    for (int i = 0; i + 1 < 3000; i += 3) {
        char start[16], end[16];
        snprintf(start, sizeof start, "k%05d", i);
        snprintf(end, sizeof end, "k%05d", i + 1);
        delete_range(start, end);
        pthread_mutex_lock(&sdb_lsm(store.db)->mu);
        most = sdb_ranges_count(sdb_lsm(store.db)->active.ranges) > most
                   ? sdb_ranges_count(sdb_lsm(store.db)->active.ranges)
                   : most;
        pthread_mutex_unlock(&sdb_lsm(store.db)->mu);
    }
    assert_true(most <= SDB_MEM_RANGES_MAX + 8); /* in a burst of flushes it may grow on */
    assert_int_equal(count_all(), MANY - 1000);
    wait_applied();
    assert_int_equal(count_all(), MANY - 1000);
    assert_int_equal(stats().entries_estimate, MANY - 1000);
    /* The same one again and again is one. */
    for (int i = 0; i < 300; i++)
        delete_range("k", "l");
    assert_true(stats().range_deletes <= 4);
}

/* What a range delete adds to memory may be nothing: it is not what says when the log is given
 * back. */
static void the_log_of_range_deletes_does_not_grow_without_end(void **state)
{
    static const struct {
        const char *start, *end;
    } cases[] = {{"k", "l"}, {"l", "k"}}; /* the same one again and again; an empty one */
    struct sdb_tuning tuning = by_hand;
    tuning.segment_bytes = 64 << 10;
    for (size_t i = 0; i < 2; i++) {
        tear_down(state);
        set_up(state);
        store.tuning = &tuning;
        store.options.sync = STORM_SYNC_NONE;
        store_open(&store);
        put("a", "1");
        flush();
        for (int j = 0; j < 12000; j++)
            delete_range(cases[i].start, cases[i].end);
        assert_true(stats().bytes_written_log > 8 * store.options.memtable_bytes);
        /* The last memtable may be on its way. */
        for (int j = 0; j < 2000 && stats().log_bytes > 4 * store.options.memtable_bytes; j++)
            usleep(1000);
        assert_true(stats().log_bytes <= 4 * store.options.memtable_bytes);
        assert_string_equal(all_of(NULL), "a=1 ");
        reopen();
        assert_string_equal(all_of(NULL), "a=1 ");
    }
}

/*
 * A flush applies only range deletes that it makes durable. Here the put is flushed while a younger
 * range delete that covers it stands in the log unsynced, and is lost with the power.
 */
static void a_flush_does_not_apply_what_may_yet_be_lost(void **state)
{
    struct storm_write_options unsynced = {.sync = STORM_SYNC_NONE};
    struct sdb_lsm *db;
    (void)state;
    store_open(&store);
    db = sdb_lsm(store.db);
    put("a", "1");
    /* No table can be written: what is sealed stays. */
    sim_plan_set(
        store.disk,
        (struct sim_plan){.call = SIM_OPEN, .nth = 1, .for_ever = true, .status = STORM_NO_SPACE});
    assert_int_equal(storm_flush(store.db, NULL), STORM_NO_SPACE);
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_delete_range(batch, storm_text(""), storm_text("")), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, &unsynced, NULL), STORM_OK);
    storm_batch_destroy(batch);
    sim_plan_set(store.disk, (struct sim_plan){0});
    pthread_mutex_lock(&db->mu);
    pthread_cond_signal(&db->flush_cond);
    while (db->sealed_count != 0)
        pthread_cond_wait(&db->flushed_cond, &db->mu);
    pthread_mutex_unlock(&db->mu);
    assert_string_equal(all_of(NULL), "");
    sim_cut_at(store.disk, 1);
    store_drop(&store);
    sim_reboot(store.disk, SIM_LOSE_ALL);
    store_open(&store);
    assert_string_equal(all_of(NULL), "a=1 ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_range_is_gone_in_every_state_of_the_store),
        cmocka_unit_test(snapshots_see_what_was_there_before_and_after),
        TEST(an_open_iterator_goes_on_seeing_its_state),
        TEST(the_last_operation_on_a_key_wins_in_every_order),
        TEST(earlier_operations_of_the_batch_keep_their_conditions_and_results),
        TEST(a_touch_before_a_range_delete_is_a_delete_and_one_behind_it_keeps_the_value),
        TEST(a_feed_shows_range_deletes),
        cmocka_unit_test(repair_brings_nothing_back_that_a_range_delete_removed),
        cmocka_unit_test(conditions_see_range_deletes),
        cmocka_unit_test(a_range_delete_between_read_and_turn_is_seen),
        TEST(members_of_a_group_see_the_range_deletes_before_them),
        TEST(arguments_are_checked),
        TEST(a_memtable_of_range_deletes_only_is_flushed_without_a_table),
        TEST(what_no_table_needs_is_not_kept),
        TEST(reads_ask_no_table_that_only_holds_what_is_deleted),
        TEST(whole_tables_go_without_being_read),
        TEST(space_comes_back_without_anybody_asking),
        TEST(whole_tables_go_at_once_while_the_store_is_busy),
        TEST(a_replayed_range_delete_gives_space_back_too),
        TEST(a_snapshot_keeps_its_tables_and_nothing_runs_in_vain),
        TEST(a_damaged_table_goes_with_its_keys),
        TEST(many_range_deletes_do_not_gather_in_memory),
        TEST(the_log_of_range_deletes_does_not_grow_without_end),
        TEST(a_flush_does_not_apply_what_may_yet_be_lost),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
