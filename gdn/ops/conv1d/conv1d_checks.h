/* Argument checks of the convolution that its form for decoding shares. */
#ifndef GDNCP_CONV1D_CHECKS_H
#define GDNCP_CONV1D_CHECKS_H

#include "gdncp/ops.h"
#include "op_checks.h"

#define GDNCP_CONV1D_MAX_WIDTH 8

/* All of a convolution's arguments; sets the kernels of its device, or NULL on the CPU. */
gdncp_status_t gdncp_conv1d_check(const gdncp_conv1d_t *conv, const gdncp_workspace_t *workspace,
                                  const gdncp_op_kernels_t **kernels_p);

/* y or its gradient, which may be wider than x. */
gdncp_status_t gdncp_conv1d_check_output(const char *name, const gdncp_tensor_t *tensor,
                                         const gdncp_conv1d_t *conv);

#endif
