/*
 * The properties block. Every property of this release is one number; another one may hold
 * any bytes.
 */
#include "lsm/table/props.h"

#include "util/coding.h"

static void add(struct sdb_buffer *out, enum sdb_prop tag, uint64_t value)
{
    if (value == 0)
        return;
    sdb_buffer_add_varint(out, tag);
    sdb_buffer_add_varint(out, sdb_varint_size(value));
    sdb_buffer_add_varint(out, value);
}

void sdb_props_encode(const struct sdb_table_props *props, struct sdb_buffer *out)
{
    add(out, SDB_PROP_ENTRIES, props->entries);
    add(out, SDB_PROP_DELETES, props->deletes);
    add(out, SDB_PROP_KEYS, props->keys);
    add(out, SDB_PROP_RAW_BYTES, props->raw_bytes);
    add(out, SDB_PROP_DATA_BYTES, props->data_bytes);
    add(out, SDB_PROP_DATA_BLOCKS, props->data_blocks);
    add(out, SDB_PROP_MIN_REVISION, props->min_revision);
    add(out, SDB_PROP_MAX_REVISION, props->max_revision);
    add(out, SDB_PROP_CREATED_MS, props->created_ms);
    add(out, SDB_PROP_CODEC, props->codec);
    add(out, SDB_PROP_STALE_MS, props->stale_ms);
}

/* Where the property is kept; NULL for one of a later release. */
static uint64_t *place(struct sdb_table_props *props, uint64_t tag)
{
    switch (tag) {
    case SDB_PROP_ENTRIES:
        return &props->entries;
    case SDB_PROP_DELETES:
        return &props->deletes;
    case SDB_PROP_KEYS:
        return &props->keys;
    case SDB_PROP_RAW_BYTES:
        return &props->raw_bytes;
    case SDB_PROP_DATA_BYTES:
        return &props->data_bytes;
    case SDB_PROP_DATA_BLOCKS:
        return &props->data_blocks;
    case SDB_PROP_MIN_REVISION:
        return &props->min_revision;
    case SDB_PROP_MAX_REVISION:
        return &props->max_revision;
    case SDB_PROP_CREATED_MS:
        return &props->created_ms;
    case SDB_PROP_STALE_MS:
        return &props->stale_ms;
    default:
        return NULL;
    }
}

storm_status sdb_props_parse(struct storm_slice contents, struct sdb_table_props *props)
{
    struct sdb_cursor cursor = sdb_cursor(contents);
    *props = (struct sdb_table_props){.entries = 0};
    while (sdb_cursor_left(&cursor) != 0) {
        uint64_t tag;
        struct storm_slice bytes;
        if (!sdb_read_varint(&cursor, &tag) || !sdb_read_prefixed(&cursor, &bytes))
            return STORM_CORRUPT;
        struct sdb_cursor value = sdb_cursor(bytes);
        uint64_t *to = place(props, tag);
        if (to != NULL && (!sdb_read_varint(&value, to) || sdb_cursor_left(&value) != 0))
            return STORM_CORRUPT;
        if (tag == SDB_PROP_CODEC && !sdb_read_varint32(&value, &props->codec))
            return STORM_CORRUPT;
    }
    return STORM_OK;
}
