/*
 * Figures of the table layer: building, cached and uncached gets, walks, filters.
 *
 *     bench_table [entries] [directory]      default: 1,000,000 entries in /tmp
 *
 * Entries have 16-byte decimal keys and 100-byte values of which half compresses, as db_bench has
 * them. Revisions are random, as after a random load. Times are processor time of this process, so
 * that others on the machine distort them less; waiting for the disk is not in them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lsm/table/filter.h"
#include "lsm/table/format.h"
#include "lsm/table/table.h"
#include "random.h"

enum { KEY = 16, VALUE = 100 };

static struct sdb_errors errors;
static struct sdb_os os;
static uint64_t entries = 1000000;
static char path[500];
static uint64_t sink;

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void must(storm_status status)
{
    if (status == STORM_OK)
        return;
    char text[SDB_ERROR_TEXT];
    sdb_errors_newest(&errors, text, sizeof text);
    fprintf(stderr, "failed: %d %s\n", status, text);
    exit(1);
}

static struct storm_slice key_of(char *buffer, uint64_t number)
{
    for (size_t i = KEY; i-- > 0; number /= 10)
        buffer[i] = (char)('0' + number % 10);
    return storm_bytes(buffer, KEY);
}

static double build(enum storm_codec codec, uint64_t *bytes)
{
    struct sdb_table_options options = {
        .block_bytes = 4096, .bloom_bits = 10.5, .codec = codec, .codec_level = 0};
    struct sdb_table_builder *builder;
    struct sdb_table_props props;
    uint64_t state = 1;
    static uint8_t values[1 << 20];
    char key[KEY];
    for (size_t i = 0; i < sizeof values; i++)
        values[i] = i % 100 < 50 ? (uint8_t)random_u64(&state) : values[i - 50];
    unlink(path);
    uint64_t start = now();
    must(sdb_table_builder_open(&os, path, 1, &options, &builder));
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t revision = random_below(&state, entries) + 1;
        must(sdb_table_builder_add(builder, key_of(key, i * 2), sdb_tag(revision, SDB_KIND_PUT),
                                   storm_bytes(values + i % 10000 * 100, VALUE)));
    }
    must(sdb_table_builder_finish(builder, 1, &props, bytes));
    sdb_table_builder_close(builder);
    return (double)(now() - start);
}

static double gets(struct sdb_table *table, uint64_t among, uint64_t count, bool present)
{
    uint64_t state = 7;
    char key[KEY];
    uint64_t start = now();
    for (uint64_t i = 0; i < count; i++) {
        uint64_t tag;
        struct storm_slice value;
        struct sdb_block *block;
        struct storm_slice wanted = key_of(key, random_below(&state, among) * 2 + !present);
        storm_status status = sdb_table_get(table, wanted, SDB_MAX_REVISION, &tag, &value, &block);
        if (status != (present ? STORM_OK : STORM_NOT_FOUND))
            must(STORM_CORRUPT);
        sink += present ? value.data[0] : 0;
        sdb_block_unref(block);
    }
    return (double)(now() - start) / (double)count;
}

static double walk(struct sdb_table *table, bool fill_cache, size_t readahead, bool backward)
{
    struct sdb_source *source = sdb_table_source(table, fill_cache, readahead);
    uint64_t count = 0;
    uint64_t start = now();
    if (backward)
        source->ops->last(source);
    else
        source->ops->first(source);
    while (source->valid) {
        sink += source->key.data[KEY - 1] + source->tag + source->value.data[0];
        count++;
        if (backward)
            source->ops->prev(source);
        else
            source->ops->next(source);
    }
    must(source->status);
    if (count != entries)
        must(STORM_CORRUPT);
    sdb_source_destroy(source);
    return (double)(now() - start) / (double)count;
}

static double seeks(struct sdb_table *table, uint64_t among, uint64_t count)
{
    uint64_t state = 9;
    char key[KEY];
    struct sdb_source *source = sdb_table_source(table, true, 0);
    uint64_t start = now();
    for (uint64_t i = 0; i < count; i++) {
        source->ops->seek(source, key_of(key, random_below(&state, among) * 2), UINT64_MAX >> 3);
        sink += source->value.data[0];
    }
    double each = (double)(now() - start) / (double)count;
    sdb_source_destroy(source);
    return each;
}

static void bench_codec(enum storm_codec codec, const char *name)
{
    uint64_t bytes;
    struct sdb_table *table;
    double ns = build(codec, &bytes);
    double raw = (double)entries * (KEY + VALUE);
    struct sdb_cache *none = sdb_cache_create(0, NULL);
    struct sdb_cache *large = sdb_cache_create((size_t)1 << 30, NULL);
    printf("%-8s build %6.0f MB/s (%4.0f ns/entry), %5.3f of the raw size\n", name, raw * 1000 / ns,
           ns / (double)entries, (double)bytes / raw);
    must(sdb_table_open(&os, path, 1, 0, none, &table));
    uint64_t some = entries < 200000 ? entries : 200000;
    printf("         get, block from the page cache %5.0f ns\n", gets(table, entries, some, true));
    printf("         walk, chunks of 1 MiB: forward %5.1f, back %5.1f ns/entry\n",
           walk(table, false, 1 << 20, false), walk(table, false, 1 << 20, true));
    sdb_table_close(table);
    must(sdb_table_open(&os, path, 1, 0, large, &table));
    walk(table, true, 0, false);
    printf("         get, cached: all %5.0f, of 10,000 %5.0f, not there %5.0f ns\n",
           gets(table, entries, 1000000, true), gets(table, 10000, 1000000, true),
           gets(table, 10000, 1000000, false));
    printf("         walk, cached: forward %5.1f, back %5.1f ns/entry; seek of 10,000 %5.0f ns\n",
           walk(table, true, 0, false), walk(table, true, 0, true), seeks(table, 10000, 1000000));
    printf("         memory %.2f bytes an entry\n",
           (double)sdb_table_memory(table) / (double)entries);
    sdb_table_close(table);
    sdb_cache_destroy(none);
    sdb_cache_destroy(large);
    unlink(path);
}

static void bench_filter(uint64_t count)
{
    struct sdb_filter_keys keys = {NULL, 0, 0};
    struct sdb_buffer contents;
    struct sdb_filter filter;
    enum { ASKED = 4000000 };
    uint64_t passed = 0;
    sdb_buffer_init(&contents, SDB_TABLE_BLOCK_MAX);
    char key[KEY];
    for (uint64_t i = 0; i < count; i++)
        if (!sdb_filter_keys_add(&keys, sdb_key_hash(key_of(key, i))))
            exit(1);
    uint64_t start = now();
    must(sdb_filter_build(&keys, 10.5, &contents));
    double built = (double)(now() - start) / (double)count;
    must(sdb_filter_parse(sdb_buffer_slice(&contents), &filter));
    static uint64_t hashes[ASKED];
    for (uint64_t i = 0; i < ASKED; i++)
        hashes[i] = sdb_key_hash(key_of(key, count + i));
    start = now();
    for (uint64_t i = 0; i < ASKED; i++)
        passed += sdb_filter_may_contain(&filter, hashes[i]);
    double asked = (double)(now() - start) / ASKED;
    printf("filter of %8" PRIu64
           " keys: build %4.1f ns/key, ask %4.1f ns, false positives %.3f %%\n",
           count, built, asked, 100.0 * (double)passed / ASKED);
    sdb_filter_keys_fini(&keys);
    sdb_buffer_fini(&contents);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        entries = strtoull(argv[1], NULL, 10);
    snprintf(path, sizeof path, "%s/bench_table.%ld.sst", argc > 2 ? argv[2] : "/tmp",
             (long)getpid());
    sdb_errors_init(&errors, NULL, NULL);
    sdb_os_posix_init(&os, &errors);
    bench_codec(STORM_CODEC_NONE, "none");
    bench_codec(STORM_CODEC_DEFLATE, "deflate");
    bench_codec(STORM_CODEC_LZ4, "lz4");
    bench_codec(STORM_CODEC_ZSTD, "zstd");
    bench_filter(20000);
    bench_filter(1000000);
    bench_filter(10000000);
    fprintf(stderr, "(%" PRIu64 ")\n", sink & 1);
    return 0;
}
