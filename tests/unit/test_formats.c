/*
 * The promise about versions: a release reads what every release before it wrote, refuses what a
 * newer one wrote by file name and number, and changes nothing of it.
 *
 * golden/store-v1-CODEC/ are whole stores in format version 1, with a log that was not flushed. Its
 * trailing zeroes are left out of the tree and put back here. With GOLDEN_WRITE in the environment
 * they are written anew: only ever for a new format version, beside the old ones.
 */
#include "reports.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "lsm/table/codec.h"
#include "lsm/table/format.h"
#include "util/coding.h"
#include "util/crc32c.h"

enum { KEYS = 60, SEGMENT_BYTES = 1 << 20, ROOM = SEGMENT_BYTES + 4096 };

#define EXPIRES_MS UINT64_C(4102444800000) /* the year 2100 */

/* ---- What is in a golden store ---- */

static struct storm_slice key_of(unsigned k, char *room)
{
    int size = snprintf(room, 32, "golden/%c%03u", '\0' + (int)(k % 3), k);
    return storm_bytes(room, (size_t)size);
}

static struct storm_slice value_of(unsigned k, unsigned round, char *room)
{
    int size = snprintf(room, 4096, "{\"key\":%u,\"round\":%u,\"text\":\"%0*u\"}", k, round,
                        k % 20 == 3 ? 3000 : (int)(k % 40), k);
    return storm_bytes(room, k % 20 == 7 ? 0 : (size_t)size);
}

/* Rounds: 0 all keys; 1 every second; 2 every third, in the log. What round wrote a key last? */
static int last_round(unsigned k)
{
    return k % 3 == 0 ? 2 : k % 2 == 0 ? 1 : 0;
}

static bool is_deleted(unsigned k, int round)
{
    return (round == 1 && k % 5 == 0) || (round == 2 && k % 7 == 0);
}

static struct storm_op op_of(unsigned k, int round, char *key, char *value)
{
    struct storm_op op = {.kind = STORM_PUT, .key = key_of(k, key)};
    if (is_deleted(k, round)) {
        op.kind = STORM_DELETE;
        return op;
    }
    op.value = value_of(k, (unsigned)round, value);
    if (k % 4 == 1)
        op.meta.type = storm_text("application/json");
    if (k % 8 >= 4)
        op.meta.expires_ms = EXPIRES_MS;
    if (k % 16 >= 8)
        op.meta.modified_ms = 1700000000000 + k;
    return op;
}

/* Three keys a batch. */
static void write_round(struct store *store, int round)
{
    char key[32], value[4096];
    storm_batch *batch = storm_batch_create();
    for (unsigned k = 0; k < KEYS; k++) {
        struct storm_op op = op_of(k, round, key, value);
        if (round == 0 || (round == 1 && k % 2 == 0) || (round == 2 && k % 3 == 0))
            assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
        if (storm_batch_count(batch) == 3 || (k == KEYS - 1 && storm_batch_count(batch) != 0)) {
            assert_int_equal(storm_write(store->db, batch, NULL, NULL), STORM_OK);
            storm_batch_clear(batch);
        }
    }
    storm_batch_destroy(batch);
}

static void check_contents(storm_db *db)
{
    char key[32], bytes[4096];
    for (unsigned k = 0; k < KEYS; k++) {
        struct storm_value value;
        int round = last_round(k);
        struct storm_op op = op_of(k, round, key, bytes);
        storm_status status = storm_get(db, NULL, op.key, &value);
        assert_int_equal(status, is_deleted(k, round) ? STORM_NOT_FOUND : STORM_OK);
        if (status == STORM_OK) {
            assert_int_equal(value.bytes.size, op.value.size);
            assert_memory_equal(value.bytes.data, op.value.data, op.value.size);
            assert_int_equal(value.meta.expires_ms, op.meta.expires_ms);
            assert_int_equal(value.meta.modified_ms, op.meta.modified_ms);
            assert_int_equal(value.meta.type.size, op.meta.type.size);
        }
        storm_value_release(&value);
    }
}

/* ---- Stores in the tree ---- */

static const char *golden_dir(unsigned codec, char path[1000])
{
    snprintf(path, 900, "%s", __FILE__);
    char *name = strrchr(path, '/') + 1;
    snprintf(name, 1000 - (size_t)(name - path), "golden/store-v1-%s", sdb_codec_name(codec));
    return path;
}

static void init(struct store *store, unsigned codec)
{
    store_init(store, 1);
    store->tuning = &tuning_by_hand;
    store->options.codec = (enum storm_codec)codec;
    store->options.block_bytes = 1024;
}

static size_t read_sim(struct store *store, const char *path, uint8_t *data)
{
    struct sdb_file *file;
    size_t size;
    assert_int_equal(sdb_open(&store->os, path, SDB_OPEN_READ, &file), STORM_OK);
    assert_int_equal(sdb_pread(file, 0, data, ROOM, &size), STORM_OK);
    sdb_close(file);
    return size;
}

/* Make the store and write its files into the tree. */
static void write_golden(unsigned codec)
{
    static uint8_t data[ROOM];
    struct store store;
    struct file_names files;
    char dir[1000], path[1200];
    init(&store, codec);
    store_open(&store);
    write_round(&store, 0);
    assert_int_equal(storm_compact(store.db, storm_text(""), storm_text(""), NULL, NULL), STORM_OK);
    write_round(&store, 1);
    assert_int_equal(storm_flush(store.db, NULL), STORM_OK);
    write_round(&store, 2);
    sim_cut_at(store.disk, 1); /* killed: the log has no end mark */
    store_drop(&store);
    sim_reboot(store.disk, SIM_KEEP_ALL);
    (void)mkdir(golden_dir(codec, dir), 0755);
    list_files(store.disk, "/db", &files);
    for (size_t i = 0; i < files.count; i++) {
        if (strcmp(files.names[i], "LOCK") == 0)
            continue;
        snprintf(path, sizeof path, "/db/%s", files.names[i]);
        size_t size = read_sim(&store, path, data);
        while (strstr(path, ".log") != NULL && size > 0 && data[size - 1] == 0)
            size--;
        snprintf(path, sizeof path, "%s/%s", dir, files.names[i]);
        FILE *out = fopen(path, "wb");
        assert_non_null(out);
        assert_int_equal(fwrite(data, 1, size, out), size);
        assert_int_equal(fclose(out), 0);
    }
    store_fini(&store);
}

/* The golden store on a simulated disk, in /db, not open. */
static void load_golden(struct store *store, unsigned codec)
{
    static uint8_t data[ROOM];
    char dir[1000], path[1300];
    unsigned files = 0;
    if (getenv("GOLDEN_WRITE") != NULL)
        write_golden(codec);
    init(store, codec);
    assert_int_equal(sdb_mkdir(&store->os, "/db"), STORM_OK);
    DIR *listing = opendir(golden_dir(codec, dir));
    assert_non_null(listing);
    for (const struct dirent *entry; (entry = readdir(listing)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        FILE *in = fopen(path, "rb");
        assert_non_null(in);
        size_t size = fread(data, 1, sizeof data, in);
        fclose(in);
        snprintf(path, sizeof path, "/db/%s", entry->d_name);
        assert_int_equal(sim_write_file(store->disk, path, data, size), STORM_OK);
        if (strstr(path, ".log") != NULL)
            assert_int_equal(sim_resize(store->disk, path, SEGMENT_BYTES), STORM_OK);
        files++;
    }
    closedir(listing);
    assert_true(files >= 5); /* CURRENT, a manifest, two tables, a log */
}

/* ---- A directory as it was ---- */

struct image {
    struct file_names files;
    uint32_t crcs[200];
};

static void take_image(struct store *store, struct image *image)
{
    static uint8_t data[ROOM];
    char path[80];
    list_files(store->disk, "/db", &image->files);
    for (size_t i = 0; i < image->files.count; i++) {
        snprintf(path, sizeof path, "/db/%s", image->files.names[i]);
        size_t size = read_sim(store, path, data);
        image->crcs[i] = sdb_crc32c((uint32_t)size, data, size);
    }
}

static void assert_unchanged(struct store *store, const struct image *before)
{
    struct image now;
    size_t extra = 0;
    take_image(store, &now);
    for (size_t i = 0; i < now.files.count; i++) {
        bool is_same = false;
        for (size_t k = 0; k < before->files.count; k++)
            is_same = is_same || (strcmp(before->files.names[k], now.files.names[i]) == 0 &&
                                  before->crcs[k] == now.crcs[i]);
        /* The lock's file is not part of the store, and says so itself. */
        bool is_lock = strcmp(now.files.names[i], "LOCK") == 0;
        if (!is_same && !is_lock)
            fail_msg("%s was changed or made", now.files.names[i]);
        extra += is_lock && !is_same;
    }
    assert_int_equal(now.files.count, before->files.count + extra);
}

/* ---- Tests ---- */

static void golden_stores_of_version_1_are_read_in_every_codec(void **state)
{
    (void)state;
    for (unsigned codec = 0; codec <= STORM_CODEC_ZSTD; codec++) {
        struct store store;
        struct image image;
        struct storm_verify_result result;
        load_golden(&store, codec);
        take_image(&store, &image);
        store.options.read_only = true;
        store_open(&store);
        check_contents(store.db);
        assert_int_equal(storm_verify(store.db, NULL, NULL, NULL, &result), STORM_OK);
        assert_true(result.tables >= 2);
        store_close(&store);
        assert_unchanged(&store, &image);
        /* And it lives on. */
        store.options.read_only = false;
        store_open(&store);
        check_contents(store.db);
        assert_int_equal(put_text(store.db, "more", "of it"), STORM_OK);
        assert_int_equal(storm_compact(store.db, storm_text(""), storm_text(""), NULL, NULL),
                         STORM_OK);
        store_close(&store);
        store_open(&store);
        check_contents(store.db);
        assert_string_equal(get_text(store.db, NULL, "more"), "of it");
        store_fini(&store);
    }
}

static void golden_stores_are_repaired_to_the_same(void **state)
{
    (void)state;
    for (unsigned codec = 0; codec <= STORM_CODEC_ZSTD; codec++) {
        struct store store;
        struct storm_repair_result result = {0};
        load_golden(&store, codec);
        assert_int_equal(sim_remove(store.disk, "/db/CURRENT"), STORM_OK);
        assert_int_equal(sdb_lsm_repair_on(&store.os, "/db", NULL, NULL, &result, NULL), STORM_OK);
        store_open(&store);
        check_contents(store.db);
        store_fini(&store);
    }
}

/* Change a file in place: `patch` gets all of it. */
static void patch_file(struct store *store, const char *part, char name[64],
                       void (*patch)(uint8_t *data, size_t size, uint64_t number))
{
    static uint8_t data[ROOM];
    struct file_names files;
    char path[80];
    list_files(store->disk, "/db", &files);
    for (size_t i = 0; i < files.count; i++) {
        if (strstr(files.names[i], part) == NULL)
            continue;
        snprintf(name, 64, "%s", files.names[i]);
        snprintf(path, sizeof path, "/db/%s", name);
        size_t size = read_sim(store, path, data);
        patch(data, size, strtoull(name, NULL, 10));
        assert_int_equal(sim_write_file(store->disk, path, data, size), STORM_OK);
        return;
    }
    fail_msg("no file %s", part);
}

static void raise_manifest(uint8_t *data, size_t size, uint64_t number)
{
    (void)size;
    (void)number;
    sdb_put_u32(data + 8, 2);
    sdb_put_u32(data + 32, sdb_crc32c(0, data, 32));
}

static void raise_log(uint8_t *data, size_t size, uint64_t number)
{
    (void)size;
    (void)number;
    sdb_put_u32(data + 8, 2);
    sdb_put_u32(data + 12, sdb_crc32c(sdb_crc32c(0, data, 12), data + 16, 4096 - 16));
}

static void raise_table(uint8_t *data, size_t size, uint64_t number)
{
    uint8_t *footer = data + size - SDB_FOOTER_SIZE;
    (void)number;
    sdb_put_u32(footer + SDB_FOOTER_VERSION, 2);
    sdb_put_u32(footer + SDB_FOOTER_CRC, sdb_crc32c(0, footer, SDB_FOOTER_CRC));
}

static void a_newer_store_is_refused_by_name_and_number_and_left_as_it_is(void **state)
{
    static const struct {
        const char *part;
        void (*patch)(uint8_t *data, size_t size, uint64_t number);
    } kinds[] = {{"MANIFEST", raise_manifest}, {".sst", raise_table}, {".log", raise_log}};
    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        for (int read_only = 0; read_only < 2; read_only++) {
            struct store store;
            struct image image;
            struct storm_repair_result result = {0};
            char name[64];
            load_golden(&store, STORM_CODEC_DEFLATE);
            patch_file(&store, kinds[i].part, name, kinds[i].patch);
            take_image(&store, &image);
            store.options.read_only = read_only != 0;
            assert_int_equal(store_try_open(&store), STORM_NEWER_FORMAT);
            if (strstr(store.error.message, name) == NULL ||
                strstr(store.error.message, " 2") == NULL ||
                strstr(store.error.message, " 1") == NULL)
                fail_msg("'%s' does not name %s and both versions", store.error.message, name);
            assert_unchanged(&store, &image);
            /* Repair does not take it for damage. */
            assert_int_equal(sdb_lsm_repair_on(&store.os, "/db", NULL, NULL, &result, &store.error),
                             STORM_NEWER_FORMAT);
            assert_non_null(strstr(store.error.message, name));
            assert_unchanged(&store, &image);
            store_fini(&store);
        }
    }
}

/* The first block in a codec that nobody has heard of, under a right checksum. */
static void change_codec(uint8_t *data, size_t size, uint64_t number)
{
    (void)size;
    for (size_t end = 0; end < size - SDB_TRAILER_SIZE; end++) {
        uint32_t crc = sdb_crc32c(0, data, end + 1) ^ sdb_block_mask(number, 0);
        if (crc != sdb_get_u32(data + end + 1))
            continue;
        data[end] = 9;
        sdb_put_u32(data + end + 1, sdb_crc32c(0, data, end + 1) ^ sdb_block_mask(number, 0));
        return;
    }
    fail_msg("no block at 0");
}

static void a_codec_that_is_missing_is_named_and_nothing_is_lost_to_it(void **state)
{
    struct store store;
    struct image image;
    struct reports reports = {.count = 0};
    struct storm_repair_result result = {0};
    char name[64], text[256];
    (void)state;
    load_golden(&store, STORM_CODEC_DEFLATE);
    patch_file(&store, ".sst", name, change_codec);
    take_image(&store, &image);
    store.options.read_only = true;
    store_open(&store);
    storm_iter *iter;
    assert_int_equal(storm_iter_create(store.db, NULL, &iter), STORM_OK);
    storm_iter_first(iter);
    while (storm_iter_valid(iter))
        storm_iter_next(iter);
    assert_int_equal(storm_iter_status(iter), STORM_UNSUPPORTED);
    storm_iter_destroy(iter);
    storm_last_error(store.db, text, sizeof text);
    assert_non_null(strstr(text, name));
    assert_non_null(strstr(text, "codec 9"));
    assert_int_equal(storm_verify(store.db, NULL, collect_report, &reports, NULL), STORM_CORRUPT);
    assert_int_equal(reports.statuses[find_report(&reports, name, "codec 9")], STORM_UNSUPPORTED);
    store_close(&store);
    assert_int_equal(sdb_lsm_repair_on(&store.os, "/db", NULL, NULL, &result, &store.error),
                     STORM_UNSUPPORTED);
    assert_non_null(strstr(store.error.message, "codec 9"));
    assert_unchanged(&store, &image);
    store_fini(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_stores_of_version_1_are_read_in_every_codec),
        cmocka_unit_test(golden_stores_are_repaired_to_the_same),
        cmocka_unit_test(a_newer_store_is_refused_by_name_and_number_and_left_as_it_is),
        cmocka_unit_test(a_codec_that_is_missing_is_named_and_nothing_is_lost_to_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
