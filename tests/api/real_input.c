/*
 * real_input: real records through all of Storm DB, compared byte for byte.
 *
 *   real_input STORMD [RECORDS]          all of them unless told otherwise
 *
 * The records are what `apt-cache dumpavail` prints: every package that this machine could install,
 * about 60,000, each a paragraph of "Field: value" lines whose values go on in lines that begin
 * with a space. A record becomes a JSON object of its fields in their order, under the package's
 * name; a name that comes again (another version or architecture) is kept as name=version, and if
 * that is taken too, as name=version#number, so that no record is dropped.
 *
 *   1  PUT all of them over CONNECTIONS connections at once
 *   2  POST /admin/flush, kill -9, start, GET and compare all
 *   3  DELETE every third, flush, SIGTERM, start, GET and compare all: deleted ones are 404
 *
 * Prints one line for each step.
 */
#include "http/server.h"

#include <curl/curl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECTIONS = 16, RECORDS_LEAST = 1000 };

struct record {
    char *key;  /* percent-encoded */
    char *body; /* compact JSON */
    size_t size;
    bool deleted;
};

static struct {
    struct record *items;
    size_t count, room;
    json_t *names; /* keys that are taken */
} records;

static struct server server;

static void fail(const char *what)
{
    fprintf(stderr, "real_input: %s\n", what);
    server_fini(&server);
    exit(1);
}

/* ---- Reading the records --------------------------------------------------------------------- */

/* The name that this record is kept under: percent-encoded; the caller's to free. */
static char *choose_key(json_t *object)
{
    char name[1024];
    const char *package = json_string_value(json_object_get(object, "Package"));
    const char *version = json_string_value(json_object_get(object, "Version"));
    snprintf(name, sizeof name, "%s", package);
    for (unsigned n = 1; json_object_get(records.names, name) != NULL; n++) {
        if (n == 1)
            snprintf(name, sizeof name, "%s=%s", package, version != NULL ? version : "");
        else
            snprintf(name, sizeof name, "%s=%s#%u", package, version != NULL ? version : "", n);
    }
    json_object_set_new(records.names, name, json_true());
    char *escaped = curl_easy_escape(NULL, name, 0);
    char *key = escaped != NULL ? strdup(escaped) : NULL;
    curl_free(escaped);
    return key;
}

static void keep_record(json_t *object)
{
    if (json_string_value(json_object_get(object, "Package")) == NULL)
        return;
    if (records.count == records.room) {
        records.room = records.room == 0 ? 4096 : records.room * 2;
        records.items = realloc(records.items, records.room * sizeof *records.items);
        if (records.items == NULL)
            fail("out of memory");
    }
    struct record *record = &records.items[records.count];
    memset(record, 0, sizeof *record);
    record->key = choose_key(object);
    record->body = json_dumps(object, JSON_COMPACT);
    if (record->key == NULL || record->body == NULL)
        fail("a record cannot be kept");
    record->size = strlen(record->body);
    records.count++;
}

/* Take one line into `object`; `field` is the one that a line beginning with a space goes on. */
static void take_line(json_t *object, char *line, char *field, size_t field_size)
{
    if (line[0] == ' ' || line[0] == '\t') {
        json_t *before = json_object_get(object, field);
        if (before != NULL)
            json_object_set_new(object, field,
                                json_sprintf("%s\n%s", json_string_value(before), line));
        return;
    }
    char *colon = strchr(line, ':');
    if (colon == NULL)
        return;
    *colon = '\0';
    snprintf(field, field_size, "%s", line);
    char *value = colon + 1 + strspn(colon + 1, " ");
    /* Not UTF-8 (a maintainer's name of long ago): then byte for byte as Latin-1 would be a lie, so
     * the field says so. */
    json_t *text = json_string(value);
    json_object_set_new(object, field, text != NULL ? text : json_string("(not UTF-8)"));
}

static void read_records(size_t most)
{
    FILE *input = popen("LC_ALL=C apt-cache dumpavail", "r");
    char *line = NULL, field[256] = "";
    size_t room = 0;
    json_t *object = json_object();
    records.names = json_object();
    if (input == NULL || object == NULL || records.names == NULL)
        fail("apt-cache cannot be run");
    ssize_t length;
    while (records.count < most && (length = getline(&line, &room, input)) >= 0) {
        if (length > 0 && line[length - 1] == '\n')
            line[--length] = '\0';
        if (length > 0) {
            take_line(object, line, field, sizeof field);
        } else {
            keep_record(object);
            json_object_clear(object);
        }
    }
    if (records.count < most)
        keep_record(object);
    json_decref(object);
    json_decref(records.names);
    free(line);
    pclose(input);
}

/* ---- Requests -------------------------------------------------------------------------------- */

struct answer {
    char *bytes;
    size_t size, room;
};

/* What each connection does with one record; false when that failed. */
typedef bool (*step_fn)(CURL *curl, struct record *record, struct answer *answer);

static struct {
    step_fn step;
    atomic_size_t next, done, failed;
} work;

static size_t take_body(char *bytes, size_t one, size_t count, void *arg)
{
    struct answer *answer = arg;
    if (answer->size + one * count > answer->room) {
        size_t room = (answer->size + one * count) * 2;
        char *larger = realloc(answer->bytes, room);
        if (larger == NULL)
            return 0;
        answer->bytes = larger;
        answer->room = room;
    }
    memcpy(answer->bytes + answer->size, bytes, one * count);
    answer->size += one * count;
    return one * count;
}

/* One request; the status, or 0 when no complete answer came. */
static long request(CURL *curl, const char *method, const char *path, const char *body, size_t size,
                    struct answer *answer)
{
    char url[4200];
    long status = 0;
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", server.port, path);
    answer->size = 0;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 60L);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)size);
    }
    if (curl_easy_perform(curl) == CURLE_OK)
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    return status;
}

static long request_record(CURL *curl, const char *method, const struct record *record,
                           const char *body, struct answer *answer)
{
    char path[4100];
    snprintf(path, sizeof path, "/kv/%s", record->key);
    return request(curl, method, path, body, record->size, answer);
}

static bool complain(const struct record *record, const char *what, long status,
                     const struct answer *answer)
{
    fprintf(stderr, "%s %s: status %ld, %zu bytes: %.200s\n", what, record->key, status,
            answer->size, answer->size > 0 ? answer->bytes : "");
    return false;
}

static bool put_record(CURL *curl, struct record *record, struct answer *answer)
{
    long status = request_record(curl, "PUT", record, record->body, answer);
    return status == 201 || complain(record, "PUT", status, answer);
}

static bool compare_record(CURL *curl, struct record *record, struct answer *answer)
{
    long status = request_record(curl, "GET", record, NULL, answer);
    if (record->deleted)
        return status == 404 || complain(record, "GET of a deleted", status, answer);
    bool same = status == 200 && answer->size == record->size &&
                memcmp(answer->bytes, record->body, record->size) == 0;
    return same || complain(record, "GET", status, answer);
}

static bool delete_third(CURL *curl, struct record *record, struct answer *answer)
{
    if ((size_t)(record - records.items) % 3 != 0)
        return true;
    long status = request_record(curl, "DELETE", record, NULL, answer);
    record->deleted = status == 204;
    return record->deleted || complain(record, "DELETE", status, answer);
}

static void *serve_step(void *unused)
{
    (void)unused;
    struct answer answer = {0};
    /* An answer that is empty is compared too: there must be something to point at. */
    take_body("", 1, 1, &answer);
    CURL *curl = curl_easy_init();
    size_t index;
    while (curl != NULL && (index = atomic_fetch_add(&work.next, 1)) < records.count) {
        if (!work.step(curl, &records.items[index], &answer))
            atomic_fetch_add(&work.failed, 1);
        atomic_fetch_add(&work.done, 1);
    }
    curl_easy_cleanup(curl);
    free(answer.bytes);
    return NULL;
}

/* Take every record through `step` over all connections; ends the test when one failed. */
static void for_all(const char *what, step_fn step)
{
    pthread_t threads[CONNECTIONS];
    uint64_t start = server_now_ms();
    work.step = step;
    atomic_store(&work.next, 0);
    atomic_store(&work.done, 0);
    atomic_store(&work.failed, 0);
    for (unsigned i = 0; i < CONNECTIONS; i++)
        if (pthread_create(&threads[i], NULL, serve_step, NULL) != 0)
            fail("no thread");
    for (unsigned i = 0; i < CONNECTIONS; i++)
        pthread_join(threads[i], NULL);
    uint64_t took = server_now_ms() - start;
    printf("%-28s %zu records, %zu failed, %.1f s, %.0f/s\n", what, atomic_load(&work.done),
           atomic_load(&work.failed), (double)took / 1000,
           (double)records.count * 1000 / (double)(took > 0 ? took : 1));
    fflush(stdout);
    if (atomic_load(&work.failed) > 0 || atomic_load(&work.done) != records.count) {
        server_show_log(&server);
        fail("records are missing or differ");
    }
}

static void flush(void)
{
    struct answer answer = {0};
    CURL *curl = curl_easy_init();
    uint64_t start = server_now_ms();
    long status = curl != NULL ? request(curl, "POST", "/admin/flush", "", 0, &answer) : 0;
    printf("%-28s status %ld, %.1f s: %.*s\n", "flush", status,
           (double)(server_now_ms() - start) / 1000, (int)answer.size,
           answer.bytes != NULL ? answer.bytes : "");
    curl_easy_cleanup(curl);
    free(answer.bytes);
    if (status != 200)
        fail("the flush failed");
}

static void start(void)
{
    uint64_t begin = server_now_ms();
    server_spawn(&server);
    if (!server_wait(&server))
        fail("stormd does not start");
    printf("%-28s ready after %llu ms\n", "start", (unsigned long long)(server_now_ms() - begin));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: real_input STORMD [RECORDS]\n");
        return 2;
    }
    server_init(&server, argv[1]);
    read_records(argc > 2 ? strtoul(argv[2], NULL, 10) : SIZE_MAX);
    size_t bytes = 0;
    for (size_t i = 0; i < records.count; i++)
        bytes += records.items[i].size;
    printf("%-28s %zu records, %.1f MB of JSON\n", "apt-cache dumpavail", records.count,
           (double)bytes / 1e6);
    if (records.count < RECORDS_LEAST && argc < 3)
        fail("too few packages are known; run apt-get update");

    start();
    for_all("PUT", put_record);
    flush();
    server_kill(&server);
    start();
    for_all("compare after kill -9", compare_record);
    for_all("DELETE every third", delete_third);
    flush();
    if (server_stop(&server) != 0)
        fail("SIGTERM did not end it with 0");
    start();
    for_all("compare after deletions", compare_record);
    server_fini(&server);
    for (size_t i = 0; i < records.count; i++) {
        free(records.items[i].key);
        free(records.items[i].body);
    }
    free(records.items);
    return 0;
}
