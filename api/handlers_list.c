/*
 * GET /kv: which form of list it is, and the one in pages.
 *
 * A page is one snapshot. It ends at `limit` entries or at 4 MiB, whichever comes first, and holds
 * one entry at least as long as there is one, however large it is and however many deleted ones
 * stand before it. It is put together in slices of about a millisecond, between which the other
 * connections of the HTTP thread have their turn; the text grows meanwhile, so a page costs its own
 * size in memory.
 *
 *   {"entries":[
 *   {"key":"a","value":1,...},
 *   {"key":"b","value":2,...}
 *   ],"next_cursor":"...","revision":58}
 */
#include <stdlib.h>
#include <string.h>

#include "async.h"
#include "kv.h"
#include "list.h"
#include "response.h"
#include "router.h"

enum {
    DEFAULT_LIMIT = 100,
    MOST = 10000,
    PAGE_BYTES = 4 << 20,
    /* As much as a slice may add, in entries and in bytes. */
    SLICE_ENTRIES = 1000,
    SLICE_BYTES = 256 << 10,
    /* The library keeps header fields in the memory of the connection; a longer Link is left
     * out. */
    LINK_MAX = 4096,
};

struct page {
    struct api_scan scan;
    struct api_cursor_scope scope;
    enum api_select select;
    uint64_t limit;
    uint64_t count;
    struct api_text text;
    struct api_text last; /* the key of the last entry */
};

static void free_page(void *own)
{
    struct page *page = own;
    api_scan_close(&page->scan);
    api_text_fini(&page->text);
    api_text_fini(&page->last);
    free(page);
}

/* ---- Reading the query ---- */

static bool refuse(struct api_request *request, const char *hint, const char *sentence,
                   enum MHD_Result *result)
{
    *result = api_fail_parameter(request, hint, sentence);
    return false;
}

static bool read_select(struct api_request *request, enum api_select *select,
                        enum MHD_Result *result)
{
    static const char *const names[] = {
        [API_SELECT_ENTRIES] = "entries", [API_SELECT_KEYS] = "keys", [API_SELECT_COUNT] = "count"};
    const struct api_parameter *parameter = api_query_find(&request->query, "select");
    *select = API_SELECT_ENTRIES;
    for (unsigned i = 0; parameter != NULL && i < sizeof names / sizeof names[0]; i++) {
        *select = (enum api_select)i;
        if (api_equals(parameter->value, names[i]))
            return true;
    }
    return parameter == NULL || refuse(request, "Write entries, keys or count.",
                                       "The parameter select is none of its words.", result);
}

static bool read_limit(struct api_request *request, bool is_page, uint64_t *limit,
                       enum MHD_Result *result)
{
    const struct api_parameter *parameter = api_query_find(&request->query, "limit");
    *limit = 0;
    if (parameter == NULL)
        return true;
    bool is_number = api_parse_number(parameter->value, limit) && *limit > 0;
    return (is_number && (!is_page || *limit <= MOST)) ||
           refuse(
               request,
               "Write a number from 1 to 10000; follow next_cursor for more, or ask for all with "
               "Accept: application/x-ndjson, which takes any limit.",
               "The parameter limit is out of its range.", result);
}

static struct api_cursor_scope scope_of(const struct api_list *list)
{
    return (struct api_cursor_scope){
        .prefix = list->range.prefix,
        .start = list->range.start,
        .end = list->range.end,
        .select = list->select,
        .is_reverse = list->range.is_reverse,
    };
}

static bool read_cursor(struct api_request *request, struct api_list *list, enum MHD_Result *result)
{
    const struct api_parameter *parameter = api_query_find(&request->query, "cursor");
    if (parameter == NULL)
        return true;
    struct api_cursor_scope scope = scope_of(list);
    /* The value points into request->target, which is ours to change. */
    uint8_t *bytes = request->target + (parameter->value.data - request->target);
    if (api_cursor_read(bytes, parameter->value.size, &scope, &list->after) &&
        api_range_has(&list->range, list->after))
        return true;
    *result = api_fail_code(request, API_ERROR_invalid_cursor,
                            "The cursor is not one of a list with these parameters.");
    return false;
}

/* Parameters that mean nothing together are refused: one of them would have been ignored. */
static bool refuse_together(struct api_request *request, const char *one,
                            const char *const others[], enum MHD_Result *result)
{
    for (; *others != NULL; others++) {
        if (api_query_find(&request->query, *others) == NULL)
            continue;
        *result = api_fail_code(request, API_ERROR_invalid_parameter,
                                "The parameters %s and %s exclude each other.", one, *others);
        return false;
    }
    return true;
}

static enum MHD_Result list_page(struct api_request *request, const struct api_list *list);

enum MHD_Result api_kv_list(struct api_request *request)
{
    static const char *const not_with_key[] = {"prefix", "start",  "end",    "reverse",
                                               "limit",  "cursor", "select", NULL};
    static const char *const not_with_count[] = {"limit", "cursor", "reverse", NULL};
    enum MHD_Result result;
    struct api_list list = {0};
    if (request->query.repeat_count != 0)
        return refuse_together(request, "key", not_with_key, &result) ? api_kv_list_named(request)
                                                                      : result;
    if (!api_range_read(request, &list.range, &result) ||
        !read_select(request, &list.select, &result))
        return result;
    if (list.select == API_SELECT_COUNT)
        return refuse_together(request, "select=count", not_with_count, &result)
                   ? api_kv_count(request, &list.range)
                   : result;
    bool is_lines =
        api_accept_names(api_header(request, API_HEADER_ACCEPT), "application/x-ndjson");
    if (!read_limit(request, !is_lines, &list.limit, &result) ||
        !read_cursor(request, &list, &result))
        return result;
    return is_lines ? api_kv_lines(request, &list) : list_page(request, &list);
}

/* ---- Writing the page ---- */

void api_list_add(struct api_text *text, const storm_iter *iter, enum api_select select,
                  enum api_entry_style style, size_t json_limit)
{
    struct storm_slice key = storm_iter_key(iter);
    if (select == API_SELECT_ENTRIES) {
        struct api_entry entry = {
            .key = key,
            .value = storm_iter_value(iter),
            .meta = storm_iter_meta(iter),
            .revision = storm_iter_revision(iter),
        };
        api_entry_add(text, &entry, style, json_limit);
    } else if (style == API_ENTRY_PLAIN && api_is_utf8(key)) {
        api_text_add_json(text, key);
    } else {
        api_text_adds(text, "{");
        api_add_key(text, key);
        api_text_adds(text, "}");
    }
}

/* `</kv?prefix=a&cursor=...>; rel="next"`: the same request with the cursor of the next page. */
static void add_link(struct api_answer *answer, const struct api_request *request,
                     struct storm_slice cursor)
{
    struct api_text link;
    api_text_init(&link, LINK_MAX);
    api_text_adds(&link, "</kv?");
    for (size_t i = 0; i < request->query.count; i++) {
        const struct api_parameter *parameter = &request->query.parameters[i];
        if (api_equals(parameter->name, "cursor"))
            continue;
        api_text_add(&link, parameter->name.data, parameter->name.size);
        api_text_adds(&link, "=");
        api_text_add_percent(&link, parameter->value);
        api_text_adds(&link, "&");
    }
    api_text_adds(&link, "cursor=");
    api_text_add(&link, cursor.data, cursor.size);
    api_text_add(&link, ">; rel=\"next\"", sizeof ">; rel=\"next\"");
    if (!link.has_failed)
        api_answer_header(answer, "Link", link.data);
    api_text_fini(&link);
}

static enum MHD_Result send_page(struct api_request *request, struct page *page, bool has_more)
{
    struct api_text cursor;
    api_text_init(&cursor, SIZE_MAX / 4);
    api_text_adds(&page->text, "\n],\"next_cursor\":");
    if (has_more) {
        api_cursor_add(&cursor, &page->scope, storm_bytes(page->last.data, page->last.size));
        if (cursor.has_failed)
            page->text.has_failed = true;
        api_text_adds(&page->text, "\"");
        api_text_add(&page->text, cursor.data, cursor.size);
        api_text_adds(&page->text, "\"");
    } else {
        api_text_adds(&page->text, "null");
    }
    api_text_addf(&page->text, ",\"revision\":%llu}\n",
                  (unsigned long long)api_scan_revision(&page->scan));
    struct api_answer answer = api_answer_text(MHD_HTTP_OK, &page->text, "application/json");
    /* Lists have no entity tag: what they would have to be compared with is the whole range. */
    api_answer_header(&answer, "Cache-Control", "no-store");
    if (has_more)
        add_link(&answer, request, storm_bytes(cursor.data, cursor.size));
    api_text_fini(&cursor);
    return api_send(request, &answer);
}

/* Add the entry that the scan stands on, unless the page would grow past its bound. */
static bool add_entry(const struct api_request *request, struct page *page)
{
    struct api_text *text = &page->text;
    const storm_iter *iter = page->scan.iter;
    size_t before = text->size;
    if (page->count > 0 && before + storm_iter_value(iter).size > PAGE_BYTES)
        return false;
    api_text_adds(text, page->count == 0 ? "\n" : ",\n");
    api_list_add(text, iter, page->select, API_ENTRY_PLAIN,
                 request->server->config->limits_json_bytes);
    if (page->count > 0 && text->size > PAGE_BYTES) {
        text->size = before;
        return false;
    }
    struct storm_slice key = storm_iter_key(iter);
    page->last.size = 0;
    api_text_add(&page->last, key.data, key.size);
    text->has_failed = text->has_failed || page->last.has_failed;
    page->count++;
    return true;
}

static enum MHD_Result work_on_page(struct api_request *request)
{
    struct page *page = request->own;
    size_t slice_end = page->text.size + SLICE_BYTES;
    for (unsigned i = 0; i < SLICE_ENTRIES && page->text.size < slice_end; i++) {
        storm_status status = api_scan_next(&page->scan);
        if (status == STORM_MORE)
            break;
        if (status == STORM_NOT_FOUND)
            return send_page(request, page, false);
        if (status != STORM_OK)
            return api_fail_store(request, status);
        if (page->count == page->limit || !add_entry(request, page))
            return send_page(request, page, true);
    }
    return api_yield(request, work_on_page);
}

static enum MHD_Result list_page(struct api_request *request, const struct api_list *list)
{
    struct page *page = calloc(1, sizeof *page);
    if (page == NULL)
        return api_fail_store(request, STORM_NO_MEMORY);
    request->own = page;
    request->free_own = free_page;
    page->scope = scope_of(list);
    page->select = list->select;
    page->limit = list->limit == 0 ? DEFAULT_LIMIT : list->limit;
    /* What bounds them is PAGE_BYTES, and the longest value and key of the store. */
    api_text_init(&page->text, SIZE_MAX / 4);
    api_text_init(&page->last, SIZE_MAX / 4);
    storm_status status = api_scan_open(&page->scan, api_kv_store(request), &list->range,
                                        list->after, list->select == API_SELECT_KEYS);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    api_text_adds(&page->text, page->select == API_SELECT_KEYS ? "{\"keys\":[" : "{\"entries\":[");
    return work_on_page(request);
}
