/* The L2 norm: argument checks and dispatch. */
#include <math.h>

#include "error.h"
#include "l2norm_cpu.h"
#include "op_checks.h"

static gdncp_status_t check_like(const char *name, const gdncp_tensor_t *tensor,
                                 const gdncp_tensor_t *x)
{
    return gdncp_op_check_tensor(name, tensor, x->device, x->dtype, GDNCP_OP_TOKEN_STRIDE, 3,
                                 x->shape);
}

static gdncp_status_t check_input(const gdncp_tensor_t *x, float eps,
                                  const gdncp_workspace_t *workspace,
                                  const gdncp_op_kernels_t **kernels_p)
{
    gdncp_status_t status = gdncp_op_check_ndim("x", x, 3);

    if (status == GDNCP_OK) {
        status = gdncp_op_check_dtype("x", x);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("x", x, workspace, kernels_p);
    }
    if (status == GDNCP_OK) {
        status = check_like("x", x, x);
    }
    if (status == GDNCP_OK && !(eps >= 0.0f && eps < INFINITY)) {
        status = gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                            "eps: expected a finite number >= 0, got %g", (double)eps);
    }
    return status;
}

gdncp_status_t gdncp_l2norm_forward(const gdncp_tensor_t *x, float eps, const gdncp_tensor_t *y,
                                    gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status = check_input(x, eps, workspace, &kernels);

    if (status == GDNCP_OK) {
        status = check_like("y", y, x);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    return kernels != NULL ? kernels->l2norm_forward(x, eps, y, workspace)
                           : gdncp_l2norm_forward_cpu(x, eps, y, workspace);
}

gdncp_status_t gdncp_l2norm_backward(const gdncp_tensor_t *x, float eps,
                                     const gdncp_tensor_t *grad_y, const gdncp_tensor_t *grad_x,
                                     gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status = check_input(x, eps, workspace, &kernels);

    if (status == GDNCP_OK) {
        status = check_like("grad_y", grad_y, x);
    }
    if (status == GDNCP_OK) {
        status = check_like("grad_x", grad_x, x);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    return kernels != NULL ? kernels->l2norm_backward(x, eps, grad_y, grad_x, workspace)
                           : gdncp_l2norm_backward_cpu(x, eps, grad_y, grad_x, workspace);
}
