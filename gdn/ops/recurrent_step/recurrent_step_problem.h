/* A checked recurrent step, and where in the pool each token's state comes from and goes to. */
#ifndef GDNCP_RECURRENT_STEP_PROBLEM_H
#define GDNCP_RECURRENT_STEP_PROBLEM_H

#include <stdint.h>

#include "delta_rule_problem.h"
#include "gdncp/ops_decode.h"
#include "pool_slots.h"

/* Points into itself: not to be copied. */
typedef struct gdncp_step_problem {
    const gdncp_recurrent_step_t *step;
    gdncp_delta_rule_t rule; /* the step's tokens, without states */
    gdncp_rule_problem_t dims;
    int64_t num_slots;
    int64_t row_length;                 /* M of slots [N, M]; 0 where slots is [N] */
    const gdncp_tensor_t *num_accepted; /* NULL: 1 */
} gdncp_step_problem_t;

/* The slot that a sequence starts from; negative: a pad. The numbers are on the CPU and checked. */
static inline int64_t gdncp_step_source(const gdncp_step_problem_t *problem, int64_t sequence)
{
    const gdncp_tensor_t *const slots = &problem->step->slots;

    if (problem->row_length == 0) {
        return gdncp_index_at(slots, sequence);
    }
    const int64_t accepted =
        problem->num_accepted != NULL ? gdncp_index_at(problem->num_accepted, sequence) : 1;

    return gdncp_index_at(slots, sequence * problem->row_length + accepted - 1);
}

/* The slot that the state after a sequence's token i goes to; negative: none. */
static inline int64_t gdncp_step_target(const gdncp_step_problem_t *problem, int64_t sequence,
                                        int64_t i)
{
    return gdncp_index_at(&problem->step->slots,
                          problem->row_length == 0 ? sequence : sequence * problem->row_length + i);
}

#endif
