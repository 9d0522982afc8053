/*
 * The reading half of a data block.
 *
 * An iterator decodes entries by the row: whole keys, in an arena of their own, each on top of the
 * one before. Most headers are three one-byte lengths and a token of one to five bytes; one 8-byte
 * load takes the lengths and another the token, without a branch on its length. A load may run over
 * the entry: it stays in the block, because entries end at least nine bytes (one restart, the tail)
 * before the block does.
 *
 * Forwards a row is the last entry of the row before, on top of which it begins, and some more. A
 * search makes one of what it passed over from the restart on. Backwards, as entries
 * cannot be decoded from behind, it is the interval from the restart on; so a reverse scan, too,
 * decodes every entry once. A row is bounded by SDB_RESTART_MAX entries.
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

/* Keys are copied in steps of COPY_STEP where there is room on both sides. Forwards a row gets
 * FIRST_STEP entries after a search, of which many want only one, then twice as many up to
 * ROW_STEP; fewer when keys take ROW_BYTES. */
enum { COPY_STEP = 16, FIRST_STEP = 4, ROW_STEP = 16, ROW_BYTES = 4096 };
enum { FIRST_ROW_ROOM = 2 * ROW_STEP };
enum { FIRST_KEYS_ROOM = 1024 };
/* As many lines of memory are fetched ahead as a restart interval of entries of a hundred bytes
 * has. */
enum { CACHE_LINE = 64, PREFETCH_MAX = 32 };

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

/* ---- One entry ------------------------------------------------------------------------------- */

struct lengths {
    uint32_t shared, rest, value_size;
};

/* Varints of any length; where they end, or NULL. */
static const uint8_t *slow_lengths(const uint8_t *at, const uint8_t *end, struct lengths *lengths)
{
    struct sdb_cursor cursor = {at, end};
    bool are_good = sdb_read_varint32(&cursor, &lengths->shared) &&
                    sdb_read_varint32(&cursor, &lengths->rest) &&
                    sdb_read_varint32(&cursor, &lengths->value_size);
    return are_good ? cursor.at : NULL;
}

/* What is written in one byte each, but for the value's size, which may take two; the rest is left
 * to slow_lengths. What is decoded stays in registers. */
static inline const uint8_t *read_lengths(const uint8_t *at, const uint8_t *end,
                                          struct lengths *lengths)
{
    uint64_t word = sdb_get_u64(at);
    *lengths = (struct lengths){(uint32_t)(word & 0x7f), (uint32_t)(word >> 8 & 0x7f),
                                (uint32_t)(word >> 16 & 0x7f)};
    if ((word & 0x808080) == 0)
        return at + 3;
    if ((word & 0x80808080) == 0x800000) {
        lengths->value_size |= (uint32_t)(word >> 24 & 0x7f) << 7;
        return at + 4;
    }
    struct lengths slow;
    at = slow_lengths(at, end, &slow);
    *lengths = slow;
    return at;
}

static const uint8_t *slow_token(const uint8_t *at, const uint8_t *end, uint64_t *token)
{
    struct sdb_cursor cursor = {at, end};
    return sdb_read_varint(&cursor, token) ? cursor.at : NULL;
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
static inline __attribute__((always_inline)) bool decode(const struct sdb_block_view *view,
                                                         uint32_t at, struct entry *entry)
{
    const uint8_t *end = view->data + view->limit;
    struct lengths lengths;
    const uint8_t *p = read_lengths(view->data + at, end, &lengths);
    if (p == NULL || p >= end)
        return false;
    entry->shared = lengths.shared;
    entry->rest = lengths.rest;
    entry->value_size = lengths.value_size;
    uint64_t token;
    uint64_t word = sdb_get_u64(p);
    uint64_t stop = ~word & UINT64_C(0x8080808080808080);
    if (stop != 0) {
        token = gather_varint(word, stop);
        p += __builtin_ctzll(stop) / 8 + 1;
    } else {
        uint64_t slow;
        p = slow_token(p, end, &slow);
        if (p == NULL)
            return false;
        token = slow;
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

/* ---- Lookup ---------------------------------------------------------------------------------- */

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
 * A block that was not read lately is not in the processor's cache. A search that goes from entry
 * to entry would wait for memory at each; fetched at once, they arrive together.
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

/* ---- Rows ------------------------------------------------------------------------------------ */

void sdb_block_iter_init(struct sdb_block_iter *iter)
{
    *iter = (struct sdb_block_iter){.valid = false};
}

void sdb_block_iter_fini(struct sdb_block_iter *iter)
{
    free(iter->row);
    free(iter->keys);
    sdb_block_iter_init(iter);
}

void sdb_block_iter_rest(struct sdb_block_iter *iter)
{
    if (iter->keys_room > ROW_BYTES || iter->row_room > FIRST_ROW_ROOM)
        sdb_block_iter_fini(iter);
    iter->valid = false;
    iter->count = 0;
}

static void leave(struct sdb_block_iter *iter, storm_status status)
{
    iter->valid = false;
    iter->status = status;
}

void sdb_block_iter_set(struct sdb_block_iter *iter, const struct sdb_block_view *view)
{
    iter->view = *view;
    iter->count = 0;
    iter->step = iter->step != 0 ? iter->step : FIRST_STEP;
    leave(iter, STORM_OK);
}

static inline void stand(struct sdb_block_iter *iter, uint32_t current)
{
    const struct sdb_entry *entry = &iter->row[current];
    iter->current = current;
    iter->valid = true;
    iter->status = STORM_OK;
    iter->key = entry->key;
    iter->tag = entry->tag;
    iter->value = entry->value;
}

static void begin_row(struct sdb_block_iter *iter, uint32_t at)
{
    iter->count = 0;
    iter->keys_used = 0;
    iter->next = at;
}

/* Begin a row with the last entry of this one, on top of which the next is decoded. */
static void carry_row(struct sdb_block_iter *iter)
{
    struct sdb_entry *first = &iter->row[0];
    *first = iter->row[iter->count - 1];
    if (first->key.size != 0)
        memmove(iter->keys, first->key.data, first->key.size);
    first->key.data = iter->keys;
    first->is_version = false;
    iter->count = 1;
    iter->keys_used = first->key.size;
}

/* Room for one more entry, and its key of `size` with a last copying step. */
static __attribute__((noinline)) bool grow(struct sdb_block_iter *iter, size_t size)
{
    if (iter->count == iter->row_room) {
        uint32_t room = iter->row_room == 0 ? FIRST_ROW_ROOM : iter->row_room * 2;
        struct sdb_entry *row = realloc(iter->row, room * sizeof *row);
        if (row == NULL)
            return false;
        iter->row = row;
        iter->row_room = room;
    }
    size_t wanted = iter->keys_used + size + COPY_STEP;
    if (wanted <= iter->keys_room)
        return true;
    size_t room = iter->keys_room * 2 > wanted ? iter->keys_room * 2 : wanted;
    if (room < FIRST_KEYS_ROOM)
        room = FIRST_KEYS_ROOM;
    uint8_t *keys = malloc(room);
    if (keys == NULL)
        return false;
    if (iter->keys_used != 0)
        memcpy(keys, iter->keys, iter->keys_used);
    for (uint32_t i = 0; i < iter->count; i++)
        iter->row[i].key.data = keys + (iter->row[i].key.data - iter->keys);
    free(iter->keys);
    iter->keys = keys;
    iter->keys_room = room;
    return true;
}

/* The first bytes of a key in the arena, which has room for a step behind every one. */
static inline void copy_shared(const uint8_t *from, uint32_t size, uint8_t *to)
{
    uint8_t step[COPY_STEP]; /* short keys lie within a step of each other */
    if (size == 0)
        return;
    if (size > COPY_STEP) {
        memcpy(to, from, size);
        return;
    }
    memcpy(step, from, COPY_STEP);
    memcpy(to, step, COPY_STEP);
}

static bool is_same_key(struct storm_slice a, struct storm_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* What a search looks for: it ends at the first entry at or after it. */
struct target {
    struct storm_slice key;
    uint64_t tag;
    size_t matched; /* bytes of the key that are those of the entry before */
};

static inline bool is_at_target(struct target *target, const struct entry *entry, uint64_t tag)
{
    if (entry->shared == 0)
        target->matched = 0;
    if (entry->shared != target->matched)
        return entry->shared < target->matched;
    struct storm_slice rest = storm_bytes(entry->rest_data, entry->rest);
    struct storm_slice wanted =
        storm_bytes(target->key.data + target->matched, target->key.size - target->matched);
    size_t common = sdb_shared_prefix(rest, wanted);
    target->matched += common;
    if (common == wanted.size)
        return common != rest.size || tag <= target->tag;
    return common != rest.size && rest.data[common] > wanted.data[common];
}

/*
 * Add entries to the row from iter->next on: until there are `most`, or their keys take ROW_BYTES,
 * or the next is at `to`, or one is at the target (may be NULL). At least one, unless iter->next is
 * at `to` already. Returns whether the target is reached; a failure is in *status, after what is
 * whole.
 */
static inline __attribute__((always_inline)) bool add_entries(struct sdb_block_iter *iter,
                                                              uint32_t most, uint32_t to,
                                                              struct target *target,
                                                              storm_status *status)
{
    /* In locals, because for all the compiler knows a copied key may overwrite the iterator. */
    const struct sdb_block_view view = iter->view;
    struct sdb_entry *row = iter->row;
    uint32_t count = iter->count, next = iter->next;
    size_t used = iter->keys_used, room = iter->keys_room;
    uint8_t *keys = iter->keys;
    uint64_t tag = count == 0 ? 0 : row[count - 1].tag;
    struct storm_slice last = count == 0 ? storm_bytes(NULL, 0) : row[count - 1].key;
    bool is_reached = false;
    *status = STORM_OK;
    while (next < to && !is_reached) {
        struct entry entry;
        bool is_sound = decode(&view, next, &entry) && entry.shared <= last.size &&
                        entry_tag(&entry, tag, &tag);
        size_t size = (size_t)entry.shared + entry.rest;
        if (!is_sound || size > SDB_TABLE_KEY_MAX) {
            *status = STORM_CORRUPT;
            break;
        }
        if (used + size + COPY_STEP > room || count == iter->row_room) {
            iter->count = count;
            iter->keys_used = used;
            if (!grow(iter, size)) {
                *status = STORM_NO_MEMORY;
                break;
            }
            row = iter->row;
            keys = iter->keys;
            room = iter->keys_room;
            last.data = count == 0 ? NULL : row[count - 1].key.data;
        }
        uint8_t *key = keys + used;
        copy_shared(last.data, entry.shared, key);
        copy_rest(&view, &entry, key + entry.shared);
        struct storm_slice here = {key, size};
        /* A restart shares nothing, even with a key that it repeats. */
        bool is_version = entry.shared != 0 ? entry.rest == 0 && entry.shared == last.size
                                            : count != 0 && is_same_key(last, here);
        row[count++] =
            (struct sdb_entry){here, tag, {entry.value, entry.value_size}, next, is_version};
        used += size;
        next = entry.next;
        last = here;
        is_reached = target != NULL && is_at_target(target, &entry, tag);
        if (count >= most || used >= ROW_BYTES)
            break;
    }
    iter->count = count;
    iter->keys_used = used;
    iter->next = next;
    return is_reached;
}

/* ---- Forwards -------------------------------------------------------------------------------- */

/* Decode what follows the row, and stand on the first of it. What is whole before damage is shown
 * before that fails the move that gets there. */
static void go_on(struct sdb_block_iter *iter)
{
    storm_status status;
    if (iter->count != 0)
        carry_row(iter);
    uint32_t before = iter->count;
    add_entries(iter, before + iter->step, iter->view.limit, NULL, &status);
    if (iter->step < ROW_STEP)
        iter->step *= 2;
    if (iter->count > before && status != STORM_NO_MEMORY)
        stand(iter, before);
    else
        leave(iter, status);
}

void sdb_block_iter_first(struct sdb_block_iter *iter)
{
    begin_row(iter, 0);
    go_on(iter);
}

void sdb_block_iter_next(struct sdb_block_iter *iter)
{
    if (iter->current + 1 < iter->count)
        stand(iter, iter->current + 1);
    else
        go_on(iter);
}

void sdb_block_iter_seek(struct sdb_block_iter *iter, struct storm_slice key, uint64_t tag)
{
    uint32_t at;
    struct target target = {key, tag, 0};
    storm_status status = STORM_OK;
    if (iter->view.restarts == 0) {
        leave(iter, STORM_OK);
        return;
    }
    if (!search_restarts(&iter->view, key, tag, &at)) {
        leave(iter, STORM_CORRUPT);
        return;
    }
    begin_row(iter, at);
    iter->step = FIRST_STEP;
    while (status == STORM_OK && iter->next < iter->view.limit) {
        if (iter->count != 0)
            carry_row(iter);
        if (add_entries(iter, SDB_RESTART_MAX, iter->view.limit, &target, &status)) {
            stand(iter, iter->count - 1);
            return;
        }
    }
    leave(iter, status);
}

/* ---- Backwards ------------------------------------------------------------------------------- */

/* Decode from the restart at `from` to the entry that ends at `to`, and stand on that one. */
static void go_back(struct sdb_block_iter *iter, uint32_t from, uint32_t to)
{
    storm_status status = STORM_OK;
    begin_row(iter, from);
    while (status == STORM_OK && iter->next < to && iter->count < SDB_RESTART_MAX)
        add_entries(iter, SDB_RESTART_MAX, to, NULL, &status);
    if (status == STORM_OK && (iter->count == 0 || iter->next != to))
        status = STORM_CORRUPT;
    if (status == STORM_OK)
        stand(iter, iter->count - 1);
    else
        leave(iter, status);
}

void sdb_block_iter_last(struct sdb_block_iter *iter)
{
    if (iter->view.restarts == 0) {
        leave(iter, STORM_OK);
        return;
    }
    go_back(iter, restart_at(&iter->view, iter->view.restarts - 1), iter->view.limit);
}

void sdb_block_iter_prev(struct sdb_block_iter *iter)
{
    if (iter->current > 0) {
        stand(iter, iter->current - 1);
        return;
    }
    uint32_t at = iter->row[0].place;
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
    go_back(iter, restart_at(&iter->view, low), at);
}

void sdb_block_iter_seek_before(struct sdb_block_iter *iter, struct storm_slice key, uint64_t tag)
{
    sdb_block_iter_seek(iter, key, tag);
    if (iter->valid)
        sdb_block_iter_prev(iter);
    else if (iter->status == STORM_OK)
        sdb_block_iter_last(iter);
}

/* ---- Checking -------------------------------------------------------------------------------- */

/* The current entry and the one before it in the row: in order, sharing all they can unless the
 * current one is a restart. */
static bool follows(const struct sdb_block_iter *iter, bool is_restart)
{
    struct entry entry;
    const struct sdb_entry *last = &iter->row[iter->current - 1];
    const struct sdb_entry *here = last + 1;
    if (sdb_entry_compare(last->key, last->tag, here->key, here->tag) >= 0)
        return false;
    if (!decode(&iter->view, here->place, &entry))
        return false;
    if (is_restart)
        return entry.shared == 0;
    size_t i = entry.shared;
    return i == last->key.size || i == here->key.size || last->key.data[i] != here->key.data[i];
}

storm_status sdb_block_check(const struct sdb_block_view *view)
{
    struct sdb_block_iter iter;
    uint32_t restart = 0;
    uint32_t since = 0;
    bool is_good = true;
    sdb_block_iter_init(&iter);
    sdb_block_iter_set(&iter, view);
    for (sdb_block_iter_first(&iter); iter.valid && is_good; sdb_block_iter_next(&iter)) {
        uint32_t at = iter.row[iter.current].place;
        bool is_restart = restart < view->restarts && restart_at(view, restart) == at;
        since = is_restart ? 1 : since + 1;
        restart += is_restart;
        is_good = since <= SDB_RESTART_MAX && (at == 0 ? is_restart : follows(&iter, is_restart));
    }
    storm_status status = iter.status;
    if (!is_good || (status == STORM_OK && restart != view->restarts))
        status = STORM_CORRUPT;
    sdb_block_iter_fini(&iter);
    return status;
}
