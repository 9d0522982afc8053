/*
 * Any bytes into the key decoders. What they accept, a writer must write again byte by byte: one
 * value, one encoding. Skipping and reading must agree on where an element ends.
 */
#include <stdlib.h>

#include "storm/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* Read one element and write it again; false when it is refused. */
static bool copy_element(struct storm_key_reader *reader, struct storm_key_writer *writer,
                         uint8_t *scratch, size_t room)
{
    struct storm_slice bytes;
    int64_t integer;
    uint64_t natural;
    double number;
    bool flag;
    switch (storm_key_next_type(reader)) {
    case STORM_KEY_BYTES:
        if (storm_key_next_bytes(reader, scratch, room, &bytes) != STORM_OK)
            return false;
        storm_key_add_bytes(writer, bytes);
        return true;
    case STORM_KEY_TEXT:
        if (storm_key_next_text(reader, scratch, room, &bytes) != STORM_OK)
            return false;
        storm_key_add_text(writer, bytes);
        return true;
    case STORM_KEY_INTEGER:
        if (storm_key_next_i64(reader, &integer) == STORM_OK)
            storm_key_add_i64(writer, integer);
        else if (storm_key_next_u64(reader, &natural) == STORM_OK)
            storm_key_add_u64(writer, natural);
        else
            return false;
        return true;
    case STORM_KEY_DOUBLE:
        if (storm_key_next_double(reader, &number) != STORM_OK)
            return false;
        storm_key_add_double(writer, number);
        return true;
    case STORM_KEY_BOOL:
        if (storm_key_next_bool(reader, &flag) != STORM_OK)
            return false;
        storm_key_add_bool(writer, flag);
        return true;
    default:
        return false;
    }
}

static void check_tuple(const uint8_t *data, size_t size)
{
    uint8_t *scratch = malloc(size + 1);
    uint8_t *copy = malloc(size + 1);
    require(scratch != NULL && copy != NULL);
    struct storm_key_reader reader = storm_key_reader(storm_bytes(data, size));
    struct storm_key_reader skipper = reader;
    struct storm_key_writer writer = storm_key_writer(copy, size);
    bool goes_on = true;
    while (goes_on) {
        goes_on = copy_element(&reader, &writer, scratch, size);
        require((storm_key_skip(&skipper) == STORM_OK) == goes_on);
        require(skipper.left == reader.left);
    }
    require(writer.size == size - reader.left);
    require(writer.size == 0 || memcmp(copy, data, writer.size) == 0);
    free(copy);
    free(scratch);
}

static void check_bare(struct storm_slice key)
{
    uint8_t room[8];
    int32_t i32;
    int64_t i64;
    double number;
    bool flag;
    if (storm_key_to_i32(key, &i32) == STORM_OK)
        require(memcmp(storm_key_i32(room, i32).data, key.data, 4) == 0);
    if (storm_key_to_i64(key, &i64) == STORM_OK)
        require(memcmp(storm_key_i64(room, i64).data, key.data, 8) == 0);
    if (storm_key_to_double(key, &number) == STORM_OK)
        require(memcmp(storm_key_double(room, number).data, key.data, 8) == 0);
    if (storm_key_to_bool(key, &flag) == STORM_OK)
        require(storm_key_bool(room, flag).data[0] == key.data[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_tuple(data, size);
    check_bare(storm_bytes(data, size));
    return 0;
}
