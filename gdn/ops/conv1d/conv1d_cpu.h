/* The convolution on the CPU, for arguments that have been checked. */
#ifndef GDNCP_CONV1D_CPU_H
#define GDNCP_CONV1D_CPU_H

#include "gdncp/ops.h"

/* final_window: NULL where it is absent. */
void gdncp_conv1d_forward_cpu(const gdncp_conv1d_t *conv, const gdncp_tensor_t *y,
                              const gdncp_tensor_t *final_window);

gdncp_status_t gdncp_conv1d_backward_cpu(const gdncp_conv1d_t *conv, const gdncp_tensor_t *grad_y,
                                         const gdncp_conv1d_grads_t *grads,
                                         gdncp_workspace_t *workspace);

#endif
