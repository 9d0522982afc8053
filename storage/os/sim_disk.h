/*
 * The inside of the fault-injecting twin; tests include sim.h, never this. Bottom up: the medium,
 * that is files (sim_pages.c) and directories (sim_disk.c) in two states each; the disk, that is
 * the medium with plans, cuts and clocks (sim.c); the calls of os.h on it (sim_calls.c).
 *
 * Terms: `seen` is what the process reads back; `durable` what a power loss leaves in the strict
 * POSIX model. A sector is 512 bytes, the unit that reaches the medium or does not; a page is 8
 * sectors, the unit of memory, of sharing between the two states and of the disk's accounting.
 *
 * Threads: nothing here locks; all of it is called with the disk's mutex held. Memory: a disk does
 * not run out of it, see sim_disk.c, so nothing here fails but for the reasons a disk has.
 */
#ifndef SDB_OS_SIM_DISK_H
#define SDB_OS_SIM_DISK_H

#include <limits.h>

#include "os/sim.h"

enum {
    SIM_SECTOR = 512,
    SIM_PAGE = 4096,
    SIM_MAX_NAME = NAME_MAX + 1,
};

/* No file grows beyond 1 TiB: a wild offset is an error, not a table of pages. */
#define SIM_MAX_FILE_SIZE (UINT64_C(1) << 40)

/* Shared by the states while both agree; never written to while `refs` is above 1. */
struct sim_page {
    unsigned refs;
    uint8_t bytes[SIM_PAGE];
};

/* The bytes of a file in one state. Pages that are NULL or beyond `count` read as zeroes, and so do
 * the bytes of the last page behind `size`. */
struct sim_image {
    struct sim_page **pages;
    size_t count;
    uint64_t size;
};

struct sim_entry {
    char *name;            /* owned */
    struct sim_node *node; /* a reference */
};

/* The names of a directory in one state, in the order of their creation. */
struct sim_names {
    struct sim_entry *all;
    size_t count;
    size_t room;
    bool is_seen; /* entries count as links of their nodes */
};

/* One change of a directory since it was last synced. A rename within it is one change, with both
 * names: no journal loses a file between its two halves. */
struct sim_change {
    char *removed;         /* owned, or NULL */
    char *added;           /* owned, or NULL */
    struct sim_node *node; /* what `added` names; a reference, or NULL */
    bool is_forced;        /* made behind the engine's back, in both states: no coin decides */
};

/* A file or a directory. Lives while an entry in any state, a change or a handle refers to it. */
struct sim_node {
    struct sim_node *prev, *next; /* all nodes of the disk, oldest first */
    unsigned refs;
    bool is_dir;
    unsigned links; /* seen entries */
    unsigned opens; /* live handles */

    /* A file's: */
    struct sim_image seen;
    struct sim_image durable;
    uint8_t *dirty; /* for each page, a bit for each sector that differs or may differ */
    size_t dirty_count;
    size_t dirty_low, dirty_high; /* no dirty page outside [low, high) */
    uint64_t reserved;            /* pages from 0 that allocate() has paid for */
    uint64_t held;                /* pages that count against the capacity */
    const void *lock_holder;      /* the handle, or NULL */

    /* A directory's: */
    struct sim_names seen_names;
    struct sim_names durable_names;
    struct sim_change *changes;
    size_t change_count, change_room;
};

/* All nodes and the coin. */
struct sim_medium {
    struct sim_node *first, *last;
    struct sim_node *root; /* durable from the start */
    uint64_t capacity;     /* bytes; 0 = no limit */
    uint64_t random;
};

void sim_medium_init(struct sim_medium *medium, uint64_t seed);
void sim_medium_fini(struct sim_medium *medium);
uint64_t sim_medium_used(const struct sim_medium *medium);

/* The coin: splitmix64 over the disk's seed. */
uint64_t sim_random(struct sim_medium *medium);

/* Memory that does not fail; `sim_memory(NULL, size)` allocates. */
void *sim_memory(void *old, size_t size);

void sim_node_ref(struct sim_node *node);
void sim_node_unref(struct sim_medium *medium, struct sim_node *node);

/* ---- Files; sizes in bytes. STORM_NO_SPACE where the capacity ends, after storing what fits. - */
storm_status sim_node_write(struct sim_medium *medium, struct sim_node *node, uint64_t offset,
                            const uint8_t *data, size_t size);
size_t sim_node_read(const struct sim_node *node, uint64_t offset, uint8_t *data, size_t size);
storm_status sim_node_allocate(struct sim_medium *medium, struct sim_node *node, uint64_t size);
void sim_node_truncate(struct sim_node *node, uint64_t size);
void sim_node_sync(struct sim_node *node);
/* A failed fsync: dirty sectors read as on the medium from now on, and count as clean. */
void sim_node_forget(struct sim_node *node);
/* The power is gone: decide what is left of a file, and let both states agree on it. */
void sim_node_settle(struct sim_medium *medium, struct sim_node *node, enum sim_loss loss);
void sim_node_free_pages(struct sim_node *node);
/* Both states at once. */
void sim_node_flip(struct sim_node *node, uint64_t offset, uint8_t mask);
void sim_node_resize(struct sim_node *node, uint64_t size);

/* ---- Directories ----------------------------------------------------------------------------- */

/* Resolve `path` (leading, double and trailing slashes and "." mean nothing: "/a/b" is "a/b").
 * *dir is its directory and *name (of `name_size`) its last part, empty for the root itself; *node is
 * the thing, or NULL. STORM_NOT_FOUND when a directory on the way is missing, STORM_IO when it is a
 * file or a part of the path is too long. All are borrowed. */
storm_status sim_find(struct sim_medium *medium, const char *path, struct sim_node **dir,
                      char *name, size_t name_size, struct sim_node **node);
/* A new node under `name`, not durable; returned without a reference of its own. */
struct sim_node *sim_dir_create(struct sim_medium *medium, struct sim_node *dir, const char *name,
                                bool is_dir);
/* Let `name` mean `node`, whatever it meant. */
void sim_dir_put(struct sim_medium *medium, struct sim_node *dir, const char *name,
                 struct sim_node *node);
void sim_dir_remove(struct sim_medium *medium, struct sim_node *dir, const char *name);
void sim_dir_rename(struct sim_medium *medium, struct sim_node *from_dir, const char *from,
                    struct sim_node *to_dir, const char *to);
void sim_dir_sync(struct sim_medium *medium, struct sim_node *dir);
/* In both states; `node` NULL removes. */
void sim_dir_force(struct sim_medium *medium, struct sim_node *dir, const char *name,
                   struct sim_node *node);

/* Power off and on: settle every node as `loss` says; locks and the count of handles are gone. */
void sim_medium_reboot(struct sim_medium *medium, enum sim_loss loss);

/* The names in a directory, copied: the callbacks of list may call back into the disk. */
struct sim_name_list {
    char **names;
    size_t count;
};

void sim_name_list_fill(struct sim_name_list *list, const struct sim_node *dir, bool files_only);
/* Call `each` for the names until one does not return STORM_OK, and free them. */
storm_status sim_name_list_drain(struct sim_name_list *list, sdb_list_fn each, void *ctx);

/* ---- The disk -------------------------------------------------------------------------------- */

struct sim_disk {
    struct sdb_os_ops ops; /* const; an sdb_os finds its disk through the address of this */
    pthread_mutex_t mu;
    struct sim_medium medium; /* mu, and all below */
    uint64_t boot;            /* counts reboots */
    uint64_t calls[SIM_CALL_KINDS];
    struct sim_plan plan;
    uint64_t plan_seen; /* calls of the plan's kind since it was set */
    bool plan_fired;
    uint64_t cut_left; /* changes until the cut; 0 = never */
    bool is_cut;
    bool refuses_stores;
    uint64_t now_ms;
    uint64_t ticks; /* µs of the monotonic clock */
};

/* The functions that serve a disk's os: sim_calls.c. */
extern const struct sdb_os_ops sim_calls_table;

struct sim_disk *sim_disk_of(struct sdb_os *os);

/* Record "call path: why". */
storm_status sim_fail(struct sdb_os *os, storm_status status, enum sim_call call, const char *path,
                      const char *why);

/* Number a call and decide its fate: STORM_OK, or the (recorded) failure. *is_half tells that a
 * part of it happens all the same. */
storm_status sim_gate(struct sdb_os *os, enum sim_call call, bool is_change, const char *path,
                      bool *is_half);

#endif
