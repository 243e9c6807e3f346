/*
 * Messages in stream order over a transport that knows no streams.
 *
 * A callback of the stream posts a job to the communicator's courier, which sends and receives, and
 * the stream waits for a flag that the job sets. Where the transport takes device memory, messages
 * whose buffers stay the same are moved where they lie, and the stream copies the others to and
 * from memory of the device that the group has for them. Else it copies all to and from pinned
 * memory. Each rank does what its own transport can: the other end of a message may do otherwise.
 *
 * What goes wrong in a job is kept: the stream goes on, and all later groups of the communicator
 * fail at once, so that a lost peer costs one time-out and not one a group.
 */
#ifndef GDNCP_COURIER_GROUP_H
#define GDNCP_COURIER_GROUP_H

#include "stream_group.h"

typedef struct gdncp_courier_group gdncp_courier_group_t;

/* Contracts as in stream_group.h. */
gdncp_status_t gdncp_courier_group_create(gdncp_comm_t *comm,
                                          const gdncp_stream_message_t *messages,
                                          int64_t num_messages, gdncp_courier_group_t **group_p);
void gdncp_courier_group_destroy(gdncp_courier_group_t *group);
gdncp_status_t gdncp_courier_group_start(gdncp_courier_group_t *group, gdncp_stream_t stream);
gdncp_status_t gdncp_courier_group_wait(gdncp_courier_group_t *group, gdncp_stream_t stream);
gdncp_status_t gdncp_courier_group_run(gdncp_courier_group_t *group, gdncp_stream_t stream);
gdncp_status_t gdncp_courier_group_check(const gdncp_courier_group_t *group);

#endif
