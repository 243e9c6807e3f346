/* The L2 norm in float64, row by row: what tests compare with. Arrays are contiguous. */
#ifndef GDNCP_L2NORM_REFERENCE_H
#define GDNCP_L2NORM_REFERENCE_H

#include <stdint.h>

/* x, y [num_rows, d] */
void gdncp_l2norm_reference_forward(int64_t num_rows, int64_t d, double eps, const double *x,
                                    double *y);

/* x, grad_y, grad_x [num_rows, d] */
void gdncp_l2norm_reference_backward(int64_t num_rows, int64_t d, double eps, const double *x,
                                     const double *grad_y, double *grad_x);

#endif
