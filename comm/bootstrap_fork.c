/* A bootstrap for processes made by fork(): socket pairs that exist before the first fork. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "comm_internal.h"
#include "error.h"
#include "gdncp/memory.h"
#include "star.h"

struct gdncp_fork_group {
    int size;
    bool joined;
    gdncp_star_t star; /* after joining */
    int (*pairs)[2];   /* [size]: rank 0's end and the rank's; -1: closed, or rank 0 itself */
};

static void close_pairs(gdncp_fork_group_t *group)
{
    for (int rank = 0; rank < group->size; rank++) {
        for (int end = 0; end < 2; end++) {
            if (group->pairs[rank][end] >= 0) {
                close(group->pairs[rank][end]);
                group->pairs[rank][end] = -1;
            }
        }
    }
}

gdncp_status_t gdncp_fork_group_create(int size, gdncp_fork_group_t **group_p)
{
    if (size < 1) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "size: expected > 0, got %d", size);
    }
    gdncp_fork_group_t *const group = gdncp_memory_alloc(sizeof *group);
    if (group == NULL) {
        return gdncp_fail_memory("a fork group");
    }
    *group = (gdncp_fork_group_t){.size = size};
    group->pairs = gdncp_memory_alloc((size_t)size * sizeof *group->pairs);
    if (group->pairs == NULL) {
        gdncp_memory_free(group);
        return gdncp_fail_memory("a fork group");
    }
    for (int rank = 0; rank < size; rank++) {
        group->pairs[rank][0] = -1;
        group->pairs[rank][1] = -1;
    }
    for (int rank = 1; rank < size; rank++) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, group->pairs[rank]) != 0) {
            const gdncp_status_t status = gdncp_fail(
                GDNCP_ERR_IO, "size: no sockets for %d ranks: %s", size, strerror(errno));

            gdncp_fork_group_destroy(group);
            return status;
        }
    }
    *group_p = group;
    return GDNCP_OK;
}

/* Move the sockets that are this rank's into its star, and close all others: only then does a
 * dead process's socket reach its end at the others. */
static void keep_own_sockets(gdncp_fork_group_t *group, int rank)
{
    for (int other = 1; other < group->size; other++) {
        int *const pair = group->pairs[other];

        if (rank == 0) {
            group->star.sockets[other] = pair[0];
            pair[0] = -1;
        } else if (rank == other) {
            group->star.sockets[0] = pair[1];
            pair[1] = -1;
        }
    }
    close_pairs(group);
}

gdncp_status_t gdncp_fork_group_join(gdncp_fork_group_t *group, int rank,
                                     gdncp_bootstrap_t *bootstrap)
{
    int64_t timeout_ms = 0;

    if (rank < 0 || rank >= group->size) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "rank: expected 0..%d, got %d",
                          group->size - 1, rank);
    }
    if (group->joined) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "group: expected one not joined yet, got one joined as rank %d",
                          group->star.rank);
    }
    gdncp_status_t status = gdncp_comm_timeout(NULL, &timeout_ms);
    if (status == GDNCP_OK) {
        status = gdncp_star_init(&group->star, rank, group->size, timeout_ms);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    keep_own_sockets(group, rank);
    group->joined = true;
    *bootstrap = (gdncp_bootstrap_t){.rank = rank,
                                     .size = group->size,
                                     .all_gather = gdncp_star_all_gather,
                                     .context = &group->star};
    return GDNCP_OK;
}

void gdncp_fork_group_destroy(gdncp_fork_group_t *group)
{
    if (group != NULL) {
        gdncp_star_close(&group->star);
        close_pairs(group);
        gdncp_memory_free(group->pairs);
        gdncp_memory_free(group);
    }
}
