/*
 * POST /admin/flush and GET /stats.
 *
 * A flush takes as long as the disk needs for all that is in memory, so it runs on the worker's
 * thread while its connection is suspended. The three names of the user's card come first in the
 * statistics, flat; everything else stands in groups.
 */
#include <stdio.h>

#include "async.h"
#include "kv.h"
#include "moment.h"
#include "response.h"
#include "router.h"

enum { STATS_MAX = 16384 };

/* Runs on the worker's thread. */
static void flush_now(struct api_request *request)
{
    request->outcome = storm_flush(api_kv_store(request), &request->flushed);
}

static void add_card(struct api_text *text, const struct storm_stats *stats)
{
    api_text_addf(text, "\"memtable_size\":%llu,\"sstable_count\":%llu,\"bloom_hits\":%llu",
                  (unsigned long long)stats->memtable_bytes,
                  (unsigned long long)stats->sstable_count, (unsigned long long)stats->bloom_hits);
}

static enum MHD_Result flushed(struct api_request *request)
{
    if (request->outcome != STORM_OK)
        return api_fail_store(request, request->outcome);
    struct storm_stats stats;
    storm_status status = storm_stats_read(api_kv_store(request), &stats);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    const struct storm_flush_result *result = &request->flushed;
    struct api_text text;
    api_text_init(&text, STATS_MAX);
    api_text_addf(&text, "{\"flushed\":%s,\"flushed_entries\":%llu,\"flushed_bytes\":%llu",
                  result->entries > 0 ? "true" : "false", (unsigned long long)result->entries,
                  (unsigned long long)result->bytes);
    api_text_addf(&text, ",\"duration_ms\":%.3f,", (double)result->duration_us / 1000);
    add_card(&text, &stats);
    api_text_adds(&text, "}\n");
    return api_send_json(request, MHD_HTTP_OK, &text);
}

enum MHD_Result api_admin_flush(struct api_request *request)
{
    const struct api_parameter *wait = api_query_find(&request->query, "wait");
    bool waits = true;
    enum MHD_Result result;
    if (wait != NULL && !api_flag(request, "wait", &waits, &result))
        return result;
    if (waits)
        return api_hand_to_worker(request, flush_now, flushed);
    api_flush_later(&request->server->worker);
    struct api_text text;
    api_text_init(&text, STATS_MAX);
    api_text_adds(&text, "{\"accepted\":true}\n");
    return api_send_json(request, MHD_HTTP_ACCEPTED, &text);
}

/* ---- GET /stats ---- */

static void add_count(struct api_text *text, const char *name, uint64_t number)
{
    api_text_addf(text, ",\"%s\":%llu", name, (unsigned long long)number);
}

static void add_store(struct api_text *text, const struct storm_stats *stats)
{
    api_text_addf(text, ",\"memtable\":{\"bytes\":%llu", (unsigned long long)stats->memtable_bytes);
    add_count(text, "entries", stats->memtable_entries);
    add_count(text, "limit_bytes", stats->memtable_limit_bytes);
    add_count(text, "immutable", stats->memtables_sealed);
    api_text_addf(text, "},\"sstables\":{\"count\":%llu", (unsigned long long)stats->sstable_count);
    add_count(text, "bytes", stats->sstable_bytes);
    api_text_adds(text, ",\"levels\":[");
    const char *comma = "";
    for (unsigned i = 0; i < STORM_MAX_LEVELS; i++) {
        if (stats->level_files[i] == 0)
            continue;
        api_text_addf(text, "%s{\"level\":%u,\"files\":%llu,\"bytes\":%llu}", comma, i,
                      (unsigned long long)stats->level_files[i],
                      (unsigned long long)stats->level_bytes[i]);
        comma = ",";
    }
    api_text_adds(text, "]}");
}

/* How many bytes were written to the disk for each byte that users wrote; 0 before the first. */
static double write_amplification(const struct storm_stats *stats)
{
    uint64_t written = stats->bytes_written_log + stats->bytes_written_tables;
    return stats->bytes_written_user == 0 ? 0 : (double)written / (double)stats->bytes_written_user;
}

static void add_reads(struct api_text *text, const struct storm_stats *stats, double bloom_bits)
{
    uint64_t checks = stats->bloom_hits + stats->bloom_passes;
    api_text_addf(text, ",\"bloom\":{\"checks\":%llu", (unsigned long long)checks);
    add_count(text, "hits", stats->bloom_hits);
    add_count(text, "passes", stats->bloom_passes);
    add_count(text, "false_positives", stats->bloom_false_positives);
    api_text_addf(text, ",\"bits_per_key\":%g},\"cache\":{\"bytes\":%llu", bloom_bits,
                  (unsigned long long)stats->cache_bytes);
    add_count(text, "limit_bytes", stats->cache_limit_bytes);
    add_count(text, "hits", stats->cache_hits);
    add_count(text, "misses", stats->cache_misses);
    api_text_adds(text, "}");
}

static void add_memory(struct api_text *text, const struct storm_stats *stats)
{
    api_text_addf(text, ",\"memory\":{\"bytes\":%llu", (unsigned long long)stats->memory_bytes);
    add_count(text, "memtables", stats->memory_memtables);
    add_count(text, "cache", stats->memory_cache);
    add_count(text, "tables", stats->memory_tables);
    add_count(text, "log", stats->memory_log);
    api_text_adds(text, "}");
}

/* Writes that were slowed down or had to wait, and why. */
static void add_stalls(struct api_text *text, const struct storm_stats *stats)
{
    static const char *const names[STORM_WAIT_CAUSES] = {
        [STORM_WAIT_MEMORY] = "memory",
        [STORM_WAIT_LEVEL0] = "level0",
        [STORM_WAIT_COMPACTION] = "compaction",
        [STORM_WAIT_DISK] = "disk",
    };
    api_text_addf(text, ",\"stalls\":{\"count\":%llu", (unsigned long long)stats->write_waits);
    api_text_addf(text, ",\"waited_ms\":%.3f,\"longest_ms\":%.3f",
                  (double)stats->write_wait_us / 1000, (double)stats->write_wait_longest_us / 1000);
    add_count(text, "refused", stats->writes_refused);
    api_text_addf(text, ",\"pressure\":%.3f,\"causes\":", stats->write_pressure);
    for (int i = 0; i < STORM_WAIT_CAUSES; i++)
        api_text_addf(text, "%s\"%s\":{\"count\":%llu,\"waited_ms\":%.3f}", i == 0 ? "{" : ",",
                      names[i], (unsigned long long)stats->write_waits_by[i],
                      (double)stats->write_wait_us_by[i] / 1000);
    api_text_adds(text, "}}");
}

static void add_writes(struct api_text *text, const struct storm_stats *stats)
{
    api_text_addf(text, ",\"wal\":{\"bytes\":%llu", (unsigned long long)stats->log_bytes);
    add_count(text, "segments", stats->log_segments);
    add_count(text, "syncs", stats->log_syncs);
    add_count(text, "groups", stats->log_group_commits);
    add_count(text, "writes", stats->writes);
    api_text_addf(text, ",\"last_sync_ms\":%.3f},\"compaction\":{\"running\":%s",
                  (double)stats->log_last_sync_us / 1000,
                  stats->compaction_running ? "true" : "false");
    add_count(text, "pending_bytes", stats->compaction_pending_bytes);
    add_count(text, "completed", stats->compactions);
    add_count(text, "range_deletes", stats->range_deletes);
    api_text_addf(text, ",\"write_amplification\":%.2f},\"flush\":{\"completed\":%llu",
                  write_amplification(stats), (unsigned long long)stats->flushes);
    api_text_add_time(text, "last_at", stats->flush_last_ms);
    api_text_addf(text, ",\"last_duration_ms\":%.3f}",
                  (double)stats->flush_last_duration_us / 1000);
    add_stalls(text, stats);
    api_text_addf(text, ",\"snapshots\":{\"open\":%llu", (unsigned long long)stats->snapshots);
    add_count(text, "oldest_ms", stats->snapshot_oldest_ms);
    api_text_addf(text, "},\"changes\":{\"oldest_revision\":%llu",
                  (unsigned long long)stats->feed_oldest_revision);
    add_count(text, "open", stats->feeds);
    api_text_adds(text, "}");
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void add_http(struct api_text *text, const struct api_metrics *metrics)
{
    api_text_addf(text, ",\"http\":{\"connections\":%llu",
                  (unsigned long long)load(&metrics->connections));
    add_count(text, "requests", load(&metrics->requests));
    add_count(text, "in_flight", load(&metrics->in_flight));
    api_text_addf(text, ",\"p50_ms\":%.3f,\"p99_ms\":%.3f",
                  (double)api_metrics_quantile_us(metrics, 0.5) / 1000,
                  (double)api_metrics_quantile_us(metrics, 0.99) / 1000);
    add_count(text, "errors_4xx", load(&metrics->errors_4xx));
    add_count(text, "errors_5xx", load(&metrics->errors_5xx));
    api_text_adds(text, "}");
}

static void add_failures(struct api_text *text, const struct storm_stats *stats, storm_db *db)
{
    char last[512];
    storm_last_error(db, last, sizeof last);
    api_text_addf(text, ",\"errors\":{\"count\":%llu", (unsigned long long)stats->errors);
    add_count(text, "corruptions", stats->corruptions);
    api_text_adds(text, ",\"last\":");
    if (last[0] == '\0')
        api_text_adds(text, "null");
    else
        api_text_add_json(text, storm_text(last));
    api_text_adds(text, "}");
}

enum MHD_Result api_stats(struct api_request *request)
{
    const struct api_server *server = request->server;
    storm_db *db = api_kv_store(request);
    struct storm_stats stats;
    storm_status status = storm_stats_read(db, &stats);
    if (status != STORM_OK)
        return api_fail_store(request, status);
    struct api_text text;
    api_text_init(&text, STATS_MAX);
    char time[API_RFC3339_MAX];
    api_text_adds(&text, "{");
    add_card(&text, &stats);
    api_text_addf(&text, ",\"version\":\"%s\",\"started_at\":\"%s\"", storm_version(),
                  api_format_rfc3339(time, server->started_ms));
    uint64_t now = api_now_ms();
    add_count(&text, "uptime_seconds",
              now > server->started_ms ? (now - server->started_ms) / 1000 : 0);
    add_count(&text, "revision", stats.revision);
    api_text_addf(&text, ",\"read_only\":%s", stats.read_only ? "true" : "false");
    add_count(&text, "keys_estimate", stats.entries_estimate);
    add_store(&text, &stats);
    add_reads(&text, &stats, server->config->table_bloom_bits);
    add_memory(&text, &stats);
    add_writes(&text, &stats);
    add_http(&text, &server->metrics);
    uint64_t data_bytes = stats.sstable_bytes + stats.log_bytes;
    api_text_addf(&text, ",\"disk\":{\"data_bytes\":%llu", (unsigned long long)data_bytes);
    add_count(&text, "free_bytes", stats.disk_free_bytes);
    add_count(&text, "kept_bytes", stats.disk_kept_bytes);
    api_text_adds(&text, "}");
    add_failures(&text, &stats, db);
    api_text_adds(&text, "}\n");
    return api_send_json(request, MHD_HTTP_OK, &text);
}
