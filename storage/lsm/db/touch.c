/*
 * Touches: puts whose value is known only when the store has been asked.
 *
 * A batch remembers where among its encoded operations a touch stands. When it is written, the
 * values are read before the turn, together with what conditions need (check.c), and a second run
 * of operations is encoded, with a put in each of those places. That run is what goes to the log
 * and to the memtable. The operations themselves stay as they were added, so a batch may be written
 * again.
 *
 *   batch->ops       | put a | delete b |      | put d |
 *                                       ^ touch c, revision 7 has the value
 *   batch->touched   | put a | delete b | put c | put d |
 *
 * At the turn the decision about the conditions finds out whether a key has changed since. Its
 * newer value is in memory then, in a memtable of the leader's view or in the operations of an
 * earlier member of the group, and the run is encoded again from there: memory is copied under the
 * turn, nothing is read from the disk. What would be too much to copy for a member that others have
 * gone before is read and queued once more; the first member of a group always goes.
 *
 * Values are pinned by the commit's view or by a block of their own until sdb_checks_release().
 */
#include "lsm/db/db.h"
#include "lsm/db/value.h"

/* A group with a member that is encoded at the turn: the size of a usual group. */
#define COPY_MAX ((size_t)1 << 20)

/* What is encoded of a put besides its key and value: kind, two lengths, header. */
enum { TOUCH_ROOM = 1 + 2 * SDB_VARINT_MAX + SDB_VALUE_HEADER_MAX };

void sdb_touch_pin(storm_batch *batch, const struct sdb_check *check, const struct sdb_found *found)
{
    struct sdb_touch *touch = &batch->touches[check->touch - 1];
    touch->value = check->prior_exists ? found->value : storm_bytes(NULL, 0);
    touch->block = found->block;
}

void sdb_touches_release(storm_batch *batch)
{
    for (size_t i = 0; i < batch->touch_count; i++) {
        sdb_block_unref(batch->touches[i].block);
        batch->touches[i].block = NULL;
        batch->touches[i].value = storm_bytes(NULL, 0);
    }
}

/* All values that touches keep, with their headers. */
static size_t kept_bytes(const storm_batch *batch)
{
    size_t bytes = 0;
    for (size_t i = 0; i < batch->touch_count; i++)
        bytes += batch->touches[i].value.size;
    return bytes;
}

static storm_status encode_touch(storm_batch *batch, const struct sdb_touch *touch)
{
    struct storm_meta meta;
    struct storm_slice value;
    if (touch->is_deleted) {
        sdb_buffer_add_u8(&batch->touched, SDB_KIND_DELETE);
        sdb_buffer_add_prefixed(&batch->touched,
                                sdb_check_key(batch, &batch->checks[touch->check]));
        return batch->touched.status;
    }
    if (!sdb_value_parse(touch->value, &meta, &value))
        return STORM_CORRUPT;
    meta.expires_ms = touch->expires_ms;
    if (touch->modified_ms != 0)
        meta.modified_ms = touch->modified_ms;
    sdb_batch_encode_put(&batch->touched, sdb_check_key(batch, &batch->checks[touch->check]), &meta,
                         value);
    return batch->touched.status;
}

/* The operations with puts for the touches; every touch has a value. */
static storm_status encode_touches(storm_batch *batch)
{
    struct sdb_buffer *to = &batch->touched;
    struct sdb_cursor ops = sdb_cursor(sdb_buffer_slice(&batch->ops));
    size_t kept = kept_bytes(batch);
    storm_status status = STORM_OK;
    struct storm_slice run;
    sdb_buffer_clear(to);
    /* One touch alone may keep whatever was once allowed; a batch has a size. */
    if (batch->count > 1 && batch->user_bytes + kept > batch->commit.max_bytes)
        return STORM_TOO_LARGE;
    /* At once: growing by halves would cost twice the memory of a large value. */
    (void)sdb_buffer_reserve(to, batch->ops.size + batch->check_keys.size + kept +
                                     batch->touch_count * TOUCH_ROOM);
    for (size_t i = 0; i < batch->touch_count && status == STORM_OK; i++) {
        size_t done = batch->ops.size - sdb_cursor_left(&ops);
        if (sdb_read_bytes(&ops, batch->touches[i].ops_at - done, &run))
            sdb_buffer_add(to, run.data, run.size);
        status = encode_touch(batch, &batch->touches[i]);
    }
    if (status == STORM_OK && sdb_read_bytes(&ops, sdb_cursor_left(&ops), &run))
        sdb_buffer_add(to, run.data, run.size);
    if (status == STORM_OK)
        status = to->status;
    batch->is_touched = status == STORM_OK;
    return status;
}

storm_status sdb_touches_read(struct sdb_lsm *db, storm_batch *batch)
{
    batch->commit.max_bytes = db->options.max_batch_bytes;
    batch->is_touched = false;
    sdb_buffer_clear(&batch->touched);
    for (size_t i = 0; i < batch->touch_count; i++) {
        if (batch->touches[i].value.size == 0)
            return STORM_OK; /* absent: a conflict, unless somebody puts the key before the turn */
    }
    storm_status status = encode_touches(batch);
    if (status == STORM_CORRUPT)
        return sdb_fail(db->os->errors, status, "a stored value has a malformed header");
    return status;
}

void sdb_touch_change(storm_batch *batch, const struct sdb_check *check, struct storm_slice value)
{
    batch->touches[check->touch - 1].value = value;
    batch->is_touched = false;
}

storm_status sdb_touches_decide(storm_batch *batch, size_t before)
{
    if (batch->is_touched)
        return STORM_OK;
    if (before != 0 && before + batch->ops.size + kept_bytes(batch) > COPY_MAX) {
        batch->commit.must_retry = true;
        return STORM_CONFLICT;
    }
    return encode_touches(batch);
}
