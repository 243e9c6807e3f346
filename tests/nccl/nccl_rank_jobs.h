/* Ranks over NCCL that are threads, each with a stream and two exchanges: for tests of errors. */
#ifndef GDNCP_TEST_NCCL_RANK_JOBS_H
#define GDNCP_TEST_NCCL_RANK_JOBS_H

#include "test_comm_device.h"

#include <pthread.h>

#include "comm_internal.h"
#include "deadline.h"
#include "gdncp/nccl.h"
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

static inline void note(rank_job_t *job, gdncp_status_t status)
{
    if (job->status == GDNCP_OK && status != GDNCP_OK) {
        job->status = status;
        snprintf(job->sentence, sizeof job->sentence, "%s", gdncp_last_error());
    }
}

static inline void run_threads(rank_job_t *jobs, void *(*run)(void *))
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
static inline rank_job_t *make_jobs(int64_t timeout_ms, bool is_even)
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

static inline void end_jobs(rank_job_t *jobs)
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

static inline void check_says(const rank_job_t *job, gdncp_status_t status, const char *words)
{
    if (job->status != status || strstr(job->sentence, words) == NULL) {
        fail_msg("expected %s: \"%s\", got %s: \"%s\"", gdncp_status_string(status), words,
                 gdncp_status_string(job->status), job->sentence);
    }
}

/* Make two exchanges, and see that no rank is still about to. */
static inline void open_exchanges(rank_job_t *job)
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
static inline void run_exchanges(rank_job_t *job)
{
    const int64_t begin = gdncp_now_ms();

    note(job, start_run(&job->runs[0]));
    note(job, gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, job->stream));
    note(job, gdncp_exchange_wait(job->runs[0].exchange));
    job->ms = gdncp_now_ms() - begin;
    job->later = start_run(&job->runs[1]);
    gdncp_stream_synchronize(GDNCP_DEVICE_CUDA, job->stream);
}

#endif
