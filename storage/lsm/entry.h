/*
 * An entry of the LSM tree as every layer of it sees one: (key, tag, value).
 *
 * The tag is revision << 8 | kind; revisions stay below 2^53, so it fits. Entries are ordered by
 * key (memcmp, shorter first), then by tag downwards: the newest version of a key comes first. The
 * value is opaque here: a header of storm_meta and the caller's bytes (db/value.h).
 */
#ifndef SDB_LSM_ENTRY_H
#define SDB_LSM_ENTRY_H

#include "storm/storm.h"

/* The kinds of entries; and one that only batches have: a range delete is an entry of no memtable
 * and no table (db/ranges.h). */
enum sdb_kind { SDB_KIND_DELETE = 0, SDB_KIND_PUT = 1, SDB_KIND_DELETE_RANGE = 2 };

#define SDB_MAX_REVISION ((UINT64_C(1) << 53) - 1)
/* The tag to seek with for "this key at revision or before". */
#define SDB_KIND_SEEK 0xffu

static inline uint64_t sdb_tag(uint64_t revision, unsigned kind)
{
    return revision << 8 | kind;
}

static inline uint64_t sdb_tag_revision(uint64_t tag)
{
    return tag >> 8;
}

static inline enum sdb_kind sdb_tag_kind(uint64_t tag)
{
    return (enum sdb_kind)(tag & 0xff);
}

static inline int sdb_key_compare(struct storm_slice a, struct storm_slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common != 0 ? memcmp(a.data, b.data, common) : 0;
    if (order != 0)
        return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

static inline int sdb_entry_compare(struct storm_slice a, uint64_t a_tag, struct storm_slice b,
                                    uint64_t b_tag)
{
    int order = sdb_key_compare(a, b);
    if (order != 0)
        return order;
    return a_tag > b_tag ? -1 : a_tag < b_tag;
}

/* An entry that is decoded, one of a row. */
struct sdb_entry {
    struct storm_slice key;
    uint64_t tag;
    struct storm_slice value;
    uint32_t place;  /* the source's own: where it was decoded from */
    bool is_version; /* of the same key as the entry before it in the row */
};

/*
 * A sorted source of entries: a memtable, a table, a level, a merge of several. The current entry
 * stands in the struct, so that comparing sources costs no call. Slices are valid until the source
 * moves or is destroyed. Not positioned until one of the moves. One thread at a time.
 *
 * A failure makes it invalid with status set; a move clears both and tries anew.
 *
 * A source may have decoded a row of neighbours, in which it stands. Whoever moves it may also move
 * `at` within the row instead, which costs no call: next and prev go on from there. Only
 * sdb_source_stand() makes it the current entry. Slices of all the row are valid until another
 * move.
 */
struct sdb_source_ops;

struct sdb_source {
    const struct sdb_source_ops *ops;
    bool valid;
    storm_status status;
    struct storm_slice key;
    uint64_t tag;
    struct storm_slice value;
    const struct sdb_entry *at, *first, *last; /* all NULL without a row */
};

struct sdb_source_ops {
    void (*first)(struct sdb_source *source);
    void (*last)(struct sdb_source *source);
    /* To the first entry at or after (key, tag). */
    void (*seek)(struct sdb_source *source, struct storm_slice key, uint64_t tag);
    /* To the last entry before (key, tag). */
    void (*seek_before)(struct sdb_source *source, struct storm_slice key, uint64_t tag);
    void (*next)(struct sdb_source *source); /* only when valid */
    void (*prev)(struct sdb_source *source); /* only when valid */
    /* Give back what it holds to stand somewhere, such as blocks; not positioned afterwards. NULL:
     * it holds nothing. */
    void (*rest)(struct sdb_source *source);
    void (*destroy)(struct sdb_source *source);
};

static inline void sdb_source_stand(struct sdb_source *source, const struct sdb_entry *entry)
{
    source->at = entry;
    source->key = entry->key;
    source->tag = entry->tag;
    source->value = entry->value;
}

static inline void sdb_source_rest(struct sdb_source *source)
{
    source->valid = false;
    source->status = STORM_OK;
    if (source->ops->rest != NULL)
        source->ops->rest(source);
}

static inline void sdb_source_destroy(struct sdb_source *source)
{
    if (source != NULL)
        source->ops->destroy(source);
}

#endif
