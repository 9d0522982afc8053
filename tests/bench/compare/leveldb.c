/* LevelDB by its C interface. It has Snappy only, which stays off, and maps its tables into
 * memory. */
#include <leveldb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

struct store {
    leveldb_t *db;
    leveldb_options_t *options;
    leveldb_cache_t *cache;
    leveldb_filterpolicy_t *filter;
    leveldb_readoptions_t *read;
    leveldb_writeoptions_t *write, *write_synced;
};

struct session {
    struct store *store;
    leveldb_writebatch_t *batch;
    char *value;
    leveldb_iterator_t *iter;
    bool is_reverse, is_first;
};

static void must(char *error, const char *what)
{
    if (error != NULL)
        fail(what, error);
}

const char *store_name(void)
{
    static char name[64];
    snprintf(name, sizeof name, "LevelDB %d.%d", leveldb_major_version(), leveldb_minor_version());
    return name;
}

bool store_has_codec(enum codec codec)
{
    return codec == CODEC_NONE;
}

struct store *store_open(const struct setup *setup)
{
    char *error = NULL;
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        fail("open", "out of memory");
    store->options = leveldb_options_create();
    store->cache = leveldb_cache_create_lru(setup->cache_bytes);
    store->filter = leveldb_filterpolicy_create_bloom(10);
    leveldb_options_set_create_if_missing(store->options, 1);
    leveldb_options_set_cache(store->options, store->cache);
    leveldb_options_set_filter_policy(store->options, store->filter);
    leveldb_options_set_write_buffer_size(store->options, setup->write_buffer_bytes);
    leveldb_options_set_compression(store->options, leveldb_no_compression);
    store->read = leveldb_readoptions_create();
    leveldb_readoptions_set_verify_checksums(store->read, 1);
    store->write = leveldb_writeoptions_create();
    store->write_synced = leveldb_writeoptions_create();
    leveldb_writeoptions_set_sync(store->write_synced, 1);
    store->db = leveldb_open(store->options, setup->dir, &error);
    must(error, "open");
    return store;
}

void store_close(struct store *store)
{
    leveldb_close(store->db);
    leveldb_writeoptions_destroy(store->write_synced);
    leveldb_writeoptions_destroy(store->write);
    leveldb_readoptions_destroy(store->read);
    leveldb_options_destroy(store->options);
    leveldb_filterpolicy_destroy(store->filter);
    leveldb_cache_destroy(store->cache);
    free(store);
}

void store_settle(struct store *store)
{
    leveldb_compact_range(store->db, NULL, 0, NULL, 0);
}

struct session *session_begin(struct store *store)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL)
        fail("session", "out of memory");
    session->store = store;
    session->batch = leveldb_writebatch_create();
    return session;
}

void session_end(struct session *session)
{
    leveldb_free(session->value);
    leveldb_writebatch_destroy(session->batch);
    free(session);
}

void session_put(struct session *session, struct bytes key, struct bytes value, bool is_synced)
{
    char *error = NULL;
    struct store *store = session->store;
    leveldb_put(store->db, is_synced ? store->write_synced : store->write, key.data, key.size,
                value.data, value.size, &error);
    must(error, "put");
}

void session_delete(struct session *session, struct bytes key)
{
    char *error = NULL;
    leveldb_delete(session->store->db, session->store->write, key.data, key.size, &error);
    must(error, "delete");
}

void session_put_all(struct session *session, const struct item *items, size_t count)
{
    char *error = NULL;
    leveldb_writebatch_clear(session->batch);
    for (size_t i = 0; i < count; i++)
        leveldb_writebatch_put(session->batch, items[i].key.data, items[i].key.size,
                               items[i].value.data, items[i].value.size);
    leveldb_write(session->store->db, session->store->write, session->batch, &error);
    must(error, "write");
}

bool session_get(struct session *session, struct bytes key, struct bytes *value)
{
    char *error = NULL;
    leveldb_free(session->value);
    session->value = leveldb_get(session->store->db, session->store->read, key.data, key.size,
                                 &value->size, &error);
    must(error, "get");
    value->data = session->value;
    return session->value != NULL;
}

void session_scan(struct session *session, const struct bytes *from, bool is_reverse)
{
    session->iter = leveldb_create_iterator(session->store->db, session->store->read);
    session->is_reverse = is_reverse;
    session->is_first = true;
    if (is_reverse)
        leveldb_iter_seek_to_last(session->iter);
    else if (from == NULL)
        leveldb_iter_seek_to_first(session->iter);
    else
        leveldb_iter_seek(session->iter, from->data, from->size);
}

bool session_scan_next(struct session *session, struct item *item)
{
    if (!session->is_first && session->is_reverse)
        leveldb_iter_prev(session->iter);
    else if (!session->is_first)
        leveldb_iter_next(session->iter);
    session->is_first = false;
    if (!leveldb_iter_valid(session->iter)) {
        char *error = NULL;
        leveldb_iter_get_error(session->iter, &error);
        must(error, "scan");
        return false;
    }
    item->key.data = leveldb_iter_key(session->iter, &item->key.size);
    item->value.data = leveldb_iter_value(session->iter, &item->value.size);
    return true;
}

void session_scan_end(struct session *session)
{
    leveldb_iter_destroy(session->iter);
}
