/*
 * What is done to a range as a whole: GET /kv?select=count and DELETE /kv.
 *
 * Counting walks over every key of one snapshot, in slices between which the other connections of
 * the HTTP thread have their turn. Deleting is one operation of the store, whatever the range
 * holds, and takes effect at once.
 *
 * What `deleted` means when others write at the same time: it is the number of keys at the revision
 * `counted_at`, just before. The deletion has the revision `revision`, and removes all that is
 * there then; where the two follow upon each other, nothing was written in between and the number
 * is exact. A range that has no keys is not deleted: it was empty at `counted_at`, which is then
 * the `revision` too.
 */
#include <stdio.h>
#include <stdlib.h>

#include "async.h"
#include "kv.h"
#include "list.h"
#include "response.h"
#include "router.h"
#include "storm/key.h"

/* Keys of a slice: some 2 ms. */
enum { SLICE_KEYS = 10000 };

struct count {
    struct api_scan scan;
    struct api_range range;
    bool deletes;
    bool is_dry;
    uint64_t keys;
    uint64_t revision; /* of the snapshot */
};

static void free_count(void *own)
{
    struct count *count = own;
    api_scan_close(&count->scan);
    free(count);
}

static enum MHD_Result counted(struct api_request *request);

static enum MHD_Result count_on(struct api_request *request)
{
    struct count *count = request->own;
    /* A count may take longer than the server waits for what is in flight; it can be asked
     * again. */
    if (api_is_draining(request->server))
        return api_fail_code(request, API_ERROR_shutting_down,
                             "The server stops in the middle of counting.");
    for (unsigned i = 0; i < SLICE_KEYS; i++) {
        storm_status status = api_scan_next(&count->scan);
        if (status == STORM_MORE)
            break;
        if (status == STORM_NOT_FOUND)
            return counted(request);
        if (status != STORM_OK)
            return api_fail_store(request, status);
        count->keys++;
    }
    return api_yield(request, count_on);
}

static enum MHD_Result begin_count(struct api_request *request, const struct api_range *range,
                                   bool deletes, bool is_dry)
{
    struct count *count = calloc(1, sizeof *count);
    if (count == NULL)
        return api_fail_store(request, STORM_NO_MEMORY);
    request->own = count;
    request->free_own = free_count;
    count->range = *range;
    count->deletes = deletes;
    count->is_dry = is_dry;
    storm_status status =
        api_scan_open(&count->scan, api_kv_store(request), range, storm_bytes(NULL, 0), true);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    count->revision = api_scan_revision(&count->scan);
    return count_on(request);
}

enum MHD_Result api_kv_count(struct api_request *request, const struct api_range *range)
{
    return begin_count(request, range, false, false);
}

/* ---- DELETE ---- */

static enum MHD_Result send_deleted(struct api_request *request, const struct count *count,
                                    uint64_t revision)
{
    struct api_text text;
    api_text_init(&text, 256);
    api_text_addf(&text, "{\"deleted\":%llu,\"revision\":%llu,\"counted_at\":%llu",
                  (unsigned long long)count->keys, (unsigned long long)revision,
                  (unsigned long long)count->revision);
    api_text_adds(&text, count->is_dry ? ",\"dry_run\":true}\n" : "}\n");
    return api_send_json(request, MHD_HTTP_OK, &text);
}

static enum MHD_Result deleted(struct api_request *request)
{
    if (request->outcome != STORM_OK)
        return api_fail_store(request, request->outcome);
    if (request->prefer != API_PREFER_MINIMAL)
        return send_deleted(request, request->own, request->revision);
    struct api_answer answer = api_answer_empty(MHD_HTTP_NO_CONTENT);
    char revision[API_NUMBER_MAX];
    api_format_number(revision, request->revision);
    api_answer_header(&answer, "Storm-Revision", revision);
    return api_send(request, &answer);
}

/* Add the deletion of all keys that begin with the prefix and lie within the bounds. */
static storm_status add_deletion(storm_batch *batch, const struct api_range *range)
{
    struct storm_slice start = range->start, end = range->end;
    if (range->prefix.size == 0)
        return storm_batch_delete_range(batch, start, end);
    uint8_t *room = malloc(range->prefix.size);
    if (room == NULL)
        return STORM_NO_MEMORY;
    struct storm_slice prefix_end = storm_key_prefix_end(room, range->prefix);
    if (api_slice_compare(start, range->prefix) < 0)
        start = range->prefix;
    if (end.size == 0 || (prefix_end.size != 0 && api_slice_compare(prefix_end, end) < 0))
        end = prefix_end;
    storm_status status = storm_batch_delete_range(batch, start, end);
    free(room);
    return status;
}

static enum MHD_Result delete_range(struct api_request *request, const struct api_range *range)
{
    request->batch = storm_batch_create();
    storm_status status =
        request->batch == NULL ? STORM_NO_MEMORY : add_deletion(request->batch, range);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    return api_commit(request, STORM_SYNC_DEFAULT, deleted);
}

static enum MHD_Result counted(struct api_request *request)
{
    struct count *count = request->own;
    /* Nothing more is read; held on, it would keep old data while the deletion waits for the
     * disk. */
    api_scan_close(&count->scan);
    if (!count->deletes) {
        struct api_text text;
        api_text_init(&text, 128);
        api_text_addf(&text, "{\"count\":%llu,\"revision\":%llu}\n",
                      (unsigned long long)count->keys, (unsigned long long)count->revision);
        return api_send_json(request, MHD_HTTP_OK, &text);
    }
    if (count->is_dry || count->keys == 0)
        return send_deleted(request, count, count->revision);
    return delete_range(request, &count->range);
}

static enum MHD_Result refuse_unbounded(struct api_request *request)
{
    return api_fail_code(
        request, API_ERROR_unbounded_delete,
        "Neither prefix, start nor end names anything: this would delete every key.");
}

enum MHD_Result api_kv_delete_range(struct api_request *request)
{
    enum MHD_Result result;
    struct api_range range;
    bool is_dry, is_all;
    if (!api_kv_conditions(request, true, &result) || !api_range_read(request, &range, &result) ||
        !api_flag(request, "dry_run", &is_dry, &result) ||
        !api_flag(request, "all", &is_all, &result))
        return result;
    if (request->if_match.is_present || request->if_none_match.is_present)
        return api_fail_code(request, API_ERROR_unsupported_precondition,
                             "A range has no entity tag to compare with.");
    if (is_all && api_range_is_bounded(&range))
        return api_fail_code(
            request, API_ERROR_invalid_parameter,
            "The parameter all means every key, and another names a part of them.");
    /* Counting all of it harms nobody, so a dry run needs no permission. */
    if (!is_all && !is_dry && !api_range_is_bounded(&range))
        return refuse_unbounded(request);
    if (request->prefer == API_PREFER_MINIMAL && !is_dry)
        return delete_range(request, &range);
    return begin_count(request, &range, true, is_dry);
}
