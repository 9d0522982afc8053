/*
 * What a damaged log still holds.
 *
 * Recovery refuses a log with damage in it, and drops what stands behind a torn tail; repair takes
 * every whole record, and must not take what recovery dropped earlier:
 *
 *   - Segments are read in order of their numbers, one by one, each up to the end that its successor
 *     names, if that one is whole; behind it lie remains.
 *   - Epochs never fall within a segment, revisions grow over all of them: what does not follow is
 *     passed by.
 *   - Behind a place B without a whole record, the next one is looked for at every eighth byte. If a
 *     header behind B says that B had been synced, or an end is named behind it, B was damaged and
 *     what follows counts. If nothing says so, B may be where a power cut tore the log. Records of an
 *     epoch before the last open's were judged by that open and dropped, and since then readers may
 *     have seen a store without them: they stay dropped. Others are of the last run of all, and count:
 *     nobody has answered without them yet.
 *
 * A segment with a damaged header is read all the same, for a record's checksum does not need it;
 * one of another store, or under another one's name, is not.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "lsm/wal/reader.h"
#include "util/coding.h"

struct segment {
    uint64_t number;
    struct sdb_wal_header header; /* when it is whole */
    bool is_whole;
    uint64_t end; /* of its records, as the successor says; 0 = it does not */
};

struct walk {
    struct sdb_wal_salvage *salvage;
    struct sdb_wal_reader reader;
    struct segment *segments;
    size_t count;
    uint32_t epoch;       /* of the last record in the segment at hand */
    uint64_t revision;    /* of the last batch handed out */
    storm_status refused; /* what `each` returned */
};

static storm_status tell(struct walk *walk, storm_status status)
{
    walk->salvage->problems++;
    walk->salvage->problem(walk->salvage->ctx, status);
    return STORM_OK;
}

/* A segment that cannot be read is passed by; everything else ends the salvage. */
static storm_status pass_by(struct walk *walk, storm_status status)
{
    bool is_damage = status == STORM_CORRUPT || status == STORM_IO;
    return is_damage ? tell(walk, status) : status;
}

/* ---- Headers ---- */

static storm_status read_header(struct walk *walk, struct segment *segment)
{
    struct sdb_wal_salvage *salvage = walk->salvage;
    enum sdb_wal_header_kind kind = SDB_WAL_HEADER_BAD;
    uint32_t version;
    storm_status status = sdb_wal_reader_open(&walk->reader, salvage->os, salvage->dir,
                                              salvage->store_id, segment->number);
    if (status == STORM_OK)
        status = sdb_wal_reader_header(&walk->reader, &kind, &segment->header, &version);
    if (status == STORM_OK && kind == SDB_WAL_HEADER_NEWER)
        status = sdb_fail(salvage->os->errors, STORM_NEWER_FORMAT,
                          "%s: log format version %" PRIu32
                          " was written by a newer release; this one reads up to version %d and "
                          "has left it as it is",
                          walk->reader.path, version, SDB_WAL_VERSION);
    sdb_wal_reader_close(&walk->reader);
    segment->is_whole = kind == SDB_WAL_HEADER_VALID && segment->header.number == segment->number;
    /* Damage is told when the records are read. */
    return status == STORM_CORRUPT || status == STORM_IO ? STORM_OK : status;
}

static storm_status read_headers(struct walk *walk)
{
    struct sdb_wal_salvage *salvage = walk->salvage;
    struct sdb_wal_numbers on_disk, spares;
    storm_status status = sdb_wal_list(salvage->os, salvage->dir, &on_disk, &spares);
    if (status == STORM_OK && on_disk.count != 0) {
        walk->segments = calloc(on_disk.count, sizeof *walk->segments);
        status = walk->segments == NULL ? STORM_NO_MEMORY : STORM_OK;
    }
    for (size_t i = 0; i < on_disk.count && status == STORM_OK; i++) {
        struct segment *segment = &walk->segments[walk->count++];
        segment->number = on_disk.list[i];
        status = read_header(walk, segment);
    }
    sdb_wal_numbers_fini(&on_disk);
    sdb_wal_numbers_fini(&spares);
    for (size_t i = walk->count; i > 0 && salvage->store_id == 0; i--) {
        if (walk->segments[i - 1].is_whole)
            salvage->store_id = walk->segments[i - 1].header.store_id;
    }
    return status;
}

static bool is_ours(const struct walk *walk, const struct segment *segment)
{
    return segment->is_whole && segment->header.store_id == walk->salvage->store_id;
}

/* Which ends are known. */
static void link_segments(struct walk *walk)
{
    for (size_t i = 0; i < walk->count; i++) {
        const struct segment *next = &walk->segments[i];
        if (!is_ours(walk, next))
            continue;
        if (next->header.epoch > walk->salvage->max_epoch)
            walk->salvage->max_epoch = next->header.epoch;
        for (size_t k = 0; k < i; k++) {
            if (walk->segments[k].number == next->header.previous)
                walk->segments[k].end = next->header.previous_end;
        }
    }
}

/* ---- Records ---- */

/* All batches of a whole record, or none. */
static storm_status hand_out(struct walk *walk, uint64_t offset,
                             const struct sdb_wal_record *record, struct storm_slice payload)
{
    struct sdb_wal_salvage *salvage = walk->salvage;
    struct sdb_cursor cursor = sdb_cursor(payload);
    struct storm_slice ops;
    uint32_t size;
    storm_status status = STORM_OK;
    if (record->batches == 0)
        return STORM_OK;
    if (record->first_revision <= walk->revision ||
        record->first_revision > UINT64_MAX - record->batches)
        return tell(walk,
                    sdb_fail(salvage->os->errors, STORM_CORRUPT,
                             "%s: log record at offset %" PRIu64 ": revision %" PRIu64
                             " follows revision %" PRIu64,
                             walk->reader.path, offset, record->first_revision, walk->revision));
    for (uint32_t i = 0; i < record->batches; i++) {
        if (!sdb_read_u32(&cursor, &size) || !sdb_read_bytes(&cursor, size, &ops))
            break;
    }
    if (cursor.at == NULL || sdb_cursor_left(&cursor) != 0)
        return tell(walk,
                    sdb_fail(salvage->os->errors, STORM_CORRUPT,
                             "%s: log record at offset %" PRIu64 ": its batches do not fill it",
                             walk->reader.path, offset));
    cursor = sdb_cursor(payload);
    for (uint32_t i = 0; i < record->batches && status == STORM_OK; i++) {
        (void)(sdb_read_u32(&cursor, &size) && sdb_read_bytes(&cursor, size, &ops));
        status = walk->refused = salvage->each(salvage->ctx, record->first_revision + i, ops);
    }
    walk->revision = record->first_revision + record->batches - 1;
    salvage->records++;
    return status;
}

/* A header that verifies may be believed though its payload may not: it belongs to the last writer
 * of this place, so records of smaller epochs behind it are remains. */
static void note(struct walk *walk, const struct sdb_wal_record *record)
{
    struct sdb_wal_salvage *salvage = walk->salvage;
    uint64_t last = record->first_revision + record->batches;
    if (record->epoch > walk->epoch)
        walk->epoch = record->epoch;
    if (record->batches != 0 && last > record->first_revision && last - 1 > salvage->revision)
        salvage->revision = last - 1;
    if (record->epoch > salvage->max_epoch)
        salvage->max_epoch = record->epoch;
}

/*
 * Behind `bad`, where no whole record stands: how far to look for more of them. 0: nowhere, for
 * what follows are remains, or nothing.
 */
static storm_status judge(struct walk *walk, const struct segment *segment, uint64_t bad,
                          uint64_t *until)
{
    struct sdb_wal_salvage *salvage = walk->salvage;
    struct sdb_wal_remains remains;
    storm_status status = sdb_wal_reader_scan(&walk->reader, bad, walk->epoch, &remains);
    *until = segment->end != 0 ? segment->end : remains.end;
    bool is_tail = segment->end == 0 && remains.durable <= bad;
    if (status != STORM_OK || (segment->end == 0 && remains.headers == 0) ||
        (is_tail && remains.max_epoch < salvage->judged_epoch)) {
        *until = 0;
        return status;
    }
    return tell(walk,
                sdb_fail(salvage->os->errors, STORM_CORRUPT,
                         "%s: log record at offset %" PRIu64 " is damaged%s", walk->reader.path,
                         bad, is_tail ? ", or was torn by a power cut" : ""));
}

/* The next whole record from *at on, `until` at the latest. */
static storm_status find_record(struct walk *walk, uint64_t *at, uint64_t until,
                                struct sdb_wal_record *record, struct storm_slice *payload,
                                bool *is_found)
{
    storm_status status = STORM_OK;
    *is_found = false;
    while (*at + SDB_WAL_RECORD <= until && status == STORM_OK) {
        status = sdb_wal_reader_record(&walk->reader, *at, UINT64_MAX, record, payload, is_found);
        if (record->epoch >= walk->epoch && record->durable != 0)
            note(walk, record);
        *is_found = *is_found && record->epoch >= walk->epoch;
        if (*is_found)
            return status;
        *at += SDB_WAL_ALIGN;
    }
    return status;
}

static storm_status read_records(struct walk *walk, const struct segment *segment)
{
    uint64_t at = SDB_WAL_HEADER;
    uint64_t until = segment->end != 0 ? segment->end : UINT64_MAX;
    bool is_searching = false;
    while (at < until) {
        struct sdb_wal_record record;
        struct storm_slice payload;
        bool is_found;
        storm_status status;
        if (is_searching) {
            status = find_record(walk, &at, until, &record, &payload, &is_found);
            if (status != STORM_OK || !is_found)
                return status;
        } else {
            status =
                sdb_wal_reader_record(&walk->reader, at, UINT64_MAX, &record, &payload, &is_found);
            is_found = is_found && record.epoch >= walk->epoch;
            is_searching = status == STORM_OK && !is_found;
            if (is_searching)
                status = judge(walk, segment, at, &until);
            if (is_found)
                note(walk, &record);
        }
        if (status == STORM_OK && is_found) {
            is_searching = false;
            status = hand_out(walk, at, &record, payload);
            at += sdb_wal_record_size(record.length);
        }
        if (status != STORM_OK)
            return status;
    }
    return STORM_OK;
}

static storm_status salvage_segment(struct walk *walk, const struct segment *segment)
{
    struct sdb_wal_salvage *salvage = walk->salvage;
    uint64_t before = salvage->records;
    storm_status status = sdb_wal_reader_open(&walk->reader, salvage->os, salvage->dir,
                                              salvage->store_id, segment->number);
    if (status != STORM_OK)
        return pass_by(walk, status);
    if (segment->is_whole && !is_ours(walk, segment)) {
        status = tell(walk,
                      sdb_fail(salvage->os->errors, STORM_CORRUPT,
                               "%s: this log segment belongs to another store", walk->reader.path));
        goto out;
    }
    if (!segment->is_whole)
        (void)tell(walk, sdb_fail(salvage->os->errors, STORM_CORRUPT,
                                  "%s: the header of this log segment is damaged, or another one's",
                                  walk->reader.path));
    walk->epoch = segment->is_whole ? segment->header.epoch : 0;
    if (segment->is_whole && segment->header.last_revision > salvage->revision)
        salvage->revision = segment->header.last_revision;
    status = read_records(walk, segment);
    if (status != STORM_OK && walk->refused == STORM_OK)
        status = pass_by(walk, status); /* a bad sector: the rest of this segment is lost */
    if (status == STORM_OK)
        status = salvage->segment(salvage->ctx, segment->number, salvage->records - before);
out:
    sdb_wal_reader_close(&walk->reader);
    return status;
}

storm_status sdb_wal_salvage(struct sdb_wal_salvage *salvage)
{
    struct walk walk = {.salvage = salvage};
    salvage->records = 0;
    salvage->problems = 0;
    salvage->revision = 0;
    salvage->max_epoch = 0;
    storm_status status = read_headers(&walk);
    if (status == STORM_OK)
        link_segments(&walk);
    for (size_t i = 0; i < walk.count && status == STORM_OK; i++)
        status = salvage_segment(&walk, &walk.segments[i]);
    free(walk.segments);
    return status;
}
