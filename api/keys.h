/*
 * The keys of a server: auth.keys_file as a table. One line is one key:
 *
 *     sha256:9f86...0f00a08  read,write  prefix=user:   # Ada's importer
 *
 * The digest of the key (secret.h), its scopes, and, percent-encoded, what all keys of the store
 * that it may touch begin with. A '#' at the start of a line or after a blank begins a comment.
 * `stormctl key` writes such lines.
 *
 * A table never changes. Requests hold a reference to the one that let them in, so another can take
 * its place at any time. Threads: any; references are counted atomically.
 */
#ifndef STORM_API_KEYS_H
#define STORM_API_KEYS_H

#include <stdatomic.h>
#include <stddef.h>

#include "auth.h"
#include "secret.h"

enum {
    /* Looking one up compares with all of them, at some 10 ns each. */
    API_KEYS_MAX = 1024,
    API_KEYS_FILE_MAX = 1 << 20,
};

struct api_key {
    uint8_t digest[API_DIGEST_SIZE];
    unsigned scopes;
    unsigned line; /* in the file */
    struct storm_slice prefix;
};

struct api_keys {
    _Atomic unsigned references;
    size_t count;
    struct api_key *keys;
    uint8_t *text; /* what the prefixes point into */
};

/*
 * Read a text or a file; the caller has the one reference. NULL with a sentence in `error`, which
 * names file and line and never has anything of the line in it: it may hold a key that somebody
 * pasted. A file is refused when others than its owner may write to it, or it belongs to another
 * user than root and this process's: whoever can write to it can let himself in.
 */
struct api_keys *api_keys_parse(struct storm_slice text, const char *name, char *error,
                                size_t error_size);
struct api_keys *api_keys_load(const char *path, char *error, size_t error_size);

struct api_keys *api_keys_ref(struct api_keys *keys);
void api_keys_unref(struct api_keys *keys); /* NULL is fine */

/* The entry of a key as the client sent it, or NULL. Takes the same time whatever was sent. */
const struct api_key *api_keys_find(const struct api_keys *keys, struct storm_slice secret);

/* What stands after "Bearer" in an Authorization field; empty when it is not of that form. */
struct storm_slice api_bearer(struct storm_slice field);

#endif
