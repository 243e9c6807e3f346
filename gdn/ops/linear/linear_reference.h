/* Projections in float64, contiguous: x [T, I], weight [O, I], y [T, O]. */
#ifndef GDNCP_LINEAR_REFERENCE_H
#define GDNCP_LINEAR_REFERENCE_H

#include <stdint.h>

typedef struct gdncp_linear_reference {
    int64_t num_tokens;
    int64_t inputs;
    int64_t outputs;
    const double *x;
    const double *weight;
} gdncp_linear_reference_t;

void gdncp_linear_reference_forward(const gdncp_linear_reference_t *linear, double *y);

/* grad_x [T, I] and grad_weight [O, I], written in full. */
void gdncp_linear_reference_backward(const gdncp_linear_reference_t *linear, const double *grad_y,
                                     double *grad_x, double *grad_weight);

#endif
