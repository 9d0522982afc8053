/*
 * A table's file mapped into memory, so that raw blocks are read where they lie in the page cache:
 * no system call, no copy, no place in the block cache.
 *
 * Only what was read and verified once by pread since the table was opened is read through the
 * mapping (mapping.c says why). Whoever keeps bytes of it holds a pin; the last one to let go, the
 * table or a pin, unmaps it and closes the file. Threads: any.
 */
#ifndef SDB_LSM_TABLE_MAPPING_H
#define SDB_LSM_TABLE_MAPPING_H

#include "lsm/table/cache.h"
#include "os/os.h"

enum {
    SDB_CACHE_LINE = 64,
    /* Counters of pins, by thread: one for all would go from processor to processor with each
     * read. */
    SDB_MAPPING_PINS = 16,
    /* Each mapping is one of the 65,530 that Linux lets a process have; memory needs some as
     * well. */
    SDB_MAPPINGS_MAX = 16384,
};

/* Bytes mapped at once in a process: half of what may be free in a small address space. */
#define SDB_MAPPED_MAX (sizeof(void *) < 8 ? UINT64_C(512) << 20 : UINT64_C(1) << 46)

struct sdb_mapping;

struct sdb_mapping_pin {
    _Alignas(SDB_CACHE_LINE) struct sdb_block block;
    struct sdb_mapping *mapping; /* const */
};

struct sdb_mapping {
    struct sdb_mapping_pin pins[SDB_MAPPING_PINS];
    const uint8_t *data;         /* const; bytes of the file */
    uint64_t size;               /* const */
    struct sdb_file *file;       /* const; owned */
    _Atomic uint32_t refs;       /* pins that are not at 0 */
    _Atomic uint64_t verified[]; /* a bit for each block */
};

/*
 * Map `size` bytes of a file that is not written any more, of a table with `blocks` data blocks.
 * Takes the file over. NULL, the file still the caller's, when there is no memory, no more is to be
 * mapped, or the system cannot; the latter is recorded.
 */
struct sdb_mapping *sdb_mapping_create(struct sdb_file *file, uint64_t size, uint32_t blocks);
/* The table is done with it; pins keep it. NULL is ignored. */
void sdb_mapping_release(struct sdb_mapping *mapping);
/* What its bookkeeping takes of the heap. */
size_t sdb_mapping_memory(const struct sdb_mapping *mapping);

/* Something to keep the mapping by, with a reference for the caller (sdb_block_unref). */
struct sdb_block *sdb_mapping_pin(struct sdb_mapping *mapping);

/* Whether a block has been verified. Relaxed: the bit brings nothing with it, the bytes are the
 * file's. */
static inline bool sdb_mapping_has(const struct sdb_mapping *mapping, uint32_t block)
{
    uint64_t word = atomic_load_explicit(&mapping->verified[block / 64], memory_order_relaxed);
    return (word >> block % 64 & 1) != 0;
}

static inline void sdb_mapping_add(struct sdb_mapping *mapping, uint32_t block)
{
    atomic_fetch_or_explicit(&mapping->verified[block / 64], UINT64_C(1) << block % 64,
                             memory_order_relaxed);
}

#endif
