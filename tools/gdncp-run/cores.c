#define _GNU_SOURCE /* sched_getaffinity */
#include "cores.h"

#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "fail.h"
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

/* Where a rank may run. */
typedef struct place {
    char host[64];
    cpu_set_t cores;
} place_t;

gdncp_status_t run_bind_launched(gdncp_comm_t *comm)
{
    const int size = gdncp_comm_size(comm);
    const int rank = gdncp_comm_rank(comm);
    place_t mine;
    place_t *const all = run_alloc((size_t)size, sizeof *all, "places");
    int before = 0;
    int sharing = 0;

    memset(&mine, 0, sizeof mine);
    gethostname(mine.host, sizeof mine.host - 1);
    sched_getaffinity(0, sizeof mine.cores, &mine.cores);
    gdncp_status_t status =
        gdncp_comm_agree(comm, all != NULL ? GDNCP_OK : GDNCP_ERR_OUT_OF_MEMORY);
    if (status == GDNCP_OK) {
        status = gdncp_comm_all_gather(comm, &mine, all, sizeof mine);
    }
    for (int i = 0; i < size && status == GDNCP_OK; i++) {
        const bool is_same = memcmp(&all[i], &mine, sizeof mine) == 0;

        before += is_same && i < rank;
        sharing += is_same;
    }
    free(all);
    return status == GDNCP_OK ? run_bind_process(before, sharing) : status;
}

void run_share_process(int ranks)
{
    cpu_set_t cores;

    if (sched_getaffinity(0, sizeof cores, &cores) == 0) {
        use_threads(CPU_COUNT(&cores) / ranks);
    }
}
