/*
 * The request target as the client sent it: path, key and query, decoded exactly once.
 *
 * Keys follow one rule: everything after /kv/ up to '?', percent-decoded; '+' is a plus, %00 a zero
 * byte, slashes and dots are ordinary. Queries follow that of HTML forms: '+' is a blank.
 * No state; any thread.
 */
#ifndef STORM_API_TARGET_H
#define STORM_API_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "storm/storm.h"

/* A raw target cut at its '?'. Both parts point into what was split and are not decoded. */
struct api_target {
    struct storm_slice path;  /* begins with '/'; empty when the target has no form we know */
    struct storm_slice query; /* after the '?' */
};

/* Split an origin-form ("/kv/a?meta=true") or absolute-form ("http://host/kv/a") target. */
struct api_target api_target_split(struct storm_slice raw);

/* Decode `size` bytes in place; false, with nothing promised about the bytes, on a '%' that two hex
 * digits do not follow. The result is never longer. */
bool api_percent_decode(uint8_t *bytes, size_t *size, bool plus_is_blank);

struct api_parameter {
    struct storm_slice name;
    struct storm_slice value; /* empty without '=' */
};

enum { API_PARAMETERS_MAX = 16 };

struct api_query {
    size_t count;
    struct api_parameter parameters[API_PARAMETERS_MAX]; /* the first of each name */
    /* Every value of the name that may stand more than once, in order; allocated. */
    size_t repeat_count;
    struct storm_slice *repeats;
    struct api_parameter met; /* the last one read: where a fault was met */
};

enum api_query_fault {
    API_QUERY_FINE,
    API_QUERY_ESCAPE,    /* a malformed percent escape */
    API_QUERY_TOO_MANY,  /* more than API_PARAMETERS_MAX names */
    API_QUERY_TWICE,     /* the same name twice */
    API_QUERY_NO_MEMORY, /* for the repeats */
};

/*
 * Take a query apart, decoding it in place; the parameters point into it. The parameter
 * `repeatable` (NULL = none) may stand any number of times. On a fault, *culprit is the parameter
 * where it was met (NULL if none). Give the query back with api_query_fini(), after a fault too.
 */
enum api_query_fault api_query_parse(uint8_t *bytes, size_t size, const char *repeatable,
                                     struct api_query *query, const struct api_parameter **culprit);
void api_query_fini(struct api_query *query);

/* The parameter of that name, or NULL. */
const struct api_parameter *api_query_find(const struct api_query *query, const char *name);

#endif
