/*
 * The words of every status. Logs and HTTP bodies show them, so they are short, lower-case and
 * stable. A switch and not an array: the compiler has no holes to leave, and unknown values get
 * words too.
 */
#include "storm/storm.h"

const char *storm_status_text(storm_status status)
{
    switch (status) {
    case STORM_MORE:
        return "stopped at its limit";
    case STORM_PENDING:
        return "pending";
    case STORM_OK:
        return "ok";
    case STORM_NOT_FOUND:
        return "not found";
    case STORM_CONFLICT:
        return "condition not met";
    case STORM_INVALID:
        return "invalid argument";
    case STORM_TOO_LARGE:
        return "too large";
    case STORM_BUSY:
        return "busy, try again";
    case STORM_NO_SPACE:
        return "no space left on disk";
    case STORM_IO:
        return "input or output failed";
    case STORM_CORRUPT:
        return "data is corrupt";
    case STORM_READ_ONLY:
        return "store is read-only";
    case STORM_LOCKED:
        return "store is in use";
    case STORM_NO_MEMORY:
        return "out of memory";
    case STORM_UNSUPPORTED:
        return "not supported";
    case STORM_COMMIT_UNKNOWN:
        return "outcome of the write is unknown";
    case STORM_EXISTS:
        return "already exists";
    case STORM_CLOSED:
        return "store is closing";
    case STORM_NEWER_FORMAT:
        return "written by a newer release";
    case STORM_DENIED:
        return "permission denied";
    case STORM_CANCELLED:
        return "cancelled";
    case STORM_GONE:
        return "history is no longer kept";
    case STORM_TIMED_OUT:
        return "timed out";
    default:
        return "unknown status";
    }
}
