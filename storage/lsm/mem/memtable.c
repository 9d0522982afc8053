/*
 * The memtable: a B+tree in an arena that one writer grows while any number of readers walk it.
 *
 * Entries are records (tag, sizes, key, value; one arena allocation each) that leaves point to.
 * Every slot of a node keeps the first 16 bytes of its key beside the pointer, so that most
 * searches touch one record only, the one they look for. The engine's notes gave the idea of the
 * order word to the "permutation" of Masstree (Mao, Kohler, Morris, 2012), without Masstree's
 * versions, locks and reclamation: the arena keeps every node until the memtable dies.
 *
 *   node   | order word | 15 x 16 bytes of key | 15 x record | links |
 *   order  bits 0-3 count n, then for each position 4 bits: which of the slots 0 to n-1 stands there
 *
 * How a node changes
 *   An insert fills slot n, which no reader looks at yet, then publishes it with one release store
 *   of the order word. A slot never changes its key, and a node never loses one. So the order word
 *   of a node takes at most 16 values, never one twice, and any value of it is a consistent node.
 *   A full node is replaced: two new ones get copies of its halves, and the old one is frozen.
 *   Nothing in a frozen node is ever stored to again; readers that stand in it may go on.
 *   The last leaf is different when the new entry comes after all others: it stays as it is, and
 *   a new leaf with that entry is put behind it, so a sequential load fills its nodes. (Only the
 *   last one: elsewhere a descending run of keys behind a full leaf, such as newer and newer
 *   versions of one key, would get a leaf for each.)
 *
 * How a split becomes visible: leaf L of parent P is replaced by A and B
 *   1. A and B are complete: entries, links between them and to L's neighbours.
 *   2. P's order word with the separator of B in a new slot, whose link is B already.     (release)
 *   3. P's link to L is changed to A.                                                     (release)
 *   4. The neighbours' links to L are changed to A and B.                                 (release)
 *   A reader that goes down loads P's order, then the link, then P's order again, and starts over
 *   in P when it changed. Without that it may combine the order of before 2 with the link of after
 *   3, and look for a key of B in A. With it: whoever loads A from the link (acquire) also sees
 *   step 2. The new order with the link to L is harmless: L still has all that A has, but for the
 *   insert that is under way. An order word changes 15 times at most, so this ends.
 *   When P is full as well, its two halves are made from the children after the split, and P, with
 *   L in it, is frozen and replaced in the same way one level up; a new root is one store.
 *
 * Why a reader finds every entry whose insert happened before it started, and why an iterator
 * neither skips nor repeats one, in either direction. Number the inserts; the first n happened
 * before the reader (or iterator) started.
 *   (a) Every node the reader comes to was not frozen by an insert up to n. For the root word, a
 *       child link and a sibling link alike: replacing a node stores to all links to it in nodes
 *       that are not frozen, and a reader cannot read anything older than the last store that
 *       happened before it. A node made by a later insert starts with links to unfrozen nodes only.
 *   (b) So such a node holds all of the n entries that belong to its range: up to being frozen it is
 *       the one place that they are put in, and being copied they are there from its beginning.
 *   (c) The lower end of a node's range never changes. The upper end changes only when a last node
 *       gets a right neighbour, and there it is cut down to where the node had no entries anyway;
 *       as the node is full, it had none of the n there either.
 *   (d) A sibling link leads to a node whose range begins (going back: ends) exactly where this
 *       one's ends (begins): they were neighbours when the link was stored, and by (c) the border
 *       between them stays. A frozen node's link leads to what was its neighbour when it was frozen.
 *   An iterator takes one order word of a leaf, goes through these positions, then takes the link.
 *   By (b) it sees the n of this leaf, by (d) nothing lies between this leaf and the next one and
 *   nothing is in both, by (a) the same holds there. Entries inserted meanwhile may be seen or not.
 *
 * Memory for a split is allocated before anything is changed, so that running out of it leaves the
 * tree as it was; the unused pieces stay in the arena. Who reserved before does not run out of it.
 *
 * Not done here: deleting (a delete is an entry), reclaiming, more than one inserter.
 */
#include "lsm/mem/memtable.h"

#include <stdlib.h>

#include "lsm/mem/node.h"

/* A node is split after at least seven inserts into it, so that 24 levels are never reached. */
enum { MAX_HEIGHT = 24, HEIGHT_MASK = SDB_NODE_ALIGN - 1 };

/* What a node may take of the arena: itself and the way to the next multiple of its alignment. */
enum {
    LEAF_ROOM = sizeof(struct sdb_node) + SDB_LEAF_LINKS * sizeof(void *) + SDB_NODE_ALIGN - 1,
    INNER_ROOM = sizeof(struct sdb_node) + SDB_INNER_LINKS * sizeof(void *) + SDB_NODE_ALIGN - 1,
};

_Static_assert(SDB_MEMTABLE_LARGE + sizeof(struct sdb_record) == SDB_ARENA_LARGE,
               "an entry is large when its record is a large allocation");

/* The way down to a leaf: inner nodes from the root, and which child was taken in each. */
struct path {
    struct sdb_node *nodes[MAX_HEIGHT];
    unsigned positions[MAX_HEIGHT];
    unsigned height;
};

/* What a split hands to the level above: `right` belongs behind the child at hand, separated by
 * `separator`; `left`, unless NULL, takes that child's place. */
struct split {
    struct sdb_node *left;
    struct sdb_node *right;
    struct sdb_prefix prefix;
    const struct sdb_record *separator;
};

/* ---- Nodes ----------------------------------------------------------------------------------- */

static struct sdb_node *node_alloc(struct sdb_memtable *memtable, unsigned links)
{
    struct sdb_node *node = sdb_arena_alloc(
        &memtable->arena, sizeof *node + links * sizeof node->links[0], SDB_NODE_ALIGN);
    if (node == NULL)
        return NULL;
    atomic_init(&node->order, 0);
    for (unsigned i = 0; i < links; i++)
        atomic_init(&node->links[i], NULL);
    return node;
}

static uint64_t load_order(const struct sdb_node *node)
{
    return atomic_load_explicit(&node->order, memory_order_acquire);
}

static struct sdb_node *load_link(const struct sdb_node *node, unsigned link)
{
    return atomic_load_explicit(&node->links[link], memory_order_acquire);
}

static void store_link(struct sdb_node *node, unsigned link, struct sdb_node *to)
{
    atomic_store_explicit(&node->links[link], to, memory_order_release);
}

/* Fill slot `slot` of a node, before an order word names it. */
static void set_slot(struct sdb_node *node, unsigned slot, struct sdb_prefix prefix,
                     const struct sdb_record *record)
{
    node->prefixes[slot] = prefix;
    atomic_store_explicit(&node->records[slot], record, memory_order_relaxed);
}

static void publish_order(struct sdb_node *node, uint64_t order)
{
    atomic_store_explicit(&node->order, order, memory_order_release);
}

/* Which link of an inner node leads to the child with `position` separators before it. */
static unsigned child_link(uint64_t order, unsigned position)
{
    return position == 0 ? 0 : sdb_order_slot(order, position - 1) + 1;
}

/* A search looks at all of a leaf: six cache lines, asked for at once instead of one by one. At
 * 560 k entries, most of them not cached, that takes an eighth off a get. */
static void prefetch_node(const struct sdb_node *node)
{
    for (unsigned line = 0; line < 6; line++)
        __builtin_prefetch((const char *)node + line * SDB_NODE_ALIGN);
}

static struct sdb_node *root_node(uintptr_t root)
{
    return (struct sdb_node *)(root & ~(uintptr_t)HEIGHT_MASK);
}

static unsigned root_height(uintptr_t root)
{
    return (unsigned)(root & HEIGHT_MASK);
}

/* ---- Reading --------------------------------------------------------------------------------- */

/*
 * The child to go down to: the one of `target`, or the last one when that is NULL. The second look
 * at the order word catches a split between the first look and the link; see the story.
 */
static struct sdb_node *descend(const struct sdb_node *node, const struct sdb_target *target)
{
    uint64_t order = load_order(node);
    for (;;) {
        unsigned position =
            target == NULL ? sdb_order_count(order) : sdb_node_search(node, order, target, true);
        struct sdb_node *child = load_link(node, child_link(order, position));
        uint64_t again = load_order(node);
        if (again == order) {
            prefetch_node(child);
            return child;
        }
        order = again;
    }
}

struct sdb_node *sdb_memtable_leaf(const struct sdb_memtable *memtable,
                                   const struct sdb_target *target)
{
    uintptr_t root = atomic_load_explicit(&memtable->root, memory_order_acquire);
    struct sdb_node *node = root_node(root);
    for (unsigned height = root_height(root); height > 0; height--)
        node = descend(node, target);
    return node;
}

struct sdb_node *sdb_memtable_first_leaf(const struct sdb_memtable *memtable)
{
    uintptr_t root = atomic_load_explicit(&memtable->root, memory_order_acquire);
    struct sdb_node *node = root_node(root);
    for (unsigned height = root_height(root); height > 0; height--)
        node = load_link(node, 0); /* the first child at any moment; there is nothing to re-check */
    return node;
}

struct sdb_node *sdb_memtable_last_leaf(const struct sdb_memtable *memtable)
{
    return sdb_memtable_leaf(memtable, NULL);
}

/* The first record of a leaf, or of the next one, that is not before the target, if sixteen bytes
 * of its key are the target's: no other can be the one that is looked for. */
static const struct sdb_record *find_record(const struct sdb_node *leaf,
                                            const struct sdb_target *target)
{
    uint64_t order = load_order(leaf);
    unsigned position = sdb_node_search(leaf, order, target, false);
    if (position == sdb_order_count(order)) {
        leaf = load_link(leaf, SDB_LEAF_NEXT);
        if (leaf == NULL)
            return NULL;
        order = load_order(leaf);
        position = 0;
    }
    unsigned slot = sdb_order_slot(order, position);
    if (!sdb_prefix_equal(leaf->prefixes[slot], target->prefix))
        return NULL;
    return sdb_node_record(leaf, slot);
}

/*
 * Whether that record is the answer. It may be newer than asked for: when a leaf was put behind the
 * last one a moment ago, for a version that is not published yet of a key that was not there.
 */
static bool is_wanted(const struct sdb_record *record, const struct sdb_target *target)
{
    return record != NULL && record->tag <= target->tag &&
           sdb_compare_tied(record, target->key) == 0;
}

bool sdb_memtable_get(const struct sdb_memtable *memtable, struct storm_slice key,
                      uint64_t revision, uint64_t *tag, struct storm_slice *value)
{
    *tag = 0;
    *value = storm_bytes(NULL, 0);
    struct sdb_target target = sdb_target_make(key, sdb_tag(revision, SDB_KIND_SEEK));
    const struct sdb_record *record = find_record(sdb_memtable_leaf(memtable, &target), &target);
    if (!is_wanted(record, &target))
        return false;
    *tag = record->tag;
    *value = sdb_record_value(record);
    return true;
}

/* All go down level by level, each asking for its next node before the others are looked at. */
void sdb_memtable_get_many(const struct sdb_memtable *memtable, uint64_t revision,
                           struct sdb_memtable_query *queries, size_t count)
{
    struct sdb_target targets[SDB_MEMTABLE_TOGETHER];
    const struct sdb_node *nodes[SDB_MEMTABLE_TOGETHER];
    const struct sdb_record *records[SDB_MEMTABLE_TOGETHER];
    uintptr_t root = atomic_load_explicit(&memtable->root, memory_order_acquire);
    for (size_t i = 0; i < count; i++) {
        targets[i] = sdb_target_make(queries[i].key, sdb_tag(revision, SDB_KIND_SEEK));
        nodes[i] = root_node(root);
    }
    for (unsigned height = root_height(root); height > 0; height--) {
        for (size_t i = 0; i < count; i++)
            nodes[i] = descend(nodes[i], &targets[i]);
    }
    for (size_t i = 0; i < count; i++) {
        records[i] = find_record(nodes[i], &targets[i]);
        if (records[i] != NULL)
            __builtin_prefetch(records[i]);
    }
    for (size_t i = 0; i < count; i++) {
        struct sdb_memtable_query *query = &queries[i];
        const struct sdb_record *record = records[i];
        query->is_found = is_wanted(record, &targets[i]);
        query->tag = query->is_found ? record->tag : 0;
        query->value = query->is_found ? sdb_record_value(record) : storm_bytes(NULL, 0);
    }
}

/* ---- Splitting ------------------------------------------------------------------------------- */

/* A full node with one more slot put in, in order: what its two successors are filled from. */
struct overfull {
    struct sdb_prefix prefixes[SDB_NODE_SLOTS + 1];
    const struct sdb_record *records[SDB_NODE_SLOTS + 1];
    struct sdb_node *children[SDB_INNER_LINKS + 1];
};

enum { SPLIT_AT = (SDB_NODE_SLOTS + 1) / 2 };

static void gather_slots(struct overfull *all, const struct sdb_node *node, unsigned position,
                         struct sdb_prefix prefix, const struct sdb_record *record)
{
    uint64_t order = load_order(node);
    for (unsigned from = 0, to = 0; to <= SDB_NODE_SLOTS; to++) {
        if (to == position) {
            all->prefixes[to] = prefix;
            all->records[to] = record;
            continue;
        }
        unsigned slot = sdb_order_slot(order, from++);
        all->prefixes[to] = node->prefixes[slot];
        all->records[to] = sdb_node_record(node, slot);
    }
}

/* The children of an inner node after the split of the one at `position`. */
static void gather_children(struct overfull *all, const struct sdb_node *node, unsigned position,
                            const struct split *split)
{
    uint64_t order = load_order(node);
    unsigned to = 0;
    for (unsigned from = 0; from <= SDB_NODE_SLOTS; from++) {
        struct sdb_node *child = load_link(node, child_link(order, from));
        if (from != position) {
            all->children[to++] = child;
            continue;
        }
        all->children[to++] = split->left != NULL ? split->left : child;
        all->children[to++] = split->right;
    }
}

static void fill_slots(struct sdb_node *node, const struct overfull *all, unsigned from,
                       unsigned end)
{
    for (unsigned i = from; i < end; i++)
        set_slot(node, i - from, all->prefixes[i], all->records[i]);
    publish_order(node, sdb_order_first(end - from));
}

/* Split a full leaf, or start a new last one behind it, for a new record at `position`. */
static struct split split_leaf(struct sdb_memtable *memtable, struct sdb_node *leaf,
                               unsigned position, struct sdb_prefix prefix,
                               const struct sdb_record *record, struct sdb_node **fresh)
{
    if (leaf == memtable->tail && position == SDB_NODE_SLOTS) {
        struct sdb_node *right = fresh[0];
        set_slot(right, 0, prefix, record);
        store_link(right, SDB_LEAF_PREV, leaf);
        publish_order(right, sdb_order_first(1));
        return (struct split){NULL, right, prefix, record};
    }
    struct overfull all;
    gather_slots(&all, leaf, position, prefix, record);
    struct sdb_node *left = fresh[0], *right = fresh[1];
    store_link(left, SDB_LEAF_PREV, load_link(leaf, SDB_LEAF_PREV));
    store_link(left, SDB_LEAF_NEXT, right);
    store_link(right, SDB_LEAF_PREV, left);
    store_link(right, SDB_LEAF_NEXT, load_link(leaf, SDB_LEAF_NEXT));
    fill_slots(left, &all, 0, SPLIT_AT);
    fill_slots(right, &all, SPLIT_AT, SDB_NODE_SLOTS + 1);
    return (struct split){left, right, all.prefixes[SPLIT_AT], all.records[SPLIT_AT]};
}

/*
 * The same for a full inner node that has to take in `below`. It may stay and get a right neighbour
 * only when none of its links would have to change: it is the last on its level then, because only
 * last leaves stay, and its order word, which readers re-check, would not tell of the change.
 */
static struct split split_inner(struct sdb_node *node, unsigned position, const struct split *below,
                                struct sdb_node **fresh)
{
    if (below->left == NULL) {
        store_link(fresh[0], 0, below->right);
        return (struct split){NULL, fresh[0], below->prefix, below->separator};
    }
    struct overfull all;
    gather_slots(&all, node, position, below->prefix, below->separator);
    gather_children(&all, node, position, below);
    struct sdb_node *left = fresh[0], *right = fresh[1];
    for (unsigned i = 0; i <= SPLIT_AT; i++)
        store_link(left, i, all.children[i]);
    for (unsigned i = SPLIT_AT + 1; i < SDB_INNER_LINKS + 1; i++)
        store_link(right, i - SPLIT_AT - 1, all.children[i]);
    fill_slots(left, &all, 0, SPLIT_AT);
    fill_slots(right, &all, SPLIT_AT + 1, SDB_NODE_SLOTS + 1);
    return (struct split){left, right, all.prefixes[SPLIT_AT], all.records[SPLIT_AT]};
}

/* Let an inner node with room take in the split of its child at `position`. */
static void add_child(struct sdb_node *node, unsigned position, const struct split *split)
{
    uint64_t order = load_order(node);
    unsigned slot = sdb_order_count(order);
    set_slot(node, slot, split->prefix, split->separator);
    atomic_store_explicit(&node->links[slot + 1], split->right, memory_order_relaxed);
    publish_order(node, sdb_order_insert(order, position));
    if (split->left != NULL)
        store_link(node, child_link(order, position), split->left);
}

static void grow_root(struct sdb_memtable *memtable, const struct split *split,
                      struct sdb_node *root)
{
    uintptr_t old = atomic_load_explicit(&memtable->root, memory_order_relaxed);
    set_slot(root, 0, split->prefix, split->separator);
    store_link(root, 0, split->left != NULL ? split->left : root_node(old));
    store_link(root, 1, split->right);
    publish_order(root, sdb_order_first(1));
    atomic_store_explicit(&memtable->root, (uintptr_t)root | (root_height(old) + 1),
                          memory_order_release);
}

/* Bring the neighbours' links and the writer's own up to date after `leaf` was split. */
static void link_leaves(struct sdb_memtable *memtable, struct sdb_node *leaf,
                        const struct split *split)
{
    if (split->left != NULL) {
        struct sdb_node *before = load_link(leaf, SDB_LEAF_PREV);
        struct sdb_node *after = load_link(leaf, SDB_LEAF_NEXT);
        if (before != NULL)
            store_link(before, SDB_LEAF_NEXT, split->left);
        if (after != NULL)
            store_link(after, SDB_LEAF_PREV, split->right);
    } else {
        store_link(leaf, SDB_LEAF_NEXT, split->right);
    }
    if (memtable->tail == leaf)
        memtable->tail = split->right;
}

/* Put a record into a full leaf at `position`. False when out of memory, and nothing changed. */
static bool insert_splitting(struct sdb_memtable *memtable, const struct path *path,
                             struct sdb_node *leaf, unsigned position, struct sdb_prefix prefix,
                             const struct sdb_record *record)
{
    bool appends = leaf == memtable->tail && position == SDB_NODE_SLOTS;
    unsigned halves = appends ? 1 : 2;
    unsigned level = path->height; /* of the lowest inner node that has room, from the root, + 1 */
    while (level > 0 && sdb_order_count(load_order(path->nodes[level - 1])) == SDB_NODE_SLOTS)
        level--;
    struct sdb_node *fresh[2 * (MAX_HEIGHT + 1) + 1];
    unsigned needed = halves * (path->height - level + 1) + (level == 0);
    for (unsigned i = 0; i < needed; i++) {
        fresh[i] = node_alloc(memtable, i < halves ? SDB_LEAF_LINKS : SDB_INNER_LINKS);
        if (fresh[i] == NULL)
            return false;
    }

    struct sdb_node **next = fresh + halves;
    struct split split = split_leaf(memtable, leaf, position, prefix, record, fresh);
    struct split leaves = split;
    for (unsigned i = path->height; i > level; i--, next += halves)
        split = split_inner(path->nodes[i - 1], path->positions[i - 1], &split, next);
    if (level == 0)
        grow_root(memtable, &split, *next);
    else
        add_child(path->nodes[level - 1], path->positions[level - 1], &split);
    link_leaves(memtable, leaf, &leaves);
    return true;
}

/* ---- Inserting ------------------------------------------------------------------------------- */

static struct sdb_record *record_alloc(struct sdb_memtable *memtable, struct storm_slice key,
                                       uint64_t tag, struct storm_slice value)
{
    size_t size = sizeof(struct sdb_record) + key.size; /* both sizes are below 2^32 */
    if (value.size > SIZE_MAX - size)
        return NULL;
    struct sdb_record *record =
        sdb_arena_alloc(&memtable->arena, size + value.size, _Alignof(struct sdb_record));
    if (record == NULL)
        return NULL;
    record->tag = tag;
    record->key_size = (uint32_t)key.size;
    record->value_size = (uint32_t)value.size;
    if (key.size != 0)
        memcpy(record->bytes, key.data, key.size);
    if (value.size != 0)
        memcpy(record->bytes + key.size, value.data, value.size);
    return record;
}

/*
 * The most memory for nodes that `inserts` inserts may take. A level splits at most once for each
 * split below it (the leaves: for each insert). And all nodes but the last one of a level have at
 * least 8 entries or children, so there are few to begin with; those that a split makes have room
 * for
 * 7 more, so that they split again at the 8th at the earliest. Fewer inserts than that (most groups
 * are one put) need no closer look: each splits the levels that are there, once, and the root.
 */
static size_t nodes_bound(const struct sdb_memtable *memtable, size_t inserts)
{
    unsigned height = root_height(atomic_load_explicit(&memtable->root, memory_order_relaxed));
    if (inserts < (SDB_NODE_SLOTS + 1) / 2)
        return inserts * (2 * LEAF_ROOM + (2 * height + 1) * INNER_ROOM);
    size_t present = sdb_memtable_entries(memtable);
    size_t splits = inserts;
    size_t bytes = 0;
    for (unsigned level = 0; splits != 0; level++) {
        present = level > height ? 0 : present / 8 + 1;
        if (splits > present + splits / 8)
            splits = present + splits / 8;
        bytes += 2 * splits * (level == 0 ? LEAF_ROOM : INNER_ROOM);
        if (level >= height)
            bytes += INNER_ROOM; /* a new root above it */
    }
    return bytes;
}

size_t sdb_memtable_room(const struct sdb_memtable *memtable, size_t entries, size_t bytes)
{
    size_t records = entries * (sizeof(struct sdb_record) + _Alignof(struct sdb_record) - 1);
    return bytes + records + nodes_bound(memtable, entries);
}

bool sdb_memtable_reserve(struct sdb_memtable *memtable, size_t entries, size_t bytes)
{
    return sdb_arena_reserve(&memtable->arena, sdb_memtable_room(memtable, entries, bytes));
}

bool sdb_memtable_reserve_large(struct sdb_memtable *memtable, size_t key_size, size_t value_size)
{
    return sdb_arena_reserve_large(&memtable->arena,
                                   sizeof(struct sdb_record) + key_size + value_size);
}

void sdb_memtable_unreserve(struct sdb_memtable *memtable, bool keep_next)
{
    sdb_arena_unreserve(&memtable->arena, keep_next ? 1 : 0);
}

/* Whether the target comes after all entries: what sequential writers insert. One look at a leaf
 * that such writers have just touched saves them the way down. */
static bool is_after_all(const struct sdb_memtable *memtable, const struct sdb_target *target)
{
    uint64_t order = load_order(memtable->tail);
    unsigned count = sdb_order_count(order);
    if (count == 0 || count == SDB_NODE_SLOTS)
        return false; /* a full leaf needs the path */
    unsigned last = sdb_order_slot(order, count - 1);
    if (!sdb_prefix_equal(memtable->tail->prefixes[last], target->prefix))
        return sdb_prefix_less(memtable->tail->prefixes[last], target->prefix);
    return sdb_compare_tied(sdb_node_record(memtable->tail, last), target->key) < 0;
}

static struct sdb_node *find_path(const struct sdb_memtable *memtable,
                                  const struct sdb_target *target, struct path *path)
{
    uintptr_t root = atomic_load_explicit(&memtable->root, memory_order_relaxed);
    struct sdb_node *node = root_node(root);
    path->height = root_height(root);
    for (unsigned i = 0; i < path->height; i++) {
        uint64_t order = load_order(node);
        path->nodes[i] = node;
        path->positions[i] = sdb_node_search(node, order, target, true);
        node = load_link(node, child_link(order, path->positions[i]));
        prefetch_node(node);
    }
    return node;
}

/* The slot of a version with the target's key and revision; SDB_NODE_SLOTS when there is none. The
 * separators see to it that it can only be in this leaf, at the position of the target. */
static unsigned same_version(const struct sdb_node *leaf, uint64_t order, unsigned position,
                             const struct sdb_target *target)
{
    if (position == sdb_order_count(order))
        return SDB_NODE_SLOTS;
    unsigned slot = sdb_order_slot(order, position);
    if (!sdb_prefix_equal(leaf->prefixes[slot], target->prefix))
        return SDB_NODE_SLOTS;
    const struct sdb_record *record = sdb_node_record(leaf, slot);
    bool is_same = sdb_tag_revision(record->tag) == sdb_tag_revision(target->tag) &&
                   sdb_compare_tied(record, target->key) == 0;
    return is_same ? slot : SDB_NODE_SLOTS;
}

storm_status sdb_memtable_insert(struct sdb_memtable *memtable, struct storm_slice key,
                                 uint64_t tag, struct storm_slice value)
{
    if (key.size > UINT32_MAX || value.size > UINT32_MAX)
        return STORM_TOO_LARGE;
    const struct sdb_record *record = record_alloc(memtable, key, tag, value);
    if (record == NULL)
        return STORM_NO_MEMORY;

    /* To the first place of this revision, whatever the kind of an entry that may be there. */
    struct sdb_target target = sdb_target_make(key, tag | SDB_KIND_SEEK);
    struct path path;
    path.height = 0; /* the last leaf has room and needs no path, which compilers cannot see */
    bool is_last = is_after_all(memtable, &target);
    struct sdb_node *leaf = is_last ? memtable->tail : find_path(memtable, &target, &path);
    uint64_t order = load_order(leaf);
    unsigned count = sdb_order_count(order);
    unsigned position = is_last ? count : sdb_node_search(leaf, order, &target, false);
    unsigned same = same_version(leaf, order, position, &target);
    if (same != SDB_NODE_SLOTS) {
        atomic_store_explicit(&leaf->records[same], record, memory_order_release);
        return STORM_OK;
    }
    if (count < SDB_NODE_SLOTS) {
        set_slot(leaf, count, target.prefix, record);
        publish_order(leaf, sdb_order_insert(order, position));
    } else if (!insert_splitting(memtable, &path, leaf, position, target.prefix, record)) {
        return STORM_NO_MEMORY;
    }
    size_t entries = atomic_load_explicit(&memtable->entries, memory_order_relaxed);
    atomic_store_explicit(&memtable->entries, entries + 1, memory_order_relaxed);
    return STORM_OK;
}

/* ---- Life and numbers ------------------------------------------------------------------------ */

struct sdb_memtable *sdb_memtable_create(struct sdb_account *account)
{
    struct sdb_memtable *memtable = malloc(sizeof *memtable);
    if (memtable == NULL)
        return NULL;
    sdb_arena_init(&memtable->arena, account);
    memtable->tail = node_alloc(memtable, SDB_LEAF_LINKS);
    if (memtable->tail == NULL) {
        free(memtable);
        return NULL;
    }
    atomic_init(&memtable->refs, 1);
    atomic_init(&memtable->entries, 0);
    atomic_init(&memtable->root, (uintptr_t)memtable->tail);
    return memtable;
}

struct sdb_memtable *sdb_memtable_ref(struct sdb_memtable *memtable)
{
    atomic_fetch_add_explicit(&memtable->refs, 1, memory_order_relaxed);
    return memtable;
}

void sdb_memtable_unref(struct sdb_memtable *memtable)
{
    if (memtable == NULL ||
        atomic_fetch_sub_explicit(&memtable->refs, 1, memory_order_acq_rel) != 1)
        return;
    sdb_arena_fini(&memtable->arena);
    free(memtable);
}

size_t sdb_memtable_used(const struct sdb_memtable *memtable)
{
    /* The root of an empty tree does not count: nothing has been written. */
    if (sdb_memtable_entries(memtable) == 0)
        return 0;
    return atomic_load_explicit(&memtable->arena.used, memory_order_relaxed);
}

/* Without the 200 bytes of the struct itself: an empty memtable is one chunk, 64 KiB exactly. */
size_t sdb_memtable_bytes(const struct sdb_memtable *memtable)
{
    return atomic_load_explicit(&memtable->arena.bytes, memory_order_relaxed);
}

size_t sdb_memtable_entries(const struct sdb_memtable *memtable)
{
    return atomic_load_explicit(&memtable->entries, memory_order_relaxed);
}
