/*
 * Messages between buffers of CUDA devices, in stream order.
 *
 * Over NCCL, where the communicator has it, they go from device to device. Else the communicator's
 * transport moves them, from the device's memory or from pinned memory: see courier_group.h.
 */
#ifndef GDNCP_STREAM_GROUP_H
#define GDNCP_STREAM_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gdncp/comm.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

/* Messages that lie one behind the other, each at the next multiple of this, are copied in one. */
enum { GDNCP_STREAM_MESSAGE_ALIGNMENT = 64 };

static inline size_t gdncp_stream_message_room(size_t bytes)
{
    const size_t line = GDNCP_STREAM_MESSAGE_ALIGNMENT;

    return (bytes + line - 1) / line * line;
}

typedef struct gdncp_stream_message {
    int peer; /* another rank */
    bool is_send;
    bool is_fixed; /* the buffer is the library's, from the group's creation to its destruction */
    size_t bytes;  /* > 0 */
    void *buffer;  /* of the device; unless it is fixed, may be another one for each run */
} gdncp_stream_message_t;

typedef struct gdncp_stream_group gdncp_stream_group_t;

/* messages must live as long as the group. */
gdncp_status_t gdncp_stream_group_create(gdncp_comm_t *comm, const gdncp_stream_message_t *messages,
                                         int64_t num_messages, gdncp_stream_group_t **group_p);

/* Nothing of the group may be queued any more. NULL does nothing. */
void gdncp_stream_group_destroy(gdncp_stream_group_t *group);

/* Let the communicator prepare for these messages, so that no run allocates. Collective: whoever is
 * at the other end of one does the same. Buffers are not looked at. */
gdncp_status_t gdncp_stream_group_connect(gdncp_comm_t *comm,
                                          const gdncp_stream_message_t *messages,
                                          int64_t num_messages);

/* Queue the start of all messages, and the wait for them; or both in one. Each start is followed by
 * one wait, and a group with receives is run: over NCCL the stream waits at the start. */
gdncp_status_t gdncp_stream_group_start(gdncp_stream_group_t *group, gdncp_stream_t stream);
gdncp_status_t gdncp_stream_group_wait(gdncp_stream_group_t *group, gdncp_stream_t stream);
gdncp_status_t gdncp_stream_group_run(gdncp_stream_group_t *group, gdncp_stream_t stream);

/* Whether in [bytes] of every rank goes to out [size, bytes] of every rank in one call that a
 * transport may do better than with the messages; and that call. */
bool gdncp_stream_group_gathers(const gdncp_stream_group_t *group);
gdncp_status_t gdncp_stream_group_all_gather(gdncp_stream_group_t *group, const void *in, void *out,
                                             size_t bytes, gdncp_stream_t stream);
/* As gdncp_stream_group_connect(), for that call. */
gdncp_status_t gdncp_stream_group_connect_all_gather(const gdncp_stream_group_t *group,
                                                     size_t bytes);

/* GDNCP_OK, or what went wrong so far. From any thread. */
gdncp_status_t gdncp_stream_group_check(const gdncp_stream_group_t *group);

#endif
