/* Changes as JSON. See event.h. */
#include "event.h"

#include <stdlib.h>
#include <string.h>

#include "entry.h"
#include "moment.h"

enum {
    /* Numbers, names and a type of 127 bytes, each of which may take six. */
    FIXED_MAX = 2048,
    ESCAPED = 6,
};

static const char *op_name(enum storm_op_kind kind)
{
    switch (kind) {
    case STORM_PUT:
        return "put";
    case STORM_DELETE:
        return "delete";
    default:
        return "delete_range";
    }
}

/* A member of a name of its own: "start":"…", or "start_b64" for what is no UTF-8. */
static void add_bound(struct api_text *text, const char *name, struct storm_slice key)
{
    bool is_text = api_is_utf8(key);
    api_text_addf(text, ",\"%s%s\":", name, is_text ? "" : "_b64");
    if (is_text) {
        api_text_add_json(text, key);
        return;
    }
    api_text_adds(text, "\"");
    api_text_add_base64(text, key);
    api_text_adds(text, "\"");
}

static void add_value(struct api_text *text, const struct storm_change *change, size_t json_limit)
{
    if (change->value.size > API_EVENT_VALUE_MAX) {
        api_text_adds(text, ",\"value_omitted\":true");
        return;
    }
    if (!api_entry_is_json(change->value, change->meta.type, json_limit)) {
        api_text_adds(text, ",\"value_b64\":\"");
        api_text_add_base64(text, change->value);
        api_text_adds(text, "\"");
        return;
    }
    api_text_adds(text, ",\"value\":");
    size_t begin = text->size;
    api_text_add(text, change->value.data, change->value.size);
    for (size_t i = begin; i < text->size; i++) {
        if (text->data[i] == '\n' || text->data[i] == '\r')
            text->data[i] = ' ';
    }
}

static void add_tail(struct api_text *text, const struct storm_change *change)
{
    const struct storm_meta *meta = &change->meta;
    if (change->kind == STORM_PUT && meta->type.size != 0) {
        api_text_adds(text, ",\"content_type\":");
        api_text_add_json(text, meta->type);
    }
    api_text_addf(text, ",\"revision\":%llu", (unsigned long long)change->revision);
    if (change->kind != STORM_PUT)
        return;
    api_text_add_time(text, "modified_at", meta->modified_ms);
    api_text_add_time(text, "expires_at", meta->expires_ms);
}

struct api_event *api_event_make(const struct storm_change *change, size_t json_limit)
{
    struct api_event *event = calloc(1, sizeof *event);
    if (event == NULL)
        return NULL;
    struct api_text text;
    api_text_init(&text, (change->key.size + change->end.size) * ESCAPED + FIXED_MAX +
                             (size_t)API_EVENT_VALUE_MAX * 2);
    event->holders = 1;
    event->revision = change->revision;
    event->op = op_name(change->kind);
    api_text_addf(&text, "{\"op\":\"%s\"", event->op);
    if (change->kind == STORM_DELETE_RANGE) {
        add_bound(&text, "start", change->key);
        add_bound(&text, "end", change->end);
    } else {
        api_text_adds(&text, ",");
        api_add_key(&text, change->key);
    }
    event->head = text.size;
    if (change->kind == STORM_PUT)
        add_value(&text, change, json_limit);
    event->value = text.size;
    add_tail(&text, change);
    event->size = text.size;
    event->text = text.data;
    if (!text.has_failed)
        return event;
    api_event_release(event);
    return NULL;
}

void api_event_hold(struct api_event *event)
{
    atomic_fetch_add_explicit(&event->holders, 1, memory_order_relaxed);
}

void api_event_release(struct api_event *event)
{
    /* acq_rel: whoever frees it has seen all that the others did with it. */
    if (atomic_fetch_sub_explicit(&event->holders, 1, memory_order_acq_rel) != 1)
        return;
    free(event->text);
    free(event);
}

void api_event_add(const struct api_event *event, bool has_value, struct api_text *text)
{
    api_text_add(text, event->text, has_value ? event->value : event->head);
    api_text_add(text, event->text + event->value, event->size - event->value);
}
