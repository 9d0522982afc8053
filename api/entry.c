/* Entries as JSON. See entry.h. */
#include "entry.h"

#include "fields.h"
#include "json.h"
#include "moment.h"

/* All but the key, with room to spare: three numbers, and 127 bytes of type, six for each at worst. */
enum { FIXED_ROOM = 1024 };

size_t api_entry_room(size_t key_size)
{
    /* A control character takes six bytes. */
    return key_size * 6 + FIXED_ROOM;
}

void api_add_key(struct api_text *text, struct storm_slice key)
{
    if (api_is_utf8(key)) {
        api_text_adds(text, "\"key\":");
        api_text_add_json(text, key);
        return;
    }
    api_text_adds(text, "\"key_b64\":\"");
    api_text_add_base64(text, key);
    api_text_adds(text, "\"");
}

bool api_entry_is_json(struct storm_slice value, struct storm_slice type, size_t json_limit)
{
    struct api_json_error error;
    return api_media_is_json(type) && value.size <= json_limit && api_json_check(value, &error);
}

void api_entry_begin(struct api_text *text, struct storm_slice key, bool is_json)
{
    api_text_adds(text, "{");
    api_add_key(text, key);
    api_text_adds(text, is_json ? ",\"value\":" : ",\"value_b64\":\"");
}

void api_entry_end(struct api_text *text, const struct storm_meta *meta, uint64_t revision,
                   bool is_json)
{
    if (!is_json)
        api_text_adds(text, "\"");
    if (meta->type.size != 0) {
        api_text_adds(text, ",\"content_type\":");
        api_text_add_json(text, meta->type);
    }
    api_text_addf(text, ",\"revision\":%llu", (unsigned long long)revision);
    api_text_add_time(text, "modified_at", meta->modified_ms);
    api_text_add_time(text, "expires_at", meta->expires_ms);
    api_text_adds(text, "}\n");
}
