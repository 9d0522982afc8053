/*
 * The codecs of table blocks: deflate (raw, RFC 1951), LZ4 block, Zstandard frame. What none of
 * them does: remember the decoded size; the block format stores it.
 */
#ifndef SDB_LSM_TABLE_CODEC_H
#define SDB_LSM_TABLE_CODEC_H

#include "storm/storm.h"

/* "none", "deflate", "lz4", "zstd"; NULL for a codec that this build does not have. */
const char *sdb_codec_name(unsigned codec);

/* Whether `level` is one of the codec's: deflate 1-9, lz4 1-12, zstd 1-19; 0 is always. */
bool sdb_codec_level_ok(unsigned codec, int level);

/* Compresses block after block with one reused state. One thread. */
struct sdb_encoder;

/* `codec` not STORM_CODEC_NONE, `level` a good one. NULL when out of memory. */
struct sdb_encoder *sdb_encoder_create(enum storm_codec codec, int level);
void sdb_encoder_destroy(struct sdb_encoder *encoder); /* NULL is ignored */

/* Compress into at most `room` bytes. The bytes written; 0 when they do not fit (or, for once, when
 * the codec fails: a block can always be stored raw). */
size_t sdb_encoder_run(struct sdb_encoder *encoder, struct storm_slice in, uint8_t *out,
                       size_t room);

/* Whether `in` could decode to `size` bytes at all. Asked before memory is found for them. */
bool sdb_codec_plausible(unsigned codec, struct storm_slice in, size_t size);

/* Decode to exactly `size` bytes: STORM_CORRUPT when it is another number or nonsense,
 * STORM_NO_MEMORY, STORM_UNSUPPORTED. Any thread. Nothing is recorded. */
storm_status sdb_codec_decode(unsigned codec, struct storm_slice in, uint8_t *out, size_t size);

#endif
