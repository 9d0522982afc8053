/*
 * The memtable against a sorted array, under memory failures, and iterated while it grows.
 * test_memtable_threads.c has the tests with readers beside the writer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "alloc_fail.h"
#include "lsm/mem/memtable.h"
#include "lsm/mem/node.h"
#include "random.h"

/* ---- The model: what the memtable should hold, as a sorted array ----------------------------- */

enum { KEY_MAX = 40, MODEL_MAX = 4000 };

struct entry {
    uint8_t key[KEY_MAX];
    size_t key_size;
    uint64_t tag;
    uint64_t value; /* stored as its first tag % 9 bytes; a delete has none */
};

struct model {
    const struct entry *entries[MODEL_MAX]; /* sorted */
    struct entry kept[4 * MODEL_MAX];       /* replaced ones as well */
    size_t count, kept_count;
};

static struct storm_slice entry_key(const struct entry *entry)
{
    return storm_bytes(entry->key, entry->key_size);
}

static struct storm_slice entry_value(const struct entry *entry)
{
    size_t size = sdb_tag_kind(entry->tag) == SDB_KIND_DELETE ? 0 : entry->value % 9;
    return storm_bytes(&entry->value, size);
}

/* How many entries are before (key, tag). */
static size_t model_search(const struct model *model, struct storm_slice key, uint64_t tag)
{
    size_t low = 0, high = model->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct entry *entry = model->entries[middle];
        if (sdb_entry_compare(entry_key(entry), entry->tag, key, tag) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void model_insert(struct model *model, const struct entry *entry)
{
    struct storm_slice key = entry_key(entry);
    size_t at = model_search(model, key, entry->tag | SDB_KIND_SEEK);
    bool is_same = at < model->count && sdb_key_compare(entry_key(model->entries[at]), key) == 0 &&
                   sdb_tag_revision(model->entries[at]->tag) == sdb_tag_revision(entry->tag);
    if (!is_same) {
        assert_true(model->count < MODEL_MAX);
        memmove(&model->entries[at + 1], &model->entries[at],
                (model->count - at) * sizeof model->entries[0]);
        model->count++;
    }
    assert_true(model->kept_count < sizeof model->kept / sizeof model->kept[0]);
    model->kept[model->kept_count] = *entry;
    model->entries[at] = &model->kept[model->kept_count++];
}

static bool slices_equal(struct storm_slice a, struct storm_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* The source stands where the model says: on entry `at`, or nowhere when there is none. */
static void assert_stands_at(const struct sdb_source *source, const struct model *model, size_t at)
{
    assert_int_equal(source->status, STORM_OK);
    assert_int_equal(source->valid, at < model->count);
    if (!source->valid)
        return;
    assert_true(slices_equal(source->key, entry_key(model->entries[at])));
    assert_int_equal(source->tag, model->entries[at]->tag);
    assert_true(slices_equal(source->value, entry_value(model->entries[at])));
}

static struct sdb_source *source_over(struct sdb_memtable *memtable)
{
    struct sdb_source *source = sdb_memtable_source(memtable);
    assert_non_null(source);
    return source;
}

static void assert_same_entries(struct sdb_memtable *memtable, const struct model *model)
{
    assert_int_equal(sdb_memtable_entries(memtable), model->count);
    struct sdb_source *source = source_over(memtable);
    size_t at = 0;
    for (source->ops->first(source); source->valid; source->ops->next(source))
        assert_stands_at(source, model, at++);
    assert_int_equal(at, model->count);
    for (source->ops->last(source); source->valid; source->ops->prev(source))
        assert_stands_at(source, model, --at);
    assert_int_equal(at, 0);
    sdb_source_destroy(source);
}

/* ---- Key families ---------------------------------------------------------------------------- */

enum family {
    RANDOM_KEYS,
    SEQUENTIAL_KEYS,
    REVERSE_KEYS,
    LONG_COMMON_PREFIX,
    ZERO_BYTES,
    FEW_HOT_KEYS,
    FAMILIES
};

static void make_key(enum family family, uint64_t number, uint64_t *random, struct entry *entry)
{
    memset(entry->key, 0, sizeof entry->key);
    switch (family) {
    case RANDOM_KEYS:
        entry->key_size = random_below(random, KEY_MAX + 1); /* 0 as well: the tree does not care */
        random_bytes(random, entry->key, entry->key_size);
        return;
    case SEQUENTIAL_KEYS:
    case REVERSE_KEYS:
        if (family == REVERSE_KEYS)
            number = 999999 - number;
        entry->key_size = (size_t)snprintf((char *)entry->key, KEY_MAX, "%016" PRIu64, number);
        return;
    case LONG_COMMON_PREFIX: /* all tie on the prefix in the node, sizes from 15 to 33 */
        memset(entry->key, 'p', KEY_MAX);
        entry->key_size = 15 + random_below(random, 19);
        for (size_t i = 20; i < entry->key_size; i++)
            entry->key[i] = (uint8_t)('a' + random_below(random, 2));
        return;
    case ZERO_BYTES: /* "a", "a\0", "a\0\0" ... tie on the prefix up to 16 bytes and beyond */
        entry->key[0] = (uint8_t)('a' + random_below(random, 2));
        entry->key_size = 1 + random_below(random, 20);
        if (random_below(random, 2) == 0)
            entry->key[random_below(random, entry->key_size)] = 1;
        return;
    default:
        entry->key[0] = (uint8_t)random_below(random, 3);
        entry->key_size = 1;
    }
}

/* A new version, or now and then another one under a key and revision that are there already. */
static struct entry make_entry(enum family family, uint64_t number, const struct model *model,
                               uint64_t *random)
{
    struct entry entry;
    make_key(family, number, random, &entry);
    uint64_t revision = number + 1;
    if (model->count != 0 && random_below(random, 4) == 0) {
        entry = *model->entries[random_below(random, model->count)];
        if (random_below(random, 2) == 0)
            revision = sdb_tag_revision(entry.tag);
    }
    entry.tag = sdb_tag(revision, (unsigned)random_below(random, 2));
    entry.value = random_u64(random);
    return entry;
}

static void insert_both(struct sdb_memtable *memtable, struct model *model,
                        const struct entry *entry)
{
    assert_int_equal(
        sdb_memtable_insert(memtable, entry_key(entry), entry->tag, entry_value(entry)), STORM_OK);
    model_insert(model, entry);
}

/* A place to look for: an entry that is there, with a tag near its own, or anything. */
static struct entry make_target(enum family family, const struct model *model, uint64_t *random)
{
    struct entry target;
    make_key(family, random_below(random, 2 * model->count), random, &target);
    target.tag = random_below(random, 2 * model->count) << 8;
    if (random_below(random, 3) != 0) {
        target = *model->entries[random_below(random, model->count)];
        target.tag += 256 * (random_below(random, 3) - 1); /* wraps to the greatest tag at times */
    }
    static const unsigned kinds[] = {SDB_KIND_DELETE, SDB_KIND_PUT, SDB_KIND_SEEK};
    target.tag = (target.tag & ~UINT64_C(255)) | kinds[random_below(random, 3)];
    return target;
}

static void check_get(const struct sdb_memtable *memtable, const struct model *model,
                      const struct entry *target)
{
    struct storm_slice key = entry_key(target);
    uint64_t revision = sdb_tag_revision(target->tag);
    size_t at = model_search(model, key, sdb_tag(revision, SDB_KIND_SEEK));
    bool is_there = at < model->count && sdb_key_compare(entry_key(model->entries[at]), key) == 0;
    uint64_t tag;
    struct storm_slice value;
    assert_int_equal(sdb_memtable_get(memtable, key, revision, &tag, &value), is_there);
    if (is_there) {
        assert_int_equal(tag, model->entries[at]->tag);
        assert_true(slices_equal(value, entry_value(model->entries[at])));
    }
}

/* The target's key and others of the model, together, as one by one. */
static void check_get_many(const struct sdb_memtable *memtable, const struct model *model,
                           const struct entry *target)
{
    struct sdb_memtable_query queries[SDB_MEMTABLE_TOGETHER];
    uint64_t revision = sdb_tag_revision(target->tag);
    size_t count = target->tag % (SDB_MEMTABLE_TOGETHER + 1);
    for (size_t i = 0; i < count; i++) {
        const struct entry *other = model->count == 0 || i % 4 == 0
                                        ? target
                                        : model->entries[(target->tag + i * 37) % model->count];
        queries[i].key = entry_key(other);
    }
    sdb_memtable_get_many(memtable, revision, queries, count);
    for (size_t i = 0; i < count; i++) {
        uint64_t tag;
        struct storm_slice value;
        bool is_found = sdb_memtable_get(memtable, queries[i].key, revision, &tag, &value);
        assert_int_equal(queries[i].is_found, is_found);
        assert_int_equal(queries[i].tag, tag);
        assert_ptr_equal(queries[i].value.data, value.data);
        assert_int_equal(queries[i].value.size, value.size);
    }
}

/* One random move of the source, and the same in the model; where it stands then. */
static size_t move(struct sdb_source *source, const struct model *model, size_t at,
                   const struct entry *target, uint64_t *random)
{
    uint64_t choice = random_below(random, 20);
    if (at < model->count && choice < 8) {
        source->ops->next(source);
        return at + 1;
    }
    if (at < model->count && choice < 16) {
        source->ops->prev(source);
        return at == 0 ? model->count : at - 1;
    }
    if (choice == 16) {
        source->ops->first(source);
        return 0;
    }
    if (choice == 17) {
        source->ops->last(source);
        return model->count - 1;
    }
    size_t found = model_search(model, entry_key(target), target->tag);
    if (choice == 18) {
        source->ops->seek_before(source, entry_key(target), target->tag);
        return found == 0 ? model->count : found - 1;
    }
    source->ops->seek(source, entry_key(target), target->tag);
    return found;
}

static void agrees_with_a_sorted_array(void **state)
{
    (void)state;
    static struct model model;
    uint64_t random = random_seed(2024);
    for (unsigned family = 0; family < FAMILIES; family++) {
        struct sdb_memtable *memtable = sdb_memtable_create(NULL);
        assert_non_null(memtable);
        model.count = model.kept_count = 0;
        for (uint64_t number = 0; model.count < MODEL_MAX - 1; number++) {
            struct entry entry = make_entry(family, number, &model, &random);
            insert_both(memtable, &model, &entry);
            struct entry target = make_target(family, &model, &random);
            check_get(memtable, &model, &target);
            check_get_many(memtable, &model, &target);
            if (number % 100 != 0)
                continue;
            struct sdb_source *source = source_over(memtable);
            size_t at = model.count;
            for (int i = 0; i < 200; i++) {
                target = make_target(family, &model, &random);
                at = move(source, &model, at, &target, &random);
                assert_stands_at(source, &model, at);
            }
            sdb_source_destroy(source);
        }
        assert_same_entries(memtable, &model);
        sdb_memtable_unref(memtable);
    }
}

/* ---- Single promises ------------------------------------------------------------------------- */

static void insert_text(struct sdb_memtable *memtable, struct storm_slice key, uint64_t revision,
                        const char *value)
{
    assert_int_equal(
        sdb_memtable_insert(memtable, key, sdb_tag(revision, SDB_KIND_PUT), storm_text(value)),
        STORM_OK);
}

static void an_empty_memtable_has_nothing_anywhere(void **state)
{
    (void)state;
    struct sdb_memtable *memtable = sdb_memtable_create(NULL);
    uint64_t tag;
    struct storm_slice value;
    assert_false(sdb_memtable_get(memtable, storm_text("a"), SDB_MAX_REVISION, &tag, &value));
    assert_int_equal(sdb_memtable_entries(memtable), 0);
    struct sdb_source *source = source_over(memtable);
    assert_false(source->valid);
    source->ops->first(source);
    assert_false(source->valid);
    source->ops->last(source);
    assert_false(source->valid);
    source->ops->seek(source, storm_text("a"), UINT64_MAX);
    assert_false(source->valid);
    source->ops->seek_before(source, storm_text("a"), 0);
    assert_false(source->valid);
    sdb_source_destroy(source);
    sdb_memtable_unref(memtable);
    sdb_memtable_unref(NULL);
}

static void keys_that_tie_in_the_prefix_are_different_keys(void **state)
{
    (void)state;
    static const uint8_t bytes[20] = {'a'};
    struct sdb_memtable *memtable = sdb_memtable_create(NULL);
    for (size_t size = 1; size <= sizeof bytes; size += 2)
        insert_text(memtable, storm_bytes(bytes, size), 1, "odd");
    uint64_t tag;
    struct storm_slice value;
    for (size_t size = 1; size <= sizeof bytes; size++)
        assert_int_equal(
            sdb_memtable_get(memtable, storm_bytes(bytes, size), SDB_MAX_REVISION, &tag, &value),
            size % 2);
    struct sdb_source *source = source_over(memtable);
    size_t size = 1;
    for (source->ops->first(source); source->valid; source->ops->next(source), size += 2)
        assert_int_equal(source->key.size, size);
    assert_int_equal(size, sizeof bytes + 1);
    sdb_source_destroy(source);
    sdb_memtable_unref(memtable);
}

static void a_read_sees_the_newest_version_at_or_below_its_revision(void **state)
{
    (void)state;
    struct sdb_memtable *memtable = sdb_memtable_create(NULL);
    insert_text(memtable, storm_text("k"), 10, "ten");
    assert_int_equal(sdb_memtable_insert(memtable, storm_text("k"), sdb_tag(20, SDB_KIND_DELETE),
                                         storm_bytes(NULL, 0)),
                     STORM_OK);
    insert_text(memtable, storm_text("k"), 30, "thirty");
    static const struct {
        uint64_t revision, tag;
    } cases[] = {{10, 10 << 8 | 1}, {19, 10 << 8 | 1}, {20, 20 << 8},
                 {29, 20 << 8},     {30, 30 << 8 | 1}, {SDB_MAX_REVISION, 30 << 8 | 1}};
    uint64_t tag;
    struct storm_slice value;
    assert_false(sdb_memtable_get(memtable, storm_text("k"), 9, &tag, &value));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(sdb_memtable_get(memtable, storm_text("k"), cases[i].revision, &tag, &value));
        assert_int_equal(tag, cases[i].tag);
    }
    sdb_memtable_unref(memtable);
}

/* In every position of nodes and separators: each version is replaced, with its kind, both ways. */
static void the_same_key_and_revision_replaces_the_entry(void **state)
{
    (void)state;
    struct sdb_memtable *memtable = sdb_memtable_create(NULL);
    enum { COUNT = 2000 };
    for (unsigned kind = 0; kind < 4; kind++)
        for (uint64_t i = 0; i < COUNT; i++) {
            uint64_t revision = i * 7919 % COUNT + 1;
            assert_int_equal(sdb_memtable_insert(memtable, storm_text("hot"),
                                                 sdb_tag(revision, kind % 2),
                                                 storm_bytes(&revision, kind % 2 * 8)),
                             STORM_OK);
        }
    assert_int_equal(sdb_memtable_entries(memtable), COUNT);
    struct sdb_source *source = source_over(memtable);
    uint64_t revision = COUNT;
    for (source->ops->first(source); source->valid; source->ops->next(source), revision--) {
        assert_int_equal(source->tag, sdb_tag(revision, SDB_KIND_PUT));
        assert_memory_equal(source->value.data, &revision, 8);
    }
    assert_int_equal(revision, 0);
    sdb_source_destroy(source);
    sdb_memtable_unref(memtable);
}

static void a_source_keeps_its_memtable_alive(void **state)
{
    (void)state;
    struct sdb_memtable *memtable = sdb_memtable_create(NULL);
    insert_text(memtable, storm_text("k"), 1, "v");
    struct sdb_source *source = source_over(memtable);
    assert_ptr_equal(sdb_memtable_ref(memtable), memtable);
    sdb_memtable_unref(memtable);
    sdb_memtable_unref(memtable);
    source->ops->first(source);
    assert_true(source->valid);
    assert_true(slices_equal(source->value, storm_text("v")));
    sdb_source_destroy(source);
}

static void keys_and_values_of_full_size_are_kept(void **state)
{
    (void)state;
    struct sdb_memtable *memtable = sdb_memtable_create(NULL);
    enum { KEY = 65535, VALUE = 3 << 20 };
    uint8_t *bytes = malloc(VALUE);
    assert_non_null(bytes);
    memset(bytes, 'v', VALUE);
    struct storm_slice key = storm_bytes(bytes, KEY), value = storm_bytes(bytes, VALUE);
    assert_int_equal(sdb_memtable_insert(memtable, key, sdb_tag(1, SDB_KIND_PUT), value), STORM_OK);
    assert_true(sdb_memtable_bytes(memtable) >= KEY + VALUE);
    uint64_t tag;
    struct storm_slice found;
    assert_true(sdb_memtable_get(memtable, key, 1, &tag, &found));
    assert_true(slices_equal(found, value));
    assert_true(found.data != value.data);
    free(bytes);
    sdb_memtable_unref(memtable);
}

static void a_sequential_load_fills_its_leaves(void **state)
{
    (void)state;
    struct sdb_memtable *memtable = sdb_memtable_create(NULL);
    enum { COUNT = 100000 };
    for (uint64_t i = 0; i < COUNT; i++) {
        uint8_t key[8];
        for (int j = 0; j < 8; j++)
            key[j] = (uint8_t)(i >> (56 - 8 * j));
        insert_text(memtable, storm_bytes(key, 8), 1, "");
    }
    /* 24 bytes of record and 384 / 15 = 26 of leaf, 2 of inner nodes; half-filled leaves would cost
     * 51, and copies as much again. */
    assert_in_range(sdb_memtable_bytes(memtable) / COUNT, 50, 64);
    sdb_memtable_unref(memtable);
}

/* ---- Iterating while the memtable grows ------------------------------------------------------ */

/* A number's place: all of 0 to 65,535 once, in an order that is well mixed. */
static uint64_t mixed(uint64_t number)
{
    return number * 40503 & 0xffff;
}

static void insert_number(struct sdb_memtable *memtable, uint64_t number)
{
    uint64_t place = mixed(number);
    uint8_t key[2] = {(uint8_t)(place >> 8), (uint8_t)place};
    insert_text(memtable, storm_bytes(key, 2), number + 1, "");
}

/* From one end to the other with `burst` inserts before each step: every entry that was there at
 * the start comes by exactly once, in order. */
static void walk_while_growing(uint64_t start, uint64_t burst, bool is_forward)
{
    struct sdb_memtable *memtable = sdb_memtable_create(NULL);
    uint64_t number = 0;
    while (number < start)
        insert_number(memtable, number++);
    struct sdb_source *source = source_over(memtable);
    (is_forward ? source->ops->first : source->ops->last)(source);
    size_t seen = 0;
    long before = is_forward ? -1 : 65536;
    while (source->valid) {
        long place = source->key.data[0] << 8 | source->key.data[1];
        assert_true(is_forward ? place > before : place < before);
        before = place;
        seen += sdb_tag_revision(source->tag) <= start;
        for (uint64_t i = 0; i < burst && number < 65536; i++)
            insert_number(memtable, number++);
        (is_forward ? source->ops->next : source->ops->prev)(source);
    }
    assert_int_equal(seen, start);
    sdb_source_destroy(source);
    sdb_memtable_unref(memtable);
}

static void an_iterator_misses_and_repeats_nothing_while_the_memtable_grows(void **state)
{
    (void)state;
    static const uint64_t starts[] = {1, 16, 1000};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++)
        for (uint64_t burst = 1; burst < 1000; burst *= 9) {
            walk_while_growing(starts[i], burst, true);
            walk_while_growing(starts[i], burst, false);
        }
}

/* An iterator turns round at random while keys go in: what it passes was there, in order. */
static void an_iterator_may_turn_round_while_the_memtable_grows(void **state)
{
    (void)state;
    uint64_t random = random_seed(7);
    for (int round = 0; round < 8; round++) {
        struct sdb_memtable *memtable = sdb_memtable_create(NULL);
        uint64_t number = 0, start = 1000;
        while (number < start)
            insert_number(memtable, number++);
        bool was_there[65536] = {false};
        for (uint64_t i = 0; i < start; i++)
            was_there[mixed(i)] = true;
        struct sdb_source *source = source_over(memtable);
        source->ops->seek(source, storm_text("\x80"), UINT64_MAX);
        long at = source->key.data[0] << 8 | source->key.data[1];
        while (number < 20000) {
            bool is_forward = random_below(&random, 2) == 0;
            for (uint64_t steps = random_below(&random, 60); steps > 0 && source->valid; steps--) {
                for (uint64_t i = random_below(&random, 20); i > 0; i--)
                    insert_number(memtable, number++);
                (is_forward ? source->ops->next : source->ops->prev)(source);
                long next = is_forward ? 65536 : -1;
                if (source->valid)
                    next = source->key.data[0] << 8 | source->key.data[1];
                assert_true(is_forward ? next > at : next < at);
                for (long between = is_forward ? at + 1 : at - 1; between != next;
                     between += is_forward ? 1 : -1)
                    assert_false(was_there[between]);
                at = next;
            }
            if (!source->valid) {
                source->ops->first(source);
                at = source->key.data[0] << 8 | source->key.data[1];
            }
        }
        sdb_source_destroy(source);
        sdb_memtable_unref(memtable);
    }
}

/* ---- Running out of memory ------------------------------------------------------------------- */

static void without_memory_there_is_no_memtable_and_no_source(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 2; nth++) {
        alloc_fail_at(nth, false);
        struct sdb_memtable *none = sdb_memtable_create(NULL);
        alloc_fail_at(0, false);
        assert_null(none);
    }
    struct sdb_memtable *memtable = sdb_memtable_create(NULL);
    alloc_fail_at(1, false);
    struct sdb_source *source = sdb_memtable_source(memtable);
    alloc_fail_at(0, false);
    assert_null(source);
    sdb_memtable_unref(memtable);
}

/* The arena asks for memory once in some hundred inserts, so each table is filled until one fails,
 * as often in the middle of a split as before it; then it must be as it was, and go on. */
static void running_out_of_memory_leaves_the_memtable_intact(void **state)
{
    (void)state;
    static struct model model;
    uint64_t random = random_seed(5);
    for (unsigned round = 0; round < 60; round++) {
        enum family family = round % FAMILIES;
        struct sdb_memtable *memtable = sdb_memtable_create(NULL);
        model.count = model.kept_count = 0;
        unsigned failures = 0;
        for (uint64_t number = 0; failures < 3 && model.count < 2500; number++) {
            struct entry entry = make_entry(family, number, &model, &random);
            alloc_fail_at(1, true);
            storm_status status =
                sdb_memtable_insert(memtable, entry_key(&entry), entry.tag, entry_value(&entry));
            alloc_fail_at(0, false);
            if (status == STORM_OK) {
                model_insert(&model, &entry);
                continue;
            }
            assert_int_equal(status, STORM_NO_MEMORY);
            failures++;
            assert_same_entries(memtable, &model);
            insert_both(memtable, &model, &entry);
        }
        assert_true(failures > 0);
        assert_same_entries(memtable, &model);
        sdb_memtable_unref(memtable);
    }
}

/* Groups of every size, into trees of every height, with no memory to be had meanwhile; and no
 * group takes more of the arena than was calculated for it, down to the byte. */
static void inserts_that_were_reserved_for_cannot_fail(void **state)
{
    (void)state;
    static struct model model;
    static struct entry entries[600];
    uint64_t random = random_seed(6);
    for (unsigned round = 0; round < 120; round++) {
        struct sdb_memtable *memtable = sdb_memtable_create(NULL);
        model.count = model.kept_count = 0;
        for (uint64_t number = 0; model.count < 2500;) {
            size_t count = 1 + random_below(&random, round % 4 == 0   ? 600
                                                     : round % 4 == 1 ? 3
                                                                      : 30);
            size_t bytes = 0;
            for (size_t i = 0; i < count; i++) {
                entries[i] = make_entry(round % FAMILIES, number++, &model, &random);
                bytes += entries[i].key_size + entry_value(&entries[i]).size;
            }
            size_t room = sdb_memtable_room(memtable, count, bytes);
            size_t used = atomic_load(&memtable->arena.used);
            assert_true(sdb_memtable_reserve(memtable, count, bytes));
            alloc_fail_at(1, true);
            for (size_t i = 0; i < count; i++)
                insert_both(memtable, &model, &entries[i]);
            alloc_fail_at(0, false);
            assert_in_range(atomic_load(&memtable->arena.used) - used, 0, room);
            sdb_memtable_unreserve(memtable, random_below(&random, 2) == 0);
        }
        assert_same_entries(memtable, &model);
        sdb_memtable_unref(memtable);
    }
}

/* The worst case is not met by chance: every insert of a group splits a leaf, and the first ones
 * each an inner node of their own as well. */
static void a_group_that_splits_with_every_insert_fits_its_calculation(void **state)
{
    enum { LEAVES = 4096, APART = 257 };
    (void)state;
    struct sdb_memtable *memtable = sdb_memtable_create(NULL);
    char key[16];
    /* Sequential keys fill each leaf to the brim, and each inner node. */
    for (unsigned i = 0; i < LEAVES * SDB_NODE_SLOTS; i++) {
        snprintf(key, sizeof key, "%08u", i);
        assert_int_equal(sdb_memtable_insert(memtable, storm_text(key), sdb_tag(1, SDB_KIND_PUT),
                                             storm_bytes(NULL, 0)),
                         STORM_OK);
    }
    for (unsigned from = 0, count = 1; from < LEAVES; from += count, count = count * 3 / 2 + 3) {
        unsigned end = from + count < LEAVES ? from + count : LEAVES;
        size_t room = sdb_memtable_room(memtable, end - from, 9 * (end - from));
        size_t used = atomic_load(&memtable->arena.used);
        for (unsigned i = from; i < end; i++) {
            snprintf(key, sizeof key, "%08u+", i * APART % LEAVES * SDB_NODE_SLOTS);
            assert_int_equal(sdb_memtable_insert(memtable, storm_text(key),
                                                 sdb_tag(2, SDB_KIND_PUT), storm_bytes(NULL, 0)),
                             STORM_OK);
        }
        assert_in_range(atomic_load(&memtable->arena.used) - used, 0, room);
    }
    sdb_memtable_unref(memtable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_sorted_array),
        cmocka_unit_test(an_empty_memtable_has_nothing_anywhere),
        cmocka_unit_test(keys_that_tie_in_the_prefix_are_different_keys),
        cmocka_unit_test(a_read_sees_the_newest_version_at_or_below_its_revision),
        cmocka_unit_test(the_same_key_and_revision_replaces_the_entry),
        cmocka_unit_test(a_source_keeps_its_memtable_alive),
        cmocka_unit_test(keys_and_values_of_full_size_are_kept),
        cmocka_unit_test(a_sequential_load_fills_its_leaves),
        cmocka_unit_test(an_iterator_misses_and_repeats_nothing_while_the_memtable_grows),
        cmocka_unit_test(an_iterator_may_turn_round_while_the_memtable_grows),
        cmocka_unit_test(without_memory_there_is_no_memtable_and_no_source),
        cmocka_unit_test(running_out_of_memory_leaves_the_memtable_intact),
        cmocka_unit_test(inserts_that_were_reserved_for_cannot_fail),
        cmocka_unit_test(a_group_that_splits_with_every_insert_fits_its_calculation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
