/* The JSON check: what is accepted, what is refused, and where the fault is said to be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "json.h"

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
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(is_json(good[i], strlen(good[i])));
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
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(is_json(bad[i], strlen(bad[i])));
    assert_false(is_json("1\0002", 3));
    assert_false(is_json("1\0", 2));
    assert_true(is_json("12", 1)); /* only as long as it says */
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
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(the_fault_has_a_line_and_a_column),
    };
    api_json_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
