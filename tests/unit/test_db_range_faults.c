/*
 * Range deletes under faults: power cuts before every change to the disk, failing calls, missing
 * memory, and readers in the middle of commits. One rule for all faults: what is found is the store
 * as it was behind one of the writes, no earlier than the last one that had to survive.
 */
#include "store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "alloc_fail.h"
#include "random.h"

enum { KEYS = 8, STATES = 64, VALUE = 300 };

/* Nothing is compacted but by the workload itself: a fault is at the same place each time. */
static const struct sdb_tuning by_hand = {
    .table_bytes = 1 << 10,
    .base_bytes = 4 << 10,
    .multiplier = 4,
    .level0_files = 3,
    .level0_stall = 12,
    .settle_ns = 2000000,
    .retry_ns = 1000000,
    .is_by_hand = true,
};

/* ---- The history: the store behind each write; 0 = absent, else the number in the value ---- */

struct state {
    int numbers[KEYS];
};

static struct state states[STATES];
static size_t state_count; /* the first is the empty store */
static size_t
    answered;          /* index of the state behind the last write that was answered with success */
static size_t durable; /* of the last one that survives a power loss */
static bool is_outcome_open; /* the last write may or may not be there */

static void forget(void)
{
    memset(states, 0, sizeof states);
    state_count = 1;
    answered = durable = 0;
    is_outcome_open = false;
}

static struct storm_slice key_of(size_t k, char *room)
{
    return storm_bytes(room, (size_t)snprintf(room, 16, "key%zu", k));
}

static struct storm_slice value_of(int number, char *room)
{
    memset(room, 'a' + number % 26, VALUE);
    snprintf(room, 16, "%d.", number);
    return storm_bytes(room, VALUE);
}

/* ---- The workload ---- */

enum step_kind { PUT, REMOVE, RANGE, BATCH, FLUSH, COMPACT, REOPEN };

struct step {
    enum step_kind kind;
    size_t from, to; /* of RANGE and BATCH: keys; to = KEYS: unbounded */
    bool is_unsynced;
};

static const struct step steps[] = {
    {PUT, 0, 0, false},     {PUT, 1, 0, true},       {PUT, 2, 0, false},   {PUT, 5, 0, false},
    {PUT, 7, 0, false},     {FLUSH, 0, 0, false},    {RANGE, 1, 3, false}, {PUT, 2, 0, false},
    {FLUSH, 0, 0, false},   {PUT, 6, 0, true},       {RANGE, 5, 7, true},  {BATCH, 2, 6, true},
    {REMOVE, 7, 0, false},  {COMPACT, 0, 0, false},  {PUT, 1, 0, false},   {PUT, 4, 0, false},
    {FLUSH, 0, 0, false},   {RANGE, 0, KEYS, false}, {FLUSH, 0, 0, false}, {BATCH, 3, 5, false},
    {COMPACT, 0, 0, false}, {RANGE, 3, 4, true},     {PUT, 0, 0, false},   {REOPEN, 0, 0, false},
    {BATCH, 0, 8, true},    {FLUSH, 0, 0, false},    {RANGE, 0, 3, false}, {PUT, 3, 0, true},
};

/* The step's operations go into the batch and `after`: a batch is put, range delete over it,
 * put. */
static bool add_step(const struct step *step, int number, storm_batch *batch, struct state *after)
{
    char room[2][16], value[VALUE];
    storm_status status = STORM_OK;
    struct storm_slice from = key_of(step->from, room[0]);
    if (step->kind == PUT || step->kind == BATCH)
        status = storm_batch_put(batch, from, value_of(number, value));
    if (step->kind == REMOVE)
        status = storm_batch_delete(batch, from);
    after->numbers[step->from] = step->kind == REMOVE ? 0 : number;
    if (step->kind == RANGE || step->kind == BATCH) {
        struct storm_slice to = storm_text("");
        if (step->to < KEYS)
            to = key_of(step->to, room[1]);
        if (status == STORM_OK)
            status = storm_batch_delete_range(batch, from, to);
        for (size_t k = step->from; k < step->to; k++)
            after->numbers[k] = 0;
    }
    if (step->kind == BATCH && status == STORM_OK) {
        status = storm_batch_put(batch, key_of(step->from + 1, room[0]), value_of(number, value));
        after->numbers[step->from + 1] = number;
    }
    return status == STORM_OK;
}

/* False: the store is no good any more, or its state is open. */
static bool write_step(struct store *store, const struct step *step)
{
    struct storm_write_options options = {.sync = step->is_unsynced ? STORM_SYNC_NONE
                                                                    : STORM_SYNC_FULL};
    int number = (int)state_count;
    struct state after = states[state_count - 1];
    storm_batch *batch = storm_batch_create();
    if (batch == NULL)
        return true;
    storm_status status = STORM_NO_MEMORY;
    if (add_step(step, number, batch, &after))
        status = storm_write(store->db, batch, &options, NULL);
    storm_batch_destroy(batch);
    bool is_cut = sim_is_cut(store->disk);
    is_outcome_open = status == STORM_COMMIT_UNKNOWN || (status != STORM_OK && is_cut);
    if (status == STORM_OK || is_outcome_open)
        states[state_count++] = after;
    if (status == STORM_OK) {
        answered = state_count - 1;
        if (!step->is_unsynced)
            durable = answered;
    }
    return !is_outcome_open;
}

static void run_workload(struct store *store)
{
    struct storm_slice all = {NULL, 0};
    if (store_try_open(store) != STORM_OK)
        return;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        const struct step *step = &steps[i];
        storm_status status = STORM_OK;
        if (step->kind == FLUSH) {
            status = storm_flush(store->db, NULL);
            if (status == STORM_OK)
                durable = answered;
        } else if (step->kind == COMPACT) {
            /* A fault's failure says nothing about what is stored. */
            status = storm_compact(store->db, all, all, NULL, NULL);
        } else if (step->kind == REOPEN) {
            store_drop(store);
            if (store_try_open(store) != STORM_OK)
                return;
        } else if (!write_step(store, step)) {
            break;
        }
    }
    store_drop(store);
}

/* ---- What is found ---- */

static void read_state(struct store *store, struct state *found)
{
    char room[16], expected[VALUE];
    for (size_t k = 0; k < KEYS; k++) {
        struct storm_value value;
        storm_status status = storm_get(store->db, NULL, key_of(k, room), &value);
        found->numbers[k] = 0;
        if (status == STORM_OK) {
            found->numbers[k] = atoi((const char *)value.bytes.data);
            assert_int_equal(value.bytes.size, VALUE);
            assert_memory_equal(value_of(found->numbers[k], expected).data, value.bytes.data,
                                VALUE);
        } else {
            assert_int_equal(status, STORM_NOT_FOUND);
        }
        storm_value_release(&value);
    }
}

/* An iterator, there and back, meets exactly the keys that are found one by one. */
static void check_walk(struct store *store, const struct state *found)
{
    char room[16];
    storm_iter *iter;
    assert_int_equal(storm_iter_create(store->db, NULL, &iter), STORM_OK);
    storm_iter_first(iter);
    for (size_t k = 0; k < KEYS; k++) {
        if (found->numbers[k] == 0)
            continue;
        assert_true(storm_iter_valid(iter));
        assert_int_equal(sdb_key_compare(storm_iter_key(iter), key_of(k, room)), 0);
        storm_iter_next(iter);
    }
    assert_false(storm_iter_valid(iter));
    assert_int_equal(storm_iter_status(iter), STORM_OK);
    storm_iter_last(iter);
    for (size_t k = KEYS; k-- > 0;) {
        if (found->numbers[k] == 0)
            continue;
        assert_true(storm_iter_valid(iter));
        assert_int_equal(sdb_key_compare(storm_iter_key(iter), key_of(k, room)), 0);
        storm_iter_prev(iter);
    }
    assert_false(storm_iter_valid(iter));
    storm_iter_destroy(iter);
}

static void check_all(struct store *store, size_t first, const char *where, uint64_t n)
{
    struct state found;
    read_state(store, &found);
    check_walk(store, &found);
    for (size_t i = first; i < state_count; i++) {
        if (memcmp(&states[i], &found, sizeof found) == 0) {
            /* What was read once is what there is from now on. */
            states[0] = found;
            state_count = 1;
            return;
        }
    }
    fail_msg("%s %llu: the store is none of states %zu to %zu: %d %d %d %d %d %d %d %d", where,
             (unsigned long long)n, first, state_count - 1, found.numbers[0], found.numbers[1],
             found.numbers[2], found.numbers[3], found.numbers[4], found.numbers[5],
             found.numbers[6], found.numbers[7]);
}

/* After everything has been applied the store still shows the same, and has forgotten the
 * ranges. */
static void check_applied(struct store *store, const char *where, uint64_t n)
{
    struct storm_slice all = {NULL, 0};
    struct storm_stats stats;
    assert_int_equal(storm_compact(store->db, all, all, NULL, NULL), STORM_OK);
    assert_int_equal(storm_stats_read(store->db, &stats), STORM_OK);
    assert_int_equal(stats.range_deletes, 0);
    check_all(store, 0, where, n);
}

static void power_cuts_leave_the_store_behind_one_write(void **state)
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
            store.tuning = &by_hand;
            forget();
            sim_cut_at(store.disk, n);
            run_workload(&store);
            was_cut = sim_is_cut(store.disk);
            store_drop(&store);
            sim_reboot(store.disk, losses[l]);
            if (store_try_open(&store) != STORM_OK)
                fail_msg("cut %llu, loss %zu: open: %s", (unsigned long long)n, l,
                         store.error.message);
            check_all(&store, losses[l] == SIM_KEEP_ALL ? answered : durable, "cut", n);
            store_drop(&store);
            sim_reboot(store.disk, SIM_LOSE_ALL);
            store_open(&store);
            check_all(&store, 0, "second look after cut", n);
            check_applied(&store, "applied after cut", n);
            store_fini(&store);
            points++;
        }
    }
    assert_true(points > 400);
    print_message("%llu power cuts survived\n", (unsigned long long)points);
}

static bool survive_fault(struct sim_plan plan)
{
    struct store store;
    store_init(&store, plan.nth);
    store.tuning = &by_hand;
    forget();
    sim_plan_set(store.disk, plan);
    run_workload(&store);
    bool has_fired = sim_plan_fired(store.disk);
    sim_plan_set(store.disk, (struct sim_plan){0});
    store_drop(&store);
    if (store_try_open(&store) != STORM_OK)
        fail_msg("after fault %d at call %d.%llu: open: %s", plan.status, (int)plan.call,
                 (unsigned long long)plan.nth, store.error.message);
    uint64_t where = (uint64_t)plan.call * 100000 + plan.nth;
    /* A sync that failed may have lost what was not synced before. */
    check_all(&store, plan.call == SIM_SYNC ? durable : answered, "fault", where);
    check_applied(&store, "applied after fault", where);
    store_fini(&store);
    return has_fired;
}

static void failing_calls_leave_the_store_behind_one_write(void **state)
{
    static const enum sim_call calls[] = {SIM_OPEN,   SIM_READ,   SIM_WRITE,   SIM_SYNC,
                                          SIM_RENAME, SIM_UNLINK, SIM_SYNC_DIR};
    uint64_t points = 0;
    (void)state;
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        for (int variant = 0; variant < 4; variant++) {
            struct sim_plan plan = {.call = calls[c],
                                    .nth = 1,
                                    .status = variant & 1 ? STORM_NO_SPACE : STORM_IO,
                                    .half_done = (variant & 2) != 0};
            bool may_be_half = calls[c] == SIM_WRITE || calls[c] == SIM_SYNC;
            if (plan.half_done && !may_be_half)
                continue;
            while (survive_fault(plan)) {
                plan.nth++;
                points++;
            }
        }
    }
    assert_true(points > 200);
    print_message("%llu injected failures survived\n", (unsigned long long)points);
}

static void missing_memory_leaves_the_store_behind_one_write(void **state)
{
    uint64_t points = 0;
    uint64_t failures = 1;
    (void)state;
    for (uint64_t nth = 1; failures != 0; nth++) {
        struct store store;
        store_init(&store, nth);
        store.tuning = &by_hand;
        forget();
        alloc_fail_at(nth, false);
        run_workload(&store);
        failures = alloc_failures();
        alloc_fail_at(0, false);
        store_drop(&store);
        store_open(&store);
        check_all(&store, answered, "no memory", nth);
        check_applied(&store, "applied after no memory", nth);
        store_fini(&store);
        points++;
    }
    print_message("%llu failed allocations survived\n", (unsigned long long)points);
}

/* A commit with a range delete that runs out of memory before the log is a commit that never
 * was. */
static void a_range_delete_without_memory_changes_nothing(void **state)
{
    struct store store;
    uint64_t refused = 0;
    (void)state;
    store_init(&store, 1);
    store.tuning = &by_hand;
    store_open(&store);
    assert_int_equal(put_text(store.db, "a", "1"), STORM_OK);
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_delete_range(batch, storm_text("a"), storm_text("b")), STORM_OK);
    for (uint64_t nth = 1;; nth++) {
        uint64_t revision;
        alloc_fail_at(nth, false);
        storm_status status = storm_write(store.db, batch, NULL, &revision);
        bool has_failed = alloc_failures() != 0;
        alloc_fail_at(0, false);
        if (status == STORM_OK) {
            struct storm_stats stats;
            assert_int_equal(storm_stats_read(store.db, &stats), STORM_OK);
            assert_int_equal(revision, stats.revision);
            assert_string_equal(get_text(store.db, NULL, "a"), "(none)");
            if (!has_failed)
                break;
            /* A thread in the background has met the failure. */
            assert_int_equal(put_text(store.db, "a", "1"), STORM_OK);
            continue;
        }
        assert_int_equal(status, STORM_NO_MEMORY);
        assert_string_equal(get_text(store.db, NULL, "a"), "1");
        refused++;
    }
    assert_true(refused > 5);
    storm_batch_destroy(batch);
    store_fini(&store);
}

/* ---- Readers in the middle ---- */

enum { ROUNDS = 4000, READERS = 3 };

struct crowd {
    storm_db *db;
    _Atomic bool is_over;
    bool is_torn; /* the looker's, read when it has ended */
    _Atomic uint64_t walks;
};

/* Each batch deletes all of k and puts one key there: whoever looks sees exactly one. */
static void *walk_often(void *arg)
{
    struct crowd *crowd = arg;
    uint64_t walks = 0;
    while (!atomic_load(&crowd->is_over)) {
        bool is_back = walks % 2 == 0;
        storm_snapshot *snapshot = walks % 5 == 0 ? storm_snapshot_create(crowd->db) : NULL;
        struct storm_iter_options options = {.snapshot = snapshot};
        storm_iter *iter;
        unsigned seen = 0;
        assert_int_equal(storm_iter_create(crowd->db, &options, &iter), STORM_OK);
        is_back ? storm_iter_last(iter) : storm_iter_first(iter);
        while (storm_iter_valid(iter)) {
            seen++;
            is_back ? storm_iter_prev(iter) : storm_iter_next(iter);
        }
        assert_int_equal(seen, 1);
        storm_iter_destroy(iter);
        storm_snapshot_release(snapshot);
        walks++;
    }
    atomic_fetch_add(&crowd->walks, walks);
    return NULL;
}

/* What is visible is in the view: each write of the test is a range delete. (A flushed one that
 * hides nothing any more is in none.) */
static void *look_at_views(void *arg)
{
    struct crowd *crowd = arg;
    while (!atomic_load(&crowd->is_over)) {
        struct sdb_view *view;
        uint64_t revision = sdb_view_read(sdb_lsm(crowd->db), NULL, &view);
        uint64_t floor = sdb_view_floor(view, storm_text("k"), SDB_MAX_REVISION);
        crowd->is_torn = crowd->is_torn || (floor != 0 && floor < revision);
        sdb_view_release(view);
    }
    return NULL;
}

static void a_visible_range_delete_is_in_the_view(void **state)
{
    struct store store;
    struct crowd crowd = {0};
    pthread_t looker;
    (void)state;
    store_init(&store, 1);
    store.options.sync = STORM_SYNC_NONE;
    store_open(&store);
    assert_int_equal(put_text(store.db, "k", ""), STORM_OK);
    crowd.db = store.db;
    assert_int_equal(pthread_create(&looker, NULL, look_at_views, &crowd), 0);
    for (int i = 0; i < 20 * ROUNDS; i++)
        assert_int_equal(storm_delete_range(store.db, storm_text("k"), storm_text("l")), STORM_OK);
    atomic_store(&crowd.is_over, true);
    pthread_join(looker, NULL);
    assert_false(crowd.is_torn);
    store_fini(&store);
}

static void nobody_sees_half_of_a_batch(void **state)
{
    struct store store;
    struct crowd crowd = {0};
    pthread_t readers[READERS];
    char key[16];
    (void)state;
    store_init(&store, 1);
    store.options.sync = STORM_SYNC_NONE;
    store.options.memtable_entries = 500;
    store_open(&store);
    assert_int_equal(put_text(store.db, "k", ""), STORM_OK);
    crowd.db = store.db;
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, walk_often, &crowd), 0);
    storm_batch *batch = storm_batch_create();
    for (int i = 0; i < ROUNDS; i++) {
        storm_batch_clear(batch);
        snprintf(key, sizeof key, "k%06d", i * 7919 % 100000);
        assert_int_equal(storm_batch_delete_range(batch, storm_text("k"), storm_text("l")),
                         STORM_OK);
        assert_int_equal(storm_batch_put(batch, storm_text(key), storm_text("v")), STORM_OK);
        assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    }
    atomic_store(&crowd.is_over, true);
    for (size_t i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    print_message("%llu walks\n", (unsigned long long)crowd.walks);
    storm_batch_destroy(batch);
    store_fini(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cuts_leave_the_store_behind_one_write),
        cmocka_unit_test(failing_calls_leave_the_store_behind_one_write),
        cmocka_unit_test(missing_memory_leaves_the_store_behind_one_write),
        cmocka_unit_test(a_range_delete_without_memory_changes_nothing),
        cmocka_unit_test(a_visible_range_delete_is_in_the_view),
        cmocka_unit_test(nobody_sees_half_of_a_batch),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
