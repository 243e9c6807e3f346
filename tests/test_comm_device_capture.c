/* What a run on the emulated device may not do, so that it can be recorded; and exchanges that are
 * recorded once and replayed, on one rank and on two. */
#include "test_comm_device.h"

#include "backend.h"
#include "emulator/emulator_control.h"
#include "gdncp/memory.h"
#include "rank_threads.h"

enum { NUM_REPLAYS = 3 };

/* All kinds of plans; replay r works on inputs[r], and must give outputs[r]. */
typedef struct capture_case {
    int num_ranks;
    bool is_recorded;
    device_case_t kinds[NUM_PLAN_KINDS];
    void *inputs[NUM_REPLAYS][NUM_PLAN_KINDS][MAX_RANKS];
    void *outputs[NUM_REPLAYS][NUM_PLAN_KINDS][MAX_RANKS];
} capture_case_t;

static gdncp_status_t queue_all(const capture_case_t *test, int rank)
{
    gdncp_status_t status = GDNCP_OK;

    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        status = start_run(&test->kinds[k].runs[rank]);
        if (status == GDNCP_OK) {
            status = gdncp_exchange_wait(test->kinds[k].runs[rank].exchange);
        }
    }
    return status;
}

/* Two runs in a row without an allocation or a wait of the host, and what they left queued. */
static gdncp_status_t run_under_guard(capture_case_t *test, int rank, gdncp_comm_t *comm,
                                      gdncp_stream_t stream, bool *is_right_p)
{
    gdncp_memory_usage_t usage = {0};
    gdncp_status_t status = GDNCP_OK;

    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        status = open_run(&test->kinds[k].runs[rank], comm, stream);
    }
    emulator_forbid(true);
    gdncp_memory_track(&usage);
    for (int i = 0; i < 2 && status == GDNCP_OK; i++) {
        status = queue_all(test, rank);
    }
    gdncp_memory_track(NULL);
    emulator_forbid(false);
    *is_right_p = usage.num_allocations == 0;
    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        status = download_run(&test->kinds[k].runs[rank]);
        *is_right_p = *is_right_p && is_expected(&test->kinds[k], rank);
    }
    return status;
}

/* Give the recorded exchanges other inputs and poisoned outputs, and run the record. */
static gdncp_status_t replay(capture_case_t *test, int rank, int index,
                             const gdncp_backend_t *backend, void *graph, gdncp_stream_t stream,
                             bool *is_right_p)
{
    gdncp_status_t status = GDNCP_OK;

    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        device_run_t *const run = &test->kinds[k].runs[rank];

        run->in = test->inputs[index][k][rank];
        memset(run->out, 0xff, run_bytes(run, run->plan->output_elements));
        status = upload_run(run);
    }
    if (status == GDNCP_OK) {
        status = backend->graph_launch(graph, stream);
    }
    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        device_run_t *const run = &test->kinds[k].runs[rank];

        status = download_run(run);
        *is_right_p = *is_right_p && memcmp(run->out, test->outputs[index][k][rank],
                                            run_bytes(run, run->plan->output_elements)) == 0;
    }
    return status;
}

static gdncp_status_t capture_and_replay(capture_case_t *test, int rank, gdncp_comm_t *comm,
                                         gdncp_stream_t stream, bool *is_right_p)
{
    const gdncp_backend_t *backend;
    void *graph = NULL;
    gdncp_status_t status = gdncp_backend_find(&backend);

    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        status = open_run(&test->kinds[k].runs[rank], comm, stream);
    }
    if (status == GDNCP_OK) {
        status = backend->capture_begin(stream);
    }
    if (status == GDNCP_OK) {
        status = queue_all(test, rank);
    }
    if (status == GDNCP_OK) {
        status = backend->capture_end(stream, &graph);
    }
    for (int r = 0; r < NUM_REPLAYS && status == GDNCP_OK; r++) {
        status = replay(test, rank, r, backend, graph, stream, is_right_p);
    }
    if (graph != NULL) {
        backend->graph_destroy(graph);
    }
    return status;
}

static void run_rank_thread(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    capture_case_t *const test = context;
    const int rank = gdncp_comm_rank(comm);
    gdncp_stream_t stream = NULL;
    bool is_right = true;
    gdncp_status_t status = gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream);

    if (status == GDNCP_OK) {
        status = test->is_recorded ? capture_and_replay(test, rank, comm, stream, &is_right)
                                   : run_under_guard(test, rank, comm, stream, &is_right);
    }
    if (status != GDNCP_OK || !is_right) {
        snprintf(problem, size, "%s", is_right ? gdncp_last_error() : "wrong output");
    }
    gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, stream);
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        close_run(&test->kinds[k].runs[rank]);
    }
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
}

static void prepare_replays(test_random_t *random, capture_case_t *test)
{
    for (int i = 0; i < NUM_REPLAYS * NUM_PLAN_KINDS; i++) {
        device_case_t *const kind = &test->kinds[i % NUM_PLAN_KINDS];
        void **const inputs = test->inputs[i / NUM_PLAN_KINDS][i % NUM_PLAN_KINDS];
        void **const outputs = test->outputs[i / NUM_PLAN_KINDS][i % NUM_PLAN_KINDS];

        for (int rank = 0; rank < test->num_ranks; rank++) {
            const gdncp_plan_t *const plan = kind->plans[rank];
            const size_t size = gdncp_dtype_size(plan->dtype);

            inputs[rank] = test_alloc(plan->input_elements, size);
            outputs[rank] = test_alloc(plan->output_elements, size);
            fill_values(random, plan->dtype, plan->input_elements, inputs[rank]);
        }
        for (int rank = 0; rank < test->num_ranks; rank++) {
            run_rank(kind->plans, rank, inputs, outputs[rank]);
        }
    }
}

static void end_replays(capture_case_t *test)
{
    for (int i = 0; i < NUM_REPLAYS * NUM_PLAN_KINDS; i++) {
        for (int rank = 0; rank < test->num_ranks; rank++) {
            free(test->inputs[i / NUM_PLAN_KINDS][i % NUM_PLAN_KINDS][rank]);
            free(test->outputs[i / NUM_PLAN_KINDS][i % NUM_PLAN_KINDS][rank]);
        }
    }
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        end_device_case(&test->kinds[k]);
    }
}

static void check_ranks(int num_ranks, bool is_recorded)
{
    test_random_t random = test_random_start("recorded exchanges", 90 + (uint64_t)num_ranks);
    capture_case_t test = {.num_ranks = num_ranks, .is_recorded = is_recorded};

    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        test.kinds[k] = make_device_case(&random, k, num_ranks, GDNCP_F32, k % 2);
    }
    prepare_replays(&random, &test);
    test_run_ranks("recorded exchanges", num_ranks, run_rank_thread, &test);
    end_replays(&test);
}

static void runs_neither_allocate_nor_wait(void **state)
{
    (void)state;
    check_ranks(1, false);
    check_ranks(2, false);
}

/* Nothing passes through the host where there is nobody else. */
static void one_rank_needs_no_staging(void **state)
{
    test_random_t random = test_random_start("one rank", 93);
    gdncp_comm_t *comm = NULL;

    (void)state;
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        device_case_t test = make_device_case(&random, k, 1, GDNCP_BF16, k % 2);

        assert_int_equal(open_run(&test.runs[0], comm, NULL), GDNCP_OK);
        emulator_reset_counts();
        assert_int_equal(start_run(&test.runs[0]), GDNCP_OK);
        const emulator_work_t work = emulator_counts();

        assert_in_range(work.kernels + work.clears, 1, 3);
        assert_int_equal(work.copies, 0);
        assert_int_equal(work.host_calls, 0);
        assert_int_equal(download_run(&test.runs[0]), GDNCP_OK);
        assert_true(is_expected(&test, 0));
        close_run(&test.runs[0]);
        end_device_case(&test);
    }
    gdncp_comm_destroy(comm);
}

static void one_rank_is_recorded(void **state)
{
    (void)state;
    check_ranks(1, true);
}

static void two_ranks_are_recorded(void **state)
{
    (void)state;
    check_ranks(2, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_neither_allocate_nor_wait),
        cmocka_unit_test(one_rank_needs_no_staging),
        cmocka_unit_test(one_rank_is_recorded),
        cmocka_unit_test(two_ranks_are_recorded),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("recorded exchanges on a device", tests, NULL, NULL);
}
