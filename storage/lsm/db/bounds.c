/* The range of an iterator; bounds.h tells how a prefix becomes one. */
#include "lsm/db/bounds.h"

/* Move the start on to the prefix, unless it lies behind it. */
static void raise_start(struct sdb_buffer *start, struct storm_slice prefix)
{
    if (sdb_key_compare(prefix, sdb_buffer_slice(start)) <= 0)
        return;
    sdb_buffer_clear(start);
    sdb_buffer_add(start, prefix.data, prefix.size);
}

/* Move the end back to the prefix's successor, unless it lies before it. */
static void lower_end(struct sdb_buffer *end, struct storm_slice prefix)
{
    size_t size = prefix.size;
    while (size > 0 && prefix.data[size - 1] == 0xff)
        size--;
    if (size == 0)
        return;
    struct sdb_buffer successor;
    sdb_buffer_init(&successor, end->max);
    if (sdb_buffer_add(&successor, prefix.data, size)) {
        successor.data[size - 1]++;
        struct storm_slice key = sdb_buffer_slice(&successor);
        if (end->size == 0 || sdb_key_compare(key, sdb_buffer_slice(end)) < 0) {
            sdb_buffer_clear(end);
            sdb_buffer_add(end, key.data, key.size);
        }
    } else {
        end->status = successor.status;
    }
    sdb_buffer_fini(&successor);
}

storm_status sdb_bounds_init(struct sdb_bounds *bounds, const struct storm_iter_options *options)
{
    sdb_buffer_init(&bounds->start, SIZE_MAX / 2);
    sdb_buffer_init(&bounds->end, SIZE_MAX / 2);
    if (options->start.size != 0)
        sdb_buffer_add(&bounds->start, options->start.data, options->start.size);
    if (options->end.size != 0)
        sdb_buffer_add(&bounds->end, options->end.data, options->end.size);
    if (options->prefix.size != 0 && bounds->start.status == STORM_OK)
        raise_start(&bounds->start, options->prefix);
    if (options->prefix.size != 0 && bounds->end.status == STORM_OK)
        lower_end(&bounds->end, options->prefix);
    return bounds->start.status != STORM_OK ? bounds->start.status : bounds->end.status;
}

void sdb_bounds_fini(struct sdb_bounds *bounds)
{
    sdb_buffer_fini(&bounds->start);
    sdb_buffer_fini(&bounds->end);
}
