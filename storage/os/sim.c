/*
 * The fault-injecting twin: the os layer's calls over the medium of sim_disk.h, with a gate in
 * front.
 *
 *     call --> gate: count it --> cut? --> fail with STORM_IO, like every call until the reboot
 *                                 planned? --> fail as the plan says
 *                                 else --> the medium
 *
 * Choices where sim.h leaves room:
 *   - The call at which the power is cut does nothing, but for a write, whose first half is in
 *     memory: the loss model then decides what of it reaches the medium.
 *   - A store through a mapping is a write: counted as one, failed as one, and what it stored is lost
 *     sector by sector like what was written. A kernel writes pages back in any order, a sector at
 *     a time or torn, however they were dirtied. It may meet no missing page, though.
 *   - A half-done write stores the first half of its bytes. A write that meets the end of the
 *     capacity stores the pages that fit and fails with STORM_NO_SPACE.
 *   - lock counts as a change when it creates its file. close, start_writeback, start_read, unmap
 *     and the clocks are not numbered: they cannot fail. free_bytes counts as SIM_ANY only.
 *   - A mapping is a copy of the file as it was then, for reading, of a file without unsynced bytes.
 *   - After SIM_KEEP_ALL what was not synced still is not: a later power loss can take it.
 *   - The capacity counts what is seen, in pages of 4 KiB: holes are free, reserved bytes are not.
 *
 * Locks: disk->mu over everything but callbacks, which get names that were copied before. It is
 * taken before errors->mu and nothing else.
 *
 * Handles stay valid memory over a reboot (each knows the boot it belongs to), so that threads that
 * still hold them meet STORM_IO and not freed memory. They must be closed before the disk goes.
 */
#include "os/sim_disk.h"

#include <stdlib.h>
#include <string.h>

/* 2023-11-14: a wall clock that looks like one before it is set. */
#define FIRST_NOW_MS UINT64_C(1700000000000)

static const char *const call_names[SIM_CALL_KINDS] = {
    [SIM_ANY] = "call",          [SIM_OPEN] = "open",           [SIM_READ] = "read",
    [SIM_WRITE] = "write",       [SIM_SYNC] = "sync",           [SIM_ALLOCATE] = "allocate",
    [SIM_TRUNCATE] = "truncate", [SIM_RENAME] = "rename",       [SIM_UNLINK] = "unlink",
    [SIM_LINK] = "link",         [SIM_MKDIR] = "mkdir",         [SIM_LIST] = "list",
    [SIM_SYNC_DIR] = "sync_dir", [SIM_LOCK] = "lock",           [SIM_SIZE] = "size",
    [SIM_MAP] = "map",           [SIM_THREAD] = "thread_start", [SIM_CHANGES] = "change",
};

struct sim_disk *sim_disk_of(struct sdb_os *os)
{
    return (struct sim_disk *)(uintptr_t)os->ops; /* ops is the first member */
}

storm_status sim_fail(struct sdb_os *os, storm_status status, enum sim_call call, const char *path,
                      const char *why)
{
    return sdb_fail(os->errors, status, "%s %s: %s", call_names[call], path, why);
}

/* ---- The gate -------------------------------------------------------------------------------- */

/* Does the plan want this call to fail? */
static bool plan_hits(struct sim_disk *disk, enum sim_call call, bool is_change)
{
    const struct sim_plan *plan = &disk->plan;

    if (plan->nth == 0)
        return false;
    if (plan->call != SIM_ANY && plan->call != call && !(plan->call == SIM_CHANGES && is_change))
        return false;
    disk->plan_seen++;
    if (disk->plan_seen != plan->nth && !(plan->for_ever && disk->plan_seen > plan->nth))
        return false;
    disk->plan_fired = true;
    return true;
}

/*
 * Number a call and decide its fate: STORM_OK, or the (recorded) failure. *is_half tells that a
 * part of it happens all the same.
 */
storm_status sim_gate(struct sdb_os *os, enum sim_call call, bool is_change, const char *path,
                      bool *is_half)
{
    struct sim_disk *disk = sim_disk_of(os);

    *is_half = false;
    disk->ticks++;
    disk->calls[SIM_ANY]++;
    disk->calls[call] += call != SIM_ANY;
    disk->calls[SIM_CHANGES] += is_change;
    if (disk->is_cut)
        return sim_fail(os, STORM_IO, call, path, "the power is off");
    if (is_change && disk->cut_left > 0 && --disk->cut_left == 0) {
        disk->is_cut = true;
        *is_half = call == SIM_WRITE;
        return sim_fail(os, STORM_IO, call, path, "the power was cut");
    }
    if (plan_hits(disk, call, is_change)) {
        *is_half = disk->plan.half_done;
        return sdb_fail(os->errors, disk->plan.status, "%s %s: planned failure (%s)",
                        call_names[call], path, storm_status_text(disk->plan.status));
    }
    return STORM_OK;
}

/* ---- The disk in the hands of a test --------------------------------------------------------- */

struct sim_disk *sim_disk_create(uint64_t seed)
{
    struct sim_disk *disk = sim_memory(NULL, sizeof(*disk));

    memset(disk, 0, sizeof(*disk));
    disk->ops = sim_calls_table;
    (void)pthread_mutex_init(&disk->mu, NULL);
    disk->now_ms = FIRST_NOW_MS;
    sim_medium_init(&disk->medium, seed);
    return disk;
}

void sim_disk_destroy(struct sim_disk *disk)
{
    if (disk == NULL)
        return;
    sim_medium_fini(&disk->medium);
    (void)pthread_mutex_destroy(&disk->mu);
    free(disk);
}

void sim_os_init(struct sdb_os *os, struct sim_disk *disk, struct sdb_errors *errors)
{
    os->ops = &disk->ops;
    os->errors = errors;
}

void sim_plan_set(struct sim_disk *disk, struct sim_plan plan)
{
    pthread_mutex_lock(&disk->mu);
    disk->plan = plan;
    disk->plan_seen = 0;
    disk->plan_fired = false;
    pthread_mutex_unlock(&disk->mu);
}

bool sim_plan_fired(struct sim_disk *disk)
{
    bool is_fired;

    pthread_mutex_lock(&disk->mu);
    is_fired = disk->plan_fired;
    pthread_mutex_unlock(&disk->mu);
    return is_fired;
}

void sim_refuse_stores(struct sim_disk *disk)
{
    pthread_mutex_lock(&disk->mu);
    disk->refuses_stores = true;
    pthread_mutex_unlock(&disk->mu);
}

void sim_cut_at(struct sim_disk *disk, uint64_t nth_change)
{
    pthread_mutex_lock(&disk->mu);
    disk->cut_left = nth_change;
    pthread_mutex_unlock(&disk->mu);
}

bool sim_is_cut(struct sim_disk *disk)
{
    bool is_cut;

    pthread_mutex_lock(&disk->mu);
    is_cut = disk->is_cut;
    pthread_mutex_unlock(&disk->mu);
    return is_cut;
}

uint64_t sim_calls(struct sim_disk *disk, enum sim_call call)
{
    uint64_t calls;

    pthread_mutex_lock(&disk->mu);
    calls = disk->calls[call];
    pthread_mutex_unlock(&disk->mu);
    return calls;
}

void sim_reboot(struct sim_disk *disk, enum sim_loss loss)
{
    pthread_mutex_lock(&disk->mu);
    disk->boot++;
    disk->is_cut = false;
    disk->cut_left = 0;
    memset(&disk->plan, 0, sizeof(disk->plan));
    disk->plan_seen = 0;
    sim_medium_reboot(&disk->medium, loss);
    pthread_mutex_unlock(&disk->mu);
}

void sim_capacity_set(struct sim_disk *disk, uint64_t bytes)
{
    pthread_mutex_lock(&disk->mu);
    disk->medium.capacity = bytes;
    pthread_mutex_unlock(&disk->mu);
}

uint64_t sim_used_bytes(struct sim_disk *disk)
{
    uint64_t used;

    pthread_mutex_lock(&disk->mu);
    used = sim_medium_used(&disk->medium);
    pthread_mutex_unlock(&disk->mu);
    return used;
}

void sim_clock_set(struct sim_disk *disk, uint64_t now_ms)
{
    pthread_mutex_lock(&disk->mu);
    disk->now_ms = now_ms;
    pthread_mutex_unlock(&disk->mu);
}

/* ---- Behind the engine's back: not numbered, not recorded, in both states -------------------- */

/* The file at `path`, or NULL. */
static struct sim_node *find_file(struct sim_disk *disk, const char *path)
{
    char name[SIM_MAX_NAME];
    struct sim_node *dir;
    struct sim_node *node;

    if (sim_find(&disk->medium, path, &dir, name, sizeof(name), &node) != STORM_OK ||
        node == NULL || node->is_dir)
        return NULL;
    return node;
}

storm_status sim_file_size(struct sim_disk *disk, const char *path, uint64_t *size)
{
    const struct sim_node *node;

    *size = 0;
    pthread_mutex_lock(&disk->mu);
    node = find_file(disk, path);
    if (node != NULL)
        *size = node->seen.size;
    pthread_mutex_unlock(&disk->mu);
    return node == NULL ? STORM_NOT_FOUND : STORM_OK;
}

storm_status sim_flip(struct sim_disk *disk, const char *path, uint64_t offset, uint8_t mask)
{
    storm_status status = STORM_OK;
    struct sim_node *node;

    pthread_mutex_lock(&disk->mu);
    node = find_file(disk, path);
    if (node == NULL)
        status = STORM_NOT_FOUND;
    else if (offset >= node->seen.size)
        status = STORM_INVALID;
    else
        sim_node_flip(node, offset, mask);
    pthread_mutex_unlock(&disk->mu);
    return status;
}

storm_status sim_resize(struct sim_disk *disk, const char *path, uint64_t size)
{
    storm_status status = STORM_OK;
    struct sim_node *node;

    pthread_mutex_lock(&disk->mu);
    node = find_file(disk, path);
    if (node == NULL)
        status = STORM_NOT_FOUND;
    else if (size > SIM_MAX_FILE_SIZE)
        status = STORM_INVALID;
    else
        sim_node_resize(node, size);
    pthread_mutex_unlock(&disk->mu);
    return status;
}

/* Replace the contents, or make a new file; its name is durable afterwards. */
storm_status sim_write_file(struct sim_disk *disk, const char *path, const void *data, size_t size)
{
    char name[SIM_MAX_NAME];
    struct sim_node *dir;
    struct sim_node *node = NULL;
    storm_status status;

    pthread_mutex_lock(&disk->mu);
    status = sim_find(&disk->medium, path, &dir, name, sizeof(name), &node);
    if (status == STORM_OK && node != NULL && node->is_dir)
        status = STORM_IO;
    if (status == STORM_OK) {
        if (node == NULL)
            node = sim_dir_create(&disk->medium, dir, name, false);
        sim_dir_force(&disk->medium, dir, name, node);
        sim_node_truncate(node, 0);
        status = sim_node_write(&disk->medium, node, 0, data, size);
        sim_node_sync(node);
    }
    pthread_mutex_unlock(&disk->mu);
    return status;
}

storm_status sim_remove(struct sim_disk *disk, const char *path)
{
    char name[SIM_MAX_NAME];
    struct sim_node *dir;
    struct sim_node *node = NULL;
    storm_status status;

    pthread_mutex_lock(&disk->mu);
    status = sim_find(&disk->medium, path, &dir, name, sizeof(name), &node);
    if (status == STORM_OK && node == NULL)
        status = STORM_NOT_FOUND;
    if (status == STORM_OK && node->is_dir)
        status = STORM_IO;
    if (status == STORM_OK)
        sim_dir_force(&disk->medium, dir, name, NULL);
    pthread_mutex_unlock(&disk->mu);
    return status;
}

storm_status sim_each_file(struct sim_disk *disk, const char *dir, sdb_list_fn each, void *ctx)
{
    char name[SIM_MAX_NAME];
    struct sim_name_list list;
    struct sim_node *parent;
    struct sim_node *node = NULL;
    storm_status status;

    pthread_mutex_lock(&disk->mu);
    status = sim_find(&disk->medium, dir, &parent, name, sizeof(name), &node);
    if (status == STORM_OK && node == NULL)
        status = STORM_NOT_FOUND;
    if (status == STORM_OK && !node->is_dir)
        status = STORM_IO;
    if (status == STORM_OK)
        sim_name_list_fill(&list, node, true);
    pthread_mutex_unlock(&disk->mu);
    return status == STORM_OK ? sim_name_list_drain(&list, each, ctx) : status;
}
