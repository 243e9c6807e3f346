/* One rank, whose only peer is itself. */
#include <stdatomic.h>
#include <stdio.h>

#include "error.h"
#include "gdncp/memory.h"
#include "loopback.h"
#include "transport.h"

typedef struct self_transport {
    gdncp_transport_t base;
    gdncp_loopback_t loopback;
    atomic_bool aborted;
} self_transport_t;

typedef struct message {
    gdncp_loopback_message_t loopback;
    bool is_send;
    void *buffer; /* only read where is_send */
    size_t bytes;
} message_t;

typedef struct self_group {
    gdncp_group_t base;
    message_t messages[]; /* [base.max_messages] */
} self_group_t;

static self_transport_t *transport_of(const self_group_t *group)
{
    return (self_transport_t *)group->base.transport;
}

static gdncp_status_t group_create(gdncp_transport_t *transport, gdncp_device_kind_t memory,
                                   int64_t max_messages, gdncp_group_t **group_p)
{
    return gdncp_group_alloc(transport, memory, max_messages, sizeof(self_group_t),
                             sizeof(message_t), group_p);
}

static void cancel(self_group_t *group)
{
    for (int64_t i = 0; group->base.in_flight && i < group->base.num_messages; i++) {
        gdncp_loopback_cancel(&transport_of(group)->loopback, &group->messages[i].loopback);
    }
    group->base.in_flight = false;
}

static gdncp_status_t add_message(self_group_t *group, bool is_send, void *buffer, size_t bytes)
{
    const gdncp_status_t status = gdncp_group_add(&group->base);

    if (status != GDNCP_OK) {
        return status;
    }
    group->messages[group->base.num_messages - 1] =
        (message_t){.is_send = is_send, .buffer = buffer, .bytes = bytes};
    return GDNCP_OK;
}

static gdncp_status_t send_message(gdncp_group_t *base, const void *buffer, size_t bytes, int peer)
{
    (void)peer;
    return add_message((self_group_t *)base, true, (void *)buffer, bytes);
}

static gdncp_status_t recv_message(gdncp_group_t *base, void *buffer, size_t bytes, int peer)
{
    (void)peer;
    return add_message((self_group_t *)base, false, buffer, bytes);
}

static gdncp_status_t check_aborted(const self_transport_t *transport)
{
    return atomic_load(&transport->aborted)
               ? gdncp_fail(GDNCP_ERR_PEER_LOST, "rank 0 of 1: the communicator was aborted")
               : GDNCP_OK;
}

static gdncp_status_t group_end(gdncp_group_t *base, gdncp_stream_t stream)
{
    self_group_t *const group = (self_group_t *)base;
    self_transport_t *const transport = transport_of(group);

    (void)stream;
    const gdncp_status_t status = check_aborted(transport);
    if (status != GDNCP_OK) {
        return status;
    }
    group->base.in_flight = true;
    for (int64_t i = 0; i < group->base.num_messages; i++) {
        message_t *const message = &group->messages[i];

        if (message->is_send) {
            gdncp_loopback_send(&transport->loopback, &message->loopback, message->buffer,
                                message->bytes);
        } else {
            gdncp_loopback_recv(&transport->loopback, &message->loopback, message->buffer,
                                message->bytes);
        }
    }
    return GDNCP_OK;
}

static gdncp_status_t group_test(gdncp_group_t *base, bool *done_p)
{
    self_group_t *const group = (self_group_t *)base;

    if (!group->base.in_flight) {
        *done_p = true;
        return GDNCP_OK;
    }
    const gdncp_status_t status = check_aborted(transport_of(group));
    if (status != GDNCP_OK) {
        cancel(group);
        return status;
    }
    for (int64_t i = 0; i < group->base.num_messages; i++) {
        const message_t *const message = &group->messages[i];

        if (message->loopback.pending) {
            *done_p = false;
            return GDNCP_OK;
        }
        if (!message->is_send && message->loopback.partner_bytes != message->bytes) {
            cancel(group);
            return gdncp_fail(GDNCP_ERR_MISMATCH,
                              "rank 0 of 1: expected a message of %zu bytes from rank 0, got %zu",
                              message->bytes, message->loopback.partner_bytes);
        }
    }
    group->base.in_flight = false;
    *done_p = true;
    return GDNCP_OK;
}

static bool group_waits_for(const gdncp_group_t *base, int peer)
{
    const self_group_t *const group = (const self_group_t *)base;

    (void)peer;
    for (int64_t i = 0; group->base.in_flight && i < group->base.num_messages; i++) {
        if (group->messages[i].loopback.pending) {
            return true;
        }
    }
    return false;
}

static void group_destroy(gdncp_group_t *base)
{
    self_group_t *const group = (self_group_t *)base;

    cancel(group);
    gdncp_memory_free(group);
}

static gdncp_status_t check_peer(gdncp_transport_t *transport, int peer)
{
    (void)peer;
    return check_aborted((const self_transport_t *)transport);
}

static gdncp_status_t describe_lanes(gdncp_transport_t *transport, int peer, char *text,
                                     size_t size)
{
    (void)transport;
    (void)peer;
    snprintf(text, size, "memcpy");
    return GDNCP_OK;
}

static void abort_transport(gdncp_transport_t *transport)
{
    atomic_store(&((self_transport_t *)transport)->aborted, true);
}

static gdncp_status_t create_among(gdncp_transport_t *transport, int leader,
                                   const gdncp_bootstrap_t *bootstrap, int64_t timeout_ms,
                                   gdncp_transport_t **among_p)
{
    (void)transport;
    (void)leader;
    (void)bootstrap;
    (void)timeout_ms;
    return gdncp_transport_self_create(among_p);
}

static gdncp_status_t shrink(gdncp_transport_t *transport, int64_t timeout_ms,
                             gdncp_transport_t **survivors_p)
{
    (void)transport;
    (void)timeout_ms;
    return gdncp_transport_self_create(survivors_p);
}

static void destroy(gdncp_transport_t *transport)
{
    gdncp_memory_free(transport);
}

static const gdncp_transport_ops_t self_ops = {
    .kind = GDNCP_TRANSPORT_SELF,
    .check_device_memory = gdncp_transport_refuse_device,
    .group_create = group_create,
    .group_begin = gdncp_group_restart,
    .send = send_message,
    .recv = recv_message,
    .group_end = group_end,
    .group_test = group_test,
    .group_waits_for = group_waits_for,
    .group_destroy = group_destroy,
    .check_peer = check_peer,
    .describe_lanes = describe_lanes,
    .abort = abort_transport,
    .create_among = create_among,
    .shrink = shrink,
    .destroy = destroy,
};

gdncp_status_t gdncp_transport_self_create(gdncp_transport_t **transport_p)
{
    self_transport_t *const transport = gdncp_memory_alloc(sizeof *transport);

    if (transport == NULL) {
        return gdncp_fail_memory("a communicator of one rank");
    }
    *transport = (self_transport_t){.base = {.ops = &self_ops, .rank = 0, .size = 1}};
    *transport_p = &transport->base;
    return GDNCP_OK;
}
