/*
 * Problem documents (RFC 9457): what every error is answered with.
 *
 *   {"type":"/docs/errors#key_not_found","title":"Key not found","status":404,
 *    "code":"key_not_found","detail":"...","hint":"...", extras, "request_id":"..."}
 *
 * No state; any thread.
 */
#ifndef STORM_API_ERRORS_H
#define STORM_API_ERRORS_H

#include "text.h"

#define API_ERROR(code, status, title, hint, meaning) API_ERROR_##code,
enum api_error_code {
#include "errors.def"
    API_ERROR_COUNT
};
#undef API_ERROR

struct api_error_kind {
    const char *code;
    unsigned status;
    const char *title;
    const char *hint;
    const char *meaning; /* a sentence or two, for /docs/errors */
};

extern const struct api_error_kind api_error_kinds[API_ERROR_COUNT];

/* One error on its way to the client. Everything is borrowed until the document is written. */
struct api_error {
    enum api_error_code code;
    struct storm_slice detail; /* a sentence; any bytes */
    const char *hint;          /* NULL = that of the table */
    const char *extras;        /* more members as JSON, each after a comma; NULL = none */
    const char *request_id;    /* visible ASCII; NULL = none */
};

/* Add the document, with a newline at its end. */
void api_error_write(const struct api_error *error, struct api_text *text);

/* The error a failing status of the store is answered with. */
enum api_error_code api_error_of(storm_status status);

#endif
