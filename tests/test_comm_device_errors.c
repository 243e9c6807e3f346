/* Exchanges on the emulated device that must fail: in the stream, and by their arguments. */
#include "test_comm_device.h"

#include <dirent.h>
#include <pthread.h>
#include <time.h>

enum { NUM_RANKS = 3, NUM_RUNS = 6, TIMEOUT_MS = 1000 };

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
    gdncp_plan_t *plan;
    gdncp_device_kind_t device;
    gdncp_stream_t stream;
    device_run_t runs[NUM_RUNS];
    float in[3 * 2 * 4];
    float outs[NUM_RUNS][6 * 2 * 4];

    gdncp_exchange_t *exchange;
    gdncp_status_t status;
    gdncp_status_t waited;
    double seconds;
    char sentence[1024];
} rank_job_t;

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

static rank_job_t *make_jobs(int64_t timeout_ms, const int64_t *lengths)
{
    const gdncp_comm_options_t options = {.timeout_ms = timeout_ms};
    gdncp_comm_t *comms[NUM_RANKS];
    rank_job_t *const jobs = calloc(NUM_RANKS, sizeof *jobs);

    assert_int_equal(gdncp_comm_create_threads(NUM_RANKS, &options, comms), GDNCP_OK);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        jobs[rank].comm = comms[rank];
        jobs[rank].device = GDNCP_DEVICE_CUDA;
        assert_int_equal(gdncp_plan_all_gather_concat(NUM_RANKS, rank, GDNCP_F32, 2, lengths, 4,
                                                      &jobs[rank].plan),
                         GDNCP_OK);
    }
    return jobs;
}

static void end_jobs(rank_job_t *jobs)
{
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        for (int i = 0; i < NUM_RUNS; i++) {
            close_run(&jobs[rank].runs[i]);
        }
        gdncp_stream_destroy(GDNCP_DEVICE_CUDA, jobs[rank].stream);
        gdncp_comm_destroy(jobs[rank].comm);
        gdncp_plan_destroy(jobs[rank].plan);
    }
    free(jobs);
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Rank 1 never starts. The others queue several exchanges, of which only the first one waits. */
static void *start_unless_rank_1(void *argument)
{
    rank_job_t *const job = argument;
    const int rank = gdncp_comm_rank(job->comm);

    gdncp_stream_create(GDNCP_DEVICE_CUDA, &job->stream);
    for (int i = 0; i < NUM_RUNS && job->status == GDNCP_OK; i++) {
        job->runs[i] = (device_run_t){.plan = job->plan, .in = job->in, .out = job->outs[i]};
        job->status = open_run(&job->runs[i], job->comm, job->stream);
    }
    if (job->status != GDNCP_OK || rank == 1) {
        return NULL;
    }
    const double begin = now();

    for (int i = 0; i < NUM_RUNS && job->status == GDNCP_OK; i++) {
        job->status = start_run(&job->runs[i]);
    }
    if (job->status == GDNCP_OK) {
        job->status = gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, job->stream);
    }
    job->seconds = now() - begin;
    if (job->status == GDNCP_OK) {
        bool done = false;

        job->waited = gdncp_exchange_wait(job->runs[0].exchange);
        job->status = gdncp_exchange_test(job->runs[1].exchange, &done);
    }
    return NULL;
}

/* The sentence was written on the rank's thread or the backend's, and is read on this one. */
static void check_failure(const device_run_t *run, int rank)
{
    char begin[64];

    snprintf(begin, sizeof begin, "rank %d of 3: waited 1 s in vain for messages", rank);
    assert_int_equal(gdncp_exchange_check(run->exchange), GDNCP_ERR_TIMEOUT);
    assert_ptr_equal(strstr(gdncp_last_error(), begin), gdncp_last_error());
    assert_non_null(strstr(gdncp_last_error(), "rank 1"));
    assert_int_equal(start_run(run), GDNCP_ERR_TIMEOUT);
    assert_ptr_equal(strstr(gdncp_last_error(), begin), gdncp_last_error());
}

static int count_threads(void)
{
    DIR *const directory = opendir("/proc/self/task");
    int count = 0;

    while (directory != NULL && readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

static void late_rank_costs_one_timeout(void **state)
{
    static const int64_t lengths[NUM_RANKS] = {1, 2, 3};
    rank_job_t *const jobs = make_jobs(TIMEOUT_MS, lengths);

    (void)state;
    run_threads(jobs, start_unless_rank_1);
    for (int rank = 0; rank < NUM_RANKS; rank += 2) {
        assert_int_equal(jobs[rank].waited, GDNCP_ERR_TIMEOUT);
        assert_int_equal(jobs[rank].status, GDNCP_ERR_TIMEOUT);
        assert_true(jobs[rank].seconds < 1e-3 * TIMEOUT_MS * (NUM_RUNS - 1));
        for (int i = 0; i < NUM_RUNS; i++) {
            check_failure(&jobs[rank].runs[i], rank);
        }
    }
    assert_int_equal(gdncp_exchange_check(jobs[1].runs[0].exchange), GDNCP_OK);
    const int num_threads = count_threads();

    end_jobs(jobs);
    assert_int_equal(count_threads(), num_threads - NUM_RANKS); /* the couriers are gone */
}

static void *create(void *argument)
{
    rank_job_t *const job = argument;

    job->status = gdncp_exchange_create_on(job->comm, job->plan, job->device, &job->exchange);
    snprintf(job->sentence, sizeof job->sentence, "%s", gdncp_last_error());
    return NULL;
}

/* One rank's error, which it has itself and the others hear of. */
static void check_creation_fails(rank_job_t *jobs, gdncp_status_t status, const char *words)
{
    run_threads(jobs, create);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        assert_int_equal(jobs[rank].status, status);
        assert_null(jobs[rank].exchange);
        if (strstr(jobs[rank].sentence, words) == NULL) {
            fail_msg("expected \"%s\" in \"%s\"", words, jobs[rank].sentence);
        }
    }
}

static void unknown_device_fails_everywhere(void **state)
{
    static const int64_t lengths[NUM_RANKS] = {1, 2, 3};
    rank_job_t *const jobs = make_jobs(20000, lengths);

    (void)state;
    jobs[2].device = (gdncp_device_kind_t)7;
    check_creation_fails(jobs, GDNCP_ERR_INVALID_ARGUMENT,
                         "device: expected a gdncp_device_kind_t, got 7");
    end_jobs(jobs);
}

/* More staging than there are addresses. */
static void lack_of_memory_fails_everywhere(void **state)
{
    static const int64_t lengths[NUM_RANKS] = {1, 0, (int64_t)1 << 41};
    rank_job_t *const jobs = make_jobs(20000, lengths);

    (void)state;
    check_creation_fails(jobs, GDNCP_ERR_OUT_OF_MEMORY, "out of memory");
    end_jobs(jobs);
}

/* Ranks may have their buffers on different devices. */
static void *run_on_either_device(void *argument)
{
    rank_job_t *const job = argument;
    const int rank = gdncp_comm_rank(job->comm);

    for (int i = 0; i < (rank + 1) * 2 * 4; i++) {
        job->in[i] = (float)(100 * rank + i);
    }
    if (job->device == GDNCP_DEVICE_CUDA) {
        gdncp_stream_create(GDNCP_DEVICE_CUDA, &job->stream);
        job->runs[0] = (device_run_t){.plan = job->plan, .in = job->in, .out = job->outs[0]};
        job->status = open_run(&job->runs[0], job->comm, job->stream);
        if (job->status == GDNCP_OK) {
            job->status = start_run(&job->runs[0]);
        }
        if (job->status == GDNCP_OK) {
            job->status = download_run(&job->runs[0]);
        }
        return NULL;
    }
    job->status = gdncp_comm_agree(job->comm, GDNCP_OK);
    if (job->status == GDNCP_OK) {
        create(job);
    }
    if (job->status == GDNCP_OK) {
        job->status = gdncp_exchange_run(job->exchange, job->in, job->outs[0], NULL);
    }
    gdncp_exchange_destroy(job->exchange);
    return NULL;
}

static void ranks_may_differ_in_devices(void **state)
{
    static const int64_t lengths[NUM_RANKS] = {1, 2, 3};
    rank_job_t *const jobs = make_jobs(20000, lengths);

    (void)state;
    jobs[1].device = GDNCP_DEVICE_CPU;
    run_threads(jobs, run_on_either_device);
    for (int rank = 0; rank < NUM_RANKS; rank++) {
        assert_int_equal(jobs[rank].status, GDNCP_OK);
        assert_memory_equal(jobs[rank].outs[0], jobs[0].outs[0], sizeof jobs[0].outs[0]);
        assert_true(jobs[rank].outs[0][0] == 0.0f);
        assert_true(jobs[rank].outs[0][6 * 2 * 4 - 1] == 200.0f + 3 * 2 * 4 - 1);
    }
    end_jobs(jobs);
}

static void run_arguments_are_checked(void **state)
{
    static const int64_t length = 1;
    gdncp_comm_t *comm = NULL;
    gdncp_plan_t *plan = NULL;
    gdncp_stream_t stream = NULL;
    float in[8] = {1.0f, 2.0f};
    float out[8];
    device_run_t run = {.in = in, .out = out};
    bool done = false;

    (void)state;
    assert_int_equal(gdncp_plan_all_gather_concat(1, 0, GDNCP_F32, 2, &length, 4, &plan), GDNCP_OK);
    assert_int_equal(gdncp_comm_create_self(&comm), GDNCP_OK);
    assert_int_equal(gdncp_stream_create(GDNCP_DEVICE_CUDA, &stream), GDNCP_OK);
    check_refused(gdncp_exchange_create_on(NULL, plan, GDNCP_DEVICE_CUDA, &run.exchange), "comm:");
    check_refused(gdncp_exchange_check(NULL), "exchange:");
    run.plan = plan;
    assert_int_equal(open_run(&run, comm, stream), GDNCP_OK);
    float *const device = device_in(&run);

    check_refused(gdncp_exchange_start(run.exchange, NULL, device_out(&run), stream), "in:");
    check_refused(gdncp_exchange_start(run.exchange, device, NULL, stream), "out:");
    check_refused(gdncp_exchange_start(run.exchange, device, device + 7, stream), "out:");
    check_refused(gdncp_exchange_test(run.exchange, NULL), "done_p:");
    assert_int_equal(start_run(&run), GDNCP_OK);
    check_refused(start_run(&run), "exchange:");
    assert_int_equal(gdncp_exchange_test(run.exchange, &done), GDNCP_OK);
    assert_true(done);
    assert_int_equal(start_run(&run), GDNCP_OK);
    assert_int_equal(gdncp_exchange_wait(run.exchange), GDNCP_OK);
    assert_int_equal(gdncp_exchange_wait(run.exchange), GDNCP_OK);
    assert_int_equal(download_run(&run), GDNCP_OK);
    assert_memory_equal(in, out, sizeof in);
    close_run(&run);
    gdncp_stream_destroy(GDNCP_DEVICE_CUDA, stream);
    gdncp_comm_destroy(comm);
    gdncp_plan_destroy(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(late_rank_costs_one_timeout),
        cmocka_unit_test(unknown_device_fails_everywhere),
        cmocka_unit_test(lack_of_memory_fails_everywhere),
        cmocka_unit_test(ranks_may_differ_in_devices),
        cmocka_unit_test(run_arguments_are_checked),
    };

    setenv("GDNCP_CUDA", "emulated", 1);
    return cmocka_run_group_tests_name("exchange errors on a device", tests, NULL, NULL);
}
