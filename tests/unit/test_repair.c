/*
 * storm_repair: whatever a store has lost, what is left of it is a whole store again, in which no
 * key has a value that it never had, and every key whose newest version could be read has that one.
 */
#include "reports.h"

#include <stdlib.h>

#include "alloc_fail.h"
#include "random.h"
#include "util/crc32c.h"

/* Under a sanitizer everything costs ten times as much: sweeps take larger steps. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STRIDE 9
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 9
#endif
#ifndef STRIDE
#define STRIDE 1
#endif

enum { KEYS = 240, VERSIONS = 12, TEXT = 64, FLIP_STEP = 131 * STRIDE };

/* Every value that each key ever had, oldest first; "" is a delete. */
static struct {
    size_t count;
    char texts[VERSIONS][TEXT];
} model[KEYS];

static unsigned written;

static struct storm_slice key_of(unsigned k, char *room)
{
    return storm_bytes(room, (size_t)snprintf(room, 16, "key%05u", k));
}

static void write_key(struct store *store, unsigned k, bool is_delete)
{
    char key[16];
    assert_true(model[k].count < VERSIONS);
    char *text = model[k].texts[model[k].count++];
    written++;
    if (is_delete) {
        text[0] = '\0';
        assert_int_equal(storm_delete(store->db, key_of(k, key)), STORM_OK);
        return;
    }
    snprintf(text, TEXT, "value %u of key %u, %08x", written, k, written * 2654435761U);
    assert_int_equal(storm_put(store->db, key_of(k, key), storm_text(text)), STORM_OK);
}

static const char *newest_of(unsigned k)
{
    return model[k].count == 0 ? "" : model[k].texts[model[k].count - 1];
}

/* What the store says of a key: "" when absent; fails on an error. */
static const char *read_key(storm_db *db, unsigned k)
{
    static char text[TEXT];
    char key[16];
    struct storm_value value;
    storm_status status = storm_get(db, NULL, key_of(k, key), &value);
    text[0] = '\0';
    if (status == STORM_OK) {
        assert_true(value.bytes.size < TEXT);
        memcpy(text, value.bytes.data, value.bytes.size);
        text[value.bytes.size] = '\0';
    } else if (status != STORM_NOT_FOUND) {
        fail_msg("key %u: %s", k, storm_status_text(status));
    }
    storm_value_release(&value);
    return text;
}

/* How many keys do not show their newest version. None may show what it never had. */
static unsigned count_old(storm_db *db, const char *where)
{
    unsigned old = 0;
    for (unsigned k = 0; k < KEYS; k++) {
        const char *text = read_key(db, k);
        bool was_there = text[0] == '\0';
        for (size_t v = 0; v < model[k].count && !was_there; v++)
            was_there = strcmp(model[k].texts[v], text) == 0;
        if (!was_there)
            fail_msg("%s: key %u has '%s', which it never had", where, k, text);
        old += strcmp(text, newest_of(k)) != 0;
    }
    return old;
}

/* Tables in the last level, a level above and level 0, newer records in the log; closed. */
static void make_store(struct store *store, uint64_t seed)
{
    store_init(store, seed);
    store->tuning = &tuning_by_hand;
    store->options.block_bytes = 1024;
    store->options.codec = STORM_CODEC_NONE;
    memset(model, 0, sizeof model);
    written = 0;
    store_open(store);
    for (unsigned k = 0; k < KEYS; k++)
        write_key(store, k, false);
    assert_int_equal(storm_compact(store->db, storm_text(""), storm_text(""), NULL, NULL),
                     STORM_OK);
    for (unsigned k = 0; k < KEYS; k += 2)
        write_key(store, k, k % 10 == 0);
    assert_int_equal(storm_flush(store->db, NULL), STORM_OK);
    for (unsigned k = 0; k < KEYS; k += 3)
        write_key(store, k, k % 15 == 0);
    assert_int_equal(storm_flush(store->db, NULL), STORM_OK);
    for (unsigned k = 0; k < KEYS; k += 7)
        write_key(store, k, k % 14 == 0);
    store_close(store);
}

/* The name of the n-th file whose name holds `part`, in the directory /db. */
static bool find_file(struct store *store, const char *part, unsigned n, char path[80])
{
    struct file_names files;
    list_files(store->disk, "/db", &files);
    for (size_t i = 0; i < files.count; i++) {
        if (strstr(files.names[i], part) != NULL && n-- == 0) {
            snprintf(path, 80, "/db/%s", files.names[i]);
            return true;
        }
    }
    return false;
}

/* The same with everything in tables, and no log that could make good what they lose. */
static void make_tables(struct store *store, uint64_t seed, enum storm_codec codec)
{
    char path[80];
    make_store(store, seed);
    store->options.codec = codec;
    store_open(store);
    assert_int_equal(storm_flush(store->db, NULL), STORM_OK);
    if (codec != STORM_CODEC_NONE) /* what the last level has is written anew */
        assert_int_equal(
            storm_compact(store->db, storm_text(""), storm_text("key00100"), NULL, NULL), STORM_OK);
    store_close(store);
    assert_true(find_file(store, ".log", 0, path));
    assert_int_equal(sim_remove(store->disk, path), STORM_OK);
}

static storm_status try_repair(struct store *store, struct reports *reports,
                               struct storm_repair_result *result)
{
    memset(reports, 0, sizeof *reports);
    memset(result, 0, sizeof *result);
    return sdb_lsm_repair_on(&store->os, "/db", collect_report, reports, result, &store->error);
}

static void repair(struct store *store, struct reports *reports, struct storm_repair_result *result)
{
    if (try_repair(store, reports, result) != STORM_OK)
        fail_msg("repair: %d, %s", store->error.status, store->error.message);
    if (getenv("TEST_VERBOSE") != NULL) {
        for (size_t i = 0; i < reports->count; i++)
            print_message("  %d %s\n", reports->statuses[i], reports->lines[i]);
    }
}

/* Open after a repair: verifies, counts what is old, and takes writes under new revisions. */
static unsigned check_repaired(struct store *store, const struct storm_repair_result *result,
                               const char *where)
{
    struct reports reports;
    struct storm_verify_result verified;
    struct storm_value value;
    store_open(store);
    memset(&reports, 0, sizeof reports);
    if (storm_verify(store->db, NULL, collect_report, &reports, &verified) != STORM_OK)
        fail_msg("%s: verify: %s", where, reports.lines[0]);
    if (result != NULL)
        assert_int_equal(verified.entries, result->entries);
    unsigned old = count_old(store->db, where);
    assert_int_equal(put_text(store->db, "new", "after the repair"), STORM_OK);
    assert_int_equal(storm_get(store->db, NULL, storm_text("new"), &value), STORM_OK);
    if (result != NULL)
        assert_int_equal(value.revision, result->revision + 1);
    storm_value_release(&value);
    store_close(store);
    return old;
}

static void a_whole_store_stays_as_it_is(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_repair_result result;
    struct file_names before;
    (void)state;
    make_store(&store, 1);
    list_files(store.disk, "/db", &before);
    repair(&store, &reports, &result);
    assert_int_equal(reports.problems, 0);
    unsigned tables = 0;
    for (size_t i = 0; i < before.count; i++) {
        uint64_t size;
        char path[80];
        if (strstr(before.names[i], ".sst") == NULL)
            continue;
        snprintf(path, sizeof path, "/db/%s", before.names[i]);
        assert_int_equal(sim_file_size(store.disk, path, &size), STORM_OK);
        tables++;
    }
    assert_true(tables > 3);
    assert_int_equal(result.tables_kept, tables);
    assert_int_equal(result.tables_salvaged + result.tables_lost, 0);
    assert_int_equal(result.log_records, (KEYS + 6) / 7);
    assert_int_equal(result.revision, written);
    assert_int_equal(check_repaired(&store, &result, "whole"), 0);
    store_fini(&store);
}

static void without_current_or_manifest_nothing_is_lost(void **state)
{
    (void)state;
    for (unsigned what = 1; what < 4; what++) {
        struct store store;
        struct reports reports;
        struct storm_repair_result result;
        char path[80];
        make_store(&store, what);
        if ((what & 1) != 0)
            assert_int_equal(sim_remove(store.disk, "/db/CURRENT"), STORM_OK);
        if ((what & 2) != 0) {
            assert_true(find_file(&store, "MANIFEST", 0, path));
            assert_int_equal(sim_remove(store.disk, path), STORM_OK);
        }
        assert_int_equal(store_try_open(&store), STORM_CORRUPT);
        repair(&store, &reports, &result);
        if (what == 1)
            assert_int_equal(result.tables_salvaged, 0); /* the manifest was found by its name */
        else
            assert_int_equal(result.tables_kept, 0);
        (void)find_report(&reports, (what & 1) != 0 ? "CURRENT" : "MANIFEST", "missing");
        assert_int_equal(check_repaired(&store, &result, "no manifest"), 0);
        store_fini(&store);
    }
}

static void a_missing_table_costs_its_own_keys_only(void **state)
{
    char path[80];
    (void)state;
    for (unsigned n = 0;; n++) {
        struct store store;
        struct reports reports;
        struct storm_repair_result result;
        make_tables(&store, 1, STORM_CODEC_NONE);
        if (!find_file(&store, ".sst", n, path)) {
            store_fini(&store);
            assert_true(n > 3);
            break;
        }
        assert_int_equal(sim_remove(store.disk, path), STORM_OK);
        assert_int_equal(store_try_open(&store), STORM_CORRUPT);
        repair(&store, &reports, &result);
        assert_int_equal(result.tables_lost, 1);
        (void)find_report(&reports, path + 4, "missing");
        unsigned old = check_repaired(&store, &result, path);
        assert_true(old > 0 && old <= KEYS);
        store_fini(&store);
    }
}

/* Where the data blocks of a table end: a flip behind that costs nothing. */
static uint64_t data_end_of(struct store *store, const char *path)
{
    struct sdb_cache *cache = sdb_cache_create(0, NULL);
    struct sdb_table *table;
    uint64_t number = strtoull(path + 4, NULL, 10);
    assert_int_equal(sdb_table_open(&store->os, path, number, 0, cache, &table), STORM_OK);
    uint64_t end = sdb_table_props(table)->data_bytes;
    sdb_table_close(table);
    sdb_cache_destroy(cache);
    return end;
}

/* Flip one bit at `at` of a file in a fresh store, repair, look. False: the file ends before. */
static bool survive_flip(const char *name, uint64_t at, int codec, bool *is_costly)
{
    enum { BLOCK_KEYS = 45 };
    struct store store;
    struct reports reports;
    struct storm_repair_result result;
    char path[80], where[128];
    uint64_t size, data_end = UINT64_MAX;
    bool is_log = strstr(name, ".log") != NULL;
    if (codec < 0)
        make_store(&store, 1);
    else
        make_tables(&store, 1, (enum storm_codec)codec);
    snprintf(path, sizeof path, "/db/%.60s", name);
    snprintf(where, sizeof where, "%.60s, byte %llu", name, (unsigned long long)at);
    assert_int_equal(sim_file_size(store.disk, path, &size), STORM_OK);
    if (is_log && size > 30000)
        size = 30000; /* the rest is room for records to come */
    if (strstr(name, ".sst") != NULL)
        data_end = data_end_of(&store, path);
    else if (!is_log)
        data_end = 0;
    bool is_inside = at < size;
    if (is_inside) {
        assert_int_equal(sim_flip(store.disk, path, at, (uint8_t)(1 << at % 8)), STORM_OK);
        repair(&store, &reports, &result);
        unsigned old = check_repaired(&store, &result, where);
        if (old > (at >= data_end ? 0 : is_log ? 1 : BLOCK_KEYS))
            fail_msg("%s: %u keys are not what they were", where, old);
        *is_costly = old != 0;
    }
    store_fini(&store);
    return is_inside;
}

/* A byte anywhere: of a table in any codec, the log, the manifest, CURRENT. */
static void one_wrong_byte_costs_no_more_than_its_block_or_record(void **state)
{
    uint64_t flips = 0, costly = 0;
    (void)state;
    for (int codec = -1; codec <= STORM_CODEC_ZSTD; codec++) {
        struct store store;
        struct file_names files;
        if (codec < 0)
            make_store(&store, 1);
        else
            make_tables(&store, 1, (enum storm_codec)codec);
        list_files(store.disk, "/db", &files);
        store_fini(&store);
        for (size_t f = 0; f < files.count; f++) {
            bool is_costly = false;
            if (strcmp(files.names[f], "LOCK") == 0)
                continue;
            uint64_t at = f * 7;
            while (survive_flip(files.names[f], at, codec, &is_costly)) {
                bool is_header = strstr(files.names[f], ".log") != NULL && at < 4000;
                at += is_header ? 997 : FLIP_STEP;
                costly += is_costly;
                flips++;
            }
        }
    }
    print_message("%llu flips repaired, %llu of them at a cost\n", (unsigned long long)flips,
                  (unsigned long long)costly);
}

/* Keys that a damaged store could still read are read as before when it has been repaired. */
static void what_could_be_read_before_is_the_same_afterwards(void **state)
{
    uint64_t random = random_seed(20);
    (void)state;
    for (unsigned round = 0; round < 60; round++) {
        struct store store;
        struct reports reports;
        struct storm_repair_result result;
        static char before[KEYS][TEXT];
        char path[80], key[16];
        make_store(&store, 1);
        store_open(&store);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        store_close(&store);
        for (unsigned flips = 1 + (unsigned)random_below(&random, 4); flips > 0; flips--) {
            uint64_t size;
            assert_true(find_file(&store, ".sst", (unsigned)random_below(&random, 4), path));
            assert_int_equal(sim_file_size(store.disk, path, &size), STORM_OK);
            assert_int_equal(sim_flip(store.disk, path, random_below(&random, size), 4), STORM_OK);
        }
        store.options.read_only = true;
        store_open(&store);
        for (unsigned k = 0; k < KEYS; k++) {
            struct storm_value value;
            storm_status status = storm_get(store.db, NULL, key_of(k, key), &value);
            snprintf(before[k], TEXT, "%s",
                     status == STORM_OK || status == STORM_NOT_FOUND ? newest_of(k) : "?");
            storm_value_release(&value);
        }
        store_close(&store);
        store.options.read_only = false;
        assert_true(find_file(&store, ".log", 0, path)); /* it would make it good */
        assert_int_equal(sim_remove(store.disk, path), STORM_OK);
        repair(&store, &reports, &result);
        (void)check_repaired(&store, &result, "round");
        store_open(&store);
        for (unsigned k = 0; k < KEYS; k++) {
            if (before[k][0] != '?')
                assert_string_equal(read_key(store.db, k), before[k]);
        }
        store_fini(&store);
    }
}

static void cut_tables_give_what_stands_before_the_cut(void **state)
{
    (void)state;
    for (uint64_t part = 0; part <= 10; part++) {
        struct store store;
        struct reports reports;
        struct storm_repair_result result;
        char path[80];
        uint64_t size;
        make_tables(&store, 1, STORM_CODEC_NONE);
        assert_true(find_file(&store, ".sst", 0, path));
        assert_int_equal(sim_file_size(store.disk, path, &size), STORM_OK);
        assert_int_equal(sim_resize(store.disk, path, size * part / 10 - (part == 10)), STORM_OK);
        repair(&store, &reports, &result);
        assert_int_equal(result.tables_lost, part < 2); /* not even a block is left */
        assert_int_equal(result.tables_salvaged, part >= 2);
        unsigned old = check_repaired(&store, &result, path);
        if (part == 10)
            assert_int_equal(old, 0);
        store_fini(&store);
    }
}

/* A block and the footer: blocks are found behind the bad one without being told where. */
static void blocks_are_found_without_an_index(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_repair_result result;
    char path[80];
    uint64_t size;
    (void)state;
    make_tables(&store, 1, STORM_CODEC_NONE);
    assert_true(find_file(&store, ".sst", 0, path));
    assert_int_equal(sim_file_size(store.disk, path, &size), STORM_OK);
    assert_int_equal(sim_flip(store.disk, path, data_end_of(&store, path) / 2, 1), STORM_OK);
    assert_int_equal(sim_flip(store.disk, path, size - 40, 1), STORM_OK); /* the footer */
    repair(&store, &reports, &result);
    assert_int_equal(result.tables_salvaged, 1);
    (void)find_report(&reports, path + 4, "no block that verifies");
    unsigned old = check_repaired(&store, &result, path);
    assert_true(old > 0 && old < 40);
    store_fini(&store);
}

static void foreign_files_and_leftovers_do_not_matter(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_repair_result result;
    uint64_t size;
    (void)state;
    make_store(&store, 1);
    assert_int_equal(sim_write_file(store.disk, "/db/notes.txt", "mine", 4), STORM_OK);
    assert_int_equal(sim_write_file(store.disk, "/db/0000009999.sst", "no table", 8), STORM_OK);
    assert_int_equal(sim_write_file(store.disk, "/db/0000009998.log", "no log", 6), STORM_OK);
    assert_int_equal(sim_remove(store.disk, "/db/CURRENT"), STORM_OK);
    repair(&store, &reports, &result);
    assert_int_equal(sim_file_size(store.disk, "/db/notes.txt", &size), STORM_OK);
    assert_int_equal(sim_file_size(store.disk, "/db/lost/0000009999.sst", &size), STORM_OK);
    assert_int_equal(sim_file_size(store.disk, "/db/lost/0000009998.log", &size), STORM_OK);
    assert_int_equal(sim_file_size(store.disk, "/db/9999.sst", &size), STORM_NOT_FOUND);
    assert_int_equal(check_repaired(&store, &result, "foreign"), 0);
    /* A directory without a store stays one. */
    assert_int_equal(sdb_mkdir(&store.os, "/empty"), STORM_OK);
    assert_int_equal(sdb_lsm_repair_on(&store.os, "/empty", NULL, NULL, &result, &store.error),
                     STORM_NOT_FOUND);
    assert_int_equal(sdb_lsm_repair_on(&store.os, "/none", NULL, NULL, &result, NULL),
                     STORM_NOT_FOUND);
    struct file_names files;
    list_files(store.disk, "/empty", &files);
    assert_int_equal(files.count, 0);
    store_fini(&store);
}

static void an_open_store_is_not_repaired(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_repair_result result;
    (void)state;
    make_store(&store, 1);
    store_open(&store);
    assert_int_equal(try_repair(&store, &reports, &result), STORM_LOCKED);
    assert_int_equal(count_old(store.db, "open"), 0);
    store_fini(&store);
}

/* An old CURRENT and manifest over newer tables, as from a backup of the wrong files. */
static void an_old_manifest_does_not_hide_newer_tables(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_repair_result result;
    static uint8_t current[100], manifest[20000];
    size_t current_size, manifest_size;
    char name[80], now[80];
    struct sdb_file *file;
    (void)state;
    make_store(&store, 1);
    assert_true(find_file(&store, "MANIFEST", 0, name));
    assert_int_equal(sdb_open(&store.os, "/db/CURRENT", SDB_OPEN_READ, &file), STORM_OK);
    assert_int_equal(sdb_pread(file, 0, current, sizeof current, &current_size), STORM_OK);
    sdb_close(file);
    assert_int_equal(sdb_open(&store.os, name, SDB_OPEN_READ, &file), STORM_OK);
    assert_int_equal(sdb_pread(file, 0, manifest, sizeof manifest, &manifest_size), STORM_OK);
    sdb_close(file);
    store_open(&store);
    for (unsigned k = 0; k < KEYS; k += 4)
        write_key(&store, k, k % 40 == 0);
    assert_int_equal(storm_compact(store.db, storm_text(""), storm_text(""), NULL, NULL), STORM_OK);
    for (unsigned k = 0; k < KEYS; k += 5)
        write_key(&store, k, false);
    store_close(&store);
    assert_true(find_file(&store, "MANIFEST", 0, now));
    assert_int_equal(sim_remove(store.disk, now), STORM_OK);
    assert_int_equal(sim_write_file(store.disk, "/db/CURRENT", current, current_size), STORM_OK);
    assert_int_equal(sim_write_file(store.disk, name, manifest, manifest_size), STORM_OK);
    repair(&store, &reports, &result);
    (void)find_report(&reports, "MANIFEST", "not that of these tables");
    assert_int_equal(check_repaired(&store, &result, "old manifest"), 0);
    store_fini(&store);
}

/* Old versions that lie about, above newer ones by number: not believed, nor brought back. */
static void inputs_that_a_compaction_left_behind_bring_nothing_back(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_repair_result result;
    static struct {
        char path[80];
        uint8_t data[60000];
        size_t size;
    } kept[8];
    unsigned count = 0;
    (void)state;
    make_store(&store, 1);
    for (; count < 8 && find_file(&store, ".sst", count, kept[count].path); count++) {
        struct sdb_file *file;
        assert_int_equal(sdb_open(&store.os, kept[count].path, SDB_OPEN_READ, &file), STORM_OK);
        assert_int_equal(
            sdb_pread(file, 0, kept[count].data, sizeof kept[count].data, &kept[count].size),
            STORM_OK);
        sdb_close(file);
    }
    store_open(&store);
    for (unsigned k = 0; k < KEYS; k++)
        write_key(&store, k, k % 3 != 0);
    assert_int_equal(storm_compact(store.db, storm_text(""), storm_text(""), NULL, NULL), STORM_OK);
    store_close(&store);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(sim_write_file(store.disk, kept[i].path, kept[i].data, kept[i].size),
                         STORM_OK);
    assert_int_equal(sim_remove(store.disk, "/db/CURRENT"), STORM_OK);
    repair(&store, &reports, &result);
    (void)find_report(&reports, kept[0].path + 4, "left out");
    assert_int_equal(check_repaired(&store, &result, "inputs"), 0);
    store_fini(&store);
}

/* ---- The log ---- */

/* The offset of the n-th record of a segment. */
static uint64_t record_at(struct store *store, const char *path, unsigned n)
{
    struct sdb_file *file;
    uint8_t head[8];
    size_t got;
    uint64_t at = 4096;
    assert_int_equal(sdb_open(&store->os, path, SDB_OPEN_READ, &file), STORM_OK);
    for (; n > 0; n--) {
        assert_int_equal(sdb_pread(file, at, head, sizeof head, &got), STORM_OK);
        at += 32 + (sdb_get_u32(head + 4) + 7) / 8 * 8;
    }
    sdb_close(file);
    return at;
}

static void a_bad_record_in_the_middle_costs_that_record(void **state)
{
    (void)state;
    for (unsigned part = 0; part < 2; part++) {
        struct store store;
        struct reports reports;
        struct storm_repair_result result;
        char path[80];
        store_init(&store, 1);
        memset(model, 0, sizeof model);
        written = 0;
        store_open(&store);
        for (unsigned k = 0; k < 40; k++)
            write_key(&store, k, false);
        store_close(&store);
        assert_true(find_file(&store, ".log", 0, path));
        /* The payload's, or the header's: then the next record's place is not known. */
        assert_int_equal(
            sim_flip(store.disk, path, record_at(&store, path, 17) + (part == 0 ? 40 : 5), 1),
            STORM_OK);
        assert_int_equal(store_try_open(&store), STORM_CORRUPT);
        repair(&store, &reports, &result);
        assert_int_equal(result.log_records, 39);
        (void)find_report(&reports, path + 4, "is damaged");
        assert_int_equal(check_repaired(&store, &result, path), 1);
        store_open(&store);
        assert_string_equal(read_key(store.db, 17), "");
        store_fini(&store);
    }
}

/* The log makes good what a table has lost, but its old records do not cover newer tables: key 16
 * is in the damaged one, newer in a whole one, and its newer record is damaged, too. */
static void old_records_do_not_cover_newer_tables(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_repair_result result;
    char path[80];
    (void)state;
    make_store(&store, 1);
    assert_true(find_file(&store, ".sst", 0, path));
    assert_int_equal(sim_flip(store.disk, path, 100, 1), STORM_OK);
    assert_true(find_file(&store, ".log", 0, path));
    assert_int_equal(sim_flip(store.disk, path, record_at(&store, path, KEYS + 8) + 36, 1),
                     STORM_OK);
    repair(&store, &reports, &result);
    assert_int_equal(check_repaired(&store, &result, "old records"), 0);
    store_fini(&store);
}

/* What an open has dropped as a torn tail readers have lived without; it does not come back. */
static void a_torn_tail_that_was_dropped_stays_dropped(void **state)
{
    (void)state;
    for (unsigned was_opened = 0; was_opened < 2; was_opened++) {
        struct store store;
        struct reports reports;
        struct storm_repair_result result;
        struct storm_write_options unsynced = {.sync = STORM_SYNC_NONE};
        char path[80];
        store_init(&store, 1);
        memset(model, 0, sizeof model);
        written = 0;
        store_open(&store);
        for (unsigned k = 0; k < 10; k++)
            write_key(&store, k, false);
        storm_batch *batch = storm_batch_create();
        for (unsigned i = 0; i < 3; i++) {
            char key[16];
            storm_batch_clear(batch);
            assert_int_equal(storm_batch_put(batch,
                                             storm_bytes(key, (size_t)snprintf(key, 16, "t%u", i)),
                                             storm_text("tail")),
                             STORM_OK);
            assert_int_equal(storm_write(store.db, batch, &unsynced, NULL), STORM_OK);
        }
        storm_batch_destroy(batch);
        sim_cut_at(store.disk, 1);
        store_drop(&store);
        sim_reboot(store.disk, SIM_KEEP_ALL);
        assert_true(find_file(&store, ".log", 0, path));
        assert_int_equal(sim_flip(store.disk, path, record_at(&store, path, 11) + 36, 1), STORM_OK);
        if (was_opened != 0) {
            store_open(&store);
            assert_string_equal(get_text(store.db, NULL, "t0"), "tail");
            assert_string_equal(get_text(store.db, NULL, "t2"), "(none)");
            /* Killed: not even an end mark. */
            sim_cut_at(store.disk, 1);
            store_drop(&store);
            sim_reboot(store.disk, SIM_KEEP_ALL);
        }
        repair(&store, &reports, &result);
        assert_int_equal(check_repaired(&store, NULL, "tail"), 0);
        store_open(&store);
        assert_string_equal(get_text(store.db, NULL, "t0"), "tail");
        assert_string_equal(get_text(store.db, NULL, "t1"), "(none)");
        assert_string_equal(get_text(store.db, NULL, "t2"), was_opened != 0 ? "(none)" : "tail");
        store_fini(&store);
    }
}

/* Several segments, of which one is missing and one has lost its header. */
static void segments_are_read_one_by_one(void **state)
{
    struct store store;
    struct reports reports;
    struct storm_repair_result result;
    static const uint8_t filler[3000];
    struct storm_write_options unsynced = {.sync = STORM_SYNC_NONE};
    char path[80], key[16];
    (void)state;
    store_init(&store, 1);
    store.options.memtable_bytes = 8 << 20;
    store.options.write_buffer_bytes = 8 << 20;
    store_open(&store);
    sdb_lsm(store.db)->options.write_buffer_bytes = 8 << 20;
    storm_batch *batch = storm_batch_create();
    enum { WRITES = 2700 }; /* 8 MiB is one segment; what follows is in the second */
    for (unsigned i = 0; i < WRITES + 900; i++) {
        storm_batch_clear(batch);
        assert_int_equal(storm_batch_put(batch,
                                         storm_bytes(key, (size_t)snprintf(key, 16, "s%05u", i)),
                                         storm_bytes(filler, sizeof filler)),
                         STORM_OK);
        assert_int_equal(storm_write(store.db, batch, &unsynced, NULL), STORM_OK);
        if (i == WRITES)
            assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    }
    storm_batch_destroy(batch);
    store_close(&store);
    assert_true(find_file(&store, ".log", 0, path));
    assert_int_equal(sim_flip(store.disk, path, 100, 1), STORM_OK);
    repair(&store, &reports, &result);
    (void)find_report(&reports, path + 4, "header");
    store_open(&store);
    for (unsigned i = 0; i < WRITES + 900; i++) {
        struct storm_value value;
        assert_int_equal(storm_get(store.db, NULL,
                                   storm_bytes(key, (size_t)snprintf(key, 16, "s%05u", i)), &value),
                         STORM_OK);
        storm_value_release(&value);
    }
    store_fini(&store);
}

/* One in the manifest, one in the log only: neither is forgotten, whatever else is. */
static void range_deletes_stay_in_force(void **state)
{
    (void)state;
    for (unsigned what = 0; what < 4; what++) {
        struct store store;
        struct reports reports;
        struct storm_repair_result result;
        char path[80];
        make_store(&store, 1);
        store_open(&store);
        assert_int_equal(
            storm_delete_range(store.db, storm_text("key00050"), storm_text("key00060")), STORM_OK);
        assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
        assert_int_equal(
            storm_delete_range(store.db, storm_text("key00070"), storm_text("key00080")), STORM_OK);
        store_close(&store);
        for (unsigned k = 50; k < 80; k++) {
            if (k < 60 || k >= 70)
                model[k].texts[model[k].count++][0] = '\0';
        }
        if (what == 1 || what == 3)
            assert_int_equal(sim_remove(store.disk, "/db/CURRENT"), STORM_OK);
        assert_true(find_file(&store, what == 3 ? "MANIFEST" : ".sst", 0, path));
        if (what == 2)
            assert_int_equal(sim_flip(store.disk, path, 100, 1), STORM_OK);
        if (what == 3)
            assert_int_equal(sim_remove(store.disk, path), STORM_OK);
        repair(&store, &reports, &result);
        assert_int_equal(check_repaired(&store, &result, "ranges"), 0);
        store_fini(&store);
    }
}

/* ---- Faults ---- */

struct original {
    char name[64];
    uint32_t crc;
};

static uint32_t crc_of(struct store *store, const char *path, uint64_t *size)
{
    static uint8_t data[4 << 20];
    struct sdb_file *file;
    size_t got = 0;
    assert_int_equal(sdb_open(&store->os, path, SDB_OPEN_READ, &file), STORM_OK);
    assert_int_equal(sdb_pread(file, 0, data, sizeof data, &got), STORM_OK);
    sdb_close(file);
    *size = got;
    return sdb_crc32c(0, data, got);
}

/* A damaged store: a bad block, no manifest or a bad log record, and a table that is too much. */
static size_t make_damaged(struct store *store, uint64_t seed, unsigned kind,
                           struct original *originals)
{
    struct file_names files;
    char path[80];
    uint64_t size;
    size_t count = 0;
    make_store(store, seed);
    assert_true(find_file(store, ".sst", 1, path));
    assert_int_equal(sim_flip(store->disk, path, 100, 1), STORM_OK);
    if (kind == 1)
        assert_int_equal(sim_remove(store->disk, "/db/CURRENT"), STORM_OK);
    if (kind == 2) {
        assert_true(find_file(store, "MANIFEST", 0, path));
        assert_int_equal(sim_flip(store->disk, path, 50, 1), STORM_OK);
    }
    assert_true(find_file(store, ".log", 0, path));
    assert_int_equal(sim_flip(store->disk, path, record_at(store, path, 300) + 36, 1), STORM_OK);
    list_files(store->disk, "/db", &files);
    for (size_t i = 0; i < files.count; i++) {
        if (strcmp(files.names[i], "LOCK") == 0 || strstr(files.names[i], ".spare") != NULL)
            continue;
        struct original *original = &originals[count++];
        snprintf(original->name, sizeof original->name, "%s", files.names[i]);
        snprintf(path, sizeof path, "/db/%.60s", original->name);
        original->crc = crc_of(store, path, &size);
    }
    return count;
}

/* Every file of the damaged store is there yet, with the same bytes, in its place or in lost/. */
static void check_originals(struct store *store, const struct original *originals, size_t count,
                            const char *where, uint64_t n)
{
    for (size_t i = 0; i < count; i++) {
        bool is_found = false;
        for (int copy = -1; copy < 4 && !is_found; copy++) {
            char path[128];
            uint64_t size;
            if (copy < 0)
                snprintf(path, sizeof path, "/db/%.60s", originals[i].name);
            else if (copy == 0)
                snprintf(path, sizeof path, "/db/lost/%.60s", originals[i].name);
            else
                snprintf(path, sizeof path, "/db/lost/%.60s.%d", originals[i].name, copy);
            if (sim_file_size(store->disk, path, &size) == STORM_OK)
                is_found = crc_of(store, path, &size) == originals[i].crc;
        }
        if (!is_found)
            fail_msg("%s %llu: %s is gone", where, (unsigned long long)n, originals[i].name);
    }
}

static unsigned expected_old(unsigned kind)
{
    struct store store;
    struct reports reports;
    struct storm_repair_result result;
    struct original originals[64];
    (void)make_damaged(&store, 1, kind, originals);
    repair(&store, &reports, &result);
    unsigned old = check_repaired(&store, &result, "undisturbed");
    store_fini(&store);
    return old;
}

static void after_a_power_cut_anywhere_it_is_repaired_again(void **state)
{
    static const enum sim_loss losses[] = {SIM_LOSE_ALL, SIM_KEEP_SOME, SIM_KEEP_TORN,
                                           SIM_KEEP_ALL};
    uint64_t points = 0;
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        unsigned expected = expected_old(kind);
        for (size_t l = 0; l < sizeof losses / sizeof losses[0]; l++) {
            bool was_cut = true;
            for (uint64_t n = 1 + l % STRIDE; was_cut; n += STRIDE) {
                struct store store;
                struct reports reports;
                struct storm_repair_result result;
                struct original originals[64];
                size_t count = make_damaged(&store, n, kind, originals);
                sim_cut_at(store.disk, n);
                storm_status status = try_repair(&store, &reports, &result);
                was_cut = sim_is_cut(store.disk);
                assert_true(was_cut || status == STORM_OK);
                sim_reboot(store.disk, losses[l]);
                check_originals(&store, originals, count, "cut", n);
                if (status != STORM_OK)
                    repair(&store, &reports, &result);
                check_originals(&store, originals, count, "repaired", n);
                sim_reboot(store.disk, SIM_LOSE_ALL);
                unsigned old = check_repaired(&store, NULL, "cut");
                if (old != expected)
                    fail_msg("kind %u, cut %llu: %u keys are old, not %u", kind,
                             (unsigned long long)n, old, expected);
                check_originals(&store, originals, count, "opened", n);
                store_fini(&store);
                points++;
            }
        }
    }
    print_message("%llu power cuts survived\n", (unsigned long long)points);
}

static bool survive_fault(struct sim_plan plan, unsigned kind, unsigned expected)
{
    struct store store;
    struct reports reports;
    struct storm_repair_result result;
    struct original originals[64];
    size_t count = make_damaged(&store, plan.nth, kind, originals);
    sim_plan_set(store.disk, plan);
    storm_status status = try_repair(&store, &reports, &result);
    bool has_fired = sim_plan_fired(store.disk);
    sim_plan_set(store.disk, (struct sim_plan){0});
    check_originals(&store, originals, count, "fault", plan.nth);
    /* A read that fails is damage, which costs; anything else is a failure, which costs nothing. */
    bool is_costly = plan.call == SIM_READ || plan.call == SIM_OPEN || plan.call == SIM_SIZE;
    if (status != STORM_OK) {
        assert_true(has_fired);
        assert_true(store.error.message[0] != '\0');
        repair(&store, &reports, &result);
        is_costly = false;
    }
    unsigned old = check_repaired(&store, NULL, "fault");
    if (!is_costly && old != expected)
        fail_msg("fault %d.%llu: %u keys are old, not %u", (int)plan.call,
                 (unsigned long long)plan.nth, old, expected);
    check_originals(&store, originals, count, "fault, opened", plan.nth);
    store_fini(&store);
    return has_fired;
}

static void any_call_may_fail(void **state)
{
    static const enum sim_call calls[] = {SIM_OPEN,     SIM_READ,  SIM_WRITE,  SIM_SYNC,
                                          SIM_RENAME,   SIM_LINK,  SIM_UNLINK, SIM_LIST,
                                          SIM_SYNC_DIR, SIM_MKDIR, SIM_LOCK,   SIM_SIZE};
    uint64_t points = 0;
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        unsigned expected = expected_old(kind);
        for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
            for (int for_ever = 0; for_ever < 2; for_ever++) {
                struct sim_plan plan = {
                    .call = calls[c], .nth = 1, .status = STORM_IO, .for_ever = for_ever != 0};
                if (for_ever != 0 && calls[c] == SIM_READ)
                    continue;
                while (survive_fault(plan, kind, expected)) {
                    plan.nth += STRIDE;
                    points++;
                }
            }
        }
    }
    print_message("%llu failures survived\n", (unsigned long long)points);
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 3; kind += 2) {
        unsigned expected = expected_old(kind);
        uint64_t failures = 1;
        for (uint64_t nth = 1; failures != 0; nth += STRIDE) {
            struct store store;
            struct reports reports;
            struct storm_repair_result result;
            struct original originals[64];
            size_t count = make_damaged(&store, nth, kind, originals);
            alloc_fail_at(nth, false);
            storm_status status = try_repair(&store, &reports, &result);
            failures = alloc_failures();
            alloc_fail_at(0, false);
            assert_true(status == STORM_OK || (failures != 0 && status == STORM_NO_MEMORY));
            if (status != STORM_OK)
                repair(&store, &reports, &result);
            check_originals(&store, originals, count, "no memory", nth);
            assert_int_equal(check_repaired(&store, NULL, "no memory"), expected);
            store_fini(&store);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_store_stays_as_it_is),
        cmocka_unit_test(without_current_or_manifest_nothing_is_lost),
        cmocka_unit_test(a_missing_table_costs_its_own_keys_only),
        cmocka_unit_test(one_wrong_byte_costs_no_more_than_its_block_or_record),
        cmocka_unit_test(what_could_be_read_before_is_the_same_afterwards),
        cmocka_unit_test(cut_tables_give_what_stands_before_the_cut),
        cmocka_unit_test(blocks_are_found_without_an_index),
        cmocka_unit_test(foreign_files_and_leftovers_do_not_matter),
        cmocka_unit_test(an_open_store_is_not_repaired),
        cmocka_unit_test(an_old_manifest_does_not_hide_newer_tables),
        cmocka_unit_test(inputs_that_a_compaction_left_behind_bring_nothing_back),
        cmocka_unit_test(a_bad_record_in_the_middle_costs_that_record),
        cmocka_unit_test(old_records_do_not_cover_newer_tables),
        cmocka_unit_test(a_torn_tail_that_was_dropped_stays_dropped),
        cmocka_unit_test(segments_are_read_one_by_one),
        cmocka_unit_test(range_deletes_stay_in_force),
        cmocka_unit_test(after_a_power_cut_anywhere_it_is_repaired_again),
        cmocka_unit_test(any_call_may_fail),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    const char *only = getenv("TEST_ONLY");
    if (only != NULL)
        cmocka_set_test_filter(only);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
