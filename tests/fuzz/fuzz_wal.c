/*
 * Any bytes as a log segment: reading them must not crash, and whatever was accepted must be
 * stable.
 *
 * Input: one byte of mode, then the segment. Mode bit 0: a whole header is put before the bytes
 * (else they are the file from offset 0 on). Bit 1: checksums are made right along the records, so
 * that what lies behind them is reached. Bits 2 and 3: where to flip a bit after that, to make bad
 * records in good company.
 *
 * Checked: what repair reads comes in order, and is all that replay reads; replay and open agree;
 * an append after the open is what the next replay ends with; a tail shows what was replayed, or
 * says that it cannot.
 */
#include <stdlib.h>

#include "lsm/wal/format.h"
#include "lsm/wal/tail.h"
#include "lsm/wal/wal.h"
#include "os/sim.h"
#include "util/coding.h"
#include "util/crc32c.h"

enum { MODE_HEADER = 1, MODE_CHECKSUMS = 2, MODE_FLIP = 12, FILE_MAX = 64 * 1024 };

static const uint64_t store_id = 77;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool is_right)
{
    if (!is_right)
        abort();
}

static storm_status add_up(void *ctx, uint64_t revision, struct storm_slice ops)
{
    uint64_t *sum = ctx;

    *sum = *sum * 31 + revision;
    for (size_t i = 0; i < ops.size; i++)
        *sum += ops.data[i];
    return STORM_OK;
}

static uint64_t give_number(void *ctx)
{
    return ++*(uint64_t *)ctx;
}

/* Both checksums of each record, as far as the lengths lead. */
static void make_right(uint8_t *file, size_t size)
{
    uint32_t seed = sdb_wal_record_seed(store_id, 1);
    size_t at = SDB_WAL_HEADER;

    while (at + SDB_WAL_RECORD <= size) {
        struct sdb_wal_record record;
        size_t padded;

        (void)sdb_wal_record_decode(file + at, seed, at, &record);
        if (record.length > size)
            return;
        padded = (size_t)sdb_wal_padded(record.length);
        sdb_wal_record_encode(file + at, &record, seed, at);
        if (padded > size - at - SDB_WAL_RECORD)
            return;
        sdb_put_u32(file + at, sdb_crc32c(record.header_crc, file + at + SDB_WAL_RECORD, padded));
        at += SDB_WAL_RECORD + padded;
    }
}

/* The file that the input describes; its size. */
static size_t build(uint8_t *file, const uint8_t *data, size_t size)
{
    struct sdb_wal_header header = {.store_id = store_id, .number = 1, .epoch = 1};
    uint8_t mode = data[0];
    size_t from = 0;

    if (mode & MODE_HEADER) {
        sdb_wal_header_encode(file, &header);
        from = SDB_WAL_HEADER;
    }
    size = size - 1 < FILE_MAX - from ? size - 1 : FILE_MAX - from;
    memcpy(file + from, data + 1, size);
    size += from;
    if (mode & MODE_CHECKSUMS)
        make_right(file, size);
    if ((mode & MODE_FLIP) != 0 && size > SDB_WAL_HEADER) {
        size_t places = size - SDB_WAL_HEADER;
        file[SDB_WAL_HEADER + places * (mode >> 2 & 3) / 4] ^= (uint8_t)(1 << (mode >> 4 & 7));
    }
    return size;
}

/* Add up all that a tail shows. Whatever replay took apart it must be able to. */
static storm_status follow(struct sdb_wal_history *history, uint64_t *sum)
{
    uint64_t next = sdb_wal_history_end(history).revision;
    struct sdb_wal_batches batches;
    struct sdb_wal_tail tail;
    storm_status status = STORM_OK;

    sdb_wal_tail_init(&tail, history, sdb_wal_history_oldest(history), NULL);
    while (tail.next < next && status == STORM_OK) {
        status = sdb_wal_tail_record(&tail, &batches);
        struct sdb_cursor cursor = sdb_cursor(batches.payload);
        for (uint32_t i = 0; status == STORM_OK && i < batches.count; i++) {
            struct storm_slice ops = {0};
            uint32_t size;
            check(sdb_read_u32(&cursor, &size) && sdb_read_bytes(&cursor, size, &ops));
            (void)add_up(sum, batches.first_revision + i, ops);
        }
    }
    if (status == STORM_CORRUPT) /* revisions that leave a gap, which replay allows */
        check(sdb_wal_tail_record(&tail, &batches) == STORM_GONE);
    sdb_wal_tail_fini(&tail);
    return status;
}

struct found {
    uint64_t batches, revision;
};

static storm_status take_salvaged(void *ctx, uint64_t revision, struct storm_slice ops)
{
    struct found *found = ctx;

    (void)ops;
    check(revision > found->revision);
    found->revision = revision;
    found->batches++;
    return STORM_OK;
}

static storm_status end_segment(void *ctx, uint64_t number, uint64_t records)
{
    (void)ctx;
    (void)number;
    (void)records;
    return STORM_OK;
}

static void pass_by(void *ctx, storm_status status)
{
    (void)ctx;
    (void)status;
}

static void salvage_all(struct sdb_os *os)
{
    struct sdb_wal_options options = {
        .os = os, .dir = "db", .store_id = store_id, .epoch = 1 << 30, .segment_bytes = FILE_MAX};
    struct found found = {0};
    struct sdb_wal_salvage salvage = {.os = os,
                                      .dir = "db",
                                      .store_id = store_id,
                                      .each = take_salvaged,
                                      .segment = end_segment,
                                      .problem = pass_by,
                                      .ctx = &found};
    struct sdb_wal_report report;
    uint64_t replayed = 0;
    storm_status status = sdb_wal_salvage(&salvage);

    check(status == STORM_OK || status == STORM_NEWER_FORMAT);
    if (status == STORM_OK && sdb_wal_replay(&options, 1, add_up, &replayed, &report) == STORM_OK)
        check(found.batches >= report.batches);
}

static void read_and_go_on(struct sdb_os *os)
{
    struct sdb_wal_options options = {
        .os = os, .dir = "db", .store_id = store_id, .epoch = 1 << 30, .segment_bytes = FILE_MAX};
    struct sdb_wal_report report, again;
    struct storm_slice batch = storm_text("one more");
    uint64_t replayed = 0, opened = 0, followed = 0, number = 1;
    struct sdb_wal *wal;
    storm_status replay, status;

    replay = sdb_wal_replay(&options, 1, add_up, &replayed, &report);
    status = sdb_wal_open(&options, 1, add_up, &opened, give_number, &number, &wal, &again);
    check(replay == status || status == STORM_CORRUPT); /* open is stricter about epochs */
    if (status != STORM_OK)
        return;
    check(replayed == opened && report.batches == again.batches &&
          report.torn_bytes == again.torn_bytes);
    status = follow(sdb_wal_history(wal), &followed);
    check(status == STORM_OK ? followed == opened : status == STORM_CORRUPT);
    if (again.last_revision < UINT64_MAX / 2 &&
        sdb_wal_append(wal, UINT64_MAX / 2 + 1, &batch, 1) == STORM_OK) {
        sdb_wal_close(wal);
        options.epoch++;
        check(sdb_wal_open(&options, 1, add_up, &opened, give_number, &number, &wal, &report) ==
              STORM_OK);
        check(report.batches == again.batches + 1 && report.last_revision == UINT64_MAX / 2 + 1);
    }
    sdb_wal_close(wal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[FILE_MAX];
    struct sdb_errors errors;
    struct sim_disk *disk;
    struct sdb_os os;

    if (size == 0)
        return 0;
    memset(file, 0, sizeof(file));
    size = build(file, data, size);
    disk = sim_disk_create(1);
    sdb_errors_init(&errors, NULL, NULL);
    sim_os_init(&os, disk, &errors);
    check(sdb_mkdir(&os, "db") == STORM_OK);
    check(sim_write_file(disk, "db/0000000001.log", file, size) == STORM_OK);
    salvage_all(&os);
    read_and_go_on(&os);
    sim_disk_destroy(disk);
    sdb_errors_fini(&errors);
    return 0;
}
