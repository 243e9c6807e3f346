/* The operators' kernels of this build. */
#include "op_kernels_cuda.h"

namespace GDNCP_KERNELS
{

static gdncp_op_kernels_t fill()
{
    gdncp_op_kernels_t kernels = {};

    kernels.gate_forward = gate_forward;
    kernels.gate_backward = gate_backward;
    kernels.chunk_cumsum = chunk_cumsum;
    kernels.l2norm_forward = l2norm_forward;
    kernels.l2norm_backward = l2norm_backward;
    kernels.conv1d_forward = conv1d_forward;
    kernels.conv1d_backward = conv1d_backward;
    kernels.gated_rmsnorm_forward = gated_rmsnorm_forward;
    kernels.gated_rmsnorm_backward = gated_rmsnorm_backward;
    kernels.delta_rule_forward = delta_rule_forward;
    kernels.delta_rule_backward = delta_rule_backward;
    kernels.delta_rule_summary = delta_rule_summary;
    kernels.delta_rule_grad_summary = delta_rule_grad_summary;
    kernels.state_merge = state_merge;
    kernels.recurrent_step = recurrent_step;
    kernels.conv1d_update = conv1d_update;
    kernels.move_rows = move_rows;
    kernels.linear = linear;
    return kernels;
}

} /* namespace GDNCP_KERNELS */

#if defined(__CUDACC__)
extern "C" const gdncp_op_kernels_t gdncp_op_kernels_cuda = GDNCP_KERNELS::fill();
#else
extern "C" const gdncp_op_kernels_t gdncp_op_kernels_emulated = GDNCP_KERNELS::fill();
#endif
