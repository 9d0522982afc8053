/*
 * Standing in line for a key: requests that read a value, change it and write it back on the
 * condition that nobody wrote since. Without a line, of a hundred that do so to one key in one
 * moment each commit lets one succeed and ninety-nine try again, and some of them never come first.
 * In line each tries once, in the order in which they came. The condition stays: other writes do
 * not queue.
 *
 * Threads: one mutex for all lines, held for a few instructions. A place belongs to its request.
 */
#ifndef STORM_API_LINE_H
#define STORM_API_LINE_H

#include <pthread.h>
#include <stdbool.h>

#include "storm/storm.h"

struct api_request;

/* More in one line than this would wait for seconds. */
enum { API_LINE_MAX = 1024, API_LINE_BUCKETS = 256 };

struct api_place {
    struct api_request *request;
    struct storm_slice key;
    struct api_place *next;  /* of those at the front, in one bucket; or who comes after this one */
    struct api_place *first; /* of those that wait, while this one is at the front */
    struct api_place *last;
    size_t waiting;
    bool is_in_line;
};

struct api_lines {
    pthread_mutex_t mu;
    struct api_place *fronts[API_LINE_BUCKETS]; /* mu */
};

void api_lines_init(struct api_lines *lines);
void api_lines_fini(struct api_lines *lines);

enum api_line_turn {
    API_LINE_FRONT, /* it is this one's turn */
    API_LINE_WAIT,  /* api_wait() now: `then` runs when it is */
    API_LINE_FULL,  /* too many wait; not in line */
};

/* Join the line for place->key, which stays where it is until the place leaves. For API_LINE_WAIT
 * the request must have been readied with api_wait_begin(). */
enum api_line_turn api_line_join(struct api_lines *lines, struct api_place *place);

/* Let the next one have its turn. Harmless when the place is not in line. */
void api_line_leave(struct api_lines *lines, struct api_place *place);

#endif
