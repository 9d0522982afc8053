/*
 * Point reads: memtables newest first, level 0 newest first, then one table a level.
 *
 * The first version found at or below the wanted revision is the answer, because newer sources are
 * asked first; unless a range delete is newer than it. The key is hashed once for all filters.
 * Which tables may hold the key is told by the levels' guides; their filters are fetched all at
 * once, before the first is asked, so that a miss waits for memory once and not once a level. A
 * table that holds only what a range delete hides is not asked. One that could not be opened
 * because it is damaged makes the keys in its range unreadable, not the store: nobody knows whether
 * it hid something older.
 */
#include "lsm/db/db.h"
#include "lsm/db/value.h"
#include "util/hash.h"

/* Tables whose filters are fetched together; more than that only with a crowded level 0. */
enum { PLACES = 16 };

storm_status sdb_damaged_table(struct sdb_lsm *db, const struct sdb_table_file *file)
{
    return sdb_fail(db->os->errors, STORM_CORRUPT,
                    "table %010llu.sst is damaged (%s): the keys in its range cannot be read",
                    (unsigned long long)file->number, storm_status_text(file->open_status));
}

/* ---- Counting ---- */

static void add(_Atomic uint64_t *counter, uint64_t count)
{
    if (count != 0)
        atomic_fetch_add_explicit(counter, count, memory_order_relaxed);
}

void sdb_tally_add(struct sdb_lsm *db, const struct sdb_asked *asked)
{
    /* Threads that meet in one slot only slow each other down. */
    struct sdb_tally *tally = &db->tallies[sdb_thread_slot() % SDB_TALLIES];
    add(&tally->bloom_hits, asked->ruled_out);
    add(&tally->bloom_passes, asked->passed);
    add(&tally->bloom_false_positives, asked->passed_wrongly);
}

void sdb_tally_sum(struct sdb_lsm *db, struct storm_stats *stats)
{
    for (size_t i = 0; i < SDB_TALLIES; i++) {
        struct sdb_tally *tally = &db->tallies[i];
        stats->bloom_hits += atomic_load_explicit(&tally->bloom_hits, memory_order_relaxed);
        stats->bloom_passes += atomic_load_explicit(&tally->bloom_passes, memory_order_relaxed);
        stats->bloom_false_positives +=
            atomic_load_explicit(&tally->bloom_false_positives, memory_order_relaxed);
    }
}

/* ---- Tables ---- */

/* A table that may hold the key, and how far the search for such tables has got. */
struct place {
    const struct sdb_guide *guide;
    size_t file;
};

struct way {
    size_t level;
    size_t file; /* of level 0: the next to look at */
};

/* The next tables that may hold `key`, newest first, and their filters on the way. */
static size_t find_places(const struct sdb_version *version, struct storm_slice key, uint64_t hash,
                          struct way *way, struct place places[PLACES])
{
    size_t count = 0;
    while (way->level < STORM_MAX_LEVELS && count < PLACES) {
        const struct sdb_guide *guide = version->levels[way->level].guide;
        bool is_level0 = way->level == 0;
        size_t i = 0;
        if (guide != NULL)
            i = is_level0 ? sdb_guide_next(guide, way->file, key) : sdb_guide_find(guide, key);
        if (guide == NULL || i == guide->count) {
            way->level++;
            continue;
        }
        sdb_filter_prefetch(&guide->filters[i], hash);
        places[count++] = (struct place){guide, i};
        way->file = i + 1;
        way->level += !is_level0;
    }
    return count;
}

/* Ask one table, whose filter has let the key pass. STORM_NOT_FOUND = go on. */
static storm_status ask_table(struct sdb_lsm *db, const struct place *place, struct storm_slice key,
                              uint64_t revision, struct sdb_found *found, struct sdb_asked *asked)
{
    const struct sdb_table_file *file = place->guide->files[place->file];
    if (file->table == NULL)
        return sdb_damaged_table(db, file);
    storm_status status =
        sdb_table_get(file->table, key, revision, &found->tag, &found->value, &found->block);
    if (place->guide->filters[place->file].line_count != 0) {
        asked->passed++;
        asked->passed_wrongly += status == STORM_NOT_FOUND;
    }
    return status;
}

static storm_status lookup_tables(struct sdb_lsm *db, const struct sdb_version *version,
                                  struct storm_slice key, uint64_t revision, uint64_t floor,
                                  struct sdb_found *found)
{
    uint64_t hash = sdb_key_hash(key);
    struct sdb_asked asked = {0};
    struct way way = {0, 0};
    struct place places[PLACES];
    storm_status status = STORM_NOT_FOUND;
    do {
        size_t count = find_places(version, key, hash, &way, places);
        for (size_t i = 0; i < count && status == STORM_NOT_FOUND; i++) {
            const struct place *place = &places[i];
            if (!sdb_filter_may_contain(&place->guide->filters[place->file], hash))
                asked.ruled_out++;
            else if (place->guide->files[place->file]->max_revision >= floor)
                status = ask_table(db, place, key, revision, found, &asked);
        }
    } while (status == STORM_NOT_FOUND && way.level < STORM_MAX_LEVELS);
    sdb_tally_add(db, &asked);
    return status;
}

static storm_status lookup(struct sdb_lsm *db, const struct sdb_view *view, struct storm_slice key,
                           uint64_t revision, uint64_t floor, struct sdb_found *found)
{
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
    return lookup_tables(db, view->version, key, revision, floor, found);
}

storm_status sdb_lookup(struct sdb_lsm *db, const struct sdb_view *view, struct storm_slice key,
                        uint64_t revision, struct sdb_found *found)
{
    *found = (struct sdb_found){0};
    uint64_t floor = sdb_view_floor(view, key, revision);
    storm_status status = lookup(db, view, key, revision, floor, found);
    if (status == STORM_OK && sdb_tag_revision(found->tag) < floor) {
        sdb_block_unref(found->block);
        *found = (struct sdb_found){0};
        status = STORM_NOT_FOUND;
    }
    return status;
}

static void unpin_block(void *pin)
{
    sdb_block_unref(pin);
}

static void unpin_memtable(void *pin)
{
    sdb_memtable_unref(pin);
}

storm_status sdb_found_value(struct sdb_lsm *db, struct sdb_found *found, uint64_t now_ms,
                             struct storm_value *value)
{
    struct storm_value shown = {0};
    *value = shown;
    if (sdb_tag_kind(found->tag) == SDB_KIND_DELETE)
        return STORM_NOT_FOUND;
    if (!sdb_value_parse(found->value, &shown.meta, &shown.bytes))
        return sdb_fail(db->os->errors, STORM_CORRUPT, "a stored value has a malformed header");
    if (shown.meta.expires_ms != 0 && shown.meta.expires_ms <= now_ms)
        return STORM_NOT_FOUND;
    shown.revision = sdb_tag_revision(found->tag);
    if (found->block != NULL) {
        shown.pin = found->block;
        shown.unpin = unpin_block;
        found->block = NULL;
    } else {
        shown.pin = sdb_memtable_ref(found->memtable);
        shown.unpin = unpin_memtable;
    }
    *value = shown;
    return STORM_OK;
}

storm_status sdb_lsm_get(storm_db *base, const storm_snapshot *snapshot, struct storm_slice key,
                         struct storm_value *value)
{
    struct sdb_lsm *db = sdb_lsm(base);
    struct sdb_found found;
    struct sdb_view *view;
    uint64_t revision = sdb_view_read(db, snapshot, &view);
    storm_status status = sdb_lookup(db, view, key, revision, &found);
    if (status == STORM_OK) {
        uint64_t now_ms = sdb_value_expires_ms(found.value) == 0 ? 0 : sdb_now_ms(db->os);
        status = sdb_found_value(db, &found, now_ms, value);
        sdb_block_unref(found.block);
    }
    sdb_view_release(view);
    return status;
}
