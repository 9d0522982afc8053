/* The ring of failures, the log behind it, and the words of every status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "util/errors.h"

struct lines {
    _Atomic unsigned count;
    enum storm_log_level level;
    char last[SDB_ERROR_TEXT];
};

static void take_line(void *ctx, enum storm_log_level level, const char *line)
{
    struct lines *lines = ctx;
    atomic_fetch_add(&lines->count, 1);
    lines->level = level;
    snprintf(lines->last, sizeof lines->last, "%s", line);
}

static void the_newest_sentence_is_told(void **state)
{
    (void)state;
    struct sdb_errors errors;
    char text[SDB_ERROR_TEXT] = "x";
    sdb_errors_init(&errors, NULL, NULL);
    sdb_errors_newest(&errors, text, sizeof text);
    assert_string_equal(text, "");
    for (int i = 0; i < 3 * SDB_ERRORS_KEPT + 1; i++) {
        char expected[32];
        snprintf(expected, sizeof expected, "failure %d", i);
        assert_int_equal(sdb_fail(&errors, STORM_IO, "failure %d", i), STORM_IO);
        sdb_errors_newest(&errors, text, sizeof text);
        assert_string_equal(text, expected);
    }
    /* The ones before are still in the ring. */
    assert_string_equal(errors.text[(3 * SDB_ERRORS_KEPT - 1) % SDB_ERRORS_KEPT], "failure 47");
    sdb_errors_fini(&errors);
}

static void corruption_is_counted_apart(void **state)
{
    (void)state;
    struct sdb_errors errors;
    uint64_t total = 9;
    uint64_t corruptions = 9;
    sdb_errors_init(&errors, NULL, NULL);
    sdb_errors_count(&errors, &total, &corruptions);
    assert_true(total == 0 && corruptions == 0);
    sdb_fail(&errors, STORM_CORRUPT, "bad block");
    sdb_fail(&errors, STORM_IO, "bad disk");
    sdb_fail(&errors, STORM_CORRUPT, "bad block");
    sdb_errors_count(&errors, &total, &corruptions);
    assert_true(total == 3 && corruptions == 2);
    sdb_errors_fini(&errors);
}

static void long_sentences_are_cut_and_terminated(void **state)
{
    (void)state;
    struct sdb_errors errors;
    char text[SDB_ERROR_TEXT];
    char small[5] = "zzzz";
    sdb_errors_init(&errors, NULL, NULL);
    sdb_fail(&errors, STORM_IO, "%01000d", 7);
    sdb_errors_newest(&errors, text, sizeof text);
    assert_int_equal(strlen(text), SDB_ERROR_TEXT - 1);
    sdb_errors_newest(&errors, small, sizeof small);
    assert_string_equal(small, "0000");
    sdb_errors_newest(&errors, small, 1);
    assert_string_equal(small, "");
    small[0] = 'q';
    sdb_errors_newest(&errors, small, 0);
    assert_int_equal(small[0], 'q');
    sdb_errors_fini(&errors);
}

static void failures_and_lines_reach_the_log(void **state)
{
    (void)state;
    struct lines lines = {.level = STORM_LOG_DEBUG};
    struct sdb_errors errors;
    sdb_errors_init(&errors, take_line, &lines);
    sdb_fail(&errors, STORM_NO_SPACE, "disk %s is full", "sda");
    assert_int_equal(atomic_load(&lines.count), 1);
    assert_int_equal(lines.level, STORM_LOG_ERROR);
    assert_string_equal(lines.last, "disk sda is full");
    sdb_log(&errors, STORM_LOG_INFO, "recovered %d records", 5);
    assert_int_equal(atomic_load(&lines.count), 2);
    assert_int_equal(lines.level, STORM_LOG_INFO);
    assert_string_equal(lines.last, "recovered 5 records");
    /* A line of log is not a failure. */
    uint64_t total;
    uint64_t corruptions;
    sdb_errors_count(&errors, &total, &corruptions);
    assert_true(total == 1);
    sdb_errors_fini(&errors);
}

static void nobody_listening_is_fine(void **state)
{
    (void)state;
    struct sdb_errors errors;
    assert_int_equal(sdb_fail(NULL, STORM_CORRUPT, "lost"), STORM_CORRUPT);
    sdb_log(NULL, STORM_LOG_WARN, "lost");
    sdb_errors_init(&errors, NULL, NULL);
    sdb_log(&errors, STORM_LOG_WARN, "lost");
    sdb_errors_fini(&errors);
}

enum { THREADS = 4, FAILURES = 2000 };

static void *fail_often(void *arg)
{
    struct sdb_errors *errors = arg;
    char text[SDB_ERROR_TEXT];
    for (int i = 0; i < FAILURES; i++) {
        sdb_fail(errors, i % 2 == 0 ? STORM_CORRUPT : STORM_IO, "%0200d", i % 10);
        sdb_errors_newest(errors, text, sizeof text);
        /* Never a mixture of two sentences: 199 zeroes and a digit. */
        if (strlen(text) != 200 || strspn(text, "0") < 199)
            return errors;
    }
    return NULL;
}

static void threads_lose_no_failure(void **state)
{
    (void)state;
    struct sdb_errors errors;
    pthread_t threads[THREADS];
    uint64_t total;
    uint64_t corruptions;
    sdb_errors_init(&errors, NULL, NULL);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fail_often, &errors), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *torn;
        pthread_join(threads[i], &torn);
        assert_null(torn);
    }
    sdb_errors_count(&errors, &total, &corruptions);
    assert_true(total == THREADS * FAILURES);
    assert_true(corruptions == THREADS * FAILURES / 2);
    sdb_errors_fini(&errors);
}

static void every_status_has_words_of_its_own(void **state)
{
    (void)state;
    for (storm_status a = STORM_TIMED_OUT; a <= STORM_MORE; a++) {
        const char *words = storm_status_text(a);
        assert_true(strlen(words) >= 2 && strlen(words) < 40);
        assert_string_not_equal(words, "unknown status");
        for (const char *at = words; *at != '\0'; at++)
            assert_false(isupper((unsigned char)*at));
        for (storm_status b = STORM_TIMED_OUT; b < a; b++)
            assert_string_not_equal(words, storm_status_text(b));
    }
    assert_string_equal(storm_status_text(STORM_NOT_FOUND), "not found");
    assert_string_equal(storm_status_text(12345), "unknown status");
    assert_string_equal(storm_status_text(-12345), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_sentence_is_told),
        cmocka_unit_test(corruption_is_counted_apart),
        cmocka_unit_test(long_sentences_are_cut_and_terminated),
        cmocka_unit_test(failures_and_lines_reach_the_log),
        cmocka_unit_test(nobody_listening_is_fine),
        cmocka_unit_test(threads_lose_no_failure),
        cmocka_unit_test(every_status_has_words_of_its_own),
    };
    return cmocka_run_group_tests_name("errors", tests, NULL, NULL);
}
