/*
 * SSTables: building one from sorted entries, reading one. The file, drawn byte by byte, is in
 * format.h; block, index, filter and codec have modules of their own beside this.
 *
 * Order of a file: data blocks, filter, index, properties, footer. Every block ends in a trailer:
 * codec byte and crc32c over contents and codec, masked by (file number, offset), so that a block
 * in the wrong file or place never verifies. A table of a newer format version is refused with
 * STORM_NEWER_FORMAT, a block in a codec this build lacks with STORM_UNSUPPORTED and its name.
 */
#ifndef SDB_LSM_TABLE_TABLE_H
#define SDB_LSM_TABLE_TABLE_H

#include "lsm/entry.h"
#include "lsm/table/cache.h"
#include "lsm/table/filter.h"
#include "os/os.h"
#include "util/buffer.h"

struct sdb_table_options {
    size_t block_bytes;     /* target of uncompressed contents, such as 4,096 */
    double bloom_bits;      /* per key; 0 = no filter */
    enum storm_codec codec; /* a block that saves less than an eighth is stored raw */
    int codec_level;        /* 0 = the codec's default */
};

/* What a table says of itself: kept in its properties block and repeated in the manifest. */
struct sdb_table_props {
    uint64_t entries; /* versions, deletes included */
    uint64_t deletes;
    uint64_t keys;       /* distinct user keys */
    uint64_t raw_bytes;  /* keys and values before compression */
    uint64_t data_bytes; /* stored data blocks, trailers included */
    uint64_t data_blocks;
    uint64_t min_revision;
    uint64_t max_revision;
    uint64_t created_ms;
    uint64_t stale_ms; /* from then on a fifth of raw_bytes has expired; 0 = never. Unix ms */
    uint32_t codec;    /* asked for; each block says its own */
};

/* ---- Building: one thread ---- */

struct sdb_table_builder;

/* Start the file `path` (must not exist) as table `number`. NULL *builder on failure. */
storm_status sdb_table_builder_open(struct sdb_os *os, const char *path, uint64_t number,
                                    const struct sdb_table_options *options,
                                    struct sdb_table_builder **builder);

/* Entries in strictly increasing order (STORM_INVALID otherwise). After a failure only close is
 * left. */
storm_status sdb_table_builder_add(struct sdb_table_builder *builder, struct storm_slice key,
                                   uint64_t tag, struct storm_slice value);

/* What goes into the properties as stale_ms: the builder cannot look into values. Before finish. */
void sdb_table_builder_set_stale(struct sdb_table_builder *builder, uint64_t stale_ms);

/* Bytes of the file so far, the block being built estimated. */
uint64_t sdb_table_builder_size(const struct sdb_table_builder *builder);

/* Write filter, index, properties and footer, then fsync. The directory is the caller's to sync.
 * An empty table is legal. */
storm_status sdb_table_builder_finish(struct sdb_table_builder *builder, uint64_t now_ms,
                                      struct sdb_table_props *props, uint64_t *file_bytes);

/* Close the file and free; a table that was not finished stays on disk for the caller to remove. */
void sdb_table_builder_close(struct sdb_table_builder *builder);

/* ---- Reading: any number of threads ---- */

struct sdb_table;

/*
 * Open a finished table: reads footer, properties, index and filter (each verified), nothing else.
 * `size` from the manifest must be the file's (0 = not known). `cache` is borrowed and outlives
 * the table. Errors: STORM_CORRUPT, STORM_NEWER_FORMAT, STORM_IO, STORM_NOT_FOUND (recorded by
 * this function: a table that the manifest names must be there), STORM_NO_MEMORY.
 */
storm_status sdb_table_open(struct sdb_os *os, const char *path, uint64_t number, uint64_t size,
                            struct sdb_cache *cache, struct sdb_table **table);
/*
 * Read a table of raw blocks through a mapping of its file, if that can be had; all others stay as
 * they are. Before anyone else uses the table.
 */
void sdb_table_map(struct sdb_table *table);
/* What pins bytes of it may be released later. */
void sdb_table_close(struct sdb_table *table);

const struct sdb_table_props *sdb_table_props(const struct sdb_table *table);
size_t sdb_table_memory(const struct sdb_table *table); /* index, filter and the rest, in bytes */

/* The hash that filters use, of a user key: computed once for all tables of a read. */
uint64_t sdb_key_hash(struct storm_slice key);

/* False: the key is certainly not in the table. No I/O. True when the table has no filter. */
bool sdb_table_may_contain(const struct sdb_table *table, uint64_t hash);
bool sdb_table_has_filter(const struct sdb_table *table);
/* The filter itself, without lines when the table has none; borrowed for as long as it is open. */
struct sdb_filter sdb_table_filter(const struct sdb_table *table);

/*
 * The newest version of `key` at or below `revision`. STORM_OK with *tag and *value, pinned by
 * *pin (a reference for the caller to drop); STORM_NOT_FOUND with *pin NULL. Does not ask the
 * filter: the caller does, and counts.
 */
storm_status sdb_table_get(struct sdb_table *table, struct storm_slice key, uint64_t revision,
                           uint64_t *tag, struct storm_slice *value, struct sdb_block **pin);

/*
 * The same in steps, for lookups of many keys: which block may hold the version (false: none does),
 * the block's contents and what pins them (a reference for the caller), the version in it. Equal
 * numbers are the same block.
 */
bool sdb_table_find(const struct sdb_table *table, struct storm_slice key, uint64_t revision,
                    uint32_t *number);
storm_status sdb_table_read(struct sdb_table *table, uint32_t number, struct storm_slice *contents,
                            struct sdb_block **pin);
storm_status sdb_table_get_in(struct sdb_table *table, uint32_t number, struct storm_slice contents,
                              struct storm_slice key, uint64_t revision, uint64_t *tag,
                              struct storm_slice *value);

/*
 * A source over the table; NULL when out of memory. The table outlives it (the caller holds a
 * reference to its version). `fill_cache` false for compaction, which also reads ahead by up to
 * `readahead` bytes (0 = none). A long scan stops filling the cache by itself.
 */
struct sdb_source *sdb_table_source(struct sdb_table *table, bool fill_cache, size_t readahead);

/* Read another table of the same cache with the same source; not positioned. `goes_on`: a walk went
 * through the table before, and the next move takes it further. */
void sdb_table_source_move(struct sdb_source *source, struct sdb_table *table, bool goes_on);

/* A check of a whole table: what it calls, and what it found. */
struct sdb_table_check {
    /* After every block, with the bytes it takes in the file; a status other than STORM_OK ends the
     * check with it. May be NULL. */
    storm_status (*step)(void *ctx, uint64_t bytes);
    /* A problem, whose sentence is the newest of the os's; the check goes on behind the block that
     * has it. NULL: the first one ends the check. */
    void (*problem)(void *ctx, storm_status status);
    void *ctx;

    uint64_t blocks, entries; /* looked at */
    uint64_t problems;
    struct sdb_buffer first_key, last_key; /* of what could be read; empty without entries */
};

void sdb_table_check_init(struct sdb_table_check *check);
void sdb_table_check_fini(struct sdb_table_check *check);

/* Read every block from the disk, past the cache, and verify it, the order of all entries, that
 * index and filter lead to them, and the counts in the properties. The first problem's status. */
storm_status sdb_table_check(struct sdb_table *table, struct sdb_table_check *check);

/* The same up to the first problem. */
storm_status sdb_table_verify(struct sdb_table *table);

/* What can still be read of a damaged table, for repair (salvage.c). */
struct sdb_salvage {
    /* Every entry of every whole block, in order; a status other than STORM_OK ends it. */
    storm_status (*each)(void *ctx, struct storm_slice key, uint64_t tag, struct storm_slice value);
    /* What could not be read; the sentence is the newest of the os's. */
    void (*problem)(void *ctx, storm_status status);
    void *ctx;

    uint64_t blocks, entries; /* handed out */
    bool has_index;           /* false: blocks were looked for, and the end may be missing */
};

/*
 * Hand out the entries of the file's whole blocks. STORM_OK also when there are none. What an older
 * release must not touch, or this build cannot decode, ends it: STORM_NEWER_FORMAT,
 * STORM_UNSUPPORTED; so do STORM_NOT_FOUND, STORM_DENIED and STORM_NO_MEMORY.
 */
storm_status sdb_table_salvage(struct sdb_os *os, const char *path, uint64_t number,
                               struct sdb_salvage *salvage);

#endif
