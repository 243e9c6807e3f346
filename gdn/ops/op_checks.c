/* Argument checks that operators share. */
#include "op_checks.h"

#include <inttypes.h>
#include <stdio.h>

#include "error.h"
#include "workspace.h"

/* Room for GDNCP_MAX_DIMS int64 and their commas. */
#define SHAPE_TEXT 128

static void write_shape(int ndim, const int64_t *shape, char text[SHAPE_TEXT])
{
    int used = snprintf(text, SHAPE_TEXT, "[");

    for (int i = 0; i < ndim; i++) {
        used += snprintf(text + used, (size_t)(SHAPE_TEXT - used), "%s%" PRId64, i > 0 ? ", " : "",
                         shape[i]);
    }
    snprintf(text + used, (size_t)(SHAPE_TEXT - used), "]");
}

bool gdncp_op_is_absent(const gdncp_tensor_t *tensor)
{
    return tensor == NULL || tensor->data == NULL;
}

gdncp_status_t gdncp_op_check_ndim(const char *name, const gdncp_tensor_t *tensor, int ndim)
{
    if (tensor == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected a tensor, got NULL", name);
    }
    if (tensor->ndim != ndim) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected %d dimensions, got %d", name,
                          ndim, tensor->ndim);
    }
    for (int i = 0; i < ndim; i++) {
        if (tensor->shape[i] < 0) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "%s: expected shape[%d] >= 0, got %" PRId64, name, i,
                              tensor->shape[i]);
        }
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_op_check_dtype(const char *name, const gdncp_tensor_t *tensor)
{
    if (tensor->dtype != GDNCP_F32 && tensor->dtype != GDNCP_BF16 && tensor->dtype != GDNCP_F16) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected f32, bf16 or f16, got %s", name,
                          gdncp_dtype_name(tensor->dtype));
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_op_check_device(const char *name, const gdncp_tensor_t *first,
                                     const gdncp_workspace_t *workspace,
                                     const gdncp_op_kernels_t **kernels_p)
{
    const gdncp_device_kind_t device = gdncp_workspace_device(workspace);
    const gdncp_backend_t *backend;

    if (first->device != device) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s: expected a tensor on the %s, where the workspace is, got one on the "
                          "%s",
                          name, gdncp_device_name(device), gdncp_device_name(first->device));
    }
    *kernels_p = NULL;
    if (device == GDNCP_DEVICE_CPU) {
        return GDNCP_OK;
    }
    const gdncp_status_t status = gdncp_backend_find(&backend);

    if (status == GDNCP_OK) {
        *kernels_p = gdncp_op_kernels_of(backend);
    }
    return status;
}

static gdncp_status_t check_shape(const char *name, const gdncp_tensor_t *tensor, int ndim,
                                  const int64_t *shape)
{
    bool equal = true;

    for (int i = 0; i < ndim; i++) {
        equal = equal && tensor->shape[i] == shape[i];
    }
    if (!equal) {
        char expected[SHAPE_TEXT];
        char got[SHAPE_TEXT];

        write_shape(ndim, shape, expected);
        write_shape(ndim, tensor->shape, got);
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected shape %s, got %s", name,
                          expected, got);
    }
    return GDNCP_OK;
}

/* Strides of a dimension of length 0 or 1 are never used, so any value is good. */
static gdncp_status_t check_strides(const char *name, const gdncp_tensor_t *tensor,
                                    gdncp_op_strides_t strides)
{
    int64_t packed = 1;

    for (int i = tensor->ndim - 1; i >= 0; i--) {
        const int64_t stride = tensor->strides[i];
        const bool free_stride = strides == GDNCP_OP_TOKEN_STRIDE && i == 0;

        if (tensor->shape[i] > 1 && (free_stride ? stride < packed : stride != packed)) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "%s: expected strides[%d] %s%" PRId64 ", got %" PRId64, name, i,
                              free_stride ? ">= " : "", packed, stride);
        }
        packed *= tensor->shape[i];
    }
    return GDNCP_OK;
}

gdncp_status_t gdncp_op_check_tensor(const char *name, const gdncp_tensor_t *tensor,
                                     gdncp_device_kind_t device, gdncp_dtype_t dtype,
                                     gdncp_op_strides_t strides, int ndim, const int64_t *shape)
{
    gdncp_status_t status = gdncp_op_check_ndim(name, tensor, ndim);

    if (status == GDNCP_OK) {
        status = check_shape(name, tensor, ndim, shape);
    }
    if (status != GDNCP_OK) {
        return status;
    }
    const int64_t num_elements = gdncp_tensor_num_elements(tensor);

    if (tensor->dtype != dtype) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "%s: expected %s, got %s", name,
                          gdncp_dtype_name(dtype), gdncp_dtype_name(tensor->dtype));
    }
    if (tensor->data == NULL && num_elements > 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s: expected %" PRId64 " elements of data, got NULL", name,
                          num_elements);
    }
    if (tensor->device != device) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "%s: expected a tensor on the %s, as the others are, got one on the %s",
                          name, gdncp_device_name(device), gdncp_device_name(tensor->device));
    }
    return num_elements > 0 ? check_strides(name, tensor, strides) : GDNCP_OK;
}

gdncp_status_t gdncp_op_check_optional(const char *name, const gdncp_tensor_t *tensor,
                                       gdncp_device_kind_t device, gdncp_dtype_t dtype,
                                       gdncp_op_strides_t strides, int ndim, const int64_t *shape)
{
    return gdncp_op_is_absent(tensor)
               ? GDNCP_OK
               : gdncp_op_check_tensor(name, tensor, device, dtype, strides, ndim, shape);
}

gdncp_status_t gdncp_op_check_cu_seqlens(gdncp_device_kind_t device, const int64_t *cu_seqlens,
                                         const int64_t *cu_seqlens_cuda, int64_t num_sequences,
                                         int64_t num_tokens)
{
    if (num_sequences < 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT, "num_sequences: expected >= 0, got %" PRId64,
                          num_sequences);
    }
    if (cu_seqlens == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "cu_seqlens: expected %" PRId64 " offsets, got NULL", num_sequences + 1);
    }
    if (device == GDNCP_DEVICE_CUDA && cu_seqlens_cuda == NULL) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "cu_seqlens_cuda: expected %" PRId64
                          " offsets in device memory, got NULL",
                          num_sequences + 1);
    }
    if (cu_seqlens[0] != 0) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "cu_seqlens: expected 0 at index 0, got %" PRId64, cu_seqlens[0]);
    }
    for (int64_t i = 0; i < num_sequences; i++) {
        if (cu_seqlens[i + 1] < cu_seqlens[i]) {
            return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                              "cu_seqlens: expected >= %" PRId64 " at index %" PRId64
                              ", got %" PRId64,
                              cu_seqlens[i], i + 1, cu_seqlens[i + 1]);
        }
    }
    if (cu_seqlens[num_sequences] != num_tokens) {
        return gdncp_fail(GDNCP_ERR_INVALID_ARGUMENT,
                          "cu_seqlens: expected to end at the %" PRId64 " tokens, got %" PRId64,
                          num_tokens, cu_seqlens[num_sequences]);
    }
    return GDNCP_OK;
}
