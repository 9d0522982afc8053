/*
 * storm_checkpoint: a second store that holds everything up to its revision and nothing above,
 * which no fault leaves half made, and which neither store can hurt from then on.
 */
#include "reports.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloc_fail.h"
#include "test_dir.h"

enum { KEYS = 200 };

static void write_round(struct store *store, unsigned round)
{
    char key[16], value[64];
    for (unsigned i = round % 3; i < KEYS; i += 3) {
        snprintf(key, sizeof key, "key%03u", i);
        snprintf(value, sizeof value, "round %u of key %u, and some more text", round, i);
        storm_status status = i % 10 == 7 && round > 3 ? storm_delete(store->db, storm_text(key))
                                                       : put_text(store->db, key, value);
        assert_int_equal(status, STORM_OK);
    }
}

/* What a store says after `rounds` rounds. */
static void check_rounds(storm_db *db, unsigned rounds, const char *where)
{
    char key[16], value[64];
    for (unsigned i = 0; i < KEYS; i++) {
        unsigned last = rounds;
        while (last > 0 && (last - 1) % 3 != i % 3)
            last--;
        snprintf(key, sizeof key, "key%03u", i);
        if (last == 0 || (i % 10 == 7 && last - 1 > 3))
            snprintf(value, sizeof value, "(none)");
        else
            snprintf(value, sizeof value, "round %u of key %u, and some more text", last - 1, i);
        const char *found = get_text(db, NULL, key);
        if (strcmp(found, value) != 0)
            fail_msg("%s: %s is '%s', not '%s'", where, key, found, value);
    }
}

/* Open the store in `dir` of the same disk. */
static storm_db *open_other(struct store *store, const char *dir)
{
    struct storm_options options = store->options;
    storm_db *db;
    options.must_exist = true;
    storm_status status =
        sdb_lsm_open_tuned(&store->os, dir, &options, store->tuning, &db, &store->error);
    if (status != STORM_OK)
        fail_msg("open %s: %s", dir, store->error.message);
    return db;
}

static bool is_dir(struct store *store, const char *path)
{
    struct file_names names = {.count = 0};
    return sdb_list(&store->os, path, add_file_name, &names) == STORM_OK;
}

static void begin(struct store *store, uint64_t seed)
{
    store_init(store, seed);
    store->tuning = &tuning_by_hand;
    store_open(store);
    for (unsigned round = 0; round < 3; round++)
        write_round(store, round);
    assert_int_equal(storm_compact(store->db, storm_text(""), storm_text(""), NULL, NULL),
                     STORM_OK);
    write_round(store, 3);
    assert_int_equal(storm_flush(store->db, NULL), STORM_OK);
    write_round(store, 4);
    write_round(store, 5);
}

static void a_checkpoint_is_a_store_of_its_own(void **state)
{
    struct store store;
    struct storm_stats stats;
    uint64_t revision, later;
    (void)state;
    begin(&store, 1);
    assert_int_equal(storm_stats_read(store.db, &stats), STORM_OK);
    assert_int_equal(storm_checkpoint(store.db, "/copy/", &revision), STORM_OK);
    assert_int_equal(revision, stats.revision);
    assert_false(is_dir(&store, "/copy.tmp"));
    /* The first goes on, and with a compaction removes every table that they share. */
    for (unsigned round = 6; round < 9; round++)
        write_round(&store, round);
    assert_int_equal(storm_compact(store.db, storm_text(""), storm_text(""), NULL, NULL), STORM_OK);
    sim_reboot(store.disk, SIM_LOSE_ALL);
    store_drop(&store);

    storm_db *copy = open_other(&store, "/copy");
    check_rounds(copy, 6, "the copy");
    assert_int_equal(storm_stats_read(copy, &stats), STORM_OK);
    assert_int_equal(stats.revision, revision);
    assert_int_equal(storm_verify(copy, NULL, NULL, NULL, NULL), STORM_OK);
    /* So does the second. */
    struct storm_value value;
    assert_int_equal(put_text(copy, "new", "in the copy"), STORM_OK);
    assert_int_equal(storm_get(copy, NULL, storm_text("new"), &value), STORM_OK);
    assert_int_equal(value.revision, revision + 1);
    storm_value_release(&value);
    assert_int_equal(storm_delete(copy, storm_text("key000")), STORM_OK);
    assert_int_equal(storm_compact(copy, storm_text(""), storm_text(""), NULL, NULL), STORM_OK);
    assert_int_equal(storm_close(copy), STORM_OK);

    store_open(&store);
    check_rounds(store.db, 9, "the first store");
    assert_string_equal(get_text(store.db, NULL, "new"), "(none)");
    assert_int_equal(storm_verify(store.db, NULL, NULL, NULL, NULL), STORM_OK);
    /* A checkpoint of a checkpoint, and a second one of the same store. */
    copy = open_other(&store, "/copy");
    assert_string_equal(get_text(copy, NULL, "new"), "in the copy");
    assert_int_equal(storm_checkpoint(copy, "/third", &later), STORM_OK);
    assert_int_equal(later, revision + 2);
    assert_int_equal(storm_close(copy), STORM_OK);
    assert_int_equal(storm_checkpoint(store.db, "/fourth", NULL), STORM_OK);
    copy = open_other(&store, "/third");
    assert_string_equal(get_text(copy, NULL, "new"), "in the copy");
    assert_string_equal(get_text(copy, NULL, "key000"), "(none)");
    assert_int_equal(storm_close(copy), STORM_OK);
    store_fini(&store);
}

static uint64_t store_id_of(struct store *store, const char *dir)
{
    struct sdb_state state;
    struct sdb_version *version;
    struct sdb_garbage garbage = {.head = NULL};
    assert_int_equal(sdb_manifest_read(&store->os, dir, &garbage, &state, &version), STORM_OK);
    sdb_version_unref(version);
    return state.store_id;
}

static void the_two_do_not_take_each_others_log(void **state)
{
    struct store store;
    (void)state;
    begin(&store, 1);
    assert_int_equal(storm_checkpoint(store.db, "/copy", NULL), STORM_OK);
    assert_true(store_id_of(&store, "/copy") != store_id_of(&store, "/db"));
    struct file_names files;
    list_files(store.disk, "/copy", &files);
    for (size_t i = 0; i < files.count; i++)
        assert_null(strstr(files.names[i], ".log"));
    store_fini(&store);
}

static void an_empty_store_has_a_checkpoint_too(void **state)
{
    struct store store;
    uint64_t revision = 77;
    (void)state;
    store_init(&store, 1);
    store_open(&store);
    assert_int_equal(storm_checkpoint(store.db, "/copy", &revision), STORM_OK);
    assert_int_equal(revision, 0);
    storm_db *copy = open_other(&store, "/copy");
    assert_string_equal(get_text(copy, NULL, "key000"), "(none)");
    assert_int_equal(storm_close(copy), STORM_OK);
    store_fini(&store);
}

static void what_is_there_is_not_replaced(void **state)
{
    struct store store;
    char text[256];
    (void)state;
    begin(&store, 1);
    assert_int_equal(sdb_mkdir(&store.os, "/there"), STORM_OK);
    assert_int_equal(storm_checkpoint(store.db, "/there", NULL), STORM_EXISTS);
    storm_last_error(store.db, text, sizeof text);
    assert_non_null(strstr(text, "/there"));
    assert_int_equal(sim_write_file(store.disk, "/file", "x", 1), STORM_OK);
    assert_int_equal(storm_checkpoint(store.db, "/file", NULL), STORM_EXISTS);
    assert_int_equal(storm_checkpoint(store.db, "/db", NULL), STORM_EXISTS);
    assert_int_equal(storm_checkpoint(store.db, "/no/such/parent", NULL), STORM_NOT_FOUND);
    assert_int_equal(storm_checkpoint(store.db, "", NULL), STORM_INVALID);
    store_fini(&store);
}

static void what_an_earlier_attempt_left_is_used_unless_it_is_still_at_work(void **state)
{
    struct store store;
    struct sdb_file *lock;
    (void)state;
    begin(&store, 1);
    assert_int_equal(sdb_mkdir(&store.os, "/copy.tmp"), STORM_OK);
    static const char *const left[] = {"LOCK", "CURRENT", "CURRENT.tmp", "0000000001.sst",
                                       "MANIFEST-0000000099"};
    for (size_t i = 0; i < sizeof left / sizeof left[0]; i++) {
        char path[64];
        snprintf(path, sizeof path, "/copy.tmp/%s", left[i]);
        assert_int_equal(sim_write_file(store.disk, path, "left over", 9), STORM_OK);
    }
    assert_int_equal(sdb_lock(&store.os, "/copy.tmp/LOCK", &lock), STORM_OK);
    assert_int_equal(storm_checkpoint(store.db, "/copy", NULL), STORM_LOCKED);
    assert_true(is_dir(&store, "/copy.tmp"));
    uint64_t size;
    assert_int_equal(sim_file_size(store.disk, "/copy.tmp/0000000001.sst", &size), STORM_OK);
    sdb_close(lock);
    assert_int_equal(storm_checkpoint(store.db, "/copy", NULL), STORM_OK);
    assert_int_equal(sim_file_size(store.disk, "/copy/0000000001.sst", &size), STORM_NOT_FOUND);
    storm_db *copy = open_other(&store, "/copy");
    check_rounds(copy, 6, "the copy");
    assert_int_equal(storm_close(copy), STORM_OK);
    store_fini(&store);
}

static void stores_that_take_no_writes_make_none(void **state)
{
    struct store store;
    (void)state;
    begin(&store, 1);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    sim_plan_set(store.disk, (struct sim_plan){.call = SIM_SYNC, .nth = 1, .status = STORM_IO});
    assert_int_equal(put_text(store.db, "a", "b"), STORM_COMMIT_UNKNOWN);
    assert_int_equal(storm_checkpoint(store.db, "/copy", NULL), STORM_READ_ONLY);
    store_drop(&store);
    store.options.read_only = true;
    store_open(&store);
    assert_int_equal(storm_checkpoint(store.db, "/copy", NULL), STORM_READ_ONLY);
    assert_false(is_dir(&store, "/copy") || is_dir(&store, "/copy.tmp"));
    store_fini(&store);
}

/* After a crash: there is no copy, or a whole one. */
static void check_copy_if_any(struct store *store, const char *where, uint64_t n)
{
    char text[64];
    snprintf(text, sizeof text, "%s %llu", where, (unsigned long long)n);
    if (!is_dir(store, "/copy"))
        return;
    storm_db *copy = open_other(store, "/copy");
    check_rounds(copy, 6, text);
    assert_int_equal(storm_verify(copy, NULL, NULL, NULL, NULL), STORM_OK);
    assert_int_equal(storm_close(copy), STORM_OK);
}

static void a_power_cut_at_any_change_leaves_none_or_a_whole_one(void **state)
{
    static const enum sim_loss losses[] = {SIM_LOSE_ALL, SIM_KEEP_SOME, SIM_KEEP_TORN,
                                           SIM_KEEP_ALL};
    uint64_t points = 0, whole = 0;
    (void)state;
    for (size_t l = 0; l < sizeof losses / sizeof losses[0]; l++) {
        bool was_cut = true;
        for (uint64_t n = 1; was_cut; n++) {
            struct store store;
            begin(&store, n);
            sim_cut_at(store.disk, n);
            storm_status status = storm_checkpoint(store.db, "/copy", NULL);
            was_cut = sim_is_cut(store.disk);
            store_drop(&store);
            sim_reboot(store.disk, losses[l]);
            whole += is_dir(&store, "/copy");
            if (status == STORM_OK && !is_dir(&store, "/copy"))
                fail_msg("cut %llu: acknowledged and gone", (unsigned long long)n);
            check_copy_if_any(&store, "cut", n);
            store_open(&store);
            check_rounds(store.db, 6, "the first store");
            const char *again = is_dir(&store, "/copy") ? "/again" : "/copy";
            assert_int_equal(storm_checkpoint(store.db, again, NULL), STORM_OK);
            check_copy_if_any(&store, "again after cut", n);
            assert_false(is_dir(&store, "/copy.tmp"));
            store_fini(&store);
            points++;
        }
    }
    print_message("%llu cuts, %llu of them left a whole copy\n", (unsigned long long)points,
                  (unsigned long long)whole);
}

static bool survive_fault(struct sim_plan plan)
{
    struct store store;
    begin(&store, plan.nth);
    /* What the flush does under faults is tested with it. */
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    sim_plan_set(store.disk, plan);
    storm_status status = storm_checkpoint(store.db, "/copy", NULL);
    bool has_fired = sim_plan_fired(store.disk);
    sim_plan_set(store.disk, (struct sim_plan){0});
    assert_true(has_fired || status == STORM_OK);
    if (status == STORM_OK) {
        check_copy_if_any(&store, "fault", plan.nth);
    } else {
        bool may_stay = plan.for_ever; /* cleaning up fails like everything else */
        if (!may_stay && (is_dir(&store, "/copy") || is_dir(&store, "/copy.tmp")))
            fail_msg("fault %d.%llu: left a directory behind", (int)plan.call,
                     (unsigned long long)plan.nth);
        if (!is_dir(&store, "/copy"))
            assert_int_equal(storm_checkpoint(store.db, "/copy", NULL), STORM_OK);
        check_copy_if_any(&store, "after fault", plan.nth);
    }
    /* Nothing of this is the store's own misfortune. */
    assert_int_equal(put_text(store.db, "still", "writing"), STORM_OK);
    check_rounds(store.db, 6, "the first store");
    store_fini(&store);
    return has_fired;
}

static void any_call_may_fail(void **state)
{
    static const enum sim_call calls[] = {SIM_OPEN, SIM_WRITE, SIM_SYNC,  SIM_RENAME, SIM_UNLINK,
                                          SIM_LINK, SIM_LIST,  SIM_MKDIR, SIM_LOCK,   SIM_SYNC_DIR};
    static const storm_status statuses[] = {STORM_IO, STORM_NO_SPACE};
    uint64_t points = 0;
    (void)state;
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        for (int variant = 0; variant < 4; variant++) {
            struct sim_plan plan = {.call = calls[c],
                                    .nth = 1,
                                    .status = statuses[variant & 1],
                                    .for_ever = (variant & 2) != 0};
            while (survive_fault(plan)) {
                plan.nth++;
                points++;
            }
        }
    }
    print_message("%llu failures survived\n", (unsigned long long)points);
}

static void memory_may_run_out_anywhere(void **state)
{
    uint64_t failures = 1;
    (void)state;
    for (uint64_t nth = 1; failures != 0; nth++) {
        struct store store;
        begin(&store, nth);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        alloc_fail_at(nth, false);
        storm_status status = storm_checkpoint(store.db, "/copy", NULL);
        failures = alloc_failures();
        alloc_fail_at(0, false);
        assert_true(status == STORM_OK || status == STORM_NO_MEMORY);
        if (status != STORM_OK && is_dir(&store, "/copy"))
            fail_msg("allocation %llu: a copy was left", (unsigned long long)nth);
        check_copy_if_any(&store, "no memory", nth);
        if (status != STORM_OK)
            assert_int_equal(storm_checkpoint(store.db, "/copy", NULL), STORM_OK);
        check_copy_if_any(&store, "memory again", nth);
        store_fini(&store);
    }
}

struct writer {
    storm_db *db;
    _Atomic bool is_over;
};

/* Key "n" has value n under revision n. */
static void *count_up(void *arg)
{
    struct writer *writer = arg;
    char text[24];
    for (unsigned n = 1; !writer->is_over; n++) {
        snprintf(text, sizeof text, "%u", n);
        assert_int_equal(put_text(writer->db, text, text), STORM_OK);
    }
    return NULL;
}

static void it_holds_a_prefix_of_what_is_written_meanwhile(void **state)
{
    struct store store;
    struct writer writer = {.is_over = false};
    pthread_t thread;
    char dir[24], text[24];
    (void)state;
    struct sdb_tuning busy = tuning_by_hand;
    busy.is_by_hand = false;
    store_init(&store, 1);
    store.tuning = &busy;
    store.options.memtable_entries = 50;
    store_open(&store);
    writer.db = store.db;
    assert_int_equal(pthread_create(&thread, NULL, count_up, &writer), 0);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t revision;
        struct storm_stats before;
        assert_int_equal(storm_stats_read(store.db, &before), STORM_OK);
        snprintf(dir, sizeof dir, "/copy%u", i);
        assert_int_equal(storm_checkpoint(store.db, dir, &revision), STORM_OK);
        assert_true(revision >= before.revision);
        storm_db *copy = open_other(&store, dir);
        for (uint64_t n = revision > 200 ? revision - 200 : 1; n < revision + 50; n++) {
            snprintf(text, sizeof text, "%llu", (unsigned long long)n);
            assert_string_equal(get_text(copy, NULL, text), n <= revision ? text : "(none)");
        }
        assert_int_equal(storm_close(copy), STORM_OK);
    }
    writer.is_over = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    store_fini(&store);
}

/* With real files: the copy outlives the store it was made of. */
static void it_outlives_the_store_on_a_real_disk(void **state)
{
    struct test_dir dir, other = {.path = ""};
    char from[PATH_MAX], to[PATH_MAX], far[PATH_MAX];
    struct stat a, b;
    storm_db *db;
    (void)state;
    test_dir_init(&dir);
    snprintf(from, sizeof from, "%.4000s/db", dir.path);
    snprintf(to, sizeof to, "%.4000s/copy", dir.path);
    assert_int_equal(storm_open(from, NULL, &db, NULL), STORM_OK);
    assert_int_equal(put_text(db, "key", "value"), STORM_OK);
    assert_int_equal(storm_checkpoint(db, to, NULL), STORM_OK);
    /* Another file system is refused by name, where the machine has one. */
    snprintf(far, sizeof far, "/dev/shm/storm-checkpoint-%ld", (long)getpid());
    if (stat("/dev/shm", &a) == 0 && stat(dir.path, &b) == 0 && a.st_dev != b.st_dev &&
        access("/dev/shm", W_OK) == 0) {
        char text[256];
        assert_int_equal(storm_checkpoint(db, far, NULL), STORM_UNSUPPORTED);
        storm_last_error(db, text, sizeof text);
        assert_non_null(strstr(text, "different file systems"));
        assert_int_equal(access(far, F_OK), -1);
        strcat(far, ".tmp");
        assert_int_equal(access(far, F_OK), -1);
    }
    assert_int_equal(storm_compact(db, storm_text(""), storm_text(""), NULL, NULL), STORM_OK);
    assert_int_equal(storm_close(db), STORM_OK);
    memcpy(other.path, from, sizeof from);
    test_dir_fini(&other);
    assert_int_equal(storm_open(to, NULL, &db, NULL), STORM_OK);
    assert_string_equal(get_text(db, NULL, "key"), "value");
    assert_int_equal(storm_close(db), STORM_OK);
    test_dir_fini(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_is_a_store_of_its_own),
        cmocka_unit_test(the_two_do_not_take_each_others_log),
        cmocka_unit_test(an_empty_store_has_a_checkpoint_too),
        cmocka_unit_test(what_is_there_is_not_replaced),
        cmocka_unit_test(what_an_earlier_attempt_left_is_used_unless_it_is_still_at_work),
        cmocka_unit_test(stores_that_take_no_writes_make_none),
        cmocka_unit_test(a_power_cut_at_any_change_leaves_none_or_a_whole_one),
        cmocka_unit_test(any_call_may_fail),
        cmocka_unit_test(memory_may_run_out_anywhere),
        cmocka_unit_test(it_holds_a_prefix_of_what_is_written_meanwhile),
        cmocka_unit_test(it_outlives_the_store_on_a_real_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
