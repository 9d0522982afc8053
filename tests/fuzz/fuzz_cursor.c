/*
 * Cursors as clients send them. The input is split at its first newline: a prefix, and a cursor.
 * What is read as one is written again the same; what is written is read; a change of scope is
 * refused.
 */
#include <stdlib.h>
#include <string.h>

#include "cursor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* Read a copy of exactly the cursor's size, so that a byte read past the end is a report. */
static bool read_copy(struct storm_slice cursor, const struct api_cursor_scope *scope,
                      struct api_text *key)
{
    uint8_t *copy = malloc(cursor.size == 0 ? 1 : cursor.size);
    struct storm_slice found;
    require(copy != NULL);
    if (cursor.size > 0)
        memcpy(copy, cursor.data, cursor.size);
    bool is_read = api_cursor_read(copy, cursor.size, scope, &found);
    key->size = 0;
    api_text_add(key, found.data, found.size);
    free(copy);
    return is_read;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = size == 0 ? NULL : memchr(data, '\n', size);
    size_t prefix_size = line == NULL ? 0 : (size_t)(line - data);
    struct api_cursor_scope scope = {.prefix = storm_bytes(data, prefix_size), .select = 1};
    struct storm_slice rest =
        line == NULL ? storm_bytes(data, size) : storm_bytes(line + 1, size - prefix_size - 1);
    struct api_text key, again;
    api_text_init(&key, 1 << 20);
    api_text_init(&again, 1 << 20);
    if (read_copy(rest, &scope, &key)) {
        require(key.size > 0);
        api_cursor_add(&again, &scope, storm_bytes(key.data, key.size));
        require(again.size == rest.size && memcmp(again.data, rest.data, rest.size) == 0);
        again.size = 0;
    }
    if (rest.size > 0) {
        api_cursor_add(&again, &scope, rest);
        struct storm_slice cursor = storm_bytes(again.data, again.size);
        require(read_copy(cursor, &scope, &key));
        require(key.size == rest.size && memcmp(key.data, rest.data, rest.size) == 0);
        scope.is_reverse = true;
        require(!read_copy(cursor, &scope, &key));
        scope.is_reverse = false;
        again.data[again.size / 2] ^= 1;
        require(!read_copy(cursor, &scope, &key));
    }
    api_text_fini(&key);
    api_text_fini(&again);
    return 0;
}
