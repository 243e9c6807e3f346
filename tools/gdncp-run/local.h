/* One rank's tensors: its part of the problem's, in memory of the run's device that counts. */
#ifndef GDNCP_RUN_LOCAL_H
#define GDNCP_RUN_LOCAL_H

#include "execute.h"

typedef struct run_local {
    gdncp_tensor_t inputs[RUN_MAX_TENSORS];
    gdncp_tensor_t outputs[RUN_MAX_TENSORS];
    gdncp_tensor_t poison; /* bytes that make NaN */
} run_local_t;

/* Allocate all and fill the inputs. On an error there is nothing to release. */
gdncp_status_t run_local_create(const run_job_t *job, const void *instance, run_local_t *local);
void run_local_release(const run_job_t *job, run_local_t *local);

/* Fill the outputs with NaN, so that what a run leaves unwritten is seen. */
gdncp_status_t run_local_poison(const run_job_t *job, run_local_t *local);

/* Where a state of a tensor in RUN_INITIAL_STATE or RUN_FINAL_STATE belongs. */
int run_local_state_rank(const run_job_t *job, const void *instance, const run_spec_t *spec,
                         int64_t state);

#endif
