/*
 * Those who watch the store, and the one thread that tells them.
 *
 *   commits --> storm_feed --> hub thread --> events of the prefix --> queue of each watcher --> wake
 *
 * One feed is read for all watchers, only while there are any, and each change is compared with the
 * prefixes that are watched: what a write costs does not depend on the watchers whose prefix it
 * does not have. A watcher that does not wait is behind: it reads a feed of its own up to its
 * `target` and has everything later from its queue, so nothing is missed or comes twice between the
 * two.
 *
 *   begin --> [ behind: own feed up to target ] --> [ live: queue ]
 *                        ^                                |
 *                        +------- the queue is full ------+
 *
 * The thread also wakes watchers when their time has come (heartbeats, the end of a long poll), by
 * a wheel of quarter seconds.
 *
 * Threads: all functions but create and destroy are called by the HTTP threads. A watcher belongs
 * to its HTTP thread but for the fields of the hub.
 */
#ifndef STORM_API_HUB_H
#define STORM_API_HUB_H

#include "event.h"
#include "server.h"

struct api_hub;
struct api_stream;

/* What is queued for one watcher at most; beyond, it reads the log itself. */
enum { API_QUEUE_MAX = 1024, API_QUEUE_BYTES = 1 << 20 };

/* A watcher's longest sleep. */
#define API_NAP_MAX_NS (UINT64_C(30) * 1000000000)

struct api_queued {
    struct api_event *event;
    bool is_last; /* of its revision, for this watcher */
};

struct api_watcher {
    struct storm_slice prefix; /* const; lives as long as the watcher */

    /* All below: the hub's lock. */
    struct api_watcher *previous, *next;         /* of the same hash of prefix */
    struct api_watcher *nap_previous, *nap_next; /* of the same place in the wheel */
    struct api_watcher *touched;                 /* in the revision that is being told */
    unsigned hash, place;
    bool is_registered, is_napping, is_touched;
    bool is_behind;  /* something was not queued */
    bool has_failed; /* the log cannot be read */
    uint64_t after;  /* nothing up to this is queued */
    struct api_stream *stream;
    struct api_queued *queue; /* NULL = empty */
    unsigned first, count, room;
    unsigned ready; /* of whole revisions */
    size_t queue_bytes;
};

struct api_hub *api_hub_create(struct api_server *server);
/* Nobody may watch any more. */
void api_hub_destroy(struct api_hub *hub);

/*
 * Begin to queue what comes after `after` (UINT64_MAX = after now, which *after then is), as far as
 * it is not older than *target: what lies between the two is for the watcher to read itself.
 */
storm_status api_hub_join(struct api_hub *hub, struct api_watcher *watcher, uint64_t *after,
                          uint64_t *target);
/* The same again for one that is_behind; its queue is dropped. */
void api_hub_rejoin(struct api_hub *hub, struct api_watcher *watcher, uint64_t after,
                    uint64_t *target);
/* From its return on the hub does not touch the watcher. */
void api_hub_leave(struct api_hub *hub, struct api_watcher *watcher);

enum api_hub_next { API_HUB_EVENT, API_HUB_NOTHING, API_HUB_BEHIND, API_HUB_FAILED };

/* Take the next event, which is the caller's to release. Nothing: *seen is the revision up to which
 * there was nothing. Behind: the queue is empty, and there was more than fitted. */
enum api_hub_next api_hub_take(struct api_hub *hub, struct api_watcher *watcher,
                               struct api_queued *taken, uint64_t *seen);

/* Wake `stream` when something is queued, or after so long at the latest. */
void api_hub_nap(struct api_hub *hub, struct api_watcher *watcher, struct api_stream *stream,
                 uint64_t nap_ns);

/* The newest revision of a store; 0 without memory. */
uint64_t api_newest_revision(storm_db *db);

/* Whether a change is of interest to who watches `prefix`. */
bool api_change_has_prefix(const struct storm_change *change, struct storm_slice prefix);

#endif
