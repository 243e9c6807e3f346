/* The gate: argument checks and dispatch. */
#include <inttypes.h>

#include "error.h"
#include "gate_checks.h"
#include "gate_cpu.h"
#include "op_checks.h"

static gdncp_status_t check_parameter(const char *name, const gdncp_tensor_t *tensor,
                                      const gdncp_gate_t *gate)
{
    return gdncp_op_check_tensor(name, tensor, gate->a.device, GDNCP_F32, GDNCP_OP_CONTIGUOUS, 1,
                                 &gate->a.shape[1]);
}

/* a or b, or a gradient of one. */
static gdncp_status_t check_tokens(const char *name, const gdncp_tensor_t *tensor,
                                   gdncp_dtype_t dtype, const gdncp_gate_t *gate)
{
    return gdncp_op_check_tensor(name, tensor, gate->a.device, dtype, GDNCP_OP_TOKEN_STRIDE, 2,
                                 gate->a.shape);
}

static gdncp_status_t check_gate(const gdncp_gate_t *gate, const gdncp_workspace_t *workspace,
                                 const gdncp_op_kernels_t **kernels_p)
{
    gdncp_status_t status;

    if (gate == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "gate: expected a gate, got NULL");
    }
    status = gdncp_op_check_ndim("a", &gate->a, 2);
    if (status == GDNCP_OK) {
        status = gdncp_op_check_dtype("a", &gate->a);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("a", &gate->a, workspace, kernels_p);
    }
    if (status == GDNCP_OK) {
        status = check_tokens("a", &gate->a, gate->a.dtype, gate);
    }
    if (status == GDNCP_OK) {
        status = check_tokens("b", &gate->b, gate->a.dtype, gate);
    }
    if (status == GDNCP_OK && gdncp_gate_has_parameters(gate)) {
        status = check_parameter("A_log", &gate->A_log, gate);
        if (status == GDNCP_OK) {
            status = check_parameter("dt_bias", &gate->dt_bias, gate);
        }
    }
    if (status == GDNCP_OK && gate->chunk_size < 0) {
        status =
            gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                       "chunk_size: expected a number of tokens, or 0 for no sums, got %" PRId64,
                       gate->chunk_size);
    }
    if (status == GDNCP_OK && gate->chunk_size > 0) {
        status = gdncp_op_check_cu_seqlens(gate->a.device, gate->cu_seqlens, gate->cu_seqlens_cuda,
                                           gate->num_sequences, gate->a.shape[0]);
    }
    return status;
}

static gdncp_status_t check_parameter_grad(const char *name, const gdncp_tensor_t *tensor,
                                           const gdncp_gate_t *gate)
{
    if (gdncp_gate_has_parameters(gate)) {
        return check_parameter(name, tensor, gate);
    }
    return gdncp_op_is_absent(tensor)
               ? GDNCP_OK
               : gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                            "%s: expected to be absent as A_log and dt_bias are, got a tensor",
                            name);
}

static gdncp_status_t check_grads(const gdncp_gate_t *gate, const gdncp_gate_grads_t *grads)
{
    gdncp_status_t status;

    if (grads == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "grads: expected gate gradients, got NULL");
    }
    status = check_tokens("grads.a", &grads->a, gate->a.dtype, gate);
    if (status == GDNCP_OK) {
        status = check_tokens("grads.b", &grads->b, gate->a.dtype, gate);
    }
    if (status == GDNCP_OK) {
        status = check_parameter_grad("grads.A_log", &grads->A_log, gate);
    }
    if (status == GDNCP_OK) {
        status = check_parameter_grad("grads.dt_bias", &grads->dt_bias, gate);
    }
    return status;
}

gdncp_status_t gdncp_gate_check_forward(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                                        const gdncp_tensor_t *beta,
                                        const gdncp_workspace_t *workspace,
                                        const gdncp_op_kernels_t **kernels_p)
{
    gdncp_status_t status = check_gate(gate, workspace, kernels_p);

    if (status == GDNCP_OK) {
        status = check_tokens("g", g, GDNCP_F32, gate);
    }
    if (status == GDNCP_OK) {
        status = check_tokens("beta", beta, GDNCP_F32, gate);
    }
    return status;
}

gdncp_status_t gdncp_gate_check_backward(const gdncp_gate_t *gate, const gdncp_tensor_t *grad_g,
                                         const gdncp_tensor_t *grad_beta,
                                         const gdncp_gate_grads_t *grads,
                                         const gdncp_workspace_t *workspace,
                                         const gdncp_op_kernels_t **kernels_p)
{
    gdncp_status_t status = check_gate(gate, workspace, kernels_p);

    if (status == GDNCP_OK) {
        status = check_tokens("grad_g", grad_g, GDNCP_F32, gate);
    }
    if (status == GDNCP_OK) {
        status = check_tokens("grad_beta", grad_beta, GDNCP_F32, gate);
    }
    if (status == GDNCP_OK) {
        status = check_grads(gate, grads);
    }
    return status;
}

gdncp_status_t gdncp_gate_forward(const gdncp_gate_t *gate, const gdncp_tensor_t *g,
                                  const gdncp_tensor_t *beta, gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    const gdncp_status_t status = gdncp_gate_check_forward(gate, g, beta, workspace, &kernels);

    if (status != GDNCP_OK) {
        return status;
    }
    if (kernels != NULL) {
        return kernels->gate_forward(gate, g, beta, workspace);
    }
    gdncp_gate_forward_cpu(gate, g, beta);
    return GDNCP_OK;
}

gdncp_status_t gdncp_gate_backward(const gdncp_gate_t *gate, const gdncp_tensor_t *grad_g,
                                   const gdncp_tensor_t *grad_beta, const gdncp_gate_grads_t *grads,
                                   gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    const gdncp_status_t status =
        gdncp_gate_check_backward(gate, grad_g, grad_beta, grads, workspace, &kernels);

    if (status != GDNCP_OK) {
        return status;
    }
    if (kernels != NULL) {
        return kernels->gate_backward(gate, grad_g, grad_beta, grads, workspace);
    }
    return gdncp_gate_backward_cpu(gate, grad_g, grad_beta, grads, workspace);
}
