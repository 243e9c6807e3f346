/*
 * One rank of a job over several hosts, of which one is lost: what hosts.sh starts.
 *
 * hosts_rank VICTIM says "ready", waits for a message that no other survivor sends, and says in one
 * line how that ended and when, and in another what is left.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "comm_internal.h"

static int64_t wall_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* From a survivor other than this rank, or from rank 0 on the victim. */
static gdncp_status_t wait_in_vain(gdncp_comm_t *comm, int victim)
{
    gdncp_group_t *group = NULL;
    char byte;
    int peer = (gdncp_comm_rank(comm) + 1) % gdncp_comm_size(comm);

    if (peer == victim) {
        peer = (peer + 1) % gdncp_comm_size(comm);
    }
    gdncp_status_t status = gdncp_comm_group_create(comm, 1, &group);
    if (status == GDNCP_OK) {
        status = gdncp_comm_group_begin(comm, group);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_recv(comm, group, &byte, 1, peer);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_group_end(comm, group, NULL);
    }
    if (status == GDNCP_OK) {
        status = gdncp_comm_group_wait(comm, group);
    }
    gdncp_comm_group_destroy(comm, group);
    return status;
}

int main(int argc, char **argv)
{
    const int victim = argc > 1 ? atoi(argv[1]) : 0;
    gdncp_comm_t *comm = NULL;
    gdncp_comm_t *survivors = NULL;
    char lanes[256];

    setvbuf(stdout, NULL, _IOLBF, 0);
    gdncp_status_t status = gdncp_comm_create_from_environment(NULL, &comm);
    if (status == GDNCP_OK) {
        status = gdncp_comm_barrier(comm);
    }
    if (status != GDNCP_OK) {
        printf("not ready: %s\n", gdncp_last_error());
        return 1;
    }
    const int rank = gdncp_comm_rank(comm);
    gdncp_comm_describe_lanes(comm, (rank + 1) % gdncp_comm_size(comm), lanes, sizeof lanes);
    printf("ready %s\n", lanes);
    status = wait_in_vain(comm, victim);
    printf("ended %lld %s %s\n", (long long)wall_clock_ms(), gdncp_status_string(status),
           gdncp_last_error());
    status = gdncp_comm_shrink(comm, &survivors);
    gdncp_comm_destroy(comm);
    if (status == GDNCP_OK) {
        status = gdncp_comm_barrier(survivors);
    }
    if (status != GDNCP_OK) {
        printf("nothing left: %s\n", gdncp_last_error());
        return 1;
    }
    printf("left %d of %d\n", gdncp_comm_rank(survivors), gdncp_comm_size(survivors));
    gdncp_comm_destroy(survivors);
    return 0;
}
