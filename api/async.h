/*
 * Steps that take longer than an HTTP thread may wait: commits and flushes. The connection is
 * suspended meanwhile; afterwards `then` runs on its HTTP thread with request->outcome and
 * ->revision filled in.
 */
#ifndef STORM_API_ASYNC_H
#define STORM_API_ASYNC_H

#include "request.h"

/* Commit request->batch, which belongs to the store until `then` runs. */
enum MHD_Result api_commit(struct api_request *request, enum storm_sync sync, api_handler then);

/* Run `work` on the worker's thread; it sets request->outcome. */
enum MHD_Result api_hand_to_worker(struct api_request *request,
                                   void (*work)(struct api_request *request), api_handler then);

/*
 * Wait for somebody else: api_wait_begin() before that one can know of the request, then
 * api_wait(), which returns at once; `then` runs after the one call of api_wait_over(), by any
 * thread, which may come before api_wait().
 */
void api_wait_begin(struct api_request *request, api_handler then);
enum MHD_Result api_wait(struct api_request *request);
void api_wait_over(struct api_request *request);

/* Let the other connections of this HTTP thread have their turn, then go on with `then`: for work
 * that is done in slices because all of it would take too long. */
enum MHD_Result api_yield(struct api_request *request, api_handler then);

/* Have the worker flush with nobody waiting for it. */
void api_flush_later(struct api_worker *worker);

/* The library calls again for a WAITING request: it was resumed. */
enum MHD_Result api_resumed(struct api_request *request);

#endif
