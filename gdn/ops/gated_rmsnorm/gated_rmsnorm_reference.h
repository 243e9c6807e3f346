/* The gated RMSNorm in float64, row by row: what tests compare with. Arrays are contiguous. */
#ifndef GDNCP_GATED_RMSNORM_REFERENCE_H
#define GDNCP_GATED_RMSNORM_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct gdncp_gated_rmsnorm_reference {
    int64_t num_rows; /* tokens times heads */
    int64_t d;
    const double *x;      /* [num_rows, d] */
    const double *z;      /* [num_rows, d] */
    const double *weight; /* [d] */
    double eps;
    double weight_offset;
    bool gate_first;
} gdncp_gated_rmsnorm_reference_t;

/* y [num_rows, d] */
void gdncp_gated_rmsnorm_reference_forward(const gdncp_gated_rmsnorm_reference_t *norm, double *y);

/* grad_y [num_rows, d] to grad_x, grad_z [num_rows, d] and grad_weight [d]. */
void gdncp_gated_rmsnorm_reference_backward(const gdncp_gated_rmsnorm_reference_t *norm,
                                            const double *grad_y, double *grad_x, double *grad_z,
                                            double *grad_weight);

#endif
