/*
 * Reading one segment.
 *
 * The file is read through a window of 1 MiB, or of one record where that is larger; a length is
 * compared with the size of the file before memory is asked for, so a hostile segment can not make
 * the reader allocate more than its own size.
 *
 * The search (sdb_wal_reader_scan) answers the question "was what is bad here once good?". It takes
 * a record's header for evidence whether its payload verifies or not: the header's own checksum
 * covers store, segment and offset, so nothing else than a write of this log, of this segment, to
 * this place can have left it. It visits 8 M places in a 64 MiB tail: zero words, which are nearly
 * all of them, are passed by at memory speed (about 20 ms), remains of an earlier life fail at the
 * epoch or at the durable offset mostly, and what is left costs one checksum of 32 bytes.
 *
 * What a record means (order of revisions, epochs, damage or torn tail) is decided in recover.c.
 */
#include "lsm/wal/reader.h"

#include <inttypes.h>
#include <stdlib.h>

#include "util/coding.h"
#include "util/crc32c.h"

enum { WINDOW = 1024 * 1024 };

storm_status sdb_wal_reader_open(struct sdb_wal_reader *reader, struct sdb_os *os, const char *dir,
                                 uint64_t store_id, uint64_t number)
{
    storm_status status;

    *reader = (struct sdb_wal_reader){.os = os};
    reader->seed = sdb_wal_record_seed(store_id, number);
    sdb_wal_segment_path(reader->path, dir, number);
    status = sdb_open(os, reader->path, SDB_OPEN_READ, &reader->file);
    if (status == STORM_OK)
        status = sdb_size(reader->file, &reader->size);
    if (status != STORM_OK)
        sdb_wal_reader_close(reader);
    return status;
}

void sdb_wal_reader_close(struct sdb_wal_reader *reader)
{
    sdb_close(reader->file);
    free(reader->buffer);
    reader->file = NULL;
    reader->buffer = NULL;
    reader->room = 0;
    reader->have = 0;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Room for `size` bytes; what was in the buffer is forgotten. */
static storm_status make_room(struct sdb_wal_reader *reader, size_t size)
{
    if (size <= reader->room)
        return STORM_OK;
    free(reader->buffer);
    reader->room = 0;
    reader->have = 0;
    reader->buffer = malloc(size);
    if (reader->buffer == NULL)
        return sdb_fail(reader->os->errors, STORM_NO_MEMORY,
                        "%s: no memory for a record of %zu bytes", reader->path, size);
    reader->room = size;
    return STORM_OK;
}

/* The bytes [offset, offset + size), which lie within the file. Borrowed until the next call. */
static storm_status fetch(struct sdb_wal_reader *reader, uint64_t offset, size_t size,
                          const uint8_t **bytes)
{
    size_t wanted, got;
    storm_status status;

    *bytes = NULL;
    if (offset < reader->base || offset + size > reader->base + reader->have) {
        wanted = size < WINDOW ? (size_t)min_u64(WINDOW, reader->size - offset) : size;
        status = make_room(reader, wanted);
        if (status != STORM_OK)
            return status;
        reader->have = 0;
        status = sdb_pread(reader->file, offset, reader->buffer, wanted, &got);
        if (status != STORM_OK)
            return status;
        reader->base = offset;
        reader->have = got;
        if (got < size)
            return sdb_fail(reader->os->errors, STORM_IO,
                            "%s: ends at %" PRIu64 " while being read, %" PRIu64 " bytes expected",
                            reader->path, offset + got, reader->size);
    }
    *bytes = reader->buffer + (offset - reader->base);
    return STORM_OK;
}

storm_status sdb_wal_reader_header(struct sdb_wal_reader *reader, enum sdb_wal_header_kind *kind,
                                   struct sdb_wal_header *header, uint32_t *version)
{
    const uint8_t *page;
    storm_status status;

    *kind = SDB_WAL_HEADER_BAD;
    *header = (struct sdb_wal_header){0};
    *version = 0;
    if (reader->size < SDB_WAL_HEADER)
        return STORM_OK;
    status = fetch(reader, 0, SDB_WAL_HEADER, &page);
    if (status == STORM_OK)
        *kind = sdb_wal_header_decode(storm_bytes(page, SDB_WAL_HEADER), header, version);
    return status;
}

storm_status sdb_wal_reader_record(struct sdb_wal_reader *reader, uint64_t offset, uint64_t limit,
                                   struct sdb_wal_record *record, struct storm_slice *payload,
                                   bool *is_valid)
{
    uint64_t end = min_u64(limit, reader->size);
    const uint8_t *bytes;
    uint64_t size;
    storm_status status;

    *is_valid = false;
    *payload = storm_bytes(NULL, 0);
    *record = (struct sdb_wal_record){0};
    if (offset > end || end - offset < SDB_WAL_RECORD)
        return STORM_OK;
    status = fetch(reader, offset, SDB_WAL_RECORD, &bytes);
    if (status != STORM_OK)
        return status;
    if (!sdb_wal_record_decode(bytes, reader->seed, offset, record)) {
        *record = (struct sdb_wal_record){0};
        return STORM_OK;
    }
    size = sdb_wal_record_size(record->length);
    if (size > end - offset)
        return STORM_OK;
    status = fetch(reader, offset, (size_t)size, &bytes);
    if (status != STORM_OK)
        return status;
    *payload = storm_bytes(bytes + SDB_WAL_RECORD, record->length);
    *is_valid = sdb_crc32c(record->header_crc, payload->data,
                           (size_t)sdb_wal_padded(record->length)) == record->crc;
    return STORM_OK;
}

static void note(struct sdb_wal_remains *remains, const struct sdb_wal_record *record,
                 uint64_t offset)
{
    uint64_t end = offset + sdb_wal_record_size(record->length);

    remains->headers++;
    if (record->durable > remains->durable)
        remains->durable = record->durable;
    if (record->epoch > remains->max_epoch)
        remains->max_epoch = record->epoch;
    if (end > remains->end)
        remains->end = end;
}

storm_status sdb_wal_reader_scan(struct sdb_wal_reader *reader, uint64_t from, uint32_t epoch,
                                 struct sdb_wal_remains *remains)
{
    struct sdb_wal_record record;
    const uint8_t *bytes;
    uint64_t at = from;
    storm_status status;

    *remains = (struct sdb_wal_remains){0};
    while (at <= reader->size && reader->size - at >= SDB_WAL_RECORD) {
        size_t size = (size_t)min_u64(WINDOW, reader->size - at);
        size_t last = (size - SDB_WAL_RECORD) / SDB_WAL_ALIGN * SDB_WAL_ALIGN;

        status = fetch(reader, at, size, &bytes);
        if (status != STORM_OK)
            return status;
        for (size_t i = 0; i <= last; i += SDB_WAL_ALIGN) {
            /* The epoch is never zero, and it shares this word with the number of batches. */
            if (sdb_get_u64(bytes + i + 8) != 0 &&
                sdb_wal_record_decode(bytes + i, reader->seed, at + i, &record) &&
                record.epoch >= epoch)
                note(remains, &record, at + i);
        }
        at += last + SDB_WAL_ALIGN;
    }
    return STORM_OK;
}
