/* Projections: y = x weight', and its gradients. */
#include "gdncp/ops.h"

#include "linear_tiles.h"
#include "op_checks.h"

/* Dimensions of a projection. */
typedef struct linear_shape {
    int64_t num_tokens;
    int64_t inputs;
    int64_t outputs;
} linear_shape_t;

/* The stride of a single row is never checked, for it is never used. */
static gdncp_matrix_t matrix_of(const gdncp_tensor_t *tensor)
{
    return (gdncp_matrix_t){.data = tensor->data,
                            .dtype = tensor->dtype,
                            .ld = tensor->shape[0] > 1 ? tensor->strides[0] : tensor->shape[1]};
}

/* Rows of tokens: [num_tokens, width]. Each tensor of tokens may be float32 beside narrower ones.
 */
static gdncp_status_t check_rows(const char *name, const gdncp_tensor_t *tensor,
                                 gdncp_device_kind_t device, gdncp_dtype_t dtype,
                                 int64_t num_tokens, int64_t width)
{
    const int64_t shape[] = {num_tokens, width};
    const bool is_wide = tensor != NULL && tensor->dtype == GDNCP_F32;

    return gdncp_op_check_tensor(name, tensor, device, is_wide ? GDNCP_F32 : dtype,
                                 GDNCP_OP_TOKEN_STRIDE, 2, shape);
}

static gdncp_status_t check_weight(const char *name, const gdncp_tensor_t *tensor,
                                   gdncp_device_kind_t device, gdncp_dtype_t dtype,
                                   const linear_shape_t *shape)
{
    const int64_t dims[] = {shape->outputs, shape->inputs};

    return gdncp_op_check_tensor(name, tensor, device, dtype, GDNCP_OP_CONTIGUOUS, 2, dims);
}

/* A tensor from which the others' shapes or dtype follow. */
static gdncp_status_t check_leading(const char *name, const gdncp_tensor_t *tensor)
{
    const gdncp_status_t status = gdncp_op_check_ndim(name, tensor, 2);

    return status != GDNCP_OK ? status : gdncp_op_check_dtype(name, tensor);
}

static gdncp_status_t run(const gdncp_op_kernels_t *kernels, const gdncp_product_t *product,
                          gdncp_workspace_t *workspace)
{
    return kernels != NULL ? kernels->linear(product, workspace)
                           : gdncp_product_run(product, workspace);
}

gdncp_status_t gdncp_linear_forward(const gdncp_tensor_t *x, const gdncp_tensor_t *weight,
                                    const gdncp_tensor_t *y, gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status = gdncp_op_check_ndim("x", x, 2);

    if (status == GDNCP_OK) {
        status = check_leading("weight", weight);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("x", x, workspace, &kernels);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const linear_shape_t shape = {x->shape[0], x->shape[1], weight->shape[0]};

    status = check_rows("x", x, x->device, weight->dtype, shape.num_tokens, shape.inputs);
    if (status == GDNCP_OK) {
        status = check_weight("weight", weight, x->device, weight->dtype, &shape);
    }
    if (status == GDNCP_OK) {
        status = check_rows("y", y, x->device, weight->dtype, shape.num_tokens, shape.outputs);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const gdncp_product_t product = {.rows = shape.num_tokens,
                                     .columns = shape.outputs,
                                     .depth = shape.inputs,
                                     .a = matrix_of(x),
                                     .b = matrix_of(weight),
                                     .b_is_transposed = true,
                                     .out = matrix_of(y)};

    return run(kernels, &product, workspace);
}

gdncp_status_t gdncp_linear_backward_data(const gdncp_tensor_t *grad_y,
                                          const gdncp_tensor_t *weight, bool accumulate,
                                          const gdncp_tensor_t *grad_x,
                                          gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status = gdncp_op_check_ndim("grad_y", grad_y, 2);

    if (status == GDNCP_OK) {
        status = check_leading("weight", weight);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("grad_y", grad_y, workspace, &kernels);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const linear_shape_t shape = {grad_y->shape[0], weight->shape[1], grad_y->shape[1]};

    status = check_rows("grad_y", grad_y, grad_y->device, weight->dtype, shape.num_tokens,
                        shape.outputs);
    if (status == GDNCP_OK) {
        status = check_weight("weight", weight, grad_y->device, weight->dtype, &shape);
    }
    if (status == GDNCP_OK) {
        status = check_rows("grad_x", grad_x, grad_y->device, weight->dtype, shape.num_tokens,
                            shape.inputs);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const gdncp_product_t product = {.rows = shape.num_tokens,
                                     .columns = shape.inputs,
                                     .depth = shape.outputs,
                                     .a = matrix_of(grad_y),
                                     .b = matrix_of(weight),
                                     .out = matrix_of(grad_x),
                                     .accumulate = accumulate};

    return run(kernels, &product, workspace);
}

gdncp_status_t gdncp_linear_backward_weight(const gdncp_tensor_t *grad_y, const gdncp_tensor_t *x,
                                            const gdncp_tensor_t *grad_weight,
                                            gdncp_workspace_t *workspace)
{
    const gdncp_op_kernels_t *kernels;
    gdncp_status_t status = check_leading("grad_y", grad_y);

    if (status == GDNCP_OK) {
        status = check_leading("x", x);
    }
    if (status == GDNCP_OK) {
        status = gdncp_op_check_device("grad_y", grad_y, workspace, &kernels);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const linear_shape_t shape = {grad_y->shape[0], x->shape[1], grad_y->shape[1]};
    const gdncp_dtype_t narrower = x->dtype != GDNCP_F32 ? x->dtype : grad_y->dtype;

    status =
        check_rows("grad_y", grad_y, grad_y->device, narrower, shape.num_tokens, shape.outputs);
    if (status == GDNCP_OK) {
        status = check_rows("x", x, grad_y->device, narrower, shape.num_tokens, shape.inputs);
    }
    if (status == GDNCP_OK) {
        status = check_weight("grad_weight", grad_weight, grad_y->device, GDNCP_F32, &shape);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const gdncp_product_t product = {.rows = shape.outputs,
                                     .columns = shape.inputs,
                                     .depth = shape.num_tokens,
                                     .a = matrix_of(grad_y),
                                     .a_is_transposed = true,
                                     .b = matrix_of(x),
                                     .out = matrix_of(grad_weight)};

    return run(kernels, &product, workspace);
}
