/* The gate inside a delta rule. */
#include "delta_rule_gate.h"

#include <inttypes.h>

#include "error.h"
#include "gate_checks.h"

static gdncp_status_t check_no_sums(const gdncp_gate_t *gate)
{
    return gate->chunk_size == 0
               ? GDNCP_OK
               : gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                            "gate.chunk_size: expected 0, as the rule sums by itself, got %" PRId64,
                            gate->chunk_size);
}

gdncp_status_t gdncp_rule_gate_check_forward(const gdncp_delta_rule_t *rule,
                                             const gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;

    if (rule->gate == NULL) {
        return GDNCP_OK;
    }
    const gdncp_status_t status = check_no_sums(rule->gate);

    return status == GDNCP_OK
               ? gdncp_gate_check_forward(rule->gate, &rule->g, &rule->beta, workspace, &kernels)
               : status;
}

gdncp_status_t gdncp_rule_gate_check_backward(const gdncp_delta_rule_t *rule,
                                              const gdncp_delta_rule_grads_t *grads,
                                              const gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;

    if ((rule->gate == NULL) != (grads->gate == NULL)) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "grads.gate: expected gradients where the rule has a gate, got %s",
                          grads->gate == NULL ? "NULL" : "some without a gate");
    }
    if (rule->gate == NULL) {
        return GDNCP_OK;
    }
    const gdncp_status_t status = check_no_sums(rule->gate);

    return status == GDNCP_OK ? gdncp_gate_check_backward(rule->gate, &grads->g, &grads->beta,
                                                          grads->gate, workspace, &kernels)
                              : status;
}
