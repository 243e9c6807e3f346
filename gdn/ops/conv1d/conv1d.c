/* The convolution: argument checks and dispatch. */
#include <inttypes.h>

#include "conv1d_checks.h"
#include "conv1d_cpu.h"
#include "conv1d_tile.h"
#include "error.h"

/* x or its gradient. */
static gdncp_status_t check_input(const char *name, const gdncp_tensor_t *tensor,
                                  const gdncp_conv1d_t *conv)
{
    return gdncp_op_check_tensor(name, tensor, conv->x.device, conv->x.dtype, GDNCP_OP_TOKEN_STRIDE,
                                 2, conv->x.shape);
}

gdncp_status_t gdncp_conv1d_check_output(const char *name, const gdncp_tensor_t *tensor,
                                         const gdncp_conv1d_t *conv)
{
    const bool is_wide = tensor != NULL && tensor->dtype == GDNCP_F32;

    return gdncp_op_check_tensor(name, tensor, conv->x.device, is_wide ? GDNCP_F32 : conv->x.dtype,
                                 GDNCP_OP_TOKEN_STRIDE, 2, conv->x.shape);
}

static gdncp_status_t check_window(const char *name, const gdncp_tensor_t *tensor,
                                   const gdncp_conv1d_t *conv)
{
    const int64_t shape[3] = {conv->num_sequences, conv->weight.shape[1] - 1, conv->x.shape[1]};

    return gdncp_op_check_optional(name, tensor, conv->x.device, conv->x.dtype, GDNCP_OP_CONTIGUOUS,
                                   3, shape);
}

static gdncp_status_t check_parameters(const gdncp_conv1d_t *conv)
{
    gdncp_status_t status = gdncp_op_check_ndim("weight", &conv->weight, 2);

    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t width = conv->weight.shape[1];
    const int64_t shape[2] = {conv->x.shape[1], width};

    if (width < 1 || width > GDNCP_CONV1D_MAX_WIDTH) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "weight: expected a width of 1..%d, got %" PRId64, GDNCP_CONV1D_MAX_WIDTH,
                          width);
    }
    status = gdncp_op_check_tensor("weight", &conv->weight, conv->x.device, GDNCP_F32,
                                   GDNCP_OP_CONTIGUOUS, 2, shape);
    if (status == GDNCP_OK) {
        status = gdncp_op_check_optional("bias", &conv->bias, conv->x.device, GDNCP_F32,
                                         GDNCP_OP_CONTIGUOUS, 1, shape);
    }
    return status;
}

gdncp_status_t gdncp_conv1d_check(const gdncp_conv1d_t *conv, const gdncp_workspace_t *workspace,
                                  const gdncp_op_kernels_t **kernels_p)
{
    gdncp_status_t status;

    if (conv == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "conv: expected a convolution, got NULL");
    }
    status = gdncp_op_check_ndim("x", &conv->x, 2);
    if (status == GDNCP_OK) {
        status = gdncp_op_check_dtype("x", &conv->x);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("x", &conv->x, workspace, kernels_p);
    }
    if (status == GDNCP_OK) {
        status = check_input("x", &conv->x, conv);
    }
    if (status == GDNCP_OK) {
        status = check_parameters(conv);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_cu_seqlens(conv->x.device, conv->cu_seqlens, conv->cu_seqlens_cuda,
                                           conv->num_sequences, conv->x.shape[0]);
    }
    if (status == GDNCP_OK) {
        status = check_window("window", &conv->window, conv);
    }
    if (status == GDNCP_OK && conv->activation != GDNCP_ACTIVATION_NONE &&
        conv->activation != GDNCP_ACTIVATION_SILU) {
        status =
            gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                       "activation: expected a gdncp_activation_t, got %d", (int)conv->activation);
    }
    return status;
}

static gdncp_status_t check_grads(const gdncp_conv1d_t *conv, const gdncp_conv1d_grads_t *grads)
{
    gdncp_status_t status;

    if (grads == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "grads: expected gradients of a convolution, got NULL");
    }
    status = check_input("grads.x", &grads->x, conv);
    if (status == GDNCP_OK) {
        status = gdncp_op_check_tensor("grads.weight", &grads->weight, conv->x.device, GDNCP_F32,
                                       GDNCP_OP_CONTIGUOUS, 2, conv->weight.shape);
    }
    if (status == GDNCP_OK && gdncp_op_is_absent(&conv->bias) != gdncp_op_is_absent(&grads->bias)) {
        status = gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                            "grads.bias: expected to be %s as bias is, got the opposite",
                            gdncp_op_is_absent(&conv->bias) ? "absent" : "present");
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_optional("grads.bias", &grads->bias, conv->x.device, GDNCP_F32,
                                         GDNCP_OP_CONTIGUOUS, 1, conv->weight.shape);
    }
    if (status == GDNCP_OK) {
        status = check_window("grads.window", &grads->window, conv);
    }
    return status;
}

gdncp_status_t gdncp_conv1d_forward(const gdncp_conv1d_t *conv, const gdncp_tensor_t *y,
                                    const gdncp_tensor_t *final_window,
                                    gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status = gdncp_conv1d_check(conv, workspace, &kernels);

    if (status == GDNCP_OK) {
        status = gdncp_conv1d_check_output("y", y, conv);
    }
    if (status == GDNCP_OK) {
        status = check_window("final_window", final_window, conv);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    final_window = gdncp_op_is_absent(final_window) ? NULL : final_window;
    if (kernels != NULL) {
        return kernels->conv1d_forward(conv, y, final_window, workspace);
    }
    gdncp_conv1d_forward_cpu(conv, y, final_window);
    return GDNCP_OK;
}

gdncp_status_t gdncp_conv1d_backward(const gdncp_conv1d_t *conv, const gdncp_tensor_t *grad_y,
                                     const gdncp_conv1d_grads_t *grads,
                                     gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status = gdncp_conv1d_check(conv, workspace, &kernels);

    if (status == GDNCP_OK) {
        status = gdncp_conv1d_check_output("grad_y", grad_y, conv);
    }
    if (status == GDNCP_OK) {
        status = check_grads(conv, grads);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    return kernels != NULL ? kernels->conv1d_backward(conv, grad_y, grads, workspace)
                           : gdncp_conv1d_backward_cpu(conv, grad_y, grads, workspace);
}
