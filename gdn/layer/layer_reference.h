/* A whole Gated DeltaNet layer in float64 on one rank, token by token: what tests compare with. */
#ifndef GDNCP_LAYER_REFERENCE_H
#define GDNCP_LAYER_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/status.h"
#include "gdncp/weights.h"

/* Arrays are contiguous; the parameters are those of weights.h. */
typedef struct gdncp_layer_reference {
    gdncp_layer_shape_t shape;
    double norm_eps;
    bool allow_neg_eigval;
    const int64_t *cu_seqlens; /* [N + 1] */
    int64_t num_sequences;
    const double *hidden; /* [T, hidden size] */
    const double *parameters[GDNCP_NUM_PARAMETERS];
} gdncp_layer_reference_t;

/* output [T, hidden size]. GDNCP_OK or GDNCP_ERR_OUT_OF_MEMORY; arguments are not checked. */
gdncp_status_t gdncp_layer_reference_forward(const gdncp_layer_reference_t *layer, double *output);

/* grad_output [T, hidden size] to grad_hidden [T, hidden size] and the parameters' gradients, each
 * shaped as its parameter. */
gdncp_status_t gdncp_layer_reference_backward(const gdncp_layer_reference_t *layer,
                                              const double *grad_output, double *grad_hidden,
                                              double *const *grads);

#endif
