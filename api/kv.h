/* What reading, writing and deleting one key share: preconditions and their failures. */
#ifndef STORM_API_KV_H
#define STORM_API_KV_H

#include "json.h"
#include "request.h"

/* Read If-Match, If-None-Match and Prefer; for a write, refuse the preconditions by date that
 * cannot be kept. False with an answer on its way in *result. */
bool api_kv_conditions(struct api_request *request, bool is_write, enum MHD_Result *result);

/* Whether the preconditions hold for a key that exists at `revision` or does not exist. */
bool api_kv_holds(const struct api_request *request, bool exists, uint64_t revision);

/* Answer 412 (for GET and HEAD not a match with If-None-Match, which is 304). */
enum MHD_Result api_kv_fail_precondition(struct api_request *request, bool exists,
                                         uint64_t revision);

/* Make request->batch an empty one, new or used again; false when out of memory. */
bool api_kv_fresh_batch(struct api_request *request);

/* Answer for the failed outcome of a write that was tied with API_TIE_EXISTS: 404 when nothing but
 * the key was missing. */
enum MHD_Result api_kv_fail_existing(struct api_request *request);

/* How a write is tied to what is stored. */
enum api_tie {
    API_TIE_CLIENT, /* by the client's preconditions */
    API_TIE_EXISTS, /* by them, and the key must exist */
    API_TIE_READ,   /* to exactly what was read into request->value */
};

/*
 * Make request->batch: one put or delete of the key, tied. `want_previous`: the result is wanted
 * even without a condition.
 */
storm_status api_kv_make_batch(struct api_request *request, enum storm_op_kind kind,
                               struct storm_slice value, enum api_tie tie, bool want_previous);

/* The store of a request whose route needs it. */
storm_db *api_kv_store(const struct api_request *request);

/* A read-then-write that lost against another writer is tried again this often. */
enum { API_KV_ATTEMPTS = 32 };

/* Read ttl and expires_at into request->meta and ->keeps_ttl, and the time of now; without either
 * the expiry is cleared, or kept. False with an answer on its way in *result. */
bool api_kv_expiry(struct api_request *request, bool keeps_by_default, enum MHD_Result *result);

/* Answer a write that succeeded: 204 with Prefer: return=minimal, otherwise key and revision with
 * 201 or 200; and what every such answer has: ETag, Storm-Revision, Storm-Expires-At. */
enum MHD_Result api_kv_send_written(struct api_request *request, bool is_new);
struct api_answer;
void api_kv_written_headers(struct api_request *request, struct api_answer *answer);

/* Give the key the expiry in request->meta, and answer. */
enum MHD_Result api_kv_touch(struct api_request *request);

/* Answer 404 for the key; 400 for a body that is not JSON. */
enum MHD_Result api_fail_not_found(struct api_request *request);
enum MHD_Result api_fail_json(struct api_request *request, const struct api_json_error *error);

/* Answer 413 for a body of `size` bytes so far. */
enum MHD_Result api_fail_too_large(struct api_request *request, uint64_t size);

#endif
