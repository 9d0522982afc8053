/*
 * Any bytes as a manifest: reading them must not crash, and a state that was accepted must survive
 * being written anew.
 *
 * Input: one byte of mode, then the bytes. Mode 0: the payload of one record. 1: the file behind a
 * sound header, each record's checksum made right as far as the sizes lead. 2: the file as it is.
 * 3: CURRENT as it is.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lsm/db/manifest.h"
#include "lsm/db/manifest_format.h"
#include "lsm/db/names.h"
#include "os/sim.h"

enum { NUMBER = 7, FILE_MAX = 16 * 1024, MODES = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sdb_garbage garbage = {.mu = PTHREAD_MUTEX_INITIALIZER};

static void check(bool is_right)
{
    if (!is_right)
        abort();
}

static void decode(const uint8_t *data, size_t size)
{
    struct sdb_state state = {0};
    struct sdb_file_set *files = sdb_file_set_create(&garbage);
    if (files == NULL)
        return;
    storm_status status = sdb_manifest_decode(storm_bytes(data, size), &state, files);
    check(status == STORM_OK || status == STORM_CORRUPT);
    sdb_file_set_destroy(files);
}

/* The file of mode 1 at `file`; its size. */
static size_t build(uint8_t *file, const uint8_t *data, size_t size)
{
    memset(file, 0, SDB_MANIFEST_HEADER);
    memcpy(file, SDB_MANIFEST_MAGIC, 8);
    sdb_put_u32(file + 8, SDB_MANIFEST_FORMAT);
    sdb_put_u64(file + 16, NUMBER);
    sdb_put_u64(file + 24, 1);
    sdb_put_u32(file + 32, sdb_crc32c(0, file, 32));
    if (size != 0)
        memcpy(file + SDB_MANIFEST_HEADER, data, size);
    size += SDB_MANIFEST_HEADER;
    for (size_t at = SDB_MANIFEST_HEADER; at + SDB_MANIFEST_FRAME <= size;) {
        uint32_t length = sdb_get_u32(file + at + 4);
        if (length > size - at - SDB_MANIFEST_FRAME)
            break;
        sdb_put_u32(file + at, sdb_manifest_crc(NUMBER, at, file + at + 4, (size_t)length + 4));
        at = (at + SDB_MANIFEST_FRAME + length + 7) / 8 * 8;
    }
    return size;
}

/* Read; when that works, write the state as a new manifest and read it again. */
static void read_and_rewrite(struct sdb_os *os)
{
    struct sdb_state state, again;
    struct sdb_version *version, *back;
    struct sdb_manifest *manifest;
    storm_status status = sdb_manifest_read(os, "db", &garbage, &state, &version);
    check((status == STORM_OK) == (version != NULL));
    if (status != STORM_OK)
        return;
    state.manifest_number = NUMBER + 1;
    check(sdb_manifest_create(os, "db", &state, version, &manifest) == STORM_OK);
    sdb_manifest_close(manifest);
    check(sdb_manifest_read(os, "db", &garbage, &again, &back) == STORM_OK);
    check(again.epoch == state.epoch && again.next_file == state.next_file &&
          again.log_number == state.log_number && again.newest_log == state.newest_log &&
          again.flushed_revision == state.flushed_revision && again.store_id == state.store_id);
    check(sdb_version_file_count(back) == sdb_version_file_count(version));
    check(sdb_ranges_count(back->ranges) == sdb_ranges_count(version->ranges));
    sdb_version_unref(version);
    sdb_version_unref(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[FILE_MAX];
    struct sdb_errors errors;
    struct sdb_os os;
    char name[SDB_NAME_MAX], path[SDB_NAME_MAX + 8], line[SDB_NAME_MAX + 16];
    if (size == 0 || size > FILE_MAX - SDB_MANIFEST_HEADER)
        return 0;
    unsigned mode = *data++ % MODES;
    size--;
    if (mode == 0) {
        decode(data, size);
        return 0;
    }
    struct sim_disk *disk = sim_disk_create(1);
    sdb_errors_init(&errors, NULL, NULL);
    sim_os_init(&os, disk, &errors);
    check(sdb_mkdir(&os, "db") == STORM_OK);
    sdb_manifest_name(name, NUMBER);
    snprintf(path, sizeof path, "db/%s", name);
    int length = snprintf(line, sizeof line, "%s %08x\n", name, sdb_crc32c(0, name, strlen(name)));
    size_t built = mode == 1 ? build(file, data, size) : build(file, NULL, 0);
    check(sim_write_file(disk, path, mode == 2 ? data : file, mode == 2 ? size : built) ==
          STORM_OK);
    if (mode == 3)
        check(sim_write_file(disk, "db/CURRENT", data, size) == STORM_OK);
    else
        check(sim_write_file(disk, "db/CURRENT", line, (size_t)length) == STORM_OK);
    read_and_rewrite(&os);
    sim_disk_destroy(disk);
    sdb_errors_fini(&errors);
    return 0;
}
