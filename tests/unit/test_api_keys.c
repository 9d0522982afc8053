/* Keys: how they are made, written in a file, read and found; and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "keys.h"

/* The digest of "abc", from FIPS 180-4. */
#define ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
/* And of nothing. */
#define NONE "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"

static char error[512];

static struct api_keys *parse(const char *text)
{
    return api_keys_parse(storm_text(text), "keys", error, sizeof error);
}

static void a_key_is_found_by_its_digest(void **state)
{
    (void)state;
    struct api_keys *keys =
        parse("# comment\n\n  " ABC "\tread,write  prefix=a%20b%25\t# Ada\r\n" NONE " admin");
    assert_non_null(keys);
    assert_int_equal(keys->count, 2);
    const struct api_key *key = api_keys_find(keys, storm_text("abc"));
    assert_non_null(key);
    assert_int_equal(key->scopes, API_SCOPE_READ | API_SCOPE_WRITE);
    assert_int_equal(key->prefix.size, 4);
    assert_memory_equal(key->prefix.data, "a b%", 4);
    assert_int_equal(key->line, 3);
    assert_null(api_keys_find(keys, storm_text("abd")));
    assert_null(api_keys_find(keys, storm_text("ab")));
    key = api_keys_find(keys, storm_text(""));
    assert_int_equal(key->scopes, API_SCOPE_ADMIN);
    api_keys_ref(keys);
    api_keys_unref(keys);
    api_keys_unref(keys);
}

static void a_bad_line_is_named_and_not_quoted(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "no key in it"},
        {"# sha256\n\n", "no key in it"},
        {"storm_secret read", "keys:1: it does not begin with sha256:"},
        {ABC "0 read", "keys:1: it does not begin with sha256:"},
        {"\nsha256:xa7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad read",
         "keys:2: it does not begin with sha256:"},
        {ABC, "keys:1: after the digest come the scopes"},
        {ABC " # read", "after the digest come the scopes"},
        {ABC " secret", "after the digest come the scopes"},
        {ABC " read,", "after the digest come the scopes"},
        {ABC " ,read", "after the digest come the scopes"},
        {ABC " read write", "after the scopes comes at most prefix="},
        {ABC " read prefix=", "after the scopes comes at most prefix="},
        {ABC " read prefix=a b", "after the scopes comes at most prefix="},
        {ABC " read prefix=%4", "two hex digits"},
        {ABC " read,admin prefix=a", "admin concerns the whole store"},
        {ABC " read\n" ABC " write", "keys:2: the same key is already on line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_null(parse(cases[i].text));
        assert_non_null(strstr(error, cases[i].message));
        assert_null(strstr(error, "secret"));
        assert_null(strstr(error, "7816bf"));
    }
}

static void there_may_be_so_many_keys_and_no_more(void **state)
{
    (void)state;
    char *text = malloc((API_KEYS_MAX + 1) * 80), *at = text;
    assert_non_null(text);
    for (int i = 0; i < API_KEYS_MAX; i++)
        at += sprintf(at, "sha256:%064x read\n", i);
    struct api_keys *keys = parse(text);
    assert_non_null(keys);
    assert_int_equal(keys->count, API_KEYS_MAX);
    api_keys_unref(keys);
    sprintf(at, ABC " read\n");
    assert_null(parse(text));
    assert_non_null(strstr(error, "keys:1025: there are more than 1,024 keys"));
    free(text);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t nth = 0;
    do {
        alloc_fail_at(++nth, false);
        struct api_keys *keys = parse(ABC " read prefix=a");
        bool has_failed = alloc_failures() > 0;
        alloc_fail_at(0, false);
        assert_true((keys == NULL) == has_failed);
        api_keys_unref(keys);
        if (!has_failed)
            break;
    } while (nth < 100);
    assert_in_range(nth, 3, 99);
}

static void bearer_keys_are_taken_from_their_field_and_nothing_else_is(void **state)
{
    (void)state;
    static const struct {
        const char *field, *token;
    } cases[] = {
        {"Bearer abc", "abc"},
        {"bearer abc", "abc"},
        {"  BEARER   a.b~c=  ", "a.b~c="},
        {"Bearer", ""},
        {"Bearer ", ""},
        {"Bearerabc", ""},
        {"Bearer\tabc", ""},
        {"Basic abc", ""},
        {"abc", ""},
        {"", ""},
        {"Bearer a b", ""},
        {"Bearer a\x80", ""},
        {"Bearer a\x7f", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct storm_slice token = api_bearer(storm_text(cases[i].field));
        assert_int_equal(token.size, strlen(cases[i].token));
        if (token.size > 0)
            assert_memory_equal(token.data, cases[i].token, token.size);
    }
}

static void keys_are_made_of_all_letters_and_never_twice(void **state)
{
    (void)state;
    static char secrets[64][API_SECRET_TEXT];
    bool seen[256] = {false};
    for (int i = 0; i < 64; i++) {
        assert_true(api_secret_make(secrets[i]));
        assert_int_equal(strlen(secrets[i]), API_SECRET_TEXT - 1);
        assert_memory_equal(secrets[i], "storm_", 6);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(secrets[i], secrets[j]);
        for (const char *at = secrets[i] + 6; *at != '\0'; at++)
            seen[(unsigned char)*at] = true;
    }
    int letters = 0;
    for (int i = 0; i < 256; i++)
        letters += seen[i];
    assert_int_equal(letters, 64);
}

static void a_digest_is_read_as_it_is_written(void **state)
{
    (void)state;
    uint8_t digest[API_DIGEST_SIZE], back[API_DIGEST_SIZE];
    char text[API_DIGEST_TEXT];
    assert_true(api_secret_digest(storm_text("abc"), digest));
    assert_string_equal(api_digest_write(digest, text), &ABC[7]);
    assert_true(api_digest_read(storm_text(text), back));
    assert_true(api_digest_equals(digest, back));
    for (int i = 0; i < API_DIGEST_SIZE; i++) {
        back[i] ^= 1;
        assert_false(api_digest_equals(digest, back));
        back[i] ^= 1;
    }
    static const char others[] = "/:@G`g \n";
    for (const char *bad = others; *bad != '\0'; bad++) {
        text[9] = *bad;
        assert_false(api_digest_read(storm_text(text), back));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_found_by_its_digest),
        cmocka_unit_test(a_bad_line_is_named_and_not_quoted),
        cmocka_unit_test(there_may_be_so_many_keys_and_no_more),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(bearer_keys_are_taken_from_their_field_and_nothing_else_is),
        cmocka_unit_test(keys_are_made_of_all_letters_and_never_twice),
        cmocka_unit_test(a_digest_is_read_as_it_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
