/*
 * The list of segments: see history.h for what it holds.
 *
 * A segment's life:   current -> left -> released, kept -> spare -> another segment's file
 *                                             \-> removed
 *
 * Why a reader never sees a wrong record. A segment is taken off the list (under mu) before its
 * file is renamed, let alone written to. A reader reads first and then asks whether the segment is
 * still on the list: if so, the bytes were those of this segment. Checksums cover the segment's
 * number and the record's offset on top of that. And it reads no further than what was published:
 * behind that lie groups that may fail, and remains of torn tails.
 *
 * When segments were left is taken from the wall clock and kept in the next one's header, so it
 * survives a restart. The clock may jump: a segment counts as left no later than the ones after it
 * and no later than now, so a time from the future is corrected as soon as it is looked at. A clock
 * that jumps ahead makes history look old, and it is dropped: "none of it older" is what was asked
 * for.
 */
#include "lsm/wal/history.h"

#include <stdlib.h>
#include <string.h>

/* ---- Begin and end --------------------------------------------------------------------------- */

storm_status sdb_wal_history_create(const struct sdb_wal_options *options,
                                    struct sdb_wal_history **history)
{
    struct sdb_wal_history *made = calloc(1, sizeof(*made));

    *history = NULL;
    if (made != NULL)
        made->dir = strdup(options->dir);
    if (made == NULL || made->dir == NULL || pthread_mutex_init(&made->mu, NULL) != 0) {
        if (made != NULL)
            free(made->dir);
        free(made);
        return sdb_fail(options->os->errors, STORM_NO_MEMORY, "log: no memory for its list");
    }
    made->os = options->os;
    made->store_id = options->store_id;
    made->segment_bytes = options->segment_bytes;
    made->retention_bytes = options->retention_bytes;
    made->retention_ms = options->retention_ms;
    *history = made;
    return STORM_OK;
}

void sdb_wal_history_destroy(struct sdb_wal_history *history)
{
    if (history == NULL)
        return;
    for (size_t i = 0; i < history->count; i++)
        free(history->spans[i].places);
    pthread_mutex_destroy(&history->mu);
    free(history->spans);
    free(history->dir);
    free(history);
}

/* ---- The list -------------------------------------------------------------------------------- */

/* Bytes used of a segment that was left. */
static uint64_t used_bytes(const struct sdb_wal_span *span)
{
    return SDB_WAL_HEADER + span->records;
}

static struct sdb_wal_place start_of(const struct sdb_wal_span *span)
{
    return (struct sdb_wal_place){span->number, SDB_WAL_HEADER, span->first_revision};
}

static bool is_before(const struct sdb_wal_place *a, const struct sdb_wal_place *b)
{
    return a->segment != b->segment ? a->segment < b->segment : a->offset < b->offset;
}

/* The segment numbered `number`; NULL when it is not on the list. mu is held. */
static struct sdb_wal_span *find(struct sdb_wal_history *history, uint64_t number)
{
    size_t low = 0, high = history->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (history->spans[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < history->count && history->spans[low].number == number ? &history->spans[low]
                                                                        : NULL;
}

static bool is_current(const struct sdb_wal_history *history, const struct sdb_wal_span *span)
{
    return span == &history->spans[history->count - 1];
}

bool sdb_wal_history_has(struct sdb_wal_history *history, uint64_t number)
{
    bool has;

    pthread_mutex_lock(&history->mu);
    has = find(history, number) != NULL;
    pthread_mutex_unlock(&history->mu);
    return has;
}

bool sdb_wal_history_last(struct sdb_wal_history *history, struct sdb_wal_span *span)
{
    bool has;

    pthread_mutex_lock(&history->mu);
    has = history->count > 0;
    if (has)
        *span = history->spans[history->count - 1];
    pthread_mutex_unlock(&history->mu);
    return has;
}

void sdb_wal_history_count(struct sdb_wal_history *history, size_t *kept, size_t *live)
{
    pthread_mutex_lock(&history->mu);
    *kept = history->kept;
    *live = history->count - history->kept;
    pthread_mutex_unlock(&history->mu);
}

/* Room for one more in the list. */
static storm_status grow(struct sdb_wal_history *history)
{
    struct sdb_wal_span *spans;
    size_t room;
    storm_status status = STORM_OK;

    pthread_mutex_lock(&history->mu);
    if (history->count == history->room) {
        room = history->room * 2 + 8;
        spans = realloc(history->spans, room * sizeof(*spans));
        if (spans != NULL) {
            history->spans = spans;
            history->room = room;
        } else {
            status = STORM_NO_MEMORY;
        }
    }
    pthread_mutex_unlock(&history->mu);
    return status;
}

storm_status sdb_wal_history_reserve(struct sdb_wal_history *history, struct sdb_wal_span *span)
{
    storm_status status = grow(history);

    if (status == STORM_OK) {
        span->places = calloc((size_t)(span->size / SDB_WAL_PLACE_STEP) + 1, sizeof(*span->places));
        status = span->places != NULL ? STORM_OK : STORM_NO_MEMORY;
    }
    if (status != STORM_OK)
        return sdb_fail(history->os->errors, status, "log: no memory for the list of segments");
    return status;
}

void sdb_wal_history_add(struct sdb_wal_history *history, const struct sdb_wal_span *span)
{
    struct sdb_wal_span *added;

    history->next_place = SDB_WAL_HEADER + span->records + SDB_WAL_PLACE_STEP;
    pthread_mutex_lock(&history->mu);
    added = &history->spans[history->count++];
    *added = *span;
    atomic_store_explicit(&history->published, SDB_WAL_HEADER + span->records,
                          memory_order_release);
    if (history->count == 1)
        history->floor = start_of(added);
    pthread_mutex_unlock(&history->mu);
}

void sdb_wal_history_leave(struct sdb_wal_history *history, uint64_t end)
{
    uint64_t now_ms = sdb_now_ms(history->os);
    struct sdb_wal_span *last;

    pthread_mutex_lock(&history->mu);
    if (history->count > 0) {
        last = &history->spans[history->count - 1];
        last->records = end - SDB_WAL_HEADER;
        last->left_ms = now_ms;
    }
    pthread_mutex_unlock(&history->mu);
}

void sdb_wal_history_publish(struct sdb_wal_history *history, uint64_t end, uint64_t next)
{
    atomic_store_explicit(&history->next, next, memory_order_relaxed);
    /* Release: who sees this end sees `next` at least; partner: sdb_wal_history_end(), borrow(). */
    atomic_store_explicit(&history->published, end, memory_order_release);
    if (end >= history->next_place) {
        struct sdb_wal_place place = {.offset = end, .revision = next};
        history->next_place = end + SDB_WAL_PLACE_STEP;
        pthread_mutex_lock(&history->mu);
        place.segment = history->spans[history->count - 1].number;
        pthread_mutex_unlock(&history->mu);
        sdb_wal_history_note(history, &place);
    }
}

void sdb_wal_history_raise(struct sdb_wal_history *history, struct sdb_wal_place floor)
{
    pthread_mutex_lock(&history->mu);
    if (!is_before(&floor, &history->floor) && floor.revision > history->floor.revision)
        history->floor = floor;
    pthread_mutex_unlock(&history->mu);
}

/* ---- Release --------------------------------------------------------------------------------- */

uint64_t sdb_wal_history_release(struct sdb_wal_history *history, uint64_t first_needed)
{
    uint64_t released = 0;

    pthread_mutex_lock(&history->mu);
    while (history->kept + 1 < history->count &&
           history->spans[history->kept].number < first_needed) {
        released += history->spans[history->kept].records;
        history->kept_bytes += used_bytes(&history->spans[history->kept]);
        history->kept++;
    }
    pthread_mutex_unlock(&history->mu);
    return released;
}

/* When the oldest kept segment was left; see the head of this file. mu is held. */
static uint64_t oldest_left_ms(struct sdb_wal_history *history, uint64_t now_ms)
{
    uint64_t left_ms = now_ms;

    for (size_t i = history->kept; i > 0; i--) {
        struct sdb_wal_span *span = &history->spans[i - 1];
        if (span->left_ms != 0 && span->left_ms < left_ms)
            left_ms = span->left_ms;
        span->left_ms = left_ms;
    }
    return left_ms;
}

/* Whether the oldest kept segment goes. mu is held. */
static bool is_over(struct sdb_wal_history *history, uint64_t now_ms)
{
    if (history->kept == 0)
        return false;
    if (history->kept_bytes > history->retention_bytes ||
        history->spans[0].number < history->floor.segment)
        return true;
    return history->retention_ms != 0 &&
           now_ms - oldest_left_ms(history, now_ms) > history->retention_ms;
}

/* Take the oldest kept segment off the list; `as_spare` comes back false if it cannot be one. mu is
 * held. */
static void take_oldest(struct sdb_wal_history *history, struct sdb_wal_span *span, bool *as_spare)
{
    struct sdb_wal_place start;

    *span = history->spans[0];
    history->count--;
    history->kept--;
    history->kept_bytes -= used_bytes(span);
    memmove(history->spans, history->spans + 1, history->count * sizeof(*history->spans));
    start = start_of(&history->spans[0]);
    if (is_before(&history->floor, &start))
        history->floor = start;
    *as_spare = *as_spare && span->size == history->segment_bytes &&
                history->spare_count + history->spares_coming < SDB_WAL_SPARES;
    history->spares_coming += *as_spare;
}

/* The segment's file becomes a spare. */
static bool keep_spare(struct sdb_wal_history *history, uint64_t number, const char *path)
{
    char spare[SDB_WAL_PATH];
    bool kept;

    sdb_wal_spare_path(spare, history->dir, number);
    kept = sdb_rename(history->os, path, spare) == STORM_OK;
    pthread_mutex_lock(&history->mu);
    history->spares_coming--;
    if (kept)
        history->spares[history->spare_count++] = number;
    pthread_mutex_unlock(&history->mu);
    return kept;
}

/* What was taken off the list. A file that can be neither renamed nor removed is removed by the
 * next open. */
static void dispose(struct sdb_wal_history *history, struct sdb_wal_span *span, bool as_spare)
{
    char path[SDB_WAL_PATH];

    free(span->places);
    sdb_wal_segment_path(path, history->dir, span->number);
    if (!as_spare || !keep_spare(history, span->number, path))
        (void)sdb_unlink(history->os, path);
}

bool sdb_wal_history_trim(struct sdb_wal_history *history)
{
    uint64_t now_ms = history->retention_ms != 0 ? sdb_now_ms(history->os) : 0;
    struct sdb_wal_span span;
    bool as_spare = true;
    bool over;

    pthread_mutex_lock(&history->mu);
    over = is_over(history, now_ms);
    if (over)
        take_oldest(history, &span, &as_spare);
    pthread_mutex_unlock(&history->mu);
    if (over)
        dispose(history, &span, as_spare);
    return over;
}

bool sdb_wal_history_give_way(struct sdb_wal_history *history, bool as_spare)
{
    struct sdb_wal_span span;
    bool any;

    pthread_mutex_lock(&history->mu);
    any = history->kept > 0;
    if (any)
        take_oldest(history, &span, &as_spare);
    pthread_mutex_unlock(&history->mu);
    if (!any)
        return false;
    dispose(history, &span, as_spare);
    /* Its blocks are free once the directory has forgotten it. */
    if (!as_spare)
        (void)sdb_sync_dir(history->os, history->dir);
    return true;
}

uint64_t sdb_wal_history_due_ms(struct sdb_wal_history *history)
{
    uint64_t due_ms = UINT64_MAX;
    uint64_t now_ms, age_ms;

    if (history->retention_ms == 0)
        return due_ms;
    now_ms = sdb_now_ms(history->os);
    pthread_mutex_lock(&history->mu);
    if (history->kept > 0) {
        age_ms = now_ms - oldest_left_ms(history, now_ms);
        due_ms = age_ms > history->retention_ms ? 0 : history->retention_ms - age_ms + 1;
    }
    pthread_mutex_unlock(&history->mu);
    return due_ms;
}

uint64_t sdb_wal_history_take_spare(struct sdb_wal_history *history, uint64_t size)
{
    uint64_t spare = 0;

    pthread_mutex_lock(&history->mu);
    if (size == history->segment_bytes && history->spare_count > 0)
        spare = history->spares[--history->spare_count];
    pthread_mutex_unlock(&history->mu);
    return spare;
}

void sdb_wal_history_drop_spares(struct sdb_wal_history *history)
{
    uint64_t number;
    char path[SDB_WAL_PATH];

    while ((number = sdb_wal_history_take_spare(history, history->segment_bytes)) != 0) {
        sdb_wal_spare_path(path, history->dir, number);
        (void)sdb_unlink(history->os, path);
    }
}

/* ---- Readers --------------------------------------------------------------------------------- */

struct sdb_wal_place sdb_wal_history_end(struct sdb_wal_history *history)
{
    struct sdb_wal_place end;

    pthread_mutex_lock(&history->mu);
    end.segment = history->count > 0 ? history->spans[history->count - 1].number : 0;
    end.offset = atomic_load_explicit(&history->published, memory_order_acquire);
    end.revision = atomic_load_explicit(&history->next, memory_order_relaxed);
    pthread_mutex_unlock(&history->mu);
    return end;
}

uint64_t sdb_wal_history_oldest(struct sdb_wal_history *history)
{
    uint64_t revision;

    pthread_mutex_lock(&history->mu);
    revision = history->floor.revision;
    pthread_mutex_unlock(&history->mu);
    return revision;
}

/* The last segment whose first revision is not above `revision`. mu is held, and the floor is not
 * above it either. */
static struct sdb_wal_span *span_of(struct sdb_wal_history *history, uint64_t revision)
{
    size_t low = 0, high = history->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (history->spans[middle].first_revision <= revision)
            low = middle + 1;
        else
            high = middle;
    }
    return &history->spans[low > 0 ? low - 1 : 0];
}

storm_status sdb_wal_history_seek(struct sdb_wal_history *history, uint64_t revision,
                                  struct sdb_wal_place *place)
{
    struct sdb_wal_span *span;
    storm_status status = STORM_GONE;

    pthread_mutex_lock(&history->mu);
    if (history->count > 0 && revision >= history->floor.revision) {
        status = STORM_OK;
        span = span_of(history, revision);
        *place = start_of(span);
        if (is_before(place, &history->floor))
            *place = history->floor;
        for (uint64_t i = span->size / SDB_WAL_PLACE_STEP + 1; i > 0; i--) {
            const struct sdb_wal_place *known = &span->places[i - 1];
            if (known->offset != 0 && known->revision <= revision && is_before(place, known)) {
                *place = *known;
                break;
            }
        }
    }
    pthread_mutex_unlock(&history->mu);
    return status;
}

void sdb_wal_history_note(struct sdb_wal_history *history, const struct sdb_wal_place *place)
{
    struct sdb_wal_span *span;

    pthread_mutex_lock(&history->mu);
    span = find(history, place->segment);
    if (span != NULL && place->offset < span->size) {
        struct sdb_wal_place *slot = &span->places[place->offset / SDB_WAL_PLACE_STEP];
        if (slot->offset == 0)
            *slot = *place;
    }
    pthread_mutex_unlock(&history->mu);
}

/* Move over ends of segments, and find the segment. NULL: it is gone. mu is held. */
static struct sdb_wal_span *follow(struct sdb_wal_history *history, struct sdb_wal_place *place)
{
    struct sdb_wal_span *span;

    if (is_before(place, &history->floor))
        return NULL;
    span = find(history, place->segment);
    while (span != NULL && !is_current(history, span) && place->offset == used_bytes(span)) {
        span++;
        place->segment = span->number;
        place->offset = SDB_WAL_HEADER;
    }
    return span;
}

/* Count off a user; the last one has the file closed. mu is held. */
static struct sdb_file *stop_sharing(struct sdb_wal_history *history, struct sdb_wal_shared *shared)
{
    struct sdb_wal_span *span;
    struct sdb_file *file;

    if (shared == NULL || --shared->users > 0)
        return NULL;
    span = find(history, shared->number);
    if (span != NULL && span->shared == shared)
        span->shared = NULL;
    file = shared->file;
    free(shared);
    return file;
}

void sdb_wal_history_give_back(struct sdb_wal_history *history, struct sdb_wal_shared *shared)
{
    struct sdb_file *file;

    pthread_mutex_lock(&history->mu);
    file = stop_sharing(history, shared);
    pthread_mutex_unlock(&history->mu);
    sdb_close(file);
}

/* The segment's file, opened. NULL with STORM_OK: the segment has gone in the meantime. */
static storm_status open_shared(struct sdb_wal_history *history, uint64_t number,
                                struct sdb_wal_shared **shared)
{
    char path[SDB_WAL_PATH];
    storm_status status;

    *shared = calloc(1, sizeof(**shared));
    if (*shared == NULL)
        return sdb_fail(history->os->errors, STORM_NO_MEMORY, "log: no memory for a reader");
    (*shared)->number = number;
    sdb_wal_segment_path(path, history->dir, number);
    status = sdb_open(history->os, path, SDB_OPEN_READ, &(*shared)->file);
    if (status == STORM_OK)
        return status;
    free(*shared);
    *shared = NULL;
    if (status != STORM_NOT_FOUND)
        return status;
    if (sdb_wal_history_has(history, number))
        return sdb_fail(history->os->errors, STORM_CORRUPT, "%s: this log segment is missing",
                        path);
    return STORM_OK;
}

storm_status sdb_wal_history_borrow(struct sdb_wal_history *history, struct sdb_wal_place *place,
                                    struct sdb_wal_shared **shared, uint64_t *end)
{
    struct sdb_wal_shared *opened = NULL;
    struct sdb_file *closing = NULL, *spare = NULL;
    struct sdb_wal_span *span;
    storm_status status = STORM_OK;

    *end = 0;
    pthread_mutex_lock(&history->mu);
    span = follow(history, place);
    if (span != NULL && (*shared == NULL || (*shared)->number != span->number)) {
        closing = stop_sharing(history, *shared);
        *shared = NULL;
        if (span->shared == NULL) {
            uint64_t number = span->number;
            pthread_mutex_unlock(&history->mu);
            status = open_shared(history, number, &opened);
            pthread_mutex_lock(&history->mu);
            span = find(history, number);
        }
        if (span != NULL && span->shared == NULL) {
            span->shared = opened;
            opened = NULL;
        }
        if (span != NULL && span->shared != NULL) {
            status = STORM_OK;
            *shared = span->shared;
            (*shared)->users++;
        }
    }
    if (span != NULL)
        *end = is_current(history, span)
                   ? atomic_load_explicit(&history->published, memory_order_acquire)
                   : used_bytes(span);
    pthread_mutex_unlock(&history->mu);
    sdb_close(closing);
    if (opened != NULL) /* another reader was faster, or the segment has gone */
        spare = opened->file;
    sdb_close(spare);
    free(opened);
    if (status == STORM_OK && (span == NULL || *shared == NULL))
        status = STORM_GONE;
    return status;
}

bool sdb_wal_history_holds(struct sdb_wal_history *history, const struct sdb_wal_place *place)
{
    bool holds;

    pthread_mutex_lock(&history->mu);
    holds = !is_before(place, &history->floor) && find(history, place->segment) != NULL;
    pthread_mutex_unlock(&history->mu);
    return holds;
}

void sdb_wal_history_damaged(struct sdb_wal_history *history, const struct sdb_wal_place *place)
{
    struct sdb_wal_place above = sdb_wal_history_end(history);
    struct sdb_wal_span *span;

    pthread_mutex_lock(&history->mu);
    span = find(history, place->segment);
    if (span != NULL && !is_current(history, span))
        above = start_of(span + 1);
    if (span != NULL && is_before(&history->floor, &above))
        history->floor = above;
    pthread_mutex_unlock(&history->mu);
}
