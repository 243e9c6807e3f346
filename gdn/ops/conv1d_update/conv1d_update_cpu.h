/* The update of the convolution on the CPU, for arguments that have been checked. */
#ifndef GDNCP_CONV1D_UPDATE_CPU_H
#define GDNCP_CONV1D_UPDATE_CPU_H

#include "conv1d_update_problem.h"

void gdncp_conv1d_update_cpu(const gdncp_update_problem_t *problem, const gdncp_tensor_t *y);

#endif
