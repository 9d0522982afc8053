/*
 * Cursors: where a page of a list ended, as text that URLs take as it is.
 *
 * A cursor belongs to the list it came from: it holds a hash of everything that says which keys are
 * listed, and how. With other parameters, or changed by as much as a bit, it is refused. That
 * guards against mistakes and not against malice: who forges one reads what the same parameters
 * would let him read anyway. No state; any thread.
 */
#ifndef STORM_API_CURSOR_H
#define STORM_API_CURSOR_H

#include "storm/storm.h"
#include "text.h"

/* What a cursor is bound to. */
struct api_cursor_scope {
    struct storm_slice prefix, start, end;
    struct storm_slice delimiter;
    unsigned select; /* below 64 */
    bool is_reverse;
};

/* Add the cursor of a page whose last key was `key`. */
void api_cursor_add(struct api_text *text, const struct api_cursor_scope *scope,
                    struct storm_slice key);

/* Read a cursor of `size` bytes, decoding it in place; *key points into it. False when it is none,
 * or belongs to another list. */
bool api_cursor_read(uint8_t *bytes, size_t size, const struct api_cursor_scope *scope,
                     struct storm_slice *key);

#endif
