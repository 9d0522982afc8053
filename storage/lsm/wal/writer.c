/*
 * The writer: append, sync, roll to the next segment, release flushed ones.
 *
 *             durable            end                           size      limit
 *   | header | records, synced  | records, in the page cache | zeroes | - - - - |
 *
 * Invariants
 *   - Records lie one behind the other from the header to `end`; nothing behind it is ever replayed.
 *   - `durable` is what fdatasync has covered. It is advanced by every successful sync and by nothing
 *     else, and each record carries it: recovery's only way to tell damage from a torn tail.
 *   - A segment is left only when `durable` is `end`, so that only the last one can be torn. Once a
 *     successor's header may be on the disk, which names `end`, nothing is appended (is_sealed).
 *   - A segment begins with 1 MiB allocated and doubles as it fills, up to `limit`: a store that has
 *     little to log takes little disk. Nothing is written beyond `size`, so that no write meets a
 *     full disk. A clean close cuts off what was not used, and removes the spares.
 *   - Appends that fail leave `end` where it was. Most have written a part, which does not verify;
 *     what verifies is taken back (undo). When that can not be done the log is broken.
 *   - One sync at a time. The kernel tells of a failure to write back once for each open file: of two
 *     syncs side by side only one might hear of it, and the other one would vouch for lost records.
 *   - What nobody syncs is written all the same, by another thread (catch_up), a MiB at a time; the
 *     last MiB of a segment are synced by it. Else the kernel would gather 64 MiB, and the writer
 *     who finds the segment full would wait 60 ms until they are on the disk.
 *   - A failed sync breaks the log for good: the kernel may have dropped the pages and call the next
 *     one a success. After it no file is removed either, they are the evidence for the next open.
 *
 * Cost: an append of a few batches is one pwritev, or one copy into a mapped page (os.h,
 * sdb_store), and no allocation; lengths and header are built on the stack, batches go out from
 * where they lie. Checksums cost about 0.1 ns a byte. Both ways lead to the same pages: for
 * recovery, readers and syncs it makes no difference which was taken, and a failed one leaves the
 * same behind.
 *
 * Threads and locks: one thread at a time appends; it owns what has no mark below. Any thread may
 * sync beside it: it waits for a sync under way, then covers what had been appended when its own
 * began. A segment is left with `durable` at `end`, so no sync of it can be under way or begin any
 * more when its file is closed. `sync_mu` is never held across a sync. Which segments and spares
 * there are is the history's, which has a mutex of its own. The counters are atomic, in relaxed
 * order: each is a number for itself. `is_broken` too: whoever needs to know at once is told by the
 * status of the call that broke the log.
 */
#include "lsm/wal/writer.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "util/coding.h"
#include "util/crc32c.h"

enum {
    SMALL_GROUP = 16,          /* batches whose lengths and parts fit the stack: 0.6 KiB */
    CHECK_CHUNK = 16 * 1024,   /* read back at a time after a failed append */
    SEGMENT_ROUND = 64 * 1024, /* sizes of segments are rounded up to it */
    WRITE_OUT = 1 << 20,       /* unsynced bytes that the kernel is asked to write at a time */
    KEPT_BACK = 1 << 20,       /* and so many it is not asked for yet: see sdb_wal_catch_up() */
    LAST_BYTES = 8 << 20,      /* of a segment, which are synced instead, */
    LAST_SYNC = 1 << 20,       /* so many at a time */
    GROW_LEAST = 1 << 20,      /* allocated at a time, or as much as is used already */
    STORED_MOST = 4096,        /* a larger record is cheaper written than stored page by page */
};

struct sdb_wal {
    struct sdb_os *os;                  /* const */
    struct sdb_account *account;        /* const */
    char *dir;                          /* const */
    uint64_t store_id;                  /* const */
    uint64_t segment_bytes;             /* const */
    uint32_t epoch;                     /* const */
    uint64_t (*next_number)(void *ctx); /* const */
    void *number_ctx;                   /* const */

    struct sdb_file *file; /* the current segment; changed under sync_mu */
    uint64_t size;         /* of it, as far as it is known to be allocated */
    uint64_t limit;        /* it is full when this is reached; changed under sync_mu */
    uint64_t end;
    uint64_t last_revision;
    uint32_t seed;
    bool is_sealed;
    bool may_store; /* through a mapping; false once this file has refused */

    uint8_t *lengths; /* header and lengths of large groups */
    struct iovec *parts;
    size_t group_room; /* batches that both have room for */

    pthread_mutex_t sync_mu;
    pthread_cond_t sync_ended;  /* wakes those who wait for is_syncing to become false */
    bool is_syncing;            /* sync_mu */
    _Atomic uint64_t synced_to; /* `durable`: stored by whoever synced, under sync_mu */
    _Atomic uint64_t
        shared_end; /* `end` for other threads: stored with release by the writer, loaded
                                    with acquire by sync_file() */

    _Atomic uint64_t written_back; /* the kernel has been asked to write it up to here; a hint */

    _Atomic uint64_t number; /* of the current segment */
    _Atomic bool is_broken;
    _Atomic uint64_t bytes, appended, syncs, last_sync_us;

    struct sdb_wal_history *history; /* const; owned */
};

static void count(_Atomic uint64_t *counter, uint64_t add)
{
    atomic_fetch_add_explicit(counter, add, memory_order_relaxed);
}

static uint64_t counted(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Memory that the store's account knows of. */
static void *counted_alloc(struct sdb_wal *wal, size_t size)
{
    return sdb_account_took(wal->account, SDB_FOR_LOG, malloc(size));
}

static void release(struct sdb_wal *wal, void *p)
{
    sdb_account_free(wal->account, SDB_FOR_LOG, p);
}

bool sdb_wal_is_broken(const struct sdb_wal *wal)
{
    return atomic_load_explicit(&wal->is_broken, memory_order_relaxed);
}

uint64_t sdb_wal_segment(const struct sdb_wal *wal)
{
    return counted(&wal->number);
}

/* What failed was recorded where it failed; this says what follows from it. */
static void break_wal(struct sdb_wal *wal, const char *why)
{
    if (atomic_exchange_explicit(&wal->is_broken, true, memory_order_relaxed))
        return;
    sdb_log(wal->os->errors, STORM_LOG_ERROR,
            "log segment %" PRIu64 ": %s; no writes until the store is opened again",
            sdb_wal_segment(wal), why);
}

/* ---- Sync ------------------------------------------------------------------------------------ */

/* `end` has moved. */
static void share_end(struct sdb_wal *wal)
{
    atomic_store_explicit(&wal->shared_end, wal->end, memory_order_release);
}

/* The place for a sync; false when there is nothing to sync, or when the log is broken. */
static bool begin_sync(struct sdb_wal *wal, bool is_forced, struct sdb_file **file, uint64_t *end)
{
    pthread_mutex_lock(&wal->sync_mu);
    while (wal->is_syncing)
        pthread_cond_wait(&wal->sync_ended, &wal->sync_mu);
    *file = wal->file;
    *end = atomic_load_explicit(&wal->shared_end, memory_order_acquire);
    wal->is_syncing = !sdb_wal_is_broken(wal) && (is_forced || counted(&wal->synced_to) != *end);
    bool has_begun = wal->is_syncing;
    pthread_mutex_unlock(&wal->sync_mu);
    return has_begun;
}

static void end_sync(struct sdb_wal *wal, uint64_t durable)
{
    pthread_mutex_lock(&wal->sync_mu);
    atomic_store_explicit(&wal->synced_to, durable, memory_order_relaxed);
    wal->is_syncing = false;
    pthread_cond_broadcast(&wal->sync_ended);
    pthread_mutex_unlock(&wal->sync_mu);
}

/* Sync the current segment; forced = even if nothing was appended since the last time. */
static storm_status sync_file(struct sdb_wal *wal, bool is_forced)
{
    struct sdb_file *file;
    uint64_t end, begun;
    storm_status status;

    if (!begin_sync(wal, is_forced, &file, &end))
        return sdb_wal_is_broken(wal) ? STORM_IO : STORM_OK;
    begun = sdb_now_ns(wal->os);
    status = sdb_sync(file);
    if (status != STORM_OK) {
        break_wal(wal, "a sync failed"); /* before the next one may begin */
        end_sync(wal, counted(&wal->synced_to));
        return status;
    }
    count(&wal->syncs, 1);
    atomic_store_explicit(&wal->last_sync_us, (sdb_now_ns(wal->os) - begun) / 1000,
                          memory_order_relaxed);
    end_sync(wal, end);
    return STORM_OK;
}

storm_status sdb_wal_sync(struct sdb_wal *wal)
{
    return sync_file(wal, false);
}

/* Have [written_back, end) written. The file must not be closed meanwhile. */
static void write_back(struct sdb_wal *wal, struct sdb_file *file, uint64_t end)
{
    uint64_t from = counted(&wal->written_back);

    if (from < counted(&wal->synced_to))
        from = counted(&wal->synced_to);
    if (from >= end)
        return;
    sdb_start_writeback(file, from, end - from);
    atomic_store_explicit(&wal->written_back, end, memory_order_relaxed);
}

void sdb_wal_start_writeback(struct sdb_wal *wal)
{
    write_back(wal, wal->file, wal->end);
}

/* Whether records up to `end` come near the end of a segment that is large enough to matter. */
static bool is_near_end(uint64_t end, uint64_t limit)
{
    return limit > 2 * LAST_BYTES && end + LAST_BYTES > limit;
}

bool sdb_wal_is_behind(const struct sdb_wal *wal)
{
    uint64_t synced = counted(&wal->synced_to);
    uint64_t written = counted(&wal->written_back);

    if (is_near_end(wal->end, wal->limit))
        return wal->end - synced >= LAST_SYNC;
    return wal->end - (written > synced ? written : synced) >= WRITE_OUT + KEPT_BACK;
}

/*
 * The newest records are left alone: their pages are still mapped, and before the kernel writes
 * such a page it takes the right to store to it from every processor, one page after the other.
 */
storm_status sdb_wal_catch_up(struct sdb_wal *wal)
{
    struct sdb_file *file;
    uint64_t end;
    bool is_last;

    pthread_mutex_lock(&wal->sync_mu);
    is_last = is_near_end(atomic_load_explicit(&wal->shared_end, memory_order_acquire), wal->limit);
    pthread_mutex_unlock(&wal->sync_mu);
    if (is_last)
        return sync_file(wal, false);
    if (begin_sync(wal, false, &file, &end)) { /* so that nobody closes it */
        if (end > KEPT_BACK)
            write_back(wal, file, end - KEPT_BACK);
        end_sync(wal, counted(&wal->synced_to));
    }
    return sdb_wal_is_broken(wal) ? STORM_IO : STORM_OK;
}

/* ---- Segments -------------------------------------------------------------------------------- */

/* Go on in a segment that is durable, `size` bytes of it allocated. Room was reserved. */
static void enter_segment(struct sdb_wal *wal, struct sdb_file *file,
                          const struct sdb_wal_span *segment, uint64_t size)
{
    struct sdb_file *left = wal->file;

    pthread_mutex_lock(&wal->sync_mu);
    wal->file = file;
    wal->end = SDB_WAL_HEADER + segment->records;
    share_end(wal);
    atomic_store_explicit(&wal->synced_to, wal->end, memory_order_relaxed);
    atomic_store_explicit(&wal->written_back, wal->end, memory_order_relaxed);
    wal->limit = segment->size;
    pthread_mutex_unlock(&wal->sync_mu);
    sdb_close(left);
    wal->size = size;
    wal->is_sealed = false;
    wal->may_store = true;
    wal->seed = sdb_wal_record_seed(wal->store_id, segment->number);
    atomic_store_explicit(&wal->number, segment->number, memory_order_relaxed);
}

/* The bytes to allocate for records up to `need`, those to come included as far as it pays. */
static uint64_t size_for(uint64_t need, uint64_t limit)
{
    uint64_t size = need + (need < GROW_LEAST ? GROW_LEAST : need);

    size = (size + SEGMENT_ROUND - 1) / SEGMENT_ROUND * SEGMENT_ROUND;
    return size < limit ? size : limit;
}

/* Allocate more of the segment, so that records can end at `need`. */
static storm_status grow(struct sdb_wal *wal, uint64_t need)
{
    uint64_t size = size_for(need, wal->limit);
    storm_status status = sdb_allocate(wal->file, size);

    while (status == STORM_NO_SPACE && (size > need || sdb_wal_give_way(wal))) {
        size = need;
        status = sdb_allocate(wal->file, size);
    }
    if (status == STORM_OK)
        wal->size = size;
    return status;
}

/*
 * Make the segment's file, out of a spare if there is one. On a full disk the oldest segment that
 * is only kept as history becomes one; its space is already allocated.
 */
static storm_status create_segment(struct sdb_wal *wal, const struct sdb_wal_header *header,
                                   uint64_t size, uint64_t limit, struct sdb_wal_created *created)
{
    storm_status status;

    do {
        status = sdb_wal_segment_create(wal->os, wal->dir, header, size,
                                        sdb_wal_history_take_spare(wal->history, limit), created);
    } while (status == STORM_NO_SPACE && !created->may_exist && !created->sync_failed &&
             sdb_wal_history_give_way(wal->history, limit == wal->segment_bytes));
    return status;
}

/* A new segment behind the current one (or the first one), with room for `need` bytes of record. */
static storm_status next_segment(struct sdb_wal *wal, uint64_t need, uint32_t flags)
{
    struct sdb_wal_created created;
    struct sdb_wal_span segment = {.size = wal->segment_bytes,
                                   .first_revision = wal->last_revision + 1};
    struct sdb_wal_header header = {
        .store_id = wal->store_id,
        .previous = sdb_wal_segment(wal),
        .previous_end = wal->end,
        .last_revision = wal->last_revision,
        .epoch = wal->epoch,
        .flags = flags,
        .created_ms = sdb_now_ms(wal->os),
    };
    uint64_t size;
    storm_status status;

    segment.number = wal->next_number(wal->number_ctx);
    if (segment.number <= header.previous)
        return sdb_fail(wal->os->errors, STORM_INVALID,
                        "log: segment number %" PRIu64 " does not follow %" PRIu64, segment.number,
                        header.previous);
    header.number = segment.number;
    if (need > segment.size - SDB_WAL_HEADER)
        segment.size = (SDB_WAL_HEADER + need + SEGMENT_ROUND - 1) / SEGMENT_ROUND * SEGMENT_ROUND;
    status = sdb_wal_history_reserve(wal->history, &segment);
    if (status != STORM_OK)
        return status;
    size = size_for(SDB_WAL_HEADER + need, segment.size);
    status = create_segment(wal, &header, size, segment.size, &created);
    wal->is_sealed = wal->is_sealed || created.may_exist;
    if (created.sync_failed)
        break_wal(wal, "a sync failed");
    if (status != STORM_OK) {
        free(segment.places);
        return status;
    }
    sdb_wal_history_leave(wal->history, wal->end);
    sdb_wal_history_add(wal->history, &segment);
    enter_segment(wal, created.file, &segment, size);
    return STORM_OK;
}

static storm_status roll(struct sdb_wal *wal, uint64_t need)
{
    storm_status status = sdb_wal_sync(wal);
    return status == STORM_OK ? next_segment(wal, need, 0) : status;
}

/* ---- Append ---------------------------------------------------------------------------------- */

/* A record on its way to the disk. */
struct group {
    struct sdb_wal_record record;
    const struct storm_slice *batches;
    size_t count;
    uint8_t *lengths; /* SDB_WAL_RECORD bytes of header, then the length of each batch */
    struct iovec *parts;
};

/* Sizes, and room for the lengths and parts of a group that is too large for the stack. */
static storm_status measure(struct sdb_wal *wal, struct group *group)
{
    uint64_t length = 0;
    bool fits = true;

    for (size_t i = 0; i < group->count && fits; i++) {
        fits = group->batches[i].size <= SDB_WAL_PAYLOAD_MAX - SDB_WAL_LENGTH &&
               SDB_WAL_LENGTH + group->batches[i].size <= SDB_WAL_PAYLOAD_MAX - length;
        length += SDB_WAL_LENGTH + group->batches[i].size;
    }
    if (!fits)
        return sdb_fail(wal->os->errors, STORM_TOO_LARGE,
                        "log: a commit group of %zu batches has more than %" PRIu32 " bytes",
                        group->count, (uint32_t)SDB_WAL_PAYLOAD_MAX);
    group->record.length = (uint32_t)length;
    group->record.batches = (uint32_t)group->count;
    if (group->count <= SMALL_GROUP)
        return STORM_OK;
    if (group->count > wal->group_room) {
        release(wal, wal->lengths);
        release(wal, wal->parts);
        wal->group_room = 0;
        wal->lengths = counted_alloc(wal, SDB_WAL_RECORD + group->count * SDB_WAL_LENGTH);
        wal->parts = counted_alloc(wal, (2 * group->count + 1) * sizeof(*wal->parts));
        if (wal->lengths == NULL || wal->parts == NULL)
            return sdb_fail(wal->os->errors, STORM_NO_MEMORY,
                            "log: no memory for a commit group of %zu batches", group->count);
        wal->group_room = group->count;
    }
    group->lengths = wal->lengths;
    group->parts = wal->parts;
    return STORM_OK;
}

/* Checksum `size` bytes and make them the next part. */
static int add_part(struct iovec *parts, int parts_count, uint32_t *crc, const void *data,
                    size_t size)
{
    if (size == 0)
        return parts_count;
    *crc = sdb_crc32c(*crc, data, size);
    parts[parts_count] = (struct iovec){(void *)(uintptr_t)data, size};
    return parts_count + 1;
}

/*
 * What lies unsynced before the record says that nobody waits for syncs here: then through a
 * mapping. Behind a sync comes, most likely, another one, and fdatasync is quickest when the page
 * was written to by a call.
 */
static storm_status put_record(struct sdb_wal *wal, const struct iovec *parts, int count,
                               uint64_t size)
{
    storm_status status = STORM_UNSUPPORTED;

    if (wal->may_store && size <= STORED_MOST && counted(&wal->synced_to) != wal->end) {
        status = sdb_store(wal->file, wal->end, parts, count);
        wal->may_store = status != STORM_UNSUPPORTED;
    }
    return status == STORM_UNSUPPORTED ? sdb_pwritev(wal->file, wal->end, parts, count) : status;
}

/* Build the record for the place `end` and write it. The first part is header and first length. */
static storm_status write_group(struct sdb_wal *wal, struct group *group)
{
    static const uint8_t zeroes[SDB_WAL_ALIGN];
    uint8_t *at = group->lengths + SDB_WAL_RECORD;
    int parts = 1;
    uint32_t crc;

    group->record.epoch = wal->epoch;
    group->record.durable = counted(&wal->synced_to);
    sdb_wal_record_encode(group->lengths, &group->record, wal->seed, wal->end);
    crc = group->record.header_crc;
    for (size_t i = 0; i < group->count; i++, at += SDB_WAL_LENGTH) {
        sdb_put_u32(at, (uint32_t)group->batches[i].size);
        if (i == 0)
            crc = sdb_crc32c(crc, at, SDB_WAL_LENGTH);
        else
            parts = add_part(group->parts, parts, &crc, at, SDB_WAL_LENGTH);
        parts = add_part(group->parts, parts, &crc, group->batches[i].data, group->batches[i].size);
    }
    parts = add_part(group->parts, parts, &crc, zeroes,
                     (size_t)sdb_wal_padded(group->record.length) - group->record.length);
    sdb_put_u32(group->lengths, crc);
    group->parts[0] = (struct iovec){group->lengths, SDB_WAL_RECORD + SDB_WAL_LENGTH};
    return put_record(wal, group->parts, parts, sdb_wal_record_size(group->record.length));
}

/* Whether the record that was to be written at `end` verifies there. True when it can not be
 * read. */
static bool stands_there(struct sdb_wal *wal, const struct sdb_wal_record *record)
{
    uint8_t chunk[CHECK_CHUNK];
    struct sdb_wal_record found;
    uint64_t at = wal->end + SDB_WAL_RECORD;
    uint64_t left = sdb_wal_padded(record->length);
    uint32_t crc = record->header_crc;
    size_t got;

    if (sdb_pread(wal->file, wal->end, chunk, SDB_WAL_RECORD, &got) != STORM_OK)
        return true;
    if (got < SDB_WAL_RECORD || !sdb_wal_record_decode(chunk, wal->seed, wal->end, &found) ||
        found.header_crc != record->header_crc)
        return false;
    while (left > 0) {
        size_t size = left < CHECK_CHUNK ? (size_t)left : CHECK_CHUNK;
        if (sdb_pread(wal->file, at, chunk, size, &got) != STORM_OK)
            return true;
        if (got < size)
            return false;
        crc = sdb_crc32c(crc, chunk, size);
        at += size;
        left -= size;
    }
    return crc == found.crc;
}

/*
 * A write failed: see that its record is never replayed. What was not written at all can not be on
 * the disk, whatever the page cache does, so a record that does not verify now never will, and the
 * next append overwrites it: this works on a full disk too, where nothing can be written. If it
 * does verify its header is zeroed, durably, for after a power loss the zeroes might be the part
 * that is missing.
 */
static void undo(struct sdb_wal *wal, const struct sdb_wal_record *record)
{
    static const uint8_t zeroes[SDB_WAL_RECORD];

    if (!stands_there(wal, record))
        return;
    if (sdb_pwrite(wal->file, wal->end, zeroes, sizeof(zeroes)) != STORM_OK)
        break_wal(wal, "a failed write could not be taken back");
    else
        (void)sync_file(wal, true);
}

bool sdb_wal_fits(const struct sdb_wal *wal, size_t size)
{
    if (size > SDB_WAL_PAYLOAD_MAX - SDB_WAL_LENGTH || wal->is_sealed || wal->end > wal->limit)
        return false;
    return sdb_wal_record_size((uint32_t)(SDB_WAL_LENGTH + size)) <= wal->limit - wal->end;
}

storm_status sdb_wal_append(struct sdb_wal *wal, uint64_t first_revision,
                            const struct storm_slice *batches, size_t batch_count)
{
    uint8_t lengths[SDB_WAL_RECORD + SMALL_GROUP * SDB_WAL_LENGTH];
    struct iovec parts[2 * SMALL_GROUP + 1];
    struct group group = {
        .batches = batches, .count = batch_count, .lengths = lengths, .parts = parts};
    uint64_t size;
    storm_status status;

    if (sdb_wal_is_broken(wal))
        return STORM_IO;
    if (batch_count == 0)
        return STORM_OK;
    if (first_revision <= wal->last_revision || first_revision > UINT64_MAX - batch_count)
        return sdb_fail(wal->os->errors, STORM_INVALID,
                        "log: revision %" PRIu64 " does not follow %" PRIu64, first_revision,
                        wal->last_revision);
    status = measure(wal, &group);
    if (status != STORM_OK)
        return status;
    group.record.first_revision = first_revision;
    size = sdb_wal_record_size(group.record.length);
    if (wal->is_sealed || wal->end > wal->limit || size > wal->limit - wal->end)
        status = roll(wal, size);
    if (status == STORM_OK && wal->end + size > wal->size)
        status = grow(wal, wal->end + size);
    if (status != STORM_OK)
        return status;
    do { /* a file system that copies on write may find the disk full although all was allocated */
        status = write_group(wal, &group);
        if (status != STORM_OK)
            undo(wal, &group.record);
    } while (status == STORM_NO_SPACE && sdb_wal_give_way(wal));
    if (status != STORM_OK)
        return status;
    wal->end += size;
    share_end(wal);
    wal->last_revision = first_revision + batch_count - 1;
    count(&wal->bytes, size);
    count(&wal->appended, size);
    return STORM_OK;
}

/* ---- Release and figures --------------------------------------------------------------------- */

void sdb_wal_publish(struct sdb_wal *wal)
{
    sdb_wal_history_publish(wal->history, wal->end, wal->last_revision + 1);
}

struct sdb_wal_history *sdb_wal_history(struct sdb_wal *wal)
{
    return wal->history;
}

void sdb_wal_release(struct sdb_wal *wal, uint64_t first_needed)
{
    uint64_t released;

    if (sdb_wal_is_broken(wal))
        return;
    released = sdb_wal_history_release(wal->history, first_needed);
    atomic_fetch_sub_explicit(&wal->bytes, released, memory_order_relaxed);
    while (!sdb_wal_is_broken(wal) && sdb_wal_history_trim(wal->history))
        continue;
}

bool sdb_wal_give_way(struct sdb_wal *wal)
{
    return !sdb_wal_is_broken(wal) && sdb_wal_history_give_way(wal->history, false);
}

uint64_t sdb_wal_keep_ms(struct sdb_wal *wal)
{
    return sdb_wal_is_broken(wal) ? UINT64_MAX : sdb_wal_history_due_ms(wal->history);
}

void sdb_wal_stats(const struct sdb_wal *wal, struct sdb_wal_stats *stats)
{
    size_t kept, live;

    sdb_wal_history_count(wal->history, &kept, &live);
    stats->kept = kept;
    stats->segments = live;
    stats->bytes = counted(&wal->bytes);
    stats->syncs = counted(&wal->syncs);
    stats->last_sync_us = counted(&wal->last_sync_us);
    stats->appended_bytes = counted(&wal->appended);
}

/* ---- Begin and end --------------------------------------------------------------------------- */

/* Go on in `last`. */
static storm_status resume_segment(struct sdb_wal *wal, const struct sdb_wal_span *last)
{
    struct sdb_file *file;
    char path[SDB_WAL_PATH];
    storm_status status;

    sdb_wal_segment_path(path, wal->dir, last->number);
    status = sdb_open(wal->os, path, SDB_OPEN_WRITE, &file);
    if (status != STORM_OK)
        return status;
    enter_segment(wal, file, last, 0); /* nobody knows whether it has holes: a copy may */
    status = sdb_sync(file);
    if (status == STORM_OK)
        status = sdb_sync_dir(wal->os, wal->dir);
    return status;
}

static storm_status begin(struct sdb_wal *wal, const struct sdb_wal_resume *resume,
                          uint64_t flushed_revision)
{
    struct sdb_wal_span last;
    bool has_gap = flushed_revision > resume->last_revision;
    storm_status status = STORM_OK;

    count(&wal->bytes, resume->live_bytes);
    if (sdb_wal_history_last(wal->history, &last))
        status = resume_segment(wal, &last);
    else
        has_gap = false;
    if (status != STORM_OK || (wal->file != NULL && !has_gap))
        return status;
    wal->last_revision =
        flushed_revision > resume->last_revision ? flushed_revision : resume->last_revision;
    status = next_segment(wal, 0, has_gap ? SDB_WAL_AFTER_GAP : 0);
    if (status == STORM_OK && has_gap)
        sdb_wal_history_raise(
            wal->history,
            (struct sdb_wal_place){sdb_wal_segment(wal), SDB_WAL_HEADER, wal->last_revision + 1});
    return status;
}

storm_status sdb_wal_writer_create(const struct sdb_wal_options *options,
                                   uint64_t (*next_number)(void *ctx), void *number_ctx,
                                   const struct sdb_wal_resume *resume, struct sdb_wal **wal)
{
    struct sdb_wal *made = calloc(1, sizeof(*made));
    storm_status status;

    *wal = NULL;
    if (made == NULL || pthread_mutex_init(&made->sync_mu, NULL) != 0 ||
        pthread_cond_init(&made->sync_ended, NULL) != 0) {
        free(made);
        sdb_wal_history_destroy(resume->history);
        return sdb_fail(options->os->errors, STORM_NO_MEMORY, "log: no memory for the writer");
    }
    made->os = options->os;
    made->account = options->account;
    sdb_account_took(made->account, SDB_FOR_LOG, made);
    made->store_id = options->store_id;
    made->epoch = options->epoch;
    made->segment_bytes = options->segment_bytes;
    made->next_number = next_number;
    made->number_ctx = number_ctx;
    made->last_revision = resume->last_revision;
    made->history = resume->history;
    made->dir = strdup(options->dir);
    if (made->dir == NULL)
        status = sdb_fail(options->os->errors, STORM_NO_MEMORY, "log: no memory for the writer");
    else
        status = begin(made, resume, options->flushed_revision);
    if (status == STORM_OK) {
        sdb_wal_publish(made);
        *wal = made;
    } else {
        sdb_wal_close(made);
    }
    return status;
}

storm_status sdb_wal_finish(struct sdb_wal *wal)
{
    uint8_t mark[SDB_WAL_RECORD];
    struct sdb_wal_record record = {
        .epoch = wal->epoch, .first_revision = wal->last_revision + 1, .durable = wal->end};
    storm_status status = sdb_wal_sync(wal);

    if (status != STORM_OK || wal->is_sealed)
        return status;
    sdb_wal_record_encode(mark, &record, wal->seed, wal->end);
    sdb_put_u32(mark, record.header_crc);
    if (wal->end + sizeof(mark) > wal->size)
        status = grow(wal, wal->end + sizeof(mark));
    if (status != STORM_OK)
        return STORM_OK;
    if (sdb_pwrite(wal->file, wal->end, mark, sizeof(mark)) != STORM_OK) {
        undo(wal, &record);
        return sdb_wal_is_broken(wal) ? STORM_IO : STORM_OK;
    }
    wal->end += sizeof(mark);
    share_end(wal);
    /* What was allocated and not used goes back; where it cannot, that only costs disk. */
    if (sdb_truncate(wal->file, wal->end) == STORM_OK)
        wal->size = wal->end;
    sdb_wal_history_drop_spares(wal->history);
    return sdb_wal_sync(wal);
}

void sdb_wal_close(struct sdb_wal *wal)
{
    if (wal == NULL)
        return;
    sdb_close(wal->file);
    pthread_mutex_destroy(&wal->sync_mu);
    pthread_cond_destroy(&wal->sync_ended);
    sdb_wal_history_destroy(wal->history);
    release(wal, wal->lengths);
    release(wal, wal->parts);
    free(wal->dir);
    release(wal, wal);
}
