/* Limits of clients: buckets that fill with time, connections that are counted, memory that is
 * bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>

#include "alloc_fail.h"
#include "clients.h"

#define MS UINT64_C(1000000)

static struct api_client_id client(uint32_t number)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(number)}};
    return api_client_of_address((const struct sockaddr *)&address);
}

static void a_bucket_lets_its_burst_through_and_then_its_rate(void **state)
{
    (void)state;
    struct api_clients clients;
    assert_int_equal(api_clients_init(&clients, 0, 10, 5, 1), 0);
    uint64_t now = 1000 * MS;
    for (int i = 0; i < 5; i++)
        assert_int_equal(api_clients_take(&clients, client(1), now), 0);
    assert_int_equal(api_clients_take(&clients, client(1), now), 1);
    assert_int_equal(api_clients_take(&clients, client(2), now), 0);
    now += 99 * MS;
    assert_int_equal(api_clients_take(&clients, client(1), now), 1);
    now += 1 * MS;
    assert_int_equal(api_clients_take(&clients, client(1), now), 0);
    assert_int_equal(api_clients_take(&clients, client(1), now), 1);
    now += 60 * 1000 * MS; /* full again, and no fuller than that */
    for (int i = 0; i < 5; i++)
        assert_int_equal(api_clients_take(&clients, client(1), now), 0);
    assert_int_equal(api_clients_take(&clients, client(1), now), 1);
    api_clients_fini(&clients);
}

static void the_usual_burst_is_two_seconds_worth(void **state)
{
    (void)state;
    struct api_clients clients;
    assert_int_equal(api_clients_init(&clients, 0, 1, 0, 1), 0);
    assert_int_equal(api_clients_take(&clients, client(1), MS), 0);
    assert_int_equal(api_clients_take(&clients, client(1), MS), 0);
    assert_int_equal(api_clients_take(&clients, client(1), MS), 1);
    api_clients_fini(&clients);
}

static void connections_are_counted_by_client(void **state)
{
    (void)state;
    struct api_clients clients;
    assert_int_equal(api_clients_init(&clients, 2, 0, 0, 1), 0);
    assert_int_equal(api_clients_enter(&clients, client(1)), 1);
    assert_int_equal(api_clients_enter(&clients, client(1)), 2);
    assert_int_equal(api_clients_enter(&clients, client(2)), 1);
    assert_int_equal(api_clients_connections(&clients, client(1)), 2);
    api_clients_leave(&clients, client(1));
    assert_int_equal(api_clients_connections(&clients, client(1)), 1);
    api_clients_leave(&clients, client(1));
    api_clients_leave(&clients, client(2));
    assert_int_equal(api_clients_connections(&clients, client(1)), 0);
    assert_int_equal(api_clients_connections(&clients, client(3)), 0);
    api_clients_fini(&clients);
}

static void a_million_clients_take_bounded_memory(void **state)
{
    (void)state;
    struct api_clients clients;
    assert_int_equal(api_clients_init(&clients, 4, 1, 1, 1), 0);
    for (uint32_t i = 0; i < 3; i++) /* these stay, being connected */
        assert_int_equal(api_clients_enter(&clients, client(i)), 1);
    for (uint32_t i = 0; i < 1000000; i++) {
        assert_int_equal(api_clients_take(&clients, client(100 + i), 1000 * MS), 0);
        assert_true(clients.idle_count <= 8192);
    }
    /* Those of late are remembered, the first are not. */
    assert_int_equal(api_clients_take(&clients, client(1000099), 1000 * MS), 1);
    assert_int_equal(api_clients_take(&clients, client(100), 1000 * MS), 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(api_clients_connections(&clients, client(i)), 1);
        api_clients_leave(&clients, client(i));
    }
    for (uint32_t i = 0; i < 20000; i++)
        assert_int_equal(api_clients_enter(&clients, client(i)), 1);
    for (uint32_t i = 0; i < 20000; i++)
        api_clients_leave(&clients, client(i));
    assert_true(clients.idle_count <= 8192);
    api_clients_fini(&clients);
}

static void without_memory_nobody_is_counted_and_nobody_locked_out(void **state)
{
    (void)state;
    struct api_clients clients;
    alloc_fail_at(1, true);
    assert_int_equal(api_clients_init(&clients, 1, 1, 1, 1), -1);
    alloc_fail_at(0, false);
    api_clients_fini(&clients);
    assert_int_equal(api_clients_init(&clients, 1, 1, 1, 1), 0);
    alloc_fail_at(1, true);
    assert_int_equal(api_clients_enter(&clients, client(1)), 0);
    assert_int_equal(api_clients_take(&clients, client(1), MS), 0);
    assert_int_equal(api_clients_take(&clients, client(1), MS), 0);
    alloc_fail_at(0, false);
    api_clients_fini(&clients);
}

static struct api_client_id v6(const char *text)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6};
    assert_int_equal(inet_pton(AF_INET6, text, &address.sin6_addr), 1);
    return api_client_of_address((const struct sockaddr *)&address);
}

static void an_ipv6_network_is_one_client_and_a_mapped_address_its_ipv4_self(void **state)
{
    (void)state;
    struct api_client_id a = v6("2001:db8:1:2::1"), b = v6("2001:db8:1:2:ffff::9"),
                         c = v6("2001:db8:1:3::1"), mapped = v6("::ffff:10.0.0.1"),
                         plain = client(0x0a000001);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_not_equal(&a, &c, sizeof a);
    assert_memory_equal(&mapped, &plain, sizeof plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_lets_its_burst_through_and_then_its_rate),
        cmocka_unit_test(the_usual_burst_is_two_seconds_worth),
        cmocka_unit_test(connections_are_counted_by_client),
        cmocka_unit_test(a_million_clients_take_bounded_memory),
        cmocka_unit_test(without_memory_nobody_is_counted_and_nobody_locked_out),
        cmocka_unit_test(an_ipv6_network_is_one_client_and_a_mapped_address_its_ipv4_self),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
