/*
 * The manifest: a log of edits that says which tables and log segments make up the store.
 *
 * MANIFEST-NNNNNNNNNN begins with a header
 *
 *   0  magic "STORMMAN"   8  format version u32   12  zero u32   16  manifest number u64
 *   24 store id u64       32 crc32c of bytes 0..31 u32           36  zero u32
 *
 * and goes on with records, each at a multiple of eight, zero-padded:
 *
 *   crc32c u32 | payload size u32 | payload
 *
 * The checksum covers manifest number, offset and size too, so a record in the wrong place never
 * verifies. A payload is a run of fields `tag varint | size varint | body` (manifest.c lists the
 * tags). The first record holds the whole state, the others what a flush, a compaction or an open
 * changed. A bad record with a good one behind it is corruption; at the end it is an edit that a
 * crash cut short: nothing was acknowledged on its strength, and the log it wanted to release is
 * still there (were it gone, replay would miss its first segment and refuse).
 *
 * CURRENT names the manifest that counts, with a checksum of its own:
 *   MANIFEST-0000000007 8f1c2a3b\n
 * It is replaced by write, fsync, rename, fsync of the directory. A new manifest is begun at every
 * open, when one passes 4 MiB, and after a failed append (so that a half-written record is left
 * behind).
 */
#ifndef SDB_LSM_DB_MANIFEST_H
#define SDB_LSM_DB_MANIFEST_H

#include "lsm/db/version.h"

enum { SDB_MANIFEST_FORMAT = 1 };

/* The state of a store, as recovered or as to be written. */
struct sdb_state {
    uint64_t store_id;
    uint32_t epoch; /* counts opens; in every log record */
    uint64_t manifest_number;
    uint64_t next_file;        /* larger than any number in use */
    uint64_t log_number;       /* replay begins here */
    uint64_t newest_log;       /* the newest segment known to exist; 0 = none yet */
    uint64_t flushed_revision; /* all revisions up to it are in tables */
};

/*
 * Read CURRENT and the manifest it names. *version has one reference; its tables are not open.
 * STORM_NOT_FOUND when there is no CURRENT; STORM_CORRUPT, STORM_NEWER_FORMAT, STORM_IO,
 * STORM_NO_MEMORY otherwise. Writes nothing.
 */
storm_status sdb_manifest_read(struct sdb_os *os, const char *dir, struct sdb_garbage *garbage,
                               struct sdb_state *state, struct sdb_version **version);

/* The two steps of it, for repair: the number of the manifest that CURRENT names, and reading the
 * manifest of any number, which CORRUPT says is missing. */
storm_status sdb_current_read(struct sdb_os *os, const char *dir, uint64_t *number);
storm_status sdb_manifest_read_number(struct sdb_os *os, const char *dir, uint64_t number,
                                      struct sdb_garbage *garbage, struct sdb_state *state,
                                      struct sdb_version **version);

struct sdb_manifest;

/*
 * Begin a new manifest numbered state->manifest_number with the whole state, make it durable, and
 * make CURRENT name it. The one before is removed. The caller serialises all calls.
 */
storm_status sdb_manifest_create(struct sdb_os *os, const char *dir, const struct sdb_state *state,
                                 const struct sdb_version *version, struct sdb_manifest **manifest);

/*
 * Make one edit durable. `after` is the version with the edit applied, `next_file` the store's
 * counter, from which a new manifest's number is taken when one is begun. After a failure the edit
 * may or may not be found by a later open, so files it names must stay; the next append begins a
 * new manifest. A failed fsync breaks the manifest: every later append fails.
 */
storm_status sdb_manifest_append(struct sdb_manifest *manifest, const struct sdb_edit *edit,
                                 const struct sdb_version *after, uint64_t *next_file);

bool sdb_manifest_is_broken(const struct sdb_manifest *manifest);
/* After a failed append, until the next one has succeeded: the file may hold an edit of which its
 * caller was told that it failed. */
bool sdb_manifest_is_in_doubt(const struct sdb_manifest *manifest);
const struct sdb_state *sdb_manifest_state(const struct sdb_manifest *manifest);
void sdb_manifest_close(struct sdb_manifest *manifest); /* NULL is ignored */

/* The decoder of one record's payload, for recovery and the fuzzer: applies it to state and
 * files. */
struct sdb_file_set;
storm_status sdb_manifest_decode(struct storm_slice payload, struct sdb_state *state,
                                 struct sdb_file_set *files);
struct sdb_file_set *sdb_file_set_create(struct sdb_garbage *garbage);
void sdb_file_set_destroy(struct sdb_file_set *files);

#endif
