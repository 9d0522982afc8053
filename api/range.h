/*
 * Ranges of keys, as queries name them, and reading through them.
 *
 * A scan stands on one snapshot and moves in one direction. It is worked through in slices, so that
 * neither many entries nor a long stretch of deleted ones keep the other connections of an HTTP
 * thread waiting: a move may end without a key, and the scan is then told to go on.
 *
 * Threads: a scan belongs to one thread at a time.
 */
#ifndef STORM_API_RANGE_H
#define STORM_API_RANGE_H

#include "request.h"

struct api_range {
    struct storm_slice prefix; /* only keys that begin with it; empty = all */
    struct storm_slice start;  /* inclusive; empty = no bound */
    struct storm_slice end;    /* exclusive; empty = no bound */
    bool is_reverse;
};

/* Read prefix, start, end and reverse. The slices are the request's. False with an answer on its
 * way in *result. */
bool api_range_read(struct api_request *request, struct api_range *range, enum MHD_Result *result);

static inline bool api_range_is_bounded(const struct api_range *range)
{
    return range->prefix.size != 0 || range->start.size != 0 || range->end.size != 0;
}

/* Whether a key lies in the range. */
bool api_range_has(const struct api_range *range, struct storm_slice key);

struct api_scan {
    storm_snapshot *snapshot;
    storm_iter *iter;
    bool is_reverse;
    bool has_begun;
};

/*
 * Begin before the first key of the range, or, with a key in `after`, behind that one. Close the
 * scan whatever this returns.
 */
storm_status api_scan_open(struct api_scan *scan, storm_db *db, const struct api_range *range,
                           struct storm_slice after, bool keys_only);
void api_scan_close(struct api_scan *scan);

/*
 * Go to the next key, or go on looking for it. STORM_OK: scan->iter stands on it. STORM_NOT_FOUND:
 * there is none. STORM_MORE: none yet; call again, but let others have their turn first. Others as
 * they come.
 */
storm_status api_scan_next(struct api_scan *scan);

uint64_t api_scan_revision(const struct api_scan *scan);

#endif
