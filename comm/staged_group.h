/*
 * Messages in stream order over a transport that moves the host's memory.
 *
 * The stream copies them to and from pinned memory. A callback of the stream posts a job to the
 * communicator's courier, which sends and receives, and the stream waits for a flag that the job
 * sets. What goes wrong in a job is kept: the stream goes on, and all later groups of the
 * communicator fail at once, so that a lost peer costs one time-out and not one a group.
 */
#ifndef GDNCP_STAGED_GROUP_H
#define GDNCP_STAGED_GROUP_H

#include "stream_group.h"

typedef struct gdncp_staged_group gdncp_staged_group_t;

/* Contracts as in stream_group.h. */
gdncp_status_t gdncp_staged_group_create(gdncp_comm_t *comm, const gdncp_stream_message_t *messages,
                                         int64_t num_messages, gdncp_staged_group_t **group_p);
void gdncp_staged_group_destroy(gdncp_staged_group_t *group);
gdncp_status_t gdncp_staged_group_start(gdncp_staged_group_t *group, gdncp_stream_t stream);
gdncp_status_t gdncp_staged_group_wait(gdncp_staged_group_t *group, gdncp_stream_t stream);
gdncp_status_t gdncp_staged_group_run(gdncp_staged_group_t *group, gdncp_stream_t stream);
gdncp_status_t gdncp_staged_group_check(const gdncp_staged_group_t *group);

#endif
