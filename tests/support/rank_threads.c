#include "rank_threads.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "compare.h"

#define MAX_RANKS 64

typedef struct rank_job {
    test_rank_body_t body;
    void *context;
    gdncp_comm_t *comm;
    char problem[1200];
} rank_job_t;

static void *run_rank(void *argument)
{
    rank_job_t *const job = argument;

    job->body(job->context, job->comm, job->problem, sizeof job->problem);
    gdncp_comm_destroy(job->comm);
    return NULL;
}

void test_run_ranks(const char *what, int ranks, test_rank_body_t body, void *context)
{
    gdncp_comm_t *comms[MAX_RANKS];
    pthread_t threads[MAX_RANKS];
    rank_job_t *const jobs = calloc((size_t)ranks, sizeof *jobs);
    int failed = -1;

    assert_true(ranks <= MAX_RANKS);
    assert_int_equal(gdncp_comm_create_threads(ranks, NULL, comms), GDNCP_OK);
    for (int rank = 0; rank < ranks; rank++) {
        jobs[rank] = (rank_job_t){.body = body, .context = context, .comm = comms[rank]};
        assert_int_equal(pthread_create(&threads[rank], NULL, run_rank, &jobs[rank]), 0);
    }
    for (int rank = ranks - 1; rank >= 0; rank--) {
        pthread_join(threads[rank], NULL);
        failed = jobs[rank].problem[0] != '\0' ? rank : failed;
    }
    if (failed >= 0) {
        print_error("%s, %d ranks, rank %d: %s\n", what, ranks, failed, jobs[failed].problem);
    }
    free(jobs);
    assert_int_equal(failed, -1);
}

void test_check_tensor(const char *what, const float *result, const gdncp_tensor_t *expected,
                       double tolerance)
{
    const int64_t count = gdncp_tensor_num_elements(expected);
    double *const reference = malloc((size_t)count * sizeof *reference);

    for (int64_t i = 0; i < count; i++) {
        reference[i] = ((const float *)expected->data)[i];
    }
    assert_rms_ratio(what, result, reference, count, tolerance);
    free(reference);
}
