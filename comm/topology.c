/* Shares of a machine's cores. */
#include "topology_internal.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "error.h"

static gdncp_status_t check_rank(int local_rank, int local_size)
{
    if (local_size < 1) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "local_size: expected > 0, got %d",
                          local_size);
    }
    if (local_rank < 0 || local_rank >= local_size) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "local_rank: expected 0..%d, got %d",
                          local_size - 1, local_rank);
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_topology_share(hwloc_topology_t topology, hwloc_const_cpuset_t allowed,
                                    int local_rank, int local_size, gdncp_core_share_t *share,
                                    hwloc_cpuset_t cpus)
{
    /* A machine that tells nothing of its cores has processing units at least. */
    const hwloc_obj_type_t type =
        hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    hwloc_obj_t core = NULL;
    int64_t num_cores = 0;
    int64_t index = 0;

    while ((core = hwloc_get_next_obj_by_type(topology, type, core)) != NULL) {
        num_cores += hwloc_bitmap_intersects(core->cpuset, allowed);
    }
    if (num_cores == 0) {
        return gdncp_fail(GDNCP_ERR_INTERNAL,
                          "topology: expected at least one allowed core, got 0");
    }
    const int64_t first = num_cores * local_rank / local_size;
    const int64_t end = num_cores * (local_rank + 1) / local_size;
    const bool shared = num_cores < local_size;
    hwloc_bitmap_zero(cpus);
    while ((core = hwloc_get_next_obj_by_type(topology, type, core)) != NULL) {
        if (!hwloc_bitmap_intersects(core->cpuset, allowed)) {
            continue;
        }
        if (shared || (index >= first && index < end)) {
            hwloc_bitmap_or(cpus, cpus, core->cpuset);
        }
        index++;
    }
    hwloc_bitmap_and(cpus, cpus, allowed);
    *share = (gdncp_core_share_t){.num_cores = shared ? 1 : (int)(end - first), .shared = shared};
    return GDNCP_OK;
}

static gdncp_status_t bind_share(hwloc_topology_t topology, int local_rank, int local_size,
                                 gdncp_core_share_t *share)
{
    hwloc_cpuset_t allowed = hwloc_bitmap_alloc();
    hwloc_cpuset_t cpus = hwloc_bitmap_alloc();
    gdncp_status_t status = GDNCP_OK;

    if (allowed == NULL || cpus == NULL) {
        status = gdncp_fail_memory("a set of cores");
        goto free_sets;
    }
    if (hwloc_get_cpubind(topology, allowed, HWLOC_CPUBIND_PROCESS) != 0) {
        hwloc_bitmap_copy(allowed, hwloc_topology_get_allowed_cpuset(topology));
    }
    status = gdncp_topology_share(topology, allowed, local_rank, local_size, share, cpus);
    if (status == GDNCP_OK && !share->shared) {
        share->bound = hwloc_set_cpubind(topology, cpus, HWLOC_CPUBIND_PROCESS) == 0;
    }

free_sets:
    hwloc_bitmap_free(cpus);
    hwloc_bitmap_free(allowed);
    return status;
}

gdncp_status_t gdncp_topology_bind(int local_rank, int local_size, gdncp_core_share_t *share_p)
{
    hwloc_topology_t topology = NULL;
    gdncp_core_share_t share = {0};

    gdncp_status_t status = check_rank(local_rank, local_size);
    if (status != GDNCP_OK) {
        return status;
    }
    if (hwloc_topology_init(&topology) != 0) {
        return gdncp_fail_memory("the machine's topology");
    }
    if (hwloc_topology_load(topology) != 0) {
        status = gdncp_fail(GDNCP_ERR_NOT_SUPPORTED,
                            "hwloc cannot read this machine's topology: %s", strerror(errno));
    } else {
        status = bind_share(topology, local_rank, local_size, &share);
    }
    hwloc_topology_destroy(topology);
    if (status == GDNCP_OK) {
        *share_p = share;
    }
    return status;
}
