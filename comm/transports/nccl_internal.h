/* Inside of what is beside NCCL. */
#ifndef GDNCP_NCCL_INTERNAL_H
#define GDNCP_NCCL_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "backend.h"
#include "nccl_comm.h"

struct gdncp_nccl_group {
    gdncp_nccl_t *nccl;
    const gdncp_stream_message_t *messages;
    int64_t num_messages;
    uint32_t id; /* > 0 and below GDNCP_NCCL_SEEN */
    gdncp_nccl_group_t *next;
};

/* Added by the watching thread to what a stream has written to the flag: a group that is still
 * there at the next look is the same run of it. */
#define GDNCP_NCCL_SEEN 0x80000000u

struct gdncp_nccl {
    const gdncp_nccl_api_t *api;
    const gdncp_backend_t *backend;
    int rank;
    int size;
    int64_t timeout_ms;
    int64_t limit_ms; /* of waits now, under the lock: shorter while ranks set something up, so that
                       * one that waits in vain can still tell the others in time */

    /* Pinned: the id of the group that the stream is at, or 0. One word, as the groups of a
     * communicator follow each other. */
    uint32_t *flag;
    char *scratch; /* of the device, [2, size]: messages that only connect */
    gdncp_stream_t stream;
    bool *is_connected; /* [2, size]: sending to, receiving from */

    pthread_mutex_t lock; /* of all that follows, and of NCCL's calls */
    gdncp_nccl_comm_t comm;
    bool is_own; /* to be destroyed; else it is the caller's */
    gdncp_nccl_group_t *groups;
    uint32_t last_id;
    gdncp_status_t failure;
    char sentence[512];

    bool is_watched;
    bool ends;
    pthread_t watcher;
    pthread_cond_t woken;
    gdncp_liveness_t liveness;
    uint32_t seen; /* the flag at the last look, if the stream was at a group */
    int64_t seen_ms;
};

/* The functions below are called with the lock held. */

/* Record the error of a call. GDNCP_OK for none. */
gdncp_status_t gdncp_nccl_result(gdncp_nccl_t *nccl, const char *what, gdncp_nccl_result_t result);

/* Wait for what a call has begun; the lock is let go meanwhile. What goes wrong is kept. */
gdncp_status_t gdncp_nccl_finish(gdncp_nccl_t *nccl, const char *what, gdncp_nccl_result_t result);

/* Keep an error with its sentence, the thread's last, unless there is one already, and have NCCL's
 * communicator aborted. Returns the status. */
gdncp_status_t gdncp_nccl_keep_failure(gdncp_nccl_t *nccl, gdncp_status_t status);

/* GDNCP_OK, or what was kept. */
gdncp_status_t gdncp_nccl_kept_failure(const gdncp_nccl_t *nccl);

/* Without the lock: end the watching thread, if there is one. */
void gdncp_nccl_stop_watching(gdncp_nccl_t *nccl);

#endif
