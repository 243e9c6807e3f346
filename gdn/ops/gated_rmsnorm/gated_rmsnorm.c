/* The gated RMSNorm: argument checks and dispatch. */
#include <math.h>

#include "error.h"
#include "gated_rmsnorm_cpu.h"
#include "op_checks.h"

/* Tokens of a given dtype: a gradient has that of its input. */
static gdncp_status_t check_grad(const char *name, const gdncp_tensor_t *tensor,
                                 gdncp_dtype_t dtype, const gdncp_gated_rmsnorm_t *norm)
{
    return gdncp_op_check_tensor(name, tensor, norm->x.device, dtype, GDNCP_OP_TOKEN_STRIDE, 3,
                                 norm->x.shape);
}

/* Tokens of a dtype of their own. */
static gdncp_status_t check_tokens(const char *name, const gdncp_tensor_t *tensor,
                                   const gdncp_gated_rmsnorm_t *norm)
{
    const gdncp_status_t status = gdncp_op_check_ndim(name, tensor, 3);

    if (status != GDNCP_OK) {
        return status;
    }
    const gdncp_status_t known = gdncp_op_check_dtype(name, tensor);

    return known == GDNCP_OK ? check_grad(name, tensor, tensor->dtype, norm) : known;
}

static gdncp_status_t check_weight(const char *name, const gdncp_tensor_t *tensor,
                                   const gdncp_gated_rmsnorm_t *norm)
{
    return gdncp_op_check_tensor(name, tensor, norm->x.device, GDNCP_F32, GDNCP_OP_CONTIGUOUS, 1,
                                 &norm->x.shape[2]);
}

static gdncp_status_t check_norm(const gdncp_gated_rmsnorm_t *norm,
                                 const gdncp_workspace_t *workspace,
                                 const gdncp_op_kernels_t **kernels_p)
{
    gdncp_status_t status;

    if (norm == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "norm: expected a gated RMSNorm, got NULL");
    }
    status = gdncp_op_check_ndim("x", &norm->x, 3);
    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("x", &norm->x, workspace, kernels_p);
    }
    if (status == GDNCP_OK) {
        status = check_tokens("x", &norm->x, norm);
    }
    if (status == GDNCP_OK) {
        status = check_tokens("z", &norm->z, norm);
    }
    if (status == GDNCP_OK) {
        status = check_weight("weight", &norm->weight, norm);
    }
    if (status == GDNCP_OK && !(norm->eps >= 0.0f && norm->eps < INFINITY)) {
        status = gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                            "eps: expected a finite number >= 0, got %g", (double)norm->eps);
    }
    if (status == GDNCP_OK && !isfinite(norm->weight_offset)) {
        status = gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                            "weight_offset: expected a finite number, got %g",
                            (double)norm->weight_offset);
    }
    return status;
}

gdncp_status_t gdncp_gated_rmsnorm_forward(const gdncp_gated_rmsnorm_t *norm,
                                           const gdncp_tensor_t *y, gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status = check_norm(norm, workspace, &kernels);

    if (status == GDNCP_OK) {
        status = check_tokens("y", y, norm);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    return kernels != NULL ? kernels->gated_rmsnorm_forward(norm, y, workspace)
                           : gdncp_gated_rmsnorm_forward_cpu(norm, y, workspace);
}

gdncp_status_t gdncp_gated_rmsnorm_backward(const gdncp_gated_rmsnorm_t *norm,
                                            const gdncp_tensor_t *grad_y,
                                            const gdncp_gated_rmsnorm_grads_t *grads,
                                            gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status = check_norm(norm, workspace, &kernels);

    if (status == GDNCP_OK) {
        status = check_tokens("grad_y", grad_y, norm);
    }
    if (status == GDNCP_OK && grads == NULL) {
        status = gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                            "grads: expected gated RMSNorm gradients, got NULL");
    }
    if (status == GDNCP_OK) {
        status = check_grad("grads.x", &grads->x, norm->x.dtype, norm);
    }
    if (status == GDNCP_OK) {
        status = check_grad("grads.z", &grads->z, norm->z.dtype, norm);
    }
    if (status == GDNCP_OK) {
        status = check_weight("grads.weight", &grads->weight, norm);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    return kernels != NULL ? kernels->gated_rmsnorm_backward(norm, grad_y, grads, workspace)
                           : gdncp_gated_rmsnorm_backward_cpu(norm, grad_y, grads, workspace);
}
