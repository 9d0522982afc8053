/* Small helpers of the engine's tests: a store on the simulated disk, puts and gets of texts. */
#ifndef TEST_STORE_H
#define TEST_STORE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>

#include "lsm/db/db.h"
#include "os/sim.h"

/* A simulated disk and one process's access to it. */
struct store {
    struct sim_disk *disk;
    struct sdb_errors errors;
    struct sdb_os os;
    struct storm_options options;
    const struct sdb_tuning *tuning; /* NULL: the usual one */
    storm_db *db;
    struct storm_error error;
};

/* Small memtables so that tests see flushes. Not open yet. */
static inline void store_init(struct store *store, uint64_t seed)
{
    *store = (struct store){0};
    storm_options_init(&store->options);
    store->options.memtable_bytes = 64 << 10;
    store->options.write_buffer_bytes = 1 << 20;
    store->options.cache_bytes = 1 << 20;
    store->disk = sim_disk_create(seed);
    assert_non_null(store->disk);
    sdb_errors_init(&store->errors, NULL, NULL);
    sim_os_init(&store->os, store->disk, &store->errors);
}

static inline storm_status store_try_open(struct store *store)
{
    return sdb_lsm_open_tuned(&store->os, "/db", &store->options, store->tuning, &store->db,
                              &store->error);
}

static inline void store_open(struct store *store)
{
    storm_status status = store_try_open(store);
    if (status != STORM_OK)
        fail_msg("open: %s", store->error.message);
}

static inline void store_close(struct store *store)
{
    if (store->db != NULL)
        assert_int_equal(storm_close(store->db), STORM_OK);
    store->db = NULL;
}

/* Close whatever the close says: after an injected fault. */
static inline void store_drop(struct store *store)
{
    if (store->db != NULL)
        (void)storm_close(store->db);
    store->db = NULL;
}

static inline void store_fini(struct store *store)
{
    store_drop(store);
    sim_disk_destroy(store->disk);
    sdb_errors_fini(&store->errors);
}

static inline storm_status put_text(storm_db *db, const char *key, const char *value)
{
    return storm_put(db, storm_text(key), storm_text(value));
}

/* The value of `key` as text, "(none)" when absent, "(error)" otherwise. Static buffer. */
static inline const char *get_text(storm_db *db, const storm_snapshot *snapshot, const char *key)
{
    static char text[256];
    struct storm_value value;
    storm_status status = storm_get(db, snapshot, storm_text(key), &value);
    if (status == STORM_OK)
        snprintf(text, sizeof text, "%.*s", (int)value.bytes.size,
                 value.bytes.size == 0 ? "" : (const char *)value.bytes.data);
    else
        snprintf(text, sizeof text, status == STORM_NOT_FOUND ? "(none)" : "(error)");
    storm_value_release(&value);
    return text;
}

#endif
