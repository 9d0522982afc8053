/*
 * Suspending and resuming. See async.h.
 *
 * Two threads meet over request->meeting: the HTTP thread, which submits the step and then suspends
 * the connection, and the thread that finishes the step, perhaps before the suspension.
 *
 *   HTTP thread                              finishing thread
 *   meeting = RUNNING
 *   submit ------------------------------->  write outcome and revision
 *   DONE already? go on, no suspension
 *   suspend the connection
 *   was = exchange(PARKED)                   was = exchange(DONE)
 *   was DONE?   resume it ourselves          was PARKED?  resume it
 *
 * Exactly one of the two exchanges comes second, and that side resumes: never none, never both.
 * acq_rel on both makes the outcome visible to whoever goes on. After its exchange the finishing
 * thread touches nothing of the request but the connection, and that only if it is the one to
 * resume.
 */
#include "async.h"

static void finish(struct api_request *request)
{
    struct MHD_Connection *connection = request->connection;
    int was = atomic_exchange_explicit(&request->meeting, API_MEETING_DONE, memory_order_acq_rel);
    if (was == API_MEETING_PARKED)
        MHD_resume_connection(connection);
}

static enum MHD_Result go_on(struct api_request *request)
{
    request->stage = API_STAGE_READY;
    return request->then(request);
}

static enum MHD_Result park(struct api_request *request)
{
    if (atomic_load_explicit(&request->meeting, memory_order_acquire) == API_MEETING_DONE)
        return go_on(request);
    request->stage = API_STAGE_WAITING;
    struct MHD_Connection *connection = request->connection;
    MHD_suspend_connection(connection);
    int was = atomic_exchange_explicit(&request->meeting, API_MEETING_PARKED, memory_order_acq_rel);
    if (was == API_MEETING_DONE) {
        /* The exchange above took the DONE away; put it back for api_resumed. */
        atomic_store_explicit(&request->meeting, API_MEETING_DONE, memory_order_relaxed);
        MHD_resume_connection(connection);
    }
    return MHD_YES;
}

enum MHD_Result api_resumed(struct api_request *request)
{
    if (atomic_load_explicit(&request->meeting, memory_order_acquire) != API_MEETING_DONE)
        return MHD_YES;
    return go_on(request);
}

void api_wait_begin(struct api_request *request, api_handler then)
{
    request->then = then;
    atomic_store_explicit(&request->meeting, API_MEETING_RUNNING, memory_order_relaxed);
}

enum MHD_Result api_wait(struct api_request *request)
{
    return park(request);
}

void api_wait_over(struct api_request *request)
{
    finish(request);
}

/* Called by the store, on a thread that other commits wait for. */
static void on_committed(void *ctx, storm_status status, uint64_t revision)
{
    struct api_request *request = ctx;
    request->outcome = status;
    request->revision = revision;
    finish(request);
}

enum MHD_Result api_commit(struct api_request *request, enum storm_sync sync, api_handler then)
{
    storm_db *db = atomic_load_explicit(&request->server->db, memory_order_acquire);
    struct storm_write_options options = {.sync = sync};
    uint64_t revision = 0;
    request->then = then;
    atomic_store_explicit(&request->meeting, API_MEETING_RUNNING, memory_order_relaxed);
    storm_status status =
        storm_write_async(db, request->batch, &options, on_committed, request, &revision);
    if (status == STORM_PENDING)
        return park(request);
    request->outcome = status;
    request->revision = revision;
    return go_on(request);
}

enum MHD_Result api_hand_to_worker(struct api_request *request,
                                   void (*work)(struct api_request *request), api_handler then)
{
    struct api_worker *worker = &request->server->worker;
    request->then = then;
    request->work = work;
    request->next_work = NULL;
    atomic_store_explicit(&request->meeting, API_MEETING_RUNNING, memory_order_relaxed);
    pthread_mutex_lock(&worker->mu);
    if (worker->last == NULL)
        worker->first = request;
    else
        worker->last->next_work = request;
    worker->last = request;
    pthread_cond_signal(&worker->has_work);
    pthread_mutex_unlock(&worker->mu);
    return park(request);
}

enum MHD_Result api_yield(struct api_request *request, api_handler then)
{
    /* Suspended and resumed at once: the library looks at everything else that is ready first. */
    request->then = then;
    atomic_store_explicit(&request->meeting, API_MEETING_DONE, memory_order_relaxed);
    request->stage = API_STAGE_WAITING;
    MHD_suspend_connection(request->connection);
    MHD_resume_connection(request->connection);
    return MHD_YES;
}

void api_flush_later(struct api_worker *worker)
{
    pthread_mutex_lock(&worker->mu);
    worker->wants_flush = true;
    pthread_cond_signal(&worker->has_work);
    pthread_mutex_unlock(&worker->mu);
}

/* Wait for work: a request, or NULL for a flush that nobody waits for. False = stop. */
static bool take_work(struct api_worker *worker, struct api_request **request)
{
    pthread_mutex_lock(&worker->mu);
    while (worker->first == NULL && !worker->wants_flush && !worker->is_stopping)
        pthread_cond_wait(&worker->has_work, &worker->mu);
    *request = worker->first;
    bool has_work = worker->first != NULL || worker->wants_flush;
    if (worker->first != NULL) {
        worker->first = worker->first->next_work;
        if (worker->first == NULL)
            worker->last = NULL;
    } else {
        worker->wants_flush = false;
    }
    pthread_mutex_unlock(&worker->mu);
    return has_work;
}

static void *run_worker(void *argument)
{
    struct api_server *server = argument;
    struct api_request *request;
    while (take_work(&server->worker, &request)) {
        if (request != NULL) {
            request->work(request);
            finish(request);
            continue;
        }
        struct storm_flush_result result;
        storm_db *db = atomic_load_explicit(&server->db, memory_order_acquire);
        /* Nobody waits for it; the store has recorded and logged what went wrong. */
        storm_status status = storm_flush(db, &result);
        (void)status;
    }
    return NULL;
}

int api_worker_start(struct api_worker *worker, struct api_server *server)
{
    pthread_mutex_init(&worker->mu, NULL);
    pthread_cond_init(&worker->has_work, NULL);
    worker->is_running = pthread_create(&worker->thread, NULL, run_worker, server) == 0;
    return worker->is_running ? 0 : -1;
}

void api_worker_stop(struct api_worker *worker)
{
    if (worker->is_running) {
        pthread_mutex_lock(&worker->mu);
        worker->is_stopping = true;
        pthread_cond_signal(&worker->has_work);
        pthread_mutex_unlock(&worker->mu);
        pthread_join(worker->thread, NULL);
        worker->is_running = false;
    }
    pthread_cond_destroy(&worker->has_work);
    pthread_mutex_destroy(&worker->mu);
}
