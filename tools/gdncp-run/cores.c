#define _GNU_SOURCE /* sched_getaffinity */
#include "cores.h"

#include <sched.h>
#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "gdncp/topology.h"

static void use_threads(int threads)
{
#ifdef _OPENMP
    if (getenv("OMP_NUM_THREADS") == NULL) {
        omp_set_num_threads(threads > 0 ? threads : 1);
    }
#else
    (void)threads;
#endif
}

gdncp_status_t run_bind_process(int local_rank, int local_size)
{
    gdncp_core_share_t share;
    const gdncp_status_t status = gdncp_topology_bind(local_rank, local_size, &share);

    if (status == GDNCP_OK) {
        use_threads(share.num_cores);
    }
    return status;
}

void run_share_process(int ranks)
{
    cpu_set_t cores;

    if (sched_getaffinity(0, sizeof cores, &cores) == 0) {
        use_threads(CPU_COUNT(&cores) / ranks);
    }
}
