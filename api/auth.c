/*
 * Scopes and reaches. See auth.h.
 *
 * A range lies within a prefix when its own prefix does, or when it starts within it and ends at or
 * before the first key that no longer begins with it: that is the prefix with its last byte that is
 * not 0xff raised by one and the rest cut off. A prefix of nothing but 0xff has no such key, and a
 * range that starts within it may be unbounded.
 */
#include "auth.h"

#include <stdio.h>
#include <string.h>

#include "keys.h"
#include "moment.h"
#include "response.h"
#include "router.h"
#include "text.h"

/* Whether `end` is at or before the first key after all that begin with `prefix`. */
static bool ends_within(struct storm_slice end, struct storm_slice prefix)
{
    size_t last = prefix.size;
    while (last > 0 && prefix.data[last - 1] == 0xff)
        last--;
    if (last == 0)
        return true;
    if (end.size == 0)
        return false;
    size_t common = end.size < last - 1 ? end.size : last - 1;
    int order = common == 0 ? 0 : memcmp(end.data, prefix.data, common);
    if (order != 0)
        return order < 0;
    if (end.size < last)
        return true;
    uint8_t bound = (uint8_t)(prefix.data[last - 1] + 1);
    return end.data[last - 1] < bound || (end.data[last - 1] == bound && end.size == last);
}

bool api_grant_reaches(const struct api_grant *grant, const struct api_reach *reach)
{
    if (grant->prefix.size == 0)
        return true;
    if (reach->is_key)
        return api_begins_with(reach->start, grant->prefix);
    return api_begins_with(reach->prefix, grant->prefix) ||
           (api_begins_with(reach->start, grant->prefix) && ends_within(reach->end, grant->prefix));
}

/* ---- Refusals ---- */

static const char *scope_name(enum api_scope scope)
{
    switch (scope) {
    case API_SCOPE_READ:
        return "read";
    case API_SCOPE_WRITE:
        return "write";
    default:
        return "admin";
    }
}

static enum MHD_Result fail_scope(struct api_request *request, enum api_scope scope)
{
    char extras[64];
    snprintf(extras, sizeof extras, ",\"missing_scope\":\"%s\"", scope_name(scope));
    struct api_failure failure = {.code = API_ERROR_forbidden_scope, .extras = extras};
    return api_fail(request, &failure, "This takes the scope %s, which the key does not have.",
                    scope_name(scope));
}

/* The holder of a key may know what it is limited to. */
static enum MHD_Result fail_prefix(struct api_request *request, bool is_key)
{
    enum { EXTRAS_MAX = 8192 };
    struct api_text extras;
    api_text_init(&extras, EXTRAS_MAX);
    api_text_adds(&extras, ",\"allowed_prefix\":");
    api_text_add_json(&extras, request->grant.prefix);
    api_text_add(&extras, "", 1);
    struct api_failure failure = {
        .code = API_ERROR_forbidden_prefix,
        .extras = extras.has_failed ? NULL : extras.data,
    };
    enum MHD_Result result =
        api_fail(request, &failure, "%s",
                 is_key ? "The key of this request is limited to other keys of the store."
                        : "The key of this request is limited to a part of the store; this "
                          "concerns more.");
    api_text_fini(&extras);
    return result;
}

bool api_may(struct api_request *request, enum api_scope scope, const struct api_reach *reach,
             enum MHD_Result *result)
{
    request->grant.has_asked = true;
    if ((request->grant.scopes & scope) == 0) {
        *result = fail_scope(request, scope);
        return false;
    }
    if (api_grant_reaches(&request->grant, reach))
        return true;
    *result = fail_prefix(request, reach->is_key);
    return false;
}

static enum MHD_Result fail_unauthorized(struct api_request *request)
{
    bool was_sent = api_has_header(request, API_HEADER_AUTHORIZATION);
    struct api_failure failure = {
        .code = API_ERROR_unauthorized,
        .header = "WWW-Authenticate",
        .header_value = was_sent ? "Bearer realm=\"Storm DB\", error=\"invalid_token\""
                                 : "Bearer realm=\"Storm DB\"",
    };
    return api_fail(request, &failure, "%s",
                    was_sent ? "The Authorization field has no key of this server."
                             : "This takes a key.");
}

/* The client has spent what it may in a second? *result is then the answer. */
static bool is_over_rate(struct api_request *request, struct api_client_id client,
                         enum MHD_Result *result)
{
    struct api_clients *clients = &request->server->clients;
    if (clients->rate == 0)
        return false;
    unsigned wait_s = api_clients_take(clients, client, api_monotonic_ns());
    if (wait_s == 0)
        return false;
    request->retry_after_s = wait_s;
    *result = api_fail_code(request, API_ERROR_rate_limited,
                            "This client has made more than %llu requests in a second.",
                            (unsigned long long)clients->rate);
    return true;
}

/* Find the key that was sent and take its grant. A request without a good one counts against its
 * address, so that guessing is no way round the limit. */
static bool identify(struct api_request *request, enum MHD_Result *result)
{
    struct api_server *server = request->server;
    struct storm_slice secret = api_bearer(api_header(request, API_HEADER_AUTHORIZATION));
    pthread_mutex_lock(&server->keys_mu);
    struct api_keys *keys = api_keys_ref(server->keys);
    pthread_mutex_unlock(&server->keys_mu);
    const struct api_key *key = secret.size == 0 ? NULL : api_keys_find(keys, secret);
    if (key == NULL) {
        api_keys_unref(keys);
        if (!is_over_rate(request, request->client, result))
            *result = fail_unauthorized(request);
        return false;
    }
    request->keys = keys;
    request->grant = (struct api_grant){.scopes = key->scopes, .prefix = key->prefix};
    return !is_over_rate(request, api_client_of_digest(key->digest), result);
}

bool api_admit(struct api_request *request, enum MHD_Result *result)
{
    const struct api_route *route = request->route;
    if (route->scope == API_SCOPE_OPEN)
        return true;
    if (request->server->has_keys) {
        if (!identify(request, result))
            return false;
    } else if (is_over_rate(request, request->client, result)) {
        return false;
    }
    if (route->scope == API_SCOPE_ANY)
        return true;
    if ((request->grant.scopes & route->scope) == 0) {
        *result = fail_scope(request, route->scope);
        return false;
    }
    if (route->has_key || (route->flags & API_ROUTE_ASKS) != 0 || request->grant.prefix.size == 0)
        return true;
    *result = fail_prefix(request, false);
    return false;
}
