/* The gate in float64, token by token: what tests compare with. Arrays are contiguous. */
#ifndef GDNCP_GATE_REFERENCE_H
#define GDNCP_GATE_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct gdncp_gate_reference {
    int64_t num_tokens;
    int64_t num_heads;
    const double *a;       /* [T, Hv] */
    const double *b;       /* [T, Hv] */
    const double *A_log;   /* [Hv]; NULL: g is a */
    const double *dt_bias; /* [Hv] */
    bool allow_neg_eigval;
    int64_t chunk_size;        /* 0: no sums */
    const int64_t *cu_seqlens; /* [N + 1] */
    int64_t num_sequences;
} gdncp_gate_reference_t;

/* g, beta [T, Hv] */
void gdncp_gate_reference_forward(const gdncp_gate_reference_t *gate, double *g, double *beta);

/* grad_g, grad_beta [T, Hv] to grad_a, grad_b [T, Hv] and grad_A_log, grad_dt_bias [Hv], which
 * are not written where A_log is NULL. */
void gdncp_gate_reference_backward(const gdncp_gate_reference_t *gate, const double *grad_g,
                                   const double *grad_beta, double *grad_a, double *grad_b,
                                   double *grad_A_log, double *grad_dt_bias);

#endif
