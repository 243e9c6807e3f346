/* Which kernels belong to which backend. */
#include "plan_kernels.h"

const gdncp_plan_kernels_t *gdncp_plan_kernels_of(const gdncp_backend_t *backend)
{
#ifdef GDNCP_HAVE_EMULATOR
    if (backend == &gdncp_backend_emulated) {
        return &gdncp_plan_kernels_emulated;
    }
#endif
#ifdef GDNCP_HAVE_CUDA
    if (backend == &gdncp_backend_cuda) {
        return &gdncp_plan_kernels_cuda;
    }
#endif
    (void)backend;
    return NULL;
}
