/*
 * Streamed answers, by producers of this test, through a server on the loopback address: GET
 * /version is made to answer with them (--wrap=api_version), and the clock that slow clients are
 * measured with can be put forward (--wrap=api_coarse_ns).
 *
 * The shape of an answer is asked for in X-Request-Id: "lines 5000", "events", "gzip", "cut" and so
 * on.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "log.h"
#include "moment.h"
#include "router.h"
#include "stream.h"

enum { SECONDS_MAX = 20, LINE = 100, SLOTS = 64, PUBLISHERS = 4, EVENTS = 300 };

/* ---- Producers ---- */

enum kind { LINES, EVENTS_ONLY, CUT, FAILS, IDLES, ENDLESS };

/* One answer. Events are numbers that any thread may publish: the stream tells how many there are.
 * */
struct script {
    enum kind kind;
    unsigned left; /* lines */
    unsigned idle; /* times that nothing is added */
    _Atomic unsigned published;
    unsigned told;
    struct api_stream *stream; /* slots_mu */
    int slot;                  /* -1 = none */
};

static struct api_server server;
static struct storm_config config;
static pthread_mutex_t slots_mu = PTHREAD_MUTEX_INITIALIZER;
static struct script *slots[SLOTS]; /* slots_mu: scripts that have begun to wait */
static atomic_uint produced, ended, begun;
static _Atomic uint64_t clock_ahead_ns;

uint64_t __real_api_coarse_ns(void);
uint64_t __wrap_api_coarse_ns(void);
enum MHD_Result __wrap_api_version(struct api_request *request);

uint64_t __wrap_api_coarse_ns(void)
{
    return __real_api_coarse_ns() + atomic_load(&clock_ahead_ns);
}

static void add_line(struct api_text *piece, unsigned number)
{
    char line[LINE + 1];
    snprintf(line, sizeof line, "%099u\n", number);
    api_text_add(piece, line, LINE);
}

static enum api_stream_next produce_events(struct script *script, struct api_stream *stream,
                                           struct api_text *piece)
{
    pthread_mutex_lock(&slots_mu);
    script->stream = stream;
    pthread_mutex_unlock(&slots_mu);
    unsigned published = atomic_load(&script->published);
    if (published != script->told)
        api_text_addf(piece, "event %u\n", published);
    script->told = published;
    if (!api_stream_is_ending(stream))
        return API_STREAM_WAIT;
    api_text_adds(piece, "good-bye\n");
    return API_STREAM_END;
}

static enum api_stream_next produce(void *state, struct api_stream *stream, struct api_text *piece)
{
    struct script *script = state;
    atomic_fetch_add(&produced, 1);
    switch (script->kind) {
    case EVENTS_ONLY:
        return produce_events(script, stream, piece);
    case CUT:
        api_text_adds(piece, "so far\n");
        return API_STREAM_CUT;
    case FAILS:
        piece->has_failed = true;
        return API_STREAM_END;
    case IDLES:
        if (script->idle-- > 0)
            return API_STREAM_MORE;
        api_text_adds(piece, "at last\n");
        return API_STREAM_END;
    case LINES:
    case ENDLESS:
        break;
    }
    while (piece->size < API_STREAM_PIECE && script->left > 0)
        add_line(piece, script->left--);
    if (script->kind == ENDLESS)
        script->left = UINT32_MAX;
    return script->left == 0 ? API_STREAM_END : API_STREAM_MORE;
}

static void end(void *state)
{
    struct script *script = state;
    pthread_mutex_lock(&slots_mu);
    if (script->slot >= 0)
        slots[script->slot] = NULL;
    pthread_mutex_unlock(&slots_mu);
    free(script);
    atomic_fetch_add(&ended, 1);
}

static const struct api_stream_source source = {produce, end};

static int take_slot(struct script *script)
{
    int slot = -1;
    pthread_mutex_lock(&slots_mu);
    for (int i = 0; i < SLOTS && slot < 0; i++)
        slot = slots[i] == NULL ? i : -1;
    if (slot >= 0)
        slots[slot] = script;
    pthread_mutex_unlock(&slots_mu);
    return slot;
}

enum MHD_Result __wrap_api_version(struct api_request *request)
{
    struct script *script = calloc(1, sizeof *script);
    assert_non_null(script);
    const char *what = request->id;
    script->slot = -1;
    if (sscanf(what, "lines-%u", &script->left) == 1 || sscanf(what, "gzip-%u", &script->left) == 1)
        script->kind = LINES;
    else if (strstr(what, "cut") != NULL)
        script->kind = CUT;
    else if (strstr(what, "fails") != NULL)
        script->kind = FAILS;
    else if (strstr(what, "endless") != NULL)
        script->kind = ENDLESS;
    else if (sscanf(what, "idles-%u", &script->idle) == 1)
        script->kind = IDLES;
    else
        script->kind = EVENTS_ONLY;
    if (script->kind == ENDLESS)
        script->left = UINT32_MAX;
    if (script->kind == EVENTS_ONLY)
        script->slot = take_slot(script);
    atomic_fetch_add(&begun, 1);
    unsigned failing = 0;
    if (sscanf(what, "no-memory-%u", &failing) == 1)
        alloc_fail_at(failing, false);
    struct api_answer answer =
        api_answer_stream(request, "text/plain", strstr(what, "gzip") != NULL, &source, script);
    alloc_fail_at(0, false);
    return api_send(request, &answer);
}

/* Count one more event in every script that waits, and wake it. */
static void publish(void)
{
    pthread_mutex_lock(&slots_mu);
    for (int i = 0; i < SLOTS; i++) {
        if (slots[i] == NULL)
            continue;
        atomic_fetch_add(&slots[i]->published, 1);
        if (slots[i]->stream != NULL)
            api_stream_wake(slots[i]->stream);
    }
    pthread_mutex_unlock(&slots_mu);
}

/* ---- A client ---- */

struct answer {
    char head[1024];
    uint8_t *body;
    size_t size, room;
    bool is_whole; /* the last chunk has come */
    bool is_closed;
};

static int dial(int receive_room)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    if (receive_room != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_room, sizeof receive_room);
    struct timeval patience = {.tv_sec = SECONDS_MAX};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    address.sin_port = htons((uint16_t)strtoul(strrchr(server.url, ':') + 1, NULL, 10));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void ask(int fd, const char *method, const char *path, const char *what, const char *version)
{
    char text[256];
    int size =
        snprintf(text, sizeof text, "%s %s HTTP/%s\r\nHost: localhost\r\nX-Request-Id: %s\r\n\r\n",
                 method, path, version, what);
    assert_int_equal(send(fd, text, (size_t)size, MSG_NOSIGNAL), size);
}

/* The next byte, or -1 at the end of the connection. Slow and simple; bodies are read in bulk. */
static int next_byte(int fd)
{
    uint8_t byte;
    ssize_t got = recv(fd, &byte, 1, 0);
    if (got == 1)
        return byte;
    if (got < 0 && errno != ECONNRESET)
        fail_msg("nothing came for %d seconds", SECONDS_MAX);
    return -1;
}

static void read_line(int fd, char *line, size_t room)
{
    size_t size = 0;
    for (int byte = next_byte(fd); byte >= 0 && byte != '\n'; byte = next_byte(fd)) {
        if (byte != '\r' && size + 1 < room)
            line[size++] = (char)byte;
    }
    line[size] = '\0';
}

static void read_head(int fd, struct answer *answer)
{
    char line[256];
    size_t used = 0;
    memset(answer, 0, sizeof *answer);
    do {
        read_line(fd, line, sizeof line);
        used += (size_t)snprintf(answer->head + used, sizeof answer->head - used, "%s\n", line);
        assert_true(used < sizeof answer->head);
    } while (line[0] != '\0');
}

/* Add `size` bytes of the connection to the body; false at its end. */
static bool read_some(int fd, struct answer *answer, size_t size)
{
    if (answer->size + size > answer->room) {
        answer->room = answer->size * 2 + size;
        answer->body = realloc(answer->body, answer->room);
        assert_non_null(answer->body);
    }
    while (size > 0) {
        ssize_t got = recv(fd, answer->body + answer->size, size, 0);
        if (got <= 0)
            return false;
        answer->size += (size_t)got;
        size -= (size_t)got;
    }
    return true;
}

/* The next chunk; false when it was the last one or the connection is closed. */
static bool read_chunk(int fd, struct answer *answer)
{
    char line[32];
    read_line(fd, line, sizeof line);
    if (line[0] == '\0') {
        answer->is_closed = true;
        return false;
    }
    size_t size = strtoul(line, NULL, 16);
    answer->is_whole = size == 0;
    if (size > 0 && !read_some(fd, answer, size))
        return false;
    read_line(fd, line, sizeof line);
    return size > 0;
}

static struct answer read_answer(int fd)
{
    struct answer answer;
    read_head(fd, &answer);
    while (read_chunk(fd, &answer))
        ;
    return answer;
}

static void assert_lines(const uint8_t *body, size_t size, unsigned count)
{
    assert_int_equal(size, (size_t)count * LINE);
    for (unsigned i = 0; i < count; i++) {
        char line[LINE + 1];
        snprintf(line, sizeof line, "%099u\n", count - i);
        assert_memory_equal(body + (size_t)i * LINE, line, LINE);
    }
}

static void wait_for(atomic_uint *counter, unsigned value)
{
    uint64_t deadline = api_monotonic_ns() + SECONDS_MAX * UINT64_C(1000000000);
    while (atomic_load(counter) != value) {
        if (api_monotonic_ns() > deadline)
            fail_msg("%u instead of %u", atomic_load(counter), value);
        sched_yield();
    }
}

/* Close the connections of streams that wait. That is noticed when something is written to them. */
static void hang_up(const int *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        close(fds[i]);
    while (atomic_load(&ended) != atomic_load(&begun)) {
        publish();
        sched_yield();
    }
}

/* A stream is over some time after its client has seen the end. */
static unsigned ended_by_now(void)
{
    wait_for(&ended, atomic_load(&begun));
    return atomic_load(&ended);
}

/* Whether the connection serves a further request. */
static void assert_is_kept(int fd)
{
    struct answer answer;
    ask(fd, "HEAD", "/healthz", "next", "1.1");
    read_head(fd, &answer);
    assert_non_null(strstr(answer.head, "HTTP/1.1 200"));
    assert_non_null(strstr(answer.head, "X-Request-Id: next"));
}

/* ---- Tests ---- */

static void a_long_answer_comes_whole_and_the_connection_is_kept(void **state)
{
    (void)state;
    static const unsigned counts[] = {1, 654, 655, 656, 20000};
    int fd = dial(0);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        char what[32];
        snprintf(what, sizeof what, "lines-%u", counts[i]);
        ask(fd, "GET", "/version", what, "1.1");
        struct answer answer = read_answer(fd);
        assert_non_null(strstr(answer.head, "HTTP/1.1 200"));
        assert_non_null(strstr(answer.head, "Transfer-Encoding: chunked"));
        assert_non_null(strstr(answer.head, "Content-Type: text/plain"));
        assert_true(answer.is_whole);
        assert_lines(answer.body, answer.size, counts[i]);
        free(answer.body);
    }
    assert_is_kept(fd);
    close(fd);
}

static void an_old_client_is_told_the_end_by_closing(void **state)
{
    (void)state;
    struct answer answer;
    int fd = dial(0);
    ask(fd, "GET", "/version", "lines-20000", "1.0");
    read_head(fd, &answer);
    assert_null(strstr(answer.head, "chunked"));
    while (read_some(fd, &answer, 1))
        if (!read_some(fd, &answer, LINE - 1))
            fail_msg("half a line");
    assert_lines(answer.body, answer.size, 20000);
    free(answer.body);
    close(fd);
}

static void a_head_request_produces_nothing_and_no_chunk(void **state)
{
    (void)state;
    struct answer answer;
    unsigned before = atomic_load(&produced), ends = ended_by_now();
    int fd = dial(0);
    ask(fd, "HEAD", "/version", "lines-5", "1.1");
    read_head(fd, &answer);
    assert_non_null(strstr(answer.head, "HTTP/1.1 200"));
    assert_non_null(strstr(answer.head, "Content-Type: text/plain"));
    assert_null(strstr(answer.head, "Content-Length"));
    assert_int_equal(next_byte(fd), -1);
    close(fd);
    wait_for(&ended, ends + 1);
    assert_int_equal(atomic_load(&produced), before);
}

static void what_cannot_be_completed_has_no_last_chunk(void **state)
{
    (void)state;
    int fd = dial(0);
    ask(fd, "GET", "/version", "cut", "1.1");
    struct answer answer = read_answer(fd);
    assert_int_equal(answer.size, strlen("so far\n"));
    assert_false(answer.is_whole);
    assert_true(answer.is_closed);
    free(answer.body);
    close(fd);
    fd = dial(0);
    ask(fd, "GET", "/version", "fails", "1.1");
    answer = read_answer(fd);
    assert_int_equal(answer.size, 0);
    assert_false(answer.is_whole);
    close(fd);
}

static void a_producer_with_nothing_yet_is_called_again(void **state)
{
    (void)state;
    int fd = dial(0);
    ask(fd, "GET", "/version", "idles-1000", "1.1");
    struct answer answer = read_answer(fd);
    assert_true(answer.is_whole);
    assert_int_equal(answer.size, strlen("at last\n"));
    free(answer.body);
    close(fd);
}

/* Bytes of gzip that are not ended yet show all that was flushed. */
static size_t unpack(const struct answer *answer, uint8_t *room, size_t size, bool *is_ended)
{
    z_stream gzip = {.next_in = answer->body, .avail_in = (uInt)answer->size};
    gzip.next_out = room;
    gzip.avail_out = (uInt)size;
    assert_int_equal(inflateInit2(&gzip, 15 + 16), Z_OK);
    int result = inflate(&gzip, Z_SYNC_FLUSH);
    *is_ended = result == Z_STREAM_END;
    assert_true(result == Z_OK || result == Z_STREAM_END);
    inflateEnd(&gzip);
    return size - gzip.avail_out;
}

static void gzip_packs_all_of_it_and_holds_no_event_back(void **state)
{
    (void)state;
    static uint8_t room[3000 * LINE];
    bool is_ended;
    int fd = dial(0);
    ask(fd, "GET", "/version", "gzip-3000", "1.1");
    struct answer answer = read_answer(fd);
    assert_non_null(strstr(answer.head, "Content-Encoding: gzip"));
    assert_true(answer.is_whole && answer.size < sizeof room / 10);
    assert_lines(room, unpack(&answer, room, sizeof room, &is_ended), 3000);
    assert_true(is_ended);
    free(answer.body);

    unsigned before = atomic_load(&produced);
    ask(fd, "GET", "/version", "gzip-events", "1.1");
    read_head(fd, &answer);
    wait_for(&produced, before + 1);
    publish();
    /* The header of gzip comes first, as there is a flush before each wait. */
    size_t size = 0;
    while (size == 0 && read_chunk(fd, &answer))
        size = unpack(&answer, room, sizeof room, &is_ended);
    assert_int_equal(size, strlen("event 1\n"));
    assert_memory_equal(room, "event 1\n", size);
    assert_false(is_ended);
    free(answer.body);
    hang_up(&fd, 1);
}

static atomic_int publishers_left;

static void *publish_all(void *argument)
{
    (void)argument;
    for (int i = 0; i < EVENTS; i++) {
        publish();
        if (i % 3 == 0)
            sched_yield();
    }
    atomic_fetch_sub(&publishers_left, 1);
    return NULL;
}

/* The last number that the connection has told. */
static unsigned last_event(int fd, unsigned wanted)
{
    struct answer answer;
    unsigned last = 0;
    read_head(fd, &answer);
    while (last != wanted && read_chunk(fd, &answer)) {
        /* Each chunk is one line. */
        char line[32] = "";
        assert_true(answer.size < sizeof line);
        memcpy(line, answer.body, answer.size);
        assert_int_equal(sscanf(line, "event %u\n", &last), 1);
        answer.size = 0;
    }
    free(answer.body);
    return last;
}

static void no_wake_is_lost_and_none_comes_twice(void **state)
{
    (void)state;
    int fds[SLOTS];
    pthread_t threads[PUBLISHERS];
    unsigned begins = ended_by_now();
    for (int i = 0; i < SLOTS; i++) {
        fds[i] = dial(0);
        ask(fds[i], "GET", "/version", "events", "1.1");
    }
    wait_for(&begun, begins + SLOTS);
    atomic_store(&publishers_left, PUBLISHERS);
    for (int i = 0; i < PUBLISHERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, publish_all, NULL), 0);
    for (int i = 0; i < SLOTS; i++)
        assert_int_equal(last_event(fds[i], PUBLISHERS * EVENTS), PUBLISHERS * EVENTS);
    for (int i = 0; i < PUBLISHERS; i++)
        pthread_join(threads[i], NULL);
    hang_up(fds, SLOTS);
}

static void waiting_counts_as_in_flight_and_has_no_latency(void **state)
{
    (void)state;
    struct answer answer;
    (void)ended_by_now();
    uint64_t in_flight = atomic_load(&server.metrics.in_flight);
    unsigned before = atomic_load(&produced);
    uint64_t latencies = 0, now = 0;
    for (int i = 0; i < API_LATENCY_BUCKETS; i++)
        latencies += atomic_load(&server.metrics.latency[i]);
    int fd = dial(0);
    ask(fd, "GET", "/version", "events", "1.1");
    read_head(fd, &answer);
    wait_for(&produced, before + 1);
    assert_int_equal(atomic_load(&server.metrics.in_flight), in_flight + 1);
    hang_up(&fd, 1);
    for (int i = 0; i < API_LATENCY_BUCKETS; i++)
        now += atomic_load(&server.metrics.latency[i]);
    assert_int_equal(now, latencies);
}

static void without_memory_it_is_a_503_and_the_state_is_freed(void **state)
{
    (void)state;
    static const char *const cases[] = {"no-memory-1", "no-memory-1-gzip", "no-memory-2-gzip"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct answer answer;
        unsigned ends = ended_by_now();
        int fd = dial(0);
        ask(fd, "GET", "/version", cases[i], "1.1");
        read_head(fd, &answer);
        assert_non_null(strstr(answer.head, "HTTP/1.1 503"));
        wait_for(&ended, ends + 1);
        close(fd);
    }
}

/* A client that reads nothing: little is produced for it, and after some time it is cut off; one
 * that reads slowly but steadily is not. */
static void a_client_that_does_not_read_is_cut_off(void **state)
{
    (void)state;
    unsigned before = atomic_load(&produced), ends = ended_by_now(), seen;
    int fd = dial(4096);
    ask(fd, "GET", "/version", "endless", "1.1");
    /* Until the sockets between the two are full. */
    do {
        seen = atomic_load(&produced);
        poll(NULL, 0, 100);
    } while (seen == before || seen != atomic_load(&produced));
    assert_true(seen - before < 200);
    /* The watcher looks at it at least once before the clock jumps. */
    poll(NULL, 0, 2100);
    atomic_fetch_add(&clock_ahead_ns, UINT64_C(10) * 1000000000);
    poll(NULL, 0, 1500);
    assert_int_equal(atomic_load(&ended), ends);
    atomic_fetch_add(&clock_ahead_ns, UINT64_C(30) * 1000000000);
    wait_for(&ended, ends + 1);
    close(fd);
}

/* The last test: the server is drained in it. */
static void draining_ends_streams_and_cuts_who_does_not_read(void **state)
{
    (void)state;
    unsigned before = atomic_load(&produced), ends = ended_by_now();
    int waiting = dial(0), stuck = dial(4096);
    struct answer answer;
    ask(waiting, "GET", "/version", "events", "1.1");
    read_head(waiting, &answer);
    wait_for(&produced, before + 1);
    ask(stuck, "GET", "/version", "endless", "1.1");
    while (atomic_load(&produced) < before + 5)
        sched_yield();
    uint64_t began = api_monotonic_ns();
    assert_true(api_server_drain(&server, 2000));
    assert_true(api_monotonic_ns() - began < UINT64_C(2000) * 1000000);
    while (read_chunk(waiting, &answer))
        ;
    assert_true(answer.is_whole);
    assert_int_equal(answer.size, strlen("good-bye\n"));
    assert_memory_equal(answer.body, "good-bye\n", answer.size);
    free(answer.body);
    api_server_stop(&server);
    assert_int_equal(atomic_load(&ended), ends + 2);
    assert_null(server.streams);
    close(waiting);
    close(stuck);
}

static int start(void **state)
{
    static struct config_error error;
    enum config_action action;
    char *arguments[] = {(char *)"stormd", (char *)"--listen=127.0.0.1:0", NULL};
    char *environment[] = {NULL};
    char problem[256];
    (void)state;
    if (config_parse(2, arguments, environment, &config, &action, &error) != 0)
        return -1;
    api_log_init(STORM_LOG_ERROR, false);
    return api_server_start(&server, &config, problem, sizeof problem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_answer_comes_whole_and_the_connection_is_kept),
        cmocka_unit_test(an_old_client_is_told_the_end_by_closing),
        cmocka_unit_test(a_head_request_produces_nothing_and_no_chunk),
        cmocka_unit_test(what_cannot_be_completed_has_no_last_chunk),
        cmocka_unit_test(a_producer_with_nothing_yet_is_called_again),
        cmocka_unit_test(gzip_packs_all_of_it_and_holds_no_event_back),
        cmocka_unit_test(no_wake_is_lost_and_none_comes_twice),
        cmocka_unit_test(waiting_counts_as_in_flight_and_has_no_latency),
        cmocka_unit_test(without_memory_it_is_a_503_and_the_state_is_freed),
        cmocka_unit_test(a_client_that_does_not_read_is_cut_off),
        cmocka_unit_test(draining_ends_streams_and_cuts_who_does_not_read),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
