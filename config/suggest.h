/* "Did you mean ...?" for the names of options, commands, parameters. No state; any thread. */
#ifndef STORM_CONFIG_SUGGEST_H
#define STORM_CONFIG_SUGGEST_H

#include <stddef.h>

/*
 * The name nearest to `word`, or NULL when none is near enough to be what was meant. Letters' case
 * and the difference between '.', '-' and '_' do not count; swapping two neighbours counts as one
 * slip. A word that equals only the last part of a dotted name ("sync" for "wal.sync") is near when
 * no other name has that last part. Returns one of `names`, which are borrowed.
 */
const char *config_suggest(const char *word, const char *const *names, size_t count);

#endif
