/* What every program that opens a store itself shares: options from the configuration, and what to
 * tell people whose store does not open. No state; any thread. */
#ifndef STORM_API_STORE_H
#define STORM_API_STORE_H

#include "config.h"
#include "storm/storm.h"

/* The store's options as the configuration has them; no log function. */
void api_store_options(const struct storm_config *config, struct storm_options *options);

/* The store's sentence without the name of its directory at the front, if it begins with that: for
 * messages that have named it already. Points into `message`. */
const char *api_store_reason(const char *dir, const char *message);

/* What to do about a store that cannot be opened, as the end of a sentence ("; free some disk
 * space…"); empty when the store's own sentence is all there is. Static. */
const char *api_store_advice(storm_status status);

#endif
