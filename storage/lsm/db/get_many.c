/*
 * Reading many keys of one state: one view, one revision, one clock.
 *
 * The keys are put in order (an array of our own; the caller's stays as it is) and taken through
 * the sources of the view, newest first, all through one before any goes to the next:
 *
 *   active memtable, sealed ones | level 0, table by table | level 1 | ... | level 6
 *
 * Whoever is found leaves; those that are left stay in order. So neighbours follow each other
 * through nodes, tables and indexes that are in the processor's cache by then, and a block that
 * several of them share is fetched once. In a memtable and in a level up to GROUP keys go side by
 * side, because the time of a lookup is mostly waiting for memory, and waits for different keys can
 * overlap. In a level:
 *
 *   1  which file, by the guide; fetch the line of its filter
 *   2  ask the filters; of those that pass: which block
 *   3  get the blocks; fetch their last lines, where a search begins
 *   4  search the blocks
 *
 * A key that cannot be read (a damaged table, no memory for its block) has that as its status and
 * stops nobody else.
 */
#include <stdlib.h>

#include "lsm/db/db.h"
#include "lsm/db/value.h"
#include "lsm/table/block_builder.h"
#include "lsm/table/prefix.h"

enum {
    GROUP = SDB_MEMTABLE_TOGETHER,
    ON_STACK = 128, /* keys sorted without an allocation; 6 KiB */
};

/* A key on its way. */
struct wanted {
    uint64_t word; /* eight bytes of the key behind what all keys share */
    uint64_t hash;
    struct storm_lookup *lookup;
};

struct many {
    struct sdb_lsm *db;
    const struct sdb_view *view;
    uint64_t revision;
    uint64_t now_ms; /* 0 = not read yet */
    size_t count;    /* keys not dealt with */
    struct wanted *wanted;
    struct sdb_asked asked;
};

/* ---- Putting keys in order ---- */

static bool is_before(const struct wanted *a, const struct wanted *b)
{
    if (a->word != b->word)
        return a->word < b->word;
    return sdb_key_compare(a->lookup->key, b->lookup->key) < 0;
}

/* Merge the sorted runs [0, middle) and [middle, count) of `from` into `to`. */
static void merge_runs(const struct wanted *from, size_t middle, size_t count, struct wanted *to)
{
    size_t a = 0;
    size_t b = middle;
    for (size_t i = 0; i < count; i++) {
        bool takes_b = a == middle || (b < count && is_before(&from[b], &from[a]));
        to[i] = takes_b ? from[b++] : from[a++];
    }
}

/* Sort by merging ever longer runs, with as much room again. Keys that come in order cost one
 * pass. */
static void sort(struct wanted *wanted, struct wanted *room, size_t count)
{
    size_t sorted = 1;
    while (sorted < count && !is_before(&wanted[sorted], &wanted[sorted - 1]))
        sorted++;
    if (sorted >= count)
        return;
    struct wanted *from = wanted;
    struct wanted *to = room;
    for (size_t run = 1; run < count; run *= 2) {
        for (size_t at = 0; at < count; at += 2 * run) {
            size_t left = count - at;
            merge_runs(from + at, run < left ? run : left, 2 * run < left ? 2 * run : left,
                       to + at);
        }
        struct wanted *swapped = from;
        from = to;
        to = swapped;
    }
    if (from != wanted)
        memcpy(wanted, from, count * sizeof *wanted);
}

/* Fill many->wanted with all keys, in order. Empty keys are left out, with their status. */
static void gather(struct many *many, struct storm_lookup *lookups, size_t count,
                   struct wanted *room)
{
    const struct storm_lookup *first = NULL;
    size_t common = 0;
    for (size_t i = 0; i < count; i++) {
        if (lookups[i].key.size == 0) {
            lookups[i].status = STORM_INVALID;
            continue;
        }
        if (first == NULL) {
            first = &lookups[i];
            common = first->key.size;
        }
        common = sdb_shared_prefix(storm_bytes(first->key.data, common), lookups[i].key);
        many->wanted[many->count++] = (struct wanted){0, sdb_key_hash(lookups[i].key), &lookups[i]};
    }
    for (size_t i = 0; i < many->count; i++)
        many->wanted[i].word = sdb_key_word(many->wanted[i].lookup->key, common);
    sort(many->wanted, room, many->count);
}

/* ---- Memtables ---- */

/* Give a key what was found for it, with the reference to its block. The clock is read once, and
 * only when something expires. */
static void settle(struct many *many, struct storm_lookup *lookup, struct sdb_found *found)
{
    if (sdb_tag_revision(found->tag) < sdb_view_floor(many->view, lookup->key, many->revision)) {
        lookup->status = STORM_NOT_FOUND; /* a range delete hides it */
        return;
    }
    if (many->now_ms == 0 && sdb_value_expires_ms(found->value) != 0)
        many->now_ms = sdb_now_ms(many->db->os);
    lookup->status = sdb_found_value(many->db, found, many->now_ms, &lookup->value);
}

static void ask_memtable(struct many *many, struct sdb_memtable *memtable)
{
    struct sdb_memtable_query queries[GROUP];
    size_t left = 0;
    if (sdb_memtable_entries(memtable) == 0)
        return;
    for (size_t from = 0; from < many->count; from += GROUP) {
        size_t count = many->count - from < GROUP ? many->count - from : GROUP;
        for (size_t i = 0; i < count; i++)
            queries[i].key = many->wanted[from + i].lookup->key;
        sdb_memtable_get_many(memtable, many->revision, queries, count);
        for (size_t i = 0; i < count; i++) {
            struct sdb_found found = {queries[i].tag, queries[i].value, NULL, memtable};
            if (queries[i].is_found)
                settle(many, many->wanted[from + i].lookup, &found);
            else
                many->wanted[left++] = many->wanted[from + i];
        }
    }
    many->count = left;
}

/* ---- Tables ---- */

/* What becomes of a key in a level. */
struct step {
    size_t file; /* guide->count = none that may hold it */
    uint32_t number;
    struct storm_slice contents; /* of the block */
    struct sdb_block *block;     /* what pins them, with a reference, or NULL and `status` */
    storm_status status;         /* STORM_NOT_FOUND = it is not here */
};

/* The file of a level, or the one file of level 0 that is asked, and its filter on the way. */
static void find_files(struct many *many, const struct sdb_guide *guide, bool is_level0,
                       size_t file, size_t from, size_t count, struct step *steps)
{
    for (size_t i = 0; i < count; i++) {
        const struct wanted *wanted = &many->wanted[from + i];
        struct storm_slice key = wanted->lookup->key;
        size_t at = is_level0 ? sdb_guide_next(guide, file, key) : sdb_guide_find(guide, key);
        if (is_level0 && at != file)
            at = guide->count;
        if (at != guide->count)
            sdb_filter_prefetch(&guide->filters[at], wanted->hash);
        steps[i] = (struct step){.file = at, .status = STORM_NOT_FOUND};
    }
}

/* Ask the filters; the blocks of those that pass, and the ends of the blocks on their way. */
static void find_blocks(struct many *many, const struct sdb_guide *guide, size_t from, size_t count,
                        struct step *steps)
{
    const struct step *last = NULL; /* the last that has got a block */
    for (size_t i = 0; i < count; i++) {
        struct step *step = &steps[i];
        if (step->file == guide->count)
            continue;
        const struct wanted *wanted = &many->wanted[from + i];
        const struct sdb_table_file *file = guide->files[step->file];
        const struct sdb_filter *filter = &guide->filters[step->file];
        if (!sdb_filter_may_contain(filter, wanted->hash)) {
            many->asked.ruled_out++;
            continue;
        }
        if (file->max_revision < sdb_view_floor(many->view, wanted->lookup->key, many->revision))
            continue;
        if (file->table == NULL) {
            step->status = sdb_damaged_table(many->db, file);
            continue;
        }
        many->asked.passed += filter->line_count != 0;
        if (!sdb_table_find(file->table, wanted->lookup->key, many->revision, &step->number))
            continue;
        if (last != NULL && last->file == step->file && last->number == step->number) {
            step->contents = last->contents;
            step->block = last->block;
            sdb_block_ref(step->block);
        } else {
            storm_status status =
                sdb_table_read(file->table, step->number, &step->contents, &step->block);
            if (status != STORM_OK) {
                step->status = status;
                continue;
            }
            __builtin_prefetch(step->contents.data + step->contents.size - 1);
        }
        last = step;
    }
}

/* Look into the blocks. Whoever is still not found stays in many->wanted, from `left` on. */
static size_t search_blocks(struct many *many, const struct sdb_guide *guide, size_t from,
                            size_t count, struct step *steps, size_t left)
{
    for (size_t i = 0; i < count; i++) {
        struct step *step = &steps[i];
        const struct wanted *wanted = &many->wanted[from + i];
        struct storm_lookup *lookup = wanted->lookup;
        struct sdb_found found = {.block = step->block};
        if (step->block != NULL) {
            step->status =
                sdb_table_get_in(guide->files[step->file]->table, step->number, step->contents,
                                 lookup->key, many->revision, &found.tag, &found.value);
            if (step->status == STORM_OK)
                settle(many, lookup, &found);
            bool has_passed = guide->filters[step->file].line_count != 0;
            many->asked.passed_wrongly += has_passed && step->status == STORM_NOT_FOUND;
            sdb_block_unref(found.block);
        }
        if (step->status == STORM_NOT_FOUND)
            many->wanted[left++] = *wanted;
        else if (step->status != STORM_OK)
            lookup->status = step->status;
    }
    return left;
}

/* All keys through a level, or through one file of level 0. */
static void ask_level(struct many *many, const struct sdb_guide *guide, bool is_level0, size_t file)
{
    struct step steps[GROUP];
    size_t left = 0;
    for (size_t from = 0; from < many->count; from += GROUP) {
        size_t count = many->count - from < GROUP ? many->count - from : GROUP;
        find_files(many, guide, is_level0, file, from, count, steps);
        find_blocks(many, guide, from, count, steps);
        left = search_blocks(many, guide, from, count, steps, left);
    }
    many->count = left;
}

static void ask_view(struct many *many)
{
    const struct sdb_view *view = many->view;
    ask_memtable(many, view->active);
    for (size_t i = 0; i < view->sealed_count; i++)
        ask_memtable(many, view->sealed[i]);
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_guide *guide = view->version->levels[l].guide;
        size_t rounds = guide == NULL ? 0 : l == 0 ? guide->count : 1;
        for (size_t i = 0; i < rounds && many->count != 0; i++)
            ask_level(many, guide, l == 0, i);
    }
}

/* ---- The whole ---- */

/* The first failure in the order of the caller's keys; absence is none. */
static storm_status first_failure(const struct storm_lookup *lookups, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (lookups[i].status != STORM_OK && lookups[i].status != STORM_NOT_FOUND)
            return lookups[i].status;
    }
    return STORM_OK;
}

storm_status sdb_lsm_get_many(storm_db *base, const storm_snapshot *snapshot,
                              struct storm_lookup *lookups, size_t count, uint64_t *revision)
{
    struct sdb_lsm *db = sdb_lsm(base);
    struct wanted on_stack[2 * ON_STACK];
    struct wanted *wanted = on_stack;
    if (count > ON_STACK)
        wanted = calloc(count, 2 * sizeof *wanted);
    for (size_t i = 0; i < count; i++)
        lookups[i].status = wanted != NULL ? STORM_NOT_FOUND : STORM_NO_MEMORY;
    if (wanted == NULL)
        return STORM_NO_MEMORY;

    struct many many = {.db = db, .wanted = wanted};
    gather(&many, lookups, count, wanted + count);
    struct sdb_view *view;
    many.revision = sdb_view_read(db, snapshot, &view);
    many.view = view;
    ask_view(&many);
    sdb_view_release(view);
    sdb_tally_add(db, &many.asked);
    if (wanted != on_stack)
        free(wanted);
    if (revision != NULL)
        *revision = many.revision;
    return first_failure(lookups, count);
}
