/*
 * Text that grows up to a bound: JSON answers, header values. The first failure (out of memory or
 * over the bound) sticks; everything added after it is dropped, so only the end needs a check.
 * Threads: none of its own; one text belongs to one thread.
 */
#ifndef STORM_API_TEXT_H
#define STORM_API_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storm/storm.h"

struct api_text {
    char *data; /* not terminated; NULL while empty */
    size_t size;
    size_t room;
    size_t max;
    bool has_failed;
};

/* An empty text that never grows past `max` bytes. Nothing is allocated yet. */
void api_text_init(struct api_text *text, size_t max);
void api_text_fini(struct api_text *text);

/* Make room for `size` more bytes, which the caller writes behind the end and then counts in
 * ->size: for what is added in many small pieces. False when the text has failed. */
bool api_text_reserve(struct api_text *text, size_t size);

void api_text_add(struct api_text *text, const void *data, size_t size);
void api_text_adds(struct api_text *text, const char *word);
void api_text_addf(struct api_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A JSON string with its quotes. Bytes that are no UTF-8 become U+FFFD. */
void api_text_add_json(struct api_text *text, struct storm_slice bytes);

/* Percent-encoded for a query: all but letters, digits and "-._~". */
void api_text_add_percent(struct api_text *text, struct storm_slice bytes);

/* Base64 (RFC 4648, padded), without quotes. */
void api_text_add_base64(struct api_text *text, struct storm_slice bytes);

/* Whether the bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool api_is_utf8(struct storm_slice bytes);

/* Room for 2^64 - 1 and its terminator. */
#define API_NUMBER_MAX 21

/* Write a number in decimal, terminated; returns its length. Faster than snprintf by a factor of
 * 10, which counts where every answer carries two. */
size_t api_format_number(char text[API_NUMBER_MAX], uint64_t number);

/* Read decimal digits, nothing else, without overflow. */
bool api_parse_number(struct storm_slice digits, uint64_t *number);

/* ASCII comparisons and trimming for header fields. */
bool api_equals(struct storm_slice bytes, const char *word);
bool api_equals_nocase(struct storm_slice bytes, const char *word);
struct storm_slice api_trim(struct storm_slice bytes);

/* Cut the part before `mark` off the front of *rest, trimmed; the mark goes with it. Without a mark
 * the part is all there is. */
struct storm_slice api_take_until(struct storm_slice *rest, uint8_t mark);

/* The order of keys: below, at or above 0. */
int api_slice_compare(struct storm_slice left, struct storm_slice right);
bool api_begins_with(struct storm_slice bytes, struct storm_slice prefix);

/* What a hex digit of either case stands for; -1 when it is none. */
int api_hex_digit(uint8_t byte);

/* Whether the bytes are a token (RFC 9110 section 5.6.2): the name of a header field, half a media
 * type. */
bool api_is_token(struct storm_slice bytes);

#endif
