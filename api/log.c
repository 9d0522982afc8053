/* Log lines. See log.h. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "moment.h"
#include "text.h"

enum { LINE_MAX_BYTES = 4096 };

/* const after api_log_init */
static enum storm_log_level least_level = STORM_LOG_INFO;
static bool is_json;

void api_log_init(enum storm_log_level least, bool as_json)
{
    least_level = least;
    is_json = as_json;
}

void api_log_line(void *ctx, enum storm_log_level level, const char *line)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    (void)ctx;
    if (level > least_level)
        return;
    struct api_text text;
    api_text_init(&text, LINE_MAX_BYTES);
    char time[API_RFC3339_MAX];
    api_format_rfc3339(time, api_now_ms());
    if (is_json) {
        api_text_addf(&text, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":", time, names[level]);
        api_text_add_json(&text, storm_text(line));
        api_text_adds(&text, "}\n");
    } else {
        api_text_addf(&text, "%s %-5s ", time, names[level]);
        api_text_adds(&text, line);
        api_text_adds(&text, "\n");
    }
    if (!text.has_failed) {
        /* When standard error is gone there is nobody left to tell. */
        ssize_t written = write(STDERR_FILENO, text.data, text.size);
        (void)written;
    }
    api_text_fini(&text);
}

void api_log(enum storm_log_level level, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    api_log_line(NULL, level, line);
}
