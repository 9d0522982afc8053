/*
 * The fault-injecting twin of the os layer: a disk in memory, for tests.
 *
 * It keeps two states of every file and directory: what the process sees, and what would be there
 * after a power loss. sync moves a file's bytes to the durable side; sync_dir moves a directory's
 * entries (creations, renames, removals). Threads, as in os.h, may call at once.
 *
 * Every call is numbered, and each kind too. A plan makes chosen calls fail: the n-th call, once or
 * from then on, with a status, or half done (a short write that then fails). A "cut" at call n is
 * the power loss itself: that call and all later ones fail with STORM_IO until sim_reboot().
 */
#ifndef SDB_OS_SIM_H
#define SDB_OS_SIM_H

#include "os/os.h"

struct sim_disk;

enum sim_call {
    SIM_ANY = 0,
    SIM_OPEN,
    SIM_READ,
    SIM_WRITE,
    SIM_SYNC,
    SIM_ALLOCATE,
    SIM_TRUNCATE,
    SIM_RENAME,
    SIM_UNLINK,
    SIM_LINK,
    SIM_MKDIR,
    SIM_LIST,
    SIM_SYNC_DIR,
    SIM_LOCK,
    SIM_SIZE,
    SIM_MAP,
    SIM_THREAD,
    SIM_CHANGES, /* every call that changes the disk: create, write, sync, allocate, ... */
    SIM_CALL_KINDS
};

struct sim_plan {
    enum sim_call call;  /* which calls count */
    uint64_t nth;        /* 1 = the next one; 0 = no fault */
    bool for_ever;       /* that one and all later ones of the kind, until the plan changes */
    storm_status status; /* STORM_NO_SPACE, STORM_IO, ... */
    bool half_done;      /* a write stores a part of its bytes first; a failing sync loses the dirty
                            bytes (they read back as before the write, as after a real failed fsync) */
};

/* How much of what was not synced survives a power loss. */
enum sim_loss {
    SIM_LOSE_ALL,  /* nothing: the strict POSIX model */
    SIM_KEEP_SOME, /* each dirty 512-byte sector and each change of a directory by a coin
                      (seeded); a rename within one directory is one change */
    SIM_KEEP_TORN, /* as SIM_KEEP_SOME, and the last kept sector of each file is torn in the middle */
    SIM_KEEP_ALL, /* kill -9: the kernel lives on */
};

/* Never NULL: a program out of memory ends. Close all files before the disk is destroyed, those of
 * earlier boots included. Paths are relative to the root, which is always there; "/a" is "a". */
struct sim_disk *sim_disk_create(uint64_t seed);
void sim_disk_destroy(struct sim_disk *disk);

/* An os on this disk. `errors` is borrowed. Several may share one disk (a "second process"). */
void sim_os_init(struct sdb_os *os, struct sim_disk *disk, struct sdb_errors *errors);

void sim_plan_set(struct sim_disk *disk, struct sim_plan plan); /* resets the plan's own count */
bool sim_plan_fired(struct sim_disk *disk); /* since the plan was set, reboots included */
/* A file system without mappings: sdb_store() is STORM_UNSUPPORTED. */
void sim_refuse_stores(struct sim_disk *disk);
void sim_cut_at(struct sim_disk *disk, uint64_t nth_change); /* 0 = never */
bool sim_is_cut(struct sim_disk *disk);
uint64_t sim_calls(struct sim_disk *disk, enum sim_call call); /* counted since creation */

/* Power off and on: unsynced data is lost as `loss` says, locks and open files are gone (handles
 * still held fail with STORM_IO), plan and cut are cleared. */
void sim_reboot(struct sim_disk *disk, enum sim_loss loss);

/* Bytes the disk holds at most, durable or not; 0 = no limit. Beyond: STORM_NO_SPACE. Counted in
 * pages of 4 KiB, names free of charge; what is reserved counts, a hole does not. */
void sim_capacity_set(struct sim_disk *disk, uint64_t bytes);
uint64_t sim_used_bytes(struct sim_disk *disk);

/* Damage a file behind the engine's back, in both states; write_file makes it if need be, and its
 * name durable. STORM_NOT_FOUND without it; STORM_INVALID for a flip behind the end. Not
 * counted. */
storm_status sim_file_size(struct sim_disk *disk, const char *path, uint64_t *size);
storm_status sim_flip(struct sim_disk *disk, const char *path, uint64_t offset, uint8_t mask);
storm_status sim_resize(struct sim_disk *disk, const char *path, uint64_t size);
storm_status sim_write_file(struct sim_disk *disk, const char *path, const void *data, size_t size);
storm_status sim_remove(struct sim_disk *disk, const char *path);
storm_status sim_each_file(struct sim_disk *disk, const char *dir, sdb_list_fn each, void *ctx);

/* The wall clock (ms) stands still unless moved; the monotonic one counts calls in microseconds. */
void sim_clock_set(struct sim_disk *disk, uint64_t now_ms);

#endif
