/*
 * Who may do what: the scopes of a request, and the one question that handlers ask.
 *
 * Every route of routes.def names its scope. The router refuses a request whose key does not have
 * it, and asks api_may() for the key in the path of a /kv/{key} route. All other routes concern the
 * whole store, so a key that is limited to a prefix is refused there too, unless the route has the
 * flag API_ROUTE_ASKS: then its handler asks api_may(), for each key or range that it is about to
 * touch, before it touches any. A handler that forgets is caught in api_send(): its answer does not
 * leave.
 *
 * Without auth.keys_file every request may do everything.
 *
 * Threads: a grant belongs to its request and is written by the router alone.
 */
#ifndef STORM_API_AUTH_H
#define STORM_API_AUTH_H

#include <microhttpd.h>
#include <stdbool.h>

#include "storm/storm.h"

/* What a route or a step of it takes. Scopes do not imply one another. */
enum api_scope {
    API_SCOPE_OPEN = 0, /* no key at all: probes, documents */
    API_SCOPE_READ = 1,
    API_SCOPE_WRITE = 2,
    API_SCOPE_ADMIN = 4,
    API_SCOPE_ANY = 8, /* some key; the handler asks for what the request then needs */
};
enum { API_SCOPE_ALL = API_SCOPE_READ | API_SCOPE_WRITE | API_SCOPE_ADMIN };

/* What a request may do. All zero = nothing; see api_grant_everything. */
struct api_grant {
    unsigned scopes;           /* of READ, WRITE, ADMIN */
    struct storm_slice prefix; /* all keys must begin with it; borrowed until the request is over */
    bool has_asked;            /* api_may() was called */
};

static inline struct api_grant api_grant_everything(void)
{
    return (struct api_grant){.scopes = API_SCOPE_ALL};
}

/* The keys that a step touches: one, or those of a range. */
struct api_reach {
    bool is_key;
    struct storm_slice start;  /* the key itself, or the first one (inclusive) */
    struct storm_slice end;    /* of a range: first one outside; empty = no bound */
    struct storm_slice prefix; /* of a range: all begin with it; empty = no bound */
};

static inline struct api_reach api_reach_key(struct storm_slice key)
{
    return (struct api_reach){.is_key = true, .start = key};
}
/* Any of the three may be empty; all of them = the whole store. */
static inline struct api_reach api_reach_range(struct storm_slice start, struct storm_slice end,
                                               struct storm_slice prefix)
{
    return (struct api_reach){.start = start, .end = end, .prefix = prefix};
}

/* Whether all keys of the reach begin with the grant's prefix. */
bool api_grant_reaches(const struct api_grant *grant, const struct api_reach *reach);

/*
 * Whether the request may do that, with these keys. If not, it has been answered 403
 * `forbidden_scope` or `forbidden_prefix` and *result is what the handler returns:
 *
 *     struct api_reach reach = api_reach_range(start, end, prefix);
 *     if (!api_may(request, API_SCOPE_READ, &reach, &result))
 *         return result;
 *
 * `scope` is READ, WRITE or ADMIN. A step that also shows what it overwrites or deletes asks for
 * both, one after the other.
 */
struct api_request;
bool api_may(struct api_request *request, enum api_scope scope, const struct api_reach *reach,
             enum MHD_Result *result);

/* Used by request.c: whether the route is open to the request, as far as can be said before it is
 * read; false = answered, as above, or 401. */
bool api_admit(struct api_request *request, enum MHD_Result *result);

#endif
