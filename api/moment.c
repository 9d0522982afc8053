/*
 * Calendar arithmetic without the C library's calendar, whose strftime takes a lock for the time
 * zone and follows the locale. Days are counted in years that begin in March, so that the leap day
 * is the last of a year; an era is 400 years of 146,097 days.
 */
#include "moment.h"

#include <string.h>
#include <time.h>

#include "text.h"

#define DAY_MS 86400000U

uint64_t api_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec < 0 ? 0 : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t read_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t api_monotonic_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t api_coarse_ns(void)
{
    return read_ns(CLOCK_MONOTONIC_COARSE);
}

struct date {
    unsigned year, month, day; /* month and day from 1 */
};

/* Days from 1970-01-01 to a date; between them lie 719,468 days from 0000-03-01. */
static uint64_t days_from_date(struct date date)
{
    unsigned year = date.month <= 2 ? date.year - 1 : date.year;
    unsigned era = year / 400;
    unsigned year_of_era = year % 400;
    unsigned month = (date.month + 9) % 12; /* March is 0 */
    unsigned day_of_year = (153 * month + 2) / 5 + date.day - 1;
    unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return (uint64_t)era * 146097 + day_of_era - 719468;
}

static struct date date_from_days(uint64_t days)
{
    uint64_t shifted = days + 719468;
    unsigned era = (unsigned)(shifted / 146097);
    unsigned day_of_era = (unsigned)(shifted % 146097);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month = (5 * day_of_year + 2) / 153;
    struct date date = {
        .year = year_of_era + era * 400,
        .month = month < 10 ? month + 3 : month - 9,
        .day = day_of_year - (153 * month + 2) / 5 + 1,
    };
    if (date.month <= 2)
        date.year++;
    return date;
}

/* Write `number` in exactly `width` digits; returns where the next character goes. */
static char *put_digits(char *at, unsigned number, unsigned width)
{
    for (unsigned i = width; i > 0; i--) {
        at[i - 1] = (char)('0' + number % 10);
        number /= 10;
    }
    return at + width;
}

static char *put_text(char *at, const char *text, size_t size)
{
    memcpy(at, text, size);
    return at + size;
}

static char *put_clock(char *at, unsigned seconds)
{
    at = put_digits(at, seconds / 3600, 2);
    *at++ = ':';
    at = put_digits(at, seconds / 60 % 60, 2);
    *at++ = ':';
    return put_digits(at, seconds % 60, 2);
}

char *api_format_rfc3339(char text[API_RFC3339_MAX], uint64_t ms)
{
    if (ms > API_LAST_MS)
        ms = API_LAST_MS;
    struct date date = date_from_days(ms / DAY_MS);
    char *at = put_digits(text, date.year, 4);
    *at++ = '-';
    at = put_digits(at, date.month, 2);
    *at++ = '-';
    at = put_digits(at, date.day, 2);
    *at++ = 'T';
    at = put_clock(at, (unsigned)(ms % DAY_MS / 1000));
    *at++ = '.';
    at = put_digits(at, (unsigned)(ms % 1000), 3);
    *at++ = 'Z';
    *at = '\0';
    return text;
}

void api_text_add_time(struct api_text *text, const char *name, uint64_t ms)
{
    char time[API_RFC3339_MAX];
    if (ms == 0)
        api_text_addf(text, ",\"%s\":null", name);
    else
        api_text_addf(text, ",\"%s\":\"%s\"", name, api_format_rfc3339(time, ms));
}

char *api_format_http_date(char text[API_HTTP_DATE_MAX], uint64_t ms)
{
    static const char days[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    if (ms > API_LAST_MS)
        ms = API_LAST_MS;
    uint64_t day = ms / DAY_MS;
    struct date date = date_from_days(day);
    char *at = put_text(text, days + day % 7 * 3, 3);
    at = put_text(at, ", ", 2);
    at = put_digits(at, date.day, 2);
    *at++ = ' ';
    at = put_text(at, months + (size_t)(date.month - 1) * 3, 3);
    *at++ = ' ';
    at = put_digits(at, date.year, 4);
    *at++ = ' ';
    at = put_clock(at, (unsigned)(ms % DAY_MS / 1000));
    put_text(at, " GMT", sizeof " GMT");
    return text;
}

/* Take `width` digits off the front, and then `mark` unless it is 0. */
static bool take_digits(struct storm_slice *text, size_t width, char mark, unsigned *number)
{
    uint64_t value;
    if (text->size < width || !api_parse_number(storm_bytes(text->data, width), &value))
        return false;
    *number = (unsigned)value;
    *text = storm_bytes(text->data + width, text->size - width);
    if (mark == '\0')
        return true;
    bool is_mark =
        text->size > 0 && (text->data[0] == (uint8_t)mark || (mark == 'T' && text->data[0] == 't'));
    if (!is_mark)
        return false;
    *text = storm_bytes(text->data + 1, text->size - 1);
    return true;
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return (unsigned)days[month - 1] + (month == 2 && is_leap ? 1U : 0U);
}

/* ".5" is 500 ms; digits past the third are cut. */
static bool take_fraction(struct storm_slice *text, unsigned *ms)
{
    *ms = 0;
    if (text->size == 0 || text->data[0] != '.')
        return true;
    size_t at = 1;
    unsigned scale = 100;
    for (; at < text->size && text->data[at] >= '0' && text->data[at] <= '9'; at++) {
        *ms += (unsigned)(text->data[at] - '0') * scale;
        scale /= 10;
    }
    bool has_digits = at > 1;
    *text = storm_bytes(text->data + at, text->size - at);
    return has_digits;
}

/* The offset in minutes east of Greenwich, which must be all that is left. */
static bool take_offset(struct storm_slice text, int *minutes)
{
    *minutes = 0;
    if (text.size == 1 && (text.data[0] == 'Z' || text.data[0] == 'z'))
        return true;
    if (text.size != 6 || (text.data[0] != '+' && text.data[0] != '-' && text.data[0] != ' '))
        return false;
    bool is_west = text.data[0] == '-';
    struct storm_slice rest = storm_bytes(text.data + 1, 5);
    unsigned hours, rest_minutes;
    if (rest.data[2] != ':' || !take_digits(&rest, 2, ':', &hours) ||
        !take_digits(&rest, 2, '\0', &rest_minutes) || hours > 23 || rest_minutes > 59)
        return false;
    *minutes = (int)(hours * 60 + rest_minutes) * (is_west ? -1 : 1);
    return true;
}

bool api_parse_rfc3339(struct storm_slice text, uint64_t *ms)
{
    *ms = 0;
    struct date date;
    unsigned hour, minute, second, fraction;
    int offset;
    if (!take_digits(&text, 4, '-', &date.year) || !take_digits(&text, 2, '-', &date.month) ||
        !take_digits(&text, 2, 'T', &date.day) || !take_digits(&text, 2, ':', &hour) ||
        !take_digits(&text, 2, ':', &minute) || !take_digits(&text, 2, '\0', &second) ||
        !take_fraction(&text, &fraction) || !take_offset(text, &offset))
        return false;
    if (date.year < 1970 || date.month < 1 || date.month > 12 || date.day < 1 ||
        date.day > days_in_month(date.year, date.month) || hour > 23 || minute > 59 || second > 60)
        return false;
    int64_t seconds = (int64_t)days_from_date(date) * 86400 + (int64_t)hour * 3600 +
                      (int64_t)minute * 60 + second - (int64_t)offset * 60;
    if (seconds < 0)
        return false;
    *ms = (uint64_t)seconds * 1000 + fraction;
    return true;
}

bool api_parse_duration(struct storm_slice text, uint64_t *ms)
{
    *ms = 0;
    if (text.size < 2)
        return false;
    uint64_t unit_seconds;
    switch (text.data[text.size - 1]) {
    case 's':
        unit_seconds = 1;
        break;
    case 'm':
        unit_seconds = 60;
        break;
    case 'h':
        unit_seconds = 3600;
        break;
    case 'd':
        unit_seconds = 86400;
        break;
    default:
        return false;
    }
    const uint64_t century_seconds = UINT64_C(36525) * 86400;
    uint64_t count;
    if (!api_parse_number(storm_bytes(text.data, text.size - 1), &count) || count == 0 ||
        count > century_seconds / unit_seconds)
        return false;
    *ms = count * unit_seconds * 1000;
    return true;
}
