/* Keys and their digests. See secret.h. */
#include "secret.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>
#include <sys/random.h>

#include "text.h"

bool api_secret_make(char text[API_SECRET_TEXT])
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    static const char mark[] = "storm_"; /* what scanners for leaked keys look for */
    uint8_t bytes[33] = {0};             /* one more than is random: 43 letters are 258 bits */
    if (getrandom(bytes, 32, 0) != 32)
        return false;
    memcpy(text, mark, sizeof mark - 1);
    char *out = text + sizeof mark - 1;
    for (int i = 0; i < 43; i++) {
        int bit = i * 6;
        unsigned pair = (unsigned)bytes[bit / 8] << 8 | bytes[bit / 8 + 1];
        out[i] = letters[pair >> (10 - bit % 8) & 63];
    }
    out[43] = '\0';
    explicit_bzero(bytes, sizeof bytes);
    return true;
}

bool api_secret_digest(struct storm_slice key, uint8_t digest[API_DIGEST_SIZE])
{
    return gnutls_hash_fast(GNUTLS_DIG_SHA256, key.data, key.size, digest) == 0;
}

char *api_digest_write(const uint8_t digest[API_DIGEST_SIZE], char text[API_DIGEST_TEXT])
{
    for (int i = 0; i < API_DIGEST_SIZE; i++) {
        text[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    text[API_DIGEST_TEXT - 1] = '\0';
    return text;
}

bool api_digest_read(struct storm_slice text, uint8_t digest[API_DIGEST_SIZE])
{
    if (text.size != API_DIGEST_TEXT - 1)
        return false;
    for (int i = 0; i < API_DIGEST_SIZE; i++) {
        int high = api_hex_digit(text.data[2 * i]);
        int low = api_hex_digit(text.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        digest[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool api_digest_equals(const uint8_t a[API_DIGEST_SIZE], const uint8_t b[API_DIGEST_SIZE])
{
    return gnutls_memcmp(a, b, API_DIGEST_SIZE) == 0;
}
