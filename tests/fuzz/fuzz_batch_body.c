/*
 * Any bytes as the body of POST /batch. What is decoded must be what jansson finds in the same
 * text: as many operations, the same keys, values that parse to the same; and each span must lie in
 * the text.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "batch_body.h"
#include "json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL;

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void require_inside(struct storm_slice span, const uint8_t *text, size_t size)
{
    require(span.size == 0 || (span.data >= text && span.data + span.size <= text + size));
}

static void compare_op(const struct api_batch_op *op, const json_t *wanted)
{
    const json_t *key = json_object_get(wanted, "key");
    if (key != NULL) {
        require(json_string_length(key) == op->key.size);
        require(memcmp(json_string_value(key), op->key.data, op->key.size) == 0);
    }
    const json_t *value = json_object_get(wanted, "value");
    if (op->kind == API_BATCH_PUT && value != NULL) {
        json_t *found = json_loadb((const char *)op->value.data, op->value.size, flags, NULL);
        require(found != NULL && json_equal(found, value));
        json_decref(found);
    }
    require((json_object_get(wanted, "if_match") != NULL) == op->has_if_match);
    struct api_tags tags;
    require(!op->has_if_match || api_batch_tags(op->if_match, true, &tags));
    require(!op->has_if_none_match || api_batch_tags(op->if_none_match, false, &tags));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct api_json_error error;
    if (!api_json_check(storm_bytes(data, size), &error))
        return 0;
    json_t *wanted = json_loadb((const char *)data, size, flags, NULL);
    require(wanted != NULL);
    /* In memory of exactly its size, so that a byte read past the end is a report. */
    uint8_t *text = malloc(size);
    require(text != NULL);
    memcpy(text, data, size);
    struct api_batch_limits limits = {100, 200, 1000, 1000, 1700000000000};
    struct api_batch_body body;
    struct api_batch_fault fault;
    if (api_batch_decode(text, size, &limits, &body, &fault)) {
        const json_t *ops = json_object_get(wanted, "ops");
        require(body.count <= limits.ops && body.count == json_array_size(ops));
        for (size_t i = 0; i < body.count; i++) {
            const struct api_batch_op *op = &body.ops[i];
            require_inside(op->key, text, size);
            require_inside(op->value, text, size);
            require(op->key.size >= 1 && op->key.size <= limits.key_bytes);
            require(op->value.size <= limits.value_bytes);
            require(op->expires_ms == 0 || op->expires_ms > limits.now_ms);
            compare_op(op, json_array_get(ops, i));
        }
    } else {
        require(!fault.is_memory && fault.detail[0] != '\0');
        require(fault.index >= API_BATCH_NO_INDEX && fault.index < (long long)limits.ops);
    }
    api_batch_body_fini(&body);
    json_decref(wanted);
    free(text);
    return 0;
}
