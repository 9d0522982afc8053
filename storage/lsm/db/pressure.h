/*
 * Backpressure as arithmetic: how hard the store is pressed, and how long a write is held back for
 * it. Pure functions of what is handed in: no lock, no clock, no store. admit.c applies them.
 *
 *   pressure   of each cause: 0 = none, 1 = writes stand still; the largest one counts
 *   slowdown   how many times longer a byte is to take than it takes to drain:
 *
 *                  |                          *      x = (pressure - 0.6) / 0.4
 *                  |                         *       slowdown = x / (1 - x)
 *                1 |                    *
 *                  |            *                    at 0.8 writes come as fast as they drain
 *                0 |************_____________
 *                  0           0.6    0.8    1
 *
 *   drain      how fast the store gets rid of what was written: a moving average of flushes, or of
 *              compaction out of level 0, over the time they really took
 *   pacer      the bucket: each write moves the moment when the next one is due
 *
 * There is no step anywhere: what a write waits for is continuous in every sensor. So writes slow
 * down long before they would have to stop, and settle where they come as fast as they drain
 * (bLSM's spring and gear; rocksdb issue 9423 shows what steps do). A drain that is measured wrong
 * by some factor moves that point, and no more.
 */
#ifndef SDB_LSM_DB_PRESSURE_H
#define SDB_LSM_DB_PRESSURE_H

#include "storm/storm.h"

/* Below it writes are free. */
#define SDB_PRESSURE_FREE 0.6
/* There they come as fast as they drain. */
#define SDB_PRESSURE_EVEN 0.8

/* What pressure depends on. A limit of 0: that cause does not count. */
struct sdb_sensors {
    uint64_t memory_bytes, memory_limit;   /* of all memtables */
    uint64_t level0_files, level0_limit;   /* every read asks each of them */
    uint64_t pending_bytes, pending_limit; /* sdb_pending_bytes() */
    uint64_t disk_free, disk_reserve; /* at the reserve, or below, nothing is written any more */
};

struct sdb_pressure {
    double by[STORM_WAIT_CAUSES];
    double most;
    enum storm_wait_cause cause; /* of `most` */
};

/* Never below 0; continuous, and growing with each debt. */
void sdb_pressure_compute(const struct sdb_sensors *sensors, struct sdb_pressure *pressure);

/* 0 up to SDB_PRESSURE_FREE, then growing without a step to its largest value at 1. */
double sdb_pressure_slowdown(double pressure);

/* ---- Drain ---- */

struct sdb_drain {
    double bytes, ns; /* sums over what was measured, older ones counting less */
};

/* So many of the users' bytes took so long to drain. */
void sdb_drain_add(struct sdb_drain *drain, uint64_t bytes, uint64_t took_ns);

/* What one byte takes; a cautious guess before anything was measured. Never 0. */
double sdb_drain_ns_per_byte(const struct sdb_drain *drain);

/* ---- Pacer ---- */

struct sdb_pacer {
    uint64_t due_ns; /* when what was let in so far will have drained */
};

/*
 * Let in a write that is to take `cost_ns`. How long it waits: 0, or what is due if that is worth a
 * sleep, at most `longest_ns`. What is not worth a sleep yet is remembered for the next one.
 */
uint64_t sdb_pacer_take(struct sdb_pacer *pacer, uint64_t now_ns, double cost_ns,
                        uint64_t longest_ns);

#endif
