/* See store.h. */
#include "store.h"

#include <string.h>

void api_store_options(const struct storm_config *config, struct storm_options *options)
{
    static const enum storm_sync syncs[] = {
        [CONFIG_WAL_SYNC_ALWAYS] = STORM_SYNC_FULL,
        [CONFIG_WAL_SYNC_INTERVAL] = STORM_SYNC_INTERVAL,
        [CONFIG_WAL_SYNC_OFF] = STORM_SYNC_NONE,
    };
    static const enum storm_codec codecs[] = {
        [CONFIG_TABLE_CODEC_NONE] = STORM_CODEC_NONE,
        [CONFIG_TABLE_CODEC_DEFLATE] = STORM_CODEC_DEFLATE,
        [CONFIG_TABLE_CODEC_LZ4] = STORM_CODEC_LZ4,
        [CONFIG_TABLE_CODEC_ZSTD] = STORM_CODEC_ZSTD,
    };
    storm_options_init(options);
    options->memtable_bytes = (size_t)config->memtable_bytes;
    options->memtable_entries = (size_t)config->memtable_entries;
    options->write_buffer_bytes = (size_t)config->write_buffer_bytes;
    options->cache_bytes = (size_t)config->cache_bytes;
    options->sync = syncs[config->wal_sync];
    options->sync_interval_ms = (unsigned)config->wal_interval_ms;
    options->log_retention_bytes = config->wal_retention_bytes;
    options->log_retention_ms = config->wal_retention_ms;
    options->codec = codecs[config->table_codec];
    options->codec_level = (int)config->table_codec_level;
    options->block_bytes = (size_t)config->table_block_bytes;
    options->bloom_bits = config->table_bloom_bits;
    options->map_tables = config->table_mmap == CONFIG_TABLE_MMAP_TRUE;
    options->max_key_bytes = (size_t)config->limits_key_bytes;
    options->max_value_bytes = (size_t)config->limits_value_bytes;
    options->max_batch_bytes = (size_t)config->limits_batch_bytes;
    if (options->max_batch_bytes < options->max_value_bytes + options->max_key_bytes)
        options->max_batch_bytes = options->max_value_bytes + options->max_key_bytes;
}

const char *api_store_reason(const char *dir, const char *message)
{
    size_t length = strlen(dir);
    bool is_named = strncmp(message, dir, length) == 0 && strncmp(message + length, ": ", 2) == 0;
    return is_named ? message + length + 2 : message;
}

const char *api_store_advice(storm_status status)
{
    switch (status) {
    case STORM_LOCKED:
        return "; another process has it open: stop that one first";
    case STORM_DENIED:
        return "; run as the owner of the directory";
    case STORM_NEWER_FORMAT:
        return "; nothing was changed: use the release that wrote it, or a later one";
    case STORM_CORRUPT:
        return "; nothing was changed: restore the directory from a backup, or save what can be "
               "read with `stormctl repair`";
    case STORM_NO_SPACE:
        return "; free some disk space and start again";
    default:
        return "";
    }
}
