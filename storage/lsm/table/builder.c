/*
 * The table builder: entries in, a finished and durable file out.
 *
 *   add ... add | block full: finish, compress, checksum, index it | ... | finish: the last block,
 *   filter, index, properties, footer, fsync
 *
 * A block is cut before the entry that would take it beyond the target size, so blocks of a target
 * of
 * 4,096 stay within a page; one entry alone may be larger. A block is compressed if that saves
 * an eighth: less is not worth the 13 us that inflating costs each reader.
 *
 * Stored bytes gather in a buffer and reach the file in writes of at least WRITE_BYTES, and every
 * WRITEBACK_BYTES the kernel is told to begin writing, so that the fsync at the end does not meet
 * the whole table at once. A block of DIRECT_BYTES and more, a large value, is written from where
 * it lies, together with what has gathered: one more call costs less than another copy of it.
 *
 * The first failure sticks. Nothing is removed here: the file has no footer yet, so it can never be
 * taken for a table, and the owner of the directory knows whether it is safe to unlink.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "lsm/table/block_builder.h"
#include "lsm/table/codec.h"
#include "lsm/table/filter.h"
#include "lsm/table/format.h"
#include "lsm/table/index.h"
#include "lsm/table/props.h"
#include "lsm/table/table.h"
#include "util/coding.h"
#include "util/crc32c.h"

enum {
    WRITE_BYTES = 256 << 10,
    DIRECT_BYTES = 32 << 10,
    WRITEBACK_BYTES = 1 << 20,
    BLOCK_BYTES_MAX = 1 << 20,
};

struct sdb_table_builder {
    struct sdb_os *os;
    struct sdb_file *file;
    char *path;
    uint64_t number;
    struct sdb_table_options options;
    storm_status status;
    bool is_finished;

    struct sdb_block_builder block;
    struct sdb_index_builder index;
    struct sdb_filter_keys hashes;
    struct sdb_encoder *encoder; /* NULL for codec none */
    struct sdb_buffer packed;    /* a compressed block */
    struct sdb_table_props props;
    uint64_t last_tag; /* of the last entry; its key is in block.last_key */

    struct sdb_buffer pending; /* stored bytes that are not in the file yet */
    uint64_t written;          /* bytes of the file, without pending */
    uint64_t writeback_from;
};

static storm_status fail(struct sdb_table_builder *builder, storm_status status, const char *what)
{
    builder->status = status;
    return sdb_fail(builder->os->errors, status, "%s: %s", builder->path, what);
}

/* A failure that the os layer has recorded, or recorded here when memory ran out. */
static storm_status keep(struct sdb_table_builder *builder, storm_status status)
{
    if (status == STORM_NO_MEMORY)
        return fail(builder, status, "no memory to build the table");
    if (status == STORM_TOO_LARGE)
        return fail(builder, status, "a block of the table would be larger than 1 GiB");
    builder->status = status;
    return status;
}

static bool options_ok(const struct sdb_table_options *options)
{
    bool bits_ok =
        options->bloom_bits == 0 || (options->bloom_bits >= 1 && options->bloom_bits <= 64);
    return options->block_bytes >= 1 && options->block_bytes <= BLOCK_BYTES_MAX && bits_ok &&
           sdb_codec_name(options->codec) != NULL &&
           sdb_codec_level_ok(options->codec, options->codec_level);
}

storm_status sdb_table_builder_open(struct sdb_os *os, const char *path, uint64_t number,
                                    const struct sdb_table_options *options,
                                    struct sdb_table_builder **out)
{
    *out = NULL;
    if (!options_ok(options))
        return sdb_fail(os->errors, STORM_INVALID,
                        "%s: block size, filter bits, codec or level of a table out of range",
                        path);
    struct sdb_table_builder *builder = calloc(1, sizeof *builder);
    if (builder == NULL)
        return sdb_fail(os->errors, STORM_NO_MEMORY, "%s: no memory to build the table", path);
    builder->os = os;
    builder->number = number;
    builder->options = *options;
    builder->props.codec = options->codec;
    sdb_block_builder_init(&builder->block, SDB_RESTART_INTERVAL);
    sdb_index_builder_init(&builder->index);
    sdb_buffer_init(&builder->packed, SDB_TABLE_BLOCK_MAX);
    sdb_buffer_init(&builder->pending, 3 * WRITE_BYTES);
    builder->path = strdup(path);
    if (options->codec != STORM_CODEC_NONE)
        builder->encoder = sdb_encoder_create(options->codec, options->codec_level);
    storm_status status;
    if (builder->path == NULL || (builder->encoder == NULL && options->codec != STORM_CODEC_NONE))
        status = sdb_fail(os->errors, STORM_NO_MEMORY, "%s: no memory to build the table", path);
    else
        status = sdb_open(os, path, SDB_OPEN_CREATE, &builder->file);
    if (status != STORM_OK) {
        sdb_table_builder_close(builder);
        return status;
    }
    *out = builder;
    return STORM_OK;
}

void sdb_table_builder_close(struct sdb_table_builder *builder)
{
    if (builder == NULL)
        return;
    sdb_close(builder->file);
    sdb_block_builder_fini(&builder->block);
    sdb_index_builder_fini(&builder->index);
    sdb_filter_keys_fini(&builder->hashes);
    sdb_encoder_destroy(builder->encoder);
    sdb_buffer_fini(&builder->packed);
    sdb_buffer_fini(&builder->pending);
    free(builder->path);
    free(builder);
}

/* ---- Writing --------------------------------------------------------------------------------- */

static uint64_t file_end(const struct sdb_table_builder *builder)
{
    return builder->written + builder->pending.size;
}

static storm_status write_parts(struct sdb_table_builder *builder, const struct iovec *parts,
                                int count)
{
    storm_status status = sdb_pwritev(builder->file, builder->written, parts, count);
    if (status != STORM_OK)
        return keep(builder, status);
    for (int i = 0; i < count; i++)
        builder->written += parts[i].iov_len;
    if (builder->written - builder->writeback_from >= WRITEBACK_BYTES) {
        sdb_start_writeback(builder->file, builder->writeback_from,
                            builder->written - builder->writeback_from);
        builder->writeback_from = builder->written;
    }
    return STORM_OK;
}

static storm_status write_pending(struct sdb_table_builder *builder)
{
    if (builder->pending.size == 0)
        return STORM_OK;
    struct iovec part = {builder->pending.data, builder->pending.size};
    sdb_buffer_clear(&builder->pending);
    return write_parts(builder, &part, 1);
}

/* Append a block that is ready for the disk but for its trailer. */
static storm_status write_stored(struct sdb_table_builder *builder, struct storm_slice stored,
                                 uint8_t codec, struct sdb_handle *handle)
{
    uint8_t trailer[SDB_TRAILER_SIZE];
    handle->offset = file_end(builder);
    handle->size = (uint32_t)stored.size;
    trailer[0] = codec;
    uint32_t crc = sdb_crc32c(sdb_crc32c(0, stored.data, stored.size), trailer, 1);
    sdb_put_u32(trailer + 1, crc ^ sdb_block_mask(builder->number, handle->offset));
    if (stored.size >= DIRECT_BYTES) {
        struct iovec parts[3] = {{builder->pending.data, builder->pending.size},
                                 {(void *)(uintptr_t)stored.data, stored.size},
                                 {trailer, sizeof trailer}};
        sdb_buffer_clear(&builder->pending);
        return write_parts(builder, parts, 3);
    }
    sdb_buffer_add(&builder->pending, stored.data, stored.size);
    sdb_buffer_add(&builder->pending, trailer, sizeof trailer);
    if (builder->pending.status != STORM_OK)
        return keep(builder, builder->pending.status);
    return builder->pending.size >= WRITE_BYTES ? write_pending(builder) : STORM_OK;
}

static storm_status write_packed(struct sdb_table_builder *builder, struct storm_slice contents,
                                 struct sdb_handle *handle)
{
    struct sdb_buffer *packed = &builder->packed;
    size_t room = contents.size - contents.size / 8;
    sdb_buffer_clear(packed);
    sdb_buffer_add_varint(packed, contents.size);
    if (room > packed->size) {
        room -= packed->size;
        uint8_t *to = sdb_buffer_reserve(packed, room);
        size_t size = to != NULL ? sdb_encoder_run(builder->encoder, contents, to, room) : 0;
        packed->size += size;
        if (packed->status != STORM_OK)
            return keep(builder, packed->status);
        if (size != 0)
            return write_stored(builder, sdb_buffer_slice(packed), (uint8_t)builder->options.codec,
                                handle);
    }
    return write_stored(builder, contents, STORM_CODEC_NONE, handle);
}

/* Close the data block; `next` is the key that made it full, data NULL for the last block. */
static storm_status cut_block(struct sdb_table_builder *builder, struct storm_slice next)
{
    struct sdb_handle handle;
    struct storm_slice contents = sdb_block_builder_finish(&builder->block);
    if (contents.data == NULL)
        return keep(builder, builder->block.out.status);
    storm_status status = builder->encoder != NULL
                              ? write_packed(builder, contents, &handle)
                              : write_stored(builder, contents, STORM_CODEC_NONE, &handle);
    if (status != STORM_OK)
        return status;
    status = sdb_index_builder_add(&builder->index, sdb_buffer_slice(&builder->block.last_key),
                                   builder->last_tag, next, handle.size);
    if (status != STORM_OK)
        return keep(builder, status);
    builder->props.data_blocks++;
    builder->props.data_bytes += (uint64_t)handle.size + SDB_TRAILER_SIZE;
    sdb_block_builder_clear(&builder->block);
    return STORM_OK;
}

/* ---- Adding ---------------------------------------------------------------------------------- */

uint64_t sdb_key_hash(struct storm_slice key)
{
    return sdb_hash64(key.data, key.size, 0);
}

static storm_status check_entry(struct sdb_table_builder *builder, struct storm_slice key,
                                uint64_t tag, struct storm_slice value, bool *is_new_key)
{
    if (key.size == 0)
        return fail(builder, STORM_INVALID, "an entry with an empty key");
    if (key.size > SDB_TABLE_KEY_MAX || value.size > SDB_TABLE_BLOCK_MAX)
        return fail(builder, STORM_TOO_LARGE, "an entry over the limits of a table");
    if (sdb_tag_revision(tag) > SDB_MAX_REVISION)
        return fail(builder, STORM_INVALID, "an entry with a revision out of range");
    *is_new_key = true;
    if (builder->props.entries == 0)
        return STORM_OK;
    int order = sdb_key_compare(sdb_buffer_slice(&builder->block.last_key), key);
    if (order > 0 || (order == 0 && builder->last_tag <= tag))
        return fail(builder, STORM_INVALID, "entries of a table out of order");
    *is_new_key = order != 0;
    return STORM_OK;
}

static void count_entry(struct sdb_table_props *props, size_t bytes, uint64_t tag, bool is_new_key)
{
    uint64_t revision = sdb_tag_revision(tag);
    if (props->entries == 0 || revision < props->min_revision)
        props->min_revision = revision;
    if (revision > props->max_revision)
        props->max_revision = revision;
    props->entries++;
    props->deletes += sdb_tag_kind(tag) == SDB_KIND_DELETE;
    props->keys += is_new_key;
    props->raw_bytes += bytes;
}

storm_status sdb_table_builder_add(struct sdb_table_builder *builder, struct storm_slice key,
                                   uint64_t tag, struct storm_slice value)
{
    bool is_new_key;
    if (builder->status != STORM_OK)
        return builder->status;
    if (builder->is_finished)
        return fail(builder, STORM_INVALID, "an entry for a table that is finished");
    storm_status status = check_entry(builder, key, tag, value, &is_new_key);
    if (status != STORM_OK)
        return status;
    size_t size = sdb_block_builder_size(&builder->block);
    if (builder->block.entries != 0 &&
        size + key.size + value.size > builder->options.block_bytes) {
        status = cut_block(builder, key);
        if (status != STORM_OK)
            return status;
    }
    status = sdb_block_builder_add(&builder->block, key, tag, value);
    if (status != STORM_OK)
        return keep(builder, status);
    bool wants_hash = is_new_key && builder->options.bloom_bits > 0;
    if (wants_hash && !sdb_filter_keys_add(&builder->hashes, sdb_key_hash(key)))
        return keep(builder, STORM_NO_MEMORY);
    builder->last_tag = tag;
    count_entry(&builder->props, key.size + value.size, tag, is_new_key);
    return STORM_OK;
}

void sdb_table_builder_set_stale(struct sdb_table_builder *builder, uint64_t stale_ms)
{
    builder->props.stale_ms = stale_ms;
}

uint64_t sdb_table_builder_size(const struct sdb_table_builder *builder)
{
    uint64_t size = file_end(builder);
    return builder->block.entries == 0 ? size : size + sdb_block_builder_size(&builder->block);
}

/* ---- Finishing ------------------------------------------------------------------------------- */

static void put_handle(uint8_t *to, struct sdb_handle handle)
{
    sdb_put_u64(to, handle.offset);
    sdb_put_u32(to + 8, handle.size);
}

static storm_status write_filter(struct sdb_table_builder *builder, struct sdb_handle *handle)
{
    *handle = (struct sdb_handle){0, 0};
    if (builder->hashes.count == 0)
        return STORM_OK;
    sdb_buffer_clear(&builder->packed);
    storm_status status =
        sdb_filter_build(&builder->hashes, builder->options.bloom_bits, &builder->packed);
    if (status != STORM_OK)
        return keep(builder, status);
    return write_stored(builder, sdb_buffer_slice(&builder->packed), STORM_CODEC_NONE, handle);
}

static storm_status write_props(struct sdb_table_builder *builder, struct sdb_handle *handle)
{
    sdb_buffer_clear(&builder->packed);
    sdb_props_encode(&builder->props, &builder->packed);
    if (builder->packed.status != STORM_OK)
        return keep(builder, builder->packed.status);
    return write_stored(builder, sdb_buffer_slice(&builder->packed), STORM_CODEC_NONE, handle);
}

static storm_status write_footer(struct sdb_table_builder *builder, struct sdb_handle filter,
                                 struct sdb_handle index, struct sdb_handle props)
{
    uint8_t footer[SDB_FOOTER_SIZE] = {0};
    put_handle(footer + SDB_FOOTER_FILTER, filter);
    put_handle(footer + SDB_FOOTER_INDEX, index);
    put_handle(footer + SDB_FOOTER_PROPS, props);
    sdb_put_u64(footer + SDB_FOOTER_NUMBER, builder->number);
    sdb_put_u32(footer + SDB_FOOTER_VERSION, SDB_TABLE_VERSION);
    sdb_put_u32(footer + SDB_FOOTER_CRC, sdb_crc32c(0, footer, SDB_FOOTER_CRC));
    memcpy(footer + SDB_FOOTER_MAGIC, SDB_TABLE_MAGIC, SDB_FOOTER_MAGIC_SIZE);
    if (!sdb_buffer_add(&builder->pending, footer, sizeof footer))
        return keep(builder, builder->pending.status);
    return write_pending(builder);
}

storm_status sdb_table_builder_finish(struct sdb_table_builder *builder, uint64_t now_ms,
                                      struct sdb_table_props *props, uint64_t *file_bytes)
{
    struct sdb_handle filter;
    struct sdb_handle index;
    struct sdb_handle properties;
    *props = (struct sdb_table_props){.entries = 0};
    *file_bytes = 0;
    storm_status status = builder->status;
    if (status == STORM_OK && builder->is_finished)
        status = fail(builder, STORM_INVALID, "a table finished twice");
    if (status == STORM_OK && builder->block.entries != 0)
        status = cut_block(builder, (struct storm_slice){NULL, 0});
    if (status == STORM_OK)
        status = write_filter(builder, &filter);
    if (status == STORM_OK)
        status =
            write_stored(builder, sdb_buffer_slice(&builder->index.out), STORM_CODEC_NONE, &index);
    builder->props.created_ms = now_ms;
    if (status == STORM_OK)
        status = write_props(builder, &properties);
    if (status == STORM_OK)
        status = write_footer(builder, filter, index, properties);
    if (status != STORM_OK)
        return status;
    status = sdb_sync(builder->file);
    if (status != STORM_OK)
        return keep(builder, status);
    builder->is_finished = true;
    *props = builder->props;
    *file_bytes = builder->written;
    return STORM_OK;
}
