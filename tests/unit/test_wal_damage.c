/*
 * What the log says to files that were torn, rotten, swapped, foreign or missing.
 *
 * Permitted, exactly: damage to a record that the durable offset in a later record's intact header
 * covers, to any record in a segment that has a successor, and to the header of a segment with
 * records, is STORM_CORRUPT with file and offset. Damage to a record that no later header vouches
 * for ends the log there: that is the last synced record, or the last few when one damaged sector
 * has hit the end of one and the headers of all after it. Damage to bytes that belong to no record
 * changes nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <stdio.h>

#include "lsm/wal/format.h"
#include "util/coding.h"
#include "util/crc32c.h"
#include "wal_fixture.h"

enum { SEGMENT = 8192, RECORDS_MAX = 256 };

/* A log whose records and their places are known. */
struct mapped {
    struct wal_fixture *f;
    uint64_t segment[RECORDS_MAX]; /* record i has revision i + 1 */
    uint64_t from[RECORDS_MAX];
    uint64_t to[RECORDS_MAX];
    size_t count;
};

static void add(struct mapped *log, size_t size)
{
    struct wal_fixture *f = log->f;
    uint64_t before = f->segment;
    uint64_t from = log->count == 0 ? SDB_WAL_HEADER : log->to[log->count - 1];

    assert_true(log->count < RECORDS_MAX);
    assert_int_equal(wal_fixture_append(f, 1, size), STORM_OK);
    if (f->segment != before)
        from = SDB_WAL_HEADER;
    log->segment[log->count] = f->segment;
    log->from[log->count] = from;
    log->to[log->count++] = from + sdb_wal_record_size(SDB_WAL_LENGTH + size);
}

static void add_synced(struct mapped *log, size_t size)
{
    add(log, size);
    assert_int_equal(wal_fixture_sync(log->f), STORM_OK);
}

/* Three segments of synced records, closed. */
static struct mapped synced_log(uint64_t segment_bytes, size_t size)
{
    struct mapped log = {.f = wal_fixture_create(segment_bytes, 21)};

    wal_fixture_reopen(log.f);
    while (log.f->segment < 3)
        add_synced(&log, size);
    for (int i = 0; i < 3; i++)
        add_synced(&log, size);
    wal_fixture_close(log.f);
    return log;
}

/* The newest sentence names the segment's file and says `word`. */
static void assert_says(struct wal_fixture *f, uint64_t segment, const char *word)
{
    char text[SDB_ERROR_TEXT];

    sdb_errors_newest(&f->errors, text, sizeof(text));
    if (strstr(text, wal_fixture_path(segment)) == NULL || strstr(text, word) == NULL)
        fail_msg("segment %d, '%s': %s", (int)segment, word, text);
}

static void assert_offset(struct wal_fixture *f, uint64_t segment, uint64_t offset)
{
    char word[64];

    (void)snprintf(word, sizeof(word), "offset %d", (int)offset);
    assert_says(f, segment, word);
}

/* ---- Torn tails ------------------------------------------------------------------------------ */

static void a_tail_torn_at_any_byte_is_dropped_quietly(void **state)
{
    struct mapped log = {.f = wal_fixture_create(SEGMENT, 20)};
    const char *path = wal_fixture_path(1);
    uint8_t *bytes, *torn;
    size_t size;

    (void)state;
    wal_fixture_reopen(log.f);
    for (int i = 0; i < 3; i++)
        add_synced(&log, 100);
    add(&log, 101);
    wal_fixture_close(log.f);
    bytes = wal_fixture_read(log.f, path, &size);
    torn = malloc(size);
    assert_non_null(torn);
    for (uint64_t cut = log.from[3]; cut < log.to[3]; cut++) {
        uint64_t whole = log.to[3] - 7; /* padding: what is cut there was zero */
        for (int is_short = 0; is_short < 2; is_short++) {
            memcpy(torn, bytes, size);
            memset(torn + cut, 0, size - cut);
            assert_int_equal(sim_write_file(log.f->disk, path, torn, is_short ? cut : size), 0);
            wal_fixture_accept(log.f, 4);
            log.f->synced = 3;
            wal_fixture_reopen(log.f);
            if (is_short || memcmp(torn, bytes, size) != 0) {
                assert_int_equal(log.f->replayed, 3);
                assert_true(log.f->report.torn_bytes == 0 || cut >= log.from[3] + 28);
            } else {
                assert_true(cut >= whole);
            }
            /* The log goes on in the same place, unless the file ends there. */
            if (!is_short) {
                assert_int_equal(wal_fixture_append(log.f, 1, 60), STORM_OK);
                wal_fixture_reopen(log.f);
                assert_true(log.f->replayed == log.f->appended);
            }
            log.f->writer[4] = 4; /* as in `bytes` */
            log.f->size[4] = 101;
        }
    }
    free(torn);
    free(bytes);
    wal_fixture_destroy(log.f);
}

static void remains_of_a_torn_tail_never_come_back(void **state)
{
    (void)state;
    /* Records 2 to 6 are not synced; the first of them is torn, the others stand behind it whole.
     * The next open writes `again` records of the same length over them and is killed, and so
     * on. */
    for (int again = 0; again < 5; again++) {
        struct mapped log = {.f = wal_fixture_create(SEGMENT, 21)};

        wal_fixture_reopen(log.f);
        add_synced(&log, 100);
        for (int i = 0; i < 5; i++)
            add(&log, 100);
        wal_fixture_close(log.f);
        assert_int_equal(sim_flip(log.f->disk, wal_fixture_path(1), log.from[1] + 50, 4), 0);
        for (int round = 0; round < 3; round++) {
            wal_fixture_reopen(log.f);
            assert_int_equal(log.f->replayed, 1 + round * again);
            if (round * again < 4)
                assert_true(log.f->report.torn_bytes > 0 || again > 0);
            for (int i = 0; i < again && log.f->appended < 20; i++)
                assert_int_equal(wal_fixture_append(log.f, 1, 100), STORM_OK);
            if (round == 1)
                assert_int_equal(wal_fixture_sync(log.f), STORM_OK);
            wal_fixture_close(log.f);
            sim_reboot(log.f->disk, SIM_KEEP_ALL);
        }
        wal_fixture_destroy(log.f);
    }
}

static void what_a_torn_record_hides_is_counted(void **state)
{
    struct mapped log = {.f = wal_fixture_create(SEGMENT, 22)};

    (void)state;
    wal_fixture_reopen(log.f);
    add_synced(&log, 100);
    add(&log, 100);
    add(&log, 100);
    wal_fixture_close(log.f);
    assert_int_equal(sim_flip(log.f->disk, wal_fixture_path(1), log.from[1] + 9, 1), 0);
    assert_int_equal(wal_fixture_replay(log.f), STORM_OK);
    assert_int_equal(log.f->replayed, 1);
    assert_int_equal(log.f->report.torn_bytes, log.to[2] - log.from[1]);
    wal_fixture_destroy(log.f);
}

static void remains_of_an_earlier_open_are_not_counted_again(void **state)
{
    struct mapped log = {.f = wal_fixture_create(SEGMENT, 27)};

    (void)state;
    wal_fixture_reopen(log.f);
    for (int i = 0; i < 4; i++)
        add(&log, 100);
    wal_fixture_close(log.f);
    assert_int_equal(sim_flip(log.f->disk, wal_fixture_path(1), log.from[1] + 40, 1), 0);
    wal_fixture_reopen(log.f);
    assert_int_equal(log.f->report.torn_bytes, log.to[3] - log.from[1]);
    assert_int_equal(wal_fixture_append(log.f, 1, 100), STORM_OK);
    wal_fixture_reopen(log.f); /* two whole records of the first open lie behind the end */
    assert_int_equal(log.f->replayed, 2);
    assert_int_equal(log.f->report.torn_bytes, 0);
    wal_fixture_destroy(log.f);
}

/* ---- Rot ------------------------------------------------------------------------------------- */

/* Two places of `size` bytes that were changed; one where `a` is `b`. */
struct damage {
    uint64_t segment, a, b, size;
};

static bool is_hurt(const struct damage *damage, uint64_t from, uint64_t to)
{
    return (damage->a < to && damage->a + damage->size > from) ||
           (damage->b < to && damage->b + damage->size > from);
}

/* Replay a damaged log of which every record was synced before the next one was written. */
static void check_damaged(struct mapped *log, struct damage damage)
{
    size_t last = log->count - 1, first = log->count;
    bool is_vouched = damage.segment != log->segment[last];
    bool in_header = is_hurt(&damage, 0, SDB_WAL_HEADER);
    storm_status status = wal_fixture_replay(log->f);

    for (size_t i = log->count; i-- > 0;) {
        if (log->segment[i] == damage.segment && is_hurt(&damage, log->from[i], log->to[i]))
            first = i;
    }
    for (size_t i = first + 1; i <= last; i++) {
        if (!is_hurt(&damage, log->from[i], log->from[i] + SDB_WAL_RECORD))
            is_vouched = true;
    }
    if (in_header || (first <= last && is_vouched)) {
        if (status != STORM_CORRUPT)
            fail_msg("segment %d, bytes at %d and %d: status %d", (int)damage.segment,
                     (int)damage.a, (int)damage.b, status);
        assert_offset(log->f, damage.segment, in_header ? 0 : log->from[first]);
    } else {
        assert_int_equal(status, STORM_OK);
        assert_int_equal(log->f->replayed, first);
    }
}

static void a_flip_of_any_byte_is_an_error_or_ends_an_unvouched_log(void **state)
{
    struct mapped log = synced_log(SEGMENT, 700);

    (void)state;
    for (uint64_t segment = 1; segment <= 3; segment++) {
        for (uint64_t at = 0; at < SEGMENT; at++) {
            uint8_t mask = (uint8_t)(1u << at % 8);
            assert_int_equal(sim_flip(log.f->disk, wal_fixture_path(segment), at, mask), 0);
            check_damaged(&log, (struct damage){segment, at, at, 1});
            assert_int_equal(sim_flip(log.f->disk, wal_fixture_path(segment), at, mask), 0);
        }
    }
    assert_int_equal(wal_fixture_replay(log.f), STORM_OK);
    assert_int_equal(log.f->replayed, log.count);
    wal_fixture_destroy(log.f);
}

static void a_synced_record_is_vouched_for_by_the_next_one(void **state)
{
    /* Synced by sync, by a roll, by being replayed: then one more record that nobody synced. */
    (void)state;
    for (int how = 0; how < 3; how++) {
        struct mapped log = {.f = wal_fixture_create(SEGMENT, 23)};

        wal_fixture_reopen(log.f);
        add(&log, 300);
        add(&log, 300);
        if (how == 0)
            assert_int_equal(wal_fixture_sync(log.f), STORM_OK);
        if (how == 1)
            add(&log, 3700);
        if (how == 2)
            wal_fixture_reopen(log.f);
        add(&log, 300);
        wal_fixture_close(log.f);
        for (size_t i = 0; i + 1 < log.count; i++) {
            if (how == 1 && i == 2)
                continue; /* in the new segment, not synced */
            for (uint64_t at = log.from[i]; at < log.to[i]; at += 37) {
                const char *path = wal_fixture_path(log.segment[i]);
                assert_int_equal(sim_flip(log.f->disk, path, at, 16), 0);
                assert_int_equal(wal_fixture_replay(log.f), STORM_CORRUPT);
                assert_offset(log.f, log.segment[i], log.from[i]);
                assert_int_equal(sim_flip(log.f->disk, path, at, 16), 0);
            }
        }
        assert_int_equal(wal_fixture_replay(log.f), STORM_OK);
        wal_fixture_destroy(log.f);
    }
}

static void every_sync_moves_the_durable_offset(void **state)
{
    struct mapped log = {.f = wal_fixture_create(SEGMENT, 24)};
    uint8_t *bytes;
    size_t size;

    (void)state;
    wal_fixture_reopen(log.f);
    for (int i = 0; i < 12; i++)
        add_synced(&log, 50 + (size_t)i);
    bytes = wal_fixture_read(log.f, wal_fixture_path(1), &size);
    for (size_t i = 0; i < log.count; i++)
        assert_int_equal((uint64_t)sdb_get_u32(bytes + log.from[i] + 24) * 8, log.from[i]);
    free(bytes);
    wal_fixture_destroy(log.f);
}

static void zeroed_sectors_are_noticed(void **state)
{
    struct mapped log = synced_log(4 * SEGMENT, 700);
    uint8_t zeroes[512] = {0};

    (void)state;
    for (uint64_t segment = 1; segment <= 3; segment++) {
        const char *path = wal_fixture_path(segment);
        size_t size;
        uint8_t *bytes = wal_fixture_read(log.f, path, &size);
        for (size_t at = 0; at < size; at += 512) {
            uint8_t kept[512];
            if (memcmp(bytes + at, zeroes, 512) == 0)
                continue;
            memcpy(kept, bytes + at, 512);
            memset(bytes + at, 0, 512);
            assert_int_equal(sim_write_file(log.f->disk, path, bytes, size), 0);
            check_damaged(&log, (struct damage){segment, at, at, 512});
            memcpy(bytes + at, kept, 512);
        }
        assert_int_equal(sim_write_file(log.f->disk, path, bytes, size), 0);
        free(bytes);
    }
    wal_fixture_destroy(log.f);
}

static void swapped_sectors_are_noticed(void **state)
{
    struct mapped log = synced_log(2 * SEGMENT, 700);

    (void)state;
    for (uint64_t segment = 1; segment <= 3; segment++) {
        const char *path = wal_fixture_path(segment);
        size_t size;
        uint8_t *bytes = wal_fixture_read(log.f, path, &size);
        uint8_t *swapped = malloc(size);
        assert_non_null(swapped);
        for (size_t a = 0; a < size; a += 512) {
            for (size_t b = a + 512; b < size; b += 512) {
                if (memcmp(bytes + a, bytes + b, 512) == 0)
                    continue;
                memcpy(swapped, bytes, size);
                memcpy(swapped + a, bytes + b, 512);
                memcpy(swapped + b, bytes + a, 512);
                assert_int_equal(sim_write_file(log.f->disk, path, swapped, size), 0);
                check_damaged(&log, (struct damage){segment, a, b, 512});
            }
        }
        assert_int_equal(sim_write_file(log.f->disk, path, bytes, size), 0);
        free(swapped);
        free(bytes);
    }
    wal_fixture_destroy(log.f);
}

/* ---- Files ----------------------------------------------------------------------------------- */

static void a_missing_segment_is_named(void **state)
{
    struct mapped log = synced_log(SEGMENT, 700);
    uint64_t changes;

    (void)state;
    for (uint64_t segment = 1; segment <= 2; segment++) {
        size_t size;
        uint8_t *bytes = wal_fixture_read(log.f, wal_fixture_path(segment), &size);
        assert_int_equal(sim_remove(log.f->disk, wal_fixture_path(segment)), 0);
        changes = sim_calls(log.f->disk, SIM_CHANGES);
        assert_int_equal(wal_fixture_open(log.f), STORM_CORRUPT);
        assert_says(log.f, segment, "missing");
        assert_int_equal(sim_calls(log.f->disk, SIM_CHANGES), changes);
        assert_int_equal(sim_write_file(log.f->disk, wal_fixture_path(segment), bytes, size), 0);
        free(bytes);
    }
    wal_fixture_reopen(log.f);
    wal_fixture_destroy(log.f);
}

static void a_segment_under_another_ones_name_is_refused(void **state)
{
    struct mapped log = synced_log(SEGMENT, 700);
    size_t size;
    uint8_t *bytes = wal_fixture_read(log.f, wal_fixture_path(3), &size);

    (void)state;
    assert_int_equal(sim_remove(log.f->disk, wal_fixture_path(3)), 0);
    assert_int_equal(sim_write_file(log.f->disk, wal_fixture_path(9), bytes, size), 0);
    assert_int_equal(wal_fixture_open(log.f), STORM_CORRUPT);
    assert_says(log.f, 9, "another one's name");
    free(bytes);
    wal_fixture_destroy(log.f);
}

static void another_stores_segment_is_refused_and_left_alone(void **state)
{
    struct mapped log = synced_log(SEGMENT, 700);
    uint64_t changes = sim_calls(log.f->disk, SIM_CHANGES);

    (void)state;
    log.f->options.store_id ^= 1;
    assert_int_equal(wal_fixture_open(log.f), STORM_CORRUPT);
    assert_says(log.f, 1, "another store");
    assert_int_equal(sim_calls(log.f->disk, SIM_CHANGES), changes);
    wal_fixture_destroy(log.f);
}

static void a_foreign_segment_below_the_first_needed_is_left_alone(void **state)
{
    struct mapped log = synced_log(SEGMENT, 700);
    struct sdb_wal_header header = {.store_id = 99, .number = 1, .epoch = 1};
    uint8_t page[SDB_WAL_HEADER];
    uint64_t size;

    (void)state;
    sdb_wal_header_encode(page, &header);
    assert_int_equal(sim_write_file(log.f->disk, wal_fixture_path(1), page, sizeof(page)), 0);
    log.f->first_segment = 3;
    log.f->floor = log.f->segment_floor;
    wal_fixture_reopen(log.f);
    assert_int_equal(sim_file_size(log.f->disk, wal_fixture_path(1), &size), STORM_OK);
    assert_int_equal(sim_file_size(log.f->disk, wal_fixture_path(2), &size), STORM_NOT_FOUND);
    wal_fixture_destroy(log.f);
}

static void a_newer_format_is_refused_by_name_and_nothing_changed(void **state)
{
    struct mapped log = synced_log(SEGMENT, 700);
    size_t size;
    uint8_t *bytes = wal_fixture_read(log.f, wal_fixture_path(3), &size);
    uint64_t changes;
    uint32_t crc;

    (void)state;
    sdb_put_u32(bytes + 8, SDB_WAL_VERSION + 1);
    crc = sdb_crc32c(sdb_crc32c(0, bytes, 12), bytes + 16, SDB_WAL_HEADER - 16);
    sdb_put_u32(bytes + 12, crc);
    assert_int_equal(sim_write_file(log.f->disk, wal_fixture_path(3), bytes, size), 0);
    changes = sim_calls(log.f->disk, SIM_CHANGES);
    assert_int_equal(wal_fixture_open(log.f), STORM_NEWER_FORMAT);
    assert_says(log.f, 3, "newer release");
    assert_int_equal(wal_fixture_replay(log.f), STORM_NEWER_FORMAT);
    assert_int_equal(sim_calls(log.f->disk, SIM_CHANGES), changes);
    free(bytes);
    wal_fixture_destroy(log.f);
}

static void a_last_segment_without_a_header_is_absent(void **state)
{
    static const size_t sizes[] = {0, 1, 100, SDB_WAL_HEADER - 1, SDB_WAL_HEADER, SEGMENT};
    uint8_t bytes[SEGMENT];

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (int is_noise = 0; is_noise < 2; is_noise++) {
            struct mapped log = synced_log(SEGMENT, 700);
            uint64_t size;

            memset(bytes, is_noise ? 0x5a : 0, sizeof(bytes));
            log.f->number = 7;
            assert_int_equal(sim_write_file(log.f->disk, wal_fixture_path(7), bytes, sizes[i]), 0);
            assert_int_equal(wal_fixture_replay(log.f), STORM_OK);
            wal_fixture_reopen(log.f);
            assert_int_equal(log.f->replayed, log.count);
            assert_int_equal(sdb_wal_segment(log.f->wal), 3);
            assert_int_equal(sim_file_size(log.f->disk, wal_fixture_path(7), &size),
                             STORM_NOT_FOUND);
            wal_fixture_destroy(log.f);
        }
    }
}

static void left_overs_of_a_failed_roll_are_passed_by(void **state)
{
    struct mapped log = synced_log(SEGMENT, 700);
    struct sdb_wal_header header = {.store_id = log.f->options.store_id,
                                    .number = 4,
                                    .previous = 3,
                                    .previous_end = log.to[log.count - 1],
                                    .last_revision = log.count,
                                    .epoch = 1};
    uint8_t page[SEGMENT] = {0};
    uint64_t size;

    (void)state;
    /* Segments 4 and 6 follow 3; 4 was never used. */
    sdb_wal_header_encode(page, &header);
    assert_int_equal(sim_write_file(log.f->disk, wal_fixture_path(4), page, sizeof(page)), 0);
    header.number = 6;
    sdb_wal_header_encode(page, &header);
    assert_int_equal(sim_write_file(log.f->disk, wal_fixture_path(6), page, sizeof(page)), 0);
    log.f->number = 6;
    wal_fixture_reopen(log.f);
    assert_int_equal(log.f->replayed, log.count);
    assert_int_equal(sdb_wal_segment(log.f->wal), 6);
    assert_int_equal(sim_file_size(log.f->disk, wal_fixture_path(4), &size), STORM_NOT_FOUND);
    wal_fixture_destroy(log.f);
}

static void whole_headers_that_make_no_sense_are_refused(void **state)
{
    static const struct {
        uint64_t previous, previous_end;
    } wrong[] = {{4, 5000}, {5, SDB_WAL_HEADER}, {3, SDB_WAL_HEADER - 8}, {3, SDB_WAL_HEADER + 4}};
    struct mapped log = synced_log(SEGMENT, 700);
    struct sdb_wal_header header = {
        .store_id = log.f->options.store_id, .number = 4, .last_revision = log.count, .epoch = 1};
    uint8_t page[SEGMENT] = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        header.previous = wrong[i].previous;
        header.previous_end = wrong[i].previous_end;
        sdb_wal_header_encode(page, &header);
        assert_int_equal(sim_write_file(log.f->disk, wal_fixture_path(4), page, sizeof(page)), 0);
        assert_int_equal(wal_fixture_open(log.f), STORM_CORRUPT);
        assert_says(log.f, 4, "as the one before");
    }
    wal_fixture_destroy(log.f);
}

/* ---- Records that verify and make no sense --------------------------------------------------- */

static void put_record(uint8_t *file, uint64_t offset, struct sdb_wal_record record,
                       const uint8_t *payload)
{
    uint32_t seed = sdb_wal_record_seed(UINT64_C(0x1122334455667788), 1);
    size_t padded = (size_t)sdb_wal_padded(record.length);

    sdb_wal_record_encode(file + offset, &record, seed, offset);
    memcpy(file + offset + SDB_WAL_RECORD, payload, padded);
    sdb_put_u32(file + offset, sdb_crc32c(record.header_crc, payload, padded));
}

static void whole_records_that_make_no_sense_are_refused(void **state)
{
    static const struct {
        uint32_t epoch, batches, length, first_length, second_length;
        uint64_t revision;
        const char *why;
    } wrong[] = {
        {1, 1, 16, 13, 0, 5, "longer than its record"},
        {1, 1, 16, 11, 0, 5, "left behind"},
        {1, 2, 16, 4, 8, 5, "longer than its record"},
        {1, 4, 16, 4, 4, 5, "longer than its record"},
        {1, 1, 16, UINT32_MAX, 0, 5, "longer than its record"},
        {1, 2, 16, 4, 4, 2, "revision 2 follows revision 2"},
        {1, 2, 16, 4, 4, 0, "revision 0 follows revision 2"},
        {1, 2, 16, 4, 4, UINT64_MAX, "follows revision 2"},
        {9, 2, 16, 4, 4, 5, "epoch 9 is not below 3"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct wal_fixture *f = wal_fixture_create(SEGMENT, 25);
        uint8_t payload[16] = {0};
        uint64_t changes;
        uint8_t *bytes;
        size_t size;

        wal_fixture_reopen(f);
        assert_int_equal(wal_fixture_append(f, 2, 8), STORM_OK);
        f->options.epoch++;
        wal_fixture_close(f);
        bytes = wal_fixture_read(f, wal_fixture_path(1), &size);
        sdb_put_u32(payload, wrong[i].first_length);
        sdb_put_u32(payload + 8, wrong[i].second_length);
        put_record(bytes, SDB_WAL_HEADER + 56,
                   (struct sdb_wal_record){.length = wrong[i].length,
                                           .epoch = wrong[i].epoch,
                                           .batches = wrong[i].batches,
                                           .first_revision = wrong[i].revision,
                                           .durable = SDB_WAL_HEADER},
                   payload);
        assert_int_equal(sim_write_file(f->disk, wal_fixture_path(1), bytes, size), 0);
        changes = sim_calls(f->disk, SIM_CHANGES);
        assert_int_equal(wal_fixture_open(f), STORM_CORRUPT);
        assert_offset(f, 1, SDB_WAL_HEADER + 56);
        assert_says(f, 1, wrong[i].why);
        assert_int_equal(sim_calls(f->disk, SIM_CHANGES), changes);
        free(bytes);
        wal_fixture_destroy(f);
    }
}

static void an_epoch_that_did_not_grow_is_refused(void **state)
{
    struct mapped log = {.f = wal_fixture_create(SEGMENT, 26)};

    (void)state;
    wal_fixture_reopen(log.f);
    wal_fixture_close(log.f);
    log.f->options.epoch = 0; /* the next open says 1, as the header does: no record is above it */
    assert_int_equal(wal_fixture_open(log.f), STORM_OK);
    wal_fixture_close(log.f);
    log.f->options.epoch = 5;
    wal_fixture_reopen(log.f);
    add(&log, 50);
    add(&log, 50);
    wal_fixture_close(log.f);
    log.f->options.epoch = 5; /* 6 again */
    assert_int_equal(wal_fixture_open(log.f), STORM_CORRUPT);
    assert_says(log.f, 1, "epoch 6 is not below 6");
    /* Also when the only record that says so lies behind a torn one. */
    assert_int_equal(sim_flip(log.f->disk, wal_fixture_path(1), log.from[0], 1), 0);
    log.f->options.epoch = 5;
    assert_int_equal(wal_fixture_open(log.f), STORM_CORRUPT);
    assert_says(log.f, 1, "epoch 6");
    assert_int_equal(wal_fixture_replay(log.f), STORM_OK);
    wal_fixture_destroy(log.f);
}

static void a_file_cut_off_inside_synced_segments_is_noticed(void **state)
{
    struct mapped log = synced_log(SEGMENT, 700);
    size_t size;
    uint8_t *bytes = wal_fixture_read(log.f, wal_fixture_path(2), &size);

    (void)state;
    for (uint64_t cut = 0; cut < log.to[log.count - 4]; cut += 97) {
        bool in_second = cut < size;
        if (!in_second)
            break;
        assert_int_equal(sim_resize(log.f->disk, wal_fixture_path(2), cut), 0);
        assert_int_equal(wal_fixture_replay(log.f), STORM_CORRUPT);
        assert_says(log.f, 2, "offset");
        assert_int_equal(sim_write_file(log.f->disk, wal_fixture_path(2), bytes, size), 0);
    }
    free(bytes);
    wal_fixture_destroy(log.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tail_torn_at_any_byte_is_dropped_quietly),
        cmocka_unit_test(remains_of_a_torn_tail_never_come_back),
        cmocka_unit_test(what_a_torn_record_hides_is_counted),
        cmocka_unit_test(remains_of_an_earlier_open_are_not_counted_again),
        cmocka_unit_test(a_flip_of_any_byte_is_an_error_or_ends_an_unvouched_log),
        cmocka_unit_test(a_synced_record_is_vouched_for_by_the_next_one),
        cmocka_unit_test(every_sync_moves_the_durable_offset),
        cmocka_unit_test(zeroed_sectors_are_noticed),
        cmocka_unit_test(swapped_sectors_are_noticed),
        cmocka_unit_test(a_missing_segment_is_named),
        cmocka_unit_test(a_segment_under_another_ones_name_is_refused),
        cmocka_unit_test(another_stores_segment_is_refused_and_left_alone),
        cmocka_unit_test(a_foreign_segment_below_the_first_needed_is_left_alone),
        cmocka_unit_test(a_newer_format_is_refused_by_name_and_nothing_changed),
        cmocka_unit_test(a_last_segment_without_a_header_is_absent),
        cmocka_unit_test(left_overs_of_a_failed_roll_are_passed_by),
        cmocka_unit_test(whole_headers_that_make_no_sense_are_refused),
        cmocka_unit_test(whole_records_that_make_no_sense_are_refused),
        cmocka_unit_test(an_epoch_that_did_not_grow_is_refused),
        cmocka_unit_test(a_file_cut_off_inside_synced_segments_is_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
