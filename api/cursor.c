/*
 * Cursors. See cursor.h.
 *
 *   byte 0       version and form: FORM | select << 1 | reverse
 *   bytes 1..8   hash of prefix, start, end and delimiter, each with its length
 *   bytes 9..12  hash of all the other bytes, so that a mistyped cursor is refused
 *   from 13 on   the key, at least one byte
 *
 * All of it is base64url. Both hashes are FNV-1a, which costs nothing and is not meant to stand up
 * to anybody who tries.
 */
#include "cursor.h"

#include <string.h>

#include "base64.h"

enum {
    /* The highest bit tells this form from the next one. */
    FORM = 0x80,
    SCOPE_SIZE = 8,
    CHECK_SIZE = 4,
    CHECK_AT = 1 + SCOPE_SIZE,
    KEY_AT = CHECK_AT + CHECK_SIZE,
};

static const uint64_t hash_seed = UINT64_C(0xcbf29ce484222325);

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t hash_slice(uint64_t hash, struct storm_slice slice)
{
    uint8_t length[8];
    for (unsigned i = 0; i < sizeof length; i++)
        length[i] = (uint8_t)((uint64_t)slice.size >> 8 * i);
    return hash_bytes(hash_bytes(hash, length, sizeof length), slice.data, slice.size);
}

static void store(uint8_t *to, uint64_t number, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        to[i] = (uint8_t)(number >> 8 * i);
}

/* What stands before the key. */
static void make_head(uint8_t head[KEY_AT], const struct api_cursor_scope *scope,
                      struct storm_slice key)
{
    head[0] = (uint8_t)(FORM | (scope->select & 63) << 1 | (scope->is_reverse ? 1 : 0));
    uint64_t hash = hash_slice(hash_seed, scope->prefix);
    hash = hash_slice(hash, scope->start);
    hash = hash_slice(hash, scope->end);
    store(head + 1, hash_slice(hash, scope->delimiter), SCOPE_SIZE);
    hash = hash_bytes(hash_seed, head, CHECK_AT);
    hash = hash_bytes(hash, key.data, key.size);
    store(head + CHECK_AT, hash ^ hash >> 32, CHECK_SIZE);
}

void api_cursor_add(struct api_text *text, const struct api_cursor_scope *scope,
                    struct storm_slice key)
{
    struct api_text bytes;
    uint8_t head[KEY_AT];
    make_head(head, scope, key);
    api_text_init(&bytes, KEY_AT + key.size);
    api_text_add(&bytes, head, sizeof head);
    api_text_add(&bytes, key.data, key.size);
    if (bytes.has_failed)
        text->has_failed = true;
    else
        api_base64url_add(text, storm_bytes(bytes.data, bytes.size));
    api_text_fini(&bytes);
}

bool api_cursor_read(uint8_t *bytes, size_t size, const struct api_cursor_scope *scope,
                     struct storm_slice *key)
{
    uint8_t head[KEY_AT];
    *key = storm_bytes(NULL, 0);
    if (!api_base64url_decode(bytes, &size) || size <= KEY_AT)
        return false;
    struct storm_slice found = storm_bytes(bytes + KEY_AT, size - KEY_AT);
    make_head(head, scope, found);
    if (memcmp(head, bytes, KEY_AT) != 0)
        return false;
    *key = found;
    return true;
}
