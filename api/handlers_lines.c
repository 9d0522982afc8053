/*
 * Lists that are made while they are sent: GET /kv with Accept: application/x-ndjson, and GET
 * /export.
 *
 *   {"key":"a","value":1,...}
 *   {"key":"b","value":2,...}
 *   {"end":true,"count":2,"revision":58}
 *
 * Every line is of one snapshot, which is held until the last one is sent, so memory does not grow
 * with the range; a reader that is slow keeps old data of the store alive for as long as it reads.
 * What cannot be completed (damaged data, no memory) is cut: without the closing line, and without
 * the end that chunked coding has, nobody takes it for complete.
 *
 * A list is for reading, so JSON with line breaks gets blanks instead. An export is for bringing
 * everything back, so such a value is base64 (API_ENTRY_EXACT).
 */
#include <stdlib.h>

#include "gzip.h"
#include "kv.h"
#include "list.h"
#include "moment.h"
#include "response.h"
#include "router.h"
#include "stream.h"

enum {
    /* The server waits so long for a list once it drains; one that takes longer is cut. */
    DRAIN_MS = 3000,
};

struct lines {
    struct api_scan scan;
    enum api_select select;
    enum api_entry_style style;
    size_t json_limit;
    uint64_t limit; /* UINT64_MAX = none */
    uint64_t count;
    uint64_t drain_since_ns; /* 0 = it does not */
};

static bool is_out_of_time(struct lines *lines, const struct api_stream *stream)
{
    if (!api_stream_is_ending(stream))
        return false;
    uint64_t now = api_coarse_ns();
    if (lines->drain_since_ns == 0)
        lines->drain_since_ns = now;
    return now - lines->drain_since_ns > (uint64_t)DRAIN_MS * 1000000;
}

static enum api_stream_next end_lines(const struct lines *lines, struct api_text *piece)
{
    api_text_addf(piece, "{\"end\":true,\"count\":%llu,\"revision\":%llu}\n",
                  (unsigned long long)lines->count,
                  (unsigned long long)api_scan_revision(&lines->scan));
    return API_STREAM_END;
}

static enum api_stream_next produce(void *state, struct api_stream *stream, struct api_text *piece)
{
    struct lines *lines = state;
    if (is_out_of_time(lines, stream))
        return API_STREAM_CUT;
    while (piece->size < API_STREAM_PIECE && !piece->has_failed) {
        if (lines->count == lines->limit)
            return end_lines(lines, piece);
        storm_status status = api_scan_next(&lines->scan);
        if (status == STORM_MORE)
            break;
        if (status == STORM_NOT_FOUND)
            return end_lines(lines, piece);
        if (status != STORM_OK)
            return API_STREAM_CUT;
        api_list_add(piece, lines->scan.iter, lines->select, lines->style, lines->json_limit);
        api_text_add(piece, "\n", 1);
        lines->count++;
    }
    return API_STREAM_MORE;
}

static void end(void *state)
{
    struct lines *lines = state;
    api_scan_close(&lines->scan);
    free(lines);
}

static enum MHD_Result send_lines(struct api_request *request, const struct api_list *list,
                                  enum api_entry_style style)
{
    static const struct api_stream_source source = {.produce = produce, .end = end};
    struct lines *lines = calloc(1, sizeof *lines);
    if (lines == NULL)
        return api_fail_store(request, STORM_NO_MEMORY);
    lines->select = list->select;
    lines->style = style;
    lines->json_limit = request->server->config->limits_json_bytes;
    lines->limit = list->limit == 0 ? UINT64_MAX : list->limit;
    storm_status status = api_scan_open(&lines->scan, api_kv_store(request), &list->range,
                                        list->after, list->select == API_SELECT_KEYS);
    if (status != STORM_OK) {
        end(lines);
        return api_fail_store(request, status);
    }
    char revision[API_NUMBER_MAX];
    api_format_number(revision, api_scan_revision(&lines->scan));
    bool is_gzip = api_accepts_gzip(api_header(request, API_HEADER_ACCEPT_ENCODING));
    struct api_answer answer =
        api_answer_stream(request, "application/x-ndjson", is_gzip, &source, lines);
    api_answer_header(&answer, "Storm-Revision", revision);
    api_answer_header(&answer, "Cache-Control", "no-store");
    api_answer_header(&answer, "Vary", "Accept, Accept-Encoding");
    if (style == API_ENTRY_EXACT)
        api_answer_header(&answer, "Content-Disposition", "attachment; filename=\"storm.ndjson\"");
    return api_send(request, &answer);
}

enum MHD_Result api_kv_lines(struct api_request *request, const struct api_list *list)
{
    return send_lines(request, list, API_ENTRY_LINE);
}

enum MHD_Result api_export(struct api_request *request)
{
    enum MHD_Result result;
    struct api_list list = {.select = API_SELECT_ENTRIES};
    if (!api_range_read(request, &list.range, &result))
        return result;
    return send_lines(request, &list, API_ENTRY_EXACT);
}
