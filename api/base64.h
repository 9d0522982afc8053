/* Reading base64 (RFC 4648), and writing the form of it that URLs take as it is. Any thread. */
#ifndef STORM_API_BASE64_H
#define STORM_API_BASE64_H

#include "text.h"

/*
 * Decode `size` characters in place; the result is shorter. Exactly one spelling of each text is
 * read: padded, without blanks, unused bits zero. False, with nothing promised about the bytes, for
 * others.
 */
bool api_base64_decode(uint8_t *bytes, size_t *size);

/* The alphabet of section 5 ('-' and '_'), without padding: add, and decode in place as above. */
void api_base64url_add(struct api_text *text, struct storm_slice bytes);
bool api_base64url_decode(uint8_t *bytes, size_t *size);

#endif
