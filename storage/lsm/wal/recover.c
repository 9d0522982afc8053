/*
 * Opening the log: find the segments, check that none is missing, replay them, and tell a torn tail
 * from damage.
 *
 * Which files count. The chain is read backwards: from the segment with the largest number and a
 * whole header along "the segment before me" down to the first needed one. Every link must be there
 * with a whole header, else a segment is missing or damaged. What is not on the chain is what a
 * failed or interrupted roll left behind (segment.c), or a last segment whose header never became
 * durable: it must hold no record, which is looked for at every eighth byte, because a flipped bit
 * in a header must not make a segment full of records vanish.
 *
 *   first needed                                    largest whole header
 *   +-------------+   previous   +-------------+   previous   +-------------+   +- - - - - - -+
 *   | 0000000012  |<-------------| 0000000015  |<-------------| 0000000021  |   | 0000000030  |
 *   +-------------+  ends at e1  +-------------+  ends at e2  +-------------+   +- - - - - - -+
 *                                                              torn tail here    no header, no
 *                                                              or nowhere        record: absent
 *
 * Where the log ends. Every segment but the last was synced before its successor named its end, so
 * up to that end every record must verify. In the last one, let B be the place of the first record
 * that does not verify, or whose epoch is smaller than the one before it:
 *
 *   - A record header behind B, of the current epoch or a later one, whose durable offset is above B:
 *     B had been synced. This is damage, never dropped.
 *   - Otherwise nothing says that B was ever synced: it is the end. What verifies behind it are later
 *     writes of the same power cut; they are never replayed.
 *
 * Why remains do not come to life. The next open writes on at B under a larger epoch. If its
 * records happen to end where an old one begins, the old one's epoch is smaller: the end, by the
 * rule above. If nothing was written, the same remains are found, judged and passed by again. And
 * remains are no false evidence of damage: their durable offsets lie at or below the B of their
 * time, and all that was written since lies above it.
 *
 * The epoch of this open must therefore be larger than that of any record found, remains included;
 * the manifest sees to that, and it is checked here. A segment's header may have the same epoch: an
 * open made it and then failed before its first record.
 *
 * Damage to the very last records, behind the durable offset of the last one that verifies, can not
 * be told from a torn tail: no later record vouches for them. After a clean close one does: the end
 * mark, a record without batches whose durable offset is its own place. torn_bytes says that
 * something was dropped: from B to the end of the last record whose header verifies at B or behind
 * it, 0 when there is none. A header verifies only for its segment and place, so what an earlier
 * life left in a recycled file does not count.
 *
 * Nothing is written before all was read and judged: a refusal leaves every file as it was.
 *
 * What is kept as history for feeds lies below the first needed segment. The same links lead to it,
 * as far as it is within the retention; only headers are read, 4 KiB each. It is not needed: a bad
 * or missing header there ends the history and nothing else.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lsm/wal/reader.h"
#include "lsm/wal/writer.h"
#include "util/coding.h"

struct segment {
    uint64_t number;
    uint64_t size;
    uint64_t end; /* of its records, once replayed */
    struct sdb_wal_header header;
    bool is_whole;   /* the header is */
    bool is_chained; /* to be replayed */
};

struct recovery {
    const struct sdb_wal_options *options; /* borrowed, like all pointers up to `each_ctx` */
    struct sdb_os *os;
    sdb_wal_batch_fn each;
    void *each_ctx;
    struct sdb_wal_report *report;
    struct sdb_wal_reader reader;   /* of the segment at hand */
    struct sdb_wal_numbers on_disk; /* all segments, those before the first needed one too */
    struct sdb_wal_numbers spares;
    struct segment *segments; /* those needed, ascending */
    size_t count;
    uint32_t epoch;    /* of the last record, or of the first segment */
    uint64_t revision; /* of the last batch, or before the first segment */
    bool for_writing;
    struct sdb_wal_span *kept; /* newest first */
    size_t kept_count, kept_room;
    uint64_t damaged; /* a kept segment whose header is bad: to be removed; 0 = none */
    struct sdb_wal_history *history; /* NULL = not wanted, not made yet, or handed on */
};

static storm_status open_segment(struct recovery *r, uint64_t number)
{
    return sdb_wal_reader_open(&r->reader, r->os, r->options->dir, r->options->store_id, number);
}

/* ---- Which segments there are ---------------------------------------------------------------- */

static storm_status check_header(struct recovery *r, struct segment *segment,
                                 enum sdb_wal_header_kind kind, uint32_t version)
{
    const struct sdb_wal_header *header = &segment->header;
    const char *path = r->reader.path;

    if (kind == SDB_WAL_HEADER_NEWER)
        return sdb_fail(r->os->errors, STORM_NEWER_FORMAT,
                        "%s: log format version %" PRIu32
                        " was written by a newer release; this one reads up to version %d and has "
                        "left it as it is",
                        path, version, SDB_WAL_VERSION);
    if (kind == SDB_WAL_HEADER_BAD)
        return STORM_OK;
    if (header->store_id != r->options->store_id)
        return sdb_fail(r->os->errors, STORM_CORRUPT,
                        "%s: this log segment belongs to another store (id %016" PRIx64
                        ", not %016" PRIx64 ")",
                        path, header->store_id, r->options->store_id);
    if (header->number != segment->number)
        return sdb_fail(r->os->errors, STORM_CORRUPT,
                        "%s: this is log segment %" PRIu64 " under another one's name", path,
                        header->number);
    if (header->previous >= header->number || header->previous_end % SDB_WAL_ALIGN != 0 ||
        (header->previous != 0 && header->previous_end < SDB_WAL_HEADER))
        return sdb_fail(r->os->errors, STORM_CORRUPT,
                        "%s: the header names segment %" PRIu64 ", ending at %" PRIu64
                        ", as the one before",
                        path, header->previous, header->previous_end);
    if (r->for_writing && header->epoch > r->options->epoch)
        return sdb_fail(r->os->errors, STORM_CORRUPT,
                        "%s: the header's epoch %" PRIu32 " is above %" PRIu32
                        ", the epoch of this open",
                        path, header->epoch, r->options->epoch);
    segment->is_whole = true;
    return STORM_OK;
}

static storm_status read_header(struct recovery *r, struct segment *segment)
{
    enum sdb_wal_header_kind kind;
    uint32_t version;
    storm_status status = open_segment(r, segment->number);

    if (status != STORM_OK)
        return status;
    segment->size = r->reader.size;
    status = sdb_wal_reader_header(&r->reader, &kind, &segment->header, &version);
    if (status == STORM_OK)
        status = check_header(r, segment, kind, version);
    sdb_wal_reader_close(&r->reader);
    return status;
}

static storm_status read_headers(struct recovery *r, uint64_t first_segment)
{
    size_t skip = 0, needed;
    storm_status status = STORM_OK;

    while (skip < r->on_disk.count && r->on_disk.list[skip] < first_segment)
        skip++;
    needed = r->on_disk.count - skip;
    if (needed == 0)
        return STORM_OK;
    r->segments = calloc(needed, sizeof(*r->segments));
    if (r->segments == NULL)
        return sdb_fail(r->os->errors, STORM_NO_MEMORY, "log: no memory for %zu segments", needed);
    r->count = needed;
    for (size_t i = 0; i < r->count && status == STORM_OK; i++) {
        r->segments[i].number = r->on_disk.list[skip + i];
        status = read_header(r, &r->segments[i]);
    }
    return status;
}

/* The segment numbered `number` at an index below `below`; NULL when it is not there. */
static struct segment *find_segment(struct recovery *r, uint64_t number, size_t below)
{
    for (size_t i = below; i > 0; i--) {
        if (r->segments[i - 1].number == number)
            return &r->segments[i - 1];
    }
    return NULL;
}

static storm_status fail_link(struct recovery *r, const struct segment *missing,
                              const struct segment *next)
{
    char path[SDB_WAL_PATH];

    sdb_wal_segment_path(path, r->options->dir, next->header.previous);
    return sdb_fail(r->os->errors, STORM_CORRUPT, "%s: %s, and log segment %" PRIu64 " follows it",
                    path,
                    missing == NULL ? "this log segment is missing"
                                    : "the header at offset 0 of this log segment is damaged",
                    next->number);
}

/* Mark what has to be replayed. */
static storm_status follow_chain(struct recovery *r, uint64_t first_segment)
{
    size_t at = r->count;
    struct segment *segment;

    while (at > 0 && !r->segments[at - 1].is_whole)
        at--;
    if (at == 0)
        return STORM_OK;
    segment = &r->segments[at - 1];
    for (;;) {
        struct segment *previous;

        segment->is_chained = true;
        if (segment->header.previous == 0 || segment->header.previous < first_segment)
            return STORM_OK;
        previous = find_segment(r, segment->header.previous, (size_t)(segment - r->segments));
        if (previous == NULL || !previous->is_whole)
            return fail_link(r, previous, segment);
        previous->end = segment->header.previous_end;
        segment = previous;
    }
}

/* What is not on the chain must hold no record of its own. */
static storm_status check_absent(struct recovery *r, const struct segment *segment)
{
    struct sdb_wal_remains remains;
    storm_status status = open_segment(r, segment->number);

    if (status != STORM_OK)
        return status;
    status = sdb_wal_reader_scan(&r->reader, SDB_WAL_HEADER, 0, &remains);
    if (status == STORM_OK && remains.headers > 0)
        status = sdb_fail(r->os->errors, STORM_CORRUPT,
                          "%s: %s, but the segment holds %" PRIu64 " records", r->reader.path,
                          segment->is_whole ? "no other log segment follows this one"
                                            : "the header at offset 0 is damaged",
                          remains.headers);
    sdb_wal_reader_close(&r->reader);
    return status;
}

/* The newest segment that the store knows of must not be missing: nothing behind it would say
 * so. */
static storm_status check_newest(struct recovery *r)
{
    uint64_t newest = 0;
    char path[SDB_WAL_PATH];

    for (size_t i = 0; i < r->count; i++) {
        if (r->segments[i].is_chained)
            newest = r->segments[i].number;
    }
    if (newest >= r->options->newest_segment)
        return STORM_OK;
    sdb_wal_segment_path(path, r->options->dir, r->options->newest_segment);
    return sdb_fail(r->os->errors, STORM_CORRUPT,
                    "%s: this log segment is missing, or its header at offset 0 is damaged", path);
}

static storm_status find_segments(struct recovery *r, uint64_t first_segment)
{
    storm_status status = sdb_wal_list(r->os, r->options->dir, &r->on_disk, &r->spares);

    if (status == STORM_OK)
        status = read_headers(r, first_segment);
    if (status == STORM_OK)
        status = follow_chain(r, first_segment);
    if (status == STORM_OK)
        status = check_newest(r);
    for (size_t i = 0; i < r->count && status == STORM_OK; i++) {
        if (!r->segments[i].is_chained)
            status = check_absent(r, &r->segments[i]);
    }
    return status;
}

/* ---- Replay ---------------------------------------------------------------------------------- */

static storm_status fail_record(struct recovery *r, uint64_t offset, const char *what)
{
    return sdb_fail(r->os->errors, STORM_CORRUPT, "%s: log record at offset %" PRIu64 ": %s",
                    r->reader.path, offset, what);
}

/* Hand the batches of a record out. They are all there, or none is handed out. */
static storm_status replay_batches(struct recovery *r, uint64_t offset,
                                   const struct sdb_wal_record *record, struct storm_slice payload)
{
    struct sdb_cursor cursor = sdb_cursor(payload);
    struct storm_slice ops;
    uint32_t size;
    storm_status status = STORM_OK;

    for (uint32_t i = 0; i < record->batches; i++) {
        if (!sdb_read_u32(&cursor, &size) || !sdb_read_bytes(&cursor, size, &ops))
            return fail_record(r, offset, "a batch is longer than its record");
    }
    if (sdb_cursor_left(&cursor) != 0)
        return fail_record(r, offset, "bytes are left behind the last batch");
    cursor = sdb_cursor(payload);
    for (uint32_t i = 0; i < record->batches && status == STORM_OK; i++) {
        (void)(sdb_read_u32(&cursor, &size) && sdb_read_bytes(&cursor, size, &ops));
        status = r->each(r->each_ctx, record->first_revision + i, ops);
    }
    return status;
}

/* One record that verifies, of an epoch that may follow. */
static storm_status replay_record(struct recovery *r, uint64_t offset,
                                  const struct sdb_wal_record *record, struct storm_slice payload)
{
    storm_status status;

    if (record->first_revision <= r->revision ||
        record->first_revision > UINT64_MAX - record->batches)
        return sdb_fail(r->os->errors, STORM_CORRUPT,
                        "%s: log record at offset %" PRIu64 ": revision %" PRIu64
                        " follows revision %" PRIu64,
                        r->reader.path, offset, record->first_revision, r->revision);
    if (r->for_writing && record->epoch >= r->options->epoch)
        return sdb_fail(r->os->errors, STORM_CORRUPT,
                        "%s: log record at offset %" PRIu64 ": epoch %" PRIu32
                        " is not below %" PRIu32 ", the epoch of this open",
                        r->reader.path, offset, record->epoch, r->options->epoch);
    status = replay_batches(r, offset, record, payload);
    if (status != STORM_OK)
        return status;
    r->epoch = record->epoch;
    r->revision = record->first_revision + record->batches - 1;
    r->report->batches += record->batches;
    r->report->bytes += sdb_wal_record_size(record->length);
    r->report->last_revision = r->revision;
    return STORM_OK;
}

/* The records from the header on, up to `limit` or the first that does not follow: *end. */
static storm_status replay_records(struct recovery *r, uint64_t limit, uint64_t *end)
{
    struct sdb_wal_record record;
    struct storm_slice payload;
    bool is_valid;
    storm_status status;

    *end = SDB_WAL_HEADER;
    for (;;) {
        status = sdb_wal_reader_record(&r->reader, *end, limit, &record, &payload, &is_valid);
        if (status != STORM_OK || !is_valid || record.epoch < r->epoch)
            return status;
        status = replay_record(r, *end, &record, payload);
        if (status != STORM_OK)
            return status;
        *end += sdb_wal_record_size(record.length);
    }
}

/* The last segment's records ended at `end`: is it the end of the log, or damage? */
static storm_status judge_tail(struct recovery *r, uint64_t end)
{
    struct sdb_wal_remains remains;
    storm_status status = sdb_wal_reader_scan(&r->reader, end, r->epoch, &remains);

    if (status != STORM_OK)
        return status;
    if (remains.durable > end)
        return sdb_fail(r->os->errors, STORM_CORRUPT,
                        "%s: log record at offset %" PRIu64
                        " is damaged: a later record says that the log had been synced up to "
                        "offset %" PRIu64,
                        r->reader.path, end, remains.durable);
    if (r->for_writing && remains.headers > 0 && remains.max_epoch >= r->options->epoch)
        return sdb_fail(r->os->errors, STORM_CORRUPT,
                        "%s: behind the log's end at offset %" PRIu64
                        " lies a record of epoch %" PRIu32 ", which is not below %" PRIu32
                        ", the epoch of this open",
                        r->reader.path, end, remains.max_epoch, r->options->epoch);
    r->report->torn_bytes = remains.headers > 0 ? remains.end - end : 0;
    return STORM_OK;
}

/* Replay one segment of the chain; `is_last` in it. */
static storm_status replay_segment(struct recovery *r, struct segment *segment, bool is_last)
{
    uint64_t end;
    storm_status status = open_segment(r, segment->number);

    if (status != STORM_OK)
        return status;
    if (r->report->segments == 0)
        r->epoch = segment->header.epoch;
    /* More than the records say: in a first segment, and in one after a gap. */
    if (r->report->segments == 0 || segment->header.last_revision > r->revision)
        r->revision = segment->header.last_revision;
    r->report->segments++;
    status = replay_records(r, is_last ? UINT64_MAX : segment->end, &end);
    if (status != STORM_OK)
        goto out;
    if (is_last)
        status = judge_tail(r, end);
    else if (end != segment->end)
        status = sdb_fail(r->os->errors, STORM_CORRUPT,
                          "%s: log record at offset %" PRIu64
                          " is damaged: the records of this segment were synced up to offset "
                          "%" PRIu64,
                          r->reader.path, end, segment->end);
    segment->end = end;
out:
    sdb_wal_reader_close(&r->reader);
    return status;
}

static storm_status replay(struct recovery *r, uint64_t first_segment)
{
    size_t last = 0;
    storm_status status = find_segments(r, first_segment);

    for (size_t i = 0; i < r->count; i++) {
        if (r->segments[i].is_chained)
            last = i;
    }
    for (size_t i = 0; i < r->count && status == STORM_OK; i++) {
        if (r->segments[i].is_chained)
            status = replay_segment(r, &r->segments[i], i == last);
    }
    return status;
}

/* ---- History --------------------------------------------------------------------------------- */

/* Whether the header is of segment `number` of this store, and the segment as long as it must
 * be. */
static bool is_kept(const struct recovery *r, const struct sdb_wal_header *header, uint64_t number,
                    const struct sdb_wal_header *next, uint64_t size)
{
    return header->store_id == r->options->store_id && header->number == number &&
           header->previous < number && header->last_revision <= next->last_revision &&
           header->previous_end % SDB_WAL_ALIGN == 0 && size >= next->previous_end;
}

/* The header of a segment that may be history. STORM_NOT_FOUND ends it, STORM_CORRUPT too. */
static storm_status read_kept(struct recovery *r, const struct sdb_wal_header *next,
                              struct sdb_wal_header *header, uint64_t *size)
{
    uint8_t page[SDB_WAL_HEADER];
    char path[SDB_WAL_PATH];
    enum sdb_wal_header_kind kind;
    struct sdb_file *file;
    uint32_t version;
    size_t got;
    storm_status status;

    sdb_wal_segment_path(path, r->options->dir, next->previous);
    status = sdb_open(r->os, path, SDB_OPEN_READ, &file);
    if (status != STORM_OK)
        return status;
    status = sdb_size(file, size);
    if (status == STORM_OK)
        status = sdb_pread(file, 0, page, sizeof(page), &got);
    sdb_close(file);
    if (status != STORM_OK)
        return status;
    kind = sdb_wal_header_decode(storm_bytes(page, got), header, &version);
    if (kind == SDB_WAL_HEADER_VALID && is_kept(r, header, next->previous, next, *size))
        return STORM_OK;
    if (kind == SDB_WAL_HEADER_BAD) /* nobody else's: the chain led here */
        r->damaged = next->previous;
    return sdb_fail(r->os->errors, STORM_CORRUPT,
                    "%s: the header at offset 0 is damaged; the log before revision %" PRIu64
                    " is flushed and only lost to change feeds",
                    path, next->last_revision + 1);
}

static storm_status push_kept(struct recovery *r, const struct sdb_wal_span *span)
{
    if (r->kept_count == r->kept_room) {
        size_t room = r->kept_room * 2 + 8;
        struct sdb_wal_span *kept = realloc(r->kept, room * sizeof(*kept));
        if (kept == NULL)
            return sdb_fail(r->os->errors, STORM_NO_MEMORY, "log: no memory for %zu segments",
                            room);
        r->kept = kept;
        r->kept_room = room;
    }
    r->kept[r->kept_count++] = *span;
    return STORM_OK;
}

/* Go back from the oldest needed segment, newest first, as far as the retention goes. */
static storm_status find_kept(struct recovery *r, const struct segment *oldest)
{
    struct sdb_wal_header next = oldest->header;
    uint64_t left = r->options->retention_bytes;
    uint64_t now_ms = sdb_now_ms(r->os);
    uint64_t left_ms = now_ms; /* never later than that of the segment behind: history.c */

    while (next.previous != 0 && (next.flags & SDB_WAL_AFTER_GAP) == 0 &&
           next.previous_end <= left) {
        struct sdb_wal_header header;
        struct sdb_wal_span span = {.number = next.previous,
                                    .records = next.previous_end - SDB_WAL_HEADER};
        storm_status status;

        if (next.created_ms != 0 && next.created_ms < left_ms)
            left_ms = next.created_ms;
        if (r->options->retention_ms != 0 && now_ms - left_ms > r->options->retention_ms)
            return STORM_OK;
        status = read_kept(r, &next, &header, &span.size);
        if (status != STORM_OK)
            return status == STORM_NO_MEMORY ? status : STORM_OK;
        span.left_ms = left_ms;
        span.first_revision = header.last_revision + 1;
        status = push_kept(r, &span);
        if (status != STORM_OK)
            return status;
        left -= next.previous_end;
        next = header;
    }
    return STORM_OK;
}

static storm_status add_span(struct recovery *r, struct sdb_wal_span *span)
{
    storm_status status = sdb_wal_history_reserve(r->history, span);

    if (status == STORM_OK)
        sdb_wal_history_add(r->history, span);
    return status;
}

/* The next segment of the chain from `at` on; the count when there is none. */
static size_t next_chained(const struct recovery *r, size_t at)
{
    while (at < r->count && !r->segments[at].is_chained)
        at++;
    return at;
}

/* The list of all segments of the log: kept ones, and those that were replayed. */
static storm_status make_history(struct recovery *r)
{
    size_t at = next_chained(r, 0);
    storm_status status = sdb_wal_history_create(r->options, &r->history);

    if (status == STORM_OK && at < r->count)
        status = find_kept(r, &r->segments[at]);
    for (size_t i = r->kept_count; i > 0 && status == STORM_OK; i--)
        status = add_span(r, &r->kept[i - 1]);
    while (at < r->count && status == STORM_OK) {
        const struct segment *segment = &r->segments[at];
        struct sdb_wal_span span = {.number = segment->number,
                                    .size = segment->size,
                                    .records = segment->end - SDB_WAL_HEADER,
                                    .first_revision = segment->header.last_revision + 1};
        at = next_chained(r, at + 1);
        if (at < r->count)
            span.left_ms = r->segments[at].header.created_ms;
        else if (span.size < r->options->segment_bytes)
            span.size = r->options->segment_bytes; /* it goes on to grow */
        status = add_span(r, &span);
        if (status == STORM_OK && (segment->header.flags & SDB_WAL_AFTER_GAP) != 0)
            sdb_wal_history_raise(r->history, (struct sdb_wal_place){span.number, SDB_WAL_HEADER,
                                                                     span.first_revision});
    }
    at = next_chained(r, 0);
    if (status == STORM_OK && at < r->count)
        (void)sdb_wal_history_release(r->history, r->segments[at].number);
    r->report->kept = r->kept_count;
    return status;
}

/* ---- Open ------------------------------------------------------------------------------------ */

static storm_status begin(struct recovery *r, const struct sdb_wal_options *options)
{
    r->options = options;
    r->os = options->os;
    *r->report = (struct sdb_wal_report){0};
    if (strlen(options->dir) >= SDB_WAL_DIR_MAX)
        return sdb_fail(r->os->errors, STORM_INVALID,
                        "log: the directory's path has more than %d bytes", SDB_WAL_DIR_MAX - 1);
    return STORM_OK;
}

static void finish(struct recovery *r)
{
    sdb_wal_reader_close(&r->reader);
    sdb_wal_numbers_fini(&r->on_disk);
    sdb_wal_numbers_fini(&r->spares);
    sdb_wal_history_destroy(r->history);
    free(r->segments);
    free(r->kept);
}

storm_status sdb_wal_replay(const struct sdb_wal_options *options, uint64_t first_segment,
                            sdb_wal_batch_fn each, void *each_ctx, struct sdb_wal_report *report)
{
    struct recovery r = {.each = each, .each_ctx = each_ctx, .report = report};
    storm_status status = begin(&r, options);

    if (status == STORM_OK)
        status = replay(&r, first_segment);
    finish(&r);
    return status;
}

/* What tables have and the log has lost is no history, nor is what comes before it. */
static void publish_replayed(struct recovery *r)
{
    struct sdb_wal_place end;
    struct sdb_wal_span last;
    uint64_t newest =
        r->revision > r->options->flushed_revision ? r->revision : r->options->flushed_revision;

    if (sdb_wal_history_last(r->history, &last))
        sdb_wal_history_publish(r->history, SDB_WAL_HEADER + last.records, newest + 1);
    end = sdb_wal_history_end(r->history);
    if (newest > r->revision)
        sdb_wal_history_raise(r->history, end);
}

storm_status sdb_wal_replay_kept(const struct sdb_wal_options *options, uint64_t first_segment,
                                 sdb_wal_batch_fn each, void *each_ctx,
                                 struct sdb_wal_report *report, struct sdb_wal_history **history)
{
    struct recovery r = {.each = each, .each_ctx = each_ctx, .report = report};
    storm_status status = begin(&r, options);

    *history = NULL;
    if (status == STORM_OK)
        status = replay(&r, first_segment);
    if (status == STORM_OK)
        status = make_history(&r);
    if (status == STORM_OK) {
        publish_replayed(&r);
        *history = r.history;
        r.history = NULL;
    }
    finish(&r);
    return status;
}

/* The writer that goes on behind what was replayed. */
static storm_status resume(struct recovery *r, uint64_t (*next_number)(void *ctx), void *number_ctx,
                           struct sdb_wal **wal)
{
    struct sdb_wal_resume resume = {.last_revision = r->revision};
    storm_status status = make_history(r);

    if (status != STORM_OK)
        return status;
    for (size_t i = 0; i < r->count; i++) {
        if (r->segments[i].is_chained)
            resume.live_bytes += r->segments[i].end - SDB_WAL_HEADER;
    }
    resume.history = r->history;
    r->history = NULL;
    return sdb_wal_writer_create(r->options, next_number, number_ctx, &resume, wal);
}

/* Whether a file below the first needed segment is one of this store's; others are left alone. */
static bool is_released(struct recovery *r, uint64_t number)
{
    enum sdb_wal_header_kind kind = SDB_WAL_HEADER_BAD;
    struct sdb_wal_header header;
    uint32_t version;

    if (open_segment(r, number) != STORM_OK)
        return false;
    (void)sdb_wal_reader_header(&r->reader, &kind, &header, &version);
    sdb_wal_reader_close(&r->reader);
    return kind == SDB_WAL_HEADER_VALID && header.store_id == r->options->store_id;
}

/*
 * Remove what is no longer part of the log: released segments that are not kept, left-overs of
 * rolls, spares. All of it is passed by if it is still there next time, so failures change nothing.
 */
static void sweep(struct recovery *r, struct sdb_wal *wal)
{
    char path[SDB_WAL_PATH];

    for (size_t i = 0; i < r->on_disk.count; i++) {
        uint64_t number = r->on_disk.list[i];
        const struct segment *segment = find_segment(r, number, r->count);
        bool is_left_over = segment != NULL || number == r->damaged || is_released(r, number);

        if (sdb_wal_history_has(sdb_wal_history(wal), number) || !is_left_over)
            continue;
        sdb_wal_segment_path(path, r->options->dir, number);
        (void)sdb_unlink(r->os, path);
    }
    for (size_t i = 0; i < r->spares.count; i++) {
        sdb_wal_spare_path(path, r->options->dir, r->spares.list[i]);
        (void)sdb_unlink(r->os, path);
    }
}

storm_status sdb_wal_open(const struct sdb_wal_options *options, uint64_t first_segment,
                          sdb_wal_batch_fn each, void *each_ctx, uint64_t (*next_number)(void *ctx),
                          void *number_ctx, struct sdb_wal **wal, struct sdb_wal_report *report)
{
    struct recovery r = {.each = each, .each_ctx = each_ctx, .report = report, .for_writing = true};
    storm_status status = begin(&r, options);

    *wal = NULL;
    if (status == STORM_OK && (options->segment_bytes < SDB_WAL_SEGMENT_MIN ||
                               options->segment_bytes > SDB_WAL_SEGMENT_MAX))
        status = sdb_fail(r.os->errors, STORM_INVALID,
                          "log: segment_bytes is %" PRIu64 "; it takes %" PRIu64 " to %" PRIu64,
                          options->segment_bytes, SDB_WAL_SEGMENT_MIN, SDB_WAL_SEGMENT_MAX);
    if (status == STORM_OK)
        status = replay(&r, first_segment);
    if (status == STORM_OK)
        status = resume(&r, next_number, number_ctx, wal);
    if (status == STORM_OK)
        sweep(&r, *wal);
    finish(&r);
    return status;
}
