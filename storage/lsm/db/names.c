/* File names of a store; names.h lists them. */
#include "lsm/db/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lsm/wal/wal.h"

void sdb_table_name(char *name, uint64_t number)
{
    snprintf(name, SDB_NAME_MAX, "%010" PRIu64 ".sst", number);
}

void sdb_manifest_name(char *name, uint64_t number)
{
    snprintf(name, SDB_NAME_MAX, "MANIFEST-%010" PRIu64, number);
}

/* Ten digits, or more without a leading zero, then exactly `end`: one number has one name. */
static bool parse_number(const char *text, const char *end, uint64_t *number)
{
    uint64_t value = 0;
    size_t digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9' && digits < 19; digits++)
        value = value * 10 + (uint64_t)(text[digits] - '0');
    if (digits < 10 || (digits > 10 && text[0] == '0') || strcmp(text + digits, end) != 0)
        return false;
    *number = value;
    return true;
}

enum sdb_file_kind sdb_name_parse(const char *name, uint64_t *number)
{
    *number = 0;
    if (strncmp(name, "MANIFEST-", 9) == 0 && parse_number(name + 9, "", number))
        return SDB_FILE_MANIFEST;
    if (sdb_wal_parse_name(name, number))
        return SDB_FILE_LOG;
    if (parse_number(name, ".sst", number))
        return SDB_FILE_TABLE;
    if (parse_number(name, ".spare", number))
        return SDB_FILE_SPARE;
    if (strcmp(name, SDB_CURRENT_TEMP) == 0)
        return SDB_FILE_TEMP;
    return SDB_FILE_FOREIGN;
}

char *sdb_path(const char *dir, const char *name)
{
    size_t dir_size = strlen(dir);
    size_t name_size = strlen(name);
    char *path = malloc(dir_size + name_size + 2);
    if (path == NULL)
        return NULL;
    memcpy(path, dir, dir_size);
    path[dir_size] = '/';
    memcpy(path + dir_size + 1, name, name_size + 1);
    return path;
}

char *sdb_parent_path(const char *path)
{
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    while (size > 0 && path[size - 1] != '/')
        size--;
    while (size > 1 && path[size - 1] == '/')
        size--;
    return size == 0 ? strdup(".") : strndup(path, size);
}

const char *sdb_name_within(const char *dir, const char *line)
{
    size_t size = strlen(dir);
    return strncmp(line, dir, size) == 0 && line[size] == '/' ? line + size + 1 : line;
}
