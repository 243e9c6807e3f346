/* A checked update of the convolution, and which inputs lie where in a slot of its pool. */
#ifndef GDNCP_CONV1D_UPDATE_PROBLEM_H
#define GDNCP_CONV1D_UPDATE_PROBLEM_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/ops_decode.h"
#include "op_kernels.h"
#include "pool_slots.h"

typedef struct gdncp_update_problem {
    const gdncp_conv1d_update_t *update;
    gdncp_conv1d_t conv;                     /* the update's tokens, without windows */
    const gdncp_op_kernels_t *kernels;       /* of the device; NULL on the CPU */
    const gdncp_tensor_t *num_accepted;      /* NULL: 1, and no token may be taken back */
    const gdncp_tensor_t *has_initial_state; /* NULL: all have one */
    int64_t num_slots;
    int64_t slot_rows;   /* S */
    int64_t window_rows; /* W - 1 */
} gdncp_update_problem_t;

/* These read lists that are on the CPU and checked. */
static inline bool gdncp_update_has_window(const gdncp_update_problem_t *problem, int64_t sequence)
{
    return problem->has_initial_state == NULL ||
           ((const int8_t *)problem->has_initial_state->data)[sequence] != 0;
}

/* The row of a slot that a sequence's window starts at. */
static inline int64_t gdncp_update_window_row(const gdncp_update_problem_t *problem,
                                              int64_t sequence)
{
    return problem->num_accepted != NULL ? gdncp_index_at(problem->num_accepted, sequence) - 1 : 0;
}

/* The position in its sequence, 0 for the first token of the call, of what row 0 of the slot holds
 * after the call. The rows after it hold what follows, up to the last token. */
static inline int64_t gdncp_update_first_kept(const gdncp_update_problem_t *problem, int64_t length)
{
    return (problem->num_accepted != NULL ? 1 : length) - problem->window_rows;
}

#endif
