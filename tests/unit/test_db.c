/* The engine as a whole on the simulated disk: what storm.h promises, one test a promise. */
#include "store.h"

#include <stdlib.h>
#include <string.h>

#include "lsm/db/names.h"
#include "test_dir.h"

static struct store store;

static int set_up(void **state)
{
    (void)state;
    store_init(&store, 1);
    store_open(&store);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    store_fini(&store);
    return 0;
}

static void reopen(void)
{
    store_close(&store);
    store_open(&store);
}

static struct storm_stats stats(void)
{
    struct storm_stats now;
    assert_int_equal(storm_stats_read(store.db, &now), STORM_OK);
    return now;
}

static void put_get_delete_do_what_they_say(void **state)
{
    (void)state;
    assert_string_equal(get_text(store.db, NULL, "a"), "(none)");
    assert_int_equal(put_text(store.db, "a", "1"), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "a"), "1");
    assert_int_equal(put_text(store.db, "a", "2"), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "a"), "2");
    assert_int_equal(storm_delete(store.db, storm_text("a")), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "a"), "(none)");
    assert_int_equal(storm_delete(store.db, storm_text("never")), STORM_OK);
}

static void arguments_out_of_range_are_refused(void **state)
{
    struct storm_value value;
    storm_batch *batch = storm_batch_create();
    uint64_t revision = 7;
    (void)state;
    assert_int_equal(put_text(store.db, "", "x"), STORM_INVALID);
    assert_int_equal(storm_get(store.db, NULL, storm_text(""), &value), STORM_INVALID);
    assert_int_equal(storm_write(store.db, batch, NULL, &revision), STORM_INVALID);
    assert_int_equal(revision, 0);
    char *large = calloc(1, 5000);
    assert_int_equal(storm_put(store.db, storm_bytes(large, 4097), storm_text("x")),
                     STORM_TOO_LARGE);
    assert_int_equal(storm_put(store.db, storm_bytes(large, 4096), storm_text("x")), STORM_OK);
    free(large);
    char *huge = calloc(1, (32 << 20) + 1);
    assert_int_equal(storm_put(store.db, storm_text("k"), storm_bytes(huge, (32 << 20) + 1)),
                     STORM_TOO_LARGE);
    assert_int_equal(storm_put(store.db, storm_text("k"), storm_bytes(huge, 32 << 20)), STORM_OK);
    free(huge);
    storm_batch_destroy(batch);
}

static void options_out_of_range_name_field_and_range(void **state)
{
    struct storm_options options;
    struct storm_error error;
    storm_db *db = (storm_db *)&options;
    (void)state;
    storm_options_init(&options);
    options.block_bytes = 12;
    assert_int_equal(storm_open("/nowhere", &options, &db, &error), STORM_INVALID);
    assert_null(db);
    assert_string_equal(error.message, "block_bytes is 12; it takes 1024 to 65536");
    storm_options_init(&options);
    options.write_buffer_bytes = 2 << 20;
    options.memtable_bytes = 3 << 20;
    assert_int_equal(storm_open("/nowhere", &options, &db, &error), STORM_INVALID);
    assert_non_null(strstr(error.message, "at least memtable_bytes"));
    assert_int_equal(storm_open("", NULL, &db, &error), STORM_INVALID);
    assert_int_equal(storm_open("postgresql://x/y", NULL, &db, &error), STORM_UNSUPPORTED);
    assert_true(storm_open("/proc/no/such", NULL, &db, &error) < 0);
    assert_non_null(strstr(error.message, "/proc/no/such"));
}

/* Three eighths of the write buffer, and no more than 64 MiB. */
static void memtables_nobody_sized_go_by_the_write_buffer(void **state)
{
    static const size_t sizes[][2] = {
        {8 << 20, 3 << 20}, {64 << 20, 24 << 20}, {(size_t)1 << 30, 64 << 20}};
    struct storm_options options;
    (void)state;
    storm_options_init(&options);
    assert_int_equal(options.memtable_bytes, 0);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        options.write_buffer_bytes = sizes[i][0];
        struct sdb_lsm *db = sdb_lsm_create(NULL, "/nowhere", &options);
        assert_non_null(db);
        assert_int_equal(db->options.memtable_bytes, sizes[i][1]);
        /* Four of them do not overrun the base level. */
        assert_true(db->tuning.base_bytes >= 4 * sizes[i][1]);
        sdb_lsm_destroy(db);
    }
}

static void values_and_meta_come_back_from_memory_and_table(void **state)
{
    (void)state;
    storm_batch *batch = storm_batch_create();
    struct storm_op op = {
        .kind = STORM_PUT,
        .key = storm_bytes("a\0b", 3),
        .value = storm_bytes("\0\1\2", 3),
        .meta = {.modified_ms = 1234567890123, .type = storm_text("image/png")},
    };
    uint64_t revision;
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, &revision), STORM_OK);
    for (int round = 0; round < 3; round++) {
        struct storm_value value;
        assert_int_equal(storm_get(store.db, NULL, op.key, &value), STORM_OK);
        assert_int_equal(value.bytes.size, 3);
        assert_memory_equal(value.bytes.data, "\0\1\2", 3);
        assert_int_equal(value.meta.modified_ms, 1234567890123);
        assert_int_equal(value.meta.type.size, 9);
        assert_memory_equal(value.meta.type.data, "image/png", 9);
        assert_int_equal(value.revision, revision);
        storm_value_release(&value);
        storm_value_release(&value);
        if (round == 0)
            assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        else
            reopen();
    }
    storm_batch_destroy(batch);
}

static void a_pinned_value_outlives_overwrite_flush_and_close(void **state)
{
    struct storm_value from_memory, from_table;
    (void)state;
    assert_int_equal(put_text(store.db, "k", "first"), STORM_OK);
    assert_int_equal(storm_get(store.db, NULL, storm_text("k"), &from_memory), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(storm_get(store.db, NULL, storm_text("k"), &from_table), STORM_OK);
    assert_int_equal(put_text(store.db, "k", "second"), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_memory_equal(from_memory.bytes.data, "first", 5);
    assert_memory_equal(from_table.bytes.data, "first", 5);
    storm_value_release(&from_memory);
    storm_value_release(&from_table);
}

static void an_expired_key_reads_as_absent_everywhere(void **state)
{
    struct storm_op op = {.kind = STORM_PUT,
                          .key = storm_text("k"),
                          .value = storm_text("v"),
                          .meta = {.expires_ms = 2000}};
    storm_batch *batch = storm_batch_create();
    storm_iter *iter;
    (void)state;
    sim_clock_set(store.disk, 1000);
    assert_int_equal(put_text(store.db, "k", "older, without expiry"), STORM_OK);
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "k"), "v");
    sim_clock_set(store.disk, 1999);
    assert_string_equal(get_text(store.db, NULL, "k"), "v");
    sim_clock_set(store.disk, 2000);
    assert_string_equal(get_text(store.db, NULL, "k"), "(none)");
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "k"), "(none)");
    assert_int_equal(storm_iter_create(store.db, NULL, &iter), STORM_OK);
    storm_iter_first(iter);
    assert_false(storm_iter_valid(iter));
    storm_iter_last(iter);
    assert_false(storm_iter_valid(iter));
    storm_iter_destroy(iter);

    /* For conditions too. */
    op = (struct storm_op){.kind = STORM_PUT,
                           .condition = STORM_IF_ABSENT,
                           .key = storm_text("k"),
                           .value = storm_text("new")};
    storm_batch_clear(batch);
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "k"), "new");
    storm_batch_destroy(batch);
}

static void a_batch_has_one_revision_and_its_last_operation_wins(void **state)
{
    storm_batch *batch = storm_batch_create();
    struct storm_value value;
    uint64_t first, second;
    (void)state;
    assert_int_equal(storm_batch_put(batch, storm_text("a"), storm_text("1")), STORM_OK);
    assert_int_equal(storm_batch_put(batch, storm_text("b"), storm_text("2")), STORM_OK);
    assert_int_equal(storm_batch_delete(batch, storm_text("a")), STORM_OK);
    assert_int_equal(storm_batch_put(batch, storm_text("b"), storm_text("3")), STORM_OK);
    assert_int_equal(storm_batch_count(batch), 4);
    assert_int_equal(storm_write(store.db, batch, NULL, &first), STORM_OK);
    assert_string_equal(get_text(store.db, NULL, "a"), "(none)");
    assert_string_equal(get_text(store.db, NULL, "b"), "3");
    assert_int_equal(storm_get(store.db, NULL, storm_text("b"), &value), STORM_OK);
    assert_int_equal(value.revision, first);
    storm_value_release(&value);
    storm_batch_clear(batch);
    assert_int_equal(storm_batch_put(batch, storm_text("c"), storm_text("4")), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, &second), STORM_OK);
    assert_int_equal(second, first + 1);
    storm_batch_destroy(batch);
}

static storm_status put_if(enum storm_condition condition, uint64_t listed, const char *key,
                           const char *text, uint64_t *revision, struct storm_op_result *result)
{
    storm_batch *batch = storm_batch_create();
    struct storm_op op = {.kind = STORM_PUT,
                          .condition = condition,
                          .key = storm_text(key),
                          .value = storm_text(text),
                          .revisions = &listed,
                          .revision_count = 1};
    assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
    storm_status status = storm_write(store.db, batch, NULL, revision);
    *result = storm_batch_result(batch, 0);
    storm_batch_destroy(batch);
    return status;
}

static void conditions_hold_or_write_nothing(void **state)
{
    struct storm_op_result result;
    uint64_t first, second, unused;
    (void)state;
    assert_int_equal(put_if(STORM_IF_PRESENT, 0, "k", "x", &unused, &result), STORM_CONFLICT);
    assert_false(result.holds);
    assert_false(result.existed);
    assert_string_equal(get_text(store.db, NULL, "k"), "(none)");
    assert_int_equal(put_if(STORM_IF_ABSENT, 0, "k", "one", &first, &result), STORM_OK);
    assert_true(result.holds);
    assert_int_equal(put_if(STORM_IF_ABSENT, 0, "k", "x", &unused, &result), STORM_CONFLICT);
    assert_true(result.existed);
    assert_int_equal(result.previous_revision, first);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(put_if(STORM_IF_MATCH, first + 5, "k", "x", &unused, &result),
                         STORM_CONFLICT);
        assert_int_equal(put_if(STORM_IF_NONE_MATCH, first, "k", "x", &unused, &result),
                         STORM_CONFLICT);
        assert_string_equal(get_text(store.db, NULL, "k"), "one");
        /* A refused write takes no revision. */
        assert_int_equal(stats().revision, first);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    }
    assert_int_equal(put_if(STORM_IF_MATCH, first, "k", "two", &second, &result), STORM_OK);
    assert_int_equal(second, first + 1);
    assert_int_equal(result.previous_revision, first);
    assert_int_equal(put_if(STORM_IF_NONE_MATCH, first, "k", "three", &second, &result), STORM_OK);
    assert_int_equal(put_if(STORM_IF_NONE_MATCH, 9, "absent", "y", &second, &result), STORM_OK);
    assert_false(result.existed);
}

static void one_failed_condition_refuses_the_whole_batch(void **state)
{
    storm_batch *batch = storm_batch_create();
    (void)state;
    assert_int_equal(put_text(store.db, "there", "x"), STORM_OK);
    assert_int_equal(storm_batch_put(batch, storm_text("a"), storm_text("1")), STORM_OK);
    struct storm_op check = {
        .kind = STORM_CHECK, .condition = STORM_IF_PRESENT, .key = storm_text("there")};
    assert_int_equal(storm_batch_add(batch, &check), STORM_OK);
    check.key = storm_text("missing");
    assert_int_equal(storm_batch_add(batch, &check), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_CONFLICT);
    assert_true(storm_batch_result(batch, 1).holds);
    assert_false(storm_batch_result(batch, 2).holds);
    assert_string_equal(get_text(store.db, NULL, "a"), "(none)");
    /* A batch of checks alone reports the newest revision and writes nothing. */
    uint64_t revision;
    storm_batch_clear(batch);
    check.key = storm_text("there");
    assert_int_equal(storm_batch_add(batch, &check), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, &revision), STORM_OK);
    assert_int_equal(revision, stats().revision);
    assert_int_equal(revision, 1);
    storm_batch_destroy(batch);
}

static void a_snapshot_sees_what_was_there_whatever_comes(void **state)
{
    (void)state;
    assert_int_equal(put_text(store.db, "k", "old"), STORM_OK);
    assert_int_equal(put_text(store.db, "gone", "soon"), STORM_OK);
    storm_snapshot *snapshot = storm_snapshot_create(store.db);
    assert_int_equal(storm_snapshot_revision(snapshot), 2);
    assert_int_equal(put_text(store.db, "k", "new"), STORM_OK);
    assert_int_equal(put_text(store.db, "k", "newer"), STORM_OK);
    assert_int_equal(storm_delete(store.db, storm_text("gone")), STORM_OK);
    assert_int_equal(put_text(store.db, "later", "x"), STORM_OK);
    for (int round = 0; round < 2; round++) {
        assert_string_equal(get_text(store.db, snapshot, "k"), "old");
        assert_string_equal(get_text(store.db, snapshot, "gone"), "soon");
        assert_string_equal(get_text(store.db, snapshot, "later"), "(none)");
        assert_string_equal(get_text(store.db, NULL, "k"), "newer");
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    }
    struct storm_iter_options options = {.snapshot = snapshot};
    storm_iter *iter;
    assert_int_equal(storm_iter_create(store.db, &options, &iter), STORM_OK);
    storm_iter_first(iter);
    assert_memory_equal(storm_iter_key(iter).data, "gone", 4);
    storm_iter_next(iter);
    assert_memory_equal(storm_iter_value(iter).data, "old", 3);
    storm_iter_next(iter);
    assert_false(storm_iter_valid(iter));
    storm_iter_destroy(iter);
    assert_int_equal(stats().snapshots, 1);
    assert_true(stats().snapshot_oldest_ms > 0);
    storm_snapshot_release(snapshot);
    assert_int_equal(stats().snapshots, 0);
}

/* The simulated clock goes on by a microsecond with each look at it. */
static void let_ms_pass(uint64_t ms)
{
    for (uint64_t i = 0; i < ms * 1000; i++)
        (void)sdb_now_ns(&store.os);
}

static void the_age_of_the_oldest_snapshot_is_told(void **state)
{
    (void)state;
    assert_int_equal(stats().snapshot_oldest_ms, 0);
    storm_snapshot *older = storm_snapshot_create(store.db);
    let_ms_pass(300);
    storm_snapshot *newer = storm_snapshot_create(store.db);
    let_ms_pass(20);
    uint64_t age = stats().snapshot_oldest_ms;
    assert_true(age >= 320 && age < 420);
    storm_snapshot_release(older);
    age = stats().snapshot_oldest_ms;
    assert_true(age >= 20 && age < 120);
    storm_snapshot_release(newer);
    assert_int_equal(stats().snapshot_oldest_ms, 0);
}

static void a_flush_drops_versions_that_nobody_sees(void **state)
{
    (void)state;
    assert_int_equal(stats().memtable_bytes, 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(put_text(store.db, "k", "v"), STORM_OK);
    assert_true(stats().memtable_bytes > 0);
    struct storm_flush_result result;
    assert_int_equal(storm_flush(store.db, &result), STORM_OK);
    assert_int_equal(result.entries, 1);
    assert_true(result.bytes > 0);
    assert_int_equal(stats().memtable_bytes, 0);
    assert_int_equal(storm_flush(store.db, &result), STORM_OK);
    assert_int_equal(result.entries, 0);
    assert_int_equal(stats().sstable_count, 1);
}

static void a_full_memtable_is_flushed_by_itself(void **state)
{
    char key[16];
    char value[200] = {0};
    (void)state;
    for (int i = 0; i < 3000; i++) {
        snprintf(key, sizeof key, "%08d", i);
        assert_int_equal(storm_put(store.db, storm_text(key), storm_bytes(value, sizeof value)),
                         STORM_OK);
    }
    assert_true(stats().flushes > 0);
    assert_true(stats().sstable_count > 0);
    for (int i = 0; i < 3000; i += 7) {
        struct storm_value got;
        snprintf(key, sizeof key, "%08d", i);
        assert_int_equal(storm_get(store.db, NULL, storm_text(key), &got), STORM_OK);
        assert_int_equal(got.bytes.size, sizeof value);
        storm_value_release(&got);
    }
}

static void a_memtable_full_by_count_is_flushed_too(void **state)
{
    char key[16];
    (void)state;
    store_close(&store);
    store.options.memtable_entries = 10;
    store_open(&store);
    for (int i = 0; i < 25; i++) {
        snprintf(key, sizeof key, "%08d", i);
        assert_int_equal(put_text(store.db, key, "v"), STORM_OK);
    }
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    /* After 10, 20 and 25 entries; a flush may take several memtables at once. */
    assert_int_equal(sdb_lsm(store.db)->seals, 3);
}

static void reopening_keeps_everything_and_counts_on(void **state)
{
    (void)state;
    assert_int_equal(put_text(store.db, "in-table", "1"), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(put_text(store.db, "in-log", "2"), STORM_OK);
    uint64_t revision = stats().revision;
    reopen();
    assert_string_equal(get_text(store.db, NULL, "in-table"), "1");
    assert_string_equal(get_text(store.db, NULL, "in-log"), "2");
    assert_int_equal(stats().revision, revision);
    assert_int_equal(put_text(store.db, "more", "3"), STORM_OK);
    assert_int_equal(stats().revision, revision + 1);
}

static storm_status count_files(void *ctx, const char *name)
{
    (void)name;
    ++*(size_t *)ctx;
    return STORM_OK;
}

static void restarts_with_small_writes_leave_no_litter(void **state)
{
    size_t after_five = 0;
    size_t after_fifty = 0;
    char key[16];
    (void)state;
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "%08d", i);
        assert_int_equal(put_text(store.db, key, "v"), STORM_OK);
        reopen();
        if (i == 4)
            assert_int_equal(sim_each_file(store.disk, "/db", count_files, &after_five), STORM_OK);
    }
    assert_int_equal(sim_each_file(store.disk, "/db", count_files, &after_fifty), STORM_OK);
    assert_int_equal(after_fifty, after_five);
    assert_int_equal(stats().sstable_count, 0);
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof key, "%08d", i);
        assert_string_equal(get_text(store.db, NULL, key), "v");
    }
}

static void foreign_files_stay_and_orphans_go(void **state)
{
    uint64_t size;
    (void)state;
    assert_int_equal(put_text(store.db, "k", "v"), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    store_close(&store);
    assert_int_equal(sim_write_file(store.disk, "/db/notes.txt", "mine", 4), STORM_OK);
    assert_int_equal(sim_write_file(store.disk, "/db/0000009999.sst", "junk", 4), STORM_OK);
    assert_int_equal(sim_write_file(store.disk, "/db/MANIFEST-0000009998", "junk", 4), STORM_OK);
    store_open(&store);
    assert_string_equal(get_text(store.db, NULL, "k"), "v");
    assert_int_equal(sim_file_size(store.disk, "/db/notes.txt", &size), STORM_OK);
    assert_int_equal(sim_file_size(store.disk, "/db/0000009999.sst", &size), STORM_NOT_FOUND);
    assert_int_equal(sim_file_size(store.disk, "/db/MANIFEST-0000009998", &size), STORM_NOT_FOUND);
}

static void a_second_open_is_refused_and_says_locked(void **state)
{
    struct sdb_errors errors;
    struct sdb_os other;
    struct storm_error error;
    storm_db *db;
    (void)state;
    sdb_errors_init(&errors, NULL, NULL);
    sim_os_init(&other, store.disk, &errors);
    assert_int_equal(sdb_lsm_open_on(&other, "/db", &store.options, &db, &error), STORM_LOCKED);
    assert_null(db);
    assert_non_null(strstr(error.message, "LOCK"));
    assert_int_equal(put_text(store.db, "still", "works"), STORM_OK);
    sdb_errors_fini(&errors);
}

static void must_exist_and_must_be_new_are_kept(void **state)
{
    (void)state;
    store_close(&store);
    store.options.must_be_new = true;
    assert_int_equal(store_try_open(&store), STORM_EXISTS);
    store.options.must_be_new = false;
    store.options.must_exist = true;
    assert_int_equal(sdb_lsm_open_on(&store.os, "/none", &store.options, &store.db, &store.error),
                     STORM_NOT_FOUND);
    store_open(&store);
}

static void a_read_only_store_reads_and_changes_nothing(void **state)
{
    (void)state;
    assert_int_equal(put_text(store.db, "table", "1"), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(put_text(store.db, "log", "2"), STORM_OK);
    store_close(&store);
    uint64_t changes = sim_calls(store.disk, SIM_CHANGES);
    store.options.read_only = true;
    store_open(&store);
    assert_string_equal(get_text(store.db, NULL, "table"), "1");
    assert_string_equal(get_text(store.db, NULL, "log"), "2");
    assert_int_equal(put_text(store.db, "x", "y"), STORM_READ_ONLY);
    assert_int_equal(storm_flush(store.db, NULL), STORM_READ_ONLY);
    store_close(&store);
    assert_int_equal(sim_calls(store.disk, SIM_CHANGES), changes);
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

static void asynchronous_writes_call_back_exactly_once(void **state)
{
    enum { WRITES = 500 };
    static struct heard heard[WRITES];
    storm_batch *batches[WRITES];
    char key[16];
    (void)state;
    memset(heard, 0, sizeof heard);
    for (int i = 0; i < WRITES; i++) {
        uint64_t revision;
        snprintf(key, sizeof key, "%08d", i);
        batches[i] = storm_batch_create();
        assert_int_equal(storm_batch_put(batches[i], storm_text(key), storm_text("v")), STORM_OK);
        assert_int_equal(storm_write_async(store.db, batches[i], NULL, hear, &heard[i], &revision),
                         STORM_PENDING);
    }
    store_close(&store); /* waits for all of them */
    for (int i = 0; i < WRITES; i++) {
        assert_int_equal(atomic_load(&heard[i].calls), 1);
        assert_int_equal(heard[i].status, STORM_OK);
        assert_true(heard[i].revision != 0);
        storm_batch_destroy(batches[i]);
    }
    store_open(&store);
    assert_int_equal(stats().revision, WRITES);
}

static void an_unsynced_asynchronous_write_ends_at_once(void **state)
{
    struct storm_write_options options = {.sync = STORM_SYNC_NONE};
    struct heard heard = {0};
    storm_batch *batch = storm_batch_create();
    uint64_t revision;
    (void)state;
    assert_int_equal(storm_batch_put(batch, storm_text("k"), storm_text("v")), STORM_OK);
    assert_int_equal(storm_write_async(store.db, batch, &options, hear, &heard, &revision),
                     STORM_OK);
    assert_int_equal(revision, 1);
    assert_int_equal(atomic_load(&heard.calls), 0);
    assert_string_equal(get_text(store.db, NULL, "k"), "v");
    storm_batch_destroy(batch);
}

static void interval_mode_syncs_by_itself(void **state)
{
    struct test_dir dir;
    struct storm_options options;
    struct storm_stats before, now;
    storm_db *db;
    (void)state;
    /* On the real system: the simulated clock only counts calls. */
    test_dir_init(&dir);
    storm_options_init(&options);
    options.sync = STORM_SYNC_INTERVAL;
    options.sync_interval_ms = 1;
    assert_int_equal(storm_open(dir.path, &options, &db, NULL), STORM_OK);
    assert_int_equal(storm_stats_read(db, &before), STORM_OK);
    assert_int_equal(put_text(db, "k", "v"), STORM_OK);
    for (int i = 0; i < 30000; i++) {
        struct timespec moment = {.tv_nsec = 1000000};
        assert_int_equal(storm_stats_read(db, &now), STORM_OK);
        if (now.log_syncs > before.log_syncs)
            break;
        nanosleep(&moment, NULL);
    }
    assert_true(now.log_syncs > before.log_syncs);
    assert_int_equal(storm_close(db), STORM_OK);
    test_dir_fini(&dir);
}

static void a_lost_current_is_not_a_new_store(void **state)
{
    (void)state;
    assert_int_equal(put_text(store.db, "k", "v"), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    store_close(&store);
    assert_int_equal(sim_remove(store.disk, "/db/CURRENT"), STORM_OK);
    uint64_t changes = sim_calls(store.disk, SIM_CHANGES);
    assert_int_equal(store_try_open(&store), STORM_CORRUPT);
    assert_non_null(strstr(store.error.message, "CURRENT is missing"));
    /* But for the lock, a refusal changes nothing. */
    assert_true(sim_calls(store.disk, SIM_CHANGES) <= changes + 2);
}

static void find_kind(const char *end, char *path)
{
    /* File numbers are small in these tests. */
    for (int number = 1; number < 100; number++) {
        uint64_t size;
        snprintf(path, 64, "/db/%010d%s", number, end);
        if (sim_file_size(store.disk, path, &size) == STORM_OK && size > 0)
            return;
    }
    fail_msg("no file that ends in %s", end);
}

static void a_missing_table_is_noticed(void **state)
{
    char path[64];
    (void)state;
    assert_int_equal(put_text(store.db, "k", "v"), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    store_close(&store);
    find_kind(".sst", path);
    assert_int_equal(sim_remove(store.disk, path), STORM_OK);
    assert_int_equal(store_try_open(&store), STORM_CORRUPT);
    assert_non_null(strstr(store.error.message, path));
}

static void a_missing_or_emptied_log_is_noticed(void **state)
{
    char path[64];
    (void)state;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(put_text(store.db, "k", "v"), STORM_OK);
        store_close(&store);
        find_kind(".log", path);
        if (round == 0)
            assert_int_equal(sim_resize(store.disk, path, 0), STORM_OK);
        else
            assert_int_equal(sim_remove(store.disk, path), STORM_OK);
        assert_int_equal(store_try_open(&store), STORM_CORRUPT);
        assert_non_null(strstr(store.error.message, path));
        store_fini(&store);
        store_init(&store, 1);
        store_open(&store);
    }
}

static void a_damaged_table_spoils_its_range_only(void **state)
{
    char path[64];
    uint64_t size;
    (void)state;
    assert_int_equal(put_text(store.db, "b", "1"), STORM_OK);
    assert_int_equal(put_text(store.db, "d", "1"), STORM_OK);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    assert_int_equal(put_text(store.db, "x", "fine"), STORM_OK);
    store_close(&store);
    find_kind(".sst", path);
    assert_int_equal(sim_file_size(store.disk, path, &size), STORM_OK);
    assert_int_equal(sim_resize(store.disk, path, size / 2), STORM_OK);
    store_open(&store);
    assert_string_equal(get_text(store.db, NULL, "c"), "(error)");
    assert_string_equal(get_text(store.db, NULL, "x"), "fine");
    assert_string_equal(get_text(store.db, NULL, "a"), "(none)");
    char text[256];
    storm_last_error(store.db, text, sizeof text);
    assert_non_null(strstr(text, ".sst"));
    assert_true(stats().corruptions > 0);
    assert_int_equal(put_text(store.db, "y", "writes go on"), STORM_OK);
    storm_iter *iter;
    assert_int_equal(storm_iter_create(store.db, NULL, &iter), STORM_OK);
    storm_iter_first(iter);
    assert_false(storm_iter_valid(iter));
    assert_int_equal(storm_iter_status(iter), STORM_CORRUPT);
    storm_iter_destroy(iter);
}

static void bloom_counters_mean_what_they_say(void **state)
{
    char key[16];
    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "%08d", i);
        assert_int_equal(put_text(store.db, key, "v"), STORM_OK);
    }
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    for (int i = 0; i < 99; i++) {
        snprintf(key, sizeof key, "%08dx", i);
        assert_string_equal(get_text(store.db, NULL, key), "(none)");
    }
    struct storm_stats now = stats();
    assert_int_equal(now.bloom_hits + now.bloom_passes, 99);
    assert_true(now.bloom_hits >= 90);
    assert_int_equal(now.bloom_false_positives, now.bloom_passes);
    assert_string_equal(get_text(store.db, NULL, "00000001"), "v");
    assert_int_equal(stats().bloom_passes, now.bloom_passes + 1);
    assert_int_equal(stats().bloom_false_positives, now.bloom_false_positives);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(put_get_delete_do_what_they_say),
        TEST(arguments_out_of_range_are_refused),
        TEST(options_out_of_range_name_field_and_range),
        TEST(memtables_nobody_sized_go_by_the_write_buffer),
        TEST(values_and_meta_come_back_from_memory_and_table),
        TEST(a_pinned_value_outlives_overwrite_flush_and_close),
        TEST(an_expired_key_reads_as_absent_everywhere),
        TEST(a_batch_has_one_revision_and_its_last_operation_wins),
        TEST(conditions_hold_or_write_nothing),
        TEST(one_failed_condition_refuses_the_whole_batch),
        TEST(a_snapshot_sees_what_was_there_whatever_comes),
        TEST(the_age_of_the_oldest_snapshot_is_told),
        TEST(a_flush_drops_versions_that_nobody_sees),
        TEST(a_full_memtable_is_flushed_by_itself),
        TEST(a_memtable_full_by_count_is_flushed_too),
        TEST(reopening_keeps_everything_and_counts_on),
        TEST(restarts_with_small_writes_leave_no_litter),
        TEST(foreign_files_stay_and_orphans_go),
        TEST(a_second_open_is_refused_and_says_locked),
        TEST(must_exist_and_must_be_new_are_kept),
        TEST(a_read_only_store_reads_and_changes_nothing),
        TEST(asynchronous_writes_call_back_exactly_once),
        TEST(an_unsynced_asynchronous_write_ends_at_once),
        TEST(interval_mode_syncs_by_itself),
        TEST(a_lost_current_is_not_a_new_store),
        TEST(a_missing_table_is_noticed),
        TEST(a_missing_or_emptied_log_is_noticed),
        TEST(a_damaged_table_spoils_its_range_only),
        TEST(bloom_counters_mean_what_they_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
