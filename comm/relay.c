/* Running a relay: gather to the owners, walk the chains, scatter back. */
#include "relay.h"

#include "error.h"
#include "gdncp/device.h"
#include "gdncp/exchange.h"
#include "gdncp/memory.h"
#include "handover.h"
#include "stream_group.h"
#include "trace_internal.h"

/* One direction, bound to the communicator. */
typedef struct direction {
    const gdncp_relay_walk_t *walk;
    gdncp_exchange_t *gather;
    gdncp_exchange_t *scatter;
    gdncp_handover_t *receiving; /* from the owner before; NULL: none */
    gdncp_handover_t *sending;   /* to the owner after; NULL: none */
} direction_t;

struct gdncp_relay {
    gdncp_comm_t *comm;
    const gdncp_relay_schedule_t *schedule;
    gdncp_device_kind_t device;
    gdncp_stream_t stream;
    gdncp_relay_combine_t combine;
    void *context;
    direction_t forward;
    direction_t backward;
    float *handover; /* [state_elements] from the owner before */
    float *gathered; /* [num_slots, state_elements] contributions of backward */
    float *results;  /* [num_slots, state_elements] */
};

static gdncp_status_t make_handovers(gdncp_relay_t *relay, const gdncp_relay_walk_t *walk,
                                     direction_t *direction)
{
    gdncp_handover_options_t options = {.device = relay->device,
                                        .stream = relay->stream,
                                        .bytes = (size_t)relay->schedule->state_elements *
                                                 sizeof(float)};
    gdncp_status_t status = GDNCP_OK;

    if (walk->receive_from >= 0) {
        options.peer = walk->receive_from;
        status = gdncp_handover_create(relay->comm, &options, &direction->receiving);
    }
    if (walk->send_to >= 0 && status == GDNCP_OK) {
        options.peer = walk->send_to;
        options.is_send = true;
        status = gdncp_handover_create(relay->comm, &options, &direction->sending);
    }
    return status;
}

static gdncp_status_t alloc_states(const gdncp_relay_t *relay, int64_t count, float **states_p)
{
    const size_t bytes = (size_t)count * (size_t)relay->schedule->state_elements * sizeof(float);
    void *memory;
    const gdncp_status_t status = gdncp_device_alloc(relay->device, bytes, &memory);

    if (status == GDNCP_OK) {
        *states_p = memory;
    }
    return status;
}

static gdncp_status_t make_own_parts(gdncp_relay_t *relay)
{
    const gdncp_relay_schedule_t *const schedule = relay->schedule;
    gdncp_status_t status = alloc_states(relay, 1, &relay->handover);

    if (status == GDNCP_OK) {
        status = alloc_states(relay, schedule->num_slots, &relay->gathered);
    }
    if (status == GDNCP_OK) {
        status = alloc_states(relay, schedule->num_slots, &relay->results);
    }
    if (status == GDNCP_OK) {
        status = make_handovers(relay, &schedule->forward, &relay->forward);
    }
    return status == GDNCP_OK ? make_handovers(relay, &schedule->backward, &relay->backward)
                              : status;
}

static gdncp_status_t bind(const gdncp_relay_t *relay, const gdncp_relay_walk_t *walk,
                           direction_t *direction)
{
    gdncp_status_t status;

    direction->walk = walk;
    status = gdncp_exchange_create_on(relay->comm, walk != NULL ? walk->gather : NULL,
                                      relay->device, &direction->gather);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_exchange_create_on(relay->comm, walk != NULL ? walk->scatter : NULL, relay->device,
                                    &direction->scatter);
}

/* Let the communicator prepare for what owners hand to each other. */
static gdncp_status_t connect_handovers(const gdncp_relay_t *relay)
{
    const gdncp_relay_walk_t *const walks[2] = {&relay->schedule->forward,
                                                &relay->schedule->backward};
    gdncp_stream_message_t messages[4];
    int64_t num_messages = 0;

    for (int w = 0; w < 2; w++) {
        if (walks[w]->receive_from >= 0) {
            messages[num_messages++] =
                (gdncp_stream_message_t){.peer = walks[w]->receive_from, .is_send = false};
        }
        if (walks[w]->send_to >= 0) {
            messages[num_messages++] =
                (gdncp_stream_message_t){.peer = walks[w]->send_to, .is_send = true};
        }
    }
    return relay->device == GDNCP_DEVICE_CUDA
               ? gdncp_stream_group_connect(relay->comm, messages, num_messages)
               : GDNCP_OK;
}

gdncp_status_t gdncp_relay_create(gdncp_comm_t *comm, const gdncp_relay_schedule_t *schedule,
                                  gdncp_device_kind_t device, gdncp_stream_t stream,
                                  gdncp_relay_combine_t combine, void *context,
                                  gdncp_relay_t **relay_p)
{
    gdncp_relay_t *const relay = gdncp_memory_alloc(sizeof *relay);
    gdncp_status_t status = GDNCP_OK;

    if (relay == NULL) {
        status = gdncp_fail_memory("state relay");
    } else {
        *relay = (gdncp_relay_t){.comm = comm,
                                 .schedule = schedule,
                                 .device = device,
                                 .stream = stream,
                                 .combine = combine,
                                 .context = context};
        if (schedule != NULL) {
            status = make_own_parts(relay);
        }
    }
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        goto destroy_relay;
    }
    status = bind(relay, schedule != NULL ? &schedule->forward : NULL, &relay->forward);
    if (status != GDNCP_OK) {
        goto destroy_relay;
    }
    status = bind(relay, schedule != NULL ? &schedule->backward : NULL, &relay->backward);
    if (status != GDNCP_OK) {
        goto destroy_relay;
    }
    status = gdncp_comm_agree(comm, connect_handovers(relay));
    if (status != GDNCP_OK) {
        goto destroy_relay;
    }
    *relay_p = relay;
    return GDNCP_OK;

destroy_relay:
    gdncp_relay_destroy(relay);
    return status;
}

static void destroy_direction(direction_t *direction)
{
    gdncp_exchange_destroy(direction->gather);
    gdncp_exchange_destroy(direction->scatter);
    gdncp_handover_destroy(direction->receiving);
    gdncp_handover_destroy(direction->sending);
}

void gdncp_relay_destroy(gdncp_relay_t *relay)
{
    if (relay == NULL) {
        return;
    }
    destroy_direction(&relay->forward);
    destroy_direction(&relay->backward);
    gdncp_device_free(relay->device, relay->handover);
    gdncp_device_free(relay->device, relay->gathered);
    gdncp_device_free(relay->device, relay->results);
    gdncp_memory_free(relay);
}

static gdncp_status_t check_direction(const direction_t *direction)
{
    gdncp_status_t status = gdncp_exchange_check(direction->gather);

    if (status == GDNCP_OK) {
        status = gdncp_handover_check(direction->receiving);
    }
    if (status == GDNCP_OK) {
        status = gdncp_handover_check(direction->sending);
    }
    return status == GDNCP_OK ? gdncp_exchange_check(direction->scatter) : status;
}

gdncp_status_t gdncp_relay_check(const gdncp_relay_t *relay)
{
    const gdncp_status_t status = check_direction(&relay->forward);

    return status == GDNCP_OK ? check_direction(&relay->backward) : status;
}

/* Compute cells [begin, end); hand the result over that another owner waits for. The state before
 * the first cell is the one handed over; where a chain starts there is no transition to use it. */
static gdncp_status_t walk_cells(gdncp_relay_t *relay, const direction_t *direction,
                                 const float *transitions, const float *contributions,
                                 int64_t begin, int64_t end)
{
    const gdncp_relay_walk_t *const walk = direction->walk;
    const bool transposed = direction == &relay->backward;
    const int64_t state_elements = relay->schedule->state_elements;
    const int64_t transition_elements = relay->schedule->transition_elements;
    const float *previous = relay->handover;

    for (int64_t i = begin; i < end; i++) {
        const gdncp_relay_cell_t *const cell = &walk->cells[i];
        float *const result = relay->results + cell->slot * state_elements;
        const gdncp_status_t status = relay->combine(
            relay->context,
            cell->transition >= 0 ? transitions + cell->transition * transition_elements : NULL,
            contributions + cell->slot * state_elements, previous, transposed, result);

        if (status != GDNCP_OK) {
            return status;
        }
        previous = result;
        if (direction->sending != NULL && walk->send_slot == cell->slot) {
            const gdncp_status_t sent = gdncp_handover_start(direction->sending, result);

            if (sent != GDNCP_OK) {
                return sent;
            }
        }
    }
    return GDNCP_OK;
}

/* Gather, walk, scatter. Chains that need nothing from another owner are walked first, so that
 * whoever waits for them waits least. */
static gdncp_status_t run(gdncp_relay_t *relay, const direction_t *direction, const float *outgoing,
                          float *gathered, const float *transitions, float *incoming)
{
    const gdncp_relay_walk_t *const walk = direction->walk;
    gdncp_status_t status;

    status = gdncp_exchange_run(direction->gather, outgoing, gathered, relay->stream);
    if (status != GDNCP_OK) {
        return status;
    }
    /* After the gather and before the scatter, as on the sender: messages match in order. */
    if (direction->receiving != NULL) {
        status = gdncp_handover_start(direction->receiving, relay->handover);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    const int64_t start = gdncp_trace_begin();

    status = walk_cells(relay, direction, transitions, gathered, 0, walk->first_waiting);
    if (status != GDNCP_OK) {
        return status;
    }
    if (direction->receiving != NULL) {
        status = gdncp_handover_wait(direction->receiving);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    status =
        walk_cells(relay, direction, transitions, gathered, walk->first_waiting, walk->num_cells);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_trace_end("relay walk", start, 0);
    status = gdncp_exchange_run(direction->scatter, relay->results, incoming, relay->stream);
    if (status != GDNCP_OK) {
        return status;
    }
    return direction->sending != NULL ? gdncp_handover_wait(direction->sending) : GDNCP_OK;
}

gdncp_status_t gdncp_relay_forward(gdncp_relay_t *relay, const float *outgoing, float *kept,
                                   float *incoming)
{
    const gdncp_relay_schedule_t *const schedule = relay->schedule;

    return run(relay, &relay->forward, outgoing, kept,
               kept + schedule->num_slots * schedule->state_elements, incoming);
}

gdncp_status_t gdncp_relay_backward(gdncp_relay_t *relay, const float *outgoing, const float *kept,
                                    float *incoming)
{
    const gdncp_relay_schedule_t *const schedule = relay->schedule;

    return run(relay, &relay->backward, outgoing, relay->gathered,
               kept + schedule->num_slots * schedule->state_elements, incoming);
}
