/*
 * One change of the store as JSON, made once for all who watch it:
 *
 *   {"op":"put","key":"a"   ,"value":{"n":1}   ,"content_type":"…","revision":7,"modified_at":…,
 *                                               "expires_at":…
 *   {"op":"delete","key":"a"                   ,"revision":8
 *   {"op":"delete_range","start":"a","end":"b" ,"revision":9
 *   `---------------------' `----------------' `-------------
 *            head                 value              tail        and the caller's '}'
 *
 * It is one line: line breaks in a JSON value, which can only stand between its parts, become
 * blanks. A value of more than API_EVENT_VALUE_MAX bytes is left out, and "value_omitted":true says
 * so, so that what waits for a thousand watchers fits into memory.
 *
 * Threads: an event never changes, and anyone may hold and release it.
 */
#ifndef STORM_API_EVENT_H
#define STORM_API_EVENT_H

#include <stdatomic.h>

#include "storm/storm.h"
#include "text.h"

enum { API_EVENT_VALUE_MAX = 256 << 10 };

struct api_event {
    _Atomic unsigned holders;
    uint64_t revision;
    const char *op;           /* static */
    size_t head, value, size; /* value = where the tail begins */
    char *text;
};

/* Of a change; held once, by the caller. NULL without memory. */
struct api_event *api_event_make(const struct storm_change *change, size_t json_limit);
void api_event_hold(struct api_event *event);
void api_event_release(struct api_event *event);

/* Add it without its closing brace. */
void api_event_add(const struct api_event *event, bool has_value, struct api_text *text);

#endif
