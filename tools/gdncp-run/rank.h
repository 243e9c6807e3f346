/* What each rank does, however it was started. */
#ifndef GDNCP_RUN_RANK_H
#define GDNCP_RUN_RANK_H

#include <stdbool.h>
#include <stdio.h>

#include "gdncp/comm.h"
#include "gdncp/memory.h"
#include "setup.h"

/* A rank's own; outlives its communicator. */
typedef struct run_rank {
    const run_setup_t *setup;
    gdncp_comm_t *comm;
    gdncp_memory_usage_t usage[RUN_MAX_STRATEGIES];
    FILE *report; /* rank 0 writes the report here */
    bool ok;      /* set on rank 0: all errors are inside their tolerances */
} run_rank_t;

/* Run all strategies. Collective. */
gdncp_status_t run_rank(run_rank_t *rank);

#endif
