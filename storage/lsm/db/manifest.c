/*
 * Writing the manifest. The file is drawn in manifest.h; reading it is manifest_read.c's.
 *
 * Fields of a record (tag: body):
 *   1 epoch varint            2 next file varint      3 log number varint
 *   4 flushed revision varint                       7 newest log number varint
 *   5 table added:   level | number | size | entries | deletes | min revision | max revision
 *                    (varints) | smallest key | largest key (each varint length, bytes)
 *                    | [swept revision varint, unless 0]
 *   6 table removed: level | number (varints)
 *   8 range delete added, 9 removed: revision varint | start | end (each varint length, bytes)
 *
 * Order that a crash may interrupt anywhere: manifest written and synced, directory synced,
 * CURRENT.tmp written and synced, renamed over CURRENT, directory synced, old manifest removed.
 */
#include "lsm/db/manifest.h"

#include <stdio.h>
#include <stdlib.h>

#include "lsm/db/manifest_format.h"
#include "lsm/db/names.h"
#include "util/buffer.h"
#include "util/crc32c.h"

/* Some 40,000 tables' worth of edits; beyond it a fresh snapshot is shorter. */
#define ROLL_BYTES  (UINT64_C(4) << 20)
#define PAYLOAD_MAX ((size_t)1 << 30)

struct sdb_manifest {
    struct sdb_os *os;
    char *dir;
    struct sdb_file *file;
    struct sdb_state state;
    uint64_t end;
    bool must_roll;
    bool is_broken;
};

static void add_number(struct sdb_buffer *to, unsigned tag, uint64_t value)
{
    sdb_buffer_add_varint(to, tag);
    sdb_buffer_add_varint(to, sdb_varint_size(value));
    sdb_buffer_add_varint(to, value);
}

static void add_table(struct sdb_buffer *to, const struct sdb_table_file *file)
{
    uint64_t numbers[] = {file->level,   file->number,       file->size,        file->entries,
                          file->deletes, file->min_revision, file->max_revision};
    size_t size = sdb_varint_size(file->smallest.size) + file->smallest.size +
                  sdb_varint_size(file->largest.size) + file->largest.size;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        size += sdb_varint_size(numbers[i]);
    if (file->swept_revision != 0)
        size += sdb_varint_size(file->swept_revision);
    sdb_buffer_add_varint(to, SDB_FIELD_ADD);
    sdb_buffer_add_varint(to, size);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sdb_buffer_add_varint(to, numbers[i]);
    sdb_buffer_add_prefixed(to, file->smallest);
    sdb_buffer_add_prefixed(to, file->largest);
    if (file->swept_revision != 0)
        sdb_buffer_add_varint(to, file->swept_revision);
}

static void add_removed(struct sdb_buffer *to, const struct sdb_table_file *file)
{
    sdb_buffer_add_varint(to, SDB_FIELD_REMOVE);
    sdb_buffer_add_varint(to, sdb_varint_size(file->level) + sdb_varint_size(file->number));
    sdb_buffer_add_varint(to, file->level);
    sdb_buffer_add_varint(to, file->number);
}

static void add_ranges(struct sdb_buffer *to, unsigned tag, const struct sdb_range *ranges,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sdb_range *range = &ranges[i];
        sdb_buffer_add_varint(to, tag);
        sdb_buffer_add_varint(to, sdb_varint_size(range->revision) +
                                      sdb_varint_size(range->start.size) + range->start.size +
                                      sdb_varint_size(range->end.size) + range->end.size);
        sdb_buffer_add_varint(to, range->revision);
        sdb_buffer_add_prefixed(to, range->start);
        sdb_buffer_add_prefixed(to, range->end);
    }
}

/* Frame `payload`, which was built behind SDB_MANIFEST_FRAME bytes of room, and write it at
 * `end`. */
static storm_status write_record(struct sdb_file *file, uint64_t number, uint64_t *end,
                                 struct sdb_buffer *record)
{
    if (record->status != STORM_OK)
        return record->status;
    size_t size = record->size - SDB_MANIFEST_FRAME;
    while (record->size % 8 != 0)
        sdb_buffer_add_u8(record, 0);
    if (record->status != STORM_OK)
        return record->status;
    sdb_put_u32(record->data + 4, (uint32_t)size);
    sdb_put_u32(record->data, sdb_manifest_crc(number, *end, record->data + 4, size + 4));
    storm_status status = sdb_pwrite(file, *end, record->data, record->size);
    if (status == STORM_OK)
        *end += record->size;
    return status;
}

static void begin_record(struct sdb_buffer *record)
{
    static const uint8_t frame[SDB_MANIFEST_FRAME];
    sdb_buffer_clear(record);
    sdb_buffer_add(record, frame, sizeof frame);
}

static storm_status write_whole_state(struct sdb_file *file, const struct sdb_state *state,
                                      const struct sdb_version *version, uint64_t *end)
{
    struct sdb_buffer record;
    sdb_buffer_init(&record, PAYLOAD_MAX);
    uint8_t header[SDB_MANIFEST_HEADER] = {0};
    memcpy(header, SDB_MANIFEST_MAGIC, 8);
    sdb_put_u32(header + 8, SDB_MANIFEST_FORMAT);
    sdb_put_u64(header + 16, state->manifest_number);
    sdb_put_u64(header + 24, state->store_id);
    sdb_put_u32(header + 32, sdb_crc32c(0, header, 32));
    storm_status status = sdb_pwrite(file, 0, header, sizeof header);
    *end = sizeof header;
    if (status == STORM_OK) {
        begin_record(&record);
        add_number(&record, SDB_FIELD_EPOCH, state->epoch);
        add_number(&record, SDB_FIELD_NEXT_FILE, state->next_file);
        add_number(&record, SDB_FIELD_LOG_NUMBER, state->log_number);
        add_number(&record, SDB_FIELD_NEWEST_LOG, state->newest_log);
        add_number(&record, SDB_FIELD_FLUSHED, state->flushed_revision);
        for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
            for (size_t i = 0; i < version->levels[l].count; i++)
                add_table(&record, version->levels[l].files[i]);
        }
        if (version->ranges != NULL)
            add_ranges(&record, SDB_FIELD_ADD_RANGE, version->ranges->list, version->ranges->count);
        status = write_record(file, state->manifest_number, end, &record);
    }
    sdb_buffer_fini(&record);
    return status;
}

/* How far an attempt at a new manifest came, for what its failure means. */
struct attempt {
    bool sync_failed;    /* final: the kernel may have dropped what it could not write */
    bool may_be_current; /* CURRENT may name it */
};

static storm_status sync_in(struct attempt *attempt, storm_status status)
{
    attempt->sync_failed = attempt->sync_failed || status != STORM_OK;
    return status;
}

/* Write the line for manifest `number` to a fresh file at `temp` and sync it. */
static storm_status write_current(struct sdb_os *os, const char *temp, uint64_t number,
                                  struct attempt *attempt)
{
    char name[SDB_NAME_MAX];
    char line[SDB_NAME_MAX + 16];
    struct sdb_file *file = NULL;
    sdb_manifest_name(name, number);
    int size = snprintf(line, sizeof line, "%s %08x\n", name, sdb_crc32c(0, name, strlen(name)));
    storm_status status = sdb_unlink(os, temp);
    if (status == STORM_OK || status == STORM_NOT_FOUND)
        status = sdb_open(os, temp, SDB_OPEN_CREATE, &file);
    if (status == STORM_OK)
        status = sdb_pwrite(file, 0, line, (size_t)size);
    if (status == STORM_OK)
        status = sync_in(attempt, sdb_sync(file));
    sdb_close(file);
    return status;
}

/* Point CURRENT at manifest `number`, durably. */
static storm_status set_current(struct sdb_os *os, const char *dir, uint64_t number,
                                struct attempt *attempt)
{
    storm_status status = STORM_NO_MEMORY;
    char *temp = sdb_path(dir, SDB_CURRENT_TEMP);
    char *current = sdb_path(dir, SDB_CURRENT);
    if (temp != NULL && current != NULL)
        status = write_current(os, temp, number, attempt);
    if (status == STORM_OK) {
        attempt->may_be_current = true;
        status = sdb_rename(os, temp, current);
    }
    if (status == STORM_OK)
        status = sync_in(attempt, sdb_sync_dir(os, dir));
    free(temp);
    free(current);
    return status;
}

static storm_status unlink_manifest(struct sdb_os *os, const char *dir, uint64_t number)
{
    char name[SDB_NAME_MAX];
    sdb_manifest_name(name, number);
    char *path = sdb_path(dir, name);
    if (path == NULL)
        return STORM_NO_MEMORY;
    storm_status status = sdb_unlink(os, path);
    free(path);
    return status;
}

/* Write manifest `state->manifest_number` and make it the current one. */
static storm_status begin_manifest(struct sdb_os *os, const char *dir,
                                   const struct sdb_state *state, const struct sdb_version *version,
                                   struct sdb_file **file, uint64_t *end, struct attempt *attempt)
{
    char name[SDB_NAME_MAX];
    sdb_manifest_name(name, state->manifest_number);
    *file = NULL;
    *attempt = (struct attempt){false, false};
    char *path = sdb_path(dir, name);
    if (path == NULL)
        return STORM_NO_MEMORY;
    /* A manifest of this number can only be left over from an attempt that did not get to
     * CURRENT. */
    storm_status status = sdb_unlink(os, path);
    if (status == STORM_OK || status == STORM_NOT_FOUND)
        status = sdb_open(os, path, SDB_OPEN_CREATE, file);
    if (status == STORM_OK)
        status = write_whole_state(*file, state, version, end);
    if (status == STORM_OK)
        status = sync_in(attempt, sdb_sync(*file));
    if (status == STORM_OK)
        status = sync_in(attempt, sdb_sync_dir(os, dir));
    if (status == STORM_OK)
        status = set_current(os, dir, state->manifest_number, attempt);
    if (status != STORM_OK) {
        bool was_created = *file != NULL;
        sdb_close(*file);
        *file = NULL;
        /* On a full disk a new attempt comes every second: none may leave a file behind. */
        if (was_created && !attempt->sync_failed && !attempt->may_be_current)
            (void)sdb_unlink(os, path);
    }
    free(path);
    return status;
}

storm_status sdb_manifest_create(struct sdb_os *os, const char *dir, const struct sdb_state *state,
                                 const struct sdb_version *version, struct sdb_manifest **manifest)
{
    *manifest = NULL;
    struct sdb_manifest *made = calloc(1, sizeof *made);
    if (made == NULL)
        return STORM_NO_MEMORY;
    made->os = os;
    made->state = *state;
    made->dir = strdup(dir);
    storm_status status = made->dir == NULL ? STORM_NO_MEMORY : STORM_OK;
    struct attempt attempt;
    if (status == STORM_OK)
        status = begin_manifest(os, dir, state, version, &made->file, &made->end, &attempt);
    if (status != STORM_OK) {
        sdb_manifest_close(made);
        return status;
    }
    *manifest = made;
    return STORM_OK;
}

/* Leave the present file behind and begin a new one that holds `after`. */
static storm_status roll(struct sdb_manifest *manifest, struct sdb_state *state,
                         const struct sdb_version *after, uint64_t *next_file)
{
    struct sdb_file *file;
    uint64_t end;
    uint64_t old_number = manifest->state.manifest_number;
    state->manifest_number = (*next_file)++;
    state->next_file = *next_file;
    struct attempt attempt;
    storm_status status =
        begin_manifest(manifest->os, manifest->dir, state, after, &file, &end, &attempt);
    if (status != STORM_OK) {
        /* Which of the two manifests counts is open after a failed rename or sync: write to
         * neither. */
        manifest->is_broken = attempt.sync_failed || attempt.may_be_current;
        return status;
    }
    sdb_close(manifest->file);
    manifest->file = file;
    manifest->end = end;
    manifest->must_roll = false;
    /* Left over at worst: the next open removes it. */
    (void)unlink_manifest(manifest->os, manifest->dir, old_number);
    return STORM_OK;
}

static storm_status append_record(struct sdb_manifest *manifest, const struct sdb_edit *edit,
                                  const struct sdb_state *state)
{
    struct sdb_buffer record;
    sdb_buffer_init(&record, PAYLOAD_MAX);
    begin_record(&record);
    add_number(&record, SDB_FIELD_NEXT_FILE, state->next_file);
    if (edit->has_log_number) {
        add_number(&record, SDB_FIELD_LOG_NUMBER, edit->log_number);
        add_number(&record, SDB_FIELD_NEWEST_LOG, edit->newest_log);
    }
    if (edit->has_flushed_revision)
        add_number(&record, SDB_FIELD_FLUSHED, edit->flushed_revision);
    for (size_t i = 0; i < edit->removed_count; i++)
        add_removed(&record, edit->removed[i]);
    for (size_t i = 0; i < edit->added_count; i++)
        add_table(&record, edit->added[i]);
    add_ranges(&record, SDB_FIELD_REMOVE_RANGE, edit->ranges_removed, edit->ranges_removed_count);
    add_ranges(&record, SDB_FIELD_ADD_RANGE, edit->ranges_added, edit->ranges_added_count);
    storm_status status =
        write_record(manifest->file, manifest->state.manifest_number, &manifest->end, &record);
    sdb_buffer_fini(&record);
    if (status != STORM_OK) {
        manifest->must_roll = true;
        return status;
    }
    status = sdb_sync(manifest->file);
    if (status != STORM_OK)
        manifest->is_broken = true;
    return status;
}

storm_status sdb_manifest_append(struct sdb_manifest *manifest, const struct sdb_edit *edit,
                                 const struct sdb_version *after, uint64_t *next_file)
{
    if (manifest->is_broken)
        return STORM_READ_ONLY;
    struct sdb_state state = manifest->state;
    state.next_file = *next_file;
    if (edit->has_log_number) {
        state.log_number = edit->log_number;
        state.newest_log = edit->newest_log;
    }
    if (edit->has_flushed_revision)
        state.flushed_revision = edit->flushed_revision;
    storm_status status;
    if (manifest->must_roll || manifest->end > ROLL_BYTES)
        status = roll(manifest, &state, after, next_file);
    else
        status = append_record(manifest, edit, &state);
    if (status == STORM_OK)
        manifest->state = state;
    return status;
}

bool sdb_manifest_is_broken(const struct sdb_manifest *manifest)
{
    return manifest->is_broken;
}

bool sdb_manifest_is_in_doubt(const struct sdb_manifest *manifest)
{
    return manifest->is_broken || manifest->must_roll;
}

const struct sdb_state *sdb_manifest_state(const struct sdb_manifest *manifest)
{
    return &manifest->state;
}

void sdb_manifest_close(struct sdb_manifest *manifest)
{
    if (manifest == NULL)
        return;
    sdb_close(manifest->file);
    free(manifest->dir);
    free(manifest);
}
