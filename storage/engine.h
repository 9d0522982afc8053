/*
 * What an engine is, to the public API: one table of functions. storage/api.c (every storm_*
 * function) checks arguments, finds the engine by the target's form, and calls through this table.
 * An engine embeds struct storm_db as its first member, and likewise storm_iter, storm_snapshot and
 * storm_feed. Contracts are those of storm/storm.h; arguments arrive checked for NULL, and the
 * batch is never empty. An engine leaves a member NULL for what it cannot do; the caller then gets
 * STORM_UNSUPPORTED.
 */
#ifndef STORM_ENGINE_H
#define STORM_ENGINE_H

#include "storm/storm.h"

struct sdb_engine {
    const char *name; /* for messages, such as "lsm" */

    storm_status (*open)(const char *target, const struct storm_options *options, storm_db **db,
                         struct storm_error *error);
    storm_status (*close)(storm_db *db);
    void (*last_error)(storm_db *db, char *text, size_t size);

    storm_status (*write)(storm_db *db, storm_batch *batch,
                          const struct storm_write_options *options, uint64_t *revision);
    storm_status (*write_async)(storm_db *db, storm_batch *batch,
                                const struct storm_write_options *options, storm_write_fn done,
                                void *ctx, uint64_t *revision);
    unsigned (*busy_ms)(storm_db *db);
    storm_status (*get)(storm_db *db, const storm_snapshot *snapshot, struct storm_slice key,
                        struct storm_value *value);
    /* Values arrive empty; an empty key is the engine's to refuse, beside others that are read. */
    storm_status (*get_many)(storm_db *db, const storm_snapshot *snapshot,
                             struct storm_lookup *lookups, size_t count, uint64_t *revision);

    storm_snapshot *(*snapshot_create)(storm_db *db);
    void (*snapshot_release)(storm_snapshot *snapshot);

    storm_status (*iter_create)(storm_db *db, const struct storm_iter_options *options,
                                storm_iter **iter);
    void (*iter_destroy)(storm_iter *iter);
    void (*iter_first)(storm_iter *iter);
    void (*iter_last)(storm_iter *iter);
    void (*iter_seek)(storm_iter *iter, struct storm_slice key);
    void (*iter_seek_back)(storm_iter *iter, struct storm_slice key);
    void (*iter_next)(storm_iter *iter);
    void (*iter_prev)(storm_iter *iter);
    void (*iter_resume)(storm_iter *iter);

    storm_status (*feed_open)(storm_db *db, uint64_t from, storm_feed **feed);
    void (*feed_close)(storm_feed *feed);
    storm_status (*feed_next)(storm_feed *feed, struct storm_change *change);
    storm_status (*feed_wait)(storm_feed *feed, unsigned timeout_ms);
    void (*feed_interrupt)(storm_feed *feed);
    storm_status (*feed_notify)(storm_feed *feed, void (*ready)(void *ctx), void *ctx);

    storm_status (*flush)(storm_db *db, struct storm_flush_result *result);
    storm_status (*compact)(storm_db *db, struct storm_slice start, struct storm_slice end,
                            storm_progress_fn progress, void *ctx);
    storm_status (*checkpoint)(storm_db *db, const char *dir, uint64_t *revision);
    storm_status (*verify)(storm_db *db, storm_progress_fn progress, storm_report_fn report,
                           void *ctx, struct storm_verify_result *result);
    storm_status (*repair)(const char *target, storm_report_fn report, void *ctx,
                           struct storm_repair_result *result, struct storm_error *error);
    storm_status (*stats)(storm_db *db, struct storm_stats *stats);
};

struct storm_db {
    const struct sdb_engine *engine;
};

struct storm_snapshot {
    storm_db *db;
    uint64_t revision;
};

struct storm_feed {
    storm_db *db;
};

/* The current entry lives here so that reading it costs no call; the engine keeps it up to date. */
struct storm_iter {
    storm_db *db;
    bool valid;
    storm_status status;
    struct storm_slice key;
    struct storm_slice value; /* the caller's bytes, without the stored header */
    struct storm_meta meta;
    uint64_t revision;
};

extern const struct sdb_engine sdb_lsm_engine;

#endif
