/*
 * Bearer keys: 256 random bits, written as "storm_" and 43 letters of base64url, of which the
 * server only ever keeps the SHA-256. A digest that fast is safe because what it hides cannot be
 * guessed; it would not be for a password. No state; any thread.
 */
#ifndef STORM_API_SECRET_H
#define STORM_API_SECRET_H

#include <stdbool.h>
#include <stdint.h>

#include "storm/storm.h"

enum {
    API_DIGEST_SIZE = 32,
    API_DIGEST_TEXT = 64 + 1,    /* in hex, terminated */
    API_SECRET_TEXT = 6 + 43 + 1 /* a new key, terminated */
};

/* A new key; false when the system has no random bytes. */
bool api_secret_make(char text[API_SECRET_TEXT]);

/* The digest of a key as the client sends it; false when the library fails, which takes a broken
 * installation. */
bool api_secret_digest(struct storm_slice key, uint8_t digest[API_DIGEST_SIZE]);

char *api_digest_write(const uint8_t digest[API_DIGEST_SIZE], char text[API_DIGEST_TEXT]);
bool api_digest_read(struct storm_slice text, uint8_t digest[API_DIGEST_SIZE]);

/* Equal or not, in a time that does not depend on the bytes. */
bool api_digest_equals(const uint8_t a[API_DIGEST_SIZE], const uint8_t b[API_DIGEST_SIZE]);

#endif
