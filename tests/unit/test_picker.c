/* What is picked for compaction: pure decisions over versions made up here. No store is opened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "lsm/db/picker.h"
#include "lsm/db/sweep.h"
#include "random.h"

#define MIB (UINT64_C(1) << 20)
#define KIB (UINT64_C(1) << 10)

/* A version under construction, and what a pick asks besides. */
struct tree {
    struct sdb_garbage garbage;
    struct sdb_version *version;
    struct sdb_tuning tuning;
    struct sdb_buffer cursors[STORM_MAX_LEVELS];
    struct sdb_pick_input input;
    struct sdb_pick pick;
    uint64_t number;
};

static void tree_init(struct tree *tree)
{
    struct storm_options options = {.memtable_bytes = 1 << 20};
    *tree = (struct tree){.version = sdb_version_create()};
    assert_non_null(tree->version);
    pthread_mutex_init(&tree->garbage.mu, NULL);
    sdb_tuning_init(&tree->tuning, &options);
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++)
        sdb_buffer_init(&tree->cursors[l], 100);
    tree->input = (struct sdb_pick_input){.tuning = &tree->tuning, .cursors = tree->cursors};
}

static void tree_fini(struct tree *tree)
{
    sdb_version_unref(tree->version);
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++)
        sdb_buffer_fini(&tree->cursors[l]);
    pthread_mutex_destroy(&tree->garbage.mu);
}

static void apply(struct tree *tree, const struct sdb_edit *edit)
{
    struct sdb_version *after = sdb_version_apply(tree->version, edit);
    assert_non_null(after);
    sdb_version_unref(tree->version);
    tree->version = after;
}

/* A table of live puts, 100 bytes each. Borrowed from the version. */
static struct sdb_table_file *add(struct tree *tree, unsigned level, const char *smallest,
                                  const char *largest, uint64_t size)
{
    struct sdb_table_file *file = sdb_table_file_create(
        ++tree->number, size, level, storm_text(smallest), storm_text(largest), &tree->garbage);
    assert_non_null(file);
    file->entries = size / 100;
    file->keys = size / 100;
    file->min_revision = tree->number * 100;
    file->max_revision = tree->number * 100 + 99;
    apply(tree, &(struct sdb_edit){.added = &file, .added_count = 1});
    sdb_table_file_unref(file);
    return file;
}

static bool pick(struct tree *tree)
{
    tree->input.version = tree->version;
    return sdb_pick(&tree->input, &tree->pick);
}

/* Ten tables of `size` that share the keys a to z, so that nothing above is large beside them. */
static void add_settled(struct tree *tree, uint64_t size)
{
    static const char *const bounds[] = {"a0", "a9", "b0", "b9", "c0", "c9", "d0",
                                         "d9", "e0", "e9", "f0", "f9", "g0", "g9",
                                         "h0", "h9", "i0", "i9", "j0", "j9"};
    for (size_t i = 0; i < 20; i += 2)
        add(tree, SDB_LAST_LEVEL, bounds[i], bounds[i + 1], size);
}

static void an_empty_store_and_a_settled_one_have_nothing_to_do(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    tree.input.is_idle = true;
    assert_false(pick(&tree));
    add_settled(&tree, 8 * MIB);
    assert_false(pick(&tree));
    assert_int_equal(sdb_pending_bytes(tree.version, &tree.tuning), 0);
    tree_fini(&tree);
}

static void targets_are_a_tenth_of_the_next_level_counted_from_the_bottom(void **state)
{
    struct tree tree;
    struct sdb_shape shape;
    (void)state;
    tree_init(&tree);
    sdb_shape_compute(tree.version, &tree.tuning, &shape);
    assert_int_equal(shape.base, 5);
    add_settled(&tree, 100 * MIB);
    sdb_shape_compute(tree.version, &tree.tuning, &shape);
    assert_int_equal(shape.base, 4);
    assert_int_equal(shape.target[5], 100 * MIB);
    assert_int_equal(shape.target[4], 16 * MIB); /* a tenth is 10, but no base is that small */
    add_settled(&tree, 10000 * MIB);
    sdb_shape_compute(tree.version, &tree.tuning, &shape);
    assert_int_equal(shape.base, 2);
    assert_int_equal(shape.target[3], tree.version->levels[6].bytes / 1000);
    assert_int_equal(sdb_shape_table_bytes(&shape, &tree.tuning, 2), 4 * MIB);
    assert_int_equal(sdb_shape_table_bytes(&shape, &tree.tuning, 6), 32 * MIB);
    tree_fini(&tree);
}

static void four_tables_of_level_0_are_merged_into_the_base(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    add(&tree, 5, "b1", "b5", MIB);
    add(&tree, 5, "x", "z", 2 * MIB);
    for (int i = 0; i < 3; i++)
        add(&tree, 0, "b0", "f", MIB);
    assert_false(pick(&tree));
    add(&tree, 0, "b0", "f", MIB);
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.reason, SDB_PICK_SIZE);
    assert_int_equal(tree.pick.level, 0);
    assert_int_equal(tree.pick.output, 5);
    assert_int_equal(tree.pick.from.count, 4);
    assert_int_equal(tree.pick.into.count, 1);
    assert_false(tree.pick.is_move);
    assert_true(sdb_pending_bytes(tree.version, &tree.tuning) >= 7 * MIB);
    tree_fini(&tree);
}

static void few_tables_of_level_0_wait_until_the_store_is_idle(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    add(&tree, 0, "b", "f", MIB);
    assert_false(pick(&tree));
    tree.input.is_idle = true;
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.reason, SDB_PICK_SETTLE);
    tree_fini(&tree);
}

static void output_goes_as_deep_as_nothing_is_in_its_way(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    for (int i = 0; i < 4; i++)
        add(&tree, 0, "m", "n", MIB);
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.output, SDB_LAST_LEVEL);
    assert_int_equal(tree.pick.into.count, 0);
    add(&tree, 5, "mm", "mn", MIB);
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.output, 5);
    tree_fini(&tree);
}

static void small_neighbours_are_taken_in(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add(&tree, 6, "a", "b", MIB);
    add(&tree, 6, "c", "d", 8 * MIB);
    add(&tree, 6, "e", "f", MIB);
    for (int i = 0; i < 4; i++)
        add(&tree, 0, "g", "h", MIB / 8);
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.output, SDB_LAST_LEVEL);
    assert_int_equal(tree.pick.into.count, 1);
    assert_memory_equal(tree.pick.into.files[0]->smallest.data, "e", 1);
    tree_fini(&tree);
}

static void a_full_level_gives_its_tables_in_turn(void **state)
{
    static const char *const keys[] = {"a1", "b1", "c1", "d1", "e1", "f1", "g1", "h1"};
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    for (size_t i = 0; i < 8; i++)
        add(&tree, 5, keys[i], keys[i], 4 * MIB);
    for (size_t i = 0; i < 10; i++) {
        assert_true(pick(&tree));
        assert_int_equal(tree.pick.level, 5);
        assert_int_equal(tree.pick.from.count, 1);
        assert_int_equal(tree.pick.into.count, 1);
        assert_memory_equal(tree.pick.from.files[0]->smallest.data, keys[i % 8], 2);
        sdb_buffer_clear(&tree.cursors[5]);
        assert_true(sdb_buffer_add(&tree.cursors[5], keys[i % 8], 2));
    }
    tree_fini(&tree);
}

static void a_table_is_moved_when_it_meets_nothing_and_needs_no_rewriting(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    struct sdb_table_file *file = add(&tree, 5, "m", "n", 40 * MIB);
    assert_true(pick(&tree));
    assert_true(tree.pick.is_move);
    assert_int_equal(tree.pick.output, SDB_LAST_LEVEL);
    tree.input.codecs[SDB_LAST_LEVEL] = STORM_CODEC_DEFLATE;
    assert_true(pick(&tree));
    assert_false(tree.pick.is_move);
    tree.input.codecs[SDB_LAST_LEVEL] = STORM_CODEC_NONE;
    file->deletes = 1; /* nothing is left for it to hide in the last level */
    assert_true(pick(&tree));
    assert_false(tree.pick.is_move);
    tree_fini(&tree);
}

static void the_oldest_of_level_0_is_moved_when_it_meets_none_of_the_others(void **state)
{
    static const char *const keys[] = {"m1", "m3", "m5", "m7", "m9"};
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    for (size_t i = 0; i < 8; i += 2)
        add(&tree, 0, keys[i / 2], keys[i / 2 + 1], 8 * MIB);
    assert_true(pick(&tree)); /* each begins with the key that the one before it ends with */
    assert_false(tree.pick.is_move);
    assert_int_equal(tree.pick.from.count, 4);
    tree_fini(&tree);

    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    struct sdb_table_file *oldest = add(&tree, 0, "m1", "m2", 8 * MIB);
    for (size_t i = 1; i < 4; i++)
        add(&tree, 0, keys[i], keys[i], 8 * MIB);
    assert_true(pick(&tree));
    assert_true(tree.pick.is_move);
    assert_int_equal(tree.pick.reason, SDB_PICK_SIZE);
    assert_int_equal(tree.pick.output, SDB_LAST_LEVEL);
    assert_int_equal(tree.pick.from.count, 1);
    assert_ptr_equal(tree.pick.from.files[0], oldest);
    oldest->codec = STORM_CODEC_LZ4; /* has to be rewritten: then all together */
    assert_true(pick(&tree));
    assert_false(tree.pick.is_move);
    assert_int_equal(tree.pick.from.count, 4);
    oldest->codec = STORM_CODEC_NONE;
    oldest->is_quarantined = true; /* stays, and what is newer may go: it meets none of them */
    tree.input.is_idle = true;
    assert_true(pick(&tree));
    assert_true(tree.pick.is_move);
    assert_memory_equal(tree.pick.from.files[0]->smallest.data, "m3", 2);
    tree_fini(&tree);
}

static void a_level_above_the_base_is_drained(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    add(&tree, 3, "a5", "b5", KIB);
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.level, 3);
    assert_int_equal(tree.pick.output, 5);
    /* Until then level 0 must not go below it. */
    struct sdb_shape shape;
    sdb_shape_compute(tree.version, &tree.tuning, &shape);
    assert_int_equal(shape.base, 3);
    tree_fini(&tree);
}

static void garbage_above_the_last_level_is_merged_down(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add(&tree, 6, "a", "f", 8 * MIB);
    add(&tree, 5, "a", "f", 3 * MIB);
    assert_false(pick(&tree));
    tree.input.is_idle = true;
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.reason, SDB_PICK_GARBAGE);
    tree_fini(&tree);
}

/* While it is busy; with bytes alone a level would be over its size first. */
static void garbage_of_a_busy_store_waits_for_two_base_levels(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add(&tree, 6, "a", "f", 8 * MIB);
    struct sdb_table_file *file = add(&tree, 5, "a", "f", 9 * MIB);
    assert_false(pick(&tree));
    file->deletes = (uint64_t)(55 * MIB / 100); /* as many times 100 bytes are hidden */
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.reason, SDB_PICK_DELETES);
    file->deletes += 10000;
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.reason, SDB_PICK_GARBAGE);
    add(&tree, 6, "g", "z", 200 * MIB); /* less than half */
    file->deletes = 0;
    assert_false(pick(&tree));
    tree_fini(&tree);
}

static void each_delete_counts_as_the_entry_it_hides(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, MIB);
    struct sdb_table_file *file = add(&tree, 0, "a", "f", MIB);
    assert_false(pick(&tree));
    file->entries = 700000; /* hiding 100 bytes each: 67 MiB */
    file->deletes = 700000;
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.reason, SDB_PICK_GARBAGE);
    assert_int_equal(tree.pick.level, 0);
    tree_fini(&tree);
}

static void a_table_dense_with_deletes_goes_down(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    add(&tree, 5, "a1", "a5", MIB);
    struct sdb_table_file *file = add(&tree, 5, "b1", "b5", MIB);
    file->deletes = file->entries / 4;
    assert_false(pick(&tree));
    file->deletes = file->entries / 4 + 1;
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.reason, SDB_PICK_DELETES);
    assert_ptr_equal(tree.pick.from.files[0], file);
    assert_int_equal(tree.pick.into.count, 1);
    tree_fini(&tree);
}

static void old_versions_go_once_their_snapshots_have_gone(void **state)
{
    uint64_t snapshots[] = {1, 150, 160, 5000};
    struct tree tree;
    (void)state;
    tree_init(&tree);
    struct sdb_table_file *file = add(&tree, 6, "a", "f", 8 * MIB); /* revisions 100 to 199 */
    file->keys = file->entries / 2;
    file->snapshots = 2;
    tree.input.snapshots = snapshots;
    tree.input.snapshot_count = 4;
    assert_false(pick(&tree));
    snapshots[2] = 5000;
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.reason, SDB_PICK_DELETES);
    assert_int_equal(tree.pick.output, SDB_LAST_LEVEL);
    assert_int_equal(tree.pick.into.count, 0);
    assert_true(sdb_holds_old_versions(tree.version));
    file->keys = file->entries - file->entries / 10; /* too little to be worth it */
    assert_false(pick(&tree));
    tree_fini(&tree);
}

static void an_expired_table_is_rewritten(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    struct sdb_table_file *file = add(&tree, 6, "m", "n", 8 * MIB);
    file->stale_ms = 1000;
    tree.input.now_ms = 999;
    assert_int_equal(sdb_next_stale_ms(tree.version), 1000);
    assert_false(pick(&tree));
    tree.input.now_ms = 1000;
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.reason, SDB_PICK_EXPIRED);
    assert_ptr_equal(tree.pick.from.files[0], file);
    tree_fini(&tree);
}

static void a_quarantined_table_is_left_alone_and_never_overtaken(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    add(&tree, 0, "a", "c", MIB); /* older */
    struct sdb_table_file *bad = add(&tree, 0, "b", "d", MIB);
    add(&tree, 0, "c", "e", MIB); /* newer, overlapping */
    add(&tree, 0, "x", "y", MIB);
    bad->is_quarantined = true;
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.from.count, 1);
    assert_memory_equal(tree.pick.from.files[0]->smallest.data, "a", 1);

    /* The oldest in the way of all others: nothing can go. */
    tree.pick.from.files[0]->is_quarantined = true;
    assert_false(pick(&tree));
    tree_fini(&tree);

    /* In the output level it holds back only who would have to be merged with it. */
    tree_init(&tree);
    add_settled(&tree, 8 * MIB);
    add(&tree, 5, "a1", "a2", 20 * MIB);
    struct sdb_table_file *free_one = add(&tree, 5, "b1", "b2", 20 * MIB);
    tree.version->levels[6].files[0]->is_quarantined = true;
    assert_true(pick(&tree));
    assert_ptr_equal(tree.pick.from.files[0], free_one);
    tree_fini(&tree);
}

static void by_hand_everything_in_the_range_is_rewritten_once(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add(&tree, 6, "a", "b", MIB);
    add(&tree, 6, "c", "d", MIB);
    add(&tree, 6, "x", "y", MIB);
    uint64_t before = tree.number + 1;
    add(&tree, 0, "a", "z", MIB); /* flushed after the call: not its business */
    tree.input.version = tree.version;
    assert_int_equal(sdb_manual_bytes(tree.version, storm_text("b"), storm_text("x"), before),
                     2 * MIB);
    assert_true(sdb_pick_manual(&tree.input, storm_text("b"), storm_text("x"), before, &tree.pick));
    assert_int_equal(tree.pick.level, 6);
    assert_memory_equal(tree.pick.from.files[0]->smallest.data, "a", 1);
    assert_false(
        sdb_pick_manual(&tree.input, storm_text("bb"), storm_text("c"), before, &tree.pick));
    assert_true(
        sdb_pick_manual(&tree.input, storm_text("b"), storm_text("x"), before + 1, &tree.pick));
    assert_int_equal(tree.pick.level, 0);
    tree_fini(&tree);
}

/* ---- Random trees ---- */

static bool is_input(const struct sdb_pick *pick, const struct sdb_table_file *file)
{
    for (size_t i = 0; i < pick->from.count; i++) {
        if (pick->from.files[i] == file)
            return true;
    }
    for (size_t i = 0; i < pick->into.count; i++) {
        if (pick->into.files[i] == file)
            return true;
    }
    return false;
}

/* Whatever is older than an input and overlaps it is an input too, or deeper than the output. */
static void check_pick(const struct tree *tree)
{
    const struct sdb_pick *pick = &tree->pick;
    for (size_t i = 0; i < pick->from.count; i++) {
        const struct sdb_table_file *from = pick->from.files[i];
        assert_false(from->is_quarantined);
        for (unsigned l = pick->level; l <= pick->output; l++) {
            for (size_t k = 0; k < tree->version->levels[l].count; k++) {
                const struct sdb_table_file *other = tree->version->levels[l].files[k];
                bool overlaps = sdb_key_compare(other->smallest, from->largest) <= 0 &&
                                sdb_key_compare(other->largest, from->smallest) >= 0;
                bool is_newer = l == 0 && other->max_revision > from->max_revision;
                if (overlaps && !is_newer)
                    assert_true(is_input(pick, other));
            }
        }
    }
    for (size_t i = 0; i < pick->into.count; i++)
        assert_false(pick->into.files[i]->is_quarantined);
}

/* Do what the job would: its inputs become one table of the output level. */
static void perform(struct tree *tree)
{
    struct sdb_table_file *removed[200];
    size_t count = 0;
    char smallest[16], largest[16];
    const struct sdb_pick *pick = &tree->pick;
    for (size_t i = 0; i < pick->from.count; i++)
        removed[count++] = pick->from.files[i];
    for (size_t i = 0; i < pick->into.count; i++)
        removed[count++] = pick->into.files[i];
    const struct sdb_table_file *low = removed[0];
    const struct sdb_table_file *high = removed[0];
    uint64_t size = 0;
    for (size_t i = 0; i < count; i++) {
        low = sdb_key_compare(removed[i]->smallest, low->smallest) < 0 ? removed[i] : low;
        high = sdb_key_compare(removed[i]->largest, high->largest) > 0 ? removed[i] : high;
        size += removed[i]->size;
    }
    snprintf(smallest, sizeof smallest, "%.*s", (int)low->smallest.size, low->smallest.data);
    snprintf(largest, sizeof largest, "%.*s", (int)high->largest.size, high->largest.data);
    unsigned output = pick->output;
    bool is_drop = pick->is_drop;
    apply(tree, &(struct sdb_edit){.removed = removed, .removed_count = count});
    if (!is_drop)
        add(tree, output, smallest, largest, size)->swept_revision = sdb_sweep_reach(
            tree->version->ranges, tree->input.snapshots, tree->input.snapshot_count);
}

static void add_range(struct tree *tree, const char *start, const char *end, uint64_t revision)
{
    struct sdb_range range = {storm_text(start), storm_text(end), revision};
    apply(tree, &(struct sdb_edit){.ranges_added = &range, .ranges_added_count = 1});
}

static void dead_tables_go_first_and_unread_in_any_level(void **state)
{
    struct tree tree;
    (void)state;
    for (unsigned level = 0; level < STORM_MAX_LEVELS; level++) {
        tree_init(&tree);
        uint64_t snapshot = 199;
        struct sdb_table_file *first = add(&tree, level, "c", "d", MIB);
        struct sdb_table_file *second = add(&tree, level, "e", "f", MIB); /* 200 to 299 */
        add(&tree, level, "g", "i", MIB);
        add_range(&tree, "c", "h", 300);
        assert_true(pick(&tree));
        assert_true(tree.pick.is_drop);
        assert_int_equal(tree.pick.reason, SDB_PICK_RANGES);
        assert_int_equal(tree.pick.from.count, 2);
        /* Damaged or not. */
        first->is_quarantined = true;
        assert_true(pick(&tree));
        assert_int_equal(tree.pick.from.count, 2);
        first->is_quarantined = false;
        /* A snapshot among the first one's revisions; then one among the second's. */
        tree.input.snapshots = &snapshot;
        tree.input.snapshot_count = 1;
        assert_true(pick(&tree));
        assert_true(tree.pick.is_drop);
        assert_int_equal(tree.pick.from.count, 1);
        assert_ptr_equal(tree.pick.from.files[0], second);
        snapshot = 299;
        assert_false(pick(&tree) && tree.pick.is_drop);
        snapshot = 300;
        assert_true(pick(&tree));
        assert_int_equal(tree.pick.from.count, 2);
        tree_fini(&tree);
    }
}

static void what_a_range_delete_cuts_is_rewritten_when_idle_unless_a_snapshot_needs_it(void **state)
{
    struct tree tree;
    uint64_t snapshot = 149;
    (void)state;
    tree_init(&tree);
    struct sdb_table_file *file = add(&tree, SDB_LAST_LEVEL, "c", "f", 64 * MIB);
    add_range(&tree, "d", "e", 150);
    assert_false(pick(&tree));
    tree.input.is_idle = true;
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.reason, SDB_PICK_RANGES);
    assert_false(tree.pick.is_drop);
    assert_ptr_equal(tree.pick.from.files[0], file);
    tree.input.snapshots = &snapshot;
    tree.input.snapshot_count = 1;
    assert_false(pick(&tree));
    snapshot = 150;
    assert_true(pick(&tree));
    file->swept_revision = 150;
    assert_false(pick(&tree));
    /* Of what was written later it knows nothing. */
    file->swept_revision = 0;
    file->min_revision = 150;
    assert_false(pick(&tree));
    tree_fini(&tree);
}

static void many_range_deletes_are_not_left_to_idle_hours(void **state)
{
    struct tree tree;
    char start[16], end[16];
    (void)state;
    tree_init(&tree);
    add(&tree, SDB_LAST_LEVEL, "c", "f", 64 * MIB);
    for (uint64_t i = 0; i < 200; i++) {
        assert_int_equal(pick(&tree), i > 128);
        snprintf(start, sizeof start, "d%04u", (unsigned)i * 2);
        snprintf(end, sizeof end, "d%04u", (unsigned)i * 2 + 1);
        add_range(&tree, start, end, 1000 + i);
    }
    tree_fini(&tree);
}

static void every_pick_keeps_order_and_all_of_them_end(void **state)
{
    uint64_t random = random_seed(1);
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct tree tree;
        tree_init(&tree);
        tree.input.is_idle = true;
        tree.input.now_ms = 10;
        for (unsigned l = 1; l < STORM_MAX_LEVELS; l++) {
            unsigned at = 0;
            while (random_below(&random, 4) != 0 && at < 900) {
                char low[16], high[16];
                unsigned from = at + 1 + (unsigned)random_below(&random, 50);
                at = from + (unsigned)random_below(&random, 100);
                snprintf(low, sizeof low, "%04u", from);
                snprintf(high, sizeof high, "%04u", at);
                struct sdb_table_file *file =
                    add(&tree, l, low, high, (random_below(&random, 8000) + 1) * KIB);
                file->is_quarantined = random_below(&random, 15) == 0;
                file->deletes = random_below(&random, 3) == 0 ? file->entries : 0;
                file->stale_ms = random_below(&random, 20);
            }
        }
        for (uint64_t i = random_below(&random, 8); i > 0; i--) {
            char low[16], high[16];
            unsigned from = (unsigned)random_below(&random, 900);
            snprintf(low, sizeof low, "%04u", from);
            snprintf(high, sizeof high, "%04u", from + (unsigned)random_below(&random, 99));
            add(&tree, 0, low, high, MIB)->is_quarantined = random_below(&random, 15) == 0;
        }
        char bounds[8][2][16];
        struct sdb_range ranges[8];
        size_t range_count = (size_t)random_below(&random, 9);
        for (size_t i = 0; i < range_count; i++) {
            unsigned from = (unsigned)random_below(&random, 900);
            snprintf(bounds[i][0], 16, "%04u", from);
            snprintf(bounds[i][1], 16, "%04u", from + 1 + (unsigned)random_below(&random, 400));
            ranges[i] = (struct sdb_range){storm_text(bounds[i][0]), storm_text(bounds[i][1]),
                                           1 + random_below(&random, 4000)};
        }
        apply(&tree, &(struct sdb_edit){.ranges_added = ranges, .ranges_added_count = range_count});
        uint64_t snapshot = random_below(&random, 4000);
        tree.input.snapshots = &snapshot;
        tree.input.snapshot_count = (size_t)random_below(&random, 2);
        int jobs = 0;
        bool is_by_hand = random_below(&random, 2) == 0;
        uint64_t before = tree.number + 1;
        struct storm_slice all = {NULL, 0};
        while (is_by_hand ? (tree.input.version = tree.version,
                             sdb_pick_manual(&tree.input, all, all, before, &tree.pick))
                          : pick(&tree)) {
            if (!tree.pick.is_drop)
                check_pick(&tree);
            perform(&tree);
            assert_true(++jobs < 300);
        }
        tree_fini(&tree);
    }
}

static void level_0_goes_first_once_writes_are_slowed_down_for_it(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 40 * MIB);
    for (unsigned i = 0; i < 20; i++) { /* far over its target, by a score of some 20 */
        char smallest[8], largest[8];
        snprintf(smallest, sizeof smallest, "a%02u", i);
        snprintf(largest, sizeof largest, "a%02ux", i);
        add(&tree, 5, smallest, largest, 40 * MIB);
    }
    while (tree.version->levels[0].count < 15)
        add(&tree, 0, "a", "z", MIB);
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.level, 5);
    assert_false(sdb_is_level0_urgent(tree.version, &tree.tuning));
    add(&tree, 0, "a", "z", MIB); /* 16 of 20 */
    assert_true(sdb_is_level0_urgent(tree.version, &tree.tuning));
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.level, 0);
    tree_fini(&tree);
}

static void a_job_without_room_is_passed_over_for_one_that_has_it(void **state)
{
    struct tree tree;
    (void)state;
    tree_init(&tree);
    add_settled(&tree, 40 * MIB);
    add(&tree, 5, "a00", "a01", 60 * MIB);
    for (unsigned i = 0; i < 16; i++)
        add(&tree, 0, "a", "z", MIB);
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.level, 0);
    uint64_t inputs = tree.pick.from.bytes + tree.pick.into.bytes;
    tree.input.room_bytes = inputs;
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.level, 0);
    for (unsigned i = 0; i < 16; i++) /* more than the job of level 5 */
        add(&tree, 0, "b", "z", 8 * MIB);
    tree.input.room_bytes = 110 * MIB;
    assert_true(pick(&tree));
    assert_int_equal(tree.pick.level, 5);
    assert_true(tree.pick.from.bytes + tree.pick.into.bytes <= 110 * MIB);
    tree.input.room_bytes = 1;
    assert_false(pick(&tree));
    /* What meets nothing and needs no rewriting is moved all the same. */
    add(&tree, 5, "x0", "x9", 30 * MIB);
    assert_true(pick(&tree));
    assert_true(tree.pick.is_move);
    tree_fini(&tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_store_and_a_settled_one_have_nothing_to_do),
        cmocka_unit_test(targets_are_a_tenth_of_the_next_level_counted_from_the_bottom),
        cmocka_unit_test(four_tables_of_level_0_are_merged_into_the_base),
        cmocka_unit_test(few_tables_of_level_0_wait_until_the_store_is_idle),
        cmocka_unit_test(output_goes_as_deep_as_nothing_is_in_its_way),
        cmocka_unit_test(small_neighbours_are_taken_in),
        cmocka_unit_test(a_full_level_gives_its_tables_in_turn),
        cmocka_unit_test(a_table_is_moved_when_it_meets_nothing_and_needs_no_rewriting),
        cmocka_unit_test(the_oldest_of_level_0_is_moved_when_it_meets_none_of_the_others),
        cmocka_unit_test(a_level_above_the_base_is_drained),
        cmocka_unit_test(garbage_above_the_last_level_is_merged_down),
        cmocka_unit_test(garbage_of_a_busy_store_waits_for_two_base_levels),
        cmocka_unit_test(each_delete_counts_as_the_entry_it_hides),
        cmocka_unit_test(a_table_dense_with_deletes_goes_down),
        cmocka_unit_test(old_versions_go_once_their_snapshots_have_gone),
        cmocka_unit_test(an_expired_table_is_rewritten),
        cmocka_unit_test(a_quarantined_table_is_left_alone_and_never_overtaken),
        cmocka_unit_test(level_0_goes_first_once_writes_are_slowed_down_for_it),
        cmocka_unit_test(a_job_without_room_is_passed_over_for_one_that_has_it),
        cmocka_unit_test(by_hand_everything_in_the_range_is_rewritten_once),
        cmocka_unit_test(dead_tables_go_first_and_unread_in_any_level),
        cmocka_unit_test(
            what_a_range_delete_cuts_is_rewritten_when_idle_unless_a_snapshot_needs_it),
        cmocka_unit_test(many_range_deletes_are_not_left_to_idle_hours),
        cmocka_unit_test(every_pick_keeps_order_and_all_of_them_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
