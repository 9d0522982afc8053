/*
 * The table file, format version 1: every constant that is on the disk, on one page.
 *
 *   0                                                                        size - 64     size
 *   | data block 0 | data block 1 | ... | filter | index | properties |        footer       |
 *
 * Nothing is between the parts, so that a reader can demand that the handles tile the file and
 * every byte is under a checksum. All numbers are little-endian or varints (util/coding.h).
 *
 * A stored block (data, filter, index, properties):
 *
 *   | contents, as stored ............ | codec u8 | crc u32 |
 *
 *   crc = crc32c(contents, codec) xor sdb_block_mask(table number, offset of the block)
 *   codec 0: the contents as they are. Otherwise a varint (size after decoding), then the codec's
 *   bytes: 1 raw deflate (RFC 1951), 2 LZ4 block, 3 Zstandard frame. Filter, index and properties
 *   are always codec 0. A handle is (offset, size of the contents without the five bytes).
 *
 * Data block contents:
 *
 *   | entry | entry | ... | restart u32 | restart u32 | ... | restarts n u32 | flags u8 |
 *
 *   entry:  varint shared   bytes of the key that are those of the entry before; always as many as
 *                           possible, except at a restart, where it is 0
 *           varint rest     bytes of the key that follow here
 *           varint size     bytes of the value
 *           varint token    v << 1 | other; v is the revision when shared is 0, otherwise the
 *                           zigzag of (revision - revision of the entry before)
 *           [kind u8]       only when other is 1; without it the kind is SDB_KIND_PUT
 *           key rest, value
 *   restart: offset in the block of an entry that shares nothing; the first is 0. At most
 *            SDB_RESTART_MAX entries from one to the next.
 *   flags:   0. Bit 0 is kept for an in-block hash index, which would stand between the restarts and
 *            their count; a reader refuses flags that it does not know (STORM_NEWER_FORMAT).
 *
 * Index contents: for each data block in order
 *
 *   | varint shared | varint rest << 1 | tagged | varint size | [varint tag] | key rest |
 *
 *   the separator (key, tag; 0 when not tagged): not before the block's last entry, before the next
 *   block's first. The tag is there only where versions of one key are in both. `shared` is with the
 *   separator before; size is the handle's; offsets follow, since blocks stand back to back from 0.
 *
 * Filter contents: n lines of 64 bytes, then | kind u8 = 1 | probes u8 | 0 | 0 | (filter.h).
 *
 * Properties contents: | varint tag | varint size | varint value | ... (props.h).
 *
 * Footer, 64 bytes:
 *
 *    0 filter offset u64   8 filter size u32     (0, 0 = no filter)
 *   12 index offset u64   20 index size u32
 *   24 properties offset u64   32 properties size u32
 *   36 table number u64
 *   44 flags u32 = 0
 *   48 format version u32
 *   52 crc32c of bytes 0 to 51, u32
 *   56 magic "stormsst"
 *
 * Every later version keeps the last 16 bytes and what the crc covers, so that this one can tell
 * a newer table from a rotten one.
 */
#ifndef SDB_LSM_TABLE_FORMAT_H
#define SDB_LSM_TABLE_FORMAT_H

#include "util/hash.h"

#define SDB_TABLE_MAGIC "stormsst"

enum {
    SDB_TABLE_VERSION = 1,

    SDB_FOOTER_SIZE = 64,
    SDB_FOOTER_FILTER = 0,
    SDB_FOOTER_INDEX = 12,
    SDB_FOOTER_PROPS = 24,
    SDB_FOOTER_NUMBER = 36,
    SDB_FOOTER_FLAGS = 44,
    SDB_FOOTER_VERSION = 48,
    SDB_FOOTER_CRC = 52,
    SDB_FOOTER_MAGIC = 56,
    SDB_FOOTER_MAGIC_SIZE = 8,

    SDB_TRAILER_SIZE = 5, /* codec u8, crc u32 */

    /* A value has at most 1 GiB, and beside it a block holds a key, a value header and some
     * smaller entries: no honest block is larger than this, stored or decoded. */
    SDB_TABLE_BLOCK_MAX = (1 << 30) + (1 << 20),
    SDB_TABLE_KEY_MAX = 65535,

    SDB_RESTART_INTERVAL = 16, /* what the builder does */
    SDB_RESTART_MAX = 128,     /* what a reader accepts: bounds the memory of a step backwards */
    SDB_BLOCK_TAIL_SIZE = 5,   /* restarts n u32, flags u8 */

    SDB_FILTER_LINE = 64, /* bytes: one cache line, 512 bits */
    SDB_FILTER_TAIL_SIZE = 4,
    SDB_FILTER_BLOCKED_BLOOM = 1,
};

_Static_assert(SDB_FOOTER_MAGIC + SDB_FOOTER_MAGIC_SIZE == SDB_FOOTER_SIZE, "the footer is full");
_Static_assert(sizeof SDB_TABLE_MAGIC == SDB_FOOTER_MAGIC_SIZE + 1, "eight bytes of magic");

/* Where a block is. */
struct sdb_handle {
    uint64_t offset;
    uint32_t size; /* without the trailer */
};

/* What a block's checksum is xored with, so that it verifies in its own place only. */
static inline uint32_t sdb_block_mask(uint64_t number, uint64_t offset)
{
    uint64_t place = sdb_mix64(number + UINT64_C(0x9e3779b97f4a7c15)) ^ offset;
    return (uint32_t)(sdb_mix64(place + UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

#endif
