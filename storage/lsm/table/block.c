/*
 * The reading half of a data block.
 *
 * Forwards: each entry is decoded on top of the key before it, in key_buffer. Most headers are
 * three one-byte lengths and a token of one to five bytes; one 8-byte load takes the lengths and
 * another the token, without a branch on its length. A load may run over the entry: it stays in the
 * block, because entries end at least nine bytes (one restart, the tail) before the block does.
 *
 * Backwards: entries cannot be decoded from behind, so the interval from the restart on is decoded
 * once into a run, whole keys in an arena of their own, and walked down from there. A reverse scan
 * decodes every entry once more than a forward one copies it, not once for each step. The run is
 * bounded by SDB_RESTART_MAX keys.
 *
 * A lookup builds no key at all. It remembers how many leading bytes of its target the entry before
 * had (m), which was smaller. An entry that shares more than m with it is smaller for the same
 * reason; one that shares less differs from it earlier and, being in order, is larger than the
 * target; only one that shares exactly m is compared, from byte m on. This trusts that shared
 * prefixes are as long as they can be, which sdb_block_check() verifies and a checksum protects.
 */
#include "lsm/table/block.h"

#include <stdlib.h>

#include "lsm/table/block_builder.h"
#include "lsm/table/format.h"
#include "util/coding.h"

/* Keys are copied in steps of this where there is room on both sides. As many lines of memory are
 * fetched ahead as a restart interval of entries of a hundred bytes has. */
enum { COPY_STEP = 16, FIRST_KEY_ROOM = 256, CACHE_LINE = 64, PREFETCH_MAX = 32 };

struct entry {
    const uint8_t *rest_data; /* the key's own bytes */
    const uint8_t *value;
    uint32_t shared;
    uint32_t rest;
    uint32_t value_size;
    uint32_t next;
    uint64_t number; /* revision, or the zigzag of its difference */
    unsigned kind;
};

struct run_item {
    size_t key_at; /* in the arena */
    uint64_t tag;
    const uint8_t *value;
    uint32_t key_size;
    uint32_t value_size;
    uint32_t at;
    uint32_t next;
};

struct sdb_block_run {
    struct run_item items[SDB_RESTART_MAX];
    uint32_t count;
    uint32_t current;
    uint8_t *arena;
    size_t arena_room;
};

storm_status sdb_block_parse(struct storm_slice contents, struct sdb_block_view *view)
{
    *view = (struct sdb_block_view){NULL, 0, 0};
    if (contents.size < SDB_BLOCK_TAIL_SIZE || contents.size > SDB_TABLE_BLOCK_MAX)
        return STORM_CORRUPT;
    const uint8_t *tail = contents.data + contents.size - SDB_BLOCK_TAIL_SIZE;
    if (tail[4] != 0)
        return STORM_NEWER_FORMAT;
    uint32_t restarts = sdb_get_u32(tail);
    size_t room = contents.size - SDB_BLOCK_TAIL_SIZE;
    if (restarts > room / 4)
        return STORM_CORRUPT;
    uint32_t limit = (uint32_t)(room - (size_t)restarts * 4);
    if ((restarts == 0) != (limit == 0))
        return STORM_CORRUPT;
    *view = (struct sdb_block_view){contents.data, limit, restarts};
    return STORM_OK;
}

static inline uint32_t restart_at(const struct sdb_block_view *view, uint32_t index)
{
    return sdb_get_u32(view->data + view->limit + (size_t)index * 4);
}

/* ---- One entry -------------------------------------------------------------------------------- */

static bool slow_lengths(struct sdb_cursor *cursor, struct entry *entry)
{
    return sdb_read_varint32(cursor, &entry->shared) && sdb_read_varint32(cursor, &entry->rest) &&
           sdb_read_varint32(cursor, &entry->value_size);
}

/* A varint out of 8 bytes loaded at its start, its length told by `stop`: the lowest set bit is the
 * top bit of the last byte, inverted. */
static inline uint64_t gather_varint(uint64_t word, uint64_t stop)
{
    word &= (stop ^ (stop - 1)) & UINT64_C(0x7f7f7f7f7f7f7f7f);
    word = (word & UINT64_C(0x7f007f007f007f00)) >> 1 | (word & UINT64_C(0x007f007f007f007f));
    word = (word & UINT64_C(0x3fff00003fff0000)) >> 2 | (word & UINT64_C(0x00003fff00003fff));
    return (word & UINT64_C(0x0fffffff00000000)) >> 4 | (word & UINT64_C(0x000000000fffffff));
}

/* Decode the entry at `at`, which is below the limit. False when it does not fit. */
static inline bool decode(const struct sdb_block_view *view, uint32_t at, struct entry *entry)
{
    const uint8_t *p = view->data + at;
    const uint8_t *end = view->data + view->limit;
    uint64_t word = sdb_get_u64(p);
    if ((word & 0x808080) == 0) {
        entry->shared = (uint32_t)(word & 0x7f);
        entry->rest = (uint32_t)(word >> 8 & 0x7f);
        entry->value_size = (uint32_t)(word >> 16 & 0x7f);
        p += 3;
    } else {
        struct sdb_cursor cursor = {p, end};
        if (!slow_lengths(&cursor, entry))
            return false;
        p = cursor.at;
    }
    if (p >= end)
        return false;
    uint64_t token;
    word = sdb_get_u64(p);
    uint64_t stop = ~word & UINT64_C(0x8080808080808080);
    if (stop != 0) {
        token = gather_varint(word, stop);
        p += __builtin_ctzll(stop) / 8 + 1;
    } else {
        struct sdb_cursor cursor = {p, end};
        if (!sdb_read_varint(&cursor, &token))
            return false;
        p = cursor.at;
    }
    entry->number = token >> 1;
    entry->kind = SDB_KIND_PUT;
    if ((token & 1) != 0) {
        if (p >= end)
            return false;
        entry->kind = *p++;
    }
    if (p > end || (uint64_t)entry->rest + entry->value_size > (uint64_t)(end - p))
        return false;
    entry->rest_data = p;
    entry->value = p + entry->rest;
    entry->next = (uint32_t)(entry->value - view->data) + entry->value_size;
    return true;
}

/* The tag, given the tag of the entry before. False when the revision is out of range. */
static inline bool entry_tag(const struct entry *entry, uint64_t before, uint64_t *tag)
{
    uint64_t revision = entry->number;
    if (entry->shared != 0)
        revision = sdb_tag_revision(before) + (revision >> 1 ^ (0 - (revision & 1)));
    *tag = sdb_tag(revision, entry->kind);
    return revision <= SDB_MAX_REVISION;
}

static inline void copy_rest(const struct sdb_block_view *view, const struct entry *entry,
                             uint8_t *to)
{
    /* Sixteen bytes from within the block, of which `rest` count. */
    bool has_room = view->data + view->limit - entry->rest_data >= COPY_STEP;
    if (entry->rest <= COPY_STEP && has_room)
        memcpy(to, entry->rest_data, COPY_STEP);
    else
        memcpy(to, entry->rest_data, entry->rest);
}

/* Room for more than `size` bytes and a last copying step. */
static storm_status grow(uint8_t **buffer, size_t *room, size_t size)
{
    size_t wanted = *room * 2 > size ? *room * 2 : size + 1;
    if (wanted < FIRST_KEY_ROOM)
        wanted = FIRST_KEY_ROOM;
    uint8_t *grown = realloc(*buffer, wanted + COPY_STEP);
    if (grown == NULL)
        return STORM_NO_MEMORY;
    *buffer = grown;
    *room = wanted;
    return STORM_OK;
}

/* ---- Lookup ----------------------------------------------------------------------------------- */

/* The whole key and the tag of a restart. */
static bool restart_entry(const struct sdb_block_view *view, uint32_t index,
                          struct storm_slice *key, uint64_t *tag)
{
    struct entry entry;
    uint32_t at = restart_at(view, index);
    if (at >= view->limit || !decode(view, at, &entry) || entry.shared != 0)
        return false;
    *key = storm_bytes(entry.rest_data, entry.rest);
    return entry_tag(&entry, 0, tag);
}

/*
 * A block that was not read lately is not in the processor's cache. A search that goes from entry to
 * entry would wait for memory at each; fetched at once, they arrive together.
 */
static void prefetch_restarts(const struct sdb_block_view *view)
{
    if (view->restarts > PREFETCH_MAX)
        return;
    for (uint32_t i = 1; i < view->restarts; i++)
        __builtin_prefetch(view->data + restart_at(view, i));
}

static void prefetch_run(const struct sdb_block_view *view, uint32_t from, uint32_t to)
{
    uint32_t most = from + PREFETCH_MAX * CACHE_LINE;
    for (uint32_t at = from; at < to && at < most; at += CACHE_LINE)
        __builtin_prefetch(view->data + at);
}

/* The offset of the last restart before (key, tag), or of the first if there is none. */
static bool search_restarts(const struct sdb_block_view *view, struct storm_slice key, uint64_t tag,
                            uint32_t *at)
{
    uint32_t low = 0;
    uint32_t high = view->restarts;
    prefetch_restarts(view);
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        struct storm_slice middle_key;
        uint64_t middle_tag;
        if (!restart_entry(view, middle, &middle_key, &middle_tag))
            return false;
        if (sdb_entry_compare(middle_key, middle_tag, key, tag) < 0)
            low = middle;
        else
            high = middle;
    }
    *at = restart_at(view, low);
    prefetch_run(view, *at, low + 1 < view->restarts ? restart_at(view, low + 1) : view->limit);
    return *at < view->limit;
}

storm_status sdb_block_get(const struct sdb_block_view *view, struct storm_slice key, uint64_t tag,
                           uint64_t *found, struct storm_slice *value)
{
    uint32_t at;
    if (view->restarts == 0)
        return STORM_NOT_FOUND;
    if (!search_restarts(view, key, tag, &at))
        return STORM_CORRUPT;
    size_t matched = 0;
    uint64_t before = 0;
    while (at < view->limit) {
        struct entry entry;
        uint64_t here;
        if (!decode(view, at, &entry) || !entry_tag(&entry, before, &here))
            return STORM_CORRUPT;
        at = entry.next;
        before = here;
        if (entry.shared == 0)
            matched = 0;
        if (entry.shared > matched)
            continue;
        if (entry.shared < matched)
            return STORM_NOT_FOUND;
        struct storm_slice rest = storm_bytes(entry.rest_data, entry.rest);
        struct storm_slice wanted = storm_bytes(key.data + matched, key.size - matched);
        size_t common = sdb_shared_prefix(rest, wanted);
        matched += common;
        if (common == wanted.size) {
            if (common != rest.size)
                return STORM_NOT_FOUND;
            if (here <= tag) {
                *found = here;
                *value = storm_bytes(entry.value, entry.value_size);
                return STORM_OK;
            }
        } else if (common != rest.size && rest.data[common] > wanted.data[common]) {
            return STORM_NOT_FOUND;
        }
    }
    return STORM_NOT_FOUND;
}

/* ---- Forwards --------------------------------------------------------------------------------- */

void sdb_block_iter_init(struct sdb_block_iter *iter)
{
    *iter = (struct sdb_block_iter){.valid = false};
}

void sdb_block_iter_fini(struct sdb_block_iter *iter)
{
    free(iter->key_buffer);
    if (iter->run != NULL)
        free(iter->run->arena);
    free(iter->run);
    sdb_block_iter_init(iter);
}

static void leave(struct sdb_block_iter *iter, storm_status status)
{
    iter->valid = false;
    iter->status = status;
    iter->in_run = false;
}

void sdb_block_iter_set(struct sdb_block_iter *iter, const struct sdb_block_view *view)
{
    iter->view = *view;
    leave(iter, STORM_OK);
}

/* Decode the entry at `at` on top of the key and tag that stand in the iterator. */
static inline void step(struct sdb_block_iter *iter, uint32_t at)
{
    struct entry entry;
    if (at >= iter->view.limit) {
        leave(iter, STORM_OK);
        return;
    }
    if (!decode(&iter->view, at, &entry)) {
        leave(iter, STORM_CORRUPT);
        return;
    }
    uint64_t key_size = (uint64_t)entry.shared + entry.rest;
    if (entry.shared > iter->key.size || key_size > SDB_TABLE_KEY_MAX ||
        !entry_tag(&entry, iter->tag, &iter->tag)) {
        leave(iter, STORM_CORRUPT);
        return;
    }
    if (key_size >= iter->key_room) {
        storm_status status = grow(&iter->key_buffer, &iter->key_room, (size_t)key_size);
        if (status != STORM_OK) {
            leave(iter, status);
            return;
        }
    }
    copy_rest(&iter->view, &entry, iter->key_buffer + entry.shared);
    iter->key = storm_bytes(iter->key_buffer, (size_t)key_size);
    iter->value = storm_bytes(entry.value, entry.value_size);
    iter->at = at;
    iter->next = entry.next;
    iter->valid = true;
}

/* Decode the entry at a restart. */
static void start_at(struct sdb_block_iter *iter, uint32_t at)
{
    iter->in_run = false;
    iter->status = STORM_OK;
    iter->key.size = 0; /* the entry must share nothing */
    iter->tag = 0;
    step(iter, at);
}

void sdb_block_iter_first(struct sdb_block_iter *iter)
{
    if (iter->view.restarts == 0)
        leave(iter, STORM_OK);
    else
        start_at(iter, 0);
}

/* Go on forwards from the run's current entry, whose key moves to the key buffer. */
static storm_status leave_run(struct sdb_block_iter *iter)
{
    iter->in_run = false;
    if (iter->key.size > iter->key_room) {
        storm_status status = grow(&iter->key_buffer, &iter->key_room, iter->key.size);
        if (status != STORM_OK)
            return status;
    }
    if (iter->key.size != 0)
        memcpy(iter->key_buffer, iter->key.data, iter->key.size);
    iter->key.data = iter->key_buffer;
    return STORM_OK;
}

void sdb_block_iter_next(struct sdb_block_iter *iter)
{
    if (iter->in_run) {
        storm_status status = leave_run(iter);
        if (status != STORM_OK) {
            leave(iter, status);
            return;
        }
    }
    step(iter, iter->next);
}

void sdb_block_iter_seek(struct sdb_block_iter *iter, struct storm_slice key, uint64_t tag)
{
    uint32_t at;
    if (iter->view.restarts == 0) {
        leave(iter, STORM_OK);
        return;
    }
    if (!search_restarts(&iter->view, key, tag, &at)) {
        leave(iter, STORM_CORRUPT);
        return;
    }
    start_at(iter, at);
    while (iter->valid && sdb_entry_compare(iter->key, iter->tag, key, tag) < 0)
        step(iter, iter->next);
}

/* ---- Backwards -------------------------------------------------------------------------------- */

static void show_run_item(struct sdb_block_iter *iter, uint32_t index)
{
    const struct run_item *item = &iter->run->items[index];
    iter->run->current = index;
    iter->in_run = true;
    iter->valid = true;
    iter->status = STORM_OK;
    iter->key = storm_bytes(iter->run->arena + item->key_at, item->key_size);
    iter->tag = item->tag;
    iter->value = storm_bytes(item->value, item->value_size);
    iter->at = item->at;
    iter->next = item->next;
}

/* Decode one entry to the end of the run. */
static storm_status run_add(struct sdb_block_iter *iter, uint32_t at, size_t *used)
{
    struct sdb_block_run *run = iter->run;
    struct entry entry;
    static const struct run_item none;
    const struct run_item *last = run->count == 0 ? &none : &run->items[run->count - 1];
    struct run_item item = {.key_at = *used, .at = at};
    if (run->count == SDB_RESTART_MAX || !decode(&iter->view, at, &entry) ||
        entry.shared > last->key_size || !entry_tag(&entry, last->tag, &item.tag))
        return STORM_CORRUPT;
    uint64_t key_size = (uint64_t)entry.shared + entry.rest;
    if (key_size > SDB_TABLE_KEY_MAX)
        return STORM_CORRUPT;
    if (*used + (size_t)key_size >= run->arena_room) {
        storm_status status = grow(&run->arena, &run->arena_room, *used + (size_t)key_size);
        if (status != STORM_OK)
            return status;
    }
    uint8_t *key = run->arena + *used;
    if (entry.shared != 0)
        memcpy(key, run->arena + last->key_at, entry.shared);
    copy_rest(&iter->view, &entry, key + entry.shared);
    item.key_size = (uint32_t)key_size;
    item.value = entry.value;
    item.value_size = entry.value_size;
    item.next = entry.next;
    run->items[run->count++] = item;
    *used += (size_t)key_size;
    return STORM_OK;
}

/* Decode from the restart at `from` to the entry that ends at `to`, and stand on that one. */
static void enter_run(struct sdb_block_iter *iter, uint32_t from, uint32_t to)
{
    if (iter->run == NULL) {
        iter->run = calloc(1, sizeof *iter->run);
        if (iter->run == NULL) {
            leave(iter, STORM_NO_MEMORY);
            return;
        }
    }
    size_t used = 0;
    iter->run->count = 0;
    for (uint32_t at = from; at < to;) {
        storm_status status = run_add(iter, at, &used);
        if (status != STORM_OK) {
            leave(iter, status);
            return;
        }
        at = iter->run->items[iter->run->count - 1].next;
        if (at > to) {
            leave(iter, STORM_CORRUPT);
            return;
        }
    }
    if (iter->run->count == 0)
        leave(iter, STORM_CORRUPT);
    else
        show_run_item(iter, iter->run->count - 1);
}

void sdb_block_iter_last(struct sdb_block_iter *iter)
{
    if (iter->view.restarts == 0) {
        leave(iter, STORM_OK);
        return;
    }
    enter_run(iter, restart_at(&iter->view, iter->view.restarts - 1), iter->view.limit);
}

void sdb_block_iter_prev(struct sdb_block_iter *iter)
{
    uint32_t at = iter->at;
    if (iter->in_run && iter->run->current > 0) {
        show_run_item(iter, iter->run->current - 1);
        return;
    }
    if (at == 0) {
        leave(iter, STORM_OK);
        return;
    }
    uint32_t low = 0; /* the last restart before the current entry */
    uint32_t high = iter->view.restarts;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (restart_at(&iter->view, middle) < at)
            low = middle;
        else
            high = middle;
    }
    enter_run(iter, restart_at(&iter->view, low), at);
}

void sdb_block_iter_seek_before(struct sdb_block_iter *iter, struct storm_slice key, uint64_t tag)
{
    sdb_block_iter_seek(iter, key, tag);
    if (iter->valid)
        sdb_block_iter_prev(iter);
    else if (iter->status == STORM_OK)
        sdb_block_iter_last(iter);
}

/* ---- Checking --------------------------------------------------------------------------------- */

/* What comes after `last` in the iterator: in order, and sharing all that it can unless a restart. */
static bool follows(const struct sdb_block_iter *iter, struct storm_slice last, uint64_t last_tag,
                    bool is_restart)
{
    struct entry entry;
    if (sdb_entry_compare(last, last_tag, iter->key, iter->tag) >= 0)
        return false;
    if (!decode(&iter->view, iter->at, &entry))
        return false;
    if (is_restart)
        return entry.shared == 0;
    size_t i = entry.shared;
    return i == last.size || i == iter->key.size || last.data[i] != iter->key.data[i];
}

storm_status sdb_block_check(const struct sdb_block_view *view)
{
    struct sdb_block_iter iter;
    uint32_t restart = 0;
    uint32_t since = 0;
    uint8_t *last = NULL;
    size_t last_room = 0;
    storm_status status = STORM_OK;
    sdb_block_iter_init(&iter);
    sdb_block_iter_set(&iter, view);
    size_t last_size = 0;
    uint64_t last_tag = 0;
    bool is_first = true;
    for (sdb_block_iter_first(&iter); iter.valid; sdb_block_iter_next(&iter)) {
        bool is_restart = restart < view->restarts && restart_at(view, restart) == iter.at;
        since = is_restart ? 1 : since + 1;
        restart += is_restart;
        bool good = is_first ? is_restart
                             : follows(&iter, storm_bytes(last, last_size), last_tag, is_restart);
        if (!good || since > SDB_RESTART_MAX) {
            status = STORM_CORRUPT;
            goto out;
        }
        if (iter.key.size > last_room) {
            status = grow(&last, &last_room, iter.key.size);
            if (status != STORM_OK)
                goto out;
        }
        if (iter.key.size != 0)
            memcpy(last, iter.key.data, iter.key.size);
        last_size = iter.key.size;
        last_tag = iter.tag;
        is_first = false;
    }
    status = iter.status;
    if (status == STORM_OK && restart != view->restarts)
        status = STORM_CORRUPT;
out:
    free(last);
    sdb_block_iter_fini(&iter);
    return status;
}
