/*
 * One entry of the store as JSON: {"key":…,"value":…,"revision":…,"modified_at":…,"expires_at":…}.
 *
 * A value that is JSON stands inline, byte for byte, under "value"; any other is base64 under
 * "value_b64". A key that is no UTF-8 is base64 under "key_b64". The type, where there is one, is
 * "content_type"; base64 always has one. The object is written whole, or in two halves with the
 * value between them, so that a large value need not be copied:
 *
 *   api_entry_begin   {"key":"a","value":        or   {"key":"a","value_b64":"
 *   the caller        {"n":1}                    or   aGVsbG8=
 *   api_entry_end     ,"revision":7,…}           or   ","content_type":"text/plain",…}
 *
 * No state; any thread.
 */
#ifndef STORM_API_ENTRY_H
#define STORM_API_ENTRY_H

#include "storm/storm.h"
#include "text.h"

/* The most bytes that both halves take together for a key of `key_size` bytes. */
size_t api_entry_room(size_t key_size);

/* Add "key":"..." or, for bytes that are no UTF-8, "key_b64":"...". */
void api_add_key(struct api_text *text, struct storm_slice key);

/*
 * Whether a value stands inline: its type says JSON, it is JSON (a user of the library may have
 * failed to see to that), and it is not longer than `json_limit`, since the check takes 20 times
 * the memory.
 */
bool api_entry_is_json(struct storm_slice value, struct storm_slice type, size_t json_limit);

/* How the value of a whole entry is written. */
enum api_entry_style {
    API_ENTRY_PLAIN, /* byte for byte */
    /* The entry is one line. Line breaks of a JSON value become blanks: inside strings JSON has
     * none, and elsewhere both mean nothing. */
    API_ENTRY_LINE,
    /* The entry is one line and says every byte: JSON with line breaks is base64. */
    API_ENTRY_EXACT,
};

struct api_entry {
    struct storm_slice key;
    struct storm_slice value;
    struct storm_meta meta;
    uint64_t revision;
};

/* Add a whole entry, without a line break at its end. */
void api_entry_add(struct api_text *text, const struct api_entry *entry, enum api_entry_style style,
                   size_t json_limit);

void api_entry_begin(struct api_text *text, struct storm_slice key, bool is_json);
void api_entry_end(struct api_text *text, const struct storm_meta *meta, uint64_t revision,
                   bool is_json);

#endif
