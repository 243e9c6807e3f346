/* Running a relay: gather to the owners, walk the chains, scatter back. */
#include "relay.h"

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

static gdncp_status_t walk_some(const gdncp_relay_t *relay, gdncp_relay_run_t *run, int64_t begin,
                                int64_t end)
{
    run->first_chain = begin;
    run->num_chains = end - begin;
    return end > begin ? relay->combine(relay->context, run) : GDNCP_OK;
}

/* Walk along chains [begin, end). The result that another owner waits for is handed over before
 * those chains begin that come after its own. */
static gdncp_status_t walk_chains(const gdncp_relay_t *relay, const direction_t *direction,
                                  gdncp_relay_run_t *run, int64_t begin, int64_t end)
{
    const gdncp_relay_walk_t *const walk = direction->walk;
    gdncp_status_t status;

    if (direction->sending == NULL || walk->send_chain < begin || walk->send_chain >= end) {
        return walk_some(relay, run, begin, end);
    }
    status = walk_some(relay, run, begin, walk->send_chain + 1);
    if (status != GDNCP_OK) {
        return status;
    }
    status = gdncp_handover_start(direction->sending,
                                  run->results + walk->send_slot * relay->schedule->state_elements);
    return status == GDNCP_OK ? walk_some(relay, run, walk->send_chain + 1, end) : status;
}

/* Gather, walk, scatter. Chains that need nothing from another owner are walked first, so that
 * whoever waits for them waits least. */
static gdncp_status_t run_parts(gdncp_relay_t *relay, const direction_t *direction,
                                const float *outgoing, float *gathered, const float *transitions,
                                float *incoming)
{
    const gdncp_relay_walk_t *const walk = direction->walk;
    gdncp_relay_run_t chains = {.backward = direction == &relay->backward,
                                .transitions = transitions,
                                .contributions = gathered,
                                .handed_over = relay->handover,
                                .results = relay->results};
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

    status = walk_chains(relay, direction, &chains, 0, walk->first_waiting);
    if (status != GDNCP_OK) {
        return status;
    }
    if (direction->receiving != NULL) {
        status = gdncp_handover_wait(direction->receiving);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    status = walk_chains(relay, direction, &chains, walk->first_waiting, walk->num_chains);
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
