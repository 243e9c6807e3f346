/* Running a relay: gather to the owners, walk the chains, scatter back. */
#include "relay.h"

#include "comm_internal.h"
#include "error.h"
#include "gdncp/exchange.h"
#include "gdncp/memory.h"
#include "trace_internal.h"

/* One direction, bound to the communicator. */
typedef struct direction {
    const gdncp_relay_walk_t *walk;
    gdncp_exchange_t *gather;
    gdncp_exchange_t *scatter;
} direction_t;

struct gdncp_relay {
    gdncp_comm_t *comm;
    const gdncp_relay_schedule_t *schedule;
    gdncp_relay_combine_t combine;
    void *context;
    direction_t forward;
    direction_t backward;
    gdncp_group_t *sending;
    gdncp_group_t *receiving;
    float *handover; /* [state_elements] from the owner before */
    float *gathered; /* [num_slots, state_elements] contributions of backward */
    float *results;  /* [num_slots, state_elements] */
};

static gdncp_status_t bind(gdncp_comm_t *comm, const gdncp_relay_walk_t *walk,
                           direction_t *direction)
{
    gdncp_status_t status;

    direction->walk = walk;
    status = gdncp_exchange_create(comm, walk != NULL ? walk->gather : NULL, &direction->gather);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_exchange_create(comm, walk != NULL ? walk->scatter : NULL, &direction->scatter);
}

static gdncp_status_t allocate(gdncp_relay_t *relay)
{
    const gdncp_relay_schedule_t *const schedule = relay->schedule;
    const size_t state_bytes = (size_t)schedule->state_elements * sizeof(float);
    const size_t slots_bytes = (size_t)schedule->num_slots * state_bytes;
    gdncp_status_t status;

    relay->handover = gdncp_memory_alloc(state_bytes);
    relay->gathered = gdncp_memory_alloc(slots_bytes);
    relay->results = gdncp_memory_alloc(slots_bytes);
    if (relay->handover == NULL || relay->gathered == NULL || relay->results == NULL) {
        return gdncp_fail_memory("state relay");
    }
    status = gdncp_comm_group_create(relay->comm, 1, &relay->sending);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_comm_group_create(relay->comm, 1, &relay->receiving);
}

gdncp_status_t gdncp_relay_create(gdncp_comm_t *comm, const gdncp_relay_schedule_t *schedule,
                                  gdncp_relay_combine_t combine, void *context,
                                  gdncp_relay_t **relay_p)
{
    gdncp_relay_t *const relay = gdncp_memory_alloc(sizeof *relay);
    gdncp_status_t status = GDNCP_OK;

    if (relay == NULL) {
        status = gdncp_fail_memory("state relay");
    } else {
        *relay = (gdncp_relay_t){
            .comm = comm, .schedule = schedule, .combine = combine, .context = context};
        if (schedule != NULL) {
            status = allocate(relay);
        }
    }
    status = gdncp_comm_agree(comm, status);
    if (status != GDNCP_OK) {
        goto destroy_relay;
    }
    status = bind(comm, schedule != NULL ? &schedule->forward : NULL, &relay->forward);
    if (status != GDNCP_OK) {
        goto destroy_relay;
    }
    status = bind(comm, schedule != NULL ? &schedule->backward : NULL, &relay->backward);
    if (status != GDNCP_OK) {
        goto destroy_relay;
    }
    *relay_p = relay;
    return GDNCP_OK;

destroy_relay:
    gdncp_relay_destroy(relay);
    return status;
}

void gdncp_relay_destroy(gdncp_relay_t *relay)
{
    if (relay == NULL) {
        return;
    }
    gdncp_exchange_destroy(relay->forward.gather);
    gdncp_exchange_destroy(relay->forward.scatter);
    gdncp_exchange_destroy(relay->backward.gather);
    gdncp_exchange_destroy(relay->backward.scatter);
    if (relay->sending != NULL) {
        gdncp_comm_group_destroy(relay->comm, relay->sending);
    }
    if (relay->receiving != NULL) {
        gdncp_comm_group_destroy(relay->comm, relay->receiving);
    }
    gdncp_memory_free(relay->handover);
    gdncp_memory_free(relay->gathered);
    gdncp_memory_free(relay->results);
    gdncp_memory_free(relay);
}

/* Post the one message of a group: a handover between two owners of one chain. */
static gdncp_status_t post_handover(gdncp_relay_t *relay, gdncp_group_t *group, float *state,
                                    int peer, bool send)
{
    const size_t bytes = (size_t)relay->schedule->state_elements * sizeof(float);
    gdncp_status_t status = gdncp_comm_group_begin(relay->comm, group);

    if (status != GDNCP_OK) {
        return status;
    }
    status = send ? gdncp_comm_send(relay->comm, group, state, bytes, peer)
                  : gdncp_comm_recv(relay->comm, group, state, bytes, peer);
    if (status != GDNCP_OK) {
        return status;
    }
    return gdncp_comm_group_end(relay->comm, group, NULL);
}

/* Compute cells [begin, end); hand the result over that another owner waits for. The state before
 * the first cell is the one handed over; where a chain starts there is no transition to use it. */
static gdncp_status_t walk_cells(gdncp_relay_t *relay, const gdncp_relay_walk_t *walk,
                                 const float *transitions, const float *contributions,
                                 int64_t begin, int64_t end)
{
    const bool transposed = walk == &relay->schedule->backward;
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
        if (walk->send_to >= 0 && walk->send_slot == cell->slot) {
            const gdncp_status_t sent =
                post_handover(relay, relay->sending, result, walk->send_to, true);

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

    status = gdncp_exchange_run(direction->gather, outgoing, gathered, NULL);
    if (status != GDNCP_OK) {
        return status;
    }
    /* After the gather and before the scatter, as on the sender: messages match in order. */
    if (walk->receive_from >= 0) {
        status = post_handover(relay, relay->receiving, relay->handover, walk->receive_from, false);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    const int64_t start = gdncp_trace_begin();

    status = walk_cells(relay, walk, transitions, gathered, 0, walk->first_waiting);
    if (status != GDNCP_OK) {
        return status;
    }
    if (walk->receive_from >= 0) {
        status = gdncp_comm_group_wait(relay->comm, relay->receiving);
        if (status != GDNCP_OK) {
            return status;
        }
    }
    status = walk_cells(relay, walk, transitions, gathered, walk->first_waiting, walk->num_cells);
    if (status != GDNCP_OK) {
        return status;
    }
    gdncp_trace_end("relay walk", start, 0);
    status = gdncp_exchange_run(direction->scatter, relay->results, incoming, NULL);
    if (status != GDNCP_OK) {
        return status;
    }
    return walk->send_to >= 0 ? gdncp_comm_group_wait(relay->comm, relay->sending) : GDNCP_OK;
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
