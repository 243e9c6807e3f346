/* Exchanges between buffers of the emulated device over UCX, in processes, each of the ways that
 * these take; and a process that dies, or that is late.
 */
#include "test_comm_device.h"

#include <time.h>
#include <unistd.h>

#include "backend.h"
#include "emulator/emulator_control.h"
#include "forked_ranks.h"
#include "test_comm_device_ways.h"

enum { NUM_CASES = 12, LATE_MS = 400 };

typedef struct ways_case {
    way_t way;
    test_random_t random;
} ways_case_t;

static gdncp_comm_t *create(const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms, way_t way)
{
    const gdncp_comm_options_t options = {.timeout_ms = timeout_ms};
    gdncp_comm_t *comm = NULL;

    choose_way(way, bootstrap->rank);
    if (gdncp_comm_create(bootstrap, &options, &comm) != GDNCP_OK) {
        printf("rank %d: %s\n", bootstrap->rank, gdncp_last_error());
        fflush(stdout);
        _exit(98);
    }
    if (!is_on_way(comm, way)) {
        printf("rank %d: not on way %d: %s\n", bootstrap->rank, (int)way, gdncp_last_error());
        fflush(stdout);
        _exit(97);
    }
    return comm;
}

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
    gdncp_comm_t *const comm = create(bootstrap, 60000, ways->way);
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

/* The others are told who is gone, by the stream's callback and long before the time-out. */
static int lost_peer_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    static const int64_t lengths[3] = {2, 2, 2};
    gdncp_comm_t *const comm = create(bootstrap, 60000, ((const ways_case_t *)context)->way);
    float in[2 * 4] = {0};
    float out[6 * 4];
    gdncp_plan_t *plan = NULL;
    gdncp_stream_t stream = NULL;
    device_run_t run = {.in = in, .out = out};

    if (gdncp_plan_all_gather_concat(3, bootstrap->rank, GDNCP_F32, 1, lengths, 4, &plan) ||
        gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream)) {
        return 1;
    }
    run.plan = plan;
    if (open_run(&run, comm, stream) != GDNCP_OK) {
        return 2;
    }
    if (bootstrap->rank == 1) {
        _exit(0);
    }
    const gdncp_status_t started = start_run(&run);
    const gdncp_status_t drained = gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, stream);
    const gdncp_status_t checked = gdncp_exchange_check(run.exchange);

    if (started != GDNCP_OK || drained != GDNCP_OK || checked != GDNCP_ERR_PEER_LOST ||
        strstr(gdncp_last_error(), "rank 1") == NULL) {
        return 2 + say("lost peer", bootstrap->rank, checked);
    }
    close_run(&run);
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
    gdncp_comm_destroy(comm);
    gdncp_plan_destroy(plan);
    return 0;
}

static void lost_peer_is_told(void **state)
{
    ways_case_t ways = {0};

    (void)state;
    for (ways.way = 0; ways.way < NUM_WAYS; ways.way++) {
        assert_int_equal(run_forked(3, lost_peer_body, &ways), 0);
    }
}

static void sleep_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* Rank 0 gives up, and what rank 1 sends then still has a place to go: until the exchange ends, and
 * while the communicator is asked for other things. Blocks of rows, so that messages are packed. */
static int late_rank_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    enum { ROWS = 3000, SHARD = 8, OUT = 2 * SHARD * ROWS };
    static const int64_t lengths[2] = {SHARD, SHARD};
    static float in[ROWS * SHARD];
    static float out[OUT];
    gdncp_comm_t *const comm = create(bootstrap, LATE_MS, ((const ways_case_t *)context)->way);
    gdncp_plan_t *plan = NULL;
    gdncp_stream_t stream = NULL;
    device_run_t run = {.in = in, .out = out};

    if (gdncp_plan_all_gather_concat(2, bootstrap->rank, GDNCP_F32, ROWS, lengths, 1, &plan) ||
        gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream)) {
        return 1;
    }
    run.plan = plan;
    if (open_run(&run, comm, stream) != GDNCP_OK) {
        return 2;
    }
    if (bootstrap->rank == 1) {
        sleep_ms(2 * LATE_MS);
    }
    const gdncp_status_t started = start_run(&run);
    const gdncp_status_t drained = gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, stream);
    const gdncp_status_t checked = gdncp_exchange_check(run.exchange);

    if (started != GDNCP_OK || drained != GDNCP_OK ||
        (bootstrap->rank == 0 &&
         (checked != GDNCP_ERR_TIMEOUT || strstr(gdncp_last_error(), "rank 1") == NULL))) {
        return 2 + say("late rank", bootstrap->rank, checked);
    }
    if (bootstrap->rank == 0) {
        sleep_ms(2 * LATE_MS);
        gdncp_comm_barrier(comm);
    }
    close_run(&run);
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
    gdncp_comm_destroy(comm);
    gdncp_plan_destroy(plan);
    return 0;
}

static void late_rank_harms_nobody(void **state)
{
    ways_case_t ways = {0};

    (void)state;
    for (ways.way = 0; ways.way < NUM_WAYS; ways.way++) {
        assert_int_equal(run_forked(2, late_rank_body, &ways), 0);
    }
}

static int bad_variable_body(const gdncp_bootstrap_t *bootstrap, void *context)
{
    gdncp_comm_t *comm = NULL;

    (void)context;
    if (bootstrap->rank == 1) {
        setenv("GDNCP_UCX_CUDA", "yes", 1);
    }
    const gdncp_status_t status = gdncp_comm_create(bootstrap, NULL, &comm);

    return status != (bootstrap->rank == 1 ? GDNCP_ERR_INVALID_ARGUMENT : GDNCP_ERR_PEER_LOST) ||
           strstr(gdncp_last_error(), "GDNCP_UCX_CUDA: expected an integer in 0..1, got \"yes\"") ==
               NULL;
}

static void bad_variable_fails_everywhere(void **state)
{
    (void)state;
    assert_int_equal(run_forked(3, bad_variable_body, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_moves_what_plans_say),
        cmocka_unit_test(lost_peer_is_told),
        cmocka_unit_test(late_rank_harms_nobody),
        cmocka_unit_test(bad_variable_fails_everywhere),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("exchanges on a device over UCX", tests, NULL, NULL);
}
