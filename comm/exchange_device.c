/*
 * Exchanges between buffers of a CUDA device.
 *
 * A run is, in stream order: pack all messages into the staging buffer, copy that to pinned memory,
 * copy my own blocks from in to out, let a callback send and receive, copy what came to the staging
 * buffer, unpack it. Messages that are whole in the user's buffers are copied between these and
 * pinned memory, and have no part in the staging buffer.
 */
#include "exchange_device.h"

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/memory.h"
#include "plan_image.h"
#include "plan_internal.h"
#include "stream_group.h"

struct gdncp_device_exchange {
    const gdncp_plan_t *plan;
    gdncp_plan_image_t *image;

    /* Packed sends, receives to be unpacked, then those that are whole in the user's buffers. */
    gdncp_stream_message_t *messages;
    int64_t num_messages;
    int64_t num_staged;
    gdncp_stream_group_t *group; /* NULL: there are none */

    char *staging;     /* of the device: the staged messages, placed as in pinned memory */
    size_t send_bytes; /* of its part that is packed */
    size_t recv_bytes; /* of its part that is unpacked, which comes next */
};

static void add_message(gdncp_device_exchange_t *exchange, const gdncp_message_t *message,
                        bool is_send)
{
    const int64_t bytes = is_send ? message->send_bytes : message->recv_bytes;

    if (bytes > 0) {
        exchange->messages[exchange->num_messages++] = (gdncp_stream_message_t){
            .peer = message->peer, .is_send = is_send, .bytes = (size_t)bytes};
    }
}

static void add_messages(gdncp_device_exchange_t *exchange, bool sends, bool in_place)
{
    const gdncp_plan_t *const plan = exchange->plan;

    for (int64_t m = 0; m < plan->num_messages; m++) {
        const int peer = plan->messages[m].peer;
        const bool is_in_place = sends ? gdncp_plan_sends_in_place(plan, peer)
                                       : gdncp_plan_receives_in_place(plan, peer);

        if (is_in_place == in_place) {
            add_message(exchange, &plan->messages[m], sends);
        }
    }
}

static gdncp_status_t list_messages(gdncp_device_exchange_t *exchange)
{
    exchange->messages =
        gdncp_memory_alloc((size_t)(2 * exchange->plan->num_messages) * sizeof *exchange->messages);
    if (exchange->messages == NULL) {
        return gdncp_fail_memory("messages of an exchange");
    }
    add_messages(exchange, true, false);
    add_messages(exchange, false, false);
    exchange->num_staged = exchange->num_messages;
    add_messages(exchange, true, true);
    add_messages(exchange, false, true);
    return GDNCP_OK;
}

/* From the first message's begin; messages lie one behind the other. */
static int64_t place_of(const gdncp_device_exchange_t *exchange, int64_t message)
{
    return (const char *)exchange->messages[message].pinned -
           (const char *)exchange->messages[0].pinned;
}

static gdncp_status_t make_staging(gdncp_device_exchange_t *exchange)
{
    const size_t line = GDNCP_STREAM_MESSAGE_ALIGNMENT;
    void *staging;

    for (int64_t m = 0; m < exchange->num_staged; m++) {
        const gdncp_stream_message_t *const message = &exchange->messages[m];
        const size_t bytes = (message->bytes + line - 1) / line * line;

        if (message->is_send) {
            exchange->send_bytes += bytes;
        } else {
            exchange->recv_bytes += bytes;
        }
    }
    const gdncp_status_t status = gdncp_device_alloc(
        GDNCP_DEVICE_CUDA, exchange->send_bytes + exchange->recv_bytes, &staging);

    if (status == GDNCP_OK) {
        exchange->staging = staging;
    }
    return status;
}

static gdncp_status_t make_image(gdncp_device_exchange_t *exchange,
                                 const gdncp_plan_kernels_t *kernels)
{
    const int num_ranks = exchange->plan->num_ranks;
    int64_t *const places = gdncp_memory_alloc((size_t)num_ranks * 2 * sizeof *places);

    if (places == NULL) {
        return gdncp_fail_memory("the places of messages");
    }
    for (int i = 0; i < 2 * num_ranks; i++) {
        places[i] = -1;
    }
    for (int64_t m = 0; m < exchange->num_staged; m++) {
        const gdncp_stream_message_t *const message = &exchange->messages[m];

        places[message->is_send ? message->peer : num_ranks + message->peer] =
            place_of(exchange, m);
    }
    const gdncp_status_t status = gdncp_plan_image_create(
        exchange->plan, &(gdncp_plan_places_t){.sends = places, .recvs = places + num_ranks},
        kernels, &exchange->image);

    gdncp_memory_free(places);
    return status;
}

static gdncp_status_t make_parts(gdncp_comm_t *comm, gdncp_device_exchange_t *exchange)
{
    const gdncp_backend_t *backend;
    gdncp_status_t status = gdncp_backend_find(&backend);

    if (status == GDNCP_OK) {
        status = list_messages(exchange);
    }
    if (status == GDNCP_OK && exchange->num_messages > 0) {
        status = gdncp_stream_group_create(comm, exchange->messages, exchange->num_messages,
                                           &exchange->group);
    }
    if (status == GDNCP_OK && exchange->num_staged > 0) {
        status = make_staging(exchange);
    }
    return status == GDNCP_OK ? make_image(exchange, gdncp_plan_kernels_of(backend)) : status;
}

gdncp_status_t gdncp_device_exchange_create(gdncp_comm_t *comm, const gdncp_plan_t *plan,
                                            gdncp_device_exchange_t **exchange_p)
{
    gdncp_device_exchange_t *const exchange = gdncp_memory_alloc(sizeof *exchange);

    if (exchange == NULL) {
        return gdncp_fail_memory("an exchange on a device");
    }
    *exchange = (gdncp_device_exchange_t){.plan = plan};
    const gdncp_status_t status = make_parts(comm, exchange);

    if (status != GDNCP_OK) {
        gdncp_device_exchange_destroy(exchange);
        return status;
    }
    *exchange_p = exchange;
    return GDNCP_OK;
}

void gdncp_device_exchange_destroy(gdncp_device_exchange_t *exchange)
{
    if (exchange != NULL) {
        gdncp_stream_group_destroy(exchange->group);
        gdncp_plan_image_destroy(exchange->image);
        gdncp_device_free(GDNCP_DEVICE_CUDA, exchange->staging);
        gdncp_memory_free(exchange->messages);
        gdncp_memory_free(exchange);
    }
}

static gdncp_status_t copy(void *to, const void *from, size_t bytes, gdncp_stream_t stream)
{
    return gdncp_device_copy(GDNCP_DEVICE_CUDA, to, from, bytes, stream);
}

/* The place in the user's buffer of a message that is whole there. */
static size_t user_offset(const gdncp_plan_t *plan, const gdncp_stream_message_t *message)
{
    const gdncp_block_list_t *const list =
        message->is_send ? &plan->sends[message->peer] : &plan->recvs[message->peer];

    return (size_t)list->blocks[0].offset * gdncp_dtype_size(plan->dtype);
}

static gdncp_status_t copy_sends(const gdncp_device_exchange_t *exchange, const char *in,
                                 gdncp_stream_t stream)
{
    gdncp_status_t status =
        copy(exchange->messages[0].pinned, exchange->staging, exchange->send_bytes, stream);

    for (int64_t m = exchange->num_staged; m < exchange->num_messages; m++) {
        const gdncp_stream_message_t *const message = &exchange->messages[m];

        if (message->is_send && status == GDNCP_OK) {
            status = copy(message->pinned, in + user_offset(exchange->plan, message),
                          message->bytes, stream);
        }
    }
    return status;
}

static gdncp_status_t copy_receives(const gdncp_device_exchange_t *exchange, char *out,
                                    gdncp_stream_t stream)
{
    gdncp_status_t status = copy(exchange->staging + exchange->send_bytes,
                                 (const char *)exchange->messages[0].pinned + exchange->send_bytes,
                                 exchange->recv_bytes, stream);

    for (int64_t m = exchange->num_staged; m < exchange->num_messages; m++) {
        const gdncp_stream_message_t *const message = &exchange->messages[m];

        if (!message->is_send && status == GDNCP_OK) {
            status = copy(out + user_offset(exchange->plan, message), message->pinned,
                          message->bytes, stream);
        }
    }
    return status;
}

static gdncp_status_t clear(const gdncp_plan_t *plan, void *out, gdncp_stream_t stream)
{
    const size_t bytes = (size_t)plan->output_elements * gdncp_dtype_size(plan->dtype);

    return gdncp_plan_must_clear(plan) ? gdncp_device_clear(GDNCP_DEVICE_CUDA, out, bytes, stream)
                                       : GDNCP_OK;
}

gdncp_status_t gdncp_device_exchange_run(gdncp_device_exchange_t *exchange, const void *in,
                                         void *out, gdncp_stream_t stream)
{
    const bool moves = exchange->num_messages > 0;
    gdncp_status_t status = gdncp_plan_image_pack(exchange->image, in, exchange->staging, stream);

    if (status == GDNCP_OK && moves) {
        status = copy_sends(exchange, in, stream);
    }
    if (status == GDNCP_OK) {
        status = clear(exchange->plan, out, stream);
    }
    if (status == GDNCP_OK) {
        status = gdncp_plan_image_copy_local(exchange->image, in, out, stream);
    }
    if (status == GDNCP_OK && moves) {
        status = gdncp_stream_group_run(exchange->group, stream);
    }
    if (status == GDNCP_OK && moves) {
        status = copy_receives(exchange, out, stream);
    }
    return status == GDNCP_OK
               ? gdncp_plan_image_deliver(exchange->image, in, exchange->staging, out, stream)
               : status;
}

gdncp_status_t gdncp_device_exchange_check(const gdncp_device_exchange_t *exchange)
{
    return exchange->group != NULL ? gdncp_stream_group_check(exchange->group) : GDNCP_OK;
}
