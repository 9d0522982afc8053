/*
 * The engine under faults: power cuts before every change to the disk, every call failing in turn,
 * missing memory, rotten bytes. One rule for all of it: what was acknowledged is there, with its
 * value; what was refused with anything but "commit unknown" never appears; nothing is ever
 * garbage.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

#include "alloc_fail.h"
#include "random.h"

enum { KEYS = 12, ATTEMPTS = 64, VALUE = 700 };

/* Under a sanitizer an open costs ten times as much: it gets every eleventh byte, still all
 * files. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FLIP_STEP 11
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FLIP_STEP 11
#endif
#ifndef FLIP_STEP
#define FLIP_STEP 1
#endif

/* What may be found under one key: attempts since the last acknowledged one, that one included. */
struct history {
    int allowed[ATTEMPTS]; /* numbers of writes; 0 = absent */
    size_t count;
};

static struct history histories[KEYS];
static int written;
static size_t unknown_outcomes;
static size_t read_only_answers;

static void forget(void)
{
    for (size_t k = 0; k < KEYS; k++)
        histories[k] = (struct history){.count = 1};
    written = 0;
}

static struct storm_slice key_of(size_t k, char *room)
{
    return storm_bytes(room, (size_t)snprintf(room, 16, "key%02zu", k));
}

static struct storm_slice value_of(int number, char *room)
{
    memset(room, 'a' + number % 26, VALUE);
    snprintf(room, 16, "%d.", number);
    return storm_bytes(room, VALUE);
}

/* One write, and what its answer says about the future. A delete is written as number -n. */
static storm_status write_key(struct store *store, size_t k, bool is_cut)
{
    char key[16], value[VALUE];
    int number = ++written;
    bool is_delete = number % 7 == 0;
    storm_status status = is_delete ? storm_delete(store->db, key_of(k, key))
                                    : storm_put(store->db, key_of(k, key), value_of(number, value));
    struct history *history = &histories[k];
    bool is_open = is_cut || status == STORM_COMMIT_UNKNOWN;
    if (status == STORM_OK)
        history->count = 0;
    unknown_outcomes += status == STORM_COMMIT_UNKNOWN;
    read_only_answers += status == STORM_READ_ONLY;
    if (status == STORM_OK || is_open) {
        assert_true(history->count < ATTEMPTS);
        history->allowed[history->count++] = is_delete ? 0 : number;
    }
    return status;
}

/* Every key shows one of its allowed states. What is found is the only one allowed from now on. */
static void check_all(struct store *store, const char *where, uint64_t n)
{
    for (size_t k = 0; k < KEYS; k++) {
        char key[16], expected[VALUE];
        struct storm_value value;
        struct history *history = &histories[k];
        storm_status status = storm_get(store->db, NULL, key_of(k, key), &value);
        bool is_allowed = false;
        int found = 0;
        if (status == STORM_OK && value.bytes.size == VALUE)
            found = atoi((const char *)value.bytes.data);
        for (size_t i = 0; i < history->count && !is_allowed; i++) {
            if (history->allowed[i] == 0)
                is_allowed = status == STORM_NOT_FOUND;
            else if (status == STORM_OK && history->allowed[i] == found)
                is_allowed = memcmp(value_of(found, expected).data, value.bytes.data, VALUE) == 0;
        }
        storm_value_release(&value);
        if (!is_allowed)
            fail_msg("%s %llu: key %zu shows %d (status %d), last acknowledged %d", where,
                     (unsigned long long)n, k, found, status, history->allowed[0]);
        history->allowed[0] = found;
        history->count = 1;
    }
}

/* Writes, a flush, more writes, a reopen, more: some 50 writes and 3 tables. Stops when `stop`
 * says. */
static void run_workload(struct store *store, bool is_cut)
{
    if (store_try_open(store) != STORM_OK)
        return;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 16; i++) {
            (void)write_key(store, (i * 5 + (size_t)round) % KEYS, is_cut);
            if (i == 9 && storm_flush(store->db, NULL) != STORM_OK)
                continue; /* the fault at work; what follows from it is checked at the end */
        }
        if (round == 1) {
            store_drop(store);
            if (store_try_open(store) != STORM_OK)
                return;
        }
    }
    store_drop(store);
}

static void a_power_cut_before_any_change_loses_nothing(void **state)
{
    static const enum sim_loss losses[] = {SIM_LOSE_ALL, SIM_KEEP_SOME, SIM_KEEP_TORN,
                                           SIM_KEEP_ALL};
    uint64_t points = 0;
    (void)state;
    for (size_t l = 0; l < sizeof losses / sizeof losses[0]; l++) {
        bool was_cut = true;
        for (uint64_t n = 1; was_cut; n++) {
            struct store store;
            store_init(&store, n);
            forget();
            sim_cut_at(store.disk, n);
            run_workload(&store, true);
            was_cut = sim_is_cut(store.disk);
            store_drop(&store);
            sim_reboot(store.disk, losses[l]);
            if (store_try_open(&store) != STORM_OK)
                fail_msg("cut %llu, loss %zu: open: %s", (unsigned long long)n, l,
                         store.error.message);
            check_all(&store, "cut", n);
            /* What was read once stays: the recovery itself is durable. */
            store_drop(&store);
            sim_reboot(store.disk, SIM_LOSE_ALL);
            store_open(&store);
            check_all(&store, "second look after cut", n);
            store_fini(&store);
            points++;
        }
    }
    print_message("%llu power cuts survived\n", (unsigned long long)points);
}

static void a_power_cut_inside_recovery_loses_nothing(void **state)
{
    uint64_t points = 0;
    bool was_cut = true;
    (void)state;
    for (uint64_t n = 1; was_cut; n++) {
        struct store store;
        store_init(&store, n);
        forget();
        store_open(&store);
        for (size_t i = 0; i < 30; i++)
            assert_int_equal(write_key(&store, i % KEYS, false), STORM_OK);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        for (size_t i = 0; i < 9; i++)
            assert_int_equal(write_key(&store, i, false), STORM_OK);
        sim_cut_at(store.disk, 1);
        store_drop(&store);
        sim_reboot(store.disk, SIM_KEEP_TORN);
        sim_cut_at(store.disk, n);
        if (store_try_open(&store) == STORM_OK)
            store_drop(&store);
        was_cut = sim_is_cut(store.disk);
        sim_reboot(store.disk, SIM_KEEP_SOME);
        store_open(&store);
        check_all(&store, "cut in recovery", n);
        store_fini(&store);
        points++;
    }
    print_message("%llu cuts inside recovery survived\n", (unsigned long long)points);
}

/* One run with one call failing; afterwards the disk is well again and everything must be right. */
static bool survive_fault(struct sim_plan plan)
{
    struct store store;
    store_init(&store, plan.nth);
    forget();
    sim_plan_set(store.disk, plan);
    run_workload(&store, false);
    bool has_fired = sim_plan_fired(store.disk);
    sim_plan_set(store.disk, (struct sim_plan){0});
    store_drop(&store);
    if (store_try_open(&store) != STORM_OK)
        fail_msg("after fault %d at call %d.%llu: open: %s", plan.status, (int)plan.call,
                 (unsigned long long)plan.nth, store.error.message);
    check_all(&store, "fault", (uint64_t)plan.call * 100000 + plan.nth);
    for (size_t k = 0; k < KEYS; k++)
        assert_int_equal(write_key(&store, k, false), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    check_all(&store, "after fault", plan.nth);
    store_fini(&store);
    return has_fired;
}

static void any_call_may_fail(void **state)
{
    static const enum sim_call calls[] = {
        SIM_OPEN,   SIM_READ,  SIM_WRITE, SIM_SYNC,     SIM_ALLOCATE, SIM_TRUNCATE, SIM_RENAME,
        SIM_UNLINK, SIM_MKDIR, SIM_LIST,  SIM_SYNC_DIR, SIM_LOCK,     SIM_SIZE,     SIM_THREAD};
    static const storm_status statuses[] = {STORM_IO, STORM_NO_SPACE};
    uint64_t points = 0;
    (void)state;
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        for (int variant = 0; variant < 8; variant++) {
            struct sim_plan plan = {.call = calls[c],
                                    .nth = 1,
                                    .status = statuses[variant & 1],
                                    .for_ever = (variant & 2) != 0,
                                    .half_done = (variant & 4) != 0};
            bool may_be_half = calls[c] == SIM_WRITE || calls[c] == SIM_SYNC;
            if (plan.half_done && !may_be_half)
                continue;
            while (survive_fault(plan)) {
                plan.nth++;
                points++;
            }
        }
    }
    print_message("%llu injected failures survived, %zu commits of unknown outcome among them\n",
                  (unsigned long long)points, unknown_outcomes);
}

static void after_a_failed_sync_nothing_is_acknowledged(void **state)
{
    (void)state;
    for (int half = 0; half < 2; half++) {
        struct store store;
        store_init(&store, 1);
        forget();
        store_open(&store);
        assert_int_equal(write_key(&store, 0, false), STORM_OK);
        sim_plan_set(store.disk,
                     (struct sim_plan){
                         .call = SIM_SYNC, .nth = 1, .status = STORM_IO, .half_done = half != 0});
        assert_int_equal(write_key(&store, 1, false), STORM_COMMIT_UNKNOWN);
        assert_string_equal(get_text(store.db, NULL, "key01"), "(none)");
        assert_int_equal(write_key(&store, 2, false), STORM_READ_ONLY);
        assert_int_equal(storm_flush(store.db, NULL), STORM_READ_ONLY);
        struct storm_stats stats;
        assert_int_equal(storm_stats_read(store.db, &stats), STORM_OK);
        assert_true(stats.read_only);
        char text[256];
        storm_last_error(store.db, text, sizeof text);
        assert_true(strlen(text) > 0);
        assert_int_equal(storm_close(store.db), STORM_COMMIT_UNKNOWN);
        store.db = NULL;
        sim_reboot(store.disk, SIM_LOSE_ALL);
        store_open(&store);
        check_all(&store, "failed sync", (uint64_t)half);
        assert_int_equal(write_key(&store, 2, false), STORM_OK);
        store_fini(&store);
    }
}

static void a_full_disk_refuses_writes_and_recovers_by_itself(void **state)
{
    struct store store;
    (void)state;
    store_init(&store, 1);
    forget();
    store_open(&store);
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(write_key(&store, i % KEYS, false), STORM_OK);
    /* No room for tables or segments: what is in memory and log stays readable, nothing is lost. */
    sim_capacity_set(store.disk, sim_used_bytes(store.disk) + 1024);
    bool was_refused = false;
    for (size_t i = 0; i < 3000 && !was_refused; i++) {
        storm_status status = write_key(&store, i % KEYS, false);
        assert_true(status == STORM_OK || status == STORM_NO_SPACE);
        was_refused = status == STORM_NO_SPACE;
    }
    assert_true(was_refused);
    assert_int_equal(storm_flush(store.db, NULL), STORM_NO_SPACE);
    check_all(&store, "full disk", 0);
    sim_capacity_set(store.disk, 0);
    storm_status status = STORM_NO_SPACE;
    for (int i = 0; i < 5000 && status == STORM_NO_SPACE; i++) {
        struct timespec moment = {.tv_nsec = 1000000};
        nanosleep(&moment, NULL);
        status = write_key(&store, 0, false);
    }
    assert_int_equal(status, STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    check_all(&store, "space again", 0);
    store_fini(&store);
}

static void memory_may_run_out_anywhere(void **state)
{
    uint64_t points = 0;
    uint64_t failures = 1;
    (void)state;
    unknown_outcomes = read_only_answers = 0;
    for (uint64_t nth = 1; failures != 0; nth++) {
        struct store store;
        store_init(&store, nth);
        forget();
        alloc_fail_at(nth, false);
        run_workload(&store, false);
        assert_int_equal(unknown_outcomes + read_only_answers, 0);
        failures = alloc_failures();
        alloc_fail_at(0, false);
        store_drop(&store);
        store_open(&store);
        check_all(&store, "no memory", nth);
        store_fini(&store);
        points++;
    }
    print_message("%llu failed allocations survived\n", (unsigned long long)points);
}

/* Puts of `count` keys of `size` bytes as one batch. */
static storm_status put_many(storm_db *db, unsigned first, unsigned count, size_t size)
{
    uint8_t *value = calloc(1, size);
    storm_batch *batch = storm_batch_create();
    char key[32];
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof key, "many%06u", (first + i) * 7919 % 1000000);
        assert_int_equal(storm_batch_put(batch, storm_text(key), storm_bytes(value, size)),
                         STORM_OK);
    }
    alloc_fail_at(1, true);
    storm_status status = storm_write(db, batch, NULL, NULL);
    alloc_fail_at(0, false);
    assert_true(status == STORM_OK || alloc_failures() != 0);
    storm_batch_destroy(batch);
    free(value);
    return status;
}

/* Each write is tried without any memory first. It may succeed, when there is room in the memtable;
 * otherwise nothing has happened, and it succeeds when there is memory again. */
static void a_write_without_memory_is_refused_before_the_log(void **state)
{
    static const struct {
        unsigned count;
        size_t size;
    } groups[] = {{1, 100}, {1, 5000}, {60, 20}, {1, 20000}, {3, 100000}, {20, 2000}};
    struct storm_stats before, after;
    struct store store;
    unsigned refused = 0;
    (void)state;
    store_init(&store, 1);
    store.options.memtable_bytes = 32 << 20;
    store.options.write_buffer_bytes = 64 << 20;
    store_open(&store);
    for (unsigned round = 0; round < 1200; round++) {
        unsigned kind = round % (sizeof groups / sizeof groups[0]);
        assert_int_equal(storm_stats_read(store.db, &before), STORM_OK);
        storm_status status = put_many(store.db, round * 60, groups[kind].count, groups[kind].size);
        assert_int_equal(storm_stats_read(store.db, &after), STORM_OK);
        assert_false(after.read_only);
        if (status == STORM_OK)
            continue;
        refused++;
        assert_int_equal(status, STORM_NO_MEMORY);
        assert_int_equal(after.revision, before.revision);
        assert_int_equal(after.memtable_entries, before.memtable_entries);
        assert_int_equal(after.bytes_written_log, before.bytes_written_log);
        assert_int_equal(put_text(store.db, "memory again", "v"), STORM_OK);
    }
    assert_true(refused > 100);
    uint64_t revision = after.revision;
    store_close(&store);
    store_open(&store);
    assert_int_equal(storm_stats_read(store.db, &after), STORM_OK);
    assert_true(after.revision >= revision);
    store_fini(&store);
}

/* Replay begins no later than at the first record of any memtable. */
static bool is_log_kept(struct sdb_lsm *db)
{
    pthread_mutex_lock(&db->manifest_mu);
    pthread_mutex_lock(&db->mu);
    uint64_t begins = sdb_manifest_state(db->manifest)->log_number;
    bool is_kept = db->active.first_segment == 0 || begins <= db->active.first_segment;
    for (size_t i = 0; i < db->sealed_count; i++)
        is_kept = is_kept && begins <= db->sealed[i].first_segment;
    pthread_mutex_unlock(&db->mu);
    pthread_mutex_unlock(&db->manifest_mu);
    return is_kept;
}

/*
 * Writers faster than the flush: memtables are sealed while older ones are written out, and the log
 * rolls in the middle of them. A segment released too early is missed by the replay.
 */
static void a_log_segment_stays_while_any_memtable_needs_it(void **state)
{
    enum { WRITES = 6000, ROUNDS = 12, SIZE = 1000 };
    struct storm_write_options unsynced = {.sync = STORM_SYNC_NONE};
    (void)state;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct store store;
        char key[32], value[SIZE];
        uint64_t random = round;
        uint64_t writes = WRITES / 2 + random_below(&random, WRITES / 2);
        store_init(&store, round);
        store.options.memtable_bytes = 128 << 10;
        store_open(&store);
        storm_batch *batch = storm_batch_create();
        for (uint64_t i = 0; i < writes; i++) {
            /* Random bytes: deflate takes its time, so that the flush falls behind. */
            random_bytes(&random, (uint8_t *)value, SIZE);
            snprintf(key, sizeof key, "%08llu", (unsigned long long)i);
            storm_batch_clear(batch);
            assert_int_equal(storm_batch_put(batch, storm_text(key), storm_bytes(value, SIZE)),
                             STORM_OK);
            assert_int_equal(storm_write(store.db, batch, &unsynced, NULL), STORM_OK);
            assert_true(is_log_kept(sdb_lsm(store.db)));
        }
        storm_batch_destroy(batch);
        sim_cut_at(store.disk, 1);
        store_drop(&store);
        sim_reboot(store.disk, SIM_KEEP_ALL);
        store_open(&store);
        for (uint64_t i = 0; i < writes; i++) {
            struct storm_value found;
            snprintf(key, sizeof key, "%08llu", (unsigned long long)i);
            if (storm_get(store.db, NULL, storm_text(key), &found) != STORM_OK)
                fail_msg("round %llu: write %llu of %llu is gone", (unsigned long long)round,
                         (unsigned long long)i, (unsigned long long)writes);
            storm_value_release(&found);
        }
        store_fini(&store);
    }
}

struct file_list {
    size_t count;
    char names[64][64];
};

static storm_status add_name(void *ctx, const char *name)
{
    struct file_list *list = ctx;
    snprintf(list->names[list->count++], 64, "/db/%s", name);
    return STORM_OK;
}

static void make_small_store(struct store *store)
{
    /* The same files in every such store, whatever threads do in the background. */
    static const struct sdb_tuning quiet = {
        .table_bytes = 1 << 20,
        .base_bytes = 4 << 20,
        .multiplier = 10,
        .level0_files = 4,
        .level0_stall = 20,
        .settle_ns = 1000000000,
        .retry_ns = 1000000000,
        .is_by_hand = true,
    };
    store_init(store, 1);
    store->tuning = &quiet;
    forget();
    store_open(store);
    for (size_t k = 0; k < 6; k++)
        assert_int_equal(write_key(store, k, false), STORM_OK);
    assert_int_equal(storm_flush(store->db, NULL), STORM_OK);
    for (size_t k = 6; k < KEYS; k++)
        assert_int_equal(write_key(store, k, false), STORM_OK);
    store_close(store);
}

/* With one byte rotten: an open that is refused, or reads that are right or say that they
 * cannot. */
static bool is_noticed_or_harmless(struct store *store, const char *name, uint64_t offset)
{
    bool is_noticed = store_try_open(store) != STORM_OK;
    for (size_t k = 0; !is_noticed && k < KEYS; k++) {
        char key[16], expected[VALUE];
        struct storm_value value;
        int number = histories[k].allowed[0];
        storm_status status = storm_get(store->db, NULL, key_of(k, key), &value);
        if (status == STORM_OK) {
            bool is_right = number != 0 && value.bytes.size == VALUE &&
                            memcmp(value.bytes.data, value_of(number, expected).data, VALUE) == 0;
            if (!is_right)
                fail_msg("%s, byte %llu flipped: key %zu has a wrong value", name,
                         (unsigned long long)offset, k);
        } else if (status == STORM_NOT_FOUND) {
            if (number != 0)
                fail_msg("%s, byte %llu flipped: key %zu is silently gone", name,
                         (unsigned long long)offset, k);
        }
        is_noticed = status != STORM_OK && status != STORM_NOT_FOUND;
        storm_value_release(&value);
    }
    store_drop(store);
    return is_noticed;
}

static void a_rotten_byte_is_never_believed(void **state)
{
    struct store store;
    struct file_list list = {0};
    uint64_t flips = 0;
    uint64_t noticed = 0;
    (void)state;
    make_small_store(&store);
    assert_int_equal(sim_each_file(store.disk, "/db", add_name, &list), STORM_OK);
    for (size_t f = 0; f < list.count; f++) {
        uint64_t size = 0;
        assert_int_equal(sim_file_size(store.disk, list.names[f], &size), STORM_OK);
        if (size > 16384)
            size = 16384; /* the rest of a log segment is room for records to come */
        for (uint64_t at = 0; at < size; at += FLIP_STEP) {
            uint8_t mask = (uint8_t)(1 << at % 8);
            /* A read-only open leaves the disk as it is, so that the next flip finds it whole. */
            store.options.read_only = true;
            assert_int_equal(sim_flip(store.disk, list.names[f], at, mask), STORM_OK);
            noticed += is_noticed_or_harmless(&store, list.names[f], at);
            assert_int_equal(sim_flip(store.disk, list.names[f], at, mask), STORM_OK);
            flips++;
            if (at % 16 == 0) {
                struct store fresh;
                make_small_store(&fresh);
                assert_int_equal(sim_flip(fresh.disk, list.names[f], at, mask), STORM_OK);
                (void)is_noticed_or_harmless(&fresh, list.names[f], at);
                store_fini(&fresh);
            }
        }
    }
    print_message("%llu bytes flipped: %llu noticed, the others without effect, 0 believed\n",
                  (unsigned long long)flips, (unsigned long long)noticed);
    store_fini(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_before_any_change_loses_nothing),
        cmocka_unit_test(a_power_cut_inside_recovery_loses_nothing),
        cmocka_unit_test(any_call_may_fail),
        cmocka_unit_test(after_a_failed_sync_nothing_is_acknowledged),
        cmocka_unit_test(a_full_disk_refuses_writes_and_recovers_by_itself),
        cmocka_unit_test(memory_may_run_out_anywhere),
        cmocka_unit_test(a_write_without_memory_is_refused_before_the_log),
        cmocka_unit_test(a_log_segment_stays_while_any_memtable_needs_it),
        cmocka_unit_test(a_rotten_byte_is_never_believed),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
