/*
 * The block cache: shards, each a mutex, a hash table of slots and a CLOCK hand.
 *
 *      buckets            slots (room of them, a power of two)
 *      [ 3 ]------------> 3: (id, offset) block use=2 next=0 ---> 0: (id, offset) block use=0 next=-
 *      [ - ]              1: free, next=2                    ^
 *      [ 5 ] ...          2: free, next=-                    hand
 *
 * Buckets and chains hold slot numbers, not pointers, so the slots can move when they grow. Free
 * slots are chained through `next` too and have block == NULL.
 *
 * What stays is decided by CLOCK with a counter of two bits (the generalised CLOCK of Smith, 1978).
 * A block enters at 0 and each hit adds 1, up to 3. To make room the hand walks the slots: a
 * counter above 0 loses 1, a counter at 0 loses its block. A block that a scan read once is thus
 * gone after at most one round, one that is used often outlives three rounds without a hit.
 *
 * The hand takes at most SWEEP steps for one put. If it found nothing cold by then, everything
 * there is worth more than the newcomer, which is not kept. So a put has a bounded cost, and a scan
 * through a cache full of hot blocks has to age them 32 at a time before it can push one out.
 *
 * Invariants, under mu: bytes = what the heap has taken for the slots, the buckets and each block,
 * and bytes <= capacity after each call. A block in a slot has one reference of the slot's own.
 * What is counted of the heap is what it really took, so that rounding up and headers do not add up
 * to more than was asked for; beyond the bound are only the shards themselves, 8 KiB at most. Slots
 * double while they take less than a quarter of the shard; they are not given back before the end,
 * so a change from small blocks to large ones leaves them in the account.
 *
 * Locks: a shard's mutex is a leaf; nothing is called under it but malloc and free. Only one shard
 * is locked at a time. A block's reference count is atomic and needs no lock.
 *
 * It does not read blocks, and two threads that miss the same block both read it; the second put is
 * ignored. That costs one read, and spares everyone a wait for another thread's disk.
 */
#include "lsm/table/cache.h"

#include <pthread.h>
#include <stdlib.h>

#include "util/hash.h"

enum {
    USE_MAX = 3,
    SWEEP = 32,      /* steps of the hand for one put */
    FIRST_SLOTS = 8, /* 288 bytes */
    SHARDS_MAX = 64, /* many more than there are threads that would meet in one */
    CACHE_LINE = 64,
    LARGE = 64 << 10, /* half of what glibc begins to take whole pages from */
    SMALL_SLACK = 128,
    LARGE_SLACK = 3 * 4096,
};
/* A shard below this would be crowded by a few of the largest blocks (64 KiB). */
#define SHARD_BYTES_MIN ((size_t)512 << 10)
#define NO_SLOT         UINT32_MAX

struct slot {
    uint64_t id;
    uint64_t offset;
    struct sdb_block *block; /* NULL = the slot is free */
    uint32_t next;           /* in the bucket's chain or the free chain */
    uint32_t use;            /* 0 to USE_MAX */
};

struct shard {
    _Alignas(CACHE_LINE) pthread_mutex_t mu;
    struct slot *slots; /* mu */
    uint32_t *buckets;  /* mu: as many as slots */
    uint32_t room;      /* mu: slots, 0 or a power of two */
    uint32_t free;      /* mu: head of the free chain */
    uint32_t hand;      /* mu: next slot the hand looks at */
    size_t bytes;       /* mu */
    size_t capacity;    /* const */
    uint64_t hits;      /* mu */
    uint64_t misses;    /* mu */
};

struct sdb_cache {
    size_t capacity;             /* const */
    struct sdb_account *account; /* const */
    unsigned shard_bits;         /* const */
    _Atomic uint64_t next_id;    /* atomic, relaxed: only uniqueness matters */
    struct shard shards[];       /* 1 << shard_bits */
};

/* ---- Blocks ---------------------------------------------------------------------------------- */

struct sdb_block *sdb_block_create(struct sdb_account *account, size_t size)
{
    if (size > UINT32_MAX)
        return NULL;
    struct sdb_block *block = malloc(sizeof *block + size);
    if (block == NULL)
        return NULL;
    sdb_account_took(account, SDB_FOR_CACHE, block);
    *block = (struct sdb_block){
        .account = account, .size = (uint32_t)size, .data = (uint8_t *)(block + 1)};
    atomic_init(&block->refs, 1);
    return block;
}

void sdb_block_ref(struct sdb_block *block)
{
    /* Relaxed: the caller has a reference already, or the shard's mutex. */
    atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
}

void sdb_block_unref(struct sdb_block *block)
{
    /* Release: our reads are over. Acquire: before free, so are everybody's. */
    if (block == NULL || atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (block->gone != NULL)
        block->gone(block);
    else
        sdb_account_free(block->account, SDB_FOR_CACHE, block);
}

/* ---- One shard; mu is held ------------------------------------------------------------------- */

/* What `room` slots and buckets will take at most: the heap rounds two small pieces up by some
 * bytes, two large ones to whole pages. */
static size_t slots_bound(uint32_t room)
{
    size_t bytes = room * (sizeof(struct slot) + sizeof(uint32_t));
    return bytes + (bytes < LARGE ? SMALL_SLACK : LARGE_SLACK);
}

static size_t slots_bytes(const struct shard *shard)
{
    return sdb_heap_bytes(shard->slots) + sdb_heap_bytes(shard->buckets);
}

static uint64_t key_hash(uint64_t id, uint64_t offset)
{
    return sdb_mix64(id * UINT64_C(0x9e3779b97f4a7c15) ^ offset);
}

static uint32_t *bucket_of(struct shard *shard, uint64_t hash)
{
    return &shard->buckets[hash & (shard->room - 1)];
}

static struct slot *find(struct shard *shard, uint64_t id, uint64_t offset, uint64_t hash)
{
    if (shard->room == 0)
        return NULL;
    for (uint32_t i = *bucket_of(shard, hash); i != NO_SLOT; i = shard->slots[i].next) {
        struct slot *slot = &shard->slots[i];
        if (slot->id == id && slot->offset == offset)
            return slot;
    }
    return NULL;
}

/* Take slot `i` out of its chain, drop its block, and put it on the free chain. */
static void drop(struct shard *shard, uint32_t i)
{
    struct slot *slot = &shard->slots[i];
    uint32_t *link = bucket_of(shard, key_hash(slot->id, slot->offset));
    while (*link != i)
        link = &shard->slots[*link].next;
    *link = slot->next;

    shard->bytes -= sdb_heap_bytes(slot->block);
    sdb_block_unref(slot->block);
    slot->block = NULL;
    slot->next = shard->free;
    shard->free = i;
}

/* Twice as many slots, if they may take that much of the shard, fit without dropping a block, and
 * there is memory. Otherwise the slots there are have to do: the hand frees one. */
static bool grow(struct shard *shard, struct sdb_account *account)
{
    uint32_t room = shard->room == 0 ? FIRST_SLOTS : shard->room * 2;
    size_t before = slots_bytes(shard);
    if (room < shard->room || slots_bound(room) > shard->capacity / 4 ||
        shard->bytes - before + slots_bound(room) > shard->capacity)
        return false;
    uint32_t *buckets = malloc(room * sizeof *buckets);
    if (buckets == NULL)
        return false;
    struct slot *slots = realloc(shard->slots, room * sizeof *slots);
    if (slots == NULL) {
        free(buckets);
        return false;
    }
    free(shard->buckets);
    shard->slots = slots;
    shard->buckets = buckets;
    shard->bytes += slots_bytes(shard) - before;
    sdb_account_add(account, SDB_FOR_CACHE, slots_bytes(shard) - before);

    for (uint32_t i = shard->room; i < room; i++)
        slots[i] = (struct slot){.next = i + 1 < room ? i + 1 : shard->free};
    shard->free = shard->room;
    shard->room = room;

    memset(buckets, 0xff, room * sizeof *buckets); /* NO_SLOT */
    for (uint32_t i = 0; i < room; i++) {
        if (slots[i].block == NULL)
            continue;
        uint32_t *bucket = bucket_of(shard, key_hash(slots[i].id, slots[i].offset));
        slots[i].next = *bucket;
        *bucket = i;
    }
    return true;
}

static bool has_room(const struct shard *shard, size_t bytes)
{
    return shard->free != NO_SLOT && shard->bytes + bytes <= shard->capacity;
}

/* Let the hand go round until there is a slot and `bytes`; false when all it met was in use. */
static bool make_room(struct shard *shard, size_t bytes)
{
    if (shard->room == 0 || slots_bytes(shard) + bytes > shard->capacity)
        return false;
    /* Free slots cost no step: many of them there are only while large blocks take the place of
     * small ones. It ends, because without any block there is room. */
    unsigned steps = 0;
    while (!has_room(shard, bytes) && steps < SWEEP) {
        uint32_t i = shard->hand;
        shard->hand = (i + 1) & (shard->room - 1);
        struct slot *slot = &shard->slots[i];
        if (slot->block == NULL)
            continue;
        steps++;
        if (slot->use > 0)
            slot->use--;
        else
            drop(shard, i);
    }
    return has_room(shard, bytes);
}

static void insert(struct sdb_cache *cache, struct shard *shard, uint64_t id, uint64_t offset,
                   uint64_t hash, struct sdb_block *block)
{
    if (find(shard, id, offset, hash) != NULL)
        return;
    size_t bytes = sdb_heap_bytes(block);
    if (shard->free == NO_SLOT)
        grow(shard, cache->account);
    if (!make_room(shard, bytes))
        return;

    uint32_t i = shard->free;
    struct slot *slot = &shard->slots[i];
    uint32_t *bucket = bucket_of(shard, hash);
    shard->free = slot->next;
    sdb_block_ref(block);
    *slot = (struct slot){.id = id, .offset = offset, .block = block, .next = *bucket};
    *bucket = i;
    shard->bytes += bytes;
}

/* ---- The cache ------------------------------------------------------------------------------- */

static size_t shard_count(const struct sdb_cache *cache)
{
    return (size_t)1 << cache->shard_bits;
}

/* By the bits from 32 up; buckets go by the low ones. */
static struct shard *shard_of(struct sdb_cache *cache, uint64_t hash)
{
    return &cache->shards[hash >> 32 & (shard_count(cache) - 1)];
}

struct sdb_cache *sdb_cache_create(size_t capacity, struct sdb_account *account)
{
    unsigned bits = 0;
    while ((1u << bits) < SHARDS_MAX && capacity >> (bits + 1) >= SHARD_BYTES_MIN)
        bits++;
    size_t count = (size_t)1 << bits;
    size_t size = sizeof(struct sdb_cache) + count * sizeof(struct shard);
    struct sdb_cache *cache = aligned_alloc(CACHE_LINE, size);
    if (cache == NULL)
        return NULL;

    sdb_account_took(account, SDB_FOR_CACHE, cache);
    cache->capacity = capacity;
    cache->account = account;
    cache->shard_bits = bits;
    atomic_init(&cache->next_id, 1);
    for (size_t i = 0; i < count; i++) {
        struct shard *shard = &cache->shards[i];
        memset(shard, 0, sizeof *shard);
        pthread_mutex_init(&shard->mu, NULL);
        shard->free = NO_SLOT;
        shard->capacity = capacity >> bits;
    }
    return cache;
}

void sdb_cache_destroy(struct sdb_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < shard_count(cache); i++) {
        struct shard *shard = &cache->shards[i];
        for (uint32_t k = 0; k < shard->room; k++)
            sdb_block_unref(shard->slots[k].block);
        sdb_account_free(cache->account, SDB_FOR_CACHE, shard->slots);
        sdb_account_free(cache->account, SDB_FOR_CACHE, shard->buckets);
        pthread_mutex_destroy(&shard->mu);
    }
    sdb_account_free(cache->account, SDB_FOR_CACHE, cache);
}

struct sdb_account *sdb_cache_account(const struct sdb_cache *cache)
{
    return cache->account;
}

uint64_t sdb_cache_new_id(struct sdb_cache *cache)
{
    return atomic_fetch_add_explicit(&cache->next_id, 1, memory_order_relaxed);
}

struct sdb_block *sdb_cache_get(struct sdb_cache *cache, uint64_t id, uint64_t offset)
{
    uint64_t hash = key_hash(id, offset);
    struct shard *shard = shard_of(cache, hash);
    struct sdb_block *block = NULL;
    if (cache->capacity == 0)
        return NULL;

    pthread_mutex_lock(&shard->mu);
    struct slot *slot = find(shard, id, offset, hash);
    if (slot != NULL) {
        block = slot->block;
        sdb_block_ref(block);
        slot->use += slot->use < USE_MAX;
        shard->hits++;
    } else {
        shard->misses++;
    }
    pthread_mutex_unlock(&shard->mu);
    return block;
}

void sdb_cache_put(struct sdb_cache *cache, uint64_t id, uint64_t offset, struct sdb_block *block)
{
    uint64_t hash = key_hash(id, offset);
    struct shard *shard = shard_of(cache, hash);
    if (cache->capacity == 0)
        return;
    pthread_mutex_lock(&shard->mu);
    insert(cache, shard, id, offset, hash, block);
    pthread_mutex_unlock(&shard->mu);
}

void sdb_cache_erase(struct sdb_cache *cache, uint64_t id)
{
    for (size_t i = 0; i < shard_count(cache); i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->mu);
        for (uint32_t k = 0; k < shard->room; k++) {
            if (shard->slots[k].block != NULL && shard->slots[k].id == id)
                drop(shard, k);
        }
        pthread_mutex_unlock(&shard->mu);
    }
}

void sdb_cache_stats(struct sdb_cache *cache, struct sdb_cache_stats *stats)
{
    *stats = (struct sdb_cache_stats){.capacity = cache->capacity};
    for (size_t i = 0; i < shard_count(cache); i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->mu);
        stats->bytes += shard->bytes;
        stats->hits += shard->hits;
        stats->misses += shard->misses;
        pthread_mutex_unlock(&shard->mu);
    }
}
