/*
 * The iterator that users see: live keys, one version each, of one view at one revision.
 *
 * It runs over a merge of everything in the view: memtables, level-0 tables, one source a deeper
 * level. In the merge a key's versions stand newest first, so
 *
 *   forward   the source stands on the entry shown; the older versions behind it are passed over on
 *             the way to the next key;
 *   back      versions are met oldest first: the newest one that the revision may see is copied
 *             aside, and the source ends up before all entries of the key that is shown.
 *
 * `goes_back` tells the two apart. A change of direction seeks once. The clock is read once, at
 * creation, so that a key does not expire in the middle of a scan.
 *
 * Most moves come upon what needs none of this: an entry that its source has decoded already, a put
 * that everybody may see, of another key than its neighbour and than all other sources. Such moves
 * go along the row of that source, and call nobody.
 *
 * What a move passes over (deletes, expired puts, older versions, versions the revision may not
 * see) is counted one by one against max_skipped. The move stops with STORM_MORE on the first entry
 * of a key, when that entry would be one too many; so whoever seeks to this key, with this iterator
 * or another, in this direction or the other, neither misses nor doubles a key. It never stops
 * among the versions of a key: past JUMP_AFTER of them, or at the limit, it gets to the one it
 * wants and out of the key by a search, which passes over nothing. So every move deals with one key
 * at least.
 *
 * An iterator over everything costs several allocations for each table, which is much beside a
 * short scan. So a few that were destroyed rest in the store, without blocks, for the next to be
 * created, as long as the view stays the current one: a new view discards them, and none keeps a
 * file or a memtable that the store has done with.
 */
#include <stdlib.h>

#include "lsm/db/bounds.h"
#include "lsm/db/db.h"
#include "lsm/db/sources.h"
#include "lsm/db/value.h"

/* A search in all sources costs about as much as so many steps. */
enum { JUMP_AFTER = 32 };
/* For each door, that is for a thread or a few; and what they may keep in a buffer. */
enum { SPARES_MAX = 4, SPARE_BUFFER = 4096 };

struct lsm_iter {
    struct storm_iter base;
    struct lsm_iter *next_spare; /* its door's mu */
    struct sdb_view *view;
    struct sdb_merge *merge;
    struct sdb_source *source; /* the merge's base */
    uint64_t revision;
    uint64_t now_ms;
    uint64_t max_skipped; /* UINT64_MAX = any number */
    uint64_t skipped;     /* by the move under way */
    bool keys_only;
    bool goes_back;           /* the last move went back: the source is before the key shown */
    bool is_decided;          /* forward: all about it->key is known, what follows of it is older */
    struct sdb_bounds bounds; /* const */
    struct sdb_buffer target; /* of a seek, which may borrow its key from this very iterator */
    struct sdb_buffer key;    /* going back: the key shown; forward: the last one passed over */
    struct sdb_buffer value;  /* going back: the stored value shown */
};

static struct lsm_iter *lsm_iter(storm_iter *iter)
{
    return (struct lsm_iter *)iter;
}

static void end_with(struct lsm_iter *it, storm_status status)
{
    it->base.valid = false;
    it->base.status = status;
    it->base.key = (struct storm_slice){NULL, 0};
    it->base.value = (struct storm_slice){NULL, 0};
    it->base.meta = (struct storm_meta){0};
    it->base.revision = 0;
}

/* Remember `key`, which is not it->key's own. False, and ended, when out of memory. */
static bool keep_key(struct lsm_iter *it, struct storm_slice key)
{
    sdb_buffer_clear(&it->key);
    if (sdb_buffer_add(&it->key, key.data, key.size))
        return true;
    end_with(it, it->key.status);
    return false;
}

/* Stop at a key that this move does not look at any more. */
static void stop_at(struct lsm_iter *it, struct storm_slice key)
{
    if (!keep_key(it, key))
        return;
    end_with(it, STORM_MORE);
    it->base.key = sdb_buffer_slice(&it->key);
}

/* Show an entry, or end with an error when the stored value is malformed. */
static void show(struct lsm_iter *it, struct storm_slice key, uint64_t tag,
                 struct storm_slice stored)
{
    it->base.key = key;
    it->base.revision = sdb_tag_revision(tag);
    if (!it->keys_only && !sdb_value_take(stored, &it->base.meta, &it->base.value)) {
        end_with(it, sdb_fail(sdb_lsm(it->base.db)->os->errors, STORM_CORRUPT,
                              "a stored value has a malformed header"));
        return;
    }
    it->base.valid = true;
    it->base.status = STORM_OK;
}

static inline bool is_live(const struct lsm_iter *it, struct storm_slice key, uint64_t tag,
                           struct storm_slice stored)
{
    return sdb_tag_kind(tag) == SDB_KIND_PUT && !sdb_value_is_expired(stored, it->now_ms) &&
           sdb_view_floor(it->view, key, it->revision) <= sdb_tag_revision(tag);
}

/* Whether the revision may see what the source stands on. */
static bool is_seen(const struct lsm_iter *it)
{
    return sdb_tag_revision(it->source->tag) <= it->revision;
}

static bool is_at_limit(const struct lsm_iter *it)
{
    return it->skipped >= it->max_skipped;
}

static bool is_same_key(const struct lsm_iter *it)
{
    return sdb_key_compare(it->source->key, sdb_buffer_slice(&it->key)) == 0;
}

/* ---- Forward ---- */

/* Behind all versions of it->key that are of no use: to the one to be seen, or out of the key. */
static void jump_forward(struct lsm_iter *it)
{
    /* Tag 0 lies behind every version. */
    uint64_t tag = it->is_decided ? 0 : sdb_tag(it->revision, SDB_KIND_SEEK);
    it->source->ops->seek(it->source, sdb_buffer_slice(&it->key), tag);
}

/* From where the source stands, to the first live key; of it->key nothing is shown once decided. */
static void find_forward(struct lsm_iter *it)
{
    struct sdb_source *source = it->source;
    unsigned versions = 0; /* of it->key, passed over */
    it->goes_back = false;
    while (source->valid) {
        if (sdb_bounds_is_behind(&it->bounds, source->key)) {
            end_with(it, STORM_OK);
            return;
        }
        bool is_same = is_same_key(it);
        if (is_same && (it->is_decided || !is_seen(it))) {
            if (versions >= JUMP_AFTER || is_at_limit(it)) {
                jump_forward(it);
                continue;
            }
        } else if (is_seen(it) && is_live(it, source->key, source->tag, source->value)) {
            show(it, source->key, source->tag, source->value);
            return;
        } else if (is_same) {
            it->is_decided = true;
        } else {
            if (is_at_limit(it)) {
                stop_at(it, source->key);
                return;
            }
            if (!keep_key(it, source->key))
                return;
            it->is_decided = is_seen(it);
            versions = 0;
        }
        versions++;
        it->skipped++;
        source->ops->next(source);
    }
    end_with(it, source->status);
}

/* ---- Back ---- */

/* What is known of a key while its versions are met, oldest first. */
struct candidate {
    uint64_t tag;
    bool is_live;
    storm_status status;
};

/* The source stands on a version that the revision may see: it hides those before. */
static void take(struct lsm_iter *it, struct candidate *candidate)
{
    const struct sdb_source *source = it->source;
    candidate->tag = source->tag;
    candidate->is_live = is_live(it, source->key, source->tag, source->value);
    if (!candidate->is_live || it->keys_only)
        return;
    sdb_buffer_clear(&it->value);
    if (!sdb_buffer_add(&it->value, source->value.data, source->value.size))
        candidate->status = it->value.status;
}

/* The same for all that are left of it->key, by two searches. */
static void jump_back(struct lsm_iter *it, struct candidate *candidate)
{
    struct sdb_source *source = it->source;
    struct storm_slice key = sdb_buffer_slice(&it->key);
    source->ops->seek(source, key, sdb_tag(it->revision, SDB_KIND_SEEK));
    if (source->valid && is_same_key(it))
        take(it, candidate);
    if (source->valid || source->status == STORM_OK)
        source->ops->seek_before(source, key, UINT64_MAX);
}

/* The source stands on the oldest version of a key. Find the one to be seen, which is copied aside,
 * and leave the source before the key. */
static void collect(struct lsm_iter *it, struct candidate *candidate)
{
    struct sdb_source *source = it->source;
    unsigned versions = 0;
    do {
        if (versions >= JUMP_AFTER || (versions != 0 && is_at_limit(it))) {
            jump_back(it, candidate);
            break;
        }
        versions++;
        it->skipped++;
        if (is_seen(it))
            take(it, candidate);
        source->ops->prev(source);
    } while (source->valid && is_same_key(it));
    if (candidate->status == STORM_OK && !source->valid)
        candidate->status = source->status;
}

/* From where the source stands, back to the first live key. */
static void find_backward(struct lsm_iter *it)
{
    struct sdb_source *source = it->source;
    it->goes_back = true;
    while (source->valid) {
        struct candidate candidate = {0};
        if (sdb_bounds_is_before(&it->bounds, source->key)) {
            end_with(it, STORM_OK);
            return;
        }
        bool is_passed = !is_seen(it) || !is_live(it, source->key, source->tag, source->value);
        if (is_passed && is_at_limit(it)) {
            stop_at(it, source->key);
            return;
        }
        if (!keep_key(it, source->key))
            return;
        collect(it, &candidate);
        if (candidate.status != STORM_OK) {
            end_with(it, candidate.status);
            return;
        }
        if (candidate.is_live) {
            show(it, sdb_buffer_slice(&it->key), candidate.tag, sdb_buffer_slice(&it->value));
            return;
        }
    }
    end_with(it, source->status);
}

/* ---- Along a row ---- */

/* Show `entry` of the front's row if that is all there is to do. */
static inline bool show_plain(struct lsm_iter *it, const struct sdb_entry *entry)
{
    if (sdb_tag_revision(entry->tag) > it->revision ||
        !is_live(it, entry->key, entry->tag, entry->value))
        return false;
    if (!it->keys_only && !sdb_value_take(entry->value, &it->base.meta, &it->base.value))
        return false;
    it->base.key = entry->key;
    it->base.revision = sdb_tag_revision(entry->tag);
    return true;
}

/* The next entry of the row, if the move ends there. */
static inline bool next_in_row(struct lsm_iter *it)
{
    struct sdb_merge *merge = it->merge;
    if (it->goes_back || !merge->is_forward)
        return false;
    const struct sdb_source *front = sdb_merge_front(merge);
    if (front->at == front->last)
        return false;
    const struct sdb_entry *next = front->at + 1;
    if (next->is_version || !sdb_merge_is_ahead(merge, next->key) ||
        sdb_bounds_is_behind(&it->bounds, next->key) || !show_plain(it, next))
        return false;
    sdb_merge_move(merge, next);
    return true;
}

/* The entry where the source stands already, if the one before it is in the row and of another
 * key. */
static inline bool prev_in_row(struct lsm_iter *it)
{
    struct sdb_merge *merge = it->merge;
    if (!it->goes_back || merge->is_forward || !it->source->valid)
        return false;
    const struct sdb_source *front = sdb_merge_front(merge);
    const struct sdb_entry *here = front->at;
    if (here == front->first || here->is_version || !sdb_merge_is_ahead(merge, here->key) ||
        sdb_bounds_is_before(&it->bounds, here->key) || !show_plain(it, here))
        return false;
    sdb_merge_move(merge, here - 1);
    return true;
}

/* ---- Moves ---- */

void sdb_lsm_iter_first(storm_iter *iter)
{
    struct lsm_iter *it = lsm_iter(iter);
    it->skipped = 0;
    sdb_buffer_clear(&it->key);
    if (it->bounds.start.size != 0)
        it->source->ops->seek(it->source, sdb_buffer_slice(&it->bounds.start), UINT64_MAX);
    else
        it->source->ops->first(it->source);
    find_forward(it);
}

void sdb_lsm_iter_last(storm_iter *iter)
{
    struct lsm_iter *it = lsm_iter(iter);
    it->skipped = 0;
    if (it->bounds.end.size != 0)
        it->source->ops->seek_before(it->source, sdb_buffer_slice(&it->bounds.end), UINT64_MAX);
    else
        it->source->ops->last(it->source);
    find_backward(it);
}

/* Copy the key to seek. False, and ended, when out of memory. */
static bool set_target(struct lsm_iter *it, struct storm_slice key)
{
    sdb_buffer_clear(&it->target);
    if (sdb_buffer_add(&it->target, key.data, key.size))
        return true;
    end_with(it, it->target.status);
    return false;
}

void sdb_lsm_iter_seek(storm_iter *iter, struct storm_slice key)
{
    struct lsm_iter *it = lsm_iter(iter);
    if (sdb_bounds_is_before(&it->bounds, key)) {
        sdb_lsm_iter_first(iter);
        return;
    }
    if (!set_target(it, key))
        return;
    it->skipped = 0;
    sdb_buffer_clear(&it->key);
    it->source->ops->seek(it->source, sdb_buffer_slice(&it->target), UINT64_MAX);
    find_forward(it);
}

void sdb_lsm_iter_seek_back(storm_iter *iter, struct storm_slice key)
{
    struct lsm_iter *it = lsm_iter(iter);
    if (sdb_bounds_is_behind(&it->bounds, key)) {
        sdb_lsm_iter_last(iter);
        return;
    }
    if (!set_target(it, key))
        return;
    it->skipped = 0;
    it->source->ops->seek_before(it->source, sdb_buffer_slice(&it->target), 0);
    find_backward(it);
}

void sdb_lsm_iter_next(storm_iter *iter)
{
    struct lsm_iter *it = lsm_iter(iter);
    if (next_in_row(it))
        return;
    it->skipped = 0;
    it->is_decided = true;
    bool is_kept = it->goes_back && it->base.key.data == it->key.data;
    if (!is_kept && !keep_key(it, it->base.key))
        return;
    if (it->goes_back)
        jump_forward(it);
    else
        it->source->ops->next(it->source);
    find_forward(it);
}

void sdb_lsm_iter_prev(storm_iter *iter)
{
    struct lsm_iter *it = lsm_iter(iter);
    if (prev_in_row(it))
        return;
    it->skipped = 0;
    if (!it->goes_back) {
        if (!keep_key(it, it->base.key))
            return;
        it->source->ops->seek_before(it->source, sdb_buffer_slice(&it->key), UINT64_MAX);
    }
    if (it->merge->is_behind)
        sdb_merge_catch_up(it->merge);
    find_backward(it);
}

void sdb_lsm_iter_resume(storm_iter *iter)
{
    if (lsm_iter(iter)->goes_back)
        sdb_lsm_iter_seek_back(iter, iter->key);
    else
        sdb_lsm_iter_seek(iter, iter->key);
}

/* ---- Life ---- */

/* A merge over all of the view; NULL when out of memory. */
static struct sdb_merge *merge_view(const struct sdb_view *view)
{
    const struct sdb_version *version = view->version;
    size_t most = 1 + view->sealed_count + version->levels[0].count + STORM_MAX_LEVELS;
    struct sdb_source **sources = malloc(most * sizeof(struct sdb_source *));
    if (sources == NULL)
        return NULL;
    size_t count = 0;
    sources[count++] = sdb_memtable_source(view->active);
    for (size_t i = 0; i < view->sealed_count; i++)
        sources[count++] = sdb_memtable_source(view->sealed[i]);
    for (size_t i = 0; i < version->levels[0].count; i++)
        sources[count++] = sdb_table_file_source(version->levels[0].files[i], true, 0);
    for (size_t l = 1; l < STORM_MAX_LEVELS; l++) {
        if (version->levels[l].count != 0)
            sources[count++] = sdb_level_source(&version->levels[l], true, 0);
    }
    struct sdb_merge *merge = sdb_merge_create(sources, count);
    free(sources);
    return merge;
}

/* Destroy it whole. */
static void destroy(struct lsm_iter *it)
{
    if (it->merge != NULL)
        sdb_source_destroy(it->source);
    sdb_view_release(it->view);
    sdb_buffer_fini(&it->target);
    sdb_buffer_fini(&it->key);
    sdb_buffer_fini(&it->value);
    free(it);
}

void sdb_lsm_iter_discard(struct lsm_iter *spares)
{
    while (spares != NULL) {
        struct lsm_iter *it = spares;
        spares = it->next_spare;
        destroy(it);
    }
}

/* One over the current view, with *revision what is visible in it now; or NULL. */
static struct lsm_iter *take_spare(struct sdb_lsm *db, uint64_t *revision)
{
    struct sdb_door *door = sdb_door(db);
    pthread_mutex_lock(&door->mu);
    struct lsm_iter *it = door->spares;
    if (it != NULL) {
        door->spares = it->next_spare;
        door->spare_count--;
        *revision = atomic_load_explicit(&db->visible, memory_order_acquire);
    }
    pthread_mutex_unlock(&door->mu);
    return it;
}

static void shrink(struct sdb_buffer *buffer)
{
    if (buffer->room > SPARE_BUFFER) {
        size_t max = buffer->max;
        sdb_buffer_fini(buffer);
        sdb_buffer_init(buffer, max);
    }
}

/* Let it rest, if its view is the current one and there are not many that do. */
static bool make_spare(struct lsm_iter *it)
{
    struct sdb_door *door = sdb_view_door(sdb_lsm(it->base.db), it->view);
    sdb_source_rest(it->source);
    shrink(&it->target);
    shrink(&it->key);
    shrink(&it->value);
    pthread_mutex_lock(&door->mu);
    bool is_kept = door->view == it->view && door->spare_count < SPARES_MAX;
    if (is_kept) {
        it->next_spare = door->spares;
        door->spares = it;
        door->spare_count++;
    }
    pthread_mutex_unlock(&door->mu);
    return is_kept;
}

/* A new one over what is current; NULL when out of memory. */
static struct lsm_iter *create(struct sdb_lsm *db, uint64_t *revision)
{
    struct lsm_iter *it = calloc(1, sizeof *it);
    if (it == NULL)
        return NULL;
    it->base.db = &db->base;
    sdb_buffer_init(&it->target, SIZE_MAX / 2);
    sdb_buffer_init(&it->key, SIZE_MAX / 2);
    sdb_buffer_init(&it->value, SIZE_MAX / 2);
    *revision = sdb_view_read(db, NULL, &it->view);
    it->merge = merge_view(it->view);
    it->source = it->merge != NULL ? &it->merge->base : NULL;
    if (it->merge != NULL)
        return it;
    destroy(it);
    return NULL;
}

storm_status sdb_lsm_iter_create(storm_db *base, const struct storm_iter_options *options,
                                 storm_iter **iter)
{
    struct sdb_lsm *db = sdb_lsm(base);
    uint64_t revision;
    struct lsm_iter *it = take_spare(db, &revision);
    if (it == NULL)
        it = create(db, &revision);
    if (it == NULL)
        return STORM_NO_MEMORY;
    end_with(it, STORM_OK);
    it->keys_only = options->keys_only;
    it->max_skipped = options->max_skipped != 0 ? options->max_skipped : UINT64_MAX;
    it->revision = options->snapshot != NULL ? options->snapshot->revision : revision;
    it->now_ms = sdb_now_ms(db->os);
    it->goes_back = false;
    it->is_decided = false;
    storm_status status = sdb_bounds_init(&it->bounds, options);
    if (status != STORM_OK) {
        sdb_lsm_iter_destroy(&it->base);
        return STORM_NO_MEMORY;
    }
    *iter = &it->base;
    return STORM_OK;
}

void sdb_lsm_iter_destroy(storm_iter *iter)
{
    struct lsm_iter *it = lsm_iter(iter);
    sdb_bounds_fini(&it->bounds);
    if (!make_spare(it))
        destroy(it);
}
