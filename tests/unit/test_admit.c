/*
 * Writers under pressure: slowed before they are stopped, each wait counted under its cause, woken
 * whatever ends it; asynchronous writers never held up; the last of the disk never used.
 *
 * Pressure is made to order: level 0 by flushes that nothing compacts, memory by a flush that hangs
 * at manifest_mu, the disk by the twin's capacity. A wait without a waker would hang, so an alarm
 * ends the program.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "os/thread.h"
#include "random.h"

enum { HANG_SECONDS = 120 };

/* Nothing is compacted but by hand, and level 0 is full with ten tables. */
static const struct sdb_tuning ten_tables = {
    .table_bytes = 1 << 20,
    .base_bytes = 1 << 30,
    .multiplier = 10,
    .level0_files = 1000,
    .level0_stall = 10,
    .settle_ns = UINT64_C(1000000000000),
    .retry_ns = 1000000,
    .is_by_hand = true,
};

static const uint8_t zeroes[1 << 20];

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static struct storm_stats stats_of(storm_db *db)
{
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(db, &stats), STORM_OK);
    return stats;
}

static storm_status put_bytes(storm_db *db, const char *key, size_t size)
{
    return storm_put(db, storm_text(key), storm_bytes(zeroes, size));
}

/* Values of 1000 bytes that no codec makes smaller. */
static void put_random(storm_db *db, unsigned count)
{
    uint64_t random = 1;
    for (unsigned i = 0; i < count; i++) {
        char key[32];
        uint8_t value[1000];
        snprintf(key, sizeof key, "random %u", i);
        random_bytes(&random, value, sizeof value);
        assert_int_equal(storm_put(db, storm_text(key), storm_bytes(value, sizeof value)),
                         STORM_OK);
    }
}

/* An unsynced store with a memtable of 1 MiB, and of the write buffer that is given. */
static void open_store(struct store *store, size_t write_buffer, const struct sdb_tuning *tuning)
{
    store_init(store, 1);
    store->options.memtable_bytes = 1 << 20;
    store->options.write_buffer_bytes = write_buffer;
    store->options.sync = STORM_SYNC_NONE;
    store->tuning = tuning;
    store_open(store);
}

/* As if much had just been let in: the next write waits as long as any may, if it has to wait at
 * all. */
static void owe(storm_db *base)
{
    struct sdb_lsm *db = sdb_lsm(base);
    pthread_mutex_lock(&db->mu);
    db->admission.pacer.due_ns = sdb_monotonic_ns() + UINT64_C(20000000000);
    pthread_mutex_unlock(&db->mu);
}

static double ns_per_byte(storm_db *base)
{
    struct sdb_lsm *db = sdb_lsm(base);
    pthread_mutex_lock(&db->mu);
    double ns = db->admission.ns_per_byte;
    pthread_mutex_unlock(&db->mu);
    return ns;
}

static void fill_level0(struct store *store, unsigned tables)
{
    while (stats_of(store->db).level_files[0] < tables) {
        assert_int_equal(put_text(store->db, "key", "value"), STORM_OK);
        assert_int_equal(storm_flush(store->db, NULL), STORM_OK);
    }
}

/* A writer of its own thread. */
struct writer {
    storm_db *db;
    size_t size;
    pthread_t thread;
    _Atomic storm_status status;
};

static void *put_one(void *arg)
{
    struct writer *writer = arg;
    atomic_store(&writer->status, put_bytes(writer->db, "of another thread", writer->size));
    return NULL;
}

/* Start it, and see that it waits. */
static void start_waiting(struct writer *writer, storm_db *db, size_t size)
{
    writer->db = db;
    writer->size = size;
    atomic_store(&writer->status, STORM_PENDING);
    assert_int_equal(pthread_create(&writer->thread, NULL, put_one, writer), 0);
    sleep_ms(80);
    assert_int_equal(atomic_load(&writer->status), STORM_PENDING);
}

static storm_status outcome(struct writer *writer)
{
    pthread_join(writer->thread, NULL);
    return atomic_load(&writer->status);
}

/* An asynchronous put. */
struct heard {
    storm_batch *batch;
    storm_status submitted;
    _Atomic storm_status status; /* STORM_PENDING until heard */
    uint64_t revision;
    _Atomic unsigned times;
};

static void hear(void *ctx, storm_status status, uint64_t revision)
{
    struct heard *heard = ctx;
    heard->revision = revision;
    atomic_fetch_add(&heard->times, 1);
    atomic_store(&heard->status, status);
}

static void submit(struct heard *heard, storm_db *db, const char *key, struct storm_slice value)
{
    *heard = (struct heard){.batch = storm_batch_create()};
    atomic_store(&heard->status, STORM_PENDING);
    assert_int_equal(storm_batch_put(heard->batch, storm_text(key), value), STORM_OK);
    heard->submitted = storm_write_async(db, heard->batch, NULL, hear, heard, &heard->revision);
}

static storm_status finish(struct heard *heard)
{
    while (heard->submitted == STORM_PENDING && atomic_load(&heard->status) == STORM_PENDING)
        sleep_ms(1);
    storm_batch_destroy(heard->batch);
    return heard->submitted == STORM_PENDING ? atomic_load(&heard->status) : heard->submitted;
}

static storm_status put_async(storm_db *db, const char *key, size_t size)
{
    struct heard heard;
    submit(&heard, db, key, storm_bytes(zeroes, size));
    return finish(&heard);
}

/* Only `cause` has made writers wait. */
static void assert_only(const struct storm_stats *stats, enum storm_wait_cause cause)
{
    assert_true(stats->write_waits > 0);
    assert_int_equal(stats->write_waits, stats->write_waits_by[cause]);
    assert_true(stats->write_wait_us > 0);
    assert_int_equal(stats->write_wait_us, stats->write_wait_us_by[cause]);
    assert_true(stats->write_wait_longest_us <= stats->write_wait_us);
}

/* ---- Causes ---- */

static void level_0_slows_writes_down_before_it_stops_them(void **state)
{
    struct store store;
    struct writer writer;
    (void)state;
    open_store(&store, 16 << 20, &ten_tables);
    fill_level0(&store, 6);
    owe(store.db);
    assert_int_equal(put_text(store.db, "k", "v"), STORM_OK); /* at 0.6: not yet */
    assert_int_equal(stats_of(store.db).write_waits, 0);
    fill_level0(&store, 7);
    owe(store.db);
    assert_int_equal(put_text(store.db, "k", "v"), STORM_OK);
    struct storm_stats slowed = stats_of(store.db);
    assert_only(&slowed, STORM_WAIT_LEVEL0);
    assert_true(slowed.write_pressure > 0.69 && slowed.write_pressure < 0.71);
    double at_7 = ns_per_byte(store.db);
    fill_level0(&store, 9);
    assert_true(at_7 > 0 && ns_per_byte(store.db) > 2 * at_7);
    assert_int_equal(stats_of(store.db).writes_refused, 0);

    fill_level0(&store, 10);
    assert_true(stats_of(store.db).write_pressure >= 1);
    assert_int_equal(put_async(store.db, "k", 10), STORM_BUSY);
    assert_in_range(storm_busy_ms(store.db), 1, 60000);
    assert_int_equal(stats_of(store.db).writes_refused, 1);
    start_waiting(&writer, store.db, 10);
    struct sdb_lsm *db = sdb_lsm(store.db);
    pthread_mutex_lock(&db->mu);
    db->tuning.is_by_hand = false;
    db->tuning.level0_files = 4;
    sdb_compact_wake(db);
    pthread_mutex_unlock(&db->mu);
    assert_int_equal(outcome(&writer), STORM_OK);
    struct storm_stats stats = stats_of(store.db);
    assert_only(&stats, STORM_WAIT_LEVEL0);
    assert_true(stats.write_wait_longest_us >= 20000);
    assert_true(stats.write_pressure < 0.6);
    assert_int_equal(put_async(store.db, "k", 10), STORM_OK);
    store_fini(&store);
}

/* Write until the pressure is just below a stop. The flush hangs at manifest_mu, which is held. */
static void fill_memory(struct store *store)
{
    while (stats_of(store->db).write_pressure < 0.93) {
        owe(store->db);
        assert_int_equal(put_bytes(store->db, "k", 100000), STORM_OK);
    }
}

static void memory_slows_writes_down_before_it_stops_them(void **state)
{
    struct store store;
    struct writer writer;
    (void)state;
    open_store(&store, 16 << 20, &ten_tables);
    struct sdb_lsm *db = sdb_lsm(store.db);
    pthread_mutex_lock(&db->manifest_mu);
    fill_memory(&store);
    struct storm_stats slowed = stats_of(store.db);
    assert_only(&slowed, STORM_WAIT_MEMORY);
    storm_status status = STORM_OK;
    for (unsigned i = 0; i < 1000 && status == STORM_OK; i++)
        status = put_async(store.db, "k", 100000);
    assert_int_equal(status, STORM_BUSY);
    assert_int_equal(stats_of(store.db).writes_refused, 1);
    assert_in_range(storm_busy_ms(store.db), 1, 60000);
    start_waiting(&writer, store.db, 10);
    pthread_mutex_unlock(&db->manifest_mu);
    assert_int_equal(outcome(&writer), STORM_OK);
    struct storm_stats stats = stats_of(store.db);
    assert_only(&stats, STORM_WAIT_MEMORY);
    assert_true(stats.write_wait_longest_us >= 20000);
    store_fini(&store);
}

static void debt_of_compaction_slows_writes_down(void **state)
{
    struct sdb_tuning tuning = ten_tables;
    struct store store;
    (void)state;
    /* All 300 KB in level 0 are debt, to be rewritten twice: about 0.8 of 300 KB and 8 bases. */
    tuning.base_bytes = 56 << 10;
    open_store(&store, 4 << 20, &tuning);
    put_random(store.db, 300);
    assert_int_equal(stats_of(store.db).write_waits, 0);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    /* It counts as long as compaction has found something to do. Here it has not, and may yet say
     * so. */
    struct sdb_lsm *db = sdb_lsm(store.db);
    while (stats_of(store.db).write_waits == 0) {
        pthread_mutex_lock(&db->mu);
        db->compact_rests = false;
        sdb_admission_tree_changed(db);
        double pressure = db->admission.pressure.by[STORM_WAIT_COMPACTION];
        pthread_mutex_unlock(&db->mu);
        assert_true(pressure > 0.65 && pressure < 0.95);
        owe(store.db);
        assert_int_equal(put_text(store.db, "k", "v"), STORM_OK);
    }
    struct storm_stats stats = stats_of(store.db);
    assert_only(&stats, STORM_WAIT_COMPACTION);
    store_fini(&store);
}

static void nobody_waits_for_a_debt_that_nothing_will_settle(void **state)
{
    struct sdb_tuning tuning = ten_tables;
    struct store store;
    (void)state;
    tuning.base_bytes = 2048; /* the debt is nearly twice its limit */
    open_store(&store, 4 << 20, &tuning);
    for (unsigned i = 0; i < 3; i++) {
        put_random(store.db, 300); /* would wait for ever */
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    }
    assert_true(stats_of(store.db).compaction_pending_bytes > 300000);
    store_fini(&store);
}

/* ---- Wakers ---- */

/* Have the next write that is slowed down wait for twenty seconds. */
static void pace_for_ever(struct sdb_lsm *db)
{
    pthread_mutex_lock(&db->mu);
    db->admission.flush_ns = UINT64_C(30000000000);
    pthread_mutex_unlock(&db->mu);
    owe(&db->base);
}

static void a_flush_ends_the_delay_that_memory_was_the_cause_of(void **state)
{
    struct store store;
    struct writer writer;
    (void)state;
    open_store(&store, 1 << 20, &ten_tables);
    while (stats_of(store.db).write_pressure < 0.7)
        assert_int_equal(put_bytes(store.db, "k", 20000), STORM_OK);
    uint64_t start = sdb_monotonic_ns();
    pace_for_ever(sdb_lsm(store.db));
    start_waiting(&writer, store.db, 10);
    /* Who is held back is in nobody's way. */
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(outcome(&writer), STORM_OK);
    assert_true(sdb_monotonic_ns() - start < UINT64_C(10000000000));
    store_fini(&store);
}

static void a_broken_store_ends_every_delay(void **state)
{
    struct store store;
    struct writer writer;
    struct heard heard;
    (void)state;
    open_store(&store, 1 << 20, &ten_tables);
    fill_level0(&store, 8);
    uint64_t start = sdb_monotonic_ns();
    struct sdb_lsm *db = sdb_lsm(store.db);
    pace_for_ever(db);
    start_waiting(&writer, store.db, 10);
    submit(&heard, store.db, "k", storm_text("v"));
    pthread_mutex_lock(&db->mu);
    sdb_lsm_break(db);
    pthread_mutex_unlock(&db->mu);
    assert_int_equal(outcome(&writer), STORM_READ_ONLY);
    assert_int_equal(finish(&heard), STORM_READ_ONLY);
    assert_true(sdb_monotonic_ns() - start < UINT64_C(10000000000));
    store_fini(&store);
}

static void a_close_commits_what_is_held_at_once(void **state)
{
    struct store store;
    struct heard heard[5];
    (void)state;
    open_store(&store, 1 << 20, &ten_tables);
    fill_level0(&store, 8);
    pace_for_ever(sdb_lsm(store.db));
    uint64_t start = sdb_monotonic_ns();
    for (size_t i = 0; i < 5; i++) {
        submit(&heard[i], store.db, "held", storm_text("v"));
        assert_int_equal(heard[i].submitted, STORM_PENDING);
    }
    sleep_ms(20);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(atomic_load(&heard[i].times), 0);
    store_close(&store);
    assert_true(sdb_monotonic_ns() - start < UINT64_C(10000000000));
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(atomic_load(&heard[i].times), 1);
        assert_int_equal(finish(&heard[i]), STORM_OK);
    }
    store_open(&store);
    assert_string_equal(get_text(store.db, NULL, "held"), "v");
    store_fini(&store);
}

static void
who_waits_for_a_flush_hears_that_it_failed_and_writes_again_once_one_succeeds(void **state)
{
    struct store store;
    struct writer writer;
    storm_status status = STORM_OK;
    (void)state;
    open_store(&store, 16 << 20, &ten_tables);
    struct sdb_lsm *db = sdb_lsm(store.db);
    pthread_mutex_lock(&db->manifest_mu);
    fill_memory(&store);
    for (unsigned i = 0; i < 1000 && status == STORM_OK; i++)
        status = put_async(store.db, "k", 100000);
    assert_int_equal(status, STORM_BUSY);
    start_waiting(&writer, store.db, 10);
    sim_plan_set(store.disk, (struct sim_plan){SIM_WRITE, 1, true, STORM_NO_SPACE, false});
    pthread_mutex_unlock(&db->manifest_mu);
    assert_int_equal(outcome(&writer), STORM_NO_SPACE);
    sim_plan_set(store.disk, (struct sim_plan){0});
    for (unsigned i = 0; i < 5000 && status != STORM_OK; i++) {
        sleep_ms(1);
        status = put_text(store.db, "k", "v");
    }
    assert_int_equal(status, STORM_OK);
    store_fini(&store);
}

/* ---- Asynchronous writers ---- */

static void held_writes_keep_their_order(void **state)
{
    enum { WRITES = 40 };
    struct store store;
    struct heard heard[WRITES];
    (void)state;
    open_store(&store, 64 << 20, &ten_tables);
    fill_level0(&store, 9);
    unsigned held = 0;
    for (unsigned i = 0; i < WRITES; i++) {
        /* Large ones are held; small ones alone would not be, and must not pass them. */
        static uint8_t value[20000];
        value[0] = (uint8_t)i;
        submit(&heard[i], store.db, "k", storm_bytes(value, i % 2 == 0 ? sizeof value : 1));
        held += heard[i].submitted == STORM_PENDING;
    }
    assert_true(held > WRITES / 2);
    uint64_t last = 0;
    for (unsigned i = 0; i < WRITES; i++) {
        assert_int_equal(finish(&heard[i]), STORM_OK);
        assert_true(heard[i].revision > last);
        last = heard[i].revision;
    }
    struct storm_value value;
    assert_int_equal(storm_get(store.db, NULL, storm_text("k"), &value), STORM_OK);
    assert_int_equal(value.bytes.data[0], WRITES - 1);
    storm_value_release(&value);
    struct storm_stats stats = stats_of(store.db);
    assert_only(&stats, STORM_WAIT_LEVEL0);
    assert_int_equal(stats.writes_refused, 0);
    store_fini(&store);
}

/* ---- Disk ---- */

/* The disk is looked at a moment after a flush. */
static void wait_for_pressure(storm_db *db, double wanted)
{
    while (stats_of(db).write_pressure < wanted)
        sleep_ms(1);
}

static void the_last_of_the_disk_is_kept_for_flushes(void **state)
{
    const size_t mib = 1 << 20;
    struct store store;
    char text[512];
    (void)state;
    open_store(&store, mib, &ten_tables); /* which keeps 3 MiB */
    sim_capacity_set(store.disk, sim_used_bytes(store.disk) + 4 * mib - mib / 2);
    fill_level0(&store, 1);
    wait_for_pressure(store.db, 0.7);
    owe(store.db);
    assert_int_equal(put_bytes(store.db, "k", 50000), STORM_OK);
    struct storm_stats stats = stats_of(store.db);
    assert_only(&stats, STORM_WAIT_DISK);
    assert_int_equal(stats.disk_kept_bytes, 3 * mib);
    assert_true(stats.disk_free_bytes > stats.disk_kept_bytes);
    assert_int_equal(put_text(store.db, "acknowledged", "before"), STORM_OK);

    sim_capacity_set(store.disk, sim_used_bytes(store.disk) + 2 * mib);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK); /* there is always room for it */
    wait_for_pressure(store.db, 1);
    assert_int_equal(put_text(store.db, "k", "v"), STORM_NO_SPACE);
    stats = stats_of(store.db);
    assert_true(stats.disk_free_bytes <= stats.disk_kept_bytes);
    assert_int_equal(put_async(store.db, "k", 1), STORM_NO_SPACE);
    assert_string_equal(get_text(store.db, NULL, "acknowledged"), "before");
    storm_last_error(store.db, text, sizeof text);
    assert_non_null(strstr(text, "kept for flushes"));
    assert_int_equal(stats_of(store.db).errors, 1); /* said once */
    assert_int_equal(stats_of(store.db).writes_refused, 0);
    sleep_ms(20);
    assert_int_equal(put_text(store.db, "k", "v"), STORM_NO_SPACE);

    sim_capacity_set(store.disk, 0); /* nobody but the store itself is to notice */
    storm_status status = STORM_NO_SPACE;
    for (unsigned i = 0; i < 5000 && status == STORM_NO_SPACE; i++) {
        sleep_ms(1);
        status = put_text(store.db, "acknowledged", "after");
    }
    assert_int_equal(status, STORM_OK);
    assert_true(stats_of(store.db).write_pressure < 0.6);
    store_fini(&store);
}

/* A tree of small tables. */
static const struct sdb_tuning small = {
    .table_bytes = 64 << 10,
    .base_bytes = 256 << 10,
    .multiplier = 4,
    .level0_files = 3,
    .level0_stall = 12,
    .settle_ns = 2000000,
    .retry_ns = 1000000,
};

/* Counts what a full disk must not lead to. */
static void count_failures(void *ctx, enum storm_log_level level, const char *line)
{
    (void)level;
    if (strstr(line, "failed") != NULL || strstr(line, "No space") != NULL) {
        print_message("%s\n", line);
        atomic_fetch_add((_Atomic unsigned *)ctx, 1);
    }
}

static void a_disk_that_fills_up_meets_no_failing_call(void **state)
{
    _Atomic unsigned failures = 0;
    struct store store;
    storm_status status = STORM_OK;
    unsigned written = 0;
    (void)state;
    open_store(&store, 1 << 20, &small);
    store_close(&store);
    store.options.memtable_bytes = 64 << 10;
    store.options.codec = STORM_CODEC_NONE;
    store.errors.log = count_failures;
    store.errors.log_ctx = &failures;
    store_open(&store);
    sim_capacity_set(store.disk, 10 << 20);
    for (; status == STORM_OK && written < 100000; written++) {
        char key[32];
        snprintf(key, sizeof key, "%08u", written * 7919 % 100000);
        status = put_bytes(store.db, key, 1000);
    }
    assert_int_equal(status, STORM_NO_SPACE);
    assert_true(written > 1000);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    sleep_ms(50); /* compactions, for which there may be no room */
    assert_int_equal(atomic_load(&failures), 0);
    assert_true(stats_of(store.db).disk_free_bytes > 0);
    for (unsigned i = 0; i < written - 1; i += 97) {
        char key[32];
        snprintf(key, sizeof key, "%08u", i * 7919 % 100000);
        struct storm_value value;
        assert_int_equal(storm_get(store.db, NULL, storm_text(key), &value), STORM_OK);
        assert_int_equal(value.bytes.size, 1000);
        storm_value_release(&value);
    }
    sim_capacity_set(store.disk, 100 << 20);
    for (unsigned i = 0; i < 5000 && status == STORM_NO_SPACE; i++) {
        sleep_ms(1);
        status = put_text(store.db, "k", "v");
    }
    assert_int_equal(status, STORM_OK);
    assert_int_equal(storm_compact(store.db, storm_text(""), storm_text(""), NULL, NULL), STORM_OK);
    store_fini(&store);
}

static void a_compaction_without_room_is_not_begun(void **state)
{
    struct store store;
    char text[512];
    (void)state;
    open_store(&store, 1 << 20, &ten_tables);
    put_random(store.db, 700);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    uint64_t table_bytes = stats_of(store.db).sstable_bytes;
    assert_true(table_bytes > 200000);
    /* Room for half of it beyond the 3 MiB that are kept. */
    sim_capacity_set(store.disk, sim_used_bytes(store.disk) + (3 << 20) + table_bytes / 2);
    uint64_t written = stats_of(store.db).bytes_written_tables;
    assert_int_equal(storm_compact(store.db, storm_text(""), storm_text(""), NULL, NULL),
                     STORM_NO_SPACE);
    storm_last_error(store.db, text, sizeof text);
    assert_non_null(strstr(text, "no room for what compaction would write"));
    assert_int_equal(stats_of(store.db).bytes_written_tables, written);
    assert_int_equal(stats_of(store.db).level_files[0], 1);
    sim_capacity_set(store.disk, sim_used_bytes(store.disk) + (4 << 20) + table_bytes);
    assert_int_equal(storm_compact(store.db, storm_text(""), storm_text(""), NULL, NULL), STORM_OK);
    assert_int_equal(stats_of(store.db).level_files[0], 0);
    store_fini(&store);
}

/* ---- Many at once ---- */

enum { WRITERS = 6, EACH = 400 };

struct crowd {
    storm_db *db;
    _Atomic unsigned next;
};

static void *write_many(void *arg)
{
    struct crowd *crowd = arg;
    unsigned number = atomic_fetch_add(&crowd->next, 1);
    for (unsigned i = 0; i < EACH; i++) {
        char key[32];
        storm_status status = STORM_BUSY;
        snprintf(key, sizeof key, "%u.%u", number, i);
        while (status == STORM_BUSY) {
            status =
                number % 3 == 0 ? put_async(crowd->db, key, 2000) : put_bytes(crowd->db, key, 2000);
            if (status == STORM_BUSY)
                sleep_ms(1);
        }
        assert_int_equal(status, STORM_OK);
    }
    return NULL;
}

static void many_writers_under_pressure_lose_nothing_and_end(void **state)
{
    struct sdb_tuning tuning = small;
    struct store store;
    struct crowd crowd = {0};
    pthread_t threads[WRITERS];
    (void)state;
    tuning.level0_stall = 4;
    open_store(&store, 1 << 20, &tuning);
    store_close(&store);
    store.options.memtable_bytes = 64 << 10;
    store_open(&store);
    crowd.db = store.db;
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &crowd), 0);
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(stats_of(store.db).writes, WRITERS * EACH);
    assert_true(stats_of(store.db).write_waits > 0);
    for (unsigned n = 0; n < WRITERS; n++) {
        for (unsigned i = 0; i < EACH; i += 13) {
            char key[32];
            struct storm_value value;
            snprintf(key, sizeof key, "%u.%u", n, i);
            assert_int_equal(storm_get(store.db, NULL, storm_text(key), &value), STORM_OK);
            storm_value_release(&value);
        }
    }
    store_fini(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(level_0_slows_writes_down_before_it_stops_them),
        cmocka_unit_test(memory_slows_writes_down_before_it_stops_them),
        cmocka_unit_test(debt_of_compaction_slows_writes_down),
        cmocka_unit_test(nobody_waits_for_a_debt_that_nothing_will_settle),
        cmocka_unit_test(a_flush_ends_the_delay_that_memory_was_the_cause_of),
        cmocka_unit_test(a_broken_store_ends_every_delay),
        cmocka_unit_test(a_close_commits_what_is_held_at_once),
        cmocka_unit_test(
            who_waits_for_a_flush_hears_that_it_failed_and_writes_again_once_one_succeeds),
        cmocka_unit_test(held_writes_keep_their_order),
        cmocka_unit_test(the_last_of_the_disk_is_kept_for_flushes),
        cmocka_unit_test(a_disk_that_fills_up_meets_no_failing_call),
        cmocka_unit_test(a_compaction_without_room_is_not_begun),
        cmocka_unit_test(many_writers_under_pressure_lose_nothing_and_end),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    alarm(HANG_SECONDS);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
