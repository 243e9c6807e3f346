/* Exchanges between buffers of the emulated device, over one rank and over ranks that are threads:
 * the same bits as on the CPU. */
#include "test_comm_device.h"

#include "emulator/emulator_control.h"
#include "rank_threads.h"

enum { NUM_CASES = 36 };

static const gdncp_dtype_t moved[] = {GDNCP_F32, GDNCP_BF16,    GDNCP_F16,    GDNCP_F64,
                                      GDNCP_I8,  GDNCP_I16,     GDNCP_I32,    GDNCP_I64,
                                      GDNCP_U8,  GDNCP_F8_E4M3, GDNCP_F8_E5M2};
enum { NUM_ADDED = 4, NUM_MOVED = sizeof moved / sizeof moved[0] };

static const char *run_once(device_run_t *run, gdncp_comm_t *comm)
{
    gdncp_stream_t stream = NULL;
    bool done = false;
    gdncp_status_t status = gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream);

    if (status == GDNCP_OK) {
        status = open_run(run, comm, stream);
    }
    if (status == GDNCP_OK) {
        status = start_run(run);
    }
    if (status == GDNCP_OK) {
        status = gdncp_exchange_test(run->exchange, &done);
    }
    if (status == GDNCP_OK) {
        status = gdncp_exchange_wait(run->exchange);
    }
    if (status == GDNCP_OK) {
        status = download_run(run);
    }
    if (status == GDNCP_OK) {
        status = gdncp_exchange_check(run->exchange);
    }
    close_run(run);
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
    if (status != GDNCP_OK) {
        return gdncp_last_error();
    }
    return done ? NULL : "a run that is queued is not done";
}

static void run_thread(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    device_case_t *const test = context;
    const int rank = gdncp_comm_rank(comm);
    gdncp_comm_counters_t counters;
    const char *found;

    gdncp_comm_reset_counters(comm);
    found = run_once(&test->runs[rank], comm);
    gdncp_comm_counters(comm, &counters);
    if (found == NULL && counters.bytes_sent != gdncp_plan_bytes_sent(test->plans[rank])) {
        found = "wrong number of bytes sent";
    }
    if (found == NULL && !is_expected(test, rank)) {
        found = "wrong output";
    }
    if (found != NULL) {
        snprintf(problem, size, "%s", found);
    }
}

static void device_moves_what_plans_say(void **state)
{
    test_random_t random = test_random_start("exchanges on a device", 61);

    (void)state;
    for (int c = 0; c < NUM_CASES; c++) {
        const int num_ranks = c % 8 == 0 ? 1 : (int)test_random_int(&random, 2, MAX_RANKS);
        const int direction = c / NUM_PLAN_KINDS % 3;
        const int64_t num_dtypes = direction == 0 ? NUM_MOVED : NUM_ADDED;
        const gdncp_dtype_t dtype = moved[test_random_int(&random, 0, num_dtypes - 1)];
        device_case_t test =
            make_device_case(&random, c % NUM_PLAN_KINDS, num_ranks, dtype, direction);

        test_run_ranks(gdncp_plan_name(test.plans[0]), num_ranks, run_thread, &test);
        end_device_case(&test);
    }
}

/* Also: what lies in the gaps of an output is left alone, whose rows are cleared one by one. */
static void outputs_may_be_inputs(void **state)
{
    static const int sizes[] = {1, 2, 4, TEST_MOST_DEVICE_RANKS};
    test_random_t random = test_random_start("in place on a device", 64);

    (void)state;
    for (int c = 0; c < NUM_CASES; c++) {
        const int num_ranks = sizes[c / NUM_PLAN_KINDS % 4];
        const bool is_batch = c / NUM_PLAN_KINDS % 3 > 0;
        const gdncp_dtype_t dtype =
            moved[test_random_int(&random, 0, (is_batch ? NUM_MOVED : NUM_ADDED) - 1)];
        const bool in_place = test_random_int(&random, 0, 2) > 0;
        device_case_t test = make_device_case_of(&random, is_batch ? batch_plan : random_plan,
                                                 in_place, c % NUM_PLAN_KINDS, num_ranks, dtype,
                                                 (int)test_random_int(&random, 0, 1));

        test_run_ranks(gdncp_plan_name(test.plans[0]), num_ranks, run_thread, &test);
        end_device_case(&test);
    }
}

/* An all-gather of rows of any width, or its transpose. */
static device_case_t make_rows(test_random_t *random, gdncp_dtype_t dtype, int64_t inner,
                               bool transposed)
{
    static const int64_t lengths[3] = {4, 1, 2};
    const size_t size = gdncp_dtype_size(dtype);
    device_case_t test = {.num_ranks = 3};

    for (int rank = 0; rank < 3; rank++) {
        gdncp_plan_t *plan = NULL;

        assert_int_equal(
            gdncp_plan_all_gather_concat(3, rank, dtype, 5, lengths, inner, &test.plans[rank]),
            GDNCP_OK);
        if (transposed) {
            assert_int_equal(gdncp_plan_transpose(test.plans[rank], GDNCP_PLAN_ASSIGN, &plan),
                             GDNCP_OK);
            gdncp_plan_destroy(test.plans[rank]);
            test.plans[rank] = plan;
        }
        plan = test.plans[rank];
        test.ins[rank] = test_alloc(plan->input_elements, size);
        fill_values(random, dtype, plan->input_elements, test.ins[rank]);
        test.expected[rank] = test_alloc(plan->output_elements, size);
        test.runs[rank] = (device_run_t){
            .plan = plan, .in = test.ins[rank], .out = test_alloc(plan->output_elements, size)};
        memset(test.runs[rank].out, 0xff, (size_t)plan->output_elements * size);
    }
    for (int rank = 0; rank < 3; rank++) {
        run_rank(test.plans, rank, test.ins, test.expected[rank]);
    }
    return test;
}

/* Rows of all widths, with gaps that keep their begins aligned less than their lengths are; runs of
 * more than a tile, and of no multiple of what a lane moves. */
static void blocks_of_all_widths_are_cut(void **state)
{
    static const int64_t inners[] = {1, 4, 24, 3000, 5003};
    test_random_t random = test_random_start("blocks of all widths", 62);

    (void)state;
    for (int d = 0; d < NUM_ADDED; d++) {
        for (int i = 0; i < 5; i++) {
            for (int transposed = 0; transposed < 2; transposed++) {
                device_case_t test = make_rows(&random, moved[d], inners[i], transposed);

                emulator_reset_counts();
                test_run_ranks("blocks of all widths", 3, run_thread, &test);
                /* One that copies my own blocks and one that unpacks; or one that packs and one
                 * that adds, as what belongs to a sum is not copied before. */
                assert_int_equal(emulator_counts().kernels, 3 * 2);
                end_device_case(&test);
            }
        }
    }
}

typedef struct many_runs {
    device_case_t *cases; /* [NUM_PLAN_KINDS] */
    int num_runs;
} many_runs_t;

/* All kinds in flight at once in one stream, again and again; nothing waits in between. */
static void run_many(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    const many_runs_t *const many = context;
    const int rank = gdncp_comm_rank(comm);
    gdncp_stream_t stream = NULL;
    gdncp_status_t status = gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream);

    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        status = open_run(&many->cases[k].runs[rank], comm, stream);
    }
    for (int r = 0; r < many->num_runs && status == GDNCP_OK; r++) {
        for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
            status = start_run(&many->cases[k].runs[rank]);
        }
        for (int k = NUM_PLAN_KINDS - 1; k >= 0 && status == GDNCP_OK; k--) {
            status = gdncp_exchange_wait(many->cases[k].runs[rank].exchange);
        }
    }
    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        status = download_run(&many->cases[k].runs[rank]);
        if (status == GDNCP_OK && !is_expected(&many->cases[k], rank)) {
            snprintf(problem, size, "wrong output of plan %d", k);
        }
    }
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    }
    gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, stream);
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        close_run(&many->cases[k].runs[rank]);
    }
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
}

static void exchanges_follow_each_other_in_a_stream(void **state)
{
    enum { NUM_RANKS = 3 };
    test_random_t random = test_random_start("device runs in a row", 63);
    device_case_t cases[NUM_PLAN_KINDS];

    (void)state;
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        cases[k] = make_device_case(&random, k, NUM_RANKS, GDNCP_BF16, k % 2);
    }
    test_run_ranks("runs in a row", NUM_RANKS, run_many,
                   &(many_runs_t){.cases = cases, .num_runs = 5});
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        end_device_case(&cases[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_moves_what_plans_say),
        cmocka_unit_test(outputs_may_be_inputs),
        cmocka_unit_test(blocks_of_all_widths_are_cut),
        cmocka_unit_test(exchanges_follow_each_other_in_a_stream),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("exchanges on a device", tests, NULL, NULL);
}
