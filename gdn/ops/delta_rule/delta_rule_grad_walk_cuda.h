/* The delta rule's walk back with the gradient of the state, which needs no states. */
#ifndef GDNCP_DELTA_RULE_GRAD_WALK_CUDA_H
#define GDNCP_DELTA_RULE_GRAD_WALK_CUDA_H

#include "delta_rule_records_cuda.h"

namespace GDNCP_KERNELS
{

/* The sequences that take part in a window's walk, and where their gradients of states lie. */
struct grad_walk_sequences {
    const int64_t *selected; /* [count], in device memory; NULL: from `first` on, in order */
    int64_t first;
    int64_t count;
    const float *grad_final; /* [.., Hv, dk, dv] by index in the selection or pack; NULL: zeros */
    float *grad_initial;     /* likewise; NULL: not wanted */
    const float *carry_in;   /* of sequences that cross the window's end: where its next left it */
    float *carry_out;        /* of those that cross its beginning */
    int64_t carry_stride;    /* floats from one sequence's to the next */
    bool across;             /* grad_final and grad_initial are [.., Hv, dv, dk] */
};

/*
 * Walk back through the chunks of a window, the last first; windows are walked from the last too.
 * walk.data == NULL: gradients of states alone. Else the gradients of the states after each chunk,
 * and of R, are left in the records.
 */
template <typename T>
gdncp_status_t grad_walk(const gdncp_rule_problem_t &problem, const chunk_records<T> &chunks,
                         const walk_records<T> &walk, const gdncp_tensor_t &grad_o,
                         const grad_walk_sequences &sequences, gdncp_stream_t stream);

} /* namespace GDNCP_KERNELS */

#endif
