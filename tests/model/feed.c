/* The model of change feeds; see feed.h. */
#include "feed.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

enum { VALUE_MAX = 9000 };

struct change {
    uint64_t revision;
    uint64_t put_revision; /* the value follows from it */
    uint64_t expires_ms;
    uint32_t key;
    uint32_t size;
    uint32_t end; /* of a range delete */
    enum storm_op_kind kind;
};

/* No bound of a range delete. */
#define UNBOUNDED UINT32_MAX

struct feed_model {
    struct feed_model_kit kit;
    struct change *changes;
    size_t count, room;
    storm_feed *feed;
    size_t at; /* the change that the feed shows next */
    uint64_t random;
    uint64_t shown, gone;
};

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: change %zu: %s does not hold\n", __FILE__, __LINE__,           \
                    model->at, #condition);                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct feed_model *feed_model_create(struct feed_model_kit kit, uint64_t seed)
{
    struct feed_model *model = calloc(1, sizeof *model);
    if (model == NULL)
        abort();
    model->kit = kit;
    model->random = seed;
    return model;
}

void feed_model_destroy(struct feed_model *model)
{
    free(model->changes);
    free(model);
}

static void add(struct feed_model *model, struct change change)
{
    if (model->count == model->room) {
        model->room = model->room * 2 + 1024;
        model->changes = realloc(model->changes, model->room * sizeof *model->changes);
        if (model->changes == NULL)
            abort();
    }
    model->changes[model->count++] = change;
}

void feed_model_put(struct feed_model *model, uint64_t revision, uint64_t put_revision, size_t key,
                    size_t size, uint64_t expires_ms)
{
    add(model, (struct change){revision, put_revision, expires_ms, (uint32_t)key, (uint32_t)size, 0,
                               STORM_PUT});
}

void feed_model_delete(struct feed_model *model, uint64_t revision, size_t key)
{
    add(model, (struct change){.revision = revision, .key = (uint32_t)key, .kind = STORM_DELETE});
}

void feed_model_range(struct feed_model *model, uint64_t revision, size_t start, size_t end)
{
    add(model, (struct change){.revision = revision,
                               .key = start == SIZE_MAX ? UNBOUNDED : (uint32_t)start,
                               .end = end == SIZE_MAX ? UNBOUNDED : (uint32_t)end,
                               .kind = STORM_DELETE_RANGE});
}

/* The first change of `revision` or a later one. */
static size_t find(const struct feed_model *model, uint64_t revision)
{
    size_t low = 0, high = model->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (model->changes[middle].revision < revision)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint64_t newest(const struct feed_model *model)
{
    return model->count == 0 ? 0 : model->changes[model->count - 1].revision;
}

static bool is_key(const struct feed_model *model, struct storm_slice found, uint32_t expected)
{
    if (expected == UNBOUNDED)
        return found.size == 0;
    struct storm_slice key = model->kit.key_of(expected);
    return found.size == key.size && memcmp(found.data, key.data, key.size) == 0;
}

static void check_change(struct feed_model *model, const struct storm_change *change)
{
    static uint8_t value[VALUE_MAX];
    CHECK(model->at < model->count);
    const struct change *expected = &model->changes[model->at];
    CHECK(change->revision == expected->revision);
    CHECK(change->index == model->at - find(model, expected->revision));
    CHECK(change->is_last ==
          (model->at + 1 == model->count || expected[1].revision != expected->revision));
    CHECK(change->kind == expected->kind);
    CHECK(is_key(model, change->key, expected->key));
    CHECK(expected->kind == STORM_DELETE_RANGE ? is_key(model, change->end, expected->end)
                                               : change->end.size == 0);
    CHECK(change->meta.expires_ms == expected->expires_ms);
    CHECK(change->value.size == expected->size);
    model->kit.fill_value(value, expected->put_revision, expected->key, expected->size);
    CHECK(expected->size == 0 || memcmp(change->value.data, value, expected->size) == 0);
    model->at++;
    model->shown++;
}

/* The log has no longer what comes next: go on with the oldest that it has. */
static void skip(struct feed_model *model, storm_db *db)
{
    struct storm_stats stats;
    CHECK(storm_stats_read(db, &stats) == STORM_OK);
    CHECK(model->at < model->count);
    CHECK(stats.feed_oldest_revision == 0 ||
          stats.feed_oldest_revision > model->changes[model->at].revision);
    feed_model_close(model);
    model->at =
        stats.feed_oldest_revision == 0 ? model->count : find(model, stats.feed_oldest_revision);
    model->gone++;
}

static bool open_feed(struct feed_model *model, storm_db *db)
{
    if (random_below(&model->random, 4) == 0 && model->count > 0)
        model->at = model->count - (size_t)random_below(&model->random, model->count / 8 + 1);
    uint64_t from =
        model->at < model->count ? model->changes[model->at].revision : newest(model) + 1;
    model->at = find(model, from);
    storm_status status = storm_feed_open(db, from, &model->feed);
    if (status == STORM_GONE)
        skip(model, db);
    else
        CHECK(status == STORM_OK);
    return status == STORM_OK;
}

void feed_model_read(struct feed_model *model, storm_db *db)
{
    if (random_below(&model->random, 16) == 0)
        feed_model_close(model);
    if (model->feed == NULL && !open_feed(model, db))
        return;
    for (uint64_t most = random_below(&model->random, 2000); most > 0; most--) {
        struct storm_change change;
        storm_status status = storm_feed_next(model->feed, &change);
        if (status == STORM_NOT_FOUND) {
            CHECK(model->at == model->count);
            CHECK(storm_feed_wait(model->feed, 0) == STORM_TIMED_OUT);
            return;
        }
        if (status == STORM_GONE) {
            skip(model, db);
            return;
        }
        CHECK(status == STORM_OK);
        check_change(model, &change);
    }
}

void feed_model_close(struct feed_model *model)
{
    storm_feed_close(model->feed);
    model->feed = NULL;
}

void feed_model_counts(const struct feed_model *model, uint64_t *shown, uint64_t *gone)
{
    *shown = model->shown;
    *gone = model->gone;
}
