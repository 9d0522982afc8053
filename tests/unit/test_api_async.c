/*
 * Suspending and resuming: whichever side comes second resumes, exactly once. The library's two
 * functions are replaced by ones that count, and that hold up one side until the other is where the
 * test wants it.
 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "async.h"

enum order {
    FINISHED_BEFORE_SUSPENDED, /* but after the check that spares the suspension */
    FINISHED_AFTER_PARKED,
    AS_IT_COMES,
};

static struct {
    enum order order;
    atomic_int suspended;
    atomic_int resumed;
    int went_on;
    atomic_bool may_finish;
    struct api_request *request;
} scene;

void MHD_suspend_connection(struct MHD_Connection *connection)
{
    (void)connection;
    atomic_fetch_add(&scene.suspended, 1);
    atomic_store(&scene.may_finish, true);
    while (scene.order == FINISHED_BEFORE_SUSPENDED &&
           atomic_load(&scene.request->meeting) != API_MEETING_DONE)
        sched_yield();
}

void MHD_resume_connection(struct MHD_Connection *connection)
{
    (void)connection;
    atomic_fetch_add(&scene.resumed, 1);
}

static void work(struct api_request *request)
{
    while (scene.order == FINISHED_BEFORE_SUSPENDED && !atomic_load(&scene.may_finish))
        sched_yield();
    while (scene.order == FINISHED_AFTER_PARKED &&
           atomic_load(&request->meeting) != API_MEETING_PARKED)
        sched_yield();
    request->outcome = STORM_BUSY;
}

static enum MHD_Result go_on(struct api_request *request)
{
    assert_int_equal(request->outcome, STORM_BUSY);
    assert_int_equal(request->stage, API_STAGE_READY);
    scene.went_on++;
    return MHD_YES;
}

/* Hand one step over, and once it was resumed do what the library does: call again. */
static void run_once(struct api_server *server, enum order order)
{
    struct api_request request;
    api_request_init(&request, server);
    memset(&scene, 0, sizeof scene);
    scene.order = order;
    scene.request = &request;
    request.stage = API_STAGE_READY;
    assert_int_equal(api_hand_to_worker(&request, work, go_on), MHD_YES);
    if (atomic_load(&scene.suspended) != 0) {
        while (atomic_load(&scene.resumed) == 0)
            sched_yield();
        assert_int_equal(request.stage, API_STAGE_WAITING);
        assert_int_equal(api_resumed(&request), MHD_YES);
    }
    assert_int_equal(scene.went_on, 1);
    assert_int_equal(atomic_load(&scene.suspended), atomic_load(&scene.resumed));
    api_request_fini(&request);
}

static void a_step_that_ends_before_the_suspension_is_resumed_once(void **state)
{
    for (int i = 0; i < 200; i++)
        run_once(*state, FINISHED_BEFORE_SUSPENDED);
}

static void a_step_that_ends_after_the_suspension_is_resumed_once(void **state)
{
    for (int i = 0; i < 200; i++)
        run_once(*state, FINISHED_AFTER_PARKED);
}

static void no_step_is_lost_or_resumed_twice(void **state)
{
    for (int i = 0; i < 5000; i++)
        run_once(*state, AS_IT_COMES);
}

static int start(void **state)
{
    static struct api_server server;
    *state = &server;
    return api_worker_start(&server.worker, &server);
}

static int stop(void **state)
{
    struct api_server *server = *state;
    api_worker_stop(&server->worker);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_that_ends_before_the_suspension_is_resumed_once),
        cmocka_unit_test(a_step_that_ends_after_the_suspension_is_resumed_once),
        cmocka_unit_test(no_step_is_lost_or_resumed_twice),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
