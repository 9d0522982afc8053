/*
 * storm_checkpoint: a second store out of hard links to the tables of this one.
 *
 *   flush                         what is visible now is in tables
 *   take version and state        under manifest_mu, so that they are of one moment: the version's
 *                                 tables hold all revisions up to flushed_revision, and none above
 *   mkdir DIR.tmp, lock it        whoever else makes DIR is refused; what an earlier attempt left
 *                                 there is removed
 *   link the tables               the version pins them: no compaction removes their names meanwhile
 *   manifest, CURRENT             written and synced by the functions of every store
 *   rename DIR.tmp to DIR         the one moment at which DIR comes to be
 *   sync the parent
 *
 * A crash leaves no DIR or a whole one, and perhaps a DIR.tmp, which the next attempt at DIR
 * empties and uses. A failure removes what it made.
 *
 * The new store has an id of its own: the log records of the two, which go different ways from here
 * on, can not be taken for each other's. It has no log; its first open begins one. Log segments are
 * never linked, since they are written again in place; tables are never written after they were
 * finished, so a name more or less is all that the stores can do to each other's.
 *
 * A store that was opened read-only cannot flush, and one that turned read-only must not put what
 * its memtables hold into tables: both answer STORM_READ_ONLY.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lsm/db/db.h"
#include "lsm/db/names.h"

struct checkpoint {
    struct sdb_lsm *db;
    char *dir;    /* without slashes at the end */
    char *temp;   /* dir.tmp */
    char *parent; /* of both */
    struct sdb_file *lock;
    struct sdb_version *version;
    struct sdb_state state;
    bool has_temp;   /* the directory is there, and ours */
    bool is_renamed; /* it is called `dir` now */
    bool is_over;    /* nothing of it is to stay, not even the lock's file */
};

static char *without_slashes(const char *dir)
{
    size_t size = strlen(dir);
    while (size > 1 && dir[size - 1] == '/')
        size--;
    return strndup(dir, size);
}

static storm_status name_paths(struct checkpoint *checkpoint, const char *dir)
{
    checkpoint->dir = without_slashes(dir);
    checkpoint->parent = sdb_parent_path(dir);
    if (checkpoint->dir == NULL || checkpoint->parent == NULL)
        return STORM_NO_MEMORY;
    size_t size = strlen(checkpoint->dir) + sizeof ".tmp";
    checkpoint->temp = malloc(size);
    if (checkpoint->temp == NULL)
        return STORM_NO_MEMORY;
    snprintf(checkpoint->temp, size, "%s.tmp", checkpoint->dir);
    return STORM_OK;
}

static storm_status ignore_name(void *ctx, const char *name)
{
    (void)ctx;
    (void)name;
    return STORM_OK;
}

/* Whatever is under the name, directory or not, must not be replaced. */
static storm_status check_absent(struct checkpoint *checkpoint)
{
    struct sdb_os *os = checkpoint->db->os;
    struct sdb_file *file = NULL;
    storm_status status = sdb_list(os, checkpoint->dir, ignore_name, NULL);
    if (status == STORM_NOT_FOUND)
        return STORM_OK;
    if (status != STORM_OK && sdb_open(os, checkpoint->dir, SDB_OPEN_READ, &file) == STORM_OK)
        status = STORM_OK; /* there is a file */
    sdb_close(file);
    if (status != STORM_OK)
        return status;
    return sdb_fail(os->errors, STORM_EXISTS,
                    "%s: a checkpoint is made in a directory that is not there yet",
                    checkpoint->dir);
}

/* ---- The temporary directory ---- */

/* Remove the files of a store from it; others, which nobody of us put there, stay. */
static storm_status remove_file(void *ctx, const char *name)
{
    const struct checkpoint *checkpoint = ctx;
    uint64_t number;
    bool is_ours = sdb_name_parse(name, &number) != SDB_FILE_FOREIGN ||
                   strcmp(name, SDB_CURRENT) == 0 ||
                   (strcmp(name, SDB_LOCK) == 0 && checkpoint->is_over);
    if (!is_ours)
        return STORM_OK;
    char *path = sdb_path(checkpoint->temp, name);
    if (path == NULL)
        return STORM_NO_MEMORY;
    storm_status status = sdb_unlink(checkpoint->db->os, path);
    free(path);
    return status == STORM_NOT_FOUND ? STORM_OK : status;
}

static storm_status begin_temp(struct checkpoint *checkpoint)
{
    struct sdb_os *os = checkpoint->db->os;
    storm_status status = sdb_mkdir(os, checkpoint->temp);
    if (status != STORM_OK && status != STORM_EXISTS)
        return status;
    bool is_left_over = status == STORM_EXISTS;
    char *path = sdb_path(checkpoint->temp, SDB_LOCK);
    if (path == NULL)
        return STORM_NO_MEMORY;
    status = sdb_lock(os, path, &checkpoint->lock);
    checkpoint->has_temp = status == STORM_OK || (status != STORM_LOCKED && !is_left_over);
    if (status == STORM_OK && is_left_over) {
        sdb_log(os->errors, STORM_LOG_INFO, "event=checkpoint_left_over dir=%s", checkpoint->temp);
        status = sdb_list(os, checkpoint->temp, remove_file, checkpoint);
    }
    free(path);
    return status;
}

/* Undo, as far as the file system lets us. */
static void remove_temp(struct checkpoint *checkpoint)
{
    struct sdb_os *os = checkpoint->db->os;
    checkpoint->is_over = true;
    if (checkpoint->is_renamed && sdb_rename(os, checkpoint->dir, checkpoint->temp) != STORM_OK)
        return;
    if (checkpoint->has_temp && sdb_list(os, checkpoint->temp, remove_file, checkpoint) == STORM_OK)
        (void)sdb_rmdir(os, checkpoint->temp);
}

/* ---- What goes into it ---- */

/* Version and state of one moment, which is after the flush. */
static void take_state(struct checkpoint *checkpoint)
{
    struct sdb_lsm *db = checkpoint->db;
    pthread_mutex_lock(&db->manifest_mu);
    checkpoint->state = *sdb_manifest_state(db->manifest);
    pthread_mutex_lock(&db->mu);
    checkpoint->version = sdb_version_ref(db->version);
    pthread_mutex_unlock(&db->mu);
    pthread_mutex_unlock(&db->manifest_mu);
}

static storm_status link_table(struct checkpoint *checkpoint, const struct sdb_table_file *file)
{
    char name[SDB_NAME_MAX];
    sdb_table_name(name, file->number);
    char *from = sdb_path(checkpoint->db->dir, name);
    char *to = sdb_path(checkpoint->temp, name);
    storm_status status = STORM_NO_MEMORY;
    if (from != NULL && to != NULL)
        status = sdb_link(checkpoint->db->os, from, to);
    free(from);
    free(to);
    return status;
}

static storm_status link_tables(struct checkpoint *checkpoint)
{
    storm_status status = STORM_OK;
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &checkpoint->version->levels[l];
        for (size_t i = 0; i < level->count && status == STORM_OK; i++)
            status = link_table(checkpoint, level->files[i]);
    }
    return status;
}

static storm_status write_manifest(struct checkpoint *checkpoint)
{
    struct sdb_lsm *db = checkpoint->db;
    struct sdb_state *state = &checkpoint->state;
    struct sdb_manifest *manifest;
    state->store_id = sdb_new_store_id(db->os);
    state->manifest_number = state->next_file++;
    state->log_number = state->next_file;
    state->newest_log = 0;
    storm_status status =
        sdb_manifest_create(db->os, checkpoint->temp, state, checkpoint->version, &manifest);
    sdb_manifest_close(manifest);
    return status;
}

static storm_status make(struct checkpoint *checkpoint)
{
    struct sdb_os *os = checkpoint->db->os;
    storm_status status = begin_temp(checkpoint);
    if (status == STORM_OK)
        status = link_tables(checkpoint);
    if (status == STORM_OK)
        status = write_manifest(checkpoint); /* syncs the directory, links and all */
    if (status == STORM_OK)
        status = sdb_sync_dir(os, checkpoint->parent);
    if (status == STORM_OK)
        status = sdb_rename(os, checkpoint->temp, checkpoint->dir);
    checkpoint->is_renamed = status == STORM_OK;
    if (status == STORM_OK)
        status = sdb_sync_dir(os, checkpoint->parent);
    if (status != STORM_OK)
        remove_temp(checkpoint);
    return status;
}

storm_status sdb_lsm_checkpoint(storm_db *base, const char *dir, uint64_t *revision)
{
    struct sdb_lsm *db = sdb_lsm(base);
    struct checkpoint checkpoint = {.db = db};
    struct storm_flush_result flushed;
    storm_status status = name_paths(&checkpoint, dir);
    if (status == STORM_OK)
        status = check_absent(&checkpoint);
    if (status == STORM_OK)
        status = sdb_lsm_flush(base, &flushed);
    if (status == STORM_OK && atomic_load_explicit(&db->is_broken, memory_order_acquire))
        status = STORM_READ_ONLY;
    if (status == STORM_OK) {
        take_state(&checkpoint);
        status = make(&checkpoint);
    }
    if (status == STORM_OK) {
        sdb_log(db->os->errors, STORM_LOG_INFO,
                "event=checkpoint dir=%s tables=%" PRIu64 " revision=%" PRIu64, checkpoint.dir,
                sdb_version_file_count(checkpoint.version), checkpoint.state.flushed_revision);
        if (revision != NULL)
            *revision = checkpoint.state.flushed_revision;
    }
    sdb_close(checkpoint.lock);
    sdb_version_unref(checkpoint.version);
    sdb_garbage_collect(db); /* of what was replaced while the version was held */
    free(checkpoint.dir);
    free(checkpoint.temp);
    free(checkpoint.parent);
    return status;
}
