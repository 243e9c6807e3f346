/* What goes wrong in runs over NCCL: on one rank, and what all of them hear of it and when. */
#include "nccl_rank_jobs.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "nccl_internal.h"

typedef struct run_fault {
    const char *call;
    int result;
    gdncp_status_t status;
    bool is_even;
    bool others_hear;
} run_fault_t;

static const run_fault_t *fault_now;
static nccl_stand_in_t *stand_in_now;

static void set_fault(void)
{
    pthread_mutex_lock(stand_in_now->lock);
    stand_in_now->abort_is_remote = fault_now->others_hear;
    stand_in_now->fault_call = fault_now->call;
    stand_in_now->fault_result = fault_now->result;
    stand_in_now->fault_count = 1;
    pthread_mutex_unlock(stand_in_now->lock);
}

/* Rank 1 runs into the fault before the others begin. */
static void *run_with_fault(void *argument)
{
    rank_job_t *const job = argument;

    open_exchanges(job);
    if (gdncp_comm_rank(job->comm) == 1) {
        set_fault();
        note(job, start_run(&job->runs[0]));
        pthread_barrier_wait(job->all);
        job->later = start_run(&job->runs[1]);
        gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, job->stream);
    } else {
        pthread_barrier_wait(job->all);
        run_exchanges(job);
    }
    return NULL;
}

static void a_run_that_fails_on_one_rank_ends_on_all(void **state)
{
    static const run_fault_t cases[] = {
        {"ncclGroupStart", GDNCP_NCCL_INTERNAL_ERROR, GDNCP_ERR_TRANSPORT, false, true},
        {"ncclSend", GDNCP_NCCL_INVALID_ARGUMENT, GDNCP_ERR_TRANSPORT, false, true},
        {"ncclRecv", GDNCP_NCCL_INVALID_USAGE, GDNCP_ERR_TRANSPORT, false, true},
        {"ncclGroupEnd", GDNCP_NCCL_UNHANDLED_CUDA_ERROR, GDNCP_ERR_DEVICE, false, true},
        {"ncclGroupEnd", GDNCP_NCCL_REMOTE_ERROR, GDNCP_ERR_PEER_LOST, false, true},
        {"ncclAllGather", GDNCP_NCCL_SYSTEM_ERROR, GDNCP_ERR_TRANSPORT, true, true},
        {"ncclSend", GDNCP_NCCL_SYSTEM_ERROR, GDNCP_ERR_TRANSPORT, false, false},
    };

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        const int64_t timeout_ms = cases[c].others_hear ? LONG_MS : TIMEOUT_MS;
        rank_job_t *const jobs = make_jobs(timeout_ms, cases[c].is_even);

        fault_now = &cases[c];
        stand_in_now = test_nccl_stand_in();
        run_threads(jobs, run_with_fault);
        check_says(&jobs[1], cases[c].status, cases[c].call);
        for (int rank = 0; rank < NUM_RANKS; rank++) {
            if (rank != 1) {
                check_says(&jobs[rank],
                           cases[c].others_hear ? GDNCP_ERR_PEER_LOST : GDNCP_ERR_TIMEOUT,
                           cases[c].others_hear ? "remote process exited"
                                                : "in vain for messages to or from rank ");
                assert_in_range(jobs[rank].ms, 0, timeout_ms * 3 / (cases[c].others_hear ? 4 : 1));
            }
            assert_int_equal(jobs[rank].later, jobs[rank].status);
        }
        end_jobs(jobs);
        assert_int_equal(stand_in_now->num_open_groups, 0);
        assert_int_equal(stand_in_now->num_comms, 0);
    }
}

/* NCCL that queues nothing and never says so. */
static void *run_stuck(void *argument)
{
    rank_job_t *const job = argument;

    open_exchanges(job);
    if (gdncp_comm_rank(job->comm) == 0) {
        pthread_mutex_lock(stand_in_now->lock);
        stand_in_now->stuck_call = "ncclGroupEnd";
        pthread_mutex_unlock(stand_in_now->lock);
    }
    pthread_barrier_wait(job->all);
    run_exchanges(job);
    return NULL;
}

static void a_group_that_is_never_queued_times_out(void **state)
{
    rank_job_t *const jobs = make_jobs(TIMEOUT_MS, false);

    (void)state;
    stand_in_now = test_nccl_stand_in();
    run_threads(jobs, run_stuck);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        /* The first that gives up may be heard of by the others. */
        if (jobs[rank].status != GDNCP_ERR_PEER_LOST) {
            check_says(&jobs[rank], GDNCP_ERR_TIMEOUT, "ncclGroupEnd: waited 1 s in vain");
        }
        assert_in_range(jobs[rank].ms, TIMEOUT_MS / 2, TIMEOUT_MS * 3);
    }
    end_jobs(jobs);
}

/* Rank 1 makes its exchanges and never starts one. */
static void *start_unless_rank_1(void *argument)
{
    rank_job_t *const job = argument;

    open_exchanges(job);
    if (gdncp_comm_rank(job->comm) != 1) {
        run_exchanges(job);
    }
    pthread_barrier_wait(job->all);
    return NULL;
}

static void a_late_rank_costs_one_timeout(void **state)
{
    nccl_stand_in_t *const stand_in = test_nccl_stand_in();
    rank_job_t *const jobs = make_jobs(TIMEOUT_MS, false);

    (void)state;
    stand_in->abort_is_remote = false;
    run_threads(jobs, start_unless_rank_1);
    check_says(&jobs[0], GDNCP_ERR_TIMEOUT,
               "rank 0 of 3: waited 1 s in vain for messages to or from rank 1, 2 over NCCL");
    check_says(&jobs[2], GDNCP_ERR_TIMEOUT,
               "rank 2 of 3: waited 1 s in vain for messages to or from rank 0, 1 over NCCL");
    for (int rank = 0; rank < NUM_RANKS; rank += 2) {
        assert_in_range(jobs[rank].ms, TIMEOUT_MS, TIMEOUT_MS * 3);
        assert_int_equal(jobs[rank].later, GDNCP_ERR_TIMEOUT);
        assert_int_equal(gdncp_exchange_check(jobs[rank].runs[1].exchange), GDNCP_ERR_TIMEOUT);
    }
    assert_int_equal(gdncp_exchange_check(jobs[1].runs[0].exchange), GDNCP_OK);
    assert_int_equal(stand_in->num_aborted, 2);
    end_jobs(jobs);
    assert_int_equal(stand_in->num_comms, 0);
}

/* A stream that is at one exchange after the other is not late. */
static void *run_for_long(void *argument)
{
    rank_job_t *const job = argument;

    open_exchanges(job);
    const int64_t end = gdncp_now_ms() + 400;
    bool goes_on = true;

    while (goes_on && job->status == GDNCP_OK) {
        bool all[NUM_RANKS];
        const bool mine = gdncp_now_ms() < end;

        for (int i = 0; i < 20; i++) {
            note(job, start_run(&job->runs[0]));
            note(job, gdncp_exchange_wait(job->runs[0].exchange));
        }
        note(job, gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, job->stream));
        note(job, gdncp_comm_all_gather(job->comm, &mine, all, sizeof mine));
        goes_on = all[0] && all[1] && all[2];
    }
    return NULL;
}

static void only_one_run_at_a_time_is_measured(void **state)
{
    rank_job_t *const jobs = make_jobs(200, false);

    (void)state;
    test_nccl_stand_in();
    run_threads(jobs, run_for_long);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        check_says(&jobs[rank], GDNCP_OK, "");
    }
    end_jobs(jobs);
}

static void *abort_on_rank_1(void *argument)
{
    rank_job_t *const job = argument;

    open_exchanges(job);
    if (gdncp_comm_rank(job->comm) == 1) {
        gdncp_comm_abort(job->comm);
        note(job, start_run(&job->runs[0]));
        job->later = job->status;
    } else {
        run_exchanges(job);
    }
    return NULL;
}

static void an_abort_ends_the_streams(void **state)
{
    rank_job_t *const jobs = make_jobs(LONG_MS, false);

    (void)state;
    test_nccl_stand_in();
    run_threads(jobs, abort_on_rank_1);
    check_says(&jobs[1], GDNCP_ERR_PEER_LOST, "rank 1: rank 1 aborted the communicator");
    check_says(&jobs[0], GDNCP_ERR_PEER_LOST, "remote process exited");
    check_says(&jobs[2], GDNCP_ERR_PEER_LOST, "remote process exited");
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        assert_int_equal(jobs[rank].later, GDNCP_ERR_PEER_LOST);
        assert_in_range(jobs[rank].ms, 0, LONG_MS / 4);
    }
    end_jobs(jobs);
}

static pid_t child;

/* Rank 0 takes a child of this process for rank 1, and the child dies. */
static void *watch_a_child(void *argument)
{
    rank_job_t *const job = argument;

    open_exchanges(job);
    if (gdncp_comm_rank(job->comm) == 0) {
        gdncp_nccl_t *const nccl = job->comm->nccl;
        const gdncp_process_t own = gdncp_own_process();
        gdncp_process_t process = own;

        process.pid = child;
        pthread_mutex_lock(&nccl->lock);
        gdncp_liveness_watch(&nccl->liveness, 1, &own, &process);
        pthread_mutex_unlock(&nccl->lock);
        kill(child, SIGKILL);
        run_exchanges(job);
    }
    pthread_barrier_wait(job->all);
    return NULL;
}

static void the_end_of_a_process_is_told(void **state)
{
    (void)state;
    child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    test_nccl_stand_in();
    rank_job_t *const jobs = make_jobs(LONG_MS, false);

    run_threads(jobs, watch_a_child);
    check_says(&jobs[0], GDNCP_ERR_PEER_LOST, "rank 0 of 3: the process of rank 1 has ended");
    assert_in_range(jobs[0].ms, 0, LONG_MS / 4);
    assert_int_equal(jobs[0].later, GDNCP_ERR_PEER_LOST);
    waitpid(child, NULL, 0);
    end_jobs(jobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_that_fails_on_one_rank_ends_on_all),
        cmocka_unit_test(a_group_that_is_never_queued_times_out),
        cmocka_unit_test(a_late_rank_costs_one_timeout),
        cmocka_unit_test(only_one_run_at_a_time_is_measured),
        cmocka_unit_test(an_abort_ends_the_streams),
        cmocka_unit_test(the_end_of_a_process_is_told),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("errors of runs over NCCL", tests, NULL, NULL);
}
