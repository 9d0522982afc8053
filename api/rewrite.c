/* Read, change, write. See rewrite.h. */
#include "rewrite.h"

#include <stdlib.h>

#include "async.h"
#include "kv.h"
#include "response.h"

struct rewrite {
    struct api_place place;
    api_rewrite_fn make;
    api_handler answer;
    struct api_text text;
};

static void free_rewrite(void *own)
{
    struct rewrite *rewrite = own;
    api_line_leave(&rewrite->place.request->server->lines, &rewrite->place);
    api_text_fini(&rewrite->text);
    free(rewrite);
}

struct api_text *api_rewritten(struct api_request *request)
{
    struct rewrite *rewrite = request->own;
    return &rewrite->text;
}

/* Read, look and make the batch; false when that has been answered. */
static bool prepare(struct api_request *request, enum MHD_Result *result)
{
    struct rewrite *rewrite = request->own;
    storm_value_release(&request->value);
    if (request->attempts++ == API_KV_ATTEMPTS) {
        *result = api_fail_code(request, API_ERROR_overloaded,
                                "Others write this key too often to change what was read.");
        return false;
    }
    storm_status status = storm_get(api_kv_store(request), NULL, request->key, &request->value);
    if (status != STORM_OK && status != STORM_NOT_FOUND) {
        *result = api_fail_store(request, status);
        return false;
    }
    bool exists = status == STORM_OK;
    if (!api_kv_holds(request, exists, request->value.revision)) {
        *result = api_kv_fail_precondition(request, exists, request->value.revision);
        return false;
    }
    request->meta.type = request->value.meta.type;
    if (request->keeps_ttl)
        request->meta.expires_ms = request->value.meta.expires_ms;
    api_text_fini(&rewrite->text);
    if (!rewrite->make(request, &rewrite->text, result))
        return false;
    struct storm_slice value = storm_bytes(rewrite->text.data, rewrite->text.size);
    status = rewrite->text.has_failed
                 ? STORM_NO_MEMORY
                 : api_kv_make_batch(request, STORM_PUT, value, API_TIE_READ, false);
    if (status != STORM_OK)
        *result = api_fail_store(request, status);
    return status == STORM_OK;
}

static enum MHD_Result attempt(struct api_request *request);

static enum MHD_Result committed(struct api_request *request)
{
    struct rewrite *rewrite = request->own;
    if (request->outcome == STORM_CONFLICT)
        return attempt(request);
    api_line_leave(&request->server->lines, &rewrite->place);
    return request->outcome == STORM_OK ? rewrite->answer(request)
                                        : api_fail_store(request, request->outcome);
}

static enum MHD_Result attempt(struct api_request *request)
{
    struct rewrite *rewrite = request->own;
    enum MHD_Result result = MHD_YES;
    bool is_synced;
    if (!api_flag(request, "sync", &is_synced, &result) || !prepare(request, &result)) {
        api_line_leave(&request->server->lines, &rewrite->place);
        return result;
    }
    return api_commit(request, is_synced ? STORM_SYNC_FULL : STORM_SYNC_DEFAULT, committed);
}

enum MHD_Result api_rewrite(struct api_request *request, api_rewrite_fn make, api_handler answer)
{
    struct rewrite *rewrite = calloc(1, sizeof *rewrite);
    if (rewrite == NULL)
        return api_fail_store(request, STORM_NO_MEMORY);
    rewrite->place.request = request;
    rewrite->place.key = request->key;
    rewrite->make = make;
    rewrite->answer = answer;
    request->own = rewrite;
    request->free_own = free_rewrite;
    api_wait_begin(request, attempt);
    switch (api_line_join(&request->server->lines, &rewrite->place)) {
    case API_LINE_WAIT:
        return api_wait(request);
    case API_LINE_FULL:
        return api_fail_code(request, API_ERROR_overloaded,
                             "%d others are waiting to change this key.", API_LINE_MAX);
    default:
        return attempt(request);
    }
}
