/*
 * One workload on one product, in a process of its own; compare.sh runs them in turn.
 *
 *   compare_PRODUCT --dir=D --work=NAME [--keys=1000000] [--ops=…] [--value=100] [--threads=1]
 *                   [--codec=none|deflate|lz4|zstd] [--cache=MiB] [--buffer=MiB] [--seconds=N]
 *
 * With --seconds the workload goes on for that long instead of doing a number of operations. Those
 * named 64k have values and a number of keys of their own.
 *
 * prints one line of tab-separated fields:
 *
 *   work threads operations seconds per_second p50 p99 p99.9 max cpu written disk memory
 *
 * latencies in microseconds, cpu in seconds, written (by write calls, background work and close
 * included), disk (blocks in use at the end) and memory (the process's peak) in bytes. --work=name
 * prints the product's name, --work=codec exits with 1 when it lacks the codec.
 *
 * Every value read is checked; a wrong or missing one ends the program with 1. Latency is taken
 * around each operation; of scans around each whole scan, or, where one scan is the whole workload,
 * around every 1,000 entries.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "keys.h"
#include "store.h"

#define MIB ((size_t)1 << 20)

enum { LARGE_VALUE = 64 << 10, LARGE_KEYS = 5000 };
enum { BATCH = 100, SCAN_NEXTS = 10, SCAN_LONGEST = 100, THREADS_MAX = 64, CHUNK = 1000 };

struct run;

struct worker {
    struct run *run;
    unsigned index;
    uint64_t ops; /* to do */
    uint64_t done;
    struct random random;
    struct session *session;
    uint64_t began_ns, ended_ns;
    struct histogram histogram;
    char *value; /* room for a batch's */
};

struct work {
    const char *name;
    const char *shape; /* what it does with the store before it is timed: see prepare() */
    uint64_t (*ops)(const struct run *run); /* NULL = one for each key */
    void (*step)(struct worker *worker, uint64_t i);
    bool is_whole; /* step does all of the worker's operations and their timing by itself */
    bool is_large; /* values of LARGE_VALUE, LARGE_KEYS of them, whatever the arguments say */
};

struct run {
    const struct work *work;
    struct setup setup;
    struct store *store;
    uint64_t keys, ops;
    uint64_t seconds; /* 0 = by ops */
    size_t value_size;
    unsigned threads;
    bool is_timed; /* false while it warms up */
    struct zipf zipf;
    _Atomic uint64_t inserted; /* keys there are */
    _Atomic bool is_over;
    pthread_barrier_t start;
};

void fail(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s: %s\n", store_name(), what, why);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- Operations ---- */

static void put(struct worker *worker, uint64_t number, bool is_synced)
{
    char key[KEY_SIZE];
    struct bytes value =
        value_of(worker->value, worker->run->value_size, number, random_next(&worker->random));
    session_put(worker->session, key_of(key, number), value, is_synced);
}

static void get(struct worker *worker, uint64_t number)
{
    char key[KEY_SIZE];
    struct bytes value;
    if (!session_get(worker->session, key_of(key, number), &value))
        fail("get", "a key is missing");
    if (!is_value_right(value, worker->run->value_size, number))
        fail("get", "a wrong value");
}

static void check_item(struct worker *worker, const struct item *item)
{
    if (!is_value_right(item->value, worker->run->value_size, number_of(item->key)))
        fail("scan", "a wrong value");
}

static void scan(struct worker *worker, uint64_t from, uint64_t nexts)
{
    char room[KEY_SIZE];
    struct bytes key = key_of(room, from);
    struct item item;
    session_scan(worker->session, &key, false);
    for (uint64_t i = 0; i <= nexts && session_scan_next(worker->session, &item); i++)
        check_item(worker, &item);
    session_scan_end(worker->session);
}

static uint64_t any_key(struct worker *worker)
{
    return random_below(&worker->random, worker->run->keys);
}

/* Each worker fills its own stretch, so that several fill in order too. */
static void fill_in_order(struct worker *worker, uint64_t i)
{
    put(worker, worker->index * worker->ops + i, false);
}

static void fill_at_random(struct worker *worker, uint64_t i)
{
    (void)i;
    put(worker, any_key(worker), false);
}

/* A permutation of all keys, so that afterwards each is there: multiply by a number that shares no
 * divisor with any power of ten, then add. */
static void load(struct worker *worker, uint64_t i)
{
    put(worker, (i * UINT64_C(7368787) + 12345) % worker->run->keys, false);
}

static void fill_batch(struct worker *worker, uint64_t i)
{
    size_t size = worker->run->value_size;
    static _Thread_local char keys[BATCH][KEY_SIZE];
    struct item items[BATCH];
    char *values = worker->value;
    for (uint64_t k = 0; k < BATCH; k++) {
        uint64_t number = (worker->index * worker->ops + i) * BATCH + k;
        items[k].key = key_of(keys[k], number);
        items[k].value = value_of(values + k * size, size, number, i);
    }
    session_put_all(worker->session, items, BATCH);
}

static void fill_synced(struct worker *worker, uint64_t i)
{
    (void)i;
    put(worker, any_key(worker), true);
}

static void delete_at_random(struct worker *worker, uint64_t i)
{
    char key[KEY_SIZE];
    (void)i;
    session_delete(worker->session, key_of(key, any_key(worker)));
}

static void read_at_random(struct worker *worker, uint64_t i)
{
    (void)i;
    get(worker, any_key(worker));
}

/* Keys that lie between those that are there: one byte longer. */
static void read_missing(struct worker *worker, uint64_t i)
{
    char key[KEY_SIZE + 1];
    struct bytes value;
    (void)i;
    key_of(key, any_key(worker));
    key[KEY_SIZE] = '.';
    if (session_get(worker->session, (struct bytes){key, sizeof key}, &value))
        fail("get", "a key that nobody wrote");
}

static void seek_at_random(struct worker *worker, uint64_t i)
{
    (void)i;
    scan(worker, any_key(worker), SCAN_NEXTS);
}

static void scan_all(struct worker *worker, bool is_reverse)
{
    struct item item;
    uint64_t count = 0;
    uint64_t began = now_ns();
    session_scan(worker->session, NULL, is_reverse);
    while (count < worker->ops && session_scan_next(worker->session, &item)) {
        check_item(worker, &item);
        if (++count % CHUNK == 0) {
            uint64_t now = now_ns();
            histogram_add(&worker->histogram, (now - began) / CHUNK);
            began = now;
        }
    }
    session_scan_end(worker->session);
    if (count != worker->ops)
        fail("scan", "keys are missing");
}

static void read_in_order(struct worker *worker, uint64_t i)
{
    (void)i;
    scan_all(worker, false);
}

static void read_reverse(struct worker *worker, uint64_t i)
{
    (void)i;
    scan_all(worker, true);
}

/* ---- YCSB (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", SoCC 2010) ---- */

static uint64_t popular_key(struct worker *worker)
{
    return zipf_key(&worker->run->zipf, &worker->random);
}

static bool is_chosen(struct worker *worker, uint64_t percent)
{
    return random_below(&worker->random, 100) < percent;
}

static void ycsb_a(struct worker *worker, uint64_t i)
{
    (void)i;
    if (is_chosen(worker, 50))
        get(worker, popular_key(worker));
    else
        put(worker, popular_key(worker), false);
}

static void ycsb_b(struct worker *worker, uint64_t i)
{
    (void)i;
    if (is_chosen(worker, 95))
        get(worker, popular_key(worker));
    else
        put(worker, popular_key(worker), false);
}

static void ycsb_c(struct worker *worker, uint64_t i)
{
    (void)i;
    get(worker, popular_key(worker));
}

/* Read the latest; one worker only, so that what it counts is there. */
static void ycsb_d(struct worker *worker, uint64_t i)
{
    struct run *run = worker->run;
    (void)i;
    uint64_t there = atomic_load_explicit(&run->inserted, memory_order_acquire);
    if (is_chosen(worker, 95)) {
        uint64_t rank = zipf_rank(&run->zipf, &worker->random);
        get(worker, there - 1 - rank % there);
    } else {
        put(worker, there, false);
        atomic_store_explicit(&run->inserted, there + 1, memory_order_release);
    }
}

static void ycsb_e(struct worker *worker, uint64_t i)
{
    struct run *run = worker->run;
    (void)i;
    if (is_chosen(worker, 95)) {
        scan(worker, popular_key(worker), random_below(&worker->random, SCAN_LONGEST));
    } else {
        put(worker, atomic_fetch_add_explicit(&run->inserted, 1, memory_order_acq_rel), false);
    }
}

static void ycsb_f(struct worker *worker, uint64_t i)
{
    (void)i;
    uint64_t number = popular_key(worker);
    get(worker, number);
    if (is_chosen(worker, 50))
        put(worker, number, false);
}

/* ---- The workloads ---- */

static uint64_t tenth_of_keys(const struct run *run)
{
    return run->keys / 10;
}

static uint64_t batches_of_keys(const struct run *run)
{
    return run->keys / BATCH;
}

static uint64_t some_synced(const struct run *run)
{
    return 2000 * (uint64_t)run->threads;
}

static uint64_t hundred_thousand(const struct run *run)
{
    (void)run;
    return 100000;
}

static uint64_t nothing(const struct run *run)
{
    (void)run;
    return 0;
}

/*
 * Shapes: "fresh" expects an empty directory, "loaded" one that `load` has filled; "warm" is
 * loaded, and a quarter of the operations is done before, untimed; "cold" is loaded, and what the
 * kernel has of the files is dropped. "writer": a writer runs beside the workers. "crash": the
 * process ends without closing the store, so that the next has something to recover.
 */
static const struct work works[] = {
    {"load", "fresh settle", NULL, load, false, false},
    {"fillseq", "fresh", NULL, fill_in_order, false, false},
    {"fillbatch", "fresh", batches_of_keys, fill_batch, false, false},
    {"fillrandom", "fresh", NULL, fill_at_random, false, false},
    {"fillsync", "fresh", some_synced, fill_synced, false, false},
    {"overwrite", "loaded", NULL, fill_at_random, false, false},
    {"deleterandom", "loaded", NULL, delete_at_random, false, false},
    {"readrandom", "warm", NULL, read_at_random, false, false},
    {"readmissing", "warm", NULL, read_missing, false, false},
    {"readcold", "cold", tenth_of_keys, read_at_random, false, false},
    {"readseq", "warm", NULL, read_in_order, true, false},
    {"readreverse", "warm", NULL, read_reverse, true, false},
    {"seekrandom", "warm", tenth_of_keys, seek_at_random, false, false},
    {"readwhilewriting", "warm writer", NULL, read_at_random, false, false},
    {"ycsb-a", "warm", NULL, ycsb_a, false, false},
    {"ycsb-b", "warm", NULL, ycsb_b, false, false},
    {"ycsb-c", "warm", NULL, ycsb_c, false, false},
    {"ycsb-d", "warm", NULL, ycsb_d, false, false},
    {"ycsb-e", "warm", tenth_of_keys, ycsb_e, false, false},
    {"ycsb-f", "warm", NULL, ycsb_f, false, false},
    {"crash", "loaded crash", hundred_thousand, fill_at_random, false, false},
    {"recover", "loaded", nothing, read_at_random, false, false},
    {"open", "loaded", nothing, read_at_random, false, false},
    {"fill64k", "fresh", NULL, fill_in_order, false, true},
    {"read64k", "warm", NULL, read_at_random, false, true},
};

/* ---- Running ---- */

static void do_all(struct worker *worker, uint64_t ops)
{
    const struct run *run = worker->run;
    if (run->work->is_whole) {
        run->work->step(worker, 0);
        worker->done = worker->ops;
        return;
    }
    uint64_t before = now_ns();
    uint64_t end = run->seconds == 0 ? UINT64_MAX : before + run->seconds * 1000000000;
    if (run->seconds != 0)
        ops = UINT64_MAX;
    for (worker->done = 0; worker->done < ops && before < end; worker->done++) {
        run->work->step(worker, worker->done);
        uint64_t after = now_ns();
        histogram_add(&worker->histogram, after - before);
        before = after;
    }
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct run *run = worker->run;
    worker->session = session_begin(run->store);
    if (strstr(run->work->shape, "warm") != NULL) {
        do_all(worker, worker->ops / 4);
        memset(&worker->histogram, 0, sizeof worker->histogram);
    }
    pthread_barrier_wait(&run->start);
    worker->began_ns = now_ns();
    do_all(worker, worker->ops);
    worker->ended_ns = now_ns();
    session_end(worker->session);
    return NULL;
}

/* Overwrites at random, as fast as it can, until the workers are done. */
static void *write_beside(void *arg)
{
    struct worker *worker = arg;
    worker->session = session_begin(worker->run->store);
    while (!atomic_load_explicit(&worker->run->is_over, memory_order_relaxed)) {
        fill_at_random(worker, 0);
        worker->ops++;
    }
    session_end(worker->session);
    return NULL;
}

static void for_files(const char *dir, void (*each)(const char *path, void *ctx), void *ctx)
{
    DIR *stream = opendir(dir);
    struct dirent *entry;
    if (stream == NULL)
        return;
    while ((entry = readdir(stream)) != NULL) {
        char path[4096];
        if (entry->d_name[0] != '.' &&
            (size_t)snprintf(path, sizeof path, "%s/%s", dir, entry->d_name) < sizeof path)
            each(path, ctx);
    }
    closedir(stream);
}

static void add_blocks(const char *path, void *ctx)
{
    struct stat info;
    if (stat(path, &info) == 0)
        *(uint64_t *)ctx += (uint64_t)info.st_blocks * 512;
}

static void drop_pages(const char *path, void *ctx)
{
    (void)ctx;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fdatasync(fd);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

/* A number after `name` in a file of /proc/self. */
static uint64_t proc_number(const char *file, const char *name)
{
    char line[256];
    uint64_t number = 0;
    FILE *stream = fopen(file, "re");
    if (stream == NULL)
        return 0;
    while (fgets(line, sizeof line, stream) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0)
            number = strtoull(line + strlen(name), NULL, 10);
    }
    fclose(stream);
    return number;
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static struct worker *create_workers(struct run *run, unsigned count)
{
    struct worker *workers = calloc(count, sizeof *workers);
    for (unsigned i = 0; workers != NULL && i < count; i++) {
        workers[i].run = run;
        workers[i].index = i;
        workers[i].ops = run->ops / run->threads;
        workers[i].random.state = mix(i + 1) + now_ns();
        workers[i].value = malloc(run->value_size * BATCH);
        if (workers[i].value == NULL)
            fail("workers", "out of memory");
    }
    if (workers == NULL)
        fail("workers", "out of memory");
    return workers;
}

static void report(struct run *run, const struct histogram *histogram, uint64_t done,
                   uint64_t took_ns, double cpu_before, uint64_t written_before)
{
    uint64_t disk = 0;
    done *= run->work->step == fill_batch ? BATCH : 1;
    double seconds = (double)took_ns / 1e9;
    for_files(run->setup.dir, add_blocks, &disk);
    printf("%s\t%u\t%" PRIu64 "\t%.6f\t%.1f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%" PRIu64 "\t%" PRIu64
           "\t%" PRIu64 "\n",
           run->work->name, run->threads, done, seconds,
           done == 0 ? 1 / seconds : (double)done / seconds,
           histogram_quantile(histogram, 0.5) / 1e3, histogram_quantile(histogram, 0.99) / 1e3,
           histogram_quantile(histogram, 0.999) / 1e3, (double)histogram->max_ns / 1e3,
           cpu_seconds() - cpu_before,
           proc_number("/proc/self/io", "write_bytes:") - written_before, disk,
           proc_number("/proc/self/status", "VmHWM:") * 1024);
}

static void run_work(struct run *run)
{
    pthread_t threads[THREADS_MAX + 1];
    bool has_writer = strstr(run->work->shape, "writer") != NULL;
    struct worker *workers = create_workers(run, run->threads + 1);
    struct histogram *all = calloc(1, sizeof *all);
    if (all == NULL)
        fail("histogram", "out of memory");
    if (strncmp(run->work->name, "ycsb", 4) == 0)
        zipf_init(&run->zipf, run->keys);
    if (strstr(run->work->shape, "cold") != NULL)
        for_files(run->setup.dir, drop_pages, NULL);
    atomic_init(&run->inserted, run->keys);
    double cpu = cpu_seconds();
    uint64_t written = proc_number("/proc/self/io", "write_bytes:");

    uint64_t began = now_ns();
    run->store = store_open(&run->setup);
    if (run->ops == 0) { /* opening is the workload */
        histogram_add(all, now_ns() - began);
        report(run, all, 0, now_ns() - began, cpu, written);
        store_close(run->store);
        exit(0);
    }
    pthread_barrier_init(&run->start, NULL, run->threads);
    for (unsigned i = 0; i < run->threads; i++)
        pthread_create(&threads[i], NULL, work, &workers[i]);
    if (has_writer)
        pthread_create(&threads[run->threads], NULL, write_beside, &workers[run->threads]);
    uint64_t ended = 0, done = 0;
    began = UINT64_MAX;
    for (unsigned i = 0; i < run->threads; i++) {
        pthread_join(threads[i], NULL);
        histogram_merge(all, &workers[i].histogram);
        done += workers[i].done;
        began = workers[i].began_ns < began ? workers[i].began_ns : began;
        ended = workers[i].ended_ns > ended ? workers[i].ended_ns : ended;
    }
    atomic_store(&run->is_over, true);
    if (has_writer)
        pthread_join(threads[run->threads], NULL);
    if (strstr(run->work->shape, "settle") != NULL)
        store_settle(run->store);
    if (strstr(run->work->shape, "crash") == NULL)
        store_close(run->store);
    report(run, all, done, ended - began, cpu, written);
    if (strstr(run->work->shape, "crash") != NULL) {
        fflush(stdout);
        _exit(0);
    }
    for (unsigned i = 0; i <= run->threads; i++)
        free(workers[i].value);
    free(workers);
    free(all);
}

/* ---- Arguments ---- */

static uint64_t number_after(const char *text)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0') {
        fprintf(stderr, "not a number: %s\n", text);
        exit(2);
    }
    return number;
}

static enum codec codec_after(const char *text)
{
    static const char *const names[] = {"none", "deflate", "lz4", "zstd"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0)
            return (enum codec)i;
    }
    fprintf(stderr, "no codec: %s; there are none, deflate, lz4 and zstd\n", text);
    exit(2);
}

static const struct work *work_after(const char *text)
{
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
        if (strcmp(text, works[i].name) == 0)
            return &works[i];
    }
    fprintf(stderr, "no workload: %s; there are:\n", text);
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++)
        fprintf(stderr, "  %s\n", works[i].name);
    exit(2);
}

int main(int argc, char **argv)
{
    struct run run = {.setup = {.cache_bytes = 64 * MIB, .write_buffer_bytes = 64 * MIB},
                      .keys = 1000000,
                      .value_size = 100,
                      .threads = 1};
    const char *work_name = "";
    for (int i = 1; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        if (strncmp(argv[i], "--", 2) != 0 || value++ == NULL)
            work_after("");
        else if (strncmp(argv[i], "--dir=", 6) == 0)
            run.setup.dir = value;
        else if (strncmp(argv[i], "--work=", 7) == 0)
            work_name = value;
        else if (strncmp(argv[i], "--keys=", 7) == 0)
            run.keys = number_after(value);
        else if (strncmp(argv[i], "--ops=", 6) == 0)
            run.ops = number_after(value);
        else if (strncmp(argv[i], "--value=", 8) == 0)
            run.value_size = number_after(value);
        else if (strncmp(argv[i], "--threads=", 10) == 0)
            run.threads = (unsigned)number_after(value);
        else if (strncmp(argv[i], "--codec=", 8) == 0)
            run.setup.codec = codec_after(value);
        else if (strncmp(argv[i], "--cache=", 8) == 0)
            run.setup.cache_bytes = number_after(value) * MIB;
        else if (strncmp(argv[i], "--seconds=", 10) == 0)
            run.seconds = number_after(value);
        else if (strncmp(argv[i], "--buffer=", 9) == 0)
            run.setup.write_buffer_bytes = number_after(value) * MIB;
        else
            work_after(argv[i]);
    }
    if (strcmp(work_name, "name") == 0) {
        puts(store_name());
        return 0;
    }
    if (strcmp(work_name, "codec") == 0)
        return store_has_codec(run.setup.codec) ? 0 : 1;
    run.work = work_after(work_name);
    if (run.work->is_large) {
        run.value_size = LARGE_VALUE;
        run.keys = LARGE_KEYS;
    }
    if (run.setup.dir == NULL || run.keys == 0 || run.value_size < VALUE_LEAST ||
        run.threads == 0 || run.threads > THREADS_MAX) {
        fprintf(stderr, "--dir is missing, or keys, value or threads are out of range\n");
        return 2;
    }
    if (run.ops == 0)
        run.ops = run.work->ops != NULL ? run.work->ops(&run) : run.keys;
    run.setup.map_bytes = (size_t)(run.keys * (run.value_size + 200) * 4) + 1024 * MIB;
    run_work(&run);
    return 0;
}
