/*
 * Any bytes as a run of operations and as a stored value: what is taken lies within the input, and
 * an operation that was taken is encoded again to one that reads the same.
 */
#include <stdlib.h>

#include "lsm/db/batch.h"
#include "lsm/db/ranges.h"
#include "lsm/db/value.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool is_right)
{
    if (!is_right)
        abort();
}

static bool is_within(struct storm_slice part, const uint8_t *data, size_t size)
{
    return part.size == 0 || (part.data >= data && part.size <= size &&
                              (size_t)(part.data - data) <= size - part.size);
}

static bool is_same(struct storm_slice a, struct storm_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static void add_again(storm_batch *batch, const struct sdb_batch_op *op)
{
    static const enum storm_op_kind kinds[] = {[SDB_KIND_DELETE] = STORM_DELETE,
                                               [SDB_KIND_PUT] = STORM_PUT,
                                               [SDB_KIND_DELETE_RANGE] = STORM_DELETE_RANGE};
    struct storm_op again = {.kind = kinds[op->kind], .key = op->key};
    if (op->kind == SDB_KIND_DELETE_RANGE)
        again.end = op->value;
    if (op->kind == SDB_KIND_PUT && !sdb_value_parse(op->value, &again.meta, &again.value))
        return;
    size_t count = storm_batch_count(batch);
    if (storm_batch_add(batch, &again) != STORM_OK)
        abort();
    struct sdb_cursor cursor = sdb_cursor(sdb_buffer_slice(&batch->ops));
    struct sdb_batch_op back;
    struct storm_meta meta;
    struct storm_slice bytes;
    /* A range delete makes those before it shorter, but no fewer. */
    for (size_t i = 0; i <= count; i++) {
        check(sdb_batch_next(&cursor, &back));
        if (i < count && op->kind == SDB_KIND_DELETE_RANGE && back.kind == SDB_KIND_PUT)
            check(!sdb_range_covers(&(struct sdb_range){op->key, op->value, 0}, back.key));
    }
    check(sdb_cursor_left(&cursor) == 0);
    check(back.kind == op->kind && is_same(back.key, op->key));
    check(op->kind != SDB_KIND_DELETE_RANGE || is_same(back.value, op->value));
    if (op->kind == SDB_KIND_PUT) {
        check(sdb_value_parse(back.value, &meta, &bytes) && is_same(bytes, again.value));
        check(meta.expires_ms == again.meta.expires_ms && is_same(meta.type, again.meta.type));
        check(meta.modified_ms == again.meta.modified_ms);
        check(sdb_value_expires_ms(back.value) == meta.expires_ms);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sdb_cursor cursor = sdb_cursor(storm_bytes(data, size));
    struct sdb_batch_op op;
    struct storm_meta meta;
    struct storm_slice bytes;
    storm_batch *batch = storm_batch_create();
    if (batch == NULL)
        return 0;
    while (sdb_batch_next(&cursor, &op)) {
        check(op.kind <= SDB_KIND_DELETE_RANGE);
        check(op.key.size != 0 || op.kind == SDB_KIND_DELETE_RANGE);
        check(is_within(op.key, data, size) && is_within(op.value, data, size));
        check(op.kind == SDB_KIND_DELETE_RANGE ||
              (op.value.size == 0) == (op.kind == SDB_KIND_DELETE));
        add_again(batch, &op);
    }
    check(cursor.at == NULL || sdb_cursor_left(&cursor) == 0);
    if (sdb_value_parse(storm_bytes(data, size), &meta, &bytes))
        check(is_within(bytes, data, size) && is_within(meta.type, data, size));
    storm_batch_destroy(batch);
    return 0;
}
