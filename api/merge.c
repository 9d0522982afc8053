/*
 * Merge patches. See merge.h.
 *
 * One object of the patch is put into an index: its members sorted by name, which finds those that
 * an object of the document has in common with it. The document's members are gone through twice.
 * The first time notes where each name of the patch stands last, so that the second time every
 * object of the patch is merged at most once: otherwise doubled names would make small texts take
 * very long.
 *
 *   document  { "a": 1,  "b": {"c": 2},  "d": 3 }         patch  {"b":{"c":null,"e":4},"d":null}
 *               |kept|   |merged      |  |gone|
 *   result    { "a": 1,  "b": {"e":4} }
 *
 * Every object of the patch, and of the document where the two have it in common, is walked over
 * once for each object that it is in; that is why their nesting has a bound of its own.
 */
#include "merge.h"

#include <stdlib.h>

#include "walk.h"

struct member {
    struct storm_slice name;  /* as it stands in the patch, with its quotes */
    struct storm_slice value; /* in the patch */
    const uint8_t *met;       /* the last member of that name in the document; NULL = none */
    bool is_hidden;           /* another of the same name follows in the patch */
};

struct index {
    struct member *members; /* in the order of the patch */
    struct member **sorted; /* by name; of the same name only the last */
    size_t count;
    size_t sorted_count;
};

static int compare_members(const void *left, const void *right)
{
    const struct member *a = *(struct member *const *)left;
    const struct member *b = *(struct member *const *)right;
    int order = api_walk_compare(a->name, b->name);
    return order != 0 ? order : (a > b) - (a < b);
}

/* All members of the object, in order. */
static storm_status read_members(struct index *index, struct storm_slice object)
{
    size_t room = 0;
    struct storm_slice name;
    struct api_walk walk = api_walk_begin(object);
    api_walk_enter(&walk, '{');
    while (api_walk_member(&walk, &name)) {
        if (index->count == room) {
            room = room == 0 ? 8 : room * 2;
            struct member *members = realloc(index->members, room * sizeof *members);
            if (members == NULL)
                return STORM_NO_MEMORY;
            index->members = members;
        }
        index->members[index->count++] = (struct member){name, api_walk_value(&walk), NULL, false};
    }
    return STORM_OK;
}

static storm_status index_init(struct index *index, struct storm_slice patch)
{
    *index = (struct index){0};
    storm_status status = read_members(index, patch);
    if (status != STORM_OK || index->count == 0)
        return status;
    index->sorted = malloc(index->count * sizeof(struct member *));
    if (index->sorted == NULL)
        return STORM_NO_MEMORY;
    for (size_t i = 0; i < index->count; i++)
        index->sorted[i] = &index->members[i];
    qsort(index->sorted, index->count, sizeof(struct member *), compare_members);
    for (size_t i = 0; i < index->count; i++) {
        struct member *member = index->sorted[i];
        struct member *next = i + 1 < index->count ? index->sorted[i + 1] : NULL;
        member->is_hidden = next != NULL && api_walk_compare(member->name, next->name) == 0;
        if (!member->is_hidden)
            index->sorted[index->sorted_count++] = member;
    }
    return STORM_OK;
}

static struct member *find(const struct index *index, struct storm_slice name)
{
    size_t low = 0;
    size_t high = index->sorted_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = api_walk_compare(index->sorted[middle]->name, name);
        if (order == 0)
            return index->sorted[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static bool is_null(struct storm_slice value)
{
    return value.size > 0 && value.data[0] == 'n';
}

static bool is_object(struct storm_slice value)
{
    return value.size > 0 && value.data[0] == '{';
}

static void add(struct api_text *text, const uint8_t *from, const uint8_t *to)
{
    api_text_add(text, from, (size_t)(to - from));
}

static storm_status merge_value(struct storm_slice document, struct storm_slice patch,
                                unsigned depth, struct api_text *text);

/* Where blanks begin that end at `at`, not before `start`. */
static const uint8_t *blanks_before(const uint8_t *at, const uint8_t *start)
{
    while (at > start && (at[-1] == ' ' || at[-1] == '\n' || at[-1] == '\r' || at[-1] == '\t'))
        at--;
    return at;
}

/* What is written of one object so far. */
struct output {
    struct api_text *text;
    struct storm_slice indent; /* the blanks before the last member */
    bool is_begun;
};

static void begin_member(struct output *output, struct storm_slice indent)
{
    if (output->is_begun)
        api_text_add(output->text, ",", 1);
    output->is_begun = true;
    output->indent = indent;
    api_text_add(output->text, indent.data, indent.size);
}

/* The document's members: those that the patch does not name as they are, the others merged. */
static storm_status merge_members(struct storm_slice document, const struct index *index,
                                  unsigned depth, struct output *output)
{
    struct api_walk walk = api_walk_begin(document);
    struct storm_slice name;
    const uint8_t *start = walk.at + 1;
    api_walk_enter(&walk, '{');
    while (api_walk_member(&walk, &name)) {
        struct member *member = find(index, name);
        const uint8_t *value_at = walk.at;
        struct storm_slice value = api_walk_value(&walk);
        bool is_gone = member != NULL && (member->met != name.data || is_null(member->value));
        if (is_gone || output->text->has_failed)
            continue;
        const uint8_t *blanks = blanks_before(name.data, start);
        begin_member(output, storm_bytes(blanks, (size_t)(name.data - blanks)));
        add(output->text, name.data, value_at);
        if (member == NULL) {
            add(output->text, value_at, walk.at);
            continue;
        }
        storm_status status = merge_value(value, member->value, depth + 1, output->text);
        if (status != STORM_OK)
            return status;
    }
    return STORM_OK;
}

/* The patch's members that the document does not have. */
static storm_status add_members(const struct index *index, unsigned depth, struct output *output)
{
    for (size_t i = 0; i < index->count && !output->text->has_failed; i++) {
        const struct member *member = &index->members[i];
        if (member->is_hidden || member->met != NULL || is_null(member->value))
            continue;
        begin_member(output, output->indent);
        api_text_add(output->text, member->name.data, member->name.size);
        /* The blank after a colon, where the document has one, is not worth finding out. */
        api_text_add(output->text, ":", 1);
        storm_status status =
            merge_value(storm_bytes(NULL, 0), member->value, depth + 1, output->text);
        if (status != STORM_OK)
            return status;
    }
    return STORM_OK;
}

static void note_common(struct storm_slice document, const struct index *index)
{
    struct api_walk walk = api_walk_begin(document);
    struct storm_slice name;
    api_walk_enter(&walk, '{');
    while (api_walk_member(&walk, &name)) {
        struct member *member = find(index, name);
        if (member != NULL)
            member->met = name.data;
        api_walk_value(&walk);
    }
}

static storm_status merge_objects(struct storm_slice document, struct storm_slice patch,
                                  unsigned depth, struct api_text *text)
{
    if (depth == API_MERGE_DEPTH_MAX)
        return STORM_INVALID;
    struct index index;
    struct output output = {.text = text, .indent = storm_bytes("", 0)};
    storm_status status = index_init(&index, patch);
    api_text_add(text, "{", 1);
    if (status == STORM_OK && is_object(document)) {
        note_common(document, &index);
        status = merge_members(document, &index, depth, &output);
    }
    if (status == STORM_OK)
        status = add_members(&index, depth, &output);
    if (is_object(document) && output.is_begun) {
        const uint8_t *end = document.data + document.size - 1;
        add(text, blanks_before(end, document.data + 1), end);
    }
    api_text_add(text, "}", 1);
    free(index.members);
    free(index.sorted);
    return status;
}

static storm_status merge_value(struct storm_slice document, struct storm_slice patch,
                                unsigned depth, struct api_text *text)
{
    if (is_object(patch))
        return merge_objects(document, patch, depth, text);
    api_text_add(text, patch.data, patch.size);
    return STORM_OK;
}

storm_status api_merge(struct storm_slice document, struct storm_slice patch, struct api_text *text)
{
    struct api_walk walk = api_walk_begin(document);
    const uint8_t *end = document.data + document.size;
    struct storm_slice old = api_walk_value(&walk);
    struct api_walk patch_walk = api_walk_begin(patch);
    struct storm_slice change = api_walk_value(&patch_walk);
    if (!is_object(old) || !is_object(change))
        return merge_value(old, change, 0, text);
    add(text, document.data, old.data);
    storm_status status = merge_objects(old, change, 0, text);
    add(text, old.data + old.size, end);
    return status;
}
