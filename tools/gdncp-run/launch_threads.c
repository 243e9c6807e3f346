/* Ranks that are threads. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cores.h"
#include "launch.h"

typedef struct rank_thread {
    run_rank_t rank;
    run_outcome_t *outcome;
    pthread_t thread;
} rank_thread_t;

static void *run_thread(void *opaque)
{
    rank_thread_t *const self = opaque;

    run_share_process(self->rank.setup->ranks);
    run_launch_rank(&self->rank, self->outcome);
    return NULL;
}

/* Start the ranks and wait for all of them. A rank that cannot be started makes all fail. */
static void run_all(rank_thread_t *threads, int ranks)
{
    int started = 0;

    while (started < ranks &&
           pthread_create(&threads[started].thread, NULL, run_thread, &threads[started]) == 0) {
        started++;
    }
    for (int r = started; r < ranks; r++) {
        run_outcome_t *const outcome = threads[r].outcome;

        outcome->status = GDNCP_ERR_OUT_OF_MEMORY;
        snprintf(outcome->sentence, sizeof outcome->sentence, "no thread could be started");
        gdncp_comm_abort(threads[r].rank.comm);
        gdncp_comm_destroy(threads[r].rank.comm);
    }
    for (int r = 0; r < started; r++) {
        pthread_join(threads[r].thread, NULL);
    }
}

static bool has_failed(const run_outcome_t *outcomes, int ranks)
{
    for (int r = 0; r < ranks; r++) {
        if (outcomes[r].status != GDNCP_OK) {
            return true;
        }
    }
    return false;
}

int run_launch_threads(const run_setup_t *setup)
{
    const int ranks = setup->ranks;
    gdncp_comm_t *comms[RUN_MAX_RANKS];
    char *report = NULL;
    size_t length = 0;
    int exit_status = 1;
    run_outcome_t *const outcomes = run_alloc((size_t)ranks, sizeof *outcomes, "ranks");
    rank_thread_t *const threads = run_alloc((size_t)ranks, sizeof *threads, "ranks");
    FILE *const stream = open_memstream(&report, &length);
    gdncp_status_t status = GDNCP_ERR_OUT_OF_MEMORY;

    if (outcomes != NULL && threads != NULL && stream != NULL) {
        status = gdncp_comm_create_threads(ranks, NULL, comms);
    }
    if (status != GDNCP_OK) {
        run_print_error(-1, status, run_last_error());
        goto close_stream;
    }
    for (int r = 0; r < ranks; r++) {
        threads[r].rank = (run_rank_t){.setup = setup, .comm = comms[r], .report = stream};
        threads[r].outcome = &outcomes[r];
    }
    run_all(threads, ranks);
    fflush(stream);
    if (has_failed(outcomes, ranks)) {
        run_print_failures(setup, outcomes);
    } else {
        fwrite(report, 1, length, stdout);
        exit_status = outcomes[0].ok ? 0 : 1;
    }
close_stream:
    if (stream != NULL) {
        fclose(stream);
    }
    free(report);
    free(threads);
    free(outcomes);
    return exit_status;
}
