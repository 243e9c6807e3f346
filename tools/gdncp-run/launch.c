#include "launch.h"

#include <stdio.h>
#include <string.h>

#include "gdncp/nccl.h"
#include "summary.h"

/* Ranks that are processes are made over UCX first. */
static gdncp_status_t use_transport(const run_rank_t *rank)
{
    return rank->setup->options->transport == GDNCP_TRANSPORT_NCCL ? gdncp_comm_use_nccl(rank->comm)
                                                                   : GDNCP_OK;
}

void run_launch_rank(run_rank_t *rank, run_outcome_t *outcome)
{
    gdncp_status_t status = use_transport(rank);

    if (status == GDNCP_OK) {
        status = run_rank(rank);
    }
    if (status != GDNCP_OK) {
        outcome->status = status;
        snprintf(outcome->sentence, sizeof outcome->sentence, "%s", run_last_error());
        /* Others may wait for this rank. */
        gdncp_comm_abort(rank->comm);
    }
    outcome->ok = status == GDNCP_OK && rank->ok;
    gdncp_comm_destroy(rank->comm);
    rank->comm = NULL;
}

void run_print_error(int rank, gdncp_status_t status, const char *sentence)
{
    if (rank >= 0) {
        fprintf(stderr, "gdncp-run: rank %d: %s (%s)\n", rank, sentence,
                gdncp_status_string(status));
    } else {
        fprintf(stderr, "gdncp-run: %s\n", sentence);
    }
}

static bool all_say_the_same(const run_outcome_t *outcomes, int ranks)
{
    for (int r = 1; r < ranks; r++) {
        if (strcmp(outcomes[r].sentence, outcomes[0].sentence) != 0) {
            return false;
        }
    }
    return outcomes[0].sentence[0] != '\0';
}

void run_print_failures(const run_setup_t *setup, const run_outcome_t *outcomes)
{
    const bool is_one = all_say_the_same(outcomes, setup->ranks);
    const char *first = NULL;

    for (int r = 0; r < setup->ranks; r++) {
        if (outcomes[r].sentence[0] == '\0') {
            continue;
        }
        if (!is_one || r == 0) {
            run_print_error(is_one ? -1 : r, outcomes[r].status, outcomes[r].sentence);
        }
        first = first != NULL ? first : outcomes[r].sentence;
    }
    if (setup->options->json) {
        run_report_json_failure(setup->options, setup->ranks,
                                first != NULL ? first : "a rank has died", stdout);
    }
}
