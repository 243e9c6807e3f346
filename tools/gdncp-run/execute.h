/* One rank's part of a run: forward and backward with one strategy, measured. */
#ifndef GDNCP_RUN_EXECUTE_H
#define GDNCP_RUN_EXECUTE_H

#include <stdint.h>

#include "gdncp/comm.h"
#include "gdncp/layout.h"
#include "gdncp/memory.h"
#include "problem.h"
#include "progress.h"
#include "trace_file.h"

typedef enum run_pass { RUN_FORWARD = 0, RUN_BACKWARD, RUN_NUM_PASSES } run_pass_t;

typedef struct run_job {
    const run_problem_t *problem;
    run_mode_t mode; /* the stream is made in the run */
    int warm_ups;    /* not timed, before the others */
    int iterations;  /* timed */
    gdncp_comm_t *comm;
    const gdncp_layout_t *layout;
    gdncp_memory_usage_t *usage; /* zeroed; must outlive the communicator */
    run_progress_t *progress;    /* NULL: none */
    run_trace_t *trace;          /* NULL: none */
} run_job_t;

typedef struct run_measured {
    /* Of this rank, in one run. */
    int64_t bytes_sent[RUN_NUM_PASSES];
    int64_t messages_sent[RUN_NUM_PASSES];
    int64_t peak_bytes; /* its tensors, and what the library allocates for the run */
    /* Median over the iterations of the slowest rank's time; the same on all ranks. */
    double ms[RUN_NUM_PASSES];
} run_measured_t;

/* Collective. outputs: on rank 0 [num_outputs] whole tensors, written in full; elsewhere unused. */
gdncp_status_t run_execute(const run_job_t *job, float *const *outputs, run_measured_t *measured);

#endif
