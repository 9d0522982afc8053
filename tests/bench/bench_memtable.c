/*
 * What the memtable costs: nanoseconds per insert, get and step, and bytes per entry.
 *
 *     bench_memtable [repetitions]
 *
 * Keys are 16 decimal digits, values 100 bytes. Small tables (8 k entries, about the default 1 MiB)
 * are built many times over, so that every figure stands on at least a million operations. Times
 * are CPU time of the thread, the best of the repetitions: on a busy machine the least is what the
 * code needs. The last line inserts while a second thread reads.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lsm/mem/memtable.h"

enum { KEY_SIZE = 16, VALUE_SIZE = 100, SMALL = 8000, LARGE = 560000, READS = 1000000 };

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

struct key {
    uint8_t bytes[KEY_SIZE];
};

static struct key make_key(size_t number)
{
    struct key key;
    for (int digit = KEY_SIZE - 1; digit >= 0; digit--, number /= 10)
        key.bytes[digit] = (uint8_t)('0' + number % 10);
    return key;
}

/* All keys in order of insertion: sequential, or the same ones shuffled. */
static struct key *make_keys(size_t count, bool shuffle)
{
    struct key *keys = malloc(count * sizeof *keys);
    if (keys == NULL)
        abort();
    for (size_t i = 0; i < count; i++)
        keys[i] = make_key(i);
    uint64_t random = 88172645463325252u;
    for (size_t i = count; shuffle && i > 1; i--) {
        size_t other = random_next(&random) % i;
        struct key key = keys[i - 1];
        keys[i - 1] = keys[other];
        keys[other] = key;
    }
    return keys;
}

static struct sdb_memtable *create(void)
{
    struct sdb_memtable *memtable = sdb_memtable_create(NULL);
    if (memtable == NULL)
        abort();
    return memtable;
}

static void insert_key(struct sdb_memtable *memtable, const struct key *key, size_t revision)
{
    static const uint8_t value[VALUE_SIZE] = {1};
    if (sdb_memtable_insert(memtable, storm_bytes(key, KEY_SIZE), sdb_tag(revision, SDB_KIND_PUT),
                            storm_bytes(value, VALUE_SIZE)) != STORM_OK)
        abort();
}

static void read_key(const struct sdb_memtable *memtable, struct key key)
{
    uint64_t tag;
    struct storm_slice value;
    if (!sdb_memtable_get(memtable, storm_bytes(&key, KEY_SIZE), SDB_MAX_REVISION, &tag, &value))
        abort();
}

static uint64_t walk_ns(struct sdb_memtable *memtable, bool is_forward)
{
    uint64_t start = now_ns();
    size_t count = 0;
    struct sdb_source *source = sdb_memtable_source(memtable);
    if (source == NULL)
        abort();
    (is_forward ? source->ops->first : source->ops->last)(source);
    for (; source->valid; count++)
        (is_forward ? source->ops->next : source->ops->prev)(source);
    sdb_source_destroy(source);
    if (count != sdb_memtable_entries(memtable))
        abort();
    return now_ns() - start;
}

static double least(double best, uint64_t ns, size_t operations)
{
    double each = (double)ns / (double)operations;
    return best < each ? best : each;
}

static void bench(size_t count, bool shuffle, int repetitions)
{
    struct key *keys = make_keys(count, shuffle);
    size_t rounds = READS / count + 1;
    double insert_ns = 1e9, get_ns = 1e9, next_ns = 1e9, prev_ns = 1e9;
    size_t bytes = 0;
    uint64_t random = 2463534242u;
    for (int repetition = 0; repetition < repetitions; repetition++) {
        uint64_t spent = 0;
        struct sdb_memtable *memtable = NULL;
        for (size_t round = 0; round < rounds; round++) {
            sdb_memtable_unref(memtable);
            uint64_t start = now_ns();
            memtable = create();
            for (size_t i = 0; i < count; i++)
                insert_key(memtable, &keys[i], i + 1);
            spent += now_ns() - start;
        }
        insert_ns = least(insert_ns, spent, rounds * count);
        uint64_t start = now_ns();
        for (size_t i = 0; i < READS; i++) /* made anew: an array of keys would cost a cache miss */
            read_key(memtable, make_key(random_next(&random) % count));
        get_ns = least(get_ns, now_ns() - start, READS);
        next_ns = least(next_ns, walk_ns(memtable, true), count);
        prev_ns = least(prev_ns, walk_ns(memtable, false), count);
        bytes = sdb_memtable_bytes(memtable);
        sdb_memtable_unref(memtable);
    }
    printf("%6zu %-10s  insert %4.0f  get %4.0f  next %5.1f  prev %5.1f ns  %4zu B/entry\n", count,
           shuffle ? "random" : "sequential", insert_ns, get_ns, next_ns, prev_ns, bytes / count);
    free(keys);
}

struct reader {
    struct sdb_memtable *memtable;
    const struct key *keys;
    _Atomic size_t published;
    _Atomic bool is_over;
    size_t reads;
    uint64_t ns;
};

static void *reader_main(void *context)
{
    struct reader *reader = context;
    uint64_t random = 1442695040888963407u;
    uint64_t start = now_ns();
    while (!atomic_load(&reader->is_over)) {
        size_t count = atomic_load_explicit(&reader->published, memory_order_acquire);
        if (count == 0)
            continue;
        read_key(reader->memtable, reader->keys[random_next(&random) % count]);
        reader->reads++;
    }
    reader->ns = now_ns() - start;
    return NULL;
}

static void bench_beside_reader(size_t count, int repetitions)
{
    struct key *keys = make_keys(count, true);
    double insert_ns = 1e9, get_ns = 1e9;
    for (int repetition = 0; repetition < repetitions; repetition++) {
        struct reader reader = {.memtable = create(), .keys = keys};
        pthread_t thread;
        if (pthread_create(&thread, NULL, reader_main, &reader) != 0)
            abort();
        uint64_t start = now_ns();
        for (size_t i = 0; i < count; i++) {
            insert_key(reader.memtable, &keys[i], i + 1);
            atomic_store_explicit(&reader.published, i + 1, memory_order_release);
        }
        insert_ns = least(insert_ns, now_ns() - start, count);
        atomic_store(&reader.is_over, true);
        pthread_join(thread, NULL);
        if (reader.reads != 0)
            get_ns = least(get_ns, reader.ns, reader.reads);
        sdb_memtable_unref(reader.memtable);
    }
    printf("%6zu random, one reader beside:  insert %4.0f  get %4.0f ns\n", count, insert_ns,
           get_ns);
    free(keys);
}

int main(int argc, char **argv)
{
    int repetitions = argc > 1 ? atoi(argv[1]) : 4;
    if (repetitions < 1)
        return 2;
    bench(SMALL, true, repetitions);
    bench(SMALL, false, repetitions);
    bench(LARGE, true, repetitions);
    bench(LARGE, false, repetitions);
    bench_beside_reader(LARGE, repetitions);
    return 0;
}
