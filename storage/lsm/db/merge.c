/*
 * A merge of sorted sources, by a binary heap of source indexes.
 *
 * The heap's root is the current source; its entry is copied (slices, not bytes) into the merge's
 * own struct. Going forward the heap is ordered by the smallest entry, going back by the largest; a
 * turn positions every other source around the current entry again. Equal entries are ordered by
 * the place of their sources in the list, so that the merge shows one order whichever way it goes.
 * One source that fails makes the merge fail: a read that silently lacks a run would be a wrong
 * answer.
 */
#include <stdlib.h>

#include "lsm/db/sources.h"
#include "lsm/entry.h"

struct merge {
    struct sdb_source base;
    bool is_forward;
    size_t count;
    size_t live;                 /* valid sources, heap[0..live) */
    struct sdb_source **sources; /* all */
    struct sdb_source **heap;
};

/* Whether `a` stands earlier in the list of sources. Only ties ask, and the engine's own runs have none. */
static bool is_earlier(const struct merge *merge, const struct sdb_source *a,
                       const struct sdb_source *b)
{
    size_t i = 0;
    while (merge->sources[i] != a && merge->sources[i] != b)
        i++;
    return merge->sources[i] == a;
}

static bool comes_before(const struct merge *merge, const struct sdb_source *a,
                         const struct sdb_source *b)
{
    int order = sdb_entry_compare(a->key, a->tag, b->key, b->tag);
    if (order == 0)
        return is_earlier(merge, a, b) == merge->is_forward;
    return merge->is_forward ? order < 0 : order > 0;
}

static void sift_down(struct merge *merge, size_t i)
{
    struct sdb_source *moving = merge->heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= merge->live)
            break;
        if (child + 1 < merge->live &&
            comes_before(merge, merge->heap[child + 1], merge->heap[child]))
            child++;
        if (!comes_before(merge, merge->heap[child], moving))
            break;
        merge->heap[i] = merge->heap[child];
        i = child;
    }
    merge->heap[i] = moving;
}

/* Show the root's entry as the merge's own. */
static void show_root(struct merge *merge)
{
    if (merge->base.status != STORM_OK || merge->live == 0) {
        merge->base.valid = false;
        return;
    }
    const struct sdb_source *root = merge->heap[0];
    merge->base.valid = true;
    merge->base.key = root->key;
    merge->base.tag = root->tag;
    merge->base.value = root->value;
}

/* All sources have been positioned: order those that stand somewhere. */
static void build_heap(struct merge *merge)
{
    merge->live = 0;
    merge->base.status = STORM_OK;
    for (size_t i = 0; i < merge->count; i++) {
        struct sdb_source *source = merge->sources[i];
        if (source->valid)
            merge->heap[merge->live++] = source;
        else if (source->status != STORM_OK && merge->base.status == STORM_OK)
            merge->base.status = source->status;
    }
    for (size_t i = merge->live / 2; i-- > 0;)
        sift_down(merge, i);
    show_root(merge);
}

static void merge_first(struct sdb_source *source)
{
    struct merge *merge = (struct merge *)source;
    merge->is_forward = true;
    for (size_t i = 0; i < merge->count; i++)
        merge->sources[i]->ops->first(merge->sources[i]);
    build_heap(merge);
}

static void merge_last(struct sdb_source *source)
{
    struct merge *merge = (struct merge *)source;
    merge->is_forward = false;
    for (size_t i = 0; i < merge->count; i++)
        merge->sources[i]->ops->last(merge->sources[i]);
    build_heap(merge);
}

static void merge_seek(struct sdb_source *source, struct storm_slice key, uint64_t tag)
{
    struct merge *merge = (struct merge *)source;
    merge->is_forward = true;
    for (size_t i = 0; i < merge->count; i++)
        merge->sources[i]->ops->seek(merge->sources[i], key, tag);
    build_heap(merge);
}

static void merge_seek_before(struct sdb_source *source, struct storm_slice key, uint64_t tag)
{
    struct merge *merge = (struct merge *)source;
    merge->is_forward = false;
    for (size_t i = 0; i < merge->count; i++)
        merge->sources[i]->ops->seek_before(merge->sources[i], key, tag);
    build_heap(merge);
}

/* The root has moved: put it where it belongs, or take it out. */
static void settle_root(struct merge *merge)
{
    struct sdb_source *root = merge->heap[0];
    if (!root->valid) {
        if (root->status != STORM_OK)
            merge->base.status = root->status;
        merge->heap[0] = merge->heap[--merge->live];
    }
    if (merge->live > 1)
        sift_down(merge, 0);
    show_root(merge);
}

/*
 * Turn round at the current entry: the others go to its other side. An equal entry of an earlier
 * source lies before the current one; tag - 1 is the place behind it (no tag is 0: revisions begin
 * at 1).
 */
static void turn(struct merge *merge, bool forward)
{
    struct sdb_source *root = merge->heap[0];
    uint64_t tag = root->tag - 1;
    for (size_t i = 0; i < merge->count; i++) {
        struct sdb_source *other = merge->sources[i];
        if (other == root)
            tag = root->tag;
        else if (forward)
            other->ops->seek(other, root->key, tag);
        else
            other->ops->seek_before(other, root->key, tag);
    }
    merge->is_forward = forward;
    build_heap(merge);
}

static void merge_next(struct sdb_source *source)
{
    struct merge *merge = (struct merge *)source;
    if (!merge->is_forward)
        turn(merge, true);
    if (merge->base.status != STORM_OK)
        return;
    merge->heap[0]->ops->next(merge->heap[0]);
    settle_root(merge);
}

static void merge_prev(struct sdb_source *source)
{
    struct merge *merge = (struct merge *)source;
    if (merge->is_forward)
        turn(merge, false);
    if (merge->base.status != STORM_OK)
        return;
    merge->heap[0]->ops->prev(merge->heap[0]);
    settle_root(merge);
}

static void merge_destroy(struct sdb_source *source)
{
    struct merge *merge = (struct merge *)source;
    for (size_t i = 0; i < merge->count; i++)
        sdb_source_destroy(merge->sources[i]);
    free(merge);
}

static const struct sdb_source_ops merge_ops = {
    .first = merge_first,
    .last = merge_last,
    .seek = merge_seek,
    .seek_before = merge_seek_before,
    .next = merge_next,
    .prev = merge_prev,
    .destroy = merge_destroy,
};

struct sdb_source *sdb_merge_source(struct sdb_source **sources, size_t count)
{
    if (count == 1)
        return sources[0];
    bool is_whole = true;
    for (size_t i = 0; i < count; i++)
        is_whole = is_whole && sources[i] != NULL;
    struct merge *merge =
        is_whole ? calloc(1, sizeof *merge + 2 * count * sizeof(struct sdb_source *)) : NULL;
    if (merge == NULL) {
        for (size_t i = 0; i < count; i++)
            sdb_source_destroy(sources[i]);
        return NULL;
    }
    merge->base.ops = &merge_ops;
    merge->count = count;
    merge->sources = (struct sdb_source **)(merge + 1);
    merge->heap = merge->sources + count;
    for (size_t i = 0; i < count; i++)
        merge->sources[i] = sources[i];
    return &merge->base;
}
