/*
 * The model of change feeds: all operations that were committed, in order, and a feed that must
 * show exactly these. Any disagreement ends the program with 1.
 */
#ifndef TEST_MODEL_FEED_H
#define TEST_MODEL_FEED_H

#include "storm/storm.h"

struct feed_model;

/* How the model test makes keys and values out of numbers. */
struct feed_model_kit {
    struct storm_slice (*key_of)(size_t key);
    void (*fill_value)(uint8_t *to, uint64_t revision, size_t key, size_t size);
};

struct feed_model *feed_model_create(struct feed_model_kit kit, uint64_t seed);
void feed_model_destroy(struct feed_model *model);

/* An operation of `revision` was committed: a put (or a touch, which shows as one) of `size` bytes
 * that follow from `put_revision`, or a delete. */
void feed_model_put(struct feed_model *model, uint64_t revision, uint64_t put_revision, size_t key,
                    size_t size, uint64_t expires_ms);
void feed_model_delete(struct feed_model *model, uint64_t revision, size_t key);
/* A range delete; SIZE_MAX = without that bound. */
void feed_model_range(struct feed_model *model, uint64_t revision, size_t start, size_t end);

/* Read some of the feed, opening it if need be; sometimes from an earlier revision. */
void feed_model_read(struct feed_model *model, storm_db *db);
/* Before the store is closed. */
void feed_model_close(struct feed_model *model);

void feed_model_counts(const struct feed_model *model, uint64_t *shown, uint64_t *gone);

#endif
