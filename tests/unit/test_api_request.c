/* What is read from the request line and the header fields: targets, keys, queries, entity tags,
 * Prefer, media types, times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "fields.h"
#include "moment.h"
#include "target.h"
#include "text.h"

static void assert_slice(struct storm_slice slice, const char *text)
{
    assert_int_equal(slice.size, strlen(text));
    if (slice.size > 0)
        assert_memory_equal(slice.data, text, slice.size);
}

static void target_is_cut_at_its_first_question_mark(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *path, *query;
    } cases[] = {
        {"/kv/a", "/kv/a", ""},
        {"/kv/a?", "/kv/a", ""},
        {"/kv/a?x=1?y", "/kv/a", "x=1?y"},
        {"/kv//../a%2Fb", "/kv//../a%2Fb", ""},
        {"/", "/", ""},
        {"http://host:1/kv/a?x", "/kv/a", "x"},
        {"HTTP://h/kv/http://x", "/kv/http://x", ""},
        {"http://host", "", ""},
        {"*", "", ""},
        {"", "", ""},
        {"host:80", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct api_target target = api_target_split(storm_text(cases[i].raw));
        assert_slice(target.path, cases[i].path);
        assert_slice(target.query, cases[i].query);
    }
}

static bool decode(const char *text, bool plus_is_blank, uint8_t out[64], size_t *size)
{
    *size = strlen(text);
    memcpy(out, text, *size);
    return api_percent_decode(out, size, plus_is_blank);
}

static void every_byte_can_be_escaped_in_either_case(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        char lower[8], upper[8];
        uint8_t out[64];
        size_t size;
        snprintf(lower, sizeof lower, "a%%%02xb", byte);
        snprintf(upper, sizeof upper, "a%%%02Xb", byte);
        assert_true(decode(lower, false, out, &size));
        assert_int_equal(size, 3);
        assert_int_equal(out[1], byte);
        assert_true(decode(upper, false, out, &size));
        assert_int_equal(out[1], byte);
        assert_int_equal(out[2], 'b');
    }
}

static void a_key_is_decoded_exactly_once_and_plus_stays(void **state)
{
    (void)state;
    uint8_t out[64];
    size_t size;
    assert_true(decode("a+b%2525%2F", false, out, &size));
    assert_slice(storm_bytes(out, size), "a+b%25/");
    assert_true(decode("a+b%2B", true, out, &size));
    assert_slice(storm_bytes(out, size), "a b+");
}

static void broken_escapes_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"%",   "%1",   "a%",   "%zz", "%1g",
                                        "%g1", "%%41", "% 41", "ok%4"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t out[64];
        size_t size;
        assert_false(decode(cases[i], false, out, &size));
    }
}

static enum api_query_fault parse(const char *text, uint8_t buffer[512], struct api_query *query)
{
    const struct api_parameter *culprit;
    memcpy(buffer, text, strlen(text));
    return api_query_parse(buffer, strlen(text), "key", query, &culprit);
}

static void query_is_taken_apart_and_decoded(void **state)
{
    (void)state;
    uint8_t buffer[512];
    struct api_query query;
    assert_int_equal(parse("ttl=9%30s&&m%65ta&empty=&x=a=b+c", buffer, &query), API_QUERY_FINE);
    assert_int_equal(query.count, 4);
    assert_slice(api_query_find(&query, "ttl")->value, "90s");
    assert_slice(api_query_find(&query, "meta")->value, "");
    assert_slice(api_query_find(&query, "empty")->value, "");
    assert_slice(api_query_find(&query, "x")->value, "a=b c");
    assert_null(api_query_find(&query, "tt"));
}

static void query_faults_are_told_apart(void **state)
{
    (void)state;
    uint8_t buffer[512];
    struct api_query query;
    assert_int_equal(parse("a=1&a=2", buffer, &query), API_QUERY_TWICE);
    assert_int_equal(parse("a=1&%61=2", buffer, &query), API_QUERY_TWICE);
    assert_int_equal(parse("a=%", buffer, &query), API_QUERY_ESCAPE);
    assert_int_equal(parse("%x=1", buffer, &query), API_QUERY_ESCAPE);
    assert_int_equal(parse("a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p", buffer, &query), API_QUERY_FINE);
    assert_int_equal(parse("a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q", buffer, &query),
                     API_QUERY_TOO_MANY);
}

static void only_the_repeatable_parameter_may_stand_many_times(void **state)
{
    (void)state;
    uint8_t buffer[512];
    struct api_query query;
    assert_int_equal(parse("key=a&x=1&k%65y=b%26&key&key=", buffer, &query), API_QUERY_FINE);
    assert_int_equal(query.count, 2);
    assert_int_equal(query.repeat_count, 4);
    assert_slice(query.repeats[0], "a");
    assert_slice(query.repeats[1], "b&");
    assert_slice(query.repeats[2], "");
    assert_slice(api_query_find(&query, "key")->value, "a");
    api_query_fini(&query);
    assert_int_equal(parse("key&key&key&x&x", buffer, &query), API_QUERY_TWICE);
    assert_int_equal(query.repeat_count, 3);
    api_query_fini(&query);
    char many[512] = "";
    for (int i = 0; i < 100; i++)
        strcat(many, "&key");
    assert_int_equal(parse(many, buffer, &query), API_QUERY_FINE);
    assert_int_equal(query.repeat_count, 100);
    api_query_fini(&query);
}

static void tags_match_as_their_field_compares(void **state)
{
    (void)state;
    struct api_tags tags;
    assert_true(api_tags_parse(storm_text("\"7\", \"42-gz\" ,,W/\"9\""), true, &tags));
    assert_true(tags.is_present && !tags.is_any);
    assert_true(api_tags_match(&tags, 7));
    assert_true(api_tags_match(&tags, 42));
    assert_false(api_tags_match(&tags, 9)); /* If-Match compares strongly */
    assert_true(api_tags_parse(storm_text("W/\"9\""), false, &tags));
    assert_true(api_tags_match(&tags, 9));
    assert_true(api_tags_parse(storm_text(" * "), true, &tags));
    assert_true(tags.is_any && api_tags_match(&tags, 1));
}

static void foreign_tags_are_legal_and_never_match(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "\"abc\"",  "\"\"",    "\"007\"", "\"0\"", "\"18446744073709551616\"",
        "\"7, 8\"", "\"-gz\"", "\"7-br\""};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct api_tags tags;
        bool has_blank = strchr(cases[i], ' ') != NULL;
        assert_int_equal(api_tags_parse(storm_text(cases[i]), true, &tags), !has_blank);
        if (!has_blank)
            assert_int_equal(tags.count, 0);
    }
}

static void what_is_no_list_of_tags_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"",        " ",      ",",           "42",
                                        "\"42",    "42\"",   "\"1\" \"2\"", "*, \"1\"",
                                        "w/\"1\"", "\"1\"x", "W/",          "\"a\"b\""};
    struct api_tags tags;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_false(api_tags_parse(storm_text(cases[i]), true, &tags));
    char many[API_TAGS_MAX * 4 + 8] = "";
    for (int i = 0; i < API_TAGS_MAX; i++)
        strcat(many, "\"1\",");
    assert_true(api_tags_parse(storm_text(many), true, &tags));
    strcat(many, "\"1\"");
    assert_false(api_tags_parse(storm_text(many), true, &tags));
}

static void prefer_takes_the_first_return_it_knows(void **state)
{
    (void)state;
    assert_int_equal(api_prefer_parse(storm_text("return=minimal")), API_PREFER_MINIMAL);
    assert_int_equal(api_prefer_parse(storm_text("respond-async, Return = representation ; x=1")),
                     API_PREFER_REPRESENTATION);
    assert_int_equal(api_prefer_parse(storm_text("return=\"minimal\"")), API_PREFER_MINIMAL);
    assert_int_equal(api_prefer_parse(storm_text("return=maximal, wait=5")), API_PREFER_NONE);
    assert_int_equal(api_prefer_parse(storm_text("")), API_PREFER_NONE);
}

static void media_types_decide_how_a_body_is_treated(void **state)
{
    (void)state;
    static const struct {
        const char *type;
        enum api_media media;
    } cases[] = {
        {"", API_MEDIA_JSON},
        {"application/json", API_MEDIA_JSON},
        {"Application/JSON; charset=utf-8", API_MEDIA_JSON},
        {"application/x-www-form-urlencoded", API_MEDIA_JSON},
        {"application/ld+json", API_MEDIA_JSON_AS},
        {"application/problem+JSON;x=y", API_MEDIA_JSON_AS},
        {"text/plain", API_MEDIA_BYTES},
        {"application/octet-stream", API_MEDIA_BYTES},
        {"application/jsonx", API_MEDIA_BYTES},
        {"multipart/form-data; boundary=x", API_MEDIA_REFUSED},
        {"MULTIPART/mixed", API_MEDIA_REFUSED},
        {"text", API_MEDIA_REFUSED},
        {"/plain", API_MEDIA_REFUSED},
        {"text/", API_MEDIA_REFUSED},
        {"te xt/plain", API_MEDIA_REFUSED},
        {"text/plain\x01", API_MEDIA_REFUSED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(api_media_parse(storm_text(cases[i].type)), cases[i].media);
    char longest[API_MEDIA_TYPE_MAX + 2] = "text/";
    memset(longest + 5, 'x', sizeof longest - 6);
    longest[API_MEDIA_TYPE_MAX] = '\0';
    assert_int_equal(api_media_parse(storm_text(longest)), API_MEDIA_BYTES);
    longest[API_MEDIA_TYPE_MAX] = 'x';
    longest[API_MEDIA_TYPE_MAX + 1] = '\0';
    assert_int_equal(api_media_parse(storm_text(longest)), API_MEDIA_REFUSED);
    assert_true(api_media_is_json(storm_text("")));
    assert_true(api_media_is_json(storm_text("a/b+json; q=1")));
    assert_false(api_media_is_json(storm_text("text/json")));
}

static void accept_names_a_type_only_in_words(void **state)
{
    (void)state;
    assert_true(
        api_accept_names(storm_text("text/html, Application/Json;q=0.5"), "application/json"));
    assert_false(api_accept_names(storm_text("*/*"), "application/json"));
    assert_false(api_accept_names(storm_text(""), "application/json"));
}

static void durations_have_a_unit_and_a_bound(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"1s", 1000},      {"90s", 90000},    {"15m", 900000},
                {"24h", 86400000}, {"7d", 604800000}, {"36525d", 3155760000000}};
    static const char *const bad[] = {"",
                                      "s",
                                      "90",
                                      "0s",
                                      "-1s",
                                      "1.5h",
                                      "1w",
                                      "36526d",
                                      "1S",
                                      "99999999999999999999s",
                                      "18446744073709551615d",
                                      " 1s",
                                      "1 s"};
    uint64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(api_parse_duration(storm_text(good[i].text), &ms));
        assert_true(ms == good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(api_parse_duration(storm_text(bad[i]), &ms));
}

static void times_are_read_as_rfc_3339_has_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2000-02-29T12:00:00.5Z", 951825600500},
        {"2026-11-22t18:21:48.123456z", 1795371708123},
        {"2026-11-22T20:21:48+02:00", 1795371708000},
        {"2026-11-22T20:21:48 02:00", 1795371708000},
        {"2026-11-22T16:51:48-01:30", 1795371708000},
        {"9999-12-31T23:59:59.999Z", API_LAST_MS},
    };
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-11-22",
                                      "2026-11-22T18:21:48",
                                      "2026-11-22T18:21:48.Z",
                                      "2026-13-01T00:00:00Z",
                                      "2026-00-01T00:00:00Z",
                                      "2026-02-29T00:00:00Z",
                                      "1900-01-01T00:00:00Z",
                                      "2026-11-22T24:00:00Z",
                                      "2026-11-22T18:60:00Z",
                                      "2026-11-22T18:21:48+2:00",
                                      "2026-11-22T18:21:48+24:00",
                                      "1970-01-01T00:00:00+01:00",
                                      "2026-11-22 18:21:48Z",
                                      "2026\r11-22T18:21:48Z",
                                      "20261122T182148Z"};
    uint64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(api_parse_rfc3339(storm_text(good[i].text), &ms));
        assert_true(ms == good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(api_parse_rfc3339(storm_text(bad[i]), &ms));
}

/* The C library's calendar is the reference; 20,000 moments over eight thousand years. */
static void times_are_written_as_the_calendar_has_them(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252;
    for (int i = 0; i < 20000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t ms = random % (API_LAST_MS + 1);
        char text[API_RFC3339_MAX], date[API_HTTP_DATE_MAX], expected[64];
        uint64_t back;
        assert_true(api_parse_rfc3339(storm_text(api_format_rfc3339(text, ms)), &back));
        assert_true(back == ms);
        time_t seconds = (time_t)(ms / 1000);
        struct tm calendar;
        gmtime_r(&seconds, &calendar);
        strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", &calendar);
        assert_string_equal(api_format_http_date(date, ms), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(target_is_cut_at_its_first_question_mark),
        cmocka_unit_test(every_byte_can_be_escaped_in_either_case),
        cmocka_unit_test(a_key_is_decoded_exactly_once_and_plus_stays),
        cmocka_unit_test(broken_escapes_are_refused),
        cmocka_unit_test(query_is_taken_apart_and_decoded),
        cmocka_unit_test(query_faults_are_told_apart),
        cmocka_unit_test(only_the_repeatable_parameter_may_stand_many_times),
        cmocka_unit_test(tags_match_as_their_field_compares),
        cmocka_unit_test(foreign_tags_are_legal_and_never_match),
        cmocka_unit_test(what_is_no_list_of_tags_is_refused),
        cmocka_unit_test(prefer_takes_the_first_return_it_knows),
        cmocka_unit_test(media_types_decide_how_a_body_is_treated),
        cmocka_unit_test(accept_names_a_type_only_in_words),
        cmocka_unit_test(durations_have_a_unit_and_a_bound),
        cmocka_unit_test(times_are_read_as_rfc_3339_has_them),
        cmocka_unit_test(times_are_written_as_the_calendar_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
