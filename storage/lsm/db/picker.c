/*
 * Choosing jobs; picker.h has the shape of the tree and the order of urgency.
 *
 * Every rule ends in build(): given tables of a level it finds the output level and the inputs
 * there, or refuses because a quarantined table is in the way or the disk has no room; then the
 * rule goes on to its next candidate. No rule can run for ever: each job moves data down, or
 * removes tables, or rewrites a table of the last level so that what made it a candidate is gone.
 */
#include "lsm/db/picker.h"

#include "lsm/db/sweep.h"

#define MIB (UINT64_C(1) << 20)

/* A score above any other. */
#define URGENT 1e9

/* A level is cut into about so many tables while their size is within its bounds. */
enum { TABLES_OF_LEVEL = 64 };

/* What may be hidden in a busy store whatever its size, in base levels: what level 0 and the base
 * level hold anyway before their sizes have them merged. */
#define GARBAGE_BASES 2.0

/* More range deletes than this are worth a rewrite of tables while the store is busy: so many make
 * a lookup compare eight keys more. */
enum { RANGES_FELT = 128 };

/* ---- Shape ---- */

void sdb_tuning_init(struct sdb_tuning *tuning, const struct storm_options *options)
{
    /* 4 MiB above the last level: a job is one such table and the ten times larger part of the next
     * level below it, so level 0 waits for less than a second. 32 MiB in the last level of a large
     * store keep 100 GiB at some 3,000 tables. */
    *tuning = (struct sdb_tuning){
        .table_bytes = 4 * MIB,
        .base_bytes = 32 * MIB,
        .multiplier = 10,
        .level0_files = 4,
        /* Every read asks each table of level 0: 20 filters cost about as much as one block. */
        .level0_stall = 20,
        .settle_ns = UINT64_C(3000000000),
        .retry_ns = UINT64_C(1000000000),
    };
    /* Four flushes of large memtables must not overrun the base level at once. */
    if (tuning->base_bytes < 4 * (uint64_t)options->memtable_bytes)
        tuning->base_bytes = 4 * (uint64_t)options->memtable_bytes;
}

void sdb_shape_compute(const struct sdb_version *version, const struct sdb_tuning *tuning,
                       struct sdb_shape *shape)
{
    *shape = (struct sdb_shape){.base = SDB_LAST_LEVEL - 1};
    uint64_t target = tuning->base_bytes;
    unsigned first_used = SDB_LAST_LEVEL;
    for (unsigned l = SDB_LAST_LEVEL; l >= 1; l--) {
        /* While it grows, or after a change of sizes, the largest level may not be the last. */
        if (version->levels[l].bytes > target)
            target = version->levels[l].bytes;
        if (version->levels[l].count != 0)
            first_used = l;
    }
    shape->target[SDB_LAST_LEVEL] = target;
    shape->target[shape->base] = target / tuning->multiplier;
    while (shape->base > 1 && shape->target[shape->base] > tuning->base_bytes) {
        shape->base--;
        shape->target[shape->base] = shape->target[shape->base + 1] / tuning->multiplier;
    }
    if (shape->target[shape->base] < tuning->base_bytes / 2)
        shape->target[shape->base] = tuning->base_bytes / 2;
    if (first_used < shape->base)
        shape->base = first_used;
}

uint64_t sdb_shape_table_bytes(const struct sdb_shape *shape, const struct sdb_tuning *tuning,
                               unsigned level)
{
    uint64_t least = tuning->table_bytes << (level == SDB_LAST_LEVEL);
    uint64_t wanted = shape->target[level] / TABLES_OF_LEVEL;
    return wanted < least ? least : wanted > 4 * least ? 4 * least : wanted;
}

/* ---- Ranges ---- */

struct range {
    struct storm_slice smallest, largest; /* both inclusive */
};

static struct range range_of(const struct sdb_level *files)
{
    struct range range = {files->files[0]->smallest, files->files[0]->largest};
    for (size_t i = 1; i < files->count; i++) {
        if (sdb_key_compare(files->files[i]->smallest, range.smallest) < 0)
            range.smallest = files->files[i]->smallest;
        if (sdb_key_compare(files->files[i]->largest, range.largest) > 0)
            range.largest = files->files[i]->largest;
    }
    return range;
}

static bool overlaps(const struct sdb_table_file *file, struct range range)
{
    return sdb_key_compare(file->smallest, range.largest) <= 0 &&
           sdb_key_compare(file->largest, range.smallest) >= 0;
}

static struct sdb_level run_of(const struct sdb_level *level, size_t first, size_t count)
{
    struct sdb_level run = {.count = count, .files = count == 0 ? NULL : level->files + first};
    for (size_t i = 0; i < count; i++)
        run.bytes += run.files[i]->size;
    return run;
}

/* The tables of a sorted level that overlap the range: *first, and how many. */
static size_t find_overlap(const struct sdb_level *level, struct range range, size_t *first)
{
    *first = level->count == 0 ? 0 : sdb_level_find(level, range.smallest);
    size_t end = *first;
    while (end < level->count && sdb_key_compare(level->files[end]->smallest, range.largest) <= 0)
        end++;
    return end - *first;
}

static bool has_quarantined(const struct sdb_level *files)
{
    for (size_t i = 0; i < files->count; i++) {
        if (files->files[i]->is_quarantined)
            return true;
    }
    return false;
}

/* ---- Building a job ---- */

/* Take in neighbours so small that they would only be litter; they cost at most a quarter table
 * each. */
static void take_small_neighbours(const struct sdb_level *level, uint64_t small, size_t *first,
                                  size_t *count)
{
    if (*first > 0) {
        const struct sdb_table_file *left = level->files[*first - 1];
        if (left->size < small && !left->is_quarantined) {
            (*first)--;
            (*count)++;
        }
    }
    if (*first + *count < level->count) {
        const struct sdb_table_file *right = level->files[*first + *count];
        *count += right->size < small && !right->is_quarantined;
    }
}

/* Whether the one input may change its level as it is. */
static bool may_move(const struct sdb_pick_input *input, const struct sdb_pick *pick,
                     uint64_t table_bytes)
{
    const struct sdb_table_file *file = pick->from.files[0];
    if (pick->reason != SDB_PICK_SIZE && pick->reason != SDB_PICK_SETTLE)
        return false;
    if (pick->from.count != 1 || pick->into.count != 0 || file->size < table_bytes / 4 ||
        file->codec != (uint32_t)input->codecs[pick->output])
        return false;
    if (pick->output == SDB_LAST_LEVEL)
        return file->deletes == 0; /* rewritten, they would vanish */
    /* One that covers much of the level below would make for one huge job later. */
    size_t first;
    const struct sdb_level *next = &input->version->levels[pick->output + 1];
    size_t count = find_overlap(next, range_of(&pick->from), &first);
    return run_of(next, first, count).bytes <= input->tuning->multiplier * 2 * table_bytes;
}

/* Whether the outputs fit the disk. They are hardly ever larger than the inputs. */
static bool has_room(const struct sdb_pick_input *input, const struct sdb_pick *pick)
{
    return pick->is_move || input->room_bytes == 0 ||
           pick->from.bytes + pick->into.bytes <= input->room_bytes;
}

/* Make a job of `count` tables of `level`. False when a quarantined table stands in the way, or
 * when there is no room for it. */
static bool build(const struct sdb_pick_input *input, enum sdb_reason reason, unsigned level,
                  size_t from, size_t from_count, struct sdb_pick *pick)
{
    const struct sdb_level *levels = input->version->levels;
    struct sdb_shape shape;
    size_t first = 0;
    size_t count = 0;
    *pick = (struct sdb_pick){.reason = reason, .level = level, .output = level};
    pick->from = run_of(&levels[level], from, from_count);
    if (has_quarantined(&pick->from))
        return false;
    if (level == SDB_LAST_LEVEL)
        return has_room(input, pick);

    struct range range = range_of(&pick->from);
    sdb_shape_compute(input->version, input->tuning, &shape);
    pick->output = level == 0 ? shape.base : level + 1;
    count = find_overlap(&levels[pick->output], range, &first);
    while (count == 0 && pick->output < SDB_LAST_LEVEL) {
        size_t next_first;
        if (find_overlap(&levels[pick->output + 1], range, &next_first) != 0)
            break;
        pick->output++;
        first = next_first;
    }
    uint64_t table_bytes = sdb_shape_table_bytes(&shape, input->tuning, pick->output);
    pick->into = run_of(&levels[pick->output], first, count);
    if (has_quarantined(&pick->into))
        return false;
    pick->is_move = may_move(input, pick, table_bytes);
    if (!pick->is_move) {
        take_small_neighbours(&levels[pick->output], table_bytes / 4, &first, &count);
        pick->into = run_of(&levels[pick->output], first, count);
    }
    return has_room(input, pick);
}

/*
 * Whether the oldest of a run of level 0, at `oldest`, goes down by itself, as it is: a load in the
 * order of keys leaves tables that overlap nothing, and to merge them with one another would only
 * copy them.
 */
static bool build_level0_move(const struct sdb_pick_input *input, enum sdb_reason reason,
                              size_t begin, size_t oldest, struct sdb_pick *pick)
{
    const struct sdb_level *level = &input->version->levels[0];
    struct sdb_level alone = run_of(level, oldest, 1);
    struct range range = range_of(&alone);
    for (size_t i = begin; i < oldest; i++) {
        if (overlaps(level->files[i], range))
            return false;
    }
    return build(input, reason, 0, oldest, 1, pick) && pick->is_move;
}

/*
 * A job out of level 0: the oldest tables first, as many as no quarantined one stands among; a run
 * in front of (newer than) a quarantined table goes only if it overlaps nothing behind it. Only
 * tables numbered below `before`.
 */
static bool build_level0(const struct sdb_pick_input *input, enum sdb_reason reason,
                         uint64_t before, struct sdb_pick *pick)
{
    const struct sdb_level *level = &input->version->levels[0];
    size_t end = level->count;
    while (end > 0) {
        size_t begin = end;
        while (begin > 0 && !level->files[begin - 1]->is_quarantined &&
               level->files[begin - 1]->number < before)
            begin--;
        if (begin < end) {
            struct sdb_level run = run_of(level, begin, end - begin);
            struct range range = range_of(&run);
            bool is_free = true;
            for (size_t i = end; i < level->count; i++)
                is_free = is_free && !overlaps(level->files[i], range);
            if (is_free && (build_level0_move(input, reason, begin, end - 1, pick) ||
                            build(input, reason, 0, begin, end - begin, pick)))
                return true;
        }
        if (begin == 0 || level->files[begin - 1]->number >= before)
            return false;
        end = begin - 1;
    }
    return false;
}

/* The level's next table in turn that a job can be made of. */
static bool build_in_turn(const struct sdb_pick_input *input, enum sdb_reason reason,
                          unsigned number, struct sdb_pick *pick)
{
    const struct sdb_level *level = &input->version->levels[number];
    struct storm_slice cursor = sdb_buffer_slice(&input->cursors[number]);
    size_t start = 0;
    while (start < level->count && cursor.size != 0 &&
           sdb_key_compare(level->files[start]->smallest, cursor) <= 0)
        start++;
    for (size_t i = 0; i < level->count; i++) {
        if (build(input, reason, number, (start + i) % level->count, 1, pick))
            return true;
    }
    return false;
}

/* ---- The rules ---- */

bool sdb_is_level0_urgent(const struct sdb_version *version, const struct sdb_tuning *tuning)
{
    return version->levels[0].count * 5 >= tuning->level0_stall * 4;
}

static double score_of(const struct sdb_version *version, const struct sdb_tuning *tuning,
                       const struct sdb_shape *shape, unsigned l)
{
    const struct sdb_level *level = &version->levels[l];
    if (level->count == 0)
        return 0;
    if (l == 0) {
        if (sdb_is_level0_urgent(version, tuning))
            return URGENT;
        double files = (double)level->count / (double)tuning->level0_files;
        double bytes = (double)level->bytes / (double)tuning->base_bytes;
        return files > bytes ? files : bytes;
    }
    /* Above the base as it would be without this level's data: drained before anything else. */
    if (shape->target[l] == 0)
        return 1000 - (double)l;
    return (double)level->bytes / (double)shape->target[l];
}

static bool pick_by_size(const struct sdb_pick_input *input, struct sdb_pick *pick)
{
    struct sdb_shape shape;
    double scores[SDB_LAST_LEVEL];
    sdb_shape_compute(input->version, input->tuning, &shape);
    for (unsigned l = 0; l < SDB_LAST_LEVEL; l++)
        scores[l] = score_of(input->version, input->tuning, &shape, l);
    for (;;) {
        unsigned best = 0;
        for (unsigned l = 1; l < SDB_LAST_LEVEL; l++) {
            if (scores[l] > scores[best])
                best = l;
        }
        if (scores[best] < 1)
            return false;
        scores[best] = 0;
        if (best == 0 ? build_level0(input, SDB_PICK_SIZE, UINT64_MAX, pick)
                      : build_in_turn(input, SDB_PICK_SIZE, best, pick))
            return true;
    }
}

/* The bytes that a level above the last may hide in deeper ones, its own included. */
static double hidden_bytes(const struct sdb_level *level, double entry_bytes)
{
    double bytes = (double)level->bytes;
    for (size_t i = 0; i < level->count; i++)
        bytes += (double)level->files[i]->deletes * entry_bytes;
    return bytes;
}

static bool pick_by_garbage(const struct sdb_pick_input *input, struct sdb_pick *pick)
{
    const struct sdb_level *last = &input->version->levels[SDB_LAST_LEVEL];
    double hidden[SDB_LAST_LEVEL];
    double garbage = 0;
    double whole = (double)last->bytes;
    uint64_t entries = 0;
    for (size_t i = 0; i < last->count; i++)
        entries += last->files[i]->entries;
    double entry_bytes = entries == 0 ? 0 : (double)last->bytes / (double)entries;
    for (unsigned l = 0; l < SDB_LAST_LEVEL; l++) {
        hidden[l] = hidden_bytes(&input->version->levels[l], entry_bytes);
        garbage += hidden[l];
        whole += (double)input->version->levels[l].bytes;
    }
    if (garbage * (input->is_idle ? 8 : 2) <= whole)
        return false;
    /* A small or growing store is all upper levels: merging them while it is written to would
     * rewrite it again and again for the sake of little. */
    if (!input->is_idle && garbage <= GARBAGE_BASES * (double)input->tuning->base_bytes)
        return false;
    for (;;) {
        unsigned worst = 0;
        for (unsigned l = 1; l < SDB_LAST_LEVEL; l++) {
            if (hidden[l] > hidden[worst])
                worst = l;
        }
        if (hidden[worst] <= 0)
            return false;
        hidden[worst] = 0;
        if (worst == 0 ? build_level0(input, SDB_PICK_GARBAGE, UINT64_MAX, pick)
                       : build_in_turn(input, SDB_PICK_GARBAGE, worst, pick))
            return true;
    }
}

uint32_t sdb_snapshots_within(const uint64_t *snapshots, size_t count,
                              const struct sdb_table_file *file)
{
    uint32_t within = 0;
    for (size_t i = 0; i < count; i++)
        within += snapshots[i] >= file->min_revision && snapshots[i] < file->max_revision;
    return within;
}

/* In the last level deletes and older versions are there for snapshots only. */
static bool has_outlived_snapshots(const struct sdb_pick_input *input,
                                   const struct sdb_table_file *file)
{
    uint64_t older = file->keys == 0 ? 0 : file->entries - file->keys;
    if ((file->deletes + older) * 10 <= file->entries)
        return false;
    return sdb_snapshots_within(input->snapshots, input->snapshot_count, file) < file->snapshots;
}

bool sdb_holds_old_versions(const struct sdb_version *version)
{
    const struct sdb_level *last = &version->levels[SDB_LAST_LEVEL];
    for (size_t i = 0; i < last->count; i++) {
        const struct sdb_table_file *file = last->files[i];
        if (file->keys != 0 && (file->deletes != 0 || file->entries != file->keys))
            return true;
    }
    return false;
}

static bool pick_by_deletes(const struct sdb_pick_input *input, struct sdb_pick *pick)
{
    for (unsigned l = 1; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &input->version->levels[l];
        for (size_t i = 0; i < level->count; i++) {
            const struct sdb_table_file *file = level->files[i];
            bool is_wanted = l == SDB_LAST_LEVEL ? has_outlived_snapshots(input, file)
                                                 : file->deletes * 4 > file->entries;
            if (is_wanted && build(input, SDB_PICK_DELETES, l, i, 1, pick))
                return true;
        }
    }
    return false;
}

static bool pick_by_expiry(const struct sdb_pick_input *input, struct sdb_pick *pick)
{
    for (unsigned l = 1; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &input->version->levels[l];
        for (size_t i = 0; i < level->count; i++) {
            uint64_t stale_ms = level->files[i]->stale_ms;
            if (stale_ms != 0 && stale_ms <= input->now_ms &&
                build(input, SDB_PICK_EXPIRED, l, i, 1, pick))
                return true;
        }
    }
    return false;
}

/*
 * Why letting go of a whole table is safe wherever it lies: what it hid in deeper tables is older
 * than it, in the same keys, so the same range delete hides that; and this stays in force for as
 * long as it concerns any table.
 */
bool sdb_pick_dead(const struct sdb_pick_input *input, struct sdb_pick *pick)
{
    const struct sdb_version *version = input->version;
    for (unsigned l = 0; l < STORM_MAX_LEVELS && version->ranges != NULL; l++) {
        const struct sdb_level *level = &version->levels[l];
        size_t first = 0;
        size_t end = 0;
        for (size_t i = 0; i < level->count; i++) {
            bool is_dead = sdb_sweep_is_dead(version->ranges, level->files[i], input->snapshots,
                                             input->snapshot_count);
            if (is_dead && end == 0)
                first = i;
            if (is_dead)
                end = i + 1;
            else if (end != 0)
                break;
        }
        if (end != 0) {
            *pick = (struct sdb_pick){.reason = SDB_PICK_RANGES,
                                      .level = l,
                                      .output = l,
                                      .from = run_of(level, first, end - first),
                                      .is_drop = true};
            return true;
        }
    }
    return false;
}

/* The oldest range deletes first: these leave first. One that a snapshot still needs kept is not
 * waited for, for a rewrite would not end it. */
static bool pick_by_ranges(const struct sdb_pick_input *input, struct sdb_pick *pick)
{
    const struct sdb_version *version = input->version;
    if (!input->is_idle && sdb_ranges_count(version->ranges) <= RANGES_FELT)
        return false;
    uint64_t reach = sdb_sweep_reach(version->ranges, input->snapshots, input->snapshot_count);
    for (size_t r = 0; r < sdb_ranges_count(version->ranges); r++) {
        const struct sdb_range *range = &version->ranges->list[r];
        if (range->revision > reach)
            break;
        for (unsigned l = 0; l < STORM_MAX_LEVELS; l++) {
            size_t count = version->levels[l].count;
            for (size_t i = sdb_sweep_find(version, l, 0, range); i < count;
                 i = sdb_sweep_find(version, l, i + 1, range)) {
                if (l == 0 ? build_level0(input, SDB_PICK_RANGES, UINT64_MAX, pick)
                           : build(input, SDB_PICK_RANGES, l, i, 1, pick))
                    return true;
            }
        }
    }
    return false;
}

bool sdb_pick(const struct sdb_pick_input *input, struct sdb_pick *pick)
{
    *pick = (struct sdb_pick){.reason = SDB_PICK_NONE};
    if (input->tuning->is_by_hand)
        return false;
    if (sdb_pick_dead(input, pick) || pick_by_size(input, pick) || pick_by_garbage(input, pick) ||
        pick_by_deletes(input, pick) || pick_by_expiry(input, pick) || pick_by_ranges(input, pick))
        return true;
    if (input->is_idle && build_level0(input, SDB_PICK_SETTLE, UINT64_MAX, pick))
        return true;
    *pick = (struct sdb_pick){.reason = SDB_PICK_NONE};
    return false;
}

/* ---- By hand ---- */

bool sdb_is_in_range(const struct sdb_table_file *file, struct storm_slice start,
                     struct storm_slice end)
{
    return (start.size == 0 || sdb_key_compare(file->largest, start) >= 0) &&
           (end.size == 0 || sdb_key_compare(file->smallest, end) < 0);
}

/* Tables of the last level from index `first` on that are rewritten together: up to a table's size,
 * so that small neighbours become one. */
static size_t manual_run(const struct sdb_pick_input *input, size_t first, uint64_t before)
{
    const struct sdb_level *last = &input->version->levels[SDB_LAST_LEVEL];
    struct sdb_shape shape;
    sdb_shape_compute(input->version, input->tuning, &shape);
    uint64_t most = sdb_shape_table_bytes(&shape, input->tuning, SDB_LAST_LEVEL);
    uint64_t bytes = 0;
    size_t end = first;
    while (end < last->count && last->files[end]->number < before &&
           !last->files[end]->is_quarantined && (end == first || bytes < most)) {
        bytes += last->files[end]->size;
        end++;
    }
    return end == first ? 1 : end - first;
}

bool sdb_pick_manual(const struct sdb_pick_input *input, struct storm_slice start,
                     struct storm_slice end, uint64_t before, struct sdb_pick *pick)
{
    for (unsigned l = 0; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &input->version->levels[l];
        for (size_t i = 0; i < level->count; i++) {
            const struct sdb_table_file *file = level->files[i];
            bool is_done = (l == 0 || l == SDB_LAST_LEVEL) && file->number >= before;
            if (is_done || !sdb_is_in_range(file, start, end))
                continue;
            size_t count = l == SDB_LAST_LEVEL ? manual_run(input, i, before) : 1;
            if (l != 0 ? build(input, SDB_PICK_MANUAL, l, i, count, pick)
                       : build_level0(input, SDB_PICK_MANUAL, before, pick))
                return true;
        }
    }
    *pick = (struct sdb_pick){.reason = SDB_PICK_NONE};
    return false;
}

uint64_t sdb_manual_bytes(const struct sdb_version *version, struct storm_slice start,
                          struct storm_slice end, uint64_t before)
{
    uint64_t bytes = 0;
    for (unsigned l = 0; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &version->levels[l];
        for (size_t i = 0; i < level->count; i++) {
            const struct sdb_table_file *file = level->files[i];
            bool is_done = (l == 0 || l == SDB_LAST_LEVEL) && file->number >= before;
            if (!is_done && sdb_is_in_range(file, start, end))
                bytes += file->size;
        }
    }
    return bytes;
}

/* ---- For the thread and the statistics ---- */

uint64_t sdb_next_stale_ms(const struct sdb_version *version)
{
    uint64_t next = 0;
    for (unsigned l = 1; l < STORM_MAX_LEVELS; l++) {
        const struct sdb_level *level = &version->levels[l];
        for (size_t i = 0; i < level->count; i++) {
            uint64_t stale_ms = level->files[i]->is_quarantined ? 0 : level->files[i]->stale_ms;
            if (stale_ms != 0 && (next == 0 || stale_ms < next))
                next = stale_ms;
        }
    }
    return next;
}

uint64_t sdb_pending_bytes(const struct sdb_version *version, const struct sdb_tuning *tuning)
{
    struct sdb_shape shape;
    double pending = 0;
    double carried = 0; /* what comes down from the level above */
    sdb_shape_compute(version, tuning, &shape);
    const struct sdb_level *level0 = &version->levels[0];
    if (score_of(version, tuning, &shape, 0) >= 1) {
        carried = (double)level0->bytes;
        pending = carried + (double)version->levels[shape.base].bytes;
    }
    for (unsigned l = shape.base; l < SDB_LAST_LEVEL; l++) {
        double bytes = (double)version->levels[l].bytes + carried;
        carried = bytes - (double)shape.target[l];
        if (carried <= 0)
            carried = 0;
        else
            pending += carried * (1 + (double)version->levels[l + 1].bytes / bytes);
    }
    return (uint64_t)pending;
}

const char *sdb_reason_name(enum sdb_reason reason)
{
    static const char *const names[] = {
        [SDB_PICK_NONE] = "none",       [SDB_PICK_SIZE] = "size",
        [SDB_PICK_GARBAGE] = "garbage", [SDB_PICK_DELETES] = "deletes",
        [SDB_PICK_EXPIRED] = "expired", [SDB_PICK_SETTLE] = "settle",
        [SDB_PICK_RANGES] = "ranges",   [SDB_PICK_MANUAL] = "manual",
    };
    return names[reason];
}
