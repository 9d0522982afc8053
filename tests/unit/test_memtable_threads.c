/*
 * One writer, several readers: published keys must be found.
 *
 * The writer inserts the numbers 0, 1, 2 ... and publishes how many there are with a release store,
 * as the engine publishes revisions. Number i stands at a place that is a permutation of the
 * numbers, so for any place a reader can tell whether it had to be there: by the number it belongs
 * to and the count that the reader loaded before it looked. Whole families of races show as a place
 * that is missing from a get, or from between two neighbours of an iteration.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "lsm/mem/memtable.h"
#include "random.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define IS_SLOW 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define IS_SLOW 1
#endif
#endif
#ifndef IS_SLOW
#define IS_SLOW 0
#endif

enum { READERS = 3, KEY_MAX = 32, VERSIONED_KEYS = 64, SCAN = 100 };

/* The order of places: blocks of 1 << block_bits numbers one after the other, and within a block
 * multiplied by an odd factor. Small blocks keep writer and readers in the same few leaves. */
struct pattern {
    const char *name;
    unsigned block_bits;
    uint32_t factor, inverse; /* their product is 1 modulo 2^32 */
    size_t key_prefix;        /* constant bytes before the place: from 16 on, all prefixes tie */
    uint32_t count;
};

static const struct pattern patterns[] = {
    {"random", 18, 2654435761u, 244002641u, 0, IS_SLOW ? 10000 : 150000},
    {"local", 8, 2654435761u, 244002641u, 0, IS_SLOW ? 20000 : 400000},
    {"local, ties", 8, 2654435761u, 244002641u, 20, IS_SLOW ? 10000 : 150000},
    {"tiny blocks", 5, 2654435761u, 244002641u, 8, IS_SLOW ? 10000 : 250000},
    {"sequential", 18, 1, 1, 8, IS_SLOW ? 10000 : 150000},
    {"reverse", 18, UINT32_MAX, UINT32_MAX, 8, IS_SLOW ? 10000 : 150000},
};

struct run {
    const struct pattern *pattern;
    struct sdb_memtable *memtable;
    _Atomic uint32_t published; /* release after the insert, acquire before reading */
    _Atomic bool is_over;
};

struct reader {
    struct run *run;
    pthread_t thread;
    uint64_t random;
    uint64_t gets, steps;
    char failure[200]; /* cmocka's assertions belong to the main thread */
};

static uint32_t place_of(const struct pattern *pattern, uint32_t number)
{
    uint32_t mask = (1u << pattern->block_bits) - 1;
    return (number & ~mask) | (number * pattern->factor & mask);
}

static uint32_t number_at(const struct pattern *pattern, uint32_t place)
{
    uint32_t mask = (1u << pattern->block_bits) - 1;
    return (place & ~mask) | (place * pattern->inverse & mask);
}

static struct storm_slice make_key(const struct pattern *pattern, uint32_t place,
                                   uint8_t bytes[KEY_MAX])
{
    memset(bytes, 'k', pattern->key_prefix);
    uint8_t *at = bytes + pattern->key_prefix;
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(place >> (24 - 8 * i));
    return storm_bytes(bytes, pattern->key_prefix + 4);
}

static uint32_t place_in(const struct pattern *pattern, struct storm_slice key)
{
    const uint8_t *at = key.data + pattern->key_prefix;
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static bool has_failed(const struct reader *reader)
{
    return reader->failure[0] != '\0';
}

static void report(struct reader *reader, const char *what, uint32_t place, uint32_t published)
{
    if (!has_failed(reader))
        snprintf(reader->failure, sizeof reader->failure, "%s: place %u, %u published", what, place,
                 published);
}

/* Half of the looks go to what was published last, where the splits are. */
static uint32_t pick(struct reader *reader, uint32_t published)
{
    uint32_t window = random_below(&reader->random, 2) == 0 ? published : 32;
    if (window > published)
        window = published;
    return published - 1 - (uint32_t)random_below(&reader->random, window);
}

static void get_published(struct reader *reader, uint32_t published)
{
    const struct pattern *pattern = reader->run->pattern;
    uint32_t number = pick(reader, published);
    uint32_t place = place_of(pattern, number);
    uint8_t bytes[KEY_MAX];
    uint64_t tag;
    struct storm_slice value;
    reader->gets++;
    if (!sdb_memtable_get(reader->run->memtable, make_key(pattern, place, bytes), SDB_MAX_REVISION,
                          &tag, &value))
        report(reader, "not found", place, published);
    else if (tag != sdb_tag((uint64_t)number + 1, SDB_KIND_PUT) || value.size != sizeof number ||
             memcmp(value.data, &number, sizeof number) != 0)
        report(reader, "found something else", place, published);
}

/* Whether a place from `from` up to, not with, `end` had to be passed. */
static bool has_published(const struct pattern *pattern, uint64_t from, uint64_t end,
                          uint32_t published)
{
    for (uint64_t place = from; place < end; place++)
        if (number_at(pattern, (uint32_t)place) < published)
            return true;
    return false;
}

static void scan_published(struct reader *reader, uint32_t published, bool is_forward)
{
    const struct pattern *pattern = reader->run->pattern;
    struct sdb_source *source = sdb_memtable_source(reader->run->memtable);
    if (source == NULL) {
        report(reader, "no memory", 0, published);
        return;
    }
    uint64_t end = (uint64_t)pattern->count | ((1u << pattern->block_bits) - 1);
    uint64_t at = place_of(pattern, pick(reader, published)); /* all up to here is behind us */
    uint8_t bytes[KEY_MAX];
    struct storm_slice key = make_key(pattern, (uint32_t)at, bytes);
    (is_forward ? source->ops->seek : source->ops->seek_before)(source, key, UINT64_MAX);
    for (unsigned steps = 0; steps < SCAN && !has_failed(reader); steps++) {
        uint64_t place = is_forward ? end + 1 : 0;
        if (source->valid)
            place = place_in(pattern, source->key);
        if (is_forward ? place < at : source->valid && place >= at)
            report(reader, "out of order", (uint32_t)place, published);
        else if (is_forward ? has_published(pattern, at, place, published)
                            : has_published(pattern, place + source->valid, at, published))
            report(reader, is_forward ? "skipped before" : "skipped behind", (uint32_t)place,
                   published);
        if (!source->valid)
            break;
        at = is_forward ? place + 1 : place;
        reader->steps++;
        (is_forward ? source->ops->next : source->ops->prev)(source);
    }
    sdb_source_destroy(source);
}

/* From end to end: what was published, all of it, once. */
static void count_published(struct reader *reader, uint32_t published, bool is_forward)
{
    struct sdb_source *source = sdb_memtable_source(reader->run->memtable);
    if (source == NULL) {
        report(reader, "no memory", 0, published);
        return;
    }
    uint32_t seen = 0;
    (is_forward ? source->ops->first : source->ops->last)(source);
    for (; source->valid; reader->steps++) {
        seen += sdb_tag_revision(source->tag) <= published;
        (is_forward ? source->ops->next : source->ops->prev)(source);
    }
    if (seen != published)
        report(reader, is_forward ? "counted forward" : "counted back", seen, published);
    sdb_source_destroy(source);
}

static void *read_published(void *context)
{
    struct reader *reader = context;
    struct run *run = reader->run;
    while (!atomic_load_explicit(&run->is_over, memory_order_relaxed) && !has_failed(reader)) {
        uint32_t published = atomic_load_explicit(&run->published, memory_order_acquire);
        if (published == 0)
            continue;
        uint64_t choice = random_below(&reader->random, 100000);
        if (choice < 2)
            count_published(reader, published, random_below(&reader->random, 2) == 0);
        else if (choice < 500)
            scan_published(reader, published, choice % 2 == 0);
        else
            get_published(reader, published);
    }
    return NULL;
}

/* Run writer and readers, the writer on this thread; every failure of a reader is the test's. */
static void race(struct run *run, void *(*reader_main)(void *),
                 void (*insert)(struct run *, uint32_t))
{
    struct reader readers[READERS] = {0};
    run->memtable = sdb_memtable_create(NULL);
    assert_non_null(run->memtable);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i].run = run;
        readers[i].random = i + 1;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]), 0);
    }
    for (uint32_t number = 0; number < run->pattern->count; number++) {
        insert(run, number);
        atomic_store_explicit(&run->published, number + 1, memory_order_release);
    }
    atomic_store_explicit(&run->is_over, true, memory_order_relaxed);
    uint64_t gets = 0, steps = 0;
    const char *failure = "";
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
        gets += readers[i].gets;
        steps += readers[i].steps;
        if (has_failed(&readers[i]))
            failure = readers[i].failure;
    }
    printf("%s: %u inserts, %" PRIu64 " gets, %" PRIu64 " steps\n", run->pattern->name,
           run->pattern->count, gets, steps);
    sdb_memtable_unref(run->memtable);
    assert_string_equal(failure, "");
}

static void insert_place(struct run *run, uint32_t number)
{
    uint8_t bytes[KEY_MAX];
    struct storm_slice key = make_key(run->pattern, place_of(run->pattern, number), bytes);
    assert_int_equal(sdb_memtable_insert(run->memtable, key,
                                         sdb_tag((uint64_t)number + 1, SDB_KIND_PUT),
                                         storm_bytes(&number, sizeof number)),
                     STORM_OK);
}

static void published_keys_are_found_and_iterated_in_order(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct run run = {.pattern = &patterns[i]};
        race(&run, read_published, insert_place);
    }
}

/* Few keys, many versions, every second one replaced before it is published. */
static void insert_version(struct run *run, uint32_t number)
{
    uint8_t bytes[KEY_MAX];
    struct storm_slice key = make_key(run->pattern, number % VERSIONED_KEYS, bytes);
    if (number % 2 == 0)
        assert_int_equal(sdb_memtable_insert(run->memtable, key,
                                             sdb_tag((uint64_t)number + 1, SDB_KIND_DELETE),
                                             storm_bytes(NULL, 0)),
                         STORM_OK);
    assert_int_equal(sdb_memtable_insert(run->memtable, key,
                                         sdb_tag((uint64_t)number + 1, SDB_KIND_PUT),
                                         storm_bytes(&number, sizeof number)),
                     STORM_OK);
}

static void *read_versions(void *context)
{
    struct reader *reader = context;
    struct run *run = reader->run;
    while (!atomic_load_explicit(&run->is_over, memory_order_relaxed) && !has_failed(reader)) {
        uint32_t published = atomic_load_explicit(&run->published, memory_order_acquire);
        if (published < VERSIONED_KEYS)
            continue;
        uint32_t newest = pick(reader, published);
        if (newest < VERSIONED_KEYS)
            continue;
        /* As of the revision of `newest`, another key's newest version is a little older. */
        uint32_t number = newest - (uint32_t)random_below(&reader->random, VERSIONED_KEYS);
        uint8_t bytes[KEY_MAX];
        uint64_t tag;
        struct storm_slice value;
        reader->gets++;
        if (!sdb_memtable_get(run->memtable, make_key(run->pattern, number % VERSIONED_KEYS, bytes),
                              (uint64_t)newest + 1, &tag, &value))
            report(reader, "no version", number, newest);
        else if (tag != sdb_tag((uint64_t)number + 1, SDB_KIND_PUT) ||
                 memcmp(value.data, &number, sizeof number) != 0)
            report(reader, "another version", number, newest);
    }
    return NULL;
}

static void published_versions_are_read_as_of_their_revision(void **state)
{
    (void)state;
    static const struct pattern pattern = {"versions", 18, 1, 1, 8, IS_SLOW ? 10000 : 150000};
    struct run run = {.pattern = &pattern};
    race(&run, read_versions, insert_version);
}

/* One new key after the other, behind all others: the last leaf gets its neighbours. */
static struct storm_slice ascending_key(uint32_t number, uint8_t *bytes)
{
    return storm_bytes(bytes, (size_t)snprintf((char *)bytes, KEY_MAX, "%010u", number));
}

static void insert_behind(struct run *run, uint32_t number)
{
    uint8_t bytes[KEY_MAX];
    assert_int_equal(sdb_memtable_insert(run->memtable, ascending_key(number, bytes),
                                         sdb_tag((uint64_t)number + 1, SDB_KIND_PUT),
                                         storm_bytes(&number, sizeof number)),
                     STORM_OK);
}

static void *read_unpublished(void *context)
{
    struct reader *reader = context;
    struct run *run = reader->run;
    while (!atomic_load_explicit(&run->is_over, memory_order_relaxed) && !has_failed(reader)) {
        uint32_t published = atomic_load_explicit(&run->published, memory_order_acquire);
        uint8_t bytes[KEY_MAX];
        uint64_t tag;
        struct storm_slice value;
        reader->gets++;
        if (sdb_memtable_get(run->memtable, ascending_key(published, bytes), published, &tag,
                             &value))
            report(reader, "a version of the future", published, published);
    }
    return NULL;
}

static void a_version_is_not_read_before_its_revision(void **state)
{
    (void)state;
    static const struct pattern pattern = {"ascending", 18, 1, 1, 8, IS_SLOW ? 20000 : 300000};
    struct run run = {.pattern = &pattern};
    race(&run, read_unpublished, insert_behind);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_keys_are_found_and_iterated_in_order),
        cmocka_unit_test(published_versions_are_read_as_of_their_revision),
        cmocka_unit_test(a_version_is_not_read_before_its_revision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
