/* What goes wrong over NCCL: on one rank, and what all of them hear of it and when. */
#include "test_comm_device.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "comm_internal.h"
#include "deadline.h"
#include "gdncp/nccl.h"
#include "nccl_internal.h"
#include "over_nccl.h"

enum { NUM_RANKS = 3, TIMEOUT_MS = 1000, LONG_MS = 20000 };

typedef struct rank_job {
    gdncp_comm_t *comm;
    gdncp_plan_t *plan;
    device_run_t runs[2];
    float in[4 * 2];
    float outs[2][NUM_RANKS * 4 * 2];
    gdncp_stream_t stream;
    pthread_barrier_t *all; /* of the ranks' threads, which no error leaves out */

    gdncp_status_t status; /* the first that was not GDNCP_OK */
    gdncp_status_t later;  /* of a run that follows it */
    int64_t ms;
    char sentence[1024];
} rank_job_t;

static void note(rank_job_t *job, gdncp_status_t status)
{
    if (job->status == GDNCP_OK && status != GDNCP_OK) {
        job->status = status;
        snprintf(job->sentence, sizeof job->sentence, "%s", gdncp_last_error());
    }
}

static void run_threads(rank_job_t *jobs, void *(*run)(void *))
{
    pthread_t threads[NUM_RANKS];
    pthread_barrier_t all;

    pthread_barrier_init(&all, NULL, NUM_RANKS);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        jobs[rank].all = &all;
        assert_int_equal(pthread_create(&threads[rank], NULL, run, &jobs[rank]), 0);
    }
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        pthread_join(threads[rank], NULL);
    }
    pthread_barrier_destroy(&all);
}

/* Plans: an all-gather of uneven shards for messages, of even ones for one call. */
static rank_job_t *make_jobs(int64_t timeout_ms, bool is_even)
{
    const int64_t lengths[NUM_RANKS] = {1, is_even ? 1 : 2, 1};
    const gdncp_comm_options_t options = {.timeout_ms = timeout_ms};
    gdncp_comm_t *comms[NUM_RANKS];
    rank_job_t *const jobs = calloc(NUM_RANKS, sizeof *jobs);

    assert_int_equal(gdncp_comm_create_threads(NUM_RANKS, &options, comms), GDNCP_OK);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        jobs[rank].comm = comms[rank];
        assert_int_equal(gdncp_plan_all_gather_concat(NUM_RANKS, rank, GDNCP_F32, 1, lengths, 4,
                                                      &jobs[rank].plan),
                         GDNCP_OK);
    }
    return jobs;
}

static void end_jobs(rank_job_t *jobs)
{
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        for (int i = 0; i < 2; i++) {
            close_run(&jobs[rank].runs[i]);
        }
        gdncp_stream_destroy(GDNCP_DEVICE_CUDA, jobs[rank].stream);
        gdncp_comm_destroy(jobs[rank].comm);
        gdncp_plan_destroy(jobs[rank].plan);
    }
    free(jobs);
}

static void check_says(const rank_job_t *job, gdncp_status_t status, const char *words)
{
    if (job->status != status || strstr(job->sentence, words) == NULL) {
        fail_msg("expected %s: \"%s\", got %s: \"%s\"", gdncp_status_string(status), words,
                 gdncp_status_string(job->status), job->sentence);
    }
}

static void *use_nccl(void *argument)
{
    rank_job_t *const job = argument;
    const int64_t begin = gdncp_now_ms();

    note(job, gdncp_comm_use_nccl(job->comm));
    job->ms = gdncp_now_ms() - begin;
    job->later = gdncp_comm_barrier(job->comm);
    return NULL;
}

/* An error of one rank is one of all, and the communicator is what it was. */
static void making_fails_everywhere(void **state)
{
    static const struct {
        const char *call;
        int rank;
        int result;
        gdncp_status_t status;
        const char *words;
    } cases[] = {
        {"ncclGetUniqueId", -1, GDNCP_NCCL_SYSTEM_ERROR, GDNCP_ERR_TRANSPORT,
         "rank 0 of 3: ncclGetUniqueId: NCCL 2.28.9 says: an error of the stand-in; as the test "
         "wanted"},
        {"ncclCommInitRankConfig", 1, GDNCP_NCCL_INVALID_USAGE, GDNCP_ERR_TRANSPORT,
         "rank 1 of 3: "},
        {"ncclCommInitRankConfig", 2, GDNCP_NCCL_UNHANDLED_CUDA_ERROR, GDNCP_ERR_DEVICE,
         "rank 2 of 3: ncclCommInitRankConfig"},
        {"ncclCommGetAsyncError", 2, GDNCP_NCCL_REMOTE_ERROR, GDNCP_ERR_PEER_LOST,
         "rank 2 of 3: ncclCommInitRankConfig: NCCL 2.28.9 says: remote process exited"},
    };

    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        nccl_stand_in_t *const stand_in = test_nccl_stand_in();
        rank_job_t *const jobs = make_jobs(TIMEOUT_MS, false);
        const int blamed = cases[c].rank < 0 ? 0 : cases[c].rank;

        stand_in->fault_call = cases[c].call;
        stand_in->fault_count = 1;
        stand_in->fault_rank = cases[c].rank;
        stand_in->fault_result = cases[c].result;
        run_threads(jobs, use_nccl);
        check_says(&jobs[blamed], cases[c].status, cases[c].words);
        for (int rank = 0; rank < NUM_RANKS; rank++) {
            assert_int_not_equal(jobs[rank].status, GDNCP_OK);
            assert_int_equal(jobs[rank].later, GDNCP_OK);
            assert_int_equal(gdncp_comm_transport(jobs[rank].comm), GDNCP_TRANSPORT_THREADS);
        }
        assert_int_equal(stand_in->num_comms, 0);
        end_jobs(jobs);
    }
}

static void nccl_that_never_gets_ready_times_out(void **state)
{
    nccl_stand_in_t *const stand_in = test_nccl_stand_in();
    rank_job_t *const jobs = make_jobs(TIMEOUT_MS, false);

    (void)state;
    stand_in->stuck_call = "ncclCommInitRankConfig";
    run_threads(jobs, use_nccl);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        check_says(&jobs[rank], GDNCP_ERR_TIMEOUT,
                   "ncclCommInitRankConfig: waited 0.5 s in vain for NCCL");
        assert_in_range(jobs[rank].ms, TIMEOUT_MS / 2, TIMEOUT_MS * 3);
        assert_int_equal(jobs[rank].later, GDNCP_OK);
    }
    assert_int_equal(stand_in->num_comms, 0);
    end_jobs(jobs);
}

/* Make two exchanges, and see that no rank is still about to. */
static void open_exchanges(rank_job_t *job)
{
    note(job, gdncp_stream_create(GDNCP_DEVICE_CUDA, &job->stream));
    note(job, gdncp_comm_use_nccl(job->comm));
    for (int i = 0; i < 2 && job->status == GDNCP_OK; i++) {
        job->runs[i] = (device_run_t){.plan = job->plan, .in = job->in, .out = job->outs[i]};
        note(job, open_run(&job->runs[i], job->comm, job->stream));
    }
    pthread_barrier_wait(job->all);
}

/* Run an exchange until it is done or not, and the other one after it. */
static void run_exchanges(rank_job_t *job)
{
    const int64_t begin = gdncp_now_ms();

    note(job, start_run(&job->runs[0]));
    note(job, gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, job->stream));
    note(job, gdncp_exchange_wait(job->runs[0].exchange));
    job->ms = gdncp_now_ms() - begin;
    job->later = start_run(&job->runs[1]);
    gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, job->stream);
}

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

/* A rank that cannot end in order is not waited for. */
static void closing_waits_for_nobody(void **state)
{
    nccl_stand_in_t *const stand_in = test_nccl_stand_in();
    rank_job_t *const jobs = make_jobs(LONG_MS, false);

    (void)state;
    run_threads(jobs, use_nccl);
    stand_in->stuck_call = "ncclCommFinalize";
    const int64_t begin = gdncp_now_ms();

    end_jobs(jobs);
    assert_in_range(gdncp_now_ms() - begin, 900, 15000); /* one tells the others */
    assert_int_equal(stand_in->num_aborted, NUM_RANKS);
    assert_int_equal(stand_in->num_comms, 0);
}

static void *make_on_other_devices(void *argument)
{
    rank_job_t *const job = argument;
    const gdncp_device_kind_t device =
        gdncp_comm_rank(job->comm) == 1 ? GDNCP_DEVICE_CPU : GDNCP_DEVICE_CUDA;

    note(job, gdncp_comm_use_nccl(job->comm));
    note(job, gdncp_exchange_create_on(job->comm, job->plan, device, &job->runs[0].exchange));
    return NULL;
}

static void ranks_must_agree_on_devices(void **state)
{
    rank_job_t *const jobs = make_jobs(LONG_MS, false);

    (void)state;
    test_nccl_stand_in();
    run_threads(jobs, make_on_other_devices);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        check_says(&jobs[rank], GDNCP_ERR_MISMATCH,
                   "device: expected the same on all ranks over nccl, got cuda on rank 0 and cpu "
                   "on rank 1");
        assert_null(jobs[rank].runs[0].exchange);
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
        gdncp_process_t process = gdncp_liveness_own_process();

        process.pid = child;
        pthread_mutex_lock(&nccl->lock);
        gdncp_liveness_watch(&nccl->liveness, 1, &process);
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

static void *use_with_exchange(void *argument)
{
    rank_job_t *const job = argument;

    note(job,
         gdncp_exchange_create_on(job->comm, job->plan, GDNCP_DEVICE_CUDA, &job->runs[0].exchange));
    note(job, gdncp_comm_use_nccl(job->comm));
    return NULL;
}

static void arguments_are_checked(void **state)
{
    gdncp_comm_t *comm = NULL;
    rank_job_t *const jobs = make_jobs(LONG_MS, false);

    (void)state;
    test_nccl_stand_in();
    check_refused(gdncp_comm_use_nccl(NULL), "comm:");
    check_refused(gdncp_comm_create_nccl(NULL, NULL, &comm), "bootstrap:");
    check_refused(gdncp_comm_adopt_nccl(NULL, NULL, NULL, &comm), "nccl_comm:");
    check_refused(gdncp_comm_adopt_nccl(jobs, NULL, NULL, &comm), "bootstrap:");
    assert_null(comm);
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_int_equal(gdncp_comm_use_nccl(comm), GDNCP_OK);
    check_refused(gdncp_comm_use_nccl(comm), "comm: expected one that does not use NCCL yet");
    gdncp_comm_destroy(comm);
    run_threads(jobs, use_with_exchange);
    check_says(&jobs[2], GDNCP_ERR_INVALID_ARGUMENT,
               "comm: expected one without exchanges on a device");
    end_jobs(jobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(making_fails_everywhere),
        cmocka_unit_test(nccl_that_never_gets_ready_times_out),
        cmocka_unit_test(a_run_that_fails_on_one_rank_ends_on_all),
        cmocka_unit_test(a_group_that_is_never_queued_times_out),
        cmocka_unit_test(a_late_rank_costs_one_timeout),
        cmocka_unit_test(only_one_run_at_a_time_is_measured),
        cmocka_unit_test(an_abort_ends_the_streams),
        cmocka_unit_test(closing_waits_for_nobody),
        cmocka_unit_test(the_end_of_a_process_is_told),
        cmocka_unit_test(ranks_must_agree_on_devices),
        cmocka_unit_test(arguments_are_checked),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("errors over NCCL", tests, NULL, NULL);
}
