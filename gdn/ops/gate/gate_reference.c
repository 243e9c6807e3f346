/* The gate in float64, token by token. */
#include "gate_reference.h"

#include <math.h>
#include <stddef.h>

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

static double softplus(double x)
{
    return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

/* Whether t is the first token of a chunk. */
static bool starts_chunk(const gdncp_gate_reference_t *gate, int64_t t)
{
    int64_t sequence = 0;

    while (gate->cu_seqlens[sequence + 1] <= t) {
        sequence++;
    }
    return (t - gate->cu_seqlens[sequence]) % gate->chunk_size == 0;
}

static double log_gate(const gdncp_gate_reference_t *gate, int64_t t, int64_t h)
{
    const double a = gate->a[t * gate->num_heads + h];

    return gate->A_log != NULL ? -exp(gate->A_log[h]) * softplus(a + gate->dt_bias[h]) : a;
}

void gdncp_gate_reference_forward(const gdncp_gate_reference_t *gate, double *g, double *beta)
{
    const double beta_max = gate->allow_neg_eigval ? 2.0 : 1.0;

    for (int64_t t = 0; t < gate->num_tokens; t++) {
        const bool goes_on = gate->chunk_size > 0 && !starts_chunk(gate, t);

        for (int64_t h = 0; h < gate->num_heads; h++) {
            const int64_t i = t * gate->num_heads + h;

            g[i] = log_gate(gate, t, h) + (goes_on ? g[i - gate->num_heads] : 0.0);
            beta[i] = beta_max * sigmoid(gate->b[i]);
        }
    }
}

/* grad_a, where it is the gradient of the log-gate that it goes through. */
static void through_parameters(const gdncp_gate_reference_t *gate, double *grad_a,
                               double *grad_A_log, double *grad_dt_bias)
{
    for (int64_t h = 0; h < gate->num_heads; h++) {
        const double speed = exp(gate->A_log[h]);

        grad_A_log[h] = 0.0;
        grad_dt_bias[h] = 0.0;
        for (int64_t t = 0; t < gate->num_tokens; t++) {
            const int64_t i = t * gate->num_heads + h;
            const double x = gate->a[i] + gate->dt_bias[h];

            grad_A_log[h] -= grad_a[i] * speed * softplus(x);
            grad_a[i] *= -speed * sigmoid(x);
            grad_dt_bias[h] += grad_a[i];
        }
    }
}

void gdncp_gate_reference_backward(const gdncp_gate_reference_t *gate, const double *grad_g,
                                   const double *grad_beta, double *grad_a, double *grad_b,
                                   double *grad_A_log, double *grad_dt_bias)
{
    const double beta_max = gate->allow_neg_eigval ? 2.0 : 1.0;

    for (int64_t t = gate->num_tokens - 1; t >= 0; t--) {
        const bool goes_on =
            gate->chunk_size > 0 && t + 1 < gate->num_tokens && !starts_chunk(gate, t + 1);

        for (int64_t h = 0; h < gate->num_heads; h++) {
            const int64_t i = t * gate->num_heads + h;

            grad_a[i] = grad_g[i] + (goes_on ? grad_a[i + gate->num_heads] : 0.0);
            grad_b[i] = grad_beta[i] * beta_max * sigmoid(gate->b[i]) * sigmoid(-gate->b[i]);
        }
    }
    if (gate->A_log != NULL) {
        through_parameters(gate, grad_a, grad_A_log, grad_dt_bias);
    }
}
