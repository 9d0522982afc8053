/*
 * Merge and level sources against a sorted array, moved at random with changes of direction;
 * sources that fail and recover; and the rule of keep.h against a model that asks every snapshot.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "alloc_fail.h"
#include "lsm/db/keep.h"
#include "lsm/db/names.h"
#include "lsm/db/sources.h"
#include "random.h"
#include "table_kit.h"

/* ---- A source over an array, which fails when told to ---- */

struct array_source {
    struct sdb_source base;
    const struct kit_entry *entries;
    size_t count;
    size_t at;            /* count = nowhere */
    unsigned *fail_after; /* moves until one fails, shared by all sources; 0 = none does */
};

static void stand(struct array_source *source, size_t at)
{
    source->at = at;
    source->base.status = STORM_OK;
    source->base.valid = at < source->count;
    if (source->fail_after != NULL && *source->fail_after != 0 && --*source->fail_after == 0) {
        source->base.valid = false;
        source->base.status = STORM_IO;
        return;
    }
    if (source->base.valid) {
        source->base.key = source->entries[at].key;
        source->base.tag = source->entries[at].tag;
        source->base.value = source->entries[at].value;
    }
}

static size_t array_find(const struct array_source *source, struct storm_slice key, uint64_t tag)
{
    size_t at = 0;
    while (at < source->count &&
           sdb_entry_compare(source->entries[at].key, source->entries[at].tag, key, tag) < 0)
        at++;
    return at;
}

static void array_first(struct sdb_source *base)
{
    stand((struct array_source *)base, 0);
}

static void array_last(struct sdb_source *base)
{
    struct array_source *source = (struct array_source *)base;
    stand(source, source->count == 0 ? 0 : source->count - 1);
}

static void array_seek(struct sdb_source *base, struct storm_slice key, uint64_t tag)
{
    struct array_source *source = (struct array_source *)base;
    stand(source, array_find(source, key, tag));
}

static void array_seek_before(struct sdb_source *base, struct storm_slice key, uint64_t tag)
{
    struct array_source *source = (struct array_source *)base;
    size_t at = array_find(source, key, tag);
    stand(source, at == 0 ? source->count : at - 1);
}

static void array_next(struct sdb_source *base)
{
    struct array_source *source = (struct array_source *)base;
    assert_true(base->valid);
    stand(source, source->at + 1);
}

static void array_prev(struct sdb_source *base)
{
    struct array_source *source = (struct array_source *)base;
    assert_true(base->valid);
    stand(source, source->at == 0 ? source->count : source->at - 1);
}

static void array_destroy(struct sdb_source *base)
{
    free(base);
}

static const struct sdb_source_ops array_ops = {
    .first = array_first,
    .last = array_last,
    .seek = array_seek,
    .seek_before = array_seek_before,
    .next = array_next,
    .prev = array_prev,
    .destroy = array_destroy,
};

static struct sdb_source *array_source(const struct kit_entry *entries, size_t count,
                                       unsigned *fail_after)
{
    struct array_source *source = calloc(1, sizeof *source);
    if (source == NULL)
        return NULL;
    source->base.ops = &array_ops;
    source->entries = entries;
    source->count = count;
    source->at = count;
    source->fail_after = fail_after;
    return &source->base;
}

/* ---- Entries spread over runs ---- */

enum { RUNS = 6, ENTRIES = 60 };

/* Few keys and revisions, so that runs share entries; the value says the run. */
struct runs {
    struct kit_entry all[RUNS * ENTRIES]; /* in the order that a merge shows them */
    size_t count;
    struct kit_entry run[RUNS][ENTRIES];
    size_t run_count[RUNS];
};

static const uint8_t run_names[RUNS] = {0, 1, 2, 3, 4, 5};

static int by_place(const void *a, const void *b)
{
    const struct kit_entry *x = a;
    const struct kit_entry *y = b;
    int order = sdb_entry_compare(x->key, x->tag, y->key, y->tag);
    return order != 0 ? order : x->value.data[0] - y->value.data[0];
}

static void make_runs(struct runs *runs, uint64_t *seed, size_t run_count, bool has_ties)
{
    static uint8_t keys[16];
    memset(runs, 0, sizeof *runs);
    for (size_t k = 0; k < sizeof keys; k++)
        keys[k] = (uint8_t)(k * 3);
    for (uint64_t revision = 1; revision <= 8; revision++)
        for (size_t k = 0; k < sizeof keys; k++)
            for (size_t r = 0; r < run_count; r++) {
                bool is_in = random_below(seed, run_count * 2) == 0;
                if (!is_in || runs->run_count[r] == ENTRIES)
                    continue;
                struct kit_entry entry = {storm_bytes(&keys[k], 1), storm_bytes(&run_names[r], 1),
                                          sdb_tag(revision, SDB_KIND_PUT)};
                runs->all[runs->count++] = entry;
                runs->run[r][runs->run_count[r]++] = entry;
                if (!has_ties)
                    break;
            }
    for (size_t r = 0; r < run_count; r++)
        qsort(runs->run[r], runs->run_count[r], sizeof(struct kit_entry), by_place);
    qsort(runs->all, runs->count, sizeof(struct kit_entry), by_place);
}

static struct sdb_source *merge_of(const struct runs *runs, size_t run_count, unsigned *fail_after)
{
    struct sdb_source *sources[RUNS];
    for (size_t r = 0; r < run_count; r++)
        sources[r] = array_source(runs->run[r], runs->run_count[r], fail_after);
    return sdb_merge_source(sources, run_count);
}

/* The source shows entry `at` of the model, or nothing when there is none. */
static bool shows(const struct sdb_source *source, const struct kit_entry *all, size_t count,
                  size_t at)
{
    if (source->status != STORM_OK || source->valid != (at < count))
        return false;
    return !source->valid ||
           (sdb_entry_compare(source->key, source->tag, all[at].key, all[at].tag) == 0 &&
            source->value.size == all[at].value.size &&
            (source->value.size == 0 ||
             memcmp(source->value.data, all[at].value.data, source->value.size) == 0));
}

/* One random move of source and model; `at` is count (or more) when it stands nowhere. */
static size_t random_move(struct sdb_source *source, const struct kit_entry *all, size_t count,
                          size_t at, uint64_t *seed)
{
    uint64_t choice = random_below(seed, 12);
    if (choice >= 4 && at < count) {
        bool is_forward = choice < 8;
        if (is_forward)
            source->ops->next(source);
        else
            source->ops->prev(source);
        return is_forward ? at + 1 : at == 0 ? count : at - 1;
    }
    if (choice % 4 == 0) {
        source->ops->first(source);
        return 0;
    }
    if (choice % 4 == 1) {
        source->ops->last(source);
        return count == 0 ? 0 : count - 1;
    }
    /* An entry, or just before or behind one. */
    uint8_t key = (uint8_t)random_below(seed, 50);
    struct storm_slice sought = storm_bytes(&key, 1);
    uint64_t tag = sdb_tag(random_below(seed, 10), (unsigned)random_below(seed, 3));
    if (count != 0 && random_below(seed, 2) == 0) {
        const struct kit_entry *entry = &all[random_below(seed, count)];
        sought = entry->key;
        tag = entry->tag + random_below(seed, 3) - 1;
    }
    size_t found = 0;
    while (found < count && sdb_entry_compare(all[found].key, all[found].tag, sought, tag) < 0)
        found++;
    if (choice % 4 == 2) {
        source->ops->seek(source, sought, tag);
        return found;
    }
    source->ops->seek_before(source, sought, tag);
    return found == 0 ? count : found - 1;
}

static void move_at_random(bool has_ties)
{
    uint64_t seed = random_seed(has_ties ? 21 : 22);
    static struct runs runs;
    for (int round = 0; round < 150; round++) {
        size_t run_count = (size_t)random_below(&seed, RUNS + 1);
        make_runs(&runs, &seed, run_count, has_ties);
        struct sdb_source *merge = merge_of(&runs, run_count, NULL);
        size_t at = runs.count;
        assert_non_null(merge);
        assert_false(merge->valid);
        for (int move = 0; move < 400; move++) {
            at = random_move(merge, runs.all, runs.count, at, &seed);
            if (!shows(merge, runs.all, runs.count, at))
                fail_msg("round %d, move %d: not at entry %zu of %zu", round, move, at, runs.count);
        }
        sdb_source_destroy(merge);
    }
}

static void a_merge_is_the_sorted_array_whatever_the_moves(void **state)
{
    (void)state;
    move_at_random(false);
}

static void of_equal_entries_the_earlier_source_comes_first_both_ways(void **state)
{
    (void)state;
    move_at_random(true);
}

static void a_failing_source_fails_the_merge_and_a_later_move_recovers(void **state)
{
    uint64_t seed = random_seed(23);
    static struct runs runs;
    size_t failures = 0;
    (void)state;
    for (int round = 0; round < 100; round++) {
        size_t run_count = 2 + (size_t)random_below(&seed, RUNS - 1);
        unsigned fail_after = 0;
        make_runs(&runs, &seed, run_count, false);
        struct sdb_source *merge = merge_of(&runs, run_count, &fail_after);
        size_t at = runs.count;
        for (int move = 0; move < 300; move++) {
            bool was_armed = fail_after != 0;
            if (!was_armed && random_below(&seed, 4) == 0)
                fail_after = 1 + (unsigned)random_below(&seed, 6);
            was_armed = fail_after != 0;
            at = random_move(merge, runs.all, runs.count, at, &seed);
            if (was_armed && fail_after == 0) {
                /* A read that silently lacks a run would be a wrong answer. */
                assert_false(merge->valid);
                assert_int_equal(merge->status, STORM_IO);
                at = runs.count;
                failures++;
            } else if (!shows(merge, runs.all, runs.count, at)) {
                fail_msg("round %d, move %d: not at entry %zu", round, move, at);
            }
        }
        sdb_source_destroy(merge);
    }
    assert_true(failures > 1000);
}

static void a_merge_without_memory_gives_its_sources_back(void **state)
{
    static struct runs runs;
    uint64_t seed = 5;
    struct sdb_source *sources[3];
    (void)state;
    make_runs(&runs, &seed, 3, false);
    for (size_t r = 0; r < 3; r++)
        sources[r] = array_source(runs.run[r], runs.run_count[r], NULL);
    alloc_fail_at(1, false);
    assert_null(sdb_merge_source(sources, 3)); /* a leak checker sees to the rest */
    alloc_fail_at(0, false);
}

/* ---- A level of real tables ---- */

enum { TABLES_MAX = 8 };

struct level_kit {
    struct kit kit;
    struct kit_model model;
    struct sdb_table_file *files[TABLES_MAX];
    struct sdb_level level;
};

/* Cut the model into tables between keys, as compaction does. */
static void level_init(struct level_kit *l, uint64_t *seed, size_t entries, size_t tables)
{
    size_t from = 0;
    *l = (struct level_kit){0};
    kit_init(&l->kit, 1 << 16);
    kit_model_random(&l->model, seed, entries, 12, 60, 3);
    l->level.files = l->files;
    for (size_t t = 0; t < tables && from < l->model.count; t++) {
        size_t to = t + 1 == tables ? l->model.count : from + l->model.count / tables;
        while (to < l->model.count &&
               sdb_key_compare(l->model.entries[to - 1].key, l->model.entries[to].key) == 0)
            to++;
        struct kit_model part = {l->model.entries + from, to - from};
        struct sdb_table_options options = kit_options(1024, STORM_CODEC_NONE);
        struct sdb_table_props props;
        char path[SDB_NAME_MAX + 1] = "/";
        uint64_t number = t + 10, size;
        sdb_table_name(path + 1, number);
        assert_int_equal(kit_build(&l->kit, &l->kit.os, path, number, &part, &options, &props),
                         STORM_OK);
        assert_int_equal(sim_file_size(l->kit.disk, path, &size), STORM_OK);
        struct sdb_table_file *file = sdb_table_file_create(number, size, 1, part.entries[0].key,
                                                            part.entries[part.count - 1].key, NULL);
        assert_non_null(file);
        assert_int_equal(sdb_table_open(&l->kit.os, path, number, size, l->kit.cache, &file->table),
                         STORM_OK);
        l->files[l->level.count++] = file;
        from = to;
    }
}

static void level_fini(struct level_kit *l)
{
    for (size_t t = 0; t < l->level.count; t++)
        sdb_table_file_unref(l->files[t]);
    kit_model_fini(&l->model);
    kit_fini(&l->kit);
}

/* A move of a level's source; keys of the model, whole or cut, are sought. */
static size_t move_level(struct sdb_source *source, const struct kit_model *model, size_t at,
                         uint64_t *seed)
{
    uint64_t choice = random_below(seed, 10);
    if (choice >= 4 && at < model->count) {
        bool is_forward = choice < 7;
        if (is_forward)
            source->ops->next(source);
        else
            source->ops->prev(source);
        return is_forward ? at + 1 : at == 0 ? model->count : at - 1;
    }
    if (choice == 0 || model->count == 0) {
        source->ops->first(source);
        return 0;
    }
    if (choice == 1) {
        source->ops->last(source);
        return model->count - 1;
    }
    const struct kit_entry *entry = &model->entries[random_below(seed, model->count)];
    struct storm_slice key = entry->key;
    if (random_below(seed, 4) == 0)
        key.size -= 1; /* the empty key lies before all */
    static const uint8_t highest[] = {0xff, 0xff, 0xff};
    if (random_below(seed, 16) == 0)
        key = storm_bytes(highest, 3);
    static const uint64_t tags[] = {0, UINT64_MAX};
    uint64_t pick = random_below(seed, 4);
    uint64_t tag = pick < 2 ? tags[pick] : entry->tag + pick - 2;
    size_t found = kit_model_find(model, key, tag);
    if (random_below(seed, 2) == 0) {
        source->ops->seek(source, key, tag);
        return found;
    }
    source->ops->seek_before(source, key, tag);
    return found == 0 ? model->count : found - 1;
}

static void a_level_is_the_sorted_array_whatever_the_moves(void **state)
{
    uint64_t seed = random_seed(24);
    (void)state;
    for (int round = 0; round < 24; round++) {
        struct level_kit l;
        size_t tables = (size_t)random_below(&seed, TABLES_MAX + 1);
        level_init(&l, &seed, tables * (1 + (size_t)random_below(&seed, 40)), tables);
        if (tables == 0) {
            kit_model_fini(&l.model);
            l.model = (struct kit_model){0};
        }
        struct sdb_source *source = sdb_level_source(&l.level, round % 2 == 0, 0);
        size_t at = l.model.count;
        assert_non_null(source);
        for (int move = 0; move < 600; move++) {
            at = move_level(source, &l.model, at, &seed);
            if (!shows(source, l.model.entries, l.model.count, at))
                fail_msg("round %d, move %d: not at entry %zu of %zu", round, move, at,
                         l.model.count);
        }
        sdb_source_destroy(source);
        level_fini(&l);
    }
}

static void a_damaged_table_fails_where_it_is_met_and_nowhere_else(void **state)
{
    uint64_t seed = random_seed(25);
    struct level_kit l;
    (void)state;
    level_init(&l, &seed, 200, 3);
    assert_int_equal(l.level.count, 3);
    sdb_table_close(l.files[1]->table);
    l.files[1]->table = NULL;
    l.files[1]->open_status = STORM_IO;
    struct sdb_source *source = sdb_level_source(&l.level, true, 0);
    size_t passed = 0;
    for (source->ops->first(source); source->valid; source->ops->next(source))
        passed++;
    assert_int_equal(source->status, STORM_IO);
    assert_true(passed > 0 && passed < l.model.count);
    assert_int_equal(sdb_entry_compare(l.model.entries[passed].key, 0, l.files[1]->smallest, 0), 0);
    size_t back = 0;
    for (source->ops->last(source); source->valid; source->ops->prev(source))
        back++;
    assert_int_equal(source->status, STORM_IO);
    assert_true(back > 0 && passed + back < l.model.count);
    source->ops->seek(source, l.files[1]->largest, UINT64_MAX);
    assert_false(source->valid);
    assert_int_equal(source->status, STORM_IO);
    source->ops->seek_before(source, l.files[1]->largest, UINT64_MAX);
    assert_int_equal(source->status, STORM_IO);
    source->ops->seek(source, l.files[2]->smallest, UINT64_MAX);
    assert_true(shows(source, l.model.entries, l.model.count, l.model.count - back));
    sdb_source_destroy(source);

    /* A table that is damaged without anybody knowing how. */
    l.files[1]->open_status = STORM_OK;
    source = sdb_table_file_source(l.files[1], true, 0);
    source->ops->first(source);
    assert_int_equal(source->status, STORM_CORRUPT);
    sdb_source_destroy(source);
    level_fini(&l);
}

static void a_level_without_memory_says_so_and_recovers(void **state)
{
    uint64_t seed = random_seed(26);
    struct level_kit l;
    (void)state;
    level_init(&l, &seed, 120, 3);
    alloc_fail_at(1, false);
    assert_null(sdb_level_source(&l.level, true, 0));
    alloc_fail_at(0, false);
    uint64_t failures = 1;
    for (uint64_t nth = 1; failures != 0; nth++) {
        size_t count = 0;
        struct sdb_source *source = sdb_level_source(&l.level, false, 0);
        alloc_fail_at(nth, false);
        for (source->ops->first(source); source->valid; source->ops->next(source))
            count++;
        failures = alloc_failures();
        alloc_fail_at(0, false);
        if (failures != 0)
            assert_int_equal(source->status, STORM_NO_MEMORY);
        else
            assert_int_equal(count, l.model.count);
        source->ops->first(source);
        assert_true(shows(source, l.model.entries, l.model.count, 0));
        sdb_source_destroy(source);
    }
    level_fini(&l);
}

/* ---- keep.h ---- */

/* Somebody sees version i: a snapshot (or now) whose newest version at or below it is this one. */
static bool is_seen_by_anybody(const uint64_t *versions, size_t count, size_t i,
                               const uint64_t *snapshots, size_t snapshot_count)
{
    if (i == 0)
        return true; /* the newest: whoever reads now */
    for (size_t s = 0; s < snapshot_count; s++) {
        size_t newest = 0;
        while (newest < count && versions[newest] > snapshots[s])
            newest++;
        if (newest == i)
            return true;
    }
    return false;
}

static void exactly_the_versions_that_somebody_sees_are_kept(void **state)
{
    uint64_t seed = random_seed(27);
    size_t kept_count = 0, dropped_count = 0;
    struct sdb_version *version = sdb_version_create();
    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint64_t snapshots[12], versions[16];
        size_t snapshot_count = 0;
        struct sdb_keep keep;
        for (uint64_t revision = 1; revision < 40 && snapshot_count < 12; revision++) {
            /* Two snapshots may hold the same revision. */
            for (int twice = 0; twice < 2 && snapshot_count < 12; twice++)
                if (random_below(&seed, 10) == 0)
                    snapshots[snapshot_count++] = revision;
        }
        sdb_keep_init(&keep, snapshots, snapshot_count, 0, version, STORM_MAX_LEVELS);
        for (uint8_t k = 0; k < 4; k++) {
            /* Keys that begin alike, and one that is the beginning of another. */
            uint8_t key[2] = {(uint8_t)(k / 2), 7};
            size_t count = 0;
            for (uint64_t revision = 40; revision > 0 && count < 16; revision--)
                if (random_below(&seed, 4) == 0)
                    versions[count++] = revision;
            for (size_t i = 0; i < count; i++) {
                /* Puts: what becomes of deletes is told by test_compaction. */
                struct sdb_kept kept;
                uint64_t tag = sdb_tag(versions[i], SDB_KIND_PUT);
                assert_int_equal(sdb_keep_next(&keep, storm_bytes(key, 1 + k % 2), tag,
                                               storm_bytes("\0v", 2), &kept),
                                 STORM_OK);
                bool expected = is_seen_by_anybody(versions, count, i, snapshots, snapshot_count);
                if (kept.has_entry != expected || kept.has_delete)
                    fail_msg("round %d: version %llu is %s", round, (unsigned long long)versions[i],
                             kept.has_entry ? "kept" : "dropped");
                kept_count += kept.has_entry;
                dropped_count += !kept.has_entry;
            }
        }
        sdb_keep_fini(&keep);
    }
    assert_true(kept_count > 10000 && dropped_count > 10000);
    sdb_version_unref(version);
}

static void a_snapshot_sees_its_own_revision_and_not_the_next(void **state)
{
    static const uint64_t snapshots[] = {5, 10};
    (void)state;
    assert_true(sdb_keep_is_seen(snapshots, 2, 5, 6));
    assert_false(sdb_keep_is_seen(snapshots, 2, 4, 5));
    assert_false(sdb_keep_is_seen(snapshots, 2, 6, 10));
    assert_true(sdb_keep_is_seen(snapshots, 2, 6, 11));
    assert_false(sdb_keep_is_seen(snapshots, 2, 11, 12));
    assert_false(sdb_keep_is_seen(snapshots, 0, 1, 2));
}

static void keep_says_when_a_key_cannot_be_remembered(void **state)
{
    struct sdb_keep keep;
    struct sdb_kept kept;
    struct sdb_version *version = sdb_version_create();
    (void)state;
    sdb_keep_init(&keep, NULL, 0, 0, version, STORM_MAX_LEVELS);
    alloc_fail_at(1, false);
    assert_int_equal(sdb_keep_next(&keep, storm_text("k"), sdb_tag(1, SDB_KIND_PUT),
                                   storm_bytes("\0v", 2), &kept),
                     STORM_NO_MEMORY);
    alloc_fail_at(0, false);
    sdb_keep_fini(&keep);
    sdb_version_unref(version);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_merge_is_the_sorted_array_whatever_the_moves),
        cmocka_unit_test(of_equal_entries_the_earlier_source_comes_first_both_ways),
        cmocka_unit_test(a_failing_source_fails_the_merge_and_a_later_move_recovers),
        cmocka_unit_test(a_merge_without_memory_gives_its_sources_back),
        cmocka_unit_test(a_level_is_the_sorted_array_whatever_the_moves),
        cmocka_unit_test(a_damaged_table_fails_where_it_is_met_and_nowhere_else),
        cmocka_unit_test(a_level_without_memory_says_so_and_recovers),
        cmocka_unit_test(exactly_the_versions_that_somebody_sees_are_kept),
        cmocka_unit_test(a_snapshot_sees_its_own_revision_and_not_the_next),
        cmocka_unit_test(keep_says_when_a_key_cannot_be_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
