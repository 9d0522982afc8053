/*
 * What compaction costs and what it brings: random overwrites, then the store once it has settled
 * beside one that was loaded once, in order.
 *
 *   bench_compaction DIR [keys [writes [value bytes [codec]]]]
 *
 * Prints writes/s while writing, the longest write, write amplification (bytes of tables written
 * for each byte of the user's), space (bytes of tables for each byte of a store loaded once), and
 * the cost of hits and misses in both stores. Values are half random, so deflate halves them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "random.h"
#include "storm/storm.h"

enum { KEY_BYTES = 16, VALUE_MAX = 4096, READS = 400000 };

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Seconds of CPU that the process has used. */
static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void must(storm_status status, const char *what)
{
    if (status != STORM_OK) {
        fprintf(stderr, "%s: %s\n", what, storm_status_text(status));
        exit(1);
    }
}

static void log_line(void *ctx, enum storm_log_level level, const char *line)
{
    (void)ctx;
    (void)level;
    if (getenv("BENCH_LOG") != NULL)
        fprintf(stderr, "%s\n", line);
}

static storm_db *open_store(const char *dir, enum storm_codec codec)
{
    struct storm_options options;
    struct storm_error error;
    storm_db *db;
    storm_options_init(&options);
    options.sync = STORM_SYNC_NONE;
    options.codec = codec;
    options.log = log_line;
    if (storm_open(dir, &options, &db, &error) != STORM_OK) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    return db;
}

static struct storm_slice key_of(char *to, uint64_t number)
{
    snprintf(to, KEY_BYTES + 1, "%016" PRIu64, number);
    return storm_bytes(to, KEY_BYTES);
}

static void put(storm_db *db, storm_batch *batch, uint64_t number, uint64_t *random, size_t size)
{
    char key[KEY_BYTES + 1];
    uint8_t value[VALUE_MAX] = {0};
    random_bytes(random, value, size / 2);
    storm_batch_clear(batch);
    must(storm_batch_put(batch, key_of(key, number), storm_bytes(value, size)), "batch");
    must(storm_write(db, batch, NULL, NULL), "write");
}

/* Until nothing has been compacted for longer than the store waits before it settles. */
static void settle(storm_db *db)
{
    struct storm_stats stats;
    uint64_t last = UINT64_MAX;
    must(storm_flush(db, NULL), "flush");
    for (int still = 0; still < 5;) {
        sleep(1);
        must(storm_stats_read(db, &stats), "stats");
        still = stats.compactions == last && !stats.compaction_running ? still + 1 : 0;
        last = stats.compactions;
    }
}

static double read_ns(storm_db *db, uint64_t keys, bool hits)
{
    char key[KEY_BYTES + 1];
    uint64_t random = 7;
    uint64_t start = 0;
    for (int round = 0; round < 2; round++) { /* the first one warms the cache */
        start = now_ns();
        for (int i = 0; i < READS; i++) {
            struct storm_value value;
            uint64_t number = random_below(&random, keys) * 2 + !hits;
            storm_status status = storm_get(db, NULL, key_of(key, number), &value);
            if (status != (hits ? STORM_OK : STORM_NOT_FOUND))
                must(STORM_CORRUPT, "get");
            storm_value_release(&value);
        }
    }
    return (double)(now_ns() - start) / READS;
}

static void print_store(const char *name, storm_db *db, uint64_t keys, struct storm_stats *stats)
{
    must(storm_stats_read(db, stats), "stats");
    printf("%-10s %8.1f MB in %3" PRIu64 " tables, L0..L6:", name,
           (double)stats->sstable_bytes / 1e6, stats->sstable_count);
    for (int l = 0; l < STORM_MAX_LEVELS; l++)
        printf(" %.1f", (double)stats->level_bytes[l] / 1e6);
    printf(" MB; hit %.0f ns, miss %.0f ns\n", read_ns(db, keys, true), read_ns(db, keys, false));
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "bench_compaction.d";
    uint64_t keys = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    uint64_t writes = argc > 3 ? strtoull(argv[3], NULL, 10) : 2 * keys;
    size_t size = argc > 4 ? strtoul(argv[4], NULL, 10) : 100;
    enum storm_codec codec = argc > 5 ? (enum storm_codec)atoi(argv[5]) : STORM_CODEC_DEFLATE;
    char path[4096];
    uint64_t random = 1;
    struct storm_stats written, once;
    storm_batch *batch = storm_batch_create();
    if (size > VALUE_MAX || batch == NULL)
        return 1;

    snprintf(path, sizeof path, "%s-random", dir);
    storm_db *db = open_store(path, codec);
    uint64_t longest = 0;
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < writes; i++) {
        uint64_t begin = now_ns();
        put(db, batch, random_below(&random, keys) * 2, &random, size);
        uint64_t took = now_ns() - begin;
        longest = took > longest ? took : longest;
    }
    double seconds = (double)(now_ns() - start) / 1e9;
    must(storm_stats_read(db, &written), "stats");
    printf("%" PRIu64 " random writes over %" PRIu64
           " keys: %.0f/s, longest %.1f ms, waits %" PRIu64 " (%.1f s), then %.1f MB, L0 %" PRIu64
           " tables, pending %.1f MB\n",
           writes, keys, (double)writes / seconds, (double)longest / 1e6, written.write_waits,
           (double)written.write_wait_us / 1e6, (double)written.sstable_bytes / 1e6,
           written.level_files[0], (double)written.compaction_pending_bytes / 1e6);
    for (uint64_t i = 0; i < keys; i++) /* every key exists, so that the stores can be compared */
        put(db, batch, i * 2, &random, size);
    start = now_ns();
    settle(db);
    printf("settled after %.1f s, %.1f s of CPU until then\n", (double)(now_ns() - start) / 1e9 - 5,
           cpu_seconds());
    print_store("settled", db, keys, &written);
    printf("write amplification %.2f of tables, %.2f with the log; compactions %" PRIu64
           ", flushes %" PRIu64 "\n",
           (double)written.bytes_written_tables / (double)written.bytes_written_user,
           (double)(written.bytes_written_tables + written.bytes_written_log) /
               (double)written.bytes_written_user,
           written.compactions, written.flushes);
    must(storm_close(db), "close");

    snprintf(path, sizeof path, "%s-once", dir);
    db = open_store(path, codec);
    start = now_ns();
    for (uint64_t i = 0; i < keys; i++)
        put(db, batch, i * 2, &random, size);
    printf("loaded in order: %.0f/s\n", (double)keys / ((double)(now_ns() - start) / 1e9));
    settle(db);
    print_store("once", db, keys, &once);
    printf("write amplification %.2f\n",
           (double)once.bytes_written_tables / (double)once.bytes_written_user);
    printf("space amplification %.3f\n",
           (double)written.sstable_bytes / (double)once.sstable_bytes);
    must(storm_close(db), "close");
    storm_batch_destroy(batch);
    return 0;
}
