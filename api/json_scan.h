/*
 * A check of JSON (RFC 8259) that builds nothing: one pass over the bytes, no memory but 256 bytes
 * of stack for the nesting. It stands before jansson in api_json_check() and agrees with it in
 * everything, its flags and limits included (json.c names them); where agreeing would take more
 * than a look, it says so and leaves the verdict to jansson. tests/fuzz/fuzz_json.c holds the two
 * against each other.
 *
 * No state; any thread.
 */
#ifndef STORM_API_JSON_SCAN_H
#define STORM_API_JSON_SCAN_H

#include "storm/storm.h"

enum api_json_verdict {
    API_JSON_FINE,    /* one JSON value, nothing else */
    API_JSON_REFUSED, /* not that; jansson has the words for it */
    API_JSON_UNSURE,  /* near a limit: numbers of many digits or large exponents, deep nesting */
};

enum api_json_verdict api_json_scan(struct storm_slice bytes);

#endif
