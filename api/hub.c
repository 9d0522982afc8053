/*
 * The hub. See hub.h.
 *
 * Finding the watchers of a key: they are in a hash table by prefix, and `lengths` counts how many
 * have a prefix of each length. A key is hashed byte by byte, and wherever some prefix ends the
 * table is looked at: at most as many steps as the key has bytes, and then only those that match.
 * Range deletes, which are rare, ask each watcher.
 *
 * Revisions. `current` is the one that is being told or has been; `told` is whole. Who joins is
 * told what comes after `current`, never half a revision: what was written in one batch is queued
 * in pieces, but `ready`, up to which a watcher may take, moves with the last of them.
 *
 * Lock rule: `mu` guards all of it and is held while streams are woken (which takes a lock of the
 * HTTP library inside), not while the feed is read or an event is made. The feed belongs to the
 * hub's thread; another one may open it while it is NULL, under mu.
 */
#include "hub.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "moment.h"
#include "stream.h"
#include "text.h"

enum {
    BUCKETS = 4096,
    TICK_MS = 250,
    PLACES = 256, /* of the wheel: 64 s */
    /* The feed is kept for so long after the last watcher, who often comes back. */
    LINGER_TICKS = 20,
    FIRST_ROOM = 8,
};

#define TICK_NS   (UINT64_C(1000000) * TICK_MS)
#define HASH_SEED 2166136261U
#define HASH_STEP 16777619U

struct api_hub {
    struct api_server *server;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t mu;
    pthread_cond_t changed; /* somebody joined, or is_stopping */
    bool is_stopping;
    storm_feed *feed;
    uint64_t current, told;
    unsigned watchers;
    unsigned lonely_ticks;
    uint64_t tick; /* that the wheel has come to */
    struct api_watcher *touched;
    struct api_watcher *buckets[BUCKETS];
    struct api_watcher *wheel[PLACES];
    unsigned *lengths; /* by length of prefix, 0 to longest */
    size_t longest;
};

uint64_t api_newest_revision(storm_db *db)
{
    storm_snapshot *snapshot = storm_snapshot_create(db);
    if (snapshot == NULL)
        return 0;
    uint64_t revision = storm_snapshot_revision(snapshot);
    storm_snapshot_release(snapshot);
    return revision;
}

bool api_change_has_prefix(const struct storm_change *change, struct storm_slice prefix)
{
    if (change->kind != STORM_DELETE_RANGE || api_begins_with(change->key, prefix))
        return api_begins_with(change->key, prefix);
    /* The range begins before the prefix; does it reach it? */
    return api_slice_compare(change->key, prefix) < 0 &&
           (change->end.size == 0 || api_slice_compare(change->end, prefix) > 0);
}

/* ---- Queues; mu is held ---- */

static void drop_queue(struct api_watcher *watcher)
{
    for (unsigned i = 0; i < watcher->count; i++)
        api_event_release(watcher->queue[(watcher->first + i) % watcher->room].event);
    free(watcher->queue);
    watcher->queue = NULL;
    watcher->first = watcher->count = watcher->room = watcher->ready = 0;
    watcher->queue_bytes = 0;
}

static bool grow_queue(struct api_watcher *watcher)
{
    unsigned room = watcher->room == 0 ? FIRST_ROOM : watcher->room * 2;
    struct api_queued *queue = calloc(room, sizeof *queue);
    if (queue == NULL)
        return false;
    for (unsigned i = 0; i < watcher->count; i++)
        queue[i] = watcher->queue[(watcher->first + i) % watcher->room];
    free(watcher->queue);
    watcher->queue = queue;
    watcher->first = 0;
    watcher->room = room;
    return true;
}

/* Forget what is queued of the revision that is being told. */
static void fall_behind(struct api_watcher *watcher)
{
    while (watcher->count > watcher->ready) {
        watcher->count--;
        struct api_queued *last =
            &watcher->queue[(watcher->first + watcher->count) % watcher->room];
        watcher->queue_bytes -= last->event->size;
        api_event_release(last->event);
    }
    watcher->is_behind = true;
}

static void queue_event(struct api_hub *hub, struct api_watcher *watcher, struct api_event *event)
{
    if (watcher->is_behind || event->revision <= watcher->after)
        return;
    if (!watcher->is_touched) {
        watcher->is_touched = true;
        watcher->touched = hub->touched;
        hub->touched = watcher;
    }
    if (watcher->count == API_QUEUE_MAX || watcher->queue_bytes + event->size > API_QUEUE_BYTES ||
        (watcher->count == watcher->room && !grow_queue(watcher))) {
        fall_behind(watcher);
        return;
    }
    api_event_hold(event);
    watcher->queue[(watcher->first + watcher->count++) % watcher->room] =
        (struct api_queued){event, false};
    watcher->queue_bytes += event->size;
}

static void wake(struct api_watcher *watcher)
{
    if (watcher->stream != NULL)
        api_stream_wake(watcher->stream);
}

/* The revision is whole: whoever has something of it may take it. */
static void end_revision(struct api_hub *hub)
{
    struct api_watcher *next;
    for (struct api_watcher *watcher = hub->touched; watcher != NULL; watcher = next) {
        next = watcher->touched;
        watcher->is_touched = false;
        if (watcher->count > watcher->ready) {
            watcher->queue[(watcher->first + watcher->count - 1) % watcher->room].is_last = true;
            watcher->ready = watcher->count;
        }
        wake(watcher);
    }
    hub->touched = NULL;
    hub->told = hub->current;
}

static void untouch(struct api_hub *hub, struct api_watcher *watcher)
{
    struct api_watcher **at = &hub->touched;
    while (watcher->is_touched && *at != watcher)
        at = &(*at)->touched;
    if (watcher->is_touched)
        *at = watcher->touched;
    watcher->is_touched = false;
}

/* ---- Telling ---- */

/* Call `visit` for each watcher of the change; how many. With event NULL they are only counted, up
 * to one. mu is held. */
static unsigned tell(struct api_hub *hub, const struct storm_change *change,
                     struct api_event *event)
{
    unsigned found = 0;
    unsigned hash = HASH_SEED;
    bool is_range = change->kind == STORM_DELETE_RANGE;
    for (size_t size = 0; is_range ? size < BUCKETS : size <= change->key.size; size++) {
        if (!is_range && size > 0)
            hash = (hash ^ change->key.data[size - 1]) * HASH_STEP;
        if (!is_range && (size > hub->longest || hub->lengths[size] == 0))
            continue;
        struct api_watcher *at = hub->buckets[is_range ? size : hash % BUCKETS];
        for (; at != NULL; at = at->next) {
            if ((!is_range && at->prefix.size != size) ||
                !api_change_has_prefix(change, at->prefix))
                continue;
            if (event == NULL)
                return 1;
            queue_event(hub, at, event);
            found++;
        }
    }
    return found;
}

static void tell_all_behind(struct api_hub *hub, bool have_failed)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct api_watcher *at = hub->buckets[i]; at != NULL; at = at->next) {
            fall_behind(at);
            at->has_failed = have_failed;
            wake(at);
        }
    }
}

static void tell_change(struct api_hub *hub, const struct storm_change *change)
{
    pthread_mutex_lock(&hub->mu);
    hub->current = change->revision;
    bool is_watched = tell(hub, change, NULL) != 0;
    if (!is_watched && change->is_last)
        end_revision(hub);
    pthread_mutex_unlock(&hub->mu);
    if (!is_watched)
        return;
    struct api_event *event =
        api_event_make(change, (size_t)hub->server->config->limits_json_bytes);
    pthread_mutex_lock(&hub->mu);
    if (event != NULL)
        tell(hub, change, event);
    else
        tell_all_behind(hub, false);
    if (change->is_last)
        end_revision(hub);
    pthread_mutex_unlock(&hub->mu);
    if (event != NULL)
        api_event_release(event);
}

/* Open the feed at what comes next. mu is held. */
static storm_status open_feed(struct api_hub *hub)
{
    storm_db *db = atomic_load_explicit(&hub->server->db, memory_order_acquire);
    uint64_t now = api_newest_revision(db);
    storm_status status = storm_feed_open(db, now + 1, &hub->feed);
    if (status != STORM_OK)
        hub->feed = NULL;
    else
        hub->current = hub->told = now;
    return status;
}

/* The hub itself was overtaken, or the log is damaged: everyone reads for himself from where he is.
 * */
static void begin_anew(struct api_hub *hub, storm_status why)
{
    pthread_mutex_lock(&hub->mu);
    storm_feed_close(hub->feed);
    storm_status status = open_feed(hub);
    bool have_failed = why != STORM_GONE || status != STORM_OK;
    if (have_failed)
        api_log(STORM_LOG_ERROR, "changes cannot be read: %s", storm_status_text(why));
    end_revision(hub);
    tell_all_behind(hub, have_failed);
    pthread_mutex_unlock(&hub->mu);
}

/* ---- The wheel; mu is held ---- */

static void end_nap(struct api_hub *hub, struct api_watcher *watcher)
{
    if (!watcher->is_napping)
        return;
    if (watcher->nap_previous != NULL)
        watcher->nap_previous->nap_next = watcher->nap_next;
    else
        hub->wheel[watcher->place] = watcher->nap_next;
    if (watcher->nap_next != NULL)
        watcher->nap_next->nap_previous = watcher->nap_previous;
    watcher->is_napping = false;
}

static void turn_wheel(struct api_hub *hub)
{
    uint64_t now = api_monotonic_ns() / TICK_NS;
    while (hub->tick < now) {
        hub->tick++;
        struct api_watcher **place = &hub->wheel[hub->tick % PLACES];
        while (*place != NULL) {
            struct api_watcher *watcher = *place;
            end_nap(hub, watcher);
            wake(watcher);
        }
        hub->lonely_ticks = hub->watchers == 0 ? hub->lonely_ticks + 1 : 0;
    }
}

/* ---- The thread ---- */

/* Wait for the first watcher; close the feed when the last has been gone for long. False = stop. */
static bool wait_for_watchers(struct api_hub *hub)
{
    pthread_mutex_lock(&hub->mu);
    if (hub->feed != NULL)
        turn_wheel(hub);
    if (hub->feed != NULL && hub->watchers == 0 && hub->lonely_ticks >= LINGER_TICKS) {
        storm_feed_close(hub->feed);
        hub->feed = NULL;
    }
    while (hub->feed == NULL && !hub->is_stopping)
        pthread_cond_wait(&hub->changed, &hub->mu);
    bool goes_on = !hub->is_stopping;
    pthread_mutex_unlock(&hub->mu);
    return goes_on;
}

static void *run_hub(void *argument)
{
    struct api_hub *hub = argument;
    while (wait_for_watchers(hub)) {
        storm_status status = storm_feed_wait(hub->feed, TICK_MS);
        struct storm_change change;
        for (unsigned i = 0; status == STORM_OK && i < API_QUEUE_MAX; i++) {
            status = storm_feed_next(hub->feed, &change);
            if (status == STORM_OK)
                tell_change(hub, &change);
        }
        bool is_fine = status == STORM_OK || status == STORM_NOT_FOUND ||
                       status == STORM_TIMED_OUT || status == STORM_CANCELLED;
        if (!is_fine)
            begin_anew(hub, status);
    }
    return NULL;
}

struct api_hub *api_hub_create(struct api_server *server)
{
    struct api_hub *hub = calloc(1, sizeof *hub);
    if (hub == NULL)
        return NULL;
    hub->server = server;
    hub->longest = (size_t)server->config->limits_key_bytes;
    hub->lengths = calloc(hub->longest + 1, sizeof *hub->lengths);
    pthread_mutex_init(&hub->mu, NULL);
    pthread_cond_init(&hub->changed, NULL);
    hub->has_thread = hub->lengths != NULL && pthread_create(&hub->thread, NULL, run_hub, hub) == 0;
    if (hub->has_thread)
        return hub;
    api_hub_destroy(hub);
    return NULL;
}

void api_hub_destroy(struct api_hub *hub)
{
    if (hub == NULL)
        return;
    if (hub->has_thread) {
        pthread_mutex_lock(&hub->mu);
        hub->is_stopping = true;
        pthread_cond_signal(&hub->changed);
        if (hub->feed != NULL)
            storm_feed_interrupt(hub->feed);
        pthread_mutex_unlock(&hub->mu);
        pthread_join(hub->thread, NULL);
    }
    if (hub->feed != NULL)
        storm_feed_close(hub->feed);
    pthread_cond_destroy(&hub->changed);
    pthread_mutex_destroy(&hub->mu);
    free(hub->lengths);
    free(hub);
}

/* ---- Watchers ---- */

static unsigned hash_of(struct storm_slice prefix)
{
    unsigned hash = HASH_SEED;
    for (size_t i = 0; i < prefix.size; i++)
        hash = (hash ^ prefix.data[i]) * HASH_STEP;
    return hash % BUCKETS;
}

storm_status api_hub_join(struct api_hub *hub, struct api_watcher *watcher, uint64_t *after,
                          uint64_t *target)
{
    storm_status status = STORM_OK;
    pthread_mutex_lock(&hub->mu);
    if (hub->feed == NULL) {
        hub->tick = api_monotonic_ns() / TICK_NS;
        hub->lonely_ticks = 0;
        status = open_feed(hub);
        pthread_cond_signal(&hub->changed);
    }
    if (status == STORM_OK) {
        watcher->hash = hash_of(watcher->prefix);
        watcher->next = hub->buckets[watcher->hash];
        if (watcher->next != NULL)
            watcher->next->previous = watcher;
        hub->buckets[watcher->hash] = watcher;
        hub->lengths[watcher->prefix.size]++;
        hub->watchers++;
        watcher->is_registered = true;
        *target = hub->current;
        if (*after == UINT64_MAX)
            *after = *target;
        watcher->after = *after > *target ? *after : *target;
    }
    pthread_mutex_unlock(&hub->mu);
    return status;
}

void api_hub_rejoin(struct api_hub *hub, struct api_watcher *watcher, uint64_t after,
                    uint64_t *target)
{
    pthread_mutex_lock(&hub->mu);
    drop_queue(watcher);
    watcher->is_behind = false;
    *target = hub->current;
    watcher->after = after > *target ? after : *target;
    pthread_mutex_unlock(&hub->mu);
}

void api_hub_leave(struct api_hub *hub, struct api_watcher *watcher)
{
    pthread_mutex_lock(&hub->mu);
    if (watcher->is_registered) {
        end_nap(hub, watcher);
        untouch(hub, watcher);
        drop_queue(watcher);
        if (watcher->previous != NULL)
            watcher->previous->next = watcher->next;
        else
            hub->buckets[watcher->hash] = watcher->next;
        if (watcher->next != NULL)
            watcher->next->previous = watcher->previous;
        hub->lengths[watcher->prefix.size]--;
        hub->watchers--;
        watcher->is_registered = false;
    }
    pthread_mutex_unlock(&hub->mu);
}

enum api_hub_next api_hub_take(struct api_hub *hub, struct api_watcher *watcher,
                               struct api_queued *taken, uint64_t *seen)
{
    enum api_hub_next next = API_HUB_EVENT;
    pthread_mutex_lock(&hub->mu);
    if (watcher->ready > 0) {
        *taken = watcher->queue[watcher->first];
        watcher->first = (watcher->first + 1) % watcher->room;
        watcher->count--;
        watcher->ready--;
        watcher->queue_bytes -= taken->event->size;
    } else if (watcher->has_failed) {
        next = API_HUB_FAILED;
    } else if (watcher->is_behind) {
        next = API_HUB_BEHIND;
    } else {
        next = API_HUB_NOTHING;
        *seen = hub->told;
        if (watcher->count == 0)
            drop_queue(watcher);
    }
    pthread_mutex_unlock(&hub->mu);
    return next;
}

void api_hub_nap(struct api_hub *hub, struct api_watcher *watcher, struct api_stream *stream,
                 uint64_t nap_ns)
{
    if (nap_ns > API_NAP_MAX_NS)
        nap_ns = API_NAP_MAX_NS;
    pthread_mutex_lock(&hub->mu);
    end_nap(hub, watcher);
    watcher->stream = stream;
    uint64_t tick = (api_monotonic_ns() + nap_ns + TICK_NS - 1) / TICK_NS;
    /* A place that the wheel has passed would wait for a whole turn. */
    if (tick <= hub->tick)
        tick = hub->tick + 1;
    watcher->place = (unsigned)(tick % PLACES);
    watcher->nap_previous = NULL;
    watcher->nap_next = hub->wheel[watcher->place];
    if (watcher->nap_next != NULL)
        watcher->nap_next->nap_previous = watcher;
    hub->wheel[watcher->place] = watcher;
    watcher->is_napping = true;
    /* What was queued before the stream was known woke nobody. */
    if (watcher->ready > 0 || watcher->is_behind)
        wake(watcher);
    pthread_mutex_unlock(&hub->mu);
}
