/*
 * The twin's side of struct sdb_os_ops: each call of os.h as the gate (sim.c) and then the medium
 * (sim_disk.h) have it, with the errors of the real layer in the same places.
 */
#include "os/sim_disk.h"

#include <stdlib.h>
#include <string.h>

struct sim_file {
    struct sdb_file base;
    struct sim_disk *disk; /* const */
    struct sim_node *node; /* const; a reference */
    uint64_t boot;         /* const */
    bool is_writable;      /* const */
    char path[];           /* const; for sentences */
};

static struct sim_file *sim_file(struct sdb_file *file)
{
    return (struct sim_file *)file;
}

/* The gate for calls on a file: handles from before a reboot are dead. */
static storm_status file_gate(struct sim_file *self, enum sim_call call, bool is_change,
                              bool *is_half)
{
    struct sdb_os *os = self->base.os;
    storm_status status = sim_gate(os, call, is_change, self->path, is_half);

    if (self->boot != self->disk->boot) {
        *is_half = false;
        return status != STORM_OK
                   ? status
                   : sim_fail(os, STORM_IO, call, self->path, "opened before the power went off");
    }
    if (status == STORM_OK && is_change && call != SIM_SYNC && !self->is_writable)
        return sim_fail(os, STORM_IO, call, self->path, "opened for reading only");
    return status;
}

/* sim_find with the failures recorded, except STORM_NOT_FOUND. */
static storm_status find(struct sdb_os *os, enum sim_call call, const char *path,
                         struct sim_node **dir, char name[SIM_MAX_NAME], struct sim_node **node)
{
    storm_status status = sim_find(&sim_disk_of(os)->medium, path, dir, name, SIM_MAX_NAME, node);

    if (status == STORM_IO)
        return sim_fail(os, STORM_IO, call, path, "not a directory on the way, or a name too long");
    return status;
}

/* ---- Files ----------------------------------------------------------------------------------- */

static storm_status handle_create(struct sdb_os *os, const char *path, struct sim_node *node,
                                  bool is_writable, struct sdb_file **file)
{
    size_t path_size = strlen(path) + 1;
    struct sim_file *self = malloc(sizeof(*self) + path_size);

    if (self == NULL)
        return sim_fail(os, STORM_NO_MEMORY, SIM_OPEN, path, "no memory for a handle");
    self->base.ops = os->ops;
    self->base.os = os;
    self->disk = sim_disk_of(os);
    self->node = node;
    self->boot = self->disk->boot;
    self->is_writable = is_writable;
    memcpy(self->path, path, path_size);
    sim_node_ref(node);
    node->opens++;
    *file = &self->base;
    return STORM_OK;
}

static storm_status open_locked(struct sdb_os *os, const char *path, enum sdb_open_mode mode,
                                struct sdb_file **file)
{
    struct sim_disk *disk = sim_disk_of(os);
    char name[SIM_MAX_NAME];
    struct sim_node *dir;
    struct sim_node *node;
    bool is_half;
    storm_status status = sim_gate(os, SIM_OPEN, mode == SDB_OPEN_CREATE, path, &is_half);

    if (status == STORM_OK)
        status = find(os, SIM_OPEN, path, &dir, name, &node);
    if (status == STORM_NOT_FOUND && mode == SDB_OPEN_CREATE)
        return sim_fail(os, STORM_NOT_FOUND, SIM_OPEN, path, "no such directory");
    if (status != STORM_OK)
        return status;
    if (mode == SDB_OPEN_CREATE) {
        if (node != NULL)
            return sim_fail(os, STORM_EXISTS, SIM_OPEN, path, "file exists");
        node = sim_dir_create(&disk->medium, dir, name, false);
    }
    if (node == NULL)
        return STORM_NOT_FOUND;
    if (node->is_dir)
        return sim_fail(os, STORM_IO, SIM_OPEN, path, "is a directory");
    return handle_create(os, path, node, mode != SDB_OPEN_READ, file);
}

static storm_status sim_open(struct sdb_os *os, const char *path, enum sdb_open_mode mode,
                             struct sdb_file **file)
{
    struct sim_disk *disk = sim_disk_of(os);
    storm_status status;

    *file = NULL;
    pthread_mutex_lock(&disk->mu);
    status = open_locked(os, path, mode, file);
    pthread_mutex_unlock(&disk->mu);
    return status;
}

static void sim_close(struct sdb_file *file)
{
    struct sim_file *self = sim_file(file);
    struct sim_disk *disk = self->disk;

    pthread_mutex_lock(&disk->mu);
    if (self->boot == disk->boot) {
        self->node->opens--;
        if (self->node->lock_holder == self)
            self->node->lock_holder = NULL;
    }
    sim_node_unref(&disk->medium, self->node);
    pthread_mutex_unlock(&disk->mu);
    free(self);
}

static storm_status sim_pread(struct sdb_file *file, uint64_t offset, void *buffer, size_t size,
                              size_t *got)
{
    struct sim_file *self = sim_file(file);
    storm_status status;
    bool is_half;

    *got = 0;
    pthread_mutex_lock(&self->disk->mu);
    status = file_gate(self, SIM_READ, false, &is_half);
    if (status == STORM_OK)
        *got = sim_node_read(self->node, offset, buffer, size);
    pthread_mutex_unlock(&self->disk->mu);
    return status;
}

/* Store the first `left` bytes of the parts. */
static storm_status write_bytes(struct sim_file *self, uint64_t offset, const struct iovec *parts,
                                uint64_t left)
{
    struct sim_medium *medium = &self->disk->medium;
    storm_status status = STORM_OK;
    int i;

    for (i = 0; left > 0 && status == STORM_OK; i++) {
        size_t n = parts[i].iov_len < left ? parts[i].iov_len : (size_t)left;

        status = sim_node_write(medium, self->node, offset, parts[i].iov_base, n);
        offset += n;
        left -= n;
    }
    return status;
}

static storm_status sim_pwritev(struct sdb_file *file, uint64_t offset, const struct iovec *parts,
                                int count)
{
    struct sim_file *self = sim_file(file);
    struct sdb_os *os = file->os;
    uint64_t total = 0;
    storm_status status;
    bool is_half;
    int i;

    for (i = 0; i < count; i++)
        total += parts[i].iov_len;
    pthread_mutex_lock(&self->disk->mu);
    status = file_gate(self, SIM_WRITE, true, &is_half);
    if (offset > SIM_MAX_FILE_SIZE || total > SIM_MAX_FILE_SIZE - offset) {
        if (status == STORM_OK)
            status = sim_fail(os, STORM_IO, SIM_WRITE, self->path, "file too large");
    } else if (status == STORM_OK) {
        status = write_bytes(self, offset, parts, total);
        if (status != STORM_OK)
            status = sim_fail(os, status, SIM_WRITE, self->path, "the disk is full");
    } else if (is_half) {
        (void)write_bytes(self, offset, parts, total / 2);
    }
    pthread_mutex_unlock(&self->disk->mu);
    return status;
}

/* Stores are writes that need reserved pages, for there is nobody to tell that the disk is full. */
static storm_status sim_store(struct sdb_file *file, uint64_t offset, const struct iovec *parts,
                              int count)
{
    struct sim_file *self = sim_file(file);
    uint64_t end = offset;
    bool is_mapped, is_reserved;

    for (int i = 0; i < count; i++)
        end += parts[i].iov_len;
    pthread_mutex_lock(&self->disk->mu);
    is_mapped = !self->disk->refuses_stores;
    is_reserved = end <= self->node->seen.size && end <= self->node->reserved * SIM_PAGE;
    pthread_mutex_unlock(&self->disk->mu);
    if (!is_mapped)
        return STORM_UNSUPPORTED;
    if (self->boot == self->disk->boot && !is_reserved)
        return sim_fail(file->os, STORM_INVALID, SIM_WRITE, self->path, "SIGBUS: not allocated");
    return sim_pwritev(file, offset, parts, count);
}

static storm_status sim_sync(struct sdb_file *file)
{
    struct sim_file *self = sim_file(file);
    storm_status status;
    bool is_half;

    pthread_mutex_lock(&self->disk->mu);
    status = file_gate(self, SIM_SYNC, true, &is_half);
    if (status == STORM_OK)
        sim_node_sync(self->node);
    else if (is_half)
        sim_node_forget(self->node);
    pthread_mutex_unlock(&self->disk->mu);
    return status;
}

static void sim_start_writeback(struct sdb_file *file, uint64_t offset, uint64_t size)
{
    (void)file;
    (void)offset;
    (void)size;
}

static void sim_start_read(struct sdb_file *file, uint64_t offset, uint64_t size)
{
    (void)file;
    (void)offset;
    (void)size;
}

static storm_status sim_allocate(struct sdb_file *file, uint64_t size)
{
    struct sim_file *self = sim_file(file);
    storm_status status;
    bool is_half;

    pthread_mutex_lock(&self->disk->mu);
    status = file_gate(self, SIM_ALLOCATE, true, &is_half);
    if (status == STORM_OK && size > SIM_MAX_FILE_SIZE)
        status = sim_fail(file->os, STORM_IO, SIM_ALLOCATE, self->path, "file too large");
    if (status == STORM_OK) {
        status = sim_node_allocate(&self->disk->medium, self->node, size);
        if (status != STORM_OK)
            status = sim_fail(file->os, status, SIM_ALLOCATE, self->path, "the disk is full");
    }
    pthread_mutex_unlock(&self->disk->mu);
    return status;
}

static storm_status sim_truncate(struct sdb_file *file, uint64_t size)
{
    struct sim_file *self = sim_file(file);
    storm_status status;
    bool is_half;

    pthread_mutex_lock(&self->disk->mu);
    status = file_gate(self, SIM_TRUNCATE, true, &is_half);
    if (status == STORM_OK && size > SIM_MAX_FILE_SIZE)
        status = sim_fail(file->os, STORM_IO, SIM_TRUNCATE, self->path, "file too large");
    if (status == STORM_OK)
        sim_node_truncate(self->node, size);
    pthread_mutex_unlock(&self->disk->mu);
    return status;
}

static storm_status sim_size(struct sdb_file *file, uint64_t *size)
{
    struct sim_file *self = sim_file(file);
    storm_status status;
    bool is_half;

    *size = 0;
    pthread_mutex_lock(&self->disk->mu);
    status = file_gate(self, SIM_SIZE, false, &is_half);
    if (status == STORM_OK)
        *size = self->node->seen.size;
    pthread_mutex_unlock(&self->disk->mu);
    return status;
}

static storm_status sim_map(struct sdb_file *file, uint64_t size, bool writable, void **address)
{
    struct sim_file *self = sim_file(file);
    storm_status status;
    bool is_half;

    *address = NULL;
    pthread_mutex_lock(&self->disk->mu);
    status = file_gate(self, SIM_MAP, false, &is_half);
    /* Stores through a mapping could not be counted, cut or lost; nor could later writes be
     * seen. */
    if (status == STORM_OK && (writable || self->node->dirty_low < self->node->dirty_high))
        status = STORM_UNSUPPORTED;
    if (status == STORM_OK) {
        *address = sim_memory(NULL, (size_t)size);
        memset(*address, 0, (size_t)size);
        (void)sim_node_read(self->node, 0, *address, (size_t)size);
    }
    pthread_mutex_unlock(&self->disk->mu);
    return status;
}

static void sim_unmap(struct sdb_file *file, void *address, uint64_t size)
{
    (void)file;
    (void)size;
    free(address);
}

/* ---- Names ----------------------------------------------------------------------------------- */

/* Both ends of a rename or link: `from` must be there, `to`'s directory too. */
static storm_status find_two(struct sdb_os *os, enum sim_call call, const char *from,
                             const char *to, struct sim_node *dirs[2], char names[2][SIM_MAX_NAME],
                             struct sim_node *nodes[2])
{
    bool is_half;
    storm_status status = sim_gate(os, call, true, from, &is_half);

    if (status != STORM_OK)
        return status;
    status = find(os, call, from, &dirs[0], names[0], &nodes[0]);
    if (status == STORM_NOT_FOUND || (status == STORM_OK && nodes[0] == NULL))
        return sim_fail(os, STORM_NOT_FOUND, call, from, "no such file");
    if (status != STORM_OK)
        return status;
    status = find(os, call, to, &dirs[1], names[1], &nodes[1]);
    if (status == STORM_NOT_FOUND)
        return sim_fail(os, STORM_NOT_FOUND, call, to, "no such directory");
    if (status == STORM_OK && (names[0][0] == '\0' || names[1][0] == '\0'))
        return sim_fail(os, STORM_IO, call, from, "the root cannot take part");
    return status;
}

static storm_status sim_rename(struct sdb_os *os, const char *from, const char *to)
{
    struct sim_disk *disk = sim_disk_of(os);
    struct sim_node *dirs[2];
    struct sim_node *nodes[2];
    char names[2][SIM_MAX_NAME];
    storm_status status;

    pthread_mutex_lock(&disk->mu);
    status = find_two(os, SIM_RENAME, from, to, dirs, names, nodes);
    if (status == STORM_OK) {
        /* Directories move only within their parent: no test needs more, and no loop can arise. */
        bool is_blocked = (nodes[1] != NULL && nodes[1]->is_dir) ||
                          (nodes[0]->is_dir && (dirs[0] != dirs[1] || nodes[1] != NULL));

        if (nodes[0] == nodes[1]) /* two names of one file: POSIX leaves both */
            status = STORM_OK;
        else if (is_blocked)
            status = sim_fail(os, STORM_IO, SIM_RENAME, from, "a directory is in the way");
        else
            sim_dir_rename(&disk->medium, dirs[0], names[0], dirs[1], names[1]);
    }
    pthread_mutex_unlock(&disk->mu);
    return status;
}

static storm_status sim_link(struct sdb_os *os, const char *from, const char *to)
{
    struct sim_disk *disk = sim_disk_of(os);
    struct sim_node *dirs[2];
    struct sim_node *nodes[2];
    char names[2][SIM_MAX_NAME];
    storm_status status;

    pthread_mutex_lock(&disk->mu);
    status = find_two(os, SIM_LINK, from, to, dirs, names, nodes);
    if (status == STORM_OK) {
        if (nodes[0]->is_dir)
            status = sim_fail(os, STORM_DENIED, SIM_LINK, from, "is a directory");
        else if (nodes[1] != NULL)
            status = sim_fail(os, STORM_EXISTS, SIM_LINK, to, "file exists");
        else
            sim_dir_put(&disk->medium, dirs[1], names[1], nodes[0]);
    }
    pthread_mutex_unlock(&disk->mu);
    return status;
}

/* Unlink and rmdir, which is counted and failed as an unlink. */
static storm_status remove_name(struct sdb_os *os, const char *path, bool is_rmdir)
{
    struct sim_disk *disk = sim_disk_of(os);
    char name[SIM_MAX_NAME];
    struct sim_node *dir;
    struct sim_node *node = NULL;
    storm_status status;
    bool is_half;

    pthread_mutex_lock(&disk->mu);
    status = sim_gate(os, SIM_UNLINK, true, path, &is_half);
    if (status == STORM_OK) {
        status = find(os, SIM_UNLINK, path, &dir, name, &node);
        if (status == STORM_NOT_FOUND || (status == STORM_OK && node == NULL))
            status = STORM_NOT_FOUND;
        else if (status == STORM_OK && is_rmdir && (!node->is_dir || node->seen_names.count != 0))
            status = sim_fail(os, STORM_IO, SIM_UNLINK, path, "not an empty directory");
        else if (status == STORM_OK && !is_rmdir && node->is_dir)
            status = sim_fail(os, STORM_IO, SIM_UNLINK, path, "is a directory");
        else if (status == STORM_OK)
            sim_dir_remove(&disk->medium, dir, name);
    }
    pthread_mutex_unlock(&disk->mu);
    return status;
}

static storm_status sim_unlink(struct sdb_os *os, const char *path)
{
    return remove_name(os, path, false);
}

static storm_status sim_rmdir(struct sdb_os *os, const char *path)
{
    return remove_name(os, path, true);
}

static storm_status sim_mkdir(struct sdb_os *os, const char *path)
{
    struct sim_disk *disk = sim_disk_of(os);
    char name[SIM_MAX_NAME];
    struct sim_node *dir;
    struct sim_node *node = NULL;
    storm_status status;
    bool is_half;

    pthread_mutex_lock(&disk->mu);
    status = sim_gate(os, SIM_MKDIR, true, path, &is_half);
    if (status == STORM_OK) {
        status = find(os, SIM_MKDIR, path, &dir, name, &node);
        if (status == STORM_NOT_FOUND)
            status = sim_fail(os, STORM_NOT_FOUND, SIM_MKDIR, path, "no such directory");
        else if (status == STORM_OK && node == NULL)
            (void)sim_dir_create(&disk->medium, dir, name, true);
        else if (status == STORM_OK && node->is_dir)
            status = STORM_EXISTS;
        else if (status == STORM_OK)
            status = sim_fail(os, STORM_IO, SIM_MKDIR, path,
                              "something that is not a directory is in its place");
    }
    pthread_mutex_unlock(&disk->mu);
    return status;
}

/* The directory at `path`, for list and sync_dir. */
static storm_status find_dir(struct sdb_os *os, enum sim_call call, const char *path,
                             struct sim_node **node)
{
    char name[SIM_MAX_NAME];
    struct sim_node *dir;
    storm_status status = find(os, call, path, &dir, name, node);

    if (status != STORM_OK)
        return status;
    if (*node == NULL)
        return STORM_NOT_FOUND;
    return (*node)->is_dir ? STORM_OK : sim_fail(os, STORM_IO, call, path, "not a directory");
}

static storm_status sim_list(struct sdb_os *os, const char *path, sdb_list_fn each, void *ctx)
{
    struct sim_disk *disk = sim_disk_of(os);
    struct sim_name_list list;
    struct sim_node *node;
    storm_status status;
    bool is_half;

    pthread_mutex_lock(&disk->mu);
    status = sim_gate(os, SIM_LIST, false, path, &is_half);
    if (status == STORM_OK)
        status = find_dir(os, SIM_LIST, path, &node);
    if (status == STORM_OK)
        sim_name_list_fill(&list, node, false);
    pthread_mutex_unlock(&disk->mu);
    return status == STORM_OK ? sim_name_list_drain(&list, each, ctx) : status;
}

static storm_status sim_sync_dir(struct sdb_os *os, const char *path)
{
    struct sim_disk *disk = sim_disk_of(os);
    struct sim_node *node;
    storm_status status;
    bool is_half;

    pthread_mutex_lock(&disk->mu);
    status = sim_gate(os, SIM_SYNC_DIR, true, path, &is_half);
    if (status == STORM_OK) {
        status = find_dir(os, SIM_SYNC_DIR, path, &node);
        if (status == STORM_NOT_FOUND)
            status = sim_fail(os, STORM_NOT_FOUND, SIM_SYNC_DIR, path, "no such directory");
        if (status == STORM_OK)
            sim_dir_sync(&disk->medium, node);
    }
    pthread_mutex_unlock(&disk->mu);
    return status;
}

static storm_status lock_locked(struct sdb_os *os, const char *path, struct sdb_file **lock)
{
    struct sim_disk *disk = sim_disk_of(os);
    char name[SIM_MAX_NAME];
    struct sim_node *dir;
    struct sim_node *node = NULL;
    bool is_half;
    bool is_change =
        sim_find(&disk->medium, path, &dir, name, SIM_MAX_NAME, &node) == STORM_OK && node == NULL;
    storm_status status = sim_gate(os, SIM_LOCK, is_change, path, &is_half);

    if (status == STORM_OK)
        status = find(os, SIM_LOCK, path, &dir, name, &node);
    if (status == STORM_NOT_FOUND)
        return sim_fail(os, STORM_NOT_FOUND, SIM_LOCK, path, "no such directory");
    if (status != STORM_OK)
        return status;
    if (node == NULL)
        node = sim_dir_create(&disk->medium, dir, name, false);
    if (node->is_dir)
        return sim_fail(os, STORM_IO, SIM_LOCK, path, "is a directory");
    if (node->lock_holder != NULL)
        return sim_fail(os, STORM_LOCKED, SIM_LOCK, path, "held by another handle");
    status = handle_create(os, path, node, true, lock);
    if (status == STORM_OK)
        node->lock_holder = *lock;
    return status;
}

static storm_status sim_lock(struct sdb_os *os, const char *path, struct sdb_file **lock)
{
    struct sim_disk *disk = sim_disk_of(os);
    storm_status status;

    *lock = NULL;
    pthread_mutex_lock(&disk->mu);
    status = lock_locked(os, path, lock);
    pthread_mutex_unlock(&disk->mu);
    return status;
}

/* ---- Space, clocks, threads ------------------------------------------------------------------ */

static storm_status sim_free_bytes(struct sdb_os *os, const char *dir, uint64_t *bytes)
{
    struct sim_disk *disk = sim_disk_of(os);
    storm_status status;
    bool is_half;

    *bytes = 0;
    pthread_mutex_lock(&disk->mu);
    status = sim_gate(os, SIM_ANY, false, dir, &is_half);
    if (status == STORM_OK) {
        uint64_t capacity = disk->medium.capacity == 0 ? SIM_MAX_FILE_SIZE : disk->medium.capacity;
        uint64_t used = sim_medium_used(&disk->medium);

        *bytes = used < capacity ? capacity - used : 0;
    }
    pthread_mutex_unlock(&disk->mu);
    return status;
}

static uint64_t sim_now_ms(struct sdb_os *os)
{
    struct sim_disk *disk = sim_disk_of(os);
    uint64_t now;

    pthread_mutex_lock(&disk->mu);
    now = disk->now_ms;
    pthread_mutex_unlock(&disk->mu);
    return now;
}

static uint64_t sim_now_ns(struct sdb_os *os)
{
    struct sim_disk *disk = sim_disk_of(os);
    uint64_t now;

    pthread_mutex_lock(&disk->mu);
    now = ++disk->ticks * 1000; /* reading counts too: who waits for a time sees it come */
    pthread_mutex_unlock(&disk->mu);
    return now;
}

static storm_status sim_thread_start(struct sdb_os *os, const char *name, void *(*run)(void *),
                                     void *arg, pthread_t *thread)
{
    struct sim_disk *disk = sim_disk_of(os);
    struct sdb_os real;
    storm_status status;
    bool is_half;

    pthread_mutex_lock(&disk->mu);
    status = sim_gate(os, SIM_THREAD, false, name, &is_half);
    pthread_mutex_unlock(&disk->mu);
    if (status != STORM_OK)
        return status;
    sdb_os_posix_init(&real, os->errors);
    return sdb_thread_start(&real, name, run, arg, thread);
}

const struct sdb_os_ops sim_calls_table = {
    .open = sim_open,
    .close = sim_close,
    .pread = sim_pread,
    .pwritev = sim_pwritev,
    .store = sim_store,
    .sync = sim_sync,
    .start_writeback = sim_start_writeback,
    .start_read = sim_start_read,
    .allocate = sim_allocate,
    .truncate = sim_truncate,
    .size = sim_size,
    .map = sim_map,
    .unmap = sim_unmap,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .link = sim_link,
    .mkdir = sim_mkdir,
    .rmdir = sim_rmdir,
    .list = sim_list,
    .sync_dir = sim_sync_dir,
    .lock = sim_lock,
    .free_bytes = sim_free_bytes,
    .now_ms = sim_now_ms,
    .now_ns = sim_now_ns,
    .thread_start = sim_thread_start,
};
