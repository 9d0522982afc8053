/*
 * Opening and closing a store.
 *
 * Order of an open, and what a crash in between leaves:
 *
 *   1 directory, LOCK                 nothing yet
 *   2 CURRENT and manifest are read;  a directory with tables or logs but no CURRENT is refused: a
 *     for a new store, written        lost CURRENT must not become an empty store
 *   3 tables are opened               damaged ones are kept, unreadable; missing ones refuse
 *   4 the log is replayed into the    until the replay has succeeded nothing in an existing store has
 *     memtable, its writer set up     been changed: a refusal leaves it byte for byte as it was
 *   5 a new manifest with a new epoch  no record of the new epoch is written before this is durable
 *   6 orphans are removed, threads started
 *
 * Orphans are files with our names that the manifest does not know: tables of a flush that a crash
 * cut short, old manifests. Files by other names are left alone.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lsm/db/db.h"
#include "lsm/db/names.h"
#include "lsm/db/output.h"
#include "lsm/db/range_write.h"
#include "lsm/wal/history.h"
#include "os/thread.h"
#include "util/hash.h"

/* What the directory holds besides what the manifest says. */
struct inventory {
    uint64_t largest_number;
    uint64_t tables;
    uint64_t logs;
};

static storm_status count_name(void *ctx, const char *name)
{
    struct inventory *inventory = ctx;
    uint64_t number;
    enum sdb_file_kind kind = sdb_name_parse(name, &number);
    inventory->tables += kind == SDB_FILE_TABLE;
    inventory->logs += kind == SDB_FILE_LOG;
    if (number > inventory->largest_number)
        inventory->largest_number = number;
    return STORM_OK;
}

uint64_t sdb_lsm_next_file(void *ctx)
{
    struct sdb_lsm *db = ctx;
    pthread_mutex_lock(&db->mu);
    uint64_t number = db->next_file++;
    pthread_mutex_unlock(&db->mu);
    return number;
}

/* ---- 1: the directory ---- */

static storm_status take_directory(struct sdb_lsm *db)
{
    if (db->options.read_only)
        return STORM_OK;
    storm_status status = STORM_OK;
    if (!db->options.must_exist)
        status = sdb_mkdir(db->os, db->dir);
    if (status != STORM_OK && status != STORM_EXISTS)
        return status;
    char *path = sdb_path(db->dir, SDB_LOCK);
    if (path == NULL)
        return STORM_NO_MEMORY;
    status = sdb_lock(db->os, path, &db->lock);
    free(path);
    return status;
}

/* ---- 2: the manifest ---- */

/* Make the name of a new store's directory durable: without it the first power loss takes the whole
 * store. */
static storm_status sync_parent(struct sdb_lsm *db)
{
    char *parent = sdb_parent_path(db->dir);
    if (parent == NULL)
        return STORM_NO_MEMORY;
    storm_status status = sdb_sync_dir(db->os, parent);
    free(parent);
    return status;
}

uint64_t sdb_new_store_id(struct sdb_os *os)
{
    static _Atomic uint64_t calls;
    uint64_t call = atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    return (sdb_mix64(sdb_now_ns(os)) ^ sdb_mix64(sdb_now_ms(os) + 1) ^
            sdb_mix64((uint64_t)(uintptr_t)&call + call)) |
           1;
}

static storm_status begin_store(struct sdb_lsm *db, const struct inventory *inventory,
                                struct sdb_state *state)
{
    if (inventory->tables != 0 || inventory->logs != 0)
        return sdb_fail(db->os->errors, STORM_CORRUPT,
                        "%s: CURRENT is missing, but a store's files are there (tables: %" PRIu64
                        ", logs: %" PRIu64 ")",
                        db->dir, inventory->tables, inventory->logs);
    if (db->options.must_exist || db->options.read_only)
        return sdb_fail(db->os->errors, STORM_NOT_FOUND,
                        "%s: the directory holds no store: there is no CURRENT in it", db->dir);
    *state = (struct sdb_state){.store_id = sdb_new_store_id(db->os)};
    db->version = sdb_version_create();
    if (db->version == NULL)
        return STORM_NO_MEMORY;
    db->next_file = inventory->largest_number + 1;
    state->manifest_number = db->next_file++;
    state->log_number = db->next_file;
    state->next_file = db->next_file;
    /* Whoever made the directory, and whenever: a crash may have come between then and now. */
    storm_status status = sync_parent(db);
    if (status != STORM_OK)
        return status;
    return sdb_manifest_create(db->os, db->dir, state, db->version, &db->manifest);
}

static storm_status read_store(struct sdb_lsm *db, struct sdb_state *state)
{
    struct inventory inventory = {0};
    storm_status status = sdb_list(db->os, db->dir, count_name, &inventory);
    if (status == STORM_NOT_FOUND)
        return sdb_fail(db->os->errors, STORM_NOT_FOUND, "%s: there is no such directory", db->dir);
    if (status != STORM_OK)
        return status;
    status = sdb_manifest_read(db->os, db->dir, &db->garbage, state, &db->version);
    if (status == STORM_NOT_FOUND)
        return begin_store(db, &inventory, state);
    if (status != STORM_OK)
        return status;
    if (db->options.must_be_new)
        return sdb_fail(db->os->errors, STORM_EXISTS, "%s: there is a store here already", db->dir);
    db->next_file = state->next_file;
    if (db->next_file <= inventory.largest_number)
        db->next_file = inventory.largest_number + 1;
    return STORM_OK;
}

/* ---- 3: the tables ---- */

static storm_status open_table(struct sdb_lsm *db, struct sdb_table_file *file)
{
    char name[SDB_NAME_MAX];
    sdb_table_name(name, file->number);
    char *path = sdb_path(db->dir, name);
    if (path == NULL)
        return STORM_NO_MEMORY;
    storm_status status =
        sdb_table_open(db->os, path, file->number, file->size, db->cache, &file->table);
    free(path);
    file->open_status = status;
    if (status == STORM_OK)
        sdb_table_file_adopt(file);
    if (status == STORM_OK && db->options.map_tables)
        sdb_table_map(file->table);
    bool is_damage = status == STORM_CORRUPT || status == STORM_IO;
    file->is_quarantined = is_damage;
    if (is_damage)
        sdb_log(
            db->os->errors, STORM_LOG_ERROR,
            "event=damaged_table table=%s reason=\"%s; keys in its range answer with an error\"",
            name, storm_status_text(status));
    if (status == STORM_NOT_FOUND)
        status = sdb_fail(db->os->errors, STORM_CORRUPT,
                          "%s/%s: the manifest names this table, but it is missing", db->dir, name);
    return is_damage ? STORM_OK : status;
}

static storm_status open_tables(struct sdb_lsm *db)
{
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &db->version->levels[l];
        for (size_t i = 0; i < level->count; i++) {
            storm_status status = open_table(db, level->files[i]);
            if (status != STORM_OK)
                return status;
        }
        if (level->guide != NULL)
            sdb_guide_update(level->guide);
    }
    return STORM_OK;
}

/* ---- 4: the log ---- */

struct replay {
    struct sdb_lsm *db;
    struct sdb_range_replay ranges;
};

static storm_status replay_batch(void *ctx, uint64_t revision, struct storm_slice ops)
{
    struct replay *replay = ctx;
    struct sdb_lsm *db = replay->db;
    if (revision <= db->last_revision)
        return STORM_OK; /* in a table already */
    struct sdb_cursor cursor = sdb_cursor(ops);
    struct sdb_batch_op op;
    bool has_range = false;
    while (sdb_batch_next(&cursor, &op)) {
        has_range = has_range || op.kind == SDB_KIND_DELETE_RANGE;
        storm_status status = op.kind == SDB_KIND_DELETE_RANGE
                                  ? sdb_range_replay_add(&replay->ranges, &op, revision)
                                  : sdb_memtable_insert(db->active.table, op.key,
                                                        sdb_tag(revision, op.kind), op.value);
        if (status != STORM_OK)
            return status;
    }
    if (cursor.at == NULL && ops.size != 0)
        return sdb_fail(db->os->errors, STORM_CORRUPT,
                        "%s: the log's batch of revision %" PRIu64 " makes no sense", db->dir,
                        revision);
    if (has_range)
        db->active.ranges_logged += ops.size + SDB_RANGE_LOGGED;
    db->last_revision = revision;
    return STORM_OK;
}

static storm_status open_log(struct sdb_lsm *db, const struct sdb_state *state)
{
    struct sdb_wal_report report = {0};
    struct sdb_wal_options options = {
        .os = db->os,
        .account = &db->account,
        .dir = db->dir,
        .store_id = state->store_id,
        .epoch = state->epoch,
        .newest_segment = state->newest_log,
        .segment_bytes = sdb_segment_bytes(db),
        .retention_bytes = db->options.log_retention_bytes,
        .retention_ms = db->options.log_retention_ms,
        .flushed_revision = state->flushed_revision,
    };
    uint64_t start = sdb_now_ns(db->os);
    storm_status status;
    struct replay replay = {.db = db};
    db->last_revision = state->flushed_revision;
    if (db->options.read_only)
        status = sdb_wal_replay_kept(&options, state->log_number, replay_batch, &replay, &report,
                                     &db->history);
    else
        status = sdb_wal_open(&options, state->log_number, replay_batch, &replay, sdb_lsm_next_file,
                              db, &db->wal, &report);
    if (status == STORM_OK)
        status = sdb_range_replay_finish(&replay.ranges, db->last_revision, &db->active.ranges);
    sdb_range_replay_fini(&replay.ranges);
    if (status != STORM_OK)
        return status;
    if (db->wal != NULL)
        db->history = sdb_wal_history(db->wal);
    db->is_range_watched = db->active.ranges != NULL;
    if (!sdb_mem_is_empty(&db->active))
        db->active.first_segment = state->log_number;
    atomic_store_explicit(&db->visible, db->last_revision, memory_order_release);
    sdb_log(db->os->errors, STORM_LOG_INFO,
            "event=recovered records=%" PRIu64 " segments=%" PRIu64 " kept=%" PRIu64
            " bytes=%" PRIu64 " torn_bytes=%" PRIu64 " revision=%" PRIu64 " tables=%" PRIu64
            " duration_ms=%" PRIu64,
            report.batches, report.segments, report.kept, report.bytes, report.torn_bytes,
            db->last_revision, sdb_version_file_count(db->version),
            (sdb_now_ns(db->os) - start) / 1000000);
    return STORM_OK;
}

/* ---- 6: orphans, threads ---- */

struct orphans {
    struct sdb_lsm *db;
    uint64_t manifest_number;
};

static bool is_in_version(const struct sdb_version *version, uint64_t number)
{
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        for (size_t i = 0; i < version->levels[l].count; i++) {
            if (version->levels[l].files[i]->number == number)
                return true;
        }
    }
    return false;
}

static storm_status remove_orphan(void *ctx, const char *name)
{
    const struct orphans *orphans = ctx;
    uint64_t number;
    enum sdb_file_kind kind = sdb_name_parse(name, &number);
    bool is_orphan = (kind == SDB_FILE_TABLE && !is_in_version(orphans->db->version, number)) ||
                     (kind == SDB_FILE_MANIFEST && number != orphans->manifest_number) ||
                     kind == SDB_FILE_TEMP;
    if (!is_orphan)
        return STORM_OK;
    char *path = sdb_path(orphans->db->dir, name);
    if (path == NULL)
        return STORM_NO_MEMORY;
    /* What cannot be removed now is an orphan at the next open again. */
    (void)sdb_unlink(orphans->db->os, path);
    free(path);
    return STORM_OK;
}

static storm_status start_threads(struct sdb_lsm *db)
{
    storm_status status =
        sdb_thread_start(db->os, "storm-commit", sdb_commit_thread, db, &db->commit_thread);
    db->has_commit_thread = status == STORM_OK;
    if (status == STORM_OK)
        status = sdb_thread_start(db->os, "storm-sync", sdb_sync_thread, db, &db->sync_thread);
    db->has_sync_thread = status == STORM_OK;
    if (status == STORM_OK)
        status = sdb_thread_start(db->os, "storm-flush", sdb_flush_thread, db, &db->flush_thread);
    db->has_flush_thread = status == STORM_OK;
    if (status == STORM_OK)
        status =
            sdb_thread_start(db->os, "storm-compact", sdb_compact_thread, db, &db->compact_thread);
    db->has_compact_thread = status == STORM_OK;
    return status;
}

/* ---- The whole ---- */

/*
 * The size of a memtable that nobody has asked for. As large as may be, because tables of level 0
 * are as large as memtables and each four of them cost one rewrite of the base level; and so small
 * that the next one is not half full before this one is flushed: writes are slowed down from 0.6 of
 * the write buffer on. Past 64 MiB an insert waits for memory more than larger tables gain.
 */
static size_t own_memtable_bytes(size_t write_buffer_bytes)
{
    size_t most = (size_t)64 << 20;
    size_t bytes = write_buffer_bytes / 8 * 3;
    return bytes < most ? bytes : most;
}

struct sdb_lsm *sdb_lsm_create(struct sdb_os *os, const char *dir,
                               const struct storm_options *options)
{
    struct sdb_lsm *db = calloc(1, sizeof *db);
    if (db == NULL)
        return NULL;
    db->base.engine = &sdb_lsm_engine;
    db->options = *options;
    if (options->memtable_bytes == 0)
        db->options.memtable_bytes = own_memtable_bytes(options->write_buffer_bytes);
    sdb_tuning_init(&db->tuning, &db->options);
    db->snapshots.prev = &db->snapshots;
    db->snapshots.next = &db->snapshots;
    sdb_errors_init(&db->own_errors, options->log, options->log_ctx);
    sdb_os_posix_init(&db->own_os, &db->own_errors);
    db->os = os != NULL ? os : &db->own_os;
    pthread_mutex_init(&db->mu, NULL);
    sdb_doors_init(db);
    pthread_mutex_init(&db->manifest_mu, NULL);
    pthread_mutex_init(&db->garbage.mu, NULL);
    sdb_feeds_init(&db->feeds);
    db->garbage.account = &db->account;
    sdb_cond_init(&db->commit_cond);
    sdb_cond_init(&db->sync_cond);
    sdb_cond_init(&db->window_cond);
    sdb_cond_init(&db->room_cond);
    sdb_cond_init(&db->flush_cond);
    sdb_cond_init(&db->flushed_cond);
    sdb_cond_init(&db->compact_cond);
    db->dir = strdup(dir);
    return db;
}

/* All is given back: what the account still holds is held by nobody who may. */
static void check_account(struct sdb_lsm *db)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < SDB_FOR_COUNT; i++)
        bytes += sdb_account_bytes(&db->account, i);
    if (bytes != 0)
        sdb_log(db->os->errors, STORM_LOG_WARN,
                "event=memory_held bytes=%zu reason=\"a value or an iterator was not given back "
                "before the store was closed\"",
                bytes);
}

/* Give back everything that sdb_lsm_create and the open have made so far; the threads have
 * ended. */
void sdb_lsm_destroy(struct sdb_lsm *db)
{
    sdb_doors_fini(db);
    sdb_mem_fini(&db->active);
    for (size_t i = 0; i < db->sealed_count; i++)
        sdb_mem_fini(&db->sealed[i]);
    sdb_version_unref(db->version);
    sdb_install_fini(db);
    sdb_garbage_collect(db);
    if (db->wal == NULL)
        sdb_wal_history_destroy(db->history);
    sdb_wal_close(db->wal);
    sdb_manifest_close(db->manifest);
    sdb_overlay_destroy(db->overlay);
    sdb_cache_destroy(db->cache);
    check_account(db);
    sdb_close(db->lock);
    pthread_mutex_destroy(&db->mu);
    pthread_mutex_destroy(&db->manifest_mu);
    pthread_mutex_destroy(&db->garbage.mu);
    sdb_feeds_fini(&db->feeds);
    pthread_cond_destroy(&db->commit_cond);
    pthread_cond_destroy(&db->sync_cond);
    pthread_cond_destroy(&db->window_cond);
    pthread_cond_destroy(&db->room_cond);
    pthread_cond_destroy(&db->flush_cond);
    pthread_cond_destroy(&db->flushed_cond);
    pthread_cond_destroy(&db->compact_cond);
    sdb_errors_fini(&db->own_errors);
    free(db->dir);
    free(db);
}

static storm_status recover(struct sdb_lsm *db)
{
    struct sdb_state state;
    storm_status status = take_directory(db);
    if (status == STORM_OK)
        status = read_store(db, &state);
    if (status == STORM_OK)
        status = open_tables(db);
    if (status != STORM_OK)
        return status;
    state.epoch++;
    status = open_log(db, &state);
    if (status != STORM_OK || db->options.read_only)
        return status;
    sdb_manifest_close(db->manifest); /* of a new store: it did not know of a log yet */
    db->manifest = NULL;
    state.manifest_number = db->next_file++;
    state.next_file = db->next_file;
    state.newest_log = sdb_wal_segment(db->wal);
    status = sdb_manifest_create(db->os, db->dir, &state, db->version, &db->manifest);
    if (status != STORM_OK)
        return status;
    sdb_wal_release(db->wal, state.log_number);
    struct orphans orphans = {db, state.manifest_number};
    return sdb_list(db->os, db->dir, remove_orphan, &orphans);
}

void sdb_open_error(struct sdb_errors *errors, storm_status status, const char *dir,
                    struct storm_error *error)
{
    if (error == NULL)
        return;
    error->status = status;
    error->message[0] = '\0';
    if (errors != NULL)
        sdb_errors_newest(errors, error->message, sizeof error->message);
    if (error->message[0] == '\0')
        snprintf(error->message, sizeof error->message, "%s: %s", dir, storm_status_text(status));
}

storm_status sdb_lsm_open_on(struct sdb_os *os, const char *dir,
                             const struct storm_options *options, storm_db **db,
                             struct storm_error *error)
{
    return sdb_lsm_open_tuned(os, dir, options, NULL, db, error);
}

storm_status sdb_lsm_open_tuned(struct sdb_os *os, const char *dir,
                                const struct storm_options *options,
                                const struct sdb_tuning *tuning, storm_db **out,
                                struct storm_error *error)
{
    *out = NULL;
    struct sdb_lsm *db = sdb_lsm_create(os, dir, options);
    if (db == NULL) {
        sdb_open_error(NULL, STORM_NO_MEMORY, dir, error);
        return STORM_NO_MEMORY;
    }
    if (tuning != NULL)
        db->tuning = *tuning;
    sdb_admission_init(db);
    db->cache = sdb_cache_create(options->cache_bytes, &db->account);
    db->active.table = sdb_memtable_create(&db->account);
    db->overlay = sdb_overlay_create(&db->account);
    struct sdb_view *view = sdb_view_alloc();
    storm_status status = STORM_NO_MEMORY;
    if (db->dir != NULL && db->cache != NULL && db->active.table != NULL && db->overlay != NULL &&
        view != NULL)
        status = recover(db);
    if (status == STORM_OK) {
        sdb_view_install(db, view);
        view = NULL;
        sdb_admission_tree_changed(db);
        sdb_admission_look_at_disk(db);
        if (!options->read_only)
            status = start_threads(db);
    }
    free(view);
    if (status != STORM_OK) {
        sdb_open_error(db->os->errors, status, dir, error);
        (void)sdb_lsm_close(&db->base);
        return status;
    }
    *out = &db->base;
    return STORM_OK;
}

storm_status sdb_lsm_close(storm_db *base)
{
    struct sdb_lsm *db = sdb_lsm(base);
    pthread_mutex_lock(&db->mu);
    db->is_closing = true;
    atomic_store_explicit(&db->is_stopping, true, memory_order_relaxed);
    pthread_cond_broadcast(&db->compact_cond);
    pthread_cond_broadcast(&db->commit_cond);
    pthread_cond_broadcast(&db->sync_cond);
    pthread_cond_broadcast(&db->window_cond);
    pthread_cond_broadcast(&db->room_cond);
    pthread_cond_broadcast(&db->flush_cond);
    pthread_cond_broadcast(&db->flushed_cond);
    pthread_mutex_unlock(&db->mu);
    if (db->has_commit_thread)
        pthread_join(db->commit_thread, NULL);
    if (db->has_sync_thread)
        pthread_join(db->sync_thread, NULL);
    if (db->has_flush_thread)
        pthread_join(db->flush_thread, NULL);
    if (db->has_compact_thread)
        pthread_join(db->compact_thread, NULL);
    storm_status status = STORM_OK;
    /* An open that failed half-way has written no record, and its epoch may not be durable. */
    if (db->wal != NULL && db->has_flush_thread) {
        bool is_broken = atomic_load_explicit(&db->is_broken, memory_order_acquire);
        status = is_broken ? STORM_COMMIT_UNKNOWN : sdb_wal_finish(db->wal);
    }
    sdb_lsm_destroy(db);
    return status;
}
