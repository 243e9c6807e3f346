/*
 * Watching the processes of peers on this machine.
 *
 * UCX asks after a peer only while it has nothing to send to it, and takes a process that is dead
 * but not yet reaped for alive. A descriptor of the process itself tells its end at once.
 */
#ifndef GDNCP_UCX_LIVENESS_H
#define GDNCP_UCX_LIVENESS_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "gdncp/status.h"

/* Who a process is, on whichever machine. Sent to other ranks as it is. */
typedef struct gdncp_process {
    int64_t pid;
    uint64_t pid_namespace; /* 0: unknown, and so never watched */
    char boot[40];          /* of the machine */
} gdncp_process_t;

typedef struct gdncp_liveness {
    int size;
    struct pollfd *processes; /* [size]; fd < 0: not watched, as it is elsewhere or dead already */
} gdncp_liveness_t;

/* The calling process. */
gdncp_process_t gdncp_own_process(void);

/* Nobody is watched at first. Freed by gdncp_liveness_destroy(), as is an all-zero one. */
gdncp_status_t gdncp_liveness_init(gdncp_liveness_t *liveness, int size);
void gdncp_liveness_destroy(gdncp_liveness_t *liveness);

/* Watch a rank, if it is a process that this one can see. */
void gdncp_liveness_watch(gdncp_liveness_t *liveness, int rank, const gdncp_process_t *own,
                          const gdncp_process_t *process);

/* Find out which processes have ended. */
void gdncp_liveness_look(gdncp_liveness_t *liveness);

/* The rank of a process that had ended at the last look and was not told yet, or -1. */
int gdncp_liveness_next_dead(gdncp_liveness_t *liveness);

#endif
