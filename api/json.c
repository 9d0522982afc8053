/*
 * JSON check in two steps. json_scan.c passes what is plainly fine, which is nearly all there is,
 * in about a nanosecond a byte and without memory. What it refuses or is not sure of goes to
 * jansson, whose verdict counts and whose words the client reads. The parsed tree is thrown away:
 * printing it again would turn 0.1 into 0.10000000000000001 and drop doubled members, so the bytes
 * are stored as they came.
 *
 * The flags admit what RFC 8259 does and jansson by default does not: scalars at the top, \u0000,
 * and integers past 63 bits. What jansson refuses in any case is refused here: numbers past a
 * double's range, \u0000 in a member's name, nesting deeper than 2,048.
 *
 * A zero byte is refused before jansson sees it: 2.14 takes one after the value for the end of the
 * text, and what would be stored is no JSON.
 *
 * In jansson, parsing costs about 11 bytes of memory for each byte of objects, 20 for arrays of
 * small numbers, and 30 ms for each MiB; hence limits.json_bytes, and no more parses at once than
 * HTTP threads.
 */
#include "json.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "json_scan.h"

void api_json_init(void)
{
    /* Otherwise the first two threads that parse would race for the seed. */
    json_object_seed(0);
}

/* JSON has no place for a zero byte, inside strings or out. */
static bool has_zero_byte(struct storm_slice bytes, struct api_json_error *error)
{
    const uint8_t *zero = bytes.size == 0 ? NULL : memchr(bytes.data, 0, bytes.size);
    if (zero == NULL)
        return false;
    error->line = 1;
    error->column = 1;
    for (const uint8_t *at = bytes.data; at < zero; at++) {
        bool is_line = *at == '\n';
        error->line += is_line;
        error->column = is_line ? 1 : error->column + 1;
    }
    snprintf(error->text, sizeof error->text, "a zero byte");
    return true;
}

bool api_json_check(struct storm_slice bytes, struct api_json_error *error)
{
    if (api_json_scan(bytes) == API_JSON_FINE)
        return true;
    *error = (struct api_json_error){0};
    if (bytes.size == 0) {
        /* jansson would speak of its own arguments. */
        *error = (struct api_json_error){.line = 1, .column = 1, .text = "it is empty"};
        return false;
    }
    if (has_zero_byte(bytes, error))
        return false;
    json_error_t problem;
    json_t *value =
        json_loadb((const char *)bytes.data, bytes.size,
                   JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &problem);
    if (value != NULL) {
        json_decref(value);
        return true;
    }
    error->is_memory = json_error_code(&problem) == json_error_out_of_memory;
    error->line = problem.line > 0 ? problem.line : 0;
    error->column = problem.column > 0 ? problem.column : 0;
    snprintf(error->text, sizeof error->text, "%s", problem.text);
    return false;
}
