/*
 * Growable bytes under a ceiling. Growth doubles from 64 bytes, so that n appends copy O(n) bytes,
 * and stops exactly at the maximum instead of beyond it.
 *
 * Invariants: size <= max, size <= room; data is NULL only while room is 0; once status is not
 * STORM_OK nothing changes until clear, so the contents are what was appended before the failure.
 */
#include "util/buffer.h"

#include <stdlib.h>

#include "util/coding.h"

enum { FIRST_ROOM = 64 };

void sdb_buffer_init(struct sdb_buffer *buffer, size_t max)
{
    *buffer = (struct sdb_buffer){.max = max, .status = STORM_OK};
}

void sdb_buffer_fini(struct sdb_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct sdb_buffer){.max = buffer->max, .status = STORM_OK};
}

void sdb_buffer_clear(struct sdb_buffer *buffer)
{
    buffer->size = 0;
    buffer->status = STORM_OK;
}

/* Room for `needed` bytes in all; needed <= max. */
static bool grow(struct sdb_buffer *buffer, size_t needed)
{
    size_t room = buffer->room < FIRST_ROOM ? FIRST_ROOM : buffer->room;
    while (room < needed)
        room = room > SIZE_MAX / 2 ? needed : room * 2;
    if (room > buffer->max)
        room = buffer->max > 0 ? buffer->max : 1; /* 1: reserve(0) still has an address to give */
    uint8_t *data = realloc(buffer->data, room);
    if (data == NULL) {
        buffer->status = STORM_NO_MEMORY;
        return false;
    }
    buffer->data = data;
    buffer->room = room;
    return true;
}

uint8_t *sdb_buffer_reserve(struct sdb_buffer *buffer, size_t size)
{
    if (buffer->status != STORM_OK)
        return NULL;
    if (size > buffer->max - buffer->size) {
        buffer->status = STORM_TOO_LARGE;
        return NULL;
    }
    if (buffer->data == NULL || size > buffer->room - buffer->size) {
        if (!grow(buffer, buffer->size + size))
            return NULL;
    }
    return buffer->data + buffer->size;
}

bool sdb_buffer_add(struct sdb_buffer *buffer, const void *data, size_t size)
{
    uint8_t *to = sdb_buffer_reserve(buffer, size);
    if (to == NULL)
        return false;
    if (size > 0)
        memcpy(to, data, size);
    buffer->size += size;
    return true;
}

bool sdb_buffer_add_u8(struct sdb_buffer *buffer, uint8_t x)
{
    return sdb_buffer_add(buffer, &x, 1);
}

bool sdb_buffer_add_u32(struct sdb_buffer *buffer, uint32_t x)
{
    uint8_t bytes[4];
    sdb_put_u32(bytes, x);
    return sdb_buffer_add(buffer, bytes, sizeof bytes);
}

bool sdb_buffer_add_u64(struct sdb_buffer *buffer, uint64_t x)
{
    uint8_t bytes[8];
    sdb_put_u64(bytes, x);
    return sdb_buffer_add(buffer, bytes, sizeof bytes);
}

bool sdb_buffer_add_varint(struct sdb_buffer *buffer, uint64_t x)
{
    uint8_t bytes[SDB_VARINT_MAX];
    return sdb_buffer_add(buffer, bytes, (size_t)(sdb_put_varint(bytes, x) - bytes));
}

bool sdb_buffer_add_prefixed(struct sdb_buffer *buffer, struct storm_slice bytes)
{
    return sdb_buffer_add_varint(buffer, bytes.size) &&
           sdb_buffer_add(buffer, bytes.data, bytes.size);
}
