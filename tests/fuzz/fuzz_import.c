/*
 * Lines of imports. What is read as an entry lies inside the line and within its limits; written as
 * an export writes it, it is one line, and is read again as the same entry.
 */
#include <stdlib.h>
#include <string.h>

#include "entry.h"
#include "import_line.h"
#include "json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static const struct api_import_limits limits = {
    .key_bytes = 64, .value_bytes = 4096, .json_bytes = 2048, .now_ms = 1234567890123};

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool is_inside(struct storm_slice part, const uint8_t *bytes, size_t size)
{
    return part.size == 0 || (part.data >= bytes && part.data + part.size <= bytes + size);
}

static bool is_same(struct storm_slice left, struct storm_slice right)
{
    return left.size == right.size &&
           (left.size == 0 || memcmp(left.data, right.data, left.size) == 0);
}

static void write_and_read(const struct api_import_line *line)
{
    struct api_text text;
    struct api_import_line again;
    struct api_import_fault fault;
    struct api_entry entry = {
        .key = line->key, .value = line->value, .meta = line->meta, .revision = 7};
    api_text_init(&text, 1 << 20);
    api_entry_add(&text, &entry, API_ENTRY_EXACT, limits.json_bytes);
    require(!text.has_failed && memchr(text.data, '\n', text.size) == NULL);
    uint8_t *bytes = malloc(text.size);
    require(bytes != NULL);
    memcpy(bytes, text.data, text.size);
    require(api_import_line_read(bytes, text.size, &limits, &again, &fault) && !again.is_end);
    require(is_same(again.key, line->key) && is_same(again.value, line->value) &&
            is_same(again.meta.type, line->meta.type));
    require(again.meta.expires_ms == line->meta.expires_ms &&
            again.meta.modified_ms == line->meta.modified_ms);
    free(bytes);
    api_text_fini(&text);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    api_json_init();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size == 0 ? 1 : size);
    struct api_import_line line;
    struct api_import_fault fault;
    require(bytes != NULL);
    if (size > 0)
        memcpy(bytes, data, size);
    if (!api_import_line_read(bytes, size, &limits, &line, &fault)) {
        require(fault.code < API_ERROR_COUNT && fault.detail[0] != '\0');
    } else if (!line.is_end) {
        require(line.key.size > 0 && line.key.size <= limits.key_bytes &&
                line.value.size <= limits.value_bytes);
        require(is_inside(line.key, bytes, size) && is_inside(line.value, bytes, size));
        write_and_read(&line);
    }
    free(bytes);
    return 0;
}
