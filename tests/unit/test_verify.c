/*
 * storm_verify: a whole store has nothing to report, whatever goes on beside it; any byte that is
 * wrong on the disk is reported under its file's name, whatever the caches hold.
 */
#include "reports.h"

#include <pthread.h>

#include "alloc_fail.h"
#include "random.h"

static storm_status verify(struct store *store, struct reports *reports,
                           struct storm_verify_result *result)
{
    memset(reports, 0, sizeof *reports);
    return storm_verify(store->db, collect_progress, collect_report, reports, result);
}

static void put_many(struct store *store, unsigned from, unsigned count, const char *text)
{
    char key[16], value[80];
    for (unsigned i = from; i < from + count; i++) {
        snprintf(key, sizeof key, "key%04u", i);
        snprintf(value, sizeof value, "%s %u of some length that is no matter", text, i);
        assert_int_equal(put_text(store->db, key, value), STORM_OK);
    }
}

/* Tables in the last level and in level 0, which overlap, and something in the log. */
static void fill(struct store *store)
{
    put_many(store, 0, 300, "old");
    assert_int_equal(storm_compact(store->db, storm_text(""), storm_text(""), NULL, NULL),
                     STORM_OK);
    put_many(store, 100, 50, "new");
    assert_int_equal(storm_flush(store->db, NULL), STORM_OK);
    for (unsigned i = 0; i < 20; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%04u", i * 7);
        assert_int_equal(storm_delete(store->db, storm_text(key)), STORM_OK);
    }
    assert_int_equal(storm_flush(store->db, NULL), STORM_OK);
    put_many(store, 290, 20, "in the log");
}

static void begin(struct store *store, uint64_t seed)
{
    store_init(store, seed);
    store->tuning = &tuning_by_hand;
    store->options.codec = STORM_CODEC_NONE;
    store_open(store);
    fill(store);
}

static void a_whole_store_has_no_problems(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_verify_result result;
    struct storm_stats stats, after;
    (void)state;
    begin(&store, 1);
    assert_int_equal(storm_stats_read(store.db, &stats), STORM_OK);
    assert_int_equal(verify(&store, &reports, &result), STORM_OK);
    assert_int_equal(reports.count, 0);
    assert_int_equal(result.problems, 0);
    assert_true(stats.sstable_count > 3);
    assert_int_equal(result.tables, stats.sstable_count);
    assert_int_equal(result.bytes, stats.sstable_bytes);
    assert_int_equal(result.entries, 300 + 50 + 20);
    assert_true(result.blocks >= result.tables);
    assert_int_equal(reports.done_bytes, stats.sstable_bytes);
    assert_int_equal(reports.total_bytes, stats.sstable_bytes);
    assert_int_equal(storm_stats_read(store.db, &after), STORM_OK);
    assert_int_equal(after.cache_bytes, stats.cache_bytes);
    assert_int_equal(after.cache_misses, stats.cache_misses);
    assert_int_equal(after.errors, 0);
    /* Neither callback is needed, nor a result. */
    assert_int_equal(storm_verify(store.db, NULL, NULL, NULL, NULL), STORM_OK);
    store_fini(&store);
}

static void an_empty_store_has_no_problems(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_verify_result result;
    (void)state;
    store_init(&store, 1);
    store_open(&store);
    assert_int_equal(verify(&store, &reports, &result), STORM_OK);
    assert_int_equal(reports.count, 0);
    assert_int_equal(result.tables, 0);
    store_fini(&store);
}

static void files_that_are_not_the_stores_are_no_problem(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_verify_result result;
    (void)state;
    begin(&store, 1);
    assert_int_equal(sim_write_file(store.disk, "/db/0000009999.sst", "x", 1), STORM_OK);
    assert_int_equal(sim_write_file(store.disk, "/db/notes.txt", "x", 1), STORM_OK);
    assert_int_equal(verify(&store, &reports, &result), STORM_OK);
    assert_int_equal(reports.count, 2);
    assert_int_equal(reports.problems, 0);
    (void)find_report(&reports, "0000009999.sst", "not part of the store");
    (void)find_report(&reports, "notes.txt", "left alone");
    store_fini(&store);
}

/* Whether the byte, in which one bit is flipped, was one of up to seven zeroes before a record. */
static bool is_padding(struct store *store, const char *path, uint64_t at)
{
    uint8_t byte = 0;
    size_t got;
    struct sdb_file *file;
    assert_int_equal(sdb_open(&store->os, path, SDB_OPEN_READ, &file), STORM_OK);
    assert_int_equal(sdb_pread(file, at, &byte, 1, &got), STORM_OK);
    sdb_close(file);
    return strstr(path, "MANIFEST") != NULL && byte == (uint8_t)(1 << at % 8) && at % 8 != 0;
}

/* Every byte of tables, manifest and CURRENT, all of which the store has read, and cached,
 * before. */
static void any_flipped_byte_is_reported_under_its_file(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_verify_result result;
    struct file_names files;
    uint64_t flips = 0;
    (void)state;
    begin(&store, 1);
    for (unsigned i = 0; i < 310; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%04u", i);
        (void)get_text(store.db, NULL, key);
    }
    list_files(store.disk, "/db", &files);
    for (size_t f = 0; f < files.count; f++) {
        const char *name = files.names[f];
        char path[80];
        uint64_t size;
        if (strstr(name, ".log") != NULL || strcmp(name, "LOCK") == 0)
            continue;
        snprintf(path, sizeof path, "/db/%s", name);
        assert_int_equal(sim_file_size(store.disk, path, &size), STORM_OK);
        for (uint64_t at = f % 13; at < size; at += 13) {
            uint8_t mask = (uint8_t)(1 << at % 8);
            assert_int_equal(sim_flip(store.disk, path, at, mask), STORM_OK);
            bool is_found = verify(&store, &reports, &result) == STORM_CORRUPT;
            /* The zeroes between a manifest's records mean nothing to anybody. */
            if (!is_found && !is_padding(&store, path, at))
                fail_msg("%s, byte %llu flipped: no problem", name, (unsigned long long)at);
            assert_int_equal(result.problems, reports.problems);
            if (is_found)
                (void)find_report(&reports, name, "");
            assert_int_equal(sim_flip(store.disk, path, at, mask), STORM_OK);
            flips++;
        }
    }
    assert_int_equal(verify(&store, &reports, &result), STORM_OK);
    print_message("%llu flips found\n", (unsigned long long)flips);
    store_fini(&store);
}

static void every_damaged_block_is_reported_and_its_table_counted_once(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_verify_result result;
    struct storm_stats before, after;
    char path[64];
    uint64_t size;
    (void)state;
    store_init(&store, 1);
    store.tuning = &tuning_by_hand;
    store.options.codec = STORM_CODEC_NONE;
    store_open(&store);
    put_many(&store, 0, 600, "long");
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    struct sdb_view *view = sdb_view_acquire(sdb_lsm(store.db));
    snprintf(path, sizeof path, "/db/%010llu.sst",
             (unsigned long long)view->version->levels[0].files[0]->number);
    sdb_view_release(view);
    assert_int_equal(sim_file_size(store.disk, path, &size), STORM_OK);
    assert_true(size > 20000);
    assert_int_equal(sim_flip(store.disk, path, 10, 1), STORM_OK);
    assert_int_equal(sim_flip(store.disk, path, 15000, 1), STORM_OK);
    assert_int_equal(storm_stats_read(store.db, &before), STORM_OK);
    assert_int_equal(verify(&store, &reports, &result), STORM_CORRUPT);
    assert_int_equal(result.problems, 2);
    assert_true(result.entries > 400 && result.entries < 600);
    assert_int_equal(storm_stats_read(store.db, &after), STORM_OK);
    assert_int_equal(after.corruptions, before.corruptions + 1);
    store_fini(&store);
}

static void missing_and_cut_tables_are_reported(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_verify_result result;
    struct file_names files;
    unsigned tables = 0;
    (void)state;
    begin(&store, 1);
    list_files(store.disk, "/db", &files);
    for (size_t f = 0; f < files.count && tables < 2; f++) {
        char path[80];
        uint64_t size;
        if (strstr(files.names[f], ".sst") == NULL)
            continue;
        snprintf(path, sizeof path, "/db/%s", files.names[f]);
        assert_int_equal(sim_file_size(store.disk, path, &size), STORM_OK);
        if (tables++ == 0)
            assert_int_equal(sim_remove(store.disk, path), STORM_OK);
        else
            assert_int_equal(sim_resize(store.disk, path, size - 1), STORM_OK);
        assert_int_equal(verify(&store, &reports, &result), STORM_CORRUPT);
        (void)find_report(&reports, files.names[f], tables == 1 ? "missing" : "bytes");
        assert_int_equal(result.problems, tables);
    }
    assert_int_equal(sim_remove(store.disk, "/db/CURRENT"), STORM_OK);
    assert_int_equal(verify(&store, &reports, &result), STORM_CORRUPT);
    (void)find_report(&reports, "CURRENT", "missing");
    store_fini(&store);
}

/* A manifest that is sound in itself and yet not the one the store has in memory. */
static void a_manifest_of_another_time_is_reported(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_verify_result result;
    struct file_names files;
    char path[80] = "";
    uint64_t size;
    (void)state;
    begin(&store, 1);
    list_files(store.disk, "/db", &files);
    for (size_t f = 0; f < files.count; f++) {
        if (strncmp(files.names[f], "MANIFEST", 8) == 0)
            snprintf(path, sizeof path, "/db/%s", files.names[f]);
    }
    /* Its last edit cut short reads as one that a crash interrupted. */
    assert_int_equal(sim_file_size(store.disk, path, &size), STORM_OK);
    assert_int_equal(sim_resize(store.disk, path, size - 8), STORM_OK);
    assert_int_equal(verify(&store, &reports, &result), STORM_CORRUPT);
    (void)find_report(&reports, path + 4, "");
    store_fini(&store);
}

/* Write the manifest anew with another word about one table. The store is closed. */
static void tell_lies(struct store *store, unsigned lie)
{
    struct sdb_state disk;
    struct sdb_version *version;
    struct sdb_manifest *manifest;
    struct sdb_garbage garbage = {.head = NULL};
    assert_int_equal(sdb_manifest_read(&store->os, "/db", &garbage, &disk, &version), STORM_OK);
    struct sdb_table_file *file = version->levels[SDB_LAST_LEVEL].files[0];
    file->entries += lie == 0;
    file->deletes += lie == 1;
    file->min_revision -= lie == 2;
    file->max_revision += lie == 3;
    file->smallest.size -= lie == 4;
    file->largest.size -= lie == 5;
    disk.manifest_number = disk.next_file++;
    assert_int_equal(sdb_manifest_create(&store->os, "/db", &disk, version, &manifest), STORM_OK);
    sdb_manifest_close(manifest);
    sdb_version_unref(version);
}

static void a_manifest_that_lies_about_a_table_is_reported(void **state)
{
    (void)state;
    for (unsigned lie = 0; lie < 6; lie++) {
        struct store store;
        struct reports reports;
        struct storm_verify_result result;
        begin(&store, 1);
        store_close(&store);
        tell_lies(&store, lie);
        store.options.read_only = true; /* another open would write down what the table says */
        store_open(&store);
        assert_int_equal(verify(&store, &reports, &result), STORM_CORRUPT);
        assert_int_equal(result.problems, 1);
        (void)find_report(&reports, "", ".sst: the manifest says another");
        store_fini(&store);
    }
}

static void the_caller_may_stop_it(void **state)
{
    struct store store;
    struct reports reports = {.cancel_at = 1};
    struct storm_verify_result result;
    (void)state;
    begin(&store, 1);
    assert_int_equal(storm_verify(store.db, collect_progress, collect_report, &reports, &result),
                     STORM_CANCELLED);
    assert_int_equal(reports.progress_calls, 1);
    store_fini(&store);
}

static void read_only_and_broken_stores_are_verified_too(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_verify_result result;
    (void)state;
    begin(&store, 1);
    sim_plan_set(store.disk, (struct sim_plan){.call = SIM_SYNC, .nth = 1, .status = STORM_IO});
    assert_int_equal(put_text(store.db, "a", "b"), STORM_COMMIT_UNKNOWN);
    assert_int_equal(verify(&store, &reports, &result), STORM_OK);
    store_drop(&store);
    store.options.read_only = true;
    store_open(&store);
    assert_int_equal(verify(&store, &reports, &result), STORM_OK);
    assert_int_equal(reports.count, 0);
    assert_true(result.tables > 3);
    store_fini(&store);
}

/* Without memory it says so; a read that fails is a problem of that file, or a failure; in no case
 * does the store suffer. */
static void memory_and_reads_may_fail_anywhere(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_verify_result result;
    uint64_t failures = 1;
    bool has_fired = true;
    (void)state;
    begin(&store, 1);
    for (uint64_t nth = 1; failures != 0; nth++) {
        alloc_fail_at(nth, false);
        storm_status status = verify(&store, &reports, &result);
        failures = alloc_failures();
        alloc_fail_at(0, false);
        assert_int_equal(status, failures != 0 ? STORM_NO_MEMORY : STORM_OK);
    }
    static const enum sim_call calls[] = {SIM_OPEN, SIM_READ, SIM_SIZE, SIM_LIST};
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        has_fired = true;
        for (uint64_t nth = 1; has_fired; nth++) {
            sim_plan_set(store.disk,
                         (struct sim_plan){.call = calls[c], .nth = nth, .status = STORM_IO});
            storm_status status = verify(&store, &reports, &result);
            has_fired = sim_plan_fired(store.disk);
            sim_plan_set(store.disk, (struct sim_plan){0});
            assert_int_equal(status, !has_fired             ? STORM_OK
                                     : calls[c] == SIM_LIST ? STORM_IO
                                                            : STORM_CORRUPT);
            assert_int_equal(reports.problems, has_fired && calls[c] != SIM_LIST);
        }
    }
    assert_string_equal(get_text(store.db, NULL, "key0000"), "(none)");
    store_fini(&store);
}

struct writer {
    struct store *store;
    _Atomic bool is_over;
};

static void *write_on(void *arg)
{
    struct writer *writer = arg;
    for (unsigned round = 0; !writer->is_over; round++)
        put_many(writer->store, round * 37 % 200, 40, round % 2 == 0 ? "even" : "odd");
    return NULL;
}

static void flushes_and_compactions_beside_it_are_no_problem(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_verify_result result;
    pthread_t thread;
    (void)state;
    struct sdb_tuning busy = tuning_by_hand;
    busy.is_by_hand = false;
    busy.settle_ns = 1000000;
    store_init(&store, 1);
    store.tuning = &busy;
    store.options.sync = STORM_SYNC_NONE;
    store.options.memtable_entries = 100;
    store_open(&store);
    struct writer writer = {.store = &store};
    assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
    for (unsigned i = 0; i < 100; i++) {
        storm_status status = verify(&store, &reports, &result);
        if (status != STORM_OK)
            fail_msg("round %u: %d, %s", i, status, reports.count == 0 ? "" : reports.lines[0]);
    }
    writer.is_over = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    store_fini(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_store_has_no_problems),
        cmocka_unit_test(an_empty_store_has_no_problems),
        cmocka_unit_test(files_that_are_not_the_stores_are_no_problem),
        cmocka_unit_test(any_flipped_byte_is_reported_under_its_file),
        cmocka_unit_test(every_damaged_block_is_reported_and_its_table_counted_once),
        cmocka_unit_test(missing_and_cut_tables_are_reported),
        cmocka_unit_test(a_manifest_of_another_time_is_reported),
        cmocka_unit_test(a_manifest_that_lies_about_a_table_is_reported),
        cmocka_unit_test(the_caller_may_stop_it),
        cmocka_unit_test(read_only_and_broken_stores_are_verified_too),
        cmocka_unit_test(memory_and_reads_may_fail_anywhere),
        cmocka_unit_test(flushes_and_compactions_beside_it_are_no_problem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
