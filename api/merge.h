/*
 * JSON Merge Patch (RFC 7396) on the text of both documents.
 *
 * What the patch does not name stays as it is, byte for byte: numbers as they were written, members
 * in their order, blanks around them. What the patch brings is copied from it byte for byte too,
 * but for the blanks of its objects, whose members have to be looked at for nulls. New members go
 * to the end of their object, indented as its last one.
 *
 * A member that stands twice counts as JSON.parse has it: the last one. Where the patch names it,
 * the others go away; where it does not, all stay.
 *
 * No state; any thread.
 */
#ifndef STORM_API_MERGE_H
#define STORM_API_MERGE_H

#include "text.h"

/* How deep objects of a patch may nest. */
enum { API_MERGE_DEPTH_MAX = 32 };

/*
 * Add the patched document to `text`, whose bound limits it. Both have been found to be JSON by
 * api_json_check(). A text that has failed met its bound or the end of memory; STORM_NO_MEMORY: so
 * did the index of the patch; STORM_INVALID: the patch nests too deep. What was added by then is of
 * no use. Time grows as n log n with the length of both together.
 */
STORM_MUST_CHECK storm_status api_merge(struct storm_slice document, struct storm_slice patch,
                                        struct api_text *text);

#endif
