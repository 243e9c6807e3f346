/* Gradients of the delta rule's inputs, chunk by chunk, from what the walks have left. */
#ifndef GDNCP_DELTA_RULE_GRAD_INPUTS_CUDA_H
#define GDNCP_DELTA_RULE_GRAD_INPUTS_CUDA_H

#include "delta_rule_records_cuda.h"

namespace GDNCP_KERNELS
{

/* Of all chunks of a window, whose records both walks have filled. */
template <typename T>
gdncp_status_t grad_inputs(const gdncp_rule_problem_t &problem, const chunk_records<T> &chunks,
                           const walk_records<T> &walk, const gdncp_tensor_t &grad_o,
                           const gdncp_delta_rule_grads_t &grads, gdncp_stream_t stream);

} /* namespace GDNCP_KERNELS */

#endif
