/*
 * What tests of tables share: a disk in memory, entries in a sorted array to compare with, and a
 * reader whose bytes can be changed on their way from the disk.
 */
#ifndef TEST_TABLE_KIT_H
#define TEST_TABLE_KIT_H

#include "lsm/table/table.h"
#include "os/sim.h"
#include "util/buffer.h"

#define KIT_PATH "/000007.sst"
enum { KIT_NUMBER = 7, KIT_NOW_MS = 1234567 };

struct kit {
    struct sim_disk *disk;
    struct sdb_errors errors;
    struct sdb_os os; /* the disk as it is */
    struct sdb_cache *cache;
};

void kit_init(struct kit *kit, size_t cache_bytes);
void kit_fini(struct kit *kit);

struct kit_entry {
    struct storm_slice key, value; /* in the model's memory */
    uint64_t tag;
};

struct kit_model {
    struct kit_entry *entries; /* in order, no doubles */
    size_t count;
};

/* `count` or a few less random entries: keys of 1 to `key_bytes` bytes with long common prefixes,
 * one in eight a delete, values up to `value_bytes` and half compressible, up to `versions` of a
 * key. */
void kit_model_random(struct kit_model *model, uint64_t *state, size_t count, size_t key_bytes,
                      size_t value_bytes, unsigned versions);
void kit_model_fini(struct kit_model *model);

/* Index of the first entry at or after (key, tag). */
size_t kit_model_find(const struct kit_model *model, struct storm_slice key, uint64_t tag);

struct sdb_table_options kit_options(size_t block_bytes, enum storm_codec codec);

/* Write the model as a table; a file of that name is replaced. */
storm_status kit_build(struct kit *kit, struct sdb_os *os, const char *path, uint64_t number,
                       const struct kit_model *model, const struct sdb_table_options *options,
                       struct sdb_table_props *props);

/* Whether the source stands on entry `at`, or nowhere without an error when there is none. */
bool kit_stands_at(const struct sdb_source *source, const struct kit_model *model, size_t at);

/* What happened to a table that may be damaged. */
struct kit_verdict {
    storm_status first_error; /* of open, verify, any get, any walk */
    bool is_wrong;            /* an answer that is neither right nor an error */
};

/* Open KIT_PATH, verify it, get every entry, and walk it both ways. */
struct kit_verdict kit_examine(struct kit *kit, struct sdb_os *os, uint64_t size,
                               const struct kit_model *model);

/* An os over another one whose reads can lie: the `nth` read from now (1 = the next; 0 = none), or
 * from then on with `for_ever`, returns its byte `byte` (modulo the bytes read) changed. There is
 * one liar at a time. */
void kit_liar_init(struct sdb_os *liar, struct sdb_os *honest);
void kit_lie_at(uint64_t nth, bool for_ever, uint64_t byte);
uint64_t kit_lies(void);

/*
 * A file whose parts tile it and verify, whatever is in them:
 *
 *   | u16 index size | index | u16 props size | props | u16 filter size | filter | data |
 *
 * The index says how large the blocks are; data gives their contents, each after its codec byte,
 * until it is used up, zeroes after that; the true bytes and count of blocks follow the properties.
 * False when there is no such file. `file` has a maximum of KIT_ASSEMBLE_MAX.
 */
enum { KIT_ASSEMBLE_MAX = 1 << 19 };
bool kit_assemble(struct storm_slice parts, struct sdb_buffer *file);

#endif
