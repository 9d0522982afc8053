/*
 * Memory in one figure: storm_stats.memory_bytes against what the kernel says of the process.
 *
 *   memory MIB        memtables of so many MiB; MEMORY_LOOK=1 in the environment only prints
 *
 * A process of its own, on the real file system, so that the resident size is the store's and
 * little else's. A first store warms the process up: the pages of the libraries and what the heap
 * keeps for itself are in the resident size before the measuring begins. From then on, in each
 * phase, the resident size must be what it was before the second store plus that store's own
 * figure, within
 * 15 %; in the phases where the store holds next to nothing, within 8 MiB, for what builders and
 * codecs of a flush or compaction need, which is not in the figure.
 *
 * To have memtables sealed and not flushed, the os layer holds flushes back when they create their
 * table, for as long as a phase lasts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lsm/db/db.h"
#include "random.h"
#include "test_dir.h"

enum {
    MIB = 1 << 20,
    VALUE = 800, /* half of it compresses */
    CACHE = 64 * MIB,
    KEYS = 100 * MIB / (VALUE + 16),
    ITERATORS = 8,
    SCATTER = 7919, /* a prime: the order of writing spreads over all keys */
};

static size_t memtable_bytes;
static uint64_t seed;
static uint64_t baseline;
static uint64_t warnings;

/* ---- Flushes that wait ----------------------------------------------------------------------- */

static struct sdb_errors errors;
static struct sdb_os os;
static struct sdb_os_ops ops;
static storm_status (*real_open)(struct sdb_os *self, const char *path, enum sdb_open_mode mode,
                                 struct sdb_file **file);
static pthread_mutex_t gate_mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_cond = PTHREAD_COND_INITIALIZER; /* wakes flushes: the gate was opened */
static bool gate_is_shut;                                   /* gate_mu */

static void shut_gate(bool is_shut)
{
    pthread_mutex_lock(&gate_mu);
    gate_is_shut = is_shut;
    pthread_cond_broadcast(&gate_cond);
    pthread_mutex_unlock(&gate_mu);
}

static storm_status gated_open(struct sdb_os *self, const char *path, enum sdb_open_mode mode,
                               struct sdb_file **file)
{
    const char *dot = strrchr(path, '.');
    bool is_new_table = mode == SDB_OPEN_CREATE && dot != NULL && strcmp(dot, ".sst") == 0;
    pthread_mutex_lock(&gate_mu);
    while (gate_is_shut && is_new_table)
        pthread_cond_wait(&gate_cond, &gate_mu);
    pthread_mutex_unlock(&gate_mu);
    return real_open(self, path, mode, file);
}

static void count_warnings(void *ctx, enum storm_log_level level, const char *line)
{
    (void)ctx;
    if (level > STORM_LOG_WARN)
        return;
    printf("%s\n", line);
    warnings++;
}

static void gate_init(void)
{
    sdb_errors_init(&errors, count_warnings, NULL);
    sdb_os_posix_init(&os, &errors);
    ops = *os.ops;
    real_open = ops.open;
    ops.open = gated_open;
    os.ops = &ops;
}

/* ---- Steps ----------------------------------------------------------------------------------- */

static storm_db *open_in(const struct test_dir *dir, const char *name)
{
    char path[PATH_MAX + 16];
    struct storm_error error;
    storm_db *db;
    struct storm_options options;
    storm_options_init(&options);
    options.sync = STORM_SYNC_NONE;
    options.memtable_bytes = memtable_bytes;
    options.write_buffer_bytes = 64 * MIB;
    options.cache_bytes = CACHE;
    options.codec = STORM_CODEC_LZ4;
    snprintf(path, sizeof path, "%s/%s", dir->path, name);
    if (sdb_lsm_open_on(&os, path, &options, &db, &error) != STORM_OK)
        fail_msg("%s", error.message);
    return db;
}

static void put_range(storm_db *db, uint64_t from, uint64_t to)
{
    static uint8_t value[VALUE];
    for (uint64_t i = from; i < to; i++) {
        char key[17];
        snprintf(key, sizeof key, "key%013" PRIu64, i * SCATTER % KEYS);
        random_bytes(&seed, value, VALUE / 2);
        assert_int_equal(storm_put(db, storm_text(key), storm_bytes(value, VALUE)), STORM_OK);
    }
}

static void get_random(storm_db *db, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char key[17];
        struct storm_value value;
        snprintf(key, sizeof key, "key%013" PRIu64, random_below(&seed, KEYS));
        assert_int_equal(storm_get(db, NULL, storm_text(key), &value), STORM_OK);
        storm_value_release(&value);
    }
}

static void flush_and_compact(storm_db *db)
{
    struct storm_slice all = {NULL, 0};
    assert_int_equal(storm_flush(db, NULL), STORM_OK);
    assert_int_equal(storm_compact(db, all, all, NULL, NULL), STORM_OK);
}

static struct storm_stats stats_of(storm_db *db)
{
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(db, &stats), STORM_OK);
    assert_true(stats.memory_bytes == stats.memory_memtables + stats.memory_cache +
                                          stats.memory_tables + stats.memory_log);
    return stats;
}

/* ---- The comparison -------------------------------------------------------------------------- */

/* Bytes of the process that are in memory. */
static uint64_t resident(void)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, "VmRSS: %llu kB", &kib) != 1) {}
    (void)fclose(file);
    assert_true(kib != 0);
    return kib << 10;
}

static double mib(uint64_t bytes)
{
    return (double)bytes / MIB;
}

static void assert_figure(storm_db *db, const char *phase)
{
    struct storm_stats stats = stats_of(db);
    double rss = mib(resident());
    double said = mib(baseline + stats.memory_bytes);
    printf("%-26s resident %6.1f MiB, said %6.1f (%+5.1f %%): before %.1f, memtables %.1f, "
           "cache %.1f, tables %.1f, log %.2f\n",
           phase, rss, said, 100 * (said - rss) / rss, mib(baseline), mib(stats.memory_memtables),
           mib(stats.memory_cache), mib(stats.memory_tables), mib(stats.memory_log));
    (void)fflush(stdout);
    double off = said > rss ? said - rss : rss - said;
    if (getenv("MEMORY_LOOK") == NULL)
        assert_true(off < 0.15 * rss || off < 8);
}

/* ---- Phases ---------------------------------------------------------------------------------- */

/* Every code path once, with little data. */
static void warm_up(const struct test_dir *dir)
{
    storm_db *db = open_in(dir, "warm");
    for (unsigned round = 0; round < 2; round++) {
        put_range(db, 0, 4000);
        flush_and_compact(db);
    }
    assert_int_equal(storm_close(db), STORM_OK);
    baseline = resident();
}

static void fill_the_cache(storm_db *db)
{
    get_random(db, (size_t)3 * KEYS);
    uint64_t cache = stats_of(db).memory_cache;
    assert_in_range(cache, CACHE - CACHE / 20, CACHE + CACHE / 100);
    assert_figure(db, "cache full");
}

static void seal_several(storm_db *db)
{
    uint64_t enough = memtable_bytes * 6 < 50 * MIB ? memtable_bytes * 6 : 50 * MIB;
    shut_gate(true);
    put_range(db, 0, enough / VALUE);
    struct storm_stats stats = stats_of(db);
    assert_true(stats.memtables_sealed >= 4);
    assert_true(stats.memory_memtables >= enough * 9 / 10);
    assert_figure(db, "several sealed");
    shut_gate(false);
    assert_int_equal(storm_flush(db, NULL), STORM_OK);
    assert_true(stats_of(db).memory_memtables < 1 * MIB);
    assert_figure(db, "and flushed");
}

/* Iterators hold what they began with: memtables that were flushed long ago, and old tables. */
static void hold_iterators(storm_db *db)
{
    storm_iter *iters[ITERATORS];
    for (size_t i = 0; i < ITERATORS; i++) {
        put_range(db, i * KEYS / 16, (i + 1) * KEYS / 16);
        assert_int_equal(storm_iter_create(db, NULL, &iters[i]), STORM_OK);
        storm_iter_first(iters[i]);
        assert_true(storm_iter_valid(iters[i]));
    }
    flush_and_compact(db);
    assert_true(stats_of(db).memory_memtables > 4 * MIB);
    assert_figure(db, "held by iterators");
    get_random(db, KEYS);
    assert_figure(db, "and read beside");
    for (size_t i = 0; i < ITERATORS; i++)
        storm_iter_destroy(iters[i]);
    assert_true(stats_of(db).memory_memtables < 1 * MIB);
    assert_figure(db, "iterators gone");
}

static void the_figure_is_the_resident_size_in_every_phase(void **state)
{
    (void)state;
    struct test_dir dir;
    test_dir_init(&dir);
    warm_up(&dir);
    storm_db *db = open_in(&dir, "db");

    put_range(db, 0, KEYS);
    assert_figure(db, "loaded");
    flush_and_compact(db);
    assert_figure(db, "flushed and compacted");
    fill_the_cache(db);
    seal_several(db);
    hold_iterators(db);
    put_range(db, 0, KEYS / 4);
    get_random(db, KEYS / 4);
    assert_figure(db, "written and read");

    assert_int_equal(storm_close(db), STORM_OK);
    assert_int_equal(warnings, 0); /* close says so when the account does not come out at 0 */
    test_dir_fini(&dir);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_figure_is_the_resident_size_in_every_phase),
    };
    memtable_bytes = (argc > 1 ? strtoull(argv[1], NULL, 0) : 1) * MIB;
    seed = random_seed(1);
    gate_init();
    int failed = cmocka_run_group_tests_name("memory", tests, NULL, NULL);
    sdb_errors_fini(&errors);
    return failed;
}
