/*
 * Reading the log while it is written.
 *
 *   segment 15                    segment 16 (current)
 *   | r 7 | r 8-12 | r 13 |       | r 14 | r 15-20 | being written, or remains
 *              ^ place                              ^ published
 *
 * One step: ask where the place's segment ends and for its file (history.c, under its mutex), read
 * from the place to there or as much as the buffer takes, ask whether the segment is still on the
 * list, and only then believe the bytes. Everything in the buffer was published when it was read,
 * so the records in it are final and need no further question.
 *
 * A place that is gone is looked for again by revision: the segment that ended just before the
 * wanted one may be dropped without anything being missed.
 *
 * A bad record in published log is damage, there is no torn tail here. It is reported once; the
 * history's floor then lies above it, so that the next call, on this tail and all others below,
 * says STORM_GONE.
 *
 * Records on the way to the wanted one are passed by with the checksum of their header alone: it
 * covers the length, and what is not shown need not be verified.
 */
#include "lsm/wal/tail.h"

#include <inttypes.h>
#include <stdlib.h>

#include "util/crc32c.h"

enum { BUFFER = 256 * 1024 };

void sdb_wal_tail_init(struct sdb_wal_tail *tail, struct sdb_wal_history *history, uint64_t next,
                       const struct sdb_wal_place *end)
{
    *tail = (struct sdb_wal_tail){.history = history, .next = next};
    if (end != NULL)
        tail->place = *end;
}

void sdb_wal_tail_rest(struct sdb_wal_tail *tail)
{
    free(tail->buffer);
    tail->buffer = NULL;
    tail->have = 0;
}

void sdb_wal_tail_fini(struct sdb_wal_tail *tail)
{
    sdb_wal_tail_rest(tail);
    if (tail->shared != NULL)
        sdb_wal_history_give_back(tail->history, tail->shared);
    tail->shared = NULL;
}

/* Report damage at `place` and give up the history below it. */
static storm_status damaged(struct sdb_wal_tail *tail, const struct sdb_wal_place *place,
                            const char *what)
{
    struct sdb_wal_history *history = tail->history;
    struct sdb_wal_place at = *place;
    char path[SDB_WAL_PATH];

    sdb_wal_segment_path(path, history->dir, at.segment);
    sdb_wal_history_damaged(history, &at);
    sdb_wal_tail_rest(tail);
    tail->place.segment = 0; /* to be looked for, and found to be below the floor */
    return sdb_fail(history->os->errors, STORM_CORRUPT,
                    "%s: log record at offset %" PRIu64 ", revision %" PRIu64
                    ": %s; change feeds begin at revision %" PRIu64 " now",
                    path, at.offset, at.revision, what, sdb_wal_history_oldest(history));
}

storm_status sdb_wal_tail_refuse(struct sdb_wal_tail *tail, const char *what)
{
    tail->next = tail->record.revision;
    return damaged(tail, &tail->record, what);
}

/* Read from the place on, `need` bytes at least. STORM_MORE: look for the place again. */
static storm_status fill(struct sdb_wal_tail *tail, uint64_t need)
{
    struct sdb_wal_history *history = tail->history;
    uint64_t end, size;
    size_t got;
    storm_status status;

    sdb_wal_tail_rest(tail);
    status = sdb_wal_history_borrow(history, &tail->place, &tail->shared, &end);
    if (status == STORM_GONE)
        return STORM_MORE;
    if (status == STORM_CORRUPT)
        return damaged(tail, &tail->place, "the file is missing");
    if (status != STORM_OK)
        return status;
    if (tail->place.offset > end || end - tail->place.offset < need)
        return damaged(tail, &tail->place, "it does not fit its segment");
    size = end - tail->place.offset;
    if (size > BUFFER)
        size = need > BUFFER ? need : BUFFER;
    tail->buffer = malloc((size_t)size);
    if (tail->buffer == NULL)
        return sdb_fail(history->os->errors, STORM_NO_MEMORY,
                        "change feed: no memory for %" PRIu64 " bytes of log", size);
    status = sdb_pread(tail->shared->file, tail->place.offset, tail->buffer, (size_t)size, &got);
    if (!sdb_wal_history_holds(history, &tail->place))
        status = STORM_MORE; /* its file may have been another's already */
    else if (status == STORM_OK && got < need)
        status = damaged(tail, &tail->place, "the file ends before it");
    if (status != STORM_OK) {
        sdb_wal_tail_rest(tail);
        return status;
    }
    tail->base = tail->place.offset;
    tail->have = got;
    return STORM_OK;
}

/* The bytes of the place that the buffer has; fewer than `need` only after a failure. */
static storm_status fetch(struct sdb_wal_tail *tail, uint64_t need, const uint8_t **bytes)
{
    uint64_t skip = tail->place.offset - tail->base;
    storm_status status = STORM_OK;

    if (tail->buffer == NULL || skip > tail->have || tail->have - skip < need) {
        status = fill(tail, need);
        skip = 0;
    }
    *bytes = status == STORM_OK ? tail->buffer + skip : NULL;
    return status;
}

/* Go on behind a record. */
static void pass(struct sdb_wal_tail *tail, const struct sdb_wal_record *record)
{
    uint64_t step = tail->place.offset / SDB_WAL_PLACE_STEP;

    tail->place.offset += sdb_wal_record_size(record->length);
    if (record->batches > 0)
        tail->place.revision = record->first_revision + record->batches;
    if (tail->place.offset / SDB_WAL_PLACE_STEP != step)
        sdb_wal_history_note(tail->history, &tail->place);
}

/* The record at the place, if it holds the wanted revision; else pass it by with STORM_MORE. */
static storm_status look(struct sdb_wal_tail *tail, struct sdb_wal_batches *batches)
{
    struct sdb_wal_record record;
    const uint8_t *bytes;
    size_t padded;
    storm_status status = fetch(tail, SDB_WAL_RECORD, &bytes);

    if (status != STORM_OK)
        return status;
    if (!sdb_wal_record_decode(bytes,
                               sdb_wal_record_seed(tail->history->store_id, tail->place.segment),
                               tail->place.offset, &record))
        return damaged(tail, &tail->place, "its header is damaged");
    if (record.batches > 0 && record.first_revision > tail->place.revision)
        return damaged(tail, &tail->place, "revisions before it are missing");
    if (record.batches == 0 || record.first_revision + record.batches <= tail->next) {
        pass(tail, &record);
        return STORM_MORE;
    }
    status = fetch(tail, sdb_wal_record_size(record.length), &bytes);
    if (status != STORM_OK)
        return status;
    padded = (size_t)sdb_wal_padded(record.length);
    if (sdb_crc32c(record.header_crc, bytes + SDB_WAL_RECORD, padded) != record.crc)
        return damaged(tail, &tail->place, "its contents are damaged");
    *batches = (struct sdb_wal_batches){record.first_revision, record.batches,
                                        storm_bytes(bytes + SDB_WAL_RECORD, record.length)};
    tail->record = tail->place;
    tail->record.revision = record.first_revision;
    tail->next = record.first_revision + record.batches;
    pass(tail, &record);
    return STORM_OK;
}

storm_status sdb_wal_tail_record(struct sdb_wal_tail *tail, struct sdb_wal_batches *batches)
{
    storm_status status = STORM_MORE;

    *batches = (struct sdb_wal_batches){0};
    while (status == STORM_MORE) {
        /* Overtaken, or not placed yet. */
        if (tail->buffer == NULL &&
            (tail->place.segment == 0 || !sdb_wal_history_holds(tail->history, &tail->place))) {
            status = sdb_wal_history_seek(tail->history, tail->next, &tail->place);
            if (status != STORM_OK)
                return status;
        }
        status = look(tail, batches);
    }
    return status;
}
