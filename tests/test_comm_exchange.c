/* Exchanges between ranks that are threads. */
#include "test_comm_plan_check.h"
#include "test_comm_plan_kinds.h"

#include <pthread.h>
#include <stdio.h>

#include "gdncp/comm.h"
#include "gdncp/exchange.h"
#include "gdncp/memory.h"
#include "gdncp/trace.h"

enum { NUM_CASES = 80, NUM_RUNS = 100 };

/* One rank's thread; it asserts nothing itself: cmocka's checks belong to the main thread. */
typedef struct rank_job {
    gdncp_comm_t *comm;
    gdncp_plan_t *plans[NUM_PLAN_KINDS];
    const void *ins[NUM_PLAN_KINDS];
    void *outs[NUM_PLAN_KINDS];

    gdncp_status_t status;
    char sentence[1024];
    gdncp_memory_usage_t usage;
    int64_t allocations_while_running;
    int64_t bytes_sent;
    int64_t bytes_received;
    int64_t num_traced[3]; /* pack, exchange wait, unpack */
    int64_t traced_bytes[3];
} rank_job_t;

static void keep_result(rank_job_t *job, gdncp_status_t status)
{
    job->status = status;
    snprintf(job->sentence, sizeof job->sentence, "%s", gdncp_last_error());
}

static void run_threads(rank_job_t *jobs, int num_ranks, void *(*run)(void *))
{
    pthread_t threads[MAX_RANKS];

    for (int rank = 0; rank < num_ranks; rank++) {
        assert_int_equal(pthread_create(&threads[rank], NULL, run, &jobs[rank]), 0);
    }
    for (int rank = 0; rank < num_ranks; rank++) {
        pthread_join(threads[rank], NULL);
    }
}

static void make_comms(rank_job_t *jobs, int num_ranks, int64_t timeout_ms)
{
    const gdncp_comm_options_t options = {.timeout_ms = timeout_ms};
    gdncp_comm_t *comms[MAX_RANKS];

    memset(jobs, 0, (size_t)num_ranks * sizeof *jobs);
    assert_int_equal(gdncp_comm_create_threads(num_ranks, &options, comms), GDNCP_OK);
    for (int rank = 0; rank < num_ranks; rank++) {
        jobs[rank].comm = comms[rank];
    }
}

static void end_jobs(rank_job_t *jobs, int num_ranks)
{
    for (int rank = 0; rank < num_ranks; rank++) {
        gdncp_comm_destroy(jobs[rank].comm);
        for (int k = 0; k < NUM_PLAN_KINDS; k++) {
            gdncp_plan_destroy(jobs[rank].plans[k]);
            free((void *)(uintptr_t)jobs[rank].ins[k]);
            free(jobs[rank].outs[k]);
        }
    }
}

static void create_and_run(rank_job_t *job, gdncp_plan_t *plan, const void *in, void *out)
{
    gdncp_exchange_t *exchange = NULL;
    gdncp_status_t status = gdncp_exchange_create(job->comm, plan, &exchange);

    if (status == GDNCP_OK) {
        status = gdncp_exchange_run(exchange, in, out, NULL);
    }
    keep_result(job, status);
    gdncp_exchange_destroy(exchange);
}

/* The output's buffer holds the input. */
static void *run_in_place(void *argument)
{
    rank_job_t *const job = argument;
    gdncp_exchange_t *exchange = NULL;
    gdncp_status_t status =
        gdncp_exchange_create_in_place(job->comm, job->plans[0], GDNCP_DEVICE_CPU, &exchange);

    if (status == GDNCP_OK) {
        status = gdncp_exchange_run(exchange, job->outs[0], job->outs[0], NULL);
    }
    keep_result(job, status);
    gdncp_exchange_destroy(exchange);
    return NULL;
}

static void *run_first_plan(void *argument)
{
    rank_job_t *const job = argument;
    gdncp_comm_counters_t counters;

    gdncp_comm_reset_counters(job->comm);
    create_and_run(job, job->plans[0], job->ins[0], job->outs[0]);
    gdncp_comm_counters(job->comm, &counters);
    job->bytes_sent = counters.bytes_sent;
    job->bytes_received = counters.bytes_received;
    return NULL;
}

/* Random inputs; outputs poisoned, to be added to, or holding the input for runs in place; and what
 * the same plans give unthreaded. */
static void prepare_buffers(test_random_t *random, rank_job_t *jobs, int num_ranks, int k,
                            bool in_place, void **expected)
{
    gdncp_plan_t *plans[MAX_RANKS];
    void *ins[MAX_RANKS];

    for (int rank = 0; rank < num_ranks; rank++) {
        const gdncp_plan_t *const plan = plans[rank] = jobs[rank].plans[k];
        const size_t size = gdncp_dtype_size(plan->dtype);

        ins[rank] = test_alloc(plan->input_elements, size);
        fill_values(random, plan->dtype, plan->input_elements, ins[rank]);
        jobs[rank].ins[k] = ins[rank];
        jobs[rank].outs[k] = test_alloc(plan->input_elements + plan->output_elements, size);
        expected[rank] = test_alloc(plan->output_elements, size);
        memset(jobs[rank].outs[k], 0xff, (size_t)plan->output_elements * size);
        if (plan->write == GDNCP_PLAN_ADD) {
            fill_values(random, plan->dtype, plan->output_elements, jobs[rank].outs[k]);
        }
        if (in_place) {
            memcpy(jobs[rank].outs[k], ins[rank], (size_t)plan->input_elements * size);
        }
        memcpy(expected[rank], jobs[rank].outs[k], (size_t)plan->output_elements * size);
    }
    for (int rank = 0; rank < num_ranks; rank++) {
        run_rank(plans, rank, ins, expected[rank]);
    }
}

static void check_outputs(const rank_job_t *jobs, int num_ranks, int k, void **expected)
{
    for (int rank = 0; rank < num_ranks; rank++) {
        const gdncp_plan_t *const plan = jobs[rank].plans[k];

        assert_memory_equal(jobs[rank].outs[k], expected[rank],
                            (size_t)plan->output_elements * gdncp_dtype_size(plan->dtype));
        free(expected[rank]);
    }
}

static void exchanges_move_what_plans_say(void **state)
{
    static const gdncp_dtype_t dtypes[] = {GDNCP_F32, GDNCP_BF16, GDNCP_F64, GDNCP_F16};
    test_random_t random = test_random_start("exchanges", 31);

    (void)state;
    for (int c = 0; c < NUM_CASES; c++) {
        const int num_ranks = (int)test_random_int(&random, 1, MAX_RANKS);
        const test_pack_t pack = random_pack(&random, num_ranks);
        gdncp_layout_t *const a = random_layout(&random, &pack, num_ranks);
        gdncp_layout_t *const b = random_layout(&random, &pack, num_ranks);
        const gdncp_dtype_t dtype = dtypes[test_random_int(&random, 0, 3)];
        const int direction = (int)test_random_int(&random, 0, 2);
        rank_job_t jobs[MAX_RANKS];
        void *expected[MAX_RANKS];

        make_comms(jobs, num_ranks, 20000);
        for (int rank = 0; rank < num_ranks; rank++) {
            jobs[rank].plans[0] = random_plan(c % NUM_PLAN_KINDS, a, b, rank, dtype, direction);
        }
        prepare_buffers(&random, jobs, num_ranks, 0, false, expected);
        run_threads(jobs, num_ranks, run_first_plan);
        for (int rank = 0; rank < num_ranks; rank++) {
            int64_t count;
            const gdncp_message_t *const messages =
                gdncp_plan_messages(jobs[rank].plans[0], &count);
            int64_t expected_bytes = 0;

            for (int64_t m = 0; m < count; m++) {
                expected_bytes += messages[m].recv_bytes;
            }
            if (jobs[rank].status != GDNCP_OK) {
                fail_msg("rank %d: %s", rank, jobs[rank].sentence);
            }
            assert_int_equal(jobs[rank].bytes_sent, gdncp_plan_bytes_sent(jobs[rank].plans[0]));
            assert_int_equal(jobs[rank].bytes_received, expected_bytes);
        }
        check_outputs(jobs, num_ranks, 0, expected);
        end_jobs(jobs, num_ranks);
        gdncp_layout_destroy(a);
        gdncp_layout_destroy(b);
    }
}

/* Rank 0 with two buffers, the others with one. */
static void *run_in_place_or_not(void *argument)
{
    rank_job_t *const job = argument;

    return gdncp_comm_rank(job->comm) == 0 ? run_first_plan(job) : run_in_place(job);
}

/* What lies in gaps is what the input had there. */
static void outputs_may_be_inputs(void **state)
{
    static const int sizes[] = {1, 2, 4, 8};
    test_random_t random = test_random_start("in place", 35);

    (void)state;
    for (int c = 0; c < NUM_CASES; c++) {
        const int num_ranks = sizes[test_random_int(&random, 0, 3)];
        const test_pack_t pack = random_pack(&random, num_ranks);
        gdncp_layout_t *const a = random_layout(&random, &pack, num_ranks);
        gdncp_layout_t *const b = random_layout(&random, &pack, num_ranks);
        const int direction = (int)test_random_int(&random, 0, 1);
        rank_job_t jobs[MAX_RANKS];
        void *expected[MAX_RANKS];

        make_comms(jobs, num_ranks, 20000);
        for (int rank = 0; rank < num_ranks; rank++) {
            jobs[rank].plans[0] = (c / NUM_PLAN_KINDS % 2 == 0 ? batch_plan : random_plan)(
                c % NUM_PLAN_KINDS, a, b, rank, GDNCP_BF16, direction);
        }
        prepare_buffers(&random, jobs, num_ranks, 0, true, expected);
        run_threads(jobs, num_ranks, c % 2 == 0 ? run_in_place_or_not : run_in_place);
        for (int rank = 0; rank < num_ranks; rank++) {
            if (jobs[rank].status != GDNCP_OK) {
                fail_msg("rank %d: %s", rank, jobs[rank].sentence);
            }
        }
        check_outputs(jobs, num_ranks, 0, expected);
        end_jobs(jobs, num_ranks);
        gdncp_layout_destroy(a);
        gdncp_layout_destroy(b);
    }
}

/* Start all kinds in one order; finish them in another, one by polling. */
static gdncp_status_t run_all(rank_job_t *job, gdncp_exchange_t **exchanges)
{
    bool done = false;

    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        const gdncp_status_t status =
            gdncp_exchange_start(exchanges[k], job->ins[k], job->outs[k], NULL);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    while (!done) {
        const gdncp_status_t status = gdncp_exchange_test(exchanges[1], &done);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    for (int k = NUM_PLAN_KINDS - 1; k >= 0; k--) {
        const gdncp_status_t status = gdncp_exchange_wait(exchanges[k]);

        if (status != GDNCP_OK) {
            return status;
        }
    }
    return GDNCP_OK;
}

static void *run_many_times(void *argument)
{
    rank_job_t *const job = argument;
    gdncp_exchange_t *exchanges[NUM_PLAN_KINDS] = {NULL};
    gdncp_status_t status = GDNCP_OK;

    gdncp_memory_track(&job->usage);
    for (int k = 0; k < NUM_PLAN_KINDS && status == GDNCP_OK; k++) {
        status = gdncp_exchange_create(job->comm, job->plans[k], &exchanges[k]);
    }
    const int64_t allocations = job->usage.num_allocations;

    for (int run = 0; run < NUM_RUNS && status == GDNCP_OK; run++) {
        status = run_all(job, exchanges);
    }
    job->allocations_while_running = job->usage.num_allocations - allocations;
    keep_result(job, status);
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        gdncp_exchange_destroy(exchanges[k]);
    }
    gdncp_memory_track(NULL);
    return NULL;
}

static void exchanges_in_flight_are_reused_without_memory(void **state)
{
    enum { NUM_RANKS = 4 };
    test_random_t random = test_random_start("in flight", 32);
    const test_pack_t pack = {
        .cu_seqlens = {0, 30, 30, 46}, .slots = {0, 32, 32, 48}, .num_sequences = 3, .even = true};
    gdncp_layout_t *const a = random_layout(&random, &pack, NUM_RANKS);
    gdncp_layout_t *const b = layout_of_shuffled_runs(&random, &pack, NUM_RANKS);
    rank_job_t jobs[NUM_RANKS];
    void *expected[NUM_PLAN_KINDS][MAX_RANKS];

    (void)state;
    make_comms(jobs, NUM_RANKS, 20000);
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        for (int rank = 0; rank < NUM_RANKS; rank++) {
            jobs[rank].plans[k] = random_plan(k, a, b, rank, GDNCP_BF16, k % 2);
        }
        prepare_buffers(&random, jobs, NUM_RANKS, k, false, expected[k]);
    }
    run_threads(jobs, NUM_RANKS, run_many_times);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        if (jobs[rank].status != GDNCP_OK) {
            fail_msg("rank %d: %s", rank, jobs[rank].sentence);
        }
        assert_true(jobs[rank].usage.num_allocations > 0);
        assert_int_equal(jobs[rank].allocations_while_running, 0);
        assert_int_equal(jobs[rank].usage.current_bytes, 0);
    }
    for (int k = 0; k < NUM_PLAN_KINDS; k++) {
        check_outputs(jobs, NUM_RANKS, k, expected[k]);
    }
    end_jobs(jobs, NUM_RANKS);
    gdncp_layout_destroy(a);
    gdncp_layout_destroy(b);
}

/* A shard that is one run at both ends needs no staging at all. */
static void contiguous_messages_are_not_staged(void **state)
{
    enum { NUM_RANKS = 3, INNER = 1 << 16 };
    const int64_t lengths[NUM_RANKS] = {1, 2, 1};
    test_random_t random = test_random_start("in place", 33);
    rank_job_t jobs[NUM_RANKS];
    void *expected[MAX_RANKS];

    (void)state;
    make_comms(jobs, NUM_RANKS, 20000);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        assert_int_equal(gdncp_plan_all_gather_concat(NUM_RANKS, rank, GDNCP_F32, 1, lengths, INNER,
                                                      &jobs[rank].plans[0]),
                         GDNCP_OK);
        for (int k = 1; k < NUM_PLAN_KINDS; k++) {
            assert_int_equal(gdncp_plan_all_gather_concat(NUM_RANKS, rank, GDNCP_F32, 1, lengths, 0,
                                                          &jobs[rank].plans[k]),
                             GDNCP_OK);
        }
    }
    for (int k = NUM_PLAN_KINDS - 1; k >= 0; k--) {
        prepare_buffers(&random, jobs, NUM_RANKS, k, false, expected);
        for (int rank = 0; rank < NUM_RANKS && k > 0; rank++) {
            free(expected[rank]);
        }
    }
    run_threads(jobs, NUM_RANKS, run_many_times);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        assert_int_equal(jobs[rank].status, GDNCP_OK);
        assert_in_range(jobs[rank].usage.peak_bytes, 1, 32768);
    }
    check_outputs(jobs, NUM_RANKS, 0, expected);
    end_jobs(jobs, NUM_RANKS);
}

static void *run_traced(void *argument)
{
    static const char *const names[] = {"pack", "exchange wait", "unpack"};
    rank_job_t *const job = argument;
    int64_t count;
    int64_t dropped;

    gdncp_trace_start(64);
    create_and_run(job, job->plans[0], job->ins[0], job->outs[0]);
    const gdncp_trace_event_t *const events = gdncp_trace_events(&count, &dropped);

    for (int64_t e = 0; e < count; e++) {
        for (int n = 0; n < 3; n++) {
            if (strcmp(events[e].name, names[n]) == 0) {
                job->num_traced[n]++;
                job->traced_bytes[n] += events[e].bytes;
            }
        }
    }
    gdncp_trace_stop();
    return NULL;
}

static void runs_leave_a_trace(void **state)
{
    const int64_t lengths[] = {3, 2};
    test_random_t random = test_random_start("trace", 34);
    rank_job_t jobs[2];
    void *expected[MAX_RANKS];

    (void)state;
    make_comms(jobs, 2, 20000);
    for (int rank = 0; rank < 2; rank++) {
        assert_int_equal(
            gdncp_plan_all_gather_concat(2, rank, GDNCP_F32, 4, lengths, 5, &jobs[rank].plans[0]),
            GDNCP_OK);
    }
    prepare_buffers(&random, jobs, 2, 0, false, expected);
    run_threads(jobs, 2, run_traced);
    for (int rank = 0; rank < 2; rank++) {
        for (int n = 0; n < 3; n++) {
            assert_int_equal(jobs[rank].num_traced[n], 1);
        }
        /* The shard is sent from where it lies and received in four rows. */
        assert_int_equal(jobs[rank].traced_bytes[0], 0);
        assert_int_equal(jobs[rank].traced_bytes[1], 4 * lengths[1 - rank] * 5 * 4);
        assert_int_equal(jobs[rank].traced_bytes[2], 4 * lengths[1 - rank] * 5 * 4);
    }
    check_outputs(jobs, 2, 0, expected);
    end_jobs(jobs, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchanges_move_what_plans_say),
        cmocka_unit_test(outputs_may_be_inputs),
        cmocka_unit_test(exchanges_in_flight_are_reused_without_memory),
        cmocka_unit_test(contiguous_messages_are_not_staged),
        cmocka_unit_test(runs_leave_a_trace),
    };

    return cmocka_run_group_tests_name("exchanges", tests, NULL, NULL);
}
