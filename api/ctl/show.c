/*
 * Numbers, JSON, progress, and standard output to its end. See ctl.h.
 *
 * Standard output goes through stdio with SIGPIPE ignored (main.c), so that a reader that goes away
 * cannot end a command in the middle of a change to the store. The first failure is kept here,
 * since errno does not live until the end.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "moment.h"

/* errno of the first failed write to standard output; 0 = none */
static int output_errno;

void ctl_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("stormctl: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

char *ctl_count_text(char text[CTL_NUMBER_MAX], uint64_t number)
{
    char digits[CTL_NUMBER_MAX];
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    char *out = text;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = '\0';
    return text;
}

char *ctl_size_text(char text[CTL_NUMBER_MAX], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double size = (double)bytes;
    size_t unit = 0;
    /* What would be shown as 1024.0 is one of the next unit. */
    for (; size >= (unit == 0 ? 1024 : 1023.95) && unit < 6; unit++)
        size /= 1024;
    snprintf(text, CTL_NUMBER_MAX, unit == 0 ? "%.0f %s" : "%.1f %s", size, units[unit]);
    return text;
}

const char *ctl_plural(uint64_t number)
{
    return number == 1 ? "" : "s";
}

json_t *ctl_json_number(uint64_t number)
{
    /* JSON has no bound, json_int_t has; no number of ours comes near it. */
    return json_integer(number > INT64_MAX ? INT64_MAX : (json_int_t)number);
}

json_t *ctl_json_text(const char *text)
{
    char copy[4096];
    json_t *string = json_string(text);
    if (string != NULL)
        return string;
    snprintf(copy, sizeof copy, "%s", text);
    for (char *at = copy; *at != '\0'; at++) {
        if ((unsigned char)*at >= 0x80)
            *at = '?';
    }
    return json_string(copy);
}

static int put_json_part(const char *data, size_t size, void *ctx)
{
    (void)ctx;
    return ctl_put(data, size) ? 0 : -1;
}

enum ctl_exit ctl_put_json(json_t *object, enum ctl_exit so_far)
{
    int failed = -1;
    if (object != NULL)
        failed = json_dump_callback(object, put_json_part, NULL,
                                    JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    json_decref(object);
    if (failed == 0)
        ctl_put("\n", 1);
    /* A failure to write is said at the end. */
    if (failed == 0 || output_errno != 0)
        return so_far;
    ctl_say("out of memory");
    return so_far == CTL_OK ? CTL_FAILED : so_far;
}

/* ---- Progress ---- */

#define REDRAW_NS UINT64_C(200000000)

struct ctl_progress ctl_progress_begin(const char *what, bool is_wanted)
{
    return (struct ctl_progress){
        .what = what,
        .is_wanted = is_wanted && isatty(STDERR_FILENO) == 1,
        /* What is over in a moment needs no progress. */
        .drawn_ns = api_monotonic_ns(),
    };
}

bool ctl_progress_show(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    struct ctl_progress *progress = ctx;
    char done[CTL_NUMBER_MAX], total[CTL_NUMBER_MAX];
    if (!progress->is_wanted || api_monotonic_ns() - progress->drawn_ns < REDRAW_NS)
        return true;
    double percent = total_bytes == 0 ? 100 : 100 * (double)done_bytes / (double)total_bytes;
    /* \033[K clears what an earlier, longer line has left. */
    fprintf(stderr, "\r%s: %3.0f %%, %s of %s\033[K", progress->what, percent > 100 ? 100 : percent,
            ctl_size_text(done, done_bytes), ctl_size_text(total, total_bytes));
    fflush(stderr);
    progress->is_drawn = true;
    progress->drawn_ns = api_monotonic_ns();
    return true;
}

void ctl_progress_clear(struct ctl_progress *progress)
{
    if (progress->is_drawn)
        fputs("\r\033[K", stderr);
    progress->is_drawn = false;
}

/* ---- Standard output ---- */

bool ctl_put(const void *data, size_t size)
{
    if (output_errno == 0 && fwrite(data, 1, size, stdout) != size)
        output_errno = errno;
    return output_errno == 0;
}

enum ctl_exit ctl_put_end(enum ctl_exit so_far)
{
    bool has_failed = fflush(stdout) != 0;
    if (output_errno == 0 && (has_failed || ferror(stdout)))
        output_errno = errno;
    if (output_errno == 0 || output_errno == EPIPE)
        return so_far;
    ctl_say("cannot write to standard output: %s", strerror(output_errno));
    return so_far == CTL_OK ? CTL_FAILED : so_far;
}
