/*
 * Letting writes in: pressure.h put to work.
 *
 *   pressure   what a write meets                        one that may not wait (asynchronous)
 *   < 0.6      nothing                                   nothing
 *   < 1        a short sleep before the queue, now       held for as long, in order; the commit
 *              and then                                  thread queues it when it is due
 *   >= 1       waits for room                            STORM_BUSY
 *   disk >= 1  STORM_NO_SPACE                            STORM_NO_SPACE
 *
 * The pressure is worked out once a commit group, and when a flush, a compaction or a look at the
 * disk has changed what it depends on; a write only compares a number. Who sleeps here is in no
 * queue, has no turn and does not hold mu, so it holds up nobody else, a synced writer least of
 * all.
 *
 * Wakers. room_cond is signalled by everything that can lower the pressure or end the waiting: a
 * flush's end, well or not (flush.c), a compaction's end or its having nothing to do (compact.c), a
 * look at the disk (below; the flush thread looks each second while the disk is nearly full), the
 * close, and sdb_lsm_break. A slowed writer has the clock besides; a held one has the commit
 * thread's.
 *
 * Time here is the real monotonic clock, not the os's: it is slept by.
 */
#include <inttypes.h>

#include "lsm/db/db.h"
#include "os/thread.h"

/* What a switch of the manifest, the table's own overhead and the file system may need at once. */
#define DISK_SLACK (UINT64_C(1) << 20)
/* The limit of compaction's debt: once the whole store must be rewritten, and in a small one, which
 * is all debt while it grows, so many base levels more. */
enum { PENDING_BASES = 8 };
/* No write is slowed down for longer than a flush lately took; or than this, where flushes are
 * quick. */
#define LONGEST_LEAST_NS UINT64_C(5000000)
/* A hint never asks for less than a write's own way, nor for longer than an operator would
 * believe. */
enum { BUSY_LEAST_MS = 1, BUSY_MOST_MS = 60000, DISK_LOOK_MS = 1000 };

/* ---- Pressure ---- */

static uint64_t disk_reserve(const struct sdb_lsm *db)
{
    /* All memtables as tables, and the log segment that may be begun before they are. */
    return db->options.write_buffer_bytes + sdb_segment_bytes(db) + DISK_SLACK;
}

void sdb_admission_init(struct sdb_lsm *db)
{
    db->admission.held_end = &db->admission.held;
    db->admission.sensors = (struct sdb_sensors){
        .memory_limit = db->options.write_buffer_bytes,
        .disk_free = UINT64_MAX,
        .disk_reserve = disk_reserve(db),
    };
}

uint64_t sdb_admission_room(const struct sdb_lsm *db)
{
    const struct sdb_sensors *sensors = &db->admission.sensors;
    return sensors->disk_free > sensors->disk_reserve ? sensors->disk_free - sensors->disk_reserve
                                                      : 0;
}

void sdb_admission_tree_changed(struct sdb_lsm *db)
{
    struct sdb_sensors *sensors = &db->admission.sensors;
    uint64_t store = 0;
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++)
        store += db->version->levels[l].bytes;
    /* Nobody waits for a compaction that does not come. */
    bool has_debt = !db->level0_stuck && !db->compact_rests;
    sensors->level0_files = db->version->levels[0].count;
    sensors->level0_limit = db->level0_stuck ? 0 : db->tuning.level0_stall;
    sensors->pending_bytes = sdb_pending_bytes(db->version, &db->tuning);
    sensors->pending_limit = has_debt ? PENDING_BASES * db->tuning.base_bytes + store : 0;
    sdb_admission_update(db);
}

static const struct sdb_drain *drain_of(const struct sdb_admission *admission,
                                        enum storm_wait_cause cause)
{
    return cause == STORM_WAIT_MEMORY ? &admission->flush : &admission->compact;
}

void sdb_admission_update(struct sdb_lsm *db)
{
    struct sdb_admission *admission = &db->admission;
    admission->sensors.memory_bytes = sdb_memtable_bytes(db->active.table) + sdb_sealed_bytes(db);
    sdb_pressure_compute(&admission->sensors, &admission->pressure);
    admission->ns_per_byte = 0;
    /* A flush that was put off for the sake of level 0 is not any more. */
    if (admission->pressure.by[STORM_WAIT_MEMORY] >= SDB_PRESSURE_EVEN)
        pthread_cond_signal(&db->flush_cond);
    if (admission->pressure.most <= SDB_PRESSURE_FREE) {
        if (admission->held != NULL)
            pthread_cond_signal(&db->commit_cond);
        return;
    }
    for (int i = 0; i < STORM_WAIT_CAUSES; i++) {
        double cost = sdb_pressure_slowdown(admission->pressure.by[i]) *
                      sdb_drain_ns_per_byte(drain_of(admission, (enum storm_wait_cause)i));
        if (cost > admission->ns_per_byte)
            admission->ns_per_byte = cost;
    }
}

void sdb_admission_flushed(struct sdb_lsm *db, uint64_t user_end, uint64_t table_bytes,
                           uint64_t took_ns)
{
    struct sdb_admission *admission = &db->admission;
    uint64_t user_bytes = user_end - admission->user_flushed;
    admission->user_flushed = user_end;
    sdb_drain_add(&admission->flush, user_bytes, took_ns);
    /* The same average, of bytes for bytes. */
    if (table_bytes != 0 && user_bytes != 0) {
        double ratio = (double)user_bytes / (double)table_bytes;
        double before = admission->user_per_table;
        admission->user_per_table = before == 0 ? ratio : (before * 7 + ratio) / 8;
    }
    admission->flush_ns -= admission->flush_ns / 16;
    if (took_ns > admission->flush_ns)
        admission->flush_ns = took_ns;
}

void sdb_admission_compacted(struct sdb_lsm *db, uint64_t level0_bytes, uint64_t took_ns)
{
    struct sdb_admission *admission = &db->admission;
    /* Jobs of deeper levels drain nothing by themselves, and yet nothing drains for long
     * without. */
    admission->compact_ns += took_ns;
    if (level0_bytes == 0)
        return;
    double ratio = admission->user_per_table == 0 ? 1 : admission->user_per_table;
    sdb_drain_add(&admission->compact, (uint64_t)((double)level0_bytes * ratio),
                  admission->compact_ns);
    admission->compact_ns = 0;
}

/* ---- The disk ---- */

bool sdb_admission_watches_disk(const struct sdb_lsm *db)
{
    return db->admission.pressure.by[STORM_WAIT_DISK] > 0;
}

/* Said when it begins and when it ends, never for each write. */
static void report_disk(const struct sdb_lsm *db, uint64_t free_bytes, bool is_full)
{
    uint64_t reserve = disk_reserve(db);
    if (is_full)
        (void)sdb_fail(db->os->errors, STORM_NO_SPACE,
                       "%s: %" PRIu64 " bytes are free on the disk and %" PRIu64
                       " are kept for flushes: nothing is written until there is more",
                       db->dir, free_bytes, reserve);
    else
        sdb_log(db->os->errors, STORM_LOG_INFO,
                "event=disk_has_room free_bytes=%" PRIu64 " reserve_bytes=%" PRIu64, free_bytes,
                reserve);
}

/* Look once; whether history of the log should make room. */
static bool look_once(struct sdb_lsm *db)
{
    struct sdb_admission *admission = &db->admission;
    uint64_t free_bytes;
    bool is_known = sdb_free_bytes(db->os, db->dir, &free_bytes) == STORM_OK;
    pthread_mutex_lock(&db->mu);
    /* A failure is recorded; the last answer stands. */
    if (is_known)
        admission->sensors.disk_free = free_bytes;
    sdb_admission_update(db);
    bool is_short = admission->pressure.by[STORM_WAIT_DISK] > SDB_PRESSURE_FREE;
    pthread_cond_broadcast(&db->room_cond);
    pthread_mutex_unlock(&db->mu);
    return is_known && is_short && db->wal != NULL;
}

void sdb_admission_look_at_disk(struct sdb_lsm *db)
{
    while (look_once(db) && sdb_wal_give_way(db->wal))
        ;
    pthread_mutex_lock(&db->mu);
    bool is_full = db->admission.pressure.by[STORM_WAIT_DISK] >= 1;
    bool is_news = is_full != db->admission.is_disk_full;
    uint64_t free_bytes = db->admission.sensors.disk_free;
    db->admission.is_disk_full = is_full;
    pthread_mutex_unlock(&db->mu);
    if (is_news)
        report_disk(db, free_bytes, is_full);
}

/* ---- Admission ---- */

/* Why nothing is written now; STORM_OK: there is no reason but, perhaps, that there is no room. */
static storm_status reason_against(struct sdb_lsm *db)
{
    const struct sdb_pressure *pressure = &db->admission.pressure;
    if (db->is_closing)
        return STORM_CLOSED;
    if (atomic_load_explicit(&db->is_broken, memory_order_relaxed))
        return STORM_READ_ONLY;
    if (pressure->by[STORM_WAIT_DISK] >= 1)
        return STORM_NO_SPACE;
    /* Nothing makes room while flushes fail. */
    return pressure->most < 1 ? STORM_OK : db->flush_status;
}

/* mu is held; a wait that began at `start`, 0 = none, is over. */
static void count_wait(struct sdb_admission *admission, enum storm_wait_cause cause, uint64_t start)
{
    if (start == 0)
        return;
    uint64_t us = (sdb_monotonic_ns() - start) / 1000;
    admission->waits[cause]++;
    admission->wait_us[cause] += us;
    if (us > admission->longest_us)
        admission->longest_us = us;
}

/* How long the pressure asks this write to wait. */
static uint64_t pace(struct sdb_admission *admission, const struct sdb_commit *commit, uint64_t now)
{
    double cost_ns = (double)sdb_batch_ops(commit->batch).size * admission->ns_per_byte;
    uint64_t longest_ns =
        admission->flush_ns < LONGEST_LEAST_NS ? LONGEST_LEAST_NS : admission->flush_ns;
    return sdb_pacer_take(&admission->pacer, now, cost_ns, longest_ns);
}

/* The memtable alone may be over the budget with nothing sealed: no flush would ever end. */
static storm_status make_room(struct sdb_lsm *db)
{
    bool is_memory = db->admission.pressure.by[STORM_WAIT_MEMORY] >= 1;
    return is_memory ? sdb_commit_make_room(db) : STORM_OK;
}

/* Sleep until the pressure's due, or it is gone, or the store has something to say. mu is held. */
static void slow_down(struct sdb_lsm *db, uint64_t wait_ns)
{
    uint64_t end = sdb_monotonic_ns() + wait_ns;
    while (db->admission.pressure.most > SDB_PRESSURE_FREE && reason_against(db) == STORM_OK) {
        uint64_t now = sdb_monotonic_ns();
        if (now >= end || !sdb_cond_wait_ns(&db->room_cond, &db->mu, end - now))
            return;
    }
}

storm_status sdb_admit(struct sdb_lsm *db, struct sdb_commit *commit)
{
    struct sdb_admission *admission = &db->admission;
    enum storm_wait_cause cause = admission->pressure.cause;
    uint64_t start = 0;
    storm_status status = reason_against(db);
    while (status == STORM_OK && admission->pressure.most >= 1) {
        status = make_room(db);
        if (status != STORM_OK)
            break;
        if (start == 0)
            start = sdb_monotonic_ns();
        /* make_room let go of mu: look again before sleeping. */
        if (admission->pressure.most >= 1 && reason_against(db) == STORM_OK)
            pthread_cond_wait(&db->room_cond, &db->mu);
        status = reason_against(db);
    }
    if (status == STORM_OK && start == 0 && admission->ns_per_byte > 0) {
        uint64_t now = sdb_monotonic_ns();
        uint64_t wait_ns = pace(admission, commit, now);
        if (wait_ns != 0) {
            start = now;
            slow_down(db, wait_ns);
            status = reason_against(db);
            /* It has had its turn at waiting, so it is let in whatever came up meanwhile. */
        }
    }
    count_wait(admission, cause, start);
    return status;
}

/* ---- Asynchronous writes ---- */

storm_status sdb_admit_async(struct sdb_lsm *db, struct sdb_commit *commit)
{
    struct sdb_admission *admission = &db->admission;
    storm_status status = reason_against(db);
    if (status == STORM_OK && admission->pressure.most >= 1) {
        status = make_room(db);
        if (status == STORM_OK && admission->pressure.most >= 1)
            status = STORM_BUSY;
        admission->refused += status == STORM_BUSY;
    }
    if (status != STORM_OK)
        return status;
    /* Nobody passes those who are held already: submitters count on their order. */
    if (admission->ns_per_byte <= 0 && admission->held == NULL)
        return STORM_OK;
    uint64_t now = sdb_monotonic_ns();
    uint64_t wait_ns = pace(admission, commit, now);
    if (wait_ns == 0 && admission->held == NULL)
        return STORM_OK;
    commit->held_for = admission->pressure.cause;
    commit->held_ns = now;
    commit->due_ns = now + wait_ns;
    commit->next = NULL;
    if (admission->held == NULL)
        pthread_cond_signal(&db->commit_cond);
    *admission->held_end = commit;
    admission->held_end = &commit->next;
    return STORM_PENDING;
}

uint64_t sdb_admission_next_ns(const struct sdb_lsm *db)
{
    const struct sdb_commit *commit = db->admission.held;
    if (commit == NULL)
        return UINT64_MAX;
    uint64_t now = sdb_monotonic_ns();
    bool is_over = db->is_closing || db->admission.ns_per_byte <= 0 || commit->due_ns <= now ||
                   atomic_load_explicit(&db->is_broken, memory_order_relaxed);
    return is_over ? 0 : commit->due_ns - now;
}

struct sdb_commit *sdb_admission_next(struct sdb_lsm *db)
{
    struct sdb_admission *admission = &db->admission;
    struct sdb_commit *commit = admission->held;
    if (commit == NULL || sdb_admission_next_ns(db) != 0)
        return NULL;
    admission->held = commit->next;
    if (admission->held == NULL)
        admission->held_end = &admission->held;
    count_wait(admission, commit->held_for, commit->held_ns);
    return commit;
}

/* ---- For others ---- */

/* How much of what a cause holds has to drain until its pressure is down to where it drains. */
static double excess_bytes(const struct sdb_lsm *db, enum storm_wait_cause cause)
{
    const struct sdb_admission *admission = &db->admission;
    double part = 1 - SDB_PRESSURE_EVEN / admission->pressure.by[cause];
    double ratio = admission->user_per_table == 0 ? 1 : admission->user_per_table;
    if (cause == STORM_WAIT_MEMORY)
        return part * (double)db->options.write_buffer_bytes;
    if (cause == STORM_WAIT_LEVEL0)
        return part * (double)db->version->levels[0].bytes * ratio;
    return part * (double)sdb_pending_bytes(db->version, &db->tuning);
}

unsigned sdb_lsm_busy_ms(storm_db *base)
{
    struct sdb_lsm *db = sdb_lsm(base);
    double ms = BUSY_LEAST_MS;
    pthread_mutex_lock(&db->mu);
    for (int i = 0; i < STORM_WAIT_CAUSES; i++) {
        enum storm_wait_cause cause = (enum storm_wait_cause)i;
        if (db->admission.pressure.by[i] < 1)
            continue;
        double wanted = cause == STORM_WAIT_DISK
                            ? DISK_LOOK_MS
                            : excess_bytes(db, cause) / 1e6 *
                                  sdb_drain_ns_per_byte(drain_of(&db->admission, cause));
        ms = wanted > ms ? wanted : ms;
    }
    pthread_mutex_unlock(&db->mu);
    return ms < BUSY_MOST_MS ? (unsigned)ms : BUSY_MOST_MS;
}

void sdb_admission_stats(const struct sdb_lsm *db, struct storm_stats *stats)
{
    const struct sdb_admission *admission = &db->admission;
    for (size_t i = 0; i < STORM_WAIT_CAUSES; i++) {
        stats->write_waits_by[i] = admission->waits[i];
        stats->write_wait_us_by[i] = admission->wait_us[i];
        stats->write_waits += admission->waits[i];
        stats->write_wait_us += admission->wait_us[i];
    }
    stats->write_wait_longest_us = admission->longest_us;
    stats->writes_refused = admission->refused;
    stats->write_pressure = admission->pressure.most;
    stats->disk_kept_bytes = admission->sensors.disk_reserve;
}
