/* A plan's kernels of this build. */
#include "plan_kernels_cuda.h"

#if defined(__CUDACC__)
extern "C" const gdncp_plan_kernels_t gdncp_plan_kernels_cuda = {
#else
extern "C" const gdncp_plan_kernels_t gdncp_plan_kernels_emulated = {
#endif
    GDNCP_KERNELS::plan_move, GDNCP_KERNELS::plan_add};
