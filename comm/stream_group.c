/* Messages in stream order, over NCCL or by a courier. */
#include "stream_group.h"

#include <assert.h>

#include "comm_internal.h"
#include "error.h"
#include "gdncp/memory.h"
#include "nccl_comm.h"
#include "courier_group.h"

struct gdncp_stream_group {
    gdncp_comm_t *comm;
    const gdncp_stream_message_t *messages;
    int64_t num_messages;
    gdncp_nccl_group_t *nccl;       /* one of these two */
    gdncp_courier_group_t *courier; /* the other is NULL */
};

gdncp_status_t gdncp_stream_group_create(gdncp_comm_t *comm, const gdncp_stream_message_t *messages,
                                         int64_t num_messages, gdncp_stream_group_t **group_p)
{
    gdncp_stream_group_t *const group = gdncp_memory_alloc(sizeof *group);

    if (group == NULL) {
        return gdncp_fail_memory("messages of a stream");
    }
    *group =
        (gdncp_stream_group_t){.comm = comm, .messages = messages, .num_messages = num_messages};
    const gdncp_status_t status =
        comm->nccl != NULL
            ? gdncp_nccl_group_create(comm->nccl, messages, num_messages, &group->nccl)
            : gdncp_courier_group_create(comm, messages, num_messages, &group->courier);

    if (status != GDNCP_OK) {
        gdncp_memory_free(group);
        return status;
    }
    *group_p = group;
    return GDNCP_OK;
}

void gdncp_stream_group_destroy(gdncp_stream_group_t *group)
{
    if (group != NULL) {
        gdncp_nccl_group_destroy(group->nccl);
        gdncp_courier_group_destroy(group->courier);
        gdncp_memory_free(group);
    }
}

gdncp_status_t gdncp_stream_group_connect(gdncp_comm_t *comm,
                                          const gdncp_stream_message_t *messages,
                                          int64_t num_messages)
{
    return comm->nccl != NULL ? gdncp_nccl_connect(comm->nccl, messages, num_messages) : GDNCP_OK;
}

/* Of one run, as it is queued. */
static void count_messages(const gdncp_stream_group_t *group)
{
    gdncp_comm_counters_t *const counters = &group->comm->counters;

    for (int64_t m = 0; m < group->num_messages; m++) {
        const gdncp_stream_message_t *const message = &group->messages[m];

        *(message->is_send ? &counters->messages_sent : &counters->messages_received) += 1;
        *(message->is_send ? &counters->bytes_sent : &counters->bytes_received) +=
            (int64_t)message->bytes;
    }
}

gdncp_status_t gdncp_stream_group_start(gdncp_stream_group_t *group, gdncp_stream_t stream)
{
    return group->nccl != NULL ? gdncp_stream_group_run(group, stream)
                               : gdncp_courier_group_start(group->courier, stream);
}

gdncp_status_t gdncp_stream_group_wait(gdncp_stream_group_t *group, gdncp_stream_t stream)
{
    return group->nccl != NULL ? GDNCP_OK : gdncp_courier_group_wait(group->courier, stream);
}

gdncp_status_t gdncp_stream_group_run(gdncp_stream_group_t *group, gdncp_stream_t stream)
{
    if (group->nccl == NULL) {
        return gdncp_courier_group_run(group->courier, stream);
    }
    count_messages(group);
    return gdncp_nccl_group_run(group->nccl, stream);
}

bool gdncp_stream_group_gathers(const gdncp_stream_group_t *group)
{
    return group->nccl != NULL;
}

gdncp_status_t gdncp_stream_group_all_gather(gdncp_stream_group_t *group, const void *in, void *out,
                                             size_t bytes, gdncp_stream_t stream)
{
    assert(gdncp_stream_group_gathers(group));
    count_messages(group);
    return gdncp_nccl_group_all_gather(group->nccl, in, out, bytes, stream);
}

gdncp_status_t gdncp_stream_group_connect_all_gather(const gdncp_stream_group_t *group,
                                                     size_t bytes)
{
    return gdncp_nccl_connect_all_gather(group->comm->nccl, group->messages, group->num_messages,
                                         bytes);
}

gdncp_status_t gdncp_stream_group_check(const gdncp_stream_group_t *group)
{
    return group->nccl != NULL ? gdncp_nccl_check(group->comm->nccl)
                               : gdncp_courier_group_check(group->courier);
}
