/* The gate of 16-bit inputs on x86 processors with AVX-512 BF16: elements are widened and narrowed
 * in registers. */
#ifndef GDNCP_GATE_X86_H
#define GDNCP_GATE_X86_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/ops.h"

/* Elements that lie one after the other in each tensor. All arrays are [count]. */
typedef struct gdncp_gate_elements {
    gdncp_dtype_t dtype; /* of a and b and their gradients: BF16 or F16 */
    int64_t count;
    const float *rate; /* -exp(A_log); NULL where a is the log-gate */
    const float *dt_bias;
    float beta_scale;
    const void *a;
    const void *b;

    /* Of the forward. */
    float *g;
    float *beta;

    /* Of the backward. */
    const float *grad_g;
    const float *grad_beta;
    void *grad_a;
    void *grad_b;
    double *A_log_sums; /* added to, as what follows */
    double *dt_bias_sums;
} gdncp_gate_elements_t;

/* Whether this processor, and this file, have kernels for a gate. */
bool gdncp_gate_x86_serves(const gdncp_gate_t *gate);

void gdncp_gate_x86_forward(const gdncp_gate_elements_t *elements);
void gdncp_gate_x86_backward(const gdncp_gate_elements_t *elements);

#endif
