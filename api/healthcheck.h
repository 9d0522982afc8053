/* `stormd healthcheck`, for images without curl. */
#ifndef STORM_API_HEALTHCHECK_H
#define STORM_API_HEALTHCHECK_H

#include <stdbool.h>

/* Ask the server at `address` (HOST:PORT as in --listen) for /healthz. The exit code: 0 when it
 * answers 200 within three seconds, else 1 with a line on standard error. */
int api_healthcheck(const char *address, bool has_tls);

#endif
