/*
 * The configuration: values of each kind with the edges of their ranges, every source and its
 * origin, what is refused and in which words, files that are broken in every way we could think of,
 * and that the table, the sample file and the manual pages agree.
 *
 * Runs in a directory of its own, so that the messages it expects hold short names.
 */
#include "option.h"
#include "suggest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* What the last parse() left. */
static struct storm_config config;
static enum config_action action;
static struct config_error error;

static int parse(char **argv, char **envp)
{
    int argc = 0;

    while (argv[argc] != NULL)
        argc++;
    return config_parse(argc, argv, envp, &config, &action, &error);
}

/* parse(ARGS("--listen=..."), VARIABLES("STORM_X=1")) */
#define ARGS(...)      ((char *[]){"stormd", __VA_ARGS__, NULL})
#define NO_ARGS        ((char *[]){"stormd", NULL})
#define VARIABLES(...) ((char *[]){__VA_ARGS__, NULL})

static void write_bytes(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static int parse_file(const char *text)
{
    write_bytes("f.conf", text, strlen(text));
    return parse(ARGS("--config=f.conf"), NULL);
}

/* Read a whole file; the caller frees. */
static char *slurp(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 17);

    if (file == NULL)
        fail_msg("cannot open %s", path);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 17) - 1, file) > 0);
    fclose(file);
    return text;
}

static void assert_has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("expected \"%s\" in:\n%s", part, text);
}

static void assert_refused(int status, const char *part)
{
    assert_int_equal(status, -1);
    assert_true(error.count > 0);
    assert_has(error.text, part);
}

static const char *value_of(enum config_id id)
{
    static char text[CONFIG_TEXT_MAX];

    return config_value_text(&config, id, text, sizeof(text));
}

static const char *origin_of(enum config_id id)
{
    static char text[CONFIG_TEXT_MAX + 16];

    return config_origin_text(&config, id, text, sizeof(text));
}

/* Parse one flag; returns whether it was taken. */
static bool takes(enum config_id id, const char *value)
{
    char flag[CONFIG_TEXT_MAX * 2];

    snprintf(flag, sizeof(flag), "--%s=%s", config_name(id), value);
    return parse(ARGS(flag), NULL) == 0;
}

/* ---- The table ------------------------------------------------------------------------------- */

static void nothing_given_means_the_documented_defaults(void **state)
{
    (void)state;
    assert_int_equal(parse(NO_ARGS, NULL), 0);
    assert_int_equal(action, CONFIG_RUN);
    assert_string_equal(config.listen, "127.0.0.1:8080");
    assert_string_equal(config.data_dir, "./data");
    assert_int_equal(config.wal_sync, CONFIG_WAL_SYNC_ALWAYS);
    assert_int_equal(config.wal_interval_ms, 100);
    assert_int_equal(config.wal_retention_bytes, 64 << 20);
    assert_int_equal(config.wal_retention_ms, 0);
    assert_int_equal(config.memtable_bytes, 0);
    assert_int_equal(config.memtable_entries, 0);
    assert_int_equal(config.write_buffer_bytes, 67108864);
    assert_int_equal(config.cache_bytes, 67108864);
    assert_int_equal(config.table_codec, CONFIG_TABLE_CODEC_DEFLATE);
    assert_int_equal(config.table_codec_level, 0);
    assert_int_equal(config.table_block_bytes, 4096);
    assert_true(config.table_bloom_bits == 10.5);
    assert_int_equal(config.http_threads, 0);
    assert_int_equal(config.http_max_connections, 10000);
    assert_int_equal(config.http_idle_timeout_s, 60);
    assert_int_equal(config.limits_key_bytes, 4096);
    assert_int_equal(config.limits_value_bytes, 33554432);
    assert_int_equal(config.limits_json_bytes, 8388608);
    assert_int_equal(config.limits_batch_bytes, 67108864);
    assert_int_equal(config.limits_batch_ops, 10000);
    assert_int_equal(config.shutdown_grace_ms, 8000);
    assert_int_equal(config.log_level, CONFIG_LOG_LEVEL_INFO);
    assert_int_equal(config.log_format, CONFIG_LOG_FORMAT_TEXT);
    assert_string_equal(config.file, "");
}

static void every_default_is_valid_and_prints_as_it_is_written(void **state)
{
    (void)state;
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        if (!takes((enum config_id)i, config_options[i].fallback))
            fail_msg("%s", error.text);
        if (i != CONFIG_limits_key_bytes) /* 4096, which prints as 4KiB */
            assert_string_equal(value_of((enum config_id)i), config_options[i].fallback);
    }
}

static void sections_are_contiguous_and_options_without_one_come_first(void **state)
{
    int length, other;

    (void)state;
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        bool first = config_begins_section((enum config_id)i, &length);

        if (length == 0 && i > 0) {
            config_begins_section((enum config_id)(i - 1), &other);
            assert_int_equal(other, 0);
        }
        for (int j = 0; first && j < i; j++)
            assert_int_not_equal(strncmp(config_name((enum config_id)j),
                                         config_name((enum config_id)i), (size_t)length + 1),
                                 0);
    }
}

static void names_and_variables_are_unique_and_in_the_environments_form(void **state)
{
    char one[CONFIG_VARIABLE_MAX], other[CONFIG_VARIABLE_MAX];

    (void)state;
    assert_string_equal(config_variable(CONFIG_wal_interval_ms, one), "STORM_WAL_INTERVAL_MS");
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        for (int j = 0; j < i; j++)
            assert_string_not_equal(config_variable((enum config_id)i, one),
                                    config_variable((enum config_id)j, other));
        assert_true(strlen(config_variable((enum config_id)i, one)) < CONFIG_VARIABLE_MAX - 1);
    }
}

/* ---- Values ---------------------------------------------------------------------------------- */

static void ranges_end_where_they_say(void **state)
{
    char text[64];

    (void)state;
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const struct config_option *option = &config_options[i];
        enum config_id id = (enum config_id)i;

        /* Two depend on others, and have a test each. */
        if (option->high == 0 || id == CONFIG_table_codec_level || id == CONFIG_memtable_bytes)
            continue;
        snprintf(text, sizeof(text), "%llu", (unsigned long long)option->low);
        assert_true(takes(id, text));
        snprintf(text, sizeof(text), "%llu", (unsigned long long)option->high);
        assert_true(takes(id, text));
        snprintf(text, sizeof(text), "%llu", (unsigned long long)option->high + 1);
        assert_false(takes(id, text));
        assert_has(error.text, "is out of range");
        assert_int_equal(takes(id, "0"), option->low == 0 || option->zero_ok);
        if (option->low > 1) {
            snprintf(text, sizeof(text), "%llu", (unsigned long long)option->low - 1);
            assert_false(takes(id, text));
        }
        assert_false(takes(id, "18446744073709551616"));
        assert_false(takes(id, "99999999999999999999999999"));
        assert_false(takes(id, "-1"));
        assert_false(takes(id, "+1"));
        assert_false(takes(id, "1 2"));
        assert_false(takes(id, " 1"));
        assert_false(takes(id, "1 "));
        assert_false(takes(id, "0x10"));
        assert_false(takes(id, "ten"));
        assert_false(takes(id, ""));
        assert_has(error.text, "is empty");
    }
}

static void sizes_take_units_of_1024_and_no_others(void **state)
{
    (void)state;
    assert_true(takes(CONFIG_cache_bytes, "4k"));
    assert_int_equal(config.cache_bytes, 4096);
    assert_true(takes(CONFIG_cache_bytes, "64MiB"));
    assert_int_equal(config.cache_bytes, 67108864);
    assert_true(takes(CONFIG_cache_bytes, "3Mi"));
    assert_int_equal(config.cache_bytes, 3145728);
    assert_true(takes(CONFIG_cache_bytes, "1gib"));
    assert_int_equal(config.cache_bytes, 1073741824);
    assert_true(takes(CONFIG_cache_bytes, "1T"));
    assert_int_equal(config.cache_bytes, 1099511627776);
    assert_true(takes(CONFIG_cache_bytes, "512B"));
    assert_int_equal(config.cache_bytes, 512);
    assert_false(takes(CONFIG_cache_bytes, "64MB"));
    assert_has(error.text, "is not understood: it takes 0 to 1TiB");
    assert_false(takes(CONFIG_cache_bytes, "1.5GiB"));
    assert_false(takes(CONFIG_cache_bytes, "64 MiB"));
    assert_false(takes(CONFIG_cache_bytes, "MiB"));
    /* 2^54 KiB is 2^64 bytes, which must not come out as 0. */
    assert_false(takes(CONFIG_cache_bytes, "18014398509481984k"));
    assert_has(error.text, "is out of range");
}

static void durations_take_units(void **state)
{
    (void)state;
    assert_true(takes(CONFIG_wal_interval_ms, "250"));
    assert_int_equal(config.wal_interval_ms, 250);
    assert_true(takes(CONFIG_wal_interval_ms, "10ms"));
    assert_int_equal(config.wal_interval_ms, 10);
    assert_true(takes(CONFIG_wal_interval_ms, "2s"));
    assert_int_equal(config.wal_interval_ms, 2000);
    assert_true(takes(CONFIG_wal_interval_ms, "1m"));
    assert_false(takes(CONFIG_wal_interval_ms, "2m"));
    assert_true(takes(CONFIG_wal_retention_ms, "60m"));
    assert_int_equal(config.wal_retention_ms, 3600000);
    assert_true(takes(CONFIG_wal_retention_bytes, "0"));
    assert_int_equal(config.wal_retention_bytes, 0);
    assert_true(takes(CONFIG_wal_retention_bytes, "1TiB"));
    assert_false(takes(CONFIG_wal_retention_bytes, "2TiB"));
    assert_true(takes(CONFIG_http_idle_timeout_s, "90s"));
    assert_int_equal(config.http_idle_timeout_s, 90);
    assert_true(takes(CONFIG_http_idle_timeout_s, "24h"));
    assert_int_equal(config.http_idle_timeout_s, 86400);
    assert_false(takes(CONFIG_http_idle_timeout_s, "500ms"));
    assert_false(takes(CONFIG_memtable_entries, "10s"));
}

static void numbers_may_have_decimals_but_no_exponent(void **state)
{
    (void)state;
    assert_true(takes(CONFIG_table_bloom_bits, "7.25"));
    assert_true(config.table_bloom_bits == 7.25);
    assert_true(takes(CONFIG_table_bloom_bits, "0.0"));
    assert_false(takes(CONFIG_table_bloom_bits, "0.5"));
    assert_false(takes(CONFIG_table_bloom_bits, "3.999"));
    assert_false(takes(CONFIG_table_bloom_bits, "32.001"));
    assert_false(takes(CONFIG_table_bloom_bits, "1e1"));
    assert_false(takes(CONFIG_table_bloom_bits, "nan"));
    assert_false(takes(CONFIG_table_bloom_bits, "inf"));
    assert_false(takes(CONFIG_table_bloom_bits, "."));
    assert_false(takes(CONFIG_table_bloom_bits, "1.2.3"));
    assert_has(error.text, "it takes 0, or 4 to 32");
    assert_true(takes(CONFIG_table_bloom_bits, "10.123456789012345"));
    assert_true(takes(CONFIG_table_bloom_bits, value_of(CONFIG_table_bloom_bits)));
    assert_true(config.table_bloom_bits == 10.123456789012345);
}

static void choices_are_words_with_a_near_one_for_a_slip(void **state)
{
    (void)state;
    assert_true(takes(CONFIG_wal_sync, "interval"));
    assert_int_equal(config.wal_sync, CONFIG_WAL_SYNC_INTERVAL);
    assert_true(takes(CONFIG_table_codec, "none"));
    assert_int_equal(config.table_codec, CONFIG_TABLE_CODEC_NONE);
    assert_true(takes(CONFIG_log_format, "json"));
    assert_int_equal(config.log_format, CONFIG_LOG_FORMAT_JSON);
    assert_false(takes(CONFIG_wal_sync, "alway"));
    assert_string_equal(error.text, "--wal.sync: wal.sync = \"alway\" is not understood: it takes "
                                    "always, interval or off; did you mean always?\n");
    assert_false(takes(CONFIG_table_codec, "gzip"));
    assert_null(strstr(error.text, "did you mean"));
}

static void addresses_have_a_host_and_a_port(void **state)
{
    static const char *const good[] = {"127.0.0.1:0", "localhost:65535", "[::1]:80",
                                       "0.0.0.0:8080"};
    static const char *const bad[] = {
        "8080",          ":8080",  "localhost", "localhost:", "h:65536",
        "h:-1",          "::1:80", "[::1]80",   "[::1]",      "[]:80",
        "1.2.3.4:80:90", "h:8k",   "[::1:8080", "h: 80",      "h:184467440737095516160"};
    char host[16];
    uint16_t port;

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(takes(CONFIG_listen, good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (takes(CONFIG_listen, bad[i]))
            fail_msg("%s was taken", bad[i]);
    }
    assert_int_equal(config_split_address("[::1]:443", host, sizeof(host), &port), 0);
    assert_string_equal(host, "::1");
    assert_int_equal(port, 443);
    assert_int_equal(config_split_address("sixteen-letters-:1", host, sizeof(host), &port), -1);
    assert_int_equal(config_split_address("fifteen-letters:1", host, sizeof(host), &port), 0);
    assert_string_equal(host, "fifteen-letters");
}

static void texts_that_no_file_could_hold_are_refused_from_every_source(void **state)
{
    char path[CONFIG_TEXT_MAX + 1];

    (void)state;
    assert_true(takes(CONFIG_data_dir, "/srv/a b#c;d"));
    assert_false(takes(CONFIG_data_dir, "/srv/a #b"));
    assert_false(takes(CONFIG_data_dir, "/srv/a ;b"));
    assert_false(takes(CONFIG_data_dir, "#b"));
    assert_false(takes(CONFIG_data_dir, "/srv\n[wal]"));
    assert_has(error.text, "\"/srv?[wal]\" has a control character");
    assert_refused(parse(NO_ARGS, VARIABLES("STORM_DATA_DIR=/srv ")), "ends with a blank");
    memset(path, 'x', sizeof(path));
    path[CONFIG_TEXT_MAX] = '\0';
    assert_false(takes(CONFIG_data_dir, path));
    assert_has(error.text, "xxx...\" is too long");
    path[CONFIG_TEXT_MAX - 1] = '\0';
    assert_true(takes(CONFIG_data_dir, path));
}

static void a_codec_level_is_checked_together_with_its_codec(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("--table.codec_level=9"), NULL), 0);
    assert_refused(parse(ARGS("--table.codec_level=10"), NULL),
                   "--table.codec_level: table.codec_level = 10 is out of range: the highest with "
                   "table.codec = deflate is 9\n");
    assert_refused(parse(ARGS("--table.codec_level=13", "--table.codec=lz4"), NULL),
                   "= lz4 is 12\n");
    assert_int_equal(parse(ARGS("--table.codec_level=19", "--table.codec=zstd"), NULL), 0);
    assert_refused(parse(ARGS("--table.codec_level=20", "--table.codec=zstd"), NULL),
                   "table.codec_level = \"20\" is out of range: it takes 0 to 19\n");
    assert_refused(parse(ARGS("--table.codec=none", "--table.codec_level=1"), NULL),
                   "= none is 0\n");
}

static void a_memtable_is_no_larger_than_the_write_buffer(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("--memtable.bytes=64KiB"), NULL), 0);
    assert_int_equal(parse(ARGS("--memtable.bytes=0", "--write_buffer.bytes=1MiB"), NULL), 0);
    assert_int_equal(parse(ARGS("--memtable.bytes=64MiB"), NULL), 0);
    assert_refused(parse(ARGS("--memtable.bytes=65MiB"), NULL),
                   "--memtable.bytes: memtable.bytes = 65MiB is more than write_buffer.bytes = "
                   "64MiB, of which it is a part: lower the one or raise the other\n");
    assert_refused(parse(ARGS("--memtable.bytes=2MiB", "--write_buffer.bytes=1MiB"), NULL),
                   "memtable.bytes = 2MiB is more than write_buffer.bytes = 1MiB");
    assert_int_equal(parse(ARGS("--memtable.bytes=1GiB", "--write_buffer.bytes=1GiB"), NULL), 0);
    assert_refused(parse(ARGS("--memtable.bytes=1025MiB", "--write_buffer.bytes=2GiB"), NULL),
                   "is out of range");
    assert_refused(parse(ARGS("--memtable.bytes=65535"), NULL), "is out of range");
}

/* ---- Sources --------------------------------------------------------------------------------- */

static void a_flag_beats_the_environment_beats_the_file_beats_the_default(void **state)
{
    char *variables[] = {"STORM_WAL_INTERVAL_MS=3", "STORM_LISTEN=h:3", NULL};

    (void)state;
    write_bytes("f.conf", "listen = h:2\n[wal]\ninterval_ms=2\nsync = off\n", 44);
    assert_int_equal(parse(ARGS("--listen=h:4", "--config", "f.conf"), variables), 0);
    assert_string_equal(config.listen, "h:4");
    assert_string_equal(origin_of(CONFIG_listen), "--listen");
    assert_int_equal(config.wal_interval_ms, 3);
    assert_string_equal(origin_of(CONFIG_wal_interval_ms), "STORM_WAL_INTERVAL_MS");
    assert_int_equal(config.wal_sync, CONFIG_WAL_SYNC_OFF);
    assert_string_equal(origin_of(CONFIG_wal_sync), "f.conf:4");
    assert_string_equal(config.data_dir, "./data");
    assert_string_equal(origin_of(CONFIG_data_dir), "default");
    assert_string_equal(config.file, "f.conf");
}

static void a_mistake_in_a_weaker_source_counts_although_a_stronger_one_hides_it(void **state)
{
    (void)state;
    assert_refused(parse(ARGS("--wal.sync=off"), VARIABLES("STORM_WAL_SYNC=perhaps")),
                   "STORM_WAL_SYNC: wal.sync = \"perhaps\" is not understood");
}

static void every_mistake_is_reported_at_once(void **state)
{
    (void)state;
    write_bytes("f.conf", "port = 1\n[wal]\nsync = no\n", 25);
    assert_refused(parse(ARGS("--config=f.conf", "--cache.bytes=x"), VARIABLES("STORM_X=1")),
                   "f.conf:1: unknown option port");
    assert_int_equal(error.count, 4);
    assert_has(error.text, "f.conf:3: wal.sync = \"no\"");
    assert_has(error.text, "STORM_X: no option has this environment variable\n");
    assert_has(error.text, "--cache.bytes: cache.bytes = \"x\"");
}

static void more_mistakes_than_fit_are_still_counted(void **state)
{
    char *argv[402];

    (void)state;
    argv[0] = "stormd";
    for (int i = 1; i <= 400; i++)
        argv[i] = "--this.option.is.not.there.at.all=1";
    argv[401] = NULL;
    assert_int_equal(parse(argv, NULL), -1);
    assert_int_equal(error.count, 400);
    assert_int_equal(strlen(error.text), error.used);
    assert_true(error.used < sizeof(error.text));
    assert_int_equal(error.text[error.used - 1], '\n');
}

static void a_flag_given_twice_counts_the_last_time(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("--listen=a:1", "--listen=b:2"), NULL), 0);
    assert_string_equal(config.listen, "b:2");
}

static void unknown_flags_get_a_near_name(void **state)
{
    (void)state;
    assert_refused(parse(ARGS("--wal.snyc=off"), NULL),
                   "unknown option --wal.snyc; did you mean --wal.sync?\n");
    assert_refused(parse(ARGS("--sync=off"), NULL), "did you mean --wal.sync?");
    assert_refused(parse(ARGS("--data-dir=x"), NULL), "did you mean --data_dir?");
    assert_refused(parse(ARGS("--conifg=x"), NULL), "did you mean --config?");
    assert_refused(parse(ARGS("--check-config"), NULL), "did you mean check-config?");
    assert_refused(parse(ARGS("--print_config"), NULL), "did you mean --print-config?");
    assert_refused(parse(ARGS("--quite.something.else=x"), NULL),
                   "unknown option --quite.something.else\n");
    assert_refused(parse(ARGS("--=x"), NULL), "unknown option --\n");
    assert_refused(parse(ARGS("--"), NULL), "unknown option --\n");
    assert_refused(parse(ARGS("--wal.sync", "always"), NULL),
                   "--wal.sync: the value is missing; it belongs to the same word: "
                   "--wal.sync=always");
}

static void commands_are_recognised_and_exclude_each_other(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("check-config"), NULL), 0);
    assert_int_equal(action, CONFIG_CHECK);
    assert_int_equal(parse(ARGS("--listen=h:1", "--print-config"), NULL), 0);
    assert_int_equal(action, CONFIG_PRINT);
    assert_string_equal(config.listen, "h:1");
    assert_int_equal(parse(ARGS("healthcheck", "--listen=h:1"), NULL), 0);
    assert_int_equal(action, CONFIG_HEALTHCHECK);
    assert_refused(parse(ARGS("healthcheck", "check-config"), NULL),
                   "healthcheck and check-config cannot be given together");
    assert_refused(parse(ARGS("check-confg"), NULL),
                   "unknown command \"check-confg\"; did you mean check-config?");
    assert_refused(parse(ARGS("-x"), NULL), "unknown command \"-x\"\n");
    assert_refused(parse(ARGS(""), NULL), "unknown command \"\"\n");
}

static void help_and_version_work_whatever_else_is_wrong(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("bogus", "--version"), VARIABLES("STORM_X=1")), 0);
    assert_int_equal(action, CONFIG_VERSION);
    assert_int_equal(error.count, 0);
    assert_string_equal(error.text, "");
    assert_int_equal(parse(ARGS("--config=missing", "--help"), NULL), 0);
    assert_int_equal(action, CONFIG_HELP);
    assert_int_equal(parse(ARGS("-h"), NULL), 0);
    assert_int_equal(action, CONFIG_HELP);
}

static void a_file_that_cannot_be_read_is_a_mistake(void **state)
{
    (void)state;
    assert_refused(parse(ARGS("--config=no.conf"), NULL),
                   "--config: cannot read configuration file no.conf: No such file");
    assert_refused(parse(ARGS("--config", "."), NULL), "cannot read configuration file .: ");
    assert_refused(parse(ARGS("--config"), NULL), "the name of the file is missing");
    assert_int_equal(error.count, 1);
    assert_refused(parse(ARGS("--config="), NULL), "the name of the configuration file is empty");
    assert_refused(parse(NO_ARGS, VARIABLES("STORM_CONFIG=no.conf")),
                   "STORM_CONFIG: cannot read configuration file no.conf");
    assert_refused(parse(ARGS("--config=/dev/zero"), NULL), "larger than 1 MiB");
}

static void storm_config_names_the_file_unless_the_flag_does(void **state)
{
    (void)state;
    write_bytes("a.conf", "listen=a:1", 10);
    write_bytes("b.conf", "listen=b:1", 10);
    assert_int_equal(parse(NO_ARGS, VARIABLES("STORM_CONFIG=a.conf")), 0);
    assert_string_equal(config.listen, "a:1");
    assert_int_equal(parse(ARGS("--config=b.conf"), VARIABLES("STORM_CONFIG=a.conf")), 0);
    assert_string_equal(config.listen, "b:1");
}

static void misspelt_variables_are_refused_and_foreign_ones_left_alone(void **state)
{
    (void)state;
    assert_refused(parse(NO_ARGS, VARIABLES("STORM_WAL_SNYC=off")),
                   "STORM_WAL_SNYC: no option has this environment variable; did you mean "
                   "STORM_WAL_SYNC?");
    assert_refused(parse(NO_ARGS, VARIABLES("STORM_PORT=8080")), "STORM_PORT: no option");
    assert_refused(parse(NO_ARGS, VARIABLES("STORM_LISTEN=")), "is empty");
    assert_int_equal(
        parse(NO_ARGS, VARIABLES("PATH=/bin", "STORMY=1", "STORM_URL=x", "STORM_TOKEN=x",
                                 "STORM_TIMEOUT=x", "STORM_TEST_SEED=1", "NOEQUALS")),
        0);
    /* A Kubernetes service named "storm", then one named "storm-db". */
    assert_int_equal(
        parse(NO_ARGS,
              VARIABLES("STORM_SERVICE_HOST=10.0.0.1", "STORM_SERVICE_PORT_HTTP=80",
                        "STORM_PORT=tcp://10.0.0.1:80", "STORM_PORT_80_TCP=tcp://10.0.0.1:80",
                        "STORM_PORT_80_TCP_ADDR=10.0.0.1", "STORM_DB_SERVICE_HOST=10.0.0.1",
                        "STORM_DB_PORT=tcp://10.0.0.1:80")),
        0);
}

/* ---- Files ----------------------------------------------------------------------------------- */

static void files_may_have_a_bom_crlf_comments_blanks_and_no_last_newline(void **state)
{
    (void)state;
    assert_int_equal(parse_file("\xEF\xBB\xBFlisten = h:1\r\n"
                                "; a comment\r\n"
                                "   # another one\r\n"
                                "\r\n"
                                "data_dir:/srv/x # trailing\r\n"
                                "[ wal ] ; comment\n"
                                "\tsync\t=  off\t;x\n"
                                "   interval_ms = 7"),
                     -1);
    assert_has(error.text, "f.conf:7: unknown option  wal .sync");
    assert_int_equal(parse_file("\xEF\xBB\xBFlisten = h:1\r\n"
                                "; a comment\r\n"
                                "   # another one\r\n"
                                "\r\n"
                                "data_dir:/srv/x # trailing\r\n"
                                "[wal] ; comment\n"
                                "\tsync\t=  off\t;x\n"
                                "   interval_ms = 7"),
                     0);
    assert_string_equal(config.listen, "h:1");
    assert_string_equal(config.data_dir, "/srv/x");
    assert_int_equal(config.wal_sync, CONFIG_WAL_SYNC_OFF);
    assert_int_equal(config.wal_interval_ms, 7);
    assert_string_equal(origin_of(CONFIG_wal_interval_ms), "f.conf:8");
    assert_int_equal(parse_file("\xEF\xBB\xBF[wal]\r\nsync = off\r\n"), 0);
    assert_int_equal(config.wal_sync, CONFIG_WAL_SYNC_OFF);
    assert_int_equal(parse_file("\xEF\xBB\xBF# comment\r\n[wal] \r\n"), 0);
    assert_int_equal(parse_file(""), 0);
    assert_int_equal(parse_file("\n"), 0);
    assert_int_equal(parse_file("wal.sync = off\n"), 0);
    assert_int_equal(config.wal_sync, CONFIG_WAL_SYNC_OFF);
}

static void unknown_names_in_files_say_line_and_near_name(void **state)
{
    (void)state;
    assert_refused(parse_file("[wal]\nsnyc = off\n"),
                   "f.conf:2: unknown option wal.snyc; did you mean wal.sync?\n");
    assert_refused(parse_file("[wla]\n\nsync = off\n"),
                   "f.conf:3: unknown option wla.sync; did you mean wal.sync?\n");
    assert_refused(parse_file("[wal]\nsync = off\nlisten = h:1\n"),
                   "f.conf:3: unknown option wal.listen; listen has to stand before the first "
                   "section\n");
    assert_refused(parse_file("\nbogus\x01 = 1\n"), "f.conf:2: unknown option bogus?\n");
}

static void a_key_set_twice_names_both_lines(void **state)
{
    (void)state;
    assert_refused(parse_file("[wal]\nsync = off\n[cache]\nbytes=1\n[wal]\nsync = off\n"),
                   "f.conf:6: wal.sync is already set on line 2\n");
    assert_refused(parse_file("[wal]\nsync = nonsense\nsync = off\n"),
                   "f.conf:3: wal.sync is already set on line 2\n");
    assert_int_equal(error.count, 2);
}

static void lines_in_no_known_form_are_the_only_mistake_reported(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[wal\nsync = off\n", "f.conf:1: a section is [name], alone on its line\n"},
        {"\n[wal] sync = off\nx=1\n", "f.conf:2: a section is [name], alone on its line\n"},
        {"listen = h:1\nnonsense\nx=1\n", "f.conf:2: this is neither \"name = value\""},
        {"= 5\n", "f.conf:1: there is no name before the value\n"},
        {"listen = h:1\n  continued\n", "f.conf:2: this is neither \"name = value\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_refused(parse_file(cases[i].text), cases[i].message);
        assert_int_equal(error.count, 1);
    }
    write_bytes("f.conf", "listen = h:1\0[x]\n", 17);
    assert_refused(parse(ARGS("--config=f.conf"), NULL), "f.conf:1: there is a NUL byte");
    write_bytes("f.conf", "\xFF\xFEl\0i\0", 6);
    assert_refused(parse(ARGS("--config=f.conf"), NULL), "f.conf:1: there is a NUL byte");
}

static void an_overlong_line_is_an_error_and_never_cut(void **state)
{
    static char text[5000];
    size_t at;

    (void)state;
    /* Longer than libinih's usual 200 bytes, and as long as a path may be. */
    at = (size_t)snprintf(text, sizeof(text), "data_dir = ");
    memset(text + at, 'x', CONFIG_TEXT_MAX - 1);
    assert_int_equal(parse_file(text), 0);
    assert_int_equal(strlen(config.data_dir), CONFIG_TEXT_MAX - 1);
    text[at + CONFIG_TEXT_MAX - 1] = 'x';
    assert_refused(parse_file(text), "is too long");
    memset(text + at, 'x', 4000);
    assert_refused(parse_file(text), "f.conf:1: the line is longer than ");
    assert_int_equal(error.count, 1);
    /* Comments may be as long as they like. */
    memset(text, '#', sizeof(text) - 16);
    snprintf(text + sizeof(text) - 16, 16, "\nlisten = h:9");
    assert_int_equal(parse_file(text), 0);
    assert_string_equal(config.listen, "h:9");
}

/* ---- Near names ------------------------------------------------------------------------------ */

static void suggestions_are_near_or_nothing(void **state)
{
    static const char *const names[] = {"limit",       "prefix",       "reverse", "wal.sync",
                                        "cache.bytes", "limits.bytes", "ttl"};
    static const struct {
        const char *word, *expected;
    } cases[] = {
        {"limti", "limit"},
        {"LIMIT", "limit"},
        {"prefx", "prefix"},
        {"perfix", "prefix"},
        {"revers", "reverse"},
        {"reversed", "reverse"},
        {"tll", "ttl"},
        {"tlt", "ttl"},
        {"wal_sync", "wal.sync"},
        {"sync", "wal.sync"},
        {"SYNC", "wal.sync"},
        {"bytes", NULL},
        {"cachebytes", "cache.bytes"},
        {"recursive", NULL},
        {"x", NULL},
        {"", NULL},
        {"lim", NULL},
        {"zzz", NULL},
        {"prefix", "prefix"},
    };
    char word[200];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *got = config_suggest(cases[i].word, names, sizeof(names) / sizeof(names[0]));

        if (got == NULL || cases[i].expected == NULL ? got != cases[i].expected
                                                     : strcmp(got, cases[i].expected) != 0)
            fail_msg("%s gave %s", cases[i].word, got == NULL ? "nothing" : got);
    }
    memset(word, 'p', sizeof(word));
    word[199] = '\0';
    assert_null(config_suggest(word, names, 1));
    word[64] = '\0';
    assert_null(config_suggest(word, names, 1));
    assert_null(config_suggest("limit", names, 0));
    /* One slip is all there is in a word of one letter. */
    assert_null(config_suggest("x", (const char *const[]){"y"}, 1));
    assert_null(config_suggest("x", (const char *const[]){"xy"}, 1));
    assert_null(config_suggest("xy", (const char *const[]){"x"}, 1));
    /* A name too long to compare is passed over. */
    memset(word, 'p', sizeof(word) - 1);
    assert_string_equal(config_suggest("prefx", (const char *const[]){word, "prefix"}, 2),
                        "prefix");
}

static void every_option_is_found_again_after_a_swap_of_two_letters(void **state)
{
    (void)state;
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const char *name = config_name((enum config_id)i);
        char word[CONFIG_VARIABLE_MAX];

        for (size_t at = 0; at + 1 < strlen(name); at++) {
            snprintf(word, sizeof(word), "%s", name);
            word[at] = name[at + 1];
            word[at + 1] = name[at];
            assert_string_equal(config_near_option(word), name);
        }
    }
}

/* ---- Output ---------------------------------------------------------------------------------- */

static char *printed(const struct storm_config *what)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);

    assert_non_null(stream);
    config_print(what, stream);
    fclose(stream);
    return text;
}

static void printed_configuration_is_a_file_with_the_same_values(void **state)
{
    char *first, *second;
    char text[CONFIG_TEXT_MAX];

    (void)state;
    write_bytes("o.conf", "[limits]\nkey_bytes = 1000\n", 26);
    assert_int_equal(parse(ARGS("--config=o.conf", "--listen=[::1]:1", "--data_dir=/srv/a b#c",
                                "--table.bloom_bits=7.1", "--table.codec=zstd",
                                "--table.codec_level=19", "--memtable.entries=12",
                                "--cache.bytes=3GiB", "--wal.sync=interval", "--log.format=json"),
                           VARIABLES("STORM_WAL_INTERVAL_MS=2s")),
                     0);
    first = printed(&config);
    assert_has(first, "listen = [::1]:1 ");
    assert_has(first, " # --listen\n");
    assert_has(first, "\n[wal]\nsync = interval ");
    assert_has(first, " # STORM_WAL_INTERVAL_MS\n");
    assert_has(first, " # o.conf:2\n");
    assert_has(first, " # default\n");

    struct storm_config before = config;

    assert_int_equal(parse_file(first), 0);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        assert_string_equal(value_of((enum config_id)i),
                            config_value_text(&before, (enum config_id)i, text, sizeof(text)));
        assert_int_equal(config.origins[i].source, CONFIG_FILE);
    }
    assert_true(config.table_bloom_bits == before.table_bloom_bits);
    second = printed(&config);
    assert_has(second, "# f.conf:2\n");
    free(first);
    free(second);
}

static void help_names_every_option_with_its_default(void **state)
{
    char *text = NULL, line[CONFIG_TEXT_MAX];
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);

    (void)state;
    assert_non_null(stream);
    config_help(stream);
    fclose(stream);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        snprintf(line, sizeof(line), "\n  --%s=%s\n", config_options[i].name,
                 config_options[i].fallback);
        assert_has(text, line);
    }
    for (const char *start = text, *end; (end = strchr(start, '\n')) != NULL; start = end + 1)
        assert_true(end - start <= 100);
    free(text);
}

static void help_texts_are_plain_sentences(void **state)
{
    (void)state;
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        const char *help = config_options[i].help;

        assert_true(help[strlen(help) - 1] == '.');
        assert_null(strpbrk(help, "\\\n\t"));
        assert_null(strstr(help, "  "));
        assert_true(help[0] >= 'A' && help[0] <= 'Z');
    }
}

static void the_sample_file_in_the_tree_is_the_one_the_table_yields(void **state)
{
    char *kept = slurp(STORM_CONFIG_SOURCE "/storm.conf");
    char *made = slurp(STORM_CONFIG_BINARY "/sample/storm.conf");

    (void)state;
    /* After a change of options.def: cp build/config/sample/storm.conf config/storm.conf */
    assert_string_equal(kept, made);
    free(kept);
    free(made);
}

/* The sample with every "#name = value" uncommented must parse, and mean the defaults. */
static void the_sample_file_uncommented_means_the_defaults(void **state)
{
    char *text = slurp(STORM_CONFIG_SOURCE "/storm.conf");
    struct storm_config defaults;
    char other[CONFIG_TEXT_MAX];

    (void)state;
    for (char *c = text; (c = strstr(c, "\n#")) != NULL; c++) {
        if (c[2] >= 'a' && c[2] <= 'z')
            c[1] = ' ';
    }
    if (parse_file(text) != 0)
        fail_msg("%s", error.text);
    config_init(&defaults);
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        assert_int_equal(config.origins[i].source, CONFIG_FILE);
        assert_string_equal(value_of((enum config_id)i),
                            config_value_text(&defaults, (enum config_id)i, other, sizeof(other)));
    }
    free(text);
}

static void the_installed_file_sets_only_the_systems_data_directory(void **state)
{
    (void)state;
    assert_int_equal(parse(ARGS("--config=" STORM_CONFIG_BINARY "/installed/storm.conf"), NULL), 0);
    assert_string_equal(config.data_dir, "/var/lib/stormdb");
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++)
        assert_int_equal(config.origins[i].source == CONFIG_FILE, i == CONFIG_data_dir);
}

static void both_manual_pages_have_every_option(void **state)
{
    char *pages[] = {slurp(STORM_CONFIG_BINARY "/man/stormd.8"),
                     slurp(STORM_CONFIG_BINARY "/man/storm.conf.5")};
    char line[CONFIG_TEXT_MAX], variable[CONFIG_VARIABLE_MAX];

    (void)state;
    for (int i = 0; i < CONFIG_OPTION_COUNT; i++) {
        for (size_t page = 0; page < 2; page++) {
            snprintf(line, sizeof(line), ".BR \\-\\-%s ,\n", config_options[i].name);
            assert_has(pages[page], line);
            snprintf(line, sizeof(line), ".BR %s .\n",
                     config_variable((enum config_id)i, variable));
            assert_has(pages[page], line);
            /* A directive that genman did not know would be left in the page. */
            assert_null(strstr(pages[page], "\n%"));
        }
    }
    assert_has(pages[0], ".TH STORMD 8 ");
    assert_has(pages[1], ".TH STORM.CONF 5 ");
    free(pages[0]);
    free(pages[1]);
}

/* ---- The program ----------------------------------------------------------------------------- */

static char directory[] = "/tmp/storm-config-XXXXXX";

static int enter_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) == NULL ? -1 : chdir(directory);
}

static int leave_directory(void **state)
{
    (void)state;
    unlink("a.conf");
    unlink("b.conf");
    unlink("f.conf");
    unlink("o.conf");
    return chdir("/") != 0 ? -1 : rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_given_means_the_documented_defaults),
        cmocka_unit_test(every_default_is_valid_and_prints_as_it_is_written),
        cmocka_unit_test(sections_are_contiguous_and_options_without_one_come_first),
        cmocka_unit_test(names_and_variables_are_unique_and_in_the_environments_form),
        cmocka_unit_test(ranges_end_where_they_say),
        cmocka_unit_test(sizes_take_units_of_1024_and_no_others),
        cmocka_unit_test(durations_take_units),
        cmocka_unit_test(numbers_may_have_decimals_but_no_exponent),
        cmocka_unit_test(choices_are_words_with_a_near_one_for_a_slip),
        cmocka_unit_test(addresses_have_a_host_and_a_port),
        cmocka_unit_test(texts_that_no_file_could_hold_are_refused_from_every_source),
        cmocka_unit_test(a_codec_level_is_checked_together_with_its_codec),
        cmocka_unit_test(a_memtable_is_no_larger_than_the_write_buffer),
        cmocka_unit_test(a_flag_beats_the_environment_beats_the_file_beats_the_default),
        cmocka_unit_test(a_mistake_in_a_weaker_source_counts_although_a_stronger_one_hides_it),
        cmocka_unit_test(every_mistake_is_reported_at_once),
        cmocka_unit_test(more_mistakes_than_fit_are_still_counted),
        cmocka_unit_test(a_flag_given_twice_counts_the_last_time),
        cmocka_unit_test(unknown_flags_get_a_near_name),
        cmocka_unit_test(commands_are_recognised_and_exclude_each_other),
        cmocka_unit_test(help_and_version_work_whatever_else_is_wrong),
        cmocka_unit_test(a_file_that_cannot_be_read_is_a_mistake),
        cmocka_unit_test(storm_config_names_the_file_unless_the_flag_does),
        cmocka_unit_test(misspelt_variables_are_refused_and_foreign_ones_left_alone),
        cmocka_unit_test(files_may_have_a_bom_crlf_comments_blanks_and_no_last_newline),
        cmocka_unit_test(unknown_names_in_files_say_line_and_near_name),
        cmocka_unit_test(a_key_set_twice_names_both_lines),
        cmocka_unit_test(lines_in_no_known_form_are_the_only_mistake_reported),
        cmocka_unit_test(an_overlong_line_is_an_error_and_never_cut),
        cmocka_unit_test(suggestions_are_near_or_nothing),
        cmocka_unit_test(every_option_is_found_again_after_a_swap_of_two_letters),
        cmocka_unit_test(printed_configuration_is_a_file_with_the_same_values),
        cmocka_unit_test(help_names_every_option_with_its_default),
        cmocka_unit_test(help_texts_are_plain_sentences),
        cmocka_unit_test(the_sample_file_in_the_tree_is_the_one_the_table_yields),
        cmocka_unit_test(the_sample_file_uncommented_means_the_defaults),
        cmocka_unit_test(the_installed_file_sets_only_the_systems_data_directory),
        cmocka_unit_test(both_manual_pages_have_every_option),
    };

    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
