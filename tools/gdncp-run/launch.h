/* Starting the ranks, and their end. */
#ifndef GDNCP_RUN_LAUNCH_H
#define GDNCP_RUN_LAUNCH_H

#include <stdbool.h>

#include "fail.h"
#include "rank.h"

/* How a rank ended, in its own words. */
typedef struct run_outcome {
    gdncp_status_t status;
    char sentence[RUN_SENTENCE_BYTES]; /* "" where it did not fail */
    bool ok;                           /* of rank 0: all errors inside their tolerances */
} run_outcome_t;

/* Run a rank that has its communicator, destroy that, and say how it went. */
void run_launch_rank(run_rank_t *rank, run_outcome_t *outcome);

/* Each of these runs all ranks, prints the report or the errors, and returns the exit status. */

/* The ranks are child processes, over UCX. */
int run_launch_processes(const run_setup_t *setup);

/* The ranks are threads of this process. */
int run_launch_threads(const run_setup_t *setup);

/* This process is one of the ranks that a launcher has started. setup->problem may be NULL where
 * this rank could not read it: the rank then only tells the others why. */
int run_launch_environment(const run_setup_t *setup, int rank, gdncp_status_t status);

/* "gdncp-run: rank 1: sentence (GDNCP_ERR_...)" on stderr. rank < 0: none */
void run_print_error(int rank, gdncp_status_t status, const char *sentence);

/* Print how ranks failed; with --json the first of them on stdout too. outcomes [ranks] */
void run_print_failures(const run_setup_t *setup, const run_outcome_t *outcomes);

#endif
