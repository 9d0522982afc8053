/*
 * The table of options, and the values of each kind.
 *
 * options.def is included once more here and becomes config_options[], indexed by enum config_id.
 * A field of storm_config is reached through its offset, so that one function parses, checks and
 * prints any option; its type follows from the kind (see option.h).
 *
 * A text value must be one that a configuration file can hold, whatever source it comes from:
 * no control characters, no blanks at either end, no " #" or " ;" (which begin a comment there).
 * So --print-config is a valid file whatever was given.
 *
 * Numbers are plain decimal digits. Sizes take the suffixes k, m, g, t, with or without "iB", all
 * in powers of 1024. "MB" is refused, because half of its users mean 1,000,000. Nothing depends on
 * the locale as long as nobody calls setlocale(), and stormd does not.
 */
#include "option.h"

#include "suggest.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CONFIG_WORD(id, word) word,
#define OPTION(kind, field, name, fallback, low, high, flags, help)
#define CHOICE(field, name, fallback, help)                                                        \
    static const char *const field##_words[] = {CONFIG_CHOICES_##field(CONFIG_WORD) NULL};         \
    _Static_assert(sizeof(enum config_##field) == sizeof(unsigned),                                \
                   "a choice is read and written as unsigned");
#include "options.def"
#undef OPTION
#undef CHOICE
#undef CONFIG_WORD

#define ZERO_OK  1
#define EMPTY_OK 2
#define OPTION(kind_, field, name_, fallback_, low_, high_, flags, help_)                          \
    [CONFIG_##field] = {.name = (name_),                                                           \
                        .kind = CONFIG_KIND_##kind_,                                               \
                        .offset = offsetof(struct storm_config, field),                            \
                        .fallback = (fallback_),                                                   \
                        .low = UINT64_C(low_),                                                     \
                        .high = UINT64_C(high_),                                                   \
                        .zero_ok = ((flags)&ZERO_OK) != 0,                                         \
                        .empty_ok = ((flags)&EMPTY_OK) != 0,                                       \
                        .help = (help_)},
#define CHOICE(field, name_, fallback_, help_)                                                     \
    [CONFIG_##field] = {.name = (name_),                                                           \
                        .kind = CONFIG_KIND_CHOICE,                                                \
                        .offset = offsetof(struct storm_config, field),                            \
                        .fallback = (fallback_),                                                   \
                        .words = field##_words,                                                    \
                        .help = (help_)},
const struct config_option config_options[CONFIG_OPTION_COUNT] = {
#include "options.def"
};
#undef OPTION
#undef CHOICE

/* ---- Names ----------------------------------------------------------------------------------- */

const char *config_name(enum config_id id)
{
    return config_options[id].name;
}

int config_find(const char *name)
{
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        if (strcmp(config_options[i].name, name) == 0)
            return i;
    }
    return -1;
}

const char *config_near_option(const char *name)
{
    const char *names[CONFIG_OPTION_COUNT];

    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        names[i] = config_options[i].name;
    return config_suggest(name, names, CONFIG_OPTION_COUNT);
}

char *config_variable(enum config_id id, char text[CONFIG_VARIABLE_MAX])
{
    snprintf(text, CONFIG_VARIABLE_MAX, "STORM_%s", config_options[id].name);
    for (char *c = text; *c != '\0'; c++)
        *c = (char)(*c == '.' ? '_' : toupper((unsigned char)*c));
    return text;
}

/* ---- Messages -------------------------------------------------------------------------------- */

void config_fail(struct config_error *error, const char *format, ...)
{
    size_t room = sizeof(error->text) - error->used;
    va_list args;
    int length;

    error->count++;
    va_start(args, format);
    length = vsnprintf(error->text + error->used, room, format, args);
    va_end(args);
    if (length < 0 || (size_t)length + 2 > room) {
        error->text[error->used] = '\0';
        return;
    }
    error->used += (size_t)length;
    error->text[error->used++] = '\n';
    error->text[error->used] = '\0';
}

char *config_quote(const char *value, char text[CONFIG_QUOTE_MAX])
{
    size_t length = strlen(value);
    size_t kept = length < CONFIG_QUOTE_MAX ? length : CONFIG_QUOTE_MAX - 4;

    for (size_t i = 0; i < kept; i++)
        text[i] = iscntrl((unsigned char)value[i]) ? '?' : value[i];
    memcpy(text + kept, kept < length ? "..." : "", kept < length ? 4 : 1);
    return text;
}

char *config_did_you_mean(const char *near_name, char text[CONFIG_QUOTE_MAX])
{
    text[0] = '\0';
    if (near_name != NULL)
        snprintf(text, CONFIG_QUOTE_MAX, "; did you mean %s?", near_name);
    return text;
}

/* Written with the largest unit that divides it: 64MiB, but 1000. */
static void size_text(uint64_t value, char *text, size_t size)
{
    static const char *const units[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;

    while (value != 0 && value % 1024 == 0 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    snprintf(text, size, "%" PRIu64 "%s", value, units[unit]);
}

static void words_text(const char *const *words, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; words[i] != NULL && used < size; i++) {
        const char *glue = i == 0 ? "" : words[i + 1] == NULL ? " or " : ", ";

        used += (size_t)snprintf(text + used, size - used, "%s%s", glue, words[i]);
    }
}

char *config_allowed(enum config_id id, char text[CONFIG_ALLOWED_MAX])
{
    const struct config_option *option = &config_options[id];
    const char *zero = option->zero_ok ? "0, or " : "";
    char low[32], high[32];

    switch (option->kind) {
    case CONFIG_KIND_ADDRESS:
        snprintf(text, CONFIG_ALLOWED_MAX, "HOST:PORT or [IPV6]:PORT, such as 127.0.0.1:8080");
        break;
    case CONFIG_KIND_PATH:
        snprintf(text, CONFIG_ALLOWED_MAX, "a path of at most %d bytes%s", CONFIG_TEXT_MAX - 1,
                 option->empty_ok ? ", or nothing" : "");
        break;
    case CONFIG_KIND_ORIGINS:
        snprintf(text, CONFIG_ALLOWED_MAX,
                 "origins such as https://app.example, with commas between, or *, or nothing");
        break;
    case CONFIG_KIND_HOSTS:
        snprintf(text, CONFIG_ALLOWED_MAX,
                 "names such as db.example, with commas between, or *, or nothing");
        break;
    case CONFIG_KIND_BYTES:
        size_text(option->low, low, sizeof(low));
        size_text(option->high, high, sizeof(high));
        snprintf(text, CONFIG_ALLOWED_MAX,
                 "%s%s to %s, as bytes or with KiB, MiB, GiB or TiB: 4096, 64MiB", zero, low, high);
        break;
    case CONFIG_KIND_COUNT:
        snprintf(text, CONFIG_ALLOWED_MAX, "%s%" PRIu64 " to %" PRIu64, zero, option->low,
                 option->high);
        break;
    case CONFIG_KIND_NUMBER:
        snprintf(text, CONFIG_ALLOWED_MAX, "%s%" PRIu64 " to %" PRIu64 ", with or without decimals",
                 zero, option->low, option->high);
        break;
    case CONFIG_KIND_MILLISECONDS:
        snprintf(text, CONFIG_ALLOWED_MAX,
                 "%s%" PRIu64 " to %" PRIu64 " milliseconds, or with a unit: 250ms, 2s", zero,
                 option->low, option->high);
        break;
    case CONFIG_KIND_SECONDS:
        snprintf(text, CONFIG_ALLOWED_MAX,
                 "%s%" PRIu64 " to %" PRIu64 " seconds, or with a unit: 90s, 5m, 1h", zero,
                 option->low, option->high);
        break;
    case CONFIG_KIND_CHOICE:
        words_text(option->words, text, CONFIG_ALLOWED_MAX);
        break;
    }
    return text;
}

/* ---- Values ---------------------------------------------------------------------------------- */

struct unit {
    const char *suffix;
    uint64_t factor;
};

static const struct unit plain[] = {{"", 1}, {NULL, 0}};
static const struct unit milliseconds[] = {{"", 1},      {"ms", 1},      {"s", 1000},
                                           {"m", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit seconds[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {NULL, 0}};

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)
static const struct unit sizes[] = {
    {"", 1},      {"B", 1},    {"k", KIB},   {"Ki", KIB},  {"KiB", KIB},
    {"m", MIB},   {"Mi", MIB}, {"MiB", MIB}, {"g", GIB},   {"Gi", GIB},
    {"GiB", GIB}, {"t", TIB},  {"Ti", TIB},  {"TiB", TIB}, {NULL, 0},
};

/* Digits and a unit, the unit's case not counting. False when it is anything else. A number that is
 * too large for 64 bits becomes UINT64_MAX, which every range refuses. */
static bool parse_whole(const char *text, const struct unit *units, uint64_t *value)
{
    char *end;
    uint64_t number;

    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    number = strtoull(text, &end, 10);
    for (; units->suffix != NULL; units++) {
        if (strcasecmp(end, units->suffix) == 0) {
            bool over = errno == ERANGE || number > UINT64_MAX / units->factor;

            *value = over ? UINT64_MAX : number * units->factor;
            return true;
        }
    }
    return false;
}

/* Digits with at most one point. strtod() alone would also take "nan", "0x10" and "1e3". */
static bool parse_decimal(const char *text, double *value)
{
    size_t digits = strspn(text, "0123456789");
    size_t length = digits;

    if (text[length] == '.') {
        size_t decimals = strspn(text + length + 1, "0123456789");

        digits += decimals;
        length += 1 + decimals;
    }
    if (digits == 0 || text[length] != '\0')
        return false;
    *value = strtod(text, NULL);
    return true;
}

const char *config_text_fault(const char *text)
{
    size_t length = strlen(text);

    if (length == 0)
        return "is empty";
    if (length >= CONFIG_TEXT_MAX)
        return "is too long";
    if (isspace((unsigned char)text[0]) || isspace((unsigned char)text[length - 1]))
        return "begins or ends with a blank";
    for (size_t i = 0; i < length; i++) {
        if (iscntrl((unsigned char)text[i]))
            return "has a control character";
        if ((text[i] == '#' || text[i] == ';') && (i == 0 || text[i - 1] == ' '))
            return "has a word that begins with # or ;, which is a comment in configuration files";
    }
    return NULL;
}

int config_split_address(const char *address, char *host, size_t size, uint16_t *port)
{
    bool bracketed = address[0] == '[';
    const char *start = address + bracketed;
    const char *end = bracketed ? strchr(start, ']') : strchr(start, ':');
    const char *colon = end == NULL ? NULL : end + bracketed;
    size_t length;
    uint64_t number;

    if (colon == NULL || colon[0] != ':')
        return -1;
    length = (size_t)(end - start);
    if (length == 0 || length >= size || !parse_whole(colon + 1, plain, &number) || number > 65535)
        return -1;
    memcpy(host, start, length);
    host[length] = '\0';
    *port = (uint16_t)number;
    return 0;
}

bool config_is_loopback(const char *host)
{
    unsigned a, b, c, d;
    char rest;
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
           (sscanf(host, "%3u.%3u.%3u.%3u%c", &a, &b, &c, &d, &rest) == 4 && a == 127);
}

/* A host name as origins and Host fields have it: letters, digits, dots, hyphens, or an IPv6
 * address in brackets. What a browser sends is in small letters. */
static size_t host_length(const char *text)
{
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789.-_");
    if (text[0] == '[') {
        length = 1 + strspn(text + 1, "0123456789abcdef:.");
        length = text[length] == ']' && length > 1 ? length + 1 : 0;
    }
    return length;
}

/* The length of the origin or host that a text begins with; 0 when it begins with neither. */
static size_t item_length(enum config_kind kind, const char *text)
{
    size_t scheme = 0;
    if (kind == CONFIG_KIND_HOSTS)
        return host_length(text);
    if (strncmp(text, "http://", 7) == 0)
        scheme = 7;
    else if (strncmp(text, "https://", 8) == 0)
        scheme = 8;
    size_t host = scheme == 0 ? 0 : host_length(text + scheme);
    if (host == 0)
        return 0;
    const char *after = text + scheme + host;
    size_t port = *after == ':' ? 1 + strspn(after + 1, "0123456789") : 0;
    return port == 1 ? 0 : scheme + host + port;
}

/* Items with single commas between, and nothing else. */
static bool is_list(enum config_kind kind, const char *text)
{
    if (strcmp(text, "*") == 0)
        return true;
    for (;;) {
        size_t length = item_length(kind, text);
        if (length == 0)
            return false;
        if (text[length] == '\0')
            return true;
        if (text[length] != ',')
            return false;
        text += length + 1;
    }
}

static bool parse_word(const char *const *words, const char *value, unsigned *chosen)
{
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], value) == 0) {
            *chosen = i;
            return true;
        }
    }
    return false;
}

static size_t word_count(const char *const *words)
{
    size_t count = 0;

    while (words[count] != NULL)
        count++;
    return count;
}

/* The verdicts of parse_value(). */
static const char not_understood[] = "is not understood";
static const char out_of_range[] = "is out of range";

static const char *parse_units(const struct config_option *option, const struct unit *units,
                               const char *value, void *field)
{
    uint64_t number;

    if (!parse_whole(value, units, &number))
        return not_understood;
    if ((number < option->low || number > option->high) && !(option->zero_ok && number == 0))
        return out_of_range;
    memcpy(field, &number, sizeof(number));
    return NULL;
}

static const char *parse_number(const struct config_option *option, const char *value, void *field)
{
    double number;

    if (!parse_decimal(value, &number))
        return not_understood;
    if ((number < (double)option->low || number > (double)option->high) &&
        !(option->zero_ok && number == 0))
        return out_of_range;
    memcpy(field, &number, sizeof(number));
    return NULL;
}

static const char *parse_text(const struct config_option *option, const char *value, void *field)
{
    char host[CONFIG_TEXT_MAX];
    uint16_t port;

    if (option->kind == CONFIG_KIND_ADDRESS &&
        config_split_address(value, host, sizeof(host), &port) != 0)
        return not_understood;
    if ((option->kind == CONFIG_KIND_ORIGINS || option->kind == CONFIG_KIND_HOSTS) &&
        !is_list(option->kind, value))
        return not_understood;
    memcpy(field, value, strlen(value) + 1);
    return NULL;
}

/* Store a value. Returns NULL, or what is wrong with it, and then leaves the field alone. */
static const char *parse_value(const struct config_option *option, const char *value, void *field)
{
    const char *fault = config_text_fault(value);
    unsigned chosen;

    if (option->empty_ok && value[0] == '\0') {
        *(char *)field = '\0';
        return NULL;
    }
    if (fault != NULL)
        return fault;
    switch (option->kind) {
    case CONFIG_KIND_BYTES:
        return parse_units(option, sizes, value, field);
    case CONFIG_KIND_COUNT:
        return parse_units(option, plain, value, field);
    case CONFIG_KIND_MILLISECONDS:
        return parse_units(option, milliseconds, value, field);
    case CONFIG_KIND_SECONDS:
        return parse_units(option, seconds, value, field);
    case CONFIG_KIND_NUMBER:
        return parse_number(option, value, field);
    case CONFIG_KIND_CHOICE:
        if (!parse_word(option->words, value, &chosen))
            return not_understood;
        memcpy(field, &chosen, sizeof(chosen));
        return NULL;
    case CONFIG_KIND_ADDRESS:
    case CONFIG_KIND_PATH:
    case CONFIG_KIND_ORIGINS:
    case CONFIG_KIND_HOSTS:
        break;
    }
    return parse_text(option, value, field);
}

void config_set(struct storm_config *out, enum config_id id, const char *value,
                const struct config_place *place, struct config_error *error)
{
    const struct config_option *option = &config_options[id];
    const char *fault = parse_value(option, value, (char *)out + option->offset);
    char quoted[CONFIG_QUOTE_MAX], allowed[CONFIG_ALLOWED_MAX], hint[CONFIG_QUOTE_MAX];
    const char *near_word = NULL;

    out->origins[id] = place->origin;
    if (fault == NULL)
        return;
    if (option->kind == CONFIG_KIND_CHOICE)
        near_word = config_suggest(value, option->words, word_count(option->words));
    config_fail(error, "%s: %s = \"%s\" %s: it takes %s%s", place->text, option->name,
                config_quote(value, quoted), fault, config_allowed(id, allowed),
                config_did_you_mean(near_word, hint));
}

void config_init(struct storm_config *out)
{
    memset(out, 0, sizeof(*out));
    /* The defaults are valid, which a test makes sure of. */
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        parse_value(&config_options[i], config_options[i].fallback,
                    (char *)out + config_options[i].offset);
}

char *config_value_text(const struct storm_config *config, enum config_id id, char *text,
                        size_t size)
{
    const struct config_option *option = &config_options[id];
    const char *field = (const char *)config + option->offset;
    uint64_t whole;
    unsigned chosen;
    double number;

    switch (option->kind) {
    case CONFIG_KIND_ADDRESS:
    case CONFIG_KIND_PATH:
    case CONFIG_KIND_ORIGINS:
    case CONFIG_KIND_HOSTS:
        snprintf(text, size, "%s", field);
        break;
    case CONFIG_KIND_BYTES:
        memcpy(&whole, field, sizeof(whole));
        size_text(whole, text, size);
        break;
    case CONFIG_KIND_COUNT:
    case CONFIG_KIND_MILLISECONDS:
    case CONFIG_KIND_SECONDS:
        memcpy(&whole, field, sizeof(whole));
        snprintf(text, size, "%" PRIu64, whole);
        break;
    case CONFIG_KIND_NUMBER:
        /* 15 digits always survive the way back; what needs more, such as 0.1 + 0.2, gets 17. */
        memcpy(&number, field, sizeof(number));
        snprintf(text, size, "%.15g", number);
        if (strtod(text, NULL) != number)
            snprintf(text, size, "%.17g", number);
        break;
    case CONFIG_KIND_CHOICE:
        memcpy(&chosen, field, sizeof(chosen));
        snprintf(text, size, "%s", option->words[chosen]);
        break;
    }
    return text;
}

char *config_origin_text(const struct storm_config *config, enum config_id id, char *text,
                         size_t size)
{
    const struct config_origin *origin = &config->origins[id];
    char variable[CONFIG_VARIABLE_MAX];

    switch (origin->source) {
    case CONFIG_DEFAULT:
        snprintf(text, size, "default");
        break;
    case CONFIG_FILE:
        snprintf(text, size, "%s:%u", config->file, origin->line);
        break;
    case CONFIG_ENVIRONMENT:
        snprintf(text, size, "%s", config_variable(id, variable));
        break;
    case CONFIG_FLAG:
        snprintf(text, size, "--%s", config_options[id].name);
        break;
    }
    return text;
}
