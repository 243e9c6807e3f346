/* The L2 norm on the CPU, for arguments that have been checked. */
#ifndef GDNCP_L2NORM_CPU_H
#define GDNCP_L2NORM_CPU_H

#include "gdncp/ops.h"

gdncp_status_t gdncp_l2norm_forward_cpu(const gdncp_tensor_t *x, float eps, const gdncp_tensor_t *y,
                                        gdncp_workspace_t *workspace);

gdncp_status_t gdncp_l2norm_backward_cpu(const gdncp_tensor_t *x, float eps,
                                         const gdncp_tensor_t *grad_y, const gdncp_tensor_t *grad_x,
                                         gdncp_workspace_t *workspace);

#endif
