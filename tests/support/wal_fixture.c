/*
 * The model behind wal_fixture.h. See there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "random.h"
#include "util/coding.h"
#include "wal_fixture.h"

static const char fixture_dir[] = "db";

/* Bytes of the batch of `revision` in append number `writer`: both numbers, then noise. */
static void fill(uint8_t *to, size_t size, uint64_t revision, uint32_t writer)
{
    uint64_t noise = revision << 32 ^ writer;
    size_t at = 8;

    sdb_put_u32(to, (uint32_t)revision);
    sdb_put_u32(to + 4, writer);
    for (; at + 8 <= size; at += 8)
        sdb_put_u64(to + at, random_u64(&noise));
    for (; at < size; at++)
        to[at] = (uint8_t)random_u64(&noise);
}

static uint64_t give_number(void *ctx)
{
    struct wal_fixture *f = ctx;
    return ++f->number;
}

struct wal_fixture *wal_fixture_create(uint64_t segment_bytes, uint64_t seed)
{
    struct wal_fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->disk = sim_disk_create(seed);
    assert_non_null(f->disk);
    sdb_errors_init(&f->errors, NULL, NULL);
    sim_os_init(&f->os, f->disk, &f->errors);
    assert_int_equal(sdb_mkdir(&f->os, fixture_dir), STORM_OK);
    assert_int_equal(sdb_sync_dir(&f->os, "."), STORM_OK);
    f->options = (struct sdb_wal_options){
        .os = &f->os,
        .dir = fixture_dir,
        .store_id = UINT64_C(0x1122334455667788),
        .segment_bytes = segment_bytes,
    };
    f->first_segment = 1;
    f->floor = 1;
    f->segment_floor = 1;
    return f;
}

void wal_fixture_destroy(struct wal_fixture *f)
{
    wal_fixture_close(f);
    sim_disk_destroy(f->disk);
    sdb_errors_fini(&f->errors);
    free(f);
}

void wal_fixture_close(struct wal_fixture *f)
{
    sdb_wal_close(f->wal);
    f->wal = NULL;
}

static storm_status check_batch(void *ctx, uint64_t revision, struct storm_slice ops)
{
    struct wal_fixture *f = ctx;
    uint64_t expected = f->replayed == 0 ? f->floor : f->replayed + 1;
    uint8_t *bytes;

    f->replayed = revision;
    if (revision != expected || revision > f->appended || ops.size != f->size[revision]) {
        f->is_wrong = true;
        return STORM_OK;
    }
    bytes = malloc(ops.size);
    if (bytes == NULL)
        return STORM_NO_MEMORY;
    fill(bytes, ops.size, revision, f->writer[revision]);
    if (memcmp(bytes, ops.data, ops.size) != 0)
        f->is_wrong = true;
    free(bytes);
    return STORM_OK;
}

static void begin_replay(struct wal_fixture *f)
{
    f->replayed = 0;
    f->is_wrong = false;
}

storm_status wal_fixture_open(struct wal_fixture *f)
{
    storm_status status;

    begin_replay(f);
    f->options.epoch++;
    status = sdb_wal_open(&f->options, f->first_segment, check_batch, f, give_number, f, &f->wal,
                          &f->report);
    assert_false(f->is_wrong);
    if (status != STORM_OK) {
        assert_null(f->wal);
        return status;
    }
    if (f->replayed == 0)
        f->replayed = f->floor - 1;
    assert_true(f->report.last_revision == 0 || f->report.last_revision == f->replayed);
    return status;
}

void wal_fixture_accept(struct wal_fixture *f, uint64_t last)
{
    f->appended = last;
    f->synced = last;
}

storm_status wal_fixture_try_reopen(struct wal_fixture *f)
{
    storm_status status;

    wal_fixture_close(f);
    status = wal_fixture_open(f);
    if (status != STORM_OK)
        return status;
    if (f->replayed < f->synced)
        fail_msg("revisions to %d were synced, %d came back", (int)f->synced, (int)f->replayed);
    assert_true(f->replayed <= f->appended);
    /* What was replayed is durable from here on, and what was not is gone for good. */
    wal_fixture_accept(f, f->replayed);
    if (sdb_wal_segment(f->wal) != f->segment) {
        f->segment = sdb_wal_segment(f->wal);
        f->segment_floor = f->appended + 1;
    }
    return STORM_OK;
}

void wal_fixture_reopen(struct wal_fixture *f)
{
    char text[SDB_ERROR_TEXT];

    if (wal_fixture_try_reopen(f) == STORM_OK)
        return;
    sdb_errors_newest(&f->errors, text, sizeof(text));
    fail_msg("open: %s", text);
}

storm_status wal_fixture_replay(struct wal_fixture *f)
{
    storm_status status;

    begin_replay(f);
    status = sdb_wal_replay(&f->options, f->first_segment, check_batch, f, &f->report);
    assert_false(f->is_wrong);
    return status;
}

storm_status wal_fixture_append(struct wal_fixture *f, size_t count, size_t size)
{
    uint8_t *bytes = malloc(count * size);
    struct storm_slice *batches = malloc(count * sizeof(*batches));
    storm_status status;

    if (bytes == NULL || batches == NULL) {
        free(bytes);
        free(batches);
        return STORM_NO_MEMORY;
    }
    f->appends++;
    assert_true(size >= 8 && f->appended + count < WAL_FIXTURE_REVISIONS);
    for (size_t i = 0; i < count; i++) {
        fill(bytes + i * size, size, f->appended + 1 + i, f->appends);
        batches[i] = storm_bytes(bytes + i * size, size);
    }
    status = sdb_wal_append(f->wal, f->appended + 1, batches, count);
    free(batches);
    free(bytes);
    /* A roll may have worked though the append behind it failed. */
    if (sdb_wal_segment(f->wal) != f->segment) {
        f->segment = sdb_wal_segment(f->wal);
        f->segment_floor = f->appended + 1;
    }
    if (status != STORM_OK)
        return status;
    for (size_t i = 0; i < count; i++) {
        f->appended++;
        f->writer[f->appended] = f->appends;
        f->size[f->appended] = size;
    }
    return STORM_OK;
}

storm_status wal_fixture_sync(struct wal_fixture *f)
{
    storm_status status = sdb_wal_sync(f->wal);

    if (status == STORM_OK)
        f->synced = f->appended;
    return status;
}

void wal_fixture_release(struct wal_fixture *f)
{
    f->first_segment = f->segment;
    f->floor = f->segment_floor;
    sdb_wal_release(f->wal, f->first_segment);
}

struct file_count {
    const char *suffix;
    size_t count;
};

static storm_status count_file(void *ctx, const char *name)
{
    struct file_count *counter = ctx;
    size_t length = strlen(name);
    size_t suffix = strlen(counter->suffix);

    if (length >= suffix && strcmp(name + length - suffix, counter->suffix) == 0)
        counter->count++;
    return STORM_OK;
}

size_t wal_fixture_files(struct wal_fixture *f, const char *suffix)
{
    struct file_count counter = {suffix, 0};

    assert_int_equal(sim_each_file(f->disk, fixture_dir, count_file, &counter), STORM_OK);
    return counter.count;
}

const char *wal_fixture_path(uint64_t number)
{
    static char path[64];
    char name[SDB_WAL_NAME];

    sdb_wal_name(name, number);
    (void)snprintf(path, sizeof(path), "%s/%s", fixture_dir, name);
    return path;
}

uint8_t *wal_fixture_read(struct wal_fixture *f, const char *path, size_t *size)
{
    struct sdb_file *file;
    uint64_t file_size;
    uint8_t *bytes;

    assert_int_equal(sim_file_size(f->disk, path, &file_size), STORM_OK);
    bytes = malloc((size_t)file_size + 1);
    assert_non_null(bytes);
    assert_int_equal(sdb_open(&f->os, path, SDB_OPEN_READ, &file), STORM_OK);
    assert_int_equal(sdb_pread(file, 0, bytes, (size_t)file_size, size), STORM_OK);
    sdb_close(file);
    return bytes;
}
