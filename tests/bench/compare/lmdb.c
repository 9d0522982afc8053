/*
 * LMDB: a copy-on-write B+tree in a mapped file, no log, no cache, no checksums: for reference, not
 * a like for like. It is opened with MDB_NOSYNC, so an unsynced write is with the operating system
 * when it returns, and a power failure may leave a corrupt file; a synced one is followed by
 * mdb_env_sync().
 */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store.h"

struct store {
    MDB_env *env;
    MDB_dbi dbi;
};

struct session {
    struct store *store;
    MDB_txn *read; /* reset between uses */
    MDB_cursor *cursor;
    bool is_reverse, is_first;
    MDB_val key, value;
    int found;
};

static void must(int status, const char *what)
{
    if (status != 0)
        fail(what, mdb_strerror(status));
}

const char *store_name(void)
{
    static char name[64];
    int major, minor, patch;
    mdb_version(&major, &minor, &patch);
    snprintf(name, sizeof name, "LMDB %d.%d.%d", major, minor, patch);
    return name;
}

bool store_has_codec(enum codec codec)
{
    return codec == CODEC_NONE;
}

struct store *store_open(const struct setup *setup)
{
    struct store *store = calloc(1, sizeof *store);
    MDB_txn *txn;
    if (store == NULL)
        fail("open", "out of memory");
    (void)mkdir(setup->dir, 0700);
    must(mdb_env_create(&store->env), "open");
    must(mdb_env_set_mapsize(store->env, setup->map_bytes), "open");
    must(mdb_env_open(store->env, setup->dir, MDB_NOTLS | MDB_NOSYNC, 0600), "open");
    must(mdb_txn_begin(store->env, NULL, 0, &txn), "open");
    must(mdb_dbi_open(txn, NULL, MDB_CREATE, &store->dbi), "open");
    must(mdb_txn_commit(txn), "open");
    return store;
}

void store_close(struct store *store)
{
    must(mdb_env_sync(store->env, 1), "close");
    mdb_env_close(store->env);
    free(store);
}

void store_settle(struct store *store)
{
    must(mdb_env_sync(store->env, 1), "settle");
}

struct session *session_begin(struct store *store)
{
    struct session *session = calloc(1, sizeof *session);
    if (session == NULL)
        fail("session", "out of memory");
    session->store = store;
    must(mdb_txn_begin(store->env, NULL, MDB_RDONLY, &session->read), "read");
    mdb_txn_reset(session->read);
    return session;
}

void session_end(struct session *session)
{
    mdb_txn_abort(session->read);
    free(session);
}

static MDB_val val(struct bytes bytes)
{
    return (MDB_val){bytes.size, (void *)(uintptr_t)bytes.data};
}

static MDB_txn *begin(struct session *session)
{
    MDB_txn *txn;
    must(mdb_txn_begin(session->store->env, NULL, 0, &txn), "write");
    return txn;
}

void session_put(struct session *session, struct bytes key, struct bytes value, bool is_synced)
{
    MDB_txn *txn = begin(session);
    MDB_val k = val(key), v = val(value);
    must(mdb_put(txn, session->store->dbi, &k, &v, 0), "put");
    must(mdb_txn_commit(txn), "put");
    if (is_synced)
        must(mdb_env_sync(session->store->env, 1), "put");
}

void session_delete(struct session *session, struct bytes key)
{
    MDB_txn *txn = begin(session);
    MDB_val k = val(key);
    int status = mdb_del(txn, session->store->dbi, &k, NULL);
    must(status == MDB_NOTFOUND ? 0 : status, "delete");
    must(mdb_txn_commit(txn), "delete");
}

void session_put_all(struct session *session, const struct item *items, size_t count)
{
    MDB_txn *txn = begin(session);
    for (size_t i = 0; i < count; i++) {
        MDB_val k = val(items[i].key), v = val(items[i].value);
        must(mdb_put(txn, session->store->dbi, &k, &v, 0), "write");
    }
    must(mdb_txn_commit(txn), "write");
}

bool session_get(struct session *session, struct bytes key, struct bytes *value)
{
    MDB_val k = val(key), v;
    mdb_txn_reset(session->read);
    must(mdb_txn_renew(session->read), "get");
    int status = mdb_get(session->read, session->store->dbi, &k, &v);
    if (status == MDB_NOTFOUND)
        return false;
    must(status, "get");
    *value = (struct bytes){v.mv_data, v.mv_size};
    return true;
}

void session_scan(struct session *session, const struct bytes *from, bool is_reverse)
{
    mdb_txn_reset(session->read);
    must(mdb_txn_renew(session->read), "scan");
    must(mdb_cursor_open(session->read, session->store->dbi, &session->cursor), "scan");
    session->is_reverse = is_reverse;
    session->is_first = true;
    if (from != NULL)
        session->key = val(*from);
    session->found = mdb_cursor_get(session->cursor, &session->key, &session->value,
                                    is_reverse     ? MDB_LAST
                                    : from == NULL ? MDB_FIRST
                                                   : MDB_SET_RANGE);
}

bool session_scan_next(struct session *session, struct item *item)
{
    if (!session->is_first)
        session->found = mdb_cursor_get(session->cursor, &session->key, &session->value,
                                        session->is_reverse ? MDB_PREV : MDB_NEXT);
    session->is_first = false;
    if (session->found == MDB_NOTFOUND)
        return false;
    must(session->found, "scan");
    item->key = (struct bytes){session->key.mv_data, session->key.mv_size};
    item->value = (struct bytes){session->value.mv_data, session->value.mv_size};
    return true;
}

void session_scan_end(struct session *session)
{
    mdb_cursor_close(session->cursor);
}
