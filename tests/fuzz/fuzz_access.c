/*
 * What decides who gets in: the keys file, Authorization, Host, Origin. The input's first byte says
 * which of them the rest is. All of it lies in memory of exactly its size, so that a byte read past
 * the end is a report.
 */
#include <stdlib.h>
#include <string.h>

#include "guard.h"
#include "keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void read_keys(struct storm_slice text)
{
    char error[256] = "";
    struct api_keys *keys = api_keys_parse(text, "keys", error, sizeof error);
    require((keys == NULL) == (error[0] != '\0'));
    for (size_t i = 0; keys != NULL && i < keys->count; i++) {
        const struct api_key *key = &keys->keys[i];
        require(key->scopes != 0 && (key->scopes & ~(unsigned)API_SCOPE_ALL) == 0);
        require(key->prefix.size == 0 || (key->scopes & API_SCOPE_ADMIN) == 0);
        require(key->prefix.size == 0 ||
                (key->prefix.data >= keys->text && key->prefix.data < keys->text + text.size));
        for (size_t j = 0; j < i; j++)
            require(!api_digest_equals(key->digest, keys->keys[j].digest));
    }
    api_keys_unref(keys);
}

static void read_bearer(struct storm_slice field)
{
    struct storm_slice token = api_bearer(field);
    require(token.size == 0 ||
            (token.data >= field.data && token.data + token.size <= field.data + field.size));
    for (size_t i = 0; i < token.size; i++)
        require(token.data[i] > ' ' && token.data[i] < 0x7f);
}

/* Cut at the first newline into Host and Origin. */
static void read_hosts(struct storm_slice text)
{
    const uint8_t *end = text.size == 0 ? NULL : memchr(text.data, '\n', text.size);
    size_t length = end == NULL ? text.size : (size_t)(end - text.data);
    struct storm_slice host = storm_bytes(text.data, length);
    struct storm_slice origin = end == NULL ? host : storm_bytes(end + 1, text.size - length - 1);
    bool is_this = api_host_is_known(host, "", true);
    /* Whoever is let in where little is known is let in where more is. */
    require(!is_this || api_host_is_known(host, "", false));
    require(!is_this || api_host_is_known(host, "a.example", true));
    require(host.size == 0 || host.data[0] == ':' || !is_this || host.size >= 5);
    bool is_own = api_origin_is_own(origin, host);
    require(!is_own || origin.size >= sizeof "http://x" - 1);
    bool is_listed = api_origin_is_listed(origin, "https://a.example,http://b:1");
    require(!is_listed || origin.size == sizeof "https://a.example" - 1 ||
            origin.size == sizeof "http://b:1" - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint8_t kind = data[0];
    uint8_t *owned = malloc(size);
    require(owned != NULL);
    memcpy(owned, data + 1, size - 1);
    uint8_t *exact = realloc(owned, size > 1 ? size - 1 : 1);
    require(exact != NULL);
    struct storm_slice text = storm_bytes(exact, size - 1);
    if (kind == 'k')
        read_keys(text);
    else if (kind == 'a')
        read_bearer(text);
    else
        read_hosts(text);
    free(exact);
    return 0;
}
