/*
 * Touches: another expiry and revision, the same value, type and all. What they keep when the key
 * changes on the way: between reading and the turn, within the group, within the batch.
 */
#include "store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "alloc_fail.h"
#include "turn.h"

static struct store store;
static uint64_t clock_ms = 1000000;

static int set_up(void **state)
{
    (void)state;
    store_init(&store, 1);
    sim_clock_set(store.disk, clock_ms);
    store_open(&store);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_fini(&store);
    return 0;
}

/* ---- One operation at a time ---- */

static struct storm_op touch_of(const char *key, uint64_t expires_ms)
{
    return (struct storm_op){
        .kind = STORM_TOUCH, .key = storm_text(key), .meta = {.expires_ms = expires_ms}};
}

static storm_status write_op(const struct storm_op *op, uint64_t *revision,
                             struct storm_op_result *result)
{
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_add(batch, op), STORM_OK);
    storm_status status = storm_write(store.db, batch, NULL, revision);
    if (result != NULL)
        *result = storm_batch_result(batch, 0);
    storm_batch_destroy(batch);
    return status;
}

static storm_status touch(const char *key, uint64_t expires_ms)
{
    struct storm_op op = touch_of(key, expires_ms);
    return write_op(&op, NULL, NULL);
}

static void put_with(const char *key, const char *value, uint64_t expires_ms, uint64_t modified_ms)
{
    struct storm_op op = {.kind = STORM_PUT,
                          .key = storm_text(key),
                          .value = storm_text(value),
                          .meta = {expires_ms, modified_ms, storm_text("text/x-test")}};
    assert_int_equal(write_op(&op, NULL, NULL), STORM_OK);
}

/* What a key shows. */
struct shown {
    const char *value;
    uint64_t expires_ms, modified_ms, revision;
};

static void assert_shows(const storm_snapshot *snapshot, const char *key, struct shown expected)
{
    struct storm_value value;
    assert_int_equal(storm_get(store.db, snapshot, storm_text(key), &value), STORM_OK);
    assert_int_equal(value.bytes.size, strlen(expected.value));
    assert_memory_equal(value.bytes.data, expected.value, value.bytes.size);
    assert_int_equal(value.meta.type.size, strlen("text/x-test"));
    assert_memory_equal(value.meta.type.data, "text/x-test", value.meta.type.size);
    assert_int_equal(value.meta.expires_ms, expected.expires_ms);
    assert_int_equal(value.meta.modified_ms, expected.modified_ms);
    assert_int_equal(value.revision, expected.revision);
    storm_value_release(&value);
}

static uint64_t newest(void)
{
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(store.db, &stats), STORM_OK);
    return stats.revision;
}

static void reopen(enum sim_loss loss)
{
    sim_cut_at(store.disk, 1);
    store_drop(&store);
    sim_reboot(store.disk, loss);
    store_open(&store);
}

static void a_touch_changes_expiry_and_revision_and_keeps_the_rest(void **state)
{
    struct storm_op_result result;
    uint64_t later = clock_ms + 1000, revision;
    (void)state;
    for (int is_flushed = 0; is_flushed < 2; is_flushed++) {
        uint64_t first = newest() + 1;
        put_with("k", "value", later, 77);
        if (is_flushed)
            assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        storm_snapshot *snapshot = storm_snapshot_create(store.db);
        struct storm_op op = touch_of("k", later + 5);
        op.value = storm_text("not looked at");
        op.meta.type = storm_text("nor this");
        assert_int_equal(write_op(&op, &revision, &result), STORM_OK);
        assert_int_equal(revision, first + 1);
        assert_true(result.holds);
        assert_true(result.existed);
        assert_int_equal(result.previous_revision, first);
        assert_shows(NULL, "k", (struct shown){"value", later + 5, 77, first + 1});
        assert_shows(snapshot, "k", (struct shown){"value", later, 77, first});
        storm_snapshot_release(snapshot);
        op.meta = (struct storm_meta){.expires_ms = 0, .modified_ms = 78};
        assert_int_equal(write_op(&op, NULL, NULL), STORM_OK);
        assert_shows(NULL, "k", (struct shown){"value", 0, 78, first + 2});
        reopen(SIM_LOSE_ALL);
        assert_shows(NULL, "k", (struct shown){"value", 0, 78, first + 2});
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        assert_shows(NULL, "k", (struct shown){"value", 0, 78, first + 2});
    }
}

static void a_touched_key_expires_when_the_touch_said(void **state)
{
    (void)state;
    put_with("k", "v", clock_ms + 100, 0);
    assert_int_equal(touch("k", clock_ms + 200), STORM_OK);
    sim_clock_set(store.disk, clock_ms + 150);
    assert_string_equal(get_text(store.db, NULL, "k"), "v");
    sim_clock_set(store.disk, clock_ms + 200);
    assert_string_equal(get_text(store.db, NULL, "k"), "(none)");
    /* A touch may end a key's life, and no touch brings it back. */
    put_with("l", "v", 0, 0);
    assert_int_equal(touch("l", clock_ms), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "l"), "(none)");
    assert_int_equal(touch("l", 0), STORM_CONFLICT);
    assert_int_equal(touch("k", 0), STORM_CONFLICT);
}

static void a_touch_of_what_is_not_there_is_a_failed_condition(void **state)
{
    static const char *const keys[] = {"never was", "deleted", "deleted in a table", "expired"};
    (void)state;
    assert_int_equal(put_text(store.db, "deleted in a table", "v"), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(storm_delete(store.db, storm_text("deleted in a table")), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(put_text(store.db, "deleted", "v"), STORM_OK);
    assert_int_equal(storm_delete(store.db, storm_text("deleted")), STORM_OK);
    put_with("expired", "v", clock_ms, 0);
    uint64_t before = newest();
    for (size_t i = 0; i < 4; i++) {
        struct storm_op_result result = {.holds = true};
        struct storm_op op = touch_of(keys[i], 0);
        assert_int_equal(write_op(&op, NULL, &result), STORM_CONFLICT);
        assert_false(result.holds);
        assert_false(result.existed);
        assert_int_equal(result.previous_revision, 0);
        assert_string_equal(get_text(store.db, NULL, keys[i]), "(none)");
        /* No condition makes a touch of nothing hold. */
        op.condition = i % 2 == 0 ? STORM_IF_ABSENT : STORM_IF_NONE_MATCH;
        assert_int_equal(write_op(&op, NULL, &result), STORM_CONFLICT);
        assert_false(result.holds);
    }
    assert_int_equal(newest(), before);
}

static void the_condition_of_a_touch_must_hold_too(void **state)
{
    (void)state;
    for (int c = STORM_ALWAYS; c <= STORM_IF_NONE_MATCH; c++) {
        for (int is_listed = 0; is_listed < 2; is_listed++) {
            put_with("k", "v", 0, 0);
            uint64_t listed = newest() + (is_listed ? 0 : 100);
            struct storm_op_result result;
            struct storm_op op = touch_of("k", clock_ms + 1);
            op.condition = (enum storm_condition)c;
            op.revisions = &listed;
            op.revision_count = 1;
            bool holds = c == STORM_ALWAYS || c == STORM_IF_PRESENT ||
                         (c == STORM_IF_MATCH && is_listed) ||
                         (c == STORM_IF_NONE_MATCH && !is_listed);
            assert_int_equal(write_op(&op, NULL, &result), holds ? STORM_OK : STORM_CONFLICT);
            assert_int_equal(result.holds, holds);
            assert_true(result.existed);
        }
    }
}

/* ---- Batches ---- */

/* A batch by letters: p = put "new", t = touch, d = delete, each of key k unless upper case. */
static void fill(storm_batch *batch, const char *letters)
{
    char key[2] = "a";
    storm_batch_clear(batch);
    for (const char *at = letters; *at != 0; at++, key[0]++) {
        bool is_k = *at >= 'a';
        char letter = (char)(*at | 0x20);
        struct storm_op op = {.kind = letter == 'p'   ? STORM_PUT
                                      : letter == 't' ? STORM_TOUCH
                                                      : STORM_DELETE,
                              .key = storm_text(is_k ? "k" : key),
                              .value = storm_text("new")};
        op.meta.expires_ms = letter == 't' ? clock_ms + (uint64_t)(at - letters) + 1 : 0;
        assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    }
    assert_int_equal(storm_batch_count(batch), strlen(letters));
}

static void a_touch_keeps_the_value_from_before_the_batch(void **state)
{
    /* The last operation on k wins. */
    static const struct {
        const char *letters, *value;
        uint64_t expires_in;
    } cases[] = {{"pt", "old", 2},  {"tp", "new", 0},  {"tt", "old", 2},   {"dt", "old", 2},
                 {"td", NULL, 0},   {"tpt", "old", 3}, {"ptd", NULL, 0},   {"tdt", "old", 3},
                 {"tPt", "old", 3}, {"PDt", "old", 3}, {"tDPD", "old", 1}, {"PtDp", "new", 0}};
    (void)state;
    storm_batch *batch = storm_batch_create();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct storm_value value;
        uint64_t revision;
        assert_int_equal(put_text(store.db, "k", "old"), STORM_OK);
        uint64_t before = newest();
        fill(batch, cases[i].letters);
        assert_int_equal(storm_write(store.db, batch, NULL, &revision), STORM_OK);
        assert_int_equal(revision, before + 1);
        for (int round = 0; round < 2; round++) {
            storm_status status = storm_get(store.db, NULL, storm_text("k"), &value);
            assert_int_equal(status, cases[i].value == NULL ? STORM_NOT_FOUND : STORM_OK);
            if (cases[i].value != NULL) {
                assert_memory_equal(value.bytes.data, cases[i].value, 3);
                assert_int_equal(value.meta.expires_ms,
                                 cases[i].expires_in == 0 ? 0 : clock_ms + cases[i].expires_in);
                assert_int_equal(value.revision, revision);
            }
            storm_value_release(&value);
            for (const char *at = cases[i].letters; *at != 0; at++) {
                char key[2] = {(char)('a' + (at - cases[i].letters)), 0};
                if (*at == 'P')
                    assert_string_equal(get_text(store.db, NULL, key), "new");
            }
            reopen(SIM_LOSE_ALL);
        }
    }
    /* What is put in the same batch was not there before it. */
    assert_int_equal(storm_delete(store.db, storm_text("k")), STORM_OK);
    fill(batch, "pt");
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_CONFLICT);
    assert_false(storm_batch_result(batch, 1).holds);
    assert_string_equal(get_text(store.db, NULL, "k"), "(none)");
    storm_batch_destroy(batch);
}

static void a_batch_with_touches_may_be_written_again(void **state)
{
    uint64_t revision;
    (void)state;
    storm_batch *batch = storm_batch_create();
    fill(batch, "PtD");
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_CONFLICT);
    put_with("k", "one", 0, 0);
    assert_int_equal(storm_write(store.db, batch, NULL, &revision), STORM_OK);
    assert_shows(NULL, "k", (struct shown){"one", clock_ms + 2, 0, revision});
    /* It keeps what is there now, not what it kept last time. */
    put_with("k", "another", 0, 0);
    assert_int_equal(storm_write(store.db, batch, NULL, &revision), STORM_OK);
    assert_shows(NULL, "k", (struct shown){"another", clock_ms + 2, 0, revision});
    /* And again, with one more operation. */
    assert_int_equal(storm_batch_put(batch, storm_text("z"), storm_text("last")), STORM_OK);
    sim_plan_set(store.disk,
                 (struct sim_plan){.call = SIM_WRITE, .nth = 1, .status = STORM_NO_SPACE});
    assert_int_equal(storm_write(store.db, batch, NULL, &revision), STORM_NO_SPACE);
    assert_string_equal(get_text(store.db, NULL, "z"), "(none)");
    assert_int_equal(storm_write(store.db, batch, NULL, &revision), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "z"), "last");
    assert_shows(NULL, "k", (struct shown){"another", clock_ms + 2, 0, revision});
    storm_batch_clear(batch);
    assert_int_equal(storm_batch_put(batch, storm_text("k"), storm_text("plain")), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "k"), "plain");
    storm_batch_destroy(batch);
}

/* Open the store again without compaction, which would meet planned failures in our place. */
static void open_by_hand(void)
{
    static struct sdb_tuning by_hand;
    sdb_tuning_init(&by_hand, &store.options);
    by_hand.is_by_hand = true;
    store.tuning = &by_hand;
    store_open(&store);
}

static void a_value_that_cannot_be_read_fails_the_touch_alone(void **state)
{
    (void)state;
    store_close(&store);
    store.options.cache_bytes = 0;
    open_by_hand();
    put_with("k", "value", 0, 0);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    storm_batch *batch = storm_batch_create();
    fill(batch, "Pt");
    sim_plan_set(store.disk, (struct sim_plan){.call = SIM_READ, .nth = 1, .status = STORM_IO});
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_IO);
    assert_string_equal(get_text(store.db, NULL, "a"), "(none)");
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    assert_shows(NULL, "k", (struct shown){"value", clock_ms + 2, 0, 2});
    storm_batch_destroy(batch);
}

/* ---- Limits ---- */

static void large_values_are_kept_whatever_the_limit_is_now(void **state)
{
    enum { SIZE = 3 << 20 };
    struct storm_value value;
    struct storm_stats before, after;
    uint8_t *bytes = malloc(SIZE);
    (void)state;
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    assert_int_equal(storm_put(store.db, storm_text("k"), storm_bytes(bytes, SIZE)), STORM_OK);
    store_close(&store);
    store.options.max_value_bytes = 100;
    store.options.max_batch_bytes = 1000;
    store_open(&store);
    assert_int_equal(storm_put(store.db, storm_text("l"), storm_bytes(bytes, 101)),
                     STORM_TOO_LARGE);
    for (int round = 0; round < 2; round++) {
        struct storm_op op = touch_of("k", clock_ms + 9);
        op.value = storm_bytes(bytes, 200); /* not looked at, nor its size */
        assert_int_equal(storm_stats_read(store.db, &before), STORM_OK);
        assert_int_equal(write_op(&op, NULL, NULL), STORM_OK);
        assert_int_equal(storm_stats_read(store.db, &after), STORM_OK);
        /* What was committed counts, and that is the value too. */
        assert_in_range(after.bytes_written_user - before.bytes_written_user, SIZE, SIZE + 50);
        assert_int_equal(storm_get(store.db, NULL, storm_text("k"), &value), STORM_OK);
        assert_int_equal(value.bytes.size, SIZE);
        assert_memory_equal(value.bytes.data, bytes, SIZE);
        assert_int_equal(value.meta.expires_ms, clock_ms + 9);
        storm_value_release(&value);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    }
    /* A batch of several has a size, what it keeps included. */
    storm_batch *batch = storm_batch_create();
    fill(batch, "Pt");
    uint64_t revision = newest();
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_TOO_LARGE);
    assert_int_equal(newest(), revision);
    assert_int_equal(put_text(store.db, "k", "small"), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "k"), "small");
    storm_batch_destroy(batch);
    free(bytes);
}

/* ---- Groups ---- */

enum { MEMBERS = 12 };

struct member {
    pthread_t thread;
    bool is_asynchronous;
    enum storm_sync sync;
    storm_batch *batch;
    struct storm_op_result result;
    storm_status status;
    uint64_t revision;
    _Atomic bool is_done;
};

static void hear(void *ctx, storm_status status, uint64_t revision)
{
    struct member *member = ctx;
    member->status = status;
    member->revision = revision;
    atomic_store(&member->is_done, true);
}

static void *run_member(void *arg)
{
    struct member *member = arg;
    struct storm_write_options options = {member->sync};
    member->status = storm_write(store.db, member->batch, &options, &member->revision);
    return NULL;
}

/* Queue one operation up behind the `queued` that are there, having read what it needs. */
static void queue_up(struct member *member, const struct storm_op *op, size_t queued)
{
    struct storm_write_options options = {member->sync};
    member->batch = storm_batch_create();
    assert_int_equal(storm_batch_add(member->batch, op), STORM_OK);
    if (member->is_asynchronous)
        assert_int_equal(storm_write_async(store.db, member->batch, &options, hear, member, NULL),
                         STORM_PENDING);
    else
        assert_int_equal(pthread_create(&member->thread, NULL, run_member, member), 0);
    wait_queued(sdb_lsm(store.db), queued + 1);
}

static void finish(struct member *member)
{
    while (member->is_asynchronous && !atomic_load(&member->is_done))
        pause_us(100);
    if (!member->is_asynchronous)
        assert_int_equal(pthread_join(member->thread, NULL), 0);
    member->result = storm_batch_result(member->batch, 0);
    storm_batch_destroy(member->batch);
}

static struct storm_op put_of(const char *key, const char *value)
{
    return (struct storm_op){.kind = STORM_PUT,
                             .key = storm_text(key),
                             .value = storm_text(value),
                             .meta = {.type = storm_text("text/x-test")}};
}

/* Whoever comes first in the group, a touch keeps what the one before it left. */
static void run_group(bool is_asynchronous)
{
    struct storm_op delete = {.kind = STORM_DELETE, .key = storm_text("e")};
    struct storm_op ops[MEMBERS] = {
        put_of("a", "new"),          touch_of("a", clock_ms + 1), touch_of("a", clock_ms + 2),
        touch_of("b", clock_ms + 3), put_of("b", "after"),        touch_of("c", clock_ms + 4),
        put_of("d", "first"),        touch_of("d", clock_ms + 5), delete,
        touch_of("e", clock_ms + 6), touch_of("c", clock_ms),     touch_of("c", 0)};
    struct member members[MEMBERS] = {0};
    struct sdb_lsm *db = sdb_lsm(store.db);
    struct storm_stats before, after;
    for (const char *key = "abce"; *key != 0; key++) {
        char text[2] = {*key, 0};
        put_with(text, "old", 0, 0);
    }
    uint64_t first = newest() + 1;
    assert_int_equal(storm_stats_read(store.db, &before), STORM_OK);
    turn_take(db);
    for (size_t i = 0; i < MEMBERS; i++) {
        members[i].is_asynchronous = is_asynchronous;
        queue_up(&members[i], &ops[i], i);
    }
    turn_give(db);
    for (size_t i = 0; i < MEMBERS; i++)
        finish(&members[i]);
    assert_int_equal(storm_stats_read(store.db, &after), STORM_OK);
    assert_int_equal(after.log_group_commits, before.log_group_commits + 1);
    for (size_t i = 0, taken = 0; i < MEMBERS; i++) {
        /* The delete comes before e's touch, and c's life is over before its last one. */
        bool is_refused = i == 9 || i == 11;
        assert_int_equal(members[i].status, is_refused ? STORM_CONFLICT : STORM_OK);
        if (is_refused)
            assert_false(members[i].result.holds);
        else
            assert_int_equal(members[i].revision, first + taken++);
    }
    assert_int_equal(members[1].result.previous_revision, first);
    assert_int_equal(members[2].result.previous_revision, first + 1);
    for (int round = 0; round < 2; round++) {
        assert_shows(NULL, "a", (struct shown){"new", clock_ms + 2, 0, first + 2});
        assert_shows(NULL, "b", (struct shown){"after", 0, 0, first + 4});
        assert_shows(NULL, "d", (struct shown){"first", clock_ms + 5, 0, first + 7});
        assert_string_equal(get_text(store.db, NULL, "c"), "(none)");
        assert_string_equal(get_text(store.db, NULL, "e"), "(none)");
        reopen(SIM_LOSE_ALL);
    }
}

static void members_of_a_group_touch_what_those_before_them_left(void **state)
{
    (void)state;
    run_group(false);
}

static void asynchronous_members_do_too(void **state)
{
    (void)state;
    run_group(true);
}

/* The key changes in an earlier group, after the touch was read: into the memtable. */
static void a_touch_keeps_the_newest_value_not_the_one_it_read(void **state)
{
    (void)state;
    for (int is_flushed = 0; is_flushed < 2; is_flushed++) {
        struct member change = {.sync = STORM_SYNC_NONE}, late = {.sync = STORM_SYNC_FULL};
        struct sdb_lsm *db = sdb_lsm(store.db);
        struct storm_op put = put_of("k", "the newest"), op = touch_of("k", clock_ms + 1);
        put_with("k", "old", 0, 0);
        if (is_flushed)
            assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        turn_take(db);
        queue_up(&change, &put, 0);
        queue_up(&late, &op, 1);
        turn_give(db);
        finish(&change);
        finish(&late);
        assert_int_equal(late.status, STORM_OK);
        assert_int_equal(late.result.previous_revision, change.revision);
        assert_shows(NULL, "k", (struct shown){"the newest", clock_ms + 1, 0, late.revision});
    }
}

static void a_key_put_after_it_was_read_as_absent_is_touched(void **state)
{
    struct member change = {.sync = STORM_SYNC_NONE}, late = {.sync = STORM_SYNC_FULL};
    struct sdb_lsm *db = sdb_lsm(store.db);
    struct storm_op put = put_of("k", "here"), op = touch_of("k", clock_ms + 1);
    (void)state;
    turn_take(db);
    queue_up(&change, &put, 0);
    queue_up(&late, &op, 1);
    turn_give(db);
    finish(&change);
    finish(&late);
    assert_int_equal(late.status, STORM_OK);
    assert_shows(NULL, "k", (struct shown){"here", clock_ms + 1, 0, late.revision});
}

static void *run_flush(void *arg)
{
    return storm_flush(arg, NULL) == STORM_OK ? NULL : arg;
}

/* The memtable that the touch was read from is sealed and flushed before its turn comes. */
static void run_retry(bool is_asynchronous)
{
    struct member change = {0}, late = {.is_asynchronous = is_asynchronous};
    struct sdb_lsm *db = sdb_lsm(store.db);
    struct storm_op put = put_of("k", "second"), op = touch_of("k", clock_ms + 1);
    pthread_t flusher;
    void *failure;
    put_with("k", "first", 0, 0);
    turn_take(db);
    queue_up(&change, &put, 0);
    assert_int_equal(pthread_create(&flusher, NULL, run_flush, store.db), 0);
    wait_queued(db, 2);
    queue_up(&late, &op, 2);
    /* The touch stays in the queue until the flush is over. */
    pthread_mutex_lock(&db->mu);
    struct sdb_commit *kept = db->tail;
    for (db->tail = db->head; db->tail->next != kept; db->tail = db->tail->next)
        ;
    db->tail->next = NULL;
    db->queued--;
    pthread_mutex_unlock(&db->mu);
    turn_give(db);
    finish(&change);
    assert_int_equal(pthread_join(flusher, &failure), 0);
    assert_null(failure);
    turn_take(db);
    pthread_mutex_lock(&db->mu);
    assert_null(db->head);
    db->head = db->tail = kept;
    db->queued = 1;
    pthread_mutex_unlock(&db->mu);
    turn_give(db);
    finish(&late);
    assert_int_equal(late.status, STORM_OK);
    assert_int_equal(late.result.previous_revision, change.revision);
    assert_shows(NULL, "k", (struct shown){"second", clock_ms + 1, 0, late.revision});
}

static void a_touch_read_too_long_ago_is_read_again(void **state)
{
    (void)state;
    run_retry(false);
}

static void an_asynchronous_touch_read_too_long_ago_is_read_again(void **state)
{
    (void)state;
    run_retry(true);
}

/* A change to a large value within the group: too much to copy under the turn. */
static void a_large_value_is_not_copied_for_a_later_member(void **state)
{
    enum { SIZE = 600 << 10 };
    struct sdb_lsm *db = sdb_lsm(store.db);
    uint8_t *bytes = calloc(1, SIZE);
    (void)state;
    for (int is_asynchronous = 0; is_asynchronous < 2; is_asynchronous++) {
        struct member change = {0}, late = {.is_asynchronous = is_asynchronous != 0};
        struct storm_op put = put_of("k", ""), op = touch_of("k", clock_ms + 1);
        struct storm_stats before, after;
        struct storm_value value;
        put.value = storm_bytes(bytes, SIZE);
        put_with("k", "small", 0, 0);
        assert_int_equal(storm_stats_read(store.db, &before), STORM_OK);
        turn_take(db);
        queue_up(&change, &put, 0);
        queue_up(&late, &op, 1);
        turn_give(db);
        finish(&change);
        finish(&late);
        assert_int_equal(late.status, STORM_OK);
        assert_int_equal(late.result.previous_revision, change.revision);
        assert_int_equal(storm_stats_read(store.db, &after), STORM_OK);
        assert_int_equal(after.log_group_commits, before.log_group_commits + 2);
        assert_int_equal(storm_get(store.db, NULL, storm_text("k"), &value), STORM_OK);
        assert_int_equal(value.bytes.size, SIZE);
        assert_int_equal(value.meta.expires_ms, clock_ms + 1);
        storm_value_release(&value);
    }
    free(bytes);
}

static void an_asynchronous_touch_without_a_sync_ends_at_once(void **state)
{
    struct storm_write_options options = {STORM_SYNC_NONE};
    struct member member = {0};
    uint64_t revision = 0;
    (void)state;
    put_with("k", "v", 0, 0);
    member.batch = storm_batch_create();
    struct storm_op op = touch_of("k", clock_ms + 1);
    assert_int_equal(storm_batch_add(member.batch, &op), STORM_OK);
    assert_int_equal(storm_write_async(store.db, member.batch, &options, hear, &member, &revision),
                     STORM_OK);
    assert_shows(NULL, "k", (struct shown){"v", clock_ms + 1, 0, revision});
    storm_batch_destroy(member.batch);
}

/* ---- Memory ---- */

static void a_touch_without_memory_changes_nothing_and_may_be_tried_again(void **state)
{
    unsigned points = 0;
    (void)state;
    for (int is_flushed = 0; is_flushed < 2; is_flushed++) {
        bool has_failed = true;
        for (uint64_t nth = 1; has_failed; nth++, points++) {
            storm_batch *batch = NULL;
            uint64_t revision;
            put_with("k", "value", 0, 0);
            if (is_flushed)
                assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
            uint64_t before = newest();
            batch = storm_batch_create();
            alloc_fail_at(nth, true);
            storm_status status = STORM_OK;
            for (size_t i = 0; i < 9 && status == STORM_OK; i++) {
                struct storm_op op = touch_of("k", clock_ms + 1 + i);
                status = storm_batch_add(batch, &op);
                assert_int_equal(storm_batch_count(batch), i + (status == STORM_OK));
            }
            bool is_added = status == STORM_OK;
            if (is_added)
                status = storm_write(store.db, batch, NULL, &revision);
            has_failed = alloc_failures() != 0;
            alloc_fail_at(0, false);
            if (status != STORM_OK) {
                assert_int_equal(status, STORM_NO_MEMORY);
                assert_int_equal(newest(), before);
                assert_shows(NULL, "k", (struct shown){"value", 0, 0, before});
                if (!is_added)
                    fill(batch, "ttttttttt");
                assert_int_equal(storm_write(store.db, batch, NULL, &revision), STORM_OK);
            }
            assert_int_equal(revision, before + 1);
            assert_shows(NULL, "k", (struct shown){"value", clock_ms + 9, 0, revision});
            storm_batch_destroy(batch);
        }
    }
    print_message("%u failures\n", points);
}

/* The same for what is encoded again at the turn: the touch fails, the group goes on. */
static void a_member_without_memory_for_its_newer_value_fails_alone(void **state)
{
    enum { SIZE = 100 << 10 };
    uint8_t *bytes = calloc(1, SIZE);
    struct sdb_lsm *db = sdb_lsm(store.db);
    unsigned alone = 0;
    (void)state;
    store_close(&store);
    store.options.memtable_bytes = 64 << 20; /* no flush, whose allocations would be in between */
    store.options.write_buffer_bytes = 128 << 20;
    open_by_hand();
    db = sdb_lsm(store.db);
    for (uint64_t nth = 1; nth < 24; nth++) {
        struct member members[3] = {0};
        struct storm_op put = put_of("k", ""), op = touch_of("k", clock_ms + 1),
                        last = put_of("l", "last");
        put.value = storm_bytes(bytes, SIZE);
        put_with("k", "small", 0, 0);
        uint64_t before = newest();
        turn_take(db);
        queue_up(&members[0], &put, 0);
        queue_up(&members[1], &op, 1);
        queue_up(&members[2], &last, 2);
        alloc_fail_at(nth, false);
        turn_give(db);
        for (size_t i = 0; i < 3; i++)
            finish(&members[i]);
        alloc_fail_at(0, false);
        if (members[0].status == STORM_NO_MEMORY) {
            /* No memory for the memtable: nobody's write was written. */
            assert_int_equal(members[2].status, STORM_NO_MEMORY);
            assert_int_equal(newest(), before);
            continue;
        }
        assert_int_equal(members[0].status, STORM_OK);
        assert_int_equal(members[2].status, STORM_OK);
        if (members[1].status == STORM_NO_MEMORY) {
            alone++;
            assert_int_equal(newest(), before + 2);
            assert_int_equal(members[2].revision, before + 2);
        } else {
            assert_int_equal(members[1].status, STORM_OK);
            assert_int_equal(newest(), before + 3);
        }
    }
    assert_true(alone > 0);
    free(bytes);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_touch_changes_expiry_and_revision_and_keeps_the_rest),
        TEST(a_touched_key_expires_when_the_touch_said),
        TEST(a_touch_of_what_is_not_there_is_a_failed_condition),
        TEST(the_condition_of_a_touch_must_hold_too),
        TEST(a_touch_keeps_the_value_from_before_the_batch),
        TEST(a_batch_with_touches_may_be_written_again),
        TEST(a_value_that_cannot_be_read_fails_the_touch_alone),
        TEST(large_values_are_kept_whatever_the_limit_is_now),
        TEST(members_of_a_group_touch_what_those_before_them_left),
        TEST(asynchronous_members_do_too),
        TEST(a_touch_keeps_the_newest_value_not_the_one_it_read),
        TEST(a_key_put_after_it_was_read_as_absent_is_touched),
        TEST(a_touch_read_too_long_ago_is_read_again),
        TEST(an_asynchronous_touch_read_too_long_ago_is_read_again),
        TEST(a_large_value_is_not_copied_for_a_later_member),
        TEST(an_asynchronous_touch_without_a_sync_ends_at_once),
        TEST(a_touch_without_memory_changes_nothing_and_may_be_tried_again),
        TEST(a_member_without_memory_for_its_newer_value_fails_alone),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
