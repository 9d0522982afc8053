/*
 * The parts of the memtable's tree: records, nodes, the order word, and the search in one node.
 * Internal to memtable.c and memtable_source.c; the story is told in memtable.c.
 *
 * Memory orders: the order word, links and records of a published node are stored with release and
 * loaded with acquire, each store the partner of the loads of the same field. Prefixes need no
 * atomics: a slot's prefix is written before the order word that first names the slot, and never
 * again.
 */
#ifndef SDB_LSM_MEM_NODE_H
#define SDB_LSM_MEM_NODE_H

#include <stdatomic.h>

#include "lsm/entry.h"
#include "lsm/mem/arena.h"

/* 15 slots of 4 bits and a count of 4 bits fill the 64 bits that one store can publish. */
enum { SDB_NODE_SLOTS = 15, SDB_PREFIX_SIZE = 16 };

/* An entry's only copy: written once, before it is published, and const from then on. */
struct sdb_record {
    uint64_t tag;
    uint32_t key_size;
    uint32_t value_size;
    uint8_t bytes[]; /* key, value */
};

/* The first 16 bytes of a key, filled up with zeroes, as two numbers that compare like the
 * bytes. */
struct sdb_prefix {
    uint64_t high;
    uint64_t low;
};

/*
 * A node of the tree. In a leaf records[] are entries; in an inner node they are separators:
 * links[slot + 1] leads to what is at or after the separator in `slot`, links[0] to what is before
 * the first one.
 */
struct sdb_node {
    _Atomic uint64_t order; /* see sdb_order_* */
    struct sdb_prefix prefixes[SDB_NODE_SLOTS];
    const struct sdb_record *_Atomic records[SDB_NODE_SLOTS];
    struct sdb_node *_Atomic links[]; /* leaf: previous and next leaf; inner: 16 children */
};

enum { SDB_LEAF_PREV = 0, SDB_LEAF_NEXT = 1, SDB_LEAF_LINKS = 2, SDB_INNER_LINKS = 16 };

/* A leaf is six cache lines of 64 bytes exactly (with 8-byte pointers), an inner node under
 * eight. */
enum { SDB_NODE_ALIGN = 64 };
_Static_assert(sizeof(void *) != 8 ||
                   sizeof(struct sdb_node) + SDB_LEAF_LINKS * sizeof(void *) == 384,
               "leaf size");

struct sdb_memtable {
    _Atomic size_t refs;    /* release on the way down, acquire by the last */
    _Atomic size_t entries; /* relaxed: only a number */
    _Atomic uintptr_t root; /* node | height in the low 6 bits; a leaf has height 0 */
    struct sdb_node *tail;  /* the last leaf; the writer's */
    struct sdb_arena arena; /* the writer's, but for the byte count */
};

/* ---- The order word: bits 0-3 the count, bits 4 + 4 i the slot that is i-th in order --------- */

static inline unsigned sdb_order_count(uint64_t order)
{
    return (unsigned)(order & 15);
}

static inline unsigned sdb_order_slot(uint64_t order, unsigned position)
{
    return (unsigned)(order >> (4 + 4 * position) & 15);
}

/* The order with the next unused slot (its number is the count) put in at `position`. */
static inline uint64_t sdb_order_insert(uint64_t order, unsigned position)
{
    uint64_t below = (UINT64_C(16) << (4 * position)) - 1;
    uint64_t slot = (order & 15) << (4 + 4 * position);
    return ((order & ~below) << 4 | slot | (order & below)) + 1;
}

/* Slots 0 to count - 1 in that order. */
static inline uint64_t sdb_order_first(unsigned count)
{
    uint64_t used = (UINT64_C(16) << (4 * count)) - 1; /* 15 shifts the bit out: all ones */
    return (UINT64_C(0xedcba98765432100) & used) | count;
}

/* ---- Searching a node ------------------------------------------------------------------------ */

struct sdb_target {
    struct sdb_prefix prefix;
    struct storm_slice key;
    uint64_t tag;
};

static inline struct storm_slice sdb_record_key(const struct sdb_record *record)
{
    return storm_bytes(record->bytes, record->key_size);
}

static inline struct storm_slice sdb_record_value(const struct sdb_record *record)
{
    return storm_bytes(record->bytes + record->key_size, record->value_size);
}

static inline uint64_t sdb_prefix_word(const uint8_t bytes[8])
{
    uint64_t word = 0;
    for (int i = 0; i < 8; i++) /* compilers make one load and one byte swap of it */
        word = word << 8 | bytes[i];
    return word;
}

static inline struct sdb_target sdb_target_make(struct storm_slice key, uint64_t tag)
{
    uint8_t padded[SDB_PREFIX_SIZE] = {0};
    const uint8_t *bytes = key.data;
    if (key.size < SDB_PREFIX_SIZE) {
        if (key.size != 0)
            memcpy(padded, key.data, key.size);
        bytes = padded;
    }
    struct sdb_prefix prefix = {sdb_prefix_word(bytes), sdb_prefix_word(bytes + 8)};
    return (struct sdb_target){prefix, key, tag};
}

static inline bool sdb_prefix_less(struct sdb_prefix a, struct sdb_prefix b)
{
    /* Without branches: which of 15 keys a search meets first is a coin toss to a predictor. As one
     * number of 128 bits this is a comparison, a subtraction with borrow and an addition with
     * carry. */
#ifdef __SIZEOF_INT128__
    __extension__ typedef unsigned __int128 wide;
    return ((wide)a.high << 64 | a.low) < ((wide)b.high << 64 | b.low);
#else
    return (a.high < b.high) | ((a.high == b.high) & (a.low < b.low));
#endif
}

static inline bool sdb_prefix_equal(struct sdb_prefix a, struct sdb_prefix b)
{
    return a.high == b.high && a.low == b.low;
}

/*
 * Order of the record's key and the target's, whose prefixes tie. Zeroes fill up short keys, so
 * "a" and "a\0" tie: where one key ends within the prefix it is the beginning of the other one (or
 * equal), and its size decides.
 */
static inline int sdb_compare_tied(const struct sdb_record *record, struct storm_slice key)
{
    size_t common = record->key_size < key.size ? record->key_size : key.size;
    if (common > SDB_PREFIX_SIZE) {
        int order = memcmp(record->bytes + SDB_PREFIX_SIZE, key.data + SDB_PREFIX_SIZE,
                           common - SDB_PREFIX_SIZE);
        if (order != 0)
            return order;
    }
    return record->key_size < key.size ? -1 : record->key_size > key.size;
}

static inline const struct sdb_record *sdb_node_record(const struct sdb_node *node, unsigned slot)
{
    return atomic_load_explicit(&node->records[slot], memory_order_acquire);
}

/*
 * In a leaf: how many entries are before the target. In an inner node (`is_inner`): how many
 * separators are at or before it, by key and revision only. Kinds must not matter there, because a
 * replacement may change the kind of the entry that gave the separator.
 *
 * The slots in use are 0 to count - 1 in any order, so that the count of smaller prefixes is a
 * position and needs no jumping about; full keys are looked at only among ties.
 */
static inline unsigned sdb_node_search(const struct sdb_node *node, uint64_t order,
                                       const struct sdb_target *target, bool is_inner)
{
    unsigned count = sdb_order_count(order);
    unsigned low = 0;
    for (unsigned i = 0; i < count; i++)
        low += sdb_prefix_less(node->prefixes[i], target->prefix);
    unsigned high = low;
    while (high < count &&
           sdb_prefix_equal(node->prefixes[sdb_order_slot(order, high)], target->prefix))
        high++;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct sdb_record *record = sdb_node_record(node, sdb_order_slot(order, middle));
        int key_order = sdb_compare_tied(record, target->key);
        bool tag_before = is_inner ? sdb_tag_revision(record->tag) >= sdb_tag_revision(target->tag)
                                   : record->tag > target->tag;
        if (key_order < 0 || (key_order == 0 && tag_before))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- memtable.c, for memtable_source.c ------------------------------------------------------- */

/* The leaf whose range holds the target; the first leaf; the last one. */
struct sdb_node *sdb_memtable_leaf(const struct sdb_memtable *memtable,
                                   const struct sdb_target *target);
struct sdb_node *sdb_memtable_first_leaf(const struct sdb_memtable *memtable);
struct sdb_node *sdb_memtable_last_leaf(const struct sdb_memtable *memtable);

/* ---- memtable.c, for its test ---------------------------------------------------------------- */

/* The most bytes of the arena that inserts take which sdb_memtable_reserve() was told of. */
size_t sdb_memtable_room(const struct sdb_memtable *memtable, size_t entries, size_t bytes);

#endif
