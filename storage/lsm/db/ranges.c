/*
 * Building sets of range deletes, and searching them; ranges.h draws one.
 *
 * A set is built by a sweep over the sorted bounds of its range deletes. Between two bounds the
 * same ones are open, newest first; those that somebody can tell from the next newer one go into
 * the fragment, and neighbours that come out alike are one fragment. A range delete that is in no
 * fragment is not in the set. That keeps sets small whatever is written: a fragment has one
 * revision and at most one more for each snapshot.
 *
 * Why leaving one out changes nothing for those beside it: let r be left out below the next newer
 * n, since nobody reads in [r, n). For the next older o, "somebody reads in [o, r)" and "in [o, n)"
 * are then the same question.
 *
 * The finished set lies in one allocation: struct | list | fragments | revisions | bytes of keys.
 */
#include "lsm/db/ranges.h"

#include <stdlib.h>

#include "lsm/db/keep.h"

/* ---- The sweep ---- */

/* A fragment while the set is built. Slices are the inputs'. */
struct piece {
    struct storm_slice start, end;
    size_t first; /* into revisions */
    size_t count;
};

struct sweep {
    const uint64_t *seen;
    size_t seen_count;
    struct sdb_range *list; /* by start */
    size_t count;
    struct storm_slice *bounds; /* ascending, distinct; an unbounded end is not among them */
    size_t bound_count;
    size_t *open; /* of list: those that cover the present place, newest first */
    size_t open_count;
    bool *is_used; /* of list */
    struct piece *pieces;
    size_t piece_count;
    uint64_t *revisions;
    size_t revision_count, revision_room;
};

static int compare_starts(const void *a, const void *b)
{
    const struct sdb_range *x = a;
    const struct sdb_range *y = b;
    int order = sdb_key_compare(x->start, y->start);
    return order != 0 ? order : sdb_range_compare(x, y);
}

static int compare_keys(const void *a, const void *b)
{
    return sdb_key_compare(*(const struct storm_slice *)a, *(const struct storm_slice *)b);
}

static int compare_written(const void *a, const void *b)
{
    return sdb_range_compare(a, b);
}

int sdb_range_compare(const struct sdb_range *a, const struct sdb_range *b)
{
    if (a->revision != b->revision)
        return a->revision < b->revision ? -1 : 1;
    int order = sdb_key_compare(a->start, b->start);
    return order != 0 ? order : sdb_key_compare(a->end, b->end);
}

static storm_status begin_sweep(struct sweep *sweep)
{
    size_t count = sweep->count;
    sweep->bounds = malloc(2 * count * sizeof *sweep->bounds);
    sweep->open = malloc(count * sizeof *sweep->open);
    sweep->is_used = calloc(count, sizeof *sweep->is_used);
    sweep->pieces = malloc(2 * count * sizeof *sweep->pieces);
    if (sweep->bounds == NULL || sweep->open == NULL || sweep->is_used == NULL ||
        sweep->pieces == NULL)
        return STORM_NO_MEMORY;
    qsort(sweep->list, count, sizeof *sweep->list, compare_starts);
    size_t room = 0;
    for (size_t i = 0; i < count; i++) {
        sweep->bounds[room++] = sweep->list[i].start;
        if (sweep->list[i].end.size != 0)
            sweep->bounds[room++] = sweep->list[i].end;
    }
    qsort(sweep->bounds, room, sizeof *sweep->bounds, compare_keys);
    for (size_t i = 0; i < room; i++) {
        if (i == 0 || sdb_key_compare(sweep->bounds[i], sweep->bounds[i - 1]) != 0)
            sweep->bounds[sweep->bound_count++] = sweep->bounds[i];
    }
    return STORM_OK;
}

static void end_sweep(struct sweep *sweep)
{
    free(sweep->list);
    free(sweep->bounds);
    free(sweep->open);
    free(sweep->is_used);
    free(sweep->pieces);
    free(sweep->revisions);
}

/* Close what ends at `bound`, open what begins there; `*next` is the first that has not begun. */
static void pass_bound(struct sweep *sweep, struct storm_slice bound, size_t *next)
{
    size_t left = 0;
    for (size_t i = 0; i < sweep->open_count; i++) {
        const struct sdb_range *range = &sweep->list[sweep->open[i]];
        if (range->end.size == 0 || sdb_key_compare(range->end, bound) > 0)
            sweep->open[left++] = sweep->open[i];
    }
    sweep->open_count = left;
    while (*next < sweep->count && sdb_key_compare(sweep->list[*next].start, bound) == 0) {
        size_t at = sweep->open_count++;
        while (at > 0 && sweep->list[sweep->open[at - 1]].revision < sweep->list[*next].revision) {
            sweep->open[at] = sweep->open[at - 1];
            at--;
        }
        sweep->open[at] = (*next)++;
    }
}

static bool add_revision(struct sweep *sweep, uint64_t revision)
{
    if (sweep->revision_count == sweep->revision_room) {
        size_t room = sweep->revision_room == 0 ? 16 : 2 * sweep->revision_room;
        uint64_t *revisions = realloc(sweep->revisions, room * sizeof *revisions);
        if (revisions == NULL)
            return false;
        sweep->revisions = revisions;
        sweep->revision_room = room;
    }
    sweep->revisions[sweep->revision_count++] = revision;
    return true;
}

static bool is_alike(const struct sweep *sweep, const struct piece *a, const struct piece *b)
{
    return a->end.size != 0 && sdb_key_compare(a->end, b->start) == 0 && a->count == b->count &&
           memcmp(sweep->revisions + a->first, sweep->revisions + b->first,
                  a->count * sizeof(uint64_t)) == 0;
}

/* What is open between two bounds becomes a piece, or makes the one before longer. */
static bool add_piece(struct sweep *sweep, struct storm_slice start, struct storm_slice end)
{
    struct piece piece = {.start = start, .end = end, .first = sweep->revision_count};
    uint64_t newer = 0;
    for (size_t i = 0; i < sweep->open_count; i++) {
        uint64_t revision = sweep->list[sweep->open[i]].revision;
        bool is_told_apart =
            i == 0 || (revision != newer &&
                       (sweep->seen == NULL ||
                        sdb_keep_is_seen(sweep->seen, sweep->seen_count, revision, newer)));
        newer = revision;
        if (!is_told_apart)
            continue;
        sweep->is_used[sweep->open[i]] = true;
        piece.count++;
        if (!add_revision(sweep, revision))
            return false;
    }
    if (piece.count == 0)
        return true;
    struct piece *last = sweep->piece_count == 0 ? NULL : &sweep->pieces[sweep->piece_count - 1];
    if (last != NULL && is_alike(sweep, last, &piece)) {
        last->end = end;
        sweep->revision_count = piece.first;
    } else {
        sweep->pieces[sweep->piece_count++] = piece;
    }
    return true;
}

static storm_status run_sweep(struct sweep *sweep)
{
    static const struct storm_slice unbounded;
    storm_status status = begin_sweep(sweep);
    size_t next = 0;
    for (size_t i = 0; i < sweep->bound_count && status == STORM_OK; i++) {
        bool is_last = i + 1 == sweep->bound_count;
        pass_bound(sweep, sweep->bounds[i], &next);
        if (!add_piece(sweep, sweep->bounds[i], is_last ? unbounded : sweep->bounds[i + 1]))
            status = STORM_NO_MEMORY;
    }
    return status;
}

/* ---- The finished set ---- */

static struct storm_slice copy_key(uint8_t **to, struct storm_slice key)
{
    if (key.size == 0)
        return (struct storm_slice){NULL, 0};
    struct storm_slice copy = storm_bytes(*to, key.size);
    memcpy(*to, key.data, key.size);
    *to += key.size;
    return copy;
}

static struct sdb_ranges *finish(const struct sweep *sweep)
{
    size_t count = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < sweep->count; i++) {
        if (!sweep->is_used[i])
            continue;
        count++;
        bytes += sweep->list[i].start.size + sweep->list[i].end.size;
    }
    for (size_t i = 0; i < sweep->piece_count; i++)
        bytes += sweep->pieces[i].start.size + sweep->pieces[i].end.size;
    struct sdb_ranges *set = malloc(sizeof *set + count * sizeof(struct sdb_range) +
                                    sweep->piece_count * sizeof(struct sdb_fragment) +
                                    sweep->revision_count * sizeof(uint64_t) + bytes);
    if (set == NULL)
        return NULL;
    struct sdb_range *list = (struct sdb_range *)(set + 1);
    struct sdb_fragment *fragments = (struct sdb_fragment *)(list + count);
    uint64_t *revisions = (uint64_t *)(fragments + sweep->piece_count);
    uint8_t *keys = (uint8_t *)(revisions + sweep->revision_count);
    *set = (struct sdb_ranges){
        .count = count, .list = list, .fragment_count = sweep->piece_count, .fragments = fragments};
    atomic_init(&set->refs, 1);
    if (sweep->revision_count != 0)
        memcpy(revisions, sweep->revisions, sweep->revision_count * sizeof(uint64_t));
    for (size_t i = 0; i < sweep->count; i++) {
        const struct sdb_range *from = &sweep->list[i];
        if (!sweep->is_used[i])
            continue;
        *list++ = (struct sdb_range){copy_key(&keys, from->start), copy_key(&keys, from->end),
                                     from->revision};
        if (from->revision > set->newest)
            set->newest = from->revision;
    }
    qsort(list - count, count, sizeof *list, compare_written);
    for (size_t i = 0; i < sweep->piece_count; i++) {
        const struct piece *piece = &sweep->pieces[i];
        fragments[i] =
            (struct sdb_fragment){copy_key(&keys, piece->start), copy_key(&keys, piece->end),
                                  revisions + piece->first, piece->count};
    }
    return set;
}

static void add_range(struct sweep *sweep, const struct sdb_range *range)
{
    if (!sdb_range_is_empty(range))
        sweep->list[sweep->count++] = *range;
}

storm_status sdb_ranges_create(struct sdb_ranges *const *sets, size_t set_count,
                               const struct sdb_range *more, size_t more_count,
                               const uint64_t *seen, size_t seen_count, struct sdb_ranges **ranges)
{
    struct sweep sweep = {.seen = seen, .seen_count = seen_count};
    size_t most = more_count;
    *ranges = NULL;
    for (size_t i = 0; i < set_count; i++)
        most += sdb_ranges_count(sets[i]);
    if (most == 0)
        return STORM_OK;
    sweep.list = malloc(most * sizeof *sweep.list);
    if (sweep.list == NULL)
        return STORM_NO_MEMORY;
    for (size_t i = 0; i < set_count; i++) {
        for (size_t j = 0; j < sdb_ranges_count(sets[i]); j++)
            add_range(&sweep, &sets[i]->list[j]);
    }
    for (size_t i = 0; i < more_count; i++)
        add_range(&sweep, &more[i]);
    storm_status status = sweep.count == 0 ? STORM_OK : run_sweep(&sweep);
    if (status == STORM_OK && sweep.count != 0 && (*ranges = finish(&sweep)) == NULL)
        status = STORM_NO_MEMORY;
    end_sweep(&sweep);
    return status;
}

struct sdb_ranges *sdb_ranges_ref(struct sdb_ranges *ranges)
{
    if (ranges != NULL)
        atomic_fetch_add_explicit(&ranges->refs, 1, memory_order_relaxed);
    return ranges;
}

void sdb_ranges_unref(struct sdb_ranges *ranges)
{
    if (ranges != NULL && atomic_fetch_sub_explicit(&ranges->refs, 1, memory_order_acq_rel) == 1)
        free(ranges);
}

/* ---- Searching ---- */

const struct sdb_fragment *sdb_ranges_find(const struct sdb_ranges *ranges, struct storm_slice key)
{
    size_t low = 0;
    size_t high = ranges->fragment_count;
    /* The first fragment that begins behind the key; the one before it is the only candidate. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (sdb_key_compare(ranges->fragments[middle].start, key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    const struct sdb_fragment *fragment = &ranges->fragments[low - 1];
    bool is_inside = fragment->end.size == 0 || sdb_key_compare(key, fragment->end) < 0;
    return is_inside ? fragment : NULL;
}

/* The oldest revision of the fragment above `revision`; 0 = none. */
static uint64_t next_of(const struct sdb_fragment *fragment, uint64_t revision)
{
    size_t i = fragment->count;
    while (i > 0 && fragment->revisions[i - 1] <= revision)
        i--;
    return i == 0 ? 0 : fragment->revisions[i - 1];
}

uint64_t sdb_ranges_next(const struct sdb_ranges *ranges, struct storm_slice key, uint64_t revision)
{
    const struct sdb_fragment *fragment = ranges == NULL ? NULL : sdb_ranges_find(ranges, key);
    return fragment == NULL ? 0 : next_of(fragment, revision);
}

uint64_t sdb_ranges_cover(const struct sdb_ranges *ranges, struct storm_slice smallest,
                          struct storm_slice largest, uint64_t revision)
{
    const struct sdb_fragment *fragment = ranges == NULL ? NULL : sdb_ranges_find(ranges, smallest);
    uint64_t newest = 0;
    while (fragment != NULL) {
        uint64_t next = next_of(fragment, revision);
        if (next == 0)
            return 0;
        if (next > newest)
            newest = next;
        if (fragment->end.size == 0 || sdb_key_compare(largest, fragment->end) < 0)
            return newest;
        const struct sdb_fragment *last = &ranges->fragments[ranges->fragment_count - 1];
        bool is_gap = fragment == last || sdb_key_compare(fragment->end, fragment[1].start) != 0;
        fragment = is_gap ? NULL : fragment + 1;
    }
    return 0;
}
