/* Ranges and scans. See range.h. */
#include "range.h"

#include <stdlib.h>
#include <string.h>

#include "response.h"
#include "text.h"

/* A move gives up for now after so many entries that are of no use: some 2 ms. */
enum { SKIPPED_MAX = 10000 };

static struct storm_slice value_of(const struct api_request *request, const char *name)
{
    const struct api_parameter *parameter = api_query_find(&request->query, name);
    return parameter == NULL ? storm_bytes(NULL, 0) : parameter->value;
}

bool api_range_read(struct api_request *request, struct api_range *range, enum MHD_Result *result)
{
    *range = (struct api_range){
        .prefix = value_of(request, "prefix"),
        .start = value_of(request, "start"),
        .end = value_of(request, "end"),
    };
    return api_flag(request, "reverse", &range->is_reverse, result);
}

bool api_range_has(const struct api_range *range, struct storm_slice key)
{
    return api_begins_with(key, range->prefix) && api_slice_compare(key, range->start) >= 0 &&
           (range->end.size == 0 || api_slice_compare(key, range->end) < 0);
}

storm_status api_scan_open(struct api_scan *scan, storm_db *db, const struct api_range *range,
                           struct storm_slice after, bool keys_only)
{
    *scan = (struct api_scan){.is_reverse = range->is_reverse};
    struct storm_iter_options options = {
        .start = range->start,
        .end = range->end,
        .prefix = range->prefix,
        .keys_only = keys_only,
        .max_skipped = SKIPPED_MAX,
    };
    uint8_t *successor = NULL;
    if (after.size != 0 && range->is_reverse) {
        options.end = after;
    } else if (after.size != 0) {
        /* The first key behind another one is that key with a zero byte at its end. */
        successor = malloc(after.size + 1);
        if (successor == NULL)
            return STORM_NO_MEMORY;
        memcpy(successor, after.data, after.size);
        successor[after.size] = 0;
        options.start = storm_bytes(successor, after.size + 1);
    }
    scan->snapshot = storm_snapshot_create(db);
    options.snapshot = scan->snapshot;
    storm_status status =
        scan->snapshot == NULL ? STORM_NO_MEMORY : storm_iter_create(db, &options, &scan->iter);
    free(successor);
    return status;
}

void api_scan_close(struct api_scan *scan)
{
    if (scan->iter != NULL)
        storm_iter_destroy(scan->iter);
    if (scan->snapshot != NULL)
        storm_snapshot_release(scan->snapshot);
    *scan = (struct api_scan){0};
}

storm_status api_scan_next(struct api_scan *scan)
{
    storm_iter *iter = scan->iter;
    if (scan->has_begun && storm_iter_status(iter) == STORM_MORE)
        storm_iter_resume(iter);
    else if (scan->has_begun && scan->is_reverse)
        storm_iter_prev(iter);
    else if (scan->has_begun)
        storm_iter_next(iter);
    else if (scan->is_reverse)
        storm_iter_last(iter);
    else
        storm_iter_first(iter);
    scan->has_begun = true;
    if (storm_iter_valid(iter))
        return STORM_OK;
    storm_status status = storm_iter_status(iter);
    return status == STORM_OK ? STORM_NOT_FOUND : status;
}

uint64_t api_scan_revision(const struct api_scan *scan)
{
    return storm_snapshot_revision(scan->snapshot);
}
