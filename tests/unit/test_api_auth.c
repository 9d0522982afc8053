/* Which keys and ranges a grant reaches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "auth.h"
#include "random.h"

static struct api_grant limited_to(const char *prefix)
{
    struct api_grant grant = api_grant_everything();
    grant.prefix = storm_text(prefix);
    return grant;
}

static bool reaches_key(const char *prefix, const char *key)
{
    struct api_grant grant = limited_to(prefix);
    struct api_reach reach = api_reach_key(storm_text(key));
    return api_grant_reaches(&grant, &reach);
}

static bool reaches_range(const char *prefix, const char *start, const char *end,
                          const char *within)
{
    struct api_grant grant = limited_to(prefix);
    struct api_reach reach =
        api_reach_range(storm_text(start), storm_text(end), storm_text(within));
    return api_grant_reaches(&grant, &reach);
}

static void a_grant_without_a_prefix_reaches_everything(void **state)
{
    (void)state;
    assert_true(reaches_key("", "a"));
    assert_true(reaches_range("", "", "", ""));
    assert_true(reaches_range("", "a", "", "b"));
}

static void a_key_has_to_begin_with_the_prefix(void **state)
{
    (void)state;
    assert_true(reaches_key("user:", "user:"));
    assert_true(reaches_key("user:", "user:1"));
    assert_false(reaches_key("user:", "user"));
    assert_false(reaches_key("user:", "user;"));
    assert_false(reaches_key("user:", "User:1"));
    assert_false(reaches_key("user:", "xuser:1"));
}

static void a_range_has_to_lie_within_the_prefix(void **state)
{
    (void)state;
    assert_true(reaches_range("b/", "", "", "b/"));
    assert_true(reaches_range("b/", "", "", "b/c"));
    assert_true(reaches_range("b/", "a", "z", "b/c"));
    assert_false(reaches_range("b/", "", "", ""));
    assert_false(reaches_range("b/", "", "", "b"));
    assert_false(reaches_range("b/", "", "", "c/"));
    assert_true(reaches_range("b/", "b/", "b0", ""));
    assert_true(reaches_range("b/", "b/c", "b/d", ""));
    assert_true(reaches_range("b/", "b/c", "b/\xff\xff", ""));
    assert_true(reaches_range("b/", "b/", "a", ""));
    assert_false(reaches_range("b/", "b/", "", ""));
    assert_false(reaches_range("b/", "b/", "b00", ""));
    assert_false(reaches_range("b/", "b/", "b1", ""));
    assert_false(reaches_range("b/", "b/", "c", ""));
    assert_false(reaches_range("b/", "b", "b0", ""));
    assert_false(reaches_range("b/", "", "b0", ""));
    assert_true(reaches_range("b\xff", "b\xff", "c", ""));
    assert_false(reaches_range("b\xff", "b\xff", "c\x01", ""));
    assert_true(reaches_range("\xff\xff", "\xff\xff", "", ""));
    assert_false(reaches_range("\xff\xff", "\xff", "", ""));
}

/* Words of up to 3 bytes out of few, so that all borders are met. */
static struct storm_slice any_word(uint8_t word[3], uint64_t *seed)
{
    static const uint8_t bytes[] = {0x00, 'a', 'b', 0xfe, 0xff};
    size_t size = random_below(seed, 4);
    for (size_t i = 0; i < size; i++)
        word[i] = bytes[random_below(seed, sizeof bytes)];
    return storm_bytes(word, size);
}

static bool begins(struct storm_slice key, struct storm_slice prefix)
{
    return key.size >= prefix.size &&
           (prefix.size == 0 || memcmp(key.data, prefix.data, prefix.size) == 0);
}

static int order(struct storm_slice a, struct storm_slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int result = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return result != 0 ? result : (a.size > b.size) - (a.size < b.size);
}

static void a_range_that_is_reached_has_no_key_outside_the_prefix(void **state)
{
    (void)state;
    uint64_t seed = random_seed(7);
    size_t reached = 0;
    for (int i = 0; i < 200000; i++) {
        uint8_t a[3], b[3], c[3], d[3], e[3];
        struct api_grant grant = {.scopes = API_SCOPE_ALL, .prefix = any_word(a, &seed)};
        struct api_reach reach =
            api_reach_range(any_word(b, &seed), any_word(c, &seed), any_word(d, &seed));
        struct storm_slice key = any_word(e, &seed);
        bool is_in = order(key, reach.start) >= 0 &&
                     (reach.end.size == 0 || order(key, reach.end) < 0) &&
                     begins(key, reach.prefix);
        if (!api_grant_reaches(&grant, &reach))
            continue;
        reached++;
        if (is_in)
            assert_true(begins(key, grant.prefix));
    }
    assert_true(reached > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_grant_without_a_prefix_reaches_everything),
        cmocka_unit_test(a_key_has_to_begin_with_the_prefix),
        cmocka_unit_test(a_range_has_to_lie_within_the_prefix),
        cmocka_unit_test(a_range_that_is_reached_has_no_key_outside_the_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
