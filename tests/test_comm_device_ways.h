/* The ways that messages between devices take over UCX: from and into the devices' memory, through
 * pinned memory, or each rank another one. */
#ifndef GDNCP_TEST_COMM_DEVICE_WAYS_H
#define GDNCP_TEST_COMM_DEVICE_WAYS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "comm_internal.h"
#include "forked_ranks.h"

typedef enum way { WAY_DIRECT, WAY_STAGED, WAY_MIXED, NUM_WAYS } way_t;

static inline bool goes_direct(way_t way, int rank)
{
    return way == WAY_DIRECT || (way == WAY_MIXED && rank % 2 == 0);
}

/* Before a rank makes its communicator. Direct is the default. */
static inline void choose_way(way_t way, int rank)
{
    if (goes_direct(way, rank)) {
        unsetenv("GDNCP_UCX_CUDA");
    } else {
        setenv("GDNCP_UCX_CUDA", "0", 1);
    }
}

/* Whether the rank's transport is for that way, and says why where it is not the direct one. */
static inline bool is_on_way(const gdncp_comm_t *comm, way_t way)
{
    const gdncp_transport_t *const transport = comm->transport;
    const gdncp_status_t status = transport->ops->check_device_memory(transport);

    return goes_direct(way, comm->rank) ? status == GDNCP_OK
                                        : status == GDNCP_ERR_NOT_SUPPORTED &&
                                              strstr(gdncp_last_error(), "GDNCP_UCX_CUDA is 0");
}

/* A communicator that is on its way; without one the process ends. */
static inline gdncp_comm_t *create_on_way(const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms,
                                          way_t way)
{
    choose_way(way, bootstrap->rank);
    gdncp_comm_t *const comm = create_or_exit(bootstrap, timeout_ms);

    if (!is_on_way(comm, way)) {
        printf("rank %d, way %d: %s\n", bootstrap->rank, (int)way, gdncp_last_error());
        fflush(stdout);
        _exit(98);
    }
    return comm;
}

#endif
