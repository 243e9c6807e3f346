/* The gated RMSNorm with 16-bit gates and outputs on x86 processors with AVX-512 BF16: elements are
 * widened and narrowed in registers. */
#ifndef GDNCP_GATED_RMSNORM_X86_H
#define GDNCP_GATED_RMSNORM_X86_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/ops.h"
#include "token_rows.h"

/* Rows that lie one after the other: one, or some of at most GDNCP_ROW_ELEMENTS elements together.
 */
typedef struct gdncp_norm_rows {
    gdncp_dtype_t x_dtype; /* of x and its gradient: dtype or F32 */
    gdncp_dtype_t dtype;   /* of the others but weight: BF16 or F16 */
    const float *weight;   /* [d] */
    float weight_offset;
    float eps;
    bool gate_first;
    int64_t d;     /* a multiple of 16 */
    int64_t count; /* d times the number of rows */
    const void *x;
    const void *z;
    void *y;
    float *scratch; /* [2, count] */

    /* Of the backward. */
    const void *grad_y;
    void *grad_x;
    void *grad_z;
    float *grad_weight; /* [d], added to */
} gdncp_norm_rows_t;

/* Whether this processor, and this file, have kernels for a norm whose outputs, or their gradients,
 * `outer`. */
bool gdncp_gated_rmsnorm_x86_serves(const gdncp_gated_rmsnorm_t *norm, const gdncp_tensor_t *outer);

void gdncp_gated_rmsnorm_x86_forward(const gdncp_norm_rows_t *rows);
void gdncp_gated_rmsnorm_x86_backward(const gdncp_norm_rows_t *rows);

#endif
