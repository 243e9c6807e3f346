/* What all backends share: room for a group's messages, when it may be used, and what failed. */
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "gdncp/memory.h"
#include "transport.h"

gdncp_status_t gdncp_group_alloc(gdncp_transport_t *transport, gdncp_device_kind_t memory,
                                 int64_t max_messages, size_t head_bytes, size_t message_bytes,
                                 gdncp_group_t **group_p)
{
    gdncp_group_t *const group =
        gdncp_memory_alloc(head_bytes + (size_t)max_messages * message_bytes);

    if (group == NULL) {
        return gdncp_fail_memory("a group of messages");
    }
    memset(group, 0, head_bytes);
    group->transport = transport;
    group->memory = memory;
    group->max_messages = max_messages;
    *group_p = group;
    return GDNCP_OK;
}

gdncp_status_t gdncp_group_restart(gdncp_group_t *group)
{
    if (group->in_flight) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "group: expected one that is done, got one in flight");
    }
    group->num_messages = 0;
    return GDNCP_OK;
}

gdncp_status_t gdncp_group_add(gdncp_group_t *group)
{
    if (group->in_flight) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "group: expected one that was begun, got one in flight");
    }
    if (group->num_messages == group->max_messages) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "group: expected at most max_messages = %lld messages, got one more",
                          (long long)group->max_messages);
    }
    group->num_messages++;
    return GDNCP_OK;
}

const char *gdncp_transport_cause(const gdncp_transport_t *transport)
{
    return atomic_load_explicit(&transport->has_cause, memory_order_acquire) ? transport->cause
                                                                             : "";
}

void gdncp_transport_keep_cause(gdncp_transport_t *transport)
{
    if (!atomic_load_explicit(&transport->has_cause, memory_order_relaxed)) {
        snprintf(transport->cause, sizeof transport->cause, "%s", gdncp_last_error());
        atomic_store_explicit(&transport->has_cause, true, memory_order_release);
    }
}

gdncp_status_t gdncp_transport_refuse_device(const gdncp_transport_t *transport)
{
    return gdncp_fail(GDNCP_ERR_NOT_SUPPORTED, "transport %s moves the host's memory only",
                      gdncp_transport_name(transport->ops->kind));
}
