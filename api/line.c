/*
 * Lines. See line.h.
 *
 *   fronts[bucket] -> front of "a" -> front of "q" -> NULL
 *                      first
 *                        v
 *                     waits -> waits -> NULL
 *
 * Whoever leaves hands the rest of its line to the first that waits, under the mutex, and wakes it
 * after: the woken request may run, and leave, before the waker goes on.
 */
#include "line.h"

#include <string.h>

#include "async.h"

void api_lines_init(struct api_lines *lines)
{
    memset(lines, 0, sizeof *lines);
    pthread_mutex_init(&lines->mu, NULL);
}

void api_lines_fini(struct api_lines *lines)
{
    pthread_mutex_destroy(&lines->mu);
}

/* FNV-1a: keys are short, and a bad spread only makes lists longer. */
static size_t bucket_of(struct storm_slice key)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ key.data[i]) * 16777619u;
    return (hash ^ hash >> 16) % API_LINE_BUCKETS;
}

static bool has_key(const struct api_place *place, struct storm_slice key)
{
    return place->key.size == key.size && memcmp(place->key.data, key.data, key.size) == 0;
}

static enum api_line_turn stand_behind(struct api_place *front, struct api_place *place)
{
    if (front->waiting == API_LINE_MAX)
        return API_LINE_FULL;
    if (front->first == NULL)
        front->first = place;
    else
        front->last->next = place;
    front->last = place;
    front->waiting++;
    return API_LINE_WAIT;
}

enum api_line_turn api_line_join(struct api_lines *lines, struct api_place *place)
{
    struct api_place **bucket = &lines->fronts[bucket_of(place->key)];
    enum api_line_turn turn = API_LINE_FRONT;
    place->next = NULL;
    place->first = NULL;
    place->last = NULL;
    place->waiting = 0;
    pthread_mutex_lock(&lines->mu);
    struct api_place *front = *bucket;
    while (front != NULL && !has_key(front, place->key))
        front = front->next;
    if (front != NULL) {
        turn = stand_behind(front, place);
    } else {
        place->next = *bucket;
        *bucket = place;
    }
    place->is_in_line = turn != API_LINE_FULL;
    pthread_mutex_unlock(&lines->mu);
    return turn;
}

void api_line_leave(struct api_lines *lines, struct api_place *place)
{
    if (!place->is_in_line)
        return;
    pthread_mutex_lock(&lines->mu);
    struct api_place **at = &lines->fronts[bucket_of(place->key)];
    while (*at != place)
        at = &(*at)->next;
    struct api_place *heir = place->first;
    if (heir == NULL) {
        *at = place->next;
    } else {
        heir->first = heir->next;
        heir->last = heir->first == NULL ? NULL : place->last;
        heir->waiting = place->waiting - 1;
        heir->next = place->next;
        *at = heir;
    }
    place->is_in_line = false;
    pthread_mutex_unlock(&lines->mu);
    if (heir != NULL)
        api_wait_over(heir->request);
}
