/* The operators' kernels of this build. */
#include "op_kernels_cuda.h"

namespace GDNCP_KERNELS
{

static gdncp_op_kernels_t fill()
{
    gdncp_op_kernels_t kernels = {};

    kernels.gate_forward = gate_forward;
    return kernels;
}

} /* namespace GDNCP_KERNELS */

#if defined(__CUDACC__)
extern "C" const gdncp_op_kernels_t gdncp_op_kernels_cuda = GDNCP_KERNELS::fill();
#else
extern "C" const gdncp_op_kernels_t gdncp_op_kernels_emulated = GDNCP_KERNELS::fill();
#endif
