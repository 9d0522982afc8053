/*
 * Walking over JSON by spans: where a value begins and ends in its text, so that it can be stored
 * or copied byte for byte. jansson's tree does not know that, and printing it again would turn 0.1
 * into
 * 0.10000000000000001.
 *
 * Only for text that api_json_check() has found to be JSON; the walk does not check it again, and
 * so takes commas for blanks. It stays within the text whatever that holds.
 *
 *     struct api_walk walk = api_walk_begin(text);
 *     if (api_walk_enter(&walk, '{'))
 *         while (api_walk_member(&walk, &name))
 *             value = api_walk_value(&walk);
 *
 * No state beside the walk; any thread.
 */
#ifndef STORM_API_WALK_H
#define STORM_API_WALK_H

#include <stdbool.h>

#include "storm/storm.h"

struct api_walk {
    const uint8_t *at, *end;
};

/* At the first byte of the text's value. */
struct api_walk api_walk_begin(struct storm_slice text);

/* The byte that the next value begins with, which tells its kind: { [ " t f n - or a digit; 0 at
 * the end of the text. */
uint8_t api_walk_kind(const struct api_walk *walk);

/* Step into an object ('{') or array ('['); false, and no step, when the next value is none. */
bool api_walk_enter(struct api_walk *walk, uint8_t kind);

/* The next member: its name with the quotes as it stands in the text; the walk is then at its
 * value. False at the end of the object, which the walk has then left. */
bool api_walk_member(struct api_walk *walk, struct storm_slice *name);

/* The next element; the walk is then at it. False at the end of the array, which it has then
 * left. */
bool api_walk_element(struct api_walk *walk);

/* Step over the next value: its bytes, without blanks around them. */
struct storm_slice api_walk_value(struct api_walk *walk);

/*
 * The bytes that a string stands for. `quoted` is its span; what it decodes to is never longer and
 * goes to `out`, which may be where the string itself lies, unless it has no escapes: then it is
 * the part between the quotes.
 */
struct storm_slice api_walk_text(struct storm_slice quoted, uint8_t *out);

/* Compare what two strings stand for, given their spans, as memcmp and shorter first. */
int api_walk_compare(struct storm_slice left, struct storm_slice right);

#endif
