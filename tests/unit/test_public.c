/*
 * The public functions: what they check themselves, and that each calls its engine's function or
 * says that there is none. The engine here is made up: it knows what it was asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "engine.h"
#include "lsm/table/codec.h"

/* ---- An engine that answers STORM_EXISTS to everything and notes what it was ----------------- */

static const char *asked;

static storm_status note(const char *what)
{
    asked = what;
    return STORM_EXISTS;
}

static storm_status fake_write(storm_db *db, storm_batch *batch,
                               const struct storm_write_options *options, uint64_t *revision)
{
    (void)db, (void)batch, (void)options, (void)revision;
    return note("write");
}

static unsigned fake_busy_ms(storm_db *db)
{
    (void)db;
    asked = "busy_ms";
    return 7;
}

static storm_status fake_get_many(storm_db *db, const storm_snapshot *snapshot,
                                  struct storm_lookup *lookups, size_t count, uint64_t *revision)
{
    (void)db, (void)snapshot, (void)lookups, (void)count, (void)revision;
    return note("get_many");
}

static void fake_seek_back(storm_iter *iter, struct storm_slice key)
{
    (void)iter, (void)key;
    asked = "iter_seek_back";
}

static void fake_resume(storm_iter *iter)
{
    (void)iter;
    asked = "iter_resume";
}

static storm_status fake_feed_open(storm_db *db, uint64_t from, storm_feed **feed)
{
    (void)db, (void)from, (void)feed;
    return note("feed_open");
}

static void fake_feed_close(storm_feed *feed)
{
    (void)feed;
    asked = "feed_close";
}

static storm_status fake_feed_next(storm_feed *feed, struct storm_change *change)
{
    (void)feed;
    assert_int_equal(change->revision, 0);
    return note("feed_next");
}

static storm_status fake_feed_wait(storm_feed *feed, unsigned timeout_ms)
{
    (void)feed, (void)timeout_ms;
    return note("feed_wait");
}

static void fake_feed_interrupt(storm_feed *feed)
{
    (void)feed;
    asked = "feed_interrupt";
}

static storm_status fake_feed_notify(storm_feed *feed, void (*ready)(void *ctx), void *ctx)
{
    (void)feed, (void)ready, (void)ctx;
    return note("feed_notify");
}

static storm_status fake_compact(storm_db *db, struct storm_slice start, struct storm_slice end,
                                 storm_progress_fn progress, void *ctx)
{
    (void)db, (void)start, (void)end, (void)progress, (void)ctx;
    return note("compact");
}

static storm_status fake_checkpoint(storm_db *db, const char *dir, uint64_t *revision)
{
    (void)db, (void)dir, (void)revision;
    return note("checkpoint");
}

static storm_status fake_verify(storm_db *db, storm_progress_fn progress, storm_report_fn report,
                                void *ctx, struct storm_verify_result *result)
{
    (void)db, (void)progress, (void)report, (void)ctx;
    assert_int_equal(result->problems, 0);
    return note("verify");
}

static storm_status fake_flush(storm_db *db, struct storm_flush_result *result)
{
    (void)db;
    assert_int_equal(result->entries, 0);
    return note("flush");
}

static const struct sdb_engine whole = {
    .name = "made up",
    .write = fake_write,
    .busy_ms = fake_busy_ms,
    .get_many = fake_get_many,
    .iter_seek_back = fake_seek_back,
    .iter_resume = fake_resume,
    .feed_open = fake_feed_open,
    .feed_close = fake_feed_close,
    .feed_next = fake_feed_next,
    .feed_wait = fake_feed_wait,
    .feed_interrupt = fake_feed_interrupt,
    .feed_notify = fake_feed_notify,
    .flush = fake_flush,
    .compact = fake_compact,
    .checkpoint = fake_checkpoint,
    .verify = fake_verify,
};
static const struct sdb_engine bare = {.name = "bare", .write = fake_write};
static storm_db db = {&whole};
static storm_db poor = {&bare};

static void assert_asked(storm_status status, const char *what)
{
    assert_int_equal(status, STORM_EXISTS);
    assert_non_null(asked);
    assert_string_equal(asked, what);
    asked = NULL;
}

/* ---- The tests ------------------------------------------------------------------------------- */

static void every_function_calls_its_engines(void **state)
{
    storm_iter iter = {.db = &db, .status = STORM_MORE};
    storm_feed feed = {&db};
    storm_feed *opened = &feed;
    struct storm_change change = {.revision = 5};
    struct storm_slice a = storm_text("a");
    struct storm_lookup lookup = {.key = a};
    uint64_t revision = 5;
    (void)state;
    assert_asked(storm_put(&db, a, a), "write");
    assert_asked(storm_delete(&db, a), "write");
    assert_asked(storm_get_many(&db, NULL, &lookup, 1, &revision), "get_many");
    assert_int_equal(revision, 0);
    assert_asked(storm_feed_open(&db, 1, &opened), "feed_open");
    assert_null(opened);
    assert_asked(storm_feed_next(&feed, &change), "feed_next");
    assert_asked(storm_feed_wait(&feed, 1), "feed_wait");
    assert_asked(storm_feed_notify(&feed, NULL, NULL), "feed_notify");
    assert_asked(storm_compact(&db, a, a, NULL, NULL), "compact");
    assert_asked(storm_flush(&db, NULL), "flush");
    revision = 5;
    assert_asked(storm_checkpoint(&db, "there", &revision), "checkpoint");
    assert_int_equal(revision, 0);
    assert_asked(storm_checkpoint(&db, "there", NULL), "checkpoint");
    assert_asked(storm_verify(&db, NULL, NULL, NULL, NULL), "verify");
    assert_int_equal(storm_busy_ms(&db), 7);
    storm_iter_seek_back(&iter, a);
    assert_string_equal(asked, "iter_seek_back");
    storm_iter_resume(&iter);
    assert_string_equal(asked, "iter_resume");
    storm_feed_interrupt(&feed);
    assert_string_equal(asked, "feed_interrupt");
    storm_feed_close(&feed);
    assert_string_equal(asked, "feed_close");
}

static void what_an_engine_lacks_is_unsupported(void **state)
{
    storm_feed *feed;
    struct storm_slice a = storm_text("a");
    struct storm_lookup lookup = {.key = a};
    (void)state;
    assert_int_equal(storm_get_many(&poor, NULL, &lookup, 1, NULL), STORM_UNSUPPORTED);
    assert_int_equal(storm_feed_open(&poor, 1, &feed), STORM_UNSUPPORTED);
    assert_int_equal(storm_compact(&poor, a, a, NULL, NULL), STORM_UNSUPPORTED);
    assert_int_equal(storm_flush(&poor, NULL), STORM_UNSUPPORTED);
    assert_int_equal(storm_checkpoint(&poor, "there", NULL), STORM_UNSUPPORTED);
    assert_int_equal(storm_verify(&poor, NULL, NULL, NULL, NULL), STORM_UNSUPPORTED);
    assert_int_equal(storm_busy_ms(&poor), 1);
    assert_null(storm_snapshot_create(&poor));
    /* NULL has nothing to be given back, and only STORM_MORE can be resumed. */
    storm_iter iter = {.db = &poor};
    storm_iter_resume(&iter);
    storm_feed_close(NULL);
    storm_snapshot_release(NULL);
    assert_int_equal(storm_close(NULL), STORM_OK);
}

static void arguments_without_sense_do_not_reach_the_engine(void **state)
{
    struct storm_slice a = storm_text("a");
    struct storm_slice nothing = {NULL, 0};
    storm_batch *batch = storm_batch_create();
    (void)state;
    asked = NULL;
    assert_int_equal(storm_put(&db, nothing, a), STORM_INVALID);
    assert_int_equal(storm_write(&db, NULL, NULL, NULL), STORM_INVALID);
    assert_int_equal(storm_write(&db, batch, NULL, NULL), STORM_INVALID);
    assert_int_equal(storm_batch_put(batch, a, a), STORM_OK);
    assert_int_equal(storm_write_async(&db, batch, NULL, NULL, NULL, NULL), STORM_INVALID);
    storm_batch_destroy(batch);
    assert_int_equal(storm_checkpoint(&db, NULL, NULL), STORM_INVALID);
    assert_int_equal(storm_checkpoint(&db, "", NULL), STORM_INVALID);
    assert_null(asked);
}

/* Opens nothing: the options are refused before a directory is touched. */
static void assert_refused(const struct storm_options *options, const char *sentence)
{
    struct storm_error error;
    storm_db *opened = &db;
    assert_int_equal(storm_open("/nowhere/at/all", options, &opened, &error), STORM_INVALID);
    assert_null(opened);
    assert_int_equal(error.status, STORM_INVALID);
    if (strstr(error.message, sentence) == NULL)
        fail_msg("'%s' does not say '%s'", error.message, sentence);
    assert_int_equal(storm_open("/nowhere/at/all", options, &opened, NULL), STORM_INVALID);
}

#define REFUSED(sentence, ...)                                                                     \
    do {                                                                                           \
        struct storm_options options;                                                              \
        storm_options_init(&options);                                                              \
        __VA_ARGS__;                                                                               \
        assert_refused(&options, sentence);                                                        \
    } while (0)

static void an_option_out_of_range_is_named_with_its_range(void **state)
{
    (void)state;
    REFUSED("memtable_bytes is 1; it takes 65536 to 1073741824", options.memtable_bytes = 1);
    REFUSED("write_buffer_bytes is 2097152; it takes at least memtable_bytes",
            options.memtable_bytes = 4 << 20, options.write_buffer_bytes = 2 << 20);
    REFUSED("block_bytes is 65537; it takes 1024 to 65536", options.block_bytes = 65537);
    REFUSED("sync is 0; it takes STORM_SYNC_FULL", options.sync = STORM_SYNC_DEFAULT);
    REFUSED("sync is 9; it takes STORM_SYNC_FULL", options.sync = 9);
    REFUSED("codec is 4; it takes none", options.codec = 4);
    REFUSED("codec_level is -1; this codec takes 0 to 9", options.codec_level = -1);
    REFUSED("bloom_bits is 3.9; it takes 0 or 4 to 32", options.bloom_bits = 3.9);
    REFUSED("bloom_bits is 33; it takes 0 or 4 to 32", options.bloom_bits = 33);
    REFUSED("log_retention_bytes is 1099511627777; it takes 0 to 1 TiB",
            options.log_retention_bytes = ((uint64_t)1 << 40) + 1);
    REFUSED("must_exist and must_be_new", options.must_exist = true, options.must_be_new = true);
}

/* A level that is accepted here and refused by the first table would leave a store that cannot
 * flush. */
static void the_levels_of_a_codec_are_those_that_tables_take(void **state)
{
    (void)state;
    for (unsigned codec = 0; codec <= STORM_CODEC_ZSTD; codec++) {
        for (int level = 0; level <= 30; level++) {
            struct storm_options options;
            storm_db *opened;
            storm_options_init(&options);
            options.codec = codec;
            options.codec_level = level;
            options.must_exist = true;
            storm_status status = storm_open("/nowhere/at/all", &options, &opened, NULL);
            assert_true((status != STORM_INVALID) == sdb_codec_level_ok(codec, level));
        }
    }
}

static void a_target_without_an_engine_is_refused(void **state)
{
    struct storm_error error;
    storm_db *opened;
    (void)state;
    assert_int_equal(storm_open(NULL, NULL, &opened, &error), STORM_INVALID);
    assert_int_equal(storm_open("", NULL, &opened, &error), STORM_INVALID);
    assert_int_equal(storm_open("what://ever", NULL, &opened, &error), STORM_UNSUPPORTED);
    assert_non_null(strstr(error.message, "what://ever"));
    assert_int_equal(storm_repair("what://ever", NULL, NULL, NULL, &error), STORM_UNSUPPORTED);
    assert_int_equal(storm_repair("", NULL, NULL, NULL, NULL), STORM_INVALID);
    assert_true(storm_repair("/nowhere/at/all", NULL, NULL, NULL, &error) < 0);
}

static void the_version_is_a_version(void **state)
{
    unsigned major;
    unsigned minor;
    unsigned patch;
    (void)state;
    assert_int_equal(sscanf(storm_version(), "%u.%u.%u", &major, &minor, &patch), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_function_calls_its_engines),
        cmocka_unit_test(what_an_engine_lacks_is_unsupported),
        cmocka_unit_test(arguments_without_sense_do_not_reach_the_engine),
        cmocka_unit_test(an_option_out_of_range_is_named_with_its_range),
        cmocka_unit_test(the_levels_of_a_codec_are_those_that_tables_take),
        cmocka_unit_test(a_target_without_an_engine_is_refused),
        cmocka_unit_test(the_version_is_a_version),
    };
    return cmocka_run_group_tests_name("public", tests, NULL, NULL);
}
