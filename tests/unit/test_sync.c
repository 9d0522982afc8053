/*
 * The sync by interval, beside writers: while the disk is slow they go on; what is synced is what
 * was appended before, no more and no less; and who needs a sync of its own is not told a lie.
 */
#include "store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sync_gate.h"
#include "turn.h"

enum { HANG_SECONDS = 60 };

static struct store store;

static void open_on_disk(uint64_t seed)
{
    store_init(&store, seed);
    gate_init(&store.os);
    store.options.sync = STORM_SYNC_INTERVAL;
    store.options.sync_interval_ms = 60000; /* it is due when the test says so */
    store.options.memtable_bytes = 8 << 20;
    store.options.write_buffer_bytes = 16 << 20;
    store_open(&store);
}

static int set_up(void **state)
{
    (void)state;
    open_on_disk(1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_fini(&store);
    return 0;
}

static uint64_t syncs(void)
{
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(store.db, &stats), STORM_OK);
    return stats.log_syncs;
}

/* The interval is over. */
static void make_due(void)
{
    struct sdb_lsm *db = sdb_lsm(store.db);
    pthread_mutex_lock(&db->mu);
    assert_true(db->unsynced_since_ns != 0); /* a write has asked for it */
    db->options.sync_interval_ms = 0;
    pthread_cond_signal(&db->sync_cond);
    pthread_mutex_unlock(&db->mu);
}

static void make_long(void)
{
    struct sdb_lsm *db = sdb_lsm(store.db);
    pthread_mutex_lock(&db->mu);
    db->options.sync_interval_ms = 60000;
    pthread_mutex_unlock(&db->mu);
}

/* A sync by interval that has reached the disk and waits there. */
static void begin_slow_sync(void)
{
    gate_shut_for_one();
    make_due();
    gate_wait();
    make_long();
}

static void wait_syncs(uint64_t count)
{
    while (syncs() < count)
        pause_us(100);
}

static storm_status write_with(const char *key, enum storm_sync sync)
{
    struct storm_write_options options = {sync};
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_put(batch, storm_text(key), storm_text("v")), STORM_OK);
    storm_status status = storm_write(store.db, batch, &options, NULL);
    storm_batch_destroy(batch);
    return status;
}

struct job {
    pthread_t thread;
    const char *key;
    storm_status status;
    _Atomic bool is_done;
};

static void *write_synced(void *arg)
{
    struct job *job = arg;
    job->status = write_with(job->key, STORM_SYNC_FULL);
    atomic_store(&job->is_done, true);
    return NULL;
}

static void start(struct job *job, void *(*run)(void *), const char *key)
{
    job->key = key;
    assert_int_equal(pthread_create(&job->thread, NULL, run, job), 0);
}

static void finish(struct job *job)
{
    assert_int_equal(pthread_join(job->thread, NULL), 0);
}

static void lose_power(enum sim_loss loss)
{
    sim_cut_at(store.disk, 1);
    store_drop(&store);
    sim_reboot(store.disk, loss);
    store_open(&store);
}

static void hear(void *ctx, storm_status status, uint64_t revision)
{
    (void)revision;
    atomic_store((_Atomic storm_status *)ctx, status);
}

/* An asynchronous write that finds the turn taken is the commit thread's. */
static void write_by_commit_thread(const char *key)
{
    struct storm_write_options options = {STORM_SYNC_INTERVAL};
    _Atomic storm_status heard = STORM_PENDING;
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_put(batch, storm_text(key), storm_text("v")), STORM_OK);
    turn_take(sdb_lsm(store.db));
    assert_int_equal(storm_write_async(store.db, batch, &options, hear, &heard, NULL),
                     STORM_PENDING);
    turn_give(sdb_lsm(store.db));
    while (atomic_load(&heard) == STORM_PENDING)
        pause_us(100);
    assert_int_equal(atomic_load(&heard), STORM_OK);
    storm_batch_destroy(batch);
}

static void writes_go_on_during_a_slow_sync(void **state)
{
    char key[16];
    (void)state;
    uint64_t before = syncs();
    assert_int_equal(put_text(store.db, "first", "v"), STORM_OK);
    begin_slow_sync();
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "key%03d", i);
        if (i % 10 == 9)
            write_by_commit_thread(key);
        else
            assert_int_equal(put_text(store.db, key, "v"), STORM_OK);
        assert_string_equal(get_text(store.db, NULL, key), "v");
    }
    assert_int_equal(syncs(), before); /* it still lasts */
    gate_set(false, false);
    wait_syncs(before + 1);
    /* What was written meanwhile is the next interval's. */
    make_due();
    wait_syncs(before + 2);
    lose_power(SIM_LOSE_ALL);
    for (int i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "key%03d", i);
        assert_string_equal(get_text(store.db, NULL, key), "v");
    }
}

/* `first` is written and synced, `second` while that sync comes back from the disk. */
static void write_behind_a_sync(struct storm_slice first, struct storm_slice second)
{
    static const uint8_t value[3000];
    uint64_t before = syncs();
    assert_int_equal(storm_put(store.db, first, storm_bytes(value, sizeof value)), STORM_OK);
    gate_shut_late();
    make_due();
    gate_wait();
    make_long();
    assert_int_equal(storm_put(store.db, second, storm_bytes(value, sizeof value)), STORM_OK);
    gate_set(false, false);
    wait_syncs(before + 1);
}

static bool is_there(const char *key)
{
    struct storm_value value;
    storm_status status = storm_get(store.db, NULL, storm_text(key), &value);
    storm_value_release(&value);
    return status == STORM_OK;
}

static void what_is_appended_during_a_sync_is_the_next_ones(void **state)
{
    (void)state;
    uint64_t before = syncs();
    write_behind_a_sync(storm_text("first"), storm_text("second"));
    make_due();
    wait_syncs(before + 2);
    lose_power(SIM_LOSE_ALL);
    assert_true(is_there("second"));
}

/* A later record that vouched for one that was never synced would make damage of a torn tail. */
static void nothing_vouches_for_what_was_appended_during_a_sync(void **state)
{
    unsigned lost = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        static const uint8_t value[3000];
        (void)tear_down(state);
        open_on_disk(seed);
        write_behind_a_sync(storm_text("first"), storm_text("second"));
        assert_int_equal(storm_put(store.db, storm_text("third"), storm_bytes(value, sizeof value)),
                         STORM_OK);
        lose_power(seed % 2 == 0 ? SIM_KEEP_SOME : SIM_KEEP_TORN);
        assert_true(is_there("first"));
        assert_true(is_there("second") || !is_there("third"));
        lost += !is_there("second");
    }
    assert_in_range(lost, 10, 60);
}

static void a_write_that_needs_a_sync_waits_and_gets_its_own(void **state)
{
    struct job job = {0};
    (void)state;
    uint64_t before = syncs();
    assert_int_equal(put_text(store.db, "first", "v"), STORM_OK);
    begin_slow_sync();
    start(&job, write_synced, "synced");
    for (int i = 0; i < 50; i++) {
        pause_us(200);
        assert_false(atomic_load(&job.is_done));
        assert_string_equal(get_text(store.db, NULL, "synced"), "(none)");
    }
    gate_set(false, false);
    finish(&job);
    assert_int_equal(job.status, STORM_OK);
    assert_int_equal(syncs(), before + 2);
    lose_power(SIM_LOSE_ALL);
    assert_string_equal(get_text(store.db, NULL, "synced"), "v");
}

/* The disk tells of the failure once. The group's own sync would succeed. */
static void a_failed_sync_fails_the_group_that_waits_for_it(void **state)
{
    struct job job = {0};
    (void)state;
    assert_int_equal(put_text(store.db, "first", "v"), STORM_OK);
    begin_slow_sync();
    start(&job, write_synced, "synced");
    pause_us(20000);
    sim_plan_set(
        store.disk,
        (struct sim_plan){.call = SIM_SYNC, .nth = 1, .status = STORM_IO, .half_done = true});
    gate_set(false, false);
    finish(&job);
    assert_int_equal(job.status, STORM_COMMIT_UNKNOWN);
    assert_string_equal(get_text(store.db, NULL, "synced"), "(none)");
    assert_string_equal(get_text(store.db, NULL, "first"), "v");
    assert_int_equal(put_text(store.db, "later", "v"), STORM_READ_ONLY);
    assert_int_equal(storm_close(store.db), STORM_COMMIT_UNKNOWN);
    store.db = NULL;
    sim_reboot(store.disk, SIM_LOSE_ALL);
    store_open(&store);
    assert_string_equal(get_text(store.db, NULL, "later"), "(none)");
}

static void a_failed_sync_is_final_without_anybody_waiting(void **state)
{
    struct storm_stats stats = {0};
    (void)state;
    assert_int_equal(put_text(store.db, "first", "v"), STORM_OK);
    begin_slow_sync();
    assert_int_equal(put_text(store.db, "meanwhile", "v"), STORM_OK);
    sim_plan_set(store.disk, (struct sim_plan){.call = SIM_SYNC, .nth = 1, .status = STORM_IO});
    gate_set(false, false);
    while (!stats.read_only) {
        pause_us(100);
        assert_int_equal(storm_stats_read(store.db, &stats), STORM_OK);
    }
    assert_string_equal(get_text(store.db, NULL, "meanwhile"), "v");
    assert_int_equal(put_text(store.db, "later", "v"), STORM_READ_ONLY);
    assert_int_equal(storm_close(store.db), STORM_COMMIT_UNKNOWN);
    store.db = NULL;
}

/* A failed append is taken back with a sync of its own, after the one under way. */
static void *write_unsynced(void *arg)
{
    struct job *job = arg;
    job->status = write_with(job->key, STORM_SYNC_INTERVAL);
    atomic_store(&job->is_done, true);
    return NULL;
}

static void an_append_fails_and_is_taken_back_beside_a_sync(void **state)
{
    struct job job = {0};
    (void)state;
    assert_int_equal(put_text(store.db, "first", "v"), STORM_OK);
    begin_slow_sync();
    sim_plan_set(store.disk,
                 (struct sim_plan){.call = SIM_WRITE, .nth = 1, .status = STORM_NO_SPACE});
    start(&job, write_unsynced, "refused");
    finish(&job);
    assert_int_equal(job.status, STORM_NO_SPACE);
    assert_int_equal(put_text(store.db, "good", "v"), STORM_OK);
    gate_set(false, false);
    assert_int_equal(write_with("synced", STORM_SYNC_FULL), STORM_OK);
    lose_power(SIM_LOSE_ALL);
    assert_string_equal(get_text(store.db, NULL, "refused"), "(none)");
    assert_string_equal(get_text(store.db, NULL, "good"), "v");
}

static void *close_store(void *arg)
{
    struct job *job = arg;
    job->status = storm_close(store.db);
    return NULL;
}

static void closing_waits_for_a_sync_under_way(void **state)
{
    struct job job = {0};
    (void)state;
    assert_int_equal(put_text(store.db, "first", "v"), STORM_OK);
    begin_slow_sync();
    assert_int_equal(put_text(store.db, "meanwhile", "v"), STORM_OK);
    start(&job, close_store, NULL);
    pause_us(20000);
    gate_set(false, false);
    finish(&job);
    assert_int_equal(job.status, STORM_OK);
    store.db = NULL;
    sim_reboot(store.disk, SIM_LOSE_ALL);
    store_open(&store);
    assert_string_equal(get_text(store.db, NULL, "meanwhile"), "v");
}

static atomic_uint written_out;

static void count_writeback(struct sdb_file *file, uint64_t offset, uint64_t size)
{
    (void)file;
    (void)offset;
    (void)size;
    atomic_fetch_add(&written_out, 1);
}

static void what_nobody_syncs_is_written_out_all_the_same(void **state)
{
    static uint8_t bytes[100000];
    struct storm_write_options unsynced = {.sync = STORM_SYNC_NONE};
    struct sdb_os_ops *ops = (struct sdb_os_ops *)(uintptr_t)store.os.ops; /* the disk's own */
    (void)state;
    store_close(&store);
    store.options.write_buffer_bytes = 128 << 20;
    store.options.memtable_bytes = 64 << 20; /* no flush writes anything */
    ops->start_writeback = count_writeback;
    store_open(&store);
    atomic_store(&written_out, 0);
    for (int i = 0; i < 40; i++) { /* 4 MB, the log of a moment */
        storm_batch *batch = storm_batch_create();
        assert_non_null(batch);
        assert_int_equal(storm_batch_put(batch, storm_text("k"), storm_bytes(bytes, sizeof bytes)),
                         STORM_OK);
        assert_int_equal(storm_write(store.db, batch, &unsynced, NULL), STORM_OK);
        storm_batch_destroy(batch);
    }
    for (int i = 0; i < 1000 && atomic_load(&written_out) == 0; i++)
        pause_us(10000);
    assert_true(atomic_load(&written_out) != 0);
}

static void *fill_a_segment(void *arg)
{
    struct job *job = arg;
    static const uint8_t bytes[16 << 10];
    char key[16];
    job->status = STORM_OK;
    for (int i = 0; i < 40 && job->status == STORM_OK; i++) {
        snprintf(key, sizeof key, "large%d", i);
        job->status = storm_put(store.db, storm_text(key), storm_bytes(bytes, sizeof bytes));
    }
    atomic_store(&job->is_done, true);
    return NULL;
}

static void a_segment_is_not_left_during_its_sync(void **state)
{
    struct job job = {0};
    struct storm_stats stats;
    struct sdb_tuning tuning;
    (void)state;
    sdb_tuning_init(&tuning, &store.options);
    tuning.segment_bytes = 1 << 20;
    store_close(&store);
    store.tuning = &tuning;
    store_open(&store);
    /* Of a segment's 1024 KiB this takes 640, and the same again comes to its end. */
    start(&job, fill_a_segment, NULL);
    finish(&job);
    assert_int_equal(job.status, STORM_OK);
    atomic_store(&job.is_done, false);
    begin_slow_sync();
    start(&job, fill_a_segment, NULL);
    pause_us(200000);
    assert_false(atomic_load(&job.is_done));
    gate_set(false, false);
    finish(&job);
    assert_int_equal(job.status, STORM_OK);
    assert_int_equal(storm_stats_read(store.db, &stats), STORM_OK);
    assert_int_equal(stats.log_segments, 2);
    lose_power(SIM_KEEP_ALL);
    assert_true(is_there("large39"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(writes_go_on_during_a_slow_sync),
        TEST(what_nobody_syncs_is_written_out_all_the_same),
        TEST(what_is_appended_during_a_sync_is_the_next_ones),
        TEST(nothing_vouches_for_what_was_appended_during_a_sync),
        TEST(a_write_that_needs_a_sync_waits_and_gets_its_own),
        TEST(a_failed_sync_fails_the_group_that_waits_for_it),
        TEST(a_failed_sync_is_final_without_anybody_waiting),
        TEST(an_append_fails_and_is_taken_back_beside_a_sync),
        TEST(closing_waits_for_a_sync_under_way),
        TEST(a_segment_is_not_left_during_its_sync),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    alarm(HANG_SECONDS); /* a wait without a waker */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
