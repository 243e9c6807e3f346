/* The convolution on x86 processors with AVX-512 BF16: elements of 16 bits are widened and narrowed
 * in registers, in one visit. Same results wherever a run begins or ends. */
#ifndef GDNCP_CONV1D_X86_H
#define GDNCP_CONV1D_X86_H

#include <stdbool.h>
#include <stdint.h>

#include "conv1d_tile.h"

/* The only width there are kernels for: that of the models. */
#define GDNCP_CONV1D_X86_WIDTH 4

/* Rows of `tokens` positions from p on, each of a tile's channels. */
typedef struct gdncp_conv1d_x86_rows {
    gdncp_dtype_t dtype; /* of x and its gradient */
    gdncp_dtype_t outer; /* of y and its gradient: dtype or F32 */
    int tokens;          /* 1 or GDNCP_CONV1D_TOGETHER */
    bool silu;
    bool streams;  /* rows of out that are aligned to a line go past the caches: fence after it */
    int64_t count; /* channels */
    const void *x[GDNCP_CONV1D_X86_WIDTH - 1 + GDNCP_CONV1D_TOGETHER]; /* from p - W + 1 on */
    void *out[GDNCP_CONV1D_TOGETHER]; /* y; or grad_x, from p - W + 1 on */

    /* Of the backward. */
    const void *grad_y[GDNCP_CONV1D_TOGETHER];
    float (*last_grad_u)[GDNCP_CONV1D_STRIDE]; /* of the W - 1 positions before p; then the last */
    float (*sums)[GDNCP_CONV1D_STRIDE];        /* the parameters' gradients, by tap and then bias */
} gdncp_conv1d_x86_rows_t;

/* Whether this processor, and this file, have kernels for a convolution. */
bool gdncp_conv1d_x86_serves(const gdncp_conv1d_t *conv);

/* Whether an output is so large that nobody finds it in a cache again: writing past them then saves
 * reading its lines first. Elements of 16 bits gain nothing. */
bool gdncp_conv1d_x86_streams(const gdncp_tensor_t *out);

/* What went past the caches comes before all that follows. */
void gdncp_conv1d_x86_fence(void);

/* out = act(bias + sum_i weight[i] x[n + i]). */
void gdncp_conv1d_x86_forward(const gdncp_conv1d_taps_t *taps, const gdncp_conv1d_x86_rows_t *rows);

/* out = the gradients of inputs. Takes last_grad_u on by `tokens` positions, and adds to sums. */
void gdncp_conv1d_x86_backward(const gdncp_conv1d_taps_t *taps,
                               const gdncp_conv1d_x86_rows_t *rows);

#endif
