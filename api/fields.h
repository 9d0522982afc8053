/*
 * Header fields with a grammar of their own: entity tags, Prefer, media types, Accept. They take
 * the field's value as it came and keep no state; any thread.
 */
#ifndef STORM_API_FIELDS_H
#define STORM_API_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storm/storm.h"

/* As many as one condition of the store takes. */
enum { API_TAGS_MAX = 64 };

/*
 * If-Match or If-None-Match. Tags that no revision of ours can have are legal and never match, so
 * they leave no trace but `is_present`.
 */
struct api_tags {
    bool is_present; /* the field was sent */
    bool is_any;     /* it was "*" */
    size_t count;
    uint64_t revisions[API_TAGS_MAX];
};

/*
 * Parse a list of entity tags. A "-gz" before the closing quote is ignored: it is how compressed
 * answers are told apart. With `is_strong` (If-Match) weak tags never match; without it
 * (If-None-Match) W/"7" is as good as "7". False when it is no such list or has more than
 * API_TAGS_MAX tags.
 */
bool api_tags_parse(struct storm_slice field, bool is_strong, struct api_tags *tags);

bool api_tags_match(const struct api_tags *tags, uint64_t revision);

/* What Prefer asks of the answer's body; preferences we do not know are ignored (RFC 7240). */
enum api_prefer { API_PREFER_NONE, API_PREFER_MINIMAL, API_PREFER_REPRESENTATION };
enum api_prefer api_prefer_parse(struct storm_slice field);

/* How a PUT's body is treated, by its Content-Type alone. */
enum api_media {
    API_MEDIA_JSON,    /* must be JSON; stored type empty = application/json */
    API_MEDIA_JSON_AS, /* must be JSON; the type is stored as sent */
    API_MEDIA_BYTES,   /* not looked at; the type is stored as sent */
    API_MEDIA_REFUSED, /* multipart/..., or no media type at all, or too long */
};
enum { API_MEDIA_TYPE_MAX = 127 };
enum api_media api_media_parse(struct storm_slice field);

/* Whether a stored type is JSON: empty, application/json or anything + "+json". */
bool api_media_is_json(struct storm_slice type);

/* Whether Accept names the type itself (wildcards do not count: they express no wish). */
bool api_accept_names(struct storm_slice field, const char *type);

#endif
