/* The checks of a gate's arguments, for operators that have one inside. */
#ifndef GDNCP_GATE_CHECKS_H
#define GDNCP_GATE_CHECKS_H

#include "gdncp/ops.h"
#include "op_kernels.h"

/* Those of gdncp_gate_forward(). kernels_p: of the device; NULL on the CPU. */
gdncp_status_t gdncp_gate_check_forward(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                                        const gdncp_tensor_t *beta,
                                        const gdncp_workspace_t *workspace,
                                        const gdncp_op_kernels_t **kernels_p);

/* Those of gdncp_gate_backward(). */
gdncp_status_t gdncp_gate_check_backward(const gdncp_gate_t *gate, const gdncp_tensor_t *grad_g,
                                         const gdncp_tensor_t *grad_beta,
                                         const gdncp_gate_grads_t *grads,
                                         const gdncp_workspace_t *workspace,
                                         const gdncp_op_kernels_t **kernels_p);

#endif
