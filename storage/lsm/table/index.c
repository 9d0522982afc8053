/*
 * The index, on disk and in memory.
 *
 * Separator of block i: last entry of i <= separator < first entry of i + 1. When their keys
 * differ it is a shortened key without a tag, which stands for tag 0 and so comes after every
 * version of that key. When versions of one key are in both blocks it is the last entry itself, tag
 * and all. Either way a lookup of one key needs one block: were the entry wanted not in block i but
 * the first of i + 1, the separator, at or after the position sought, would be before it and of its
 * key, so it would have a tag and be an entry of block i.
 *
 * In memory a search reads the array of prefixes, 16 bytes a block: four to a cache line. What all
 * separators share in front ("user:0000...") is compared once and left out, so that prefixes tell
 * keys apart. Ties go to the whole key.
 */
#include "lsm/table/index.h"

#include "lsm/table/block_builder.h"
#include "util/coding.h"
#include "os/large.h"

void sdb_index_builder_init(struct sdb_index_builder *builder)
{
    sdb_buffer_init(&builder->out, SDB_TABLE_BLOCK_MAX);
    sdb_buffer_init(&builder->last, SDB_TABLE_KEY_MAX);
    sdb_buffer_init(&builder->separator, SDB_TABLE_KEY_MAX);
}

void sdb_index_builder_fini(struct sdb_index_builder *builder)
{
    sdb_buffer_fini(&builder->out);
    sdb_buffer_fini(&builder->last);
    sdb_buffer_fini(&builder->separator);
}

void sdb_shortest_separator(struct storm_slice a, struct storm_slice b, struct sdb_buffer *out)
{
    size_t same = sdb_shared_prefix(a, b);
    sdb_buffer_clear(out);
    if (same < a.size && a.data[same] + 1 < b.data[same]) {
        sdb_buffer_add(out, a.data, same);
        sdb_buffer_add_u8(out, (uint8_t)(a.data[same] + 1));
        return;
    }
    if (same < a.size && same + 1 < b.size) {
        /* The bytes are neighbours: b cut after the difference is above a and below b. */
        sdb_buffer_add(out, b.data, same + 1);
        return;
    }
    size_t raise = same + 1; /* the first byte of a behind the difference that can be raised */
    while (raise < a.size && a.data[raise] == 0xff)
        raise++;
    if (same < a.size && raise + 1 < a.size) {
        sdb_buffer_add(out, a.data, raise);
        sdb_buffer_add_u8(out, (uint8_t)(a.data[raise] + 1));
        return;
    }
    sdb_buffer_add(out, a.data, a.size);
}

storm_status sdb_index_builder_add(struct sdb_index_builder *builder, struct storm_slice last,
                                   uint64_t tag, struct storm_slice next, uint32_t size)
{
    struct sdb_buffer *separator = &builder->separator;
    bool tagged = next.data != NULL && sdb_key_compare(last, next) == 0;
    if (tagged || next.data == NULL) {
        sdb_buffer_clear(separator);
        sdb_buffer_add(separator, last.data, last.size);
    } else {
        sdb_shortest_separator(last, next, separator);
    }
    if (separator->status != STORM_OK)
        return separator->status;
    struct storm_slice key = sdb_buffer_slice(separator);
    size_t shared = sdb_shared_prefix(sdb_buffer_slice(&builder->last), key);
    sdb_buffer_add_varint(&builder->out, shared);
    sdb_buffer_add_varint(&builder->out, (key.size - shared) << 1 | tagged);
    sdb_buffer_add_varint(&builder->out, size);
    if (tagged)
        sdb_buffer_add_varint(&builder->out, tag);
    sdb_buffer_add(&builder->out, key.data + shared, key.size - shared);
    sdb_buffer_clear(&builder->last);
    sdb_buffer_add(&builder->last, key.data, key.size);
    return builder->out.status != STORM_OK ? builder->out.status : builder->last.status;
}

/* ---- Reading --------------------------------------------------------------------------------- */

struct item {
    uint64_t shared;
    uint64_t tag;
    uint32_t size;
    struct storm_slice rest;
};

static bool read_item(struct sdb_cursor *cursor, struct item *item)
{
    uint64_t rest;
    if (!sdb_read_varint(cursor, &item->shared) || !sdb_read_varint(cursor, &rest) ||
        !sdb_read_varint32(cursor, &item->size))
        return false;
    item->tag = 0;
    if ((rest & 1) != 0 && !sdb_read_varint(cursor, &item->tag))
        return false;
    return item->size != 0 && item->size <= SDB_TABLE_BLOCK_MAX &&
           sdb_read_bytes(cursor, rest >> 1, &item->rest);
}

/* How many separators there are, and the bytes of all of them in full. */
static bool measure(struct storm_slice contents, uint64_t *count, uint64_t *key_bytes)
{
    struct sdb_cursor cursor = sdb_cursor(contents);
    uint64_t before = 0;
    *count = 0;
    *key_bytes = 0;
    while (sdb_cursor_left(&cursor) != 0) {
        struct item item;
        if (!read_item(&cursor, &item) || item.shared > before)
            return false;
        before = item.shared + item.rest.size;
        if (before > SDB_TABLE_KEY_MAX)
            return false;
        *key_bytes += before;
        *count += 1;
    }
    return cursor.at != NULL && *count < UINT32_MAX;
}

static bool fill(struct storm_slice contents, struct sdb_index *index)
{
    struct sdb_cursor cursor = sdb_cursor(contents);
    uint64_t key_at = 0;
    uint64_t offset = 0;
    struct storm_slice before = {index->keys, 0};
    for (uint32_t i = 0; i < index->count; i++) {
        struct item item;
        if (!read_item(&cursor, &item))
            return false;
        uint8_t *key = index->keys + key_at;
        size_t size = (size_t)item.shared + item.rest.size;
        if (item.shared != 0)
            memcpy(key, before.data, (size_t)item.shared);
        if (item.rest.size != 0)
            memcpy(key + item.shared, item.rest.data, item.rest.size);
        index->slots[i] = (struct sdb_index_slot){.offset = offset,
                                                  .tag = item.tag,
                                                  .key_at = key_at,
                                                  .size = item.size,
                                                  .key_size = (uint32_t)size};
        struct storm_slice here = storm_bytes(key, size);
        if (i != 0 && sdb_entry_compare(before, index->slots[i - 1].tag, here, item.tag) >= 0)
            return false;
        before = here;
        key_at += size;
        offset += (uint64_t)item.size + SDB_TRAILER_SIZE;
    }
    return true;
}

storm_status sdb_index_parse(struct storm_slice contents, struct sdb_index *index)
{
    uint64_t count;
    uint64_t key_bytes;
    *index = (struct sdb_index){.count = 0};
    if (contents.size == 0)
        return STORM_OK;
    if (!measure(contents, &count, &key_bytes))
        return STORM_CORRUPT;
    uint64_t each = sizeof *index->prefixes + sizeof *index->slots;
    uint64_t memory = count * each + key_bytes;
    if (memory > SIZE_MAX / 2)
        return STORM_NO_MEMORY;
    index->prefixes = sdb_large_alloc((size_t)memory);
    if (index->prefixes == NULL)
        return STORM_NO_MEMORY;
    index->memory = (size_t)memory;
    index->count = (uint32_t)count;
    index->slots = (struct sdb_index_slot *)(void *)(index->prefixes + count);
    index->keys = (uint8_t *)(index->slots + count);
    if (!fill(contents, index)) {
        sdb_index_fini(index);
        return STORM_CORRUPT;
    }
    /* In order, so what the first and the last share is shared by all. */
    index->common =
        sdb_shared_prefix(sdb_index_key(index, 0), sdb_index_key(index, index->count - 1));
    for (uint32_t i = 0; i < index->count; i++) {
        struct storm_slice key = sdb_index_key(index, i);
        index->prefixes[i] = sdb_key_prefix(key, index->common);
    }
    return STORM_OK;
}

void sdb_index_fini(struct sdb_index *index)
{
    sdb_large_free(index->prefixes, index->memory);
    *index = (struct sdb_index){.count = 0};
}

uint32_t sdb_index_find(const struct sdb_index *index, struct storm_slice key, uint64_t tag)
{
    if (index->count == 0)
        return 0;
    size_t head = key.size < index->common ? key.size : index->common;
    int order = head != 0 ? memcmp(key.data, index->keys, head) : 0;
    if (order != 0 || key.size < index->common)
        return order > 0 ? index->count : 0;
    struct sdb_key_prefix wanted = sdb_key_prefix(key, head);
    uint32_t low = 0; /* separators below are before (key, tag); from high on they are not */
    uint32_t high = index->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct sdb_key_prefix prefix = index->prefixes[middle];
        bool is_before;
        if (prefix.high != wanted.high)
            is_before = prefix.high < wanted.high;
        else if (prefix.low != wanted.low)
            is_before = prefix.low < wanted.low;
        else
            is_before = sdb_entry_compare(sdb_index_key(index, middle), index->slots[middle].tag,
                                          key, tag) < 0;
        if (is_before)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
