/* A state that goes from one owner of a chain to the next. */
#include "handover.h"

#include "comm_internal.h"
#include "error.h"
#include "gdncp/memory.h"
#include "stream_group.h"

struct gdncp_handover {
    gdncp_comm_t *comm;
    gdncp_handover_options_t options;
    void *state; /* between start and wait */

    gdncp_group_t *group;          /* on the CPU */
    gdncp_stream_group_t *streams; /* on a CUDA device */
    gdncp_stream_message_t message;
};

gdncp_status_t gdncp_handover_create(gdncp_comm_t *comm, const gdncp_handover_options_t *options,
                                     gdncp_handover_t **handover_p)
{
    gdncp_handover_t *const handover = gdncp_memory_alloc(sizeof *handover);
    gdncp_status_t status;

    if (handover == NULL) {
        return gdncp_fail_memory("a handover of the state relay");
    }
    *handover = (gdncp_handover_t){
        .comm = comm,
        .options = *options,
        .message = {.peer = options->peer, .is_send = options->is_send, .bytes = options->bytes}};
    status = options->device == GDNCP_DEVICE_CUDA
                 ? gdncp_stream_group_create(comm, &handover->message, 1, &handover->streams)
                 : gdncp_comm_group_create(comm, 1, &handover->group);
    if (status != GDNCP_OK) {
        gdncp_handover_destroy(handover);
        return status;
    }
    *handover_p = handover;
    return GDNCP_OK;
}

void gdncp_handover_destroy(gdncp_handover_t *handover)
{
    if (handover != NULL) {
        gdncp_comm_group_destroy(handover->comm, handover->group);
        gdncp_stream_group_destroy(handover->streams);
        gdncp_memory_free(handover);
    }
}

static gdncp_status_t start_on_cpu(gdncp_handover_t *handover)
{
    const gdncp_handover_options_t *const options = &handover->options;
    gdncp_status_t status = gdncp_comm_group_begin(handover->comm, handover->group);

    if (status != GDNCP_OK) {
        return status;
    }
    status = options->is_send ? gdncp_comm_send(handover->comm, handover->group, handover->state,
                                                options->bytes, options->peer)
                              : gdncp_comm_recv(handover->comm, handover->group, handover->state,
                                                options->bytes, options->peer);
    return status == GDNCP_OK ? gdncp_comm_group_end(handover->comm, handover->group, NULL)
                              : status;
}

gdncp_status_t gdncp_handover_start(gdncp_handover_t *handover, void *state)
{
    handover->state = state;
    handover->message.buffer = state;
    if (handover->streams == NULL) {
        return start_on_cpu(handover);
    }
    /* What is received is received where it is waited for. */
    return handover->options.is_send
               ? gdncp_stream_group_start(handover->streams, handover->options.stream)
               : GDNCP_OK;
}

gdncp_status_t gdncp_handover_wait(gdncp_handover_t *handover)
{
    const gdncp_stream_t stream = handover->options.stream;

    if (handover->streams == NULL) {
        return gdncp_comm_group_wait(handover->comm, handover->group);
    }
    return handover->options.is_send ? gdncp_stream_group_wait(handover->streams, stream)
                                     : gdncp_stream_group_run(handover->streams, stream);
}

gdncp_status_t gdncp_handover_check(const gdncp_handover_t *handover)
{
    return handover != NULL && handover->streams != NULL
               ? gdncp_stream_group_check(handover->streams)
               : GDNCP_OK;
}
