/* Checking that bytes are one JSON value (RFC 8259), without keeping anything of it. Any thread. */
#ifndef STORM_API_JSON_H
#define STORM_API_JSON_H

#include "storm/storm.h"

struct api_json_error {
    int line, column; /* from 1, as far as known; 0 otherwise */
    bool is_memory;   /* not a mistake in the text: an allocation failed */
    char text[160];
};

/* Once, before any thread parses. */
void api_json_init(void);

/* Whether the bytes are one JSON value of any kind; *error says what is wrong with them if not. */
bool api_json_check(struct storm_slice bytes, struct api_json_error *error);

#endif
