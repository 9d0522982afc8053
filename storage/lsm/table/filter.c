/*
 * Filter blocks.
 *
 *   | line 0: 512 bits | line 1 | ... | line n-1 | kind u8 = 1 | probes u8 | 0 | 0 |
 *
 * The key's hash h picks line (h >> 32) * n >> 32; the bits in the line are nine-bit pieces of
 * g = mix64(h), low ones first, seven to a word, and after seven of mix64(g + 1) and so on. Bit b
 * of a line is bit b % 8 of byte b / 8.
 *
 * Lines fill unevenly (a Poisson distribution around 49 keys at 10.5 bits), which costs about a
 * third more false positives than a Bloom filter without lines; 10.5 bits rather than the usual 10
 * pay for that and keep the rate below 1 % at every size. Fewer probes than the textbook's 0.69 a
 * bit are best for the same reason.
 */
#include "lsm/table/filter.h"

#include "lsm/table/format.h"
#include "os/large.h"

enum { PROBES_MAX = 24, PIECES = 7, PIECE_BITS = 9, LINE_BITS = SDB_FILTER_LINE * 8 };

bool sdb_filter_keys_add(struct sdb_filter_keys *keys, uint64_t hash)
{
    if (keys->count != 0 && keys->hashes[keys->count - 1] == hash)
        return true;
    if (keys->count == keys->room) {
        size_t room = keys->room == 0 ? 1024 : keys->room * 2;
        uint64_t *grown =
            sdb_large_grow(keys->hashes, keys->room * sizeof *grown, room * sizeof *grown);
        if (grown == NULL)
            return false;
        keys->hashes = grown;
        keys->room = room;
    }
    keys->hashes[keys->count++] = hash;
    return true;
}

void sdb_filter_keys_fini(struct sdb_filter_keys *keys)
{
    sdb_large_free(keys->hashes, keys->room * sizeof *keys->hashes);
    *keys = (struct sdb_filter_keys){NULL, 0, 0};
}

static unsigned probes_for(double bits)
{
    unsigned probes = (unsigned)(bits * 0.6 + 0.5);
    if (probes < 1)
        return 1;
    return probes > PROBES_MAX ? PROBES_MAX : probes;
}

static void set_bits(uint8_t *line, uint64_t hash, unsigned probes)
{
    uint64_t pieces = sdb_mix64(hash);
    uint64_t word = pieces;
    for (unsigned i = 0; i < probes; i++) {
        if (i != 0 && i % PIECES == 0) {
            pieces = sdb_mix64(pieces + 1);
            word = pieces;
        }
        unsigned bit = (unsigned)(word & (LINE_BITS - 1));
        line[bit / 8] = (uint8_t)(line[bit / 8] | 1u << bit % 8);
        word >>= PIECE_BITS;
    }
}

storm_status sdb_filter_build(const struct sdb_filter_keys *keys, double bits,
                              struct sdb_buffer *out)
{
    double wanted = (double)keys->count * bits / LINE_BITS;
    if (wanted > (double)(SDB_TABLE_BLOCK_MAX / SDB_FILTER_LINE - 2))
        return STORM_TOO_LARGE;
    uint32_t line_count = (uint32_t)wanted + 1;
    unsigned probes = probes_for(bits);
    size_t size = (size_t)line_count * SDB_FILTER_LINE;
    uint8_t *lines = sdb_buffer_reserve(out, size + SDB_FILTER_TAIL_SIZE);
    if (lines == NULL)
        return out->status;
    memset(lines, 0, size + SDB_FILTER_TAIL_SIZE);
    for (size_t i = 0; i < keys->count; i++) {
        uint64_t hash = keys->hashes[i];
        set_bits(lines + sdb_filter_line_at(hash, line_count), hash, probes);
    }
    lines[size] = SDB_FILTER_BLOCKED_BLOOM;
    lines[size + 1] = (uint8_t)probes;
    out->size += size + SDB_FILTER_TAIL_SIZE;
    return STORM_OK;
}

storm_status sdb_filter_parse(struct storm_slice contents, struct sdb_filter *filter)
{
    *filter = (struct sdb_filter){NULL, 0, 0};
    if (contents.size < SDB_FILTER_TAIL_SIZE)
        return STORM_CORRUPT;
    size_t size = contents.size - SDB_FILTER_TAIL_SIZE;
    const uint8_t *tail = contents.data + size;
    if (tail[0] != SDB_FILTER_BLOCKED_BLOOM)
        return STORM_OK;
    bool bad_size = size == 0 || size % SDB_FILTER_LINE != 0 || size > SDB_TABLE_BLOCK_MAX;
    if (bad_size || tail[1] == 0 || tail[1] > PROBES_MAX || tail[2] != 0 || tail[3] != 0)
        return STORM_CORRUPT;
    filter->lines = contents.data;
    filter->line_count = (uint32_t)(size / SDB_FILTER_LINE);
    filter->probes = tail[1];
    return STORM_OK;
}

bool sdb_filter_may_contain(const struct sdb_filter *filter, uint64_t hash)
{
    if (filter->line_count == 0)
        return true;
    const uint8_t *line = filter->lines + sdb_filter_line_at(hash, filter->line_count);
    /* The line is on its way from memory while the bits are computed. */
    __builtin_prefetch(line);
    uint64_t pieces = sdb_mix64(hash);
    for (unsigned left = filter->probes;;) {
        /* All pieces of a word at once: to stop at the first bit that is not set would save fewer
         * steps than the processor loses by guessing which one it is. */
        unsigned probes = left < PIECES ? left : PIECES;
        unsigned all = 1;
        for (uint64_t word = pieces; probes > 0; probes--, word >>= PIECE_BITS) {
            unsigned bit = (unsigned)(word & (LINE_BITS - 1));
            all &= (unsigned)line[bit / 8] >> bit % 8;
        }
        if (all == 0)
            return false;
        if (left <= PIECES)
            return true;
        left -= PIECES;
        pieces = sdb_mix64(pieces + 1);
    }
}
