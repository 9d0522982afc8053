/*
 * The body of POST /batch, from text to operations:
 *
 *   {"ops":[{"op":"put","key":"a","value":{"n":1.10},"ttl":"60s","if_none_match":"*"},
 *           {"op":"put","key_b64":"/w==","value_b64":"AAE=","content_type":"image/png"},
 *           {"op":"delete","key":"b","if_match":"17"},
 *           {"op":"check","key":"c","if_match":"9"},
 *           {"op":"get","key":"d"}]}
 *
 * A value is the span of the text where it stands, so it is stored byte for byte. Strings and
 * Base64 are decoded where they lie: the text is changed, and the operations point into it.
 *
 * No state; any thread.
 */
#ifndef STORM_API_BATCH_BODY_H
#define STORM_API_BATCH_BODY_H

#include "errors.h"
#include "fields.h"

enum api_batch_kind { API_BATCH_PUT, API_BATCH_DELETE, API_BATCH_CHECK, API_BATCH_GET };

struct api_batch_op {
    enum api_batch_kind kind;
    bool has_if_match, has_if_none_match;
    struct storm_slice key;
    struct storm_slice value;
    struct storm_slice type; /* empty = application/json */
    uint64_t expires_ms;
    /* As they were sent, found to be well-formed; see api_batch_tags(). */
    struct storm_slice if_match;
    struct storm_slice if_none_match;
};

struct api_batch_limits {
    size_t ops, key_bytes, value_bytes, json_bytes;
    uint64_t now_ms; /* what a ttl is counted from */
};

struct api_batch_body {
    struct api_batch_op *ops;
    size_t count;
};

enum { API_BATCH_NO_INDEX = -1 };

/* What is wrong with a body, and where. */
struct api_batch_fault {
    enum api_error_code code;
    bool is_memory;           /* nothing: memory was missing */
    long long index;          /* of the operation; API_BATCH_NO_INDEX = it is about the whole */
    const char *field;        /* static; NULL = none */
    const char *did_you_mean; /* static; NULL = nothing is near */
    const char *hint;         /* static; NULL = that of the table */
    size_t limit_bytes;       /* 0 = it is not about a limit in bytes */
    char detail[256];
};

/*
 * Decode a body that api_json_check() has found to be JSON. False with *fault filled in. Give the
 * body back with api_batch_body_fini() in either case.
 */
bool api_batch_decode(uint8_t *text, size_t size, const struct api_batch_limits *limits,
                      struct api_batch_body *body, struct api_batch_fault *fault);
void api_batch_body_fini(struct api_batch_body *body);

/*
 * A condition of an operation: "*", a revision ("17" or 17), or what the header fields take
 * ("\"17\", \"18\""). False when it is none of them.
 */
bool api_batch_tags(struct storm_slice text, bool is_strong, struct api_tags *tags);

#endif
