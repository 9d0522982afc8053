/*
 * Reading the members of a JSON object where they stand, without a tree: names and values are
 * slices of the text, so that a value keeps its bytes. Only for text that api_json_check() has
 * passed. Any thread.
 */
#ifndef STORM_API_MEMBERS_H
#define STORM_API_MEMBERS_H

#include "storm/storm.h"

struct api_member {
    struct storm_slice name;  /* between its quotes, as it is written */
    struct storm_slice value; /* as it is written, without blanks around it */
};

/* Step into the object that `text` is; false when it is another kind of value. */
bool api_members_begin(struct storm_slice text, struct storm_slice *rest);

/* The next member; false behind the last. */
bool api_members_next(struct storm_slice *rest, struct api_member *member);

/* Whether a value is a string; then *inner is what stands between the quotes. */
bool api_member_string(struct storm_slice value, struct storm_slice *inner);

/* Decode what stands between the quotes of a string, in place; the result is never longer. */
void api_json_unescape(uint8_t *bytes, size_t *size);

#endif
