/* The JSON check: what is accepted, what is refused, and where the fault is said to be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "json.h"
#include "json_scan.h"

static bool is_json(const char *text, size_t size)
{
    struct api_json_error error;
    return api_json_check(storm_bytes(text, size), &error);
}

static void every_kind_of_value_is_accepted(void **state)
{
    (void)state;
    static const char *const good[] = {"{}",
                                       "[]",
                                       "\"\"",
                                       "0",
                                       "-0",
                                       "true",
                                       "false",
                                       "null",
                                       " \r\n\t1 ",
                                       "0.1",
                                       "1.10",
                                       "1e2",
                                       "12345678901234567890",
                                       "-12345678901234567890123456789",
                                       "\"\\u0000\"",
                                       "\"\\ud834\\udd1e\"",
                                       "{\"a\":1,\"a\":2}",
                                       "[[[[{\"\":[]}]]]]",
                                       "\"\xc3\xa9\"",
                                       "1e-400"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(is_json(good[i], strlen(good[i])));
        enum api_json_verdict verdict = api_json_scan(storm_text(good[i]));
        assert_int_equal(verdict, i + 1 == sizeof good / sizeof good[0]
                                      ? API_JSON_UNSURE /* 1e-400 */
                                      : API_JSON_FINE);
    }
}

static void an_empty_text_is_said_to_be_empty(void **state)
{
    (void)state;
    struct api_json_error error;
    assert_false(api_json_check(storm_bytes(NULL, 0), &error));
    assert_string_equal(error.text, "it is empty");
    assert_int_equal(error.line, 1);
    assert_int_equal(error.column, 1);
    assert_false(error.is_memory);
}

static void what_is_no_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      " ",
                                      "{",
                                      "}",
                                      "[1,]",
                                      "{\"a\"}",
                                      "{a:1}",
                                      "'a'",
                                      "01",
                                      "+1",
                                      ".5",
                                      "1.",
                                      "1e",
                                      "tru",
                                      "nul",
                                      "\"",
                                      "\"\\x\"",
                                      "\"\\u12\"",
                                      "\"\\ud834\"",
                                      "\"\n\"",
                                      "\"\xff\"",
                                      "\"\xc0\x80\"",
                                      "\xef\xbb\xbf{}",
                                      "1 2",
                                      "{} x",
                                      "// c\n1",
                                      "NaN",
                                      "Infinity",
                                      "1e400",
                                      "{\"\\u0000\":1}",
                                      "hello"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(is_json(bad[i], strlen(bad[i])));
        assert_int_not_equal(api_json_scan(storm_text(bad[i])), API_JSON_FINE);
    }
    assert_false(is_json("1\0002", 3));
    assert_false(is_json("1\0", 2));
    assert_true(is_json("12", 1)); /* only as long as it says */
}

/* The scan takes eight bytes at a time: what ends a plain run is found at each place in them. */
static void a_fault_in_a_string_is_found_wherever_it_stands(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        bool is_fine;
    } inside[] = {{"\x1f", false}, {"\n", false},   {"\"", false},      {"\\n", true},
                  {"\\q", false},  {"\x80", false}, {"\xc3\xa9", true}, {"\xc3\x28", false},
                  {"\x7f", true},  {" ", true},     {"!", true},        {"#", true},
                  {"[", true},     {"]", true}};
    for (size_t size = 0; size <= 40; size++) {
        for (size_t at = 0; at <= size; at++) {
            for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
                char text[64] = "\"";
                memset(text + 1, 'x', at);
                strcpy(text + 1 + at, inside[i].bytes);
                size_t used = strlen(text);
                memset(text + used, 'y', size - at);
                text[used + size - at] = '"';
                struct storm_slice bytes = storm_bytes(text, used + size - at + 1);
                assert_int_equal(api_json_scan(bytes),
                                 inside[i].is_fine ? API_JSON_FINE : API_JSON_REFUSED);
            }
        }
    }
}

static void what_is_near_a_limit_is_left_to_jansson(void **state)
{
    (void)state;
    char digits[201 + 1];
    memset(digits, '7', 201);
    digits[201] = '\0';
    assert_int_equal(api_json_scan(storm_text(digits)), API_JSON_UNSURE);
    assert_int_equal(api_json_scan(storm_bytes(digits, 200)), API_JSON_FINE);
    assert_int_equal(api_json_scan(storm_text("1e99")), API_JSON_FINE);
    assert_int_equal(api_json_scan(storm_text("1e100")), API_JSON_UNSURE);
    assert_int_equal(api_json_scan(storm_text("[1e100")), API_JSON_UNSURE);
}

static void nesting_is_bounded(void **state)
{
    (void)state;
    char text[2 * 2049];
    for (size_t depth = 2047; depth <= 2049; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_int_equal(is_json(text, depth * 2), depth <= 2048);
    }
}

static void the_fault_has_a_line_and_a_column(void **state)
{
    (void)state;
    struct api_json_error error;
    assert_false(api_json_check(storm_text("{\n \"a\": tru\n}"), &error));
    assert_int_equal(error.line, 2);
    assert_true(error.column > 0);
    assert_false(error.is_memory);
    assert_true(strlen(error.text) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_accepted),
        cmocka_unit_test(an_empty_text_is_said_to_be_empty),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(a_fault_in_a_string_is_found_wherever_it_stands),
        cmocka_unit_test(what_is_near_a_limit_is_left_to_jansson),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(the_fault_has_a_line_and_a_column),
    };
    api_json_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
