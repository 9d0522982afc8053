/*
 * Races over HTTP, with as many connections as there are racers, let go together in every round:
 *
 *   create   two PUTs, or a PUT and a batch, of one new key with If-None-Match: *; exactly one wins
 *   swap     as many PATCHes with If-Match of the same tag as there are racers; exactly one wins
 *   count    every racer increments one counter; none is lost, and no two are told the same number
 *   exchange every racer gets and puts one key in one batch; no value is got twice
 *
 *   race STORMD [ROUNDS]     10,000 rounds of create unless told otherwise
 *
 * Threads: each racer has a thread and a connection; a barrier starts every round and ends it.
 */
#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/server.h"

enum { RACERS = 4, SWAP_ROUNDS = 500, COUNTS_EACH = 1000 };

static struct server server;
static pthread_barrier_t barrier;
static long rounds = 10000;
static long statuses[RACERS]; /* each by its racer, between the barriers */
static char tag[64];
static _Atomic char got[RACERS * COUNTS_EACH + 1];
static _Atomic char seen[RACERS * COUNTS_EACH + 1]; /* how many were told that number */
static long failures; /* of the judge, racer 0, and at the end of main */

struct racer {
    int number;
    CURL *curl;
    char body[256]; /* of the last answer, cut */
    size_t body_size;
    long doubled, refused;
};

static size_t take_body(char *data, size_t one, size_t size, void *cls)
{
    struct racer *racer = cls;
    (void)one;
    size_t room = sizeof racer->body - 1 - racer->body_size;
    size_t taken = size < room ? size : room;
    memcpy(racer->body + racer->body_size, data, taken);
    racer->body_size += taken;
    racer->body[racer->body_size] = '\0';
    return size;
}

/* Send a request, without a body when that is NULL; its status, or 0. */
static long ask(struct racer *racer, const char *method, const char *path, const char *header,
                const char *body)
{
    char url[256];
    long status = 0;
    struct curl_slist *headers = curl_slist_append(NULL, header);
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", server.port, path);
    racer->body_size = 0;
    racer->body[0] = '\0';
    curl_easy_setopt(racer->curl, CURLOPT_URL, url);
    if (body == NULL)
        curl_easy_setopt(racer->curl, CURLOPT_HTTPGET, 1L);
    else
        curl_easy_setopt(racer->curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(racer->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(racer->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(racer->curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(racer->curl, CURLOPT_WRITEDATA, racer);
    curl_easy_setopt(racer->curl, CURLOPT_PROXY, "");
    if (curl_easy_perform(racer->curl) == CURLE_OK)
        curl_easy_getinfo(racer->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    return status;
}

/* Of `racers` statuses exactly one must be 200 or 201, and all others 412. */
static void judge(const char *what, long round, int racers)
{
    int winners = 0;
    int losers = 0;
    for (int i = 0; i < racers; i++) {
        winners += statuses[i] == 200 || statuses[i] == 201;
        losers += statuses[i] == 412;
    }
    if (winners == 1 && losers == racers - 1)
        return;
    if (failures++ < 10)
        fprintf(stderr, "%s, round %ld: %d won, %d were told 412, of %d\n", what, round, winners,
                losers, racers);
}

static void create(struct racer *racer, long round)
{
    char path[64];
    char batch[160];
    snprintf(path, sizeof path, "/kv/race/%ld", round);
    snprintf(
        batch, sizeof batch,
        "{\"ops\":[{\"op\":\"put\",\"key\":\"race/%ld\",\"value\":1,\"if_none_match\":\"*\"}]}",
        round);
    /* Every other round the second racer comes with a batch. */
    if (racer->number == 1 && round % 2 == 1)
        statuses[1] = ask(racer, "POST", "/batch", "Content-Type: application/json", batch);
    else
        statuses[racer->number] = ask(racer, "PUT", path, "If-None-Match: *", "1");
}

static void swap(struct racer *racer, long round)
{
    char header[96];
    char body[64];
    snprintf(header, sizeof header, "If-Match: %s", tag);
    snprintf(body, sizeof body, "{\"round\":%ld,\"by\":%d}", round, racer->number);
    statuses[racer->number] = ask(racer, "PATCH", "/kv/swapped", header, body);
}

/* The tag for the next round, from an answer's "revision". */
static void read_tag(struct racer *racer)
{
    ask(racer, "GET", "/kv/swapped?meta=true", "Accept: */*", NULL);
    const char *revision = strstr(racer->body, "\"revision\":");
    snprintf(tag, sizeof tag, "\"%lu\"",
             revision == NULL ? 0 : strtoul(revision + strlen("\"revision\":"), NULL, 10));
}

static void count(struct racer *racer)
{
    for (int i = 0; i < COUNTS_EACH; i++) {
        long status = ask(racer, "POST", "/kv/counter?op=incr", "Accept: */*", "");
        long number = strtol(racer->body, NULL, 10);
        bool is_fine =
            (status == 200 || status == 201) && number >= 1 && number <= (long)RACERS * COUNTS_EACH;
        racer->refused += !is_fine;
        if (is_fine && seen[number]++ != 0)
            racer->doubled++;
    }
}

static void exchange(struct racer *racer)
{
    char batch[160];
    for (int i = 0; i < COUNTS_EACH; i++) {
        snprintf(batch, sizeof batch,
                 "{\"ops\":[{\"op\":\"get\",\"key\":\"x\"},{\"op\":\"put\",\"key\":\"x\","
                 "\"value\":%d}]}",
                 racer->number * COUNTS_EACH + i + 1);
        long status = ask(racer, "POST", "/batch", "Content-Type: application/json", batch);
        const char *value = strstr(racer->body, "\"value\":");
        long number = value == NULL ? 0 : strtol(value + strlen("\"value\":"), NULL, 10);
        bool is_fine = status == 200 && number >= 0 && number <= (long)RACERS * COUNTS_EACH;
        racer->refused += !is_fine;
        /* Only the very first finds nothing, which counts as 0. */
        if (is_fine && got[number]++ != 0)
            racer->doubled++;
    }
}

static void *race(void *cls)
{
    struct racer *racer = cls;
    for (long round = 0; round < rounds; round++) {
        pthread_barrier_wait(&barrier);
        if (racer->number < 2)
            create(racer, round);
        pthread_barrier_wait(&barrier);
        if (racer->number == 0)
            judge("create", round, 2);
    }
    for (long round = 0; round < SWAP_ROUNDS; round++) {
        if (racer->number == 0 && round == 0)
            ask(racer, "PUT", "/kv/swapped", "Accept: */*", "{}");
        if (racer->number == 0)
            read_tag(racer);
        pthread_barrier_wait(&barrier);
        swap(racer, round);
        pthread_barrier_wait(&barrier);
        if (racer->number == 0)
            judge("swap", round, RACERS);
    }
    pthread_barrier_wait(&barrier);
    count(racer);
    exchange(racer);
    return NULL;
}

int main(int argc, char **argv)
{
    struct racer racers[RACERS] = {0};
    pthread_t threads[RACERS];
    if (argc < 2) {
        fprintf(stderr, "usage: race STORMD [ROUNDS]\n");
        return 2;
    }
    if (argc > 2)
        rounds = strtol(argv[2], NULL, 10);
    server_init(&server, argv[1]);
    server.options[0] = "--wal.sync=off";
    server_spawn(&server);
    if (!server_wait(&server))
        return 2;
    pthread_barrier_init(&barrier, NULL, RACERS);
    for (int i = 0; i < RACERS; i++) {
        racers[i].number = i;
        racers[i].curl = curl_easy_init();
        if (racers[i].curl == NULL || pthread_create(&threads[i], NULL, race, &racers[i]) != 0)
            return 2;
    }
    for (int i = 0; i < RACERS; i++) {
        pthread_join(threads[i], NULL);
        failures += racers[i].doubled + racers[i].refused;
        if (racers[i].doubled + racers[i].refused > 0)
            fprintf(stderr, "racer %d: %ld numbers that another was told too, %ld refused\n", i,
                    racers[i].doubled, racers[i].refused);
    }
    char wanted[32];
    snprintf(wanted, sizeof wanted, "%d", RACERS * COUNTS_EACH);
    ask(&racers[0], "GET", "/kv/counter", "Accept: */*", NULL);
    if (strcmp(racers[0].body, wanted) != 0) {
        fprintf(stderr, "the counter is at %s, not %s\n", racers[0].body, wanted);
        failures++;
    }
    printf("%ld rounds of create, %d of swap, %d increments and exchanges: %ld failures\n", rounds,
           SWAP_ROUNDS, RACERS * COUNTS_EACH, failures);
    if (failures > 0)
        server_show_log(&server);
    for (int i = 0; i < RACERS; i++)
        curl_easy_cleanup(racers[i].curl);
    server_stop(&server);
    server_fini(&server);
    return failures == 0 ? 0 : 1;
}
