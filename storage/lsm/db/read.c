/*
 * Point reads: memtables newest first, level 0 newest first, then one table a level.
 *
 * The first version found at or below the wanted revision is the answer, because newer sources are
 * asked first. The key is hashed once for all filters. A table that could not be opened because it is damaged makes the keys in its
 * range unreadable, not the store: nobody knows whether it hid something older.
 */
#include "lsm/db/db.h"
#include "lsm/db/value.h"

static storm_status damaged(struct sdb_lsm *db, const struct sdb_table_file *file)
{
    return sdb_fail(db->os->errors, STORM_CORRUPT,
                    "table %010llu.sst is damaged (%s): the keys in its range cannot be read",
                    (unsigned long long)file->number, storm_status_text(file->open_status));
}

/* Ask one table, its filter first. STORM_NOT_FOUND = go on. */
static storm_status ask_table(struct sdb_lsm *db, const struct sdb_table_file *file,
                              struct storm_slice key, uint64_t hash, uint64_t revision,
                              struct sdb_found *found)
{
    if (file->table == NULL)
        return damaged(db, file);
    bool has_filter = sdb_table_has_filter(file->table);
    if (has_filter && !sdb_table_may_contain(file->table, hash)) {
        atomic_fetch_add_explicit(&db->bloom_hits, 1, memory_order_relaxed);
        return STORM_NOT_FOUND;
    }
    storm_status status =
        sdb_table_get(file->table, key, revision, &found->tag, &found->value, &found->block);
    if (has_filter) {
        atomic_fetch_add_explicit(&db->bloom_passes, 1, memory_order_relaxed);
        if (status == STORM_NOT_FOUND)
            atomic_fetch_add_explicit(&db->bloom_false_positives, 1, memory_order_relaxed);
    }
    return status;
}

static storm_status lookup_tables(struct sdb_lsm *db, const struct sdb_version *version,
                                  struct storm_slice key, uint64_t revision,
                                  struct sdb_found *found)
{
    uint64_t hash = sdb_key_hash(key);
    const struct sdb_level *level = &version->levels[0];
    for (size_t i = 0; i < level->count; i++) {
        if (!sdb_table_file_covers(level->files[i], key))
            continue;
        storm_status status = ask_table(db, level->files[i], key, hash, revision, found);
        if (status != STORM_NOT_FOUND)
            return status;
    }
    for (size_t l = 1; l < STORM_MAX_LEVELS; l++) {
        level = &version->levels[l];
        size_t i = level->count == 0 ? 0 : sdb_level_find(level, key);
        if (i == level->count || sdb_key_compare(key, level->files[i]->smallest) < 0)
            continue;
        storm_status status = ask_table(db, level->files[i], key, hash, revision, found);
        if (status != STORM_NOT_FOUND)
            return status;
    }
    return STORM_NOT_FOUND;
}

storm_status sdb_lookup(struct sdb_lsm *db, const struct sdb_view *view, struct storm_slice key,
                        uint64_t revision, struct sdb_found *found)
{
    *found = (struct sdb_found){0};
    if (sdb_memtable_get(view->active, key, revision, &found->tag, &found->value)) {
        found->memtable = view->active;
        return STORM_OK;
    }
    for (size_t i = 0; i < view->sealed_count; i++) {
        if (sdb_memtable_get(view->sealed[i], key, revision, &found->tag, &found->value)) {
            found->memtable = view->sealed[i];
            return STORM_OK;
        }
    }
    return lookup_tables(db, view->version, key, revision, found);
}

static void unpin_block(void *pin)
{
    sdb_block_unref(pin);
}

static void unpin_memtable(void *pin)
{
    sdb_memtable_unref(pin);
}

/* Hand the version found to the caller, pinned. */
static storm_status fill_value(struct sdb_lsm *db, const struct sdb_found *found,
                               struct storm_value *value)
{
    if (sdb_tag_kind(found->tag) == SDB_KIND_DELETE)
        return STORM_NOT_FOUND;
    if (!sdb_value_parse(found->value, &value->meta, &value->bytes))
        return sdb_fail(db->os->errors, STORM_CORRUPT, "a stored value has a malformed header");
    if (value->meta.expires_ms != 0 && value->meta.expires_ms <= sdb_now_ms(db->os))
        return STORM_NOT_FOUND;
    value->revision = sdb_tag_revision(found->tag);
    if (found->block != NULL) {
        sdb_block_ref(found->block);
        value->pin = found->block;
        value->unpin = unpin_block;
    } else {
        value->pin = sdb_memtable_ref(found->memtable);
        value->unpin = unpin_memtable;
    }
    return STORM_OK;
}

storm_status sdb_lsm_get(storm_db *base, const storm_snapshot *snapshot, struct storm_slice key,
                         struct storm_value *value)
{
    struct sdb_lsm *db = sdb_lsm(base);
    struct sdb_found found;
    struct sdb_view *view = sdb_view_acquire(db);
    uint64_t revision = snapshot != NULL ? snapshot->revision
                                         : atomic_load_explicit(&db->visible, memory_order_acquire);
    storm_status status = sdb_lookup(db, view, key, revision, &found);
    if (status == STORM_OK) {
        status = fill_value(db, &found, value);
        if (status != STORM_OK)
            *value = (struct storm_value){0};
        sdb_block_unref(found.block);
    }
    sdb_view_release(view);
    return status;
}
