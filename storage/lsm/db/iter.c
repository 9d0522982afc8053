/*
 * The iterator that users see: live keys, one version each, of one view at one revision.
 *
 * It runs over a merge of everything in the view: memtables, level-0 tables, one source a deeper level. In the
 * merge a key's versions stand newest first, so
 *
 *   forward   the source stands on the entry shown; the older versions behind it are passed over on
 *             the way to the next key;
 *   back      versions are met oldest first: the newest one that the revision may see is copied
 *             aside, and the source ends up before all entries of the key that is shown.
 *
 * `stands_behind` tells the two apart. A change of direction seeks once. The clock is read once, at
 * creation, so that a key does not expire in the middle of a scan.
 */
#include <stdlib.h>

#include "lsm/db/db.h"
#include "lsm/db/sources.h"
#include "lsm/db/value.h"

struct lsm_iter {
    struct storm_iter base;
    struct sdb_view *view;
    struct sdb_source *source;
    uint64_t revision;
    uint64_t now_ms;
    bool stands_behind;      /* the source is before the key shown (going back) */
    struct sdb_buffer start; /* bounds; empty = none */
    struct sdb_buffer end;
    struct sdb_buffer key;   /* going back: the key shown; forward: the key passed over */
    struct sdb_buffer value; /* going back: the stored value shown */
};

static struct lsm_iter *lsm_iter(storm_iter *iter)
{
    return (struct lsm_iter *)iter;
}

static void end_with(struct lsm_iter *it, storm_status status)
{
    it->base.valid = false;
    it->base.status = status;
}

static bool is_before(const struct sdb_buffer *bound, struct storm_slice key)
{
    return sdb_key_compare(key, sdb_buffer_slice(bound)) < 0;
}

/* Show an entry. False (and an error) when the stored value is malformed. */
static bool show(struct lsm_iter *it, struct storm_slice key, uint64_t tag,
                 struct storm_slice stored)
{
    it->base.key = key;
    it->base.revision = sdb_tag_revision(tag);
    if (!sdb_value_parse(stored, &it->base.meta, &it->base.value)) {
        end_with(it, sdb_fail(sdb_lsm(it->base.db)->os->errors, STORM_CORRUPT,
                              "a stored value has a malformed header"));
        return false;
    }
    it->base.valid = true;
    it->base.status = STORM_OK;
    return true;
}

static bool is_live(const struct lsm_iter *it, uint64_t tag, struct storm_slice stored)
{
    return sdb_tag_kind(tag) == SDB_KIND_PUT && !sdb_value_is_expired(stored, it->now_ms);
}

/* From where the source stands, to the first live key; entries of it->key are passed over. */
static void find_forward(struct lsm_iter *it)
{
    struct sdb_source *source = it->source;
    it->stands_behind = false;
    while (source->valid) {
        if (it->end.size != 0 && !is_before(&it->end, source->key)) {
            end_with(it, STORM_OK);
            return;
        }
        bool is_passed = sdb_tag_revision(source->tag) > it->revision ||
                         sdb_key_compare(source->key, sdb_buffer_slice(&it->key)) == 0;
        if (!is_passed) {
            if (is_live(it, source->tag, source->value)) {
                show(it, source->key, source->tag, source->value);
                return;
            }
            sdb_buffer_clear(&it->key);
            if (!sdb_buffer_add(&it->key, source->key.data, source->key.size)) {
                end_with(it, it->key.status);
                return;
            }
        }
        source->ops->next(source);
    }
    end_with(it, source->status);
}

/* The source stands on the newest-positioned entry of some key: find that key's visible version,
 * which is copied aside, and leave the source before the key. True when it is live. */
static bool collect_backward(struct lsm_iter *it, uint64_t *tag)
{
    struct sdb_source *source = it->source;
    bool is_found = false;
    sdb_buffer_clear(&it->key);
    if (!sdb_buffer_add(&it->key, source->key.data, source->key.size))
        return false;
    while (source->valid && sdb_key_compare(source->key, sdb_buffer_slice(&it->key)) == 0) {
        if (sdb_tag_revision(source->tag) <= it->revision) {
            is_found = true;
            *tag = source->tag;
            sdb_buffer_clear(&it->value);
            if (!sdb_buffer_add(&it->value, source->value.data, source->value.size))
                return false;
        }
        source->ops->prev(source);
    }
    return is_found && is_live(it, *tag, sdb_buffer_slice(&it->value));
}

/* From where the source stands, back to the first live key. */
static void find_backward(struct lsm_iter *it)
{
    struct sdb_source *source = it->source;
    it->stands_behind = true;
    while (source->valid) {
        uint64_t tag = 0;
        if (it->start.size != 0 && is_before(&it->start, source->key)) {
            end_with(it, STORM_OK);
            return;
        }
        bool is_live_key = collect_backward(it, &tag);
        storm_status status = it->key.status != STORM_OK ? it->key.status : it->value.status;
        if (status == STORM_OK && !source->valid)
            status = source->status;
        if (status != STORM_OK) {
            end_with(it, status);
            return;
        }
        if (is_live_key) {
            show(it, sdb_buffer_slice(&it->key), tag, sdb_buffer_slice(&it->value));
            return;
        }
    }
    end_with(it, source->status);
}

void sdb_lsm_iter_first(storm_iter *iter)
{
    struct lsm_iter *it = lsm_iter(iter);
    sdb_buffer_clear(&it->key);
    if (it->start.size != 0)
        it->source->ops->seek(it->source, sdb_buffer_slice(&it->start), UINT64_MAX);
    else
        it->source->ops->first(it->source);
    find_forward(it);
}

void sdb_lsm_iter_last(storm_iter *iter)
{
    struct lsm_iter *it = lsm_iter(iter);
    if (it->end.size != 0)
        it->source->ops->seek_before(it->source, sdb_buffer_slice(&it->end), UINT64_MAX);
    else
        it->source->ops->last(it->source);
    find_backward(it);
}

void sdb_lsm_iter_seek(storm_iter *iter, struct storm_slice key)
{
    struct lsm_iter *it = lsm_iter(iter);
    if (it->start.size != 0 && is_before(&it->start, key)) {
        sdb_lsm_iter_first(iter);
        return;
    }
    sdb_buffer_clear(&it->key);
    it->source->ops->seek(it->source, key, UINT64_MAX);
    find_forward(it);
}

void sdb_lsm_iter_next(storm_iter *iter)
{
    struct lsm_iter *it = lsm_iter(iter);
    if (it->stands_behind) {
        /* Tag 0 lies behind every version of the key that is shown. */
        it->source->ops->seek(it->source, sdb_buffer_slice(&it->key), 0);
    } else {
        sdb_buffer_clear(&it->key);
        if (!sdb_buffer_add(&it->key, it->base.key.data, it->base.key.size)) {
            end_with(it, it->key.status);
            return;
        }
        it->source->ops->next(it->source);
    }
    find_forward(it);
}

void sdb_lsm_iter_prev(storm_iter *iter)
{
    struct lsm_iter *it = lsm_iter(iter);
    if (!it->stands_behind) {
        sdb_buffer_clear(&it->key);
        if (!sdb_buffer_add(&it->key, it->base.key.data, it->base.key.size)) {
            end_with(it, it->key.status);
            return;
        }
        it->source->ops->seek_before(it->source, sdb_buffer_slice(&it->key), UINT64_MAX);
    }
    find_backward(it);
}

/* A source over all of the view; NULL when out of memory. */
static struct sdb_source *view_source(const struct sdb_view *view)
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
    struct sdb_source *merged = sdb_merge_source(sources, count);
    free(sources);
    return merged;
}

storm_status sdb_lsm_iter_create(storm_db *base, const struct storm_iter_options *options,
                                 storm_iter **iter)
{
    struct sdb_lsm *db = sdb_lsm(base);
    struct lsm_iter *it = calloc(1, sizeof *it);
    if (it == NULL)
        return STORM_NO_MEMORY;
    it->base.db = base;
    sdb_buffer_init(&it->start, SIZE_MAX / 2);
    sdb_buffer_init(&it->end, SIZE_MAX / 2);
    sdb_buffer_init(&it->key, SIZE_MAX / 2);
    sdb_buffer_init(&it->value, SIZE_MAX / 2);
    sdb_buffer_add(&it->start, options->start.data, options->start.size);
    sdb_buffer_add(&it->end, options->end.data, options->end.size);
    /* First the view, then the revision: see db.h. */
    it->view = sdb_view_acquire(db);
    it->revision = options->snapshot != NULL
                       ? options->snapshot->revision
                       : atomic_load_explicit(&db->visible, memory_order_acquire);
    it->now_ms = sdb_now_ms(db->os);
    it->source = view_source(it->view);
    if (it->source == NULL || it->start.status != STORM_OK || it->end.status != STORM_OK) {
        sdb_lsm_iter_destroy(&it->base);
        return STORM_NO_MEMORY;
    }
    *iter = &it->base;
    return STORM_OK;
}

void sdb_lsm_iter_destroy(storm_iter *iter)
{
    struct lsm_iter *it = lsm_iter(iter);
    sdb_source_destroy(it->source);
    sdb_view_release(it->view);
    sdb_buffer_fini(&it->start);
    sdb_buffer_fini(&it->end);
    sdb_buffer_fini(&it->key);
    sdb_buffer_fini(&it->value);
    free(it);
}
