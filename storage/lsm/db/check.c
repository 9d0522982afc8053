/*
 * Conditions on writes: optimistic reads before the turn, a memory-only decision at the turn.
 *
 * Before it queues, a writer looks its keys up like any reader (this may read the disk) and
 * remembers `read_revision`, the revision visible before it took its view. At the turn the leader
 * only asks the memtables whether a key has a version newer than that. This is complete as long as
 * the memtable that was active in the writer's view is still there: everything that view could not
 * see was written into that memtable or a later one. If it has been flushed away meanwhile (the
 * writer was away for a whole flush), the check is not decided: must_retry, and the writer reads
 * again.
 *
 * Range deletes are in no memtable, but in the view of the turn, all that the writer's view could
 * not see among them: a key whose state is older than one that covers it is absent.
 *
 * Members of one group have not reached the memtable yet when later members are decided, so what
 * they did to keys stands in the overlay: a hash table by key and a list of range deletes, filled
 * only when a group with more than one member has checks in it.
 */
#include <stdlib.h>

#include "lsm/db/db.h"
#include "lsm/db/value.h"
#include "util/hash.h"

/* ---- The overlay ---- */

struct overlay_slot {
    uint64_t hash; /* 0 = free */
    struct storm_slice key;
    uint64_t tag;
    struct storm_slice value;
};

struct sdb_overlay {
    struct sdb_account *account;
    struct sdb_range *ranges; /* range deletes; borrowed from the batches, as keys and values are */
    size_t range_count, range_room;
    struct overlay_slot *slots;
    size_t mask; /* slots - 1 */
    size_t used;
};

static struct overlay_slot *new_slots(struct sdb_account *account, size_t count)
{
    return sdb_account_took(account, SDB_FOR_LOG, calloc(count, sizeof(struct overlay_slot)));
}

struct sdb_overlay *sdb_overlay_create(struct sdb_account *account)
{
    enum { FIRST_SLOTS = 256 };
    struct sdb_overlay *overlay = calloc(1, sizeof *overlay);
    if (overlay == NULL)
        return NULL;
    overlay->account = account;
    overlay->slots = new_slots(account, FIRST_SLOTS);
    overlay->mask = FIRST_SLOTS - 1;
    if (overlay->slots == NULL) {
        free(overlay);
        return NULL;
    }
    return overlay;
}

void sdb_overlay_destroy(struct sdb_overlay *overlay)
{
    if (overlay == NULL)
        return;
    sdb_account_free(overlay->account, SDB_FOR_LOG, overlay->ranges);
    sdb_account_free(overlay->account, SDB_FOR_LOG, overlay->slots);
    free(overlay);
}

void sdb_overlay_clear(struct sdb_overlay *overlay)
{
    if (overlay->used != 0)
        memset(overlay->slots, 0, (overlay->mask + 1) * sizeof(struct overlay_slot));
    overlay->used = 0;
    overlay->range_count = 0;
}

static struct overlay_slot *find_slot(struct overlay_slot *slots, size_t mask, uint64_t hash,
                                      struct storm_slice key)
{
    size_t i = (size_t)hash & mask;
    while (slots[i].hash != 0 && (slots[i].hash != hash || sdb_key_compare(slots[i].key, key) != 0))
        i = (i + 1) & mask;
    return &slots[i];
}

static uint64_t overlay_hash(struct storm_slice key)
{
    return sdb_hash64(key.data, key.size, 0) | 1;
}

static bool overlay_grow(struct sdb_overlay *overlay)
{
    size_t count = (overlay->mask + 1) * 2;
    struct overlay_slot *slots = new_slots(overlay->account, count);
    if (slots == NULL)
        return false;
    for (size_t i = 0; i <= overlay->mask; i++) {
        const struct overlay_slot *old = &overlay->slots[i];
        if (old->hash != 0)
            *find_slot(slots, count - 1, old->hash, old->key) = *old;
    }
    sdb_account_free(overlay->account, SDB_FOR_LOG, overlay->slots);
    overlay->slots = slots;
    overlay->mask = count - 1;
    return true;
}

/* Room for so many more range deletes. */
static bool reserve_ranges(struct sdb_overlay *overlay, size_t count)
{
    size_t room = overlay->range_count + count;
    if (room <= overlay->range_room)
        return true;
    room += overlay->range_room; /* so that a run of single ones does not copy each time */
    struct sdb_range *ranges =
        sdb_account_took(overlay->account, SDB_FOR_LOG, malloc(room * sizeof *ranges));
    if (ranges == NULL)
        return false;
    if (overlay->range_count != 0)
        memcpy(ranges, overlay->ranges, overlay->range_count * sizeof *ranges);
    sdb_account_free(overlay->account, SDB_FOR_LOG, overlay->ranges);
    overlay->ranges = ranges;
    overlay->range_room = room;
    return true;
}

/* The newest range delete of the group so far that covers `key`; 0 = none. */
static uint64_t overlay_floor(const struct sdb_overlay *overlay, struct storm_slice key)
{
    size_t i = overlay->range_count;
    while (i > 0 && !sdb_range_covers(&overlay->ranges[i - 1], key))
        i--;
    return i == 0 ? 0 : overlay->ranges[i - 1].revision;
}

storm_status sdb_overlay_add(struct sdb_overlay *overlay, const storm_batch *batch,
                             uint64_t revision)
{
    struct sdb_cursor cursor = sdb_cursor(sdb_batch_ops(batch));
    struct sdb_batch_op op;
    /* Room for all before the first goes in: half of a batch would show later members of the group
     * what never happened. */
    while ((overlay->used + batch->writes) * 2 > overlay->mask) {
        if (!overlay_grow(overlay))
            return STORM_NO_MEMORY;
    }
    if (!reserve_ranges(overlay, batch->range_count))
        return STORM_NO_MEMORY;
    while (sdb_batch_next(&cursor, &op)) {
        if (op.kind == SDB_KIND_DELETE_RANGE) {
            overlay->ranges[overlay->range_count++] =
                (struct sdb_range){op.key, op.value, revision};
            continue;
        }
        uint64_t hash = overlay_hash(op.key);
        struct overlay_slot *slot = find_slot(overlay->slots, overlay->mask, hash, op.key);
        overlay->used += slot->hash == 0;
        *slot = (struct overlay_slot){hash, op.key, sdb_tag(revision, op.kind), op.value};
    }
    return STORM_OK;
}

/* ---- Before the turn ---- */

storm_status sdb_checks_read(struct sdb_lsm *db, storm_batch *batch)
{
    if (batch->check_count == 0)
        return STORM_OK;
    struct sdb_commit *commit = &batch->commit;
    /* First the revision, then the view: see the story above. */
    commit->read_revision = atomic_load_explicit(&db->visible, memory_order_acquire);
    uint64_t revision = sdb_view_read(db, NULL, &commit->read_view);
    for (size_t i = 0; i < batch->check_count; i++) {
        struct sdb_check *check = &batch->checks[i];
        struct sdb_found found;
        storm_status status =
            sdb_lookup(db, commit->read_view, sdb_check_key(batch, check), revision, &found);
        if (status != STORM_OK && status != STORM_NOT_FOUND) {
            sdb_checks_release(batch);
            return status;
        }
        check->prior_exists = status == STORM_OK && sdb_tag_kind(found.tag) == SDB_KIND_PUT;
        check->prior_revision = check->prior_exists ? sdb_tag_revision(found.tag) : 0;
        check->prior_expires_ms = check->prior_exists ? sdb_value_expires_ms(found.value) : 0;
        if (check->touch != 0)
            sdb_touch_pin(batch, check, &found);
        else
            sdb_block_unref(found.block);
    }
    storm_status status = batch->touch_count == 0 ? STORM_OK : sdb_touches_read(db, batch);
    if (status != STORM_OK)
        sdb_checks_release(batch);
    return status;
}

void sdb_checks_release(storm_batch *batch)
{
    sdb_touches_release(batch);
    sdb_view_release(batch->commit.read_view);
    batch->commit.read_view = NULL;
}

/* ---- At the turn ---- */

static bool still_in_memory(const struct sdb_view *view, const struct sdb_memtable *memtable)
{
    if (view->active == memtable)
        return true;
    for (size_t i = 0; i < view->sealed_count; i++) {
        if (view->sealed[i] == memtable)
            return true;
    }
    return false;
}

/* The newest version of `key` in the view's memtables. */
static bool newest_in_memory(const struct sdb_view *view, struct storm_slice key, uint64_t *tag,
                             struct storm_slice *value)
{
    if (sdb_memtable_get(view->active, key, SDB_MAX_REVISION, tag, value))
        return true;
    for (size_t i = 0; i < view->sealed_count; i++) {
        if (sdb_memtable_get(view->sealed[i], key, SDB_MAX_REVISION, tag, value))
            return true;
    }
    return false;
}

static void set_state(storm_batch *batch, struct sdb_check *check, uint64_t tag,
                      struct storm_slice value)
{
    uint64_t before = check->prior_revision;
    check->prior_exists = sdb_tag_kind(tag) == SDB_KIND_PUT;
    check->prior_revision = check->prior_exists ? sdb_tag_revision(tag) : 0;
    check->prior_expires_ms = check->prior_exists ? sdb_value_expires_ms(value) : 0;
    if (check->touch != 0 && check->prior_revision != before)
        sdb_touch_change(batch, check, value);
}

/* The newest range delete that covers `key`, those of the group's earlier members included. */
static uint64_t newest_range(const struct sdb_view *view, const struct sdb_overlay *overlay,
                             struct storm_slice key)
{
    uint64_t floor = overlay_floor(overlay, key);
    return floor != 0 ? floor : sdb_view_floor(view, key, SDB_MAX_REVISION);
}

storm_status sdb_checks_decide(const struct sdb_view *view, const struct sdb_overlay *overlay,
                               storm_batch *batch, uint64_t now_ms)
{
    struct sdb_commit *commit = &batch->commit;
    storm_status status = STORM_OK;
    if (batch->check_count == 0)
        return STORM_OK;
    if (!still_in_memory(view, commit->read_view->active)) {
        commit->must_retry = true;
        return STORM_CONFLICT;
    }
    for (size_t i = 0; i < batch->check_count; i++) {
        struct sdb_check *check = &batch->checks[i];
        struct storm_slice key = sdb_check_key(batch, check);
        struct storm_slice value;
        uint64_t tag;
        const struct overlay_slot *slot =
            overlay->used == 0 ? NULL
                               : find_slot(overlay->slots, overlay->mask, overlay_hash(key), key);
        if (slot != NULL && slot->hash != 0)
            set_state(batch, check, slot->tag, slot->value);
        else if (newest_in_memory(view, key, &tag, &value) &&
                 sdb_tag_revision(tag) > commit->read_revision)
            set_state(batch, check, tag, value);
        if (check->prior_revision < newest_range(view, overlay, key))
            check->prior_exists = false;
        bool is_expired = check->prior_expires_ms != 0 && check->prior_expires_ms <= now_ms;
        bool exists = check->prior_exists && !is_expired;
        check->result = (struct storm_op_result){
            .holds = sdb_check_holds(batch, check, exists, check->prior_revision),
            .existed = exists,
            .previous_revision = exists ? check->prior_revision : 0,
        };
        if (!check->result.holds)
            status = STORM_CONFLICT;
    }
    return status;
}
