/*
 * RocksDB by its C interface: block-based tables with whole-file filters, two background jobs as on
 * a machine of two cores, reads pinned rather than copied, everything else as it comes.
 */
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

struct store {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write, *write_synced;
};

struct session {
    struct store *store;
    rocksdb_writebatch_t *batch;
    rocksdb_pinnableslice_t *value;
    rocksdb_iterator_t *iter;
    bool is_reverse, is_first;
};

static void must(char *error, const char *what)
{
    if (error != NULL)
        fail(what, error);
}

const char *store_name(void)
{
    return STORM_BENCH_RELEASE ? "RocksDB, built Release" : "RocksDB of Debian";
}

bool store_has_codec(enum codec codec)
{
    (void)codec;
    return true;
}

struct store *store_open(const struct setup *setup)
{
    static const int codecs[] = {rocksdb_no_compression, rocksdb_zlib_compression,
                                 rocksdb_lz4_compression, rocksdb_zstd_compression};
    char *error = NULL;
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        fail("open", "out of memory");
    store->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(store->options, 1);
    rocksdb_options_set_write_buffer_size(store->options, setup->write_buffer_bytes);
    rocksdb_options_set_max_background_jobs(store->options, 2);
    rocksdb_options_set_compression(store->options, codecs[setup->codec]);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_size(table, 4096);
    rocksdb_block_based_options_set_block_cache(table,
                                                rocksdb_cache_create_lru(setup->cache_bytes));
    rocksdb_block_based_options_set_filter_policy(table,
                                                  rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_options_set_block_based_table_factory(store->options, table);
    store->read = rocksdb_readoptions_create();
    store->write = rocksdb_writeoptions_create();
    store->write_synced = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(store->write_synced, 1);
    store->db = rocksdb_open(store->options, setup->dir, &error);
    must(error, "open");
    return store;
}

void store_close(struct store *store)
{
    rocksdb_close(store->db);
    rocksdb_writeoptions_destroy(store->write_synced);
    rocksdb_writeoptions_destroy(store->write);
    rocksdb_readoptions_destroy(store->read);
    rocksdb_options_destroy(store->options);
    free(store);
}

void store_settle(struct store *store)
{
    rocksdb_compact_range(store->db, NULL, 0, NULL, 0);
}

struct session *session_begin(struct store *store)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL)
        fail("session", "out of memory");
    session->store = store;
    session->batch = rocksdb_writebatch_create();
    return session;
}

void session_end(struct session *session)
{
    rocksdb_pinnableslice_destroy(session->value);
    rocksdb_writebatch_destroy(session->batch);
    free(session);
}

void session_put(struct session *session, struct bytes key, struct bytes value, bool is_synced)
{
    char *error = NULL;
    struct store *store = session->store;
    rocksdb_put(store->db, is_synced ? store->write_synced : store->write, key.data, key.size,
                value.data, value.size, &error);
    must(error, "put");
}

void session_delete(struct session *session, struct bytes key)
{
    char *error = NULL;
    rocksdb_delete(session->store->db, session->store->write, key.data, key.size, &error);
    must(error, "delete");
}

void session_put_all(struct session *session, const struct item *items, size_t count)
{
    char *error = NULL;
    rocksdb_writebatch_clear(session->batch);
    for (size_t i = 0; i < count; i++)
        rocksdb_writebatch_put(session->batch, items[i].key.data, items[i].key.size,
                               items[i].value.data, items[i].value.size);
    rocksdb_write(session->store->db, session->store->write, session->batch, &error);
    must(error, "write");
}

bool session_get(struct session *session, struct bytes key, struct bytes *value)
{
    char *error = NULL;
    rocksdb_pinnableslice_destroy(session->value);
    session->value =
        rocksdb_get_pinned(session->store->db, session->store->read, key.data, key.size, &error);
    must(error, "get");
    if (session->value == NULL)
        return false;
    value->data = rocksdb_pinnableslice_value(session->value, &value->size);
    return true;
}

void session_scan(struct session *session, const struct bytes *from, bool is_reverse)
{
    session->iter = rocksdb_create_iterator(session->store->db, session->store->read);
    session->is_reverse = is_reverse;
    session->is_first = true;
    if (is_reverse)
        rocksdb_iter_seek_to_last(session->iter);
    else if (from == NULL)
        rocksdb_iter_seek_to_first(session->iter);
    else
        rocksdb_iter_seek(session->iter, from->data, from->size);
}

bool session_scan_next(struct session *session, struct item *item)
{
    if (!session->is_first && session->is_reverse)
        rocksdb_iter_prev(session->iter);
    else if (!session->is_first)
        rocksdb_iter_next(session->iter);
    session->is_first = false;
    if (!rocksdb_iter_valid(session->iter)) {
        char *error = NULL;
        rocksdb_iter_get_error(session->iter, &error);
        must(error, "scan");
        return false;
    }
    item->key.data = rocksdb_iter_key(session->iter, &item->key.size);
    item->value.data = rocksdb_iter_value(session->iter, &item->value.size);
    return true;
}

void session_scan_end(struct session *session)
{
    rocksdb_iter_destroy(session->iter);
}
