/*
 * The twin's medium, first half: the bytes of a file in their two states.
 *
 *     seen      [P0][P1'][P2 ][  ][P4']       dirty   0 | 01000000 | 0 | 0 | 11111111
 *                |         |                  (one bit for each 512-byte sector of a page)
 *     durable   [P0][P1 ][P2 ][  ]            NULL pages are holes and read as zeroes
 *
 * Pages are shared while both states agree and copied by the first write after a sync, so a sync
 * costs one pointer for each dirty page, and a 64 MiB reservation costs nothing until it is
 * written. That is what lets a sweep cut the power a thousand times in a second or two.
 *
 * Invariants
 *   - a page with refs > 1 is never written to;
 *   - a sector whose dirty bit is clear reads the same in both states, where both sizes reach it;
 *   - bytes of the last page behind `size` are zero, in both states;
 *   - held = reserved + seen pages at or behind `reserved` that are not NULL.
 *
 * Space is charged for what is seen, by whole pages, as file systems do; a hole is free until it is
 * written. Copies that the durable state keeps are not charged: a journal frees blocks the same
 * way.
 */
#include "os/sim_disk.h"

#include <stdlib.h>
#include <string.h>

static size_t pages_of(uint64_t size)
{
    return (size_t)((size + SIM_PAGE - 1) / SIM_PAGE);
}

/* ---- Images ---------------------------------------------------------------------------------- */

static void page_unref(struct sim_page *page)
{
    if (page != NULL && --page->refs == 0)
        free(page);
}

static struct sim_page *image_page(const struct sim_image *image, size_t index)
{
    return index < image->count ? image->pages[index] : NULL;
}

static void image_reserve(struct sim_image *image, size_t count)
{
    size_t room = image->count;

    if (count <= room)
        return;
    count = count > 2 * room ? count : 2 * room;
    image->pages = sim_memory(image->pages, count * sizeof(struct sim_page *));
    memset(image->pages + room, 0, (count - room) * sizeof(struct sim_page *));
    image->count = count;
}

/* Let the image's page be `page` (a reference is taken; NULL makes a hole). */
static void image_set(struct sim_image *image, size_t index, struct sim_page *page)
{
    struct sim_page *old = image_page(image, index);

    if (old == page)
        return;
    image_reserve(image, index + 1);
    if (page != NULL)
        page->refs++;
    image->pages[index] = page;
    page_unref(old);
}

/* A page of the image that may be written to: the only one, a copy of a shared one, or a new
 * one. */
static struct sim_page *image_own(struct sim_image *image, size_t index)
{
    struct sim_page *old = image_page(image, index);
    struct sim_page *own;

    if (old != NULL && old->refs == 1)
        return old;
    own = sim_memory(NULL, sizeof(*own));
    own->refs = 0;
    if (old != NULL)
        memcpy(own->bytes, old->bytes, SIM_PAGE);
    else
        memset(own->bytes, 0, SIM_PAGE);
    image_set(image, index, own);
    return own;
}

/* Cut or extend; keeps the bytes behind the end at zero. */
static void image_resize(struct sim_image *image, uint64_t size)
{
    size_t keep = pages_of(size);
    size_t tail = (size_t)(size % SIM_PAGE);
    size_t i;

    for (i = keep; i < image->count; i++)
        image_set(image, i, NULL);
    if (tail > 0 && size < image->size && image_page(image, keep - 1) != NULL)
        memset(image_own(image, keep - 1)->bytes + tail, 0, SIM_PAGE - tail);
    image->size = size;
}

static void image_free(struct sim_image *image)
{
    size_t i;

    for (i = 0; i < image->count; i++)
        page_unref(image->pages[i]);
    free(image->pages);
    memset(image, 0, sizeof(*image));
}

void sim_node_free_pages(struct sim_node *node)
{
    image_free(&node->seen);
    image_free(&node->durable);
    free(node->dirty);
    node->dirty = NULL;
}

/* ---- Dirty sectors --------------------------------------------------------------------------- */

static void dirty_mark(struct sim_node *node, size_t page, unsigned bits)
{
    if (page >= node->dirty_count) {
        size_t count = page + 1 > 2 * node->dirty_count ? page + 1 : 2 * node->dirty_count;

        node->dirty = sim_memory(node->dirty, count);
        memset(node->dirty + node->dirty_count, 0, count - node->dirty_count);
        node->dirty_count = count;
    }
    node->dirty[page] = (uint8_t)(node->dirty[page] | bits);
    if (node->dirty_low == node->dirty_high) {
        node->dirty_low = page;
        node->dirty_high = page + 1;
    } else {
        node->dirty_low = page < node->dirty_low ? page : node->dirty_low;
        node->dirty_high = page + 1 > node->dirty_high ? page + 1 : node->dirty_high;
    }
}

static void dirty_clear(struct sim_node *node)
{
    if (node->dirty_high > node->dirty_low)
        memset(node->dirty + node->dirty_low, 0, node->dirty_high - node->dirty_low);
    node->dirty_low = 0;
    node->dirty_high = 0;
}

/* The bits of the sectors that hold bytes [from, to) of a page. */
static unsigned sector_bits(size_t from, size_t to)
{
    size_t first = from / SIM_SECTOR;
    size_t last = (to - 1) / SIM_SECTOR;

    return ((1U << (last + 1)) - 1) & ~((1U << first) - 1);
}

static void recount(struct sim_node *node)
{
    size_t i;

    node->held = node->reserved;
    for (i = (size_t)node->reserved; i < node->seen.count; i++)
        node->held += node->seen.pages[i] != NULL;
}

/* ---- What a process does --------------------------------------------------------------------- */

/* Whether the disk has room for `pages` more. */
static bool has_room(const struct sim_medium *medium, uint64_t pages)
{
    uint64_t used;

    if (medium->capacity == 0)
        return true;
    used = sim_medium_used(medium);
    return used <= medium->capacity && pages <= (medium->capacity - used) / SIM_PAGE;
}

storm_status sim_node_write(struct sim_medium *medium, struct sim_node *node, uint64_t offset,
                            const uint8_t *data, size_t size)
{
    while (size > 0) {
        size_t page = (size_t)(offset / SIM_PAGE);
        size_t from = (size_t)(offset % SIM_PAGE);
        size_t n = size < SIM_PAGE - from ? size : SIM_PAGE - from;

        if (page >= node->reserved && image_page(&node->seen, page) == NULL) {
            if (!has_room(medium, 1))
                return STORM_NO_SPACE;
            node->held++;
        }
        memcpy(image_own(&node->seen, page)->bytes + from, data, n);
        dirty_mark(node, page, sector_bits(from, from + n));
        offset += n;
        data += n;
        size -= n;
        if (offset > node->seen.size)
            node->seen.size = offset;
    }
    return STORM_OK;
}

size_t sim_node_read(const struct sim_node *node, uint64_t offset, uint8_t *data, size_t size)
{
    size_t done = 0;

    if (offset >= node->seen.size)
        return 0;
    if (size > node->seen.size - offset)
        size = (size_t)(node->seen.size - offset);
    while (done < size) {
        const struct sim_page *page = image_page(&node->seen, (size_t)(offset / SIM_PAGE));
        size_t from = (size_t)(offset % SIM_PAGE);
        size_t n = size - done < SIM_PAGE - from ? size - done : SIM_PAGE - from;

        if (page != NULL)
            memcpy(data + done, page->bytes + from, n);
        else
            memset(data + done, 0, n);
        done += n;
        offset += n;
    }
    return done;
}

storm_status sim_node_allocate(struct sim_medium *medium, struct sim_node *node, uint64_t size)
{
    uint64_t want = pages_of(size);
    uint64_t missing = 0;
    size_t i;

    if (want > node->reserved) {
        missing = want - node->reserved;
        for (i = (size_t)node->reserved; i < want && i < node->seen.count; i++)
            missing -= node->seen.pages[i] != NULL;
        if (!has_room(medium, missing))
            return STORM_NO_SPACE;
        node->reserved = want;
        node->held += missing;
    }
    if (size > node->seen.size)
        node->seen.size = size;
    return STORM_OK;
}

void sim_node_truncate(struct sim_node *node, uint64_t size)
{
    size_t keep = pages_of(size);
    size_t tail = (size_t)(size % SIM_PAGE);
    size_t i;

    if (size < node->seen.size) {
        /* A cut is a change like any other: what was there may come back after a power loss, and
         * must be zeroes on the medium too once the file has grown again and was synced. */
        for (i = keep; i < node->seen.count || i < node->durable.count; i++)
            if (image_page(&node->seen, i) != NULL || image_page(&node->durable, i) != NULL)
                dirty_mark(node, i, 0xff);
        if (tail > 0 && image_page(&node->seen, keep - 1) != NULL)
            dirty_mark(node, keep - 1, sector_bits(tail, SIM_PAGE));
        if (node->reserved > keep)
            node->reserved = keep;
    }
    image_resize(&node->seen, size);
    recount(node);
}

void sim_node_sync(struct sim_node *node)
{
    size_t i;

    for (i = node->dirty_low; i < node->dirty_high; i++)
        if (node->dirty[i] != 0)
            image_set(&node->durable, i, image_page(&node->seen, i));
    node->durable.size = node->seen.size;
    dirty_clear(node);
}

void sim_node_forget(struct sim_node *node)
{
    size_t i;

    for (i = node->dirty_low; i < node->dirty_high; i++)
        if (node->dirty[i] != 0)
            image_set(&node->seen, i, image_page(&node->durable, i));
    dirty_clear(node);
    /* The size lives in the inode, which is not lost with the pages. Where the file had been cut,
     * the old bytes behind its end must not come back into sight. */
    if (node->seen.size < node->durable.size) {
        uint64_t size = node->seen.size;

        node->seen.size = node->durable.size;
        sim_node_truncate(node, size);
    }
    recount(node);
}

/* ---- Power loss ------------------------------------------------------------------------------ */

/* Which size the medium has: the old one, the new one, or, of a file that grew, one in between. */
static uint64_t settle_size(struct sim_medium *medium, uint64_t old_size, uint64_t new_size)
{
    uint64_t coin = sim_random(medium) % 3;
    uint64_t size;

    if (coin == 0 || old_size == new_size)
        return old_size;
    if (coin == 1 || new_size < old_size)
        return new_size;
    size = old_size + sim_random(medium) % (new_size - old_size + 1);
    size += SIM_SECTOR - 1 - (size + SIM_SECTOR - 1) % SIM_SECTOR;
    return size < new_size ? size : new_size;
}

/* Move each dirty sector below `end` to the durable state, or not, by a coin; tear the last
 * moved. */
static void settle_sectors(struct sim_medium *medium, struct sim_node *node, uint64_t end,
                           bool is_torn)
{
    uint8_t before[SIM_SECTOR];
    size_t last_page = 0;
    size_t last_at = 0;
    bool is_kept = false;
    size_t page;
    size_t at;

    for (page = node->dirty_low; page < node->dirty_high; page++) {
        for (at = 0; at < SIM_PAGE; at += SIM_SECTOR) {
            const struct sim_page *source = image_page(&node->seen, page);
            struct sim_page *target;

            if ((node->dirty[page] & sector_bits(at, at + 1)) == 0 ||
                (uint64_t)page * SIM_PAGE + at >= end || sim_random(medium) % 2 == 0)
                continue;
            target = image_own(&node->durable, page);
            memcpy(before, target->bytes + at, SIM_SECTOR);
            if (source != NULL)
                memcpy(target->bytes + at, source->bytes + at, SIM_SECTOR);
            else
                memset(target->bytes + at, 0, SIM_SECTOR);
            last_page = page;
            last_at = at;
            is_kept = true;
        }
    }
    if (is_torn && is_kept) {
        size_t cut = 1 + (size_t)(sim_random(medium) % (SIM_SECTOR - 1));

        memcpy(image_own(&node->durable, last_page)->bytes + last_at + cut, before + cut,
               SIM_SECTOR - cut);
    }
}

void sim_node_settle(struct sim_medium *medium, struct sim_node *node, enum sim_loss loss)
{
    size_t i;

    if (loss == SIM_KEEP_ALL) /* the kernel lives on: what is dirty stays dirty */
        return;
    if (loss != SIM_LOSE_ALL) {
        uint64_t size = settle_size(medium, node->durable.size, node->seen.size);
        uint64_t end = size < node->seen.size ? size : node->seen.size;

        image_resize(&node->durable, size);
        settle_sectors(medium, node, end, loss == SIM_KEEP_TORN);
        /* The sector at the end came over whole: zero what is behind the end. */
        node->durable.size = UINT64_MAX;
        image_resize(&node->durable, size);
    }
    for (i = node->dirty_low; i < node->dirty_high; i++)
        image_set(&node->seen, i, image_page(&node->durable, i));
    node->seen.size = node->durable.size;
    dirty_clear(node);
    if (node->reserved > pages_of(node->seen.size))
        node->reserved = pages_of(node->seen.size);
    recount(node);
}

/* ---- Behind the engine's back ---------------------------------------------------------------- */

void sim_node_flip(struct sim_node *node, uint64_t offset, uint8_t mask)
{
    size_t page = (size_t)(offset / SIM_PAGE);
    size_t at = (size_t)(offset % SIM_PAGE);

    image_own(&node->seen, page)->bytes[at] ^= mask;
    recount(node); /* the hole that was there is filled now */
    if (offset < node->durable.size)
        image_own(&node->durable, page)->bytes[at] ^= mask;
}

void sim_node_resize(struct sim_node *node, uint64_t size)
{
    sim_node_truncate(node, size);
    image_resize(&node->durable, size);
}
