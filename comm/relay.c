/* Running a relay: gather to the owners, walk the chains, scatter back. */
#include "relay.h"

#include <string.h>

#include "error.h"
#include "flight_recorder.h"
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
    gdncp_handover_t **receiving; /* [num_chains] of the state before a chain; NULL: none */
    gdncp_handover_t **sending;   /* [num_chains] of the state after it; NULL: none */
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
    float *gathered; /* [num_slots, state_elements] contributions of backward */
    float *results;  /* [num_slots, state_elements], then the states received */
};

static gdncp_status_t make_handover(const gdncp_relay_t *relay, int peer, bool is_send,
                                    gdncp_handover_t **handover_p)
{
    const gdncp_handover_options_t options = {.device = relay->device,
                                              .stream = relay->stream,
                                              .peer = peer,
                                              .is_send = is_send,
                                              .bytes = (size_t)relay->schedule->state_elements *
                                                       sizeof(float)};

    return peer >= 0 ? gdncp_handover_create(relay->comm, &options, handover_p) : GDNCP_OK;
}

static gdncp_status_t make_handovers(const gdncp_relay_t *relay, const gdncp_relay_walk_t *walk,
                                     direction_t *direction)
{
    const size_t bytes = (size_t)walk->num_chains * sizeof(gdncp_handover_t *);
    gdncp_status_t status = GDNCP_OK;

    direction->walk = walk;
    direction->receiving = gdncp_memory_alloc(bytes);
    direction->sending = gdncp_memory_alloc(bytes);
    if (direction->receiving == NULL || direction->sending == NULL) {
        return gdncp_fail_memory("handovers of the state relay");
    }
    memset(direction->receiving, 0, bytes);
    memset(direction->sending, 0, bytes);
    for (int64_t i = 0; i < walk->num_chains && status == GDNCP_OK; i++) {
        const gdncp_relay_chain_t *const chain = &walk->chains[i];

        status = make_handover(relay, chain->receive_from, false, &direction->receiving[i]);
        if (status == GDNCP_OK) {
            status = make_handover(relay, chain->send_to, true, &direction->sending[i]);
        }
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
    const int64_t num_received = schedule->forward.num_received > schedule->backward.num_received
                                     ? schedule->forward.num_received
                                     : schedule->backward.num_received;
    gdncp_status_t status = alloc_states(relay, schedule->num_slots, &relay->gathered);

    if (status == GDNCP_OK) {
        status = alloc_states(relay, schedule->num_slots + num_received + 1, &relay->results);
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

static int64_t list_handovers(const gdncp_relay_walk_t *walk, gdncp_stream_message_t *messages)
{
    int64_t count = 0;

    for (int64_t i = 0; i < walk->num_chains; i++) {
        const gdncp_relay_chain_t *const chain = &walk->chains[i];

        if (chain->receive_from >= 0) {
            messages[count++] =
                (gdncp_stream_message_t){.peer = chain->receive_from, .is_send = false};
        }
        if (chain->send_to >= 0) {
            messages[count++] = (gdncp_stream_message_t){.peer = chain->send_to, .is_send = true};
        }
    }
    return count;
}

/* Let the communicator prepare for what ranks hand to each other. */
static gdncp_status_t connect_handovers(const gdncp_relay_t *relay)
{
    const gdncp_relay_walk_t *const forward = &relay->schedule->forward;
    const gdncp_relay_walk_t *const backward = &relay->schedule->backward;
    const size_t most = 2 * (size_t)(forward->num_chains + backward->num_chains);

    if (relay->device != GDNCP_DEVICE_CUDA) {
        return GDNCP_OK;
    }
    gdncp_stream_message_t *const messages = gdncp_memory_alloc((most + 1) * sizeof *messages);

    if (messages == NULL) {
        return gdncp_fail_memory("handovers of the state relay");
    }
    int64_t count = list_handovers(forward, messages);

    count += list_handovers(backward, messages + count);
    const gdncp_status_t status = gdncp_stream_group_connect(relay->comm, messages, count);

    gdncp_memory_free(messages);
    return status;
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
    for (int64_t i = 0; direction->sending != NULL && i < direction->walk->num_chains; i++) {
        gdncp_handover_destroy(direction->receiving[i]);
        gdncp_handover_destroy(direction->sending[i]);
    }
    gdncp_memory_free(direction->receiving);
    gdncp_memory_free(direction->sending);
}

void gdncp_relay_destroy(gdncp_relay_t *relay)
{
    if (relay == NULL) {
        return;
    }
    destroy_direction(&relay->forward);
    destroy_direction(&relay->backward);
    gdncp_device_free(relay->device, relay->gathered);
    gdncp_device_free(relay->device, relay->results);
    gdncp_memory_free(relay);
}

static gdncp_status_t check_direction(const direction_t *direction)
{
    gdncp_status_t status = gdncp_exchange_check(direction->gather);

    for (int64_t i = 0; i < direction->walk->num_chains && status == GDNCP_OK; i++) {
        status = gdncp_handover_check(direction->receiving[i]);
        if (status == GDNCP_OK) {
            status = gdncp_handover_check(direction->sending[i]);
        }
    }
    return status == GDNCP_OK ? gdncp_exchange_check(direction->scatter) : status;
}

gdncp_status_t gdncp_relay_check(const gdncp_relay_t *relay)
{
    const gdncp_status_t status = check_direction(&relay->forward);

    return status == GDNCP_OK ? check_direction(&relay->backward) : status;
}

static float *state_received(const gdncp_relay_t *relay, const gdncp_relay_chain_t *chain)
{
    const gdncp_relay_schedule_t *const schedule = relay->schedule;

    return relay->results + (schedule->num_slots + chain->received) * schedule->state_elements;
}

/* Receive what will be handed over. After the gather and before the scatter, as on the senders:
 * messages match in order. */
static gdncp_status_t start_receives(const gdncp_relay_t *relay, const direction_t *direction)
{
    gdncp_status_t status = GDNCP_OK;

    for (int64_t i = 0; i < direction->walk->num_chains && status == GDNCP_OK; i++) {
        if (direction->receiving[i] != NULL) {
            status = gdncp_handover_start(direction->receiving[i],
                                          state_received(relay, &direction->walk->chains[i]));
        }
    }
    return status;
}

static gdncp_status_t wait_for_sends(const direction_t *direction)
{
    gdncp_status_t status = GDNCP_OK;

    for (int64_t i = 0; i < direction->walk->num_chains && status == GDNCP_OK; i++) {
        if (direction->sending[i] != NULL) {
            status = gdncp_handover_wait(direction->sending[i]);
        }
    }
    return status;
}

/* The end of the chains from one on that are walked at once: one that waits is alone, and a result
 * is handed over before chains begin that come after its own. */
static int64_t end_of_run(const direction_t *direction, int64_t begin)
{
    int64_t end = begin + 1;

    while (end < direction->walk->num_chains && direction->receiving[begin] == NULL &&
           direction->sending[end - 1] == NULL && direction->receiving[end] == NULL) {
        end++;
    }
    return end;
}

static gdncp_status_t hand_over(const gdncp_relay_t *relay, const direction_t *direction,
                                int64_t index)
{
    const gdncp_relay_chain_t *const chain = &direction->walk->chains[index];
    const int64_t steps = chain->num_steps - 1;
    const int64_t slot = chain->slot + (direction == &relay->backward ? -steps : steps);

    return direction->sending[index] != NULL
               ? gdncp_handover_start(direction->sending[index],
                                      relay->results + slot * relay->schedule->state_elements)
               : GDNCP_OK;
}

/* Walk along some chains, the first of which may wait and the last of which may be handed over. */
static gdncp_status_t walk_run(const gdncp_relay_t *relay, const direction_t *direction,
                               gdncp_relay_run_t *run)
{
    const gdncp_relay_chain_t *const first = &direction->walk->chains[run->first_chain];
    gdncp_status_t status = GDNCP_OK;

    if (first->receive_from >= 0) {
        status = gdncp_handover_wait(direction->receiving[run->first_chain]);
        run->handed_over = state_received(relay, first);
    }
    if (status == GDNCP_OK && first->num_steps > 0) {
        status = relay->combine(relay->context, run);
    }
    return status == GDNCP_OK ? hand_over(relay, direction, run->first_chain + run->num_chains - 1)
                              : status;
}

/* Gather, walk, scatter. */
static gdncp_status_t run_parts(gdncp_relay_t *relay, const direction_t *direction,
                                const float *outgoing, float *gathered, const float *transitions,
                                float *incoming)
{
    gdncp_relay_run_t chains = {.backward = direction == &relay->backward,
                                .transitions = transitions,
                                .contributions = gathered,
                                .handed_over = relay->results + relay->schedule->num_slots *
                                                                    relay->schedule->state_elements,
                                .results = relay->results};
    gdncp_status_t status =
        gdncp_exchange_run(direction->gather, outgoing, gathered, relay->stream);

    if (status == GDNCP_OK) {
        status = start_receives(relay, direction);
    }
    const int64_t start = gdncp_trace_begin();

    while (status == GDNCP_OK && chains.first_chain < direction->walk->num_chains) {
        const int64_t end = end_of_run(direction, chains.first_chain);

        chains.num_chains = end - chains.first_chain;
        status = walk_run(relay, direction, &chains);
        chains.first_chain = end;
    }
    gdncp_trace_end("relay walk", start, 0);
    if (status == GDNCP_OK) {
        status = gdncp_exchange_run(direction->scatter, relay->results, incoming, relay->stream);
    }
    return status == GDNCP_OK ? wait_for_sends(direction) : status;
}

static gdncp_status_t run(gdncp_relay_t *relay, const direction_t *direction, const float *outgoing,
                          float *gathered, const float *transitions, float *incoming)
{
    const int64_t flight = gdncp_flight_begin(
        relay->comm, direction == &relay->forward ? "relay forward" : "relay backward", "", 0, 0,
        0);

    return gdncp_flight_end(relay->comm, flight,
                            run_parts(relay, direction, outgoing, gathered, transitions, incoming));
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
