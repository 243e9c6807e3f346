/* How many threads a rank's operators use. A user's OMP_NUM_THREADS is left as it is. */
#ifndef GDNCP_RUN_CORES_H
#define GDNCP_RUN_CORES_H

#include "gdncp/comm.h"
#include "gdncp/status.h"

/* Bind this process to its share of the machine, and use a thread for each core of it. */
gdncp_status_t run_bind_process(int local_rank, int local_size);

/*
 * Likewise for a rank that a launcher started: ranks of one machine that may run on the same cores
 * share them, and those that the launcher has bound keep theirs. Collective.
 */
gdncp_status_t run_bind_launched(gdncp_comm_t *comm);

/* The calling thread is one of `ranks` ranks that share this process. */
void run_share_process(int ranks);

#endif
