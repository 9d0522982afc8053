/*
 * A merge of sorted sources, by a binary heap.
 *
 * The heap's front is the current source; its entry is copied (slices, not bytes) into the merge's
 * own struct. Going forward the heap is ordered by the smallest entry, going back by the largest; a
 * turn positions every other source around the current entry again. Equal entries are ordered by
 * the place of their sources in the list, so that the merge shows one order whichever way it goes.
 * One source that fails makes the merge fail: a read that silently lacks a run would be a wrong
 * answer.
 *
 * Sources are compared by sixteen bytes of their keys, kept in the heap, turned round going back so
 * that less is always sooner. The second in order is known: while the front stays ahead of it,
 * which in a store at rest is nearly always, a step costs one comparison.
 */
#include <stdlib.h>

#include "lsm/db/sources.h"
#include "lsm/entry.h"

/* Whether `a` stands earlier in the list of sources. Only ties ask, and the engine's own runs have
 * none. */
static bool is_earlier(const struct sdb_merge *merge, const struct sdb_source *a,
                       const struct sdb_source *b)
{
    size_t i = 0;
    while (merge->sources[i] != a && merge->sources[i] != b)
        i++;
    return merge->sources[i] == a;
}

static bool comes_before(const struct sdb_merge *merge, const struct sdb_contender *x,
                         const struct sdb_contender *y)
{
    int ranks = sdb_key_prefix_compare(x->rank, y->rank);
    if (ranks != 0)
        return ranks < 0;
    const struct sdb_source *a = x->source;
    const struct sdb_source *b = y->source;
    int order = sdb_entry_compare(a->key, a->tag, b->key, b->tag);
    if (order == 0)
        return is_earlier(merge, a, b) == merge->is_forward;
    return merge->is_forward ? order < 0 : order > 0;
}

static void sift_down(struct sdb_merge *merge, size_t i)
{
    struct sdb_contender moving = merge->heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= merge->live)
            break;
        if (child + 1 < merge->live &&
            comes_before(merge, &merge->heap[child + 1], &merge->heap[child]))
            child++;
        if (!comes_before(merge, &merge->heap[child], &moving))
            break;
        merge->heap[i] = merge->heap[child];
        i = child;
    }
    merge->heap[i] = moving;
}

static void find_second(struct sdb_merge *merge)
{
    const struct sdb_contender *heap = merge->heap;
    merge->second = merge->live > 1 ? &heap[1] : NULL;
    if (merge->live > 2 && comes_before(merge, &heap[2], &heap[1]))
        merge->second = &heap[2];
}

/* Show the front's entry as the merge's own. */
static void show_front(struct sdb_merge *merge)
{
    if (merge->base.status != STORM_OK || merge->live == 0) {
        merge->base.valid = false;
        return;
    }
    const struct sdb_source *front = merge->heap[0].source;
    merge->base.valid = true;
    merge->base.key = front->key;
    merge->base.tag = front->tag;
    merge->base.value = front->value;
    merge->is_row_clear = false;
    if (front->at != NULL)
        merge->is_row_clear =
            sdb_merge_is_ahead(merge, merge->is_forward ? front->last->key : front->first->key);
}

/* All sources have been positioned: order those that stand somewhere. */
static void build_heap(struct sdb_merge *merge)
{
    merge->live = 0;
    merge->is_behind = false;
    merge->base.status = STORM_OK;
    for (size_t i = 0; i < merge->count; i++) {
        struct sdb_source *source = merge->sources[i];
        if (source->valid)
            merge->heap[merge->live++] = (struct sdb_contender){
                .rank = sdb_merge_rank(merge->is_forward, source->key), .source = source};
        else if (source->status != STORM_OK && merge->base.status == STORM_OK)
            merge->base.status = source->status;
    }
    for (size_t i = merge->live / 2; i-- > 0;)
        sift_down(merge, i);
    find_second(merge);
    show_front(merge);
}

static void merge_first(struct sdb_source *source)
{
    struct sdb_merge *merge = (struct sdb_merge *)source;
    merge->is_forward = true;
    for (size_t i = 0; i < merge->count; i++)
        merge->sources[i]->ops->first(merge->sources[i]);
    build_heap(merge);
}

static void merge_last(struct sdb_source *source)
{
    struct sdb_merge *merge = (struct sdb_merge *)source;
    merge->is_forward = false;
    for (size_t i = 0; i < merge->count; i++)
        merge->sources[i]->ops->last(merge->sources[i]);
    build_heap(merge);
}

static void merge_seek(struct sdb_source *source, struct storm_slice key, uint64_t tag)
{
    struct sdb_merge *merge = (struct sdb_merge *)source;
    merge->is_forward = true;
    for (size_t i = 0; i < merge->count; i++)
        merge->sources[i]->ops->seek(merge->sources[i], key, tag);
    build_heap(merge);
}

static void merge_seek_before(struct sdb_source *source, struct storm_slice key, uint64_t tag)
{
    struct sdb_merge *merge = (struct sdb_merge *)source;
    merge->is_forward = false;
    for (size_t i = 0; i < merge->count; i++)
        merge->sources[i]->ops->seek_before(merge->sources[i], key, tag);
    build_heap(merge);
}

/* The front has moved: put it where it belongs, or take it out. */
static void settle_front(struct sdb_merge *merge)
{
    struct sdb_source *front = merge->heap[0].source;
    bool stays = false;
    merge->is_behind = false;
    if (front->valid) {
        merge->heap[0].rank = sdb_merge_rank(merge->is_forward, front->key);
        stays = merge->second == NULL || comes_before(merge, &merge->heap[0], merge->second);
    } else {
        if (front->status != STORM_OK)
            merge->base.status = front->status;
        merge->heap[0] = merge->heap[--merge->live];
    }
    if (!stays) {
        if (merge->live > 1)
            sift_down(merge, 0);
        find_second(merge);
    }
    show_front(merge);
}

void sdb_merge_catch_up(struct sdb_merge *merge)
{
    struct sdb_source *front = merge->heap[0].source;
    sdb_source_stand(front, front->at);
    settle_front(merge);
}

/*
 * Turn round at the current entry: the others go to its other side. An equal entry of an earlier
 * source lies before the current one; tag - 1 is the place behind it (no tag is 0: revisions begin
 * at 1).
 */
static void turn(struct sdb_merge *merge, bool forward)
{
    struct sdb_source *front = merge->heap[0].source;
    uint64_t tag = front->tag - 1;
    for (size_t i = 0; i < merge->count; i++) {
        struct sdb_source *other = merge->sources[i];
        if (other == front)
            tag = front->tag;
        else if (forward)
            other->ops->seek(other, front->key, tag);
        else
            other->ops->seek_before(other, front->key, tag);
    }
    merge->is_forward = forward;
    build_heap(merge);
}

static void merge_next(struct sdb_source *source)
{
    struct sdb_merge *merge = (struct sdb_merge *)source;
    if (!merge->is_forward)
        turn(merge, true);
    if (merge->base.status != STORM_OK)
        return;
    struct sdb_source *front = merge->heap[0].source;
    front->ops->next(front);
    settle_front(merge);
}

static void merge_prev(struct sdb_source *source)
{
    struct sdb_merge *merge = (struct sdb_merge *)source;
    if (merge->is_forward)
        turn(merge, false);
    if (merge->base.status != STORM_OK)
        return;
    struct sdb_source *front = merge->heap[0].source;
    front->ops->prev(front);
    settle_front(merge);
}

static void merge_rest(struct sdb_source *source)
{
    struct sdb_merge *merge = (struct sdb_merge *)source;
    merge->is_behind = false;
    for (size_t i = 0; i < merge->count; i++)
        sdb_source_rest(merge->sources[i]);
}

static void merge_destroy(struct sdb_source *source)
{
    struct sdb_merge *merge = (struct sdb_merge *)source;
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
    .rest = merge_rest,
    .destroy = merge_destroy,
};

struct sdb_merge *sdb_merge_create(struct sdb_source **sources, size_t count)
{
    bool is_whole = true;
    for (size_t i = 0; i < count; i++)
        is_whole = is_whole && sources[i] != NULL;
    size_t each = sizeof(struct sdb_contender) + sizeof(struct sdb_source *);
    struct sdb_merge *merge = is_whole ? calloc(1, sizeof *merge + count * each) : NULL;
    if (merge == NULL) {
        for (size_t i = 0; i < count; i++)
            sdb_source_destroy(sources[i]);
        return NULL;
    }
    merge->base.ops = &merge_ops;
    merge->count = count;
    merge->heap = (struct sdb_contender *)(merge + 1);
    merge->sources = (struct sdb_source **)(merge->heap + count);
    for (size_t i = 0; i < count; i++)
        merge->sources[i] = sources[i];
    return merge;
}

struct sdb_source *sdb_merge_source(struct sdb_source **sources, size_t count)
{
    if (count == 1)
        return sources[0];
    struct sdb_merge *merge = sdb_merge_create(sources, count);
    return merge != NULL ? &merge->base : NULL;
}
