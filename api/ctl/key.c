/*
 * stormctl key: a new key, and the line for auth.keys_file that lets it in. The key itself is
 * printed once and kept nowhere.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "secret.h"
#include "text.h"

const struct ctl_option ctl_key_options[] = {
    {"scopes", "LIST", "what it may do, of read, write and admin with commas between; read,write"},
    {"prefix", "P", "only with keys of the store that begin with P"},
    {"note", "TEXT", "who has it, for the file's comment"},
    {"file", "FILE", "append the line to this file instead of printing it"},
    {"json", NULL, "one JSON object instead of text"},
    {NULL, NULL, NULL},
};

enum { LINE_MAX_BYTES = 16384 };

static bool are_scopes(const char *list)
{
    for (;;) {
        size_t length = strcspn(list, ",");
        struct storm_slice word = storm_bytes(list, length);
        if (!api_equals(word, "read") && !api_equals(word, "write") && !api_equals(word, "admin"))
            return false;
        if (list[length] == '\0')
            return true;
        list += length + 1;
    }
}

static bool has_control(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    }
    return false;
}

/* "sha256:... read,write prefix=... # note" and a newline. */
static void make_line(struct api_text *line, const char *digest, const char *scopes,
                      struct storm_slice prefix, const char *note)
{
    api_text_addf(line, "sha256:%s %s", digest, scopes);
    if (prefix.size > 0)
        api_text_adds(line, " prefix=");
    for (size_t i = 0; i < prefix.size; i++) {
        uint8_t byte = prefix.data[i];
        if (byte <= ' ' || byte >= 0x7f || byte == '%')
            api_text_addf(line, "%%%02X", byte);
        else
            api_text_add(line, &byte, 1);
    }
    if (note != NULL)
        api_text_addf(line, " # %s", note);
    api_text_adds(line, "\n");
}

/* A file that is not there is made for its owner alone; nobody else needs to read it. */
static enum ctl_exit append(const char *path, const struct api_text *line)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    bool is_written =
        fd >= 0 && write(fd, line->data, line->size) == (ssize_t)line->size && fsync(fd) == 0;
    int failed = errno;
    if (fd >= 0)
        close(fd);
    if (is_written)
        return CTL_OK;
    fprintf(stderr, "stormctl key: cannot write to %s: %s; no key was made\n", path,
            strerror(failed));
    return failed == EACCES || failed == EPERM ? CTL_DENIED : CTL_FAILED;
}

static void put_json(const char *secret, const char *scopes, struct storm_slice prefix,
                     const struct api_text *line)
{
    struct api_text text;
    api_text_init(&text, LINE_MAX_BYTES * 2);
    api_text_addf(&text, "{\n  \"key\": \"%s\",\n  \"scopes\": \"%s\",\n  \"prefix\": ", secret,
                  scopes);
    api_text_add_json(&text, prefix);
    api_text_adds(&text, ",\n  \"line\": ");
    api_text_add_json(&text, storm_bytes(line->data, line->size - 1));
    api_text_adds(&text, "\n}\n");
    if (!text.has_failed)
        fwrite(text.data, 1, text.size, stdout);
    api_text_fini(&text);
}

enum ctl_exit ctl_key(const struct ctl_call *call)
{
    const char *scopes = ctl_text(call, "scopes");
    const char *note = ctl_text(call, "note");
    const char *path = ctl_text(call, "file");
    struct storm_slice prefix = ctl_bytes(call, "prefix");
    scopes = scopes == NULL ? "read,write" : scopes;
    if (!are_scopes(scopes))
        return ctl_misuse(call->command,
                          "--scopes takes read, write and admin, with commas between");
    if (prefix.size > 0 && strstr(scopes, "admin") != NULL)
        return ctl_misuse(call->command,
                          "admin concerns the whole store, so it cannot have a --prefix");
    if (note != NULL && has_control(note))
        return ctl_misuse(call->command, "--note has a control character");

    char secret[API_SECRET_TEXT], digest_text[API_DIGEST_TEXT];
    uint8_t digest[API_DIGEST_SIZE];
    if (!api_secret_make(secret) || !api_secret_digest(storm_text(secret), digest)) {
        fputs("stormctl key: the system has no random bytes\n", stderr);
        return CTL_FAILED;
    }
    struct api_text line;
    api_text_init(&line, LINE_MAX_BYTES);
    make_line(&line, api_digest_write(digest, digest_text), scopes, prefix, note);
    enum ctl_exit code = CTL_OK;
    if (line.has_failed) {
        fputs("stormctl key: the prefix or the note is too long\n", stderr);
        code = CTL_FAILED;
    } else if (path != NULL) {
        code = append(path, &line);
    }
    if (code == CTL_OK && ctl_flag(call, "json")) {
        put_json(secret, scopes, prefix, &line);
    } else if (code == CTL_OK) {
        printf("%s\n", secret);
        if (path == NULL) {
            fputs("The line above is the key; it is shown this once. This one goes into the file "
                  "that "
                  "auth.keys_file names:\n",
                  stderr);
            fwrite(line.data, 1, line.size, stdout);
        }
    }
    explicit_bzero(secret, sizeof secret);
    api_text_fini(&line);
    return code;
}
