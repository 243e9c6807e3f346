/* The gated RMSNorm on the CPU, for arguments that have been checked. */
#ifndef GDNCP_GATED_RMSNORM_CPU_H
#define GDNCP_GATED_RMSNORM_CPU_H

#include "gdncp/ops.h"

gdncp_status_t gdncp_gated_rmsnorm_forward_cpu(const gdncp_gated_rmsnorm_t *norm,
                                               const gdncp_tensor_t *y,
                                               gdncp_workspace_t *workspace);

gdncp_status_t gdncp_gated_rmsnorm_backward_cpu(const gdncp_gated_rmsnorm_t *norm,
                                                const gdncp_tensor_t *grad_y,
                                                const gdncp_gated_rmsnorm_grads_t *grads,
                                                gdncp_workspace_t *workspace);

#endif
