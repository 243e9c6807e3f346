/* Ranks that are forked processes. The parent may not have started threads or UCX before. */
#ifndef GDNCP_FORKED_RANKS_H
#define GDNCP_FORKED_RANKS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gdncp/comm.h"

#define MAX_FORKED_RANKS 8

/* What a rank does; the process's exit code. */
typedef int forked_body_t(const gdncp_bootstrap_t *bootstrap, void *context);

typedef struct forked_ranks {
    int size;
    pid_t pids[MAX_FORKED_RANKS];
    int statuses[MAX_FORKED_RANKS]; /* as of waitpid() */
} forked_ranks_t;

static inline void start_forked(forked_ranks_t *ranks, int size, forked_body_t *body, void *context)
{
    gdncp_fork_group_t *group = NULL;

    fflush(NULL);
    ranks->size = size;
    if (gdncp_fork_group_create(size, &group) != GDNCP_OK) {
        abort();
    }
    for (int rank = 0; rank < size; rank++) {
        ranks->pids[rank] = fork();
        if (ranks->pids[rank] == 0) {
            gdncp_bootstrap_t bootstrap;
            int result = 99;

            if (gdncp_fork_group_join(group, rank, &bootstrap) == GDNCP_OK) {
                result = body(&bootstrap, context);
                gdncp_fork_group_destroy(group);
            }
            fflush(NULL);
            _exit(result);
        }
    }
    gdncp_fork_group_destroy(group);
}

/* Reaps in the order of the deaths, as a launcher does: a process that is dead but not reaped
 * looks alive to the others. The number of ranks that did not exit with 0. */
static inline int finish_forked(forked_ranks_t *ranks)
{
    int num_failed = 0;

    for (int num_left = ranks->size; num_left > 0;) {
        int status = 0;
        const pid_t pid = waitpid(-1, &status, 0);

        if (pid < 0 && errno != EINTR) {
            return num_failed + num_left;
        }
        for (int rank = 0; rank < ranks->size; rank++) {
            if (pid > 0 && ranks->pids[rank] == pid) {
                ranks->statuses[rank] = status;
                num_failed += status != 0;
                num_left--;
            }
        }
    }
    return num_failed;
}

static inline int run_forked(int size, forked_body_t *body, void *context)
{
    forked_ranks_t ranks;

    start_forked(&ranks, size, body, context);
    return finish_forked(&ranks);
}

/* In a rank's process: a communicator, without which it ends. */
static inline gdncp_comm_t *create_or_exit(const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms)
{
    const gdncp_comm_options_t options = {.timeout_ms = timeout_ms};
    gdncp_comm_t *comm = NULL;

    if (gdncp_comm_create(bootstrap, &options, &comm) != GDNCP_OK) {
        printf("rank %d: %s\n", bootstrap->rank, gdncp_last_error());
        fflush(stdout);
        _exit(98);
    }
    return comm;
}

#endif
