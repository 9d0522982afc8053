/*
 * What a change feed must show: a journal of all operations that were committed, and a check of a
 * feed against it. Values follow from their revision, so the journal holds numbers only.
 */
#ifndef TEST_FEED_KIT_H
#define TEST_FEED_KIT_H

#include "random.h"
#include "store.h"

enum { FEED_KEYS = 64, FEED_VALUE_MAX = 3000, JOURNAL_MAX = 200000 };

struct journal_entry {
    uint64_t revision;
    uint32_t index;
    uint32_t key;
    uint32_t size;
    uint32_t expires; /* meta.expires_ms, 0 = none */
    bool is_delete;
    bool is_last;
};

struct journal {
    struct journal_entry *entries;
    size_t count;
    uint64_t revision; /* newest committed */
    uint64_t random;
    struct journal_entry planned[8]; /* of the last attempt */
    size_t planned_count;
};

static inline void journal_init(struct journal *journal, uint64_t seed)
{
    *journal = (struct journal){.random = seed};
    journal->entries = malloc(JOURNAL_MAX * sizeof *journal->entries);
    assert_non_null(journal->entries);
}

static inline void journal_fini(struct journal *journal)
{
    free(journal->entries);
}

/* Small segments, and nothing in the background but flushes. */
static inline const struct sdb_tuning *feed_tuning(uint64_t segment_bytes)
{
    static struct sdb_tuning tuning = {.table_bytes = 1 << 20,
                                       .base_bytes = 4 << 20,
                                       .multiplier = 10,
                                       .level0_files = 4,
                                       .level0_stall = 1000000,
                                       .settle_ns = 1000000000,
                                       .retry_ns = 1000000000,
                                       .is_by_hand = true};
    tuning.segment_bytes = segment_bytes;
    return &tuning;
}

static inline struct storm_slice feed_key(uint32_t number, char room[16])
{
    return storm_bytes(room, (size_t)snprintf(room, 16, "key%03u", number));
}

static inline struct storm_slice feed_value(uint64_t revision, uint32_t index, uint32_t size,
                                            uint8_t *room)
{
    uint64_t state = revision << 16 | index;
    for (uint32_t i = 0; i < size; i++)
        room[i] = i % 8 == 0 ? (uint8_t)random_u64(&state) : (uint8_t)(room[i - 1] + 1);
    return storm_bytes(room, size);
}

/* Add random operations to `batch` as those of the next revision; how many. Not in the journal
 * yet. */
static inline size_t journal_plan(struct journal *journal, storm_batch *batch, uint32_t size_max,
                                  struct journal_entry *planned)
{
    size_t count = 1;
    if (random_below(&journal->random, 4) == 0)
        count += (size_t)random_below(&journal->random, 6);
    uint8_t value[FEED_VALUE_MAX];
    char key[16];
    for (size_t i = 0; i < count; i++) {
        struct journal_entry entry = {
            .revision = journal->revision + 1,
            .index = (uint32_t)i,
            .key = (uint32_t)random_below(&journal->random, FEED_KEYS),
            .is_delete = random_below(&journal->random, 5) == 0,
            .is_last = i + 1 == count,
        };
        struct storm_op op = {.kind = STORM_DELETE, .key = feed_key(entry.key, key)};
        if (!entry.is_delete) {
            entry.size = (uint32_t)random_below(&journal->random, size_max);
            entry.expires = random_below(&journal->random, 8) == 0 ? 4000000000u + (uint32_t)i : 0;
            op.kind = STORM_PUT;
            op.value = feed_value(entry.revision, entry.index, entry.size, value);
            op.meta.expires_ms = entry.expires;
            op.meta.type = entry.expires != 0 ? storm_text("text/plain") : storm_text("");
        }
        assert_int_equal(storm_batch_add(batch, &op), STORM_OK);
        planned[i] = entry;
    }
    return count;
}

static inline void journal_note(struct journal *journal, const struct journal_entry *planned,
                                size_t count)
{
    assert_true(journal->count + count <= JOURNAL_MAX);
    memcpy(journal->entries + journal->count, planned, count * sizeof *planned);
    journal->count += count;
    journal->revision++;
}

/* Commit a random batch; sometimes one whose condition fails comes first. What the write said. */
static inline storm_status journal_write(struct journal *journal, storm_db *db, uint32_t size_max,
                                         enum storm_sync sync)
{
    struct journal_entry *planned = journal->planned;
    struct storm_write_options options = {.sync = sync};
    storm_batch *batch = storm_batch_create();
    uint64_t revision;
    assert_non_null(batch);
    size_t count = journal->planned_count = journal_plan(journal, batch, size_max, planned);
    if (random_below(&journal->random, 8) == 0) {
        struct storm_op check = {
            .kind = STORM_CHECK, .condition = STORM_IF_PRESENT, .key = storm_text("never there")};
        assert_int_equal(storm_batch_add(batch, &check), STORM_OK);
        storm_status refused = storm_write(db, batch, &options, NULL);
        if (refused != STORM_CONFLICT) {
            storm_batch_destroy(batch);
            return refused;
        }
        storm_batch_clear(batch);
        count = journal->planned_count = journal_plan(journal, batch, size_max, planned);
    }
    storm_status status = storm_write(db, batch, &options, &revision);
    storm_batch_destroy(batch);
    if (status == STORM_OK) {
        assert_int_equal(revision, journal->revision + 1);
        journal_note(journal, planned, count);
    }
    return status;
}

/* The first entry of `revision` or later. */
static inline size_t journal_find(const struct journal *journal, uint64_t revision)
{
    size_t low = 0, high = journal->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (journal->entries[middle].revision < revision)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Whether the change is exactly what the entry says. */
static inline bool journal_agrees(const struct journal_entry *entry,
                                  const struct storm_change *change)
{
    uint8_t value[FEED_VALUE_MAX];
    char key[16];
    struct storm_slice expected = feed_key(entry->key, key);
    if (change->revision != entry->revision || change->index != entry->index ||
        change->is_last != entry->is_last ||
        change->kind != (entry->is_delete ? STORM_DELETE : STORM_PUT) ||
        change->key.size != expected.size ||
        memcmp(change->key.data, expected.data, expected.size) != 0 ||
        change->value.size != entry->size || change->meta.expires_ms != entry->expires)
        return false;
    expected = feed_value(entry->revision, entry->index, entry->size, value);
    return expected.size == 0 || memcmp(change->value.data, expected.data, expected.size) == 0;
}

/*
 * Read `feed` until it has no more, or at most `most` changes: each must be the journal's from *at
 * on. The status that ended it (STORM_OK after `most`).
 */
static inline storm_status journal_follow(const struct journal *journal, storm_feed *feed,
                                          size_t *at, size_t most)
{
    struct storm_change change;
    for (size_t i = 0; i < most; i++) {
        storm_status status = storm_feed_next(feed, &change);
        if (status != STORM_OK)
            return status;
        if (*at >= journal->count)
            fail_msg("revision %llu was never committed", (unsigned long long)change.revision);
        if (!journal_agrees(&journal->entries[*at], &change))
            fail_msg("revision %llu, index %zu instead of %llu, %u, or with other contents",
                     (unsigned long long)change.revision, change.index,
                     (unsigned long long)journal->entries[*at].revision,
                     journal->entries[*at].index);
        ++*at;
    }
    return STORM_OK;
}

static inline uint64_t feed_oldest(storm_db *db)
{
    struct storm_stats stats;
    assert_int_equal(storm_stats_read(db, &stats), STORM_OK);
    return stats.feed_oldest_revision;
}

/* A feed from `from` shows all of the journal from there. */
static inline void journal_check(const struct journal *journal, storm_db *db, uint64_t from)
{
    storm_feed *feed;
    size_t at = journal_find(journal, from);
    assert_int_equal(storm_feed_open(db, from, &feed), STORM_OK);
    assert_int_equal(journal_follow(journal, feed, &at, SIZE_MAX), STORM_NOT_FOUND);
    assert_int_equal(at, journal->count);
    storm_feed_close(feed);
}

/* The oldest revision there is, from which a feed shows all of the journal. Segments may still go
 * after storm_flush has returned. */
static inline uint64_t journal_check_oldest(const struct journal *journal, storm_db *db)
{
    for (;;) {
        storm_feed *feed;
        uint64_t oldest = feed_oldest(db);
        size_t at = journal_find(journal, oldest);
        assert_int_not_equal(oldest, 0);
        storm_status status = storm_feed_open(db, oldest, &feed);
        if (status == STORM_OK)
            status = journal_follow(journal, feed, &at, SIZE_MAX);
        storm_feed_close(feed);
        if (status == STORM_GONE && feed_oldest(db) > oldest)
            continue;
        assert_int_equal(status, STORM_NOT_FOUND);
        assert_int_equal(at, journal->count);
        return oldest;
    }
}

#endif
