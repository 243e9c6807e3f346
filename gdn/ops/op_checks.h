/* Argument checks that operators share. Each failure is recorded with gdncp_fail(). */
#ifndef GDNCP_OP_CHECKS_H
#define GDNCP_OP_CHECKS_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/memory.h"
#include "gdncp/status.h"
#include "gdncp/tensor.h"
#include "op_kernels.h"

/* How the elements of a tensor must lie. */
typedef enum gdncp_op_strides {
    GDNCP_OP_CONTIGUOUS,  /* row-major, no gaps */
    GDNCP_OP_TOKEN_STRIDE /* each token's elements contiguous; tokens any distance apart, no overlap
                           */
} gdncp_op_strides_t;

/* Whether an optional tensor was left out: NULL, or data == NULL. */
bool gdncp_op_is_absent(const gdncp_tensor_t *tensor);

/* ndim dimensions, none negative: what must hold before a shape is read from a tensor. */
gdncp_status_t gdncp_op_check_ndim(const char *name, const gdncp_tensor_t *tensor, int ndim);

/* F32, BF16 or F16. */
gdncp_status_t gdncp_op_check_dtype(const char *name, const gdncp_tensor_t *tensor);

/* Settle where a call runs: on the device of its workspace, where its first tensor must lie too.
 * Sets the kernels of that device, or NULL on the CPU. */
gdncp_status_t gdncp_op_check_device(const char *name, const gdncp_tensor_t *first,
                                     const gdncp_workspace_t *workspace,
                                     const gdncp_op_kernels_t **kernels_p);

/* A tensor of exactly this dtype and shape [ndim], on this device, strided as said, with data
 * unless it has no elements. */
gdncp_status_t gdncp_op_check_tensor(const char *name, const gdncp_tensor_t *tensor,
                                     gdncp_device_kind_t device, gdncp_dtype_t dtype,
                                     gdncp_op_strides_t strides, int ndim, const int64_t *shape);

/* As gdncp_op_check_tensor(), and good where the tensor is absent. */
gdncp_status_t gdncp_op_check_optional(const char *name, const gdncp_tensor_t *tensor,
                                       gdncp_device_kind_t device, gdncp_dtype_t dtype,
                                       gdncp_op_strides_t strides, int ndim, const int64_t *shape);

/* num_sequences >= 0 and cu_seqlens [num_sequences + 1] from 0 to num_tokens, never decreasing; on
 * a CUDA device their copy there must be given too. */
gdncp_status_t gdncp_op_check_cu_seqlens(gdncp_device_kind_t device, const int64_t *cu_seqlens,
                                         const int64_t *cu_seqlens_cuda, int64_t num_sequences,
                                         int64_t num_tokens);

#endif
