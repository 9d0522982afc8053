/*
 * The writing half of a data block. The reading half is block.c; format.h draws the bytes.
 *
 * An entry stores only what its key does not share with the entry before. Every `interval` entries
 * a restart stores a whole key, so that a search has places to land on. A longer interval saves
 * bytes (about 1 % from 16 to 32 with 100-byte values) and costs linear search.
 *
 * Tags are nearly the same number for a long time in a sequential load and random within some
 * millions in the last level: a zigzag difference takes one byte and three to four. The kind is
 * left out of the difference, where it would cost eight bits in every entry, and out of the bytes,
 * as long as it is a put.
 */
#include "lsm/table/block_builder.h"

#include "lsm/table/format.h"
#include "util/coding.h"

/* Three varints of at most 5 bytes, the token of at most 10, the kind. */
enum { HEADER_MAX = 3 * 5 + SDB_VARINT_MAX + 1 };

size_t sdb_shared_prefix(struct storm_slice a, struct storm_slice b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    size_t i = 0;
    while (i + 8 <= size) {
        uint64_t difference = sdb_get_u64(a.data + i) ^ sdb_get_u64(b.data + i);
        if (difference != 0)
            return i + (size_t)__builtin_ctzll(difference) / 8;
        i += 8;
    }
    while (i < size && a.data[i] == b.data[i])
        i++;
    return i;
}

void sdb_block_builder_init(struct sdb_block_builder *builder, uint32_t interval)
{
    *builder = (struct sdb_block_builder){.interval = interval};
    sdb_buffer_init(&builder->out, SDB_TABLE_BLOCK_MAX);
    sdb_buffer_init(&builder->restarts, SDB_TABLE_BLOCK_MAX);
    sdb_buffer_init(&builder->last_key, SDB_TABLE_KEY_MAX);
}

void sdb_block_builder_fini(struct sdb_block_builder *builder)
{
    sdb_buffer_fini(&builder->out);
    sdb_buffer_fini(&builder->restarts);
    sdb_buffer_fini(&builder->last_key);
}

void sdb_block_builder_clear(struct sdb_block_builder *builder)
{
    sdb_buffer_clear(&builder->out);
    sdb_buffer_clear(&builder->restarts);
    sdb_buffer_clear(&builder->last_key);
    builder->last_revision = 0;
    builder->entries = 0;
    builder->since_restart = 0;
}

static uint64_t zigzag(uint64_t difference)
{
    return difference << 1 ^ (0 - (difference >> 63));
}

/* Keep the key for the next entry to share with: its first `shared` bytes are there already. */
static storm_status remember_key(struct sdb_buffer *last, struct storm_slice key, size_t shared)
{
    last->size = shared;
    sdb_buffer_add(last, key.data + shared, key.size - shared);
    return last->status;
}

storm_status sdb_block_builder_add(struct sdb_block_builder *builder, struct storm_slice key,
                                   uint64_t tag, struct storm_slice value)
{
    size_t shared = 0;
    if (builder->entries == 0 || builder->since_restart == builder->interval) {
        if (!sdb_buffer_add_u32(&builder->restarts, (uint32_t)builder->out.size))
            return builder->restarts.status;
        builder->since_restart = 0;
    } else {
        shared = sdb_shared_prefix(sdb_buffer_slice(&builder->last_key), key);
    }
    size_t rest = key.size - shared;
    if (value.size > SDB_TABLE_BLOCK_MAX)
        return STORM_TOO_LARGE;
    uint8_t *start = sdb_buffer_reserve(&builder->out, HEADER_MAX + rest + value.size);
    if (start == NULL)
        return builder->out.status;
    uint64_t revision = sdb_tag_revision(tag);
    uint64_t number = shared == 0 ? revision : zigzag(revision - builder->last_revision);
    unsigned kind = (unsigned)(tag & 0xff);
    bool other = kind != SDB_KIND_PUT;
    uint8_t *at = sdb_put_varint(start, shared);
    at = sdb_put_varint(at, rest);
    at = sdb_put_varint(at, value.size);
    at = sdb_put_varint(at, number << 1 | other);
    if (other)
        *at++ = (uint8_t)kind;
    memcpy(at, key.data + shared, rest);
    at += rest;
    if (value.size != 0)
        memcpy(at, value.data, value.size);
    builder->out.size += (size_t)(at - start) + value.size;
    builder->last_revision = revision;
    builder->entries++;
    builder->since_restart++;
    return remember_key(&builder->last_key, key, shared);
}

size_t sdb_block_builder_size(const struct sdb_block_builder *builder)
{
    return builder->out.size + builder->restarts.size + SDB_BLOCK_TAIL_SIZE;
}

struct storm_slice sdb_block_builder_finish(struct sdb_block_builder *builder)
{
    struct sdb_buffer *out = &builder->out;
    uint32_t count = (uint32_t)(builder->restarts.size / 4);
    sdb_buffer_add(out, builder->restarts.data, builder->restarts.size);
    sdb_buffer_add_u32(out, count);
    sdb_buffer_add_u8(out, 0);
    if (out->status != STORM_OK)
        return (struct storm_slice){NULL, 0};
    return sdb_buffer_slice(out);
}
