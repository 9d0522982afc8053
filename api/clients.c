/*
 * Clients and their limits. See clients.h.
 *
 * The bucket is a time: `full_at_ns` is when it will be full again, each request moves it one
 * interval into the future, and a request passes as long as that is no more than `burst` intervals
 * away. So there are no tokens to add up, and nothing to do while a client is silent.
 */
#include "clients.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum {
    TABLE_SIZE = 4096,
    CLIENTS_IDLE_MAX = 8192,
};

#define SECOND_NS UINT64_C(1000000000)

struct api_client {
    struct api_client_id id;
    struct api_client *next;          /* in its chain of the table */
    struct api_client *newer, *older; /* among the idle */
    uint64_t connections;
    uint64_t full_at_ns;
};

int api_clients_init(struct api_clients *clients, uint64_t connections, uint64_t rate,
                     uint64_t burst, uint64_t seed)
{
    memset(clients, 0, sizeof *clients);
    pthread_mutex_init(&clients->mu, NULL);
    clients->connections = connections;
    clients->rate = rate;
    clients->burst = burst != 0 ? burst : rate * 2;
    clients->seed = seed;
    if (connections == 0 && rate == 0)
        return 0;
    clients->table = calloc(TABLE_SIZE, sizeof(struct api_client *));
    return clients->table == NULL ? -1 : 0;
}

void api_clients_fini(struct api_clients *clients)
{
    for (size_t i = 0; clients->table != NULL && i < TABLE_SIZE; i++) {
        for (struct api_client *at = clients->table[i], *next; at != NULL; at = next) {
            next = at->next;
            free(at);
        }
    }
    free(clients->table);
    pthread_mutex_destroy(&clients->mu);
}

struct api_client_id api_client_of_address(const struct sockaddr *address)
{
    struct api_client_id id = {{0}};
    if (address != NULL && address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        id.bytes[10] = id.bytes[11] = 0xff;
        memcpy(id.bytes + 12, &in->sin_addr, 4);
    } else if (address != NULL && address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)address;
        bool is_v4 = IN6_IS_ADDR_V4MAPPED(&in->sin6_addr);
        memcpy(id.bytes, &in->sin6_addr, is_v4 ? 16 : 8);
    }
    return id;
}

struct api_client_id api_client_of_digest(const uint8_t *digest)
{
    struct api_client_id id;
    memcpy(id.bytes, digest, sizeof id.bytes);
    return id;
}

static struct api_client **chain_of(struct api_clients *clients, const struct api_client_id *id)
{
    uint64_t halves[2];
    memcpy(halves, id->bytes, sizeof halves);
    uint64_t hash = (halves[0] ^ clients->seed) * UINT64_C(0x9e3779b97f4a7c15);
    hash = (hash ^ hash >> 29 ^ halves[1]) * UINT64_C(0xbf58476d1ce4e5b9);
    hash = (hash ^ hash >> 32) * (clients->seed | 1);
    return &clients->table[hash >> 52];
}

static void unlink_idle(struct api_clients *clients, struct api_client *client)
{
    if (client->older == NULL)
        clients->idle_first = client->newer;
    else
        client->older->newer = client->newer;
    if (client->newer == NULL)
        clients->idle_last = client->older;
    else
        client->newer->older = client->older;
    clients->idle_count--;
}

static void link_idle(struct api_clients *clients, struct api_client *client)
{
    client->newer = NULL;
    client->older = clients->idle_last;
    if (clients->idle_last == NULL)
        clients->idle_first = client;
    else
        clients->idle_last->newer = client;
    clients->idle_last = client;
    clients->idle_count++;
}

static void forget_oldest(struct api_clients *clients)
{
    struct api_client *oldest = clients->idle_first;
    unlink_idle(clients, oldest);
    struct api_client **at = chain_of(clients, &oldest->id);
    while (*at != oldest)
        at = &(*at)->next;
    *at = oldest->next;
    free(oldest);
}

static struct api_client *find(struct api_clients *clients, const struct api_client_id *id)
{
    struct api_client *at = *chain_of(clients, id);
    while (at != NULL && memcmp(&at->id, id, sizeof *id) != 0)
        at = at->next;
    return at;
}

/* The client, made when there is none; NULL without memory. */
static struct api_client *find_or_make(struct api_clients *clients, const struct api_client_id *id)
{
    struct api_client *client = find(clients, id);
    if (client != NULL)
        return client;
    if (clients->idle_count >= CLIENTS_IDLE_MAX)
        forget_oldest(clients);
    client = calloc(1, sizeof *client);
    if (client == NULL)
        return NULL;
    client->id = *id;
    struct api_client **chain = chain_of(clients, id);
    client->next = *chain;
    *chain = client;
    link_idle(clients, client);
    return client;
}

uint64_t api_clients_enter(struct api_clients *clients, struct api_client_id id)
{
    pthread_mutex_lock(&clients->mu);
    struct api_client *client = find_or_make(clients, &id);
    if (client != NULL && client->connections == 0)
        unlink_idle(clients, client);
    uint64_t count = client == NULL ? 0 : ++client->connections;
    pthread_mutex_unlock(&clients->mu);
    return count;
}

void api_clients_leave(struct api_clients *clients, struct api_client_id id)
{
    pthread_mutex_lock(&clients->mu);
    struct api_client *client = find(clients, &id);
    if (--client->connections == 0)
        link_idle(clients, client);
    if (clients->idle_count > CLIENTS_IDLE_MAX)
        forget_oldest(clients);
    pthread_mutex_unlock(&clients->mu);
}

uint64_t api_clients_connections(struct api_clients *clients, struct api_client_id id)
{
    pthread_mutex_lock(&clients->mu);
    const struct api_client *client = find(clients, &id);
    uint64_t count = client == NULL ? 0 : client->connections;
    pthread_mutex_unlock(&clients->mu);
    return count;
}

unsigned api_clients_take(struct api_clients *clients, struct api_client_id id, uint64_t now_ns)
{
    uint64_t interval_ns = SECOND_NS / clients->rate;
    unsigned wait_s = 0;
    pthread_mutex_lock(&clients->mu);
    struct api_client *client = find_or_make(clients, &id);
    if (client != NULL) {
        uint64_t full_at_ns = client->full_at_ns > now_ns ? client->full_at_ns : now_ns;
        uint64_t latest_ns = now_ns + (clients->burst - 1) * interval_ns;
        if (full_at_ns <= latest_ns)
            client->full_at_ns = full_at_ns + interval_ns;
        else
            wait_s = (unsigned)((full_at_ns - latest_ns + SECOND_NS - 1) / SECOND_NS);
        if (client->connections == 0) { /* it is the one that was heard of last */
            unlink_idle(clients, client);
            link_idle(clients, client);
        }
    }
    pthread_mutex_unlock(&clients->mu);
    return wait_s;
}
