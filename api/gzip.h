/*
 * gzip (RFC 1952) in both directions: bodies that come compressed, answers that go so.
 *
 * Threads: an api_gunzip belongs to one thread at a time; the rest has no state.
 */
#ifndef STORM_API_GZIP_H
#define STORM_API_GZIP_H

#include <sys/types.h>

#include "text.h"

/* Below this, compressing costs more than it saves: an answer fits into one packet anyway. */
enum { API_GZIP_MIN = 1024 };

/* Whether Accept-Encoding (RFC 9110 section 12.5.3) takes gzip, and does not like it less than the
 * bytes as they are. Without the field, which is empty then, it does not. */
bool api_accepts_gzip(struct storm_slice field);

/* Whether values of this stored type are text, which is worth compressing: JSON, text, XML. */
bool api_is_compressible(struct storm_slice type);

/* Compress into `text`, which is empty and grows to about the size of `bytes`; it has failed when
 * there was no memory. The same bytes always compress to the same. */
void api_gzip(struct storm_slice bytes, struct api_text *text);

/* The same in pieces, with some 270 KiB of memory until it is over. */
struct api_gzip_pieces;
struct api_gzip_pieces *api_gzip_pieces_create(void); /* NULL when out of memory */
void api_gzip_pieces_destroy(struct api_gzip_pieces *pieces);
/* Compress what is next of *left, which moves on, into `out`: so many bytes, 0 = that was all. */
ssize_t api_gzip_next(struct api_gzip_pieces *pieces, struct storm_slice *left, void *out,
                      size_t room);

/* A gzip stream that is decompressed as it comes, with some 40 KiB of memory. */
struct api_gunzip;
struct api_gunzip *api_gunzip_create(void); /* NULL when out of memory */
void api_gunzip_destroy(struct api_gunzip *gunzip);

enum api_gunzip_status {
    API_GUNZIP_OK,
    API_GUNZIP_CORRUPT,   /* it is no gzip stream, or its checksum is wrong */
    API_GUNZIP_NO_MEMORY, /* zlib's */
    API_GUNZIP_STOPPED,   /* `take` did not want more */
};

/*
 * The next bytes of the stream. What comes out of them goes to `take` in pieces of up to 16 KiB;
 * false = stop, and neither function is called again. Streams may follow upon one another, as gzip
 * -d has it.
 */
enum api_gunzip_status api_gunzip_feed(struct api_gunzip *gunzip, struct storm_slice bytes,
                                       bool (*take)(void *ctx, const void *data, size_t size),
                                       void *ctx);

/* Whether all that was fed is whole streams, and at least one. */
bool api_gunzip_is_whole(const struct api_gunzip *gunzip);

#endif
