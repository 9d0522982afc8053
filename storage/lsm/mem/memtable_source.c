/*
 * A memtable as a source of entries: a leaf, one order word of it, and a position in that order.
 *
 *      prev link                    order word, as it was when the iterator came to the leaf
 *    leaf <------ leaf [ first ... position ... last ] ------> leaf
 *                                                    next link
 *
 * Within a leaf it goes by the order word it has taken, which never becomes wrong: slots keep their
 * keys, only newer entries are missing from it. At either end it takes the leaf's link and the
 * order word that it finds there. memtable.c tells why nothing is skipped or repeated while the
 * memtable grows and splits, also in leaves that have been replaced meanwhile.
 *
 * The source holds a reference to its memtable, so the slices it hands out live as long as it does.
 * It never fails: status stays STORM_OK.
 */
#include <stdlib.h>

#include "lsm/mem/memtable.h"
#include "lsm/mem/node.h"

/* How far ahead of where it stands a source going forward asks for records: some 300 ns of merging
 * and writing; and how much of each, enough for small values. */
enum { AHEAD = 4, RECORD_LINES = 3 };

struct memtable_source {
    struct sdb_source base;
    struct sdb_memtable *memtable;
    const struct sdb_node *leaf;
    uint64_t order;
    unsigned position;
};

static struct memtable_source *self(struct sdb_source *source)
{
    return (struct memtable_source *)source; /* base is its first member */
}

/* Records lie where they were written, at random: each would be waited for when it is stood on. */
static void prefetch_record(const struct sdb_node *leaf, uint64_t order, unsigned position)
{
    if (position >= sdb_order_count(order))
        return;
    const char *record = (const char *)sdb_node_record(leaf, sdb_order_slot(order, position));
    for (unsigned line = 0; line < RECORD_LINES; line++)
        __builtin_prefetch(record + line * SDB_NODE_ALIGN);
}

static void enter(struct memtable_source *source, const struct sdb_node *leaf)
{
    source->leaf = leaf;
    source->order = atomic_load_explicit(&leaf->order, memory_order_acquire);
}

/* The same for who goes on through all of the leaf. */
static void enter_forward(struct memtable_source *source, const struct sdb_node *leaf)
{
    enter(source, leaf);
    for (unsigned i = 1; i < AHEAD; i++)
        prefetch_record(leaf, source->order, i);
    const char *next =
        (const char *)atomic_load_explicit(&leaf->links[SDB_LEAF_NEXT], memory_order_acquire);
    for (unsigned line = 0; line < 6 && next != NULL; line++)
        __builtin_prefetch(next + line * SDB_NODE_ALIGN);
}

/* Stand on `position`, which may be one past the end: then on the first entry of the next leaf. */
static void stand_forward(struct memtable_source *source, unsigned position)
{
    if (position == sdb_order_count(source->order)) {
        const struct sdb_node *next =
            atomic_load_explicit(&source->leaf->links[SDB_LEAF_NEXT], memory_order_acquire);
        source->base.valid = next != NULL;
        if (next == NULL)
            return;
        enter_forward(source, next);
        position = 0;
    }
    prefetch_record(source->leaf, source->order, position + AHEAD);
    const struct sdb_record *record =
        sdb_node_record(source->leaf, sdb_order_slot(source->order, position));
    source->position = position;
    source->base.valid = true;
    source->base.key = sdb_record_key(record);
    source->base.tag = record->tag;
    source->base.value = sdb_record_value(record);
}

/* Stand on the entry before `position`, which may be in the leaf before. */
static void stand_before(struct memtable_source *source, unsigned position)
{
    if (position == 0) {
        const struct sdb_node *prev =
            atomic_load_explicit(&source->leaf->links[SDB_LEAF_PREV], memory_order_acquire);
        source->base.valid = prev != NULL;
        if (prev == NULL)
            return;
        enter(source, prev);
        position = sdb_order_count(source->order);
    }
    stand_forward(source, position - 1);
}

static unsigned find(struct memtable_source *source, struct storm_slice key, uint64_t tag)
{
    struct sdb_target target = sdb_target_make(key, tag);
    enter(source, sdb_memtable_leaf(source->memtable, &target));
    return sdb_node_search(source->leaf, source->order, &target, false);
}

static void source_first(struct sdb_source *source)
{
    enter(self(source), sdb_memtable_first_leaf(self(source)->memtable));
    stand_forward(self(source), 0);
}

static void source_last(struct sdb_source *source)
{
    enter(self(source), sdb_memtable_last_leaf(self(source)->memtable));
    stand_before(self(source), sdb_order_count(self(source)->order));
}

static void source_seek(struct sdb_source *source, struct storm_slice key, uint64_t tag)
{
    stand_forward(self(source), find(self(source), key, tag));
}

static void source_seek_before(struct sdb_source *source, struct storm_slice key, uint64_t tag)
{
    stand_before(self(source), find(self(source), key, tag));
}

static void source_next(struct sdb_source *source)
{
    stand_forward(self(source), self(source)->position + 1);
}

static void source_prev(struct sdb_source *source)
{
    stand_before(self(source), self(source)->position);
}

static void source_destroy(struct sdb_source *source)
{
    sdb_memtable_unref(self(source)->memtable);
    free(source);
}

struct sdb_source *sdb_memtable_source(struct sdb_memtable *memtable)
{
    static const struct sdb_source_ops ops = {
        .first = source_first,
        .last = source_last,
        .seek = source_seek,
        .seek_before = source_seek_before,
        .next = source_next,
        .prev = source_prev,
        .destroy = source_destroy,
    };
    struct memtable_source *source = calloc(1, sizeof *source);
    if (source == NULL)
        return NULL;
    source->base.ops = &ops;
    source->memtable = sdb_memtable_ref(memtable);
    return &source->base;
}
