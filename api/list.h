/* What the forms of GET /kv share: pages, lines, counts, and several keys by name. */
#ifndef STORM_API_LIST_H
#define STORM_API_LIST_H

#include "cursor.h"
#include "entry.h"
#include "range.h"

enum api_select { API_SELECT_ENTRIES, API_SELECT_KEYS, API_SELECT_COUNT };

struct api_list {
    struct api_range range;
    enum api_select select;
    uint64_t limit;           /* 0 = none was given */
    struct storm_slice after; /* where the page before ended; empty = there was none */
};

/* One entry, or with API_SELECT_KEYS its key alone: as a string in an array of keys, as an object
 * in a line of its own or where it is no UTF-8. */
void api_list_add(struct api_text *text, const storm_iter *iter, enum api_select select,
                  enum api_entry_style style, size_t json_limit);

/* Answer the entries of the keys that `key` names. */
enum MHD_Result api_kv_list_named(struct api_request *request);

/* Count the keys of a range. */
enum MHD_Result api_kv_count(struct api_request *request, const struct api_range *range);

/* Answer one entry a line, all of one snapshot, however many there are. */
enum MHD_Result api_kv_lines(struct api_request *request, const struct api_list *list);

#endif
