/* What goes wrong when NCCL is put beside a communicator or taken away: what all ranks hear of it.
 */
#include "nccl_rank_jobs.h"

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
        cmocka_unit_test(closing_waits_for_nobody),
        cmocka_unit_test(ranks_must_agree_on_devices),
        cmocka_unit_test(arguments_are_checked),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("making and closing with NCCL", tests, NULL, NULL);
}
