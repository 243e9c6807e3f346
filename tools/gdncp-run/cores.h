/* How many threads a rank's operators use. A user's OMP_NUM_THREADS is left as it is. */
#ifndef GDNCP_RUN_CORES_H
#define GDNCP_RUN_CORES_H

#include "gdncp/status.h"

/* Bind this process to its share of the machine, and use a thread for each core of it. */
gdncp_status_t run_bind_process(int local_rank, int local_size);

/* The calling thread is one of `ranks` ranks that share this process. */
void run_share_process(int ranks);

#endif
