/* A state that goes from one owner of a chain to the next, in memory of the host or of a device. */
#ifndef GDNCP_HANDOVER_H
#define GDNCP_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>

#include "gdncp/comm.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

typedef struct gdncp_handover gdncp_handover_t;

typedef struct gdncp_handover_options {
    gdncp_device_kind_t device;
    gdncp_stream_t stream; /* in which all is queued on a CUDA device */
    int peer;
    bool is_send; /* to the peer; else from it */
    size_t bytes;
} gdncp_handover_options_t;

/* Local call. On a device the communicator is to be prepared for the message before the first run,
 * by gdncp_stream_group_connect(). */
gdncp_status_t gdncp_handover_create(gdncp_comm_t *comm, const gdncp_handover_options_t *options,
                                     gdncp_handover_t **handover_p);
void gdncp_handover_destroy(gdncp_handover_t *handover);

/* Start sending the state, or receiving it. It is left alone until the wait. */
gdncp_status_t gdncp_handover_start(gdncp_handover_t *handover, void *state);

/* Wait, on the host or in the stream, until it has been sent or is there. */
gdncp_status_t gdncp_handover_wait(gdncp_handover_t *handover);

/* GDNCP_OK, or what has gone wrong in the stream; good for NULL. */
gdncp_status_t gdncp_handover_check(const gdncp_handover_t *handover);

#endif
