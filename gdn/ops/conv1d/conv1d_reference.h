/* The convolution in float64, token by token: what tests compare with. Arrays are contiguous. */
#ifndef GDNCP_CONV1D_REFERENCE_H
#define GDNCP_CONV1D_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct gdncp_conv1d_reference {
    int64_t channels;
    int64_t width;
    const double *x;           /* [T, C] */
    const double *weight;      /* [C, W] */
    const double *bias;        /* [C]; NULL: zeros */
    const double *window;      /* [N, W-1, C]; NULL: zeros */
    const int64_t *cu_seqlens; /* [N + 1] */
    int64_t num_sequences;
    bool silu;
} gdncp_conv1d_reference_t;

/* y [T, C]; final_window [N, W-1, C], or NULL. */
void gdncp_conv1d_reference_forward(const gdncp_conv1d_reference_t *conv, double *y,
                                    double *final_window);

/* grad_y [T, C] to grad_x [T, C], grad_weight [C, W], grad_bias [C] or NULL, and
 * grad_window [N, W-1, C] or NULL. */
void gdncp_conv1d_reference_backward(const gdncp_conv1d_reference_t *conv, const double *grad_y,
                                     double *grad_x, double *grad_weight, double *grad_bias,
                                     double *grad_window);

#endif
