/* The gate on the CPU, for arguments that have been checked. */
#ifndef GDNCP_GATE_CPU_H
#define GDNCP_GATE_CPU_H

#include "gdncp/ops.h"

/* Whether g comes from a and parameters; else it is a. */
static inline bool gdncp_gate_has_parameters(const gdncp_gate_t *gate)
{
    return gate->A_log.data != NULL || gate->dt_bias.data != NULL;
}

void gdncp_gate_forward_cpu(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                            const gdncp_tensor_t *beta);

gdncp_status_t gdncp_gate_backward_cpu(const gdncp_gate_t *gate, const gdncp_tensor_t *grad_g,
                                       const gdncp_tensor_t *grad_beta,
                                       const gdncp_gate_grads_t *grads,
                                       gdncp_workspace_t *workspace);

#endif
