/* What storm.h and the files promise at their edges: limits of batches, names with large numbers,
 * checks beside a batch that found no memory, threads that meet one of several doors each. */
#include "store.h"

#include "alloc_fail.h"

static void a_batch_has_no_more_than_max_batch_bytes(void **state)
{
    (void)state;
    struct store store;
    static const uint8_t bytes[1000];
    store_init(&store, 1);
    store.options.max_batch_bytes = 1000;
    store.options.max_value_bytes = 1000;
    store_open(&store);
    storm_batch *batch = storm_batch_create();
    assert_int_equal(storm_batch_put(batch, storm_text("a"), storm_bytes(bytes, 498)), STORM_OK);
    assert_int_equal(storm_batch_put(batch, storm_text("bb"), storm_bytes(bytes, 499)), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    assert_int_equal(storm_batch_delete(batch, storm_text("c")), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_TOO_LARGE);
    storm_batch_clear(batch);
    /* A single value has its own limit, whatever that of batches is. */
    assert_int_equal(storm_batch_put(batch, storm_text("key"), storm_bytes(bytes, 1000)), STORM_OK);
    assert_int_equal(storm_write(store.db, batch, NULL, NULL), STORM_OK);
    storm_batch_destroy(batch);
    store_fini(&store);
}

static void a_file_with_a_huge_number_does_not_make_current_unreadable(void **state)
{
    (void)state;
    struct store store;
    store_init(&store, 2);
    store_open(&store);
    assert_int_equal(put_text(store.db, "key", "value"), STORM_OK);
    store_close(&store);
    assert_int_equal(sim_write_file(store.disk, "/db/99999999999.spare", "x", 1), STORM_OK);
    for (unsigned i = 0; i < 3; i++) {
        store_open(&store);
        assert_string_equal(get_text(store.db, NULL, "key"), "value");
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        store_close(&store);
    }
    store_fini(&store);
}

static void a_batch_without_memory_leaves_nothing_in_the_overlay(void **state)
{
    (void)state;
    struct store store;
    char key[16];
    store_init(&store, 3);
    store_open(&store);
    storm_batch *large = storm_batch_create();
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(storm_batch_put(large, storm_text(key), storm_text("v")), STORM_OK);
    }
    storm_batch *check = storm_batch_create();
    struct storm_op op = {
        .kind = STORM_CHECK, .condition = STORM_IF_ABSENT, .key = storm_text("0")};
    assert_int_equal(storm_batch_add(check, &op), STORM_OK);
    struct sdb_lsm *db = sdb_lsm(store.db);
    assert_int_equal(sdb_checks_read(db, check), STORM_OK);
    struct sdb_view *view = sdb_view_acquire(db);
    struct sdb_overlay *overlay = sdb_overlay_create(NULL);
    alloc_fail_at(1, true);
    assert_int_equal(sdb_overlay_add(overlay, large, 1), STORM_NO_MEMORY);
    alloc_fail_at(0, false);
    assert_int_equal(sdb_checks_decide(view, overlay, check, 0), STORM_OK);
    sdb_overlay_destroy(overlay);
    sdb_view_release(view);
    sdb_checks_release(check);
    storm_batch_destroy(check);
    storm_batch_destroy(large);
    store_fini(&store);
}

/* What a new thread finds: by get and by an iterator that it made, which rests at its door then. */
static void *find_key(void *db)
{
    struct storm_iter_options options = {0};
    struct storm_value value;
    storm_iter *iter;
    storm_status status = storm_get(db, NULL, storm_text("key"), &value);
    if (status == STORM_OK)
        storm_value_release(&value);
    assert_int_equal(storm_iter_create(db, &options, &iter), STORM_OK);
    storm_iter_first(iter);
    bool is_there = storm_iter_valid(iter);
    storm_iter_destroy(iter);
    return is_there == (status == STORM_OK) && is_there ? db : NULL;
}

static void check_at_every_door(storm_db *db, bool is_there)
{
    for (unsigned i = 0; i < SDB_DOORS; i++) {
        pthread_t thread;
        void *found;
        assert_int_equal(pthread_create(&thread, NULL, find_key, db), 0);
        assert_int_equal(pthread_join(thread, &found), 0);
        assert_int_equal(found != NULL, is_there);
    }
}

static void a_thread_at_any_door_finds_what_was_written(void **state)
{
    (void)state;
    struct store store;
    store_init(&store, 4);
    store_open(&store);
    check_at_every_door(store.db, false);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(put_text(store.db, "key", "value"), STORM_OK);
        check_at_every_door(store.db, true);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        check_at_every_door(store.db, true);
        assert_int_equal(storm_delete_range(store.db, storm_text("k"), storm_text("l")), STORM_OK);
        check_at_every_door(store.db, false);
    }
    store_fini(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_has_no_more_than_max_batch_bytes),
        cmocka_unit_test(a_file_with_a_huge_number_does_not_make_current_unreadable),
        cmocka_unit_test(a_batch_without_memory_leaves_nothing_in_the_overlay),
        cmocka_unit_test(a_thread_at_any_door_finds_what_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
