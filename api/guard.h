/*
 * What protects users with a browser: the Host and Origin of a request, and CORS.
 *
 * Host. A page can give its own name the server's address (DNS rebinding) and is then of the same
 * origin as the server, for the browser. So a server on a loopback address, which relies on nobody
 * else reaching it, takes only Host fields that name this machine; any server with http.hosts takes
 * those names, the loopback ones, and addresses, which no name service can turn.
 *
 * Origin. A browser says which page a writing request comes from. Another origin than the server's
 * own has to be in http.cors_origins.
 *
 * CORS. Pages of those origins may read answers: Access-Control-Allow-Origin, and the fields that
 * they may see. Credentials are never allowed: keys are sent by the page itself, not by the
 * browser.
 *
 * No state beside the configuration; any thread.
 */
#ifndef STORM_API_GUARD_H
#define STORM_API_GUARD_H

#include <microhttpd.h>
#include <stdbool.h>

#include "config.h"
#include "storm/storm.h"

struct api_request;
struct api_answer;

struct api_guard {
    const char *hosts;   /* NULL = any Host */
    const char *origins; /* NULL = no CORS */
    bool is_loopback;    /* of the address that is listened on */
};

void api_guard_init(struct api_guard *guard, const struct storm_config *config);

/* Whether the request may go on; false = it has been answered, which a preflight is too. */
bool api_guard_admits(struct api_request *request, const char *method, enum MHD_Result *result);

/* Add what CORS demands of every answer; only with guard->origins. */
void api_guard_answer(const struct api_request *request, struct api_answer *answer);

/* The parts of it, for tests: whether a Host field names this server, an Origin field one that is
 * listed, or the one that the Host field stands for. `list` is as in the configuration. */
bool api_host_is_known(struct storm_slice field, const char *list, bool is_loopback);
bool api_origin_is_listed(struct storm_slice field, const char *list);
bool api_origin_is_own(struct storm_slice field, struct storm_slice host);

#endif
