/*
 * The manifest on the simulated disk: what is written comes back; damage is refused, or, in the
 * last edit alone, dropped; power cuts, failing calls and missing memory leave the state before an
 * edit or the one after it.
 */
#include "sim_fixture.h"

#include <stdio.h>

#include "alloc_fail.h"
#include "lsm/db/manifest.h"
#include "lsm/db/manifest_format.h"
#include "lsm/db/names.h"
#include "random.h"
#include "util/buffer.h"

#define DIR "db"

static struct sdb_garbage garbage = {.mu = PTHREAD_MUTEX_INITIALIZER};

/* ---- A state in memory, to compare with ---- */

struct model {
    struct sdb_state state;
    struct sdb_version *version;
};

static struct sdb_table_file *table_of(uint64_t number, unsigned level, const char *smallest,
                                       const char *largest)
{
    struct sdb_table_file *file = sdb_table_file_create(
        number, number * 1000, level, storm_text(smallest), storm_text(largest), &garbage);
    assert_non_null(file);
    file->entries = number + 1;
    file->deletes = number + 2;
    file->min_revision = number + 3;
    file->max_revision = number + (UINT64_C(1) << 40);
    file->swept_revision = number % 2 == 0 ? 0 : number + 4;
    return file;
}

static struct sdb_version *apply(struct sdb_version *base, const struct sdb_edit *edit)
{
    struct sdb_version *version = sdb_version_apply(base, edit);
    assert_non_null(version);
    return version;
}

static void model_init(struct model *model)
{
    model->version = sdb_version_create();
    assert_non_null(model->version);
    model->state = (struct sdb_state){.store_id = UINT64_C(0xfedcba9876543210),
                                      .epoch = 4000000000,
                                      .manifest_number = 7,
                                      .next_file = 300,
                                      .log_number = 8,
                                      .newest_log = 9,
                                      .flushed_revision = (UINT64_C(1) << 53) - 1};
}

static void model_fini(struct model *model)
{
    sdb_version_unref(model->version);
}

/* Apply an edit to the model and, with a manifest, to that. */
static storm_status edit_both(struct model *model, struct sdb_manifest *manifest,
                              const struct sdb_edit *edit)
{
    struct sdb_version *after = apply(model->version, edit);
    uint64_t next_file = model->state.next_file;
    storm_status status = sdb_manifest_append(manifest, edit, after, &next_file);
    if (status != STORM_OK) {
        sdb_version_unref(after);
        return status;
    }
    sdb_version_unref(model->version);
    model->version = after;
    if (next_file != model->state.next_file)
        model->state.manifest_number = next_file - 1;
    model->state.next_file = next_file;
    if (edit->has_log_number) {
        model->state.log_number = edit->log_number;
        model->state.newest_log = edit->newest_log;
    }
    if (edit->has_flushed_revision)
        model->state.flushed_revision = edit->flushed_revision;
    return STORM_OK;
}

static bool same_slice(struct storm_slice a, struct storm_slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static bool same_file(const struct sdb_table_file *a, const struct sdb_table_file *b)
{
    return a->number == b->number && a->size == b->size && a->level == b->level &&
           a->entries == b->entries && a->deletes == b->deletes &&
           a->min_revision == b->min_revision && a->max_revision == b->max_revision &&
           a->swept_revision == b->swept_revision && same_slice(a->smallest, b->smallest) &&
           same_slice(a->largest, b->largest);
}

static bool same_ranges(const struct sdb_ranges *a, const struct sdb_ranges *b)
{
    bool is_same = sdb_ranges_count(a) == sdb_ranges_count(b);
    for (size_t i = 0; is_same && i < sdb_ranges_count(a); i++)
        is_same = sdb_range_compare(&a->list[i], &b->list[i]) == 0;
    return is_same;
}

static bool same_version(const struct sdb_version *a, const struct sdb_version *b)
{
    for (size_t l = 0; l < STORM_MAX_LEVELS; l++) {
        if (a->levels[l].count != b->levels[l].count || a->levels[l].bytes != b->levels[l].bytes)
            return false;
        for (size_t i = 0; i < a->levels[l].count; i++) {
            if (!same_file(a->levels[l].files[i], b->levels[l].files[i]))
                return false;
        }
    }
    return same_ranges(a->ranges, b->ranges);
}

static bool same_state(const struct sdb_state *a, const struct sdb_state *b)
{
    return a->store_id == b->store_id && a->epoch == b->epoch &&
           a->manifest_number == b->manifest_number && a->next_file == b->next_file &&
           a->log_number == b->log_number && a->newest_log == b->newest_log &&
           a->flushed_revision == b->flushed_revision;
}

/* What the disk says is what the model says. */
static bool says(struct fixture *f, const struct model *model)
{
    struct sdb_state state;
    struct sdb_version *version;
    if (sdb_manifest_read(&f->os, DIR, &garbage, &state, &version) != STORM_OK)
        return false;
    bool is_same = same_state(&state, &model->state) && same_version(version, model->version);
    sdb_version_unref(version);
    return is_same;
}

static storm_status read_status(struct fixture *f)
{
    struct sdb_state state;
    struct sdb_version *version;
    storm_status status = sdb_manifest_read(&f->os, DIR, &garbage, &state, &version);
    assert_int_equal(version == NULL, status != STORM_OK);
    sdb_version_unref(version);
    return status;
}

static void make_dir(struct fixture *f)
{
    assert_int_equal(sdb_mkdir(&f->os, DIR), STORM_OK);
    assert_int_equal(sdb_sync_dir(&f->os, "."), STORM_OK);
}

static const char *manifest_path(uint64_t number)
{
    static char path[64];
    char name[SDB_NAME_MAX];
    sdb_manifest_name(name, number);
    snprintf(path, sizeof path, DIR "/%s", name);
    return path;
}

static uint64_t size_of(struct fixture *f, const char *path)
{
    uint64_t size = 0;
    assert_int_equal(sim_file_size(f->disk, path, &size), STORM_OK);
    return size;
}

/* The whole of a file; the caller frees. */
static uint8_t *bytes_of(struct fixture *f, const char *path, size_t *size)
{
    struct sdb_file *file = open_ok(f, path, SDB_OPEN_READ);
    size_t length = (size_t)size_of(f, path);
    uint8_t *data = malloc(length + 1);
    assert_non_null(data);
    assert_int_equal(sdb_pread(file, 0, data, length, size), STORM_OK);
    sdb_close(file);
    return data;
}

/* Edits of every kind, the last of them a flush with a move between levels. */
enum { EDITS = 4 };

/* Files of all edits; the test holds them. */
struct script {
    struct sdb_table_file *files[8];
    struct sdb_range ranges[4];
    struct sdb_edit edits[EDITS];
};

static void script_init(struct script *s)
{
    struct sdb_table_file *files[] = {
        table_of(20, 0, "a", "z"),   table_of(21, 0, "k", "k"),           table_of(22, 1, "a", "h"),
        table_of(23, 1, "i", "z"),   table_of(24, 6, "", "\x7f\x01\x02"), table_of(25, 0, "b", "c"),
        table_of(26, 1, "ha", "hz"), table_of(27, 2, "q", "qq"),
    };
    struct sdb_range ranges[] = {
        {storm_text("a"), storm_text("m"), 7},
        {storm_text(""), storm_text("b"), (UINT64_C(1) << 53) - 1},
        {storm_text("b\xff"), storm_text(""), 8},
        {storm_text(""), storm_text(""), 9},
    };
    memcpy(s->files, files, sizeof files);
    memcpy(s->ranges, ranges, sizeof ranges);
    s->edits[0] = (struct sdb_edit){.has_log_number = true,
                                    .log_number = 30,
                                    .newest_log = 33,
                                    .has_flushed_revision = true,
                                    .flushed_revision = 1000,
                                    .added = s->files,
                                    .added_count = 2,
                                    .ranges_added = s->ranges,
                                    .ranges_added_count = 2};
    s->edits[1] = (struct sdb_edit){
        .added = &s->files[2], .added_count = 3, .removed = s->files, .removed_count = 2};
    s->edits[2] = (struct sdb_edit){.has_log_number = true,
                                    .log_number = UINT64_MAX,
                                    .newest_log = 0,
                                    .ranges_added = &s->ranges[2],
                                    .ranges_added_count = 2,
                                    .ranges_removed = s->ranges,
                                    .ranges_removed_count = 1};
    s->edits[3] = (struct sdb_edit){.has_flushed_revision = true,
                                    .flushed_revision = 0,
                                    .added = &s->files[5],
                                    .added_count = 3,
                                    .removed = &s->files[4],
                                    .removed_count = 1,
                                    .ranges_removed = &s->ranges[1],
                                    .ranges_removed_count = 2};
}

static void script_fini(struct script *s)
{
    for (size_t i = 0; i < 8; i++)
        sdb_table_file_unref(s->files[i]);
}

/* A manifest with the first `count` edits, closed. */
static void write_manifest(struct fixture *f, struct model *model, struct script *s, size_t count)
{
    struct sdb_manifest *manifest;
    make_dir(f);
    model_init(model);
    script_init(s);
    assert_int_equal(sdb_manifest_create(&f->os, DIR, &model->state, model->version, &manifest),
                     STORM_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(edit_both(model, manifest, &s->edits[i]), STORM_OK);
    assert_true(same_state(sdb_manifest_state(manifest), &model->state));
    sdb_manifest_close(manifest);
}

/* ---- What is written comes back ---- */

static void every_field_and_file_comes_back(void **state)
{
    struct fixture *f = *state;
    struct model model;
    struct script s;
    struct sdb_manifest *manifest;
    make_dir(f);
    assert_int_equal(read_status(f), STORM_NOT_FOUND);
    assert_int_equal(recorded(f), 0); /* a new store is no failure */
    model_init(&model);
    script_init(&s);
    assert_int_equal(sdb_manifest_create(&f->os, DIR, &model.state, model.version, &manifest),
                     STORM_OK);
    assert_true(says(f, &model));
    for (size_t i = 0; i < EDITS; i++) {
        model.state.next_file += i + 1;
        assert_int_equal(edit_both(&model, manifest, &s.edits[i]), STORM_OK);
        assert_true(says(f, &model));
        /* And what was answered is durable. */
        sim_reboot(f->disk, SIM_LOSE_ALL);
        assert_true(says(f, &model));
        sdb_manifest_close(manifest);
        /* A new one with the whole state says the same. */
        model.state.manifest_number = model.state.next_file++;
        model.state.epoch++;
        assert_int_equal(sdb_manifest_create(&f->os, DIR, &model.state, model.version, &manifest),
                         STORM_OK);
        assert_true(says(f, &model));
    }
    assert_int_equal(sdb_version_file_count(model.version), 5);
    sdb_manifest_close(manifest);
    sdb_manifest_close(NULL);
    script_fini(&s);
    model_fini(&model);
}

static void reading_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct model model;
    struct script s;
    write_manifest(f, &model, &s, EDITS);
    uint64_t changes = sim_calls(f->disk, SIM_CHANGES);
    assert_true(says(f, &model));
    assert_int_equal(sim_calls(f->disk, SIM_CHANGES), changes);
    script_fini(&s);
    model_fini(&model);
}

static void a_manifest_past_four_mebibytes_begins_a_new_one(void **state)
{
    struct fixture *f = *state;
    struct model model;
    struct sdb_manifest *manifest;
    char key[4001];
    uint64_t largest = 0;
    size_t rolls = 0;
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = '\0';
    make_dir(f);
    model_init(&model);
    assert_int_equal(sdb_manifest_create(&f->os, DIR, &model.state, model.version, &manifest),
                     STORM_OK);
    /* Each edit adds one table and removes the one before, with keys of 4,000 bytes: 8 KiB a
     * time. */
    struct sdb_table_file *before = NULL;
    for (uint64_t i = 0; i < 1200; i++) {
        uint64_t number = model.state.manifest_number;
        struct sdb_table_file *file = table_of(1000 + i, 1, key, key);
        struct sdb_edit edit = {
            .added = &file, .added_count = 1, .removed = &before, .removed_count = before != NULL};
        model.state.next_file = 5000 + 2 * i;
        assert_int_equal(edit_both(&model, manifest, &edit), STORM_OK);
        if (model.state.manifest_number != number) {
            rolls++;
            assert_false(is_there(f, manifest_path(number)));
            assert_true(says(f, &model));
        }
        uint64_t size = size_of(f, manifest_path(model.state.manifest_number));
        if (size > largest)
            largest = size;
        if (before != NULL)
            sdb_table_file_unref(before);
        before = file;
    }
    assert_int_equal(rolls, 2);
    assert_true(largest > (4 << 20) && largest < (4 << 20) + 16384);
    assert_true(says(f, &model));
    assert_int_equal(sdb_version_file_count(model.version), 1);
    sdb_table_file_unref(before);
    sdb_manifest_close(manifest);
    model_fini(&model);
}

/* ---- Damage ---- */

static void a_last_edit_cut_at_any_byte_is_dropped(void **state)
{
    struct fixture *f = *state;
    struct model before, after;
    struct script s, other;
    struct fixture one_less;
    write_manifest(f, &after, &s, EDITS);
    fixture_init(&one_less, 1);
    write_manifest(&one_less, &before, &other, EDITS - 1);
    uint64_t start = size_of(&one_less, manifest_path(7));
    uint64_t size = size_of(f, manifest_path(7));
    size_t whole_size;
    uint8_t *whole = bytes_of(f, manifest_path(7), &whole_size);
    uint32_t payload = sdb_get_u32(whole + start + 4);
    assert_true(size > start + SDB_MANIFEST_FRAME);
    for (uint64_t cut = size; cut-- > start;) {
        assert_int_equal(sim_resize(f->disk, manifest_path(7), cut), STORM_OK);
        /* Without padding it is whole all the same. */
        bool is_whole = cut >= start + SDB_MANIFEST_FRAME + payload;
        if (!says(f, is_whole ? &after : &before))
            fail_msg("cut at %llu of %llu", (unsigned long long)cut, (unsigned long long)size);
    }
    /* Cut short with zeroes behind it, as a file system may leave it. */
    for (uint64_t cut = start + SDB_MANIFEST_FRAME + payload; cut-- > start;) {
        bool is_same = whole[cut] == 0;
        whole[cut] = 0;
        assert_int_equal(sim_write_file(f->disk, manifest_path(7), whole, whole_size), STORM_OK);
        bool is_read = says(f, &before) || (is_same && says(f, &after));
        assert_true(is_read);
    }
    assert_true(says(f, &before));
    /* Into the edit before, and into the first record: that one was durable before CURRENT was. */
    for (uint64_t cut = start; cut-- > 0;) {
        assert_int_equal(sim_resize(f->disk, manifest_path(7), cut), STORM_OK);
        storm_status status = read_status(f);
        assert_true(status == STORM_OK || status == STORM_CORRUPT);
        if (cut <= SDB_MANIFEST_HEADER + SDB_MANIFEST_FRAME)
            assert_int_equal(status, STORM_CORRUPT);
        assert_false(says(f, &before) && cut < start - 7);
    }
    free(whole);
    script_fini(&s);
    script_fini(&other);
    model_fini(&before);
    model_fini(&after);
    fixture_fini(&one_less);
}

static void a_flipped_bit_never_gives_a_wrong_state(void **state)
{
    struct fixture *f = *state;
    struct model before, after;
    struct script s, other;
    struct fixture one_less;
    size_t refused = 0, dropped = 0, harmless = 0;
    write_manifest(f, &after, &s, EDITS);
    fixture_init(&one_less, 1);
    write_manifest(&one_less, &before, &other, EDITS - 1);
    uint64_t last = size_of(&one_less, manifest_path(7));
    for (int which = 0; which < 2; which++) {
        const char *path = which == 0 ? DIR "/" SDB_CURRENT : manifest_path(7);
        uint64_t size = size_of(f, path);
        for (uint64_t bit = 0; bit < size * 8; bit++) {
            uint8_t mask = (uint8_t)(1 << bit % 8);
            assert_int_equal(sim_flip(f->disk, path, bit / 8, mask), STORM_OK);
            storm_status status = read_status(f);
            if (status == STORM_CORRUPT)
                refused++;
            else if (says(f, &after))
                harmless++; /* padding, and the blank in CURRENT */
            else if (which == 1 && bit / 8 >= last && says(f, &before))
                dropped++;
            else
                fail_msg("file %d, bit %llu: status %d, a wrong state", which,
                         (unsigned long long)bit, status);
            assert_int_equal(sim_flip(f->disk, path, bit / 8, mask), STORM_OK);
        }
    }
    /* Up to seven bytes of padding a record, and one blank. */
    assert_true(harmless <= (EDITS + 1) * 7 * 8 + 8);
    assert_true(dropped >= (SDB_MANIFEST_FRAME + 20) * 8);
    assert_true(refused > 40 * 8);
    assert_true(says(f, &after));
    print_message("%zu refused, %zu dropped, %zu harmless\n", refused, dropped, harmless);
    script_fini(&s);
    script_fini(&other);
    model_fini(&before);
    model_fini(&after);
    fixture_fini(&one_less);
}

/* Where records begin, and how many there are. */
static size_t record_places(const uint8_t *data, size_t size, size_t *places)
{
    size_t count = 0;
    for (size_t at = SDB_MANIFEST_HEADER; at + SDB_MANIFEST_FRAME <= size;
         at = (at + SDB_MANIFEST_FRAME + sdb_get_u32(data + at + 4) + 7) / 8 * 8)
        places[count++] = at;
    places[count] = size;
    return count;
}

static void a_record_in_the_wrong_place_is_not_believed(void **state)
{
    struct fixture *f = *state;
    struct model model;
    struct script s;
    size_t size, places[EDITS + 3];
    write_manifest(f, &model, &s, EDITS);
    uint8_t *data = bytes_of(f, manifest_path(7), &size);
    uint8_t *wrong = malloc(size * 2);
    assert_non_null(wrong);
    size_t count = record_places(data, size, places);
    assert_int_equal(count, EDITS + 1);
    /* Two neighbours swapped. */
    for (size_t r = 0; r + 1 < count; r++) {
        size_t first = places[r + 1] - places[r], second = places[r + 2] - places[r + 1];
        memcpy(wrong, data, size);
        memcpy(wrong + places[r], data + places[r + 1], second);
        memcpy(wrong + places[r] + second, data + places[r], first);
        assert_int_equal(sim_write_file(f->disk, manifest_path(7), wrong, size), STORM_OK);
        bool are_last = r + 2 == count;
        assert_int_equal(read_status(f), are_last ? STORM_OK : STORM_CORRUPT);
        assert_false(says(f, &model));
    }
    /* One left out, the rest moved up. */
    memcpy(wrong, data, places[1]);
    memcpy(wrong + places[1], data + places[2], size - places[2]);
    assert_int_equal(
        sim_write_file(f->disk, manifest_path(7), wrong, size - (places[2] - places[1])), STORM_OK);
    assert_false(says(f, &model));
    /* The last one repeated: a copy of it is no edit. */
    memcpy(wrong, data, size);
    memcpy(wrong + size, data + places[count - 1], size - places[count - 1]);
    assert_int_equal(sim_write_file(f->disk, manifest_path(7), wrong, 2 * size - places[count - 1]),
                     STORM_OK);
    assert_true(says(f, &model));
    /* The whole file under another number. */
    char line[64];
    int length = snprintf(line, sizeof line, "MANIFEST-%010d %08x\n", 8,
                          sdb_crc32c(0, "MANIFEST-0000000008", 19));
    assert_int_equal(sim_write_file(f->disk, manifest_path(8), data, size), STORM_OK);
    assert_int_equal(sim_write_file(f->disk, DIR "/CURRENT", line, (size_t)length), STORM_OK);
    assert_int_equal(read_status(f), STORM_CORRUPT);
    assert_said(f, "", manifest_path(8), "another file");
    free(data);
    free(wrong);
    script_fini(&s);
    model_fini(&model);
}

static void a_newer_format_is_refused_by_name_and_left_alone(void **state)
{
    struct fixture *f = *state;
    struct model model;
    struct script s;
    size_t size;
    write_manifest(f, &model, &s, EDITS);
    uint8_t *data = bytes_of(f, manifest_path(7), &size);
    sdb_put_u32(data + 8, SDB_MANIFEST_FORMAT + 1);
    sdb_put_u32(data + 32, sdb_crc32c(0, data, 32));
    assert_int_equal(sim_write_file(f->disk, manifest_path(7), data, size), STORM_OK);
    uint64_t changes = sim_calls(f->disk, SIM_CHANGES);
    assert_int_equal(read_status(f), STORM_NEWER_FORMAT);
    assert_said(f, "", manifest_path(7), "format version 2");
    assert_int_equal(sim_calls(f->disk, SIM_CHANGES), changes);
    free(data);
    script_fini(&s);
    model_fini(&model);
}

static void current_must_name_a_manifest_that_is_there(void **state)
{
    static const char *lines[] = {"",
                                  "\n",
                                  "MANIFEST-0000000007",
                                  "MANIFEST-0000000007\n",
                                  "MANIFEST-0000000007 00000000\n",
                                  "MANIFEST-0000000007  ",
                                  "0000000007.sst 12345678\n",
                                  "MANIFEST-000000007 12345678\n"};
    struct fixture *f = *state;
    struct model model;
    struct script s;
    uint8_t large[5000] = {0};
    size_t size;
    write_manifest(f, &model, &s, 1);
    uint8_t *right = bytes_of(f, DIR "/CURRENT", &size);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_int_equal(sim_write_file(f->disk, DIR "/CURRENT", lines[i], strlen(lines[i])),
                         STORM_OK);
        assert_int_equal(read_status(f), STORM_CORRUPT);
        assert_said(f, "", "CURRENT", "does not name a manifest");
    }
    assert_int_equal(sim_write_file(f->disk, DIR "/CURRENT", large, sizeof large), STORM_OK);
    assert_int_equal(read_status(f), STORM_CORRUPT);
    assert_said(f, "", "CURRENT", "plausible");
    /* One byte more or less than right. */
    memcpy(large, right, size);
    assert_int_equal(sim_write_file(f->disk, DIR "/CURRENT", large, size + 1), STORM_OK);
    assert_int_equal(read_status(f), STORM_CORRUPT);
    assert_int_equal(sim_write_file(f->disk, DIR "/CURRENT", large, size - 1), STORM_OK);
    assert_int_equal(read_status(f), STORM_CORRUPT);
    assert_int_equal(sim_write_file(f->disk, DIR "/CURRENT", large, size), STORM_OK);
    assert_true(says(f, &model));

    assert_int_equal(sim_remove(f->disk, manifest_path(7)), STORM_OK);
    assert_int_equal(read_status(f), STORM_CORRUPT);
    assert_said(f, "", manifest_path(7), "missing");
    assert_int_equal(sim_remove(f->disk, DIR "/CURRENT"), STORM_OK);
    assert_int_equal(read_status(f), STORM_NOT_FOUND);
    free(right);
    script_fini(&s);
    model_fini(&model);
}

static void tables_that_overlap_in_a_sorted_level_are_corruption(void **state)
{
    static const struct {
        const char *keys[4];
        bool overlap;
    } cases[] = {
        {{"a", "c", "d", "f"}, false}, {{"d", "f", "a", "c"}, false},
        {{"a", "c", "c", "f"}, true},  {{"a", "f", "b", "c"}, true},
        {{"a", "c", "a", "c"}, true},  {{"a", "c", "c0", "f"}, false},
    };
    struct fixture *f = *state;
    make_dir(f);
    for (unsigned level = 0; level < STORM_MAX_LEVELS; level++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            const char *const *keys = cases[i].keys;
            struct sdb_table_file *files[] = {table_of(30, level, keys[0], keys[1]),
                                              table_of(31, level, keys[2], keys[3])};
            struct model model;
            struct sdb_manifest *manifest;
            model_init(&model);
            struct sdb_edit edit = {.added = files, .added_count = 2};
            struct sdb_version *both = apply(model.version, &edit);
            assert_int_equal(sdb_manifest_create(&f->os, DIR, &model.state, both, &manifest),
                             STORM_OK);
            sdb_manifest_close(manifest);
            bool is_refused = level != 0 && cases[i].overlap;
            assert_int_equal(read_status(f), is_refused ? STORM_CORRUPT : STORM_OK);
            if (is_refused)
                assert_said(f, "", manifest_path(7), "overlap");
            sdb_version_unref(both);
            model_fini(&model);
            sdb_table_file_unref(files[0]);
            sdb_table_file_unref(files[1]);
        }
    }
}

/* ---- The decoder ---- */

static storm_status decode(const void *payload, size_t size)
{
    struct sdb_state state = {0};
    struct sdb_file_set *files = sdb_file_set_create(&garbage);
    uint8_t *exact = malloc(size + 1); /* so that a sanitizer sees a read behind it */
    assert_non_null(files);
    assert_non_null(exact);
    memcpy(exact + 1, payload, size);
    storm_status status = sdb_manifest_decode(storm_bytes(exact + 1, size), &state, files);
    sdb_file_set_destroy(files);
    free(exact);
    return status;
}

static void payloads_that_make_no_sense_are_corruption(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        storm_status status;
    } cases[] = {
        {"", 0, STORM_OK},
        {"\2\1\5", 3, STORM_OK},
        {"\1\5\377\377\377\377\17", 7, STORM_OK},               /* the largest epoch */
        {"\1\5\200\200\200\200\20", 7, STORM_CORRUPT},          /* and one more */
        {"\4\10\377\377\377\377\377\377\377\17", 10, STORM_OK}, /* the largest revision */
        {"\4\10\200\200\200\200\200\200\200\20", 10, STORM_CORRUPT},
        {"\144\1\5", 3, STORM_CORRUPT},  /* a tag from the future */
        {"\0\1\5", 3, STORM_CORRUPT},    /* and one from nowhere */
        {"\2\1", 2, STORM_CORRUPT},      /* cut */
        {"\2\2\5", 3, STORM_CORRUPT},    /* cut */
        {"\2\2\5\5", 4, STORM_CORRUPT},  /* a body with something behind its number */
        {"\2\0", 2, STORM_CORRUPT},      /* a body without its number */
        {"\5\0", 2, STORM_CORRUPT},      /* a table of nothing */
        {"\6\2\0\11", 4, STORM_CORRUPT}, /* removed, but never there */
        {"\5\13\0\11\1\1\0\1\1\1a\1b", 13, STORM_OK},
        {"\5\13\0\11\1\1\0\1\1\1b\1a", 13, STORM_CORRUPT},   /* the largest key is the smaller */
        {"\5\13\7\11\1\1\0\1\1\1a\1b", 13, STORM_CORRUPT},   /* level 7 */
        {"\5\13\0\11\1\1\0\1\1\1a\2b", 13, STORM_CORRUPT},   /* a key that is cut */
        {"\5\14\0\11\1\1\0\1\1\1a\1b#", 14, STORM_OK},       /* swept to # */
        {"\5\14\0\11\1\1\0\1\1\1a\1b\0", 14, STORM_CORRUPT}, /* 0 is not written */
        {"\5\15\0\11\1\1\0\1\1\1a\1b##", 15, STORM_CORRUPT}, /* something behind it */
        {"\5\13\0\11\1\1\0\1\1\1a\1b\5\13\1\11\1\1\0\1\1\1a\1b", 26, STORM_CORRUPT}, /* twice */
        {"\5\13\0\11\1\1\0\1\1\1a\1b\6\2\0\11", 17, STORM_OK},
        {"\5\13\0\11\1\1\0\1\1\1a\1b\6\2\1\11", 17, STORM_CORRUPT}, /* from another level */
        {"\5\13\0\11\1\1\0\1\1\1a\1b\6\3\0\11\0", 18, STORM_CORRUPT},
        {"\5\13\0\11\1\1\0\1\1\1a\1b\6\2\0\11\6\2\0\11", 21, STORM_CORRUPT}, /* removed twice */
        {"\10\5\7\1a\1b", 7, STORM_OK},                                      /* a range delete */
        {"\10\3\7\0\0", 5, STORM_OK},                                        /* of everything */
        {"\10\5\0\1a\1b", 7, STORM_CORRUPT},                                 /* of no revision */
        {"\10\5\7\1b\1b", 7, STORM_CORRUPT},                                 /* of nothing */
        {"\10\6\7\1a\1b#", 8, STORM_CORRUPT},               /* something behind it */
        {"\10\4\7\1a\1", 6, STORM_CORRUPT},                 /* cut */
        {"\10\5\7\1a\1b\10\5\7\1a\1b", 14, STORM_CORRUPT},  /* twice */
        {"\10\5\7\1a\1b\11\5\7\1a\1b", 14, STORM_OK},       /* and removed */
        {"\10\5\7\1a\1b\11\5\10\1a\1b", 14, STORM_CORRUPT}, /* another one removed */
        {"\11\5\7\1a\1b", 7, STORM_CORRUPT},                /* removed, but never there */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        storm_status status = decode(cases[i].bytes, cases[i].size);
        if (status != cases[i].status)
            fail_msg("case %zu: %d instead of %d", i, status, cases[i].status);
    }
}

static void random_payloads_are_decoded_or_refused(void **state)
{
    uint64_t seed = random_seed(41);
    size_t good = 0;
    (void)state;
    for (int i = 0; i < 100000; i++) {
        uint8_t payload[48];
        size_t size = 0;
        /* Fields of small numbers, so that many get far. */
        while (size < 30) {
            size_t body = (size_t)random_below(&seed, 14);
            payload[size++] = (uint8_t)(1 + random_below(&seed, 9));
            payload[size++] = (uint8_t)body;
            for (size_t b = 0; b < body; b++)
                payload[size++] = (uint8_t)random_below(&seed, b >= 7 ? 3 : 140);
        }
        storm_status status = decode(payload, size > 30 ? 30 : size);
        assert_true(status == STORM_OK || status == STORM_CORRUPT);
        good += status == STORM_OK;
        status = decode(payload, 2 + payload[1]);
        good += status == STORM_OK;
    }
    assert_true(good > 1000);
}

/* ---- Power cuts, failing calls, missing memory ---- */

/*
 * A manifest is created, edited, rolled by hand (a second create, as every open does it) and edited
 * again. Returns how many steps were answered with success.
 */
enum { STEPS = EDITS + 2 };

/* What is allowed after k successful steps is models[k], or models[k + 1] while that one was
 * open. */
static void make_models(struct model *models, struct script *s)
{
    struct model now;
    model_init(&now);
    script_init(s);
    size_t step = 0;
    for (size_t i = 0; i < STEPS; i++) {
        if (i == 3) { /* the second create */
            now.state.manifest_number = now.state.next_file++;
            now.state.epoch++;
        } else if (i != 0) {
            const struct sdb_edit *edit = &s->edits[step++];
            struct sdb_version *after = apply(now.version, edit);
            sdb_version_unref(now.version);
            now.version = after;
            now.state.next_file += 10;
            if (edit->has_log_number) {
                now.state.log_number = edit->log_number;
                now.state.newest_log = edit->newest_log;
            }
            if (edit->has_flushed_revision)
                now.state.flushed_revision = edit->flushed_revision;
        }
        models[i] = (struct model){now.state, sdb_version_ref(now.version)};
    }
    model_fini(&now);
}

static size_t run_steps(struct fixture *f, struct model *models, struct script *s,
                        struct sdb_manifest **manifest, storm_status *status)
{
    size_t step = 0;
    *manifest = NULL;
    for (size_t i = 0; i < STEPS; i++) {
        if (i == 0 || i == 3) {
            sdb_manifest_close(*manifest);
            *status =
                sdb_manifest_create(&f->os, DIR, &models[i].state, models[i].version, manifest);
        } else {
            uint64_t next_file = models[i].state.next_file;
            *status =
                sdb_manifest_append(*manifest, &s->edits[step++], models[i].version, &next_file);
        }
        if (*status != STORM_OK)
            return i;
    }
    return STEPS;
}

/* The disk says models[done - 1], or models[done] when that step was begun. */
static bool says_before_or_after(struct fixture *f, const struct model *models, size_t done)
{
    if (done == 0 && read_status(f) == STORM_NOT_FOUND)
        return true;
    return (done > 0 && says(f, &models[done - 1])) || (done < STEPS && says(f, &models[done]));
}

static void a_power_cut_at_any_change_leaves_before_or_after(void **state)
{
    static const enum sim_loss losses[] = {SIM_LOSE_ALL, SIM_KEEP_SOME, SIM_KEEP_TORN,
                                           SIM_KEEP_ALL};
    struct model models[STEPS];
    struct script s;
    size_t points = 0;
    (void)state;
    make_models(models, &s);
    for (size_t l = 0; l < sizeof losses / sizeof losses[0]; l++) {
        for (uint64_t seed = 1; seed <= (l == 0 || l == 3 ? 1 : 12); seed++) {
            bool was_cut = true;
            for (uint64_t n = 1; was_cut; n++) {
                struct fixture f;
                struct sdb_manifest *manifest;
                storm_status status;
                fixture_init(&f, seed);
                make_dir(&f);
                sim_cut_at(f.disk, n);
                size_t done = run_steps(&f, models, &s, &manifest, &status);
                was_cut = sim_is_cut(f.disk);
                sdb_manifest_close(manifest);
                sim_reboot(f.disk, losses[l]);
                if (!says_before_or_after(&f, models, done))
                    fail_msg("cut %llu, loss %zu, seed %llu: neither before nor after step %zu",
                             (unsigned long long)n, l, (unsigned long long)seed, done);
                fixture_fini(&f);
                points++;
            }
        }
    }
    print_message("%zu power cuts\n", points);
    for (size_t i = 0; i < STEPS; i++)
        model_fini(&models[i]);
    script_fini(&s);
}

static void any_call_may_fail_and_the_next_append_mends_it(void **state)
{
    static const enum sim_call calls[] = {SIM_OPEN,   SIM_WRITE,  SIM_SYNC,
                                          SIM_RENAME, SIM_UNLINK, SIM_SYNC_DIR};
    struct model models[STEPS];
    struct script s;
    size_t points = 0, mended = 0, broken = 0;
    (void)state;
    make_models(models, &s);
    for (size_t c = 0; c < sizeof calls / sizeof calls[0]; c++) {
        for (int half = 0; half < 2; half++) {
            bool has_fired = true;
            for (uint64_t nth = 1; has_fired; nth++) {
                struct fixture f;
                struct sdb_manifest *manifest;
                storm_status status;
                fixture_init(&f, nth);
                make_dir(&f);
                sim_plan_set(f.disk, (struct sim_plan){.call = calls[c],
                                                       .nth = nth,
                                                       .status = STORM_IO,
                                                       .half_done = half != 0});
                size_t done = run_steps(&f, models, &s, &manifest, &status);
                has_fired = sim_plan_fired(f.disk);
                sim_plan_set(f.disk, (struct sim_plan){0});
                assert_true(done == STEPS || status == STORM_IO);
                if (!says_before_or_after(&f, models, done))
                    fail_msg("call %d.%llu: neither before nor after step %zu", (int)calls[c],
                             (unsigned long long)nth, done);
                bool is_append = done != 0 && done != 3 && done != STEPS;
                if (is_append && sdb_manifest_is_broken(manifest)) {
                    /* Only a failed sync does that, and then nothing is believed any more. */
                    assert_int_equal(calls[c], SIM_SYNC);
                    uint64_t next_file = 999;
                    assert_int_equal(sdb_manifest_append(manifest, &s.edits[2],
                                                         models[done].version, &next_file),
                                     STORM_READ_ONLY);
                    assert_int_equal(next_file, 999);
                    broken++;
                } else if (is_append) {
                    /* The same edit once more: a new manifest, and what was torn is left behind. */
                    struct model after = models[done];
                    size_t edit = done < 3 ? done - 1 : done - 2;
                    uint64_t next_file = after.state.next_file;
                    assert_int_equal(
                        sdb_manifest_append(manifest, &s.edits[edit], after.version, &next_file),
                        STORM_OK);
                    assert_int_equal(next_file, after.state.next_file + 1);
                    after.state.manifest_number = after.state.next_file++;
                    assert_true(says(&f, &after));
                    sim_reboot(f.disk, SIM_LOSE_ALL);
                    assert_true(says(&f, &after));
                    mended++;
                }
                sdb_manifest_close(manifest);
                fixture_fini(&f);
                points++;
            }
        }
    }
    assert_true(mended >= EDITS && broken >= EDITS);
    print_message("%zu failures, %zu mended, %zu broken\n", points, mended, broken);
    for (size_t i = 0; i < STEPS; i++)
        model_fini(&models[i]);
    script_fini(&s);
}

static void a_roll_may_fail_at_any_call_and_is_tried_again(void **state)
{
    struct model models[STEPS];
    struct script s;
    bool has_fired = true;
    size_t mended = 0;
    size_t broken = 0;
    (void)state;
    make_models(models, &s);
    for (uint64_t nth = 1; has_fired; nth++) {
        struct fixture f;
        struct sdb_manifest *manifest;
        uint64_t next_file = models[1].state.next_file;
        fixture_init(&f, nth);
        make_dir(&f);
        assert_int_equal(
            sdb_manifest_create(&f.os, DIR, &models[0].state, models[0].version, &manifest),
            STORM_OK);
        sim_plan_set(f.disk,
                     (struct sim_plan){
                         .call = SIM_WRITE, .nth = 1, .status = STORM_NO_SPACE, .half_done = true});
        assert_int_equal(sdb_manifest_append(manifest, &s.edits[0], models[1].version, &next_file),
                         STORM_NO_SPACE);
        sim_plan_set(f.disk,
                     (struct sim_plan){.call = SIM_CHANGES, .nth = nth, .status = STORM_IO});
        storm_status status =
            sdb_manifest_append(manifest, &s.edits[0], models[1].version, &next_file);
        has_fired = sim_plan_fired(f.disk);
        sim_plan_set(f.disk, (struct sim_plan){0});
        struct model after = models[1];
        if (status != STORM_OK) {
            after.state.manifest_number = next_file - 1;
            after.state.next_file = next_file;
            assert_true(says(&f, &models[0]) || says(&f, &after));
            if (sdb_manifest_is_broken(manifest)) {
                /* A failed sync, or CURRENT may name either: nothing is written any more. */
                assert_int_equal(
                    sdb_manifest_append(manifest, &s.edits[0], models[1].version, &next_file),
                    STORM_READ_ONLY);
                sdb_manifest_close(manifest);
                fixture_fini(&f);
                broken++;
                continue;
            }
            assert_int_equal(
                sdb_manifest_append(manifest, &s.edits[0], models[1].version, &next_file),
                STORM_OK);
            mended++;
        }
        after.state.manifest_number = next_file - 1;
        after.state.next_file = next_file;
        assert_true(says(&f, &after));
        /* Edits go on in the new file. */
        after.version = models[2].version;
        assert_int_equal(sdb_manifest_append(manifest, &s.edits[1], models[2].version, &next_file),
                         STORM_OK);
        assert_true(says(&f, &after));
        sdb_manifest_close(manifest);
        sim_reboot(f.disk, SIM_LOSE_ALL);
        assert_true(says(&f, &after));
        fixture_fini(&f);
    }
    assert_true(mended > 2 && broken > 2);
    for (size_t i = 0; i < STEPS; i++)
        model_fini(&models[i]);
    script_fini(&s);
}

static void missing_memory_leaves_before_or_after(void **state)
{
    struct model models[STEPS];
    struct script s;
    uint64_t failures = 1;
    size_t points = 0;
    (void)state;
    make_models(models, &s);
    for (uint64_t nth = 1; failures != 0; nth++) {
        struct fixture f;
        struct sdb_manifest *manifest;
        storm_status status;
        fixture_init(&f, nth);
        make_dir(&f);
        alloc_fail_at(nth, false);
        size_t done = run_steps(&f, models, &s, &manifest, &status);
        failures = alloc_failures();
        alloc_fail_at(0, false);
        assert_int_equal(done < STEPS, failures != 0);
        assert_true(done == STEPS || status == STORM_NO_MEMORY);
        assert_true(says_before_or_after(&f, models, done));
        points += failures;
        sdb_manifest_close(manifest);
        fixture_fini(&f);
    }
    assert_true(points > 20);
    for (size_t i = 0; i < STEPS; i++)
        model_fini(&models[i]);
    script_fini(&s);
}

static void reading_without_memory_says_so(void **state)
{
    struct fixture *f = *state;
    struct model model;
    struct script s;
    uint64_t failures = 1;
    size_t points = 0;
    write_manifest(f, &model, &s, EDITS);
    for (uint64_t nth = 1; failures != 0; nth++) {
        struct sdb_state got;
        struct sdb_version *version;
        alloc_fail_at(nth, false);
        storm_status status = sdb_manifest_read(&f->os, DIR, &garbage, &got, &version);
        failures = alloc_failures();
        alloc_fail_at(0, false);
        assert_int_equal(status, failures == 0 ? STORM_OK : STORM_NO_MEMORY);
        assert_int_equal(version == NULL, status != STORM_OK);
        sdb_version_unref(version);
        points += failures;
    }
    assert_true(points > 15);
    script_fini(&s);
    model_fini(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SIM_CASE(every_field_and_file_comes_back),
        SIM_CASE(reading_changes_nothing),
        SIM_CASE(a_manifest_past_four_mebibytes_begins_a_new_one),
        SIM_CASE(a_last_edit_cut_at_any_byte_is_dropped),
        SIM_CASE(a_flipped_bit_never_gives_a_wrong_state),
        SIM_CASE(a_record_in_the_wrong_place_is_not_believed),
        SIM_CASE(a_newer_format_is_refused_by_name_and_left_alone),
        SIM_CASE(current_must_name_a_manifest_that_is_there),
        SIM_CASE(tables_that_overlap_in_a_sorted_level_are_corruption),
        cmocka_unit_test(payloads_that_make_no_sense_are_corruption),
        cmocka_unit_test(random_payloads_are_decoded_or_refused),
        cmocka_unit_test(a_power_cut_at_any_change_leaves_before_or_after),
        cmocka_unit_test(any_call_may_fail_and_the_next_append_mends_it),
        cmocka_unit_test(a_roll_may_fail_at_any_call_and_is_tried_again),
        cmocka_unit_test(missing_memory_leaves_before_or_after),
        SIM_CASE(reading_without_memory_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
