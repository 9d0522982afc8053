/*
 * What the comparison asks of a store: one small interface, and one adapter for each product
 * (storm.c, leveldb.c, rocksdb.c, lmdb.c), linked into a program of its own so that memory,
 * processor time and bytes written are each product's own.
 *
 * Every adapter is set to the same things: a write buffer and a block cache of the sizes given, a
 * filter of 10 bits a key or the product's nearest (LMDB has neither and maps its file instead),
 * blocks of 4 KiB, checksums verified by every read, the codec asked for on all levels where the
 * product's own defaults would. An unsynced write is with the operating system when it returns, in
 * all of them; a synced one has been through fdatasync.
 *
 * Functions that fail end the program with a message: a benchmark has nobody to recover for.
 *
 * Threads: a store belongs to all, a session to one.
 */
#ifndef STORM_BENCH_STORE_H
#define STORM_BENCH_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum codec { CODEC_NONE, CODEC_DEFLATE, CODEC_LZ4, CODEC_ZSTD };

struct setup {
    const char *dir;
    enum codec codec;
    size_t cache_bytes;
    size_t write_buffer_bytes;
    size_t map_bytes; /* for LMDB: larger than the data will ever be */
};

struct bytes {
    const void *data;
    size_t size;
};

struct item {
    struct bytes key, value;
};

struct store;
struct session;

/* The product's name and version, as a table's heading shows them. */
const char *store_name(void);
bool store_has_codec(enum codec codec);

/* Open the store in setup->dir, creating it when it is not there. */
struct store *store_open(const struct setup *setup);
void store_close(struct store *store);
/* Compact everything and wait until nothing is left to do in the background. */
void store_settle(struct store *store);

struct session *session_begin(struct store *store);
void session_end(struct session *session);

void session_put(struct session *session, struct bytes key, struct bytes value, bool is_synced);
void session_delete(struct session *session, struct bytes key);
void session_put_all(struct session *session, const struct item *items, size_t count);

/* False when absent. *value is borrowed until the session's next call. */
bool session_get(struct session *session, struct bytes key, struct bytes *value);

/* Begin a scan at the first key >= `from` (forward) or at the last of all (in reverse, where
 * `from` is NULL). Ended by session_scan_end(). */
void session_scan(struct session *session, const struct bytes *from, bool is_reverse);
/* The next entry, borrowed until the next call; false at the end. */
bool session_scan_next(struct session *session, struct item *item);
void session_scan_end(struct session *session);

/* For adapters: print "store: what: why" and end the program. */
void fail(const char *what, const char *why) __attribute__((noreturn));

#endif
