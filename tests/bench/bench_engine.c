/*
 * What the library does on keys of 16 and values of 100 bytes (half of which compress), through the
 * public header alone, on the real disk.
 *
 *   bench_engine [keys [directory]]        default: 1,000,000 keys below $TMPDIR or /tmp
 *   STORM_BENCH_CODEC=0..3                 none, deflate (default), lz4, zstd
 *
 * Rows: fillseq, fillrandom, overwrite (unsynced, one writer), fillsync with 1 and 8 writers (each
 * write acknowledged after fdatasync), readrandom, readmissing, multiget (a hundred keys at once:
 * at random, missing, and runs of neighbours; an operation is a key), readseq, readkeys (the same
 * without values), readreverse. Reads check every value. One line a row: operations per second of
 * wall time.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "storm/storm.h"
#include "test_dir.h"

enum { KEY = 16, VALUE = 100 };

static storm_db *db;
static uint64_t keys = 1000000;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void must(storm_status status, const char *what)
{
    if (status == STORM_OK)
        return;
    char text[256] = "";
    if (db != NULL)
        storm_last_error(db, text, sizeof text);
    fprintf(stderr, "%s: %s: %s\n", what, storm_status_text(status), text);
    exit(1);
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static struct storm_slice key_of(char *room, uint64_t number)
{
    for (int i = KEY; i-- > 0; number /= 10)
        room[i] = (char)('0' + number % 10);
    return storm_bytes(room, KEY);
}

/* Half random, half constant; the number of the key in front, so that reads can check it. */
static struct storm_slice value_of(char *room, uint64_t number)
{
    memset(room, 'v', VALUE);
    for (uint64_t i = 0; i < VALUE / 2; i += 8) {
        uint64_t word = mix(number * 8 + i);
        memcpy(room + i, &word, VALUE / 2 - i < 8 ? VALUE / 2 - i : 8);
    }
    memcpy(room, &number, sizeof number);
    return storm_bytes(room, VALUE);
}

static void row(const char *name, uint64_t operations, double began)
{
    double took = seconds() - began;
    printf("%-14s %12.0f /s  %8.3f us\n", name, (double)operations / took,
           took * 1e6 / (double)operations);
    fflush(stdout);
}

static void fill(const char *name, bool is_random, uint64_t seed)
{
    char key[KEY], value[VALUE];
    storm_batch *batch = storm_batch_create();
    struct storm_write_options options = {.sync = STORM_SYNC_NONE};
    double began = seconds();
    for (uint64_t i = 0; i < keys; i++) {
        uint64_t number = is_random ? mix(i + seed) % keys : i;
        storm_batch_clear(batch);
        must(storm_batch_put(batch, key_of(key, number), value_of(value, number)), name);
        must(storm_write(db, batch, &options, NULL), name);
    }
    row(name, keys, began);
    storm_batch_destroy(batch);
}

enum { SYNCED = 4000 };

static void *write_synced(void *arg)
{
    char key[KEY], value[VALUE];
    storm_batch *batch = storm_batch_create();
    struct storm_write_options options = {.sync = STORM_SYNC_FULL};
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    for (uint64_t i = 0; i < SYNCED; i++) {
        uint64_t number = mix(i + seed * SYNCED) % keys;
        storm_batch_clear(batch);
        must(storm_batch_put(batch, key_of(key, number), value_of(value, number)), "fillsync");
        must(storm_write(db, batch, &options, NULL), "fillsync");
    }
    storm_batch_destroy(batch);
    return NULL;
}

static void fill_synced(const char *name, size_t writers)
{
    pthread_t threads[8];
    double began = seconds();
    for (size_t i = 0; i < writers; i++)
        pthread_create(&threads[i], NULL, write_synced, (void *)(uintptr_t)(i + 1));
    for (size_t i = 0; i < writers; i++)
        pthread_join(threads[i], NULL);
    row(name, writers * SYNCED, began);
}

static void read_random(const char *name, bool is_missing)
{
    char key[KEY], expected[VALUE];
    double began = seconds();
    uint64_t found = 0;
    for (uint64_t i = 0; i < keys; i++) {
        struct storm_value value;
        uint64_t number = mix(i + 77) % keys;
        struct storm_slice wanted = key_of(key, number);
        if (is_missing)
            key[KEY - 1] = 'x';
        storm_status status = storm_get(db, NULL, wanted, &value);
        if (status == STORM_OK) {
            found++;
            if (memcmp(value.bytes.data, value_of(expected, number).data, VALUE) != 0)
                must(STORM_CORRUPT, name);
            storm_value_release(&value);
        } else if (status != STORM_NOT_FOUND) {
            must(status, name);
        }
    }
    row(name, keys, began);
    if (found != (is_missing ? 0 : keys))
        must(STORM_NOT_FOUND, name);
}

enum { TOGETHER = 100 };

static void multiget(const char *name, bool is_missing, bool is_near)
{
    static struct storm_lookup lookups[TOGETHER];
    static char rooms[TOGETHER][KEY];
    char expected[VALUE];
    uint64_t numbers[TOGETHER];
    uint64_t rounds = keys / TOGETHER;
    double began = seconds();
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t first = mix(round + 99) % (keys - TOGETHER + 1);
        for (uint64_t i = 0; i < TOGETHER; i++) {
            numbers[i] = is_near ? first + i : mix(round * TOGETHER + i + 77) % keys;
            lookups[i].key = key_of(rooms[i], numbers[i]);
            if (is_missing)
                rooms[i][KEY - 1] = 'x';
        }
        must(storm_get_many(db, NULL, lookups, TOGETHER, NULL), name);
        for (uint64_t i = 0; i < TOGETHER; i++) {
            must(lookups[i].status == (is_missing ? STORM_NOT_FOUND : STORM_OK) ? STORM_OK
                                                                                : STORM_CORRUPT,
                 name);
            if (!is_missing && memcmp(lookups[i].value.bytes.data,
                                      value_of(expected, numbers[i]).data, VALUE) != 0)
                must(STORM_CORRUPT, name);
            storm_value_release(&lookups[i].value);
        }
    }
    row(name, rounds * TOGETHER, began);
}

static void walk(const char *name, bool is_forward, bool keys_only)
{
    struct storm_iter_options options = {.keys_only = keys_only};
    storm_iter *iter;
    uint64_t count = 0;
    double began = seconds();
    must(storm_iter_create(db, &options, &iter), name);
    for (is_forward ? storm_iter_first(iter) : storm_iter_last(iter); storm_iter_valid(iter);
         is_forward ? storm_iter_next(iter) : storm_iter_prev(iter)) {
        uint64_t number = is_forward ? count : keys - 1 - count;
        struct storm_slice value = storm_iter_value(iter);
        if (!keys_only && (value.size != VALUE || memcmp(value.data, &number, sizeof number) != 0))
            must(STORM_CORRUPT, name);
        count++;
    }
    must(storm_iter_status(iter), name);
    row(name, count, began);
    if (count != keys)
        must(STORM_CORRUPT, name);
    storm_iter_destroy(iter);
}

static void print_sizes(void)
{
    struct storm_stats stats;
    must(storm_stats_read(db, &stats), "stats");
    printf("tables %" PRIu64 ", %.1f MB on disk; written: user %.1f, log %.1f, tables %.1f MB; "
           "waits %" PRIu64 " (%.1f ms)\n",
           stats.sstable_count, (double)stats.sstable_bytes / 1e6,
           (double)stats.bytes_written_user / 1e6, (double)stats.bytes_written_log / 1e6,
           (double)stats.bytes_written_tables / 1e6, stats.write_waits,
           (double)stats.write_wait_us / 1e3);
}

int main(int argc, char **argv)
{
    struct test_dir dir;
    struct storm_options options;
    struct storm_error error;
    storm_options_init(&options);
    if (argc > 1)
        keys = strtoull(argv[1], NULL, 0);
    if (getenv("STORM_BENCH_CODEC") != NULL)
        options.codec = (enum storm_codec)atoi(getenv("STORM_BENCH_CODEC"));
    test_dir_init(&dir);
    const char *target = argc > 2 ? argv[2] : dir.path;
    if (storm_open(target, &options, &db, &error) != STORM_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    printf("%" PRIu64 " keys of %d + %d bytes, codec %d\n", keys, KEY, VALUE, (int)options.codec);
    fill("fillseq", false, 0);
    fill("fillrandom", true, 1);
    fill("overwrite", true, 2);
    fill_synced("fillsync, 1", 1);
    fill_synced("fillsync, 8", 8);
    double began = seconds();
    must(storm_flush(db, NULL), "flush");
    printf("flush %.3f s\n", seconds() - began);
    read_random("readrandom", false);
    read_random("readmissing", true);
    if (keys >= TOGETHER) {
        multiget("multiget", false, false);
        multiget("multiget, none", true, false);
        multiget("multiget, near", false, true);
    }
    walk("readseq", true, false);
    walk("readkeys", true, true);
    walk("readreverse", false, false);
    print_sizes();
    began = seconds();
    must(storm_close(db), "close");
    double closed = seconds();
    db = NULL;
    must(storm_open(target, &options, &db, &error), "reopen");
    printf("close %.3f s, reopen %.3f s\n", closed - began, seconds() - closed);
    must(storm_close(db), "close");
    test_dir_fini(&dir);
    return 0;
}
