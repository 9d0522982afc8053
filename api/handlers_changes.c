/*
 * GET /changes: what was written after a revision, in order, without gaps.
 *
 *   JSON     {"events":[…],"next":61}, at once or, with `wait`, when there is something
 *   SSE      id/event/data for each, until the client goes away
 *   NDJSON   an object on each line, likewise
 *
 * All three are streams: they read the log where they are behind and take events from the hub where
 * they are not (hub.h), and hold one piece of it in memory.
 *
 * Resuming. What was written in one batch has one revision. The point to resume from (id, next) is
 * given with the last event of a revision only, or after it when that last one does not match, so a
 * client that is cut off in the middle of a batch has the whole batch again: at least once, no
 * gaps. A page of JSON that is full ends with its revision. `position` is that point.
 *
 * A client that does not keep up is told `lagging` and has to come back, when it took a piece for
 * LAG_NS or when the log was overtaken; one that takes nothing at all is cut off (watch.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "hub.h"
#include "kv.h"
#include "moment.h"
#include "response.h"
#include "router.h"
#include "stream.h"

enum {
    DEFAULT_LIMIT = 100, /* of a page of JSON */
    LIMIT_MAX = 10000,
    WAIT_MAX_SECONDS = 300,
    PIECE = 16 << 10, /* what a watcher holds, so that ten thousand can */
    SCAN_MAX = 4096,  /* changes without a match before others have their turn */
    RETRY_MS = 2000,
};

#define SECOND_NS   UINT64_C(1000000000)
#define BEAT_NS     (15 * SECOND_NS)
#define PROGRESS_NS (60 * SECOND_NS)
#define LAG_NS      (10 * SECOND_NS)

enum form { FORM_JSON, FORM_SSE, FORM_NDJSON };

struct changes {
    struct api_watcher watcher;
    struct api_server *server;
    enum form form;
    bool has_values;
    bool is_joined;
    uint64_t limit;    /* 0 = none */
    uint64_t count;    /* events shown */
    uint64_t position; /* to resume from: everything up to it was shown, or does not match */
    uint64_t target;   /* the log is read up to here */
    bool has_begun;
    bool is_open;     /* something of the revision after `position` was shown */
    bool was_full;    /* the last piece was not all there was */
    storm_feed *feed; /* NULL = not reading the log */
    uint64_t deadline_ns;
    uint64_t written_ns, point_ns; /* when something was last added, and a point to resume from */
    uint8_t prefix[];
};

/* ---- Writing ---- */

typedef unsigned long long ull;

static void write_progress(struct changes *changes, struct api_text *piece, const char *op)
{
    ull at = (ull)changes->position;
    changes->is_open = false;
    changes->point_ns = api_monotonic_ns();
    if (changes->form == FORM_SSE)
        api_text_addf(piece, "id: %llu\nevent: %s\ndata: {\"revision\":%llu}\n\n", at, op, at);
    else if (changes->form == FORM_NDJSON)
        api_text_addf(piece, "{\"op\":\"%s\",\"next\":%llu}\n", op, at);
}

/* The revision is complete, and its last event did not match. */
static void write_point(struct changes *changes, struct api_text *piece, uint64_t revision)
{
    changes->position = revision;
    if (!changes->is_open)
        return;
    /* A block without data sets the id and is no event. */
    if (changes->form == FORM_SSE)
        api_text_addf(piece, "id: %llu\n\n", (ull)revision);
    else
        write_progress(changes, piece, "progress");
    changes->is_open = false;
}

static void write_event(struct changes *changes, struct api_text *piece,
                        const struct api_event *event, bool is_last)
{
    ull revision = (ull)event->revision;
    if (changes->form == FORM_JSON)
        api_text_adds(piece, changes->count == 0 ? "{\"events\":[" : ",\n");
    if (changes->form == FORM_SSE && is_last)
        api_text_addf(piece, "id: %llu\n", revision);
    if (changes->form == FORM_SSE)
        api_text_addf(piece, "event: %s\ndata: ", event->op);
    api_event_add(event, changes->has_values, piece);
    if (changes->form == FORM_NDJSON && is_last)
        api_text_addf(piece, ",\"next\":%llu", revision);
    api_text_adds(piece, changes->form == FORM_SSE      ? "}\n\n"
                         : changes->form == FORM_NDJSON ? "}\n"
                                                        : "}");
    changes->count++;
    changes->is_open = !is_last;
    if (is_last) {
        changes->position = event->revision;
        changes->point_ns = api_monotonic_ns();
    }
}

static enum api_stream_next finish(struct changes *changes, struct api_text *piece, const char *op)
{
    if (changes->form == FORM_JSON) {
        api_text_adds(piece, changes->count == 0 ? "{\"events\":[" : "");
        api_text_addf(piece, "],\"next\":%llu}\n", (ull)changes->position);
        return API_STREAM_END;
    }
    write_progress(changes, piece, op);
    if (changes->form == FORM_SSE)
        api_text_addf(piece, ": come back with this id\nretry: %d\n\n", RETRY_MS);
    return API_STREAM_END;
}

/* ---- Reading ---- */

enum reading { READ_ON, READ_ALL, READ_FULL, READ_GONE, READ_BROKEN };

static void stop_reading(struct changes *changes)
{
    if (changes->feed != NULL)
        storm_feed_close(changes->feed);
    changes->feed = NULL;
}

static storm_status start_reading(struct changes *changes)
{
    storm_db *db = atomic_load_explicit(&changes->server->db, memory_order_acquire);
    return storm_feed_open(db, changes->position + 1, &changes->feed);
}

static enum reading show_change(struct changes *changes, struct api_text *piece,
                                const struct storm_change *change)
{
    if (api_change_has_prefix(change, changes->watcher.prefix)) {
        struct api_event *event =
            api_event_make(change, (size_t)changes->server->config->limits_json_bytes);
        if (event == NULL)
            return READ_BROKEN;
        write_event(changes, piece, event, change->is_last);
        api_event_release(event);
    } else if (change->is_last) {
        write_point(changes, piece, change->revision);
    }
    if (change->is_last && change->revision >= changes->target)
        stop_reading(changes);
    return READ_ON;
}

/* The next change of the log. */
static enum reading read_log(struct changes *changes, struct api_text *piece)
{
    struct storm_change change;
    storm_status status = changes->feed == NULL ? start_reading(changes) : STORM_OK;
    if (status == STORM_OK)
        status = storm_feed_next(changes->feed, &change);
    switch (status) {
    case STORM_OK:
        return show_change(changes, piece, &change);
    case STORM_NOT_FOUND:
        stop_reading(changes);
        changes->target = changes->position;
        return READ_ON;
    case STORM_GONE:
        return READ_GONE;
    default:
        return READ_BROKEN;
    }
}

/* The next event of the hub. */
static enum reading read_hub(struct changes *changes, struct api_text *piece)
{
    struct api_hub *hub = changes->server->hub;
    struct api_queued taken;
    uint64_t seen;
    if (!changes->is_joined)
        return READ_ALL;
    switch (api_hub_take(hub, &changes->watcher, &taken, &seen)) {
    case API_HUB_EVENT:
        write_event(changes, piece, taken.event, taken.is_last);
        api_event_release(taken.event);
        return READ_ON;
    case API_HUB_BEHIND:
        api_hub_rejoin(hub, &changes->watcher, changes->position, &changes->target);
        return READ_ON;
    case API_HUB_NOTHING:
        if (changes->position < seen)
            changes->position = seen;
        return READ_ALL;
    default:
        return READ_BROKEN;
    }
}

static bool has_enough(const struct changes *changes)
{
    return changes->limit != 0 && changes->count >= changes->limit && !changes->is_open;
}

/* Fill the piece, as far as there is something. */
static enum reading read_on(struct changes *changes, struct api_text *piece)
{
    enum reading reading = READ_ON;
    for (unsigned i = 0; reading == READ_ON; i++) {
        if (piece->size >= PIECE || i == SCAN_MAX || has_enough(changes))
            return READ_FULL;
        reading = changes->feed != NULL || changes->position < changes->target
                      ? read_log(changes, piece)
                      : read_hub(changes, piece);
    }
    return reading;
}

/* ---- The stream ---- */

static void begin_form(struct changes *changes, struct api_text *piece)
{
    changes->has_begun = true;
    if (changes->form == FORM_SSE)
        api_text_addf(piece, "retry: %d\n", RETRY_MS);
    /* Who is cut off before the first event shall know where to resume from, too. */
    if (changes->form != FORM_JSON)
        write_progress(changes, piece, "progress");
}

/* Nothing has happened for a while: show that the connection is alive, and find out whether it is.
 * */
static void write_beat(struct changes *changes, struct api_text *piece, uint64_t now)
{
    if (piece->size != 0 || now - changes->written_ns < BEAT_NS)
        return;
    if (changes->form == FORM_JSON)
        api_text_adds(piece, "\n"); /* white space before the object */
    else if (changes->form == FORM_SSE && now - changes->point_ns < PROGRESS_NS - BEAT_NS / 2)
        api_text_adds(piece, ": alive\n\n");
    else
        write_progress(changes, piece, "progress");
}

/* Nothing is left to show. */
static enum api_stream_next wait_for_more(struct changes *changes, struct api_stream *stream,
                                          struct api_text *piece)
{
    uint64_t now = api_monotonic_ns();
    bool is_page = changes->form == FORM_JSON;
    if (is_page && (changes->count > 0 || now >= changes->deadline_ns))
        return finish(changes, piece, "");
    write_beat(changes, piece, now);
    if (piece->size != 0)
        changes->written_ns = now;
    uint64_t until_ns = changes->written_ns + BEAT_NS;
    if (is_page && changes->deadline_ns < until_ns)
        until_ns = changes->deadline_ns;
    api_hub_nap(changes->server->hub, &changes->watcher, stream,
                until_ns > now ? until_ns - now : 0);
    return API_STREAM_WAIT;
}

static enum api_stream_next produce(void *state, struct api_stream *stream, struct api_text *piece)
{
    struct changes *changes = state;
    if (!changes->has_begun)
        begin_form(changes, piece);
    if (changes->was_full && changes->form != FORM_JSON &&
        api_monotonic_ns() - changes->written_ns > LAG_NS)
        return finish(changes, piece, "lagging");
    changes->was_full = false;
    enum reading reading = read_on(changes, piece);
    if (api_stream_is_ending(stream) && reading != READ_BROKEN)
        return finish(changes, piece, "progress");
    switch (reading) {
    case READ_ALL:
        return wait_for_more(changes, stream, piece);
    case READ_GONE:
        return finish(changes, piece, "lagging");
    case READ_BROKEN:
        return API_STREAM_CUT;
    default:
        break;
    }
    if (has_enough(changes))
        return finish(changes, piece, "progress");
    changes->was_full = piece->size > 0;
    if (changes->was_full)
        changes->written_ns = api_monotonic_ns();
    return API_STREAM_MORE;
}

static void end(void *state)
{
    struct changes *changes = state;
    api_hub_leave(changes->server->hub, &changes->watcher);
    stop_reading(changes);
    free(changes);
}

static const struct api_stream_source source = {produce, end};

/* ---- The request ---- */

struct question {
    struct storm_slice prefix;
    enum form form;
    bool has_values;
    bool has_since;
    uint64_t since, limit, wait_ms;
};

static struct storm_slice parameter(struct api_request *request, const char *name, bool *is_there)
{
    const struct api_parameter *found = api_query_find(&request->query, name);
    *is_there = found != NULL;
    return found == NULL ? storm_bytes(NULL, 0) : found->value;
}

/* Last-Event-ID is what a browser adds when it comes back to the same address, so it wins. */
static bool read_since(struct api_request *request, struct question *question,
                       enum MHD_Result *result)
{
    struct storm_slice text = parameter(request, "since", &question->has_since);
    if (api_has_header(request, API_HEADER_LAST_EVENT_ID)) {
        text = api_header(request, API_HEADER_LAST_EVENT_ID);
        question->has_since = true;
    }
    if (!question->has_since ||
        (api_parse_number(text, &question->since) && question->since < INT64_MAX))
        return true;
    *result = api_fail_parameter(
        request, "Send the id or the \"next\" of an earlier answer, or no since at all.",
        "The parameter since (or Last-Event-ID) is not a revision.");
    return false;
}

static bool read_bounds(struct api_request *request, struct question *question,
                        enum MHD_Result *result)
{
    bool has_limit, has_wait;
    struct storm_slice limit = parameter(request, "limit", &has_limit);
    struct storm_slice wait = parameter(request, "wait", &has_wait);
    question->limit = question->form == FORM_JSON ? DEFAULT_LIMIT : 0;
    if (has_limit && (!api_parse_number(limit, &question->limit) || question->limit == 0 ||
                      question->limit > LIMIT_MAX)) {
        *result = api_fail_parameter(request, "Write a number from 1 to 10000.",
                                     "The parameter limit is not a number of events.");
        return false;
    }
    question->wait_ms = 0;
    if (has_wait && question->form != FORM_JSON) {
        *result = api_fail_parameter(
            request, "Leave wait out: this form goes on until the client goes away.",
            "The parameter wait is for answers in JSON only.");
        return false;
    }
    if (has_wait && (!api_parse_duration(wait, &question->wait_ms) ||
                     question->wait_ms > WAIT_MAX_SECONDS * 1000)) {
        *result = api_fail_parameter(request,
                                     "Write a time from 1s to 300s, and ask again when it is over.",
                                     "The parameter wait is not a time to wait for.");
        return false;
    }
    return true;
}

static bool read_question(struct api_request *request, struct question *question,
                          enum MHD_Result *result)
{
    bool has_prefix, has_values;
    struct storm_slice accept = api_header(request, API_HEADER_ACCEPT);
    question->form = api_accept_names(accept, "text/event-stream")      ? FORM_SSE
                     : api_accept_names(accept, "application/x-ndjson") ? FORM_NDJSON
                                                                        : FORM_JSON;
    question->prefix = parameter(request, "prefix", &has_prefix);
    if (question->prefix.size > request->server->config->limits_key_bytes) {
        *result = api_fail_parameter(request, "No key begins with it.",
                                     "The prefix is longer than any key.");
        return false;
    }
    (void)parameter(request, "values", &has_values);
    question->has_values = true;
    if (has_values && !api_flag(request, "values", &question->has_values, result))
        return false;
    return read_since(request, question, result) && read_bounds(request, question, result);
}

static enum MHD_Result fail_gone(struct api_request *request, uint64_t since, uint64_t newest)
{
    struct storm_stats stats;
    char extras[96];
    if (storm_stats_read(api_kv_store(request), &stats) != STORM_OK)
        stats = (struct storm_stats){.revision = newest};
    snprintf(extras, sizeof extras, ",\"oldest_revision\":%llu,\"revision\":%llu",
             (ull)stats.feed_oldest_revision, (ull)stats.revision);
    struct api_failure failure = {.code = API_ERROR_history_gone, .extras = extras};
    if (since > newest)
        return api_fail(request, &failure,
                        "Revision %llu has not been yet; the newest is %llu. It may be of another "
                        "store.",
                        (ull)since, (ull)newest);
    return api_fail(request, &failure,
                    "What came after revision %llu is not in the log any more; it begins with "
                    "revision %llu.",
                    (ull)since, (ull)stats.feed_oldest_revision);
}

static struct changes *make_changes(struct api_request *request, const struct question *question)
{
    struct changes *changes = calloc(1, sizeof *changes + question->prefix.size);
    if (changes == NULL)
        return NULL;
    if (question->prefix.size > 0)
        memcpy(changes->prefix, question->prefix.data, question->prefix.size);
    changes->watcher.prefix = storm_bytes(changes->prefix, question->prefix.size);
    changes->server = request->server;
    changes->form = question->form;
    changes->has_values = question->has_values;
    changes->limit = question->limit;
    changes->written_ns = changes->point_ns = api_monotonic_ns();
    changes->deadline_ns = changes->written_ns + question->wait_ms * 1000000;
    return changes;
}

/* Find the place to begin at: join the hub, if it waits at all, and open the log, if it is behind.
 * */
static storm_status begin_watching(struct changes *changes, const struct question *question,
                                   uint64_t newest)
{
    storm_status status = STORM_OK;
    changes->position = question->has_since ? question->since : newest;
    changes->target = newest;
    if (question->form != FORM_JSON || question->wait_ms != 0) {
        uint64_t after = question->has_since ? question->since : UINT64_MAX;
        status = api_hub_join(changes->server->hub, &changes->watcher, &after, &changes->target);
        changes->position = after;
        changes->is_joined = status == STORM_OK;
    }
    if (status == STORM_OK && changes->position < changes->target)
        status = start_reading(changes);
    return status;
}

enum MHD_Result api_changes(struct api_request *request)
{
    enum MHD_Result result;
    struct question question;
    if (!read_question(request, &question, &result))
        return result;
    struct storm_slice none = storm_bytes(NULL, 0);
    struct api_reach reach = api_reach_range(none, none, question.prefix);
    if (!api_may(request, API_SCOPE_READ, &reach, &result))
        return result;
    uint64_t newest = api_newest_revision(api_kv_store(request));
    if (question.has_since && question.since > newest)
        return fail_gone(request, question.since, newest);
    struct changes *changes = make_changes(request, &question);
    if (changes == NULL)
        return api_fail_store(request, STORM_NO_MEMORY);
    storm_status status = begin_watching(changes, &question, newest);
    if (status != STORM_OK) {
        end(changes);
        return status == STORM_GONE ? fail_gone(request, question.since, newest)
                                    : api_fail_store(request, status);
    }
    static const char *const types[] = {"application/json", "text/event-stream",
                                        "application/x-ndjson"};
    struct api_answer answer =
        api_answer_stream(request, types[question.form], false, &source, changes);
    api_answer_header(&answer, "Cache-Control", "no-store");
    api_answer_header(&answer, "Vary", "Accept");
    /* Proxies of the nginx kind would keep events until they have 4 KiB of them. */
    api_answer_header(&answer, "X-Accel-Buffering", "no");
    return api_send(request, &answer);
}
