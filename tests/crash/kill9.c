/*
 * kill9: what stormd has acknowledged survives kill -9, whenever it comes.
 *
 *   kill9 STORMD [ROUNDS [SEED [SECONDS]]]        10 rounds and a random seed unless told otherwise
 *
 * Every round starts the server on the same directory, lets WRITERS threads write to it over their
 * own connections, kills it after a random time, and in the next round, before any thread writes,
 * reads back every key. Every fourth round kills it while it starts, before it is ready, and starts
 * it again. Every third round nothing is synced, and tables are raw, so that the log is stored and
 * tables are read through mappings: that loses as little. Rounds end early when SECONDS (0 = no
 * limit) have passed.
 *
 * Each key belongs to one writer, which has one request under way at a time, so for each key there
 * is one newest acknowledged state and at most one newer state whose fate is unknown:
 *
 *   acked    the version that was answered with 2xx last (0 = never written, or deleted)
 *   pending  the version that was sent and not answered when the server died (or none)
 *
 * After the restart the key must be at `acked` or, if there is one, at `pending`; whichever it is
 * becomes the acknowledged state from then on, since a read has shown it. Anything older is a lost
 * write; any other bytes, or a status other than 200 and 404, are a wrong answer.
 *
 * The value of a version is not stored here: it is generated from (seed, key, version), 1 byte to
 * 100 KB long, most of them small. A deletion is a version too.
 *
 * It does not show that writes survive power loss: what the kernel has, it keeps. The engine's
 * tests on the fault-injecting os layer do that.
 */
#include "http/server.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    WRITERS = 12,
    KEYS_EACH = 150,
    VALUE_MAX = 100 * 1024,
};

struct key {
    uint32_t acked;
    uint32_t pending; /* 0 = none */
    bool acked_deleted, pending_deleted;
    uint32_t last; /* version given out last */
};

struct writer {
    unsigned id;
    uint64_t random;
    CURL *curl;
    struct key keys[KEYS_EACH];
    uint8_t *expected; /* VALUE_MAX bytes */
    uint8_t *body;     /* VALUE_MAX bytes and one more, to notice longer ones */
    size_t body_size;
    uint64_t acknowledged, deleted, read, lost, wrong, refused;
    pthread_t thread;
};

static struct writer writers[WRITERS];
static uint64_t seed;
static struct server server;
static atomic_bool stopping;

static uint64_t next_random(uint64_t *state)
{
    /* splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static void die(const char *what)
{
    fprintf(stderr, "kill9: %s failed\n", what);
    exit(2);
}

/* The bytes of one version of one key; returns how many. */
static size_t fill_value(const struct writer *writer, unsigned index, uint32_t version,
                         uint8_t *bytes)
{
    uint64_t state = seed ^ ((uint64_t)writer->id << 48) ^ ((uint64_t)index << 32) ^ version;
    uint64_t kind = next_random(&state) % 100;
    uint64_t most = kind < 60 ? 200 : kind < 90 ? 5000 : VALUE_MAX;
    size_t size = 1 + (size_t)(next_random(&state) % most);
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = next_random(&state);
        memcpy(bytes + i, &word, size - i < 8 ? size - i : 8);
    }
    return size;
}

static size_t take_body(char *bytes, size_t one, size_t count, void *arg)
{
    struct writer *writer = arg;
    size_t room = VALUE_MAX + 1 - writer->body_size;
    size_t taken = one * count < room ? one * count : room;
    memcpy(writer->body + writer->body_size, bytes, taken);
    writer->body_size += taken;
    return one * count;
}

/* One request; returns the status, or 0 when no complete answer came. */
static long request(struct writer *writer, const char *method, unsigned index, const void *value,
                    size_t size)
{
    char url[128];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/kv/w%u/k%u", server.port, writer->id, index);
    CURL *curl = writer->curl;
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/octet-stream");
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, writer);
    if (value != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, value);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)size);
    }
    writer->body_size = 0;
    long status = 0;
    if (curl_easy_perform(curl) == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    return status;
}

/* Write until the server dies or the round is over. */
static void *write_on(void *arg)
{
    struct writer *writer = arg;
    while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
        unsigned index = (unsigned)(next_random(&writer->random) % KEYS_EACH);
        struct key *key = &writer->keys[index];
        bool delete = next_random(&writer->random) % 10 == 0;
        key->pending = ++key->last;
        key->pending_deleted = delete;
        size_t size = delete ? 0 : fill_value(writer, index, key->pending, writer->expected);
        long status = request(writer, delete ? "DELETE" : "PUT", index,
                              delete ? NULL : writer->expected, size);
        if (status == 0)
            return NULL; /* the server is gone; the fate of `pending` is unknown */
        if (status / 100 == 2 || (delete &&status == 404)) {
            key->acked = key->pending;
            key->acked_deleted = delete;
            key->pending = 0;
            writer->acknowledged++;
            writer->deleted += delete;
        } else if (status / 100 == 5 || status == 429) {
            key->pending = 0; /* refused: nothing happened, and the next read will show it */
            writer->refused++;
        } else {
            fprintf(stderr, "w%u/k%u: status %ld to a write\n", writer->id, index, status);
            writer->wrong++;
            return NULL;
        }
    }
    return NULL;
}

/* Whether the answer just received shows this version of the key. */
static bool shows(struct writer *writer, unsigned index, long status, uint32_t version,
                  bool deleted)
{
    if (version == 0 || deleted)
        return status == 404;
    if (status != 200)
        return false;
    size_t size = fill_value(writer, index, version, writer->expected);
    return writer->body_size == size && memcmp(writer->body, writer->expected, size) == 0;
}

/* Whether it shows an older version than the acknowledged one: the write was lost, not mangled. */
static bool shows_older(struct writer *writer, unsigned index, long status, const struct key *key)
{
    if (status == 404)
        return true;
    for (uint32_t version = key->last; version > 0; version--)
        if (shows(writer, index, status, version, false))
            return true;
    return false;
}

static void *read_all(void *arg)
{
    struct writer *writer = arg;
    for (unsigned index = 0; index < KEYS_EACH; index++) {
        struct key *key = &writer->keys[index];
        long status = request(writer, "GET", index, NULL, 0);
        writer->read++;
        if (key->pending != 0 && shows(writer, index, status, key->pending, key->pending_deleted)) {
            key->acked = key->pending;
            key->acked_deleted = key->pending_deleted;
        } else if (!shows(writer, index, status, key->acked, key->acked_deleted)) {
            bool lost = shows_older(writer, index, status, key);
            writer->lost += lost;
            writer->wrong += !lost;
            fprintf(stderr, "w%u/k%u: %s: status %ld, %zu bytes, acknowledged version %u%s\n",
                    writer->id, index, lost ? "lost" : "wrong", status, writer->body_size,
                    key->acked, key->acked_deleted ? " (deleted)" : "");
        }
        key->pending = 0;
    }
    return NULL;
}

static void run_all(void *(*what)(void *))
{
    for (unsigned i = 0; i < WRITERS; i++)
        if (pthread_create(&writers[i].thread, NULL, what, &writers[i]) != 0)
            die("pthread_create");
}

static void join_all(void)
{
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(writers[i].thread, NULL);
}

/* Start and read everything back; false when the server does not come up. */
static bool start_and_verify(void)
{
    server_spawn(&server);
    if (!server_wait(&server))
        return false;
    run_all(read_all);
    join_all();
    return true;
}

static bool set_up_writers(void)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i].id = i;
        writers[i].random = seed + i;
        writers[i].curl = curl_easy_init();
        writers[i].expected = malloc(VALUE_MAX);
        writers[i].body = malloc(VALUE_MAX + 1);
        if (!writers[i].curl || !writers[i].expected || !writers[i].body)
            return false;
    }
    return true;
}

static void tear_down_writers(void)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        curl_easy_cleanup(writers[i].curl);
        free(writers[i].expected);
        free(writers[i].body);
    }
}

/* One round. False when the server does not start. */
static bool run_round(unsigned round, uint64_t *random, unsigned *kills)
{
    server.options[1] = round % 3 != 1 ? "--wal.sync=always" : "--wal.sync=off";
    server.options[2] = round % 3 != 1 ? "--table.codec=deflate" : "--table.codec=none";
    if (round % 4 == 3) {
        server_spawn(&server);
        server_sleep_ms(next_random(random) % 60);
        server_kill(&server);
        ++*kills;
    }
    if (!start_and_verify())
        return false;
    atomic_store(&stopping, false);
    run_all(write_on);
    server_sleep_ms(50 + next_random(random) % 1200);
    server_kill(&server);
    ++*kills;
    atomic_store(&stopping, true);
    join_all();
    return true;
}

/* Print the sums; true when nothing was lost or wrong. */
static bool report(unsigned rounds, unsigned kills, uint64_t took_ms)
{
    uint64_t acknowledged = 0, deleted = 0, read = 0, lost = 0, wrong = 0, refused = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        acknowledged += writers[i].acknowledged;
        deleted += writers[i].deleted;
        read += writers[i].read;
        lost += writers[i].lost;
        wrong += writers[i].wrong;
        refused += writers[i].refused;
    }
    if (lost + wrong > 0)
        server_show_log(&server);
    printf("%u rounds, %u kills, %llu writes acknowledged (%llu deletions; %llu refused), "
           "%llu reads, %llu lost, %llu wrong, %llu.%llu s\n",
           rounds, kills, (unsigned long long)acknowledged, (unsigned long long)deleted,
           (unsigned long long)refused, (unsigned long long)read, (unsigned long long)lost,
           (unsigned long long)wrong, (unsigned long long)(took_ms / 1000),
           (unsigned long long)(took_ms % 1000 / 100));
    return lost == 0 && wrong == 0 && acknowledged > 0;
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 10;
    seed = argc > 3 ? strtoull(argv[3], NULL, 10) : (uint64_t)time(NULL);
    uint64_t limit_ms = argc > 4 ? strtoull(argv[4], NULL, 10) * 1000 : 0;
    if (argc < 2 || rounds == 0) {
        fprintf(stderr, "usage: kill9 STORMD [ROUNDS [SEED [SECONDS]]]\n");
        return 2;
    }
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    server_init(&server, argv[1]);
    /* A small memtable makes flushes happen within every round. */
    server.options[0] = "--memtable.bytes=262144";

    uint64_t random = seed ^ 0x6B696C6C39u, start = server_now_ms();
    unsigned done = 0, kills = 0;
    bool started = set_up_writers();
    while (started && done < rounds && (limit_ms == 0 || server_now_ms() - start < limit_ms)) {
        started = run_round(done, &random, &kills);
        done += started;
    }
    started = started && start_and_verify();
    bool kept = report(done, kills, server_now_ms() - start);
    tear_down_writers();
    server_fini(&server);
    return started && kept ? 0 : 1;
}
