/*
 * What one client may use: connections at once, and requests by a token bucket. A client is an
 * address (of IPv6, a network of 64 bits, because that is what one customer gets) or a key.
 *
 * Memory is bounded: a client without connections is remembered as long as there is room among
 * CLIENTS_IDLE_MAX of them, the one that was silent the longest going first; who is forgotten
 * starts with a full bucket. Threads: any; one mutex, held for some 50 ns.
 */
#ifndef STORM_API_CLIENTS_H
#define STORM_API_CLIENTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct api_client_id {
    uint8_t bytes[16];
};

struct api_client;

struct api_clients {
    uint64_t connections; /* const: limit of each; 0 = none */
    uint64_t rate;        /* const: requests in a second; 0 = any number */
    uint64_t burst;       /* const */
    uint64_t seed;        /* const: so that nobody can choose who collides */

    pthread_mutex_t mu;
    struct api_client **table;     /* mu */
    struct api_client *idle_first; /* mu: silent the longest */
    struct api_client *idle_last;  /* mu */
    unsigned idle_count;           /* mu */
};

/* 0, or -1 without memory. Nothing is allocated when both limits are 0. */
int api_clients_init(struct api_clients *clients, uint64_t connections, uint64_t rate,
                     uint64_t burst, uint64_t seed);
void api_clients_fini(struct api_clients *clients);

struct api_client_id api_client_of_address(const struct sockaddr *address);
struct api_client_id api_client_of_digest(const uint8_t *digest);

/* A connection was opened: the number this client has now. 0 without memory: then it is not counted
 * and must not be taken back. Each other has its api_clients_leave(). */
uint64_t api_clients_enter(struct api_clients *clients, struct api_client_id id);
void api_clients_leave(struct api_clients *clients, struct api_client_id id);
uint64_t api_clients_connections(struct api_clients *clients, struct api_client_id id);

/* One request: 0 = it may pass, else the seconds until the next one may. */
unsigned api_clients_take(struct api_clients *clients, struct api_client_id id, uint64_t now_ns);

#endif
