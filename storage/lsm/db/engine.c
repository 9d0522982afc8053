/* The embedded engine's table of functions. */
#include "lsm/db/db.h"

static storm_status lsm_open(const char *target, const struct storm_options *options, storm_db **db,
                             struct storm_error *error)
{
    return sdb_lsm_open_on(NULL, target, options, db, error);
}

static void lsm_last_error(storm_db *db, char *text, size_t size)
{
    sdb_errors_newest(sdb_lsm(db)->os->errors, text, size);
}

const struct sdb_engine sdb_lsm_engine = {
    .name = "lsm",
    .open = lsm_open,
    .close = sdb_lsm_close,
    .last_error = lsm_last_error,
    .write = sdb_lsm_write,
    .write_async = sdb_lsm_write_async,
    .busy_ms = sdb_lsm_busy_ms,
    .get = sdb_lsm_get,
    .get_many = sdb_lsm_get_many,
    .snapshot_create = sdb_lsm_snapshot_create,
    .snapshot_release = sdb_lsm_snapshot_release,
    .iter_create = sdb_lsm_iter_create,
    .iter_destroy = sdb_lsm_iter_destroy,
    .iter_first = sdb_lsm_iter_first,
    .iter_last = sdb_lsm_iter_last,
    .iter_seek = sdb_lsm_iter_seek,
    .iter_seek_back = sdb_lsm_iter_seek_back,
    .iter_next = sdb_lsm_iter_next,
    .iter_prev = sdb_lsm_iter_prev,
    .iter_resume = sdb_lsm_iter_resume,
    .feed_open = sdb_lsm_feed_open,
    .feed_close = sdb_lsm_feed_close,
    .feed_next = sdb_lsm_feed_next,
    .feed_wait = sdb_lsm_feed_wait,
    .feed_interrupt = sdb_lsm_feed_interrupt,
    .feed_notify = sdb_lsm_feed_notify,
    .flush = sdb_lsm_flush,
    .compact = sdb_lsm_compact,
    .checkpoint = sdb_lsm_checkpoint,
    .verify = sdb_lsm_verify,
    .repair = sdb_lsm_repair,
    .stats = sdb_lsm_stats,
};
