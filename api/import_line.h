/*
 * One line of an import: an entry as a list, an export or a person writes it, or the closing line
 * of an export.
 *
 *   key | key_b64        one of them; 1 to limits.key_bytes bytes
 *   value | value_b64    one of them: any JSON value, kept byte for byte; or any bytes
 *   content_type         the type of the value; without it application/json for `value`, and
 *                        application/octet-stream for `value_b64`
 *   expires_at           RFC 3339, or null for never, as without it; may be in the past
 *   modified_at          RFC 3339, or null for none; without it the time of the import
 *   revision             of the store it came from: read, not kept
 *   end, count           only in the closing line
 *
 * No state; any thread.
 */
#ifndef STORM_API_IMPORT_LINE_H
#define STORM_API_IMPORT_LINE_H

#include "errors.h"

struct api_import_limits {
    uint64_t key_bytes, value_bytes, json_bytes;
    uint64_t now_ms;
};

struct api_import_line {
    bool is_end; /* then only `count` is meant */
    uint64_t count;
    struct storm_slice key, value;
    struct storm_meta meta;
};

struct api_import_fault {
    enum api_error_code code;
    char detail[256];
    const char *did_you_mean; /* NULL = nothing is near */
};

/* Read the line, decoding it in place; what *line has points into it. False with *fault when
 * nothing can be made of it. */
bool api_import_line_read(uint8_t *bytes, size_t size, const struct api_import_limits *limits,
                          struct api_import_line *line, struct api_import_fault *fault);

#endif
