/* The chains of a relay, walked step by step: what tests give it to combine states with. */
#ifndef GDNCP_TEST_COMM_RELAY_STEPS_H
#define GDNCP_TEST_COMM_RELAY_STEPS_H

#include "relay.h"

/* out = M in + contribution, or M' in + contribution; without a transition out = contribution. */
typedef gdncp_status_t (*relay_step_t)(void *context, const float *transition,
                                       const float *contribution, const float *in, bool transposed,
                                       float *out);

/* The context of relay_steps_combine(). */
typedef struct relay_steps {
    const gdncp_relay_schedule_t *schedule;
    relay_step_t step;
    void *context; /* of step */
    int64_t num_runs;
} relay_steps_t;

static inline gdncp_status_t relay_steps_along(const relay_steps_t *steps,
                                               const gdncp_relay_run_t *run,
                                               const gdncp_relay_chain_t *chain)
{
    const int64_t state_elements = steps->schedule->state_elements;
    const int64_t transition_elements = steps->schedule->transition_elements;
    const int64_t direction = run->backward ? -1 : 1;
    const float *before = chain->receive_from >= 0 ? run->handed_over : NULL;
    int64_t transition = chain->transition;
    gdncp_status_t status = GDNCP_OK;

    for (int64_t j = 0; j < chain->num_steps && status == GDNCP_OK; j++) {
        const int64_t slot = chain->slot + direction * j;
        float *const result = run->results + slot * state_elements;

        status =
            steps->step(steps->context,
                        before != NULL ? run->transitions + transition * transition_elements : NULL,
                        run->contributions + slot * state_elements, before, run->backward, result);
        transition += before != NULL ? direction : 0;
        before = result;
    }
    return status;
}

/* A gdncp_relay_combine_t. */
static inline gdncp_status_t relay_steps_combine(void *context, const gdncp_relay_run_t *run)
{
    relay_steps_t *const steps = context;
    const gdncp_relay_walk_t *const walk =
        run->backward ? &steps->schedule->backward : &steps->schedule->forward;
    gdncp_status_t status = run->num_chains > 0 ? GDNCP_OK : GDNCP_ERR_INTERNAL;

    steps->num_runs++;
    for (int64_t i = 0; i < run->num_chains && status == GDNCP_OK; i++) {
        status = relay_steps_along(steps, run, &walk->chains[run->first_chain + i]);
    }
    return status;
}

/* Chains that wait for nothing come in one run; one more begins after each that is handed over, and
 * with each that waits, and after it. */
static inline int64_t relay_steps_most_runs(const gdncp_relay_walk_t *walk)
{
    int64_t most = walk->num_chains > 0;

    for (int64_t i = 0; i < walk->num_chains; i++) {
        const gdncp_relay_chain_t *const chain = &walk->chains[i];

        most += (chain->send_to >= 0) + 2 * (chain->receive_from >= 0);
    }
    return most < walk->num_chains ? most : walk->num_chains;
}

#endif
