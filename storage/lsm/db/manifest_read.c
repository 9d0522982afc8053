/*
 * Reading the manifest at open: CURRENT, header, records; nothing is written.
 *
 * A set of files grows and shrinks as records are applied; at the end it becomes a version. An edit
 * that adds a table which is there, or removes one which is not, is corruption, as is a table out
 * of order in a sorted level. Range deletes likewise.
 */
#include "lsm/db/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lsm/db/manifest_format.h"
#include "lsm/db/names.h"

/* Far above any real manifest (4 MiB and one record). */
#define MANIFEST_MAX (UINT64_C(1) << 30)

struct sdb_file_set {
    struct sdb_garbage *garbage;
    struct sdb_table_file **files;
    size_t count;
    size_t room;
    struct sdb_range *ranges; /* start and end of each in one block, owned */
    size_t range_count;
    size_t range_room;
};

struct sdb_file_set *sdb_file_set_create(struct sdb_garbage *garbage)
{
    struct sdb_file_set *set = calloc(1, sizeof *set);
    if (set != NULL)
        set->garbage = garbage;
    return set;
}

void sdb_file_set_destroy(struct sdb_file_set *set)
{
    if (set == NULL)
        return;
    for (size_t i = 0; i < set->count; i++)
        sdb_table_file_unref(set->files[i]);
    for (size_t i = 0; i < set->range_count; i++)
        free((void *)(uintptr_t)set->ranges[i].start.data);
    free(set->ranges);
    free(set->files);
    free(set);
}

static size_t find_file(const struct sdb_file_set *set, uint64_t number)
{
    size_t i = 0;
    while (i < set->count && set->files[i]->number != number)
        i++;
    return i;
}

static storm_status decode_added(struct sdb_cursor *body, struct sdb_file_set *set)
{
    uint64_t level, number, size, entries, deletes, min_revision, max_revision;
    uint64_t swept = 0;
    struct storm_slice smallest, largest;
    if (!sdb_read_varint(body, &level) || !sdb_read_varint(body, &number) ||
        !sdb_read_varint(body, &size) || !sdb_read_varint(body, &entries) ||
        !sdb_read_varint(body, &deletes) || !sdb_read_varint(body, &min_revision) ||
        !sdb_read_varint(body, &max_revision) || !sdb_read_prefixed(body, &smallest) ||
        !sdb_read_prefixed(body, &largest))
        return STORM_CORRUPT;
    if (sdb_cursor_left(body) != 0 && (!sdb_read_varint(body, &swept) || swept == 0 ||
                                       swept > SDB_MAX_REVISION || sdb_cursor_left(body) != 0))
        return STORM_CORRUPT;
    if (level >= STORM_MAX_LEVELS || sdb_key_compare(smallest, largest) > 0 ||
        find_file(set, number) != set->count)
        return STORM_CORRUPT;
    if (set->count == set->room) {
        size_t room = set->room == 0 ? 64 : set->room * 2;
        struct sdb_table_file **files = realloc(set->files, room * sizeof(struct sdb_table_file *));
        if (files == NULL)
            return STORM_NO_MEMORY;
        set->files = files;
        set->room = room;
    }
    struct sdb_table_file *file =
        sdb_table_file_create(number, size, (unsigned)level, smallest, largest, set->garbage);
    if (file == NULL)
        return STORM_NO_MEMORY;
    file->entries = entries;
    file->deletes = deletes;
    file->min_revision = min_revision;
    file->max_revision = max_revision;
    file->swept_revision = swept;
    set->files[set->count++] = file;
    return STORM_OK;
}

static storm_status decode_removed(struct sdb_cursor *body, struct sdb_file_set *set)
{
    uint64_t level, number;
    if (!sdb_read_varint(body, &level) || !sdb_read_varint(body, &number) ||
        sdb_cursor_left(body) != 0)
        return STORM_CORRUPT;
    size_t i = find_file(set, number);
    if (i == set->count || set->files[i]->level != level)
        return STORM_CORRUPT;
    sdb_table_file_unref(set->files[i]);
    set->files[i] = set->files[--set->count];
    return STORM_OK;
}

static storm_status decode_range(struct sdb_cursor *body, struct sdb_range *range)
{
    if (!sdb_read_varint(body, &range->revision) || !sdb_read_prefixed(body, &range->start) ||
        !sdb_read_prefixed(body, &range->end) || sdb_cursor_left(body) != 0)
        return STORM_CORRUPT;
    bool is_sound =
        range->revision != 0 && range->revision <= SDB_MAX_REVISION && !sdb_range_is_empty(range);
    return is_sound ? STORM_OK : STORM_CORRUPT;
}

static size_t find_range(const struct sdb_file_set *set, const struct sdb_range *range)
{
    size_t i = 0;
    while (i < set->range_count && sdb_range_compare(&set->ranges[i], range) != 0)
        i++;
    return i;
}

static storm_status decode_range_added(struct sdb_cursor *body, struct sdb_file_set *set)
{
    struct sdb_range range;
    storm_status status = decode_range(body, &range);
    if (status != STORM_OK)
        return status;
    if (find_range(set, &range) != set->range_count)
        return STORM_CORRUPT;
    if (set->range_count == set->range_room) {
        size_t room = set->range_room == 0 ? 16 : set->range_room * 2;
        struct sdb_range *ranges = realloc(set->ranges, room * sizeof *ranges);
        if (ranges == NULL)
            return STORM_NO_MEMORY;
        set->ranges = ranges;
        set->range_room = room;
    }
    uint8_t *keys = malloc(range.start.size + range.end.size + 1);
    if (keys == NULL)
        return STORM_NO_MEMORY;
    if (range.start.size != 0)
        memcpy(keys, range.start.data, range.start.size);
    if (range.end.size != 0)
        memcpy(keys + range.start.size, range.end.data, range.end.size);
    range.start.data = keys;
    range.end.data = keys + range.start.size;
    set->ranges[set->range_count++] = range;
    return STORM_OK;
}

static storm_status decode_range_removed(struct sdb_cursor *body, struct sdb_file_set *set)
{
    struct sdb_range range;
    storm_status status = decode_range(body, &range);
    if (status != STORM_OK)
        return status;
    size_t i = find_range(set, &range);
    if (i == set->range_count)
        return STORM_CORRUPT;
    free((void *)(uintptr_t)set->ranges[i].start.data);
    set->ranges[i] = set->ranges[--set->range_count];
    return STORM_OK;
}

/* A field that is more than a number; *is_known says whether it was one. */
static storm_status decode_part(uint64_t tag, struct sdb_cursor *body, struct sdb_file_set *set,
                                bool *is_known)
{
    *is_known = true;
    switch (tag) {
    case SDB_FIELD_ADD:
        return decode_added(body, set);
    case SDB_FIELD_REMOVE:
        return decode_removed(body, set);
    case SDB_FIELD_ADD_RANGE:
        return decode_range_added(body, set);
    case SDB_FIELD_REMOVE_RANGE:
        return decode_range_removed(body, set);
    default:
        *is_known = false;
        return STORM_OK;
    }
}

storm_status sdb_manifest_decode(struct storm_slice payload, struct sdb_state *state,
                                 struct sdb_file_set *set)
{
    struct sdb_cursor cursor = sdb_cursor(payload);
    while (sdb_cursor_left(&cursor) != 0) {
        uint64_t tag, value = 0;
        struct storm_slice bytes;
        if (!sdb_read_varint(&cursor, &tag) || !sdb_read_prefixed(&cursor, &bytes))
            return STORM_CORRUPT;
        struct sdb_cursor body = sdb_cursor(bytes);
        bool is_part;
        storm_status status = decode_part(tag, &body, set, &is_part);
        if (status != STORM_OK)
            return status;
        if (is_part)
            continue;
        if (!sdb_read_varint(&body, &value) || sdb_cursor_left(&body) != 0)
            return STORM_CORRUPT;
        if (tag == SDB_FIELD_EPOCH && value <= UINT32_MAX)
            state->epoch = (uint32_t)value;
        else if (tag == SDB_FIELD_NEXT_FILE)
            state->next_file = value;
        else if (tag == SDB_FIELD_LOG_NUMBER)
            state->log_number = value;
        else if (tag == SDB_FIELD_NEWEST_LOG)
            state->newest_log = value;
        else if (tag == SDB_FIELD_FLUSHED && value <= SDB_MAX_REVISION)
            state->flushed_revision = value;
        else
            return STORM_CORRUPT;
    }
    return STORM_OK;
}

/* The whole of a file in fresh memory. NOT_FOUND is passed on without a record. */
static storm_status read_file(struct sdb_os *os, const char *path, uint64_t max, uint8_t **data,
                              size_t *size)
{
    struct sdb_file *file = NULL;
    uint64_t length = 0;
    *data = NULL;
    *size = 0;
    storm_status status = sdb_open(os, path, SDB_OPEN_READ, &file);
    if (status == STORM_OK)
        status = sdb_size(file, &length);
    if (status == STORM_OK && length > max)
        status = sdb_fail(os->errors, STORM_CORRUPT,
                          "%s: %" PRIu64 " bytes long, at most %" PRIu64 " are plausible", path,
                          length, max);
    if (status == STORM_OK && (*data = malloc((size_t)length + 1)) == NULL)
        status = STORM_NO_MEMORY;
    if (status == STORM_OK)
        status = sdb_pread(file, 0, *data, (size_t)length, size);
    if (status != STORM_OK) {
        free(*data);
        *data = NULL;
    }
    sdb_close(file);
    return status;
}

storm_status sdb_current_read(struct sdb_os *os, const char *dir, uint64_t *number)
{
    char expected[SDB_NAME_MAX + 16];
    char name[SDB_NAME_MAX];
    uint8_t *data = NULL;
    size_t size = 0;
    char *path = sdb_path(dir, SDB_CURRENT);
    if (path == NULL)
        return STORM_NO_MEMORY;
    storm_status status = read_file(os, path, 4096, &data, &size);
    if (status == STORM_OK) {
        /* Parse the number, then compare with what a right file would say, to the byte. */
        data[size] = 0;
        size_t name_size = strcspn((const char *)data, " ");
        data[name_size] = 0;
        bool is_named = sdb_name_parse((const char *)data, number) == SDB_FILE_MANIFEST;
        sdb_manifest_name(name, *number);
        int length = snprintf(expected, sizeof expected, "%s %08x\n", name,
                              sdb_crc32c(0, name, strlen(name)));
        if (name_size < size)
            data[name_size] = ' ';
        if (!is_named || size != (size_t)length || memcmp(data, expected, size) != 0)
            status = sdb_fail(os->errors, STORM_CORRUPT, "%s: does not name a manifest", path);
    }
    free(data);
    free(path);
    return status;
}

/* Whether any good record begins behind `from`: then what stands before it was damaged, not
 * torn. */
static bool has_record_behind(uint64_t number, const uint8_t *data, size_t size, size_t from)
{
    for (size_t at = (from + 7) / 8 * 8; at + SDB_MANIFEST_FRAME <= size; at += 8) {
        uint32_t length = sdb_get_u32(data + at + 4);
        if (length != 0 && length <= size - at - SDB_MANIFEST_FRAME &&
            sdb_manifest_crc(number, at, data + at + 4, length + 4) == sdb_get_u32(data + at))
            return true;
    }
    return false;
}

static storm_status check_header(struct sdb_os *os, const char *path, const uint8_t *data,
                                 size_t size, struct sdb_state *state)
{
    if (size < SDB_MANIFEST_HEADER || memcmp(data, SDB_MANIFEST_MAGIC, 8) != 0 ||
        sdb_crc32c(0, data, 32) != sdb_get_u32(data + 32))
        return sdb_fail(os->errors, STORM_CORRUPT, "%s: the header is damaged", path);
    uint32_t format = sdb_get_u32(data + 8);
    if (format != SDB_MANIFEST_FORMAT)
        return sdb_fail(os->errors, STORM_NEWER_FORMAT,
                        "%s: format version %" PRIu32 ", this release reads version %d; open the "
                        "store with the release that wrote it, or a newer one",
                        path, format, SDB_MANIFEST_FORMAT);
    if (sdb_get_u64(data + 16) != state->manifest_number || sdb_get_u32(data + 12) != 0 ||
        sdb_get_u32(data + 36) != 0)
        return sdb_fail(os->errors, STORM_CORRUPT, "%s: the header is of another file", path);
    state->store_id = sdb_get_u64(data + 24);
    return STORM_OK;
}

static storm_status read_records(struct sdb_os *os, const char *path, const uint8_t *data,
                                 size_t size, struct sdb_state *state, struct sdb_file_set *set)
{
    size_t at = SDB_MANIFEST_HEADER;
    while (at + SDB_MANIFEST_FRAME <= size) {
        uint32_t length = sdb_get_u32(data + at + 4);
        bool is_sound = length != 0 && length <= size - at - SDB_MANIFEST_FRAME &&
                        sdb_manifest_crc(state->manifest_number, at, data + at + 4, length + 4) ==
                            sdb_get_u32(data + at);
        if (!is_sound)
            break;
        storm_status status =
            sdb_manifest_decode(storm_bytes(data + at + SDB_MANIFEST_FRAME, length), state, set);
        if (status == STORM_CORRUPT)
            return sdb_fail(os->errors, STORM_CORRUPT, "%s: the record at %zu makes no sense", path,
                            at);
        if (status != STORM_OK)
            return status;
        at = (at + SDB_MANIFEST_FRAME + length + 7) / 8 * 8;
    }
    /* The first record was durable before CURRENT named this file: without it the file is
     * damaged. */
    if (at == SDB_MANIFEST_HEADER || has_record_behind(state->manifest_number, data, size, at + 1))
        return sdb_fail(os->errors, STORM_CORRUPT, "%s: the record at %zu is damaged", path, at);
    return STORM_OK;
}

static storm_status check_order(struct sdb_os *os, const char *path,
                                const struct sdb_version *version)
{
    for (size_t l = 1; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &version->levels[l];
        for (size_t i = 1; i < level->count; i++) {
            if (sdb_key_compare(level->files[i - 1]->largest, level->files[i]->smallest) >= 0)
                return sdb_fail(os->errors, STORM_CORRUPT,
                                "%s: tables %" PRIu64 " and %" PRIu64 " overlap in level %zu", path,
                                level->files[i - 1]->number, level->files[i]->number, l);
        }
    }
    return STORM_OK;
}

static storm_status make_version(struct sdb_file_set *set, struct sdb_version **version)
{
    struct sdb_version *empty = sdb_version_create();
    if (empty == NULL)
        return STORM_NO_MEMORY;
    struct sdb_edit edit = {
        .added = set->files,
        .added_count = set->count,
        .ranges_added = set->ranges,
        .ranges_added_count = set->range_count,
    };
    *version = sdb_version_apply(empty, &edit);
    sdb_version_unref(empty);
    return *version == NULL ? STORM_NO_MEMORY : STORM_OK;
}

storm_status sdb_manifest_read_number(struct sdb_os *os, const char *dir, uint64_t number,
                                      struct sdb_garbage *garbage, struct sdb_state *state,
                                      struct sdb_version **version)
{
    char name[SDB_NAME_MAX];
    uint8_t *data = NULL;
    size_t size = 0;
    char *path = NULL;
    *version = NULL;
    storm_status status = STORM_OK;
    memset(state, 0, sizeof *state);
    state->manifest_number = number;
    sdb_manifest_name(name, number);
    struct sdb_file_set *set = sdb_file_set_create(garbage);
    path = sdb_path(dir, name);
    if (set == NULL || path == NULL) {
        status = STORM_NO_MEMORY;
        goto out;
    }
    status = read_file(os, path, MANIFEST_MAX, &data, &size);
    if (status == STORM_NOT_FOUND)
        status = sdb_fail(os->errors, STORM_CORRUPT,
                          "%s: CURRENT names this file, but it is missing", path);
    if (status == STORM_OK)
        status = check_header(os, path, data, size, state);
    if (status == STORM_OK)
        status = read_records(os, path, data, size, state, set);
    if (status == STORM_OK)
        status = make_version(set, version);
    if (status == STORM_OK)
        status = check_order(os, path, *version);
out:
    if (status != STORM_OK) {
        sdb_version_unref(*version);
        *version = NULL;
    }
    sdb_file_set_destroy(set);
    free(data);
    free(path);
    return status;
}

storm_status sdb_manifest_read(struct sdb_os *os, const char *dir, struct sdb_garbage *garbage,
                               struct sdb_state *state, struct sdb_version **version)
{
    uint64_t number;
    *version = NULL;
    memset(state, 0, sizeof *state);
    storm_status status = sdb_current_read(os, dir, &number);
    return status == STORM_OK ? sdb_manifest_read_number(os, dir, number, garbage, state, version)
                              : status;
}
