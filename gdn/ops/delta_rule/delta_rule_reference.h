/* The gated delta rule token by token in float64: what every faster version is held against. */
#ifndef GDNCP_DELTA_RULE_REFERENCE_H
#define GDNCP_DELTA_RULE_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "gdncp/status.h"

/* As gdncp_delta_rule_t, in contiguous float64. Arguments are not checked. */
typedef struct gdncp_delta_rule_reference {
    const double *q;             /* [T, Hk, dk] */
    const double *k;             /* [T, Hk, dk] */
    const double *v;             /* [T, Hv, dv] */
    const double *g;             /* [T, Hv] */
    const double *beta;          /* [T, Hv] */
    const double *initial_state; /* [N, Hv, dk, dv]; NULL: zeros */
    const int64_t *cu_seqlens;   /* [N + 1] */
    int64_t num_sequences;
    int64_t num_key_heads;
    int64_t num_value_heads;
    int64_t key_dim;
    int64_t value_dim;
    int64_t group_size; /* 0: Hv / Hk */
    int64_t group_phase;
    double scale; /* 0: dk^-1/2 */
    bool qk_l2norm;
} gdncp_delta_rule_reference_t;

/* o [T, Hv, dv]; final_state [N, Hv, dk, dv] or NULL. GDNCP_ERR_OUT_OF_MEMORY or GDNCP_OK. */
gdncp_status_t gdncp_delta_rule_reference_forward(const gdncp_delta_rule_reference_t *rule,
                                                  double *o, double *final_state);

/* Shaped as the inputs, written in full; initial_state may be NULL. */
typedef struct gdncp_delta_rule_reference_grads {
    double *q;
    double *k;
    double *v;
    double *g;
    double *beta;
    double *initial_state;
} gdncp_delta_rule_reference_grads_t;

/* grad_o [T, Hv, dv]; grad_final_state [N, Hv, dk, dv] or NULL: zeros. */
gdncp_status_t gdncp_delta_rule_reference_backward(const gdncp_delta_rule_reference_t *rule,
                                                   const double *grad_o,
                                                   const double *grad_final_state,
                                                   const gdncp_delta_rule_reference_grads_t *grads);

#endif
