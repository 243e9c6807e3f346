/*
 * Messages in stream order.
 *
 * The messages lie in pinned memory, to which and from which the stream copies. A callback of the
 * stream posts a job to the communicator's courier, which sends and receives, and the stream waits
 * for a flag that the job sets. What goes wrong in a job is kept: the stream goes on, and all later
 * groups of the communicator fail at once, so that a lost peer costs one time-out and not one a
 * group.
 */
#ifndef GDNCP_STREAM_GROUP_H
#define GDNCP_STREAM_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdncp/comm.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

/* Room between the begins of two messages is a multiple of this. */
enum { GDNCP_STREAM_MESSAGE_ALIGNMENT = 64 };

typedef struct gdncp_stream_message {
    int peer;
    bool is_send;
    size_t bytes; /* > 0 */
    void *pinned; /* set by gdncp_stream_group_create() */
} gdncp_stream_message_t;

typedef struct gdncp_stream_group gdncp_stream_group_t;

/* A group of these messages, which lie in their order in one block of pinned memory, each at the
 * next multiple of the alignment. messages must live as long as the group. */
gdncp_status_t gdncp_stream_group_create(gdncp_comm_t *comm, gdncp_stream_message_t *messages,
                                         int64_t num_messages, gdncp_stream_group_t **group_p);

/* Nothing of the group may be queued any more. NULL does nothing. */
void gdncp_stream_group_destroy(gdncp_stream_group_t *group);

/* Queue the start of all messages, for which the stream does not wait, and the wait for them; or
 * both in one. Each start is followed by one wait. */
gdncp_status_t gdncp_stream_group_start(gdncp_stream_group_t *group, gdncp_stream_t stream);
gdncp_status_t gdncp_stream_group_wait(gdncp_stream_group_t *group, gdncp_stream_t stream);
gdncp_status_t gdncp_stream_group_run(gdncp_stream_group_t *group, gdncp_stream_t stream);

/* GDNCP_OK, or what went wrong so far. From any thread. */
gdncp_status_t gdncp_stream_group_check(const gdncp_stream_group_t *group);

#endif
