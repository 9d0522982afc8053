/*
 * Commits by many threads: revisions, groups, conditions that race, visibility, flushes and closing
 * in the middle of it. On the simulated disk and, for real waits, on the real file system.
 *
 * Where the order of things matters it is forced: a test takes the write turn itself, lets writers
 * queue up behind it one by one, and gives it back; or a sync waits at a gate.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

#include "alloc_fail.h"
#include "random.h"
#include "sync_gate.h"
#include "test_dir.h"
#include "turn.h"

static struct store store;

/* ---- Fixture ---- */

static int set_up(void **state)
{
    (void)state;
    store_init(&store, 1);
    gate_init(&store.os);
    store_open(&store);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_fini(&store);
    return 0;
}

static struct storm_stats stats_of(storm_db *db)
{
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(db, &stats), STORM_OK);
    return stats;
}

/* ---- One write on a thread of its own ---- */

struct write_job {
    pthread_t thread;
    storm_db *db;
    const char *key;
    struct storm_slice value;
    enum storm_condition condition;
    uint64_t listed;
    enum storm_sync sync;
    bool is_gated;
    storm_status status;
    uint64_t revision;
    struct storm_op_result result;
};

static storm_batch *batch_of(const struct write_job *job)
{
    storm_batch *batch = storm_batch_create();
    struct storm_op op = {.kind = STORM_PUT,
                          .condition = job->condition,
                          .key = storm_text(job->key),
                          .value = job->value,
                          .revisions = &job->listed,
                          .revision_count = 1};
    if (batch != NULL && storm_batch_add(batch, &op) != STORM_OK)
        abort();
    return batch;
}

static void *run_write(void *arg)
{
    struct write_job *job = arg;
    struct storm_write_options options = {job->sync};
    storm_batch *batch = batch_of(job);
    is_gated = job->is_gated;
    job->status = storm_write(job->db, batch, &options, &job->revision);
    job->result = storm_batch_result(batch, 0);
    storm_batch_destroy(batch);
    return NULL;
}

static void start(struct write_job *job, storm_db *db, const char *key, const char *value)
{
    job->db = db;
    job->key = key;
    if (job->value.size == 0)
        job->value = storm_text(value);
    assert_int_equal(pthread_create(&job->thread, NULL, run_write, job), 0);
}

static void *run_flush(void *arg)
{
    return storm_flush(arg, NULL) == STORM_OK ? NULL : arg;
}

static void join(pthread_t thread)
{
    void *failure;
    assert_int_equal(pthread_join(thread, &failure), 0);
    assert_null(failure);
}

struct heard {
    _Atomic int calls;
    storm_status status;
    uint64_t revision;
};

static void hear(void *ctx, storm_status status, uint64_t revision)
{
    struct heard *heard = ctx;
    heard->status = status;
    heard->revision = revision;
    atomic_fetch_add(&heard->calls, 1);
}

static void wait_heard(struct heard *heard)
{
    while (atomic_load(&heard->calls) == 0)
        pause_us(100);
}

/* ---- Groups ---- */

static void writers_that_wait_together_share_one_sync(void **state)
{
    static const char *const keys[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct write_job jobs[8] = {0};
    struct sdb_lsm *db = sdb_lsm(store.db);
    uint64_t seen = 0;
    (void)state;
    struct storm_stats before = stats_of(store.db);
    turn_take(db);
    for (size_t i = 0; i < 8; i++) {
        start(&jobs[i], store.db, keys[i], "v");
        wait_queued(db, i + 1);
    }
    turn_give(db);
    for (size_t i = 0; i < 8; i++) {
        join(jobs[i].thread);
        assert_int_equal(jobs[i].status, STORM_OK);
        assert_int_equal(jobs[i].revision, i + 1); /* in the order of the queue */
        seen |= UINT64_C(1) << jobs[i].revision;
    }
    assert_int_equal(seen, 0x1fe);
    struct storm_stats after = stats_of(store.db);
    assert_int_equal(after.log_syncs - before.log_syncs, 1);
    assert_int_equal(after.log_group_commits - before.log_group_commits, 1);
    assert_int_equal(after.writes - before.writes, 8);
    assert_int_equal(after.revision, 8);
}

static void an_unsynced_group_takes_in_nobody_who_waits_for_the_disk(void **state)
{
    struct write_job jobs[3] = {
        {.sync = STORM_SYNC_NONE}, {.sync = STORM_SYNC_NONE}, {.sync = STORM_SYNC_FULL}};
    static const char *const keys[] = {"a", "b", "c"};
    struct sdb_lsm *db = sdb_lsm(store.db);
    (void)state;
    turn_take(db);
    for (size_t i = 0; i < 3; i++) {
        jobs[i].is_gated = true;
        start(&jobs[i], store.db, keys[i], "v");
        wait_queued(db, i + 1);
    }
    gate_set(true, false);
    turn_give(db);
    join(jobs[0].thread); /* though no sync can end */
    join(jobs[1].thread);
    gate_wait();
    assert_string_equal(get_text(store.db, NULL, "b"), "v");
    assert_string_equal(get_text(store.db, NULL, "c"), "(none)");
    gate_set(false, false);
    join(jobs[2].thread);
    assert_string_equal(get_text(store.db, NULL, "c"), "v");
    assert_int_equal(stats_of(store.db).log_group_commits, 2);
}

static void nothing_is_seen_before_it_is_as_durable_as_asked(void **state)
{
    struct write_job synced = {.is_gated = true}, unsynced = {.sync = STORM_SYNC_NONE};
    (void)state;
    assert_int_equal(put_text(store.db, "k", "old"), STORM_OK);
    gate_set(true, false);
    start(&synced, store.db, "k", "new");
    gate_wait();
    /* It is in log and memtable by now, but the disk has not answered. */
    start(&unsynced, store.db, "u", "behind");
    for (int i = 0; i < 20; i++) {
        assert_string_equal(get_text(store.db, NULL, "k"), "old");
        assert_string_equal(get_text(store.db, NULL, "u"), "(none)");
        pause_us(100);
    }
    storm_snapshot *snapshot = storm_snapshot_create(store.db);
    assert_int_equal(storm_snapshot_revision(snapshot), 1);
    gate_set(false, false);
    join(synced.thread);
    join(unsynced.thread);
    assert_string_equal(get_text(store.db, NULL, "k"), "new");
    assert_string_equal(get_text(store.db, snapshot, "k"), "old");
    assert_int_equal(unsynced.revision, 3);
    storm_snapshot_release(snapshot);
}

static void a_refused_group_is_no_group_and_takes_no_revision(void **state)
{
    struct write_job job = {.condition = STORM_IF_PRESENT};
    (void)state;
    struct storm_stats before = stats_of(store.db);
    start(&job, store.db, "absent", "v");
    join(job.thread);
    assert_int_equal(job.status, STORM_CONFLICT);
    struct storm_stats after = stats_of(store.db);
    assert_int_equal(after.log_group_commits, before.log_group_commits);
    assert_int_equal(after.writes, before.writes);
    assert_int_equal(after.revision, before.revision);
    assert_int_equal(after.log_syncs, before.log_syncs);
}

/* ---- Conditions at the turn ---- */

static void members_of_one_group_see_each_other(void **state)
{
    struct write_job jobs[6] = {{.condition = STORM_IF_ABSENT},
                                {.condition = STORM_IF_ABSENT},
                                {.condition = STORM_IF_MATCH, .listed = 1},
                                {.condition = STORM_IF_MATCH, .listed = 1},
                                {.condition = STORM_IF_PRESENT},
                                {.condition = STORM_IF_NONE_MATCH, .listed = 3}};
    static const char *const values[] = {"0", "1", "2", "3", "4", "5"};
    static const storm_status expected[] = {STORM_OK,       STORM_CONFLICT, STORM_OK,
                                            STORM_CONFLICT, STORM_OK,       STORM_CONFLICT};
    struct sdb_lsm *db = sdb_lsm(store.db);
    (void)state;
    turn_take(db);
    for (size_t i = 0; i < 6; i++) {
        start(&jobs[i], store.db, "k", values[i]);
        wait_queued(db, i + 1);
    }
    turn_give(db);
    for (size_t i = 0; i < 6; i++) {
        join(jobs[i].thread);
        assert_int_equal(jobs[i].status, expected[i]);
        assert_int_equal(jobs[i].result.existed, i != 0);
        assert_int_equal(jobs[i].result.previous_revision, (i + 1) / 2);
    }
    assert_string_equal(get_text(store.db, NULL, "k"), "4");
    assert_int_equal(stats_of(store.db).revision, 3);
    assert_int_equal(stats_of(store.db).log_group_commits, 1);
}

/*
 * A conditional writer reads its key, then waits while the key changes, the memtable is sealed and
 * flushed: memory alone can no longer tell, and what was read is out of date.
 */
static void run_retry(bool is_asynchronous)
{
    struct sdb_lsm *db = sdb_lsm(store.db);
    struct write_job change = {0}, large = {.is_gated = true};
    struct write_job late = {.condition = STORM_IF_MATCH};
    struct heard heard = {0};
    storm_batch *batch = NULL;
    pthread_t flusher;
    size_t size = (1 << 20) - 4096; /* with it a group is full */
    uint8_t *bytes = calloc(1, size);
    assert_non_null(bytes);
    assert_int_equal(put_text(store.db, "k", "first"), STORM_OK);
    late.listed = stats_of(store.db).revision;
    turn_take(db);
    start(&change, store.db, "k", "second");
    wait_queued(db, 1);
    assert_int_equal(pthread_create(&flusher, NULL, run_flush, store.db), 0);
    wait_queued(db, 2);
    large.value = storm_bytes(bytes, size);
    start(&large, store.db, "large", "");
    wait_queued(db, 3);
    char last[5000];
    memset(last, 'x', sizeof last);
    late.value = storm_bytes(last, sizeof last);
    if (is_asynchronous) {
        late.key = "k";
        batch = batch_of(&late);
        assert_int_equal(storm_write_async(store.db, batch, NULL, hear, &heard, NULL),
                         STORM_PENDING);
    } else {
        start(&late, store.db, "k", "");
    }
    wait_queued(db, 4);
    gate_set(true, false);
    turn_give(db);
    join(change.thread);
    join(flusher); /* the memtable that the late one read from is gone */
    gate_set(false, false);
    join(large.thread);
    assert_int_equal(large.status, STORM_OK);
    if (is_asynchronous) {
        wait_heard(&heard);
        late.status = heard.status;
        late.result = storm_batch_result(batch, 0);
        storm_batch_destroy(batch);
    } else {
        join(late.thread);
    }
    assert_int_equal(late.status, STORM_CONFLICT);
    assert_int_equal(late.result.previous_revision, change.revision);
    assert_string_equal(get_text(store.db, NULL, "k"), "second");
    assert_true(stats_of(store.db).flushes >= 1);
    free(bytes);
}

static void a_check_read_too_long_ago_is_read_again(void **state)
{
    (void)state;
    run_retry(false);
}

static void an_asynchronous_check_read_too_long_ago_is_read_again(void **state)
{
    (void)state;
    run_retry(true);
}

/* The decision about checks that found nothing before the turn. */
static storm_status decide(const struct sdb_view *view, struct sdb_overlay *overlay,
                           storm_batch *check)
{
    for (size_t i = 0; i < check->check_count; i++)
        check->checks[i].prior_exists = false;
    return sdb_checks_decide(view, overlay, check, 0);
}

static void a_member_without_memory_leaves_no_trace_in_its_group(void **state)
{
    struct sdb_overlay *overlay = sdb_overlay_create(NULL);
    struct sdb_view view = {.active = sdb_memtable_create(NULL)};
    storm_batch *large = storm_batch_create(), *check = storm_batch_create();
    char key[16];
    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key%04d", i);
        assert_int_equal(storm_batch_put(large, storm_text(key), storm_text("v")), STORM_OK);
        struct storm_op op = {
            .kind = STORM_CHECK, .condition = STORM_IF_ABSENT, .key = storm_text(key)};
        assert_int_equal(storm_batch_add(check, &op), STORM_OK);
    }
    check->commit.read_view = &view;
    for (uint64_t nth = 1; nth < 4; nth++) {
        alloc_fail_at(nth, false);
        storm_status status = sdb_overlay_add(overlay, large, 5);
        bool has_failed = alloc_failures() != 0;
        alloc_fail_at(0, false);
        assert_int_equal(status, has_failed ? STORM_NO_MEMORY : STORM_OK);
        /* Nothing of it happened, so nothing of it is seen by those behind it. */
        assert_int_equal(decide(&view, overlay, check), has_failed ? STORM_OK : STORM_CONFLICT);
        sdb_overlay_clear(overlay);
    }
    assert_int_equal(sdb_overlay_add(overlay, large, 5), STORM_OK);
    assert_int_equal(decide(&view, overlay, check), STORM_CONFLICT);
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(storm_batch_result(check, i).previous_revision, 5);
    sdb_overlay_clear(overlay);
    assert_int_equal(decide(&view, overlay, check), STORM_OK);
    check->commit.read_view = NULL;
    sdb_memtable_unref(view.active);
    sdb_overlay_destroy(overlay);
    storm_batch_destroy(large);
    storm_batch_destroy(check);
}

/* ---- Races ---- */

enum { RACERS = 8, ROUNDS = 250, COUNTERS = 3 };

struct racer {
    pthread_t thread;
    storm_db *db;
    unsigned number;
    uint64_t wins;
    uint64_t increments;
    _Atomic uint64_t *absent_wins; /* by key */
    bool is_wrong;
};

/* Write "counter = value" if the key is still at `revision` (0 = absent). */
static storm_status write_counter(storm_db *db, storm_batch *batch, const char *key, uint64_t value,
                                  uint64_t revision)
{
    struct storm_op op = {.kind = STORM_PUT,
                          .condition = revision == 0 ? STORM_IF_ABSENT : STORM_IF_MATCH,
                          .key = storm_text(key),
                          .value = storm_bytes(&value, sizeof value),
                          .revisions = &revision,
                          .revision_count = revision != 0};
    storm_batch_clear(batch);
    if (storm_batch_add(batch, &op) != STORM_OK)
        return STORM_NO_MEMORY;
    return storm_write(db, batch, NULL, NULL);
}

static bool read_counter(storm_db *db, const char *key, uint64_t *value, uint64_t *revision)
{
    struct storm_value found;
    *value = *revision = 0;
    storm_status status = storm_get(db, NULL, storm_text(key), &found);
    if (status == STORM_OK && found.bytes.size == sizeof *value) {
        memcpy(value, found.bytes.data, sizeof *value);
        *revision = found.revision;
    }
    storm_value_release(&found);
    return status == STORM_OK || status == STORM_NOT_FOUND;
}

static void *race(void *arg)
{
    struct racer *racer = arg;
    storm_batch *batch = storm_batch_create();
    uint64_t seed = racer->number, last[COUNTERS] = {0};
    char key[32];
    for (int round = 0; round < ROUNDS; round++) {
        /* All race for the same new key: one of them gets it. */
        snprintf(key, sizeof key, "once%04d", round);
        storm_status status = write_counter(racer->db, batch, key, racer->number, 0);
        if (status == STORM_OK)
            atomic_fetch_add(&racer->absent_wins[round], 1);
        racer->is_wrong = racer->is_wrong || (status != STORM_OK && status != STORM_CONFLICT);
        /* And increment one of few counters, as often as it takes. */
        unsigned counter = (unsigned)random_below(&seed, COUNTERS);
        snprintf(key, sizeof key, "counter%u", counter);
        do {
            uint64_t value = 0, revision = 0;
            if (!read_counter(racer->db, key, &value, &revision))
                racer->is_wrong = true;
            /* What was seen once is never unseen. */
            racer->is_wrong = racer->is_wrong || value < last[counter];
            last[counter] = value;
            status = write_counter(racer->db, batch, key, value + 1, revision);
        } while (status == STORM_CONFLICT && !racer->is_wrong);
        racer->is_wrong = racer->is_wrong || status != STORM_OK;
        last[counter]++;
        racer->increments++;
    }
    storm_batch_destroy(batch);
    return NULL;
}

static void *flush_often(void *arg)
{
    for (int i = 0; i < 20; i++) {
        if (storm_flush(arg, NULL) != STORM_OK)
            return arg;
        pause_us(500);
    }
    return NULL;
}

static void race_on(storm_db *db)
{
    static _Atomic uint64_t absent_wins[ROUNDS];
    struct racer racers[RACERS];
    pthread_t flusher;
    uint64_t sum = 0, increments = 0;
    memset(absent_wins, 0, sizeof absent_wins);
    for (unsigned i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){.db = db, .number = i, .absent_wins = absent_wins};
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    assert_int_equal(pthread_create(&flusher, NULL, flush_often, db), 0);
    for (unsigned i = 0; i < RACERS; i++) {
        join(racers[i].thread);
        assert_false(racers[i].is_wrong);
        increments += racers[i].increments;
    }
    join(flusher);
    for (int round = 0; round < ROUNDS; round++)
        assert_int_equal(atomic_load(&absent_wins[round]), 1);
    for (unsigned counter = 0; counter < COUNTERS; counter++) {
        uint64_t value, revision;
        char key[32];
        snprintf(key, sizeof key, "counter%u", counter);
        assert_true(read_counter(db, key, &value, &revision));
        sum += value;
    }
    assert_int_equal(increments, RACERS * ROUNDS);
    assert_int_equal(sum, increments);
    /* One revision for each that won, none for the others. */
    assert_int_equal(stats_of(db).revision, increments + ROUNDS);
}

static void racing_conditions_are_won_once(void **state)
{
    (void)state;
    race_on(store.db);
}

/* ---- Everything at once ---- */

enum { WRITERS = 8, SUBMITTERS = 2, EACH = 150, ALL = (WRITERS + SUBMITTERS) * EACH };

struct crowd {
    storm_db *db;
    _Atomic unsigned revisions[ALL + 2]; /* how often each was given */
    _Atomic bool is_over;
    _Atomic unsigned wrong;
    _Atomic unsigned next;
};

static void count_revision(struct crowd *crowd, uint64_t revision)
{
    if (revision == 0 || revision > ALL)
        atomic_fetch_add(&crowd->wrong, 1);
    else
        atomic_fetch_add(&crowd->revisions[revision], 1);
}

/* Puts under keys of its own; each is read back as soon as it is answered. */
static void *write_and_read_back(void *arg)
{
    struct crowd *crowd = arg;
    unsigned number = atomic_fetch_add(&crowd->next, 1);
    storm_batch *batch = storm_batch_create();
    struct storm_write_options options = {number % 4 == 3 ? STORM_SYNC_NONE : STORM_SYNC_FULL};
    for (unsigned i = 0; i < EACH; i++) {
        char key[32], value[300] = {0};
        struct storm_value found;
        uint64_t revision;
        snprintf(key, sizeof key, "writer%02u", number);
        snprintf(value, sizeof value, "%u", i);
        storm_batch_clear(batch);
        storm_status status =
            storm_batch_put(batch, storm_text(key), storm_bytes(value, sizeof value));
        if (status == STORM_OK)
            status = storm_write(crowd->db, batch, &options, &revision);
        if (status == STORM_OK)
            count_revision(crowd, revision);
        if (status == STORM_OK)
            status = storm_get(crowd->db, NULL, storm_text(key), &found);
        bool is_right = status == STORM_OK && found.revision == revision &&
                        found.bytes.size == sizeof value &&
                        memcmp(found.bytes.data, value, sizeof value) == 0;
        atomic_fetch_add(&crowd->wrong, !is_right);
        if (status == STORM_OK)
            storm_value_release(&found);
    }
    storm_batch_destroy(batch);
    return NULL;
}

static void *submit(void *arg)
{
    static struct heard heards[SUBMITTERS][EACH];
    struct crowd *crowd = arg;
    unsigned number = atomic_fetch_add(&crowd->next, 1) - WRITERS;
    struct heard *heard = heards[number];
    storm_batch *batches[EACH];
    memset(heards[number], 0, sizeof heards[number]);
    for (unsigned i = 0; i < EACH; i++) {
        struct storm_write_options options = {i % 3 == 0 ? STORM_SYNC_NONE : STORM_SYNC_FULL};
        char key[32];
        uint64_t revision = 0;
        storm_status status;
        snprintf(key, sizeof key, "submitter%u.%u", number, i);
        batches[i] = storm_batch_create();
        status = storm_batch_put(batches[i], storm_text(key), storm_text("v"));
        do {
            if (status == STORM_OK || status == STORM_BUSY)
                status =
                    storm_write_async(crowd->db, batches[i], &options, hear, &heard[i], &revision);
        } while (status == STORM_BUSY);
        if (status == STORM_OK)
            hear(&heard[i], status, revision);
        else if (status != STORM_PENDING)
            atomic_fetch_add(&crowd->wrong, 1);
    }
    for (unsigned i = 0; i < EACH; i++) {
        wait_heard(&heard[i]);
        atomic_fetch_add(&crowd->wrong, heard[i].status != STORM_OK);
        count_revision(crowd, heard[i].revision);
        storm_batch_destroy(batches[i]);
    }
    return NULL;
}

/* Snapshots only go forward, and show each writer's newest value or an older one, never a gap. */
static void *look_on(void *arg)
{
    struct crowd *crowd = arg;
    uint64_t last_revision = 0;
    long last[WRITERS];
    memset(last, -1, sizeof last);
    while (!atomic_load(&crowd->is_over)) {
        storm_snapshot *snapshot = storm_snapshot_create(crowd->db);
        if (snapshot == NULL)
            return arg;
        uint64_t revision = storm_snapshot_revision(snapshot);
        atomic_fetch_add(&crowd->wrong, revision < last_revision);
        last_revision = revision;
        for (unsigned w = 0; w < WRITERS; w++) {
            char key[32];
            struct storm_value found;
            snprintf(key, sizeof key, "writer%02u", w);
            storm_status status = storm_get(crowd->db, snapshot, storm_text(key), &found);
            if (status == STORM_OK) {
                long number = atol((const char *)found.bytes.data);
                bool is_wrong = number < last[w] || found.revision > revision;
                atomic_fetch_add(&crowd->wrong, is_wrong);
                last[w] = number;
            } else {
                bool is_wrong = status != STORM_NOT_FOUND || last[w] >= 0;
                atomic_fetch_add(&crowd->wrong, is_wrong);
            }
            storm_value_release(&found);
        }
        storm_snapshot_release(snapshot);
    }
    return NULL;
}

static void crowd_on(storm_db *db)
{
    static struct crowd crowd;
    pthread_t threads[WRITERS + SUBMITTERS], reader, flusher;
    memset(&crowd, 0, sizeof crowd);
    crowd.db = db;
    assert_int_equal(pthread_create(&reader, NULL, look_on, &crowd), 0);
    assert_int_equal(pthread_create(&flusher, NULL, flush_often, db), 0);
    for (size_t i = 0; i < WRITERS + SUBMITTERS; i++) {
        bool is_writer = i < WRITERS;
        assert_int_equal(
            pthread_create(&threads[i], NULL, is_writer ? write_and_read_back : submit, &crowd), 0);
        /* Numbers go by the order of starting. */
        while (atomic_load(&crowd.next) != i + 1)
            pause_us(50);
    }
    for (size_t i = 0; i < WRITERS + SUBMITTERS; i++)
        join(threads[i]);
    atomic_store(&crowd.is_over, true);
    join(reader);
    join(flusher);
    assert_int_equal(atomic_load(&crowd.wrong), 0);
    for (uint64_t revision = 1; revision <= ALL; revision++)
        assert_int_equal(atomic_load(&crowd.revisions[revision]), 1);
    struct storm_stats stats = stats_of(db);
    assert_int_equal(stats.revision, ALL);
    assert_int_equal(stats.writes, ALL);
    assert_true(stats.log_syncs < stats.writes);
}

static void check_crowd(storm_db *db)
{
    for (unsigned w = 0; w < WRITERS; w++) {
        char key[32], last[16];
        snprintf(key, sizeof key, "writer%02u", w);
        snprintf(last, sizeof last, "%u", EACH - 1);
        assert_string_equal(get_text(db, NULL, key), last);
    }
    for (unsigned i = 0; i < SUBMITTERS * EACH; i++) {
        char key[32];
        snprintf(key, sizeof key, "submitter%u.%u", i / EACH, i % EACH);
        assert_string_equal(get_text(db, NULL, key), "v");
    }
}

static void a_crowd_gets_dense_revisions_and_reads_what_was_answered(void **state)
{
    (void)state;
    crowd_on(store.db);
    store_close(&store);
    sim_reboot(store.disk, SIM_LOSE_ALL);
    store_open(&store);
    check_crowd(store.db);
}

static void the_same_on_the_real_file_system(void **state)
{
    struct test_dir dir;
    struct storm_options options;
    storm_db *db;
    (void)state;
    test_dir_init(&dir);
    storm_options_init(&options);
    options.memtable_bytes = 64 << 10;
    options.write_buffer_bytes = 2 << 20;
    assert_int_equal(storm_open(dir.path, &options, &db, NULL), STORM_OK);
    crowd_on(db);
    assert_int_equal(storm_close(db), STORM_OK);
    assert_int_equal(storm_open(dir.path, &options, &db, NULL), STORM_OK);
    check_crowd(db);
    assert_int_equal(storm_close(db), STORM_OK);
    test_dir_fini(&dir);
}

/* ---- Closing, budgets, broken stores ---- */

static void *run_close(void *arg)
{
    storm_db *db = arg;
    return storm_close(db) == STORM_OK ? NULL : db;
}

static void closing_waits_for_asynchronous_writes(void **state)
{
    enum { COUNT = 300 };
    static struct heard heards[COUNT];
    storm_batch *batches[COUNT];
    pthread_t closer;
    size_t wins = 0;
    (void)state;
    memset(heards, 0, sizeof heards);
    gate_set(true, true);
    for (size_t i = 0; i < COUNT; i++) {
        struct write_job job = {.key = "only one gets it",
                                .value = storm_text("v"),
                                .condition = i % 2 == 0 ? STORM_IF_ABSENT : STORM_ALWAYS};
        batches[i] = batch_of(&job);
        assert_int_equal(storm_write_async(store.db, batches[i], NULL, hear, &heards[i], NULL),
                         STORM_PENDING);
    }
    assert_int_equal(pthread_create(&closer, NULL, run_close, store.db), 0);
    gate_wait();
    gate_set(false, false);
    join(closer);
    store.db = NULL;
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(atomic_load(&heards[i].calls), 1);
        if (i % 2 == 0)
            wins += heards[i].status == STORM_OK;
        else
            assert_int_equal(heards[i].status, STORM_OK);
        storm_batch_destroy(batches[i]);
    }
    assert_int_equal(wins, 1);
    store_open(&store);
    assert_int_equal(stats_of(store.db).revision, COUNT / 2 + 1);
}

static void a_failed_sync_fails_all_of_its_group_and_shows_nothing(void **state)
{
    static const char *const keys[] = {"a", "b", "c"};
    struct write_job jobs[3] = {{0}, {.sync = STORM_SYNC_NONE}, {.condition = STORM_IF_PRESENT}};
    struct sdb_lsm *db = sdb_lsm(store.db);
    (void)state;
    turn_take(db);
    for (size_t i = 0; i < 3; i++) {
        start(&jobs[i], store.db, keys[i], "v");
        wait_queued(db, i + 1);
    }
    sim_plan_set(store.disk, (struct sim_plan){.call = SIM_SYNC, .nth = 1, .status = STORM_IO});
    turn_give(db);
    for (size_t i = 0; i < 3; i++) {
        join(jobs[i].thread);
        assert_int_equal(jobs[i].status, STORM_COMMIT_UNKNOWN);
        assert_string_equal(get_text(store.db, NULL, keys[i]), "(none)");
    }
    assert_int_equal(stats_of(store.db).revision, 0);
    assert_int_equal(put_text(store.db, "d", "v"), STORM_READ_ONLY);
    assert_int_equal(storm_close(store.db), STORM_COMMIT_UNKNOWN);
    store.db = NULL;
}

static void a_failed_append_gives_its_revisions_out_again(void **state)
{
    (void)state;
    assert_int_equal(put_text(store.db, "a", "1"), STORM_OK);
    sim_plan_set(store.disk,
                 (struct sim_plan){.call = SIM_WRITE, .nth = 1, .status = STORM_NO_SPACE});
    assert_int_equal(put_text(store.db, "a", "2"), STORM_NO_SPACE);
    assert_string_equal(get_text(store.db, NULL, "a"), "1");
    assert_int_equal(stats_of(store.db).revision, 1);
    assert_int_equal(put_text(store.db, "b", "3"), STORM_OK);
    assert_int_equal(stats_of(store.db).revision, 2);
}

/* ---- Flushing ---- */

struct flush_job {
    pthread_t thread;
    storm_db *db;
    storm_status status;
    struct storm_flush_result result;
};

static void *run_flush_job(void *arg)
{
    struct flush_job *job = arg;
    job->status = storm_flush(job->db, &job->result);
    return NULL;
}

/* Holds the flush thread up between installing its table and being done. */
static pthread_mutex_t is_reporting = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool has_reported;

static void report_flush(void *ctx, enum storm_log_level level, const char *line)
{
    (void)ctx;
    (void)level;
    if (strncmp(line, "event=flush ", 12) != 0)
        return;
    atomic_store(&has_reported, true);
    pthread_mutex_lock(&is_reporting);
    pthread_mutex_unlock(&is_reporting);
}

static void a_flush_counts_what_one_under_way_has_made_durable(void **state)
{
    struct sdb_lsm *db;
    struct flush_job first = {0}, second = {0};
    (void)state;
    store_close(&store);
    sdb_errors_fini(&store.errors);
    sdb_errors_init(&store.errors, report_flush, NULL);
    store_open(&store);
    db = sdb_lsm(store.db);
    first.db = second.db = store.db;
    for (int i = 0; i < 3; i++)
        assert_int_equal(put_text(store.db, i == 0 ? "a" : i == 1 ? "b" : "c", "v"), STORM_OK);
    size_t in_memory = sdb_memtable_bytes(db->active.table);
    atomic_store(&has_reported, false);
    pthread_mutex_lock(&is_reporting);
    /* One flush is writing its table. */
    gate_set(true, true);
    assert_int_equal(pthread_create(&first.thread, NULL, run_flush_job, &first), 0);
    gate_wait();
    /* Another one begins, and waits for the turn while the table is installed. */
    turn_take(db);
    assert_int_equal(pthread_create(&second.thread, NULL, run_flush_job, &second), 0);
    wait_queued(db, 1);
    gate_set(false, false);
    while (!atomic_load(&has_reported))
        pause_us(100);
    /* Nothing is left to do for it; the flush thread has not come to its end yet. */
    turn_give(db);
    join(second.thread);
    pthread_mutex_unlock(&is_reporting);
    join(first.thread);
    assert_int_equal(first.status, STORM_OK);
    assert_int_equal(second.status, STORM_OK);
    assert_int_equal(first.result.entries, 3);
    assert_int_equal(second.result.entries, 3);
    assert_int_equal(second.result.bytes, in_memory);
    /* A third one finds nothing. */
    assert_int_equal(storm_flush(store.db, &first.result), STORM_OK);
    assert_int_equal(first.result.entries, 0);
    assert_int_equal(first.result.bytes, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(writers_that_wait_together_share_one_sync),
        TEST(an_unsynced_group_takes_in_nobody_who_waits_for_the_disk),
        TEST(nothing_is_seen_before_it_is_as_durable_as_asked),
        TEST(a_refused_group_is_no_group_and_takes_no_revision),
        TEST(members_of_one_group_see_each_other),
        TEST(a_check_read_too_long_ago_is_read_again),
        TEST(an_asynchronous_check_read_too_long_ago_is_read_again),
        /* Without a store: its threads might meet the failure instead. */
        cmocka_unit_test(a_member_without_memory_leaves_no_trace_in_its_group),
        TEST(racing_conditions_are_won_once),
        TEST(a_crowd_gets_dense_revisions_and_reads_what_was_answered),
        TEST(the_same_on_the_real_file_system),
        TEST(closing_waits_for_asynchronous_writes),
        TEST(a_failed_sync_fails_all_of_its_group_and_shows_nothing),
        TEST(a_failed_append_gives_its_revisions_out_again),
        TEST(a_flush_counts_what_one_under_way_has_made_durable),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
