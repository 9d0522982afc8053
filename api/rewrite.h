/*
 * Reading a value, making another of it, and writing that on the condition that nobody wrote since;
 * if somebody did, once more. Of requests that do so to one key at once, one at a time (line.h).
 */
#ifndef STORM_API_REWRITE_H
#define STORM_API_REWRITE_H

#include "request.h"
#include "text.h"

/*
 * Make the new value: *value is empty and without a bound yet. What is stored is in request->value,
 * whose revision is 0 when there is none. request->meta has the type and, with request->keeps_ttl,
 * the expiry of what is stored; it may be changed. False with an answer in *result: nothing is
 * written.
 */
typedef bool (*api_rewrite_fn)(struct api_request *request, struct api_text *value,
                               enum MHD_Result *result);

/*
 * Do it; the client's preconditions are judged on what is read. `answer` runs once the new value is
 * committed, with request->revision, request->value still as it was read, and api_rewritten().
 */
enum MHD_Result api_rewrite(struct api_request *request, api_rewrite_fn make, api_handler answer);

/* The value that was written; may be taken over. */
struct api_text *api_rewritten(struct api_request *request);

#endif
