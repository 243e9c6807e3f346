/* Communicators made over UCX with NCCL beside it, and ones that take the caller's NCCL. */
#include "test_comm_device.h"

#include <dlfcn.h>
#include <pthread.h>

#include "gdncp/nccl.h"
#include "nccl_api.h"
#include "over_nccl.h"

enum { NUM_RANKS = 2 };

/* The caller's all-gather: ranks are threads. */
typedef struct meeting {
    pthread_barrier_t all;
    char blocks[NUM_RANKS][1 << 16];
} meeting_t;

typedef struct rank_job {
    meeting_t *meeting;
    int rank;
    int claimed_rank; /* in the bootstrap of what is adopted */
    bool adopts;
    gdncp_nccl_comm_t own; /* the caller's */
    const gdncp_nccl_api_t *api;
    gdncp_nccl_id_t id;
    gdncp_status_t status;
    bool is_right;
    char sentence[1024];
} rank_job_t;

static int meet(void *context, const void *in, void *out, size_t bytes)
{
    const rank_job_t *const job = context;
    meeting_t *const meeting = job->meeting;

    if (bytes > sizeof meeting->blocks[0]) {
        return -1;
    }
    memcpy(meeting->blocks[job->claimed_rank], in, bytes);
    pthread_barrier_wait(&meeting->all);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        memcpy((char *)out + (size_t)rank * bytes, meeting->blocks[rank], bytes);
    }
    pthread_barrier_wait(&meeting->all);
    return 0;
}

/* One even all-gather on the device. */
static gdncp_status_t gather(rank_job_t *job, gdncp_comm_t *comm)
{
    const int64_t lengths[NUM_RANKS] = {2, 2};
    const float in[2] = {(float)job->rank, 10.0f};
    float out[4] = {NAN, NAN, NAN, NAN};
    device_run_t run = {.in = in, .out = out};
    gdncp_plan_t *plan = NULL;
    gdncp_status_t status =
        gdncp_plan_all_gather_concat(NUM_RANKS, job->rank, GDNCP_F32, 1, lengths, 1, &plan);

    run.plan = plan;
    if (status == GDNCP_OK) {
        status = open_run(&run, comm, NULL);
    }
    if (status == GDNCP_OK) {
        status = start_run(&run);
    }
    if (status == GDNCP_OK) {
        status = download_run(&run);
    }
    job->is_right = out[0] == 0.0f && out[1] == 10.0f && out[2] == 1.0f && out[3] == 10.0f;
    close_run(&run);
    gdncp_plan_destroy(plan);
    return status;
}

static void *run_rank_thread(void *argument)
{
    rank_job_t *const job = argument;
    const gdncp_bootstrap_t bootstrap = {
        .rank = job->claimed_rank, .size = NUM_RANKS, .all_gather = meet, .context = job};
    gdncp_comm_t *comm = NULL;

    if (job->adopts) {
        job->api->CommInitRankConfig(&job->own, NUM_RANKS, job->id, job->rank, NULL);
    }
    job->status = job->adopts ? gdncp_comm_adopt_nccl(job->own, &bootstrap, NULL, &comm)
                              : gdncp_comm_create_nccl(&bootstrap, NULL, &comm);
    if (job->status == GDNCP_OK) {
        job->status = gather(job, comm);
    }
    snprintf(job->sentence, sizeof job->sentence, "%s", gdncp_last_error());
    gdncp_comm_destroy(comm);
    return NULL;
}

static void run_jobs(rank_job_t *jobs)
{
    static meeting_t meeting;
    pthread_t threads[NUM_RANKS];

    pthread_barrier_init(&meeting.all, NULL, NUM_RANKS);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        jobs[rank].meeting = &meeting;
        jobs[rank].rank = rank;
        assert_int_equal(pthread_create(&threads[rank], NULL, run_rank_thread, &jobs[rank]), 0);
    }
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        pthread_join(threads[rank], NULL);
    }
    pthread_barrier_destroy(&meeting.all);
}

static void check_gathered(const rank_job_t *jobs)
{
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        if (jobs[rank].status != GDNCP_OK) {
            fail_msg("rank %d: %s", rank, jobs[rank].sentence);
        }
        assert_true(jobs[rank].is_right);
    }
}

static void a_communicator_of_our_own(void **state)
{
    const nccl_stand_in_t *const stand_in = test_nccl_stand_in();
    rank_job_t jobs[NUM_RANKS] = {{.claimed_rank = 0}, {.claimed_rank = 1}};

    (void)state;
    run_jobs(jobs);
    check_gathered(jobs);
    assert_int_equal(stand_in->num_gathers, 2 * NUM_RANKS);
    assert_int_equal(stand_in->num_comms, 0);
}

/* With the caller's communicators, which are not ended with ours. */
static void adopt(rank_job_t *jobs)
{
    const gdncp_nccl_api_t *api = NULL;
    gdncp_nccl_id_t id;

    assert_int_equal(gdncp_nccl_open(&api), GDNCP_OK);
    assert_int_equal(api->GetUniqueId(&id), GDNCP_NCCL_SUCCESS);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        jobs[rank].adopts = true;
        jobs[rank].api = api;
        jobs[rank].id = id;
    }
    run_jobs(jobs);
}

static void a_communicator_of_the_callers(void **state)
{
    const nccl_stand_in_t *const stand_in = test_nccl_stand_in();
    rank_job_t jobs[NUM_RANKS] = {{.claimed_rank = 0}, {.claimed_rank = 1}};

    (void)state;
    adopt(jobs);
    check_gathered(jobs);
    assert_int_equal(stand_in->num_gathers, 2 * NUM_RANKS);
    assert_int_equal(stand_in->num_comms, NUM_RANKS);
    assert_int_equal(stand_in->num_revoked, 0);
}

static void another_rank_than_the_bootstraps(void **state)
{
    const nccl_stand_in_t *const stand_in = test_nccl_stand_in();
    rank_job_t jobs[NUM_RANKS] = {{.claimed_rank = 1}, {.claimed_rank = 0}};

    (void)state;
    adopt(jobs);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        assert_int_equal(jobs[rank].status, GDNCP_ERR_INVALID_ARGUMENT);
    }
    assert_non_null(strstr(jobs[1].sentence, "nccl_comm: expected rank 0 of 2, as bootstrap has "
                                             "it, got rank 1 of 2"));
    assert_int_equal(stand_in->num_comms, NUM_RANKS);
}

/* What is not ours is stopped, not ended. */
static void an_error_leaves_the_callers_alive(void **state)
{
    nccl_stand_in_t *const stand_in = test_nccl_stand_in();
    rank_job_t jobs[NUM_RANKS] = {{.claimed_rank = 0}, {.claimed_rank = 1}};

    (void)state;
    stand_in->fault_call = "ncclAllGather";
    stand_in->fault_count = 2; /* the first one connects */
    stand_in->fault_rank = 1;
    stand_in->fault_result = GDNCP_NCCL_INTERNAL_ERROR;
    adopt(jobs);
    assert_int_equal(jobs[1].status, GDNCP_ERR_TRANSPORT);
    assert_int_not_equal(jobs[0].is_right, true);
    assert_in_range(stand_in->num_revoked, 1, 2);
    assert_int_equal(stand_in->num_aborted, 0);
    assert_int_equal(stand_in->num_comms, NUM_RANKS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_communicator_of_our_own),
        cmocka_unit_test(a_communicator_of_the_callers),
        cmocka_unit_test(another_rank_than_the_bootstraps),
        cmocka_unit_test(an_error_leaves_the_callers_alive),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("communicators with NCCL", tests, NULL, NULL);
}
