/*
 * POST /import: lines of entries, committed in batches while they come in.
 *
 *   socket --> (inflate) --> request->body --> lines --> operations --> batch --> commit
 *
 * request->body holds the lines of the batch that is being gathered and the beginning of the next
 * one; operations point into it, so a value is copied once, into the batch. While a batch commits,
 * the connection is suspended and nothing is read from it: the client feels the store's pace, and
 * memory is one batch, or one entry that is larger, however long the import is.
 *
 *   offset 0        line_at            body_size
 *   | lines read    | part of a line   |
 *
 * A line that is no entry is counted and named in the answer, and the import goes on. What keeps a
 * batch from being committed (disk full, shutting down) ends it: the answer says how many entries
 * are in, and the import can be sent again as a whole, as an upsert writes the same.
 *
 * mode=insert writes only keys that do not exist, each on that condition. When some of a batch do,
 * the store writes nothing and says which: they are named, left out, and the rest is submitted
 * again. Two lines with one key are never in one such batch, since conditions do not see their own
 * batch.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "async.h"
#include "entry.h"
#include "import_line.h"
#include "kv.h"
#include "moment.h"
#include "response.h"
#include "router.h"

enum {
    BATCH_OPS = 1000,
    BATCH_BYTES = 1 << 20,
    /* A batch is over as well when its lines have come to this, with whatever they are filled. */
    BATCH_LINES = 4 << 20,
    /* Inflated at once. */
    PIECE = 64 << 10,
    /* The most errors that are named. */
    ERRORS_NAMED = 100,
    ERRORS_BYTES = 64 << 10,
    /* Fields of a line besides key and value, with room to spare. */
    LINE_SLACK = 8 << 10,
    GZIP_WINDOW = 15 + 16,
    /* A body may grow to so many times its size, once it is over EXPANDED_FREE. */
    EXPANSION_MAX = 100,
    EXPANDED_FREE = 64 << 20,
};

/* An entry; what it has lies in request->body, and offsets stay right when that moves. */
struct op {
    size_t line_at; /* where its line begins */
    size_t key, key_size;
    size_t value, value_size;
    uint64_t expires_ms, modified_ms;
    uint64_t line; /* from 1 */
    uint32_t hash; /* of the key; for inserts */
    bool is_left_out;
    uint8_t type_size;
    char type[API_MEDIA_TYPE_MAX];
};

struct import {
    struct api_import_limits limits;
    size_t line_max;
    bool is_insert;
    bool is_whole;      /* all of the body has come */
    bool is_submitting; /* api_commit is on the stack */
    bool has_outcome;   /* of a commit, not looked at yet */
    bool is_cut_line;   /* the line that comes in is too long: drop it up to its end */

    size_t line_at;   /* the first line that is not read yet */
    size_t search_at; /* no line break is between line_at and here */
    uint64_t line;    /* lines read */
    size_t op_count;
    size_t batch_bytes;
    bool has_next; /* ops[op_count] is an entry that begins the next batch */
    struct op ops[BATCH_OPS + 1];

    bool is_gzip;
    bool has_gzip_end; /* of the last member of the file so far */
    bool has_output;   /* inflate has more without more input */
    z_stream gzip;
    uint64_t packed_bytes, expanded_bytes;

    uint64_t imported, failed;
    uint64_t entries;  /* since the last closing line */
    bool is_complete;  /* the last line was a closing line, and all of them counted right */
    bool has_mismatch; /* one did not */
    uint64_t revision;
    struct api_text errors;
};

static void free_import(void *own)
{
    struct import *import = own;
    if (import->is_gzip)
        inflateEnd(&import->gzip);
    api_text_fini(&import->errors);
    free(import);
}

/* ---- Errors ---- */

static void name_error(struct import *import, uint64_t line, enum api_error_code code,
                       const char *detail, const char *did_you_mean)
{
    import->failed++;
    if (import->failed > ERRORS_NAMED)
        return;
    struct api_text *text = &import->errors;
    size_t before = text->size;
    api_text_addf(text, "%s{\"line\":%llu,\"code\":\"%s\",\"detail\":", before == 0 ? "" : ",",
                  (unsigned long long)line, api_error_kinds[code].code);
    api_text_add_json(text, storm_text(detail));
    if (did_you_mean != NULL)
        api_text_addf(text, ",\"did_you_mean\":\"%s\"", did_you_mean);
    api_text_adds(text, "}");
    if (text->has_failed) {
        /* No room or no memory: it stays counted. */
        text->size = before;
        text->has_failed = false;
    }
}

/* End the import; what was committed stays. */
static enum MHD_Result give_up(struct api_request *request, enum api_error_code code,
                               const char *detail)
{
    struct import *import = request->own;
    char extras[128];
    snprintf(extras, sizeof extras, ",\"imported\":%llu,\"failed\":%llu,\"line\":%llu",
             (unsigned long long)import->imported, (unsigned long long)import->failed,
             (unsigned long long)import->line);
    struct api_failure failure = {.code = code, .extras = extras};
    return api_fail(request, &failure, "%s After %llu entries were imported.", detail,
                    (unsigned long long)import->imported);
}

static enum MHD_Result give_up_store(struct api_request *request, storm_status status)
{
    char detail[512] = "";
    storm_last_error(api_kv_store(request), detail, sizeof detail - 2);
    if (status == STORM_BUSY || status == STORM_NO_MEMORY || detail[0] == '\0')
        snprintf(detail, sizeof detail, "The store says: %s", storm_status_text(status));
    strcat(detail, ".");
    return give_up(request, api_error_of(status), detail);
}

/* ---- Lines ---- */

static uint32_t hash_of(struct storm_slice key)
{
    uint32_t hash = 0x811c9dc5;
    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ key.data[i]) * 0x01000193;
    return hash;
}

static bool is_in_batch(const struct api_request *request, const struct op *op)
{
    const struct import *import = request->own;
    for (size_t i = 0; i < import->op_count; i++) {
        const struct op *other = &import->ops[i];
        if (other->hash == op->hash && other->key_size == op->key_size &&
            memcmp(request->body + other->key, request->body + op->key, op->key_size) == 0)
            return true;
    }
    return false;
}

static void add_op(struct api_request *request, const struct api_import_line *line)
{
    struct import *import = request->own;
    struct op *op = &import->ops[import->op_count];
    *op = (struct op){
        .line_at = import->line_at,
        .key = (size_t)(line->key.data - request->body),
        .key_size = line->key.size,
        .value = (size_t)(line->value.data - request->body),
        .value_size = line->value.size,
        .expires_ms = line->meta.expires_ms,
        .modified_ms = line->meta.modified_ms,
        .line = import->line,
        .hash = import->is_insert ? hash_of(line->key) : 0,
        .type_size = (uint8_t)line->meta.type.size,
    };
    if (op->type_size != 0)
        memcpy(op->type, line->meta.type.data, op->type_size);
    size_t bytes = op->key_size + op->value_size;
    bool fits = import->op_count == 0 ||
                (import->op_count < BATCH_OPS && import->batch_bytes + bytes <= BATCH_BYTES &&
                 !(import->is_insert && is_in_batch(request, op)));
    import->has_next = !fits;
    if (fits) {
        import->op_count++;
        import->batch_bytes += bytes;
    }
}

static void count_entry(struct import *import)
{
    import->entries++;
    import->is_complete = false;
}

static void read_line(struct api_request *request, size_t end)
{
    struct import *import = request->own;
    struct api_import_line line;
    struct api_import_fault fault;
    uint8_t *bytes = request->body + import->line_at;
    size_t size = end - import->line_at;
    import->line++;
    if (size > 0 && bytes[size - 1] == '\r')
        size--;
    if (size == 0)
        return;
    bool is_read = api_import_line_read(bytes, size, &import->limits, &line, &fault);
    if (is_read && line.is_end) {
        import->is_complete = line.count == import->entries && !import->has_mismatch;
        import->has_mismatch = !import->is_complete;
        import->entries = 0;
        return;
    }
    count_entry(import);
    if (is_read)
        add_op(request, &line);
    else
        name_error(import, import->line, fault.code, fault.detail, fault.did_you_mean);
}

/* The beginning of a line is all there is room for: name it, and drop what there is of it. */
static void drop_long_line(struct api_request *request)
{
    struct import *import = request->own;
    if (!import->is_cut_line) {
        char detail[96];
        snprintf(detail, sizeof detail, "The line is longer than %zu bytes.", import->line_max);
        count_entry(import);
        name_error(import, import->line + 1, API_ERROR_value_too_large, detail, NULL);
    }
    import->is_cut_line = true;
    request->body_size = import->line_at;
    import->search_at = import->line_at;
}

/* Read the lines that are there, until the batch is full. */
static void read_lines(struct api_request *request)
{
    struct import *import = request->own;
    while (!import->has_next) {
        size_t left = request->body_size - import->search_at;
        uint8_t *end = left == 0 ? NULL : memchr(request->body + import->search_at, '\n', left);
        if (end == NULL && (!import->is_whole || import->line_at == request->body_size)) {
            import->search_at = request->body_size;
            if (request->body_size - import->line_at > import->line_max)
                drop_long_line(request);
            return;
        }
        size_t line_end = end == NULL ? request->body_size : (size_t)(end - request->body);
        if (import->is_cut_line)
            import->line++;
        else
            read_line(request, line_end);
        import->is_cut_line = false;
        import->line_at = end == NULL ? line_end : line_end + 1;
        import->search_at = import->line_at;
    }
}

/* ---- Batches ---- */

static storm_status make_batch(struct api_request *request)
{
    const struct import *import = request->own;
    if (!api_kv_fresh_batch(request))
        return STORM_NO_MEMORY;
    for (size_t i = 0; i < import->op_count; i++) {
        const struct op *from = &import->ops[i];
        if (from->is_left_out)
            continue;
        struct storm_op op = {
            .kind = STORM_PUT,
            .condition = import->is_insert ? STORM_IF_ABSENT : STORM_ALWAYS,
            .key = storm_bytes(request->body + from->key, from->key_size),
            .value = storm_bytes(request->body + from->value, from->value_size),
            .meta = {.expires_ms = from->expires_ms,
                     .modified_ms = from->modified_ms,
                     .type = storm_bytes(from->type, from->type_size)},
        };
        storm_status status = storm_batch_add(request->batch, &op);
        if (status != STORM_OK)
            return status;
    }
    return STORM_OK;
}

/* The batch is over: make room for the next one, which may have begun. */
static void begin_batch(struct api_request *request)
{
    struct import *import = request->own;
    size_t gone = import->has_next ? import->ops[import->op_count].line_at : import->line_at;
    memmove(request->body, request->body + gone, request->body_size - gone);
    request->body_size -= gone;
    import->line_at -= gone;
    import->search_at -= gone;
    struct op *first = &import->ops[0];
    if (import->has_next) {
        *first = import->ops[import->op_count];
        first->line_at -= gone;
        first->key -= gone;
        first->value -= gone;
    }
    import->op_count = import->has_next ? 1 : 0;
    import->batch_bytes = import->has_next ? first->key_size + first->value_size : 0;
    import->has_next = false;
}

static enum MHD_Result work_on(struct api_request *request, const uint8_t *data, size_t *size);

/* The commit is over. When the connection was suspended, the body goes on, or the end of it. */
static enum MHD_Result committed(struct api_request *request)
{
    struct import *import = request->own;
    size_t none = 0;
    import->has_outcome = true;
    request->stage = import->is_whole ? API_STAGE_READY : API_STAGE_BODY;
    if (import->is_submitting || !import->is_whole)
        return MHD_YES;
    return work_on(request, NULL, &none);
}

/* Runs on the worker's thread, where a write may wait until the store takes it. */
static void write_waiting(struct api_request *request)
{
    request->outcome = storm_write(api_kv_store(request), request->batch, NULL, &request->revision);
}

static enum MHD_Result submit(struct api_request *request)
{
    struct import *import = request->own;
    storm_status status = make_batch(request);
    if (status != STORM_OK)
        return give_up_store(request, status);
    import->is_submitting = true;
    enum MHD_Result result = api_commit(request, STORM_SYNC_DEFAULT, committed);
    import->is_submitting = false;
    return result;
}

static enum MHD_Result submit_waiting(struct api_request *request)
{
    struct import *import = request->own;
    import->is_submitting = true;
    enum MHD_Result result = api_hand_to_worker(request, write_waiting, committed);
    import->is_submitting = false;
    return result;
}

/* Leave out what exists already. How many are left. */
static size_t leave_out(struct api_request *request)
{
    struct import *import = request->own;
    size_t submitted = 0, left = 0;
    for (size_t i = 0; i < import->op_count; i++) {
        struct op *op = &import->ops[i];
        if (op->is_left_out)
            continue;
        op->is_left_out = !storm_batch_result(request->batch, submitted++).holds;
        if (op->is_left_out)
            name_error(import, op->line, API_ERROR_precondition_failed, "The key exists.", NULL);
        else
            left++;
    }
    return left;
}

/* Look at the outcome of a commit. True when the batch is over. */
static bool settle(struct api_request *request, enum MHD_Result *result)
{
    struct import *import = request->own;
    import->has_outcome = false;
    *result = MHD_YES;
    if (request->outcome == STORM_BUSY) {
        *result = submit_waiting(request);
        return false;
    }
    if (request->outcome == STORM_CONFLICT && leave_out(request) != 0) {
        *result = submit(request);
        return false;
    }
    if (request->outcome != STORM_OK && request->outcome != STORM_CONFLICT) {
        *result = give_up_store(request, request->outcome);
        return false;
    }
    if (request->outcome == STORM_OK) {
        import->imported += storm_batch_count(request->batch);
        import->revision = request->revision;
    }
    begin_batch(request);
    return true;
}

/* ---- Body ---- */

/* Take some of the input into request->body. False with an answer on its way in *result. */
static bool inflate_some(struct api_request *request, const uint8_t **data, size_t *size,
                         enum MHD_Result *result)
{
    struct import *import = request->own;
    z_stream *gzip = &import->gzip;
    if (import->has_gzip_end && *size > 0) {
        /* Files that were put together are one file. */
        inflateReset(gzip);
        import->has_gzip_end = false;
    }
    gzip->next_in = (Bytef *)*data;
    gzip->avail_in = (uInt)*size;
    gzip->next_out = request->body + request->body_size;
    gzip->avail_out = PIECE;
    int code = import->has_gzip_end ? Z_BUF_ERROR : inflate(gzip, Z_NO_FLUSH);
    size_t taken = *size - gzip->avail_in;
    *data += taken;
    *size -= taken;
    import->packed_bytes += taken;
    import->expanded_bytes += PIECE - gzip->avail_out;
    request->body_size += PIECE - gzip->avail_out;
    import->has_output = gzip->avail_out == 0;
    import->has_gzip_end = import->has_gzip_end || code == Z_STREAM_END;
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
        *result = give_up(request, API_ERROR_invalid_encoding, "The body is not gzip.");
        return false;
    }
    if (import->expanded_bytes > EXPANDED_FREE &&
        import->expanded_bytes / EXPANSION_MAX > import->packed_bytes) {
        *result = give_up(request, API_ERROR_value_too_large,
                          "The body expands to more than 100 times its size.");
        return false;
    }
    return true;
}

static bool take_some(struct api_request *request, const uint8_t **data, size_t *size,
                      enum MHD_Result *result)
{
    const struct import *import = request->own;
    size_t piece = import->is_gzip ? PIECE : *size < PIECE ? *size : PIECE;
    if (!api_request_reserve_body(request, piece)) {
        *result = give_up(request, API_ERROR_overloaded, "There is no memory for this body now.");
        return false;
    }
    if (import->is_gzip)
        return inflate_some(request, data, size, result);
    memcpy(request->body + request->body_size, *data, piece);
    request->body_size += piece;
    *data += piece;
    *size -= piece;
    return true;
}

static enum MHD_Result finish(struct api_request *request);

/*
 * Read, gather and commit until the input is used up, or a commit has to be waited for: then what
 * is left of the input stays with the library.
 */
static enum MHD_Result work_on(struct api_request *request, const uint8_t *data, size_t *size)
{
    struct import *import = request->own;
    enum MHD_Result result = MHD_YES;
    for (;;) {
        if (import->has_outcome && !settle(request, &result)) {
            /* Answered, waiting, or there is another outcome already. */
            if (!import->has_outcome)
                return result;
            continue;
        }
        read_lines(request);
        bool has_input = *size > 0 || (import->is_gzip && import->has_output);
        bool is_over =
            import->has_next || import->line_at > BATCH_LINES || (import->is_whole && !has_input);
        if (is_over && import->op_count == 0 && import->line_at > 0) {
            begin_batch(request);
            continue;
        }
        if (is_over && import->op_count > 0) {
            if (!import->is_whole && api_is_draining(request->server))
                return give_up(request, API_ERROR_shutting_down,
                               "The server stops in the middle of the import.");
            result = submit(request);
            if (!import->has_outcome)
                return result;
            continue;
        }
        if (!has_input)
            return import->is_whole ? finish(request) : MHD_YES;
        if (!take_some(request, &data, size, &result))
            return result;
    }
}

static enum MHD_Result take_body(struct api_request *request, const uint8_t *data, size_t *size)
{
    return work_on(request, data, size);
}

static bool read_encoding(struct api_request *request, bool *is_gzip, enum MHD_Result *result)
{
    struct storm_slice encoding = api_trim(api_header(request, API_HEADER_CONTENT_ENCODING));
    *is_gzip = api_equals_nocase(encoding, "gzip") || api_equals_nocase(encoding, "x-gzip");
    if (*is_gzip || encoding.size == 0 || api_equals_nocase(encoding, "identity"))
        return true;
    *result = api_fail_code(
        request, API_ERROR_unsupported_encoding, "Content-Encoding %.*s is not supported.",
        (int)(encoding.size < 64 ? encoding.size : 64), (const char *)encoding.data);
    return false;
}

static bool read_mode(struct api_request *request, bool *is_insert, enum MHD_Result *result)
{
    const struct api_parameter *mode = api_query_find(&request->query, "mode");
    *is_insert = mode != NULL && api_equals(mode->value, "insert");
    if (mode == NULL || *is_insert || api_equals(mode->value, "upsert"))
        return true;
    *result = api_fail_parameter(
        request, "Write upsert, which replaces what is there, or insert, which leaves it alone.",
        "The parameter mode is neither upsert nor insert.");
    return false;
}

enum MHD_Result api_import_begin(struct api_request *request)
{
    enum MHD_Result result;
    bool is_insert, is_gzip;
    if (!api_kv_conditions(request, true, &result) || !read_mode(request, &is_insert, &result) ||
        !read_encoding(request, &is_gzip, &result))
        return result;
    if (request->if_match.is_present || request->if_none_match.is_present)
        return api_fail_code(request, API_ERROR_unsupported_precondition,
                             "An import has no entity tag to compare with.");
    struct import *import = calloc(1, sizeof *import);
    if (import == NULL || (is_gzip && inflateInit2(&import->gzip, GZIP_WINDOW) != Z_OK)) {
        free(import);
        return api_fail_store(request, STORM_NO_MEMORY);
    }
    const struct storm_config *config = request->server->config;
    import->is_insert = is_insert;
    import->is_gzip = is_gzip;
    import->limits = (struct api_import_limits){
        .key_bytes = config->limits_key_bytes,
        .value_bytes = config->limits_value_bytes,
        .json_bytes = config->limits_json_bytes,
        .now_ms = api_now_ms(),
    };
    /* Base64 makes 4 bytes of 3, an escape 6 of 1. */
    uint64_t longest = config->limits_value_bytes / 3 * 4 + 4;
    if (longest < config->limits_json_bytes)
        longest = config->limits_json_bytes;
    import->line_max = (size_t)(longest + config->limits_key_bytes * 6 + LINE_SLACK);
    api_text_init(&import->errors, ERRORS_BYTES);
    request->own = import;
    request->free_own = free_import;
    request->take = take_body;
    request->body_limit = import->line_max * 2 + BATCH_BYTES * 8 + PIECE;
    return MHD_YES;
}

/* ---- The end ---- */

static enum MHD_Result finish(struct api_request *request)
{
    struct import *import = request->own;
    if (import->is_gzip && import->packed_bytes > 0 && !import->has_gzip_end)
        return give_up(request, API_ERROR_invalid_encoding, "The gzip of the body has no end.");
    if (import->revision == 0) {
        storm_snapshot *snapshot = storm_snapshot_create(api_kv_store(request));
        if (snapshot == NULL)
            return give_up_store(request, STORM_NO_MEMORY);
        import->revision = storm_snapshot_revision(snapshot);
        storm_snapshot_release(snapshot);
    }
    struct api_text text;
    api_text_init(&text, ERRORS_BYTES + 1024);
    api_text_addf(&text, "{\"imported\":%llu,\"failed\":%llu,\"errors\":[",
                  (unsigned long long)import->imported, (unsigned long long)import->failed);
    api_text_add(&text, import->errors.data, import->errors.size);
    api_text_addf(&text, "],\"complete\":%s,\"revision\":%llu}\n",
                  import->is_complete ? "true" : "false", (unsigned long long)import->revision);
    return api_send_json(request, MHD_HTTP_OK, &text);
}

enum MHD_Result api_import(struct api_request *request)
{
    struct import *import = request->own;
    size_t none = 0;
    import->is_whole = true;
    return work_on(request, NULL, &none);
}
