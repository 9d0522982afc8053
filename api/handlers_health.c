/*
 * GET /healthz (the process answers) and GET /readyz (it can do its work), for supervisors and load
 * balancers, which read the status, and for people, who read the lines.
 */
#include <stdio.h>

#include "kv.h"
#include "response.h"
#include "router.h"

enum { HEALTH_MAX = 4096 };

enum MHD_Result api_healthz(struct api_request *request)
{
    struct api_answer answer =
        api_answer_static(MHD_HTTP_OK, storm_text("{\"status\":\"ok\"}\n"), "application/json");
    return api_send(request, &answer);
}

/* One line, or one member of "checks". */
struct check {
    const char *name;
    bool is_fine;
    char says[600];
};

enum { CHECKS = 3 };

static void check_engine(struct check *check, const struct api_request *request)
{
    int state = atomic_load_explicit(&request->server->state, memory_order_acquire);
    check->name = "engine";
    check->is_fine = state == API_SERVING;
    snprintf(check->says, sizeof check->says, "%s",
             state == API_STARTING   ? "starting"
             : state == API_DRAINING ? "shutting down"
                                     : "ok");
}

static void check_log(struct check *check, storm_db *db, const struct storm_stats *stats)
{
    check->name = "wal";
    check->is_fine = !stats->read_only;
    if (check->is_fine) {
        snprintf(check->says, sizeof check->says, "ok");
        return;
    }
    char last[512];
    storm_last_error(db, last, sizeof last);
    snprintf(check->says, sizeof check->says, "read-only: %s",
             last[0] == '\0' ? "opened so" : last);
}

static void check_disk(struct check *check, const struct storm_stats *stats)
{
    uint64_t kept = stats->disk_kept_bytes;
    unsigned long long free_mib = stats->disk_free_bytes >> 20;
    check->name = "disk";
    /* Reads go on, and writes are answered 507: a warning, and no refusal. */
    check->is_fine = true;
    if (stats->disk_free_bytes <= kept)
        snprintf(check->says, sizeof check->says,
                 "full: %llu MiB free, %llu MiB kept for flushes; writes are answered 507",
                 free_mib, (unsigned long long)(kept >> 20));
    else
        snprintf(check->says, sizeof check->says, "%s%llu MiB free",
                 stats->disk_free_bytes < 2 * kept ? "low: " : "", free_mib);
}

static size_t run_checks(struct check checks[CHECKS], const struct api_request *request)
{
    storm_db *db = api_kv_store(request);
    check_engine(&checks[0], request);
    struct storm_stats stats;
    if (db == NULL)
        return 1;
    storm_status status = storm_stats_read(db, &stats);
    if (status != STORM_OK) {
        checks[0].is_fine = false;
        snprintf(checks[0].says, sizeof checks[0].says, "%s", storm_status_text(status));
        return 1;
    }
    check_log(&checks[1], db, &stats);
    check_disk(&checks[2], &stats);
    return CHECKS;
}

static void add_json(struct api_text *text, const struct check *checks, size_t count, bool is_fine)
{
    api_text_addf(text, "{\"ready\":%s,\"checks\":{", is_fine ? "true" : "false");
    for (size_t i = 0; i < count; i++) {
        api_text_addf(text, "%s\"%s\":{\"ok\":%s,\"detail\":", i == 0 ? "" : ",", checks[i].name,
                      checks[i].is_fine ? "true" : "false");
        api_text_add_json(text, storm_text(checks[i].says));
        api_text_adds(text, "}");
    }
    api_text_adds(text, "}}\n");
}

enum MHD_Result api_readyz(struct api_request *request)
{
    struct check checks[CHECKS];
    size_t count = run_checks(checks, request);
    bool is_fine = true;
    for (size_t i = 0; i < count; i++)
        is_fine = is_fine && checks[i].is_fine;
    struct api_text text;
    api_text_init(&text, HEALTH_MAX);
    bool wants_json = api_accept_names(api_header(request, API_HEADER_ACCEPT), "application/json");
    if (wants_json) {
        add_json(&text, checks, count, is_fine);
    } else {
        for (size_t i = 0; i < count; i++) {
            api_text_addf(&text, "[%c]%s ", checks[i].is_fine ? '+' : '-', checks[i].name);
            api_text_adds(&text, checks[i].says);
            api_text_adds(&text, "\n");
        }
    }
    struct api_answer answer =
        api_answer_text(is_fine ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, &text,
                        wants_json ? "application/json" : "text/plain; charset=utf-8");
    return api_send(request, &answer);
}
