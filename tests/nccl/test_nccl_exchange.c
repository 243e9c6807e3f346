/* What exchanges ask of NCCL: which calls, in which groups and streams, and nothing of the host. */
#include "test_comm_device.h"

#include "emulator_control.h"
#include "over_nccl.h"

enum { NUM_RANKS = 3 };

/* One run of each kind of plan, with what it queues counted. */
typedef struct counted_case {
    device_case_t kinds[NUM_PLAN_KINDS];
    const nccl_stand_in_t *stand_in;
    int first_record; /* of the runs */
    emulator_work_t work;
    gdncp_stream_t streams[NUM_RANKS];
} counted_case_t;

static void run_counted(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    counted_case_t *const test = context;
    const int rank = gdncp_comm_rank(comm);
    gdncp_stream_t stream = NULL;
    gdncp_status_t status = gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream);

    test->streams[rank] = stream;
    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        status = open_run(&test->kinds[k].runs[rank], comm, stream);
    }
    status = gdncp_comm_agree(comm, status);
    if (rank == 0) {
        emulator_reset_counts();
        test->first_record = test->stand_in->num_records;
    }
    status = gdncp_comm_agree(comm, status);
    emulator_forbid(true);
    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        status = start_run(&test->kinds[k].runs[rank]);
        if (status == GDNCP_OK) {
            status = gdncp_exchange_wait(test->kinds[k].runs[rank].exchange);
        }
    }
    emulator_forbid(false);
    status = gdncp_comm_agree(comm, status);
    if (rank == 0) {
        test->work = emulator_counts();
    }
    status = gdncp_comm_agree(comm, status);
    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        status = download_run(&test->kinds[k].runs[rank]);
        if (status == GDNCP_OK && !is_expected(&test->kinds[k], rank)) {
            snprintf(problem, size, "wrong output of plan %d", k);
        }
    }
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    }
    gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, stream);
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        close_run(&test->kinds[k].runs[rank]);
    }
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
}

/* Messages of a rank to and from a peer in a run of all kinds, as the plans have them. */
static int64_t count_messages(const counted_case_t *test, int rank, bool sends, int64_t *bytes_p)
{
    int64_t count = 0;

    *bytes_p = 0;
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        const gdncp_plan_t *const plan = test->kinds[k].plans[rank];

        for (int64_t m = 0; m < plan->num_messages; m++) {
            const int64_t bytes =
                sends ? plan->messages[m].send_bytes : plan->messages[m].recv_bytes;

            count += bytes > 0;
            *bytes_p += bytes;
        }
    }
    return count;
}

static void check_records(const counted_case_t *test, int rank)
{
    const nccl_stand_in_t *const stand_in = test->stand_in;
    int64_t counts[2] = {0};
    int64_t bytes[2] = {0};

    for (int r = test->first_record; r < stand_in->num_records; r++) {
        const nccl_record_t *const record = &stand_in->records[r];
        const bool sends = strcmp(record->call, "ncclSend") == 0;

        if (record->rank != rank || (!sends && strcmp(record->call, "ncclRecv") != 0)) {
            continue;
        }
        assert_int_equal(record->depth, 1);
        assert_ptr_equal(record->stream, test->streams[rank]);
        assert_int_not_equal(record->peer, rank);
        counts[sends]++;
        bytes[sends] += (int64_t)record->bytes;
    }
    for (int sends = 0; sends < 2; sends++) {
        int64_t expected;

        assert_int_equal(counts[sends], count_messages(test, rank, sends, &expected));
        assert_int_equal(bytes[sends], expected);
    }
}

/* No pinned memory, no callback, no copy, no wait and no allocation; one group a run. */
static void runs_go_from_device_to_device(void **state)
{
    static counted_case_t test;
    test_random_t random = test_random_start("exchanges over NCCL", 801);
    int64_t num_groups = 0;

    (void)state;
    test = (counted_case_t){.stand_in = test_nccl_stand_in()};
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        test.kinds[k] = make_device_case(&random, k, NUM_RANKS, GDNCP_BF16, k % 2);
        for (int rank = 0; rank < NUM_RANKS; rank++) {
            num_groups += test.kinds[k].plans[rank]->num_messages > 0;
        }
    }
    test_run_ranks_over_nccl("counted", NUM_RANKS, run_counted, &test);
    assert_int_equal(test.work.copies, 0);
    assert_int_equal(test.work.host_calls, 0);
    assert_int_equal(test.work.allocations, 0);
    assert_int_equal(test.work.waits, 0);
    assert_int_equal(test.work.peer_work, num_groups);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        check_records(&test, rank);
    }
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        end_device_case(&test.kinds[k]);
    }
}

/* An all-gather, run once. */
typedef struct gather_case {
    int64_t outer;
    int64_t lengths[NUM_RANKS];
    bool transposed;
    emulator_work_t work;
    int64_t bytes_sent;
} gather_case_t;

static gdncp_status_t make_gather(const gather_case_t *test, int rank, gdncp_plan_t **plan_p)
{
    gdncp_plan_t *plan = NULL;
    gdncp_status_t status = gdncp_plan_all_gather_concat(NUM_RANKS, rank, GDNCP_F32, test->outer,
                                                         test->lengths, 7, &plan);

    if (status != GDNCP_OK || !test->transposed) {
        *plan_p = plan;
        return status;
    }
    status = gdncp_plan_transpose(plan, GDNCP_PLAN_ASSIGN, plan_p);
    gdncp_plan_destroy(plan);
    return status;
}

/* Element e of rank r is 100 r + e. */
static const char *check_gathered(const gather_case_t *test, int rank, const float *out)
{
    const int64_t row = (test->lengths[0] + test->lengths[1] + test->lengths[2]) * 7;
    int64_t column = 0;

    for (int source = 0; source < NUM_RANKS && !test->transposed; source++) {
        const int64_t width = test->lengths[source] * 7;

        for (int64_t i = 0; i < test->outer * width; i++) {
            if (!(out[i / width * row + column + i % width] == (float)(100 * source + i))) {
                return "wrong gathered elements";
            }
        }
        column += width;
    }
    for (int64_t i = 0; i < test->lengths[rank] * 7 && test->transposed; i++) {
        /* Each rank gives its own elements of this place. */
        float sum = 0.0f;
        for (int source = 0; source < NUM_RANKS; source++) {
            int64_t begin = 0;
            for (int before = 0; before < rank; before++) {
                begin += test->lengths[before] * 7;
            }
            sum += (float)(100 * source + begin + i);
        }
        if (!(out[i] == sum)) {
            return "wrong sums";
        }
    }
    return NULL;
}

static void run_gather(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    gather_case_t *const test = context;
    const int rank = gdncp_comm_rank(comm);
    float in[2 * 12 * 7];
    float out[2 * 12 * 7];
    device_run_t run = {.in = in, .out = out};
    gdncp_plan_t *plan = NULL;
    gdncp_comm_counters_t counters;
    const char *found = NULL;
    gdncp_status_t status = make_gather(test, rank, &plan);

    for (int i = 0; i < 2 * 12 * 7; i++) {
        in[i] = (float)(100 * rank + i);
        out[i] = NAN;
    }
    run.plan = plan;
    status = gdncp_comm_agree(comm, status);
    if (status == GDNCP_OK) {
        status = open_run(&run, comm, NULL);
    }
    status = gdncp_comm_agree(comm, status);
    if (rank == 0) {
        emulator_reset_counts();
    }
    status = gdncp_comm_agree(comm, status);
    gdncp_comm_reset_counters(comm);
    if (status == GDNCP_OK) {
        status = start_run(&run);
    }
    gdncp_comm_counters(comm, &counters);
    status = gdncp_comm_agree(comm, status);
    if (rank == 0) {
        test->work = emulator_counts();
        test->bytes_sent = counters.bytes_sent;
    }
    status = gdncp_comm_agree(comm, status);
    if (status == GDNCP_OK) {
        status = download_run(&run);
    }
    if (status == GDNCP_OK) {
        found = check_gathered(test, rank, out);
    }
    close_run(&run);
    gdncp_plan_destroy(plan);
    if (status != GDNCP_OK || found != NULL) {
        snprintf(problem, size, "%s", found != NULL ? found : gdncp_last_error());
    }
}

/* Equal shards that lie whole on both sides are one call, and one more to connect; others are
 * messages. */
static void even_all_gathers_are_one_call(void **state)
{
    static const struct {
        gather_case_t test;
        bool is_one_call;
    } cases[] = {
        {{.outer = 1, .lengths = {4, 4, 4}}, true},
        {{.outer = 1, .lengths = {4, 3, 4}}, false},
        {{.outer = 1, .lengths = {4, 4, 3}}, false},
        {{.outer = 2, .lengths = {4, 4, 4}}, false},
        {{.outer = 1, .lengths = {4, 4, 4}, .transposed = true}, false},
    };

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const nccl_stand_in_t *const stand_in = test_nccl_stand_in();
        gather_case_t test = cases[c].test;

        test_run_ranks_over_nccl("all-gather", NUM_RANKS, run_gather, &test);
        assert_int_equal(stand_in->num_gathers, cases[c].is_one_call ? 2 * NUM_RANKS : 0);
        if (cases[c].is_one_call) {
            assert_int_equal(test.work.kernels, 0);
            assert_int_equal(test.work.peer_work, NUM_RANKS);
        }
        if (!test.transposed) {
            assert_int_equal(test.bytes_sent, 2 * test.outer * test.lengths[0] * 7 * 4);
        }
    }
}

/* Makes the same exchange twice and runs neither. */
static void make_twice(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    const gather_case_t test = {.outer = 1, .lengths = {1, 2, 3}};
    const nccl_stand_in_t *const stand_in = context;
    gdncp_exchange_t *exchanges[2] = {NULL};
    gdncp_plan_t *plan = NULL;
    int num_records[2] = {0};
    gdncp_status_t status = make_gather(&test, gdncp_comm_rank(comm), &plan);

    for (int i = 0; i < 2 && status == GDNCP_OK; i++) {
        status = gdncp_exchange_create_on(comm, plan, GDNCP_DEVICE_CUDA, &exchanges[i]);
        if (status == GDNCP_OK) {
            status = gdncp_comm_barrier(comm);
        }
        num_records[i] = stand_in->num_records;
        if (status == GDNCP_OK) {
            status = gdncp_comm_barrier(comm);
        }
    }
    for (int i = 0; i < 2; i++) {
        gdncp_exchange_destroy(exchanges[i]);
    }
    gdncp_plan_destroy(plan);
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    } else if (num_records[0] != NUM_RANKS * (2 + 2 * (NUM_RANKS - 1))) {
        snprintf(problem, size, "%d calls to connect", num_records[0]);
    } else if (num_records[1] != num_records[0]) {
        snprintf(problem, size, "%d calls to connect again", num_records[1] - num_records[0]);
    }
}

/* One byte each way to each peer of a plan, once for all exchanges. */
static void connections_are_made_with_exchanges(void **state)
{
    nccl_stand_in_t *const stand_in = test_nccl_stand_in();

    (void)state;
    test_run_ranks_over_nccl("connections", NUM_RANKS, make_twice, stand_in);
    for (int r = 0; r < stand_in->num_records; r++) {
        assert_true(stand_in->records[r].bytes <= 1);
    }
}

/* The host's memory does not go over NCCL. */
static void run_on_cpu(void *context, gdncp_comm_t *comm, char *problem, size_t size)
{
    const gather_case_t test = {.outer = 1, .lengths = {2, 2, 2}};
    const int rank = gdncp_comm_rank(comm);
    gdncp_exchange_t *exchange = NULL;
    gdncp_plan_t *plan = NULL;
    char lanes[128] = "";
    float in[14];
    float out[42];
    gdncp_status_t status = make_gather(&test, rank, &plan);

    (void)context;
    for (int i = 0; i < 14; i++) {
        in[i] = (float)(100 * rank + i);
    }
    memset(out, 0xff, sizeof out);
    if (status == GDNCP_OK) {
        status = gdncp_exchange_create(comm, plan, &exchange);
    }
    if (status == GDNCP_OK) {
        status = gdncp_exchange_run(exchange, in, out, NULL);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_describe_lanes(comm, (rank + 1) % NUM_RANKS, lanes, sizeof lanes);
    }
    if (status != GDNCP_OK) {
        snprintf(problem, size, "%s", gdncp_last_error());
    } else if (check_gathered(&test, rank, out) != NULL) {
        snprintf(problem, size, "wrong output");
    } else if (strstr(lanes, "nccl 2.28.9") == NULL || strstr(lanes, "memcpy") == NULL) {
        snprintf(problem, size, "lanes: %s", lanes);
    }
    gdncp_exchange_destroy(exchange);
    gdncp_plan_destroy(plan);
}

static void host_memory_takes_the_other_transport(void **state)
{
    const nccl_stand_in_t *const stand_in = test_nccl_stand_in();

    (void)state;
    test_run_ranks_over_nccl("host memory", NUM_RANKS, run_on_cpu, NULL);
    assert_int_equal(stand_in->num_records, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_go_from_device_to_device),
        cmocka_unit_test(even_all_gathers_are_one_call),
        cmocka_unit_test(connections_are_made_with_exchanges),
        cmocka_unit_test(host_memory_takes_the_other_transport),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("exchanges over NCCL", tests, NULL, NULL);
}
