/*
 * Exchanges between buffers of a CUDA device.
 *
 * A run is, in stream order: pack all messages into the staging buffer, copy my own blocks from in
 * to out, send and receive between staging buffers, unpack. Messages that are whole in the user's
 * buffers are neither packed nor unpacked, and have no part in the staging buffer.
 *
 * An all-gather of equal shards that lie whole in the user's buffers is one call of a transport
 * that has one. An all-to-all of equal messages is not: NCCL makes of its own what is done here,
 * unless buffers are registered with it as windows, which the user's are not.
 */
#include "exchange_device.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

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
    bool gathers;                /* in one call */

    char *staging; /* of the device: the staged messages, one behind the other */
};

static void add_message(gdncp_device_exchange_t *exchange, const gdncp_message_t *message,
                        bool is_send, bool is_fixed)
{
    const int64_t bytes = is_send ? message->send_bytes : message->recv_bytes;

    if (bytes > 0) {
        exchange->messages[exchange->num_messages++] =
            (gdncp_stream_message_t){.peer = message->peer,
                                     .is_send = is_send,
                                     .is_fixed = is_fixed,
                                     .bytes = (size_t)bytes};
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
            add_message(exchange, &plan->messages[m], sends, !in_place);
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

static gdncp_status_t make_staging(gdncp_device_exchange_t *exchange)
{
    size_t bytes = 0;
    void *staging;

    for (int64_t m = 0; m < exchange->num_staged; m++) {
        bytes += gdncp_stream_message_room(exchange->messages[m].bytes);
    }
    const gdncp_status_t status = gdncp_device_alloc(GDNCP_DEVICE_CUDA, bytes, &staging);

    if (status != GDNCP_OK) {
        return status;
    }
    exchange->staging = staging;
    bytes = 0;
    for (int64_t m = 0; m < exchange->num_staged; m++) {
        exchange->messages[m].buffer = exchange->staging + bytes;
        bytes += gdncp_stream_message_room(exchange->messages[m].bytes);
    }
    return GDNCP_OK;
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
            (const char *)message->buffer - exchange->staging;
    }
    const gdncp_status_t status = gdncp_plan_image_create(
        exchange->plan, &(gdncp_plan_places_t){.sends = places, .recvs = places + num_ranks},
        kernels, &exchange->image);

    gdncp_memory_free(places);
    return status;
}

/* The shard of every rank is as long, and lies whole on both sides. All ranks see the same. */
static bool is_even_all_gather(const gdncp_plan_t *plan)
{
    const int64_t shard = plan->input_elements;

    if (strcmp(plan->name, "all_gather_concat") != 0 || plan->write != GDNCP_PLAN_ASSIGN) {
        return false;
    }
    for (int peer = 0; peer < plan->num_ranks; peer++) {
        const gdncp_block_list_t *const recv = &plan->recvs[peer];

        if (recv->elements != shard || !gdncp_block_list_is_run(recv) ||
            recv->blocks[0].offset != peer * shard) {
            return false;
        }
    }
    return true;
}

static gdncp_status_t make_parts(gdncp_comm_t *comm, gdncp_device_exchange_t *exchange)
{
    const gdncp_backend_t *backend;
    gdncp_status_t status = gdncp_backend_find(&backend);

    if (status == GDNCP_OK) {
        status = list_messages(exchange);
    }
    if (status == GDNCP_OK && exchange->num_staged > 0) {
        status = make_staging(exchange);
    }
    if (status == GDNCP_OK && exchange->num_messages > 0) {
        status = gdncp_stream_group_create(comm, exchange->messages, exchange->num_messages,
                                           &exchange->group);
    }
    exchange->gathers = exchange->group != NULL && gdncp_stream_group_gathers(exchange->group) &&
                        is_even_all_gather(exchange->plan);
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

static size_t input_bytes(const gdncp_plan_t *plan)
{
    return (size_t)plan->input_elements * gdncp_dtype_size(plan->dtype);
}

gdncp_status_t gdncp_device_exchange_connect(gdncp_comm_t *comm,
                                             const gdncp_device_exchange_t *exchange)
{
    return exchange->gathers
               ? gdncp_stream_group_connect_all_gather(exchange->group, input_bytes(exchange->plan))
               : gdncp_stream_group_connect(comm, exchange->messages, exchange->num_messages);
}

/* Messages that are whole in the user's buffers are there. A send's is only read. */
static void place_messages(const gdncp_device_exchange_t *exchange, const void *in, void *out)
{
    const gdncp_plan_t *const plan = exchange->plan;
    const size_t size = gdncp_dtype_size(plan->dtype);

    for (int64_t m = exchange->num_staged; m < exchange->num_messages; m++) {
        gdncp_stream_message_t *const message = &exchange->messages[m];
        const gdncp_block_list_t *const list =
            message->is_send ? &plan->sends[message->peer] : &plan->recvs[message->peer];
        char *const begin = message->is_send ? (char *)(uintptr_t)in : out;

        message->buffer = begin + (size_t)list->blocks[0].offset * size;
    }
}

static gdncp_status_t clear(const gdncp_plan_t *plan, void *out, gdncp_stream_t stream)
{
    const size_t bytes = (size_t)plan->output_elements * gdncp_dtype_size(plan->dtype);

    return gdncp_plan_must_clear(plan) ? gdncp_device_clear(GDNCP_DEVICE_CUDA, out, bytes, stream)
                                       : GDNCP_OK;
}

static gdncp_status_t move_messages(const gdncp_device_exchange_t *exchange, const void *in,
                                    void *out, gdncp_stream_t stream)
{
    if (exchange->group == NULL) {
        return GDNCP_OK;
    }
    place_messages(exchange, in, out);
    return gdncp_stream_group_run(exchange->group, stream);
}

gdncp_status_t gdncp_device_exchange_run(gdncp_device_exchange_t *exchange, const void *in,
                                         void *out, gdncp_stream_t stream)
{
    const gdncp_plan_t *const plan = exchange->plan;

    if (exchange->gathers) {
        return gdncp_stream_group_all_gather(exchange->group, in, out, input_bytes(plan), stream);
    }
    gdncp_status_t status = gdncp_plan_image_pack(exchange->image, in, exchange->staging, stream);

    if (status == GDNCP_OK) {
        status = clear(plan, out, stream);
    }
    if (status == GDNCP_OK) {
        status = gdncp_plan_image_copy_local(exchange->image, in, out, stream);
    }
    if (status == GDNCP_OK) {
        status = move_messages(exchange, in, out, stream);
    }
    return status == GDNCP_OK
               ? gdncp_plan_image_deliver(exchange->image, in, exchange->staging, out, stream)
               : status;
}

gdncp_status_t gdncp_device_exchange_check(const gdncp_device_exchange_t *exchange)
{
    return exchange->group != NULL ? gdncp_stream_group_check(exchange->group) : GDNCP_OK;
}
