/* Backpressure as arithmetic: the curve, the drain, the pacer, and all three as a spring. No
 * store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lsm/db/pressure.h"

#define MIB (UINT64_C(1) << 20)
#define MS  UINT64_C(1000000)

static struct sdb_sensors easy(void)
{
    return (struct sdb_sensors){
        .memory_limit = 64 * MIB,
        .level0_limit = 20,
        .pending_limit = 256 * MIB,
        .disk_free = 10000 * MIB,
        .disk_reserve = 128 * MIB,
    };
}

/* One cause's pressure as its debt goes from 0 to twice the limit in `steps`. */
static struct sdb_pressure at(enum storm_wait_cause cause, unsigned step, unsigned steps)
{
    struct sdb_sensors sensors = easy();
    struct sdb_pressure pressure;
    switch (cause) {
    case STORM_WAIT_MEMORY:
        sensors.memory_bytes = 2 * sensors.memory_limit * step / steps;
        break;
    case STORM_WAIT_LEVEL0:
        sensors.level0_files = 2 * sensors.level0_limit * step / steps;
        break;
    case STORM_WAIT_COMPACTION:
        sensors.pending_bytes = 2 * sensors.pending_limit * step / steps;
        break;
    default:
        sensors.disk_free = 2 * sensors.disk_reserve * (steps - step) / steps;
        break;
    }
    sdb_pressure_compute(&sensors, &pressure);
    return pressure;
}

static void pressure_grows_with_every_debt_and_never_jumps(void **state)
{
    (void)state;
    for (int c = 0; c < STORM_WAIT_CAUSES; c++) {
        enum storm_wait_cause cause = (enum storm_wait_cause)c;
        unsigned steps = cause == STORM_WAIT_LEVEL0 ? 40 : 10000;
        assert_true(at(cause, 0, steps).most == 0);
        double last = 0;
        for (unsigned i = 1; i <= steps; i++) {
            struct sdb_pressure pressure = at(cause, i, steps);
            assert_true(pressure.by[c] > last);
            assert_true(pressure.by[c] - last < 2.001 / steps);
            assert_true(pressure.most == pressure.by[c]);
            assert_int_equal(pressure.cause, cause);
            last = pressure.by[c];
        }
        assert_true(last > 1.999 && last < 2.001);
        assert_true(at(cause, steps / 2, steps).most == 1);
    }
}

static void the_largest_pressure_counts_and_a_limit_of_zero_does_not(void **state)
{
    struct sdb_sensors sensors = easy();
    struct sdb_pressure pressure;
    (void)state;
    sensors.memory_bytes = 40 * MIB;
    sensors.level0_files = 19;
    sensors.pending_bytes = 100 * MIB;
    sdb_pressure_compute(&sensors, &pressure);
    assert_int_equal(pressure.cause, STORM_WAIT_LEVEL0);
    sensors.level0_limit = 0;
    sdb_pressure_compute(&sensors, &pressure);
    assert_int_equal(pressure.cause, STORM_WAIT_MEMORY);
    assert_true(pressure.by[STORM_WAIT_LEVEL0] == 0);
    sensors = (struct sdb_sensors){.memory_bytes = 1, .level0_files = 1, .pending_bytes = 1};
    sdb_pressure_compute(&sensors, &pressure);
    assert_true(pressure.most == 0);
}

static void the_slowdown_begins_at_nothing_and_grows_without_a_step(void **state)
{
    const double step = 1e-5;
    double last = 0;
    (void)state;
    for (double p = 0; p <= SDB_PRESSURE_FREE; p += step)
        assert_true(sdb_pressure_slowdown(p) == 0);
    for (double p = SDB_PRESSURE_FREE; p < 1.5; p += step) {
        double slowdown = sdb_pressure_slowdown(p);
        assert_true(slowdown >= last);
        /* The curve's own slope, (1 + slowdown)^2 / 0.4, and no more. */
        assert_true(slowdown - last < step * (2 + slowdown) * (2 + slowdown) / 0.4);
        last = slowdown;
    }
    assert_true(sdb_pressure_slowdown(SDB_PRESSURE_EVEN) > 0.999 &&
                sdb_pressure_slowdown(SDB_PRESSURE_EVEN) < 1.001);
    assert_true(last > 20 && last < 1000);
}

static void drain_follows_what_was_measured(void **state)
{
    struct sdb_drain drain = {0};
    (void)state;
    double guess = sdb_drain_ns_per_byte(&drain);
    assert_true(guess > 10 && guess < 200); /* 100 to 5 MB/s */
    for (int i = 0; i < 5; i++)
        sdb_drain_add(&drain, 10 * MIB, 100 * MS); /* about 100 MB/s */
    assert_true(sdb_drain_ns_per_byte(&drain) > 9.5 && sdb_drain_ns_per_byte(&drain) < 9.6);
    /* One outlier does not turn it over, a change does, and tiny measurements count little. */
    sdb_drain_add(&drain, 10 * MIB, 1000 * MS);
    assert_true(sdb_drain_ns_per_byte(&drain) < 40);
    sdb_drain_add(&drain, 1000, 20 * MS);
    assert_true(sdb_drain_ns_per_byte(&drain) < 40);
    for (int i = 0; i < 40; i++)
        sdb_drain_add(&drain, 10 * MIB, 1000 * MS);
    assert_true(sdb_drain_ns_per_byte(&drain) > 90 && sdb_drain_ns_per_byte(&drain) < 100);
    /* Syncs of next to nothing say nothing about the disk. */
    for (int i = 0; i < 200; i++)
        sdb_drain_add(&drain, 10, 20 * MS);
    assert_true(sdb_drain_ns_per_byte(&drain) <= 250);
    for (int i = 0; i < 200; i++)
        sdb_drain_add(&drain, MIB, 0);
    assert_true(sdb_drain_ns_per_byte(&drain) > 0);
}

static void the_pacer_keeps_to_the_rate_whatever_the_sizes_and_sleeps(void **state)
{
    static const double costs[] = {500, 90000, 1500000, 40000000};
    (void)state;
    for (size_t c = 0; c < sizeof costs / sizeof costs[0]; c++) {
        struct sdb_pacer pacer = {0};
        uint64_t start = 1000000 * MS;
        uint64_t now = start;
        unsigned writes = (unsigned)(4e9 / costs[c]);
        for (unsigned i = 0; i < writes; i++) {
            uint64_t wait = sdb_pacer_take(&pacer, now, costs[c], 100 * MS);
            assert_true(wait == 0 || (wait >= MS && wait <= 100 * MS));
            now += 100 + (wait == 0 ? 0 : wait + 100000); /* sleeps last a little longer */
        }
        double took = (double)(now - start);
        assert_true(took > 3.9e9 && took < 4.2e9);
    }
}

static void the_pacer_forgets_idle_time_and_never_waits_longer_than_allowed(void **state)
{
    struct sdb_pacer pacer = {0};
    uint64_t now = 1000000 * MS;
    unsigned at_once = 0;
    (void)state;
    while (sdb_pacer_take(&pacer, now, 100000, 50 * MS) == 0)
        at_once++;
    assert_in_range(at_once, 5, 25); /* 2 ms of them, although it slept for ever before */
    for (int i = 0; i < 1000; i++)
        assert_true(sdb_pacer_take(&pacer, now, 1e12, 50 * MS) == 50 * MS);
    now += 51 * MS;
    assert_int_equal(sdb_pacer_take(&pacer, now, 1000, 50 * MS), 0); /* nothing was piled up */
}

/* The pressure at which a writer at full speed and a drain of 20 MB/s settle. */
static double settle(double believed_ns_per_byte)
{
    enum { WRITE = 4096 };
    struct sdb_sensors sensors = easy();
    struct sdb_pressure pressure;
    struct sdb_pacer pacer = {0};
    uint64_t now = 1000 * MS, drained_until = now, written_late = 0;
    double bytes = 0, most = 0;
    uint64_t end = now + 60000 * MS;
    while (now < end) {
        bytes -= (double)(now - drained_until) / 50;
        bytes = bytes < 0 ? 0 : bytes;
        drained_until = now;
        sensors.memory_bytes = (uint64_t)bytes;
        sdb_pressure_compute(&sensors, &pressure);
        most = pressure.most > most ? pressure.most : most;
        double cost = WRITE * sdb_pressure_slowdown(pressure.most) * believed_ns_per_byte;
        uint64_t wait = sdb_pacer_take(&pacer, now, cost, 50 * MS);
        now += 4000 + wait; /* 1 GB/s when free */
        bytes += WRITE;
        written_late += now > end - 20000 * MS ? WRITE : 0;
    }
    assert_true(most < 1); /* it never came to a stop */
    assert_true((double)written_late > 0.95 * 400e6 && (double)written_late < 1.05 * 400e6);
    return pressure.most;
}

static void writes_settle_at_the_speed_of_the_drain_without_ever_stopping(void **state)
{
    (void)state;
    double even = settle(50);
    assert_true(even > 0.79 && even < 0.81);
    /* Measured wrong, the drain moves the point, and no more. */
    assert_true(settle(15) > 0.81);
    assert_true(settle(150) < 0.79);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pressure_grows_with_every_debt_and_never_jumps),
        cmocka_unit_test(the_largest_pressure_counts_and_a_limit_of_zero_does_not),
        cmocka_unit_test(the_slowdown_begins_at_nothing_and_grows_without_a_step),
        cmocka_unit_test(drain_follows_what_was_measured),
        cmocka_unit_test(the_pacer_keeps_to_the_rate_whatever_the_sizes_and_sleeps),
        cmocka_unit_test(the_pacer_forgets_idle_time_and_never_waits_longer_than_allowed),
        cmocka_unit_test(writes_settle_at_the_speed_of_the_drain_without_ever_stopping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
