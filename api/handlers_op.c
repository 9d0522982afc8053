/*
 * POST /kv/{key}?op=: what a value is told to do instead of being replaced.
 *
 *   op=incr&by=5     add to a JSON integer, from 0 when there is no key; answers the new number
 *   op=touch&ttl=90s another expiry, as a PATCH without a body
 *
 * Counters stay within -(2^53 - 1) and 2^53 - 1, what every JSON reader sees exactly (RFC 7493):
 * JavaScript would show the two neighbours of 2^53 as the same number, which of all things a
 * counter must not do. Type and expiry stay as they are unless the request names another expiry.
 */
#include "kv.h"
#include "response.h"
#include "rewrite.h"
#include "router.h"

#define COUNTER_MAX INT64_C(9007199254740991)

/* JSON's integers, without fraction or exponent; false for anything else. Those past the range of a
 * counter come out as COUNTER_MAX + 1, with their sign. */
static bool parse_integer(struct storm_slice text, int64_t *number)
{
    bool is_negative = text.size > 0 && text.data[0] == '-';
    if (is_negative)
        text = storm_bytes(text.data + 1, text.size - 1);
    if (text.size == 0 || (text.data[0] == '0' && text.size > 1))
        return false;
    int64_t sum = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte < '0' || byte > '9')
            return false;
        sum = sum * 10 + (byte - '0');
        if (sum > COUNTER_MAX)
            sum = COUNTER_MAX + 1;
    }
    *number = is_negative ? -sum : sum;
    return true;
}

static bool is_in_range(int64_t number)
{
    return number >= -COUNTER_MAX && number <= COUNTER_MAX;
}

static struct storm_slice trim_json(struct storm_slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || (text.data[0] >= '\t' && text.data[0] <= '\r')))
        text = storm_bytes(text.data + 1, text.size - 1);
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || (text.data[text.size - 1] >= '\t' &&
                                                                 text.data[text.size - 1] <= '\r')))
        text.size--;
    return text;
}

static bool read_by(struct api_request *request, int64_t *by, enum MHD_Result *result)
{
    const struct api_parameter *parameter = api_query_find(&request->query, "by");
    *by = 1;
    if (parameter == NULL || (parse_integer(parameter->value, by) && is_in_range(*by)))
        return true;
    *result = api_fail_parameter(request, "Write an integer such as 5 or -5.",
                                 "The parameter by is not an integer between -9007199254740991 and "
                                 "9007199254740991.");
    return false;
}

/* ---- incr ---- */

static bool increment(struct api_request *request, struct api_text *value, enum MHD_Result *result)
{
    const struct storm_value *old = &request->value;
    char key[API_KEY_TEXT_MAX];
    int64_t number = 0;
    int64_t by;
    if (!read_by(request, &by, result))
        return false;
    if (old->revision != 0 &&
        (!api_media_is_json(old->meta.type) || !parse_integer(trim_json(old->bytes), &number))) {
        *result =
            api_fail_code(request, API_ERROR_not_an_integer,
                          "The value of key %s is not an integer.", api_key_text(request, key));
        return false;
    }
    if (!is_in_range(number) || !is_in_range(number + by)) {
        *result =
            api_fail_code(request, API_ERROR_integer_overflow,
                          "Key %s would leave the range of counters.", api_key_text(request, key));
        return false;
    }
    api_text_init(value, 32);
    api_text_addf(value, "%lld", (long long)(number + by));
    return true;
}

static enum MHD_Result incremented(struct api_request *request)
{
    if (request->prefer == API_PREFER_MINIMAL)
        return api_kv_send_written(request, false);
    unsigned status = request->value.revision == 0 ? MHD_HTTP_CREATED : MHD_HTTP_OK;
    struct api_answer answer = api_answer_text(status, api_rewritten(request), "application/json");
    api_kv_written_headers(request, &answer);
    return api_send(request, &answer);
}

/* ---- Which ---- */

enum MHD_Result api_kv_op_begin(struct api_request *request)
{
    enum MHD_Result result;
    int64_t by;
    const struct api_parameter *op = api_query_find(&request->query, "op");
    if (op == NULL)
        return api_fail_parameter(request, "Send ?op=incr or ?op=touch; PUT stores a value.",
                                  "A POST to a key has to say what to do.");
    bool is_touch = api_equals(op->value, "touch");
    if (!is_touch && !api_equals(op->value, "incr"))
        return api_fail_parameter(request, "The operations are incr and touch.",
                                  "The parameter op names no operation.");
    if (is_touch && api_query_find(&request->query, "by") != NULL)
        return api_fail_parameter(request, "Leave it out, or use op=incr.",
                                  "The parameter by has no meaning for op=touch.");
    if (!api_kv_conditions(request, true, &result) || !api_kv_expiry(request, true, &result) ||
        !read_by(request, &by, &result))
        return result;
    /* The new number tells the old one. */
    struct api_reach reach = api_reach_key(request->key);
    bool shows = !is_touch && request->prefer != API_PREFER_MINIMAL;
    return shows && !api_may(request, API_SCOPE_READ, &reach, &result) ? result : MHD_YES;
}

enum MHD_Result api_kv_op(struct api_request *request)
{
    const struct api_parameter *op = api_query_find(&request->query, "op");
    return api_equals(op->value, "touch") ? api_kv_touch(request)
                                          : api_rewrite(request, increment, incremented);
}
