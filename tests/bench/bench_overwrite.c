/*
 * How evenly a store takes writes that never stop: random overwrites for a fixed time.
 *
 *   bench_overwrite DIR [seconds [keys [value bytes [writers [codec]]]]]
 *                        600      1000000 100       1        1 (deflate)
 *
 * Unsynced single puts from so many threads, by storm_write. Prints throughput in windows of ten
 * seconds (least, median, most), quantiles of one write's latency, the longest flush and compaction
 * (from the log), how long writes were held back and by what, and the highest level 0 and pressure
 * seen. The promise it shows: no write waits longer than the longest flush. Exits 1 when one did.
 * BENCH_LOG=1 prints the store's log, BENCH_TRACE=1 a line of figures every second.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "random.h"
#include "storm/storm.h"

enum {
    KEY_BYTES = 16,
    VALUE_MAX = 65536,
    WRITERS_MAX = 64,
    WINDOW_S = 10,
    WINDOWS_MAX = 100000,
    SAMPLE_MS = 20,
    /* Latencies: powers of two of ns, each in 16 parts, so quantiles are true to 6 %. */
    PARTS = 16,
    BUCKETS = 64 * PARTS,
};

struct writer {
    pthread_t thread;
    uint64_t seed;
    uint64_t longest_ns;
    uint64_t buckets[BUCKETS];
};

static storm_db *db;
static uint64_t keys = 1000000;
static size_t value_bytes = 100;
static _Atomic bool is_over;
static _Atomic uint64_t written;
static _Atomic uint64_t longest_flush_ms, longest_compaction_ms;
static uint64_t windows[WINDOWS_MAX];

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void must(storm_status status, const char *what)
{
    if (status != STORM_OK) {
        fprintf(stderr, "%s: %s\n", what, storm_status_text(status));
        exit(1);
    }
}

static void keep_longest(_Atomic uint64_t *longest, const char *line)
{
    const char *at = strstr(line, "duration_ms=");
    uint64_t ms = at == NULL ? 0 : strtoull(at + strlen("duration_ms="), NULL, 10);
    /* Each kind of job has one thread of the store's. */
    if (ms > atomic_load(longest))
        atomic_store(longest, ms);
}

static void log_line(void *ctx, enum storm_log_level level, const char *line)
{
    (void)ctx;
    (void)level;
    if (strncmp(line, "event=flush ", 12) == 0)
        keep_longest(&longest_flush_ms, line);
    else if (strncmp(line, "event=compaction ", 17) == 0)
        keep_longest(&longest_compaction_ms, line);
    if (getenv("BENCH_LOG") != NULL)
        fprintf(stderr, "%.3f %s\n", (double)now_ns() / 1e9, line);
}

static unsigned bucket_of(uint64_t ns)
{
    if (ns < PARTS)
        return (unsigned)ns;
    unsigned power = 63 - (unsigned)__builtin_clzll(ns);
    return power * PARTS + (unsigned)(ns >> (power - 4) & (PARTS - 1));
}

/* In microseconds. */
static double bucket_end(unsigned bucket)
{
    unsigned power = bucket / PARTS;
    if (power < 4)
        return (double)bucket / 1e3;
    return (double)((uint64_t)(PARTS + bucket % PARTS + 1) << (power - 4)) / 1e3;
}

static void *overwrite(void *arg)
{
    struct writer *writer = arg;
    char key[32];
    uint8_t *value = calloc(1, value_bytes + 1);
    storm_batch *batch = storm_batch_create();
    while (value != NULL && batch != NULL &&
           !atomic_load_explicit(&is_over, memory_order_relaxed)) {
        snprintf(key, sizeof key, "%016" PRIu64,
                 random_below(&writer->seed, keys) % UINT64_C(10000000000000000));
        random_bytes(&writer->seed, value, value_bytes / 2);
        uint64_t begin = now_ns();
        storm_batch_clear(batch);
        must(storm_batch_put(batch, storm_bytes(key, KEY_BYTES), storm_bytes(value, value_bytes)),
             "batch");
        must(storm_write(db, batch, NULL, NULL), "write");
        uint64_t took = now_ns() - begin;
        writer->buckets[bucket_of(took)]++;
        if (took > writer->longest_ns)
            writer->longest_ns = took;
        atomic_fetch_add_explicit(&written, 1, memory_order_relaxed);
    }
    storm_batch_destroy(batch);
    free(value);
    return NULL;
}

struct peaks {
    uint64_t level0, sealed, pending;
    double pressure;
};

/* Watch until the time is over; returns the number of whole windows. */
static size_t watch(uint64_t seconds, struct peaks *peaks)
{
    struct timespec pause = {.tv_nsec = SAMPLE_MS * 1000000};
    uint64_t start = now_ns();
    uint64_t before = 0, second_before = 0;
    size_t count = 0, ticks = 0;
    while (now_ns() - start < seconds * 1000000000) {
        struct storm_stats stats;
        nanosleep(&pause, NULL);
        must(storm_stats_read(db, &stats), "stats");
        if (stats.level_files[0] > peaks->level0)
            peaks->level0 = stats.level_files[0];
        if (stats.memtables_sealed > peaks->sealed)
            peaks->sealed = stats.memtables_sealed;
        if (stats.compaction_pending_bytes > peaks->pending)
            peaks->pending = stats.compaction_pending_bytes;
        if (stats.write_pressure > peaks->pressure)
            peaks->pressure = stats.write_pressure;
        uint64_t passed = now_ns() - start;
        uint64_t now = atomic_load(&written);
        if (passed / 1000000000 > ticks) {
            ticks++;
            if (getenv("BENCH_TRACE") != NULL)
                printf("%4zu s %8" PRIu64 "/s L0 %2" PRIu64 " (%5.1f MB) sealed %" PRIu64
                       " memtables %5.1f MB pending %6.1f MB pressure %.2f waited %.3f s\n",
                       ticks, now - second_before, stats.level_files[0],
                       (double)stats.level_bytes[0] / 1e6, stats.memtables_sealed,
                       (double)stats.memtable_bytes / 1e6,
                       (double)stats.compaction_pending_bytes / 1e6, stats.write_pressure,
                       (double)stats.write_wait_us / 1e6);
            second_before = now;
        }
        if (passed / (WINDOW_S * UINT64_C(1000000000)) > count && count < WINDOWS_MAX) {
            windows[count++] = now - before;
            before = now;
        }
    }
    return count;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_latencies(const struct writer *writers, size_t count)
{
    static const double quantiles[] = {0.5, 0.99, 0.999, 0.9999};
    static uint64_t sum[BUCKETS];
    uint64_t total = 0, longest_ns = 0;
    for (size_t w = 0; w < count; w++) {
        for (unsigned b = 0; b < BUCKETS; b++) {
            sum[b] += writers[w].buckets[b];
            total += writers[w].buckets[b];
        }
        if (writers[w].longest_ns > longest_ns)
            longest_ns = writers[w].longest_ns;
    }
    printf("latency us: ");
    for (size_t q = 0; q < sizeof quantiles / sizeof quantiles[0]; q++) {
        uint64_t seen = 0;
        unsigned b = 0;
        while (b < BUCKETS - 1 && (double)(seen + sum[b]) < quantiles[q] * (double)total)
            seen += sum[b++];
        printf("p%g %.1f  ", quantiles[q] * 100, bucket_end(b));
    }
    printf("max %.0f\n", (double)longest_ns / 1e3);
}

/* True when the promise held. */
static bool print_waits(const struct storm_stats *stats, const struct peaks *peaks)
{
    static const char *const names[STORM_WAIT_CAUSES] = {"memory", "level0", "compaction", "disk"};
    uint64_t flush_ms = atomic_load(&longest_flush_ms);
    printf("waits %" PRIu64 " (%.3f s):", stats->write_waits, (double)stats->write_wait_us / 1e6);
    for (int i = 0; i < STORM_WAIT_CAUSES; i++)
        printf(" %s %" PRIu64 " (%.3f s)", names[i], stats->write_waits_by[i],
               (double)stats->write_wait_us_by[i] / 1e6);
    printf(
        "\nlongest wait %.1f ms, longest flush %" PRIu64 " ms, longest compaction %" PRIu64 " ms\n",
        (double)stats->write_wait_longest_us / 1e3, flush_ms, atomic_load(&longest_compaction_ms));
    printf("peaks: level 0 %" PRIu64 " tables, %" PRIu64 " memtables sealed, pending %.1f MB, "
           "pressure %.2f\n",
           peaks->level0, peaks->sealed, (double)peaks->pending / 1e6, peaks->pressure);
    /* The log's durations are whole milliseconds. */
    return stats->write_wait_longest_us <= (flush_ms + 1) * 1000;
}

int main(int argc, char **argv)
{
    const char *dir = argc > 1 ? argv[1] : "bench_overwrite.d";
    uint64_t seconds = argc > 2 ? strtoull(argv[2], NULL, 10) : 600;
    size_t writer_count = argc > 5 ? strtoul(argv[5], NULL, 10) : 1;
    static struct writer writers[WRITERS_MAX];
    struct storm_options options;
    struct storm_error error;
    struct storm_stats stats;
    struct peaks peaks = {0};
    storm_options_init(&options);
    options.sync = STORM_SYNC_NONE;
    options.log = log_line;
    if (argc > 3)
        keys = strtoull(argv[3], NULL, 10);
    if (argc > 4)
        value_bytes = strtoul(argv[4], NULL, 10);
    if (argc > 6)
        options.codec = (enum storm_codec)atoi(argv[6]);
    if (value_bytes > VALUE_MAX || writer_count == 0 || writer_count > WRITERS_MAX || keys == 0)
        return 2;
    if (storm_open(dir, &options, &db, &error) != STORM_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    uint64_t start = now_ns();
    for (size_t i = 0; i < writer_count; i++) {
        writers[i].seed = i + 1;
        if (pthread_create(&writers[i].thread, NULL, overwrite, &writers[i]) != 0)
            return 1;
    }
    size_t count = watch(seconds, &peaks);
    atomic_store(&is_over, true);
    for (size_t i = 0; i < writer_count; i++)
        pthread_join(writers[i].thread, NULL);
    double took = (double)(now_ns() - start) / 1e9;
    must(storm_stats_read(db, &stats), "stats");
    uint64_t total = atomic_load(&written);
    printf("%zu writers, %" PRIu64 " overwrites of %d + %zu bytes over %" PRIu64
           " keys in %.0f s: %.0f/s\n",
           writer_count, total, KEY_BYTES, value_bytes, keys, took, (double)total / took);
    qsort(windows, count, sizeof windows[0], compare);
    if (count != 0)
        printf("per second, in windows of %d s: least %" PRIu64 ", median %" PRIu64
               ", most %" PRIu64 "\n",
               WINDOW_S, windows[0] / WINDOW_S, windows[count / 2] / WINDOW_S,
               windows[count - 1] / WINDOW_S);
    print_latencies(writers, writer_count);
    bool is_kept = print_waits(&stats, &peaks);
    printf("write amplification of tables %.2f; %" PRIu64 " flushes, %" PRIu64 " compactions\n",
           (double)stats.bytes_written_tables / (double)stats.bytes_written_user, stats.flushes,
           stats.compactions);
    must(storm_close(db), "close");
    return is_kept ? 0 : 1;
}
