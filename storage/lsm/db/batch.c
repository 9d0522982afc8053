/*
 * Building batches, and reading encoded ones; the encoding is drawn in batch.h.
 *
 * A plain put costs its bytes and nothing else: only operations with a condition, or whose previous
 * state is wanted, get a struct sdb_check. Nothing here touches a store, so nothing locks.
 */
#include "lsm/db/batch.h"

#include <stdlib.h>

#include "lsm/db/ranges.h"
#include "lsm/db/value.h"

/* Beyond this a batch is refused at once; a store's own limits are lower. */
#define BATCH_MAX     ((size_t)1 << 30)
#define KEY_MAX       65535
#define REVISIONS_MAX 64
/* Each walks all operations before it, and each commit with one copies the set that it goes to. */
#define RANGES_MAX 256
/* The operations, and as much again of values that touches keep. */
#define TOUCHED_MAX (2 * BATCH_MAX + ((size_t)1 << 20))

storm_batch *storm_batch_create(void)
{
    storm_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL)
        return NULL;
    sdb_buffer_init(&batch->ops, BATCH_MAX + SDB_VALUE_HEADER_MAX + KEY_MAX + 64);
    sdb_buffer_init(&batch->touched, TOUCHED_MAX);
    sdb_buffer_init(&batch->check_keys, BATCH_MAX);
    sdb_buffer_init(&batch->check_revisions, BATCH_MAX);
    return batch;
}

void storm_batch_destroy(storm_batch *batch)
{
    if (batch == NULL)
        return;
    sdb_buffer_fini(&batch->ops);
    sdb_buffer_fini(&batch->touched);
    free(batch->touches);
    sdb_buffer_fini(&batch->check_keys);
    sdb_buffer_fini(&batch->check_revisions);
    free(batch->checks);
    free(batch);
}

void storm_batch_clear(storm_batch *batch)
{
    sdb_buffer_clear(&batch->ops);
    sdb_buffer_clear(&batch->touched);
    batch->touch_count = 0;
    batch->is_touched = false;
    sdb_buffer_clear(&batch->check_keys);
    sdb_buffer_clear(&batch->check_revisions);
    batch->count = 0;
    batch->writes = 0;
    batch->range_count = 0;
    batch->largest_key = 0;
    batch->largest_value = 0;
    batch->user_bytes = 0;
    batch->check_count = 0;
}

size_t storm_batch_count(const storm_batch *batch)
{
    return batch->count;
}

static storm_status add_check(storm_batch *batch, const struct storm_op *op)
{
    if (batch->check_count == batch->check_room) {
        size_t room = batch->check_room == 0 ? 4 : batch->check_room * 2;
        struct sdb_check *checks = realloc(batch->checks, room * sizeof *checks);
        if (checks == NULL)
            return STORM_NO_MEMORY;
        batch->checks = checks;
        batch->check_room = room;
    }
    struct sdb_buffer *keys = &batch->check_keys;
    struct sdb_buffer *revisions = &batch->check_revisions;
    size_t key_at = keys->size;
    size_t revisions_at = revisions->size / sizeof(uint64_t);
    sdb_buffer_add(keys, op->key.data, op->key.size);
    sdb_buffer_add(revisions, op->revisions, op->revision_count * sizeof(uint64_t));
    storm_status status = keys->status != STORM_OK ? keys->status : revisions->status;
    if (status != STORM_OK) {
        /* As in encode(): the failure is told once, then forgotten. */
        keys->size = key_at;
        revisions->size = revisions_at * sizeof(uint64_t);
        keys->status = STORM_OK;
        revisions->status = STORM_OK;
        return status;
    }
    batch->checks[batch->check_count++] = (struct sdb_check){
        .index = batch->count,
        .key_at = key_at,
        .key_size = op->key.size,
        .condition = op->condition,
        .revisions_at = revisions_at,
        .revision_count = op->revision_count,
    };
    return STORM_OK;
}

/* Remember a touch, which has a check; it is encoded when its value is known. */
static storm_status add_touch(storm_batch *batch, const struct storm_op *op)
{
    if (batch->touch_count == batch->touch_room) {
        size_t room = batch->touch_room == 0 ? 4 : batch->touch_room * 2;
        struct sdb_touch *touches = realloc(batch->touches, room * sizeof *touches);
        if (touches == NULL)
            return STORM_NO_MEMORY;
        batch->touches = touches;
        batch->touch_room = room;
    }
    batch->touches[batch->touch_count++] = (struct sdb_touch){
        .check = batch->check_count - 1,
        .ops_at = batch->ops.size,
        .expires_ms = op->meta.expires_ms,
        .modified_ms = op->meta.modified_ms,
    };
    batch->checks[batch->check_count - 1].touch = batch->touch_count;
    return STORM_OK;
}

void sdb_batch_encode_put(struct sdb_buffer *ops, struct storm_slice key,
                          const struct storm_meta *meta, struct storm_slice value)
{
    uint8_t header[SDB_VALUE_HEADER_MAX];
    size_t header_size = sdb_value_write_header(header, meta);
    sdb_buffer_add_u8(ops, SDB_KIND_PUT);
    sdb_buffer_add_prefixed(ops, key);
    sdb_buffer_add_varint(ops, header_size + value.size);
    sdb_buffer_add(ops, header, header_size);
    sdb_buffer_add(ops, value.data, value.size);
}

static storm_status encode(storm_batch *batch, const struct storm_op *op)
{
    struct sdb_buffer *ops = &batch->ops;
    size_t start = ops->size;
    if (op->kind == STORM_TOUCH)
        return add_touch(batch, op);
    if (op->kind == STORM_PUT) {
        sdb_batch_encode_put(ops, op->key, &op->meta, op->value);
    } else {
        sdb_buffer_add_u8(ops, SDB_KIND_DELETE);
        sdb_buffer_add_prefixed(ops, op->key);
    }
    storm_status status = ops->status;
    if (status != STORM_OK) {
        /* The batch stays as it was before this operation and may be used on. */
        ops->size = start;
        ops->status = STORM_OK;
    }
    return status;
}

/* Touches from `*next` on that stand at or before `at` move up by `by`; covered ones become
 * deletes. */
static void move_touches(storm_batch *batch, size_t *next, size_t at, size_t by,
                         const struct sdb_range *range)
{
    for (; *next < batch->touch_count && batch->touches[*next].ops_at <= at; (*next)++) {
        struct sdb_touch *touch = &batch->touches[*next];
        touch->ops_at -= by;
        if (sdb_range_covers(range, sdb_check_key(batch, &batch->checks[touch->check])))
            touch->is_deleted = true;
    }
}

/* Turn the puts and touches before `end` that the range covers into deletes. These are shorter than
 * puts: what lies behind moves up. */
static void delete_covered(storm_batch *batch, size_t end, const struct sdb_range *range)
{
    uint8_t *ops = batch->ops.data;
    uint8_t *to = ops;
    size_t touch = 0;
    struct sdb_cursor cursor = sdb_cursor(storm_bytes(ops, end));
    for (;;) {
        const uint8_t *from = cursor.at;
        struct sdb_batch_op op;
        if (!sdb_batch_next(&cursor, &op))
            break;
        move_touches(batch, &touch, (size_t)(from - ops), (size_t)(from - to), range);
        bool is_covered = op.kind == SDB_KIND_PUT && sdb_range_covers(range, op.key);
        size_t size = (size_t)((is_covered ? op.key.data + op.key.size : cursor.at) - from);
        memmove(to, from, size);
        if (is_covered)
            *to = SDB_KIND_DELETE;
        to += size;
    }
    move_touches(batch, &touch, end, (size_t)(ops + end - to), range);
    memmove(to, ops + end, batch->ops.size - end);
    batch->ops.size -= (size_t)(ops + end - to);
}

static storm_status add_range(storm_batch *batch, const struct storm_op *op)
{
    struct sdb_buffer *ops = &batch->ops;
    if (op->condition != STORM_ALWAYS || op->want_previous || op->value.size != 0)
        return STORM_INVALID;
    if (op->key.size > KEY_MAX || op->end.size > KEY_MAX || batch->range_count == RANGES_MAX)
        return STORM_TOO_LARGE;
    size_t start = ops->size;
    sdb_buffer_add_u8(ops, SDB_KIND_DELETE_RANGE);
    sdb_buffer_add_prefixed(ops, op->key);
    sdb_buffer_add_prefixed(ops, op->end);
    storm_status status = ops->status;
    if (status != STORM_OK) {
        ops->size = start;
        ops->status = STORM_OK;
        return status;
    }
    delete_covered(batch, start, &(struct sdb_range){.start = op->key, .end = op->end});
    size_t longer = op->key.size > op->end.size ? op->key.size : op->end.size;
    if (longer > batch->largest_key)
        batch->largest_key = longer;
    batch->user_bytes += op->key.size + op->end.size;
    batch->writes++;
    batch->range_count++;
    batch->count++;
    return STORM_OK;
}

storm_status storm_batch_add(storm_batch *batch, const struct storm_op *op)
{
    if (op->kind == STORM_DELETE_RANGE)
        return add_range(batch, op);
    if (op->key.size == 0 || op->meta.type.size > SDB_TYPE_MAX ||
        op->revision_count > REVISIONS_MAX || op->kind > STORM_TOUCH ||
        op->condition > STORM_IF_NONE_MATCH)
        return STORM_INVALID;
    if (op->key.size > KEY_MAX || op->value.size > BATCH_MAX ||
        batch->ops.size + op->value.size > BATCH_MAX)
        return STORM_TOO_LARGE;

    size_t checks = batch->check_count;
    bool is_checked = op->condition != STORM_ALWAYS || op->want_previous ||
                      op->kind == STORM_CHECK || op->kind == STORM_TOUCH;
    if (is_checked) {
        storm_status status = add_check(batch, op);
        if (status != STORM_OK)
            return status;
    }
    if (op->kind != STORM_CHECK) {
        storm_status status = encode(batch, op);
        if (status != STORM_OK) {
            batch->check_count = checks;
            return status;
        }
        batch->writes++;
        size_t value_size = op->kind == STORM_PUT ? op->value.size : 0;
        if (value_size > batch->largest_value)
            batch->largest_value = value_size;
        batch->user_bytes += value_size;
    }
    batch->user_bytes += op->key.size;
    if (op->key.size > batch->largest_key)
        batch->largest_key = op->key.size;
    batch->count++;
    return STORM_OK;
}

storm_status storm_batch_put(storm_batch *batch, struct storm_slice key, struct storm_slice value)
{
    struct storm_op op = {.kind = STORM_PUT, .key = key, .value = value};
    return storm_batch_add(batch, &op);
}

storm_status storm_batch_delete(storm_batch *batch, struct storm_slice key)
{
    struct storm_op op = {.kind = STORM_DELETE, .key = key};
    return storm_batch_add(batch, &op);
}

storm_status storm_batch_delete_range(storm_batch *batch, struct storm_slice start,
                                      struct storm_slice end)
{
    struct storm_op op = {.kind = STORM_DELETE_RANGE, .key = start, .end = end};
    return storm_batch_add(batch, &op);
}

struct storm_op_result storm_batch_result(const storm_batch *batch, size_t index)
{
    size_t low = 0;
    size_t high = batch->check_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (batch->checks[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < batch->check_count && batch->checks[low].index == index)
        return batch->checks[low].result;
    return (struct storm_op_result){0};
}

bool sdb_check_holds(const storm_batch *batch, const struct sdb_check *check, bool exists,
                     uint64_t revision)
{
    bool is_listed = false;
    if (check->touch != 0 && !exists)
        return false;
    for (size_t i = 0; exists && i < check->revision_count; i++) {
        uint64_t listed;
        memcpy(&listed, batch->check_revisions.data + (check->revisions_at + i) * sizeof listed,
               sizeof listed);
        is_listed = is_listed || listed == revision;
    }
    switch (check->condition) {
    case STORM_ALWAYS:
        return true;
    case STORM_IF_ABSENT:
        return !exists;
    case STORM_IF_PRESENT:
        return exists;
    case STORM_IF_MATCH:
        return is_listed;
    case STORM_IF_NONE_MATCH:
        return !is_listed;
    }
    return false;
}

bool sdb_batch_next(struct sdb_cursor *cursor, struct sdb_batch_op *op)
{
    struct storm_slice kind;
    if (sdb_cursor_left(cursor) == 0 || !sdb_read_bytes(cursor, 1, &kind))
        return false;
    op->value = (struct storm_slice){NULL, 0};
    bool is_sound = sdb_read_prefixed(cursor, &op->key) && op->key.size <= KEY_MAX &&
                    kind.data[0] <= SDB_KIND_DELETE_RANGE;
    if (is_sound && kind.data[0] == SDB_KIND_DELETE_RANGE)
        is_sound = sdb_read_prefixed(cursor, &op->value) && op->value.size <= KEY_MAX;
    else
        is_sound = is_sound && op->key.size != 0;
    if (is_sound && kind.data[0] == SDB_KIND_PUT)
        is_sound = sdb_read_prefixed(cursor, &op->value) && op->value.size != 0;
    if (!is_sound) {
        cursor->at = NULL;
        return false;
    }
    op->kind = (enum sdb_kind)kind.data[0];
    return true;
}
