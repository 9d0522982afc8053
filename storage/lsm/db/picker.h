/*
 * Which tables to compact next: pure functions over a version. No I/O, no locks, no memory.
 *
 * Shape. Level 6, the last, holds nearly everything; each level above holds a tenth of the next,
 * counted from the bottom, down to a base level of at most `base_bytes`:
 *
 *   L0   flushed tables, newest first, overlapping       <= 4 tables
 *   ..   empty                                            (levels above the base)
 *   L4   base       target = target(L5) / 10              16 to 32 MiB
 *   L5              target = target(L6) / 10
 *   L6   settled    whatever the data is
 *
 * So the bytes above the last level stay near a ninth of it whatever the store's size (the dynamic
 * level sizes of RocksDB). A small store has L5 for its base: there level 0 is merged fast and
 * often, so that the last level is rewritten, and compressed, seldom.
 *
 * What is picked, most urgent first:
 *   0 range deletes: tables in which they leave nothing to be seen go at once, without being read,
 *     damaged ones too;
 *   1 level 0, once it holds four fifths of the tables at which writes stop: they are being slowed
 *     down for it, and behind a long debt of deeper levels it would wait for many jobs;
 *     then the level whose score is highest, if that is 1 or more: level 0 by tables (or bytes),
 *     others by bytes over target, a level above the base at once;
 *   2 garbage: what the upper levels hide (their bytes, and for each delete one average entry) is more
 *     than an eighth of the store when it is idle; while it is busy, more than half of it and more
 *     than two base levels;
 *   3 deletes: a table with more than a quarter deletes goes down; one in the last level whose
 *     deletes and old versions were kept for snapshots that are gone is rewritten;
 *   4 expiry: likewise, once a fifth of a table has expired;
 *   5 range deletes: what else they concern (sweep.h) goes down, or is rewritten in the last level,
 *     once the store is idle, or when there are so many that reads feel them;
 *   6 when the store is idle: what is left in level 0, so that a settled store reads as if it had been
 *     loaded once.
 *
 * The three thresholds together keep a settled store below 1.5 times its live data: at worst an
 * eighth hidden from above, a fifth of the rest expired, and seldom a tenth old versions.
 *
 * Inputs of a job: tables of one level (all eligible ones of level 0; else one), and every table of
 * the output level that overlaps their range. When the levels below have nothing in that range the
 * output goes straight to the deepest such level. Small neighbours in the output level are taken
 * in, so that a trickle of writes cannot leave a litter of small tables. One table that meets
 * nothing there, and needs no rewriting, is moved as it is; out of level 0 too, one after the
 * other, where the oldest meets none of the others: so a load in the order of keys is written once.
 *
 * A compaction must not be what fills the disk: a job whose inputs are larger than the room there
 * is passed over, so that smaller ones, and moves, which need none, still go.
 *
 * A quarantined table is never an input, nor is what would have to pass it on the way down:
 * newer data must not end up below older data.
 */
#ifndef SDB_LSM_DB_PICKER_H
#define SDB_LSM_DB_PICKER_H

#include "lsm/db/version.h"
#include "util/buffer.h"

enum { SDB_LAST_LEVEL = STORM_MAX_LEVELS - 1 };

/* Sizes of the tree; const after open. Tests make them small. */
struct sdb_tuning {
    uint64_t table_bytes; /* of a table, at least; in the last level twice that. At most 4 times */
    uint64_t base_bytes;  /* the base level's largest target */
    unsigned multiplier;  /* from level to level */
    size_t level0_files;  /* so many tables in level 0 are merged down */
    size_t level0_stall;  /* with so many, writes wait */
    uint64_t settle_ns;   /* without a flush for so long the store is idle */
    uint64_t retry_ns;    /* first pause after a failed job; doubles */
    bool is_by_hand;      /* nothing is compacted but by storm_compact */
    uint64_t segment_bytes; /* of the log; 0 = as the options have it. Tests want small ones */
};

void sdb_tuning_init(struct sdb_tuning *tuning, const struct storm_options *options);

struct sdb_shape {
    unsigned base; /* where level 0 is merged to; never below a level that holds data */
    uint64_t target[STORM_MAX_LEVELS];
};

void sdb_shape_compute(const struct sdb_version *version, const struct sdb_tuning *tuning,
                       struct sdb_shape *shape);

/* The size at which a table written to `level` is cut. */
uint64_t sdb_shape_table_bytes(const struct sdb_shape *shape, const struct sdb_tuning *tuning,
                               unsigned level);

enum sdb_reason {
    SDB_PICK_NONE,
    SDB_PICK_SIZE,
    SDB_PICK_GARBAGE,
    SDB_PICK_DELETES,
    SDB_PICK_EXPIRED,
    SDB_PICK_RANGES,
    SDB_PICK_SETTLE,
    SDB_PICK_MANUAL,
};

const char *sdb_reason_name(enum sdb_reason reason);

/* A job. The files are runs of the version's own arrays: valid as long as the version is. */
struct sdb_pick {
    enum sdb_reason reason;
    unsigned level, output;
    struct sdb_level from; /* tables of `level` */
    struct sdb_level into; /* tables of `output` that they are merged with */
    bool is_move;          /* one table that only changes its level */
    bool is_drop;          /* tables that only go */
};

/* All that a choice depends on; borrowed. */
struct sdb_pick_input {
    const struct sdb_version *version;
    const struct sdb_tuning *tuning;
    const uint64_t *snapshots; /* ascending */
    size_t snapshot_count;
    const struct sdb_buffer *cursors;          /* for each level: the last key compacted from it */
    enum storm_codec codecs[STORM_MAX_LEVELS]; /* what tables of each level are written with */
    uint64_t now_ms;
    bool is_idle;
    uint64_t
        room_bytes; /* on the disk: a job that may write more is passed over; 0 = as many as any */
};

/* False: nothing to do. */
bool sdb_pick(const struct sdb_pick_input *input, struct sdb_pick *pick);

/* Only what needs no reading: tables in which nothing is visible. False: there are none. */
bool sdb_pick_dead(const struct sdb_pick_input *input, struct sdb_pick *pick);

/*
 * The next step of a compaction by hand of the keys in [start, end), empty = unbounded: everything
 * goes down level by level, then tables of the last level numbered below `before` are rewritten.
 * Flushes numbered `before` or above stay where they are. False: it is done.
 */
bool sdb_pick_manual(const struct sdb_pick_input *input, struct storm_slice start,
                     struct storm_slice end, uint64_t before, struct sdb_pick *pick);

/* Bytes that compaction by hand of the range still has to read. */
uint64_t sdb_manual_bytes(const struct sdb_version *version, struct storm_slice start,
                          struct storm_slice end, uint64_t before);

/* Whether the table holds keys of [start, end), as far as its bounds tell; empty = unbounded. */
bool sdb_is_in_range(const struct sdb_table_file *file, struct storm_slice start,
                     struct storm_slice end);

/* Whether tables of the last level hold deletes or older versions, which only snapshots justify. */
bool sdb_holds_old_versions(const struct sdb_version *version);

/* When the first table will have become stale by expiry, Unix ms; 0 = none will. */
uint64_t sdb_next_stale_ms(const struct sdb_version *version);

/* Whether level 0 goes before all else. */
bool sdb_is_level0_urgent(const struct sdb_version *version, const struct sdb_tuning *tuning);

/* An estimate of the bytes that must be rewritten until no level is over its target. */
uint64_t sdb_pending_bytes(const struct sdb_version *version, const struct sdb_tuning *tuning);

/* Snapshots at which a table's older versions may be seen: those in [min_revision,
 * max_revision). */
uint32_t sdb_snapshots_within(const uint64_t *snapshots, size_t count,
                              const struct sdb_table_file *file);

#endif
