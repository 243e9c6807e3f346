/* Exchanges between buffers of the emulated device over UCX, in processes, on each of the ways that
 * messages take. */
#include "test_comm_device.h"

#include "backend.h"
#include "emulator/emulator_control.h"
#include "forked_ranks.h"
#include "test_comm_device_ways.h"

enum { NUM_CASES = 12 };

typedef struct ways_case {
    way_t way;
    test_random_t random;
} ways_case_t;

/* Messages of one run, and those of them that lie whole in the user's buffers. */
static int64_t count_messages(const gdncp_plan_t *plan, int64_t *whole_p)
{
    int64_t count = 0;

    *whole_p = 0;
    for (int64_t m = 0; m < plan->num_messages; m++) {
        const gdncp_message_t *const message = &plan->messages[m];

        count += (message->send_bytes > 0) + (message->recv_bytes > 0);
        *whole_p += message->send_bytes > 0 && gdncp_plan_sends_in_place(plan, message->peer);
        *whole_p += message->recv_bytes > 0 && gdncp_plan_receives_in_place(plan, message->peer);
    }
    return count;
}

/* What has been copied in two runs: all where it is staged, else what is whole in users' buffers.
 */
static bool has_copied_enough(const gdncp_plan_t *plan, bool direct, int64_t copies)
{
    int64_t whole;
    const int64_t count = count_messages(plan, &whole);

    return direct ? copies <= 2 * whole && (copies > 0) == (whole > 0)
                  : copies <= 2 * count && (copies > 0) == (count > 0);
}

static int say(const char *what, int rank, gdncp_status_t status)
{
    printf("%s, rank %d: %s\n", what, rank,
           status == GDNCP_OK ? "wrong output" : gdncp_last_error());
    fflush(stdout);
    return 1;
}

static gdncp_status_t queue_run(const device_run_t *run)
{
    const gdncp_status_t status = start_run(run);

    return status == GDNCP_OK ? gdncp_exchange_wait(run->exchange) : status;
}

static gdncp_status_t capture_run(const device_run_t *run, const gdncp_backend_t *backend,
                                  void **graph_p)
{
    gdncp_status_t status = backend->capture_begin(run->stream);

    if (status == GDNCP_OK) {
        status = queue_run(run);
    }
    return status == GDNCP_OK ? backend->capture_end(run->stream, graph_p) : status;
}

/* A run that is queued, then one that was captured. */
static gdncp_status_t run_twice(const device_run_t *run)
{
    const gdncp_backend_t *backend;
    void *graph = NULL;
    gdncp_status_t status = queue_run(run);

    if (status == GDNCP_OK) {
        status = gdncp_backend_find(&backend);
    }
    if (status == GDNCP_OK) {
        status = capture_run(run, backend, &graph);
    }
    if (status == GDNCP_OK) {
        status = backend->graph_launch(graph, run->stream);
    }
    if (graph != NULL) {
        backend->graph_destroy(graph);
    }
    return status;
}

/* One stream, two runs of every case, nothing that waits in between. */
static int exchange_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    const ways_case_t *const ways = context;
    test_random_t random = ways->random;
    gdncp_comm_t *const comm = create_on_way(bootstrap, 60000, ways->way);
    gdncp_stream_t stream = NULL;
    gdncp_status_t status = gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream);
    int num_failures = 0;

    for (int c = 0; c < NUM_CASES && status == GDNCP_OK; c++) {
        device_case_t test = make_device_case(&random, c % NUM_PLAN_KINDS, bootstrap->size,
                                              c % 2 == 0 ? GDNCP_BF16 : GDNCP_F32, c % 2);
        device_run_t *const run = &test.runs[bootstrap->rank];

        status = open_run(run, comm, stream);
        emulator_reset_counts();
        if (status == GDNCP_OK) {
            status = run_twice(run);
        }
        const int64_t copies = emulator_counts().copies;

        if (status == GDNCP_OK) {
            status = download_run(run);
        }
        if (status == GDNCP_OK) {
            status = gdncp_exchange_check(run->exchange);
        }
        if (status != GDNCP_OK || !is_expected(&test, bootstrap->rank)) {
            num_failures += say(gdncp_plan_name(run->plan), bootstrap->rank, status);
        }
        if (!has_copied_enough(run->plan, goes_direct(ways->way, bootstrap->rank), copies)) {
            printf("%s, rank %d: %lld copies\n", gdncp_plan_name(run->plan), bootstrap->rank,
                   (long long)copies);
            num_failures++;
        }
        close_run(run);
        end_device_case(&test);
    }
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
    gdncp_comm_destroy(comm);
    return num_failures;
}

static void device_moves_what_plans_say(void **state)
{
    ways_case_t ways = {.random = test_random_start("exchanges on a device over UCX", 81)};

    (void)state;
    for (ways.way = 0; ways.way < NUM_WAYS; ways.way++) {
        for (int size = 2; size <= 4; size += 2) {
            assert_int_equal(run_forked(size, exchange_body, &ways), 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_moves_what_plans_say),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("exchanges on a device over UCX", tests, NULL, NULL);
}
