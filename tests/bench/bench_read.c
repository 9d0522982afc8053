/*
 * What reads cost, in one or two stores that bench_compaction left behind, turn by turn, so that a
 * busy machine slows all rows alike: only the ratios are to be believed there.
 *
 *   bench_read KEYS CACHE_MB DIR [DIR]       for example 1000000 256 x-random x-once
 *
 * Keys are the even numbers below 2 * KEYS, in 16 digits. Rows: one key by storm_get, hits and
 * misses; a hundred keys by a loop of storm_get on a snapshot and by storm_get_many, at random over
 * all keys, clustered (a run of neighbours) and missing. Nanoseconds a key, medians of all turns.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "random.h"
#include "storm/storm.h"

enum { KEY = 16, STORES = 2, TURNS = 31, GROUP = 100, GROUPS = 200, ROWS = 8 };

enum row { HIT, MISS, LOOP_RANDOM, MANY_RANDOM, LOOP_NEAR, MANY_NEAR, LOOP_MISS, MANY_MISS };

static const char *const names[ROWS] = {
    "get, hit",        "get, miss",           "loop, random",  "get_many, random",
    "loop, clustered", "get_many, clustered", "loop, missing", "get_many, missing",
};

static storm_db *stores[STORES];
static storm_snapshot *snapshots[STORES];
static double results[STORES][ROWS][TURNS];
static char rooms[GROUP * GROUPS][KEY];
static struct storm_lookup lookups[GROUP * GROUPS];

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s is wrong\n", what);
        exit(1);
    }
}

static void choose_keys(enum row row, uint64_t keys, uint64_t *random)
{
    uint64_t first = 0;
    bool is_near = row == LOOP_NEAR || row == MANY_NEAR;
    bool is_miss = row == MISS || row >= LOOP_MISS;
    for (size_t i = 0; i < GROUP * GROUPS; i++) {
        if (i % GROUP == 0)
            first = random_below(random, keys - GROUP);
        uint64_t number = is_near ? first + i % GROUP : random_below(random, keys);
        number = number * 2 + is_miss;
        for (size_t digit = KEY; digit-- > 0; number /= 10)
            rooms[i][digit] = (char)('0' + number % 10);
        lookups[i].key = storm_bytes(rooms[i], KEY);
    }
}

static void check(const struct storm_lookup *lookup, storm_status expected, const char *name)
{
    must(lookup->status == expected, name);
}

static double run(size_t store, enum row row)
{
    storm_status expected = row == MISS || row >= LOOP_MISS ? STORM_NOT_FOUND : STORM_OK;
    const storm_snapshot *snapshot = row < LOOP_RANDOM ? NULL : snapshots[store];
    bool is_many = row == MANY_RANDOM || row == MANY_NEAR || row == MANY_MISS;
    double start = now_ns();
    for (size_t group = 0; group < GROUPS; group++) {
        struct storm_lookup *at = lookups + group * GROUP;
        if (is_many) {
            must(storm_get_many(stores[store], snapshot, at, GROUP, NULL) == STORM_OK, names[row]);
        } else {
            for (size_t i = 0; i < GROUP; i++)
                at[i].status = storm_get(stores[store], snapshot, at[i].key, &at[i].value);
        }
        for (size_t i = 0; i < GROUP; i++) {
            check(&at[i], expected, names[row]);
            storm_value_release(&at[i].value);
        }
    }
    return (now_ns() - start) / (GROUP * GROUPS);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values)
{
    qsort(values, TURNS, sizeof *values, compare);
    return values[TURNS / 2];
}

int main(int argc, char **argv)
{
    size_t count = argc > 4 ? 2 : 1;
    uint64_t random = 5;
    struct storm_options options;
    if (argc < 4)
        return 2;
    uint64_t keys = strtoull(argv[1], NULL, 10);
    storm_options_init(&options);
    options.cache_bytes = strtoul(argv[2], NULL, 10) << 20;
    options.must_exist = true;
    options.read_only = true;
    for (size_t s = 0; s < count; s++) {
        struct storm_error error;
        if (storm_open(argv[3 + s], &options, &stores[s], &error) != STORM_OK) {
            fprintf(stderr, "%s\n", error.message);
            return 1;
        }
        snapshots[s] = storm_snapshot_create(stores[s]);
        storm_iter *iter; /* warms the cache */
        must(storm_iter_create(stores[s], NULL, &iter) == STORM_OK, "iterator");
        for (storm_iter_first(iter); storm_iter_valid(iter);)
            storm_iter_next(iter);
        storm_iter_destroy(iter);
    }
    for (size_t turn = 0; turn < TURNS; turn++) {
        for (int r = 0; r < ROWS; r++) {
            enum row row = (enum row)r;
            if (row < LOOP_RANDOM || (row - LOOP_RANDOM) % 2 == 0)
                choose_keys(row, keys, &random);
            /* Who goes first changes, for the second finds the keys in the processor's cache. */
            for (size_t s = 0; s < count; s++) {
                size_t store = (s + turn) % count;
                results[store][row][turn] = run(store, row);
            }
        }
    }
    for (int r = 0; r < ROWS; r++) {
        enum row row = (enum row)r;
        printf("%-22s", names[row]);
        for (size_t s = 0; s < count; s++)
            printf(" %8.0f ns", median(results[s][row]));
        if (count == 2)
            printf("  %.2f", median(results[0][row]) / median(results[1][row]));
        printf("\n");
    }
    for (size_t s = 0; s < count; s++) {
        storm_snapshot_release(snapshots[s]);
        must(storm_close(stores[s]) == STORM_OK, "close");
    }
    return 0;
}
