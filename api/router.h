/* Method and path to handler, by the table in routes.def. No state; any thread. */
#ifndef STORM_API_ROUTER_H
#define STORM_API_ROUTER_H

#include "auth.h"
#include "request.h"

enum {
    API_ROUTE_STORE = 1,    /* needs the store: 503 while starting */
    API_ROUTE_BODY = 2,     /* takes a body; begin sets its limit */
    API_ROUTE_PROBE = 4,    /* its 503 is an answer, not an error */
    API_ROUTE_ASKS = 8,     /* no key in its path; the handler calls api_may() itself */
    API_ROUTE_REPEATS = 16, /* its first parameter may stand any number of times */
    API_ROUTE_BATCH = 32,   /* its body is bounded by limits.batch_bytes */
};

enum { API_ROUTE_PARAMETERS_MAX = 14 };

struct api_route {
    const char *method;
    const char *path; /* the template */
    size_t fixed;     /* length of what stands before {key}; of all of it without */
    enum api_scope scope;
    api_handler begin; /* NULL = nothing to look at early */
    api_handler run;
    const char *parameters[API_ROUTE_PARAMETERS_MAX]; /* ended by NULL */
    unsigned flags;
    bool has_key;
};

/* All routes, for tests and for the router. */
extern const struct api_route api_routes[];
extern const size_t api_route_count;

/*
 * The route of a method and a raw path; HEAD finds that of GET. With *key (what stands for {key},
 * not decoded). NULL when there is none; then *allow, of at least API_ALLOW_MAX bytes, has the
 * methods that this path knows, or is empty when no route has this path.
 */
#define API_ALLOW_MAX 64
const struct api_route *api_route_find(const char *method, struct storm_slice path,
                                       struct storm_slice *key, char *allow);

/* The handlers. */
enum MHD_Result api_kv_get(struct api_request *request);
enum MHD_Result api_kv_put_begin(struct api_request *request);
enum MHD_Result api_kv_put(struct api_request *request);
enum MHD_Result api_kv_delete(struct api_request *request);
enum MHD_Result api_kv_patch_begin(struct api_request *request);
enum MHD_Result api_kv_patch(struct api_request *request);
enum MHD_Result api_kv_op_begin(struct api_request *request);
enum MHD_Result api_kv_op(struct api_request *request);
enum MHD_Result api_batch_begin(struct api_request *request);
enum MHD_Result api_batch(struct api_request *request);
enum MHD_Result api_changes(struct api_request *request);
enum MHD_Result api_kv_list(struct api_request *request);
enum MHD_Result api_kv_delete_range(struct api_request *request);
enum MHD_Result api_export(struct api_request *request);
enum MHD_Result api_import_begin(struct api_request *request);
enum MHD_Result api_import(struct api_request *request);
enum MHD_Result api_admin_flush(struct api_request *request);
enum MHD_Result api_stats(struct api_request *request);
enum MHD_Result api_healthz(struct api_request *request);
enum MHD_Result api_readyz(struct api_request *request);
enum MHD_Result api_version(struct api_request *request);
enum MHD_Result api_openapi(struct api_request *request);
enum MHD_Result api_root(struct api_request *request);
enum MHD_Result api_docs(struct api_request *request);
enum MHD_Result api_docs_errors(struct api_request *request);
enum MHD_Result api_docs_css_file(struct api_request *request);
enum MHD_Result api_docs_viewer(struct api_request *request);

#endif
