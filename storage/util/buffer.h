/*
 * A growable buffer with a maximum, set at init: growth beyond it is STORM_TOO_LARGE, not memory
 * exhaustion. The first failure sticks: later appends do nothing and status tells, so a run of
 * appends is checked once. One thread.
 */
#ifndef SDB_UTIL_BUFFER_H
#define SDB_UTIL_BUFFER_H

#include "storm/storm.h"

struct sdb_buffer {
    uint8_t *data;
    size_t size;
    size_t room;
    size_t max;
    storm_status status; /* STORM_OK, STORM_NO_MEMORY or STORM_TOO_LARGE */
};

void sdb_buffer_init(struct sdb_buffer *buffer, size_t max);
void sdb_buffer_fini(struct sdb_buffer *buffer);
/* Empty it, keep the memory, forget a failure. */
void sdb_buffer_clear(struct sdb_buffer *buffer);

/* Room for `size` more bytes at the end: where to write them, or NULL (status set). Does not
 * advance. */
uint8_t *sdb_buffer_reserve(struct sdb_buffer *buffer, size_t size);
/* Append. False when status is set. */
bool sdb_buffer_add(struct sdb_buffer *buffer, const void *data, size_t size);
bool sdb_buffer_add_u8(struct sdb_buffer *buffer, uint8_t x);
bool sdb_buffer_add_u32(struct sdb_buffer *buffer, uint32_t x);
bool sdb_buffer_add_u64(struct sdb_buffer *buffer, uint64_t x);
bool sdb_buffer_add_varint(struct sdb_buffer *buffer, uint64_t x);
/* A varint length, then the bytes. */
bool sdb_buffer_add_prefixed(struct sdb_buffer *buffer, struct storm_slice bytes);

static inline struct storm_slice sdb_buffer_slice(const struct sdb_buffer *buffer)
{
    return storm_bytes(buffer->data, buffer->size);
}

#endif
