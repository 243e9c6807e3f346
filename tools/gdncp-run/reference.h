/* What results are compared with: the dump, and runs of one rank. */
#ifndef GDNCP_RUN_REFERENCE_H
#define GDNCP_RUN_REFERENCE_H

#include "summary.h"

/* All whole outputs of one run, allocated; release also after an error. */
typedef struct run_outputs {
    float *values[RUN_MAX_TENSORS]; /* [num_outputs] */
} run_outputs_t;

gdncp_status_t run_outputs_create(const run_problem_t *problem, run_outputs_t *outputs);
void run_outputs_release(run_outputs_t *outputs);

/* Run on this rank alone what is needed, compare, and fill in the summary's errors, tolerances and
 * verdicts. gathered [num_strategies]: the outputs of the run on all ranks. */
gdncp_status_t run_check(const run_setup_t *setup, const run_outputs_t *gathered,
                         run_summary_t *summary);

#endif
