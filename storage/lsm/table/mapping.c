/*
 * Mapped tables.
 *
 * What can go wrong with a mapping is that touching it ends the process: SIGBUS, when the device
 * cannot deliver a page or the file has become shorter. So the first read of a block since its
 * table was opened is a pread, which reports a bad sector as STORM_IO and a short file as
 * STORM_CORRUPT, and verifies the checksum; it also brings the pages into the page cache. Only then
 * is the block's bit set, and from then on it is read through the mapping. What is left is a page
 * that the kernel dropped under pressure and then cannot read again, or a file cut short by
 * somebody else while the store is open: both end the process, as if it had been killed, and
 * nothing acknowledged is lost. A handler for SIGBUS would have to belong to the whole program,
 * which is not a library's to give.
 *
 * Pins are struct sdb_block like those of the cache, so that readers need not know what keeps their
 * bytes. They are counted in several places, one of them by thread; each place is at 1 for the
 * table, and `refs` counts places that have not come down to 0.
 */
#include "lsm/table/mapping.h"

#include <stddef.h>

#include "os/thread.h"

static _Atomic uint64_t mapped_bytes;
static _Atomic uint32_t mapped_files;

static void give_back(uint64_t bytes)
{
    atomic_fetch_sub_explicit(&mapped_bytes, bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&mapped_files, 1, memory_order_relaxed);
}

static bool take(uint64_t bytes)
{
    uint64_t others = atomic_fetch_add_explicit(&mapped_bytes, bytes, memory_order_relaxed);
    uint32_t files = atomic_fetch_add_explicit(&mapped_files, 1, memory_order_relaxed);
    if (others + bytes <= SDB_MAPPED_MAX && files < SDB_MAPPINGS_MAX)
        return true;
    give_back(bytes);
    return false;
}

/* A place of pins has come down to 0. */
static void place_gone(struct sdb_block *block)
{
    struct sdb_mapping *mapping = ((struct sdb_mapping_pin *)block)->mapping;
    /* Release: what we read is read. Acquire: before unmapping, so it is for everyone. */
    if (atomic_fetch_sub_explicit(&mapping->refs, 1, memory_order_acq_rel) != 1)
        return;
    sdb_unmap(mapping->file, (void *)(uintptr_t)mapping->data, mapping->size);
    sdb_close(mapping->file);
    give_back(mapping->size);
    free(mapping);
}

struct sdb_mapping *sdb_mapping_create(struct sdb_file *file, uint64_t size, uint32_t blocks)
{
    void *address;
    if (!take(size))
        return NULL;
    if (sdb_map(file, size, false, &address) != STORM_OK) {
        give_back(size);
        return NULL;
    }
    size_t words = ((size_t)blocks + 63) / 64;
    size_t room = sizeof(struct sdb_mapping) + words * sizeof(uint64_t);
    room = (room + SDB_CACHE_LINE - 1) / SDB_CACHE_LINE * SDB_CACHE_LINE;
    struct sdb_mapping *mapping = aligned_alloc(SDB_CACHE_LINE, room);
    if (mapping == NULL) {
        sdb_unmap(file, address, size);
        give_back(size);
        return NULL;
    }
    mapping->data = address;
    mapping->size = size;
    mapping->file = file;
    for (size_t i = 0; i < words; i++)
        atomic_init(&mapping->verified[i], 0);
    atomic_init(&mapping->refs, SDB_MAPPING_PINS);
    for (size_t i = 0; i < SDB_MAPPING_PINS; i++) {
        struct sdb_mapping_pin *pin = &mapping->pins[i];
        pin->mapping = mapping;
        pin->block = (struct sdb_block){.gone = place_gone};
        atomic_init(&pin->block.refs, 1);
    }
    return mapping;
}

void sdb_mapping_release(struct sdb_mapping *mapping)
{
    for (size_t i = 0; mapping != NULL && i < SDB_MAPPING_PINS; i++)
        sdb_block_unref(&mapping->pins[i].block); /* the last may take the mapping with it */
}

size_t sdb_mapping_memory(const struct sdb_mapping *mapping)
{
    return sdb_heap_bytes(mapping);
}

struct sdb_block *sdb_mapping_pin(struct sdb_mapping *mapping)
{
    struct sdb_block *block = &mapping->pins[sdb_thread_slot() % SDB_MAPPING_PINS].block;
    sdb_block_ref(block);
    return block;
}
