/*
 * Who waits in the commit queue, and who wakes them: every wait has a waker, whatever comes
 * between. A wait without one would hang, so an alarm ends the program.
 */
#include "store.h"

#include <time.h>
#include <unistd.h>

#include "test_dir.h"
#include "turn.h"

enum { HANG_SECONDS = 60 };

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

struct writer {
    storm_db *db;
    pthread_t thread;
    storm_status status;
};

static void *put_one(void *arg)
{
    struct writer *writer = arg;
    writer->status = put_text(writer->db, "written by", "another thread");
    return NULL;
}

static void start_writer(struct writer *writer, storm_db *db)
{
    *writer = (struct writer){.db = db, .status = STORM_PENDING};
    assert_int_equal(pthread_create(&writer->thread, NULL, put_one, writer), 0);
}

static void hear(void *ctx, storm_status status, uint64_t revision)
{
    (void)revision;
    atomic_store((_Atomic storm_status *)ctx, status);
}

/* The outcome of an unsynced asynchronous put of `size` bytes. */
static storm_status put_async(storm_db *db, unsigned number, size_t size)
{
    static uint8_t bytes[64 << 10];
    char key[32];
    _Atomic storm_status heard = STORM_PENDING;
    struct storm_write_options options = {STORM_SYNC_NONE};
    storm_batch *batch = storm_batch_create();
    snprintf(key, sizeof key, "key %08u", number);
    assert_int_equal(storm_batch_put(batch, storm_text(key), storm_bytes(bytes, size)), STORM_OK);
    storm_status status = storm_write_async(db, batch, &options, hear, &heard, NULL);
    while (status == STORM_PENDING) {
        sleep_ms(1);
        status = atomic_load(&heard);
    }
    storm_batch_destroy(batch);
    return status;
}

/* Whether asynchronous writes are taken again within ten seconds. */
static bool is_taken_again(storm_db *db, unsigned number)
{
    for (unsigned i = 0; i < 2000; i++) {
        storm_status status = put_async(db, number, 100);
        if (status == STORM_OK)
            return true;
        assert_int_equal(status, STORM_BUSY);
        sleep_ms(5);
    }
    return false;
}

/* ---- Memory ---- */

static void a_store_that_recovers_more_than_its_budget_takes_async_writes(void **state)
{
    (void)state;
    struct store store;
    store_init(&store, 1);
    store.options.write_buffer_bytes = 8 << 20;
    store.options.memtable_bytes = 8 << 20;
    store_open(&store);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(put_async(store.db, i, 50000), STORM_OK);
    store_close(&store);
    store.options.write_buffer_bytes = 1 << 20;
    store.options.memtable_bytes = 1 << 20;
    store_open(&store);
    assert_true(is_taken_again(store.db, 1000));
    store_fini(&store);
}

static void a_budget_of_one_memtable_makes_nobody_busy_for_ever(void **state)
{
    (void)state;
    struct store store;
    store_init(&store, 2);
    store.options.write_buffer_bytes = 1 << 20;
    store.options.memtable_bytes = 1 << 20;
    store_open(&store);
    for (unsigned i = 0; i < 30000; i++) {
        storm_status status = put_async(store.db, i, 100);
        if (status != STORM_OK)
            assert_true(is_taken_again(store.db, i));
    }
    store_fini(&store);
}

static void *check_one(void *arg)
{
    struct writer *writer = arg;
    storm_batch *batch = storm_batch_create();
    struct storm_op op = {.kind = STORM_CHECK, .key = storm_text("key")};
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    writer->status = storm_write(writer->db, batch, NULL, NULL);
    storm_batch_destroy(batch);
    return NULL;
}

static void who_waits_for_memory_is_woken_when_the_turn_is_passed_on(void **state)
{
    (void)state;
    struct store store;
    struct writer writer, checker;
    store_init(&store, 3);
    store.options.write_buffer_bytes = 8 << 20;
    store.options.memtable_bytes = 8 << 20;
    store_open(&store);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(put_async(store.db, i, 50000), STORM_OK);
    struct sdb_lsm *db = sdb_lsm(store.db);
    /* Somebody leads, and the last in the queue adds nothing to the memtable, ... */
    turn_take(db);
    checker = (struct writer){.db = store.db, .status = STORM_PENDING};
    assert_int_equal(pthread_create(&checker.thread, NULL, check_one, &checker), 0);
    wait_queued(db, 1);
    /* ... which is over its budget; a writer that finds no room cannot seal it meanwhile. */
    pthread_mutex_lock(&db->mu);
    db->options.write_buffer_bytes = 1 << 20;
    pthread_mutex_unlock(&db->mu);
    start_writer(&writer, store.db);
    sleep_ms(50);
    turn_give(db);
    pthread_join(checker.thread, NULL);
    pthread_join(writer.thread, NULL);
    assert_int_equal(checker.status, STORM_OK);
    assert_int_equal(writer.status, STORM_OK);
    store_fini(&store);
}

/* ---- Sync by interval ---- */

/* Whether the log is synced within two seconds of silence. */
static bool is_synced_in_silence(storm_db *base)
{
    struct sdb_lsm *db = sdb_lsm(base);
    for (unsigned i = 0; i < 400; i++) {
        pthread_mutex_lock(&db->mu);
        bool is_synced = db->unsynced_since_ns == 0;
        pthread_mutex_unlock(&db->mu);
        if (is_synced)
            return true;
        sleep_ms(5);
    }
    return false;
}

/* A store on the real disk and by the real clock; its interval is 5 ms. */
static storm_db *open_with_interval(struct test_dir *dir, enum storm_sync sync)
{
    struct storm_options options;
    storm_db *db;
    test_dir_init(dir);
    storm_options_init(&options);
    options.sync = sync;
    options.sync_interval_ms = 5;
    options.write_buffer_bytes = 1 << 20;
    assert_int_equal(storm_open(dir->path, &options, &db, NULL), STORM_OK);
    return db;
}

static void the_last_writes_before_a_silence_are_synced_by_interval(void **state)
{
    (void)state;
    struct test_dir dir;
    storm_db *db = open_with_interval(&dir, STORM_SYNC_INTERVAL);
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 20; i++)
            assert_int_equal(put_text(db, "key", "value"), STORM_OK);
        assert_true(is_synced_in_silence(db));
    }
    assert_int_equal(storm_close(db), STORM_OK);
    test_dir_fini(&dir);
}

static void a_turn_that_lasts_holds_no_sync_up(void **state)
{
    (void)state;
    struct test_dir dir;
    storm_db *base = open_with_interval(&dir, STORM_SYNC_INTERVAL);
    struct sdb_lsm *db = sdb_lsm(base);
    turn_take(db);
    pthread_mutex_lock(&db->mu);
    db->unsynced_since_ns = sdb_now_ns(db->os);
    pthread_cond_signal(&db->sync_cond);
    pthread_mutex_unlock(&db->mu);
    assert_true(is_synced_in_silence(base));
    turn_give(db);
    assert_int_equal(storm_close(base), STORM_OK);
    test_dir_fini(&dir);
}

static void one_write_may_ask_for_the_interval(void **state)
{
    (void)state;
    struct test_dir dir;
    struct storm_stats before, after;
    struct storm_write_options options = {STORM_SYNC_INTERVAL};
    storm_db *db = open_with_interval(&dir, STORM_SYNC_FULL);
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_put(batch, storm_text("key"), storm_text("value")), STORM_OK);
    assert_int_equal(storm_stats_read(db, &before), STORM_OK);
    assert_int_equal(storm_write(db, batch, &options, NULL), STORM_OK);
    after = before;
    for (unsigned i = 0; i < 400 && after.log_syncs == before.log_syncs; i++) {
        sleep_ms(5);
        assert_int_equal(storm_stats_read(db, &after), STORM_OK);
    }
    assert_int_equal(after.log_syncs, before.log_syncs + 1);
    storm_batch_destroy(batch);
    assert_int_equal(storm_close(db), STORM_OK);
    test_dir_fini(&dir);
}

/* ---- Sealing ---- */

static void a_flush_of_a_broken_store_without_room_says_so(void **state)
{
    (void)state;
    struct store store;
    struct storm_stats stats = {0};
    struct storm_flush_result result;
    store_init(&store, 8);
    store.options.write_buffer_bytes = 16 << 20;
    store_open(&store);
    sim_plan_set(store.disk, (struct sim_plan){SIM_OPEN, 1, true, STORM_NO_SPACE, false});
    for (unsigned i = 0; stats.memtables_sealed < SDB_SEALED_MAX; i++) {
        assert_int_equal(put_async(store.db, i, 10000), STORM_OK);
        assert_int_equal(storm_stats_read(store.db, &stats), STORM_OK);
    }
    sim_plan_set(store.disk, (struct sim_plan){SIM_SYNC, 1, true, STORM_IO, false});
    assert_int_equal(put_text(store.db, "key", "value"), STORM_COMMIT_UNKNOWN);
    assert_int_equal(storm_flush(store.db, &result), STORM_READ_ONLY);
    store_fini(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_that_recovers_more_than_its_budget_takes_async_writes),
        cmocka_unit_test(a_budget_of_one_memtable_makes_nobody_busy_for_ever),
        cmocka_unit_test(who_waits_for_memory_is_woken_when_the_turn_is_passed_on),
        cmocka_unit_test(the_last_writes_before_a_silence_are_synced_by_interval),
        cmocka_unit_test(a_turn_that_lasts_holds_no_sync_up),
        cmocka_unit_test(one_write_may_ask_for_the_interval),
        cmocka_unit_test(a_flush_of_a_broken_store_without_room_says_so),
    };
    alarm(HANG_SECONDS);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
