/*
 * The state relay: states cross ranks, tokens do not.
 *
 * A chain is the segments of one sequence in order, once for every head. Over
 * segment c the state obeys S_{c+1} = M_c S_c + U_c, its gradient
 * E_c = M_c' E_{c+1} + D_c (E_c: gradient of the state at the start of segment
 * c). The borders between segments of all chains form one list, which is cut
 * into as many equal pieces as there are ranks; the owner of a border computes
 * the state there. So (M, U) of a segment goes to one rank, its S comes back
 * from one rank, and work and traffic are the same on all.
 *
 * A first segment runs from the true initial state on its holder, and a last
 * one ends in the true final state there: neither needs an M. A chain inside
 * one rank moves nothing.
 *
 * Bytes sent a rank, one sequence, N ranks, H heads, 4-byte elements, dual_chunk_swap:
 * at most 2H(dk dk + dk dv) 4 + 2H dk dv 4 forward and 4H dk dv 4 backward, whatever N
 * and the length. A rank sends (M, U) of its 2 segments, at most 2H states for the
 * borders that it owns, and one more where its piece goes on in another rank's; that one is
 * paid for by giving each rank a piece in which it holds a segment itself.
 */
#ifndef GDNCP_RELAY_H
#define GDNCP_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/comm.h"
#include "gdncp/layout.h"
#include "gdncp/plan.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"

/* Steps of one head's chain that follow each other on one owner. Going forward step j has row slot
 * + j of its contributions and results, backward slot - j. The first step with a transition has row
 * `transition`, later ones the rows behind it, or before it. */
typedef struct gdncp_relay_chain {
    int64_t slot;
    int64_t transition; /* -1: no step has one */
    int64_t num_steps;  /* 0: a state that is only received */
    int receive_from; /* rank that hands over the state from which step 0 goes on; -1: none, step 0
                         starts the chain: it has no transition, and its result is its contribution
                       */
    int64_t received; /* which of the walk's received states that is */
    int send_to;      /* rank that the last step's result is handed to; -1: none */
} gdncp_relay_chain_t;

/* One direction (forward: S, backward: E) of one rank's relay. */
typedef struct gdncp_relay_walk {
    gdncp_plan_t *gather;  /* segments' holders -> owner's slots */
    gdncp_plan_t *scatter; /* owner's results -> segments' holders */
    gdncp_relay_chain_t *chains;
    int64_t num_chains;
    int64_t num_received; /* states that are handed over to this rank */
} gdncp_relay_walk_t;

/* Who computes the states at the borders. All give the same bits. */
typedef enum gdncp_relay_form {
    /* Borders are dealt out evenly, as above. */
    GDNCP_RELAY_OWNERS = 0,
    /* Every rank for itself: it gets (M, U) of all segments of its chains, from all their holders,
     * and walks each chain from its start. Bytes grow with the number of ranks. */
    GDNCP_RELAY_ALL_GATHER,
    /* The holder of each segment, who hands the state after it to the holder of the next: nothing
     * else moves, and ranks wait for each other from one end of a chain to the other. */
    GDNCP_RELAY_CHAIN
} gdncp_relay_form_t;

/* "owners", "all_gather", "chain"; "?" for a value outside the enum. */
const char *gdncp_relay_form_name(gdncp_relay_form_t form);
gdncp_status_t gdncp_relay_form_from_name(const char *name, gdncp_relay_form_t *form_p);

/* Made without data or peers, for any rank of any number of ranks. */
typedef struct gdncp_relay_schedule {
    int64_t heads;
    int64_t transition_elements; /* of M, per head */
    int64_t state_elements;      /* of U, S, E and D, per head */
    int64_t num_segments;        /* local */
    /* Local segments with something to send. Forward: those with one after them in their chain.
     * Backward: those with one before. In both, first the num_middle that have both and so
     * need M, in local order, then the others in local order. */
    int64_t *forward_segments;
    int64_t num_forward;
    int64_t *backward_segments;
    int64_t num_backward;
    int64_t num_middle;
    int64_t num_slots;       /* segments of chains that this rank computes states at */
    int64_t num_transitions; /* those of them that have an M */
    gdncp_relay_walk_t forward;
    gdncp_relay_walk_t backward;
} gdncp_relay_schedule_t;

/* Local call. Free with gdncp_relay_schedule_destroy(). */
gdncp_status_t gdncp_relay_schedule_create(const gdncp_layout_t *layout, int rank,
                                           gdncp_relay_form_t form, int64_t heads,
                                           int64_t transition_elements, int64_t state_elements,
                                           gdncp_relay_schedule_t **schedule_p);
void gdncp_relay_schedule_destroy(gdncp_relay_schedule_t *schedule);

/* Bytes this rank sends to others in one run of a direction. */
int64_t gdncp_relay_bytes_sent(const gdncp_relay_schedule_t *schedule, bool backward);

/*
 * Chains of a schedule to walk along, none of which depends on another. Each step of each chain is
 * result = M before + contribution, backward M' before + contribution, where `before` is the result
 * of the step before it, or the state handed over; without a transition result = contribution.
 */
typedef struct gdncp_relay_run {
    bool backward;
    int64_t first_chain;        /* of the direction's */
    int64_t num_chains;         /* > 0 */
    const float *transitions;   /* [num_transitions, transition_elements] */
    const float *contributions; /* [num_slots, state_elements] */
    const float *handed_over;   /* [state_elements] to the only chain, if it waits for a state */
    float *results;             /* [num_slots, state_elements], none of the others */
} gdncp_relay_run_t;

typedef gdncp_status_t (*gdncp_relay_combine_t)(void *context, const gdncp_relay_run_t *run);

typedef struct gdncp_relay gdncp_relay_t;

/*
 * Bind a schedule to its communicator. Collective; schedule == NULL fails on all ranks.
 *
 * On GDNCP_DEVICE_CUDA all buffers, those that combine gets too, are memory of the device, and
 * forward and backward queue their work in the stream and return at once, as exchanges do. combine
 * must queue too.
 */
gdncp_status_t gdncp_relay_create(gdncp_comm_t *comm, const gdncp_relay_schedule_t *schedule,
                                  gdncp_device_kind_t device, gdncp_stream_t stream,
                                  gdncp_relay_combine_t combine, void *context,
                                  gdncp_relay_t **relay_p);

/* On a CUDA device its runs must be done. */
void gdncp_relay_destroy(gdncp_relay_t *relay);

/* GDNCP_OK, or what has gone wrong in earlier runs: see gdncp_exchange_check(). */
gdncp_status_t gdncp_relay_check(const gdncp_relay_t *relay);

/* Elements of the buffers below. */
int64_t gdncp_relay_outgoing_elements(const gdncp_relay_schedule_t *schedule, bool backward);
int64_t gdncp_relay_incoming_elements(const gdncp_relay_schedule_t *schedule);
int64_t gdncp_relay_kept_elements(const gdncp_relay_schedule_t *schedule);

/*
 * Forward. Collective.
 *
 * outgoing  contributions [num_forward, heads, state_elements], then transitions
 *           [num_middle, heads, transition_elements]. Row i of the contributions belongs to local
 *           segment forward_segments[i]: U, and for a first segment the state at its end.
 * kept      what backward needs; written, and to be handed to it unchanged
 * incoming  [num_segments, heads, state_elements] the state at the start of each segment; zero for
 *           first segments
 */
gdncp_status_t gdncp_relay_forward(gdncp_relay_t *relay, const float *outgoing, float *kept,
                                   float *incoming);

/*
 * Backward. Collective.
 *
 * outgoing  [num_backward, heads, state_elements] D of local segment backward_segments[i]; that
 *           of a last one includes the gradient of its final state
 * kept      from forward
 * incoming  [num_segments, heads, state_elements] the gradient of the state at the end of each
 *           segment; zero for last segments
 */
gdncp_status_t gdncp_relay_backward(gdncp_relay_t *relay, const float *outgoing, const float *kept,
                                    float *incoming);

#endif
