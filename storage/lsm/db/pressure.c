/* Pressure, drain and the pacer; pressure.h has the curve and the reasons. */
#include "lsm/db/pressure.h"

/* The slowdown at a pressure of 1: what is let in until the last moment is nearly nothing. */
#define SLOWDOWN_MAX 64.0

/* A measurement counts 7/8 of the next one: the last ten or so make the average. */
#define DRAIN_KEPT 0.875
/* Bytes/ms that any disk drains, also for a store that had next to nothing to drain lately, whose
 * measurements are of seeks and syncs: 4 MB/s. */
#define DRAIN_LEAST 4000.0
/* Before anything was measured: 16 MB/s. */
#define DRAIN_GUESS 16000.0

/* A shorter sleep costs more than it delays: timers and wake-ups take some 0.1 ms. */
#define SLEEP_LEAST_NS UINT64_C(1000000)

static double part_of(uint64_t debt, uint64_t limit)
{
    return limit == 0 ? 0 : (double)debt / (double)limit;
}

/* 0 with twice the reserve free, 1 with the reserve alone. */
static double disk_pressure(uint64_t free_bytes, uint64_t reserve)
{
    if (reserve == 0 || free_bytes >= 2 * reserve)
        return 0;
    return 2 - (double)free_bytes / (double)reserve;
}

void sdb_pressure_compute(const struct sdb_sensors *sensors, struct sdb_pressure *pressure)
{
    *pressure = (struct sdb_pressure){
        .by = {
            [STORM_WAIT_MEMORY] = part_of(sensors->memory_bytes, sensors->memory_limit),
            [STORM_WAIT_LEVEL0] = part_of(sensors->level0_files, sensors->level0_limit),
            [STORM_WAIT_COMPACTION] = part_of(sensors->pending_bytes, sensors->pending_limit),
            [STORM_WAIT_DISK] = disk_pressure(sensors->disk_free, sensors->disk_reserve),
        }};
    for (int i = 0; i < STORM_WAIT_CAUSES; i++) {
        if (pressure->by[i] > pressure->most) {
            pressure->most = pressure->by[i];
            pressure->cause = (enum storm_wait_cause)i;
        }
    }
}

double sdb_pressure_slowdown(double pressure)
{
    if (pressure <= SDB_PRESSURE_FREE)
        return 0;
    if (pressure >= 1)
        return SLOWDOWN_MAX;
    double x = (pressure - SDB_PRESSURE_FREE) / (1 - SDB_PRESSURE_FREE);
    double slowdown = x / (1 - x);
    return slowdown < SLOWDOWN_MAX ? slowdown : SLOWDOWN_MAX;
}

void sdb_drain_add(struct sdb_drain *drain, uint64_t bytes, uint64_t took_ns)
{
    drain->bytes = drain->bytes * DRAIN_KEPT + (double)bytes;
    drain->ns = drain->ns * DRAIN_KEPT + (double)took_ns;
}

double sdb_drain_ns_per_byte(const struct sdb_drain *drain)
{
    double most = 1e6 / DRAIN_LEAST;
    if (drain->bytes <= 0)
        return drain->ns > 0 ? most : 1e6 / DRAIN_GUESS;
    double measured = drain->ns / drain->bytes;
    /* Moves cost next to nothing; a rate without end would be no brake at all. */
    double least = 1e-3;
    return measured < least ? least : measured > most ? most : measured;
}

uint64_t sdb_pacer_take(struct sdb_pacer *pacer, uint64_t now_ns, double cost_ns,
                        uint64_t longest_ns)
{
    /* A sleep always takes a little longer than asked for: so much may be caught up. */
    if (pacer->due_ns + SLEEP_LEAST_NS < now_ns)
        pacer->due_ns = now_ns - SLEEP_LEAST_NS;
    if (cost_ns > (double)longest_ns)
        cost_ns = (double)longest_ns;
    pacer->due_ns += (uint64_t)cost_ns;
    if (pacer->due_ns > now_ns + longest_ns)
        pacer->due_ns = now_ns + longest_ns;
    uint64_t wait_ns = pacer->due_ns > now_ns ? pacer->due_ns - now_ns : 0;
    return wait_ns < SLEEP_LEAST_NS ? 0 : wait_ns;
}
