/*
 * Answers. An answer is created, gets its header fields, and is sent; what fails on the way (there
 * is only memory to fail) turns it into a 503 when it is sent.
 */
#ifndef STORM_API_RESPONSE_H
#define STORM_API_RESPONSE_H

#include "errors.h"
#include "request.h"

struct api_answer {
    struct MHD_Response *response; /* NULL = could not be made */
    unsigned status;
    bool has_failed;
};

/* Without a body: 204, 304. */
struct api_answer api_answer_empty(unsigned status);
/* From a text, which is taken over. */
struct api_answer api_answer_text(unsigned status, struct api_text *text, const char *type);
/* From bytes that live as long as the process. */
struct api_answer api_answer_static(unsigned status, struct storm_slice bytes, const char *type);
/* The bytes of request->value, whose pin goes over to the answer; the value stays readable until
 * the answer is sent. */
struct api_answer api_answer_value(unsigned status, struct api_request *request);

/* The same, compressed: Content-Encoding and Vary are still to be added. */
struct api_answer api_answer_value_gzip(unsigned status, struct api_request *request);

void api_answer_header(struct api_answer *answer, const char *name, const char *value);
/* Content-Type as it is stored; empty = application/json. */
void api_answer_type(struct api_answer *answer, struct storm_slice type);
/* ETag, which is that of a value, and Storm-Revision, which is that of a write. */
void api_answer_revisions(struct api_answer *answer, uint64_t value, uint64_t write);
/* The two of the same. */
void api_answer_revision(struct api_answer *answer, uint64_t revision);
/* The two of the same, for a compressed value: the tag is "42-gz". */
void api_answer_revision_gzip(struct api_answer *answer, uint64_t revision);
void api_answer_date(struct api_answer *answer, const char *name, uint64_t ms);

/* Send it (or hold it, see request.h). The answer is gone. */
enum MHD_Result api_send(struct api_request *request, struct api_answer *answer);

/* api_answer_text + api_send for JSON, compressed when it is long and the client takes that. */
enum MHD_Result api_send_json(struct api_request *request, unsigned status, struct api_text *text);

/* The same with Storm-Revision. */
enum MHD_Result api_send_json_at(struct api_request *request, unsigned status,
                                 struct api_text *text, const char *revision);

/* Compress the text if it is long enough and the client takes it; false = it is as it was. The
 * answer then needs Content-Encoding: gzip, and Vary in either case. */
bool api_compress_text(const struct api_request *request, struct api_text *text);

/* Send what was held. */
enum MHD_Result api_send_held(struct api_request *request);

struct api_failure {
    enum api_error_code code;
    const char *hint;   /* NULL = that of the table */
    const char *extras; /* more members, each after a comma; NULL = none */
    const char *header; /* one more header field; NULL = none */
    const char *header_value;
};

/* Answer with a problem document; `format` is its detail. */
enum MHD_Result api_fail(struct api_request *request, const struct api_failure *failure,
                         const char *format, ...) __attribute__((format(printf, 3, 4)));
enum MHD_Result api_fail_code(struct api_request *request, enum api_error_code code,
                              const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Answer 400 invalid_parameter: what is wrong with a parameter, and what to write. */
enum MHD_Result api_fail_parameter(struct api_request *request, const char *hint,
                                   const char *sentence);

/* Answer for a status of the store, with the store's own sentence where it has one. */
enum MHD_Result api_fail_store(struct api_request *request, storm_status status);

/* The request's key as it may stand in a sentence: cut, without control characters. */
#define API_KEY_TEXT_MAX 96
char *api_key_text(const struct api_request *request, char text[API_KEY_TEXT_MAX]);

#endif
