/*
 * Reading the log while it is written, below the engine: what happens when a segment is recycled in
 * the very moment of a read, and how files are shared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "lsm/wal/tail.h"
#include "os/sim.h"
#include "util/coding.h"

enum { SEGMENT = 16 << 10, BATCH = 1000 };

struct log {
    struct sim_disk *disk;
    struct sdb_errors errors;
    struct sdb_os os;
    struct sdb_wal_options options;
    struct sdb_wal *wal;
    uint64_t number, revision;
};

/* What happens just before the next read of a file. */
static void (*before_read)(struct log *log);
static struct log *the_log;
static storm_status (*sim_pread)(struct sdb_file *file, uint64_t offset, void *buffer, size_t size,
                                 size_t *got);

static storm_status hooked_pread(struct sdb_file *file, uint64_t offset, void *buffer, size_t size,
                                 size_t *got)
{
    void (*hook)(struct log * log) = before_read;
    before_read = NULL;
    if (hook != NULL)
        hook(the_log);
    return sim_pread(file, offset, buffer, size, got);
}

static uint64_t give_number(void *ctx)
{
    return ++((struct log *)ctx)->number;
}

static storm_status pass_by(void *ctx, uint64_t revision, struct storm_slice ops)
{
    (void)ops;
    ((struct log *)ctx)->revision = revision;
    return STORM_OK;
}

static void log_open(struct log *log, uint64_t retention_bytes)
{
    struct sdb_wal_report report;

    *log = (struct log){.disk = sim_disk_create(1)};
    sdb_errors_init(&log->errors, NULL, NULL);
    sim_os_init(&log->os, log->disk, &log->errors);
    struct sdb_os_ops *ops = (struct sdb_os_ops *)(uintptr_t)log->os.ops; /* the disk's own copy */
    sim_pread = ops->pread;
    ops->pread = hooked_pread;
    the_log = log;
    assert_int_equal(sdb_mkdir(&log->os, "db"), STORM_OK);
    log->options = (struct sdb_wal_options){.os = &log->os,
                                            .dir = "db",
                                            .store_id = 9,
                                            .epoch = 1,
                                            .segment_bytes = SEGMENT,
                                            .retention_bytes = retention_bytes};
    assert_int_equal(
        sdb_wal_open(&log->options, 1, pass_by, log, give_number, log, &log->wal, &report),
        STORM_OK);
}

static void log_close(struct log *log)
{
    sdb_wal_close(log->wal);
    sim_disk_destroy(log->disk);
    sdb_errors_fini(&log->errors);
}

/* Batches say their revision over and over. */
static void append(struct log *log, uint64_t count)
{
    uint8_t bytes[BATCH];
    for (uint64_t i = 0; i < count; i++) {
        struct storm_slice batch = storm_bytes(bytes, sizeof bytes);
        log->revision++;
        for (size_t at = 0; at < sizeof bytes; at += 8)
            sdb_put_u64(bytes + at, log->revision);
        assert_int_equal(sdb_wal_append(log->wal, log->revision, &batch, 1), STORM_OK);
        sdb_wal_publish(log->wal);
    }
}

static void release_all(struct log *log)
{
    sdb_wal_release(log->wal, sdb_wal_segment(log->wal));
}

static void expect(struct sdb_wal_tail *tail, uint64_t revision)
{
    struct sdb_wal_batches batches;
    assert_int_equal(sdb_wal_tail_record(tail, &batches), STORM_OK);
    assert_int_equal(batches.first_revision, revision);
    assert_int_equal(batches.count, 1);
    assert_int_equal(batches.payload.size, 4 + BATCH);
    for (size_t at = 0; at < BATCH; at += 8)
        assert_int_equal(sdb_get_u64(batches.payload.data + 4 + at), revision);
}

/* Release everything, and write until the files have been used again. */
static void recycle(struct log *log)
{
    for (int i = 0; i < 6; i++) {
        append(log, SEGMENT / BATCH);
        release_all(log);
    }
}

static void a_segment_recycled_in_the_moment_of_a_read_is_gone(void **state)
{
    struct sdb_wal_batches batches;
    struct sdb_wal_tail tail;
    struct log log;
    (void)state;
    log_open(&log, 0);
    append(&log, 40);
    sdb_wal_tail_init(&tail, sdb_wal_history(log.wal), 5, NULL);
    expect(&tail, 5);
    sdb_wal_tail_rest(&tail); /* the file stays open */
    before_read = recycle;
    assert_int_equal(sdb_wal_tail_record(&tail, &batches), STORM_GONE);
    assert_null(before_read);
    assert_int_equal(sdb_wal_tail_record(&tail, &batches), STORM_GONE);
    uint64_t errors, corruptions;
    sdb_errors_count(&log.errors, &errors, &corruptions);
    assert_int_equal(corruptions, 0);
    sdb_wal_tail_fini(&tail);
    log_close(&log);
}

static void what_is_in_the_buffer_is_shown_whatever_becomes_of_the_file(void **state)
{
    struct sdb_wal_batches batches;
    struct sdb_wal_tail tail;
    struct log log;
    (void)state;
    log_open(&log, 0);
    append(&log, 40);
    sdb_wal_tail_init(&tail, sdb_wal_history(log.wal), 1, NULL);
    expect(&tail, 1);
    recycle(&log);
    uint64_t next = 2;
    while (tail.place.offset - tail.base < tail.have)
        expect(&tail, next++);
    assert_true(next > 8);
    assert_int_equal(sdb_wal_tail_record(&tail, &batches), STORM_GONE);
    sdb_wal_tail_fini(&tail);
    log_close(&log);
}

static void tails_in_one_segment_share_its_file(void **state)
{
    enum { TAILS = 50 };
    struct sdb_wal_tail tails[TAILS];
    struct log log;
    (void)state;
    log_open(&log, 1 << 20);
    append(&log, 40);
    uint64_t opens = sim_calls(log.disk, SIM_OPEN);
    for (size_t i = 0; i < TAILS; i++) {
        sdb_wal_tail_init(&tails[i], sdb_wal_history(log.wal), 1, NULL);
        for (uint64_t r = 1; r <= 40; r++)
            expect(&tails[i], r);
        sdb_wal_tail_rest(&tails[i]);
    }
    /* The first one opens all four; the others find the last one open. */
    uint64_t segments = sim_calls(log.disk, SIM_OPEN) - opens;
    append(&log, 1);
    opens = sim_calls(log.disk, SIM_OPEN);
    for (size_t i = 0; i < TAILS; i++)
        expect(&tails[i], 41);
    assert_int_equal(sim_calls(log.disk, SIM_OPEN), opens);
    assert_int_equal(segments, 3 * TAILS + 1);
    for (size_t i = 0; i < TAILS; i++)
        sdb_wal_tail_fini(&tails[i]);
    log_close(&log);
}

static void a_resting_tail_reads_only_what_is_new(void **state)
{
    struct sdb_wal_tail tail;
    struct log log;
    (void)state;
    log_open(&log, 0);
    append(&log, 3);
    struct sdb_wal_place end = sdb_wal_history_end(sdb_wal_history(log.wal));
    assert_int_equal(end.revision, 4);
    sdb_wal_tail_init(&tail, sdb_wal_history(log.wal), 4, &end);
    uint64_t reads = sim_calls(log.disk, SIM_READ);
    for (uint64_t r = 4; r <= 9; r++) {
        append(&log, 1);
        expect(&tail, r);
        assert_int_equal(tail.have, SDB_WAL_RECORD + 4 + BATCH + 4);
        sdb_wal_tail_rest(&tail);
    }
    assert_int_equal(sim_calls(log.disk, SIM_READ) - reads, 6);
    sdb_wal_tail_fini(&tail);
    log_close(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_recycled_in_the_moment_of_a_read_is_gone),
        cmocka_unit_test(what_is_in_the_buffer_is_shown_whatever_becomes_of_the_file),
        cmocka_unit_test(tails_in_one_segment_share_its_file),
        cmocka_unit_test(a_resting_tail_reads_only_what_is_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
