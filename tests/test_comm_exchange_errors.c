/* Exchanges that must fail: on every rank, with the same sentence, and none waits for ever. */
#include "test_comm_plan_check.h"

#include <pthread.h>
#include <stdio.h>

#include "gdncp/comm.h"
#include "gdncp/exchange.h"

enum { NUM_RANKS = 3 };

/* An allocation that cannot be met returns NULL under sanitizers too. */
GDNCP_API const char *__asan_default_options(void);
GDNCP_API const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

GDNCP_API const char *__tsan_default_options(void);
GDNCP_API const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

typedef struct rank_job {
    gdncp_comm_t *comm;
    const gdncp_plan_t *plan;
    bool has_no_place; /* exchange_p is NULL */

    gdncp_exchange_t *exchange;
    gdncp_status_t status;
    char sentence[1024];
} rank_job_t;

static const int64_t lengths[NUM_RANKS] = {1, 2, 3};

static gdncp_plan_t *make_plan(int num_ranks, int rank, int64_t inner)
{
    gdncp_plan_t *plan = NULL;

    assert_int_equal(
        gdncp_plan_all_gather_concat(num_ranks, rank, GDNCP_F32, 2, lengths, inner, &plan),
        GDNCP_OK);
    return plan;
}

static void *create(void *argument)
{
    rank_job_t *const job = argument;

    job->status =
        gdncp_exchange_create(job->comm, job->plan, job->has_no_place ? NULL : &job->exchange);
    snprintf(job->sentence, sizeof job->sentence, "%s", gdncp_last_error());
    return NULL;
}

static void run_threads(rank_job_t *jobs, void *(*run)(void *))
{
    pthread_t threads[NUM_RANKS];

    for (int rank = 0; rank < NUM_RANKS; rank++) {
        assert_int_equal(pthread_create(&threads[rank], NULL, run, &jobs[rank]), 0);
    }
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        pthread_join(threads[rank], NULL);
    }
}

static void make_jobs(rank_job_t *jobs, gdncp_plan_t **plans, int64_t timeout_ms)
{
    const gdncp_comm_options_t options = {.timeout_ms = timeout_ms};
    gdncp_comm_t *comms[NUM_RANKS];

    memset(jobs, 0, NUM_RANKS * sizeof *jobs);
    assert_int_equal(gdncp_comm_create_threads(NUM_RANKS, &options, comms), GDNCP_OK);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        plans[rank] = make_plan(NUM_RANKS, rank, 4);
        jobs[rank].comm = comms[rank];
        jobs[rank].plan = plans[rank];
    }
}

static void end_jobs(rank_job_t *jobs, gdncp_plan_t **plans)
{
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        gdncp_exchange_destroy(jobs[rank].exchange);
        gdncp_comm_destroy(jobs[rank].comm);
        gdncp_plan_destroy(plans[rank]);
    }
}

/* All ranks got the status, no exchange, and a sentence with all of the words. */
static void check_all_failed(const rank_job_t *jobs, gdncp_status_t status,
                             const char *const *words, int num_words)
{
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        assert_int_equal(jobs[rank].status, status);
        assert_null(jobs[rank].exchange);
        assert_string_equal(jobs[rank].sentence, jobs[0].sentence);
        for (int w = 0; w < num_words; w++) {
            if (strstr(jobs[rank].sentence, words[w]) == NULL) {
                fail_msg("expected \"%s\" in \"%s\"", words[w], jobs[rank].sentence);
            }
        }
    }
}

static void different_plans_are_a_mismatch_everywhere(void **state)
{
    rank_job_t jobs[NUM_RANKS];
    gdncp_plan_t *plans[NUM_RANKS];
    char fingerprint[32];

    (void)state;
    make_jobs(jobs, plans, 20000);
    gdncp_plan_destroy(plans[2]);
    jobs[2].plan = plans[2] = make_plan(NUM_RANKS, 2, 5);
    snprintf(fingerprint, sizeof fingerprint, "%016llx",
             (unsigned long long)gdncp_plan_fingerprint(plans[2]));
    const char *const words[] = {"all_gather_concat of f32 [2, 6, 4]",
                                 "all_gather_concat of f32 [2, 6, 5]", "rank 0", "rank 2",
                                 fingerprint};

    run_threads(jobs, create);
    check_all_failed(jobs, GDNCP_ERR_MISMATCH, words, 5);

    /* The communicator goes on: with equal plans the same ranks succeed. */
    gdncp_plan_destroy(plans[2]);
    jobs[2].plan = plans[2] = make_plan(NUM_RANKS, 2, 4);
    run_threads(jobs, create);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        assert_int_equal(jobs[rank].status, GDNCP_OK);
        assert_non_null(jobs[rank].exchange);
    }
    end_jobs(jobs, plans);
}

static void *fail_then_create(void *argument)
{
    rank_job_t *const job = argument;
    gdncp_plan_t *plan = NULL;

    if (job->plan == NULL) {
        gdncp_plan_conv_halo(NULL, 0, GDNCP_F32, 1, 1, 1, &plan);
    }
    return create(job);
}

static void missing_plan_fails_everywhere(void **state)
{
    static const char *const words[] = {"rank 1: plan: expected a plan, got NULL",
                                        "layout: expected a layout, got NULL"};
    rank_job_t jobs[NUM_RANKS];
    gdncp_plan_t *plans[NUM_RANKS];

    (void)state;
    make_jobs(jobs, plans, 20000);
    jobs[1].plan = NULL;
    run_threads(jobs, fail_then_create);
    check_all_failed(jobs, GDNCP_ERR_INVALID_ARGUMENT, words, 2);
    end_jobs(jobs, plans);
}

static void plan_of_another_rank_fails_everywhere(void **state)
{
    static const char *const words[] = {
        "rank 2: plan: expected one for rank 2 of 3, got all_gather_concat for rank 1 of 3"};
    static const char *const size_words[] = {
        "rank 0: plan: expected one for rank 0 of 3, got all_gather_concat for rank 0 of 2"};
    rank_job_t jobs[NUM_RANKS];
    gdncp_plan_t *plans[NUM_RANKS];

    (void)state;
    make_jobs(jobs, plans, 20000);
    jobs[2].plan = plans[1];
    run_threads(jobs, create);
    check_all_failed(jobs, GDNCP_ERR_INVALID_ARGUMENT, words, 1);

    jobs[2].plan = plans[2];
    gdncp_plan_destroy(plans[0]);
    jobs[0].plan = plans[0] = make_plan(2, 0, 4);
    run_threads(jobs, create);
    check_all_failed(jobs, GDNCP_ERR_INVALID_ARGUMENT, size_words, 1);
    end_jobs(jobs, plans);
}

static void missing_place_fails_everywhere(void **state)
{
    static const char *const words[] = {"rank 0: exchange_p:"};
    rank_job_t jobs[NUM_RANKS];
    gdncp_plan_t *plans[NUM_RANKS];

    (void)state;
    make_jobs(jobs, plans, 20000);
    jobs[0].has_no_place = true;
    run_threads(jobs, create);
    check_all_failed(jobs, GDNCP_ERR_INVALID_ARGUMENT, words, 1);
    end_jobs(jobs, plans);
}

/* Rank 2 has more than there are addresses for. */
static void make_large_jobs(rank_job_t *jobs, gdncp_plan_t **plans)
{
    static const int64_t uneven[NUM_RANKS] = {1, 0, (int64_t)1 << 44};

    make_jobs(jobs, plans, 20000);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        gdncp_plan_destroy(plans[rank]);
        assert_int_equal(
            gdncp_plan_all_gather_concat(NUM_RANKS, rank, GDNCP_F32, 2, uneven, 1, &plans[rank]),
            GDNCP_OK);
        jobs[rank].plan = plans[rank];
    }
}

/* More staging than there are addresses, on the ranks that receive it. */
static void lack_of_memory_fails_everywhere(void **state)
{
    rank_job_t jobs[NUM_RANKS];
    gdncp_plan_t *plans[NUM_RANKS];

    (void)state;
    make_large_jobs(jobs, plans);
    run_threads(jobs, create);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        assert_int_equal(jobs[rank].status, GDNCP_ERR_OUT_OF_MEMORY);
        assert_null(jobs[rank].exchange);
        assert_non_null(strstr(jobs[rank].sentence, "bytes of staging for all_gather_concat"));
    }
    end_jobs(jobs, plans);
}

/* Rank 1 never starts; the others give up in time, and their exchanges stay failed. */
static void *start_unless_rank_1(void *argument)
{
    rank_job_t *const job = argument;
    float in[3 * 2 * 4] = {0};
    float out[6 * 2 * 4];

    create(job);
    if (job->status != GDNCP_OK || gdncp_comm_rank(job->comm) == 1) {
        return NULL;
    }
    job->status = gdncp_exchange_run(job->exchange, in, out, NULL);
    if (gdncp_exchange_start(job->exchange, in, out, NULL) != job->status) {
        job->status = GDNCP_ERR_INTERNAL;
    }
    snprintf(job->sentence, sizeof job->sentence, "%s", gdncp_last_error());
    gdncp_exchange_destroy(job->exchange); /* in and out end with this function */
    job->exchange = NULL;
    return NULL;
}

static void late_rank_is_not_waited_for(void **state)
{
    rank_job_t jobs[NUM_RANKS];
    gdncp_plan_t *plans[NUM_RANKS];

    (void)state;
    make_jobs(jobs, plans, 300);
    run_threads(jobs, start_unless_rank_1);
    for (int rank = 0; rank < NUM_RANKS; rank += 2) {
        assert_int_equal(jobs[rank].status, GDNCP_ERR_TIMEOUT);
        assert_non_null(strstr(jobs[rank].sentence, "exchange: expected one that has not failed"));
    }
    end_jobs(jobs, plans);
}

static void *create_in_place(void *argument)
{
    rank_job_t *const job = argument;

    job->status =
        gdncp_exchange_create_in_place(job->comm, job->plan, GDNCP_DEVICE_CPU, &job->exchange);
    snprintf(job->sentence, sizeof job->sentence, "%s", gdncp_last_error());
    return NULL;
}

/* More memory for the input than there are addresses, on one rank. */
static void lack_of_memory_for_the_input_fails_everywhere(void **state)
{
    rank_job_t jobs[NUM_RANKS];
    gdncp_plan_t *plans[NUM_RANKS];

    (void)state;
    make_large_jobs(jobs, plans);
    run_threads(jobs, create_in_place);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        assert_int_equal(jobs[rank].status,
                         rank == 2 ? GDNCP_ERR_OUT_OF_MEMORY : GDNCP_ERR_INVALID_ARGUMENT);
        assert_null(jobs[rank].exchange);
        assert_non_null(strstr(jobs[rank].sentence, "rank 2: plan: expected a plan, got NULL; the "
                                                    "last error there: out of memory"));
    }
    end_jobs(jobs, plans);
}

static void in_place_buffers_may_overlap(void **state)
{
    gdncp_comm_t *comm = NULL;
    gdncp_plan_t *const plan = make_plan(1, 0, 4);
    gdncp_exchange_t *exchange = NULL;
    float buffer[16] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f, 8.0f};
    const float expected[9] = {1.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f, 8.0f};

    (void)state;
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    check_refused(gdncp_exchange_create_in_place(NULL, plan, GDNCP_DEVICE_CPU, &exchange), "comm:");
    check_refused(gdncp_exchange_create_in_place(comm, NULL, GDNCP_DEVICE_CPU, &exchange),
                  "rank 0: plan:");
    check_refused(gdncp_exchange_create_in_place(comm, plan, GDNCP_DEVICE_CPU, NULL),
                  "rank 0: exchange_p:");
    assert_int_equal(gdncp_exchange_create_in_place(comm, plan, GDNCP_DEVICE_CPU, &exchange),
                     GDNCP_OK);
    check_refused(gdncp_exchange_start(exchange, NULL, buffer, NULL), "in:");
    assert_int_equal(gdncp_exchange_run(exchange, buffer, buffer, NULL), GDNCP_OK);
    assert_int_equal(gdncp_exchange_run(exchange, buffer, buffer + 1, NULL), GDNCP_OK);
    assert_memory_equal(buffer, expected, sizeof expected);
    gdncp_exchange_destroy(exchange);
    gdncp_plan_destroy(plan);
    gdncp_comm_destroy(comm);
}

static void run_arguments_are_checked(void **state)
{
    gdncp_comm_t *comm = NULL;
    gdncp_plan_t *const plan = make_plan(1, 0, 4);
    gdncp_exchange_t *exchange = NULL;
    float buffer[16] = {1.0f};
    float *const in = buffer;
    float *const out = buffer + 8;
    bool done = false;

    (void)state;
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    check_refused(gdncp_exchange_create(NULL, plan, &exchange), "comm:");
    assert_int_equal(gdncp_exchange_create(comm, plan, &exchange), GDNCP_OK);
    check_refused(gdncp_exchange_start(NULL, in, out, NULL), "exchange:");
    check_refused(gdncp_exchange_start(exchange, NULL, out, NULL), "in:");
    check_refused(gdncp_exchange_start(exchange, in, NULL, NULL), "out:");
    check_refused(gdncp_exchange_start(exchange, in, in, NULL), "out:");
    check_refused(gdncp_exchange_start(exchange, in, in + 7, NULL), "out:");
    check_refused(gdncp_exchange_start(exchange, in + 7, in, NULL), "out:");
    check_refused(gdncp_exchange_start(exchange, in, out, buffer), "stream:");
    check_refused(gdncp_exchange_run(exchange, in, out, buffer), "stream:");
    check_refused(gdncp_exchange_test(NULL, &done), "exchange:");
    check_refused(gdncp_exchange_test(exchange, NULL), "done_p:");
    check_refused(gdncp_exchange_wait(NULL), "exchange:");

    assert_int_equal(gdncp_exchange_start(exchange, in, out, NULL), GDNCP_OK);
    check_refused(gdncp_exchange_start(exchange, in, out, NULL), "exchange:");
    assert_int_equal(gdncp_exchange_wait(exchange), GDNCP_OK);
    assert_memory_equal(in, out, 8 * sizeof *in);
    assert_int_equal(gdncp_exchange_test(exchange, &done), GDNCP_OK);
    assert_true(done);
    assert_int_equal(gdncp_exchange_wait(exchange), GDNCP_OK);
    gdncp_exchange_destroy(exchange);
    gdncp_exchange_destroy(NULL);
    gdncp_plan_destroy(plan);
    gdncp_comm_destroy(comm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(different_plans_are_a_mismatch_everywhere),
        cmocka_unit_test(missing_plan_fails_everywhere),
        cmocka_unit_test(plan_of_another_rank_fails_everywhere),
        cmocka_unit_test(missing_place_fails_everywhere),
        cmocka_unit_test(lack_of_memory_fails_everywhere),
        cmocka_unit_test(late_rank_is_not_waited_for),
        cmocka_unit_test(lack_of_memory_for_the_input_fails_everywhere),
        cmocka_unit_test(in_place_buffers_may_overlap),
        cmocka_unit_test(run_arguments_are_checked),
    };

    return cmocka_run_group_tests_name("exchange errors", tests, NULL, NULL);
}
