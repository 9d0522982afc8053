/*
 * The public API: checks arguments, chooses the engine by the form of the target, calls through its
 * table. No state of its own.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

const char *storm_version(void)
{
    return STORM_VERSION;
}

void storm_options_init(struct storm_options *options)
{
    *options = (struct storm_options){
        .write_buffer_bytes = 64 * MIB,
        .cache_bytes = 64 * MIB,
        .sync = STORM_SYNC_FULL,
        .sync_interval_ms = 100,
        .codec = STORM_CODEC_DEFLATE,
        .block_bytes = 4 * KIB,
        .bloom_bits = 10.5,
        .map_tables = true,
        .max_key_bytes = 4 * KIB,
        .max_value_bytes = 32 * MIB,
        .max_batch_bytes = 64 * MIB,
        .log_retention_bytes = 64 * MIB,
    };
}

/* ---- Checking options ---- */

static storm_status refuse(struct storm_error *error, storm_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static storm_status refuse(struct storm_error *error, storm_status status, const char *format, ...)
{
    if (error != NULL) {
        va_list arguments;
        va_start(arguments, format);
        error->status = status;
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
    }
    return status;
}

static storm_status check_sizes(const struct storm_options *options, struct storm_error *error)
{
    const struct {
        const char *name;
        size_t value, low, high;
    } sizes[] = {
        {"memtable_bytes", options->memtable_bytes, options->memtable_bytes == 0 ? 0 : 64 * KIB,
         GIB},
        {"write_buffer_bytes", options->write_buffer_bytes, MIB, 16 * GIB},
        {"block_bytes", options->block_bytes, KIB, 64 * KIB},
        {"max_key_bytes", options->max_key_bytes, 1, 65535},
        {"max_value_bytes", options->max_value_bytes, 1, GIB},
        {"max_batch_bytes", options->max_batch_bytes, 1, GIB},
        {"sync_interval_ms", options->sync_interval_ms, 1, 60000},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (sizes[i].value < sizes[i].low || sizes[i].value > sizes[i].high)
            return refuse(error, STORM_INVALID, "%s is %zu; it takes %zu to %zu", sizes[i].name,
                          sizes[i].value, sizes[i].low, sizes[i].high);
    }
    if (options->write_buffer_bytes < options->memtable_bytes)
        return refuse(error, STORM_INVALID,
                      "write_buffer_bytes is %zu; it takes at least memtable_bytes, which is %zu",
                      options->write_buffer_bytes, options->memtable_bytes);
    return STORM_OK;
}

/* What zlib, LZ4 and Zstandard have; none has no levels. Tables refuse more, which would be too
 * late. */
static const int highest_level[] = {
    [STORM_CODEC_DEFLATE] = 9, [STORM_CODEC_LZ4] = 12, [STORM_CODEC_ZSTD] = 19};

static storm_status check_options(const struct storm_options *options, struct storm_error *error)
{
    storm_status status = check_sizes(options, error);
    if (status != STORM_OK)
        return status;
    if (options->sync < STORM_SYNC_FULL || options->sync > STORM_SYNC_NONE)
        return refuse(error, STORM_INVALID,
                      "sync is %d; it takes STORM_SYNC_FULL, STORM_SYNC_INTERVAL or "
                      "STORM_SYNC_NONE",
                      (int)options->sync);
    if (options->codec > STORM_CODEC_ZSTD)
        return refuse(error, STORM_INVALID, "codec is %d; it takes none, deflate, lz4 or zstd",
                      (int)options->codec);
    if (options->codec_level < 0 || options->codec_level > highest_level[options->codec])
        return refuse(error, STORM_INVALID, "codec_level is %d; this codec takes 0 to %d",
                      options->codec_level, highest_level[options->codec]);
    bool is_filter_sane = options->bloom_bits >= 4.0 && options->bloom_bits <= 32.0;
    if (options->bloom_bits != 0.0 && !is_filter_sane)
        return refuse(error, STORM_INVALID, "bloom_bits is %g; it takes 0 or 4 to 32",
                      options->bloom_bits);
    if (options->log_retention_bytes > (uint64_t)1 << 40)
        return refuse(error, STORM_INVALID, "log_retention_bytes is %llu; it takes 0 to 1 TiB",
                      (unsigned long long)options->log_retention_bytes);
    if (options->must_exist && options->must_be_new)
        return refuse(error, STORM_INVALID, "must_exist and must_be_new exclude each other");
    return STORM_OK;
}

/* "scheme://": a letter, then letters and digits, then "://". */
static bool is_url(const char *target)
{
    size_t i = 0;
    while (isalnum((unsigned char)target[i]))
        i++;
    return i != 0 && isalpha((unsigned char)target[0]) && strncmp(target + i, "://", 3) == 0;
}

/* The engine for a target. */
static storm_status find_engine(const char *target, const struct sdb_engine **engine,
                                struct storm_error *error)
{
    if (error != NULL)
        *error = (struct storm_error){0};
    if (target == NULL || target[0] == '\0')
        return refuse(error, STORM_INVALID, "the target is empty; it takes a directory");
    if (is_url(target))
        return refuse(error, STORM_UNSUPPORTED,
                      "this build has no engine for %s; it takes a directory", target);
    *engine = &sdb_lsm_engine;
    return STORM_OK;
}

storm_status storm_open(const char *target, const struct storm_options *options, storm_db **db,
                        struct storm_error *error)
{
    const struct sdb_engine *engine;
    struct storm_options defaults;
    *db = NULL;
    storm_status status = find_engine(target, &engine, error);
    if (status != STORM_OK)
        return status;
    if (options == NULL) {
        storm_options_init(&defaults);
        options = &defaults;
    }
    status = check_options(options, error);
    return status != STORM_OK ? status : engine->open(target, options, db, error);
}

storm_status storm_close(storm_db *db)
{
    return db == NULL ? STORM_OK : db->engine->close(db);
}

void storm_last_error(storm_db *db, char *text, size_t size)
{
    db->engine->last_error(db, text, size);
}

/* ---- Writing ---- */

static storm_status check_batch(const storm_batch *batch)
{
    return batch == NULL || storm_batch_count(batch) == 0 ? STORM_INVALID : STORM_OK;
}

storm_status storm_write(storm_db *db, storm_batch *batch,
                         const struct storm_write_options *options, uint64_t *revision)
{
    if (revision != NULL)
        *revision = 0;
    storm_status status = check_batch(batch);
    return status != STORM_OK ? status : db->engine->write(db, batch, options, revision);
}

storm_status storm_write_async(storm_db *db, storm_batch *batch,
                               const struct storm_write_options *options, storm_write_fn done,
                               void *ctx, uint64_t *revision)
{
    if (revision != NULL)
        *revision = 0;
    storm_status status = check_batch(batch);
    if (status == STORM_OK && done == NULL)
        status = STORM_INVALID;
    return status != STORM_OK ? status
                              : db->engine->write_async(db, batch, options, done, ctx, revision);
}

static storm_status write_one(storm_db *db, const struct storm_op *op)
{
    storm_batch *batch = storm_batch_create();
    if (batch == NULL)
        return STORM_NO_MEMORY;
    storm_status status = storm_batch_add(batch, op);
    if (status == STORM_OK)
        status = storm_write(db, batch, NULL, NULL);
    storm_batch_destroy(batch);
    return status;
}

storm_status storm_put(storm_db *db, struct storm_slice key, struct storm_slice value)
{
    return write_one(db, &(struct storm_op){.kind = STORM_PUT, .key = key, .value = value});
}

storm_status storm_delete(storm_db *db, struct storm_slice key)
{
    return write_one(db, &(struct storm_op){.kind = STORM_DELETE, .key = key});
}

storm_status storm_delete_range(storm_db *db, struct storm_slice start, struct storm_slice end)
{
    return write_one(db, &(struct storm_op){.kind = STORM_DELETE_RANGE, .key = start, .end = end});
}

unsigned storm_busy_ms(storm_db *db)
{
    return db->engine->busy_ms == NULL ? 1 : db->engine->busy_ms(db);
}

/* ---- Reading ---- */

storm_snapshot *storm_snapshot_create(storm_db *db)
{
    return db->engine->snapshot_create == NULL ? NULL : db->engine->snapshot_create(db);
}

void storm_snapshot_release(storm_snapshot *snapshot)
{
    if (snapshot != NULL)
        snapshot->db->engine->snapshot_release(snapshot);
}

uint64_t storm_snapshot_revision(const storm_snapshot *snapshot)
{
    return snapshot->revision;
}

storm_status storm_get(storm_db *db, const storm_snapshot *snapshot, struct storm_slice key,
                       struct storm_value *value)
{
    *value = (struct storm_value){0};
    if (key.size == 0)
        return STORM_INVALID;
    return db->engine->get(db, snapshot, key, value);
}

static void free_copy(void *pin)
{
    free(pin);
}

storm_status storm_value_detach(struct storm_value *value)
{
    if (value->unpin == NULL || value->unpin == free_copy)
        return STORM_OK;
    size_t size = value->bytes.size + value->meta.type.size;
    uint8_t *copy = malloc(size != 0 ? size : 1);
    if (copy == NULL)
        return STORM_NO_MEMORY;
    struct storm_value detached = *value;
    detached.bytes.data = copy;
    detached.meta.type.data = copy + value->bytes.size;
    detached.pin = copy;
    detached.unpin = free_copy;
    if (value->bytes.size != 0)
        memcpy(copy, value->bytes.data, value->bytes.size);
    if (value->meta.type.size != 0)
        memcpy(copy + value->bytes.size, value->meta.type.data, value->meta.type.size);
    value->unpin(value->pin);
    *value = detached;
    return STORM_OK;
}

storm_status storm_get_many(storm_db *db, const storm_snapshot *snapshot,
                            struct storm_lookup *lookups, size_t count, uint64_t *revision)
{
    if (revision != NULL)
        *revision = 0;
    for (size_t i = 0; i < count; i++) {
        lookups[i].status = STORM_UNSUPPORTED;
        lookups[i].value = (struct storm_value){0};
    }
    if (db->engine->get_many == NULL)
        return STORM_UNSUPPORTED;
    return db->engine->get_many(db, snapshot, lookups, count, revision);
}

storm_status storm_iter_create(storm_db *db, const struct storm_iter_options *options,
                               storm_iter **iter)
{
    static const struct storm_iter_options everything;
    *iter = NULL;
    return db->engine->iter_create(db, options == NULL ? &everything : options, iter);
}

void storm_iter_destroy(storm_iter *iter)
{
    if (iter != NULL)
        iter->db->engine->iter_destroy(iter);
}

void storm_iter_first(storm_iter *iter)
{
    iter->db->engine->iter_first(iter);
}

void storm_iter_last(storm_iter *iter)
{
    iter->db->engine->iter_last(iter);
}

void storm_iter_seek(storm_iter *iter, struct storm_slice key)
{
    iter->db->engine->iter_seek(iter, key);
}

void storm_iter_seek_back(storm_iter *iter, struct storm_slice key)
{
    iter->db->engine->iter_seek_back(iter, key);
}

void storm_iter_resume(storm_iter *iter)
{
    if (iter->status == STORM_MORE)
        iter->db->engine->iter_resume(iter);
}

void storm_iter_next(storm_iter *iter)
{
    if (iter->valid)
        iter->db->engine->iter_next(iter);
}

void storm_iter_prev(storm_iter *iter)
{
    if (iter->valid)
        iter->db->engine->iter_prev(iter);
}

bool storm_iter_valid(const storm_iter *iter)
{
    return iter->valid;
}

storm_status storm_iter_status(const storm_iter *iter)
{
    return iter->status;
}

struct storm_slice storm_iter_key(const storm_iter *iter)
{
    return iter->key;
}

struct storm_slice storm_iter_value(const storm_iter *iter)
{
    return iter->value;
}

struct storm_meta storm_iter_meta(const storm_iter *iter)
{
    return iter->meta;
}

uint64_t storm_iter_revision(const storm_iter *iter)
{
    return iter->revision;
}

/* ---- Change feed ---- */

storm_status storm_feed_open(storm_db *db, uint64_t from, storm_feed **feed)
{
    *feed = NULL;
    return db->engine->feed_open == NULL ? STORM_UNSUPPORTED
                                         : db->engine->feed_open(db, from, feed);
}

void storm_feed_close(storm_feed *feed)
{
    if (feed != NULL)
        feed->db->engine->feed_close(feed);
}

storm_status storm_feed_next(storm_feed *feed, struct storm_change *change)
{
    *change = (struct storm_change){0};
    return feed->db->engine->feed_next(feed, change);
}

storm_status storm_feed_wait(storm_feed *feed, unsigned timeout_ms)
{
    return feed->db->engine->feed_wait(feed, timeout_ms);
}

void storm_feed_interrupt(storm_feed *feed)
{
    feed->db->engine->feed_interrupt(feed);
}

storm_status storm_feed_notify(storm_feed *feed, void (*ready)(void *ctx), void *ctx)
{
    return feed->db->engine->feed_notify(feed, ready, ctx);
}

/* ---- Maintenance ---- */

storm_status storm_flush(storm_db *db, struct storm_flush_result *result)
{
    struct storm_flush_result unused;
    if (result == NULL)
        result = &unused;
    *result = (struct storm_flush_result){0};
    return db->engine->flush == NULL ? STORM_UNSUPPORTED : db->engine->flush(db, result);
}

storm_status storm_compact(storm_db *db, struct storm_slice start, struct storm_slice end,
                           storm_progress_fn progress, void *ctx)
{
    if (db->engine->compact == NULL)
        return STORM_UNSUPPORTED;
    return db->engine->compact(db, start, end, progress, ctx);
}

storm_status storm_checkpoint(storm_db *db, const char *dir, uint64_t *revision)
{
    if (revision != NULL)
        *revision = 0;
    if (dir == NULL || dir[0] == '\0')
        return STORM_INVALID;
    return db->engine->checkpoint == NULL ? STORM_UNSUPPORTED
                                          : db->engine->checkpoint(db, dir, revision);
}

storm_status storm_verify(storm_db *db, storm_progress_fn progress, storm_report_fn report,
                          void *ctx, struct storm_verify_result *result)
{
    struct storm_verify_result unused;
    if (result == NULL)
        result = &unused;
    *result = (struct storm_verify_result){0};
    return db->engine->verify == NULL ? STORM_UNSUPPORTED
                                      : db->engine->verify(db, progress, report, ctx, result);
}

storm_status storm_repair(const char *dir, storm_report_fn report, void *ctx,
                          struct storm_repair_result *result, struct storm_error *error)
{
    const struct sdb_engine *engine;
    struct storm_repair_result unused;
    if (result == NULL)
        result = &unused;
    *result = (struct storm_repair_result){0};
    storm_status status = find_engine(dir, &engine, error);
    if (status != STORM_OK)
        return status;
    if (engine->repair == NULL)
        return refuse(error, STORM_UNSUPPORTED, "the %s engine cannot repair", engine->name);
    return engine->repair(dir, report, ctx, result, error);
}

storm_status storm_stats_read(storm_db *db, struct storm_stats *stats)
{
    *stats = (struct storm_stats){0};
    return db->engine->stats(db, stats);
}
