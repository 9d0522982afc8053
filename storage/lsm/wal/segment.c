/*
 * Segment files: names, listing, creation.
 *
 *   0000000042.log     a segment: its header is durable, and was before the name came to be
 *   0000000042.spare   nobody's: a released segment, or one in the making. Open removes them.
 *
 * A segment is made under its spare name and gets its own when nothing can go wrong any more:
 *
 *   open or take a spare -> allocate -> write header -> fdatasync -> rename -> sync directory
 *
 * So a crash at any point leaves either no segment or one with a whole header, and a recycled file
 * never bears a segment's name with an earlier life's header. Allocation comes before the header,
 * because a full disk has to be met here, where nothing depends on the file yet.
 *
 * When rename or the directory's sync fails the name may exist after a crash. Such a segment has no
 * records, and the one that is made in its place names the same predecessor: recovery follows those
 * links and passes it by (recover.c).
 *
 * Spares of an earlier open are removed, not used: on a file system that orders nothing, the
 * renaming that made one may survive in part, and then a spare and a live segment are the same
 * file.
 */
#include "lsm/wal/segment.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char segment_suffix[] = ".log";
static const char spare_suffix[] = ".spare";

enum { NAME_DIGITS = 10, NAME_DIGITS_MAX = 20 };

void sdb_wal_name(char name[SDB_WAL_NAME], uint64_t number)
{
    (void)snprintf(name, SDB_WAL_NAME, "%0*" PRIu64 "%s", NAME_DIGITS, number, segment_suffix);
}

void sdb_wal_segment_path(char path[SDB_WAL_PATH], const char *dir, uint64_t number)
{
    char name[SDB_WAL_NAME];

    sdb_wal_name(name, number);
    (void)snprintf(path, SDB_WAL_PATH, "%s/%s", dir, name);
}

void sdb_wal_spare_path(char path[SDB_WAL_PATH], const char *dir, uint64_t number)
{
    (void)snprintf(path, SDB_WAL_PATH, "%s/%0*" PRIu64 "%s", dir, NAME_DIGITS, number,
                   spare_suffix);
}

/*
 * One number has one name: ten digits with leading zeroes, or more without. Number 0 is no
 * segment's, it means "none" in headers.
 */
static bool parse_name(const char *name, const char *suffix, uint64_t *number)
{
    size_t digits = strspn(name, "0123456789");
    uint64_t value = 0;

    *number = 0;
    if (digits < NAME_DIGITS || digits > NAME_DIGITS_MAX || strcmp(name + digits, suffix) != 0)
        return false;
    if (digits > NAME_DIGITS && name[0] == '0')
        return false;
    for (size_t i = 0; i < digits; i++) {
        uint64_t digit = (uint64_t)(name[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *number = value;
    return value > 0;
}

bool sdb_wal_parse_name(const char *name, uint64_t *number)
{
    return parse_name(name, segment_suffix, number);
}

/* ---- What is there --------------------------------------------------------------------------- */

struct listing {
    struct sdb_os *os;
    struct sdb_wal_numbers *segments;
    struct sdb_wal_numbers *spares;
};

static storm_status add_number(struct sdb_os *os, struct sdb_wal_numbers *numbers, uint64_t number)
{
    if (numbers->count == numbers->room) {
        size_t room = numbers->room == 0 ? 16 : numbers->room * 2;
        uint64_t *list = realloc(numbers->list, room * sizeof(*list));
        if (list == NULL)
            return sdb_fail(os->errors, STORM_NO_MEMORY, "log: no memory for %zu segment numbers",
                            room);
        numbers->list = list;
        numbers->room = room;
    }
    numbers->list[numbers->count++] = number;
    return STORM_OK;
}

static storm_status list_name(void *ctx, const char *name)
{
    struct listing *listing = ctx;
    uint64_t number;

    if (sdb_wal_parse_name(name, &number))
        return add_number(listing->os, listing->segments, number);
    if (parse_name(name, spare_suffix, &number))
        return add_number(listing->os, listing->spares, number);
    return STORM_OK;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

static void sort_numbers(struct sdb_wal_numbers *numbers)
{
    if (numbers->count > 1)
        qsort(numbers->list, numbers->count, sizeof(*numbers->list), compare_numbers);
}

storm_status sdb_wal_list(struct sdb_os *os, const char *dir, struct sdb_wal_numbers *segments,
                          struct sdb_wal_numbers *spares)
{
    struct listing listing = {os, segments, spares};
    storm_status status;

    *segments = (struct sdb_wal_numbers){0};
    *spares = (struct sdb_wal_numbers){0};
    status = sdb_list(os, dir, list_name, &listing);
    if (status == STORM_NOT_FOUND)
        status = sdb_fail(os->errors, status, "%s: the log's directory is not there", dir);
    sort_numbers(segments);
    sort_numbers(spares);
    return status;
}

void sdb_wal_numbers_fini(struct sdb_wal_numbers *numbers)
{
    free(numbers->list);
    *numbers = (struct sdb_wal_numbers){0};
}

/* ---- A new one ------------------------------------------------------------------------------- */

/* Size and header, durable. The file has its spare name. */
static storm_status prepare(struct sdb_file *file, const struct sdb_wal_header *header,
                            uint64_t size, bool *sync_failed)
{
    uint8_t page[SDB_WAL_HEADER];
    storm_status status = sdb_allocate(file, size);

    if (status != STORM_OK)
        return status;
    sdb_wal_header_encode(page, header);
    status = sdb_pwrite(file, 0, page, sizeof(page));
    if (status != STORM_OK)
        return status;
    status = sdb_sync(file);
    *sync_failed = status != STORM_OK;
    return status;
}

storm_status sdb_wal_segment_create(struct sdb_os *os, const char *dir,
                                    const struct sdb_wal_header *header, uint64_t size,
                                    uint64_t spare, struct sdb_wal_created *created)
{
    char from[SDB_WAL_PATH];
    char path[SDB_WAL_PATH];
    bool is_renamed = false;
    struct sdb_file *file;
    storm_status status;

    *created = (struct sdb_wal_created){0};
    sdb_wal_segment_path(path, dir, header->number);
    sdb_wal_spare_path(from, dir, spare != 0 ? spare : header->number);
    status = sdb_open(os, from, spare != 0 ? SDB_OPEN_WRITE : SDB_OPEN_CREATE, &file);
    if (status != STORM_OK)
        return status;
    status = prepare(file, header, size, &created->sync_failed);
    sdb_close(file);
    if (status != STORM_OK)
        goto out;
    created->may_exist = true;
    status = sdb_rename(os, from, path);
    if (status != STORM_OK)
        goto out;
    is_renamed = true;
    status = sdb_sync_dir(os, dir);
    created->sync_failed = status != STORM_OK;
    if (status == STORM_OK) /* again, so that later failures are reported under the right name */
        status = sdb_open(os, path, SDB_OPEN_WRITE, &created->file);
out:
    /* After a failed sync nothing is removed any more: the next open decides what is true. */
    if (status != STORM_OK && !created->sync_failed)
        (void)sdb_unlink(os, is_renamed ? path : from);
    return status;
}
