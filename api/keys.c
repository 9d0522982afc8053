/* The keys file. See keys.h. */
#include "keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "target.h"
#include "text.h"

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

/* The next word of a line, cut off its front; empty at its end and at a comment. */
static struct storm_slice take_word(struct storm_slice *line)
{
    size_t start = 0;
    while (start < line->size && is_blank(line->data[start]))
        start++;
    size_t end = start;
    if (end < line->size && line->data[end] == '#')
        end = start = line->size;
    while (end < line->size && !is_blank(line->data[end]))
        end++;
    struct storm_slice word = storm_bytes(line->data + start, end - start);
    *line = storm_bytes(line->data + end, line->size - end);
    return word;
}

/* "read,write" to a set; 0 when a word in it is none of the three, or none at all. */
static unsigned read_scopes(struct storm_slice word)
{
    unsigned scopes = 0;
    for (size_t start = 0; start <= word.size;) {
        size_t end = start;
        while (end < word.size && word.data[end] != ',')
            end++;
        struct storm_slice name = storm_bytes(word.data + start, end - start);
        unsigned scope = api_equals(name, "read")    ? API_SCOPE_READ
                         : api_equals(name, "write") ? API_SCOPE_WRITE
                         : api_equals(name, "admin") ? API_SCOPE_ADMIN
                                                     : 0;
        if (scope == 0)
            return 0;
        scopes |= scope;
        start = end + 1;
    }
    return scopes;
}

/* What is wrong with a line; NULL = nothing. *is_key says whether there was a key in it. */
static const char *read_line(struct storm_slice line, struct api_key *key, bool *is_key)
{
    static const char mark[] = "sha256:";
    struct storm_slice word = take_word(&line);
    *is_key = word.size > 0;
    if (word.size == 0)
        return NULL;
    size_t skipped = sizeof mark - 1;
    if (word.size < skipped || memcmp(word.data, mark, skipped) != 0 ||
        !api_digest_read(storm_bytes(word.data + skipped, word.size - skipped), key->digest))
        return "it does not begin with sha256: and 64 hex digits, as `stormctl key` writes it";
    key->scopes = read_scopes(take_word(&line));
    if (key->scopes == 0)
        return "after the digest come the scopes, of read, write and admin, with commas between";
    word = take_word(&line);
    key->prefix = storm_bytes(NULL, 0);
    if (word.size == 0)
        return NULL;
    static const char name[] = "prefix=";
    skipped = sizeof name - 1;
    if (word.size <= skipped || memcmp(word.data, name, skipped) != 0 || take_word(&line).size > 0)
        return "after the scopes comes at most prefix=PREFIX, its blanks written as %20";
    /* The text is the table's own copy. */
    uint8_t *bytes = (uint8_t *)word.data + skipped;
    size_t size = word.size - skipped;
    if (!api_percent_decode(bytes, &size, false))
        return "the prefix has a % that two hex digits do not follow; a % itself is %25";
    key->prefix = storm_bytes(bytes, size);
    if ((key->scopes & API_SCOPE_ADMIN) != 0)
        return "admin concerns the whole store, so it cannot have a prefix";
    return NULL;
}

static struct api_keys *make_table(struct storm_slice text)
{
    struct api_keys *keys = calloc(1, sizeof *keys);
    if (keys == NULL)
        return NULL;
    keys->references = 1;
    keys->keys = calloc(API_KEYS_MAX, sizeof *keys->keys);
    keys->text = malloc(text.size + 1);
    if (keys->keys == NULL || keys->text == NULL) {
        api_keys_unref(keys);
        return NULL;
    }
    if (text.size > 0)
        memcpy(keys->text, text.data, text.size);
    return keys;
}

static const struct api_key *find_digest(const struct api_keys *keys,
                                         const uint8_t digest[API_DIGEST_SIZE])
{
    const struct api_key *found = NULL;
    for (size_t i = 0; i < keys->count; i++) {
        if (api_digest_equals(keys->keys[i].digest, digest))
            found = &keys->keys[i];
    }
    return found;
}

/* Add the key of a line, if there is one. NULL, or what is wrong; `earlier` is another line's
 * number. */
static const char *add_line(struct api_keys *keys, struct storm_slice line, unsigned number,
                            unsigned *earlier)
{
    struct api_key key = {.line = number};
    bool is_key;
    const char *fault = read_line(line, &key, &is_key);
    if (fault != NULL || !is_key)
        return fault;
    if (keys->count == API_KEYS_MAX)
        return "there are more than 1,024 keys";
    const struct api_key *same = find_digest(keys, key.digest);
    if (same != NULL) {
        *earlier = same->line;
        return "the same key is already on line";
    }
    keys->keys[keys->count++] = key;
    return NULL;
}

struct api_keys *api_keys_parse(struct storm_slice text, const char *name, char *error,
                                size_t error_size)
{
    struct api_keys *keys = make_table(text);
    if (keys == NULL) {
        snprintf(error, error_size, "%s: out of memory", name);
        return NULL;
    }
    unsigned number = 0;
    for (size_t start = 0; start < text.size;) {
        size_t end = start;
        while (end < text.size && keys->text[end] != '\n')
            end++;
        unsigned earlier = 0;
        const char *fault =
            add_line(keys, storm_bytes(keys->text + start, end - start), ++number, &earlier);
        if (fault != NULL) {
            char tail[16] = "";
            if (earlier != 0)
                snprintf(tail, sizeof tail, " %u", earlier);
            snprintf(error, error_size, "%s:%u: %s%s", name, number, fault, tail);
            api_keys_unref(keys);
            return NULL;
        }
        start = end + 1;
    }
    if (keys->count == 0) {
        snprintf(error, error_size,
                 "%s: there is no key in it, so nobody could do anything; `stormctl key` makes one",
                 name);
        api_keys_unref(keys);
        return NULL;
    }
    return keys;
}

/* What keeps a file from being trusted; NULL = nothing. */
static const char *file_fault(const struct stat *file)
{
    if (!S_ISREG(file->st_mode))
        return "it is no file";
    if (file->st_uid != 0 && file->st_uid != geteuid())
        return "it belongs to another user: chown it to the server's user or to root";
    if ((file->st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return "others than its owner may write to it and so let themselves in: chmod go-w";
    if (file->st_size > API_KEYS_FILE_MAX)
        return "it is larger than 1 MiB";
    return NULL;
}

struct api_keys *api_keys_load(const char *path, char *error, size_t error_size)
{
    struct stat file;
    struct api_keys *keys = NULL;
    char *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &file) != 0) {
        snprintf(error, error_size, "cannot read auth.keys_file %s: %s", path, strerror(errno));
        goto out;
    }
    const char *fault = file_fault(&file);
    if (fault != NULL) {
        snprintf(error, error_size, "auth.keys_file %s is refused: %s", path, fault);
        goto out;
    }
    text = malloc(API_KEYS_FILE_MAX + 1);
    ssize_t size = text == NULL ? -1 : read(fd, text, API_KEYS_FILE_MAX + 1);
    if (size < 0)
        snprintf(error, error_size, "cannot read auth.keys_file %s: %s", path, strerror(errno));
    else
        keys = api_keys_parse(storm_bytes(text, (size_t)size), path, error, error_size);
out:
    free(text);
    if (fd >= 0)
        close(fd);
    return keys;
}

struct api_keys *api_keys_ref(struct api_keys *keys)
{
    atomic_fetch_add_explicit(&keys->references, 1, memory_order_relaxed);
    return keys;
}

void api_keys_unref(struct api_keys *keys)
{
    /* acq_rel: whoever frees it comes after all that read it. */
    if (keys == NULL || atomic_fetch_sub_explicit(&keys->references, 1, memory_order_acq_rel) != 1)
        return;
    free(keys->keys);
    free(keys->text);
    free(keys);
}

const struct api_key *api_keys_find(const struct api_keys *keys, struct storm_slice secret)
{
    uint8_t digest[API_DIGEST_SIZE];
    return api_secret_digest(secret, digest) ? find_digest(keys, digest) : NULL;
}

struct storm_slice api_bearer(struct storm_slice field)
{
    static const char word[] = "bearer";
    enum { WORD = sizeof word - 1 };
    struct storm_slice none = storm_bytes(NULL, 0);
    field = api_trim(field);
    if (field.size <= WORD || !api_equals_nocase(storm_bytes(field.data, WORD), word) ||
        field.data[WORD] != ' ')
        return none;
    struct storm_slice token = api_trim(storm_bytes(field.data + WORD, field.size - WORD));
    for (size_t i = 0; i < token.size; i++) {
        if (token.data[i] <= ' ' || token.data[i] >= 0x7f)
            return none;
    }
    return token;
}
