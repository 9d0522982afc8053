/* Method and raw path to route, and the counters behind GET /stats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "metrics.h"
#include "router.h"

static const struct api_route *find(const char *method, const char *path, struct storm_slice *key,
                                    char *allow)
{
    return api_route_find(method, storm_text(path), key, allow);
}

static void each_route_finds_itself(void **state)
{
    (void)state;
    struct storm_slice key;
    char allow[API_ALLOW_MAX];
    assert_true(api_route_count >= 10);
    for (size_t i = 0; i < api_route_count; i++) {
        const struct api_route *route = &api_routes[i];
        char path[64];
        strcpy(path, route->path);
        if (route->has_key)
            strcpy(path + route->fixed, "a/b");
        assert_ptr_equal(find(route->method, path, &key, allow), route);
        assert_int_equal(key.size, route->has_key ? 3 : 0);
        size_t count = 0;
        while (route->parameters[count] != NULL)
            count++;
        assert_true(count < API_ROUTE_PARAMETERS_MAX);
    }
}

static void what_is_open_and_what_asks_is_as_the_security_page_says(void **state)
{
    (void)state;
    static const char *const open[] = {
        "/healthz",     "/readyz",        "/openapi.yaml",    "/docs",
        "/docs/errors", "/docs/page.css", "/docs/rapidoc.js", "/"};
    for (size_t i = 0; i < api_route_count; i++) {
        const struct api_route *route = &api_routes[i];
        bool is_listed = false;
        for (size_t j = 0; j < sizeof open / sizeof open[0]; j++)
            is_listed = is_listed || strcmp(route->path, open[j]) == 0;
        assert_int_equal(route->scope == API_SCOPE_OPEN, is_listed);
        if (strncmp(route->path, "/admin/", 7) == 0)
            assert_int_equal(route->scope, API_SCOPE_ADMIN);
        /* A key in the path is asked for by the router; asking is for the others. */
        if (route->has_key || route->scope == API_SCOPE_ADMIN)
            assert_false((route->flags & API_ROUTE_ASKS) != 0);
        /* Only a handler that asks can know what ANY stands for, unless nothing is touched. */
        assert_false(route->scope == API_SCOPE_ANY && route->has_key);
        if (route->scope == API_SCOPE_ANY && strcmp(route->path, "/version") != 0)
            assert_true((route->flags & API_ROUTE_ASKS) != 0);
    }
}

static void everything_after_the_prefix_is_the_key(void **state)
{
    (void)state;
    static const char *const keys[] = {"a", "", "/", "a//b/../c", "a%00b", "%2F", "kv/"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char path[64] = "/kv/";
        struct storm_slice key;
        char allow[API_ALLOW_MAX];
        strcat(path, keys[i]);
        assert_non_null(find("PUT", path, &key, allow));
        assert_int_equal(key.size, strlen(keys[i]));
        assert_memory_equal(key.data, keys[i], key.size);
    }
}

static void head_goes_where_get_goes(void **state)
{
    (void)state;
    struct storm_slice key;
    char allow[API_ALLOW_MAX];
    assert_ptr_equal(find("HEAD", "/kv/a", &key, allow), find("GET", "/kv/a", &key, allow));
    assert_ptr_equal(find("HEAD", "/stats", &key, allow), find("GET", "/stats", &key, allow));
    assert_null(find("HEAD", "/admin/flush", &key, allow));
    assert_string_equal(allow, "POST");
}

static void a_known_path_names_its_methods(void **state)
{
    (void)state;
    struct storm_slice key;
    char allow[API_ALLOW_MAX];
    assert_null(find("LINK", "/kv/a", &key, allow));
    assert_string_equal(allow, "GET, HEAD, PUT, DELETE, PATCH, POST");
    assert_null(find("get", "/stats", &key, allow));
    assert_string_equal(allow, "GET, HEAD");
}

static void other_spellings_of_a_path_are_other_paths(void **state)
{
    (void)state;
    static const char *const paths[] = {"",         "/k",    "/KV/a",   "//kv/a",        "/stats/",
                                        "/%73tats", "/stat", "/statss", "/admin/flush/", "/./stats",
                                        "*"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct storm_slice key;
        char allow[API_ALLOW_MAX];
        assert_null(find("GET", paths[i], &key, allow));
        assert_string_equal(allow, "");
    }
}

static void quantiles_are_right_to_a_fifth(void **state)
{
    (void)state;
    static struct api_metrics metrics;
    assert_int_equal(api_metrics_quantile_us(&metrics, 0.5), 0);
    for (uint64_t i = 1; i <= 1000; i++) {
        api_metrics_begin(&metrics);
        api_metrics_end(&metrics, i <= 10 ? 404 : i <= 15 ? 503 : 200, i * 1000);
    }
    assert_in_range(api_metrics_quantile_us(&metrics, 0.5), 500, 640);
    assert_in_range(api_metrics_quantile_us(&metrics, 0.99), 990, 1240);
    assert_int_equal(metrics.requests, 1000);
    assert_int_equal(metrics.errors_4xx, 10);
    assert_int_equal(metrics.errors_5xx, 5);
    assert_int_equal(metrics.in_flight, 0);
    api_metrics_begin(&metrics);
    api_metrics_end(&metrics, 200, UINT64_MAX); /* the last bucket takes what has no other */
    assert_true(api_metrics_quantile_us(&metrics, 1) > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_route_finds_itself),
        cmocka_unit_test(what_is_open_and_what_asks_is_as_the_security_page_says),
        cmocka_unit_test(everything_after_the_prefix_is_the_key),
        cmocka_unit_test(head_goes_where_get_goes),
        cmocka_unit_test(a_known_path_names_its_methods),
        cmocka_unit_test(other_spellings_of_a_path_are_other_paths),
        cmocka_unit_test(quantiles_are_right_to_a_fifth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
