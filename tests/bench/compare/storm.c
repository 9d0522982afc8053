/* Storm DB by its public header. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"
#include "storm/storm.h"

struct store {
    storm_db *db;
};

struct session {
    storm_db *db;
    storm_batch *batch;
    struct storm_value value;
    storm_iter *iter;
    bool is_reverse;
    bool is_first;
};

static void must(storm_db *db, storm_status status, const char *what)
{
    if (status == STORM_OK)
        return;
    char text[512] = "";
    if (db != NULL)
        storm_last_error(db, text, sizeof text);
    fail(what, text[0] != '\0' ? text : storm_status_text(status));
}

const char *store_name(void)
{
    static char name[64];
    snprintf(name, sizeof name, "Storm %s", storm_version());
    return name;
}

bool store_has_codec(enum codec codec)
{
    (void)codec;
    return true;
}

struct store *store_open(const struct setup *setup)
{
    static const enum storm_codec codecs[] = {STORM_CODEC_NONE, STORM_CODEC_DEFLATE,
                                              STORM_CODEC_LZ4, STORM_CODEC_ZSTD};
    struct store *store = malloc(sizeof *store);
    struct storm_options options;
    struct storm_error error;
    if (store == NULL)
        fail("open", "out of memory");
    storm_options_init(&options);
    options.codec = codecs[setup->codec];
    options.cache_bytes = setup->cache_bytes;
    options.write_buffer_bytes = setup->write_buffer_bytes;
    options.log_retention_bytes = 0;
    if (storm_open(setup->dir, &options, &store->db, &error) != STORM_OK)
        fail("open", error.message);
    return store;
}

void store_close(struct store *store)
{
    must(NULL, storm_close(store->db), "close");
    free(store);
}

void store_settle(struct store *store)
{
    struct storm_slice all = {NULL, 0};
    must(store->db, storm_flush(store->db, NULL), "flush");
    must(store->db, storm_compact(store->db, all, all, NULL, NULL), "compact");
}

struct session *session_begin(struct store *store)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL || (session->batch = storm_batch_create()) == NULL)
        fail("session", "out of memory");
    session->db = store->db;
    return session;
}

void session_end(struct session *session)
{
    storm_value_release(&session->value);
    storm_batch_destroy(session->batch);
    free(session);
}

static void commit(struct session *session, bool is_synced)
{
    struct storm_write_options options = {.sync = is_synced ? STORM_SYNC_FULL : STORM_SYNC_NONE};
    must(session->db, storm_write(session->db, session->batch, &options, NULL), "write");
    storm_batch_clear(session->batch);
}

void session_put(struct session *session, struct bytes key, struct bytes value, bool is_synced)
{
    must(session->db,
         storm_batch_put(session->batch, storm_bytes(key.data, key.size),
                         storm_bytes(value.data, value.size)),
         "put");
    commit(session, is_synced);
}

void session_delete(struct session *session, struct bytes key)
{
    must(session->db, storm_batch_delete(session->batch, storm_bytes(key.data, key.size)),
         "delete");
    commit(session, false);
}

void session_put_all(struct session *session, const struct item *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        must(session->db,
             storm_batch_put(session->batch, storm_bytes(items[i].key.data, items[i].key.size),
                             storm_bytes(items[i].value.data, items[i].value.size)),
             "put");
    commit(session, false);
}

bool session_get(struct session *session, struct bytes key, struct bytes *value)
{
    storm_value_release(&session->value);
    storm_status status =
        storm_get(session->db, NULL, storm_bytes(key.data, key.size), &session->value);
    if (status == STORM_NOT_FOUND)
        return false;
    must(session->db, status, "get");
    *value = (struct bytes){session->value.bytes.data, session->value.bytes.size};
    return true;
}

void session_scan(struct session *session, const struct bytes *from, bool is_reverse)
{
    must(session->db, storm_iter_create(session->db, NULL, &session->iter), "scan");
    session->is_reverse = is_reverse;
    session->is_first = true;
    if (is_reverse)
        storm_iter_last(session->iter);
    else if (from == NULL)
        storm_iter_first(session->iter);
    else
        storm_iter_seek(session->iter, storm_bytes(from->data, from->size));
}

bool session_scan_next(struct session *session, struct item *item)
{
    if (!session->is_first && session->is_reverse)
        storm_iter_prev(session->iter);
    else if (!session->is_first)
        storm_iter_next(session->iter);
    session->is_first = false;
    if (!storm_iter_valid(session->iter)) {
        must(session->db, storm_iter_status(session->iter), "scan");
        return false;
    }
    struct storm_slice key = storm_iter_key(session->iter);
    struct storm_slice value = storm_iter_value(session->iter);
    item->key = (struct bytes){key.data, key.size};
    item->value = (struct bytes){value.data, value.size};
    return true;
}

void session_scan_end(struct session *session)
{
    storm_iter_destroy(session->iter);
}
