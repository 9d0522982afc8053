/*
 * stormctl dump: entries to standard output, as NDJSON or as text.
 *
 * Memory stays flat whatever the store holds: one entry is written at a time, straight from where
 * the iterator has it, base64 in pieces. Only the check that a JSON value is JSON takes a multiple
 * of it, hence JSON_LIMIT; a longer value is base64 with its type.
 *
 * A JSON value is stored as it was sent, line breaks included. One entry has to be one line, so
 * they become blanks: inside strings JSON has none, and elsewhere both mean nothing.
 */
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "entry.h"

const struct ctl_option ctl_dump_options[] = {
    {"prefix", "P", "only keys that begin with P"},
    {"start", "KEY", "only from this key on"},
    {"end", "KEY", "only up to this key, which is not included"},
    {"limit", "N", "at most N entries"},
    {"keys-only", NULL, "leave the values out, and the times that are kept with them"},
    {"format", "FORMAT", "ndjson (unless told) or text"},
    {NULL, NULL, NULL},
};

enum {
    /* The server's default for limits.json_bytes. */
    JSON_LIMIT = 8 << 20,
    /* A multiple of 3, so that base64 of the pieces is base64 of the whole. */
    BASE64_PIECE = 48 << 10,
    KEY_MAX = 65535,
};

struct dump {
    struct api_text text; /* emptied for each piece */
    uint64_t limit;
    uint64_t count; /* entries written so far */
    bool is_text;
    bool keys_only;
};

/* Write and empty what has been gathered. False when output or memory has failed. */
static bool put_text(struct dump *dump)
{
    bool is_fine = !dump->text.has_failed && ctl_put(dump->text.data, dump->text.size);
    dump->text.size = 0;
    return is_fine;
}

static bool is_line_break(uint8_t byte)
{
    return byte == '\n' || byte == '\r';
}

static bool put_json_value(struct storm_slice value)
{
    size_t start = 0;
    for (size_t at = 0; at < value.size; at++) {
        if (!is_line_break(value.data[at]))
            continue;
        if (!ctl_put(value.data + start, at - start) || !ctl_put(" ", 1))
            return false;
        start = at + 1;
    }
    return ctl_put(value.data + start, value.size - start);
}

static bool put_base64(struct dump *dump, struct storm_slice value)
{
    for (size_t at = 0; at < value.size; at += BASE64_PIECE) {
        size_t size = value.size - at < BASE64_PIECE ? value.size - at : BASE64_PIECE;
        api_text_add_base64(&dump->text, storm_bytes(value.data + at, size));
        if (!put_text(dump))
            return false;
    }
    return true;
}

static bool put_ndjson_key(struct dump *dump, const storm_iter *iter)
{
    api_text_adds(&dump->text, "{");
    api_add_key(&dump->text, storm_iter_key(iter));
    api_text_addf(&dump->text, ",\"revision\":%llu}\n",
                  (unsigned long long)storm_iter_revision(iter));
    return put_text(dump);
}

static bool put_ndjson(struct dump *dump, const storm_iter *iter)
{
    struct storm_slice value = storm_iter_value(iter);
    struct storm_meta meta = storm_iter_meta(iter);
    bool is_json = api_entry_is_json(value, meta.type, JSON_LIMIT);
    api_entry_begin(&dump->text, storm_iter_key(iter), is_json);
    if (!put_text(dump) || !(is_json ? put_json_value(value) : put_base64(dump, value)))
        return false;
    api_entry_end(&dump->text, &meta, storm_iter_revision(iter), is_json);
    return put_text(dump);
}

/* How a byte stands in a line of text; NULL when as itself. */
static const char *escape(uint8_t byte, bool is_utf8, char hex[5])
{
    switch (byte) {
    case '\t':
        return "\\t";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\\':
        return "\\\\";
    default:
        if (byte >= ' ' && byte != 0x7f && (byte < 0x80 || is_utf8))
            return NULL;
        snprintf(hex, 5, "\\x%02x", byte);
        return hex;
    }
}

static bool put_escaped(struct storm_slice bytes)
{
    bool is_utf8 = api_is_utf8(bytes);
    size_t start = 0;
    char hex[5];
    for (size_t at = 0; at < bytes.size; at++) {
        const char *word = escape(bytes.data[at], is_utf8, hex);
        if (word == NULL)
            continue;
        if (!ctl_put(bytes.data + start, at - start) || !ctl_put(word, strlen(word)))
            return false;
        start = at + 1;
    }
    return bytes.size == 0 || ctl_put(bytes.data + start, bytes.size - start);
}

static bool put_line(const struct dump *dump, const storm_iter *iter)
{
    if (!put_escaped(storm_iter_key(iter)))
        return false;
    if (!dump->keys_only && !(ctl_put("\t", 1) && put_escaped(storm_iter_value(iter))))
        return false;
    return ctl_put("\n", 1);
}

static bool put_entry(struct dump *dump, const storm_iter *iter)
{
    if (dump->is_text)
        return put_line(dump, iter);
    return dump->keys_only ? put_ndjson_key(dump, iter) : put_ndjson(dump, iter);
}

/* True unless output or memory has failed; the iterator's status is its own affair. */
static bool put_entries(struct dump *dump, storm_iter *iter)
{
    /* Nothing behind the last entry that is wanted is looked at: it may be damaged. */
    for (storm_iter_first(iter); storm_iter_valid(iter); storm_iter_next(iter)) {
        if (!put_entry(dump, iter))
            return false;
        if (++dump->count == dump->limit)
            break;
    }
    return true;
}

static enum ctl_exit put_end(struct dump *dump, uint64_t revision)
{
    if (!dump->is_text)
        api_text_addf(&dump->text, "{\"end\":true,\"count\":%llu,\"revision\":%llu}\n",
                      (unsigned long long)dump->count, (unsigned long long)revision);
    (void)put_text(dump);
    return CTL_OK;
}

/* What is to be seen, and how. */
static enum ctl_exit read_call(const struct ctl_call *call, struct dump *dump,
                               struct storm_iter_options *options)
{
    const char *format = ctl_text(call, "format");
    dump->limit = UINT64_MAX;
    dump->is_text = format != NULL && strcmp(format, "text") == 0;
    dump->keys_only = ctl_flag(call, "keys-only");
    if (format != NULL && !dump->is_text && strcmp(format, "ndjson") != 0)
        return ctl_misuse(call->command, "--format takes ndjson or text");
    if (ctl_flag(call, "limit") &&
        (!api_parse_number(ctl_bytes(call, "limit"), &dump->limit) || dump->limit == 0))
        return ctl_misuse(call->command, "--limit takes a number from 1 on");
    options->start = ctl_bytes(call, "start");
    options->end = ctl_bytes(call, "end");
    options->prefix = ctl_bytes(call, "prefix");
    options->keys_only = dump->keys_only;
    return CTL_OK;
}

static enum ctl_exit dump_store(struct dump *dump, struct storm_iter_options *options,
                                struct ctl_store *store)
{
    storm_iter *iter = NULL;
    storm_snapshot *snapshot = storm_snapshot_create(store->db);
    if (snapshot == NULL)
        return ctl_fail(store, STORM_NO_MEMORY, "read the store");
    options->snapshot = snapshot;
    storm_status status = storm_iter_create(store->db, options, &iter);
    enum ctl_exit code = CTL_OK;
    if (status == STORM_OK) {
        bool is_written = put_entries(dump, iter);
        status = storm_iter_status(iter);
        if (dump->text.has_failed)
            status = STORM_NO_MEMORY;
        /* An output that has failed is said at the end, or was closed by a reader that has
         * enough. */
        if (is_written && status == STORM_OK)
            code = put_end(dump, storm_snapshot_revision(snapshot));
    }
    storm_iter_destroy(iter);
    storm_snapshot_release(snapshot);
    if (status == STORM_CORRUPT)
        ctl_say(
            "the dump ends at damaged data, after %llu entries; `stormctl verify %s` lists what is "
            "wrong",
            (unsigned long long)dump->count, store->dir);
    return status == STORM_OK ? code : ctl_fail(store, status, "read the store");
}

enum ctl_exit ctl_dump(const struct ctl_call *call)
{
    struct ctl_store store;
    struct storm_iter_options options = {0};
    struct dump dump = {0};
    enum ctl_exit code = read_call(call, &dump, &options);
    if (code == CTL_OK)
        code = ctl_open(call, CTL_READ, &store, NULL, 0);
    if (code != CTL_OK)
        return code;
    size_t piece = BASE64_PIECE / 3 * 4;
    size_t room = api_entry_room(KEY_MAX);
    api_text_init(&dump.text, room > piece ? room : piece);
    code = dump_store(&dump, &options, &store);
    api_text_fini(&dump.text);
    return ctl_close(&store, code);
}
