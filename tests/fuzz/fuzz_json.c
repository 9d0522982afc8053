/*
 * The scan of JSON against jansson: what the scan passes jansson must pass, what it refuses jansson
 * must refuse; only "unsure" may go either way. The text lies in memory of exactly its size, so
 * that a byte read past the end is a report.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "json_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool does_jansson_pass(const char *text, size_t size)
{
    if (size == 0 || memchr(text, 0, size) != NULL)
        return false;
    json_t *value =
        json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    json_decref(value);
    return value != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size == 0 ? 1 : size);
    if (text == NULL)
        abort();
    if (size > 0)
        memcpy(text, data, size);
    enum api_json_verdict verdict = api_json_scan(storm_bytes(text, size));
    bool is_fine = does_jansson_pass(text, size);
    if (verdict != API_JSON_UNSURE && is_fine != (verdict == API_JSON_FINE))
        abort();
    free(text);
    return 0;
}
