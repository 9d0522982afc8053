/* Names of hosts and origins: which are taken for this server's, which for listed ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guard.h"

static bool knows(const char *field, const char *list, bool is_loopback)
{
    return api_host_is_known(storm_text(field), list, is_loopback);
}

static void a_loopback_server_knows_this_machine_only(void **state)
{
    (void)state;
    static const char *const good[] = {"localhost",        "LOCALHOST:80", "127.0.0.1",
                                       "127.255.0.9:1",    "[::1]",        "[::1]:8080",
                                       "[0:0:0:0:0:0:0:1]"};
    static const char *const bad[] = {"",         ":80",        "example",       "localhost.",
                                      "10.0.0.1", "127.0.0.1.", "127.0.0.1:a",   "[::1",
                                      "[::1]x",   "[]",         "[::1]]",        "0x7f.0.0.1",
                                      "127.1",    "::1",        "localhost:80:", "[::127.0.0.1]"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(knows(good[i], "", true));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(knows(bad[i], "", true));
}

static void a_server_with_names_knows_them_and_all_addresses(void **state)
{
    (void)state;
    assert_true(knows("db.example:443", "a,db.example", false));
    assert_true(knows("DB.example", "a,db.example", true));
    assert_true(knows("10.0.0.1:80", "a", false));
    assert_true(knows("[2001:db8::1]", "a", false));
    assert_false(knows("10.0.0.1", "a", true));
    assert_false(knows("db.example", "a,xdb.example,db.examplex", false));
    assert_false(knows("a,b", "a,b", false));
    assert_true(knows("anything", "*", true));
}

static void an_origin_is_own_when_host_and_port_agree(void **state)
{
    (void)state;
    static const struct {
        const char *origin, *host;
        bool is_own;
    } cases[] = {
        {"http://a:8080", "a:8080", true},
        {"http://A", "a", true},
        {"http://a", "a:80", true},
        {"http://a:80", "a", true},
        {"https://a", "a", true},
        {"https://a:443", "a", true},
        {"https://a", "a:443", true},
        {"http://[::1]:1", "[::1]:1", true},
        {"http://a", "a:443", false},
        {"https://a:80", "a", false},
        {"http://a:8080", "a", false},
        {"http://a", "b", false},
        {"a", "a", false},
        {"null", "null", false},
        {"", "", false},
        {"http://", "", false},
        {"http://a/", "a", false},
        {"http://a:1/", "a:1", false},
        {"http://a@b", "b", false},
        {"http://ab", "a", false},
        {"http://a:8080", "a:80801", false},
        {"ftp://a", "a", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(api_origin_is_own(storm_text(cases[i].origin), storm_text(cases[i].host)),
                         cases[i].is_own);
}

static void a_listed_origin_is_listed_as_a_whole(void **state)
{
    (void)state;
    static const char list[] = "https://a.example,http://b:3000";
    assert_true(api_origin_is_listed(storm_text("https://a.example"), list));
    assert_true(api_origin_is_listed(storm_text("http://b:3000"), list));
    static const char *const bad[] = {"https://a.exampl",
                                      "https://a.example,",
                                      "http://b:300",
                                      "",
                                      "http://b:30000",
                                      "null",
                                      list};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(api_origin_is_listed(storm_text(bad[i]), list));
    assert_true(api_origin_is_listed(storm_text("null"), "*"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loopback_server_knows_this_machine_only),
        cmocka_unit_test(a_server_with_names_knows_them_and_all_addresses),
        cmocka_unit_test(an_origin_is_own_when_host_and_port_agree),
        cmocka_unit_test(a_listed_origin_is_listed_as_a_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
