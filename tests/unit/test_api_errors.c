/* Problem documents, the text they are written into, and the statuses they are made from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "errors.h"

static json_t *document(const struct api_error *error)
{
    struct api_text text;
    api_text_init(&text, 4096);
    api_error_write(error, &text);
    assert_false(text.has_failed);
    assert_int_equal(text.data[text.size - 1], '\n');
    json_t *value = json_loadb(text.data, text.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    api_text_fini(&text);
    assert_non_null(value);
    return value;
}

static const char *member(json_t *value, const char *name)
{
    return json_string_value(json_object_get(value, name));
}

static void every_error_has_a_document_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < API_ERROR_COUNT; i++) {
        const struct api_error_kind *kind = &api_error_kinds[i];
        struct api_error error = {.code = (enum api_error_code)i, .detail = storm_text("what")};
        json_t *value = document(&error);
        assert_string_equal(member(value, "code"), kind->code);
        assert_string_equal(member(value, "title"), kind->title);
        assert_string_equal(member(value, "detail"), "what");
        assert_int_equal(json_integer_value(json_object_get(value, "status")), kind->status);
        assert_true(kind->status >= 400 && kind->status < 600);
        assert_memory_equal(member(value, "type"), "/docs/errors#", 13);
        assert_string_equal(member(value, "type") + 13, kind->code);
        assert_int_equal(json_object_get(value, "hint") != NULL, kind->hint[0] != '\0');
        json_decref(value);
    }
}

static void extras_hint_and_request_id_stand_in_the_document(void **state)
{
    (void)state;
    struct api_error error = {
        .code = API_ERROR_value_too_large,
        .detail = storm_bytes("\"\\\n\x01\xff\0", 6),
        .hint = "do that",
        .extras = ",\"limit_bytes\":7",
        .request_id = "id-1",
    };
    json_t *value = document(&error);
    assert_string_equal(member(value, "hint"), "do that");
    assert_string_equal(member(value, "request_id"), "id-1");
    assert_int_equal(json_integer_value(json_object_get(value, "limit_bytes")), 7);
    json_t *detail = json_object_get(value, "detail");
    assert_int_equal(json_string_length(detail), 8);
    assert_memory_equal(json_string_value(detail), "\"\\\n\x01\xef\xbf\xbd\0", 8);
    json_decref(value);
}

static void statuses_of_the_store_become_the_errors_of_the_contract(void **state)
{
    (void)state;
    static const struct {
        storm_status status;
        const char *code;
        unsigned http;
    } cases[] = {
        {STORM_NOT_FOUND, "key_not_found", 404},
        {STORM_CONFLICT, "precondition_failed", 412},
        {STORM_TOO_LARGE, "value_too_large", 413},
        {STORM_BUSY, "overloaded", 503},
        {STORM_NO_MEMORY, "overloaded", 503},
        {STORM_NO_SPACE, "disk_full", 507},
        {STORM_IO, "internal", 500},
        {STORM_CORRUPT, "corruption_detected", 500},
        {STORM_READ_ONLY, "read_only", 503},
        {STORM_COMMIT_UNKNOWN, "commit_unknown", 500},
        {STORM_CLOSED, "shutting_down", 503},
        {STORM_INVALID, "not_storable", 422},
        {-1000, "internal", 500},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct api_error_kind *kind = &api_error_kinds[api_error_of(cases[i].status)];
        assert_string_equal(kind->code, cases[i].code);
        assert_int_equal(kind->status, cases[i].http);
    }
}

static void text_never_grows_past_its_bound(void **state)
{
    (void)state;
    struct api_text text;
    api_text_init(&text, 5);
    api_text_adds(&text, "abcde");
    assert_false(text.has_failed);
    api_text_adds(&text, "f");
    assert_true(text.has_failed);
    assert_int_equal(text.size, 5);
    api_text_fini(&text);
    api_text_init(&text, 5);
    api_text_add_base64(&text, storm_text("four"));
    assert_true(text.has_failed);
    api_text_fini(&text);
}

static void base64_is_padded(void **state)
{
    (void)state;
    static const struct {
        const char *plain, *coded;
    } cases[] = {{"", ""},        {"f", "Zg=="},          {"fo", "Zm8="},
                 {"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}, {"\xff\xfe\xfd", "//79"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct api_text text;
        api_text_init(&text, 64);
        api_text_add_base64(&text, storm_text(cases[i].plain));
        assert_int_equal(text.size, strlen(cases[i].coded));
        assert_true(text.size == 0 || memcmp(text.data, cases[i].coded, text.size) == 0);
        api_text_fini(&text);
    }
}

static void utf8_is_judged_strictly(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\xc2\x80",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x8c\xa9",
                                       "\xf4\x8f\xbf\xbf",
                                       "\xed\x9f\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xc2",
                                      "\xe2\x82",
                                      "a\xff"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(api_is_utf8(storm_text(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(api_is_utf8(storm_text(bad[i])));
}

static void numbers_are_read_and_written_to_their_ends(void **state)
{
    (void)state;
    char text[API_NUMBER_MAX];
    uint64_t number;
    assert_int_equal(api_format_number(text, UINT64_MAX), 20);
    assert_string_equal(text, "18446744073709551615");
    assert_true(api_parse_number(storm_text(text), &number));
    assert_true(number == UINT64_MAX);
    assert_int_equal(api_format_number(text, 0), 1);
    assert_string_equal(text, "0");
    static const char *const bad[] = {
        "", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(api_parse_number(storm_text(bad[i]), &number));
}

static void tokens_are_what_rfc_9110_lists(void **state)
{
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        uint8_t one = (uint8_t)byte;
        bool is_alnum = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                        (byte >= 'a' && byte <= 'z');
        bool is_mark = byte != 0 && byte < 128 && strchr("!#$%&'*+-.^_`|~", byte) != NULL;
        assert_int_equal(api_is_token(storm_bytes(&one, 1)), is_alnum || is_mark);
    }
    assert_false(api_is_token(storm_text("")));
    assert_false(api_is_token(storm_text("Transfer-Encoding ")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_a_document_of_its_own),
        cmocka_unit_test(extras_hint_and_request_id_stand_in_the_document),
        cmocka_unit_test(statuses_of_the_store_become_the_errors_of_the_contract),
        cmocka_unit_test(text_never_grows_past_its_bound),
        cmocka_unit_test(base64_is_padded),
        cmocka_unit_test(utf8_is_judged_strictly),
        cmocka_unit_test(numbers_are_read_and_written_to_their_ends),
        cmocka_unit_test(tokens_are_what_rfc_9110_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
