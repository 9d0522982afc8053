/*
 * The router. See router.h.
 *
 * It compares raw bytes: no decoding, no merging of slashes, no trailing slash forgiven, so that
 * two spellings of a path never meet. Ten routes are searched one by one; the first comparison
 * settles most requests.
 */
#include "router.h"

#include <string.h>

#define KEY           "{key}"
#define ENDS_KEY(p)   (sizeof(p) > sizeof(KEY) && (p)[sizeof(p) - 2] == '}')
#define FIXED_SIZE(p) (ENDS_KEY(p) ? sizeof(p) - sizeof(KEY) : sizeof(p) - 1)

#define ROUTE(method, path, scope, begin, run, flags, ...)                                         \
    {#method,       path,  FIXED_SIZE(path), API_SCOPE_##scope, begin, run,                        \
     {__VA_ARGS__}, flags, ENDS_KEY(path)},
const struct api_route api_routes[] = {
#include "routes.def"
};
#undef ROUTE

const size_t api_route_count = sizeof api_routes / sizeof api_routes[0];

static bool has_path(const struct api_route *route, struct storm_slice path)
{
    bool has_length = route->has_key ? path.size >= route->fixed : path.size == route->fixed;
    return has_length && memcmp(path.data, route->path, route->fixed) == 0;
}

static void allow_method(char *allow, const char *method)
{
    size_t used = strlen(allow);
    size_t size = strlen(method);
    if (used + size + sizeof ", , HEAD" > API_ALLOW_MAX)
        return;
    if (used > 0) {
        allow[used++] = ',';
        allow[used++] = ' ';
    }
    memcpy(allow + used, method, size + 1);
}

const struct api_route *api_route_find(const char *method, struct storm_slice path,
                                       struct storm_slice *key, char *allow)
{
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    allow[0] = '\0';
    *key = storm_bytes(NULL, 0);
    for (size_t i = 0; i < api_route_count; i++) {
        const struct api_route *route = &api_routes[i];
        if (!has_path(route, path))
            continue;
        if (strcmp(route->method, wanted) == 0) {
            if (route->has_key)
                *key = storm_bytes(path.data + route->fixed, path.size - route->fixed);
            return route;
        }
        allow_method(allow, route->method);
        if (strcmp(route->method, "GET") == 0)
            allow_method(allow, "HEAD");
    }
    return NULL;
}
