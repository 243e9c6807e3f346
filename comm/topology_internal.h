/* Shares of cores, apart from the machine that runs. */
#ifndef GDNCP_TOPOLOGY_INTERNAL_H
#define GDNCP_TOPOLOGY_INTERNAL_H

#include <hwloc.h>

#include "gdncp/topology.h"

/*
 * The share of a rank among the cores of `topology` that `allowed` touches.
 *
 * share: what gdncp_topology_bind() reports, but bound is false
 * cpus:  filled with the processing units of the share that are allowed
 */
gdncp_status_t gdncp_topology_share(hwloc_topology_t topology, hwloc_const_cpuset_t allowed,
                                    int local_rank, int local_size, gdncp_core_share_t *share,
                                    hwloc_cpuset_t cpus);

#endif
